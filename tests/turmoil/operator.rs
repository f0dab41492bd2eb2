//! What operators call at a controller.

use api::fleet_v1 as wire;
use api::fleet_v1::peer_service_client::PeerServiceClient;
use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use system_controller::Serving;
use tonic::Status;
use tonic::service::Routes;

/// The group that the controllers share.
pub(crate) const GROUP: &str = "shared";

/// How often peers say that they are there, in seconds, and how many silences are a loss.
const PEER_HEARTBEAT: u32 = 2;
const PEER_THRESHOLD: u32 = 3;

/// One who may do everything at one controller.
pub(crate) struct Operator(Routes);

impl Operator {
    pub(crate) fn at(serving: &Serving) -> Self {
        Self(serving.operators())
    }

    fn subclouds(&self) -> SubcloudServiceClient<Routes> {
        SubcloudServiceClient::new(self.0.clone())
    }

    fn peers(&self) -> PeerServiceClient<Routes> {
        PeerServiceClient::new(self.0.clone())
    }

    /// `subcloud add`: the token.
    pub(crate) async fn add_subcloud(&self, name: String) -> Result<String, Status> {
        let request = wire::AddSubcloudRequest {
            name,
            ..Default::default()
        };
        let answer = self.subclouds().add_subcloud(request).await?;
        Ok(answer.into_inner().token)
    }

    pub(crate) async fn manage(&self, subcloud: String) -> Result<(), Status> {
        let request = wire::ManageSubcloudRequest {
            subcloud,
            force: true,
            ..Default::default()
        };
        self.subclouds().manage_subcloud(request).await.map(drop)
    }

    /// `subcloud update --description`.
    pub(crate) async fn describe(&self, target: String, text: String) -> Result<(), Status> {
        let request = wire::UpdateSubcloudRequest {
            target,
            subcloud: Some(wire::Subcloud {
                description: text,
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["description".to_owned()],
            }),
            ..Default::default()
        };
        self.subclouds().update_subcloud(request).await.map(drop)
    }

    /// `system-peer add NAME`: the token for the other site.
    pub(crate) async fn issue_peering(&self, name: String) -> Result<String, Status> {
        let request = wire::IssuePeeringTokenRequest {
            system_peer: Some(peer(name)),
            ..Default::default()
        };
        let answer = self.peers().issue_peering_token(request).await?;
        Ok(answer.into_inner().token)
    }

    /// `system-peer add NAME --token`.
    pub(crate) async fn join_peer(&self, name: String, token: String) -> Result<(), Status> {
        let request = wire::AddSystemPeerRequest {
            system_peer: Some(peer(name)),
            token,
            ..Default::default()
        };
        self.peers().add_system_peer(request).await.map(drop)
    }

    /// A group of these subclouds that is shared with a peer.
    pub(crate) async fn share(
        &self,
        members: Vec<String>,
        most: u32,
        peer: String,
    ) -> Result<(), Status> {
        let add = wire::AddSubcloudPeerGroupRequest {
            subcloud_peer_group: Some(wire::SubcloudPeerGroup {
                name: GROUP.to_owned(),
                max_subcloud_rehoming: most,
                ..Default::default()
            }),
            ..Default::default()
        };
        self.peers().add_subcloud_peer_group(add).await?;
        let join = wire::UpdateSubcloudPeerGroupMembersRequest {
            subcloud_peer_group: GROUP.to_owned(),
            add: members,
            ..Default::default()
        };
        let mut peers = self.peers();
        peers.update_subcloud_peer_group_members(join).await?;
        let share = wire::AddPeerGroupAssociationRequest {
            subcloud_peer_group: GROUP.to_owned(),
            system_peer: peer,
            peer_priority: 1,
            ..Default::default()
        };
        peers.add_peer_group_association(share).await.map(drop)
    }

    /// `subcloud-peer-group migrate`.
    pub(crate) async fn migrate(&self) -> Result<(), Status> {
        let request = wire::MigrateSubcloudPeerGroupRequest {
            subcloud_peer_group: GROUP.to_owned(),
            ..Default::default()
        };
        let mut peers = self.peers();
        peers.migrate_subcloud_peer_group(request).await.map(drop)
    }
}

fn peer(name: String) -> wire::SystemPeer {
    wire::SystemPeer {
        name,
        heartbeat_interval_seconds: PEER_HEARTBEAT,
        failure_threshold: PEER_THRESHOLD,
        failure_policy: wire::FailurePolicy::Rehome.into(),
        ..Default::default()
    }
}
