//! What the fleet's rules see of a site.

use std::net::IpAddr;

use ipnet::IpNet;
use site::bootstrap::{DeclaredLink, DeclaredNetwork, DeclaredPool};
use site::{
    Addresses, Family, NetworkKind, NetworkParts, PoolParts, Range, Site, SiteParts,
    SoftwareVersion, Stack,
};

/// The part of a site that other sites can collide with. The fleet keeps this in memory for every
/// subcloud; the whole site is only in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    /// The name of the site.
    pub name: String,
    /// The name of its region.
    pub region_name: String,
    /// What it runs.
    pub software_version: SoftwareVersion,
    /// The distributed-cloud network: admin if it has a pool, else mgmt.
    pub link: Option<LinkNetwork>,
    /// The subnets of oam, primary first.
    pub oam_subnets: Vec<IpNet>,
    /// The networks with more than one pool.
    pub dual_stack: Vec<NetworkKind>,
    /// The system controller's gateways towards the site, as its bootstrap file named them.
    pub systemcontroller_gateways: Vec<IpAddr>,
}

/// The network over which a site speaks with other sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkNetwork {
    /// Admin or mgmt.
    pub kind: NetworkKind,
    /// Everything between sites uses this pool and only this one.
    pub primary: LinkPool,
    /// Never used between sites, but its ranges must be the site's own.
    pub secondary: Option<LinkPool>,
}

/// A pool of a link network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPool {
    /// The name of the pool.
    pub name: String,
    /// The subnet, without host bits.
    pub subnet: IpNet,
    /// The ranges, sorted, disjoint, inside the subnet. An address of a host that is outside the
    /// ranges of the pool is one of its own here.
    pub ranges: Vec<Range>,
    /// The floating address: the link address, in the primary pool.
    pub floating: Option<IpAddr>,
}

/// A site that asks to be admitted, with what rule F2 found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What the rules F3-F10 look at.
    pub footprint: Footprint,
    /// The pools of mgmt of a site whose link is admin. A site that has addresses of another
    /// one's link network behind mgmt cannot reach them (F6), which is asked when it is declared.
    /// Nobody else sees these pools, so they are not kept: sites may well have the same ones.
    pub management: Vec<LinkPool>,
    /// What is wrong with the site itself; `None` when every invariant holds.
    pub faults: Option<site::Rejection>,
}

impl Candidate {
    /// Judges a whole reported site, valid or not.
    pub fn of_report(parts: &SiteParts) -> Self {
        let footprint = Footprint::of(parts);
        let mgmt = parts
            .networks
            .iter()
            .find(|it| it.kind == NetworkKind::Mgmt);
        let apart = mgmt.filter(|_| footprint.has_link_apart());
        Self {
            management: apart
                .into_iter()
                .flat_map(|mgmt| pools_of(mgmt, parts).map(LinkPool::of))
                .collect(),
            footprint,
            faults: Site::from_parts(parts.clone()).err(),
        }
    }

    /// A declaration that was checked where it was read.
    pub fn declared(footprint: Footprint) -> Self {
        Self {
            footprint,
            management: Vec::new(),
            faults: None,
        }
    }

    /// A bootstrap file without faults, under the name with which its site is added.
    pub fn of_file(name: &str, file: &DeclaredLink) -> Self {
        let footprint = Footprint::declared(name, file);
        let mgmt = file
            .networks()
            .iter()
            .find(|it| it.kind == NetworkKind::Mgmt);
        let apart = mgmt.filter(|_| footprint.has_link_apart());
        Self {
            management: apart
                .map(LinkNetwork::declared)
                .iter()
                .flat_map(LinkNetwork::pools)
                .cloned()
                .collect(),
            footprint,
            faults: None,
        }
    }
}

impl Footprint {
    /// Reads it off a site, valid or not: what cannot be read (a pool that is missing, a reversed
    /// range) is left out here and is a fault of F2.
    pub fn of(parts: &SiteParts) -> Self {
        let network = |kind| parts.networks.iter().find(|network| network.kind == kind);
        let link = [NetworkKind::Admin, NetworkKind::Mgmt]
            .into_iter()
            .filter_map(network)
            .find_map(|network| LinkNetwork::of(network, parts));
        let oam_subnets = network(NetworkKind::Oam)
            .map(|oam| pools_of(oam, parts).map(|pool| pool.subnet).collect())
            .unwrap_or_default();
        let dual_stack = parts
            .networks
            .iter()
            .filter(|network| network.pools.len() > 1);
        Self {
            name: parts.identity.name.clone(),
            region_name: parts.identity.region_name.clone(),
            software_version: parts.identity.software_version,
            link,
            oam_subnets,
            dual_stack: dual_stack.map(|network| network.kind).collect(),
            systemcontroller_gateways: parts.systemcontroller_gateways.clone(),
        }
    }

    /// Reads it off a bootstrap file. A file may lack the names: then the site will have the
    /// name under which it is added, and its region is called like the site.
    pub fn declared(name: &str, file: &DeclaredLink) -> Self {
        let name = file.name().unwrap_or(name);
        let dual_stack = |network: &&DeclaredNetwork| network.secondary.is_some();
        Self {
            name: name.to_owned(),
            region_name: file.region_name().unwrap_or(name).to_owned(),
            software_version: file.software_version(),
            link: Some(LinkNetwork::declared(file.link_network())),
            oam_subnets: file.oam().pools().map(|pool| pool.subnet).collect(),
            dual_stack: file
                .networks()
                .iter()
                .filter(dual_stack)
                .map(|network| network.kind)
                .collect(),
            systemcontroller_gateways: file.systemcontroller_gateways().to_vec(),
        }
    }

    /// Whether the link is a network beside mgmt.
    fn has_link_apart(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.kind != NetworkKind::Mgmt)
    }

    /// The family of everything between this site and others.
    pub fn link_family(&self) -> Option<Family> {
        self.link.as_ref().map(LinkNetwork::family)
    }

    /// The address that the site's agent binds, or that the controller listens on.
    pub fn link_address(&self) -> Option<IpAddr> {
        self.link.as_ref()?.primary.floating
    }

    /// Whether the link network has both families.
    pub fn stack(&self) -> Option<Stack> {
        self.link.as_ref().map(LinkNetwork::stack)
    }
}

impl LinkNetwork {
    fn of(network: &NetworkParts, parts: &SiteParts) -> Option<Self> {
        let mut pools = pools_of(network, parts).map(LinkPool::of);
        Some(Self {
            kind: network.kind,
            primary: pools.next()?,
            secondary: pools.next(),
        })
    }

    fn declared(network: &DeclaredNetwork) -> Self {
        let pool = |pool: &DeclaredPool| LinkPool {
            name: format!("{} {}", network.kind, Family::of_subnet(pool.subnet)),
            subnet: pool.subnet,
            ranges: held(pool.subnet, vec![pool.range], &pool.addresses),
            floating: pool.addresses.floating,
        };
        Self {
            kind: network.kind,
            primary: pool(&network.primary),
            secondary: network.secondary.as_ref().map(pool),
        }
    }

    /// The family of the primary pool.
    pub fn family(&self) -> Family {
        self.primary.family()
    }

    /// Single- or dual-stack.
    pub fn stack(&self) -> Stack {
        if self.secondary.is_some() {
            Stack::Dual
        } else {
            Stack::Single
        }
    }

    /// The pools, primary first.
    pub fn pools(&self) -> impl Iterator<Item = &LinkPool> {
        std::iter::once(&self.primary).chain(&self.secondary)
    }

    /// The pool of a family.
    pub fn pool_of(&self, family: Family) -> Option<&LinkPool> {
        self.pools().find(|pool| pool.family() == family)
    }
}

impl LinkPool {
    fn of(parts: &PoolParts) -> Self {
        let ranges = parts.ranges.iter();
        let ranges = ranges.filter_map(|(first, last)| Range::new(*first, *last));
        Self {
            name: parts.name.clone(),
            subnet: parts.subnet.trunc(),
            ranges: held(parts.subnet, ranges.collect(), &parts.addresses),
            floating: parts.addresses.floating,
        }
    }

    /// The family of the subnet.
    pub fn family(&self) -> Family {
        Family::of_subnet(self.subnet)
    }
}

/// What a pool holds: its ranges, and the addresses of hosts outside them. The last address of an
/// IPv6 subnet is in no default range and can be named nevertheless.
fn held(subnet: IpNet, mut ranges: Vec<Range>, addresses: &Addresses) -> Vec<Range> {
    let hosts = [
        addresses.floating,
        addresses.controller0,
        addresses.controller1,
    ];
    for host in hosts.into_iter().flatten() {
        let known = ranges.iter().any(|range| range.contains(host));
        if !known && subnet.contains(&host) {
            ranges.extend(Range::new(host, host));
        }
    }
    ranges.sort_unstable();
    ranges
}

fn pools_of<'a>(
    network: &'a NetworkParts,
    parts: &'a SiteParts,
) -> impl Iterator<Item = &'a PoolParts> {
    network
        .pools
        .iter()
        .filter_map(|(_, id)| parts.pools.iter().find(|pool| pool.id == *id))
}
