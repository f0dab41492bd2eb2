//! The store in memory: for agents that a load program or a test runs by the thousand in one
//! process, where each would need a file, a lock and a thread of its own.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::embedded::queue::Queue;
use crate::{Action, CommitError, Key, Record, Revision, Ticket, Write};

/// Records that end with the process. It keeps every promise of the store but that one: what is
/// enqueued counts as durable at once.
#[derive(Debug)]
pub struct Volatile(Mutex<Contents>);

#[derive(Debug)]
struct Contents {
    queue: Queue,
    records: BTreeMap<Key, Record>,
    last: Revision,
    transactions: u64,
}

impl Default for Volatile {
    fn default() -> Self {
        Self(Mutex::new(Contents {
            queue: Queue::new(Revision::ZERO, std::collections::HashMap::new()),
            records: BTreeMap::new(),
            last: Revision::ZERO,
            transactions: 0,
        }))
    }
}

impl Volatile {
    pub(crate) fn enqueue(&self, batch: Vec<Write>) -> Result<Ticket, CommitError> {
        let mut contents = self.contents();
        let ticket = contents.queue.accept(batch)?;
        let group = contents.queue.drain();
        contents.queue.written(&group);
        for mut waiting in group {
            contents.last = waiting.revision;
            contents.transactions += 1;
            for (key, action) in std::mem::take(&mut waiting.writes) {
                contents.apply(key, waiting.revision, action);
            }
            waiting.settle(Ok(()));
        }
        Ok(ticket)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Record> {
        self.contents().records.get(key).cloned()
    }

    pub(crate) fn page(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Vec<Record> {
        let start = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let contents = self.contents();
        let records = contents.records.range::<str, _>((start, Bound::Unbounded));
        records
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .take(limit)
            .map(|(_, record)| record.clone())
            .collect()
    }

    pub(crate) fn revision(&self) -> Revision {
        self.contents().last
    }

    /// Another store with the same records.
    pub(crate) fn copied(&self) -> Self {
        let contents = self.contents();
        let known = contents.records.iter();
        let revisions = known.map(|(key, record)| (key.clone(), record.revision));
        Self(Mutex::new(Contents {
            queue: Queue::new(contents.last, revisions.collect()),
            records: contents.records.clone(),
            last: contents.last,
            transactions: 0,
        }))
    }

    pub(crate) fn transactions(&self) -> u64 {
        self.contents().transactions
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn apply(&mut self, key: Key, revision: Revision, action: Action) {
        match action {
            Action::Put(value) => {
                let record = Record {
                    key: key.clone(),
                    revision,
                    value,
                };
                self.records.insert(key, record);
            }
            Action::Delete => {
                self.records.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expected, Store};

    fn put(key: &str, expected: Expected) -> Vec<Write> {
        let key = Key::new(key).expect("a key");
        let action = Action::Put(vec![1]);
        vec![Write {
            key,
            expected,
            action,
        }]
    }

    #[tokio::test]
    async fn a_copy_has_what_was_there_and_nothing_that_comes_later() {
        let store = Store::volatile();
        let first = store.commit(put("a", Expected::Absent)).await.expect("put");
        let copy = store.copied().expect("memory");
        store.commit(put("b", Expected::Absent)).await.expect("put");
        let kept = copy.scan("").expect("read");
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].revision, copy.revision()), (first, first));
        // It goes on where the other was.
        let next = copy.commit(put("a", Expected::At(first))).await;
        assert!(next.expect("put") > first);
    }
}
