//! The operators' listeners: a unix socket, and TLS on TCP.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::access::AccessReason;
use axum::middleware::{from_fn_with_state, map_request};
use clap::Args;
use hyper::body::Incoming;
use identity::{Acceptor, Connections, Limits};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tonic::codegen::Service as _;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::server::Connected as _;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer, SERVICE_NAME as HEALTH_SERVICE};
use tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME as REFLECTION;
use tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME as OLD_REFLECTION;
use uuid::Uuid;

use api::site_v1::network_service_server::SERVICE_NAME as NETWORK_SERVICE;
use api::site_v1::site_service_server::SERVICE_NAME as SITE_SERVICE;

use crate::access::Gate;
use crate::grpc::{EncodedPools, Networks, Sites};
use crate::remote::{self, Way};
use crate::{
    Bounded, CountBy, Exit, Failure, KnownOperators, Life, Misconduct, Oversize, SiteKeeper,
    Witness, access, converse, deadline, metadata,
};

/// The largest message of the operators' interface: a bootstrap file of 1 MiB and its frame.
pub const MAX_OPERATOR_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// How long a listener is left alone when a connection could not be accepted: the next one would
/// fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where operators are served.
#[derive(Debug, Clone, Default, Args)]
pub struct OperatorOptions {
    /// Unix socket for operators on this machine [default: DIR/operator.sock]
    #[arg(long, value_name = "PATH")]
    pub operator_socket: Option<PathBuf>,

    /// Address for operators with a certificate; may be given more than once
    /// [default: every oam address that this host has, port 8440]
    #[arg(long, value_name = "ADDR:PORT")]
    pub operator_listen: Vec<SocketAddr>,
}

/// What TLS on TCP needs.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The configuration; it demands a client certificate.
    pub config: Arc<ServerConfig>,
    /// The trust domain of those certificates.
    pub trust_domain: Uuid,
}

/// Who stands at the listeners, and what lies behind them. The default is an agent's: nobody
/// over TCP, no audit log, and no subclouds.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    /// What TLS on TCP needs; without it the TCP listeners must be none.
    pub tls: Option<Tls>,
    /// Whose certificates count.
    pub operators: Arc<KnownOperators>,
    /// Who is told of calls that are not allowed, and of changes that cannot be read.
    pub witness: Option<Arc<dyn Witness>>,
    /// Calls whose metadata names a subcloud go over it.
    pub way: Way,
}

/// Listeners that are bound but not yet served.
#[derive(Debug)]
pub struct OperatorListeners {
    unix: UnixListener,
    unix_file: SocketFile,
    tcp: Vec<TcpListener>,
}

/// The file of a unix socket. It goes with its listener, also when another address cannot be
/// bound and the process ends before it serves; one that somebody else has put there since stays.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The device and the file's number there.
    made: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            made: file_id(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = &self.path;
        let removed = match file_id(path) {
            Ok(there) if there == self.made => std::fs::remove_file(path),
            Ok(_) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, path = %path.display(), "the socket file stays");
        }
    }
}

fn file_id(path: &Path) -> std::io::Result<(u64, u64)> {
    let there = std::fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

impl OperatorListeners {
    /// Binds everything, so that a wrong address is known before anything starts. A socket file
    /// that is there is removed when nobody answers on it.
    ///
    /// # Errors
    /// Exit 69 naming the address and the flag.
    pub async fn bind(socket: &Path, addresses: &[SocketAddr]) -> Result<Self, Failure> {
        let (unix, unix_file) = bind_unix(socket)?;
        let mut tcp = Vec::with_capacity(addresses.len());
        for address in addresses {
            tcp.push(bind_tcp(*address, "--operator-listen").await?);
        }
        Ok(Self {
            unix,
            unix_file,
            tcp,
        })
    }

    /// The endpoints as the `ready` line shows them.
    pub fn endpoints(&self) -> Vec<String> {
        let path = &self.unix_file.path;
        let unix = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let mut endpoints = vec![format!("unix:{}", unix.display())];
        let bound = self
            .tcp
            .iter()
            .filter_map(|listener| listener.local_addr().ok());
        endpoints.extend(bound.map(|address| format!("https://{address}")));
        endpoints
    }

    /// Serves the site services, health, reflection and what `more` adds (services with these
    /// names), until the process stops.
    ///
    /// # Errors
    /// When there are TCP listeners but no certificates.
    pub async fn serve(
        self,
        life: &Life,
        keeper: &Arc<SiteKeeper>,
        desk: &Desk,
        names: &[&'static str],
        more: impl FnOnce(&mut RoutesBuilder),
    ) -> Result<OperatorTraffic, Failure> {
        let names: Vec<&'static str> = [NETWORK_SERVICE, SITE_SERVICE]
            .into_iter()
            .chain(names.iter().copied())
            .collect();
        let health = health(life, &names).await;
        let mut traffic = OperatorTraffic::default();
        let routes = routes(life, keeper, &names, desk, &traffic, |routes| {
            routes.add_service(health);
            more(routes);
        })?;
        let counter = Counter {
            routes: routes.prepare(),
            misconduct: traffic.misconduct.clone(),
            life: life.clone(),
        };
        life.spawn(serve_unix(self.unix, self.unix_file, counter.clone()));
        for listener in self.tcp {
            let Some(tls) = &desk.tls else {
                let message = "operators over TCP need certificates, and this site has none yet";
                return Err(Failure::new(Exit::Usage, message));
            };
            let acceptor = Acceptor::new(
                listener,
                Arc::clone(&tls.config),
                tls.trust_domain,
                Limits::default(),
                life.stopping(),
            );
            desk.operators.add_listener(acceptor.connections());
            traffic.tcp.push(acceptor.connections());
            life.spawn(serve_tcp(acceptor, counter.clone()));
        }
        Ok(traffic)
    }
}

/// What the operators' listeners see of their clients, for metrics.
#[derive(Debug)]
pub struct OperatorTraffic {
    /// The connections of each TCP listener.
    pub tcp: Vec<Connections>,
    /// Calls over any listener that the access check turned away.
    pub refused: CountBy<AccessReason>,
    /// Connections to any listener that were ended for what the peer did.
    pub misconduct: CountBy<Misconduct>,
    /// Messages of any listener that were too large.
    pub oversize: Oversize,
    /// Requests of any listener whose metadata was too large.
    pub oversize_metadata: Oversize,
}

impl Default for OperatorTraffic {
    fn default() -> Self {
        Self {
            tcp: Vec::new(),
            refused: CountBy::of(access::REFUSALS),
            misconduct: CountBy::of(Misconduct::ALL),
            oversize: Oversize::default(),
            oversize_metadata: Oversize::default(),
        }
    }
}

/// Where the connections of operators are served.
#[derive(Debug, Clone)]
struct Counter {
    routes: Routes,
    misconduct: CountBy<Misconduct>,
    life: Life,
}

impl Counter {
    /// Serves one connection until its end. The services learn from `info` whose the requests are.
    fn serve<S, I>(&self, stream: S, info: I)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        I: Clone + Send + Sync + 'static,
    {
        let routes = self.routes.clone();
        let answer = move |mut request: http::Request<Incoming>| {
            let limit = deadline::of(request.headers());
            request.extensions_mut().insert(info.clone());
            // Routes are always ready.
            let answer = routes.clone().call(request);
            async move {
                let Some(limit) = limit else {
                    return answer.await;
                };
                let answered = tokio::time::timeout(limit, answer).await;
                answered.unwrap_or_else(|_| Ok(deadline::passed().into_http()))
            }
        };
        let served = converse(stream, None, answer, self.life.stopping());
        let counts = self.misconduct.clone();
        self.life.spawn_connection(async move {
            if let Some(misconduct) = served.await {
                counts.add(misconduct);
                let cause = misconduct.name();
                tracing::debug!(cause, "a connection of an operator was ended");
            }
        });
    }
}

async fn serve_tcp(mut acceptor: Acceptor, counter: Counter) {
    while let Some(connection) = acceptor.accept().await {
        let info = connection.info().clone();
        counter.serve(connection, info);
    }
}

/// The file goes with its listener.
async fn serve_unix(listener: UnixListener, _file: SocketFile, counter: Counter) {
    let stop = counter.life.stopping();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let info = stream.connect_info();
                counter.serve(stream, info);
            }
            Err(error) => cannot_accept("the operators' socket", &error).await,
        }
    }
}

/// Tells that a listener could not accept a connection, and rests for a moment.
pub async fn cannot_accept(listener: &str, error: &std::io::Error) {
    tracing::warn!(%error, "{listener} cannot accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Binds a TCP listener.
///
/// # Errors
/// Exit 69 naming the address and the flag that sets it.
pub async fn bind_tcp(address: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!(
            "cannot listen on {address}: {error}; \
             give this host the address, or name another one with {flag}"
        );
        Failure::new(Exit::Unavailable, message)
    })
}

fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), Failure> {
    let failed = |error: std::io::Error| {
        let message = format!(
            "cannot listen on {}: {error}; name another path with --operator-socket",
            path.display()
        );
        Failure::new(Exit::Unavailable, message)
    };
    if std::fs::symlink_metadata(path).is_ok_and(|known| known.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(failed(std::io::ErrorKind::AddrInUse.into()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let file = SocketFile::at(path).map_err(failed)?;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner_only).map_err(failed)?;
    Ok((listener, file))
}

/// The services of a site.
pub(crate) fn site_routes(keeper: &Arc<SiteKeeper>, life: &Life) -> RoutesBuilder {
    use api::site_v1::network_service_server::NetworkServiceServer;
    use api::site_v1::site_service_server::SiteServiceServer;

    let networks = NetworkServiceServer::new(Networks(Arc::clone(keeper), EncodedPools::default()));
    let sites = SiteServiceServer::new(Sites(Arc::clone(keeper), life.clone()));
    let mut builder = RoutesBuilder::default();
    builder
        .add_service(networks.max_decoding_message_size(MAX_OPERATOR_MESSAGE_BYTES))
        .add_service(sites.max_decoding_message_size(MAX_OPERATOR_MESSAGE_BYTES));
    builder
}

/// Everything that operators may call.
fn routes(
    life: &Life,
    keeper: &Arc<SiteKeeper>,
    names: &[&'static str],
    desk: &Desk,
    traffic: &OperatorTraffic,
    more: impl FnOnce(&mut RoutesBuilder),
) -> Result<Routes, Failure> {
    let broken = |error: tonic_reflection::server::Error| {
        Failure::because(Exit::Software, "reflection", &error)
    };
    let reflection = |own: &str| {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Clients find the details of a refusal by reflection too.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
        // The contract describes more services than are served here; only these are listed.
        let listed = names.iter().copied().chain([HEALTH_SERVICE, own]);
        listed.fold(builder, |builder, name| builder.with_service_name(name))
    };
    let mut builder = site_routes(keeper, life);
    builder
        .add_service(reflection(REFLECTION).build_v1().map_err(broken)?)
        .add_service(reflection(OLD_REFLECTION).build_v1alpha().map_err(broken)?);
    more(&mut builder);
    let gate = Gate {
        operators: Arc::clone(&desk.operators),
        witness: desk.witness.clone(),
        own_uid: own_uid()?,
        refused: traffic.refused.clone(),
    };
    let oversize = traffic.oversize.clone();
    let oversize_metadata = traffic.oversize_metadata.clone();
    let guarded = builder
        .routes()
        .into_axum_router()
        .layer(from_fn_with_state(desk.way.clone(), remote::pass_on))
        // Within the next one, so that a change which is refused for this is in the audit log.
        .layer(from_fn_with_state(oversize_metadata, metadata::limit))
        // The outer ones: who calls is known, and may call this, before anything is passed on,
        // and nothing larger than its limit is read.
        .layer(from_fn_with_state(gate, access::guard))
        .layer(map_request(move |request: axum::extract::Request| {
            let oversize = oversize.clone();
            async move {
                request.map(|body| {
                    let body = Bounded::new(body, MAX_OPERATOR_MESSAGE_BYTES, oversize);
                    axum::body::Body::new(body)
                })
            }
        }));
    Ok(Routes::from(guarded))
}

/// The user of this process.
fn own_uid() -> Result<u32, Failure> {
    let own = std::fs::metadata("/proc/self");
    own.map(|own| own.uid())
        .map_err(|error| Failure::because(Exit::Software, "the user of this process", &error))
}

/// Says of each service that it is served, until the process stops. The store is usable for as
/// long as the process lives: one that fails ends it.
async fn health(life: &Life, names: &[&'static str]) -> HealthServer<impl Health> {
    let (reporter, service) = tonic_health::server::health_reporter();
    let names = names.to_vec();
    for name in &names {
        reporter
            .set_service_status(name, ServingStatus::Serving)
            .await;
    }
    let stop = life.stopping();
    life.spawn(async move {
        stop.cancelled().await;
        for name in names.into_iter().chain([""]) {
            reporter
                .set_service_status(name, ServingStatus::NotServing)
                .await;
        }
    });
    service
}
