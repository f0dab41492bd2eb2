//! Rollouts: the number of one says how it ended.

use std::pin::Pin;

use api::fleet_v1::rollout_service_server::RolloutService;
use api::fleet_v1::watch_rollout_response::Event;
use api::fleet_v1::*;
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status, async_trait};

use super::answers::NEW_YEAR;
use super::{Asked, ok};

/// The rollouts of a controller.
pub(super) struct Rollouts(pub(super) Asked);

type Answer<Message> = Result<Response<Message>, Status>;

/// Of two subclouds: all is well with 1, both are refused in 2, one fails in 3; 4 is paused and 5
/// aborted when one is done.
fn rollout(number: u64) -> Rollout {
    let (state, [pending, done, refused, failed, skipped]) = match number {
        1 => (RolloutState::Finished, [0, 2, 0, 0, 0]),
        2 => (RolloutState::Finished, [0, 0, 2, 0, 0]),
        3 => (RolloutState::Finished, [0, 1, 0, 1, 0]),
        4 => (RolloutState::Paused, [1, 1, 0, 0, 0]),
        _ => (RolloutState::Aborted, [0, 1, 0, 0, 1]),
    };
    Rollout {
        number,
        network: "oam".to_owned(),
        action: RolloutAction::Add.into(),
        selection: "all".to_owned(),
        max_parallel: 10,
        state: state.into(),
        tally: Some(RolloutTally {
            pending,
            in_flight: 0,
            done,
            refused,
            failed,
            skipped,
        }),
        actor: "uid:0".to_owned(),
        created_at_milliseconds: NEW_YEAR,
        updated_at_milliseconds: NEW_YEAR,
        ..Rollout::default()
    }
}

/// One that its site refuses.
fn member() -> RolloutMember {
    RolloutMember {
        subcloud: "subcloud-1".to_owned(),
        index: 1,
        state: RolloutMemberState::Refused.into(),
        violations: vec![Violation {
            reason: "NETWORK_HAS_TWO_POOLS".to_owned(),
            message: "network oam has oam-ipv6 and oam-ipv4".to_owned(),
            remedy: "`system network-addrpool-remove oam oam-ipv4` first".to_owned(),
            ..Violation::default()
        }],
        ..RolloutMember::default()
    }
}

#[async_trait]
impl RolloutService for Rollouts {
    type WatchRolloutStream =
        Pin<Box<dyn Stream<Item = Result<WatchRolloutResponse, Status>> + Send>>;

    async fn create_rollout(
        &self,
        request: Request<CreateRolloutRequest>,
    ) -> Answer<CreateRolloutResponse> {
        self.0.note(request);
        ok(CreateRolloutResponse {
            rollout: Some(rollout(2)),
            members: vec![member()],
            ..CreateRolloutResponse::default()
        })
    }

    async fn list_rollouts(
        &self,
        request: Request<ListRolloutsRequest>,
    ) -> Answer<ListRolloutsResponse> {
        self.0.note(request);
        ok(ListRolloutsResponse {
            rollouts: (1..=5).map(rollout).collect(),
            next_page_token: String::new(),
        })
    }

    async fn get_rollout(&self, request: Request<GetRolloutRequest>) -> Answer<GetRolloutResponse> {
        let rollout = Some(rollout(self.0.note(request).number));
        ok(GetRolloutResponse { rollout })
    }

    async fn list_rollout_members(
        &self,
        request: Request<ListRolloutMembersRequest>,
    ) -> Answer<ListRolloutMembersResponse> {
        self.0.note(request);
        ok(ListRolloutMembersResponse {
            members: vec![member()],
            next_page_token: String::new(),
        })
    }

    async fn pause_rollout(
        &self,
        request: Request<PauseRolloutRequest>,
    ) -> Answer<PauseRolloutResponse> {
        let rollout = Some(rollout(self.0.note(request).number));
        ok(PauseRolloutResponse { rollout })
    }

    async fn resume_rollout(
        &self,
        request: Request<ResumeRolloutRequest>,
    ) -> Answer<ResumeRolloutResponse> {
        let rollout = Some(rollout(self.0.note(request).number));
        ok(ResumeRolloutResponse { rollout })
    }

    async fn abort_rollout(
        &self,
        request: Request<AbortRolloutRequest>,
    ) -> Answer<AbortRolloutResponse> {
        let rollout = Some(rollout(self.0.note(request).number));
        ok(AbortRolloutResponse { rollout })
    }

    async fn watch_rollout(
        &self,
        request: Request<WatchRolloutRequest>,
    ) -> Answer<Self::WatchRolloutStream> {
        let rollout = rollout(self.0.note_endless(request).number);
        let event = WatchRolloutResponse {
            revision: 7,
            event: Some(Event::Resync(rollout)),
        };
        ok(Box::pin(stream::iter([Ok(event)])))
    }
}
