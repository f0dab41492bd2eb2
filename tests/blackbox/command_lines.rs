//! Command lines, exit statuses, and what the files of a daemon look like.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::Controller;
use crate::support::process::{Program, run};
use crate::support::scratch;

#[test]
fn wrong_usage_is_64_and_help_has_an_example() {
    for program in Program::ALL {
        let with = |arguments: &[&str]| {
            let mut command = program.command();
            command.args(arguments);
            run(command)
        };
        with(&["--nonsense"]).expect(64).says("--nonsense");
        with(&["nonsense"]).expect(64).says("nonsense");
        let help = with(&["--help"]).expect(0);
        assert!(help.stdout.contains("Example"), "{}", help.stdout);
        let version = with(&["--version"]).expect(0).stdout;
        let commit = version.split(['(', ')']).nth(1).unwrap_or_default();
        assert!(commit == "unknown" || commit.len() == 12, "{version}");
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    }
}

#[test]
fn addresses_that_the_host_lacks_are_named_with_their_flag() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    controller.stop();
    for flag in ["--operator-listen", "--link-listen", "--console-listen"] {
        let mut command = Program::Controller.command();
        command
            .arg("serve")
            .arg("--state-dir")
            .arg(controller.state_dir());
        for known in ["--operator-listen", "--link-listen", "--console-listen"] {
            let address = if known == flag {
                "[fd99::99]:8440"
            } else {
                "[::1]:0"
            };
            command.args([known, address]);
        }
        run(command).expect(69).says("[fd99::99]:8440").says(flag);
    }
    let mut defaults = Program::Controller.command();
    defaults
        .arg("serve")
        .arg("--state-dir")
        .arg(controller.state_dir());
    run(defaults).expect(69).says("--operator-listen");
}

#[test]
fn settings_that_are_wrong_are_named_before_anything_listens() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    controller.stop();
    let check = |settings: &str, text: &str| {
        let file = dir.path().join("bad.toml");
        fs::write(&file, settings).expect("a file");
        let mut command = Program::Controller.command();
        command
            .arg("serve")
            .arg("--state-dir")
            .arg(controller.state_dir());
        command.arg("--config").arg(&file);
        run(command).expect(64).says(text);
    };
    check(
        "heartbeat_interval_milliseconds = 5\n",
        "bad.toml: heartbeat_interval_milliseconds is 5; give 500 to 600000",
    );
    check(
        "link_connections_per_source = 0\n",
        "bad.toml: link_connections_per_source is 0; give 1 to 1000000",
    );
    // All of them at once.
    check(
        "heartbeat_interval_milliseconds = 5\nfleet_limit = 0\nfailover_milliseconds = 1\n",
        "heartbeat_interval_milliseconds is 5; give 500 to 600000\n\
         --config ",
    );
    check(
        "audit_log_days = 0\nfleet_limit = 0\n",
        "bad.toml: fleet_limit is 0; give 1 to 1000000",
    );
    check("heartbeat = 5\n", "heartbeat");
    check("link_listen = \"nowhere\"\n", "link_listen");
    check("source_check = \"perhaps\"\n", "source_check");
    check("not toml", "bad.toml");
}

#[test]
fn files_are_for_their_owner_alone() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let state = controller.state_dir();
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for name in [
        "operator.sock",
        "state.redb",
        "ca.crt",
        "operator-admin.crt",
        "operator-admin.key",
    ] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
    controller.stop();
    assert!(
        !state.join("operator.sock").exists(),
        "the socket goes with the process"
    );
}
