//! The operations guide, line by line, with `system` on the path: dual-stack at run time on a
//! duplex site that was installed as IPv6 single-stack, and back.
//!
//! The pool names and addresses are the guide's. Where it is inconsistent, a comment says so and
//! the nearest valid thing is done.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::bootstrap::{Bootstrap, Family, Net, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::process::{Daemon, Output, Program, run};
use crate::support::{repository, scratch};

/// A shell with `system` on its path and a daemon to talk to.
struct Shell {
    path: PathBuf,
    socket: PathBuf,
}

impl Shell {
    fn new(dir: &Path, socket: PathBuf) -> Self {
        let path = dir.join("bin");
        if !path.exists() {
            fs::create_dir(&path).expect("a folder of programs");
            symlink(Program::Tandem.path(), path.join("system")).expect("a link");
        }
        Self { path, socket }
    }

    /// Runs a line of the guide, which must succeed.
    #[track_caller]
    fn line(&self, line: &str) -> Output {
        let mut command = Command::new("env");
        let path = format!(
            "{}:{}",
            self.path.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        // `env` sets the endpoint, as an operator's profile does.
        command.arg(format!("TANDEM_ENDPOINT=unix:{}", self.socket.display()));
        command.arg(format!("PATH={path}")).args(["sh", "-c", line]);
        run(command).expect(0)
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        self.line(&format!("{line} --format json")).json()
    }

    /// The hosts with alarm 250.001.
    fn out_of_date(&self) -> Vec<String> {
        let alarms = self
            .json("system alarm-list")
            .as_array()
            .cloned()
            .unwrap_or_default();
        let entity = |alarm: &Value| alarm["entity"].as_str().unwrap_or_default().to_owned();
        let mut hosts: Vec<String> = alarms
            .iter()
            .filter(|alarm| alarm.to_string().contains("250.001"))
            .map(entity)
            .collect();
        hosts.sort();
        hosts
    }
}

/// The example of the guide's block, with the first value of each variable only: the run-time
/// part of the guide assumes a site that was installed as IPv6.
fn single_stack_block() -> String {
    let example = fs::read_to_string(repository("deploy/examples/controller.yaml"));
    let example = example.expect("the example");
    let first = |line: &str| match line.split_once(": ") {
        Some((name, value)) if !line.starts_with('#') && value.contains(',') => {
            format!("{name}: {}\n", value.split(',').next().unwrap_or_default())
        }
        _ => format!("{line}\n"),
    };
    example.lines().map(first).collect()
}

/// The site of the guide's block, and a shell for it.
fn guided(dir: &Path) -> (Daemon, Shell) {
    let file = dir.join("bootstrap.yaml");
    fs::write(&file, single_stack_block()).expect("a file");
    let state = dir.join("state");
    let mut init = Program::Controller.command();
    init.arg("init")
        .arg("--bootstrap")
        .arg(&file)
        .arg("--state-dir")
        .arg(&state);
    run(init).expect(0);
    let mut serve = Program::Controller.command();
    serve.arg("serve").arg("--state-dir").arg(&state);
    for flag in ["--operator-listen", "--link-listen", "--console-listen"] {
        serve.args([flag, "[::1]:0"]);
    }
    let daemon = Daemon::start(serve, &dir.join("log"));
    (daemon, Shell::new(dir, state.join("operator.sock")))
}

#[test]
fn the_guide_from_single_to_dual_stack_and_back() {
    let dir = scratch();
    let (daemon, shell) = guided(dir.path());
    primary_families(&shell);
    oam(&shell);
    cluster(&shell);
    management(&shell);
    lock_and_unlock(&shell);
    revert(&shell);
    daemon.stop();
}

fn primary_families(shell: &Shell) {
    for network in shell
        .json("system network-list")
        .as_array()
        .expect("networks")
    {
        let expected = if network["type"] == "pxeboot" {
            "IPv4"
        } else {
            "IPv6"
        };
        assert_eq!(network["primary_pool_family"], expected, "{network}");
    }
}

fn oam(shell: &Shell) {
    // The guide gives no gateway here; oam works without a secondary one.
    shell.line(
        "system addrpool-add oam-ipv4 171.168.204.0 24 --order random \
         --ranges 171.168.204.1-171.168.204.254 --floating-address 171.168.204.1 \
         --controller0-address 171.168.204.2 --controller1-address 171.168.204.3",
    );
    shell.line("system network-addrpool-assign oam oam-ipv4");
    // Not all-in-one simplex: both controllers need a lock and an unlock.
    assert_eq!(
        shell.out_of_date(),
        ["host=controller-0", "host=controller-1"]
    );
}

fn cluster(shell: &Shell) {
    shell.line(
        "system addrpool-add cluster-pod-subnet-ipv4 172.16.0.0 16 --order random \
         --ranges 172.16.0.1-172.16.254.254",
    );
    shell.line(
        "system addrpool-add cluster-service-subnet-ipv4 10.96.0.0 12 --order random \
         --ranges 10.96.0.1-10.96.254.254",
    );
    shell.line(
        "system addrpool-add cluster-host-subnet-ipv4 192.168.204.0 24 --order random \
         --ranges 192.168.204.1-192.168.204.254 --floating-address 192.168.204.1 \
         --controller0-address 192.168.204.2 --controller1-address 192.168.204.3",
    );
    let kubernetes = || shell.json("system kubernetes-show")["state"].clone();
    let waits = "KUBERNETES_WAITS";
    shell
        .line("system network-addrpool-assign cluster-service cluster-service-subnet-ipv4")
        .says(waits);
    shell
        .line("system network-addrpool-assign cluster-pod cluster-pod-subnet-ipv4")
        .says(waits);
    assert_eq!(kubernetes(), "converting-to-dual");
    shell
        .line("system network-addrpool-assign cluster-host cluster-host-subnet-ipv4")
        .says("KUBERNETES_KUBEADM")
        .says("KUBERNETES_CALICO")
        .says("KUBERNETES_RESTART_CONTROL_PLANE")
        .says("NEW_PODS")
        .says("EXISTING_PODS");
    assert_eq!(kubernetes(), "dual-stack");
}

fn management(shell: &Shell) {
    shell.line(
        "system addrpool-add management-ipv4 20.20.20.0 24 --order random \
         --ranges 20.20.20.1-20.20.20.254 --floating-address 20.20.20.1 \
         --controller0-address 20.20.20.2 --controller1-address 20.20.20.3",
    );
    // The guide says `management` here, and its own listing `mgmt`.
    shell.line("system network-addrpool-assign management management-ipv4");
    assert_eq!(shell.out_of_date().len(), 2);
}

/// "A node lock/unlock cycle will clean the alarm": once the host says what it has applied.
fn lock_and_unlock(shell: &Shell) {
    for (host, left) in [("controller-1", 1), ("controller-0", 0)] {
        shell.line(&format!("system host-lock {host}"));
        shell.line(&format!("system host-unlock {host}"));
        // No agent of the host runs here: an operator reports in its place.
        assert_eq!(shell.out_of_date().len(), left + 1, "{host}");
        shell.line(&format!("system host-report {host}"));
        assert_eq!(shell.out_of_date().len(), left, "{host}");
    }
}

fn revert(shell: &Shell) {
    // The guide's line has a typographic quote, names a pool that it never made, and uses a
    // shell variable inside awk's single quotes.
    shell.line(
        "ADDR_POOL_NAME=\"cluster-pod-subnet-ipv4\"; \
         DEL=$(system network-addrpool-list | \
         awk -v name=\"$ADDR_POOL_NAME\" '$6 == name { print $2 }') && \
         system network-addrpool-remove $DEL",
    );
    let kubernetes = || shell.json("system kubernetes-show")["state"].clone();
    assert_eq!(kubernetes(), "converting-to-single");
    for pool in ["cluster-service-subnet-ipv4", "cluster-host-subnet-ipv4"] {
        shell.line(&format!(
            "DEL=$(system network-addrpool-list | awk '$6 == \"{pool}\" {{ print $2 }}') && \
             system network-addrpool-remove $DEL"
        ));
    }
    assert_eq!(kubernetes(), "single-stack");
    shell.line("system network-addrpool-remove oam oam-ipv4");
}

#[test]
fn the_guide_on_the_admin_network_of_a_subcloud() {
    let dir = scratch();
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::install(&dir.path().join("west"), site, Place::Loopback);
    west.serve();
    let shell = Shell::new(dir.path(), west.state_dir().join("operator.sock"));
    shell.line(
        "system addrpool-add admin-ipv4 30.30.30.0 24 --order random \
         --ranges 30.30.30.1-30.30.30.254 --floating-address 30.30.30.1 \
         --controller0-address 30.30.30.2 --controller1-address 30.30.30.3",
    );
    // At run time, without a lock.
    shell
        .line("system network-addrpool-assign admin admin-ipv4")
        .says("CONFIGURE_NETWORK");
    assert!(shell.out_of_date().is_empty());
    west.stop();
}

#[test]
fn a_remedy_that_is_copied_into_a_shell_does_what_it_says() {
    let dir = scratch();
    let (daemon, shell) = guided(dir.path());
    for name in [r"odd; it'\''s", "$(odd) \"&\"", "plain"] {
        shell.line(&format!(
            "system addrpool-add '{name}' 20.20.20.0 24 --floating-address 20.20.20.1 \
             --controller0-address 20.20.20.2 --controller1-address 20.20.20.3"
        ));
        shell.line(&format!("system network-addrpool-assign mgmt '{name}'"));
        let delete = format!("system addrpool-delete '{name}'");
        let refused = shell.line(&format!("{delete} 2>&1 || true")).stdout;
        let told: Vec<&str> = refused.split_whitespace().collect();
        let told = told.join(" ");
        let remedy = told.split('`').nth(1).expect("a command");
        assert!(
            remedy.starts_with("system network-addrpool-remove mgmt "),
            "{told}"
        );
        shell.line(remedy);
        shell.line(&delete);
    }
    daemon.stop();
}

/// The words of a refusal, without the line ends and indentation of the terminal.
fn words(output: &Output) -> String {
    let words: Vec<&str> = output.stderr.split_whitespace().collect();
    words.join(" ")
}

#[test]
fn the_controller_reverts_to_single_stack_while_a_subcloud_names_gateways_of_both_families() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6First);
    let gateways = [Family::V6, Family::V4].map(|it| site.address(Net::Link, it, 1).to_string());
    let [first, _] = &gateways;
    let west = Bootstrap::subcloud("west", 1, Stack::V6First)
        .with("systemcontroller_gateway_address", &gateways.join(","));
    let controller = Controller::start(&dir.path().join("controller"), site);
    let _west = Subcloud::join(&dir.path().join("west"), west, &controller);
    let shown = |expected: &[&str]| {
        let show = ["dcmanager", "subcloud", "show", "west", "-f", "json"];
        let shown = controller.tandem(&show).expect(0).json();
        assert_eq!(shown["systemcontroller_gateway_addresses"], json!(expected));
    };
    shown(&gateways.each_ref().map(String::as_str));

    let lock = ["system", "host-lock", "controller-0"];
    controller.tandem(&lock).expect(0);
    let remove = [
        "system",
        "network-addrpool-remove",
        "mgmt",
        "management-ipv4",
    ];
    let refused = controller.tandem(&remove).expect(1).says("F10");
    let told = words(&refused);
    let remedy = format!(
        "`tandem dcmanager subcloud update west --systemcontroller-gateway-address {first}`"
    );
    assert!(told.contains(&remedy), "{told}");
    let line: Vec<&str> = remedy.trim_matches('`').split(' ').skip(1).collect();
    controller.tandem(&line).expect(0);
    shown(&[first]);
    controller.tandem(&remove).expect(0);

    // A gateway of the pool that is gone is refused; none at all is fine, also after a restart.
    let set = |gateways: &str| {
        let option = "--systemcontroller-gateway-address";
        controller.tandem(&["dcmanager", "subcloud", "update", "west", option, gateways])
    };
    set(&gateways.join(","))
        .expect(1)
        .says("CONTROLLER_GATEWAY_INVALID");
    set("none").expect(0);
    let mut controller = controller;
    controller.kill();
    controller.serve();
    let show = ["dcmanager", "subcloud", "show", "west", "-f", "json"];
    let shown = controller.tandem(&show).expect(0).json();
    assert_eq!(shown["systemcontroller_gateway_addresses"], json!([]));
}
