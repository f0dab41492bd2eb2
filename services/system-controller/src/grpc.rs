//! The controller's own services: convert, call, convert.

mod alarm;
mod enrollment;
mod group;
mod link;
mod operator;
mod peer;
mod peer_link;
mod remote;
mod rollout;
mod subcloud;
mod watch;

pub(crate) use alarm::Alarms;
pub(crate) use enrollment::Enrollments;
pub(crate) use group::Groups;
pub(crate) use link::Links;
pub(crate) use operator::{Operators, certified, timestamp};
pub(crate) use peer::Peers;
pub(crate) use peer_link::{PeerLinks, sound};
pub(crate) use remote::SitesOfSubclouds;
pub(crate) use rollout::RolloutCalls;
pub(crate) use subcloud::{Subclouds, TokenIssuer};

use api::convert::Malformed;
use api::status::Asked;
use site::{ReasonSet, Rejection};
use tonic::Status;

/// What a certificate signing request must be.
pub(crate) const SIGNING_REQUEST: &str =
    "give a PKCS #10 request in DER, at most 16 KiB, signed with its key, which is on P-256";

/// A refusal of the core as a status.
pub(crate) fn refused<R: ReasonSet>(rejection: Rejection<R>) -> Status {
    api::status::from_rejection(&rejection)
}

/// Unreadable fields as a status.
pub(crate) fn malformed(faults: Vec<Malformed>) -> Status {
    api::status::from_malformed(&faults)
}

/// The refusal of a change before it is handed to the rules. It gets into the audit log, unless
/// the call only asks what would happen.
pub(crate) fn unheard(preview: bool) -> impl Fn(Status) -> Status {
    let asked = if preview { Asked::Yes } else { Asked::No };
    move |refusal| api::status::marked(refusal, asked)
}

/// A defect or a failing disk: logged here, and told without its details.
pub(crate) fn broken(context: &'static str, error: &dyn std::error::Error) -> Status {
    tracing::error!(%error, "{context}");
    Status::internal(format!("{context}; the controller's log has the cause"))
}
