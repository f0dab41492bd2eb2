//! Operators' commands to subclouds, asked for again until they are settled, and the sites that
//! carry them out: each keeps what it was asked under its request id, as the real one does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet::{
    Actor, AgentInput, Command, CommandFailure, CommandId, CommandOutcome, ConnectionId,
    ControllerMessage, Epoch, FleetChange, Input, Operate, Reason, RequestId, RunCommand,
    SiteMethod,
};
use rand::Rng;

use crate::sabotage::Sabotage;
use crate::world::{Happening, TO_AGENT, ToAgent, World};

/// How often an operator asks for one thing before giving up.
const MAX_TRIES: u32 = 40;

/// Commands of older terms have numbers from here on.
const STALE: u64 = 1 << 40;

/// What operators ask of subclouds.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    all: Vec<Errand>,
    /// The calls that wait for the present life of the controller.
    waiting: BTreeMap<RequestId, usize>,
    stale: u64,
    /// Changes that were acknowledged.
    pub(crate) done: u64,
}

/// One thing that is asked of one subcloud.
#[derive(Debug)]
struct Errand {
    agent: usize,
    kind: Kind,
    tries: u32,
    /// At least one answer left it open whether the site did it.
    open: bool,
    settled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Question,
    Change,
    /// A change that the site refuses.
    Forbidden,
}

impl World {
    /// Draws what operators will ask, and when a controller of the past will speak.
    pub(crate) fn plan_commands(&mut self) {
        let until = self.faults_until + 60_000;
        for _ in 0..self.rng.random_range(4..24) {
            let kind = match self.rng.random_range(0..6) {
                0 => Kind::Question,
                1 => Kind::Forbidden,
                _ => Kind::Change,
            };
            let errand = self.errands.all.len();
            self.errands.all.push(Errand {
                agent: self.rng.random_range(0..self.agents.len()),
                kind,
                tries: 0,
                open: false,
                settled: false,
            });
            let at = self.rng.random_range(5_000..until);
            self.at(at, Happening::Command { errand });
        }
        for _ in 0..self.rng.random_range(0..5) {
            let agent = self.rng.random_range(0..self.agents.len());
            let at = self.rng.random_range(10_000..until);
            self.at(at, Happening::StaleCommand { agent });
        }
    }

    /// An operator asks, for the first time or again: with the same request id.
    pub(crate) fn command(&mut self, errand: usize) {
        let known = &mut self.errands.all[errand];
        if known.settled || known.tries >= MAX_TRIES {
            return;
        }
        known.tries += 1;
        let (agent, kind) = (known.agent, known.kind);
        if self.controller.machine.is_none() {
            return self.command_again(errand);
        }
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.errands.waiting.insert(request, errand);
        let within = self.rng.random_range(200..20_000);
        let (method, request_id) = match kind {
            Kind::Question => (SiteMethod::GetDns, String::new()),
            Kind::Change => (SiteMethod::UpdateDns, format!("errand-{errand}")),
            Kind::Forbidden => (SiteMethod::LockHost, format!("errand-{errand}")),
        };
        let call = RunCommand {
            request,
            actor: Actor::Operator("uid=0".to_owned()),
            subcloud: self.agents[agent].name().to_owned(),
            method,
            body: body(errand as u64),
            request_id,
            changes: kind != Kind::Question,
            foreseen: None,
            deadline: site::Timestamp(self.controller_clock().0 + within),
        };
        self.tell_controller(Input::RunCommand(call));
    }

    /// The controller crashed: its callers know nothing.
    pub(crate) fn commands_broken(&mut self) {
        for errand in std::mem::take(&mut self.errands.waiting).into_values() {
            self.errands.all[errand].open = true;
            self.command_again(errand);
        }
    }

    /// What an operator is told must be so.
    pub(crate) fn command_answered(&mut self, request: RequestId, outcome: &CommandOutcome) {
        let Some(errand) = self.errands.waiting.remove(&request) else {
            return self.fail(format!("{request:?} was answered and asks nothing"));
        };
        let known = &self.errands.all[errand];
        let (agent, kind, open) = (known.agent, known.kind, known.open);
        let times = self.times_done(agent, errand as u64);
        self.note(60, || {
            format!("errand {errand} at agent {agent} came to {}", told(outcome))
        });
        match outcome {
            CommandOutcome::Done(_) => {
                let expected = usize::from(kind == Kind::Change);
                if kind == Kind::Forbidden || times != expected {
                    self.fail(format!(
                        "errand {errand} was acknowledged, done {times} times"
                    ));
                }
                self.errands.done += u64::from(kind == Kind::Change);
                self.errands.all[errand].settled = true;
            }
            CommandOutcome::Failed(_) => {
                if kind != Kind::Forbidden || times != 0 {
                    self.fail(format!("errand {errand} was refused, done {times} times"));
                }
                self.errands.all[errand].settled = true;
            }
            CommandOutcome::Refused(rejection) => {
                let reason = rejection.first().reason;
                let unknown = matches!(
                    reason,
                    Reason::CommandOutcomeUnknown | Reason::CommandDeadline
                );
                self.errands.all[errand].open |= unknown;
                if !unknown && !open && times != 0 {
                    self.fail(format!("errand {errand} was refused and done"));
                }
                if reason == Reason::SubcloudUnmanaged {
                    self.manage(agent);
                }
                self.command_again(errand);
            }
        }
    }

    /// What every answer refused has left nothing behind.
    pub(crate) fn errands_at_end(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, errand) in self.errands.all.iter().enumerate() {
            let times = self.times_done(errand.agent, number as u64);
            let waits = self.errands.waiting.values().any(|waits| *waits == number);
            let refused = !errand.settled && !errand.open && !waits;
            if (refused || errand.kind != Kind::Change) && times != 0 {
                faults.push(format!("errand {number} was never accepted and is done"));
            }
        }
        faults
    }

    fn command_again(&mut self, errand: usize) {
        let wait = self.rng.random_range(500..8_000);
        self.after(wait, Happening::Command { errand });
    }

    /// An operator manages a subcloud, and does not wait for the answer.
    pub(crate) fn manage(&mut self, agent: usize) {
        self.last_request += 1;
        let call = Operate {
            request: RequestId(self.last_request),
            actor: Actor::Operator("uid=0".to_owned()),
            change: FleetChange::Manage {
                subcloud: self.agents[agent].name().to_owned(),
                force: true,
            },
            key: None,
            validate_only: false,
        };
        self.tell_controller(Input::Operate(call));
    }

    /// A controller that lost the site long ago still speaks to it.
    pub(crate) fn stale_command(&mut self, agent: usize) {
        self.errands.stale += 1;
        let number = STALE + self.errands.stale;
        let obeyed = self.sabotage == Some(Sabotage::StaleObeyed);
        let command = Command {
            id: CommandId(number),
            epoch: Epoch(u64::from(obeyed)),
            method: SiteMethod::UpdateDns,
            request: body(number),
            within: Duration::from_secs(10),
            actor: "uid=0".to_owned(),
        };
        for link in self.wires_of(agent) {
            self.send(link, TO_AGENT, |link| Happening::ToAgent {
                link,
                message: ToAgent::Message(ControllerMessage::Command(command.clone())),
            });
        }
    }

    /// The site works on a command.
    pub(crate) fn execute(&mut self, agent: usize, connection: ConnectionId, command: &Command) {
        if matches!(
            command.method,
            SiteMethod::CreateAddressPool | SiteMethod::AssignAddressPool
        ) {
            return self.obey(agent, connection, command);
        }
        let number = number_of(command);
        if number >= STALE {
            return self.fail(format!("agent {agent} obeyed a command of an older term"));
        }
        let id = command.id;
        if command.method == SiteMethod::UpdateDns {
            let forgets = self.sabotage == Some(Sabotage::RequestForgotten);
            return self.agent_does(agent, number, forgets, connection, id);
        }
        let outcome = if command.method.changes() {
            CommandOutcome::Failed(CommandFailure {
                code: 9,
                ..CommandFailure::default()
            })
        } else {
            CommandOutcome::Done(Vec::new())
        };
        let (life, wait) = (self.agents[agent].life, self.rng.random_range(0..2_000));
        let done = AgentInput::CommandDone {
            connection,
            id,
            outcome,
        };
        let done = Box::new(done);
        self.after(wait, Happening::CommandDone { agent, life, done });
    }

    /// How often an errand was done. A copy of a host keeps a memory of its own, so each of the
    /// two may do it once until both are shut out.
    fn times_done(&self, agent: usize, errand: u64) -> usize {
        let hosts = self.agents.iter();
        let hosts = hosts.filter(|node| node.index == agent || node.copy_of == Some(agent));
        let times = hosts.map(|node| {
            let present = node.effects.iter().filter(|done| **done == errand);
            let past = usize::from(node.past_effects.contains(&errand));
            present.count().max(past)
        });
        times.max().unwrap_or_default()
    }

    /// No request is done twice, whatever was asked how often.
    pub(crate) fn check_effects(&mut self, agent: usize) {
        let counts = self.agents[agent].effects.iter();
        let mut seen = std::collections::BTreeSet::new();
        let twice: Vec<u64> = counts
            .copied()
            .filter(|number| !seen.insert(*number))
            .collect();
        if let Some(number) = twice.first() {
            self.fail(format!("agent {agent} did errand {number} twice"));
        }
        self.check_obeyed(agent);
    }
}

fn body(number: u64) -> Arc<[u8]> {
    Arc::from(number.to_be_bytes())
}

pub(crate) fn number_of(command: &Command) -> u64 {
    let bytes = command.request.as_ref().try_into();
    u64::from_be_bytes(bytes.expect("a number"))
}

fn told(outcome: &CommandOutcome) -> String {
    match outcome {
        CommandOutcome::Done(_) => "done".to_owned(),
        CommandOutcome::Failed(_) => "refused by the site".to_owned(),
        CommandOutcome::Refused(rejection) => rejection.to_string(),
    }
}
