//! The sites that carry out what rollouts ask for. Each keeps what it was asked under its request
//! id, together with the change, as the real one does.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    AgentInput, Command, CommandFailure, CommandId, CommandOutcome, ConnectionId, Reason,
    ReasonSet, RolloutId, Step, SubcloudId,
};
use rand::Rng;
use site::{AttachmentId, Change, NetworkKind, PoolId, PoolInput, Site};
use uuid::Uuid;

use crate::agents::{AgentNode, AgentWrite, Process};
use crate::faults::Fault;
use crate::sites::Layout;
use crate::world::{Happening, Millis, World};

/// What a host was asked by rollouts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Obeyed {
    /// The requests that it has answered durably, and all that it has answered.
    durable: BTreeMap<String, Change>,
    memory: BTreeMap<String, Change>,
    /// The steps that changed its site durably, in order.
    carried: Vec<Carried>,
    /// The steps that changed its site, and the secondary pools that it had, before it was
    /// installed anew.
    past: BTreeSet<Carried>,
    past_pools: BTreeSet<String>,
    /// When it was installed anew last.
    pub(super) anew_at: Millis,
}

/// A step of one member of a rollout.
type Carried = (RolloutId, SubcloudId, Step);

/// A command that a host has carried out, on its way to the disk.
#[derive(Debug)]
pub(crate) struct Obeying {
    /// What it did, unless the request was known.
    new: Option<New>,
    connection: ConnectionId,
    id: CommandId,
    /// The answer goes out before the report.
    pub(crate) answer_first: bool,
}

/// A change that was not made before.
#[derive(Debug)]
struct New {
    request_id: String,
    change: Change,
    step: Carried,
    site: Site,
}

impl Obeying {
    /// The command is durable: what the agent's machine is told, and the site when it changed.
    pub(crate) fn land(self, obeyed: &mut Obeyed) -> (Option<Site>, AgentInput) {
        let done = AgentInput::CommandDone {
            connection: self.connection,
            id: self.id,
            outcome: CommandOutcome::Done(Vec::new()),
        };
        let site = self.new.map(|new| {
            obeyed.carried.push(new.step);
            obeyed.durable.insert(new.request_id, new.change);
            new.site
        });
        (site, done)
    }
}

impl Obeyed {
    /// The process ended: what did not reach the disk is forgotten.
    pub(crate) fn process_ended(&mut self) {
        self.memory.clone_from(&self.durable);
    }

    /// The host is installed anew, and all that it was asked is forgotten.
    pub(crate) fn installed_anew(&mut self, before: &Site, now: Millis) {
        let mut past_pools = std::mem::take(&mut self.past_pools);
        past_pools.extend(secondaries(before).map(|(_, name)| name.to_owned()));
        let mut past = std::mem::take(&mut self.past);
        past.extend(self.carried.iter().copied());
        *self = Self {
            past,
            past_pools,
            anew_at: now,
            ..Self::default()
        };
    }

    /// A step that changed the site twice.
    fn twice(&self) -> Option<Carried> {
        let mut seen = BTreeSet::new();
        self.carried
            .iter()
            .copied()
            .find(|step| !seen.insert(*step))
    }

    /// Whether any step of a member of a rollout changed the site.
    pub(super) fn changed_by(&self, rollout: RolloutId, subcloud: SubcloudId) -> bool {
        let mut carried = self.carried.iter();
        carried.any(|(of, member, _)| (*of, *member) == (rollout, subcloud))
    }

    /// The same, whether the host was installed anew since or not.
    pub(super) fn ever_changed_by(&self, rollout: RolloutId, subcloud: SubcloudId) -> bool {
        let mut past = self.past.iter();
        past.any(|(of, member, _)| (*of, *member) == (rollout, subcloud))
            || self.changed_by(rollout, subcloud)
    }

    /// Whether the host had a pool before it was installed anew.
    pub(super) fn had(&self, pool: &str) -> bool {
        self.past_pools.contains(pool)
    }
}

/// Every network that has a secondary pool, with the pool's name.
fn secondaries(site: &Site) -> impl Iterator<Item = (NetworkKind, &str)> {
    site.networks().filter_map(|network| {
        let secondary = network.pools().secondary()?;
        Some((network.kind(), site.pool(secondary.pool)?.name()))
    })
}

/// Whether a network has this pool as its secondary one.
pub(super) fn has_secondary(site: &Site, network: NetworkKind, pool: &str) -> bool {
    secondaries(site).any(|held| held == (network, pool))
}

impl World {
    /// The site works on a command of a rollout.
    pub(crate) fn obey(&mut self, agent: usize, connection: ConnectionId, command: &Command) {
        let number = crate::commands::number_of(command);
        let sent = usize::try_from(number).ok();
        let Some(sent) = sent.and_then(|sent| self.rollouts.sent.get(sent)) else {
            return self.fail(format!("agent {agent} was sent what nobody asked for"));
        };
        let (request_id, change) = (sent.request_id.clone(), sent.change.clone());
        let step = (sent.rollout, sent.subcloud, sent.step);
        let (now, id) = (self.agent_clock(agent), command.id);
        let node = &self.agents[agent];
        let new = match node.obeyed.memory.get(&request_id) {
            Some(known) if *known == change => None,
            Some(_) => {
                return self.refuse_step(agent, connection, id, Reason::InvalidArgument.name());
            }
            None => match site::plan(&node.memory, self.rollouts.with_ids(&change), now) {
                Ok(plan) => Some(New {
                    request_id,
                    change,
                    step,
                    site: plan.into_site(),
                }),
                Err(rejection) => {
                    let reason = rejection.first().reason.name();
                    return self.refuse_step(agent, connection, id, reason);
                }
            },
        };
        let known = new.is_none();
        self.note(84, || {
            format!("agent {agent} does command {number}, known: {known}")
        });
        if let Some(new) = &new {
            let node = &mut self.agents[agent];
            node.memory = new.site.clone();
            let (request_id, change) = (new.request_id.clone(), new.change.clone());
            node.obeyed.memory.insert(request_id, change);
        }
        let obeying = Obeying {
            new,
            connection,
            id,
            answer_first: self.rollouts.chance.random_bool(0.5),
        };
        self.agent_writes(agent, AgentWrite::Obeyed(Box::new(obeying)));
        self.strike(agent);
    }

    /// Now and then something breaks just while a site works on a step.
    fn strike(&mut self, agent: usize) {
        let chance = &mut self.rollouts.chance;
        let down = chance.random_range(100..5_000);
        let fault = match chance.random_range(0..20) {
            0..3 => Fault::Reset { agent },
            3 => Fault::AgentCrash { agent, down },
            4 => Fault::ControllerCrash { down },
            _ => return,
        };
        let wait = chance.random_range(0..50);
        if self.now + wait + down < self.faults_until {
            self.after(wait, Happening::Fault(fault));
        }
    }

    fn refuse_step(
        &mut self,
        agent: usize,
        connection: ConnectionId,
        id: CommandId,
        reason: &'static str,
    ) {
        self.note(85, || format!("agent {agent} refuses a step: {reason}"));
        let fault = fleet::Fault {
            reason: reason.to_owned(),
            ..fleet::Fault::default()
        };
        let outcome = CommandOutcome::Failed(CommandFailure {
            code: 9,
            faults: vec![fault],
            ..CommandFailure::default()
        });
        let done = Box::new(AgentInput::CommandDone {
            connection,
            id,
            outcome,
        });
        let (life, wait) = (self.agents[agent].life, self.rollouts.moment());
        self.after(wait, Happening::CommandDone { agent, life, done });
    }

    /// The site's own operator gives oam a secondary pool, if it has none.
    pub(super) fn meddle(&mut self, agent: usize) {
        if !matches!(self.agents[agent].process, Process::Serving(_)) {
            return;
        }
        let now = self.agent_clock(agent);
        let pool = PoolInput {
            name: "own".to_owned(),
            network: spare(self.layout).to_owned(),
            prefix: if self.layout.primary_is_v6() { 24 } else { 64 },
            ..PoolInput::default()
        };
        let add = Change::AddPool {
            id: PoolId(Uuid::nil()),
            pool,
        };
        let assign = Change::AssignPool {
            id: AttachmentId(Uuid::nil()),
            network: NetworkKind::Oam.name().to_owned(),
            pool: "own".to_owned(),
        };
        for change in [add, assign] {
            let change = self.rollouts.with_ids(&change);
            let Ok(plan) = site::plan(&self.agents[agent].memory, change, now) else {
                return;
            };
            let next = plan.into_site();
            self.note(86, || format!("the operator of agent {agent} changes oam"));
            self.agents[agent].memory = next.clone();
            self.agent_writes(agent, AgentWrite::Site(Box::new(next), None));
            if !matches!(self.agents[agent].process, Process::Serving(_)) {
                return;
            }
        }
    }

    /// No step changes a site twice.
    pub(crate) fn check_obeyed(&mut self, agent: usize) {
        if let Some((rollout, subcloud, step)) = self.agents[agent].obeyed.twice() {
            let step = step.name();
            self.fail(format!(
                "agent {agent} did {step} of rollout {rollout} for subcloud {subcloud} twice"
            ));
        }
    }

    /// The hosts of a subcloud: one, unless it was copied.
    pub(super) fn hosts_of(&self, name: &str) -> impl Iterator<Item = &AgentNode> {
        self.agents.iter().filter(move |node| node.name() == name)
    }
}

impl super::RolloutsNode {
    /// The same change with ids that the site draws.
    fn with_ids(&mut self, change: &Change) -> Change {
        let mut change = change.clone();
        let drawn = Uuid::from_u128(self.chance.random());
        match &mut change {
            Change::AddPool { id, .. } => *id = PoolId(drawn),
            Change::AssignPool { id, .. } => *id = AttachmentId(drawn),
            _ => {}
        }
        change
    }
}

/// A subnet of the family that the sites do not have first, which no template gives to anybody.
fn spare(layout: Layout) -> &'static str {
    if layout.primary_is_v6() {
        "198.51.100.0"
    } else {
        "2001:db8::"
    }
}
