//! network-addrpool-assign and -remove, and the addresses that come and go with it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::lookup;
use crate::plan::{Draft, Subject};
use crate::rules::pools::take_from_unattached;
use crate::rules::refusal;
use crate::{
    AddressRole, Attachment, AttachmentId, AttachmentRef, Network, NetworkId, NetworkKind,
    Personality, Pool, PoolId, Pools, Rank, Reason, Rejection, Site, SoftwareVersion, Violation,
    Word,
};

/// Who takes the four service addresses of a multicast pool.
const MULTICAST_SERVICES: [&str; 4] = [
    "service-manager",
    "maintenance",
    "patch-controller",
    "patch-agent",
];

pub(crate) fn assign_pool(
    site: &Site,
    id: AttachmentId,
    network: &str,
    pool: &str,
) -> Result<Draft, Rejection> {
    let (network, pool) = lookup::ends(site, network, pool)?;
    if site.attachment(id).is_some() {
        let taken = refusal::name_taken("id", "association", &id.0.to_string());
        return Err(Rejection::one(taken));
    }
    Rejection::check(assignment_faults(site, network, pool))?;
    let primary = network.pools.primary();
    let secondary = Attachment {
        id,
        pool: pool.id,
        family: pool.family(),
    };
    let mut next = site.clone();
    if let Some(changed) = next.network_mut(network.id) {
        changed.pools = Pools::Dual { primary, secondary };
    }
    fill(&mut next, network, pool.id)?;
    Ok(Draft::of(next, Subject::Attachment(id)))
}

fn assignment_faults(site: &Site, network: &Network, pool: &Pool) -> Vec<Violation> {
    let mut faults = Vec::new();
    if network.kind == NetworkKind::Mgmt
        && let Some(host) = site.unlocked_simplex_controller()
    {
        faults.push(refusal::host_unlocked(host, "assigning a pool to mgmt"));
    }
    if network.kind == NetworkKind::Pxeboot && site.initial_config_complete {
        faults.push(refusal::requires_reinstall(network, "get a pool"));
    }
    let kind = Some(network.kind);
    faults.extend(refusal::overlaps(
        site,
        &pool.name,
        pool.id,
        pool.subnet,
        kind,
    ));
    if let Some(secondary) = network.pools.secondary() {
        faults.push(two_pools(site, network, secondary));
    }
    if network.pools.has(pool.family()) {
        faults.push(family_present(network, pool));
    }
    if network.kind == NetworkKind::Pxeboot && pool.family() != network.primary_family() {
        faults.push(refusal::pxeboot_ipv4_only(pool));
    }
    if let Some((other, _)) = site.network_of(pool.id) {
        faults.push(refusal::pool_in_use(other, pool));
    }
    let oam_lacks = !site.has_family(NetworkKind::Oam, pool.family());
    if network.kind == NetworkKind::ClusterPod && oam_lacks {
        faults.push(refusal::oam_family_required(network, pool));
    }
    let version = site.identity.software_version;
    if version < SoftwareVersion::DUAL_STACK {
        faults.push(
            Violation::new(
                Reason::DualStackUnsupportedByVersion,
                format!(
                    "network {} cannot become dual-stack: software {version} of site {} has no \
                     dual-stack",
                    network.name, site.identity.name
                ),
                format!("upgrade to {} or later", SoftwareVersion::DUAL_STACK),
            )
            .object("network", network.name.clone())
            .object("pool", pool.name.clone())
            .fact("invariant", "I9")
            .fact("softwareVersion", version),
        );
    }
    faults
}

fn two_pools(site: &Site, network: &Network, secondary: Attachment) -> Violation {
    let name = |id| site.pool(id).map_or("", |pool| pool.name());
    let primary = name(network.pools.primary().pool);
    let secondary = name(secondary.pool);
    let message = format!(
        "network {} has two pools, {primary} and {secondary}",
        network.name
    );
    let remedy = format!(
        "`system network-addrpool-remove {} {}` first",
        Word(&network.name),
        Word(secondary)
    );
    Violation::new(Reason::NetworkHasTwoPools, message, remedy)
        .object("network", &network.name)
        .object("pool", primary)
        .object("pool", secondary)
        .fact("invariant", "I1")
}

fn family_present(network: &Network, pool: &Pool) -> Violation {
    let family = pool.family();
    let message = format!("network {} has an {family} pool already", network.name);
    let remedy = format!("assign an {} pool", family.other());
    Violation::new(Reason::FamilyAlreadyPresent, message, remedy)
        .object("network", &network.name)
        .object("pool", &pool.name)
        .fact("invariant", "I1")
        .fact("family", family)
}

pub(crate) fn remove_pool(site: &Site, reference: &AttachmentRef) -> Result<Draft, Rejection> {
    let (network, rank, end) = lookup::attachment(site, reference)?;
    let pool = site.pool(end.pool);
    let faults = pool.map_or_else(Vec::new, |pool| removal_faults(site, network, pool, rank));
    Rejection::check(faults)?;
    let mut next = site.clone();
    detach(&mut next, network.id, end.pool);
    Ok(Draft::of(next, Subject::Attachment(end.id)))
}

/// Everything that keeps a pool on its network.
pub(crate) fn removal_faults(
    site: &Site,
    network: &Network,
    pool: &Pool,
    rank: Rank,
) -> Vec<Violation> {
    let mut faults = Vec::new();
    if rank == Rank::Primary {
        faults.push(refusal::pool_is_primary(network, pool));
    }
    if network.kind == NetworkKind::Mgmt
        && let Some(host) = site.unlocked_simplex_controller()
    {
        faults.push(refusal::host_unlocked(host, "removing a pool of mgmt"));
    }
    if network.kind == NetworkKind::Pxeboot && site.initial_config_complete {
        faults.push(refusal::requires_reinstall(network, "lose a pool"));
    }
    if network.kind == NetworkKind::Oam {
        faults.extend(refusal::oam_family_needed(site, pool.family()));
    }
    faults
}

/// Takes the secondary pool off its network. The pool gives its addresses back and remembers
/// who had them (I10).
pub(crate) fn detach(site: &mut Site, network: NetworkId, pool: PoolId) {
    if let Some(network) = site.network_mut(network) {
        network.pools = Pools::Single(network.pools.primary());
    }
    if let Some(pool) = site.pool_mut(pool) {
        pool.release_all();
    }
}

/// The roles that every controller network needs: the floating address, on duplex sites those
/// of both controllers too.
pub(crate) fn controller_roles(site: &Site) -> &'static [AddressRole] {
    const DUPLEX: &[AddressRole] = &[
        AddressRole::Floating,
        AddressRole::Controller0,
        AddressRole::Controller1,
    ];
    if site.is_simplex() {
        &DUPLEX[..1]
    } else {
        DUPLEX
    }
}

/// The named addresses that are allocated on attach (section 4). Ironic gets those of both
/// controllers whatever the mode.
fn mandatory_roles(site: &Site, kind: NetworkKind) -> &'static [AddressRole] {
    match kind {
        NetworkKind::Mgmt
        | NetworkKind::Admin
        | NetworkKind::Pxeboot
        | NetworkKind::ClusterHost
        | NetworkKind::Storage => controller_roles(site),
        NetworkKind::Ironic => &[
            AddressRole::Floating,
            AddressRole::Controller0,
            AddressRole::Controller1,
        ],
        NetworkKind::Oam
        | NetworkKind::ClusterPod
        | NetworkKind::ClusterService
        | NetworkKind::Multicast
        | NetworkKind::SystemController
        | NetworkKind::SystemControllerOam => &[],
    }
}

/// The holders of unnamed addresses that are allocated on attach (section 4).
fn mandatory_holders(site: &Site, network: &Network) -> Vec<String> {
    match network.kind {
        NetworkKind::Multicast => {
            let services = MULTICAST_SERVICES.iter();
            services
                .map(|service| format!("{service}-{}", network.kind))
                .collect()
        }
        NetworkKind::Mgmt | NetworkKind::ClusterHost | NetworkKind::Storage if network.dynamic => {
            let hosts = site
                .hosts()
                .filter(|host| host.personality != Personality::Controller);
            hosts
                .map(|host| format!("{}-{}", host.hostname, network.kind))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Gives an attached pool its mandatory addresses: what it remembers first (I10), else always
/// the lowest free ones.
///
/// # Errors
/// `POOL_EXHAUSTED`, naming everyone who gets no address.
pub(crate) fn fill(site: &mut Site, network: &Network, id: PoolId) -> Result<(), Rejection> {
    let mut without = Vec::new();
    restore(site, network.kind, id);
    for role in mandatory_roles(site, network.kind) {
        if site
            .pool(id)
            .is_some_and(|pool| pool.addresses.get(*role).is_some())
        {
            continue;
        }
        match take_lowest(site, id) {
            Some(address) => {
                if let Some(pool) = site.pool_mut(id) {
                    pool.addresses.set(*role, Some(address));
                }
            }
            None => without.push(format!("{}-{}", role.owner(), network.kind)),
        }
    }
    let present: BTreeSet<String> = site.pool(id).map_or_else(BTreeSet::new, |pool| {
        pool.holders.values().cloned().collect()
    });
    for holder in mandatory_holders(site, network) {
        if present.contains(&holder) {
            continue;
        }
        match take_lowest(site, id) {
            Some(address) => {
                if let Some(pool) = site.pool_mut(id) {
                    pool.hold(address, holder);
                }
            }
            None => without.push(holder),
        }
    }
    let name = site.pool(id).map_or("", |pool| pool.name());
    Rejection::check(
        exhausted(name, &network.name, &without)
            .into_iter()
            .collect(),
    )
}

fn exhausted(pool: &str, network: &str, without: &[String]) -> Option<Violation> {
    if without.is_empty() {
        return None;
    }
    let list = without.join(", ");
    let message = format!("pool {pool} has no free address on network {network} for {list}");
    let remedy = format!(
        "give pool {pool} wider ranges, {} more addresses",
        without.len()
    );
    Some(
        Violation::new(Reason::PoolExhausted, message, remedy)
            .object("pool", pool)
            .object("network", network)
            .fact("missing", list),
    )
}

/// Gives back what the pool remembers for this network, as far as nobody else holds it now.
fn restore(site: &mut Site, kind: NetworkKind, id: PoolId) {
    let Some(pool) = site.pool(id).filter(|pool| !pool.remembered.is_empty()) else {
        return;
    };
    let returning: Vec<(String, IpAddr)> = pool
        .remembered
        .iter()
        .filter(|(holder, address)| {
            network_of_holder(holder).is_none_or(|network| network == kind)
                && pool.in_ranges(**address)
                && pool.role_of(**address).is_none()
                && site.holder_of(**address).is_none()
        })
        .map(|(holder, address)| (holder.clone(), *address))
        .collect();
    for (holder, address) in returning {
        take_from_unattached(site, address, id);
        if let Some(pool) = site.pool_mut(id) {
            pool.remembered.remove(&holder);
            pool.hold(address, holder);
        }
    }
}

/// The network that a holder's name ends with, such as mgmt of `worker-0-mgmt`.
fn network_of_holder(holder: &str) -> Option<NetworkKind> {
    let ends = |kind: &NetworkKind| {
        let rest = holder.strip_suffix(kind.name());
        rest.is_some_and(|rest| rest.ends_with('-'))
    };
    let kinds = NetworkKind::ALL.into_iter().filter(ends);
    kinds.max_by_key(|kind| kind.name().len())
}

/// The lowest free address of a pool. Pools of networks that may overlap (I6) can hold it too,
/// and a pool that no network uses gives it up.
fn take_lowest(site: &mut Site, id: PoolId) -> Option<IpAddr> {
    let address = site
        .pool(id)?
        .lowest_free_but(|address| site.holder_of(address).is_some())?;
    take_from_unattached(site, address, id);
    Some(address)
}
