//! The agents' hosts: the real machines of enrollment and link, their disks, and their crashes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fleet::{
    Agent, AgentInput, AgentOutput, AgentRecord, CertificateRequest, CommandId, CommandOutcome,
    ConnectionId, Credential, Enroller, EnrollerInput, EnrollerOutput, Exit, Fault, Fingerprint,
    InstanceId, NetworksDigest, Reason, Ticket,
};
use rand::Rng;
use rand::rngs::SmallRng;
use site::{AttachmentId, Change, ControllerNetwork, PoolId, PoolInput, Site, Timestamp};
use uuid::Uuid;

use crate::calls::GivenToken;
use crate::clock::Clock;
use crate::rollouts::{Obeyed, Obeying};
use crate::sites::{self, ADDRESS_SETS, Layout};
use crate::world::{Chance, Happening, Millis, OperatorStep, TO_CONTROLLER, World};

/// How long `enroll` tries before it ends with "try later".
const ENROLL_PATIENCE: Duration = Duration::from_secs(30);

/// How long an agent waits for the answer to one request.
const REQUEST_TIMEOUT: Millis = 10_000;

/// A subcloud's host.
pub(crate) struct AgentNode {
    pub(crate) index: usize,
    pub(crate) layout: Layout,
    /// Shared with another agent when the two overlap.
    pub(crate) addresses: usize,
    pub(crate) original: Site,
    /// The durable site, and the newest one, which may be on its way to the disk.
    pub(crate) site: Site,
    pub(crate) memory: Site,
    /// The errands that were done durably, and those that may be on their way to the disk.
    pub(crate) effects: Vec<u64>,
    effects_in_memory: Vec<u64>,
    /// The errands that were done before the host was installed anew.
    pub(crate) past_effects: BTreeSet<u64>,
    /// What rollouts asked of it.
    pub(crate) obeyed: Obeyed,
    /// The host was installed anew: somebody cares for it until it is in again.
    pub(crate) anew: bool,
    pub(crate) key: Option<Fingerprint>,
    pub(crate) record: Option<AgentRecord>,
    /// The durable key and certificate with which it connects.
    pub(crate) credential: Option<Credential>,
    /// The agent whose disk this one is a copy of.
    pub(crate) copy_of: Option<usize>,
    pub(crate) token: Option<GivenToken>,
    pub(crate) process: Process,
    pub(crate) life: u64,
    pub(crate) attempt: u64,
    /// The rules that refused the site for good.
    pub(crate) refused: Option<Vec<String>>,
    pub(crate) partitioned_until: Millis,
    pub(crate) declares: bool,
    pub(crate) changes: u64,
    disk: VecDeque<AgentWrite>,
    disk_until: Millis,
    setting: u64,
    clock: Clock,
    /// The moment that the present process waits for.
    alarm_clock: Option<Timestamp>,
    /// The networks of the controller that its site refused last.
    pub(crate) networks_refused: Option<NetworksDigest>,
    /// Since when its record has the networks of the controller that it has.
    pub(crate) networks_since: Millis,
}

/// What runs on the host.
pub(crate) enum Process {
    Down,
    Idle,
    Enrolling(Box<Enroller>),
    Serving(Box<Agent>),
}

/// A write of an agent.
pub(crate) enum AgentWrite {
    Key(Fingerprint),
    Identity(AgentRecord, Credential),
    Certificate(Ticket, Credential),
    Record(Ticket, AgentRecord),
    Site(Box<Site>, Option<NetworksDigest>),
    /// The answer to a command, and the errand that it does unless that was done before.
    Command(Option<u64>, ConnectionId, CommandId),
    /// The answer to a command of a rollout, and what it did.
    Obeyed(Box<Obeying>),
}

impl AgentNode {
    /// Draws the subclouds of a world. Some have the other family; one may overlap another.
    pub(crate) fn draw(rng: &mut SmallRng, controller: Layout) -> Vec<Self> {
        let count = rng.random_range(2..=5);
        let twin = rng.random_bool(0.4).then(|| rng.random_range(1..count));
        (0..count)
            .map(|index| {
                let twin = twin == Some(index);
                let layout = loop {
                    let layout = Layout::ALL[rng.random_range(0..Layout::ALL.len())];
                    let mismatch = layout.primary_is_v6() != controller.primary_is_v6();
                    // Mismatches are kept rare enough that most worlds have live links.
                    if !mismatch || (!twin && index > 0 && rng.random_bool(0.3)) {
                        break layout;
                    }
                };
                let addresses = if twin { 0 } else { index % ADDRESS_SETS };
                Self::new(index, addresses, layout, rng.random_bool(0.3))
            })
            .collect()
    }

    fn new(index: usize, addresses: usize, layout: Layout, declares: bool) -> Self {
        let original = sites::subcloud(index, addresses, layout);
        Self {
            index,
            layout,
            addresses,
            site: original.clone(),
            memory: original.clone(),
            effects: Vec::new(),
            effects_in_memory: Vec::new(),
            past_effects: BTreeSet::new(),
            obeyed: Obeyed::default(),
            anew: false,
            original,
            key: None,
            record: None,
            credential: None,
            copy_of: None,
            token: None,
            process: Process::Idle,
            life: 0,
            attempt: 0,
            refused: None,
            partitioned_until: 0,
            declares,
            changes: 0,
            disk: VecDeque::new(),
            disk_until: 0,
            setting: 0,
            clock: Clock::new(0),
            alarm_clock: None,
            networks_refused: None,
            networks_since: 0,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.original.identity().name
    }

    pub(crate) fn partitioned(&self, now: Millis) -> bool {
        now < self.partitioned_until
    }

    fn write_landed(&mut self, now: Millis, write: AgentWrite) -> Landed {
        match write {
            AgentWrite::Key(key) => {
                self.key = Some(key);
                Landed::Enroller(EnrollerInput::KeyKept(key))
            }
            AgentWrite::Identity(record, credential) => {
                self.record = Some(record);
                self.credential = Some(credential);
                Landed::Enroller(EnrollerInput::Kept)
            }
            AgentWrite::Certificate(ticket, credential) => {
                self.credential = Some(credential);
                Landed::Agent(vec![AgentInput::Persisted(ticket)])
            }
            AgentWrite::Record(ticket, record) => {
                let had = self.record.as_ref().and_then(|known| known.networks);
                if record.networks != had {
                    self.networks_since = now;
                }
                self.record = Some(record);
                Landed::Agent(vec![AgentInput::Persisted(ticket)])
            }
            AgentWrite::Site(site, networks) => {
                self.site = *site;
                let changed = AgentInput::SiteChanged(Arc::new(self.site.clone()));
                self.networks_refused = self.networks_refused.filter(|_| networks.is_none());
                let made = Some(self.site.generation());
                let applied = |networks| AgentInput::NetworksApplied { networks, made };
                Landed::Agent(networks.map(applied).into_iter().chain([changed]).collect())
            }
            AgentWrite::Obeyed(obeying) => {
                let answer_first = obeying.answer_first;
                let (site, done) = obeying.land(&mut self.obeyed);
                let Some(site) = site else {
                    return Landed::Agent(vec![done]);
                };
                self.site = site;
                let changed = AgentInput::SiteChanged(Arc::new(self.site.clone()));
                Landed::Agent(match answer_first {
                    true => vec![done, changed],
                    false => vec![changed, done],
                })
            }
            AgentWrite::Command(errand, connection, id) => {
                self.effects.extend(errand);
                Landed::Agent(vec![AgentInput::CommandDone {
                    connection,
                    id,
                    outcome: CommandOutcome::Done(Vec::new()),
                }])
            }
        }
    }
}

/// Who waited for a write.
enum Landed {
    Enroller(EnrollerInput),
    Agent(Vec<AgentInput>),
}

impl World {
    /// Starts whatever the host has to run.
    pub(crate) fn start_agent(&mut self, agent: usize) {
        let now = self.agent_clock(agent);
        let node = &mut self.agents[agent];
        if !matches!(node.process, Process::Down | Process::Idle) {
            return;
        }
        node.memory = node.site.clone();
        let (Some(record), Some(credential)) = (node.record.clone(), node.credential.clone())
        else {
            node.process = Process::Idle;
            self.after(1000, Happening::Enroll { agent });
            return;
        };
        node.life += 1;
        let instance = InstanceId(self.rng.random());
        let site = Arc::new(node.site.clone());
        let (machine, outputs) = Agent::start(now, record, credential, instance, site);
        node.process = Process::Serving(Box::new(machine));
        self.note(20, || format!("agent {agent} serves"));
        self.agent_outputs(agent, outputs);
    }

    /// Runs `enroll` with the token that the operator gave.
    pub(crate) fn enroll(&mut self, agent: usize) {
        let now = self.agent_clock(agent);
        let node = &mut self.agents[agent];
        if node.anew {
            // What was in its way may be gone.
            node.refused = None;
        }
        let ready = matches!(node.process, Process::Idle) && node.record.is_none();
        if !ready || node.token.is_none() || node.refused.is_some() {
            return;
        }
        node.life += 1;
        let (machine, outputs) = Enroller::start(now, node.key, ENROLL_PATIENCE);
        node.process = Process::Enrolling(Box::new(machine));
        self.note(21, || format!("agent {agent} enrolls"));
        self.enroller_outputs(agent, outputs);
    }

    /// Ends a host's processes; a part of what waited for the disk may have reached it, in order.
    pub(crate) fn crash_agent(&mut self, agent: usize) {
        self.note(22, || format!("agent {agent} CRASHES"));
        let reached = {
            let waiting = self.agents[agent].disk.len();
            self.rng.random_range(0..=waiting)
        };
        let (now, node) = (self.now, &mut self.agents[agent]);
        for write in std::mem::take(&mut node.disk).into_iter().take(reached) {
            node.write_landed(now, write);
        }
        node.life += 1;
        node.alarm_clock = None;
        node.process = Process::Down;
        node.disk_until = self.now;
        node.memory = node.site.clone();
        node.effects_in_memory = node.effects.clone();
        node.obeyed.process_ended();
        self.check_effects(agent);
        for link in self.wires_of(agent) {
            self.cut(link, true, 0.6);
        }
    }

    /// Somebody starts an agent from a copy of the host's disk, and both live on.
    pub(crate) fn copy_agent(&mut self, agent: usize) {
        let node = &self.agents[agent];
        if node.record.is_none() || self.has_copy(node) {
            return;
        }
        let index = self.agents.len();
        let mut copy = AgentNode::new(index, node.addresses, node.layout, node.declares);
        copy.original = node.original.clone();
        copy.site = node.site.clone();
        copy.key = node.key;
        copy.record.clone_from(&node.record);
        copy.credential.clone_from(&node.credential);
        copy.copy_of = Some(agent);
        copy.effects.clone_from(&node.effects);
        copy.effects_in_memory.clone_from(&node.effects);
        copy.obeyed = node.obeyed.clone();
        copy.obeyed.process_ended();
        self.note(18, || format!("agent {index} is a copy of agent {agent}"));
        self.agents.push(copy);
        self.start_agent(index);
    }

    /// Whether two hosts have this one's identity.
    pub(crate) fn has_copy(&self, node: &AgentNode) -> bool {
        let copied = |other: &AgentNode| other.copy_of == Some(node.index);
        node.copy_of.is_some() || self.agents.iter().any(copied)
    }

    /// The host loses its key, as when somebody installs it anew, before it has a certificate.
    pub(crate) fn wipe_key(&mut self, agent: usize) {
        if self.agents[agent].record.is_some() || self.agents[agent].key.is_none() {
            return;
        }
        self.crash_agent(agent);
        let node = &mut self.agents[agent];
        if node.record.is_none() {
            node.key = None;
            self.note(23, || format!("agent {agent} loses its key"));
        }
        self.after(3000, Happening::AgentUp { agent });
    }

    /// Somebody installs the host anew, as the same site or as one that replaces it: key,
    /// certificate and what it was asked are gone.
    pub(crate) fn reinstall(&mut self, agent: usize) {
        if self.has_copy(&self.agents[agent]) || self.agents[agent].refused.is_some() {
            return;
        }
        self.crash_agent(agent);
        let now = self.now;
        let node = &mut self.agents[agent];
        node.obeyed.installed_anew(&node.site, now);
        node.site = node.original.clone();
        node.memory = node.original.clone();
        node.past_effects.extend(std::mem::take(&mut node.effects));
        node.effects_in_memory.clear();
        node.key = None;
        node.record = None;
        node.credential = None;
        node.token = None;
        node.process = Process::Idle;
        node.anew = true;
        self.note(19, || format!("agent {agent} is installed anew"));
        let step = OperatorStep::LetReenroll;
        self.after(2000, Happening::Operator { agent, step });
    }

    /// The site changes: a pool that is attached to nothing comes into being.
    pub(crate) fn change_site(&mut self, agent: usize) {
        let node = &mut self.agents[agent];
        if !matches!(node.process, Process::Serving(_)) {
            return;
        }
        node.changes += 1;
        let pool = PoolInput {
            name: format!("extra-{}", node.memory.generation().0),
            network: "203.0.113.0".to_owned(),
            prefix: 24,
            ..PoolInput::default()
        };
        let id = PoolId(Uuid::from_u128(self.rng.random()));
        let change = Change::AddPool { id, pool };
        self.apply(agent, change, None);
    }

    /// The site does an errand, or finds that it has done it, and answers when that is durable.
    pub(crate) fn agent_does(
        &mut self,
        agent: usize,
        errand: u64,
        forgets: bool,
        connection: ConnectionId,
        id: CommandId,
    ) {
        let known = &mut self.agents[agent].effects_in_memory;
        let new = forgets || !known.contains(&errand);
        if new {
            known.push(errand);
        }
        let write = AgentWrite::Command(new.then_some(errand), connection, id);
        self.agent_writes(agent, write);
    }

    /// The site takes addresses that an enrolled neighbour has.
    pub(crate) fn break_site(&mut self, agent: usize) {
        if !matches!(self.agents[agent].process, Process::Serving(_)) {
            return;
        }
        let enrolled = |node: &&AgentNode| node.index != agent && node.record.is_some();
        let changed =
            self.agents.iter().filter(enrolled).find_map(|node| {
                sites::with_addresses_of(&self.agents[agent].memory, &node.original)
            });
        if let Some(changed) = changed {
            self.note(24, || {
                format!("agent {agent} takes its neighbour's addresses")
            });
            self.agents[agent].memory = changed.clone();
            self.agent_writes(agent, AgentWrite::Site(Box::new(changed), None));
        }
    }

    /// The site has its own addresses again.
    pub(crate) fn mend_site(&mut self, agent: usize) {
        let node = &self.agents[agent];
        let own = node.original.link_pool().map(|pool| pool.subnet());
        if !matches!(node.process, Process::Serving(_))
            || node.memory.link_pool().map(|pool| pool.subnet()) == own
        {
            return;
        }
        let mended = sites::restored(&node.memory, &node.original);
        self.note(29, || format!("agent {agent} has its own addresses again"));
        self.agents[agent].memory = mended.clone();
        self.agent_writes(agent, AgentWrite::Site(Box::new(mended), None));
    }

    fn apply(&mut self, agent: usize, change: Change, networks: Option<NetworksDigest>) {
        let now = self.agent_clock(agent);
        match site::plan(&self.agents[agent].memory, change, now) {
            Ok(plan) => {
                let next = plan.into_site();
                self.note(25, || {
                    format!("agent {agent} site generation {}", next.generation().0)
                });
                self.agents[agent].memory = next.clone();
                self.agent_writes(agent, AgentWrite::Site(Box::new(next), networks));
            }
            // A site that has moved where the controller did not know of it keeps what it had; the
            // controller hears of that at once, and again with its report.
            Err(rejection) if networks.is_some() => {
                self.note(32, || {
                    format!("the controller's networks do not fit agent {agent}: {rejection}")
                });
                let faults = Fault::all_of(&rejection.map(Reason::Site));
                let node = &mut self.agents[agent];
                node.networks_refused = networks;
                let life = node.life;
                if let Some(networks) = networks {
                    let refused = AgentInput::NetworksRefused { networks, faults };
                    self.tell_agent(agent, life, refused);
                }
            }
            Err(rejection) => self.fail(format!("a change of site {agent} failed: {rejection}")),
        }
    }

    pub(crate) fn tell_agent(&mut self, agent: usize, life: u64, input: AgentInput) {
        let now = self.agent_clock(agent);
        let node = &mut self.agents[agent];
        let Process::Serving(machine) = &mut node.process else {
            return;
        };
        if node.life == life {
            let outputs = machine.on(now, &mut Chance(&mut self.rng), input);
            self.agent_outputs(agent, outputs);
        }
    }

    pub(crate) fn tell_enroller(&mut self, agent: usize, input: EnrollerInput) {
        let now = self.agent_clock(agent);
        if let Process::Enrolling(machine) = &mut self.agents[agent].process {
            let outputs = machine.on(now, &mut Chance(&mut self.rng), input);
            self.enroller_outputs(agent, outputs);
        }
    }

    pub(crate) fn agent_timer(&mut self, agent: usize, life: u64, setting: u64) {
        let node = &mut self.agents[agent];
        if (node.life, node.setting) != (life, setting) {
            return;
        }
        node.alarm_clock = None;
        match &self.agents[agent].process {
            Process::Serving(_) => self.tell_agent(agent, life, AgentInput::Timer),
            Process::Enrolling(_) => self.tell_enroller(agent, EnrollerInput::Timer),
            Process::Down | Process::Idle => {}
        }
    }

    pub(crate) fn agent_disk(&mut self, agent: usize, life: u64) {
        if self.agents[agent].life != life {
            return;
        }
        let (now, node) = (self.now, &mut self.agents[agent]);
        let Some(write) = node.disk.pop_front() else {
            return;
        };
        match node.write_landed(now, write) {
            Landed::Enroller(input) => self.tell_enroller(agent, input),
            Landed::Agent(inputs) => {
                self.check_effects(agent);
                for input in inputs {
                    self.tell_agent(agent, life, input);
                }
            }
        }
    }

    pub(crate) fn request_lost(&mut self, agent: usize, life: u64, attempt: u64) {
        let node = &self.agents[agent];
        if (node.life, node.attempt) == (life, attempt) {
            self.agents[agent].attempt += 1;
            self.tell_enroller(agent, EnrollerInput::Unreachable);
        }
    }

    pub(crate) fn agent_writes(&mut self, agent: usize, write: AgentWrite) {
        let full = self.rates.full_disk;
        if self.faulty(full) {
            // What cannot be written ends the process.
            self.note(17, || format!("the disk of agent {agent} is full"));
            self.crash_agent(agent);
            let wait = self.rng.random_range(100..20_000);
            return self.after(wait, Happening::AgentUp { agent });
        }
        let delay = self.disk_delay();
        let node = &mut self.agents[agent];
        node.disk_until = node.disk_until.max(self.now) + delay;
        node.disk.push_back(write);
        let (at, life) = (node.disk_until, node.life);
        self.at(at, Happening::AgentDisk { agent, life });
    }

    pub(crate) fn agent_clock(&self, agent: usize) -> Timestamp {
        self.agents[agent].clock.at(self.now)
    }

    /// The clock of a host runs fast, or jumps.
    pub(crate) fn change_agent_clock(&mut self, agent: usize, ahead: Millis, rate: u64) {
        let node = &mut self.agents[agent];
        node.clock.change(self.now, ahead, rate);
        if let Some(at) = node.alarm_clock {
            self.set_agent_timer(agent, at);
        }
    }

    fn set_agent_timer(&mut self, agent: usize, at: Timestamp) {
        let node = &mut self.agents[agent];
        node.setting += 1;
        node.alarm_clock = Some(at);
        let (life, setting) = (node.life, node.setting);
        let due = node.clock.when(at);
        self.at(
            due,
            Happening::AgentTimer {
                agent,
                life,
                setting,
            },
        );
    }

    fn agent_outputs(&mut self, agent: usize, outputs: Vec<AgentOutput>) {
        let life = self.agents[agent].life;
        for output in outputs {
            // The process may have ended with an output before this one.
            if self.agents[agent].life != life {
                return;
            }
            match output {
                AgentOutput::Connect { connection, .. } => self.connect(agent, connection),
                AgentOutput::Send {
                    connection,
                    message,
                } => {
                    if let Some(link) = self.link_of(agent, connection) {
                        self.send(link, TO_CONTROLLER, |link| Happening::ToController {
                            link,
                            message: Some(message.clone()),
                        });
                    }
                }
                AgentOutput::Close(connection) => {
                    if let Some(link) = self.link_of(agent, connection) {
                        self.send(link, TO_CONTROLLER, |link| Happening::ToController {
                            link,
                            message: None,
                        });
                    }
                }
                AgentOutput::Persist { ticket, record } => {
                    self.agent_writes(agent, AgentWrite::Record(ticket, record));
                }
                AgentOutput::MakeKey => {
                    let request = CertificateRequest {
                        key: Fingerprint(self.rng.random()),
                        csr: Vec::new(),
                    };
                    let life = self.agents[agent].life;
                    self.tell_agent(agent, life, AgentInput::KeyMade(request));
                }
                AgentOutput::KeepCertificate {
                    ticket, credential, ..
                } => self.agent_writes(agent, AgentWrite::Certificate(ticket, credential)),
                AgentOutput::ApplyNetworks(networks) => self.apply_networks(agent, &networks),
                AgentOutput::SetTimer { at } => self.set_agent_timer(agent, at),
                AgentOutput::Status(status) => {
                    self.note(26, || format!("agent {agent} is {status:?}"));
                }
                AgentOutput::ReportRefused { .. } => {}
                AgentOutput::Execute {
                    connection,
                    command,
                } => self.execute(agent, connection, &command),
                AgentOutput::StaleCommand { total, .. } => {
                    self.note(61, || {
                        format!("agent {agent} refused {total} of an older term")
                    });
                }
            }
        }
    }

    fn apply_networks(&mut self, agent: usize, networks: &fleet::ControllerNetworks) {
        let mut network = |pools: &[fleet::ControllerPool]| {
            pools.first().map(|pool| ControllerNetwork {
                subnet: pool.subnet,
                network: Uuid::from_u128(self.rng.random()),
                attachment: AttachmentId(Uuid::from_u128(self.rng.random())),
                pool: PoolId(Uuid::from_u128(self.rng.random())),
            })
        };
        let (Some(link), oam) = (network(&networks.link), network(&networks.oam)) else {
            self.fail(format!(
                "agent {agent} was told of a controller without a link network"
            ));
            return;
        };
        let change = Change::SetControllerNetworks { link, oam };
        self.apply(agent, change, Some(networks.digest()));
    }

    fn enroller_outputs(&mut self, agent: usize, outputs: Vec<EnrollerOutput>) {
        let life = self.agents[agent].life;
        for output in outputs {
            if self.agents[agent].life != life {
                return;
            }
            match output {
                EnrollerOutput::MakeKey => {
                    let key = Fingerprint(self.rng.random());
                    self.agent_writes(agent, AgentWrite::Key(key));
                }
                EnrollerOutput::Request(key) => {
                    let node = &mut self.agents[agent];
                    node.attempt += 1;
                    let (life, attempt) = (node.life, node.attempt);
                    self.request_enrollment(agent, key);
                    let timeout = Happening::RequestTimeout {
                        agent,
                        life,
                        attempt,
                    };
                    self.after(REQUEST_TIMEOUT, timeout);
                }
                EnrollerOutput::Keep(record) => {
                    let Some(key) = self.agents[agent].key else {
                        self.fail(format!("agent {agent} has a certificate and no key"));
                        return;
                    };
                    let credential = Credential {
                        key,
                        renewals: 0,
                        received_at: self.agent_clock(agent),
                        validity: self.validity,
                    };
                    self.agent_writes(agent, AgentWrite::Identity(record, credential));
                }
                EnrollerOutput::SetTimer { at } => self.set_agent_timer(agent, at),
                EnrollerOutput::Finish(exit) => self.enroll_ends(agent, exit),
            }
        }
    }

    fn enroll_ends(&mut self, agent: usize, exit: Exit) {
        self.agents[agent].process = Process::Idle;
        match exit {
            Exit::Enrolled(_) => {
                self.note(27, || format!("agent {agent} is enrolled"));
                self.after(500, Happening::AgentUp { agent });
            }
            Exit::TryLater(_) => self.after(5000, Happening::Enroll { agent }),
            Exit::Refused(refusal) => {
                let reasons: Vec<String> = refusal
                    .faults
                    .iter()
                    .map(|fault| fault.reason.clone())
                    .collect();
                self.note(28, || {
                    let first = refusal.faults.first();
                    let words = first.map_or("", |fault| fault.message.as_str());
                    format!("agent {agent} is refused: {}: {words}", reasons.join(" "))
                });
                if reasons
                    .first()
                    .is_some_and(|first| first == "ENROLL_TOKEN_INVALID")
                {
                    let step = OperatorStep::IssueToken;
                    self.after(2000, Happening::Operator { agent, step });
                } else {
                    self.agents[agent].refused = Some(reasons);
                    if self.agents[agent].anew {
                        self.after(30_000, Happening::Enroll { agent });
                    }
                }
            }
        }
    }

    fn link_of(&self, agent: usize, connection: fleet::ConnectionId) -> Option<fleet::LinkId> {
        let life = self.agents[agent].life;
        self.wires
            .iter()
            .rev()
            .find(|(_, wire)| {
                wire.agent == agent && wire.life == life && wire.connection == connection
            })
            .map(|(link, _)| *link)
    }
}
