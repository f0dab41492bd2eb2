//! Keeping a link to each peer: dialling, heartbeats, and noticing that it is lost.
//!
//! Of two peers the one with the lower id dials, so that there is one link and not two.

use std::net::IpAddr;
use std::time::Duration;

use site::{Family, Timestamp};

use crate::entropy::after;
use crate::{
    Backoff, CONNECT_TIMEOUT, ControllerId, Entropy, Fault, Fingerprint, PeerGoodbye, PeerId,
    PeerLinkId, PeerMessage, PeerOutput, SystemPeer,
};

use super::super::{Controller, Output, SourceCheck, Wake};

/// How long a dial may take before it counts as failed although the driver has not said so.
const DIAL_TIMEOUT: Duration = CONNECT_TIMEOUT.saturating_mul(2);

/// What is known of a peer's presence.
#[derive(Debug)]
pub(super) struct Contact {
    pub(super) link: Option<PeerLinkId>,
    /// When it was heard last; the start of the process, before it was.
    pub(super) heard: Timestamp,
    /// When the present link came up: it has time to speak from then on.
    linked: Timestamp,
    /// It was heard in this process.
    pub(super) ever_heard: bool,
    /// It has not been heard for longer than it may be.
    pub(super) lost: bool,
    /// Why it ended the link last.
    pub(super) goodbye: Option<PeerGoodbye>,
    dial_at: Timestamp,
    beat_at: Timestamp,
    backoff: Backoff,
    watched: Option<Timestamp>,
}

/// A live stream to a peer.
#[derive(Debug)]
pub(super) struct PeerLink {
    pub(super) peer: PeerId,
    /// The rules that the two sites break as seen here; `None` before the peer's Hello.
    pub(super) judged: Option<Vec<Fault>>,
    /// The same as the peer sees it, of the present card; `None` before it has said so.
    pub(super) verdict: Option<Vec<Fault>>,
    /// Both find nothing wrong: members are synchronised.
    pub(super) ready: bool,
}

impl Contact {
    /// The peer proved to be well.
    pub(super) fn backoff_reset(&mut self) {
        self.backoff.reset();
    }
}

impl Controller {
    /// A peer is known, or known anew: it has some time to come.
    pub(super) fn await_peer(&mut self, now: Timestamp, id: PeerId) {
        let Some(peer) = self.peers.peers.get(&id) else {
            return;
        };
        if peer.established().is_none() {
            return;
        }
        let contact = Contact {
            link: None,
            heard: now,
            linked: now,
            ever_heard: false,
            lost: false,
            goodbye: None,
            dial_at: now,
            beat_at: now,
            backoff: Backoff::default(),
            watched: None,
        };
        self.peers.contacts.insert(id, contact);
        self.peers.due.alarms = true;
        self.watch_peer(id, now);
    }

    /// The peer is gone for good.
    pub(super) fn forget_contact(&mut self, id: PeerId) {
        if let Some(watched) = self.peers.contacts.remove(&id).and_then(|c| c.watched) {
            self.wakeups.cancel(watched, Wake::Peer(id));
        }
    }

    fn watch_peer(&mut self, id: PeerId, at: Timestamp) {
        let Some(contact) = self.peers.contacts.get_mut(&id) else {
            return;
        };
        if contact.watched.is_some_and(|watched| watched <= at) {
            return;
        }
        if let Some(watched) = contact.watched.replace(at) {
            self.wakeups.cancel(watched, Wake::Peer(id));
        }
        self.wakeups.at(at, Wake::Peer(id));
    }

    pub(super) fn peer_due(
        &mut self,
        now: Timestamp,
        _entropy: &mut dyn Entropy,
        id: PeerId,
        out: &mut Vec<Output>,
    ) {
        let (Some(peer), Some(contact)) =
            (self.peers.peers.get(&id), self.peers.contacts.get_mut(&id))
        else {
            return;
        };
        contact.watched = None;
        if !peer.enabled() {
            return;
        }
        let interval = peer.settings.heartbeat_interval;
        let patience = interval * peer.settings.failure_threshold;
        let lost_at = after(contact.heard, patience);
        if lost_at <= now && !contact.lost {
            contact.lost = true;
            self.peers.due.alarms = true;
        }
        let mut next = if contact.lost {
            after(now, interval)
        } else {
            lost_at
        };
        let silent_at = after(contact.heard.max(contact.linked), patience);
        match contact.link {
            Some(link) if silent_at <= now => {
                self.close_peer(now, link, PeerGoodbye::Silence, out);
                next = now;
            }
            Some(link) => {
                if contact.beat_at <= now {
                    contact.beat_at = after(now, interval);
                    out.push(send(link, PeerMessage::Heartbeat));
                }
                next = next.min(contact.beat_at).min(silent_at);
            }
            None => {
                if let Some(dial) = dial(self.config.id, peer) {
                    if contact.dial_at <= now {
                        contact.dial_at = after(now, DIAL_TIMEOUT);
                        out.push(Output::Peer(dial));
                    }
                    next = next.min(contact.dial_at);
                }
            }
        }
        self.watch_peer(id, next);
    }

    pub(super) fn dial_failed(&mut self, now: Timestamp, entropy: &mut dyn Entropy, id: PeerId) {
        let Some(contact) = self.peers.contacts.get_mut(&id) else {
            return;
        };
        if contact.link.is_none() {
            contact.dial_at = after(now, contact.backoff.fail(entropy));
            let at = contact.dial_at;
            self.watch_peer(id, at);
        }
    }

    pub(super) fn peer_opened(
        &mut self,
        now: Timestamp,
        link: PeerLinkId,
        controller: ControllerId,
        authority: Fingerprint,
        source: IpAddr,
        out: &mut Vec<Output>,
    ) {
        let (id, unwelcome) = match self.peers.peer_of(controller) {
            None => return close(link, PeerGoodbye::Unknown, out),
            Some(peer) => (peer.id, self.unwelcome_peer(peer, authority, source)),
        };
        if let Some(goodbye) = unwelcome {
            return close(link, goodbye, out);
        }
        if let Some(old) = self.peers.contacts.get(&id).and_then(|c| c.link) {
            self.close_peer(now, old, PeerGoodbye::Superseded, out);
        }
        let state = PeerLink {
            peer: id,
            judged: None,
            verdict: None,
            ready: false,
        };
        self.peers.links.insert(link, state);
        if let Some(contact) = self.peers.contacts.get_mut(&id) {
            contact.link = Some(link);
            contact.linked = now;
            contact.beat_at = now;
            contact.goodbye = None;
        }
        let card = Box::new(self.peers.card.clone());
        out.push(send(link, PeerMessage::Hello(card)));
        self.watch_peer(id, now);
    }

    fn unwelcome_peer(
        &self,
        peer: &SystemPeer,
        authority: Fingerprint,
        source: IpAddr,
    ) -> Option<PeerGoodbye> {
        if peer.established()?.card.authority.key != authority {
            return Some(PeerGoodbye::Unknown);
        }
        if !peer.enabled() {
            return Some(PeerGoodbye::Disabled);
        }
        let over = Some(Family::of(source.to_canonical()));
        let strict = self.config.source_check == SourceCheck::Strict;
        (strict && over != self.peers.card.link_family()).then_some(PeerGoodbye::WrongFamily)
    }

    /// The peer was heard from.
    pub(super) fn peer_heard(&mut self, now: Timestamp, id: PeerId) {
        if let Some(contact) = self.peers.contacts.get_mut(&id) {
            contact.heard = contact.heard.max(now);
            contact.ever_heard = true;
            self.peers.due.alarms |= std::mem::take(&mut contact.lost);
        }
    }

    pub(super) fn peer_closed(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        link: PeerLinkId,
    ) {
        let Some(peer) = self.peers.links.get(&link).map(|state| state.peer) else {
            return;
        };
        self.peer_unlinked(now, link);
        self.dial_failed(now, entropy, peer);
    }

    /// The stream is gone; the next attempt may come at once.
    fn peer_unlinked(&mut self, now: Timestamp, link: PeerLinkId) {
        let Some(state) = self.peers.links.remove(&link) else {
            return;
        };
        self.peers.due.alarms = true;
        self.peers
            .hearing
            .retain(|(_, peer), _| *peer != state.peer);
        let Some(contact) = self.peers.contacts.get_mut(&state.peer) else {
            return;
        };
        if contact.link == Some(link) {
            contact.link = None;
            contact.dial_at = contact.dial_at.max(now);
            let at = contact.dial_at;
            self.watch_peer(state.peer, at);
        }
    }

    pub(super) fn close_peer(
        &mut self,
        now: Timestamp,
        link: PeerLinkId,
        goodbye: PeerGoodbye,
        out: &mut Vec<Output>,
    ) {
        self.peer_unlinked(now, link);
        close(link, goodbye, out);
    }

    /// The process ends: peers are told to expect the next one.
    pub(in super::super) fn part_from_peers(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let links: Vec<PeerLinkId> = self.peers.links.keys().copied().collect();
        for link in links {
            self.close_peer(now, link, PeerGoodbye::ShuttingDown, out);
        }
    }

    /// The peer ended the link and said why.
    pub(super) fn peer_dismissed(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        link: PeerLinkId,
        goodbye: PeerGoodbye,
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peers.links.get(&link).map(|state| state.peer) else {
            return;
        };
        self.close_peer(now, link, goodbye, out);
        if let Some(contact) = self.peers.contacts.get_mut(&peer) {
            contact.goodbye = Some(goodbye);
        }
        self.dial_failed(now, entropy, peer);
    }

    /// The link of a peer over which members are synchronised.
    pub(super) fn ready_link(&self, peer: PeerId) -> Option<PeerLinkId> {
        let link = self.peers.contacts.get(&peer)?.link?;
        self.peers.links.get(&link).filter(|state| state.ready)?;
        Some(link)
    }
}

/// Of two peers the one with the lower id dials.
fn dial(own: ControllerId, peer: &SystemPeer) -> Option<PeerOutput> {
    let card = &peer.established()?.card;
    (own < card.controller).then(|| PeerOutput::Dial {
        peer: peer.id,
        controller: card.controller,
        endpoints: card.endpoints.clone(),
        authority: card.authority.key,
    })
}

pub(super) fn send(link: PeerLinkId, message: PeerMessage) -> Output {
    Output::Peer(PeerOutput::Send { link, message })
}

fn close(link: PeerLinkId, goodbye: PeerGoodbye, out: &mut Vec<Output>) {
    out.push(Output::Peer(PeerOutput::Close { link, goodbye }));
}
