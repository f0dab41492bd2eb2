//! `dcmanager event …`.

use api::fleet_v1::{FleetEvent, ListFleetEventsRequest};
use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::moment::Period;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page};
use crate::wording;

/// Events.
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// List what happened, newest first: additions, enrollments, refusals, availability
    #[command(
        after_help = "Example:\n  tandem dcmanager event list --subcloud subcloud-1 --kind \
                      ENROLLMENT_REFUSED"
    )]
    List {
        #[command(flatten)]
        period: Period,
        /// Only events of the subcloud of this name
        #[arg(long, value_name = "NAME", default_value_t, hide_default_value = true)]
        subcloud: String,
        /// Only events of this kind, such as ENROLLMENT_REFUSED; a wrong one is answered with all
        #[arg(long, default_value_t, hide_default_value = true)]
        kind: String,
    },
}

const COLUMNS: [Column; 5] = [
    Column::new("sequence"),
    Column::new("at"),
    Column::new("kind"),
    Column::new("subcloud"),
    Column::new("message").prose(),
];

impl EventCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::List { .. } => Shape::reads(&COLUMNS),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::List {
                period,
                subcloud,
                kind,
            } => {
                let kind = kind.to_ascii_uppercase();
                let events = all(session, period, &subcloud, &kind).await?;
                let filtered = !(subcloud.is_empty() && kind.is_empty());
                let none = events.is_empty();
                let answer = Answer::new(Body::list(&COLUMNS, events.into_iter().map(row)));
                Ok(match none && filtered {
                    true => answer.note("no event is of that subcloud and kind"),
                    false => answer,
                })
            }
        }
    }
}

/// Every event of a subcloud and of a kind, newest first; an empty name or kind means any.
pub(super) async fn all(
    session: &Session,
    period: Period,
    subcloud: &str,
    kind: &str,
) -> Result<Vec<FleetEvent>, Failure> {
    let mut client = session.subclouds();
    every_page(async |page_token| {
        let request = ListFleetEventsRequest {
            page_size: PAGE_SIZE,
            page_token,
            subcloud: subcloud.to_owned(),
            kind: kind.to_owned(),
            since_milliseconds: period.since(),
            until_milliseconds: period.until(),
        };
        let page = call(client.list_fleet_events(request)).await?;
        Ok((page.events, page.next_page_token))
    })
    .await
}

fn row(event: FleetEvent) -> [Cell; 5] {
    let FleetEvent {
        sequence,
        at_milliseconds,
        kind,
        subcloud,
        message,
        violations: _,
    } = event;
    [
        Cell::number(sequence),
        wording::time(at_milliseconds),
        Cell::text(kind),
        Cell::text(subcloud),
        Cell::text(message),
    ]
}
