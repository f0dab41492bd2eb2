//! A generated client over a daemon's socket, for tests with hundreds of calls.

use std::path::Path;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Connects to the operators' socket of a daemon.
pub(crate) async fn operators(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // Windows as small as those of the servers, so that a client that does not read is noticed.
    let endpoint = Endpoint::from_static("http://localhost")
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535);
    endpoint
        .connect_with_connector(connector)
        .await
        .expect("a connection")
}
