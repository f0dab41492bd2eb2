//! Drives the agent's machine: feeds it what happens and carries out what it asks for.
//!
//! One task owns the machine. Connections are tasks of their own that only move messages.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::convert::{ControllerMessages, MAX_REPORT_BYTES, agent_message_to_wire, report_fits};
use api::fleet_v1::link_service_client::LinkServiceClient;
use daemon::{
    Caller, Exit, Failure, Life, Moment, OwnSite, Pieces, SiteKeeper, SystemEntropy, fatal, follow,
    now, random_uuid,
};
use fleet::{
    Agent, AgentInput, AgentMessage, AgentOutput, Cause, Command, CommandOutcome, ConnectionId,
    ControllerNetworks, Credential, Endpoint, Entropy as _, Fault, GoodbyeReason, InstanceId,
    LinkStatus, NetworksDigest, Reason, Rejection, Report, Violation,
};
use futures_util::StreamExt as _;
use identity::{PeerCertificate, TlsConfigError};
use rustls::ClientConfig;
use site::{AttachmentId, Change, ControllerNetwork, Generation, PoolId, Site, Timestamp};
use store::Store;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::credentials::Credentials;
use crate::records::{Enrolled, record_write};
use crate::refusal;
use crate::renewal::{Renewed, Renewer};

/// Messages that may wait for the network: a hello, a report, a heartbeat, and the answers to as
/// many commands as there may be.
const OUTGOING: usize = 32;

/// Happenings that may wait for the machine.
const HAPPENINGS: usize = 64;

/// How long an agent may wait for its machine's moment without looking whether the clock leaps: at
/// most this long a wrong clock that was put right keeps it waiting. A link turns more often.
const LOOK: Duration = Duration::from_secs(30);

/// The largest message of a controller: its networks, or the faults of a refused report.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Where connections leave from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leave {
    /// The address; `None` leaves it to the system.
    pub(crate) from: Option<IpAddr>,
    /// A flag asked for it, so a change of the site's link address does not matter.
    pub(crate) fixed: bool,
}

/// Starts the task that keeps the link.
pub(crate) fn start(
    life: &Life,
    store: Arc<Store>,
    keeper: Arc<SiteKeeper>,
    enrolled: Enrolled,
    leave: Leave,
) -> Result<watch::Receiver<LinkState>, Failure> {
    let Enrolled {
        key,
        token,
        certificate,
        credential,
        authority,
        record,
    } = enrolled;
    let expires = PeerCertificate::read_any(&certificate)
        .map_err(|error| Failure::because(Exit::Io, "the agent's certificate", &error))?
        .not_after;
    let tls = Credentials::new(&authority, certificate, key)
        .map_err(|error| Failure::because(Exit::Io, "the agent's certificate", &error))?;
    let id = record.subcloud;
    let Moment { at, leaps } = follow();
    // What changes from now on is told, whenever the task gets its first turn.
    let mut changes = keeper.watch();
    let site = Arc::clone(&changes.borrow_and_update());
    let (machine, outputs) = Agent::start(at, record, credential, instance(), site);
    let (happenings, happened) = mpsc::channel(HAPPENINGS);
    let (state, watched) = watch::channel(LinkState::default());
    let driver = Driver {
        state,
        machine,
        store,
        site: OwnSite::new(&keeper, life),
        keeper,
        renewer: Renewer::new(authority, token, id),
        tls,
        expires,
        leave,
        life: life.clone(),
        happenings,
        connection: None,
        timer: None,
        leaps,
    };
    life.spawn(driver.run(outputs, happened, changes));
    Ok(watched)
}

/// What others may know of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The controller has welcomed the agent over the present connection.
    pub online: bool,
    /// The generation of the site that the controller has acknowledged as durable; none while it
    /// has not acknowledged the present state over the present link.
    pub acknowledged: Option<Generation>,
    /// The controller's networks that the site has; the controller was told so if the link is up.
    pub networks: Option<NetworksDigest>,
}

struct Driver {
    state: watch::Sender<LinkState>,
    machine: Agent,
    store: Arc<Store>,
    keeper: Arc<SiteKeeper>,
    site: OwnSite,
    renewer: Renewer,
    tls: Credentials,
    /// The last moment of the certificate.
    expires: SystemTime,
    leave: Leave,
    life: Life,
    happenings: mpsc::Sender<AgentInput>,
    connection: Option<Connection>,
    timer: Option<Timestamp>,
    /// The clock's leaps before the machine was started.
    leaps: u64,
}

/// The one connection, or the attempt to make it.
struct Connection {
    id: ConnectionId,
    outgoing: mpsc::Sender<AgentMessage>,
    close: CancellationToken,
}

impl Driver {
    async fn run(
        mut self,
        outputs: Vec<AgentOutput>,
        mut happened: mpsc::Receiver<AgentInput>,
        mut site: watch::Receiver<Arc<Site>>,
    ) {
        let stop = self.life.stopping();
        self.carry_out(outputs).await;
        loop {
            let input = tokio::select! {
                () = stop.cancelled() => break,
                Some(input) = happened.recv() => Some(input),
                Ok(()) = site.changed() => {
                    Some(AgentInput::SiteChanged(Arc::clone(&site.borrow_and_update())))
                }
                come = at(self.timer) => come.then(|| {
                    self.timer = None;
                    AgentInput::Timer
                }),
            };
            let moment = follow();
            let outputs = match input {
                // Whatever happened was news to the old machine; the new one starts with it.
                _ if moment.leaps != self.leaps => {
                    self.keeper.date_answers_anew().await;
                    let (outputs, from_now_on) = self.begin_anew(moment);
                    happened = from_now_on;
                    outputs
                }
                Some(input) => self.machine.on(moment.at, &mut SystemEntropy, input),
                None => continue,
            };
            self.carry_out(outputs).await;
            self.tell();
        }
        if let Some(connection) = self.connection {
            connection.close.cancel();
        }
    }

    /// Starts the machine from what is durable, as a new process would, because the clock has leapt
    /// and none of the old one's moments means anything any more. Between two turns all that it
    /// asked for is done, so its record is durable. Connections and commands that end later tell
    /// that to nobody: the numbers of connections begin anew as well.
    fn begin_anew(&mut self, now: Moment) -> (Vec<AgentOutput>, mpsc::Receiver<AgentInput>) {
        tracing::info!("the clock was set; the link is made anew");
        if let Some(connection) = self.connection.take() {
            connection.close.cancel();
        }
        let (happenings, happened) = mpsc::channel(HAPPENINGS);
        let (record, credential) = (self.machine.record(), self.machine.credential());
        let (record, credential) = (record.clone(), credential.clone());
        let site = self.keeper.site();
        let (machine, outputs) = Agent::start(now.at, record, credential, instance(), site);
        self.machine = machine;
        self.happenings = happenings;
        self.timer = None;
        self.leaps = now.leaps;
        (outputs, happened)
    }

    /// Tells those who watch, if there is something new.
    fn tell(&self) {
        let present = LinkState {
            online: self.machine.is_online(),
            acknowledged: self.machine.acknowledged(),
            networks: self.machine.record().networks,
        };
        self.state
            .send_if_modified(|told| std::mem::replace(told, present) != present);
    }

    /// Carries out outputs, and those that follow from them.
    async fn carry_out(&mut self, outputs: Vec<AgentOutput>) {
        let mut waiting = VecDeque::from(outputs);
        while let Some(output) = waiting.pop_front() {
            let input = match output {
                AgentOutput::Persist { ticket, record } => {
                    if let Err(error) = self.store.commit(vec![record_write(&record)]).await {
                        fatal("the agent's record could not be made durable", &error);
                    }
                    Some(AgentInput::Persisted(ticket))
                }
                AgentOutput::ApplyNetworks(networks) => Some(self.apply(networks).await),
                AgentOutput::Connect { connection, .. } if SystemTime::now() > self.expires => {
                    Some(AgentInput::CertificateExpired(connection))
                }
                AgentOutput::Send {
                    message: AgentMessage::Report(report),
                    ..
                } if !report_fits(&report) => {
                    log_too_large(&report);
                    Some(AgentInput::ReportTooLarge(report.digest))
                }
                AgentOutput::MakeKey => Some(AgentInput::KeyMade(self.renewer.make_key())),
                AgentOutput::KeepCertificate {
                    ticket,
                    credential,
                    certificate,
                } => {
                    let kept = self.keep_certificate(&credential, certificate).await;
                    Some(match kept {
                        true => AgentInput::Persisted(ticket),
                        false => AgentInput::CertificateUnusable(ticket),
                    })
                }
                other => {
                    self.act(other);
                    None
                }
            };
            if let Some(input) = input {
                waiting.extend(self.machine.on(now(), &mut SystemEntropy, input));
            }
        }
    }

    /// Makes a renewed certificate durable and uses it from now on; whether it could be used.
    async fn keep_certificate(&mut self, credential: &Credential, certificate: Vec<u8>) -> bool {
        let owner = self.machine.record().owner;
        let Renewed {
            tls,
            expires,
            writes,
        } = match self.renewer.renewed(credential, certificate, owner) {
            Ok(renewed) => renewed,
            Err(problem) => {
                tracing::error!(problem, "the controller's certificate cannot be used");
                return false;
            }
        };
        if let Err(error) = self.store.commit(writes).await {
            fatal("the renewed certificate could not be made durable", &error);
        }
        self.tls = tls;
        self.expires = expires;
        tracing::info!(renewals = credential.renewals, "the certificate is renewed");
        true
    }

    /// What needs no waiting.
    fn act(&mut self, output: AgentOutput) {
        match output {
            AgentOutput::Connect {
                connection,
                controller,
                identity,
                authority,
                from,
            } => {
                let tls = self.tls.towards(identity, authority);
                self.connect(connection, controller, tls, from);
            }
            AgentOutput::Send {
                connection,
                message,
            } => self.send(connection, message),
            AgentOutput::Close(id) => {
                if let Some(connection) = self.connection.take_if(|known| known.id == id) {
                    connection.close.cancel();
                }
            }
            AgentOutput::SetTimer { at } => self.timer = Some(at),
            AgentOutput::Execute {
                connection,
                command,
            } => self.execute(connection, command),
            AgentOutput::StaleCommand {
                given,
                obeyed,
                total,
            } => {
                let (given, obeyed) = (given.0, obeyed.0);
                tracing::warn!(
                    given,
                    obeyed,
                    total,
                    "a command of an older term is refused"
                );
            }
            AgentOutput::Status(status) => self.log_status(status),
            AgentOutput::ReportRefused { generation, faults } => {
                let reasons = refusal::text(&faults);
                tracing::error!(generation = generation.0, "the controller {reasons}");
            }
            AgentOutput::Persist { .. }
            | AgentOutput::ApplyNetworks(_)
            | AgentOutput::MakeKey
            | AgentOutput::KeepCertificate { .. } => {
                unreachable!("carried out where it can wait")
            }
        }
    }

    fn log_status(&self, status: LinkStatus) {
        match status {
            LinkStatus::NoAddress => {
                tracing::error!("the site has no link address; there is no link");
            }
            LinkStatus::Connecting { controller } => tracing::debug!(%controller, "connecting"),
            LinkStatus::Online { controller } => tracing::info!(%controller, "online"),
            LinkStatus::Waiting { until, cause } => {
                let milliseconds = until.0.saturating_sub(now().0);
                tracing::warn!(
                    ?cause,
                    milliseconds,
                    "no link; the next attempt comes later"
                );
                self.tell_way_back(cause);
            }
        }
    }

    /// What an operator must do when trying again cannot help.
    fn tell_way_back(&self, cause: Cause) {
        let what = match cause {
            Cause::CertificateExpired => "CERTIFICATE_EXPIRED: this site's certificate has expired",
            Cause::Goodbye(GoodbyeReason::Revoked) => {
                "CERTIFICATE_REVOKED: the controller has revoked this site's certificate: the \
                 subcloud was deleted there, or another site enrolled in its place, or its \
                 controller was restored from an older backup"
            }
            _ => return,
        };
        let site = self.keeper.site();
        let name = &site.identity().name;
        tracing::error!(
            "{what}. The way back: an operator of the controller runs `tandem dcmanager subcloud \
             token {name} --reenroll` (`subcloud add {name}` if it was deleted); then stop this \
             agent, run `subcloud-agent enroll --token TOKEN` on its state directory, and start \
             it again"
        );
    }

    fn connect(
        &mut self,
        id: ConnectionId,
        controller: Endpoint,
        tls: Result<Arc<ClientConfig>, TlsConfigError>,
        from: IpAddr,
    ) {
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        let close = CancellationToken::new();
        self.connection = Some(Connection {
            id,
            outgoing,
            close: close.clone(),
        });
        let from = if self.leave.fixed {
            self.leave.from
        } else {
            Some(from)
        };
        let (happenings, network) = (self.happenings.clone(), self.life.network().clone());
        self.life.spawn(async move {
            let talk = async {
                let channel = match tls {
                    Ok(tls) => network.connect(controller.0, from, tls).await,
                    Err(error) => return tracing::error!(%error, "cannot configure TLS"),
                };
                match channel {
                    Ok(channel) => talk(id, channel, messages, &happenings).await,
                    Err(error) => tracing::warn!(%error, "no link"),
                }
            };
            tokio::select! {
                () = close.cancelled() => {}
                () = talk => {}
            }
            if happenings.send(AgentInput::Disconnected(id)).await.is_err() {
                tracing::debug!("the agent stops, or has begun anew");
            }
        });
    }

    /// Lets the site work on a command, and says what came of it.
    fn execute(&self, connection: ConnectionId, command: Command) {
        let (site, happenings) = (self.site.clone(), self.happenings.clone());
        self.life.spawn(async move {
            let id = command.id;
            let done = AgentInput::CommandDone {
                connection,
                id,
                outcome: execute(&site, command).await,
            };
            if happenings.send(done).await.is_err() {
                tracing::debug!("the agent stops, or has begun anew");
            }
        });
    }

    /// Queues a message. A controller that does not take it is as good as gone.
    fn send(&mut self, id: ConnectionId, message: AgentMessage) {
        let Some(connection) = self.connection.as_ref().filter(|known| known.id == id) else {
            return;
        };
        // What waits, behind the pieces of something long, tells as much as a heartbeat.
        let waits = connection.outgoing.capacity() < connection.outgoing.max_capacity();
        if waits && matches!(message, AgentMessage::Heartbeat) {
            return;
        }
        if connection.outgoing.try_send(message).is_err() {
            connection.close.cancel();
        }
    }

    /// Keeps the controller's networks as networks of the site.
    async fn apply(&self, told: ControllerNetworks) -> AgentInput {
        let networks = told.digest();
        let kept = |pools: &[fleet::ControllerPool]| {
            pools.first().map(|primary| ControllerNetwork {
                subnet: primary.subnet,
                network: random_uuid(),
                attachment: AttachmentId(random_uuid()),
                pool: PoolId(random_uuid()),
            })
        };
        let Some(link) = kept(&told.link) else {
            unreachable!("the machine hands over none without a link network");
        };
        let change = Change::SetControllerNetworks {
            link,
            oam: kept(&told.oam),
        };
        match self.keeper.change_own(change).await {
            Ok(made) => AgentInput::NetworksApplied { networks, made },
            Err(rejection) => {
                tracing::error!(%rejection, "the controller's networks do not fit this site");
                let faults = Fault::all_of(&rejection);
                AgentInput::NetworksRefused { networks, faults }
            }
        }
    }
}

/// Says what a site can do that is too large to be reported.
fn log_too_large(report: &Report) {
    tracing::error!(
        generation = report.site.generation.0,
        "REPORT_TOO_LARGE: the state of this site exceeds {MAX_REPORT_BYTES} bytes, which is the \
         most that a controller takes, and is not reported; the controller goes on with the state \
         that it knows. Release addresses or clear alarms that are not needed any more"
    );
}

/// Moves messages both ways until either side ends the stream.
async fn talk(
    id: ConnectionId,
    channel: Channel,
    messages: mpsc::Receiver<AgentMessage>,
    happenings: &mpsc::Sender<AgentInput>,
) {
    let outgoing = ReceiverStream::new(messages)
        .flat_map(|message| futures_util::stream::iter(agent_message_to_wire(&message)));
    let mut client = LinkServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut incoming = match client.exchange(outgoing).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return tracing::warn!(%status, "the controller does not take the link"),
    };
    if happenings.send(AgentInput::Connected(id)).await.is_err() {
        return;
    }
    let (mut messages, mut pieces) = (ControllerMessages::default(), Pieces::default());
    loop {
        let happening = match incoming.message().await {
            Ok(Some(piece)) => match messages.take(piece) {
                Ok(Some(message)) => {
                    pieces.whole();
                    AgentInput::Message(id, message)
                }
                Ok(None) if pieces.piece() => AgentInput::Heard(id),
                Ok(None) => continue,
                Err(fault) => return tracing::warn!(%fault, "a message cannot be read"),
            },
            Ok(None) => return,
            Err(status) => return tracing::warn!(%status, "the link broke"),
        };
        if happenings.send(happening).await.is_err() {
            return;
        }
    }
}

/// Calls the site. A change is seen through whatever its deadline, so that the answer tells what
/// is; a question that comes to no end in time is given up.
async fn execute(site: &OwnSite, command: Command) -> CommandOutcome {
    let Command {
        id: _,
        epoch: _,
        method,
        request,
        within,
        actor,
    } = command;
    let answer = site.call(Caller::Controller { actor }, method, request.to_vec());
    let answer = if method.changes() {
        Ok(answer.await)
    } else {
        tokio::time::timeout(within, answer).await
    };
    match answer {
        Ok(Ok(answer)) => CommandOutcome::Done(answer),
        Ok(Err(status)) => CommandOutcome::Failed(api::status::to_failure(&status)),
        Err(_) => CommandOutcome::Refused(Rejection::one(Violation::new(
            Reason::CommandDeadline,
            format!("the site did not answer {} in time", method.path()),
            "ask again with more time, or see whether the agent is well",
        ))),
    }
}

/// Names a machine that starts. One whose numbers of connections begin anew needs another name:
/// under the old one, controllers would take it for a copy.
fn instance() -> InstanceId {
    InstanceId(SystemEntropy.next_u64())
}

/// Waits for a moment, for ever when there is none; whether it has come, or only the time to look
/// at the clock.
async fn at(moment: Option<Timestamp>) -> bool {
    match moment {
        Some(moment) => {
            let left = Duration::from_millis(moment.0.saturating_sub(now().0));
            tokio::time::sleep(left.min(LOOK)).await;
            left <= LOOK
        }
        None => std::future::pending().await,
    }
}
