//! A controller and its subclouds, on the loopback address or in the namespaces of a lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use serde_json::{Value, json};

use super::bootstrap::{Bootstrap, Family};
use super::grpcurl::{GrpcError, Target, grpcurl};
use super::lab::Lab;
use super::process::{Daemon, Output, Program, Running, run};
use super::{PATIENCE, wait_until};

/// Heartbeats as fast as they may be, so that a lost link is noticed within two seconds.
const SETTINGS: &str = "heartbeat_interval_milliseconds = 500\n";

/// Where the processes of a site run.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// On this machine, with the development flags that leave the link address.
    Loopback,
    /// In the namespace of this name, with the real addresses and no development flag.
    Lab(Rc<Lab>, String),
}

impl Place {
    fn command(&self, program: Program) -> Command {
        match self {
            Self::Loopback => program.command(),
            Self::Lab(lab, name) => lab.exec(name, program.path()),
        }
    }
}

/// What `subcloud add` and `subcloud token` answer.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    pub(crate) id: String,
    pub(crate) token: String,
    /// The URL to give to `enroll`.
    pub(crate) controller: String,
}

impl Added {
    /// Reads the answer of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn of(output: Output) -> Self {
        let answer = output.expect(0).json();
        let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
        Self {
            id: text("id"),
            token: text("token"),
            controller: text("controller"),
        }
    }
}

/// A system controller.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) site: Bootstrap,
    place: Place,
    home: PathBuf,
    daemon: Option<Daemon>,
    /// Added to `serve`; the second time with the ports of the first.
    arguments: Vec<String>,
}

impl Controller {
    /// Installs a site into `dir`, which must be empty or absent.
    #[track_caller]
    pub(crate) fn install(dir: &Path, site: Bootstrap, place: Place) -> Self {
        let home = install(Program::Controller, dir, &site);
        let settings = home.join("settings.toml");
        fs::write(&settings, SETTINGS).expect("a settings file");
        let mut arguments = vec!["--config".to_owned(), settings.display().to_string()];
        if matches!(place, Place::Loopback) {
            let any = match site.stack.primary() {
                Family::V4 => "127.0.0.1:0",
                Family::V6 => "[::1]:0",
            };
            let flags = ["--operator-listen", "--link-listen", "--console-listen"];
            arguments.extend(flags.iter().flat_map(|flag| [flag, any]).map(str::to_owned));
            arguments.extend(["--source-check", "off"].map(str::to_owned));
        }
        Self {
            site,
            place,
            home,
            daemon: None,
            arguments,
        }
    }

    /// Adds lines to the settings file.
    pub(crate) fn set(&self, lines: &str) {
        let settings = self.home.join("settings.toml");
        let known = fs::read_to_string(&settings).expect("a settings file");
        fs::write(&settings, known + lines).expect("a settings file");
    }

    /// Installs and serves on the loopback address.
    #[track_caller]
    pub(crate) fn start(dir: &Path, site: Bootstrap) -> Self {
        let mut controller = Self::install(dir, site, Place::Loopback);
        controller.serve();
        controller
    }

    /// Serves, after a first time on the ports of the first time.
    #[track_caller]
    pub(crate) fn serve(&mut self) {
        assert!(self.daemon.is_none(), "it serves already");
        let daemon = Daemon::start(self.serve_command(), &self.home.join("log"));
        self.keep_ports(&daemon);
        self.daemon = Some(daemon);
    }

    /// `system-controller serve` as this controller runs it.
    pub(crate) fn serve_command(&self) -> Command {
        let mut command = self.place.command(Program::Controller);
        command
            .arg("serve")
            .arg("--state-dir")
            .arg(self.state_dir())
            .args(&self.arguments);
        command
    }

    fn keep_ports(&mut self, daemon: &Daemon) {
        let ready = &daemon.ready;
        let real = [
            ("--operator-listen", ready.operators.first()),
            ("--link-listen", Some(&ready.link)),
            ("--console-listen", ready.consoles.first()),
        ];
        for (flag, address) in real {
            let value = self.arguments.iter().position(|known| known == flag);
            if let (Some(index), Some(address)) = (value, address) {
                self.arguments[index + 1].clone_from(address);
            }
        }
    }

    /// The process.
    #[track_caller]
    pub(crate) fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("it serves")
    }

    /// `kill -9`.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.daemon.take().expect("it serves").kill();
    }

    /// Writes the settings file, which the next `serve` reads.
    #[track_caller]
    pub(crate) fn replace_settings(&self, settings: &str) {
        fs::write(self.home.join("settings.toml"), settings).expect("a settings file");
    }

    /// SIGTERM, and waits for the end, which must be in order and in time.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.daemon.take().expect("it serves").stop();
    }

    /// `DIR` of the command line.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.home.join("state")
    }

    /// Its first operator over TCP; `None` for no certificate at all.
    #[track_caller]
    pub(crate) fn tls(&mut self, operator: Option<&str>) -> Target {
        let address = self
            .daemon()
            .ready
            .operators
            .first()
            .expect("a TCP listener")
            .clone();
        let dir = self.state_dir();
        let files = |name| {
            (
                dir.join(format!("{name}.crt")),
                dir.join(format!("{name}.key")),
            )
        };
        Target::Tls {
            address,
            authority: dir.join("ca.crt"),
            operator: operator.map(files),
        }
    }

    /// `operator add`, which must succeed; key and certificate are in the state directory.
    #[track_caller]
    pub(crate) fn operator(&self, name: &str, role: &str) -> Output {
        let file = |kind: &str| self.state_dir().join(format!("{name}.{kind}"));
        let (key, cert) = (file("key"), file("crt"));
        let (key, cert) = (key.display().to_string(), cert.display().to_string());
        let output = self.tandem(&[
            "dcmanager",
            "operator",
            "add",
            name,
            "--role",
            role,
            "--key-file",
            &key,
            "--cert-file",
            &cert,
        ]);
        output.expect(0)
    }

    /// Calls a method over the unix socket.
    pub(crate) fn grpcurl(&self, method: &str, request: &Value) -> Result<Value, Box<GrpcError>> {
        grpcurl(
            &Target::Unix(self.state_dir().join("operator.sock")),
            method,
            request,
        )
    }

    /// Runs `tandem` against the unix socket.
    #[track_caller]
    pub(crate) fn tandem(&self, arguments: &[&str]) -> Output {
        tandem(&self.state_dir(), arguments)
    }

    /// `subcloud add`, which must succeed.
    #[track_caller]
    pub(crate) fn add(&self, name: &str) -> Added {
        self.issued("add", name)
    }

    /// `subcloud token`, which must succeed.
    #[track_caller]
    pub(crate) fn token(&self, name: &str) -> Added {
        self.issued("token", name)
    }

    /// Starts `subcloud add`.
    pub(crate) fn start_add(&self, name: &str) -> Running {
        let arguments = ["dcmanager", "subcloud", "add", name, "-f", "json"];
        Running::start(tandem_command(&self.state_dir(), &arguments), "")
    }

    #[track_caller]
    fn issued(&self, verb: &str, name: &str) -> Added {
        Added::of(self.tandem(&["dcmanager", "subcloud", verb, name, "-f", "json"]))
    }

    /// `subcloud show`; `None` when there is none.
    #[track_caller]
    pub(crate) fn show(&self, name: &str) -> Option<Value> {
        let shown = self.tandem(&["dcmanager", "subcloud", "show", name, "-f", "json"]);
        match shown.code {
            Some(0) => Some(shown.json()),
            _ => {
                shown.expect(1).says("SUBCLOUD_NOT_FOUND");
                None
            }
        }
    }

    /// The events of a subcloud of one kind, newest first.
    #[track_caller]
    pub(crate) fn events(&self, subcloud: &str, kind: &str) -> Vec<Value> {
        let request = json!({"subcloud": subcloud, "kind": kind, "pageSize": 1000});
        let answer = self.grpcurl("tandem.fleet.v1.SubcloudService/ListFleetEvents", &request);
        let answer = answer.expect("the events");
        answer["events"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until a property of `subcloud show` has a value.
    #[track_caller]
    pub(crate) fn wait_for(&self, subcloud: &str, property: &str, value: &str) {
        let mut last = None;
        wait_until(
            &format!("{property} of {subcloud} is {value}"),
            PATIENCE,
            || {
                last = self.show(subcloud);
                last.as_ref().is_some_and(|shown| shown[property] == value)
            },
        );
    }
}

/// A subcloud.
#[derive(Debug)]
pub(crate) struct Subcloud {
    pub(crate) site: Bootstrap,
    place: Place,
    home: PathBuf,
    daemon: Option<Daemon>,
}

impl Subcloud {
    /// Installs a site into `dir`, which must be empty or absent.
    #[track_caller]
    pub(crate) fn install(dir: &Path, site: Bootstrap, place: Place) -> Self {
        let home = install(Program::Agent, dir, &site);
        Self {
            site,
            place,
            home,
            daemon: None,
        }
    }

    /// Installs, adds to the controller, enrolls, serves and waits until it is online, all on the
    /// loopback address.
    #[track_caller]
    pub(crate) fn join(dir: &Path, site: Bootstrap, controller: &Controller) -> Self {
        let added = controller.add(&site.name);
        let mut subcloud = Self::install(dir, site, Place::Loopback);
        subcloud.enroll(&added, &[]).expect(0);
        subcloud.serve();
        controller.wait_for(&subcloud.site.name, "availability", "online");
        subcloud
    }

    /// A copy of its state in another directory; it must not serve meanwhile.
    #[track_caller]
    pub(crate) fn copy(&self, dir: &Path) -> Self {
        assert!(self.daemon.is_none(), "it serves");
        let state = dir.join("state");
        fs::create_dir_all(&state).expect("a directory");
        for entry in fs::read_dir(self.state_dir()).expect("the state") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), state.join(entry.file_name())).expect("a copy");
        }
        Self {
            site: self.site.clone(),
            place: self.place.clone(),
            home: dir.to_owned(),
            daemon: None,
        }
    }

    /// The name in the fleet.
    pub(crate) fn name(&self) -> &str {
        &self.site.name
    }

    /// Starts `enroll`.
    pub(crate) fn start_enroll(&self, added: &Added, arguments: &[&str]) -> Running {
        let mut command = self.place.command(Program::Agent);
        command
            .arg("enroll")
            .arg("--state-dir")
            .arg(self.state_dir());
        command
            .args(["--token-file", "-", "--controller", &added.controller])
            .args(arguments);
        if matches!(self.place, Place::Loopback) && !arguments.contains(&"--link-source") {
            command.args(["--link-source", "any"]);
        }
        Running::start(command, &added.token)
    }

    /// Runs `enroll` to its end.
    #[track_caller]
    pub(crate) fn enroll(&self, added: &Added, arguments: &[&str]) -> Output {
        self.start_enroll(added, arguments).output()
    }

    /// `subcloud-agent serve` as this subcloud runs it.
    pub(crate) fn serve_command(&self) -> Command {
        let mut command = self.place.command(Program::Agent);
        command
            .arg("serve")
            .arg("--state-dir")
            .arg(self.state_dir());
        if matches!(self.place, Place::Loopback) {
            command.args(["--link-source", "any"]);
        }
        command
    }

    /// Serves.
    #[track_caller]
    pub(crate) fn serve(&mut self) {
        assert!(self.daemon.is_none(), "it serves already");
        self.daemon = Some(Daemon::start(self.serve_command(), &self.home.join("log")));
    }

    /// The process.
    #[track_caller]
    pub(crate) fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("it serves")
    }

    /// `kill -9`.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.daemon.take().expect("it serves").kill();
    }

    /// `DIR` of the command line.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.home.join("state")
    }

    /// SIGTERM, and waits for the end, which must be in order and in time.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.daemon.take().expect("it serves").stop();
    }

    /// Runs `tandem` against its unix socket.
    #[track_caller]
    pub(crate) fn tandem(&self, arguments: &[&str]) -> Output {
        tandem(&self.state_dir(), arguments)
    }
}

/// Writes a bootstrap file and runs `init`; the home of the site.
#[track_caller]
fn install(program: Program, dir: &Path, site: &Bootstrap) -> PathBuf {
    fs::create_dir_all(dir).expect("a directory of the site");
    let file = dir.join("bootstrap.yaml");
    fs::write(&file, site.yaml()).expect("a bootstrap file");
    let mut command = program.command();
    command.arg("init").arg("--bootstrap").arg(&file);
    command.arg("--state-dir").arg(dir.join("state"));
    run(command).expect(0);
    dir.to_owned()
}

#[track_caller]
fn tandem(state_dir: &Path, arguments: &[&str]) -> Output {
    run(tandem_command(state_dir, arguments))
}

fn tandem_command(state_dir: &Path, arguments: &[&str]) -> Command {
    let endpoint = format!("unix:{}", state_dir.join("operator.sock").display());
    let mut command = Program::Tandem.command();
    command.args(["--endpoint", &endpoint]).args(arguments);
    command
}
