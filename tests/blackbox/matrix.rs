//! Controllers and subclouds of every kind in namespaces with their real addresses: accepted
//! exactly on equal primary families, refused at each of the three places otherwise, and the
//! link only on the primary family. Packets are counted by the kernel where they pass.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::support::bootstrap::{Bootstrap, Family, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::lab::Lab;
use crate::support::process::{Output, Running, run};
use crate::support::{PATIENCE, pause, scratch, wait_until};

const MISMATCH: &str = "PRIMARY_FAMILY_MISMATCH";

/// Counts what goes to and from the port of the link, before any rule may drop it. The chain
/// `cut` is where a test makes a family fail.
const COUNTERS: &str = "table inet link {
    counter v4 { }
    counter v6 { }
    chain count {
        meta nfproto ipv4 tcp dport 8441 counter name v4
        meta nfproto ipv4 tcp sport 8441 counter name v4
        meta nfproto ipv6 tcp dport 8441 counter name v6
        meta nfproto ipv6 tcp sport 8441 counter name v6
    }
    chain arrives {
        type filter hook prerouting priority -300;
        jump count
    }
    chain leaves {
        type filter hook output priority -300;
        jump count
    }
    chain cut {
        type filter hook input priority 0;
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
    let network = Network(Rc::new(Lab::up(&dir.path().join("lab"))));
    let site = Bootstrap::controller(stack);
    let place = network.give_both_families(&site);
    let mut controller = Controller::install(&dir.path().join("controller"), site, place);
    controller.serve();
    network.listens_on_its_link_address_alone(&controller);

    let mut joined = Vec::new();
    let mut refused = Vec::new();
    for (index, kind) in (1..).zip(Stack::ALL) {
        let site = Bootstrap::subcloud(&format!("west-{}", kind.name()), index, kind);
        let place = network.give_both_families(&site);
        let home = dir.path().join(&site.name);
        let subcloud = Subcloud::install(&home, site, place);
        network.reaches_the_secondary(&controller, &subcloud);
        let declared = declare(&controller, &home, &subcloud);
        if kind.primary() == stack.primary() {
            declared.expect(0);
            joined.push(join(&controller, subcloud));
        } else {
            declared.expect(1).says(MISMATCH).says("remedy:");
            assert_eq!(
                controller.show(subcloud.name()),
                None,
                "a refusal leaves no record"
            );
            network.refused_by_its_own_agent(&controller, &subcloud);
            refused.push(subcloud);
        }
    }
    assert_eq!((joined.len(), refused.len()), (2, 2));
    for subcloud in &refused {
        network.refused_by_the_controller(&controller, subcloud);
    }
    network.only_the_primary_family_was_used(&controller, &joined);
    if stack.families().len() == 2 {
        network.waits_for_the_primary(&controller, &joined);
        network.only_the_primary_family_was_used(&controller, &joined);
    }
}

/// `subcloud add --bootstrap-values`.
fn declare(controller: &Controller, home: &Path, subcloud: &Subcloud) -> Output {
    let file = home.join("bootstrap.yaml").display().to_string();
    let add = [
        "dcmanager",
        "subcloud",
        "add",
        subcloud.name(),
        "--bootstrap-values",
        &file,
    ];
    controller.tandem(&add)
}

/// Enrolls, serves and waits until the controller has everything.
fn join(controller: &Controller, mut subcloud: Subcloud) -> Subcloud {
    let added = controller.token(subcloud.name());
    subcloud.enroll(&added, &[]).expect(0);
    subcloud.serve();
    controller.wait_for(subcloud.name(), "availability", "online");
    controller.wait_for(subcloud.name(), "sync", "in-sync");
    let families = subcloud.site.stack.families();
    let (family, stack) = (
        if families[0] == Family::V4 {
            "IPv4"
        } else {
            "IPv6"
        },
        if families.len() == 2 {
            "dual"
        } else {
            "single"
        },
    );
    controller.wait_for(subcloud.name(), "family", family);
    controller.wait_for(subcloud.name(), "stack", stack);
    subcloud
}

/// The lab, with counters in every site.
pub(crate) struct Network(pub(crate) Rc<Lab>);

impl Network {
    /// Makes the namespace of a site. It gets the addresses of its site and, where the site has
    /// one family only, a link address of the other one too: whatever is not used is not used
    /// although there is a route.
    pub(crate) fn give_both_families(&self, site: &Bootstrap) -> Place {
        let mut addresses = [site.link_addresses(), site.oam_addresses()].concat();
        for (family, length) in [(Family::V4, 24), (Family::V6, 64)] {
            if !site.stack.families().contains(&family) {
                addresses.push(format!("{}/{length}", site.link_address(family)));
            }
        }
        self.0.site(&site.name, &addresses);
        self.nft(&site.name, &["-f", "-"], COUNTERS);
        Place::Lab(Rc::clone(&self.0), site.name.clone())
    }

    /// The port of the link is open on the link address of the primary family and nowhere else.
    fn listens_on_its_link_address_alone(&self, controller: &Controller) {
        let mut command = self.0.exec(&controller.site.name, "ss");
        command.args(["-Hltn", "sport", "=", ":8441"]);
        let listed = run(command).expect(0).stdout;
        let lines = listed.lines();
        let listening: Vec<&str> = lines
            .filter_map(|line| line.split_whitespace().nth(3))
            .collect();
        let address = controller
            .site
            .link_address(controller.site.stack.primary());
        assert_eq!(listening, [SocketAddr::new(address, 8441).to_string()]);
    }

    /// The controller is reachable over its other family too. A port that nobody listens on is
    /// asked, so that the counters stay clean: that the connection is refused is an answer.
    fn reaches_the_secondary(&self, controller: &Controller, subcloud: &Subcloud) {
        let address = controller
            .site
            .link_address(other(controller.site.stack.primary()));
        let mut connect = self.0.exec(subcloud.name(), "bash");
        connect.args(["-c", &format!("exec 3<>/dev/tcp/{address}/9")]);
        run(connect).says("Connection refused");
    }

    /// The token names the controller's link address, so the agent knows before it sends
    /// anything.
    fn refused_by_its_own_agent(&self, controller: &Controller, subcloud: &Subcloud) {
        let added = controller.add(subcloud.name());
        subcloud
            .enroll(&added, &[])
            .expect(2)
            .says(MISMATCH)
            .says("remedy:");
        for family in [Family::V4, Family::V6] {
            assert_eq!(self.packets(subcloud.name(), family), 0, "nothing was sent");
        }
        assert!(
            controller
                .events(subcloud.name(), "ENROLLMENT_REFUSED")
                .is_empty()
        );
    }

    /// A site of the other primary family that does reach the listener, over a family that is
    /// not its primary, is refused by the controller; its token is not spent by that.
    fn refused_by_the_controller(&self, controller: &Controller, subcloud: &Subcloud) {
        let added = controller.token(subcloud.name());
        let refused = subcloud.enroll(&added, &["--link-source", "any"]);
        refused.expect(2).says(MISMATCH).says("remedy:");
        assert!(self.packets(subcloud.name(), controller.site.stack.primary()) > 0);
        // Only the controller itself writes this.
        let events = controller.events(subcloud.name(), "ENROLLMENT_REFUSED");
        assert_eq!(events.len(), 1, "{events:?}");
        let fault = &events[0]["violations"][0];
        assert_eq!(fault["reason"], MISMATCH);
        let has = subcloud.site.stack.families().len() == 2;
        let told = &fault["metadata"]["subcloudHasControllerFamilyAsSecondary"];
        assert_eq!(*told, has.to_string().as_str(), "{fault}");
        let shown = controller
            .show(subcloud.name())
            .expect("the pending record");
        assert_eq!(shown["enrollment"], "pending");
    }

    /// While the primary family fails, subclouds that have the other one as well go offline and
    /// keep trying the primary; they come back over it by themselves.
    fn waits_for_the_primary(&self, controller: &Controller, joined: &[Subcloud]) {
        let primary = controller.site.stack.primary();
        let family = if primary == Family::V4 {
            "ipv4"
        } else {
            "ipv6"
        };
        let name = controller.site.name.as_str();
        let add = [
            "add", "rule", "inet", "link", "cut", "meta", "nfproto", family,
        ];
        self.nft(
            name,
            &[&add[..], &["tcp", "dport", "8441", "drop"]].concat(),
            "",
        );
        for subcloud in joined {
            controller.wait_for(subcloud.name(), "availability", "offline");
        }
        for subcloud in joined {
            let before = self.packets(subcloud.name(), primary);
            wait_until("the primary is tried again", PATIENCE, || {
                self.packets(subcloud.name(), primary) > before
            });
        }
        // Long enough for whoever would try the other family next.
        pause(Duration::from_secs(1));
        self.only_the_primary_family_was_used(controller, joined);
        self.nft(name, &["flush", "chain", "inet", "link", "cut"], "");
        for subcloud in joined {
            controller.wait_for(subcloud.name(), "availability", "online");
        }
    }

    /// Packets of the link on the primary family, and not one on the other.
    fn only_the_primary_family_was_used(&self, controller: &Controller, joined: &[Subcloud]) {
        let primary = controller.site.stack.primary();
        let names = joined
            .iter()
            .map(Subcloud::name)
            .chain([controller.site.name.as_str()]);
        for name in names {
            assert!(
                self.packets(name, primary) > 0,
                "the link of {name} has packets"
            );
            assert_eq!(
                self.packets(name, other(primary)),
                0,
                "the other family at {name}"
            );
        }
    }

    /// Packets of the link's port at a site, both directions.
    pub(crate) fn packets(&self, site: &str, family: Family) -> u64 {
        let name = if family == Family::V4 { "v4" } else { "v6" };
        let listed = self.nft(site, &["-j", "list", "counter", "inet", "link", name], "");
        let objects = listed["nftables"].as_array().expect("a list");
        let count = objects
            .iter()
            .find_map(|object| object["counter"]["packets"].as_u64());
        count.expect("a counter")
    }

    /// Runs nft at a site.
    pub(crate) fn nft(&self, site: &str, arguments: &[&str], input: &str) -> Value {
        let mut command = self.0.exec(site, "nft");
        command.args(arguments);
        let output = Running::start(command, input).output().expect(0);
        if output.stdout.is_empty() {
            Value::Null
        } else {
            output.json()
        }
    }
}

/// The family that is not this one.
pub(crate) fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}
