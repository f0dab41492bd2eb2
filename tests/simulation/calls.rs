//! Calls to the controller, which may be lost, doubled, or answered to nobody.

use fleet::{
    Actor, AddSubcloud, AgentRecord, Candidate, Enroll, EnrollerInput, Fault, Fingerprint,
    Footprint, Input, IssueToken, NewToken, Refusal, Rejection, Report, RequestId, SecretHash,
    SubcloudEdit, SubcloudId, TokenId,
};
use rand::Rng;
use std::time::Duration;
use uuid::Uuid;

use crate::agents::Process;
use crate::world::{Happening, Millis, OperatorStep, World};

/// How long an operator waits before trying again.
const OPERATOR_PATIENCE: Millis = 8_000;

/// A token in an operator's hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenToken {
    pub(crate) id: TokenId,
    pub(crate) secret: SecretHash,
}

/// A call on its way.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) agent: usize,
    pub(crate) kind: CallKind,
    answered: bool,
    /// Nobody waits for the answer any more: the caller has asked again.
    given_up: bool,
}

/// Which call.
#[derive(Debug, Clone)]
pub(crate) enum CallKind {
    Add {
        id: SubcloudId,
        token: GivenToken,
        ttl: Duration,
    },
    IssueToken {
        token: GivenToken,
        reenroll: bool,
    },
    Enroll {
        life: u64,
        attempt: u64,
        token: GivenToken,
        key: Fingerprint,
        report: Report,
    },
}

/// An answer on its way back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    outcome: Result<SubcloudId, Refusal>,
}

impl Answer {
    pub(crate) fn of(outcome: Result<fleet::Answer, Rejection>) -> Self {
        Self {
            outcome: match outcome {
                Ok(fleet::Answer::Subcloud(receipt)) => Ok(receipt.subcloud.id),
                Ok(fleet::Answer::Peer(_)) => unreachable!("nobody asks about peers here"),
                Ok(fleet::Answer::Operator(_) | fleet::Answer::Noted) => {
                    unreachable!("nobody asks about operators here")
                }
                Ok(fleet::Answer::Group(group)) => Ok(SubcloudId(group.id.0)),
                Err(rejection) => Err(Refusal {
                    code: fleet::ReasonSet::code(rejection.first().reason),
                    faults: Fault::all_of(&rejection),
                }),
            },
        }
    }
}

impl World {
    /// An operator does something for a subcloud, and does it again until it is answered.
    pub(crate) fn operator(&mut self, agent: usize, step: OperatorStep) {
        let token = GivenToken {
            id: TokenId(Uuid::from_u128(self.rng.random())),
            secret: SecretHash(self.rng.random()),
        };
        let kind = match step {
            OperatorStep::Add => CallKind::Add {
                id: SubcloudId(Uuid::from_u128(self.rng.random())),
                token,
                ttl: Duration::from_secs(self.rng.random_range(60..3600)),
            },
            OperatorStep::IssueToken => CallKind::IssueToken {
                token,
                reenroll: false,
            },
            OperatorStep::LetReenroll => CallKind::IssueToken {
                token,
                reenroll: true,
            },
        };
        let request = self.call(agent, kind, false);
        self.after(
            OPERATOR_PATIENCE,
            Happening::OperatorTimeout { agent, request },
        );
    }

    pub(crate) fn operator_timeout(&mut self, agent: usize, request: RequestId) {
        let Some(call) = self.calls.get_mut(&request) else {
            return;
        };
        call.given_up = !call.answered;
        let step = match call.kind {
            _ if call.answered => return,
            CallKind::Add { .. } => OperatorStep::Add,
            CallKind::IssueToken {
                reenroll: false, ..
            } => OperatorStep::IssueToken,
            CallKind::IssueToken { reenroll: true, .. } => OperatorStep::LetReenroll,
            CallKind::Enroll { .. } => return,
        };
        self.operator(agent, step);
    }

    /// An agent asks for an identity.
    pub(crate) fn request_enrollment(&mut self, agent: usize, key: Fingerprint) {
        let node = &self.agents[agent];
        let Some(token) = node.token else {
            return;
        };
        let kind = CallKind::Enroll {
            life: node.life,
            attempt: node.attempt,
            token,
            key,
            report: Report::of(&node.site),
        };
        self.call(agent, kind, true);
    }

    fn call(&mut self, agent: usize, kind: CallKind, over_network: bool) -> RequestId {
        let lost = over_network && {
            let loss = self.rates.loss;
            self.faulty(loss) || self.agents[agent].partitioned(self.now)
        };
        let duplicate = self.rates.duplicate;
        let copies = if lost {
            0
        } else {
            1 + u64::from(over_network && self.faulty(duplicate))
        };
        let mut request = RequestId(self.last_request + 1);
        for copy in 0..copies.max(1) {
            self.last_request += 1;
            request = RequestId(self.last_request);
            let call = Call {
                agent,
                kind: kind.clone(),
                answered: false,
                given_up: false,
            };
            self.calls.insert(request, call);
            if copy < copies {
                let latency = self.latency();
                self.after(latency, Happening::CallArrives { request });
            }
        }
        request
    }

    pub(crate) fn call_arrives(&mut self, request: RequestId) {
        let Some(Call { agent, kind, .. }) = self.calls.get(&request).cloned() else {
            return;
        };
        let node = &self.agents[agent];
        let actor = Actor::Operator("uid=0".to_owned());
        let new = |token: GivenToken, ttl| NewToken {
            id: token.id,
            secret: token.secret,
            ttl,
        };
        let input = match kind {
            CallKind::Add { id, token, ttl } => Input::AddSubcloud(AddSubcloud {
                request,
                actor,
                id,
                name: node.name().to_owned(),
                token: new(token, ttl),
                declared: node.declares.then(|| {
                    let footprint = Footprint::of(&node.original.to_parts());
                    Box::new(Candidate::declared(footprint))
                }),
                edit: SubcloudEdit::default(),
                validate_only: false,
            }),
            CallKind::IssueToken { token, reenroll } => {
                if reenroll {
                    self.oracle.may_change_hands(token.id);
                }
                Input::IssueToken(IssueToken {
                    request,
                    actor,
                    subcloud: node.name().to_owned(),
                    token: new(token, Duration::from_secs(3600)),
                    reenroll,
                    validate_only: false,
                })
            }
            CallKind::Enroll {
                token, key, report, ..
            } => Input::Enroll(Enroll {
                request,
                token: token.id,
                secret: token.secret,
                key,
                report,
                source: node
                    .original
                    .link_address()
                    .expect("a site has a link address"),
                validate_only: false,
            }),
        };
        self.note(30, || {
            format!("call of or for agent {agent}: {}", kind_of(&input))
        });
        if matches!(input, Input::Enroll(_)) && self.controller.machine.is_some() {
            self.oracle.asks(agent, request);
        }
        self.tell_controller(input);
    }

    pub(crate) fn answer_arrives(&mut self, request: RequestId, answer: Answer) {
        let Some(call) = self.calls.get_mut(&request) else {
            return;
        };
        call.answered = true;
        if call.given_up && answer.outcome.is_err() {
            return;
        }
        let (agent, kind) = (call.agent, call.kind.clone());
        match kind {
            CallKind::Add { token, .. } => self.operator_answered(agent, token, false, answer),
            CallKind::IssueToken { token, reenroll } => {
                self.operator_answered(agent, token, reenroll, answer);
            }
            CallKind::Enroll { life, attempt, .. } => {
                let loss = self.rates.loss;
                if !self.faulty(loss) && !self.agents[agent].partitioned(self.now) {
                    self.enroll_answered(agent, life, attempt, answer);
                }
            }
        }
    }

    fn operator_answered(
        &mut self,
        agent: usize,
        token: GivenToken,
        reenroll: bool,
        answer: Answer,
    ) {
        let reasons: Vec<String> = match answer.outcome {
            Ok(_) => {
                let node = &mut self.agents[agent];
                node.token = Some(token);
                if node.anew {
                    node.refused = None;
                }
                if reenroll && node.record.is_none() && matches!(node.process, Process::Idle) {
                    // The key that is known is not taken again.
                    node.key = None;
                }
                let wait = self.rng.random_range(0..5000);
                self.after(wait, Happening::Enroll { agent });
                return;
            }
            Err(refusal) => refusal
                .faults
                .into_iter()
                .map(|fault| fault.reason)
                .collect(),
        };
        self.note(31, || {
            format!("operator for agent {agent} is told {}", reasons.join(" "))
        });
        let has = |reason: &str| reasons.iter().any(|known| known == reason);
        if has("SUBCLOUD_NAME_TAKEN") {
            // The first call had succeeded and its answer was lost.
            if self.agents[agent].token.is_none() {
                self.operator(agent, OperatorStep::IssueToken);
            }
        } else if has("SUBCLOUD_ALREADY_ENROLLED") {
            let node = &self.agents[agent];
            if node.record.is_none() && matches!(node.process, Process::Idle) {
                // Its token is spent, but by a key that it no longer has.
                self.operator(agent, OperatorStep::LetReenroll);
            }
        } else if has("SUBCLOUD_NOT_ENROLLED") {
            self.operator(agent, OperatorStep::IssueToken);
        } else if has("SUBCLOUD_NOT_FOUND") {
            // It was deleted; whoever did that adds it again.
        } else {
            self.agents[agent].refused = Some(reasons);
            if self.agents[agent].anew {
                // What was in its way may be gone by then.
                let step = OperatorStep::Add;
                self.after(30_000, Happening::Operator { agent, step });
            }
        }
    }

    fn enroll_answered(&mut self, agent: usize, life: u64, attempt: u64, answer: Answer) {
        let node = &mut self.agents[agent];
        if (node.life, node.attempt) != (life, attempt) {
            return;
        }
        node.attempt += 1;
        let input = match answer.outcome {
            Ok(subcloud) => EnrollerInput::Accepted(AgentRecord {
                subcloud,
                owner: self.controller.id(),
                epoch: fleet::Epoch(1),
                controllers: vec![self.controller.endpoint()],
                authority: None,
                alternates: Default::default(),
                networks: None,
            }),
            Err(refusal) => EnrollerInput::Refused(refusal),
        };
        self.tell_enroller(agent, input);
    }
}

fn kind_of(input: &Input) -> &'static str {
    match input {
        Input::AddSubcloud(_) => "subcloud add",
        Input::IssueToken(_) => "subcloud token",
        Input::Enroll(_) => "enroll",
        _ => "other",
    }
}
