//! From a declaration to a site, as an installation leaves it behind.

use std::collections::BTreeMap;
use std::net::IpAddr;

use uuid::Uuid;

use super::declared::{Declared, DeclaredNetwork, DeclaredPool};
use super::variables::{SECTIONS, Section};
use crate::address::successor;
use crate::{
    Administrative, AttachmentId, ConfigurationId, Family, Generation, Host, Kubernetes, NetworkId,
    NetworkKind, NetworkParts, Order, Personality, PoolId, PoolParts, Rejection, Site,
    SiteIdentity, SiteParts, SystemMode,
};

/// The services that have a group address each on the multicast network; the same as those of
/// a multicast pool that is attached later.
pub(super) const MULTICAST_SERVICES: [&str; 4] = [
    "service-manager",
    "maintenance",
    "patch-controller",
    "patch-agent",
];

impl Declared {
    /// Installs the site: initial configuration complete, the controllers unlocked, pools named
    /// after their network and family, mandatory addresses allocated. `ids` gives a new id with
    /// each call.
    ///
    /// # Errors
    /// What [`Site::from_parts`] refuses; a file without faults gives it no reason to.
    pub fn install(&self, ids: &mut dyn FnMut() -> Uuid) -> Result<Site, Rejection> {
        let identity = SiteIdentity {
            uuid: ids(),
            name: self.name.clone(),
            region_name: self.region_name.clone(),
            system_type: self.system_type,
            system_mode: self.system_mode,
            role: self.role,
            software_version: self.link.software_version,
        };
        let mut networks = Vec::new();
        let mut pools = Vec::new();
        let described = SECTIONS.iter().filter_map(|section| {
            let found = self
                .link
                .networks
                .iter()
                .find(|network| network.kind == section.kind);
            found.map(|network| (section, network))
        });
        for ((section, network), id) in described.zip(1..) {
            let mut ends = Vec::new();
            for pool in network.pools() {
                let parts = pool_parts(section, pool, PoolId(ids()));
                ends.push((AttachmentId(ids()), parts.id));
                pools.push(parts);
            }
            networks.push(network_parts(network, NetworkId(id), ids(), ends));
        }
        Site::from_parts(SiteParts {
            identity,
            generation: Generation(0),
            initial_config_complete: true,
            networks,
            pools,
            hosts: controllers(self.system_mode),
            dns_servers: self.dns_servers.clone(),
            systemcontroller_gateways: self.link.gateways.clone(),
            kubernetes: self.kubernetes(),
            alarms: Vec::new(),
        })
    }

    /// Dual-stack when the three cluster networks are; the file makes all of them so or none.
    fn kubernetes(&self) -> Kubernetes {
        let host = self
            .link
            .networks
            .iter()
            .find(|n| n.kind == NetworkKind::ClusterHost);
        match host.and_then(|network| network.secondary) {
            Some(_) => Kubernetes::DualStack,
            None => Kubernetes::SingleStack,
        }
    }
}

fn network_parts(
    network: &DeclaredNetwork,
    id: NetworkId,
    uuid: Uuid,
    pools: Vec<(AttachmentId, PoolId)>,
) -> NetworkParts {
    NetworkParts {
        id,
        uuid,
        name: network.kind.name().to_owned(),
        kind: network.kind,
        dynamic: network.dynamic,
        pools,
    }
}

fn pool_parts(section: &Section, pool: &DeclaredPool, id: PoolId) -> PoolParts {
    let family = match Family::of_subnet(pool.subnet) {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    let holders = match section.kind {
        NetworkKind::Multicast => service_addresses(pool),
        _ => BTreeMap::new(),
    };
    PoolParts {
        id,
        name: format!("{}-{family}", section.pool),
        subnet: pool.subnet,
        order: Order::Random,
        ranges: vec![(pool.range.first(), pool.range.last())],
        addresses: pool.addresses,
        holders,
        remembered: BTreeMap::new(),
    }
}

/// The lowest free addresses, one per service; that there are enough was checked.
fn service_addresses(pool: &DeclaredPool) -> BTreeMap<IpAddr, String> {
    let named: Vec<_> = pool.addresses.iter().map(|(_, address)| address).collect();
    let candidates = std::iter::successors(Some(pool.range.first()), |last| successor(*last));
    candidates
        .take_while(|address| pool.range.contains(*address))
        .filter(|address| !named.contains(address))
        .zip(MULTICAST_SERVICES)
        .map(|(address, service)| (address, format!("{service}-{}", NetworkKind::Multicast)))
        .collect()
}

fn controllers(mode: SystemMode) -> Vec<Host> {
    let names: &[&str] = match mode {
        SystemMode::Simplex => &["controller-0"],
        SystemMode::Duplex | SystemMode::DuplexDirect => &["controller-0", "controller-1"],
    };
    let host = |name: &&str| Host {
        hostname: (*name).to_owned(),
        personality: Personality::Controller,
        administrative: Administrative::Unlocked,
        target: ConfigurationId(0),
        applied: ConfigurationId(0),
        reboot_required: false,
    };
    names.iter().map(host).collect()
}
