//! The streams of a site: which one, the revision that is asked for decides.

use std::pin::Pin;

use api::access::AccessReason;
use api::fleet_v1::{FleetResync, Subcloud, WatchFleetResponse};
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

/// Changes of a fleet.
pub(super) type FleetChanges =
    Pin<Box<dyn Stream<Item = Result<WatchFleetResponse, Status>> + Send>>;

/// The changes after a revision: a resync in two pieces, and the daemon ends; then two changes,
/// and a watcher that is too slow.
pub(super) fn changes_after(revision: u64) -> FleetChanges {
    let subclouds = answers::subclouds();
    let piece = |revision, first, last, part: &[Subcloud]| WatchFleetResponse {
        revision,
        resync: Some(FleetResync {
            first,
            last,
            subclouds: part.to_vec(),
        }),
        ..Default::default()
    };
    let told = match revision {
        0 => {
            let (one, rest) = subclouds.split_at(1);
            vec![
                Ok(piece(0, true, false, one)),
                Ok(piece(5, false, true, rest)),
            ]
        }
        5 => vec![
            Ok(WatchFleetResponse {
                revision: 6,
                event: answers::events().into_iter().next(),
                subcloud: subclouds.into_iter().next(),
                ..Default::default()
            }),
            Ok(WatchFleetResponse {
                revision: 7,
                removed_uuid: "6f1c6a8e-0d53-4f0b-9a4e-0d5f3b1f7a11".to_owned(),
                ..Default::default()
            }),
            Err(too_slow()),
        ],
        _ => Vec::new(),
    };
    Box::pin(stream::iter(told))
}
