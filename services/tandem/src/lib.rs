//! The operator's command line: `tandem system …` for one site, `tandem dcmanager …` for the
//! fleet. Invoked as `system` or `dcmanager` (a symlink) it behaves like that area of `tandem`,
//! so the shell lines of the dual-stack guide run unchanged.
//!
//! Invariants
//! * Standard output carries the answer and nothing else: a program may parse it. Warnings,
//!   effects and refusals go to standard error.
//! * A command line is judged completely before anything is sent, the names of columns too.
//! * Every refusal shows its reason, its explanation and its remedy, for every fault.
//! * Text from a server never reaches a terminal with its control characters.
//!
//! This crate must not decide what a site or a fleet allows: it turns text into requests and
//! answers into text. Nor does it read the environment or the process state anywhere but in
//! [`Environment::of_process`], so that tests run the whole program within themselves; only
//! the watches listen for signals, because nothing else ends it.

mod answer;
mod arguments;
mod dcmanager;
mod endpoint;
mod environment;
mod exit;
mod failure;
mod moment;
mod nearest;
mod output;
mod program;
mod session;
mod streams;
mod system;
mod witness;
mod wording;

pub use environment::Environment;
pub use exit::Exit;
pub use program::{command, run};
