//! What is kept and what is written.

use std::fmt;

use crate::Key;

/// The largest value, in bytes: 4 MiB, the largest message that gRPC takes by default. A record
/// that could not be sent to a peer in one message has no business in here.
pub const MAX_VALUE_BYTES: usize = 4 * 1024 * 1024;

/// The most writes in one batch. A batch is one decision about one object and what hangs on it; a
/// change to a whole fleet is a rollout of many batches.
pub const MAX_BATCH_WRITES: usize = 4096;

/// The most bytes of values in one batch: room for four of the largest values, so that one batch
/// cannot fill the queue.
pub const MAX_BATCH_BYTES: usize = 4 * MAX_VALUE_BYTES;

/// The position of a batch in the order of all batches of a store. The first has 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The revision of a store that nothing was written to. No record carries it.
    pub const ZERO: Self = Self(0);

    /// The revision numbered `number`.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it. At a million batches per second the numbers last for 584,000 years.
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A durable record.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// The revision at which it was last written.
    pub revision: Revision,
    /// Its contents.
    pub value: Vec<u8>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may hold secrets of the fleet and are long: their length must do.
        write!(
            f,
            "Record({} at {}, {} bytes)",
            self.key,
            self.revision,
            self.value.len()
        )
    }
}

/// One change of one record, made only if the record is as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The record.
    pub key: Key,
    /// What the record has to be, or the whole batch is refused.
    pub expected: Expected,
    /// What happens to it.
    pub action: Action,
}

/// What a record has to be for a write to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// There must not be such a record.
    Absent,
    /// The record must have been last written at this revision.
    At(Revision),
    /// Anything: the writer does not care, or knows by other means.
    Any,
}

impl Expected {
    /// Whether a record that was last written at `found` is as expected; `None` is absence.
    pub(crate) fn allows(self, found: Option<Revision>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::At(revision) => found == Some(revision),
            Self::Any => true,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::At(revision) => write!(f, "revision {revision}"),
            Self::Any => f.write_str("anything"),
        }
    }
}

/// What a write does to its record.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Makes these bytes its contents, at most [`MAX_VALUE_BYTES`].
    Put(Vec<u8>),
    /// Removes it.
    Delete,
}

impl Action {
    /// How many bytes of values it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put(value) => value.len(),
            Self::Delete => 0,
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(value) => write!(f, "Put({} bytes)", value.len()),
            Self::Delete => f.write_str("Delete"),
        }
    }
}
