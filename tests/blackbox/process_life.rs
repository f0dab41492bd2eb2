//! How the processes start and end.

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Controller, Subcloud};
use crate::support::scratch;

#[test]
fn a_subcloud_joins_and_both_end_in_order() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6First);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), site, &controller);
    controller.wait_for("west", "sync", "in-sync");
    assert_eq!(controller.events("west", "ENROLLED").len(), 1);
    west.stop();
    controller.stop();
}
