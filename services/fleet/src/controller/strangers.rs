//! What strangers may write. A refusal of somebody without an identity and without a token is in the
//! logs, but a flood of them must not push out what operators and sites did.

use std::time::Duration;

use site::Timestamp;

use crate::entropy::{after, since};

/// The most refusals of strangers that the logs take one right after another.
pub const STRANGER_BURST: u64 = 200;

/// How long it takes until the logs have room for one more of them. At this rate a log of 100,000
/// entries is full after eleven days and a half.
pub const STRANGER_EVERY: Duration = Duration::from_secs(10);

/// The room for refusals of strangers, in entries.
#[derive(Debug)]
pub(super) struct Strangers {
    room: u64,
    /// As of when.
    at: Timestamp,
    /// Refusals without an entry since the last one that has one.
    unwritten: u64,
}

impl Strangers {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            room: STRANGER_BURST,
            at: now,
            unwritten: 0,
        }
    }

    /// Takes a place in the logs; `None` when there is none left. How many others had none since the
    /// last that had one.
    pub(super) fn place(&mut self, now: Timestamp) -> Option<u64> {
        let new = since(now, self.at).as_secs() / STRANGER_EVERY.as_secs();
        self.at = after(self.at, Duration::from_secs(new * STRANGER_EVERY.as_secs()));
        self.room = self.room.saturating_add(new).min(STRANGER_BURST);
        let Some(room) = self.room.checked_sub(1) else {
            self.unwritten += 1;
            return None;
        };
        self.room = room;
        Some(std::mem::take(&mut self.unwritten))
    }

    /// The same for an entry with a detail, to which is added how many others had none.
    pub(super) fn entry(&mut self, now: Timestamp, detail: String) -> Option<String> {
        let others = match self.place(now)? {
            0 => return Some(detail),
            1 => "one more refusal of a stranger has no entry".to_owned(),
            count => format!("{count} more refusals of strangers have no entry"),
        };
        Some(match detail.is_empty() {
            true => others,
            false => format!("{detail}; {others}"),
        })
    }
}
