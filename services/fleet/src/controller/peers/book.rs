//! The records: reading them back, changing them, and keeping what rests on them true.

use std::sync::Arc;

use site::{Range, Site, Timestamp};

use crate::peer::{item_digest, shared};
use crate::{
    Association, Authority, ControllerNetworks, Footprint, LinkNetwork, PeerCard, PeerGroup,
    PeerGroupId, PeerId, Records, SharedSubcloud, Subcloud, SubcloudId, SyncItem, SystemPeer,
};

use super::super::{Batch, Controller, Wake, Write};
use super::claims::Belief;

impl Controller {
    /// Takes over what is on disk.
    pub(in super::super) fn recover_peers(&mut self, now: Timestamp, records: &mut Records) {
        for peer in records.peers.drain(..) {
            self.peers.peers.insert(peer.id, peer);
        }
        for group in records.peer_groups.drain(..) {
            self.peers.groups.insert(group.id, group);
        }
        for association in records.associations.drain(..) {
            let key = (association.group, association.peer);
            if association.withdrawn {
                self.peers.withdrawn.insert(key, association);
            } else {
                self.peers.associations.insert(key, association);
            }
        }
        let subclouds: Vec<SharedSubcloud> = self.fleet.subclouds().map(Arc::clone).collect();
        for subcloud in subclouds {
            self.shared_changed(None, Some(&subcloud));
        }
        let peers: Vec<PeerId> = self.peers.peers.keys().copied().collect();
        for peer in peers {
            self.await_peer(now, peer);
        }
        let groups: Vec<PeerGroupId> = self.peers.groups.keys().copied().collect();
        for group in groups {
            self.group_touched(group);
            self.resume_move(now, group);
        }
        self.peers.due.alarms = true;
    }

    /// What this site tells others of itself.
    pub fn card(&self) -> &PeerCard {
        &self.peers.card
    }

    /// The authorities whose certificates of agents and controllers are accepted: this site's
    /// own and those of its peers, whatever their state, for a suspended peer must be able to
    /// come back.
    pub fn trusted_authorities(&self) -> Vec<&Authority> {
        let peers = self.peers.peers.values().filter(|peer| peer.enabled());
        let theirs = peers.filter_map(|peer| Some(&peer.established()?.card.authority));
        std::iter::once(&self.peers.card.authority)
            .chain(theirs)
            .collect()
    }

    /// Makes a site's card.
    pub(in super::super) fn card_of(
        config: &super::super::ControllerConfig,
        site: &Site,
    ) -> PeerCard {
        PeerCard {
            controller: config.id,
            name: site.identity().name.clone(),
            software_version: site.identity().software_version,
            endpoints: config.controllers.clone(),
            networks: ControllerNetworks::of(site),
            authority: config.authority.clone(),
        }
    }

    pub(super) fn put_peer(&mut self, batch: &mut Batch, peer: SystemPeer) {
        batch.writes.push(Write::Peer(Box::new(peer.clone())));
        self.peers.due.alarms = true;
        let id = peer.id;
        self.peers.peers.insert(id, peer);
        self.peer_touched(id);
    }

    pub(super) fn put_group(&mut self, batch: &mut Batch, group: PeerGroup) {
        batch.writes.push(Write::PeerGroup(Box::new(group.clone())));
        self.peers.due.alarms = true;
        let id = group.id;
        self.peers.groups.insert(id, group);
        self.group_touched(id);
    }

    pub(super) fn put_association(&mut self, batch: &mut Batch, association: Association) {
        let key = (association.group, association.peer);
        batch
            .writes
            .push(Write::Association(Box::new(association.clone())));
        self.peers.due.alarms = true;
        self.peers.withdrawn.remove(&key);
        self.peers.associations.insert(key, association);
        self.peer_touched(key.1);
    }

    /// Drops what rests on an association.
    pub(super) fn forget_association(&mut self, key: (PeerGroupId, PeerId)) {
        // The members' agents are told before the association that says so is gone.
        self.peer_touched(key.1);
        self.peers.associations.remove(&key);
        self.forget_said(key);
        self.peers.hearing.remove(&key);
        self.peers.rereads.remove(&key);
    }

    /// What was told is told anew, and what could not be taken in of it is no longer known.
    pub(super) fn forget_said(&mut self, key: (PeerGroupId, PeerId)) {
        self.peers.speaking.remove(&key);
        self.peers.due.alarms = true;
    }

    /// A member left: a peer that was away, and believes that it owns it, says so again and hears
    /// better. So what peers offer next is read in full, although it was read before, and what is
    /// being read is read from the start: the member may be past already, or unchanged.
    pub(super) fn read_anew(
        &mut self,
        now: Timestamp,
        group: PeerGroupId,
        except: Option<PeerId>,
        batch: &mut Batch,
    ) {
        let known = self.peers.associations_of(group);
        let known = known.filter(|known| known.told.is_some() && Some(known.peer) != except);
        let read: Vec<Association> = known.cloned().collect();
        for association in read {
            let unread = Association {
                told: None,
                ..association
            };
            self.put_association(batch, unread);
        }
        self.hear_from_start(now, group, except);
    }

    /// What is told of the group may be another thing now.
    pub(super) fn group_touched(&mut self, group: PeerGroupId) {
        if let Some(told) = self.peers.told.get_mut(&group) {
            told.whole = None;
        }
        self.peers.due.offers.insert(group);
    }

    /// Where members' agents may turn may be another place now.
    fn peer_touched(&mut self, peer: PeerId) {
        let groups: Vec<PeerGroupId> = self
            .peers
            .associations
            .keys()
            .filter(|(_, other)| *other == peer)
            .map(|(group, _)| *group)
            .collect();
        for group in groups {
            if let Some(members) = self.peers.members.get(&group) {
                self.peers.due.alternates.extend(members);
            }
        }
    }

    /// Counts an edit by operators of a subcloud that this site owns.
    pub(in super::super) fn count_edit(&self, changed: &mut Subcloud) {
        let Some(old) = self.fleet.subcloud(changed.id) else {
            return;
        };
        let same_term =
            old.enrolled().map(|known| known.epoch) == changed.enrolled().map(|known| known.epoch);
        let ours = old.owned_here() && changed.owned_here() && same_term;
        if ours && edited(old) != edited(changed) {
            changed.geo.edits = changed.geo.edits.saturating_add(1);
        }
    }

    /// Keeps the index of members and the digests true when a record changes, comes or goes.
    pub(in super::super) fn shared_changed(
        &mut self,
        old: Option<&Subcloud>,
        new: Option<&SharedSubcloud>,
    ) {
        let held = [old, new.map(|record| record.as_ref())].map(|record| record?.footprint());
        if held[0] != held[1] {
            for footprint in held.into_iter().flatten() {
                self.met_by(footprint);
            }
        }
        let before = old.and_then(|record| record.geo.group.map(|group| (group, record.id)));
        let after = new.and_then(|record| Some((record.geo.group?, record)));
        if let Some((group, id)) = before
            && after.as_ref().map(|(group, _)| *group) != Some(group)
        {
            if let Some(members) = self.peers.members.get_mut(&group) {
                members.remove(&id);
            }
            self.peers.told.entry(group).or_default().items.remove(&id);
            self.member_touched(group, id);
        }
        let Some((group, record)) = after else {
            return;
        };
        let digest = item_digest(&self.item_of(record));
        let told = self.peers.told.entry(group).or_default();
        if told.items.insert(record.id, digest) == Some(digest) {
            return;
        }
        self.peers
            .members
            .entry(group)
            .or_default()
            .insert(record.id);
        self.member_touched(group, record.id);
    }

    /// The peers whose link ranges meet those of a subcloud are judged again (ADDRESS_OVERLAP).
    fn met_by(&mut self, footprint: &Footprint) {
        let link = footprint.link.iter();
        let held: Vec<&Range> = link
            .flat_map(LinkNetwork::pools)
            .flat_map(|pool| &pool.ranges)
            .collect();
        for peer in self.peers.peers.values() {
            let card = peer.established().map(|known| &known.card);
            let mut theirs = card
                .into_iter()
                .flat_map(|card| &card.networks.link)
                .flat_map(|pool| &pool.ranges);
            if theirs.any(|theirs| held.iter().any(|held| held.overlaps(theirs))) {
                self.peers.due.judged.insert(peer.id);
            }
        }
    }

    fn member_touched(&mut self, group: PeerGroupId, id: SubcloudId) {
        self.group_touched(group);
        self.peers.due.alternates.insert(id);
        self.peers.due.alarms = true;
        let peers: Vec<PeerId> = self.peers.associations_of(group).map(|a| a.peer).collect();
        for peer in peers {
            let speaking = self.peers.speaking.entry((group, peer)).or_default();
            speaking.changes += 1;
            speaking.changed.insert(id, speaking.changes);
        }
    }

    /// What is told of a member.
    pub(super) fn item_of(&self, record: &Subcloud) -> SyncItem {
        match record.geo.owner {
            None => SyncItem::Owned(Box::new(shared(record, self.config.id))),
            Some(_) => self.owner_of(record),
        }
    }

    /// What is told of who owns a subcloud.
    pub(super) fn owner_of(&self, record: &Subcloud) -> SyncItem {
        let Belief {
            owner,
            epoch,
            confirmed,
        } = self.belief(record);
        SyncItem::Elsewhere {
            subcloud: record.id,
            owner,
            epoch,
            confirmed,
        }
    }
}

/// What operators edit in the record of a subcloud, as field and value.
pub(super) fn edited(record: &Subcloud) -> Vec<(String, String)> {
    let management = match record.management {
        crate::Management::Managed => "managed",
        crate::Management::Unmanaged => "unmanaged",
    };
    let group = record.geo.group.map(|group| group.to_string());
    vec![
        ("name".to_owned(), record.name.clone()),
        ("description".to_owned(), record.description.clone()),
        ("location".to_owned(), record.location.clone()),
        ("management".to_owned(), management.to_owned()),
        ("peer_group".to_owned(), group.unwrap_or_default()),
    ]
}

impl Controller {
    /// Looks at what the clock asks for.
    pub(in super::super) fn peer_wake(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn crate::Entropy,
        wake: Wake,
        out: &mut Vec<super::super::Output>,
    ) {
        match wake {
            Wake::Peer(peer) => self.peer_due(now, entropy, peer, out),
            Wake::Offer(group) => self.offer_due(group, out),
            Wake::Pull(group, peer) => self.pull_again(group, peer, out),
            Wake::Move(group) => {
                self.peers.moving.entry(group).or_default().watched = None;
                self.peers.due.moves.insert(group);
            }
            Wake::Link(_)
            | Wake::Subcloud(_)
            | Wake::Command(_)
            | Wake::Alarms(_)
            | Wake::Networks => {}
        }
    }
}
