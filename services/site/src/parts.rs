//! A site taken apart: plain fields for records and reports.
//!
//! Everything that comes from outside (a record, a report, a bootstrap file) becomes a [`Site`]
//! only through [`Site::from_parts`], which checks every invariant.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use uuid::Uuid;

use crate::invariants;
use crate::{
    Addresses, Alarm, Attachment, AttachmentId, Generation, Host, Kubernetes, Network, NetworkId,
    NetworkKind, Order, Pool, PoolId, Pools, Rejection, Site, SiteIdentity,
};

/// The fields of a site, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteParts {
    /// What the site is.
    pub identity: SiteIdentity,
    /// The number of accepted changes.
    pub generation: Generation,
    /// Whether installation has ended.
    pub initial_config_complete: bool,
    /// The networks.
    pub networks: Vec<NetworkParts>,
    /// The pools, attached or not.
    pub pools: Vec<PoolParts>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The DNS servers, in order.
    pub dns_servers: Vec<IpAddr>,
    /// On a subcloud: the system controller's gateways towards it, link family first.
    pub systemcontroller_gateways: Vec<IpAddr>,
    /// The stack of Kubernetes.
    pub kubernetes: Kubernetes,
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
}

/// The fields of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkParts {
    /// The number.
    pub id: NetworkId,
    /// The uuid.
    pub uuid: Uuid,
    /// The unique name.
    pub name: String,
    /// The type.
    pub kind: NetworkKind,
    /// Whether hosts get addresses by themselves.
    pub dynamic: bool,
    /// Associations, primary first.
    pub pools: Vec<(AttachmentId, PoolId)>,
}

/// The fields of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolParts {
    /// The id.
    pub id: PoolId,
    /// The unique name.
    pub name: String,
    /// The subnet.
    pub subnet: IpNet,
    /// The order asked for.
    pub order: Order,
    /// First and last address of each range.
    pub ranges: Vec<(IpAddr, IpAddr)>,
    /// The named addresses.
    pub addresses: Addresses,
    /// Allocated addresses and their holders, such as `worker-0-mgmt`; not the four named
    /// addresses. Empty for a pool that no network uses.
    pub holders: BTreeMap<IpAddr, String>,
    /// Who held which address when the pool was last detached, so that attaching it again
    /// gives each holder the address that it had (I10).
    pub remembered: BTreeMap<String, IpAddr>,
}

impl SiteParts {
    /// The subnet of the primary pool of a network.
    pub fn primary_subnet(&self, kind: NetworkKind) -> Option<IpNet> {
        let network = self.networks.iter().find(|network| network.kind == kind)?;
        let (_, primary) = network.pools.first()?;
        let pool = self.pools.iter().find(|pool| pool.id == *primary)?;
        Some(pool.subnet)
    }

    /// About how many bytes it takes as a message or a record, and never less. Texts of addresses
    /// count as IPv6.
    pub fn weight(&self) -> usize {
        const ADDRESS: usize = 48;
        const FIELDS: usize = 256;
        let identity = &self.identity;
        let servers = self.dns_servers.len() + self.systemcontroller_gateways.len();
        let networks = self
            .networks
            .iter()
            .map(|network| FIELDS + network.name.len() + network.pools.len() * 2 * ADDRESS);
        let pools = self.pools.iter().map(|pool| {
            let remembered = pool.remembered.keys();
            let holders = pool.holders.values().chain(remembered);
            let holders = holders.map(|holder| 8 + ADDRESS + holder.len());
            2 * FIELDS + pool.name.len() + pool.ranges.len() * 2 * ADDRESS + holders.sum::<usize>()
        });
        let hosts = self.hosts.iter().map(|host| FIELDS + host.hostname.len());
        let alarms = self.alarms.iter().map(|alarm| {
            let texts = [&alarm.id, &alarm.entity, &alarm.reason, &alarm.repair];
            FIELDS + texts.iter().map(|text| text.len()).sum::<usize>()
        });
        let lists = networks.chain(pools).chain(hosts).chain(alarms);
        let names = identity.name.len() + identity.region_name.len();
        FIELDS + names + servers * ADDRESS + lists.sum::<usize>()
    }
}

impl Site {
    /// Builds a site of parts that satisfy every invariant.
    ///
    /// # Errors
    /// Every fault of the parts, each with the path of its field, such as
    /// `pools[3].ranges[0]`, and where one is broken the invariant in its metadata.
    pub fn from_parts(parts: SiteParts) -> Result<Self, Rejection> {
        Rejection::check(invariants::faults(&parts))?;
        let pools = parts.pools.into_iter().map(Pool::of_checked);
        let pools: BTreeMap<PoolId, Arc<Pool>> =
            pools.map(|pool| (pool.id, Arc::new(pool))).collect();
        let networks = parts.networks.into_iter();
        let networks = networks.filter_map(|parts| Network::of_checked(parts, &pools));
        let hosts = parts.hosts.into_iter();
        Ok(Self {
            networks: networks
                .map(|network| (network.id, Arc::new(network)))
                .collect(),
            pools,
            hosts: Arc::new(hosts.map(|host| (host.hostname.clone(), host)).collect()),
            identity: Arc::new(parts.identity),
            generation: parts.generation,
            initial_config_complete: parts.initial_config_complete,
            dns_servers: parts.dns_servers,
            systemcontroller_gateways: parts.systemcontroller_gateways,
            kubernetes: parts.kubernetes,
            alarms: Arc::new(parts.alarms),
        })
    }

    /// Takes the site apart; [`Site::from_parts`] builds the same site again. Networks come by
    /// number, pools by id, hosts by name.
    pub fn to_parts(&self) -> SiteParts {
        let networks = self.networks().map(|network| NetworkParts {
            id: network.id,
            uuid: network.uuid,
            name: network.name.clone(),
            kind: network.kind,
            dynamic: network.dynamic,
            pools: network
                .pools
                .iter()
                .map(|(_, end)| (end.id, end.pool))
                .collect(),
        });
        SiteParts {
            identity: self.identity().clone(),
            generation: self.generation,
            initial_config_complete: self.initial_config_complete,
            networks: networks.collect(),
            pools: self.pools().map(Pool::to_parts).collect(),
            hosts: self.hosts().cloned().collect(),
            dns_servers: self.dns_servers.clone(),
            systemcontroller_gateways: self.systemcontroller_gateways.clone(),
            kubernetes: self.kubernetes,
            alarms: self.alarms().to_vec(),
        }
    }
}

impl Network {
    /// Builds a network of parts that were checked: one or two pools, all known. Anything else
    /// is no network.
    fn of_checked(parts: NetworkParts, pools: &BTreeMap<PoolId, Arc<Pool>>) -> Option<Self> {
        let end = |&(id, pool): &(AttachmentId, PoolId)| {
            let family = pools.get(&pool)?.family();
            Some(Attachment { id, pool, family })
        };
        let primary = end(parts.pools.first()?)?;
        let pools = match parts.pools.get(1).and_then(end) {
            Some(secondary) => Pools::Dual { primary, secondary },
            None => Pools::Single(primary),
        };
        Some(Self {
            id: parts.id,
            uuid: parts.uuid,
            name: parts.name,
            kind: parts.kind,
            dynamic: parts.dynamic,
            pools,
        })
    }
}
