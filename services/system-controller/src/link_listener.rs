//! Serves HTTP/2 to agents and to strangers who want to become agents.
//!
//! hyper does it and not tonic's server, for two reasons: it tells why a connection ended, which
//! is what the counters of refusals are made of, and it lets a connection that only occupies a
//! place be ended.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemon::{Bounded, Life, Oversize};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use identity::{Acceptor, ConnectInfo, Connection, Listener, Socket};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::service::Routes;

use crate::metrics::{LinkRefusal, Metrics};

/// The largest message of the link; a report comes in small pieces, so only Enroll is large.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Streams of one connection of an agent.
const MAX_STREAMS: u32 = 16;
/// All headers of one request.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Flow-control window of a connection and of each stream.
const WINDOW_BYTES: u32 = 64 * 1024;
/// How often an idle connection is asked for a sign of life, and how long that may take.
const KEEPALIVE: Duration = Duration::from_secs(20);
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
        life.spawn(talk(
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
    let answer = answering(routes, info, Arc::clone(&asked), metrics.oversize.clone());
    // Boxed here: within the task there would be room for the connection twice, as it comes and
    // as it is served.
    let mut talk = Box::pin(http2().serve_connection(TokioIo::new(connection), answer));
    async move {
        let begun = Instant::now();
        let mut impatient = Some(Box::pin(sleep_until(begun + FIRST_REQUEST)));
        let mut stopping = false;
        let refusal = loop {
            let over = async {
                match &mut impatient {
                    Some(sleep) => sleep.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = &mut talk => break ended.err().and_then(|error| refusal(&error)),
                () = stop.cancelled(), if !stopping => {
                    talk.as_mut().graceful_shutdown();
                    stopping = true;
                }
                () = over => match (stranger, asked.load(Ordering::Relaxed)) {
                    (_, false) => break Some(LinkRefusal::NoRequest),
                    (false, true) => impatient = None,
                    (true, true) if begun.elapsed() >= STRANGER_STAYS => {
                        break Some(LinkRefusal::StayedTooLong);
                    }
                    (true, true) => {
                        impatient = Some(Box::pin(sleep_until(begun + STRANGER_STAYS)));
                    }
                },
            }
        };
        if let Some(refusal) = refusal {
            metrics.refused(refusal);
            tracing::debug!(%peer, cause = refusal.name(), "a connection was ended");
        }
    }
}

/// The limits of a connection.
fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    builder
}

/// Hands requests to the services, which learn from `info` whose they are.
fn answering(
    routes: Routes,
    info: ConnectInfo,
    asked: Arc<AtomicBool>,
    oversize: Oversize,
) -> impl hyper::service::Service<
    http::Request<Incoming>,
    Response = http::Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + Send
+ 'static {
    service_fn(move |request: http::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let mut request =
            request.map(|body| Bounded::new(body, MAX_MESSAGE_BYTES, oversize.clone()));
        request.extensions_mut().insert(info.clone());
        // Routes are always ready.
        routes.clone().call(request)
    })
}

/// What a connection's end says of its peer; nothing when it just ended or broke.
fn refusal(error: &hyper::Error) -> Option<LinkRefusal> {
    if error.is_timeout() {
        return Some(LinkRefusal::NoSignOfLife);
    }
    let http2 = error.source()?.downcast_ref::<h2::Error>()?;
    // A connection that ended in the middle, or that the peer gave up, is none's fault.
    if http2.is_io() || http2.is_remote() {
        return None;
    }
    Some(match http2.reason()? {
        h2::Reason::NO_ERROR => return None,
        h2::Reason::ENHANCE_YOUR_CALM => LinkRefusal::Flood,
        _ => LinkRefusal::ProtocolError,
    })
}
