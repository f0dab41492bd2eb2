//! Sites to try changes on, built the way operators build them: pool by pool, network by
//! network, before installation ends.

use std::net::IpAddr;

use ipnet::IpNet;
use site::{
    Addresses, Administrative, AttachmentId, Change, ConfigurationId, DistributedCloudRole, Family,
    Generation, Host, Kubernetes, MAX_POOLS, NetworkKind, Personality, PoolId, PoolInput,
    PoolParts, Site, SiteIdentity, SiteParts, SoftwareVersion, SystemMode, SystemType, Timestamp,
    plan,
};
use uuid::Uuid;

/// What a site looks like.
#[derive(Debug, Clone)]
pub(crate) struct Fixture {
    /// One controller or two.
    pub(crate) mode: SystemMode,
    /// In a distributed cloud.
    pub(crate) role: DistributedCloudRole,
    /// How many workers; any makes the site standard.
    pub(crate) workers: usize,
    /// The family of the primary pools.
    pub(crate) primary: Family,
    /// The networks with a secondary pool.
    pub(crate) dual: Vec<NetworkKind>,
    /// The networks.
    pub(crate) networks: Vec<NetworkKind>,
    /// Whether secondaries that are not assigned exist as pools.
    pub(crate) spare: bool,
    /// How many pools may still be added, when others fill the rest; `None` adds no others.
    pub(crate) room: Option<usize>,
    /// Whether installation has ended.
    pub(crate) complete: bool,
    /// Whether the hosts are locked.
    pub(crate) locked: bool,
    /// The software version.
    pub(crate) version: SoftwareVersion,
}

impl Default for Fixture {
    fn default() -> Self {
        use NetworkKind::{
            Admin, ClusterHost, ClusterPod, ClusterService, Mgmt, Multicast, Oam, Pxeboot,
        };
        Self {
            mode: SystemMode::Duplex,
            role: DistributedCloudRole::None,
            workers: 0,
            primary: Family::Ipv4,
            dual: Vec::new(),
            networks: vec![
                Pxeboot,
                Mgmt,
                Oam,
                Admin,
                ClusterHost,
                ClusterPod,
                ClusterService,
                Multicast,
            ],
            spare: true,
            room: None,
            complete: true,
            locked: false,
            version: SoftwareVersion::DUAL_STACK,
        }
    }
}

/// One controller, unlocked.
pub(crate) fn simplex() -> Fixture {
    Fixture {
        mode: SystemMode::Simplex,
        ..Fixture::default()
    }
}

/// Two controllers and a worker.
pub(crate) fn standard() -> Fixture {
    Fixture {
        workers: 1,
        ..Fixture::default()
    }
}

/// A uuid of a number.
pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// The name of the fixture's pool of a network, such as `oam-ipv6`.
pub(crate) fn pool_name(kind: NetworkKind, family: Family) -> String {
    format!("{kind}-{}", family.to_string().to_lowercase())
}

/// Network address and prefix length of a network's pool.
pub(crate) fn subnet(kind: NetworkKind, family: Family) -> (String, u32) {
    let number = NetworkKind::ALL
        .iter()
        .position(|other| *other == kind)
        .unwrap_or_default();
    match (kind, family) {
        (NetworkKind::Multicast, Family::Ipv4) => ("239.1.1.0".into(), 28),
        (NetworkKind::Multicast, Family::Ipv6) => ("ff08::1:1:0".into(), 124),
        (NetworkKind::ClusterPod, Family::Ipv4) => ("172.16.0.0".into(), 16),
        (NetworkKind::ClusterService, Family::Ipv4) => ("10.96.0.0".into(), 12),
        (_, Family::Ipv4) => (format!("10.{number}.0.0"), 24),
        (_, Family::Ipv6) => (format!("fd0{number:x}::"), 64),
    }
}

/// The pool of a network with the usual addresses: gateway .1, floating .2, controllers .3 and
/// .4; on simplex sites gateway and floating.
pub(crate) fn pool(kind: NetworkKind, family: Family, simplex: bool) -> PoolInput {
    let (network, prefix) = subnet(kind, family);
    let mut input = PoolInput {
        name: pool_name(kind, family),
        network: network.clone(),
        prefix,
        ..PoolInput::default()
    };
    let named = matches!(
        kind,
        NetworkKind::Pxeboot
            | NetworkKind::Mgmt
            | NetworkKind::Oam
            | NetworkKind::Admin
            | NetworkKind::ClusterHost
            | NetworkKind::Storage
    );
    if named {
        let base = match family {
            Family::Ipv4 => network.strip_suffix('0').unwrap_or(&network),
            Family::Ipv6 => &network,
        };
        input.gateway_address = format!("{base}1");
        input.floating_address = format!("{base}2");
        if !simplex {
            input.controller0_address = format!("{base}3");
            input.controller1_address = format!("{base}4");
        }
    }
    input
}

/// Adds unattached pools until there is room for so many more.
fn fill(parts: &mut SiteParts, room: usize) {
    let like = parts.pools[0].clone();
    for number in parts.pools.len()..MAX_POOLS - room {
        let address = |last: u8| IpAddr::from([10, 200, u8::try_from(number % 256).unwrap(), last]);
        parts.pools.push(PoolParts {
            id: PoolId(id(9000 + number as u128)),
            name: format!("filler-{number}"),
            subnet: IpNet::new(address(0), 24).expect("a subnet"),
            ranges: vec![(address(1), address(254))],
            addresses: Addresses::default(),
            holders: Default::default(),
            remembered: Default::default(),
            ..like.clone()
        });
    }
}

impl Fixture {
    /// A site in words, such as `standard locked dual-oam`.
    pub(crate) fn of_words(words: &str) -> Self {
        let mut fixture = Self::default();
        for word in words.split(' ') {
            match word {
                "simplex" => fixture.mode = SystemMode::Simplex,
                "duplex" => fixture.mode = SystemMode::Duplex,
                "standard" => fixture.workers = 1,
                "locked" => fixture.locked = true,
                "no-room" => fixture.room = Some(0),
                "room-for-one" => fixture.room = Some(1),
                "room-for-two" => fixture.room = Some(2),
                "installing" => fixture.complete = false,
                "subcloud" => fixture.role = DistributedCloudRole::Subcloud,
                "v6" => fixture.primary = Family::Ipv6,
                "version-24.08" => fixture.version.month = 8,
                "storage" => fixture.networks.push(NetworkKind::Storage),
                "only-mgmt" => fixture.networks = vec![NetworkKind::Mgmt],
                "only-oam" => fixture.networks = vec![NetworkKind::Oam],
                "dual-oam" => fixture.dual.push(NetworkKind::Oam),
                "dual-all" => fixture.dual.extend(&NetworkKind::ALL[1..]),
                "dual-cluster" => fixture.dual.extend([
                    NetworkKind::Oam,
                    NetworkKind::ClusterHost,
                    NetworkKind::ClusterPod,
                    NetworkKind::ClusterService,
                ]),
                other => panic!("unknown word {other}"),
            }
        }
        fixture
    }

    /// The site.
    pub(crate) fn site(&self) -> Site {
        let mut site = Site::from_parts(self.empty()).expect("an empty site is sound");
        let simplex = self.mode == SystemMode::Simplex;
        let mut number = 1000;
        let mut apply = |change: Change| {
            let planned = plan(&site, change.clone(), Timestamp(0));
            planned
                .unwrap_or_else(|why| panic!("{change:?}: {why}"))
                .apply(&mut site);
        };
        for kind in self.networks.iter().copied() {
            let family = match kind {
                NetworkKind::Pxeboot => Family::Ipv4,
                _ => self.primary,
            };
            number += 10;
            let pool_id = PoolId(id(number));
            apply(Change::AddPool {
                id: pool_id,
                pool: pool(kind, family, simplex),
            });
            apply(Change::AddNetwork {
                uuid: id(number + 1),
                attachment: AttachmentId(id(number + 2)),
                name: String::new(),
                kind: kind.name().into(),
                dynamic: true,
                pool: pool_name(kind, family),
            });
            let family = family.other();
            let dual = self.dual.contains(&kind);
            if kind != NetworkKind::Pxeboot && (dual || self.spare) {
                let pool_id = PoolId(id(number + 3));
                apply(Change::AddPool {
                    id: pool_id,
                    pool: pool(kind, family, simplex),
                });
            }
            if dual {
                apply(Change::AssignPool {
                    id: AttachmentId(id(number + 4)),
                    network: kind.name().into(),
                    pool: pool_name(kind, family),
                });
            }
        }
        let mut parts = site.to_parts();
        parts.initial_config_complete = self.complete;
        parts.generation = Generation(0);
        if let Some(room) = self.room {
            fill(&mut parts, room);
        }
        Site::from_parts(parts).expect("an installed site is sound")
    }

    fn empty(&self) -> SiteParts {
        let host = |hostname: String, personality| Host {
            hostname,
            personality,
            administrative: match self.locked {
                true => Administrative::Locked,
                false => Administrative::Unlocked,
            },
            target: ConfigurationId(0),
            applied: ConfigurationId(0),
            reboot_required: false,
        };
        let controllers = if self.mode == SystemMode::Simplex {
            1
        } else {
            2
        };
        let controller = |n| host(format!("controller-{n}"), Personality::Controller);
        let worker = |n| host(format!("worker-{n}"), Personality::Worker);
        SiteParts {
            identity: SiteIdentity {
                uuid: id(1),
                name: "site-1".into(),
                region_name: "site-1".into(),
                system_type: match self.workers {
                    0 => SystemType::AllInOne,
                    _ => SystemType::Standard,
                },
                system_mode: self.mode,
                role: self.role,
                software_version: self.version,
            },
            generation: Generation(0),
            initial_config_complete: false,
            networks: Vec::new(),
            pools: Vec::new(),
            hosts: (0..controllers)
                .map(controller)
                .chain((0..self.workers).map(worker))
                .collect(),
            dns_servers: Vec::new(),
            systemcontroller_gateways: Vec::new(),
            kubernetes: Kubernetes::SingleStack,
            alarms: Vec::new(),
        }
    }
}
