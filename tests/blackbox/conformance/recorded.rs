//! A recorded sequence and its states, as parts of a site.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use site::{
    Addresses, Administrative, AttachmentId, ConfigurationId, DistributedCloudRole, Generation,
    Host, Kubernetes, NetworkId, NetworkKind, NetworkParts, Order, Personality, PoolId, PoolParts,
    SiteIdentity, SiteParts, SoftwareVersion, SystemMode, SystemType,
};
use uuid::Uuid;

/// Where one sequence stands: its context and the state before the next request.
pub(super) struct Sequence {
    context: Value,
    networks: Value,
    free_pools: Value,
    kubernetes: Kubernetes,
}

impl Sequence {
    /// The start of a sequence.
    pub(super) fn start(line: &Value) -> Self {
        let mut sequence = Self {
            context: line["ctx"].clone(),
            networks: line["state_after"].clone(),
            free_pools: line["free_pools_after"].clone(),
            kubernetes: Kubernetes::SingleStack,
        };
        sequence.kubernetes = sequence.kubernetes_now();
        sequence
    }

    /// Takes over the state after a request.
    pub(super) fn advance(&mut self, line: &Value) {
        if let Some(networks) = line.get("state_after") {
            self.networks = networks.clone();
        }
        if let Some(pools) = line.get("free_pools_after") {
            self.free_pools = pools.clone();
        }
        self.kubernetes = self.kubernetes_now();
    }

    /// The recorded state after a request.
    pub(super) fn after<'a>(&'a self, line: &'a Value) -> (&'a Value, &'a Value) {
        let networks = line.get("state_after").unwrap_or(&self.networks);
        (
            networks,
            line.get("free_pools_after").unwrap_or(&self.free_pools),
        )
    }

    /// Whether installation has ended.
    pub(super) fn installed(&self) -> bool {
        self.context["initial_config_complete"] == true
    }

    /// Kubernetes is not recorded: it follows from the cluster networks and what it was (I8).
    fn kubernetes_now(&self) -> Kubernetes {
        let dual = entries(&self.networks).filter(|network| {
            text(network, "type").starts_with("cluster-") && entries(&network["pools"]).count() > 1
        });
        match (dual.count(), self.kubernetes) {
            (0, _) => Kubernetes::SingleStack,
            (3, _) => Kubernetes::DualStack,
            (_, Kubernetes::DualStack | Kubernetes::ConvertingToSingle) => {
                Kubernetes::ConvertingToSingle
            }
            (_, Kubernetes::SingleStack | Kubernetes::ConvertingToDual) => {
                Kubernetes::ConvertingToDual
            }
        }
    }

    /// The parts of the site before the next request; `None` for values that no type of ours
    /// can hold, such as a malformed address.
    pub(super) fn parts(&self) -> Option<SiteParts> {
        let hosts = self.hosts();
        let mut pools = Vec::new();
        let mut networks = Vec::new();
        for (number, recorded) in entries(&self.networks).enumerate() {
            let network = network(number, recorded)?;
            for pool in entries(&recorded["pools"]) {
                let mut pool = pool_parts(pool)?;
                allocate(&mut pool, &network, &hosts);
                pools.push(pool);
            }
            networks.push(network);
        }
        for pool in entries(&self.free_pools) {
            pools.push(pool_parts(pool)?);
        }
        Some(SiteParts {
            identity: self.identity(),
            generation: Generation(1),
            initial_config_complete: self.installed(),
            networks,
            pools,
            hosts,
            dns_servers: Vec::new(),
            systemcontroller_gateways: Vec::new(),
            kubernetes: self.kubernetes,
            alarms: Vec::new(),
        })
    }

    fn identity(&self) -> SiteIdentity {
        let system = text(&self.context, "system");
        SiteIdentity {
            uuid: id("site"),
            name: "recorded".into(),
            region_name: "recorded".into(),
            system_type: match system {
                "Standard" => SystemType::Standard,
                _ => SystemType::AllInOne,
            },
            system_mode: match system {
                "AIO-SX" => SystemMode::Simplex,
                _ => SystemMode::Duplex,
            },
            role: match text(&self.context, "distributed_cloud_role") {
                "systemcontroller" => DistributedCloudRole::SystemController,
                "subcloud" => DistributedCloudRole::Subcloud,
                _ => DistributedCloudRole::None,
            },
            software_version: SoftwareVersion { year: 24, month: 9 },
        }
    }

    fn hosts(&self) -> Vec<Host> {
        let host = |hostname: &str, personality| Host {
            hostname: hostname.to_owned(),
            personality,
            administrative: match text(&self.context, "controllers") {
                "locked" => Administrative::Locked,
                _ => Administrative::Unlocked,
            },
            target: ConfigurationId(0),
            applied: ConfigurationId(0),
            reboot_required: false,
        };
        let mut hosts = Vec::new();
        if text(&self.context, "controllers") == "none" {
            return hosts;
        }
        hosts.push(host("controller-0", Personality::Controller));
        if text(&self.context, "system") != "AIO-SX" {
            hosts.push(host("controller-1", Personality::Controller));
        }
        if text(&self.context, "system") == "Standard" {
            hosts.push(host("worker-0", Personality::Worker));
        }
        hosts
    }
}

/// The uuid that stands for a reference such as `@pool:oam-ipv4`.
pub(super) fn id(reference: &str) -> Uuid {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, reference).hash(&mut hasher);
        hasher.finish()
    };
    Uuid::from_u64_pair(half(0), half(1))
}

/// The id of the association of two references.
pub(super) fn attachment_id(network: &str, pool: &str) -> Uuid {
    id(&format!("{network} {pool}"))
}

/// A text field; absent and null are empty.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The entries of a list; anything else has none.
pub(super) fn entries(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn network(number: usize, recorded: &Value) -> Option<NetworkParts> {
    let kind = NetworkKind::from_name(text(recorded, "type"))?;
    let reference = text(recorded, "ref");
    let pools = entries(&recorded["pools"]).map(|pool| {
        let pool = text(pool, "ref");
        (
            AttachmentId(attachment_id(reference, pool)),
            PoolId(id(pool)),
        )
    });
    Some(NetworkParts {
        id: NetworkId(u32::try_from(number).ok()? + 1),
        uuid: id(reference),
        name: recorded["network"]
            .as_str()
            .unwrap_or(kind.name())
            .to_owned(),
        kind,
        dynamic: recorded["dynamic"] == true,
        pools: pools.collect(),
    })
}

pub(super) fn pool_parts(recorded: &Value) -> Option<PoolParts> {
    let address = |field: &str| match recorded[field].as_str() {
        None => Some(None),
        Some(text) => text.parse().ok().map(Some),
    };
    let mut ranges = Vec::new();
    for range in entries(&recorded["ranges"]) {
        let end = |index: usize| range[index].as_str()?.parse::<IpAddr>().ok();
        ranges.push((end(0)?, end(1)?));
    }
    ranges.sort_unstable();
    let prefix = recorded["prefix"]
        .as_u64()
        .and_then(|prefix| u8::try_from(prefix).ok())?;
    Some(PoolParts {
        id: PoolId(id(text(recorded, "ref"))),
        name: text(recorded, "name").to_owned(),
        subnet: IpNet::new(text(recorded, "network").parse().ok()?, prefix).ok()?,
        order: match text(recorded, "allocation") {
            "sequential" => Order::Sequential,
            _ => Order::Random,
        },
        ranges,
        addresses: Addresses {
            floating: address("floating")?,
            controller0: address("controller0")?,
            controller1: address("controller1")?,
            gateway: address("gateway")?,
        },
        holders: BTreeMap::new(),
        remembered: BTreeMap::new(),
    })
}

/// Unnamed addresses are not recorded. The four of multicast are the lowest free; the worker of
/// the recorded systems has the tenth address of its pool, where it is free.
fn allocate(pool: &mut PoolParts, network: &NetworkParts, hosts: &[Host]) {
    let holders: Vec<String> = match network.kind {
        NetworkKind::Multicast => {
            let services = [
                "service-manager",
                "maintenance",
                "patch-controller",
                "patch-agent",
            ];
            services
                .iter()
                .map(|service| format!("{service}-{}", network.kind))
                .collect()
        }
        NetworkKind::Mgmt | NetworkKind::ClusterHost | NetworkKind::Storage if network.dynamic => {
            let workers = hosts
                .iter()
                .filter(|host| host.personality == Personality::Worker);
            workers
                .map(|host| format!("{}-{}", host.hostname, network.kind))
                .collect()
        }
        _ => Vec::new(),
    };
    let start = if network.kind == NetworkKind::Multicast {
        1
    } else {
        10
    };
    for holder in holders {
        let tenth = pool
            .subnet
            .hosts()
            .skip(start - usize::from(pool.subnet.addr().is_ipv4()));
        let mut candidates = tenth.take(64).chain(pool.subnet.hosts().take(64));
        let free = candidates.find(|address| {
            pool.ranges
                .iter()
                .any(|(first, last)| first <= address && address <= last)
                && pool.addresses.iter().all(|(_, named)| named != *address)
                && !pool.holders.contains_key(address)
        });
        if let Some(address) = free {
            pool.holders.insert(address, holder);
        }
    }
}
