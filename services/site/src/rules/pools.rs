//! addrpool-add, addrpool-modify, addrpool-delete.

use std::net::IpAddr;
use std::sync::Arc;

use crate::lookup;
use crate::plan::{Draft, Subject};
use crate::rules::pool_input::{ReadEdit, Wanted};
use crate::rules::{attach, refusal};
use crate::{
    AddressRole, Family, Network, NetworkKind, Pool, PoolEdit, PoolId, PoolInput, PoolParts, Rank,
    Reason, Rejection, Site, Violation, Word,
};

pub(crate) fn add_pool(site: &Site, id: PoolId, input: &PoolInput) -> Result<Draft, Rejection> {
    let wanted = Wanted::of_input(input).map_err(Rejection::of)?;
    let mut faults = Vec::new();
    if site.pool(id).is_some() {
        faults.push(refusal::name_taken("id", "pool", &id.0.to_string()));
    }
    if site.pools().any(|pool| pool.name == wanted.name) {
        faults.push(refusal::name_taken("name", "pool", &wanted.name));
    }
    faults.extend(addresses_in_use(site, None, &wanted));
    faults.extend(refusal::too_many_pools(site));
    Rejection::check(faults)?;
    let mut next = site.clone();
    for (_, address) in wanted.addresses.iter() {
        take_from_unattached(&mut next, address, id);
    }
    let pool = Pool::of_checked(PoolParts {
        id,
        name: wanted.name,
        subnet: wanted.subnet,
        order: wanted.order,
        ranges: wanted.ranges,
        addresses: wanted.addresses,
        holders: Default::default(),
        remembered: Default::default(),
    });
    next.pools.insert(id, Arc::new(pool));
    Ok(Draft::of(next, Subject::Pool(id)))
}

pub(crate) fn modify_pool(
    site: &Site,
    reference: &str,
    edit: &PoolEdit,
) -> Result<Draft, Rejection> {
    let pool = lookup::pool(site, "pool", reference)?;
    let network = site.network_of(pool.id);
    let barred = network.map_or_else(Vec::new, |(on, rank)| read_only(site, pool, on, rank));
    let read = match ReadEdit::of(edit) {
        Ok(read) => read,
        Err(faults) => return Err(Rejection::of([faults, barred].concat())),
    };
    let taken = edit.name.as_ref().filter(|name| {
        site.pools()
            .any(|other| other.name == **name && other.id != pool.id)
    });
    let mut faults: Vec<_> = taken
        .map(|name| refusal::name_taken("name", "pool", name))
        .into_iter()
        .collect();
    faults.extend(barred);
    if let Some(moved) = read
        .network
        .filter(|moved| Family::of(*moved) != pool.family())
    {
        faults.push(family_immutable(pool, moved));
    }
    // What is left would only repeat in other words that the pool cannot be modified so.
    Rejection::check(faults)?;
    let wanted = held_against_site(site, pool, network, read)?;
    let id = pool.id;
    Ok(Draft::of(replace(site, id, wanted), Subject::Pool(id)))
}

/// The pool with the edit applied, if every rule about the result allows it.
fn held_against_site(
    site: &Site,
    pool: &Pool,
    network: Option<(&Network, Rank)>,
    read: ReadEdit,
) -> Result<Wanted, Rejection> {
    let moves = read.network.is_some() || read.prefix.is_some();
    let ranges_given = read
        .ranges
        .as_ref()
        .is_some_and(|ranges| !ranges.is_empty());
    let mentioned: Vec<AddressRole> = read.addresses.iter().map(|(role, _)| *role).collect();
    let cleared = read
        .addresses
        .iter()
        .filter(|(_, address)| address.is_none());
    let cleared: Vec<AddressRole> = cleared.map(|(role, _)| *role).collect();
    let mut wanted = read.onto(pool).map_err(Rejection::of)?;
    let mut faults = Vec::new();
    if wanted.subnet != pool.subnet {
        let kind = network.map(|(network, _)| network.kind);
        faults.extend(refusal::overlaps(
            site,
            &wanted.name,
            pool.id,
            wanted.subnet,
            kind,
        ));
    }
    faults.extend(wanted.shape_faults(|role| ranges_given || mentioned.contains(&role)));
    faults.extend(range_excludes(pool, &wanted));
    if let Some((network, _)) = network {
        let needed = needed_roles(site, network);
        if moves || needed.iter().any(|role| cleared.contains(role)) {
            faults.extend(address_required(network, &wanted, needed));
        }
    }
    faults.extend(addresses_in_use(site, Some(pool), &wanted));
    Rejection::check(faults)?;
    wanted.ranges.sort_unstable();
    Ok(wanted)
}

fn replace(site: &Site, id: PoolId, wanted: Wanted) -> Site {
    let mut next = site.clone();
    for (_, address) in wanted.addresses.iter() {
        take_from_unattached(&mut next, address, id);
    }
    if let Some(old) = site.pool(id)
        && Wanted::of_pool(old) != wanted
    {
        let mut parts = old.to_parts();
        parts.name = wanted.name;
        parts.subnet = wanted.subnet;
        parts.order = wanted.order;
        parts.ranges = wanted.ranges;
        parts.addresses = wanted.addresses;
        // What the pool remembers is of use only as long as it could be given out again.
        parts.remembered.retain(|_, address| {
            crate::address::unusable(parts.subnet, *address).is_none()
                && parts.addresses.iter().all(|(_, named)| named != *address)
        });
        next.pools.insert(id, Arc::new(Pool::of_checked(parts)));
    }
    next
}

pub(crate) fn delete_pool(site: &Site, reference: &str) -> Result<Draft, Rejection> {
    let pool = lookup::pool(site, "pool", reference)?;
    let mut next = match site.network_of(pool.id) {
        None => site.clone(),
        Some((network, Rank::Primary)) => {
            return Err(Rejection::one(refusal::pool_is_primary(network, pool)));
        }
        Some((network, Rank::Secondary)) => {
            Rejection::check(remove_first(site, network, pool))?;
            Rejection::check(attach::removal_faults(site, network, pool, Rank::Secondary))?;
            let mut next = site.clone();
            attach::detach(&mut next, network.id, pool.id);
            next
        }
    };
    next.pools.remove(&pool.id);
    Ok(Draft::of(next, Subject::Pool(pool.id)))
}

/// Secondaries that must be removed from their network before they can be deleted.
fn remove_first(site: &Site, network: &Network, pool: &Pool) -> Vec<Violation> {
    let held = match network.kind {
        NetworkKind::Mgmt => !site.is_simplex(),
        NetworkKind::Multicast => true,
        kind => kind.is_cluster(),
    };
    if !held || !site.initial_config_complete {
        return Vec::new();
    }
    let message = format!("pool {} still serves network {}", pool.name, network.name);
    let remedy = format!(
        "remove it first: `system network-addrpool-remove {} {}`",
        Word(&network.name),
        Word(&pool.name)
    );
    let fault = Violation::new(Reason::PoolReadOnly, message, remedy);
    vec![
        fault
            .object("pool", &pool.name)
            .object("network", &network.name),
    ]
}

/// Which attached pools cannot be modified at run time.
fn read_only(site: &Site, pool: &Pool, network: &Network, rank: Rank) -> Vec<Violation> {
    if !site.initial_config_complete {
        return Vec::new();
    }
    let refuse = |remedy: String| {
        let message = format!(
            "pool {}, {rank} of network {}, cannot be modified at run time",
            pool.name, network.name
        );
        let fault = Violation::new(Reason::PoolReadOnly, message, remedy);
        vec![
            fault
                .object("pool", &pool.name)
                .object("network", &network.name),
        ]
    };
    match network.kind {
        NetworkKind::Oam
        | NetworkKind::Admin
        | NetworkKind::SystemController
        | NetworkKind::SystemControllerOam => Vec::new(),
        NetworkKind::Mgmt if site.is_simplex() => {
            let host = site.unlocked_simplex_controller();
            let fault = host.map(|host| refusal::host_unlocked(host, "modifying a pool of mgmt"));
            fault.into_iter().collect()
        }
        NetworkKind::Mgmt if rank == Rank::Secondary => refuse(format!(
            "remove, modify, assign: `system network-addrpool-remove {0} {1}`, `system \
             addrpool-modify {1} ...`, `system network-addrpool-assign {0} {1}`",
            Word(&network.name),
            Word(&pool.name)
        )),
        NetworkKind::Mgmt => refuse(
            "the primary pool of mgmt needs a reinstall of the site; the secondary may be \
             modified through remove, modify, assign"
                .into(),
        ),
        _ => refuse("a reinstall of the site is needed to change this pool".into()),
    }
}

fn family_immutable(pool: &Pool, moved: IpAddr) -> Violation {
    let message = format!(
        "pool {} is {} and stays so; {moved} is {}",
        pool.name,
        pool.family(),
        Family::of(moved)
    );
    let remedy = format!("give an {} network, or add another pool", pool.family());
    Violation::new(Reason::FamilyImmutable, message, remedy)
        .at("network")
        .object("pool", &pool.name)
        .fact("invariant", "I1")
}

fn range_excludes(pool: &Pool, wanted: &Wanted) -> Vec<Violation> {
    let within = |address: IpAddr| {
        let mut ranges = wanted.ranges.iter();
        ranges.any(|(first, last)| *first <= address && address <= *last)
            && wanted.subnet.contains(&address)
    };
    let left_out = pool
        .holders
        .iter()
        .filter(|(address, _)| !within(**address));
    let faults = left_out.map(|(address, holder)| {
        let message = format!(
            "the ranges of {} would leave out {address} of {holder}",
            pool.name
        );
        Violation::new(
            Reason::RangeExcludesAllocated,
            message,
            "give ranges that keep it",
        )
        .at("ranges")
        .object("pool", &pool.name)
        .object("holder", holder)
        .fact("address", address)
    });
    faults.collect()
}

/// The addresses that a network cannot do without.
fn needed_roles(site: &Site, network: &Network) -> &'static [AddressRole] {
    match network.kind {
        NetworkKind::Oam | NetworkKind::Mgmt | NetworkKind::Admin | NetworkKind::Pxeboot => {
            attach::controller_roles(site)
        }
        _ => &[],
    }
}

/// Refuses an edit that leaves a network without addresses that it needs. It is asked only for
/// edits that move the subnet or clear one of them: a secondary of oam may have been assigned
/// without any, and can still be renamed, or get them one by one.
fn address_required(
    network: &Network,
    wanted: &Wanted,
    needed: &[AddressRole],
) -> Option<Violation> {
    let missing = needed
        .iter()
        .filter(|role| wanted.addresses.get(**role).is_none());
    let missing: Vec<&str> = missing.map(|role| role.field()).collect();
    let first = *missing.first()?;
    let list = missing.join(", ");
    let message = format!(
        "network {} needs {list} of pool {}",
        network.name, wanted.name
    );
    let fault = Violation::new(Reason::AddressRequired, message, format!("give {list}"));
    Some(
        fault
            .at(first)
            .object("pool", &wanted.name)
            .object("network", &network.name)
            .fact("missing", list),
    )
}

/// Named addresses that an attached pool holds (I10). Addresses may be rotated within a pool.
fn addresses_in_use(site: &Site, pool: Option<&Pool>, wanted: &Wanted) -> Vec<Violation> {
    let known = |address| pool.is_some_and(|pool| pool.role_of(address).is_some());
    let taken = wanted
        .addresses
        .iter()
        .filter(|(_, address)| !known(*address));
    let faults = taken.filter_map(|(role, address)| {
        let (network, other, holder) = site.holder_of(address)?;
        let message = format!(
            "{} {address} is held by {holder} in pool {} of network {}",
            role.field(),
            other.name,
            network.name
        );
        Some(
            Violation::new(Reason::AddressInUse, message, "give a free address")
                .at(role.field())
                .object("pool", &other.name)
                .object("holder", holder)
                .fact("invariant", "I10")
                .fact("address", address),
        )
    });
    faults.collect()
}

/// Clears the address in every other pool that no network uses.
pub(crate) fn take_from_unattached(site: &mut Site, address: IpAddr, but: PoolId) {
    let named = |pool: &&Pool| pool.id != but && pool.role_of(address).is_some();
    let losers: Vec<PoolId> = site.pools().filter(named).map(|pool| pool.id).collect();
    for id in losers {
        if site.network_of(id).is_none()
            && let Some(pool) = site.pool_mut(id)
            && let Some(role) = pool.role_of(address)
        {
            pool.addresses.set(role, None);
        }
    }
}
