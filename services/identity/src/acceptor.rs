//! Turns a TCP listener into a stream of authenticated TLS connections.
//!
//! Handshakes run side by side, so that one which stalls, fails or panics neither ends the stream
//! nor delays another. What a stranger can occupy is bounded: see [`Limits`].

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::Stream;
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ServerConfig};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::admission::{Connections, Slot, Tallies};
use crate::certificate::{CertificateError, PeerCertificate};
use crate::connection::{ConnectInfo, Connection};
use crate::key::SpkiSha256;
use crate::server::authenticate;
use crate::socket::{Listener, Socket};
use crate::tls::HANDSHAKE_TIMEOUT;
use crate::trust::Trust;

/// The first pause after a failed accept; it doubles with each further failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause: descriptors become free within a second on a busy server.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What one listener's clients may occupy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, handshakes included. Further ones are closed at once.
    pub connections: usize,
    /// Handshakes at a time. Further connections wait in the kernel's queue.
    pub half_open: usize,
    /// Connections from one address, handshakes included. Further ones are closed at once.
    pub per_source: usize,
    /// The longest that a handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // 10,000 subclouds, each with an old connection that lingers while it reconnects,
            // at about 34 KiB each: well below 1 GiB.
            connections: 20_000,
            // A handshake costs half a millisecond of CPU and some 20 KiB: 512 keep the cores
            // busy through a reconnect storm with 10 MiB.
            half_open: 512,
            // An agent needs one connection, two while it reconnects; a host of operators some
            // more. It takes 16 hostile addresses to fill the handshakes.
            per_source: 32,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// Accepts TLS connections until it is cancelled.
///
/// Dropping it closes the listener and ends the handshakes under way; connections that were
/// handed out live on.
#[derive(Debug)]
pub struct Acceptor<L: Listener = TcpListener> {
    listener: L,
    gate: Gate,
    limits: Limits,
    connections: Connections,
    handshakes: JoinSet<Option<Connection<L::Socket>>>,
    pause: Pause,
    cancel: CancellationToken,
}

impl<L: Listener> Acceptor<L> {
    /// Accepts from `listener` with `config`, which decides whether clients need certificates;
    /// those that are shown must belong to `trust_domain`. Cancelling `cancel` ends it.
    #[must_use]
    pub fn new(
        listener: L,
        config: Arc<ServerConfig>,
        trust_domain: Uuid,
        limits: Limits,
        cancel: CancellationToken,
    ) -> Self {
        Self::behind(listener, config, Clients::Of(trust_domain), limits, cancel)
    }

    /// As [`Self::new`], but the certificates that are shown may be those of any authority that
    /// is trusted at that moment; `config` is that of [`crate::link_server_config`].
    #[must_use]
    pub fn trusting(
        listener: L,
        config: Arc<ServerConfig>,
        trust: Arc<Trust>,
        limits: Limits,
        cancel: CancellationToken,
    ) -> Self {
        Self::behind(listener, config, Clients::Trusted(trust), limits, cancel)
    }

    fn behind(
        listener: L,
        config: Arc<ServerConfig>,
        clients: Clients,
        limits: Limits,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            listener,
            gate: Gate {
                tls: TlsAcceptor::from(config),
                clients,
                timeout: limits.handshake_timeout,
            },
            limits,
            connections: Connections::new(limits.connections, limits.per_source),
            handshakes: JoinSet::new(),
            pause: Pause::default(),
            cancel,
        }
    }

    /// The counters and the way to close connections; it outlives the acceptor.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// The next connection that finished its handshake; `None` once cancelled.
    ///
    /// Dropping the future loses nothing. Nothing is accepted while nobody waits here.
    pub async fn accept(&mut self) -> Option<Connection<L::Socket>> {
        loop {
            let room = self.handshakes.len() < self.limits.half_open;
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => {
                    self.handshakes.abort_all();
                    return None;
                }
                Some(ended) = self.handshakes.join_next() => {
                    if let Some(connection) = self.conclude(ended) {
                        return Some(connection);
                    }
                }
                accepted = accept_after(self.pause.until, &mut self.listener), if room => {
                    self.begin(accepted);
                }
            }
        }
    }

    /// The connections as a stream for tonic's `serve_with_incoming`; it ends once cancelled.
    pub fn into_stream(
        self,
    ) -> impl Stream<Item = Result<Connection<L::Socket>, Infallible>> + Send {
        futures_util::stream::unfold(self, async |mut acceptor| {
            let connection = acceptor.accept().await?;
            Some((Ok(connection), acceptor))
        })
    }

    /// Starts the handshake of an accepted connection, if there is a place for it.
    fn begin(&mut self, accepted: io::Result<(L::Socket, SocketAddr)>) {
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return self.accept_failed(&error),
        };
        self.pause = Pause::default();
        let peer = canonical(peer);
        match self.connections.admit(peer.ip()) {
            Ok(slot) => {
                let handshake = self.gate.clone().pass(socket, peer, slot);
                let connections = self.connections.clone();
                self.handshakes.spawn(async move {
                    let ended = handshake.await;
                    record(connections.tallies(), peer, ended)
                });
            }
            Err(refusal) => tracing::debug!(%peer, %refusal, "connection refused"),
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        Tallies::add(&self.connections.tallies().accept_failed);
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted
        ) {
            // Only this one connection is lost, and accept has moved on.
            return;
        }
        // The same connection would fail again at once (EMFILE): pause instead of spinning.
        let pause = self.pause.lengthen();
        tracing::warn!(%error, ?pause, "cannot accept connections, trying again after a pause");
    }

    /// The outcome of a handshake's task.
    fn conclude(
        &self,
        ended: Result<Option<Connection<L::Socket>>, JoinError>,
    ) -> Option<Connection<L::Socket>> {
        ended.unwrap_or_else(|error| {
            Tallies::add(&self.connections.tallies().handshake_failed);
            tracing::error!(%error, "the task of a TLS handshake failed");
            None
        })
    }
}

/// What every handshake needs.
#[derive(Clone)]
struct Gate {
    tls: TlsAcceptor,
    clients: Clients,
    timeout: Duration,
}

/// Whose certificates are accepted.
#[derive(Clone, Debug)]
enum Clients {
    /// Those of one trust domain, whose authority the configuration verifies.
    Of(Uuid),
    /// Those of every trusted authority.
    Trusted(Arc<Trust>),
}

impl Clients {
    fn authenticate(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        now: SystemTime,
    ) -> Result<(Option<PeerCertificate>, Option<SpkiSha256>), CertificateError> {
        match self {
            Self::Of(domain) => Ok((authenticate(chain, *domain, now)?, None)),
            Self::Trusted(trust) => Ok(trust.authenticate(chain, now)?.unzip()),
        }
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("clients", &self.clients)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Gate {
    async fn pass<S: Socket>(
        self,
        socket: S,
        peer: SocketAddr,
        slot: Slot,
    ) -> Result<(Connection<S>, HandshakeKind), HandshakeError> {
        socket.tune()?;
        let local = canonical(socket.local_addr()?);
        let stream: TlsStream<S> = tokio::time::timeout(self.timeout, self.tls.accept(socket))
            .await
            .map_err(|_| HandshakeError::Timeout)??;
        let session = stream.get_ref().1;
        let chain = session.peer_certificates();
        let (certificate, authority) = self.clients.authenticate(chain, SystemTime::now())?;
        let kind = session.handshake_kind().unwrap_or(HandshakeKind::Full);
        let info = ConnectInfo {
            local,
            peer,
            certificate: certificate.map(Arc::new),
            authority,
            close: CancellationToken::new(),
        };
        Ok((Connection::new(stream, info, slot), kind))
    }
}

/// Why a handshake gave no connection.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("the TLS handshake took too long")]
    Timeout,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Counts and logs how a handshake ended. Failures are told at debug level: anybody who reaches
/// the port can cause them, as often as they like.
fn record<S>(
    tallies: &Tallies,
    peer: SocketAddr,
    ended: Result<(Connection<S>, HandshakeKind), HandshakeError>,
) -> Option<Connection<S>> {
    match ended {
        Ok((connection, kind)) => {
            Tallies::add(&tallies.established);
            if kind == HandshakeKind::Resumed {
                Tallies::add(&tallies.resumed);
            }
            Some(connection)
        }
        Err(error) => {
            Tallies::add(match error {
                HandshakeError::Timeout => &tallies.handshake_timeout,
                HandshakeError::Io(_) | HandshakeError::Certificate(_) => &tallies.handshake_failed,
            });
            tracing::debug!(%peer, %error, "TLS handshake failed");
            None
        }
    }
}

/// How long to leave the listener alone after it failed.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    last: Duration,
}

impl Pause {
    fn lengthen(&mut self) -> Duration {
        self.last = (self.last * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.until = Some(Instant::now() + self.last);
        self.last
    }
}

async fn accept_after<L: Listener>(
    pause: Option<Instant>,
    listener: &mut L,
) -> io::Result<(L::Socket, SocketAddr)> {
    if let Some(until) = pause {
        tokio::time::sleep_until(until).await;
    }
    listener.accept().await
}

/// A dual-stack socket shows IPv4 peers as `::ffff:a.b.c.d`; they are the same hosts.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), address.port())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        let mut pause = Pause::default();
        let lengths: Vec<u128> = (0..9).map(|_| pause.lengthen().as_millis()).collect();
        assert_eq!(lengths, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    }

    #[test]
    fn a_mapped_peer_is_its_ipv4_host() {
        for (seen, expected) in [
            ("[::ffff:192.0.2.1]:7", "192.0.2.1:7"),
            ("192.0.2.1:7", "192.0.2.1:7"),
            ("[2001:db8::1]:7", "[2001:db8::1]:7"),
            ("[::1]:7", "[::1]:7"),
        ] {
            let seen: SocketAddr = seen.parse().expect("an address");
            assert_eq!(canonical(seen).to_string(), expected);
        }
    }
}
