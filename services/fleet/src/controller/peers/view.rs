//! What operators see of peers, groups and associations.

use site::Timestamp;

use crate::{
    Association, AssociationState, Conflict, Fault, PeerGroup, PeerGroupId, PeerId, SharedSubcloud,
    SubcloudId, SystemPeer,
};

use super::super::Controller;

/// Whether a peer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerAvailability {
    /// Not known: the peering is not established, is disabled, or this process is too young.
    Unknown,
    /// It is heard from.
    Available,
    /// It has not been heard from for too long.
    Unavailable,
}

/// A peer as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView<'a> {
    /// Its record.
    pub peer: &'a SystemPeer,
    /// Whether it is there.
    pub availability: PeerAvailability,
    /// When it was heard last in this process.
    pub last_seen: Option<Timestamp>,
    /// Members are synchronised at present.
    pub synchronising: bool,
}

/// A group as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView<'a> {
    /// Its record.
    pub group: &'a PeerGroup,
    /// How many members it has.
    pub members: usize,
    /// How many of them obey this site.
    pub owned: usize,
    /// Members of a running or the last migration that have not come.
    pub remaining: Vec<SubcloudId>,
    /// Members that were taken over and have not yet been heard to obey.
    pub on_their_way: usize,
}

/// An association as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationView<'a> {
    /// Its record.
    pub association: &'a Association,
    /// How far the two sites agree.
    pub state: AssociationState,
    /// Why, in words; empty when all is well.
    pub message: String,
}

impl Controller {
    /// Every peer, by id.
    pub fn system_peers(&self) -> impl ExactSizeIterator<Item = &SystemPeer> {
        self.peers.peers.values()
    }

    /// Finds a peer by name or by uuid.
    pub fn find_peer(&self, reference: &str) -> Option<&SystemPeer> {
        let by_name = self
            .peers
            .peers
            .values()
            .find(|peer| peer.name == reference);
        by_name.or_else(|| {
            let id = uuid::Uuid::try_parse(reference).ok()?;
            self.peers.peers.get(&PeerId(id))
        })
    }

    /// A peer as it is now.
    pub fn peer_view<'a>(&self, peer: &'a SystemPeer) -> PeerView<'a> {
        let contact = self.peers.contacts.get(&peer.id);
        let availability = match contact {
            Some(contact) if peer.enabled() && contact.lost => PeerAvailability::Unavailable,
            Some(contact) if peer.enabled() && contact.ever_heard => PeerAvailability::Available,
            _ => PeerAvailability::Unknown,
        };
        let heard = contact.filter(|contact| contact.ever_heard);
        PeerView {
            peer,
            availability,
            last_seen: heard.map(|contact| contact.heard),
            synchronising: self.ready_link(peer.id).is_some(),
        }
    }

    /// Every peer group, by id.
    pub fn peer_groups(&self) -> impl ExactSizeIterator<Item = &PeerGroup> {
        self.peers.groups.values()
    }

    /// Finds a peer group by name or by uuid.
    pub fn find_group(&self, reference: &str) -> Option<&PeerGroup> {
        let mut groups = self.peers.groups.values();
        let by_name = groups.find(|group| group.header.name == reference);
        by_name.or_else(|| {
            let id = uuid::Uuid::try_parse(reference).ok()?;
            self.peers.groups.get(&PeerGroupId(id))
        })
    }

    /// The members of a group, by id.
    pub fn group_members(&self, group: PeerGroupId) -> impl Iterator<Item = &SharedSubcloud> {
        let ids = self.peers.members.get(&group).into_iter().flatten();
        ids.filter_map(|id| self.fleet.subcloud(*id))
    }

    /// A group as it is now.
    pub fn group_view<'a>(&self, group: &'a PeerGroup) -> GroupView<'a> {
        let (remaining, on_their_way) = self.remaining(group.id);
        GroupView {
            group,
            members: self.group_members(group.id).count(),
            owned: self
                .group_members(group.id)
                .filter(|m| m.owned_here())
                .count(),
            remaining,
            on_their_way,
        }
    }

    /// The conflicts of a group's members.
    pub fn group_conflicts(
        &self,
        group: PeerGroupId,
    ) -> impl Iterator<Item = (&SharedSubcloud, &Conflict)> {
        self.group_members(group)
            .filter_map(|member| Some((member, member.geo.conflict.as_deref()?)))
    }

    /// Every association, by group and peer.
    pub fn associations(&self) -> impl ExactSizeIterator<Item = &Association> {
        self.peers.associations.values()
    }

    /// An association as it is now.
    pub fn association_view<'a>(&self, association: &'a Association) -> AssociationView<'a> {
        let (state, message) = self.association_state(association);
        AssociationView {
            association,
            state,
            message,
        }
    }

    fn association_state(&self, association: &Association) -> (AssociationState, String) {
        use AssociationState as State;
        let Some(peer) = self.peers.peers.get(&association.peer) else {
            return (State::Unknown, "the peer is not known".to_owned());
        };
        let key = (association.group, association.peer);
        let speaking = self.peers.speaking.get(&key);
        let told = self
            .peers
            .told
            .get(&association.group)
            .and_then(|told| told.whole);
        let acknowledged = speaking.and_then(|speaking| speaking.acknowledged);
        let current = told.is_some() && acknowledged == told;
        if !peer.enabled() {
            return (
                State::Unknown,
                format!("system peer {} is disabled", peer.name),
            );
        }
        if let Some(fault) = peer.established().and_then(|known| known.suspended.first()) {
            let message = format!("system peer {} is suspended: {}", peer.name, fault.message);
            return (State::Failed, message);
        }
        if association.ended {
            let message = format!("system peer {} no longer shares the group", peer.name);
            return (State::Failed, message);
        }
        let here = association.faults.iter();
        let there = speaking.into_iter().flat_map(|speaking| &speaking.faults);
        let fault: Option<&Fault> = here.chain(there).next();
        if self.ready_link(peer.id).is_none() {
            let state = if acknowledged.is_some() && !current {
                State::OutOfSync
            } else {
                State::Unknown
            };
            return (
                state,
                format!("system peer {} cannot be reached", peer.name),
            );
        }
        if let Some(fault) = fault {
            return (State::Failed, fault.message.clone());
        }
        if current && !self.peers.hearing.contains_key(&key) {
            return (State::InSync, String::new());
        }
        (
            State::Syncing,
            format!("changes are on their way to or from {}", peer.name),
        )
    }
}
