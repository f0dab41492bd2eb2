//! One change of the fleet as text.

use api::fleet_v1::{FleetEvent, FleetResync, Subcloud, Violation, WatchFleetResponse};
use serde_json::{Value, json};

use super::subcloud;
use crate::failure::Failure;
use crate::output::{Format, printable};
use crate::wording;

/// Whole lines: one object for JSON, otherwise one line for a change and for each subcloud of a
/// resync.
///
/// # Errors
/// A change that lacks what the contract promises.
pub(crate) fn text(change: WatchFleetResponse, format: Format) -> Result<String, Failure> {
    let WatchFleetResponse {
        revision,
        resync,
        event,
        subcloud,
        removed_uuid,
    } = change;
    if format == Format::Json {
        let object = match resync {
            Some(resync) => resync_object(revision, resync),
            None => change_object(revision, event, subcloud, &removed_uuid),
        };
        return Ok(format!("{object}\n"));
    }
    let line = |kind: &str, text: &str| {
        format!(
            "{revision:>12}  {:<20}  {}\n",
            printable(kind),
            printable(text)
        )
    };
    if let Some(resync) = resync {
        let mut lines = match resync.first {
            true => line("RESYNC", "the whole fleet follows"),
            false => String::new(),
        };
        lines.extend(
            resync
                .subclouds
                .iter()
                .map(|it| line("SUBCLOUD", &summary(it))),
        );
        return Ok(lines);
    }
    Ok(match (event, subcloud) {
        (Some(event), _) => line(&event.kind, &event.message),
        (None, Some(subcloud)) => line("CHANGED", &summary(&subcloud)),
        (None, None) if !removed_uuid.is_empty() => line("REMOVED", &removed_uuid),
        (None, None) => {
            return Err(Failure::bad_answer(
                "the daemon tells of a change that this version does not know",
            ));
        }
    })
}

fn resync_object(revision: u64, resync: FleetResync) -> Value {
    let FleetResync {
        first,
        last,
        subclouds,
    } = resync;
    json!({
        "revision": revision.to_string(),
        "change": "resync",
        "first": first,
        "last": last,
        "subclouds": subclouds.iter().map(subcloud::machine).collect::<Vec<_>>(),
    })
}

fn change_object(
    revision: u64,
    event: Option<FleetEvent>,
    subcloud: Option<Subcloud>,
    removed_uuid: &str,
) -> Value {
    let event = event.map(|event| {
        let reasons = event.violations.iter();
        json!({
            "sequence": event.sequence,
            "at": wording::time_text(event.at_milliseconds),
            "kind": event.kind,
            "subcloud": event.subcloud,
            "message": event.message,
            "reasons": reasons.map(|Violation { reason, .. }| reason).collect::<Vec<_>>(),
        })
    });
    json!({
        "revision": revision.to_string(),
        "change": "change",
        "event": event,
        "subcloud": subcloud.as_ref().map(subcloud::machine),
        "removed_uuid": removed_uuid,
    })
}

fn summary(known: &Subcloud) -> String {
    format!("subcloud {} {}", known.name, subcloud::states(known))
}
