//! What the benches print.

use std::time::Duration;

/// A summary of times that a busy machine cannot spoil as it does a mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantiles {
    pub(crate) median: Duration,
    /// Nine of ten took no longer.
    pub(crate) p90: Duration,
}

impl Quantiles {
    /// Panics when there are no times.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let last = times.len() - 1;
        Self {
            median: times[last / 2],
            p90: times[last * 9 / 10],
        }
    }
}

/// Whether an aim is met, in words. A bench does not fail: the machine may be busy.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT met" }
}
