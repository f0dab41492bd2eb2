//! What is found in a directory decides whether a store is made, opened or refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use store::{CommitError, Expected, OpenError, Store};

use crate::{Outcome, put};

fn reason(outcome: Result<Store, OpenError>) -> Option<&'static str> {
    outcome.err().map(|error| error.reason())
}

#[test]
fn create_makes_private_files_in_a_private_directory() -> Outcome {
    let temporary = tempfile::tempdir()?;
    let dir = temporary.path().join("state");
    Store::create(&dir)?.close()?;
    let mode = |name: &str| -> Outcome<u32> {
        Ok(fs::metadata(dir.join(name))?.permissions().mode() & 0o7777)
    };
    assert_eq!(mode("")?, 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let name = entry?
            .file_name()
            .into_string()
            .map_err(|_| "a strange name")?;
        assert_eq!(mode(&name)?, 0o600, "{name}");
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["acknowledged", "lock", "state.redb"]);
    Ok(())
}

#[test]
fn create_needs_a_parent_and_an_empty_place() -> Outcome {
    let temporary = tempfile::tempdir()?;
    assert_eq!(
        reason(Store::create(&temporary.path().join("a/b"))),
        Some("STORE_IO")
    );
    for name in ["state.redb", "acknowledged"] {
        let dir = temporary.path().join(format!("with-{name}"));
        fs::create_dir(&dir)?;
        fs::write(dir.join(name), b"precious")?;
        assert_eq!(
            reason(Store::create(&dir)),
            Some("STORE_ALREADY_INITIALISED")
        );
        assert_eq!(fs::read(dir.join(name))?, b"precious");
        assert_eq!(fs::read_dir(&dir)?.count(), 1, "nothing was added");
    }
    let dir = temporary.path().join("twice");
    Store::create(&dir)?.close()?;
    assert_eq!(
        reason(Store::create(&dir)),
        Some("STORE_ALREADY_INITIALISED")
    );
    Ok(())
}

#[tokio::test]
async fn create_replaces_what_an_interrupted_create_left() -> Outcome {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("state.redb.new"), b"half of it")?;
    let store = Store::create(dir.path())?;
    store.commit(vec![put("a", Expected::Absent, b"1")]).await?;
    assert!(!dir.path().join("state.redb.new").exists());
    Ok(())
}

#[test]
fn open_needs_a_state() -> Outcome {
    let temporary = tempfile::tempdir()?;
    let check = |dir: &std::path::Path, remedy: &str| {
        let error = Store::open(dir)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(
            error.contains("there is no state in") && error.contains(remedy),
            "{error}"
        );
    };
    check(
        &temporary.path().join("nowhere"),
        "initialise the service first",
    );
    check(temporary.path(), "initialise the service first");
    assert_eq!(
        fs::read_dir(temporary.path())?.count(),
        0,
        "nothing was added"
    );
    fs::write(
        temporary.path().join("acknowledged"),
        b"00000000000000000042\n",
    )?;
    check(temporary.path(), "restore the directory from a backup");
    Ok(())
}

#[test]
fn a_directory_has_one_store_at_a_time() -> Outcome {
    let dir = tempfile::tempdir()?;
    let store = Store::create(dir.path())?;
    match Store::open(dir.path()) {
        Err(OpenError::Locked { dir: named, pid }) => {
            assert_eq!(
                (named.as_path(), pid),
                (dir.path(), Some(std::process::id()))
            );
        }
        other => return Err(format!("opened twice: {other:?}").into()),
    }
    store.close()?;
    drop(Store::open(dir.path())?);
    Store::open(dir.path())?.close()?;
    Ok(())
}

#[tokio::test]
async fn closing_writes_what_waits() -> Outcome {
    let dir = tempfile::tempdir()?;
    let store = Store::create(dir.path())?;
    let mut tickets = Vec::new();
    for number in 0..50 {
        let write = put(&format!("k/{number:02}"), Expected::Absent, b"value");
        tickets.push(store.enqueue(vec![write])?);
    }
    store.close()?;
    for ticket in tickets {
        ticket.durable().await?;
    }
    let store = Store::open(dir.path())?;
    assert_eq!((store.scan("k/")?.len(), store.revision().get()), (50, 50));
    drop(store.enqueue(vec![put("dropped", Expected::Absent, b"value")])?);
    drop(store);
    assert_eq!(Store::open(dir.path())?.scan("dropped")?.len(), 1);
    Ok(())
}

#[test]
fn every_refusal_has_its_own_reason() {
    let fatal = CommitError::Poisoned {
        cause: "disk".into(),
    };
    assert!(fatal.is_fatal() && !CommitError::Closed.is_fatal());
    assert_ne!(fatal.reason(), CommitError::Closed.reason());
}
