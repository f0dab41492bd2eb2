//! Quarantine and its end, the fleet's alarms, and what of the controller's own networks its
//! subclouds would not survive: real daemons, seen through gRPC and the command line.

use serde_json::{Value, json};

use crate::support::bootstrap::{Bootstrap, Family, Net, Stack};
use crate::support::cloud::{Controller, Subcloud};
use crate::support::console::Metrics;
use crate::support::process::Output;
use crate::support::{PATIENCE, scratch, wait_for, wait_until};

/// The alarms that the controller lists, by number and entity.
#[track_caller]
pub(crate) fn alarms(controller: &Controller) -> Vec<Value> {
    let answer = controller.grpcurl("tandem.site.v1.SiteService/ListAlarms", &json!({}));
    let answer = answer.expect("the alarms");
    answer["alarms"].as_array().cloned().unwrap_or_default()
}

fn alarm(controller: &Controller, id: &str, entity: &str) -> Option<Value> {
    let mut all = alarms(controller).into_iter();
    all.find(|alarm| alarm["id"] == id && alarm["entity"] == entity)
}

/// Moves the admin pool of a subcloud to the addresses of this file's, whose ranges end there.
fn move_to(subcloud: &Subcloud, other: &Bootstrap) -> Output {
    let at = |host| other.address(Net::Link, Family::V6, host).to_string();
    modify(|arguments| subcloud.tandem(arguments), "admin-ipv6", &at)
}

fn modify(tandem: impl Fn(&[&str]) -> Output, pool: &str, at: &dyn Fn(u8) -> String) -> Output {
    let (network, gateway, floating) = (at(0), at(1), at(3));
    let ranges = format!("{floating}-{}", at(60));
    let line = [
        "system",
        "addrpool-modify",
        pool,
        "--network",
        &network,
        "--prefix",
        "64",
    ];
    let more = ["--ranges", &ranges, "--floating-address", &floating];
    let more = more.into_iter().chain(["--gateway-address", &gateway]);
    tandem(&line.into_iter().chain(more).collect::<Vec<_>>())
}

#[test]
fn a_quarantined_subcloud_has_an_alarm_and_returns_when_the_other_moves_away() {
    let dir = scratch();
    let home = |name: &str| dir.path().join(name);
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&home("controller"), site);
    let join = |name: &str, index, controller: &Controller| {
        let site = Bootstrap::subcloud(name, index, Stack::V6);
        Subcloud::join(&home(name), site, controller)
    };
    let west = join("west", 1, &controller);
    let east = join("east", 2, &controller);

    move_to(&west, &east.site).expect(0);
    let raised = || alarm(&controller, "280.101", "subcloud=west");
    let raised = wait_for("the alarm of west", PATIENCE, raised);
    let reason = raised["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("ADDRESS_OVERLAP") && reason.contains("east"),
        "{raised}"
    );
    assert_eq!(raised["severity"], "SEVERITY_MAJOR");
    let series = r#"tandem_alarms{id="280.101",severity="major"}"#;
    assert_eq!(Metrics::of(&mut controller).get(series), 1.0);
    let request = json!({"subcloud": "west"});
    let get = |controller: &Controller| {
        let answer = controller.grpcurl("tandem.fleet.v1.SubcloudService/GetSubcloud", &request);
        answer.expect("west")["subcloud"].clone()
    };
    let shown = get(&controller);
    assert_eq!(shown["refused"][0]["reason"], "ADDRESS_OVERLAP", "{shown}");
    assert_ne!(
        shown["quarantinedSinceMilliseconds"],
        Value::Null,
        "{shown}"
    );
    assert_eq!(
        shown["availability"], "AVAILABILITY_ONLINE",
        "the stream stays"
    );
    let listed = controller.tandem(&["system", "alarm-list"]).expect(0);
    assert!(listed.stdout.contains("280.101"), "{}", listed.stdout);
    let summary = ["dcmanager", "alarm", "summary", "-f", "csv"];
    let summary = controller.tandem(&summary).expect(0).stdout;
    assert!(summary.contains("\nwest,0,1,0,0,disabled"), "{summary}");
    assert!(summary.contains("\neast,0,0,0,0,disabled"), "{summary}");

    // It outlives the process, with the moment when it began.
    controller.kill();
    controller.serve();
    let after = alarm(&controller, "280.101", "subcloud=west");
    assert_eq!(after.as_ref(), Some(&raised));
    assert_eq!(Metrics::of(&mut controller).get(series), 1.0);
    controller.wait_for("west", "availability", "online");
    controller.wait_for("west", "sync", "out-of-sync");

    // The agent itself would try again only after five minutes.
    move_to(&east, &Bootstrap::subcloud("east", 3, Stack::V6)).expect(0);
    controller.wait_for("west", "sync", "in-sync");
    wait_until("the alarm goes", PATIENCE, || {
        alarm(&controller, "280.101", "subcloud=west").is_none()
    });
    assert_eq!(Metrics::of(&mut controller).get(series), 0.0);
    let told = |kind: &str| controller.events("west", kind).len();
    let told = ["QUARANTINED", "ALARM_RAISED", "RELEASED", "ALARM_CLEARED"].map(told);
    assert_eq!(told, [1; 4]);
}

#[test]
fn a_change_that_would_break_subclouds_is_refused_and_names_them_all() {
    let dir = scratch();
    let home = |name: &str| dir.path().join(name);
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&home("controller"), site);
    for (name, index) in [("west", 1), ("east", 2)] {
        let site = Bootstrap::subcloud(name, index, Stack::V6);
        let added = controller.add(name);
        let site = Subcloud::install(&home(name), site, crate::support::cloud::Place::Loopback);
        site.enroll(&added, &[]).expect(0);
    }
    let site = || {
        let answer = controller.grpcurl("tandem.site.v1.SiteService/GetSite", &json!({}));
        answer.expect("the site")
    };
    let before = site();

    // The oam network of the controller onto the link network of west.
    let west = Bootstrap::subcloud("west", 1, Stack::V6);
    let at = |host| west.address(Net::Link, Family::V6, host).to_string();
    for dry_run in [&["--dry-run"][..], &[]] {
        let tandem = |line: &[&str]| {
            let line: Vec<&str> = line.iter().chain(dry_run).copied().collect();
            controller.tandem(&line)
        };
        let refused = modify(tandem, "oam-ipv6", &at).expect(1);
        let said = &refused.stderr;
        assert!(said.contains("WOULD_BREAK_SUBCLOUDS"), "{said}");
        assert!(
            said.contains("subcloud west") && said.contains("F6"),
            "{said}"
        );
        assert!(!said.contains("east"), "{said}");
    }
    let lock = json!({"hostname": "controller-0"});
    let locked = controller.grpcurl("tandem.site.v1.SiteService/LockHost", &lock);
    locked.expect("locked");
    // Both would look for the controller where it no longer is.
    let elsewhere = controller
        .site
        .address(Net::Link, Family::V6, 3)
        .to_string();
    let pool = ["system", "addrpool-modify", "management-ipv6"];
    let moved = [&pool[..], &["--floating-address", &elsewhere]].concat();
    let refused = controller.tandem(&moved).expect(1);
    for said in [
        "WOULD_BREAK_SUBCLOUDS",
        "link-address",
        "subcloud west",
        "subcloud east",
    ] {
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    // Without mgmt nobody could reach the controller.
    let delete = "tandem.site.v1.NetworkService/DeleteNetwork";
    for validate_only in [true, false] {
        let request = json!({"network": "mgmt", "validateOnly": validate_only});
        let error = controller.grpcurl(delete, &request).expect_err("refused");
        assert_eq!(
            (error.code, error.reason.as_str()),
            (Some(9), "WOULD_BREAK_SUBCLOUDS")
        );
        assert_eq!(error.metadata["subclouds"], "east,west", "{error:?}");
        assert_eq!(error.metadata["rule"], "F3", "{error:?}");
        let named: Vec<&str> = error
            .violations
            .iter()
            .map(|found| &*found.subject)
            .collect();
        let expected = ["east", "west"]
            .map(|name| format!("subcloud:{name},controller:controller,network:mgmt"));
        assert_eq!(named, expected);
    }
    assert_eq!(site()["site"]["networks"], before["site"]["networks"]);
    assert_eq!(
        site()["site"]["addressPools"],
        before["site"]["addressPools"]
    );

    // Where nobody is, the oam network may go.
    let free = Bootstrap::subcloud("free", 9, Stack::V6);
    let at = |host| free.address(Net::Link, Family::V6, host).to_string();
    modify(|line| controller.tandem(line), "oam-ipv6", &at).expect(0);
    // And now nobody else may have it.
    let added = controller.add("late");
    let late = Bootstrap::subcloud("late", 9, Stack::V6);
    let late = Subcloud::install(&home("late"), late, crate::support::cloud::Place::Loopback);
    late.enroll(&added, &[]).expect(2).says("ADDRESS_OVERLAP");
}

#[test]
fn a_subcloud_that_cannot_have_the_controllers_networks_says_so_until_it_has_them() {
    let dir = scratch();
    let home = |name: &str| dir.path().join(name);
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&home("controller"), site);
    let join = |name: &str, index| {
        let site = Bootstrap::subcloud(name, index, Stack::V6);
        Subcloud::join(&home(name), site, &controller)
    };
    let (west, _east) = (join("west", 1), join("east", 2));
    for name in ["west", "east"] {
        let manage = ["dcmanager", "subcloud", "manage", name];
        controller.tandem(&manage).expect(0);
    }
    // Everybody has the present ones.
    let kept = r#"tandem_controller_networks_answers_total{outcome="kept"}"#;
    wait_until("both have answered", PATIENCE, || {
        Metrics::of(&mut controller).get(kept) >= 2.0
    });

    // The oam network of the controller onto a network inside west, of which nobody outside
    // knows: only west can tell.
    let inside = |host| {
        let address = west.site.address(Net::ClusterHost, Family::V6, host);
        address.to_string()
    };
    modify(|line| controller.tandem(line), "oam-ipv6", &inside).expect(0);
    let entity = "subcloud=west.controller-networks";
    let raised = wait_for("the alarm of west", PATIENCE, || {
        alarm(&controller, "280.002", entity)
    });
    let reason = raised["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("controller's networks are not in effect at west: ADDRESS_OVERLAP")
            && reason.contains("cluster-host"),
        "{raised}"
    );
    assert_ne!(raised["repair"], Value::Null, "{raised}");
    wait_until("east has them", PATIENCE, || {
        Metrics::of(&mut controller).get(kept) >= 3.0
    });
    let refused = r#"tandem_controller_networks_answers_total{outcome="refused"}"#;
    assert_eq!(Metrics::of(&mut controller).get(refused), 1.0);
    assert_eq!(alarms(&controller).len(), 1);

    // Where nobody is, both can have them.
    let free = Bootstrap::subcloud("free", 9, Stack::V6);
    let at = |host| free.address(Net::Oam, Family::V6, host).to_string();
    modify(|line| controller.tandem(line), "oam-ipv6", &at).expect(0);
    wait_until("the alarm goes", PATIENCE, || {
        alarm(&controller, "280.002", entity).is_none()
    });
    let pools = west
        .tandem(&["system", "addrpool-list", "-f", "csv"])
        .expect(0);
    let subnet = at(0);
    assert!(
        pools.stdout.contains(subnet.trim_end_matches("::")),
        "{}",
        pools.stdout
    );
}
