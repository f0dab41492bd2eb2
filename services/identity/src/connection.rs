//! One accepted connection, as tonic serves it.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::admission::Slot;
use crate::certificate::PeerCertificate;
use crate::key::SpkiSha256;
use crate::socket::Socket;

/// What handlers know of the connection that a request came over; cheap to clone.
#[derive(Clone, Debug)]
pub struct ConnectInfo {
    /// The listener's address as the peer reached it.
    pub local: SocketAddr,
    /// Where the connection comes from; an IPv4 peer of a dual-stack socket shows as IPv4.
    pub peer: SocketAddr,
    /// Who it is, verified and valid when the handshake ended. A long connection can outlive its
    /// certificate: compare `not_after`. `None`: no certificate was shown.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// The key of the authority that signed the certificate, at a listener that trusts several
    /// ([`crate::Trust`]).
    pub authority: Option<SpkiSha256>,
    /// Cancelling it ends the connection: every read and write fails from then on.
    pub close: CancellationToken,
}

/// A TLS connection with a place at the listener, which it gives back when dropped.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    stream: TlsStream<S>,
    info: ConnectInfo,
    // One future each for reading and writing: either half may belong to another task, and a
    // future wakes only the task that polled it last.
    closed_for_reading: Pin<Box<WaitForCancellationFutureOwned>>,
    closed_for_writing: Pin<Box<WaitForCancellationFutureOwned>>,
    // Below the stream: the socket is closed before its place is given away.
    _slot: Slot,
}

impl<S> Connection<S> {
    pub(crate) fn new(stream: TlsStream<S>, info: ConnectInfo, slot: Slot) -> Self {
        if let Some(certificate) = &info.certificate {
            slot.name(Arc::clone(certificate), info.close.clone());
        }
        Self {
            stream,
            closed_for_reading: Box::pin(info.close.clone().cancelled_owned()),
            closed_for_writing: Box::pin(info.close.clone().cancelled_owned()),
            info,
            _slot: slot,
        }
    }

    /// Addresses, identity and the handle to close it.
    #[must_use]
    pub fn info(&self) -> &ConnectInfo {
        &self.info
    }

    /// Fails once the connection was closed from outside.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        refuse_after(self.closed_for_writing.as_mut(), cx)
    }
}

impl<S: Socket> Connected for Connection<S> {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl<S: Socket> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        refuse_after(self.closed_for_reading.as_mut(), cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writable(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writable(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writable(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writable(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn refuse_after(
    closed: Pin<&mut WaitForCancellationFutureOwned>,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    if closed.poll(cx).is_ready() {
        Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the connection was closed from this side",
        ))
    } else {
        Ok(())
    }
}
