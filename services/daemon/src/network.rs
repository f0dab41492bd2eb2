//! The network that a process is on.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// The network of a process: that of the system, or one that a simulation plays.
#[derive(Debug, Clone, Default)]
pub enum Network {
    /// The system's TCP.
    #[default]
    System,
    /// What a simulation has instead. No daemon uses it.
    Played(Arc<dyn PlayedNetwork>),
}

/// A network in which many simulated hosts live in one process.
pub trait PlayedNetwork: Debug + Send + Sync {
    /// Opens a connection from the present host. `from` is the address that it has to leave from.
    ///
    /// # Errors
    /// As those of a real connection.
    fn connect(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> BoxFuture<'static, io::Result<Box<dyn PlayedStream>>>;
}

/// A connection of such a network.
pub trait PlayedStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> PlayedStream for S {}
