//! The records of what happened, of alarms and of what operators did, to the domain and back.

use fleet::{
    Actor, AlarmKey, AlarmKind, AuditEntry, Event, EventKind, FleetAlarm, Outcome, Position,
    SubcloudId,
};
use site::{Generation, Timestamp};

use super::records::at;
use super::{Malformed, fault_from_wire, fault_to_wire, parse_uuid};
use crate::store_v1 as wire;

/// The record of an event.
pub fn event_to_record(event: &Event) -> wire::EventRecord {
    let Event {
        position: _,
        at,
        subcloud,
        name,
        kind,
    } = event;
    let (generation, faults) = match kind {
        EventKind::EnrollmentRefused { faults } | EventKind::IdentityCloned { faults } => {
            (Generation(0), faults.as_slice())
        }
        EventKind::ReportRefused { generation, faults } => (*generation, faults.as_slice()),
        EventKind::ReportAccepted { generation } => (*generation, &[][..]),
        EventKind::Quarantined
        | EventKind::Released
        | EventKind::AlarmRaised { .. }
        | EventKind::AlarmCleared { .. }
        | EventKind::Added
        | EventKind::TokenIssued
        | EventKind::Enrolled
        | EventKind::TakenOver
        | EventKind::Demoted
        | EventKind::Updated
        | EventKind::Managed
        | EventKind::Unmanaged
        | EventKind::Deleted
        | EventKind::Reenrolled
        | EventKind::GroupAdded
        | EventKind::GroupUpdated
        | EventKind::GroupDeleted
        | EventKind::CertificateRenewed
        | EventKind::CertificateNewer
        | EventKind::Online
        | EventKind::Offline => (Generation(0), &[][..]),
    };
    let (alarm_id, alarm_entity, alarm_reason) = match kind {
        EventKind::AlarmRaised {
            alarm,
            entity,
            reason,
        } => (alarm.id(), entity.as_str(), reason.as_str()),
        EventKind::AlarmCleared { alarm, entity } => (alarm.id(), entity.as_str(), ""),
        _ => ("", "", ""),
    };
    wire::EventRecord {
        at_milliseconds: at.0,
        subcloud: subcloud.map(|id| id.to_string()).unwrap_or_default(),
        name: name.clone(),
        kind: kind.name().to_owned(),
        generation: generation.0,
        violations: faults.iter().map(fault_to_wire).collect(),
        alarm_id: alarm_id.to_owned(),
        alarm_entity: alarm_entity.to_owned(),
        alarm_reason: alarm_reason.to_owned(),
    }
}

/// Reads the record of an event.
///
/// # Errors
/// An unknown kind, or a subcloud that is no uuid.
pub fn event_from_record(
    position: Position,
    record: wire::EventRecord,
) -> Result<Event, Malformed> {
    let wire::EventRecord {
        at_milliseconds,
        subcloud,
        name,
        kind,
        generation,
        violations,
        alarm_id,
        alarm_entity,
        alarm_reason,
    } = record;
    let faults = violations.iter().map(fault_from_wire).collect();
    let alarm = || at("alarm_id", alarm_kind(&alarm_id));
    let generation = Generation(generation);
    let kind = match kind.as_str() {
        "ADDED" => EventKind::Added,
        "TOKEN_ISSUED" => EventKind::TokenIssued,
        "ENROLLED" => EventKind::Enrolled,
        "TAKEN_OVER" => EventKind::TakenOver,
        "DEMOTED" => EventKind::Demoted,
        "ENROLLMENT_REFUSED" => EventKind::EnrollmentRefused { faults },
        "REPORT_ACCEPTED" => EventKind::ReportAccepted { generation },
        "REPORT_REFUSED" => EventKind::ReportRefused { generation, faults },
        "UPDATED" => EventKind::Updated,
        "MANAGED" => EventKind::Managed,
        "UNMANAGED" => EventKind::Unmanaged,
        "DELETED" => EventKind::Deleted,
        "REENROLLED" => EventKind::Reenrolled,
        "GROUP_ADDED" => EventKind::GroupAdded,
        "GROUP_UPDATED" => EventKind::GroupUpdated,
        "GROUP_DELETED" => EventKind::GroupDeleted,
        "IDENTITY_CLONED" => EventKind::IdentityCloned { faults },
        "CERTIFICATE_RENEWED" => EventKind::CertificateRenewed,
        "CERTIFICATE_NEWER" => EventKind::CertificateNewer,
        "QUARANTINED" => EventKind::Quarantined,
        "RELEASED" => EventKind::Released,
        "ALARM_RAISED" => EventKind::AlarmRaised {
            alarm: alarm()?,
            entity: alarm_entity,
            reason: alarm_reason,
        },
        "ALARM_CLEARED" => EventKind::AlarmCleared {
            alarm: alarm()?,
            entity: alarm_entity,
        },
        "ONLINE" => EventKind::Online,
        "OFFLINE" => EventKind::Offline,
        other => return Err(Malformed::new("kind", format!("`{other}` is unknown"))),
    };
    let subcloud = subcloud_of(&subcloud)?;
    Ok(Event {
        position,
        at: Timestamp(at_milliseconds),
        subcloud,
        name,
        kind,
    })
}

/// The record of a raised alarm.
pub fn alarm_to_record(alarm: &FleetAlarm) -> wire::FleetAlarmRecord {
    let FleetAlarm {
        key: AlarmKey {
            subcloud,
            kind,
            subject,
        },
        name,
        reason,
        repair,
        raised_at,
    } = alarm;
    wire::FleetAlarmRecord {
        alarm_id: kind.id().to_owned(),
        subcloud: subcloud.map(|id| id.to_string()).unwrap_or_default(),
        subject: subject.clone(),
        name: name.clone(),
        reason: reason.clone(),
        repair: repair.clone(),
        raised_at_milliseconds: raised_at.0,
    }
}

/// Reads the record of a raised alarm.
///
/// # Errors
/// An unknown number, or a subcloud that is no uuid.
pub fn alarm_from_record(record: wire::FleetAlarmRecord) -> Result<FleetAlarm, Malformed> {
    let wire::FleetAlarmRecord {
        alarm_id,
        subcloud,
        subject,
        name,
        reason,
        repair,
        raised_at_milliseconds,
    } = record;
    Ok(FleetAlarm {
        key: AlarmKey {
            subcloud: subcloud_of(&subcloud)?,
            kind: at("alarm_id", alarm_kind(&alarm_id))?,
            subject,
        },
        name,
        reason,
        repair,
        raised_at: Timestamp(raised_at_milliseconds),
    })
}

fn alarm_kind(id: &str) -> Result<AlarmKind, String> {
    AlarmKind::from_id(id).ok_or_else(|| format!("`{id}` is unknown"))
}

fn subcloud_of(text: &str) -> Result<Option<SubcloudId>, Malformed> {
    match text {
        "" => Ok(None),
        text => Ok(Some(SubcloudId(at("subcloud", parse_uuid(text))?))),
    }
}

/// The record of an audit entry.
pub fn audit_to_record(entry: &AuditEntry) -> wire::AuditRecord {
    let AuditEntry {
        position: _,
        at,
        actor,
        action,
        subcloud,
        name,
        outcome,
    } = entry;
    let actor = match actor {
        Actor::Operator(name) => name.clone(),
        Actor::Stranger(address) => format!("stranger/{address}"),
    };
    let (faults, detail) = match outcome {
        Outcome::Done | Outcome::Sent => (&[][..], ""),
        Outcome::Refused { faults, detail } => (faults.as_slice(), detail.as_str()),
    };
    wire::AuditRecord {
        at_milliseconds: at.0,
        actor,
        action: action.name().to_owned(),
        subcloud: subcloud.map(|id| id.to_string()).unwrap_or_default(),
        name: name.clone(),
        done: *outcome == Outcome::Done,
        violations: faults.iter().map(fault_to_wire).collect(),
        detail: detail.to_owned(),
        sent: *outcome == Outcome::Sent,
    }
}
