//! Who may talk to a daemon over TCP, and what a role allows.

use std::fs;

use serde_json::json;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::grpcurl::{Target, grpcurl, services};
use crate::support::process::{Program, run};
use crate::support::scratch;

const ADMIN: &str = "operator-admin";
const LIST: &str = "tandem.fleet.v1.SubcloudService/ListSubclouds";
const ADD: &str = "tandem.fleet.v1.SubcloudService/AddSubcloud";
const TOKEN: &str = "tandem.fleet.v1.SubcloudService/IssueSubcloudToken";
const ADD_POOL: &str = "tandem.site.v1.NetworkService/CreateAddressPool";

const PERMISSION_DENIED: i64 = 7;

#[test]
fn the_first_operator_is_served_over_tls() {
    let dir = scratch();
    for (stack, home) in [(Stack::V4, "v4"), (Stack::V6, "v6")] {
        let site = Bootstrap::controller(stack);
        let mut controller = Controller::start(&dir.path().join(home), site);
        let target = controller.tls(Some(ADMIN));
        grpcurl(&target, ADD, &json!({"name": "west"})).expect("an admin may");
        let listed = grpcurl(&target, LIST, &json!({})).expect("an admin may");
        assert_eq!(listed["subclouds"][0]["name"], "west");
        // What agents call is served to agents only, on the link.
        let known = services(&target).expect("reflection");
        assert!(
            known.contains(&"tandem.fleet.v1.SubcloudService".to_owned()),
            "{known:?}"
        );
        for service in ["EnrollmentService", "LinkService", "PeerLinkService"] {
            assert!(
                !known.iter().any(|name| name.ends_with(service)),
                "{known:?}"
            );
        }

        let Target::Tls {
            address,
            authority,
            operator: Some((certificate, key)),
        } = target
        else {
            panic!("a target with a certificate");
        };
        let mut command = Program::Tandem.command();
        command
            .args(["--endpoint", &format!("https://{address}"), "--ca"])
            .arg(authority);
        command.arg("--cert").arg(certificate).arg("--key").arg(key);
        command.args(["dcmanager", "subcloud", "list", "-f", "value", "-c", "name"]);
        assert_eq!(run(command).expect(0).stdout, "west\n");
    }
}

#[test]
fn without_a_certificate_of_this_controller_nothing_is_served() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site.clone());
    let stranger = Controller::install(&dir.path().join("stranger"), site, Place::Loopback);
    for kind in ["crt", "key"] {
        let from = stranger.state_dir().join(format!("{ADMIN}.{kind}"));
        let to = controller.state_dir().join(format!("stranger.{kind}"));
        fs::copy(from, to).expect("a copy");
    }
    for operator in [None, Some("stranger")] {
        let target = controller.tls(operator);
        let error = grpcurl(&target, LIST, &json!({})).expect_err("must be refused");
        assert_eq!(error.reason, "", "no answer of a service: {error:?}");
        services(&target).expect_err("not even reflection");
    }
    // Nor does this side take just any server.
    let mut target = controller.tls(Some(ADMIN));
    if let Target::Tls { authority, .. } = &mut target {
        *authority = stranger.state_dir().join("ca.crt");
    }
    grpcurl(&target, LIST, &json!({})).expect_err("a server of another authority");
    grpcurl(&controller.tls(Some(ADMIN)), LIST, &json!({})).expect("still served");
}

#[test]
fn a_reader_reads_and_changes_nothing() {
    let dir = scratch();
    let home = dir.path().join("controller");
    let mut controller = Controller::start(&home, Bootstrap::controller(Stack::V6));
    controller.operator("looker", "reader");
    controller.add("west");

    let target = controller.tls(Some("looker"));
    assert!(services(&target).expect("reflection").len() > 3);
    let listed = grpcurl(&target, LIST, &json!({})).expect("a reader may");
    assert_eq!(listed["subclouds"].as_array().map(Vec::len), Some(1));
    let changes = [
        (ADD, json!({"name": "east"})),
        (ADD, json!({"name": "east", "validateOnly": true})),
        (TOKEN, json!({"subcloud": "west"})),
        (
            ADD_POOL,
            json!({"addressPool": {"name": "p", "network": "10.1.0.0", "prefix": 24}}),
        ),
    ];
    for (method, request) in changes {
        let error = grpcurl(&target, method, &request).expect_err("a reader may not");
        let got = (error.code, error.reason.as_str(), error.domain.as_str());
        assert_eq!(
            got,
            (Some(PERMISSION_DENIED), "ROLE_TOO_LOW", "tandem"),
            "{error:?}"
        );
        assert!(error.message.contains("looker"), "{error:?}");
    }
    assert!(controller.show("east").is_none());
}

#[test]
fn the_link_listener_has_no_reflection() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let mut target = controller.tls(Some(ADMIN));
    if let Target::Tls { address, .. } = &mut target {
        address.clone_from(&controller.daemon().ready.link);
    }
    services(&target).expect_err("nothing is told to whoever can reach the link");
}

#[test]
fn an_agent_serves_its_socket_only() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::install(&dir.path().join("west"), site, Place::Loopback);
    for enrolled in [false, true] {
        if enrolled {
            west.enroll(&controller.add("west"), &[]).expect(0);
        }
        let mut command = west.serve_command();
        command.args(["--operator-listen", "[::1]:0"]);
        run(command)
            .expect(64)
            .says("--operator-listen")
            .says("unix socket only");
        west.serve();
        assert_eq!(west.daemon().ready.operators, Vec::<String>::new());
        west.tandem(&["system", "network-list"]).expect(0);
        west.stop();
    }
}
