//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::settings::ServeOptions;
use crate::{init, serve};

/// The system controller of a distributed cloud.
#[derive(Debug, Parser)]
#[command(
    name = "system-controller",
    version = daemon::VERSION,
    after_help = "Example:\n  system-controller init --bootstrap controller.yaml --state-dir \
                  /var/lib/tandem\n  system-controller serve --state-dir /var/lib/tandem"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install the site of a bootstrap file into a new state directory
    #[command(
        after_help = "Example:\n  system-controller init --bootstrap controller.yaml \
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
    /// Serve operators and agents until SIGTERM
    #[command(
        after_help = "Example:\n  system-controller serve --state-dir /var/lib/tandem\n\n\
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
        Command::Serve(options) => serve::run(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
