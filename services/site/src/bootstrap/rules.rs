//! The rules between the networks of a file: families, sizes, overlaps, stacks, version.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use super::declared::DeclaredNetwork;
use super::fault::FaultReason;
use super::findings::Findings;
use super::networks::{Subnet, Subnets, Written};
use super::values::{Placed, Slot, Values};
use super::variables::{Field, Section};
use crate::{
    AddressRole, DistributedCloudRole, Family, NetworkKind, Reason, SoftwareVersion, SystemMode,
};

/// IPv6 prefix numbers below this are refused where hosts live (N8).
const SHORTEST_IPV6_PREFIX: u8 = 64;

/// The fewest and most addresses of a subnet; the size counts every address of it.
struct Size {
    least: u128,
    most: u128,
}

/// The network that names the site's primary family: management, else the first that the file
/// describes.
pub(super) struct Primary {
    pub(super) family: Family,
    variable: String,
    span: Range<usize>,
}

impl Primary {
    /// From what the file says; `None` when it has no readable subnet.
    pub(super) fn of(networks: &[Written]) -> Option<Self> {
        let order = [
            NetworkKind::Mgmt,
            NetworkKind::Oam,
            NetworkKind::Admin,
            NetworkKind::ClusterHost,
            NetworkKind::ClusterPod,
            NetworkKind::ClusterService,
        ];
        order.into_iter().find_map(|kind| {
            let network = networks
                .iter()
                .find(|network| network.section.kind == kind)?;
            let values = network.subnets.given()?;
            // Without its first value, the second one is no primary.
            let first = values
                .items
                .first()
                .filter(|item| values.sound || item.span.start == values.span.start)?;
            Some(Self {
                family: Family::of_subnet(first.value),
                variable: values.variable.clone(),
                span: first.span.clone(),
            })
        })
    }

    /// The place that decided.
    pub(super) fn place(&self) -> (Range<usize>, &str) {
        (
            self.span.clone(),
            match self.family {
                Family::Ipv4 => "the site's primary family is IPv4 because of this",
                Family::Ipv6 => "the site's primary family is IPv6 because of this",
            },
        )
    }
}

/// Checks every rule between subnets.
pub(super) fn check(
    networks: &[Subnets],
    primary: Option<&Primary>,
    mode: SystemMode,
    version: &Slot<Placed<SoftwareVersion>>,
    findings: &mut Findings<'_>,
) {
    for network in networks {
        check_shape(network, findings);
        check_size(network, mode, findings);
        if let Some(primary) = primary {
            check_family(network, primary, findings);
        }
    }
    check_overlaps(networks, findings);
    check_pod_families(networks, findings);
    check_cluster_stacks(networks, findings);
    check_version(networks, version, findings);
}

fn size(kind: NetworkKind, mode: SystemMode) -> Size {
    let hosts = if mode == SystemMode::Simplex { 3 } else { 5 };
    let (least, most) = match kind {
        NetworkKind::Oam => (5, u128::MAX),
        NetworkKind::Multicast => (6, u128::MAX),
        NetworkKind::ClusterPod => (65_536, u128::MAX),
        NetworkKind::ClusterService => (65_536, 1_048_576),
        _ => (hosts, u128::MAX),
    };
    Size { least, most }
}

/// All addresses of the subnet, the largest number standing for ::/0.
fn count(subnet: &Subnet) -> u128 {
    let bits = u32::from(subnet.value.max_prefix_len() - subnet.value.prefix_len());
    1_u128.checked_shl(bits).unwrap_or(u128::MAX)
}

/// The rules of one network's subnets but their size: kind and prefix (I3, N8).
fn check_shape(network: &Subnets, findings: &mut Findings<'_>) {
    let kind = network.section.kind;
    let variable = network.section.subnet();
    for subnet in &network.items {
        // A default is right by itself.
        let Some(span) = subnet.span.clone() else {
            continue;
        };
        let value = subnet.value;
        let mut tell = |reason: FaultReason, message: String, remedy: String, label: &str| {
            findings.fault(reason, &variable, message, remedy, &[(span.clone(), label)]);
        };
        if kind == NetworkKind::Pxeboot && subnet.family() == Family::Ipv6 {
            tell(
                Reason::PxebootIpv4Only.into(),
                format!("{variable}: {value} is IPv6, but hosts boot over IPv4 only"),
                "write one IPv4 subnet, or leave the variable out".into(),
                "IPv6",
            );
            continue;
        }
        if value.network().is_unspecified() {
            tell(
                FaultReason::SubnetUnspecified,
                format!("{variable}: {value} begins at the unspecified address"),
                "write a subnet that hosts can use".into(),
                "no usable subnet",
            );
        }
        if kind == NetworkKind::Multicast && !value.network().is_multicast() {
            tell(
                FaultReason::NotMulticast,
                format!("{variable}: {value} is not a multicast subnet"),
                "write a subnet of 224.0.0.0/4 or ff00::/8".into(),
                "not multicast",
            );
        }
        let short = subnet.family() == Family::Ipv6 && value.prefix_len() < SHORTEST_IPV6_PREFIX;
        let judged = matches!(
            kind,
            NetworkKind::Mgmt | NetworkKind::Admin | NetworkKind::Oam | NetworkKind::ClusterHost
        );
        if short && judged {
            tell(
                FaultReason::PrefixTooShort,
                format!(
                    "{variable}: the prefix /{} is below /64",
                    value.prefix_len()
                ),
                format!("write a prefix from /{SHORTEST_IPV6_PREFIX} on"),
                "below /64",
            );
        }
    }
}

/// The size of one network's subnets (N9).
fn check_size(network: &Subnets, mode: SystemMode, findings: &mut Findings<'_>) {
    let variable = network.section.subnet();
    let Size { least, most } = size(network.section.kind, mode);
    for subnet in &network.items {
        let Some(span) = subnet.span.clone() else {
            continue;
        };
        let (value, count) = (subnet.value, count(subnet));
        if count < least {
            findings.fault(
                FaultReason::SubnetTooSmall,
                &variable,
                format!("{variable}: {value} has {count} addresses, {least} are needed"),
                "write a subnet with a smaller prefix number",
                &[(span.clone(), "too small")],
            );
        }
        if count > most {
            findings.fault(
                FaultReason::SubnetTooLarge,
                &variable,
                format!("{variable}: {value} has {count} addresses, {most} at most are served"),
                "write a subnet with a greater prefix number",
                &[(span, "too large")],
            );
        }
    }
}

/// I2: all primary pools have one family; pxeboot alone is exempt.
fn check_family(network: &Subnets, primary: &Primary, findings: &mut Findings<'_>) {
    let first = network.items.first().filter(|_| network.sound);
    let Some((subnet, span)) = first.and_then(|item| Some((item, item.span.clone()?))) else {
        return;
    };
    let exempt = network.section.kind == NetworkKind::Pxeboot;
    if exempt || subnet.family() == primary.family {
        return;
    }
    let variable = network.section.subnet();
    let (family, wanted) = (subnet.family(), primary.family);
    let label = match family {
        Family::Ipv4 => "IPv4 comes first here",
        Family::Ipv6 => "IPv6 comes first here",
    };
    findings.fault(
        Reason::PrimaryFamilyMismatch,
        &variable,
        format!(
            "{variable} is {family} first, but {} is {wanted} first",
            primary.variable
        ),
        format!("list the {wanted} value first in every network"),
        &[(span, label), primary.place()],
    );
}

/// I6: pools of one site do not overlap, except those of two different cluster networks.
fn check_overlaps(networks: &[Subnets], findings: &mut Findings<'_>) {
    for (index, later) in networks.iter().enumerate() {
        for earlier in &networks[..index] {
            let both_cluster = later.section.kind.is_cluster() && earlier.section.kind.is_cluster();
            if both_cluster {
                continue;
            }
            for second in &later.items {
                for first in &earlier.items {
                    let apart = !second.value.contains(&first.value)
                        && !first.value.contains(&second.value);
                    if second.family() == first.family() && !apart {
                        tell_overlap((later.section, second), (earlier.section, first), findings);
                    }
                }
            }
        }
    }
}

fn tell_overlap(
    later: (&Section, &Subnet),
    earlier: (&Section, &Subnet),
    findings: &mut Findings<'_>,
) {
    let mut sides = [later, earlier];
    // What stands later in the file is at fault; a default stands nowhere.
    sides.sort_by_key(|(_, subnet)| std::cmp::Reverse(subnet.span.as_ref().map(|s| s.start)));
    let [(section, subnet), (other, held)] = sides;
    let origin = if held.span.is_some() {
        ""
    } else {
        ", the default"
    };
    let variable = section.subnet();
    let message = format!(
        "{variable} {} overlaps {} {}{origin}",
        subnet.value,
        other.subnet(),
        held.value
    );
    let mut places = Vec::new();
    places.extend(subnet.span.clone().map(|span| (span, "this subnet")));
    places.extend(held.span.clone().map(|span| (span, "overlaps this one")));
    let remedy = "give each network a subnet of its own";
    findings.fault(Reason::AddressOverlap, &variable, message, remedy, &places);
}

fn find(networks: &[Subnets], kind: NetworkKind) -> Option<&Subnets> {
    networks.iter().find(|network| network.section.kind == kind)
}

/// I7: cluster-pod has a family only if oam has it.
fn check_pod_families(networks: &[Subnets], findings: &mut Findings<'_>) {
    let pod = find(networks, NetworkKind::ClusterPod);
    let oam = find(networks, NetworkKind::Oam).filter(|oam| oam.sound);
    let (Some(pod), Some(oam)) = (pod, oam) else {
        return;
    };
    for subnet in &pod.items {
        let family = subnet.family();
        if oam.items.iter().any(|item| item.family() == family) {
            continue;
        }
        let mut places = Vec::new();
        let pod_label = match family {
            Family::Ipv4 => "pods would have IPv4",
            Family::Ipv6 => "pods would have IPv6",
        };
        places.extend(subnet.span.clone().map(|span| (span, pod_label)));
        places.extend(oam.span.clone().map(|span| (span, "oam has not")));
        let variable = pod.section.subnet();
        findings.fault(
            Reason::OamFamilyRequired,
            &variable,
            format!(
                "{variable} has the {family} subnet {}, but oam has no {family}",
                subnet.value
            ),
            format!("add an {family} subnet to external_oam_subnet, or take this one out"),
            &places,
        );
    }
}

/// I8 at installation: the three cluster networks are all dual-stack or none is.
fn check_cluster_stacks(networks: &[Subnets], findings: &mut Findings<'_>) {
    let cluster: Vec<_> = networks
        .iter()
        .filter(|network| network.section.kind.is_cluster())
        .collect();
    let dual = cluster
        .iter()
        .filter(|network| network.items.len() > 1)
        .count();
    let unsound = cluster.iter().any(|network| !network.sound);
    if unsound || dual == 0 || dual == cluster.len() {
        return;
    }
    let stack = |network: &Subnets| match network.items.len() {
        1 => "single-stack",
        _ => "dual-stack",
    };
    // The single-stack ones lack something, so they come first.
    let mut ordered = cluster.clone();
    ordered.sort_by_key(|network| network.items.len());
    let places: Vec<_> = ordered
        .iter()
        .filter_map(|network| Some((network.span.clone()?, stack(network))))
        .collect();
    let described: Vec<_> = cluster
        .iter()
        .map(|network| format!("{} is {}", network.section.subnet(), stack(network)))
        .collect();
    let variable = ordered
        .first()
        .map(|network| network.section.subnet())
        .unwrap_or_default();
    findings.fault(
        FaultReason::ClusterStackDiffers,
        &variable,
        format!("Kubernetes is dual-stack in part: {}", described.join(", ")),
        "give two subnets to all three of cluster_host, cluster_pod and cluster_service, or one",
        &places,
    );
}

/// I9: secondary pools need software 24.09.
fn check_version(
    networks: &[Subnets],
    version: &Slot<Placed<SoftwareVersion>>,
    findings: &mut Findings<'_>,
) {
    let Slot::Given(version) = version else {
        return;
    };
    if version.value >= SoftwareVersion::DUAL_STACK {
        return;
    }
    let secondaries = networks
        .iter()
        .filter_map(|network| network.items.get(1)?.span.clone());
    let mut places = vec![(version.span.clone(), "knows single-stack only")];
    places.extend(secondaries.map(|span| (span, "a secondary subnet")));
    if places.len() == 1 {
        return;
    }
    findings.fault(
        Reason::DualStackUnsupportedByVersion,
        "software_version",
        format!(
            "software {} has no dual-stack; it came with {}",
            version.value,
            SoftwareVersion::DUAL_STACK
        ),
        "remove the secondary subnets, or install a version that has dual-stack",
        &places,
    );
}

/// An optional network is described whole or not at all (N14). On simplex the floating address
/// stands for start and end.
pub(super) fn check_admin(network: &Written, mode: SystemMode, findings: &mut Findings<'_>) {
    let mentioned: Vec<_> = network.mentioned().collect();
    if network.subnets.is_absent() && mentioned.is_empty() {
        return;
    }
    let floating_only = mode == SystemMode::Simplex && mentioned.contains(&Field::Floating);
    let mut missing = Vec::new();
    if network.subnets.is_absent() {
        missing.push(network.section.subnet());
    }
    for field in [Field::Start, Field::End, Field::Gateway] {
        let stands_in = floating_only && field != Field::Gateway;
        if !stands_in && network.field(field).is_absent() {
            missing.push(network.section.variable(field));
        }
    }
    let Some(first) = missing.first() else { return };
    let places: Vec<_> = network
        .place()
        .map(|span| (span, "described in part"))
        .into_iter()
        .collect();
    findings.fault(
        FaultReason::NetworkIncomplete,
        first,
        format!("the admin network lacks {}", missing.join(", ")),
        "add the missing variables, or remove all of admin_* to use the management network",
        &places,
    );
}

/// Simplex has one controller, so nodes have no addresses of their own.
pub(super) fn check_simplex(networks: &[Written], mode: SystemMode, findings: &mut Findings<'_>) {
    if mode != SystemMode::Simplex {
        return;
    }
    for network in networks {
        for field in [Field::Node0, Field::Node1] {
            let Slot::Given(values) = network.field(field) else {
                continue;
            };
            findings.fault(
                FaultReason::SimplexFloatingOnly,
                &values.variable,
                format!(
                    "{}: a simplex site has the floating address only",
                    values.variable
                ),
                "remove the line, or set system_mode to duplex",
                &[(values.span.clone(), "not on simplex")],
            );
        }
    }
}

/// The gateway towards the system controller belongs to subclouds, and its first value has the
/// link family (N18). Whether it lies in the controller's link subnet is for the fleet to say.
pub(super) fn check_gateways(
    gateways: &Slot<Values<IpAddr>>,
    role: Option<DistributedCloudRole>,
    link: Option<&Subnets>,
    findings: &mut Findings<'_>,
) {
    let Slot::Given(values) = gateways else {
        return;
    };
    let variable = values.variable.as_str();
    if role.is_some_and(|role| role != DistributedCloudRole::Subcloud) {
        findings.fault(
            FaultReason::RoleMismatch,
            variable,
            format!("{variable} belongs to a subcloud, which this site is not"),
            "set `distributed_cloud_role: subcloud`, or remove the line",
            &[(values.span.clone(), "only on a subcloud")],
        );
        return;
    }
    let link = link.filter(|link| link.sound && values.sound);
    let (Some(first), Some((link, subnet))) = (
        values.items.first(),
        link.and_then(|link| Some((link, link.items.first()?))),
    ) else {
        return;
    };
    let (family, wanted) = (Family::of(first.value), subnet.family());
    if family == wanted {
        return;
    }
    let mut places = vec![(first.span.clone(), "of the other family")];
    places.extend(
        subnet
            .span
            .clone()
            .map(|span| (span, "the link's primary subnet")),
    );
    findings.fault(
        FaultReason::ControllerGatewayInvalid,
        variable,
        format!(
            "{variable} is {family} first, but {} is {wanted} first",
            link.section.subnet()
        ),
        format!("list the controller's {wanted} gateway first"),
        &places,
    );
}

/// I10: no address is held twice. Only two cluster networks may overlap and so could hold one
/// in two pools; any other overlap is told as such.
pub(super) fn check_held_twice(
    declared: &[DeclaredNetwork],
    written: &[Written],
    findings: &mut Findings<'_>,
) {
    let mut held: BTreeMap<IpAddr, (String, Option<Range<usize>>)> = BTreeMap::new();
    for network in declared.iter().filter(|network| network.kind.is_cluster()) {
        let Some(written) = written.iter().find(|w| w.section.kind == network.kind) else {
            continue;
        };
        for (role, address) in network.pools().flat_map(|pool| pool.addresses.iter()) {
            let field = match role {
                AddressRole::Gateway => Field::Gateway,
                _ => Field::Floating,
            };
            let items = written
                .field(field)
                .given()
                .map(|values| values.items.as_slice());
            let item = items
                .unwrap_or_default()
                .iter()
                .find(|item| item.value == address);
            // One that is allocated by default stands nowhere; its network does.
            let span = item
                .map(|item| item.span.clone())
                .or_else(|| written.place());
            let holder = format!("the {} of {}", role.field(), network.kind);
            let Some((other, place)) = held.insert(address, (holder.clone(), span.clone())) else {
                continue;
            };
            let mut places: Vec<(Range<usize>, &str)> = Vec::new();
            places.extend(span.map(|span| (span, "the same address")));
            places.extend(place.map(|span| (span, "taken here")));
            findings.fault(
                Reason::AddressInUse,
                &written.section.variable(field),
                format!("{address} is {other} and {holder}"),
                "give each its own address",
                &places,
            );
        }
    }
}

/// A DNS server has a family that oam has, and comes once.
pub(super) fn check_dns(
    servers: &Slot<Values<IpAddr>>,
    networks: &[Subnets],
    findings: &mut Findings<'_>,
) {
    let oam = find(networks, NetworkKind::Oam).filter(|oam| oam.sound);
    let (Slot::Given(servers), Some(oam)) = (servers, oam) else {
        return;
    };
    for (index, server) in servers.items.iter().enumerate() {
        let family = Family::of(server.value);
        if let Some(first) = servers.items[..index]
            .iter()
            .find(|s| s.value == server.value)
        {
            findings.fault(
                FaultReason::AddressTwice,
                &servers.variable,
                format!("the DNS server {} is listed twice", server.value),
                "list each server once",
                &[
                    (server.span.clone(), "again"),
                    (first.span.clone(), "first here"),
                ],
            );
            continue;
        }
        if oam.items.iter().any(|item| item.family() == family) {
            continue;
        }
        let mut places = vec![(server.span.clone(), "cannot be reached")];
        places.extend(oam.span.clone().map(|span| (span, "oam")));
        findings.fault(
            Reason::DnsFamilyNotOnOam,
            &servers.variable,
            format!(
                "the DNS server {} is {family}, but oam has no {family}",
                server.value
            ),
            format!("name a server of oam's family, or add an {family} subnet to oam"),
            &places,
        );
    }
}
