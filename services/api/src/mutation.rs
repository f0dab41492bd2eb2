//! What every mutation has in common.

use crate::{fleet_v1, site_v1};

/// A request that changes something.
pub trait Mutation: prost::Message + Default + 'static {
    /// Only tell what would happen.
    fn validate_only(&self) -> bool;
    /// The client's name of the request; empty when it gave none.
    fn request_id(&self) -> &str;
    /// A request that has this name and nothing else.
    fn named(request_id: String) -> Self;
    /// The version of the object that the client read; empty skips the check.
    fn etag(&self) -> &str {
        ""
    }
    /// The path in this message of a field that the core names: the core knows a change, not
    /// the message that asks for it. An empty field stays empty: it is about no field.
    fn path(field: &str) -> String {
        field.to_owned()
    }
}

/// Where a message has a field: in the request itself, or in the object that it carries.
fn within(object: &str, field: &str) -> String {
    match field {
        "" | "etag" | "request_id" => field.to_owned(),
        _ => format!("{object}.{field}"),
    }
}

/// The path of a reference to a pool, an association or a network.
pub fn reference_path(field: &str) -> String {
    match field {
        "pool" => "address_pool",
        "attachment" => "uuid",
        _ => field,
    }
    .to_owned()
}

fn reported_path(field: &str) -> String {
    match field {
        "configuration" => "applied_configuration",
        _ => field,
    }
    .to_owned()
}

fn modified_pool_path(field: &str) -> String {
    match field {
        "pool" => "target".to_owned(),
        _ => within("address_pool", field),
    }
}

fn updated_subcloud_path(field: &str) -> String {
    match field {
        "update_mask" => field.to_owned(),
        _ => within("subcloud", field),
    }
}

fn group_path(field: &str) -> String {
    match field {
        "update_mask" => field.to_owned(),
        "max_parallel" => "subcloud_group.max_parallel_subclouds".to_owned(),
        _ => within("subcloud_group", field),
    }
}

fn peer_path(field: &str) -> String {
    match field {
        "update_mask" | "token" | "token_ttl_seconds" => field.to_owned(),
        // A fault of the card that the other site told of itself.
        _ if field.starts_with("card") => field.to_owned(),
        _ => within("system_peer", field),
    }
}

fn peer_group_path(field: &str) -> String {
    match field {
        "update_mask" => field.to_owned(),
        _ => within("subcloud_peer_group", field),
    }
}

fn gateways_path(field: &str) -> String {
    match field {
        "systemcontroller_gateway_address" => "gateway_addresses",
        _ => field,
    }
    .to_owned()
}

macro_rules! mutations {
    ($($message:ty $(, $property:ident $value:expr)*;)*) => {$(
        impl Mutation for $message {
            fn validate_only(&self) -> bool {
                self.validate_only
            }

            fn request_id(&self) -> &str {
                &self.request_id
            }

            fn named(request_id: String) -> Self {
                Self {
                    request_id,
                    ..Self::default()
                }
            }
            $(mutations!(@$property $value);)*
        }
    )*};
    (@etag $read:expr) => {
        fn etag(&self) -> &str {
            let read: fn(&Self) -> &String = $read;
            read(self)
        }
    };
    (@path $path:expr) => {
        fn path(field: &str) -> String {
            let path: fn(&str) -> String = $path;
            path(field)
        }
    };
}

mutations! {
    site_v1::CreateNetworkRequest, path reference_path;
    site_v1::DeleteNetworkRequest;
    site_v1::CreateAddressPoolRequest, path |field| within("address_pool", field);
    site_v1::UpdateAddressPoolRequest, etag |request| &request.etag, path modified_pool_path;
    site_v1::DeleteAddressPoolRequest, etag |request| &request.etag, path reference_path;
    site_v1::AssignAddressPoolRequest, path reference_path;
    site_v1::RemoveAddressPoolRequest, path reference_path;
    site_v1::LockHostRequest;
    site_v1::UnlockHostRequest;
    site_v1::ReportHostRequest, path reported_path;
    site_v1::UpdateDnsRequest;
    site_v1::UpdateOamRequest, path |field| within("oam", field);
    fleet_v1::AddSubcloudRequest;
    fleet_v1::IssueSubcloudTokenRequest;
    fleet_v1::AddOperatorRequest;
    fleet_v1::RevokeOperatorRequest;
    fleet_v1::ManageSubcloudRequest;
    fleet_v1::UnmanageSubcloudRequest;
    fleet_v1::UpdateSubcloudRequest, etag |request| &request.etag, path updated_subcloud_path;
    fleet_v1::DeleteSubcloudRequest, etag |request| &request.etag;
    fleet_v1::AddSubcloudGroupRequest, path group_path;
    fleet_v1::UpdateSubcloudGroupRequest, etag |request| &request.etag, path group_path;
    fleet_v1::DeleteSubcloudGroupRequest, etag |request| &request.etag;
    fleet_v1::CreateRolloutRequest;
    fleet_v1::PauseRolloutRequest;
    fleet_v1::ResumeRolloutRequest;
    fleet_v1::AbortRolloutRequest;
    fleet_v1::IssuePeeringTokenRequest, path peer_path;
    fleet_v1::AddSystemPeerRequest, path peer_path;
    fleet_v1::UpdateSystemPeerRequest, etag |request| &request.etag, path peer_path;
    fleet_v1::DeleteSystemPeerRequest, etag |request| &request.etag;
    fleet_v1::AddSubcloudPeerGroupRequest, path peer_group_path;
    fleet_v1::UpdateSubcloudPeerGroupRequest, etag |request| &request.etag, path peer_group_path;
    fleet_v1::DeleteSubcloudPeerGroupRequest, etag |request| &request.etag;
    fleet_v1::UpdateSubcloudPeerGroupMembersRequest;
    fleet_v1::MigrateSubcloudPeerGroupRequest;
    fleet_v1::AddPeerGroupAssociationRequest;
    fleet_v1::UpdatePeerGroupAssociationRequest, etag |request| &request.etag;
    fleet_v1::DeletePeerGroupAssociationRequest, etag |request| &request.etag;
    fleet_v1::SyncPeerGroupAssociationRequest;
    fleet_v1::SetSubcloudGatewaysRequest, path gateways_path;
    fleet_v1::DismissConflictRequest;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_the_core_are_paths_of_the_request() {
        fn check<M: Mutation>(field: &str, path: &str) {
            assert_eq!(M::path(field), path);
        }
        check::<site_v1::CreateAddressPoolRequest>(
            "ranges[1].first",
            "address_pool.ranges[1].first",
        );
        check::<site_v1::UpdateAddressPoolRequest>("pool", "target");
        check::<site_v1::UpdateAddressPoolRequest>("name", "address_pool.name");
        check::<site_v1::UpdateAddressPoolRequest>("request_id", "request_id");
        check::<site_v1::RemoveAddressPoolRequest>("attachment", "uuid");
        check::<site_v1::AssignAddressPoolRequest>("pool", "address_pool");
        check::<site_v1::UpdateOamRequest>("oam_subnet", "oam.oam_subnet");
        check::<site_v1::UpdateOamRequest>("", "");
        check::<site_v1::UpdateDnsRequest>("servers[0]", "servers[0]");
    }
}
