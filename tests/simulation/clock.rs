//! Clocks that run fast or jump ahead.

use site::Timestamp;

use crate::world::{EPOCH, Millis};

/// A host's clock. It may run fast or jump ahead, never back: a driver gives machines a clock
/// that does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    since: Millis,
    shown: Millis,
    rate: u64,
}

impl Clock {
    pub(crate) fn new(ahead: Millis) -> Self {
        Self {
            since: 0,
            shown: EPOCH + ahead,
            rate: 1,
        }
    }

    pub(crate) fn at(&self, now: Millis) -> Timestamp {
        Timestamp(self.shown + (now - self.since) * self.rate)
    }

    /// When it will show a moment.
    pub(crate) fn when(&self, shown: Timestamp) -> Millis {
        self.since + shown.0.saturating_sub(self.shown).div_ceil(self.rate)
    }

    pub(crate) fn change(&mut self, now: Millis, ahead: Millis, rate: u64) {
        *self = Self {
            shown: self.at(now).0 + ahead,
            since: now,
            rate,
        };
    }
}
