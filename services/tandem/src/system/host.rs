//! `system host-…`.

use api::site_v1::{
    Host, ListHostsRequest, LockHostRequest, LockHostResponse, UnlockHostRequest,
    UnlockHostResponse,
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
            Self::Lock { .. } | Self::Unlock { .. } => Shape::changes(&COLUMNS),
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
                Answer::of_change(session, effects, || record(host))
            }
        }
    }
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
