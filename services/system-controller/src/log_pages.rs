//! Pages of the event log and of the audit log, newest first.

use std::error::Error;
use std::sync::Arc;

use api::convert::Malformed;
use api::page::{no_token, page_size_of};
use api::store_v1::{AuditRecord, EventRecord};
use daemon::{Exit, Failure};
use fleet::Position;
use prost::Message;
use store::Store;
use tokio::sync::Semaphore;

use crate::records::{LOG_PAGE, log_key, position_of};

/// How far the clock may have been set back: entries of a log are in the order in which they were
/// written, so what is older than asked for by more than this ends the search.
const CLOCK_SET_BACK: u64 = 60 * 60 * 1000;

/// The most entries that are looked at for one page, some 40 ms of work: a page of a search that
/// finds little may be short, or empty, and still have a next one.
const MOST_LOOKED_AT: usize = 20_000;

/// The most bytes of records of one page: clients commonly take messages of 4 MiB.
const MOST_BYTES: usize = 2 << 20;

/// Searches at the same time, over all callers: the processors belong to the fleet.
static SEARCHES: Semaphore = Semaphore::const_new(2);

/// Where in a log to look, and for how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looking {
    prefix: &'static str,
    before: Option<Position>,
    since: u64,
    until: u64,
    size: usize,
}

impl Looking {
    /// Looks at entries after those of a page token, of a range of time (0 for no bound).
    ///
    /// # Errors
    /// A token that no page gave, or a size that no page has.
    pub(crate) fn at(
        prefix: &'static str,
        (page_size, token): (i32, &str),
        (since, until): (u64, u64),
    ) -> Result<Self, Vec<Malformed>> {
        let before = match token.parse() {
            _ if token.is_empty() => None,
            Ok(position) => Some(Position(position)),
            Err(_) => return Err(vec![no_token()]),
        };
        Ok(Self {
            prefix,
            before,
            since,
            until,
            size: page_size_of(page_size)?,
        })
    }
}

/// Some entries of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LogPage<T> {
    /// The entries, newest first; there may be none although there is a next page.
    pub(crate) entries: Vec<T>,
    /// The token of the next page; empty when all was looked at.
    pub(crate) next: String,
}

/// A record of a log.
pub(crate) trait LogRecord: Message + Default {
    /// When, in milliseconds since the Unix epoch.
    fn at(&self) -> u64;
}

impl LogRecord for EventRecord {
    fn at(&self) -> u64 {
        self.at_milliseconds
    }
}

impl LogRecord for AuditRecord {
    fn at(&self) -> u64 {
        self.at_milliseconds
    }
}

/// A page of the entries that `wanted` takes, read away from the threads that serve others.
pub(crate) async fn search_log<R: LogRecord, T: Send + 'static>(
    store: &Arc<Store>,
    looking: Looking,
    wanted: impl Fn(Position, R) -> Result<Option<T>, Failure> + Send + 'static,
) -> Result<LogPage<T>, Failure> {
    let store = Arc::clone(store);
    let failed = |error: &dyn Error| Failure::because(Exit::Software, "the search", error);
    let turn = SEARCHES.acquire().await.map_err(|error| failed(&error))?;
    // The turn lasts as long as the search, also when nobody waits for it any more.
    let search = tokio::task::spawn_blocking(move || {
        let page = read_log(&store, looking, wanted);
        drop(turn);
        page
    });
    search.await.map_err(|error| failed(&error))?
}

/// A page of the entries that `wanted` takes.
pub(crate) fn read_log<R: LogRecord, T>(
    store: &Store,
    looking: Looking,
    wanted: impl Fn(Position, R) -> Result<Option<T>, Failure>,
) -> Result<LogPage<T>, Failure> {
    let Looking {
        prefix,
        before,
        since,
        until,
        size,
    } = looking;
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "a log", error);
    let mut after = before.map(|position| log_key(prefix, position));
    let (mut entries, mut last, mut bytes, mut looked_at) = (Vec::new(), None, 0, 0);
    loop {
        let page = store.page(prefix, after.as_ref(), LOG_PAGE);
        let records = page.map_err(|error| failed(&error))?;
        let Some(oldest) = records.last() else {
            return Ok(LogPage::last(entries));
        };
        after = Some(oldest.key.clone());
        for record in &records {
            let position = position_of(prefix, &record.key).unwrap_or_default();
            let message = R::decode(record.value.as_slice()).map_err(|error| failed(&error))?;
            let at = message.at();
            if at.saturating_add(CLOCK_SET_BACK) < since {
                return Ok(LogPage::last(entries));
            }
            let in_time = at >= since && (until == 0 || at < until);
            let found = match in_time {
                true => wanted(position, message)?,
                false => None,
            };
            // Only what does not fit tells that there is another page.
            if let Some(found) = found {
                bytes += record.value.len();
                if entries.len() == size || (bytes > MOST_BYTES && !entries.is_empty()) {
                    return Ok(LogPage::before(entries, last));
                }
                entries.push(found);
            }
            looked_at += 1;
            last = Some(position);
            if looked_at == MOST_LOOKED_AT {
                return Ok(LogPage::before(entries, last));
            }
        }
    }
}

impl<T> LogPage<T> {
    fn last(entries: Vec<T>) -> Self {
        let next = String::new();
        Self { entries, next }
    }

    /// More may come after this position.
    fn before(entries: Vec<T>, position: Option<Position>) -> Self {
        let next = position.map_or_else(String::new, |position| position.0.to_string());
        Self { entries, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{EVENTS, store_write};
    use fleet::{Event, EventKind, Fault};
    use site::Timestamp;

    const MOST: u64 = MOST_LOOKED_AT as u64;

    /// A log with so many entries, of which each has a text of `bytes`.
    fn log(count: u64, bytes: usize) -> Arc<Store> {
        let store = Store::volatile();
        for position in 1..=count {
            let fault = Fault {
                message: "x".repeat(bytes),
                ..Fault::default()
            };
            let event = Event {
                position: Position(position),
                at: Timestamp(position),
                subcloud: None,
                name: format!("s{}", position % 1000),
                kind: EventKind::EnrollmentRefused {
                    faults: vec![fault],
                },
            };
            let write = store_write(&fleet::Write::Event(event));
            drop(store.enqueue(vec![write]).expect("accepted"));
        }
        Arc::new(store)
    }

    /// The positions of every page of a search for a name.
    async fn pages(store: &Arc<Store>, size: i32, name: &'static str) -> Vec<Vec<u64>> {
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let looking = Looking::at(EVENTS, (size, &token), (0, 0)).expect("a place");
            let wanted = move |position: Position, record: EventRecord| {
                let fits = name.is_empty() || record.name == name;
                Ok(fits.then_some(position.0))
            };
            let page = search_log(store, looking, wanted).await.expect("a page");
            pages.push(page.entries);
            if page.next.is_empty() {
                return pages;
            }
            token = page.next;
        }
    }

    #[tokio::test]
    async fn pages_cover_a_log_once_whatever_is_searched() {
        let store = log(MOST + 2500, 1);
        let all: Vec<u64> = (1..=MOST + 2500).rev().collect();
        for size in [999, 1000] {
            let found = pages(&store, size, "").await;
            assert_eq!(found.concat(), all);
            assert!(found.iter().all(|page| !page.is_empty()));
        }
        let seventh = |position: &u64| position % 1000 == 7;
        let some: Vec<u64> = all.into_iter().filter(seventh).collect();
        assert_eq!(pages(&store, 1000, "s7").await.concat(), some);
        assert_eq!(pages(&store, 5, "s7").await.concat(), some);
        // What is not there is looked for in bounded pieces.
        assert_eq!(
            pages(&store, 1000, "nobody").await,
            vec![Vec::<u64>::new(); 2]
        );
    }

    #[tokio::test]
    async fn a_page_fits_into_a_message() {
        let store = log(100, 300_000);
        let found = pages(&store, 1000, "").await;
        assert_eq!(found.concat(), (1..=100).rev().collect::<Vec<_>>());
        assert!(found.iter().all(|page| page.len() <= 7), "{found:?}");
    }

    #[test]
    fn a_token_of_no_page_is_refused() {
        for token in ["x", "-1", "1.5", "99999999999999999999"] {
            let faults = Looking::at(EVENTS, (0, token), (0, 0)).expect_err(token);
            assert_eq!(faults[0].path, "page_token");
        }
    }
}
