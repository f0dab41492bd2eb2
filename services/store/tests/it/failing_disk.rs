//! After a failed write nothing is promised and nothing is answered.

use store::{CommitError, Embedded, Expected, Faults, ReadError, Store};

use crate::{Outcome, named, put};

#[tokio::test]
async fn a_failed_write_takes_the_store_out_of_use() -> Outcome {
    let dir = tempfile::tempdir()?;
    let faults = Faults::default();
    let store = Store::Embedded(Embedded::create(dir.path(), faults.clone())?);
    store
        .commit(vec![put("a", Expected::Absent, b"kept")])
        .await?;

    faults.fail_writes();
    let lost = store.enqueue(vec![put("b", Expected::Absent, b"lost")])?;
    let error = lost
        .durable()
        .await
        .err()
        .ok_or("the write was acknowledged")?;
    assert!(
        matches!(error, CommitError::Io { .. }) && error.is_fatal(),
        "{error}"
    );
    assert!(error.to_string().contains("no storage space"), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");

    let refused = store
        .commit(vec![put("c", Expected::Absent, b"late")])
        .await;
    assert!(
        matches!(refused, Err(CommitError::Poisoned { .. })),
        "{refused:?}"
    );
    let read = store.get(&named("a"));
    assert!(matches!(read, Err(ReadError::Poisoned { .. })), "{read:?}");
    assert_eq!(store.revision().get(), 1);
    let closed = store.close();
    assert!(
        matches!(closed, Err(CommitError::Poisoned { .. })),
        "{closed:?}"
    );

    // The supervisor starts the service again, on a disk that works.
    let store = Store::open(dir.path())?;
    assert_eq!(
        store.get(&named("a"))?.map(|record| record.value),
        Some(b"kept".to_vec())
    );
    assert_eq!(store.get(&named("b"))?, None);
    assert_eq!(
        store
            .commit(vec![put("b", Expected::Absent, b"again")])
            .await?
            .get(),
        2
    );
    Ok(())
}

#[tokio::test]
async fn whatever_waits_behind_a_failed_write_fails() -> Outcome {
    let dir = tempfile::tempdir()?;
    let faults = Faults::default();
    let store = Store::Embedded(Embedded::create(dir.path(), faults.clone())?);
    faults.fail_writes();
    let mut tickets = Vec::new();
    for number in 0..100 {
        match store.enqueue(vec![put(&format!("k/{number}"), Expected::Absent, b"")]) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => assert!(matches!(error, CommitError::Poisoned { .. }), "{error}"),
        }
    }
    assert!(!tickets.is_empty(), "the first is accepted");
    for ticket in tickets {
        let revision = ticket.revision();
        let outcome = ticket.durable().await;
        assert!(
            outcome.as_ref().is_err_and(CommitError::is_fatal),
            "{revision}: {outcome:?}"
        );
    }
    assert_eq!(store.transactions(), 0);
    Ok(())
}
