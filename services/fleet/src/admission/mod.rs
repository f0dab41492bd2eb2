//! The rules that a site must satisfy to belong to the fleet: F2-F10, one function for the three
//! places where they are asked. (F1, the token, is [`crate::Controller`]'s.)

mod gateway;
mod overlap;
mod own_site;

use std::net::IpAddr;

use ipnet::IpNet;
use site::{Family, NetworkKind, Site, SiteParts, SoftwareVersion};

pub(crate) use gateway::fit as gateways_fit;

use crate::{
    Candidate, Fleet, Footprint, LinkNetwork, Reason, Rejection, Subcloud, SubcloudId, Violation,
};

pub use own_site::would_break;

/// Dual-stack exists from this version on (F7).
pub const DUAL_STACK_SINCE: SoftwareVersion = SoftwareVersion { year: 24, month: 9 };

/// The most objects that one violation names. A range that covers a whole fleet overlaps
/// thousands of sites; the message then says how many more there are.
pub const MAX_NAMED: usize = 16;

/// Judges a site of a subcloud as it reports it, or as it would report it after a change.
///
/// # Errors
/// Every violation of F2-F7.
pub(crate) fn admit_report(
    fleet: &Fleet,
    subcloud: &Subcloud,
    site: &SiteParts,
) -> Result<(Candidate, Vec<Violation>), Rejection> {
    let candidate = Candidate::of_report(site);
    let occasion = Occasion::Report {
        own: subcloud.id,
        name: &subcloud.name,
    };
    let admission = admit(fleet, &candidate, occasion)?;
    Ok((candidate, admission.warnings))
}

/// Asks every rule that the occasion calls for and reports all that fail, in the order of the
/// rules, so that the first one decides code and reason.
///
/// # Errors
/// Every violation of F2-F10.
pub fn admit(
    fleet: &Fleet,
    candidate: &Candidate,
    occasion: Occasion<'_>,
) -> Result<Admission, Rejection> {
    let Candidate {
        footprint,
        management,
        faults,
    } = candidate;
    let Some(controller) = &fleet.controller().link else {
        return Err(Rejection::one(controller_without_link()));
    };
    let mut violations = Vec::new();
    let mut warnings = Vec::new();
    if let Some(faults) = faults {
        violations.extend(site_invalid(faults));
    }
    violations.extend(family(footprint, controller.family()));
    let own = occasion.passed_over(fleet);
    violations.extend(names(fleet, footprint, occasion, own));
    overlap::check(fleet, footprint, own, &mut violations, &mut warnings);
    if let Occasion::Declaration { .. } = occasion {
        overlap::check_management(fleet, management, own, &mut violations);
    }
    violations.extend(dual_stack(footprint));
    match occasion {
        Occasion::Declaration { .. } => {
            violations.extend(room(fleet, own));
            let gateways = &footprint.systemcontroller_gateways;
            violations.extend(gateway::fit(&footprint.name, gateways, controller));
        }
        Occasion::Enrollment { source, .. } => {
            violations.extend(source.and_then(|source| source_address(footprint, source)));
            violations.extend(room(fleet, own));
            let set = own.and_then(|own| fleet.subcloud(own)?.geo.gateways.as_ref());
            let gateways = set.unwrap_or(&footprint.systemcontroller_gateways);
            violations.extend(gateway::fit(&footprint.name, gateways, controller));
        }
        Occasion::Report { .. } => {}
    }
    Rejection::check(violations)?;
    Ok(Admission { warnings })
}

/// Asks F3 and F4 with nothing but what a token tells of the controller: its link addresses, the
/// floating address of the primary pool first. A site of the other family cannot even reach the
/// listener; this way it learns the reason and not a timeout.
///
/// # Errors
/// The violation of F3 or F4, or [`Reason::ControllerHasNoLinkPool`] without an address.
pub fn check_family(footprint: &Footprint, controller: &[IpAddr]) -> Result<(), Rejection> {
    let Some(first) = controller.first() else {
        return Err(Rejection::one(controller_without_link()));
    };
    let violation = family(footprint, Family::of(first.to_canonical()));
    Rejection::check(violation.into_iter().collect())
}

/// When the rules are asked; it decides which of them, and which record does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion<'a> {
    /// The operator declares a site: F2-F7, F9, F10, and that no link ranges lie behind its mgmt.
    Declaration {
        /// The name that the record will have.
        name: &'a str,
    },
    /// A site enrolls: F2-F10.
    Enrollment {
        /// The pending record.
        own: SubcloudId,
        /// The name of the record.
        name: &'a str,
        /// Where the connection comes from; `None` where the source check is off.
        source: Option<IpAddr>,
    },
    /// An enrolled site reports: F2-F7.
    Report {
        /// Its record.
        own: SubcloudId,
        /// The name of the record.
        name: &'a str,
    },
}

/// An admitted site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// What is allowed but worth knowing, such as [`Reason::SharedSubnet`].
    pub warnings: Vec<Violation>,
}

/// What the rules need to know of the controller's own site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerView {
    /// The name of the site, for messages.
    pub name: String,
    /// The region name.
    pub region_name: String,
    /// The link network; without one nothing is admitted.
    pub link: Option<LinkNetwork>,
    /// The subnets of oam.
    pub oam_subnets: Vec<IpNet>,
}

impl ControllerView {
    /// Reads it off the controller's own site.
    pub fn of(site: &Site) -> Self {
        Self::of_parts(&site.to_parts())
    }

    /// Reads it off the parts of the controller's own site.
    pub fn of_parts(parts: &SiteParts) -> Self {
        let Footprint {
            name,
            region_name,
            link,
            oam_subnets,
            ..
        } = Footprint::of(parts);
        Self {
            name,
            region_name,
            link,
            oam_subnets,
        }
    }
}

impl<'a> Occasion<'a> {
    fn own(self) -> Option<SubcloudId> {
        match self {
            Self::Declaration { .. } => None,
            Self::Enrollment { own, .. } | Self::Report { own, .. } => Some(own),
        }
    }

    /// The record that does not count against the site: its own. A declaration has none yet; but
    /// one under a name that is taken is most likely of the same site, and then it is the name
    /// alone that must be told, not the site's region and addresses against themselves.
    fn passed_over(self, fleet: &Fleet) -> Option<SubcloudId> {
        match self {
            Self::Declaration { name } => fleet.by_name(name).map(|taken| taken.id),
            Self::Enrollment { own, .. } | Self::Report { own, .. } => Some(own),
        }
    }

    fn name(self) -> &'a str {
        match self {
            Self::Declaration { name }
            | Self::Enrollment { name, .. }
            | Self::Report { name, .. } => name,
        }
    }
}

/// F2. The invariant I9 is left to F7, which asks the same and has the reason of its own.
fn site_invalid(faults: &site::Rejection) -> impl Iterator<Item = Violation> {
    let others =
        |fault: &&site::Violation| fault.reason != site::Reason::DualStackUnsupportedByVersion;
    faults.violations().iter().filter(others).map(|fault| {
        let mut violation = Violation::new(
            Reason::SiteInvalid,
            format!("the site is not valid: {}", fault.message),
            fault.remedy.clone(),
        )
        .at(fault.field.clone());
        violation.objects.clone_from(&fault.objects);
        violation.metadata.clone_from(&fault.metadata);
        violation
            .fact("rule", "F2")
            .fact("siteReason", site::ReasonSet::name(fault.reason))
    })
}

/// F3 and F4.
fn family(footprint: &Footprint, controller: Family) -> Option<Violation> {
    let Some(link) = &footprint.link else {
        return Some(
            Violation::new(
                Reason::NoPrimaryPool,
                format!(
                    "site {} has no pool on admin nor on mgmt, so it has no address towards the \
                 system controller",
                    footprint.name
                ),
                "give the mgmt network (or an admin network) a primary pool and install again",
            )
            .object("subcloud", footprint.name.clone())
            .fact("rule", "F3"),
        );
    };
    if link.family() == controller {
        return None;
    }
    let has_it_second = link
        .secondary
        .as_ref()
        .is_some_and(|secondary| secondary.family() == controller);
    let second = if has_it_second {
        format!("; its {controller} pool is only the secondary one, and only primaries count")
    } else {
        String::new()
    };
    Some(
        Violation::new(
            Reason::PrimaryFamilyMismatch,
            format!(
                "the primary pool of the {} network of site {} is {}, but the system controller's \
             is {controller}{second}",
                link.kind,
                footprint.name,
                link.family(),
            ),
            format!(
                "install the site with {controller} as the primary family of its networks (the \
             first value of each subnet); the primary family cannot be changed afterwards",
            ),
        )
        .object("subcloud", footprint.name.clone())
        .object("network", link.kind.name())
        .object("pool", link.primary.name.clone())
        .fact("rule", "F4")
        .fact("network", link.kind)
        .fact("controllerFamily", controller)
        .fact("subcloudFamily", link.family())
        .fact("subcloudHasControllerFamilyAsSecondary", has_it_second),
    )
}

/// F5, and that the site is called as its record is.
fn names(
    fleet: &Fleet,
    footprint: &Footprint,
    occasion: Occasion<'_>,
    own: Option<SubcloudId>,
) -> Vec<Violation> {
    let (name, region) = (occasion.name(), &footprint.region_name);
    let mut violations = Vec::new();
    violations.extend(name_free(fleet, name, occasion.own()));
    if footprint.name != name {
        violations.push(
            Violation::new(
                Reason::SiteNameMismatch,
                format!(
                    "the site calls itself {}, its record is {name}",
                    footprint.name
                ),
                format!(
                    "add the subcloud under the name {}, or install the site as {name}",
                    footprint.name
                ),
            )
            .object("subcloud", name)
            .fact("rule", "F5")
            .fact("siteName", &footprint.name)
            .fact("recordName", name),
        );
    }
    let holder = fleet
        .by_region(region)
        .filter(|holder| Some(holder.id) != own)
        .map(|holder| ("subcloud", holder.name.clone()))
        .or_else(|| {
            let controller = fleet.controller();
            (controller.region_name == *region).then(|| ("controller", controller.name.clone()))
        });
    if let Some((kind, holder)) = holder {
        violations.push(
            Violation::new(
                Reason::RegionNameTaken,
                format!("the region name {region} is that of {kind} {holder}"),
                "install the site with another region_name",
            )
            .object(kind, holder.clone())
            .fact("rule", "F5")
            .fact("regionName", region)
            .fact("takenBy", holder),
        );
    }
    violations
}

/// F5 for a name alone.
pub(crate) fn name_free(fleet: &Fleet, name: &str, own: Option<SubcloudId>) -> Option<Violation> {
    let taken = fleet.by_name(name).filter(|taken| Some(taken.id) != own)?;
    Some(
        Violation::new(
            Reason::SubcloudNameTaken,
            format!("there is a subcloud {name} already"),
            format!(
                "choose another name; or, if that subcloud is no longer needed, `tandem dcmanager \
                 subcloud delete {name}`"
            ),
        )
        .object("subcloud", name)
        .fact("rule", "F5")
        .fact("subcloudId", taken.id),
    )
}

/// F7.
fn dual_stack(footprint: &Footprint) -> Option<Violation> {
    let version = footprint.software_version;
    if footprint.dual_stack.is_empty() || version >= DUAL_STACK_SINCE {
        return None;
    }
    let networks: Vec<_> = footprint
        .dual_stack
        .iter()
        .map(|kind| kind.name())
        .collect();
    let mut violation = Violation::new(
        Reason::DualStackUnsupportedByVersion,
        format!(
            "site {} runs {version} and has secondary pools on {}; dual-stack exists from \
             {DUAL_STACK_SINCE} on",
            footprint.name,
            networks.join(", "),
        ),
        format!("install {DUAL_STACK_SINCE} or later, or leave out the secondary pools"),
    )
    .object("subcloud", footprint.name.clone())
    .fact("rule", "F7")
    .fact("softwareVersion", version)
    .fact("networks", networks.join(","));
    for kind in &footprint.dual_stack {
        violation = violation.object("network", NetworkKind::name(*kind));
    }
    Some(violation)
}

/// F8.
fn source_address(footprint: &Footprint, source: IpAddr) -> Option<Violation> {
    let source = source.to_canonical();
    let pool = &footprint.link.as_ref()?.primary;
    if pool.subnet.contains(&source) {
        return None;
    }
    Some(
        Violation::new(
            Reason::SourceNotInPrimaryPool,
            format!(
                "the connection comes from {source}, which is not in {}, the primary pool {} \
                 of the site's link network",
                pool.subnet, pool.name,
            ),
            "let the agent connect from its link address without address translation, or serve \
             with --source-check off",
        )
        .object("subcloud", footprint.name.clone())
        .object("pool", pool.name.clone())
        .fact("rule", "F8")
        .fact("source", source)
        .fact("subnet", pool.subnet),
    )
}

/// F9.
pub(crate) fn room(fleet: &Fleet, own: Option<SubcloudId>) -> Option<Violation> {
    let counted = own.is_some_and(|own| fleet.subcloud(own).is_some());
    let others = fleet.len() - usize::from(counted);
    if others < fleet.limit() {
        return None;
    }
    Some(
        Violation::new(
            Reason::FleetFull,
            format!(
                "the fleet has {others} subclouds, its limit is {}",
                fleet.limit()
            ),
            "delete subclouds that are no longer needed (`tandem dcmanager subcloud delete NAME`), \
             or use another system controller",
        )
        .fact("rule", "F9")
        .fact("limit", fleet.limit()),
    )
}

fn controller_without_link() -> Violation {
    Violation::new(
        Reason::ControllerHasNoLinkPool,
        "the system controller has no pool on admin nor on mgmt, so no subcloud can reach it",
        "give the controller's mgmt network a pool",
    )
    .object("network", NetworkKind::Mgmt.name())
}
