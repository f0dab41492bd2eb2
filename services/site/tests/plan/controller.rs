//! What a subcloud keeps of its system controller: the networks that it was told, whatever it had
//! under their types and names before.

use site::{Network, NetworkKind, Pool, Site};

use crate::commands::{outcome, run};
use crate::fixture::Fixture;

/// Runs the lines, the last of which tells the networks, and compares what is kept of them:
/// `NUMBER SUBNET` of each, link first.
fn check(site: &str, lines: &[&str], want: [Option<&str>; 2]) -> Site {
    let mut site = Fixture::of_words(site).site();
    let plan = run(&mut site, lines);
    assert_eq!(outcome(&plan), "ok", "{lines:?}");
    plan.expect("accepted").apply(&mut site);
    let kinds = [
        NetworkKind::SystemController,
        NetworkKind::SystemControllerOam,
    ];
    let kept = kinds.map(|kind| {
        let network = site.network(kind)?;
        let subnet = primary(&site, network).subnet();
        Some(format!("{} {subnet}", network.id().0))
    });
    assert_eq!(kept.each_ref().map(Option::as_deref), want, "{lines:?}");
    site
}

fn primary<'a>(site: &'a Site, network: &Network) -> &'a Pool {
    let pool = network.pools().primary().pool;
    site.pool(pool).expect("the pool of a network")
}

#[test]
fn a_network_that_is_known_keeps_its_number_and_a_new_one_gets_another() {
    check(
        "simplex subcloud",
        &[
            "pool-add p 10.77.0.0/24",
            "network-add oam-there system-controller-oam static p",
            "controller 192.168.0.0/24 192.168.1.0/24",
        ],
        [Some("10 192.168.0.0/24"), Some("9 192.168.1.0/24")],
    );
}

#[test]
fn a_site_on_the_link_subnet_of_its_controller_needs_no_route_to_it() {
    // Its admin is 10.3.0.0/24.
    for link in ["10.3.0.0/24", "10.3.0.0/16", "10.3.0.128/25"] {
        let told = format!("controller {link} 192.168.1.0/24");
        check(
            "simplex subcloud",
            &[&told],
            [None, Some("9 192.168.1.0/24")],
        );
        let before = "controller 192.168.0.0/24 192.168.1.0/24";
        let site = check(
            "simplex subcloud",
            &[before, &told],
            [None, Some("10 192.168.1.0/24")],
        );
        assert_eq!(site.find_pool("system-controller-subnet"), None);
    }
    // Without admin it is mgmt that links it.
    check(
        "simplex subcloud only-mgmt",
        &["controller 10.1.0.0/24"],
        [None, None],
    );
}

#[test]
fn what_a_deleted_network_left_behind_is_taken_up_again() {
    let told = "controller 192.168.0.0/24 192.168.1.0/24";
    let both = [Some("9 192.168.0.0/24"), Some("10 192.168.1.0/24")];
    let id = |site: &Site| {
        let pool = site.find_pool("system-controller-subnet");
        pool.map(|pool| pool.id())
    };
    let before = check("simplex subcloud", &[told], both);
    let deleted = [told, "network-delete system-controller"];
    let moved = "pool-modify system-controller-subnet network=10.77.0.0 ranges=";
    for more in [
        vec![],
        vec![moved],
        vec!["pool-delete system-controller-subnet"],
    ] {
        let kept = more.first().is_none_or(|line| *line == moved);
        let lines = [&deleted[..], &more, &[told]].concat();
        let after = check("simplex subcloud", &lines, both);
        assert_eq!(id(&after) == id(&before), kept, "{lines:?}");
    }
    // One that was there before the first telling, whatever it was for.
    check(
        "simplex subcloud no-room",
        &[
            "pool-delete filler-100",
            "pool-delete filler-101",
            "pool-add system-controller-subnet 10.77.0.0/24",
            told,
        ],
        both,
    );
}
