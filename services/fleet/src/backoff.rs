//! How long to wait before the next attempt.

use std::time::Duration;

use crate::Entropy;
use crate::entropy::up_to;

/// The bound of the first wait.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait after a fault that may pass by itself. A controller that restarts gives its
/// agents more than this before it calls them offline ([`crate::RESTART_GRACE`]).
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The wait after a refusal that only an operator can lift, such as a revoked certificate.
pub const LONG_BACKOFF: Duration = Duration::from_secs(60 * 60);

/// Exponential backoff with full jitter: each wait is uniform between nothing and a bound that
/// doubles with every failure. A fleet that lost its controller at one moment comes back spread
/// over the whole bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure and says how long to wait.
    pub fn fail(&mut self, entropy: &mut dyn Entropy) -> Duration {
        let doubled = 2_u32
            .checked_pow(self.failures)
            .and_then(|times| FIRST.checked_mul(times));
        let bound = doubled.map_or(LONGEST_BACKOFF, |bound| bound.min(LONGEST_BACKOFF));
        self.failures = self.failures.saturating_add(1);
        up_to(entropy, bound)
    }

    /// Forgets the failures: the last attempt proved to be good.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Uniform between half of a wait and all of it: spread, but never soon.
pub(crate) fn late(entropy: &mut dyn Entropy, wait: Duration) -> Duration {
    wait / 2 + up_to(entropy, wait / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Highest;

    impl Entropy for Highest {
        fn next_u64(&mut self) -> u64 {
            // The largest remainder for every bound would need its own number; this one is
            // enough to see the bound grow.
            u64::MAX / 2
        }
    }

    #[test]
    fn no_wait_exceeds_its_bound() {
        let mut backoff = Backoff::default();
        for failures in 0..100 {
            let bound = 1_u64
                .checked_shl(failures)
                .map_or(30, |seconds| seconds.min(30));
            assert!(backoff.fail(&mut Highest) <= Duration::from_secs(bound.max(1)));
        }
        backoff.reset();
        assert!(backoff.fail(&mut Highest) <= FIRST);
    }
}
