//! After a failure on either side of the link: it comes back by itself, without work that was
//! done before, and with everything that happened meanwhile.

use std::path::Path;
use std::process::Command;

use crate::support::bootstrap::{Bootstrap, Family, Net, Stack};
use crate::support::cloud::{Controller, Subcloud};
use crate::support::process::{Output, run};
use crate::support::{PATIENCE, scratch, wait_until};

/// A report of these sites has more than 2,000 bytes on the wire; what else is said until a link
/// is up varies by less.
const REPORT_BYTES: u64 = 1_500;

#[test]
fn a_subcloud_comes_back_to_a_restarted_controller_without_a_second_report() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6First);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let mut west = join(dir.path(), "west", 1, &controller);
    let before = settled(&controller, "west");
    let with_report = link_bytes(&mut controller);

    for stop in [Controller::kill, Controller::stop] {
        stop(&mut controller);
        controller.serve();
        controller.wait_for("west", "availability", "online");
        controller.wait_for("west", "sync", "in-sync");
        let without = link_bytes(&mut controller);
        assert!(
            without + REPORT_BYTES < with_report,
            "{without} bytes on the link that came back, {with_report} on the first one"
        );
        assert!(west.daemon().is_running(), "the same agent came back");
        assert_eq!(settled(&controller, "west"), before);
    }
}

#[test]
fn a_change_while_the_controller_is_away_is_reported_once_it_is_back() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6First);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let west = join(dir.path(), "west", 1, &controller);
    let (generation, reports) = settled(&controller, "west");

    controller.kill();
    let subnet = west.site.subnet(Net::Link, Family::V4);
    let (network, prefix) = subnet.split_once('/').expect("a subnet");
    let add = ["system", "addrpool-add", "admin-v4", network, prefix];
    west.tandem(&add).expect(0);
    let assign = ["system", "network-addrpool-assign", "admin", "admin-v4"];
    west.tandem(&assign).expect(0);
    controller.serve();
    controller.wait_for("west", "stack", "dual");
    let now = settled(&controller, "west");
    assert_eq!(
        now,
        (generation + 2, reports + 1),
        "two changes, one report"
    );
    // The secondary changes neither the family nor the address of the link.
    controller.wait_for("west", "family", "IPv6");
    let address = west.site.link_address(Family::V6).to_string();
    controller.wait_for("west", "link_address", &address);
}

#[test]
fn a_silent_subcloud_is_offline_soon_and_back_when_it_is_there() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let mut west = join(dir.path(), "west", 1, &controller);
    let east = join(dir.path(), "east", 2, &controller);
    // Both have just enrolled: that gives no longer respite than at any other time.
    west.kill();
    controller.wait_for("west", "availability", "offline");
    assert_eq!(
        controller.show("east").expect("east")["availability"],
        "online"
    );
    west.serve();
    controller.wait_for("west", "availability", "online");
    drop(east);
}

#[test]
fn a_subcloud_that_breaks_the_rules_stays_marked_over_a_restart() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let west = join(dir.path(), "west", 1, &controller);
    let east = join(dir.path(), "east", 2, &controller);
    let own = shown(&controller, "pools");

    // The agent itself knows the controller's networks and refuses to take their addresses.
    move_link(&west, &controller.site)
        .expect(1)
        .says("ADDRESS_OVERLAP");
    // Of its neighbours only the controller knows.
    move_link(&west, &east.site).expect(0);
    controller.wait_for("west", "sync", "out-of-sync");
    check_refused(&controller);
    assert_eq!(
        shown(&controller, "pools"),
        own,
        "the last accepted site stays"
    );
    controller.wait_for("east", "sync", "in-sync");

    // The mark is durable; the report is judged again with the same result, which is no news.
    controller.kill();
    controller.serve();
    controller.wait_for("west", "availability", "online");
    check_refused(&controller);
    assert_eq!(controller.events("west", "REPORT_REFUSED").len(), 1);

    move_link(&west, &west.site).expect(0);
    controller.wait_for("west", "sync", "in-sync");
    let subcloud = controller.show("west").expect("west");
    assert!(
        subcloud["refused"].as_array().is_none_or(Vec::is_empty),
        "{subcloud}"
    );
}

/// The subcloud says why it is out of sync, with the remedy, in each place where one looks.
fn check_refused(controller: &Controller) {
    let subcloud = controller.show("west").expect("west");
    let errors = controller.tandem(&["dcmanager", "subcloud", "errors", "west", "-f", "json"]);
    for listed in [&subcloud["refused"], &errors.expect(0).json()] {
        let fault = &listed[0];
        assert_eq!(fault["reason"], "ADDRESS_OVERLAP", "{listed}");
        let message = fault["message"].as_str().unwrap_or_default();
        assert!(message.contains("subcloud east"), "{message}");
        let remedy = fault["remedy"].as_str().unwrap_or_default();
        assert!(!remedy.is_empty(), "{fault}");
    }
    let events = controller.events("west", "REPORT_REFUSED");
    assert_eq!(events[0]["violations"][0]["reason"], "ADDRESS_OVERLAP");
}

/// A subcloud with IPv6 only, whose first report with the controller's networks is accepted.
fn join(dir: &Path, name: &str, index: u8, controller: &Controller) -> Subcloud {
    let site = Bootstrap::subcloud(name, index, Stack::V6);
    let subcloud = Subcloud::join(&dir.join(name), site, controller);
    wait_until("the first report is accepted", PATIENCE, || {
        !controller.events(name, "REPORT_ACCEPTED").is_empty()
    });
    subcloud
}

/// The generation of the accepted site, and how many reports were accepted.
fn settled(controller: &Controller, name: &str) -> (u64, usize) {
    controller.wait_for(name, "sync", "in-sync");
    let subcloud = controller.show(name).expect("the subcloud");
    let generation = subcloud["generation"].as_u64().expect("a number");
    (generation, controller.events(name, "REPORT_ACCEPTED").len())
}

/// A property of `subcloud show west`, as text.
fn shown(controller: &Controller, property: &str) -> String {
    controller.show("west").expect("the subcloud")[property].to_string()
}

/// Moves a subcloud's link pool onto the addresses of another site, or back to its own.
fn move_link(subcloud: &Subcloud, to: &Bootstrap) -> Output {
    let subnet = to.subnet(Net::Link, Family::V6);
    let (network, prefix) = subnet.split_once('/').expect("a subnet");
    let address = |host| to.address(Net::Link, Family::V6, host).to_string();
    let (gateway, floating) = (address(1), address(2));
    let ranges = format!("{floating}-{}", address(200));
    let modify = [
        "system",
        "addrpool-modify",
        "admin-ipv6",
        "--network",
        network,
    ];
    let values = [
        "--prefix",
        prefix,
        "--ranges",
        &ranges,
        "--floating-address",
        &floating,
    ];
    subcloud.tandem(&[&modify[..], &values, &["--gateway-address", &gateway]].concat())
}

/// How many bytes the one agent has sent on its present connection, as the kernel counts.
fn link_bytes(controller: &mut Controller) -> u64 {
    let link = controller.daemon().ready.link.clone();
    let (_, port) = link.rsplit_once(':').expect("ADDR:PORT");
    let mut command = Command::new("ss");
    command.args([
        "-tinH",
        "state",
        "established",
        "dport",
        "=",
        &format!(":{port}"),
    ]);
    let listed = run(command).expect(0).stdout;
    let words = listed.split_whitespace();
    let mut counts = words.filter_map(|word| word.strip_prefix("bytes_sent:"));
    let count = counts.next().and_then(|count| count.parse().ok());
    assert_eq!(counts.next(), None, "one agent only: {listed}");
    count.unwrap_or_else(|| panic!("no connection of an agent: {listed}"))
}
