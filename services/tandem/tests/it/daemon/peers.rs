//! The peers of a controller, the groups that it shares with them, and their moves.

use std::sync::atomic::{AtomicU32, Ordering};

use api::fleet_v1::peer_service_server::PeerService;
use api::fleet_v1::*;
use api::site_v1::Family;
use tonic::{Request, Response, Status, async_trait};

use super::{Asked, answers, ok, page};

/// A controller's peers.
pub(super) struct Peers {
    pub(super) asked: Asked,
    /// How often a migration was asked after: one more member has arrived each time.
    pub(super) questions: AtomicU32,
}

type Answer<Message> = Result<Response<Message>, Status>;

/// Members of the group that moves.
const TOTAL: u32 = 3;

fn peer(name: &str) -> Result<SystemPeer, Status> {
    let is_it = |peer: &SystemPeer| peer.name == name || peer.uuid == name;
    let found = answers::peers().into_iter().find(is_it);
    found.ok_or_else(|| Status::not_found(format!("there is no system peer `{name}`")))
}

fn group(name: &str) -> Result<SubcloudPeerGroup, Status> {
    let is_it = |group: &SubcloudPeerGroup| group.name == name || group.uuid == name;
    let found = answers::peer_groups().into_iter().find(is_it);
    found.ok_or_else(|| Status::not_found(format!("there is no subcloud peer group `{name}`")))
}

/// Whether the migration of the group ends before all its members have come.
fn gets_stuck(group: &SubcloudPeerGroup) -> bool {
    group.name == "own"
}

fn association(group: &str, peer: &str) -> Result<PeerGroupAssociation, Status> {
    let is_it = |known: &PeerGroupAssociation| {
        known.subcloud_peer_group == group && known.system_peer == peer
    };
    let found = answers::peer_group_associations().into_iter().find(is_it);
    found.ok_or_else(|| Status::not_found(format!("{group} is not shared with {peer}")))
}

fn migration(arrived: u32) -> Migration {
    let state = if arrived < TOTAL {
        MigrationState::Running
    } else {
        MigrationState::Complete
    };
    let waiting = TOTAL.saturating_sub(arrived + 1);
    Migration {
        state: state.into(),
        started_at_milliseconds: answers::NEW_YEAR,
        finished_at_milliseconds: if arrived < TOTAL {
            0
        } else {
            answers::NEW_YEAR + 9_000
        },
        total: TOTAL,
        arrived,
        on_their_way: TOTAL - arrived - waiting,
        waiting,
        remaining: (0..waiting).map(|n| format!("subcloud-{n}")).collect(),
    }
}

#[async_trait]
impl PeerService for Peers {
    async fn issue_peering_token(
        &self,
        request: Request<IssuePeeringTokenRequest>,
    ) -> Answer<IssuePeeringTokenResponse> {
        let IssuePeeringTokenRequest {
            system_peer,
            validate_only,
            ..
        } = self.asked.note(request);
        let given = system_peer.unwrap_or_default();
        let mut made = SystemPeer {
            name: given.name,
            ..peer("south")?
        };
        let mut token = "tp1_c2VjcmV0".to_owned();
        if validate_only {
            made.uuid.clear();
            made.token_expires_at_milliseconds = 0;
            token.clear();
        }
        ok(IssuePeeringTokenResponse {
            system_peer: Some(made),
            token,
        })
    }

    async fn add_system_peer(
        &self,
        request: Request<AddSystemPeerRequest>,
    ) -> Answer<AddSystemPeerResponse> {
        let given = self.asked.note(request).system_peer.unwrap_or_default();
        let made = SystemPeer {
            name: given.name,
            ..peer("east")?
        };
        ok(AddSystemPeerResponse {
            system_peer: Some(made),
        })
    }

    async fn list_system_peers(
        &self,
        request: Request<ListSystemPeersRequest>,
    ) -> Answer<ListSystemPeersResponse> {
        let ListSystemPeersRequest { page_token, .. } = self.asked.note(request);
        let (system_peers, next_page_token) = page(answers::peers(), &page_token);
        ok(ListSystemPeersResponse {
            system_peers,
            next_page_token,
        })
    }

    async fn get_system_peer(
        &self,
        request: Request<GetSystemPeerRequest>,
    ) -> Answer<GetSystemPeerResponse> {
        let system_peer = Some(peer(&self.asked.note(request).system_peer)?);
        ok(GetSystemPeerResponse { system_peer })
    }

    async fn update_system_peer(
        &self,
        request: Request<UpdateSystemPeerRequest>,
    ) -> Answer<UpdateSystemPeerResponse> {
        let system_peer = Some(peer(&self.asked.note(request).target)?);
        ok(UpdateSystemPeerResponse { system_peer })
    }

    async fn delete_system_peer(
        &self,
        request: Request<DeleteSystemPeerRequest>,
    ) -> Answer<DeleteSystemPeerResponse> {
        let system_peer = Some(peer(&self.asked.note(request).system_peer)?);
        ok(DeleteSystemPeerResponse { system_peer })
    }

    async fn add_subcloud_peer_group(
        &self,
        request: Request<AddSubcloudPeerGroupRequest>,
    ) -> Answer<AddSubcloudPeerGroupResponse> {
        let given = self.asked.note(request).subcloud_peer_group;
        let made = SubcloudPeerGroup {
            name: given.unwrap_or_default().name,
            ..group("shared")?
        };
        ok(AddSubcloudPeerGroupResponse {
            subcloud_peer_group: Some(made),
        })
    }

    async fn list_subcloud_peer_groups(
        &self,
        request: Request<ListSubcloudPeerGroupsRequest>,
    ) -> Answer<ListSubcloudPeerGroupsResponse> {
        let ListSubcloudPeerGroupsRequest { page_token, .. } = self.asked.note(request);
        let (subcloud_peer_groups, next_page_token) = page(answers::peer_groups(), &page_token);
        ok(ListSubcloudPeerGroupsResponse {
            subcloud_peer_groups,
            next_page_token,
        })
    }

    async fn get_subcloud_peer_group(
        &self,
        request: Request<GetSubcloudPeerGroupRequest>,
    ) -> Answer<GetSubcloudPeerGroupResponse> {
        let subcloud_peer_group = Some(group(&self.asked.note(request).subcloud_peer_group)?);
        ok(GetSubcloudPeerGroupResponse {
            subcloud_peer_group,
        })
    }

    async fn update_subcloud_peer_group(
        &self,
        request: Request<UpdateSubcloudPeerGroupRequest>,
    ) -> Answer<UpdateSubcloudPeerGroupResponse> {
        let subcloud_peer_group = Some(group(&self.asked.note(request).target)?);
        ok(UpdateSubcloudPeerGroupResponse {
            subcloud_peer_group,
        })
    }

    async fn delete_subcloud_peer_group(
        &self,
        request: Request<DeleteSubcloudPeerGroupRequest>,
    ) -> Answer<DeleteSubcloudPeerGroupResponse> {
        let subcloud_peer_group = Some(group(&self.asked.note(request).subcloud_peer_group)?);
        ok(DeleteSubcloudPeerGroupResponse {
            subcloud_peer_group,
        })
    }

    async fn list_subcloud_peer_group_members(
        &self,
        request: Request<ListSubcloudPeerGroupMembersRequest>,
    ) -> Answer<ListSubcloudPeerGroupMembersResponse> {
        let ListSubcloudPeerGroupMembersRequest { page_token, .. } = self.asked.note(request);
        let (members, next_page_token) = page(answers::peer_group_members(), &page_token);
        ok(ListSubcloudPeerGroupMembersResponse {
            members,
            next_page_token,
        })
    }

    async fn update_subcloud_peer_group_members(
        &self,
        request: Request<UpdateSubcloudPeerGroupMembersRequest>,
    ) -> Answer<UpdateSubcloudPeerGroupMembersResponse> {
        let subcloud_peer_group = Some(group(&self.asked.note(request).subcloud_peer_group)?);
        ok(UpdateSubcloudPeerGroupMembersResponse {
            subcloud_peer_group,
        })
    }

    async fn migrate_subcloud_peer_group(
        &self,
        request: Request<MigrateSubcloudPeerGroupRequest>,
    ) -> Answer<MigrateSubcloudPeerGroupResponse> {
        let subcloud_peer_group = Some(group(&self.asked.note(request).subcloud_peer_group)?);
        if !subcloud_peer_group.as_ref().is_some_and(gets_stuck) {
            self.questions.store(0, Ordering::Relaxed);
        }
        ok(MigrateSubcloudPeerGroupResponse {
            subcloud_peer_group,
            migration: Some(Migration {
                on_their_way: 0,
                waiting: TOTAL,
                ..migration(0)
            }),
        })
    }

    async fn get_migration(
        &self,
        request: Request<GetMigrationRequest>,
    ) -> Answer<GetMigrationResponse> {
        let subcloud_peer_group = Some(group(&self.asked.note(request).subcloud_peer_group)?);
        if subcloud_peer_group.as_ref().is_some_and(gets_stuck) {
            let migration = Some(Migration {
                state: MigrationState::Incomplete.into(),
                ..migration(1)
            });
            return ok(GetMigrationResponse {
                subcloud_peer_group,
                migration,
            });
        }
        let arrived = 1 + self.questions.fetch_add(1, Ordering::Relaxed);
        ok(GetMigrationResponse {
            subcloud_peer_group,
            migration: Some(migration(arrived.min(TOTAL))),
        })
    }

    async fn add_peer_group_association(
        &self,
        request: Request<AddPeerGroupAssociationRequest>,
    ) -> Answer<AddPeerGroupAssociationResponse> {
        let AddPeerGroupAssociationRequest {
            subcloud_peer_group,
            system_peer,
            ..
        } = self.asked.note(request);
        let association = Some(association(&subcloud_peer_group, &system_peer)?);
        ok(AddPeerGroupAssociationResponse { association })
    }

    async fn list_peer_group_associations(
        &self,
        request: Request<ListPeerGroupAssociationsRequest>,
    ) -> Answer<ListPeerGroupAssociationsResponse> {
        let ListPeerGroupAssociationsRequest { page_token, .. } = self.asked.note(request);
        let all = answers::peer_group_associations();
        let (associations, next_page_token) = page(all, &page_token);
        ok(ListPeerGroupAssociationsResponse {
            associations,
            next_page_token,
        })
    }

    async fn get_peer_group_association(
        &self,
        request: Request<GetPeerGroupAssociationRequest>,
    ) -> Answer<GetPeerGroupAssociationResponse> {
        let GetPeerGroupAssociationRequest {
            subcloud_peer_group,
            system_peer,
        } = self.asked.note(request);
        let association = Some(association(&subcloud_peer_group, &system_peer)?);
        ok(GetPeerGroupAssociationResponse { association })
    }

    async fn update_peer_group_association(
        &self,
        request: Request<UpdatePeerGroupAssociationRequest>,
    ) -> Answer<UpdatePeerGroupAssociationResponse> {
        let UpdatePeerGroupAssociationRequest {
            subcloud_peer_group,
            system_peer,
            ..
        } = self.asked.note(request);
        let association = Some(association(&subcloud_peer_group, &system_peer)?);
        ok(UpdatePeerGroupAssociationResponse { association })
    }

    async fn delete_peer_group_association(
        &self,
        request: Request<DeletePeerGroupAssociationRequest>,
    ) -> Answer<DeletePeerGroupAssociationResponse> {
        let DeletePeerGroupAssociationRequest {
            subcloud_peer_group,
            system_peer,
            ..
        } = self.asked.note(request);
        let association = Some(association(&subcloud_peer_group, &system_peer)?);
        ok(DeletePeerGroupAssociationResponse { association })
    }

    async fn sync_peer_group_association(
        &self,
        request: Request<SyncPeerGroupAssociationRequest>,
    ) -> Answer<SyncPeerGroupAssociationResponse> {
        let SyncPeerGroupAssociationRequest {
            subcloud_peer_group,
            system_peer,
            ..
        } = self.asked.note(request);
        let association = Some(association(&subcloud_peer_group, &system_peer)?);
        ok(SyncPeerGroupAssociationResponse { association })
    }

    async fn set_subcloud_gateways(
        &self,
        request: Request<SetSubcloudGatewaysRequest>,
    ) -> Answer<SetSubcloudGatewaysResponse> {
        let subcloud = known(&self.asked.note(request).subcloud)?;
        ok(SetSubcloudGatewaysResponse { subcloud })
    }

    async fn dismiss_conflict(
        &self,
        request: Request<DismissConflictRequest>,
    ) -> Answer<DismissConflictResponse> {
        let subcloud = known(&self.asked.note(request).subcloud)?;
        ok(DismissConflictResponse { subcloud })
    }
}

fn known(name: &str) -> Result<Option<Subcloud>, Status> {
    let mut all = answers::subclouds().into_iter();
    let found = all.find(|subcloud| subcloud.name == name);
    let unknown = || Status::not_found(format!("there is no subcloud `{name}`"));
    found.map(Some).ok_or_else(unknown)
}

/// What the peers are like.
pub(super) fn established(name: &str, n: u8) -> SystemPeer {
    SystemPeer {
        uuid: answers::uuid('c', n),
        name: name.to_owned(),
        administrative_state: PeerAdministrativeState::Enabled.into(),
        heartbeat_interval_seconds: 5,
        failure_threshold: 3,
        failure_policy: FailurePolicy::Rehome.into(),
        peering_state: PeeringState::Established.into(),
        availability: PeerAvailability::Available.into(),
        synchronising: true,
        last_seen_milliseconds: answers::NEW_YEAR + 5_000,
        controller_uuid: answers::uuid('d', n),
        site_name: format!("site-{name}"),
        software_version: "24.09".to_owned(),
        primary_family: Family::Ipv6.into(),
        endpoints: vec![format!("https://[fd0{n}::2]:8441")],
        established_at_milliseconds: answers::NEW_YEAR,
        updated_at_milliseconds: answers::NEW_YEAR,
        etag: format!("{n:016}"),
        ..SystemPeer::default()
    }
}
