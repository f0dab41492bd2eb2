//! The `subcloud-agent` daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    subcloud_agent::run(std::env::args_os())
}
