//! The scripts that operators run: the checks with grpcurl, and the quickstart.

use std::path::Path;
use std::process::Command;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::process::{Output, Program, run};
use crate::support::{repository, scratch};

/// Runs one of `deploy/checks`.
fn check(controller: &Controller, name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(repository("deploy/checks").join(name));
    let socket = controller.state_dir().join("operator.sock");
    command
        .args(arguments)
        .arg(format!("unix:{}", socket.display()));
    run(command)
}

#[test]
fn the_checks_answer_their_questions() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6First);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let west = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), west, &controller);

    let health = check(&controller, "health", &[]).expect(0).stdout;
    check_over_tls(&mut controller, "health", &health);
    let listed = check(&controller, "subclouds", &[]).expect(0).stdout;
    let words: Vec<&str> = listed.split_whitespace().take(5).collect();
    assert_eq!(
        words,
        ["west", "enrolled", "online", "ipv6", "single"],
        "{listed}"
    );
    check(&controller, "refused-enrollments", &[]).expect(0);
    let own = check(&controller, "site-networks", &[]).expect(0).stdout;
    assert!(own.contains("cluster-host"), "{own}");
    let its = check(&controller, "site-networks", &["-s", "west"])
        .expect(0)
        .stdout;
    assert!(its.contains("admin"), "{its}");

    let added = controller.add("east");
    let east = Bootstrap::subcloud("east", 2, Stack::V4);
    let east = Subcloud::install(&dir.path().join("east"), east, Place::Loopback);
    east.enroll(&added, &[]).expect(2);
    let refused = check(&controller, "refused-enrollments", &[]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stdout.contains("PRIMARY_FAMILY_MISMATCH"),
        "{refused:?}"
    );
    assert!(refused.stdout.contains("remedy"), "{refused:?}");
    west.stop();
    controller.wait_for("west", "availability", "offline");
    check(&controller, "subclouds", &[])
        .expect(1)
        .says("not online");
}

/// With the certificate of the first operator it is the same answer.
fn check_over_tls(controller: &mut Controller, name: &str, answer: &str) {
    let state = controller.state_dir();
    let mut command = Command::new(repository("deploy/checks").join(name));
    command.arg(format!(
        "https://{}",
        controller.daemon().ready.operators[0]
    ));
    command.env("TANDEM_CA", state.join("ca.crt"));
    command.env("TANDEM_CERT", state.join("operator-admin.crt"));
    command.env("TANDEM_KEY", state.join("operator-admin.key"));
    assert_eq!(run(command).expect(0).stdout, answer);
}

#[test]
fn a_check_without_an_answer_says_so() {
    for name in [
        "health",
        "subclouds",
        "refused-enrollments",
        "site-networks",
    ] {
        for (arguments, status) in [
            (&["--help"][..], 0),
            (&[], 64),
            (&["ftp:nowhere"], 64),
            (&["unix:/nowhere/operator.sock"], 69),
        ] {
            let mut command = Command::new(repository("deploy/checks").join(name));
            command.args(arguments);
            run(command).expect(status);
        }
    }
}

#[test]
fn the_quickstart_shows_who_is_accepted_and_leaves_nothing() {
    let dir = scratch();
    let programs = Path::new(Program::Tandem.path())
        .parent()
        .expect("a folder");
    let quickstart = |verb: &str| {
        let mut command = Command::new(repository("deploy/quickstart"));
        command
            .arg(verb)
            .env("TANDEM_LAB_DIR", dir.path().join("lab"))
            // Those under test: a build would replace them under the other tests.
            .env("TANDEM_PROGRAMS", programs);
        run(command)
    };
    let shown = quickstart("up").expect(0).stdout;
    let line = |name: &str| {
        let mut lines = shown
            .lines()
            .filter(|line| line.split_whitespace().next() == Some(name));
        lines.next().unwrap_or_default().to_owned()
    };
    for name in ["subcloud-v6", "subcloud-v6-dual"] {
        let line = line(name);
        assert!(
            line.contains("accepted") && line.contains("online"),
            "{shown}"
        );
    }
    for name in ["subcloud-v4", "subcloud-v4-dual"] {
        let line = line(name);
        assert!(
            line.contains("refused") && line.contains("PRIMARY_FAMILY_MISMATCH"),
            "{shown}"
        );
        assert!(
            line.contains("when declared") && line.contains("by its agent"),
            "{shown}"
        );
    }
    assert!(shown.contains("remedy: "), "{shown}");
    for next in [
        "tandem dcmanager subcloud list",
        "grpcurl ",
        "quickstart down",
    ] {
        assert!(shown.contains(next), "{next} is not in {shown}");
    }
    quickstart("down").expect(0);
    assert!(!dir.path().join("lab").exists());
    let mut members = Command::new("bash");
    let lab = dir.path().display().to_string();
    members.args([
        "-c",
        &format!("! grep -lzs '^TANDEM_LAB_MEMBER={lab}' /proc/[0-9]*/environ"),
    ]);
    run(members).expect(0);
}
