//! Two system controllers become peers by operators' commands: who may and who may not, every
//! reason of a refusal, and the one family that they speak over.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use fleet::{MAX_PEERS, Reason, ReasonSet as _};
use serde_json::{Value, json};

use crate::matrix::{Network, other};
use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::by_hand::ByHand;
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::grpcurl::GrpcError;
use crate::support::lab::Lab;
use crate::support::{PATIENCE, scratch, wait_until};

const PEERS: &str = "tandem.fleet.v1.PeerService";

/// Reasons of peers; each is provoked here.
pub(crate) const OF_PEERS: [Reason; 17] = [
    Reason::PeerUnreachable,
    Reason::PeerNotFound,
    Reason::PeerIsSelf,
    Reason::PeerExists,
    Reason::PeerTokenInvalid,
    Reason::PeerNotEstablished,
    Reason::PeerInUse,
    Reason::PeerLimit,
    Reason::PeerGroupNotFound,
    Reason::PeerGroupExists,
    Reason::AssociationNotFound,
    Reason::AssociationExists,
    Reason::SubcloudOwnedElsewhere,
    Reason::SubcloudInOtherGroup,
    Reason::MemberNotReady,
    Reason::MigrationRunning,
    Reason::NothingToMigrate,
];

/// The reasons that were given.
#[derive(Default)]
struct Seen(RefCell<BTreeSet<String>>);

impl Seen {
    /// Asks a controller; must be refused with this reason, in these words, and a remedy.
    #[track_caller]
    fn refused(
        &self,
        site: &Controller,
        method: &str,
        request: &Value,
        reason: Reason,
        words: &str,
    ) {
        let error = ask(site, method, request).expect_err("must be refused");
        assert_eq!(
            (error.reason.as_str(), error.domain.as_str()),
            (reason.name(), "tandem"),
            "{error:?}"
        );
        let texts = error.violations.iter().map(|rule| &rule.description);
        let mut texts = texts.chain(error.fields.iter().map(|(_, text)| text));
        let told = |text: &String| text.contains(words) && text.contains(" Remedy: ");
        assert!(texts.any(told), "no `{words}` in {error:?}");
        self.0.borrow_mut().insert(error.reason.clone());
    }
}

/// Calls the service of peers.
pub(crate) fn ask(
    site: &Controller,
    method: &str,
    request: &Value,
) -> Result<Value, Box<GrpcError>> {
    let service = if method == "UpdateSubcloud" {
        "tandem.fleet.v1.SubcloudService"
    } else {
        PEERS
    };
    site.grpcurl(&format!("{service}/{method}"), request)
}

/// Calls the service of peers; must succeed.
#[track_caller]
pub(crate) fn done(site: &Controller, method: &str, request: &Value) -> Value {
    ask(site, method, request).unwrap_or_else(|error| panic!("{method} {request}: {error:?}"))
}

/// A token for a peer that is called so.
#[track_caller]
fn token(site: &Controller, name: &str) -> String {
    let answer = done(
        site,
        "IssuePeeringToken",
        &json!({"systemPeer": {"name": name}}),
    );
    answer["token"].as_str().expect("a token").to_owned()
}

fn redeem(name: &str, token: &str) -> Value {
    json!({"systemPeer": {"name": name}, "token": token})
}

fn pair() -> Value {
    json!({"subcloudPeerGroup": "shared", "systemPeer": "east"})
}

fn group(name: &str) -> Value {
    json!({"subcloudPeerGroup": {"name": name}})
}

/// Waits until both sites have what the other told of a group.
#[track_caller]
pub(crate) fn wait_for_sync(site: &Controller, group: &str, peer: &str) {
    let wanted = json!({"subcloudPeerGroup": group, "systemPeer": peer});
    let mut last = Value::Null;
    wait_until(&format!("{group} is in sync with {peer}"), PATIENCE, || {
        last = ask(site, "GetPeerGroupAssociation", &wanted).unwrap_or_default();
        last["association"]["state"] == "ASSOCIATION_STATE_IN_SYNC"
    });
}

#[tokio::test]
async fn every_reason_of_peers_is_given() {
    let dir = scratch();
    let seen = Seen::default();
    let start = |name: &str, index| {
        let site = Bootstrap::controller_of(name, index, Stack::V6);
        Controller::start(&dir.path().join(name), site)
    };
    let (a, b) = (start("a", 101), start("b", 102));
    tokens(&seen, &a, &b, &mut start("c", 103));
    strangers(&seen, &a, &dir);

    let site = Bootstrap::subcloud("one", 1, Stack::V6);
    let mut one = Subcloud::join(&dir.path().join("one"), site, &a);
    groups(&seen, &a, &b);
    moves(&seen, &a, &b, &mut one);
    members_that_do_not_fit(&seen, &a, &b).await;

    let seen = seen.0.into_inner();
    for reason in OF_PEERS {
        assert!(seen.contains(reason.name()), "{}", reason.name());
    }
}

/// Tokens: what they are worth, to whom, and how often.
fn tokens(seen: &Seen, a: &Controller, b: &Controller, c: &mut Controller) {
    let words = "there is no system peer";
    let nobody = json!({"systemPeer": "nobody"});
    seen.refused(a, "GetSystemPeer", &nobody, Reason::PeerNotFound, words);
    let cut = redeem("west", "tp1_nothing");
    seen.refused(b, "AddSystemPeer", &cut, Reason::PeerTokenInvalid, "token");

    // The same request id gets the same token; another call is another token, and voids the first.
    let named = json!({"systemPeer": {"name": "east", "failurePolicy": "FAILURE_POLICY_REHOME"},
                       "requestId": "once"});
    let first = done(a, "IssuePeeringToken", &named);
    assert_eq!(done(a, "IssuePeeringToken", &named), first);
    let preview = json!({"systemPeer": {"name": "preview"}, "validateOnly": true});
    assert_eq!(done(a, "IssuePeeringToken", &preview)["token"], "");
    let listed = done(a, "ListSystemPeers", &json!({}));
    assert_eq!(listed["systemPeers"].as_array().map(Vec::len), Some(1));
    let void = first["token"].as_str().expect("a token").to_owned();
    let good = token(a, "east");
    let words = "not valid";
    let stale = redeem("west", &void);
    seen.refused(b, "AddSystemPeer", &stale, Reason::PeerTokenInvalid, words);

    let own = redeem("self", &good);
    seen.refused(a, "AddSystemPeer", &own, Reason::PeerIsSelf, "its own peer");
    done(a, "AddSubcloudPeerGroup", &group("shared"));
    let words = "has not presented";
    let early = json!({"subcloudPeerGroup": "shared", "systemPeer": "east", "peerPriority": 1});
    seen.refused(
        a,
        "AddPeerGroupAssociation",
        &early,
        Reason::PeerNotEstablished,
        words,
    );
    let mut preview = redeem("west", &good);
    preview["validateOnly"] = json!(true);
    done(b, "AddSystemPeer", &preview);
    done(b, "AddSystemPeer", &redeem("west", &good));
    let twice = redeem("west-2", &good);
    seen.refused(
        b,
        "AddSystemPeer",
        &twice,
        Reason::PeerExists,
        "is system peer west",
    );
    let stolen = redeem("west", &good);
    seen.refused(
        c,
        "AddSystemPeer",
        &stolen,
        Reason::PeerTokenInvalid,
        "not valid",
    );

    for number in 0..MAX_PEERS {
        token(c, &format!("peer-{number}"));
    }
    let more = json!({"systemPeer": {"name": "one-more"}});
    seen.refused(
        c,
        "IssuePeeringToken",
        &more,
        Reason::PeerLimit,
        "there are 32",
    );
    let lost = token(c, "peer-0");
    c.stop();
    let lost = redeem("lost", &lost);
    seen.refused(
        b,
        "AddSystemPeer",
        &lost,
        Reason::PeerUnreachable,
        "does not answer",
    );
}

/// Sites that cannot be peers of each other.
fn strangers(seen: &Seen, a: &Controller, dir: &tempfile::TempDir) {
    let token = token(a, "stranger");
    for (name, index, stack, reason) in [
        ("other", 104, Stack::V4First, Reason::PrimaryFamilyMismatch),
        ("twin", 101, Stack::V6, Reason::AddressOverlap),
    ] {
        let site = Bootstrap::controller_of(name, index, stack);
        let site = Controller::start(&dir.path().join(name), site);
        for preview in [true, false] {
            let mut request = redeem("a", &token);
            request["validateOnly"] = json!(preview);
            seen.refused(&site, "AddSystemPeer", &request, reason, "link");
        }
    }
}

/// What is shared, with whom, and whose it is.
fn groups(seen: &Seen, a: &Controller, b: &Controller) {
    let words = "already";
    let shared = group("shared");
    seen.refused(
        a,
        "AddSubcloudPeerGroup",
        &shared,
        Reason::PeerGroupExists,
        words,
    );
    let words = "there is no subcloud peer group";
    let unknown = json!({"subcloudPeerGroup": "unknown"});
    seen.refused(
        a,
        "GetSubcloudPeerGroup",
        &unknown,
        Reason::PeerGroupNotFound,
        words,
    );
    let words = "is not shared with";
    let missing = pair();
    seen.refused(
        a,
        "SyncPeerGroupAssociation",
        &missing,
        Reason::AssociationNotFound,
        words,
    );

    let joins = json!({"subcloudPeerGroup": "shared", "add": ["one"]});
    done(a, "UpdateSubcloudPeerGroupMembers", &joins);
    done(a, "AddSubcloudPeerGroup", &group("second"));
    let words = "is a member of";
    let second = json!({"subcloudPeerGroup": "second", "add": ["one"]});
    let method = "UpdateSubcloudPeerGroupMembers";
    seen.refused(a, method, &second, Reason::SubcloudInOtherGroup, words);
    let mut associate = pair();
    associate["peerPriority"] = json!(1);
    done(a, "AddPeerGroupAssociation", &associate);
    let words = "is shared with";
    seen.refused(
        a,
        "AddPeerGroupAssociation",
        &associate,
        Reason::AssociationExists,
        words,
    );
    let east = json!({"systemPeer": "east"});
    seen.refused(
        a,
        "DeleteSystemPeer",
        &east,
        Reason::PeerInUse,
        "shares shared",
    );

    // An etag of another state of the record is refused, and nothing is changed.
    let known = done(a, "GetSystemPeer", &east);
    let mut update = json!({"target": "east", "systemPeer": {"failureThreshold": 2},
                            "etag": known["systemPeer"]["etag"]});
    done(a, "UpdateSystemPeer", &update);
    update["systemPeer"]["failureThreshold"] = json!(9);
    let error = ask(a, "UpdateSystemPeer", &update).expect_err("a stale etag");
    assert_eq!(error.reason, "ETAG_MISMATCH", "{error:?}");
    update["etag"] = json!("");
    update["systemPeer"] = json!({"heartbeatIntervalSeconds": 601});
    let error = ask(a, "UpdateSystemPeer", &update).expect_err("out of bounds");
    assert_eq!(
        error.fields[0].0, "system_peer.heartbeat_interval_seconds",
        "{error:?}"
    );
    let now = done(a, "GetSystemPeer", &east);
    assert_eq!(now["systemPeer"]["failureThreshold"], 2, "{now}");

    // The other site has made the group and its side of the association by itself.
    wait_for_sync(a, "shared", "east");
    wait_for_sync(b, "shared", "west");
    b.wait_for("one", "availability", "secondary");
    let edit = json!({"target": "one", "subcloud": {"location": "here"}});
    let words = "obeys system controller west";
    seen.refused(
        b,
        "UpdateSubcloud",
        &edit,
        Reason::SubcloudOwnedElsewhere,
        words,
    );
    let migrate = json!({"subcloudPeerGroup": "shared"});
    let words = "obeys this site";
    seen.refused(
        a,
        "MigrateSubcloudPeerGroup",
        &migrate,
        Reason::NothingToMigrate,
        words,
    );
}

/// A group moves while its member is away, and no second move begins meanwhile.
fn moves(seen: &Seen, a: &Controller, b: &Controller, one: &mut Subcloud) {
    one.stop();
    let migrate = json!({"subcloudPeerGroup": "shared"});
    let mut preview = migrate.clone();
    preview["validateOnly"] = json!(true);
    let previewed = done(b, "MigrateSubcloudPeerGroup", &preview);
    assert_eq!(
        previewed["migration"]["remaining"],
        json!(["one"]),
        "{previewed}"
    );
    done(b, "MigrateSubcloudPeerGroup", &migrate);
    let words = "runs since";
    seen.refused(
        b,
        "MigrateSubcloudPeerGroup",
        &migrate,
        Reason::MigrationRunning,
        words,
    );
    one.serve();
    let mut last = Value::Null;
    wait_until("the member has come", PATIENCE, || {
        last = done(b, "GetMigration", &migrate);
        last["migration"]["state"] == "MIGRATION_STATE_COMPLETE"
    });
    assert_eq!(last["subcloudPeerGroup"]["ledHere"], true, "{last}");
    b.wait_for("one", "availability", "online");
    a.wait_for("one", "availability", "secondary");
    let groups = b.tandem(&[
        "dcmanager",
        "system-peer",
        "list-subcloud-peer-groups",
        "west",
    ]);
    assert!(groups.expect(0).stdout.contains("shared"));
}

/// A member whose addresses another subcloud of the taking site has: told at both sites, and it
/// keeps the whole group from moving.
async fn members_that_do_not_fit(seen: &Seen, a: &Controller, b: &Controller) {
    for (site, name) in [(b, "clash"), (a, "two")] {
        let by_hand = ByHand::of(&Bootstrap::subcloud(name, 2, Stack::V6));
        let added = site.add(name);
        by_hand.enroll(&added, false).await.expect("enrolled");
    }
    let joins = json!({"subcloudPeerGroup": "second", "add": ["two"]});
    done(a, "UpdateSubcloudPeerGroupMembers", &joins);
    let second = json!({"subcloudPeerGroup": "second", "systemPeer": "east", "peerPriority": 1});
    done(a, "AddPeerGroupAssociation", &second);
    let mut last = Value::Null;
    wait_until("the fault is told", PATIENCE, || {
        let named = json!({"subcloudPeerGroup": "second", "systemPeer": "east"});
        last = done(a, "GetPeerGroupAssociation", &named);
        last["association"]["state"] == "ASSOCIATION_STATE_FAILED"
    });
    let message = last["association"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("clash"), "{last}");
    let migrate = json!({"subcloudPeerGroup": "second"});
    let words = "could not be taken in";
    seen.refused(
        b,
        "MigrateSubcloudPeerGroup",
        &migrate,
        Reason::MemberNotReady,
        words,
    );
}

/// Every kind of controller with every kind: peers exactly on equal primary families, and not a
/// packet between them on the other family, although there is a route.
#[test]
fn peers_are_of_one_primary_family_and_use_no_other() {
    let dir = scratch();
    let network = Network(Rc::new(Lab::up(&dir.path().join("lab"))));
    let start = |side: &str, first: u8| -> Vec<Controller> {
        let kinds = (first..).zip(Stack::ALL);
        let start = |(index, kind): (u8, Stack)| {
            let name = format!("{side}-{}", kind.name());
            let site = Bootstrap::controller_of(&name, index, kind);
            let place: Place = network.give_both_families(&site);
            let mut site = Controller::install(&dir.path().join(&name), site, place);
            site.serve();
            site
        };
        kinds.map(start).collect()
    };
    let (west, east) = (start("west", 1), start("east", 11));
    for one in &west {
        for two in &east {
            let token = token(one, &two.site.name);
            let request = redeem(&one.site.name, &token);
            let outcome = ask(two, "AddSystemPeer", &request);
            if one.site.stack.primary() == two.site.stack.primary() {
                outcome.unwrap_or_else(|error| panic!("{}: {error:?}", two.site.name));
            } else {
                let error = outcome.expect_err("another primary family");
                assert_eq!(
                    error.reason,
                    Reason::PrimaryFamilyMismatch.name(),
                    "{error:?}"
                );
            }
        }
    }
    for site in west.iter().chain(&east) {
        let mut last = Value::Null;
        wait_until("two peers are there", PATIENCE, || {
            last = done(site, "ListSystemPeers", &json!({}));
            let peers = last["systemPeers"].as_array().expect("a list").iter();
            let well = peers.filter(|peer| {
                peer["availability"] == "PEER_AVAILABILITY_AVAILABLE"
                    && peer["synchronising"] == true
            });
            well.count() == 2
        });
    }
    for site in west.iter().chain(&east) {
        let (name, primary) = (&site.site.name, site.site.stack.primary());
        assert!(network.packets(name, primary) > 0, "{name} spoke");
        assert_eq!(
            network.packets(name, other(primary)),
            0,
            "the other family at {name}"
        );
    }
}
