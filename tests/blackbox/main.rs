//! The whole from outside: real recordings, real processes, real networks, and the clients that
//! operators use.

mod abuse;
mod alarms;
mod audit;
mod bad_input;
mod command_lines;
mod conformance;
mod fencing;
mod fleet_reasons;
mod fleet_watch;
mod full_disk;
mod geo;
mod guide;
mod kill;
mod life;
mod link;
mod lists;
mod malformed;
mod matrix;
mod metrics;
mod operators;
mod peers;
mod preview;
mod process_life;
mod purity;
mod reasons;
mod reconnect;
mod remote;
mod renewal;
mod restore;
mod roles;
mod rollout;
mod scripts;
mod strangers;
mod support;
