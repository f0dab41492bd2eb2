//! Operators' calls.

use std::sync::Arc;
use std::time::Duration;

use site::Timestamp;

use crate::admission::{Occasion, admit, name_free, room};
use crate::entropy::after;
use crate::{
    Action, Actor, Enrolled, Enrollment, EventKind, Fault, GroupId, Management, Outcome, Pending,
    Reason, Rejection, RequestId, SharedGroup, SharedSubcloud, Subcloud, SubcloudId, Token,
    Violation,
};

use super::{
    AddSubcloud, Answer, AnsweredCall, Batch, Controller, Deed, Deferred, IssueToken, NewToken,
    Output, RequestKey, SubcloudEdit, Write,
};

/// The shortest life of a token: a script that adds and enrolls in one go needs no more.
pub const TOKEN_TTL_MIN: Duration = Duration::from_secs(1);

/// The longest life of a token: a secret that lies around for longer than a week is forgotten.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A call that was accepted.
pub(super) struct Accepted {
    pub(super) carry: Carry,
    pub(super) answer: Answer,
    pub(super) event: EventKind,
    /// The subcloud that it is about, when it is about one.
    pub(super) subcloud: Option<SubcloudId>,
    /// The name of what it is about.
    pub(super) name: String,
}

/// What an accepted call changes.
pub(super) enum Carry {
    Put(SharedSubcloud),
    Delete(SharedSubcloud),
    PutGroup(SharedGroup),
    ForgetGroup(GroupId),
}

/// What every operator's call has.
pub(super) struct Call<'a> {
    pub(super) request: RequestId,
    pub(super) actor: Actor,
    pub(super) action: Action,
    /// What the caller calls the object.
    pub(super) name: &'a str,
    pub(super) key: Option<RequestKey>,
    pub(super) validate_only: bool,
}

impl Controller {
    pub(super) fn add_subcloud(
        &mut self,
        now: Timestamp,
        call: AddSubcloud,
        out: &mut Vec<Output>,
    ) {
        let judged = self.judge_add(now, &call);
        let call = Call {
            request: call.request,
            actor: call.actor,
            action: Action::AddSubcloud,
            name: &call.name,
            key: None,
            validate_only: call.validate_only,
        };
        self.conclude(now, call, judged, out);
    }

    pub(super) fn issue_token(&mut self, now: Timestamp, call: IssueToken, out: &mut Vec<Output>) {
        let judged = self.judge_token(now, &call);
        let call = Call {
            request: call.request,
            actor: call.actor,
            action: Action::IssueToken,
            name: &call.subcloud,
            key: None,
            validate_only: call.validate_only,
        };
        self.conclude(now, call, judged, out);
    }

    fn judge_add(&self, now: Timestamp, call: &AddSubcloud) -> Result<Accepted, Rejection> {
        let mut violations: Vec<Violation> = Vec::new();
        violations.extend(invalid_name(&call.name));
        violations.extend(self.invalid_token(&call.token));
        if self.fleet.subcloud(call.id).is_some() {
            violations.push(id_taken("id", call.id));
        }
        let mut warnings = Vec::new();
        match &call.declared {
            Some(candidate) => {
                let occasion = Occasion::Declaration { name: &call.name };
                match admit(&self.fleet, candidate, occasion) {
                    Ok(admission) => warnings = admission.warnings,
                    Err(rejection) => violations.extend(rejection.violations().iter().cloned()),
                }
            }
            None => {
                violations.extend(name_free(&self.fleet, &call.name, None));
                violations.extend(room(&self.fleet, None));
            }
        }
        violations.extend(call.edit.invalid_texts());
        let group = self.group_of_edit(&call.edit, &mut violations);
        Rejection::check(violations)?;
        let SubcloudEdit {
            description,
            location,
            group: _,
        } = call.edit.clone();
        let subcloud = Subcloud {
            id: call.id,
            name: call.name.clone(),
            description: description.unwrap_or_default(),
            location: location.unwrap_or_default(),
            group: group.unwrap_or(GroupId::DEFAULT),
            management: Management::Unmanaged,
            enrollment: Enrollment::Pending(Pending {
                token: issued(now, &call.token),
                declared: call
                    .declared
                    .as_ref()
                    .map(|declared| Box::new(declared.footprint.clone())),
            }),
            observed: None,
            refused: None,
            geo: crate::Geo::default(),
            created_at: now,
            updated_at: now,
        };
        Ok(self.accepted(subcloud, warnings, EventKind::Added))
    }

    /// A new token: for the first site that comes or, when the operator says so, for another key
    /// to take the place of the one that has enrolled.
    fn judge_token(&self, now: Timestamp, call: &IssueToken) -> Result<Accepted, Rejection> {
        let record = self.found(&call.subcloud)?;
        self.check_owned(record)?;
        Rejection::check(self.invalid_token(&call.token).into_iter().collect())?;
        let token = issued(now, &call.token);
        let enrollment = match (&record.enrollment, call.reenroll) {
            (Enrollment::Pending(pending), false) => Enrollment::Pending(Pending {
                token,
                declared: pending.declared.clone(),
            }),
            (Enrollment::Enrolled(enrolled), true) => Enrollment::Enrolled(Enrolled {
                reenroll: Some(token),
                ..enrolled.clone()
            }),
            (Enrollment::Pending(_), true) => return Err(Rejection::one(never_enrolled(record))),
            (Enrollment::Enrolled(_), false) => {
                return Err(Rejection::one(already_enrolled(record)));
            }
        };
        let subcloud = Subcloud {
            enrollment,
            updated_at: now,
            ..Subcloud::clone(record)
        };
        Ok(self.accepted(subcloud, Vec::new(), EventKind::TokenIssued))
    }

    /// An accepted call that puts a record.
    pub(super) fn accepted(
        &self,
        subcloud: Subcloud,
        warnings: Vec<Violation>,
        event: EventKind,
    ) -> Accepted {
        let subcloud = Arc::new(subcloud);
        Accepted {
            carry: Carry::Put(Arc::clone(&subcloud)),
            event,
            subcloud: Some(subcloud.id),
            name: subcloud.name.clone(),
            answer: self.receipt(subcloud, warnings).into(),
        }
    }

    /// Carries out what was accepted, or only tells; logs who asked for what either way.
    pub(super) fn conclude(
        &mut self,
        now: Timestamp,
        call: Call<'_>,
        judged: Result<Accepted, Rejection>,
        out: &mut Vec<Output>,
    ) {
        let request = call.request;
        let answer = |outcome| Deferred::Output(Output::Answer { request, outcome });
        if let Some(busy) = self.busy() {
            self.after_all(answer(Err(Rejection::one(busy))), out);
            return;
        }
        if call.validate_only {
            self.after_all(answer(judged.map(|accepted| accepted.answer)), out);
            return;
        }
        let mut batch = Batch::default();
        let of_subcloud = |_: &&SharedSubcloud| call.action.is_of_subcloud();
        let (subcloud, name) = match (&judged, self.fleet.find(call.name).filter(of_subcloud)) {
            (Ok(accepted), _) => (accepted.subcloud, accepted.name.clone()),
            (Err(_), Some(known)) => (Some(known.id), known.name.clone()),
            (Err(_), None) => (None, call.name.to_owned()),
        };
        let deed = Deed {
            actor: call.actor,
            action: call.action,
            subcloud,
            name: &name,
            outcome: match &judged {
                Ok(_) => Outcome::Done,
                Err(rejection) => Outcome::Refused {
                    faults: Fault::all_of(rejection),
                    detail: String::new(),
                },
            },
        };
        let outcome =
            judged.map(|accepted| self.carry_out(now, &mut batch, accepted, call.key, out));
        self.log_audit(&mut batch, now, deed);
        batch.then.push(answer(outcome));
        self.commit(batch, out);
    }

    fn carry_out(
        &mut self,
        now: Timestamp,
        batch: &mut Batch,
        accepted: Accepted,
        key: Option<RequestKey>,
        out: &mut Vec<Output>,
    ) -> Answer {
        let Accepted {
            carry,
            answer,
            event,
            subcloud,
            name,
        } = accepted;
        match carry {
            Carry::Put(subcloud) => {
                self.put(batch, subcloud);
            }
            Carry::Delete(subcloud) => self.delete(now, batch, &subcloud, out),
            Carry::PutGroup(group) => {
                batch.writes.push(Write::Group(Arc::clone(&group)));
                self.fleet.put_group(group);
            }
            Carry::ForgetGroup(id) => {
                batch.writes.push(Write::ForgetGroup(id));
                self.fleet.forget_group(id);
            }
        }
        self.log_event(batch, now, subcloud, &name, event);
        self.keep_answer(now, batch, key, &answer);
        answer
    }

    /// Keeps what was answered, so that the same request gets the same answer for a day.
    pub(super) fn keep_answer(
        &mut self,
        now: Timestamp,
        batch: &mut Batch,
        key: Option<RequestKey>,
        answer: &Answer,
    ) {
        let Some(key) = key else {
            return;
        };
        let answered = AnsweredCall {
            key,
            at: now,
            answer: answer.clone(),
        };
        let write = Write::AnsweredCall(Box::new(answered.clone()));
        batch.writes.push(write);
        let forgotten = self.answers.keep(answered);
        let forgotten = forgotten.into_iter().map(Write::ForgetAnswer);
        batch.writes.extend(forgotten);
    }

    /// What the same request was answered before; nothing is done for it again.
    ///
    /// # Errors
    /// An id that is too long, or that another request had.
    pub(super) fn answered_before(
        &self,
        now: Timestamp,
        key: Option<&RequestKey>,
        validate_only: bool,
    ) -> Result<Option<Answer>, Rejection> {
        match key {
            Some(key) if !validate_only => Ok(self.answers.find(key, now)?.cloned()),
            _ => Ok(None),
        }
    }

    fn invalid_token(&self, token: &NewToken) -> Option<Violation> {
        let taken = || id_taken("token id", token.id);
        invalid_ttl(token).or_else(|| self.fleet.by_token(token.id).map(|_| taken()))
    }
}

fn issued(now: Timestamp, token: &NewToken) -> Token {
    Token {
        id: token.id,
        secret: token.secret,
        issued_at: now,
        expires_at: after(now, token.ttl),
    }
}

/// A token that would live too short or too long.
pub(super) fn invalid_ttl(token: &NewToken) -> Option<Violation> {
    let fits = (TOKEN_TTL_MIN..=TOKEN_TTL_MAX).contains(&token.ttl);
    (!fits).then(|| {
        Violation::new(
            Reason::InvalidArgument,
            format!(
                "a token cannot live for {} s, only from {} s to {} s",
                token.ttl.as_secs(),
                TOKEN_TTL_MIN.as_secs(),
                TOKEN_TTL_MAX.as_secs(),
            ),
            format!(
                "choose {} to {} seconds",
                TOKEN_TTL_MIN.as_secs(),
                TOKEN_TTL_MAX.as_secs()
            ),
        )
        .at("token_ttl_seconds")
    })
}

/// A name that can be typed, listed, and told from a uuid.
pub(super) fn invalid_name(name: &str) -> Option<Violation> {
    let problem = site::fleet_name_problem(name)?;
    Some(
        Violation::new(
            Reason::InvalidName,
            format!("the name {name:?} {problem}"),
            "choose 1 to 63 letters, digits, '-', '_' or '.', such as subcloud-1",
        )
        .at("name"),
    )
}

fn already_enrolled(record: &SharedSubcloud) -> Violation {
    let name = &record.name;
    Violation::new(
        Reason::SubcloudAlreadyEnrolled,
        format!("subcloud {name} has enrolled already and needs no token"),
        format!(
            "if its site was installed anew, or its certificate expired: `tandem dcmanager \
             subcloud token {name} --reenroll`; whoever redeems that token takes its place"
        ),
    )
    .object("subcloud", name.clone())
}

fn never_enrolled(record: &SharedSubcloud) -> Violation {
    let name = &record.name;
    Violation::new(
        Reason::SubcloudNotEnrolled,
        format!("subcloud {name} has never enrolled, so it cannot enroll anew"),
        format!("`tandem dcmanager subcloud token {name}` gives a token for the first time"),
    )
    .object("subcloud", name.clone())
}

pub(super) fn id_taken(field: &'static str, id: impl std::fmt::Display) -> Violation {
    Violation::new(
        Reason::InvalidArgument,
        format!("the {field} {id} is in use"),
        "draw another one",
    )
    .at(field)
}

/// Nothing goes by this name or uuid.
pub fn subcloud_not_found(reference: &str) -> Violation {
    Violation::new(
        Reason::SubcloudNotFound,
        format!("there is no subcloud {reference:?}"),
        "`tandem dcmanager subcloud list` shows the subclouds",
    )
    .object("subcloud", reference)
}
