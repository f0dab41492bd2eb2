//! Commits that come together share transactions.

use std::sync::Arc;

use store::{CommitError, Embedded, Expected, Faults, MAX_VALUE_BYTES, Store};
use tokio::task::JoinSet;

use crate::{Outcome, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_commits_share_transactions() -> Outcome {
    const COMMITS: u64 = 512;
    let dir = tempfile::tempdir()?;
    let store = Arc::new(Store::create(dir.path())?);
    let mut tasks = JoinSet::new();
    for number in 0..COMMITS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let write = put(&format!("k/{number}"), Expected::Absent, b"value");
            store.commit(vec![write]).await
        });
    }
    let mut revisions = Vec::new();
    while let Some(revision) = tasks.join_next().await {
        revisions.push(revision??.get());
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=COMMITS).collect::<Vec<_>>());
    assert_eq!(store.scan("k/")?.len(), usize::try_from(COMMITS)?);
    let transactions = store.transactions();
    assert!(
        (1..=COMMITS / 4).contains(&transactions),
        "{transactions} transactions"
    );
    Ok(())
}

#[tokio::test]
async fn sequential_commits_have_one_each() -> Outcome {
    let dir = tempfile::tempdir()?;
    let store = Store::create(dir.path())?;
    for number in 1..=10 {
        store
            .commit(vec![put("k", Expected::Any, b"value")])
            .await?;
        assert_eq!(store.transactions(), number);
    }
    Ok(())
}

/// Three times as much as may wait for the disk.
#[tokio::test]
async fn what_cannot_be_refused_waits_for_room() -> Outcome {
    const BATCHES: usize = 48;
    let dir = tempfile::tempdir()?;
    let store = Store::create(dir.path())?;
    let value = vec![7; MAX_VALUE_BYTES];
    let mut tickets = Vec::new();
    for _ in 0..BATCHES {
        let write = put("large", Expected::Any, &value);
        tickets.push(store.enqueue_when_room(vec![write])?);
    }
    for ticket in tickets {
        ticket.durable().await?;
    }
    assert_eq!(store.revision().get(), u64::try_from(BATCHES)?);
    // What never has room is refused at once.
    let too_large = (0..5).map(|number| put(&format!("k/{number}"), Expected::Any, &value));
    let refused = store.enqueue_when_room(too_large.collect());
    assert!(matches!(refused, Err(CommitError::BatchTooLarge { .. })));
    Ok(())
}

#[tokio::test]
async fn nobody_waits_for_room_on_a_disk_that_fails() -> Outcome {
    let dir = tempfile::tempdir()?;
    let faults = Faults::default();
    let store = Store::Embedded(Embedded::create(dir.path(), faults.clone())?);
    faults.fail_writes();
    let value = vec![7; MAX_VALUE_BYTES];
    let refused = (0..48).find_map(|_| {
        let write = put("large", Expected::Any, &value);
        store.enqueue_when_room(vec![write]).err()
    });
    assert!(
        matches!(refused, Some(CommitError::Poisoned { .. })),
        "{refused:?}"
    );
    Ok(())
}
