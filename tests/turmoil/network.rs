//! The simulated network, as the services see it: connections with turmoil, and gates that hold
//! back what goes one way.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use daemon::{PlayedNetwork, PlayedStream};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use turmoil::net::{TcpListener, TcpStream};

/// Until when, in simulated time, nothing that one host sends is read by another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates(Arc<Mutex<BTreeMap<(IpAddr, IpAddr), Duration>>>);

impl Gates {
    /// Holds back what goes from one host to another; nothing is lost.
    pub(crate) fn hold(&self, from: IpAddr, to: IpAddr, until: Duration) {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = gates.entry((from, to)).or_default();
        *known = until.max(*known);
    }

    /// Opens every gate.
    pub(crate) fn open(&self) {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.clear();
    }

    /// How long what came from a host is still held back.
    fn wait(&self, from: IpAddr, to: IpAddr) -> Option<Duration> {
        let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = gates.get(&(from, to))?;
        let wait = until.saturating_sub(turmoil::sim_elapsed()?);
        (!wait.is_zero()).then_some(wait)
    }
}

/// The network of one host.
#[derive(Debug)]
pub(crate) struct HostNetwork {
    /// The only address of the host.
    pub(crate) address: IpAddr,
    pub(crate) gates: Gates,
}

impl PlayedNetwork for HostNetwork {
    fn connect(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> BoxFuture<'static, io::Result<Box<dyn PlayedStream>>> {
        let (own, gates) = (self.address, self.gates.clone());
        Box::pin(async move {
            if from.is_some_and(|from| from != own) {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let stream = TcpStream::connect(to).await?;
            let stream = Wire::new(stream, gates)?;
            Ok(Box::new(stream) as Box<dyn PlayedStream>)
        })
    }
}

/// A listener of a controller's host.
pub(crate) struct LinkListener {
    listener: TcpListener,
    gates: Gates,
}

impl LinkListener {
    /// Listens on a port of the present host.
    pub(crate) async fn bind(address: SocketAddr, gates: Gates) -> io::Result<Self> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let listener = TcpListener::bind((any, address.port())).await?;
        Ok(Self { listener, gates })
    }
}

impl identity::Listener for LinkListener {
    type Socket = Wire;

    async fn accept(&mut self) -> io::Result<(Wire, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((Wire::new(stream, self.gates.clone())?, peer))
    }
}

/// One end of a connection.
pub(crate) struct Wire {
    stream: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
    gates: Gates,
    /// Wakes the reader when the gate opens.
    opens: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    fn new(stream: TcpStream, gates: Gates) -> io::Result<Self> {
        Ok(Self {
            local: stream.local_addr()?,
            peer: stream.peer_addr()?,
            stream,
            gates,
            opens: None,
        })
    }

    /// Pending while what the other end sent is held back.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(opens) = &mut self.opens {
                std::task::ready!(opens.as_mut().poll(cx));
                self.opens = None;
            }
            match self.gates.wait(self.peer.ip(), self.local.ip()) {
                Some(wait) => self.opens = Some(Box::pin(sleep(wait))),
                None => return Poll::Ready(()),
            }
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Wire({} to {})", self.local, self.peer)
    }
}

impl identity::Socket for Wire {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn tune(&self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_gate(cx));
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
