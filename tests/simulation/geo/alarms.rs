//! No alarm without a cause, and each cause with its alarm in the end.

use std::collections::BTreeSet;

use fleet::{
    AlarmKind, AssociationState, Availability, Event, EventKind, LinkId, MISSED_HEARTBEATS,
    PeerAlarm, RESTART_GRACE, SubcloudId,
};
use site::Timestamp;

use super::{Geo, GeoSabotage, Node};

impl Geo {
    /// An alarm about a peer has a cause: it was not heard for that long, or the two sites have
    /// had different families; one about a group: its leader took a member over.
    pub(super) fn check_alarm(&mut self, index: usize, alarm: &PeerAlarm) {
        if alarm.severity.is_none() || self.sabotage == Some(GeoSabotage::NoSync) {
            return;
        }
        if alarm.id == "280.005" {
            return self.check_led_elsewhere(index);
        }
        if alarm.id == "280.006" {
            return self.check_refused(index, alarm);
        }
        let named = |other: &usize| alarm.entity == format!("system_peer=site-{other}");
        let Some(other) = (0..self.sites.len()).find(named) else {
            return self.fail(format!("an alarm about {} that is no peer", alarm.entity));
        };
        if alarm.text.contains("cannot be reached") {
            self.check_peer_lost(index, other);
        } else if self.oracle.always_one_family(index, other) {
            self.fail(format!(
                "site {index} suspends site {other}, which always had its family"
            ));
        }
    }

    fn check_peer_lost(&mut self, index: usize, other: usize) {
        let Some(heard) = self.oracle.heard.get(&(index, other)) else {
            return;
        };
        let node = &self.sites[index];
        let quiet = node.clock.at(self.now).0.saturating_sub(heard.0);
        let patience = fleet::PEER_HEARTBEAT * fleet::PEER_FAILURE_THRESHOLD;
        if u128::from(quiet) < patience.as_millis() {
            self.fail(format!(
                "site {index} calls site {other} lost after {quiet} ms"
            ));
        }
    }

    fn check_led_elsewhere(&mut self, index: usize) {
        let Some(machine) = &self.sites[index].machine else {
            return;
        };
        let own = machine.config().id;
        let leaders = machine.peer_groups().map(|group| &group.leader);
        let others = leaders.filter(|leader| leader.controller != own && leader.term > 1);
        let moved = |leader: &fleet::Leader| self.oracle.has_taken_over(leader.controller);
        let idle: Vec<String> = others
            .filter(|leader| !moved(leader))
            .map(|leader| leader.name.clone())
            .collect();
        if let Some(name) = idle.first() {
            self.fail(format!("{name} leads a group and took nobody over"));
        }
    }

    /// Something of a group is refused at one of the two sites.
    fn check_refused(&mut self, index: usize, alarm: &PeerAlarm) {
        let machine = self.sites[index].machine.as_ref();
        let failed = machine.is_some_and(|machine| {
            let mut known = machine.associations();
            known.any(|known| {
                let view = machine.association_view(known);
                view.state == AssociationState::Failed || !known.faults.is_empty()
            })
        });
        if !failed {
            let text = &alarm.text;
            self.fail(format!("site {index} says without a cause: {text}"));
        }
    }

    /// The site hears from a subcloud, if this is its one live link and not an old one.
    pub(super) fn heard_subcloud(&mut self, index: usize, wire: u64) {
        let subcloud = self.wires.get(&wire).and_then(super::Wire::subcloud);
        let Some(id) = subcloud.map(|subcloud| self.subclouds[subcloud].id()) else {
            return;
        };
        let node = &self.sites[index];
        let machine = node.machine.as_ref();
        if machine.is_some_and(|machine| machine.presence(id).link == Some(LinkId(wire))) {
            let at = node.clock.at(self.now);
            self.oracle.heard_subcloud.insert((index, id), at);
        }
    }

    /// What a site says has happened did.
    pub(super) fn check_event(&mut self, index: usize, event: &Event) {
        if self.sabotage == Some(GeoSabotage::NoSync) {
            return;
        }
        match &event.kind {
            EventKind::Offline => {
                self.check_offline(index, event.subcloud);
                let gone = event.subcloud.map(|id| (index, id));
                self.oracle.offline.extend(gone);
            }
            EventKind::Online => {
                let back = event.subcloud.map(|id| (index, id));
                self.oracle.offline.retain(|gone| Some(*gone) != back);
                let back = back.map(|back| (back, event.at));
                self.oracle.came_online.extend(back);
            }
            EventKind::IdentityCloned { .. } => {
                self.fail(format!("{} was shut out, and nobody copied it", event.name));
            }
            EventKind::AlarmRaised { alarm, .. } => self.check_raised(index, *alarm, event),
            _ => {}
        }
    }

    fn check_raised(&mut self, index: usize, alarm: AlarmKind, event: &Event) {
        let disk = &self.sites[index].durable;
        let record = event.subcloud.and_then(|id| disk.subclouds.get(&id));
        let cause = record.is_some_and(|record| match alarm {
            AlarmKind::Offline => record.managed() && record.owned_here(),
            AlarmKind::Quarantined => record.quarantined(),
            AlarmKind::OutOfSync => record.managed() && record.quarantined(),
            AlarmKind::IdentityCloned | AlarmKind::MassOutage => false,
        });
        if !cause {
            let (id, name) = (alarm.id(), &event.name);
            self.fail(format!("alarm {id} of {name} at site {index} has no cause"));
        }
        // An operator may manage what was called offline long before, and that was judged then. A
        // word that is turned away does not bring it back.
        let known = event.subcloud;
        if known.is_some_and(|id| self.oracle.offline.contains(&(index, id))) {
            return;
        }
        // It is told when it is on disk, and the subcloud may be back by then.
        let heard = event
            .subcloud
            .and_then(|id| self.oracle.heard_subcloud.get(&(index, id)));
        let online = event
            .subcloud
            .and_then(|id| self.oracle.came_online.get(&(index, id)));
        let back = heard.is_some_and(|heard| *heard > event.at) || online >= Some(&event.at);
        if alarm == AlarmKind::Offline && !back {
            self.check_offline(index, event.subcloud);
        }
    }

    /// Nobody is called offline who was heard from, nor before a restart's grace is over.
    fn check_offline(&mut self, index: usize, subcloud: Option<SubcloudId>) {
        let Some(id) = subcloud else {
            return;
        };
        let interval = fleet::HEARTBEAT_INTERVAL * MISSED_HEARTBEATS;
        let (since, grace) = match self.oracle.heard_subcloud.get(&(index, id)) {
            Some(heard) => (*heard, interval),
            None => {
                let started = self.oracle.started.get(&index).copied();
                (started.unwrap_or(Timestamp(0)), RESTART_GRACE)
            }
        };
        let now = self.sites[index].clock.at(self.now);
        let quiet = now.0.saturating_sub(since.0);
        if u128::from(quiet) < grace.as_millis() {
            self.fail(format!(
                "site {index} calls subcloud {id} offline after only {quiet} ms"
            ));
        }
    }

    /// The alarms of a site that are not what they should be once everything is well.
    pub(super) fn wrong_alarms(&self, index: usize) -> Option<String> {
        let node = &self.sites[index];
        let machine = node.machine.as_ref()?;
        let mut expected = BTreeSet::new();
        for group in machine.peer_groups() {
            if group.leader.controller != machine.config().id
                && group.leader.priority > group.priority
            {
                expected.insert("280.005");
            }
        }
        let raised: BTreeSet<&str> = machine.peer_alarms().map(|alarm| alarm.id).collect();
        if raised != expected {
            return Some(format!("alarms {raised:?} instead of {expected:?}"));
        }
        // A site that nobody tells that a subcloud obeys another one misses it rightly.
        let missed = |id: SubcloudId| {
            let record = machine.fleet().subcloud(id);
            record.is_some_and(|record| {
                let away = machine.presence(id).availability == Availability::Offline;
                let untold = record.geo.group.is_none() || self.left_its_owners_group(id);
                away && record.managed() && record.owned_here() && untold
            })
        };
        let mut expected: BTreeSet<SubcloudId> = machine
            .fleet()
            .subclouds()
            .map(|record| record.id)
            .filter(|id| missed(*id))
            .collect();
        for alarm in node.durable.alarms.values() {
            let missing = alarm.key.kind == AlarmKind::Offline;
            let about = alarm.key.subcloud.filter(|_| missing);
            if !about.is_some_and(|id| expected.remove(&id)) {
                return Some(format!("alarm {:?} is still raised", alarm.reason));
            }
        }
        let id = expected.first()?;
        Some(format!("no alarm tells that subcloud {id} is missed"))
    }

    /// An agent that says that it has lost its owner has not heard it for the failover time.
    pub(super) fn check_lost(&mut self, index: usize, hello: &fleet::Hello) {
        let node = &self.subclouds[index];
        let (Some(_), Some(machine)) = (hello.owner_lost, &node.machine) else {
            return;
        };
        let now = node.clock.at(self.now);
        let quiet = now.0.saturating_sub(node.heard_owner.0);
        let failover = machine.record().alternates.failover;
        if u128::from(quiet) < failover.as_millis() {
            self.fail(format!(
                "subcloud {index} gives its owner up after {quiet} ms"
            ));
        }
    }

    /// A live link joins sites of one family.
    pub(super) fn check_link_families(&mut self, index: usize) {
        let node = &self.sites[index];
        let Some(machine) = &node.machine else {
            return;
        };
        let wrong = self.subclouds.iter().find(|subcloud| {
            let link = machine.presence(subcloud.id()).link;
            let wire = link.and_then(|link| self.wires.get(&link.0));
            let alive = wire.is_some_and(|wire| {
                wire.carries_life_of(Node::Site(index), node.life) && !wire.is_dead()
            });
            alive && subcloud.site.link_family() != node.family()
        });
        if let Some(subcloud) = wrong {
            let name = subcloud.name();
            self.fail(format!(
                "{name} has a link to site {index} of another family"
            ));
        }
    }
}
