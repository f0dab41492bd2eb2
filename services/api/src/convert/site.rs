//! One site: messages and records to domain and back.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;
use site::{
    Addresses, Attachment, AttachmentId, DistributedCloudRole, Effect, Family, Generation,
    Kubernetes, Network, NetworkId, NetworkKind, NetworkParts, Order, Pool, PoolId, PoolParts,
    Rank, Site, SiteIdentity, SiteParts, SoftwareVersion, Stack, SystemMode, SystemType,
};
use uuid::Uuid;

use super::host::{alarm_from_wire, host_from_wire};
use super::{Malformed, alarm_to_wire, excerpt, host_to_wire};
use crate::site_v1 as wire;

/// The whole site as a message, output-only fields included.
pub fn site_to_wire(site: &Site) -> wire::Site {
    wire::Site {
        primary_family: site
            .primary_family()
            .map_or(0, |family| family_to_wire(family) as i32),
        stack: stack_to_wire(site.stack()) as i32,
        link_address: site.link_address().map_or_else(String::new, text),
        networks: site
            .networks()
            .map(|network| network_to_wire(site, network))
            .collect(),
        address_pools: site.pools().map(|pool| pool_to_wire(site, pool)).collect(),
        ..bare_site_to_wire(site)
    }
}

/// The fields of a site as a message, as kept in its record: those of [`parts_to_wire`], without
/// a copy of the parts in between.
pub fn site_fields_to_wire(site: &Site) -> wire::Site {
    wire::Site {
        networks: site.networks().map(network_fields_to_wire).collect(),
        address_pools: site.pools().map(pool_fields_to_wire).collect(),
        ..bare_site_to_wire(site)
    }
}

/// A site without its networks and pools.
fn bare_site_to_wire(site: &Site) -> wire::Site {
    wire::Site {
        initial_config_complete: site.initial_config_complete(),
        generation: site.generation().0,
        hosts: site.hosts().map(host_to_wire).collect(),
        dns_servers: site.dns_servers().iter().map(text).collect(),
        systemcontroller_gateway_addresses: site
            .systemcontroller_gateways()
            .iter()
            .map(text)
            .collect(),
        kubernetes: kubernetes_to_wire(site.kubernetes()) as i32,
        alarms: site.alarms().iter().map(alarm_to_wire).collect(),
        ..identity_to_wire(site.identity())
    }
}

/// A site of which only the identity is said.
fn identity_to_wire(identity: &SiteIdentity) -> wire::Site {
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
        ..wire::Site::default()
    }
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
    wire::Site {
        initial_config_complete: *initial_config_complete,
        generation: generation.0,
        networks: networks.iter().map(network_parts_to_wire).collect(),
        address_pools: pools.iter().map(pool_parts_to_wire).collect(),
        hosts: hosts.iter().map(host_to_wire).collect(),
        dns_servers: dns_servers.iter().map(text).collect(),
        systemcontroller_gateway_addresses: systemcontroller_gateways.iter().map(text).collect(),
        kubernetes: kubernetes_to_wire(*kubernetes) as i32,
        alarms: alarms.iter().map(alarm_to_wire).collect(),
        ..identity_to_wire(identity)
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

    fn take<T>(&mut self, path: impl Display, value: Result<T, String>) -> Option<T> {
        let fault = match value {
            Ok(value) => return Some(value),
            Err(problem) => Malformed::new(path.to_string(), problem),
        };
        match self.0.len() {
            ..Self::MOST => self.0.push(fault),
            Self::MOST => self.0.push(Malformed::new(
                path.to_string(),
                "this and what follows is not listed",
            )),
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
            values.extend(self.take(format_args!("{path}[{index}]"), read(message)));
        }
        values
    }
}

/// A network with its output-only fields.
pub fn network_to_wire(site: &Site, network: &Network) -> wire::Network {
    wire::Network {
        address_pools: network
            .pools()
            .iter()
            .map(|(rank, attachment)| attachment_to_wire(site, network, rank, attachment))
            .collect(),
        primary_family: family_to_wire(network.primary_family()) as i32,
        stack: stack_to_wire(network.pools().stack()) as i32,
        primary_pool_uuid: network.pools().primary().pool.0.to_string(),
        ..network_fields_to_wire(network)
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
    let mut message = pool_fields_to_wire(pool);
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
        address_pools: pools.iter().map(|(id, pool)| end(*id, *pool)).collect(),
        ..wire::Network::default()
    }
}

/// The same of a network as it is.
fn network_fields_to_wire(network: &Network) -> wire::Network {
    wire::Network {
        id: network.id().0,
        uuid: network.uuid().to_string(),
        name: network.name().to_owned(),
        r#type: network.kind().name().to_owned(),
        dynamic: network.dynamic(),
        address_pools: network
            .pools()
            .iter()
            .map(|(_, attachment)| end(attachment.id, attachment.pool))
            .collect(),
        ..wire::Network::default()
    }
}

fn end(id: AttachmentId, pool: PoolId) -> wire::NetworkAddressPool {
    wire::NetworkAddressPool {
        uuid: id.0.to_string(),
        address_pool_uuid: pool.0.to_string(),
        ..Default::default()
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
    wire::AddressPool {
        uuid: id.0.to_string(),
        name: name.clone(),
        order: order_to_wire(*order) as i32,
        ranges: ranges.iter().map(range_to_wire).collect(),
        allocations: holders.iter().map(allocation).collect(),
        remembered: remembered.iter().map(|(h, a)| allocation((a, h))).collect(),
        ..places_to_wire(*subnet, addresses)
    }
}

/// The same of a pool as it is.
fn pool_fields_to_wire(pool: &Pool) -> wire::AddressPool {
    let ranges = pool.ranges().iter();
    let remembered = pool.remembered().iter();
    wire::AddressPool {
        uuid: pool.id().0.to_string(),
        name: pool.name().to_owned(),
        order: order_to_wire(pool.order()) as i32,
        ranges: ranges
            .map(|range| range_to_wire(&(range.first(), range.last())))
            .collect(),
        allocations: pool.holders().iter().map(allocation).collect(),
        remembered: remembered.map(|(h, a)| allocation((a, h))).collect(),
        ..places_to_wire(pool.subnet(), pool.addresses())
    }
}

/// A pool of which only the subnet and the named addresses are said.
fn places_to_wire(subnet: IpNet, addresses: &Addresses) -> wire::AddressPool {
    let Addresses {
        floating,
        controller0,
        controller1,
        gateway,
    } = addresses;
    let named = |address: &Option<IpAddr>| address.map_or_else(String::new, text);
    wire::AddressPool {
        network: text(subnet.network()),
        prefix: u32::from(subnet.prefix_len()),
        floating_address: named(floating),
        controller0_address: named(controller0),
        controller1_address: named(controller1),
        gateway_address: named(gateway),
        ..wire::AddressPool::default()
    }
}

fn order_to_wire(order: Order) -> wire::Order {
    match order {
        Order::Random => wire::Order::Random,
        Order::Sequential => wire::Order::Sequential,
    }
}

fn allocation((address, holder): (&IpAddr, &String)) -> wire::Allocation {
    wire::Allocation {
        address: text(address),
        holder: holder.clone(),
    }
}

/// An address as text.
fn text(address: impl Borrow<IpAddr>) -> String {
    address.borrow().to_string()
}

pub(crate) fn range_to_wire((first, last): &(IpAddr, IpAddr)) -> wire::AddressRange {
    wire::AddressRange {
        first: text(first),
        last: text(last),
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

#[cfg(test)]
mod tests {
    use super::*;
    use site::{AttachmentRef, Change, Timestamp, bootstrap, plan};

    /// What a site is made durable from says the same as its parts, whatever has happened to it.
    #[test]
    fn a_site_and_its_parts_are_one_message() {
        let file = include_bytes!("../../../../deploy/examples/subcloud-v6-dual.yaml");
        let declared = bootstrap::parse("example", file).expect("a sound file");
        let mut number = 0;
        let mut ids = || {
            number += 1;
            Uuid::from_u128(number)
        };
        let mut site = declared.install(&mut ids).expect("a sound site");
        let admin = site.network(NetworkKind::Admin).expect("an admin network");
        let secondary = admin.pools().secondary().expect("a secondary pool");
        let check = |site: &Site| {
            assert_eq!(site_fields_to_wire(site), parts_to_wire(&site.to_parts()));
        };
        check(&site);
        let changes = [
            // Hosts are out of date, and alarms say so.
            Change::ModifyDns {
                servers: vec!["fd03:3::54".to_owned()],
            },
            Change::RemovePool {
                attachment: AttachmentRef::Id(secondary.id.0.to_string()),
            },
            Change::LockHost {
                hostname: "controller-0".to_owned(),
            },
        ];
        for change in changes {
            let plan = plan(&site, change, Timestamp(1)).expect("an allowed change");
            assert!(plan.changes_site());
            plan.apply(&mut site);
            check(&site);
        }
        // Pools that have and had addresses to give.
        let mut parts = site.to_parts();
        let holder = || "worker-0".to_owned();
        for pool in &mut parts.pools {
            let free = pool.ranges[0].1;
            if pool.id == secondary.pool {
                pool.remembered.insert(holder(), free);
            } else if pool.name.starts_with("management") {
                pool.holders.insert(free, holder());
            }
        }
        let site = Site::from_parts(parts.clone()).expect("a sound site");
        check(&site);
        let record = site_fields_to_wire(&site);
        assert!(!record.alarms.is_empty() && !record.hosts.is_empty());
        let pools = || record.address_pools.iter();
        assert!(pools().any(|pool| !pool.allocations.is_empty()));
        assert!(pools().any(|pool| !pool.remembered.is_empty()));
        assert_eq!(parts_from_wire(&record), Ok(parts));
    }
}
