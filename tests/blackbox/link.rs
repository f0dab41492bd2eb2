//! What travels over the link after enrollment: changes of the subcloud, refusals of them, the
//! controller's own networks, and messages that are too large.

use api::fleet_v1::ReportChunk;
use api::fleet_v1::exchange_request::Message as Say;
use api::fleet_v1::exchange_response::Message as Hear;
use prost::Message as _;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::support::bootstrap::{Bootstrap, Family, Net, Stack};
use crate::support::by_hand::{ByHand, ByHandLink, hello};
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
    // The subcloud takes the link subnet of another one, with ranges that meet its own.
    let east = Bootstrap::subcloud("east", 2, Stack::V6);
    let east = Subcloud::join(&dir.path().join("east"), east, &controller);
    let at = |host| east.site.address(Net::Link, Family::V6, host).to_string();
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
    admin(&at(0), &at(50), &at(1), &at(60)).expect(0);
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

    // What somebody deletes at the subcloud comes back with its report.
    controller.wait_for("west", "sync", "in-sync");
    let routed = || {
        let listed = west.tandem(&["system", "network-list", "-f", "json"]);
        let listed = listed.expect(0).json();
        let networks = listed.as_array().cloned().unwrap_or_default();
        networks
            .iter()
            .any(|network| network["name"] == "system-controller")
    };
    assert!(routed());
    west.tandem(&["system", "network-delete", "system-controller"])
        .expect(0);
    wait_until("the controller tells it again", PATIENCE, routed);
    controller.wait_for("west", "sync", "in-sync");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_answered_with_the_reason() {
    let dir = scratch();
    let (mut controller, mut west) = joined(dir.path());
    let process = controller.daemon().id();
    let added = controller.add("east");
    let east = ByHand::of(&Bootstrap::subcloud("east", 2, Stack::V6));
    let enrolled = east.enroll(&added, false).await.expect("enrolled");

    // One message of 10 MiB, then a report whose pieces are small and too many.
    for (pieces, bytes, words) in [(1, 10 << 20, "too large"), (17, 64 << 10, "exceed 1 MiB")] {
        let mut link = east.link(&added, &enrolled).await;
        link.say(hello(&east.digest)).await;
        link.hear().await.expect("a welcome").expect("a message");
        controller.wait_for("east", "availability", "online");
        for _ in 0..pieces {
            link.say(piece(&east, bytes)).await;
        }
        let status = last_word(&mut link).await;
        assert!(status.message().contains(words), "{status:?}");
        let info = status.get_details_error_info().expect("a reason");
        assert_eq!(info.reason, "LINK_PROTOCOL_VIOLATION", "{status:?}");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }

    // Nobody else noticed, and the one who did wrong may come back.
    controller.wait_for("west", "availability", "online");
    assert!(controller.events("west", "OFFLINE").is_empty());
    let mut link = east.link(&added, &enrolled).await;
    link.say(hello(&east.digest)).await;
    link.hear().await.expect("a welcome").expect("a message");
    assert_eq!(controller.daemon().id(), process);
    assert!(controller.daemon().is_running() && west.daemon().is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_takes_many_heartbeats_to_arrive_is_heard_and_accepted() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let added = controller.add("east");
    let east = ByHand::of(&Bootstrap::subcloud("east", 2, Stack::V6));
    let enrolled = east.enroll(&added, false).await.expect("enrolled");
    let mut link = east.link(&added, &enrolled).await;
    link.say(hello(&[7; 32])).await;

    // A byte at a time, for as long as half of twelve heartbeats take at least.
    let mut rest = east.site.encode_to_vec();
    let mut heartbeats = 0;
    let mut part = |bytes: usize, last: bool| {
        let data = rest.drain(..bytes.min(rest.len())).collect();
        Say::ReportChunk(ReportChunk {
            generation: east.site.generation,
            digest: east.digest.clone(),
            data,
            last,
        })
    };
    let pace = std::time::Duration::from_millis(50);
    while heartbeats < 6 {
        match tokio::time::timeout(pace, link.hear()).await {
            Ok(heard) => match heard.expect("the link stays").expect("a message") {
                Hear::Heartbeat(_) => heartbeats += 1,
                Hear::Welcome(_) | Hear::ControllerNetworks(_) => {}
                other => panic!("{other:?}"),
            },
            Err(_) => link.say(part(1, false)).await,
        }
    }
    link.say(part(usize::MAX, true)).await;
    loop {
        match link
            .hear()
            .await
            .expect("the link stays")
            .expect("a message")
        {
            Hear::Acknowledgement(_) => break,
            Hear::Heartbeat(_) | Hear::ControllerNetworks(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(controller.events("east", "OFFLINE").is_empty());
}

fn piece(by: &ByHand, bytes: usize) -> Say {
    Say::ReportChunk(ReportChunk {
        generation: by.site.generation,
        digest: by.digest.clone(),
        data: vec![0; bytes],
        last: false,
    })
}

/// Why the controller ends a link.
async fn last_word(link: &mut ByHandLink) -> Status {
    loop {
        match link.hear().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the link ended without a word"),
            Err(status) => return status,
        }
    }
}
