//! What comes from outside is checked in full, and the way back is exact.

use site::{
    ConfigurationId, Digest, Family, Generation, Kubernetes, NetworkKind, Site, SiteParts,
    SoftwareVersion,
};

use crate::commands::{outcome, run};
use crate::fixture::{Fixture, id, standard};

/// Breaks a sound site and compares `REASON@field INVARIANT` of every fault.
fn check(break_it: impl Fn(&mut SiteParts), want: &[&str]) {
    let mut parts = standard().site().to_parts();
    break_it(&mut parts);
    let faults: Vec<String> = match Site::from_parts(parts) {
        Ok(_) => Vec::new(),
        Err(rejection) => {
            let faults = rejection.violations().iter().map(|fault| {
                use site::ReasonSet as _;
                let invariant = fault.metadata.get("invariant").map_or("", String::as_str);
                format!("{}@{} {invariant}", fault.reason.name(), fault.field)
            });
            faults.map(|fault| fault.trim_end().to_owned()).collect()
        }
    };
    assert_eq!(faults, want);
}

/// The place of a pool in the parts.
fn pool(parts: &SiteParts, name: &str) -> usize {
    parts
        .pools
        .iter()
        .position(|pool| pool.name == name)
        .expect("a pool of the fixture")
}

/// The place of a network in the parts.
fn network(parts: &SiteParts, kind: NetworkKind) -> usize {
    parts
        .networks
        .iter()
        .position(|net| net.kind == kind)
        .expect("a network of the fixture")
}

#[test]
fn a_sound_site_survives_the_round_trip() {
    let every_kind = Fixture {
        dual: NetworkKind::ALL[1..].to_vec(),
        networks: NetworkKind::ALL.to_vec(),
        ..standard()
    };
    for fixture in [Fixture::default(), standard(), every_kind] {
        let site = fixture.site();
        let again = Site::from_parts(site.to_parts()).expect("sound");
        assert_eq!(again, site);
        assert_eq!(again.digest(), site.digest());
        assert_eq!(again.to_parts(), site.to_parts());
    }
}

#[test]
fn each_invariant_is_checked() {
    check(|_| {}, &[]);
    check(
        |parts| parts.networks[2].pools.clear(),
        &[
            "INVALID_ARGUMENT@networks[2].pools I1",
            "OAM_FAMILY_REQUIRED@networks I7",
        ],
    );
    check(
        |parts| {
            let (mgmt, spare) = (network(parts, NetworkKind::Mgmt), pool(parts, "mgmt-ipv6"));
            let spare = parts.pools[spare].id;
            let end = (site::AttachmentId(id(7)), spare);
            parts.networks[mgmt].pools.insert(0, end);
            parts.networks.truncate(3);
            parts.pools.iter_mut().for_each(|pool| pool.holders.clear());
        },
        &["PRIMARY_FAMILY_MISMATCH@networks[2].pools[0] I2"],
    );
    check(
        |parts| {
            let (pxe, spare) = (
                network(parts, NetworkKind::Pxeboot),
                pool(parts, "mgmt-ipv6"),
            );
            let end = (site::AttachmentId(id(7)), parts.pools[spare].id);
            parts.networks[pxe].pools.push(end);
        },
        &[
            "PXEBOOT_IPV4_ONLY@networks[0].pools I3",
            "PXEBOOT_IPV4_ONLY@networks[0].pools I3",
        ],
    );
    check(
        |parts| {
            parts.identity.software_version = SoftwareVersion {
                year: 22,
                month: 12,
            }
        },
        &[],
    );
    check(
        |parts| parts.kubernetes = Kubernetes::DualStack,
        &["INVALID_ARGUMENT@kubernetes I8"],
    );
}

#[test]
fn pools_are_checked_field_by_field() {
    check(
        |parts| {
            let oam = pool(parts, "oam-ipv4");
            parts.pools[oam].addresses.floating = Some("10.9.9.9".parse().expect("an address"));
            let range = parts.pools[oam].ranges[0];
            parts.pools[oam].ranges.push(range);
            parts.pools[oam].name = String::new();
        },
        &[
            "INVALID_ARGUMENT@pools[3].name I4",
            "INVALID_ARGUMENT@pools[3].ranges[1] I4",
            "INVALID_ARGUMENT@pools[3].floating_address I4",
        ],
    );
    check(
        |parts| {
            let (oam, mgmt) = (pool(parts, "oam-ipv4"), pool(parts, "mgmt-ipv4"));
            parts.pools[oam].subnet = parts.pools[mgmt].subnet;
            parts.pools[oam].ranges = parts.pools[mgmt].ranges.clone();
            parts.pools[oam].addresses = parts.pools[mgmt].addresses;
        },
        &[
            "ADDRESS_OVERLAP@networks[2].pools[0] I6",
            "ADDRESS_IN_USE@pools[3] I10",
            "ADDRESS_IN_USE@pools[3] I10",
            "ADDRESS_IN_USE@pools[3] I10",
            "ADDRESS_IN_USE@pools[3] I10",
        ],
    );
    check(
        |parts| parts.pools[1].id = parts.pools[0].id,
        &[
            "NAME_TAKEN@pools[1].id",
            "POOL_NOT_FOUND@networks[1].pools[0]",
        ],
    );
}

#[test]
fn lists_are_bounded_before_they_are_looked_at() {
    check(
        |parts| {
            let (pool, host) = (parts.pools[0].clone(), parts.hosts[0].clone());
            parts.pools = vec![pool; site::MAX_POOLS + 1];
            parts.hosts = vec![host; site::MAX_HOSTS + 1];
        },
        &["TOO_MANY_POOLS@pools", "INVALID_ARGUMENT@hosts"],
    );
    check(
        |parts| {
            parts.networks[0].pools = vec![parts.networks[0].pools[0]; 30_000];
            parts.dns_servers = vec!["10.9.9.9".parse().expect("an address"); 30_000];
            parts.systemcontroller_gateways = parts.dns_servers.clone();
        },
        &[
            "NETWORK_HAS_TWO_POOLS@networks.pools",
            "INVALID_ARGUMENT@dns_servers",
            "INVALID_ARGUMENT@systemcontroller_gateways",
        ],
    );
}

#[test]
fn no_more_faults_are_collected_than_are_listed() {
    let mut parts = standard().site().to_parts();
    // Every two of the ranges of each pool overlap.
    let pool = &mut parts.pools[0];
    pool.ranges = vec![pool.ranges[0]; site::MAX_RANGES];
    parts.pools = vec![parts.pools[0].clone(); site::MAX_POOLS];
    let rejection = Site::from_parts(parts).expect_err("it has faults");
    let faults = rejection.violations();
    assert_eq!(faults.len(), site::MAX_VIOLATIONS);
    let last = faults.last().map(|fault| &*fault.message);
    assert!(last.is_some_and(|last| last.contains("more faults are not listed")));
}

#[test]
fn hosts_and_alarms_must_agree() {
    check(
        |parts| {
            parts.generation = Generation(3);
            parts.hosts[0].target = ConfigurationId(3);
        },
        &["INVALID_ARGUMENT@hosts[0]"],
    );
    check(
        |parts| parts.hosts[1].hostname = parts.hosts[0].hostname.clone(),
        &["NAME_TAKEN@hosts[1].hostname"],
    );
    check(
        |parts| {
            parts
                .dns_servers
                .push("fd00::53".parse().expect("an address"))
        },
        &["DNS_FAMILY_NOT_ON_OAM@dns_servers[0]"],
    );
}

#[test]
fn the_digest_follows_the_network_state_and_nothing_else() {
    let mut site = Fixture::default().site();
    let before = site.digest();
    // A fixed value: the encoding is the same in every process and version.
    let fixed = Fixture {
        networks: Vec::new(),
        primary: Family::Ipv6,
        ..Fixture::default()
    };
    let Digest(bytes) = fixed.site().digest();
    assert_eq!(bytes[..4], DIGEST_OF_AN_EMPTY_SITE);
    for lines in [["pool-add p 10.77.0.0/24"], ["pool-delete p"]] {
        let plan = run(&mut site, &lines).expect("accepted");
        assert_ne!(plan.next().digest(), site.digest());
        plan.apply(&mut site);
    }
    assert_eq!(site.digest(), before, "added and deleted is as before");
    assert_eq!(site.generation(), Generation(2), "but it was two changes");
}

const DIGEST_OF_AN_EMPTY_SITE: [u8; 4] = [171, 13, 180, 255];

#[test]
fn a_change_that_changes_nothing_keeps_the_generation() {
    let mut site = Fixture::default().site();
    for line in [
        "pool-modify oam-ipv4 name=oam-ipv4",
        "dns-modify ",
        "report controller-0 0",
    ] {
        let plan = run(&mut site, &[line]);
        assert_eq!(outcome(&plan), "ok", "{line}");
        let plan = plan.expect("accepted");
        assert!(!plan.changes_site() && plan.effects().is_empty(), "{line}");
        assert_eq!(plan.into_site(), site, "{line}");
    }
}
