//! A daemon whose disk is full: it ends with its exit status and says what to do, what it answered is
//! there afterwards, and it goes on once there is space again.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::process::{Daemon, Output, Program, run};
use crate::support::scratch;

/// The exit status of a daemon whose disk failed.
const DISK: i32 = 74;

/// More calls than a disk has room for that is full but for what its files have left.
const MANY: u32 = 500;

/// A file system of its own with little room, which those see that run in it. It goes with its
/// holder, which ends when this does.
struct SmallDisk {
    holder: Child,
    dir: PathBuf,
    /// The holder has a user namespace of its own, because this is not root.
    user: bool,
}

impl SmallDisk {
    #[track_caller]
    fn mount(dir: &Path) -> Self {
        fs::create_dir(dir).expect("a folder");
        let user = !rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        command.args(if user { &["-Urm"][..] } else { &["-m"] });
        let script = "mount -t tmpfs -o size=4m none \"$1\" && echo mounted && exec cat";
        command.args(["sh", "-c", script, "sh"]).arg(dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("its output");
        let read = BufReader::new(stdout).read_line(&mut said);
        read.expect("what the holder says");
        assert_eq!(said, "mounted\n");
        let dir = dir.to_owned();
        Self { holder, dir, user }
    }

    /// A command that sees the disk.
    fn command(&self, program: Program) -> Command {
        let mut command = Command::new("nsenter");
        if self.user {
            command.args(["--preserve-credentials", "--user"]);
        }
        command.args(["--mount", "--target", &self.holder.id().to_string(), "--"]);
        command.arg(program.path());
        command
    }

    /// A file of it, as this process sees it.
    fn file(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.dir.strip_prefix("/").expect("a whole path"))
            .join(name)
    }

    /// Takes all the room that is left.
    #[track_caller]
    fn fill(&self) {
        let mut filler = File::create(self.file("filler")).expect("a file");
        loop {
            match filler.write(&[7; 4096]) {
                Ok(_) => {}
                Err(full) if full.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[track_caller]
    fn free(&self) {
        fs::remove_file(self.file("filler")).expect("the file goes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().expect("it ends with its input");
    }
}

/// A daemon with its state on a small disk.
struct Full {
    disk: SmallDisk,
    program: Program,
    socket: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
}

impl Full {
    #[track_caller]
    fn install(dir: &Path, program: Program, site: &Bootstrap, arguments: &[&str]) -> Self {
        let disk = SmallDisk::mount(&dir.join("disk"));
        let bootstrap = dir.join("site.yaml");
        fs::write(&bootstrap, site.yaml()).expect("a bootstrap file");
        let mut command = disk.command(program);
        command.arg("init").arg("--bootstrap").arg(&bootstrap);
        run(command_with_state(command, &disk)).expect(0);
        Self {
            disk,
            program,
            socket: dir.join("socket"),
            log: dir.join("log"),
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    /// Starts the daemon; how it ended when it ends before it is ready.
    fn serve(&self) -> Result<Daemon, Output> {
        let mut command = self.disk.command(self.program);
        command
            .arg("serve")
            .arg("--operator-socket")
            .arg(&self.socket);
        command.args(&self.arguments);
        Daemon::try_start(command_with_state(command, &self.disk), &self.log)
    }

    fn tandem(&self, arguments: &[&str]) -> Output {
        let mut command = Program::Tandem.command();
        let socket = format!("unix:{}", self.socket.display());
        command.args(["--endpoint", &socket]).args(arguments);
        run(command)
    }

    /// Fills the disk, makes changes until one finds it full, and starts again: on the full disk,
    /// which may be enough to serve, and once there is room. How many changes were answered.
    #[track_caller]
    fn runs_out_of_space(&self, change: impl Fn(u32) -> Vec<String>) -> (Daemon, u32) {
        let daemon = self.serve().expect("it serves");
        self.disk.fill();
        let tries = (0..MANY).map(|number| {
            let arguments = change(number);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            self.tandem(&arguments)
        });
        let mut tries = tries.enumerate();
        let (answered, lost) = tries
            .find(|(_, output)| output.code != Some(0))
            .expect("the disk is full");
        // Nobody knows what became of it, and it is said so.
        lost.expect(69).says("the outcome of a change is not known");
        assert_eq!(daemon.ended(), Some(DISK));
        match self.serve() {
            Ok(daemon) => daemon.stop(),
            Err(ended) => drop(ended.expect(DISK).says("free space on the disk")),
        }
        self.disk.free();
        let daemon = self.serve().expect("there is room again");
        let told = daemon.log_text();
        assert!(
            told.contains("free space on the disk of the state"),
            "{told}"
        );
        (daemon, u32::try_from(answered).expect("not so many"))
    }
}

fn command_with_state(mut command: Command, disk: &SmallDisk) -> Command {
    command.arg("--state-dir").arg(disk.dir.join("state"));
    command
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_controller_on_a_full_disk_loses_nothing_and_comes_back() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let any = "[::1]:0";
    let listen = [
        "--operator-listen",
        any,
        "--link-listen",
        any,
        "--console-listen",
        any,
    ];
    let full = Full::install(dir.path(), Program::Controller, &site, &listen);
    let add = |number: u32| words(&["dcmanager", "subcloud", "add", &format!("s{number}")]);
    let (daemon, answered) = full.runs_out_of_space(add);
    let list = ["dcmanager", "subcloud", "list", "-f", "json"];
    let listed = full.tandem(&list).expect(0).json();
    let listed = u32::try_from(listed.as_array().expect("a list").len()).expect("not so many");
    // The one without an answer may be there or not.
    assert!(
        [answered, answered + 1].contains(&listed),
        "{listed} of {answered}"
    );
    full.tandem(&["dcmanager", "subcloud", "add", "again"])
        .expect(0);
    daemon.stop();
}

#[test]
fn an_agent_on_a_full_disk_loses_nothing_and_comes_back() {
    let dir = scratch();
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let full = Full::install(dir.path(), Program::Agent, &site, &[]);
    let step = |number: u32| {
        if number.is_multiple_of(2) {
            "host-lock"
        } else {
            "host-unlock"
        }
    };
    let change = |number: u32| words(&["system", step(number), "controller-0"]);
    let (daemon, answered) = full.runs_out_of_space(change);
    let shown = full.tandem(&["system", "host-list", "-f", "json"]);
    let shown = shown.expect(0).json()[0].clone();
    // What is asked next is refused if it was done without an answer.
    let state = |answered: u32| {
        if answered.is_multiple_of(2) {
            "unlocked"
        } else {
            "locked"
        }
    };
    let now = shown["administrative"].as_str().expect("a state");
    assert!(
        [state(answered), state(answered + 1)].contains(&now),
        "{shown}"
    );
    let next = if now == "locked" {
        "host-unlock"
    } else {
        "host-lock"
    };
    full.tandem(&["system", next, "controller-0"]).expect(0);
    daemon.stop();
}
