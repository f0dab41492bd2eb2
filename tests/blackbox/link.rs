//! What travels over the link after enrollment: changes of the subcloud, refusals of them, and
//! the controller's own networks.

use crate::support::bootstrap::{Bootstrap, Family, Net, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::{PATIENCE, scratch, wait_until};

/// A controller with one subcloud that is online and in sync.
fn joined(dir: &std::path::Path) -> (Controller, Subcloud) {
    let site = Bootstrap::controller(Stack::V6First);
    let controller = Controller::start(&dir.join("controller"), site);
    let west = Bootstrap::subcloud("west", 1, Stack::V6);
    let west = Subcloud::join(&dir.join("west"), west, &controller);
    controller.wait_for("west", "sync", "in-sync");
    (controller, west)
}

#[test]
fn a_change_of_the_subcloud_reaches_the_controller() {
    let dir = scratch();
    let (controller, west) = joined(dir.path());
    controller.wait_for("west", "stack", "single");
    west.tandem(&["system", "addrpool-add", "admin-ipv4", "10.77.0.0", "24"])
        .expect(0);
    west.tandem(&["system", "network-addrpool-assign", "admin", "admin-ipv4"])
        .expect(0);
    controller.wait_for("west", "stack", "dual");
    controller.wait_for("west", "sync", "in-sync");
    let shown = controller.show("west").expect("a subcloud").to_string();
    assert!(shown.contains("10.77.0.0/24"), "{shown}");
}

#[test]
fn a_report_that_breaks_the_rules_is_refused_until_it_is_right_again() {
    let dir = scratch();
    let (controller, west) = joined(dir.path());
    // The subcloud takes the link subnet of the controller, with ranges that meet its own.
    let own = controller
        .site
        .address(Net::Link, Family::V6, 0)
        .to_string();
    let at = |host| {
        controller
            .site
            .address(Net::Link, Family::V6, host)
            .to_string()
    };
    let admin = |network: &str, floating: &str, gateway: &str, last: &str| {
        let ranges = format!("{floating}-{last}");
        west.tandem(&[
            "system",
            "addrpool-modify",
            "admin-ipv6",
            "--network",
            network,
            "--prefix",
            "64",
            "--ranges",
            &ranges,
            "--floating-address",
            floating,
            "--gateway-address",
            gateway,
        ])
    };
    west.tandem(&["system", "network-delete", "system-controller"])
        .expect(0);
    admin(&own, &at(50), &at(1), &at(60)).expect(0);
    controller.wait_for("west", "sync", "out-of-sync");
    let refused = controller.events("west", "REPORT_REFUSED");
    assert!(
        refused[0]["violations"]
            .to_string()
            .contains("ADDRESS_OVERLAP"),
        "{refused:?}"
    );
    let errors = controller
        .tandem(&["dcmanager", "subcloud", "errors", "west"])
        .expect(0);
    assert!(
        errors.stdout.contains("ADDRESS_OVERLAP"),
        "{}",
        errors.stdout
    );

    let back = |host| west.site.address(Net::Link, Family::V6, host).to_string();
    admin(&back(0), &back(2), &back(1), &back(200)).expect(0);
    controller.wait_for("west", "sync", "in-sync");
}

#[test]
fn the_controllers_networks_follow_it() {
    let dir = scratch();
    let (controller, west) = joined(dir.path());
    let has = |subnet: &str| {
        let listed = west
            .tandem(&["system", "addrpool-list", "-f", "json"])
            .expect(0)
            .json();
        let pools = listed.as_array().cloned().unwrap_or_default();
        pools.iter().any(|pool| pool["network"] == subnet)
    };
    let link = controller
        .site
        .address(Net::Link, Family::V6, 0)
        .to_string();
    let oam = controller.site.address(Net::Oam, Family::V6, 0).to_string();
    wait_until("the subcloud keeps both networks", PATIENCE, || {
        has(&link) && has(&oam)
    });
    controller
        .tandem(&[
            "system",
            "addrpool-modify",
            "oam-ipv6",
            "--network",
            "fd55::",
            "--prefix",
            "64",
            "--ranges",
            "fd55::1-fd55::ff",
            "--floating-address",
            "fd55::3",
            "--gateway-address",
            "fd55::1",
        ])
        .expect(0);
    wait_until("the change arrives", PATIENCE, || {
        has("fd55::") && !has(&oam)
    });
}

#[test]
fn of_two_sites_with_the_same_addresses_one_wins() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let install = |name: &str| {
        let site = Bootstrap::subcloud(name, 7, Stack::V6);
        Subcloud::install(&dir.path().join(name), site, Place::Loopback)
    };
    let (east, west) = (install("east"), install("west"));
    let (for_east, for_west) = (controller.add("east"), controller.add("west"));
    let (one, two) = (
        east.start_enroll(&for_east, &[]),
        west.start_enroll(&for_west, &[]),
    );
    let outputs = [one.output(), two.output()];
    let codes: Vec<_> = outputs.iter().map(|output| output.code).collect();
    assert!(
        codes == [Some(0), Some(2)] || codes == [Some(2), Some(0)],
        "{outputs:?}"
    );
    let loser = outputs
        .iter()
        .find(|output| output.code == Some(2))
        .expect("a loser");
    assert!(loser.stderr.contains("ADDRESS_OVERLAP"), "{loser:?}");
}
