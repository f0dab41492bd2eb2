//! What is in the state file: two tables, and how they are read and written.

use std::collections::HashMap;
use std::io;
use std::ops::Bound;

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError, TransactionError,
};

use super::disk::Disk;
use super::queue::Waiting;
use crate::{Action, Key, Record, Revision};

/// The format of the file, raised by every change that an older version would misread.
pub(super) const FORMAT: u64 = 1;

/// Memory for pages, half of it for those that are not written yet. What is read often is kept by
/// the services, and the system caches the file: more here would only hold it a second time.
const CACHE_BYTES: usize = 1024 * 1024;

/// Facts about the store itself, by name.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_REVISION: &str = "revision";

/// The records: key to revision and value.
const RECORDS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("records");

/// What is known of a file once it was found sound.
#[derive(Debug)]
pub(super) struct Contents {
    /// The last durable revision.
    pub(super) revision: Revision,
    /// The revision of each record.
    pub(super) revisions: HashMap<Key, Revision>,
}

/// Why a file is of no use.
#[derive(Debug)]
pub(super) enum Fault {
    /// The operating system failed.
    Io(io::Error),
    /// The contents are wrong.
    Damaged(String),
    /// A later version of this program wrote it, with this format.
    Newer(u64),
}

/// Opens the database on `disk`, verifying every page; an empty file becomes an empty database.
pub(super) fn open(disk: Disk) -> Result<Database, Fault> {
    Ok(Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(disk)?)
}

/// Makes an empty database one of this store, durably.
pub(super) fn initialise(database: &Database) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_REVISION, Revision::ZERO.get())?;
        transaction.open_table(RECORDS)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Checks that the database is one of this store, and reads what is kept in memory of it.
pub(super) fn load(database: &Database) -> Result<Contents, Fault> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => {
            return Err(Fault::Damaged(
                "it is a database of another program".to_owned(),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let read = |name: &str| -> Result<u64, Fault> {
        let number = meta.get(name)?.map(|number| number.value());
        number.ok_or_else(|| Fault::Damaged(format!("its {name} is missing")))
    };
    // The format comes first: it decides what the rest means.
    match read(META_FORMAT)? {
        FORMAT => {}
        newer if newer > FORMAT => return Err(Fault::Newer(newer)),
        other => {
            return Err(Fault::Damaged(format!(
                "it has the format {other}, never in use"
            )));
        }
    }
    let revision = Revision::new(read(META_REVISION)?);
    let mut revisions = HashMap::new();
    for entry in transaction.open_table(RECORDS)?.iter()? {
        let (key, value) = entry?;
        let key = Key::new(key.value()).map_err(|error| Fault::Damaged(error.to_string()))?;
        let written = Revision::new(value.value().0);
        if written == Revision::ZERO || written > revision {
            return Err(Fault::Damaged(format!(
                "{key} is of revision {written}, but the last revision is {revision}"
            )));
        }
        revisions.insert(key, written);
    }
    Ok(Contents {
        revision,
        revisions,
    })
}

/// Makes all batches of `group` durable in one transaction.
pub(super) fn write(database: &Database, group: &[Waiting]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut records = transaction.open_table(RECORDS)?;
        for batch in group {
            for (key, action) in &batch.writes {
                match action {
                    Action::Put(value) => {
                        records.insert(key.as_str(), (batch.revision.get(), value.as_slice()))?;
                    }
                    Action::Delete => {
                        records.remove(key.as_str())?;
                    }
                }
            }
        }
        if let Some(last) = group.last() {
            transaction
                .open_table(META)?
                .insert(META_REVISION, last.revision.get())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The record under `key`.
pub(super) fn get(database: &Database, key: &Key) -> Result<Option<Record>, redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let found = records.get(key.as_str())?;
    Ok(found.map(|found| record(key.clone(), found.value())))
}

/// At most `limit` records whose key begins with `prefix` and comes after `after`.
pub(super) fn page(
    database: &Database,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Record>, redb::Error> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let start = match after {
        Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
        _ => Bound::Included(prefix),
    };
    let mut page = Vec::new();
    for entry in records.range::<&str>((start, Bound::Unbounded))? {
        let (key, value) = entry?;
        if page.len() == limit || !key.value().starts_with(prefix) {
            break;
        }
        // All keys were checked when they were written, and again when the store was opened.
        let key =
            Key::new(key.value()).map_err(|error| StorageError::Corrupted(error.to_string()))?;
        page.push(record(key, value.value()));
    }
    Ok(page)
}

fn record(key: Key, (revision, value): (u64, &[u8])) -> Record {
    Record {
        key,
        revision: Revision::new(revision),
        value: value.to_vec(),
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            // The file says that something is where the file has ended.
            redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged("it ends too early".to_owned())
            }
            // What it says is not even a possible place in a file.
            redb::Error::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
                ) =>
            {
                Self::Damaged(error.to_string())
            }
            redb::Error::Io(error) => Self::Io(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// All errors of redb are one here: what matters is whether the file or the system is at fault.
macro_rules! faults_from {
    ($($error:ty),+) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })+
    };
}

faults_from!(
    DatabaseError,
    TransactionError,
    TableError,
    StorageError,
    redb::CommitError
);
