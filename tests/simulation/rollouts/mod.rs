//! Rollouts beside the controller: the real machine on the controller's disk, driven as the
//! process drives it. Its commands go out over the links, to the agents' machines and sites.
//!
//! All that is drawn for rollouts comes from a stream of its own, and most worlds have none: those
//! play as if there were no rollouts at all.

mod operators;
mod promises;
mod records;
mod sites;

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    Actor, Answered, COMMAND_TIMEOUT, CommandOutcome, ControllerMessage, Input, LinkId, RequestId,
    RolloutId, RolloutInput, RolloutOutput, Rollouts, RunCommand, SiteMethod, Step, SubcloudId,
    Verb,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use site::{Change, Site, Timestamp};

use crate::controller::Written;
use crate::sabotage::Sabotage;
use crate::world::{Happening, Millis, World};

pub(crate) use operators::Planned;
pub(crate) use promises::Promises;
pub(crate) use records::Kept;
pub(crate) use sites::{Obeyed, Obeying};

/// Tells the stream of rollouts from that of everything else.
const STREAM: u64 = 0x726f_6c6c_6f75_7473;

/// The rollouts of a world.
pub(crate) struct RolloutsNode {
    /// Whether there are any.
    plays: bool,
    chance: SmallRng,
    machine: Option<Rollouts>,
    /// Subclouds of which something changed since the machine was told last.
    stirred: BTreeSet<SubcloudId>,
    /// Every command that ever went out; a command's body is its number.
    sent: Vec<Sent>,
    /// The commands that the present life of the controller waits for.
    waiting: BTreeMap<RequestId, usize>,
    planned: Planned,
    promises: Promises,
    setting: u64,
    /// The moment that the present process waits for.
    alarm_clock: Option<Timestamp>,
}

/// A command of a rollout.
#[derive(Debug, Clone)]
struct Sent {
    rollout: RolloutId,
    subcloud: SubcloudId,
    step: Step,
    request_id: String,
    change: Change,
}

/// Something of rollouts that will happen.
#[derive(Debug, Clone)]
pub(crate) enum Due {
    /// Of one life of the controller.
    InLife(u64, Box<Inner>),
    /// An operator makes a rollout, for the first time or again.
    Create { planned: usize },
    /// An operator has a word with a rollout.
    Control { rollout: RolloutId, verb: Verb },
    /// Operators see to it that everybody is managed.
    Care,
    /// The site's own operator gives oam another pool.
    Meddled { agent: usize },
}

/// Something inside the controller's process.
#[derive(Debug, Clone)]
pub(crate) enum Inner {
    Timer { setting: u64 },
    Stirred,
    ReadSite(RolloutId, SubcloudId),
    Send { sent: usize },
    Told(RolloutInput),
}

impl RolloutsNode {
    /// Two of five worlds have rollouts, and none of the seeds that found a fault before there
    /// were any.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            plays: matches!(seed % 5, 2 | 4),
            chance: SmallRng::seed_from_u64(seed ^ STREAM),
            machine: None,
            stirred: BTreeSet::new(),
            sent: Vec::new(),
            waiting: BTreeMap::new(),
            planned: Planned::default(),
            promises: Promises::default(),
            setting: 0,
            alarm_clock: None,
        }
    }

    /// How long a task of the process takes to get on: hardly any time, or some.
    fn moment(&mut self) -> Millis {
        let most = if self.chance.random_bool(0.1) {
            2_000
        } else {
            20
        };
        self.chance.random_range(0..most)
    }
}

impl World {
    /// Starts the machine from what is durable, beside a controller that has just started.
    pub(crate) fn start_rollouts(&mut self) {
        if !self.rollouts.plays || self.controller.machine.is_none() {
            return;
        }
        let (now, id) = (self.controller_clock(), self.controller.id());
        let missed = self.controller.machine.iter();
        let missed = missed.flat_map(|it| it.missed_changes()).collect();
        let records = self.controller.disk.durable.rollouts.records(missed);
        let (machine, outputs) = Rollouts::recover(now, id, records);
        self.rollouts.machine = Some(machine);
        self.tell_awaited(None);
        self.rollouts_outputs(outputs);
    }

    /// The controller's process ended, and this machine with it.
    pub(crate) fn rollouts_crashed(&mut self) {
        self.rollouts.machine = None;
        self.rollouts.alarm_clock = None;
        self.rollouts.stirred.clear();
        self.rollouts.waiting.clear();
        self.rollouts.promises.process_ended();
        self.rollout_calls_broken();
    }

    pub(crate) fn rollouts_due(&mut self, due: Due) {
        match due {
            Due::InLife(life, inner) if life == self.controller.life => self.inner(*inner),
            Due::InLife(..) => {}
            Due::Create { planned } => self.create_rollout(planned),
            Due::Control { rollout, verb } => self.control_rollout(rollout, verb),
            Due::Care => self.care_for_rollouts(),
            Due::Meddled { agent } => self.meddle(agent),
        }
    }

    fn inner(&mut self, inner: Inner) {
        match inner {
            Inner::Timer { setting } => {
                if setting == self.rollouts.setting {
                    self.rollouts.alarm_clock = None;
                    self.tell_rollouts(RolloutInput::Timer);
                }
            }
            Inner::Stirred => {
                for subcloud in std::mem::take(&mut self.rollouts.stirred) {
                    self.tell_rollouts(RolloutInput::Stirred(subcloud));
                }
            }
            Inner::ReadSite(rollout, subcloud) => {
                self.site_told(rollout, subcloud);
                let site = self.accepted_site(subcloud).map(std::sync::Arc::new);
                self.soon(Inner::Told(RolloutInput::SiteRead {
                    rollout,
                    subcloud,
                    site,
                }));
            }
            Inner::Send { sent } => self.send_rollout_command(sent),
            Inner::Told(input) => self.tell_rollouts(input),
        }
    }

    /// The last accepted report of a subcloud, as it is on disk.
    fn accepted_site(&self, subcloud: SubcloudId) -> Option<Site> {
        let parts = self.controller.disk.durable.sites.get(&subcloud)?;
        Site::from_parts(site::SiteParts::clone(parts)).ok()
    }

    /// Lets something happen in the present life of the controller, in a moment.
    fn soon(&mut self, inner: Inner) {
        let wait = self.rollouts.moment();
        let due = Due::InLife(self.controller.life, Box::new(inner));
        self.after(wait, Happening::Rollouts(due));
    }

    pub(crate) fn tell_rollouts(&mut self, input: RolloutInput) {
        self.rollouts.promises.hears(&input);
        let now = self.controller_clock();
        let (Some(machine), Some(fleet)) = (&mut self.rollouts.machine, &self.controller.machine)
        else {
            return;
        };
        let outputs = machine.on(now, fleet, input);
        self.rollouts_outputs(outputs);
    }

    fn rollouts_outputs(&mut self, outputs: Vec<RolloutOutput>) {
        let life = self.controller.life;
        for output in outputs {
            // The process may have ended with an output before this one.
            if self.controller.life != life {
                return;
            }
            self.rollouts_output(output);
        }
    }

    fn rollouts_output(&mut self, output: RolloutOutput) {
        match output {
            RolloutOutput::Commit { ticket, writes } => {
                let enqueued = self.controller_enqueues(Written::Rollouts(ticket, writes));
                if enqueued && self.sabotage == Some(Sabotage::StepBeforeDurable) {
                    self.soon(Inner::Told(RolloutInput::Committed { ticket }));
                }
            }
            RolloutOutput::Audit(call) => self.tell_controller(Input::Audited(call)),
            RolloutOutput::Answer { request, outcome } => {
                self.rollout_call_answered(request, outcome);
            }
            RolloutOutput::ReadSite { rollout, subcloud } => {
                self.check_reading(rollout, subcloud);
                self.soon(Inner::ReadSite(rollout, subcloud));
            }
            RolloutOutput::Command {
                rollout,
                subcloud,
                step,
                request_id,
                change,
            } => {
                let sent = Sent {
                    rollout,
                    subcloud,
                    step,
                    request_id,
                    change,
                };
                self.check_step(&sent);
                self.rollouts.sent.push(sent);
                let sent = self.rollouts.sent.len() - 1;
                self.soon(Inner::Send { sent });
            }
            RolloutOutput::Forget(rollout) => {
                self.fail(format!("rollout {rollout} is forgotten, and there are few"));
            }
            RolloutOutput::SetTimer { at } => self.set_rollouts_timer(at),
            RolloutOutput::Changed(rollout, member) => {
                self.check_told(&rollout, member.as_ref());
                self.tell_awaited(member.as_ref().map(|member| member.subcloud));
            }
            RolloutOutput::Awaits(subclouds) => {
                for subcloud in subclouds {
                    self.tell_awaited(Some(subcloud));
                }
            }
        }
    }

    /// Tells the fleet's machine which rollout waits for one subcloud, or for each.
    fn tell_awaited(&mut self, subcloud: Option<SubcloudId>) {
        let Some(machine) = &self.rollouts.machine else {
            return;
        };
        let input = match subcloud {
            Some(subcloud) => Input::Awaited {
                subcloud,
                rollout: machine.awaits(subcloud),
            },
            None => Input::AllAwaited(machine.awaited()),
        };
        self.tell_controller(input);
    }

    fn send_rollout_command(&mut self, number: usize) {
        let sent = self.rollouts.sent[number].clone();
        let method = match sent.step {
            Step::AddPool => SiteMethod::CreateAddressPool,
            _ => SiteMethod::AssignAddressPool,
        };
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.rollouts.waiting.insert(request, number);
        let within = u64::try_from(COMMAND_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        self.note(82, || {
            format!("command {number} is {} {}", sent.request_id, sent.subcloud)
        });
        self.tell_controller(Input::RunCommand(RunCommand {
            request,
            actor: Actor::Operator(format!("rollout {}", sent.rollout)),
            subcloud: sent.subcloud.to_string(),
            method,
            body: (number as u64).to_be_bytes().to_vec().into(),
            request_id: sent.request_id,
            changes: true,
            foreseen: None,
            deadline: Timestamp(self.controller_clock().0.saturating_add(within)),
        }));
    }

    /// Whether an answer was one to a command of a rollout.
    pub(crate) fn rollout_command_answered(
        &mut self,
        request: RequestId,
        outcome: &CommandOutcome,
    ) -> bool {
        let Some(number) = self.rollouts.waiting.remove(&request) else {
            return false;
        };
        let answer = Answered::from(outcome.clone());
        self.note(83, || format!("command {number} came to {answer:?}"));
        let sent = self.rollouts.sent[number].clone();
        self.site_told(sent.rollout, sent.subcloud);
        let input = RolloutInput::Answered {
            rollout: sent.rollout,
            subcloud: sent.subcloud,
            step: sent.step,
            answer,
        };
        self.soon(Inner::Told(input));
        true
    }

    /// Leaves word that commands can go to a subcloud from now on, or that more is known of it.
    pub(crate) fn stir_over(&mut self, link: LinkId, message: &ControllerMessage) {
        if message.stirs()
            && let Some(wire) = self.wires.get(&link)
        {
            self.stir(wire.subcloud);
        }
    }

    /// Leaves word that something about a subcloud changed.
    pub(crate) fn stir(&mut self, subcloud: SubcloudId) {
        if self.rollouts.machine.is_none() {
            return;
        }
        let first = self.rollouts.stirred.is_empty();
        self.rollouts.stirred.insert(subcloud);
        if first {
            self.soon(Inner::Stirred);
        }
    }

    /// Follows the controller's clock.
    pub(crate) fn rearm_rollouts(&mut self) {
        if let Some(at) = self.rollouts.alarm_clock {
            self.set_rollouts_timer(at);
        }
    }

    fn set_rollouts_timer(&mut self, at: Timestamp) {
        self.rollouts.setting += 1;
        self.rollouts.alarm_clock = Some(at);
        let setting = self.rollouts.setting;
        let due = self.controller.clock_shows(at);
        let timer = Due::InLife(self.controller.life, Box::new(Inner::Timer { setting }));
        self.at(due, Happening::Rollouts(timer));
    }
}
