//! The commands that rollouts send.

use fleet::SiteMethod;
use prost::Message as _;
use site::{AttachmentRef, Change, PoolEdit};

use super::rollout_records::{edit_as_input, input_as_edit, range_input_to_wire};
use crate::site_v1;

/// The command that asks a site for a change; `None` for changes that no rollout makes.
pub fn command_of(change: Change, request_id: String) -> Option<(SiteMethod, Vec<u8>)> {
    match change {
        Change::AddPool { id: _, pool } => {
            let request = site_v1::CreateAddressPoolRequest {
                address_pool: Some(pool_to_wire(input_as_edit(&pool))),
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::CreateAddressPool, request.encode_to_vec()))
        }
        Change::AssignPool {
            id: _,
            network,
            pool,
        } => {
            let request = site_v1::AssignAddressPoolRequest {
                network,
                address_pool: pool,
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::AssignAddressPool, request.encode_to_vec()))
        }
        Change::RemovePool {
            attachment: AttachmentRef::Ends { network, pool },
        } => {
            let request = site_v1::RemoveAddressPoolRequest {
                uuid: String::new(),
                network,
                address_pool: pool,
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::RemoveAddressPool, request.encode_to_vec()))
        }
        Change::DeletePool { pool } => {
            let request = site_v1::DeleteAddressPoolRequest {
                address_pool: pool,
                etag: String::new(),
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::DeleteAddressPool, request.encode_to_vec()))
        }
        Change::ModifyPool { pool, edit } => {
            let request = site_v1::UpdateAddressPoolRequest {
                target: pool,
                update_mask: Some(prost_types::FieldMask {
                    paths: named(&edit),
                }),
                address_pool: Some(pool_to_wire(edit)),
                etag: String::new(),
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::UpdateAddressPool, request.encode_to_vec()))
        }
        _ => None,
    }
}

fn named(edit: &PoolEdit) -> Vec<String> {
    let fields = [
        ("name", edit.name.is_some()),
        ("network", edit.network.is_some()),
        ("prefix", edit.prefix.is_some()),
        ("order", edit.order.is_some()),
        ("ranges", edit.ranges.is_some()),
        ("floating_address", edit.floating_address.is_some()),
        ("controller0_address", edit.controller0_address.is_some()),
        ("controller1_address", edit.controller1_address.is_some()),
        ("gateway_address", edit.gateway_address.is_some()),
    ];
    let set = fields.into_iter().filter(|(_, set)| *set);
    set.map(|(name, _)| name.to_owned()).collect()
}

/// The order was judged by the site's rules before: it is one that they know.
fn pool_to_wire(edit: PoolEdit) -> site_v1::AddressPool {
    let pool = edit_as_input(edit);
    site_v1::AddressPool {
        name: pool.name,
        network: pool.network,
        prefix: pool.prefix,
        order: match pool.order.as_str() {
            "random" => site_v1::Order::Random,
            "sequential" => site_v1::Order::Sequential,
            _ => site_v1::Order::Unspecified,
        } as i32,
        ranges: pool.ranges.into_iter().map(range_input_to_wire).collect(),
        floating_address: pool.floating_address,
        controller0_address: pool.controller0_address,
        controller1_address: pool.controller1_address,
        gateway_address: pool.gateway_address,
        ..site_v1::AddressPool::default()
    }
}

#[cfg(test)]
mod tests {
    use site::{PoolId, PoolInput};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_command_asks_for_the_change_that_it_is_made_of() {
        let edit = PoolEdit {
            name: Some("p".to_owned()),
            order: Some("sequential".to_owned()),
            gateway_address: Some(String::new()),
            ..PoolEdit::default()
        };
        let change = Change::ModifyPool {
            pool: "x".to_owned(),
            edit,
        };
        let (method, bytes) = command_of(change.clone(), "id".to_owned()).expect("a command");
        assert_eq!(method, SiteMethod::UpdateAddressPool);
        let request = site_v1::UpdateAddressPoolRequest::decode(bytes.as_slice()).expect("sound");
        assert_eq!(request.request_id, "id");
        assert_eq!(super::super::update_pool(request), Ok(change));

        let pool = PoolInput {
            name: "p".to_owned(),
            network: "fd01::".to_owned(),
            prefix: 64,
            order: "random".to_owned(),
            ..PoolInput::default()
        };
        let change = Change::AddPool {
            id: PoolId(Uuid::from_u128(1)),
            pool,
        };
        let (method, bytes) = command_of(change.clone(), "id".to_owned()).expect("a command");
        assert_eq!(method, SiteMethod::CreateAddressPool);
        let request = site_v1::CreateAddressPoolRequest::decode(bytes.as_slice()).expect("sound");
        assert_eq!(
            super::super::create_pool(request, Uuid::from_u128(1)),
            Ok(change)
        );
        let lock = Change::LockHost {
            hostname: "h".to_owned(),
        };
        assert_eq!(command_of(lock, "id".to_owned()), None);
    }
}
