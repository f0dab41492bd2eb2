//! Counters that metrics read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count for each of a few causes, those that never came included.
#[derive(Debug, Clone)]
pub struct CountBy<C: 'static> {
    causes: &'static [C],
    counts: Arc<[AtomicU64]>,
}

impl<C: Copy + PartialEq> CountBy<C> {
    /// Zero of each.
    #[must_use]
    pub fn of(causes: &'static [C]) -> Self {
        Self {
            causes,
            counts: causes.iter().map(|_| AtomicU64::default()).collect(),
        }
    }

    /// One more; a cause that is not among them is not counted.
    pub(crate) fn add(&self, cause: C) {
        let each = self.causes.iter().zip(&*self.counts);
        for (_, count) in each.filter(|(known, _)| **known == cause) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts so far.
    pub fn counts(&self) -> impl Iterator<Item = (C, u64)> {
        let each = self.causes.iter().zip(&*self.counts);
        each.map(|(cause, count)| (*cause, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_count_from_the_start() {
        let counts = CountBy::of(&["a", "b"]);
        let told = |counts: &CountBy<&'static str>| counts.counts().collect::<Vec<_>>();
        assert_eq!(told(&counts), [("a", 0), ("b", 0)]);
        let same = counts.clone();
        same.add("b");
        same.add("b");
        same.add("c");
        assert_eq!(told(&counts), [("a", 0), ("b", 2)]);
    }
}
