//! Damaged files: a clear refusal that changes nothing, or the right contents.

use std::fs;
use std::path::Path;

use redb::{Database, TableDefinition};
use store::{Expected, OpenError, Store};

use crate::{Outcome, put};

/// What a store held before its file was damaged, as text.
type Contents = String;

/// A directory with a store of a few hundred records, closed, and what is in it.
fn sample(dir: &Path) -> Outcome<Contents> {
    let store = Store::create(dir)?;
    fill(&store)?;
    let contents = contents(&store)?;
    store.close()?;
    Ok(contents)
}

/// A copy of the files of a store that was never closed, as a crash leaves them.
fn crashed_sample(dir: &Path) -> Outcome<Contents> {
    let running = dir.join("running");
    let store = Store::create(&running)?;
    fill(&store)?;
    for name in ["state.redb", "acknowledged"] {
        fs::copy(running.join(name), dir.join(name))?;
    }
    contents(&store)
}

fn fill(store: &Store) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for round in 0..6u8 {
        let batch = (0..40u8).map(|number| {
            let value = vec![round ^ number; 50 * usize::from(number)];
            put(&format!("k/{round}/{number:02}"), Expected::Absent, &value)
        });
        runtime.block_on(store.commit(batch.collect()))?;
    }
    Ok(())
}

fn contents(store: &Store) -> Outcome<Contents> {
    let records = store.scan("")?;
    let lines = records
        .iter()
        .map(|record| format!("{record:?} {:?}\n", record.value));
    Ok(format!(
        "{}\n{}",
        store.revision(),
        lines.collect::<String>()
    ))
}

/// Puts `bytes` in the place of the state file; returns the refusal, or nothing if what was there
/// is still there.
fn open_damaged(dir: &Path, bytes: &[u8], expected: &Contents) -> Outcome<Option<OpenError>> {
    let path = dir.join("state.redb");
    fs::write(&path, bytes)?;
    match Store::open(dir) {
        Ok(store) => {
            assert!(
                contents(&store)? == *expected,
                "opened, but with other contents"
            );
            Ok(None)
        }
        Err(error) => {
            assert!(
                fs::read(&path)? == bytes,
                "changed by a failed open: {error}"
            );
            Ok(Some(error))
        }
    }
}

/// As [`open_damaged`], for damage that must be noticed.
fn refused(dir: &Path, bytes: &[u8], expected: &Contents) -> Outcome<String> {
    let error = open_damaged(dir, bytes, expected)?.ok_or("the damage was not noticed")?;
    assert_eq!(error.reason(), "STORE_CORRUPT", "{error}");
    Ok(error.to_string())
}

#[test]
fn truncated_files_are_refused() -> Outcome {
    let dir = tempfile::tempdir()?;
    let expected = sample(dir.path())?;
    let whole = fs::read(dir.path().join("state.redb"))?;
    assert!(refused(dir.path(), b"", &expected)?.contains("it is empty; it was left as it is"));
    for length in lengths(whole.len()) {
        refused(dir.path(), &whole[..length], &expected)
            .map_err(|error| format!("{length} of {} bytes: {error}", whole.len()))?;
    }
    // And whole, it is what it was: the refusals were not of something else.
    assert!(open_damaged(dir.path(), &whole, &expected)?.is_none());
    Ok(())
}

/// A file that a crash left may end in pages that nothing was in: losing those is harmless.
#[test]
fn truncated_files_of_a_crash_are_refused_or_complete() -> Outcome {
    let dir = tempfile::tempdir()?;
    let expected = crashed_sample(dir.path())?;
    let whole = fs::read(dir.path().join("state.redb"))?;
    let mut refusals = 0;
    for length in lengths(whole.len()) {
        let refusal = open_damaged(dir.path(), &whole[..length], &expected)
            .map_err(|error| format!("{length} of {} bytes: {error}", whole.len()))?;
        if let Some(error) = refusal {
            assert_eq!(error.reason(), "STORE_CORRUPT", "{length}: {error}");
            refusals += 1;
        }
    }
    assert!(refusals > 40, "only {refusals} were refused");
    Ok(())
}

/// Where to cut a file of `whole` bytes: around its structures, and everywhere else.
fn lengths(whole: usize) -> Vec<usize> {
    let header = [
        1, 8, 9, 10, 63, 64, 191, 192, 319, 320, 321, 4095, 4096, 4097, 8192,
    ];
    let parts = (1..40).map(|part| whole / 40 * part);
    header
        .into_iter()
        .chain(parts)
        .chain([whole - 4096, whole - 1])
        .collect()
}

#[test]
fn foreign_files_are_refused() -> Outcome {
    let dir = tempfile::tempdir()?;
    let expected = sample(dir.path())?;
    let noise: Vec<u8> = (0..100_000u32)
        .map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes()[3])
        .collect();
    refused(dir.path(), b"SQLite format 3\0", &expected)?;
    refused(dir.path(), &noise, &expected)?;
    refused(dir.path(), &vec![0; 1 << 21], &expected)?;

    let other = dir.path().join("other.redb");
    let database = Database::create(&other)?;
    let transaction = database.begin_write()?;
    transaction
        .open_table(TableDefinition::<u64, u64>::new("theirs"))?
        .insert(1, 1)?;
    transaction.commit()?;
    drop(database);
    let refusal = refused(dir.path(), &fs::read(&other)?, &expected)?;
    assert!(
        refusal.contains("a database of another program"),
        "{refusal}"
    );
    Ok(())
}

#[test]
fn flipped_bytes_are_noticed_or_harmless() -> Outcome {
    for (name, sample) in [
        ("closed", sample as fn(&Path) -> _),
        ("crashed", crashed_sample),
    ] {
        let dir = tempfile::tempdir()?;
        let expected = sample(dir.path())?;
        let mut bytes = fs::read(dir.path().join("state.redb"))?;
        let acknowledged = fs::read(dir.path().join("acknowledged"))?;
        assert!(
            open_damaged(dir.path(), &bytes, &expected)?.is_none(),
            "{name}, undamaged"
        );
        let used = 1 + bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .ok_or("an empty file")?;
        // What redb decides by, much of the rest of the header, and a sample of all that was ever
        // written.
        let header = (0..24).chain((24..320).step_by(7));
        let offsets: Vec<_> = header.chain((320..used).step_by(used / 90)).collect();
        let mut noticed = 0;
        for offset in &offsets {
            for mask in if *offset < 24 {
                &[0x01, 0x02, 0x04, 0xFF][..]
            } else {
                &[0xFF]
            } {
                bytes[*offset] ^= mask;
                fs::write(dir.path().join("acknowledged"), &acknowledged)?;
                let refusal = open_damaged(dir.path(), &bytes, &expected)
                    .map_err(|error| format!("{name}, byte {offset} ^ {mask:02x}: {error}"))?;
                if let Some(error) = refusal {
                    assert_eq!(error.reason(), "STORE_CORRUPT", "{name}, {offset}: {error}");
                    noticed += 1;
                }
                bytes[*offset] ^= mask;
            }
        }
        assert!(
            noticed > offsets.len() / 4,
            "{name}: only {noticed} of {} noticed",
            offsets.len()
        );
    }
    Ok(())
}

#[test]
fn a_newer_format_is_named() -> Outcome {
    let dir = tempfile::tempdir()?;
    sample(dir.path())?;
    set_meta(dir.path(), "format", 7)?;
    let before = fs::read(dir.path().join("state.redb"))?;
    match Store::open(dir.path()) {
        Err(OpenError::NewerFormat {
            found: 7,
            supported: 1,
            ..
        }) => {}
        other => return Err(format!("{other:?}").into()),
    }
    assert!(
        fs::read(dir.path().join("state.redb"))? == before,
        "changed by a failed open"
    );
    Ok(())
}

#[test]
fn contradictions_are_refused() -> Outcome {
    let check = |name: &str, value: u64, expected: &str| -> Outcome {
        let dir = tempfile::tempdir()?;
        sample(dir.path())?;
        set_meta(dir.path(), name, value)?;
        let error = Store::open(dir.path()).err().ok_or("it was opened")?;
        assert!(error.to_string().contains(expected), "{error}");
        Ok(())
    };
    check("format", 0, "it has the format 0, never in use")?;
    check(
        "revision",
        3,
        "is of revision 4, but the last revision is 3",
    )
}

#[test]
fn an_older_state_than_acknowledged_is_refused() -> Outcome {
    let dir = tempfile::tempdir()?;
    sample(dir.path())?;
    let (state, note) = (
        dir.path().join("state.redb"),
        dir.path().join("acknowledged"),
    );
    let yesterday = fs::read(&state)?;
    let store = Store::open(dir.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(store.commit(vec![put("new", Expected::Absent, b"")]))?;
    store.close()?;

    fs::write(&state, &yesterday)?;
    let error = Store::open(dir.path())
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    let expected = "revision 7 was acknowledged, but state.redb ends at revision 6";
    assert!(error.contains(expected), "{error}");
    fs::write(&note, b"twenty or so")?;
    let error = Store::open(dir.path())
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(
        error.contains("it is not a revision of twenty digits"),
        "{error}"
    );
    assert!(fs::read(&state)? == yesterday, "changed by a failed open");

    // The remedy that the message names.
    fs::remove_file(&note)?;
    assert_eq!(Store::open(dir.path())?.revision().get(), 6);
    Ok(())
}

/// Changes a fact about the store behind its back.
fn set_meta(dir: &Path, name: &str, value: u64) -> Outcome {
    let database = Database::open(dir.join("state.redb"))?;
    let transaction = database.begin_write()?;
    transaction
        .open_table(TableDefinition::<&str, u64>::new("meta"))?
        .insert(name, value)?;
    transaction.commit()?;
    Ok(())
}
