//! Messages of a link that come in pieces.

use fleet::HEARD_EVERY;
use tokio::time::Instant;

/// When to tell a machine that a message comes in pieces. One that comes at once is told as a whole
/// only.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Since when pieces have come of which the machine does not know.
    since: Option<Instant>,
}

impl Pieces {
    /// A piece came, and there is more to come; whether to say so.
    #[must_use]
    pub fn piece(&mut self) -> bool {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let due = now.duration_since(since) >= HEARD_EVERY;
        if due {
            self.since = Some(now);
        }
        due
    }

    /// The message is whole, and the machine hears it.
    pub fn whole(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_slow_message_is_told_now_and_then_and_a_fast_one_as_a_whole() {
        let mut pieces = Pieces::default();
        let mut told = 0;
        for _ in 0..40 {
            told += u32::from(pieces.piece());
            advance(Duration::from_millis(100)).await;
        }
        // At 300 ms, 600 ms, and so on to 3.9 s.
        assert_eq!(told, 13);
        for _ in 0..40 {
            pieces.whole();
            advance(Duration::from_millis(100)).await;
            assert!(!pieces.piece());
            assert!(!pieces.piece());
        }
    }
}
