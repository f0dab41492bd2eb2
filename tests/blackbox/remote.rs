//! The sites of subclouds, called through their controller: the same answers and refusals as on
//! the subcloud's own socket, and a clear word when a subcloud cannot be called.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use api::site_v1::network_service_client::NetworkServiceClient;
use api::site_v1::site_service_client::SiteServiceClient;
use api::site_v1::{
    AddressPool, CreateAddressPoolRequest, GetNetworkRequest, GetSiteRequest, UpdateDnsRequest,
    UpdateDnsResponse,
};
use api::store_v1::AuditRecord;
use prost::Message as _;
use serde_json::json;
use store::Store;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::support::bootstrap::{Bootstrap, Family, Net, Stack};
use crate::support::client::operators;
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::grpcurl::{GrpcError, Target, answer_of, grpcurl_with, services, start_with};
use crate::support::process::run;
use crate::support::{PATIENCE, scratch, wait_until};

const GET_SITE: &str = "tandem.site.v1.SiteService/GetSite";
const UPDATE_DNS: &str = "tandem.site.v1.SiteService/UpdateDns";

/// A controller with the managed subcloud `west`, online.
fn managed(dir: &Path) -> (Controller, Subcloud) {
    let home = dir.join("controller");
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::install(&home, site, Place::Loopback);
    // A stopped agent is not given up before the test is through with it.
    let settings = "heartbeat_interval_milliseconds = 5000\n";
    fs::write(home.join("settings.toml"), settings).expect("a settings file");
    controller.serve();
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let west = Subcloud::join(&dir.join("west"), site, &controller);
    let manage = ["dcmanager", "subcloud", "manage", "west"];
    controller.tandem(&manage).expect(0);
    (controller, west)
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn socket(state_dir: &Path) -> Target {
    Target::Unix(state_dir.join("operator.sock"))
}

fn for_west<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    let west = "west".parse().expect("metadata");
    request.metadata_mut().insert("tandem-subcloud", west);
    request
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

#[test]
fn a_subcloud_answers_and_refuses_as_on_its_own_socket() {
    let dir = scratch();
    let (controller, west) = managed(dir.path());
    // Operators see the same tables and previews.
    for line in [
        &["system", "network-list"][..],
        &["system", "addrpool-list", "-f", "json"],
        &["system", "site-show"],
        &[
            "system",
            "addrpool-add",
            "p",
            "10.77.0.0",
            "24",
            "--dry-run",
            "-c",
            "kind",
        ],
        &["system", "network-show", "nothing"],
    ] {
        let own = west.tandem(line);
        let remote = controller.tandem(&[line, &["--subcloud", "west"]].concat());
        let told = (remote.code, &remote.stdout, &remote.stderr);
        // But for what is advised, which is to be done there.
        let advised = (
            "`system network-list`",
            "`system network-list --subcloud west`",
        );
        let own_stderr = own.stderr.replace(advised.0, advised.1);
        assert_eq!(told, (own.code, &own.stdout, &own_stderr), "{line:?}");
    }
    controller
        .tandem(&[
            "system",
            "--subcloud",
            "west",
            "addrpool-add",
            "p",
            "10.77.0.0",
            "24",
        ])
        .expect(0);
    west.tandem(&["system", "addrpool-show", "p"]).expect(0);
    let own = controller.tandem(&["system", "addrpool-show", "p"]);
    own.expect(1).says("POOL_NOT_FOUND");
    let log = fs::read_to_string(dir.path().join("west/log")).expect("a log");
    assert!(log.contains("controller/local/uid-"), "{log}");

    // Tools that send the metadata with reflection too.
    let operators_of = socket(&controller.state_dir());
    for name in [
        "west".to_owned(),
        controller.show("west").expect("it")["id"].to_string(),
    ] {
        let header = format!("tandem-subcloud: {}", name.trim_matches('"'));
        let answer = grpcurl_with(&operators_of, &[&header], "20", GET_SITE, &json!({}));
        assert_eq!(answer.expect("an answer")["site"]["name"], "west");
    }
    assert!(services(&operators_of).is_ok());
    runtime().block_on(async {
        let there = operators(&controller.state_dir().join("operator.sock")).await;
        let here = operators(&west.state_dir().join("operator.sock")).await;
        same_refusals(&there, &here).await;
    });
}

/// Byte for byte, details included.
async fn same_refusals(there: &Channel, here: &Channel) {
    let pool = |name: &str, network: &str| CreateAddressPoolRequest {
        address_pool: Some(AddressPool {
            name: name.to_owned(),
            network: network.to_owned(),
            prefix: 24,
            ..AddressPool::default()
        }),
        request_id: format!("pool {name} {network}"),
        ..CreateAddressPoolRequest::default()
    };
    let (mut far, mut near) = (
        NetworkServiceClient::new(there.clone()),
        NetworkServiceClient::new(here.clone()),
    );
    for request in [pool("p", "10.78.0.0"), pool("", "10.0.0.1"), pool("q", "x")] {
        let remote = far.create_address_pool(for_west(request.clone())).await;
        let own = near.create_address_pool(request).await;
        same(
            &remote.expect_err("a refusal"),
            &own.expect_err("a refusal"),
        );
    }
    let network = GetNetworkRequest {
        network: "nowhere".to_owned(),
    };
    let remote = far.get_network(for_west(network.clone())).await;
    let own = near.get_network(network).await;
    same(
        &remote.expect_err("a refusal"),
        &own.expect_err("a refusal"),
    );
}

#[track_caller]
fn same(remote: &Status, own: &Status) {
    assert!(!own.details().is_empty(), "{own:?}");
    assert_eq!(
        (remote.code(), remote.message(), remote.details()),
        (own.code(), own.message(), own.details())
    );
}

#[test]
fn who_cannot_be_called_is_told_why() {
    let dir = scratch();
    let (controller, mut west) = managed(dir.path());
    controller.add("pending");
    let site = Bootstrap::subcloud("alone", 2, Stack::V6);
    let alone = Subcloud::join(&dir.path().join("alone"), site, &controller);
    let at = socket(&controller.state_dir());
    let check = |target: &Target, header: &str, method: &str, want: (i64, &str)| {
        let error = grpcurl_with(target, &[header], "20", method, &json!({}));
        let error: Box<GrpcError> = error.expect_err("must be refused");
        let got = (error.code, error.reason.as_str(), error.domain.as_str());
        assert_eq!(got, (Some(want.0), want.1, "tandem"), "{error:?}");
        let told = error
            .violations
            .iter()
            .any(|v| v.description.contains(" Remedy: "));
        assert!(told, "{error:?}");
    };
    let nobody = "tandem-subcloud: nobody";
    check(&at, nobody, GET_SITE, (5, "SUBCLOUD_NOT_FOUND"));
    let pending = "tandem-subcloud: pending";
    check(&at, pending, GET_SITE, (9, "SUBCLOUD_NOT_ENROLLED"));
    let unmanaged = "tandem-subcloud: alone";
    check(&at, unmanaged, GET_SITE, (9, "SUBCLOUD_UNMANAGED"));
    check(&at, unmanaged, UPDATE_DNS, (9, "SUBCLOUD_UNMANAGED"));
    let wanted = "tandem-subcloud: west";
    let fleet = "tandem.fleet.v1.SubcloudService/ListSubclouds";
    check(&at, wanted, fleet, (3, "SUBCLOUD_METADATA_MISPLACED"));
    let health = "grpc.health.v1.Health/Check";
    check(&at, wanted, health, (3, "SUBCLOUD_METADATA_MISPLACED"));
    let watch = "tandem.site.v1.SiteService/WatchSite";
    check(&at, wanted, watch, (12, "METHOD_NOT_REMOTE"));
    let empty = "tandem-subcloud: ";
    check(&at, empty, GET_SITE, (3, "SUBCLOUD_METADATA_INVALID"));
    let agent = socket(&alone.state_dir());
    check(&agent, wanted, GET_SITE, (9, "NOT_A_CONTROLLER"));

    let large = json!({"servers": ["x".repeat(1024 * 1024)]});
    let error = grpcurl_with(&at, &[wanted], "20", UPDATE_DNS, &large);
    assert_eq!(error.expect_err("too large").reason, "COMMAND_TOO_LARGE");
    controller
        .tandem(&["dcmanager", "subcloud", "list", "--subcloud", "west"])
        .expect(64);

    quarantine(&controller, &west, &alone);
    check(&at, wanted, GET_SITE, (9, "SUBCLOUD_QUARANTINED"));
    west.stop();
    let offline = grpcurl_with(&at, &[wanted], "20", GET_SITE, &json!({}));
    let offline = offline.expect_err("nobody is there");
    let reasons: BTreeSet<&str> = offline.violations.iter().map(|v| v.kind.as_str()).collect();
    assert!(reasons.contains("SUBCLOUD_OFFLINE"), "{offline:?}");
}

/// The subcloud would be in quarantine then, where no command could undo it.
#[test]
fn a_change_that_the_fleet_would_not_accept_is_not_sent() {
    let dir = scratch();
    let (controller, west) = managed(dir.path());
    let site = Bootstrap::subcloud("east", 2, Stack::V6);
    let east = Subcloud::join(&dir.path().join("east"), site, &controller);
    let move_to = |addresses: &Bootstrap, dry_run: bool| {
        let at = |host| addresses.address(Net::Link, Family::V6, host).to_string();
        let ranges = format!("{}-{}", at(50), at(60));
        let mut command = vec!["system", "addrpool-modify", "admin-ipv6", "--prefix", "64"];
        let (network, floating, gateway) = (at(0), at(50), at(1));
        command.extend(["--network", &network, "--ranges", &ranges]);
        command.extend([
            "--floating-address",
            &floating,
            "--gateway-address",
            &gateway,
        ]);
        command.extend(["--subcloud", "west"]);
        command.extend(dry_run.then_some("--dry-run"));
        controller.tandem(&command)
    };
    let before = controller.show("west").expect("it is there");
    for dry_run in [true, false] {
        let refused = move_to(&east.site, dry_run).expect(1);
        refused.says("ADDRESS_OVERLAP").says("east").says("remedy:");
    }
    let after = controller.show("west").expect("it is there");
    assert_eq!(before["generation"], after["generation"]);
    assert_eq!(after["sync"], "in-sync", "{after}");
    let pool = west.tandem(&["system", "addrpool-show", "admin-ipv6"]);
    let own = west.site.address(Net::Link, Family::V6, 0).to_string();
    assert!(pool.expect(0).stdout.contains(&own));
    // To addresses of its own it may go.
    let elsewhere = Bootstrap::subcloud("west", 3, Stack::V6);
    move_to(&elsewhere, true).expect(0);
}

/// The site takes addresses of another one's link network.
fn quarantine(controller: &Controller, west: &Subcloud, other: &Subcloud) {
    let at = |host| other.site.address(Net::Link, Family::V6, host).to_string();
    west.tandem(&[
        "system",
        "addrpool-modify",
        "admin-ipv6",
        "--network",
        &at(0),
        "--prefix",
        "64",
        "--ranges",
        &format!("{}-{}", at(50), at(60)),
        "--floating-address",
        &at(50),
        "--gateway-address",
        &at(1),
    ])
    .expect(0);
    controller.wait_for("west", "sync", "out-of-sync");
}

#[test]
fn an_agent_that_dies_at_work_leaves_a_change_that_can_be_asked_for_again() {
    let dir = scratch();
    let (mut controller, mut west) = managed(dir.path());
    let target = socket(&controller.state_dir());
    let own = |west: &Subcloud| {
        let shown = west.tandem(&["system", "site-show", "-f", "json"]);
        shown.expect(0).json()["generation"].clone()
    };
    let before = own(&west).as_u64().expect("a generation");
    signal("-STOP", &mut west);
    let server = west.site.address(Net::Oam, Family::V6, 9).to_string();
    let change = json!({"servers": [server], "requestId": "again"});
    let header = ["tandem-subcloud: west"];
    let waiting = start_with(&target, &header, "60", UPDATE_DNS, &change);
    let reasons = runtime().block_on(fill(&controller));
    assert!(reasons.contains("COMMAND_DEADLINE_EXCEEDED"), "{reasons:?}");
    west.kill();
    let lost = answer_of(&waiting.output()).expect_err("nobody answered");
    let told = (lost.code, lost.reason.as_str());
    assert_eq!(told, (Some(14), "COMMAND_OUTCOME_UNKNOWN"), "{lost:?}");
    assert_eq!(lost.metadata["requestId"], "again");

    west.serve();
    let mut answers = Vec::new();
    wait_until("the change is made", PATIENCE, || {
        let answer = grpcurl_with(&target, &header, "20", UPDATE_DNS, &change);
        answers.extend(answer);
        answers.len() == 2
    });
    assert_eq!(answers[0], answers[1], "one request, one answer");
    assert_eq!(own(&west).as_u64(), Some(before + 1), "made once");

    controller.stop();
    let store = Store::open(&controller.state_dir()).expect("the state");
    let entries = store.scan("audit/").expect("readable records");
    let entries = entries
        .iter()
        .map(|record| AuditRecord::decode(record.value.as_slice()).expect("an entry"));
    let entries: Vec<AuditRecord> = entries
        .filter(|entry| entry.action == "COMMAND UpdateDns" && entry.name == "west")
        .collect();
    assert!(entries.last().is_some_and(|first| first.sent));
    let ended = entries.iter().filter(|entry| !entry.sent);
    let outcomes: Vec<bool> = ended.map(|entry| entry.done).collect();
    // The newest first: a change whose outcome nobody knew, then the change, then its answer again.
    assert!(outcomes.starts_with(&[true, true]), "{outcomes:?}");
    assert_eq!(outcomes.last(), Some(&false), "{outcomes:?}");
}

#[test]
fn a_change_that_outlives_its_controller_is_in_the_audit_log() {
    let dir = scratch();
    let (mut controller, mut west) = managed(dir.path());
    let list = [
        "dcmanager",
        "audit",
        "list",
        "--action",
        "COMMAND UpdateDns",
    ];
    let told = |controller: &Controller| {
        let lines = controller.tandem(&[&list[..], &["-f", "csv"]].concat());
        let lines = lines.expect(0).stdout;
        let outcomes = lines.lines().filter(|line| line.contains("west"));
        let outcomes: Vec<String> = outcomes.map(str::to_owned).collect();
        outcomes
    };
    let server = west.site.address(Net::Oam, Family::V6, 9).to_string();
    let change = json!({"servers": [server]});
    signal("-STOP", &mut west);
    let target = socket(&controller.state_dir());
    let waiting = start_with(
        &target,
        &["tandem-subcloud: west"],
        "60",
        UPDATE_DNS,
        &change,
    );
    wait_until("the change is under way", PATIENCE, || {
        !told(&controller).is_empty()
    });
    controller.kill();
    answer_of(&waiting.output()).expect_err("nobody is there to answer");
    controller.serve();
    let entries = told(&controller);
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert!(entries[0].contains(",sent,"), "{entries:?}");
    signal("-CONT", &mut west);
}

/// Asks a stopped agent until it is given no more; the reasons on the way.
async fn fill(controller: &Controller) -> BTreeSet<String> {
    let channel = operators(&controller.state_dir().join("operator.sock")).await;
    let mut client = SiteServiceClient::new(channel);
    let mut reasons = BTreeSet::new();
    for _ in 0..=fleet::MAX_COMMANDS_PER_LINK {
        let mut request = for_west(GetSiteRequest {});
        request.set_timeout(Duration::from_millis(700));
        let refusal = client.get_site(request).await.expect_err("it is stopped");
        reasons.insert(reason(&refusal));
        if reasons.contains("TOO_MANY_COMMANDS") {
            return reasons;
        }
    }
    panic!("no limit: {reasons:?}");
}

#[track_caller]
fn signal(which: &str, subcloud: &mut Subcloud) {
    let mut command = Command::new("kill");
    command.args([which, &subcloud.daemon().id().to_string()]);
    run(command).expect(0);
}

#[test]
fn the_deadline_of_a_call_without_an_answer_is_that_of_its_caller() {
    let dir = scratch();
    let (controller, mut west) = managed(dir.path());
    signal("-STOP", &mut west);
    let answer = runtime().block_on(async {
        let channel = operators(&controller.state_dir().join("operator.sock")).await;
        let mut request = for_west(UpdateDnsRequest::default());
        request.set_timeout(Duration::from_secs(2));
        let answer = SiteServiceClient::new(channel).update_dns(request).await;
        answer.map(tonic::Response::into_inner)
    });
    let late: Result<UpdateDnsResponse, Status> = answer;
    let late = late.expect_err("it is stopped");
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(reason(&late), "COMMAND_DEADLINE_EXCEEDED");
    let info = late.get_details_error_info().expect("an ErrorInfo");
    assert!(!info.metadata["requestId"].is_empty(), "{late:?}");
    signal("-CONT", &mut west);
    let header = ["tandem-subcloud: west"];
    let target = socket(&controller.state_dir());
    wait_until("it answers again", PATIENCE, || {
        grpcurl_with(&target, &header, "20", GET_SITE, &json!({})).is_ok()
    });
}
