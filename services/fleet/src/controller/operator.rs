//! Operators' calls.

use std::sync::Arc;
use std::time::Duration;

use site::Timestamp;
use uuid::Uuid;

use crate::admission::{Occasion, admit, name_free, room};
use crate::entropy::after;
use crate::{
    Action, Actor, Enrollment, EventKind, Fault, Management, Outcome, Pending, Reason, Rejection,
    RequestId, SharedSubcloud, Subcloud, Token, Violation,
};

use super::{
    AddSubcloud, Answer, Batch, Controller, Deed, Deferred, IssueToken, NewToken, Output, Receipt,
};

/// The shortest life of a token: a script that adds and enrolls in one go needs no more.
pub const TOKEN_TTL_MIN: Duration = Duration::from_secs(1);

/// The longest life of a token: a secret that lies around for longer than a week is forgotten.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The longest name of a subcloud: that of a host name's label, which it often becomes.
const MAX_NAME: usize = 63;

/// A call that was accepted: the record as it shall be.
struct Accepted {
    subcloud: Subcloud,
    warnings: Vec<Violation>,
}

/// What every operator's call has.
struct Call<'a> {
    request: RequestId,
    actor: Actor,
    action: Action,
    name: &'a str,
    validate_only: bool,
    event: EventKind,
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
            validate_only: call.validate_only,
            event: EventKind::Added,
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
            validate_only: call.validate_only,
            event: EventKind::TokenIssued,
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
        Rejection::check(violations)?;
        let subcloud = Subcloud {
            id: call.id,
            name: call.name.clone(),
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
        Ok(Accepted { subcloud, warnings })
    }

    fn judge_token(&self, now: Timestamp, call: &IssueToken) -> Result<Accepted, Rejection> {
        let unknown = || Rejection::one(subcloud_not_found(&call.subcloud));
        let record = self.fleet.find(&call.subcloud).ok_or_else(unknown)?;
        Rejection::check(self.invalid_token(&call.token).into_iter().collect())?;
        let Enrollment::Pending(pending) = &record.enrollment else {
            return Err(Rejection::one(already_enrolled(record)));
        };
        let subcloud = Subcloud {
            enrollment: Enrollment::Pending(Pending {
                token: issued(now, &call.token),
                declared: pending.declared.clone(),
            }),
            updated_at: now,
            ..Subcloud::clone(record)
        };
        Ok(Accepted {
            subcloud,
            warnings: Vec::new(),
        })
    }

    fn conclude(
        &mut self,
        now: Timestamp,
        call: Call<'_>,
        judged: Result<Accepted, Rejection>,
        out: &mut Vec<Output>,
    ) {
        let request = call.request;
        if let Some(busy) = self.busy() {
            let outcome = Err(Rejection::one(busy));
            self.after_all(Deferred::Output(Output::Answer { request, outcome }), out);
            return;
        }
        let mut batch = Batch::default();
        let outcome = match judged {
            Ok(accepted) if call.validate_only => Ok(Receipt {
                subcloud: Arc::new(accepted.subcloud),
                warnings: accepted.warnings,
                replayed: false,
            }),
            Ok(accepted) => {
                let subcloud = self.put(&mut batch, accepted.subcloud);
                let (id, name) = (subcloud.id, &subcloud.name);
                self.log_event(&mut batch, now, Some(id), name, call.event.clone());
                Ok(Receipt {
                    subcloud: Arc::clone(&subcloud),
                    warnings: accepted.warnings,
                    replayed: false,
                })
            }
            Err(rejection) => Err(rejection),
        };
        let answer = |outcome: Result<Receipt, Rejection>| {
            let outcome = outcome.map(Answer::from);
            Deferred::Output(Output::Answer { request, outcome })
        };
        if call.validate_only {
            self.after_all(answer(outcome), out);
            return;
        }
        let deed = Deed {
            actor: call.actor,
            action: call.action,
            subcloud: outcome.as_ref().ok().map(|receipt| receipt.subcloud.id),
            name: call.name,
            outcome: match &outcome {
                Ok(_) => Outcome::Done,
                Err(rejection) => Outcome::Refused {
                    faults: Fault::all_of(rejection),
                    detail: String::new(),
                },
            },
        };
        self.log_audit(&mut batch, now, deed);
        batch.then.push(answer(outcome));
        self.commit(batch, out);
    }

    fn invalid_token(&self, token: &NewToken) -> Option<Violation> {
        if !(TOKEN_TTL_MIN..=TOKEN_TTL_MAX).contains(&token.ttl) {
            return Some(
                Violation::new(
                    Reason::InvalidArgument,
                    format!(
                        "a token cannot live for {} s, only from {} s to {} s",
                        token.ttl.as_secs(),
                        TOKEN_TTL_MIN.as_secs(),
                        TOKEN_TTL_MAX.as_secs(),
                    ),
                    "choose a time to live within these bounds",
                )
                .at("token_ttl_seconds"),
            );
        }
        self.fleet
            .by_token(token.id)
            .map(|_| id_taken("token id", token.id))
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

/// A name that can be typed, listed, and told from a uuid.
pub(super) fn invalid_name(name: &str) -> Option<Violation> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fault = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME {
        "is longer than 63 characters"
    } else if !name.bytes().all(plain) {
        "has characters other than letters, digits, '-', '_' and '.'"
    } else if !name.as_bytes()[0].is_ascii_alphanumeric() {
        "begins with something else than a letter or a digit"
    } else if Uuid::try_parse(name).is_ok() {
        "reads as a uuid, and names and uuids are used in the same place"
    } else {
        return None;
    };
    Some(
        Violation::new(
            Reason::InvalidName,
            format!("the name {name:?} {fault}"),
            "choose 1 to 63 letters, digits, '-', '_' or '.', such as subcloud-1",
        )
        .at("name"),
    )
}

fn already_enrolled(record: &SharedSubcloud) -> Violation {
    Violation::new(
        Reason::SubcloudAlreadyEnrolled,
        format!(
            "subcloud {} has enrolled already and needs no token",
            record.name
        ),
        "delete the subcloud and add it again, if its site was installed anew",
    )
    .object("subcloud", record.name.clone())
}

fn id_taken(field: &'static str, id: impl std::fmt::Display) -> Violation {
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
