//! The scheduler: one queue of things that will happen, one clock, one source of chance.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet::{
    AgentInput, AgentMessage, ConnectionId, ControllerMessage, Entropy, Fingerprint, LinkId,
    RequestId, SubcloudId,
};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::agents::AgentNode;
use crate::calls::Call;
use crate::commands::Errands;
use crate::controller::ControllerNode;
use crate::edits::{Edit, Edits};
use crate::faults::{Fault, Rates};
use crate::oracle::Oracle;
use crate::rollouts::{Due, RolloutsNode};
use crate::sabotage::Sabotage;
use crate::sites::Layout;
use crate::trace::Trace;

/// Milliseconds since the world began.
pub(crate) type Millis = u64;

/// The world begins at some moment of some year, not at zero, as clocks do.
pub(crate) const EPOCH: Millis = 1_750_000_000_000;

/// How long after the last fault everything must have come right: a refused report is tried
/// again after five minutes, everything else is faster.
pub(crate) const PATIENCE: Millis = 15 * 60 * 1000;

/// No world needs more steps; one that takes more runs in a circle.
const MAX_STEPS: u64 = 200_000;

/// Everything that is.
pub(crate) struct World {
    pub(crate) now: Millis,
    sequence: u64,
    queue: BTreeMap<(Millis, u64), Happening>,
    pub(crate) rng: SmallRng,
    pub(crate) trace: Trace,
    pub(crate) rates: Rates,
    pub(crate) faults_until: Millis,
    pub(crate) layout: Layout,
    /// How long certificates are valid.
    pub(crate) validity: Duration,
    pub(crate) controller: ControllerNode,
    pub(crate) agents: Vec<AgentNode>,
    pub(crate) wires: BTreeMap<LinkId, Wire>,
    pub(crate) calls: BTreeMap<RequestId, Call>,
    pub(crate) last_request: u64,
    pub(crate) errands: Errands,
    pub(crate) edits: Edits,
    pub(crate) rollouts: RolloutsNode,
    pub(crate) oracle: Oracle,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) failure: Option<String>,
    pub(crate) faults: u64,
}

/// Something that will happen. A *life* is one run of a process: what was meant for an earlier
/// one is lost.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    ControllerTimer {
        life: u64,
        setting: u64,
    },
    ControllerDisk {
        life: u64,
    },
    ControllerUp,
    AgentTimer {
        agent: usize,
        life: u64,
        setting: u64,
    },
    AgentDisk {
        agent: usize,
        life: u64,
    },
    AgentUp {
        agent: usize,
    },
    Enroll {
        agent: usize,
    },
    RequestTimeout {
        agent: usize,
        life: u64,
        attempt: u64,
    },
    CallArrives {
        request: RequestId,
    },
    AnswerArrives {
        request: RequestId,
        answer: Box<crate::calls::Answer>,
    },
    Operator {
        agent: usize,
        step: OperatorStep,
    },
    OperatorTimeout {
        agent: usize,
        request: RequestId,
    },
    LinkArrives {
        link: LinkId,
    },
    ToController {
        link: LinkId,
        message: Option<AgentMessage>,
    },
    ToAgent {
        link: LinkId,
        message: ToAgent,
    },
    AgentLoses {
        link: LinkId,
    },
    ControllerLoses {
        link: LinkId,
    },
    Fault(Fault),
    Changed {
        agent: usize,
    },
    /// An operator changes or deletes a subcloud.
    Edit {
        agent: usize,
        edit: Edit,
    },
    /// The host is installed anew: nothing of the old one is left.
    Reinstalled {
        agent: usize,
    },
    Command {
        errand: usize,
    },
    StaleCommand {
        agent: usize,
    },
    /// Something of rollouts.
    Rollouts(Due),
    CommandDone {
        agent: usize,
        life: u64,
        done: Box<AgentInput>,
    },
}

/// What reaches an agent over a connection.
#[derive(Debug, Clone)]
pub(crate) enum ToAgent {
    Up,
    Message(ControllerMessage),
    End,
}

/// What an operator does for one subcloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperatorStep {
    Add,
    IssueToken,
    /// A token for another key to take the place of the one that has enrolled.
    LetReenroll,
}

/// One connection. Each direction keeps its order; a direction that stalls stays so, as a
/// transport does whose segments are lost.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) agent: usize,
    pub(crate) life: u64,
    pub(crate) controller_life: Option<u64>,
    pub(crate) connection: ConnectionId,
    pub(crate) subcloud: SubcloudId,
    pub(crate) key: Fingerprint,
    pub(crate) source: std::net::IpAddr,
    pub(crate) last_arrival: [Millis; 2],
    pub(crate) stalled: [bool; 2],
    pub(crate) dead: bool,
}

/// The directions of a wire, as indexes.
pub(crate) const TO_CONTROLLER: usize = 0;
/// The other direction.
pub(crate) const TO_AGENT: usize = 1;

/// Chance for the machines, from the one source.
pub(crate) struct Chance<'a>(pub(crate) &'a mut SmallRng);

impl Entropy for Chance<'_> {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// What one run came to.
pub(crate) struct Ending {
    pub(crate) failure: Option<String>,
    pub(crate) trace: Trace,
    pub(crate) faults: u64,
    pub(crate) commands: u64,
}

impl World {
    /// Plays one seed to its end.
    pub(crate) fn play(seed: u64, sabotage: Option<Sabotage>, keep_trace: bool) -> Ending {
        let mut world = Self::new(seed, sabotage, keep_trace);
        let end = world.faults_until + PATIENCE;
        let mut look_at = world.faults_until;
        let mut steps = 0;
        while world.failure.is_none() {
            let Some(((at, _), happening)) = world.queue.pop_first() else {
                break;
            };
            if at >= look_at {
                let unfinished = world.unfinished();
                if unfinished.is_empty() {
                    break;
                }
                if at >= end {
                    world.fail(format!("did not come right: {}", unfinished.join("; ")));
                    break;
                }
                look_at = at + 1000;
            }
            steps += 1;
            if steps > MAX_STEPS {
                world.fail(format!("did not come to rest in {MAX_STEPS} steps"));
                break;
            }
            world.now = at;
            world.step(happening);
        }
        if world.failure.is_none() {
            world.judge_end();
        }
        Ending {
            failure: world.failure,
            trace: world.trace,
            faults: world.faults,
            commands: world.errands.done,
        }
    }

    fn new(seed: u64, sabotage: Option<Sabotage>, keep_trace: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let layout = Layout::ALL[rng.random_range(0..Layout::ALL.len())];
        let faults_until = rng.random_range(60_000..240_000);
        let rates = Rates::draw(&mut rng);
        let validity = Duration::from_secs(rng.random_range(20..200));
        let agents = AgentNode::draw(&mut rng, layout);
        let mut world = Self {
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            rng,
            trace: Trace::new(keep_trace),
            rates,
            faults_until,
            layout,
            validity,
            controller: ControllerNode::new(layout),
            agents,
            wires: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_request: 0,
            errands: Errands::default(),
            edits: Edits::default(),
            rollouts: RolloutsNode::new(seed),
            oracle: Oracle::default(),
            sabotage,
            failure: None,
            faults: 0,
        };
        world.start_controller();
        for agent in 0..world.agents.len() {
            let at = world.rng.random_range(0..20_000);
            let step = OperatorStep::Add;
            world.at(at, Happening::Operator { agent, step });
        }
        world.plan_faults();
        world.plan_commands();
        world.plan_edits();
        world.plan_clocks();
        world.plan_rollouts();
        world
    }

    fn step(&mut self, happening: Happening) {
        match happening {
            Happening::ControllerTimer { life, setting } => self.controller_timer(life, setting),
            Happening::ControllerDisk { life } => self.controller_disk(life),
            Happening::ControllerUp => self.start_controller(),
            Happening::AgentTimer {
                agent,
                life,
                setting,
            } => {
                self.agent_timer(agent, life, setting);
            }
            Happening::AgentDisk { agent, life } => self.agent_disk(agent, life),
            Happening::AgentUp { agent } => self.start_agent(agent),
            Happening::Enroll { agent } => self.enroll(agent),
            Happening::RequestTimeout {
                agent,
                life,
                attempt,
            } => {
                self.request_lost(agent, life, attempt);
            }
            Happening::CallArrives { request } => self.call_arrives(request),
            Happening::AnswerArrives { request, answer } => self.answer_arrives(request, *answer),
            Happening::Operator { agent, step } => self.operator(agent, step),
            Happening::OperatorTimeout { agent, request } => {
                self.operator_timeout(agent, request);
            }
            Happening::LinkArrives { link } => self.link_arrives(link),
            Happening::ToController { link, message } => self.reach_controller(link, message),
            Happening::ToAgent { link, message } => self.reach_agent(link, message),
            Happening::AgentLoses { link } => self.agent_loses(link),
            Happening::ControllerLoses { link } => self.controller_loses(link),
            Happening::Fault(fault) => self.inflict(fault),
            Happening::Changed { agent } => self.change_site(agent),
            Happening::Edit { agent, edit } => self.edit(agent, edit),
            Happening::Reinstalled { agent } => self.reinstall(agent),
            Happening::Command { errand } => self.command(errand),
            Happening::StaleCommand { agent } => self.stale_command(agent),
            Happening::Rollouts(due) => self.rollouts_due(due),
            Happening::CommandDone { agent, life, done } => self.tell_agent(agent, life, *done),
        }
    }

    /// Makes something happen.
    pub(crate) fn at(&mut self, at: Millis, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((at.max(self.now), self.sequence), happening);
    }

    /// Makes something happen after a while.
    pub(crate) fn after(&mut self, wait: Millis, happening: Happening) {
        self.at(self.now + wait, happening);
    }

    /// Something happens to the disk or the network only while faults are on.
    pub(crate) fn faulty(&mut self, probability: f64) -> bool {
        let drawn = self.rng.random_bool(probability);
        let fault = drawn && self.now < self.faults_until;
        self.faults += u64::from(fault);
        fault
    }

    /// The first failure ends the run.
    pub(crate) fn fail(&mut self, why: String) {
        self.note(99, || format!("FAILURE {why}"));
        self.failure.get_or_insert(why);
    }

    pub(crate) fn note(&mut self, code: u64, words: impl FnOnce() -> String) {
        self.trace.note(self.now, code, words);
    }
}
