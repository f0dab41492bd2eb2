//! Telling peers of the groups that are shared with them.
//!
//! An offer is one digest. What it stands for is told in pieces, each asked for by the other
//! side once it has the one before on disk; a reader that still has what it acknowledged last is
//! told only what changed since.

use std::collections::BTreeMap;
use std::time::Duration;

use site::Timestamp;

use crate::entropy::after;
use crate::peer::group_digest;
use crate::{
    Batch, Fault, MAX_GROUPS, MAX_SYNC_BATCH, Offer, PeerGroup, PeerGroupId, PeerId, PeerLinkId,
    PeerMessage, Pull, SubcloudId, SyncDigest, SyncItem,
};

use super::super::{Controller, Deferred, Output, Wake};
use super::contact::send;

/// Changes within this time are offered together: a fleet that reports at once changes a group
/// thousands of times.
pub const SYNC_DELAY: Duration = Duration::from_millis(200);

/// What would be told of a group.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What names each member.
    pub(super) items: BTreeMap<SubcloudId, [u8; 32]>,
    /// What names it all; `None` after a change.
    pub(super) whole: Option<SyncDigest>,
    /// An offer is due.
    scheduled: bool,
}

/// What one peer was told of one group in this process.
#[derive(Debug, Default)]
pub(super) struct Speaking {
    /// What was offered last, and how many changes it had in it.
    offered: Option<(SyncDigest, u64)>,
    /// What the peer has, durably.
    pub(super) acknowledged: Option<SyncDigest>,
    /// What it could not take in.
    pub(super) faults: Vec<Fault>,
    /// Counts changes.
    pub(super) changes: u64,
    /// The members that changed since it acknowledged last, each with the number of its change.
    pub(super) changed: BTreeMap<SubcloudId, u64>,
}

impl Controller {
    pub(super) fn schedule_offers(&mut self, now: Timestamp) {
        for group in std::mem::take(&mut self.peers.due.offers) {
            if !self.peers.groups.contains_key(&group) {
                continue;
            }
            let told = self.peers.told.entry(group).or_default();
            if !std::mem::replace(&mut told.scheduled, true) {
                self.wakeups.at(after(now, SYNC_DELAY), Wake::Offer(group));
            }
        }
    }

    pub(super) fn offer_due(&mut self, group: PeerGroupId, out: &mut Vec<Output>) {
        if let Some(told) = self.peers.told.get_mut(&group) {
            told.scheduled = false;
        }
        let peers: Vec<PeerId> = self.peers.associations_of(group).map(|a| a.peer).collect();
        for peer in peers {
            let Some(link) = self.ready_link(peer) else {
                continue;
            };
            let digest = self.digest_of(group);
            let offered = self.peers.speaking.get(&(group, peer));
            let known = offered.and_then(|speaking| speaking.offered);
            if known.map(|(digest, _)| digest) != digest {
                self.offer(link, peer, &[group], false, out);
            }
        }
    }

    /// Offers every group that is shared with a peer.
    pub(super) fn offer_all(&mut self, link: PeerLinkId, peer: PeerId, out: &mut Vec<Output>) {
        let groups = self.groups_with(peer);
        self.offer(link, peer, &groups, true, out);
    }

    pub(super) fn groups_with(&self, peer: PeerId) -> Vec<PeerGroupId> {
        let shared =
            |((_, other), _): &(&(PeerGroupId, PeerId), &crate::Association)| *other == peer;
        let associations = self.peers.associations.iter().filter(shared);
        associations.map(|((group, _), _)| *group).collect()
    }

    fn offer(
        &mut self,
        link: PeerLinkId,
        peer: PeerId,
        groups: &[PeerGroupId],
        complete: bool,
        out: &mut Vec<Output>,
    ) {
        let mut offers = Vec::new();
        for group in groups.iter().take(MAX_GROUPS) {
            let (Some(digest), Some(association)) = (
                self.digest_of(*group),
                self.peers.associations.get(&(*group, peer)),
            ) else {
                continue;
            };
            if association.ended {
                // An offer would share it again, whatever the operators there have decided.
                continue;
            }
            let (your_priority, generation) = (association.peer_priority, association.generation);
            let speaking = self.peers.speaking.entry((*group, peer)).or_default();
            speaking.offered = Some((digest, speaking.changes));
            offers.push(Offer {
                group: *group,
                digest,
                base: speaking.acknowledged,
                your_priority,
                generation,
            });
        }
        let withdrawn = if complete {
            self.withdrawals(peer)
        } else {
            Vec::new()
        };
        let offers = PeerMessage::Offers {
            complete,
            offers,
            withdrawn,
        };
        self.tell_durably(link, offers, out);
    }

    /// Says something that rests on records: only once they are on disk, for a peer must not
    /// know what a crash makes this controller forget.
    pub(super) fn tell_durably(
        &mut self,
        link: PeerLinkId,
        message: PeerMessage,
        out: &mut Vec<Output>,
    ) {
        self.after_all(Deferred::Output(send(link, message)), out);
    }

    /// Names what would be told of a group.
    pub(super) fn digest_of(&mut self, group: PeerGroupId) -> Option<SyncDigest> {
        let PeerGroup {
            header,
            leader,
            priority,
            ..
        } = self.peers.groups.get(&group)?;
        let told = self.peers.told.entry(group).or_default();
        let items = &told.items;
        let compute = || group_digest(header, leader, *priority, items);
        Some(*told.whole.get_or_insert_with(compute))
    }

    /// Tells the next piece.
    pub(super) fn pulled(&mut self, peer: PeerId, pull: Pull, out: &mut Vec<Output>) {
        let Some(link) = self.ready_link(peer) else {
            return;
        };
        let shared = self.peers.associations.get(&(pull.group, peer));
        if shared.is_none_or(|shared| shared.ended) {
            return;
        }
        if self.digest_of(pull.group) != Some(pull.digest) {
            // It changed meanwhile.
            return self.offer(link, peer, &[pull.group], false, out);
        }
        if let Some(batch) = self.piece(peer, &pull) {
            self.tell_durably(link, PeerMessage::Batch(Box::new(batch)), out);
        }
    }

    fn piece(&self, peer: PeerId, pull: &Pull) -> Option<Batch> {
        let group = self.peers.groups.get(&pull.group)?;
        let speaking = self.peers.speaking.get(&(pull.group, peer))?;
        let told = self.peers.told.get(&pull.group)?;
        let later = |id: &&SubcloudId| pull.after.is_none_or(|after| **id > after);
        let mut ids: Box<dyn Iterator<Item = &SubcloudId>> = if pull.changes {
            Box::new(speaking.changed.keys().filter(later))
        } else {
            Box::new(told.items.keys().filter(later))
        };
        let mut items = Vec::new();
        // Each takes at most two items.
        for id in ids.by_ref().take(MAX_SYNC_BATCH / 2) {
            match self.fleet.subcloud(*id) {
                Some(record) if record.geo.group == Some(pull.group) => {
                    items.push(self.item_of(record));
                }
                // Only the owner's word ends a membership, and it may have become the owner since
                // the peer was told last.
                Some(record) => items.extend([self.owner_of(record), SyncItem::Left(*id)]),
                None => items.push(SyncItem::Left(*id)),
            }
        }
        let last = ids.next().is_none();
        Some(Batch {
            group: pull.group,
            digest: pull.digest,
            changes: pull.changes,
            after: pull.after,
            header: group.header.clone(),
            leader: group.leader.clone(),
            priority: group.priority,
            items,
            last,
        })
    }

    /// The peer has what was offered.
    pub(super) fn synced(
        &mut self,
        group: PeerGroupId,
        peer: PeerId,
        digest: SyncDigest,
        mut faults: Vec<Fault>,
    ) {
        faults.truncate(super::hearing::MAX_SYNC_FAULTS);
        let Some(speaking) = self.peers.speaking.get_mut(&(group, peer)) else {
            return;
        };
        let Some((offered, changes)) = speaking.offered else {
            return;
        };
        if offered == digest {
            speaking.acknowledged = Some(digest);
            self.peers.due.alarms |= speaking.faults != faults;
            speaking.faults = faults;
            speaking.changed.retain(|_, change| *change > changes);
        }
    }
}
