//! The other way round: whether a change of the controller's own networks leaves every subcloud
//! where the rules allow it to be.

use std::collections::BTreeMap;

use ipnet::IpNet;
use site::NetworkKind;

use crate::{
    Fleet, Footprint, LinkNetwork, LinkPool, Reason, Rejection, SharedSubcloud, SubcloudId,
    Violation,
};

use super::overlap::ranges_overlap;
use super::{ControllerView, gateway};

/// The most bytes of names that a refusal lists in one fact; each subcloud has a violation of its
/// own as well. The details of a refusal have 8 KiB in all.
const MAX_LISTED_BYTES: usize = 3 * 1024;

/// Asks F3-F6 and F10 of every subcloud against the controller's site as it would be, and whether
/// those that obey this controller would still find it where they know it to be. What is broken by
/// the present site already is not held against the change.
///
/// # Errors
/// `WOULD_BREAK_SUBCLOUDS`: a violation for each subcloud and rule, by name; the first one also
/// lists all of the subclouds.
pub fn would_break(fleet: &Fleet, next: &ControllerView) -> Result<(), Rejection> {
    if fleet.controller() == next {
        return Ok(());
    }
    let mut broken = breaks(fleet, next);
    if !broken.is_empty() {
        let present = breaks(fleet, fleet.controller());
        broken.retain(|what, _| !present.contains_key(what));
    }
    moved(&mut broken, fleet, next);
    let mut violations: Vec<Violation> = broken
        .into_iter()
        .map(|(broken, words)| violation(fleet, next, &broken, words))
        .collect();
    list_all(&mut violations);
    Rejection::check(violations)
}

/// The rule that the link address of a controller stays while subclouds obey it.
const LINK_ADDRESS: &str = "link-address";

/// The rule for the gateways towards a subcloud.
const GATEWAYS: &str = "F10";

/// One rule that one subcloud would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Broken<'a> {
    name: &'a str,
    subcloud: SubcloudId,
    rule: &'static str,
    /// The controller's network that is the cause.
    network: NetworkKind,
}

/// Why.
struct Words {
    message: String,
    /// The controller's pool or subnet that is the cause; `None` where it is that there is none.
    pool: Option<(String, IpNet)>,
}

type Breaks<'a> = BTreeMap<Broken<'a>, Words>;

fn breaks<'a>(fleet: &'a Fleet, view: &ControllerView) -> Breaks<'a> {
    let mut found = Breaks::new();
    let Some(link) = &view.link else {
        let enrolled = |record: &&SharedSubcloud| record.enrolled().is_some();
        for record in fleet.subclouds().filter(enrolled) {
            let words = Words {
                message: "could not reach the controller, which would have no pool on admin nor \
                          on mgmt"
                    .to_owned(),
                pool: None,
            };
            note(&mut found, record, "F3", NetworkKind::Mgmt, words);
        }
        return found;
    };
    for record in fleet.subclouds() {
        if let Some(footprint) = record.footprint() {
            family(&mut found, record, footprint, link);
        }
        gateways(&mut found, record, link);
    }
    region(&mut found, fleet, view, link);
    for pool in link.pools() {
        ranges(&mut found, fleet, link, pool);
        let owners = fleet.addresses().oam_subnets_meeting(pool.subnet);
        for record in owners.filter_map(|owner| fleet.subcloud(owner)) {
            let message = format!(
                "has an oam subnet that meets {}, the link subnet of the controller's pool {}",
                pool.subnet, pool.name
            );
            note(&mut found, record, "F6", link.kind, words(message, pool));
        }
    }
    for subnet in &view.oam_subnets {
        let owners = fleet.addresses().link_subnets_meeting(*subnet);
        for record in owners.filter_map(|owner| fleet.subcloud(owner)) {
            let words = Words {
                message: format!("has a link subnet that meets {subnet}, the controller's oam"),
                pool: Some(("oam".to_owned(), *subnet)),
            };
            note(&mut found, record, "F6", NetworkKind::Oam, words);
        }
    }
    found
}

/// The link address is where agents look for their controller, also after a restart of either.
fn moved<'a>(found: &mut Breaks<'a>, fleet: &'a Fleet, next: &ControllerView) {
    let address = |view: &ControllerView| view.link.as_ref()?.primary.floating;
    let (Some(known), Some(link)) = (address(fleet.controller()), &next.link) else {
        return;
    };
    if link.primary.floating == Some(known) {
        return;
    }
    let obeys = |record: &&SharedSubcloud| record.enrolled().is_some() && record.owned_here();
    for record in fleet.subclouds().filter(obeys) {
        let message = format!("knows the controller at {known}, which would no longer be there");
        let words = words(message, &link.primary);
        note(found, record, LINK_ADDRESS, link.kind, words);
    }
}

/// F4.
fn family<'a>(
    found: &mut Breaks<'a>,
    record: &'a SharedSubcloud,
    footprint: &Footprint,
    link: &LinkNetwork,
) {
    let Some(theirs) = footprint.link_family() else {
        return;
    };
    if theirs != link.family() {
        let message = format!(
            "has {theirs} as primary family, the controller would have {}",
            link.family()
        );
        note(
            found,
            record,
            "F4",
            link.kind,
            words(message, &link.primary),
        );
    }
}

/// F10.
fn gateways<'a>(found: &mut Breaks<'a>, record: &'a SharedSubcloud, link: &LinkNetwork) {
    let faults = gateway::fit(&record.name, record.gateways(), link);
    if let Some(fault) = faults.into_iter().next() {
        let message = format!(
            "would have a wrong gateway to the controller: {}",
            fault.message
        );
        note(
            found,
            record,
            GATEWAYS,
            link.kind,
            words(message, &link.primary),
        );
    }
}

/// F5, for the region alone: names of subclouds are not the controller's business.
fn region<'a>(found: &mut Breaks<'a>, fleet: &'a Fleet, view: &ControllerView, link: &LinkNetwork) {
    if let Some(record) = fleet.by_region(&view.region_name) {
        let message = format!("has the region name {}", view.region_name);
        let words = Words {
            message,
            pool: None,
        };
        note(found, record, "F5", link.kind, words);
    }
}

/// F6 between link ranges.
fn ranges<'a>(found: &mut Breaks<'a>, fleet: &'a Fleet, link: &LinkNetwork, pool: &LinkPool) {
    let owners = pool
        .ranges
        .iter()
        .flat_map(|range| fleet.addresses().overlapping(range));
    for record in owners.filter_map(|owner| fleet.subcloud(owner)) {
        let footprint = record.footprint();
        let theirs = footprint.and_then(|known| known.link.as_ref());
        let theirs = theirs.and_then(|link| link.pools().find(|own| ranges_overlap(own, pool)));
        let theirs = theirs.map_or(String::new(), |own| {
            format!(" {} in {}", own.name, own.subnet)
        });
        let message = format!(
            "has link ranges{theirs} that overlap those of the controller's pool {} in {}",
            pool.name, pool.subnet
        );
        note(found, record, "F6", link.kind, words(message, pool));
    }
}

fn note<'a>(
    found: &mut Breaks<'a>,
    record: &'a SharedSubcloud,
    rule: &'static str,
    network: NetworkKind,
    words: Words,
) {
    let broken = Broken {
        name: &record.name,
        subcloud: record.id,
        rule,
        network,
    };
    found.entry(broken).or_insert(words);
}

fn words(message: String, pool: &LinkPool) -> Words {
    Words {
        message,
        pool: Some((pool.name.clone(), pool.subnet)),
    }
}

fn violation(fleet: &Fleet, next: &ControllerView, broken: &Broken<'_>, words: Words) -> Violation {
    let Words { message, pool } = words;
    let remedy = match broken.rule {
        LINK_ADDRESS => "keep the floating address, or let a peer take the subcloud over first \
                         (`subcloud-peer-group migrate` there), or delete it"
            .to_owned(),
        GATEWAYS => other_gateways(fleet, next, broken),
        _ => "choose other addresses, or change or delete the subcloud first".to_owned(),
    };
    let violation = Violation::new(
        Reason::WouldBreakSubclouds,
        format!("subcloud {} {message} ({})", broken.name, broken.rule),
        remedy,
    )
    .object("subcloud", broken.name)
    .object("controller", fleet.controller().name.clone())
    .object("network", broken.network.name())
    .fact("rule", broken.rule)
    .fact("subcloud", broken.name)
    .fact("network", broken.network);
    match pool {
        Some((pool, subnet)) => violation
            .object("pool", pool.clone())
            .fact("pool", pool)
            .fact("subnet", subnet),
        None => violation,
    }
}

/// Which gateways may stay until the change is made, and how to set them. It does not matter what
/// the site itself names, which nobody can change without installing it anew.
fn other_gateways(fleet: &Fleet, next: &ControllerView, broken: &Broken<'_>) -> String {
    let views = [fleet.controller(), next];
    let networks: Vec<&LinkNetwork> = views.iter().filter_map(|it| it.link.as_ref()).collect();
    let named = fleet.subcloud(broken.subcloud);
    let named = named.map_or(&[][..], |record| record.gateways());
    let kept = gateway::fitting(broken.name, named, &networks);
    let (kept, after) = if kept.is_empty() {
        (
            "none".to_owned(),
            "; once the change is made, the same with the router's new address",
        )
    } else {
        let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
        (kept.join(","), "")
    };
    format!(
        "first `tandem dcmanager subcloud update {} --systemcontroller-gateway-address \
         {kept}`{after}",
        broken.name
    )
}

/// Lists every subcloud in the first violation, whose facts travel in full.
fn list_all(violations: &mut [Violation]) {
    let mut names: Vec<String> = violations
        .iter()
        .filter_map(|violation| violation.metadata.get("subcloud").cloned())
        .collect();
    names.dedup();
    let Some(first) = violations.first_mut() else {
        return;
    };
    let mut room = MAX_LISTED_BYTES;
    let mut listed: Vec<&str> = Vec::new();
    for name in &names {
        let Some(left) = room.checked_sub(name.len() + 1) else {
            break;
        };
        room = left;
        listed.push(name);
    }
    let left_out = names.len() - listed.len();
    first.metadata.insert("subclouds", listed.join(","));
    first
        .metadata
        .insert("subcloudCount", names.len().to_string());
    if left_out > 0 {
        first
            .metadata
            .insert("subcloudsNotListed", left_out.to_string());
    }
}
