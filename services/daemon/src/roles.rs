//! Which role each method needs: one table, for every service that operators can reach.
//!
//! A method that is not listed needs an admin, so that a forgotten line opens nothing; a test
//! holds the table against what reflection lists.

use identity::Role;
use identity::Role::{Admin, Configurator, Reader};

/// The paths of all methods, with the least role that may call them. Checked only, a call needs
/// the same role as the real one.
pub const METHODS: &[(&str, Role)] = &[
    ("/grpc.health.v1.Health/Check", Reader),
    ("/grpc.health.v1.Health/List", Reader),
    ("/grpc.health.v1.Health/Watch", Reader),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Reader,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Reader,
    ),
    ("/tandem.fleet.v1.AlarmService/ListAlarmSummaries", Reader),
    ("/tandem.fleet.v1.OperatorService/AddOperator", Admin),
    ("/tandem.fleet.v1.OperatorService/ListAuditEntries", Reader),
    ("/tandem.fleet.v1.OperatorService/ListOperators", Reader),
    ("/tandem.fleet.v1.OperatorService/RevokeOperator", Admin),
    (
        "/tandem.fleet.v1.PeerService/AddPeerGroupAssociation",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.PeerService/AddSubcloudPeerGroup",
        Configurator,
    ),
    ("/tandem.fleet.v1.PeerService/AddSystemPeer", Admin),
    (
        "/tandem.fleet.v1.PeerService/DeletePeerGroupAssociation",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.PeerService/DeleteSubcloudPeerGroup",
        Configurator,
    ),
    ("/tandem.fleet.v1.PeerService/DeleteSystemPeer", Admin),
    ("/tandem.fleet.v1.PeerService/DismissConflict", Configurator),
    ("/tandem.fleet.v1.PeerService/GetMigration", Reader),
    (
        "/tandem.fleet.v1.PeerService/GetPeerGroupAssociation",
        Reader,
    ),
    ("/tandem.fleet.v1.PeerService/GetSubcloudPeerGroup", Reader),
    ("/tandem.fleet.v1.PeerService/GetSystemPeer", Reader),
    ("/tandem.fleet.v1.PeerService/IssuePeeringToken", Admin),
    (
        "/tandem.fleet.v1.PeerService/ListPeerGroupAssociations",
        Reader,
    ),
    (
        "/tandem.fleet.v1.PeerService/ListSubcloudPeerGroupMembers",
        Reader,
    ),
    (
        "/tandem.fleet.v1.PeerService/ListSubcloudPeerGroups",
        Reader,
    ),
    ("/tandem.fleet.v1.PeerService/ListSystemPeers", Reader),
    (
        "/tandem.fleet.v1.PeerService/MigrateSubcloudPeerGroup",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.PeerService/SetSubcloudGateways",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.PeerService/SyncPeerGroupAssociation",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.PeerService/UpdatePeerGroupAssociation",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.PeerService/UpdateSubcloudPeerGroup",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.PeerService/UpdateSubcloudPeerGroupMembers",
        Configurator,
    ),
    ("/tandem.fleet.v1.PeerService/UpdateSystemPeer", Admin),
    ("/tandem.fleet.v1.RolloutService/AbortRollout", Configurator),
    (
        "/tandem.fleet.v1.RolloutService/CreateRollout",
        Configurator,
    ),
    ("/tandem.fleet.v1.RolloutService/GetRollout", Reader),
    ("/tandem.fleet.v1.RolloutService/ListRolloutMembers", Reader),
    ("/tandem.fleet.v1.RolloutService/ListRollouts", Reader),
    ("/tandem.fleet.v1.RolloutService/PauseRollout", Configurator),
    (
        "/tandem.fleet.v1.RolloutService/ResumeRollout",
        Configurator,
    ),
    ("/tandem.fleet.v1.RolloutService/WatchRollout", Reader),
    (
        "/tandem.fleet.v1.SubcloudGroupService/AddSubcloudGroup",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.SubcloudGroupService/DeleteSubcloudGroup",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.SubcloudGroupService/GetSubcloudGroup",
        Reader,
    ),
    (
        "/tandem.fleet.v1.SubcloudGroupService/ListSubcloudGroups",
        Reader,
    ),
    (
        "/tandem.fleet.v1.SubcloudGroupService/UpdateSubcloudGroup",
        Configurator,
    ),
    ("/tandem.fleet.v1.SubcloudService/AddSubcloud", Configurator),
    (
        "/tandem.fleet.v1.SubcloudService/DeleteSubcloud",
        Configurator,
    ),
    ("/tandem.fleet.v1.SubcloudService/GetSubcloud", Reader),
    (
        "/tandem.fleet.v1.SubcloudService/IssueSubcloudToken",
        Configurator,
    ),
    ("/tandem.fleet.v1.SubcloudService/ListFleetEvents", Reader),
    ("/tandem.fleet.v1.SubcloudService/ListSubclouds", Reader),
    (
        "/tandem.fleet.v1.SubcloudService/ManageSubcloud",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.SubcloudService/UnmanageSubcloud",
        Configurator,
    ),
    (
        "/tandem.fleet.v1.SubcloudService/UpdateSubcloud",
        Configurator,
    ),
    ("/tandem.fleet.v1.SubcloudService/WatchFleet", Reader),
    (
        "/tandem.site.v1.NetworkService/AssignAddressPool",
        Configurator,
    ),
    (
        "/tandem.site.v1.NetworkService/CreateAddressPool",
        Configurator,
    ),
    ("/tandem.site.v1.NetworkService/CreateNetwork", Configurator),
    (
        "/tandem.site.v1.NetworkService/DeleteAddressPool",
        Configurator,
    ),
    ("/tandem.site.v1.NetworkService/DeleteNetwork", Configurator),
    ("/tandem.site.v1.NetworkService/GetAddressPool", Reader),
    ("/tandem.site.v1.NetworkService/GetNetwork", Reader),
    (
        "/tandem.site.v1.NetworkService/GetNetworkAddressPool",
        Reader,
    ),
    ("/tandem.site.v1.NetworkService/ListAddressPools", Reader),
    (
        "/tandem.site.v1.NetworkService/ListNetworkAddressPools",
        Reader,
    ),
    ("/tandem.site.v1.NetworkService/ListNetworks", Reader),
    (
        "/tandem.site.v1.NetworkService/RemoveAddressPool",
        Configurator,
    ),
    (
        "/tandem.site.v1.NetworkService/UpdateAddressPool",
        Configurator,
    ),
    ("/tandem.site.v1.SiteService/GetDns", Reader),
    ("/tandem.site.v1.SiteService/GetKubernetes", Reader),
    ("/tandem.site.v1.SiteService/GetOam", Reader),
    ("/tandem.site.v1.SiteService/GetSite", Reader),
    ("/tandem.site.v1.SiteService/ListAlarms", Reader),
    ("/tandem.site.v1.SiteService/ListHosts", Reader),
    ("/tandem.site.v1.SiteService/LockHost", Configurator),
    ("/tandem.site.v1.SiteService/ReportHost", Configurator),
    ("/tandem.site.v1.SiteService/UnlockHost", Configurator),
    ("/tandem.site.v1.SiteService/UpdateDns", Configurator),
    ("/tandem.site.v1.SiteService/UpdateOam", Configurator),
    ("/tandem.site.v1.SiteService/WatchSite", Reader),
];

/// The entry of a path; none when the table lacks it.
pub fn entry(path: &str) -> Option<(&'static str, Role)> {
    let at = METHODS.binary_search_by_key(&path, |(known, _)| known);
    at.ok().map(|at| METHODS[at])
}

/// The role that a path needs.
pub(crate) fn needed(path: &str) -> Role {
    entry(path).map_or(Admin, |(_, role)| role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_line_is_found() {
        assert!(METHODS.is_sorted_by(|(one, _), (other, _)| one < other));
        for (path, role) in METHODS {
            assert_eq!(needed(path), *role, "{path}");
        }
        assert_eq!(needed("/tandem.fleet.v1.SubcloudService/Unheard"), Admin);
        assert_eq!(needed(""), Admin);
    }
}
