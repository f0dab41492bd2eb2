//! A limit for the metadata of a request, told as refusals are: with a reason and a remedy.
//!
//! h2 has a limit too, but what exceeds it gets a bare HTTP 431 of which nothing else hears. So
//! h2 lets twice as much through, and what lies between is refused here, and counted. Beyond the
//! double it is still h2 that answers, and nobody counts; four times that again ends the
//! connection, as a flood.

use api::access::AccessReason;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use site::{Rejection, Violation};
use tonic::Status;

use crate::Oversize;

/// All headers of one request.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// All headers of one request that h2 decodes.
pub(crate) const DECODED_HEADER_BYTES: u32 = 32 * 1024;

/// What each header costs beside its text (RFC 9113, 6.5.2).
const HEADER_OVERHEAD: usize = 32;

/// Checks that the headers of a request are not too large.
///
/// # Errors
/// `METADATA_TOO_LARGE`; it is counted.
pub fn metadata_fits<B>(request: &http::Request<B>, refused: &Oversize) -> Result<(), Status> {
    let bytes = header_bytes(request);
    if bytes <= MAX_HEADER_BYTES {
        return Ok(());
    }
    refused.add();
    let violation = Violation::new(
        AccessReason::MetadataTooLarge,
        format!("metadata of {bytes} bytes is too large: at most {MAX_HEADER_BYTES} are taken"),
        "leave out the metadata that is not needed",
    );
    let violation = violation
        .fact("bytes", bytes)
        .fact("limit", MAX_HEADER_BYTES);
    Err(api::status::from_rejection(&Rejection::one(violation)))
}

/// Stands in front of services whose requests' headers are limited.
pub(crate) async fn limit(
    State(refused): State<Oversize>,
    request: Request,
    next: Next,
) -> Response {
    match metadata_fits(&request, &refused) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_http(),
    }
}

/// The size of all headers as HTTP/2 counts it, those that it makes of method and address
/// included.
fn header_bytes<B>(request: &http::Request<B>) -> usize {
    let uri = request.uri();
    let own = [
        (":method", request.method().as_str()),
        (":scheme", uri.scheme_str().unwrap_or_default()),
        (":authority", uri.authority().map_or("", |it| it.as_str())),
        (":path", uri.path_and_query().map_or("", |it| it.as_str())),
    ];
    let own = own.map(|(name, value)| (name.len(), value.len()));
    let given = request.headers().iter();
    let given = given.map(|(name, value)| (name.as_str().len(), value.len()));
    own.into_iter()
        .chain(given)
        .map(|(name, value)| name + value + HEADER_OVERHEAD)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_limit_is_refused_and_counted() {
        let refused = Oversize::default();
        let request = |length: usize| {
            let request = http::Request::post("https://a/b").header("c", "d".repeat(length));
            request.body(()).expect("a request")
        };
        // :method POST, :scheme https, :authority a, :path /b
        let others = (7 + 4) + (7 + 5) + (10 + 1) + (5 + 2) + 1 + 5 * HEADER_OVERHEAD;
        let fits = MAX_HEADER_BYTES - others;
        assert!(metadata_fits(&request(fits), &refused).is_ok());
        assert_eq!(refused.count(), 0);
        let refusal = metadata_fits(&request(fits + 1), &refused).expect_err("too large");
        let refusal = api::status::to_refusal(&refusal);
        assert_eq!(refusal.reason, "METADATA_TOO_LARGE");
        assert_eq!(refused.count(), 1);
    }
}
