//! Requests that are wrong in themselves: each is refused with the path of a field, and neither
//! the site nor the service takes harm.

use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::fleet_v1::{
    AddSubcloudRequest, GetSubcloudRequest, IssueSubcloudTokenRequest, ListFleetEventsRequest,
};
use api::site_v1::network_service_client::NetworkServiceClient;
use api::site_v1::site_service_client::SiteServiceClient;
use api::site_v1::{
    AddressPool, AddressRange, AssignAddressPoolRequest, CreateAddressPoolRequest,
    CreateNetworkRequest, GetAddressPoolRequest, GetNetworkRequest, GetSiteRequest,
    ListAddressPoolsRequest, ListNetworksRequest, LockHostRequest, RemoveAddressPoolRequest,
    UpdateAddressPoolRequest, UpdateDnsRequest, UpdateOamRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::client::operators;
use crate::support::cloud::Controller;
use crate::support::scratch;

/// Texts that are no address, or none that a pool may have.
const BAD_ADDRESSES: [&str; 24] = [
    "10.1.2",
    "10.1.2.3.4",
    "010.1.2.3",
    "10.1.2.03",
    "10.1.2.256",
    "10.1.2.-1",
    "10.1.2.3/24",
    "10.1.2.3 ",
    " 10.1.2.3",
    "１0.1.2.3",
    "10․1.2.3",
    "0x0a.1.2.3",
    "::ffff:10.1.2.3",
    "::FFFF:0a01:0203",
    "fd01::1%eth0",
    "fd01::1%",
    "fd01:::1",
    "fd01::g",
    "[fd01::1]",
    "fd01",
    "localhost",
    "10,1,2,3",
    "fd01::1\n",
    "\u{0}",
];

/// A pool that could be added.
fn good_pool() -> AddressPool {
    AddressPool {
        name: "new".to_owned(),
        network: "fd77::".to_owned(),
        prefix: 64,
        ..AddressPool::default()
    }
}

fn range(first: &str, last: &str) -> AddressRange {
    AddressRange {
        first: first.to_owned(),
        last: last.to_owned(),
    }
}

/// Pools with one fault each, and the field that must be named.
fn bad_pools() -> Vec<(AddressPool, &'static str)> {
    let with = |change: &dyn Fn(&mut AddressPool)| {
        let mut pool = good_pool();
        change(&mut pool);
        pool
    };
    let mut all = Vec::new();
    let mut add = |field, change: &dyn Fn(&mut AddressPool)| all.push((with(change), field));
    for text in BAD_ADDRESSES {
        add("network", &|pool| pool.network = text.to_owned());
        add("floating_address", &|pool| {
            pool.floating_address = text.to_owned()
        });
        add("controller0_address", &|pool| {
            pool.controller0_address = text.to_owned()
        });
        add("gateway_address", &|pool| {
            pool.gateway_address = text.to_owned()
        });
        add("ranges[0].first", &|pool| {
            pool.ranges = vec![range(text, "fd77::9")]
        });
        add("ranges[0].last", &|pool| {
            pool.ranges = vec![range("fd77::1", text)]
        });
    }
    for prefix in [127, 128, 129, 255, 256, u32::MAX] {
        add("prefix", &|pool| pool.prefix = prefix);
    }
    for prefix in [31, 32, 33] {
        add("prefix", &|pool| {
            (pool.network, pool.prefix) = ("10.9.0.0".to_owned(), prefix)
        });
    }
    for network in ["fd77::1", "fd77:0:0:0:8000::", "::"] {
        add("network", &|pool| pool.network = network.to_owned());
    }
    for network in ["0.0.0.0", "10.9.0.1"] {
        add("network", &|pool| {
            (pool.network, pool.prefix) = (network.to_owned(), 24)
        });
    }
    add("network", &|pool| pool.prefix = 0);
    for name in ["", "   ", "a\nb"] {
        add("name", &|pool| pool.name = name.to_owned());
    }
    add("name", &|pool| pool.name = "n".repeat(129));
    add("name", &|pool| pool.name = "n".repeat(1024 * 1024));
    let bad_ranges = [
        ("fd77::9", "fd77::1"),
        ("10.9.0.1", "10.9.0.9"),
        ("fd77::1", "10.9.0.9"),
        ("fd78::1", "fd78::9"),
        ("fd77::", "fd77::9"),
    ];
    for (first, last) in bad_ranges {
        add("ranges[0]", &|pool| pool.ranges = vec![range(first, last)]);
    }
    let meeting = || vec![range("fd77::1", "fd77::9"), range("fd77::9", "fd77::a")];
    add("ranges[1]", &|pool| pool.ranges = meeting());
    add("ranges", &|pool| {
        pool.ranges = vec![range("fd77::1", "fd77::2"); 10_000]
    });
    for order in [3, 99, -1, i32::MAX] {
        add("address_pool.order", &|pool| pool.order = order);
    }
    add("floating_address", &|pool| {
        pool.floating_address = "10.9.0.1".to_owned()
    });
    add("floating_address", &|pool| {
        pool.floating_address = "fd78::1".to_owned()
    });
    add("controller0_address", &|pool| {
        pool.floating_address = "fd77::2".to_owned();
        pool.controller0_address = "fd77::2".to_owned();
    });
    add("address_pool.uuid", &|pool| pool.uuid = "x".to_owned());
    add("address_pool.family", &|pool| pool.family = 1);
    add("address_pool.etag", &|pool| pool.etag = "x".to_owned());
    add("address_pool.network_name", &|pool| {
        pool.network_name = "oam".to_owned()
    });
    all
}

/// A refused call with the field that must be named.
type Refused = (Status, &'static str);

#[tokio::test]
async fn two_hundred_malformed_requests_change_nothing() {
    let dir = scratch();
    let mut controller = Controller::start(
        &dir.path().join("controller"),
        Bootstrap::controller(Stack::V6),
    );
    let process = controller.daemon().id();
    let channel = operators(&controller.state_dir().join("operator.sock")).await;
    let mut site = SiteServiceClient::new(channel.clone());
    let before = site
        .get_site(GetSiteRequest {})
        .await
        .expect("the site")
        .into_inner();

    let mut refused = refused_pools(&channel).await;
    refused.extend(refused_others(&channel).await);
    assert!(refused.len() >= 200, "only {} requests", refused.len());
    for (status, field) in &refused {
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        let refusal = api::status::to_refusal(status);
        let named = refusal
            .faults
            .iter()
            .any(|fault| names(&fault.subject, field));
        assert!(named, "{field} is not named: {refusal:?}");
        let told = |fault: &api::status::Fault| !fault.remedy.is_empty();
        assert!(refusal.faults.iter().all(told), "{refusal:?}");
    }

    let after = site
        .get_site(GetSiteRequest {})
        .await
        .expect("the site")
        .into_inner();
    assert_eq!(before, after);
    assert_eq!(controller.daemon().id(), process);
    assert!(controller.daemon().is_running());
}

/// Whether a path is the field of the request or of the pool in it, or leads into it.
fn names(path: &str, field: &str) -> bool {
    [path, path.strip_prefix("address_pool.").unwrap_or(path)]
        .into_iter()
        .any(|path| path.starts_with(field))
}

async fn refused_pools(channel: &Channel) -> Vec<Refused> {
    let mut client = NetworkServiceClient::new(channel.clone());
    let mut refused = Vec::new();
    for (pool, field) in bad_pools() {
        let what = format!("{:.300}", format!("{pool:?}"));
        let request = CreateAddressPoolRequest {
            address_pool: Some(pool),
            ..Default::default()
        };
        let answer = client.create_address_pool(request).await;
        refused.push((answer.expect_err(&what), field));
    }
    refused
}

#[expect(deprecated, reason = "the deprecated call is refused as well")]
async fn refused_others(channel: &Channel) -> Vec<Refused> {
    let mut networks = NetworkServiceClient::new(channel.clone());
    let mut site = SiteServiceClient::new(channel.clone());
    let mut refused = Vec::new();
    let nothing = networks
        .create_address_pool(CreateAddressPoolRequest::default())
        .await;
    refused.push((nothing.expect_err("no pool"), "address_pool"));
    let nothing = networks
        .update_address_pool(UpdateAddressPoolRequest::default())
        .await;
    refused.push((nothing.expect_err("no pool"), "address_pool"));
    let nothing = networks
        .remove_address_pool(RemoveAddressPoolRequest::default())
        .await;
    refused.push((nothing.expect_err("no association"), "uuid"));
    let nothing = site.update_oam(UpdateOamRequest::default()).await;
    refused.push((nothing.expect_err("no oam"), "oam"));
    for path in [
        "",
        "uuid",
        "family",
        "nope",
        "ranges.first",
        "address_pool.name",
    ] {
        let request = UpdateAddressPoolRequest {
            target: "oam-ipv6".to_owned(),
            address_pool: Some(good_pool()),
            update_mask: Some(prost_types::FieldMask {
                paths: vec![path.to_owned()],
            }),
            ..Default::default()
        };
        let answer = networks.update_address_pool(request).await;
        refused.push((answer.expect_err(path), "update_mask.paths[0]"));
    }
    for kind in ["", "data", "OAM", "oam ", "cluster_host", "1"] {
        let request = CreateNetworkRequest {
            r#type: kind.to_owned(),
            address_pool: "oam-ipv6".to_owned(),
            ..Default::default()
        };
        refused.push((
            networks.create_network(request).await.expect_err(kind),
            "type",
        ));
    }
    for page_size in [-1, 1001, i32::MIN, i32::MAX] {
        let request = ListNetworksRequest {
            page_size,
            ..Default::default()
        };
        let answer = networks.list_networks(request).await;
        refused.push((answer.expect_err("a page size"), "page_size"));
        let request = ListAddressPoolsRequest {
            page_size,
            ..Default::default()
        };
        let answer = networks.list_address_pools(request).await;
        refused.push((answer.expect_err("a page size"), "page_size"));
    }
    for servers in [
        vec!["fd00::53"; 4],
        vec!["nope"],
        vec!["fd00::53", "fd00::53"],
        vec!["::"],
    ] {
        let servers = servers.into_iter().map(str::to_owned).collect();
        let request = UpdateDnsRequest {
            servers,
            ..Default::default()
        };
        refused.push((
            site.update_dns(request).await.expect_err("servers"),
            "servers",
        ));
    }
    let request = AssignAddressPoolRequest {
        network: "oam".to_owned(),
        address_pool: "oam-ipv6".to_owned(),
        request_id: "x".repeat(129),
        ..Default::default()
    };
    let answer = networks.assign_address_pool(request).await;
    refused.push((answer.expect_err("a long id"), "request_id"));
    refused
}

/// A text of a mebibyte is not sent back: not once, and not five times.
#[tokio::test(flavor = "multi_thread")]
async fn long_texts_are_not_repeated() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let channel = operators(&controller.state_dir().join("operator.sock")).await;
    let mut networks = NetworkServiceClient::new(channel.clone());
    let mut sites = SiteServiceClient::new(channel.clone());
    let mut subclouds = SubcloudServiceClient::new(channel);
    for letter in ["x", "é", "\u{1f480}"] {
        let long = letter.repeat((1024 * 1024 - 64) / letter.len());
        let mut refused = Vec::new();
        let request = GetNetworkRequest {
            network: long.clone(),
        };
        refused.push(networks.get_network(request).await.expect_err("no network"));
        let request = GetAddressPoolRequest {
            address_pool: long.clone(),
        };
        refused.push(
            networks
                .get_address_pool(request)
                .await
                .expect_err("no pool"),
        );
        let request = AssignAddressPoolRequest {
            network: long.clone(),
            address_pool: long.clone(),
            ..Default::default()
        };
        refused.push(
            networks
                .assign_address_pool(request)
                .await
                .expect_err("neither"),
        );
        let request = RemoveAddressPoolRequest {
            uuid: long.clone(),
            ..Default::default()
        };
        refused.push(
            networks
                .remove_address_pool(request)
                .await
                .expect_err("none"),
        );
        let request = LockHostRequest {
            hostname: long.clone(),
            ..Default::default()
        };
        refused.push(sites.lock_host(request).await.expect_err("no host"));
        let request = GetSubcloudRequest {
            subcloud: long.clone(),
        };
        refused.push(
            subclouds
                .get_subcloud(request)
                .await
                .expect_err("no subcloud"),
        );
        let request = AddSubcloudRequest {
            name: long.clone(),
            ..Default::default()
        };
        refused.push(subclouds.add_subcloud(request).await.expect_err("no name"));
        let request = IssueSubcloudTokenRequest {
            subcloud: long.clone(),
            ..Default::default()
        };
        refused.push(
            subclouds
                .issue_subcloud_token(request)
                .await
                .expect_err("none"),
        );
        let request = ListFleetEventsRequest {
            kind: long.clone(),
            ..Default::default()
        };
        refused.push(
            subclouds
                .list_fleet_events(request)
                .await
                .expect_err("no kind"),
        );
        for status in refused {
            assert_eq!(
                status
                    .get_error_details()
                    .error_info()
                    .map(|it| it.domain.as_str()),
                Some("tandem")
            );
            let size = status.message().len() + status.details().len();
            assert!(size < 8 * 1024, "{size} bytes: {:.200}", status.message());
        }
    }
}
