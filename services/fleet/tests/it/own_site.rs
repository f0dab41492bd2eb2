//! Changes of the controller's own site: which of them the fleet refuses, and that nothing slips
//! in between.

use std::sync::Arc;

use crate::common::{
    Calm, add, answer, at, controller, enroll, installed, key, reasons, settle, site,
};
use fleet::admission::ControllerView;
use fleet::{
    Actor, AgentMessage, Controller, ControllerMessage, Hello, Input, LinkId, Output, PeerAction,
    PeerCall, PeerInput, Report, RequestId, SubcloudId, Violation,
};
use site::{NetworkKind, Site};
use uuid::Uuid;

/// A controller that has these sites, numbered from 1.
fn fleet_of(layout: &str, sites: &[Site]) -> Controller {
    let mut machine = controller(layout);
    for (index, site) in sites.iter().enumerate() {
        let number = u8::try_from(index + 1).unwrap();
        let name = &site.identity().name;
        let added = Input::AddSubcloud(add(number, name));
        answer(settle(&mut machine, at(0), added)).unwrap();
        answer(settle(
            &mut machine,
            at(0),
            Input::Enroll(enroll(number, site)),
        ))
        .unwrap();
    }
    machine
}

/// The controller's site with the pools of a network taken from another site, but for the link
/// address: that it moves has a rule of its own.
fn with_pools_of(
    site: &Site,
    kind: NetworkKind,
    other: &Site,
    theirs: NetworkKind,
) -> ControllerView {
    let mut view = ControllerView::of(site);
    let taken = ControllerView::of(other);
    let link = match theirs {
        NetworkKind::Oam => None,
        _ => taken.link,
    };
    match (kind, link) {
        (NetworkKind::Oam, Some(link)) => {
            view.oam_subnets = link.pools().map(|pool| pool.subnet).collect();
        }
        (NetworkKind::Oam, None) => view.oam_subnets = taken.oam_subnets,
        (_, Some(mut link)) => {
            link.primary.floating = view.link.and_then(|own| own.primary.floating);
            view.link = Some(link);
        }
        (_, None) => {
            let link = view.link.as_mut().unwrap();
            link.primary.subnet = taken.oam_subnets[0];
            link.primary.ranges = Vec::new();
        }
    }
    view
}

fn rules(violations: &[Violation]) -> Vec<(&str, &str)> {
    let fact = |violation: &Violation, name: &str| {
        let (_, value) = violation.metadata.get_key_value(name).unwrap();
        value.clone()
    };
    let mut rules: Vec<(String, String)> = violations
        .iter()
        .map(|violation| (fact(violation, "subcloud"), fact(violation, "rule")))
        .collect();
    rules.sort();
    rules
        .into_iter()
        .map(|(name, rule)| (&*name.leak(), &*rule.leak()))
        .collect()
}

#[track_caller]
fn check(machine: &Controller, next: &ControllerView, expected: &[(&str, &str)]) {
    let refused = machine.would_break(next);
    let violations = refused
        .as_ref()
        .err()
        .map_or(&[][..], |refused| refused.violations());
    assert_eq!(rules(violations), expected, "{violations:?}");
    for violation in violations {
        assert_eq!(violation.reason, fleet::Reason::WouldBreakSubclouds);
        let names = |kind| violation.objects.iter().any(|object| object.kind == kind);
        assert!(
            names("subcloud") && names("controller") && names("network"),
            "{violation:?}"
        );
        assert!(!violation.remedy.is_empty());
    }
    if let Some(first) = violations.first() {
        let listed: Vec<&str> = first.metadata["subclouds"].split(',').collect();
        let mut all: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        all.dedup();
        assert_eq!(listed, all);
        assert_eq!(first.metadata["subcloudCount"], all.len().to_string());
    }
}

#[test]
fn every_subcloud_and_rule_that_a_change_would_break_is_named() {
    let sites = [
        site("a", 1, "4"),
        site("b", 2, "46"),
        installed(
            "c",
            3,
            "4",
            "24.09",
            "distributed_cloud_role: subcloud\nsystemcontroller_gateway_address: 10.200.0.1\n",
        ),
    ];
    let machine = fleet_of("4", &sites);
    let own = site("controller", 200, "4");
    let (mgmt, oam) = (NetworkKind::Mgmt, NetworkKind::Oam);

    check(&machine, &ControllerView::of(&own), &[]);
    // Onto the link ranges of a; c's gateway is left behind.
    let onto_a = with_pools_of(&own, mgmt, &site("x", 1, "4"), mgmt);
    check(&machine, &onto_a, &[("a", "F6"), ("c", "F10")]);
    // Onto the ranges of b in the other family only.
    let onto_b = with_pools_of(&own, mgmt, &site("x", 2, "64"), mgmt);
    let mut onto_b = onto_b;
    let link = onto_b.link.as_mut().unwrap();
    std::mem::swap(&mut link.primary, link.secondary.as_mut().unwrap());
    link.primary = ControllerView::of(&own).link.unwrap().primary;
    check(&machine, &onto_b, &[("b", "F6")]);
    // The controller's oam onto a link subnet, and its link onto an oam subnet.
    let oam_on_link = with_pools_of(&own, oam, &site("x", 2, "4"), mgmt);
    check(&machine, &oam_on_link, &[("b", "F6")]);
    let link_on_oam = with_pools_of(&own, mgmt, &site("x", 1, "4"), oam);
    check(&machine, &link_on_oam, &[("a", "F6"), ("c", "F10")]);
    // Oam networks may meet each other.
    let oam_on_oam = with_pools_of(&own, oam, &site("x", 1, "4"), oam);
    check(&machine, &oam_on_oam, &[]);
    // The gateway of c inside the ranges.
    let mut wide = ControllerView::of(&own);
    let pool = &mut wide.link.as_mut().unwrap().primary;
    pool.ranges = vec![site::Range::new([10, 200, 0, 1].into(), [10, 200, 0, 9].into()).unwrap()];
    check(&machine, &wide, &[("c", "F10")]);
    // No subcloud could stay.
    let other_family = with_pools_of(&own, mgmt, &site("x", 200, "6"), mgmt);
    let all = [("a", "F4"), ("b", "F4"), ("c", "F10"), ("c", "F4")];
    check(&machine, &other_family, &all);
    let mut unlinked = ControllerView::of(&own);
    unlinked.link = None;
    check(
        &machine,
        &unlinked,
        &[("a", "F3"), ("b", "F3"), ("c", "F3")],
    );
}

#[test]
fn what_is_broken_already_is_not_held_against_a_change() {
    let own = site("controller", 200, "4");
    let sites = [installed(
        "c",
        3,
        "4",
        "24.09",
        "distributed_cloud_role: subcloud\nsystemcontroller_gateway_address: 10.200.0.1\n",
    )];
    let mut machine = fleet_of("4", &sites);
    let mut wide = ControllerView::of(&own);
    let pool = &mut wide.link.as_mut().unwrap().primary;
    pool.ranges = vec![site::Range::new([10, 200, 0, 1].into(), [10, 200, 0, 9].into()).unwrap()];
    assert!(machine.would_break(&wide).is_err());
    // As an older version may have let it happen.
    settle(
        &mut machine,
        at(1),
        Input::ControllerSiteAccepted(Arc::new(wide.clone())),
    );
    let mut shorter = wide;
    let pool = &mut shorter.link.as_mut().unwrap().primary;
    pool.ranges = vec![site::Range::new([10, 200, 0, 1].into(), [10, 200, 0, 8].into()).unwrap()];
    assert_eq!(machine.would_break(&shorter), Ok(()));
}

#[test]
fn the_link_address_stays_while_subclouds_obey_it() {
    let own = site("controller", 200, "4");
    let mut moved = ControllerView::of(&own);
    let pool = &mut moved.link.as_mut().unwrap().primary;
    pool.floating = Some([10, 200, 0, 3].into());
    check(&fleet_of("4", &[]), &moved, &[]);

    let mut machine = fleet_of("4", &[site("a", 1, "4"), site("b", 2, "46")]);
    // One that has not enrolled yet has its token, which is issued anew.
    answer(settle(
        &mut machine,
        at(0),
        Input::AddSubcloud(add(3, "pending")),
    ))
    .unwrap();
    check(
        &machine,
        &moved,
        &[("a", "link-address"), ("b", "link-address")],
    );
}

#[test]
fn an_enrollment_after_the_change_is_accepted_is_judged_by_it() {
    let mut machine = controller("4");
    settle(&mut machine, at(0), Input::AddSubcloud(add(1, "a")));
    let own = site("controller", 200, "4");
    let (mgmt, oam) = (NetworkKind::Mgmt, NetworkKind::Oam);
    let next = with_pools_of(&own, oam, &site("x", 1, "4"), mgmt);
    machine.would_break(&next).expect("nobody is there");
    settle(
        &mut machine,
        at(1),
        Input::ControllerSiteAccepted(Arc::new(next)),
    );
    let refused = answer(settle(
        &mut machine,
        at(2),
        Input::Enroll(enroll(1, &site("a", 1, "4"))),
    ));
    assert_eq!(reasons(&refused), ["ADDRESS_OVERLAP"]);
    // That an older change becomes durable takes nothing back.
    settle(
        &mut machine,
        at(3),
        Input::ControllerSiteChanged(Arc::new(own)),
    );
    let refused = answer(settle(
        &mut machine,
        at(4),
        Input::Enroll(enroll(1, &site("a", 1, "4"))),
    ));
    assert_eq!(reasons(&refused), ["ADDRESS_OVERLAP"]);
}

fn id(number: u8) -> SubcloudId {
    SubcloudId(Uuid::from_u128(u128::from(number)))
}

/// The agent of a number comes up with its site.
fn up(machine: &mut Controller, number: u8, site: &Site) -> LinkId {
    let link = LinkId(u64::from(number));
    let opened = Input::LinkOpened {
        link,
        subcloud: id(number),
        key: key(number),
        signed: None,
        source: [10, number, 0, 2].into(),
    };
    settle(machine, at(1), opened);
    let hello = AgentMessage::Hello(Hello {
        connection: link.0,
        ..crate::common::hello(site)
    });
    settle(
        machine,
        at(1),
        Input::LinkMessage {
            link,
            message: hello,
        },
    );
    link
}

/// A site of one number that has moved to the addresses of another.
fn moved(site: &Site, other: &Site) -> Site {
    let mut parts = other.to_parts();
    parts.identity = site.identity().clone();
    parts.generation.0 += 1;
    Site::from_parts(parts).unwrap()
}

fn report(machine: &mut Controller, link: LinkId, site: &Site) -> Vec<Output> {
    let message = AgentMessage::Report(Report::of(site));
    settle(machine, at(2), Input::LinkMessage { link, message })
}

/// The links that are asked to report again.
fn wanted(outputs: &[Output]) -> Vec<LinkId> {
    let asked = outputs.iter().filter_map(|output| match output {
        Output::Send {
            link,
            message: ControllerMessage::ReportWanted,
        } => Some(*link),
        _ => None,
    });
    asked.collect()
}

#[test]
fn who_is_quarantined_is_asked_again_when_the_other_moves_away() {
    let sites = [site("a", 1, "4"), site("b", 2, "4")];
    let mut machine = fleet_of("4", &sites);
    let [a, b] = [1, 2].map(|number: u8| up(&mut machine, number, &sites[usize::from(number) - 1]));
    let outputs = report(&mut machine, a, &moved(&sites[0], &site("x", 2, "4")));
    assert_eq!(wanted(&outputs), []);
    assert!(machine.fleet().subcloud(id(1)).unwrap().quarantined());

    // A change of b that keeps its addresses sets nobody free.
    let mut same = sites[1].to_parts();
    same.generation.0 += 1;
    let outputs = report(&mut machine, b, &Site::from_parts(same).unwrap());
    assert_eq!(wanted(&outputs), []);
    let outputs = report(&mut machine, b, &moved(&sites[1], &site("x", 4, "4")));
    assert_eq!(wanted(&outputs), [a]);
    // Once, however much happens before the answer.
    let outputs = report(&mut machine, b, &moved(&sites[1], &site("x", 5, "4")));
    assert_eq!(wanted(&outputs), []);
    report(&mut machine, a, &moved(&sites[0], &site("x", 2, "4")));
    assert!(!machine.fleet().subcloud(id(1)).unwrap().quarantined());
}

#[test]
fn nobody_is_asked_again_before_the_refusal_is_told() {
    let sites = [site("a", 1, "4"), site("b", 2, "4")];
    let mut machine = fleet_of("4", &sites);
    let [a, b] = [1, 2].map(|number: u8| up(&mut machine, number, &sites[usize::from(number) - 1]));
    let mut tickets = Vec::new();
    // The disk is slow: the refusal of a still waits when b has made room.
    for (link, site, onto) in [(a, &sites[0], 2), (b, &sites[1], 4)] {
        let message = AgentMessage::Report(Report::of(&moved(
            site,
            &crate::common::site("x", onto, "4"),
        )));
        let outputs = machine.on(at(2), &mut Calm, Input::LinkMessage { link, message });
        assert!(
            !outputs.iter().any(|it| matches!(it, Output::Send { .. })),
            "{outputs:?}"
        );
        tickets.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Commit { ticket, .. } => Some(ticket),
            _ => None,
        }));
    }
    let mut told = Vec::new();
    for ticket in tickets {
        for output in machine.on(at(3), &mut Calm, Input::Committed { ticket }) {
            match output {
                Output::Send {
                    link,
                    message: ControllerMessage::ReportRefused { .. },
                } => told.push((link, "refused")),
                Output::Send {
                    link,
                    message: ControllerMessage::ReportWanted,
                } => told.push((link, "wanted")),
                _ => {}
            }
        }
    }
    assert_eq!(told, [(a, "refused"), (a, "wanted")]);
}

#[test]
fn who_is_quarantined_is_asked_again_when_the_controller_moves_away() {
    let sites = [site("a", 1, "4")];
    let mut machine = fleet_of("4", &sites);
    let a = up(&mut machine, 1, &sites[0]);
    let own = site("controller", 200, "4");
    let (mgmt, oam) = (NetworkKind::Mgmt, NetworkKind::Oam);
    let next = with_pools_of(&own, oam, &site("x", 4, "4"), mgmt);
    settle(
        &mut machine,
        at(1),
        Input::ControllerSiteAccepted(Arc::new(next)),
    );
    report(&mut machine, a, &moved(&sites[0], &site("x", 4, "4")));
    assert!(machine.fleet().subcloud(id(1)).unwrap().quarantined());
    let back = Input::ControllerSiteAccepted(Arc::new(ControllerView::of(&own)));
    assert_eq!(wanted(&settle(&mut machine, at(3), back)), [a]);
}

/// An operator sets the gateways towards a subcloud.
fn set_gateways(machine: &mut Controller, subcloud: &str, gateways: &str) {
    let call = PeerCall {
        request: RequestId(7),
        actor: Actor::Operator("uid=0".to_owned()),
        action: PeerAction::SetGateways {
            subcloud: subcloud.to_owned(),
            gateways: match gateways {
                "none" => Vec::new(),
                given => given.split(',').map(|it| it.parse().unwrap()).collect(),
            },
        },
        etag: String::new(),
        key: None,
        validate_only: false,
    };
    let outputs = settle(machine, at(1), Input::Peer(PeerInput::Call(call)));
    let refused = outputs.iter().find_map(|output| match output {
        Output::Answer { outcome, .. } => outcome.as_ref().err(),
        _ => None,
    });
    assert_eq!(refused, None, "{gateways}");
}

#[test]
fn the_gateways_that_count_are_those_an_operator_has_set_and_the_remedy_sets_them() {
    let own = ControllerView::of(&site("controller", 200, "46"));
    let mut single = own.clone();
    single.link.as_mut().unwrap().secondary = None;
    let mut within = own.clone();
    let pool = &mut within.link.as_mut().unwrap().primary;
    pool.ranges = vec![site::Range::new([10, 200, 0, 1].into(), [10, 200, 0, 9].into()).unwrap()];
    // What the file of the site names, what an operator has set, the controller's networks as
    // they would be, and with what the remedy replaces the gateways.
    let both = "10.200.0.1,fd01:200::1";
    let cases = [
        (both, None, &single, Some("10.200.0.1")),
        (both, None, &within, Some("none")),
        (both, None, &own, None),
        (both, Some("10.200.0.1"), &single, None),
        (both, Some("none"), &within, None),
        ("", Some(both), &single, Some("10.200.0.1")),
        ("", Some("10.200.0.1"), &within, Some("none")),
        ("10.200.0.1", Some(both), &single, Some("10.200.0.1")),
    ];
    for (named, set, next, remedy) in cases {
        let more = match named {
            "" => "distributed_cloud_role: subcloud\n".to_owned(),
            _ => format!(
                "distributed_cloud_role: subcloud\nsystemcontroller_gateway_address: {named}\n"
            ),
        };
        let mut machine = fleet_of("46", &[installed("c", 3, "46", "24.09", &more)]);
        if let Some(set) = set {
            set_gateways(&mut machine, "c", set);
        }
        let Some(remedy) = remedy else {
            check(&machine, next, &[]);
            continue;
        };
        check(&machine, next, &[("c", "F10")]);
        let refused = machine.would_break(next).unwrap_err();
        let told = &refused.violations()[0].remedy;
        let command =
            format!("dcmanager subcloud update c --systemcontroller-gateway-address {remedy}`");
        assert!(told.contains(&command), "{named} {set:?}: {told}");
        set_gateways(&mut machine, "c", remedy);
        check(&machine, next, &[]);
    }
}

#[test]
fn a_site_that_enrolls_again_is_judged_by_the_gateways_that_an_operator_has_set() {
    let named = "distributed_cloud_role: subcloud\nsystemcontroller_gateway_address: 10.200.0.9\n";
    let site = installed("c", 3, "4", "24.09", named);
    let mut machine = controller("4");
    answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "c")))).unwrap();
    let refused = answer(settle(&mut machine, at(0), Input::Enroll(enroll(1, &site))));
    assert_eq!(reasons(&refused), ["CONTROLLER_GATEWAY_INVALID"]);
    set_gateways(&mut machine, "c", "10.200.0.1");
    answer(settle(&mut machine, at(2), Input::Enroll(enroll(1, &site)))).unwrap();
}
