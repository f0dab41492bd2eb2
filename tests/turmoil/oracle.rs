//! What must hold, judged from outside: by what is on disks and by what is said aloud.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleet::{AgentRecord, Availability, ControllerId, Epoch, Records, SubcloudId};
use site::Generation;
use store::Revision;
use subcloud_agent::LinkState;

use crate::world::{Node, World};

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Every ownership that was ever on the disk of the owner itself.
    taken: BTreeSet<(SubcloudId, Epoch, ControllerId)>,
    /// Whose ownership in a term an agent has confirmed, by the disk of that owner.
    confirmed: BTreeMap<(SubcloudId, Epoch), ControllerId>,
    /// Whom each agent obeyed in each term, by its disk.
    obeyed: BTreeMap<(SubcloudId, Epoch), ControllerId>,
    /// What each agent has on disk, and at which revision that was read.
    agents: BTreeMap<usize, (Revision, AgentRecord)>,
    /// What each agent knows of its link.
    links: BTreeMap<usize, LinkState>,
    /// The newest generation whose durability an owner has acknowledged in a term.
    acknowledged: BTreeMap<(SubcloudId, Epoch), (ControllerId, Generation)>,
    /// The records of each controller, and at which revision they were read.
    controllers: BTreeMap<usize, (Revision, Records)>,
    /// Whom each controller sees online.
    online: BTreeSet<(usize, SubcloudId)>,
    /// When it is looked at links next.
    look_at: Duration,
    /// Since when each agent has had no link, as far as its own process says.
    offline: BTreeMap<usize, Duration>,
    /// The controllers to which an operator moved the group.
    pub(crate) migrated: BTreeSet<usize>,
}

/// How often it is looked at every link.
const LOOK: Duration = Duration::from_millis(500);

/// How long an owner may have been silent when its agent gives up the link, three heartbeats and
/// a step or two: the failover time counts from the last word.
const SILENCE: Duration = Duration::from_secs(7);

impl Oracle {
    /// What is on the disk of an agent, once it has enrolled.
    pub(crate) fn agent(&self, index: usize) -> Option<&AgentRecord> {
        self.agents.get(&index).map(|(_, known)| known)
    }

    /// How often a subcloud got another owner.
    pub(crate) fn moves(&self) -> u64 {
        let later = self.obeyed.keys().filter(|(_, epoch)| *epoch > Epoch(1));
        u64::try_from(later.count()).unwrap_or(u64::MAX)
    }

    /// A process is gone, and what it knew of links with it.
    pub(crate) fn ended(&mut self, node: Node, now: Duration) {
        match node {
            Node::Controller(index) => self.online.retain(|(by, _)| *by != index),
            Node::Agent(index) => {
                let known = self.links.remove(&index);
                if known.is_some_and(|known| known.online) {
                    self.offline.insert(index, now);
                }
            }
        }
    }

    /// What is on the disk of a controller.
    pub(crate) fn records(&self, controller: usize) -> Option<&Records> {
        self.controllers.get(&controller).map(|(_, known)| known)
    }
}

impl World {
    /// Looks at every disk and every process.
    pub(crate) fn observe(&mut self) {
        let mut faults = Vec::new();
        for index in 0..self.controllers.len() {
            self.observe_controller(index, &mut faults);
        }
        for index in 0..self.agents.len() {
            // Who moves is seen before it is online again.
            self.observe_agent(index, &mut faults);
            self.observe_link(index);
        }
        self.check_acknowledged(&mut faults);
        if self.now() >= self.oracle.look_at {
            self.oracle.look_at = self.now() + LOOK;
            self.check_families(&mut faults);
        }
        let stranger = self.stranger.disk();
        if stranger.is_some_and(|disk| !matches!(disk.record(), Ok(None))) {
            faults.push("a site of the other family got in".to_owned());
        }
        for fault in faults {
            self.fail(fault);
        }
    }

    /// Who has made itself owner, durably; and that confirmed owners are alone.
    fn observe_controller(&mut self, index: usize, faults: &mut Vec<String>) {
        let Some(disk) = self.controllers[index].disk() else {
            return;
        };
        let revision = disk.revision();
        let old = self.oracle.controllers.get(&index);
        if old.is_some_and(|(read, _)| *read == revision) {
            return;
        }
        let records = match disk.records() {
            Ok(records) => records,
            Err(error) => {
                return faults.push(format!("controller {index} cannot read its disk: {error}"));
            }
        };
        let id = self.controller_id(index);
        let mut words = Vec::new();
        for record in &records.subclouds {
            let Some(enrolled) = record.enrolled() else {
                continue;
            };
            let (epoch, confirmed) = (enrolled.epoch, record.geo.confirmed);
            let before = old.and_then(|(_, old)| old.subclouds.iter().find(|o| o.id == record.id));
            let before = before
                .and_then(|old| Some((old.owned_here(), old.enrolled()?.epoch, old.geo.confirmed)));
            if before != Some((record.owned_here(), epoch, confirmed)) {
                let owns = if record.owned_here() { "owns" } else { "knows" };
                let surely = if confirmed { ", confirmed" } else { "" };
                let (name, epoch) = (&record.name, epoch.0);
                words.push(format!(
                    "controller {index} {owns} {name} in term {epoch}{surely}"
                ));
            }
            if before.is_some_and(|(_, old, _)| old > epoch) {
                faults.push(format!(
                    "controller {index} goes back to term {} of {}",
                    epoch.0, record.name
                ));
            }
            if !record.owned_here() {
                continue;
            }
            self.oracle.taken.insert((record.id, epoch, id));
            if !confirmed {
                continue;
            }
            let key = (record.id, epoch);
            let owner = *self.oracle.confirmed.entry(key).or_insert(id);
            let obeyed = self.oracle.obeyed.get(&key).copied();
            if owner != id || obeyed.is_some_and(|obeyed| obeyed != id) {
                faults.push(format!(
                    "{} has two confirmed owners in term {}",
                    record.name, epoch.0
                ));
            }
        }
        self.oracle.controllers.insert(index, (revision, records));
        for words in words {
            self.note(&words);
        }
    }

    /// An agent's disk: its term only grows, one owner a term, and that owner has it on its own
    /// disk.
    fn observe_agent(&mut self, index: usize, faults: &mut Vec<String>) {
        let Some(disk) = self.agents[index].disk() else {
            return;
        };
        let revision = disk.revision();
        let old = self.oracle.agents.get(&index);
        if old.is_some_and(|(read, _)| *read == revision) {
            return;
        }
        let record = match disk.record() {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(error) => {
                return faults.push(format!("subcloud {index} cannot read its disk: {error}"));
            }
        };
        let term = (record.epoch, record.owner);
        let before = old.map(|(_, old)| (old.epoch, old.owner));
        if let Some(before) = before
            && before != term
            && record.epoch <= before.0
        {
            faults.push(format!(
                "subcloud {index} went from {} in term {} to {} in term {}",
                before.1, before.0.0, term.1, term.0.0
            ));
        }
        let key = (record.subcloud, record.epoch);
        let owner = *self.oracle.obeyed.entry(key).or_insert(record.owner);
        if owner != record.owner {
            faults.push(format!(
                "subcloud {index} has two owners in term {}",
                record.epoch.0
            ));
        }
        let taken = (record.subcloud, record.epoch, record.owner);
        if !self.oracle.taken.contains(&taken) {
            faults.push(format!(
                "subcloud {index} obeys {} in term {}, which that has not on disk",
                record.owner, record.epoch.0
            ));
        }
        if before.is_some_and(|before| before.1 != term.1) {
            self.check_move(index, faults);
        }
        if before != Some(term) {
            let owner = self.owner_of(index);
            let owner = owner.map_or("nobody".to_owned(), |owner| format!("controller {owner}"));
            self.note(&format!(
                "subcloud {index} obeys {owner} in term {}",
                record.epoch.0
            ));
        }
        self.oracle.agents.insert(index, (revision, record));
    }

    /// A subcloud moves only where an operator wants it, or when it has lost its owner for the
    /// failover time.
    fn check_move(&self, index: usize, faults: &mut Vec<String>) {
        let asked = self
            .owner_of(index)
            .is_some_and(|owner| self.oracle.migrated.contains(&owner));
        let lost = self.oracle.offline.get(&index);
        let lost = lost.is_some_and(|since| *since + self.failover <= self.now() + SILENCE);
        if !asked && !lost {
            faults.push(format!("subcloud {index} moved unasked"));
        }
    }

    /// Remembers what a controller acknowledged.
    fn observe_link(&mut self, index: usize) {
        let state = self.agents[index].state();
        let before = self.oracle.links.insert(index, state);
        let before = before.unwrap_or_default();
        if before == state {
            return;
        }
        if before.online != state.online {
            let now = self.now();
            if state.online {
                self.oracle.offline.remove(&index);
            } else {
                self.oracle.offline.insert(index, now);
            }
            let online = if state.online { "online" } else { "offline" };
            self.note(&format!("subcloud {index} is {online}"));
        }
        let disk = self.agents[index].disk();
        let record = disk.and_then(|disk| disk.record().ok().flatten());
        if let (Some(generation), Some(record)) = (state.acknowledged, record) {
            self.note(&format!(
                "subcloud {index} has generation {} acknowledged",
                generation.0
            ));
            let key = (record.subcloud, record.epoch);
            let known = self.oracle.acknowledged.entry(key);
            let known = known.or_insert((record.owner, generation));
            known.1 = generation.max(known.1);
        }
    }

    /// What was acknowledged is on the disk of the owner, as long as that is the owner.
    fn check_acknowledged(&self, faults: &mut Vec<String>) {
        for ((subcloud, epoch), (owner, generation)) in &self.oracle.acknowledged {
            let index = (0..self.controllers.len()).find(|at| self.controller_id(*at) == *owner);
            let records = index.and_then(|index| self.oracle.records(index));
            let record =
                records.and_then(|known| known.subclouds.iter().find(|r| r.id == *subcloud));
            let Some(record) = record else {
                faults.push(format!("{owner} has lost the record of {subcloud}"));
                continue;
            };
            let term = record.enrolled().map(|enrolled| enrolled.epoch);
            if !record.owned_here() || term != Some(*epoch) {
                if term < Some(*epoch) {
                    faults.push(format!("{owner} has forgotten term {}", epoch.0));
                }
                continue;
            }
            let kept = record.observed.as_ref().map(|observed| observed.generation);
            if kept < Some(*generation) {
                faults.push(format!(
                    "generation {} of {} was acknowledged, and {kept:?} is on disk",
                    generation.0, record.name
                ));
            }
        }
    }

    /// Every live link is of one family.
    fn check_families(&mut self, faults: &mut Vec<String>) {
        let mut words = Vec::new();
        for (index, host) in self.controllers.iter().enumerate() {
            let (Some(serving), Some(records)) = (host.serving(), self.oracle.records(index))
            else {
                continue;
            };
            let online = serving.look(|machine| {
                let all = records.subclouds.iter();
                let online = |id| machine.presence(id).availability == Availability::Online;
                all.filter(|record| online(record.id))
                    .map(|record| (record.id, record.name.clone(), record.link_family()))
                    .collect::<Vec<_>>()
            });
            let mut seen = BTreeSet::new();
            for (id, name, family) in online {
                seen.insert((index, id));
                if family != host.host.site.link_family() {
                    faults.push(format!(
                        "controller {index} has a link of another family: {name}"
                    ));
                }
                if !self.oracle.online.contains(&(index, id)) {
                    words.push(format!("controller {index} sees {name} online"));
                }
            }
            self.oracle.online.retain(|(by, _)| *by != index);
            self.oracle.online.extend(seen);
        }
        for words in words {
            self.note(&words);
        }
    }
}
