//! Commands over a link, both ends, one at a time.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Calm, add, answer, at, controller, enroll, hello, key, settle, site};
use fleet::{
    Action, Actor, Agent, AgentInput, AgentMessage, AgentOutput, AgentRecord, Command,
    CommandFailure, CommandId, CommandOutcome, CommandResult, ConnectionId, Controller,
    ControllerId, ControllerMessage, Endpoint, Epoch, Fault, Goodbye, GoodbyeReason, Input,
    InstanceId, LinkId, MAX_COMMAND_BYTES, MAX_COMMANDS_PER_LINK, Management, Outcome, Output,
    Records, Report, RequestId, RunCommand, SiteMethod, Subcloud, SubcloudId, Welcome, Write,
};
use site::{ReasonSet as _, Site};
use uuid::Uuid;

const LINK: LinkId = LinkId(1);

fn id() -> SubcloudId {
    SubcloudId(Uuid::from_u128(1))
}

/// A controller with site 1 enrolled as `s`, not linked.
fn enrolled(management: Management) -> (Controller, Site) {
    let site = site("s", 1, "4");
    let mut first = controller("4");
    answer(settle(&mut first, at(0), Input::AddSubcloud(add(1, "s")))).unwrap();
    answer(settle(&mut first, at(0), Input::Enroll(enroll(1, &site)))).unwrap();
    let known = first.fleet().by_name("s").expect("it is there");
    let subcloud = Subcloud {
        management,
        ..Subcloud::clone(known)
    };
    let records = Records {
        subclouds: vec![subcloud.into()],
        ..Records::default()
    };
    (crate::common::recovered("4", records, 100), site)
}

/// Opens a link and says Hello.
fn linked(machine: &mut Controller, link: LinkId, site: &Site) {
    let opened = Input::LinkOpened {
        link,
        subcloud: id(),
        key: key(1),
        signed: None,
        source: [10, 1, 0, 2].into(),
    };
    settle(machine, at(1), opened);
    let message = AgentMessage::Hello(hello(site));
    settle(machine, at(1), Input::LinkMessage { link, message });
}

/// A managed, linked subcloud `s`.
fn managed() -> (Controller, Site) {
    let (mut machine, site) = enrolled(Management::Managed);
    linked(&mut machine, LINK, &site);
    (machine, site)
}

/// A change with ten seconds, asked for at second 2.
fn change(request: u64) -> RunCommand {
    RunCommand {
        request: RequestId(request),
        actor: Actor::Operator("local/uid-0".to_owned()),
        subcloud: "s".to_owned(),
        method: SiteMethod::UpdateDns,
        body: Arc::from([7]),
        request_id: format!("id-{request}"),
        changes: true,
        foreseen: None,
        deadline: at(12),
    }
}

fn question(request: u64) -> RunCommand {
    RunCommand {
        method: SiteMethod::GetDns,
        request_id: String::new(),
        changes: false,
        ..change(request)
    }
}

/// What the outputs come to: commands as `command N`, answers as their reason, audit entries.
fn told(outputs: &[Output]) -> Vec<String> {
    let mut told = Vec::new();
    for output in outputs {
        match output {
            Output::Send {
                message: ControllerMessage::Command(command),
                ..
            } => told.push(format!("command {}", command.id.0)),
            Output::CommandAnswer { request, outcome } => {
                told.push(format!("answer {} {}", request.0, shown(outcome)));
            }
            Output::Commit { writes, .. } => {
                told.extend(writes.iter().filter_map(|write| match write {
                    Write::Audit(entry) => Some(format!(
                        "audit {} {} {}",
                        entry.action.name(),
                        entry.name,
                        match &entry.outcome {
                            Outcome::Done => "done",
                            Outcome::Sent => "sent",
                            Outcome::Refused { faults, .. } => &faults[0].reason,
                        }
                    )),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    told
}

fn shown(outcome: &CommandOutcome) -> String {
    match outcome {
        CommandOutcome::Done(bytes) => format!("done {bytes:?}"),
        CommandOutcome::Failed(failure) => format!("failed {}", failure.code),
        CommandOutcome::Refused(rejection) => rejection.first().reason.name().to_owned(),
    }
}

fn run(machine: &mut Controller, seconds: u64, call: RunCommand) -> Vec<String> {
    told(&settle(machine, at(seconds), Input::RunCommand(call)))
}

fn result(machine: &mut Controller, seconds: u64, command: u64) -> Vec<String> {
    let message = AgentMessage::CommandResult(CommandResult {
        id: CommandId(command),
        outcome: CommandOutcome::Done(vec![9]),
    });
    let input = Input::LinkMessage {
        link: LINK,
        message,
    };
    told(&settle(machine, at(seconds), input))
}

#[test]
fn a_command_goes_out_in_its_term_and_its_answer_comes_back() {
    let (mut machine, _) = managed();
    let outputs = settle(&mut machine, at(2), Input::RunCommand(change(1)));
    let sent = outputs.iter().find_map(|output| match output {
        Output::Send {
            link: LINK,
            message: ControllerMessage::Command(command),
        } => Some(command.clone()),
        _ => None,
    });
    let expected = Command {
        id: CommandId(1),
        epoch: Epoch(1),
        method: SiteMethod::UpdateDns,
        request: Arc::from([7]),
        within: Duration::from_secs(10),
        actor: "local/uid-0".to_owned(),
    };
    assert_eq!(sent, Some(expected));
    assert_eq!(
        result(&mut machine, 3, 1),
        ["audit COMMAND UpdateDns s done", "answer 1 done [9]"]
    );
    assert_eq!(machine.commands(), 0);
    assert_eq!(result(&mut machine, 3, 1), [""; 0], "told twice");
    // A question leaves no trace.
    assert_eq!(run(&mut machine, 4, question(2)), ["command 2"]);
    assert_eq!(result(&mut machine, 5, 2), ["answer 2 done [9]"]);
}

#[test]
fn a_change_goes_out_when_its_audit_entry_is_durable() {
    let (mut machine, _) = managed();
    let outputs = machine.on(at(2), &mut Calm, Input::RunCommand(change(1)));
    assert_eq!(told(&outputs), ["audit COMMAND UpdateDns s sent"]);
    let ticket = outputs.iter().find_map(|output| match output {
        Output::Commit { ticket, .. } => Some(*ticket),
        _ => None,
    });
    let ticket = ticket.expect("a write");
    let outputs = machine.on(at(2), &mut Calm, Input::Committed { ticket });
    assert_eq!(told(&outputs), ["command 1"]);
}

#[test]
fn a_change_is_answered_when_its_audit_entry_is_durable() {
    let (mut machine, _) = managed();
    run(&mut machine, 2, change(1));
    let failure = CommandFailure {
        code: 9,
        message: "no".to_owned(),
        details: vec![1, 2, 3],
        faults: vec![Fault {
            reason: "DNS_FAMILY_NOT_ON_OAM".to_owned(),
            ..Fault::default()
        }],
    };
    let message = AgentMessage::CommandResult(CommandResult {
        id: CommandId(1),
        outcome: CommandOutcome::Failed(failure.clone()),
    });
    let input = Input::LinkMessage {
        link: LINK,
        message,
    };
    let outputs = machine.on(at(3), &mut Calm, input);
    assert_eq!(
        told(&outputs),
        ["audit COMMAND UpdateDns s DNS_FAMILY_NOT_ON_OAM"]
    );
    let ticket = outputs.iter().find_map(|output| match output {
        Output::Commit { ticket, .. } => Some(*ticket),
        _ => None,
    });
    let ticket = ticket.expect("a write");
    let answered = Output::CommandAnswer {
        request: RequestId(1),
        outcome: CommandOutcome::Failed(failure),
    };
    let outputs = machine.on(at(3), &mut Calm, Input::Committed { ticket });
    assert!(outputs.contains(&answered), "{outputs:?}");
}

#[test]
fn a_subcloud_that_may_not_or_cannot_obey_is_sent_nothing() {
    let check = |machine: &mut Controller, call: RunCommand, reason: &str| {
        let outputs = run(machine, 2, call.clone());
        let audit = format!("audit COMMAND UpdateDns {} {reason}", call.subcloud);
        assert_eq!(outputs, [audit, format!("answer 1 {reason}")]);
    };
    let (mut machine, _) = enrolled(Management::Unmanaged);
    check(&mut machine, change(1), "SUBCLOUD_UNMANAGED");
    let nobody = RunCommand {
        subcloud: "nobody".to_owned(),
        ..change(1)
    };
    check(&mut machine, nobody, "SUBCLOUD_NOT_FOUND");
    let (mut machine, _) = enrolled(Management::Managed);
    check(&mut machine, change(1), "SUBCLOUD_OFFLINE");
    let mut machine = controller("4");
    answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")))).unwrap();
    check(&mut machine, change(1), "SUBCLOUD_NOT_ENROLLED");

    let (mut machine, _) = managed();
    let large = RunCommand {
        body: vec![0; MAX_COMMAND_BYTES + 1].into(),
        ..change(1)
    };
    check(&mut machine, large, "COMMAND_TOO_LARGE");
    let late = RunCommand {
        deadline: at(2),
        ..change(1)
    };
    check(&mut machine, late, "COMMAND_DEADLINE_EXCEEDED");
    // What would put it in quarantine, also when it is only asked what would happen.
    for (foreseen, reason) in [
        (crate::common::site("s", 200, "4"), "ADDRESS_OVERLAP"),
        (crate::common::site("s", 1, "6"), "PRIMARY_FAMILY_MISMATCH"),
    ] {
        let wrong = RunCommand {
            foreseen: Some(Arc::new(foreseen.to_parts())),
            ..change(1)
        };
        check(&mut machine, wrong.clone(), reason);
        let preview = RunCommand {
            changes: false,
            ..wrong
        };
        assert_eq!(
            run(&mut machine, 2, preview),
            [format!("answer 1 {reason}")]
        );
    }
    // A report that breaks the rules puts it in quarantine.
    let other = crate::common::site("s", 3, "6");
    let message = AgentMessage::Report(Report::of(&other));
    let input = Input::LinkMessage {
        link: LINK,
        message,
    };
    settle(&mut machine, at(2), input);
    check(&mut machine, change(1), "SUBCLOUD_QUARANTINED");
}

#[test]
fn a_subcloud_has_so_many_commands_and_no_more() {
    let (mut machine, _) = managed();
    let limit = u64::try_from(MAX_COMMANDS_PER_LINK).unwrap();
    for number in 1..=limit {
        assert_eq!(
            run(&mut machine, 2, question(number)),
            [format!("command {number}")]
        );
    }
    assert_eq!(
        run(&mut machine, 2, question(99)),
        ["answer 99 TOO_MANY_COMMANDS"]
    );
    // A deadline answers the caller, but the subcloud may still be at work.
    let outputs = settle(&mut machine, at(12), Input::Timer);
    assert_eq!(told(&outputs).len(), MAX_COMMANDS_PER_LINK);
    assert!(told(&outputs).contains(&"answer 1 COMMAND_DEADLINE_EXCEEDED".to_owned()));
    let again = |request| RunCommand {
        deadline: at(99),
        ..question(request)
    };
    assert_eq!(
        run(&mut machine, 13, again(99)),
        ["answer 99 TOO_MANY_COMMANDS"]
    );
    assert_eq!(result(&mut machine, 13, 3), [""; 0], "its caller has gone");
    assert_eq!(run(&mut machine, 13, again(100)), ["command 9"]);
}

#[test]
fn a_change_that_is_late_is_audited_twice_and_answered_once() {
    let (mut machine, _) = managed();
    run(&mut machine, 2, change(1));
    assert_eq!(
        told(&settle(&mut machine, at(12), Input::Timer)),
        [
            "audit COMMAND UpdateDns s COMMAND_DEADLINE_EXCEEDED",
            "answer 1 COMMAND_DEADLINE_EXCEEDED"
        ]
    );
    assert_eq!(
        result(&mut machine, 14, 1),
        ["audit COMMAND UpdateDns s done"]
    );
}

#[test]
fn when_the_link_ends_nobody_knows_what_became_of_a_change() {
    let check = |end: &dyn Fn(&mut Controller, &Site) -> Vec<Output>| {
        let (mut machine, site) = managed();
        run(&mut machine, 2, change(1));
        run(&mut machine, 2, question(2));
        let outputs = end(&mut machine, &site);
        assert_eq!(
            told(&outputs),
            [
                "audit COMMAND UpdateDns s COMMAND_OUTCOME_UNKNOWN",
                "answer 2 SUBCLOUD_OFFLINE",
                "answer 1 COMMAND_OUTCOME_UNKNOWN"
            ]
        );
        let id = outputs.iter().find_map(|output| match output {
            Output::CommandAnswer {
                request: RequestId(1),
                outcome: CommandOutcome::Refused(rejection),
            } => rejection.first().metadata.get("requestId").cloned(),
            _ => None,
        });
        assert_eq!(id.as_deref(), Some("id-1"), "it can be asked for again");
        assert_eq!(machine.commands(), 0);
    };
    check(&|machine, _| settle(machine, at(3), Input::LinkClosed { link: LINK }));
    check(&|machine, _| settle(machine, at(3), Input::ShuttingDown));
    check(&|machine, _| {
        let opened = Input::LinkOpened {
            link: LinkId(2),
            subcloud: id(),
            key: key(1),
            signed: None,
            source: [10, 1, 0, 2].into(),
        };
        settle(machine, at(3), opened)
    });
}

#[test]
fn a_result_before_hello_or_over_another_link_is_not_taken() {
    let (mut machine, site) = managed();
    run(&mut machine, 2, question(1));
    let over = |machine: &mut Controller, link| {
        let message = AgentMessage::CommandResult(CommandResult {
            id: CommandId(1),
            outcome: CommandOutcome::Done(Vec::new()),
        });
        settle(machine, at(3), Input::LinkMessage { link, message })
    };
    let other = LinkId(2);
    let opened = Input::LinkOpened {
        link: other,
        subcloud: id(),
        key: key(1),
        signed: None,
        source: [10, 1, 0, 2].into(),
    };
    settle(&mut machine, at(3), opened);
    let outputs = over(&mut machine, other);
    let violation = Goodbye::because(GoodbyeReason::ProtocolViolation);
    let closed = Output::CloseLink {
        link: other,
        goodbye: violation,
    };
    assert!(outputs.contains(&closed), "{outputs:?}");
    linked(&mut machine, LinkId(3), &site);
    assert_eq!(told(&over(&mut machine, LinkId(3))), [""; 0]);
}

// The agent's end.

const CONNECTION: ConnectionId = ConnectionId(1);

fn record(epoch: u64) -> AgentRecord {
    AgentRecord {
        subcloud: id(),
        owner: ControllerId(Uuid::nil()),
        epoch: Epoch(epoch),
        controllers: vec![Endpoint(([10, 200, 0, 2], 8441).into())],
        authority: None,
        alternates: Default::default(),
        networks: None,
    }
}

fn welcome(epoch: u64) -> AgentInput {
    let welcome = Welcome {
        controller: ControllerId(Uuid::nil()),
        epoch: Epoch(epoch),
        heartbeat_interval: Duration::from_secs(10),
        report_needed: false,
        alternates: Default::default(),
        answer_at_once: false,
        controllers: record(1).controllers,
    };
    AgentInput::Message(CONNECTION, ControllerMessage::Welcome(welcome))
}

fn command(number: u64, epoch: u64) -> AgentInput {
    let command = Command {
        id: CommandId(number),
        epoch: Epoch(epoch),
        method: SiteMethod::UpdateDns,
        request: Arc::from([7]),
        within: Duration::from_secs(1),
        actor: "local".to_owned(),
    };
    AgentInput::Message(CONNECTION, ControllerMessage::Command(command))
}

fn connected(epoch: u64) -> Agent {
    let instance = InstanceId(1);
    let (mut machine, _) = Agent::start(
        at(0),
        record(epoch),
        crate::common::credential(1),
        instance,
        Arc::new(site("s", 1, "4")),
    );
    machine.on(at(0), &mut Calm, AgentInput::Connected(CONNECTION));
    machine
}

fn live(epoch: u64) -> Agent {
    let mut machine = connected(epoch);
    machine.on(at(0), &mut Calm, welcome(epoch));
    machine
}

/// What an agent does with commands: `does N`, or `answers N` with the reason of a refusal.
fn does(machine: &mut Agent, input: AgentInput) -> Vec<String> {
    let outputs = machine.on(at(1), &mut Calm, input);
    let shown = outputs.iter().filter_map(|output| match output {
        AgentOutput::Execute { command, .. } => Some(format!("does {}", command.id.0)),
        AgentOutput::Send {
            message: AgentMessage::CommandResult(result),
            ..
        } => Some(format!(
            "answers {} {}",
            result.id.0,
            shown(&result.outcome)
        )),
        _ => None,
    });
    shown.collect()
}

fn done(number: u64) -> AgentInput {
    AgentInput::CommandDone {
        connection: CONNECTION,
        id: CommandId(number),
        outcome: CommandOutcome::Done(number.to_string().into_bytes()),
    }
}

#[test]
fn an_agent_does_what_its_owner_commands_and_nothing_of_an_older_term() {
    let mut machine = live(5);
    assert_eq!(does(&mut machine, command(1, 5)), ["does 1"]);
    assert_eq!(does(&mut machine, command(1, 5)), [""; 0], "told twice");
    assert_eq!(does(&mut machine, done(1)), ["answers 1 done [49]"]);
    assert_eq!(does(&mut machine, command(2, 4)), ["answers 2 STALE_EPOCH"]);
    assert_eq!(machine.stale_commands(), 1);
    assert_eq!(
        does(&mut machine, command(3, 6)),
        ["answers 3 LINK_PROTOCOL_VIOLATION"]
    );
    assert_eq!(machine.commands_running(), 0);
    let limit = u64::try_from(MAX_COMMANDS_PER_LINK).unwrap();
    for number in 10..10 + limit {
        does(&mut machine, command(number, 5));
    }
    assert_eq!(
        does(&mut machine, command(99, 5)),
        ["answers 99 TOO_MANY_COMMANDS"]
    );
    assert_eq!(does(&mut machine, command(10, 5)), [""; 0], "told twice");
}

#[test]
fn an_answer_that_is_too_large_or_too_late_is_not_sent() {
    let mut machine = live(1);
    does(&mut machine, command(1, 1));
    let large = AgentInput::CommandDone {
        connection: CONNECTION,
        id: CommandId(1),
        outcome: CommandOutcome::Done(vec![0; MAX_COMMAND_BYTES + 1]),
    };
    assert_eq!(does(&mut machine, large), ["answers 1 COMMAND_TOO_LARGE"]);
    does(&mut machine, command(2, 1));
    machine.on(at(2), &mut Calm, AgentInput::Disconnected(CONNECTION));
    assert_eq!(machine.commands_running(), 1, "the site is still at work");
    assert_eq!(does(&mut machine, done(2)), [""; 0]);
    assert_eq!(machine.commands_running(), 0);
}

#[test]
fn a_command_of_a_new_term_waits_until_the_term_is_written_down() {
    let mut machine = connected(1);
    assert_eq!(does(&mut machine, command(1, 1)), [""; 0], "not welcomed");
    let outputs = machine.on(at(1), &mut Calm, welcome(2));
    let ticket = outputs.iter().find_map(|output| match output {
        AgentOutput::Persist { ticket, .. } => Some(*ticket),
        _ => None,
    });
    assert_eq!(does(&mut machine, command(2, 2)), [""; 0]);
    assert_eq!(does(&mut machine, command(3, 1)), [""; 0]);
    assert_eq!(
        does(
            &mut machine,
            AgentInput::Persisted(ticket.expect("a write"))
        ),
        ["does 2", "answers 3 STALE_EPOCH"]
    );
}

#[test]
fn a_command_of_a_new_term_that_is_told_twice_waits_once() {
    let mut machine = connected(1);
    let outputs = machine.on(at(1), &mut Calm, welcome(2));
    let ticket = outputs.iter().find_map(|output| match output {
        AgentOutput::Persist { ticket, .. } => Some(*ticket),
        _ => None,
    });
    let limit = u64::try_from(MAX_COMMANDS_PER_LINK).unwrap();
    for number in 1..=limit {
        assert_eq!(does(&mut machine, command(number, 2)), [""; 0]);
        assert_eq!(does(&mut machine, command(number, 2)), [""; 0]);
    }
    assert_eq!(
        does(&mut machine, command(99, 2)),
        ["answers 99 TOO_MANY_COMMANDS"]
    );
    let expected: Vec<String> = (1..=limit).map(|number| format!("does {number}")).collect();
    let persisted = AgentInput::Persisted(ticket.expect("a write"));
    assert_eq!(does(&mut machine, persisted), expected);
}

#[test]
fn the_audit_log_can_name_every_command() {
    for method in SiteMethod::ALL {
        let name = Action::Command(*method).name();
        assert!(name.starts_with("COMMAND "), "{name}");
        assert_eq!(SiteMethod::from_path(method.path()), Some(*method));
    }
    assert_eq!(
        SiteMethod::from_path("/tandem.site.v1.SiteService/WatchSite"),
        None
    );
}
