//! The state file as redb sees it.
//!
//! redb writes to a file as soon as it opens it: marks, repairs, the result of a check. A file
//! that turns out to be damaged must stay as it was found, since it is the evidence and perhaps
//! all that is left to rescue. So a [`Disk`] starts *staged*: writes stay in memory, reads see
//! them, and only [`Disk::release`] lets them through, in their order and with their syncs, so
//! that a crash in between is one that redb recovers from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// A file behind redb; clones are the same file.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    faults: Faults,
    /// What is held back, oldest first; `None` once writes go through.
    staged: Mutex<Option<Vec<Operation>>>,
}

#[derive(Debug, Clone)]
enum Operation {
    Write { offset: u64, bytes: Vec<u8> },
    SetLength(u64),
    Sync,
}

impl Disk {
    /// A disk whose writes are held back until [`Disk::release`].
    pub(super) fn staged(file: File, faults: Faults) -> Self {
        Self(Arc::new(Inner {
            file,
            faults,
            staged: Mutex::new(Some(Vec::new())),
        }))
    }

    /// A disk whose writes go to the file.
    pub(super) fn direct(file: File, faults: Faults) -> Self {
        Self(Arc::new(Inner {
            file,
            faults,
            staged: Mutex::new(None),
        }))
    }

    /// Lets what was held back go to the file, and everything after it.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut staged = self.0.staged();
        for operation in staged.iter().flatten() {
            match operation {
                Operation::Write { offset, bytes } => self.0.file.write_all_at(bytes, *offset)?,
                Operation::SetLength(length) => self.0.file.set_len(*length)?,
                Operation::Sync => self.0.sync()?,
            }
        }
        *staged = None;
        Ok(())
    }
}

impl Inner {
    fn staged(&self) -> MutexGuard<'_, Option<Vec<Operation>>> {
        // No code that can panic runs under this lock but an allocation, which aborts.
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds `operation` back if it must not go through yet; says whether it did.
    fn holds_back(&self, operation: impl FnOnce() -> Operation) -> bool {
        match &mut *self.staged() {
            Some(operations) => {
                operations.push(operation());
                true
            }
            None => false,
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.check()?;
        self.file.sync_data()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let file = self.0.file.metadata()?.len();
        Ok(match &*self.0.staged() {
            Some(operations) => length(file, operations),
            None => file,
        })
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let staged = self.0.staged();
        let Some(operations) = staged.as_ref() else {
            drop(staged);
            return self.0.file.read_exact_at(out, offset);
        };
        let file = self.0.file.metadata()?.len();
        let end = offset.checked_add(size(out.len()));
        if end.is_none_or(|end| end > length(file, operations)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let available = span(file.saturating_sub(offset), out.len());
        self.0.file.read_exact_at(&mut out[..available], offset)?;
        for operation in operations {
            replay(operation, offset, out);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.0.holds_back(|| Operation::SetLength(len)) {
            return Ok(());
        }
        self.0.faults.check()?;
        self.0.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.0.holds_back(|| Operation::Sync) {
            return Ok(());
        }
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.0.holds_back(|| Operation::Write {
            offset,
            bytes: data.to_vec(),
        }) {
            return Ok(());
        }
        self.0.faults.check()?;
        self.0.file.write_all_at(data, offset)
    }
}

/// The length of a file of `file` bytes after `operations`.
fn length(file: u64, operations: &[Operation]) -> u64 {
    operations
        .iter()
        .fold(file, |length, operation| match operation {
            Operation::Write { offset, bytes } => {
                length.max(offset.saturating_add(size(bytes.len())))
            }
            Operation::SetLength(length) => *length,
            Operation::Sync => length,
        })
}

/// Does to `window`, which shows the file from `offset`, what `operation` does to the file.
fn replay(operation: &Operation, offset: u64, window: &mut [u8]) {
    match operation {
        Operation::Write {
            offset: start,
            bytes,
        } => {
            let skip_window = span(start.saturating_sub(offset), window.len());
            let skip_bytes = span(offset.saturating_sub(*start), bytes.len());
            let count = (window.len() - skip_window).min(bytes.len() - skip_bytes);
            window[skip_window..skip_window + count]
                .copy_from_slice(&bytes[skip_bytes..skip_bytes + count]);
        }
        // What is cut off reads as zeros if the file grows again.
        Operation::SetLength(length) => {
            let kept = span(length.saturating_sub(offset), window.len());
            window[kept..].fill(0);
        }
        Operation::Sync => {}
    }
}

/// `distance`, but at most `limit`.
fn span(distance: u64, limit: usize) -> usize {
    usize::try_from(distance).map_or(limit, |distance| distance.min(limit))
}

/// A length in memory as one in a file: files have 64 bits, and so has memory at most.
fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Disk faults that a test switches on, to see what a service does when its disk fails. Clones
/// switch the same disk; a store without such a test has one that stays off.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<AtomicBool>);

impl Faults {
    /// From now on every write and sync fails, as on a full or broken disk.
    pub fn fail_writes(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::SeqCst) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            4 => (0..80u64, prop::collection::vec(1..=255u8, 1..24))
                .prop_map(|(offset, bytes)| Operation::Write { offset, bytes }),
            1 => (0..100u64).prop_map(Operation::SetLength),
            1 => Just(Operation::Sync),
        ]
    }

    fn run(disk: &Disk, operation: &Operation) -> io::Result<()> {
        match operation {
            Operation::Write { offset, bytes } => disk.write(*offset, bytes),
            Operation::SetLength(length) => disk.set_len(*length),
            Operation::Sync => disk.sync_data(),
        }
    }

    fn contents(disk: &Disk) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; span(disk.len()?, usize::MAX)];
        disk.read(0, &mut bytes)?;
        Ok(bytes)
    }

    proptest! {
        /// A staged disk shows what a direct one would, leaves the file alone, and makes it the
        /// same when released.
        #[test]
        fn staged_disk_is_a_disk(operations in prop::collection::vec(operation(), 0..20)) {
            let before: Vec<u8> = (0..50).collect();
            let [mut held, mut reference] = [tempfile::tempfile()?, tempfile::tempfile()?];
            for file in [&mut held, &mut reference] {
                io::Write::write_all(file, &before)?;
            }
            let untouched = held.try_clone()?;
            let staged = Disk::staged(held, Faults::default());
            let direct = Disk::direct(reference, Faults::default());
            for operation in &operations {
                run(&staged, operation)?;
                run(&direct, operation)?;
            }
            let expected = contents(&direct)?;
            prop_assert_eq!(&contents(&staged)?, &expected);
            for start in 0..expected.len() {
                let mut part = vec![0; (expected.len() - start).min(7)];
                staged.read(size(start), &mut part)?;
                prop_assert_eq!(&part, &expected[start..start + part.len()]);
            }
            let mut beyond = vec![0; expected.len() + 1];
            prop_assert!(staged.read(0, &mut beyond).is_err());
            prop_assert_eq!(contents(&Disk::direct(untouched, Faults::default()))?, before);
            staged.release()?;
            prop_assert_eq!(contents(&staged)?, expected);
        }
    }
}
