//! Commits that come together share transactions.

use std::sync::Arc;

use store::{Expected, Store};
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
