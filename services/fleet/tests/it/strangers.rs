//! What those who have no identity may leave behind.

use std::net::IpAddr;

use fleet::{
    EnrollUnread, Event, EventKind, Fault, Input, MAX_COMMIT_BYTES, MAX_KEPT_FAULTS, Outcome,
    Output, RequestId, STRANGER_BURST, STRANGER_EVERY, Write,
};
use site::Timestamp;

use crate::common::{
    Calm, add, answer, at, controller, enroll, fault, reasons, settle, site, token,
};

/// Of each audit entry, what the caller was not told; and how many events of refusals there are.
fn logged(outputs: &[Output]) -> (Vec<String>, usize) {
    let (mut details, mut events) = (Vec::new(), 0);
    for output in outputs {
        let Output::Commit { writes, .. } = output else {
            continue;
        };
        for write in writes {
            match write {
                Write::Audit(entry) => match &entry.outcome {
                    Outcome::Refused { detail, .. } => details.push(detail.clone()),
                    other => panic!("{other:?}"),
                },
                Write::Event(Event {
                    kind: EventKind::EnrollmentRefused { .. },
                    ..
                }) => events += 1,
                _ => {}
            }
        }
    }
    (details, events)
}

#[test]
fn a_flood_of_strangers_leaves_the_logs_to_others() {
    let mut machine = controller("4");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "a")));
    let mut stranger = enroll(1, &site("a", 1, "4"));
    stranger.token = token(9).id;
    let unread = EnrollUnread {
        request: RequestId(1),
        name: "a".to_owned(),
        source: IpAddr::from([192, 0, 2, 1]),
        faults: vec![fault(); 1000],
    };
    let mut ask = |now, read: bool| {
        let outputs = match read {
            true => settle(&mut machine, now, Input::Enroll(stranger.clone())),
            false => settle(&mut machine, now, Input::EnrollUnread(unread.clone())),
        };
        let answers = outputs
            .iter()
            .filter(|output| matches!(output, Output::Answer { .. }));
        assert_eq!(answers.count(), 1, "everybody is answered");
        logged(&outputs)
    };
    for n in 0..STRANGER_BURST {
        let (details, events) = ask(at(1), n % 2 == 0);
        assert_eq!((details.len(), events), (1, 1), "{n}");
    }
    for n in 0..50 {
        assert_eq!(ask(at(1), n % 2 == 0), (Vec::new(), 0));
    }
    let every = u64::try_from(STRANGER_EVERY.as_millis()).unwrap();
    let next = Timestamp(at(0).0 + (1000 / every + 1) * every);
    let counted = "no such token; 50 more refusals of strangers have no entry";
    assert_eq!(ask(next, true), (vec![counted.to_owned()], 1));
    assert_eq!(ask(next, true), (Vec::new(), 0));
    // However long it is quiet, no more than a burst comes.
    for n in 0..STRANGER_BURST + 10 {
        let (details, _) = ask(at(1_000_000), true);
        assert_eq!(details.len(), usize::from(n < STRANGER_BURST), "{n}");
    }
}

#[test]
fn whoever_has_a_token_is_logged_whatever_strangers_do() {
    let mut machine = controller("4");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "a")));
    let mut stranger = enroll(1, &site("a", 1, "4"));
    stranger.token = token(9).id;
    for _ in 0..=STRANGER_BURST {
        settle(&mut machine, at(1), Input::Enroll(stranger.clone()));
    }
    let wrong = enroll(1, &site("a", 1, "6"));
    let outputs = settle(&mut machine, at(1), Input::Enroll(wrong));
    assert_eq!(logged(&outputs), (vec![String::new()], 1));
    assert_eq!(reasons(&answer(outputs)), ["PRIMARY_FAMILY_MISMATCH"]);
}

#[test]
fn a_log_keeps_some_faults_and_the_number_of_the_others() {
    for count in [1, MAX_KEPT_FAULTS, MAX_KEPT_FAULTS + 1, 10_000] {
        let kept = Fault::kept(vec![fault(); count]);
        assert_eq!(kept.len(), count.min(MAX_KEPT_FAULTS));
        let last = &kept.last().unwrap().message;
        let rest = count - (kept.len() - 1);
        match count > MAX_KEPT_FAULTS {
            true => assert_eq!(last, &format!("at least {rest} more faults were found")),
            false => assert_eq!(last, "taken"),
        }
    }
}

#[test]
fn large_sites_that_come_at_once_are_told_to_wait() {
    const SITES: u8 = 40;
    let mut machine = controller("4");
    let calls: Vec<_> = (1..=SITES)
        .map(|number| {
            let name = format!("s{number}");
            settle(&mut machine, at(0), Input::AddSubcloud(add(number, &name)));
            let mut call = enroll(number, &site(&name, number, "4"));
            let mut parts = (*call.report.site).clone();
            let address = parts.pools[0].ranges[0].0;
            let remembered = (0..6000).map(|n| (format!("{n:0>100}"), address));
            parts.pools[0].remembered = remembered.collect();
            call.report.site = parts.into();
            assert!(call.report.site.weight() > 900 << 10);
            call
        })
        .collect();
    // The disk does not answer any more.
    let mut taken = 0;
    for call in calls {
        let outputs = machine.on(at(1), &mut Calm, Input::Enroll(call));
        match outputs
            .iter()
            .any(|output| matches!(output, Output::Commit { .. }))
        {
            true => taken += 1,
            false => break,
        }
    }
    let most = MAX_COMMIT_BYTES / (900 << 10) + 1;
    assert!((1..=most).contains(&taken), "{taken} of {most}");
    let outputs = machine.on(at(1), &mut Calm, Input::AddSubcloud(add(50, "late")));
    assert!(
        outputs.is_empty(),
        "answers wait for what was written before"
    );
    assert_eq!(machine.commits_waiting(), taken);
}
