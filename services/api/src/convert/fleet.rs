//! The fleet: subclouds, events, violations and the controller's networks.

use std::net::{IpAddr, SocketAddr};

use fleet::{
    AlarmCounts, AlarmStatus, AlarmSummary, Availability, ControllerNetworks, ControllerPool,
    Endpoint, Enrollment, Event, EventKind, Fault, Management, Presence, Receipt, Subcloud, Sync,
};
use ipnet::IpNet;
use site::{Range, Site};

use super::{
    Malformed, excerpt, family_to_wire, member_availability, parse_address, parse_optional,
    range_from_wire, range_to_wire, site_to_wire, stack_to_wire, value_of,
};
use crate::fleet_v1 as wire;
use crate::page::asked;
use crate::site_v1;

/// A subcloud as operators see it; `group` is the name of its group, `site` its accepted site,
/// when asked for.
pub fn subcloud_to_wire(
    subcloud: &Subcloud,
    presence: Presence,
    group: &str,
    site: Option<&Site>,
) -> wire::Subcloud {
    let Subcloud {
        id,
        name,
        management,
        enrollment,
        observed,
        refused,
        geo,
        created_at,
        updated_at: _,
        description,
        location,
        group: _,
    } = subcloud;
    let fleet::Geo {
        owner,
        confirmed: _,
        group: peer_group,
        former_group: _,
        gateways: _,
        footprint: _,
        edits: _,
        lineage: _,
        conflict: _,
    } = geo;
    let footprint = subcloud.footprint();
    let link_address = footprint.and_then(fleet::Footprint::link_address);
    let token_expires_at = subcloud.open_token().map_or(0, |token| token.expires_at.0);
    let (state, enrolled_at) = match enrollment {
        Enrollment::Pending(_) => (wire::EnrollmentState::Pending, 0),
        Enrollment::Enrolled(enrolled) => (wire::EnrollmentState::Enrolled, enrolled.enrolled_at.0),
    };
    wire::Subcloud {
        uuid: id.to_string(),
        name: name.clone(),
        region_name: footprint
            .map(|known| known.region_name.clone())
            .unwrap_or_default(),
        management: management_to_wire(*management) as i32,
        enrollment: state as i32,
        availability: member_availability(subcloud, presence.availability) as i32,
        sync: sync_to_wire(subcloud.sync()) as i32,
        primary_family: subcloud
            .link_family()
            .map_or(0, |family| family_to_wire(family) as i32),
        stack: subcloud
            .stack()
            .map_or(0, |stack| stack_to_wire(stack) as i32),
        software_version: footprint
            .map(|known| known.software_version.to_string())
            .unwrap_or_default(),
        last_seen_milliseconds: presence.last_seen.map_or(0, |at| at.0),
        link_address: link_address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        generation: observed.as_ref().map_or(0, |known| known.generation.0),
        refused: refused
            .iter()
            .flat_map(|known| &known.faults)
            .map(fault_to_wire)
            .collect(),
        created_at_milliseconds: created_at.0,
        enrolled_at_milliseconds: enrolled_at,
        token_expires_at_milliseconds: token_expires_at,
        site: site.map(site_to_wire),
        description: description.clone(),
        location: location.clone(),
        group: group.to_owned(),
        etag: subcloud.etag(),
        certificate_renewals: subcloud
            .enrolled()
            .map_or(0, |enrolled| enrolled.renewal.count),
        identity_fault: subcloud.cloned().map(|cloned| fault_to_wire(&cloned.fault)),
        quarantined_since_milliseconds: refused.as_ref().map_or(0, |known| known.since.0),
        owner_uuid: owner.map_or_else(String::new, |owner| owner.to_string()),
        epoch: subcloud.enrolled().map_or(0, |enrolled| enrolled.epoch.0),
        peer_group_uuid: peer_group.map_or_else(String::new, |group| group.to_string()),
        gateway_addresses: subcloud
            .gateways()
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

/// Of a list of subclouds: after which name the page begins.
///
/// # Errors
/// All of: a page that cannot be asked for, values to narrow it to that are unknown.
pub fn listed_after(request: &wire::ListSubcloudsRequest) -> Result<&str, Vec<Malformed>> {
    let wire::ListSubcloudsRequest {
        page_size,
        page_token,
        family,
        stack,
        availability,
        group: _,
        management,
        sync,
    } = request;
    let (after, mut faults) = match asked(*page_size, page_token) {
        Ok((_, after)) => (after, Vec::new()),
        Err(faults) => ("", faults),
    };
    let unknown = [
        value_of("family", *family, site_v1::Family::as_str_name).err(),
        value_of("stack", *stack, site_v1::Stack::as_str_name).err(),
        value_of(
            "availability",
            *availability,
            wire::Availability::as_str_name,
        )
        .err(),
        value_of(
            "management",
            *management,
            wire::ManagementState::as_str_name,
        )
        .err(),
        value_of("sync", *sync, wire::SyncState::as_str_name).err(),
    ];
    faults.extend(unknown.into_iter().flatten());
    if faults.is_empty() {
        Ok(after)
    } else {
        Err(faults)
    }
}

/// How many alarms of each severity are raised.
pub fn alarm_counts_to_wire(counts: AlarmCounts) -> wire::AlarmCounts {
    let AlarmCounts {
        critical,
        major,
        minor,
        warning,
    } = counts;
    wire::AlarmCounts {
        critical,
        major,
        minor,
        warning,
    }
}

/// How many alarms of each severity are raised.
pub fn alarm_counts_from_wire(counts: wire::AlarmCounts) -> AlarmCounts {
    let wire::AlarmCounts {
        critical,
        major,
        minor,
        warning,
    } = counts;
    AlarmCounts {
        critical,
        major,
        minor,
        warning,
    }
}

/// What the alarms of a subcloud come to.
pub fn alarm_summary_to_wire(summary: &AlarmSummary) -> wire::AlarmSummary {
    let AlarmSummary {
        subcloud,
        counts,
        status,
    } = summary;
    let status = match status {
        AlarmStatus::Ok => wire::AlarmStatus::Ok,
        AlarmStatus::Degraded => wire::AlarmStatus::Degraded,
        AlarmStatus::Critical => wire::AlarmStatus::Critical,
        AlarmStatus::Disabled => wire::AlarmStatus::Disabled,
    };
    wire::AlarmSummary {
        subcloud: subcloud.clone(),
        counts: counts.map(alarm_counts_to_wire),
        status: status as i32,
    }
}

/// A subcloud as the answer to a call shows it. A preview has no id and no time that the real
/// call would not have.
pub fn receipt_to_wire(receipt: &Receipt, preview: bool) -> wire::Subcloud {
    let Receipt {
        subcloud,
        presence,
        group,
        warnings: _,
        replayed: _,
    } = receipt;
    let shown = subcloud_to_wire(subcloud, *presence, group, None);
    if !preview {
        return shown;
    }
    wire::Subcloud {
        token_expires_at_milliseconds: 0,
        ..shown
    }
}

/// The kind that a request filters events by; none when it is empty.
///
/// # Errors
/// A name that no kind has: no event could ever match it.
pub fn event_kind_from_wire(name: &str) -> Result<Option<&'static str>, Malformed> {
    if name.is_empty() {
        return Ok(None);
    }
    let known = EventKind::NAMES.iter().find(|known| **known == name);
    known.copied().map(Some).ok_or_else(|| {
        let names = EventKind::NAMES.join(", ");
        let problem = format!("`{}` is no kind of event", excerpt(name));
        Malformed::new("kind", problem).remedy(format!("give one of {names}"))
    })
}

/// An event as operators see it.
pub fn event_to_wire(event: &Event) -> wire::FleetEvent {
    let Event {
        position,
        at,
        subcloud: _,
        name,
        kind,
    } = event;
    let (message, violations) = match kind {
        EventKind::Added => ("was added".to_owned(), &[][..]),
        EventKind::TokenIssued => ("got a new enrollment token".to_owned(), &[][..]),
        EventKind::Enrolled => ("enrolled".to_owned(), &[][..]),
        EventKind::EnrollmentRefused { faults } => {
            ("was refused enrollment".to_owned(), faults.as_slice())
        }
        EventKind::ReportAccepted { generation } => {
            (format!("reported generation {}", generation.0), &[][..])
        }
        EventKind::ReportRefused { generation, faults } => (
            format!("reported generation {}, which is refused", generation.0),
            faults.as_slice(),
        ),
        EventKind::TakenOver => ("was taken over".to_owned(), &[][..]),
        EventKind::Demoted => ("obeys another controller".to_owned(), &[][..]),
        EventKind::Updated => ("was updated".to_owned(), &[][..]),
        EventKind::Managed => ("is managed".to_owned(), &[][..]),
        EventKind::Unmanaged => ("is unmanaged".to_owned(), &[][..]),
        EventKind::Deleted => (
            "was deleted; its certificate is revoked".to_owned(),
            &[][..],
        ),
        EventKind::Reenrolled => (
            "enrolled anew; its former certificate is revoked".to_owned(),
            &[][..],
        ),
        EventKind::GroupAdded => ("was added".to_owned(), &[][..]),
        EventKind::GroupUpdated => ("was updated".to_owned(), &[][..]),
        EventKind::GroupDeleted => (
            "was deleted; its subclouds are in the Default group".to_owned(),
            &[][..],
        ),
        EventKind::IdentityCloned { faults } => (
            "is shut out, because two hold its identity".to_owned(),
            faults.as_slice(),
        ),
        EventKind::CertificateRenewed => ("renewed its certificate".to_owned(), &[][..]),
        EventKind::CertificateNewer => (
            "has a certificate that is newer than this controller's records, which were restored \
             from a backup"
                .to_owned(),
            &[][..],
        ),
        EventKind::Quarantined => ("is in quarantine".to_owned(), &[][..]),
        EventKind::Released => ("is out of quarantine".to_owned(), &[][..]),
        EventKind::AlarmRaised {
            alarm,
            entity,
            reason,
        } => (
            format!("alarm {} is raised on {entity}: {reason}", alarm.id()),
            &[][..],
        ),
        EventKind::AlarmCleared { alarm, entity } => (
            format!("alarm {} is cleared on {entity}", alarm.id()),
            &[][..],
        ),
        EventKind::Online => ("is online".to_owned(), &[][..]),
        EventKind::Offline => ("is offline".to_owned(), &[][..]),
    };
    let what = match kind {
        EventKind::GroupAdded | EventKind::GroupUpdated | EventKind::GroupDeleted => {
            "subcloud group"
        }
        _ => "subcloud",
    };
    wire::FleetEvent {
        sequence: position.0,
        at_milliseconds: at.0,
        kind: kind.name().to_owned(),
        subcloud: name.clone(),
        message: match kind {
            EventKind::AlarmRaised { .. } | EventKind::AlarmCleared { .. } => message,
            _ => format!("{what} {name} {message}"),
        },
        violations: violations.iter().map(fault_to_wire).collect(),
    }
}

/// A fault.
pub fn fault_to_wire(fault: &Fault) -> wire::Violation {
    let Fault {
        reason,
        field,
        message,
        remedy,
        objects,
        metadata,
    } = fault;
    let object = |(kind, name): &(String, String)| wire::ViolationObject {
        kind: kind.clone(),
        name: name.clone(),
    };
    wire::Violation {
        reason: reason.clone(),
        message: message.clone(),
        remedy: remedy.clone(),
        field: field.clone(),
        objects: objects.iter().map(object).collect(),
        metadata: metadata.clone(),
    }
}

/// A fault that somebody else found; any text is allowed.
pub fn fault_from_wire(violation: &wire::Violation) -> Fault {
    let wire::Violation {
        reason,
        message,
        remedy,
        field,
        objects,
        metadata,
    } = violation;
    Fault {
        reason: reason.clone(),
        field: field.clone(),
        message: message.clone(),
        remedy: remedy.clone(),
        objects: objects
            .iter()
            .map(|o| (o.kind.clone(), o.name.clone()))
            .collect(),
        metadata: metadata.clone(),
    }
}

/// Faults that another site tells: as many as are kept, and of each as much.
pub(crate) fn faults_from_wire(violations: &[wire::Violation]) -> Vec<Fault> {
    let faults = violations.iter().map(fault_from_wire).collect();
    Fault::kept(faults).into_iter().map(Fault::cut).collect()
}

/// The controller's networks.
pub fn networks_to_wire(networks: &ControllerNetworks) -> wire::ControllerNetworks {
    let ControllerNetworks { link, oam } = networks;
    wire::ControllerNetworks {
        link_pools: link.iter().map(controller_pool_to_wire).collect(),
        oam_pools: oam.iter().map(controller_pool_to_wire).collect(),
    }
}

/// The controller's networks.
///
/// # Errors
/// The first pool that cannot be read.
pub fn networks_from_wire(
    message: &wire::ControllerNetworks,
) -> Result<ControllerNetworks, Malformed> {
    let wire::ControllerNetworks {
        link_pools,
        oam_pools,
    } = message;
    let read = |path: &str, pools: &[wire::ControllerPool]| {
        // A network has two, and no rule is asked about more.
        if pools.len() > 2
            || pools
                .iter()
                .any(|pool| pool.ranges.len() > site::MAX_RANGES)
        {
            return Err(Malformed::new(
                path,
                "has more pools or ranges than a network has",
            ));
        }
        let pools = pools.iter().map(controller_pool_from_wire);
        pools
            .collect::<Result<Vec<_>, _>>()
            .map_err(|problem| Malformed::new(path, problem))
    };
    Ok(ControllerNetworks {
        link: read("link_pools", link_pools)?,
        oam: read("oam_pools", oam_pools)?,
    })
}

fn controller_pool_to_wire(pool: &ControllerPool) -> wire::ControllerPool {
    let ControllerPool {
        subnet,
        ranges,
        floating,
        gateway,
    } = pool;
    let text = |address: &Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    wire::ControllerPool {
        subnet: subnet.to_string(),
        ranges: ranges
            .iter()
            .map(|r| range_to_wire(&(r.first(), r.last())))
            .collect(),
        floating_address: text(floating),
        gateway_address: text(gateway),
    }
}

fn controller_pool_from_wire(message: &wire::ControllerPool) -> Result<ControllerPool, String> {
    let wire::ControllerPool {
        subnet,
        ranges,
        floating_address,
        gateway_address,
    } = message;
    Ok(ControllerPool {
        subnet: parse_cidr(subnet)?,
        ranges: ranges.iter().map(parse_range).collect::<Result<_, _>>()?,
        floating: parse_optional(floating_address)?,
        gateway: parse_optional(gateway_address)?,
    })
}

pub(crate) fn parse_range(message: &crate::site_v1::AddressRange) -> Result<Range, String> {
    let (first, last) = range_from_wire(message)?;
    Range::new(first, last).ok_or_else(|| format!("range {first}-{last} is reversed"))
}

pub(crate) fn parse_cidr(text: &str) -> Result<IpNet, String> {
    text.parse()
        .map_err(|_| format!("`{}` is not a subnet", excerpt(text)))
}

/// The URL of a controller: `https://ADDR:PORT`, an IPv6 address in brackets.
///
/// # Errors
/// What is wrong with the text.
pub fn endpoint_from_url(url: &str) -> Result<Endpoint, String> {
    let rest = url.strip_prefix("https://").ok_or_else(|| {
        format!(
            "`{}` is not a URL like https://[fd01::2]:8441",
            excerpt(url)
        )
    })?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let address: SocketAddr = rest.parse().map_err(|_| {
        let hint = if rest.matches(':').count() > 1 && !rest.starts_with('[') {
            "; an IPv6 address stands in brackets, like https://[fd01::2]:8441"
        } else {
            "; give an IP address and a port, like https://[fd01::2]:8441"
        };
        format!("`{}` names no address{hint}", excerpt(url))
    })?;
    let mapped = matches!(address.ip(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if mapped {
        return Err(format!(
            "`{}` is an IPv4 address in disguise; write it as IPv4",
            excerpt(url)
        ));
    }
    Ok(Endpoint(address))
}

fn management_to_wire(management: Management) -> wire::ManagementState {
    match management {
        Management::Unmanaged => wire::ManagementState::Unmanaged,
        Management::Managed => wire::ManagementState::Managed,
    }
}

/// Whether a link is up.
pub fn availability_to_wire(availability: Availability) -> wire::Availability {
    match availability {
        Availability::Unknown => wire::Availability::Unknown,
        Availability::Online => wire::Availability::Online,
        Availability::Offline => wire::Availability::Offline,
    }
}

fn sync_to_wire(sync: Sync) -> wire::SyncState {
    match sync {
        Sync::Unknown => wire::SyncState::Unknown,
        Sync::InSync => wire::SyncState::InSync,
        Sync::OutOfSync => wire::SyncState::OutOfSync,
    }
}

/// A text that is meant to be an address.
///
/// # Errors
/// What is wrong with it.
pub fn address_from_text(text: &str) -> Result<IpAddr, String> {
    parse_address(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_named_by_bracketed_urls() {
        let check = |url: &str, expected: Option<&str>| {
            let read = endpoint_from_url(url)
                .ok()
                .map(|endpoint| endpoint.to_string());
            assert_eq!(read.as_deref(), expected, "{url}");
        };
        check("https://[fd01::2]:8441", Some("https://[fd01::2]:8441"));
        check("https://10.0.0.1:8441/", Some("https://10.0.0.1:8441"));
        check("https://fd01::2:8441", None);
        check("http://[fd01::2]:8441", None);
        check("https://[::ffff:10.0.0.1]:8441", None);
        check("https://controller:8441", None);
        check("https://[fd01::2]", None);
        check("", None);
    }
}
