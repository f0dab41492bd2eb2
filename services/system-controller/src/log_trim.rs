//! The bounds of the event log and of the audit log: by number with every entry that is added
//! (the fleet's machine does that), by age and after a bound was lowered with this task.

use std::sync::Arc;
use std::time::Duration;

use daemon::{Failure, Life, now};
use site::Timestamp;
use store::Store;

use crate::records::{AUDIT, EVENTS, forget_before};

/// How often the logs are looked at. An entry that is kept for days may well stay some minutes.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Entries.
    pub(crate) entries: u64,
    /// How old an entry may become.
    pub(crate) age: Duration,
}

/// Both logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogBounds {
    pub(crate) events: Keep,
    pub(crate) audit: Keep,
}

/// Forgets what is too old or too much, now and then, until the process stops.
pub(crate) async fn trim(store: Arc<Store>, bounds: LogBounds, life: Life) {
    let stop = life.stopping();
    loop {
        for (log, keep) in [(EVENTS, bounds.events), (AUDIT, bounds.audit)] {
            match trim_once(&store, log, keep, now()).await {
                Ok(0) => {}
                Ok(forgotten) => tracing::info!(log, forgotten, "old entries are forgotten"),
                Err(error) => tracing::error!(log, %error, "old entries stay"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Forgets what is too old or too much, and tells how many entries that was.
async fn trim_once(
    store: &Store,
    log: &'static str,
    keep: Keep,
    now: Timestamp,
) -> Result<u64, Failure> {
    let age = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
    forget_before(
        store,
        log,
        keep.entries,
        Timestamp(now.0.saturating_sub(age)),
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_pages::{Looking, read_log};
    use crate::records::store_write;
    use fleet::{Event, EventKind, Position};

    fn event(position: u64, at: u64) -> store::Write {
        store_write(&fleet::Write::Event(Event {
            position: Position(position),
            at: Timestamp(at),
            subcloud: None,
            name: "west".to_owned(),
            kind: EventKind::Added,
        }))
    }

    #[tokio::test]
    async fn what_is_too_old_or_too_much_is_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::create(dir.path()).expect("a store");
        // More than a page of them, one a second.
        let all: Vec<store::Write> = (1..=2500).map(|n| event(n, n * 1000)).collect();
        store.commit(all).await.expect("durable");
        let kept = |store: &Store| -> Vec<u64> {
            let (mut all, mut token) = (Vec::new(), String::new());
            loop {
                let looking = Looking::at(EVENTS, (1000, &token), (0, 0)).expect("a place");
                let read = read_log(store, looking, |position, _: api::store_v1::EventRecord| {
                    Ok(Some(position.0))
                });
                let page = read.expect("readable");
                all.extend(page.entries);
                if page.next.is_empty() {
                    return all;
                }
                token = page.next;
            }
        };
        let keep = |entries, seconds| Keep {
            entries,
            age: Duration::from_secs(seconds),
        };
        let now = Timestamp(2_500_000);
        let trim = |keep| trim_once(&store, EVENTS, keep, now);
        assert_eq!(trim(keep(5000, 10_000)).await.expect("trimmed"), 0);
        assert_eq!(kept(&store).len(), 2500);
        assert_eq!(trim(keep(2400, 10_000)).await.expect("trimmed"), 100);
        assert_eq!(kept(&store).last(), Some(&101));
        assert_eq!(trim(keep(5000, 100)).await.expect("trimmed"), 2299);
        assert_eq!(kept(&store), (2400..=2500).rev().collect::<Vec<_>>());
        assert_eq!(trim(keep(5000, 100)).await.expect("trimmed"), 0);
        store.close().expect("closed");
    }
}
