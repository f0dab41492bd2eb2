//! How the processes start, what their command lines refuse, and how they end.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::console::Metrics;
use crate::support::process::{Daemon, Program, Running, run};
use crate::support::{repository, scratch, wait_until};

#[test]
fn a_term_signal_ends_everything_in_time() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6First);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), site, &controller);
    controller.wait_for("west", "sync", "in-sync");
    assert_eq!(controller.events("west", "ENROLLED").len(), 1);
    // With the link up and an operator who watches, both for as long as it lasts.
    let socket = controller.state_dir().join("operator.sock");
    let mut watch = Program::Tandem.command();
    watch.args([
        "--endpoint",
        &format!("unix:{}", socket.display()),
        "system",
        "watch",
    ]);
    let _watching = Running::start(watch, "");
    let sockets = [socket, west.state_dir().join("operator.sock")];
    assert!(sockets.iter().all(|socket| socket.exists()));

    controller.stop();
    west.stop();
    assert!(
        sockets.iter().all(|socket| !socket.exists()),
        "no socket file stays"
    );
}

#[test]
fn a_term_signal_under_load_ends_in_order() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let endpoint = format!(
        "unix:{}",
        controller.state_dir().join("operator.sock").display()
    );
    let added = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let (endpoint, added) = (&endpoint, &added);
            scope.spawn(move || {
                for number in 0.. {
                    let mut add = Program::Tandem.command();
                    add.args(["--endpoint", endpoint, "dcmanager", "subcloud-group", "add"]);
                    add.args(["--name", &format!("group-{caller}-{number}")]);
                    if !add.output().expect("a process").status.success() {
                        return;
                    }
                    added.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_until("calls come in", Duration::from_secs(60), || {
            added.load(Ordering::Relaxed) >= 40
        });
        // With a status of 0.
        controller.stop();
    });
}

#[test]
fn an_operator_socket_belongs_to_the_process_that_answers_on_it() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let socket = controller.state_dir().join("operator.sock");
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let west = Subcloud::install(&dir.path().join("west"), site, Place::Loopback);
    let mut second = west.serve_command();
    second.arg("--operator-socket").arg(&socket);
    run(second)
        .expect(69)
        .says("in use")
        .says("--operator-socket");
    controller
        .tandem(&["dcmanager", "subcloud", "list"])
        .expect(0);
    controller.stop();
    assert!(!socket.exists(), "no socket file stays");
}

#[test]
fn each_program_serves_its_own_kind_of_site() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::install(&dir.path().join("controller"), site, Place::Loopback);
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let west = Subcloud::install(&dir.path().join("west"), site, Place::Loopback);
    for (program, state, kind) in [
        (
            Program::Agent,
            controller.state_dir(),
            "a system controller",
        ),
        (Program::Controller, west.state_dir(), "a subcloud, west"),
    ] {
        let mut command = program.command();
        command.arg("serve").arg("--state-dir").arg(state);
        run(command).expect(65).says(kind).says("use that program");
    }
}

#[test]
fn a_state_directory_has_one_process() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), site, &controller);
    let added = controller.add("another");

    let holder = format!("in use by process {}", controller.daemon().id());
    run(controller.serve_command())
        .expect(74)
        .says(&holder)
        .says("stop that process first");
    let holder = format!("in use by process {}", west.daemon().id());
    run(west.serve_command()).expect(74).says(&holder);
    west.enroll(&added, &[]).expect(74).says(&holder);
    // Neither lost anything by it.
    controller.wait_for("west", "availability", "online");
    assert!(controller.daemon().is_running() && west.daemon().is_running());
}

#[test]
fn a_daemon_that_was_killed_starts_again() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    controller.add("west");
    controller.kill();
    // The dead process left its socket file and its lock file behind.
    assert!(controller.state_dir().join("operator.sock").exists());
    controller.serve();
    let listed = controller
        .grpcurl("tandem.fleet.v1.SubcloudService/ListSubclouds", &json!({}))
        .expect("the subclouds");
    assert_eq!(listed["subclouds"][0]["name"], "west");
}

#[test]
fn nothing_stays_of_a_start_that_failed() {
    let dir = scratch();
    let home = dir.path().join("controller");
    let controller = Controller::install(&home, Bootstrap::controller(Stack::V6), Place::Loopback);
    // Without flags: the addresses of the site, which this host does not have.
    let mut command = Program::Controller.command();
    command
        .arg("serve")
        .arg("--state-dir")
        .arg(controller.state_dir());
    let failed = Daemon::try_start(command, &home.join("log")).expect_err("must not serve");
    failed
        .expect(69)
        .says("[fd10:0:3::3]:8440")
        .says("--operator-listen");
    assert!(!controller.state_dir().join("operator.sock").exists());
}

#[test]
fn an_agent_without_its_link_address_says_so() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let west = Subcloud::install(&dir.path().join("west"), site, Place::Loopback);
    let added = controller.add("west");
    let mut command = Program::Agent.command();
    command
        .arg("enroll")
        .arg("--state-dir")
        .arg(west.state_dir());
    command.args(["--token", &added.token]);
    run(command)
        .expect(69)
        .says("fd10:1:1::2")
        .says("--link-source");
    // The token is not spent by it.
    west.enroll(&added, &[]).expect(0);
    // Once more is no fault: an answer may have been lost.
    let again = west.enroll(&added, &[]).expect(0);
    assert!(again.stdout.contains(&added.id), "{again:?}");
}

#[test]
fn a_wrong_command_line_is_status_64_in_every_program() {
    for program in Program::ALL {
        for line in [
            &[][..],
            &["--no-such-flag"],
            &["no-such-command"],
            &["init"],
            &["serve"],
        ] {
            let mut command = program.command();
            command.args(line);
            let output = run(command).expect(64);
            assert!(
                output.stdout.is_empty() && !output.stderr.is_empty(),
                "{output:?}"
            );
        }
    }
    let wrong: [(Program, &[&str]); 6] = [
        (
            Program::Controller,
            &["serve", "--state-dir", "x", "--source-check", "maybe"],
        ),
        (
            Program::Controller,
            &["serve", "--state-dir", "x", "--link-listen", "fd00::1:8441"],
        ),
        (Program::Agent, &["enroll", "--state-dir", "x"]),
        (
            Program::Agent,
            &[
                "enroll",
                "--state-dir",
                "x",
                "--token",
                "a",
                "--token-file",
                "b",
            ],
        ),
        (
            Program::Agent,
            &["serve", "--state-dir", "x", "--link-source", "some"],
        ),
        (
            Program::Tandem,
            &["--endpoint", "ftp:x", "system", "network-list"],
        ),
    ];
    for (program, line) in wrong {
        let mut command = program.command();
        command.args(line);
        run(command).expect(64);
    }
}

#[test]
fn every_program_tells_its_version_and_has_examples() {
    for program in Program::ALL {
        let mut command = program.command();
        command.arg("--version");
        let said = run(command).expect(0).stdout;
        let words: Vec<&str> = said.split_whitespace().collect();
        let name = Path::new(program.path())
            .file_name()
            .and_then(|name| name.to_str());
        assert_eq!(
            words[..2],
            [name.expect("a name"), env!("CARGO_PKG_VERSION")]
        );
        let commit = words[2].trim_matches(['(', ')']);
        if repository(".git").exists() {
            let mut git = Command::new("git");
            git.current_dir(repository(""))
                .args(["cat-file", "-t", commit]);
            assert_eq!(run(git).expect(0).stdout.trim(), "commit");
        } else {
            assert_eq!(commit, "unknown", "a build from an archive has no commit");
        }

        let mut command = program.command();
        command.arg("--help");
        assert!(
            run(command).expect(0).stdout.contains("Example"),
            "{program:?}"
        );
    }
}

#[test]
fn init_never_overwrites_state() {
    let dir = scratch();
    let home = dir.path().join("controller");
    let controller = Controller::install(&home, Bootstrap::controller(Stack::V6), Place::Loopback);
    let before = files(&controller.state_dir());
    let mut command = Program::Controller.command();
    command
        .arg("init")
        .arg("--bootstrap")
        .arg(home.join("bootstrap.yaml"));
    command.arg("--state-dir").arg(controller.state_dir());
    run(command).expect(65).says("never overwrites state");
    assert!(
        files(&controller.state_dir()) == before,
        "the state is as it was"
    );
    // Nothing half-made lies beside it.
    let names = fs::read_dir(&home)
        .expect("the home")
        .map(|entry| entry.expect("an entry"));
    let hidden: Vec<_> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn the_console_answers_probes() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V4First);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let console = controller
        .daemon()
        .ready
        .consoles
        .first()
        .expect("a console")
        .clone();
    let (host, port) = console.rsplit_once(':').expect("ADDR:PORT");
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut probe = Command::new("bash");
    let script = "exec 3<>\"/dev/tcp/$1/$2\"; printf '%s' \"$3\" >&3; cat <&3";
    probe.args(["-c", script, "bash", host, port, request]);
    let answer = run(probe).expect(0).stdout;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("serving\n"),
        "{answer}"
    );
}

#[test]
fn nobody_holds_the_console_by_silence() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V4First);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let console = controller.daemon().ready.consoles[0].clone();
    let silent: Vec<TcpStream> = (0..24)
        .map(|_| TcpStream::connect(&console).expect("a connection"))
        .collect();
    // Eight are turned away at once, the others when their request does not come.
    for mut connection in silent {
        let patience = Some(Duration::from_secs(60));
        connection.set_read_timeout(patience).expect("a limit");
        let mut said = Vec::new();
        match connection.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408 "));
    }
    let turned_away =
        r#"tandem_connection_refusals_total{listener="console",cause="too_many_from_source"}"#;
    assert_eq!(Metrics::of(&mut controller).get(turned_away), 8.0);
}

/// Every file of a directory with its content.
fn files(dir: &Path) -> Vec<(Vec<u8>, std::path::PathBuf)> {
    let entries = fs::read_dir(dir).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = paths
        .map(|path| (fs::read(&path).expect("a file"), path))
        .collect();
    files.sort();
    files
}
