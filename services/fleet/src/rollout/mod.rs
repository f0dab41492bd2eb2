//! Rollouts: one desired change on many subclouds.
//!
//! ```text
//! request ─ Order::read ─► preview (site::plan and admission for each subcloud) ─► shown
//!                                    └── Create ─► Rollouts ─ Commit ─► … ─ Command ─► agent
//! ```
//!
//! * [`Order::read`] judges the request with its template or table: every fault at once.
//! * [`preview`] tells for each subcloud what would happen or why it is refused, and changes
//!   nothing.
//! * [`Rollouts`] is the machine that carries a rollout out.
//!
//! # Invariants
//!
//! * No subcloud is changed twice: that a step begins is durable before its command goes out,
//!   its result before it counts; a command has the same request id each time it is sent, and
//!   before it is sent the newest report is asked whether the change is in effect already.
//! * No result is lost, and a rollout that has ended never sends a command.
//! * At most [`Rollout::max_parallel`] subclouds are worked on at once, and of each group, by all
//!   rollouts together, at most [`crate::SubcloudGroup::at_once`].

mod desired;
mod machine;
mod order;
mod preview;
mod table;
mod template;

use std::fmt;

use site::{NetworkKind, Timestamp};

use crate::{Fault, SubcloudId};

pub use desired::{Desired, Step, Steps};
pub use machine::{
    Answered, BACKSTOP, Control, CreateRollout, FleetView, MAX_KEPT_ROLLOUTS, MAX_OPEN_ROLLOUTS,
    RolloutCensus, RolloutInput, RolloutOutput, RolloutReceipt, RolloutRecords, RolloutWrite,
    Rollouts, Standing, Verb, rollout_not_found,
};
pub use order::{
    Addresses, MAX_MEMBERS, MAX_PARALLEL, Order, PoolAction, RolloutRequest, Selector,
};
pub use preview::{Foreseen, GroupBound, group_bounds, preview};
pub use table::{MAX_TABLE_BYTES, Table};
pub use template::{MAX_TEMPLATE_BYTES, Template};

/// The number of a rollout: the first has 1, and no number is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RolloutId(pub u64);

impl fmt::Display for RolloutId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The record of a rollout, without its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Its number.
    pub id: RolloutId,
    /// The network that changes.
    pub network: NetworkKind,
    /// What happens to it.
    pub action: PoolAction,
    /// The subclouds that were asked for, in words.
    pub selection: String,
    /// How many subclouds are worked on at once; their groups may allow fewer.
    pub max_parallel: u32,
    /// It pauses by itself when so many more were refused or failed since it ran last; `None`
    /// never pauses it.
    pub max_failures: Option<u32>,
    /// Whether it goes on.
    pub state: RolloutState,
    /// Why it paused by itself.
    pub paused_because: Option<Fault>,
    /// How many refusals and failures an operator has accepted by resuming it.
    pub forgiven: u32,
    /// How many members are in which state.
    pub tally: Tally,
    /// Who asked for it.
    pub actor: String,
    /// The client's name of the request that made it; empty when it gave none.
    pub request_id: String,
    /// SHA-256 of that request.
    pub fingerprint: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// When it, or a member of it, last changed.
    pub updated_at: Timestamp,
    /// Grows with every change of any rollout: of two closed ones, the one that closed first has
    /// the lower.
    pub revision: u64,
}

impl Rollout {
    /// Whether anything is left to do: also when it is aborted, those that have begun end.
    pub fn is_open(&self) -> bool {
        match self.state {
            RolloutState::Running | RolloutState::Paused => true,
            RolloutState::Aborted => self.tally.open() > 0,
            RolloutState::Finished => false,
        }
    }

    /// The same rollout with these members counted.
    #[must_use]
    pub fn with_members<'a>(mut self, members: impl Iterator<Item = &'a Member>) -> Self {
        self.tally = Tally::of(members);
        self
    }
}

/// Whether a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RolloutState {
    /// It works, or waits for subclouds that are not ready.
    Running,
    /// It begins no subcloud; those that have begun come to their end.
    Paused,
    /// As paused, for good: the others are skipped.
    Aborted,
    /// Every member has its result.
    Finished,
}

impl RolloutState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Aborted, Self::Finished];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Aborted => "ABORTED",
            Self::Finished => "FINISHED",
        }
    }
}

/// One subcloud of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The subcloud.
    pub subcloud: SubcloudId,
    /// Its name when the rollout was made.
    pub name: String,
    /// Its place: members are taken up in this order, and templates count by it.
    pub index: u64,
    /// What shall be; `None` when that was refused before it could be told.
    pub desired: Option<Desired>,
    /// How far it has come.
    pub state: MemberState,
    /// Whether any command of this rollout was carried out on it.
    pub changed: bool,
    /// Why it was refused, failed or was skipped.
    pub faults: Vec<Fault>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// How far a member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// Not begun. One that is offline, unmanaged or quarantined waits here.
    Pending,
    /// A step has begun: its command may have gone out.
    InFlight(Step),
    /// The change is in effect.
    Done,
    /// The rules do not allow the change; nothing was changed.
    Refused,
    /// It went wrong half-way; the faults tell where.
    Failed,
    /// Left out: not enrolled, deleted meanwhile, or the rollout was aborted.
    Skipped,
}

impl MemberState {
    /// Whether this is a result.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::InFlight(_))
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InFlight(_) => "IN_FLIGHT",
            Self::Done => "DONE",
            Self::Refused => "REFUSED",
            Self::Failed => "FAILED",
            Self::Skipped => "SKIPPED",
        }
    }
}

/// How many members are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Not begun.
    pub pending: u32,
    /// Begun.
    pub in_flight: u32,
    /// In effect.
    pub done: u32,
    /// Refused.
    pub refused: u32,
    /// Failed.
    pub failed: u32,
    /// Skipped.
    pub skipped: u32,
}

impl Tally {
    /// Counts members.
    pub fn of<'a>(members: impl Iterator<Item = &'a Member>) -> Self {
        let mut tally = Self::default();
        for member in members {
            *tally.of_state(member.state) += 1;
        }
        tally
    }

    /// All members.
    pub fn total(&self) -> u32 {
        self.open() + self.done + self.refused + self.failed + self.skipped
    }

    /// Members without a result.
    pub fn open(&self) -> u32 {
        self.pending + self.in_flight
    }

    /// Members that were refused or failed.
    pub fn unsuccessful(&self) -> u32 {
        self.refused + self.failed
    }

    fn moved(&mut self, from: MemberState, to: MemberState) {
        let left = self.of_state(from);
        *left = left.saturating_sub(1);
        *self.of_state(to) += 1;
    }

    fn of_state(&mut self, state: MemberState) -> &mut u32 {
        match state {
            MemberState::Pending => &mut self.pending,
            MemberState::InFlight(_) => &mut self.in_flight,
            MemberState::Done => &mut self.done,
            MemberState::Refused => &mut self.refused,
            MemberState::Failed => &mut self.failed,
            MemberState::Skipped => &mut self.skipped,
        }
    }
}
