//! What a peer that shares one group says of subclouds that it does not share.

use fleet::{Conflict, Correction, Enrollment, Fault, Observed, Refused, Subcloud, Token};

use super::*;

/// What `b` may say to `a` of members of the group, and the answer.
fn told(a: &mut Node, b: &Node, items: Vec<SyncItem>) -> Vec<(Vec<Fault>, Vec<Correction>)> {
    let header = header_of(b);
    told_with(a, b, header, items)
}

/// What a site says of the group itself.
fn header_of(from: &Node) -> fleet::GroupHeader {
    let group = from.machine.find_group("shared").expect("a group");
    group.header.clone()
}

/// The same with another head of the group.
fn told_with(
    a: &mut Node,
    b: &Node,
    header: fleet::GroupHeader,
    items: Vec<SyncItem>,
) -> Vec<(Vec<Fault>, Vec<Correction>)> {
    let digest = SyncDigest([9; 32]);
    a.hears(at(3), offering(digest, 0, START.0));
    let batch = Batch {
        header,
        ..whole(b, digest, items)
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

/// The answer to a record of `b` that is like the member, but for what is done to it, and what
/// became of it at `a`.
fn changed(change: impl FnOnce(&mut Subcloud)) -> (Vec<Fault>, Option<Subcloud>, Node, Node) {
    let (mut a, b, id) = sharing();
    settle(&mut a.machine, at(2), Input::AddSubcloud(add(2, "own")));
    let mut other = Subcloud::clone(b.machine.fleet().subcloud(id).expect("a member"));
    other.id = SubcloudId(Uuid::from_u128(77));
    other.name = "other".to_owned();
    other.geo.footprint = None;
    change(&mut other);
    other.geo.owner = Some(b.config.id);
    let faults = told(&mut a, &b, vec![SyncItem::Owned(Box::new(other.clone()))])[0]
        .0
        .clone();
    let taken = a
        .machine
        .fleet()
        .subcloud(other.id)
        .map(|it| Subcloud::clone(it));
    (faults, taken, a, b)
}

#[test]
fn a_member_is_named_as_one_that_is_added_here() {
    type Change = fn(&mut Subcloud);
    let lies: [(&str, Change); 5] = [
        ("SUBCLOUD_NAME_TAKEN", |it| it.name = "own".to_owned()),
        ("INVALID_NAME", |it| it.name = "no name".to_owned()),
        ("INVALID_NAME", |it| it.name = it.id.to_string()),
        ("INVALID_ARGUMENT", |it| {
            it.location = "two\nlines".to_owned()
        }),
        ("INVALID_ARGUMENT", |it| {
            it.geo.lineage = vec![(Epoch(1), 1); 9]
        }),
    ];
    for (expected, lie) in lies {
        let (faults, taken, a, _) = changed(lie);
        assert_eq!(faults[0].reason, expected, "{faults:?}");
        assert_eq!(taken, None, "{expected}");
        let own = a.machine.fleet().by_name("own").expect("it is found");
        assert_eq!(own.id, SubcloudId(Uuid::from_u128(2)));
    }
    let (faults, taken, ..) = changed(|_| {});
    assert_eq!(faults, []);
    assert_eq!(taken.expect("it fits").name, "other");
}

#[test]
fn nothing_is_taken_from_a_peer_that_is_not_shared() {
    let (faults, taken, a, b) = changed(|it| {
        let stolen = site("other", 7, "6");
        it.observed = Some(Observed {
            generation: stolen.generation(),
            digest: stolen.digest(),
            received_at: START,
            alarms: None,
            footprint: fleet::Footprint::of(&stolen.to_parts()),
        });
        it.refused = Some(Refused {
            generation: stolen.generation(),
            digest: stolen.digest(),
            received_at: START,
            since: START,
            faults: Vec::new(),
        });
        it.geo.gateways = Some(vec![IpAddr::from([10, 1, 0, 1])]);
        it.geo.former_group = Some(PeerGroupId(Uuid::from_u128(3)));
        it.geo.conflict = Some(Box::new(Conflict {
            owner: fleet::ControllerId(Uuid::nil()),
            at: START,
            lost: Vec::new(),
        }));
        if let Enrollment::Enrolled(enrolled) = &mut it.enrollment {
            enrolled.differences = vec![crate::common::fault()];
            enrolled.reenroll = Some(Token {
                id: token(2).id,
                secret: token(7).secret,
                issued_at: START,
                expires_at: at(1000),
            });
        }
    });
    assert_eq!(faults, []);
    let taken = taken.expect("the rest of it fits");
    assert_eq!(taken.geo.owner, Some(b.config.id));
    assert_eq!((&taken.observed, &taken.refused), (&None, &None));
    let geo = &taken.geo;
    assert_eq!(
        (&geo.gateways, geo.former_group, &geo.conflict),
        (&None, None, &None)
    );
    assert_eq!(taken.open_token(), None);
    assert_eq!(taken.enrolled().expect("it is").differences, []);
    assert!(geo.footprint.is_some(), "where it is counts");
    // The token of a subcloud of this site is still its own.
    let own = a
        .machine
        .fleet()
        .by_token(token(2).id)
        .expect("it is found");
    assert_eq!(own.name, "own");
}

#[test]
fn a_group_is_told_as_one_that_is_made_here() {
    type Change = fn(&mut fleet::GroupHeader);
    let lies: [(&str, Change); 3] = [
        ("INVALID_NAME", |it| it.name = "no name".to_owned()),
        ("INVALID_ARGUMENT", |it| it.max_subcloud_rehoming = 0),
        ("PEER_GROUP_EXISTS", |it| it.name = "mine".to_owned()),
    ];
    for (expected, lie) in lies {
        let (mut a, b, _) = sharing();
        let mine = PeerAction::AddGroup {
            id: PeerGroupId(Uuid::from_u128(51)),
            name: "mine".to_owned(),
            priority: 0,
            max_subcloud_rehoming: 10,
        };
        a.ask(at(2), mine).expect("done");
        let before = a.machine.find_group("shared").cloned().expect("a group");
        let mut header = header_of(&b);
        header.revision += 1;
        lie(&mut header);
        let answers = told_with(&mut a, &b, header, Vec::new());
        assert_eq!(answers[0].0[0].reason, expected, "{answers:?}");
        assert_eq!(a.machine.find_group("shared"), Some(&before));
    }
}

#[test]
fn counts_after_which_none_could_follow_are_not_taken() {
    let (faults, taken, ..) = changed(|it| {
        if let Enrollment::Enrolled(enrolled) = &mut it.enrollment {
            enrolled.renewal.count = u64::MAX;
        }
    });
    assert_eq!(
        (faults[0].reason.as_str(), taken),
        ("INVALID_ARGUMENT", None)
    );

    let (mut a, b, _) = sharing();
    let mut header = header_of(&b);
    header.revision = u64::MAX;
    let answers = told_with(&mut a, &b, header, Vec::new());
    assert_eq!(answers[0].0[0].reason, "INVALID_ARGUMENT", "{answers:?}");
    let edit = PeerAction::UpdateGroup {
        group: GROUP.to_string(),
        priority: None,
        max_subcloud_rehoming: Some(3),
    };
    a.ask(at(4), edit).expect("it can still be edited");
    let revision = |node: &Node| {
        node.machine
            .find_group("shared")
            .expect("a group")
            .header
            .revision
    };
    assert_eq!(revision(&a), 2);
}

/// Records that an older version let in: nothing wraps, and nothing ends the process.
#[test]
fn counts_at_their_end_stay_there() {
    let (a, _, id) = sharing();
    let mut group = a.machine.find_group("shared").cloned().expect("a group");
    group.header.revision = u64::MAX;
    let mut member = Subcloud::clone(a.machine.fleet().subcloud(id).expect("a member"));
    member.geo.edits = u64::MAX;
    let records = Records {
        subclouds: vec![member.into()],
        peers: a.machine.system_peers().cloned().collect(),
        peer_groups: vec![group],
        associations: a.machine.associations().cloned().collect(),
        ..Records::default()
    };
    let own = site("a", 201, "6");
    let (machine, _) = Controller::recover(START, a.config.clone(), &own, records);
    let mut a = Node { machine, ..a };
    let place = PeerAction::UpdateAssociation {
        group: GROUP.to_string(),
        peer: "b".to_owned(),
        peer_priority: 5,
    };
    a.ask(at(3), place).expect("done");
    let edit = fleet::FleetChange::Update {
        subcloud: "west".to_owned(),
        etag: String::new(),
        edit: fleet::SubcloudEdit {
            location: Some("here".to_owned()),
            ..Default::default()
        },
    };
    let call = fleet::Operate {
        request: RequestId(3),
        actor: Actor::Operator("uid=0".to_owned()),
        change: edit,
        key: None,
        validate_only: false,
    };
    let outputs = settle(&mut a.machine, at(3), Input::Operate(call));
    crate::common::answer(outputs).expect("done");
    let group = a.machine.find_group("shared").expect("a group");
    let member = a.machine.fleet().subcloud(id).expect("a member");
    assert_eq!(
        (group.header.revision, member.geo.edits),
        (u64::MAX, u64::MAX)
    );
}

#[test]
fn an_agent_cannot_count_renewals_or_terms_to_their_end() {
    let hello = crate::common::hello(&site("west", 1, "6"));
    for (renewals, epoch, ends) in [
        (0, 1, false),
        (3, 1, false),
        (u64::MAX, 1, true),
        (0, u64::MAX, true),
    ] {
        let (a, mut b, id) = sharing();
        let migrate = PeerAction::Migrate {
            group: GROUP.to_string(),
        };
        b.ask(at(4), migrate).expect("it may come");
        let before = b.machine.fleet().subcloud(id).cloned().expect("a member");
        let opened = Input::LinkOpened {
            link: LinkId(1),
            subcloud: id,
            key: crate::common::key(1),
            signed: None,
            source: site("west", 1, "6").link_address().expect("an address"),
        };
        settle(&mut b.machine, at(5), opened);
        let message = fleet::AgentMessage::Hello(fleet::Hello {
            renewals,
            epoch: Epoch(epoch),
            owner: a.config.id,
            ..hello.clone()
        });
        let said = Input::LinkMessage {
            link: LinkId(1),
            message,
        };
        let outputs = settle(&mut b.machine, at(5), said);
        let goodbye = outputs.iter().find_map(|output| match output {
            Output::CloseLink { goodbye, .. } => Some(goodbye.reason),
            _ => None,
        });
        let after = b.machine.fleet().subcloud(id).expect("a member");
        if ends {
            assert_eq!(
                goodbye,
                Some(GoodbyeReason::ProtocolViolation),
                "{renewals} {epoch}"
            );
            assert_eq!(after, &before);
        } else {
            assert!(after.owned_here(), "{outputs:?}");
            let count = after.enrolled().expect("it is").renewal.count;
            assert_eq!((goodbye, count), (None, renewals));
        }
    }
}
