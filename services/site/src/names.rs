//! The names of enumerated values as operators read and write them.

use crate::{
    Administrative, DistributedCloudRole, Kubernetes, Personality, Severity, SystemMode, SystemType,
};

impl SystemType {
    /// `all-in-one` or `standard`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllInOne => "all-in-one",
            Self::Standard => "standard",
        }
    }
}

impl SystemMode {
    /// `simplex`, `duplex` or `duplex-direct`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simplex => "simplex",
            Self::Duplex => "duplex",
            Self::DuplexDirect => "duplex-direct",
        }
    }
}

impl DistributedCloudRole {
    /// `none`, `systemcontroller` or `subcloud`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SystemController => "systemcontroller",
            Self::Subcloud => "subcloud",
        }
    }
}

impl Kubernetes {
    /// Such as `single-stack` or `converting-to-dual`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleStack => "single-stack",
            Self::ConvertingToDual => "converting-to-dual",
            Self::DualStack => "dual-stack",
            Self::ConvertingToSingle => "converting-to-single",
        }
    }
}

impl Personality {
    /// `controller`, `worker` or `storage`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Worker => "worker",
            Self::Storage => "storage",
        }
    }
}

impl Administrative {
    /// `locked` or `unlocked`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
        }
    }
}

impl Severity {
    /// `critical`, `major`, `minor` or `warning`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Major => "major",
            Self::Minor => "minor",
            Self::Warning => "warning",
        }
    }
}
