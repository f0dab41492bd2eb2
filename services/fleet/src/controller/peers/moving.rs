//! Members on their way from one site to another.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use site::Timestamp;

use crate::entropy::after;
use crate::{
    ControllerId, Entropy, Goodbye, GoodbyeReason, Hello, KnownController, LinkId, MAX_HANDOVER,
    PeerGroupId, PeerId, PeerLinkId, PeerMessage, SubcloudId,
};

use super::super::{Batch, Controller, Output, Wake};

/// How long a member that its owner was asked for may take to come: two tries of its agent.
pub const HANDOVER_PATIENCE: Duration = Duration::from_secs(20);

/// A migration that made no progress for so long ends; what has not come is named.
pub const MIGRATION_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// How often a running migration is looked at.
const MOVE_INTERVAL: Duration = Duration::from_secs(1);

/// The members of one group that come here.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// Those on their way, each until its time is up.
    active: BTreeMap<SubcloudId, Timestamp>,
    /// When each was asked for last.
    asked: BTreeMap<SubcloudId, Timestamp>,
    /// Those that have come and wait for room.
    queue: VecDeque<(LinkId, Hello)>,
    /// When something moved last.
    progress: Option<(usize, Timestamp)>,
    pub(super) watched: Option<Timestamp>,
}

/// A member that a peer asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handover {
    to: ControllerId,
    until: Timestamp,
}

impl Controller {
    /// A migration that ran when the process ended goes on.
    pub(super) fn resume_move(&mut self, now: Timestamp, group: PeerGroupId) {
        let known = self.peers.groups.get(&group);
        let migration = known.and_then(|group| group.migration.as_ref());
        if migration.is_some_and(crate::Migration::running) {
            self.watch_move(now, group);
        }
    }

    pub(super) fn watch_move(&mut self, at: Timestamp, group: PeerGroupId) {
        let moving = self.peers.moving.entry(group).or_default();
        if moving.watched.is_none() {
            moving.watched = Some(at);
            self.wakeups.at(at, Wake::Move(group));
        }
    }

    /// Whether there is room for one more member on its way; takes it.
    pub(super) fn slot(&mut self, now: Timestamp, group: PeerGroupId, id: SubcloudId) -> bool {
        let Some(most) = self.rehoming_limit(group) else {
            return false;
        };
        let moving = self.peers.moving.entry(group).or_default();
        moving.active.retain(|_, until| *until > now);
        if !moving.active.contains_key(&id) && moving.active.len() >= most {
            let soon = after(now, MOVE_INTERVAL);
            self.watch_move(soon, group);
            return false;
        }
        moving.active.insert(id, after(now, HANDOVER_PATIENCE));
        true
    }

    fn rehoming_limit(&self, group: PeerGroupId) -> Option<usize> {
        let header = &self.peers.groups.get(&group)?.header;
        usize::try_from(header.max_subcloud_rehoming).ok()
    }

    /// A member was welcomed, so there is room for another.
    pub(in super::super) fn arrived(&mut self, id: SubcloudId) {
        let group = self.fleet.subcloud(id).and_then(|record| record.geo.group);
        let Some(group) = group else {
            return;
        };
        if let Some(moving) = self.peers.moving.get_mut(&group)
            && moving.active.remove(&id).is_some()
        {
            self.peers.due.moves.insert(group);
        }
    }

    pub(super) fn queue(&mut self, group: PeerGroupId, link: LinkId, hello: Hello) {
        let moving = self.peers.moving.entry(group).or_default();
        moving.queue.retain(|(queued, _)| *queued != link);
        moving.queue.push_back((link, hello));
    }

    /// A link that waited is gone.
    pub(in super::super) fn unqueue(&mut self, link: LinkId) {
        for moving in self.peers.moving.values_mut() {
            moving.queue.retain(|(queued, _)| *queued != link);
        }
    }

    /// As many of those that wait as there is room for.
    pub(super) fn next_queued(&mut self, group: PeerGroupId) -> Vec<(LinkId, Hello)> {
        let Some(most) = self.rehoming_limit(group) else {
            return Vec::new();
        };
        let Some(moving) = self.peers.moving.get_mut(&group) else {
            return Vec::new();
        };
        let free = most.saturating_sub(moving.active.len());
        let count = moving.queue.len().min(free);
        moving.queue.drain(..count).collect()
    }

    /// Moves a migration on: asks owners for members, ends it when all are here.
    pub(super) fn drive_move(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        group: PeerGroupId,
        out: &mut Vec<Output>,
    ) {
        if let Some(moving) = self.peers.moving.get_mut(&group) {
            moving.active.retain(|_, until| *until > now);
        }
        self.admit_queued(now, entropy, group, out);
        let waiting = self.peers.moving.get(&group);
        if waiting.is_some_and(|moving| !moving.queue.is_empty()) {
            self.watch_move(after(now, MOVE_INTERVAL), group);
        }
        let known = self.peers.groups.get(&group);
        let migration = known.and_then(|group| group.migration.as_ref());
        if !migration.is_some_and(crate::Migration::running) {
            return;
        }
        let (remaining, unconfirmed) = self.remaining(group);
        let left = remaining.len() + unconfirmed;
        let moving = self.peers.moving.entry(group).or_default();
        match moving.progress {
            Some((before, _)) if before == left => {}
            _ => moving.progress = Some((left, now)),
        }
        let since = moving.progress.map_or(now, |(_, at)| at);
        if left == 0 || after(since, MIGRATION_PATIENCE) <= now {
            return self.finish_move(now, group, out);
        }
        self.ask_owners(now, group, &remaining, out);
        self.watch_move(after(now, MOVE_INTERVAL), group);
    }

    /// The members that have yet to come, and how many have yet to obey.
    pub(super) fn remaining(&self, group: PeerGroupId) -> (Vec<SubcloudId>, usize) {
        let known = self.peers.groups.get(&group);
        let targets = known
            .and_then(|group| group.migration.as_ref())
            .map(|migration| &migration.targets);
        let mut remaining = Vec::new();
        let mut unconfirmed = 0;
        for id in targets.into_iter().flatten() {
            let Some(record) = self.fleet.subcloud(*id) else {
                continue;
            };
            if record.geo.group != Some(group) {
                continue;
            }
            if !record.owned_here() {
                remaining.push(*id);
            } else if !record.geo.confirmed {
                unconfirmed += 1;
            }
        }
        (remaining, unconfirmed)
    }

    fn finish_move(&mut self, now: Timestamp, group: PeerGroupId, out: &mut Vec<Output>) {
        let Some(mut known) = self.peers.groups.get(&group).cloned() else {
            return;
        };
        let (missing, _) = self.remaining(group);
        if let Some(migration) = &mut known.migration {
            migration.finished_at = Some(now);
            migration.missing = missing.into_iter().collect();
        }
        known.updated_at = now;
        let moving = self.peers.moving.entry(group).or_default();
        moving.asked.clear();
        moving.progress = None;
        let mut batch = Batch::default();
        self.put_group(&mut batch, known);
        self.commit(batch, out);
    }

    /// Asks the owners that can be reached for as many members as there is room for, those that
    /// were asked for least recently first.
    fn ask_owners(
        &mut self,
        now: Timestamp,
        group: PeerGroupId,
        remaining: &[SubcloudId],
        out: &mut Vec<Output>,
    ) {
        let Some(most) = self.rehoming_limit(group) else {
            return;
        };
        let mut reachable: Vec<(Option<Timestamp>, SubcloudId, PeerId)> = Vec::new();
        let moving = self.peers.moving.get(&group);
        for id in remaining {
            let owner = self.fleet.subcloud(*id).and_then(|record| record.geo.owner);
            let peer = owner.and_then(|owner| self.peers.peer_of(owner));
            let Some(peer) = peer.map(|peer| peer.id) else {
                continue;
            };
            let active = moving.is_some_and(|moving| moving.active.contains_key(id));
            if !active && self.ready_link(peer).is_some() {
                let asked = moving.and_then(|moving| moving.asked.get(id).copied());
                reachable.push((asked, *id, peer));
            }
        }
        reachable.sort_unstable();
        let moving = self.peers.moving.entry(group).or_default();
        let free = most.saturating_sub(moving.active.len()).min(MAX_HANDOVER);
        let mut asks: BTreeMap<PeerId, Vec<SubcloudId>> = BTreeMap::new();
        for (_, id, peer) in reachable.into_iter().take(free) {
            moving.active.insert(id, after(now, HANDOVER_PATIENCE));
            moving.asked.insert(id, now);
            asks.entry(peer).or_default().push(id);
        }
        for (peer, members) in asks {
            if let Some(link) = self.ready_link(peer) {
                // The migration is on disk by the time that anybody acts on it.
                self.tell_durably(link, PeerMessage::Handover { group, members }, out);
            }
        }
    }

    /// A peer takes members over: their agents are sent there. This site stays the owner until
    /// it hears of the new term.
    pub(super) fn hand_over(
        &mut self,
        now: Timestamp,
        link: PeerLinkId,
        peer: PeerId,
        group: PeerGroupId,
        members: Vec<SubcloudId>,
        out: &mut Vec<Output>,
    ) {
        let to = self
            .peers
            .peers
            .get(&peer)
            .and_then(|peer| peer.controller());
        let (Some(to), true) = (to, self.peers.associations.contains_key(&(group, peer))) else {
            return;
        };
        if members.len() > MAX_HANDOVER {
            let goodbye = crate::PeerGoodbye::ProtocolViolation;
            return self.close_peer(now, link, goodbye, out);
        }
        let known = self.peers.groups.get(&group);
        let migration = known.and_then(|group| group.migration.as_ref());
        // Two sites that both take over would send the agents to and fro.
        let contested = migration.is_some_and(crate::Migration::running) && self.config.id > to;
        if contested {
            return;
        }
        self.peers
            .handovers
            .retain(|_, handover| handover.until > now);
        for id in members {
            let ours = |record: &&crate::SharedSubcloud| {
                record.owned_here() && record.geo.group == Some(group)
            };
            if self.fleet.subcloud(id).filter(ours).is_none() {
                continue;
            }
            let until = after(now, HANDOVER_PATIENCE);
            self.peers.handovers.insert(id, Handover { to, until });
            let agent = self.presence(id).link;
            if let Some(agent) = agent.filter(|agent| self.link_greeted(*agent)) {
                let owners = self.known_of(to);
                let goodbye = Goodbye::towards(GoodbyeReason::Moved, owners);
                self.close(now, agent, goodbye, out);
            }
        }
    }

    /// Where a subcloud goes that a peer has asked for.
    pub(super) fn handed_over(
        &mut self,
        now: Timestamp,
        id: SubcloudId,
    ) -> Option<Vec<KnownController>> {
        let handover = self.peers.handovers.get(&id).copied()?;
        if handover.until <= now {
            self.peers.handovers.remove(&id);
            return None;
        }
        Some(self.known_of(handover.to)).filter(|owners| !owners.is_empty())
    }

    /// A migration begins.
    pub(super) fn begin_move(&mut self, now: Timestamp, group: PeerGroupId) {
        let moving = self.peers.moving.entry(group).or_default();
        moving.asked.clear();
        moving.progress = None;
        self.peers.due.moves.insert(group);
        self.watch_move(after(now, MOVE_INTERVAL), group);
    }
}
