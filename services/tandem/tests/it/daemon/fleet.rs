//! The subclouds of a controller.

use api::fleet_v1::alarm_service_server::AlarmService;
use api::fleet_v1::subcloud_group_service_server::SubcloudGroupService;
use api::fleet_v1::subcloud_service_server::SubcloudService;
use api::fleet_v1::*;
use api::site_v1::Site;
use tonic::{Request, Response, Status, async_trait};

use super::watch::{FleetChanges, changes_after};
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
impl AlarmService for Fleet {
    async fn list_alarm_summaries(
        &self,
        request: Request<ListAlarmSummariesRequest>,
    ) -> Answer<ListAlarmSummariesResponse> {
        let token = self.0.note(request).page_token;
        let (summaries, next_page_token) = page(answers::alarm_summaries(), &token);
        ok(ListAlarmSummariesResponse {
            summaries,
            next_page_token,
        })
    }
}

#[async_trait]
impl SubcloudService for Fleet {
    type WatchFleetStream = FleetChanges;

    async fn watch_fleet(&self, request: Request<WatchFleetRequest>) -> Answer<FleetChanges> {
        let WatchFleetRequest { from_revision } = self.0.note_endless(request);
        ok(changes_after(from_revision))
    }

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
        if validate_only {
            made.uuid.clear();
            made.token_expires_at_milliseconds = 0;
        }
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

    async fn manage_subcloud(
        &self,
        request: Request<ManageSubcloudRequest>,
    ) -> Answer<ManageSubcloudResponse> {
        let subcloud = Some(subcloud(&self.0.note(request).subcloud)?);
        ok(ManageSubcloudResponse { subcloud })
    }

    async fn unmanage_subcloud(
        &self,
        request: Request<UnmanageSubcloudRequest>,
    ) -> Answer<UnmanageSubcloudResponse> {
        let subcloud = Some(Subcloud {
            management: ManagementState::Unmanaged.into(),
            ..subcloud(&self.0.note(request).subcloud)?
        });
        ok(UnmanageSubcloudResponse { subcloud })
    }

    async fn update_subcloud(
        &self,
        request: Request<UpdateSubcloudRequest>,
    ) -> Answer<UpdateSubcloudResponse> {
        let UpdateSubcloudRequest {
            target,
            subcloud: new,
            ..
        } = self.0.note(request);
        let new = new.unwrap_or_default();
        let subcloud = Some(Subcloud {
            description: new.description,
            location: new.location,
            group: new.group,
            ..subcloud(&target)?
        });
        ok(UpdateSubcloudResponse { subcloud })
    }

    async fn delete_subcloud(
        &self,
        request: Request<DeleteSubcloudRequest>,
    ) -> Answer<DeleteSubcloudResponse> {
        let subcloud = Some(subcloud(&self.0.note(request).subcloud)?);
        ok(DeleteSubcloudResponse { subcloud })
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

/// A controller's operators.
pub(super) struct Operators(pub(super) Asked);

fn operator(name: &str, role: OperatorRole) -> Operator {
    Operator {
        name: name.to_owned(),
        role: role.into(),
        key_sha256: "00".repeat(32),
        created_at_milliseconds: 1_767_225_600_000,
        expires_at_milliseconds: 1_798_761_600_000,
        revoked_at_milliseconds: 0,
    }
}

#[async_trait]
impl operator_service_server::OperatorService for Operators {
    async fn add_operator(
        &self,
        request: Request<AddOperatorRequest>,
    ) -> Answer<AddOperatorResponse> {
        let AddOperatorRequest {
            name,
            role,
            certificate_signing_request,
            validate_only,
            request_id: _,
        } = self.0.note(request);
        if name == "taken" {
            return Err(answers::not_found(
                site::Reason::HostNotFound,
                "operator",
                &name,
            ));
        }
        assert!(
            certificate_signing_request.len() > 100,
            "a request for a key"
        );
        let mut made = operator(&name, OperatorRole::Reader);
        made.role = role;
        ok(AddOperatorResponse {
            operator: Some(made),
            certificate: if validate_only {
                Vec::new()
            } else {
                vec![1, 2, 3]
            },
            authority_certificate: vec![4, 5, 6],
        })
    }

    async fn list_operators(
        &self,
        request: Request<ListOperatorsRequest>,
    ) -> Answer<ListOperatorsResponse> {
        let ListOperatorsRequest { page_token, .. } = self.0.note(request);
        let mut gone = operator("carol", OperatorRole::Configurator);
        gone.revoked_at_milliseconds = 1_767_312_000_000;
        let all = vec![
            operator("alice", OperatorRole::Reader),
            operator("bob", OperatorRole::Admin),
            gone,
        ];
        let (operators, next_page_token) = page(all, &page_token);
        ok(ListOperatorsResponse {
            operators,
            next_page_token,
        })
    }

    async fn revoke_operator(
        &self,
        request: Request<RevokeOperatorRequest>,
    ) -> Answer<RevokeOperatorResponse> {
        let RevokeOperatorRequest { name, .. } = self.0.note(request);
        let mut gone = operator(&name, OperatorRole::Reader);
        gone.revoked_at_milliseconds = 1_767_312_000_000;
        ok(RevokeOperatorResponse {
            operator: Some(gone),
        })
    }

    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Answer<ListAuditEntriesResponse> {
        let ListAuditEntriesRequest { page_token, .. } = self.0.note(request);
        let entry = |sequence, actor: &str, action: &str, name: &str| AuditEntry {
            sequence,
            at_milliseconds: 1_767_225_600_000 + sequence * 1000,
            actor: actor.to_owned(),
            action: action.to_owned(),
            name: name.to_owned(),
            done: true,
            ..AuditEntry::default()
        };
        let refused = AuditEntry {
            done: false,
            violations: vec![Violation {
                reason: "ENROLL_TOKEN_INVALID".to_owned(),
                message: "the enrollment token is not valid for this site".to_owned(),
                ..Violation::default()
            }],
            detail: "the token expired".to_owned(),
            ..entry(3, "stranger/fd02::2", "ENROLL", "subcloud-1")
        };
        let all = vec![
            refused,
            entry(
                2,
                "operator/admin/alice",
                "SITE CreateAddressPool",
                "controller",
            ),
            entry(1, "local/uid-0", "SUBCLOUD_ADD", "subcloud-1"),
        ];
        let (entries, next_page_token) = page(all, &page_token);
        ok(ListAuditEntriesResponse {
            entries,
            next_page_token,
        })
    }
}

/// A controller's groups.
pub(super) struct Groups(pub(super) Asked);

fn group(name: &str) -> Result<SubcloudGroup, Status> {
    let is_it = |group: &SubcloudGroup| group.name == name || group.uuid == name;
    let found = answers::groups().into_iter().find(is_it);
    found.ok_or_else(|| Status::not_found(format!("there is no subcloud group `{name}`")))
}

#[async_trait]
impl SubcloudGroupService for Groups {
    async fn add_subcloud_group(
        &self,
        request: Request<AddSubcloudGroupRequest>,
    ) -> Answer<AddSubcloudGroupResponse> {
        let AddSubcloudGroupRequest {
            subcloud_group,
            validate_only,
            ..
        } = self.0.note(request);
        let given = subcloud_group.unwrap_or_default();
        let made = SubcloudGroup {
            name: given.name,
            ..group("north")?
        };
        let uuid = if validate_only {
            String::new()
        } else {
            made.uuid.clone()
        };
        ok(AddSubcloudGroupResponse {
            subcloud_group: Some(SubcloudGroup { uuid, ..made }),
        })
    }

    async fn list_subcloud_groups(
        &self,
        request: Request<ListSubcloudGroupsRequest>,
    ) -> Answer<ListSubcloudGroupsResponse> {
        let ListSubcloudGroupsRequest { page_token, .. } = self.0.note(request);
        let (subcloud_groups, next_page_token) = page(answers::groups(), &page_token);
        ok(ListSubcloudGroupsResponse {
            subcloud_groups,
            next_page_token,
        })
    }

    async fn get_subcloud_group(
        &self,
        request: Request<GetSubcloudGroupRequest>,
    ) -> Answer<GetSubcloudGroupResponse> {
        let subcloud_group = Some(group(&self.0.note(request).subcloud_group)?);
        ok(GetSubcloudGroupResponse { subcloud_group })
    }

    async fn update_subcloud_group(
        &self,
        request: Request<UpdateSubcloudGroupRequest>,
    ) -> Answer<UpdateSubcloudGroupResponse> {
        let subcloud_group = Some(group(&self.0.note(request).target)?);
        ok(UpdateSubcloudGroupResponse { subcloud_group })
    }

    async fn delete_subcloud_group(
        &self,
        request: Request<DeleteSubcloudGroupRequest>,
    ) -> Answer<DeleteSubcloudGroupResponse> {
        let subcloud_group = Some(group(&self.0.note(request).subcloud_group)?);
        ok(DeleteSubcloudGroupResponse { subcloud_group })
    }
}
