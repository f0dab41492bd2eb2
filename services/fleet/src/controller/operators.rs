//! Who may operate the controller over TCP, and the audit of what does not pass this machine.

use site::Timestamp;

use crate::{
    Action, Actor, Fault, MAX_OPERATORS, Operator, Outcome, Reason, Rejection, RequestId, Violation,
};

use super::{Answer, Batch, Controller, Deed, Deferred, Output, Write};

/// `operator add`. Its certificate is signed when it is answered.
#[derive(Debug, Clone)]
pub struct AddOperator {
    /// Names the call in the answer.
    pub request: RequestId,
    /// Who asks.
    pub actor: Actor,
    /// The operator as it shall be.
    pub operator: Operator,
    /// Judge only; change nothing.
    pub validate_only: bool,
}

/// `operator revoke`.
#[derive(Debug, Clone)]
pub struct RevokeOperator {
    /// Names the call in the answer.
    pub request: RequestId,
    /// Who asks.
    pub actor: Actor,
    /// Whom.
    pub name: String,
    /// Judge only; change nothing.
    pub validate_only: bool,
}

/// A call that was decided elsewhere, for the audit log.
#[derive(Debug, Clone)]
pub struct NoteDeed {
    /// Answered when the entry is durable.
    pub request: RequestId,
    /// Who asked.
    pub actor: Actor,
    /// For what.
    pub action: Action,
    /// The subcloud whose site it was for, by name or id; `None` for the controller's own.
    pub subcloud: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

impl Controller {
    pub(super) fn add_operator(
        &mut self,
        now: Timestamp,
        call: AddOperator,
        out: &mut Vec<Output>,
    ) {
        let AddOperator {
            request,
            actor,
            operator,
            validate_only,
        } = call;
        let name = operator.name.clone();
        let judged = self.judge_operator(&operator).map(|()| operator);
        let deed = (actor, Action::AddOperator, name.as_str());
        self.conclude_operator(now, request, deed, judged, validate_only, out);
    }

    pub(super) fn revoke_operator(
        &mut self,
        now: Timestamp,
        call: RevokeOperator,
        out: &mut Vec<Output>,
    ) {
        let RevokeOperator {
            request,
            actor,
            name,
            validate_only,
        } = call;
        let unknown = || Rejection::one(operator_not_found(&name));
        let known = self.operators.get(&name).cloned().ok_or_else(unknown);
        // Asking twice is no mistake: it is revoked since the first time.
        let judged = known.map(|known| Operator {
            revoked_at: known.revoked_at.or(Some(now)),
            ..known
        });
        let deed = (actor, Action::RevokeOperator, name.as_str());
        self.conclude_operator(now, request, deed, judged, validate_only, out);
    }

    /// Appends to the audit log what was decided elsewhere.
    pub(super) fn note_deed(&mut self, now: Timestamp, call: NoteDeed, out: &mut Vec<Output>) {
        let NoteDeed {
            request,
            actor,
            action,
            subcloud,
            outcome,
        } = call;
        let mut batch = Batch::default();
        let known = subcloud.as_deref().and_then(|named| self.fleet.find(named));
        let known = known.map(|record| (record.id, record.name.clone()));
        let (id, name) = match (known, subcloud) {
            (Some((id, name)), _) => (Some(id), name),
            (None, Some(named)) => (None, named),
            (None, None) => (None, self.fleet.controller().name.clone()),
        };
        let deed = Deed {
            actor,
            action,
            subcloud: id,
            name: &name,
            outcome,
        };
        self.log_audit(&mut batch, now, deed);
        batch.then.push(Deferred::Output(Output::Answer {
            request,
            outcome: Ok(Answer::Noted),
        }));
        self.commit(batch, out);
    }

    fn judge_operator(&self, operator: &Operator) -> Result<(), Rejection> {
        let mut violations = Vec::new();
        let known = self.operators.get(&operator.name);
        if known.is_some_and(|known| known.revoked_at.is_none()) {
            violations.push(operator_name_taken(&operator.name));
        }
        if known.is_none() && self.operators.len() >= MAX_OPERATORS {
            violations.push(too_many_operators());
        }
        Rejection::check(violations)
    }

    fn conclude_operator(
        &mut self,
        now: Timestamp,
        request: RequestId,
        (actor, action, name): (Actor, Action, &str),
        judged: Result<Operator, Rejection>,
        validate_only: bool,
        out: &mut Vec<Output>,
    ) {
        let answer = |outcome: Result<Operator, Rejection>| {
            let outcome = outcome.map(Answer::Operator);
            Deferred::Output(Output::Answer { request, outcome })
        };
        if let Some(busy) = self.busy() {
            return self.after_all(answer(Err(Rejection::one(busy))), out);
        }
        if validate_only {
            return self.after_all(answer(judged), out);
        }
        let mut batch = Batch::default();
        let outcome = match &judged {
            Ok(operator) => {
                batch.writes.push(Write::Operator(operator.clone()));
                self.operators
                    .insert(operator.name.clone(), operator.clone());
                Outcome::Done
            }
            Err(rejection) => Outcome::Refused {
                faults: Fault::all_of(rejection),
                detail: String::new(),
            },
        };
        let deed = Deed {
            actor,
            action,
            subcloud: None,
            name,
            outcome,
        };
        self.log_audit(&mut batch, now, deed);
        batch.then.push(answer(judged));
        self.commit(batch, out);
    }
}

fn operator_not_found(name: &str) -> Violation {
    Violation::new(
        Reason::OperatorNotFound,
        format!("there is no operator {name:?}"),
        "`tandem dcmanager operator list` shows the operators",
    )
    .at("name")
    .object("operator", name)
}

fn operator_name_taken(name: &str) -> Violation {
    Violation::new(
        Reason::OperatorNameTaken,
        format!("there is an operator {name} already"),
        format!(
            "choose another name, or revoke that one first: `tandem dcmanager operator revoke \
             {name}`"
        ),
    )
    .at("name")
    .object("operator", name)
}

fn too_many_operators() -> Violation {
    Violation::new(
        Reason::TooManyOperators,
        format!("there are {MAX_OPERATORS} operators, which is the most"),
        "give a revoked operator's name anew, or let several people share a role's certificate",
    )
    .fact("limit", MAX_OPERATORS)
}
