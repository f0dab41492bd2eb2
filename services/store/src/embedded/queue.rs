//! What was accepted but is not durable yet, and what it was checked against.

use std::collections::{HashMap, HashSet};

use tokio::sync::oneshot;

use crate::{
    Action, CommitError, Conflict, Conflicts, Key, MAX_BATCH_BYTES, MAX_BATCH_WRITES,
    MAX_VALUE_BYTES, Revision, Ticket, Write,
};

/// The most batches on their way to the disk. A disk does some hundred transactions per second, so
/// these are through within one transaction or two; more means that the disk has stalled.
const MAX_WAITING_BATCHES: usize = 8192;

/// The most bytes of values on their way to the disk: four of the largest batches. This bounds
/// memory and how long one transaction may take.
const MAX_WAITING_BYTES: usize = 4 * MAX_BATCH_BYTES;

/// An accepted batch.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) revision: Revision,
    pub(crate) writes: Vec<(Key, Action)>,
    bytes: usize,
    outcome: oneshot::Sender<Result<(), CommitError>>,
}

impl Waiting {
    /// Tells the holder of the ticket how it went, if there still is one.
    pub(crate) fn settle(self, outcome: Result<(), CommitError>) {
        // A caller that dropped its ticket does not want to know: that is its right.
        drop(self.outcome.send(outcome));
    }
}

/// The accepted batches in the order of their revisions.
#[derive(Debug)]
pub(crate) struct Queue {
    /// The revision of each record as it will be when everything accepted is durable.
    revisions: HashMap<Key, Revision>,
    /// The revision of the last accepted batch.
    last: Revision,
    waiting: Vec<Waiting>,
    /// Batches accepted and not yet durable, being written or waiting.
    batches: usize,
    /// Their values.
    bytes: usize,
}

impl Queue {
    /// A queue of a store that is at `last`, with records of these revisions.
    pub(crate) fn new(last: Revision, revisions: HashMap<Key, Revision>) -> Self {
        Self {
            revisions,
            last,
            waiting: Vec::new(),
            batches: 0,
            bytes: 0,
        }
    }

    /// Accepts `batch` or refuses it as a whole.
    pub(crate) fn accept(&mut self, batch: Vec<Write>) -> Result<Ticket, CommitError> {
        let bytes = check_form(&batch)?;
        if self.batches == MAX_WAITING_BATCHES || self.bytes + bytes > MAX_WAITING_BYTES {
            return Err(CommitError::QueueFull {
                batches: self.batches,
                bytes: self.bytes,
            });
        }
        self.check_expectations(&batch)?;

        let revision = self.last.next();
        for write in &batch {
            match write.action {
                Action::Put(_) => self.revisions.insert(write.key.clone(), revision),
                Action::Delete => self.revisions.remove(&write.key),
            };
        }
        let (outcome, told) = oneshot::channel();
        let writes = batch
            .into_iter()
            .map(|write| (write.key, write.action))
            .collect();
        self.waiting.push(Waiting {
            revision,
            writes,
            bytes,
            outcome,
        });
        self.last = revision;
        self.batches += 1;
        self.bytes += bytes;
        Ok(Ticket::new(revision, told))
    }

    /// Whether `batch` could be accepted now, as far as what is on its way to the disk is
    /// concerned. Whether it can ever be is not asked.
    pub(crate) fn has_room(&self, batch: &[Write]) -> bool {
        let bytes: usize = batch.iter().map(|write| write.action.bytes()).sum();
        bytes > MAX_BATCH_BYTES
            || self.batches < MAX_WAITING_BATCHES && self.bytes + bytes <= MAX_WAITING_BYTES
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Everything that waits. It counts as being on its way until [`Queue::written`].
    pub(crate) fn drain(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.waiting)
    }

    /// Makes room for as much as `group`, which is durable now.
    pub(crate) fn written(&mut self, group: &[Waiting]) {
        self.batches -= group.len();
        self.bytes -= group.iter().map(|batch| batch.bytes).sum::<usize>();
    }

    fn check_expectations(&self, batch: &[Write]) -> Result<(), CommitError> {
        let conflicts: Vec<_> = batch
            .iter()
            .map(|write| (write, self.revisions.get(&write.key).copied()))
            .filter(|(write, found)| !write.expected.allows(*found))
            .map(|(write, found)| Conflict {
                key: write.key.clone(),
                expected: write.expected,
                found,
            })
            .collect();
        if conflicts.is_empty() {
            Ok(())
        } else {
            Err(CommitError::Conflict {
                conflicts: Conflicts(conflicts),
            })
        }
    }
}

/// Checks what does not depend on the state; returns the bytes of the values.
fn check_form(batch: &[Write]) -> Result<usize, CommitError> {
    if batch.is_empty() {
        return Err(CommitError::EmptyBatch);
    }
    let bytes = batch.iter().map(|write| write.action.bytes()).sum();
    if let Some(write) = batch
        .iter()
        .find(|write| write.action.bytes() > MAX_VALUE_BYTES)
    {
        return Err(CommitError::TooLarge {
            key: write.key.clone(),
            bytes: write.action.bytes(),
        });
    }
    if batch.len() > MAX_BATCH_WRITES || bytes > MAX_BATCH_BYTES {
        return Err(CommitError::BatchTooLarge {
            writes: batch.len(),
            bytes,
        });
    }
    let mut seen = HashSet::with_capacity(batch.len());
    match batch.iter().find(|write| !seen.insert(&write.key)) {
        Some(write) => Err(CommitError::DuplicateKey {
            key: write.key.clone(),
        }),
        None => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expected, KeyError};

    fn put(key: &str, bytes: usize) -> Result<Write, KeyError> {
        let action = Action::Put(vec![7; bytes]);
        Ok(Write {
            key: Key::new(key)?,
            expected: Expected::Any,
            action,
        })
    }

    #[test]
    fn a_full_queue_refuses_and_recovers() -> Result<(), Box<dyn std::error::Error>> {
        let check = |bytes: usize, fits: usize| -> Result<(), Box<dyn std::error::Error>> {
            let mut queue = Queue::new(Revision::ZERO, HashMap::new());
            let mut tickets = Vec::new();
            for _ in 0..fits {
                tickets.push(queue.accept(vec![put("a", bytes)?])?);
            }
            let refusal = queue.accept(vec![put("b", bytes)?]).err();
            let total = fits * bytes;
            assert_eq!(
                refusal,
                Some(CommitError::QueueFull {
                    batches: fits,
                    bytes: total
                })
            );

            let group = queue.drain();
            let still = queue.accept(vec![put("b", bytes)?]).err();
            assert_eq!(still, refusal, "what is being written still takes room");
            queue.written(&group);
            let ticket = queue.accept(vec![put("b", bytes)?])?;
            assert_eq!(
                ticket.revision().get(),
                u64::try_from(fits)? + 1,
                "no revision is lost"
            );
            Ok(())
        };
        check(0, MAX_WAITING_BATCHES)?;
        check(MAX_VALUE_BYTES, MAX_WAITING_BYTES / MAX_VALUE_BYTES)
    }
}
