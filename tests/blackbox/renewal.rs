//! Certificates of subclouds: renewed over the link while it lives, and shut out when copied.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use api::fleet_v1::exchange_response::Message as Heard;
use api::store_v1::{AgentCertificateRecord, AgentKeyRecord};
use prost::Message;
use serde_json::{Value, json};
use store::{Key, Store};

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::by_hand::{ByHand, hello};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::process::run;
use crate::support::{PATIENCE, scratch, wait_until};

/// A certificate that lives so long is renewed after eight to ten seconds.
const SETTINGS: &str = "heartbeat_interval_milliseconds = 500\ncertificate_validity_seconds = 16\n";

#[test]
fn a_certificate_is_renewed_over_the_link_again_and_again() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::install(&dir.path().join("controller"), site, Place::Loopback);
    let settings = controller.state_dir().with_file_name("settings.toml");
    fs::write(settings, SETTINGS).expect("settings");
    for validity in ["3", "2592001"] {
        let mut command = controller.serve_command();
        command.args(["--certificate-validity", validity]);
        run(command)
            .expect(64)
            .says("--certificate-validity")
            .says("4 to 2592000");
    }
    controller.serve();
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), site, &controller);
    // One renewal, and the subcloud is online whenever somebody looks.
    renewed(&controller, 1);
    west.kill();
    let first = identity(&west.state_dir());

    // What was renewed is what it comes back with, to a controller that restarted as well.
    controller.kill();
    controller.serve();
    let before = renewals(&controller);
    west.serve();
    controller.wait_for("west", "availability", "online");
    renewed(&controller, before + 1);
    assert!(west.daemon().is_running());
    west.kill();
    let second = identity(&west.state_dir());
    assert_ne!(first.0, second.0, "another key");
    assert_ne!(first.1, second.1, "another certificate");
    assert!(controller.events("west", "IDENTITY_CLONED").is_empty());
}

#[test]
fn a_copied_identity_is_shut_out_with_its_original() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), site, &controller);
    west.stop();
    let mut copy = west.copy(&dir.path().join("copy"));
    west.serve();
    controller.wait_for("west", "availability", "online");
    copy.serve();

    wait_until("the copy is noticed", PATIENCE, || {
        !controller.events("west", "IDENTITY_CLONED").is_empty()
    });
    controller.wait_for("west", "availability", "offline");
    let fault = &shown(&controller)["identityFault"];
    assert_eq!(fault["reason"], "IDENTITY_CLONED", "{fault}");
    let errors = ["dcmanager", "subcloud", "errors", "west"];
    let errors = controller.tandem(&errors).expect(0).stdout;
    assert!(errors.contains("IDENTITY_CLONED"), "{errors}");

    // The mark outlives the controller's process, and is told once.
    controller.kill();
    controller.serve();
    let fault = &shown(&controller)["identityFault"];
    assert_eq!(fault["reason"], "IDENTITY_CLONED", "{fault}");
    assert_eq!(controller.events("west", "IDENTITY_CLONED").len(), 1);
    assert!(west.daemon().is_running() && copy.daemon().is_running());
}

/// The subcloud west as gRPC shows it.
fn shown(controller: &Controller) -> Value {
    let asked = json!({"subcloud": "west"});
    let answer = controller.grpcurl("tandem.fleet.v1.SubcloudService/GetSubcloud", &asked);
    answer.expect("the subcloud")["subcloud"].clone()
}

/// How often the certificate of west was renewed.
fn renewals(controller: &Controller) -> u64 {
    let count = shown(controller)["certificateRenewals"].clone();
    count
        .as_str()
        .map_or(0, |count| count.parse().expect("a number"))
}

/// Waits for so many renewals; the subcloud must never be offline meanwhile.
fn renewed(controller: &Controller, least: u64) {
    wait_until(&format!("{least} renewals"), PATIENCE, || {
        let availability = shown(controller)["availability"].clone();
        assert_ne!(availability, "AVAILABILITY_OFFLINE");
        renewals(controller) >= least
    });
}

/// The private key and the certificate in the state of an agent that does not serve.
fn identity(state_dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let store = Store::open(state_dir).expect("the state of a stopped agent");
    let read = |key: &str| {
        let record = store.get(&Key::new(key).expect("a key")).expect("readable");
        record.expect("a record").value
    };
    let key = AgentKeyRecord::decode(read("agent/key").as_slice()).expect("a key");
    let certificate = read("agent/certificate");
    let certificate = AgentCertificateRecord::decode(certificate.as_slice()).expect("a record");
    store.close().expect("closed");
    (key.private_key, certificate.certificate)
}

/// A certificate is checked when a connection begins; it must not count for longer on one that
/// lasts.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_with_a_certificate_that_nobody_renews() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::install(&dir.path().join("controller"), site, Place::Loopback);
    let settings = "certificate_validity_seconds = 4\nheartbeat_interval_milliseconds = 60000\n";
    controller.replace_settings(settings);
    controller.serve();
    let added = controller.add("west");
    let west = ByHand::of(&Bootstrap::subcloud("west", 1, Stack::V6));
    let enrolled = west.enroll(&added, false).await.expect("enrolled");
    let mut link = west.link(&added, &enrolled).await;
    link.say(hello(&west.digest)).await;
    assert!(matches!(link.hear().await, Ok(Some(Heard::Welcome(_)))));
    let ended = async { while let Ok(Some(_)) = link.hear().await {} };
    let limit = tokio::time::timeout(PATIENCE, ended);
    limit
        .await
        .expect("the link ends, long before three heartbeats are missed");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    assert!(now.as_millis() >= u128::from(enrolled.not_after_milliseconds));
}
