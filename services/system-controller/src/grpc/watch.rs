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

/// One watcher.
struct Watcher {
    hub: Arc<Hub>,
    stop: CancellationToken,
    revisions: watch::Receiver<u64>,
    last: u64,
    ready: VecDeque<wire::WatchFleetResponse>,
    cut_off: bool,
}

/// First what the watcher missed, or the whole fleet, then every change until the process stops.
pub(super) fn changes(hub: Arc<Hub>, stop: CancellationToken, from: u64) -> FleetChanges {
    let (last, ready) = match hub.changes_after(from) {
        Next::Changes(_) => (from, VecDeque::new()),
        Next::Gap => {
            let (revision, fleet) = hub.snapshot();
            (revision, resync(revision, &fleet))
        }
    };
    let watcher = Watcher {
        revisions: hub.revisions(),
        hub,
        stop,
        last,
        ready,
        cut_off: false,
    };
    Box::pin(futures_util::stream::unfold(watcher, |mut watcher| async {
        let next = watcher.next().await?;
        Some((next, watcher))
    }))
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<wire::WatchFleetResponse, Status>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(Ok(ready));
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
                    let told = changes.iter().zip(&subjects);
                    self.ready
                        .extend(told.map(|(change, subject)| change_to_wire(change, subject)));
                }
                Next::Gap => {
                    self.cut_off = true;
                    return Some(Err(too_slow(self.last)));
                }
            }
        }
    }
}

fn resync(revision: u64, fleet: &[Shown]) -> VecDeque<wire::WatchFleetResponse> {
    let mut pieces: Vec<&[Shown]> = fleet.chunks(RESYNC_PIECE).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let count = pieces.len();
    let piece = |(number, part): (usize, &[Shown])| {
        let last = number + 1 == count;
        let subclouds = part.iter().map(|shown| shown_to_wire(shown, None));
        wire::WatchFleetResponse {
            // Only the end of a resync is a place to come back to.
            revision: if last { revision } else { 0 },
            resync: Some(wire::FleetResync {
                first: number == 0,
                last,
                subclouds: subclouds.collect(),
            }),
            ..Default::default()
        }
    };
    pieces.into_iter().enumerate().map(piece).collect()
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
