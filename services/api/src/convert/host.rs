//! Hosts of a site and its alarms: messages and records to domain and back.

use site::{Administrative, Alarm, ConfigurationId, Host, Personality, Severity, Timestamp};

use super::parse_uuid;
use crate::site_v1 as wire;

/// A host.
pub fn host_to_wire(host: &Host) -> wire::Host {
    let Host {
        hostname,
        personality,
        administrative,
        target,
        applied,
        reboot_required,
    } = host;
    wire::Host {
        hostname: hostname.clone(),
        personality: match personality {
            Personality::Controller => wire::Personality::Controller,
            Personality::Worker => wire::Personality::Worker,
            Personality::Storage => wire::Personality::Storage,
        } as i32,
        administrative: match administrative {
            Administrative::Locked => wire::AdministrativeState::Locked,
            Administrative::Unlocked => wire::AdministrativeState::Unlocked,
        } as i32,
        target_configuration: target.0,
        applied_configuration: applied.0,
        reboot_required: *reboot_required,
    }
}

pub(super) fn host_from_wire(message: &wire::Host) -> Result<Host, String> {
    let wire::Host {
        hostname,
        personality,
        administrative,
        target_configuration,
        applied_configuration,
        reboot_required,
    } = message;
    let personality = match wire::Personality::try_from(*personality) {
        Ok(wire::Personality::Controller) => Personality::Controller,
        Ok(wire::Personality::Worker) => Personality::Worker,
        Ok(wire::Personality::Storage) => Personality::Storage,
        Ok(wire::Personality::Unspecified) | Err(_) => {
            return Err(format!("personality {personality} is unknown"));
        }
    };
    let administrative = match wire::AdministrativeState::try_from(*administrative) {
        Ok(wire::AdministrativeState::Locked) => Administrative::Locked,
        Ok(wire::AdministrativeState::Unlocked) => Administrative::Unlocked,
        Ok(wire::AdministrativeState::Unspecified) | Err(_) => {
            return Err(format!("administrative state {administrative} is unknown"));
        }
    };
    Ok(Host {
        hostname: hostname.clone(),
        personality,
        administrative,
        target: ConfigurationId(*target_configuration),
        applied: ConfigurationId(*applied_configuration),
        reboot_required: *reboot_required,
    })
}

/// An alarm.
pub fn alarm_to_wire(alarm: &Alarm) -> wire::Alarm {
    let Alarm {
        uuid,
        id,
        severity,
        entity,
        reason,
        raised_at,
        repair,
    } = alarm;
    wire::Alarm {
        uuid: uuid.to_string(),
        id: id.clone(),
        severity: match severity {
            Severity::Critical => wire::Severity::Critical,
            Severity::Major => wire::Severity::Major,
            Severity::Minor => wire::Severity::Minor,
            Severity::Warning => wire::Severity::Warning,
        } as i32,
        entity: entity.clone(),
        reason: reason.clone(),
        raised_at_milliseconds: raised_at.0,
        repair: repair.clone(),
    }
}

pub(super) fn alarm_from_wire(message: &wire::Alarm) -> Result<Alarm, String> {
    let wire::Alarm {
        uuid,
        id,
        severity,
        entity,
        reason,
        raised_at_milliseconds,
        repair,
    } = message;
    let severity = match wire::Severity::try_from(*severity) {
        Ok(wire::Severity::Critical) => Severity::Critical,
        Ok(wire::Severity::Major) => Severity::Major,
        Ok(wire::Severity::Minor) => Severity::Minor,
        Ok(wire::Severity::Warning) => Severity::Warning,
        Ok(wire::Severity::Unspecified) | Err(_) => {
            return Err(format!("severity {severity} is unknown"));
        }
    };
    Ok(Alarm {
        uuid: parse_uuid(uuid)?,
        id: id.clone(),
        severity,
        entity: entity.clone(),
        reason: reason.clone(),
        raised_at: Timestamp(*raised_at_milliseconds),
        repair: repair.clone(),
    })
}
