//! What `serve` is told: the command line over a file, made one checked value before any socket
//! is bound.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use daemon::{Exit, Failure, LogOptions, OperatorOptions};
use fleet::{ControllerConfig, DEFAULT_FLEET_LIMIT, Endpoint, SourceCheck};
use identity::{Ca, Limits, SUBCLOUD_VALIDITY};
use serde::Deserialize;
use site::{NetworkKind, Rank, Site};

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

/// Shorter, and a certificate would end before an agent that reconnects could renew it; longer
/// than thirty days, and a stolen one would serve for longer than anybody looks.
const CERTIFICATE_SECONDS: Number = number(
    "certificate_validity_seconds",
    4,
    30 * 24 * 60 * 60,
    SUBCLOUD_VALIDITY.as_secs(),
);
/// For how long agents wait for this controller before they turn to a peer of it.
const FAILOVER: Number = number(
    "failover_milliseconds",
    milliseconds(*fleet::FAILOVER_BOUNDS.start()),
    milliseconds(*fleet::FAILOVER_BOUNDS.end()),
    milliseconds(fleet::FAILOVER),
);
/// Subclouds in all. One costs some kilobytes.
const FLEET: Number = number("fleet_limit", 1, 1_000_000, whole(DEFAULT_FLEET_LIMIT));
/// More connections than the file descriptors of a process, or none at all, are a slip of the pen.
const CONNECTIONS: Number = number("link_connections", 1, 1_000_000, 20_000);
/// As for all of them.
const PER_SOURCE: Number = number("link_connections_per_source", 1, 1_000_000, 32);

const fn milliseconds(time: Duration) -> u64 {
    time.as_secs() * 1000 + time.subsec_millis() as u64
}

const fn whole(number: usize) -> u64 {
    number as u64
}

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
    /// [default: every oam address that this host has, port 8442]
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
    fleet_limit: Option<u64>,
    link_connections: Option<u64>,
    link_connections_per_source: Option<u64>,
    event_log_entries: Option<u64>,
    event_log_days: Option<u64>,
    audit_log_entries: Option<u64>,
    audit_log_days: Option<u64>,
    watch_history_changes: Option<u64>,
}

/// Takes numbers from flags and from the file, and collects what is wrong with them.
struct Numbers {
    /// Where settings come from, for messages.
    file: String,
    faults: Vec<String>,
}

impl Numbers {
    /// What the file sets, or the default.
    fn of(&mut self, number: &Number, asked: Option<u64>) -> u64 {
        let name = format!("{}{}", self.file, number.name);
        self.named(&name, number, asked)
    }

    /// The same under the name of a flag.
    fn named(&mut self, name: &str, number: &Number, asked: Option<u64>) -> u64 {
        let Number {
            name: _,
            least,
            most,
            default,
        } = number;
        let value = asked.unwrap_or(*default);
        if !(*least..=*most).contains(&value) {
            self.faults
                .push(format!("{name} is {value}; give {least} to {most}"));
        }
        value
    }

    fn count(&mut self, number: &Number, asked: Option<u64>) -> usize {
        usize::try_from(self.of(number, asked)).unwrap_or(usize::MAX)
    }

    /// Every fault at once.
    fn judged(self) -> Result<(), Failure> {
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Exit::Usage, self.faults.join("\n")))
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
        let from = options.config.as_deref();
        let mut numbers = Numbers {
            file: from.map_or_else(String::new, |path| format!("--config {}: ", path.display())),
            faults: Vec::new(),
        };
        let certificate = match options.certificate_validity {
            None => numbers.of(&CERTIFICATE_SECONDS, file.certificate_validity_seconds),
            flag => numbers.named("--certificate-validity", &CERTIFICATE_SECONDS, flag),
        };
        let mut keep = |entries: (&Number, Option<u64>), days: (&Number, Option<u64>)| Keep {
            entries: numbers.of(entries.0, entries.1),
            age: Duration::from_secs(numbers.of(days.0, days.1) * 24 * 60 * 60),
        };
        let logs = LogBounds {
            events: keep(
                (&EVENT_ENTRIES, file.event_log_entries),
                (&EVENT_DAYS, file.event_log_days),
            ),
            audit: keep(
                (&AUDIT_ENTRIES, file.audit_log_entries),
                (&AUDIT_DAYS, file.audit_log_days),
            ),
        };
        let heartbeat = numbers.of(&HEARTBEAT, file.heartbeat_interval_milliseconds);
        let failover = numbers.of(&FAILOVER, file.failover_milliseconds);
        let link_limits = Limits {
            connections: numbers.count(&CONNECTIONS, file.link_connections),
            per_source: numbers.count(&PER_SOURCE, file.link_connections_per_source),
            ..Limits::default()
        };
        let watch_history = numbers.count(&WATCH_HISTORY, file.watch_history_changes);
        let fleet_limit = numbers.count(&FLEET, file.fleet_limit);
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
        numbers.judged()?;
        Ok(Self {
            operator_socket: socket.unwrap_or_else(|| options.state_dir.join("operator.sock")),
            operator_listen: listen(
                options.operators.operator_listen,
                file.operator_listen,
                OPERATOR_PORT,
            ),
            link_listen: link_listen(site, options.link_listen.or(file.link_listen))?,
            console_listen: listen(options.console_listen, file.console_listen, CONSOLE_PORT),
            certificate_validity: Duration::from_secs(certificate),
            link_limits,
            source_check,
            heartbeat_interval: Duration::from_millis(heartbeat),
            logs,
            watch_history,
            failover: Duration::from_millis(failover),
            fleet_limit,
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

/// The floating addresses of oam, both families on one port. A secondary one may have been given to
/// the site before the host got it: then this process does without, and says so.
fn on_oam(site: &Site, port: u16) -> Vec<SocketAddr> {
    let oam = site.network(NetworkKind::Oam);
    let pools = oam.iter().flat_map(|oam| oam.pools().iter());
    let floating = pools.filter_map(|(rank, end)| {
        let address = site.pool(end.pool)?.addresses().floating?;
        let served = rank == Rank::Primary || host_has(address);
        if !served {
            tracing::warn!(
                %address,
                port,
                "nobody is served at the secondary oam address: this host does not have it; give \
                 it to the host and restart"
            );
        }
        served.then(|| SocketAddr::new(address, port))
    });
    floating.collect()
}

/// Whether something could listen there.
fn host_has(address: IpAddr) -> bool {
    let bound = TcpListener::bind((address, 0));
    !bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
}

fn read(path: &Path) -> Result<File, Failure> {
    let wrong = |exit, problem: String| {
        Failure::new(exit, format!("--config {}: {problem}", path.display()))
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| wrong(Exit::NoInput, error.to_string()))?;
    toml::from_str(&text).map_err(|error| wrong(Exit::Usage, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example sets everything, to what it is without.
    #[test]
    fn the_example_has_every_setting_with_its_default() {
        let example = include_str!("../../../deploy/examples/system-controller.toml");
        let set: toml::Table = toml::from_str(example).expect("TOML");
        let File {
            operator_socket,
            operator_listen,
            link_listen,
            source_check,
            console_listen,
            heartbeat_interval_milliseconds,
            certificate_validity_seconds,
            failover_milliseconds,
            fleet_limit,
            link_connections,
            link_connections_per_source,
            event_log_entries,
            event_log_days,
            audit_log_entries,
            audit_log_days,
            watch_history_changes,
        } = toml::from_str(example).expect("settings");
        // Where it listens depends on the site; the example says it in comments.
        assert!(operator_socket.is_none() && operator_listen.is_none());
        assert!(link_listen.is_none() && console_listen.is_none());
        assert!(matches!(source_check, Some(Check::Strict)));
        let numbers = [
            (HEARTBEAT, heartbeat_interval_milliseconds),
            (CERTIFICATE_SECONDS, certificate_validity_seconds),
            (FAILOVER, failover_milliseconds),
            (FLEET, fleet_limit),
            (CONNECTIONS, link_connections),
            (PER_SOURCE, link_connections_per_source),
            (EVENT_ENTRIES, event_log_entries),
            (EVENT_DAYS, event_log_days),
            (AUDIT_ENTRIES, audit_log_entries),
            (AUDIT_DAYS, audit_log_days),
            (WATCH_HISTORY, watch_history_changes),
        ];
        assert_eq!(set.len(), numbers.len() + 1);
        for (number, set) in numbers {
            assert_eq!(set, Some(number.default), "{}", number.name);
        }
        let usual = Limits::default();
        assert_eq!(CONNECTIONS.default, whole(usual.connections));
        assert_eq!(PER_SOURCE.default, whole(usual.per_source));
    }
}
