//! The sites that take part, made once from bootstrap files as real ones are.

use std::net::IpAddr;
use std::sync::OnceLock;

use site::{PoolParts, Site, SiteParts};
use uuid::Uuid;

/// The four ways to order the families of a site's networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    V4,
    V6,
    V4First,
    V6First,
}

impl Layout {
    pub(crate) const ALL: [Self; 4] = [Self::V4, Self::V6, Self::V4First, Self::V6First];

    pub(crate) fn primary_is_v6(self) -> bool {
        matches!(self, Self::V6 | Self::V6First)
    }

    /// Joins the values of both families as a bootstrap file has them.
    fn value(self, v4: &str, v6: &str) -> String {
        match self {
            Self::V4 => v4.to_owned(),
            Self::V6 => v6.to_owned(),
            Self::V4First => format!("{v4},{v6}"),
            Self::V6First => format!("{v6},{v4}"),
        }
    }
}

/// How the names of the pools begin that rollouts make.
pub(crate) const ROLLED_OUT: &str = "rollout-";

/// How many sets of addresses there are: one for each subcloud of the largest world.
pub(crate) const ADDRESS_SETS: usize = 8;

/// The controller of a layout.
pub(crate) fn controller(layout: Layout) -> &'static Site {
    static SITES: OnceLock<Vec<Site>> = OnceLock::new();
    let sites = SITES.get_or_init(|| {
        let install = |layout| installed("controller", 100, layout, "systemcontroller");
        Layout::ALL.into_iter().map(install).collect()
    });
    &sites[position(layout)]
}

/// How many sites can be peers of one another.
pub(crate) const PEER_SITES: usize = 3;

/// A controller of a layout with addresses of its own; the same site in every layout.
pub(crate) fn peer(index: usize, layout: Layout) -> &'static Site {
    static SITES: OnceLock<Vec<Site>> = OnceLock::new();
    let sites = SITES.get_or_init(|| {
        let layouts = Layout::ALL.into_iter();
        let install = |(layout, index): (Layout, usize)| {
            let name = format!("site-{index}");
            let site = installed(&name, 100 + index, layout, "systemcontroller");
            let mut parts = site.to_parts();
            parts.identity.uuid = id(1 << 80, index);
            parts.identity.region_name = format!("region-of-{name}");
            Site::from_parts(parts).expect("a renamed site is valid")
        };
        layouts
            .flat_map(|layout| (0..PEER_SITES).map(move |index| (layout, index)))
            .map(install)
            .collect()
    });
    &sites[position(layout) * PEER_SITES + index]
}

/// A layout with the other primary family.
pub(crate) fn other_family(layout: Layout) -> Layout {
    match layout {
        Layout::V4 => Layout::V6,
        Layout::V6 => Layout::V4,
        Layout::V4First => Layout::V6First,
        Layout::V6First => Layout::V4First,
    }
}

/// A layout with the same primary family, single- or dual-stack.
pub(crate) fn same_family(layout: Layout, dual: bool) -> Layout {
    match (layout.primary_is_v6(), dual) {
        (false, false) => Layout::V4,
        (false, true) => Layout::V4First,
        (true, false) => Layout::V6,
        (true, true) => Layout::V6First,
    }
}

/// A subcloud of a layout with the given set of addresses. Two subclouds with the same set
/// overlap.
pub(crate) fn subcloud(index: usize, addresses: usize, layout: Layout) -> Site {
    static SITES: OnceLock<Vec<SiteParts>> = OnceLock::new();
    let sites = SITES.get_or_init(|| {
        let layouts = Layout::ALL.into_iter();
        layouts
            .flat_map(|layout| {
                (0..ADDRESS_SETS)
                    .map(move |set| installed("template", set, layout, "subcloud").to_parts())
            })
            .collect()
    });
    let mut parts = sites[position(layout) * ADDRESS_SETS + addresses].clone();
    parts.identity.name = format!("subcloud-{index}");
    parts.identity.region_name = format!("region-{index}");
    parts.identity.uuid = id(1 << 64, index);
    Site::from_parts(parts).expect("a renamed site is valid")
}

/// The same site with its first oam range one address shorter: a change that every subcloud is
/// told.
pub(crate) fn with_shorter_oam(site: &Site) -> Site {
    edited(site, "oam", |pool| {
        if let Some((_, last)) = pool.ranges.first_mut() {
            *last = before(*last);
        }
    })
}

/// The same site with its oam network where the link network of another is: a change of the
/// controller that breaks F6 as long as the other is in the fleet. `None` where the families
/// differ or the site's own rules do not allow it.
pub(crate) fn with_oam_on(site: &Site, other: &Site) -> Option<Site> {
    let theirs = other.link_pool()?;
    let oam = site.network(site::NetworkKind::Oam)?.pools().primary().pool;
    (site.pool(oam)?.family() == theirs.family()).then_some(())?;
    taking(site, oam, theirs)
}

/// The same site with the addresses of another on its own link network: a change that breaks F6
/// as long as the other is in the fleet. `None` where the site's own rules do not allow it.
pub(crate) fn with_addresses_of(site: &Site, other: &Site) -> Option<Site> {
    let theirs = other.link_pool()?;
    let ours = site.link_pool()?;
    if ours.family() != theirs.family() {
        return None;
    }
    taking(site, ours.id(), theirs)
}

/// The same site with one of its pools where a pool of another site is.
fn taking(site: &Site, ours: site::PoolId, theirs: &site::Pool) -> Option<Site> {
    let mut parts = site.to_parts();
    parts.generation.0 += 1;
    let pool = parts.pools.iter_mut().find(|pool| pool.id == ours)?;
    pool.subnet = theirs.subnet();
    pool.ranges = theirs
        .ranges()
        .iter()
        .map(|range| (range.first(), range.last()))
        .collect();
    pool.addresses = *theirs.addresses();
    pool.holders.clear();
    pool.remembered.clear();
    Site::from_parts(parts).ok()
}

/// The same site as a later generation of itself, with what rollouts added meanwhile.
pub(crate) fn restored(site: &Site, original: &Site) -> Site {
    let mut parts = original.to_parts();
    parts.generation.0 = site.generation().0 + 1;
    keep_rolled_out(&mut parts, site.to_parts());
    Site::from_parts(parts).expect("what was valid is valid")
}

/// Takes over the pools that rollouts made, and where they are attached.
fn keep_rolled_out(parts: &mut SiteParts, from: SiteParts) {
    let made = |pool: &PoolParts| pool.name.starts_with(ROLLED_OUT);
    let pools: Vec<_> = from.pools.into_iter().filter(made).collect();
    for known in from.networks {
        let mut networks = parts.networks.iter_mut();
        if let Some(network) = networks.find(|network| network.uuid == known.uuid) {
            let attached = known.pools.into_iter();
            let attached = attached.filter(|(_, id)| pools.iter().any(|pool| pool.id == *id));
            network.pools.extend(attached);
        }
    }
    parts.pools.extend(pools);
}

fn edited(site: &Site, network: &str, edit: impl FnOnce(&mut PoolParts)) -> Site {
    let kind = site::NetworkKind::from_name(network).expect("a known network");
    let primary = site
        .network(kind)
        .expect("the site has it")
        .pools()
        .primary()
        .pool;
    let mut parts = site.to_parts();
    parts.generation.0 += 1;
    if let Some(pool) = parts.pools.iter_mut().find(|pool| pool.id == primary) {
        edit(pool);
    }
    Site::from_parts(parts).expect("an edited site is valid")
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() - 1).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() - 1).into()),
    }
}

fn installed(name: &str, set: usize, layout: Layout, role: &str) -> Site {
    let file = bootstrap_file(name, set, layout, role);
    let declared = match site::bootstrap::parse("simulation.yaml", file.as_bytes()) {
        Ok(declared) => declared,
        Err(faults) => panic!(
            "{}",
            site::bootstrap::render("simulation.yaml", file.as_bytes(), &faults, false)
        ),
    };
    let mut next = 0;
    let mut ids = || {
        next += 1;
        id(u128::try_from(set).unwrap_or(0) << 32, next)
    };
    declared
        .install(&mut ids)
        .expect("a faultless file installs")
}

fn bootstrap_file(name: &str, set: usize, layout: Layout, role: &str) -> String {
    let subnet =
        |variable: &str, v4: &str, v6: &str| format!("{variable}: {}\n", layout.value(v4, v6));
    [
        format!("name: {name}\nsystem_mode: simplex\ndistributed_cloud_role: {role}\n"),
        subnet(
            "management_subnet",
            &format!("10.{set}.0.0/24"),
            &format!("fd01:{set}::/64"),
        ),
        subnet(
            "management_start_address",
            &format!("10.{set}.0.2"),
            &format!("fd01:{set}::2"),
        ),
        subnet(
            "management_end_address",
            &format!("10.{set}.0.100"),
            &format!("fd01:{set}::100"),
        ),
        subnet(
            "external_oam_subnet",
            &format!("10.{set}.1.0/24"),
            &format!("fd02:{set}::/64"),
        ),
        subnet(
            "external_oam_gateway_address",
            &format!("10.{set}.1.1"),
            &format!("fd02:{set}::1"),
        ),
        subnet(
            "external_oam_floating_address",
            &format!("10.{set}.1.3"),
            &format!("fd02:{set}::3"),
        ),
        subnet("cluster_host_subnet", "192.168.206.0/24", "fd03::/64"),
        subnet("cluster_pod_subnet", "172.16.0.0/16", "fd04::/64"),
        subnet("cluster_service_subnet", "10.224.0.0/12", "fd05::/112"),
    ]
    .concat()
}

fn position(layout: Layout) -> usize {
    Layout::ALL
        .into_iter()
        .position(|known| known == layout)
        .unwrap_or(0)
}

fn id(base: u128, number: usize) -> Uuid {
    Uuid::from_u128(base + u128::try_from(number).unwrap_or(0))
}
