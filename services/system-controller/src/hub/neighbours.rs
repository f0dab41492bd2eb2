//! The controller's own site beside the fleet: who must hear of its changes, and who made them.

use std::sync::Arc;

use daemon::{Deed, Neighbours, Noted, Witness};
use fleet::admission::ControllerView;
use fleet::{Action, Actor, Controller, Input, NoteDeed, Outcome, Rejection, SiteMethod};
use site::{Alarm, Site};

use super::{Driven, Hub};

/// What the audit log says of a call that would have changed nothing.
const DRY_RUN: &str = "it was a dry run";

impl Witness for Hub {
    fn note(&self, deed: Deed) -> Noted {
        self.note_locked(&mut self.lock(), deed)
    }
}

impl Hub {
    fn note_locked(&self, driven: &mut Driven, deed: Deed) -> Noted {
        let Deed {
            caller,
            path,
            subcloud,
            unheard,
            dry_run,
            faults,
        } = deed;
        let action = match SiteMethod::from_path(path) {
            Some(method) if !unheard => Action::Site(method),
            _ => Action::Unheard(path),
        };
        let outcome = if faults.is_empty() && !unheard {
            Outcome::Done
        } else {
            let detail = if dry_run { DRY_RUN } else { "" };
            Outcome::Refused {
                faults,
                detail: detail.to_owned(),
            }
        };
        let noted = self.begin_locked(driven, |request| {
            Input::NoteDeed(NoteDeed {
                request,
                actor: Actor::Operator(caller.to_string()),
                action,
                subcloud,
                outcome,
            })
        });
        Box::pin(async move {
            if let Err(error) = noted.wait::<()>().await {
                tracing::warn!(%error, "an audit entry may be missing");
            }
        })
    }
}

impl Neighbours for Hub {
    fn judge(&self, next: &Site) -> Result<(), Rejection> {
        broken_by(&self.lock().machine, next)
    }

    fn accept(
        &self,
        next: &Site,
        deed: Option<Deed>,
        enqueue: &mut dyn FnMut(),
    ) -> Result<Noted, Rejection> {
        let view = ControllerView::of(next);
        // Under the lock of the fleet: an enrollment is judged before, and then this change is
        // judged against it, or after, and then it is judged against the new site; and the disk
        // has the two in the same order.
        let mut driven = self.lock();
        broken_by(&driven.machine, next)?;
        // Before the change: what is written first is on disk first.
        let noted = deed.map(|deed| self.note_locked(&mut driven, deed));
        enqueue();
        self.feed_locked(&mut driven, Input::ControllerSiteAccepted(Arc::new(view)));
        Ok(noted.unwrap_or_else(|| Box::pin(async {})))
    }

    fn alarms(&self) -> Vec<Alarm> {
        let durable = self.read();
        let mut all: Vec<Alarm> = durable.alarms.values().map(|alarm| alarm.shown()).collect();
        drop(durable);
        all.extend(self.peer_alarms());
        all
    }
}

/// What a change of the controller's own site would break: subclouds and peerings, all at once.
fn broken_by(machine: &Controller, next: &Site) -> Result<(), Rejection> {
    let subclouds = machine.would_break(&ControllerView::of(next)).err();
    let subclouds = subclouds.into_iter();
    let broken = subclouds.flat_map(|refusal| refusal.violations().to_vec());
    Rejection::check(broken.chain(machine.peers_broken_by(next)).collect())
}
