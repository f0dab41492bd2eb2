//! The hosts: a process of a controller or an agent each, with a disk that outlives it.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use daemon::{Life, Network};
use futures_util::future::LocalBoxFuture;
use site::{Change, Site};
use subcloud_agent::LinkState;
use system_controller::{Serving, Times};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::network::{Gates, HostNetwork, LinkListener};
use crate::operator::Operator;

/// The port of the link, as of every controller.
const LINK_PORT: u16 = 8441;

/// How often it is looked whether there is a token.
const LOOK: Duration = Duration::from_secs(1);

/// How long somebody waits before an enrollment that failed is tried again.
const ENROLL_AGAIN: Duration = Duration::from_secs(20);

/// How much may wait for a process: more than a world asks of it in its whole life.
const QUEUE: usize = 256;

/// An answer that may come.
pub(crate) type Answer<T> = Rc<RefCell<Option<Result<T, Status>>>>;

type Call = Box<dyn FnOnce(Operator) -> LocalBoxFuture<'static, ()>>;

/// What all hosts have.
pub(crate) struct Host {
    pub(crate) name: String,
    /// The site as it was installed.
    pub(crate) site: Site,
    pub(crate) address: IpAddr,
    network: Arc<HostNetwork>,
}

impl Host {
    pub(crate) fn new(name: &str, site: Site, address: IpAddr, gates: Gates) -> Self {
        Self {
            name: name.to_owned(),
            site,
            address,
            network: Arc::new(HostNetwork { address, gates }),
        }
    }

    fn life(&self) -> Life {
        Life::on(Network::Played(self.network.clone()))
    }
}

/// A controller's host.
pub(crate) struct ControllerHost {
    pub(crate) host: Host,
    times: Times,
    disk: RefCell<Option<Rc<system_controller::InProcess>>>,
    serving: RefCell<Option<Serving>>,
    calls: RefCell<Option<mpsc::Sender<Call>>>,
}

impl ControllerHost {
    pub(crate) fn new(host: Host, times: Times) -> Self {
        Self {
            host,
            times,
            disk: RefCell::default(),
            serving: RefCell::default(),
            calls: RefCell::default(),
        }
    }

    /// What a process does from its start to its end.
    pub(crate) async fn run(self: Rc<Self>) -> turmoil::Result {
        let known = self.disk();
        let disk = match known {
            Some(disk) => disk,
            None => {
                let installed = system_controller::InProcess::install(&self.host.site).await?;
                self.put_disk(installed)
            }
        };
        let address = SocketAddr::new(self.host.address, LINK_PORT);
        let link = LinkListener::bind(address, self.host.network.gates.clone()).await?;
        let life = self.host.life();
        let serving = disk.serve(&life, (link, address), self.times).await?;
        let (sender, mut calls) = mpsc::channel::<Call>(QUEUE);
        self.calls.replace(Some(sender));
        self.serving.replace(Some(serving.clone()));
        while let Some(call) = calls.recv().await {
            tokio::task::spawn_local(call(Operator::at(&serving)));
        }
        Ok(())
    }

    /// The process is gone.
    pub(crate) fn ended(&self) {
        self.calls.take();
        self.serving.take();
    }

    /// The process, when it serves.
    pub(crate) fn serving(&self) -> Option<Serving> {
        self.serving.borrow().clone()
    }

    pub(crate) fn disk(&self) -> Option<Rc<system_controller::InProcess>> {
        self.disk.borrow().clone()
    }

    /// Puts a disk in, for the next start.
    pub(crate) fn put_disk(
        &self,
        disk: system_controller::InProcess,
    ) -> Rc<system_controller::InProcess> {
        let disk = Rc::new(disk);
        self.disk.replace(Some(Rc::clone(&disk)));
        disk
    }

    /// Has an operator call something. A process that is down, or goes down, never answers.
    pub(crate) fn call<T: 'static, F>(
        &self,
        call: impl FnOnce(Operator) -> F + 'static,
    ) -> Answer<T>
    where
        F: Future<Output = Result<T, Status>> + 'static,
    {
        let answer: Answer<T> = Rc::default();
        let given = Rc::clone(&answer);
        let call: Call = Box::new(|operator| {
            Box::pin(async move {
                let outcome = call(operator).await;
                given.replace(Some(outcome));
            })
        });
        // Nobody serves: the call is lost, as over a dead socket.
        if let Some(calls) = &*self.calls.borrow() {
            hand_over(calls, call);
        }
        answer
    }
}

/// A subcloud's host.
pub(crate) struct AgentHost {
    pub(crate) host: Host,
    disk: RefCell<Option<Rc<subcloud_agent::InProcess>>>,
    state: RefCell<Option<watch::Receiver<LinkState>>>,
    changes: RefCell<Option<mpsc::Sender<Change>>>,
    token: RefCell<Option<String>>,
    refusal: RefCell<Option<String>>,
}

impl AgentHost {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            disk: RefCell::default(),
            state: RefCell::default(),
            changes: RefCell::default(),
            token: RefCell::default(),
            refusal: RefCell::default(),
        }
    }

    /// What a process does from its start to its end.
    pub(crate) async fn run(self: Rc<Self>) -> turmoil::Result {
        let known = self.disk();
        let agent = match known {
            Some(disk) => self.put_disk(disk.again()?),
            None => {
                let from = Some(self.host.address);
                let installed = subcloud_agent::InProcess::install(&self.host.site, from);
                self.put_disk(installed.await?)
            }
        };
        let life = self.host.life();
        while agent.record()?.is_none() {
            let token = self.token.borrow().clone();
            let Some(token) = token else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            if let Err(failure) = agent.enroll_over(life.network(), &token).await {
                self.refusal.replace(Some(failure.to_string()));
                tokio::time::sleep(ENROLL_AGAIN).await;
            }
        }
        let (sender, mut changes) = mpsc::channel(QUEUE);
        self.changes.replace(Some(sender));
        self.state.replace(Some(agent.serve(&life)?));
        while let Some(change) = changes.recv().await {
            agent.keeper().change_own(change).await?;
        }
        Ok(())
    }

    /// The process is gone.
    pub(crate) fn ended(&self) {
        self.state.take();
        self.changes.take();
    }

    /// Gives the site a token, to enroll with.
    pub(crate) fn enroll(&self, token: String) {
        self.token.replace(Some(token));
    }

    /// Why it could not enroll when it tried last.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refusal.borrow().clone()
    }

    /// Changes the site, as an operator there does.
    pub(crate) fn change(&self, change: Change) {
        if let Some(changes) = &*self.changes.borrow() {
            hand_over(changes, change);
        }
    }

    pub(crate) fn state(&self) -> LinkState {
        let state = self.state.borrow();
        state
            .as_ref()
            .map(|state| *state.borrow())
            .unwrap_or_default()
    }

    pub(crate) fn disk(&self) -> Option<Rc<subcloud_agent::InProcess>> {
        self.disk.borrow().clone()
    }

    /// Puts a disk in.
    pub(crate) fn put_disk(
        &self,
        disk: subcloud_agent::InProcess,
    ) -> Rc<subcloud_agent::InProcess> {
        let disk = Rc::new(disk);
        self.disk.replace(Some(Rc::clone(&disk)));
        disk
    }
}

/// Hands something to a process; one that has gone down meanwhile never answers.
fn hand_over<T>(to: &mpsc::Sender<T>, what: T) {
    if let Err(TrySendError::Full(_)) = to.try_send(what) {
        panic!("more than {QUEUE} wait for a simulated process");
    }
}
