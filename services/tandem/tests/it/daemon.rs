//! A daemon with canned answers that notes what it was asked.

mod answers;
mod fleet;
mod peers;
mod rollouts;
mod site;
mod watch;

use std::fmt::Debug;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use api::fleet_v1::alarm_service_server::AlarmServiceServer;
use api::fleet_v1::operator_service_server::OperatorServiceServer;
use api::fleet_v1::peer_service_server::PeerServiceServer;
use api::fleet_v1::rollout_service_server::RolloutServiceServer;
use api::fleet_v1::subcloud_group_service_server::SubcloudGroupServiceServer;
use api::fleet_v1::subcloud_service_server::SubcloudServiceServer;
use api::site_v1::network_service_server::NetworkServiceServer;
use api::site_v1::site_service_server::SiteServiceServer;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Response, Status};

pub(crate) use watch::QUIET;

/// A running daemon on a unix socket; dropping it ends it.
pub(crate) struct Daemon {
    folder: TempDir,
    asked: Asked,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Every request since the start, as `{:?}` writes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Vec<String>>>);

impl Daemon {
    /// Starts it; it answers when this returns.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"))
    }

    /// Ends it and starts another one on its socket.
    pub(crate) fn restart(mut self) -> Self {
        self.end();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        std::fs::remove_file(folder.path().join("operator.sock")).expect("the socket is there");
        Self::start_in(folder)
    }

    fn start_in(folder: TempDir) -> Self {
        let asked = Asked::default();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let (ready, is_ready) = mpsc::channel();
        let (path, routes) = (folder.path().join("operator.sock"), routes(&asked, &stop));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async move {
                let listener = UnixListener::bind(path).expect("a socket");
                ready.send(()).expect("the test waits");
                tonic::transport::Server::builder()
                    .add_routes(routes)
                    .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped)
                    .await
                    .expect("it serves until it is stopped");
            });
        });
        is_ready.recv().expect("the daemon starts");
        Self {
            folder,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    /// What `TANDEM_ENDPOINT` should say.
    pub(crate) fn endpoint(&self) -> String {
        format!(
            "unix:{}",
            self.folder.path().join("operator.sock").display()
        )
    }

    /// A folder that lives as long as the daemon.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every request since the start, or since they were forgotten.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.asked.0.lock().expect("no panic").clone()
    }

    /// Forgets the requests.
    pub(crate) fn forget(&self) {
        self.asked.0.lock().expect("no panic").clear();
    }

    /// The latest request.
    pub(crate) fn last_request(&self) -> String {
        self.asked
            .0
            .lock()
            .expect("no panic")
            .last()
            .cloned()
            .unwrap_or_default()
    }
}

impl Daemon {
    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// The services of a daemon; its streams end with `stop`.
pub(crate) fn routes(asked: &Asked, stop: &CancellationToken) -> Routes {
    let site = site::Site(asked.clone(), stop.clone());
    Routes::new(NetworkServiceServer::new(site.clone()))
        .add_service(SiteServiceServer::new(site))
        .add_service(AlarmServiceServer::new(fleet::Fleet(asked.clone())))
        .add_service(SubcloudServiceServer::new(fleet::Fleet(asked.clone())))
        .add_service(OperatorServiceServer::new(fleet::Operators(asked.clone())))
        .add_service(RolloutServiceServer::new(rollouts::Rollouts(asked.clone())))
        .add_service(PeerServiceServer::new(peers::Peers {
            asked: asked.clone(),
            questions: AtomicU32::default(),
        }))
        .add_service(SubcloudGroupServiceServer::new(fleet::Groups(
            asked.clone(),
        )))
}

impl Asked {
    fn note<Message: Debug>(&self, request: tonic::Request<Message>) -> Message {
        let has_deadline = request.metadata().contains_key("grpc-timeout");
        assert!(has_deadline, "every request tells its deadline");
        self.keep(request)
    }

    fn note_endless<Message: Debug>(&self, request: tonic::Request<Message>) -> Message {
        let has_deadline = request.metadata().contains_key("grpc-timeout");
        assert!(!has_deadline, "a stream without end has no deadline");
        self.keep(request)
    }

    fn keep<Message: Debug>(&self, request: tonic::Request<Message>) -> Message {
        let message = request.into_inner();
        self.0
            .lock()
            .expect("no panic")
            .push(format!("{message:?}"));
        message
    }
}

/// The page of `entries` after `token`, two at a time whatever was asked for, so that every
/// list of more than two entries takes several pages.
fn page<Entry>(entries: Vec<Entry>, token: &str) -> (Vec<Entry>, String) {
    const ENTRIES: usize = 2;
    let start = token.parse().unwrap_or(0);
    let next = start + ENTRIES;
    let token = if next < entries.len() {
        next.to_string()
    } else {
        String::new()
    };
    (
        entries.into_iter().skip(start).take(ENTRIES).collect(),
        token,
    )
}

fn ok<Message>(message: Message) -> Result<Response<Message>, Status> {
    Ok(Response::new(message))
}
