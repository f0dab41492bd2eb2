//! What watchers of the fleet are told: every change, in order, under growing revisions.

use std::collections::VecDeque;
use std::sync::Arc;

use fleet::{Event, SubcloudId};
use tokio::sync::watch;

/// Changes that a watcher takes at a time.
const BATCH: usize = 256;

/// Revisions of one process: 2^32 changes, then the number of the process before them, so that
/// they grow from one process to the next.
const REVISION_BITS: u32 = 32;

/// One change.
#[derive(Debug)]
pub(crate) struct FleetChange {
    /// Its number.
    pub(crate) revision: u64,
    /// What it was.
    pub(crate) what: What,
}

/// A change, without the state that it led to: old states of ten thousand subclouds are as large
/// as the fleet, and who is told of a change wants to know what is.
#[derive(Debug)]
pub(crate) enum What {
    /// Something happened.
    Event(Event),
    /// Only the record of a subcloud changed; its name.
    Record(SubcloudId, Box<str>),
}

impl FleetChange {
    /// The subcloud that it is about, and its name.
    pub(crate) fn about(&self) -> Option<(SubcloudId, &str)> {
        match &self.what {
            What::Event(event) => Some((event.subcloud?, &event.name)),
            What::Record(id, name) => Some((*id, name)),
        }
    }
}

/// The latest changes.
#[derive(Debug)]
pub(crate) struct FleetHistory {
    kept: VecDeque<Arc<FleetChange>>,
    most_kept: usize,
    newest: watch::Sender<u64>,
}

/// What comes after a revision.
#[derive(Debug)]
pub(crate) enum Next {
    /// These changes, in order; none when there are none yet.
    Changes(Vec<Arc<FleetChange>>),
    /// Changes are missing: they are not kept any more, or of another process.
    Gap,
}

impl FleetHistory {
    /// Begins without changes; `process` is greater than that of every process before. Watchers
    /// may fall behind `most_kept` changes, and resume over as many.
    pub(crate) fn new(process: u64, most_kept: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            most_kept,
            newest: watch::Sender::new(process << REVISION_BITS),
        }
    }

    /// The revision of the latest change.
    pub(crate) fn revision(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Tells every revision from now on; intermediate ones may be skipped.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Something changed.
    pub(crate) fn publish(&mut self, what: What) {
        let revision = self.revision() + 1;
        if self.kept.len() == self.most_kept {
            self.kept.pop_front();
        }
        self.kept
            .push_back(Arc::new(FleetChange { revision, what }));
        self.newest.send_replace(revision);
    }

    /// Whether a change after a revision was about a subcloud.
    pub(crate) fn told(&self, subcloud: SubcloudId, after: u64) -> bool {
        let newer = self.kept.iter().rev();
        newer
            .take_while(|change| change.revision > after)
            .any(|change| change.about().is_some_and(|(id, _)| id == subcloud))
    }

    /// Some of the changes after a revision.
    pub(crate) fn after(&self, revision: u64) -> Next {
        let newest = self.revision();
        let oldest_known = newest - u64::try_from(self.kept.len()).unwrap_or(u64::MAX);
        if revision < oldest_known || revision > newest {
            return Next::Gap;
        }
        let known = usize::try_from(revision - oldest_known).unwrap_or(usize::MAX);
        Next::Changes(self.kept.iter().skip(known).take(BATCH).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: usize = 1000;

    #[test]
    fn what_is_not_kept_is_a_gap_and_never_silence() {
        let mut history = FleetHistory::new(7, KEPT);
        let start = history.revision();
        let count = |history: &FleetHistory, after: u64| match history.after(after) {
            Next::Changes(changes) => {
                let revisions: Vec<u64> = changes.iter().map(|it| it.revision).collect();
                let expected = u64::try_from(revisions.len()).expect("few");
                assert_eq!(
                    revisions,
                    (after + 1..=after + expected).collect::<Vec<_>>()
                );
                Some(revisions.len())
            }
            Next::Gap => None,
        };
        assert_eq!(count(&history, start), Some(0));
        assert_eq!(count(&history, 0), None);
        assert_eq!(count(&history, start + 1), None, "a revision to come");
        let change = || What::Record(SubcloudId(uuid::Uuid::nil()), "west".into());
        for _ in 0..KEPT {
            history.publish(change());
        }
        assert_eq!(count(&history, start), Some(BATCH));
        assert_eq!(count(&history, history.revision() - 3), Some(3));
        history.publish(change());
        assert_eq!(count(&history, start), None, "the first one is forgotten");
        assert_eq!(count(&history, start + 1), Some(BATCH));
        assert!(FleetHistory::new(8, KEPT).revision() > history.revision());
    }

    #[test]
    fn a_change_is_told_once_whether_it_has_an_event_or_not() {
        let [west, east] = [1, 2].map(|number| SubcloudId(uuid::Uuid::from_u128(number)));
        let event = Event {
            position: fleet::Position::default(),
            at: site::Timestamp(0),
            subcloud: Some(west),
            name: "west".to_owned(),
            kind: fleet::EventKind::Online,
        };
        for what in [What::Record(west, "west".into()), What::Event(event)] {
            let mut history = FleetHistory::new(7, KEPT);
            let before = history.revision();
            history.publish(what);
            assert!(history.told(west, before) && !history.told(east, before));
            assert!(!history.told(west, history.revision()), "it was before");
        }
    }
}
