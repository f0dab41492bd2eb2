//! What a subcloud knows about the networks of its system controller.

use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{default_range, overlap};
use crate::plan::{Draft, Subject};
use crate::rules::networks::free_id;
use crate::rules::refusal;
use crate::shape::subnet_faults;
use crate::{
    Addresses, Attachment, ControllerNetwork, DistributedCloudRole, Family, Network, NetworkId,
    NetworkKind, Order, Pool, PoolId, PoolParts, Pools, Reason, Rejection, Site, Violation,
};

/// Keeps the primary subnets of the system controller's link and oam networks, of the link only
/// where a route is needed to it (see [`needs_no_route`]). Saying the same again changes nothing.
pub(crate) fn set_controller_networks(
    site: &Site,
    link: ControllerNetwork,
    oam: Option<ControllerNetwork>,
) -> Result<Draft, Rejection> {
    if site.identity.role != DistributedCloudRole::Subcloud {
        let message = format!("site {} is not a subcloud", site.identity.name);
        let remedy = "send the networks of a system controller to its subclouds only";
        return Err(Rejection::one(Violation::new(
            Reason::NotASubcloud,
            message,
            remedy,
        )));
    }
    let wanted = [
        (NetworkKind::SystemController, "link", Some(link)),
        (NetworkKind::SystemControllerOam, "oam", oam),
    ];
    let mut faults = Vec::new();
    for (_, field, network) in &wanted {
        faults.extend(
            network
                .iter()
                .flat_map(|net| subnet_faults(format_args!("{field}."), net.subnet)),
        );
    }
    Rejection::check(faults)?;
    let own_link = site.link_pool().map(Pool::subnet);
    let wanted = wanted.map(|(kind, field, network)| {
        let on_link = |told: &ControllerNetwork| {
            kind == NetworkKind::SystemController
                && own_link.is_some_and(|own| needs_no_route(own, told.subnet))
        };
        (kind, field, network.filter(|told| !on_link(told)))
    });
    let mut next = site.clone();
    for (kind, _, network) in &wanted {
        // Both are taken out first: the two may swap their subnets.
        let known = site
            .network(*kind)
            .filter(|known| !keeps(site, known, *network));
        if let Some(known) = known {
            take_out(&mut next, known);
        }
    }
    let mut faults = Vec::new();
    for (kind, field, network) in wanted {
        if let Some(network) = network
            && next.network(kind).is_none()
        {
            faults.extend(put_in(site, &mut next, kind, field, network));
        }
    }
    Rejection::check(faults)?;
    Ok(Draft::of(next, Subject::ControllerNetworks))
}

/// Whether a site whose link network has the primary subnet `own` is on the controller's link
/// network. Such a site reaches the controller over its link as it is: it keeps no
/// system-controller network, which would overlap its own one (I6), and takes out one that it has.
pub fn needs_no_route(own: IpNet, controller: IpNet) -> bool {
    overlap(own, controller)
}

/// Whether the network has this primary subnet already.
fn keeps(site: &Site, known: &Network, wanted: Option<ControllerNetwork>) -> bool {
    let subnet = site.pool(known.pools.primary().pool).map(Pool::subnet);
    wanted.is_some_and(|wanted| subnet == Some(wanted.subnet))
}

/// A network that the system controller no longer has goes with its pools: they describe a
/// foreign network and are of no use here.
fn take_out(next: &mut Site, known: &Network) {
    next.networks.remove(&known.id);
    for (_, end) in known.pools.iter() {
        next.pools.remove(&end.pool);
    }
}

fn put_in(
    site: &Site,
    next: &mut Site,
    kind: NetworkKind,
    field: &str,
    wanted: ControllerNetwork,
) -> Vec<Violation> {
    let name = format!("{kind}-subnet");
    let family = Family::of_subnet(wanted.subnet);
    // A network that is known keeps its ids, so that references to it stay good.
    let known = site.network(kind);
    let end = known.map(|network| network.pools.primary());
    // So does the pool of one that was deleted: it stayed behind under the name.
    let spare = take_spare(next, &name);
    let pool = end.map(|end| end.pool).or(spare).unwrap_or(wanted.pool);
    let mut faults = refusal::overlaps(next, &name, pool, wanted.subnet, Some(kind));
    if let Some(primary) = next.primary_family().filter(|primary| *primary != family) {
        faults.push(refusal::primary_family_mismatch(&name, family, primary));
    }
    if next.pools.contains_key(&pool) {
        let id = pool.0.to_string();
        faults.push(refusal::name_taken("pool", "pool", &id));
    }
    let holder = next.pools().find(|other| other.name == name);
    if let Some((user, _)) = holder.and_then(|holder| next.network_of(holder.id)) {
        faults.push(name_in_use(&name, user));
    }
    let attachment = end.map_or(wanted.attachment, |end| end.id);
    if next.attachment(attachment).is_some() {
        let id = attachment.0.to_string();
        faults.push(refusal::name_taken("attachment", "association", &id));
    }
    let uuid = known.map_or(wanted.network, |network| network.uuid);
    let network_name = known.map_or_else(|| kind.name().to_owned(), |known| known.name.clone());
    if next
        .networks()
        .any(|other| other.uuid == uuid || other.name == network_name)
    {
        faults.push(refusal::name_taken("network", "network", &network_name));
    }
    faults.extend(refusal::too_many_pools(next));
    if !faults.is_empty() {
        return faults
            .into_iter()
            .map(|fault| within(fault, field))
            .collect();
    }
    // Nor may a new one take the number of the other, which was taken out and comes back.
    let id = known.map_or_else(|| free_id(&[site, next]), |network| network.id);
    insert(
        next,
        id,
        Network {
            id,
            uuid,
            name: network_name,
            kind,
            dynamic: false,
            pools: Pools::Single(Attachment {
                id: attachment,
                pool,
                family,
            }),
        },
        foreign_pool(pool, name, wanted),
    );
    Vec::new()
}

/// Takes out the pool of this name that no network uses.
fn take_spare(next: &mut Site, name: &str) -> Option<PoolId> {
    let spare = next.pools().find(|pool| pool.name == name)?.id;
    if next.network_of(spare).is_some() {
        return None;
    }
    next.pools.remove(&spare);
    Some(spare)
}

fn name_in_use(name: &str, user: &Network) -> Violation {
    let message = format!(
        "pool {name}, whose name is for the system controller's networks, serves network {}",
        user.name
    );
    let remedy = format!(
        "give that pool another name, or delete network {}",
        user.name
    );
    Violation::new(Reason::NameTaken, message, remedy)
        .at("pool")
        .object("pool", name)
        .object("network", &user.name)
}

fn within(mut fault: Violation, field: &str) -> Violation {
    fault.field = match fault.field.is_empty() {
        true => format!("{field}.subnet"),
        false => format!("{field}.{}", fault.field),
    };
    fault
}

fn foreign_pool(id: PoolId, name: String, wanted: ControllerNetwork) -> PoolParts {
    let ranges = default_range(wanted.subnet).into_iter();
    PoolParts {
        id,
        name,
        subnet: wanted.subnet,
        order: Order::default(),
        ranges: ranges.map(|range| (range.first, range.last)).collect(),
        addresses: Addresses::default(),
        holders: Default::default(),
        remembered: Default::default(),
    }
}

fn insert(next: &mut Site, id: NetworkId, network: Network, pool: PoolParts) {
    next.networks.insert(id, Arc::new(network));
    next.pools.insert(pool.id, Arc::new(Pool::of_checked(pool)));
}
