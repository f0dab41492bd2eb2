//! What a controller tells monitoring and logs: aggregates of the fleet, resumed sessions after a
//! restart, JSON on request.

use serde_json::Value;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Subcloud};
use crate::support::console::Metrics;
use crate::support::process::Daemon;
use crate::support::{PATIENCE, repository, scratch, wait_until};

#[test]
fn the_console_tells_of_the_fleet_without_naming_anybody() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let site = Bootstrap::subcloud("lonesome", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("lonesome"), site, &controller);
    controller.wait_for("lonesome", "sync", "in-sync");
    wait_until("heartbeats are counted", PATIENCE, || {
        Metrics::of(&mut controller).get("tandem_link_heartbeats_total") > 0.0
    });
    let metrics = Metrics::of(&mut controller);
    let online = r#"tandem_subclouds{availability="online",management="unmanaged",sync="in-sync"}"#;
    for (name, least) in [
        (online, 1.0),
        ("tandem_links", 1.0),
        (r#"tandem_enrollments_total{outcome="accepted"}"#, 1.0),
        (r#"tandem_handshakes_total{listener="link"}"#, 2.0),
        (r#"tandem_connections{listener="link"}"#, 1.0),
        ("tandem_commit_seconds_count", 2.0),
        ("tandem_store_transactions_total", 1.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 5.0),
    ] {
        assert!(metrics.get(name) >= least, "{name} in:\n{}", metrics.text);
    }
    let id = controller.show("lonesome").expect("a subcloud")["id"].to_string();
    for told in ["lonesome", id.trim_matches('"')] {
        assert!(!metrics.text.contains(told), "{told} in:\n{}", metrics.text);
    }

    // The ticket of the agent is good for the next process of the controller.
    controller.kill();
    controller.serve();
    controller.wait_for("lonesome", "availability", "online");
    let resumed = r#"tandem_resumed_handshakes_total{listener="link"}"#;
    let metrics = Metrics::of(&mut controller);
    assert!(metrics.get(resumed) >= 1.0, "{}", metrics.text);
    assert_eq!(
        metrics.get(r#"tandem_reports_total{outcome="accepted"}"#),
        0.0
    );
    west.stop();
}

#[test]
fn alarms_and_rollouts_are_told_as_counts_that_are_there_from_the_start() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V4);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let metrics = Metrics::of(&mut controller);
    for (id, severity) in [
        ("280.001", "critical"),
        ("280.002", "major"),
        ("280.004", "critical"),
        ("280.004", "major"),
        ("280.005", "major"),
        ("280.006", "major"),
        ("280.101", "major"),
        ("280.102", "critical"),
        ("280.103", "critical"),
    ] {
        let name = format!(r#"tandem_alarms{{id="{id}",severity="{severity}"}}"#);
        assert!(metrics.has(&name), "{name} in:\n{}", metrics.text);
        assert_eq!(metrics.get(&name), 0.0, "{name}");
    }
    for reason in ["NOT_AN_OPERATOR", "OPERATOR_REVOKED", "ROLE_TOO_LOW"] {
        let name = format!(r#"tandem_calls_refused_total{{reason="{reason}"}}"#);
        assert!(metrics.has(&name), "{name} in:\n{}", metrics.text);
    }
    let members = [
        "pending",
        "in-flight",
        "done",
        "refused",
        "failed",
        "skipped",
    ];
    let member = |state: &str| format!(r#"tandem_open_rollout_members{{state="{state}"}}"#);
    for state in members {
        assert!(metrics.has(&member(state)), "{state} in:\n{}", metrics.text);
    }

    let site = Bootstrap::subcloud("west", 1, Stack::V4);
    let _west = Subcloud::join(&dir.path().join("west"), site, &controller);
    controller.wait_for("west", "sync", "in-sync");
    controller.add("east");
    let template = repository("deploy/examples/rollout-admin-ipv6.yaml");
    let template = template.display().to_string();
    let rollout = |controller: &Controller, arguments: &[&str]| {
        let line = [&["dcmanager", "network-rollout"], arguments].concat();
        controller.tandem(&line).expect(0)
    };
    let create = ["create", "--select", "all", "--network", "admin"];
    let create = [&create[..], &["--template", &template]].concat();
    rollout(&controller, &create);
    let open = |controller: &mut Controller| {
        let metrics = Metrics::of(controller);
        let states = ["running", "paused", "aborted"];
        let series = |state: &str| format!(r#"tandem_open_rollouts{{state="{state}"}}"#);
        let rollouts = states.map(|state| metrics.get(&series(state)));
        (rollouts, members.map(|state| metrics.get(&member(state))))
    };
    // West is not managed and waits; east has not enrolled.
    let members = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    assert_eq!(open(&mut controller), ([1.0, 0.0, 0.0], members));
    rollout(&controller, &["pause", "1"]);
    assert_eq!(open(&mut controller), ([0.0, 1.0, 0.0], members));
    controller.kill();
    controller.serve();
    assert_eq!(open(&mut controller), ([0.0, 1.0, 0.0], members));
    rollout(&controller, &["abort", "1"]);
    assert_eq!(open(&mut controller), ([0.0; 3], [0.0; 6]));
}

#[test]
fn logs_are_json_on_request_with_the_subcloud_in_the_span() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    controller.stop();
    let mut command = controller.serve_command();
    command
        .args(["--log-format", "json"])
        .env("TANDEM_LOG", "debug");
    let log = dir.path().join("json.log");
    let daemon = Daemon::start(command, &log);
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let _west = Subcloud::join(&dir.path().join("west"), site, &controller);
    let id = controller.show("west").expect("a subcloud")["id"].clone();
    wait_until("the report is logged within its spans", PATIENCE, || {
        let lines = daemon.log_text();
        lines.lines().any(|line| {
            let entry: Value = serde_json::from_str(line).expect("each line is an object");
            entry["span"]["name"] == "report"
                && entry["span"]["generation"].is_u64()
                && entry["spans"][0]["subcloud"] == id
        })
    });
    daemon.stop();
}
