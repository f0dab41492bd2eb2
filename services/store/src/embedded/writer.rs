//! The one thread that writes, and what it shares with everyone else.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use redb::Database;

use super::directory::Acknowledged;
use super::queue::{Queue, Waiting};
use super::tables::{self, Contents};
use crate::{CommitError, Revision, Ticket, Write};

/// What went wrong with a write, and what to do about it where that is known.
fn told(error: &redb::Error) -> String {
    match error {
        redb::Error::Io(fault)
            if matches!(
                fault.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ) =>
        {
            format!("{error}: free space on the disk of the state directory")
        }
        _ => error.to_string(),
    }
}

/// An open state file with everything that is on its way to it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: Database,
    acknowledged: Acknowledged,
    admission: Mutex<Admission>,
    /// Something waits, or the store is closing.
    wake: Condvar,
    /// There is room in the queue again, or there never will be.
    room: Condvar,
    /// Set once a write has failed, under the lock on `admission`, and never cleared.
    poison: OnceLock<Arc<str>>,
    durable: AtomicU64,
    transactions: AtomicU64,
}

#[derive(Debug)]
struct Admission {
    queue: Queue,
    closing: bool,
}

impl Shared {
    pub(super) fn new(database: Database, acknowledged: Acknowledged, contents: Contents) -> Self {
        let Contents {
            revision,
            revisions,
        } = contents;
        let queue = Queue::new(revision, revisions);
        Self {
            database,
            acknowledged,
            admission: Mutex::new(Admission {
                queue,
                closing: false,
            }),
            wake: Condvar::new(),
            room: Condvar::new(),
            poison: OnceLock::new(),
            durable: AtomicU64::new(revision.get()),
            transactions: AtomicU64::new(0),
        }
    }

    /// Accepts `batch` for the writing thread.
    pub(super) fn enqueue(&self, batch: Vec<Write>) -> Result<Ticket, CommitError> {
        self.accept(self.admission(), batch)
    }

    /// The same once there is room for it; the calling thread waits until then.
    pub(super) fn enqueue_when_room(&self, batch: Vec<Write>) -> Result<Ticket, CommitError> {
        let full = |admission: &mut Admission| {
            self.poison.get().is_none() && !admission.closing && !admission.queue.has_room(&batch)
        };
        let admission = self
            .room
            .wait_while(self.admission(), full)
            .unwrap_or_else(PoisonError::into_inner);
        self.accept(admission, batch)
    }

    fn accept(
        &self,
        mut admission: MutexGuard<'_, Admission>,
        batch: Vec<Write>,
    ) -> Result<Ticket, CommitError> {
        if let Some(cause) = self.poison() {
            return Err(CommitError::Poisoned { cause });
        }
        if admission.closing {
            return Err(CommitError::Closed);
        }
        let ticket = admission.queue.accept(batch)?;
        drop(admission);
        self.wake.notify_one();
        Ok(ticket)
    }

    /// Why the store is out of use, if it is.
    pub(super) fn poison(&self) -> Option<Arc<str>> {
        self.poison.get().cloned()
    }

    pub(super) fn durable(&self) -> Revision {
        Revision::new(self.durable.load(Ordering::Acquire))
    }

    pub(super) fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Lets the thread finish what waits and end.
    pub(super) fn stop(&self) {
        self.admission().closing = true;
        self.wake.notify_one();
        self.room.notify_all();
    }

    /// What the writing thread does until the store closes or the disk fails.
    pub(super) fn run(&self) {
        let _last_words = LastWords(self);
        while let Some(group) = self.next_group() {
            match self.make_durable(&group) {
                Ok(()) => self.succeed(group),
                Err(detail) => return self.fail(&detail, group),
            }
        }
        if let Err(error) = self.acknowledged.sync() {
            // Nothing is lost by it, only the check of the next start knows less.
            tracing::warn!(%error, "the note of the last acknowledged revision was not synced");
        }
    }

    /// Waits for work and takes all there is; `None` when the store closes and nothing is left.
    fn next_group(&self) -> Option<Vec<Waiting>> {
        let idle = |admission: &mut Admission| admission.queue.is_empty() && !admission.closing;
        let mut admission = self
            .wake
            .wait_while(self.admission(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        let group = admission.queue.drain();
        (!group.is_empty()).then_some(group)
    }

    /// Writes `group` and notes that it is about to be acknowledged.
    fn make_durable(&self, group: &[Waiting]) -> Result<(), String> {
        let Some(last) = group.last().map(|batch| batch.revision) else {
            return Ok(());
        };
        tables::write(&self.database, group).map_err(|error| told(&error))?;
        self.acknowledged
            .write(last)
            .map_err(|error| format!("noting revision {last} as acknowledged: {error}"))?;
        self.durable.store(last.get(), Ordering::Release);
        self.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes room for more, then tells everyone who waits for `group`.
    fn succeed(&self, group: Vec<Waiting>) {
        self.admission().queue.written(&group);
        self.room.notify_all();
        for batch in group {
            batch.settle(Ok(()));
        }
    }

    /// Takes the store out of use; `group` was being written.
    fn fail(&self, detail: &str, group: Vec<Waiting>) {
        let detail: Arc<str> = detail.into();
        tracing::error!(%detail, "a write failed: the store is out of use");
        // First, so that whoever learns of the failure finds the store out of use.
        self.poison_with(Arc::clone(&detail));
        for batch in group {
            batch.settle(Err(CommitError::Io {
                detail: Arc::clone(&detail),
            }));
        }
    }

    /// Refuses what waits and all that comes.
    fn poison_with(&self, cause: Arc<str>) {
        let mut admission = self.admission();
        let cause = self.poison.get_or_init(|| cause);
        for batch in admission.queue.drain() {
            batch.settle(Err(CommitError::Poisoned {
                cause: Arc::clone(cause),
            }));
        }
        self.room.notify_all();
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        // The queue changes only after all its checks have passed, so a panic leaves it whole.
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the store out of use if the writing thread panics, so that nobody waits for ever.
struct LastWords<'a>(&'a Shared);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison_with("the writing thread panicked".into());
        }
    }
}
