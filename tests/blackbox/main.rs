//! The whole from outside: real recordings, real processes.

mod conformance;
