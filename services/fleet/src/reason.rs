//! Why the fleet refuses, as stable names.

use std::collections::BTreeMap;

pub use site::{Code, Object, ReasonSet};
use site::{MAX_FACT_BYTES, MAX_TEXT_BYTES, shortened};

/// A refusal of the fleet's rules; the first failing rule comes first.
pub type Rejection = site::Rejection<Reason>;

/// One fault, with the rule (`F4`) in its metadata under `rule`.
pub type Violation = site::Violation<Reason>;

/// A fault as it travels and is kept: plain text, so that a peer of another version, whose
/// reasons may be unknown here, is shown as it spoke.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    /// The stable name, such as `PRIMARY_FAMILY_MISMATCH`.
    pub reason: String,
    /// The offending field; empty when the fault is about state.
    pub field: String,
    /// What is wrong, naming the objects.
    pub message: String,
    /// What the operator can do.
    pub remedy: String,
    /// Kind and name of each object involved.
    pub objects: Vec<(String, String)>,
    /// Machine-readable facts; keys are lowerCamel.
    pub metadata: BTreeMap<String, String>,
}

/// The most faults of one refusal that are kept, in a record, an event or an audit entry: a log of
/// 100,000 entries must stay bounded in bytes too.
pub const MAX_KEPT_FAULTS: usize = 32;

impl Fault {
    /// The faults of a refusal, in its order, as [`Self::kept`].
    pub fn all_of<R: ReasonSet>(rejection: &site::Rejection<R>) -> Vec<Self> {
        Self::kept(rejection.violations().iter().map(Self::from).collect())
    }

    /// The same with as much of each text as a violation of this site has, for faults that others
    /// tell, and at most 16 objects and facts.
    pub fn cut(self) -> Self {
        const LISTED: usize = 16;
        let word = |text| shortened(text, MAX_FACT_BYTES);
        let pair = |(one, other)| (word(one), word(other));
        Self {
            reason: word(self.reason),
            field: word(self.field),
            message: shortened(self.message, MAX_TEXT_BYTES),
            remedy: shortened(self.remedy, MAX_TEXT_BYTES),
            objects: self.objects.into_iter().take(LISTED).map(pair).collect(),
            metadata: self.metadata.into_iter().take(LISTED).map(pair).collect(),
        }
    }

    /// About how many bytes it takes as a part of a record, rather more.
    pub fn weight(&self) -> usize {
        const EACH: usize = 16;
        let objects = self.objects.iter().map(|(kind, name)| (kind, name));
        let pairs = objects.chain(&self.metadata);
        let texts = [&self.reason, &self.field, &self.message, &self.remedy];
        let texts = texts.into_iter().map(|text| EACH + text.len());
        texts
            .chain(pairs.map(|(one, other)| EACH + one.len() + other.len()))
            .sum()
    }

    /// At most [`MAX_KEPT_FAULTS`] of these; the last of more says how many there are.
    pub fn kept(mut faults: Vec<Self>) -> Vec<Self> {
        if faults.len() > MAX_KEPT_FAULTS {
            let rest = faults.split_off(MAX_KEPT_FAULTS - 1);
            faults.push(Self {
                reason: rest[0].reason.clone(),
                message: format!("at least {} more faults were found", rest.len()),
                remedy: "mend those that are listed, and ask again".to_owned(),
                ..Self::default()
            });
        }
        faults
    }
}

impl<R: ReasonSet> From<&site::Violation<R>> for Fault {
    fn from(violation: &site::Violation<R>) -> Self {
        let site::Violation {
            reason,
            field,
            message,
            remedy,
            objects,
            metadata,
        } = violation;
        Self {
            reason: reason.name().to_owned(),
            field: field.clone(),
            message: message.clone(),
            remedy: remedy.clone(),
            objects: objects
                .iter()
                .map(|Object { kind, name }| ((*kind).to_owned(), name.clone()))
                .collect(),
            metadata: metadata
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $code:ident;)*) => {
        /// Why a request to the fleet was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
            /// A rule of the one site that the request was about.
            Site(site::Reason),
        }

        impl Reason {
            /// Every reason of the fleet's own.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }

        impl ReasonSet for Reason {
            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Site(reason) => reason.name(),
                }
            }

            fn code(self) -> Code {
                match self {
                    $(Self::$variant => Code::$code,)*
                    Self::Site(reason) => reason.code(),
                }
            }
        }
    };
}

reasons! {
    /// F1: the token is unknown, expired, used, or for another name; the audit log has which.
    EnrollTokenInvalid = "ENROLL_TOKEN_INVALID", Unauthenticated;
    /// F2: the report is no valid site.
    SiteInvalid = "SITE_INVALID", InvalidArgument;
    /// F3: neither admin nor mgmt has a pool.
    NoPrimaryPool = "NO_PRIMARY_POOL", FailedPrecondition;
    /// F4: the link family differs from the controller's.
    PrimaryFamilyMismatch = "PRIMARY_FAMILY_MISMATCH", FailedPrecondition;
    /// F5: another subcloud has the name.
    SubcloudNameTaken = "SUBCLOUD_NAME_TAKEN", AlreadyExists;
    /// F5: another subcloud, or the controller, has the region name.
    RegionNameTaken = "REGION_NAME_TAKEN", AlreadyExists;
    /// F5: the site calls itself otherwise than the record that it belongs to.
    SiteNameMismatch = "SITE_NAME_MISMATCH", FailedPrecondition;
    /// F6: addresses overlap those of another site.
    AddressOverlap = "ADDRESS_OVERLAP", FailedPrecondition;
    /// F7: dual-stack needs software 24.09.
    DualStackUnsupportedByVersion = "DUAL_STACK_UNSUPPORTED_BY_VERSION", FailedPrecondition;
    /// F8: the connection comes from outside the link primary pool.
    SourceNotInPrimaryPool = "SOURCE_NOT_IN_PRIMARY_POOL", PermissionDenied;
    /// F9: the fleet has as many subclouds as it may.
    FleetFull = "FLEET_FULL", ResourceExhausted;
    /// F10: a gateway that the controller's link network cannot have.
    ControllerGatewayInvalid = "CONTROLLER_GATEWAY_INVALID", FailedPrecondition;
    /// A report comes from another site than the one that enrolled.
    SiteReplaced = "SITE_REPLACED", FailedPrecondition;
    /// A warning of F6: a link subnet is shared, with disjoint ranges.
    SharedSubnet = "SHARED_SUBNET", FailedPrecondition;
    /// A warning of Enroll: the site is not what the operator declared.
    SiteDiffersFromDeclared = "SITE_DIFFERS_FROM_DECLARED", FailedPrecondition;
    /// The controller itself has no link network, so it can have no subclouds.
    ControllerHasNoLinkPool = "CONTROLLER_HAS_NO_LINK_POOL", FailedPrecondition;
    /// A change of the controller's own networks under which subclouds could not stay.
    WouldBreakSubclouds = "WOULD_BREAK_SUBCLOUDS", FailedPrecondition;
    /// No subcloud of this name or id.
    SubcloudNotFound = "SUBCLOUD_NOT_FOUND", NotFound;
    /// The subcloud has enrolled already.
    SubcloudAlreadyEnrolled = "SUBCLOUD_ALREADY_ENROLLED", FailedPrecondition;
    /// The subcloud has not enrolled yet.
    SubcloudNotEnrolled = "SUBCLOUD_NOT_ENROLLED", FailedPrecondition;
    /// The newest report of the subcloud broke the rules; no command goes out to it.
    SubcloudQuarantined = "SUBCLOUD_QUARANTINED", FailedPrecondition;
    /// The subcloud is unmanaged, so commands are refused.
    SubcloudUnmanaged = "SUBCLOUD_UNMANAGED", FailedPrecondition;
    /// The subcloud's link is not up.
    SubcloudOffline = "SUBCLOUD_OFFLINE", Unavailable;
    /// No operator of this name.
    OperatorNotFound = "OPERATOR_NOT_FOUND", NotFound;
    /// An operator that is not revoked has the name.
    OperatorNameTaken = "OPERATOR_NAME_TAKEN", AlreadyExists;
    /// There are as many operators as there may be.
    TooManyOperators = "TOO_MANY_OPERATORS", ResourceExhausted;
    /// The subcloud is not online, and nobody said `force`.
    SubcloudNotOnline = "SUBCLOUD_NOT_ONLINE", FailedPrecondition;
    /// The subcloud is managed already, or must not be for this.
    SubcloudManaged = "SUBCLOUD_MANAGED", FailedPrecondition;
    /// No group of this name or id.
    SubcloudGroupNotFound = "SUBCLOUD_GROUP_NOT_FOUND", NotFound;
    /// Another group has the name.
    SubcloudGroupNameTaken = "SUBCLOUD_GROUP_NAME_TAKEN", AlreadyExists;
    /// There are as many groups as there may be.
    SubcloudGroupsFull = "SUBCLOUD_GROUPS_FULL", ResourceExhausted;
    /// The Default group keeps its name and cannot be deleted.
    DefaultGroupFixed = "DEFAULT_GROUP_FIXED", FailedPrecondition;
    /// A name of a subcloud that cannot be one.
    InvalidName = "INVALID_NAME", InvalidArgument;
    /// A field of the request is malformed or out of bounds.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument;
    /// Too many changes wait for the disk; nothing was changed.
    ControllerBusy = "CONTROLLER_BUSY", Unavailable;
    /// The link serves only clients with a certificate of this controller.
    ClientCertificateRequired = "CLIENT_CERTIFICATE_REQUIRED", Unauthenticated;
    /// The certificate is not, or no longer, that of the subcloud.
    CertificateRevoked = "CERTIFICATE_REVOKED", Unauthenticated;
    /// No rollout of this number.
    RolloutNotFound = "ROLLOUT_NOT_FOUND", NotFound;
    /// The rollout is aborted or finished.
    RolloutClosed = "ROLLOUT_CLOSED", FailedPrecondition;
    /// The reason of a rollout that paused by itself.
    RolloutPaused = "ROLLOUT_PAUSED", FailedPrecondition;
    /// A subcloud was changed in part: a later step was refused.
    RolloutIncomplete = "ROLLOUT_INCOMPLETE", FailedPrecondition;
    /// As many rollouts are open as there may be.
    TooManyRollouts = "TOO_MANY_ROLLOUTS", ResourceExhausted;
    /// No peer of this name or id.
    PeerNotFound = "PEER_NOT_FOUND", NotFound;
    /// A site cannot be its own peer.
    PeerIsSelf = "PEER_IS_SELF", FailedPrecondition;
    /// There is a peer of this name, or of this site, already.
    PeerExists = "PEER_EXISTS", AlreadyExists;
    /// The peering token is unknown, expired, or used; the audit log has which.
    PeerTokenInvalid = "PEER_TOKEN_INVALID", Unauthenticated;
    /// No address of the token answers, or not as the site that issued it.
    PeerUnreachable = "PEER_UNREACHABLE", Unavailable;
    /// The peer has not presented its token yet.
    PeerNotEstablished = "PEER_NOT_ESTABLISHED", FailedPrecondition;
    /// The peer, or the group, is shared by an association or has members.
    PeerInUse = "PEER_IN_USE", FailedPrecondition;
    /// There are as many peers or groups as there may be.
    PeerLimit = "PEER_LIMIT", ResourceExhausted;
    /// No peer group of this name or id.
    PeerGroupNotFound = "PEER_GROUP_NOT_FOUND", NotFound;
    /// There is a peer group of this name already.
    PeerGroupExists = "PEER_GROUP_EXISTS", AlreadyExists;
    /// The group is not shared with that peer.
    AssociationNotFound = "ASSOCIATION_NOT_FOUND", NotFound;
    /// The group is shared with that peer already.
    AssociationExists = "ASSOCIATION_EXISTS", AlreadyExists;
    /// Another controller owns the subcloud, so only its operators change it.
    SubcloudOwnedElsewhere = "SUBCLOUD_OWNED_ELSEWHERE", FailedPrecondition;
    /// The subcloud is a member of another group.
    SubcloudInOtherGroup = "SUBCLOUD_IN_OTHER_GROUP", FailedPrecondition;
    /// A member of the group cannot move here yet.
    MemberNotReady = "MEMBER_NOT_READY", FailedPrecondition;
    /// The members of the group are on their way already.
    MigrationRunning = "MIGRATION_RUNNING", FailedPrecondition;
    /// This site owns every member already.
    NothingToMigrate = "NOTHING_TO_MIGRATE", FailedPrecondition;
    /// A peer claims a subcloud in a term that is over.
    EpochStale = "EPOCH_STALE", FailedPrecondition;
    /// Two hold the identity of the subcloud: neither is taken for it.
    IdentityCloned = "IDENTITY_CLONED", Unauthenticated;
    /// The link's message cannot be understood or is out of turn.
    LinkProtocolViolation = "LINK_PROTOCOL_VIOLATION", InvalidArgument;
    /// The subcloud, or the fleet, works on as many commands as it may.
    TooManyCommands = "TOO_MANY_COMMANDS", ResourceExhausted;
    /// A command, or the answer to it, is larger than the link takes.
    CommandTooLarge = "COMMAND_TOO_LARGE", ResourceExhausted;
    /// The deadline came before the answer.
    CommandDeadline = "COMMAND_DEADLINE_EXCEEDED", DeadlineExceeded;
    /// The link ended before the answer came: the change may or may not have been made.
    CommandOutcomeUnknown = "COMMAND_OUTCOME_UNKNOWN", Unavailable;
    /// The command was given in an older term than the one that the site obeys.
    StaleEpoch = "STALE_EPOCH", FailedPrecondition;
}

impl From<site::Reason> for Reason {
    fn from(reason: site::Reason) -> Self {
        Self::Site(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_upper_snake() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for name in names {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
                "{name}"
            );
        }
    }
}
