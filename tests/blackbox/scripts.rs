//! The scripts that operators run: the checks with grpcurl, and the quickstart.

use std::path::Path;
use std::process::Command;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::process::{Output, Program, run};
use crate::support::{PATIENCE, repository, scratch, wait_until};

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
        "peers",
        "peer-groups",
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
fn the_checks_of_peers_answer_their_questions() {
    let dir = scratch();
    let start = |name: &str, index| {
        let site = Bootstrap::controller_of(name, index, Stack::V6);
        Controller::start(&dir.path().join(name), site)
    };
    let (a, mut b) = (start("a", 101), start("b", 102));
    check(&a, "peers", &[]).expect(0);
    check(&a, "peer-groups", &[]).expect(0);
    let add = ["dcmanager", "system-peer", "add"];
    let quick = [
        "--heartbeat-interval",
        "1",
        "--heartbeat-failure-threshold",
        "3",
        "-f",
        "json",
    ];
    let issued = a
        .tandem(&[&add[..], &["b"], &quick].concat())
        .expect(0)
        .json();
    let token = issued["token"].as_str().expect("a token");
    let pending = check(&a, "peers", &[]).expect(0).stdout;
    assert!(pending.contains("pending"), "{pending}");
    b.tandem(&[&add[..], &["a", "--token", token], &quick].concat())
        .expect(0);
    a.tandem(&["dcmanager", "subcloud-peer-group", "add", "shared"])
        .expect(0);
    let share = ["dcmanager", "peer-group-association", "add", "shared", "b"];
    a.tandem(&[&share[..], &["--peer-group-priority", "1"]].concat())
        .expect(0);
    for (site, peer) in [(&a, "b"), (&b, "a")] {
        wait_until("the checks are content", PATIENCE, || {
            let codes = ["peers", "peer-groups"].map(|name| check(site, name, &[]).code);
            codes == [Some(0), Some(0)]
        });
        let peers = check(site, "peers", &[]).expect(0).stdout;
        let words: Vec<&str> = peers.split_whitespace().collect();
        let wanted = [
            peer,
            peer,
            "ipv6",
            "established",
            "enabled",
            "available",
            "alarm",
        ];
        assert_eq!(words, wanted);
        let groups = check(site, "peer-groups", &[]).expect(0).stdout;
        let mut lines = groups
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let priority = if peer == "b" { "0" } else { "1" };
        let wanted = ["shared", "a", priority, "0", "0", "none"];
        assert_eq!(lines.next().as_deref(), Some(&wanted[..]), "{groups}");
        assert!(groups.contains("in-sync"), "{groups}");
        check(site, "peer-groups", &["-m", "shared"]).expect(0);
    }
    b.stop();
    wait_until("the loss is noticed", PATIENCE, || {
        check(&a, "peers", &[]).code == Some(1)
    });
    check(&a, "peer-groups", &[]).expect(1).says("not in-sync");
}

/// Runs `deploy/quickstart` with the programs under test: a build would replace them under the
/// other tests.
fn quickstart(dir: &Path, arguments: &[&str]) -> Output {
    let programs = Path::new(Program::Tandem.path()).parent();
    let mut command = Command::new(repository("deploy/quickstart"));
    command
        .args(arguments)
        .env("TANDEM_LAB_DIR", dir.join("lab"))
        .env("TANDEM_PROGRAMS", programs.expect("a folder"));
    run(command)
}

/// No process and no state of a lab is left.
#[track_caller]
fn leaves_nothing(dir: &Path) {
    quickstart(dir, &["down"]).expect(0);
    assert!(!dir.join("lab").exists());
    let mut members = Command::new("bash");
    let lab = dir.display().to_string();
    members.args([
        "-c",
        &format!("! grep -lzs '^TANDEM_LAB_MEMBER={lab}' /proc/[0-9]*/environ"),
    ]);
    run(members).expect(0);
}

#[test]
fn the_geo_quickstart_shows_a_lost_site_taken_over_and_leaves_nothing() {
    let dir = scratch();
    quickstart(dir.path(), &["fail-site", "A"]).expect(69);
    let shown = quickstart(dir.path(), &["--geo"]).expect(0).stdout;
    let count = |text: &str, words: [&str; 3]| {
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(has).count()
    };
    assert_eq!(
        count(&shown, ["subcloud-", "controller-a", "online"]),
        6,
        "{shown}"
    );
    assert_eq!(
        count(&shown, ["subcloud-", "controller-a", "secondary"]),
        6,
        "{shown}"
    );
    assert!(shown.contains("fail-site A"), "{shown}");

    quickstart(dir.path(), &["fail-site", "C"]).expect(64);
    let moved = quickstart(dir.path(), &["fail-site", "A"]).expect(0).stdout;
    assert!(moved.contains("6 of 6"), "{moved}");
    assert_eq!(
        count(&moved, ["subcloud-", "controller-b", "online"]),
        6,
        "{moved}"
    );
    assert!(moved.contains("280.004"), "{moved}");
    let back = quickstart(dir.path(), &["restore-site", "A"])
        .expect(0)
        .stdout;
    assert!(
        back.contains("280.005") && back.contains("migrate"),
        "{back}"
    );
    leaves_nothing(dir.path());
}

#[test]
fn the_quickstart_shows_who_is_accepted_and_leaves_nothing() {
    let dir = scratch();
    let shown = quickstart(dir.path(), &["up"]).expect(0).stdout;
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
    leaves_nothing(dir.path());
}
