//! What `serve` is told: the command line over a file, made one checked value before any socket
//! is bound.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use daemon::{Exit, Failure, LogOptions, OperatorOptions};
use fleet::{ControllerConfig, DEFAULT_FLEET_LIMIT, Endpoint, SourceCheck};
use identity::{Ca, Limits, SUBCLOUD_VALIDITY};
use serde::Deserialize;
use site::{NetworkKind, Site};

use crate::log_trim::{Keep, LogBounds};

/// The port of the operators' interface on the oam addresses.
const OPERATOR_PORT: u16 = 8440;
/// The port of the link on the link address.
const LINK_PORT: u16 = 8441;
/// The port of the console on the oam addresses.
const CONSOLE_PORT: u16 = 8442;

/// A setting that is a number.
struct Number {
    name: &'static str,
    least: u64,
    most: u64,
    default: u64,
}

const fn number(name: &'static str, least: u64, most: u64, default: u64) -> Number {
    Number {
        name,
        least,
        most,
        default,
    }
}

/// How far apart heartbeats are; more often costs more than it tells, and after ten minutes an
/// outage is noticed half an hour late.
const HEARTBEAT: Number = number("heartbeat_interval_milliseconds", 500, 600_000, 10_000);
/// An entry has some 300 bytes, so that the most is 3 GB.
const EVENT_ENTRIES: Number = number("event_log_entries", 100, 10_000_000, fleet::LOG_LIMIT);
/// A quarter of a year by default.
const EVENT_DAYS: Number = number("event_log_days", 1, 3650, 90);
/// As for events.
const AUDIT_ENTRIES: Number = number("audit_log_entries", 100, 10_000_000, fleet::LOG_LIMIT);
/// A year by default: who did what is asked for later than what happened.
const AUDIT_DAYS: Number = number("audit_log_days", 1, 3650, 365);
/// Changes that a watcher may fall behind, and resume over; each costs some 200 bytes. By default
/// enough for a fleet of 10,000 that goes or comes at once, and some more.
const WATCH_HISTORY: Number = number("watch_history_changes", 256, 1_000_000, 16_384);

/// Certificates of subclouds may live this long, in seconds: shorter, and one would end before an
/// agent that reconnects could renew it; longer than thirty days, and a stolen one would serve for
/// longer than anybody looks.
const CERTIFICATE_SECONDS: std::ops::RangeInclusive<u64> = 4..=30 * 24 * 60 * 60;

/// The command line of `serve`.
#[derive(Debug, Default, Args)]
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

    /// Development only: another address than the link address for agents
    #[arg(long, value_name = "ADDR:PORT")]
    link_listen: Option<SocketAddr>,

    /// Whether connections of agents must come from their link pool [default: strict]
    #[arg(long, value_name = "CHECK")]
    source_check: Option<Check>,

    /// How long certificates of subclouds are valid, in seconds; they are renewed at half of it
    /// [default: 86400]
    #[arg(long, value_name = "SECONDS")]
    certificate_validity: Option<u64>,

    /// Address for the console (plain HTTP, health); may be given more than once
    /// [default: every oam address, port 8442]
    #[arg(long, value_name = "ADDR:PORT")]
    console_listen: Vec<SocketAddr>,
}

/// Rule F8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Check {
    /// The source address lies in the link primary pool.
    Strict,
    /// Any source address; for sites behind address translation.
    Off,
}

/// The settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    operator_socket: Option<PathBuf>,
    operator_listen: Option<Vec<SocketAddr>>,
    link_listen: Option<SocketAddr>,
    source_check: Option<Check>,
    console_listen: Option<Vec<SocketAddr>>,
    heartbeat_interval_milliseconds: Option<u64>,
    certificate_validity_seconds: Option<u64>,
    failover_milliseconds: Option<u64>,
    fleet_limit: Option<usize>,
    link_connections: Option<usize>,
    link_connections_per_source: Option<usize>,
    event_log_entries: Option<u64>,
    event_log_days: Option<u64>,
    audit_log_entries: Option<u64>,
    audit_log_days: Option<u64>,
    watch_history_changes: Option<u64>,
}

impl Number {
    /// What is set, or the default.
    fn of(&self, asked: Option<u64>, file: Option<&Path>) -> Result<u64, Failure> {
        let Self {
            name,
            least,
            most,
            default,
        } = self;
        let value = asked.unwrap_or(*default);
        if (*least..=*most).contains(&value) {
            return Ok(value);
        }
        let file = file.unwrap_or(Path::new("")).display();
        let message = format!("--config {file}: {name} is {value}; give {least} to {most}");
        Err(Failure::new(Exit::Usage, message))
    }
}

/// How long a controller waits for others, and they for it.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How far apart heartbeats of agents are.
    pub heartbeat_interval: Duration,
    /// For how long agents wait for this controller before they turn to a peer of it.
    pub failover: Duration,
}

/// Everything that `serve` needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) operator_socket: PathBuf,
    pub(crate) operator_listen: Vec<SocketAddr>,
    pub(crate) link_listen: SocketAddr,
    pub(crate) console_listen: Vec<SocketAddr>,
    pub(crate) certificate_validity: Duration,
    /// What agents and strangers may occupy.
    pub(crate) link_limits: Limits,
    source_check: SourceCheck,
    heartbeat_interval: Duration,
    failover: Duration,
    fleet_limit: usize,
    pub(crate) logs: LogBounds,
    pub(crate) watch_history: usize,
}

impl Settings {
    /// Puts flags over the file over the defaults of the site.
    pub(crate) fn new(options: ServeOptions, site: &Site) -> Result<Self, Failure> {
        let file = options
            .config
            .as_deref()
            .map(read)
            .transpose()?
            .unwrap_or_default();
        let bounded = |number: &Number, asked| number.of(asked, options.config.as_deref());
        let link_limits = link_limits(&file, options.config.as_deref())?;
        let listen = |flags: Vec<SocketAddr>, setting: Option<Vec<SocketAddr>>, port: u16| {
            if flags.is_empty() {
                setting.unwrap_or_else(|| on_oam(site, port))
            } else {
                flags
            }
        };
        let socket = options.operators.operator_socket.or(file.operator_socket);
        let source_check = match options.source_check.or(file.source_check) {
            Some(Check::Off) => SourceCheck::Off,
            Some(Check::Strict) | None => SourceCheck::Strict,
        };
        Ok(Self {
            operator_socket: socket.unwrap_or_else(|| options.state_dir.join("operator.sock")),
            operator_listen: listen(
                options.operators.operator_listen,
                file.operator_listen,
                OPERATOR_PORT,
            ),
            link_listen: link_listen(site, options.link_listen.or(file.link_listen))?,
            console_listen: listen(options.console_listen, file.console_listen, CONSOLE_PORT),
            certificate_validity: certificate_validity(
                options.certificate_validity,
                file.certificate_validity_seconds,
            )?,
            link_limits,
            source_check,
            heartbeat_interval: Duration::from_millis(bounded(
                &HEARTBEAT,
                file.heartbeat_interval_milliseconds,
            )?),
            logs: LogBounds {
                events: Keep {
                    entries: bounded(&EVENT_ENTRIES, file.event_log_entries)?,
                    age: days(bounded(&EVENT_DAYS, file.event_log_days)?),
                },
                audit: Keep {
                    entries: bounded(&AUDIT_ENTRIES, file.audit_log_entries)?,
                    age: days(bounded(&AUDIT_DAYS, file.audit_log_days)?),
                },
            },
            watch_history: usize::try_from(bounded(&WATCH_HISTORY, file.watch_history_changes)?)
                .unwrap_or(usize::MAX),
            failover: failover(file.failover_milliseconds, options.config.as_deref())?,
            fleet_limit: file.fleet_limit.unwrap_or(DEFAULT_FLEET_LIMIT),
        })
    }

    /// The defaults, for a controller within another process, but with times of its own.
    ///
    /// # Errors
    /// When the site has no link address.
    pub(crate) fn usual(site: &Site, times: Times) -> Result<Self, Failure> {
        let Times {
            heartbeat_interval,
            failover,
        } = times;
        Ok(Self {
            heartbeat_interval,
            failover,
            ..Self::new(ServeOptions::default(), site)?
        })
    }

    /// What the fleet's machine is told; `link` is where agents really find this controller.
    pub(crate) fn controller(&self, site: &Site, link: SocketAddr, ca: &Ca) -> ControllerConfig {
        if self.source_check == SourceCheck::Off {
            tracing::warn!("--source-check off: agents may connect from any address");
        }
        ControllerConfig {
            id: fleet::ControllerId(site.identity().uuid),
            controllers: vec![Endpoint(link)],
            source_check: self.source_check,
            heartbeat_interval: self.heartbeat_interval,
            fleet_limit: self.fleet_limit,
            event_log_limit: self.logs.events.entries,
            audit_log_limit: self.logs.audit.entries,
            authority: fleet::Authority {
                key: fleet::Fingerprint(*ca.spki_sha256().as_bytes()),
                certificate: ca.certificate().der().to_vec().into(),
            },
            failover: self.failover,
        }
    }
}

/// The link address, or the development flag that leaves it.
fn link_listen(site: &Site, asked: Option<SocketAddr>) -> Result<SocketAddr, Failure> {
    if let Some(address) = asked {
        tracing::warn!(%address, "--link-listen: agents do not find this controller by its site");
        return Ok(address);
    }
    let address = site.link_address().ok_or_else(|| {
        let message = "the site has no link address: neither admin nor mgmt has a pool with a \
                       floating address; set one with `system addrpool-modify`";
        Failure::new(Exit::Usage, message)
    })?;
    Ok(SocketAddr::new(address, LINK_PORT))
}

/// The floating addresses of oam, both families on one port.
fn on_oam(site: &Site, port: u16) -> Vec<SocketAddr> {
    let oam = site.network(NetworkKind::Oam);
    let pools = oam.iter().flat_map(|oam| oam.pools().iter());
    let floating = pools.filter_map(|(_, end)| site.pool(end.pool)?.addresses().floating);
    floating
        .map(|address| SocketAddr::new(address, port))
        .collect()
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 60 * 60)
}

/// The limits of the link listener. More connections than the file descriptors of a process, or
/// none at all, are a slip of the pen.
fn link_limits(file: &File, path: Option<&Path>) -> Result<Limits, Failure> {
    let usual = Limits::default();
    let check = |name: &str, asked: Option<usize>, usual: usize| match asked {
        None => Ok(usual),
        Some(asked) if (1..=1_000_000).contains(&asked) => Ok(asked),
        Some(asked) => {
            let from =
                path.map_or_else(String::new, |path| format!("--config {}: ", path.display()));
            let message = format!(
                "{from}{name} is {asked}; it must be 1 to 1000000: set one of these, or leave the \
                 setting out for {usual}"
            );
            Err(Failure::new(Exit::Usage, message))
        }
    };
    Ok(Limits {
        connections: check("link_connections", file.link_connections, usual.connections)?,
        per_source: check(
            "link_connections_per_source",
            file.link_connections_per_source,
            usual.per_source,
        )?,
        ..usual
    })
}

fn certificate_validity(flag: Option<u64>, setting: Option<u64>) -> Result<Duration, Failure> {
    let (asked, named) = match (flag, setting) {
        (Some(asked), _) => (asked, "--certificate-validity"),
        (None, Some(asked)) => (asked, "certificate_validity_seconds"),
        (None, None) => return Ok(SUBCLOUD_VALIDITY),
    };
    if CERTIFICATE_SECONDS.contains(&asked) {
        return Ok(Duration::from_secs(asked));
    }
    let (least, most) = (CERTIFICATE_SECONDS.start(), CERTIFICATE_SECONDS.end());
    let message = format!("{named} is {asked}; it must be {least} to {most} seconds");
    Err(Failure::new(Exit::Usage, message))
}

/// For how long agents wait for this controller before they turn to a peer of it.
fn failover(milliseconds: Option<u64>, file: Option<&Path>) -> Result<Duration, Failure> {
    let asked = milliseconds.map_or(fleet::FAILOVER, Duration::from_millis);
    if fleet::FAILOVER_BOUNDS.contains(&asked) {
        return Ok(asked);
    }
    let (least, most) = (fleet::FAILOVER_BOUNDS.start(), fleet::FAILOVER_BOUNDS.end());
    let file = file.unwrap_or(Path::new("")).display();
    let message = format!(
        "--config {file}: failover_milliseconds is {}; give {} to {}",
        asked.as_millis(),
        least.as_millis(),
        most.as_millis()
    );
    Err(Failure::new(Exit::Usage, message))
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
