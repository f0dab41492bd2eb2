//! What readers see: only what is on disk, with what is known of links at this moment.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use fleet::{
    AlarmCounts, AlarmKind, AlarmSummary, Association, Controller, GroupId, PeerGroup, PeerGroupId,
    PeerId, Presence, Records, Rejection, SharedGroup, SharedSubcloud, SubcloudGroup, SubcloudId,
    SystemPeer, Write,
};

use super::raised::Raised;
use super::{Driven, Hub};
use crate::fleet_history::FleetChange;

/// What readers see: nothing that is not on disk.
#[derive(Debug)]
pub(super) struct Durable {
    /// By name.
    pub(super) subclouds: BTreeMap<String, SharedSubcloud>,
    default_group: SharedGroup,
    /// Every other group.
    groups: BTreeMap<GroupId, SharedGroup>,
    pub(super) alarms: Raised,
    pub(super) shared: Shared,
}

/// The durable peers, and what is shared with them.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) peers: BTreeMap<PeerId, SystemPeer>,
    pub(crate) groups: BTreeMap<PeerGroupId, PeerGroup>,
    pub(crate) associations: BTreeMap<(PeerGroupId, PeerId), Association>,
}

impl Shared {
    /// A peer, by name or uuid.
    ///
    /// # Errors
    /// `PEER_NOT_FOUND`.
    pub(crate) fn peer(&self, reference: &str) -> Result<&SystemPeer, Rejection> {
        let is_it = |peer: &&SystemPeer| peer.name == reference || peer.id.to_string() == reference;
        let unknown = || Rejection::one(fleet::system_peer_not_found(reference));
        self.peers.values().find(is_it).ok_or_else(unknown)
    }

    /// A peer group, by name or uuid.
    ///
    /// # Errors
    /// `PEER_GROUP_NOT_FOUND`.
    pub(crate) fn group(&self, reference: &str) -> Result<&PeerGroup, Rejection> {
        let is_it = |group: &&PeerGroup| {
            group.header.name == reference || group.id.to_string() == reference
        };
        let unknown = || Rejection::one(fleet::peer_group_not_found(reference));
        self.groups.values().find(is_it).ok_or_else(unknown)
    }

    /// An association, by what names the group and the peer.
    ///
    /// # Errors
    /// One of the two is unknown, or they are not associated.
    pub(crate) fn association(&self, group: &str, peer: &str) -> Result<&Association, Rejection> {
        let (group, peer) = (self.group(group)?, self.peer(peer)?);
        let known = self.associations.get(&(group.id, peer.id));
        known.ok_or_else(|| Rejection::one(fleet::association_not_found(group, peer)))
    }
}

/// A subcloud as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) subcloud: SharedSubcloud,
    pub(crate) presence: Presence,
    pub(crate) group: SharedGroup,
}

impl Durable {
    pub(super) fn of(records: &Records) -> Self {
        let mut durable = Self {
            subclouds: BTreeMap::new(),
            default_group: Arc::new(SubcloudGroup::default_group()),
            groups: BTreeMap::new(),
            alarms: Raised::default(),
            shared: Shared::default(),
        };
        for group in &records.groups {
            durable.apply(Write::Group(Arc::new(group.clone())));
        }
        for subcloud in &records.subclouds {
            durable.apply(Write::Subcloud(Arc::clone(subcloud)));
        }
        for alarm in &records.alarms {
            durable.apply(Write::Alarm(Arc::new(alarm.clone())));
        }
        for peer in &records.peers {
            durable.apply(Write::Peer(Box::new(peer.clone())));
        }
        for group in &records.peer_groups {
            durable.apply(Write::PeerGroup(Box::new(group.clone())));
        }
        for association in &records.associations {
            durable.apply(Write::Association(Box::new(association.clone())));
        }
        durable
    }

    pub(super) fn apply(&mut self, write: Write) {
        match write {
            Write::Subcloud(subcloud) => {
                self.subclouds.insert(subcloud.name.clone(), subcloud);
            }
            Write::ForgetSubcloud(subcloud) => {
                self.subclouds.remove(&subcloud.name);
            }
            Write::Group(group) if group.id == GroupId::DEFAULT => self.default_group = group,
            Write::Group(group) => {
                self.groups.insert(group.id, group);
            }
            Write::ForgetGroup(id) => {
                self.groups.remove(&id);
            }
            Write::Alarm(alarm) => self.alarms.put(alarm),
            Write::ForgetAlarm(uuid) => self.alarms.forget(uuid),
            other => self.shared.apply(other),
        }
    }

    /// The group that a subcloud is in.
    pub(super) fn group_of(&self, subcloud: &SharedSubcloud) -> SharedGroup {
        let known = self.groups.get(&subcloud.group);
        Arc::clone(known.unwrap_or(&self.default_group))
    }
}

impl Shared {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Peer(peer) => {
                self.peers.insert(peer.id, *peer);
            }
            Write::ForgetPeer(id) => {
                self.peers.remove(&id);
            }
            Write::PeerGroup(group) => {
                self.groups.insert(group.id, *group);
            }
            Write::ForgetPeerGroup(id) => {
                self.groups.remove(&id);
            }
            Write::Association(association) => {
                let key = (association.group, association.peer);
                if association.withdrawn {
                    // Operators deleted it; only the machine remembers.
                    self.associations.remove(&key);
                } else {
                    self.associations.insert(key, *association);
                }
            }
            Write::ForgetAssociation(group, peer) => {
                self.associations.remove(&(group, peer));
            }
            _ => {}
        }
    }
}

impl Hub {
    /// Lets somebody look at what is shared with peers, and at the machine for what is true only
    /// at this moment. Nothing may be awaited meanwhile.
    pub(crate) fn look_at_peers<T>(&self, at: impl FnOnce(&Controller, &Shared) -> T) -> T {
        let driven = self.lock();
        at(&driven.machine, &self.read().shared)
    }

    /// The durable members of a peer group, by name.
    pub(crate) fn members(&self, group: PeerGroupId) -> Vec<SharedSubcloud> {
        let durable = self.read();
        let all = durable.subclouds.values();
        let members = all.filter(|known| known.geo.group == Some(group));
        members.map(Arc::clone).collect()
    }

    /// A subcloud as it is shown.
    pub(crate) fn show(&self, subcloud: &SharedSubcloud) -> Shown {
        let group = self.read().group_of(subcloud);
        present(&self.lock(), (Arc::clone(subcloud), group))
    }

    /// What is durable.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Durable> {
        self.durable.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The durable subclouds, by name, with what is known of their links.
    pub(crate) fn subclouds(&self) -> Vec<Shown> {
        self.subclouds_after("", usize::MAX)
    }

    /// Those whose names come after this one, `most` of them at most.
    pub(crate) fn subclouds_after(&self, name: &str, most: usize) -> Vec<Shown> {
        let known: Vec<(SharedSubcloud, SharedGroup)> = {
            let durable = self.read();
            let with_group = |known: &SharedSubcloud| (Arc::clone(known), durable.group_of(known));
            let after = (Bound::Excluded(name), Bound::Unbounded);
            let rest = durable.subclouds.range::<str, _>(after);
            let some = rest.take(most);
            some.map(|(_, known)| with_group(known)).collect()
        };
        let driven = self.lock();
        let shown = known.into_iter().map(|known| present(&driven, known));
        shown.collect()
    }

    /// The durable subclouds that changes were about, as they are now; none for one that is gone.
    pub(crate) fn subjects(&self, changes: &[Arc<FleetChange>]) -> Vec<Option<Shown>> {
        let known: Vec<Option<(SharedSubcloud, SharedGroup)>> = {
            let durable = self.read();
            let subject = |change: &Arc<FleetChange>| {
                let (id, name) = change.about()?;
                let known = durable.subclouds.get(name).filter(|known| known.id == id)?;
                Some((Arc::clone(known), durable.group_of(known)))
            };
            changes.iter().map(subject).collect()
        };
        let driven = self.lock();
        known
            .into_iter()
            .map(|known| known.map(|known| present(&driven, known)))
            .collect()
    }

    /// The durable groups, by name.
    pub(crate) fn groups(&self) -> BTreeMap<String, SharedGroup> {
        let durable = self.read();
        let all = durable.groups.values().chain([&durable.default_group]);
        all.map(|group| (group.name.clone(), Arc::clone(group)))
            .collect()
    }

    /// One durable group, by name or uuid.
    ///
    /// # Errors
    /// `SUBCLOUD_GROUP_NOT_FOUND`.
    pub(crate) fn group(&self, reference: &str) -> Result<SharedGroup, Rejection> {
        let is_it =
            |group: &SharedGroup| group.name == reference || group.id.to_string() == reference;
        let found = self.groups().into_values().find(is_it);
        found.ok_or_else(|| Rejection::one(fleet::subcloud_group_not_found(reference)))
    }

    /// One durable subcloud, by name or uuid.
    ///
    /// # Errors
    /// `SUBCLOUD_NOT_FOUND`.
    pub(crate) fn subcloud(&self, reference: &str) -> Result<Shown, Rejection> {
        let known = {
            let durable = self.read();
            let all = &durable.subclouds;
            let by_id = || all.values().find(|known| known.id.to_string() == reference);
            let known = all.get(reference).or_else(by_id).cloned();
            known.map(|known| (durable.group_of(&known), known))
        };
        let unknown = || Rejection::one(fleet::subcloud_not_found(reference));
        let (group, subcloud) = known.ok_or_else(unknown)?;
        Ok(present(&self.lock(), (subcloud, group)))
    }

    /// How many alarms of each kind are durable, those of which there are none included. It looks
    /// at none of them.
    pub(crate) fn alarms_by_kind(&self) -> [(AlarmKind, u64); AlarmKind::ALL.len()] {
        let durable = self.read();
        AlarmKind::ALL.map(|kind| (kind, durable.alarms.count(kind)))
    }

    /// The durable alarms summed up for each durable subcloud, by name.
    pub(crate) fn alarm_summaries(&self) -> Vec<AlarmSummary> {
        let durable = self.read();
        let mut raised: BTreeMap<SubcloudId, AlarmCounts> = BTreeMap::new();
        for alarm in durable.alarms.values() {
            if let Some(id) = alarm.key.subcloud {
                let counts = raised.entry(id).or_default();
                counts.add(alarm.key.kind.severity());
            }
        }
        let sum_up = |record: &SharedSubcloud| {
            let ours = raised.get(&record.id).copied().unwrap_or_default();
            AlarmSummary::of(record, ours)
        };
        durable.subclouds.values().map(sum_up).collect()
    }
}

/// A durable subcloud with what is known of its link.
fn present(driven: &Driven, (subcloud, group): (SharedSubcloud, SharedGroup)) -> Shown {
    Shown {
        presence: driven.machine.presence(subcloud.id),
        subcloud,
        group,
    }
}
