//! The life of a subcloud after its enrollment: it is deleted, installed anew, or away for longer
//! than its certificate lasts.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use api::fleet_v1::exchange_response::Message as Heard;
use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::fleet_v1::{DeleteSubcloudRequest, DeleteSubcloudResponse};
use api::store_v1::{AgentCertificateRecord, AgentKeyRecord, AuthorityRecord};
use identity::{Ca, CaParts, LeafKey, SUBCLOUD_VALIDITY};
use prost::Message;
use serde_json::{Value, json};
use store::{Action, Expected, Key, Store, Write};
use uuid::Uuid;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::by_hand::{ByHand, ByHandLink, hello};
use crate::support::client::operators;
use crate::support::cloud::{Added, Controller, Place, Subcloud};
use crate::support::process::Output;
use crate::support::{PATIENCE, scratch, wait_until};

/// Within this time a revoked certificate's stream has ended.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_subcloud_is_cut_off_at_once_and_never_comes_back() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let file = Bootstrap::subcloud("west", 1, Stack::V6);
    let added = controller.add("west");
    let west = ByHand::of(&file);
    let enrolled = west.enroll(&added, false).await.expect("enrolled");

    // A preview changes nothing.
    let mut request = DeleteSubcloudRequest {
        subcloud: "west".to_owned(),
        request_id: "once".to_owned(),
        validate_only: true,
        ..DeleteSubcloudRequest::default()
    };
    delete(&controller, &request).await;
    assert!(controller.show("west").is_some());

    // Nothing slow stands between Hello and deletion: this agent sends no heartbeats.
    request.validate_only = false;
    let mut link = west.link(&added, &enrolled).await;
    link.say(hello(&west.digest)).await;
    let heard = link.hear().await.expect("a word");
    assert!(matches!(heard, Some(Heard::Welcome(_))), "{heard:?}");
    let answer = delete(&controller, &request).await;
    let answered = Instant::now();
    assert_eq!(last_words(&mut link).await, "REVOKED");
    assert!(answered.elapsed() < AT_ONCE, "{:?}", answered.elapsed());
    assert!(controller.show("west").is_none());
    let mut again = west.link(&added, &enrolled).await;
    assert_eq!(last_words(&mut again).await, "REVOKED");

    // The same request gets the same answer, also from the next process, and about peers too.
    let add = json!({"subcloudPeerGroup": {"name": "shared"}, "requestId": "group"});
    let group = |controller: &Controller, asked: &Value| {
        controller.grpcurl("tandem.fleet.v1.PeerService/AddSubcloudPeerGroup", asked)
    };
    let added_group = group(&controller, &add).expect("a group");
    controller.kill();
    controller.serve();
    assert_eq!(delete(&controller, &request).await, answer);
    assert_eq!(group(&controller, &add).expect("the same"), added_group);
    let other = json!({"subcloudPeerGroup": {"name": "other"}, "requestId": "group"});
    let refusal = group(&controller, &other).expect_err("an id for two requests");
    assert_eq!(refusal.fields[0].0, "request_id", "{refusal:?}");
    assert_eq!(controller.events("west", "DELETED").len(), 1);
    let mut again = west.link(&added, &enrolled).await;
    assert_eq!(last_words(&mut again).await, "REVOKED");

    // Its name, region and addresses are free, for another site or for the same.
    let values = dir.path().join("west.yaml");
    std::fs::write(&values, file.yaml()).expect("a file");
    let values = values.display().to_string();
    let add = ["dcmanager", "subcloud", "add", "west", "-f", "json"];
    let declared = [&add[..], &["--bootstrap-values", &values]].concat();
    let added = Added::of(controller.tandem(&declared));
    let anew = ByHand::of(&file);
    anew.enroll(&added, false).await.expect("enrolled");
    let mut old = west.link(&added, &enrolled).await;
    assert_eq!(last_words(&mut old).await, "REVOKED");
}

#[test]
fn a_site_that_is_installed_anew_takes_its_place_by_an_operators_word() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let file = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut old = Subcloud::join(&dir.path().join("old"), file.clone(), &controller);
    let before = controller.show("west").expect("west");
    verb(&controller, &["manage", "west"]).expect(0);
    verb(&controller, &["update", "west", "--location", "hall 7"]).expect(0);

    // The old certificate stays valid until its successor is there.
    verb(&controller, &["token", "west"])
        .expect(1)
        .says("SUBCLOUD_ALREADY_ENROLLED")
        .says("subcloud token west --reenroll");
    let token = reenroll(&controller);
    controller.wait_for("west", "availability", "online");
    let mut new = Subcloud::install(&dir.path().join("new"), file.clone(), Place::Loopback);
    new.enroll(&token, &[]).expect(0);
    wait_until("the old agent says what to do", PATIENCE, || {
        let log = old.daemon().log_text();
        log.contains("CERTIFICATE_REVOKED") && log.contains("subcloud token west --reenroll")
    });
    let reports = || controller.events("west", "REPORT_ACCEPTED").len();
    let reported = reports();
    new.serve();
    // It learns of the controller's networks, and reports them.
    wait_until("the new site reports", PATIENCE, || reports() > reported);
    let after = controller.show("west").expect("west");
    for (property, value) in [
        ("id", &before["id"]),
        ("management", &Value::from("managed")),
        ("availability", &Value::from("online")),
        ("location", &Value::from("hall 7")),
    ] {
        assert_eq!(&after[property], value, "{property}");
    }
    assert_eq!(controller.events("west", "REENROLLED").len(), 1);
    // The token has done its duty.
    let third = Subcloud::install(&dir.path().join("third"), file, Place::Loopback);
    third
        .enroll(&token, &[])
        .expect(2)
        .says("ENROLL_TOKEN_INVALID");
}

#[test]
fn an_agent_whose_certificate_expired_says_so_and_comes_back_by_an_operators_word() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let file = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut west = Subcloud::join(&dir.path().join("west"), file, &controller);
    let id = controller.show("west").expect("west")["id"].clone();
    west.stop();
    controller.stop();
    // As if it had been away for a day: its certificate is one of long ago.
    let uuid = id.as_str().expect("a uuid");
    age(&controller.state_dir(), &west.state_dir(), uuid);
    controller.serve();
    west.serve();
    wait_until("the agent says what to do", PATIENCE, || {
        let log = west.daemon().log_text();
        log.contains("CERTIFICATE_EXPIRED") && log.contains("subcloud token west --reenroll")
    });
    west.stop();
    // An operator's word helps, in the same state directory.
    west.enroll(&reenroll(&controller), &[]).expect(0);
    west.serve();
    controller.wait_for("west", "availability", "online");
    assert_eq!(controller.show("west").expect("west")["id"], id);
}

/// Asks to delete; must be accepted.
async fn delete(
    controller: &Controller,
    request: &DeleteSubcloudRequest,
) -> DeleteSubcloudResponse {
    let socket = controller.state_dir().join("operator.sock");
    let mut client = SubcloudServiceClient::new(operators(&socket).await);
    let answer = client.delete_subcloud(request.clone()).await;
    answer.expect("accepted").into_inner()
}

/// `subcloud …` of an operator.
#[track_caller]
fn verb(controller: &Controller, words: &[&str]) -> Output {
    controller.tandem(&[&["dcmanager", "subcloud"], words].concat())
}

/// A token with which another key may take the place of `west`.
#[track_caller]
fn reenroll(controller: &Controller) -> Added {
    let issued = verb(controller, &["token", "west", "--reenroll", "-f", "json"]);
    Added::of(issued)
}

/// Why the controller ended a link; it must have said goodbye.
async fn last_words(link: &mut ByHandLink) -> String {
    let ended = tokio::time::timeout(PATIENCE, async {
        let mut reason = None;
        // The call ends with a status after the goodbye, for clients that know no goodbye.
        while let Ok(Some(heard)) = link.hear().await {
            if let Heard::Goodbye(goodbye) = heard {
                reason = Some(goodbye.reason);
            }
        }
        reason
    });
    let reason = ended.await.expect("the link ends");
    reason.expect("a goodbye")
}

/// Puts a certificate of the day before yesterday, for the same key, in the place of an agent's.
fn age(controller: &Path, agent: &Path, subcloud: &str) {
    let AuthorityRecord {
        private_key,
        certificate,
    } = kept(controller, "authority");
    let parts = CaParts {
        certificate_der: certificate,
        key_pkcs8_der: private_key,
    };
    let authority = Ca::from_parts(&parts).expect("an authority");
    let key: AgentKeyRecord = kept(agent, "agent/key");
    let key = LeafKey::from_pkcs8_der(&key.private_key).expect("a key");
    let csr = key.csr_der().expect("a request");
    let subcloud = Uuid::try_parse(subcloud).expect("a uuid");
    let long_ago = SystemTime::now() - 2 * SUBCLOUD_VALIDITY;
    let issued = authority.issue_subcloud(&csr, subcloud, long_ago, SUBCLOUD_VALIDITY);
    let record = AgentCertificateRecord {
        certificate: issued.expect("a certificate").der.to_vec(),
        ..kept(agent, "agent/certificate")
    };
    let store = Store::open(agent).expect("the state of a stopped agent");
    let write = Write {
        key: Key::new("agent/certificate").expect("a key"),
        expected: Expected::Any,
        action: Action::Put(record.encode_to_vec()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    runtime
        .block_on(store.commit(vec![write]))
        .expect("durable");
    store.close().expect("closed");
}

/// A record of a stopped daemon.
fn kept<M: Message + Default>(state_dir: &Path, key: &str) -> M {
    let store = Store::open(state_dir).expect("the state of a stopped daemon");
    let record = store.get(&Key::new(key).expect("a key")).expect("readable");
    let record = M::decode(record.expect("a record").value.as_slice()).expect("a record");
    store.close().expect("closed");
    record
}
