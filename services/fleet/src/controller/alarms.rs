//! The alarm book: what is wrong in the fleet, kept true after every step.
//!
//! Alarms follow from records and availability. Whatever changes one of these marks the subcloud;
//! at the end of the step the alarms of marked subclouds are compared with what they should be,
//! and the differences are written, so many in one batch. What does not fit waits for that batch,
//! so a fleet that goes at once costs a bounded number of writes at a time, and one event and one
//! record for each subcloud in all.
//!
//! No storm: a link that is down for less than [`super::MISSED_HEARTBEATS`] raises nothing; an
//! alarm is cleared only when its subcloud has been back for [`SETTLED_HEARTBEATS`]; and each
//! relapse within [`FLAP_MEMORY`] doubles that time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use site::{Timestamp, advice_at};

use crate::entropy::{after, since};
use crate::{
    AlarmCounts, AlarmKey, AlarmKind, EventKind, Fault, FleetAlarm, SharedAlarm, SharedSubcloud,
    SubcloudId, Sync,
};

use super::{Availability, Batch, Controller, Output, Wake, Write};

/// When more managed subclouds than this go offline within one heartbeat interval, one alarm
/// tells of it beside theirs; when no more than this are left of them, it is cleared.
pub const MASS_OUTAGE: usize = 20;

/// A returned subcloud is believed after this many heartbeat intervals: one more than make it
/// offline, so that an agent that came for a moment only is found out first.
pub const SETTLED_HEARTBEATS: u32 = super::MISSED_HEARTBEATS + 1;

/// A relapse within this time after its alarm was cleared counts as flapping.
pub const FLAP_MEMORY: Duration = Duration::from_secs(60 * 60);

/// How often flapping doubles the time until a return is believed: 16 times, which is under
/// eleven minutes at the default heartbeat interval.
const MAX_DOUBLINGS: u32 = 4;

/// Writes of one batch. Ten thousand alarms are 120 batches, each far below the store's limits.
const MAX_ALARM_WRITES: usize = 256;

/// The most characters of a refusal that an alarm repeats; the record has all of it.
const MAX_REASON: usize = 400;

/// What is raised, and what must be looked at.
#[derive(Debug, Default)]
pub(super) struct AlarmBook {
    raised: BTreeMap<AlarmKey, SharedAlarm>,
    /// Subclouds whose alarms may not be what they should be.
    marked: BTreeSet<SubcloudId>,
    /// Subclouds whose offline alarm was cleared within [`FLAP_MEMORY`].
    relapses: BTreeMap<SubcloudId, Relapses>,
    /// The moments of the newest offline alarms, at most one more than [`MASS_OUTAGE`].
    newest: VecDeque<Timestamp>,
    /// Offline alarms that are raised since the mass outage began; meaningful during one.
    remaining: usize,
}

/// How a subcloud has been flapping.
#[derive(Debug, Clone, Copy)]
struct Relapses {
    count: u32,
    cleared_at: Timestamp,
}

impl Controller {
    /// The raised alarms, those of the whole fleet first, then by subcloud. Memory runs ahead of
    /// the disk: what is read here may not be durable yet.
    pub fn alarms(&self) -> impl ExactSizeIterator<Item = &SharedAlarm> {
        self.alarms.raised.values()
    }

    /// How many of the fleet's alarms are about one subcloud.
    pub fn alarm_counts(&self, id: SubcloudId) -> AlarmCounts {
        let raised = self.alarms.of(id);
        AlarmCounts::of(raised.map(|alarm| alarm.key.kind.severity()))
    }

    /// Starts from what is durable; everything is looked at once.
    pub(super) fn recover_alarms(&mut self, durable: Vec<FleetAlarm>) {
        for alarm in durable {
            self.alarms.marked.extend(alarm.key.subcloud);
            self.alarms
                .raised
                .insert(alarm.key.clone(), Arc::new(alarm));
        }
        let known = self.fleet.subclouds().map(|record| record.id);
        self.alarms.marked.extend(known);
        if let Some(began) = self.outage_began() {
            self.alarms.remaining = self.alarms.offline_since(began);
        }
    }

    /// The record or the availability of a subcloud changed.
    pub(super) fn mark(&mut self, id: SubcloudId) {
        self.alarms.marked.insert(id);
    }

    /// Makes the alarms of marked subclouds what they should be, as far as one batch goes; its
    /// becoming durable is the next step.
    pub(super) fn settle_fleet_alarms(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.alarms.marked.is_empty() || self.commits.is_full() {
            return;
        }
        let mut batch = Batch::default();
        while batch.writes.len() < MAX_ALARM_WRITES {
            let Some(id) = self.alarms.marked.pop_first() else {
                break;
            };
            self.settle(now, id, &mut batch);
        }
        self.settle_outage(now, &mut batch);
        if !batch.writes.is_empty() {
            self.commit(batch, out);
        }
    }

    /// Raises an alarm, or corrects the words of one that is raised already.
    pub(super) fn raise(
        &mut self,
        now: Timestamp,
        key: AlarmKey,
        reason: String,
        repair: String,
        batch: &mut Batch,
    ) {
        let known = self.alarms.raised.get(&key);
        let alarm = FleetAlarm {
            name: self.named_by(&key),
            key,
            reason,
            repair,
            raised_at: known.map_or(now, |known| known.raised_at),
        };
        if known.is_some_and(|known| **known == alarm) {
            return;
        }
        if known.is_none() {
            let kind = EventKind::AlarmRaised {
                alarm: alarm.key.kind,
                entity: alarm.entity(),
                reason: alarm.reason.clone(),
            };
            self.log_event(batch, now, alarm.key.subcloud, &alarm.name, kind);
        }
        let alarm = Arc::new(alarm);
        batch.writes.push(Write::Alarm(Arc::clone(&alarm)));
        self.alarms.raised.insert(alarm.key.clone(), alarm);
    }

    /// Clears an alarm, if it is raised.
    pub(super) fn clear(&mut self, now: Timestamp, key: &AlarmKey, batch: &mut Batch) {
        let Some(alarm) = self.alarms.raised.remove(key) else {
            return;
        };
        batch.writes.push(Write::ForgetAlarm(alarm.uuid()));
        let kind = EventKind::AlarmCleared {
            alarm: key.kind,
            entity: alarm.entity(),
        };
        self.log_event(batch, now, key.subcloud, &alarm.name, kind);
        let began = self.outage_began();
        if key.kind == AlarmKind::Offline && began.is_some_and(|began| alarm.raised_at >= began) {
            self.alarms.remaining = self.alarms.remaining.saturating_sub(1);
        }
    }

    fn settle(&mut self, now: Timestamp, id: SubcloudId, batch: &mut Batch) {
        let Some(record) = self.fleet.subcloud(id).map(Arc::clone) else {
            self.alarms.relapses.remove(&id);
            for key in self.alarms.keys_of(id) {
                self.clear(now, &key, batch);
            }
            return;
        };
        self.settle_offline(now, &record, batch);
        self.settle_quarantine(now, &record, batch);
        self.settle_sync(now, &record, batch);
        self.settle_pending(now, &record, batch);
        self.settle_networks(now, &record, batch);
        self.settle_identity(now, &record, batch);
        self.rename(now, &record, batch);
    }

    fn settle_offline(&mut self, now: Timestamp, record: &SharedSubcloud, batch: &mut Batch) {
        let key = AlarmKey::of(record.id, AlarmKind::Offline);
        let raised = self.alarms.raised.contains_key(&key);
        if !watched(record) {
            // An operator's word, and no return: nothing was flapping.
            self.alarms.relapses.remove(&record.id);
            self.clear(now, &key, batch);
            return;
        }
        match self.presence(record.id).availability {
            Availability::Offline if !raised => {
                self.count_relapse(now, record.id);
                let reason = format!("subcloud {} is offline", record.name);
                let repair = "look at the subcloud's agent and at the network between the sites; \
                              unmanage the subcloud if it is meant to be away";
                self.raise(now, key, reason, repair.to_owned(), batch);
                self.one_more_offline(now, batch);
            }
            Availability::Online if raised => self.settle_return(now, record.id, &key, batch),
            // Unknown means that this process is too young to say: what was raised stays.
            Availability::Offline | Availability::Online | Availability::Unknown => {}
        }
    }

    /// Clears the offline alarm of a subcloud that is back, once it has been so for a while.
    fn settle_return(&mut self, now: Timestamp, id: SubcloudId, key: &AlarmKey, batch: &mut Batch) {
        let presence = self.presence(id);
        let relapses = self.alarms.relapses.get(&id);
        let doublings = relapses.map_or(0, |relapses| relapses.count.min(MAX_DOUBLINGS));
        let interval = self.config.heartbeat_interval;
        let believed = after(
            presence.online_since,
            interval * SETTLED_HEARTBEATS * (1 << doublings),
        );
        if now < believed {
            self.wakeups.at(believed, Wake::Alarms(id));
            return;
        }
        if presence.link.is_none() {
            // It may be about to go again.
            self.wakeups.at(after(now, interval), Wake::Alarms(id));
            return;
        }
        let count = relapses.map_or(0, |relapses| relapses.count);
        let cleared_at = now;
        self.alarms
            .relapses
            .insert(id, Relapses { count, cleared_at });
        self.clear(now, key, batch);
    }

    fn count_relapse(&mut self, now: Timestamp, id: SubcloudId) {
        let Some(relapses) = self.alarms.relapses.get_mut(&id) else {
            return;
        };
        if since(now, relapses.cleared_at) <= FLAP_MEMORY {
            relapses.count = relapses.count.saturating_add(1);
        } else {
            self.alarms.relapses.remove(&id);
        }
    }

    fn settle_quarantine(&mut self, now: Timestamp, record: &SharedSubcloud, batch: &mut Batch) {
        let key = AlarmKey::of(record.id, AlarmKind::Quarantined);
        let Some(refused) = &record.refused else {
            self.clear(now, &key, batch);
            return;
        };
        let (why, repair) = words_of(&refused.faults);
        let name = &record.name;
        let repair = advice_at(&repair, name);
        let reason = format!("subcloud {name} is in quarantine, no command goes out to it: {why}");
        self.raise(now, key, reason, repair, batch);
    }

    fn settle_sync(&mut self, now: Timestamp, record: &SharedSubcloud, batch: &mut Batch) {
        let key = AlarmKey::of(record.id, AlarmKind::OutOfSync);
        if !watched(record) || record.sync() != Sync::OutOfSync {
            self.clear(now, &key, batch);
            return;
        }
        let name = &record.name;
        let reason = format!("subcloud {name} is out-of-sync: its newest report is not accepted");
        let repair = format!("`tandem dcmanager subcloud errors {name}` says what to correct");
        self.raise(now, key, reason, repair, batch);
    }

    fn settle_identity(&mut self, now: Timestamp, record: &SharedSubcloud, batch: &mut Batch) {
        let key = AlarmKey::of(record.id, AlarmKind::IdentityCloned);
        let Some(cloned) = record.cloned() else {
            self.clear(now, &key, batch);
            return;
        };
        let (reason, repair) = words_of(std::slice::from_ref(&cloned.fault));
        self.raise(now, key, reason, repair, batch);
    }

    /// Alarms that others raised follow the name of their subcloud.
    fn rename(&mut self, now: Timestamp, record: &SharedSubcloud, batch: &mut Batch) {
        for key in self.alarms.keys_of(record.id) {
            let Some(alarm) = self.alarms.raised.get(&key).map(Arc::clone) else {
                continue;
            };
            self.raise(now, key, alarm.reason.clone(), alarm.repair.clone(), batch);
        }
    }

    fn named_by(&self, key: &AlarmKey) -> String {
        match key.subcloud {
            Some(id) => self.fleet.name_of(id).to_owned(),
            None => self.fleet.controller().name.clone(),
        }
    }

    fn one_more_offline(&mut self, now: Timestamp, batch: &mut Batch) {
        let newest = &mut self.alarms.newest;
        newest.push_back(now);
        if newest.len() > MASS_OUTAGE + 1 {
            newest.pop_front();
        }
        let at_once = |first: &Timestamp| since(now, *first) <= self.config.heartbeat_interval;
        let many = newest.len() > MASS_OUTAGE && newest.front().is_some_and(at_once);
        if self.outage_began().is_some() {
            self.alarms.remaining += 1;
            return;
        }
        if !many {
            return;
        }
        let seconds = self.config.heartbeat_interval.as_secs_f64();
        let reason = format!(
            "more than {MASS_OUTAGE} managed subclouds went offline within one heartbeat interval \
             ({seconds} s)"
        );
        let repair = "look at what they have in common first: the controller's own network and \
                      the routes between the sites; `tandem dcmanager subcloud list \
                      --availability offline` lists them";
        let key = AlarmKey::mass_outage();
        self.raise(now, key, reason, repair.to_owned(), batch);
        if let Some(began) = self.outage_began() {
            self.alarms.remaining = self.alarms.offline_since(began);
        }
    }

    /// Clears the alarm about many when few of them are left.
    fn settle_outage(&mut self, now: Timestamp, batch: &mut Batch) {
        if self.outage_began().is_some() && self.alarms.remaining <= MASS_OUTAGE {
            self.alarms.newest.clear();
            self.clear(now, &AlarmKey::mass_outage(), batch);
        }
    }

    /// When the first subcloud of the present mass outage went.
    fn outage_began(&self) -> Option<Timestamp> {
        let outage = self.alarms.raised.get(&AlarmKey::mass_outage())?;
        let interval = u64::try_from(self.config.heartbeat_interval.as_millis());
        let began = outage.raised_at.0.saturating_sub(interval.unwrap_or(0));
        Some(Timestamp(began))
    }
}

impl AlarmBook {
    fn of(&self, id: SubcloudId) -> impl Iterator<Item = &SharedAlarm> {
        let first = AlarmKey::of(id, AlarmKind::Offline);
        let raised = self.raised.range(first..);
        raised
            .take_while(move |(key, _)| key.subcloud == Some(id))
            .map(|(_, alarm)| alarm)
    }

    /// Subclouds that have an alarm about a change which a rollout desires.
    pub(super) fn pending(&self) -> Vec<SubcloudId> {
        let raised = self.raised.keys().filter(|key| key.is_of_rollout());
        raised.filter_map(|key| key.subcloud).collect()
    }

    pub(super) fn keys_of(&self, id: SubcloudId) -> Vec<AlarmKey> {
        self.of(id).map(|alarm| alarm.key.clone()).collect()
    }

    fn offline_since(&self, began: Timestamp) -> usize {
        let raised = self.raised.values();
        raised
            .filter(|alarm| alarm.key.kind == AlarmKind::Offline && alarm.raised_at >= began)
            .count()
    }
}

/// Whether somebody here misses the subcloud: an operator manages it, and it obeys this controller
/// and no other.
pub(super) fn watched(record: &SharedSubcloud) -> bool {
    record.enrolled().is_some() && record.managed() && record.geo.owner.is_none()
}

/// The first fault, how many more there are, and what to do about it.
pub(super) fn words_of(faults: &[Fault]) -> (String, String) {
    let Some(first) = faults.first() else {
        return (String::new(), String::new());
    };
    let cut = |text: &str| -> String { text.chars().take(MAX_REASON).collect() };
    let mut why = cut(&first.message);
    if faults.len() > 1 {
        why.push_str(&format!(" (and {} more)", faults.len() - 1));
    }
    (format!("{}: {why}", cut(&first.reason)), cut(&first.remedy))
}
