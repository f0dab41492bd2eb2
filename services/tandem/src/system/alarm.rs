//! `system alarm-list`.

use api::site_v1::{Alarm, ListAlarmsRequest};
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
    /// List the alarms that are raised, oldest first; at the controller with those of its fleet
    #[command(
        name = "alarm-list",
        after_help = "Example:\n  tandem system alarm-list -f json"
    )]
    List,
}

const COLUMNS: [Column; 6] = [
    Column::titled("alarm_id", "alarm id"),
    Column::titled("reason_text", "reason text").prose(),
    Column::new("entity"),
    Column::new("severity"),
    Column::titled("time_stamp", "time stamp"),
    Column::titled("proposed_repair", "proposed repair").prose(),
];

impl AlarmCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::List => Shape::reads(&COLUMNS),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::List => {
                let mut client = session.site();
                let alarms = every_page(async |page_token| {
                    let request = ListAlarmsRequest {
                        page_size: PAGE_SIZE,
                        page_token,
                    };
                    let page = call(client.list_alarms(request)).await?;
                    Ok((page.alarms, page.next_page_token))
                })
                .await?;
                let rows = alarms.into_iter().map(|alarm| row(session, alarm));
                Ok(Answer::new(Body::list(&COLUMNS, rows)))
            }
        }
    }
}

fn row(session: &Session, alarm: Alarm) -> [Cell; 6] {
    let Alarm {
        uuid: _,
        id,
        severity,
        entity,
        reason,
        raised_at_milliseconds,
        repair,
    } = alarm;
    [
        Cell::text(id),
        Cell::text(reason),
        Cell::text(entity),
        wording::severity(severity),
        wording::time(raised_at_milliseconds),
        Cell::text(session.advice(repair)),
    ]
}
