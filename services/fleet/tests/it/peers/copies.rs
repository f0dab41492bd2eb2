//! Copies of subclouds whose owner is lost, or no longer shares their group.

use fleet::{AddSubcloud, Candidate, FleetChange, Footprint, Operate, SubcloudId};

use super::sharing::{dissociate, meet, part, shared};
use super::*;

fn delete(node: &mut Node, now: Timestamp) -> Result<(), Rejection> {
    let call = Operate {
        request: RequestId(77),
        actor: Actor::Operator("uid=0".to_owned()),
        change: FleetChange::Delete {
            subcloud: "west".to_owned(),
            etag: String::new(),
        },
        key: None,
        validate_only: false,
    };
    let outputs = settle(&mut node.machine, now, Input::Operate(call));
    crate::common::answer(outputs).map(drop)
}

/// A subcloud of `a` that is added and enrolled in the place of one that was deleted, and joins the
/// group.
fn add_anew(a: &mut Node, now: Timestamp, name: &str) -> SubcloudId {
    settle(&mut a.machine, now, Input::AddSubcloud(add(9, name)));
    let site = site(name, 1, "6");
    let outputs = settle(&mut a.machine, now, Input::Enroll(enroll(9, &site)));
    crate::common::answer(outputs).expect("its addresses are free");
    let join = PeerAction::SetMembers {
        group: GROUP.to_string(),
        add: vec![name.to_owned()],
        remove: Vec::new(),
    };
    a.ask(now, join).expect("it is enrolled");
    a.machine.fleet().by_name(name).expect("it was added").id
}

/// What alarm 280.006 says at a site.
fn refusals(node: &Node) -> Vec<&str> {
    let alarms = node.machine.peer_alarms();
    let refused = alarms.filter(|alarm| alarm.id == "280.006");
    refused.map(|alarm| alarm.text.as_str()).collect()
}

fn take_out(node: &mut Node, now: Timestamp) -> Result<(), Rejection> {
    let leave = PeerAction::SetMembers {
        group: GROUP.to_string(),
        add: Vec::new(),
        remove: vec!["west".to_owned()],
    };
    node.ask(now, leave).map(drop)
}

/// The site that replaces a lost one: its name, its region, its addresses.
fn replace(node: &mut Node, now: Timestamp) -> Result<SubcloudId, Rejection> {
    let footprint = Footprint::of(&site("west", 1, "6").to_parts());
    let anew = AddSubcloud {
        declared: Some(Box::new(Candidate::declared(footprint))),
        ..add(9, "west")
    };
    let outputs = settle(&mut node.machine, now, Input::AddSubcloud(anew));
    crate::common::answer(outputs).map(|receipt| receipt.subcloud.id)
}

/// How the owner stopped sharing.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// It burned down; the operator here ends what was shared.
    Burned,
    /// The same, and the peer is deleted as well.
    Forgotten,
    /// Its operator ended the association.
    Withdrawn,
}

fn lose(loss: Loss) -> (Node, Node, SubcloudId) {
    let (mut a, mut b, id) = sharing();
    if let Loss::Withdrawn = loss {
        a.ask(at(3), dissociate("b")).expect("done");
        meet(&mut a, &mut b, 4);
        part(&mut a, &mut b, at(6));
        return (a, b, id);
    }
    part(&mut a, &mut b, at(3));
    b.ask(at(4), dissociate("a")).expect("as the remedy says");
    if let Loss::Forgotten = loss {
        let peer = "a".to_owned();
        b.ask(at(5), PeerAction::DeletePeer { peer })
            .expect("nothing is shared");
    }
    (a, b, id)
}

#[test]
fn a_copy_stays_while_its_owner_shares_it_and_the_remedy_is_told() {
    let (mut a, mut b, id) = sharing();
    part(&mut a, &mut b, at(3));
    let refused = [delete(&mut b, at(4)), take_out(&mut b, at(4))];
    for refused in refused {
        assert_eq!(reasons(&refused), ["SUBCLOUD_OWNED_ELSEWHERE"]);
        let remedy = refused.unwrap_err().first().remedy.clone();
        let first = "first `tandem dcmanager peer-group-association delete shared a`";
        assert!(remedy.ends_with(first), "{remedy}");
    }
    // Others than those who part with it are sent to the owner alone.
    let join = PeerAction::SetMembers {
        group: GROUP.to_string(),
        add: vec!["west".to_owned()],
        remove: Vec::new(),
    };
    let refused = b.ask(at(4), join).expect_err("it is another's");
    assert!(!refused.first().remedy.contains("association"));
    assert!(b.machine.fleet().subcloud(id).is_some());
}

#[test]
fn a_copy_whose_owner_is_lost_can_be_deleted_and_its_site_replaced() {
    for loss in [Loss::Burned, Loss::Forgotten, Loss::Withdrawn] {
        for out_first in [false, true] {
            let (_, mut b, id) = lose(loss);
            let taken = replace(&mut b, at(7));
            assert_eq!(reasons(&taken)[0], "SUBCLOUD_NAME_TAKEN", "{loss:?}");
            if out_first {
                take_out(&mut b, at(7)).unwrap_or_else(|refusal| panic!("{loss:?}: {refusal}"));
                let record = b.machine.fleet().subcloud(id).expect("it is kept");
                assert_eq!(record.geo.group, None);
            }
            delete(&mut b, at(8)).unwrap_or_else(|refusal| panic!("{loss:?}: {refusal}"));
            replace(&mut b, at(9)).unwrap_or_else(|refusal| panic!("{loss:?}: {refusal}"));
            if let Loss::Withdrawn = loss {
                b.ask(at(10), dissociate("a")).expect("it has ended");
            }
            let group = GROUP.to_string();
            b.ask(at(11), PeerAction::DeleteGroup { group })
                .unwrap_or_else(|refusal| panic!("{loss:?}: {refusal}"));
        }
    }
}

#[test]
fn an_owner_that_comes_back_keeps_its_own_and_tells_nothing_of_what_is_shared_no_more() {
    for out_first in [false, true] {
        let (mut a, mut b, id) = lose(Loss::Burned);
        if out_first {
            take_out(&mut b, at(7)).expect("done");
        }
        delete(&mut b, at(8)).expect("done");
        meet(&mut a, &mut b, 10);
        assert_eq!(shared(&a, &b), [false, false]);
        assert!(b.machine.fleet().subcloud(id).is_none());
        let own = a.machine.fleet().subcloud(id).expect("it is its own");
        assert!(own.owned_here() && own.geo.group == Some(GROUP));
    }
}

#[test]
fn a_copy_that_was_taken_out_comes_back_when_the_group_is_shared_again() {
    let (mut a, mut b, id) = lose(Loss::Burned);
    take_out(&mut b, at(7)).expect("done");
    meet(&mut a, &mut b, 10);
    a.ask(at(13), dissociate("b")).expect("it has ended");
    let again = PeerAction::Associate {
        group: GROUP.to_string(),
        peer: "b".to_owned(),
        peer_priority: 1,
    };
    a.ask(at(14), again).expect("shared again");
    later(&mut a, &mut b, at(16));
    later(&mut a, &mut b, at(17));
    let record = b.machine.fleet().subcloud(id).expect("it is kept");
    assert_eq!(record.geo.group, Some(GROUP));
    assert_eq!(record.geo.owner, Some(a.config.id));
}

/// A copy of what its owner deleted has the name or the addresses of its successor. Nothing is
/// deleted on a peer's word, so both sites raise an alarm until an operator has deleted the copy.
#[test]
fn a_copy_of_what_its_owner_deleted_is_in_the_way_until_it_is_deleted() {
    for (name, away) in [
        ("west", false),
        ("west", true),
        ("west-2", false),
        ("west-2", true),
    ] {
        let (mut a, mut b, old) = sharing();
        if away {
            part(&mut a, &mut b, at(3));
        }
        delete(&mut a, at(4)).expect("it is not managed");
        if !away {
            later(&mut a, &mut b, at(6));
        }
        let new = add_anew(&mut a, at(8), name);
        if away {
            meet(&mut a, &mut b, 10);
        } else {
            later(&mut a, &mut b, at(10));
            later(&mut a, &mut b, at(11));
        }
        let copy = b.machine.fleet().subcloud(old).expect("b keeps it");
        assert_eq!(copy.geo.group, None, "{name} {away}");
        assert!(copy.footprint().is_some(), "{name} {away}");
        assert!(b.machine.fleet().subcloud(new).is_none(), "{name} {away}");
        for node in [&a, &b] {
            assert_eq!(refusals(node).len(), 1, "{name} {away}");
        }

        delete(&mut b, at(13)).expect("it is shared no more");
        let (group, peer) = (GROUP.to_string(), "b".to_owned());
        a.ask(at(14), PeerAction::SyncAssociation { group, peer })
            .expect("done");
        later(&mut a, &mut b, at(15));
        later(&mut a, &mut b, at(16));
        let copy = b.machine.fleet().subcloud(new).expect("it is shared");
        assert_eq!(copy.geo.group, Some(GROUP), "{name} {away}");
        for node in [&a, &b] {
            let known = node.machine.associations().next().expect("shared");
            let view = node.machine.association_view(known);
            assert_eq!(view.state, AssociationState::InSync, "{}", view.message);
            assert_eq!(refusals(node), [""; 0], "{name} {away}");
        }
    }
}

#[test]
fn what_a_peer_cannot_take_in_is_an_alarm_at_both_sites_until_it_can() {
    let (mut a, mut b, _) = sharing();
    // A subcloud of b's own has the name that a is about to share.
    settle(&mut b.machine, at(3), Input::AddSubcloud(add(7, "west")));
    assert!(
        b.machine.fleet().subcloud(SubcloudId(uuid(7))).is_none(),
        "the copy has the name"
    );
    delete(&mut a, at(4)).expect("it is not managed");
    later(&mut a, &mut b, at(6));
    delete(&mut b, at(7)).expect("it is shared no more");
    settle(&mut b.machine, at(7), Input::AddSubcloud(add(7, "west")));
    let new = add_anew(&mut a, at(8), "west");
    later(&mut a, &mut b, at(10));
    assert_eq!(
        refusals(&a),
        [
            "system peer b cannot take in all that this site tells of subcloud peer group shared: \
          there is a subcloud west already"
        ]
    );
    assert_eq!(
        refusals(&b),
        [
            "this site cannot take in all that system peer a tells of subcloud peer group shared: \
             there is a subcloud west already"
        ]
    );
    assert!(b.machine.fleet().subcloud(SubcloudId(uuid(7))).is_some());
    assert!(b.machine.fleet().subcloud(new).is_none());

    delete(&mut b, at(11)).expect("it is pending");
    let (group, peer) = (GROUP.to_string(), "b".to_owned());
    a.ask(at(12), PeerAction::SyncAssociation { group, peer })
        .expect("done");
    later(&mut a, &mut b, at(13));
    later(&mut a, &mut b, at(14));
    assert!(b.machine.fleet().subcloud(new).is_some());
    assert_eq!(refusals(&a), [""; 0]);
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}
