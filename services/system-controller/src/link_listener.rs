//! Serves agents, and strangers who want to become agents.
//!
//! Unlike operators, strangers need no certificate to get here: a connection that only occupies a
//! place is ended.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemon::{Bounded, Life, converse, metadata_fits};
use hyper::body::Incoming;
use identity::{Acceptor, Connection, Listener, Socket};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service as _;
use tonic::service::Routes;

use crate::metrics::{LinkRefusal, Metrics};

/// The largest message of the link; a report comes in small pieces, so only Enroll is large.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Streams that a peer may reset before they were looked at, and streams that may be reset for
/// its mistakes: an honest agent resets none, so a second connection's worth is plenty.
const MAX_RESETS: usize = 32;
/// The first request of an agent comes with its first bytes: who is silent for longer than this,
/// or sends byte by byte, only occupies a place.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Without a certificate there is nothing to do but enroll, and agents wait 15 s for its answer.
const STRANGER_STAYS: Duration = Duration::from_secs(30);

/// Serves `routes` until the process stops.
pub(crate) async fn serve<L: Listener>(
    mut acceptor: Acceptor<L>,
    routes: Routes,
    metrics: Arc<Metrics>,
    life: Life,
) {
    while let Some(connection) = acceptor.accept().await {
        life.spawn_connection(talk(
            connection,
            routes.clone(),
            Arc::clone(&metrics),
            life.stopping(),
        ));
    }
}

/// One connection, from its handshake to its end.
fn talk<S: Socket>(
    connection: Connection<S>,
    routes: Routes,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<S> {
    let info = connection.info().clone();
    let peer = info.peer;
    let stranger = info.certificate.is_none();
    let asked = Arc::new(AtomicBool::new(false));
    let (counters, has_asked) = (Arc::clone(&metrics), Arc::clone(&asked));
    // The services learn from `info` whose the requests are.
    let answer = move |request: http::Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        let fits = metadata_fits(&request, &counters.oversize_metadata);
        let answer = fits.map(|()| {
            let oversize = counters.oversize.clone();
            let mut request = request.map(|body| Bounded::new(body, MAX_MESSAGE_BYTES, oversize));
            request.extensions_mut().insert(info.clone());
            // Routes are always ready.
            routes.clone().call(request)
        });
        async move {
            match answer {
                Ok(answer) => answer.await,
                Err(refusal) => Ok(refusal.into_http()),
            }
        }
    };
    let talk = converse(connection, Some(MAX_RESETS), answer, stop);
    async move {
        let refusal = tokio::select! {
            misconduct = talk => misconduct.map(LinkRefusal::Misconduct),
            refusal = overstayed(stranger, &asked) => Some(refusal),
        };
        if let Some(refusal) = refusal {
            metrics.refused(refusal);
            tracing::debug!(%peer, cause = refusal.name(), "a connection was ended");
        }
    }
}

/// Waits until a connection only occupies a place; for ever when it does not.
async fn overstayed(stranger: bool, asked: &AtomicBool) -> LinkRefusal {
    let begun = Instant::now();
    sleep_until(begun + FIRST_REQUEST).await;
    if !asked.load(Ordering::Relaxed) {
        return LinkRefusal::NoRequest;
    }
    if !stranger {
        std::future::pending::<()>().await;
    }
    sleep_until(begun + STRANGER_STAYS).await;
    LinkRefusal::StayedTooLong
}
