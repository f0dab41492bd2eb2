//! `tandem.fleet.v1.RolloutService`.

use std::pin::Pin;
use std::sync::Arc;

use api::access::AccessReason;
use api::convert::{
    foreseen_to_wire, group_bound_to_wire, member_to_wire, members_wanted, rollout_request,
    rollout_to_wire,
};
use api::fleet_v1 as wire;
use api::fleet_v1::rollout_service_server::RolloutService;
use api::page::page;
use daemon::{Caller, Life, SecretAnswers, now};
use fleet::{
    Control, CreateRollout, Foreseen, Member, Order, Reason, Rejection, Rollout, RolloutId,
    RolloutInput, Verb, rollout_not_found,
};
use prost::Message as _;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use wire::watch_rollout_response::Event;

use super::{broken, malformed, refused, unheard};
use crate::records::read_subcloud_site;
use crate::rollouts::{Changed, Runner, read_members, read_rollout, read_rollouts};

/// Rollouts, for operators.
#[derive(Debug, Clone)]
pub(crate) struct RolloutCalls {
    pub(crate) runner: Arc<Runner>,
    pub(crate) life: Life,
    pub(crate) answers: Arc<SecretAnswers>,
}

#[tonic::async_trait]
impl RolloutService for RolloutCalls {
    type WatchRolloutStream =
        Pin<Box<dyn Stream<Item = Result<wire::WatchRolloutResponse, Status>> + Send>>;

    async fn create_rollout(
        &self,
        request: Request<wire::CreateRolloutRequest>,
    ) -> Result<Response<wire::CreateRolloutResponse>, Status> {
        let actor = Caller::of(&request).to_string();
        let request = request.into_inner();
        let answer = if request.validate_only {
            self.preview(request).await.map_err(unheard(true))
        } else {
            self.create(actor, request).await
        };
        answer.map(Response::new)
    }

    async fn list_rollouts(
        &self,
        request: Request<wire::ListRolloutsRequest>,
    ) -> Result<Response<wire::ListRolloutsResponse>, Status> {
        let wire::ListRolloutsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let all = read_rollouts(self.runner.store())
            .map_err(|error| broken("cannot read the rollouts", &error))?;
        let keyed = all
            .iter()
            .map(|rollout| (format!("{:020}", rollout.id.0), rollout_to_wire(rollout)));
        let (rollouts, next_page_token) = page(keyed, page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListRolloutsResponse {
            rollouts,
            next_page_token,
        }))
    }

    async fn get_rollout(
        &self,
        request: Request<wire::GetRolloutRequest>,
    ) -> Result<Response<wire::GetRolloutResponse>, Status> {
        let rollout = self.durable(request.get_ref().number)?;
        let rollout = Some(rollout_to_wire(&rollout));
        Ok(Response::new(wire::GetRolloutResponse { rollout }))
    }

    async fn list_rollout_members(
        &self,
        request: Request<wire::ListRolloutMembersRequest>,
    ) -> Result<Response<wire::ListRolloutMembersResponse>, Status> {
        let request = request.into_inner();
        let state = members_wanted(&request).map_err(malformed)?;
        let wire::ListRolloutMembersRequest {
            number,
            page_size,
            page_token,
            ..
        } = request;
        let id = self.durable(number)?.id;
        let members = read_members(self.runner.store(), id)
            .map_err(|error| broken("cannot read the members of a rollout", &error))?;
        let shown = members.iter().map(|member| {
            let standing = Some(self.runner.standing(member.subcloud));
            let shown = member_to_wire(member, standing);
            (shown.uuid.clone(), shown)
        });
        let wanted = shown.filter(|(_, member)| state == 0 || member.state == state);
        let (members, next_page_token) = page(wanted, page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListRolloutMembersResponse {
            members,
            next_page_token,
        }))
    }

    async fn pause_rollout(
        &self,
        request: Request<wire::PauseRolloutRequest>,
    ) -> Result<Response<wire::PauseRolloutResponse>, Status> {
        let actor = Caller::of(&request).to_string();
        let request = request.into_inner();
        let (number, validate) = (request.number, request.validate_only);
        let calls = self.clone();
        let work = async move {
            let rollout = calls.control(actor, number, Verb::Pause, validate).await?;
            Ok(wire::PauseRolloutResponse { rollout })
        };
        let answer = self.answers.once("PauseRollout", request, work).await;
        answer.map(Response::new)
    }

    async fn resume_rollout(
        &self,
        request: Request<wire::ResumeRolloutRequest>,
    ) -> Result<Response<wire::ResumeRolloutResponse>, Status> {
        let actor = Caller::of(&request).to_string();
        let request = request.into_inner();
        let (number, validate) = (request.number, request.validate_only);
        let calls = self.clone();
        let work = async move {
            let rollout = calls.control(actor, number, Verb::Resume, validate).await?;
            Ok(wire::ResumeRolloutResponse { rollout })
        };
        let answer = self.answers.once("ResumeRollout", request, work).await;
        answer.map(Response::new)
    }

    async fn abort_rollout(
        &self,
        request: Request<wire::AbortRolloutRequest>,
    ) -> Result<Response<wire::AbortRolloutResponse>, Status> {
        let actor = Caller::of(&request).to_string();
        let request = request.into_inner();
        let (number, validate) = (request.number, request.validate_only);
        let calls = self.clone();
        let work = async move {
            let rollout = calls.control(actor, number, Verb::Abort, validate).await?;
            Ok(wire::AbortRolloutResponse { rollout })
        };
        let answer = self.answers.once("AbortRollout", request, work).await;
        answer.map(Response::new)
    }

    async fn watch_rollout(
        &self,
        request: Request<wire::WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        // Listened to first, so that nothing falls between what is read and what comes.
        let next = self.runner.watch();
        let rollout = self.durable(request.get_ref().number)?;
        let watching = Watching {
            next,
            stop: self.life.stopping(),
            id: rollout.id,
            seen: rollout.revision,
            ended: !rollout.is_open(),
        };
        let resync = wire::WatchRolloutResponse {
            revision: rollout.revision,
            event: Some(Event::Resync(rollout_to_wire(&rollout))),
        };
        let first = futures_util::stream::iter([Ok(resync)]);
        let rest = futures_util::stream::unfold(watching, Watching::next);
        let events = futures_util::StreamExt::chain(first, rest);
        Ok(Response::new(Box::pin(events)))
    }
}

impl RolloutCalls {
    async fn create(
        &self,
        actor: String,
        request: wire::CreateRolloutRequest,
    ) -> Result<wire::CreateRolloutResponse, Status> {
        let (request_id, fingerprint) = (request.request_id.clone(), fingerprint(&request));
        let judged = self.judge(request, fingerprint).await;
        let (order, members) = judged.map_err(unheard(false))?;
        let group_bounds = self.group_bounds(order.max_parallel, &members);
        let asked = self.runner.ask(|request| {
            RolloutInput::Create(Box::new(CreateRollout {
                request,
                actor,
                request_id,
                fingerprint,
                order,
                members,
            }))
        });
        let receipt = asked.await.map_err(refused_here)?;
        Ok(wire::CreateRolloutResponse {
            rollout: Some(rollout_to_wire(&receipt.rollout)),
            members: Vec::new(),
            next_page_token: String::new(),
            group_bounds,
        })
    }

    /// What is asked for, and its members as they would be.
    async fn judge(
        &self,
        request: wire::CreateRolloutRequest,
        fingerprint: [u8; 32],
    ) -> Result<(Order, Vec<Member>), Status> {
        let known = self.runner.known(&request.request_id, fingerprint);
        let order = read(request)?;
        // What was made before is not judged again: the fleet may be another by now.
        if known.map_err(refused_here)? {
            return Ok((order, Vec::new()));
        }
        let foreseen = self.foresee(order.clone()).await?;
        let members = foreseen.into_iter().map(|foreseen| foreseen.member);
        Ok((order, members.collect()))
    }

    async fn preview(
        &self,
        request: wire::CreateRolloutRequest,
    ) -> Result<wire::CreateRolloutResponse, Status> {
        let (page_size, page_token) = (request.page_size, request.page_token.clone());
        let order = read(request)?;
        let rollout = order.would_be(now());
        let foreseen = self.foresee(order).await?;
        let members = || foreseen.iter().map(|foreseen| &foreseen.member);
        let group_bounds = self.group_bounds(rollout.max_parallel, members());
        let rollout = rollout.with_members(members());
        let shown = foreseen.iter().map(|foreseen| {
            let standing = Some(self.runner.standing(foreseen.member.subcloud));
            let place = format!("{:020}", foreseen.member.index);
            (place, foreseen_to_wire(foreseen, standing))
        });
        let (members, next_page_token) = page(shown, page_size, &page_token).map_err(malformed)?;
        Ok(wire::CreateRolloutResponse {
            rollout: Some(rollout_to_wire(&rollout)),
            members,
            next_page_token,
            group_bounds,
        })
    }

    fn group_bounds<'a>(
        &self,
        max_parallel: u32,
        members: impl IntoIterator<Item = &'a Member>,
    ) -> Vec<wire::RolloutGroupBound> {
        let members = members.into_iter();
        let look = |machine: &fleet::Controller| {
            fleet::group_bounds(machine.fleet(), max_parallel, members)
        };
        let bounds = self.runner.hub().look(look);
        bounds.iter().map(group_bound_to_wire).collect()
    }

    /// Plans every member, away from the threads that serve others.
    async fn foresee(&self, order: Order) -> Result<Vec<Foreseen>, Status> {
        let hub = Arc::clone(self.runner.hub());
        let planned = tokio::task::spawn_blocking(move || {
            let fleet = hub.look(|machine| machine.fleet().clone());
            let mut unreadable = None;
            let foreseen = fleet::preview(&fleet, &order, now(), |subcloud| {
                let site = read_subcloud_site(hub.store(), subcloud);
                site.unwrap_or_else(|error| {
                    unreadable.get_or_insert(error);
                    None
                })
            });
            (foreseen, unreadable)
        });
        match planned.await {
            Ok((_, Some(error))) => Err(broken("cannot read a subcloud's site", &error)),
            Ok((foreseen, None)) => foreseen.map_err(refused_here),
            Err(error) => Err(broken("the preview ended", &error)),
        }
    }

    async fn control(
        self,
        actor: String,
        number: u64,
        verb: Verb,
        validate_only: bool,
    ) -> Result<Option<wire::Rollout>, Status> {
        let asked = self.runner.ask(|request| {
            RolloutInput::Control(Control {
                request,
                actor,
                rollout: RolloutId(number),
                verb,
                validate_only,
            })
        });
        let receipt = asked.await.map_err(refused)?;
        Ok(Some(rollout_to_wire(&receipt.rollout)))
    }

    fn durable(&self, number: u64) -> Result<Rollout, Status> {
        let found = read_rollout(self.runner.store(), RolloutId(number))
            .map_err(|error| broken("cannot read the rollout", &error))?;
        let unknown = || refused(Rejection::one(rollout_not_found(&number.to_string())));
        found.ok_or_else(unknown)
    }
}

/// What a watcher waits for.
struct Watching {
    next: Receiver<Arc<Changed>>,
    stop: CancellationToken,
    id: RolloutId,
    seen: u64,
    ended: bool,
}

impl Watching {
    /// The next event; none when the rollout is closed or the process stops.
    async fn next(mut self) -> Option<(Result<wire::WatchRolloutResponse, Status>, Self)> {
        while !self.ended {
            let changed = tokio::select! {
                () = self.stop.cancelled() => return None,
                changed = self.next.recv() => changed,
            };
            let changed = match changed {
                Ok(changed) => changed,
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(changes)) => {
                    self.ended = true;
                    return Some((Err(too_slow(changes)), self));
                }
            };
            if changed.rollout.id != self.id || changed.rollout.revision <= self.seen {
                continue;
            }
            self.ended = !changed.rollout.is_open();
            return Some((Ok(change_event(&changed)), self));
        }
        None
    }
}

fn change_event(changed: &Changed) -> wire::WatchRolloutResponse {
    let Changed { rollout, member } = changed;
    let change = wire::RolloutChange {
        rollout: Some(rollout_to_wire(rollout)),
        member: member.as_ref().map(|member| member_to_wire(member, None)),
    };
    wire::WatchRolloutResponse {
        revision: rollout.revision,
        event: Some(Event::Change(change)),
    }
}

fn too_slow(changes: u64) -> Status {
    api::status::from_rejection(&site::Rejection::one(site::Violation::new(
        AccessReason::WatcherTooSlow,
        format!("the watcher did not take its events; {changes} changes are not delivered"),
        "watch again: a resync comes first",
    )))
}

fn read(request: wire::CreateRolloutRequest) -> Result<Order, Status> {
    let request = rollout_request(request).map_err(malformed)?;
    Order::read(request).map_err(refused_here)
}

/// A refusal of a request that makes a rollout, with the paths of its fields.
fn refused_here(rejection: site::Rejection<Reason>) -> Status {
    api::status::from_rejection_at(&rejection, |field| {
        field.replacen("selector.names", "selector.subclouds", 1)
    })
}

/// Tells requests apart.
fn fingerprint(request: &wire::CreateRolloutRequest) -> [u8; 32] {
    let hash = ring::digest::digest(&ring::digest::SHA256, &request.encode_to_vec());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.as_ref());
    bytes
}
