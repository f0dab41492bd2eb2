//! F6: what is a site's own stays its own.

use std::collections::BTreeSet;

use crate::{Fleet, Footprint, LinkPool, Reason, SubcloudId, Violation};

use super::MAX_NAMED;

/// The ranges of the link network overlap nobody's, in either family; the oam subnets meet
/// nobody's link subnets, nor the other way round. A shared link subnet is only a warning.
pub(super) fn check(
    fleet: &Fleet,
    footprint: &Footprint,
    own: Option<SubcloudId>,
    violations: &mut Vec<Violation>,
    warnings: &mut Vec<Violation>,
) {
    let index = fleet.addresses();
    let controller = fleet.controller();
    for pool in footprint.link.iter().flat_map(|link| link.pools()) {
        let ranges = Holders::new(
            fleet,
            own,
            pool.ranges.iter().flat_map(|r| index.overlapping(r)),
        )
        .and_controller(controller_pools(fleet).any(|other| ranges_overlap(pool, other)));
        let clashing = ranges.found();
        violations.extend(ranges.violation(|| Clash {
            what: format!("the ranges of pool {} ({})", pool.name, shown(pool)),
            whose: "the link ranges",
            pool: pool.name.clone(),
            subnet: pool.subnet.to_string(),
        }));
        let oam = Holders::new(fleet, own, index.oam_subnets_meeting(pool.subnet)).and_controller(
            controller
                .oam_subnets
                .iter()
                .any(|other| meet(pool.subnet, *other)),
        );
        violations.extend(oam.violation(|| Clash {
            what: format!("the link subnet {} of pool {}", pool.subnet, pool.name),
            whose: "an oam subnet",
            pool: pool.name.clone(),
            subnet: pool.subnet.to_string(),
        }));
        if !clashing {
            let shared = Holders::new(fleet, own, index.link_subnets_meeting(pool.subnet))
                .and_controller(
                    controller_pools(fleet).any(|other| meet(pool.subnet, other.subnet)),
                );
            warnings.extend(shared.warning(pool));
        }
    }
    for subnet in &footprint.oam_subnets {
        let link = Holders::new(fleet, own, index.link_subnets_meeting(*subnet))
            .and_controller(controller_pools(fleet).any(|other| meet(*subnet, other.subnet)));
        violations.extend(link.violation(|| Clash {
            what: format!("the oam subnet {subnet}"),
            whose: "a link subnet",
            pool: "oam".to_owned(),
            subnet: subnet.to_string(),
        }));
    }
}

/// The ranges of a mgmt network beside the link overlap nobody's link ranges: the site would look
/// for the other one on its own mgmt. This is asked of a declaration only. The fleet does not keep
/// the mgmt of its sites, so that another one may come later with such link ranges; the earlier one
/// would be refused for that.
pub(super) fn check_management(
    fleet: &Fleet,
    management: &[LinkPool],
    own: Option<SubcloudId>,
    violations: &mut Vec<Violation>,
) {
    for pool in management {
        let owners = pool
            .ranges
            .iter()
            .flat_map(|range| fleet.addresses().overlapping(range));
        let ranges = Holders::new(fleet, own, owners)
            .and_controller(controller_pools(fleet).any(|other| ranges_overlap(pool, other)));
        violations.extend(ranges.violation(|| Clash {
            what: format!("the ranges of mgmt pool {} ({})", pool.name, shown(pool)),
            whose: "the link ranges",
            pool: pool.name.clone(),
            subnet: pool.subnet.to_string(),
        }));
    }
}

/// One kind of collision, in words.
struct Clash {
    what: String,
    whose: &'static str,
    pool: String,
    subnet: String,
}

/// Who else holds something, by name. Bounded, for one wide range can cover a whole fleet.
struct Holders<'a> {
    fleet: &'a Fleet,
    controller: Option<&'a str>,
    subclouds: BTreeSet<&'a str>,
    more: bool,
}

impl<'a> Holders<'a> {
    fn new(
        fleet: &'a Fleet,
        own: Option<SubcloudId>,
        owners: impl Iterator<Item = SubcloudId>,
    ) -> Self {
        let mut subclouds = BTreeSet::new();
        let mut more = false;
        // One owner may come several times, once a pool, so the bound is on distinct names.
        for owner in owners.filter(|owner| Some(*owner) != own) {
            if subclouds.len() == MAX_NAMED {
                more = !subclouds.contains(fleet.name_of(owner));
                if more {
                    break;
                }
            } else {
                subclouds.insert(fleet.name_of(owner));
            }
        }
        Self {
            fleet,
            controller: None,
            subclouds,
            more,
        }
    }

    fn and_controller(mut self, also: bool) -> Self {
        self.controller = also.then_some(self.fleet.controller().name.as_str());
        self
    }

    fn found(&self) -> bool {
        self.controller.is_some() || !self.subclouds.is_empty()
    }

    /// The words are only made when they are needed: nearly every site is admitted.
    fn violation(self, clash: impl FnOnce() -> Clash) -> Option<Violation> {
        if !self.found() {
            return None;
        }
        let clash = clash();
        let (with, words) = (self.names(), self.words());
        let violation = Violation::new(
            Reason::AddressOverlap,
            format!("{} overlap {} of {words}", clash.what, clash.whose),
            "give the site addresses that no other site of the fleet has",
        );
        let violation = self
            .name_all(violation.object("pool", clash.pool.clone()))
            .fact("rule", "F6")
            .fact("pool", &clash.pool)
            .fact("subnet", &clash.subnet)
            .fact("overlapsWith", with);
        Some(violation)
    }

    fn warning(self, pool: &LinkPool) -> Option<Violation> {
        if !self.found() {
            return None;
        }
        let (with, words) = (self.names(), self.words());
        let violation = Violation::new(
            Reason::SharedSubnet,
            format!(
                "the link subnet {} of pool {} is shared with {words}; their ranges are \
                 disjoint, so this is allowed",
                pool.subnet, pool.name,
            ),
            "nothing, when the sites share one network on purpose",
        );
        let violation = self
            .name_all(violation.object("pool", pool.name.clone()))
            .fact("rule", "F6")
            .fact("pool", &pool.name)
            .fact("subnet", pool.subnet)
            .fact("sharedWith", with);
        Some(violation)
    }

    fn name_all(self, mut violation: Violation) -> Violation {
        if let Some(controller) = self.controller {
            violation = violation.object("controller", controller);
        }
        for subcloud in self.subclouds {
            violation = violation.object("subcloud", subcloud);
        }
        violation
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self
            .controller
            .iter()
            .chain(&self.subclouds)
            .copied()
            .collect();
        names.join(",")
    }

    fn words(&self) -> String {
        let controller = self
            .controller
            .iter()
            .map(|name| format!("the system controller {name}"));
        let subclouds = self.subclouds.iter().map(|name| format!("subcloud {name}"));
        let mut words: Vec<String> = controller.chain(subclouds).collect();
        if self.more {
            words.push("more".to_owned());
        }
        match words.pop() {
            Some(last) if words.is_empty() => last,
            Some(last) => format!("{} and {last}", words.join(", ")),
            None => String::new(),
        }
    }
}

fn controller_pools(fleet: &Fleet) -> impl Iterator<Item = &LinkPool> {
    fleet.controller().link.iter().flat_map(|link| link.pools())
}

pub(super) fn ranges_overlap(one: &LinkPool, other: &LinkPool) -> bool {
    one.ranges
        .iter()
        .any(|range| other.ranges.iter().any(|theirs| range.overlaps(theirs)))
}

/// Subnets are aligned: they meet exactly when one encloses the other.
fn meet(one: ipnet::IpNet, other: ipnet::IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

fn shown(pool: &LinkPool) -> String {
    let ranges: Vec<String> = pool
        .ranges
        .iter()
        .take(MAX_NAMED)
        .map(ToString::to_string)
        .collect();
    ranges.join(",")
}
