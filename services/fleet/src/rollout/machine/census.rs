//! How many rollouts are open, and how far their members have come: for monitoring.

use super::Rollouts;
use crate::rollout::{RolloutState, Tally};

/// All open rollouts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RolloutCensus {
    /// Rollouts that work.
    pub running: u32,
    /// Rollouts that begin no subcloud.
    pub paused: u32,
    /// Rollouts that are aborted, and some members of which have begun and not ended.
    pub aborted: u32,
    /// Their members.
    pub members: Tally,
}

impl Rollouts {
    /// Counts the open rollouts and their members; memory runs ahead of the disk. It looks at no
    /// member: each rollout keeps count of its own.
    pub fn census(&self) -> RolloutCensus {
        let mut census = RolloutCensus::default();
        for run in self.rollouts.values().filter(|run| run.is_open()) {
            let count = match run.record.state {
                RolloutState::Running => &mut census.running,
                RolloutState::Paused => &mut census.paused,
                RolloutState::Aborted => &mut census.aborted,
                RolloutState::Finished => continue,
            };
            *count += 1;
            census.members = census.members.plus(run.record.tally);
        }
        census
    }
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            pending: self.pending + other.pending,
            in_flight: self.in_flight + other.in_flight,
            done: self.done + other.done,
            refused: self.refused + other.refused,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}
