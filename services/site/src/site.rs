//! One site: the whole state that the rules speak about.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::{Alarm, Family, Host, Network, NetworkId, NetworkKind, Pool, PoolId, Pools, Stack};

/// A site that satisfies every invariant. It changes only through [`crate::plan`].
///
/// Cloning is cheap: what has not changed is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub(crate) identity: Arc<SiteIdentity>,
    pub(crate) generation: Generation,
    pub(crate) initial_config_complete: bool,
    pub(crate) networks: BTreeMap<NetworkId, Arc<Network>>,
    pub(crate) pools: BTreeMap<PoolId, Arc<Pool>>,
    pub(crate) hosts: Arc<BTreeMap<String, Host>>,
    pub(crate) dns_servers: Vec<IpAddr>,
    pub(crate) systemcontroller_gateways: Vec<IpAddr>,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) alarms: Arc<Vec<Alarm>>,
}

/// What a site is, fixed at installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteIdentity {
    /// The uuid of the site.
    pub uuid: Uuid,
    /// The name, such as `subcloud-1`.
    pub name: String,
    /// The region name; defaults to the name.
    pub region_name: String,
    /// All-in-one or standard.
    pub system_type: SystemType,
    /// Simplex or duplex.
    pub system_mode: SystemMode,
    /// The role in a distributed cloud.
    pub role: DistributedCloudRole,
    /// The software version, `YY.MM`; dual-stack from 24.09 on (I9).
    pub software_version: SoftwareVersion,
}

/// A software version `YY.MM`, ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SoftwareVersion {
    /// Two-digit year.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
}

/// The number of accepted changes; plus one per accepted change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after the next change. No site comes near the last one, which is followed by itself:
    /// a site that is read with more than half as many changes is refused.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

/// Whether controllers do worker duty too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SystemType {
    /// Controllers are workers too.
    AllInOne,
    /// Separate workers.
    Standard,
}

/// One controller or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SystemMode {
    /// One controller.
    Simplex,
    /// Two controllers.
    Duplex,
    /// Two controllers, connected to each other directly.
    DuplexDirect,
}

/// The role of a site in a distributed cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DistributedCloudRole {
    /// A site of its own.
    None,
    /// The system controller.
    SystemController,
    /// A subcloud.
    Subcloud,
}

/// The stack of Kubernetes (I8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kubernetes {
    /// One family.
    SingleStack,
    /// Was single-stack; some of the three cluster networks have a secondary pool.
    ConvertingToDual,
    /// Both families.
    DualStack,
    /// Was dual-stack; some of the three cluster networks have lost theirs.
    ConvertingToSingle,
}

impl Site {
    /// The fixed properties.
    pub fn identity(&self) -> &SiteIdentity {
        &self.identity
    }

    /// The number of accepted changes.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether installation has ended: the rules marked "post" apply from then on.
    pub fn initial_config_complete(&self) -> bool {
        self.initial_config_complete
    }

    /// The networks, by id.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values().map(Arc::as_ref)
    }

    /// The network of a type.
    pub fn network(&self, kind: NetworkKind) -> Option<&Network> {
        self.networks().find(|network| network.kind == kind)
    }

    /// The pools, by id.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values().map(Arc::as_ref)
    }

    /// One pool.
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.pools.get(&id).map(Arc::as_ref)
    }

    /// The hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// The DNS servers, in order; at most three.
    pub fn dns_servers(&self) -> &[IpAddr] {
        &self.dns_servers
    }

    /// On a subcloud: the gateways of the system controller's link network towards it,
    /// that of the link family first.
    pub fn systemcontroller_gateways(&self) -> &[IpAddr] {
        &self.systemcontroller_gateways
    }

    /// The stack of Kubernetes.
    pub fn kubernetes(&self) -> Kubernetes {
        self.kubernetes
    }

    /// The alarms that are raised.
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    /// The distributed-cloud network: admin if it has a pool, else mgmt.
    pub fn link_network(&self) -> Option<&Network> {
        self.network(NetworkKind::Admin)
            .or_else(|| self.network(NetworkKind::Mgmt))
    }

    /// The primary pool of the distributed-cloud network.
    pub fn link_pool(&self) -> Option<&Pool> {
        self.pool(self.link_network()?.pools().primary().pool)
    }

    /// The family of everything between this site and others.
    pub fn link_family(&self) -> Option<Family> {
        Some(self.link_pool()?.family())
    }

    /// The floating address of the link pool: what the controller listens on, what an agent
    /// binds as source.
    pub fn link_address(&self) -> Option<IpAddr> {
        self.link_pool()?.addresses().floating
    }

    /// The family of all primary pools but that of pxeboot (I2); `None` without networks.
    pub fn primary_family(&self) -> Option<Family> {
        self.networks()
            .find(|network| network.kind != NetworkKind::Pxeboot)
            .map(Network::primary_family)
    }

    /// Dual-stack when the distributed-cloud network has two pools.
    pub fn stack(&self) -> Stack {
        self.link_network()
            .map_or(Stack::Single, |network| Pools::stack(network.pools()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_generation_never_overflows() {
        for (generation, next) in [
            (0, 1),
            (6, 7),
            (u64::MAX - 1, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(Generation(generation).next(), Generation(next));
        }
    }
}
