//! `dcmanager audit …`.

use api::fleet_v1::{AuditEntry, ListAuditEntriesRequest, Violation};
use clap::{Args, Subcommand};

use crate::answer::Answer;
use crate::failure::Failure;
use crate::moment::Period;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page};
use crate::wording;

/// The audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List who asked for what, with which outcome, newest first: every call that changes
    /// something
    #[command(
        after_help = "Example:\n  tandem dcmanager audit list --since 2h --actor \
                      operator/admin/alice"
    )]
    List(Filter),
}

/// Which entries are listed.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    #[command(flatten)]
    period: Period,
    /// Only entries about the subcloud of this name or uuid
    #[arg(long, value_name = "NAME", default_value_t, hide_default_value = true)]
    subcloud: String,
    #[arg(long, default_value_t, hide_default_value = true, help = action_help())]
    action: String,
    /// Only entries of this actor, such as local/uid-0 or operator/admin/alice
    #[arg(long, default_value_t, hide_default_value = true)]
    actor: String,
}

/// What `--help` says of `--action`.
fn action_help() -> String {
    let names: Vec<&str> = api::convert::action_names().collect();
    format!(
        "Only entries of this action: {}; or COMMAND or SITE and a method, such as \
         'COMMAND UpdateDns'",
        names.join(", ")
    )
}

const COLUMNS: [Column; 7] = [
    Column::new("sequence"),
    Column::new("at"),
    Column::new("actor"),
    Column::new("action"),
    Column::new("name"),
    Column::new("outcome"),
    Column::new("reason").prose(),
];

impl AuditCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::List(_) => Shape::reads(&COLUMNS),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        let Self::List(filter) = self;
        let mut client = session.operators();
        let entries = every_page(async |page_token| {
            let request = ListAuditEntriesRequest {
                page_size: PAGE_SIZE,
                page_token,
                since_milliseconds: filter.period.since(),
                until_milliseconds: filter.period.until(),
                subcloud: filter.subcloud.clone(),
                action: filter.action.clone(),
                actor: filter.actor.clone(),
            };
            let page = call(client.list_audit_entries(request)).await?;
            Ok((page.entries, page.next_page_token))
        })
        .await?;
        Ok(Answer::new(Body::list(
            &COLUMNS,
            entries.into_iter().map(row),
        )))
    }
}

fn row(entry: AuditEntry) -> [Cell; 7] {
    let AuditEntry {
        sequence,
        at_milliseconds,
        actor,
        action,
        subcloud_uuid: _,
        name,
        done,
        violations,
        detail,
        sent,
    } = entry;
    let mut reasons: Vec<String> = violations
        .into_iter()
        .map(
            |Violation {
                 reason, message, ..
             }| format!("{reason}: {message}"),
        )
        .collect();
    reasons.extend((!detail.is_empty()).then_some(detail));
    let outcome = match (done, sent) {
        (true, _) => "done",
        (false, true) => "sent",
        (false, false) => "refused",
    };
    [
        Cell::number(sequence),
        wording::time(at_milliseconds),
        Cell::text(actor),
        Cell::text(action),
        Cell::text(name),
        Cell::text(outcome),
        Cell::text(reasons.join("; ")),
    ]
}
