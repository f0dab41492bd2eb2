//! Durable opaque bytes under revisions.
//!
//! A [`Store`] keeps records: a [`Key`], bytes, and the [`Revision`] at which they were last
//! written. The bytes mean nothing here; the `api` crate turns them into domain objects.
//!
//! # Writing
//!
//! [`Store::enqueue`] is synchronous, does no I/O, and is meant to be called under the caller's
//! own lock, right where a plan was made. It checks every [`Expected`] against what was *enqueued*
//! before (durable or not yet), gives the batch its revision, and hands out a [`Ticket`]. Outside
//! the lock the caller awaits [`Ticket::durable`], and answers only then. One thread makes
//! everything that waits durable in one transaction, so concurrent commits share an fsync.
//!
//! # Invariants
//!
//! * A batch is durable as a whole or not at all, and batches become durable in revision order.
//! * A revision is given to one batch only, and revisions only grow, also across restarts. (The
//!   revision of a batch that never became durable may be given out again after a restart;
//!   nobody was told that it was durable.)
//! * What [`Ticket::durable`] acknowledged is there after a crash of the process or the machine.
//!   If the file has lost it, [`Store::open`] says so and never serves the older state.
//! * A failed [`Store::open`] leaves the state file as it was, byte for byte.
//! * After a failed write everything is refused ([`CommitError::is_fatal`]): memory is then ahead
//!   of the disk, and the service must end its process and let its supervisor restart it.
//!
//! # What this crate must not do
//!
//! It must not interpret values, know of protobuf, retry a failed write (after a failed fsync the
//! kernel may have dropped the pages), or block a caller of [`Store::enqueue`] on the disk.

mod embedded;
mod error;
mod key;
mod record;
mod ticket;
mod volatile;

use std::path::Path;

pub use embedded::{Embedded, Faults, STATE_FILE};
pub use error::{CommitError, Conflict, Conflicts, OpenError, ReadError};
pub use key::{Key, KeyError, KeyFault, MAX_KEY_BYTES};
pub use record::{
    Action, Expected, MAX_BATCH_BYTES, MAX_BATCH_WRITES, MAX_VALUE_BYTES, Record, Revision, Write,
};
pub use ticket::Ticket;
pub use volatile::Volatile;

/// Durable records under revisions, whatever keeps them.
///
/// All backends pass the same conformance suite. The methods that read do so from the disk or its
/// cache and may block for as long as a read takes; none of them waits for a write.
#[derive(Debug)]
#[non_exhaustive]
pub enum Store {
    /// One file in a directory that this process holds alone.
    Embedded(Embedded),
    /// The memory of this process, whose end it does not survive.
    Volatile(Volatile),
}

impl Store {
    /// Makes an empty store that is lost with the process: for simulated agents, which are
    /// thousands in one process, and simulated controllers. No daemon uses it.
    #[must_use]
    pub fn volatile() -> Self {
        Self::Volatile(Volatile::default())
    }

    /// A copy of a store in memory as it is at this moment, for a simulation that plays a disk
    /// which has forgotten what came later. `None` for any other store.
    #[must_use]
    pub fn copied(&self) -> Option<Self> {
        match self {
            Self::Embedded(_) => None,
            Self::Volatile(volatile) => Some(Self::Volatile(volatile.copied())),
        }
    }

    /// Makes an empty store in `dir`, which is created with mode 0700 when it does not exist (its
    /// parent must).
    ///
    /// # Errors
    ///
    /// [`OpenError::AlreadyInitialised`] if `dir` has any state in it, [`OpenError::Locked`] if
    /// another process is at it, [`OpenError::Io`].
    pub fn create(dir: &Path) -> Result<Self, OpenError> {
        Embedded::create(dir, Faults::default()).map(Self::Embedded)
    }

    /// Opens the store in `dir`.
    ///
    /// Every page is checked first, and everything that a check or a recovery after a crash
    /// writes is held back until the contents have been found sound.
    ///
    /// # Errors
    ///
    /// Every [`OpenError`] but `AlreadyInitialised`; the state file is then unchanged.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Embedded::open(dir, Faults::default()).map(Self::Embedded)
    }

    /// Queues `batch` to be made durable and returns at once.
    ///
    /// The order of writes in a batch has no meaning, for a key may occur only once. Deleting a
    /// key that is absent is allowed if the expectation is [`Expected::Any`] or
    /// [`Expected::Absent`]; it changes nothing but takes a revision.
    ///
    /// A full queue is an error and not a wait: the caller holds a lock, and work that the disk
    /// cannot keep up with has to be refused at the edge, not piled up.
    ///
    /// # Errors
    ///
    /// Any [`CommitError`] but [`CommitError::Io`]; nothing was queued then.
    pub fn enqueue(&self, batch: Vec<Write>) -> Result<Ticket, CommitError> {
        match self {
            Self::Embedded(embedded) => embedded.enqueue(batch),
            Self::Volatile(volatile) => volatile.enqueue(batch),
        }
    }

    /// As [`Store::enqueue`], but a full queue makes the calling thread wait until the disk has
    /// made room: for what was decided already and cannot be refused any more.
    ///
    /// # Errors
    ///
    /// Any [`CommitError`] but [`CommitError::Io`] and [`CommitError::QueueFull`]; nothing was
    /// queued then.
    pub fn enqueue_when_room(&self, batch: Vec<Write>) -> Result<Ticket, CommitError> {
        match self {
            Self::Embedded(embedded) => embedded.enqueue_when_room(batch),
            Self::Volatile(volatile) => volatile.enqueue(batch),
        }
    }

    /// Queues `batch` and waits until it is durable.
    ///
    /// # Errors
    ///
    /// As [`Store::enqueue`] and [`Ticket::durable`].
    pub async fn commit(&self, batch: Vec<Write>) -> Result<Revision, CommitError> {
        self.enqueue(batch)?.durable().await
    }

    /// The durable record under `key`.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the disk fails or was found to have failed before.
    pub fn get(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        match self {
            Self::Embedded(embedded) => embedded.get(key),
            Self::Volatile(volatile) => Ok(volatile.get(key)),
        }
    }

    /// All durable records whose key begins with the text `prefix`, in key order, of one moment.
    /// The empty prefix means all. Use [`Store::page`] where the answer may be long.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn scan(&self, prefix: &str) -> Result<Vec<Record>, ReadError> {
        self.page(prefix, None, usize::MAX)
    }

    /// At most `limit` durable records whose key begins with `prefix` and comes after `after`, in
    /// key order. Records of one page are of one moment, but two pages may be of two.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn page(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        match self {
            Self::Embedded(embedded) => embedded.page(prefix, after, limit),
            Self::Volatile(volatile) => Ok(volatile.page(prefix, after, limit)),
        }
    }

    /// The revision of the last durable batch, or [`Revision::ZERO`].
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Embedded(embedded) => embedded.revision(),
            Self::Volatile(volatile) => volatile.revision(),
        }
    }

    /// How many transactions have been made durable since the store was opened. It stays far
    /// below the number of commits when they come together; a metric.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        match self {
            Self::Embedded(embedded) => embedded.transactions(),
            Self::Volatile(volatile) => volatile.transactions(),
        }
    }

    /// Makes durable what is queued, ends the thread, and lets go of the directory.
    ///
    /// Dropping the store does the same but tells nobody of a failure. Both block until the disk
    /// is done, so a service calls this from a thread that may block.
    ///
    /// # Errors
    ///
    /// [`CommitError::Poisoned`] if a write has failed, now or before.
    pub fn close(self) -> Result<(), CommitError> {
        match self {
            Self::Embedded(embedded) => embedded.close(),
            Self::Volatile(_) => Ok(()),
        }
    }
}
