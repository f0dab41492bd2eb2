//! Enumerations and times of the contract, in operators' words.

use api::fleet_v1::{
    AlarmStatus, AssociationState, Availability, EnrollmentState, FailurePolicy, ManagementState,
    MigrationState, OperatorRole, PeerAdministrativeState, PeerAvailability, PeeringState,
    RolloutAction, RolloutMemberState, RolloutState, SyncState, UpdateApplyType,
};
use api::site_v1::{
    AdministrativeState, DistributedCloudRole, Family, KubernetesState, Order, Personality, Rank,
    Severity, Stack, SystemMode, SystemType,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::output::Cell;

/// A function from a number on the wire to its word: no value for "unspecified", and the bare
/// number for one that a newer daemon knows and this program does not.
macro_rules! words {
    ($(
        $(#[$doc:meta])*
        $function:ident($kind:ident) { $($variant:ident = $word:literal),* $(,)? }
    )*) => {
        $(
            $(#[$doc])*
            pub(crate) fn $function(number: i32) -> Cell {
                match $kind::try_from(number) {
                    Ok($kind::Unspecified) => Cell::none(),
                    $(Ok($kind::$variant) => Cell::text($word),)*
                    Err(_) => Cell::text(format!("unknown({number})")),
                }
            }
        )*
    };
}

words! {
    /// An address family.
    family(Family) { Ipv4 = "IPv4", Ipv6 = "IPv6" }
    /// One family or both.
    stack(Stack) { Single = "single", Dual = "dual" }
    /// Rank of a pool on its network.
    rank(Rank) { Primary = "primary", Secondary = "secondary" }
    /// What a host is for.
    personality(Personality) {
        Controller = "controller", Worker = "worker", Storage = "storage",
    }
    /// Locked or unlocked.
    administrative(AdministrativeState) { Locked = "locked", Unlocked = "unlocked" }
    /// How bad an alarm is.
    severity(Severity) {
        Critical = "critical", Major = "major", Minor = "minor", Warning = "warning",
    }
    /// Whether controllers are workers too.
    system_type(SystemType) { AllInOne = "all-in-one", Standard = "standard" }
    /// One controller or two.
    system_mode(SystemMode) {
        Simplex = "simplex", Duplex = "duplex", DuplexDirect = "duplex-direct",
    }
    /// Role in the distributed cloud.
    role(DistributedCloudRole) {
        None = "none", SystemController = "systemcontroller", Subcloud = "subcloud",
    }
    /// Stack of Kubernetes.
    kubernetes(KubernetesState) {
        SingleStack = "single-stack",
        ConvertingToDual = "converting-to-dual",
        DualStack = "dual-stack",
        ConvertingToSingle = "converting-to-single",
    }
    /// Whether commands are accepted for a subcloud.
    management(ManagementState) { Unmanaged = "unmanaged", Managed = "managed" }
    /// What an operator may do.
    operator_role(OperatorRole) {
        Reader = "reader", Configurator = "configurator", Admin = "admin",
    }
    /// How far enrollment is.
    enrollment(EnrollmentState) { Pending = "pending", Enrolled = "enrolled" }
    /// How a change goes through a group.
    update_apply_type(UpdateApplyType) { Parallel = "parallel", Serial = "serial" }
    /// Whether the link of a subcloud is up.
    availability(Availability) {
        Unknown = "unknown", Online = "online", Offline = "offline", Secondary = "secondary",
    }
    /// Whether a site takes part in a peering.
    peer_administrative(PeerAdministrativeState) { Enabled = "enabled", Disabled = "disabled" }
    /// What a lost peer means to its subclouds.
    failure_policy(FailurePolicy) { Alarm = "alarm", Rehome = "rehome" }
    /// How far a peering has come.
    peering(PeeringState) {
        Pending = "pending", Established = "established", Suspended = "suspended",
    }
    /// Whether a peer is heard from.
    peer_availability(PeerAvailability) {
        Unknown = "unknown", Available = "available", Unavailable = "unavailable",
    }
    /// Whether members of a group are on their way.
    migration(MigrationState) {
        None = "none", Running = "running", Complete = "complete", Incomplete = "incomplete",
    }
    /// How far two sites agree about a group.
    association(AssociationState) {
        InSync = "in-sync", Syncing = "syncing", OutOfSync = "out-of-sync", Failed = "failed",
        Unknown = "unknown",
    }
    /// What the alarms of a subcloud come to.
    alarm_status(AlarmStatus) {
        Ok = "OK", Degraded = "degraded", Critical = "critical", Disabled = "disabled",
    }
    /// What a rollout does to the pools of a network.
    rollout_action(RolloutAction) { Add = "add", Remove = "remove", Modify = "modify" }
    /// Whether a rollout goes on.
    rollout_state(RolloutState) {
        Running = "running", Paused = "paused", Aborted = "aborted", Finished = "finished",
    }
    /// How far a subcloud of a rollout has come.
    rollout_member_state(RolloutMemberState) {
        Pending = "pending", InFlight = "in-flight", Done = "done", Refused = "refused",
        Failed = "failed", Skipped = "skipped",
    }
    /// Whether the controller has the present state of a subcloud.
    sync(SyncState) { Unknown = "unknown", InSync = "in-sync", OutOfSync = "out-of-sync" }
}

/// Order of allocation; not said means the default.
pub(crate) fn order(number: i32) -> Cell {
    match Order::try_from(number) {
        Ok(Order::Unspecified | Order::Random) => Cell::text("random"),
        Ok(Order::Sequential) => Cell::text("sequential"),
        Err(_) => Cell::text(format!("unknown({number})")),
    }
}

/// A time, in UTC after RFC 3339; 0 is no time.
pub(crate) fn time(milliseconds: u64) -> Cell {
    if milliseconds == 0 {
        return Cell::none();
    }
    Cell::text(time_text(milliseconds))
}

/// A time as text, in UTC after RFC 3339, without the fraction of the second.
pub(crate) fn time_text(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{milliseconds} ms since 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_only_a_newer_daemon_knows_is_shown_and_not_hidden() {
        assert_eq!(family(9), Cell::text("unknown(9)"));
        assert_eq!(family(0), Cell::none());
        assert_eq!(order(0), Cell::text("random"));
    }

    #[test]
    fn times_have_a_text_at_both_ends() {
        assert_eq!(time(0), Cell::none());
        assert_eq!(time(1_767_225_600_999), Cell::text("2026-01-01T00:00:00Z"));
        assert_eq!(time_text(u64::MAX), "18446744073709551615 ms since 1970");
    }
}
