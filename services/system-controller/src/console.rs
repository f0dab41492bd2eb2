//! The console: plain HTTP for probes and for monitoring. Anybody on oam may ask, so nobody may
//! hold much of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use daemon::{Exit, Failure, Life, bind_tcp};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use identity::{Connections, Slot, Socket as _};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What Prometheus is told that the metrics are.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections in all: several who monitor, and probes.
const CONNECTIONS: usize = 64;
/// Connections from one address.
const PER_SOURCE: usize = 16;
/// The longest that a request may take to come.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// The longest that a connection may take in all. It is for one request.
const TIME: Duration = Duration::from_secs(30);

/// The console's listeners, bound but not yet served.
#[derive(Debug)]
pub(crate) struct Console {
    listeners: Vec<(TcpListener, SocketAddr)>,
    connections: Connections,
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
        Ok(Self {
            listeners,
            connections: Connections::new(CONNECTIONS, PER_SOURCE),
        })
    }

    /// Its connections, to be counted.
    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone()
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
            let connections = self.connections.clone();
            life.spawn(accept(listener, connections, router.clone(), life.clone()));
        }
    }
}

/// Accepts until the stop. Whoever finds no place is turned away at once.
async fn accept(listener: TcpListener, connections: Connections, router: Router, life: Life) {
    let stop = life.stopping();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match connections.admit(peer.ip()) {
                Ok(place) => {
                    life.spawn_connection(answer(stream, place, router.clone(), stop.clone()))
                }
                Err(refusal) => tracing::debug!(%peer, %refusal, "the console is busy"),
            },
            Err(error) => daemon::cannot_accept("the console", &error).await,
        }
    }
}

/// Answers the one request of a connection, which holds its place for as long.
async fn answer(stream: TcpStream, place: Slot, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.tune() {
        tracing::debug!(%error, "a connection of the console cannot be tuned");
    }
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        () = stop.cancelled() => {}
        answered = tokio::time::timeout(TIME, answered) => {
            if !matches!(answered, Ok(Ok(()))) {
                tracing::debug!(?answered, "a connection of the console came to nothing");
            }
        }
    }
    drop(place);
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
