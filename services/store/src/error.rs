//! Refusals and failures, each with its reason and, where there is one, its remedy.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::{Expected, Key, MAX_BATCH_BYTES, MAX_BATCH_WRITES, MAX_VALUE_BYTES, Revision};

/// Why a store could not be created or opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no state in the directory, or no directory.
    #[error("there is no state in {}; {remedy}", dir.display())]
    NotInitialised {
        /// The directory.
        dir: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// There is state in the directory that `create` would have to overwrite.
    #[error("{} already exists; {remedy}", path.display())]
    AlreadyInitialised {
        /// The file that is in the way.
        path: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// Another process, or another store in this process, holds the directory.
    #[error(
        "{} is in use by {}; stop that process first",
        dir.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, if it has written that down yet.
        pid: Option<u32>,
    },
    /// The state was written by a later version of this program.
    #[error(
        "the state in {} has format {found}, this version knows formats up to {supported}; \
         install the version that wrote it or a later one",
        path.display()
    )]
    NewerFormat {
        /// The state file.
        path: PathBuf,
        /// The format it has.
        found: u64,
        /// The latest format that this version knows.
        supported: u64,
    },
    /// The file is truncated, damaged, or was never one of this store. It was not changed.
    #[error("{} cannot be used: {detail}; {remedy}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
        /// What to do.
        remedy: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, as a verb: "open", "lock".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    /// A stable name of the case.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotInitialised { .. } => "STORE_NOT_INITIALISED",
            Self::AlreadyInitialised { .. } => "STORE_ALREADY_INITIALISED",
            Self::Locked { .. } => "STORE_LOCKED",
            Self::NewerFormat { .. } => "STORE_NEWER_FORMAT",
            Self::Corrupt { .. } => "STORE_CORRUPT",
            Self::Io { .. } => "STORE_IO",
        }
    }
}

/// Why a batch was refused or lost. Cheap to clone, for all batches of a transaction fail as one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A batch without writes, which would be a revision that nothing happened at.
    #[error("the batch is empty")]
    EmptyBatch,
    /// A key that occurs twice in a batch.
    #[error("{key} occurs more than once in the batch")]
    DuplicateKey {
        /// The key.
        key: Key,
    },
    /// Records that are not as the writer believed. Plan again on what is there now.
    #[error("{conflicts}")]
    Conflict {
        /// All of them.
        conflicts: Conflicts,
    },
    /// A value above [`MAX_VALUE_BYTES`].
    #[error("the value of {key} has {bytes} bytes, at most {MAX_VALUE_BYTES} are allowed")]
    TooLarge {
        /// The record.
        key: Key,
        /// The size of its value.
        bytes: usize,
    },
    /// A batch above [`MAX_BATCH_WRITES`] or [`MAX_BATCH_BYTES`].
    #[error(
        "the batch has {writes} writes of {bytes} bytes together, at most {MAX_BATCH_WRITES} of \
         {MAX_BATCH_BYTES} are allowed; split it"
    )]
    BatchTooLarge {
        /// How many writes it has.
        writes: usize,
        /// How many bytes of values.
        bytes: usize,
    },
    /// More waits for the disk than the queue holds. Refuse the request and let the client retry.
    #[error("{batches} batches of {bytes} bytes together wait for the disk; try again later")]
    QueueFull {
        /// How many batches wait.
        batches: usize,
        /// How many bytes of values they hold.
        bytes: usize,
    },
    /// The disk failed while this very batch was written. Fatal.
    #[error("the write failed: {detail}; end this process, it starts again from what is durable")]
    Io {
        /// What failed.
        detail: Arc<str>,
    },
    /// A write before this one failed. Fatal.
    #[error("the store is out of use since a write failed: {cause}; end this process")]
    Poisoned {
        /// What failed then.
        cause: Arc<str>,
    },
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

impl CommitError {
    /// Whether what the caller has in memory may be ahead of the disk for good, so that the
    /// process must end rather than go on.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Poisoned { .. })
    }

    /// A stable name of the case.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::EmptyBatch => "STORE_EMPTY_BATCH",
            Self::DuplicateKey { .. } => "STORE_DUPLICATE_KEY",
            Self::Conflict { .. } => "STORE_CONFLICT",
            Self::TooLarge { .. } => "STORE_VALUE_TOO_LARGE",
            Self::BatchTooLarge { .. } => "STORE_BATCH_TOO_LARGE",
            Self::QueueFull { .. } => "STORE_QUEUE_FULL",
            Self::Io { .. } => "STORE_IO",
            Self::Poisoned { .. } => "STORE_POISONED",
            Self::Closed => "STORE_CLOSED",
        }
    }
}

/// All conflicts of a batch; at least one, in the order of its writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts(pub(crate) Vec<Conflict>);

impl Conflicts {
    /// The conflicts.
    #[must_use]
    pub fn as_slice(&self) -> &[Conflict] {
        &self.0
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, conflict) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{conflict}")?;
        }
        Ok(())
    }
}

/// A record that is not as a write expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The record.
    pub key: Key,
    /// What the write expected.
    pub expected: Expected,
    /// The revision that the record has, durable or on its way; `None` if there is no record.
    pub found: Option<Revision>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was expected to be {}, ", self.key, self.expected)?;
        match self.found {
            Some(revision) => write!(f, "but it is at revision {revision}"),
            None => f.write_str("but it does not exist"),
        }
    }
}

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A write failed, now or before, and nothing is answered from here any more. Fatal.
    #[error("the store is out of use since a write failed: {cause}; end this process")]
    Poisoned {
        /// What failed then.
        cause: Arc<str>,
    },
    /// The disk, or what is on it, is not sound. Fatal: it was sound when the store was opened.
    #[error("the read failed: {detail}")]
    Io {
        /// What failed.
        detail: Arc<str>,
    },
}
