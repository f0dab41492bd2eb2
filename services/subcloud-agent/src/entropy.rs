//! Randomness for the jitter of the machines.

use fleet::Entropy;

/// The process's own generator.
#[derive(Debug)]
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&mut self) -> u64 {
        rand::random()
    }
}
