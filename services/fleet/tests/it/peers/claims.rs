//! What a peer that shares one group says of subclouds that it does not share.

use fleet::{Correction, Fault};

use super::*;

/// What `b` may say to `a` of members of the group, and the answer.
fn told(a: &mut Node, b: &Node, items: Vec<SyncItem>) -> Vec<(Vec<Fault>, Vec<Correction>)> {
    let digest = SyncDigest([9; 32]);
    let offer = Offer {
        group: GROUP,
        digest,
        base: None,
        your_priority: 0,
        generation: START.0,
    };
    let offers = PeerMessage::Offers {
        complete: false,
        offers: vec![offer],
        withdrawn: Vec::new(),
    };
    a.hears(at(3), offers);
    let group = b.machine.find_group("shared").expect("a group");
    let batch = Batch {
        group: GROUP,
        digest,
        changes: false,
        after: None,
        header: group.header.clone(),
        leader: group.leader.clone(),
        priority: 1,
        items,
        last: true,
    };
    let answers = said(&a.hears(at(3), PeerMessage::Batch(Box::new(batch))));
    let answers = answers.into_iter().filter_map(|answer| match answer {
        PeerMessage::Synced {
            faults,
            corrections,
            ..
        } => Some((faults, corrections)),
        _ => None,
    });
    answers.collect()
}

/// The record of a member, as `b` would tell it after it took it over in a term.
fn claimed(b: &Node, of: &fleet::Subcloud, epoch: u64) -> SyncItem {
    let mut lie = of.clone();
    lie.geo.owner = Some(b.config.id);
    lie.geo.group = Some(GROUP);
    lie.observed = None;
    if let fleet::Enrollment::Enrolled(enrolled) = &mut lie.enrollment {
        enrolled.epoch = Epoch(epoch);
    }
    SyncItem::Owned(Box::new(lie))
}

#[test]
fn a_peer_cannot_claim_a_subcloud_that_is_not_shared_with_it() {
    let (mut a, b, _) = sharing();
    settle(&mut a.machine, at(2), Input::AddSubcloud(add(2, "own")));
    let own = site("own", 2, "6");
    settle(&mut a.machine, at(2), Input::Enroll(enroll(2, &own)));
    let before = a.machine.fleet().find("own").cloned().expect("it");
    assert!(before.enrolled().is_some());
    let (owner, id) = (b.config.id, before.id);

    let answers = told(&mut a, &b, vec![claimed(&b, &before, 2)]);
    let [(faults, corrections)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(faults[0].reason, "SUBCLOUD_IN_OTHER_GROUP");
    assert_eq!(corrections[..], []);
    let elsewhere = SyncItem::Elsewhere {
        subcloud: id,
        owner,
        epoch: Epoch(9),
        confirmed: true,
    };
    let answers = told(&mut a, &b, vec![elsewhere]);
    assert!(
        answers
            .iter()
            .all(|(_, corrections)| corrections.is_empty())
    );
    let correction = Correction {
        subcloud: id,
        owner,
        epoch: Epoch(9),
        confirmed: true,
        member: true,
    };
    a.hears(
        at(4),
        PeerMessage::Synced {
            group: GROUP,
            digest: SyncDigest([9; 32]),
            faults: Vec::new(),
            corrections: vec![correction],
        },
    );
    assert_eq!(a.machine.fleet().subcloud(id), Some(&before));
}

#[test]
fn a_term_after_which_none_could_follow_is_not_believed() {
    let (mut a, b, id) = sharing();
    let before = a.machine.fleet().subcloud(id).cloned().expect("a member");
    let elsewhere = SyncItem::Elsewhere {
        subcloud: id,
        owner: b.config.id,
        epoch: Epoch(u64::MAX),
        confirmed: true,
    };
    let items = vec![elsewhere, claimed(&b, &before, u64::MAX)];
    assert!(!told(&mut a, &b, items)[0].0.is_empty());
    assert_eq!(a.machine.fleet().subcloud(id), Some(&before));
}

#[test]
fn a_member_that_left_while_a_peer_took_it_over_is_that_peers() {
    let (mut a, b, id) = sharing();
    let leave = PeerAction::SetMembers {
        group: GROUP.to_string(),
        add: Vec::new(),
        remove: vec!["west".to_owned()],
    };
    a.ask(at(2), leave).expect("done");
    let record = a.machine.fleet().subcloud(id).cloned().expect("it");
    told(&mut a, &b, vec![claimed(&b, &record, 2)]);
    let after = a.machine.fleet().subcloud(id).expect("it");
    assert_eq!(after.geo.owner, Some(b.config.id));
}

#[test]
fn a_peer_is_not_told_the_id_of_a_subcloud_that_is_not_shared_with_it() {
    let (mut a, b, _) = sharing();
    settle(&mut a.machine, at(2), Input::AddSubcloud(add(2, "own")));
    let mut other = b.machine.fleet().find("west").expect("it").as_ref().clone();
    other.id = SubcloudId(Uuid::from_u128(77));
    other.name = "own".to_owned();
    let faults = told(&mut a, &b, vec![claimed(&b, &other, 1)])[0].0.clone();
    assert!(!faults.is_empty());
    let leaked = faults
        .iter()
        .any(|it| it.metadata.contains_key("subcloudId"));
    assert!(!leaked, "{faults:?}");
}
