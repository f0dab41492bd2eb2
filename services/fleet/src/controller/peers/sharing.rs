//! Which groups are shared: what operators of either site begin and end.
//!
//! The other site may be away when an operator ends an association, and comes back with its own
//! copy of it. So what was ended is remembered, with its generation: offers up to it are not
//! heeded, and the other site is told. A later association of either site's operators has a
//! higher generation.

use std::collections::BTreeSet;

use site::Timestamp;

use crate::{Association, MAX_GROUPS, Offer, PeerGroupId, PeerId, Withdrawn};

use super::super::{Batch, Controller, Output, Write};

impl Controller {
    /// The generation of an association that an operator makes now: above all that are known. The
    /// clock makes it higher than those that only the other site remembers.
    pub(super) fn next_generation(&self, now: Timestamp, key: (PeerGroupId, PeerId)) -> u64 {
        let known = self.peers.associations.get(&key);
        let known = known.or_else(|| self.peers.withdrawn.get(&key));
        known.map_or(now.0, |known| known.generation.saturating_add(1).max(now.0))
    }

    /// An operator ends an association.
    pub(super) fn withdraw(&mut self, now: Timestamp, batch: &mut Batch, known: Association) {
        let key = (known.group, known.peer);
        self.forget_association(key);
        let withdrawn = Association {
            told: None,
            withdrawn: true,
            faults: Vec::new(),
            updated_at: now,
            ..known
        };
        batch
            .writes
            .push(Write::Association(Box::new(withdrawn.clone())));
        self.peers.withdrawn.insert(key, withdrawn);
        let of_peer = self.withdrawn_of(key.1).count();
        for _ in MAX_GROUPS..of_peer {
            let oldest = self.withdrawn_of(key.1).min_by_key(|old| old.updated_at);
            if let Some(oldest) = oldest.map(|old| (old.group, old.peer)) {
                self.forget_withdrawn(batch, oldest);
            }
        }
    }

    /// The peer is deleted, and with it what is remembered of it.
    pub(super) fn forget_all_withdrawn(&mut self, batch: &mut Batch, peer: PeerId) {
        let keys: Vec<(PeerGroupId, PeerId)> = self
            .withdrawn_of(peer)
            .map(|known| (known.group, known.peer))
            .collect();
        for key in keys {
            self.forget_withdrawn(batch, key);
        }
    }

    fn forget_withdrawn(&mut self, batch: &mut Batch, key: (PeerGroupId, PeerId)) {
        self.peers.withdrawn.remove(&key);
        batch.writes.push(Write::ForgetAssociation(key.0, key.1));
    }

    fn withdrawn_of(&self, peer: PeerId) -> impl Iterator<Item = &Association> {
        let all = self.peers.withdrawn.values();
        all.filter(move |known| known.peer == peer)
    }

    /// What a peer is told of ended associations.
    pub(super) fn withdrawals(&self, peer: PeerId) -> Vec<Withdrawn> {
        let told = |known: &Association| Withdrawn {
            group: known.group,
            generation: known.generation,
        };
        self.withdrawn_of(peer).map(told).collect()
    }

    /// Whether an offer comes from an association that an operator has ended here.
    pub(super) fn is_withdrawn(&self, peer: PeerId, offer: &Offer) -> bool {
        let known = self.peers.withdrawn.get(&(offer.group, peer));
        known.is_some_and(|known| offer.generation <= known.generation)
    }

    /// Operators of the peer ended these. They are kept, and said to be so.
    pub(super) fn end_withdrawn(
        &mut self,
        now: Timestamp,
        peer: PeerId,
        withdrawn: &[Withdrawn],
        out: &mut Vec<Output>,
    ) {
        let mut batch = Batch::default();
        for Withdrawn { group, generation } in withdrawn {
            let known = self.peers.associations.get(&(*group, peer));
            if let Some(known) = known.filter(|known| known.generation <= *generation) {
                let generation = *generation;
                let known = Association {
                    generation,
                    ..known.clone()
                };
                self.end(now, known, &mut batch);
            }
        }
        if !batch.writes.is_empty() {
            self.commit(batch, out);
        }
    }

    /// Groups that the peer no longer shares are kept, and said to be so.
    pub(super) fn end_others(
        &mut self,
        now: Timestamp,
        peer: PeerId,
        told: &BTreeSet<PeerGroupId>,
        out: &mut Vec<Output>,
    ) {
        let mut batch = Batch::default();
        for group in self.groups_with(peer) {
            let Some(association) = self.peers.associations.get(&(group, peer)) else {
                continue;
            };
            // One that the peer has not told of yet has not ended: it may be about to be made.
            if association.told.is_some() && !told.contains(&group) {
                self.end(now, association.clone(), &mut batch);
            }
        }
        if !batch.writes.is_empty() {
            self.commit(batch, out);
        }
    }

    fn end(&mut self, now: Timestamp, known: Association, batch: &mut Batch) {
        let key = (known.group, known.peer);
        let changed = Association {
            ended: true,
            ..known
        };
        self.forget_said(key);
        self.peers.hearing.remove(&key);
        if self.peers.associations.get(&key) != Some(&changed) {
            let updated_at = now;
            let changed = Association {
                updated_at,
                ..changed
            };
            self.put_association(batch, changed);
        }
    }

    /// A group that the peer shares again is offered to it again.
    pub(super) fn share_again(
        &mut self,
        now: Timestamp,
        peer: PeerId,
        offers: &[Offer],
        out: &mut Vec<Output>,
    ) {
        let mut batch = Batch::default();
        for offer in offers {
            let Some(association) = self.peers.associations.get(&(offer.group, peer)) else {
                continue;
            };
            let (ended, known) = (association.ended, association.generation);
            if !ended && known >= offer.generation {
                continue;
            }
            let changed = Association {
                ended: false,
                generation: known.max(offer.generation),
                updated_at: now,
                ..association.clone()
            };
            self.put_association(&mut batch, changed);
            if ended {
                self.group_touched(offer.group);
            }
        }
        if !batch.writes.is_empty() {
            self.commit(batch, out);
        }
    }
}
