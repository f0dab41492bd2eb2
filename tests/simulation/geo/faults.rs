//! What goes wrong, and what operators do meanwhile.

use std::sync::Arc;

use fleet::{
    Actor, Administrative, FleetChange, Input, PeerAction, PeerEdit, RequestId, RunCommand,
    SiteMethod, SubcloudEdit,
};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::sites;
use crate::world::Millis;

use super::site::GROUP;
use super::{Geo, Happening, Node, site_model};

/// How likely the small faults are; drawn for each world, so that some are calm and some wild.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) slow_network: f64,
    pub(super) slow_disk: f64,
    pub(super) full_disk: f64,
    pub(super) duplicate: f64,
}

/// A single blow.
#[derive(Debug, Clone, Copy)]
pub(super) enum Blow {
    Crash {
        node: Node,
        down: Millis,
    },
    /// Nothing goes between two hosts, or only one way.
    Cut {
        one: Node,
        other: Node,
        both: bool,
        length: Millis,
    },
    /// A host is cut off from all others.
    Isolate {
        node: Node,
        length: Millis,
    },
    /// A stream of a host breaks; who notices is left to chance.
    Break {
        node: Node,
    },
    /// A direction of a stream of a host carries nothing any more.
    Stall {
        node: Node,
    },
    Clock {
        node: Node,
        ahead: Millis,
        rate: u64,
    },
    /// A site has another primary family for a while: its process goes on, or it is installed
    /// anew over its old state.
    Reinstall {
        site: usize,
        lives: bool,
        length: Millis,
    },
    /// A site has its own networks again.
    Restore {
        site: usize,
    },
}

/// What an operator does.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Migrate {
        site: usize,
    },
    Limit {
        site: usize,
        most: u32,
    },
    Priority {
        site: usize,
        priority: u32,
    },
    /// A group is shared with a peer, or no longer.
    Share {
        site: usize,
        peer: usize,
        shared: bool,
    },
    Sync {
        site: usize,
        peer: usize,
    },
    /// What is said about a subcloud changes; each text is said once.
    Describe {
        site: usize,
        subcloud: usize,
        text: u64,
    },
    Manage {
        site: usize,
        subcloud: usize,
        managed: bool,
    },
    Member {
        site: usize,
        subcloud: usize,
        joins: bool,
    },
    Peering {
        site: usize,
        peer: usize,
        enabled: bool,
    },
    Command {
        site: usize,
        subcloud: usize,
    },
    Change {
        site: usize,
    },
}

impl Rates {
    pub(super) fn draw(rng: &mut SmallRng) -> Self {
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
            full_disk: up_to(0.02),
            duplicate: up_to(0.2),
        }
    }
}

impl Geo {
    /// Draws the blows and the operators' calls of this world. All faults end in time.
    pub(super) fn plan(&mut self) {
        for _ in 0..self.rng.random_range(2..14) {
            let at = self.rng.random_range(0..self.faults_until);
            let blow = self.draw_blow(self.faults_until - at);
            self.at(at, Happening::Blow(blow));
        }
        for text in 0..self.rng.random_range(0..14) {
            let at = self.rng.random_range(0..self.faults_until);
            let operation = self.draw_operation(text);
            if let Operation::Migrate { site } = operation {
                self.plan_crash_amid(at, site);
            }
            self.at(at, Happening::Operation(operation));
        }
        if self.all_share && self.sites.len() == 3 {
            let at = self.rng.random_range(2_000..20_000);
            let (site, peer, shared) = (1, 2, true);
            let share = Operation::Share { site, peer, shared };
            self.at(at, Happening::Operation(share));
        }
        self.plan_end();
    }

    /// Some migrations lose the taking site, or a member, while they run.
    fn plan_crash_amid(&mut self, migrated_at: Millis, site: usize) {
        if !self.rng.random_bool(0.3) {
            return;
        }
        let node = if self.rng.random_bool(0.7) {
            Node::Site(site)
        } else {
            Node::Subcloud(self.rng.random_range(0..self.subclouds.len()))
        };
        let at = migrated_at + self.rng.random_range(0..3_000);
        if at < self.faults_until {
            let left = self.faults_until - at;
            let down = self.rng.random_range(100..20_000).min(left);
            self.at(at, Happening::Blow(Blow::Crash { node, down }));
        }
    }

    /// Operators undo whatever keeps sites apart.
    fn plan_end(&mut self) {
        let end = self.faults_until;
        for site in 0..self.sites.len() {
            self.at(end, Happening::Up(Node::Site(site)));
            self.at(end, Happening::Blow(Blow::Restore { site }));
            for peer in (0..self.sites.len()).filter(|peer| *peer != site) {
                let enabled = true;
                self.at(
                    end + 1000,
                    Happening::Operation(Operation::Peering {
                        site,
                        peer,
                        enabled,
                    }),
                );
            }
        }
        for subcloud in 0..self.subclouds.len() {
            self.at(end, Happening::Up(Node::Subcloud(subcloud)));
        }
        for (one, other) in self.sharing() {
            for (site, peer) in [(one, other), (other, one)] {
                let shared = true;
                let share = Operation::Share { site, peer, shared };
                self.at(end + 2000, Happening::Operation(share));
            }
        }
    }

    /// The sites that share the group in the end.
    fn sharing(&self) -> Vec<(usize, usize)> {
        let count = self.sites.len();
        let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other)));
        pairs
            .filter(|(one, _)| *one == 0 || self.all_share)
            .collect()
    }

    fn any_node(&mut self) -> Node {
        // Sites matter more than their number says.
        if self.rng.random_bool(0.6) {
            Node::Site(self.rng.random_range(0..self.sites.len()))
        } else {
            Node::Subcloud(self.rng.random_range(0..self.subclouds.len()))
        }
    }

    fn draw_blow(&mut self, left: Millis) -> Blow {
        let node = self.any_node();
        let length = self.rng.random_range(100..90_000).min(left);
        match self.rng.random_range(0..22) {
            0..6 => Blow::Crash { node, down: length },
            6..10 => Blow::Cut {
                one: node,
                other: self.any_node(),
                both: self.rng.random_bool(0.6),
                length,
            },
            10..14 => Blow::Isolate { node, length },
            14..16 => Blow::Break { node },
            16..18 => Blow::Stall { node },
            18..21 => Blow::Clock {
                node,
                ahead: if self.rng.random_bool(0.5) {
                    self.rng.random_range(0..3_600_000)
                } else {
                    0
                },
                rate: self.rng.random_range(1..3),
            },
            _ => Blow::Reinstall {
                site: self.rng.random_range(0..self.sites.len()),
                lives: self.rng.random_bool(0.5),
                length,
            },
        }
    }

    fn draw_operation(&mut self, text: u64) -> Operation {
        let site = self.rng.random_range(0..self.sites.len());
        let peer = self.rng.random_range(0..self.sites.len());
        let subcloud = self.rng.random_range(0..self.subclouds.len());
        match self.rng.random_range(0..19) {
            0..5 => Operation::Migrate { site },
            5..7 => Operation::Member {
                site,
                subcloud,
                joins: self.rng.random_bool(0.5),
            },
            7 => Operation::Limit {
                site,
                most: self.rng.random_range(1..5),
            },
            8 => Operation::Peering {
                site,
                peer,
                enabled: self.rng.random_bool(0.5),
            },
            9 => Operation::Change { site },
            10 => Operation::Priority {
                site,
                // No two sites draw the same.
                priority: number(site) + 10 * self.rng.random_range(0..3),
            },
            11 => Operation::Share {
                site,
                peer,
                shared: self.rng.random_bool(0.4),
            },
            12 => Operation::Sync { site, peer },
            13..15 => Operation::Describe {
                site,
                subcloud,
                text: text + 1,
            },
            15 => Operation::Manage {
                site,
                subcloud,
                managed: self.rng.random_bool(0.6),
            },
            _ => Operation::Command { site, subcloud },
        }
    }

    pub(super) fn operate(&mut self, operation: Operation) {
        match operation {
            Operation::Migrate { site }
            | Operation::Limit { site, .. }
            | Operation::Priority { site, .. }
            | Operation::Share { site, .. }
            | Operation::Sync { site, .. }
            | Operation::Member { site, .. } => {
                let action = self.group_action(&operation);
                self.ask(site, action);
            }
            Operation::Describe {
                site,
                subcloud,
                text,
            } => {
                let edit = SubcloudEdit {
                    description: Some(text.to_string()),
                    ..SubcloudEdit::default()
                };
                let change = FleetChange::Update {
                    subcloud: self.subclouds[subcloud].name(),
                    etag: String::new(),
                    edit,
                };
                self.change_fleet(site, change);
            }
            Operation::Manage {
                site,
                subcloud,
                managed,
            } => {
                let (subcloud, force) = (self.subclouds[subcloud].name(), true);
                let change = if managed {
                    FleetChange::Manage { subcloud, force }
                } else {
                    FleetChange::Unmanage { subcloud }
                };
                self.change_fleet(site, change);
            }
            Operation::Peering {
                site,
                peer,
                enabled,
            } => self.switch_peering(site, peer, enabled),
            Operation::Command { site, subcloud } => self.command(site, subcloud),
            Operation::Change { site } => {
                let changed = sites::with_shorter_oam(&self.sites[site].site);
                self.change_site(site, changed);
            }
        }
    }

    /// What an operator asks about the group; anything else is no such question.
    fn group_action(&self, operation: &Operation) -> PeerAction {
        let group = GROUP.to_owned();
        let update = |priority, max_subcloud_rehoming| PeerAction::UpdateGroup {
            group: GROUP.to_owned(),
            priority,
            max_subcloud_rehoming,
        };
        match *operation {
            Operation::Limit { most, .. } => update(None, Some(most)),
            Operation::Priority { priority, .. } => update(Some(priority), None),
            Operation::Share { peer, shared, .. } => {
                let (peer, peer_priority) = (format!("site-{peer}"), 100 + number(peer));
                if shared {
                    PeerAction::Associate {
                        group,
                        peer,
                        peer_priority,
                    }
                } else {
                    PeerAction::Dissociate { group, peer }
                }
            }
            Operation::Sync { peer, .. } => {
                let peer = format!("site-{peer}");
                PeerAction::SyncAssociation { group, peer }
            }
            Operation::Member {
                subcloud, joins, ..
            } => {
                let name = vec![self.subclouds[subcloud].name()];
                let (add, remove) = if joins {
                    (name, Vec::new())
                } else {
                    (Vec::new(), name)
                };
                PeerAction::SetMembers { group, add, remove }
            }
            _ => PeerAction::Migrate { group },
        }
    }

    fn switch_peering(&mut self, site: usize, peer: usize, enabled: bool) {
        let name = format!("site-{peer}");
        let machine = self.sites[site].machine.as_ref();
        let Some(known) = machine.and_then(|machine| machine.find_peer(&name)) else {
            return;
        };
        let administrative = if enabled {
            Administrative::Enabled
        } else {
            Administrative::Disabled
        };
        if known.settings.administrative != administrative {
            let edit = PeerEdit {
                administrative: Some(administrative),
                ..PeerEdit::default()
            };
            self.ask(site, PeerAction::UpdatePeer { peer: name, edit });
        }
    }

    fn command(&mut self, site: usize, subcloud: usize) {
        self.last_request += 1;
        let command = RunCommand {
            request: RequestId(self.last_request),
            actor: Actor::Operator("uid=0".to_owned()),
            subcloud: self.subclouds[subcloud].name(),
            method: SiteMethod::ListNetworks,
            body: Arc::from(Vec::new()),
            request_id: String::new(),
            changes: false,
            foreseen: None,
            deadline: site::Timestamp(u64::MAX),
        };
        self.tell_site(site, Input::RunCommand(command));
    }

    pub(super) fn strike(&mut self, blow: Blow) {
        self.faults += 1;
        self.forget_dead_wires();
        self.note(130, || format!("blow {blow:?}"));
        match blow {
            Blow::Crash { node, down } => {
                match node {
                    Node::Site(index) => self.crash_site(index),
                    Node::Subcloud(index) => self.crash_subcloud(index),
                }
                self.after(down, Happening::Up(node));
            }
            Blow::Cut {
                one,
                other,
                both,
                length,
            } => {
                self.cut_between(one, other, length);
                if both {
                    self.cut_between(other, one, length);
                }
            }
            Blow::Isolate { node, length } => {
                let sites = (0..self.sites.len()).map(Node::Site);
                let subclouds = (0..self.subclouds.len()).map(Node::Subcloud);
                let others: Vec<Node> = sites.chain(subclouds).filter(|n| *n != node).collect();
                for other in others {
                    self.cut_between(node, other, length);
                    self.cut_between(other, node, length);
                }
            }
            Blow::Break { node } => {
                let noticed = [
                    self.rng.random_range(0.0..1.0),
                    self.rng.random_range(0.0..1.0),
                ];
                for wire in self.live_wires(|wire| wire.ends.contains(&node)) {
                    self.cut(wire, noticed);
                }
            }
            Blow::Stall { node } => {
                for wire in self.live_wires(|wire| wire.ends.contains(&node)) {
                    let end = usize::from(self.rng.random_bool(0.5));
                    self.stall(wire, end);
                }
            }
            Blow::Clock { node, ahead, rate } => self.change_clock(node, ahead, rate),
            Blow::Reinstall {
                site,
                lives,
                length,
            } => {
                let layout = sites::other_family(self.sites[site].layout);
                let changed = sites::peer(site, layout).clone();
                if !lives {
                    self.crash_site(site);
                    let down = self.rng.random_range(100..20_000).min(length);
                    self.after(down, Happening::Up(Node::Site(site)));
                }
                self.move_site(site, changed);
                self.after(length, Happening::Blow(Blow::Restore { site }));
            }
            Blow::Restore { site } => {
                let own = sites::peer(site, self.sites[site].layout).clone();
                if self.sites[site].site != own {
                    self.move_site(site, own);
                }
            }
        }
    }

    /// A site gets other addresses: no connection of an agent to the old ones outlives that. Links
    /// between sites do, or nobody would hear of it before the next.
    fn move_site(&mut self, index: usize, site: site_model::Site) {
        let agents =
            |wire: &super::Wire| wire.ends[1] == Node::Site(index) && wire.subcloud().is_some();
        for wire in self.live_wires(agents) {
            self.cut(wire, [0.7, 0.7]);
        }
        self.change_site(index, site);
    }

    fn cut_between(&mut self, from: Node, to: Node, length: Millis) {
        let until = self.cuts.entry((from, to)).or_default();
        *until = (*until).max(self.now + length);
    }

    fn change_clock(&mut self, node: Node, ahead: Millis, rate: u64) {
        match node {
            Node::Site(index) => {
                self.sites[index].clock.change(self.now, ahead, rate);
                self.wind_site(index);
            }
            Node::Subcloud(index) => {
                self.subclouds[index].clock.change(self.now, ahead, rate);
                self.wind_subcloud(index);
            }
        }
    }
}

fn number(site: usize) -> u32 {
    u32::try_from(site).unwrap_or(u32::MAX)
}
