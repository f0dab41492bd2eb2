//! `dcmanager subcloud errors`: why a subcloud was refused.
//!
//! A report that is refused stays on the record of the subcloud; an addition or enrollment that
//! is refused leaves no record at all, only an event. Both are shown together.

use api::fleet_v1::{FleetEvent, Subcloud, Violation};

use super::{event, subcloud};
use crate::answer::Answer;
use crate::failure::Failure;
use crate::moment::Period;
use crate::output::{Body, Cell, Column};
use crate::session::Session;
use crate::wording;

/// The columns of the list.
pub(crate) const COLUMNS: [Column; 6] = [
    Column::new("at"),
    Column::new("kind"),
    Column::new("reason"),
    Column::new("message").prose(),
    Column::new("remedy").prose(),
    Column::new("field"),
];

/// The kind of a refusal that holds now and of which no event is left.
const PRESENT: &str = "REPORT_REFUSED";

/// Lists the refusals of a subcloud, by name or uuid, newest first.
///
/// # Errors
/// No subcloud and no event of that name.
pub(crate) async fn list(session: &Session, name: String) -> Result<Answer, Failure> {
    match subcloud::get(session, name.clone()).await {
        Ok(Subcloud { name, refused, .. }) => {
            let events = event::all(session, Period::default(), &name, "").await?;
            let rows = rows(refused, events);
            let none = rows.is_empty();
            let answer = Answer::new(Body::list(&COLUMNS, rows));
            Ok(if none {
                answer.note(format!("{name} was never refused"))
            } else {
                answer
            })
        }
        Err(failure) if failure.is_not_found() => {
            let rows = rows(
                Vec::new(),
                event::all(session, Period::default(), &name, "").await?,
            );
            if rows.is_empty() {
                Err(failure)
            } else {
                Ok(Answer::new(Body::list(&COLUMNS, rows)))
            }
        }
        Err(failure) => Err(failure),
    }
}

fn rows(refused: Vec<Violation>, events: Vec<FleetEvent>) -> Vec<[Cell; 6]> {
    let has_event = events
        .iter()
        .any(|event| !refused.is_empty() && event.violations == refused);
    let present = if has_event { Vec::new() } else { refused };
    let mut rows: Vec<_> = present
        .into_iter()
        .map(|fault| row(Cell::none(), PRESENT, fault))
        .collect();
    for FleetEvent {
        at_milliseconds,
        kind,
        violations,
        ..
    } in events
    {
        let at = wording::time(at_milliseconds);
        rows.extend(
            violations
                .into_iter()
                .map(|fault| row(at.clone(), &kind, fault)),
        );
    }
    rows
}

fn row(at: Cell, kind: &str, fault: Violation) -> [Cell; 6] {
    let Violation {
        reason,
        message,
        remedy,
        field,
        objects: _,
        metadata: _,
    } = fault;
    [
        at,
        Cell::text(kind),
        Cell::text(reason),
        Cell::text(message),
        Cell::text(remedy),
        Cell::text(field),
    ]
}
