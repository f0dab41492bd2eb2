//! Whole controllers without their operators' side, on loopback: tokens, links, loss and return.

use std::net::SocketAddr;
use std::path::Path;

use clap::{Args as _, FromArgMatches as _};
use fleet::{Association, PeerAvailability, PeerGroupId, PeerSubject, Write};
use store::Store;
use tempfile::TempDir;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::*;
use crate::settings::{ServeOptions, Settings};
use crate::{certificate, init, records, serve};

/// Nothing here should take longer, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// As short as they may be.
const SETTINGS: PeerSettings = PeerSettings {
    administrative: fleet::Administrative::Enabled,
    heartbeat_interval: Duration::from_secs(1),
    failure_threshold: 2,
    failure_policy: fleet::FailurePolicy::Rehome,
};

const HOUR: Duration = Duration::from_secs(3600);

/// An installed controller, serving or not.
struct Site {
    dir: TempDir,
    address: SocketAddr,
    running: Option<(Life, Arc<Store>, Arc<Hub>)>,
}

impl Site {
    /// Installs a site whose link network is that of `subnet`, such as `10.1.0`.
    fn install(name: &str, net: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let link = if net.contains(':') {
            [format!("{net}::/64"), format!("{net}::"), "200".to_owned()]
        } else {
            [format!("{net}.0/24"), format!("{net}."), "200".to_owned()]
        };
        let [subnet, prefix, last] = link;
        let (oam, service) = if net.contains(':') {
            ("fd99:1::", ["fd99:2::/64", "fd99:3::/64", "fd99:4::/112"])
        } else {
            (
                "10.89.1.",
                ["10.89.2.0/24", "172.16.0.0/16", "10.96.0.0/12"],
            )
        };
        let length = if net.contains(':') { "/64" } else { "0/24" };
        let [host, pod, services] = service;
        let text = format!(
            "name: {name}\nsystem_mode: simplex\ndistributed_cloud_role: systemcontroller\n\
             software_version: \"24.09\"\nmanagement_subnet: {subnet}\n\
             management_gateway_address: {prefix}1\nmanagement_start_address: {prefix}2\n\
             management_end_address: {prefix}{last}\nexternal_oam_subnet: {oam}{length}\n\
             external_oam_gateway_address: {oam}1\nexternal_oam_floating_address: {oam}3\n\
             cluster_host_subnet: {host}\ncluster_pod_subnet: {pod}\n\
             cluster_service_subnet: {services}\n"
        );
        let file = dir.path().join("site.yaml");
        std::fs::write(&file, text).expect("a bootstrap file");
        // `init` starts threads of its own.
        let state = dir.path().join("state");
        let installed = std::thread::spawn(move || init::run(&file, &state)).join();
        installed.expect("no panic").expect("an installed site");
        Self {
            dir,
            address: "127.0.0.1:0".parse().expect("an address"),
            running: None,
        }
    }

    fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    async fn serve(&mut self) -> Arc<Hub> {
        let store = Arc::new(daemon::open_store(&self.state()).expect("a store"));
        let (site, _) = daemon::read_site(&store).expect("a site");
        let settings = settings(&self.state(), self.address, &site);
        let authority = records::read_authority(&store).expect("an authority");
        let certificate = certificate::Certificate::issue(Arc::new(authority), Vec::new());
        let certificate = certificate.expect("a certificate");
        let link = TcpListener::bind(self.address).await.expect("a port");
        self.address = link.local_addr().expect("bound");
        let life = Life::default();
        let link = (link, self.address);
        let side = serve::serve_link(&life, &store, (&site, &settings), link, &certificate).await;
        let hub = side.expect("a running fleet").hub;
        self.running = Some((life, store, Arc::clone(&hub)));
        hub
    }

    /// Stops in order; everything that held the store is gone then.
    async fn stop(&mut self) {
        let (life, store, hub) = self.running.take().expect("it serves");
        drop(hub);
        life.stop();
        life.until_stopped().await;
        until("the store is free", || Arc::strong_count(&store) == 1).await;
    }
}

fn settings(state: &Path, link: SocketAddr, site: &site::Site) -> Settings {
    let command = ServeOptions::augment_args(clap::Command::new("serve"));
    let state = state.display().to_string();
    let link = link.to_string();
    let arguments = ["serve", "--state-dir", &state, "--link-listen", &link];
    let matches = command.try_get_matches_from(arguments).expect("arguments");
    let options = ServeOptions::from_arg_matches(&matches).expect("options");
    Settings::new(options, site).expect("settings")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::time::timeout(DEADLINE, waited).await;
    assert!(ended.is_ok(), "still not: {what}");
}

fn admin() -> Actor {
    Actor::Operator("operator/admin/test".to_owned())
}

async fn issue(hub: &Hub, name: &str) -> String {
    let issued = hub.issue_peering(admin(), name.to_owned(), SETTINGS, HOUR, false);
    issued.await.expect("a token").0
}

async fn join(hub: &Hub, token: &str, validate_only: bool) -> Result<PeerReceipt, String> {
    let joined = hub.join_peer(admin(), "other".to_owned(), SETTINGS, token, validate_only);
    joined.await.map_err(|unpeered| {
        let status = match unpeered {
            Unpeered::Refused(refusal) | Unpeered::Judged(refusal) => crate::grpc::refused(refusal),
            Unpeered::Failed(status) => status,
        };
        let refusal = api::status::to_refusal(&status);
        assert!(!refusal.reason.is_empty(), "{status:?}");
        refusal.reason
    })
}

fn refused_with(outcome: Result<PeerReceipt, String>) -> String {
    outcome.expect_err("it must be refused")
}

fn availability(hub: &Hub) -> Vec<(PeerAvailability, bool)> {
    let driven = hub.lock();
    let peers = driven.machine.system_peers();
    peers
        .map(|peer| {
            let view = driven.machine.peer_view(peer);
            (view.availability, view.synchronising)
        })
        .collect()
}

const WELL: (PeerAvailability, bool) = (PeerAvailability::Available, true);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sites_peer_once_lose_each_other_and_come_back() {
    let (mut a, mut b) = (Site::install("a", "10.1.0"), Site::install("b", "10.2.0"));
    let (hub_a, hub_b) = (a.serve().await, b.serve().await);
    let token = issue(&hub_a, "b").await;

    // A preview changes nothing and spends nothing.
    let previewed = join(&hub_b, &token, true).await.expect("it would do");
    assert!(matches!(previewed.subject, PeerSubject::Peer(_)));
    assert_eq!(hub_b.lock().machine.system_peers().len(), 0);

    join(&hub_b, &token, false).await.expect("a peer");
    for hub in [&hub_a, &hub_b] {
        until("both synchronise", || availability(hub) == [WELL]).await;
        assert!(hub.peer_alarms().is_empty());
    }

    // The same site again is a peer already; the token is worth nothing to anybody else.
    assert_eq!(
        refused_with(join(&hub_b, &token, false).await),
        "PEER_EXISTS"
    );
    let mut c = Site::install("c", "10.3.0");
    let hub_c = c.serve().await;
    assert_eq!(
        refused_with(join(&hub_c, &token, false).await),
        "PEER_TOKEN_INVALID"
    );

    // One of two is lost: the other says so, until it is back, from what is on its disk.
    drop(hub_b);
    b.stop().await;
    until("the loss is told", || !hub_a.peer_alarms().is_empty()).await;
    let [alarm] = hub_a.peer_alarms().try_into().expect("one alarm");
    assert_eq!(
        (alarm.id.as_str(), alarm.entity.as_str()),
        ("280.004", "system_peer=b")
    );
    assert_eq!(alarm.severity, Severity::Major);
    let hub_b = b.serve().await;
    for hub in [&hub_a, &hub_b] {
        until("both synchronise again", || availability(hub) == [WELL]).await;
    }
    until("the alarm is cleared", || hub_a.peer_alarms().is_empty()).await;

    // A peer that was deleted at one side is a stranger there at once.
    let name = "b".to_owned();
    let delete = PeerAction::DeletePeer { peer: name };
    let deleted = hub_a.peer_call(admin(), delete, false);
    deleted.await.expect("deleted");
    until("the other side says so", || {
        let alarms = hub_b.peer_alarms();
        alarms
            .iter()
            .any(|alarm| alarm.reason.contains("cannot be reached"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_peer_is_told_why_and_keeps_the_token_whole() {
    let mut a = Site::install("a", "10.1.0");
    let hub_a = a.serve().await;
    let token = issue(&hub_a, "b").await;

    for (name, net, reason) in [
        ("other-family", "fd10:1", "PRIMARY_FAMILY_MISMATCH"),
        ("overlapping", "10.1.0", "ADDRESS_OVERLAP"),
    ] {
        let mut site = Site::install(name, net);
        let hub = site.serve().await;
        for validate_only in [true, false] {
            let outcome = join(&hub, &token, validate_only).await;
            assert_eq!(refused_with(outcome), reason, "{name}");
        }
        assert_eq!(hub.lock().machine.system_peers().len(), 0);
    }
    assert_eq!(
        refused_with(join(&hub_a, &token, false).await),
        "PEER_IS_SELF"
    );
    let cut = &token[..token.len() - 9];
    assert_eq!(
        refused_with(join(&hub_a, cut, false).await),
        "PEER_TOKEN_INVALID"
    );

    let mut b = Site::install("b", "10.2.0");
    let hub_b = b.serve().await;
    // Somebody else answers where the token points: its authority is not the pinned one.
    let stolen = PeeringToken::issue(
        random_uuid(),
        hub_b.wire.authority,
        vec![hub_a.wire.link],
        &SystemRandom::new(),
    );
    let stolen = stolen.expect("a token").reveal();
    assert_eq!(
        refused_with(join(&hub_b, &stolen, false).await),
        "PEER_UNREACHABLE"
    );
    join(&hub_b, &token, false).await.expect("still good");
    for hub in [&hub_a, &hub_b] {
        until("both synchronise", || availability(hub) == [WELL]).await;
    }
}

/// Somebody with the certificate of a peer talks without end and never listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_floods_loses_its_link_and_nobody_else_does() {
    let [mut a, mut b, mut c] = [("a", "10.1.0"), ("b", "10.2.0"), ("c", "10.3.0")]
        .map(|(name, net)| Site::install(name, net));
    let (hub_a, hub_b, hub_c) = (a.serve().await, b.serve().await, c.serve().await);
    for (hub, name) in [(&hub_b, "b"), (&hub_c, "c")] {
        let token = issue(&hub_a, name).await;
        join(hub, &token, false).await.expect("a peer");
        until("both synchronise", || availability(hub) == [WELL]).await;
    }
    let card = hub_b.lock().machine.card().clone();
    let dial = Dial {
        peer: PeerId(Uuid::from_u128(1)),
        controller: hub_a.lock().machine.card().controller,
        endpoints: vec![Endpoint(a.address)],
        authority: Fingerprint(*hub_a.wire.authority.as_bytes()),
        given_up: CancellationToken::new(),
    };
    let (_, words, unheard) = hub_b.open_one(&dial).await.expect("a link");
    words
        .send(PeerMessage::Hello(Box::new(card)))
        .await
        .expect("said");
    // It ends at the queue that nobody empties, or earlier: the peer itself comes back, and the
    // newest link of a peer is the one that counts.
    let flood = async { while words.send(PeerMessage::Heartbeat).await.is_ok() {} };
    let ended = tokio::time::timeout(DEADLINE, flood).await;
    assert_eq!(ended, Ok(()), "it is cut off");
    drop(unheard);

    until("all are well", || {
        availability(&hub_a) == [WELL, WELL] && availability(&hub_b) == [WELL]
    })
    .await;
    assert_eq!(availability(&hub_c), [WELL]);
    assert_eq!(hub_c.peer_alarms(), []);
}

#[test]
fn records_of_peers_groups_and_associations_come_back_as_they_were() {
    let a = Site::install("a", "10.1.0");
    let store = daemon::open_store(&a.state()).expect("a store");
    let (group, peer) = (PeerGroupId(Uuid::from_u128(3)), PeerId(Uuid::from_u128(4)));
    let written = Association {
        group,
        peer,
        peer_priority: 1,
        told: Some(fleet::SyncDigest([7; 32])),
        generation: 8,
        ended: true,
        withdrawn: true,
        faults: vec![fleet::Fault {
            reason: "ADDRESS_OVERLAP".to_owned(),
            ..fleet::Fault::default()
        }],
        updated_at: site::Timestamp(9),
    };
    let header = fleet::GroupHeader {
        name: "shared".to_owned(),
        max_subcloud_rehoming: 5,
        places: [(ControllerId(Uuid::from_u128(1)), 2)].into(),
        revision: 6,
        editor: ControllerId(Uuid::from_u128(1)),
    };
    let leader = fleet::Leader {
        controller: ControllerId(Uuid::from_u128(2)),
        name: "b".to_owned(),
        priority: 1,
        term: 8,
    };
    let kept = fleet::PeerGroup {
        id: group,
        header,
        leader,
        priority: 2,
        migration: Some(fleet::Migration {
            started_at: site::Timestamp(1),
            targets: [fleet::SubcloudId(Uuid::from_u128(5))].into(),
            finished_at: None,
            missing: [fleet::SubcloudId(Uuid::from_u128(6))].into(),
        }),
        created_at: site::Timestamp(1),
        updated_at: site::Timestamp(2),
    };
    let writes = [
        Write::Association(Box::new(written.clone())),
        Write::PeerGroup(Box::new(kept.clone())),
    ];
    let commit = |writes: &[Write]| {
        let batch = records::store_writes(writes);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(store.commit(batch)).expect("written");
    };
    // An earlier write of the same record in the same commit does not count.
    let early = Association {
        peer_priority: 9,
        ..written.clone()
    };
    commit(&[&[Write::Association(Box::new(early))], &writes[..]].concat());
    let read = records::read_fleet(&store).expect("records");
    assert_eq!(
        (read.associations, read.peer_groups),
        (vec![written], vec![kept])
    );
    commit(&[
        Write::ForgetAssociation(group, peer),
        Write::ForgetPeerGroup(group),
    ]);
    let read = records::read_fleet(&store).expect("records");
    assert!(read.associations.is_empty() && read.peer_groups.is_empty());
}

#[tokio::test]
async fn a_change_of_the_own_site_is_told_that_comes_before_the_first_turn_of_who_follows_it() {
    let mut site = Site::install("west", "10.1.0");
    let hub = site.serve().await;
    let (life, store, _) = site.running.as_ref().expect("it serves");
    let (own, revision) = daemon::read_site(store).expect("a site");
    let keeper = daemon::SiteKeeper::new(Arc::clone(store), own, revision).expect("a keeper");
    let keeper = Arc::new(keeper);
    let following = serve::follow_site(Arc::clone(&hub), &keeper, site.address, life.clone());
    let before = hub.look(|machine| machine.networks().clone());
    let change = site::Change::ModifyPool {
        pool: "oam-ipv4".to_owned(),
        edit: site::PoolEdit {
            gateway_address: Some("10.89.1.9".to_owned()),
            ..site::PoolEdit::default()
        },
    };
    let made = keeper.change_own(change).await;
    assert!(made.expect("a sound change").is_some());
    life.spawn(following);
    until("the fleet knows", || {
        hub.look(|machine| *machine.networks() != before)
    })
    .await;
    drop((keeper, hub));
    site.stop().await;
}

/// Set in the process in which a step of the machine breaks off.
const BREAKS: &str = "TANDEM_TEST_STEP_BREAKS";

#[test]
fn nobody_goes_on_with_a_machine_of_which_a_step_broke_off() {
    if std::env::var_os(BREAKS).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        return runtime.block_on(async {
            let mut site = Site::install("west", "10.1.0");
            let hub = site.serve().await;
            let broken = Arc::clone(&hub);
            // As in the handler of a call: its connection ends, and nobody else hears of it.
            let step = tokio::spawn(async move { broken.look(|_| panic!("a defect")) });
            assert!(step.await.is_err(), "it broke off");
            // The answer would be one of a machine that is half changed.
            issue(&hub, "east").await;
        });
    }
    let mut again = std::process::Command::new(std::env::current_exe().expect("this test"));
    let name = "nobody_goes_on_with_a_machine_of_which_a_step_broke_off";
    again.args(["--exact", &format!("hub::peer::tests::{name}")]);
    let ended = again.env(BREAKS, "").output().expect("it runs");
    assert_eq!(ended.status.code(), Some(70), "{ended:?}");
}
