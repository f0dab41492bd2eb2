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

use crate::history::{SiteEvent, Watching};

/// What a watcher gets.
pub(crate) type SiteEvents =
    Pin<Box<dyn Stream<Item = Result<wire::WatchSiteResponse, Status>> + Send>>;

/// First what the watcher missed, then every change until the process stops.
pub(crate) fn events(watching: Watching, stop: CancellationToken) -> SiteEvents {
    let Watching {
        resync,
        missed,
        next,
    } = watching;
    let first = resync.map(|site| resync_event(&site)).into_iter();
    let first: Vec<_> = first.chain(missed.iter().map(change_event)).collect();
    let rest = futures_util::stream::unfold(Some((next, stop)), |state| async {
        let (mut next, stop) = state?;
        let event = tokio::select! {
            () = stop.cancelled() => return None,
            event = next.recv() => event,
        };
        match event {
            Ok(event) => Some((Ok(change_event(&event)), Some((next, stop)))),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(changes)) => Some((Err(too_slow(changes)), None)),
        }
    });
    let first = futures_util::stream::iter(first.into_iter().map(Ok));
    Box::pin(futures_util::StreamExt::chain(first, rest))
}

fn resync_event(site: &Site) -> wire::WatchSiteResponse {
    let event = Some(Event::Resync(site_to_wire(site)));
    wire::WatchSiteResponse {
        revision: site.generation().0,
        event,
    }
}

fn change_event(event: &Arc<SiteEvent>) -> wire::WatchSiteResponse {
    let change = wire::SiteChange {
        effects: event.effects.iter().map(effect_to_wire).collect(),
        site: Some(site_to_wire(&event.site)),
    };
    wire::WatchSiteResponse {
        revision: event.site.generation().0,
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
