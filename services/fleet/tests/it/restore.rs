//! A controller that was restored from a backup: agents that renewed their certificates since come
//! back by themselves, and nothing that was worth nothing before is worth more now.

use std::sync::Arc;

use fleet::{
    Actor, AgentMessage, CertificateRequest, Controller, Fingerprint, Hello, Input, InstanceId,
    IssueToken, LinkId, Output, Records, RequestId, STALE_KEY, STRANGER_BURST, SharedSubcloud,
    Signed, SubcloudId,
};
use site::Timestamp;
use uuid::Uuid;

use crate::common::{
    Calm, add, answer, at, controller, enroll, hello, key, recovered, settle, site, token,
};
use crate::renewal::spoken;

/// The authority of the controller itself, and another one.
const OWN: u8 = 200;
const OTHER: u8 = 201;

fn id() -> SubcloudId {
    SubcloudId(Uuid::from_u128(1))
}

/// When these links come: long after all certificates.
const NOW: u64 = 5000;

/// A certificate: of which key, by which authority, from when, after how many renewals.
#[derive(Debug, Clone, Copy)]
struct Shown(u8, u8, Timestamp, u64);

fn open(link: u64, Shown(with, by, signed_at, _): Shown) -> Input {
    Input::LinkOpened {
        link: LinkId(link),
        subcloud: id(),
        key: key(with),
        signed: Some(Signed {
            by: Fingerprint([by; 32]),
            at: signed_at,
        }),
        source: [10, 1, 0, 2].into(),
    }
}

fn greet(link: u64, Shown(.., renewals): Shown) -> Input {
    let hello = Hello {
        renewals,
        instance: InstanceId(9),
        connection: link,
        ..hello(&site("s", 1, "4"))
    };
    Input::LinkMessage {
        link: LinkId(link),
        message: AgentMessage::Hello(hello),
    }
}

/// What the machine says to a link that is opened, and to its Hello.
fn join(machine: &mut Controller, link: u64, now: u64, shown: Shown) -> Vec<String> {
    let mut said = spoken(&settle(machine, at(now), open(link, shown)));
    said.extend(spoken(&settle(machine, at(now), greet(link, shown))));
    said.retain(|said| !said.starts_with("Networks "));
    said
}

fn ask(machine: &mut Controller, now: u64, link: u64, with: u8) -> Vec<String> {
    let request = CertificateRequest {
        key: key(with),
        csr: Vec::new(),
    };
    let message = AgentMessage::CertificateRequest(request);
    let link = LinkId(link);
    spoken(&settle(
        machine,
        at(now),
        Input::LinkMessage { link, message },
    ))
}

/// Site 1 enrolled with key 1, and key 2 took its place: it was granted after 100 seconds.
fn renewed() -> Controller {
    let mut machine = controller("4");
    answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")))).unwrap();
    let call = enroll(1, &site("s", 1, "4"));
    answer(settle(&mut machine, at(0), Input::Enroll(call))).unwrap();
    join(&mut machine, 1, 50, Shown(1, OWN, at(0), 0));
    assert_eq!(ask(&mut machine, 100, 1, 2), ["(write)", "certificate 2"]);
    join(&mut machine, 2, 101, Shown(2, OWN, at(100), 1));
    machine
}

/// Another site takes its place with key 9.
fn reenrolled(mut machine: Controller, now: u64) -> Controller {
    let issue = IssueToken {
        request: RequestId(78),
        actor: Actor::Operator("uid=0".to_owned()),
        subcloud: "s".to_owned(),
        token: token(9),
        reenroll: true,
        validate_only: false,
    };
    answer(settle(&mut machine, at(now), Input::IssueToken(issue))).unwrap();
    let call = enroll(9, &site("s", 1, "4"));
    answer(settle(&mut machine, at(now), Input::Enroll(call))).unwrap();
    machine
}

fn record(machine: &Controller) -> SharedSubcloud {
    Arc::clone(machine.fleet().subcloud(id()).unwrap())
}

/// A controller that starts from the records of another, which lived on.
fn restored(backup: &Controller) -> Controller {
    let records = Records {
        subclouds: vec![record(backup)],
        ..Records::default()
    };
    recovered("4", records, 100)
}

#[test]
fn only_what_is_newer_than_the_record_shows_that_it_is_old() {
    const BACK: &[&str] = &["(write)", "CERTIFICATE_NEWER", "welcome"];
    const REVOKED: &[&str] = &["1 REVOKED"];
    let enrolled_anew = || reenrolled(renewed(), 300);
    let cases: [(&str, Controller, Shown, &[&str]); 11] = [
        ("renewed since", renewed(), Shown(3, OWN, at(200), 2), BACK),
        ("and again", renewed(), Shown(4, OWN, at(900), 9), BACK),
        // An operator let it enroll anew since, and it counts from the beginning.
        ("anew since", renewed(), Shown(4, OWN, at(900), 0), BACK),
        ("same second", renewed(), Shown(3, OWN, at(100), 2), REVOKED),
        ("older", renewed(), Shown(3, OWN, at(99), 2), REVOKED),
        ("of others", renewed(), Shown(3, OTHER, at(200), 2), REVOKED),
        (
            "a count that nobody reaches",
            renewed(),
            Shown(3, OWN, at(200), u64::MAX),
            &["1 PROTOCOL_VIOLATION"],
        ),
        (
            "before it enrolled anew",
            enrolled_anew(),
            Shown(3, OWN, at(299), 2),
            REVOKED,
        ),
        (
            "what its predecessor had",
            enrolled_anew(),
            Shown(2, OWN, at(100), 1),
            REVOKED,
        ),
        (
            "after it enrolled anew",
            enrolled_anew(),
            Shown(3, OWN, at(301), 1),
            BACK,
        ),
        (
            "what the record has",
            renewed(),
            Shown(2, OWN, at(100), 1),
            &["welcome"],
        ),
    ];
    for (name, backup, shown, expected) in cases {
        let mut machine = restored(&backup);
        assert_eq!(join(&mut machine, 1, NOW, shown), expected, "{name}");
    }
}

#[test]
fn what_was_superseded_stays_a_copy_however_late_it_is_dated() {
    let mut machine = restored(&renewed());
    join(&mut machine, 1, NOW, Shown(1, OWN, at(4000), 0));
    assert!(record(&machine).cloned().is_some());
    // Whoever is shut out stays so.
    let said = join(&mut machine, 2, NOW, Shown(3, OWN, at(200), 2));
    assert_eq!(said, ["2 IDENTITY_CLONED"]);
}

#[test]
fn it_is_durable_before_the_welcome() {
    let mut machine = restored(&renewed());
    let shown = Shown(3, OWN, at(200), 2);
    let mut outputs = machine.on(at(NOW), &mut Calm, open(1, shown));
    outputs.extend(machine.on(at(NOW), &mut Calm, greet(1, shown)));
    assert_eq!(spoken(&outputs), ["(write)"]);
}

#[test]
fn copies_are_noticed_and_certificates_renewed_as_before_the_restore() {
    let back = || {
        let mut machine = restored(&renewed());
        join(&mut machine, 1, NOW, Shown(3, OWN, at(200), 2));
        machine
    };
    let enrolled = record(&back()).enrolled().unwrap().clone();
    assert_eq!((enrolled.key, enrolled.renewal.count), (key(3), 2));
    assert_eq!(enrolled.renewal.granted_at, at(200));
    let later = NOW + STALE_KEY.as_secs() + 1;
    let copies = [
        ("the key of the backup", Shown(2, OWN, at(100), 1)),
        ("the key before", Shown(1, OWN, at(0), 0)),
        ("an older count", Shown(3, OWN, at(200), 1)),
    ];
    for (name, copy) in copies {
        let mut machine = back();
        join(&mut machine, 2, later, copy);
        assert!(record(&machine).cloned().is_some(), "{name}");
    }
    // Of a renewal that the controller forgot, and that was not the last.
    let mut machine = back();
    let said = join(&mut machine, 2, later, Shown(7, OWN, at(150), 2));
    assert_eq!(said, ["2 REVOKED"]);
    assert!(record(&machine).cloned().is_none());

    let mut machine = back();
    assert_eq!(ask(&mut machine, NOW, 1, 4), ["(write)", "certificate 4"]);
    let said = join(&mut machine, 2, NOW, Shown(4, OWN, at(NOW), 3));
    let renewed = ["1 SUPERSEDED", "(write)", "CERTIFICATE_RENEWED", "welcome"];
    assert_eq!(said, renewed);
}

#[test]
fn a_clock_that_was_ahead_makes_no_certificate_newer_than_an_enrollment() {
    // Certificates are dated by a clock that was an hour ahead of that of the timers, and later
    // was set right.
    let mut machine = renewed();
    machine.dates_by(at(3800));
    ask(&mut machine, 200, 2, 3);
    machine.dates_by(at(300));
    let mut machine = restored(&reenrolled(machine, 300));
    let said = join(&mut machine, 1, NOW, Shown(3, OWN, at(3800), 2));
    assert_eq!(said, ["1 REVOKED"]);
}

#[test]
fn a_subcloud_without_a_record_is_told_of_and_cannot_fill_the_log() {
    let shown = Shown(3, OWN, at(200), 2);
    let mut machine = controller("4");
    let told = |machine: &mut Controller, now: Timestamp, shown| {
        let outputs = settle(machine, now, open(1, shown));
        assert_eq!(spoken(&outputs), ["1 REVOKED"]);
        outputs.iter().find_map(|output| match output {
            Output::UnknownSubcloud {
                subcloud, others, ..
            } => {
                assert_eq!(*subcloud, id());
                Some(*others)
            }
            _ => None,
        })
    };
    // Those of other authorities are no news: a peer's subclouds may be unknown here.
    let other = Shown(3, OTHER, at(200), 2);
    assert_eq!(told(&mut machine, at(NOW), other), None);
    for _ in 0..STRANGER_BURST {
        assert_eq!(told(&mut machine, at(NOW), shown), Some(Some(0)));
    }
    for _ in 0..7 {
        assert_eq!(told(&mut machine, at(NOW), shown), Some(None), "counted");
    }
    assert_eq!(told(&mut machine, at(NOW + 20), shown), Some(Some(7)));
    // What waits for its site is no more than a name yet.
    let mut machine = controller("4");
    answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")))).unwrap();
    assert_eq!(told(&mut machine, at(NOW), shown), Some(Some(0)));
}
