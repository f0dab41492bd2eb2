//! Enrollment: a token is turned into an identity, once.

use std::net::IpAddr;
use std::sync::Arc;

use site::Timestamp;

use crate::admission::{Occasion, admit};
use crate::entropy::since;
use crate::{
    Action, Actor, Candidate, Enrolled, Enrollment, Epoch, EventKind, Fault, Fingerprint,
    Footprint, Observed, Outcome, REPLAY_WINDOW, Reason, Rejection, Renewal, SecretHash,
    SharedSubcloud, SpentToken, Subcloud, TokenId, Violation,
};

use super::link::alarms_of;
use super::{
    Answer, Batch, Controller, Deed, Deferred, Enroll, EnrollUnread, Output, RESTART_GRACE,
    Receipt, SourceCheck, Write,
};

/// What a presented token entitles to.
enum Claim {
    /// The record may be claimed: nobody has it, or an operator allowed it to change hands.
    Fresh(SharedSubcloud),
    /// The same key claimed it before and asks for the lost answer.
    Replay(SharedSubcloud),
}

/// Which way a token is wrong (F1). Only the audit log learns it: to a stranger all are one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum TokenFault {
    #[error("no such token")]
    Unknown,
    #[error("the secret is wrong")]
    WrongSecret,
    #[error("the token expired")]
    Expired,
    #[error("the token was spent by another key")]
    Spent,
    #[error("the token was spent by this key, too long ago to answer again")]
    ReplayedLate,
    #[error("the token is for {0}")]
    OtherName(String),
    #[error("a site that enrolls anew needs a new key, and this is the old one")]
    OldKey,
}

impl Controller {
    pub(super) fn enroll(&mut self, now: Timestamp, call: Enroll, out: &mut Vec<Output>) {
        if let Some(busy) = self.busy() {
            self.answer(&call, Err(Rejection::one(busy)), out);
            return;
        }
        let name = &call.report.site.identity.name;
        match self.claim(now, call.token, call.secret, call.key, name) {
            Ok(Claim::Replay(subcloud)) => {
                let receipt = Receipt {
                    replayed: true,
                    ..self.receipt(subcloud, Vec::new())
                };
                self.answer(&call, Ok(receipt), out);
            }
            Ok(Claim::Fresh(record)) => self.judge(now, call, &record, out),
            Err(fault) => {
                let rejection = Rejection::one(token_invalid());
                self.turn_away(now, &call, None, rejection, fault.to_string(), out);
            }
        }
    }

    /// F1.
    fn claim(
        &self,
        now: Timestamp,
        token: TokenId,
        secret: SecretHash,
        key: Fingerprint,
        name: &str,
    ) -> Result<Claim, TokenFault> {
        let record = self.fleet.by_token(token).ok_or(TokenFault::Unknown)?;
        if let Some(spent) = record.enrolled().filter(|known| known.spent.id == token) {
            return if spent.spent.secret != secret {
                Err(TokenFault::WrongSecret)
            } else if spent.key != key {
                Err(TokenFault::Spent)
            } else if since(now, spent.enrolled_at) > REPLAY_WINDOW {
                Err(TokenFault::ReplayedLate)
            } else {
                Ok(Claim::Replay(Arc::clone(record)))
            };
        }
        let open = record.open_token().filter(|open| open.id == token);
        let open = open.ok_or(TokenFault::Unknown)?;
        if open.secret != secret {
            Err(TokenFault::WrongSecret)
        } else if now >= open.expires_at {
            Err(TokenFault::Expired)
        } else if record.name != name {
            Err(TokenFault::OtherName(record.name.clone()))
        } else if record.enrolled().is_some_and(|known| known.key == key) {
            // Its certificates would come back with it, and they are to be worth nothing.
            Err(TokenFault::OldKey)
        } else {
            Ok(Claim::Fresh(Arc::clone(record)))
        }
    }

    /// F2-F10.
    fn judge(
        &mut self,
        now: Timestamp,
        call: Enroll,
        record: &SharedSubcloud,
        out: &mut Vec<Output>,
    ) {
        let candidate = Candidate::of_report(&call.report.site);
        let occasion = Occasion::Enrollment {
            own: record.id,
            name: &record.name,
            source: match self.config.source_check {
                SourceCheck::Strict => Some(call.source),
                SourceCheck::Off => None,
            },
        };
        match admit(&self.fleet, &candidate, occasion) {
            Ok(admission) => {
                let mut warnings = admission.warnings;
                let differences = differences(record, &candidate.footprint);
                let kept = differences.iter().map(Fault::from).collect();
                warnings.extend(differences);
                let mut renewal = Renewal::default();
                // A certificate of before this enrollment is not newer than it, whatever was done
                // to the clock in between.
                renewal.granted(self.dating(now));
                if let Some(before) = record.enrolled() {
                    renewal.granted(before.renewal.granted_at);
                }
                let mut enrolled = enrolled(now, &call, record, candidate.footprint, kept);
                if let Enrollment::Enrolled(enrolled) = &mut enrolled.enrollment {
                    enrolled.renewal = renewal;
                }
                self.take_in(now, call, enrolled, warnings, out);
            }
            Err(rejection) => {
                let known = Some(record);
                self.turn_away(now, &call, known, rejection, String::new(), out);
            }
        }
    }

    fn take_in(
        &mut self,
        now: Timestamp,
        call: Enroll,
        enrolled: Subcloud,
        warnings: Vec<Violation>,
        out: &mut Vec<Output>,
    ) {
        let mut receipt = self.receipt(Arc::new(enrolled), warnings);
        if call.validate_only {
            self.answer(&call, Ok(receipt), out);
            return;
        }
        let mut batch = Batch::default();
        let id = receipt.subcloud.id;
        let before = self.fleet.subcloud(id);
        let event = match before.and_then(|before| before.enrolled()) {
            Some(_) => EventKind::Reenrolled,
            None => EventKind::Enrolled,
        };
        receipt.subcloud = self.put(&mut batch, receipt.subcloud);
        // Whoever was there before has a key that is worth nothing from now on.
        self.cut_off(now, &mut batch, id, out);
        self.sightings.forget(id);
        let name = receipt.subcloud.name.clone();
        batch.writes.push(Write::Site {
            subcloud: id,
            site: Arc::clone(&call.report.site),
        });
        self.log_event(&mut batch, now, Some(id), &name, event);
        let deed = Deed {
            actor: Actor::Stranger(call.source),
            action: Action::Enroll,
            subcloud: Some(id),
            name: &name,
            outcome: Outcome::Done,
        };
        self.log_audit(&mut batch, now, deed);
        batch.then.push(Deferred::Output(Output::Answer {
            request: call.request,
            outcome: Ok(receipt.into()),
        }));
        self.commit(batch, out);
        self.await_first_link(now, id, RESTART_GRACE);
    }

    /// What could not be read is in the logs like every other refusal.
    pub(super) fn enroll_unread(
        &mut self,
        now: Timestamp,
        call: EnrollUnread,
        out: &mut Vec<Output>,
    ) {
        let mut batch = Batch::default();
        let faults = Fault::kept(call.faults);
        if self.busy().is_none() {
            let refused = (call.source, &*call.name, None);
            self.log_refusal(now, &mut batch, refused, faults, String::new());
        }
        batch.then.push(Deferred::Output(Output::Answer {
            request: call.request,
            outcome: Ok(Answer::Noted),
        }));
        self.commit(batch, out);
    }

    /// A refused enrollment leaves no record but an event and an audit entry.
    fn turn_away(
        &mut self,
        now: Timestamp,
        call: &Enroll,
        record: Option<&SharedSubcloud>,
        rejection: Rejection,
        detail: String,
        out: &mut Vec<Output>,
    ) {
        if call.validate_only {
            self.answer(call, Err(rejection), out);
            return;
        }
        let mut batch = Batch::default();
        let faults = Fault::all_of(&rejection);
        let refused = (call.source, &*call.report.site.identity.name, record);
        self.log_refusal(now, &mut batch, refused, faults, detail);
        batch.then.push(Deferred::Output(Output::Answer {
            request: call.request,
            outcome: Err(rejection),
        }));
        self.commit(batch, out);
    }

    /// The refusal of whoever presented the token of a record is always logged; that of a stranger
    /// as far as strangers may fill the logs.
    fn log_refusal(
        &mut self,
        now: Timestamp,
        batch: &mut Batch,
        (source, name, record): (IpAddr, &str, Option<&SharedSubcloud>),
        faults: Vec<Fault>,
        detail: String,
    ) {
        let detail = match record {
            Some(_) => Some(detail),
            None => self.strangers.entry(now, detail),
        };
        let Some(detail) = detail else {
            return;
        };
        let subcloud = record.map(|record| record.id);
        let kind = EventKind::EnrollmentRefused {
            faults: faults.clone(),
        };
        self.log_event(batch, now, subcloud, name, kind);
        let deed = Deed {
            actor: Actor::Stranger(source),
            action: Action::Enroll,
            subcloud,
            name,
            outcome: Outcome::Refused { faults, detail },
        };
        self.log_audit(batch, now, deed);
    }

    fn answer(
        &mut self,
        call: &Enroll,
        outcome: Result<Receipt, Rejection>,
        out: &mut Vec<Output>,
    ) {
        let answer = Output::Answer {
            request: call.request,
            outcome: outcome.map(Into::into),
        };
        self.after_all(Deferred::Output(answer), out);
    }
}

fn enrolled(
    now: Timestamp,
    call: &Enroll,
    record: &Subcloud,
    footprint: Footprint,
    differences: Vec<Fault>,
) -> Subcloud {
    Subcloud {
        enrollment: Enrollment::Enrolled(Enrolled {
            key: call.key,
            site: call.report.site.identity.uuid,
            spent: SpentToken {
                id: call.token,
                secret: call.secret,
            },
            // A site that enrolls anew is owned in the same term as before.
            epoch: record.enrolled().map_or(Epoch(1), |known| known.epoch),
            enrolled_at: now,
            differences,
            reenroll: None,
            renewal: Renewal::default(),
            cloned: None,
        }),
        // The answer carries owner and term, and the agent keeps them before it says Hello.
        geo: crate::Geo {
            confirmed: true,
            ..record.geo.clone()
        },
        observed: Some(Observed {
            generation: call.report.site.generation,
            digest: call.report.digest,
            received_at: now,
            alarms: Some(alarms_of(&call.report.site)),
            footprint,
        }),
        refused: None,
        updated_at: now,
        ..record.clone()
    }
}

/// Where a site is not what the operator declared. It is no reason to refuse, for what counts is
/// what the site really is; but somebody expected something else, so both are told.
fn differences(record: &Subcloud, actual: &Footprint) -> Vec<Violation> {
    let Enrollment::Pending(pending) = &record.enrollment else {
        return Vec::new();
    };
    let Some(declared) = &pending.declared else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut compare = |field: &str, declared: String, actual: String| {
        if declared != actual {
            found.push(
                Violation::new(
                    Reason::SiteDiffersFromDeclared,
                    format!("{field} was declared as {declared} but is {actual}"),
                    "compare the bootstrap file given to `subcloud add` with the one installed",
                )
                .at(field)
                .object("subcloud", record.name.clone())
                .fact("declared", declared)
                .fact("actual", actual),
            );
        }
    };
    for (field, show) in COMPARED {
        compare(field, show(declared), show(actual));
    }
    found
}

type Show = fn(&Footprint) -> String;

/// What is compared, and how it is shown.
const COMPARED: [(&str, Show); 7] = [
    ("region_name", |site| site.region_name.clone()),
    ("software_version", |site| site.software_version.to_string()),
    ("link network", |site| {
        listed(site.link.iter().map(|link| link.kind))
    }),
    ("link subnets", |site| {
        listed(
            site.link
                .iter()
                .flat_map(|link| link.pools())
                .map(|pool| pool.subnet),
        )
    }),
    ("link ranges", |site| {
        let pools = site.link.iter().flat_map(|link| link.pools());
        listed(pools.flat_map(|pool| &pool.ranges))
    }),
    ("oam subnets", |site| listed(site.oam_subnets.iter())),
    ("systemcontroller_gateway_address", |site| {
        listed(site.systemcontroller_gateways.iter())
    }),
];

fn listed<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(",")
    }
}

/// One message for every way in which a token can be wrong.
fn token_invalid() -> Violation {
    Violation::new(
        Reason::EnrollTokenInvalid,
        "the enrollment token is not valid for this site",
        "ask the operator of the system controller for a new one: `tandem dcmanager subcloud \
         token NAME`",
    )
    .fact("rule", "F1")
}
