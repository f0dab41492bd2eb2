//! Requests to change a site. Texts pass unread: judging them is the core's work.

use fleet::SiteMethod;
use prost::Message as _;
use site::{AttachmentId, AttachmentRef, Change, OamEdit, PoolEdit, PoolId, PoolInput, RangeInput};
use uuid::Uuid;

use super::fleet_change::no_such_field;
use super::{Malformed, given_by_server, missing, value_of};
use crate::site_v1 as wire;

/// `CreateNetwork`; the two ids are those of the network and of its first association.
pub fn create_network(request: wire::CreateNetworkRequest, ids: (Uuid, Uuid)) -> Change {
    let wire::CreateNetworkRequest {
        name,
        r#type,
        dynamic,
        address_pool,
        validate_only: _,
        request_id: _,
    } = request;
    Change::AddNetwork {
        uuid: ids.0,
        attachment: AttachmentId(ids.1),
        name,
        kind: r#type,
        dynamic,
        pool: address_pool,
    }
}

/// `CreateAddressPool`.
///
/// # Errors
/// Every output-only field that is set, and an absent or unreadable pool.
pub fn create_pool(
    request: wire::CreateAddressPoolRequest,
    id: Uuid,
) -> Result<Change, Vec<Malformed>> {
    let wire::CreateAddressPoolRequest {
        address_pool,
        validate_only: _,
        request_id: _,
    } = request;
    let pool = address_pool.ok_or_else(|| missing("address_pool"))?;
    let mut faults = output_only(&pool);
    if !pool.uuid.is_empty() {
        faults.push(given_by_server("address_pool.uuid"));
    }
    let order = match order_text(pool.order) {
        Ok(order) => order,
        Err(fault) => {
            faults.push(fault);
            String::new()
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let pool = PoolInput {
        name: pool.name,
        network: pool.network,
        prefix: pool.prefix,
        order,
        ranges: ranges(pool.ranges),
        floating_address: pool.floating_address,
        controller0_address: pool.controller0_address,
        controller1_address: pool.controller1_address,
        gateway_address: pool.gateway_address,
    };
    Ok(Change::AddPool {
        id: PoolId(id),
        pool,
    })
}

/// `UpdateAddressPool`: the fields that the mask names, or without a mask those that are set.
///
/// # Errors
/// An absent pool, an unreadable order, and every path of the mask that cannot be changed.
pub fn update_pool(request: wire::UpdateAddressPoolRequest) -> Result<Change, Vec<Malformed>> {
    let wire::UpdateAddressPoolRequest {
        target,
        address_pool,
        update_mask,
        etag: _,
        validate_only: _,
        request_id: _,
    } = request;
    let pool = address_pool.ok_or_else(|| missing("address_pool"))?;
    let order = order_text(pool.order).map_err(|fault| vec![fault])?;
    let named = match update_mask {
        Some(mask) if !mask.paths.is_empty() => mask.paths,
        _ => filled(&pool),
    };
    let mut edit = PoolEdit::default();
    let mut faults = Vec::new();
    for (index, path) in named.iter().enumerate() {
        match path.as_str() {
            "name" => edit.name = Some(pool.name.clone()),
            "network" => edit.network = Some(pool.network.clone()),
            "prefix" => edit.prefix = Some(pool.prefix),
            "order" => edit.order = Some(order.clone()),
            "ranges" => edit.ranges = Some(ranges(pool.ranges.clone())),
            "floating_address" => edit.floating_address = Some(pool.floating_address.clone()),
            "controller0_address" => {
                edit.controller0_address = Some(pool.controller0_address.clone());
            }
            "controller1_address" => {
                edit.controller1_address = Some(pool.controller1_address.clone());
            }
            "gateway_address" => edit.gateway_address = Some(pool.gateway_address.clone()),
            other => faults.push(no_such_field(index, other, POOL_FIELDS)),
        }
    }
    if faults.is_empty() {
        Ok(Change::ModifyPool { pool: target, edit })
    } else {
        Err(faults)
    }
}

/// What of a pool can change.
const POOL_FIELDS: &str = "name, network, prefix, order, ranges, floating_address, \
                           controller0_address, controller1_address and gateway_address";

/// The association that `RemoveAddressPool` or `GetNetworkAddressPool` names.
///
/// # Errors
/// When both the uuid and the ends are given, or neither.
pub fn attachment_ref(
    uuid: String,
    network: String,
    address_pool: String,
) -> Result<AttachmentRef, Vec<Malformed>> {
    match (
        uuid.is_empty(),
        network.is_empty() && address_pool.is_empty(),
    ) {
        (false, true) => Ok(AttachmentRef::Id(uuid)),
        (true, false) => Ok(AttachmentRef::Ends {
            network,
            pool: address_pool,
        }),
        (true, true) => {
            let valid = "name the association by its uuid, or by its network and pool";
            Err(vec![Malformed::new("uuid", "is missing").remedy(valid)])
        }
        (false, false) => {
            let problem = "is given, and the two ends of the association too";
            let valid = "name the association by its uuid or by its network and pool, not by both";
            Err(vec![Malformed::new("uuid", problem).remedy(valid)])
        }
    }
}

/// `DeleteNetwork`.
pub fn delete_network(request: wire::DeleteNetworkRequest) -> Change {
    Change::DeleteNetwork {
        network: request.network,
    }
}

/// `RemoveAddressPool`.
///
/// # Errors
/// When it does not name one association.
pub fn remove_pool(request: wire::RemoveAddressPoolRequest) -> Result<Change, Vec<Malformed>> {
    let wire::RemoveAddressPoolRequest {
        uuid,
        network,
        address_pool,
        ..
    } = request;
    let attachment = attachment_ref(uuid, network, address_pool)?;
    Ok(Change::RemovePool { attachment })
}

/// `AssignAddressPool`.
pub fn assign_pool(request: wire::AssignAddressPoolRequest, id: Uuid) -> Change {
    let wire::AssignAddressPoolRequest {
        network,
        address_pool,
        validate_only: _,
        request_id: _,
    } = request;
    Change::AssignPool {
        id: AttachmentId(id),
        network,
        pool: address_pool,
    }
}

/// `UpdateOam`: an empty field stays as it is.
///
/// # Errors
/// An absent `oam`, and the range fields, which this deprecated view only shows.
pub fn update_oam(request: wire::UpdateOamRequest) -> Result<Change, Vec<Malformed>> {
    let wire::UpdateOamRequest {
        oam,
        validate_only: _,
        request_id: _,
    } = request;
    let wire::Oam {
        oam_subnet,
        oam_gateway_ip,
        oam_floating_ip,
        oam_c0_ip,
        oam_c1_ip,
        oam_ip,
        oam_start_ip,
        oam_end_ip,
    } = oam.ok_or_else(|| missing("oam"))?;
    let mut faults = Vec::new();
    for (field, value) in [
        ("oam.oam_start_ip", oam_start_ip),
        ("oam.oam_end_ip", oam_end_ip),
    ] {
        if !value.is_empty() {
            let valid = "leave it out; `system addrpool-modify` changes the ranges of the pool";
            faults.push(Malformed::new(field, "cannot be changed here").remedy(valid));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let set = |value: String| (!value.is_empty()).then_some(value);
    let edit = OamEdit {
        oam_subnet: set(oam_subnet),
        oam_gateway_ip: set(oam_gateway_ip),
        oam_floating_ip: set(oam_floating_ip),
        oam_c0_ip: set(oam_c0_ip),
        oam_c1_ip: set(oam_c1_ip),
        oam_ip: set(oam_ip),
    };
    Ok(Change::ModifyOam { edit })
}

/// The fields that only an answer has and that a request sets all the same.
fn output_only(pool: &wire::AddressPool) -> Vec<Malformed> {
    let set = [
        ("address_pool.allocations", !pool.allocations.is_empty()),
        ("address_pool.remembered", !pool.remembered.is_empty()),
        ("address_pool.family", pool.family != 0),
        ("address_pool.network_name", !pool.network_name.is_empty()),
        ("address_pool.etag", !pool.etag.is_empty()),
    ];
    let fault = |field| Malformed::new(field, "is output only").remedy("leave it out");
    set.into_iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(field, _)| fault(field))
        .collect()
}

/// The changeable fields that are not empty.
fn filled(pool: &wire::AddressPool) -> Vec<String> {
    let fields = [
        ("name", !pool.name.is_empty()),
        ("network", !pool.network.is_empty()),
        ("prefix", pool.prefix != 0),
        ("order", pool.order != 0),
        ("ranges", !pool.ranges.is_empty()),
        ("floating_address", !pool.floating_address.is_empty()),
        ("controller0_address", !pool.controller0_address.is_empty()),
        ("controller1_address", !pool.controller1_address.is_empty()),
        ("gateway_address", !pool.gateway_address.is_empty()),
    ];
    fields
        .into_iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn order_text(order: i32) -> Result<String, Malformed> {
    let order = value_of("address_pool.order", order, wire::Order::as_str_name)?;
    Ok(match order {
        wire::Order::Unspecified => String::new(),
        wire::Order::Random => "random".to_owned(),
        wire::Order::Sequential => "sequential".to_owned(),
    })
}

fn ranges(ranges: Vec<wire::AddressRange>) -> Vec<RangeInput> {
    let range = |wire::AddressRange { first, last }| RangeInput { first, last };
    ranges.into_iter().map(range).collect()
}

/// What an encoded request asks of a site, when it can change which addresses the site has; `None`
/// for every other method, and for what cannot be read: the site itself says why. The ids are for
/// what comes into being.
pub fn change_of_addresses(method: SiteMethod, body: &[u8], ids: (Uuid, Uuid)) -> Option<Change> {
    match method {
        SiteMethod::CreateNetwork => {
            let request = wire::CreateNetworkRequest::decode(body).ok()?;
            Some(create_network(request, ids))
        }
        SiteMethod::DeleteNetwork => {
            let request = wire::DeleteNetworkRequest::decode(body).ok()?;
            Some(delete_network(request))
        }
        SiteMethod::UpdateAddressPool => {
            update_pool(wire::UpdateAddressPoolRequest::decode(body).ok()?).ok()
        }
        SiteMethod::AssignAddressPool => {
            let request = wire::AssignAddressPoolRequest::decode(body).ok()?;
            Some(assign_pool(request, ids.0))
        }
        SiteMethod::RemoveAddressPool => {
            remove_pool(wire::RemoveAddressPoolRequest::decode(body).ok()?).ok()
        }
        SiteMethod::UpdateOam => update_oam(wire::UpdateOamRequest::decode(body).ok()?).ok(),
        _ => None,
    }
}
