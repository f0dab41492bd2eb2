//! Time and chance, which this crate takes as arguments.

use std::time::Duration;

use site::Timestamp;

/// Where a machine gets its randomness. A service passes the operating system's, a simulation a
/// seeded one. It is used for jitter only, never for secrets.
pub trait Entropy {
    /// 64 uniform bits.
    fn next_u64(&mut self) -> u64;
}

/// Uniform in `[0, limit]`, in whole milliseconds.
pub(crate) fn up_to(entropy: &mut dyn Entropy, limit: Duration) -> Duration {
    let milliseconds = milliseconds(limit);
    // The bias of a remainder is below 2^-40 for any limit under a day: jitter does not mind.
    let drawn = match milliseconds.checked_add(1) {
        Some(bound) => entropy.next_u64() % bound,
        None => entropy.next_u64(),
    };
    Duration::from_millis(drawn)
}

/// The moment `by` after `at`; the end of time rather than an overflow.
pub(crate) fn after(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(milliseconds(by)))
}

/// How long ago `earlier` was; zero when it lies ahead (the clock was set back).
pub(crate) fn since(now: Timestamp, earlier: Timestamp) -> Duration {
    Duration::from_millis(now.0.saturating_sub(earlier.0))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
