//! From a token to an identity: the agent's side of enrollment.
//!
//! The key is durable before it is sent, and the same key is sent again until an answer comes:
//! that makes a lost answer harmless, for the controller answers the same key twice and another
//! key never.

use std::time::Duration;

use site::Timestamp;

use crate::entropy::after;
use crate::{AgentRecord, Backoff, Code, Entropy, Fault, Fingerprint};

/// Something that happened during an enrollment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrollerInput {
    /// A key was made and is durable.
    KeyKept(Fingerprint),
    /// The controller could not be reached, or its answer was lost.
    Unreachable,
    /// The controller refused.
    Refused(Refusal),
    /// The controller accepted.
    Accepted(AgentRecord),
    /// Certificate and record are durable.
    Kept,
    /// The moment of the last [`EnrollerOutput::SetTimer`] has come.
    Timer,
}

/// Something for the driver of an enrollment to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrollerOutput {
    /// Make a key, make it durable, and say [`EnrollerInput::KeyKept`].
    MakeKey,
    /// Send token, certificate request and site report with this key.
    Request(Fingerprint),
    /// Make the certificate of the answer and this record durable in one step, and say
    /// [`EnrollerInput::Kept`].
    Keep(AgentRecord),
    /// Say [`EnrollerInput::Timer`] at this moment.
    SetTimer {
        /// When.
        at: Timestamp,
    },
    /// The enrollment is over.
    Finish(Exit),
}

/// How an enrollment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The site is a subcloud now.
    Enrolled(AgentRecord),
    /// It cannot become one until something changes.
    Refused(Refusal),
    /// It may become one later: the controller is away or full.
    TryLater(Option<Refusal>),
}

/// A refusal as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its class.
    pub code: Code,
    /// Every rule that was broken.
    pub faults: Vec<Fault>,
}

/// The machine.
#[derive(Debug)]
pub struct Enroller {
    key: Option<Fingerprint>,
    accepted: Option<AgentRecord>,
    backoff: Backoff,
    give_up_at: Timestamp,
    last: Option<Refusal>,
}

impl Enroller {
    /// Begins with the key of an earlier attempt, if there was one. Attempts end after
    /// `patience`.
    pub fn start(
        now: Timestamp,
        key: Option<Fingerprint>,
        patience: Duration,
    ) -> (Self, Vec<EnrollerOutput>) {
        let first = key.map_or(EnrollerOutput::MakeKey, EnrollerOutput::Request);
        let machine = Self {
            key,
            accepted: None,
            backoff: Backoff::default(),
            give_up_at: after(now, patience),
            last: None,
        };
        (machine, vec![first])
    }

    /// One step. The outputs are to be carried out in their order.
    pub fn on(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        input: EnrollerInput,
    ) -> Vec<EnrollerOutput> {
        match input {
            EnrollerInput::KeyKept(key) => {
                self.key = Some(key);
                vec![EnrollerOutput::Request(key)]
            }
            EnrollerInput::Unreachable => self.later(now, entropy),
            EnrollerInput::Refused(refusal) if refusal.passes() => {
                self.last = Some(refusal);
                self.later(now, entropy)
            }
            EnrollerInput::Refused(refusal) => {
                vec![EnrollerOutput::Finish(Exit::Refused(refusal))]
            }
            EnrollerInput::Accepted(record) => {
                self.accepted = Some(record.clone());
                vec![EnrollerOutput::Keep(record)]
            }
            EnrollerInput::Kept => self
                .accepted
                .take()
                .map(|record| EnrollerOutput::Finish(Exit::Enrolled(record)))
                .into_iter()
                .collect(),
            EnrollerInput::Timer => self.key.map(EnrollerOutput::Request).into_iter().collect(),
        }
    }

    fn later(&mut self, now: Timestamp, entropy: &mut dyn Entropy) -> Vec<EnrollerOutput> {
        let at = after(now, self.backoff.fail(entropy));
        if at >= self.give_up_at {
            return vec![EnrollerOutput::Finish(Exit::TryLater(self.last.take()))];
        }
        vec![EnrollerOutput::SetTimer { at }]
    }
}

impl Refusal {
    /// Whether it may pass by itself.
    pub fn passes(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::ResourceExhausted)
    }
}
