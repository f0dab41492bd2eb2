//! The controller's side of geo-redundancy: peers, shared groups, and who owns what.

mod alarms;
mod book;
mod calls;
mod claims;
mod contact;
mod handshake;
mod hearing;
mod merging;
mod moving;
mod sharing;
mod speaking;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use site::Timestamp;

use crate::{
    Association, CardDigest, ControllerId, PeerAlarm, PeerCard, PeerGroup, PeerGroupId, PeerId,
    PeerInput, PeerLinkId, SubcloudId, SystemPeer,
};

pub use calls::{association_not_found, peer_group_not_found, system_peer_not_found};
pub(super) use claims::Claimed;
use contact::{Contact, PeerLink};
use hearing::Hearing;
pub use moving::{HANDOVER_PATIENCE, MIGRATION_PATIENCE};
use moving::{Handover, Moving};
pub use speaking::SYNC_DELAY;
use speaking::{Speaking, Told};
pub use view::{AssociationView, GroupView, PeerAvailability, PeerView};

use super::{Controller, Output};

/// Everything that the machine knows of peers. Records are durable, or on their way there; the
/// rest is true only of the running process.
#[derive(Debug)]
pub(super) struct Peers {
    card: PeerCard,
    card_digest: CardDigest,
    peers: BTreeMap<PeerId, SystemPeer>,
    groups: BTreeMap<PeerGroupId, PeerGroup>,
    associations: BTreeMap<(PeerGroupId, PeerId), Association>,
    /// Associations that operators ended here.
    withdrawn: BTreeMap<(PeerGroupId, PeerId), Association>,
    /// The members of each group.
    members: BTreeMap<PeerGroupId, BTreeSet<SubcloudId>>,
    links: BTreeMap<PeerLinkId, PeerLink>,
    contacts: BTreeMap<PeerId, Contact>,
    /// What would be told of each group.
    told: BTreeMap<PeerGroupId, Told>,
    speaking: BTreeMap<(PeerGroupId, PeerId), Speaking>,
    hearing: BTreeMap<(PeerGroupId, PeerId), Hearing>,
    /// When what could not be taken in is read again.
    rereads: BTreeMap<(PeerGroupId, PeerId), Timestamp>,
    moving: BTreeMap<PeerGroupId, Moving>,
    /// Members that a peer asked for, until their agents have gone there.
    handovers: BTreeMap<SubcloudId, Handover>,
    alarms: BTreeMap<(&'static str, String), PeerAlarm>,
    due: Due,
}

/// What is to be looked at before a step ends.
#[derive(Debug, Default)]
struct Due {
    /// Groups that changed and must be offered.
    offers: BTreeSet<PeerGroupId>,
    /// Groups with room for another member on its way.
    moves: BTreeSet<PeerGroupId>,
    /// Peers whose link ranges a subcloud came to overlap, or no longer does.
    judged: BTreeSet<PeerId>,
    /// Subclouds whose agents may have to be told other controllers.
    alternates: BTreeSet<SubcloudId>,
    /// Something changed that alarms speak of.
    alarms: bool,
}

/// How far another side may be ahead in what is counted: the terms of a subcloud, the renewals of
/// its certificate, the edits of a group, the changes of its leader. Nobody gets there honestly,
/// and counters that are told cannot run out.
const MAX_STEP: u64 = 1 << 32;

/// Whether an honest side can have counted so far.
pub(super) fn reachable(told: u64, known: u64) -> bool {
    told.saturating_sub(known) <= MAX_STEP
}

impl Peers {
    pub(super) fn new(card: PeerCard) -> Self {
        Self {
            card_digest: card.digest(),
            card,
            peers: BTreeMap::new(),
            groups: BTreeMap::new(),
            associations: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            members: BTreeMap::new(),
            links: BTreeMap::new(),
            contacts: BTreeMap::new(),
            told: BTreeMap::new(),
            speaking: BTreeMap::new(),
            hearing: BTreeMap::new(),
            rereads: BTreeMap::new(),
            moving: BTreeMap::new(),
            handovers: BTreeMap::new(),
            alarms: BTreeMap::new(),
            due: Due::default(),
        }
    }

    fn peer_of(&self, controller: ControllerId) -> Option<&SystemPeer> {
        let same = |peer: &&SystemPeer| peer.controller() == Some(controller);
        self.peers.values().find(same)
    }

    /// The associations of a group.
    fn associations_of(&self, group: PeerGroupId) -> impl Iterator<Item = &Association> {
        let all = (group, PeerId(uuid::Uuid::nil()))..=(group, PeerId(uuid::Uuid::max()));
        self.associations.range(all).map(|(_, known)| known)
    }
}

impl Controller {
    pub(super) fn peer_input(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn crate::Entropy,
        input: PeerInput,
        out: &mut Vec<Output>,
    ) {
        match input {
            PeerInput::Call(call) => self.peer_call(now, call, out),
            PeerInput::Accept(call) => self.accept_peering(now, call, out),
            PeerInput::Opened {
                link,
                controller,
                authority,
                source,
            } => self.peer_opened(now, link, controller, authority, source, out),
            PeerInput::DialFailed { peer } => self.dial_failed(now, entropy, peer),
            PeerInput::Message { link, message } => {
                self.peer_message(now, entropy, link, message, out);
            }
            PeerInput::Closed { link } => self.peer_closed(now, entropy, link),
        }
    }

    /// Ends a step: what the step made necessary is done once, however often it was.
    pub(super) fn settle_peers(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn crate::Entropy,
        out: &mut Vec<Output>,
    ) {
        for peer in std::mem::take(&mut self.peers.due.judged) {
            if let Some(link) = self.peers.contacts.get(&peer).and_then(|known| known.link) {
                self.judge_again(now, link, peer, out);
            }
        }
        for group in std::mem::take(&mut self.peers.due.moves) {
            self.drive_move(now, entropy, group, out);
        }
        self.schedule_offers(now);
        self.tell_alternates(out);
        self.settle_alarms(out);
    }
}
