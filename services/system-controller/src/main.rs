//! The `system-controller` daemon.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives back what a burst of reports or reconnects took; see Cargo.toml.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    system_controller::run(std::env::args_os())
}
