//! Whether commands may go out to a subcloud, and why not.

use std::sync::Arc;

use crate::{Availability, LinkId, Reason, Rejection, SharedSubcloud, Violation};

use super::{Controller, subcloud_not_found};

/// A subcloud that takes commands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Its record.
    pub subcloud: SharedSubcloud,
    /// The live link over which a command goes.
    pub link: LinkId,
}

impl Controller {
    /// Whether operators' commands may go out to the subcloud of this name or uuid, and over
    /// which link: it has enrolled, is not in quarantine, is managed, and its link is up.
    ///
    /// # Errors
    /// `SUBCLOUD_NOT_FOUND`, `SUBCLOUD_NOT_ENROLLED` or `SUBCLOUD_OWNED_ELSEWHERE` alone; else every one of
    /// `SUBCLOUD_QUARANTINED`, `SUBCLOUD_UNMANAGED` and `SUBCLOUD_OFFLINE` that holds.
    pub fn commandable(&self, reference: &str) -> Result<Reach, Rejection> {
        let unknown = || Rejection::one(subcloud_not_found(reference));
        let record = self.fleet.find(reference).ok_or_else(unknown)?;
        if record.enrolled().is_none() {
            return Err(Rejection::one(not_enrolled(record)));
        }
        let link = self.live_link(record);
        if let Some(violation) = self.owned_elsewhere(record) {
            return Err(Rejection::one(violation));
        }
        let mut violations = Vec::new();
        violations.extend(quarantined(record));
        violations.extend((!record.managed()).then(|| unmanaged(record)));
        violations.extend(link.is_none().then(|| self.offline(record)));
        Rejection::check(violations)?;
        match link {
            Some(link) => Ok(Reach {
                subcloud: Arc::clone(record),
                link,
            }),
            None => Err(Rejection::one(self.offline(record))),
        }
    }

    /// The link of a subcloud, once the agent was welcomed: before it may not obey yet.
    fn live_link(&self, record: &SharedSubcloud) -> Option<LinkId> {
        let link = self.presence(record.id).link?;
        self.links.get(&link).filter(|state| state.greeted)?;
        Some(link)
    }

    fn offline(&self, record: &SharedSubcloud) -> Violation {
        let presence = self.presence(record.id);
        let how = match presence.availability {
            Availability::Offline => "is offline",
            Availability::Unknown => "has not come back since the controller started",
            Availability::Online => "has just lost its link",
        };
        let violation = Violation::new(
            Reason::SubcloudOffline,
            format!("subcloud {} {how}", record.name),
            "try again when `tandem dcmanager subcloud show` says that it is online; look at the \
             agent and at the network between the sites if it stays away",
        )
        .object("subcloud", record.name.clone());
        match presence.last_seen {
            Some(at) => violation.fact("lastSeenMilliseconds", at.0),
            None => violation,
        }
    }
}

fn not_enrolled(record: &SharedSubcloud) -> Violation {
    Violation::new(
        Reason::SubcloudNotEnrolled,
        format!("no site has enrolled as subcloud {} yet", record.name),
        "enroll its site with the token of `tandem dcmanager subcloud add`, or with a new one of \
         `tandem dcmanager subcloud token`",
    )
    .object("subcloud", record.name.clone())
}

fn quarantined(record: &SharedSubcloud) -> Option<Violation> {
    let refused = record.refused.as_ref()?;
    let reasons: Vec<&str> = refused
        .faults
        .iter()
        .map(|fault| fault.reason.as_str())
        .collect();
    let reasons = reasons.join(",");
    Some(
        Violation::new(
            Reason::SubcloudQuarantined,
            format!(
                "subcloud {} is in quarantine: its report of generation {} broke {reasons}",
                record.name, refused.generation.0
            ),
            "correct the site itself: it returns when its report is right again; `tandem \
             dcmanager subcloud show` says what is wrong",
        )
        .object("subcloud", record.name.clone())
        .fact("reasons", reasons)
        .fact("generation", refused.generation.0),
    )
}

fn unmanaged(record: &SharedSubcloud) -> Violation {
    Violation::new(
        Reason::SubcloudUnmanaged,
        format!("subcloud {} is unmanaged", record.name),
        format!("`tandem dcmanager subcloud manage {}`", record.name),
    )
    .object("subcloud", record.name.clone())
}
