//! Operators' commands to subclouds: out over the link, and the answer back to who asked.
//!
//! A command is under way from the moment that it is sent until its result comes or its link
//! ends, also when its deadline has passed and its caller was told so: only then has its place
//! become free, and only then is known what came of it. Every command that changes something
//! is in the audit log before it goes out, and again with its outcome; one whose result comes
//! after its deadline has two outcomes there, the second of which is the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use site::{SiteParts, Timestamp};

use crate::admission::admit_report;
use crate::{
    Action, Actor, Command, CommandId, CommandOutcome, CommandResult, ControllerMessage, Fault,
    LinkId, MAX_COMMAND_BYTES, MAX_COMMANDS, MAX_COMMANDS_BYTES, MAX_COMMANDS_PER_LINK, Outcome,
    Reach, Reason, Rejection, RequestId, SiteMethod, Subcloud, SubcloudId, Violation,
};

use super::{Batch, Controller, Deed, Deferred, Output, RunCommand, Wake};

/// The commands that are under way.
#[derive(Debug, Default)]
pub(super) struct Commands {
    last: u64,
    running: BTreeMap<CommandId, Running>,
    by_link: BTreeMap<LinkId, BTreeSet<CommandId>>,
    bytes: usize,
}

/// A command that was sent.
#[derive(Debug)]
struct Running {
    /// The call that waits; `None` once it was told that the deadline has passed.
    request: Option<RequestId>,
    link: LinkId,
    bytes: usize,
    deadline: Timestamp,
    asked: Asked,
}

/// Who asked whom for what.
#[derive(Debug, Clone)]
struct Asked {
    actor: Actor,
    subcloud: Option<SubcloudId>,
    name: String,
    method: SiteMethod,
    request_id: String,
    changes: bool,
}

impl Commands {
    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    fn on_link(&self, link: LinkId) -> usize {
        self.by_link.get(&link).map_or(0, BTreeSet::len)
    }

    fn begin(&mut self, running: Running) -> CommandId {
        self.last += 1;
        let id = CommandId(self.last);
        self.bytes += running.bytes;
        self.by_link.entry(running.link).or_default().insert(id);
        self.running.insert(id, running);
        id
    }

    /// Takes out a command of this link.
    fn end(&mut self, link: LinkId, id: CommandId) -> Option<Running> {
        let ids = self.by_link.get_mut(&link)?;
        if !ids.remove(&id) {
            return None;
        }
        if ids.is_empty() {
            self.by_link.remove(&link);
        }
        let running = self.running.remove(&id)?;
        self.bytes -= running.bytes;
        Some(running)
    }

    fn of_link(&self, link: LinkId) -> Vec<CommandId> {
        let ids = self.by_link.get(&link);
        ids.map(|ids| ids.iter().copied().collect())
            .unwrap_or_default()
    }
}

impl Controller {
    pub(super) fn run_command(&mut self, now: Timestamp, call: RunCommand, out: &mut Vec<Output>) {
        match self.judge_command(now, &call) {
            Ok(reach) => self.send_command(now, call, &reach, out),
            Err(rejection) => {
                let known = self.fleet.find(&call.subcloud);
                let asked = Asked {
                    subcloud: known.map(|record| record.id),
                    name: known.map_or_else(|| call.subcloud.clone(), |r| r.name.clone()),
                    actor: call.actor,
                    method: call.method,
                    request_id: call.request_id,
                    changes: call.changes,
                };
                let outcome = CommandOutcome::Refused(rejection);
                self.conclude_command(now, Some(call.request), asked, outcome, out);
            }
        }
    }

    /// The result of a command came. One that nobody knows is too late, or made up.
    pub(super) fn command_result(
        &mut self,
        now: Timestamp,
        link: LinkId,
        result: CommandResult,
        out: &mut Vec<Output>,
    ) {
        let CommandResult { id, outcome } = result;
        if let Some(running) = self.commands.end(link, id) {
            self.wakeups.cancel(running.deadline, Wake::Command(id));
            self.conclude_command(now, running.request, running.asked, outcome, out);
        }
    }

    /// The deadline of a command has come.
    pub(super) fn command_due(&mut self, now: Timestamp, id: CommandId, out: &mut Vec<Output>) {
        let Some(running) = self.commands.running.get_mut(&id) else {
            return;
        };
        let Some(request) = running.request.take() else {
            return;
        };
        let asked = running.asked.clone();
        let outcome = CommandOutcome::Refused(Rejection::one(deadline_exceeded(&asked)));
        self.conclude_command(now, Some(request), asked, outcome, out);
    }

    /// A link is gone, and with it every answer that should have come over it.
    pub(super) fn commands_lost(&mut self, now: Timestamp, link: LinkId, out: &mut Vec<Output>) {
        for id in self.commands.of_link(link) {
            let Some(running) = self.commands.end(link, id) else {
                continue;
            };
            self.wakeups.cancel(running.deadline, Wake::Command(id));
            // Its caller was told of the deadline, and more is not known now.
            let Some(request) = running.request else {
                continue;
            };
            let violation = lost(&running.asked);
            let outcome = CommandOutcome::Refused(Rejection::one(violation));
            self.conclude_command(now, Some(request), running.asked, outcome, out);
        }
    }

    /// How many commands are under way.
    pub fn commands(&self) -> usize {
        self.commands.len()
    }

    fn judge_command(&self, now: Timestamp, call: &RunCommand) -> Result<Reach, Rejection> {
        let reach = self.commandable(&call.subcloud)?;
        let name = &reach.subcloud.name;
        let mut violations = Vec::new();
        if call.body.len() > MAX_COMMAND_BYTES {
            violations.push(too_large(name, call.body.len()));
        }
        if let Some(foreseen) = &call.foreseen {
            violations.extend(self.unacceptable(&reach.subcloud, foreseen));
        }
        violations.extend(self.busy().filter(|_| call.changes));
        violations.extend(self.full(name, reach.link, call.body.len()));
        if call.deadline <= now {
            violations.push(expired(name, call.method));
        }
        Rejection::check(violations)?;
        Ok(reach)
    }

    /// What the rules have against the report that would follow (F2-F7): the site would be in
    /// quarantine then, and out of the reach of the command that could undo it.
    fn unacceptable(&self, record: &Subcloud, foreseen: &SiteParts) -> Vec<Violation> {
        let refused = admit_report(&self.fleet, record, foreseen).err();
        refused.map_or_else(Vec::new, |refused| refused.violations().to_vec())
    }

    /// A refusal when too many commands are under way.
    fn full(&self, name: &str, link: LinkId, bytes: usize) -> Option<Violation> {
        let commands = &self.commands;
        let (limit, message) = if commands.on_link(link) >= MAX_COMMANDS_PER_LINK {
            let message = format!("subcloud {name} works on {MAX_COMMANDS_PER_LINK} commands");
            (MAX_COMMANDS_PER_LINK, message)
        } else if commands.len() >= MAX_COMMANDS || commands.bytes + bytes > MAX_COMMANDS_BYTES {
            let message = format!("the fleet works on {} commands", commands.len());
            (MAX_COMMANDS, message)
        } else {
            return None;
        };
        let violation = Violation::new(
            Reason::TooManyCommands,
            format!("{message} and takes no more for now"),
            "ask again when those are answered; nothing was sent",
        );
        Some(violation.object("subcloud", name).fact("limit", limit))
    }

    fn send_command(
        &mut self,
        now: Timestamp,
        call: RunCommand,
        reach: &Reach,
        out: &mut Vec<Output>,
    ) {
        let (record, link) = (&reach.subcloud, reach.link);
        let actor = call.actor.to_string();
        let asked = Asked {
            actor: call.actor,
            subcloud: Some(record.id),
            name: record.name.clone(),
            method: call.method,
            request_id: call.request_id,
            changes: call.changes,
        };
        let mut batch = Batch::default();
        if asked.changes {
            self.log_command(&mut batch, now, asked.clone(), Outcome::Sent);
        }
        let id = self.commands.begin(Running {
            request: Some(call.request),
            link,
            bytes: call.body.len(),
            deadline: call.deadline,
            asked,
        });
        self.wakeups.at(call.deadline, Wake::Command(id));
        let command = Command {
            id,
            epoch: record.epoch(),
            method: call.method,
            request: call.body,
            within: Duration::from_millis(call.deadline.0.saturating_sub(now.0)),
            actor,
        };
        let message = ControllerMessage::Command(command);
        let send = Deferred::Output(Output::Send { link, message });
        if call.changes {
            batch.then.push(send);
            self.commit(batch, out);
        } else {
            self.release(send, out);
        }
    }

    fn log_command(&mut self, batch: &mut Batch, now: Timestamp, asked: Asked, outcome: Outcome) {
        let deed = Deed {
            actor: asked.actor,
            action: Action::Command(asked.method),
            subcloud: asked.subcloud,
            name: &asked.name,
            outcome,
        };
        self.log_audit(batch, now, deed);
    }

    /// Answers a call, if one still waits; a change is in the audit log before that.
    fn conclude_command(
        &mut self,
        now: Timestamp,
        request: Option<RequestId>,
        asked: Asked,
        outcome: CommandOutcome,
        out: &mut Vec<Output>,
    ) {
        let changes = asked.changes;
        let mut batch = Batch::default();
        if changes {
            self.log_command(&mut batch, now, asked, audited(&outcome));
        }
        let answer =
            request.map(|request| Deferred::Output(Output::CommandAnswer { request, outcome }));
        if changes {
            batch.then.extend(answer);
            self.commit(batch, out);
        } else if let Some(answer) = answer {
            self.release(answer, out);
        }
    }
}

/// What the audit log keeps of an outcome.
fn audited(outcome: &CommandOutcome) -> Outcome {
    match outcome {
        CommandOutcome::Done(_) => Outcome::Done,
        CommandOutcome::Failed(failure) => Outcome::Refused {
            faults: failure.faults.clone(),
            detail: failure.message.clone(),
        },
        CommandOutcome::Refused(rejection) => Outcome::Refused {
            faults: Fault::all_of(rejection),
            detail: String::new(),
        },
    }
}

/// The link, or this controller, ended while a change was under way.
pub fn command_outcome_unknown(subcloud: &str, method: SiteMethod, request_id: &str) -> Violation {
    let message = format!(
        "the link to subcloud {subcloud} ended before it answered {}: the change may or may not \
         have been made",
        name_of(method)
    );
    let remedy = format!(
        "ask again with request_id `{request_id}` (`tandem` has --request-id {request_id}): within \
         a day the change is made at most once, and the answer is the same"
    );
    Violation::new(Reason::CommandOutcomeUnknown, message, remedy)
        .object("subcloud", subcloud)
        .fact("requestId", request_id)
}

fn lost(asked: &Asked) -> Violation {
    if asked.changes {
        return command_outcome_unknown(&asked.name, asked.method, &asked.request_id);
    }
    let message = format!(
        "the link to subcloud {} ended before it answered {}; nothing was changed",
        asked.name,
        name_of(asked.method)
    );
    Violation::new(
        Reason::SubcloudOffline,
        message,
        "ask again when its link is up; the agent opens it by itself",
    )
    .object("subcloud", &asked.name)
}

fn deadline_exceeded(asked: &Asked) -> Violation {
    let (name, method) = (&asked.name, name_of(asked.method));
    let violation = if asked.changes {
        let message = format!(
            "subcloud {name} did not answer {method} before the deadline: the change may or may \
             not have been made"
        );
        let remedy = format!(
            "ask again with request_id `{0}` (`tandem` has --request-id {0}) and more time: within \
             a day the change is made at most once, and the answer is the same",
            asked.request_id
        );
        Violation::new(Reason::CommandDeadline, message, remedy)
            .fact("requestId", &asked.request_id)
    } else {
        let message = format!("subcloud {name} did not answer {method} before the deadline");
        let remedy = "ask again with more time, or see whether its agent is well";
        Violation::new(Reason::CommandDeadline, message, remedy)
    };
    violation.object("subcloud", name)
}

fn expired(name: &str, method: SiteMethod) -> Violation {
    Violation::new(
        Reason::CommandDeadline,
        format!(
            "the deadline passed before {} went out to subcloud {name}; nothing was changed",
            name_of(method)
        ),
        "ask again with more time",
    )
    .object("subcloud", name)
}

fn too_large(name: &str, bytes: usize) -> Violation {
    Violation::new(
        Reason::CommandTooLarge,
        format!("the request to subcloud {name} has {bytes} bytes, and its link takes 1 MiB"),
        "send less in one request",
    )
    .object("subcloud", name)
    .fact("limit", MAX_COMMAND_BYTES)
}

/// A method as operators know it.
fn name_of(method: SiteMethod) -> &'static str {
    let path = method.path();
    path.rsplit('/').next().unwrap_or(path)
}
