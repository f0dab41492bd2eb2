//! The bounds of the event log and of the audit log: by number with every entry that is added
//! (the fleet's machine does that), by age and after a bound was lowered with this task.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daemon::{Exit, Failure, Life, now};
use site::Timestamp;
use store::{Action, Expected, Key, Record, Store, Write};
use tokio_util::sync::CancellationToken;

use crate::records::{AUDIT, EVENTS, LOG_PAGE, at_of};

/// How often the logs are looked at. An entry that is kept for days may well stay some minutes.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// How long a process runs before an entry is too old for it: a clock that was far ahead at the
/// start, which would make every entry too old, has been put right by then.
const SETTLED: Duration = Duration::from_secs(60 * 60);

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
    let started = tokio::time::Instant::now();
    loop {
        // What happened is as old as both clocks say: this process's, and that of the wall.
        let oldest = |age| match started.elapsed() < SETTLED {
            true => Timestamp(0),
            false => before(now().min(wall()), age),
        };
        for (log, keep) in [(EVENTS, bounds.events), (AUDIT, bounds.audit)] {
            let moment = oldest(keep.age);
            match forget(&store, log, keep.entries, moment, &stop).await {
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

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let milliseconds = since.map_or(0, |since| since.as_millis());
    Timestamp(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Timestamp(now.0.saturating_sub(age))
}

/// Forgets the entries of a log beyond the newest `most` and those of before a moment, and tells
/// how many that were. The newest stays whatever its age: the next one has the number after it.
/// Entries are in the order of time, as far as the clock was not set back.
async fn forget(
    store: &Arc<Store>,
    log: &'static str,
    most: u64,
    moment: Timestamp,
    stop: &CancellationToken,
) -> Result<u64, Failure> {
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "a log", error);
    let mut after = None;
    let (mut seen, mut forgotten) = (0_u64, 0);
    while !stop.is_cancelled() {
        let records = page(store, log, after).await?;
        let Some(last) = records.last() else {
            break;
        };
        after = Some(last.key.clone());
        let mut batch = Vec::new();
        for record in records {
            seen += 1;
            if seen > most.max(1) || (seen > 1 && at_of(&record.value) < moment) {
                batch.push(Write {
                    key: record.key,
                    expected: Expected::Any,
                    action: Action::Delete,
                });
            }
        }
        if !batch.is_empty() {
            forgotten += u64::try_from(batch.len()).unwrap_or(u64::MAX);
            store.commit(batch).await.map_err(|error| failed(&error))?;
        }
    }
    Ok(forgotten)
}

/// Reads a page away from the threads of the links: a log has many.
async fn page(
    store: &Arc<Store>,
    log: &'static str,
    after: Option<Key>,
) -> Result<Vec<Record>, Failure> {
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "a log", error);
    let store = Arc::clone(store);
    let read = tokio::task::spawn_blocking(move || store.page(log, after.as_ref(), LOG_PAGE));
    let read = read.await.map_err(|error| failed(&error))?;
    read.map_err(|error| failed(&error))
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
        let store = Arc::new(Store::create(dir.path()).expect("a store"));
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
        let now = Timestamp(2_500_000);
        let stop = CancellationToken::new();
        let trim = async |entries, seconds| {
            let moment = before(now, Duration::from_secs(seconds));
            let forgotten = forget(&store, EVENTS, entries, moment, &stop).await;
            forgotten.expect("trimmed")
        };
        assert_eq!(trim(5000, 10_000).await, 0);
        assert_eq!(kept(&store).len(), 2500);
        assert_eq!(trim(2400, 10_000).await, 100);
        assert_eq!(kept(&store).last(), Some(&101));
        assert_eq!(trim(5000, 100).await, 2299);
        assert_eq!(kept(&store), (2400..=2500).rev().collect::<Vec<_>>());
        assert_eq!(trim(5000, 100).await, 0);
        // Numbers go on even when everything is too old.
        let far = Timestamp(9_000_000_000);
        let forgotten = forget(&store, EVENTS, 5000, far, &stop).await;
        assert_eq!(forgotten.expect("trimmed"), 100);
        assert_eq!(kept(&store), [2500]);
    }
}
