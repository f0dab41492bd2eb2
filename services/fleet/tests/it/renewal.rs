//! The identity on a link: certificates that are renewed, keys that are worth nothing any more,
//! and copies that are shut out with their originals.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{
    Calm, START, add, answer, at, controller, credential, enroll, hello, key, settle, site,
};
use fleet::{
    Agent, AgentInput, AgentMessage, AgentOutput, AgentRecord, CertificateRequest, Command,
    CommandId, CommandOutcome, ConnectionId, Controller, ControllerId, ControllerMessage,
    Credential, Endpoint, Epoch, EventKind, Goodbye, GoodbyeReason, GrantedCertificate, Hello,
    Input, InstanceId, LinkId, Output, STALE_KEY, SiteMethod, SubcloudId, Ticket, Welcome,
};
use site::Site;
use uuid::Uuid;

const DAY: u64 = 24 * 60 * 60;

fn id() -> SubcloudId {
    SubcloudId(Uuid::from_u128(1))
}

/// A controller, and what is said to it in a few letters.
struct Story {
    machine: Controller,
    site: Site,
    now: u64,
}

impl Story {
    /// Site 1 is enrolled with key 1.
    fn begin() -> Self {
        let site = site("s", 1, "4");
        let mut machine = controller("4");
        answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")))).unwrap();
        answer(settle(&mut machine, at(0), Input::Enroll(enroll(1, &site)))).unwrap();
        Self {
            machine,
            site,
            now: 1,
        }
    }

    fn tell(&mut self, input: Input) -> Vec<String> {
        spoken(&settle(&mut self.machine, at(self.now), input))
    }

    fn open(&mut self, link: u64, with: u8) -> Vec<String> {
        self.tell(Input::LinkOpened {
            signed: None,
            link: LinkId(link),
            subcloud: id(),
            key: key(with),
            source: [10, 1, 0, 2].into(),
        })
    }

    fn say(&mut self, link: u64, message: AgentMessage) -> Vec<String> {
        let link = LinkId(link);
        self.tell(Input::LinkMessage { link, message })
    }

    fn hello(&mut self, link: u64, renewals: u64, instance: u64, connection: u64) -> Vec<String> {
        let hello = Hello {
            networks: Some(self.machine.networks().digest()),
            renewals,
            instance: InstanceId(instance),
            connection,
            ..hello(&self.site)
        };
        self.say(link, AgentMessage::Hello(hello))
    }

    fn request(&mut self, link: u64, with: u8) -> Vec<String> {
        self.say(link, AgentMessage::CertificateRequest(request(with)))
    }

    /// Opens a link and says Hello.
    fn join(&mut self, link: u64, with: u8, renewals: u64, instance: u64) -> Vec<String> {
        let mut said = self.open(link, with);
        said.extend(self.hello(link, renewals, instance, link));
        said
    }

    fn cloned(&self) -> bool {
        let record = self.machine.fleet().subcloud(id()).unwrap();
        record.cloned().is_some()
    }
}

fn request(with: u8) -> CertificateRequest {
    CertificateRequest {
        key: key(with),
        csr: Vec::new(),
    }
}

/// What goes out, and what is written, in order.
pub(crate) fn spoken(outputs: &[Output]) -> Vec<String> {
    let said = |output: &Output| match output {
        Output::Commit { .. } => Some("(write)".to_owned()),
        Output::Send { message, .. } => Some(match message {
            ControllerMessage::Welcome(welcome) if welcome.answer_at_once => "welcome?".to_owned(),
            ControllerMessage::Welcome(_) => "welcome".to_owned(),
            ControllerMessage::Heartbeat => "heartbeat".to_owned(),
            other => format!("{other:?}"),
        }),
        Output::SendCertificate { request, .. } => {
            Some(format!("certificate {}", request.key.0[0]))
        }
        Output::CloseLink { link, goodbye } => {
            Some(format!("{} {}", link.0, goodbye.reason.name()))
        }
        Output::Event(event) => match event.kind {
            EventKind::Online | EventKind::Offline => None,
            _ => Some(event.kind.name().to_owned()),
        },
        _ => None,
    };
    outputs.iter().filter_map(said).collect()
}

#[test]
fn a_renewed_key_is_durable_before_it_is_signed_and_replaces_the_old_one_at_its_first_use() {
    let mut story = Story::begin();
    assert_eq!(story.join(1, 1, 0, 7), ["welcome"]);
    assert_eq!(story.request(1, 2), ["(write)", "certificate 2"]);
    // The answer was lost: the same key is signed again, and another one is not.
    assert_eq!(story.request(1, 2), ["certificate 2"]);
    // Until the new key is used the old one is good.
    assert_eq!(story.join(2, 1, 0, 8)[..1], ["1 SUPERSEDED"]);
    let used = story.join(3, 2, 1, 8);
    assert_eq!(
        used,
        ["2 SUPERSEDED", "(write)", "CERTIFICATE_RENEWED", "welcome?"]
    );
    let record = story.machine.fleet().subcloud(id()).unwrap();
    let enrolled = record.enrolled().unwrap();
    assert_eq!((enrolled.key, enrolled.renewal.count), (key(2), 1));
    assert_eq!(enrolled.renewal.superseded_at(key(1)), Some(at(1)));
}

#[test]
fn one_connection_renews_to_one_key_that_was_never_used() {
    for (first, second) in [(2, 3), (1, 1)] {
        let mut story = Story::begin();
        story.join(1, 1, 0, 7);
        let mut said = story.request(1, first);
        said.extend(story.request(1, second));
        assert_eq!(
            said.last().unwrap(),
            "1 PROTOCOL_VIOLATION",
            "{first} {second}"
        );
    }
    // Nor is a key asked for before Hello.
    let mut story = Story::begin();
    story.open(1, 1);
    assert_eq!(story.request(1, 2), ["1 PROTOCOL_VIOLATION"]);
}

/// A story in which key 2 took the place of key 1.
fn renewed() -> Story {
    let mut story = Story::begin();
    story.join(1, 1, 0, 7);
    story.request(1, 2);
    story.join(2, 2, 1, 7);
    story
}

#[test]
fn an_old_key_is_late_for_a_while_and_then_a_copy() {
    let mut story = renewed();
    story.now += STALE_KEY.as_secs();
    assert_eq!(story.open(3, 1), ["3 SUPERSEDED"]);
    assert_eq!(
        story.machine.presence(id()).link,
        Some(LinkId(2)),
        "the link stays"
    );
    story.now += 1;
    let shut = [
        "(write)",
        "(write)",
        "IDENTITY_CLONED",
        "2 IDENTITY_CLONED",
        "4 IDENTITY_CLONED",
        "ALARM_RAISED",
    ];
    assert_eq!(story.open(4, 1), shut);
    // Neither the right key nor the old one is taken any more, and that costs no write.
    assert_eq!(story.open(5, 2), ["5 IDENTITY_CLONED"]);
    assert_eq!(story.open(6, 1), ["6 IDENTITY_CLONED"]);
    // A stranger's key is no sign of a copy.
    let mut story = renewed();
    story.now += DAY;
    assert_eq!(story.open(3, 9), ["3 REVOKED"]);
    assert!(!story.cloned());
}

#[test]
fn a_key_that_another_grant_replaced_shows_a_copy() {
    let mut story = Story::begin();
    story.join(1, 1, 0, 7);
    story.request(1, 2);
    // The process died before it kept key 2, so its next one asks for another.
    story.join(2, 1, 0, 8);
    assert_eq!(story.request(2, 3), ["(write)", "certificate 3"]);
    assert!(!story.cloned());
    // Who has kept key 2 all the same is somebody else.
    story.now += STALE_KEY.as_secs() + 1;
    story.open(3, 2);
    assert!(story.cloned());
}

#[test]
fn an_older_count_of_renewals_shows_a_copy_and_a_higher_one_a_defect() {
    let mut story = renewed();
    story.open(3, 2);
    assert_eq!(story.hello(3, 2, 7, 3), ["3 PROTOCOL_VIOLATION"]);
    assert!(!story.cloned());
    story.open(4, 2);
    let said = story.hello(4, 0, 7, 4);
    assert_eq!(
        said,
        [
            "(write)",
            "(write)",
            "IDENTITY_CLONED",
            "4 IDENTITY_CLONED",
            "ALARM_RAISED"
        ]
    );
    assert!(story.cloned());
}

#[test]
fn two_processes_that_take_turns_are_both_cut() {
    let mut story = Story::begin();
    assert_eq!(story.join(1, 1, 0, 7), ["welcome"]);
    story.say(1, AgentMessage::Heartbeat);
    assert_eq!(story.join(2, 1, 0, 8), ["1 SUPERSEDED", "welcome?"]);
    assert_eq!(story.say(2, AgentMessage::Heartbeat), ["heartbeat"]);
    // Hello of the first may have been late; its heartbeat cannot be.
    assert_eq!(story.join(3, 1, 0, 7), ["2 SUPERSEDED", "welcome?"]);
    let said = story.say(3, AgentMessage::Heartbeat);
    assert_eq!(
        said,
        [
            "(write)",
            "(write)",
            "IDENTITY_CLONED",
            "3 IDENTITY_CLONED",
            "ALARM_RAISED"
        ]
    );
    assert_eq!(story.join(4, 1, 0, 8), ["4 IDENTITY_CLONED"]);
}

#[test]
fn a_process_that_was_copied_with_its_memory_is_noticed() {
    let mut story = Story::begin();
    story.open(1, 1);
    story.hello(1, 0, 7, 5);
    story.open(2, 1);
    assert_eq!(story.hello(2, 0, 7, 5), ["welcome?"]);
    story.say(2, AgentMessage::Heartbeat);
    assert!(story.cloned());
}

#[test]
fn restarts_and_reconnections_are_no_copies() {
    let mut story = Story::begin();
    // Every process connects twice and is heard; a Hello of the one before comes late.
    for process in 10..30_u64 {
        for turn in 0..2 {
            story.now += 1;
            story.open(process * 10 + turn, 1);
            story.hello(process * 10 + turn, 0, process, turn + 1);
            story.say(process * 10 + turn, AgentMessage::Heartbeat);
        }
        story.open(process * 10 + 5, 1);
        story.hello(process * 10 + 5, 0, process - 1, 3);
        assert!(!story.cloned(), "process {process}");
    }
}

/// An agent that is live on connection 1, with a certificate that lives a day.
fn live() -> (Agent, Vec<AgentOutput>) {
    let record = AgentRecord {
        authority: None,
        alternates: Default::default(),
        subcloud: id(),
        owner: ControllerId(Uuid::from_u128(7)),
        epoch: Epoch(5),
        controllers: vec![Endpoint("10.200.0.2:8441".parse().unwrap())],
        networks: None,
    };
    let site = Arc::new(site("s", 1, "4"));
    let (mut agent, _) = Agent::start(START, record, credential(1), InstanceId(3), site);
    agent.on(START, &mut Calm, AgentInput::Connected(ConnectionId(1)));
    let outputs = welcome(&mut agent, 0, 1, false);
    (agent, outputs)
}

fn welcome(agent: &mut Agent, now: u64, connection: u64, answer: bool) -> Vec<AgentOutput> {
    let welcome = ControllerMessage::Welcome(Welcome {
        alternates: Default::default(),
        controller: ControllerId(Uuid::from_u128(7)),
        epoch: Epoch(5),
        heartbeat_interval: Duration::from_secs(600),
        report_needed: false,
        answer_at_once: answer,
        controllers: vec![Endpoint("10.200.0.2:8441".parse().unwrap())],
    });
    hear(agent, now, connection, welcome)
}

fn hear(agent: &mut Agent, now: u64, on: u64, message: ControllerMessage) -> Vec<AgentOutput> {
    agent.on(
        at(now),
        &mut Calm,
        AgentInput::Message(ConnectionId(on), message),
    )
}

fn said(outputs: &[AgentOutput]) -> Vec<String> {
    let said = |output: &AgentOutput| match output {
        AgentOutput::Send { message, .. } => Some(match message {
            AgentMessage::Hello(hello) => format!(
                "hello {} {} {}",
                hello.renewals, hello.instance.0, hello.connection
            ),
            AgentMessage::Heartbeat => "heartbeat".to_owned(),
            AgentMessage::Report(_) => "report".to_owned(),
            AgentMessage::CommandResult(_) => "result".to_owned(),
            AgentMessage::CertificateRequest(request) => format!("request {}", request.key.0[0]),
            AgentMessage::NetworksAnswer(_) => "answer".to_owned(),
        }),
        AgentOutput::Connect { connection, .. } => Some(format!("connect {}", connection.0)),
        AgentOutput::Close(connection) => Some(format!("close {}", connection.0)),
        AgentOutput::MakeKey => Some("make key".to_owned()),
        AgentOutput::KeepCertificate { credential, .. } => Some(format!(
            "keep {} {}",
            credential.key.0[0], credential.renewals
        )),
        _ => None,
    };
    outputs.iter().filter_map(said).collect()
}

fn granted() -> ControllerMessage {
    ControllerMessage::Certificate(GrantedCertificate {
        certificate: vec![1],
        validity: Duration::from_secs(DAY),
    })
}

/// The moment of the last timer.
fn timer(outputs: &[AgentOutput]) -> Option<u64> {
    let moment = |output: &AgentOutput| match output {
        AgentOutput::SetTimer { at } => Some((at.0 - START.0) / 1000),
        _ => None,
    };
    outputs.iter().rev().find_map(moment)
}

#[test]
fn a_certificate_is_renewed_at_half_of_its_life_and_used_from_then_on() {
    let (mut agent, _) = live();
    let mut asleep = 0;
    let asked = loop {
        let outputs = agent.on(at(asleep), &mut Calm, AgentInput::Timer);
        if said(&outputs).contains(&"make key".to_owned()) {
            break asleep;
        }
        // The controller answers each heartbeat.
        let heard = hear(&mut agent, asleep, 1, ControllerMessage::Heartbeat);
        asleep = timer(&heard).or(timer(&outputs)).expect("a timer");
    };
    assert!((DAY / 2..=DAY * 6 / 10).contains(&asked), "{asked}");
    let outputs = agent.on(at(asked), &mut Calm, AgentInput::KeyMade(request(2)));
    assert_eq!(said(&outputs), ["request 2"]);
    let outputs = hear(&mut agent, asked, 1, granted());
    assert_eq!(said(&outputs), ["keep 2 1"]);
    assert_eq!(agent.credential(), &credential(1), "until it is durable");
    let outputs = agent.on(at(asked), &mut Calm, AgentInput::Persisted(Ticket(1)));
    assert_eq!(said(&outputs), ["close 1", "connect 2"]);
    let connected = AgentInput::Connected(ConnectionId(2));
    let outputs = agent.on(at(asked), &mut Calm, connected);
    assert_eq!(said(&outputs), ["hello 1 3 2"]);
    let kept = Credential {
        key: key(2),
        renewals: 1,
        received_at: at(asked),
        validity: Duration::from_secs(DAY),
    };
    assert_eq!(agent.credential(), &kept);
    assert_eq!(said(&welcome(&mut agent, asked, 2, true)), ["heartbeat"]);
}

/// An agent that asked for key 2 over connection 1, half a day and a tenth later.
fn asking() -> (Agent, u64) {
    let (mut agent, _) = live();
    let now = DAY * 7 / 10;
    // Nothing was heard for so long that the link is given up, and comes back.
    agent.on(at(now), &mut Calm, AgentInput::Timer);
    agent.on(at(now + 30), &mut Calm, AgentInput::Timer);
    agent.on(
        at(now + 30),
        &mut Calm,
        AgentInput::Connected(ConnectionId(2)),
    );
    assert_eq!(said(&welcome(&mut agent, now + 30, 2, false)), ["make key"]);
    let outputs = agent.on(at(now + 30), &mut Calm, AgentInput::KeyMade(request(2)));
    assert_eq!(said(&outputs), ["request 2"]);
    (agent, now + 30)
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let (mut agent, now) = asking();
    let outputs = agent.on(at(now + 30), &mut Calm, AgentInput::Timer);
    assert_eq!(said(&outputs), ["request 2"]);
    // Also over the next link, where an answer of the link before is worth nothing.
    agent.on(
        at(now + 31),
        &mut Calm,
        AgentInput::Disconnected(ConnectionId(2)),
    );
    agent.on(at(now + 60), &mut Calm, AgentInput::Timer);
    agent.on(
        at(now + 60),
        &mut Calm,
        AgentInput::Connected(ConnectionId(3)),
    );
    assert_eq!(said(&hear(&mut agent, now + 60, 3, granted())), [""; 0]);
    assert_eq!(
        said(&welcome(&mut agent, now + 60, 3, false)),
        ["request 2"]
    );
    assert_eq!(
        said(&hear(&mut agent, now + 60, 3, granted())),
        ["keep 2 1"]
    );
}

#[test]
fn a_certificate_that_cannot_be_used_is_asked_for_with_another_key_later() {
    let (mut agent, now) = asking();
    hear(&mut agent, now, 2, granted());
    let unusable = AgentInput::CertificateUnusable(Ticket(1));
    assert_eq!(said(&agent.on(at(now), &mut Calm, unusable)), [""; 0]);
    assert_eq!(
        said(&agent.on(at(now + 29), &mut Calm, AgentInput::Timer)),
        [""; 0]
    );
    let outputs = agent.on(at(now + 30), &mut Calm, AgentInput::Timer);
    assert_eq!(said(&outputs), ["make key"]);
    assert_eq!(agent.credential(), &credential(1));
}

#[test]
fn a_link_that_breaks_while_the_certificate_is_written_comes_back_with_it() {
    let (mut agent, now) = asking();
    hear(&mut agent, now, 2, granted());
    agent.on(
        at(now),
        &mut Calm,
        AgentInput::Disconnected(ConnectionId(2)),
    );
    assert_eq!(
        said(&agent.on(at(now), &mut Calm, AgentInput::Persisted(Ticket(1)))),
        [""; 0]
    );
    assert_eq!(
        said(&agent.on(at(now + 30), &mut Calm, AgentInput::Timer)),
        ["connect 3"]
    );
    agent.on(
        at(now + 30),
        &mut Calm,
        AgentInput::Connected(ConnectionId(3)),
    );
    assert_eq!(
        said(&welcome(&mut agent, now + 30, 3, false)),
        [""; 0],
        "no second connection"
    );
    assert_eq!(agent.credential().renewals, 1);
}

#[test]
fn a_command_that_runs_is_answered_before_the_connection_changes() {
    let (mut agent, now) = asking();
    let command = Command {
        id: CommandId(1),
        epoch: Epoch(5),
        method: SiteMethod::GetSite,
        request: [].into(),
        within: Duration::from_secs(900),
        actor: "uid=0".to_owned(),
    };
    hear(&mut agent, now, 2, ControllerMessage::Command(command));
    hear(&mut agent, now, 2, granted());
    let kept = agent.on(at(now), &mut Calm, AgentInput::Persisted(Ticket(1)));
    assert_eq!(said(&kept), [""; 0]);
    let done = AgentInput::CommandDone {
        connection: ConnectionId(2),
        id: CommandId(1),
        outcome: CommandOutcome::Done(Vec::new()),
    };
    assert_eq!(said(&agent.on(at(now), &mut Calm, done)), ["result"]);
    let beat = agent.on(at(now + 600), &mut Calm, AgentInput::Timer);
    assert_eq!(said(&beat), ["heartbeat", "close 2", "connect 3"]);
}

#[test]
fn an_agent_that_is_shut_out_waits_long_and_one_that_is_superseded_does_not() {
    for (reason, least, most) in [
        (GoodbyeReason::IdentityCloned, 1800, 3600),
        (GoodbyeReason::Superseded, 0, 1),
    ] {
        let (mut agent, _) = live();
        let goodbye = ControllerMessage::Goodbye(Goodbye::because(reason));
        let wait = timer(&hear(&mut agent, 1, 1, goodbye)).expect("a timer") - 1;
        assert!((least..=most).contains(&wait), "{reason:?} {wait}");
    }
}
