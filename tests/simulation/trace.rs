//! The story of one run: always hashed, so that two runs can be compared, and kept as text only
//! when somebody wants to read it.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

/// What happened, in order.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    text: Option<String>,
    hash: DefaultHasher,
    steps: u64,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            text: keep.then(String::new),
            ..Self::default()
        }
    }

    /// Notes one step. `code` tells kinds of steps apart in the hash; the words are only made
    /// when they are kept.
    pub(crate) fn note(&mut self, now: u64, code: u64, words: impl FnOnce() -> String) {
        self.steps += 1;
        self.hash.write_u64(now);
        self.hash.write_u64(code);
        if let Some(text) = &mut self.text {
            let (seconds, milliseconds) = (now / 1000, now % 1000);
            text.push_str(&format!("{seconds:>6}.{milliseconds:03}  {}\n", words()));
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Equal for equal runs.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.hash.finish()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text.as_deref().unwrap_or_default())
    }
}
