//! Whether two sites may be peers, asked on every Hello and on every change of either site.

use site::{Site, Timestamp};

use crate::{
    Entropy, Established, Fault, PeerCard, PeerGoodbye, PeerId, PeerLinkId, PeerMessage, Peering,
    Violation, judge_peer,
};

use super::super::{Batch, Controller, Output};
use super::contact::send;

impl Controller {
    pub(super) fn peer_message(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        link: PeerLinkId,
        message: PeerMessage,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.peers.links.get(&link) else {
            return;
        };
        let (peer, ready, greeted) = (state.peer, state.ready, state.judged.is_some());
        self.peer_heard(now, peer);
        match message {
            PeerMessage::Hello(card) => self.peer_hello(now, link, peer, *card, out),
            PeerMessage::Goodbye(goodbye) => {
                self.peer_dismissed(now, entropy, link, goodbye, out);
            }
            // What was under way when a peering was suspended is not taken in.
            _ if !greeted => self.close_peer(now, link, PeerGoodbye::ProtocolViolation, out),
            PeerMessage::Verdict { card, faults } => {
                if card == self.peers.card_digest {
                    if let Some(state) = self.peers.links.get_mut(&link) {
                        state.verdict = Some(faults);
                    }
                    self.settle_standing(now, link, out);
                }
            }
            PeerMessage::Heartbeat => out.push(send(link, PeerMessage::HeartbeatAnswer)),
            PeerMessage::HeartbeatAnswer => {}
            _ if !ready => {}
            PeerMessage::Offers {
                complete,
                offers,
                withdrawn,
            } => self.offered(now, link, peer, complete, (offers, withdrawn), out),
            PeerMessage::Pull(pull) => self.pulled(peer, pull, out),
            PeerMessage::Batch(batch) => self.batch(now, link, peer, *batch, out),
            PeerMessage::Synced {
                group,
                digest,
                faults,
                corrections,
            } => {
                self.synced(group, peer, digest, faults);
                self.corrected(now, peer, group, &corrections, out);
            }
            PeerMessage::Handover { group, members } => {
                self.hand_over(now, link, peer, group, members, out);
            }
        }
    }

    fn peer_hello(
        &mut self,
        now: Timestamp,
        link: PeerLinkId,
        id: PeerId,
        card: PeerCard,
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peers.peers.get(&id) else {
            return;
        };
        let same = |known: &Established| {
            known.card.controller == card.controller
                && known.card.authority.key == card.authority.key
        };
        if !peer.established().is_some_and(same) {
            return self.close_peer(now, link, PeerGoodbye::Unknown, out);
        }
        let faults = faults_of(&judge_peer(&self.peers.card, &self.fleet, &card));
        out.push(send(
            link,
            PeerMessage::Verdict {
                card: card.digest(),
                faults: faults.clone(),
            },
        ));
        if let Some(state) = self.peers.links.get_mut(&link) {
            state.judged = Some(faults);
            // Whoever says Hello takes nothing in before it knows the verdict above, so what was
            // under way is lost: everything is offered again.
            state.ready = false;
        }
        if let Some(contact) = self.peers.contacts.get_mut(&id) {
            contact.backoff_reset();
        }
        self.keep_card(now, id, card, out);
        self.settle_standing(now, link, out);
    }

    /// Remembers the newest that a peer said of itself.
    fn keep_card(&mut self, now: Timestamp, id: PeerId, card: PeerCard, out: &mut Vec<Output>) {
        let Some(mut peer) = self.peers.peers.get(&id).cloned() else {
            return;
        };
        let Peering::Established(known) = &mut peer.peering else {
            return;
        };
        if known.card == card {
            return;
        }
        known.card = card;
        peer.updated_at = now;
        let mut batch = Batch::default();
        self.put_peer(&mut batch, peer);
        self.commit(batch, out);
    }

    /// Both sides' judgement decides whether members are synchronised.
    fn settle_standing(&mut self, now: Timestamp, link: PeerLinkId, out: &mut Vec<Output>) {
        let Some(state) = self.peers.links.get_mut(&link) else {
            return;
        };
        let (Some(judged), verdict) = (&state.judged, &state.verdict) else {
            return;
        };
        let mut faults = judged.clone();
        faults.extend(verdict.iter().flatten().cloned());
        faults.truncate(MAX_FAULTS);
        let ready = faults.is_empty() && verdict.is_some();
        let id = state.peer;
        let begins = ready && !state.ready;
        state.ready = ready;
        // A peer that has yet to say what it thinks of the present card keeps what it said last.
        if verdict.is_some() || !judged.is_empty() {
            self.suspend(now, id, faults, out);
        }
        if !ready {
            self.peers.hearing.retain(|(_, peer), _| *peer != id);
        }
        if begins {
            self.offer_all(link, id, out);
            let groups = self.groups_with(id);
            self.peers.due.moves.extend(groups);
        }
    }

    fn suspend(&mut self, now: Timestamp, id: PeerId, faults: Vec<Fault>, out: &mut Vec<Output>) {
        let Some(mut peer) = self.peers.peers.get(&id).cloned() else {
            return;
        };
        let Peering::Established(known) = &mut peer.peering else {
            return;
        };
        if known.suspended == faults {
            return;
        }
        known.suspended = faults;
        peer.updated_at = now;
        let mut batch = Batch::default();
        self.put_peer(&mut batch, peer);
        self.commit(batch, out);
    }

    /// This site changed: peers hear of it, and every peering is judged again.
    pub(in super::super) fn peers_hear_of_site(
        &mut self,
        now: Timestamp,
        site: &Site,
        out: &mut Vec<Output>,
    ) {
        let card = Self::card_of(&self.config, site);
        if card == self.peers.card {
            return;
        }
        self.peers.card_digest = card.digest();
        self.peers.card = card;
        let links: Vec<PeerLinkId> = self.peers.links.keys().copied().collect();
        for link in links {
            let Some(state) = self.peers.links.get_mut(&link) else {
                continue;
            };
            state.verdict = None;
            state.ready = false;
            let id = state.peer;
            let card = Box::new(self.peers.card.clone());
            out.push(send(link, PeerMessage::Hello(card)));
            self.judge_again(now, link, id, out);
        }
    }

    /// Judges a peering by what is known here of the peer, and tells it.
    pub(super) fn judge_again(
        &mut self,
        now: Timestamp,
        link: PeerLinkId,
        id: PeerId,
        out: &mut Vec<Output>,
    ) {
        let known = self
            .peers
            .peers
            .get(&id)
            .and_then(|peer| peer.established());
        let Some(card) = known.map(|known| known.card.clone()) else {
            return;
        };
        let faults = faults_of(&judge_peer(&self.peers.card, &self.fleet, &card));
        let Some(state) = self.peers.links.get_mut(&link) else {
            return;
        };
        if state.judged.is_none() {
            return;
        }
        state.judged = Some(faults.clone());
        let digest = card.digest();
        out.push(send(
            link,
            PeerMessage::Verdict {
                card: digest,
                faults,
            },
        ));
        self.settle_standing(now, link, out);
    }

    /// What a change of the controller's own site would break between it and its peers; to be
    /// asked before the change.
    pub fn peers_broken_by(&self, site: &Site) -> Vec<Violation> {
        let card = Self::card_of(&self.config, site);
        let known = self.peers.peers.values().filter_map(|peer| {
            let established = peer.established()?;
            established.suspended.is_empty().then_some(established)
        });
        known
            .flat_map(|known| judge_peer(&card, &self.fleet, &known.card))
            .collect()
    }
}

/// How many faults of a peering are kept: a peer says what it likes.
const MAX_FAULTS: usize = 32;

fn faults_of(violations: &[Violation]) -> Vec<Fault> {
    violations
        .iter()
        .take(MAX_FAULTS)
        .map(Fault::from)
        .collect()
}
