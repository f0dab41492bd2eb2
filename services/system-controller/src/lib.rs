//! The system controller: keeps its own site and the fleet, serves operators and agents.
//!
//! * [`hub`]: drives the fleet's machine: moves bytes, time and records, and decides nothing.
//! * [`rollouts`]: the same for the machine of rollouts.
//! * [`grpc`]: handlers that convert, call and convert.
//! * `serve`: puts it together, starts it and ends it in order.
//! * `in_process`: the same without files and sockets, within another process, for tests.
//!
//! No rule lives here: what is admitted, refused or acknowledged is decided in `fleet` and
//! `site`.

mod certificate;
mod command;
mod console;
mod expiry;
mod fleet_history;
mod grpc;
mod hub;
mod in_process;
mod init;
mod issuer;
mod link_listener;
mod log_pages;
mod log_trim;
mod metrics;
mod operator_services;
mod records;
mod rollouts;
mod serve;
mod settings;

pub use command::run;
pub use in_process::{InProcess, Serving};
pub use settings::Times;
