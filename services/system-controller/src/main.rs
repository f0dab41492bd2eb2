//! The `system-controller` daemon.

use std::process::ExitCode;

/// Gives back what a burst of reports or reconnects took; see Cargo.toml.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    system_controller::run(std::env::args_os())
}
