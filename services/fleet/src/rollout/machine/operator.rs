//! What operators ask of rollouts.

use site::Timestamp;

use super::super::{MemberState, Rollout, RolloutId, RolloutState};
use super::{
    Batch, Control, CreateRollout, MAX_KEPT_ROLLOUTS, MAX_OPEN_ROLLOUTS, RolloutOutput,
    RolloutReceipt, Rollouts, Run, Verb,
};
use crate::{Action, Actor, Audited, Fault, Outcome, Reason, Rejection, RequestId, Violation};

/// The longest id of a request.
const MAX_REQUEST_ID: usize = 128;

impl Rollouts {
    pub(super) fn create(
        &mut self,
        now: Timestamp,
        call: CreateRollout,
        out: &mut Vec<RolloutOutput>,
    ) {
        let request = call.request;
        match self.admit(&call) {
            Ok(Some(known)) => {
                let receipt = RolloutReceipt {
                    rollout: known,
                    replayed: true,
                };
                self.answer(request, Ok(receipt), out);
            }
            Ok(None) => self.begin(now, call, out),
            Err(rejection) => {
                let name = format!("network {}", call.order.network);
                let refused = refused(&rejection);
                out.push(noted(call.actor, Action::CreateRollout, name, refused));
                self.answer(request, Err(rejection), out);
            }
        }
    }

    /// What the same request made before; memory runs ahead of the disk.
    ///
    /// # Errors
    /// When the id was used for another request, or is too long.
    pub fn known(
        &self,
        request_id: &str,
        fingerprint: [u8; 32],
    ) -> Result<Option<&Rollout>, Rejection> {
        if request_id.len() > MAX_REQUEST_ID {
            let message = format!("request_id has {} characters", request_id.len());
            let remedy = format!("use at most {MAX_REQUEST_ID} characters");
            let fault = Violation::new(Reason::InvalidArgument, message, remedy);
            return Err(Rejection::one(fault.at("request_id")));
        }
        let same = |record: &&Rollout| !request_id.is_empty() && record.request_id == request_id;
        let known = self.rollouts.values().map(|run| &run.record).find(same);
        if known.is_none_or(|known| known.fingerprint == fingerprint) {
            return Ok(known);
        }
        let message = format!("request id `{request_id}` was used for another request");
        let remedy = "take a new id for a new request";
        let fault = Violation::new(Reason::InvalidArgument, message, remedy);
        Err(Rejection::one(fault.at("request_id")))
    }

    /// Whether there is room, or what the same request made before.
    fn admit(&self, call: &CreateRollout) -> Result<Option<Rollout>, Rejection> {
        if let Some(known) = self.known(&call.request_id, call.fingerprint)? {
            return Ok(Some(known.clone()));
        }
        let open = self.open();
        if open.len() < MAX_OPEN_ROLLOUTS {
            return Ok(None);
        }
        let numbers: Vec<_> = open.iter().map(ToString::to_string).collect();
        let message = format!("{} rollouts are open: {}", open.len(), numbers.join(", "));
        let remedy = "wait for one of them to finish, or abort it";
        let fault = Violation::new(Reason::TooManyRollouts, message, remedy);
        Err(Rejection::one(fault.fact("limit", MAX_OPEN_ROLLOUTS)))
    }

    fn begin(&mut self, now: Timestamp, call: CreateRollout, out: &mut Vec<RolloutOutput>) {
        let CreateRollout {
            request,
            actor,
            request_id,
            fingerprint,
            order,
            members,
        } = call;
        self.last.0 += 1;
        let id = self.last;
        let name = format!("rollout {id}");
        out.push(noted(
            actor.clone(),
            Action::CreateRollout,
            name,
            Outcome::Done,
        ));
        let record = Rollout {
            id,
            actor,
            request_id,
            fingerprint,
            ..order.would_be(now)
        };
        let batch = Batch {
            members: members.clone(),
            then: Vec::new(),
        };
        let mut run = Run::of(record, members);
        run.tally();
        run.settle();
        self.rollouts.insert(id, run);
        self.commit(now, id, batch, out);
        self.receipt(request, id, out);
        self.forget_closed(id, out);
    }

    pub(super) fn control(&mut self, now: Timestamp, call: Control, out: &mut Vec<RolloutOutput>) {
        let Control {
            request,
            actor,
            rollout,
            verb,
            validate_only,
        } = call;
        let judged = self.judge(rollout, verb);
        if !validate_only {
            let outcome = judged.as_ref().err().map_or(Outcome::Done, refused);
            let name = format!("rollout {rollout}");
            out.push(noted(actor, verb.action(), name, outcome));
        }
        match judged {
            Err(rejection) => self.answer(request, Err(rejection), out),
            Ok(would_be) if validate_only => {
                let receipt = RolloutReceipt {
                    rollout: would_be,
                    replayed: false,
                };
                self.answer(request, Ok(receipt), out);
            }
            Ok(next) => {
                let changes = self.rollouts.get_mut(&rollout).is_some_and(|run| {
                    let changes = run.record != next;
                    run.record = next;
                    changes
                });
                if changes {
                    self.commit(now, rollout, Batch::default(), out);
                    self.end_if_aborted(now, rollout, out);
                }
                self.receipt(request, rollout, out);
            }
        }
    }

    /// The rollout as it would be. To tell it what it does already is no error.
    fn judge(&self, id: RolloutId, verb: Verb) -> Result<Rollout, Rejection> {
        let record = self.rollout(id);
        let record = record.ok_or_else(|| Rejection::one(rollout_not_found(&id.to_string())))?;
        let mut next = record.clone();
        match (record.state, verb) {
            (RolloutState::Running | RolloutState::Paused, Verb::Pause) => {
                next.state = RolloutState::Paused;
            }
            (RolloutState::Paused, Verb::Resume) => {
                next.state = RolloutState::Running;
                next.paused_because = None;
                next.forgiven = next.tally.unsuccessful();
            }
            (RolloutState::Running, Verb::Resume) | (RolloutState::Aborted, Verb::Abort) => {}
            (RolloutState::Running | RolloutState::Paused, Verb::Abort) => {
                next.state = RolloutState::Aborted;
                next.paused_because = None;
            }
            (RolloutState::Finished, _) | (RolloutState::Aborted, Verb::Pause | Verb::Resume) => {
                return Err(Rejection::one(closed(record)));
            }
        }
        Ok(next)
    }

    /// Skips what an aborted rollout has not begun. The abortion itself is durable before, and a
    /// restart comes here again.
    pub(super) fn end_if_aborted(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        out: &mut Vec<RolloutOutput>,
    ) {
        let Some(run) = self.rollouts.get_mut(&id) else {
            return;
        };
        if run.record.state != RolloutState::Aborted {
            return;
        }
        let pending = |member: &&super::Member| member.state == MemberState::Pending;
        let ids: Vec<_> = run
            .members
            .values()
            .filter(pending)
            .map(|m| m.subcloud)
            .collect();
        if ids.is_empty() {
            return;
        }
        let fault = Fault::from(&Violation::new(
            Reason::RolloutClosed,
            format!("rollout {id} was aborted before this subcloud began"),
            "make another rollout for it, if it shall be changed",
        ));
        let mut members = Vec::with_capacity(ids.len());
        for subcloud in ids {
            run.work.remove(&subcloud);
            if let Some(member) = run.set(now, subcloud, MemberState::Skipped) {
                member.faults = vec![fault.clone()];
                members.push(member.clone());
            }
        }
        run.queue.shut();
        let batch = Batch {
            members,
            then: Vec::new(),
        };
        self.commit(now, id, batch, out);
        self.forget_closed(id, out);
    }

    /// Answers with the rollout as it is, once that is durable. Every call gets an answer.
    fn receipt(&mut self, request: RequestId, id: RolloutId, out: &mut Vec<RolloutOutput>) {
        let receipt = |record: &Rollout| RolloutReceipt {
            rollout: record.clone(),
            replayed: false,
        };
        let unknown = || Rejection::one(rollout_not_found(&id.to_string()));
        let outcome = self.rollout(id).map(receipt).ok_or_else(unknown);
        self.answer(request, outcome, out);
    }

    /// When a rollout has closed: lets go of its members, and forgets the rollouts that closed
    /// first, beyond [`MAX_KEPT_ROLLOUTS`]. The last change of a closed rollout is its closing, so
    /// that the revision tells their order, after a restart and with any clock.
    pub(super) fn forget_closed(&mut self, id: RolloutId, out: &mut Vec<RolloutOutput>) {
        let Some(run) = self.rollouts.get_mut(&id).filter(|run| !run.is_open()) else {
            return;
        };
        run.members.clear();
        run.queue.clear();
        let closed = self.rollouts.iter().filter(|(_, run)| !run.is_open());
        let mut closed: Vec<_> = closed.map(|(id, run)| (run.record.revision, *id)).collect();
        closed.sort_unstable();
        let excess = closed.len().saturating_sub(MAX_KEPT_ROLLOUTS);
        for (_, old) in closed.into_iter().take(excess) {
            self.rollouts.remove(&old);
            out.push(RolloutOutput::Forget(old));
        }
    }
}

impl Verb {
    /// What the audit log calls it.
    fn action(self) -> Action {
        match self {
            Self::Pause => Action::PauseRollout,
            Self::Resume => Action::ResumeRollout,
            Self::Abort => Action::AbortRollout,
        }
    }
}

fn noted(actor: String, action: Action, name: String, outcome: Outcome) -> RolloutOutput {
    RolloutOutput::Audit(Audited {
        actor: Actor::Operator(actor),
        action,
        name,
        outcome,
    })
}

fn refused(rejection: &Rejection) -> Outcome {
    Outcome::Refused {
        faults: Fault::all_of(rejection),
        detail: String::new(),
    }
}

fn closed(record: &Rollout) -> Violation {
    let state = match record.state {
        RolloutState::Aborted => "aborted",
        RolloutState::Running | RolloutState::Paused | RolloutState::Finished => "finished",
    };
    Violation::new(
        Reason::RolloutClosed,
        format!("rollout {} is {state}", record.id),
        "make another rollout for the subclouds that shall still be changed",
    )
    .object("rollout", record.id.to_string())
    .fact("state", record.state.name())
}

/// There is no rollout of this number.
pub fn rollout_not_found(reference: &str) -> Violation {
    Violation::new(
        Reason::RolloutNotFound,
        format!("there is no rollout {reference:?}"),
        "`tandem dcmanager network-rollout list` shows the rollouts that are kept",
    )
    .object("rollout", reference)
}
