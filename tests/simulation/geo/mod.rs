//! A world of several sites: controllers that are peers, a group that they share, and agents that
//! go from one to another. What is judged is above all that a subcloud never has two owners.

mod alarms;
mod faults;
mod oracle;
mod promises;
mod site;
mod subcloud;
mod wires;

use std::collections::BTreeMap;

use fleet::Entropy;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::sites::Layout;
use crate::trace::Trace;
use crate::world::{Ending, Millis};

use faults::{Blow, Operation, Rates};
use oracle::Oracle;
use site::SiteNode;
use subcloud::SubcloudNode;
use wires::{Payload, Wire};

/// How long after the last fault everything must have come right: a migration gives up ten minutes
/// after the last of up to four members came, everything else is faster.
const PATIENCE: Millis = 60 * 60 * 1000;

/// No world needs more steps; one that takes more runs in a circle.
const MAX_STEPS: u64 = 400_000;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GeoSabotage {
    /// Controllers and agents answer before the disk is done.
    NoSync,
    /// Nobody looks at terms: a controller takes every agent for its own, an agent every welcome.
    EpochNotChecked,
    /// Peers are judged once, and not again when a site changes.
    FamilyNotCheckedAgain,
}

impl GeoSabotage {
    pub(crate) const ALL: [Self; 3] = [
        Self::NoSync,
        Self::EpochNotChecked,
        Self::FamilyNotCheckedAgain,
    ];
}

/// Everything that is.
pub(crate) struct Geo {
    now: Millis,
    sequence: u64,
    queue: BTreeMap<(Millis, u64), Happening>,
    rng: SmallRng,
    trace: Trace,
    rates: Rates,
    faults_until: Millis,
    sites: Vec<SiteNode>,
    subclouds: Vec<SubcloudNode>,
    /// Every two sites share the group, and not only the first one with each other.
    all_share: bool,
    wires: BTreeMap<u64, Wire>,
    last_wire: u64,
    last_request: u64,
    /// Until when nothing goes from one node to another.
    cuts: BTreeMap<(Node, Node), Millis>,
    oracle: Oracle,
    sabotage: Option<GeoSabotage>,
    failure: Option<String>,
    faults: u64,
    /// Commands that were carried out.
    obeyed: u64,
}

/// A host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Site(usize),
    Subcloud(usize),
}

/// Something that will happen. A *life* is one run of a process: what was meant for an earlier
/// one is lost.
#[derive(Debug, Clone)]
enum Happening {
    Timer {
        node: Node,
        life: u64,
        setting: u64,
    },
    Disk {
        node: Node,
        life: u64,
    },
    Up(Node),
    /// Something reaches an end of a wire; 0 is the end that dialled.
    Arrives {
        wire: u64,
        end: usize,
        payload: Box<Payload>,
    },
    Operation(Operation),
    Blow(Blow),
}

use ::site as site_model;

/// Chance for the machines, from the one source.
struct Chance<'a>(&'a mut SmallRng);

impl Entropy for Chance<'_> {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

impl Geo {
    /// Plays one seed to its end.
    pub(crate) fn play(seed: u64, sabotage: Option<GeoSabotage>, keep_trace: bool) -> Ending {
        let mut world = Self::new(seed, sabotage, keep_trace);
        let end = world.faults_until + PATIENCE;
        let mut look_at = world.faults_until + 1;
        let mut steps = 0;
        while world.failure.is_none() {
            let Some(((at, _), happening)) = world.queue.pop_first() else {
                world.fail("nothing happens any more".to_owned());
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
                look_at = at + 2000;
            }
            steps += 1;
            if steps > MAX_STEPS {
                world.fail(format!("did not come to rest in {MAX_STEPS} steps"));
                break;
            }
            world.now = at;
            world.step(happening);
        }
        Ending {
            failure: world.failure,
            trace: world.trace,
            faults: world.faults,
            commands: world.obeyed,
        }
    }

    fn new(seed: u64, sabotage: Option<GeoSabotage>, keep_trace: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x6765_6f00);
        let layout = Layout::ALL[rng.random_range(0..Layout::ALL.len())];
        let faults_until = rng.random_range(60_000..200_000);
        let rates = Rates::draw(&mut rng);
        let sites = SiteNode::draw(&mut rng, layout);
        let all_share = rng.random_bool(0.5);
        let mut oracle = Oracle::default();
        for (index, site) in sites.iter().enumerate() {
            oracle.site_has(index, site.family());
        }
        let subclouds = SubcloudNode::draw(&mut rng, &sites);
        let mut world = Self {
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            rng,
            trace: Trace::new(keep_trace),
            rates,
            faults_until,
            sites,
            subclouds,
            all_share,
            wires: BTreeMap::new(),
            last_wire: 0,
            last_request: 0,
            cuts: BTreeMap::new(),
            oracle,
            sabotage,
            failure: None,
            faults: 0,
            obeyed: 0,
        };
        world.set_up();
        for index in 0..world.sites.len() {
            world.start_site(index);
        }
        for index in 0..world.subclouds.len() {
            world.start_subcloud(index);
        }
        world.plan();
        world
    }

    fn step(&mut self, happening: Happening) {
        match happening {
            Happening::Timer {
                node,
                life,
                setting,
            } => match node {
                Node::Site(index) => self.site_timer(index, life, setting),
                Node::Subcloud(index) => self.subcloud_timer(index, life, setting),
            },
            Happening::Disk { node, life } => match node {
                Node::Site(index) => self.site_disk(index, life),
                Node::Subcloud(index) => self.subcloud_disk(index, life),
            },
            Happening::Up(Node::Site(index)) => self.start_site(index),
            Happening::Up(Node::Subcloud(index)) => self.start_subcloud(index),
            Happening::Arrives { wire, end, payload } => self.arrive(wire, end, *payload),
            Happening::Operation(operation) => self.operate(operation),
            Happening::Blow(blow) => self.strike(blow),
        }
    }

    fn at(&mut self, at: Millis, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((at.max(self.now), self.sequence), happening);
    }

    fn after(&mut self, wait: Millis, happening: Happening) {
        self.at(self.now + wait, happening);
    }

    /// Something happens to the disk or the network only while faults are on.
    fn faulty(&mut self, probability: f64) -> bool {
        let drawn = self.rng.random_bool(probability);
        let fault = drawn && self.now < self.faults_until;
        self.faults += u64::from(fault);
        fault
    }

    /// The first failure ends the run.
    fn fail(&mut self, why: String) {
        self.note(199, || format!("FAILURE {why}"));
        self.failure.get_or_insert(why);
    }

    fn note(&mut self, code: u64, words: impl FnOnce() -> String) {
        self.trace.note(self.now, code, words);
    }

    /// How long one write takes.
    fn disk_delay(&mut self) -> Millis {
        let slow = self.rates.slow_disk;
        if self.faulty(slow) {
            self.rng.random_range(100..8_000)
        } else {
            self.rng.random_range(0..10)
        }
    }
}
