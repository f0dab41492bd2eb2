//! What the acceptor needs of the network: connections that arrive, and what each of them is.
//!
//! The system's TCP is one network; a simulation plays another.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A silent peer is probed after 60 s, so that half-open connections of hosts that vanished
/// (or of a NAT that forgot them) are found even before HTTP/2 notices.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Probes follow each other every 10 s; three unanswered ones end the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Where connections come from: a `TcpListener`, something in front of one, or a played network.
pub trait Listener: Send + 'static {
    /// What it accepts.
    type Socket: Socket;

    /// Waits for the next connection. Dropping the future must not lose one.
    ///
    /// # Errors
    /// Those of `accept(2)`; the acceptor survives them.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;
}

/// An accepted connection, before TLS.
pub trait Socket: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static {
    /// The address as the peer reached it.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Small messages leave at once, and dead peers are found.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    fn tune(&self) -> io::Result<()>;
}

impl Listener for TcpListener {
    type Socket = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }
}

impl Socket for TcpStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn tune(&self) -> io::Result<()> {
        self.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        SockRef::from(self).set_tcp_keepalive(&keepalive)
    }
}
