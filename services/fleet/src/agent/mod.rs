//! The agent's side of the link: a machine that keeps one link to the owner of its site, reports
//! the site's state, and obeys nobody of an older term.

mod command;
mod hunt;
mod link;
mod networks;
mod renewal;
mod report;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use site::{Digest, Generation, Site, Timestamp};

use crate::{
    AgentMessage, Alternates, Backoff, CertificateRequest, Command, CommandId, CommandOutcome,
    ConnectionId, ControllerId, ControllerMessage, ControllerNetworks, Endpoint, Entropy, Epoch,
    Fault, Fingerprint, GoodbyeReason, InstanceId, NetworksDigest, SubcloudId, Ticket,
};

use command::Commands;

use hunt::Hunt;
use link::Link;
pub use link::{CONNECT_TIMEOUT, STABLE_AFTER, WELCOME_TIMEOUT};
pub use renewal::Credential;
use renewal::Renewal;
pub use report::REFUSED_RETRY;
use report::Reporting;

/// What an agent keeps durably besides its site, its key and its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its identity.
    pub subcloud: SubcloudId,
    /// Whom it obeys.
    pub owner: ControllerId,
    /// In which term. It only grows.
    pub epoch: Epoch,
    /// Where to find the owner; never empty.
    pub controllers: Vec<Endpoint>,
    /// The key of the owner's authority; `None` means the one that signed the agent's first
    /// certificate.
    pub authority: Option<Fingerprint>,
    /// Where to turn when the owner is lost.
    pub alternates: Alternates,
    /// The controller's networks that the site has.
    pub networks: Option<NetworksDigest>,
}

/// Something that happened to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentInput {
    /// The site changed, durably.
    SiteChanged(Arc<Site>),
    /// The controller's networks are part of the site, durably. If that changed the site,
    /// [`AgentInput::SiteChanged`] follows.
    NetworksApplied {
        /// Which.
        networks: NetworksDigest,
        /// The generation that the change made; `None` when the site had them already.
        made: Option<Generation>,
    },
    /// The controller's networks do not fit the site; nothing has changed.
    NetworksRefused {
        /// Which.
        networks: NetworksDigest,
        /// Every rule that they break.
        faults: Vec<Fault>,
    },
    /// A connection is up.
    Connected(ConnectionId),
    /// A connection did not come up, or ended.
    Disconnected(ConnectionId),
    /// The certificate has expired, so no connection was tried.
    CertificateExpired(ConnectionId),
    /// The controller said something.
    Message(ConnectionId, ControllerMessage),
    /// A piece of what the controller says came, and there is more to come: said at most once in
    /// [`HEARD_EVERY`](crate::HEARD_EVERY).
    Heard(ConnectionId),
    /// The report with this digest is larger than a controller takes, and was not sent: said in the
    /// place of sending it.
    ReportTooLarge(Digest),
    /// The moment of the last [`AgentOutput::SetTimer`] has come.
    Timer,
    /// A record is durable, and with it all before it.
    Persisted(Ticket),
    /// The site has answered a command; what the answer speaks of is durable.
    CommandDone {
        /// The connection that brought it.
        connection: ConnectionId,
        /// Which command.
        id: CommandId,
        /// What the site answered.
        outcome: CommandOutcome,
    },
    /// A key was made.
    KeyMade(CertificateRequest),
    /// The certificate that was to be kept is not for the key, or cannot be read; nothing was
    /// written.
    CertificateUnusable(Ticket),
}

/// Something for the agent's driver to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentOutput {
    /// Open a stream and say [`AgentInput::Connected`] or [`AgentInput::Disconnected`].
    Connect {
        /// What to call it.
        connection: ConnectionId,
        /// Where to.
        controller: Endpoint,
        /// Which controller must answer: the trust domain of its certificate.
        identity: ControllerId,
        /// The key of the authority that must have signed its certificate; `None` means the one
        /// that signed the agent's first certificate.
        authority: Option<Fingerprint>,
        /// Which address to leave from.
        from: IpAddr,
    },
    /// Send a message; nothing, if the connection is gone.
    Send {
        /// Over which connection.
        connection: ConnectionId,
        /// What to say.
        message: AgentMessage,
    },
    /// End a connection, or the attempt to make it.
    Close(ConnectionId),
    /// Make the record durable and say [`AgentInput::Persisted`]. If that fails, end the process.
    Persist {
        /// What to call this write.
        ticket: Ticket,
        /// What to write.
        record: AgentRecord,
    },
    /// Make a key, keep it in memory, and say [`AgentInput::KeyMade`].
    MakeKey,
    /// Make the key that was made last and this certificate durable in one step, in the place of
    /// the old ones, use them from the next connection on, and say [`AgentInput::Persisted`]. If
    /// the two do not fit, say [`AgentInput::CertificateUnusable`]; if the disk fails, end the
    /// process.
    KeepCertificate {
        /// What to call this write.
        ticket: Ticket,
        /// What to write beside the certificate.
        credential: Credential,
        /// The certificate (DER).
        certificate: Vec<u8>,
    },
    /// Plan and apply these as the site's system-controller networks; once that is durable, say
    /// [`AgentInput::NetworksApplied`], or why not with [`AgentInput::NetworksRefused`].
    ApplyNetworks(ControllerNetworks),
    /// Say [`AgentInput::Timer`] at this moment; it replaces the moment set before.
    SetTimer {
        /// When.
        at: Timestamp,
    },
    /// The state of the link changed: log it and show it.
    Status(LinkStatus),
    /// Call the site's own service, and say [`AgentInput::CommandDone`].
    Execute {
        /// The connection that brought it.
        connection: ConnectionId,
        /// What to call.
        command: Command,
    },
    /// A command of an older term was refused: log it.
    StaleCommand {
        /// The term in which it was given.
        given: Epoch,
        /// The term that the site obeys.
        obeyed: Epoch,
        /// How many there were so far.
        total: u64,
    },
    /// The controller refused the site's state: log it and show it.
    ReportRefused {
        /// The generation that was refused.
        generation: Generation,
        /// Every rule that it breaks.
        faults: Vec<Fault>,
    },
}

/// The state of an agent's link, for logs and operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkStatus {
    /// The site has no link address to leave from.
    NoAddress,
    /// Trying.
    Connecting {
        /// Whom.
        controller: Endpoint,
    },
    /// Welcomed.
    Online {
        /// By whom.
        controller: Endpoint,
    },
    /// Not connected; the next attempt comes later.
    Waiting {
        /// When.
        until: Timestamp,
        /// Why.
        cause: Cause,
    },
}

/// Why a link is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The connection did not come up, or ended without a word.
    ConnectionLost,
    /// It did not come up in time.
    ConnectTimeout,
    /// No welcome came in time.
    WelcomeTimeout,
    /// Nothing was heard for three heartbeats.
    Silence,
    /// The controller said goodbye.
    Goodbye(GoodbyeReason),
    /// The controller is not, or no longer, the owner of this site.
    NotOwner,
    /// The controller said something out of bounds.
    ProtocolViolation,
    /// The site's certificate has expired: only an operator's word brings it back.
    CertificateExpired,
}

/// The machine.
#[derive(Debug)]
pub struct Agent {
    record: AgentRecord,
    credential: Credential,
    instance: InstanceId,
    site: Arc<Site>,
    /// Worked out when it is first asked for: that takes longer than most changes.
    digest: OnceLock<Digest>,
    link: Link,
    renewal: Renewal,
    reporting: Reporting,
    commands: Commands,
    backoff: Backoff,
    hunt: Hunt,
    last_connection: u64,
    last_ticket: u64,
    armed: Option<Timestamp>,
}

impl Agent {
    /// Starts from what is durable, and connects at once. `instance` is drawn for every start: this
    /// machine counts its connections from 1.
    pub fn start(
        now: Timestamp,
        record: AgentRecord,
        credential: Credential,
        instance: InstanceId,
        site: Arc<Site>,
    ) -> (Self, Vec<AgentOutput>) {
        let mut machine = Self {
            record,
            credential,
            instance,
            site,
            digest: OnceLock::new(),
            link: Link::NoAddress,
            renewal: Renewal::default(),
            reporting: Reporting::default(),
            commands: Commands::default(),
            backoff: Backoff::default(),
            hunt: Hunt::new(now),
            last_connection: 0,
            last_ticket: 0,
            armed: None,
        };
        let mut out = Vec::new();
        machine.connect(now, &mut out);
        machine.arm(&mut out);
        (machine, out)
    }

    /// One step. The outputs are to be carried out in their order.
    pub fn on(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        input: AgentInput,
    ) -> Vec<AgentOutput> {
        let mut out = Vec::new();
        match input {
            AgentInput::SiteChanged(site) => {
                self.networks_lost(&site, &mut out);
                self.site = site;
                self.digest = OnceLock::new();
                if matches!(self.link, Link::NoAddress) {
                    self.connect(now, &mut out);
                }
                self.report(now, &mut out);
            }
            AgentInput::NetworksApplied { networks, made } => {
                self.networks_applied(now, entropy, networks, made, &mut out);
            }
            AgentInput::NetworksRefused { networks, faults } => {
                self.answer_networks(networks, faults, &mut out);
            }
            AgentInput::Connected(connection) => self.connected(now, connection, &mut out),
            AgentInput::Disconnected(connection) => {
                if self.link.connection() == Some(connection) {
                    self.wait(now, entropy, Cause::ConnectionLost, &mut out);
                }
            }
            AgentInput::CertificateExpired(connection) => {
                if self.link.connection() == Some(connection) {
                    self.wait(now, entropy, Cause::CertificateExpired, &mut out);
                }
            }
            AgentInput::Message(connection, message) => {
                if self.link.connection() == Some(connection) {
                    self.message(now, entropy, connection, message, &mut out);
                }
            }
            AgentInput::Heard(connection) => {
                if self.link.connection() == Some(connection) {
                    self.heard(now);
                }
            }
            AgentInput::ReportTooLarge(digest) => self.report_too_large(now, digest),
            AgentInput::Timer => {
                self.armed = None;
                self.timer(now, entropy, &mut out);
            }
            AgentInput::Persisted(ticket) => {
                self.persisted(now, entropy, ticket, &mut out);
                self.certificate_kept(now, ticket, &mut out);
            }
            AgentInput::KeyMade(request) => self.key_made(now, request, &mut out),
            AgentInput::CertificateUnusable(ticket) => self.certificate_unusable(now, ticket),
            AgentInput::CommandDone {
                connection,
                id,
                outcome,
            } => self.command_done(connection, id, outcome, &mut out),
        }
        self.arm(&mut out);
        out
    }

    /// The record as it shall be; it may not be durable yet.
    pub fn record(&self) -> &AgentRecord {
        &self.record
    }

    /// The identity that connections are made with; it is durable.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Whether the controller has acknowledged the site's present state over the present link.
    pub fn in_sync(&self) -> bool {
        let acknowledged = self.reporting.acknowledged;
        self.link.is_live()
            && !self.is_held()
            && acknowledged.is_some_and(|known| known == self.digest())
    }

    /// Whether the controller has welcomed the agent over the present connection.
    pub fn is_online(&self) -> bool {
        self.link.is_live()
    }

    /// The generation of the present state, once the controller has acknowledged it over the
    /// present link.
    pub fn acknowledged(&self) -> Option<Generation> {
        self.in_sync().then(|| self.site.generation())
    }

    /// Names the present state of the site.
    fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| self.site.digest())
    }

    /// Asks for the record to be made durable.
    fn persist(&mut self, out: &mut Vec<AgentOutput>) -> Ticket {
        let ticket = self.next_ticket();
        out.push(AgentOutput::Persist {
            ticket,
            record: self.record.clone(),
        });
        ticket
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn arm(&mut self, out: &mut Vec<AgentOutput>) {
        let Some(at) = self.deadline() else {
            return;
        };
        if self.armed != Some(at) {
            self.armed = Some(at);
            out.push(AgentOutput::SetTimer { at });
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let retry = self
            .link
            .is_live()
            .then(|| self.reporting.due_at())
            .flatten();
        let renewal = self.link.is_live().then(|| self.renewal_due()).flatten();
        let makes_way = self.link.role().and_then(|role| {
            let due = self.hunt.makes_way_at(role, &self.record.alternates)?;
            (!self.link.is_live()).then_some(due)
        });
        self.link
            .deadline()
            .map(|due| makes_way.map_or(due, |sooner| due.min(sooner)))
            .into_iter()
            .chain(retry)
            .chain(renewal)
            .min()
    }
}

/// The shortest and the longest heartbeat interval that an agent takes: below, a controller's
/// slip would make every agent hammer it; above, nobody would notice a dead link.
pub(crate) const HEARTBEAT_BOUNDS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_secs(600);
