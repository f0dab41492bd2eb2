//! Every reason of the site rules, provoked by an operator's call and read from its details.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use api::store_v1::SiteRecord;
use prost::Message as _;
use serde_json::{Value, json};
use site::{Reason, ReasonSet as _};
use store::{Action, Expected, Key, Store, Write};

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::client::operators;
use crate::support::cloud::{Controller, Place};
use crate::support::scratch;

const NETWORKS: &str = "tandem.site.v1.NetworkService";
const SITE: &str = "tandem.site.v1.SiteService";

/// Reasons that no call can provoke: only the link sets the controller's networks, and only on
/// a subcloud.
const NOT_BY_CALL: [Reason; 1] = [Reason::NotASubcloud];

/// gRPC codes by number.
const INVALID: i64 = 3;
const NOT_FOUND: i64 = 5;
const EXISTS: i64 = 6;
const PRECONDITION: i64 = 9;
const ABORTED: i64 = 10;

/// A site that is asked, and the reasons that it has given.
struct Asked<'a> {
    controller: Controller,
    seen: &'a RefCell<BTreeSet<String>>,
}

impl Asked<'_> {
    /// A call that must succeed.
    #[track_caller]
    fn ok(&self, service: &str, method: &str, request: &Value) -> Value {
        let answer = self
            .controller
            .grpcurl(&format!("{service}/{method}"), request);
        answer.unwrap_or_else(|error| panic!("{method} {request}: {error:?}"))
    }

    /// A call that must be refused: code, reason of the first failing rule, the field or the
    /// object that is named, and a message that names `text`. Nothing may have changed.
    #[track_caller]
    fn check(&self, service: &str, method: &str, request: &Value, want: (i64, &str, &str, &str)) {
        let (code, reason, named, text) = want;
        let before = self.ok(SITE, "GetSite", &json!({}));
        let answer = self
            .controller
            .grpcurl(&format!("{service}/{method}"), request);
        let error = answer
            .err()
            .unwrap_or_else(|| panic!("{method} {request} was accepted"));
        assert_eq!(
            (error.code, error.reason.as_str()),
            (Some(code), reason),
            "{error:?}"
        );
        assert_eq!(error.domain, "tandem", "{error:?}");
        assert!(error.message.contains(text), "{text:?} is not in {error:?}");
        let by_field = error.fields.iter().any(|(field, _)| field == named);
        let by_rule = error.violations.iter().any(|found| {
            found.kind == reason && (named.is_empty() || found.subject.contains(named))
        });
        assert!(by_field || by_rule, "{named:?} is not named in {error:?}");
        let remedy = |text: &str| text.contains("Remedy: ");
        assert!(
            error.fields.iter().all(|(_, text)| remedy(text)),
            "{error:?}"
        );
        assert!(
            error
                .violations
                .iter()
                .all(|found| remedy(&found.description)),
            "{error:?}"
        );
        assert_eq!(
            self.ok(SITE, "GetSite", &json!({})),
            before,
            "{method} changed the site"
        );
        self.seen.borrow_mut().insert(error.reason);
    }

    /// Adds a pool.
    #[track_caller]
    fn pool(&self, name: &str, network: &str, prefix: u32) {
        let pool = json!({"addressPool": {"name": name, "network": network, "prefix": prefix}});
        self.ok(NETWORKS, "CreateAddressPool", &pool);
    }
}

#[test]
fn every_reason_is_given_to_an_operator() {
    let dir = scratch();
    let seen = RefCell::new(BTreeSet::new());
    let start = |name: &str, site: Bootstrap| {
        let controller = Controller::start(&dir.path().join(name), site);
        Asked {
            controller,
            seen: &seen,
        }
    };
    requests(&start("requests", Bootstrap::controller(Stack::V6)));
    pools(&start("pools", Bootstrap::controller(Stack::V6)));
    dual_stack(&start("dual", Bootstrap::controller(Stack::V6First)));
    let older = Bootstrap::controller(Stack::V6).with("software_version", "24.03");
    older_version(&start("older", older));

    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::install(&dir.path().join("installing"), site, Place::Loopback);
    reopen_installation(&controller.state_dir());
    controller.serve();
    installing(&Asked {
        controller,
        seen: &seen,
    });

    let seen = seen.into_inner();
    for reason in Reason::ALL
        .iter()
        .filter(|reason| !NOT_BY_CALL.contains(reason))
    {
        assert!(
            seen.contains(reason.name()),
            "{} was not provoked",
            reason.name()
        );
    }
}

/// What is wrong with a request itself.
fn requests(site: &Asked<'_>) {
    let check = |method: &str, request: Value, want| site.check(NETWORKS, method, &request, want);
    check(
        "CreateAddressPool",
        json!({"addressPool": {"name": "", "network": "fd77::1", "prefix": 64}}),
        (INVALID, "INVALID_ARGUMENT", "address_pool.name", ""),
    );
    check(
        "CreateNetwork",
        json!({"type": "data", "addressPool": "oam-ipv6"}),
        (INVALID, "NETWORK_TYPE_UNSUPPORTED", "type", "data"),
    );
    check(
        "CreateNetwork",
        json!({"type": "storage", "addressPool": "nope"}),
        (NOT_FOUND, "POOL_NOT_FOUND", "address_pool", "nope"),
    );
    check(
        "GetNetwork",
        json!({"network": "nope"}),
        (NOT_FOUND, "NETWORK_NOT_FOUND", "network", "nope"),
    );
    check(
        "RemoveAddressPool",
        json!({"uuid": "00000000-0000-4000-8000-000000000000"}),
        (NOT_FOUND, "NETWORK_ADDRPOOL_NOT_FOUND", "uuid", "0000"),
    );
    site.check(
        SITE,
        "LockHost",
        &json!({"hostname": "controller-9"}),
        (NOT_FOUND, "HOST_NOT_FOUND", "hostname", "controller-9"),
    );
    check(
        "DeleteAddressPool",
        json!({"addressPool": "oam-ipv6", "etag": "old"}),
        (ABORTED, "ETAG_MISMATCH", "oam-ipv6", "oam-ipv6"),
    );
    site.check(
        SITE,
        "UnlockHost",
        &json!({"hostname": "controller-0"}),
        (
            PRECONDITION,
            "HOST_UNLOCKED",
            "controller-0",
            "controller-0",
        ),
    );
    site.ok(SITE, "LockHost", &json!({"hostname": "controller-0"}));
    site.check(
        SITE,
        "LockHost",
        &json!({"hostname": "controller-0"}),
        (PRECONDITION, "HOST_LOCKED", "controller-0", "controller-0"),
    );
}

/// Pools and networks of a single-stack site.
fn pools(site: &Asked<'_>) {
    let check = |method: &str, request: Value, want| site.check(NETWORKS, method, &request, want);
    site.pool("spare6", "fd77::", 64);
    site.pool("spare4", "10.77.0.0", 24);
    site.pool("inside-oam", "fd10:0:3::", 96);
    let network = |name: &str, kind: &str, pool: &str| json!({"name": name, "type": kind, "dynamic": true, "addressPool": pool});
    let want = (EXISTS, "NETWORK_TYPE_EXISTS", "type", "oam");
    check("CreateNetwork", network("o", "oam", "spare6"), want);
    let want = (EXISTS, "NAME_TAKEN", "name", "oam");
    check("CreateNetwork", network("oam", "storage", "spare6"), want);
    let want = (PRECONDITION, "ADDRESS_OVERLAP", "oam", "inside-oam");
    check("CreateNetwork", network("s", "storage", "inside-oam"), want);
    let want = (PRECONDITION, "PRIMARY_FAMILY_MISMATCH", "spare4", "IPv6");
    check("CreateNetwork", network("s", "storage", "spare4"), want);
    let want = (PRECONDITION, "POOL_IN_USE", "oam-ipv6", "oam");
    check("CreateNetwork", network("s", "storage", "oam-ipv6"), want);
    let tiny = json!({"addressPool": {"name": "tiny", "network": "fd78::", "prefix": 126,
        "ranges": [{"first": "fd78::1", "last": "fd78::1"}]}});
    site.ok(NETWORKS, "CreateAddressPool", &tiny);
    site.ok(
        NETWORKS,
        "CreateNetwork",
        &network("s", "storage", "spare6"),
    );
    let assign = |network: &str, pool: &str| json!({"network": network, "addressPool": pool});
    let want = (PRECONDITION, "FAMILY_ALREADY_PRESENT", "oam", "IPv6");
    check("AssignAddressPool", assign("oam", "tiny"), want);
    let want = (PRECONDITION, "OAM_FAMILY_REQUIRED", "spare4", "cluster-pod");
    check("AssignAddressPool", assign("cluster-pod", "spare4"), want);
    let want = (PRECONDITION, "NETWORK_REQUIRES_REINSTALL", "oam", "oam");
    check("DeleteNetwork", json!({"network": "oam"}), want);
    let held = json!({"addressPool": {"name": "held", "network": "fd10:0:3::", "prefix": 64,
        "floatingAddress": "fd10:0:3::3"}});
    let want = (
        PRECONDITION,
        "ADDRESS_IN_USE",
        "address_pool.floating_address",
        "fd10:0:3::3",
    );
    check("CreateAddressPool", held, want);
    let edit = |pool: &str, fields: Value| json!({"target": pool, "addressPool": fields});
    let want = (
        PRECONDITION,
        "POOL_READ_ONLY",
        "cluster-host-ipv6",
        "cluster-host",
    );
    check(
        "UpdateAddressPool",
        edit("cluster-host-ipv6", json!({"name": "x"})),
        want,
    );
    let other = json!({"network": "10.9.0.0", "prefix": 24});
    let want = (
        PRECONDITION,
        "FAMILY_IMMUTABLE",
        "address_pool.network",
        "IPv6",
    );
    check("UpdateAddressPool", edit("oam-ipv6", other), want);
    let mut clear = edit("oam-ipv6", json!({}));
    clear["updateMask"] = json!({"paths": ["floating_address"]});
    let field = "address_pool.floating_address";
    let want = (PRECONDITION, "ADDRESS_REQUIRED", field, "oam");
    check("UpdateAddressPool", clear, want);
    let want = (PRECONDITION, "POOL_IS_PRIMARY", "oam-ipv6", "oam");
    check(
        "DeleteAddressPool",
        json!({"addressPool": "oam-ipv6"}),
        want,
    );
    let want = (PRECONDITION, "DNS_FAMILY_NOT_ON_OAM", "servers[0]", "IPv4");
    site.check(SITE, "UpdateDns", &json!({"servers": ["10.0.0.53"]}), want);
    too_many(site);
}

/// Fills the site with pools up to the limit.
fn too_many(site: &Asked<'_>) {
    let count = site.ok(SITE, "GetSite", &json!({}))["site"]["addressPools"]
        .as_array()
        .map_or(0, Vec::len);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let socket = site.controller.state_dir().join("operator.sock");
    runtime.expect("a runtime").block_on(async {
        let channel = operators(&socket).await;
        let mut client = api::site_v1::network_service_client::NetworkServiceClient::new(channel);
        for number in count..site::MAX_POOLS {
            let pool = api::site_v1::AddressPool {
                name: format!("filler-{number}"),
                network: "fd79::".to_owned(),
                prefix: 64,
                ..Default::default()
            };
            let request = api::site_v1::CreateAddressPoolRequest {
                address_pool: Some(pool),
                ..Default::default()
            };
            client
                .create_address_pool(request)
                .await
                .expect("room for a pool");
        }
    });
    let one_more = json!({"addressPool": {"name": "one-more", "network": "fd79::", "prefix": 64}});
    let want = (8, "TOO_MANY_POOLS", "", "1024");
    site.check(NETWORKS, "CreateAddressPool", &one_more, want);
}

/// Secondary pools.
fn dual_stack(site: &Asked<'_>) {
    let check = |method: &str, request: Value, want| site.check(NETWORKS, method, &request, want);
    site.pool("third", "10.78.0.0", 24);
    let assign = |network: &str, pool: &str| json!({"network": network, "addressPool": pool});
    let want = (PRECONDITION, "NETWORK_HAS_TWO_POOLS", "oam", "oam");
    check("AssignAddressPool", assign("oam", "third"), want);
    let want = (
        PRECONDITION,
        "CLUSTER_POD_NEEDS_OAM_FAMILY",
        "cluster-pod",
        "IPv4",
    );
    check("RemoveAddressPool", assign("oam", "oam-ipv4"), want);
    site.ok(
        NETWORKS,
        "RemoveAddressPool",
        &assign("cluster-pod", "cluster-pod-ipv4"),
    );
    site.ok(SITE, "UpdateDns", &json!({"servers": ["10.0.0.53"]}));
    let want = (
        PRECONDITION,
        "DNS_NEEDS_OAM_FAMILY",
        "10.0.0.53",
        "10.0.0.53",
    );
    check("RemoveAddressPool", assign("oam", "oam-ipv4"), want);
}

/// A site that is older than dual-stack.
fn older_version(site: &Asked<'_>) {
    site.pool("oam-ipv4", "10.79.0.0", 24);
    let assign = json!({"network": "oam", "addressPool": "oam-ipv4"});
    let want = (
        PRECONDITION,
        "DUAL_STACK_UNSUPPORTED_BY_VERSION",
        "oam",
        "24.03",
    );
    site.check(NETWORKS, "AssignAddressPool", &assign, want);
}

/// A site whose installation has not ended.
fn installing(site: &Asked<'_>) {
    let check = |method: &str, request: Value, want| site.check(NETWORKS, method, &request, want);
    site.pool("spare6", "fd77::", 64);
    let assign = json!({"network": "pxeboot", "addressPool": "spare6"});
    let want = (PRECONDITION, "PXEBOOT_IPV4_ONLY", "spare6", "pxeboot");
    check("AssignAddressPool", assign, want);
    let narrow = json!({"target": "multicast-ipv6",
        "addressPool": {"ranges": [{"first": "ff08::1:1:9", "last": "ff08::1:1:e"}]}});
    let want = (
        PRECONDITION,
        "RANGE_EXCLUDES_ALLOCATED",
        "address_pool.ranges",
        "ff08::1:1:1",
    );
    check("UpdateAddressPool", narrow, want);
    let tiny = json!({"addressPool": {"name": "tiny", "network": "fd78::", "prefix": 126,
        "gatewayAddress": "fd78::1", "ranges": [{"first": "fd78::1", "last": "fd78::1"}]}});
    site.ok(NETWORKS, "CreateAddressPool", &tiny);
    let storage = json!({"type": "storage", "dynamic": true, "addressPool": "tiny"});
    let want = (PRECONDITION, "POOL_EXHAUSTED", "tiny", "tiny");
    check("CreateNetwork", storage, want);
}

/// Takes back the end of the installation, which `init` has set: no command does that.
fn reopen_installation(state_dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let store = Store::open(state_dir).expect("the state of a stopped controller");
    let key = Key::new("site").expect("a key");
    let record = store.get(&key).expect("readable").expect("a site");
    let mut message = SiteRecord::decode(record.value.as_slice()).expect("a record");
    message
        .site
        .as_mut()
        .expect("a site")
        .initial_config_complete = false;
    let action = Action::Put(message.encode_to_vec());
    let write = Write {
        key,
        expected: Expected::At(record.revision),
        action,
    };
    runtime
        .expect("a runtime")
        .block_on(store.commit(vec![write]))
        .expect("durable");
    store.close().expect("closed");
}
