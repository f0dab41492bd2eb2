//! `tandem.fleet.v1.SubcloudGroupService`.

use std::sync::Arc;

use api::convert::{add_group, group_to_wire, update_group};
use api::fleet_v1 as wire;
use api::fleet_v1::subcloud_group_service_server::SubcloudGroupService;
use api::mutation::Mutation;
use api::page::page;
use daemon::random_uuid;
use fleet::{Actor, FleetChange, SharedGroup};
use tonic::{Request, Response, Status};

use super::subcloud::actor;
use super::{malformed, refused, unheard};
use crate::hub::Hub;

/// Subcloud groups, for operators.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) hub: Arc<Hub>,
}

#[tonic::async_trait]
impl SubcloudGroupService for Groups {
    async fn add_subcloud_group(
        &self,
        request: Request<wire::AddSubcloudGroupRequest>,
    ) -> Result<Response<wire::AddSubcloudGroupResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let change = add_group(request.clone(), random_uuid()).map_err(malformed);
        let change = change.map_err(unheard(request.validate_only))?;
        let mut group = self
            .operate(actor, "AddSubcloudGroup", &request, change)
            .await?;
        if request.validate_only {
            // A preview has no id: it is drawn anew by the real call.
            group.uuid.clear();
        }
        Ok(Response::new(wire::AddSubcloudGroupResponse {
            subcloud_group: Some(group),
        }))
    }

    async fn list_subcloud_groups(
        &self,
        request: Request<wire::ListSubcloudGroupsRequest>,
    ) -> Result<Response<wire::ListSubcloudGroupsResponse>, Status> {
        let wire::ListSubcloudGroupsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let all = self.hub.groups().into_iter();
        let all = all.map(|(name, group)| (name, group_to_wire(&group)));
        let (subcloud_groups, next_page_token) =
            page(all, page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListSubcloudGroupsResponse {
            subcloud_groups,
            next_page_token,
        }))
    }

    async fn get_subcloud_group(
        &self,
        request: Request<wire::GetSubcloudGroupRequest>,
    ) -> Result<Response<wire::GetSubcloudGroupResponse>, Status> {
        let reference = &request.get_ref().subcloud_group;
        let group = self.hub.group(reference).map_err(refused)?;
        Ok(Response::new(wire::GetSubcloudGroupResponse {
            subcloud_group: Some(group_to_wire(&group)),
        }))
    }

    async fn update_subcloud_group(
        &self,
        request: Request<wire::UpdateSubcloudGroupRequest>,
    ) -> Result<Response<wire::UpdateSubcloudGroupResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let change = update_group(request.clone()).map_err(malformed);
        let change = change.map_err(unheard(request.validate_only))?;
        let group = self
            .operate(actor, "UpdateSubcloudGroup", &request, change)
            .await?;
        Ok(Response::new(wire::UpdateSubcloudGroupResponse {
            subcloud_group: Some(group),
        }))
    }

    async fn delete_subcloud_group(
        &self,
        request: Request<wire::DeleteSubcloudGroupRequest>,
    ) -> Result<Response<wire::DeleteSubcloudGroupResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let change = FleetChange::DeleteGroup {
            group: request.subcloud_group.clone(),
            etag: request.etag.clone(),
        };
        let group = self
            .operate(actor, "DeleteSubcloudGroup", &request, change)
            .await?;
        Ok(Response::new(wire::DeleteSubcloudGroupResponse {
            subcloud_group: Some(group),
        }))
    }
}

impl Groups {
    /// Asks for a change of a group; the group as the answer shows it.
    async fn operate<R: Mutation>(
        &self,
        actor: Actor,
        method: &'static str,
        request: &R,
        change: FleetChange,
    ) -> Result<wire::SubcloudGroup, Status> {
        let asked = self
            .hub
            .operate::<R, SharedGroup>(actor, method, request, change);
        let group = asked
            .await
            .map_err(|refusal| api::status::from_rejection_at(&refusal, R::path))?;
        Ok(group_to_wire(&group))
    }
}
