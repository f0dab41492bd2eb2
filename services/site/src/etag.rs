//! Changes made for a version of a pool that is no longer there.

use crate::{Change, Reason, Rejection, Site, Violation};

/// Refuses a change of a pool when the pool is no longer what the caller read. The pool is the one
/// that the change itself finds by the reference, however its uuid is written. An empty etag
/// skips the check, and so does a pool that does not exist: the change itself says that better.
///
/// # Errors
/// `ETAG_MISMATCH`, or `INVALID_ARGUMENT` for a change that takes no etag.
pub fn check_etag(site: &Site, change: &Change, etag: &str) -> Result<(), Rejection> {
    if etag.is_empty() {
        return Ok(());
    }
    let (Change::ModifyPool { pool, .. } | Change::DeletePool { pool }) = change else {
        let message = "this change takes no etag";
        let violation = Violation::new(Reason::InvalidArgument, message, "leave it out");
        return Err(Rejection::one(violation.at("etag")));
    };
    let Some(known) = site.find_pool(pool) else {
        return Ok(());
    };
    if known.etag() == etag {
        return Ok(());
    }
    let message = format!("pool {} changed after it was read", known.name());
    let violation = Violation::new(
        Reason::EtagMismatch,
        message,
        format!(
            "read it again (its etag is {} now) and repeat the change",
            known.etag()
        ),
    );
    Err(Rejection::one(
        violation
            .object("pool", known.name())
            .fact("etag", known.etag()),
    ))
}
