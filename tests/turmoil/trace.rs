//! The story of one run.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

/// How much of a story is told of a seed that fails, in lines.
const TOLD: usize = 60;

/// What happened, in order.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Vec<String>,
    hash: DefaultHasher,
    /// Lines are printed as they are noted.
    aloud: bool,
}

impl Trace {
    pub(crate) fn new(aloud: bool) -> Self {
        Self {
            aloud,
            ..Self::default()
        }
    }

    pub(crate) fn note(&mut self, at: Duration, words: &str) {
        let line = format!("{:>9.3}  {words}", at.as_secs_f64());
        self.hash.write(line.as_bytes());
        if self.aloud {
            println!("{line}");
        }
        self.lines.push(line);
    }

    /// Equal for equal runs.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.hash.finish()
    }
}

/// The end of the story, unless it was told as it happened.
impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.aloud {
            return Ok(());
        }
        let from = self.lines.len().saturating_sub(TOLD);
        if from > 0 {
            writeln!(formatter, "   … {from} lines before")?;
        }
        for line in &self.lines[from..] {
            writeln!(formatter, "{line}")?;
        }
        Ok(())
    }
}
