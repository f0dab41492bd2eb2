//! What happened (events, for watchers) and who did what (audit entries).

use std::fmt;
use std::net::IpAddr;

use site::{Generation, Timestamp};

use crate::{AlarmKind, Fault, Position, SiteMethod, SubcloudId};

/// How many entries each log keeps by default: with some 300 bytes each, 100,000 are 30 MB, which
/// is months
/// of an ordinary fleet and minutes of an attack. Older ones are forgotten as new ones come.
pub const LOG_LIMIT: u64 = 100_000;

/// Something that happened to the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the log. Events that are not durable have the place of the last durable one
    /// before them.
    pub position: Position,
    /// When.
    pub at: Timestamp,
    /// Which subcloud; `None` when no record is involved.
    pub subcloud: Option<SubcloudId>,
    /// The name by which the subcloud went, or by which a stranger called itself.
    pub name: String,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// An operator added it.
    Added,
    /// An operator issued a new token; the old one is void.
    TokenIssued,
    /// A site enrolled.
    Enrolled,
    /// A site was refused.
    EnrollmentRefused {
        /// Every rule that it broke.
        faults: Vec<Fault>,
    },
    /// A report was accepted.
    ReportAccepted {
        /// The generation of the site.
        generation: Generation,
    },
    /// A report broke the rules; the subcloud is quarantined.
    ReportRefused {
        /// The generation of the site.
        generation: Generation,
        /// Every rule that it broke.
        faults: Vec<Fault>,
    },
    /// It was taken over from another controller.
    TakenOver,
    /// It obeys another controller from now on.
    Demoted,
    /// An operator changed what is said about it, or its group.
    Updated,
    /// Operators' commands are accepted for it from now on.
    Managed,
    /// Operators' commands are no longer accepted for it.
    Unmanaged,
    /// An operator deleted it; its certificate is revoked.
    Deleted,
    /// A site took the place of the one that had enrolled before, whose certificate is revoked.
    Reenrolled,
    /// An operator added a group.
    GroupAdded,
    /// An operator changed a group.
    GroupUpdated,
    /// An operator deleted a group.
    GroupDeleted,
    /// Two hold its identity; both are shut out.
    IdentityCloned {
        /// What was seen, and what to do.
        faults: Vec<Fault>,
    },
    /// A renewed certificate was used for the first time, and the one before is worth nothing.
    /// Not durable: the record counts them, and twice a day for each subcloud would push all
    /// else out of the log.
    CertificateRenewed,
    /// It came with a certificate that this site signed later than its records tell: they were
    /// restored from a backup. What they say of its identity is up to date again.
    CertificateNewer,
    /// It is in quarantine from now on; the refused report has an event of its own.
    Quarantined,
    /// Its quarantine is over.
    Released,
    /// An alarm was raised.
    AlarmRaised {
        /// Which.
        alarm: AlarmKind,
        /// What it is about.
        entity: String,
        /// What happened.
        reason: String,
    },
    /// An alarm was cleared.
    AlarmCleared {
        /// Which.
        alarm: AlarmKind,
        /// What it was about.
        entity: String,
    },
    /// Its link came up. Not durable.
    Online,
    /// Its link has been gone for too long. Not durable.
    Offline,
}

macro_rules! names {
    ($($kind:pat => $name:literal,)*) => {
        impl EventKind {
            /// The name of every kind.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The stable name.
            pub fn name(&self) -> &'static str {
                match self {
                    $($kind => $name,)*
                }
            }
        }
    };
}

names! {
    Self::Added => "ADDED",
    Self::TokenIssued => "TOKEN_ISSUED",
    Self::Enrolled => "ENROLLED",
    Self::EnrollmentRefused { .. } => "ENROLLMENT_REFUSED",
    Self::ReportAccepted { .. } => "REPORT_ACCEPTED",
    Self::ReportRefused { .. } => "REPORT_REFUSED",
    Self::TakenOver => "TAKEN_OVER",
    Self::Demoted => "DEMOTED",
    Self::Updated => "UPDATED",
    Self::Managed => "MANAGED",
    Self::Unmanaged => "UNMANAGED",
    Self::Deleted => "DELETED",
    Self::Reenrolled => "REENROLLED",
    Self::GroupAdded => "GROUP_ADDED",
    Self::GroupUpdated => "GROUP_UPDATED",
    Self::GroupDeleted => "GROUP_DELETED",
    Self::IdentityCloned { .. } => "IDENTITY_CLONED",
    Self::CertificateRenewed => "CERTIFICATE_RENEWED",
    Self::CertificateNewer => "CERTIFICATE_NEWER",
    Self::Quarantined => "QUARANTINED",
    Self::Released => "RELEASED",
    Self::AlarmRaised { .. } => "ALARM_RAISED",
    Self::AlarmCleared { .. } => "ALARM_CLEARED",
    Self::Online => "ONLINE",
    Self::Offline => "OFFLINE",
}

impl EventKind {
    /// Whether it is kept on disk; availability and routine are not.
    pub fn durable(&self) -> bool {
        !matches!(
            self,
            Self::CertificateRenewed | Self::Online | Self::Offline
        )
    }

    /// Every rule that was broken, where it tells of some.
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::EnrollmentRefused { faults }
            | Self::ReportRefused { faults, .. }
            | Self::IdentityCloned { faults } => faults,
            _ => &[],
        }
    }
}

/// Who did what, with which outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its place in the log.
    pub position: Position,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What was asked for.
    pub action: Action,
    /// The record that it was about, when there is one.
    pub subcloud: Option<SubcloudId>,
    /// The name that it was about.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An operator, as the listener knows it: `uid=0`, or the name of a certificate.
    Operator(String),
    /// A site without an identity, by the address that it came from.
    Stranger(IpAddr),
}

/// A mutating call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// `subcloud add`.
    AddSubcloud,
    /// `subcloud token`.
    IssueToken,
    /// Enroll.
    Enroll,
    /// `network-rollout create`.
    CreateRollout,
    /// `network-rollout pause`.
    PauseRollout,
    /// `network-rollout resume`.
    ResumeRollout,
    /// `network-rollout abort`.
    AbortRollout,
    /// A change of a subcloud's site, asked for over its link.
    Command(SiteMethod),
    /// A change of the controller's own site.
    Site(SiteMethod),
    /// `operator add`.
    AddOperator,
    /// `operator revoke`.
    RevokeOperator,
    /// A call of this path that no rule was asked about: the caller's role does not allow it, or
    /// it cannot be read.
    Unheard(&'static str),
    /// `system-peer add` without a token.
    IssuePeering,
    /// `system-peer add` with a token.
    AddPeer,
    /// The other site presents a token.
    AcceptPeering,
    /// `system-peer update`.
    UpdatePeer,
    /// `system-peer delete`.
    DeletePeer,
    /// `subcloud-peer-group add`.
    AddPeerGroup,
    /// `subcloud-peer-group update`, or a change of its members.
    UpdatePeerGroup,
    /// `subcloud-peer-group delete`.
    DeletePeerGroup,
    /// A change of this site's gateways towards a subcloud.
    SetGateways,
    /// `peer-group-association add`.
    Associate,
    /// `peer-group-association update`.
    UpdateAssociation,
    /// `peer-group-association delete`.
    Dissociate,
    /// `peer-group-association sync`.
    SyncAssociation,
    /// `subcloud-peer-group migrate`.
    Migrate,
    /// A conflict was seen.
    DismissConflict,
    /// `subcloud manage`.
    ManageSubcloud,
    /// `subcloud unmanage`.
    UnmanageSubcloud,
    /// `subcloud update`.
    UpdateSubcloud,
    /// `subcloud delete`.
    DeleteSubcloud,
    /// `subcloud-group add`.
    AddGroup,
    /// `subcloud-group update`.
    UpdateGroup,
    /// `subcloud-group delete`.
    DeleteGroup,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It went out to a subcloud. What came of it is an entry of its own; without one the
    /// controller ended before the answer came, and the change may or may not have been made.
    Sent,
    /// It was refused.
    Refused {
        /// Every rule that it broke.
        faults: Vec<Fault>,
        /// What the caller was not told, such as which way a token is wrong; may be empty.
        detail: String,
    },
}

impl Outcome {
    /// The same with as many faults as a log keeps.
    pub(crate) fn kept(self) -> Self {
        match self {
            Self::Refused { faults, detail } => Self::Refused {
                faults: Fault::kept(faults),
                detail,
            },
            other => other,
        }
    }

    /// Every rule that a refused call broke; empty for others.
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Done | Self::Sent => &[],
            Self::Refused { faults, .. } => faults,
        }
    }
}

impl Action {
    /// Whether the call is about a subcloud that must exist.
    pub(crate) fn is_of_subcloud(self) -> bool {
        matches!(
            self,
            Self::IssueToken
                | Self::ManageSubcloud
                | Self::UnmanageSubcloud
                | Self::UpdateSubcloud
                | Self::DeleteSubcloud
        )
    }

    /// Every action but those that name a method.
    pub const ALL: &[Self] = &[
        Self::AddSubcloud,
        Self::IssueToken,
        Self::Enroll,
        Self::CreateRollout,
        Self::PauseRollout,
        Self::ResumeRollout,
        Self::AbortRollout,
        Self::AddOperator,
        Self::RevokeOperator,
        Self::IssuePeering,
        Self::AddPeer,
        Self::AcceptPeering,
        Self::UpdatePeer,
        Self::DeletePeer,
        Self::AddPeerGroup,
        Self::UpdatePeerGroup,
        Self::DeletePeerGroup,
        Self::SetGateways,
        Self::Associate,
        Self::UpdateAssociation,
        Self::Dissociate,
        Self::SyncAssociation,
        Self::Migrate,
        Self::DismissConflict,
        Self::ManageSubcloud,
        Self::UnmanageSubcloud,
        Self::UpdateSubcloud,
        Self::DeleteSubcloud,
        Self::AddGroup,
        Self::UpdateGroup,
        Self::DeleteGroup,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AddSubcloud => "SUBCLOUD_ADD",
            Self::IssueToken => "SUBCLOUD_TOKEN",
            Self::Enroll => "ENROLL",
            Self::CreateRollout => "ROLLOUT_CREATE",
            Self::PauseRollout => "ROLLOUT_PAUSE",
            Self::ResumeRollout => "ROLLOUT_RESUME",
            Self::AbortRollout => "ROLLOUT_ABORT",
            Self::Command(method) => method.audit_name(),
            Self::Site(method) => method.own_audit_name(),
            Self::AddOperator => "OPERATOR_ADD",
            Self::RevokeOperator => "OPERATOR_REVOKE",
            Self::Unheard(path) => path,
            Self::IssuePeering => "SYSTEM_PEER_TOKEN",
            Self::AddPeer => "SYSTEM_PEER_ADD",
            Self::AcceptPeering => "SYSTEM_PEER_ACCEPT",
            Self::UpdatePeer => "SYSTEM_PEER_UPDATE",
            Self::DeletePeer => "SYSTEM_PEER_DELETE",
            Self::AddPeerGroup => "PEER_GROUP_ADD",
            Self::UpdatePeerGroup => "PEER_GROUP_UPDATE",
            Self::DeletePeerGroup => "PEER_GROUP_DELETE",
            Self::SetGateways => "SUBCLOUD_GATEWAYS",
            Self::Associate => "PEER_GROUP_ASSOCIATION_ADD",
            Self::UpdateAssociation => "PEER_GROUP_ASSOCIATION_UPDATE",
            Self::Dissociate => "PEER_GROUP_ASSOCIATION_DELETE",
            Self::SyncAssociation => "PEER_GROUP_ASSOCIATION_SYNC",
            Self::Migrate => "PEER_GROUP_MIGRATE",
            Self::DismissConflict => "CONFLICT_DISMISS",
            Self::ManageSubcloud => "SUBCLOUD_MANAGE",
            Self::UnmanageSubcloud => "SUBCLOUD_UNMANAGE",
            Self::UpdateSubcloud => "SUBCLOUD_UPDATE",
            Self::DeleteSubcloud => "SUBCLOUD_DELETE",
            Self::AddGroup => "SUBCLOUD_GROUP_ADD",
            Self::UpdateGroup => "SUBCLOUD_GROUP_UPDATE",
            Self::DeleteGroup => "SUBCLOUD_GROUP_DELETE",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(name) => formatter.write_str(name),
            Self::Stranger(address) => address.fmt(formatter),
        }
    }
}
