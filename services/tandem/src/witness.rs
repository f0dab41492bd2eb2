//! A stream that remembers why it broke.
//!
//! The gRPC channel answers a broken connection by asking for another and forgets the cause. A
//! server that demands a certificate says so by breaking the connection, so the cause matters.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The kind of the fault when the server ended the connection over what this side showed: in
/// TLS 1.3 it says so only after this side has finished the handshake.
pub(crate) const ALERT: io::ErrorKind = io::ErrorKind::PermissionDenied;

/// A stream whose first fault is kept.
pub(crate) struct Witnessed<Io> {
    stream: Io,
    fault: Fault,
    /// A write that failed, while it is not known why.
    failed_write: Option<io::Error>,
}

/// The first fault of a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<io::Error>>>);

impl<Io> Witnessed<Io> {
    /// The stream, and where its fault will be.
    pub(crate) fn new(stream: Io) -> (Self, Fault) {
        let fault = Fault::default();
        let witnessed = Self {
            stream,
            fault: fault.clone(),
            failed_write: None,
        };
        (witnessed, fault)
    }

    fn note<Value>(&self, outcome: Poll<io::Result<Value>>) -> Poll<io::Result<Value>> {
        outcome.map_err(|fault| {
            let fault = clarify(fault);
            let mut kept = self.fault.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get_or_insert_with(|| io::Error::new(fault.kind(), fault.to_string()));
            fault
        })
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Witnessed<Io> {
    /// Passes a write on, and holds a failure back until it is known why.
    ///
    /// A write that fails tells only that the other side is gone; why it went lies among what it
    /// sent before, or arrives with its reset. Nobody misses what is read here: the stream is
    /// broken, so reading ends.
    fn poll_writing<Value>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<Value>>,
    ) -> Poll<io::Result<Value>> {
        if self.failed_write.is_none() {
            match write(Pin::new(&mut self.stream), context) {
                Poll::Ready(Err(fault)) => self.failed_write = Some(fault),
                other => return other,
            }
        }
        let mut bytes = [0; 512];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let why = match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => continue,
                Ok(()) => None,
                Err(why) => Some(why),
            };
            let fault = why.or_else(|| self.failed_write.take());
            let fault = fault.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
            return self.note(Poll::Ready(Err(fault)));
        }
    }
}

impl Fault {
    /// The fault, or that there was none to see: the other side just went away.
    pub(crate) fn take(&self) -> io::Error {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take()
            .unwrap_or_else(|| io::Error::other("the other side closed the connection"))
    }
}

/// Gives a TLS alert the kind [`ALERT`]: the layers above keep the kind and the text of an error
/// and lose the error itself.
fn clarify(fault: io::Error) -> io::Error {
    let tls = fault
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(_)) => io::Error::new(ALERT, fault.to_string()),
        _ => fault,
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Witnessed<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.note(outcome)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Witnessed<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writing(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
