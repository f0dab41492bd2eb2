//! The controller's own networks, which every subcloud keeps beside its own: who is told, who has
//! them, and alarm 280.002 for who has not.

use std::time::Duration;

use site::{Site, Timestamp, advice_at};

use crate::entropy::after;
use crate::{
    AlarmKey, ControllerMessage, ControllerNetworks, LinkId, MAX_REPORT_SPREAD, NetworksAnswer,
    NetworksDigest, SharedSubcloud,
};

use super::alarms::{watched, words_of};
use super::{Batch, Controller, Output, PENDING_HEARTBEATS, Wake};

/// When all subclouds are told at once, their reports come this far apart on average, once all had
/// the time to answer: a thousand in a second, which leaves most of the controller's time to
/// everything else.
pub const REPORT_SPACING: Duration = Duration::from_millis(1);

/// What subclouds shall keep.
#[derive(Debug)]
pub(super) struct OwnNetworks {
    pub(super) networks: ControllerNetworks,
    digest: NetworksDigest,
    /// When the next one looks for subclouds that have not answered.
    looks_at: Option<Timestamp>,
}

impl OwnNetworks {
    pub(super) fn of(site: &Site) -> Self {
        let networks = ControllerNetworks::of(site);
        Self {
            digest: networks.digest(),
            networks,
            looks_at: None,
        }
    }
}

/// How far the site at the other end of a link is with the controller's networks.
#[derive(Debug, Default)]
pub(super) enum Networks {
    /// It has none.
    #[default]
    None,
    /// It has these.
    Kept(NetworksDigest),
    /// It was told these and has not answered.
    Told(NetworksDigest, Timestamp),
    /// It cannot have these; why, and what to do about it.
    Refused(NetworksDigest, Box<(String, String)>),
}

impl Networks {
    pub(super) fn of_hello(kept: Option<NetworksDigest>) -> Self {
        kept.map_or(Self::None, Self::Kept)
    }

    fn digest(&self) -> Option<NetworksDigest> {
        match self {
            Self::None => None,
            Self::Kept(digest) | Self::Told(digest, _) | Self::Refused(digest, _) => Some(*digest),
        }
    }
}

impl Controller {
    /// The controller's own site changed: every agent whose copy is old now is told.
    pub(super) fn site_changed(&mut self, now: Timestamp, site: &Site, out: &mut Vec<Output>) {
        let own = OwnNetworks::of(site);
        if own.digest == self.own.digest {
            return;
        }
        let looks_at = self.own.looks_at;
        self.own = OwnNetworks { looks_at, ..own };
        let greeted = self.links.iter().filter(|(_, link)| link.greeted);
        let greeted: Vec<LinkId> = greeted.map(|(id, _)| *id).collect();
        let many = u32::try_from(greeted.len()).unwrap_or(u32::MAX);
        let turns = REPORT_SPACING.saturating_mul(many);
        let report_within = turns.saturating_mul(2).min(MAX_REPORT_SPREAD);
        for link in greeted {
            self.tell_networks(now, link, report_within, out);
        }
    }

    /// Tells an agent the controller's networks, unless it knows them; `since` is the moment from
    /// which it has time to answer.
    pub(super) fn tell_networks(
        &mut self,
        since: Timestamp,
        link: LinkId,
        report_within: Duration,
        out: &mut Vec<Output>,
    ) {
        let digest = self.own.digest;
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let subcloud = state.subcloud;
        if state.networks.digest() == Some(digest) {
            self.mark(subcloud);
            return;
        }
        state.networks = Networks::Told(digest, since);
        self.look_at(after(since, self.networks_grace()));
        let record = self.fleet.subcloud(subcloud);
        out.push(Output::Send {
            link,
            message: ControllerMessage::Networks {
                epoch: record.map(|known| known.epoch()).unwrap_or_default(),
                networks: self.own.networks.clone(),
                report_within,
            },
        });
    }

    /// A site has changed: one that could not take the networks over is told them again, and so is
    /// one that has `lost` them since it took them over, by a hand at the site say.
    pub(super) fn tell_networks_again(
        &mut self,
        now: Timestamp,
        link: LinkId,
        lost: bool,
        out: &mut Vec<Output>,
    ) {
        let present = self.own.digest;
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let again = match &state.networks {
            Networks::Refused(..) => true,
            Networks::Kept(digest) => lost && *digest == present,
            // It is about to be told, or has not answered.
            Networks::None | Networks::Told(..) => false,
        };
        if again {
            state.networks = Networks::None;
            self.tell_networks(now, link, Duration::ZERO, out);
        }
    }

    /// An agent says what became of the networks. An answer to earlier ones tells nothing.
    pub(super) fn networks_answered(&mut self, link: LinkId, answer: NetworksAnswer) {
        let NetworksAnswer { digest, faults } = answer;
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if state.networks.digest() != Some(digest) {
            return;
        }
        state.networks = match faults.is_empty() {
            true => Networks::Kept(digest),
            false => Networks::Refused(digest, Box::new(words_of(&faults))),
        };
        let subcloud = state.subcloud;
        self.mark(subcloud);
    }

    /// Looks for subclouds that had time enough to answer.
    pub(super) fn networks_due(&mut self, now: Timestamp) {
        self.own.looks_at = None;
        let grace = self.networks_grace();
        let asked = self.links.values().filter_map(|link| match link.networks {
            Networks::Told(_, since) => Some((link.subcloud, after(since, grace))),
            _ => None,
        });
        let (overdue, later): (Vec<_>, Vec<_>) = asked.partition(|(_, due)| *due <= now);
        for (subcloud, _) in overdue {
            self.mark(subcloud);
        }
        if let Some(next) = later.into_iter().map(|(_, due)| due).min() {
            // Not for each one alone: agents that came one after another fall due like that.
            self.look_at(next.max(after(now, self.config.heartbeat_interval)));
        }
    }

    /// Makes the alarm of a subcloud what it should be. While its agent is away nothing is known:
    /// what was raised stays.
    pub(super) fn settle_networks(
        &mut self,
        now: Timestamp,
        record: &SharedSubcloud,
        batch: &mut Batch,
    ) {
        let key = AlarmKey::networks_pending(record.id);
        if !watched(record) {
            self.clear(now, &key, batch);
            return;
        }
        let link = self.presence(record.id).link;
        let link = link.and_then(|link| self.links.get(&link));
        let (why, repair) = match link.map(|link| &link.networks) {
            Some(Networks::Kept(digest)) if *digest == self.own.digest => {
                self.clear(now, &key, batch);
                return;
            }
            // It is away, or about to be told.
            None | Some(Networks::None | Networks::Kept(_)) => return,
            Some(Networks::Told(_, since)) if now < after(*since, self.networks_grace()) => return,
            Some(Networks::Told(..)) => (
                "its agent has not answered".to_owned(),
                "look at the log of the subcloud's agent, and restart it: it is told again when \
                 its link comes up"
                    .to_owned(),
            ),
            Some(Networks::Refused(_, words)) => words.as_ref().clone(),
        };
        let name = &record.name;
        let reason = format!("the controller's networks are not in effect at {name}: {why}");
        self.raise(now, key, reason, advice_at(&repair, name), batch);
    }

    /// How long an agent has to answer.
    fn networks_grace(&self) -> Duration {
        self.config.heartbeat_interval * PENDING_HEARTBEATS
    }

    /// Sees to it that somebody looks at this moment, or earlier and then again.
    fn look_at(&mut self, at: Timestamp) {
        if self.own.looks_at.is_none_or(|set| at < set) {
            self.own.looks_at = Some(at);
            self.wakeups.at(at, Wake::Networks);
        }
    }
}
