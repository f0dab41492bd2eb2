//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::enroll::{self, EnrollOptions};
use crate::settings::ServeOptions;
use crate::{init, serve};

/// The agent of one subcloud.
#[derive(Debug, Parser)]
#[command(
    name = "subcloud-agent",
    version = daemon::VERSION,
    after_help = "Example:\n  subcloud-agent init --bootstrap subcloud.yaml --state-dir \
                  /var/lib/tandem\n  subcloud-agent enroll --state-dir /var/lib/tandem --token \
                  td1_…\n  subcloud-agent serve --state-dir /var/lib/tandem"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install the site of a bootstrap file into a new state directory
    #[command(
        after_help = "Example:\n  subcloud-agent init --bootstrap subcloud.yaml \
                            --state-dir /var/lib/tandem"
    )]
    Init {
        /// The bootstrap file (YAML)
        #[arg(long, value_name = "FILE")]
        bootstrap: PathBuf,
        /// The directory to make, with mode 0700; one that has state is refused
        #[arg(long, value_name = "DIR")]
        state_dir: PathBuf,
    },
    /// Redeem an enrollment token; may be run again when the answer was lost
    #[command(
        after_help = "Exit status: 0 enrolled, 2 refused, 75 try again later.\n\nExample:\n  \
                            subcloud-agent enroll --state-dir /var/lib/tandem --token td1_…"
    )]
    Enroll(EnrollOptions),
    /// Serve operators and keep the link to the system controller until SIGTERM
    #[command(
        after_help = "Example:\n  subcloud-agent serve --state-dir /var/lib/tandem\n\n\
                            Logs go to stderr; TANDEM_LOG filters them, such as TANDEM_LOG=debug."
    )]
    Serve(ServeOptions),
}

/// Runs the program with its arguments, the name of the program first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return daemon::usage(&error),
    };
    let outcome = match arguments.command {
        Command::Init {
            bootstrap,
            state_dir,
        } => init::run(&bootstrap, &state_dir),
        Command::Enroll(options) => enroll::run(&options),
        Command::Serve(options) => serve::run(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
