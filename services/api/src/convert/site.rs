//! One site: messages and records to domain and back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use site::{
    Addresses, Administrative, Alarm, Attachment, AttachmentId, ConfigurationId,
    DistributedCloudRole, Effect, Family, Generation, Host, Kubernetes, Network, NetworkId,
    NetworkKind, NetworkParts, Order, Personality, Pool, PoolId, PoolParts, Rank, Severity, Site,
    SiteIdentity, SiteParts, SoftwareVersion, Stack, SystemMode, SystemType, Timestamp,
};
use uuid::Uuid;

use super::{Malformed, excerpt};
use crate::site_v1 as wire;

/// The whole site as a message, output-only fields included.
pub fn site_to_wire(site: &Site) -> wire::Site {
    let mut message = parts_to_wire(&site.to_parts());
    message.primary_family = site
        .primary_family()
        .map_or(0, |family| family_to_wire(family) as i32);
    message.stack = stack_to_wire(site.stack()) as i32;
    message.link_address = site
        .link_address()
        .map(|address| address.to_string())
        .unwrap_or_default();
    for (network, known) in message.networks.iter_mut().zip(site.networks()) {
        *network = network_to_wire(site, known);
    }
    for (pool, known) in message.address_pools.iter_mut().zip(site.pools()) {
        *pool = pool_to_wire(site, known);
    }
    message
}

/// The fields of a site as a message, as kept in records and sent as reports.
pub fn parts_to_wire(parts: &SiteParts) -> wire::Site {
    let SiteParts {
        identity,
        generation,
        initial_config_complete,
        networks,
        pools,
        hosts,
        dns_servers,
        systemcontroller_gateways,
        kubernetes,
        alarms,
    } = parts;
    let SiteIdentity {
        uuid,
        name,
        region_name,
        system_type,
        system_mode,
        role,
        software_version,
    } = identity;
    wire::Site {
        uuid: uuid.to_string(),
        name: name.clone(),
        region_name: region_name.clone(),
        system_type: system_type_to_wire(*system_type) as i32,
        system_mode: system_mode_to_wire(*system_mode) as i32,
        distributed_cloud_role: role_to_wire(*role) as i32,
        software_version: software_version.to_string(),
        initial_config_complete: *initial_config_complete,
        generation: generation.0,
        networks: networks.iter().map(network_parts_to_wire).collect(),
        address_pools: pools.iter().map(pool_parts_to_wire).collect(),
        hosts: hosts.iter().map(host_to_wire).collect(),
        dns_servers: dns_servers.iter().map(ToString::to_string).collect(),
        systemcontroller_gateway_addresses: systemcontroller_gateways
            .iter()
            .map(ToString::to_string)
            .collect(),
        kubernetes: kubernetes_to_wire(*kubernetes) as i32,
        alarms: alarms.iter().map(alarm_to_wire).collect(),
        primary_family: 0,
        stack: 0,
        link_address: String::new(),
    }
}

/// Reads the fields of a site. Output-only fields are computed anew and so not read. The
/// result is unchecked: [`Site::from_parts`] judges it.
///
/// # Errors
/// Every field that cannot be read at all, not only the first.
pub fn parts_from_wire(message: &wire::Site) -> Result<SiteParts, Vec<Malformed>> {
    let wire::Site {
        uuid,
        name,
        region_name,
        system_type,
        system_mode,
        distributed_cloud_role,
        software_version,
        initial_config_complete,
        generation,
        networks,
        address_pools,
        hosts,
        dns_servers,
        systemcontroller_gateway_addresses,
        kubernetes,
        alarms,
        primary_family: _,
        stack: _,
        link_address: _,
    } = message;
    let mut faults = Faults::default();
    let parts = (|| {
        let uuid = faults.take("uuid", parse_uuid(uuid));
        let system_type = faults.take("system_type", system_type_from_wire(*system_type));
        let system_mode = faults.take("system_mode", system_mode_from_wire(*system_mode));
        let role = faults.take(
            "distributed_cloud_role",
            role_from_wire(*distributed_cloud_role),
        );
        let software_version = faults.take("software_version", parse_version(software_version));
        let networks = faults.all("networks", networks, network_parts_from_wire);
        let pools = faults.all("address_pools", address_pools, pool_parts_from_wire);
        let hosts = faults.all("hosts", hosts, host_from_wire);
        let dns_servers = faults.all("dns_servers", dns_servers, |text| parse_address(text));
        let systemcontroller_gateways = faults.all(
            "systemcontroller_gateway_addresses",
            systemcontroller_gateway_addresses,
            |text| parse_address(text),
        );
        let kubernetes = faults.take("kubernetes", kubernetes_from_wire(*kubernetes));
        let alarms = faults.all("alarms", alarms, alarm_from_wire);
        Some(SiteParts {
            identity: SiteIdentity {
                uuid: uuid?,
                name: name.clone(),
                region_name: region_name.clone(),
                system_type: system_type?,
                system_mode: system_mode?,
                role: role?,
                software_version: software_version?,
            },
            generation: Generation(*generation),
            initial_config_complete: *initial_config_complete,
            networks,
            pools,
            hosts,
            dns_servers,
            systemcontroller_gateways,
            kubernetes: kubernetes?,
            alarms,
        })
    })();
    match parts {
        Some(parts) if faults.0.is_empty() => Ok(parts),
        _ => Err(faults.0),
    }
}

/// Collects faults with their paths; of more than can be told, none after the first hundred.
#[derive(Default)]
struct Faults(Vec<Malformed>);

impl Faults {
    const MOST: usize = 100;

    fn take<T>(&mut self, path: &str, value: Result<T, String>) -> Option<T> {
        let fault = match value {
            Ok(value) => return Some(value),
            Err(problem) => Malformed::new(path, problem),
        };
        match self.0.len() {
            ..Self::MOST => self.0.push(fault),
            Self::MOST => self
                .0
                .push(Malformed::new(path, "this and what follows is not listed")),
            _ => {}
        }
        None
    }

    /// Reads every element; an unreadable one is a fault and left out.
    fn all<M, T>(
        &mut self,
        path: &str,
        messages: &[M],
        read: impl Fn(&M) -> Result<T, String>,
    ) -> Vec<T> {
        let mut values = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            values.extend(self.take(&format!("{path}[{index}]"), read(message)));
        }
        values
    }
}

/// A network with its output-only fields.
pub fn network_to_wire(site: &Site, network: &Network) -> wire::Network {
    wire::Network {
        id: network.id().0,
        uuid: network.uuid().to_string(),
        name: network.name().to_owned(),
        r#type: network.kind().name().to_owned(),
        dynamic: network.dynamic(),
        address_pools: network
            .pools()
            .iter()
            .map(|(rank, attachment)| attachment_to_wire(site, network, rank, attachment))
            .collect(),
        primary_family: family_to_wire(network.primary_family()) as i32,
        stack: stack_to_wire(network.pools().stack()) as i32,
        primary_pool_uuid: network.pools().primary().pool.0.to_string(),
    }
}

/// One association with the names of its ends.
pub fn attachment_to_wire(
    site: &Site,
    network: &Network,
    rank: Rank,
    attachment: Attachment,
) -> wire::NetworkAddressPool {
    wire::NetworkAddressPool {
        uuid: attachment.id.0.to_string(),
        network_name: network.name().to_owned(),
        network_uuid: network.uuid().to_string(),
        address_pool_name: site
            .pool(attachment.pool)
            .map(|pool| pool.name().to_owned())
            .unwrap_or_default(),
        address_pool_uuid: attachment.pool.0.to_string(),
        rank: match rank {
            Rank::Primary => wire::Rank::Primary,
            Rank::Secondary => wire::Rank::Secondary,
        } as i32,
        family: family_to_wire(attachment.family) as i32,
    }
}

/// A pool with its output-only fields.
pub fn pool_to_wire(site: &Site, pool: &Pool) -> wire::AddressPool {
    let mut message = pool_parts_to_wire(&pool.to_parts());
    message.family = family_to_wire(pool.family()) as i32;
    message.network_name = site
        .network_of(pool.id())
        .map(|(network, _)| network.name().to_owned())
        .unwrap_or_default();
    message.etag = pool.etag();
    message
}

fn network_parts_to_wire(parts: &NetworkParts) -> wire::Network {
    let NetworkParts {
        id,
        uuid,
        name,
        kind,
        dynamic,
        pools,
    } = parts;
    wire::Network {
        id: id.0,
        uuid: uuid.to_string(),
        name: name.clone(),
        r#type: kind.name().to_owned(),
        dynamic: *dynamic,
        address_pools: pools
            .iter()
            .map(|(id, pool)| wire::NetworkAddressPool {
                uuid: id.0.to_string(),
                address_pool_uuid: pool.0.to_string(),
                ..Default::default()
            })
            .collect(),
        primary_family: 0,
        stack: 0,
        primary_pool_uuid: String::new(),
    }
}

fn network_parts_from_wire(message: &wire::Network) -> Result<NetworkParts, String> {
    let wire::Network {
        id,
        uuid,
        name,
        r#type,
        dynamic,
        address_pools,
        primary_family: _,
        stack: _,
        primary_pool_uuid: _,
    } = message;
    let kind = NetworkKind::from_name(r#type)
        .ok_or_else(|| format!("network type `{}` is unknown", excerpt(r#type)))?;
    let pools = address_pools.iter().map(|association| {
        let id = AttachmentId(parse_uuid(&association.uuid)?);
        Ok((id, PoolId(parse_uuid(&association.address_pool_uuid)?)))
    });
    Ok(NetworkParts {
        id: NetworkId(*id),
        uuid: parse_uuid(uuid)?,
        name: name.clone(),
        kind,
        dynamic: *dynamic,
        pools: pools.collect::<Result<_, String>>()?,
    })
}

fn pool_parts_to_wire(parts: &PoolParts) -> wire::AddressPool {
    let PoolParts {
        id,
        name,
        subnet,
        order,
        ranges,
        addresses,
        holders,
        remembered,
    } = parts;
    let Addresses {
        floating,
        controller0,
        controller1,
        gateway,
    } = addresses;
    let text = |address: &Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    let allocation = |(address, holder): (&IpAddr, &String)| wire::Allocation {
        address: address.to_string(),
        holder: holder.clone(),
    };
    wire::AddressPool {
        uuid: id.0.to_string(),
        name: name.clone(),
        network: subnet.network().to_string(),
        prefix: u32::from(subnet.prefix_len()),
        order: match order {
            Order::Random => wire::Order::Random,
            Order::Sequential => wire::Order::Sequential,
        } as i32,
        ranges: ranges.iter().map(range_to_wire).collect(),
        floating_address: text(floating),
        controller0_address: text(controller0),
        controller1_address: text(controller1),
        gateway_address: text(gateway),
        allocations: holders.iter().map(allocation).collect(),
        remembered: remembered
            .iter()
            .map(|(holder, address)| allocation((address, holder)))
            .collect(),
        family: 0,
        network_name: String::new(),
        etag: String::new(),
    }
}

pub(crate) fn range_to_wire((first, last): &(IpAddr, IpAddr)) -> wire::AddressRange {
    wire::AddressRange {
        first: first.to_string(),
        last: last.to_string(),
    }
}

pub(crate) fn range_from_wire(range: &wire::AddressRange) -> Result<(IpAddr, IpAddr), String> {
    let wire::AddressRange { first, last } = range;
    Ok((parse_address(first)?, parse_address(last)?))
}

fn pool_parts_from_wire(message: &wire::AddressPool) -> Result<PoolParts, String> {
    let wire::AddressPool {
        uuid,
        name,
        network,
        prefix,
        order,
        ranges,
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
        allocations,
        remembered,
        family: _,
        network_name: _,
        etag: _,
    } = message;
    let order = match wire::Order::try_from(*order) {
        Ok(wire::Order::Unspecified | wire::Order::Random) => Order::Random,
        Ok(wire::Order::Sequential) => Order::Sequential,
        Err(_) => return Err(format!("order {order} is unknown")),
    };
    let allocations_of = |list: &[wire::Allocation]| -> Result<Vec<(IpAddr, String)>, String> {
        let read = |a: &wire::Allocation| Ok((parse_address(&a.address)?, a.holder.clone()));
        list.iter().map(read).collect()
    };
    let holders = allocations_of(allocations)?;
    let held: BTreeMap<_, _> = holders.iter().cloned().collect();
    if held.len() != holders.len() {
        return Err("an address has two holders".to_owned());
    }
    Ok(PoolParts {
        id: PoolId(parse_uuid(uuid)?),
        name: name.clone(),
        subnet: parse_subnet(network, *prefix)?,
        order,
        ranges: ranges
            .iter()
            .map(range_from_wire)
            .collect::<Result<_, _>>()?,
        addresses: Addresses {
            floating: parse_optional(floating_address)?,
            controller0: parse_optional(controller0_address)?,
            controller1: parse_optional(controller1_address)?,
            gateway: parse_optional(gateway_address)?,
        },
        holders: held,
        remembered: allocations_of(remembered)?
            .into_iter()
            .map(|(a, h)| (h, a))
            .collect(),
    })
}

/// A host.
pub fn host_to_wire(host: &Host) -> wire::Host {
    let Host {
        hostname,
        personality,
        administrative,
        target,
        applied,
        reboot_required,
    } = host;
    wire::Host {
        hostname: hostname.clone(),
        personality: match personality {
            Personality::Controller => wire::Personality::Controller,
            Personality::Worker => wire::Personality::Worker,
            Personality::Storage => wire::Personality::Storage,
        } as i32,
        administrative: match administrative {
            Administrative::Locked => wire::AdministrativeState::Locked,
            Administrative::Unlocked => wire::AdministrativeState::Unlocked,
        } as i32,
        target_configuration: target.0,
        applied_configuration: applied.0,
        reboot_required: *reboot_required,
    }
}

fn host_from_wire(message: &wire::Host) -> Result<Host, String> {
    let wire::Host {
        hostname,
        personality,
        administrative,
        target_configuration,
        applied_configuration,
        reboot_required,
    } = message;
    let personality = match wire::Personality::try_from(*personality) {
        Ok(wire::Personality::Controller) => Personality::Controller,
        Ok(wire::Personality::Worker) => Personality::Worker,
        Ok(wire::Personality::Storage) => Personality::Storage,
        Ok(wire::Personality::Unspecified) | Err(_) => {
            return Err(format!("personality {personality} is unknown"));
        }
    };
    let administrative = match wire::AdministrativeState::try_from(*administrative) {
        Ok(wire::AdministrativeState::Locked) => Administrative::Locked,
        Ok(wire::AdministrativeState::Unlocked) => Administrative::Unlocked,
        Ok(wire::AdministrativeState::Unspecified) | Err(_) => {
            return Err(format!("administrative state {administrative} is unknown"));
        }
    };
    Ok(Host {
        hostname: hostname.clone(),
        personality,
        administrative,
        target: ConfigurationId(*target_configuration),
        applied: ConfigurationId(*applied_configuration),
        reboot_required: *reboot_required,
    })
}

/// An alarm.
pub fn alarm_to_wire(alarm: &Alarm) -> wire::Alarm {
    let Alarm {
        uuid,
        id,
        severity,
        entity,
        reason,
        raised_at,
        repair,
    } = alarm;
    wire::Alarm {
        uuid: uuid.to_string(),
        id: id.clone(),
        severity: match severity {
            Severity::Critical => wire::Severity::Critical,
            Severity::Major => wire::Severity::Major,
            Severity::Minor => wire::Severity::Minor,
            Severity::Warning => wire::Severity::Warning,
        } as i32,
        entity: entity.clone(),
        reason: reason.clone(),
        raised_at_milliseconds: raised_at.0,
        repair: repair.clone(),
    }
}

fn alarm_from_wire(message: &wire::Alarm) -> Result<Alarm, String> {
    let wire::Alarm {
        uuid,
        id,
        severity,
        entity,
        reason,
        raised_at_milliseconds,
        repair,
    } = message;
    let severity = match wire::Severity::try_from(*severity) {
        Ok(wire::Severity::Critical) => Severity::Critical,
        Ok(wire::Severity::Major) => Severity::Major,
        Ok(wire::Severity::Minor) => Severity::Minor,
        Ok(wire::Severity::Warning) => Severity::Warning,
        Ok(wire::Severity::Unspecified) | Err(_) => {
            return Err(format!("severity {severity} is unknown"));
        }
    };
    Ok(Alarm {
        uuid: parse_uuid(uuid)?,
        id: id.clone(),
        severity,
        entity: entity.clone(),
        reason: reason.clone(),
        raised_at: Timestamp(*raised_at_milliseconds),
        repair: repair.clone(),
    })
}

/// A family.
pub fn family_to_wire(family: Family) -> wire::Family {
    match family {
        Family::Ipv4 => wire::Family::Ipv4,
        Family::Ipv6 => wire::Family::Ipv6,
    }
}

/// A stack.
pub fn stack_to_wire(stack: Stack) -> wire::Stack {
    match stack {
        Stack::Single => wire::Stack::Single,
        Stack::Dual => wire::Stack::Dual,
    }
}

fn system_type_to_wire(system_type: SystemType) -> wire::SystemType {
    match system_type {
        SystemType::AllInOne => wire::SystemType::AllInOne,
        SystemType::Standard => wire::SystemType::Standard,
    }
}

fn system_type_from_wire(value: i32) -> Result<SystemType, String> {
    match wire::SystemType::try_from(value) {
        Ok(wire::SystemType::AllInOne) => Ok(SystemType::AllInOne),
        Ok(wire::SystemType::Standard) => Ok(SystemType::Standard),
        Ok(wire::SystemType::Unspecified) | Err(_) => Err(format!("value {value} is unknown")),
    }
}

fn system_mode_to_wire(mode: SystemMode) -> wire::SystemMode {
    match mode {
        SystemMode::Simplex => wire::SystemMode::Simplex,
        SystemMode::Duplex => wire::SystemMode::Duplex,
        SystemMode::DuplexDirect => wire::SystemMode::DuplexDirect,
    }
}

fn system_mode_from_wire(value: i32) -> Result<SystemMode, String> {
    match wire::SystemMode::try_from(value) {
        Ok(wire::SystemMode::Simplex) => Ok(SystemMode::Simplex),
        Ok(wire::SystemMode::Duplex) => Ok(SystemMode::Duplex),
        Ok(wire::SystemMode::DuplexDirect) => Ok(SystemMode::DuplexDirect),
        Ok(wire::SystemMode::Unspecified) | Err(_) => Err(format!("value {value} is unknown")),
    }
}

fn role_to_wire(role: DistributedCloudRole) -> wire::DistributedCloudRole {
    match role {
        DistributedCloudRole::None => wire::DistributedCloudRole::None,
        DistributedCloudRole::SystemController => wire::DistributedCloudRole::SystemController,
        DistributedCloudRole::Subcloud => wire::DistributedCloudRole::Subcloud,
    }
}

fn role_from_wire(value: i32) -> Result<DistributedCloudRole, String> {
    match wire::DistributedCloudRole::try_from(value) {
        Ok(wire::DistributedCloudRole::None) => Ok(DistributedCloudRole::None),
        Ok(wire::DistributedCloudRole::SystemController) => {
            Ok(DistributedCloudRole::SystemController)
        }
        Ok(wire::DistributedCloudRole::Subcloud) => Ok(DistributedCloudRole::Subcloud),
        Ok(wire::DistributedCloudRole::Unspecified) | Err(_) => {
            Err(format!("value {value} is unknown"))
        }
    }
}

/// The stack of Kubernetes.
pub fn kubernetes_to_wire(state: Kubernetes) -> wire::KubernetesState {
    match state {
        Kubernetes::SingleStack => wire::KubernetesState::SingleStack,
        Kubernetes::ConvertingToDual => wire::KubernetesState::ConvertingToDual,
        Kubernetes::DualStack => wire::KubernetesState::DualStack,
        Kubernetes::ConvertingToSingle => wire::KubernetesState::ConvertingToSingle,
    }
}

fn kubernetes_from_wire(value: i32) -> Result<Kubernetes, String> {
    match wire::KubernetesState::try_from(value) {
        Ok(wire::KubernetesState::SingleStack) => Ok(Kubernetes::SingleStack),
        Ok(wire::KubernetesState::ConvertingToDual) => Ok(Kubernetes::ConvertingToDual),
        Ok(wire::KubernetesState::DualStack) => Ok(Kubernetes::DualStack),
        Ok(wire::KubernetesState::ConvertingToSingle) => Ok(Kubernetes::ConvertingToSingle),
        Ok(wire::KubernetesState::Unspecified) | Err(_) => Err(format!("value {value} is unknown")),
    }
}

pub(crate) fn parse_uuid(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| format!("`{}` is not a uuid", excerpt(text)))
}

pub(crate) fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("`{}` is not an IP address", excerpt(text)))
}

pub(crate) fn parse_optional(text: &str) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse_address(text).map(Some)
    }
}

fn parse_subnet(network: &str, prefix: u32) -> Result<IpNet, String> {
    let length = u8::try_from(prefix).map_err(|_| format!("prefix length {prefix} is too long"))?;
    IpNet::new(parse_address(network)?, length)
        .map_err(|_| format!("prefix length {prefix} is too long"))
}

pub(crate) fn parse_version(text: &str) -> Result<SoftwareVersion, String> {
    text.parse()
        .map_err(|_| format!("`{}` is not a version like 24.09", excerpt(text)))
}

/// An effect as a message.
pub fn effect_to_wire(effect: &Effect) -> wire::Effect {
    wire::Effect {
        kind: effect.kind().to_owned(),
        description: effect.to_string(),
        network: effect
            .network()
            .map(|kind| kind.name().to_owned())
            .unwrap_or_default(),
        family: effect
            .family()
            .map_or(0, |family| family_to_wire(family) as i32),
        hosts: effect.hosts().to_vec(),
        addresses: effect.addresses().iter().map(ToString::to_string).collect(),
    }
}

/// The deprecated view of the primary pool of oam; empty fields when there is none.
pub fn oam_to_wire(site: &Site) -> wire::Oam {
    let network = site.network(NetworkKind::Oam);
    let Some(pool) = network.and_then(|oam| site.pool(oam.pools().primary().pool)) else {
        return wire::Oam::default();
    };
    let text = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    let Addresses {
        floating,
        controller0,
        controller1,
        gateway,
    } = *pool.addresses();
    let (shared, single) = if site.is_simplex() {
        (None, floating)
    } else {
        (floating, None)
    };
    wire::Oam {
        oam_subnet: pool.subnet().to_string(),
        oam_gateway_ip: text(gateway),
        oam_floating_ip: text(shared),
        oam_c0_ip: text(controller0),
        oam_c1_ip: text(controller1),
        oam_ip: text(single),
        oam_start_ip: text(pool.ranges().first().map(site::Range::first)),
        oam_end_ip: text(pool.ranges().last().map(site::Range::last)),
    }
}
