//! The store in one file: redb below, one writing thread, one process at a time.

mod directory;
mod disk;
pub(crate) mod queue;
mod tables;
mod writer;

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use redb::Database;

use self::directory::{Directory, failed, require_no_state, require_state};
use self::disk::Disk;
use self::tables::{Contents, FORMAT, Fault};
use self::writer::Shared;
use crate::{CommitError, Key, OpenError, ReadError, Record, Revision, Ticket, Write};

pub use self::directory::STATE_FILE;
pub use self::disk::Faults;

/// A store in one directory: `state.redb` holds the records, `lock` says who uses it, and
/// `acknowledged` notes up to where writes were promised to be there. Back up all three.
#[derive(Debug)]
pub struct Embedded {
    // Dropped in this order: the database is closed before others may have the directory.
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    _directory: Directory,
}

impl Embedded {
    /// As [`crate::Store::create`], on a disk that fails when `faults` says so.
    ///
    /// # Errors
    ///
    /// As [`crate::Store::create`].
    pub fn create(dir: &Path, faults: Faults) -> Result<Self, OpenError> {
        require_no_state(dir)?;
        let directory = Directory::acquire(dir, true)?;
        // Someone may have been faster until the lock was taken.
        require_no_state(dir)?;
        let disk = Disk::direct(directory.new_state()?, faults);
        let path = directory.state_path();
        let opened = tables::open(disk).and_then(|database| {
            tables::initialise(&database)?;
            let contents = tables::load(&database)?;
            Ok((database, contents))
        });
        let (database, contents) = opened.map_err(|fault| refusal(path, fault))?;
        directory.adopt_new_state()?;
        Self::start(directory, database, contents)
    }

    /// As [`crate::Store::open`], on a disk that fails when `faults` says so.
    ///
    /// # Errors
    ///
    /// As [`crate::Store::open`].
    pub fn open(dir: &Path, faults: Faults) -> Result<Self, OpenError> {
        require_state(dir)?;
        let directory = Directory::acquire(dir, false)?;
        let path = directory.state_path();
        let file = directory.open_state()?;
        let length = file.metadata().map_err(failed("read", &path))?.len();
        if length == 0 {
            // redb would make a new database of it.
            return Err(corrupt(path, "it is empty".to_owned()));
        }
        let disk = Disk::staged(file, faults);
        let (database, contents) = inspect(&disk).map_err(|fault| refusal(path.clone(), fault))?;
        directory.acknowledged()?.check(contents.revision)?;
        disk.release().map_err(failed("repair", &path))?;
        Self::start(directory, database, contents)
    }

    fn start(
        directory: Directory,
        database: Database,
        contents: Contents,
    ) -> Result<Self, OpenError> {
        let acknowledged = directory.acknowledged()?;
        // What can be read may be acted on, so a transaction that a crash kept from being
        // acknowledged counts as acknowledged from here on.
        acknowledged
            .write(contents.revision)
            .map_err(failed("note the revision of", &directory.state_path()))?;
        let shared = Arc::new(Shared::new(database, acknowledged, contents));
        let writing = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writing.run())
            .map_err(failed(
                "start the writing thread of",
                &directory.state_path(),
            ))?;
        Ok(Self {
            shared,
            writer: Some(writer),
            _directory: directory,
        })
    }

    pub(crate) fn enqueue(&self, batch: Vec<Write>) -> Result<Ticket, CommitError> {
        self.shared.enqueue(batch)
    }

    pub(crate) fn enqueue_when_room(&self, batch: Vec<Write>) -> Result<Ticket, CommitError> {
        self.shared.enqueue_when_room(batch)
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        self.read(|database| tables::get(database, key))
    }

    pub(crate) fn page(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.read(|database| tables::page(database, prefix, after, limit))
    }

    pub(crate) fn revision(&self) -> Revision {
        self.shared.durable()
    }

    pub(crate) fn transactions(&self) -> u64 {
        self.shared.transactions()
    }

    pub(crate) fn close(mut self) -> Result<(), CommitError> {
        self.stop();
        match self.shared.poison() {
            Some(cause) => Err(CommitError::Poisoned { cause }),
            None => Ok(()),
        }
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, ReadError> {
        if let Some(cause) = self.shared.poison() {
            return Err(ReadError::Poisoned { cause });
        }
        read(&self.shared.database).map_err(|error| ReadError::Io {
            detail: error.to_string().into(),
        })
    }

    fn stop(&mut self) {
        self.shared.stop();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            // The thread has poisoned the store on its way out, which `close` reports.
            tracing::error!("the writing thread of the store panicked");
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Opens and checks the database on a staged disk.
fn inspect(disk: &Disk) -> Result<(Database, Contents), Fault> {
    // redb reports most damage, but its own assertions are no interface to rely on.
    let inspected = panic::catch_unwind(AssertUnwindSafe(|| {
        let database = tables::open(disk.clone())?;
        let contents = tables::load(&database)?;
        Ok((database, contents))
    }));
    inspected.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("for an unknown reason");
        Err(Fault::Damaged(format!("reading it failed: {message}")))
    })
}

fn refusal(path: PathBuf, fault: Fault) -> OpenError {
    match fault {
        Fault::Io(source) => OpenError::Io {
            action: "read",
            path,
            source,
        },
        Fault::Damaged(detail) => corrupt(path, detail),
        Fault::Newer(found) => OpenError::NewerFormat {
            path,
            found,
            supported: FORMAT,
        },
    }
}

fn corrupt(path: PathBuf, detail: String) -> OpenError {
    let remedy = "it was left as it is: restore the directory from a backup, or move it away and \
                  initialise the service anew";
    OpenError::Corrupt {
        path,
        detail,
        remedy: remedy.to_owned(),
    }
}
