//! The subclouds of a controller.

use api::fleet_v1::subcloud_service_server::SubcloudService;
use api::fleet_v1::*;
use api::site_v1::Site;
use tonic::{Request, Response, Status, async_trait};

use super::{Asked, answers, ok, page};

/// A controller's fleet.
pub(super) struct Fleet(pub(super) Asked);

type Answer<Message> = Result<Response<Message>, Status>;

const TOKEN: &str = "td1_c2VjcmV0";
const CONTROLLER: &str = "https://[fd01::2]:8441";

fn subcloud(name: &str) -> Result<Subcloud, Status> {
    let is_it = |subcloud: &Subcloud| subcloud.name == name || subcloud.uuid == name;
    let found = answers::subclouds().into_iter().find(is_it);
    found.ok_or_else(|| Status::not_found(format!("there is no subcloud `{name}`")))
}

#[async_trait]
impl SubcloudService for Fleet {
    async fn add_subcloud(
        &self,
        request: Request<AddSubcloudRequest>,
    ) -> Answer<AddSubcloudResponse> {
        let AddSubcloudRequest {
            name,
            validate_only,
            ..
        } = self.0.note(request);
        let mut made = subcloud("pending")?;
        made.name = name;
        let warnings = vec![Violation {
            reason: "SUBNET_SHARED".to_owned(),
            message: "mgmt shares fd01::/64 with the controller; the ranges are disjoint"
                .to_owned(),
            ..Violation::default()
        }];
        ok(AddSubcloudResponse {
            subcloud: Some(made),
            token: if validate_only {
                String::new()
            } else {
                TOKEN.to_owned()
            },
            controller: CONTROLLER.to_owned(),
            warnings,
        })
    }

    async fn issue_subcloud_token(
        &self,
        request: Request<IssueSubcloudTokenRequest>,
    ) -> Answer<IssueSubcloudTokenResponse> {
        let IssueSubcloudTokenRequest {
            subcloud: name,
            validate_only,
            ..
        } = self.0.note(request);
        let token = if validate_only { "" } else { TOKEN };
        ok(IssueSubcloudTokenResponse {
            subcloud: Some(subcloud(&name)?),
            token: token.to_owned(),
            controller: CONTROLLER.to_owned(),
        })
    }

    async fn list_subclouds(
        &self,
        request: Request<ListSubcloudsRequest>,
    ) -> Answer<ListSubcloudsResponse> {
        let ListSubcloudsRequest {
            page_token, family, ..
        } = self.0.note(request);
        let wanted = |subcloud: &Subcloud| family == 0 || subcloud.primary_family == family;
        let subclouds = answers::subclouds().into_iter().filter(wanted).collect();
        let (subclouds, next_page_token) = page(subclouds, &page_token);
        ok(ListSubcloudsResponse {
            subclouds,
            next_page_token,
        })
    }

    async fn get_subcloud(
        &self,
        request: Request<GetSubcloudRequest>,
    ) -> Answer<GetSubcloudResponse> {
        let mut subcloud = subcloud(&self.0.note(request).subcloud)?;
        if subcloud.name == "subcloud-1" {
            subcloud.site = Some(Site {
                networks: answers::networks(),
                address_pools: answers::pools(),
                ..Site::default()
            });
        }
        ok(GetSubcloudResponse {
            subcloud: Some(subcloud),
        })
    }

    async fn list_fleet_events(
        &self,
        request: Request<ListFleetEventsRequest>,
    ) -> Answer<ListFleetEventsResponse> {
        let ListFleetEventsRequest {
            page_token,
            subcloud,
            kind,
            ..
        } = self.0.note(request);
        let wanted = |event: &FleetEvent| {
            (subcloud.is_empty() || event.subcloud == subcloud)
                && (kind.is_empty() || event.kind == kind)
        };
        let events = answers::events().into_iter().filter(wanted).collect();
        let (events, next_page_token) = page(events, &page_token);
        ok(ListFleetEventsResponse {
            events,
            next_page_token,
        })
    }
}
