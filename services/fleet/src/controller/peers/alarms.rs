//! Alarms about peers: each has a cause in what is known now, and none is without one.

use std::collections::BTreeMap;

use crate::{
    Association, Fault, PeerAlarm, PeerGoodbye, PeerGroup, PeerOutput, PeerSeverity, SystemPeer,
};

use super::super::{Controller, Output};

/// A peer cannot be reached, or must not be synchronised with.
const PEER_LOST: &str = "280.004";

/// A site of lower priority leads a group.
const GROUP_ELSEWHERE: &str = "280.005";

/// A site cannot take in all that the other one tells of a group.
const GROUP_REFUSED: &str = "280.006";

impl PeerAlarm {
    /// Every id, with each severity that it can have.
    pub const KINDS: [(&'static str, PeerSeverity); 4] = [
        (PEER_LOST, PeerSeverity::Critical),
        (PEER_LOST, PeerSeverity::Major),
        (GROUP_ELSEWHERE, PeerSeverity::Major),
        (GROUP_REFUSED, PeerSeverity::Major),
    ];
}

impl Controller {
    /// Every alarm about peers and groups, by id and entity.
    pub fn peer_alarms(&self) -> impl Iterator<Item = &PeerAlarm> {
        self.peers.alarms.values()
    }

    /// Raises, changes and clears what the step made necessary.
    pub(super) fn settle_alarms(&mut self, out: &mut Vec<Output>) {
        if !std::mem::take(&mut self.peers.due.alarms) {
            return;
        }
        let alarms = self.alarms_of_now();
        for (key, old) in &self.peers.alarms {
            if !alarms.contains_key(key) {
                let cleared = PeerAlarm {
                    severity: None,
                    ..old.clone()
                };
                out.push(Output::Peer(PeerOutput::Alarm(cleared)));
            }
        }
        for (key, alarm) in &alarms {
            if self.peers.alarms.get(key) != Some(alarm) {
                out.push(Output::Peer(PeerOutput::Alarm(alarm.clone())));
            }
        }
        self.peers.alarms = alarms;
    }

    fn alarms_of_now(&self) -> BTreeMap<(&'static str, String), PeerAlarm> {
        let peers = self.peers.peers.values();
        let groups = self.peers.groups.values();
        let shared = self.peers.associations.values();
        let alarms = peers
            .filter_map(|peer| self.peer_alarm(peer))
            .chain(groups.filter_map(|group| self.group_alarm(group)))
            .chain(shared.filter_map(|known| self.association_alarm(known)));
        alarms
            .map(|alarm| ((alarm.id, alarm.entity.clone()), alarm))
            .collect()
    }

    fn peer_alarm(&self, peer: &SystemPeer) -> Option<PeerAlarm> {
        let known = peer.established()?;
        let contact = self.peers.contacts.get(&peer.id)?;
        if !peer.enabled() {
            return None;
        }
        let leads = self.peers.groups.values().any(|group| {
            group.leader.controller == known.card.controller
                && self.peers.associations.contains_key(&(group.id, peer.id))
        });
        let (severity, text) = if contact.lost {
            let severity = if leads {
                PeerSeverity::Critical
            } else {
                PeerSeverity::Major
            };
            let why = match contact.goodbye {
                Some(PeerGoodbye::Disabled) => ": the peering is disabled at the other site",
                Some(PeerGoodbye::Unknown) => ": the other site does not know this one",
                _ => "",
            };
            let leading = if leads {
                ", which leads a peer group,"
            } else {
                ""
            };
            let text = format!("system peer {}{leading} cannot be reached{why}", peer.name);
            (severity, text)
        } else {
            let fault = known.suspended.first()?;
            let text = format!(
                "system peer {} is suspended, nothing is synchronised: {}",
                peer.name, fault.message
            );
            (PeerSeverity::Major, text)
        };
        Some(PeerAlarm {
            id: PEER_LOST,
            entity: format!("system_peer={}", peer.name),
            severity: Some(severity),
            text,
        })
    }

    fn group_alarm(&self, group: &PeerGroup) -> Option<PeerAlarm> {
        let leader = &group.leader;
        if leader.controller == self.config.id || leader.priority <= group.priority {
            return None;
        }
        Some(PeerAlarm {
            id: GROUP_ELSEWHERE,
            entity: format!("subcloud_peer_group={}", group.header.name),
            severity: Some(PeerSeverity::Major),
            text: format!(
                "subcloud peer group {} is led by {} (priority {}), this site has priority {}; \
                 `tandem dcmanager subcloud-peer-group migrate {}` takes it back",
                group.header.name, leader.name, leader.priority, group.priority, group.header.name
            ),
        })
    }

    /// A claim of a term that is over is none: it ends when its site hears of the newer one.
    fn association_alarm(&self, known: &Association) -> Option<PeerAlarm> {
        let peer = self.peers.peers.get(&known.peer)?;
        let group = &self.peers.groups.get(&known.group)?.header.name;
        if known.ended || !peer.enabled() || peer.suspended() {
            return None;
        }
        let counts = |fault: &&Fault| fault.reason != "EPOCH_STALE";
        let here: Vec<&Fault> = known.faults.iter().filter(counts).collect();
        let speaking = self.peers.speaking.get(&(known.group, known.peer));
        let there = speaking.into_iter().flat_map(|it| &it.faults);
        let there: Vec<&Fault> = there.filter(counts).collect();
        let (faults, who) = if there.is_empty() {
            let told = format!("system peer {} tells of", peer.name);
            (here, format!("this site cannot take in all that {told}"))
        } else {
            let who = format!("system peer {}", peer.name);
            (
                there,
                format!("{who} cannot take in all that this site tells of"),
            )
        };
        let more = match faults.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        Some(PeerAlarm {
            id: GROUP_REFUSED,
            entity: format!("subcloud_peer_group={group}.system_peer={}", peer.name),
            severity: Some(PeerSeverity::Major),
            text: format!(
                "{who} subcloud peer group {group}: {}{more}",
                faults.first()?.message
            ),
        })
    }
}
