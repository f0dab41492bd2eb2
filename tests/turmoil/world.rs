//! One world: two controllers that are peers, their subclouds, and the network between them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use fleet::ControllerId;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use site::{Family, Site};
use system_controller::Times;
use turmoil::Sim;

use crate::faults::{Cut, Happening, LATENCY};
use crate::hosts::{AgentHost, Answer, ControllerHost, Host};
use crate::network::Gates;
use crate::options::Sabotage;
use crate::oracle::Oracle;
use crate::sites::{self, Layout};
use crate::system;
use crate::trace::Trace;

/// How coarse the simulated time is; each tick costs.
const TICK: Duration = Duration::from_millis(100);

/// How long after the last fault everything must have come right.
const PATIENCE: Duration = Duration::from_secs(240);

/// How often it is looked whether that is so.
const LOOK: Duration = Duration::from_secs(1);

/// How far clocks are apart at the most.
const SKEW_MILLISECONDS: u64 = 30_000;

/// A host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Controller(usize),
    Agent(usize),
}

/// An operator's call whose outcome is told when it comes.
struct Expected {
    what: String,
    answer: Answer<()>,
}

/// Everything that is.
pub(crate) struct World {
    pub(crate) sim: Sim<'static>,
    pub(crate) rng: SmallRng,
    pub(crate) trace: Trace,
    /// The primary family of all sites but the stranger's.
    pub(crate) primary: Family,
    pub(crate) failover: Duration,
    pub(crate) controllers: Vec<Rc<ControllerHost>>,
    pub(crate) agents: Vec<Rc<AgentHost>>,
    /// A site of the other family, which must not get in.
    pub(crate) stranger: Rc<AgentHost>,
    pub(crate) tokens: Vec<Option<String>>,
    /// How far each host's clock is ahead.
    skews: BTreeMap<IpAddr, Duration>,
    pub(crate) gates: Gates,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) blocked: BTreeSet<(IpAddr, IpAddr)>,
    pub(crate) down: BTreeSet<Node>,
    pub(crate) queue: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    pub(crate) faults_until: Duration,
    expected: Vec<Expected>,
    pub(crate) oracle: Oracle,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) old_controllers: Vec<Option<system_controller::InProcess>>,
    pub(crate) old_agents: Vec<Option<subcloud_agent::InProcess>>,
    failure: Option<String>,
    pub(crate) faults: u64,
}

/// How a run ended.
pub(crate) struct Ending {
    pub(crate) failure: Option<String>,
    pub(crate) trace: Trace,
    pub(crate) faults: u64,
    /// How often a subcloud got another owner.
    pub(crate) moves: u64,
    pub(crate) elapsed: Duration,
}

impl World {
    /// Plays one seed to its end. The thread is a simulated one from then on.
    pub(crate) fn play(seed: u64, sabotage: Option<Sabotage>, aloud: bool) -> Ending {
        system::play(seed);
        let mut world = Self::new(seed, sabotage, aloud);
        world.set_up();
        if world.failure.is_none() {
            world.faults_until = world.now()
                + world.failover * 3
                + Duration::from_millis(world.rng.random_range(10_000..50_000));
            world.copy_disks();
            world.plan();
            world.run();
        }
        Ending {
            failure: world.failure.take(),
            faults: world.faults,
            moves: world.oracle.moves(),
            elapsed: world.now(),
            trace: std::mem::take(&mut world.trace),
        }
    }

    fn new(seed: u64, sabotage: Option<Sabotage>, aloud: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let primary = if rng.random_bool(0.5) {
            Family::Ipv4
        } else {
            Family::Ipv6
        };
        let failover = Duration::from_secs(rng.random_range(8..18));
        let sim = turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH + system::EPOCH)
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::MAX)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(LATENCY)
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let gates = Gates::default();
        let mut layout = |dual: f64| Layout {
            primary,
            dual: rng.random_bool(dual),
        };
        let times = Times {
            heartbeat_interval: Duration::from_secs(2),
            failover,
        };
        let host = |name: &str, site: Site| {
            let address = site.link_address().expect("a site has a link address");
            Host::new(name, site, address, gates.clone())
        };
        let controllers = (0..2_u8).map(|index| {
            let name = format!("site-{index}");
            let site = sites::controller(&name, 100 + index, layout(0.5));
            Rc::new(ControllerHost::new(host(&name, site), times))
        });
        let controllers = controllers.collect::<Vec<_>>();
        let stranger = sites::subcloud(
            "stranger",
            50,
            Layout {
                primary: primary.other(),
                dual: true,
            },
        );
        // It has the controllers' family too, and reaches them over that.
        let way = stranger_address(&stranger, primary);
        let stranger = Host::new("stranger", stranger, way, gates.clone());
        let stranger = Rc::new(AgentHost::new(stranger));
        let mut draw = SmallRng::seed_from_u64(seed ^ 0xa6e);
        let agents = (0..draw.random_range(3..=6_u8)).map(|index| {
            let name = format!("subcloud-{index}");
            let layout = Layout {
                primary,
                dual: draw.random_bool(0.4),
            };
            let site = sites::subcloud(&name, 1 + index, layout);
            Rc::new(AgentHost::new(host(&name, site)))
        });
        let agents = agents.collect::<Vec<_>>();
        let tokens = vec![None; agents.len()];
        let mut world = Self {
            sim,
            rng,
            trace: Trace::new(aloud),
            primary,
            failover,
            controllers,
            agents,
            stranger,
            tokens,
            skews: BTreeMap::new(),
            gates,
            cuts: Vec::new(),
            blocked: BTreeSet::new(),
            down: BTreeSet::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            faults_until: Duration::MAX,
            expected: Vec::new(),
            oracle: Oracle::default(),
            sabotage,
            old_controllers: Vec::new(),
            old_agents: Vec::new(),
            failure: None,
            faults: 0,
        };
        world.register();
        world
    }

    /// Starts every host.
    fn register(&mut self) {
        for node in self.nodes() {
            let ahead = self.rng.random_range(0..SKEW_MILLISECONDS);
            self.skews
                .insert(self.address(node), Duration::from_millis(ahead));
        }
        for (index, host) in self.controllers.clone().into_iter().enumerate() {
            self.start_clock(Node::Controller(index));
            self.sim
                .host(host.host.address, move || Rc::clone(&host).run());
        }
        for (index, host) in self.agents.clone().into_iter().enumerate() {
            self.start_clock(Node::Agent(index));
            self.sim
                .host(host.host.address, move || Rc::clone(&host).run());
        }
        system::set_elapsed(self.now());
        let host = Rc::clone(&self.stranger);
        self.sim
            .host(host.host.address, move || Rc::clone(&host).run());
    }

    /// The clock of a host that starts next.
    pub(crate) fn start_clock(&self, node: Node) {
        let ahead = self.skews.get(&self.address(node)).copied();
        system::set_elapsed(self.now() + ahead.unwrap_or_default());
    }

    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    pub(crate) fn nodes(&self) -> Vec<Node> {
        let controllers = (0..self.controllers.len()).map(Node::Controller);
        let agents = (0..self.agents.len()).map(Node::Agent);
        controllers.chain(agents).collect()
    }

    pub(crate) fn address(&self, node: Node) -> IpAddr {
        match node {
            Node::Controller(index) => self.controllers[index].host.address,
            Node::Agent(index) => self.agents[index].host.address,
        }
    }

    pub(crate) fn controller_id(&self, index: usize) -> ControllerId {
        ControllerId(self.controllers[index].host.site.identity().uuid)
    }

    /// Which controller a subcloud obeys, by its own disk.
    pub(crate) fn owner_of(&self, agent: usize) -> Option<usize> {
        let disk = self.agents[agent].disk()?;
        let record = disk.record().ok().flatten()?;
        (0..self.controllers.len()).find(|index| self.controller_id(*index) == record.owner)
    }

    /// The last subcloud of some worlds enrolls when faults are on already.
    pub(crate) fn late(&self, agent: usize) -> bool {
        agent > 2 && agent + 1 == self.agents.len()
    }

    pub(crate) fn at(&mut self, at: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }

    pub(crate) fn note(&mut self, words: &str) {
        self.trace.note(self.sim.elapsed(), words);
    }

    /// The first failure ends the run.
    pub(crate) fn fail(&mut self, why: String) {
        self.note(&format!("FAILURE {why}"));
        self.failure.get_or_insert(why);
    }

    /// Tells the outcome of a call when it comes.
    pub(crate) fn expect(&mut self, what: String, answer: Answer<()>) {
        self.expected.push(Expected { what, answer });
    }

    /// Everybody goes on for one tick, and is looked at.
    fn step(&mut self) {
        system::set_elapsed(self.now());
        if let Err(error) = self.sim.step() {
            self.fail(format!("a process ended: {error}"));
        }
        system::set_elapsed(self.now());
        let answered = |expected: &Expected| expected.answer.borrow().is_some();
        let answers: Vec<Expected> = {
            let (come, wait) = std::mem::take(&mut self.expected)
                .into_iter()
                .partition(answered);
            self.expected = wait;
            come
        };
        for Expected { what, answer } in answers {
            let words = match answer.take() {
                Some(Err(status)) => format!("{what}: {}", status.message()),
                _ => format!("{what}: done"),
            };
            self.note(&words);
        }
        self.observe();
    }

    /// Steps until something holds.
    pub(crate) fn until(&mut self, what: &str, limit: Duration, holds: impl Fn(&Self) -> bool) {
        while self.failure.is_none() && !holds(self) {
            if self.now() > limit {
                let unfinished = self.unfinished().join("; ");
                return self.fail(format!("{what} has not come about: {unfinished}"));
            }
            self.step();
        }
    }

    /// Faults, and then peace.
    fn run(&mut self) {
        while self.failure.is_none() && self.now() < self.faults_until {
            while let Some(next) = self.queue.first_entry()
                && next.key().0 <= self.sim.elapsed()
            {
                let happening = next.remove();
                self.strike(happening);
            }
            self.set_cuts();
            self.step();
        }
        if self.failure.is_some() {
            return;
        }
        self.heal();
        self.set_cuts();
        self.come_right(PATIENCE);
        // In some worlds the clocks are set, too, once nothing else goes wrong.
        if self.failure.is_none() && self.sabotage.is_none() && self.rng.random_bool(0.3) {
            self.set_clocks();
        }
    }

    /// Waits until everything is as it must be.
    pub(crate) fn come_right(&mut self, patience: Duration) {
        let end = self.now() + patience;
        let mut look_at = self.now();
        while self.failure.is_none() {
            if self.now() >= look_at {
                let unfinished = self.unfinished();
                if unfinished.is_empty() {
                    return self.note("all is well again");
                }
                if self.now() >= end {
                    return self.fail(format!("did not come right: {}", unfinished.join("; ")));
                }
                look_at += LOOK;
            }
            self.step();
        }
    }
}

/// An address of the family of the others in the stranger's link network.
fn stranger_address(stranger: &Site, family: Family) -> IpAddr {
    let pools = stranger.network(site::NetworkKind::Mgmt);
    let pools = pools.iter().flat_map(|mgmt| mgmt.pools().iter());
    let mut floating = pools.filter_map(|(_, end)| stranger.pool(end.pool)?.addresses().floating);
    let of_family = floating.find(|address| Family::of(*address) == family);
    of_family.expect("the stranger has both families")
}
