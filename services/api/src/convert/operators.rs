//! Operators and the audit log: messages and records to domain and back.

use fleet::{Action, Fingerprint, Operator, OperatorRole, Position, SiteMethod};
use site::Timestamp;

use super::{Malformed, bytes32, excerpt, value_of};
use crate::fleet_v1 as wire;
use crate::store_v1 as record;

/// An operator as others see it.
pub fn operator_to_wire(operator: &Operator) -> wire::Operator {
    let Operator {
        name,
        role,
        key,
        created_at,
        expires_at,
        revoked_at,
    } = operator;
    wire::Operator {
        name: name.clone(),
        role: operator_role_to_wire(*role) as i32,
        key_sha256: key.to_string(),
        created_at_milliseconds: created_at.0,
        expires_at_milliseconds: expires_at.0,
        revoked_at_milliseconds: revoked_at.map_or(0, |at| at.0),
    }
}

/// The record of an operator.
pub fn operator_to_record(operator: &Operator) -> record::OperatorRecord {
    let Operator {
        name,
        role,
        key,
        created_at,
        expires_at,
        revoked_at,
    } = operator;
    record::OperatorRecord {
        name: name.clone(),
        role: operator_role_to_wire(*role) as i32,
        key_sha256: key.0.to_vec(),
        created_at_milliseconds: created_at.0,
        expires_at_milliseconds: expires_at.0,
        revoked_at_milliseconds: revoked_at.map_or(0, |at| at.0),
    }
}

/// Reads the record of an operator.
///
/// # Errors
/// The first field that cannot be read.
pub fn operator_from_record(record: record::OperatorRecord) -> Result<Operator, Malformed> {
    let record::OperatorRecord {
        name,
        role,
        key_sha256,
        created_at_milliseconds,
        expires_at_milliseconds,
        revoked_at_milliseconds: revoked,
    } = record;
    Ok(Operator {
        name,
        role: operator_role_from_wire(role)?,
        key: Fingerprint(bytes32("key_sha256", &key_sha256)?),
        created_at: Timestamp(created_at_milliseconds),
        expires_at: Timestamp(expires_at_milliseconds),
        revoked_at: (revoked != 0).then_some(Timestamp(revoked)),
    })
}

fn operator_role_to_wire(role: OperatorRole) -> wire::OperatorRole {
    match role {
        OperatorRole::Reader => wire::OperatorRole::Reader,
        OperatorRole::Configurator => wire::OperatorRole::Configurator,
        OperatorRole::Admin => wire::OperatorRole::Admin,
    }
}

/// Reads a role.
///
/// # Errors
/// None was given, or one that is not known here.
pub fn operator_role_from_wire(value: i32) -> Result<OperatorRole, Malformed> {
    match value_of("role", value, wire::OperatorRole::as_str_name)? {
        wire::OperatorRole::Reader => Ok(OperatorRole::Reader),
        wire::OperatorRole::Configurator => Ok(OperatorRole::Configurator),
        wire::OperatorRole::Admin => Ok(OperatorRole::Admin),
        wire::OperatorRole::Unspecified => Err(Malformed::new("role", "is missing")
            .remedy("give a role: reader, configurator or admin")),
    }
}

/// An entry of the audit log. Records keep it as text, so that one of another version is shown
/// as it was written.
pub fn audit_to_wire(position: Position, record: record::AuditRecord) -> wire::AuditEntry {
    let record::AuditRecord {
        at_milliseconds,
        actor,
        action,
        subcloud,
        name,
        done,
        violations,
        detail,
        sent,
    } = record;
    wire::AuditEntry {
        sequence: position.0,
        at_milliseconds,
        actor,
        action,
        subcloud_uuid: subcloud,
        name,
        done,
        violations,
        detail,
        sent,
    }
}

/// The names of all actions, but those that name a method.
pub fn action_names() -> impl Iterator<Item = &'static str> {
    Action::ALL.iter().map(|action| action.name())
}

/// The action that a request filters by; empty for all.
///
/// # Errors
/// A name that no action has: no entry could ever match it.
pub fn action_from_wire(name: &str) -> Result<String, Malformed> {
    let of_a_site = |method: &SiteMethod| {
        method.changes() && (method.audit_name() == name || method.own_audit_name() == name)
    };
    let known = name.is_empty()
        || name.starts_with('/')
        || Action::ALL.iter().any(|action| action.name() == name)
        || SiteMethod::ALL.iter().any(of_a_site);
    if known {
        return Ok(name.to_owned());
    }
    let problem = format!("`{}` is no action", excerpt(name));
    let valid = "give one that `tandem dcmanager audit list --help` lists";
    Err(Malformed::new("action", problem).remedy(valid))
}

/// Checks that a range of time is one: `until` is after `since` unless it is 0.
///
/// # Errors
/// A range that nothing can lie in.
pub fn time_range(since: u64, until: u64) -> Result<(), Malformed> {
    if until != 0 && until <= since {
        let problem = format!("is {until}, which is not after since_milliseconds, {since}");
        let valid = format!("give 0 for no bound, or more than {since}");
        return Err(Malformed::new("until_milliseconds", problem).remedy(valid));
    }
    Ok(())
}
