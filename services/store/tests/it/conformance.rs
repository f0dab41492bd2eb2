//! What every backend does: one suite over `Store`, run for each way to make one.

use std::error::Error;

use store::{
    CommitError, Expected, MAX_BATCH_BYTES, MAX_BATCH_WRITES, MAX_VALUE_BYTES, Revision, Store,
    Write,
};

use crate::{Outcome, at, delete, named, put};

use Expected::{Absent, Any};

#[tokio::test]
async fn embedded_conforms() -> Outcome {
    let temporary = tempfile::tempdir()?;
    let mut count = 0;
    suite(|| {
        count += 1;
        Ok(Store::create(&temporary.path().join(count.to_string()))?)
    })
    .await
}

#[tokio::test]
async fn volatile_conforms() -> Outcome {
    suite(|| Ok(Store::volatile())).await
}

/// Everything that callers rely on, on fresh stores from `empty`. A later backend adds a test like
/// the one above and nothing in here.
async fn suite(mut empty: impl FnMut() -> Outcome<Store>) -> Outcome {
    an_empty_store_is_empty(&empty()?)?;
    expectations_decide(&empty()?).await?;
    a_batch_is_all_or_nothing(&empty()?).await?;
    expectations_see_what_is_enqueued(&empty()?).await?;
    malformed_batches_take_no_revision(&empty()?).await?;
    limits_are_inclusive(&empty()?).await?;
    scans_are_ordered_and_bounded(&empty()?).await?;
    deletes_are_writes(&empty()?).await?;
    a_dropped_ticket_is_still_written(&empty()?).await
}

/// A store as text: its revision, and every record with its own.
fn contents(store: &Store) -> Outcome<String> {
    let mut text = format!("{}:", store.revision());
    for record in store.scan("")? {
        let value = String::from_utf8(record.value)?;
        text.push_str(&format!(" {}={value}@{}", record.key, record.revision));
    }
    Ok(text)
}

/// Commits `batch` and returns what came of it, as text.
async fn outcome(store: &Store, batch: Vec<Write>) -> String {
    match store.commit(batch).await {
        Ok(revision) => revision.to_string(),
        Err(error) => format!("{}: {error}", error.reason()),
    }
}

fn an_empty_store_is_empty(store: &Store) -> Outcome {
    assert_eq!(contents(store)?, "0:");
    assert_eq!(store.get(&named("site"))?, None);
    assert_eq!(store.revision(), Revision::ZERO);
    Ok(())
}

async fn expectations_decide(store: &Store) -> Outcome {
    let steps = [
        (put("a", Absent, b"1"), "1"),
        (
            put("a", Absent, b"2"),
            "STORE_CONFLICT: a was expected to be absent, but it is at revision 1",
        ),
        (
            put("a", at(7), b"2"),
            "STORE_CONFLICT: a was expected to be revision 7, but it is at revision 1",
        ),
        (
            put("b", at(1), b"2"),
            "STORE_CONFLICT: b was expected to be revision 1, but it does not exist",
        ),
        (
            delete("b", at(0)),
            "STORE_CONFLICT: b was expected to be revision 0, but it does not exist",
        ),
        (put("a", at(1), b"2"), "2"),
        (put("a", Any, b"3"), "3"),
        (put("b", Any, b"4"), "4"),
        (delete("a", at(3)), "5"),
        (put("a", Absent, b"6"), "6"),
    ];
    for (write, expected) in steps {
        let step = format!("{write:?}");
        assert_eq!(outcome(store, vec![write]).await, expected, "{step}");
    }
    assert_eq!(contents(store)?, "6: a=6@6 b=4@4");
    Ok(())
}

async fn a_batch_is_all_or_nothing(store: &Store) -> Outcome {
    store
        .commit(vec![put("a", Absent, b"1"), put("b", Absent, b"1")])
        .await?;
    let refused = vec![
        put("a", at(1), b"2"),
        put("b", Absent, b"2"),
        put("c", at(9), b"2"),
        put("d", Absent, b"2"),
    ];
    // Every conflict is told, not only the first.
    assert_eq!(
        outcome(store, refused).await,
        "STORE_CONFLICT: b was expected to be absent, but it is at revision 1; c was expected to \
         be revision 9, but it does not exist"
    );
    assert_eq!(contents(store)?, "1: a=1@1 b=1@1");
    let accepted = vec![
        put("a", at(1), b"2"),
        delete("b", at(1)),
        put("c", Absent, b"2"),
    ];
    assert_eq!(outcome(store, accepted).await, "2");
    assert_eq!(contents(store)?, "2: a=2@2 c=2@2");
    Ok(())
}

async fn expectations_see_what_is_enqueued(store: &Store) -> Outcome {
    let first = store.enqueue(vec![put("a", Absent, b"1")])?;
    let second = store.enqueue(vec![put("a", Expected::At(first.revision()), b"2")])?;
    let third = store.enqueue(vec![delete("a", Expected::At(second.revision()))])?;
    let fourth = store.enqueue(vec![put("a", Absent, b"4")])?;
    let stale = store.enqueue(vec![put("a", Expected::At(first.revision()), b"5")]);
    assert_eq!(
        stale.err().map(|error| error.reason()),
        Some("STORE_CONFLICT")
    );
    // In any order of waiting.
    assert_eq!(fourth.durable().await?.get(), 4);
    for (ticket, revision) in [(second, 2), (first, 1), (third, 3)] {
        assert_eq!(ticket.revision().get(), revision);
        assert_eq!(ticket.durable().await?.get(), revision);
    }
    assert_eq!(contents(store)?, "4: a=4@4");
    Ok(())
}

async fn malformed_batches_take_no_revision(store: &Store) -> Outcome {
    assert_eq!(
        outcome(store, vec![]).await,
        "STORE_EMPTY_BATCH: the batch is empty"
    );
    assert_eq!(
        outcome(store, vec![put("a", Any, b"1"), delete("a", Any)]).await,
        "STORE_DUPLICATE_KEY: a occurs more than once in the batch"
    );
    assert_eq!(contents(store)?, "0:");
    assert_eq!(outcome(store, vec![put("a", Any, b"1")]).await, "1");
    Ok(())
}

async fn limits_are_inclusive(store: &Store) -> Outcome {
    let largest = vec![7; MAX_VALUE_BYTES];
    let over = vec![7; MAX_VALUE_BYTES + 1];
    let too_large = store.commit(vec![put("a", Any, &over)]).await;
    let expected = CommitError::TooLarge {
        key: named("a"),
        bytes: over.len(),
    };
    assert_eq!(too_large, Err(expected));

    let full = MAX_BATCH_BYTES / MAX_VALUE_BYTES;
    let mut batch: Vec<_> = (0..full)
        .map(|n| put(&format!("k{n}"), Any, &largest))
        .collect();
    batch.push(put("last", Any, b"1"));
    let refused = store.commit(batch.clone()).await;
    let (writes, bytes) = (full + 1, MAX_BATCH_BYTES + 1);
    assert_eq!(refused, Err(CommitError::BatchTooLarge { writes, bytes }));
    batch.pop();
    assert_eq!(store.commit(batch).await?.get(), 1);
    for record in store.scan("k")? {
        assert_eq!(record.value, largest, "{}", record.key);
    }

    let mut many: Vec<_> = (0..=MAX_BATCH_WRITES)
        .map(|n| put(&format!("n/{n:05}"), Absent, b""))
        .collect();
    let refused = store.commit(many.clone()).await;
    let (writes, bytes) = (MAX_BATCH_WRITES + 1, 0);
    assert_eq!(refused, Err(CommitError::BatchTooLarge { writes, bytes }));
    many.pop();
    assert_eq!(store.commit(many).await?.get(), 2);
    assert_eq!(store.scan("n/")?.len(), MAX_BATCH_WRITES);
    Ok(())
}

async fn scans_are_ordered_and_bounded(store: &Store) -> Outcome {
    let keys = [
        "site",
        "subcloud/b",
        "subcloud-group/a",
        "subcloud/a",
        "audit/2",
        "subcloud/c",
    ];
    store
        .commit(keys.iter().map(|key| put(key, Absent, b"")).collect())
        .await?;
    let check = |prefix: &str, after: Option<&str>, limit: usize, expected: &[&str]| -> Outcome {
        let page = store.page(prefix, after.map(named).as_ref(), limit)?;
        let found: Vec<_> = page.iter().map(|record| record.key.as_str()).collect();
        assert_eq!(found, expected, "{prefix:?} after {after:?} limit {limit}");
        Ok(())
    };
    check(
        "subcloud/",
        None,
        9,
        &["subcloud/a", "subcloud/b", "subcloud/c"],
    )?;
    check("subcloud/", None, 2, &["subcloud/a", "subcloud/b"])?;
    check("subcloud/", Some("subcloud/b"), 2, &["subcloud/c"])?;
    check("subcloud/", Some("subcloud/c"), 2, &[])?;
    check("subcloud/", Some("audit/2"), 1, &["subcloud/a"])?;
    check("subcloud/", Some("zebra"), 1, &[])?;
    check("subcloud", None, 1, &["subcloud-group/a"])?;
    check("", None, 2, &["audit/2", "site"])?;
    check("", None, 0, &[])?;
    check("nothing", None, 9, &[])?;
    assert_eq!(store.scan("")?.len(), keys.len());
    Ok(())
}

async fn deletes_are_writes(store: &Store) -> Outcome {
    // Nothing is there, but a batch was made durable and has its revision.
    assert_eq!(
        outcome(store, vec![delete("a", Any), delete("b", Absent)]).await,
        "1"
    );
    assert_eq!(contents(store)?, "1:");
    store.commit(vec![put("a", Absent, b"2")]).await?;
    assert_eq!(outcome(store, vec![delete("a", at(2))]).await, "3");
    let again = outcome(store, vec![delete("a", at(2))]).await;
    assert_eq!(
        again,
        "STORE_CONFLICT: a was expected to be revision 2, but it does not exist"
    );
    assert_eq!(contents(store)?, "3:");
    Ok(())
}

async fn a_dropped_ticket_is_still_written(store: &Store) -> Outcome {
    drop(store.enqueue(vec![put("a", Absent, b"1")])?);
    let later = store.commit(vec![put("b", Absent, b"2")]).await?;
    assert_eq!(later.get(), 2);
    assert_eq!(contents(store)?, "2: a=1@1 b=2@2");
    Ok(())
}

/// Callers hold tickets across awaits on any thread, and share a store between tasks.
#[test]
fn types_cross_threads() {
    fn sendable<T: Send + 'static>() {}
    fn shareable<T: Send + Sync + 'static>() {}
    shareable::<Store>();
    sendable::<store::Ticket>();
    shareable::<CommitError>();
    shareable::<Box<dyn Error + Send + Sync>>();
}
