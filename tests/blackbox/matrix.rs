//! Controllers and subclouds of every kind in namespaces with their real addresses: accepted
//! exactly on equal primary families, and the link only on the primary family.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use crate::support::bootstrap::{Bootstrap, Family, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::lab::Lab;
use crate::support::process::{Output, Running, run};
use crate::support::scratch;

const MISMATCH: &str = "PRIMARY_FAMILY_MISMATCH";

/// Counts, in the controller's namespace, what goes to and from the port of the link.
const COUNTERS: &str = "table inet link {
    counter v4 { }
    counter v6 { }
    chain input {
        type filter hook input priority 0;
        meta nfproto ipv4 tcp dport 8441 counter name v4
        meta nfproto ipv6 tcp dport 8441 counter name v6
    }
    chain output {
        type filter hook output priority 0;
        meta nfproto ipv4 tcp sport 8441 counter name v4
        meta nfproto ipv6 tcp sport 8441 counter name v6
    }
}";

#[test]
fn v4_controller() {
    check(Stack::V4);
}

#[test]
fn v6_controller() {
    check(Stack::V6);
}

#[test]
fn dual_v4_first_controller() {
    check(Stack::V4First);
}

#[test]
fn dual_v6_first_controller() {
    check(Stack::V6First);
}

/// A controller of one kind with a subcloud of each.
fn check(stack: Stack) {
    let dir = scratch();
    let lab = Rc::new(Lab::up(&dir.path().join("lab")));
    let site = Bootstrap::controller(stack);
    give_addresses(&lab, &site);
    let place = Place::Lab(Rc::clone(&lab), site.name.clone());
    let mut controller = Controller::install(&dir.path().join("controller"), site, place);
    nft(&lab, &["-f", "-"], COUNTERS);
    controller.serve();
    listens_on_its_link_address_alone(&lab, &controller);

    let (mut equal, mut refused) = (Vec::new(), Vec::new());
    for (index, kind) in (1..).zip(Stack::ALL) {
        let site = Bootstrap::subcloud(&format!("west-{}", kind.name()), index, kind);
        give_addresses(&lab, &site);
        let home = dir.path().join(&site.name);
        let declared = declare(&controller, &home, &site);
        let place = Place::Lab(Rc::clone(&lab), site.name.clone());
        let subcloud = Subcloud::install(&home, site, place);
        if kind.primary() == stack.primary() {
            declared.expect(0);
            equal.push(subcloud);
        } else {
            declared.expect(1).says(MISMATCH);
            refused.push(subcloud);
        }
    }
    assert_eq!((equal.len(), refused.len()), (2, 2));
    for subcloud in &refused {
        refused_by_its_own_agent(&controller, subcloud);
    }
    let both = [Family::V4, Family::V6];
    assert_eq!(
        both.map(|family| counted(&lab, family)),
        [0, 0],
        "nothing was sent"
    );

    let join = |subcloud| join(&lab, &controller, subcloud);
    let joined: Vec<Subcloud> = equal.into_iter().map(join).collect();
    only_on_the_primary_family(&lab, stack.primary());
    for subcloud in &refused {
        refused_by_the_controller(&controller, subcloud);
    }
    for subcloud in &joined {
        controller.wait_for(subcloud.name(), "sync", "in-sync");
    }
    only_on_the_primary_family(&lab, stack.primary());
}

/// Gives a namespace every address of its site: link and oam, both families.
fn give_addresses(lab: &Lab, site: &Bootstrap) {
    lab.site(
        &site.name,
        &[site.link_addresses(), site.oam_addresses()].concat(),
    );
}

/// `subcloud add --bootstrap-values`.
fn declare(controller: &Controller, home: &Path, site: &Bootstrap) -> Output {
    fs::create_dir_all(home).expect("a home");
    let file = home.join("declared.yaml");
    fs::write(&file, site.yaml()).expect("a file");
    let file = file.display().to_string();
    controller.tandem(&[
        "dcmanager",
        "subcloud",
        "add",
        &site.name,
        "--bootstrap-values",
        &file,
    ])
}

/// Enrolls, serves and waits until the controller has everything. Where both have the secondary
/// family, the controller is reachable over it too, and yet nothing uses it.
fn join(lab: &Lab, controller: &Controller, mut subcloud: Subcloud) -> Subcloud {
    let other = match controller.site.stack.primary() {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    };
    let has = |stack: Stack| stack.families().contains(&other);
    if has(controller.site.stack) && has(subcloud.site.stack) {
        // Another port than the link's, so that the counters stay clean: a refusal is an answer.
        let address = controller.site.link_address(other);
        let mut connect = lab.exec(subcloud.name(), "bash");
        connect.args(["-c", &format!("exec 3<>/dev/tcp/{address}/9")]);
        run(connect).says("Connection refused");
    }
    let added = controller.token(subcloud.name());
    subcloud.enroll(&added, &[]).expect(0);
    subcloud.serve();
    controller.wait_for(subcloud.name(), "availability", "online");
    controller.wait_for(subcloud.name(), "sync", "in-sync");
    subcloud
}

/// The token names the controller's link address, so the agent knows before it sends anything.
fn refused_by_its_own_agent(controller: &Controller, subcloud: &Subcloud) {
    let added = controller.add(subcloud.name());
    subcloud
        .enroll(&added, &[])
        .expect(2)
        .says(MISMATCH)
        .says("remedy");
    assert!(
        controller
            .events(subcloud.name(), "ENROLLMENT_REFUSED")
            .is_empty()
    );
}

/// A subcloud whose secondary family can reach the controller is told so by the controller.
fn refused_by_the_controller(controller: &Controller, subcloud: &Subcloud) {
    if subcloud.site.stack.families().len() < 2 {
        return;
    }
    let added = controller.token(subcloud.name());
    subcloud
        .enroll(&added, &["--link-source", "any"])
        .expect(2)
        .says(MISMATCH);
    // Only the controller itself writes this.
    let events = controller.events(subcloud.name(), "ENROLLMENT_REFUSED");
    assert_eq!(events.len(), 1);
}

/// Packets of the link on the primary family, and none on the other.
fn only_on_the_primary_family(lab: &Lab, primary: Family) {
    let (used, unused) = match primary {
        Family::V4 => (Family::V4, Family::V6),
        Family::V6 => (Family::V6, Family::V4),
    };
    assert!(counted(lab, used) > 0, "the link has packets");
    assert_eq!(
        counted(lab, unused),
        0,
        "the secondary family is never used"
    );
}

/// Packets of the link's port in a family.
fn counted(lab: &Lab, family: Family) -> u64 {
    let name = match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    };
    let listed = nft(lab, &["-j", "list", "counter", "inet", "link", name], "");
    let objects = listed["nftables"].as_array().cloned().unwrap_or_default();
    let counter = objects
        .iter()
        .find_map(|object| object["counter"]["packets"].as_u64());
    counter.expect("a counter")
}

/// Runs nft in the controller's namespace.
fn nft(lab: &Lab, arguments: &[&str], input: &str) -> Value {
    let mut command = lab.exec("controller", "nft");
    command.args(arguments);
    let output = Running::start(command, input).output().expect(0);
    if output.stdout.is_empty() {
        Value::Null
    } else {
        output.json()
    }
}

/// The port of the link is open on the link address of the primary family and nowhere else.
fn listens_on_its_link_address_alone(lab: &Lab, controller: &Controller) {
    let mut command = lab.exec("controller", "ss");
    command.args(["-Hltn", "sport", "=", ":8441"]);
    let output = run(command).expect(0);
    let address = controller
        .site
        .link_address(controller.site.stack.primary());
    let expected = SocketAddr::new(address, 8441).to_string();
    let listening: Vec<&str> = output
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .collect();
    assert_eq!(listening, [expected]);
}
