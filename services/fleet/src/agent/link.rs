//! Coming up, staying up, and waiting.

use std::time::Duration;

use site::Timestamp;

use crate::backoff::late;
use crate::entropy::{after, since};
use crate::{
    AgentMessage, Alternates, Command, ConnectionId, ControllerMessage, ControllerNetworks,
    Entropy, Epoch, FAILOVER_BOUNDS, Goodbye, GoodbyeReason, Hello, LONG_BACKOFF, LONGEST_BACKOFF,
    MAX_ALTERNATES, MISSED_HEARTBEATS, Ticket, Welcome,
};

use super::hunt::{Role, Target};
use super::{Agent, AgentOutput, Cause, HEARTBEAT_BOUNDS, LinkStatus};

/// How long a connection may take to come up, handshake included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the controller may take to welcome. A welcome can wait for the controller's disk.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// A link that lasted this long proves that its controller is well: failures are forgotten.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Where the link is on its way.
#[derive(Debug)]
pub(super) enum Link {
    /// The site has no address to leave from.
    NoAddress,
    /// The next attempt comes at this moment.
    Waiting(Timestamp),
    /// The transport is being set up.
    Connecting {
        connection: ConnectionId,
        target: Target,
        until: Timestamp,
    },
    /// Hello is said.
    Greeting {
        connection: ConnectionId,
        target: Target,
        until: Timestamp,
    },
    /// A new owner or term is being written down before anything is answered.
    Adopting {
        connection: ConnectionId,
        target: Target,
        ticket: Ticket,
        welcome: Welcome,
        networks: Option<ControllerNetworks>,
        commands: Vec<Command>,
    },
    /// The connection went while a new owner was being written down: nothing is said to anybody
    /// before that is durable.
    Settling { ticket: Ticket, cause: Cause },
    /// Welcomed.
    Live {
        connection: ConnectionId,
        target: Target,
        since: Timestamp,
        interval: Duration,
        heard: Timestamp,
        beat_at: Timestamp,
    },
}

impl Link {
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::NoAddress | Self::Waiting(_) | Self::Settling { .. } => None,
            Self::Connecting { connection, .. }
            | Self::Greeting { connection, .. }
            | Self::Adopting { connection, .. }
            | Self::Live { connection, .. } => Some(*connection),
        }
    }

    fn target(&self) -> Option<Target> {
        match self {
            Self::NoAddress | Self::Waiting(_) | Self::Settling { .. } => None,
            Self::Connecting { target, .. }
            | Self::Greeting { target, .. }
            | Self::Adopting { target, .. }
            | Self::Live { target, .. } => Some(*target),
        }
    }

    /// Why the controller at the other end was turned to.
    pub(super) fn role(&self) -> Option<Role> {
        self.target().map(|target| target.role)
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }

    /// Whether the controller has welcomed the agent, be its term durable already or not.
    pub(super) fn is_welcomed(&self) -> bool {
        matches!(self, Self::Adopting { .. } | Self::Live { .. })
    }

    /// When something is due without any input.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self {
            // The write of a record needs no time limit: it ends, or the process does.
            Self::NoAddress | Self::Adopting { .. } | Self::Settling { .. } => None,
            Self::Waiting(until)
            | Self::Connecting { until, .. }
            | Self::Greeting { until, .. } => Some(*until),
            Self::Live {
                interval,
                heard,
                beat_at,
                ..
            } => Some((*beat_at).min(lost_at(*heard, *interval))),
        }
    }
}

impl Agent {
    /// Tries the owner, or whom the hunt for a lost one names.
    pub(super) fn connect(&mut self, now: Timestamp, out: &mut Vec<AgentOutput>) {
        let (Some(from), Some(target)) = (
            self.site.link_address(),
            self.hunt.target(now, &self.record),
        ) else {
            self.link = Link::NoAddress;
            out.push(AgentOutput::Status(LinkStatus::NoAddress));
            return;
        };
        self.renewal.connecting();
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        self.link = Link::Connecting {
            connection,
            target,
            until: after(now, CONNECT_TIMEOUT),
        };
        let Target {
            endpoint: controller,
            controller: identity,
            authority,
            role: _,
        } = target;
        out.push(AgentOutput::Status(LinkStatus::Connecting { controller }));
        out.push(AgentOutput::Connect {
            connection,
            controller,
            identity,
            authority,
            from,
        });
    }

    pub(super) fn connected(
        &mut self,
        now: Timestamp,
        connected: ConnectionId,
        out: &mut Vec<AgentOutput>,
    ) {
        let Link::Connecting {
            connection, target, ..
        } = self.link
        else {
            return;
        };
        if connection != connected {
            return;
        }
        self.link = Link::Greeting {
            connection,
            target,
            until: after(now, WELCOME_TIMEOUT),
        };
        self.reporting.begin(self.digest());
        let lost = self.hunt.owner_lost(now, &self.record.alternates);
        let owner_lost = lost.filter(|_| target.role != Role::Owner);
        out.push(AgentOutput::Send {
            connection,
            message: AgentMessage::Hello(Hello {
                software_version: self.site.identity().software_version,
                features: std::collections::BTreeSet::new(),
                owner: self.record.owner,
                epoch: self.record.epoch,
                owner_lost,
                generation: self.site.generation(),
                digest: self.digest(),
                networks: self.record.networks,
                renewals: self.credential.renewals,
                instance: self.instance,
                connection: connection.0,
            }),
        });
    }

    /// The controller said something, or a part of it: it is there.
    pub(super) fn heard(&mut self, now: Timestamp) {
        if let Link::Live { heard, .. } = &mut self.link {
            *heard = now;
            self.hunt.heard(now);
        }
    }

    pub(super) fn message(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        from: ConnectionId,
        message: ControllerMessage,
        out: &mut Vec<AgentOutput>,
    ) {
        self.heard(now);
        match message {
            ControllerMessage::Welcome(welcome) => {
                self.welcomed(now, entropy, from, welcome, out);
            }
            ControllerMessage::ReportAccepted { digest, .. } => {
                self.report_accepted(now, digest, out);
            }
            ControllerMessage::ReportRefused {
                generation,
                digest,
                faults,
            } => self.report_refused(now, generation, digest, faults, out),
            ControllerMessage::Networks {
                epoch,
                networks,
                report_within,
            } => self.networks_told(now, entropy, epoch, (networks, report_within), out),
            ControllerMessage::Alternates { epoch, alternates } => {
                self.alternates_told(now, entropy, epoch, alternates, out);
            }
            ControllerMessage::ReportWanted => self.report_wanted(now, out),
            ControllerMessage::Heartbeat => {}
            ControllerMessage::Command(command) => self.command(from, command, out),
            ControllerMessage::Certificate(granted) => {
                self.certificate_granted(now, from, granted, out);
            }
            ControllerMessage::Goodbye(goodbye) => self.dismissed(now, entropy, goodbye, out),
        }
    }

    pub(super) fn timer(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        out: &mut Vec<AgentOutput>,
    ) {
        let role = self.link.role().filter(|_| !self.link.is_live());
        let makes_way = role.and_then(|role| self.hunt.makes_way_at(role, &self.record.alternates));
        let overdue = makes_way.is_some_and(|due| due <= now);
        match &mut self.link {
            Link::NoAddress | Link::Adopting { .. } | Link::Settling { .. } => {}
            Link::Waiting(until) if *until <= now => self.connect(now, out),
            Link::Connecting { until, .. } if *until <= now || overdue => {
                self.give_up(now, entropy, Cause::ConnectTimeout, out);
            }
            Link::Greeting { until, .. } if *until <= now || overdue => {
                self.give_up(now, entropy, Cause::WelcomeTimeout, out);
            }
            Link::Live {
                heard, interval, ..
            } if lost_at(*heard, *interval) <= now => {
                self.give_up(now, entropy, Cause::Silence, out);
            }
            Link::Live {
                connection,
                interval,
                beat_at,
                ..
            } => {
                if *beat_at <= now {
                    *beat_at = after(now, *interval);
                    out.push(AgentOutput::Send {
                        connection: *connection,
                        message: AgentMessage::Heartbeat,
                    });
                }
                self.report(now, out);
                self.renew(now, out);
            }
            Link::Waiting(_) | Link::Connecting { .. } | Link::Greeting { .. } => {}
        }
    }

    pub(super) fn persisted(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        durable: Ticket,
        out: &mut Vec<AgentOutput>,
    ) {
        match std::mem::replace(&mut self.link, Link::NoAddress) {
            Link::Adopting {
                connection,
                target,
                ticket,
                welcome,
                networks,
                commands,
            } if ticket <= durable => {
                self.go_live(now, connection, target, &welcome, out);
                out.extend(networks.map(AgentOutput::ApplyNetworks));
                for command in commands {
                    self.take_up(connection, command, out);
                }
            }
            Link::Settling { ticket, cause } if ticket <= durable => {
                self.wait(now, entropy, cause, out);
            }
            other => self.link = other,
        }
    }

    /// The connection is gone; the next attempt comes after a while.
    pub(super) fn wait(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        cause: Cause,
        out: &mut Vec<AgentOutput>,
    ) {
        if let Link::Adopting { ticket, .. } = self.link {
            self.link = Link::Settling { ticket, cause };
            return;
        }
        if let Link::Live { since: up, .. } = self.link
            && since(now, up) >= STABLE_AFTER
        {
            self.backoff.reset();
        }
        let role = self.link.role();
        if let Some(role) = role {
            self.hunt.failed(role, &self.record.alternates);
        }
        let usual = self.backoff.fail(entropy);
        let wait = match cause {
            // Only the owner's word about the certificate counts: another controller may not
            // have heard of the subcloud yet.
            Cause::Goodbye(GoodbyeReason::Revoked) if role == Some(Role::Owner) => {
                late(entropy, LONG_BACKOFF)
            }
            Cause::CertificateExpired => late(entropy, LONG_BACKOFF),
            Cause::Goodbye(GoodbyeReason::IdentityCloned) => late(entropy, LONG_BACKOFF),
            // A link is superseded by a late one of this agent, which is nothing to wait for, or
            // by a copy of it, which shows the sooner the sooner both have spoken.
            Cause::Goodbye(GoodbyeReason::WrongFamily) => late(entropy, LONGEST_BACKOFF),
            _ => usual,
        };
        let alternates = &self.record.alternates;
        let until = self.hunt.next_attempt(now, entropy, wait, alternates);
        self.link = Link::Waiting(until);
        out.push(AgentOutput::Status(LinkStatus::Waiting { until, cause }));
    }

    pub(super) fn give_up(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        cause: Cause,
        out: &mut Vec<AgentOutput>,
    ) {
        out.extend(self.link.connection().map(AgentOutput::Close));
        self.wait(now, entropy, cause, out);
    }

    /// Takes a controller for what it says it is, within the rule of one owner: a lower term, or
    /// another owner in the same term, is not obeyed; a higher term is written down first.
    fn welcomed(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        connection: ConnectionId,
        welcome: Welcome,
        out: &mut Vec<AgentOutput>,
    ) {
        let Link::Greeting { target, .. } = self.link else {
            return;
        };
        let owner_differs = welcome.controller != self.record.owner;
        if welcome.epoch < self.record.epoch
            || (welcome.epoch == self.record.epoch && owner_differs)
        {
            self.give_up(now, entropy, Cause::NotOwner, out);
            return;
        }
        if !HEARTBEAT_BOUNDS.contains(&welcome.heartbeat_interval)
            || welcome.controllers.is_empty()
            || (target.role != Role::Owner && welcome.controller != target.controller)
            || !within_bounds(&welcome.alternates)
        {
            self.give_up(now, entropy, Cause::ProtocolViolation, out);
            return;
        }
        let adopts = welcome.epoch > self.record.epoch;
        let moved = welcome.controllers != self.record.controllers
            || welcome.alternates != self.record.alternates;
        self.record.owner = welcome.controller;
        self.record.epoch = welcome.epoch;
        self.record.controllers.clone_from(&welcome.controllers);
        self.record.authority = target.authority;
        self.record.alternates.clone_from(&welcome.alternates);
        if adopts {
            let ticket = self.persist(out);
            self.link = Link::Adopting {
                connection,
                target,
                ticket,
                welcome,
                networks: None,
                commands: Vec::new(),
            };
            return;
        }
        if moved {
            self.persist(out);
        }
        self.go_live(now, connection, target, &welcome, out);
    }

    fn go_live(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        target: Target,
        welcome: &Welcome,
        out: &mut Vec<AgentOutput>,
    ) {
        let interval = welcome.heartbeat_interval;
        let target = Target {
            role: Role::Owner,
            ..target
        };
        self.hunt.heard(now);
        self.link = Link::Live {
            connection,
            target,
            since: now,
            interval,
            heard: now,
            beat_at: after(now, interval),
        };
        let controller = target.endpoint;
        out.push(AgentOutput::Status(LinkStatus::Online { controller }));
        if welcome.answer_at_once {
            out.push(AgentOutput::Send {
                connection,
                message: AgentMessage::Heartbeat,
            });
        }
        self.reporting.welcomed(welcome.report_needed);
        self.report(now, out);
        self.renew(now, out);
    }

    fn dismissed(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        goodbye: Goodbye,
        out: &mut Vec<AgentOutput>,
    ) {
        let Goodbye {
            reason,
            controllers,
            owners,
        } = goodbye;
        // Only the owner, which has welcomed, may tell where to find it from now on.
        if self.link.is_live() && !controllers.is_empty() && controllers != self.record.controllers
        {
            self.record.controllers = controllers;
            self.persist(out);
        }
        let role = self.link.role();
        self.give_up(now, entropy, Cause::Goodbye(reason), out);
        if !matches!(reason, GoodbyeReason::NotOwner | GoodbyeReason::Moved) {
            return;
        }
        match role {
            Some(Role::Owner) => {
                self.hunt.redirected(self.record.owner, &owners);
                // Whom the owner names is turned to at once, not after a back-off.
                if let Link::Waiting(until) = &mut self.link {
                    let alternates = &self.record.alternates;
                    let usual = since(*until, now);
                    *until = self.hunt.next_attempt(now, entropy, usual, alternates);
                }
            }
            Some(Role::Alternate | Role::Redirect) => {
                self.hunt.hinted(&owners, &self.record.alternates);
            }
            None => {}
        }
    }

    fn alternates_told(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        epoch: Epoch,
        alternates: Alternates,
        out: &mut Vec<AgentOutput>,
    ) {
        if epoch < self.record.epoch || !self.link.is_welcomed() {
            return;
        }
        if !within_bounds(&alternates) {
            self.give_up(now, entropy, Cause::ProtocolViolation, out);
        } else if alternates != self.record.alternates {
            self.record.alternates = alternates;
            self.persist(out);
        }
    }
}

fn within_bounds(alternates: &Alternates) -> bool {
    let count = alternates.controllers.len();
    count == 0 || (count <= MAX_ALTERNATES && FAILOVER_BOUNDS.contains(&alternates.failover))
}

/// When a controller that was last heard then counts as lost.
fn lost_at(heard: Timestamp, interval: Duration) -> Timestamp {
    after(heard, interval * MISSED_HEARTBEATS)
}
