//! The subcloud agent: keeps the site of one subcloud, and its link to the system controller.
//!
//! * `enroll`: drives the machine that takes a site from a token to an identity.
//! * `in_process`: the same agent within another process, for load programs and tests.
//! * `link`: drives the machine that keeps the link: moves bytes, time and records.
//!
//! No rule lives here: both machines are in `fleet`, what a change of the site does in `site`.

mod command;
mod credentials;
mod enroll;
mod in_process;
mod init;
mod link;
mod records;
mod refusal;
mod renewal;
mod serve;
mod settings;

pub use command::run;
pub use in_process::InProcess;
pub use link::LinkState;
