//! Changes that rollouts desire of subclouds and that are not in effect: alarm 280.002.
//!
//! The machine of rollouts tells what it waits for: the subclouds whose turn has come, not those
//! that wait for theirs. Nothing of that is kept here over a restart, when it tells all of it
//! again; until then the alarms that were raised stay as they are, and they tell it which turns
//! had come.

use std::collections::{BTreeMap, BTreeSet};

use site::Timestamp;

use crate::entropy::after;
use crate::{AlarmKey, RolloutId, SharedSubcloud, SubcloudId};

use super::alarms::watched;
use super::{Batch, Controller, Wake};

/// A desired change that is not in effect this many heartbeat intervals after the turn of its
/// subcloud came is an alarm (a minute by default): a rollout that goes well raises none, however
/// many subclouds it has.
pub const PENDING_HEARTBEATS: u32 = 6;

/// What rollouts wait for.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// `None` until the rollouts have told.
    awaited: Option<BTreeMap<SubcloudId, Awaited>>,
}

/// A change of one subcloud.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    rollout: RolloutId,
    since: Timestamp,
}

impl Controller {
    /// The changes that alarm 280.002 tells of. Memory runs ahead of the disk.
    pub fn missed_changes(&self) -> BTreeSet<(RolloutId, SubcloudId)> {
        let keys = self.alarms().map(|alarm| &alarm.key);
        keys.filter_map(|key| Some((key.rollout()?, key.subcloud?)))
            .collect()
    }

    /// All subclouds that a rollout waits for, each with the first rollout that does.
    pub(super) fn all_awaited(&mut self, now: Timestamp, all: BTreeMap<SubcloudId, RolloutId>) {
        let known = self.pending.awaited.take().unwrap_or_default();
        let raised = self.alarms.pending();
        for id in known.keys().copied().chain(raised) {
            self.mark(id);
        }
        let since = |id: &SubcloudId, rollout: RolloutId| {
            let known = known.get(id).filter(|known| known.rollout == rollout);
            known.map_or(now, |known| known.since)
        };
        let all = all.into_iter().map(|(id, rollout)| {
            let since = since(&id, rollout);
            (id, Awaited { rollout, since })
        });
        let all: BTreeMap<_, _> = all.collect();
        for id in all.keys() {
            self.mark(*id);
        }
        self.pending.awaited = Some(all);
    }

    /// The rollout that waits for one subcloud, or that none does any more.
    pub(super) fn awaited(&mut self, now: Timestamp, id: SubcloudId, rollout: Option<RolloutId>) {
        let Some(awaited) = &mut self.pending.awaited else {
            return;
        };
        let known = awaited.get(&id).map(|known| known.rollout);
        if known == rollout {
            return;
        }
        match rollout {
            Some(rollout) => {
                let since = now;
                awaited.insert(id, Awaited { rollout, since });
            }
            None => {
                awaited.remove(&id);
            }
        }
        self.mark(id);
    }

    /// Makes the alarm of a subcloud what it should be.
    pub(super) fn settle_pending(
        &mut self,
        now: Timestamp,
        record: &SharedSubcloud,
        batch: &mut Batch,
    ) {
        let Some(all) = &self.pending.awaited else {
            return;
        };
        let awaited = all.get(&record.id).copied().filter(|_| watched(record));
        let due = awaited.map(|awaited| {
            let grace = self.config.heartbeat_interval * PENDING_HEARTBEATS;
            (awaited.rollout, after(awaited.since, grace))
        });
        let wanted =
            due.map(|(rollout, _)| AlarmKey::change_pending(record.id, &rollout.to_string()));
        for key in self.alarms.keys_of(record.id) {
            if key.is_of_rollout() && Some(&key) != wanted.as_ref() {
                self.clear(now, &key, batch);
            }
        }
        let (Some((rollout, at)), Some(key)) = (due, wanted) else {
            return;
        };
        if now < at {
            self.wakeups.at(at, Wake::Alarms(record.id));
            return;
        }
        let name = &record.name;
        let reason = format!("a change that rollout {rollout} desires of {name} is not in effect");
        let repair = format!(
            "`tandem dcmanager network-rollout show {rollout} --subclouds` says what it waits for"
        );
        self.raise(now, key, reason, repair, batch);
    }
}
