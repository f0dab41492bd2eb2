//! Taking in what peers tell of shared groups.
//!
//! The owner's record of a subcloud wins; what an operator edited here while another site owned
//! it is kept beside it as a conflict. Nothing that a peer tells deletes a record: a copy of what
//! its owner has deleted keeps its name and addresses until an operator deletes it, and what cannot
//! be taken in for it is alarm 280.006 at both sites.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use site::Timestamp;

use crate::admission::{Occasion, admit, name_free, room};
use crate::entropy::after;
use crate::peer::shared;
use crate::{
    Association, Batch as Piece, Candidate, ControllerId, Correction, Fault, MAX_GROUPS,
    MAX_LINEAGE, MAX_SUPERSEDED, MAX_SYNC_BATCH, Offer, PeerGoodbye, PeerGroup, PeerGroupId,
    PeerId, PeerLinkId, PeerMessage, Pull, Rejection, Subcloud, SubcloudId, SyncDigest, SyncItem,
    Violation, Withdrawn,
};

use super::super::operate::invalid_text;
use super::super::operator::invalid_name;
use super::super::{Batch, Controller, Deferred, Output, Wake};
use super::calls::{group_exists, invalid_place, limit};
use super::claims::Belief;
use super::contact::send;
use super::merging::{both, conflict, not_shared, stale, unreachable, unreadable};
use super::reachable;

/// How many faults of one group are kept and told: each names a member.
pub(super) const MAX_SYNC_FAULTS: usize = 64;

/// The most writes of members that leave at once: well below what one write may have.
const MAX_LEAVING_WRITES: usize = 512;

/// How long to wait before a piece is asked for again that came when the disk was busy.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// How long to wait before a group is read again of which something could not be taken in: what
/// is in its way may be gone, and nobody tells of that.
const SYNC_RETRY: Duration = Duration::from_secs(5 * 60);

/// An offer that is being taken in.
#[derive(Debug)]
pub(super) struct Hearing {
    digest: SyncDigest,
    your_priority: u32,
    /// That of the association which offered.
    generation: u64,
    changes: bool,
    after: Option<SubcloudId>,
    /// The members that were told.
    seen: BTreeSet<SubcloudId>,
    faults: Vec<Fault>,
    corrections: Vec<Correction>,
}

impl Hearing {
    fn new(digest: SyncDigest, your_priority: u32, generation: u64) -> Self {
        Self {
            digest,
            your_priority,
            generation,
            changes: false,
            after: None,
            seen: BTreeSet::new(),
            faults: Vec::new(),
            corrections: Vec::new(),
        }
    }
}

/// One member as a peer tells it.
struct Heard<'a> {
    group: PeerGroupId,
    speaker: ControllerId,
    now: Timestamp,
    batch: &'a mut Batch,
    faults: &'a mut Vec<Fault>,
    corrections: &'a mut Vec<Correction>,
}

impl Controller {
    pub(super) fn offered(
        &mut self,
        now: Timestamp,
        link: PeerLinkId,
        peer: PeerId,
        complete: bool,
        (mut offers, withdrawn): (Vec<Offer>, Vec<Withdrawn>),
        out: &mut Vec<Output>,
    ) {
        if offers.len().max(withdrawn.len()) > MAX_GROUPS {
            return self.close_peer(now, link, PeerGoodbye::ProtocolViolation, out);
        }
        self.end_withdrawn(now, peer, &withdrawn, out);
        if complete {
            let told: BTreeSet<PeerGroupId> = offers.iter().map(|offer| offer.group).collect();
            self.end_others(now, peer, &told, out);
        }
        offers.retain(|offer| !self.is_withdrawn(peer, offer));
        self.share_again(now, peer, &offers, out);
        for offer in offers {
            let known = self.peers.associations.get(&(offer.group, peer));
            // What could not be taken in may fit by now, so it is read again, and in full.
            let whole = known.filter(|association| association.faults.is_empty());
            let told = whole.and_then(|association| association.told);
            if told == Some(offer.digest) {
                let synced = PeerMessage::Synced {
                    group: offer.group,
                    digest: offer.digest,
                    faults: Vec::new(),
                    corrections: Vec::new(),
                };
                self.tell_durably(link, synced, out);
                // An offer before it that was being read is over: the peer is back at what was
                // told already, and answers no pull of anything else.
                self.peers.hearing.remove(&(offer.group, peer));
                continue;
            }
            let mut hearing = Hearing::new(offer.digest, offer.your_priority, offer.generation);
            hearing.changes = told.is_some() && told == offer.base;
            self.peers.hearing.insert((offer.group, peer), hearing);
            self.pull(offer.group, peer, out);
        }
    }

    /// Asks for the next piece.
    fn pull(&mut self, group: PeerGroupId, peer: PeerId, out: &mut Vec<Output>) {
        let (Some(link), Some(hearing)) = (
            self.ready_link(peer),
            self.peers.hearing.get(&(group, peer)),
        ) else {
            return;
        };
        let pull = Pull {
            group,
            digest: hearing.digest,
            changes: hearing.changes,
            after: hearing.after,
        };
        out.push(send(link, PeerMessage::Pull(pull)));
    }

    /// Asks again for a piece that came when the disk was busy, or for all of a group of which
    /// something could not be taken in.
    pub(super) fn pull_again(&mut self, group: PeerGroupId, peer: PeerId, out: &mut Vec<Output>) {
        let key = (group, peer);
        if !self.peers.hearing.contains_key(&key) {
            let known = self.peers.associations.get(&key);
            let known = known.filter(|known| !known.faults.is_empty() && !known.ended);
            let (Some((told, generation)), Some(group), Some(_)) = (
                known.and_then(|known| Some((known.told?, known.generation))),
                self.peers.groups.get(&group),
                self.ready_link(peer),
            ) else {
                return;
            };
            let hearing = Hearing::new(told, group.priority, generation);
            self.peers.hearing.insert(key, hearing);
        }
        self.pull(group, peer, out);
    }

    /// Reads what peers offer of a group in full and from the start, in the next step.
    pub(super) fn hear_from_start(
        &mut self,
        now: Timestamp,
        group: PeerGroupId,
        except: Option<PeerId>,
    ) {
        for ((of, peer), hearing) in &mut self.peers.hearing {
            if *of == group && Some(*peer) != except {
                let (place, generation) = (hearing.your_priority, hearing.generation);
                *hearing = Hearing::new(hearing.digest, place, generation);
                self.wakeups.at(now, Wake::Pull(group, *peer));
            }
        }
    }

    /// Takes in a piece that was asked for; others are ignored.
    pub(super) fn batch(
        &mut self,
        now: Timestamp,
        link: PeerLinkId,
        peer: PeerId,
        piece: Piece,
        out: &mut Vec<Output>,
    ) {
        let key = (piece.group, peer);
        let expected = |hearing: &Hearing| {
            (hearing.digest, hearing.changes, hearing.after)
                == (piece.digest, piece.changes, piece.after)
        };
        if !self.peers.hearing.get(&key).is_some_and(expected) {
            return;
        }
        if piece.items.len() > MAX_SYNC_BATCH {
            return self.close_peer(now, link, PeerGoodbye::ProtocolViolation, out);
        }
        if self.commits.is_full() {
            let at = after(now, BUSY_RETRY);
            self.wakeups.at(at, Wake::Pull(key.0, key.1));
            return;
        }
        let Some(mut hearing) = self.peers.hearing.remove(&key) else {
            return;
        };
        let Some(speaker) = self.peers.peers.get(&peer).and_then(|p| p.controller()) else {
            return;
        };
        let mut batch = Batch::default();
        if let Err(rejection) = self.take_header(now, peer, speaker, &hearing, &piece, &mut batch) {
            let synced = PeerMessage::Synced {
                group: piece.group,
                digest: piece.digest,
                faults: Fault::all_of(&rejection),
                corrections: Vec::new(),
            };
            return self.tell_durably(link, synced, out);
        }
        let mut heard = Heard {
            group: piece.group,
            speaker,
            now,
            batch: &mut batch,
            faults: &mut hearing.faults,
            corrections: &mut hearing.corrections,
        };
        for item in &piece.items {
            let id = id_of(item);
            hearing.after = hearing.after.max(Some(id));
            hearing.seen.insert(id);
            self.take_item(&mut heard, item, out);
        }
        if piece.last {
            self.conclude_hearing(now, link, key, hearing, batch, out);
        } else {
            let next = PeerMessage::Pull(Pull {
                group: piece.group,
                digest: piece.digest,
                changes: piece.changes,
                after: hearing.after,
            });
            self.peers.hearing.insert(key, hearing);
            batch.then.push(Deferred::Output(send(link, next)));
            self.commit(batch, out);
        }
    }

    fn conclude_hearing(
        &mut self,
        now: Timestamp,
        link: PeerLinkId,
        key: (PeerGroupId, PeerId),
        mut hearing: Hearing,
        mut batch: Batch,
        out: &mut Vec<Output>,
    ) {
        if !hearing.changes {
            let speaker = self
                .peers
                .peers
                .get(&key.1)
                .and_then(|peer| peer.controller());
            batch = self.drop_untold(now, key.0, speaker, &hearing.seen, batch, out);
        }
        hearing.faults.truncate(MAX_SYNC_FAULTS);
        if !hearing.faults.is_empty() {
            let (at, wake) = (after(now, SYNC_RETRY), Wake::Pull(key.0, key.1));
            if let Some(before) = self.peers.rereads.insert(key, at) {
                self.wakeups.cancel(before, wake);
            }
            self.wakeups.at(at, wake);
        }
        if let Some(association) = self.peers.associations.get(&key) {
            let changed = Association {
                told: Some(hearing.digest),
                ended: false,
                faults: hearing.faults.clone(),
                updated_at: now,
                ..association.clone()
            };
            self.put_association(&mut batch, changed);
        }
        let synced = PeerMessage::Synced {
            group: key.0,
            digest: hearing.digest,
            faults: hearing.faults,
            corrections: hearing.corrections,
        };
        batch.then.push(Deferred::Output(send(link, synced)));
        self.commit(batch, out);
    }

    /// The group itself: made here when it is new, and brought up to date.
    fn take_header(
        &mut self,
        now: Timestamp,
        peer: PeerId,
        speaker: ControllerId,
        hearing: &Hearing,
        piece: &Piece,
        batch: &mut Batch,
    ) -> Result<(), Rejection> {
        self.group_fits(piece)?;
        let group = self.peers.groups.get(&piece.group);
        let mut changed = group.cloned().unwrap_or_else(|| PeerGroup {
            id: piece.group,
            header: piece.header.clone(),
            leader: piece.leader.clone(),
            priority: hearing.your_priority,
            migration: None,
            created_at: now,
            updated_at: now,
        });
        let newer = |header: &crate::GroupHeader| (header.revision, header.editor);
        if newer(&piece.header) > newer(&changed.header) {
            changed.header = piece.header.clone();
        }
        if let Some(place) = changed.header.places.get(&self.config.id).copied() {
            changed.priority = place;
            if changed.leader.controller == self.config.id {
                changed.leader.priority = place;
            }
        }
        let later = |leader: &crate::Leader| (leader.term, leader.controller);
        if later(&piece.leader) > later(&changed.leader) {
            changed.leader = piece.leader.clone();
        }
        if changed.leader.controller == speaker {
            changed.leader.priority = piece.priority;
        }
        if self.peers.groups.get(&piece.group) != Some(&changed) {
            changed.updated_at = now;
            self.put_group(batch, changed);
        }
        let known = self.peers.associations.get(&(piece.group, peer));
        let association = match known {
            Some(known) if known.peer_priority == piece.priority => return Ok(()),
            Some(known) => Association {
                peer_priority: piece.priority,
                updated_at: now,
                ..known.clone()
            },
            None => Association {
                group: piece.group,
                peer,
                peer_priority: piece.priority,
                told: None,
                generation: hearing.generation,
                ended: false,
                withdrawn: false,
                faults: Vec::new(),
                updated_at: now,
            },
        };
        self.put_association(batch, association);
        self.group_touched(piece.group);
        Ok(())
    }

    /// A group must be as one that is made or changed here.
    fn group_fits(&self, piece: &Piece) -> Result<(), Rejection> {
        let (name, rehoming) = (&piece.header.name, piece.header.max_subcloud_rehoming);
        let mut violations = invalid_place(Some(piece.priority), Some(rehoming));
        violations.extend(invalid_name(name));
        let mut others = self.peers.groups.values();
        if others.any(|other| other.id != piece.group && other.header.name == *name) {
            violations.push(group_exists(name));
        }
        let known = self.peers.groups.get(&piece.group);
        if known.is_none() && self.peers.groups.len() >= MAX_GROUPS {
            violations.push(limit("peer groups", MAX_GROUPS));
        }
        let (edits, leaders) =
            known.map_or((0, 0), |known| (known.header.revision, known.leader.term));
        if !reachable(piece.header.revision, edits) || !reachable(piece.leader.term, leaders) {
            violations.push(unreachable("subcloud peer group", name));
        }
        Rejection::check(violations)
    }

    fn take_item(&mut self, heard: &mut Heard<'_>, item: &SyncItem, out: &mut Vec<Output>) {
        match item {
            SyncItem::Owned(record) => {
                if let Err(rejection) = self.take_record(heard, record, out) {
                    let mut faults = Fault::all_of(&rejection);
                    for fault in &mut faults {
                        // Subclouds that are not shared are none of the peer's business.
                        fault.metadata.remove("subcloudId");
                    }
                    heard.faults.append(&mut faults);
                }
            }
            SyncItem::Elsewhere {
                subcloud,
                owner,
                epoch,
                confirmed,
            } => {
                let claim = Belief {
                    owner: *owner,
                    epoch: *epoch,
                    confirmed: *confirmed,
                };
                if self.may_claim(*subcloud, heard.group, heard.speaker, &claim) {
                    self.believe(heard.now, *subcloud, claim, heard.batch, out);
                    self.correct(heard, *subcloud, &claim);
                }
            }
            SyncItem::Left(id) => {
                self.leave(heard.now, *id, heard.group, heard.speaker, heard.batch)
            }
        }
    }

    /// The owner's record of a member.
    fn take_record(
        &mut self,
        heard: &mut Heard<'_>,
        told: &Subcloud,
        out: &mut Vec<Output>,
    ) -> Result<(), Rejection> {
        let member = told.geo.owner == Some(heard.speaker) && told.geo.group == Some(heard.group);
        // What is not shared, such as a token or a report, is not taken from anybody either.
        let told = &shared(told, heard.speaker);
        let (Some(enrolled), true) = (told.enrolled(), member && bounded(told)) else {
            return Err(Rejection::one(unreadable(told)));
        };
        let claim = Belief {
            owner: heard.speaker,
            epoch: enrolled.epoch,
            confirmed: told.geo.confirmed,
        };
        if !self.may_claim(told.id, heard.group, heard.speaker, &claim) {
            return Err(Rejection::one(not_shared(told)));
        }
        let local = self.fleet.subcloud(told.id).map(Arc::clone);
        let Some(local) = local else {
            self.fits(told)?;
            let mut record = told.clone();
            // Nothing that this site signed before it knew of it counts.
            keep_granted(&mut record, self.dating(heard.now));
            record.updated_at = heard.now;
            self.put(heard.batch, record);
            return Ok(());
        };
        let believed = self.belief(&local);
        self.correct(heard, told.id, &claim);
        if believed.owner != claim.owner && !claim.beats(&believed) {
            return Err(Rejection::one(stale(&local, enrolled.epoch, &believed)));
        }
        if claim.epoch < believed.epoch {
            return Err(Rejection::one(stale(&local, enrolled.epoch, &believed)));
        }
        let conflict = conflict(&local, told, heard.speaker, heard.now);
        if let Err(rejection) = self.fits(told) {
            // Its content cannot be taken in, but who owns it is true all the same.
            self.believe(heard.now, told.id, claim, heard.batch, out);
            return Err(rejection);
        }
        let mut record = told.clone();
        record.created_at = local.created_at;
        record.group = local.group;
        record.geo.gateways.clone_from(&local.geo.gateways);
        let left = local.geo.group.filter(|left| *left != heard.group);
        record.geo.former_group = left.or(local.geo.former_group);
        record.geo.conflict = both(local.geo.conflict.as_deref(), conflict);
        let granted = local.enrolled().map(|known| known.renewal.granted_at);
        keep_granted(&mut record, granted.unwrap_or(self.dating(heard.now)));
        record.updated_at = local.updated_at;
        if record == *local {
            return Ok(());
        }
        record.updated_at = heard.now;
        let demoted = local.owned_here();
        self.put(heard.batch, record);
        if demoted {
            self.demoted(heard.now, told.id, heard.batch, out);
        }
        Ok(())
    }

    /// Whether a peer may say who owns a subcloud: it is, or was, a member of the group that they
    /// share, or obeys the speaker as it is. Nor is a term believed that no honest site reaches.
    fn may_claim(
        &self,
        id: SubcloudId,
        group: PeerGroupId,
        speaker: ControllerId,
        claim: &Belief,
    ) -> bool {
        let known = self.fleet.subcloud(id);
        let term = known
            .and_then(|record| record.enrolled())
            .map(|it| it.epoch);
        let ours = known.is_none_or(|record| {
            let geo = &record.geo;
            [geo.group, geo.former_group].contains(&Some(group)) || geo.owner == Some(speaker)
        });
        ours && reachable(claim.epoch.0, term.unwrap_or_default().0)
    }

    /// The speaker does not know of the present term, or not whom the agent chose in it.
    fn correct(&self, heard: &mut Heard<'_>, id: SubcloudId, told: &Belief) {
        let Some(record) = self.fleet.subcloud(id) else {
            return;
        };
        let believed = self.belief(record);
        let news = told.epoch < believed.epoch || told.owner != believed.owner;
        if news && believed.beats(told) && heard.corrections.len() < MAX_SYNC_BATCH {
            heard.corrections.push(Correction {
                subcloud: id,
                owner: believed.owner,
                epoch: believed.epoch,
                confirmed: believed.confirmed,
                member: record.geo.group == Some(heard.group),
            });
        }
    }

    /// A peer knows of later terms than this site told it.
    pub(super) fn corrected(
        &mut self,
        now: Timestamp,
        peer: PeerId,
        group: PeerGroupId,
        corrections: &[Correction],
        out: &mut Vec<Output>,
    ) {
        let speaker = self
            .peers
            .peers
            .get(&peer)
            .and_then(|peer| peer.controller());
        let Some(speaker) = speaker else {
            return;
        };
        let mut batch = Batch::default();
        for correction in corrections.iter().take(MAX_SYNC_BATCH) {
            let Correction {
                subcloud,
                owner,
                epoch,
                confirmed,
                member,
            } = *correction;
            let claim = Belief {
                owner,
                epoch,
                confirmed,
            };
            if !self.may_claim(subcloud, group, speaker, &claim) {
                continue;
            }
            self.believe(now, subcloud, claim, &mut batch, out);
            if !member && owner == speaker {
                self.leave(now, subcloud, group, speaker, &mut batch);
            }
        }
        if !batch.writes.is_empty() {
            self.commit(batch, out);
        }
    }

    /// F5, F6, F9: a member must fit into this fleet as if it were added and reported here. The
    /// name counts also when its owner knows nothing of its networks yet.
    fn fits(&self, told: &Subcloud) -> Result<(), Rejection> {
        let known = self.fleet.subcloud(told.id);
        let full = room(&self.fleet, Some(told.id)).filter(|_| known.is_none());
        let mut violations: Vec<Violation> = full.into_iter().collect();
        let renewals = |record: &Subcloud| record.enrolled().map_or(0, |it| it.renewal.count);
        if !reachable(renewals(told), known.map_or(0, |known| renewals(known))) {
            violations.push(unreachable("subcloud", &told.name));
        }
        violations.extend(invalid_name(&told.name));
        violations.extend(name_free(&self.fleet, &told.name, Some(told.id)));
        violations.extend(invalid_text("description", Some(&told.description)));
        violations.extend(invalid_text("location", Some(&told.location)));
        if let Some(first) = violations.into_iter().next() {
            return Err(Rejection::one(first.object("subcloud", told.name.clone())));
        }
        let Some(footprint) = told.footprint() else {
            return Ok(());
        };
        let occasion = Occasion::Report {
            own: told.id,
            name: &told.name,
        };
        let judged = admit(
            &self.fleet,
            &Candidate::declared(footprint.clone()),
            occasion,
        );
        judged.map(drop).map_err(|rejection: Rejection| {
            let first = rejection.first().clone();
            Rejection::one(first.object("subcloud", told.name.clone()))
        })
    }

    /// Members that their owner tells no longer have left. There may be more of them than one
    /// write can have: whoever leaves later does so after a crash too, for the group counts as heard
    /// with the last piece only, which is given back.
    fn drop_untold(
        &mut self,
        now: Timestamp,
        group: PeerGroupId,
        speaker: Option<ControllerId>,
        seen: &BTreeSet<SubcloudId>,
        mut batch: Batch,
        out: &mut Vec<Output>,
    ) -> Batch {
        let Some(speaker) = speaker else {
            return batch;
        };
        let members = self.peers.members.get(&group).cloned().unwrap_or_default();
        let mut ours = false;
        for id in members.difference(seen) {
            if batch.writes.len() >= MAX_LEAVING_WRITES {
                self.commit(std::mem::take(&mut batch), out);
            }
            self.leave(now, *id, group, speaker, &mut batch);
            let record = self.fleet.subcloud(*id);
            ours |= record.is_some_and(|record| record.owned_here());
        }
        if let Some(peer) = self.peers.peer_of(speaker).filter(|_| ours) {
            // It has yet to hear of these, or knows of a later term and took them out.
            let key = (group, peer.id);
            self.forget_said(key);
            self.group_touched(group);
        }
        batch
    }

    fn leave(
        &mut self,
        now: Timestamp,
        id: SubcloudId,
        group: PeerGroupId,
        speaker: ControllerId,
        batch: &mut Batch,
    ) {
        let Some(record) = self.fleet.subcloud(id) else {
            return;
        };
        if record.geo.group != Some(group) || record.geo.owner != Some(speaker) {
            return;
        }
        let mut changed = Subcloud::clone(record);
        changed.geo.leave_group();
        changed.updated_at = now;
        let speaker = self.peers.peer_of(speaker).map(|peer| peer.id);
        self.read_anew(now, group, speaker, batch);
        self.put(batch, changed);
    }
}

/// Whether a record's lists are as long as they are kept.
fn bounded(record: &Subcloud) -> bool {
    let renewal = record.enrolled().map(|enrolled| &enrolled.renewal);
    renewal.is_none_or(|renewal| renewal.superseded.len() <= MAX_SUPERSEDED)
        && record.geo.lineage.len() <= MAX_LINEAGE
}

fn id_of(item: &SyncItem) -> SubcloudId {
    match item {
        SyncItem::Owned(record) => record.id,
        SyncItem::Elsewhere { subcloud, .. } => *subcloud,
        SyncItem::Left(id) => *id,
    }
}

/// When this site last let a certificate be signed is not for others to say.
fn keep_granted(record: &mut Subcloud, at: Timestamp) {
    if let crate::Enrollment::Enrolled(enrolled) = &mut record.enrollment {
        enrolled.renewal.granted_at = at;
    }
}
