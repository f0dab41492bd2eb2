//! Lists of the fleet: pages show everybody once, and filters narrow them.

use std::collections::BTreeSet;

use api::fleet_v1::subcloud_group_service_client::SubcloudGroupServiceClient;
use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::fleet_v1::{
    AddSubcloudGroupRequest, AddSubcloudRequest, Availability, ListSubcloudsRequest,
    ManagementState, SubcloudGroup,
};
use tonic::transport::Channel;

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
