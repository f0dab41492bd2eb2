//! A controller whose state was restored from a backup.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::{PATIENCE, scratch, wait_until};

/// A certificate that lives so long is renewed after eight to ten seconds.
const SETTINGS: &str = "heartbeat_interval_milliseconds = 500\ncertificate_validity_seconds = 16\n";

#[test]
fn after_a_restore_agents_that_renewed_come_back_and_others_are_told_of() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::install(&dir.path().join("controller"), site, Place::Loopback);
    controller.replace_settings(SETTINGS);
    controller.serve();
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), site, &controller);

    controller.stop();
    let backup = dir.path().join("backup");
    copy(&controller.state_dir(), &backup);
    let before = {
        controller.serve();
        renewals(&controller)
    };
    wait_until("a renewal", PATIENCE, || renewals(&controller) > before);
    // A subcloud that the backup does not know.
    let site = Bootstrap::subcloud("east", 2, Stack::V6);
    let mut east = Subcloud::join(&dir.path().join("east"), site, &controller);

    controller.stop();
    fs::remove_dir_all(controller.state_dir()).expect("the state is lost");
    copy(&backup, &controller.state_dir());
    controller.serve();
    controller.wait_for("west", "availability", "online");
    wait_until("the event", PATIENCE, || {
        !controller.events("west", "CERTIFICATE_NEWER").is_empty()
    });
    let found = controller.events("west", "CERTIFICATE_NEWER");
    assert_eq!(found.len(), 1);
    let message = found[0]["message"].as_str().expect("a message");
    assert!(message.contains("restored from a backup"), "{message}");
    wait_until("east is told of", PATIENCE, || {
        controller.daemon().log_text().contains("not enrolled here")
            && east.daemon().log_text().contains("CERTIFICATE_REVOKED")
    });
    let told = "this controller's state is older than the certificate of a subcloud";
    assert_eq!(controller.daemon().log_text().matches(told).count(), 1);
    let told = "its controller was restored from an older backup";
    assert!(east.daemon().log_text().contains(told));

    // It is renewed again, and that is no copy.
    let back = renewals(&controller);
    wait_until("a renewal", PATIENCE, || renewals(&controller) > back);
    assert!(controller.events("west", "IDENTITY_CLONED").is_empty());
    assert!(west.daemon().is_running());

    // What was added after the backup is added again.
    east.stop();
    let added = controller.add("east");
    east.enroll(&added, &[]).expect(0);
    east.serve();
    controller.wait_for("east", "availability", "online");
}

/// Copies a state directory, without its sockets.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the state") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

/// How often the certificate of west was renewed.
fn renewals(controller: &Controller) -> u64 {
    let asked = json!({"subcloud": "west"});
    let answer = controller.grpcurl("tandem.fleet.v1.SubcloudService/GetSubcloud", &asked);
    let shown: Value = answer.expect("the subcloud")["subcloud"].clone();
    let count = shown["certificateRenewals"].as_str();
    count.map_or(0, |count| count.parse().expect("a number"))
}
