//! Who asked for what: every call that changes something is in the audit log, also one that was
//! refused.

use std::time::{SystemTime, UNIX_EPOCH};

use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::fleet_v1::{AddSubcloudRequest, GetRolloutRequest, ManageSubcloudResponse};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::uri::PathAndQuery;
use serde_json::{Value, json};
use tonic_prost::ProstCodec;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::client::operators;
use crate::support::cloud::{Added, Controller, Place, Subcloud};
use crate::support::grpcurl::{grpcurl, grpcurl_with};
use crate::support::scratch;

const AUDIT: &str = "tandem.fleet.v1.OperatorService/ListAuditEntries";
const NETWORKS: &str = "tandem.site.v1.NetworkService";

fn entries(controller: &Controller, request: &Value) -> Vec<Value> {
    let mut request = request.clone();
    request["pageSize"] = json!(1000);
    let answer = controller.grpcurl(AUDIT, &request).expect("the audit log");
    answer["entries"].as_array().cloned().unwrap_or_default()
}

/// Action, name and outcome of each entry, oldest first.
fn deeds(entries: &[Value]) -> Vec<(String, String, String)> {
    let deed = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let outcome = match entry["done"].as_bool() {
            Some(true) => "done".to_owned(),
            _ => entry["violations"][0]["reason"]
                .as_str()
                .unwrap_or("?")
                .to_owned(),
        };
        (text("action"), text("name"), outcome)
    };
    entries.iter().rev().map(deed).collect()
}

#[test]
fn every_change_is_noted_with_who_and_why() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let began = milliseconds();
    let added = controller.add("west");
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let west = Subcloud::install(&dir.path().join("west"), site, Place::Loopback);
    let other = controller.add("east");
    let wrong = Added {
        token: other.token,
        ..added.clone()
    };
    west.enroll(&wrong, &[]).expect(2);
    west.enroll(&added, &[]).expect(0);
    controller.operator("looker", "reader");
    let pool =
        |network: &str| json!({"addressPool": {"name": "p", "network": network, "prefix": 64}});
    let create = format!("{NETWORKS}/CreateAddressPool");
    controller
        .grpcurl(&create, &pool("fd99::"))
        .expect("created");
    controller
        .grpcurl(&create, &pool("fd99::"))
        .expect_err("twice");
    controller
        .grpcurl(&create, &json!({}))
        .expect_err("no pool");
    let mut preview = pool("fd98::");
    preview["addressPool"]["name"] = json!("q");
    preview["validateOnly"] = json!(true);
    controller
        .grpcurl(&create, &preview)
        .expect("a preview is no change");
    let looker = controller.tls(Some("looker"));
    grpcurl(&looker, &create, &pool("fd97::")).expect_err("a reader");
    let at_west = grpcurl_with(
        &looker,
        &["tandem-subcloud: west"],
        "20",
        &create,
        &pool("fd97::"),
    );
    at_west.expect_err("a reader");
    controller
        .tandem(&["dcmanager", "operator", "revoke", "looker"])
        .expect(0);

    let expected = [
        ("SUBCLOUD_ADD", "west", "done"),
        ("SUBCLOUD_ADD", "east", "done"),
        ("ENROLL", "west", "ENROLL_TOKEN_INVALID"),
        ("ENROLL", "west", "done"),
        ("OPERATOR_ADD", "looker", "done"),
        ("SITE CreateAddressPool", "controller", "done"),
        ("SITE CreateAddressPool", "controller", "NAME_TAKEN"),
        ("SITE CreateAddressPool", "controller", "INVALID_ARGUMENT"),
        (
            "/tandem.site.v1.NetworkService/CreateAddressPool",
            "controller",
            "ROLE_TOO_LOW",
        ),
        (
            "/tandem.site.v1.NetworkService/CreateAddressPool",
            "west",
            "ROLE_TOO_LOW",
        ),
        ("OPERATOR_REVOKE", "looker", "done"),
    ];
    let expected = expected.map(|(a, n, o)| (a.to_owned(), n.to_owned(), o.to_owned()));
    let all = entries(&controller, &json!({}));
    assert_eq!(deeds(&all), expected);
    controller.kill();
    controller.serve();
    assert_eq!(entries(&controller, &json!({})), all, "it is on disk");

    // By action, by actor, by subcloud, by time; a strange action and a wrong range are refused.
    let count = |request: &Value| entries(&controller, request).len();
    assert_eq!(count(&json!({"action": "SUBCLOUD_ADD"})), 2);
    assert_eq!(count(&json!({"action": "SITE CreateAddressPool"})), 3);
    assert_eq!(count(&json!({"actor": "operator/reader/looker"})), 2);
    assert_eq!(count(&json!({"subcloud": "west"})), 4);
    assert_eq!(
        count(&json!({"subcloud": added.id})),
        3,
        "a stranger is nobody's record"
    );
    assert_eq!(count(&json!({"sinceMilliseconds": began.to_string()})), 11);
    assert_eq!(count(&json!({"untilMilliseconds": began.to_string()})), 0);
    let third: u64 = all[8]["atMilliseconds"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a number");
    let before = entries(
        &controller,
        &json!({"untilMilliseconds": third.to_string()}),
    );
    assert!(before.len() < 3, "{before:?}");
    for (request, field) in [
        (json!({"action": "SUBCLOUD_EAT"}), "action"),
        (
            json!({"sinceMilliseconds": 5, "untilMilliseconds": 5}),
            "until_milliseconds",
        ),
    ] {
        let error = controller.grpcurl(AUDIT, &request).expect_err("refused");
        assert_eq!(error.fields[0].0, field, "{error:?}");
    }
    let told = entries(&controller, &json!({"action": "ENROLL"}));
    let detail = told[1]["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("for east"),
        "the log knows which way a token is wrong: {told:?}"
    );
    let listed = controller.tandem(&["dcmanager", "audit", "list", "--since", "1h", "-f", "json"]);
    let listed = listed.expect(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(11), "{listed}");
    let events = ["dcmanager", "event", "list", "--until", "1h", "-f", "json"];
    assert_eq!(controller.tandem(&events).expect(0).json(), json!([]));
}

#[test]
fn a_dry_run_that_is_not_allowed_is_noted_as_one() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    controller.operator("looker", "reader");
    let looker = controller.tls(Some("looker"));
    let pool = json!({"name": "p", "network": "fd99::", "prefix": 64});
    let calls = [
        (
            format!("{NETWORKS}/CreateAddressPool"),
            json!({"addressPool": pool}),
        ),
        (
            "tandem.fleet.v1.SubcloudService/AddSubcloud".to_owned(),
            json!({"name": "west"}),
        ),
        (
            "tandem.fleet.v1.RolloutService/AbortRollout".to_owned(),
            json!({"number": 1}),
        ),
    ];
    let mut expected = Vec::new();
    for (path, request) in &calls {
        for dry_run in [false, true] {
            let mut request = request.clone();
            request["validateOnly"] = json!(dry_run);
            grpcurl(&looker, path, &request).expect_err("a reader");
            expected.push((format!("/{path}"), dry_run));
        }
    }
    let all = entries(&controller, &json!({"actor": "operator/reader/looker"}));
    let noted = all.iter().rev().map(|entry| {
        let action = entry["action"].as_str().unwrap_or_default().to_owned();
        (action, entry["detail"] == "it was a dry run")
    });
    assert_eq!(noted.collect::<Vec<_>>(), expected);
    let listed = controller.tandem(&["dcmanager", "audit", "list"]).expect(0);
    let told = listed
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(told.contains("dry run"), "{told}");
}

#[tokio::test]
async fn a_change_that_no_rule_has_seen_is_noted_too() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let socket = controller.state_dir().join("operator.sock");
    let channel = operators(&socket).await;
    let (subclouds, groups) = ("SubcloudService", "SubcloudGroupService");
    let file = BASE64_STANDARD.encode("name: west\n");
    let mask = json!({"target": "x", "updateMask": {"paths": ["nope"]}});
    let calls = [
        (
            subclouds,
            "AddSubcloud",
            json!({"name": "west", "bootstrapValues": file}),
        ),
        (subclouds, "UpdateSubcloud", mask.clone()),
        (groups, "UpdateSubcloudGroup", mask),
        ("OperatorService", "AddOperator", json!({"name": "a b"})),
        (
            "PeerService",
            "AddSystemPeer",
            json!({"systemPeer": {"name": "b"}, "token": "td1_x"}),
        ),
        ("RolloutService", "CreateRollout", json!({"network": "lan"})),
    ];
    let mut expected = Vec::new();
    for (service, method, request) in calls {
        let path = format!("tandem.fleet.v1.{service}/{method}");
        let refusal = controller.grpcurl(&path, &request).expect_err(method);
        let noted = (format!("/{path}"), refusal.reason);
        let mut preview = request;
        preview["validateOnly"] = json!(true);
        controller.grpcurl(&path, &preview).expect_err("a preview");
        expected.push(noted);
    }
    // Bytes that are not the message of the method: a number where a name is due. Once here, and
    // once for a subcloud, to which nothing goes out.
    let manage = "/tandem.fleet.v1.SubcloudService/ManageSubcloud";
    let lock = "/tandem.site.v1.SiteService/LockHost";
    for (path, subcloud) in [(manage, None), (lock, None), (lock, Some("west"))] {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.expect("a connection");
        let mut number = tonic::Request::new(GetRolloutRequest { number: 5 });
        if let Some(name) = subcloud {
            let name = name.parse().expect("metadata");
            number.metadata_mut().insert("tandem-subcloud", name);
        }
        let codec = ProstCodec::<_, ManageSubcloudResponse>::default();
        let answer = client.unary(number, PathAndQuery::from_static(path), codec);
        let refusal = answer.await.expect_err("undecodable");
        assert_eq!(refusal.code(), tonic::Code::InvalidArgument, "{refusal:?}");
        expected.push((path.to_owned(), "MESSAGE_UNREADABLE".to_owned()));
    }
    // One id for two requests whose answer holds a secret.
    let add = "tandem.fleet.v1.SubcloudService/AddSubcloud";
    let named = |name: &str| json!({"name": name, "requestId": "once"});
    controller.grpcurl(add, &named("west")).expect("added");
    expected.push(("SUBCLOUD_ADD".to_owned(), "done".to_owned()));
    controller.grpcurl(add, &named("east")).expect_err("twice");
    expected.push((format!("/{add}"), "INVALID_ARGUMENT".to_owned()));
    // What only reads is not noted, however wrong it is.
    let never = json!({"sinceMilliseconds": 5, "untilMilliseconds": 5});
    controller
        .grpcurl("tandem.fleet.v1.SubcloudService/ListFleetEvents", &never)
        .expect_err("no time");

    let found: Vec<_> = deeds(&entries(&controller, &json!({})))
        .into_iter()
        .map(|(action, _, outcome)| (action, outcome))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn logs_are_bounded_and_forget_the_oldest() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::install(&dir.path().join("controller"), site, Place::Loopback);
    controller.set("audit_log_entries = 100\nevent_log_entries = 100\n");
    controller.serve();
    let socket = controller.state_dir().join("operator.sock");
    let mut client = SubcloudServiceClient::new(operators(&socket).await);
    for number in 0..130 {
        let request = AddSubcloudRequest {
            name: format!("subcloud-{number}"),
            ..Default::default()
        };
        client.add_subcloud(request).await.expect("added");
    }
    let all = entries(&controller, &json!({}));
    assert_eq!(all.len(), 100);
    assert_eq!(
        (all[0]["sequence"].as_str(), all[99]["sequence"].as_str()),
        (Some("130"), Some("31"))
    );
    let request = json!({"pageSize": 1000});
    let events = controller.grpcurl("tandem.fleet.v1.SubcloudService/ListFleetEvents", &request);
    let events = events.expect("events")["events"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert_eq!(events.len(), 100);
}

fn milliseconds() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_millis()
}
