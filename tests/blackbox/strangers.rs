//! Credentials that are almost right: each is turned away for what is wrong with it, nothing
//! changes, and the controller goes on in the same process.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use api::fleet_v1::exchange_response::Message as Heard;
use api::store_v1::AuthorityRecord;
use identity::{
    Ca, CaParts, EnrollmentToken, IssuedCertificate, LeafKey, SUBCLOUD_VALIDITY, Secret,
};
use prost::Message;
use serde_json::json;
use store::{Key, Store};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::by_hand::ByHand;
use crate::support::cloud::{Added, Controller, Place, Subcloud};
use crate::support::console::Metrics;
use crate::support::grpcurl::{Target, grpcurl};
use crate::support::{PATIENCE, scratch, wait_until};

const UNAUTHENTICATED: i64 = 16;

#[test]
fn a_token_that_expired_or_has_another_secret_enrolls_nobody() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let added = controller.add("west");
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let west = Subcloud::install(&dir.path().join("west"), site, Place::Loopback);

    let guessed = Added {
        token: with_another_secret(&added.token),
        ..added.clone()
    };
    west.enroll(&guessed, &[])
        .expect(2)
        .says("ENROLL_TOKEN_INVALID")
        .says("remedy:");

    // One that lives for a second; meanwhile the controller is restarted. A dry run spends nothing.
    let token = [
        "dcmanager",
        "subcloud",
        "token",
        "west",
        "--token-ttl",
        "1",
        "-f",
        "json",
    ];
    let short = Added::of(controller.tandem(&token));
    controller.stop();
    controller.serve();
    wait_until("the token expires", PATIENCE, || {
        west.enroll(&short, &["--dry-run"]).code == Some(2)
    });
    west.enroll(&short, &[])
        .expect(2)
        .says("ENROLL_TOKEN_INVALID")
        .says("remedy:");
    assert_eq!(controller.events("west", "ENROLLMENT_REFUSED").len(), 2);
    let shown = controller.show("west").expect("still there");
    assert_eq!(shown["availability"], "unknown", "{shown}");
    assert!(controller.events("west", "ENROLLED").is_empty());

    // A new one works: nothing else was wrong.
    west.enroll(&controller.token("west"), &[]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_opens_only_what_it_is_for() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let added = controller.add("west");
    let west = ByHand::of(&Bootstrap::subcloud("west", 1, Stack::V6));
    let mut enrolled = west.enroll(&added, false).await.expect("enrolled");
    controller.stop();
    // As the controller itself would issue them: for the right subcloud, with another key.
    let other = LeafKey::generate().expect("a key");
    let issued = issue(&controller.state_dir(), &other, &enrolled.subcloud_uuid);
    controller.serve();
    let process = controller.daemon().id();
    let before = controller.show("west");

    // A subcloud is no operator.
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let mut target = controller.tls(None);
    if let Target::Tls { operator, .. } = &mut target {
        let pair: (PathBuf, PathBuf) = (
            file("west.crt", &issued.to_pem()),
            file("west.key", &other.to_pkcs8_pem()),
        );
        *operator = Some(pair);
    }
    let list = "tandem.fleet.v1.SubcloudService/ListSubclouds";
    let error = grpcurl(&target, list, &json!({})).expect_err("no operator");
    assert_eq!(error.code, Some(UNAUTHENTICATED), "{error:?}");
    assert!(
        error.message.contains("operator's certificate"),
        "{error:?}"
    );

    // Nor is a key that did not enroll the subcloud, whatever its certificate says.
    enrolled.certificate = issued.der.to_vec();
    let impostor = ByHand { key: other, ..west };
    let mut link = impostor.link(&added, &enrolled).await;
    let Some(Heard::Goodbye(goodbye)) = link.hear().await.expect("a word") else {
        panic!("anything but a goodbye");
    };
    assert_eq!(goodbye.reason, "REVOKED");
    let end = link.hear().await.expect_err("the end says why");
    assert_eq!(i64::from(i32::from(end.code())), UNAUTHENTICATED);
    let details = end.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    assert_eq!(reason, Some("CERTIFICATE_REVOKED"), "{end:?}");

    assert_eq!(controller.show("west"), before);
    assert_eq!(controller.daemon().id(), process);
    assert!(controller.daemon().is_running());
}

#[test]
fn connections_that_stay_silent_are_closed_while_others_are_served() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let process = controller.daemon().id();
    let link = controller.daemon().ready.link.clone();
    let operators = controller.daemon().ready.operators[0].clone();
    // Fewer than one source may hold, so that the others below come from the same.
    let connect = |address: &String| TcpStream::connect(address).expect("a connection");
    let silent: Vec<TcpStream> = [link, operators]
        .iter()
        .flat_map(|address| (0..20).map(|_| connect(address)))
        .collect();

    let target = controller.tls(Some("operator-admin"));
    let list = "tandem.fleet.v1.SubcloudService/ListSubclouds";
    grpcurl(&target, list, &json!({})).expect("served meanwhile");
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let west = Subcloud::join(&dir.path().join("west"), site, &controller);
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let mut rest = Vec::new();
        stream
            .read_to_end(&mut rest)
            .expect("closed, and not after the limit");
    }
    drop(west);
    assert_eq!(controller.daemon().id(), process);
    assert!(controller.daemon().is_running());
}

/// The same token with another secret, written so that its checksum is right.
fn with_another_secret(token: &str) -> String {
    let token = EnrollmentToken::parse(token).expect("a token");
    let (id, ca, controller) = (token.id(), token.ca(), token.controller().to_vec());
    let other = EnrollmentToken::with_secret(id, Secret::from_bytes([7; 32]), ca, controller);
    other.expect("a token").reveal()
}

/// A certificate of a subcloud for a key, by the authority of a stopped controller.
fn issue(state_dir: &Path, key: &LeafKey, subcloud: &str) -> IssuedCertificate {
    let store = Store::open(state_dir).expect("the state of a stopped controller");
    let record = store
        .get(&Key::new("authority").expect("a key"))
        .expect("readable");
    let record = AuthorityRecord::decode(record.expect("an authority").value.as_slice());
    let AuthorityRecord {
        private_key,
        certificate,
    } = record.expect("a record");
    let parts = CaParts {
        certificate_der: certificate,
        key_pkcs8_der: private_key,
    };
    let authority = Ca::from_parts(&parts).expect("an authority");
    let csr = key.csr_der().expect("a request");
    let subcloud = Uuid::try_parse(subcloud).expect("a uuid");
    let issued = authority.issue_subcloud(&csr, subcloud, SystemTime::now(), SUBCLOUD_VALIDITY);
    store.close().expect("closed");
    issued.expect("a certificate")
}

/// What is wrong with an input may be many times larger than the input.
#[tokio::test(flavor = "multi_thread")]
async fn an_input_with_countless_faults_is_refused_and_the_controller_goes_on() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let process = controller.daemon().id();
    let added = controller.add("west");
    let bootstrap = Bootstrap::subcloud("west", 1, Stack::V6);
    let gateways = ByHand::of(&bootstrap).with(|site| {
        site.systemcontroller_gateway_addresses = vec!["::1".to_owned(); 90_000];
    });
    // Every two of the ranges of every pool overlap.
    let ranges = ByHand::of(&bootstrap).with(|site| {
        let pool = &mut site.address_pools[0];
        pool.ranges = vec![pool.ranges[0].clone(); 256];
        site.address_pools = vec![pool.clone(); 60];
    });
    let unreadable = ByHand::of(&bootstrap).with(|site| {
        site.dns_servers = vec!["x".to_owned(); 90_000];
    });
    for (by_hand, reason) in [
        (gateways, "SITE_INVALID"),
        (ranges, "SITE_INVALID"),
        (unreadable, "INVALID_ARGUMENT"),
    ] {
        let status = by_hand.enroll(&added, false).await.expect_err("refused");
        let refusal = api::status::to_refusal(&status);
        assert_eq!(refusal.reason, reason, "{refusal:?}");
    }
    let outcome = r#"tandem_enrollments_total{outcome="INVALID_ARGUMENT"}"#;
    assert_eq!(Metrics::of(&mut controller).get(outcome), 1.0);
    // The newest first; the one that could not be read is there too.
    let listed = controller.grpcurl(
        "tandem.fleet.v1.OperatorService/ListAuditEntries",
        &json!({}),
    );
    let listed = listed.expect("a list");
    let reasons = ["INVALID_ARGUMENT", "SITE_INVALID", "SITE_INVALID"];
    for (entry, reason) in listed["entries"]
        .as_array()
        .expect("some")
        .iter()
        .zip(reasons)
    {
        assert_eq!(entry["action"], "ENROLL", "{entry}");
        let faults = entry["violations"].as_array().expect("faults");
        assert_eq!(faults[0]["reason"], reason, "{}", faults[0]);
        assert!(faults.len() <= fleet::MAX_KEPT_FAULTS, "{}", faults.len());
    }
    // An operator's input is no different.
    let many = vec!["fd00:77::1-fd00:77::ffff"; 256].join(",");
    let add = [
        "system",
        "addrpool-add",
        "many",
        "fd00:77::",
        "64",
        "--ranges",
        &many,
    ];
    controller.tandem(&add).expect(1).says("overlaps");
    // The token is not spent, and the process is the same.
    let west = ByHand::of(&bootstrap);
    west.enroll(&added, false).await.expect("enrolled");
    assert_eq!(controller.daemon().id(), process);
}
