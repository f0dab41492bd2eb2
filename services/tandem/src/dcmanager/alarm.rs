//! `dcmanager alarm …`.

use api::fleet_v1::{AlarmCounts, AlarmSummary, ListAlarmSummariesRequest};
use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page};
use crate::wording;

/// Alarms.
#[derive(Debug, Subcommand)]
pub(crate) enum AlarmCommand {
    /// Count the alarms of each subcloud: its own, as it reported them, and the fleet's about it
    #[command(after_help = "Example:\n  tandem dcmanager alarm summary")]
    Summary,
}

const COLUMNS: [Column; 6] = [
    Column::titled("name", "NAME"),
    Column::titled("critical_alarms", "CRITICAL_ALARMS"),
    Column::titled("major_alarms", "MAJOR_ALARMS"),
    Column::titled("minor_alarms", "MINOR_ALARMS"),
    Column::titled("warnings", "WARNINGS"),
    Column::titled("status", "STATUS"),
];

impl AlarmCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Summary => Shape::reads(&COLUMNS),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Summary => {
                let mut client = session.alarms();
                let summaries = every_page(async |page_token| {
                    let request = ListAlarmSummariesRequest {
                        page_size: PAGE_SIZE,
                        page_token,
                    };
                    let page = call(client.list_alarm_summaries(request)).await?;
                    Ok((page.summaries, page.next_page_token))
                })
                .await?;
                let rows = summaries.into_iter().map(row);
                Ok(Answer::new(Body::list(&COLUMNS, rows)))
            }
        }
    }
}

/// Counts that are not known are shown as such, not as none.
fn row(summary: AlarmSummary) -> [Cell; 6] {
    let AlarmSummary {
        subcloud,
        counts,
        status,
    } = summary;
    let count = |of: fn(&AlarmCounts) -> u32| match &counts {
        Some(counts) => Cell::number(of(counts)),
        None => Cell::text("-"),
    };
    [
        Cell::text(subcloud),
        count(|counts| counts.critical),
        count(|counts| counts.major),
        count(|counts| counts.minor),
        count(|counts| counts.warning),
        wording::alarm_status(status),
    ]
}
