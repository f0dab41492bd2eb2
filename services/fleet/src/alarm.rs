//! Alarms of the fleet: what is wrong with a subcloud, or with many at once, seen from here.
//!
//! They are durable: `raised_at` tells how long a condition has lasted, and a controller that
//! restarts in the middle of an outage must neither forget when it began nor raise all of it
//! again.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use site::{Alarm, Severity, Timestamp};
use uuid::Uuid;

use crate::{RolloutId, Subcloud, SubcloudId};

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// A managed subcloud is offline.
    Offline,
    /// A desired change of a managed subcloud is not in effect, or what the controller knows of
    /// it is not what it is.
    OutOfSync,
    /// The newest report of a subcloud broke the rules; no command goes out to it.
    Quarantined,
    /// Two sites use the identity of one subcloud.
    IdentityCloned,
    /// Many managed subclouds went offline at once; each has its own alarm too.
    MassOutage,
}

impl AlarmKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Offline,
        Self::OutOfSync,
        Self::Quarantined,
        Self::IdentityCloned,
        Self::MassOutage,
    ];

    /// The number. Those from 280.101 on are this project's own.
    pub fn id(self) -> &'static str {
        match self {
            Self::Offline => "280.001",
            Self::OutOfSync => "280.002",
            Self::Quarantined => "280.101",
            Self::IdentityCloned => "280.102",
            Self::MassOutage => "280.103",
        }
    }

    /// The kind of a number.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::Offline | Self::IdentityCloned | Self::MassOutage => Severity::Critical,
            Self::OutOfSync | Self::Quarantined => Severity::Major,
        }
    }
}

/// How the subject of an alarm about a rollout begins.
const OF_ROLLOUT: &str = "rollout=";

/// Names one alarm: there is at most one of each key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlarmKey {
    /// Which subcloud; `None` for the fleet as a whole.
    pub subcloud: Option<SubcloudId>,
    /// What kind.
    pub kind: AlarmKind,
    /// Tells alarms of one kind and subcloud apart, such as `rollout=NAME`; empty where there is
    /// one only.
    pub subject: String,
}

impl AlarmKey {
    /// The one alarm of a kind that a subcloud can have.
    pub fn of(subcloud: SubcloudId, kind: AlarmKind) -> Self {
        Self {
            subcloud: Some(subcloud),
            kind,
            subject: String::new(),
        }
    }

    /// A change that a rollout desires of a subcloud is not in effect.
    pub fn change_pending(subcloud: SubcloudId, rollout: &str) -> Self {
        Self {
            subject: format!("{OF_ROLLOUT}{rollout}"),
            ..Self::of(subcloud, AlarmKind::OutOfSync)
        }
    }

    /// Whether it is about a change that a rollout desires.
    pub fn is_of_rollout(&self) -> bool {
        self.kind == AlarmKind::OutOfSync && self.subject.starts_with(OF_ROLLOUT)
    }

    /// The rollout that desires the change that it is about.
    pub fn rollout(&self) -> Option<RolloutId> {
        let subject = self.subject.strip_prefix(OF_ROLLOUT);
        let number = subject.filter(|_| self.is_of_rollout())?.parse().ok()?;
        Some(RolloutId(number))
    }

    /// The controller's own networks are not in effect at a subcloud.
    pub fn networks_pending(subcloud: SubcloudId) -> Self {
        Self {
            subject: "controller-networks".to_owned(),
            ..Self::of(subcloud, AlarmKind::OutOfSync)
        }
    }

    /// The one alarm about many subclouds.
    pub fn mass_outage() -> Self {
        Self {
            subcloud: None,
            kind: AlarmKind::MassOutage,
            subject: String::new(),
        }
    }
}

/// A raised alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetAlarm {
    /// Which.
    pub key: AlarmKey,
    /// The name of the subcloud; that of the controller for the fleet as a whole.
    pub name: String,
    /// What happened.
    pub reason: String,
    /// What the operator can do.
    pub repair: String,
    /// Since when the condition lasts.
    pub raised_at: Timestamp,
}

/// Alarms are shared between the book, the writes that make them durable, and readers.
pub type SharedAlarm = Arc<FleetAlarm>;

impl FleetAlarm {
    /// The uuid of this occurrence. It follows from the key and the moment, so that it is the
    /// same after a restart without being kept.
    pub fn uuid(&self) -> Uuid {
        let AlarmKey {
            subcloud,
            kind,
            subject,
        } = &self.key;
        let mut hash = Sha256::new();
        hash.update(kind.id());
        hash.update(subcloud.map(|id| id.0).unwrap_or_default().as_bytes());
        hash.update(self.raised_at.0.to_be_bytes());
        hash.update(subject);
        let digest: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// What it is about, such as `subcloud=west-1`.
    pub fn entity(&self) -> String {
        let kind = match self.key.subcloud {
            Some(_) => "subcloud",
            None => "controller",
        };
        match self.key.subject.as_str() {
            "" => format!("{kind}={}", self.name),
            subject => format!("{kind}={}.{subject}", self.name),
        }
    }

    /// As an alarm among those of the controller's own site.
    pub fn shown(&self) -> Alarm {
        Alarm {
            uuid: self.uuid(),
            id: self.key.kind.id().to_owned(),
            severity: self.key.kind.severity(),
            entity: self.entity(),
            reason: self.reason.clone(),
            raised_at: self.raised_at,
            repair: self.repair.clone(),
        }
    }
}

/// How many alarms of each severity are raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AlarmCounts {
    /// Service is lost.
    pub critical: u32,
    /// Service is impaired.
    pub major: u32,
    /// Worth a look.
    pub minor: u32,
    /// For information.
    pub warning: u32,
}

impl AlarmCounts {
    /// Counts alarms by their severity.
    pub fn of(severities: impl Iterator<Item = Severity>) -> Self {
        let mut counts = Self::default();
        severities.for_each(|severity| counts.add(severity));
        counts
    }

    fn plus(self, other: Self) -> Self {
        Self {
            critical: self.critical.saturating_add(other.critical),
            major: self.major.saturating_add(other.major),
            minor: self.minor.saturating_add(other.minor),
            warning: self.warning.saturating_add(other.warning),
        }
    }

    fn status(self) -> AlarmStatus {
        if self.critical > 0 {
            AlarmStatus::Critical
        } else if self.major > 0 || self.minor > 0 {
            AlarmStatus::Degraded
        } else {
            AlarmStatus::Ok
        }
    }

    /// Counts one more.
    pub fn add(&mut self, severity: Severity) {
        let count = match severity {
            Severity::Critical => &mut self.critical,
            Severity::Major => &mut self.major,
            Severity::Minor => &mut self.minor,
            Severity::Warning => &mut self.warning,
        };
        *count = count.saturating_add(1);
    }
}

/// The alarms of one subcloud: its own, as it reported them, and those raised about it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmSummary {
    /// The name of the subcloud.
    pub subcloud: String,
    /// How many there are; `None` while the subcloud's own are not known.
    pub counts: Option<AlarmCounts>,
    /// What they come to.
    pub status: AlarmStatus,
}

/// What the alarms of a subcloud come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmStatus {
    /// None is worse than a warning.
    Ok,
    /// The worst is major or minor.
    Degraded,
    /// At least one is critical.
    Critical,
    /// Not watched: the subcloud is unmanaged, or has never reported.
    Disabled,
}

impl AlarmSummary {
    /// Sums up a subcloud about which `ours` are raised.
    pub fn of(record: &Subcloud, ours: AlarmCounts) -> Self {
        let reported = record.observed.as_ref().and_then(|known| known.alarms);
        let counts = reported.map(|reported| reported.plus(ours));
        let status = match counts {
            Some(counts) if record.managed() => counts.status(),
            _ => AlarmStatus::Disabled,
        };
        Self {
            subcloud: record.name.clone(),
            counts,
            status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occurrence_keeps_its_uuid_and_the_next_one_has_another() {
        let alarm = FleetAlarm {
            key: AlarmKey::of(SubcloudId(Uuid::from_u128(7)), AlarmKind::Offline),
            name: "a".to_owned(),
            reason: "gone".to_owned(),
            repair: "look".to_owned(),
            raised_at: Timestamp(5),
        };
        let renamed = FleetAlarm {
            name: "b".to_owned(),
            ..alarm.clone()
        };
        assert_eq!(alarm.uuid(), renamed.uuid());
        let later = FleetAlarm {
            raised_at: Timestamp(6),
            ..alarm.clone()
        };
        assert_ne!(alarm.uuid(), later.uuid());
        let pending = FleetAlarm {
            key: AlarmKey::change_pending(SubcloudId(Uuid::from_u128(7)), "r"),
            ..alarm.clone()
        };
        assert_ne!(alarm.uuid(), pending.uuid());
        assert_eq!(alarm.entity(), "subcloud=a");
        assert_eq!(pending.entity(), "subcloud=a.rollout=r");
        assert_eq!(pending.key.rollout(), None);
        let third = AlarmKey::change_pending(SubcloudId(Uuid::from_u128(7)), "3");
        assert_eq!(third.rollout(), Some(RolloutId(3)));
    }

    #[test]
    fn numbers_name_kinds_and_only_one_each() {
        for kind in AlarmKind::ALL {
            assert_eq!(AlarmKind::from_id(kind.id()), Some(kind));
        }
        assert_eq!(AlarmKind::from_id("280.000"), None);
    }
}
