//! Renewing the certificate at half of its life, over the link, with a fresh key.
//!
//! The old key stays in use until the new one and its certificate are durable; the controller
//! takes either until it sees the new one. A crash or a lost answer at any step therefore leaves
//! an identity that is accepted: the old one, and then another key is asked for, or the new one.

use std::time::Duration;

use site::Timestamp;

use crate::entropy::after;
use crate::{
    AgentMessage, CertificateRequest, ConnectionId, Fingerprint, GrantedCertificate, SubcloudId,
    Ticket,
};

use super::link::Link;
use super::{Agent, AgentOutput};

/// How long until a certificate that did not come is asked for again, or another key is tried.
/// The answer waits for the controller's disk; sooner would only cost.
const RENEWAL_RETRY: Duration = Duration::from_secs(30);

/// Renewals of a fleet that enrolled at one moment spread over this part of the certificates'
/// life after its half.
const SPREAD: u32 = 10;

/// The key and certificate with which an agent connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The key.
    pub key: Fingerprint,
    /// How often it was renewed; 0 for the one of the enrollment.
    pub renewals: u64,
    /// When it came, by the agent's own clock.
    pub received_at: Timestamp,
    /// How long it was valid then; zero when that was not kept.
    pub validity: Duration,
}

/// How far a renewal is.
#[derive(Debug)]
pub(super) enum Renewal {
    /// None is under way; none begins before this moment.
    Resting(Timestamp),
    /// A key is being made.
    Making,
    /// A key is there, and has been asked for over this connection, where it is due again then.
    Asking {
        request: CertificateRequest,
        asked: Option<(ConnectionId, Timestamp)>,
    },
    /// Key and certificate are on their way to the disk.
    Keeping {
        ticket: Ticket,
        credential: Credential,
    },
    /// They are durable, but the link is busy with a new owner.
    Kept,
}

impl Default for Renewal {
    fn default() -> Self {
        Self::Resting(Timestamp::default())
    }
}

impl Renewal {
    /// A connection is made, with whatever is durable.
    pub(super) fn connecting(&mut self) {
        if matches!(self, Self::Kept) {
            *self = Self::default();
        }
    }
}

impl Credential {
    /// When it is to be renewed: at half of its life, and up to a tenth of it later.
    fn due(&self, subcloud: SubcloudId) -> Timestamp {
        // The id is random, and the same share of the spread each time is as good as another.
        let [share, ..] = subcloud.0.into_bytes();
        let spread = self.validity / SPREAD * u32::from(share) / 256;
        after(self.received_at, self.validity / 2 + spread)
    }
}

impl Agent {
    /// When a renewal has to go on without any input.
    pub(super) fn renewal_due(&self) -> Option<Timestamp> {
        match &self.renewal {
            Renewal::Resting(until) => Some(self.credential.due(self.record.subcloud).max(*until)),
            Renewal::Asking { asked, .. } => asked.map(|(_, again)| again),
            Renewal::Making | Renewal::Keeping { .. } | Renewal::Kept => None,
        }
    }

    /// Begins a renewal that is due, or asks again. Nothing without a live link.
    pub(super) fn renew(&mut self, now: Timestamp, out: &mut Vec<AgentOutput>) {
        let (true, Some(connection)) = (self.link.is_live(), self.link.connection()) else {
            return;
        };
        // A clock that was set back tells nothing about the certificate any more.
        let set_back = now < self.credential.received_at;
        let due = self.credential.due(self.record.subcloud);
        match &mut self.renewal {
            Renewal::Resting(until) => {
                if *until <= now && (due <= now || set_back) {
                    self.renewal = Renewal::Making;
                    out.push(AgentOutput::MakeKey);
                }
            }
            Renewal::Asking { request, asked } => {
                if asked.is_some_and(|(over, again)| over == connection && now < again) {
                    return;
                }
                *asked = Some((connection, after(now, RENEWAL_RETRY)));
                out.push(AgentOutput::Send {
                    connection,
                    message: AgentMessage::CertificateRequest(request.clone()),
                });
            }
            Renewal::Kept => self.reconnect(now, out),
            Renewal::Making | Renewal::Keeping { .. } => {}
        }
    }

    pub(super) fn key_made(
        &mut self,
        now: Timestamp,
        request: CertificateRequest,
        out: &mut Vec<AgentOutput>,
    ) {
        if matches!(self.renewal, Renewal::Making) {
            self.renewal = Renewal::Asking {
                request,
                asked: None,
            };
            self.renew(now, out);
        }
    }

    pub(super) fn certificate_granted(
        &mut self,
        now: Timestamp,
        from: ConnectionId,
        granted: GrantedCertificate,
        out: &mut Vec<AgentOutput>,
    ) {
        let Renewal::Asking { request, asked } = &self.renewal else {
            return;
        };
        if asked.is_none_or(|(over, _)| over != from) {
            return;
        }
        let credential = Credential {
            key: request.key,
            renewals: self.credential.renewals + 1,
            received_at: now,
            validity: granted.validity,
        };
        let ticket = self.next_ticket();
        out.push(AgentOutput::KeepCertificate {
            ticket,
            credential: credential.clone(),
            certificate: granted.certificate,
        });
        self.renewal = Renewal::Keeping { ticket, credential };
    }

    /// What the controller sent cannot be used; another key is tried later.
    pub(super) fn certificate_unusable(&mut self, now: Timestamp, refused: Ticket) {
        if matches!(&self.renewal, Renewal::Keeping { ticket, .. } if *ticket == refused) {
            self.renewal = Renewal::Resting(after(now, RENEWAL_RETRY));
        }
    }

    /// The new certificate is durable: whatever connection there is was made with the old one.
    pub(super) fn certificate_kept(
        &mut self,
        now: Timestamp,
        durable: Ticket,
        out: &mut Vec<AgentOutput>,
    ) {
        let Renewal::Keeping { ticket, credential } = &self.renewal else {
            return;
        };
        if *ticket > durable {
            return;
        }
        self.credential = credential.clone();
        self.renewal = Renewal::Kept;
        match self.link {
            // The old connection says nothing more before the owner is written down.
            Link::Adopting { .. } => {}
            // The next one is made with the new one.
            Link::NoAddress | Link::Waiting(_) | Link::Settling { .. } => {}
            Link::Connecting { .. } | Link::Greeting { .. } | Link::Live { .. } => {
                self.reconnect(now, out);
            }
        }
    }

    /// Leaves the connection of the old certificate and makes one with the new. No failure, so
    /// nothing to wait for, except for the answers that the controller awaits over the old one:
    /// the next heartbeat tries again.
    fn reconnect(&mut self, now: Timestamp, out: &mut Vec<AgentOutput>) {
        if self.link.is_live() && self.commands.busy(self.link.connection()) {
            return;
        }
        out.extend(self.link.connection().map(AgentOutput::Close));
        self.connect(now, out);
    }
}
