//! Who operates the controller over TCP.

use std::fmt;

use site::Timestamp;

use crate::Fingerprint;

/// The most operators, revoked ones that are still known included: more people than that do not
/// hold rights on one controller, and every request looks its caller up.
pub const MAX_OPERATORS: usize = 256;

/// Somebody with a certificate of this controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name, as the certificate has it; unique.
    pub name: String,
    /// What the operator may do.
    pub role: OperatorRole,
    /// The key of the one certificate that counts.
    pub key: Fingerprint,
    /// When the operator was made.
    pub created_at: Timestamp,
    /// When the certificate ends.
    pub expires_at: Timestamp,
    /// When the operator was revoked; the name may be given anew from then on.
    pub revoked_at: Option<Timestamp>,
}

/// What an operator may do; a later role includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorRole {
    /// Reads everything and changes nothing.
    Reader,
    /// Also changes sites, subclouds, groups and rollouts.
    Configurator,
    /// Also makes and revokes operators.
    Admin,
}

impl OperatorRole {
    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Configurator => "configurator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for OperatorRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
