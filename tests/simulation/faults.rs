//! What goes wrong, and how often.

use rand::Rng;
use rand::rngs::SmallRng;

use crate::world::{Happening, Millis, OperatorStep, TO_AGENT, TO_CONTROLLER, World};

/// How likely the small faults are; drawn for each world, so that some are calm and some wild.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// A message takes seconds.
    pub(crate) slow_network: f64,
    /// A write takes seconds.
    pub(crate) slow_disk: f64,
    /// A write fails, and the process with it.
    pub(crate) full_disk: f64,
    /// A call or its answer is lost.
    pub(crate) loss: f64,
    /// Something arrives twice.
    pub(crate) duplicate: f64,
}

/// In how many worlds somebody copies a subcloud's identity: few, for what must hold of the others
/// is that nobody is taken for a copy.
const COPIED: f64 = 0.15;

/// A single blow.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    ControllerCrash {
        down: Millis,
    },
    AgentCrash {
        agent: usize,
        down: Millis,
    },
    Partition {
        agent: usize,
        length: Millis,
    },
    Reset {
        agent: usize,
    },
    /// Only one side notices, or none.
    HalfOpen {
        agent: usize,
    },
    Stall {
        agent: usize,
        to_controller: bool,
    },
    KeyLost {
        agent: usize,
    },
    TokenReissued {
        agent: usize,
    },
    SiteBreaks {
        agent: usize,
    },
    SiteMends {
        agent: usize,
    },
    ControllerSiteChanges,
    /// The controller's site is as it was at first.
    ControllerSiteRestored,
    /// The controller's clock runs at another pace, or jumps.
    ControllerClock {
        ahead: Millis,
        rate: u64,
    },
    AgentClock {
        agent: usize,
        ahead: Millis,
        rate: u64,
    },
    /// An agent is started from a copy of the state.
    Copied {
        agent: usize,
    },
}

impl Rates {
    pub(crate) fn draw(rng: &mut SmallRng) -> Self {
        let mut up_to = |limit: f64| {
            if rng.random_bool(0.3) {
                0.0
            } else {
                rng.random_range(0.0..limit)
            }
        };
        Self {
            slow_network: up_to(0.1),
            slow_disk: up_to(0.2),
            full_disk: up_to(0.01),
            loss: up_to(0.3),
            duplicate: up_to(0.3),
        }
    }
}

impl World {
    /// Draws the blows of this world. All end before `faults_until`.
    pub(crate) fn plan_faults(&mut self) {
        let count = self.rng.random_range(3..25);
        for _ in 0..count {
            let at = self.rng.random_range(0..self.faults_until);
            let fault = self.draw_fault(self.faults_until - at);
            if let Fault::SiteBreaks { agent } = fault {
                let mended = self.rng.random_range(at..self.faults_until);
                self.at(mended, Happening::Fault(Fault::SiteMends { agent }));
            }
            self.at(at, Happening::Fault(fault));
        }
        if self.rng.random_bool(COPIED) {
            let at = self.rng.random_range(0..self.faults_until);
            let agent = self.rng.random_range(0..self.agents.len());
            self.at(at, Happening::Fault(Fault::Copied { agent }));
        }
        for _ in 0..self.rng.random_range(0..10) {
            let at = self.rng.random_range(0..self.faults_until);
            let agent = self.rng.random_range(0..self.agents.len());
            self.at(at, Happening::Changed { agent });
        }
        // A host that was down when its site should have been mended is mended in the end.
        for agent in 0..self.agents.len() {
            self.at(self.faults_until, Happening::AgentUp { agent });
            let mend = Happening::Fault(Fault::SiteMends { agent });
            self.at(self.faults_until + 25_000, mend);
        }
        self.at(self.faults_until, Happening::ControllerUp);
        let restored = Happening::Fault(Fault::ControllerSiteRestored);
        self.at(self.faults_until + 25_000, restored);
    }

    fn draw_fault(&mut self, left: Millis) -> Fault {
        let agent = self.rng.random_range(0..self.agents.len());
        let length = self.rng.random_range(100..60_000).min(left);
        match self.rng.random_range(0..22) {
            0..4 => Fault::ControllerCrash { down: length },
            4..8 => Fault::AgentCrash {
                agent,
                down: length,
            },
            8..10 => Fault::Partition { agent, length },
            10..12 => Fault::Reset { agent },
            12..14 => Fault::HalfOpen { agent },
            14..16 => Fault::Stall {
                agent,
                to_controller: self.rng.random_bool(0.5),
            },
            16 => Fault::KeyLost { agent },
            17..19 => Fault::TokenReissued { agent },
            19..21 => Fault::SiteBreaks { agent },
            _ => Fault::ControllerSiteChanges,
        }
    }

    /// Clocks run twice as fast for a while, or jump.
    pub(crate) fn plan_clocks(&mut self) {
        for _ in 0..self.rng.random_range(0..4) {
            let at = self.rng.random_range(0..self.faults_until);
            let rate = self.rng.random_range(1..3);
            let jumps = self.rng.random_bool(0.5);
            let fault = if self.rng.random_bool(0.4) {
                // A key in flight is old by the controller's clock: a jump beyond that patience
                // shuts out whoever has just renewed.
                let most = u64::try_from(fleet::STALE_KEY.as_millis() / 2).unwrap_or(0);
                let ahead = self.rng.random_range(0..most);
                let ahead = if jumps { ahead } else { 0 };
                Fault::ControllerClock { ahead, rate }
            } else {
                let agent = self.rng.random_range(0..self.agents.len());
                let ahead = self.rng.random_range(0..3_600_000);
                let ahead = if jumps { ahead } else { 0 };
                Fault::AgentClock { agent, ahead, rate }
            };
            self.at(at, Happening::Fault(fault));
        }
    }

    pub(crate) fn inflict(&mut self, fault: Fault) {
        self.faults += 1;
        self.note(40, || format!("fault {fault:?}"));
        match fault {
            Fault::ControllerCrash { down } => {
                self.crash_controller();
                self.after(down, Happening::ControllerUp);
            }
            Fault::AgentCrash { agent, down } => {
                self.crash_agent(agent);
                self.after(down, Happening::AgentUp { agent });
            }
            Fault::Partition { agent, length } => {
                self.agents[agent].partitioned_until = self.now + length;
                for link in self.wires_of(agent) {
                    self.stall(link, &[TO_CONTROLLER, TO_AGENT]);
                }
            }
            Fault::Reset { agent } => {
                for link in self.wires_of(agent) {
                    self.cut(link, false, 1.0);
                }
            }
            Fault::HalfOpen { agent } => {
                for link in self.wires_of(agent) {
                    self.cut(link, false, 0.4);
                }
            }
            Fault::Stall {
                agent,
                to_controller,
            } => {
                let direction = if to_controller {
                    TO_CONTROLLER
                } else {
                    TO_AGENT
                };
                for link in self.wires_of(agent) {
                    self.stall(link, &[direction]);
                }
            }
            Fault::KeyLost { agent } => self.wipe_key(agent),
            Fault::TokenReissued { agent } => {
                if self.agents[agent].token.is_some() && self.agents[agent].record.is_none() {
                    self.operator(agent, OperatorStep::IssueToken);
                }
            }
            Fault::SiteBreaks { agent } => self.break_site(agent),
            Fault::SiteMends { agent } => self.mend_site(agent),
            Fault::ControllerSiteChanges => self.change_controller(),
            Fault::ControllerSiteRestored => self.restore_controller(),
            Fault::ControllerClock { ahead, rate } => self.change_controller_clock(ahead, rate),
            Fault::AgentClock { agent, ahead, rate } => {
                self.change_agent_clock(agent, ahead, rate);
            }
            Fault::Copied { agent } => self.copy_agent(agent),
        }
    }

    fn stall(&mut self, link: fleet::LinkId, directions: &[usize]) {
        if let Some(wire) = self.wires.get_mut(&link) {
            for direction in directions {
                wire.stalled[*direction] = true;
            }
        }
    }
}
