//! The stream of a fleet's changes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use api::access::AccessReason;
use api::convert::event_to_wire;
use api::fleet_v1 as wire;
use futures_util::Stream;
use site::{Rejection, Violation};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::refused;
use super::subcloud::shown_to_wire;
use crate::fleet_history::{FleetChange, Next, What};
use crate::hub::{Hub, Shown};

/// Subclouds of one message of a resync: some 50 KiB.
const RESYNC_PIECE: usize = 100;

/// What a watcher gets.
pub(super) type FleetChanges =
    Pin<Box<dyn Stream<Item = Result<wire::WatchFleetResponse, Status>> + Send>>;

/// One watcher. What it does not take is not made: it holds a few changes, whatever the fleet.
struct Watcher {
    hub: Arc<Hub>,
    stop: CancellationToken,
    revisions: watch::Receiver<u64>,
    /// The whole fleet, as far as it is not told yet.
    resync: Option<Resync>,
    last: u64,
    ready: VecDeque<(Arc<FleetChange>, Option<Shown>)>,
    cut_off: bool,
}

/// How far the whole fleet is told. It is read while it is taken: what changes after `revision` is
/// in it already or not, and is told again under its own revision in any case.
struct Resync {
    /// The revision at which it began.
    revision: u64,
    /// The last name that was told; none at the beginning.
    after: Option<String>,
}

/// First what the watcher missed, or the whole fleet, then every change until the process stops.
pub(super) fn changes(hub: Arc<Hub>, stop: CancellationToken, from: u64) -> FleetChanges {
    let revisions = hub.revisions();
    let (last, resync) = match hub.changes_after(from) {
        Next::Changes(_) => (from, None),
        Next::Gap => {
            let revision = *revisions.borrow();
            let after = None;
            (revision, Some(Resync { revision, after }))
        }
    };
    let watcher = Watcher {
        revisions,
        hub,
        stop,
        resync,
        last,
        ready: VecDeque::new(),
        cut_off: false,
    };
    Box::pin(futures_util::stream::unfold(watcher, |mut watcher| async {
        let next = watcher.next().await?;
        Some((next, watcher))
    }))
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<wire::WatchFleetResponse, Status>> {
        if let Some(resync) = self.resync.take() {
            let (piece, rest) = resync.piece(&self.hub);
            self.resync = rest;
            return Some(Ok(piece));
        }
        loop {
            if let Some((change, subject)) = self.ready.pop_front() {
                return Some(Ok(change_to_wire(&change, &subject)));
            }
            if self.cut_off {
                return None;
            }
            // Seen before looking: a change after it wakes again.
            self.revisions.borrow_and_update();
            match self.hub.changes_after(self.last) {
                Next::Changes(changes) if changes.is_empty() => {
                    tokio::select! {
                        () = self.stop.cancelled() => return None,
                        changed = self.revisions.changed() => changed.ok()?,
                    }
                }
                Next::Changes(changes) => {
                    self.last = changes.last().map_or(self.last, |change| change.revision);
                    let subjects = self.hub.subjects(&changes);
                    self.ready.extend(changes.into_iter().zip(subjects));
                }
                Next::Gap => {
                    self.cut_off = true;
                    return Some(Err(too_slow(self.last)));
                }
            }
        }
    }
}

impl Resync {
    /// The next piece, which has nobody in it when there is nobody; and what comes after it.
    fn piece(self, hub: &Hub) -> (wire::WatchFleetResponse, Option<Self>) {
        let Self { revision, after } = self;
        // One more, to know whether it is the last piece.
        let mut part = hub.subclouds_after(after.as_deref().unwrap_or(""), RESYNC_PIECE + 1);
        let last = part.len() <= RESYNC_PIECE;
        part.truncate(RESYNC_PIECE);
        let subclouds = part.iter().map(|shown| shown_to_wire(shown, None));
        let piece = wire::WatchFleetResponse {
            // Only the end of a resync is a place to come back to.
            revision: if last { revision } else { 0 },
            resync: Some(wire::FleetResync {
                first: after.is_none(),
                last,
                subclouds: subclouds.collect(),
            }),
            ..Default::default()
        };
        let told = part.last().map(|shown| shown.subcloud.name.clone());
        let after = told.filter(|_| !last);
        let rest = after.map(|name| Self {
            revision,
            after: Some(name),
        });
        (piece, rest)
    }
}

fn change_to_wire(change: &FleetChange, subject: &Option<Shown>) -> wire::WatchFleetResponse {
    let gone = change.about().filter(|_| subject.is_none());
    wire::WatchFleetResponse {
        revision: change.revision,
        resync: None,
        event: match &change.what {
            What::Event(event) => Some(event_to_wire(event)),
            What::Record(..) => None,
        },
        subcloud: subject.as_ref().map(|shown| shown_to_wire(shown, None)),
        removed_uuid: gone.map_or_else(String::new, |(id, _)| id.to_string()),
    }
}

fn too_slow(last: u64) -> Status {
    refused(Rejection::one(Violation::new(
        AccessReason::WatcherTooSlow,
        format!("the watcher did not take its changes; those after revision {last} are lost to it"),
        "watch again with the last revision as from_revision; a resync follows if needed",
    )))
}
