//! The console: plain HTTP for probes.

use axum::Router;
use axum::routing::get;
use daemon::{Exit, Failure, Life, bind_tcp};
use std::net::SocketAddr;

/// Binds the console's listeners and serves `GET /healthz` on them; the real addresses.
pub(crate) async fn serve(
    life: &Life,
    addresses: &[SocketAddr],
) -> Result<Vec<SocketAddr>, Failure> {
    let mut bound = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = bind_tcp(*address, "--console-listen").await?;
        let local = listener.local_addr();
        bound.push(local.map_err(|error| {
            Failure::because(Exit::Unavailable, "the console's address", &error)
        })?);
        let router = Router::new().route("/healthz", get(|| async { "serving\n" }));
        let stop = life.stopping().cancelled_owned();
        life.spawn(async move {
            if let Err(error) = axum::serve(listener, router)
                .with_graceful_shutdown(stop)
                .await
            {
                tracing::error!(%error, "the console ended");
            }
        });
    }
    Ok(bound)
}
