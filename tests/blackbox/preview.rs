//! A preview is a promise: `validate_only` and `--dry-run` list exactly what the real call then
//! does, and change nothing themselves.

use std::path::Path;

use api::site_v1::site_service_client::SiteServiceClient;
use api::site_v1::{GetSiteRequest, Site};
use serde_json::{Value, json};

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::client::operators;
use crate::support::cloud::{Controller, Place, Subcloud};
use crate::support::grpcurl::{Target, grpcurl};
use crate::support::process::Output;
use crate::support::scratch;

/// A method and its request: each is accepted after those before it.
type Call = (&'static str, &'static str);

/// On two controllers: every operation, with every kind of effect that it can have there.
const ON_DUPLEX: [Call; 23] = [
    (
        "NetworkService/CreateAddressPool",
        r#"{"addressPool": {"name": "oam-ipv4", "network": "10.77.3.0", "prefix": 24}}"#,
    ),
    // Takes the address over from the pool before, which no network uses.
    (
        "NetworkService/CreateAddressPool",
        r#"{"addressPool": {"name": "oam-other", "network": "10.77.3.0", "prefix": 24,
            "floatingAddress": "10.77.3.3"}}"#,
    ),
    (
        "NetworkService/UpdateAddressPool",
        r#"{"target": "oam-ipv4", "addressPool": {"floatingAddress": "10.77.3.3",
            "controller0Address": "10.77.3.4", "controller1Address": "10.77.3.5"}}"#,
    ),
    (
        "NetworkService/DeleteAddressPool",
        r#"{"addressPool": "oam-other"}"#,
    ),
    (
        "NetworkService/AssignAddressPool",
        r#"{"network": "oam", "addressPool": "oam-ipv4"}"#,
    ),
    ("SiteService/LockHost", r#"{"hostname": "controller-0"}"#),
    ("SiteService/UnlockHost", r#"{"hostname": "controller-0"}"#),
    (
        "SiteService/ReportHost",
        r#"{"hostname": "controller-0", "appliedConfiguration": 5}"#,
    ),
    (
        "SiteService/UpdateDns",
        r#"{"servers": ["10.77.3.53", "fd10:0:3::53"]}"#,
    ),
    (
        "SiteService/UpdateOam",
        r#"{"oam": {"oamGatewayIp": "fd10:0:3::2"}}"#,
    ),
    (
        "NetworkService/CreateAddressPool",
        r#"{"addressPool": {"name": "pod-ipv4", "network": "172.16.0.0", "prefix": 16}}"#,
    ),
    (
        "NetworkService/CreateAddressPool",
        r#"{"addressPool": {"name": "service-ipv4", "network": "10.96.0.0", "prefix": 12}}"#,
    ),
    (
        "NetworkService/CreateAddressPool",
        r#"{"addressPool": {"name": "host-ipv4", "network": "10.77.4.0", "prefix": 24}}"#,
    ),
    (
        "NetworkService/AssignAddressPool",
        r#"{"network": "cluster-pod", "addressPool": "pod-ipv4"}"#,
    ),
    (
        "NetworkService/AssignAddressPool",
        r#"{"network": "cluster-service", "addressPool": "service-ipv4"}"#,
    ),
    (
        "NetworkService/AssignAddressPool",
        r#"{"network": "cluster-host", "addressPool": "host-ipv4"}"#,
    ),
    (
        "NetworkService/RemoveAddressPool",
        r#"{"network": "cluster-pod", "addressPool": "pod-ipv4"}"#,
    ),
    (
        "NetworkService/DeleteNetwork",
        r#"{"network": "multicast"}"#,
    ),
    (
        "NetworkService/CreateNetwork",
        r#"{"type": "multicast", "addressPool": "multicast-ipv6"}"#,
    ),
    (
        "NetworkService/CreateAddressPool",
        r#"{"addressPool": {"name": "storage-ipv6", "network": "fd77:7::", "prefix": 64}}"#,
    ),
    (
        "NetworkService/CreateNetwork",
        r#"{"type": "storage", "dynamic": true, "addressPool": "storage-ipv6"}"#,
    ),
    ("SiteService/UpdateDns", r#"{"servers": []}"#),
    (
        "NetworkService/DeleteAddressPool",
        r#"{"addressPool": "oam-ipv4"}"#,
    ),
];

/// On one server of a subcloud: the networks that are changed at run time there, and those that
/// need the lock.
const ON_SIMPLEX: [Call; 9] = [
    (
        "NetworkService/CreateAddressPool",
        r#"{"addressPool": {"name": "admin-ipv4", "network": "10.78.1.0", "prefix": 24}}"#,
    ),
    (
        "NetworkService/AssignAddressPool",
        r#"{"network": "admin", "addressPool": "admin-ipv4"}"#,
    ),
    (
        "NetworkService/CreateAddressPool",
        r#"{"addressPool": {"name": "mgmt-ipv4", "network": "10.78.2.0", "prefix": 24}}"#,
    ),
    ("SiteService/LockHost", r#"{"hostname": "controller-0"}"#),
    (
        "NetworkService/AssignAddressPool",
        r#"{"network": "mgmt", "addressPool": "mgmt-ipv4"}"#,
    ),
    (
        "NetworkService/UpdateAddressPool",
        r#"{"target": "mgmt-ipv4", "addressPool": {"gatewayAddress": "10.78.2.9"},
            "updateMask": {"paths": ["gateway_address"]}}"#,
    ),
    ("SiteService/UnlockHost", r#"{"hostname": "controller-0"}"#),
    (
        "NetworkService/RemoveAddressPool",
        r#"{"network": "admin", "addressPool": "admin-ipv4"}"#,
    ),
    (
        "NetworkService/DeleteNetwork",
        r#"{"network": "multicast"}"#,
    ),
];

/// Commands, each accepted after those before it.
const COMMANDS: [&str; 14] = [
    "addrpool-add oam-ipv4 10.77.3.0 24 --floating-address 10.77.3.3",
    "addrpool-modify oam-ipv4 --controller0-address 10.77.3.4 --controller1-address 10.77.3.5",
    "network-addrpool-assign oam oam-ipv4",
    "host-lock controller-0",
    "host-unlock controller-0",
    "dns-modify nameservers=10.77.3.53",
    "oam-modify oam_gateway_ip=fd10:0:3::2",
    "addrpool-add storage-ipv6 fd77:7:: 64",
    "network-add storage storage true storage-ipv6",
    "network-delete multicast",
    "addrpool-delete multicast-ipv6",
    "dns-modify nameservers=fd10:0:3::53",
    "network-addrpool-remove oam oam-ipv4",
    "addrpool-delete oam-ipv4",
];

#[tokio::test]
async fn a_preview_lists_what_the_call_does_on_two_controllers() {
    let dir = scratch();
    let controller = Controller::start(&dir.path().join("controller"), duplex());
    let kinds = check_all(&controller.state_dir(), &ON_DUPLEX).await;
    for kind in [
        "MOVE_ADDRESS",
        "ALLOCATE_ADDRESS",
        "RELEASE_ADDRESS",
        "LOCK_UNLOCK_REQUIRED",
        "RAISE_ALARM",
        "CLEAR_ALARM",
        "LOCK_HOST",
        "UNLOCK_HOST",
        "OPEN_PUBLIC_ENDPOINTS",
        "CLOSE_PUBLIC_ENDPOINTS",
        "CONFIGURE_RESOLVER",
        "KUBERNETES_WAITS",
        "KUBERNETES_RESTART_CONTROL_PLANE",
        "NEW_PODS",
        "EXISTING_PODS",
        "RECORDED",
    ] {
        assert!(
            kinds.iter().any(|known| known == kind),
            "{kind} is not in {kinds:?}"
        );
    }
}

#[tokio::test]
async fn a_preview_lists_what_the_call_does_on_one_server() {
    let dir = scratch();
    let site = Bootstrap::subcloud("west", 1, Stack::V6);
    let mut subcloud = Subcloud::install(&dir.path().join("west"), site, Place::Loopback);
    subcloud.serve();
    let kinds = check_all(&subcloud.state_dir(), &ON_SIMPLEX).await;
    for kind in [
        "CONFIGURE_NETWORK",
        "UNCONFIGURE_NETWORK",
        "APPLY_AT_UNLOCK",
    ] {
        assert!(
            kinds.iter().any(|known| known == kind),
            "{kind} is not in {kinds:?}"
        );
    }
}

#[tokio::test]
async fn a_dry_run_prints_what_the_command_does() {
    let dir = scratch();
    let controller = Controller::start(&dir.path().join("controller"), duplex());
    let socket = controller.state_dir().join("operator.sock");
    for command in COMMANDS {
        let words: Vec<&str> = ["system"].into_iter().chain(command.split(' ')).collect();
        let before = site(&socket).await;
        let dry = controller.tandem(&[words.as_slice(), &["--dry-run", "-f", "json"]].concat());
        let dry = dry.expect(0).json();
        assert_eq!(
            site(&socket).await,
            before,
            "the dry run of {command} changed the site"
        );
        let table = controller
            .tandem(&[words.as_slice(), &["--dry-run"]].concat())
            .expect(0);
        assert!(table.stdout.contains("| kind "), "{}", table.stdout);

        let done = controller.tandem(&words).expect(0);
        assert_ne!(site(&socket).await, before, "{command} changed nothing");
        assert_eq!(promised(&dry), told(&done), "{command}");
    }
}

/// Previews and then makes each change; the kinds of all effects.
async fn check_all(state_dir: &Path, calls: &[Call]) -> Vec<String> {
    let socket = state_dir.join("operator.sock");
    let mut kinds = Vec::new();
    for (method, request) in calls {
        let effects = check(&socket, method, request).await;
        let all = effects.as_array().into_iter().flatten();
        kinds.extend(all.filter_map(|effect| effect["kind"].as_str().map(str::to_owned)));
    }
    kinds
}

/// Previews a change twice, makes it, and compares; its effects.
async fn check(socket: &Path, method: &str, request: &str) -> Value {
    let call = |request: &Value| {
        let answer = grpcurl(
            &Target::Unix(socket.to_owned()),
            &format!("tandem.site.v1.{method}"),
            request,
        );
        answer.unwrap_or_else(|error| panic!("{method} {request}: {error:?}"))
    };
    let request: Value = serde_json::from_str(request).expect("a request");
    let mut preview = request.clone();
    preview["validateOnly"] = json!(true);
    let before = site(socket).await;
    let promised = call(&preview)["effects"].clone();
    assert_eq!(
        site(socket).await,
        before,
        "the preview of {method} changed the site"
    );
    let done = call(&request)["effects"].clone();
    assert_eq!(promised, done, "{method} {request}");
    let after = site(socket).await;
    assert_eq!(
        after.generation,
        before.generation + 1,
        "{method} {request}"
    );
    done
}

/// The whole site.
async fn site(socket: &Path) -> Site {
    let mut client = SiteServiceClient::new(operators(socket).await);
    let answer = client.get_site(GetSiteRequest {}).await.expect("an answer");
    answer.into_inner().site.expect("a site")
}

/// Kind and description of each effect of a dry run.
fn promised(dry: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let rows = dry.as_array().expect("a list of effects").iter();
    rows.map(|row| (text(&row["kind"]), text(&row["description"])))
        .collect()
}

/// Kind and description of each effect that a command told beside its answer.
fn told(output: &Output) -> Vec<(String, String)> {
    let lines = output
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("effect: "));
    let effects = lines.map(|line| line.split_once(": ").expect("KIND: description"));
    effects
        .map(|(kind, words)| (kind.to_owned(), words.to_owned()))
        .collect()
}

fn duplex() -> Bootstrap {
    Bootstrap::controller(Stack::V6).with("system_mode", "duplex")
}
