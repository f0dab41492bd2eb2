//! `system dns-…`.

use api::site_v1::{GetDnsRequest, UpdateDnsRequest, UpdateDnsResponse};
use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{Session, call};
use crate::system::pairs::{is_clearing, pairs};

/// DNS servers.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Show the DNS servers
    #[command(
        name = "dns-show",
        after_help = "Example:\n  tandem system dns-show -f json"
    )]
    Show,
    /// Replace the DNS servers
    #[command(
        name = "dns-modify",
        after_help = "Example:\n  tandem system dns-modify \
                      nameservers=2001:4860:4860::8888,8.8.8.8\n  tandem system dns-modify \
                      nameservers=none"
    )]
    Modify {
        /// `nameservers=` and at most 3 addresses with commas between them, each of a family that
        /// oam has; `none` leaves the site without
        #[arg(required = true, value_name = "nameservers=A,B")]
        changes: Vec<String>,
    },
}

const PATH: &str = "nameservers";
const COLUMNS: [Column; 1] = [Column::new(PATH)];

impl DnsCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Show => Shape::reads(&COLUMNS),
            Self::Modify { .. } => Shape::changes(&COLUMNS),
        }
    }

    /// Finds what is wrong with the pairs.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Show => Ok(()),
            Self::Modify { changes } => servers(changes).map(drop),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Show => {
                let answer = call(session.site().get_dns(GetDnsRequest {})).await?;
                Ok(Answer::new(record(answer.servers)))
            }
            Self::Modify { changes } => {
                let request = UpdateDnsRequest {
                    servers: servers(&changes)?,
                    validate_only: session.dry_run(),
                    request_id: session.request_id(),
                };
                let UpdateDnsResponse { servers, effects } =
                    call(session.site().update_dns(request)).await?;
                Answer::of_change(session, effects, || Ok(record(servers)))
            }
        }
    }
}

fn servers(changes: &[String]) -> Result<Vec<String>, Failure> {
    let pairs = pairs(changes, &[PATH])?;
    let text = pairs
        .first()
        .map(|(_, value)| value.as_str())
        .unwrap_or_default();
    if is_clearing(text) {
        return Ok(Vec::new());
    }
    Ok(text
        .split(',')
        .map(|server| server.trim().to_owned())
        .collect())
}

fn record(servers: Vec<String>) -> Body {
    Body::record(&COLUMNS, [Cell::joined(servers)])
}
