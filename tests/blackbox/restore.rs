//! A controller whose state was restored from a backup.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::peers::{done, wait_for_sync};
use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::{PATIENCE, scratch, wait_until};

/// A certificate that lives so long is renewed after eight to ten seconds.
const SETTINGS: &str = "heartbeat_interval_milliseconds = 500\ncertificate_validity_seconds = 16\n";

const GET: &str = "tandem.fleet.v1.SubcloudService/GetSubcloud";

#[test]
fn after_a_restore_agents_that_renewed_come_back_and_others_are_told_of() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::install(&dir.path().join("controller"), site, Place::Loopback);
    controller.replace_settings(SETTINGS);
    controller.serve();
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), site, &controller);

    controller.stop();
    let backup = dir.path().join("backup");
    copy(&controller.state_dir(), &backup);
    let before = {
        controller.serve();
        renewals(&controller)
    };
    wait_until("a renewal", PATIENCE, || renewals(&controller) > before);
    // A subcloud that the backup does not know.
    let site = Bootstrap::subcloud("east", 2, Stack::V6);
    let mut east = Subcloud::join(&dir.path().join("east"), site, &controller);

    controller.stop();
    fs::remove_dir_all(controller.state_dir()).expect("the state is lost");
    copy(&backup, &controller.state_dir());
    controller.serve();
    controller.wait_for("west", "availability", "online");
    wait_until("the event", PATIENCE, || {
        !controller.events("west", "CERTIFICATE_NEWER").is_empty()
    });
    let found = controller.events("west", "CERTIFICATE_NEWER");
    assert_eq!(found.len(), 1);
    let message = found[0]["message"].as_str().expect("a message");
    assert!(message.contains("restored from a backup"), "{message}");
    wait_until("east is told of", PATIENCE, || {
        controller.daemon().log_text().contains("not enrolled here")
            && east.daemon().log_text().contains("CERTIFICATE_REVOKED")
    });
    let told = "this controller's state is older than the certificate of a subcloud";
    assert_eq!(controller.daemon().log_text().matches(told).count(), 1);
    let told = "its controller was restored from an older backup";
    assert!(east.daemon().log_text().contains(told));

    // It is renewed again, and that is no copy.
    let back = renewals(&controller);
    wait_until("a renewal", PATIENCE, || renewals(&controller) > back);
    assert!(controller.events("west", "IDENTITY_CLONED").is_empty());
    assert!(west.daemon().is_running());

    // What was added after the backup is added again.
    east.stop();
    let added = controller.add("east");
    east.enroll(&added, &[]).expect(0);
    east.serve();
    controller.wait_for("east", "availability", "online");
}

/// Two sites that share groups, of which the first loses its state and gets that of a backup.
struct Peers {
    a: Controller,
    b: Controller,
}

impl Peers {
    fn start(dir: &Path) -> Self {
        let start = |name: &str, index: u8| {
            let site = Bootstrap::controller_of(name, index, Stack::V6);
            let mut site = Controller::install(&dir.join(name), site, Place::Loopback);
            site.set("failover_milliseconds = 5000\n");
            site.serve();
            site
        };
        let (a, b) = (start("a", 101), start("b", 102));
        let peer = |name: &str| {
            json!({"name": name, "heartbeatIntervalSeconds": 1, "failureThreshold": 2,
                   "failurePolicy": "FAILURE_POLICY_REHOME"})
        };
        let issued = done(&a, "IssuePeeringToken", &json!({"systemPeer": peer("b")}));
        let redeem = json!({"systemPeer": peer("a"), "token": issued["token"]});
        done(&b, "AddSystemPeer", &redeem);
        Self { a, b }
    }

    /// Makes a group at `a` and shares it.
    fn share(&self, group: &str, members: &[&str]) {
        let named = json!({"subcloudPeerGroup": {"name": group}});
        done(&self.a, "AddSubcloudPeerGroup", &named);
        self.join(group, members);
        let pair = json!({"subcloudPeerGroup": group, "systemPeer": "b", "peerPriority": 1});
        done(&self.a, "AddPeerGroupAssociation", &pair);
        self.wait_for_sync(group);
    }

    fn join(&self, group: &str, members: &[&str]) {
        let join = json!({"subcloudPeerGroup": group, "add": members});
        done(&self.a, "UpdateSubcloudPeerGroupMembers", &join);
    }

    fn wait_for_sync(&self, group: &str) {
        wait_for_sync(&self.a, group, "b");
        wait_for_sync(&self.b, group, "a");
    }

    /// Waits until a subcloud is online at the one site and its copy is at the other; it is never
    /// online at both meanwhile.
    fn wait_for_owner(&self, name: &str, owner: &str, epoch: u64) {
        let what = format!("{name} is {owner}'s in term {epoch}");
        let state = |site: &Controller| {
            let shown = site.grpcurl(GET, &json!({"subcloud": name}));
            let shown = shown.map_or(Value::Null, |mut shown| shown["subcloud"].take());
            (shown["availability"].clone(), shown["epoch"].clone())
        };
        let wanted = |availability: &str| (Value::from(availability), json!(epoch.to_string()));
        let (online, copy) = (
            wanted("AVAILABILITY_ONLINE"),
            wanted("AVAILABILITY_SECONDARY"),
        );
        wait_until(&what, PATIENCE, || {
            let (a, b) = (state(&self.a), state(&self.b));
            assert!(a != b || a.0 != online.0, "{name} has two owners: {a:?}");
            let (owns, copies) = if owner == "a" { (a, b) } else { (b, a) };
            owns == online && copies == copy
        });
    }
}

#[test]
fn a_peer_that_is_restored_learns_who_owns_what_and_no_subcloud_is_lost() {
    let dir = scratch();
    let mut peers = Peers::start(dir.path());
    let join = |peers: &Peers, name: &str, index: u8| {
        let site = Bootstrap::subcloud(name, index, Stack::V6);
        Subcloud::join(&dir.path().join(name), site, &peers.a)
    };
    let _before = [("lost", 1), ("moved", 2), ("left", 3)].map(|(name, n)| join(&peers, name, n));
    peers.share("shared", &["lost", "left"]);
    peers.share("second", &["moved"]);

    peers.a.stop();
    let backup = dir.path().join("backup");
    copy(&peers.a.state_dir(), &backup);
    peers.a.serve();
    for name in ["lost", "moved", "left"] {
        peers.wait_for_owner(name, "a", 1);
    }

    // What the backup does not know: a move, one that leaves its group, two that are new.
    let second = json!({"subcloudPeerGroup": "second"});
    peers.wait_for_sync("second");
    done(&peers.b, "MigrateSubcloudPeerGroup", &second);
    peers.wait_for_owner("moved", "b", 2);
    let leave = json!({"subcloudPeerGroup": "shared", "remove": ["left"]});
    done(&peers.a, "UpdateSubcloudPeerGroupMembers", &leave);
    let _taken = join(&peers, "taken", 4);
    let mut away = join(&peers, "away", 5);
    peers.join("shared", &["taken", "away"]);
    peers.wait_for_sync("shared");
    for name in ["taken", "away"] {
        peers.wait_for_owner(name, "a", 1);
    }

    // The site is lost, and the members of its group turn to the other; one of them is down.
    away.stop();
    peers.a.kill();
    fs::remove_dir_all(peers.a.state_dir()).expect("the state is lost");
    for name in ["lost", "taken"] {
        peers.b.wait_for(name, "availability", "online");
    }
    copy(&backup, &peers.a.state_dir());
    peers.a.serve();
    for group in ["shared", "second"] {
        peers.wait_for_sync(group);
    }
    // Who was taken over stays; who is new came with its owner; who left is as it was before.
    for (name, owner, epoch) in [
        ("lost", "b", 2),
        ("taken", "b", 2),
        ("moved", "b", 2),
        ("left", "a", 1),
    ] {
        peers.wait_for_owner(name, owner, epoch);
    }

    // Who was added after the backup, and has not found another owner, is added again; its record
    // of before is a copy at the other site, and deleted there.
    away.serve();
    wait_until("it is refused", PATIENCE, || {
        away.daemon().log_text().contains("CERTIFICATE_REVOKED")
    });
    away.stop();
    let delete = ["dcmanager", "subcloud", "delete", "away"];
    peers.b.tandem(&delete).expect(0);
    let added = peers.a.add("away");
    away.enroll(&added, &[]).expect(0);
    away.serve();
    peers.join("shared", &["away"]);
    peers.wait_for_owner("away", "a", 1);
    let shown = peers.b.grpcurl(GET, &json!({"subcloud": "away"}));
    assert_eq!(shown.expect("a copy")["subcloud"]["uuid"], added.id);

    // Everything goes on from there.
    done(&peers.a, "MigrateSubcloudPeerGroup", &second);
    peers.wait_for_owner("moved", "a", 3);
}

/// Copies a state directory, without its sockets.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the state") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

/// How often the certificate of west was renewed.
fn renewals(controller: &Controller) -> u64 {
    let answer = controller.grpcurl(GET, &json!({"subcloud": "west"}));
    let shown: Value = answer.expect("the subcloud")["subcloud"].clone();
    let count = shown["certificateRenewals"].as_str();
    count.map_or(0, |count| count.parse().expect("a number"))
}
