//! Reasons of the operators' interface that are about the caller and not about a rule.

use site::{Code, ReasonSet};

/// Why a caller was turned away or cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessReason {
    /// No operator's certificate.
    NotAnOperator,
    /// The operator's certificate does not count, or no longer.
    OperatorRevoked,
    /// The role does not allow the method.
    RoleTooLow,
    /// The watcher does not keep up with what happens.
    WatcherTooSlow,
    /// The metadata that names a subcloud cannot be read.
    SubcloudMetadataInvalid,
    /// The metadata names a subcloud, and the method is not of a site.
    SubcloudMetadataMisplaced,
    /// The method of a site cannot be passed on to a subcloud.
    MethodNotRemote,
    /// The metadata names a subcloud, and this is an agent.
    NotAController,
    /// A message exceeds the limit of the listener.
    MessageTooLarge,
    /// The metadata of a request exceeds the limit of the listener.
    MetadataTooLarge,
    /// A message cannot be decoded.
    MessageUnreadable,
}

impl AccessReason {
    /// Every reason.
    pub const ALL: &[Self] = &[
        Self::NotAnOperator,
        Self::OperatorRevoked,
        Self::RoleTooLow,
        Self::WatcherTooSlow,
        Self::SubcloudMetadataInvalid,
        Self::SubcloudMetadataMisplaced,
        Self::MethodNotRemote,
        Self::NotAController,
        Self::MessageTooLarge,
        Self::MetadataTooLarge,
        Self::MessageUnreadable,
    ];
}

impl ReasonSet for AccessReason {
    fn name(self) -> &'static str {
        match self {
            Self::NotAnOperator => "NOT_AN_OPERATOR",
            Self::OperatorRevoked => "OPERATOR_REVOKED",
            Self::RoleTooLow => "ROLE_TOO_LOW",
            Self::WatcherTooSlow => "WATCHER_TOO_SLOW",
            Self::SubcloudMetadataInvalid => "SUBCLOUD_METADATA_INVALID",
            Self::SubcloudMetadataMisplaced => "SUBCLOUD_METADATA_MISPLACED",
            Self::MethodNotRemote => "METHOD_NOT_REMOTE",
            Self::NotAController => "NOT_A_CONTROLLER",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::MetadataTooLarge => "METADATA_TOO_LARGE",
            Self::MessageUnreadable => "MESSAGE_UNREADABLE",
        }
    }

    fn code(self) -> Code {
        match self {
            Self::NotAnOperator | Self::OperatorRevoked => Code::Unauthenticated,
            Self::WatcherTooSlow => Code::ResourceExhausted,
            Self::MessageTooLarge | Self::MetadataTooLarge | Self::MessageUnreadable => {
                Code::InvalidArgument
            }
            Self::RoleTooLow => Code::PermissionDenied,
            Self::SubcloudMetadataInvalid | Self::SubcloudMetadataMisplaced => {
                Code::InvalidArgument
            }
            Self::MethodNotRemote => Code::Unimplemented,
            Self::NotAController => Code::FailedPrecondition,
        }
    }
}
