//! What a certificate allows: over every method that is served, and for as long as it is in force.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use api::fleet_v1::WatchFleetRequest;
use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use base64::Engine as _;
use daemon::roles;
use identity::{CaCertificate, LeafKey, Role};
use serde_json::json;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use crate::support::anyone::{call, connect};
use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::by_hand::ByHand;
use crate::support::cloud::Controller;
use crate::support::console::Metrics;
use crate::support::grpcurl::{grpcurl, methods, services};
use crate::support::process::run;
use crate::support::scratch;

const LIST: &str = "/tandem.fleet.v1.SubcloudService/ListSubclouds";

fn controller(dir: &tempfile::TempDir) -> Controller {
    let site = Bootstrap::controller(Stack::V6);
    Controller::start(&dir.path().join("controller"), site)
}

/// A connection with the files of an operator.
async fn as_operator(controller: &mut Controller, name: &str) -> Channel {
    let dir = controller.state_dir();
    let text = |file: &str| fs::read_to_string(dir.join(file)).expect("a file");
    let authority = CaCertificate::from_pem(&text("ca.crt")).expect("the authority");
    let pem = text(&format!("{name}.crt"));
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let certificate = base64::engine::general_purpose::STANDARD.decode(body);
    let certificate = certificate.expect("a certificate");
    let key = LeafKey::from_pkcs8_pem(&text(&format!("{name}.key"))).expect("a key");
    let address = controller.daemon().ready.operators[0].clone();
    connect(&address, &authority, certificate, &key).await
}

/// How many calls were refused for a reason, as monitoring hears it.
fn refused(controller: &mut Controller, reason: &str) -> f64 {
    let series = format!(r#"tandem_calls_refused_total{{reason="{reason}"}}"#);
    Metrics::of(controller).get(&series)
}

/// Every path that reflection lists.
fn paths(controller: &mut Controller) -> Vec<String> {
    let target = controller.tls(Some("operator-admin"));
    let services = services(&target).expect("reflection");
    let all: Vec<String> = services
        .iter()
        .flat_map(|it| methods(&target, it))
        .collect();
    assert!(all.len() > 35, "{all:?}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_has_its_role_and_a_reader_changes_nothing() {
    let dir = scratch();
    let mut controller = controller(&dir);
    let all = paths(&mut controller);
    let unknown: Vec<_> = all
        .iter()
        .filter(|path| roles::entry(path).is_none())
        .collect();
    assert!(
        unknown.is_empty(),
        "no line in the table of roles: {unknown:?}"
    );
    let unserved = roles::METHODS.iter();
    // Reflection lists only its own version, and not every method of health.
    let unserved = unserved.filter(|(path, _)| path.starts_with("/tandem."));
    let unserved = unserved.filter(|(path, _)| !all.iter().any(|known| known == path));
    let unserved: Vec<_> = unserved.collect();
    assert!(unserved.is_empty(), "lines without a method: {unserved:?}");

    // Whatever the table says: only what is named like a question may be for readers.
    let asks = ["Get", "List", "Watch", "Check", "ServerReflectionInfo"];
    let is_question = |path: &str| {
        let method = path.rsplit('/').next().unwrap_or_default();
        asks.iter().any(|prefix| method.starts_with(prefix))
    };
    controller.operator("looker", "reader");
    controller.operator("changer", "configurator");
    let looker = as_operator(&mut controller, "looker").await;
    let changer = as_operator(&mut controller, "changer").await;
    let before = controller
        .tandem(&["system", "site-show", "-f", "json"])
        .expect(0)
        .stdout;
    let mut turned_away = 0_u32;
    for path in &all {
        let (_, needed) = roles::entry(path).expect("a line");
        assert_eq!(needed == Role::Reader, is_question(path), "{path}");
        for (channel, role) in [(&looker, Role::Reader), (&changer, Role::Configurator)] {
            if role >= needed {
                continue;
            }
            let status = call(channel, path).await.expect_err(path);
            assert_eq!(status.code(), Code::PermissionDenied, "{path}: {status:?}");
            let info = status.get_details_error_info().expect("a reason");
            assert_eq!(info.reason, "ROLE_TOO_LOW", "{path}");
            turned_away += 1;
        }
    }
    let counted = refused(&mut controller, "ROLE_TOO_LOW");
    assert_eq!(counted, f64::from(turned_away));
    call(&looker, LIST).await.expect("a reader reads");
    let after = controller
        .tandem(&["system", "site-show", "-f", "json"])
        .expect(0)
        .stdout;
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_subcloud_opens_no_method_of_operators() {
    let dir = scratch();
    let mut controller = controller(&dir);
    let all = paths(&mut controller);
    let added = controller.add("west");
    let west = ByHand::of(&Bootstrap::subcloud("west", 1, Stack::V6));
    let enrolled = west.enroll(&added, false).await.expect("enrolled");
    let authority = CaCertificate::from_der(&enrolled.authority_certificate);
    let address = controller.daemon().ready.operators[0].clone();
    let certificate = enrolled.certificate.clone();
    let agent = connect(
        &address,
        &authority.expect("the authority"),
        certificate,
        &west.key,
    )
    .await;
    for path in &all {
        let status = call(&agent, path).await.expect_err(path);
        assert_eq!(status.code(), Code::Unauthenticated, "{path}: {status:?}");
        let info = status.get_details_error_info().expect("a reason");
        assert_eq!(info.reason, "NOT_AN_OPERATOR", "{path}");
    }
    let calls = u32::try_from(all.len()).expect("a small number");
    let counted = refused(&mut controller, "NOT_AN_OPERATOR");
    assert_eq!(counted, f64::from(calls));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_operator_is_cut_off_at_once() {
    let dir = scratch();
    let mut controller = controller(&dir);
    controller.operator("bob", "configurator");
    let bob = as_operator(&mut controller, "bob").await;
    let mut client = SubcloudServiceClient::new(bob.clone());
    let watching = client
        .watch_fleet(WatchFleetRequest { from_revision: 0 })
        .await;
    let mut watching = watching.expect("a stream").into_inner();
    watching
        .message()
        .await
        .expect("a resync")
        .expect("a message");
    call(&bob, LIST).await.expect("served");

    let revoke = ["dcmanager", "operator", "revoke", "bob"];
    let started = Instant::now();
    controller.tandem(&revoke).expect(0);
    watching.message().await.expect_err("the stream is cut off");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    call(&bob, LIST).await.expect_err("the connection is gone");

    // A new connection gets as far as being told why; once more is no mistake.
    let again = as_operator(&mut controller, "bob").await;
    let status = call(&again, LIST).await.expect_err("revoked");
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!(info.reason, "OPERATOR_REVOKED", "{status:?}");
    assert!(refused(&mut controller, "OPERATOR_REVOKED") >= 1.0);
    controller.tandem(&revoke).expect(0);

    // The name can be given anew, to another key; the old one stays out.
    let old = as_operator(&mut controller, "bob").await;
    for kind in ["key", "crt"] {
        fs::remove_file(controller.state_dir().join(format!("bob.{kind}"))).expect("a file");
    }
    controller.operator("bob", "reader");
    let new = as_operator(&mut controller, "bob").await;
    call(&new, LIST).await.expect("served");
    call(&old, LIST).await.expect_err("another key");

    // What was decided holds after a restart.
    controller.stop();
    controller.serve();
    let new = as_operator(&mut controller, "bob").await;
    call(&new, LIST).await.expect("served");
    let lock = "/tandem.site.v1.SiteService/LockHost";
    let status = call(&new, lock).await.expect_err("a reader now");
    assert_eq!(status.code(), Code::PermissionDenied);
    let listed = controller.tandem(&["dcmanager", "operator", "list", "-f", "json"]);
    let listed = listed.expect(0).json();
    assert_eq!(listed[0]["name"], "bob", "{listed}");
    assert_eq!(listed[0]["role"], "reader", "{listed}");
    assert_eq!(listed[1]["name"], "operator-admin", "{listed}");
}

/// The mode of the socket keeps others out; if somebody opens it, their user id still does.
#[test]
fn the_socket_serves_root_and_its_own_user_only() {
    let dir = scratch();
    let mut controller = controller(&dir);
    let socket = controller.state_dir().join("operator.sock");
    let target = crate::support::grpcurl::Target::Unix(socket.clone());
    grpcurl(&target, &LIST[1..], &json!({})).expect("its own user");
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can call as somebody else; the rest is left out");
        return;
    }
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permitted");
    };
    open(dir.path(), 0o755);
    open(socket.parent().expect("a directory"), 0o755);
    open(&socket, 0o666);
    // A program that anybody may run: those of the build may lie where only root can go.
    let program = dir.path().join("tandem");
    fs::copy(crate::support::process::Program::Tandem.path(), &program).expect("copied");
    open(&program, 0o755);
    let mut command = Command::new(&program);
    command.arg("--endpoint");
    command.arg(format!("unix:{}", socket.display()));
    command.args(["dcmanager", "subcloud", "list"]);
    command.uid(65_534).gid(65_534);
    command.current_dir("/");
    let output = run(command);
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("NOT_AN_OPERATOR"), "{output:?}");
    controller.stop();
}
