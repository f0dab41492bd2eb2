//! Both ends of the link, one at a time: what is said, and what waits for the disk.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Calm, add, answer, at, controller, credential, enroll, key, settle, site};
use fleet::{
    Agent, AgentInput, AgentMessage, AgentOutput, AgentRecord, Availability, Controller,
    ControllerId, ControllerMessage, ControllerNetworks, Endpoint, Epoch, Event, EventKind,
    Fingerprint, Goodbye, GoodbyeReason, Input, InstanceId, LinkId, Output, Records, Report,
    SubcloudId, Sync, Welcome, Write,
};
use site::{Site, Timestamp};
use uuid::Uuid;

const LINK: LinkId = LinkId(1);

fn id(number: u8) -> SubcloudId {
    SubcloudId(Uuid::from_u128(u128::from(number)))
}

/// A controller with site 1 enrolled as `s`.
fn enrolled() -> (Controller, Site) {
    let site = site("s", 1, "4");
    let mut machine = controller("4");
    answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")))).unwrap();
    answer(settle(&mut machine, at(0), Input::Enroll(enroll(1, &site)))).unwrap();
    (machine, site)
}

fn open(link: LinkId, key: Fingerprint) -> Input {
    Input::LinkOpened {
        link,
        subcloud: id(1),
        key,
        signed: None,
        source: [10, 1, 0, 2].into(),
    }
}

fn hello(link: LinkId, site: &Site) -> Input {
    Input::LinkMessage {
        link,
        message: AgentMessage::Hello(crate::common::hello(site)),
    }
}

fn report(link: LinkId, site: &Site) -> Input {
    Input::LinkMessage {
        link,
        message: AgentMessage::Report(Report::of(site)),
    }
}

fn renumbered(site: &Site, other: &Site) -> Site {
    let mut parts = other.to_parts();
    parts.identity = site.identity().clone();
    parts.generation.0 += 1;
    Site::from_parts(parts).unwrap()
}

fn messages(outputs: &[Output]) -> Vec<&'static str> {
    let name = |message: &ControllerMessage| match message {
        ControllerMessage::Welcome(welcome) if welcome.report_needed => "welcome, report",
        ControllerMessage::Welcome(_) => "welcome",
        ControllerMessage::ReportAccepted { .. } => "accepted",
        ControllerMessage::ReportRefused { .. } => "refused",
        ControllerMessage::Networks { .. } => "networks",
        ControllerMessage::Alternates { .. } => "alternates",
        ControllerMessage::ReportWanted => "wanted",
        ControllerMessage::Heartbeat => "heartbeat",
        ControllerMessage::Command(_) => "command",
        ControllerMessage::Certificate(_) => "certificate",
        ControllerMessage::Goodbye(_) => "goodbye",
    };
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send { message, .. } => Some(name(message)),
            Output::CloseLink { goodbye, .. } => Some(goodbye.reason.name()),
            Output::Commit { .. } => Some("(write)"),
            _ => None,
        })
        .collect()
}

#[test]
fn a_known_state_costs_no_write() {
    let (mut machine, site) = enrolled();
    assert_eq!(
        messages(&settle(&mut machine, at(1), open(LINK, key(1)))),
        Vec::<&str>::new()
    );
    let outputs = settle(&mut machine, at(1), hello(LINK, &site));
    assert_eq!(messages(&outputs), ["welcome", "networks"]);
    assert_eq!(machine.presence(id(1)).availability, Availability::Online);
    assert_eq!(
        messages(&settle(&mut machine, at(2), report(LINK, &site))),
        ["accepted"]
    );
}

#[test]
fn an_acknowledgement_waits_for_the_disk() {
    let (mut machine, site) = enrolled();
    settle(&mut machine, at(1), open(LINK, key(1)));
    settle(&mut machine, at(1), hello(LINK, &site));
    let changed = renumbered(&site, &crate::common::site("s", 3, "4"));
    let outputs = machine.on(at(2), &mut Calm, report(LINK, &changed));
    assert_eq!(messages(&outputs), ["(write)"]);
    // The agent reconnects meanwhile: even "no report needed" would be an acknowledgement.
    let second = LinkId(2);
    assert_eq!(
        messages(&machine.on(at(3), &mut Calm, open(second, key(1)))),
        ["SUPERSEDED"]
    );
    assert_eq!(
        messages(&machine.on(at(3), &mut Calm, hello(second, &changed))),
        [""; 0]
    );
    let Some(Output::Commit { ticket, writes }) = outputs.into_iter().next() else {
        panic!("a write is asked for");
    };
    assert!(
        writes
            .iter()
            .any(|write| matches!(write, Write::Site { .. }))
    );
    let freed = machine.on(at(4), &mut Calm, Input::Committed { ticket });
    assert_eq!(messages(&freed), ["accepted", "welcome", "networks"]);
}

#[test]
fn a_violating_report_is_refused_kept_as_such_and_mended_by_a_right_one() {
    let (mut machine, site) = enrolled();
    settle(&mut machine, at(1), open(LINK, key(1)));
    settle(&mut machine, at(1), hello(LINK, &site));
    let wrong = renumbered(&site, &crate::common::site("s", 3, "6"));
    let outputs = settle(&mut machine, at(2), report(LINK, &wrong));
    // The second write is that of its alarms.
    assert_eq!(messages(&outputs), ["(write)", "(write)", "refused"]);
    let record = machine.fleet().subcloud(id(1)).unwrap();
    assert_eq!(record.sync(), Sync::OutOfSync);
    assert_eq!(
        record.refused.as_ref().unwrap().faults[0].reason,
        "PRIMARY_FAMILY_MISMATCH"
    );
    assert_eq!(
        record.observed.as_ref().unwrap().digest,
        site.digest(),
        "the old state stays"
    );
    // The same refusal is not written twice.
    assert_eq!(
        messages(&settle(&mut machine, at(3), report(LINK, &wrong))),
        ["refused"]
    );
    let second = LinkId(2);
    settle(&mut machine, at(4), open(second, key(1)));
    // Coming back with the accepted state, it is asked for a report, for that ends the quarantine.
    let outputs = settle(&mut machine, at(4), hello(second, &site));
    assert_eq!(messages(&outputs), ["welcome, report", "networks"]);
    let outputs = settle(&mut machine, at(5), report(second, &site));
    assert_eq!(messages(&outputs), ["(write)", "(write)", "accepted"]);
    assert_eq!(
        machine.fleet().subcloud(id(1)).unwrap().sync(),
        Sync::InSync
    );
}

#[test]
fn only_the_enrolled_key_over_the_primary_family_opens_a_link() {
    let (mut machine, _) = enrolled();
    assert_eq!(
        messages(&settle(&mut machine, at(1), open(LINK, key(9)))),
        ["REVOKED"]
    );
    let v6 = Input::LinkOpened {
        link: LINK,
        subcloud: id(1),
        key: key(1),
        signed: None,
        source: "fd01:1::2".parse().unwrap(),
    };
    assert_eq!(messages(&settle(&mut machine, at(1), v6)), ["WRONG_FAMILY"]);
    let unknown = Input::LinkOpened {
        link: LINK,
        subcloud: id(2),
        key: key(1),
        signed: None,
        source: [10, 1, 0, 2].into(),
    };
    assert_eq!(messages(&settle(&mut machine, at(1), unknown)), ["REVOKED"]);
    assert_eq!(machine.links(), 0);
}

#[test]
fn a_link_says_hello_first_and_soon() {
    let (mut machine, site) = enrolled();
    settle(&mut machine, at(1), open(LINK, key(1)));
    let early = settle(&mut machine, at(1), report(LINK, &site));
    assert_eq!(messages(&early), ["PROTOCOL_VIOLATION"]);
    settle(&mut machine, at(2), open(LinkId(2), key(1)));
    assert_eq!(
        messages(&settle(&mut machine, at(12), Input::Timer)),
        ["HELLO_TIMEOUT"]
    );
}

/// The availability events that a timer brings.
fn events(outputs: &[Output]) -> Vec<&EventKind> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Event(Event { kind, .. }) => Some(kind),
            _ => None,
        })
        .collect()
}

#[test]
fn offline_comes_after_three_heartbeats_and_never_right_after_a_restart() {
    let (mut machine, site) = enrolled();
    settle(&mut machine, at(1), open(LINK, key(1)));
    settle(&mut machine, at(1), hello(LINK, &site));
    settle(&mut machine, at(5), Input::LinkClosed { link: LINK });
    assert!(events(&settle(&mut machine, at(34), Input::Timer)).is_empty());
    // Not later either, although it enrolled a moment ago and had longer to come at first.
    let outputs = settle(&mut machine, at(35), Input::Timer);
    assert_eq!(events(&outputs), [&EventKind::Offline]);

    let subclouds = machine.fleet().subclouds().cloned().collect();
    let records = Records {
        subclouds,
        ..Records::default()
    };
    let mut restarted = crate::common::recovered("4", records, 100);
    assert_eq!(
        restarted.presence(id(1)).availability,
        Availability::Unknown
    );
    assert!(events(&settle(&mut restarted, at(89), Input::Timer)).is_empty());
    assert_eq!(
        events(&settle(&mut restarted, at(90), Input::Timer)),
        [&EventKind::Offline]
    );
}

#[test]
fn a_long_message_over_a_slow_line_keeps_its_link() {
    let (mut machine, site) = enrolled();
    settle(&mut machine, at(1), open(LINK, key(1)));
    let heard = Input::LinkHeard { link: LINK };
    assert_eq!(
        messages(&settle(&mut machine, at(1), heard.clone())),
        [""; 0]
    );
    settle(&mut machine, at(2), hello(LINK, &site));
    // Pieces of a report for five minutes, and nothing else.
    let mut answered = 0;
    for second in 3..300 {
        let outputs = settle(&mut machine, at(second), heard.clone());
        answered += messages(&outputs).len();
        assert!(events(&settle(&mut machine, at(second), Input::Timer)).is_empty());
    }
    assert_eq!(machine.presence(id(1)).link, Some(LINK));
    // Each was answered with a heartbeat, twice in the interval of ten seconds.
    assert_eq!(answered, 59);
    assert_eq!(
        messages(&settle(&mut machine, at(300), report(LINK, &site))),
        ["accepted"]
    );
    assert_eq!(
        messages(&settle(&mut machine, at(330), Input::Timer)),
        ["HEARTBEATS_MISSED"]
    );
}

#[test]
fn every_agent_is_told_of_a_change_of_the_controllers_networks() {
    let (mut machine, site) = enrolled();
    settle(&mut machine, at(1), open(LINK, key(1)));
    settle(&mut machine, at(1), hello(LINK, &site));
    let same = std::sync::Arc::new(crate::common::site("controller", 200, "4"));
    let outputs = settle(&mut machine, at(2), Input::ControllerSiteChanged(same));
    assert_eq!(messages(&outputs), [""; 0]);
    let other = std::sync::Arc::new(crate::common::site("controller", 201, "4"));
    let outputs = settle(&mut machine, at(2), Input::ControllerSiteChanged(other));
    assert_eq!(messages(&outputs), ["networks"]);
    assert_eq!(
        messages(&settle(&mut machine, at(3), Input::ShuttingDown)),
        ["SHUTTING_DOWN"]
    );
}

/// An agent of epoch 5 that has said Hello.
pub(crate) fn greeting() -> (Agent, fleet::ConnectionId) {
    let site = site("s", 1, "4");
    let record = AgentRecord {
        subcloud: id(1),
        owner: ControllerId(Uuid::from_u128(7)),
        epoch: Epoch(5),
        controllers: vec![Endpoint("10.200.0.2:8441".parse().unwrap())],
        authority: None,
        alternates: Default::default(),
        networks: None,
    };
    let site = Arc::new(site);
    let (mut agent, outputs) = Agent::start(at(0), record, credential(1), InstanceId(1), site);
    let connection = outputs.iter().find_map(|output| match output {
        AgentOutput::Connect { connection, .. } => Some(*connection),
        _ => None,
    });
    let connection = connection.expect("it connects at once");
    agent.on(at(0), &mut Calm, AgentInput::Connected(connection));
    (agent, connection)
}

pub(crate) fn welcome(owner: u128, epoch: u64) -> ControllerMessage {
    ControllerMessage::Welcome(Welcome {
        controller: ControllerId(Uuid::from_u128(owner)),
        epoch: Epoch(epoch),
        heartbeat_interval: Duration::from_secs(10),
        report_needed: true,
        answer_at_once: false,
        controllers: vec![Endpoint("10.200.0.2:8441".parse().unwrap())],
        alternates: Default::default(),
    })
}

pub(crate) fn kinds(outputs: &[AgentOutput]) -> Vec<&'static str> {
    outputs
        .iter()
        .filter_map(|output| match output {
            AgentOutput::Connect { .. } => Some("connect"),
            AgentOutput::Send { message, .. } => Some(match message {
                AgentMessage::Hello(_) => "hello",
                AgentMessage::Report(_) => "report",
                AgentMessage::Heartbeat => "heartbeat",
                AgentMessage::CommandResult(_) => "result",
                AgentMessage::CertificateRequest(_) => "request",
                AgentMessage::NetworksAnswer(_) => "answer",
            }),
            AgentOutput::Close(_) => Some("close"),
            AgentOutput::Persist { .. } => Some("persist"),
            AgentOutput::MakeKey => Some("make key"),
            AgentOutput::KeepCertificate { .. } => Some("keep"),
            AgentOutput::ApplyNetworks(_) => Some("networks"),
            AgentOutput::SetTimer { .. } | AgentOutput::Status(_) => None,
            AgentOutput::ReportRefused { .. } => Some("refused"),
            AgentOutput::Execute { .. } => Some("execute"),
            AgentOutput::StaleCommand { .. } => Some("stale"),
        })
        .collect()
}

#[test]
fn an_agent_obeys_nobody_of_an_older_term() {
    for (owner, epoch, expected) in [
        (7, 5, vec!["report"]),
        (7, 4, vec!["close"]),
        (8, 5, vec!["close"]),
        (8, 6, vec!["persist"]),
    ] {
        let (mut agent, connection) = greeting();
        let input = AgentInput::Message(connection, welcome(owner, epoch));
        let outputs = agent.on(at(1), &mut Calm, input);
        assert_eq!(kinds(&outputs), expected, "owner {owner} epoch {epoch}");
    }
}

#[test]
fn a_new_term_is_durable_before_anything_is_answered() {
    let (mut agent, connection) = greeting();
    let outputs = agent.on(
        at(1),
        &mut Calm,
        AgentInput::Message(connection, welcome(8, 6)),
    );
    let Some(AgentOutput::Persist { ticket, record }) = outputs.first() else {
        panic!("the record is written first");
    };
    assert_eq!(
        (record.owner, record.epoch),
        (ControllerId(Uuid::from_u128(8)), Epoch(6))
    );
    let told = ControllerMessage::Networks {
        epoch: Epoch(6),
        networks: ControllerNetworks::of(&site("controller", 200, "4")),
        report_within: Duration::ZERO,
    };
    let outputs = agent.on(at(1), &mut Calm, AgentInput::Message(connection, told));
    assert_eq!(kinds(&outputs), [""; 0]);
    let outputs = agent.on(at(2), &mut Calm, AgentInput::Persisted(*ticket));
    assert_eq!(kinds(&outputs), ["report", "networks"]);
}

#[test]
fn a_silent_controller_is_given_up_and_tried_again() {
    let (mut agent, connection) = greeting();
    agent.on(
        at(0),
        &mut Calm,
        AgentInput::Message(connection, welcome(7, 5)),
    );
    assert_eq!(
        kinds(&agent.on(at(10), &mut Calm, AgentInput::Timer)),
        ["heartbeat"]
    );
    assert_eq!(
        kinds(&agent.on(at(20), &mut Calm, AgentInput::Timer)),
        ["heartbeat"]
    );
    assert_eq!(
        kinds(&agent.on(at(30), &mut Calm, AgentInput::Timer)),
        ["close"]
    );
    assert_eq!(
        kinds(&agent.on(at(61), &mut Calm, AgentInput::Timer)),
        ["connect"]
    );
}

#[test]
fn pieces_of_a_long_command_are_signs_of_life() {
    let (mut agent, connection) = greeting();
    let welcome = AgentInput::Message(connection, welcome(7, 5));
    agent.on(at(0), &mut Calm, welcome);
    for second in 1..100 {
        agent.on(at(second), &mut Calm, AgentInput::Heard(connection));
        let outputs = agent.on(at(second), &mut Calm, AgentInput::Timer);
        let beats = if second % 10 == 0 { 1 } else { 0 };
        assert_eq!(kinds(&outputs), vec!["heartbeat"; beats]);
    }
    agent.on(at(120), &mut Calm, AgentInput::Timer);
    let outputs = agent.on(at(129), &mut Calm, AgentInput::Timer);
    assert_eq!(kinds(&outputs), ["close"]);
}

#[test]
fn a_state_that_is_too_large_is_held_while_the_link_goes_on() {
    let (mut agent, connection) = greeting();
    let welcome = AgentInput::Message(connection, welcome(7, 5));
    assert_eq!(kinds(&agent.on(at(0), &mut Calm, welcome)), ["report"]);
    let digest = site("s", 1, "4").digest();
    let too_large = AgentInput::ReportTooLarge(digest);
    assert_eq!(kinds(&agent.on(at(0), &mut Calm, too_large)), [""; 0]);
    let heard = AgentInput::Message(connection, ControllerMessage::Heartbeat);
    assert_eq!(kinds(&agent.on(at(1), &mut Calm, heard)), [""; 0]);
    assert!(agent.is_online() && !agent.in_sync());
    // Another state is reported at once, the same one when its time has come.
    let same = AgentInput::SiteChanged(Arc::new(site("s", 1, "4")));
    assert_eq!(kinds(&agent.on(at(2), &mut Calm, same)), [""; 0]);
    let changed = AgentInput::SiteChanged(Arc::new(site("s", 2, "4")));
    assert_eq!(kinds(&agent.on(at(2), &mut Calm, changed)), ["report"]);
}

#[test]
fn a_revoked_agent_waits_long() {
    let (mut agent, connection) = greeting();
    let goodbye = Goodbye::because(GoodbyeReason::Revoked);
    let input = AgentInput::Message(connection, ControllerMessage::Goodbye(goodbye));
    let outputs = agent.on(at(1), &mut Calm, input);
    let timer = outputs.iter().find_map(|output| match output {
        AgentOutput::SetTimer { at } => Some(*at),
        _ => None,
    });
    assert!(timer >= Some(Timestamp(at(1).0 + 1_800_000)), "{timer:?}");
}

#[test]
fn the_latest_state_wins_and_one_report_is_in_flight() {
    let (mut agent, connection) = greeting();
    let outputs = agent.on(
        at(0),
        &mut Calm,
        AgentInput::Message(connection, welcome(7, 5)),
    );
    assert_eq!(kinds(&outputs), ["report"]);
    let first = Arc::new(site("s", 1, "4"));
    let latest = Arc::new(site("s", 3, "4"));
    for site in [Arc::new(site("s", 2, "4")), Arc::clone(&latest)] {
        let outputs = agent.on(at(1), &mut Calm, AgentInput::SiteChanged(site));
        assert_eq!(kinds(&outputs), [""; 0]);
    }
    let accepted = |site: &Site| ControllerMessage::ReportAccepted {
        generation: site.generation(),
        digest: site.digest(),
    };
    let input = AgentInput::Message(connection, accepted(&first));
    let outputs = agent.on(at(2), &mut Calm, input);
    let sent = outputs.iter().find_map(|output| match output {
        AgentOutput::Send {
            message: AgentMessage::Report(report),
            ..
        } => Some(report.digest),
        _ => None,
    });
    assert_eq!(sent, Some(latest.digest()));
    assert!(!agent.in_sync());
    agent.on(
        at(3),
        &mut Calm,
        AgentInput::Message(connection, accepted(&latest)),
    );
    assert!(agent.in_sync());
}

#[test]
fn a_state_that_was_known_is_reported_again_after_a_refusal() {
    let (mut agent, connection) = greeting();
    let ControllerMessage::Welcome(mut known) = welcome(7, 5) else {
        panic!("it is a welcome");
    };
    known.report_needed = false;
    let input = AgentInput::Message(connection, ControllerMessage::Welcome(known));
    assert_eq!(kinds(&agent.on(at(0), &mut Calm, input)), [""; 0]);
    let wrong = Arc::new(site("s", 2, "4"));
    let outputs = agent.on(
        at(1),
        &mut Calm,
        AgentInput::SiteChanged(Arc::clone(&wrong)),
    );
    assert_eq!(kinds(&outputs), ["report"]);
    let refused = ControllerMessage::ReportRefused {
        generation: wrong.generation(),
        digest: wrong.digest(),
        faults: Vec::new(),
    };
    let outputs = agent.on(at(2), &mut Calm, AgentInput::Message(connection, refused));
    assert_eq!(kinds(&outputs), ["refused"]);
    let mended = Arc::new(site("s", 1, "4"));
    let outputs = agent.on(at(3), &mut Calm, AgentInput::SiteChanged(mended));
    assert_eq!(kinds(&outputs), ["report"]);
}
