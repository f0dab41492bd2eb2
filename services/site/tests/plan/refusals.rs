//! Section 3: every operation, every reason, in the listed order, as tables of requests.

use site::{DistributedCloudRole, Family, NetworkKind, SoftwareVersion};

use crate::commands::{outcome, run};
use crate::fixture::{Fixture, simplex, standard};

/// Applies all lines but the last; the last must have this outcome.
fn check(fixture: &Fixture, lines: &[&str], want: &str) {
    let mut site = fixture.site();
    let before = site.clone();
    let result = run(&mut site, lines);
    assert_eq!(outcome(&result), want, "{lines:?}");
    if let Err(rejection) = &result {
        for violation in rejection.violations() {
            assert!(
                !violation.message.is_empty() && !violation.remedy.is_empty(),
                "{lines:?}"
            );
        }
        if lines.len() == 1 {
            assert_eq!(site, before, "a refusal changes nothing");
        }
    }
}

fn pre(fixture: Fixture) -> Fixture {
    Fixture {
        complete: false,
        ..fixture
    }
}

fn locked(fixture: Fixture) -> Fixture {
    Fixture {
        locked: true,
        ..fixture
    }
}

fn dual(fixture: Fixture, kinds: &[NetworkKind]) -> Fixture {
    Fixture {
        dual: kinds.to_vec(),
        ..fixture
    }
}

const CLUSTER: [NetworkKind; 4] = [
    NetworkKind::Oam,
    NetworkKind::ClusterHost,
    NetworkKind::ClusterPod,
    NetworkKind::ClusterService,
];

#[test]
fn addrpool_add() {
    let site = Fixture::default();
    let table = [
        ("pool-add p 10.77.0.0/24", "ok"),
        (
            "pool-add p fd77::/64 floating=fd77::ffff:ffff:ffff:ffff",
            "ok",
        ),
        ("pool-add '' 10.77.0.0/24", "INVALID_ARGUMENT@name"),
        ("pool-add p 0.0.0.0/8", "INVALID_ARGUMENT@network"),
        ("pool-add p ::/64", "INVALID_ARGUMENT@network"),
        ("pool-add p 10.77.0.9/24", "INVALID_ARGUMENT@network"),
        ("pool-add p 10.77.0.0/31", "INVALID_ARGUMENT@prefix"),
        ("pool-add p fd77::/127", "INVALID_ARGUMENT@prefix"),
        ("pool-add p 10.77.0.0/33", "INVALID_ARGUMENT@prefix"),
        (
            "pool-add p ::ffff:10.77.0.0/120",
            "INVALID_ARGUMENT@network",
        ),
        (
            "pool-add p 10.77.0.0/24 order=zigzag",
            "INVALID_ARGUMENT@order",
        ),
        (
            "pool-add p 10.77.0.0/24 ranges=10.77.0.9-10.77.0.3",
            "INVALID_ARGUMENT@ranges[0]",
        ),
        (
            "pool-add p 10.77.0.0/24 ranges=10.77.0.0-10.77.0.255",
            "INVALID_ARGUMENT@ranges[0].first, INVALID_ARGUMENT@ranges[0].last",
        ),
        (
            "pool-add p 10.77.0.0/24 ranges=10.77.0.1-10.77.0.9,10.77.0.9-10.77.0.19",
            "INVALID_ARGUMENT@ranges[1]",
        ),
        (
            "pool-add p 10.77.0.0/24 floating=fd77::2",
            "INVALID_ARGUMENT@floating_address",
        ),
        (
            "pool-add p 10.77.0.0/24 gateway=10.78.0.1",
            "INVALID_ARGUMENT@gateway_address",
        ),
        (
            "pool-add p 10.77.0.0/24 ranges=10.77.0.10-10.77.0.20 floating=10.77.0.2 \
             gateway=10.77.0.1",
            "INVALID_ARGUMENT@floating_address",
        ),
        (
            "pool-add p 10.77.0.0/24 ranges=10.77.0.1-10.77.0.20,10.77.0.30-10.77.0.40 \
             floating=10.77.0.32 c0=10.77.0.2",
            "ok",
        ),
        (
            "pool-add p 10.77.0.0/24 floating=10.77.0.2 c0=10.77.0.2",
            "INVALID_ARGUMENT@controller0_address",
        ),
        // All faults at once, in the order of the fields.
        (
            "pool-add '' 10.77.0.9/24 order=up ranges=a-b floating=10.77.0",
            "INVALID_ARGUMENT@name, INVALID_ARGUMENT@network, INVALID_ARGUMENT@order, \
             INVALID_ARGUMENT@ranges[0].first, INVALID_ARGUMENT@ranges[0].last, \
             INVALID_ARGUMENT@floating_address",
        ),
        ("pool-add oam-ipv4 10.77.0.0/24", "NAME_TAKEN@name"),
        (
            "pool-add oam-ipv4 10.2.0.0/24 floating=10.2.0.2 c0=10.2.0.9",
            "NAME_TAKEN@name, ADDRESS_IN_USE@floating_address",
        ),
        ("pool-add p 10.2.0.0/24", "ok"),
    ];
    for (line, want) in table {
        check(&site, &[line], want);
    }
    check(
        &site,
        &[
            "pool-add a 10.77.0.0/24 floating=10.77.0.2",
            "pool-add b 10.77.0.0/24 floating=10.77.0.2",
        ],
        "ok",
    );
    let many: Vec<String> = (0..257)
        .map(|n| format!("10.{}.{}.1-10.{0}.{1}.2", n / 256, n % 256))
        .collect();
    let line = format!("pool-add p 10.0.0.0/8 ranges={}", many.join(","));
    check(&site, &[&line], "INVALID_ARGUMENT@ranges");
}

#[test]
fn addrpool_modify() {
    let table: &[(Fixture, &str, &str)] = &[
        (
            Fixture::default(),
            "pool-modify nope name=x",
            "POOL_NOT_FOUND@pool",
        ),
        (
            Fixture::default(),
            "pool-modify oam-ipv4 name=mgmt-ipv4",
            "NAME_TAKEN@name",
        ),
        (
            Fixture::default(),
            "pool-modify oam-ipv4 floating=",
            "ADDRESS_REQUIRED@floating_address",
        ),
        (Fixture::default(), "pool-modify oam-ipv4 gateway=", "ok"),
        (
            simplex(),
            "pool-modify oam-ipv4 floating=",
            "ADDRESS_REQUIRED@floating_address",
        ),
        (
            Fixture::default(),
            "pool-modify oam-ipv4 floating=10.2.0.3 c0=10.2.0.2",
            "ok",
        ),
        (
            Fixture::default(),
            "pool-modify oam-ipv4 network=fd77:: prefix=64",
            "FAMILY_IMMUTABLE@network",
        ),
        (
            Fixture::default(),
            "pool-modify oam-ipv4 network=10.77.0.0",
            "INVALID_ARGUMENT@ranges[0].first, INVALID_ARGUMENT@ranges[0].last, \
             INVALID_ARGUMENT@floating_address, INVALID_ARGUMENT@controller0_address, \
             INVALID_ARGUMENT@controller1_address, INVALID_ARGUMENT@gateway_address",
        ),
        (
            Fixture::default(),
            "pool-modify oam-ipv4 network=10.77.0.0 ranges= floating=10.77.0.2 c0=10.77.0.3 \
             c1=10.77.0.4 gateway=10.77.0.1",
            "ok",
        ),
        (
            Fixture::default(),
            "pool-modify oam-ipv4 network=10.3.0.0 ranges= floating=10.3.0.12 c0=10.3.0.13 \
             c1=10.3.0.14 gateway=",
            "ADDRESS_OVERLAP",
        ),
        (
            Fixture::default(),
            "pool-modify oam-ipv6 network=fd01:: ranges= floating= c0= c1= gateway=",
            "ok",
        ),
        (
            Fixture::default(),
            "pool-modify admin-ipv4 order=sequential",
            "ok",
        ),
        (
            Fixture::default(),
            "pool-modify mgmt-ipv4 name=x",
            "POOL_READ_ONLY",
        ),
        (
            Fixture::default(),
            "pool-modify cluster-host-ipv4 name=x",
            "POOL_READ_ONLY",
        ),
        (
            Fixture::default(),
            "pool-modify pxeboot-ipv4 order=up",
            "INVALID_ARGUMENT@order, POOL_READ_ONLY",
        ),
        (simplex(), "pool-modify mgmt-ipv4 name=x", "HOST_UNLOCKED"),
        (locked(simplex()), "pool-modify mgmt-ipv4 name=x", "ok"),
        (
            pre(standard()),
            "pool-modify mgmt-ipv4 ranges=10.1.0.1-10.1.0.5",
            "ok",
        ),
        (
            pre(standard()),
            "pool-modify mgmt-ipv4 ranges=10.1.0.1-10.1.0.4",
            "RANGE_EXCLUDES_ALLOCATED@ranges",
        ),
        (
            pre(standard()),
            "pool-modify mgmt-ipv4 c0=",
            "ADDRESS_REQUIRED@controller0_address",
        ),
        (
            pre(standard()),
            "pool-modify mgmt-ipv4 c0=10.1.0.5",
            "ADDRESS_IN_USE@controller0_address",
        ),
    ];
    for (fixture, line, want) in table {
        check(fixture, &[line], want);
    }
    let moved = [
        "pool-add a 10.77.0.0/24",
        "pool-modify a network=10.2.0.0 ranges=10.2.0.100-10.2.0.200",
    ];
    check(&Fixture::default(), &moved, "ADDRESS_OVERLAP");
}

#[test]
fn addrpool_delete() {
    let everything = dual(Fixture::default(), &NetworkKind::ALL[1..]);
    let table: &[(Fixture, &str, &str)] = &[
        (
            Fixture::default(),
            "pool-delete nope",
            "POOL_NOT_FOUND@pool",
        ),
        (
            Fixture::default(),
            "pool-delete admin-ipv4",
            "POOL_IS_PRIMARY",
        ),
        (
            pre(Fixture::default()),
            "pool-delete oam-ipv4",
            "POOL_IS_PRIMARY",
        ),
        (Fixture::default(), "pool-delete oam-ipv6", "ok"),
        (
            everything.clone(),
            "pool-delete cluster-host-ipv6",
            "POOL_READ_ONLY",
        ),
        (
            everything.clone(),
            "pool-delete multicast-ipv6",
            "POOL_READ_ONLY",
        ),
        (
            everything.clone(),
            "pool-delete mgmt-ipv6",
            "POOL_READ_ONLY",
        ),
        (
            everything.clone(),
            "pool-delete oam-ipv6",
            "CLUSTER_POD_NEEDS_OAM_FAMILY",
        ),
        (everything.clone(), "pool-delete admin-ipv6", "ok"),
        (pre(everything), "pool-delete multicast-ipv6", "ok"),
        (
            dual(simplex(), &[NetworkKind::Mgmt]),
            "pool-delete mgmt-ipv6",
            "ok",
        ),
    ];
    for (fixture, line, want) in table {
        let fixture = match *want {
            // The secondary of mgmt on simplex: locked only.
            "ok" if line.contains("mgmt") => locked(fixture.clone()),
            _ => fixture.clone(),
        };
        check(&fixture, &[line], want);
    }
    let unlocked = dual(simplex(), &[NetworkKind::Mgmt]);
    check(&unlocked, &["pool-delete mgmt-ipv6"], "HOST_UNLOCKED");
}

#[test]
fn network_add() {
    let site = Fixture::default();
    let pool = "pool-add s 10.77.0.0/24";
    let table: &[(&[&str], &str)] = &[
        (&[pool, "network-add s storage dynamic s"], "ok"),
        (
            &["network-add s data dynamic oam-ipv6"],
            "NETWORK_TYPE_UNSUPPORTED@type",
        ),
        (
            &["network-add s storage dynamic nope"],
            "POOL_NOT_FOUND@pool",
        ),
        (
            &[pool, "network-add s oam dynamic s"],
            "NETWORK_TYPE_EXISTS@type",
        ),
        (
            &[pool, "network-add s management dynamic s"],
            "NETWORK_TYPE_EXISTS@type",
        ),
        (
            &[pool, "network-add oam storage dynamic s"],
            "NAME_TAKEN@name",
        ),
        (
            &[
                "pool-add s 10.2.0.128/25",
                "network-add s storage dynamic s",
            ],
            "ADDRESS_OVERLAP",
        ),
        (
            &["network-add s storage dynamic oam-ipv6"],
            "PRIMARY_FAMILY_MISMATCH",
        ),
        (&["network-add s storage dynamic oam-ipv4"], "POOL_IN_USE"),
        (
            &["pool-add s 10.77.0.0/30", "network-add s storage dynamic s"],
            "POOL_EXHAUSTED",
        ),
    ];
    for (lines, want) in table {
        check(&site, lines, want);
    }
    let bare = Fixture {
        networks: vec![NetworkKind::Mgmt],
        ..Fixture::default()
    };
    let pxeboot = [
        "pool-add p fd77::/64",
        "network-add pxeboot pxeboot dynamic p",
    ];
    check(&bare, &pxeboot, "PXEBOOT_IPV4_ONLY");
    let pod = [
        "pool-add p 10.77.0.0/24",
        "network-add pod cluster-pod dynamic p",
    ];
    check(&bare, &pod, "OAM_FAMILY_REQUIRED");
    // The two exceptions of I6.
    let oam = Fixture {
        networks: vec![NetworkKind::Oam],
        ..Fixture::default()
    };
    let near = [
        "pool-add p 10.2.0.0/24",
        "network-add x system-controller-oam static p",
    ];
    check(&oam, &near, "ok");
    let three = [
        "pool-add h 10.77.0.0/16",
        "pool-add s 10.77.0.0/16",
        "network-add h cluster-host dynamic h",
        "network-add s cluster-service static s",
    ];
    check(&oam, &three, "ok");
}

#[test]
fn network_delete() {
    let ok = ["admin", "multicast"];
    let never = [
        "cluster-host",
        "cluster-pod",
        "cluster-service",
        "pxeboot",
        "mgmt",
    ];
    let site = Fixture::default();
    for name in ok {
        check(&site, &[&format!("network-delete {name}")], "ok");
    }
    for name in never {
        check(
            &site,
            &[&format!("network-delete {name}")],
            "NETWORK_REQUIRES_REINSTALL",
        );
    }
    let oam = "NETWORK_REQUIRES_REINSTALL, CLUSTER_POD_NEEDS_OAM_FAMILY";
    check(&site, &["network-delete oam"], oam);
    check(&site, &["network-delete 99"], "NETWORK_NOT_FOUND@network");
    check(&simplex(), &["network-delete mgmt"], "HOST_UNLOCKED");
    check(&locked(simplex()), &["network-delete mgmt"], "ok");
    check(
        &pre(Fixture::default()),
        &["network-delete cluster-host"],
        "ok",
    );
    check(
        &pre(Fixture::default()),
        &["network-delete oam"],
        "CLUSTER_POD_NEEDS_OAM_FAMILY",
    );
}

#[test]
fn network_addrpool_assign() {
    let old = SoftwareVersion { year: 24, month: 8 };
    let table: &[(Fixture, &[&str], &str)] = &[
        (Fixture::default(), &["assign oam oam-ipv6"], "ok"),
        (Fixture::default(), &["assign management mgmt-ipv6"], "ok"),
        (
            Fixture::default(),
            &["assign nope nope"],
            "NETWORK_NOT_FOUND@network, POOL_NOT_FOUND@pool",
        ),
        (simplex(), &["assign mgmt mgmt-ipv6"], "HOST_UNLOCKED"),
        (locked(simplex()), &["assign mgmt mgmt-ipv6"], "ok"),
        (
            Fixture::default(),
            &["assign pxeboot oam-ipv6"],
            "NETWORK_REQUIRES_REINSTALL, PXEBOOT_IPV4_ONLY",
        ),
        (
            pre(Fixture::default()),
            &["assign pxeboot oam-ipv6"],
            "PXEBOOT_IPV4_ONLY",
        ),
        (
            Fixture::default(),
            &[
                "pool-add x fd02::/48",
                "assign oam oam-ipv6",
                "assign admin x",
            ],
            "ADDRESS_OVERLAP",
        ),
        (
            dual(Fixture::default(), &[NetworkKind::Oam]),
            &["pool-add x fd77::/64", "assign oam x"],
            "NETWORK_HAS_TWO_POOLS, FAMILY_ALREADY_PRESENT",
        ),
        (
            Fixture::default(),
            &["pool-add x 10.77.0.0/24", "assign oam x"],
            "FAMILY_ALREADY_PRESENT",
        ),
        (
            dual(Fixture::default(), &[NetworkKind::Oam]),
            &["assign admin oam-ipv6"],
            "POOL_IN_USE",
        ),
        (
            Fixture::default(),
            &["assign cluster-pod cluster-pod-ipv6"],
            "OAM_FAMILY_REQUIRED",
        ),
        (
            Fixture {
                version: old,
                ..Fixture::default()
            },
            &["assign oam oam-ipv6"],
            "DUAL_STACK_UNSUPPORTED_BY_VERSION",
        ),
        (
            Fixture::default(),
            &["pool-add q fd77::/126", "assign mgmt q"],
            "POOL_EXHAUSTED",
        ),
        (
            standard(),
            &[
                "pool-add q fd77::/64 ranges=fd77::1-fd77::3",
                "assign mgmt q",
            ],
            "POOL_EXHAUSTED",
        ),
    ];
    for (fixture, lines, want) in table {
        check(fixture, lines, want);
    }
}

#[test]
fn network_addrpool_remove() {
    let cluster = dual(Fixture::default(), &CLUSTER);
    check(
        &cluster,
        &["remove oam oam-ipv4"],
        "POOL_IS_PRIMARY, CLUSTER_POD_NEEDS_OAM_FAMILY",
    );
    check(
        &cluster,
        &["remove oam oam-ipv6"],
        "CLUSTER_POD_NEEDS_OAM_FAMILY",
    );
    check(
        &cluster,
        &["remove cluster-pod cluster-pod-ipv6", "remove oam oam-ipv6"],
        "ok",
    );
    check(
        &cluster,
        &["remove mgmt oam-ipv6"],
        "NETWORK_ADDRPOOL_NOT_FOUND@pool",
    );
    let pxeboot = ["remove pxeboot pxeboot-ipv4"];
    check(
        &cluster,
        &pxeboot,
        "POOL_IS_PRIMARY, NETWORK_REQUIRES_REINSTALL",
    );
    let mgmt = dual(simplex(), &[NetworkKind::Mgmt]);
    check(&mgmt, &["remove mgmt mgmt-ipv6"], "HOST_UNLOCKED");
    check(&locked(mgmt), &["remove mgmt mgmt-ipv6"], "ok");
    let oam = dual(Fixture::default(), &[NetworkKind::Oam]);
    let dns = ["dns-modify fd02::53,10.2.0.53", "remove oam oam-ipv6"];
    check(&oam, &dns, "DNS_NEEDS_OAM_FAMILY");
}

#[test]
fn dns_modify() {
    let site = Fixture::default();
    let table = [
        ("dns-modify 10.2.0.53,10.2.0.54", "ok"),
        ("dns-modify ", "ok"),
        (
            "dns-modify 10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4",
            "INVALID_ARGUMENT@servers",
        ),
        (
            "dns-modify name,10.0.0.01",
            "INVALID_ARGUMENT@servers[0], INVALID_ARGUMENT@servers[1]",
        ),
        (
            "dns-modify 10.0.0.1,10.0.0.1",
            "INVALID_ARGUMENT@servers[1]",
        ),
        (
            "dns-modify 10.0.0.1,fd00::53",
            "DNS_FAMILY_NOT_ON_OAM@servers[1]",
        ),
    ];
    for (line, want) in table {
        check(&site, &[line], want);
    }
}

#[test]
fn oam_modify() {
    let table: &[(Fixture, &str, &str)] = &[
        (
            Fixture::default(),
            "oam-modify oam_floating_ip=10.2.0.60",
            "ok",
        ),
        (simplex(), "oam-modify oam_ip=10.2.0.60", "ok"),
        (
            simplex(),
            "oam-modify oam_c0_ip=10.2.0.60",
            "INVALID_ARGUMENT@oam_c0_ip",
        ),
        (
            Fixture::default(),
            "oam-modify oam_ip=10.2.0.60",
            "INVALID_ARGUMENT@oam_ip",
        ),
        (
            Fixture::default(),
            "oam-modify oam_subnet=10.77.0.0/24 oam_gateway_ip=10.77.0.1 \
             oam_floating_ip=10.77.0.2 oam_c0_ip=10.77.0.3 oam_c1_ip=10.77.0.4",
            "ok",
        ),
        (
            Fixture::default(),
            "oam-modify oam_subnet=fd77::/64",
            "FAMILY_IMMUTABLE@oam_subnet",
        ),
        (
            Fixture::default(),
            "oam-modify oam_subnet=10.2.0.7/24",
            "INVALID_ARGUMENT@oam_subnet",
        ),
        (
            Fixture::default(),
            "oam-modify oam_subnet=abc",
            "INVALID_ARGUMENT@oam_subnet",
        ),
        (
            Fixture::default(),
            "oam-modify oam_gateway_ip=",
            "INVALID_ARGUMENT@oam_gateway_ip",
        ),
        (
            Fixture {
                primary: Family::Ipv6,
                ..Fixture::default()
            },
            "oam-modify oam_floating_ip=fd02::ffff:ffff:ffff:ffff",
            "INVALID_ARGUMENT@oam_floating_ip",
        ),
    ];
    for (fixture, line, want) in table {
        check(fixture, &[line], want);
    }
}

#[test]
fn controller_networks() {
    let subcloud = Fixture {
        role: DistributedCloudRole::Subcloud,
        ..Fixture::default()
    };
    check(
        &Fixture::default(),
        &["controller 192.168.0.0/24"],
        "NOT_A_SUBCLOUD",
    );
    check(
        &subcloud,
        &["controller 192.168.0.0/24 192.168.1.0/24"],
        "ok",
    );
    check(
        &subcloud,
        &["controller 192.168.0.9/24"],
        "INVALID_ARGUMENT@link.network",
    );
    check(
        &subcloud,
        &["controller fd77::/64"],
        "PRIMARY_FAMILY_MISMATCH@link.subnet",
    );
    check(
        &subcloud,
        &["controller 10.3.0.0/16"],
        "ADDRESS_OVERLAP@link.subnet",
    );
    // The oam networks of both may be one, the link networks not.
    check(&subcloud, &["controller 192.168.0.0/24 10.2.0.0/24"], "ok");
    check(
        &subcloud,
        &["controller 192.168.0.0/24 192.168.0.0/24"],
        "ADDRESS_OVERLAP@oam.subnet",
    );
    let swapped = [
        "controller 192.168.0.0/24 192.168.1.0/24",
        "controller 192.168.1.0/24 192.168.0.0/24",
    ];
    check(&subcloud, &swapped, "ok");
}
