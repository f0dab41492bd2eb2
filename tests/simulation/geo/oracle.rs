//! What must hold, judged from outside: by what is on disks and by what is said aloud.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    AgentRecord, AssociationState, Availability, ControllerId, ControllerMessage, Epoch,
    PeerMessage, SubcloudId, SyncItem,
};
use site::{Family, Timestamp};

use super::promises::Promises;
use super::{Geo, Node};

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Every ownership that was ever on the disk of the owner itself.
    taken: BTreeSet<(SubcloudId, Epoch, ControllerId)>,
    /// Whom each agent obeyed in each term, by its disk.
    obeyed: BTreeMap<(SubcloudId, Epoch), ControllerId>,
    /// When a site heard a peer last in the present life, by its own clock.
    pub(super) heard: BTreeMap<(usize, usize), Timestamp>,
    /// When a site heard a subcloud last in the present life, by its own clock.
    pub(super) heard_subcloud: BTreeMap<(usize, SubcloudId), Timestamp>,
    /// When a subcloud came online last at a site in its present life, by the site's clock.
    pub(super) came_online: BTreeMap<(usize, SubcloudId), Timestamp>,
    /// When the present life of a site began, by its own clock.
    pub(super) started: BTreeMap<usize, Timestamp>,
    /// The subclouds that told a site, in its present life, that they lost their owner.
    lost: BTreeSet<(usize, SubcloudId)>,
    /// The subclouds that a site, in its present life, has called offline and not online since.
    pub(super) offline: BTreeSet<(usize, SubcloudId)>,
    /// The primary families that each site ever had.
    families: BTreeMap<usize, BTreeSet<Option<Family>>>,
    pub(super) promises: Promises,
}

impl Oracle {
    pub(super) fn site_started(&mut self, site: usize, now: Timestamp) {
        self.heard.retain(|(by, _), _| *by != site);
        self.heard_subcloud.retain(|(by, _), _| *by != site);
        self.lost.retain(|(by, _)| *by != site);
        self.offline.retain(|(by, _)| *by != site);
        self.came_online.retain(|(by, _), _| *by != site);
        self.started.insert(site, now);
    }

    pub(super) fn heard_peer(&mut self, by: usize, of: usize, at: Timestamp) {
        self.heard.insert((by, of), at);
    }

    pub(super) fn heard_of_loss(&mut self, site: usize, subcloud: SubcloudId) {
        self.lost.insert((site, subcloud));
    }

    pub(super) fn site_has(&mut self, site: usize, family: Option<Family>) {
        self.families.entry(site).or_default().insert(family);
    }

    /// Whether two sites never had different families.
    pub(super) fn always_one_family(&self, one: usize, other: usize) -> bool {
        let known = [one, other].map(|site| self.families.get(&site));
        let [Some(one), Some(other)] = known else {
            return true;
        };
        one.len() == 1 && one == other
    }

    /// Whether a controller ever took a subcloud from another.
    pub(super) fn has_taken_over(&self, controller: ControllerId) -> bool {
        let mut taken = self.taken.iter();
        taken.any(|(_, epoch, owner)| *owner == controller && *epoch > Epoch(1))
    }
}

impl Geo {
    /// Notes who has made itself owner, durably: because an operator moves the group there, or
    /// because the agent said that it had lost its owner.
    pub(super) fn remember_owners(&mut self, index: usize) {
        let node = &self.sites[index];
        let mut faults = Vec::new();
        for record in node.durable.subclouds.values() {
            let (true, Some(enrolled)) = (record.owned_here(), record.enrolled()) else {
                continue;
            };
            let known = (record.id, enrolled.epoch, node.id());
            let moves = |group: &fleet::PeerGroup| {
                let migration = group.migration.as_ref().filter(|known| known.running());
                migration.is_some_and(|known| known.targets.contains(&record.id))
            };
            let asked = node.durable.groups.values().any(moves)
                || self.oracle.lost.contains(&(index, record.id));
            if self.oracle.taken.insert(known) && enrolled.epoch > Epoch(1) && !asked {
                faults.push(format!("site {index} took {} unasked", record.name));
            }
        }
        for group in node.durable.groups.values() {
            let leader = &group.leader;
            let own = leader.controller == node.id() && leader.term > 1;
            if own && !self.oracle.has_taken_over(node.id()) {
                faults.push(format!("site {index} leads and took nobody over"));
            }
        }
        for fault in faults {
            self.fail(fault);
        }
        self.remember_texts(index);
    }

    /// An agent's disk gets a new record: its term only grows, one owner a term, and that owner
    /// has it on its own disk.
    pub(super) fn check_owner(&mut self, index: usize, record: &AgentRecord) {
        let node = &self.subclouds[index];
        if let Some(old) = &node.record
            && ((record.epoch, record.owner) != (old.epoch, old.owner) && record.epoch <= old.epoch)
        {
            self.fail(format!(
                "subcloud {index} went from {} in term {} to {} in term {}",
                old.owner, old.epoch.0, record.owner, record.epoch.0
            ));
        }
        let key = (record.subcloud, record.epoch);
        let owner = *self.oracle.obeyed.entry(key).or_insert(record.owner);
        if owner != record.owner {
            self.fail(format!(
                "subcloud {index} has two owners in term {}",
                record.epoch.0
            ));
        }
        if !self
            .oracle
            .taken
            .contains(&(record.subcloud, record.epoch, record.owner))
        {
            self.fail(format!(
                "subcloud {index} obeys {} in term {}, which that has not on disk",
                record.owner, record.epoch.0
            ));
        }
    }

    /// Something takes effect at a subcloud: it comes from its owner, in the term on its disk.
    pub(super) fn check_obeyed(&mut self, index: usize, what: &str, epoch: Option<Epoch>) {
        let node = &self.subclouds[index];
        let wire = node.wire.and_then(|wire| self.wires.get(&wire));
        let from = wire.map(|wire| wire.ends[1]);
        let owner = node.record.as_ref().map(|record| record.owner);
        let term = node.record.as_ref().map(|record| record.epoch);
        let speaker = match from {
            Some(Node::Site(site)) => Some(self.sites[site].id()),
            _ => None,
        };
        if speaker.is_some() && speaker != owner {
            self.fail(format!(
                "subcloud {index} took {what} from one that is not its owner"
            ));
        }
        if epoch.is_some_and(|epoch| Some(epoch) < term) {
            self.fail(format!("subcloud {index} took {what} of an older term"));
        }
    }

    /// A welcome promises that the ownership is on disk.
    pub(super) fn check_welcome(&mut self, index: usize, wire: u64, message: &ControllerMessage) {
        let ControllerMessage::Welcome(welcome) = message else {
            return;
        };
        let subcloud = self.wires.get(&wire).and_then(super::Wire::subcloud);
        let Some(subcloud) = subcloud else {
            return;
        };
        let id = self.subclouds[subcloud].id();
        let key = (id, welcome.epoch, self.sites[index].id());
        if !self.oracle.taken.contains(&key) {
            self.fail(format!(
                "site {index} welcomes subcloud {subcloud} in term {}, which is not on disk",
                welcome.epoch.0
            ));
        }
    }

    /// What a peer is told of a member is on disk, or a newer record is.
    pub(super) fn check_said(&mut self, index: usize, message: &PeerMessage) {
        let durable = &self.sites[index].durable;
        let mut faults = Vec::new();
        match message {
            PeerMessage::Batch(batch) => {
                for item in &batch.items {
                    let SyncItem::Owned(record) = item else {
                        continue;
                    };
                    let told = record.enrolled().map(|known| known.epoch);
                    let held = durable.subclouds.get(&record.id);
                    let held = held
                        .and_then(|held| held.enrolled())
                        .map(|known| known.epoch);
                    if held < told {
                        faults.push(format!("site {index} tells of {} too early", record.name));
                    }
                }
            }
            PeerMessage::Synced {
                group,
                digest,
                faults: told,
                ..
            } if told.is_empty() => {
                let known = durable.associations.values().filter(|a| a.group == *group);
                // A later offer may have been taken in since.
                let kept = known.into_iter().any(|a| a.told.is_some());
                if !kept {
                    faults.push(format!("site {index} has {digest:?} not on disk"));
                }
            }
            _ => {}
        }
        for fault in faults {
            self.fail(fault);
        }
    }

    /// No peering over which members are synchronised joins two families, and no link.
    pub(super) fn check_site(&mut self, index: usize) {
        self.check_link_families(index);
        let node = &self.sites[index];
        let Some(machine) = &node.machine else {
            return;
        };
        let own = node.family();
        let mut faults = Vec::new();
        for peer in machine.system_peers() {
            if !machine.peer_view(peer).synchronising {
                continue;
            }
            let told = self.wires.values().rev().find_map(|wire| {
                let end = wire.ends.iter().position(|end| *end == Node::Site(index))?;
                let other = match wire.ends[1 - end] {
                    Node::Site(other) => self.sites[other].id(),
                    Node::Subcloud(_) => return None,
                };
                // What comes over a link that the site has ended is not for it any more.
                let heard = wire.told[end].is_some() && !wire.over[end];
                (Some(other) == peer.controller() && heard).then_some(wire.told[end])
            });
            if told.flatten().is_some_and(|told| Some(told) != own) {
                faults.push(format!(
                    "site {index} synchronises with {} of another family",
                    peer.name
                ));
            }
        }
        for fault in faults {
            self.fail(fault);
        }
    }

    /// What is not yet as it must be once nothing goes wrong any more.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let mut left = Vec::new();
        for index in 0..self.subclouds.len() {
            left.extend(
                self.problem_of(index)
                    .map(|why| format!("subcloud {index}: {why}")),
            );
        }
        for index in 0..self.sites.len() {
            left.extend(
                self.site_problem(index)
                    .map(|why| format!("site {index}: {why}")),
            );
        }
        if left.is_empty() {
            left = self.lost_texts();
        }
        left
    }

    fn problem_of(&self, index: usize) -> Option<String> {
        let node = &self.subclouds[index];
        let (Some(machine), Some(record)) = (&node.machine, &node.record) else {
            return Some("is not running".to_owned());
        };
        if !machine.in_sync() {
            return Some("is not in sync".to_owned());
        }
        let Some(site) = self.sites.iter().position(|site| site.id() == record.owner) else {
            return Some("obeys nobody that is known".to_owned());
        };
        let Some(owner) = &self.sites[site].machine else {
            return Some("obeys a site that is down".to_owned());
        };
        let held = owner.fleet().subcloud(node.id())?;
        let epoch = held.enrolled().map(|known| known.epoch);
        if !held.owned_here() || epoch != Some(record.epoch) || !held.geo.confirmed {
            return Some(format!("is not known to obey site {site}"));
        }
        if owner.presence(node.id()).availability != Availability::Online {
            return Some(format!("is not seen online by site {site}"));
        }
        let alternates = owner_alternates(owner, node.id());
        if record.alternates.controllers.len() != alternates {
            return Some("does not know where it may turn".to_owned());
        }
        for (other, known) in self
            .sites
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != site)
        {
            let (Some(there), Some(group)) = (&known.machine, held.geo.group) else {
                continue;
            };
            let shared = owner.associations().any(|association| {
                let peer = owner
                    .system_peers()
                    .find(|peer| peer.id == association.peer);
                // What an operator of the other site ended is told no longer.
                association.group == group
                    && !association.ended
                    && peer.is_some_and(|peer| {
                        peer.controller() == Some(known.id()) && !peer.suspended()
                    })
            });
            let copy = there.fleet().subcloud(node.id());
            let right = copy.is_some_and(|copy| {
                copy.geo.owner == Some(record.owner)
                    && copy.geo.group == held.geo.group
                    && copy.description == held.description
                    && copy.management == held.management
                    && copy.enrolled().map(|known| known.epoch) == epoch
            });
            if shared && !right {
                return Some(format!("is not known as a member at site {other}"));
            }
        }
        None
    }

    /// Whether the peer of an association shares its group with this site.
    fn shares_back(&self, site: usize, association: &fleet::Association) -> bool {
        let own = self.sites[site].id();
        let here = self.sites[site].machine.as_ref();
        let peer = here.and_then(|here| {
            let mut peers = here.system_peers();
            let peer = peers.find(|peer| peer.id == association.peer)?;
            peer.controller()
        });
        let other = self.sites.iter().find(|other| Some(other.id()) == peer);
        let Some(there) = other.and_then(|other| other.machine.as_ref()) else {
            return true;
        };
        there.associations().any(|back| {
            let mut peers = there.system_peers();
            let towards = peers.find(|peer| peer.id == back.peer);
            back.group == association.group
                && towards.and_then(fleet::SystemPeer::controller) == Some(own)
        })
    }

    /// Whether the agent of a subcloud obeys a site that has it in no group, so that nobody tells a
    /// site which took it over in the same term, and was not chosen.
    pub(super) fn left_its_owners_group(&self, subcloud: SubcloudId) -> bool {
        let mut agents = self.subclouds.iter().filter(|node| node.id() == subcloud);
        let obeyed = agents.find_map(|node| Some(node.record.as_ref()?.owner));
        let owner = self.sites.iter().find(|site| Some(site.id()) == obeyed);
        let machine = owner.and_then(|site| site.machine.as_ref());
        let record = machine.and_then(|machine| machine.fleet().subcloud(subcloud));
        record.is_some_and(|record| record.geo.group.is_none())
    }

    /// Whether an association says no more than that two sites claim such a subcloud.
    fn rivals_for_another(&self, message: &str) -> bool {
        self.subclouds.iter().any(|node| {
            let term = node.record.as_ref().map_or(0, |record| record.epoch.0);
            let name = node.name();
            let claim = format!("subcloud {name} is claimed in term {term}, but obeys");
            message.starts_with(&claim) && self.left_its_owners_group(node.id())
        })
    }

    fn site_problem(&self, index: usize) -> Option<String> {
        let Some(machine) = &self.sites[index].machine else {
            return Some("is not running".to_owned());
        };
        for peer in machine.system_peers() {
            if !machine.peer_view(peer).synchronising {
                return Some(format!("{} is not synchronised with", peer.name));
            }
        }
        for association in machine.associations() {
            if association.ended && !self.shares_back(index, association) {
                // An operator ended it at the other site while this one was away.
                continue;
            }
            let view = machine.association_view(association);
            if view.state != AssociationState::InSync && !self.rivals_for_another(&view.message) {
                return Some(format!(
                    "an association is {:?}: {}",
                    view.state, view.message
                ));
            }
        }
        let moves = |group: &fleet::PeerGroup| {
            let migration = group.migration.as_ref();
            migration.is_some_and(fleet::Migration::running)
        };
        if machine.peer_groups().any(moves) {
            return Some("a migration runs".to_owned());
        }
        self.wrong_alarms(index)
    }
}

/// How many other controllers the agent of a subcloud should know.
fn owner_alternates(owner: &fleet::Controller, id: SubcloudId) -> usize {
    let group = owner
        .fleet()
        .subcloud(id)
        .and_then(|record| record.geo.group);
    let Some(group) = group else {
        return 0;
    };
    let shared = owner
        .associations()
        .filter(|known| known.group == group && !known.ended);
    shared.count()
}
