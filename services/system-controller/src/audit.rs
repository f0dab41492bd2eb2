//! The audit of calls that the fleet's machine does not decide.

use std::sync::Arc;

use daemon::{Deed, Noted, Witness};
use fleet::{Action, Actor, Input, NoteDeed, Outcome, SiteMethod};

use crate::hub::Hub;

/// Notes deeds in the fleet's audit log.
#[derive(Debug)]
pub(crate) struct Audit {
    pub(crate) hub: Arc<Hub>,
    /// The name of the controller's own site.
    pub(crate) site: String,
}

impl Witness for Audit {
    fn note(&self, deed: Deed) -> Noted {
        let Deed {
            caller,
            path,
            forbidden,
            faults,
        } = deed;
        let action = match SiteMethod::from_path(path) {
            Some(method) if !forbidden => Action::Site(method),
            _ => Action::Forbidden(path),
        };
        let outcome = if faults.is_empty() {
            Outcome::Done
        } else {
            Outcome::Refused {
                faults,
                detail: String::new(),
            }
        };
        let name = self.site.clone();
        let noted = self.hub.begin(|request| {
            Input::NoteDeed(NoteDeed {
                request,
                actor: Actor::Operator(caller.to_string()),
                action,
                name,
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
