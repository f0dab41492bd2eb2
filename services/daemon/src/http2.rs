//! Serves HTTP/2 on one connection: that of an agent, a peer, a stranger or an operator.
//!
//! hyper does it and not tonic's server, since it tells why a connection ended, which is what the
//! counters of refusals are made of.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::metadata::DECODED_HEADER_BYTES;

/// Streams of one connection.
const MAX_STREAMS: u32 = 16;

/// Flow-control window of a connection and of each stream.
const WINDOW_BYTES: u32 = 64 * 1024;

/// How often an idle connection is asked for a sign of life, and how long that may take.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What a peer did for which its connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misconduct {
    /// Streams that are reset as fast as they are opened, headers without an end, and the like.
    Flood,
    /// No HTTP/2.
    ProtocolError,
    /// It does not answer pings.
    NoSignOfLife,
}

impl Misconduct {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Flood, Self::ProtocolError, Self::NoSignOfLife];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::ProtocolError => "protocol_error",
            Self::NoSignOfLife => "no_sign_of_life",
        }
    }
}

/// Serves one connection from its handshake to its end, and says what the end tells of the peer.
/// It ends in order when `stop` is cancelled.
///
/// `resets` limits the streams that the peer may reset before they were looked at, and those that
/// may be reset for its mistakes; without it hyper's own limits hold.
pub fn converse<S, A, F>(
    stream: S,
    resets: Option<usize>,
    answer: A,
    stop: CancellationToken,
) -> impl Future<Output = Option<Misconduct>> + Send + use<S, A, F>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(http::Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Result<http::Response<Body>, Infallible>> + Send + 'static,
{
    // Boxed here: within the task there would be room for the connection twice, as it comes and
    // as it is served.
    let served = builder(resets).serve_connection(TokioIo::new(stream), service_fn(answer));
    let mut served = Box::pin(served);
    async move {
        let ended = tokio::select! {
            ended = &mut served => ended,
            () = stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        ended.err().and_then(|error| misconduct(&error))
    }
}

/// The limits of a connection.
fn builder(resets: Option<usize>) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(DECODED_HEADER_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    if let Some(resets) = resets {
        builder
            .max_pending_accept_reset_streams(resets)
            .max_local_error_reset_streams(resets);
    }
    builder
}

/// What a connection's end says of its peer; nothing when it just ended or broke.
fn misconduct(error: &hyper::Error) -> Option<Misconduct> {
    if error.is_timeout() {
        return Some(Misconduct::NoSignOfLife);
    }
    let http2 = error.source()?.downcast_ref::<h2::Error>()?;
    // A connection that ended in the middle, or that the peer gave up, is none's fault.
    if http2.is_io() || http2.is_remote() {
        return None;
    }
    Some(match http2.reason()? {
        h2::Reason::NO_ERROR => return None,
        h2::Reason::ENHANCE_YOUR_CALM => Misconduct::Flood,
        _ => Misconduct::ProtocolError,
    })
}

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
