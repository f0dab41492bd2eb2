//! What the machine of rollouts is told, and what it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use site::{Change, Site, Timestamp};

use super::super::{Member, Order, Rollout, RolloutId, Step};
use crate::{Audited, Fault, Rejection, RequestId, SubcloudId, Ticket};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum RolloutInput {
    /// `network-rollout create`, with its members as the preview found them.
    Create(Box<CreateRollout>),
    /// `network-rollout pause`, `resume`, `abort`.
    Control(Control),
    /// The answer to [`RolloutOutput::ReadSite`].
    SiteRead {
        /// The rollout.
        rollout: RolloutId,
        /// The subcloud.
        subcloud: SubcloudId,
        /// Its last accepted report; `None` when there is none.
        site: Option<Arc<Site>>,
    },
    /// The answer to [`RolloutOutput::Command`]. Each command gets exactly one; a driver that
    /// hears nothing says [`Answered::Unreachable`] at its deadline.
    Answered {
        /// The rollout.
        rollout: RolloutId,
        /// The subcloud.
        subcloud: SubcloudId,
        /// The step of the command.
        step: Step,
        /// What came of it.
        answer: Answered,
    },
    /// Something about a subcloud changed: its link, a report, its management state.
    Stirred(SubcloudId),
    /// The moment of the last [`RolloutOutput::SetTimer`] has come.
    Timer,
    /// A write is durable, and all before it.
    Committed {
        /// Which write.
        ticket: Ticket,
    },
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum RolloutOutput {
    /// Make these writes durable, all or none, in the order of the tickets, and say
    /// [`RolloutInput::Committed`]. If that fails, end the process.
    Commit {
        /// What to call this write.
        ticket: Ticket,
        /// What to write.
        writes: Vec<RolloutWrite>,
    },
    /// Keep a call in the audit log. It comes before the writes of the change, so that a change
    /// whose entry is handed to the disk at once is never there without it; after a crash in
    /// between there is an entry whose change was not made, and nobody was told that it was.
    Audit(Audited),
    /// Answer a call.
    Answer {
        /// Which call.
        request: RequestId,
        /// What to answer.
        outcome: Result<RolloutReceipt, Rejection>,
    },
    /// Read the last accepted report of a subcloud and say [`RolloutInput::SiteRead`].
    ReadSite {
        /// The rollout.
        rollout: RolloutId,
        /// The subcloud.
        subcloud: SubcloudId,
    },
    /// Send a change to a subcloud and say [`RolloutInput::Answered`].
    Command {
        /// The rollout.
        rollout: RolloutId,
        /// The subcloud.
        subcloud: SubcloudId,
        /// Which step it is.
        step: Step,
        /// The request id: the subcloud does one id once.
        request_id: String,
        /// The change.
        change: Change,
    },
    /// Forget a closed rollout: first its members, then its record.
    Forget(RolloutId),
    /// Say [`RolloutInput::Timer`] at this moment; it replaces the moment set before.
    SetTimer {
        /// When.
        at: Timestamp,
    },
    /// Tell watchers: the rollout, and the member that changed when it was one; and tell the fleet
    /// which rollout waits for that one ([`super::Rollouts::awaits`]), or else for each.
    Changed(Box<Rollout>, Option<Member>),
    /// The turn of these has come, or they wait for it again: tell the fleet which rollout waits
    /// for each ([`super::Rollouts::awaits`]).
    Awaits(BTreeSet<SubcloudId>),
}

/// One record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutWrite {
    /// Put the record of a rollout in the place of the one of the same number.
    Rollout(Box<Rollout>),
    /// Put the record of a member in the place of the one of the same subcloud.
    Member(RolloutId, Box<Member>),
    /// Forget a member.
    ForgetMember(RolloutId, SubcloudId),
}

/// What is on disk when a process starts.
#[derive(Debug, Clone, Default)]
pub struct RolloutRecords {
    /// Every rollout.
    pub rollouts: Vec<Rollout>,
    /// The members of those that are not closed, and of those without a record; others are
    /// ignored.
    pub members: Vec<(RolloutId, Member)>,
    /// The changes that alarm 280.002 tells of ([`crate::Controller::missed_changes`]).
    pub missed: BTreeSet<(RolloutId, SubcloudId)>,
}

/// `network-rollout create`.
#[derive(Debug, Clone)]
pub struct CreateRollout {
    /// Names the call in the answer.
    pub request: RequestId,
    /// Who asks.
    pub actor: String,
    /// The client's name of the request; empty when it gave none.
    pub request_id: String,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
    /// What is asked for.
    pub order: Order,
    /// The members as the preview found them.
    pub members: Vec<Member>,
}

/// An operator's word to a rollout.
#[derive(Debug, Clone)]
pub struct Control {
    /// Names the call in the answer.
    pub request: RequestId,
    /// Who asks.
    pub actor: String,
    /// Which rollout.
    pub rollout: RolloutId,
    /// What it shall do.
    pub verb: Verb,
    /// Judge only; change nothing.
    pub validate_only: bool,
}

/// What an operator can tell a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Begin no further subcloud for now.
    Pause,
    /// Go on.
    Resume,
    /// Begin no further subcloud ever.
    Abort,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutReceipt {
    /// The rollout as it is now; with `validate_only`, as it would be.
    pub rollout: Rollout,
    /// The same request had been answered before; nothing changed now.
    pub replayed: bool,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// The subcloud did it, durably, now or when the same request came before.
    Done,
    /// The subcloud refused it: nothing was changed by it.
    Refused(Vec<Fault>),
    /// Something broke at the subcloud; what it changed is not known.
    Failed(Vec<Fault>),
    /// No answer came; what happened is not known. It is asked again when the subcloud is there.
    Unreachable,
}
