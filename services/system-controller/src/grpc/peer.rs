//! `tandem.fleet.v1.PeerService`.

use std::sync::Arc;

use api::convert::{
    Malformed, add_peer_group, association_to_wire, migration_to_wire, new_peer,
    peer_group_to_wire, peer_member_to_wire, previewed_peer, set_gateways, subcloud_to_wire,
    system_peer_to_wire, update_members, update_peer, update_peer_group,
};
use api::fleet_v1 as wire;
use api::fleet_v1::peer_service_server::PeerService;
use api::mutation::Mutation;
use api::page::page;
use daemon::{SecretAnswers, random_uuid};
use fleet::{
    Actor, Association, Controller, GroupView, PeerAction, PeerGroup, PeerGroupId, PeerSubject,
    Rejection, SharedSubcloud, SubcloudId, SystemPeer,
};
use tonic::{Request, Response, Status};

use super::subcloud::{actor, token_ttl};
use super::{malformed, refused, unheard};
use crate::hub::{Hub, Shared, Unpeered};

/// What a call of this service comes to.
type Answer<M> = Result<Response<M>, Status>;

/// Peers, peer groups and associations, for operators.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    pub(crate) hub: Arc<Hub>,
    pub(crate) answers: Arc<SecretAnswers>,
}

#[tonic::async_trait]
impl PeerService for Peers {
    async fn issue_peering_token(
        &self,
        request: Request<wire::IssuePeeringTokenRequest>,
    ) -> Answer<wire::IssuePeeringTokenResponse> {
        let (actor, request) = (actor(&request), request.into_inner());
        let work = self.clone().issue(actor, request.clone());
        let answer = self.answers.once("IssuePeeringToken", request, work).await;
        answer.map(Response::new)
    }

    async fn add_system_peer(
        &self,
        request: Request<wire::AddSystemPeerRequest>,
    ) -> Answer<wire::AddSystemPeerResponse> {
        let (actor, request) = (actor(&request), request.into_inner());
        let work = self.clone().add(actor, request.clone());
        let answer = self.answers.once("AddSystemPeer", request, work).await;
        answer.map(Response::new)
    }

    async fn list_system_peers(
        &self,
        request: Request<wire::ListSystemPeersRequest>,
    ) -> Answer<wire::ListSystemPeersResponse> {
        let wire::ListSystemPeersRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let all = self.hub.look_at_peers(|machine, shared| {
            let shown = |peer| system_peer_to_wire(&machine.peer_view(peer));
            by_name(shared.peers.values().map(shown), |peer| &peer.name)
        });
        let (system_peers, next_page_token) =
            page(all.into_iter(), page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListSystemPeersResponse {
            system_peers,
            next_page_token,
        }))
    }

    async fn get_system_peer(
        &self,
        request: Request<wire::GetSystemPeerRequest>,
    ) -> Answer<wire::GetSystemPeerResponse> {
        let reference = &request.get_ref().system_peer;
        let peer = self.hub.look_at_peers(|machine, shared| {
            let known = shared.peer(reference);
            known.map(|peer| system_peer_to_wire(&machine.peer_view(peer)))
        });
        let system_peer = Some(peer.map_err(refused)?);
        Ok(Response::new(wire::GetSystemPeerResponse { system_peer }))
    }

    async fn update_system_peer(
        &self,
        request: Request<wire::UpdateSystemPeerRequest>,
    ) -> Answer<wire::UpdateSystemPeerResponse> {
        self.change("UpdateSystemPeer", request, update_peer, |hub, subject| {
            let system_peer = Some(peer(hub, subject)?);
            Ok(wire::UpdateSystemPeerResponse { system_peer })
        })
        .await
    }

    async fn delete_system_peer(
        &self,
        request: Request<wire::DeleteSystemPeerRequest>,
    ) -> Answer<wire::DeleteSystemPeerResponse> {
        let action = |request: wire::DeleteSystemPeerRequest| {
            Ok(PeerAction::DeletePeer {
                peer: request.system_peer,
            })
        };
        self.change("DeleteSystemPeer", request, action, |hub, subject| {
            let system_peer = Some(peer(hub, subject)?);
            Ok(wire::DeleteSystemPeerResponse { system_peer })
        })
        .await
    }

    async fn add_subcloud_peer_group(
        &self,
        request: Request<wire::AddSubcloudPeerGroupRequest>,
    ) -> Answer<wire::AddSubcloudPeerGroupResponse> {
        let preview = request.get_ref().validate_only;
        let action = |request| add_peer_group(request, PeerGroupId(random_uuid()));
        self.change(
            "AddSubcloudPeerGroup",
            request,
            action,
            move |hub, subject| {
                let mut group = group(hub, subject)?;
                if preview {
                    // A preview has no id: it is drawn anew by the real call.
                    group.uuid.clear();
                }
                let subcloud_peer_group = Some(group);
                Ok(wire::AddSubcloudPeerGroupResponse {
                    subcloud_peer_group,
                })
            },
        )
        .await
    }

    async fn list_subcloud_peer_groups(
        &self,
        request: Request<wire::ListSubcloudPeerGroupsRequest>,
    ) -> Answer<wire::ListSubcloudPeerGroupsResponse> {
        let wire::ListSubcloudPeerGroupsRequest {
            page_size,
            page_token,
            system_peer,
        } = request.into_inner();
        let all = self.hub.look_at_peers(|machine, shared| {
            let groups = groups_with(shared, &system_peer)?.into_iter();
            let shown = groups.map(|group| group_to_wire(machine, &machine.group_view(group)));
            Ok(by_name(shown, |group| &group.name))
        });
        let all = all.map_err(|refusal: Rejection| refused(refusal))?;
        let (subcloud_peer_groups, next_page_token) =
            page(all.into_iter(), page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListSubcloudPeerGroupsResponse {
            subcloud_peer_groups,
            next_page_token,
        }))
    }

    async fn get_subcloud_peer_group(
        &self,
        request: Request<wire::GetSubcloudPeerGroupRequest>,
    ) -> Answer<wire::GetSubcloudPeerGroupResponse> {
        let reference = &request.get_ref().subcloud_peer_group;
        let group = self.hub.look_at_peers(|machine, shared| {
            let known = shared.group(reference);
            known.map(|group| group_to_wire(machine, &machine.group_view(group)))
        });
        let subcloud_peer_group = Some(group.map_err(refused)?);
        Ok(Response::new(wire::GetSubcloudPeerGroupResponse {
            subcloud_peer_group,
        }))
    }

    async fn update_subcloud_peer_group(
        &self,
        request: Request<wire::UpdateSubcloudPeerGroupRequest>,
    ) -> Answer<wire::UpdateSubcloudPeerGroupResponse> {
        let method = "UpdateSubcloudPeerGroup";
        self.change(method, request, update_peer_group, |hub, subject| {
            let subcloud_peer_group = Some(group(hub, subject)?);
            Ok(wire::UpdateSubcloudPeerGroupResponse {
                subcloud_peer_group,
            })
        })
        .await
    }

    async fn delete_subcloud_peer_group(
        &self,
        request: Request<wire::DeleteSubcloudPeerGroupRequest>,
    ) -> Answer<wire::DeleteSubcloudPeerGroupResponse> {
        let action = |request: wire::DeleteSubcloudPeerGroupRequest| {
            Ok(PeerAction::DeleteGroup {
                group: request.subcloud_peer_group,
            })
        };
        self.change(
            "DeleteSubcloudPeerGroup",
            request,
            action,
            |hub, subject| {
                let subcloud_peer_group = Some(group(hub, subject)?);
                Ok(wire::DeleteSubcloudPeerGroupResponse {
                    subcloud_peer_group,
                })
            },
        )
        .await
    }

    async fn list_subcloud_peer_group_members(
        &self,
        request: Request<wire::ListSubcloudPeerGroupMembersRequest>,
    ) -> Answer<wire::ListSubcloudPeerGroupMembersResponse> {
        let wire::ListSubcloudPeerGroupMembersRequest {
            subcloud_peer_group,
            page_size,
            page_token,
        } = request.into_inner();
        let found = self
            .hub
            .look_at_peers(|_, shared| shared.group(&subcloud_peer_group).map(|group| group.id));
        let all = self.hub.members(found.map_err(refused)?);
        let shown = self.hub.look_at_peers(|machine, shared| {
            let shown = |member: &SharedSubcloud| member_shown(machine, shared, member);
            by_name(all.iter().map(shown), |member| &member.name)
        });
        let (members, next_page_token) =
            page(shown.into_iter(), page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListSubcloudPeerGroupMembersResponse {
            members,
            next_page_token,
        }))
    }

    async fn update_subcloud_peer_group_members(
        &self,
        request: Request<wire::UpdateSubcloudPeerGroupMembersRequest>,
    ) -> Answer<wire::UpdateSubcloudPeerGroupMembersResponse> {
        let method = "UpdateSubcloudPeerGroupMembers";
        let action = |request| Ok(update_members(request));
        self.change(method, request, action, |hub, subject| {
            let subcloud_peer_group = Some(group(hub, subject)?);
            Ok(wire::UpdateSubcloudPeerGroupMembersResponse {
                subcloud_peer_group,
            })
        })
        .await
    }

    async fn migrate_subcloud_peer_group(
        &self,
        request: Request<wire::MigrateSubcloudPeerGroupRequest>,
    ) -> Answer<wire::MigrateSubcloudPeerGroupResponse> {
        let action = |request: wire::MigrateSubcloudPeerGroupRequest| {
            Ok(PeerAction::Migrate {
                group: request.subcloud_peer_group,
            })
        };
        let method = "MigrateSubcloudPeerGroup";
        self.change(method, request, action, |hub, subject| {
            let (subcloud_peer_group, migration) = begun(hub, subject)?;
            Ok(wire::MigrateSubcloudPeerGroupResponse {
                subcloud_peer_group: Some(subcloud_peer_group),
                migration: Some(migration),
            })
        })
        .await
    }

    async fn get_migration(
        &self,
        request: Request<wire::GetMigrationRequest>,
    ) -> Answer<wire::GetMigrationResponse> {
        let reference = &request.get_ref().subcloud_peer_group;
        let answer = self.hub.look_at_peers(|machine, shared| {
            let view = machine.group_view(shared.group(reference)?);
            Ok(wire::GetMigrationResponse {
                subcloud_peer_group: Some(group_to_wire(machine, &view)),
                migration: Some(migration(machine, &view)),
            })
        });
        answer
            .map(Response::new)
            .map_err(|refusal: Rejection| refused(refusal))
    }

    async fn add_peer_group_association(
        &self,
        request: Request<wire::AddPeerGroupAssociationRequest>,
    ) -> Answer<wire::AddPeerGroupAssociationResponse> {
        let action = |request: wire::AddPeerGroupAssociationRequest| {
            Ok(PeerAction::Associate {
                group: request.subcloud_peer_group,
                peer: request.system_peer,
                peer_priority: request.peer_priority,
            })
        };
        self.change(
            "AddPeerGroupAssociation",
            request,
            action,
            |hub, subject| {
                let association = Some(association(hub, subject)?);
                Ok(wire::AddPeerGroupAssociationResponse { association })
            },
        )
        .await
    }

    async fn list_peer_group_associations(
        &self,
        request: Request<wire::ListPeerGroupAssociationsRequest>,
    ) -> Answer<wire::ListPeerGroupAssociationsResponse> {
        let wire::ListPeerGroupAssociationsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let all = self.hub.look_at_peers(|machine, shared| {
            let known = shared.associations.values();
            let shown = known.map(|known| {
                let shown = association_shown(machine, known);
                let key = format!("{}/{}", shown.subcloud_peer_group, shown.system_peer);
                (key, shown)
            });
            let mut all: Vec<_> = shown.collect();
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            all
        });
        let (associations, next_page_token) =
            page(all.into_iter(), page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListPeerGroupAssociationsResponse {
            associations,
            next_page_token,
        }))
    }

    async fn get_peer_group_association(
        &self,
        request: Request<wire::GetPeerGroupAssociationRequest>,
    ) -> Answer<wire::GetPeerGroupAssociationResponse> {
        let wire::GetPeerGroupAssociationRequest {
            subcloud_peer_group,
            system_peer,
        } = request.into_inner();
        let shown = self.hub.look_at_peers(|machine, shared| {
            let known = shared.association(&subcloud_peer_group, &system_peer);
            known.map(|known| association_shown(machine, known))
        });
        let association = Some(shown.map_err(refused)?);
        Ok(Response::new(wire::GetPeerGroupAssociationResponse {
            association,
        }))
    }

    async fn update_peer_group_association(
        &self,
        request: Request<wire::UpdatePeerGroupAssociationRequest>,
    ) -> Answer<wire::UpdatePeerGroupAssociationResponse> {
        let action = |request: wire::UpdatePeerGroupAssociationRequest| {
            Ok(PeerAction::UpdateAssociation {
                group: request.subcloud_peer_group,
                peer: request.system_peer,
                peer_priority: request.peer_priority,
            })
        };
        let method = "UpdatePeerGroupAssociation";
        self.change(method, request, action, |hub, subject| {
            let association = Some(association(hub, subject)?);
            Ok(wire::UpdatePeerGroupAssociationResponse { association })
        })
        .await
    }

    async fn delete_peer_group_association(
        &self,
        request: Request<wire::DeletePeerGroupAssociationRequest>,
    ) -> Answer<wire::DeletePeerGroupAssociationResponse> {
        let action = |request: wire::DeletePeerGroupAssociationRequest| {
            Ok(PeerAction::Dissociate {
                group: request.subcloud_peer_group,
                peer: request.system_peer,
            })
        };
        let method = "DeletePeerGroupAssociation";
        self.change(method, request, action, |hub, subject| {
            let association = Some(association(hub, subject)?);
            Ok(wire::DeletePeerGroupAssociationResponse { association })
        })
        .await
    }

    async fn sync_peer_group_association(
        &self,
        request: Request<wire::SyncPeerGroupAssociationRequest>,
    ) -> Answer<wire::SyncPeerGroupAssociationResponse> {
        let action = |request: wire::SyncPeerGroupAssociationRequest| {
            Ok(PeerAction::SyncAssociation {
                group: request.subcloud_peer_group,
                peer: request.system_peer,
            })
        };
        let method = "SyncPeerGroupAssociation";
        self.change(method, request, action, |hub, subject| {
            let association = Some(association(hub, subject)?);
            Ok(wire::SyncPeerGroupAssociationResponse { association })
        })
        .await
    }

    async fn set_subcloud_gateways(
        &self,
        request: Request<wire::SetSubcloudGatewaysRequest>,
    ) -> Answer<wire::SetSubcloudGatewaysResponse> {
        self.change(
            "SetSubcloudGateways",
            request,
            set_gateways,
            |hub, subject| {
                let subcloud = Some(subcloud(hub, subject)?);
                Ok(wire::SetSubcloudGatewaysResponse { subcloud })
            },
        )
        .await
    }

    async fn dismiss_conflict(
        &self,
        request: Request<wire::DismissConflictRequest>,
    ) -> Answer<wire::DismissConflictResponse> {
        let action = |request: wire::DismissConflictRequest| {
            Ok(PeerAction::DismissConflict {
                subcloud: request.subcloud,
            })
        };
        self.change("DismissConflict", request, action, |hub, subject| {
            let subcloud = Some(subcloud(hub, subject)?);
            Ok(wire::DismissConflictResponse { subcloud })
        })
        .await
    }
}

impl Peers {
    /// Asks for what `action` reads from the request, and answers with what `answer` makes of the
    /// record; the same request id gets the same answer.
    async fn change<R: Mutation + Clone, M>(
        &self,
        method: &'static str,
        request: Request<R>,
        action: impl FnOnce(R) -> Result<PeerAction, Vec<Malformed>>,
        answer: impl FnOnce(&Hub, PeerSubject) -> Result<M, Status>,
    ) -> Answer<M> {
        let (actor, request) = (actor(&request), request.into_inner());
        let action = action(request.clone()).map_err(malformed);
        let action = action.map_err(unheard(request.validate_only()))?;
        let asked = self.hub.peer_change(actor, method, &request, action);
        let receipt = asked
            .await
            .map_err(|refusal| api::status::from_rejection_at(&refusal, R::path))?;
        answer(&self.hub, receipt.subject).map(Response::new)
    }

    async fn issue(
        self,
        actor: Actor,
        request: wire::IssuePeeringTokenRequest,
    ) -> Result<wire::IssuePeeringTokenResponse, Status> {
        let wire::IssuePeeringTokenRequest {
            system_peer,
            token_ttl_seconds,
            validate_only,
            request_id: _,
        } = request;
        let wanted = new_peer(system_peer).map_err(malformed);
        let (name, settings) = wanted.map_err(unheard(validate_only))?;
        let ttl = token_ttl(token_ttl_seconds);
        let issued = self
            .hub
            .issue_peering(actor, name, settings, ttl, validate_only);
        let issued = issued.await;
        let (token, receipt) =
            issued.map_err(unpeered::<wire::IssuePeeringTokenRequest>(validate_only))?;
        let shown = peer(&self.hub, receipt.subject)?;
        Ok(if validate_only {
            wire::IssuePeeringTokenResponse {
                system_peer: Some(previewed_peer(shown)),
                token: String::new(),
            }
        } else {
            wire::IssuePeeringTokenResponse {
                system_peer: Some(shown),
                token,
            }
        })
    }

    async fn add(
        self,
        actor: Actor,
        request: wire::AddSystemPeerRequest,
    ) -> Result<wire::AddSystemPeerResponse, Status> {
        let wire::AddSystemPeerRequest {
            system_peer,
            token,
            validate_only,
            request_id: _,
        } = request;
        let wanted = new_peer(system_peer).map_err(malformed);
        let (name, settings) = wanted.map_err(unheard(validate_only))?;
        let joined = self
            .hub
            .join_peer(actor, name, settings, &token, validate_only);
        let receipt = joined
            .await
            .map_err(unpeered::<wire::AddSystemPeerRequest>(validate_only))?;
        let shown = peer(&self.hub, receipt.subject)?;
        Ok(wire::AddSystemPeerResponse {
            system_peer: Some(if validate_only {
                previewed_peer(shown)
            } else {
                shown
            }),
        })
    }
}

/// Why two sites did not become peers, as a status.
fn unpeered<R: Mutation>(preview: bool) -> impl Fn(Unpeered) -> Status {
    let refused = |refusal| api::status::from_rejection_at(&refusal, R::path);
    let unheard = unheard(preview);
    move |why| match why {
        Unpeered::Judged(refusal) => refused(refusal),
        Unpeered::Refused(refusal) => unheard(refused(refusal)),
        Unpeered::Failed(status) => unheard(status),
    }
}

fn peer(hub: &Hub, subject: PeerSubject) -> Result<wire::SystemPeer, Status> {
    match subject {
        PeerSubject::Peer(peer) => Ok(hub.look(|machine| {
            let peer: &SystemPeer = &peer;
            system_peer_to_wire(&machine.peer_view(peer))
        })),
        other => Err(misunderstood(&other)),
    }
}

fn group(hub: &Hub, subject: PeerSubject) -> Result<wire::SubcloudPeerGroup, Status> {
    let group = group_of(subject)?;
    Ok(hub.look(|machine| group_to_wire(machine, &machine.group_view(&group))))
}

/// The group of a migration that has begun, or would: nobody has come yet.
fn begun(
    hub: &Hub,
    subject: PeerSubject,
) -> Result<(wire::SubcloudPeerGroup, wire::Migration), Status> {
    let group = group_of(subject)?;
    let targets = group.migration.as_ref().map(|known| known.targets.clone());
    Ok(hub.look(|machine| {
        let view = GroupView {
            remaining: targets.into_iter().flatten().collect(),
            on_their_way: 0,
            ..machine.group_view(&group)
        };
        (group_to_wire(machine, &view), migration(machine, &view))
    }))
}

fn group_of(subject: PeerSubject) -> Result<Box<PeerGroup>, Status> {
    match subject {
        PeerSubject::Group(group) => Ok(group),
        other => Err(misunderstood(&other)),
    }
}

fn association(hub: &Hub, subject: PeerSubject) -> Result<wire::PeerGroupAssociation, Status> {
    match subject {
        PeerSubject::Association(known) => {
            Ok(hub.look(|machine| association_shown(machine, &known)))
        }
        other => Err(misunderstood(&other)),
    }
}

fn subcloud(hub: &Hub, subject: PeerSubject) -> Result<wire::Subcloud, Status> {
    match subject {
        PeerSubject::Subcloud(known) => {
            let shown = hub.show(&known);
            let group = &shown.group.name;
            Ok(subcloud_to_wire(
                &shown.subcloud,
                shown.presence,
                group,
                None,
            ))
        }
        other => Err(misunderstood(&other)),
    }
}

fn group_to_wire(machine: &Controller, view: &GroupView<'_>) -> wire::SubcloudPeerGroup {
    peer_group_to_wire(view, machine.card().controller)
}

fn migration(machine: &Controller, view: &GroupView<'_>) -> wire::Migration {
    let name = |id: &SubcloudId| Some(machine.fleet().subcloud(*id)?.name.clone());
    let names = match &view.group.migration {
        Some(known) if !known.running() => known.missing.iter().filter_map(name).collect(),
        _ => view.remaining.iter().filter_map(name).collect(),
    };
    migration_to_wire(view, names)
}

fn member_shown(
    machine: &Controller,
    shared: &Shared,
    member: &SharedSubcloud,
) -> wire::SubcloudPeerGroupMember {
    let own = machine.card();
    let owner = match member.geo.owner {
        None => (own.controller, own.name.clone()),
        Some(owner) => {
            let mut peers = shared.peers.values();
            let peer = peers.find(|peer| peer.controller() == Some(owner));
            let name = peer.map(|peer| peer.name.clone());
            (owner, name.unwrap_or_default())
        }
    };
    peer_member_to_wire(member, machine.presence(member.id).availability, owner)
}

fn association_shown(machine: &Controller, known: &Association) -> wire::PeerGroupAssociation {
    let group = machine.find_group(&known.group.to_string());
    let peer = machine.find_peer(&known.peer.to_string());
    association_to_wire(
        &machine.association_view(known),
        group
            .map(|group| group.header.name.clone())
            .unwrap_or_default(),
        peer.map(|peer| peer.name.clone()).unwrap_or_default(),
    )
}

/// The groups that are shared with a peer; all of them without one.
fn groups_with<'a>(shared: &'a Shared, peer: &str) -> Result<Vec<&'a PeerGroup>, Rejection> {
    if peer.is_empty() {
        return Ok(shared.groups.values().collect());
    }
    let peer = shared.peer(peer)?.id;
    let with = |group: &&PeerGroup| shared.associations.contains_key(&(group.id, peer));
    Ok(shared.groups.values().filter(with).collect())
}

/// Entries with their names, in the order of these.
fn by_name<T>(entries: impl Iterator<Item = T>, name: impl Fn(&T) -> &String) -> Vec<(String, T)> {
    let mut all: Vec<(String, T)> = entries.map(|entry| (name(&entry).clone(), entry)).collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

/// The machine answered with another kind of record: a defect.
fn misunderstood(subject: &PeerSubject) -> Status {
    tracing::error!(?subject, "the machine answered with another record");
    Status::internal("the controller misunderstood itself; its log has more")
}
