//! `tandem.fleet.v1.SubcloudService`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::convert::{
    event_from_record, event_kind_from_wire, event_to_wire, fault_to_wire, listed_after,
    receipt_to_wire, said_of_new, subcloud_to_wire, time_range, update_subcloud,
};
use api::fleet_v1 as wire;
use api::fleet_v1::subcloud_service_server::SubcloudService;
use api::mutation::Mutation;
use api::page::page;
use api::store_v1::EventRecord;
use daemon::{Caller, Exit, Failure, Life, SecretAnswers, random_uuid};
use fleet::{
    Actor, AddSubcloud, Candidate, Event, Fault, FleetChange, Input, IssueToken, NewToken,
    Position, Receipt, SecretHash, SharedGroup, SubcloudGroup, SubcloudId, TokenId,
};
use identity::{EnrollmentToken, SpkiSha256};
use ring::rand::SystemRandom;
use site::{Site, bootstrap};
use tonic::{Request, Response, Status};

use super::watch::{self, FleetChanges};
use super::{broken, malformed, refused, unheard};
use crate::hub::{Hub, Shown};
use crate::log_pages::{LogPage, Looking, search_log};
use crate::records::{EVENTS, read_subcloud_site};

/// How long a token is valid when the request does not say, in seconds.
const TOKEN_SECONDS: u32 = 3600;

/// Subclouds, for operators.
#[derive(Debug, Clone)]
pub(crate) struct Subclouds {
    pub(crate) hub: Arc<Hub>,
    pub(crate) tokens: Arc<TokenIssuer>,
    pub(crate) answers: Arc<SecretAnswers>,
    pub(crate) life: Life,
}

/// Draws tokens that name this controller.
#[derive(Debug)]
pub(crate) struct TokenIssuer {
    /// What agents pin.
    pub(crate) authority: SpkiSha256,
    /// Where agents find this controller.
    pub(crate) link: SocketAddr,
}

#[tonic::async_trait]
impl SubcloudService for Subclouds {
    type WatchFleetStream = FleetChanges;

    async fn watch_fleet(
        &self,
        request: Request<wire::WatchFleetRequest>,
    ) -> Result<Response<Self::WatchFleetStream>, Status> {
        let (hub, stop) = (Arc::clone(&self.hub), self.life.stopping());
        let from = request.get_ref().from_revision;
        Ok(Response::new(watch::changes(hub, stop, from)))
    }

    async fn add_subcloud(
        &self,
        request: Request<wire::AddSubcloudRequest>,
    ) -> Result<Response<wire::AddSubcloudResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let work = self.clone().add(actor, request.clone());
        self.answers
            .once("AddSubcloud", request, work)
            .await
            .map(Response::new)
    }

    async fn issue_subcloud_token(
        &self,
        request: Request<wire::IssueSubcloudTokenRequest>,
    ) -> Result<Response<wire::IssueSubcloudTokenResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let work = self.clone().issue_token(actor, request.clone());
        self.answers
            .once("IssueSubcloudToken", request, work)
            .await
            .map(Response::new)
    }

    async fn list_subclouds(
        &self,
        request: Request<wire::ListSubcloudsRequest>,
    ) -> Result<Response<wire::ListSubcloudsResponse>, Status> {
        let request = request.into_inner();
        let after = listed_after(&request).map_err(malformed)?;
        let group = self.narrowed_to(&request.group)?;
        let all = self.hub.subclouds_after(after, usize::MAX).into_iter();
        let all = all.map(|shown| shown_to_wire(&shown, None));
        let wanted = all.filter(|subcloud| wanted(&request, group.as_deref(), subcloud));
        let named = wanted.map(|subcloud| (subcloud.name.clone(), subcloud));
        let (subclouds, next_page_token) =
            page(named, request.page_size, &request.page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListSubcloudsResponse {
            subclouds,
            next_page_token,
        }))
    }

    async fn get_subcloud(
        &self,
        request: Request<wire::GetSubcloudRequest>,
    ) -> Result<Response<wire::GetSubcloudResponse>, Status> {
        let reference = &request.get_ref().subcloud;
        let shown = self.hub.subcloud(reference).map_err(refused)?;
        let site = read_subcloud_site(self.hub.store(), shown.subcloud.id)
            .map_err(|error| broken("cannot read the subcloud's site", &error))?;
        let subcloud = Some(shown_to_wire(&shown, site.as_ref()));
        Ok(Response::new(wire::GetSubcloudResponse { subcloud }))
    }

    async fn manage_subcloud(
        &self,
        request: Request<wire::ManageSubcloudRequest>,
    ) -> Result<Response<wire::ManageSubcloudResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let change = FleetChange::Manage {
            subcloud: request.subcloud.clone(),
            force: request.force,
        };
        let subcloud = self
            .operate(actor, "ManageSubcloud", &request, change)
            .await?;
        Ok(Response::new(wire::ManageSubcloudResponse { subcloud }))
    }

    async fn unmanage_subcloud(
        &self,
        request: Request<wire::UnmanageSubcloudRequest>,
    ) -> Result<Response<wire::UnmanageSubcloudResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let change = FleetChange::Unmanage {
            subcloud: request.subcloud.clone(),
        };
        let subcloud = self
            .operate(actor, "UnmanageSubcloud", &request, change)
            .await?;
        Ok(Response::new(wire::UnmanageSubcloudResponse { subcloud }))
    }

    async fn update_subcloud(
        &self,
        request: Request<wire::UpdateSubcloudRequest>,
    ) -> Result<Response<wire::UpdateSubcloudResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let change = update_subcloud(request.clone()).map_err(malformed);
        let change = change.map_err(unheard(request.validate_only))?;
        let subcloud = self
            .operate(actor, "UpdateSubcloud", &request, change)
            .await?;
        Ok(Response::new(wire::UpdateSubcloudResponse { subcloud }))
    }

    async fn delete_subcloud(
        &self,
        request: Request<wire::DeleteSubcloudRequest>,
    ) -> Result<Response<wire::DeleteSubcloudResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let change = FleetChange::Delete {
            subcloud: request.subcloud.clone(),
            etag: request.etag.clone(),
        };
        let subcloud = self
            .operate(actor, "DeleteSubcloud", &request, change)
            .await?;
        Ok(Response::new(wire::DeleteSubcloudResponse { subcloud }))
    }

    async fn list_fleet_events(
        &self,
        request: Request<wire::ListFleetEventsRequest>,
    ) -> Result<Response<wire::ListFleetEventsResponse>, Status> {
        let wire::ListFleetEventsRequest {
            page_size,
            page_token,
            subcloud,
            kind,
            since_milliseconds: since,
            until_milliseconds: until,
        } = request.into_inner();
        time_range(since, until).map_err(|fault| malformed(vec![fault]))?;
        let kind = event_kind_from_wire(&kind).map_err(|fault| malformed(vec![fault]))?;
        let looking = Looking::at(EVENTS, (page_size, &page_token), (since, until));
        let looking = looking.map_err(malformed)?;
        let found = search_log(self.hub.store(), looking, move |position, record| {
            event_of(position, record, &subcloud, kind)
        });
        let found = found.await;
        let LogPage { entries, next } =
            found.map_err(|error| broken("cannot read the event log", &error))?;
        Ok(Response::new(wire::ListFleetEventsResponse {
            events: entries.iter().map(event_to_wire).collect(),
            next_page_token: next,
        }))
    }
}

impl Subclouds {
    /// The group that a list is narrowed to; an empty reference is all of them.
    fn narrowed_to(&self, group: &str) -> Result<Option<SharedGroup>, Status> {
        let named = (!group.is_empty()).then(|| self.hub.group(group));
        named.transpose().map_err(refused)
    }

    async fn add(
        self,
        actor: Actor,
        request: wire::AddSubcloudRequest,
    ) -> Result<wire::AddSubcloudResponse, Status> {
        let wire::AddSubcloudRequest {
            name,
            bootstrap_values,
            token_ttl_seconds,
            validate_only,
            request_id: _,
            description,
            location,
            group,
        } = request;
        let edit = said_of_new(description, location, group);
        let declared = declared(&name, &bootstrap_values);
        let declared = declared.map_err(unheard(validate_only))?.map(Box::new);
        let drawn = self.tokens.draw(token_ttl_seconds);
        let (text, token) = drawn.map_err(unheard(validate_only))?;
        let id = SubcloudId(random_uuid());
        let receipt = self.hub.ask::<Receipt>(|request| {
            let call = AddSubcloud {
                request,
                actor,
                id,
                name,
                token,
                declared,
                edit,
                validate_only,
            };
            Input::AddSubcloud(call)
        });
        let receipt = receipt.await.map_err(refused)?;
        Ok(wire::AddSubcloudResponse {
            subcloud: Some(wire::Subcloud {
                // A preview has no id: it is drawn anew by the real call.
                uuid: if validate_only {
                    String::new()
                } else {
                    id.to_string()
                },
                ..receipt_to_wire(&receipt, validate_only)
            }),
            token: if validate_only { String::new() } else { text },
            controller: self.tokens.url(),
            warnings: warnings(&receipt),
        })
    }

    async fn issue_token(
        self,
        actor: Actor,
        request: wire::IssueSubcloudTokenRequest,
    ) -> Result<wire::IssueSubcloudTokenResponse, Status> {
        let wire::IssueSubcloudTokenRequest {
            subcloud,
            token_ttl_seconds,
            validate_only,
            request_id: _,
            reenroll,
        } = request;
        let drawn = self.tokens.draw(token_ttl_seconds);
        let (text, token) = drawn.map_err(unheard(validate_only))?;
        let receipt = self.hub.ask::<Receipt>(|request| {
            Input::IssueToken(IssueToken {
                request,
                actor,
                subcloud,
                token,
                reenroll,
                validate_only,
            })
        });
        let receipt = receipt.await.map_err(refused)?;
        Ok(wire::IssueSubcloudTokenResponse {
            subcloud: Some(receipt_to_wire(&receipt, validate_only)),
            token: if validate_only { String::new() } else { text },
            controller: self.tokens.url(),
        })
    }

    /// Asks for a change of a subcloud; the record as the answer shows it.
    async fn operate<R: Mutation>(
        &self,
        actor: Actor,
        method: &'static str,
        request: &R,
        change: FleetChange,
    ) -> Result<Option<wire::Subcloud>, Status> {
        let asked = self
            .hub
            .operate::<R, Receipt>(actor, method, request, change);
        let receipt = asked
            .await
            .map_err(|refusal| api::status::from_rejection_at(&refusal, R::path))?;
        Ok(Some(receipt_to_wire(&receipt, request.validate_only())))
    }
}

/// Whether a list shows a subcloud; what the request leaves out does not narrow it.
fn wanted(
    request: &wire::ListSubcloudsRequest,
    group: Option<&SubcloudGroup>,
    subcloud: &wire::Subcloud,
) -> bool {
    let any_or = |asked: i32, known: i32| asked == 0 || asked == known;
    any_or(request.family, subcloud.primary_family)
        && any_or(request.stack, subcloud.stack)
        && any_or(request.availability, subcloud.availability)
        && any_or(request.management, subcloud.management)
        && any_or(request.sync, subcloud.sync)
        && group.is_none_or(|group| group.name == subcloud.group)
}

pub(super) fn shown_to_wire(shown: &Shown, site: Option<&Site>) -> wire::Subcloud {
    subcloud_to_wire(&shown.subcloud, shown.presence, &shown.group.name, site)
}

impl TokenIssuer {
    /// A fresh token: its text, which is shown once, and what is kept of it.
    fn draw(&self, ttl_seconds: u32) -> Result<(String, NewToken), Status> {
        let (id, links) = (random_uuid(), vec![self.link]);
        let drawn = EnrollmentToken::issue(id, self.authority, links, &SystemRandom::new());
        let token = drawn.map_err(|error| broken("cannot draw a token", &error))?;
        let kept = NewToken {
            id: TokenId(token.id()),
            secret: SecretHash(*token.secret().hash().as_bytes()),
            ttl: token_ttl(ttl_seconds),
        };
        Ok((token.reveal(), kept))
    }

    /// The URL that `subcloud-agent enroll` is given.
    fn url(&self) -> String {
        format!("https://{}", self.link)
    }
}

/// How long a token is to be valid; 0 leaves it to the server, as the contract says.
pub(super) fn token_ttl(seconds: u32) -> Duration {
    let seconds = if seconds == 0 { TOKEN_SECONDS } else { seconds };
    Duration::from_secs(seconds.into())
}

/// What a bootstrap file declares; nothing when there is none.
fn declared(name: &str, file: &[u8]) -> Result<Option<Candidate>, Status> {
    if file.is_empty() {
        return Ok(None);
    }
    let link = bootstrap::parse_link("bootstrap_values", file).map_err(|faults| {
        match faults.rejection() {
            Some(rejection) => api::status::from_rejection_at(&rejection, variable_path),
            None => Status::invalid_argument(faults.to_string()),
        }
    })?;
    Ok(Some(Candidate::of_file(name, &link)))
}

/// The path of a variable of the file; a fault of the file as a whole is one of the field.
fn variable_path(variable: &str) -> String {
    match variable {
        "" => "bootstrap_values".to_owned(),
        _ => format!("bootstrap_values.{variable}"),
    }
}

fn warnings(receipt: &Receipt) -> Vec<wire::Violation> {
    receipt
        .warnings
        .iter()
        .map(|warning| fault_to_wire(&Fault::from(warning)))
        .collect()
}

pub(super) fn actor<T>(request: &Request<T>) -> Actor {
    Actor::Operator(Caller::of(request).to_string())
}

/// The event of a record, when it is of the subcloud (its name or uuid; empty for all) and kind.
fn event_of(
    position: Position,
    record: EventRecord,
    subcloud: &str,
    kind: Option<&str>,
) -> Result<Option<Event>, Failure> {
    let about = subcloud.is_empty() || subcloud == record.name || subcloud == record.subcloud;
    if !about || kind.is_some_and(|kind| kind != record.kind) {
        return Ok(None);
    }
    event_from_record(position, record)
        .map(Some)
        .map_err(|error| Failure::because(Exit::Io, "an event", &error))
}
