//! What `serve` is told: the command line over a file, made one checked value before any socket
//! is bound.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use daemon::{Exit, Failure, LogOptions, OperatorOptions};
use serde::Deserialize;

/// The command line of `serve`. The flag for listeners on TCP is known but refused, with the
/// reason, so its help does not offer it.
#[derive(Debug, Args)]
#[command(mut_arg("operator_listen", |flag| flag.hide(true)))]
pub(crate) struct ServeOptions {
    /// The directory that `init` made
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: PathBuf,

    /// Settings in TOML; a flag on the command line overrides its setting
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    operators: OperatorOptions,

    #[command(flatten)]
    pub(crate) logs: LogOptions,

    /// Development only: another source address than the link address; `any` leaves it to the
    /// system
    #[arg(long, value_name = "ADDR|any")]
    link_source: Option<LinkSource>,
}

/// Where connections to the controller leave from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum LinkSource {
    /// This address.
    Address(IpAddr),
    /// Whichever the system takes.
    Any,
}

impl FromStr for LinkSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self::Any),
            text => text
                .parse()
                .map(Self::Address)
                .map_err(|_| format!("`{text}` is neither an IP address nor `any`")),
        }
    }
}

impl TryFrom<String> for LinkSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    operator_socket: Option<PathBuf>,
    operator_listen: Option<Vec<SocketAddr>>,
    link_source: Option<LinkSource>,
}

/// Everything that `serve` needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) operator_socket: PathBuf,
    pub(crate) operator_listen: Vec<SocketAddr>,
    pub(crate) link_source: Option<LinkSource>,
}

impl Settings {
    /// Puts flags over the file over the defaults.
    pub(crate) fn new(options: ServeOptions) -> Result<Self, Failure> {
        let file = options
            .config
            .as_deref()
            .map(read)
            .transpose()?
            .unwrap_or_default();
        let flags = options.operators;
        let socket = flags.operator_socket.or(file.operator_socket);
        let operator_listen = if flags.operator_listen.is_empty() {
            file.operator_listen.unwrap_or_default()
        } else {
            flags.operator_listen
        };
        Ok(Self {
            operator_socket: socket.unwrap_or_else(|| options.state_dir.join("operator.sock")),
            operator_listen,
            link_source: options.link_source.or(file.link_source),
        })
    }
}

/// The address that a connection leaves from: the link address unless a flag says otherwise.
pub(crate) fn source(asked: Option<LinkSource>, link_address: Option<IpAddr>) -> Option<IpAddr> {
    match asked {
        None => link_address,
        Some(LinkSource::Address(address)) => {
            tracing::warn!(%address, "--link-source: connections do not leave from the link address");
            Some(address)
        }
        Some(LinkSource::Any) => {
            tracing::warn!("--link-source any: connections leave from whichever address fits");
            None
        }
    }
}

fn read(path: &Path) -> Result<File, Failure> {
    let wrong = |problem: String| {
        Failure::new(
            Exit::Usage,
            format!("--config {}: {problem}", path.display()),
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(&text).map_err(|error| wrong(error.to_string()))
}
