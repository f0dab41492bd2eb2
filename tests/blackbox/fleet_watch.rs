//! `WatchFleet`: every change in order, resumed over breaks, and a resync where that is not
//! possible.

use std::collections::BTreeMap;
use std::path::Path;

use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::fleet_v1::{
    AddSubcloudRequest, Availability, IssueSubcloudTokenRequest, WatchFleetRequest,
    WatchFleetResponse,
};
use tonic::Streaming;
use tonic_types::StatusExt as _;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::client::operators;
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::{PATIENCE, scratch};

/// A watcher and what it knows.
struct Watcher {
    stream: Streaming<WatchFleetResponse>,
    last: u64,
    fleet: BTreeMap<String, Availability>,
    kinds: Vec<String>,
}

impl Watcher {
    async fn start(socket: &Path, from_revision: u64) -> Self {
        let mut client = SubcloudServiceClient::new(operators(socket).await);
        let stream = client
            .watch_fleet(WatchFleetRequest { from_revision })
            .await;
        Self {
            stream: stream.expect("a stream").into_inner(),
            last: from_revision,
            fleet: BTreeMap::new(),
            kinds: Vec::new(),
        }
    }

    /// Takes the next message and keeps what it says.
    async fn take(&mut self) -> WatchFleetResponse {
        let next = tokio::time::timeout(PATIENCE, self.stream.message()).await;
        let message = next.expect("in time").expect("a message").expect("no end");
        if message.revision != 0 {
            assert!(
                message.revision > self.last,
                "{message:?} after {}",
                self.last
            );
            self.last = message.revision;
        }
        if let Some(resync) = &message.resync {
            if resync.first {
                self.fleet.clear();
                self.kinds.push("RESYNC".to_owned());
            }
            for subcloud in &resync.subclouds {
                self.fleet
                    .insert(subcloud.name.clone(), subcloud.availability());
            }
        }
        self.kinds
            .extend(message.event.iter().map(|event| event.kind.clone()));
        if let Some(subcloud) = &message.subcloud {
            self.fleet
                .insert(subcloud.name.clone(), subcloud.availability());
        }
        message
    }

    /// Takes messages until an event of this kind came.
    async fn until(&mut self, kind: &str) {
        while self.kinds.last().is_none_or(|last| last != kind) {
            self.take().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_once_and_in_order() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let socket = controller.state_dir().join("operator.sock");
    let mut watcher = Watcher::start(&socket, 0).await;
    let first = watcher.take().await;
    let resync = first.resync.expect("a resync first");
    assert!(resync.first && resync.last && resync.subclouds.is_empty());
    let start = watcher.last;

    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), site, &controller);
    watcher.until("ONLINE").await;
    assert_eq!(watcher.kinds, ["RESYNC", "ADDED", "ENROLLED", "ONLINE"]);
    assert_eq!(watcher.fleet["west"], Availability::Online);

    // From the start once more: the same changes, and then those that come.
    let mut resumed = Watcher::start(&socket, start).await;
    resumed.until("ONLINE").await;
    assert_eq!(resumed.kinds, ["ADDED", "ENROLLED", "ONLINE"]);
    assert_eq!(resumed.last, watcher.last);
    west.kill();
    for watcher in [&mut watcher, &mut resumed] {
        watcher.until("OFFLINE").await;
        assert_eq!(watcher.fleet["west"], Availability::Offline);
    }
    assert_eq!(resumed.last, watcher.last);

    // A revision of another process, and one that is to come, cannot be resumed: said so.
    let known = watcher.last;
    let mut ahead = Watcher::start(&socket, known + 1_000_000).await;
    assert!(
        ahead
            .stream
            .message()
            .await
            .expect("a message")
            .expect("one")
            .resync
            .is_some()
    );
    drop((watcher, resumed, ahead));
    controller.kill();
    controller.serve();
    let mut after = Watcher::start(&socket, known).await;
    let resync = after.take().await.resync.expect("a resync");
    assert_eq!(resync.subclouds.len(), 1);
    assert!(after.last > known, "revisions grow over a restart");
    controller.add("east");
    after.until("ADDED").await;

    let watch = [
        "dcmanager",
        "watch",
        "--from-revision",
        &known.to_string(),
        "-f",
        "json",
    ];
    let mut command = crate::support::process::Program::Tandem.command();
    let endpoint = format!("unix:{}", socket.display());
    command.args(["--endpoint", &endpoint]).args(watch);
    let lines = first_lines(command, 2);
    assert!(
        lines[0].contains("\"resync\"") && lines[0].contains("west"),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_is_made_as_it_is_taken() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let socket = controller.state_dir().join("operator.sock");
    let mut client = SubcloudServiceClient::new(operators(&socket).await);
    let mut add = async |name: String| {
        let request = AddSubcloudRequest {
            name,
            description: "d".repeat(200),
            ..Default::default()
        };
        client.add_subcloud(request).await.expect("added");
    };
    // More than HTTP/2 takes in at either end for a watcher that does not read.
    for number in 0..3000 {
        add(format!("s{number:04}")).await;
    }
    let mut watcher = Watcher::start(&socket, 0).await;
    let first = watcher.take().await.resync.expect("a resync");
    assert!(first.first && !first.last);
    // Whoever is added now is in what is still to come, and told once more as a change.
    add("t".to_owned()).await;
    loop {
        let resync = watcher.take().await.resync.expect("the resync goes on");
        assert!(!resync.first);
        if resync.last {
            break;
        }
    }
    let names: Vec<&String> = watcher.fleet.keys().collect();
    assert_eq!(names.len(), 3001);
    assert_eq!(watcher.kinds, ["RESYNC"]);
    watcher.until("ADDED").await;
    assert_eq!(watcher.fleet.len(), 3001);
}

/// The first lines that a command writes that does not end by itself.
fn first_lines(mut command: std::process::Command, count: usize) -> Vec<String> {
    use std::io::BufRead as _;
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("started");
    let stdout = child.stdout.take().expect("its output");
    let lines = std::io::BufReader::new(stdout).lines().take(count - 1);
    let lines = lines.collect::<Result<_, _>>().expect("lines");
    child.kill().expect("killed");
    child.wait().expect("ended");
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_does_not_take_its_changes_is_cut_off() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::install(&dir.path().join("controller"), site, Place::Loopback);
    controller.set("watch_history_changes = 256\n");
    controller.serve();
    let socket = controller.state_dir().join("operator.sock");
    let mut slow = Watcher::start(&socket, 0).await;
    slow.take().await;
    let mut client = SubcloudServiceClient::new(operators(&socket).await);
    let request = AddSubcloudRequest {
        name: "west".to_owned(),
        ..Default::default()
    };
    client.add_subcloud(request).await.expect("added");
    // Some 300 bytes a change: what the transport takes in is bounded, and so is the rest.
    for _ in 0..1500 {
        let request = IssueSubcloudTokenRequest {
            subcloud: "west".to_owned(),
            ..Default::default()
        };
        client.issue_subcloud_token(request).await.expect("a token");
    }
    let mut taken = 0;
    let status = loop {
        match slow.stream.message().await {
            Ok(Some(message)) => {
                assert_eq!(
                    message.revision,
                    slow.last + 1,
                    "nothing is left out in silence"
                );
                slow.last = message.revision;
                taken += 1;
            }
            Ok(None) => panic!("it ended without a word after {taken}"),
            Err(status) => break status,
        }
    };
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!(info.reason, "WATCHER_TOO_SLOW", "{status:?}");
    assert!(taken < 1501, "{taken}");
    // It comes back, and is told that there is a gap.
    let mut back = Watcher::start(&socket, slow.last).await;
    assert!(back.take().await.resync.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_is_behind_does_not_mistake_a_subcloud_for_the_one_before_it() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let socket = controller.state_dir().join("operator.sock");
    let mut early = Watcher::start(&socket, 0).await;
    early.take().await;
    let start = early.last;
    controller.add("west");
    let first = early.take().await.subcloud.expect("west").uuid;
    let delete = ["dcmanager", "subcloud", "delete", "west"];
    controller.tandem(&delete).expect(0);
    controller.add("west");

    let mut late = Watcher::start(&socket, start).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let message = late.take().await;
        told.push((message.removed_uuid, message.subcloud.map(|it| it.uuid)));
    }
    assert_eq!(late.kinds, ["ADDED", "DELETED", "ADDED"]);
    let gone = (first.clone(), None);
    assert_eq!(told[..2], [gone.clone(), gone]);
    let second = told[2].1.as_ref().expect("the new west");
    assert!(told[2].0.is_empty() && *second != first);
}
