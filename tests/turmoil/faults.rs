//! What goes wrong, and what operators do meanwhile.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use site::Change;

use crate::options::Sabotage;
use crate::system;
use crate::world::{Node, World};

/// How long a message takes when nothing is wrong.
pub(crate) const LATENCY: Duration = Duration::from_millis(20);

/// Something that happens at its time.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// Nothing goes between two hosts, or only one way: what is sent is lost.
    Cut {
        one: Node,
        other: Node,
        both: bool,
        length: Duration,
    },
    /// A host is cut off from all others.
    Lose { node: Node, length: Duration },
    /// What goes one way arrives late; nothing is lost.
    Hold {
        from: Node,
        to: Node,
        length: Duration,
    },
    /// Everything between two hosts takes longer.
    Slow {
        one: Node,
        other: Node,
        latency: Duration,
        length: Duration,
    },
    /// The power of a host goes, and comes back.
    Crash { node: Node, length: Duration },
    /// The power of a host is back.
    Up(Node),
    /// Connections are as they should be between two hosts.
    Fast { one: Node, other: Node },
    /// An operator has the shared group come to a controller.
    Migrate { controller: usize },
    /// An operator says something about a subcloud at its owner.
    Describe { agent: usize, text: u64 },
    /// An operator changes the site of a subcloud.
    Change { agent: usize, text: u8 },
    /// An operator gives a subcloud its token, late.
    Enroll { agent: usize },
    /// All wall clocks are set, but not so far that an agent begins anew for it.
    Clocks { ahead: Duration },
}

/// A direction in which nothing arrives, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    from: IpAddr,
    to: IpAddr,
    until: Duration,
}

impl World {
    /// Has something happen.
    pub(crate) fn strike(&mut self, happening: Happening) {
        self.note(&format!("{happening:?}"));
        let now = self.now();
        match happening {
            Happening::Cut {
                one,
                other,
                both,
                length,
            } => {
                self.cut(one, other, now + length);
                if both {
                    self.cut(other, one, now + length);
                }
            }
            Happening::Lose { node, length } => {
                for other in self.nodes() {
                    self.cut(node, other, now + length);
                    self.cut(other, node, now + length);
                }
            }
            Happening::Hold { from, to, length } => {
                let (from, to) = (self.address(from), self.address(to));
                self.gates.hold(from, to, now + length);
            }
            Happening::Slow {
                one,
                other,
                latency,
                length,
            } => {
                self.set_latency(one, other, latency);
                self.at(now + length, Happening::Fast { one, other });
            }
            Happening::Fast { one, other } => self.set_latency(one, other, LATENCY),
            Happening::Crash { node, length } => {
                self.crash(node);
                self.at(now + length, Happening::Up(node));
            }
            Happening::Up(node) => self.up(node),
            Happening::Migrate { controller } => self.migrate(controller),
            Happening::Describe { agent, text } => self.describe(agent, text),
            Happening::Change { agent, text } => {
                if self.sabotage == Some(Sabotage::LostReport) {
                    self.copy_disks();
                }
                let family = self.primary;
                let servers = vec![match family {
                    site::Family::Ipv4 => format!("192.0.2.{}", u16::from(text) + 1),
                    site::Family::Ipv6 => format!("2001:db8::{:x}", u16::from(text) + 1),
                }];
                self.agents[agent].change(Change::ModifyDns { servers });
            }
            Happening::Enroll { agent } => self.give_token(agent),
            Happening::Clocks { ahead } => system::set_epoch(system::EPOCH + ahead),
        }
        self.faults += 1;
    }

    fn cut(&mut self, from: Node, to: Node, until: Duration) {
        let (from, to) = (self.address(from), self.address(to));
        if from != to {
            self.cuts.push(Cut { from, to, until });
        }
    }

    fn set_latency(&self, one: Node, other: Node, latency: Duration) {
        let (one, other) = (self.address(one), self.address(other));
        self.sim.set_link_latency(one, other, latency);
    }

    /// Makes the network what the cuts of this moment say.
    pub(crate) fn set_cuts(&mut self) {
        let now = self.now();
        if self.sabotage != Some(Sabotage::NeverHealed) {
            self.cuts.retain(|cut| cut.until > now);
        }
        let mut blocked: BTreeSet<(IpAddr, IpAddr)> = BTreeSet::new();
        blocked.extend(self.cuts.iter().map(|cut| (cut.from, cut.to)));
        for down in &self.down {
            let down = self.address(*down);
            let others = self.nodes().into_iter().map(|node| self.address(node));
            for other in others.filter(|other| *other != down) {
                blocked.extend([(down, other), (other, down)]);
            }
        }
        let ordered = |(from, to): &(IpAddr, IpAddr)| (*from.min(to), *from.max(to));
        let changed = self.blocked.symmetric_difference(&blocked).map(ordered);
        let changed: BTreeSet<(IpAddr, IpAddr)> = changed.collect();
        for (one, other) in changed {
            let (there, back) = (
                blocked.contains(&(one, other)),
                blocked.contains(&(other, one)),
            );
            if there && back {
                self.sim.partition(one, other);
                continue;
            }
            self.sim.repair(one, other);
            if there {
                self.sim.partition_oneway(one, other);
            }
            if back {
                self.sim.partition_oneway(other, one);
            }
        }
        self.blocked = blocked;
    }

    /// Everything is as it should be from now on.
    pub(crate) fn heal(&mut self) {
        self.note("faults end");
        self.queue.clear();
        if self.sabotage != Some(Sabotage::NeverHealed) {
            self.cuts.clear();
        }
        self.gates.open();
        for one in self.nodes() {
            for other in self.nodes() {
                if self.address(one) < self.address(other) {
                    self.set_latency(one, other, LATENCY);
                }
            }
        }
        for node in self.nodes() {
            self.up(node);
        }
        for agent in 0..self.agents.len() {
            if self.late(agent) {
                self.give_token(agent);
            }
        }
    }

    /// The power goes: nobody hears a last word.
    pub(crate) fn crash(&mut self, node: Node) {
        if !self.down.insert(node) {
            return;
        }
        self.set_cuts();
        self.sim.crash(self.address(node));
        match node {
            Node::Controller(index) => self.controllers[index].ended(),
            Node::Agent(index) => self.agents[index].ended(),
        }
        let now = self.now();
        self.oracle.ended(node, now);
    }

    pub(crate) fn up(&mut self, node: Node) {
        if !self.down.remove(&node) {
            return;
        }
        self.forget_on_purpose(node);
        self.set_cuts();
        self.start_clock(node);
        self.sim.bounce(self.address(node));
    }

    /// A disk that breaks its promise.
    fn forget_on_purpose(&mut self, node: Node) {
        let old = match (self.sabotage, node) {
            (
                Some(Sabotage::ForgetfulController | Sabotage::LostReport),
                Node::Controller(index),
            ) => {
                let old = self.old_controllers[index].take();
                old.map(|old| drop(self.controllers[index].put_disk(old)))
            }
            (Some(Sabotage::ForgetfulAgent), Node::Agent(index)) => {
                let old = self.old_agents[index].take();
                old.map(|old| drop(self.agents[index].put_disk(old)))
            }
            _ => None,
        };
        if old.is_some() {
            self.note(&format!("the disk of {node:?} has forgotten"));
        }
    }

    /// Keeps what the disks have, to be found again by those that will forget.
    pub(crate) fn copy_disks(&mut self) {
        let controllers = self.controllers.iter().map(|host| host.disk());
        let controllers = controllers.map(|disk| disk.and_then(|disk| disk.copied().ok()));
        self.old_controllers = controllers.collect();
        let agents = self.agents.iter().map(|host| host.disk());
        let agents = agents.map(|disk| disk.and_then(|disk| disk.copied().ok()));
        self.old_agents = agents.collect();
    }

    fn migrate(&mut self, controller: usize) {
        self.oracle.migrated.insert(controller);
        let answer =
            self.controllers[controller].call(|operator| async move { operator.migrate().await });
        self.expect(format!("migrate at controller {controller}"), answer);
    }

    fn describe(&mut self, agent: usize, text: u64) {
        let owner = self.owner_of(agent);
        let Some(owner) = owner else {
            return;
        };
        let name = self.agents[agent].host.name.clone();
        let answer = self.controllers[owner]
            .call(move |operator| async move { operator.describe(name, text.to_string()).await });
        self.expect(format!("describe subcloud {agent}"), answer);
    }

    fn give_token(&mut self, agent: usize) {
        if let Some(token) = self.tokens[agent].clone() {
            Rc::clone(&self.agents[agent]).enroll(token);
        }
    }
}
