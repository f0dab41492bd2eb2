//! Connections to a controller, of an agent or of another controller: from the link address,
//! over TLS that pins its authority.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use identity::ConnectError;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::Network;
use crate::exit::chain;

/// How long a TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often an idle connection is asked for a sign of life, and how long that may take.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Flow-control window of a connection and of each stream.
const WINDOW_BYTES: u32 = 64 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// This host does not have the address to leave from.
    #[error("cannot leave from {address}: {source}")]
    Source {
        /// The address.
        address: IpAddr,
        /// Why.
        source: io::Error,
    },
    /// The controller does not answer.
    #[error("cannot reach {controller}: {source}")]
    Connect {
        /// The controller.
        controller: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// What answers is not the controller.
    #[error("{controller}: {}", chain(source))]
    Tls {
        /// The controller.
        controller: SocketAddr,
        /// Why.
        source: ConnectError,
    },
    /// gRPC does not start.
    #[error("{0}")]
    Grpc(#[from] tonic::transport::Error),
}

impl Network {
    /// Opens a connection to a controller, ready for calls.
    ///
    /// # Errors
    /// Which step failed.
    pub async fn connect(
        &self,
        controller: SocketAddr,
        source: Option<IpAddr>,
        tls: Arc<ClientConfig>,
    ) -> Result<Channel, TransportError> {
        match self {
            Self::System => open(controller, tcp(controller, source).await?, tls).await,
            Self::Played(network) => {
                let stream = in_time(controller, network.connect(controller, source)).await?;
                open(controller, stream, tls).await
            }
        }
    }
}

/// Shakes hands over a connection, and speaks gRPC over it.
async fn open<S>(
    controller: SocketAddr,
    stream: S,
    tls: Arc<ClientConfig>,
) -> Result<Channel, TransportError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = identity::connect(tls, controller.ip(), stream).await;
    let stream = stream.map_err(|source| TransportError::Tls { controller, source })?;
    // The connection is made here, once: the channel gets it, and ends with it.
    let mut made = Some(TokioIo::new(stream));
    let connector = service_fn(move |_| {
        let stream = made.take();
        async { stream.ok_or_else(|| io::Error::other("the connection has ended")) }
    });
    // The scheme keeps tonic from adding TLS of its own.
    let endpoint = Endpoint::from_shared(format!("http://{controller}"))?
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    Ok(endpoint.connect_with_connector(connector).await?)
}

async fn tcp(controller: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, TransportError> {
    let failed = |source| TransportError::Connect { controller, source };
    let socket = if controller.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket.map_err(failed)?;
    if let Some(address) = source {
        let cannot = |source| TransportError::Source { address, source };
        socket.bind(SocketAddr::new(address, 0)).map_err(cannot)?;
    }
    socket.set_nodelay(true).map_err(failed)?;
    in_time(controller, socket.connect(controller)).await
}

/// Waits for a connection, but not for ever.
async fn in_time<S>(
    controller: SocketAddr,
    connecting: impl Future<Output = io::Result<S>>,
) -> Result<S, TransportError> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|source| TransportError::Connect { controller, source })
}
