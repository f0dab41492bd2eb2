//! The directory of a store: who may use it, and what the files in it are called.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{OpenError, Revision};

/// The file that has the records. A directory without it has no state.
pub const STATE_FILE: &str = "state.redb";

/// A directory that this process, and this store in it, holds alone until it is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The operating system lets go of the lock when the file is closed, however that happens.
    lock: File,
}

impl Drop for Directory {
    /// Lets go at once. Closing the file would not do while a process that another thread is just
    /// starting has a copy of it.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, dir = %self.path.display(), "the lock is held a little longer");
        }
    }
}

impl Directory {
    /// Locks `dir`, which is created if `create` says so.
    pub(super) fn acquire(dir: &Path, create: bool) -> Result<Self, OpenError> {
        if create && !dir.exists() {
            DirBuilder::new()
                .mode(0o700)
                .create(dir)
                .map_err(failed("create", dir))?;
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_directory(parent.unwrap_or_else(|| Path::new(".")))?;
        }
        let path = dir.join("lock");
        let mut lock = private()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked {
                    dir: dir.to_owned(),
                    pid: holder(&mut lock),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        lock.set_len(0).map_err(failed("write", &path))?;
        writeln!(lock, "{}", std::process::id()).map_err(failed("write", &path))?;
        Ok(Self {
            path: dir.to_owned(),
            lock,
        })
    }

    /// Where the state is.
    pub(super) fn state_path(&self) -> PathBuf {
        state_path(&self.path)
    }

    /// Opens the state file, and warns if others may read it.
    pub(super) fn open_state(&self) -> Result<File, OpenError> {
        let path = self.state_path();
        let file = private().open(&path).map_err(failed("open", &path))?;
        let mode = file.metadata().map_err(failed("read", &path))?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            tracing::warn!(
                path = %path.display(),
                mode = format_args!("{mode:04o}"),
                "the state file is open to other users; set its mode to 0600"
            );
        }
        Ok(file)
    }

    /// Makes the file in which a new state is prepared. What an interrupted `create` left is
    /// replaced: it never became a state.
    pub(super) fn new_state(&self) -> Result<File, OpenError> {
        let path = self.new_state_path();
        private()
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(failed("create", &path))
    }

    /// Makes the prepared state the state of this directory.
    pub(super) fn adopt_new_state(&self) -> Result<(), OpenError> {
        let path = self.new_state_path();
        fs::rename(&path, self.state_path()).map_err(failed("rename", &path))?;
        sync_directory(&self.path)
    }

    /// Opens the note of what was acknowledged; a directory without one gets one.
    pub(super) fn acknowledged(&self) -> Result<Acknowledged, OpenError> {
        let path = acknowledged_path(&self.path);
        let created = !path.exists();
        let file = private()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        let acknowledged = Acknowledged { file, path };
        if created {
            acknowledged
                .write(Revision::ZERO)
                .and_then(|()| acknowledged.sync())
                .map_err(failed("write", &acknowledged.path))?;
            sync_directory(&self.path)?;
        }
        Ok(acknowledged)
    }

    fn new_state_path(&self) -> PathBuf {
        self.path.join("state.redb.new")
    }
}

/// A note, beside the state, of the last revision that was acknowledged.
///
/// After a crash redb takes back a transaction that it finds damaged, for it may be one that was
/// interrupted. Only this note tells such a one from a transaction that was complete and has
/// rotted since, or from a state file restored from yesterday. It is written after the state was
/// synced and not synced itself, so it costs nothing and may be late, but it is never early.
#[derive(Debug)]
pub(super) struct Acknowledged {
    file: File,
    path: PathBuf,
}

impl Acknowledged {
    /// Notes `revision`: always the same number of bytes, so that one replaces another.
    pub(super) fn write(&self, revision: Revision) -> io::Result<()> {
        self.file
            .write_all_at(format!("{:020}\n", revision.get()).as_bytes(), 0)
    }

    /// Makes the note durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Refuses a state that is at `durable` if a later revision was acknowledged.
    pub(super) fn check(&self, durable: Revision) -> Result<(), OpenError> {
        let mut text = [0; 22];
        let length = read_up_to(&self.file, &mut text).map_err(failed("read", &self.path))?;
        let noted = std::str::from_utf8(&text[..length])
            .ok()
            .and_then(|text| text.strip_suffix('\n'))
            .filter(|digits| digits.len() == 20)
            .and_then(|digits| digits.parse().ok())
            .map(Revision::new);
        let detail = match noted {
            Some(noted) if noted <= durable => return Ok(()),
            Some(noted) => format!(
                "revision {noted} was acknowledged, but state.redb ends at revision {durable}: \
                 it is damaged or was restored from an older copy"
            ),
            None => "it is not a revision of twenty digits".to_owned(),
        };
        let remedy = "restore the whole directory from a backup, or remove this file to accept \
                      what state.redb holds";
        Err(OpenError::Corrupt {
            path: self.path.clone(),
            detail,
            remedy: remedy.to_owned(),
        })
    }
}

/// Refuses a directory without a state, before anything in it is touched.
pub(super) fn require_state(dir: &Path) -> Result<(), OpenError> {
    let path = state_path(dir);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(super::corrupt(path, "it is not a regular file".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = if acknowledged_path(dir).exists() {
                "there was one, state.redb is missing: restore the directory from a backup"
            } else {
                "initialise the service first, or correct the path of its directory"
            };
            Err(OpenError::NotInitialised {
                dir: dir.to_owned(),
                remedy: remedy.to_owned(),
            })
        }
        Err(source) => Err(failed("read", &path)(source)),
    }
}

/// Refuses a directory with any state in it.
pub(super) fn require_no_state(dir: &Path) -> Result<(), OpenError> {
    // A dangling symbolic link is in the way, too.
    let exists = |path: &PathBuf| fs::symlink_metadata(path).is_ok();
    match [state_path(dir), acknowledged_path(dir)]
        .into_iter()
        .find(exists)
    {
        None => Ok(()),
        Some(path) => Err(OpenError::AlreadyInitialised {
            path,
            remedy: "start the service without initialising it, or choose another directory"
                .to_owned(),
        }),
    }
}

/// Turns an error of the system into one that says what was attempted on what.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn state_path(dir: &Path) -> PathBuf {
    dir.join(STATE_FILE)
}

fn acknowledged_path(dir: &Path) -> PathBuf {
    dir.join("acknowledged")
}

/// Files of a store hold secrets of a fleet: only their owner reads them.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn holder(lock: &mut File) -> Option<u32> {
    // More than a process id has no place in there, and who knows what the file is.
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

fn read_up_to(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(
            &mut buffer[length..],
            u64::try_from(length).unwrap_or(u64::MAX),
        )? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

fn sync_directory(path: &Path) -> Result<(), OpenError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_goes_with_its_holder_also_while_a_copy_of_the_file_is_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Directory::acquire(dir.path(), false).expect("free");
        // What a child has between its start and its own program.
        let copy = held.lock.try_clone().expect("a copy");
        Directory::acquire(dir.path(), false).expect_err("held");
        drop(held);
        Directory::acquire(dir.path(), false).expect("free again");
        drop(copy);
    }
}
