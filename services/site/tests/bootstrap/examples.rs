//! The files of deploy/examples: what the whole ones install, and what is said of the others.

use std::fs;

use site::bootstrap::{Declared, parse, parse_link, render};
use site::{DistributedCloudRole, Family, NetworkKind, Range, Site, Stack};
use uuid::Uuid;

use crate::{check_golden, reasons, repository};

/// File, role, primary family, stack of the link network, kind of the link network.
const WHOLE: [(&str, DistributedCloudRole, Family, Stack, NetworkKind); 5] = [
    (
        "controller.yaml",
        DistributedCloudRole::SystemController,
        Family::Ipv6,
        Stack::Dual,
        NetworkKind::Mgmt,
    ),
    (
        "subcloud-v6.yaml",
        DistributedCloudRole::Subcloud,
        Family::Ipv6,
        Stack::Single,
        NetworkKind::Admin,
    ),
    (
        "subcloud-v6-dual.yaml",
        DistributedCloudRole::Subcloud,
        Family::Ipv6,
        Stack::Dual,
        NetworkKind::Admin,
    ),
    (
        "subcloud-v4.yaml",
        DistributedCloudRole::Subcloud,
        Family::Ipv4,
        Stack::Single,
        NetworkKind::Mgmt,
    ),
    (
        "subcloud-v4-dual.yaml",
        DistributedCloudRole::Subcloud,
        Family::Ipv4,
        Stack::Dual,
        NetworkKind::Mgmt,
    ),
];

fn read(file: &str) -> Vec<u8> {
    fs::read(repository("deploy/examples").join(file)).unwrap()
}

fn declared(file: &str) -> Declared {
    parse(file, &read(file)).unwrap_or_else(|faults| panic!("{faults}"))
}

pub(crate) fn install(declared: &Declared) -> Site {
    let mut next = 0;
    let mut ids = || {
        next += 1;
        Uuid::from_u128(next)
    };
    declared
        .install(&mut ids)
        .unwrap_or_else(|rejection| panic!("{rejection}"))
}

#[test]
fn whole_files_install() {
    for (file, role, family, stack, link) in WHOLE {
        let declared = declared(file);
        assert_eq!(declared.warnings(), [], "{file}");
        let site = install(&declared);
        assert_eq!(site.identity().role, role, "{file}");
        assert_eq!(site.primary_family(), Some(family), "{file}");
        assert_eq!(site.stack(), stack, "{file}");
        assert_eq!(site.link_network().unwrap().kind(), link, "{file}");
        assert!(site.initial_config_complete(), "{file}");
        let as_link = parse_link(file, &read(file));
        if role == DistributedCloudRole::Subcloud {
            assert_eq!(
                as_link.unwrap().link_network(),
                declared.link().link_network(),
                "{file}"
            );
        } else {
            assert_eq!(reasons(&as_link.unwrap_err()), ["ROLE_MISMATCH"], "{file}");
        }
    }
}

/// Names, numbers and addresses as an installation gives them out.
#[test]
fn the_controller_in_detail() {
    let site = install(&declared("controller.yaml"));
    let mut lines = Vec::new();
    for network in site.networks() {
        for (rank, end) in network.pools().iter() {
            let pool = site.pool(end.pool).unwrap();
            let addresses: Vec<_> = pool
                .addresses()
                .iter()
                .map(|(role, address)| format!("{}={address}", role.field()))
                .chain(
                    pool.holders()
                        .iter()
                        .map(|(address, holder)| format!("{holder}={address}")),
                )
                .collect();
            lines.push(format!(
                "{} {} dynamic={} {rank}: {} {} {} {}\n",
                network.id().0,
                network.name(),
                network.dynamic(),
                pool.name(),
                pool.subnet(),
                pool.ranges()
                    .iter()
                    .map(Range::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
                addresses.join(" "),
            ));
        }
    }
    lines.extend(
        site.hosts()
            .map(|host| format!("{} {:?}\n", host.hostname, host.administrative)),
    );
    lines.push(format!(
        "dns {:?} kubernetes {:?}\n",
        site.dns_servers(),
        site.kubernetes()
    ));
    check_golden(&golden("bootstrap-controller.txt"), &lines.concat());
}

/// A site of which nothing is defaulted in silence.
#[test]
fn defaults_are_listed() {
    let declared = declared("subcloud-v4.yaml");
    let lines: String = declared
        .assumed()
        .iter()
        .map(|assumed| format!("{}: {}\n", assumed.variable, assumed.value))
        .collect();
    check_golden(&golden("bootstrap-assumed.txt"), &lines);
    // Written down, the defaults declare the same site, and nothing is assumed any more.
    let dns = declared
        .assumed()
        .iter()
        .filter(|assumed| assumed.value != "none");
    let written: String = dns
        .map(|assumed| format!("{}: {}\n", assumed.variable, assumed.value))
        .collect();
    let whole = [read("subcloud-v4.yaml"), written.into_bytes()].concat();
    let explicit = parse("explicit", &whole).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(explicit.assumed(), []);
    assert_eq!(explicit.link().networks(), declared.link().networks());
}

/// One distributed cloud can hold the sites of one family; the sites of the other one are ready
/// for a controller whose values are swapped.
#[test]
fn the_sites_fit_together() {
    let controller = declared("controller.yaml");
    let links = WHOLE.map(|(file, ..)| declared(file));
    let subnets = |declared: &Declared| {
        declared
            .link()
            .link_network()
            .pools()
            .map(|pool| pool.subnet)
            .collect::<Vec<_>>()
    };
    for (index, site) in links.iter().enumerate() {
        for (other_index, other) in links.iter().enumerate() {
            let oam: Vec<_> = site.link().oam().pools().map(|pool| pool.subnet).collect();
            for link in subnets(other) {
                let meets = |subnet: &ipnet::IpNet| subnet.contains(&link) || link.contains(subnet);
                assert!(!oam.iter().any(meets), "{} oam", site.name());
                assert!(index == other_index || !subnets(site).iter().any(meets));
            }
            assert!(index == other_index || site.name() != other.name());
        }
        for gateway in site.link().systemcontroller_gateways() {
            let towards = controller.link().link_network();
            let pool = towards
                .pools()
                .find(|pool| pool.subnet.contains(gateway))
                .unwrap();
            assert!(
                !pool.range.contains(*gateway),
                "{gateway} of {}",
                site.name()
            );
        }
    }
}

/// Services get the same addresses whether multicast comes with the installation or later.
#[test]
fn multicast_services_are_those_of_a_later_attachment() {
    let text = String::from_utf8(read("subcloud-v4.yaml")).unwrap();
    let site = install(&parse("file", text.as_bytes()).unwrap());
    let change = |change| {
        let plan = site::plan(&site, change, site::Timestamp(0));
        plan.unwrap_or_else(|rejection| panic!("{rejection}"))
    };
    let deleted = change(site::Change::DeleteNetwork {
        network: "multicast".into(),
    });
    let add = site::Change::AddNetwork {
        uuid: Uuid::from_u128(900),
        attachment: site::AttachmentId(Uuid::from_u128(901)),
        name: String::new(),
        kind: "multicast".into(),
        dynamic: false,
        pool: "multicast-ipv4".into(),
    };
    let again = site::plan(deleted.next(), add, site::Timestamp(0)).unwrap();
    let holders = |site: &Site| {
        let pool = site
            .pools()
            .find(|pool| pool.name() == "multicast-ipv4")
            .unwrap();
        pool.holders().clone()
    };
    assert_eq!(holders(&site).len(), 4);
    assert_eq!(holders(again.next()), holders(&site));
}

fn golden(file: &str) -> std::path::PathBuf {
    repository("services/site/tests/golden").join(file)
}

/// The guide's block as printed: two of its lines overlap, and a name and a mode are missing.
#[test]
fn the_guides_block() {
    let text = read("guide-block.yaml");
    let faults = parse("guide-block.yaml", &text).unwrap_err();
    assert_eq!(
        reasons(&faults),
        ["ADDRESS_OVERLAP", "VALUE_MISSING", "VALUE_MISSING"]
    );
    let underlined: Vec<_> = faults.faults()[0]
        .labels
        .iter()
        .map(|label| (label.line, label.column, label.text.as_str()))
        .collect();
    assert_eq!(
        underlined,
        [(11, 36, "198.51.100.0/24"), (1, 17, "198.51.100.0/24")]
    );
    let rendered = render("guide-block.yaml", &text, &faults, false);
    check_golden(&golden("bootstrap-guide-block.txt"), &rendered);
}

#[test]
fn the_faulty_file() {
    let text = read("faulty.yaml");
    let faults = parse("faulty.yaml", &text).unwrap_err();
    let mut different = reasons(&faults);
    different.sort_unstable();
    different.dedup();
    assert!(different.len() >= 6, "{different:?}");
    let rendered = render("faulty.yaml", &text, &faults, false);
    check_golden(&golden("bootstrap-faulty.txt"), &rendered);
    let colored = render("faulty.yaml", &text, &faults, true);
    assert!(colored.contains("\u{1b}["), "no colour");
}

/// The same faults for a request: one violation each, with its variable and place.
#[test]
fn faults_as_a_rejection() {
    let faults = parse("guide-block.yaml", &read("guide-block.yaml")).unwrap_err();
    let rejection = faults.rejection().unwrap();
    let first = rejection.first();
    assert_eq!(first.field, "cluster_host_subnet");
    assert_eq!(first.metadata["line"], "11");
    assert_eq!(first.metadata["column"], "36");
    assert_eq!(first.metadata["text"], "198.51.100.0/24");
    assert_eq!(rejection.violations().len(), faults.faults().len());
}
