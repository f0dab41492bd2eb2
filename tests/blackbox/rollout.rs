//! Rollouts on real subclouds: previewed, run, paused, aborted, and through `kill -9`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fleet::{Reason, ReasonSet as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use subcloud_agent::LinkState;
use tokio::sync::watch;

use crate::alarms::alarms;
use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::client::operators;
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::crowd::{self, Crowd, Member};
use crate::support::process::Output;
use crate::support::{PATIENCE, pause, repository, scale, scratch, wait_until};

const ROLLOUTS: &str = "tandem.fleet.v1.RolloutService";

/// Adds a secondary IPv6 pool to admin networks.
const TEMPLATE: &str = "deploy/examples/rollout-admin-ipv6.yaml";

/// The template, as a line of options.
fn template() -> String {
    repository(TEMPLATE).display().to_string()
}

#[track_caller]
fn rollout(controller: &Controller, arguments: &[&str]) -> Output {
    let mut all = vec!["dcmanager", "network-rollout"];
    all.extend(arguments);
    controller.tandem(&all)
}

/// The rollout of a number.
#[track_caller]
fn shown(controller: &Controller, number: u64) -> Value {
    rollout(controller, &["show", &number.to_string(), "-f", "json"])
        .expect(0)
        .json()
}

/// A property of each subcloud of a rollout, in their order.
#[track_caller]
fn of_members(controller: &Controller, number: u64, property: &str) -> Vec<String> {
    let number = number.to_string();
    let listed = rollout(controller, &["show", &number, "--subclouds", "-f", "json"]);
    let listed = listed.expect(0).json();
    let members = listed.as_array().expect("a list").iter();
    members
        .map(|member| match &member[property] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect()
}

#[track_caller]
fn created(output: Output) -> u64 {
    output.expect(0).json()["number"]
        .as_u64()
        .expect("a number")
}

#[track_caller]
fn wait_for_state(controller: &Controller, number: u64, state: &str) {
    wait_until(
        &format!("rollout {number} is {state}"),
        2 * PATIENCE,
        || shown(controller, number)["state"] == state,
    );
}

fn manage(controller: &Controller, name: &str) {
    controller
        .tandem(&["dcmanager", "subcloud", "manage", name])
        .expect(0);
}

/// `NETWORK=SUBNET` of each pool that the controller knows of a subcloud.
#[track_caller]
fn pools(controller: &Controller, name: &str) -> String {
    controller.show(name).expect("a subcloud")["pools"].to_string()
}

/// A controller and subclouds of one family, none of them managed.
fn fleet(dir: &Path, names: &[&str]) -> (Controller, Vec<Subcloud>) {
    let site = Bootstrap::controller(Stack::V4);
    let controller = Controller::start(&dir.join("controller"), site);
    let subclouds = (1..)
        .zip(names)
        .map(|(index, name)| {
            let site = Bootstrap::subcloud(name, index, Stack::V4);
            Subcloud::join(&dir.join(name), site, &controller)
        })
        .collect();
    (controller, subclouds)
}

fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("a file");
    path
}

#[test]
fn a_rollout_is_previewed_paused_resumed_and_aborted() {
    let dir = scratch();
    let (controller, _subclouds) = fleet(dir.path(), &["east", "north", "west"]);
    let added = controller.add("unborn");
    let template = template();
    let create = [
        "create",
        "--select",
        "all",
        "--network",
        "admin",
        "--template",
        &template,
    ];

    // The preview has a line for each effect, and changes nothing.
    let dry = [&create[..], &["--dry-run", "-f", "json"]].concat();
    let preview = rollout(&controller, &dry).expect(0).json();
    let lines = preview.as_array().expect("lines");
    let of = |name: &str, key: &str| -> Vec<String> {
        let lines = lines.iter().filter(|line| line["subcloud"] == name);
        lines
            .map(|line| line[key].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert!(
        of("west", "outcome")
            .iter()
            .all(|outcome| outcome == "change"),
        "{preview}"
    );
    let kinds = of("west", "kind");
    assert_eq!(kinds[0], "WAITS");
    assert!(
        kinds.iter().any(|kind| kind == "CONFIGURE_NETWORK"),
        "{kinds:?}"
    );
    assert_eq!(of("west", "subnet")[0], "fd00:10:0:4::/64");
    assert_eq!(of("unborn", "kind"), [Reason::SubcloudNotEnrolled.name()]);
    assert!(
        rollout(&controller, &["list", "-f", "value"])
            .expect(0)
            .stdout
            .is_empty()
    );

    // A group is a selection, and so is a part of it.
    let group = |args: &[&str]| controller.tandem(&[&["dcmanager"][..], args].concat());
    group(&["subcloud-group", "add", "coast"]).expect(0);
    for member in ["east", "unborn"] {
        group(&["subcloud", "update", member, "--group", "coast"]).expect(0);
    }
    // A group that lets fewer be worked on than the rollout would slows it down.
    group(&[
        "subcloud-group",
        "update",
        "coast",
        "--update-apply-type",
        "serial",
    ])
    .expect(0);
    group(&["subcloud", "update", "west", "--group", "coast"]).expect(0);
    let slowed = rollout(&controller, &dry).expect(0);
    assert!(
        slowed
            .stderr
            .contains("of the 2 subclouds of group coast at most 1 are worked on at a time"),
        "{}",
        slowed.stderr
    );
    group(&["subcloud", "update", "west", "--group", "Default"]).expect(0);
    for (narrowed, selected) in [
        (&[][..], &["east", "unborn"][..]),
        (&["--select", "east,west"], &["east"]),
    ] {
        let group = ["--group", "coast", "--dry-run", "-f", "json"];
        let of_group = [
            &["create", "--network", "admin", "--template", &template],
            narrowed,
            &group,
        ];
        let preview = rollout(&controller, &of_group.concat()).expect(0).json();
        let lines = preview.as_array().expect("lines");
        let names: BTreeSet<_> = lines
            .iter()
            .filter_map(|line| line["subcloud"].as_str())
            .collect();
        assert_eq!(names, selected.iter().copied().collect(), "{preview}");
    }
    let nowhere = [&dry[..], &["--group", "nowhere"]].concat();
    rollout(&controller, &nowhere)
        .expect(1)
        .says(Reason::SubcloudGroupNotFound.name());

    // Nobody is managed: everybody waits, and a paused rollout takes up nobody who becomes ready.
    let slow = [&create[..], &["--max-parallel", "1", "-f", "json"]].concat();
    let number = created(rollout(&controller, &slow));
    let waits = of_members(&controller, number, "waits_for");
    assert_eq!(waits, ["unmanaged", "unmanaged", "null", "unmanaged"]);
    let text = number.to_string();
    rollout(&controller, &["pause", &text]).expect(0);
    manage(&controller, "west");
    pause(std::time::Duration::from_millis(500));
    assert_eq!(shown(&controller, number)["state"], "paused");
    assert_eq!(of_members(&controller, number, "state")[3], "pending");
    assert!(!pools(&controller, "west").contains("fd00:10"));

    rollout(&controller, &["resume", &text]).expect(0);
    wait_until("west is done", PATIENCE, || {
        of_members(&controller, number, "state")[3] == "done"
    });
    wait_until("west has reported it", PATIENCE, || {
        pools(&controller, "west").contains("admin=fd00:10:0:4::/64")
    });
    rollout(&controller, &["abort", &text, "--dry-run"])
        .expect(0)
        .says("nothing was changed");
    rollout(&controller, &["abort", &text]).expect(0);
    wait_for_state(&controller, number, "aborted");
    let states = of_members(&controller, number, "state");
    assert_eq!(states, ["skipped", "skipped", "skipped", "done"]);
    for (states, expected) in [
        ("done", &["west"][..]),
        ("refused,failed", &[]),
        ("done,skipped", &["east", "north", "unborn", "west"]),
    ] {
        let narrowed = [
            "show",
            &text,
            "--subclouds",
            "--state",
            states,
            "-f",
            "json",
        ];
        let listed = rollout(&controller, &narrowed).expect(0).json();
        let listed = listed.as_array().expect("a list").iter();
        let names: Vec<_> = listed.map(|member| member["subcloud"].clone()).collect();
        assert_eq!(names, expected, "{states}");
    }
    // That narrows the list of subclouds only.
    rollout(&controller, &["show", &text, "--state", "done"]).expect(64);
    // What is aborted begins nobody, also when it becomes ready.
    manage(&controller, "east");
    pause(std::time::Duration::from_millis(300));
    assert!(!pools(&controller, "east").contains("fd00:10"));
    drop(added);
}

#[test]
fn tables_removals_and_refusals() {
    let dir = scratch();
    let (controller, subclouds) = fleet(dir.path(), &["east", "west"]);
    for name in ["east", "west"] {
        manage(&controller, name);
    }
    let table = file(
        dir.path(),
        "pools.csv",
        "subcloud,name,subnet\nwest,admin6,fd00:77:2::/64\neast,admin6,fd00:77:1::/64\n",
    );
    let table = table.display().to_string();
    let create = [
        "create",
        "--network",
        "admin",
        "--table",
        &table,
        "--wait",
        "-f",
        "json",
    ];
    let output = rollout(&controller, &create).expect(0);
    assert!(
        output.stderr.contains("2 of 2: 2 done"),
        "{}",
        output.stderr
    );
    let number = output.json()["number"].as_u64().expect("a number");
    assert_eq!(of_members(&controller, number, "changed"), ["true", "true"]);
    for subcloud in &subclouds {
        let pools = subcloud.tandem(&["system", "addrpool-list"]).expect(0);
        assert!(pools.stdout.contains("admin6"), "{}", pools.stdout);
    }
    // Again: it is so already, and nothing is sent.
    wait_until("both have reported it", PATIENCE, || {
        ["east", "west"]
            .iter()
            .all(|name| pools(&controller, name).contains("fd00:77"))
    });
    let again = created(rollout(&controller, &create));
    assert_eq!(
        of_members(&controller, again, "changed"),
        ["false", "false"]
    );

    let remove = [
        "create",
        "--select",
        "all",
        "--network",
        "admin",
        "--action",
        "remove",
    ];
    let remove = [&remove[..], &["--delete-pools", "--wait", "-f", "json"]].concat();
    let removed = created(rollout(&controller, &remove));
    assert_eq!(shown(&controller, removed)["done"], 2);
    for subcloud in &subclouds {
        let pools = subcloud.tandem(&["system", "addrpool-list"]).expect(0);
        assert!(!pools.stdout.contains("admin6"), "{}", pools.stdout);
    }
    refusals(dir.path(), &controller);
}

/// The reasons of rollouts, each from the service itself.
fn refusals(dir: &Path, controller: &Controller) {
    // A template that gives both the same subnet: the second is refused, and that pauses.
    let same = file(dir, "same.yaml", "name: six\nsubnet: fd00:88::/64\n");
    let same = same.display().to_string();
    let west = ["subcloud", "unmanage", "west"];
    controller
        .tandem(&[&["dcmanager"], &west[..]].concat())
        .expect(0);
    controller
        .tandem(&["dcmanager", "subcloud", "unmanage", "east"])
        .expect(0);
    let create = [
        "create",
        "--select",
        "all",
        "--network",
        "admin",
        "--template",
        &same,
    ];
    let careful = [&create[..], &["--max-failures", "1", "-f", "json"]].concat();
    let paused = created(rollout(controller, &careful));
    let known = controller
        .grpcurl(
            &format!("{ROLLOUTS}/GetRollout"),
            &json!({"number": paused}),
        )
        .expect("the rollout");
    let because = &known["rollout"]["pausedBecause"]["reason"];
    assert_eq!(because, Reason::RolloutPaused.name(), "{known}");
    let reasons = of_members(controller, paused, "reason");
    assert_eq!(reasons, ["null", "ADDRESS_OVERLAP"]);

    let text = paused.to_string();
    rollout(controller, &["abort", &text]).expect(0);
    let closed = rollout(controller, &["resume", &text]).expect(1);
    closed.says(Reason::RolloutClosed.name());
    rollout(controller, &["show", "999"])
        .expect(1)
        .says(Reason::RolloutNotFound.name());

    // One subcloud that is not ready keeps rollouts open.
    let open = [
        "create",
        "--select",
        "east",
        "--network",
        "admin",
        "--template",
        &same,
    ];
    for _ in 0..fleet::MAX_OPEN_ROLLOUTS {
        rollout(controller, &open).expect(0);
    }
    let full = rollout(controller, &open).expect(1);
    full.says(Reason::TooManyRollouts.name());

    // Every fault of a request and its template at once.
    let bad = json!({
        "network": "lan", "action": "ROLLOUT_ACTION_ADD", "maxParallel": 1,
        "selector": {"all": true}, "template": "bmFtZTogIntub30iCg==",
    });
    let error = controller.grpcurl(&format!("{ROLLOUTS}/CreateRollout"), &bad);
    let fields = error.expect_err("refused").fields;
    let fields: Vec<_> = fields.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["network", "template"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_survives_kill_9_and_changes_every_subcloud_once() {
    let dir = scratch();
    let agents = u16::try_from(30 * scale()).expect("a small number");
    let (kills, parallel) = (3 + 7 * (scale() / 10), (2 * scale()).to_string());
    let site = Bootstrap::controller(Stack::V4);
    let mut controller = Controller::install(&dir.path().join("c"), site, Place::Loopback);
    controller.replace_settings("heartbeat_interval_milliseconds = 5000\n");
    controller.serve();
    let channel = operators(&controller.state_dir().join("operator.sock")).await;
    let crowd = Crowd::serve(crowd::enroll(crowd::installed(&channel, agents).await).await);
    crowd.in_sync(PATIENCE * 4).await;
    for member in &crowd.members {
        manage(&controller, &member.name);
    }
    wait_until("the state of all is known", PATIENCE, || {
        generations(&controller).len() == usize::from(agents)
    });
    let before = generations(&controller);
    let template = template();
    let create = [
        "create",
        "--select",
        "all",
        "--network",
        "admin",
        "--template",
        &template,
        "--max-parallel",
        &parallel,
        "-f",
        "json",
    ];
    let number = created(rollout(&controller, &create));
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..kills {
        // Right away, or in the middle of the next members.
        pause(std::time::Duration::from_millis(random.random_range(0..60)));
        let known = shown(&controller, number);
        let acknowledged = acknowledged(&crowd);
        controller.kill();
        controller.serve();
        let now = shown(&controller, number);
        let done = |shown: &Value| shown["done"].as_u64().expect("a count");
        assert!(
            done(&now) >= done(&known),
            "a result was lost: {known} then {now}"
        );
        let kept = generations(&controller);
        for (name, generation) in acknowledged {
            assert!(kept[&name] >= generation, "a report of {name} was lost");
        }
        if now["state"] != "finished" {
            wait_until("somebody is back and done", 2 * PATIENCE, || {
                let next = shown(&controller, number);
                done(&next) > done(&now) || next["state"] == "finished"
            });
        }
    }
    wait_until("the rollout is finished", PATIENCE * 4, || {
        shown(&controller, number)["state"] == "finished"
    });
    let finished = shown(&controller, number);
    assert_eq!(finished["done"], agents, "{finished}");
    // Each agent waits a little longer after each attempt that failed.
    crowd.online(PATIENCE * 4).await;
    for member in &crowd.members {
        controller.wait_for(&member.name, "stack", "dual");
    }
    // One step more for each of the two commands, and not one for a repeated one.
    let after = generations(&controller);
    for (name, generation) in before {
        assert_eq!(after[&name], generation + 2, "{name}");
    }
    assert!(controller.events("", "OFFLINE").is_empty());
    let offline = alarms(&controller).into_iter();
    let offline: Vec<_> = offline.filter(|alarm| alarm["id"] == "280.001").collect();
    assert!(offline.is_empty(), "nobody was away for long: {offline:?}");
}

#[test]
fn a_change_that_is_long_not_in_effect_is_an_alarm_until_it_is_not_wanted_any_more() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V4);
    let mut controller = Controller::install(&dir.path().join("c"), site, Place::Loopback);
    controller.replace_settings("heartbeat_interval_milliseconds = 500\n");
    controller.serve();
    let site = Bootstrap::subcloud("west", 1, Stack::V4);
    let mut west = Subcloud::join(&dir.path().join("west"), site, &controller);
    manage(&controller, "west");
    controller.wait_for("west", "sync", "in-sync");
    west.kill();
    controller.wait_for("west", "availability", "offline");
    let template = template();
    let create = ["create", "--select", "west", "--network", "admin"];
    let create = [&create[..], &["--template", &template, "-f", "json"]].concat();
    let number = created(rollout(&controller, &create));
    let raised = || {
        let entity = format!("subcloud=west.rollout={number}");
        let mut all = alarms(&controller).into_iter();
        all.any(|alarm| alarm["id"] == "280.002" && alarm["entity"] == entity)
    };
    wait_until("280.002 of west is raised", PATIENCE, raised);
    rollout(&controller, &["abort", &number.to_string()]).expect(0);
    wait_until("280.002 of west is cleared", PATIENCE, || !raised());
}

/// The generation that each agent knows to be kept by the controller.
fn acknowledged(crowd: &Crowd) -> Vec<(String, u64)> {
    let of = |(member, state): (&Member, &watch::Receiver<LinkState>)| {
        let acknowledged = state.borrow().acknowledged;
        acknowledged.map(|generation| (member.name.clone(), generation.0))
    };
    let each = crowd.members.iter().zip(&crowd.states);
    each.filter_map(of).collect()
}

/// The generation that the controller has of each subcloud.
fn generations(controller: &Controller) -> BTreeMap<String, u64> {
    let listed = controller.grpcurl(
        "tandem.fleet.v1.SubcloudService/ListSubclouds",
        &json!({"pageSize": 1000}),
    );
    let listed = listed.expect("the subclouds");
    let subclouds = listed["subclouds"].as_array().expect("a list").iter();
    subclouds
        .filter_map(|subcloud| {
            let name = subcloud["name"].as_str().expect("a name").to_owned();
            let generation = subcloud["generation"].as_str()?.parse();
            Some((name, generation.expect("a number")))
        })
        .collect()
}
