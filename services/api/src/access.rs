//! Reasons of the operators' interface that are about the caller and not about a rule.

use site::{Code, ReasonSet};

/// Why a caller was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessReason {
    /// No operator's certificate.
    NotAnOperator,
    /// The role does not allow the method.
    RoleTooLow,
    /// No subcloud's certificate.
    NotASubcloud,
}

impl ReasonSet for AccessReason {
    fn name(self) -> &'static str {
        match self {
            Self::NotAnOperator => "NOT_AN_OPERATOR",
            Self::RoleTooLow => "ROLE_TOO_LOW",
            Self::NotASubcloud => "NOT_A_SUBCLOUD",
        }
    }

    fn code(self) -> Code {
        match self {
            Self::NotAnOperator | Self::NotASubcloud => Code::Unauthenticated,
            Self::RoleTooLow => Code::PermissionDenied,
        }
    }
}
