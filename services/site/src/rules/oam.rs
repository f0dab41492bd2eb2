//! oam-modify: the deprecated view of the primary pool of oam. It becomes an edit of the pool,
//! so that there is one set of rules.

use ipnet::IpNet;

use crate::lookup;
use crate::plan::{Draft, Subject};
use crate::rules::pools::modify_pool;
use crate::shape::invalid;
use crate::{NetworkKind, OamEdit, Pool, PoolEdit, Rejection, Site, Violation, Word};

pub(crate) fn modify_oam(site: &Site, edit: &OamEdit) -> Result<Draft, Rejection> {
    let oam = lookup::network(site, "", NetworkKind::Oam.name())?;
    let id = oam.pools.primary().pool;
    let Some(pool) = site.pool(id) else {
        return Ok(Draft::of(site.clone(), Subject::Pool(id)));
    };
    let edit = translate(site.is_simplex(), pool, edit).map_err(Rejection::of)?;
    modify_pool(site, &id.0.to_string(), &edit).map_err(|rejection| rejection.rename(oam_field))
}

/// The name of a field in the deprecated view.
fn oam_field(field: &str) -> &str {
    match field {
        "network" | "prefix" => "oam_subnet",
        "floating_address" => "oam_floating_ip",
        "controller0_address" => "oam_c0_ip",
        "controller1_address" => "oam_c1_ip",
        "gateway_address" => "oam_gateway_ip",
        other => other,
    }
}

fn translate(simplex: bool, pool: &Pool, edit: &OamEdit) -> Result<PoolEdit, Vec<Violation>> {
    let mut faults = Vec::new();
    let mut translated = PoolEdit::default();
    if let Some(text) = &edit.oam_subnet {
        match read_subnet(text) {
            Some((network, prefix)) => {
                translated.network = Some(network);
                translated.prefix = Some(prefix);
                // This view has no ranges: they follow the subnet.
                translated.ranges = Some(Vec::new());
            }
            None => {
                let shown: String = text.chars().take(64).collect();
                let message = format!("oam_subnet {shown:?} is not a subnet");
                let remedy = "write it like 10.10.10.0/24 or fd00::/64";
                faults.push(invalid("oam_subnet", message, remedy));
            }
        }
    }
    let (floating, more) = match (simplex, &edit.oam_floating_ip, &edit.oam_ip) {
        (true, Some(one), Some(two)) if one != two => (None, Some("oam_floating_ip")),
        (true, floating, ip) => (ip.as_ref().or(floating.as_ref()), None),
        (false, floating, None) => (floating.as_ref(), None),
        (false, _, Some(_)) => (None, Some("oam_ip")),
    };
    if let Some(field) = more {
        faults.push(wrong_mode(simplex, field));
    }
    if simplex && (edit.oam_c0_ip.is_some() || edit.oam_c1_ip.is_some()) {
        let field = if edit.oam_c0_ip.is_some() {
            "oam_c0_ip"
        } else {
            "oam_c1_ip"
        };
        faults.push(wrong_mode(simplex, field));
    }
    translated.floating_address = floating.cloned();
    translated.controller0_address = edit.oam_c0_ip.clone();
    translated.controller1_address = edit.oam_c1_ip.clone();
    translated.gateway_address = edit.oam_gateway_ip.clone();
    faults.extend(address_faults(pool, &translated));
    if faults.is_empty() {
        Ok(translated)
    } else {
        Err(faults)
    }
}

fn wrong_mode(simplex: bool, field: &str) -> Violation {
    let (mode, remedy) = match simplex {
        true => ("simplex", "a simplex site has one oam address: give oam_ip"),
        false => ("duplex", "give oam_floating_ip, oam_c0_ip and oam_c1_ip"),
    };
    invalid(
        field,
        format!("{field} does not apply to this {mode} site"),
        remedy,
    )
}

/// What this view cannot do, though addrpool-modify can.
fn address_faults(pool: &Pool, edit: &PoolEdit) -> Vec<Violation> {
    let mut faults = Vec::new();
    let remedy = format!("use `system addrpool-modify {}`", Word(&pool.name));
    let texts = [
        ("oam_floating_ip", &edit.floating_address),
        ("oam_c0_ip", &edit.controller0_address),
        ("oam_c1_ip", &edit.controller1_address),
        ("oam_gateway_ip", &edit.gateway_address),
    ];
    for (field, text) in texts {
        let Some(text) = text else { continue };
        if text.is_empty() {
            let message = format!("{field} cannot be cleared through oam-modify");
            faults.push(invalid(field, message, &remedy));
        }
    }
    if edit.gateway_address.is_some() && pool.addresses.gateway.is_none() {
        let message = format!("pool {} has no gateway that could be modified", pool.name);
        faults.push(invalid("oam_gateway_ip", message, &remedy));
    }
    faults
}

/// Splits `10.10.10.0/24`; the rules of the pool judge the two halves.
fn read_subnet(text: &str) -> Option<(String, u32)> {
    text.parse::<IpNet>().ok()?;
    let (network, prefix) = text.split_once('/')?;
    Some((network.to_owned(), prefix.parse().ok()?))
}
