//! The whole from outside: real recordings, real processes, real networks, and the clients that
//! operators use.

mod conformance;
mod malformed;
mod process_life;
mod reasons;
mod support;
