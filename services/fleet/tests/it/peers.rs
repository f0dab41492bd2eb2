//! Peers as pure machines: who may be one, what is shared, and what a peer that lies or floods
//! comes to.

use std::collections::VecDeque;
use std::net::IpAddr;

use fleet::{
    AcceptPeering, Actor, Answer, AssociationState, Authority, Batch, Controller, ControllerConfig,
    Epoch, Fingerprint, GoodbyeReason, Input, LinkId, MAX_GROUPS, MAX_HANDOVER, MAX_SYNC_BATCH,
    NewToken, Offer, Output, PeerAction, PeerCall, PeerCard, PeerGoodbye, PeerGroupId, PeerId,
    PeerInput, PeerLinkId, PeerMessage, PeerOutput, PeerSettings, PeerSubject, Records, Rejection,
    RequestId, RequestKey, Signed, SubcloudId, SyncDigest, SyncItem,
};
use site::{Site, Timestamp};
use uuid::Uuid;

use crate::common::{START, add, answers_kept, at, config, enroll, reasons, settle, site, token};

mod claims;
mod copies;
mod sharing;

const LINK: PeerLinkId = PeerLinkId(7);
const GROUP: PeerGroupId = PeerGroupId(Uuid::from_u128(50));

/// One of two sites.
struct Node {
    machine: Controller,
    config: ControllerConfig,
}

impl Node {
    /// A controller with the addresses and the authority of a number.
    fn new(name: &str, number: u8, layout: &str) -> Self {
        let site = site(name, number, layout);
        let config = Self::config(&site, number);
        let (machine, _) = Controller::recover(START, config.clone(), &site, Records::default());
        Self { machine, config }
    }

    fn config(site: &Site, number: u8) -> ControllerConfig {
        ControllerConfig {
            authority: Authority {
                key: Fingerprint([number; 32]),
                certificate: vec![number].into(),
            },
            ..config(site, 1000)
        }
    }

    /// An operator's call at a moment.
    fn ask(&mut self, now: Timestamp, action: PeerAction) -> Result<PeerSubject, Rejection> {
        let call = PeerCall {
            request: RequestId(1),
            actor: Actor::Operator("uid=0".to_owned()),
            action,
            etag: String::new(),
            key: None,
            validate_only: false,
        };
        subject(settle(
            &mut self.machine,
            now,
            Input::Peer(PeerInput::Call(call)),
        ))
    }

    /// Another site presents token 9.
    fn accept(&mut self, now: Timestamp, card: &PeerCard) -> Result<PeerSubject, Rejection> {
        let presented = AcceptPeering {
            request: RequestId(2),
            token: token(9).id,
            secret: token(9).secret,
            card: Box::new(card.clone()),
            source: source(card),
            validate_only: false,
        };
        subject(settle(
            &mut self.machine,
            now,
            Input::Peer(PeerInput::Accept(presented)),
        ))
    }

    fn hears(&mut self, now: Timestamp, message: PeerMessage) -> Vec<Output> {
        let link = LINK;
        settle(
            &mut self.machine,
            now,
            Input::Peer(PeerInput::Message { link, message }),
        )
    }
}

fn source(card: &PeerCard) -> IpAddr {
    card.endpoints[0].0.ip()
}

fn subject(outputs: Vec<Output>) -> Result<PeerSubject, Rejection> {
    let mut answers = outputs.into_iter().filter_map(|output| match output {
        Output::Answer { outcome, .. } => Some(outcome),
        _ => None,
    });
    match answers.next().expect("an answer")? {
        Answer::Peer(receipt) => Ok(receipt.subject),
        other => panic!("{other:?}"),
    }
}

/// What is said over the link.
fn said(outputs: &[Output]) -> Vec<PeerMessage> {
    let said = outputs.iter().filter_map(|output| match output {
        Output::Peer(PeerOutput::Send { message, .. }) => Some(message.clone()),
        _ => None,
    });
    said.collect()
}

/// The token of `a` is issued, presented by `b`, and both know each other.
fn peered(a: &mut Node, b: &mut Node) -> Result<(), Rejection> {
    let (name, settings) = ("b".to_owned(), PeerSettings::default());
    let token: NewToken = token(9);
    let id = PeerId(Uuid::from_u128(40));
    a.ask(
        START,
        PeerAction::IssuePeering {
            id,
            name,
            token,
            settings,
        },
    )
    .expect("a token");
    let card = b.machine.card().clone();
    let PeerSubject::Card(card) = a.accept(START, &card)? else {
        panic!("a card");
    };
    let name = "a".to_owned();
    let added = b.ask(
        START,
        PeerAction::AddPeer {
            id,
            name,
            settings,
            card,
        },
    );
    added.map(drop)
}

/// Opens the link and lets the two talk until nothing is left to say.
fn link(a: &mut Node, b: &mut Node) {
    let mut talk = VecDeque::new();
    for turn in [0, 1] {
        let (here, there) = if turn == 0 {
            (&mut *a, &*b)
        } else {
            (&mut *b, &*a)
        };
        let opened = PeerInput::Opened {
            link: LINK,
            controller: there.config.id,
            authority: there.config.authority.key,
            source: source(there.machine.card()),
        };
        let outputs = settle(&mut here.machine, START, Input::Peer(opened));
        talk.extend(
            said(&outputs)
                .into_iter()
                .map(|message| (1 - turn, message)),
        );
    }
    converse(a, b, START, talk);
}

fn converse(a: &mut Node, b: &mut Node, now: Timestamp, mut talk: VecDeque<(usize, PeerMessage)>) {
    let mut words = 0;
    while let Some((listener, message)) = talk.pop_front() {
        words += 1;
        assert!(words < 1000, "they never stop: {message:?}");
        let node = if listener == 0 { &mut *a } else { &mut *b };
        let answers = said(&node.hears(now, message));
        talk.extend(answers.into_iter().map(|message| (1 - listener, message)));
    }
}

#[test]
fn the_same_request_gets_the_same_answer_also_after_a_restart() {
    let mut node = Node::new("a", 201, "6");
    let call = |id: u128, fingerprint: u8, validate_only: bool| {
        Input::Peer(PeerInput::Call(PeerCall {
            request: RequestId(1),
            actor: Actor::Operator("uid=0".to_owned()),
            action: PeerAction::AddGroup {
                id: PeerGroupId(Uuid::from_u128(id)),
                name: "shared".to_owned(),
                priority: 0,
                max_subcloud_rehoming: 10,
            },
            etag: String::new(),
            key: Some(RequestKey {
                id: "once".to_owned(),
                fingerprint: [fingerprint; 32],
            }),
            validate_only,
        }))
    };
    subject(settle(&mut node.machine, START, call(50, 1, true))).expect("a preview");
    let outputs = settle(&mut node.machine, START, call(51, 1, false));
    let kept = answers_kept(&outputs);
    let first = subject(outputs).expect("a group");
    let again = settle(&mut node.machine, START, call(52, 1, false));
    assert_eq!(again.len(), 1, "nothing is written");
    assert_eq!(subject(again), Ok(first.clone()));
    let other = subject(settle(&mut node.machine, START, call(53, 2, false)));
    assert_eq!(reasons(&other), ["INVALID_ARGUMENT"]);

    let records = Records {
        answers: kept,
        ..Records::default()
    };
    let site = site("a", 201, "6");
    let (mut restarted, _) = Controller::recover(START, node.config.clone(), &site, records);
    let again = subject(settle(&mut restarted, START, call(54, 1, false)));
    assert_eq!(again, Ok(first));
}

/// What the timers of both say at a moment, and what comes of it.
fn later(a: &mut Node, b: &mut Node, now: Timestamp) {
    let mut talk = VecDeque::new();
    for (turn, node) in [(0, &mut *a), (1, &mut *b)] {
        let outputs = settle(&mut node.machine, now, Input::Timer);
        talk.extend(
            said(&outputs)
                .into_iter()
                .map(|message| (1 - turn, message)),
        );
    }
    converse(a, b, now, talk);
}

/// Two sites that share a group with one member, which `a` owns.
fn sharing() -> (Node, Node, SubcloudId) {
    let (mut a, mut b) = (Node::new("a", 201, "6"), Node::new("b", 202, "64"));
    peered(&mut a, &mut b).expect("peers");
    settle(&mut a.machine, START, Input::AddSubcloud(add(1, "west")));
    let west = site("west", 1, "6");
    settle(&mut a.machine, START, Input::Enroll(enroll(1, &west)));
    let group = GROUP.to_string();
    for action in [
        PeerAction::AddGroup {
            id: GROUP,
            name: "shared".to_owned(),
            priority: 0,
            max_subcloud_rehoming: 10,
        },
        PeerAction::SetMembers {
            group: group.clone(),
            add: vec!["west".to_owned()],
            remove: Vec::new(),
        },
        PeerAction::Associate {
            group,
            peer: "b".to_owned(),
            peer_priority: 1,
        },
    ] {
        a.ask(START, action).expect("done");
    }
    link(&mut a, &mut b);
    later(&mut a, &mut b, at(2));
    let id = a.machine.fleet().find("west").expect("a member").id;
    for node in [&a, &b] {
        let known = node.machine.associations().next().expect("an association");
        let view = node.machine.association_view(known);
        assert_eq!(view.state, AssociationState::InSync, "{}", view.message);
    }
    (a, b, id)
}

#[test]
fn peers_are_of_one_primary_family() {
    for first in ["4", "6", "46", "64"] {
        for second in ["4", "6", "46", "64"] {
            let (mut a, mut b) = (Node::new("a", 201, first), Node::new("b", 202, second));
            let outcome = peered(&mut a, &mut b);
            let expected: &[&str] = if first[..1] == second[..1] {
                &[]
            } else {
                &["PRIMARY_FAMILY_MISMATCH"]
            };
            assert_eq!(reasons(&outcome), expected, "{first} {second}");
        }
    }
}

#[test]
fn everything_that_is_wrong_with_a_site_is_told_at_once_and_the_token_stays_whole() {
    let mut a = Node::new("a", 201, "46");
    let mut twin = Node::new("twin", 201, "64");
    // Another site with the same addresses, the other family first.
    twin.config.id.0 = Uuid::from_u128(77);
    let mut card = twin.machine.card().clone();
    card.software_version = site::SoftwareVersion {
        year: 22,
        month: 12,
    };
    card.controller = twin.config.id;
    card.authority.key = Fingerprint([77; 32]);
    card.endpoints.clear();
    let mut b = Node::new("b", 202, "4");
    peered(&mut a, &mut b).expect("peers");
    let issue = PeerAction::IssuePeering {
        id: PeerId(Uuid::from_u128(41)),
        name: "c".to_owned(),
        token: NewToken {
            id: fleet::TokenId(Uuid::from_u128(5)),
            ..token(9)
        },
        settings: PeerSettings::default(),
    };
    a.ask(START, issue).expect("a token");
    let mut presented = AcceptPeering {
        request: RequestId(2),
        token: fleet::TokenId(Uuid::from_u128(5)),
        secret: token(9).secret,
        card: Box::new(card),
        source: IpAddr::from([10, 201, 0, 2]),
        validate_only: false,
    };
    let accept = |a: &mut Node, call: &AcceptPeering| {
        let input = Input::Peer(PeerInput::Accept(call.clone()));
        subject(settle(&mut a.machine, START, input))
    };
    assert_eq!(
        reasons(&accept(&mut a, &presented)),
        [
            "PRIMARY_FAMILY_MISMATCH",
            "DUAL_STACK_UNSUPPORTED_BY_VERSION",
            "INVALID_ARGUMENT",
            "ADDRESS_OVERLAP"
        ]
    );
    *presented.card = a.machine.card().clone();
    assert_eq!(reasons(&accept(&mut a, &presented)), ["PEER_IS_SELF"]);
    *presented.card = b.machine.card().clone();
    assert_eq!(reasons(&accept(&mut a, &presented)), ["PEER_EXISTS"]);
    *presented.card = Node::new("c", 203, "4").machine.card().clone();
    accept(&mut a, &presented).expect("the token is whole");
    *presented.card = Node::new("d", 204, "4").machine.card().clone();
    assert_eq!(reasons(&accept(&mut a, &presented)), ["PEER_TOKEN_INVALID"]);
}

/// The group is offered, and nothing is withdrawn.
fn offering(digest: SyncDigest, your_priority: u32, generation: u64) -> PeerMessage {
    let offer = Offer {
        group: GROUP,
        digest,
        base: None,
        your_priority,
        generation,
    };
    PeerMessage::Offers {
        complete: false,
        offers: vec![offer],
        withdrawn: Vec::new(),
    }
}

/// All of the group as `from` knows it, with these members.
fn whole(from: &Node, digest: SyncDigest, items: Vec<SyncItem>) -> Batch {
    let group = from.machine.find_group("shared").expect("a group");
    Batch {
        group: GROUP,
        digest,
        changes: false,
        after: None,
        header: group.header.clone(),
        leader: group.leader.clone(),
        priority: 1,
        items,
        last: true,
    }
}

#[test]
fn a_claim_in_a_term_that_is_over_changes_nothing_and_is_told_so() {
    let (mut a, b, id) = sharing();
    let before = a.machine.fleet().subcloud(id).cloned().expect("a member");
    let mut lie = fleet::Subcloud::clone(b.machine.fleet().subcloud(id).expect("a member"));
    lie.geo.owner = Some(b.config.id);
    lie.name = "stolen".to_owned();
    if let fleet::Enrollment::Enrolled(enrolled) = &mut lie.enrollment {
        enrolled.epoch = Epoch(enrolled.epoch.0.saturating_sub(1));
    }
    let digest = SyncDigest([9; 32]);
    let pulls = said(&a.hears(at(3), offering(digest, 0, 0)));
    assert!(matches!(pulls[..], [PeerMessage::Pull(_)]), "{pulls:?}");
    let batch = whole(&b, digest, vec![SyncItem::Owned(Box::new(lie))]);
    let answers = said(&a.hears(at(3), PeerMessage::Batch(Box::new(batch))));
    let faults: Vec<&str> = answers
        .iter()
        .flat_map(|answer| match answer {
            PeerMessage::Synced { faults, .. } => faults.as_slice(),
            _ => &[],
        })
        .map(|fault| fault.reason.as_str())
        .collect();
    assert_eq!(faults, ["EPOCH_STALE"], "{answers:?}");
    let after = a.machine.fleet().subcloud(id).expect("a member");
    assert_eq!(after, &before, "nothing changed");
    assert!(after.owned_here());
}

#[test]
fn a_peer_that_floods_is_not_heeded_and_one_that_breaks_the_limits_is_cut_off() {
    let (mut a, b, id) = sharing();
    let before = a.machine.fleet().subcloud(id).cloned().expect("a member");
    let group = b.machine.find_group("shared").expect("a group");
    let batch = Batch {
        group: GROUP,
        digest: SyncDigest([3; 32]),
        changes: false,
        after: None,
        header: group.header.clone(),
        leader: group.leader.clone(),
        priority: 1,
        items: vec![SyncItem::Left(id); 64],
        last: true,
    };
    for _ in 0..10_000 {
        // Nobody asked for it: nothing is written, nothing is answered.
        let outputs = a.hears(at(3), PeerMessage::Batch(Box::new(batch.clone())));
        assert_eq!(said(&outputs), []);
        let writes = outputs
            .iter()
            .any(|output| matches!(output, Output::Commit { .. }));
        assert!(!writes, "{outputs:?}");
    }
    assert_eq!(a.machine.fleet().subcloud(id), Some(&before));
    assert_eq!(a.machine.commits_waiting(), 0);

    let offer = Offer {
        group: GROUP,
        digest: SyncDigest([3; 32]),
        base: None,
        your_priority: 0,
        generation: 0,
    };
    let too_many = PeerMessage::Offers {
        complete: true,
        offers: vec![offer; MAX_GROUPS + 1],
        withdrawn: Vec::new(),
    };
    assert_closed(&a.hears(at(3), too_many));
    let (mut a, _, id) = sharing();
    let too_many = PeerMessage::Handover {
        group: GROUP,
        members: vec![id; MAX_HANDOVER + 1],
    };
    assert_closed(&a.hears(at(3), too_many));
    assert!(
        a.machine
            .fleet()
            .subcloud(id)
            .is_some_and(|it| it.owned_here())
    );
}

#[test]
fn a_place_in_a_group_is_given_by_either_site_and_the_newest_word_counts() {
    let (mut a, mut b, _) = sharing();
    let (group, peer) = (GROUP.to_string(), "b".to_owned());
    let place = |peer_priority| PeerAction::UpdateAssociation {
        group: group.clone(),
        peer: peer.clone(),
        peer_priority,
    };
    let taken = a.ask(at(3), place(0));
    assert_eq!(reasons(&taken), ["INVALID_ARGUMENT"], "it is that of a");
    assert_eq!(reasons(&a.ask(at(3), place(1001))), ["INVALID_ARGUMENT"]);

    let places = |a: &Node, b: &Node| {
        let here = b.machine.find_group("shared").expect("a group").priority;
        let there = a.machine.associations().next().expect("shared");
        (here, there.peer_priority)
    };
    a.ask(at(3), place(5)).expect("done");
    later(&mut a, &mut b, at(5));
    later(&mut a, &mut b, at(7));
    assert_eq!(places(&a, &b), (5, 5));
    let own = PeerAction::UpdateGroup {
        group: group.clone(),
        priority: Some(3),
        max_subcloud_rehoming: None,
    };
    b.ask(at(8), own).expect("done");
    later(&mut a, &mut b, at(10));
    later(&mut a, &mut b, at(12));
    assert_eq!(places(&a, &b), (3, 3));
}

#[test]
fn no_two_sites_are_given_one_place_in_a_group() {
    let (mut a, _, _) = sharing();
    let c = Node::new("c", 203, "6");
    let (id, name) = (PeerId(Uuid::from_u128(41)), "c".to_owned());
    let settings = PeerSettings::default();
    let card = Box::new(c.machine.card().clone());
    let add = PeerAction::AddPeer {
        id,
        name,
        settings,
        card,
    };
    a.ask(at(3), add).expect("a peer");
    let mut associate = |peer_priority| {
        a.ask(
            at(3),
            PeerAction::Associate {
                group: GROUP.to_string(),
                peer: "c".to_owned(),
                peer_priority,
            },
        )
    };
    for (place, whose) in [(0, "this site"), (1, "b")] {
        let refused = associate(place).expect_err("it is taken");
        let first = refused.first();
        let expected = format!("priority {place} is that of {whose} in the group");
        assert_eq!(
            (first.field.as_str(), &first.message),
            ("peer_priority", &expected)
        );
    }
    associate(2).expect("it is free");
}

#[test]
fn a_piece_without_news_is_no_write() {
    let (mut a, b, id) = sharing();
    let digest = SyncDigest([4; 32]);
    a.hears(at(3), offering(digest, 0, 0));
    let elsewhere = SyncItem::Elsewhere {
        subcloud: id,
        owner: a.config.id,
        epoch: Epoch(0),
        confirmed: true,
    };
    let batch = Batch {
        last: false,
        ..whole(&b, digest, vec![elsewhere])
    };
    let outputs = a.hears(at(3), PeerMessage::Batch(Box::new(batch)));
    assert!(
        matches!(said(&outputs)[..], [PeerMessage::Pull(_)]),
        "{outputs:?}"
    );
    let empty = outputs
        .iter()
        .any(|output| matches!(output, Output::Commit { writes, .. } if writes.is_empty()));
    assert!(!empty, "{outputs:?}");
}

#[test]
fn a_peer_vouches_for_no_certificate_of_before_the_last_enrollment() {
    // A key that nobody here knows, signed by the authority of the peer that owns the subcloud.
    let opened = |at: Timestamp, by: u8| {
        let (_, mut b, id) = sharing();
        let open = Input::LinkOpened {
            link: LinkId(1),
            subcloud: id,
            key: Fingerprint([77; 32]),
            signed: Some(Signed {
                by: Fingerprint([by; 32]),
                at,
            }),
            source: site("west", 1, "6").link_address().expect("an address"),
        };
        let outputs = settle(&mut b.machine, self::at(5), open);
        outputs.into_iter().find_map(|output| match output {
            Output::CloseLink { goodbye, .. } => Some(goodbye.reason),
            _ => None,
        })
    };
    assert_eq!(opened(self::at(3), 201), None);
    // Certificates date in whole seconds.
    assert_eq!(opened(START, 201), None);
    let before = Timestamp(START.0 - 2000);
    assert_eq!(opened(before, 201), Some(GoodbyeReason::Revoked));
    assert_eq!(opened(self::at(3), 7), Some(GoodbyeReason::Revoked));
}

/// What `b` does while `a` tells it the whole group as these members.
fn told_as(b: &mut Node, a: &Node, digest: u8, members: &[SyncItem]) -> Vec<Output> {
    let digest = SyncDigest([digest; 32]);
    let mut outputs = b.hears(at(3), offering(digest, 1, u64::MAX));
    let mut pieces: Vec<&[SyncItem]> = members.chunks(MAX_SYNC_BATCH).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let mut after = None;
    for (n, items) in pieces.iter().enumerate() {
        let batch = Batch {
            after,
            priority: 0,
            last: n + 1 == pieces.len(),
            ..whole(a, digest, items.to_vec())
        };
        outputs.extend(b.hears(at(3), PeerMessage::Batch(Box::new(batch))));
        after = items.last().map(|item| match item {
            SyncItem::Owned(record) => record.id,
            other => panic!("{other:?}"),
        });
    }
    outputs
}

#[test]
fn a_large_group_that_is_emptied_leaves_in_pieces() {
    const MEMBERS: u16 = 600;
    let (a, mut b, id) = sharing();
    let first = b.machine.fleet().subcloud(id).cloned().expect("a member");
    let members: Vec<SyncItem> = (0..MEMBERS)
        .map(|n| {
            let mut record = fleet::Subcloud::clone(&first);
            record.id = SubcloudId(Uuid::from_u128(5000 + u128::from(n)));
            record.name = format!("m{n}");
            // Its addresses do not matter here.
            record.geo.footprint = None;
            SyncItem::Owned(Box::new(record))
        })
        .collect();
    told_as(&mut b, &a, 5, &members);
    let in_group = |b: &Node| {
        let all = b.machine.fleet().subclouds();
        all.filter(|record| record.geo.group == Some(GROUP)).count()
    };
    assert_eq!(in_group(&b), usize::from(MEMBERS));
    let outputs = told_as(&mut b, &a, 6, &[]);
    assert_eq!(in_group(&b), 0);
    let writes = outputs.iter().filter_map(|output| match output {
        Output::Commit { writes, .. } => Some(writes.len()),
        _ => None,
    });
    let most = writes.max().expect("some writes");
    assert!(most < usize::from(MEMBERS), "{most} writes at once");
    let synced = said(&outputs)
        .into_iter()
        .filter(|said| matches!(said, PeerMessage::Synced { .. }));
    assert_eq!(synced.count(), 1);
}

#[track_caller]
fn assert_closed(outputs: &[Output]) {
    let closed = outputs.iter().any(|output| {
        matches!(
            output,
            Output::Peer(PeerOutput::Close {
                goodbye: PeerGoodbye::ProtocolViolation,
                ..
            })
        )
    });
    assert!(closed, "{outputs:?}");
}

#[test]
fn members_are_named_once_and_not_too_many_at_once() {
    let (mut a, _b, id) = sharing();
    let mut ask = |add: &[&str], remove: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (add, remove) = (names(add), names(remove));
        let group = GROUP.to_string();
        let refused = a.ask(at(3), PeerAction::SetMembers { group, add, remove });
        let refused = refused.expect_err("must be refused");
        refused.violations()[0].message.clone()
    };
    assert_eq!(ask(&[], &[]), "no subcloud is named");
    assert_eq!(ask(&[], &["west"; 1001]), "1001 subclouds are named");
    let both = ask(&["west"], &["west"]);
    assert_eq!(
        both,
        "subcloud west is named to join the group and to leave it"
    );
    let group = a.machine.fleet().subcloud(id).expect("it").geo.group;
    assert_eq!(group, Some(GROUP));
}
