//! Who owns a subcloud: what agents and peers claim, and when this site takes over.

use std::sync::Arc;

use site::Timestamp;

use crate::{
    Alternates, ControllerId, ControllerMessage, Entropy, Epoch, EventKind, FailurePolicy,
    Fingerprint, Goodbye, GoodbyeReason, Hello, KnownController, Leader, LinkId, MAX_ALTERNATES,
    MAX_LINEAGE, PeerGroupId, PeerId, SharedSubcloud, Subcloud, SubcloudId, SystemPeer,
};

use super::super::{Batch, Controller, Deferred, Output};

/// What is believed of the ownership of a subcloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Belief {
    pub(super) owner: ControllerId,
    pub(super) epoch: Epoch,
    /// The agent has obeyed that owner in that term.
    pub(super) confirmed: bool,
}

impl Belief {
    /// A later term is true; of one term, the owner that the agent chose. An agent never obeys
    /// two owners in one term, so no two confirmed beliefs of one term differ.
    pub(super) fn beats(&self, other: &Self) -> bool {
        (self.epoch, self.confirmed) > (other.epoch, other.confirmed)
    }
}

/// What a Hello comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Claimed {
    /// This controller is the owner: welcome.
    Welcome,
    /// It will be welcomed as soon as fewer are on their way.
    Queued,
    /// Another one is, or will be.
    Elsewhere(Goodbye),
}

impl Controller {
    pub(super) fn belief(&self, record: &Subcloud) -> Belief {
        Belief {
            owner: record.geo.owner.unwrap_or(self.config.id),
            epoch: record
                .enrolled()
                .map(|known| known.epoch)
                .unwrap_or_default(),
            confirmed: record.geo.confirmed,
        }
    }

    /// Judges a Hello: learns from it, takes over if that is due, or says who is the owner.
    pub(in super::super) fn claimed(
        &mut self,
        now: Timestamp,
        link: LinkId,
        id: SubcloudId,
        hello: &Hello,
        out: &mut Vec<Output>,
    ) -> Claimed {
        if self.credible(id, hello) {
            let told = Belief {
                owner: hello.owner,
                epoch: hello.epoch,
                confirmed: true,
            };
            let mut batch = Batch::default();
            self.believe(now, id, told, &mut batch, out);
            if !batch.writes.is_empty() {
                self.commit(batch, out);
            }
        }
        let Some(record) = self.fleet.subcloud(id).map(Arc::clone) else {
            return Claimed::Elsewhere(Goodbye::because(GoodbyeReason::Revoked));
        };
        if record.owned_here() {
            return match self.handed_over(now, id) {
                Some(owners) => Claimed::Elsewhere(Goodbye::towards(GoodbyeReason::Moved, owners)),
                None => Claimed::Welcome,
            };
        }
        match self.taking(&record, hello) {
            Some(group) if self.slot(now, group, id) => {
                let key = self.link_key(link);
                self.take_over(
                    now,
                    &record,
                    key.map(|key| (key, hello.renewals)),
                    group,
                    out,
                );
                Claimed::Welcome
            }
            Some(group) => {
                self.queue(group, link, hello.clone());
                Claimed::Queued
            }
            None => {
                let owner = self.belief(&record).owner;
                let owners = self.known_of(owner);
                Claimed::Elsewhere(Goodbye::towards(GoodbyeReason::NotOwner, owners))
            }
        }
    }

    /// A later term is true whoever the owner is; in the term that is known here only a peer
    /// can have become another owner.
    fn credible(&self, id: SubcloudId, hello: &Hello) -> bool {
        let record = self.fleet.subcloud(id);
        let known = record
            .and_then(|record| record.enrolled())
            .map(|known| known.epoch);
        known < Some(hello.epoch)
            || hello.owner == self.config.id
            || self.peers.peer_of(hello.owner).is_some()
    }

    /// Whether, and as a member of which group, a subcloud that knocks is taken over.
    fn taking(&self, record: &Subcloud, hello: &Hello) -> Option<PeerGroupId> {
        let group = self.peers.groups.get(&record.geo.group?)?;
        let running = |migration: &crate::Migration| {
            migration.running() && migration.targets.contains(&record.id)
        };
        if group.migration.as_ref().is_some_and(running) {
            return Some(group.id);
        }
        hello.owner_lost?;
        let owner = self.peers.peer_of(record.geo.owner?)?;
        let shared = self.peers.associations.get(&(group.id, owner.id))?;
        let rehomes = owner.settings.failure_policy == FailurePolicy::Rehome
            && owner.enabled()
            && !owner.suspended()
            && !shared.ended;
        rehomes.then_some(group.id)
    }

    /// Becomes the owner in the next term. Nobody hears of it before it is on disk.
    fn take_over(
        &mut self,
        now: Timestamp,
        record: &SharedSubcloud,
        key: Option<(Fingerprint, u64)>,
        group: PeerGroupId,
        out: &mut Vec<Output>,
    ) {
        let mut changed = Subcloud::clone(record);
        let mut from = Epoch::default();
        if let crate::Enrollment::Enrolled(enrolled) = &mut changed.enrollment {
            from = enrolled.epoch;
            enrolled.epoch = Epoch(from.0.saturating_add(1));
            // The agent may have renewed its certificate since its owner was heard last.
            if let Some((key, renewals)) = key {
                enrolled.key = key;
                enrolled.renewal.count = renewals;
                enrolled.renewal.next = None;
            }
        }
        let geo = &mut changed.geo;
        geo.owner = None;
        geo.confirmed = false;
        let edits = std::mem::take(&mut geo.edits);
        add_to_lineage(&mut geo.lineage, (from, edits));
        // Whatever was reported here in an earlier term is old; a new report is asked for.
        if let Some(observed) = changed.observed.take() {
            geo.footprint = Some(Box::new(observed.footprint));
        }
        changed.refused = None;
        changed.updated_at = now;
        let name = changed.name.clone();
        let mut batch = Batch::default();
        self.put(&mut batch, changed);
        self.lead(now, group, &mut batch);
        let kind = EventKind::TakenOver;
        self.log_event(&mut batch, now, Some(record.id), &name, kind);
        self.commit(batch, out);
    }

    /// A member moved here, so this site leads its group.
    fn lead(&mut self, now: Timestamp, group: PeerGroupId, batch: &mut Batch) {
        let Some(mut group) = self.peers.groups.get(&group).cloned() else {
            return;
        };
        if group.leader.controller == self.config.id {
            return;
        }
        group.leader = Leader {
            controller: self.config.id,
            name: self.peers.card.name.clone(),
            priority: group.priority,
            term: group.leader.term.saturating_add(1),
        };
        group.updated_at = now;
        self.put_group(batch, group);
    }

    /// Takes a claim for true when it beats what is believed. Whoever makes it, it deletes
    /// nothing: a record that is no longer this site's is demoted.
    pub(super) fn believe(
        &mut self,
        now: Timestamp,
        id: SubcloudId,
        claim: Belief,
        batch: &mut Batch,
        out: &mut Vec<Output>,
    ) {
        let Some(record) = self.fleet.subcloud(id) else {
            return;
        };
        if record.enrolled().is_none() || !claim.beats(&self.belief(record)) {
            return;
        }
        let was_owned = record.owned_here();
        let mut changed = Subcloud::clone(record);
        if was_owned && claim.owner != self.config.id {
            // What was edited here counts until the owner's record has been compared with it.
            let geo = &mut changed.geo;
            let edits = std::mem::take(&mut geo.edits);
            let term = self.belief(record).epoch;
            add_to_lineage(&mut geo.lineage, (term, edits));
        }
        if let crate::Enrollment::Enrolled(enrolled) = &mut changed.enrollment {
            enrolled.epoch = claim.epoch;
        }
        changed.geo.owner = (claim.owner != self.config.id).then_some(claim.owner);
        changed.geo.confirmed = claim.confirmed;
        changed.updated_at = now;
        self.put(batch, changed);
        if was_owned && claim.owner != self.config.id {
            self.demoted(now, id, batch, out);
        }
    }

    /// The agent obeys this controller: it has sent what only a welcomed one sends.
    pub(in super::super) fn confirm(
        &mut self,
        now: Timestamp,
        id: SubcloudId,
        out: &mut Vec<Output>,
    ) {
        let Some(record) = self.fleet.subcloud(id) else {
            return;
        };
        if record.geo.confirmed || !record.owned_here() {
            return;
        }
        let claim = Belief {
            confirmed: true,
            ..self.belief(record)
        };
        let mut batch = Batch::default();
        self.believe(now, id, claim, &mut batch, out);
        self.commit(batch, out);
    }

    /// A subcloud obeys another controller from now on: its agent is sent there.
    pub(super) fn demoted(
        &mut self,
        now: Timestamp,
        id: SubcloudId,
        batch: &mut Batch,
        out: &mut Vec<Output>,
    ) {
        self.peers.handovers.remove(&id);
        self.peers.due.alarms = true;
        let Some(record) = self.fleet.subcloud(id).map(Arc::clone) else {
            return;
        };
        let kind = EventKind::Demoted;
        self.log_event(batch, now, Some(id), &record.name, kind);
        let owners = self.known_of(self.belief(&record).owner);
        if let Some(link) = self.presence(id).link
            && self.link_welcoming(link)
        {
            let goodbye = Goodbye::towards(GoodbyeReason::NotOwner, owners);
            self.close(now, link, goodbye, out);
        }
        self.unwatch(id);
    }

    /// Whether an authority is that of a peer which shares the group of a subcloud.
    pub(in super::super) fn signed_by_peer(&self, record: &Subcloud, key: Fingerprint) -> bool {
        let Some(group) = record.geo.group else {
            return false;
        };
        self.peers.associations_of(group).any(|association| {
            let peer = self.peers.peers.get(&association.peer);
            let known = peer.and_then(|peer| peer.established());
            known.is_some_and(|known| known.card.authority.key == key)
        })
    }

    /// Where to find a controller.
    pub(super) fn known_of(&self, controller: ControllerId) -> Vec<KnownController> {
        let peer = self.peers.peer_of(controller);
        peer.map(places).unwrap_or_default()
    }

    /// Where the agent of a subcloud may turn when it has lost this controller.
    pub(in super::super) fn alternates_of(&self, record: &Subcloud) -> Alternates {
        let Some(group) = record.geo.group else {
            return Alternates::default();
        };
        let mut peers: Vec<(u32, PeerId)> = self
            .peers
            .associations_of(group)
            .filter(|association| !association.ended)
            .map(|association| (association.peer_priority, association.peer))
            .collect();
        peers.sort_unstable();
        let controllers: Vec<KnownController> = peers
            .into_iter()
            .filter_map(|(_, peer)| self.peers.peers.get(&peer))
            .filter(|peer| peer.enabled() && !peer.suspended())
            .flat_map(places)
            .take(MAX_ALTERNATES)
            .collect();
        Alternates {
            controllers,
            failover: self.config.failover,
        }
    }

    /// A subcloud was welcomed: what its Welcome says of other controllers may be old by now.
    pub(in super::super) fn alternates_due(&mut self, id: SubcloudId) {
        self.peers.due.alternates.insert(id);
    }

    /// Tells agents when other controllers than before may be turned to.
    pub(super) fn tell_alternates(&mut self, out: &mut Vec<Output>) {
        for id in std::mem::take(&mut self.peers.due.alternates) {
            let (Some(link), Some(record)) = (self.presence(id).link, self.fleet.subcloud(id))
            else {
                continue;
            };
            let epoch = record
                .enrolled()
                .map(|known| known.epoch)
                .unwrap_or_default();
            let alternates = self.alternates_of(record);
            if self.alternates_are_news(link, &alternates) {
                let message = ControllerMessage::Alternates { epoch, alternates };
                self.after_all(Deferred::Output(Output::Send { link, message }), out);
            }
        }
    }

    /// Looks again at those that wait for room among the members on their way.
    pub(super) fn admit_queued(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        group: PeerGroupId,
        out: &mut Vec<Output>,
    ) {
        for (link, hello) in self.next_queued(group) {
            self.hello(now, entropy, link, hello, out);
        }
    }
}

/// Remembers how many edits of a term are known.
fn add_to_lineage(lineage: &mut Vec<(Epoch, u64)>, term: (Epoch, u64)) {
    lineage.push(term);
    if lineage.len() > MAX_LINEAGE {
        lineage.remove(0);
    }
}

/// Where a peer listens.
fn places(peer: &SystemPeer) -> Vec<KnownController> {
    let Some(known) = peer.established() else {
        return Vec::new();
    };
    let card = &known.card;
    let place = |endpoint: &crate::Endpoint| KnownController {
        controller: card.controller,
        endpoint: *endpoint,
        authority: card.authority.key,
    };
    card.endpoints.iter().map(place).collect()
}
