//! What becomes of a group that operators stop sharing, or share again, while the peer is away.

use fleet::Write;

use super::*;

/// Whether each of the two shares the group.
pub(super) fn shared(a: &Node, b: &Node) -> [bool; 2] {
    [a, b].map(|node| {
        let mut known = node.machine.associations();
        known.any(|known| known.group == GROUP && !known.ended)
    })
}

pub(super) fn dissociate(peer: &str) -> PeerAction {
    PeerAction::Dissociate {
        group: GROUP.to_string(),
        peer: peer.to_owned(),
    }
}

fn associate(peer: &str, peer_priority: u32) -> PeerAction {
    PeerAction::Associate {
        group: GROUP.to_string(),
        peer: peer.to_owned(),
        peer_priority,
    }
}

/// The link between the two breaks.
pub(super) fn part(a: &mut Node, b: &mut Node, now: Timestamp) {
    for node in [a, b] {
        let closed = PeerInput::Closed { link: LINK };
        settle(&mut node.machine, now, Input::Peer(closed));
    }
}

/// They meet again, and have said everything.
pub(super) fn meet(a: &mut Node, b: &mut Node, now: u64) {
    link(a, b);
    later(a, b, at(now));
    later(a, b, at(now + 1));
}

#[test]
fn a_group_that_is_shared_no_longer_is_not_shared_again_by_a_peer_that_was_away() {
    let (mut a, mut b, _) = sharing();
    part(&mut a, &mut b, at(3));
    a.ask(at(4), dissociate("b")).expect("done");
    assert_eq!(shared(&a, &b), [false, true]);
    for now in [10, 20] {
        meet(&mut a, &mut b, now);
        assert_eq!(shared(&a, &b), [false, false]);
        assert_eq!(a.machine.associations().len(), 0);
        let known = b.machine.associations().next().expect("it is kept");
        let view = b.machine.association_view(known);
        assert_eq!(view.state, AssociationState::Failed, "{}", view.message);
        part(&mut a, &mut b, at(now + 2));
    }
}

#[test]
fn a_deleted_association_stays_deleted_also_after_a_restart_and_when_its_group_is_gone() {
    let (mut a, mut b, _) = sharing();
    part(&mut a, &mut b, at(3));
    let leave = PeerAction::SetMembers {
        group: GROUP.to_string(),
        add: Vec::new(),
        remove: vec!["west".to_owned()],
    };
    a.ask(at(4), leave).expect("done");
    let call = PeerCall {
        request: RequestId(3),
        actor: Actor::Operator("uid=0".to_owned()),
        action: dissociate("b"),
        etag: String::new(),
        key: None,
        validate_only: false,
    };
    let input = Input::Peer(PeerInput::Call(call));
    let outputs = settle(&mut a.machine, at(5), input);
    let writes = outputs.into_iter().flat_map(|output| match output {
        Output::Commit { writes, .. } => writes,
        _ => Vec::new(),
    });
    let associations: Vec<fleet::Association> = writes
        .filter_map(|write| match write {
            Write::Association(known) => Some(*known),
            _ => None,
        })
        .collect();
    assert!(
        matches!(&associations[..], [known] if known.withdrawn),
        "{associations:?}"
    );
    let records = Records {
        subclouds: a.machine.fleet().subclouds().cloned().collect(),
        peers: a.machine.system_peers().cloned().collect(),
        peer_groups: a.machine.peer_groups().cloned().collect(),
        associations,
        ..Records::default()
    };
    let site = site("a", 201, "6");
    (a.machine, _) = Controller::recover(START, a.config.clone(), &site, records);
    assert_eq!(a.machine.associations().len(), 0);
    let delete = PeerAction::DeleteGroup {
        group: GROUP.to_string(),
    };
    a.ask(at(6), delete).expect("nobody shares it");
    meet(&mut a, &mut b, 10);
    assert_eq!(shared(&a, &b), [false, false]);
    assert!(a.machine.find_group("shared").is_none());
    part(&mut a, &mut b, at(13));

    // The peer may be deleted, and with it what is remembered of it.
    let peer = "b".to_owned();
    a.ask(at(14), PeerAction::DeletePeer { peer })
        .expect("nothing is shared");
}

#[test]
fn a_group_is_shared_again_when_an_operator_of_either_site_says_so() {
    for there in [false, true] {
        for away in [false, true] {
            let (mut a, mut b, _) = sharing();
            part(&mut a, &mut b, at(3));
            a.ask(at(4), dissociate("b")).expect("done");
            meet(&mut a, &mut b, 5);
            if away {
                part(&mut a, &mut b, at(7));
            }
            if there {
                let again = b.ask(at(8), associate("a", 0));
                assert_eq!(reasons(&again), ["ASSOCIATION_EXISTS"]);
                b.ask(at(8), dissociate("a")).expect("done");
                b.ask(at(8), associate("a", 0)).expect("done");
            } else {
                a.ask(at(8), associate("b", 1)).expect("done");
            }
            if away {
                meet(&mut a, &mut b, 10);
            } else {
                later(&mut a, &mut b, at(10));
                later(&mut a, &mut b, at(11));
            }
            assert_eq!(shared(&a, &b), [true, true], "{there} {away}");
            for node in [&a, &b] {
                let known = node.machine.associations().next().expect("shared");
                let view = node.machine.association_view(known);
                assert_eq!(view.state, AssociationState::InSync, "{}", view.message);
            }
            // What was shared again can be ended again.
            part(&mut a, &mut b, at(12));
            a.ask(at(13), dissociate("b")).expect("done");
            meet(&mut a, &mut b, 14);
            assert_eq!(shared(&a, &b), [false, false], "{there} {away}");
        }
    }
}

#[test]
fn an_operator_shares_a_group_anew_while_the_peer_that_ended_it_is_away() {
    let (mut a, mut b, _) = sharing();
    part(&mut a, &mut b, at(3));
    a.ask(at(4), dissociate("b")).expect("done");
    b.ask(at(5), dissociate("a")).expect("done");
    b.ask(at(6), associate("a", 0)).expect("done");
    meet(&mut a, &mut b, 10);
    assert_eq!(shared(&a, &b), [true, true]);
}

#[test]
fn what_is_in_the_way_is_named_in_the_command_that_clears_it() {
    let (mut a, mut b, _) = sharing();
    let remedies = |asked: Result<PeerSubject, Rejection>| -> Vec<String> {
        let refused = asked.expect_err("something is in the way");
        let violations = refused.violations().iter();
        violations.map(|fault| fault.remedy.clone()).collect()
    };
    let group = GROUP.to_string();
    let dissociate =
        "delete its associations first: `tandem dcmanager peer-group-association delete shared b`";
    assert_eq!(
        remedies(a.ask(at(4), PeerAction::DeleteGroup { group })),
        [
            dissociate,
            "take its members out first: `tandem dcmanager subcloud-peer-group remove-subclouds \
             shared west`"
        ]
    );
    let peer = "b".to_owned();
    assert_eq!(
        remedies(a.ask(at(4), PeerAction::DeletePeer { peer })),
        [dissociate]
    );
    let leave = PeerAction::SetMembers {
        group: GROUP.to_string(),
        add: Vec::new(),
        remove: vec!["west".to_owned()],
    };
    assert_eq!(
        remedies(b.ask(at(4), leave)),
        [
            "ask there, or take it over: `tandem dcmanager subcloud-peer-group migrate shared` \
             moves its group from a; if a is lost for good, first `tandem dcmanager \
             peer-group-association delete shared a`"
        ]
    );
}

#[test]
fn every_name_that_is_unknown_is_told_at_once() {
    let (mut a, _, _) = sharing();
    let (group, peer) = ("none".to_owned(), "nobody".to_owned());
    let both = ["PEER_GROUP_NOT_FOUND", "PEER_NOT_FOUND"];
    let cases = [
        (
            PeerAction::Associate {
                group: group.clone(),
                peer: peer.clone(),
                peer_priority: 1,
            },
            &both[..],
        ),
        (
            PeerAction::UpdateAssociation {
                group: group.clone(),
                peer: peer.clone(),
                peer_priority: 1,
            },
            &both[..],
        ),
        (
            PeerAction::Dissociate {
                group: group.clone(),
                peer,
            },
            &both[..],
        ),
        (
            PeerAction::SetMembers {
                group: group.clone(),
                add: vec!["west".to_owned(), "x".to_owned()],
                remove: vec!["y".to_owned()],
            },
            &[
                "PEER_GROUP_NOT_FOUND",
                "SUBCLOUD_NOT_FOUND",
                "SUBCLOUD_NOT_FOUND",
            ],
        ),
        (
            PeerAction::SetMembers {
                group,
                add: Vec::new(),
                remove: Vec::new(),
            },
            &["PEER_GROUP_NOT_FOUND", "INVALID_ARGUMENT"],
        ),
    ];
    for (action, expected) in cases {
        assert_eq!(reasons(&a.ask(at(4), action)), expected);
    }
}
