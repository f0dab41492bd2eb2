//! The state directory: made as a whole or not at all, and the records in it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use api::store_v1::{RequestRecord, SiteRecord};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use site::{DistributedCloudRole, Site, Timestamp};
use store::{Action, Expected, Key, Revision, Store, Write};

use crate::requests::{Answered, RequestLog};
use crate::{Exit, Failure, random_uuid};

/// Where the answers to requests are kept.
const REQUESTS: &str = "request/";

/// Why a state directory cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// There is something already.
    #[error(
        "{0} exists and is not empty; `init` never overwrites state: \
         choose another directory, or move this one away"
    )]
    NotEmpty(PathBuf),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Makes a state directory with mode 0700. `fill` works in a directory beside it that gets its
/// name only at the end, so an interrupted `init` leaves nothing that looks like a site. An empty
/// directory that is there already is filled from one within it: its owner need not own the
/// directory around it, and it may be a mount point.
///
/// # Errors
/// When `dir` has state, the file system refuses, or `fill` fails; `dir` is then as before.
pub fn create_state_dir(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let there = fs::read_dir(dir).map(|mut entries| entries.next().is_some());
    if matches!(there, Ok(true)) {
        let error = StateDirError::NotEmpty(dir.to_owned());
        return Err(Failure::new(Exit::DataError, error.to_string()));
    }
    let (around, name) = match there {
        Ok(_) => (dir.to_owned(), std::ffi::OsString::from("state")),
        Err(_) => beside(dir)?,
    };
    fs::create_dir_all(&around).map_err(|error| failed(&around, error))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".init-{}", random_uuid().simple()));
    let staging = around.join(hidden);
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&staging)
        .map_err(|error| failed(&staging, error))?;
    let made = fill(&staging).and_then(|()| match there {
        Ok(_) => move_into(&staging, dir),
        Err(_) => {
            // Fails on a directory that got content meanwhile.
            fs::rename(&staging, dir).map_err(|error| failed(dir, error))?;
            sync(&around)
        }
    });
    if made.is_err()
        && staging.exists()
        && let Err(error) = fs::remove_dir_all(&staging)
    {
        eprintln!("{} is left behind: {error}", staging.display());
    }
    made
}

/// The directory around one, and its name there.
fn beside(dir: &Path) -> Result<(PathBuf, std::ffi::OsString), Failure> {
    let name = dir.file_name().ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("--state-dir {} has no name", dir.display()),
        )
    })?;
    let around = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((around.to_owned(), name.to_owned()))
}

/// Moves every file one level up, that with the state last: without it there is no site.
fn move_into(staging: &Path, dir: &Path) -> Result<(), Failure> {
    let mut files = Vec::new();
    for entry in fs::read_dir(staging).map_err(|error| failed(staging, error))? {
        files.push(entry.map_err(|error| failed(staging, error))?.file_name());
    }
    files.sort_by_key(|name| name == store::STATE_FILE);
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .map_err(|error| failed(dir, error))?;
    let mut placed = Vec::new();
    let moved = files.into_iter().try_for_each(|name| {
        if name == store::STATE_FILE {
            sync(dir)?;
        }
        let place = dir.join(&name);
        fs::rename(staging.join(&name), &place).map_err(|error| failed(&place, error))?;
        placed.push(place);
        Ok(())
    });
    let whole = moved.and_then(|()| {
        fs::remove_dir(staging).map_err(|error| failed(staging, error))?;
        sync(dir)
    });
    if whole.is_err() {
        for place in placed.iter().rev() {
            if let Err(error) = fs::remove_file(place) {
                eprintln!("{} is left behind: {error}", place.display());
            }
        }
    }
    whole
}

fn sync(dir: &Path) -> Result<(), Failure> {
    let opened = fs::File::open(dir).map_err(|error| failed(dir, error))?;
    opened.sync_all().map_err(|error| failed(dir, error))
}

fn failed(path: &Path, source: std::io::Error) -> Failure {
    let error = StateDirError::Io {
        path: path.to_owned(),
        source,
    };
    Failure::new(Exit::Io, error.to_string())
}

/// Opens the store of a state directory, which locks it against other processes.
///
/// # Errors
/// Says what is wrong with the directory and what to do; nothing is changed.
pub fn open_store(dir: &Path) -> Result<Store, Failure> {
    Store::open(dir).map_err(|error| Failure::because(Exit::Io, "cannot use the state", &error))
}

/// Reads the site of a store, which must have the role that the program serves.
///
/// # Errors
/// As [`read_site`]; exit 65 when the state is another program's.
pub fn read_site_of(
    store: &Store,
    role: DistributedCloudRole,
) -> Result<(Site, Revision), Failure> {
    let (site, revision) = read_site(store)?;
    let identity = site.identity();
    if identity.role == role {
        return Ok((site, revision));
    }
    let name = &identity.name;
    let (what, program) = match identity.role {
        DistributedCloudRole::SystemController => ("a system controller", "system-controller"),
        DistributedCloudRole::Subcloud => ("a subcloud", "subcloud-agent"),
        DistributedCloudRole::None => ("a standalone site", "no program of this product"),
    };
    let message = format!(
        "the state is that of {what}, {name}, which {program} serves; name another --state-dir, \
         or use that program"
    );
    Err(Failure::new(Exit::DataError, message))
}

/// Reads the site of a store.
///
/// # Errors
/// When there is none, or it cannot be read; nothing is changed.
pub fn read_site(store: &Store) -> Result<(Site, Revision), Failure> {
    let broken = |what: String| Failure::new(Exit::Io, format!("the site's record {what}"));
    let record = store
        .get(&site_key())
        .map_err(|error| Failure::because(Exit::Io, "cannot read the site's record", &error))?
        .ok_or_else(|| broken("is missing; run `init` in a new directory".to_owned()))?;
    let message = SiteRecord::decode(record.value.as_slice())
        .map_err(|error| broken(format!("cannot be decoded: {error}")))?;
    let parts = api::convert::parts_from_wire(&message.site.unwrap_or_default())
        .map_err(|faults| broken(format!("cannot be read: {}", join(&faults))))?;
    let site = Site::from_parts(parts)
        .map_err(|rejection| broken(format!("breaks the rules of a site: {rejection}")))?;
    Ok((site, record.revision))
}

/// The write that makes a site durable.
pub fn site_write(site: &Site, expected: Expected) -> Write {
    let record = SiteRecord {
        site: Some(api::convert::site_fields_to_wire(site)),
    };
    Write {
        key: site_key(),
        expected,
        action: Action::Put(record.encode_to_vec()),
    }
}

/// The write that keeps an answer for its request id.
pub(crate) fn request_write(id: &str, answered: &Answered) -> Write {
    let record = RequestRecord {
        request_id: id.to_owned(),
        fingerprint: answered.fingerprint.to_vec(),
        answer: answered.answer.clone(),
        at_milliseconds: answered.at.0,
    };
    let action = Action::Put(record.encode_to_vec());
    Write {
        key: request_key(id),
        expected: Expected::Any,
        action,
    }
}

/// The key of an answer. Ids are free text, keys are not: hence the hash.
pub(crate) fn request_key(id: &str) -> Key {
    let mut text = String::from(REQUESTS);
    for byte in Sha256::digest(id) {
        text.push_str(&format!("{byte:02x}"));
    }
    fixed_key(&text)
}

/// The answers that are kept.
pub(crate) fn requests_of(store: &Store) -> Result<RequestLog, Failure> {
    let failed = |what: &dyn std::error::Error| {
        Failure::because(Exit::Io, "cannot read the kept answers", what)
    };
    let mut log = RequestLog::default();
    for record in store.scan(REQUESTS).map_err(|error| failed(&error))? {
        let RequestRecord {
            request_id,
            fingerprint,
            answer,
            at_milliseconds,
        } = RequestRecord::decode(record.value.as_slice()).map_err(|error| failed(&error))?;
        let fingerprint = fingerprint.try_into().unwrap_or_default();
        let answered = Answered {
            fingerprint,
            answer,
            at: Timestamp(at_milliseconds),
        };
        // Those that have expired go from the disk with the next kept answer.
        log.keep(request_id, answered);
    }
    Ok(log)
}

fn site_key() -> Key {
    fixed_key("site")
}

/// A key from a text that is valid by construction.
fn fixed_key(text: &str) -> Key {
    Key::new(text).unwrap_or_else(|error| fatal_key(text, &error))
}

fn fatal_key(text: &str, error: &store::KeyError) -> ! {
    unreachable!("the key {text} is built from valid characters: {error}")
}

fn join(faults: &[api::convert::Malformed]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_whole_or_not_there() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = parent.path().join("deep/state");
        let fail = |_: &Path| Err(Failure::new(Exit::DataError, "no"));
        create_state_dir(&dir, fail).expect_err("filling failed");
        assert!(!dir.exists());
        assert_eq!(
            fs::read_dir(dir.parent().expect("a parent"))
                .expect("listed")
                .count(),
            0
        );

        let fill = |staging: &Path| {
            fs::write(staging.join("x"), "y")
                .map_err(|error| Failure::because(Exit::Io, "x", &error))
        };
        create_state_dir(&dir, fill).expect("made");
        assert_eq!(
            fs::metadata(&dir).expect("there").permissions().mode() & 0o777,
            0o700
        );

        create_state_dir(&dir, fill).expect_err("state is never overwritten");
        assert_eq!(fs::read_to_string(dir.join("x")).expect("kept"), "y");
    }

    #[test]
    fn an_empty_directory_that_is_there_is_filled_from_within() {
        let around = tempfile::tempdir().expect("a directory");
        let dir = around.path().join("state");
        fs::create_dir(&dir).expect("made");
        let names = |dir: &Path| -> Vec<_> {
            let entries = fs::read_dir(dir).expect("listed");
            let names = entries.map(|entry| entry.expect("an entry").file_name());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        let fail = |staging: &Path| {
            fs::write(staging.join("x"), "y").expect("written");
            Err(Failure::new(Exit::DataError, "no"))
        };
        create_state_dir(&dir, fail).expect_err("filling failed");
        assert_eq!(names(&dir), Vec::<std::ffi::OsString>::new());

        // Nothing may be made beside it.
        let within = dir.clone();
        let fill = |staging: &Path| {
            assert!(staging.starts_with(&within), "{}", staging.display());
            for name in ["key", store::STATE_FILE] {
                fs::write(staging.join(name), "y").expect("written");
            }
            Ok(())
        };
        create_state_dir(&dir, fill).expect("made");
        assert_eq!(names(&dir), ["key", store::STATE_FILE]);
        assert_eq!(names(around.path()), ["state"]);
        let mode = fs::metadata(&dir).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        create_state_dir(&dir, fail).expect_err("state is never overwritten");
    }
}
