//! The durable alarms, with the count of each kind: monitoring asks for it often, and ten
//! thousand alarms are too many to walk each time.

use std::collections::BTreeMap;

use fleet::{AlarmKind, SharedAlarm};
use uuid::Uuid;

/// The raised alarms, by the uuid of the occurrence.
#[derive(Debug, Default)]
pub(super) struct Raised {
    alarms: BTreeMap<Uuid, SharedAlarm>,
    counts: BTreeMap<AlarmKind, u64>,
}

impl Raised {
    /// Raises an alarm, or corrects the words of one that is raised.
    pub(super) fn put(&mut self, alarm: SharedAlarm) {
        let kind = alarm.key.kind;
        if self.alarms.insert(alarm.uuid(), alarm).is_none() {
            *self.counts.entry(kind).or_default() += 1;
        }
    }

    pub(super) fn forget(&mut self, occurrence: Uuid) {
        if let Some(alarm) = self.alarms.remove(&occurrence) {
            let count = self.counts.entry(alarm.key.kind).or_default();
            *count = count.saturating_sub(1);
        }
    }

    /// All of them.
    pub(super) fn values(&self) -> impl Iterator<Item = &SharedAlarm> {
        self.alarms.values()
    }

    /// How many there are of a kind.
    pub(super) fn count(&self, kind: AlarmKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet::{AlarmKey, FleetAlarm, SubcloudId};
    use site::Timestamp;

    use super::*;

    #[test]
    fn each_occurrence_counts_once() {
        let alarm = |number, kind, reason: &str| {
            Arc::new(FleetAlarm {
                key: AlarmKey::of(SubcloudId(Uuid::from_u128(number)), kind),
                name: "a".to_owned(),
                reason: reason.to_owned(),
                repair: "look".to_owned(),
                raised_at: Timestamp(5),
            })
        };
        let mut raised = Raised::default();
        let first = alarm(1, AlarmKind::Offline, "gone");
        raised.put(Arc::clone(&first));
        raised.put(alarm(1, AlarmKind::Offline, "still gone"));
        raised.put(alarm(2, AlarmKind::Offline, "gone"));
        raised.put(alarm(2, AlarmKind::Quarantined, "refused"));
        let counts = |raised: &Raised| AlarmKind::ALL.map(|kind| raised.count(kind));
        assert_eq!(counts(&raised), [2, 0, 1, 0, 0]);
        raised.forget(first.uuid());
        raised.forget(first.uuid());
        assert_eq!(counts(&raised), [1, 0, 1, 0, 0]);
        assert_eq!(raised.values().count(), 2);
    }
}
