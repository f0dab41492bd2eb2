//! Reasons of the operators' interface that are about the caller and not about a rule.

use site::{Code, ReasonSet};

/// Why a caller was turned away or cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessReason {
    /// No operator's certificate.
    NotAnOperator,
    /// The role does not allow the method.
    RoleTooLow,
    /// The watcher does not keep up with what happens.
    WatcherTooSlow,
}

impl ReasonSet for AccessReason {
    fn name(self) -> &'static str {
        match self {
            Self::NotAnOperator => "NOT_AN_OPERATOR",
            Self::RoleTooLow => "ROLE_TOO_LOW",
            Self::WatcherTooSlow => "WATCHER_TOO_SLOW",
        }
    }

    fn code(self) -> Code {
        match self {
            Self::NotAnOperator => Code::Unauthenticated,
            Self::WatcherTooSlow => Code::ResourceExhausted,
            Self::RoleTooLow => Code::PermissionDenied,
        }
    }
}
