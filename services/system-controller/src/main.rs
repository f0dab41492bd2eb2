//! The `system-controller` daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    system_controller::run(std::env::args_os())
}
