//! The command line as clap reads it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueHint};

use crate::dcmanager::DcmanagerArea;
use crate::endpoint::{self, Credentials, Endpoint};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::Format;
use crate::session::Subcloud;
use crate::system::SystemArea;

/// `tandem`.
#[derive(Debug, Parser)]
#[command(
    name = "tandem",
    about = "Operates a dual-stack site and the distributed cloud around it",
    after_help = STATUSES,
    after_long_help = STATUSES
)]
pub(crate) struct Tandem {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) area: Area,
}

/// The areas of `tandem`.
#[derive(Debug, Subcommand)]
pub(crate) enum Area {
    /// One site: networks, address pools, hosts, alarms
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Examples:\n  tandem system network-list\n  \
                      tandem system network-list --subcloud subcloud-1"
    )]
    System {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: SystemArea,
    },
    /// The fleet: subclouds and events of a system controller
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager subcloud list"
    )]
    Dcmanager {
        #[command(subcommand)]
        command: DcmanagerArea,
    },
    /// Prints a completion script for a shell
    #[command(after_help = "Example:\n  tandem completions bash \
                      > /usr/share/bash-completion/completions/tandem")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// `system`, the area under its own name.
#[derive(Debug, Parser)]
#[command(
    name = "system",
    about = "Operates one site: networks, address pools, hosts, alarms",
    after_help = STATUSES,
    after_long_help = STATUSES
)]
pub(crate) struct SystemAlone {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) command: SystemArea,
}

/// `dcmanager`, the area under its own name.
#[derive(Debug, Parser)]
#[command(
    name = "dcmanager",
    about = "Operates the fleet: subclouds and events of a system controller",
    after_help = STATUSES,
    after_long_help = STATUSES
)]
pub(crate) struct DcmanagerAlone {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: DcmanagerArea,
}

/// Shells with completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Options that may stand anywhere on the line.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Where the daemon answers operators [environment: TANDEM_ENDPOINT; default:
    /// unix:/run/tandem/operator.sock]
    #[arg(long, global = true, value_name = "unix:PATH|https://ADDR:PORT")]
    endpoint: Option<String>,
    /// Form of the answer on standard output
    #[arg(short = 'f', long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Show only this column; repeat it for more, in the order wanted
    #[arg(short = 'c', long = "column", global = true, value_name = "NAME")]
    pub(crate) columns: Vec<String>,
    /// List the effects of a change and change nothing; only for commands that change something
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// The id of a change, at most 128 bytes: within a day a change of this id is made at most
    /// once, and repeating it gives the same answer
    #[arg(long, global = true, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) request_id: Option<String>,
    /// The controller's CA (PEM), for https:// [environment: TANDEM_CA]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// The operator's certificate (PEM), for https:// [environment: TANDEM_CERT]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    cert: Option<PathBuf>,
    /// The key of that certificate (PEM), for https:// [environment: TANDEM_KEY]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key: Option<PathBuf>,
}

/// Whose site the commands of one site act on; may stand anywhere after `system`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Remote {
    /// Act on the site of this subcloud, by name or uuid, through its system controller
    #[arg(long, global = true, value_name = "NAME")]
    subcloud: Option<String>,
}

impl Remote {
    /// A failure as it is told here: what the site advises acts on it, and not on that of the
    /// daemon.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        match &self.subcloud {
            Some(subcloud) => failure.at_subcloud(subcloud),
            None => failure,
        }
    }

    /// The same for remarks to an answer.
    pub(crate) fn remarked(&self, text: String) -> String {
        match &self.subcloud {
            Some(subcloud) => site::advice_at(&text, subcloud),
            None => text,
        }
    }

    /// The metadata that names the subcloud.
    ///
    /// # Errors
    /// A text that names nothing.
    pub(crate) fn metadata(&self) -> Result<Option<Subcloud>, Failure> {
        let Some(name) = &self.subcloud else {
            return Ok(None);
        };
        match name.parse() {
            Ok(value) if !name.trim().is_empty() => Ok(Some(value)),
            _ => Err(Failure::usage(
                format!("--subcloud {name:?} is no name of a subcloud"),
                "give a name or a uuid; `tandem dcmanager subcloud list` shows them",
            )),
        }
    }
}

impl Globals {
    /// The endpoint of the option, else of the environment, else the default.
    ///
    /// # Errors
    /// A text that is no endpoint.
    pub(crate) fn endpoint(&self, environment: &Environment) -> Result<Endpoint, Failure> {
        if let Some(text) = &self.endpoint {
            return Endpoint::parse(text);
        }
        match environment.variable("TANDEM_ENDPOINT").map(OsStr::to_str) {
            Some(Some(text)) => Endpoint::parse(text),
            Some(None) => Err(Failure::usage(
                "the variable TANDEM_ENDPOINT is not UTF-8",
                "set it to unix:PATH or https://ADDR:PORT",
            )),
            None => Endpoint::parse(endpoint::DEFAULT),
        }
    }

    /// The files of the options, else of the environment.
    pub(crate) fn credentials(&self, environment: &Environment) -> Credentials {
        let file = |option: &Option<PathBuf>, name: &str| {
            let variable = || {
                environment
                    .variable(name)
                    .map(|value| Path::new(value).to_owned())
            };
            option.clone().or_else(variable)
        };
        Credentials {
            ca: file(&self.ca, "TANDEM_CA"),
            certificate: file(&self.cert, "TANDEM_CERT"),
            key: file(&self.key, "TANDEM_KEY"),
        }
    }
}

const STATUSES: &str = "\
Exit status:
  0   accepted
  1   refused, or what --wait waited for did not come out as it was asked for:
      reason, explanation and remedy are on standard error
  64  wrong command line; nothing was sent
  65  a file that was given has a fault; nothing was sent
  66  a file that was given cannot be read; nothing was sent
  69  the daemon cannot be reached, or did not answer within 30 s
  70  the daemon's answer is not understood
  74  the output cannot be written

Environment:
  TANDEM_ENDPOINT, TANDEM_CA, TANDEM_CERT and TANDEM_KEY stand for the options.
  NO_COLOR, when it is set, switches colours off. There are none in a pipe.

Examples:
  tandem system network-addrpool-assign oam oam-ipv4 --dry-run
  tandem dcmanager subcloud list --format json
  tandem --endpoint https://[fd00::3]:8440 --ca ca.crt --cert op.crt \\
    --key op.key system site-show
";
