//! `system-controller serve`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::fleet_v1::enrollment_service_server::EnrollmentServiceServer;
use api::fleet_v1::link_service_server::LinkServiceServer;
use api::fleet_v1::peer_link_service_server::PeerLinkServiceServer;
use api::fleet_v1::rollout_service_server::{self, RolloutServiceServer};
use daemon::{
    Desk, Exit, Failure, Life, Neighbours, OperatorListeners, OperatorTraffic, SiteKeeper, Witness,
    bind_tcp,
};
use fleet::{ControllerConfig, ControllerId, Input};
use identity::{Acceptor, ClientCertificates, Connections, Listener};
use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use site::{DistributedCloudRole, Site};
use store::Store;
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::certificate::Certificate;
use crate::console::Console;
use crate::fleet_history::FleetHistory;
use crate::grpc::{Enrollments, Links, PeerLinks, RolloutCalls, SitesOfSubclouds};
use crate::hub::{Hub, Wire};
use crate::issuer::Issuer;
use crate::link_listener::MAX_MESSAGE_BYTES;
use crate::metrics::{Collected, Metrics};
use crate::operator_services::{OPERATOR_SERVICES, OperatorServices};
use crate::rollouts::Runner;
use crate::settings::{ServeOptions, Settings};
use crate::{expiry, link_listener, log_trim, records};

/// Serves until SIGTERM.
pub(crate) fn run(options: ServeOptions) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Failure::because(Exit::Software, "cannot start threads", &error))?;
    runtime.block_on(async {
        let logs = options.logs.start("system-controller")?;
        let served = serve(options).await;
        logs.end().await;
        served
    })
}

async fn serve(options: ServeOptions) -> Result<(), Failure> {
    let store = open(&options.state_dir)?;
    let (site, revision) = daemon::read_site_of(&store, DistributedCloudRole::SystemController)?;
    let settings = Settings::new(options, &site)?;
    let authority = Arc::new(records::read_authority(&store)?);
    let life = Life::start()?;
    raise_descriptors(settings.link_limits.connections);

    let operators =
        OperatorListeners::bind(&settings.operator_socket, &settings.operator_listen).await?;
    let link = bind_tcp(settings.link_listen, "--link-listen").await?;
    let link_address = address_of(&link)?;
    let console = Console::bind(&settings.console_listen).await?;

    let certificate = Certificate::issue(Arc::clone(&authority), addresses(&site, &settings))?;
    let LinkSide {
        hub,
        metrics,
        connections,
    } = serve_link(
        &life,
        &store,
        (&site, &settings),
        (link, link_address),
        &certificate,
    )
    .await?;
    life.spawn(log_trim::trim(
        Arc::clone(&store),
        settings.logs,
        life.clone(),
    ));
    let audit: Arc<dyn Witness> = Arc::<Hub>::clone(&hub);
    let controller = ControllerId(site.identity().uuid);
    let keeper = SiteKeeper::new(Arc::clone(&store), site, revision)?;
    let neighbours: Arc<dyn Neighbours> = Arc::<Hub>::clone(&hub);
    let keeper = Arc::new(keeper.among(neighbours));
    keeper.set_witness(Arc::clone(&audit));
    life.spawn(follow_site(
        Arc::clone(&hub),
        &keeper,
        link_address,
        life.clone(),
    ));
    life.spawn(expiry::end_expired(
        connections.clone(),
        Arc::clone(hub.operators()),
        life.clone(),
    ));
    let tls = certificate.tls(ClientCertificates::Required)?;
    life.spawn(certificate.renew(life.clone()));
    let endpoints = operators.endpoints();
    let runner = Runner::start(&life, &hub, controller)?;
    let rollouts = RolloutServiceServer::new(RolloutCalls {
        runner: Arc::clone(&runner),
        life: life.clone(),
        answers: Arc::default(),
    });
    let rollouts = rollouts.max_decoding_message_size(daemon::MAX_OPERATOR_MESSAGE_BYTES);
    let services = OperatorServices::of(&life, &hub, &authority, link_address);
    let names = [
        &OPERATOR_SERVICES[..],
        &[rollout_service_server::SERVICE_NAME],
    ]
    .concat();
    let desk = Desk {
        tls: Some(tls),
        operators: Arc::clone(hub.operators()),
        witness: Some(audit),
        way: Some(Arc::new(SitesOfSubclouds(Arc::clone(&hub)))),
    };
    let served = operators.serve(&life, &keeper, &desk, &names, |routes| {
        services.add_to(routes);
        routes.add_service(rollouts);
    });
    let traffic = served.await?;

    let console_addresses = console.addresses();
    let fleet = (&hub, &runner);
    let named = [("link", connections), ("console", console.connections())];
    console.serve(&life, registry(&metrics, fleet, named, traffic));
    let operator = endpoints.join(",");
    daemon::ready(&format!(
        "ready operator={operator} link={link_address} console={console_addresses}"
    ));
    life.until_stopped().await;
    drop((hub, keeper, runner));
    close(store)
}

/// Takes as many file descriptors as the system allows this process: each link needs one, and the
/// usual soft limit is a thousand.
fn raise_descriptors(links: usize) {
    let known = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: known.maximum,
        ..known
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit of file descriptors cannot be raised");
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit < u64::try_from(links).unwrap_or(u64::MAX) {
        tracing::warn!(
            limit,
            links,
            "this process may open fewer files than links: raise the hard limit of open files \
             (LimitNOFILE), or lower link_connections"
        );
    }
}

/// Opens the store and with it locks the state directory.
fn open(dir: &std::path::Path) -> Result<Arc<Store>, Failure> {
    daemon::open_store(dir).map(Arc::new)
}

/// Makes durable what is still queued.
fn close(store: Arc<Store>) -> Result<(), Failure> {
    match Arc::try_unwrap(store) {
        Ok(store) => store
            .close()
            .map_err(|error| Failure::because(Exit::Io, "the last changes", &error)),
        Err(_) => {
            tracing::debug!("a task still holds the store; it closes with the process");
            Ok(())
        }
    }
}

/// The running fleet, and what is counted of its link listener.
pub(crate) struct LinkSide {
    pub(crate) hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    connections: Connections,
}

/// Starts the fleet from what is on disk, and serves agents and peers on the link address.
pub(crate) async fn serve_link<L: Listener>(
    life: &Life,
    store: &Arc<Store>,
    (site, settings): (&Site, &Settings),
    (link, address): (L, SocketAddr),
    certificate: &Certificate,
) -> Result<LinkSide, Failure> {
    let authority = certificate.authority();
    let config = settings.controller(site, address, authority);
    let issuer = Arc::new(Issuer {
        authority: Arc::clone(authority),
        validity: settings.certificate_validity,
    });
    let (trust, tls) = certificate.link_tls()?;
    let limits = settings.link_limits;
    let acceptor = Acceptor::trusting(link, tls, Arc::clone(&trust), limits, life.stopping());
    let (metrics, connections) = (Arc::new(Metrics::new()), acceptor.connections());
    let start = records::count_start(store).await?;
    let history = FleetHistory::new(start, settings.watch_history);
    let wire = Wire {
        authority: authority.spki_sha256(),
        certificate: Arc::clone(certificate.serving()),
        trust,
        link: address,
        network: life.network().clone(),
    };
    let hub = Hub::start(
        life,
        Arc::clone(store),
        config.clone(),
        Arc::clone(&issuer),
        site,
        (Arc::clone(&metrics), connections.clone(), history),
        wire,
    )?;
    let agents = agents(life, &hub, issuer, config);
    life.spawn(link_listener::serve(
        acceptor,
        agents,
        Arc::clone(&metrics),
        life.clone(),
    ));
    Ok(LinkSide {
        hub,
        metrics,
        connections,
    })
}

fn address_of(link: &TcpListener) -> Result<SocketAddr, Failure> {
    let failed = |error: std::io::Error| {
        let what = "the address of the link listener";
        Failure::because(Exit::Unavailable, what, &error)
    };
    link.local_addr().map_err(failed)
}

/// What is served on the link address: enrollment, links, and peers.
fn agents(life: &Life, hub: &Arc<Hub>, issuer: Arc<Issuer>, config: ControllerConfig) -> Routes {
    let enrollments = Enrollments {
        hub: Arc::clone(hub),
        issuer,
        config,
    };
    let links = Links {
        hub: Arc::clone(hub),
    };
    let enrollments =
        EnrollmentServiceServer::new(enrollments).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let links = LinkServiceServer::new(links).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let peers = PeerLinks {
        hub: Arc::clone(hub),
        life: life.clone(),
    };
    let peers = PeerLinkServiceServer::new(peers).max_decoding_message_size(MAX_MESSAGE_BYTES);
    Routes::new(enrollments)
        .add_service(links)
        .add_service(peers)
        .prepare()
}

/// What the console tells of the fleet and the listeners.
fn registry(
    metrics: &Metrics,
    (hub, rollouts): (&Arc<Hub>, &Arc<Runner>),
    others: [(&'static str, Connections); 2],
    operators: OperatorTraffic,
) -> Registry {
    let OperatorTraffic {
        tcp,
        refused,
        misconduct,
        oversize,
        oversize_metadata,
    } = operators;
    let listeners = tcp
        .into_iter()
        .map(|connections| ("operators", connections));
    metrics.registry(Collected {
        hub: Arc::downgrade(hub),
        rollouts: Arc::downgrade(rollouts),
        connections: listeners.chain(others).collect(),
        oversize: vec![("operators", oversize), ("link", metrics.oversize.clone())],
        oversize_metadata: vec![
            ("operators", oversize_metadata),
            ("link", metrics.oversize_metadata.clone()),
        ],
        misconduct,
        refused,
    })
}

/// Tells the fleet each durable change of the controller's own site from the call on, whenever the
/// task gets its first turn.
pub(crate) fn follow_site(
    hub: Arc<Hub>,
    keeper: &SiteKeeper,
    link: SocketAddr,
    life: Life,
) -> impl Future<Output = ()> + Send + use<> {
    let mut changes = keeper.watch();
    // A flag may have put the listener elsewhere.
    let mut served = keeper.site().link_address().filter(|own| *own == link.ip());
    let stop = life.stopping();
    async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            let site = Arc::clone(&changes.borrow_and_update());
            if served.is_some() && site.link_address() != served {
                let now = site.link_address().map(tracing::field::display);
                tracing::warn!(
                    now,
                    "the link address has moved, but links are served at {link} until this \
                     controller is restarted; tokens that were issued before name that address: \
                     issue new ones after the restart"
                );
                served = None;
            }
            hub.feed(Input::ControllerSiteChanged(site));
        }
    }
}

/// The addresses under which tools may know this controller.
fn addresses(site: &Site, settings: &Settings) -> Vec<IpAddr> {
    let listening = settings
        .operator_listen
        .iter()
        .chain(&settings.console_listen);
    let listening = listening.chain([&settings.link_listen]).map(SocketAddr::ip);
    let mut all: Vec<IpAddr> = listening.chain(site.link_address()).collect();
    all.sort_unstable();
    all.dedup();
    all.retain(|address| !address.is_unspecified());
    all
}
