//! Refusals that several operations share, so that each is worded once.

use ipnet::IpNet;

use crate::address::overlap;
use crate::invariants::MAX_POOLS;
use crate::{Family, Host, Network, NetworkKind, Pool, PoolId, Reason, Site, Violation, Word};

pub(crate) fn host_unlocked(host: &Host, what: &str) -> Violation {
    let name = &host.hostname;
    Violation::new(
        Reason::HostUnlocked,
        format!("{what} on a simplex site needs {name} locked, and it is unlocked"),
        format!("`system host-lock {}`, then try again", Word(name)),
    )
    .object("host", name)
}

pub(crate) fn requires_reinstall(network: &Network, what: &str) -> Violation {
    Violation::new(
        Reason::NetworkRequiresReinstall,
        format!(
            "network {} ({}) cannot {what} after installation",
            network.name, network.kind
        ),
        "install the site anew to change this network",
    )
    .object("network", &network.name)
}

pub(crate) fn name_taken(field: &str, kind: &'static str, name: &str) -> Violation {
    Violation::new(
        Reason::NameTaken,
        format!("{kind} {name} exists already"),
        "give another name",
    )
    .at(field)
    .object(kind, name)
}

/// Whether there is no room for one more pool.
pub(crate) fn too_many_pools(site: &Site) -> Option<Violation> {
    (site.pools.len() >= MAX_POOLS).then(|| {
        let message = format!("the site has {MAX_POOLS} pools, which is the most");
        let remedy = "delete pools that no network uses: `system addrpool-delete POOL`";
        Violation::new(Reason::TooManyPools, message, remedy)
    })
}

pub(crate) fn pool_is_primary(network: &Network, pool: &Pool) -> Violation {
    Violation::new(
        Reason::PoolIsPrimary,
        format!(
            "pool {} is the primary pool of network {}",
            pool.name, network.name
        ),
        "the primary pool stays; install the site anew to change it",
    )
    .object("pool", &pool.name)
    .object("network", &network.name)
    .fact("invariant", "I1")
}

pub(crate) fn pool_in_use(network: &Network, pool: &Pool) -> Violation {
    Violation::new(
        Reason::PoolInUse,
        format!(
            "pool {} belongs to network {} already",
            pool.name, network.name
        ),
        "a pool serves one network; add another pool",
    )
    .object("pool", &pool.name)
    .object("network", &network.name)
    .fact("invariant", "I5")
}

pub(crate) fn pxeboot_ipv4_only(pool: &Pool) -> Violation {
    Violation::new(
        Reason::PxebootIpv4Only,
        format!(
            "pxeboot has one pool, IPv4, and cannot use {} ({})",
            pool.name,
            pool.family()
        ),
        "leave pxeboot as it is; other networks can be dual-stack",
    )
    .object("pool", &pool.name)
    .fact("invariant", "I3")
}

pub(crate) fn primary_family_mismatch(pool: &str, family: Family, site: Family) -> Violation {
    Violation::new(
        Reason::PrimaryFamilyMismatch,
        format!("pool {pool} is {family}, but all primary pools of this site are {site}"),
        format!("use an {site} pool as primary; an {family} pool can be assigned as secondary"),
    )
    .object("pool", pool)
    .fact("invariant", "I2")
    .fact("siteFamily", site)
}

pub(crate) fn oam_family_required(network: &Network, pool: &Pool) -> Violation {
    oam_family_required_by(&network.name, pool)
}

pub(crate) fn oam_family_required_by(network: &str, pool: &Pool) -> Violation {
    let family = pool.family();
    Violation::new(
        Reason::OamFamilyRequired,
        format!(
            "network {network} cannot use {family} pool {}: oam has no {family}",
            pool.name
        ),
        format!("assign an {family} pool first: `system network-addrpool-assign oam POOL`"),
    )
    .object("pool", &pool.name)
    .object("network", "oam")
    .fact("invariant", "I7")
    .fact("family", family)
}

/// What oam cannot lose while others need its family: cluster-pod (I7) and DNS servers.
pub(crate) fn oam_family_needed(site: &Site, family: Family) -> Vec<Violation> {
    let mut faults = Vec::new();
    if let Some(pod) = site.network(NetworkKind::ClusterPod)
        && pod.pools.has(family)
    {
        let remedy = match pod.primary_family() == family {
            true => "delete network cluster-pod first".to_owned(),
            false => format!("remove the {family} pool of {} first", pod.name),
        };
        let message = format!("network {} still has {family}, which needs oam", pod.name);
        let fault = Violation::new(Reason::ClusterPodNeedsOamFamily, message, remedy);
        faults.push(fault.object("network", &pod.name).fact("invariant", "I7"));
    }
    for server in site
        .dns_servers
        .iter()
        .filter(|server| Family::of(**server) == family)
    {
        let message = format!("DNS server {server} is reached through the {family} of oam");
        let remedy = "take the server out first: `system dns-modify nameservers=A,B`";
        let fault = Violation::new(Reason::DnsNeedsOamFamily, message, remedy);
        faults.push(fault.object("dns-server", server.to_string()));
    }
    faults
}

/// Whether pools of these two networks may overlap (I6). `None` stands for an unattached pool.
fn may_overlap(one: Option<NetworkKind>, other: NetworkKind) -> bool {
    match one {
        Some(NetworkKind::Oam) => other == NetworkKind::SystemControllerOam,
        Some(NetworkKind::SystemControllerOam) => other == NetworkKind::Oam,
        Some(one) => one != other && one.is_cluster() && other.is_cluster(),
        None => false,
    }
}

/// Every conflict of a subnet with an attached pool (I6), one violation each.
pub(crate) fn overlaps(
    site: &Site,
    name: &str,
    id: PoolId,
    subnet: IpNet,
    kind: Option<NetworkKind>,
) -> Vec<Violation> {
    let conflicts = site.attached_pools().filter(|(network, _, other)| {
        other.id != id && overlap(subnet, other.subnet) && !may_overlap(kind, network.kind)
    });
    let faults = conflicts.map(|(network, _, other)| {
        Violation::new(
            Reason::AddressOverlap,
            format!(
                "{subnet} of pool {name} overlaps {} of pool {} (network {})",
                other.subnet, other.name, network.name
            ),
            "use a subnet that no attached pool overlaps",
        )
        .object("pool", name)
        .object("pool", &other.name)
        .object("network", &network.name)
        .fact("invariant", "I6")
        .fact("subnet", subnet)
        .fact("conflict", other.subnet)
    });
    faults.collect()
}
