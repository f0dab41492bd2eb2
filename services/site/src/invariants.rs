//! The invariants I1-I10 as one slow, complete check: what comes from outside becomes a
//! [`Site`](crate::Site) only when nothing here objects. It shares no code with the rules of
//! single changes beyond the shape of one pool, so it can be held against them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::address::{overlap, unusable};
use crate::host::OUT_OF_DATE;
use crate::shape::{address_faults, invalid, name_fault, range_faults, subnet_faults};
use crate::{
    Family, Kubernetes, MAX_VIOLATIONS, NetworkKind, NetworkParts, Personality, PoolId, PoolParts,
    Reason, SiteParts, SoftwareVersion, SystemMode, Violation,
};

/// The most DNS servers of a site, as resolvers read no more.
pub const MAX_DNS_SERVERS: usize = 3;

/// The most pools of a site: twelve networks use 24 of them at most, the rest is room for
/// preparation. It bounds a site's record and its report.
pub const MAX_POOLS: usize = 1024;

/// The most hosts of a site, well above what one cloud of this kind has.
pub const MAX_HOSTS: usize = 1024;

/// The most alarms of a site: room for a few per host.
pub const MAX_ALARMS: usize = 4 * MAX_HOSTS;

const REPAIR: &str = "correct the record or the report that this site was read from";

/// The most entries of any list whose own bound is lower and is a rule of its own. What is longer is
/// not looked at, so that nothing takes quadratic time over a list from outside.
const MAX_LISTED: usize = 64;

/// Every fault of the parts, in the order of the fields; those of pools only as far as a refusal
/// lists them.
pub(crate) fn faults(parts: &SiteParts) -> Vec<Violation> {
    let too_long = sizes(parts);
    if !too_long.is_empty() {
        // Parts come from outside: nothing below may take quadratic time over a long list.
        return too_long;
    }
    let mut faults = identity(parts);
    for (index, pool) in parts.pools.iter().enumerate() {
        faults.extend(one_pool(format_args!("pools[{index}]."), pool));
        if faults.len() > MAX_VIOLATIONS {
            return faults;
        }
    }
    faults.extend(pool_set(parts));
    let pools: BTreeMap<PoolId, &PoolParts> =
        parts.pools.iter().map(|pool| (pool.id, pool)).collect();
    faults.extend(network_set(parts));
    for (index, network) in parts.networks.iter().enumerate() {
        faults.extend(one_network(parts, index, network, &pools));
    }
    faults.extend(primary_families(parts, &pools));
    faults.extend(overlaps(parts, &pools));
    faults.extend(held_twice(parts, &pools));
    faults.extend(services(parts, &pools));
    faults.extend(hosts(parts));
    faults.extend(alarms(parts));
    faults
}

fn broken(invariant: &'static str, reason: Reason, field: String, message: String) -> Violation {
    Violation::new(reason, message, REPAIR)
        .at(field)
        .fact("invariant", invariant)
}

fn malformed(field: impl Into<String>, message: impl Into<String>) -> Violation {
    invalid(field, message, REPAIR)
}

fn sizes(parts: &SiteParts) -> Vec<Violation> {
    let associations = parts.networks.iter().map(|network| network.pools.len());
    let lists = [
        (
            "networks",
            parts.networks.len(),
            NetworkKind::ALL.len(),
            Reason::InvalidArgument,
        ),
        ("pools", parts.pools.len(), MAX_POOLS, Reason::TooManyPools),
        (
            "hosts",
            parts.hosts.len(),
            MAX_HOSTS,
            Reason::InvalidArgument,
        ),
        (
            "alarms",
            parts.alarms.len(),
            MAX_ALARMS,
            Reason::InvalidArgument,
        ),
        (
            "networks.pools",
            associations.sum(),
            MAX_LISTED,
            Reason::NetworkHasTwoPools,
        ),
        (
            "dns_servers",
            parts.dns_servers.len(),
            MAX_LISTED,
            Reason::InvalidArgument,
        ),
        (
            "systemcontroller_gateways",
            parts.systemcontroller_gateways.len(),
            MAX_LISTED,
            Reason::InvalidArgument,
        ),
    ];
    let long = lists.into_iter().filter(|(_, count, most, _)| count > most);
    let faults = long.map(|(field, count, most, reason)| {
        let message = format!("{count} {field}, more than {most}");
        Violation::new(reason, message, REPAIR)
            .at(field)
            .fact("limit", most)
    });
    faults.collect()
}

fn identity(parts: &SiteParts) -> Vec<Violation> {
    let mut faults = Vec::new();
    faults.extend(name_fault("identity.name", &parts.identity.name));
    faults.extend(name_fault(
        "identity.region_name",
        &parts.identity.region_name,
    ));
    if !(1..=12).contains(&parts.identity.software_version.month) {
        let message = format!("{} has no month", parts.identity.software_version);
        faults.push(malformed("identity.software_version", message));
    }
    if parts.generation.0 > u64::MAX / 2 {
        faults.push(malformed("generation", "no site has had so many changes"));
    }
    faults
}

fn one_pool(path: fmt::Arguments<'_>, pool: &PoolParts) -> Vec<Violation> {
    let mut faults = Vec::new();
    faults.extend(name_fault(format_args!("{path}name"), &pool.name));
    faults.extend(subnet_faults(path, pool.subnet));
    faults.extend(range_faults(path, pool.subnet, &pool.ranges));
    faults.extend(address_faults(path, pool.subnet, &pool.addresses));
    if pool.ranges.is_empty() {
        faults.push(malformed(
            format!("{path}ranges"),
            format!("pool {} has none", pool.name),
        ));
    }
    if !pool.ranges.is_sorted() {
        let message = format!("the ranges of pool {} are not sorted", pool.name);
        faults.push(malformed(format!("{path}ranges"), message));
    }
    for fault in &mut faults {
        fault.metadata.insert("invariant", "I4".into());
    }
    let named: BTreeSet<IpAddr> = pool.addresses.iter().map(|(_, address)| address).collect();
    let mut holders = BTreeSet::new();
    for (address, holder) in &pool.holders {
        let field = || format!("{path}holders[{address}]");
        if let Some(why) = unusable(pool.subnet, *address) {
            let message = format!("{address} of {holder} in pool {} {why}", pool.name);
            faults.push(broken("I4", Reason::InvalidArgument, field(), message));
        }
        if named.contains(address) {
            let message = format!("{address} of {holder} is a named address of {}", pool.name);
            faults.push(broken("I10", Reason::AddressInUse, field(), message));
        }
        let path = format_args!("{path}holders[{address}]");
        faults.extend(name_fault(path, holder));
        if !holders.insert(holder) {
            let message = format!("{holder} holds two addresses of pool {}", pool.name);
            faults.push(broken("I10", Reason::AddressInUse, field(), message));
        }
    }
    for (holder, address) in &pool.remembered {
        if let Some(why) = unusable(pool.subnet, *address) {
            let message = format!("{address} remembered for {holder} in {} {why}", pool.name);
            let field = format!("{path}remembered[{holder}]");
            faults.push(broken("I4", Reason::InvalidArgument, field, message));
        }
    }
    faults
}

/// Reports every value that was seen before; each comes with its field and how it is called.
fn unique<T: Ord, F: FnOnce() -> (String, String)>(
    faults: &mut Vec<Violation>,
    reason: Reason,
    items: impl Iterator<Item = (T, F)>,
) {
    let mut seen = BTreeSet::new();
    for (value, told) in items {
        if !seen.insert(value) {
            let (field, shown) = told();
            let message = format!("{shown} occurs twice");
            faults.push(Violation::new(reason, message, REPAIR).at(field));
        }
    }
}

fn pool_set(parts: &SiteParts) -> Vec<Violation> {
    let mut faults = Vec::new();
    let pools = || parts.pools.iter().enumerate();
    let ids = pools().map(|(i, pool)| {
        let id = pool.id.0;
        (id, move || (format!("pools[{i}].id"), id.to_string()))
    });
    unique(&mut faults, Reason::NameTaken, ids);
    let names = pools().map(|(i, pool)| {
        let told = move || (format!("pools[{i}].name"), format!("pool {}", pool.name));
        (&pool.name, told)
    });
    unique(&mut faults, Reason::NameTaken, names);
    let mut attached = BTreeSet::new();
    for (n, network) in parts.networks.iter().enumerate() {
        for (p, (_, pool)) in network.pools.iter().enumerate() {
            if !attached.insert(*pool) {
                let field = format!("networks[{n}].pools[{p}]");
                let message = format!("the pool {} of {} is used twice", pool.0, network.name);
                faults.push(broken("I5", Reason::PoolInUse, field, message));
            }
        }
    }
    for (index, pool) in pools().filter(|(_, pool)| !attached.contains(&pool.id)) {
        if !pool.holders.is_empty() {
            let message = format!("pool {} belongs to no network but has holders", pool.name);
            faults.push(malformed(format!("pools[{index}].holders"), message));
        }
    }
    faults
}

fn network_set(parts: &SiteParts) -> Vec<Violation> {
    let mut faults = Vec::new();
    let networks = || parts.networks.iter().enumerate();
    let field = |index: usize, name: &str| format!("networks[{index}].{name}");
    let ids = networks().map(|(i, n)| {
        let told = move || (field(i, "id"), format!("network number {}", n.id.0));
        (n.id, told)
    });
    unique(&mut faults, Reason::NameTaken, ids);
    let uuids = networks().map(|(i, n)| (n.uuid, move || (field(i, "uuid"), n.uuid.to_string())));
    unique(&mut faults, Reason::NameTaken, uuids);
    let names = networks().map(|(i, n)| {
        let told = move || (field(i, "name"), format!("network {}", n.name));
        (&n.name, told)
    });
    unique(&mut faults, Reason::NameTaken, names);
    let kinds = networks().map(|(i, n)| {
        let told = move || (field(i, "kind"), format!("network type {}", n.kind));
        (n.kind, told)
    });
    unique(&mut faults, Reason::NetworkTypeExists, kinds);
    let ends = networks().flat_map(|(n, network)| {
        let pools = network.pools.iter().enumerate();
        pools.map(move |(p, (id, _))| {
            let told = move || (format!("networks[{n}].pools[{p}].id"), id.0.to_string());
            (id.0, told)
        })
    });
    unique(&mut faults, Reason::NameTaken, ends);
    faults
}

fn one_network(
    parts: &SiteParts,
    index: usize,
    network: &NetworkParts,
    pools: &BTreeMap<PoolId, &PoolParts>,
) -> Vec<Violation> {
    let mut faults = Vec::new();
    let field = || format!("networks[{index}].pools");
    let name = &network.name;
    faults.extend(name_fault(format_args!("networks[{index}].name"), name));
    for (p, (_, id)) in network.pools.iter().enumerate() {
        if !pools.contains_key(id) {
            let message = format!(
                "network {name} refers to the pool {}, which is missing",
                id.0
            );
            let at = format!("{}[{p}]", field());
            faults.push(Violation::new(Reason::PoolNotFound, message, REPAIR).at(at));
        }
    }
    let version = parts.identity.software_version;
    if network.pools.len() > 1 && version < SoftwareVersion::DUAL_STACK {
        let message = format!("network {name} has a secondary pool on software {version}");
        let reason = Reason::DualStackUnsupportedByVersion;
        faults.push(broken("I9", reason, field(), message));
    }
    faults.extend(pools_of_one(field, network, &families_of(network, pools)));
    faults
}

/// How many pools of which family a network has (I1, I3).
fn pools_of_one(
    field: impl Fn() -> String,
    network: &NetworkParts,
    families: &[Family],
) -> Vec<Violation> {
    let name = &network.name;
    let mut faults = Vec::new();
    let mut fault = |invariant, reason, what: String| {
        let message = format!("network {name} has {what}");
        faults.push(broken(invariant, reason, field(), message));
    };
    match network.pools.len() {
        0 => fault("I1", Reason::InvalidArgument, "no pool".into()),
        1 => {}
        2 => {
            if let [one, other] = families
                && one == other
            {
                fault(
                    "I1",
                    Reason::FamilyAlreadyPresent,
                    format!("two {one} pools"),
                );
            }
        }
        count => fault("I1", Reason::NetworkHasTwoPools, format!("{count} pools")),
    }
    if network.kind == NetworkKind::Pxeboot {
        if families.contains(&Family::Ipv6) {
            fault("I3", Reason::PxebootIpv4Only, "an IPv6 pool".into());
        }
        if network.pools.len() > 1 {
            fault("I3", Reason::PxebootIpv4Only, "more than one pool".into());
        }
    }
    faults
}

fn families_of(network: &NetworkParts, pools: &BTreeMap<PoolId, &PoolParts>) -> Vec<Family> {
    let found = network.pools.iter().filter_map(|(_, id)| pools.get(id));
    found.map(|pool| Family::of_subnet(pool.subnet)).collect()
}

fn primary_families(parts: &SiteParts, pools: &BTreeMap<PoolId, &PoolParts>) -> Vec<Violation> {
    let mut faults = Vec::new();
    let mut site: Option<(Family, &str)> = None;
    for (index, network) in parts.networks.iter().enumerate() {
        let primary = families_of(network, pools).first().copied();
        let Some(family) = primary.filter(|_| network.kind != NetworkKind::Pxeboot) else {
            continue;
        };
        match site {
            None => site = Some((family, &network.name)),
            Some((wanted, first)) if wanted != family => {
                let message = format!(
                    "the primary pool of {} is {family}, that of {first} is {wanted}",
                    network.name
                );
                let field = format!("networks[{index}].pools[0]");
                faults.push(broken("I2", Reason::PrimaryFamilyMismatch, field, message));
            }
            Some(_) => {}
        }
    }
    faults
}

/// A pool with the network that it is attached to: the places of the network and of the pool in it.
type Attached<'a> = ([usize; 2], &'a NetworkParts, &'a PoolParts);

fn attached<'a>(
    parts: &'a SiteParts,
    pools: &BTreeMap<PoolId, &'a PoolParts>,
) -> Vec<Attached<'a>> {
    let networks = parts.networks.iter().enumerate();
    let all = networks.flat_map(|(n, network)| {
        let ends = network.pools.iter().enumerate();
        ends.filter_map(move |(p, (_, id))| {
            let pool = *pools.get(id)?;
            Some(([n, p], network, pool))
        })
    });
    all.collect()
}

fn overlaps(parts: &SiteParts, pools: &BTreeMap<PoolId, &PoolParts>) -> Vec<Violation> {
    let mut faults = Vec::new();
    let attached = attached(parts, pools);
    for (index, ([n, p], network, pool)) in attached.iter().enumerate() {
        for (_, other, met) in &attached[..index] {
            let both = [network.kind, other.kind];
            let allowed = both.contains(&NetworkKind::Oam)
                && both.contains(&NetworkKind::SystemControllerOam)
                || network.kind != other.kind && both.iter().all(|kind| kind.is_cluster());
            if overlap(pool.subnet, met.subnet) && !allowed && pool.id != met.id {
                let message = format!(
                    "{} of {} overlaps {} of {}",
                    pool.subnet, network.name, met.subnet, other.name
                );
                let field = format!("networks[{n}].pools[{p}]");
                faults.push(broken("I6", Reason::AddressOverlap, field, message));
            }
        }
    }
    faults
}

/// I10 over the whole site. Named addresses of unattached pools count too: they are what the
/// pool brings along when it is attached.
fn held_twice(parts: &SiteParts, pools: &BTreeMap<PoolId, &PoolParts>) -> Vec<Violation> {
    let mut faults = Vec::new();
    let mut seen: BTreeMap<IpAddr, &PoolParts> = BTreeMap::new();
    for (index, pool) in parts.pools.iter().enumerate() {
        if !pools
            .get(&pool.id)
            .is_some_and(|known| std::ptr::eq(*known, pool))
        {
            continue; // a second pool of the same id is reported as such
        }
        let named = pool.addresses.iter().map(|(_, address)| address);
        let mut own: Vec<_> = named.chain(pool.holders.keys().copied()).collect();
        own.sort_unstable();
        own.dedup();
        for address in own {
            if let Some(other) = seen.insert(address, pool) {
                let message = format!("{address} is held in {} and in {}", other.name, pool.name);
                let field = format!("pools[{index}]");
                faults.push(broken("I10", Reason::AddressInUse, field, message));
            }
        }
    }
    faults
}

/// What needs oam (I7, DNS) and what Kubernetes makes of the cluster networks (I8).
fn services(parts: &SiteParts, pools: &BTreeMap<PoolId, &PoolParts>) -> Vec<Violation> {
    let mut faults = Vec::new();
    let network = |kind| parts.networks.iter().find(|network| network.kind == kind);
    let families = |kind| network(kind).map_or_else(Vec::new, |found| families_of(found, pools));
    let oam = families(NetworkKind::Oam);
    for family in families(NetworkKind::ClusterPod) {
        if !oam.contains(&family) {
            let message = format!("cluster-pod has {family}, oam has not");
            faults.push(broken(
                "I7",
                Reason::OamFamilyRequired,
                "networks".into(),
                message,
            ));
        }
    }
    faults.extend(servers(parts, &oam));
    let dual = [
        NetworkKind::ClusterHost,
        NetworkKind::ClusterPod,
        NetworkKind::ClusterService,
    ]
    .iter()
    .filter(|kind| network(**kind).is_some_and(|found| found.pools.len() > 1))
    .count();
    let consistent = match parts.kubernetes {
        Kubernetes::SingleStack => dual == 0,
        Kubernetes::DualStack => dual == 3,
        Kubernetes::ConvertingToDual | Kubernetes::ConvertingToSingle => (1..=2).contains(&dual),
    };
    if !consistent {
        let message = format!(
            "Kubernetes is {:?} while {dual} of the three cluster networks have two pools",
            parts.kubernetes
        );
        faults.push(broken(
            "I8",
            Reason::InvalidArgument,
            "kubernetes".into(),
            message,
        ));
    }
    faults
}

/// DNS servers and the gateways towards the system controller.
fn servers(parts: &SiteParts, oam: &[Family]) -> Vec<Violation> {
    let mut faults = Vec::new();
    if parts.dns_servers.len() > MAX_DNS_SERVERS {
        let message = format!("{} DNS servers", parts.dns_servers.len());
        faults.push(malformed("dns_servers", message));
    }
    for (index, server) in parts.dns_servers.iter().enumerate() {
        let field = || format!("dns_servers[{index}]");
        if !oam.contains(&Family::of(*server)) {
            let message = format!("oam has no {} for DNS server {server}", Family::of(*server));
            let fault = Violation::new(Reason::DnsFamilyNotOnOam, message, REPAIR);
            faults.push(fault.at(field()));
        }
        if parts.dns_servers[..index].contains(server) {
            let message = format!("DNS server {server} occurs twice");
            faults.push(malformed(field(), message));
        }
    }
    let gateways = &parts.systemcontroller_gateways;
    for (index, gateway) in gateways.iter().enumerate() {
        if gateways[..index]
            .iter()
            .any(|other| Family::of(*other) == Family::of(*gateway))
        {
            let message = format!("{gateway} is the second gateway of its family");
            faults.push(malformed(
                format!("systemcontroller_gateways[{index}]"),
                message,
            ));
        }
    }
    faults
}

fn hosts(parts: &SiteParts) -> Vec<Violation> {
    let mut faults = Vec::new();
    let names = parts.hosts.iter().enumerate().map(|(index, host)| {
        let name = &host.hostname;
        let told = move || (format!("hosts[{index}].hostname"), format!("host {name}"));
        (name, told)
    });
    unique(&mut faults, Reason::NameTaken, names);
    let is_controller = |host: &&crate::Host| host.personality == Personality::Controller;
    let controllers = parts.hosts.iter().filter(is_controller).count();
    let most = match parts.identity.system_mode {
        SystemMode::Simplex => 1,
        SystemMode::Duplex | SystemMode::DuplexDirect => 2,
    };
    if controllers > most {
        let message = format!("{controllers} controllers, the system mode allows {most}");
        faults.push(malformed("hosts", message));
    }
    for (index, host) in parts.hosts.iter().enumerate() {
        let name = &host.hostname;
        faults.extend(name_fault(format_args!("hosts[{index}].hostname"), name));
        if host.applied > host.target {
            let message = format!(
                "{name} has applied {}, asked was {}",
                host.applied.0, host.target.0
            );
            faults.push(malformed(format!("hosts[{index}].applied"), message));
        }
        if host.target.0 > parts.generation.0 {
            let message = format!(
                "{name} has the target {} of no generation yet",
                host.target.0
            );
            faults.push(malformed(format!("hosts[{index}].target"), message));
        }
        if host.reboot_required && !host.out_of_date() {
            let message = format!("{name} needs a reboot although it is up to date");
            faults.push(malformed(
                format!("hosts[{index}].reboot_required"),
                message,
            ));
        }
    }
    faults
}

fn alarms(parts: &SiteParts) -> Vec<Violation> {
    let mut faults = Vec::new();
    let ids = parts.alarms.iter().enumerate();
    let ids = ids.map(|(i, alarm)| {
        let told = move || (format!("alarms[{i}].uuid"), alarm.uuid.to_string());
        (alarm.uuid, told)
    });
    unique(&mut faults, Reason::NameTaken, ids);
    let own = || parts.alarms.iter().filter(|alarm| alarm.id == OUT_OF_DATE);
    for (index, host) in parts.hosts.iter().enumerate() {
        let raised = own().filter(|alarm| alarm.entity == host.entity()).count();
        if raised != usize::from(host.out_of_date()) {
            let message = format!(
                "{} has {raised} alarms {OUT_OF_DATE} (target {}, applied {})",
                host.hostname, host.target.0, host.applied.0
            );
            faults.push(malformed(format!("hosts[{index}]"), message));
        }
    }
    for (index, alarm) in parts.alarms.iter().enumerate() {
        let known = parts.hosts.iter().any(|host| host.entity() == alarm.entity);
        if alarm.id == OUT_OF_DATE && !known {
            let message = format!(
                "the alarm {OUT_OF_DATE} is about {}, not a host",
                alarm.entity
            );
            faults.push(malformed(format!("alarms[{index}].entity"), message));
        }
    }
    faults
}
