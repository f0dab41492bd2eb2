//! The whole from outside: real recordings, real processes, real networks, and the clients that
//! operators use.

mod conformance;
mod guide;
mod kill;
mod malformed;
mod matrix;
mod process_life;
mod reasons;
mod support;
