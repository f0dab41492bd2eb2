//! `system host-…`.

use api::site_v1::{
    Host, ListHostsRequest, LockHostRequest, LockHostResponse, ReportHostRequest,
    ReportHostResponse, UnlockHostRequest, UnlockHostResponse,
};
use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{Session, call, promised};
use crate::wording;

/// Hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// List the hosts with the configuration that they have and shall have
    #[command(name = "host-list", after_help = "Example:\n  tandem system host-list")]
    List,
    /// Lock a host: take it out of service
    #[command(
        name = "host-lock",
        after_help = "Example:\n  tandem system host-lock controller-1 --dry-run"
    )]
    Lock {
        /// Hostname
        hostname: String,
    },
    /// Unlock a host: it applies its target configuration
    #[command(
        name = "host-unlock",
        after_help = "Example:\n  tandem system host-unlock controller-1"
    )]
    Unlock {
        /// Hostname
        hostname: String,
    },
    /// Report what a host has applied, where no agent of the host does it
    #[command(
        name = "host-report",
        long_about = "Report what a host has applied.\n\nOn a site with several hosts, alarm \
                      250.001 of a host is cleared by its report and by nothing else: an unlock \
                      alone does not tell that the host came up with its configuration. An agent \
                      of the host reports by itself; where there is none, look at the host and \
                      then report in its place. A report does not count while the host still has \
                      to be locked and unlocked.",
        after_help = "Example:\n  tandem system host-report controller-1"
    )]
    Report {
        /// Hostname
        hostname: String,
        /// The configuration that the host has applied [default: its target configuration]
        #[arg(long, value_name = "NUMBER")]
        applied_configuration: Option<u64>,
    },
}

const COLUMNS: [Column; 6] = [
    Column::new("hostname"),
    Column::new("personality"),
    Column::new("administrative"),
    Column::new("target_configuration"),
    Column::new("applied_configuration"),
    Column::new("reboot_required"),
];

impl HostCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::List => Shape::reads(&COLUMNS),
            Self::Lock { .. } | Self::Unlock { .. } | Self::Report { .. } => {
                Shape::changes(&COLUMNS)
            }
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        let (validate_only, request_id) = (session.dry_run(), String::new());
        match self {
            Self::List => {
                let answer = call(session.site().list_hosts(ListHostsRequest {})).await?;
                Ok(Answer::new(Body::list(
                    &COLUMNS,
                    answer.hosts.into_iter().map(row),
                )))
            }
            Self::Lock { hostname } => {
                let request = LockHostRequest {
                    hostname,
                    validate_only,
                    request_id,
                };
                let LockHostResponse { host, effects } =
                    call(session.site().lock_host(request)).await?;
                Answer::of_change(session, effects, || record(host))
            }
            Self::Unlock { hostname } => {
                let request = UnlockHostRequest {
                    hostname,
                    validate_only,
                    request_id,
                };
                let UnlockHostResponse { host, effects } =
                    call(session.site().unlock_host(request)).await?;
                let waits = host.as_ref().and_then(waits_for_report);
                let answer = Answer::of_change(session, effects, || record(host))?;
                Ok(match waits {
                    Some(note) => answer.note(note),
                    None => answer,
                })
            }
            Self::Report {
                hostname,
                applied_configuration,
            } => {
                let applied_configuration = match applied_configuration {
                    Some(number) => number,
                    None => target_of(session, &hostname).await?,
                };
                let request = ReportHostRequest {
                    hostname,
                    applied_configuration,
                    validate_only,
                    request_id,
                };
                let ReportHostResponse { host, effects } =
                    call(session.site().report_host(request)).await?;
                Answer::of_change(session, effects, || record(host))
            }
        }
    }
}

/// The target configuration of a host. Of a host that is not there it is 0: the report is then
/// refused with the reason.
async fn target_of(session: &Session, hostname: &str) -> Result<u64, Failure> {
    let listed = call(session.site().list_hosts(ListHostsRequest {})).await?;
    let mut hosts = listed.hosts.into_iter();
    let host = hosts.find(|host| host.hostname == hostname);
    Ok(host.map_or(0, |host| host.target_configuration))
}

/// What an operator should know of a host that is unlocked and still counts as out of date.
fn waits_for_report(host: &Host) -> Option<String> {
    let name = &host.hostname;
    (host.applied_configuration != host.target_configuration).then(|| {
        format!(
            "{name} counts as out of date (alarm 250.001) until it is reported to have applied \
             configuration {}: by its agent, or with `system host-report {}`",
            host.target_configuration,
            site::Word(name)
        )
    })
}

fn record(host: Option<Host>) -> Result<Body, Failure> {
    Ok(Body::record(&COLUMNS, row(promised(host, "host")?)))
}

fn row(host: Host) -> [Cell; 6] {
    let Host {
        hostname,
        personality,
        administrative,
        target_configuration,
        applied_configuration,
        reboot_required,
    } = host;
    [
        Cell::text(hostname),
        wording::personality(personality),
        wording::administrative(administrative),
        Cell::number(target_configuration),
        Cell::number(applied_configuration),
        Cell::flag(reboot_required),
    ]
}
