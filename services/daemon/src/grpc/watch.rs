//! The stream of a site's changes.

use std::pin::Pin;
use std::sync::Arc;

use api::access::AccessReason;
use api::convert::{effect_to_wire, site_to_wire};
use api::site_v1 as wire;
use site::{Rejection, Site, Violation};
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::watch_site_response::Event;

use crate::history::{Process, SiteEvent, Watching};

/// What a watcher gets.
pub(crate) type SiteEvents =
    Pin<Box<dyn Stream<Item = Result<wire::WatchSiteResponse, Status>> + Send>>;

/// First what the watcher missed, then every change until the process stops.
pub(crate) fn events(watching: Watching, stop: CancellationToken) -> SiteEvents {
    let Watching {
        process,
        resync,
        missed,
        next,
    } = watching;
    // Whole sites are made into messages one at a time, when they are taken: a watcher that takes
    // nothing holds no copies.
    let first = resync
        .into_iter()
        .map(move |site| resync_event(process, &site));
    let missed = missed
        .into_iter()
        .map(move |event| change_event(process, &event));
    let first = first.chain(missed);
    let rest = futures_util::stream::unfold(Some((next, stop)), move |state| async move {
        let (mut next, stop) = state?;
        let event = tokio::select! {
            () = stop.cancelled() => return None,
            event = next.recv() => event,
        };
        match event {
            Ok(event) => Some((Ok(change_event(process, &event)), Some((next, stop)))),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(changes)) => Some((Err(too_slow(changes)), None)),
        }
    });
    let first = futures_util::stream::iter(first.map(Ok));
    Box::pin(futures_util::StreamExt::chain(first, rest))
}

fn resync_event(process: Process, site: &Site) -> wire::WatchSiteResponse {
    let event = Some(Event::Resync(site_to_wire(site)));
    wire::WatchSiteResponse {
        revision: process.revision(site),
        event,
    }
}

fn change_event(process: Process, event: &Arc<SiteEvent>) -> wire::WatchSiteResponse {
    let change = wire::SiteChange {
        effects: event.effects.iter().map(effect_to_wire).collect(),
        site: Some(site_to_wire(&event.site)),
    };
    wire::WatchSiteResponse {
        revision: process.revision(&event.site),
        event: Some(Event::Change(change)),
    }
}

fn too_slow(changes: u64) -> Status {
    api::status::from_rejection(&Rejection::one(Violation::new(
        AccessReason::WatcherTooSlow,
        format!("the watcher did not take its events; {changes} changes are not delivered"),
        "watch again with the last revision as from_revision; a resync follows if needed",
    )))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::sync::broadcast;

    use super::*;
    use crate::history;

    #[tokio::test]
    async fn a_watcher_that_takes_nothing_holds_no_copies_of_sites() {
        let site = Arc::new(history::tests::site());
        let event = || SiteEvent {
            site: Arc::clone(&site),
            effects: Vec::new(),
        };
        let missed: Vec<_> = (0..3).map(|_| Arc::new(event())).collect();
        let shared = |count: usize| {
            let held = missed.iter().filter(|event| Arc::strong_count(event) == 2);
            assert_eq!(
                held.count(),
                count,
                "changes that are not made into messages"
            );
        };
        let (changes, next) = broadcast::channel(1);
        let watching = Watching {
            process: Process::started(site::Timestamp(0)),
            resync: None,
            missed: missed.clone(),
            next,
        };
        let mut events = events(watching, CancellationToken::new());
        for left in (0..=3).rev() {
            shared(left);
            if left > 0 {
                events.next().await.expect("a change").expect("no end");
            }
        }
        drop(changes);
        assert!(events.next().await.is_none());
    }
}
