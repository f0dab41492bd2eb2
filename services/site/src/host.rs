//! Hosts of the site and their alarms.

use uuid::Uuid;

use crate::Timestamp;

/// The id of one configuration of a host: the site generation that asked for it. Zero means
/// the installed configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConfigurationId(pub u64);

/// A host of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The unique hostname, such as `controller-0`.
    pub hostname: String,
    /// What the host is for.
    pub personality: Personality,
    /// Locked or unlocked.
    pub administrative: Administrative,
    /// The configuration that the host shall have.
    pub target: ConfigurationId,
    /// The configuration that the host reported.
    pub applied: ConfigurationId,
    /// The target needs a lock and an unlock; a later run-time change does not clear it.
    pub reboot_required: bool,
}

/// The number of the alarm "Configuration out-of-date".
pub(crate) const OUT_OF_DATE: &str = "250.001";

impl Host {
    /// Whether the host has not applied what it shall have; alarm 250.001 is raised then.
    pub fn out_of_date(&self) -> bool {
        self.target != self.applied
    }

    /// The entity of the host in alarms, such as `host=controller-0`.
    pub fn entity(&self) -> String {
        format!("host={}", self.hostname)
    }
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Personality {
    /// A controller (all-in-one controllers do worker duty too).
    Controller,
    /// A worker.
    Worker,
    /// A storage node.
    Storage,
}

/// The administrative state of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Administrative {
    /// Taken out of service by the operator.
    Locked,
    /// In service.
    Unlocked,
}

/// An alarm of the site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The uuid of this occurrence.
    pub uuid: Uuid,
    /// The number, such as `250.001`.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, such as `host=controller-0`.
    pub entity: String,
    /// What happened.
    pub reason: String,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// What the operator can do.
    pub repair: String,
}

/// The severity of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Service is lost.
    Critical,
    /// Service is impaired.
    Major,
    /// Worth a look.
    Minor,
    /// For information.
    Warning,
}
