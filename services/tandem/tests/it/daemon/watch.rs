//! The streams of a site: which one, the revision that is asked for decides.

use std::pin::Pin;

use api::access::AccessReason;
use api::site_v1::watch_site_response::Event;
use api::site_v1::{Effect, Site, SiteChange, WatchSiteResponse};
use api::status::from_rejection;
use futures_util::{Stream, StreamExt as _, stream};
use site::{Reason, Rejection, Violation};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::answers;

/// Events of a site.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<WatchSiteResponse, Status>> + Send>>;

/// From this revision on, a stream tells one change and then waits for the end of the daemon.
pub(crate) const QUIET: u64 = 60;

/// The events after a revision.
pub(super) fn events_after(revision: u64, site: Site, stop: CancellationToken) -> Events {
    let change = |revision, effects: Vec<Effect>| {
        let site = Some(Site {
            generation: revision,
            ..site.clone()
        });
        event(revision, Some(Event::Change(SiteChange { effects, site })))
    };
    let told = match revision {
        // The daemon ends in good order.
        0 => vec![
            event(7, Some(Event::Resync(site.clone()))),
            change(8, answers::effects()),
            change(9, Vec::new()),
        ],
        // This one is cut off, and gets nothing when it comes back.
        9 => vec![change(10, answers::effects()), Err(too_slow())],
        // A refusal that no repetition changes.
        41 => vec![
            change(42, answers::effects()),
            Err(answers::not_found(Reason::HostNotFound, "host", "x")),
        ],
        // A daemon that knows more kinds of events.
        51 => vec![event(52, None)],
        QUIET.. => {
            let told = stream::iter([change(revision + 1, Vec::new())]);
            return Box::pin(
                told.chain(stream::pending())
                    .take_until(stop.cancelled_owned()),
            );
        }
        _ => Vec::new(),
    };
    Box::pin(stream::iter(told))
}

fn event(revision: u64, event: Option<Event>) -> Result<WatchSiteResponse, Status> {
    Ok(WatchSiteResponse { revision, event })
}

fn too_slow() -> Status {
    from_rejection(&Rejection::one(Violation::new(
        AccessReason::WatcherTooSlow,
        "the watcher did not take its events",
        "watch again with the last revision",
    )))
}
