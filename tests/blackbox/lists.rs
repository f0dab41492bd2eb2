//! Lists of the fleet: pages show everybody once, and filters narrow them.

use std::collections::BTreeSet;

use api::fleet_v1::peer_service_client::PeerServiceClient;
use api::fleet_v1::rollout_service_client::RolloutServiceClient;
use api::fleet_v1::subcloud_group_service_client::SubcloudGroupServiceClient;
use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::fleet_v1::{
    AddSubcloudGroupRequest, AddSubcloudRequest, Availability, ListPeerGroupAssociationsRequest,
    ListRolloutMembersRequest, ListRolloutsRequest, ListSubcloudsRequest, ManagementState,
    SubcloudGroup,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::client::operators;
use crate::support::cloud::Controller;
use crate::support::scratch;

/// Every name that the pages of a list show, in order.
async fn names(
    client: &mut SubcloudServiceClient<Channel>,
    of: &ListSubcloudsRequest,
) -> Vec<String> {
    let mut request = of.clone();
    let mut seen = Vec::new();
    loop {
        let answer = client.list_subclouds(request.clone()).await;
        let answer = answer.expect("a page").into_inner();
        seen.extend(answer.subclouds.into_iter().map(|subcloud| subcloud.name));
        if answer.next_page_token.is_empty() {
            return seen;
        }
        request.page_token = answer.next_page_token;
    }
}

#[tokio::test]
async fn pages_show_everybody_once_and_filters_narrow_them() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let channel = operators(&controller.state_dir().join("operator.sock")).await;
    let north = SubcloudGroup {
        name: "north".to_owned(),
        ..SubcloudGroup::default()
    };
    let group = AddSubcloudGroupRequest {
        subcloud_group: Some(north),
        ..AddSubcloudGroupRequest::default()
    };
    let mut groups = SubcloudGroupServiceClient::new(channel.clone());
    groups.add_subcloud_group(group).await.expect("a group");
    let mut client = SubcloudServiceClient::new(channel);
    let mut all = BTreeSet::new();
    let mut northern = BTreeSet::new();
    for number in 0..25 {
        let name = format!("s{number}");
        let in_north = number % 5 == 0;
        let request = AddSubcloudRequest {
            name: name.clone(),
            group: if in_north { "north" } else { "" }.to_owned(),
            ..AddSubcloudRequest::default()
        };
        client.add_subcloud(request).await.expect("added");
        if in_north {
            northern.insert(name.clone());
        }
        all.insert(name);
    }
    let (all, northern): (Vec<_>, Vec<_>) =
        (all.into_iter().collect(), northern.into_iter().collect());
    let page = |page_size: i32| ListSubcloudsRequest {
        page_size,
        ..ListSubcloudsRequest::default()
    };
    for size in [0, 1, 4, 24, 25, 26] {
        assert_eq!(
            names(&mut client, &page(size)).await,
            all,
            "pages of {size}"
        );
        let narrowed = ListSubcloudsRequest {
            group: "north".to_owned(),
            ..page(size)
        };
        assert_eq!(
            names(&mut client, &narrowed).await,
            northern,
            "pages of {size}"
        );
    }
    let unmanaged = ListSubcloudsRequest {
        management: ManagementState::Unmanaged.into(),
        ..page(7)
    };
    assert_eq!(names(&mut client, &unmanaged).await, all);
    let online = ListSubcloudsRequest {
        availability: Availability::Online.into(),
        ..page(7)
    };
    assert_eq!(names(&mut client, &online).await, Vec::<String>::new());
    let strange = ListSubcloudsRequest {
        group: "south".to_owned(),
        ..page(7)
    };
    let refusal = client.list_subclouds(strange).await.expect_err("no group");
    assert_eq!(refusal.code(), tonic::Code::NotFound);
}

/// The fields that a refusal names.
fn faults(refusal: &Status) -> Vec<String> {
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
    let details = refusal.get_error_details();
    let request = details.bad_request().expect("fields");
    let named = request.field_violations.iter();
    named.map(|fault| fault.field.clone()).collect()
}

#[tokio::test]
async fn a_list_refuses_a_token_of_no_page_and_filters_that_are_no_values() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let controller = Controller::start(&dir.path().join("controller"), site);
    let channel = operators(&controller.state_dir().join("operator.sock")).await;

    let strange = ListSubcloudsRequest {
        page_token: "s1".to_owned(),
        family: 9,
        stack: 9,
        availability: 99,
        management: -1,
        sync: 9,
        ..ListSubcloudsRequest::default()
    };
    let mut subclouds = SubcloudServiceClient::new(channel.clone());
    let refusal = subclouds
        .list_subclouds(strange)
        .await
        .expect_err("no page");
    let all = [
        "page_token",
        "family",
        "stack",
        "availability",
        "management",
        "sync",
    ];
    assert_eq!(faults(&refusal), all);
    let told = format!("{:?}", refusal.get_error_details());
    for valid in [
        "FAMILY_IPV4, FAMILY_IPV6",
        "AVAILABILITY_ONLINE",
        "that of the page before",
    ] {
        assert!(told.contains(valid), "{valid}: {told}");
    }

    let mut rollouts = RolloutServiceClient::new(channel.clone());
    let strange = ListRolloutMembersRequest {
        number: 1,
        page_token: "s1".to_owned(),
        state: 99,
        ..ListRolloutMembersRequest::default()
    };
    let refusal = rollouts.list_rollout_members(strange).await;
    let refusal = refusal.expect_err("no page");
    assert_eq!(faults(&refusal), ["page_token", "state"]);
    let strange = ListRolloutsRequest {
        page_token: "1".to_owned(),
        ..ListRolloutsRequest::default()
    };
    let refusal = rollouts.list_rollouts(strange).await.expect_err("no page");
    assert_eq!(faults(&refusal), ["page_token"]);
    let strange = ListPeerGroupAssociationsRequest {
        page_token: "shared/east".to_owned(),
        ..ListPeerGroupAssociationsRequest::default()
    };
    let mut peers = PeerServiceClient::new(channel);
    let refusal = peers.list_peer_group_associations(strange).await;
    assert_eq!(faults(&refusal.expect_err("no page")), ["page_token"]);
}
