//! Every rule of admission, its reason, and that all of them are reported in order.

use crate::common::{
    add, answer, at, controller, enroll, installed, installed_from, key, reasons, recovered,
    settle, site, token,
};
use fleet::admission::{Occasion, admit, check_family};
use fleet::{
    Candidate, Code, Enrollment, Footprint, Input, Outcome, Output, Reason, ReasonSet, Records,
    Write,
};
use site::Site;

/// Adds and enrolls sites 1, 2, … on a controller, and gives the reasons of the last.
fn check(layout: &str, before: &[Site], last: &Site, expected: &[&str]) {
    let mut machine = controller(layout);
    for (index, site) in before.iter().chain([last]).enumerate() {
        let number = u8::try_from(index + 1).expect("few sites");
        let name = &site.identity().name;
        answer(settle(
            &mut machine,
            at(0),
            Input::AddSubcloud(add(number, name)),
        ))
        .expect("added");
        let outputs = settle(&mut machine, at(1), Input::Enroll(enroll(number, site)));
        let outcome = answer(outputs);
        if index < before.len() {
            assert_eq!(reasons(&outcome), Vec::<&str>::new(), "{name} belongs in");
        } else {
            assert_eq!(reasons(&outcome), expected, "{layout}: {outcome:?}");
            let record = machine.fleet().by_name(name).expect("its record stays");
            assert_eq!(record.enrolled().is_some(), expected.is_empty());
        }
    }
}

#[test]
fn exactly_equal_primary_families_are_accepted() {
    for ours in ["4", "6", "46", "64"] {
        for theirs in ["4", "6", "46", "64"] {
            let equal = ours.as_bytes()[0] == theirs.as_bytes()[0];
            let expected: &[&str] = if equal {
                &[]
            } else {
                &["PRIMARY_FAMILY_MISMATCH"]
            };
            check(ours, &[], &site("s", 1, theirs), expected);
        }
    }
}

#[test]
fn a_mismatch_tells_its_facts() {
    let mut machine = controller("64");
    let site = site("s", 1, "46");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")));
    let refused = answer(settle(&mut machine, at(1), Input::Enroll(enroll(1, &site)))).unwrap_err();
    let first = refused.first();
    assert_eq!(first.reason.code(), Code::FailedPrecondition);
    let facts: Vec<(&str, &str)> = first
        .metadata
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    assert_eq!(
        facts,
        [
            ("controllerFamily", "IPv6"),
            ("network", "mgmt"),
            ("rule", "F4"),
            ("subcloudFamily", "IPv4"),
            ("subcloudHasControllerFamilyAsSecondary", "true"),
        ]
    );
    assert!(first.remedy.contains("IPv6"));
}

#[test]
fn overlapping_ranges_are_refused_in_either_family() {
    let first = site("first", 1, "46");
    check(
        "4",
        std::slice::from_ref(&first),
        &site("second", 1, "4"),
        &["ADDRESS_OVERLAP"],
    );
    // Both pools overlap, and each is a violation of its own.
    let twin = site("second", 1, "46");
    check(
        "4",
        &[first],
        &twin,
        &["ADDRESS_OVERLAP", "ADDRESS_OVERLAP"],
    );
    // The controller's own ranges count as well.
    check("4", &[], &site("second", 200, "4"), &["ADDRESS_OVERLAP"]);
}

#[test]
fn a_shared_subnet_with_disjoint_ranges_is_a_warning() {
    let mut machine = controller("4");
    let first = site("first", 1, "4");
    let mut parts = site("second", 1, "4").to_parts();
    let link = parts
        .pools
        .iter_mut()
        .find(|pool| pool.subnet == first.link_pool().unwrap().subnet());
    let link = link.expect("the link pool");
    link.ranges = vec![("10.1.0.150".parse().unwrap(), "10.1.0.200".parse().unwrap())];
    link.addresses.floating = Some("10.1.0.150".parse().unwrap());
    link.holders.clear();
    let second = Site::from_parts(parts).expect("valid");
    for (number, site) in [(1, &first), (2, &second)] {
        let call = add(number, &site.identity().name);
        answer(settle(&mut machine, at(0), Input::AddSubcloud(call))).expect("added");
        let receipt = answer(settle(
            &mut machine,
            at(1),
            Input::Enroll(enroll(number, site)),
        ));
        let warnings = receipt.expect("accepted").warnings;
        let names: Vec<_> = warnings.iter().map(|warning| warning.reason).collect();
        assert_eq!(
            names,
            if number == 1 {
                vec![]
            } else {
                vec![Reason::SharedSubnet]
            }
        );
    }
}

/// Both with the link subnet `fd01:1::/64`, whose last address is outside the default ranges: the
/// lines of the file of one that has it as floating address and names no range, and of one whose
/// range is that address.
const AT_THE_END: [&str; 2] = [
    "management_floating_address: fd01:1::ffff:ffff:ffff:ffff\n",
    "management_start_address: fd01:1::ffff:ffff:ffff:ffff\n",
];

/// The file of a site of this number with IPv6 and these lines for its link pool.
fn at_the_end(number: u8, lines: &str) -> String {
    format!(
        "name: s{number}\nregion_name: r{number}\nsystem_mode: simplex\nmanagement_subnet: \
         fd01:1::/64\n{lines}external_oam_subnet: fd02:{number}::/64\n\
         external_oam_gateway_address: fd02:{number}::1\nexternal_oam_floating_address: \
         fd02:{number}::3\ncluster_host_subnet: fd03::/64\ncluster_pod_subnet: fd04::/64\n\
         cluster_service_subnet: fd05::/112\n"
    )
}

#[test]
fn two_sites_never_have_one_link_address() {
    for order in [[0, 1], [1, 0]] {
        let files = [(1, order[0]), (2, order[1])]
            .map(|(number, which)| at_the_end(number, AT_THE_END[which]));
        let [one, other] = [installed_from(1, &files[0]), installed_from(2, &files[1])];
        assert_eq!(one.link_address(), other.link_address());
        check(
            "6",
            std::slice::from_ref(&one),
            &other,
            &["ADDRESS_OVERLAP"],
        );

        // The same as they are declared.
        let mut machine = controller("6");
        let outcomes = [(1, &files[0]), (2, &files[1])].map(|(number, file)| {
            let link = site::bootstrap::parse_link("test.yaml", file.as_bytes());
            let name = format!("s{number}");
            let candidate = Candidate::of_file(&name, &link.expect("faultless"));
            let mut call = add(number, &name);
            call.declared = Some(Box::new(candidate));
            reasons(&answer(settle(
                &mut machine,
                at(0),
                Input::AddSubcloud(call),
            )))
        });
        assert_eq!(outcomes, [vec![], vec!["ADDRESS_OVERLAP"]]);
    }
}

#[test]
fn oam_and_link_subnets_of_different_sites_keep_apart_both_ways() {
    let with_oam = |name: &str, number, subnet: &str| {
        let mut parts = site(name, number, "4").to_parts();
        let pool = parts
            .pools
            .iter_mut()
            .find(|pool| pool.name == "oam-ipv4")
            .expect("oam");
        pool.subnet = subnet.parse().unwrap();
        let host = |last| pool.subnet.hosts().nth(last).unwrap();
        pool.ranges = vec![(host(0), host(100))];
        pool.addresses.floating = Some(host(2));
        pool.addresses.gateway = Some(host(0));
        Site::from_parts(parts).expect("valid")
    };
    let plain = |number| site("first", number, "4");
    // Its oam lies inside, and then around, another's link subnet.
    check(
        "4",
        &[plain(7)],
        &with_oam("x", 1, "10.7.0.128/25"),
        &["ADDRESS_OVERLAP"],
    );
    check(
        "4",
        &[plain(7)],
        &with_oam("x", 1, "10.6.0.0/15"),
        &["ADDRESS_OVERLAP"],
    );
    // Its link subnet lies in another's oam.
    let wide = with_oam("first", 1, "10.6.0.0/15");
    check("4", &[wide], &site("x", 7, "4"), &["ADDRESS_OVERLAP"]);
    // Two oam subnets may be the same.
    let same = with_oam("x", 2, "10.9.1.0/24");
    check("4", &[with_oam("first", 1, "10.9.1.0/24")], &same, &[]);
}

/// A site whose link is admin, of this number, beside the default mgmt.
fn behind_admin(name: &str, number: u8) -> Site {
    let admin = format!(
        "admin_subnet: 10.{number}.2.0/24\nadmin_start_address: 10.{number}.2.2\n\
         admin_end_address: 10.{number}.2.100\nadmin_gateway_address: 10.{number}.2.1\n"
    );
    installed(name, number, "4", "24.09", &admin)
}

/// What a mgmt beside the link meets is asked when a site is declared, so that whoever installs it
/// learns of it. Later it would hit a site that has done nothing, for others may come with link
/// addresses like its mgmt.
#[test]
fn mgmt_beside_the_link_is_judged_when_a_site_is_declared_and_never_later() {
    let (first, second) = (behind_admin("first", 1), site("second", 1, "4"));
    // In either order both belong in.
    check("4", std::slice::from_ref(&first), &second, &[]);
    check("4", std::slice::from_ref(&second), &first, &[]);

    let mut machine = controller("4");
    for (number, site) in [(1, &first), (2, &second)] {
        let call = add(number, &site.identity().name);
        answer(settle(&mut machine, at(0), Input::AddSubcloud(call))).expect("added");
        let call = enroll(number, site);
        answer(settle(&mut machine, at(1), Input::Enroll(call))).expect("enrolled");
    }
    let fleet = machine.fleet();
    let candidate = Candidate::of_report(&first.to_parts());
    let own = fleet.by_name("first").expect("it enrolled").id;
    let ask = |occasion| reasons(&admit(fleet, &candidate, occasion));
    let name = "first";
    let source = None;
    assert_eq!(ask(Occasion::Report { own, name }), [""; 0]);
    assert_eq!(ask(Occasion::Enrollment { own, name, source }), [""; 0]);
    let declared = ask(Occasion::Declaration { name });
    assert_eq!(declared, ["SUBCLOUD_NAME_TAKEN", "ADDRESS_OVERLAP"]);
}

#[test]
fn an_invalid_site_tells_every_fault_and_every_other_rule() {
    let mut machine = controller("4");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")));
    let mut call = enroll(1, &site("s", 1, "6"));
    let mut parts = site::SiteParts::clone(&call.report.site);
    parts.dns_servers = vec!["8.8.8.8".parse().unwrap(); 4];
    call.report.site = std::sync::Arc::new(parts);
    let outcome = answer(settle(&mut machine, at(1), Input::Enroll(call)));
    let found = reasons(&outcome);
    assert_eq!(found.first(), Some(&"SITE_INVALID"));
    assert_eq!(found.last(), Some(&"PRIMARY_FAMILY_MISMATCH"));
    let refused = outcome.unwrap_err();
    assert_eq!(refused.first().reason.code(), Code::InvalidArgument);
    assert!(refused.first().metadata.contains_key("siteReason"));
}

#[test]
fn dual_stack_needs_24_09() {
    let machine = controller("4");
    let mut footprint = Footprint::of(&site("s", 1, "46").to_parts());
    footprint.software_version = "23.09".parse().unwrap();
    let ask = |footprint| {
        let candidate = Candidate::declared(footprint);
        admit(
            machine.fleet(),
            &candidate,
            Occasion::Declaration { name: "s" },
        )
    };
    assert_eq!(
        reasons(&ask(footprint.clone())),
        ["DUAL_STACK_UNSUPPORTED_BY_VERSION"]
    );
    footprint.dual_stack.clear();
    assert_eq!(reasons(&ask(footprint)), Vec::<&str>::new());
    // A report of such a site is refused for the same reason and not as an invalid site.
    let mut parts = site("s", 1, "46").to_parts();
    parts.identity.software_version = "23.09".parse().unwrap();
    let outcome = admit(
        machine.fleet(),
        &Candidate::of_report(&parts),
        Occasion::Declaration { name: "s" },
    );
    assert_eq!(reasons(&outcome), ["DUAL_STACK_UNSUPPORTED_BY_VERSION"]);
}

#[test]
fn the_source_must_be_in_the_primary_pool() {
    let mut machine = controller("46");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")));
    let ask = |machine: &mut _, source: &str| {
        let mut call = enroll(1, &site("s", 1, "46"));
        call.source = source.parse().unwrap();
        call.validate_only = true;
        answer(settle(machine, at(1), Input::Enroll(call)))
    };
    assert_eq!(
        reasons(&ask(&mut machine, "10.3.0.1")),
        ["SOURCE_NOT_IN_PRIMARY_POOL"]
    );
    assert_eq!(
        reasons(&ask(&mut machine, "fd01:1::2")),
        ["SOURCE_NOT_IN_PRIMARY_POOL"]
    );
    assert_eq!(
        reasons(&ask(&mut machine, "::ffff:10.1.0.9")),
        Vec::<&str>::new()
    );
}

#[test]
fn a_full_fleet_takes_nobody_more() {
    let mut machine = recovered("4", Records::default(), 1);
    assert!(answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "a")))).is_ok());
    let refused = answer(settle(&mut machine, at(0), Input::AddSubcloud(add(2, "b"))));
    assert_eq!(reasons(&refused), ["FLEET_FULL"]);
    // The pending record does not count against itself.
    let outcome = settle(
        &mut machine,
        at(1),
        Input::Enroll(enroll(1, &site("a", 1, "4"))),
    );
    assert!(answer(outcome).is_ok());
}

#[test]
fn gateways_lie_on_the_controllers_link_network_outside_its_ranges() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("4", "10.200.0.1", &[]),
        ("4", "10.200.0.101", &[]),
        ("4", "10.200.0.50", &["CONTROLLER_GATEWAY_INVALID"]),
        ("4", "10.200.0.0", &["CONTROLLER_GATEWAY_INVALID"]),
        ("4", "10.200.0.255", &["CONTROLLER_GATEWAY_INVALID"]),
        ("4", "10.201.0.1", &["CONTROLLER_GATEWAY_INVALID"]),
        (
            "4",
            "10.200.0.1,fd01:200::1",
            &["CONTROLLER_GATEWAY_INVALID"],
        ),
        ("46", "10.200.0.1,fd01:200::1", &[]),
        (
            "46",
            "10.200.0.1,10.200.0.1",
            &["CONTROLLER_GATEWAY_INVALID"],
        ),
        (
            "46",
            "10.200.0.1,fd01:200::50",
            &["CONTROLLER_GATEWAY_INVALID"],
        ),
    ];
    for (layout, gateways, expected) in cases {
        let machine = controller(layout);
        let mut footprint = Footprint::of(&site("s", 1, "4").to_parts());
        footprint.systemcontroller_gateways = gateways
            .split(',')
            .map(|gateway| gateway.parse().unwrap())
            .collect();
        let candidate = Candidate::declared(footprint);
        let outcome = admit(
            machine.fleet(),
            &candidate,
            Occasion::Declaration { name: "s" },
        );
        assert_eq!(&reasons(&outcome), expected, "{layout} {gateways}");
    }
}

#[test]
fn names_and_regions_are_unique() {
    let mut machine = controller("4");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "a")));
    settle(
        &mut machine,
        at(1),
        Input::Enroll(enroll(1, &site("a", 1, "4"))),
    );
    let mut footprint = Footprint::of(&site("b", 2, "4").to_parts());
    footprint.region_name = "region-a".to_owned();
    let declared = Candidate::declared(footprint);
    for (name, expected) in [
        ("b", vec!["REGION_NAME_TAKEN"]),
        (
            "a",
            // The region is that of the very subcloud whose name is taken.
            vec!["SUBCLOUD_NAME_TAKEN", "SITE_NAME_MISMATCH"],
        ),
    ] {
        let mut call = add(2, name);
        call.declared = Some(Box::new(declared.clone()));
        assert_eq!(
            reasons(&answer(settle(
                &mut machine,
                at(2),
                Input::AddSubcloud(call)
            ))),
            expected
        );
    }
    for name in [
        "",
        "-a",
        "a b",
        "ä",
        &"x".repeat(64),
        "5f0ee2c2-3f1f-4a86-b7a4-7a3c52f0d0c1",
    ] {
        let outcome = answer(settle(
            &mut machine,
            at(2),
            Input::AddSubcloud(add(3, name)),
        ));
        assert_eq!(reasons(&outcome), ["INVALID_NAME"], "{name}");
    }
}

#[test]
fn everything_that_fails_is_told_in_the_order_of_the_rules() {
    let mut machine = controller("46");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "a")));
    settle(
        &mut machine,
        at(1),
        Input::Enroll(enroll(1, &site("a", 1, "46"))),
    );
    let mut footprint = Footprint::of(&site("b", 1, "64").to_parts());
    footprint.region_name = "region-a".to_owned();
    footprint.software_version = "22.12".parse().unwrap();
    footprint.systemcontroller_gateways = vec!["fd01:200::1".parse().unwrap()];
    let candidate = Candidate::declared(footprint);
    let outcome = admit(
        machine.fleet(),
        &candidate,
        Occasion::Declaration { name: "b" },
    );
    let refused = outcome.unwrap_err();
    let rules: Vec<&str> = refused
        .violations()
        .iter()
        .map(|violation| violation.metadata["rule"].as_str())
        .collect();
    assert_eq!(rules, ["F4", "F5", "F6", "F6", "F7", "F10"]);
}

#[test]
fn a_wrong_token_is_one_message_outside_and_four_in_the_audit_log() {
    let site = site("a", 1, "4");
    let mut machine = controller("4");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "a")));
    settle(&mut machine, at(0), Input::AddSubcloud(add(2, "b")));
    let mut unknown = enroll(1, &site);
    unknown.token = token(9).id;
    let mut secret = enroll(1, &site);
    secret.secret = token(9).secret;
    let other_name = enroll(2, &site);
    let mut messages = std::collections::BTreeSet::new();
    let mut details = Vec::new();
    let mut ask = |machine: &mut _, now, call| {
        let outputs = settle(machine, now, Input::Enroll(call));
        for output in &outputs {
            if let Output::Commit { writes, .. } = output {
                details.extend(writes.iter().filter_map(|write| match write {
                    Write::Audit(entry) => match &entry.outcome {
                        Outcome::Refused { detail, .. } => Some(detail.clone()),
                        Outcome::Done | Outcome::Sent => None,
                    },
                    _ => None,
                }));
            }
        }
        let outcome = answer(outputs);
        assert_eq!(reasons(&outcome), ["ENROLL_TOKEN_INVALID"]);
        let refused = outcome.unwrap_err();
        assert_eq!(refused.first().reason.code(), Code::Unauthenticated);
        messages.insert(refused.to_string());
    };
    ask(&mut machine, at(1), unknown);
    ask(&mut machine, at(1), secret);
    ask(&mut machine, at(1), other_name);
    ask(&mut machine, at(3600), enroll(1, &site));
    assert_eq!(messages.len(), 1);
    assert_eq!(
        details,
        [
            "no such token",
            "the secret is wrong",
            "the token is for b",
            "the token expired"
        ]
    );
    assert!(
        machine
            .fleet()
            .subclouds()
            .all(|subcloud| subcloud.enrolled().is_none())
    );
}

#[test]
fn a_token_is_spent_once_and_answers_its_own_key_again() {
    let site = site("a", 1, "4");
    let mut machine = controller("4");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "a")));
    let mut preview = enroll(1, &site);
    preview.validate_only = true;
    assert!(answer(settle(&mut machine, at(1), Input::Enroll(preview))).is_ok());
    assert!(machine.fleet().by_name("a").unwrap().enrolled().is_none());

    let first = answer(settle(&mut machine, at(1), Input::Enroll(enroll(1, &site)))).unwrap();
    assert!(!first.replayed);
    // Also after the token's own time to live, for the answer may have been lost late.
    let again = answer(settle(
        &mut machine,
        at(7200),
        Input::Enroll(enroll(1, &site)),
    ))
    .unwrap();
    assert!(again.replayed);
    assert_eq!(first.subcloud, again.subcloud);

    let mut thief = enroll(1, &site);
    thief.key = key(66);
    let refused = answer(settle(&mut machine, at(2), Input::Enroll(thief)));
    assert_eq!(reasons(&refused), ["ENROLL_TOKEN_INVALID"]);
    let late = answer(settle(
        &mut machine,
        at(200_000),
        Input::Enroll(enroll(1, &site)),
    ));
    assert_eq!(reasons(&late), ["ENROLL_TOKEN_INVALID"]);
}

#[test]
fn a_site_that_differs_from_its_declaration_is_told_where() {
    let mut machine = controller("4");
    let mut call = add(1, "a");
    let declared = Footprint::of(&site("a", 1, "4").to_parts());
    call.declared = Some(Box::new(Candidate::declared(declared)));
    answer(settle(&mut machine, at(0), Input::AddSubcloud(call))).unwrap();
    let real = site("a", 3, "4");
    let receipt = answer(settle(&mut machine, at(1), Input::Enroll(enroll(1, &real)))).unwrap();
    let fields: Vec<&str> = receipt
        .warnings
        .iter()
        .map(|warning| warning.field.as_str())
        .collect();
    assert_eq!(fields, ["link subnets", "link ranges", "oam subnets"]);
    let Enrollment::Enrolled(enrolled) = &receipt.subcloud.enrollment else {
        panic!("it is enrolled");
    };
    assert_eq!(enrolled.differences.len(), 3);
}

#[test]
fn the_agent_learns_the_family_from_its_token() {
    let footprint = Footprint::of(&installed("a", 1, "64", "24.09", "").to_parts());
    let check = |addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        check_family(&footprint, &addresses)
    };
    assert_eq!(
        reasons(&check(&["fd01::2", "10.0.0.2"])),
        Vec::<&str>::new()
    );
    assert_eq!(
        reasons(&check(&["10.0.0.2", "fd01::2"])),
        ["PRIMARY_FAMILY_MISMATCH"]
    );
    assert_eq!(reasons(&check(&[])), ["CONTROLLER_HAS_NO_LINK_POOL"]);
    let mut bare = footprint.clone();
    bare.link = None;
    assert_eq!(
        reasons(&check_family(&bare, &["fd01::2".parse().unwrap()])),
        ["NO_PRIMARY_POOL"]
    );
}
