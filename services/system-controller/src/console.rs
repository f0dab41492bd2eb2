//! The console: plain HTTP for probes and for monitoring.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use daemon::{Exit, Failure, Life, bind_tcp};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

/// What Prometheus is told that the metrics are.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The console's listeners, bound but not yet served.
#[derive(Debug)]
pub(crate) struct Console {
    listeners: Vec<(TcpListener, SocketAddr)>,
}

impl Console {
    /// Binds every address.
    pub(crate) async fn bind(addresses: &[SocketAddr]) -> Result<Self, Failure> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let listener = bind_tcp(*address, "--console-listen").await?;
            let local = listener.local_addr().map_err(|error| {
                Failure::because(Exit::Unavailable, "the console's address", &error)
            })?;
            listeners.push((listener, local));
        }
        Ok(Self { listeners })
    }

    /// The real addresses, as the `ready` line shows them.
    pub(crate) fn addresses(&self) -> String {
        let addresses = self.listeners.iter().map(|(_, local)| local.to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Serves `GET /healthz` and `GET /metrics`.
    pub(crate) fn serve(self, life: &Life, registry: Registry) {
        let router = Router::new()
            .route("/healthz", get(async || "serving\n"))
            .route("/metrics", get(metrics))
            .with_state(Arc::new(registry));
        for (listener, _) in self.listeners {
            let served = axum::serve(listener, router.clone())
                .with_graceful_shutdown(life.stopping().cancelled_owned());
            life.spawn(async move {
                if let Err(error) = served.await {
                    tracing::error!(%error, "the console ended");
                }
            });
        }
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
