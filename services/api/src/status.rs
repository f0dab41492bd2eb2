//! Refusals as gRPC statuses, and back.
//!
//! A status carries exactly one `ErrorInfo`, that of the first failing rule. Malformed fields
//! go out as `BadRequest` too, every other fault as an entry of `PreconditionFailure` whose
//! type is its reason, the first object as `ResourceInfo`.

use std::collections::HashMap;
use std::sync::Arc;

use site::{Code, Object, Reason, ReasonSet, Rejection, Violation};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::access::AccessReason;
use crate::convert::Malformed;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "tandem";

/// What stands between the explanation of a fault and its remedy.
const REMEDY: &str = " Remedy: ";

/// The details travel in a trailer; clients commonly limit all headers to 16 KiB, and base64
/// makes four bytes of three.
const MAX_DETAIL_BYTES: usize = 8 * 1024;

/// The key in the metadata of `ErrorInfo` that says how many faults there are, when the details
/// have not room for all of them.
const FAULTS: &str = "faults";

/// What the encoding of one entry adds to its texts.
const ENTRY_BYTES: usize = 16;

/// A refusal, as a client reads it from a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable reason of the first failing rule; empty when the status has none.
    pub reason: String,
    /// The message of the status.
    pub message: String,
    /// The faults that the status tells.
    pub faults: Vec<Fault>,
    /// How many there are, with those for which the status had no room.
    pub count: usize,
}

/// One fault of a [`Refusal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable reason.
    pub reason: String,
    /// The path of the field, or the objects concerned; may be empty.
    pub subject: String,
    /// What is wrong.
    pub explanation: String,
    /// What the operator can do.
    pub remedy: String,
}

/// A refusal as a status. The fields of the refusal are paths of the request.
pub fn from_rejection<R: ReasonSet>(rejection: &Rejection<R>) -> tonic::Status {
    from_rejection_at(rejection, str::to_owned)
}

/// A refusal as a status, when the request calls fields otherwise than the core: `path` gives
/// the path in the request of a field that the core names.
pub fn from_rejection_at<R: ReasonSet>(
    rejection: &Rejection<R>,
    path: impl Fn(&str) -> String,
) -> tonic::Status {
    let first = rejection.first();
    let mut metadata: HashMap<String, String> = first
        .metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    let mut details = ErrorDetails::new();
    if let Some(Object { kind, name }) = first.objects.first() {
        details.set_resource_info(*kind, name.clone(), "", "");
    }
    let facts: usize = first
        .metadata
        .iter()
        .map(|(key, value)| key.len() + value.len() + ENTRY_BYTES)
        .sum();
    let room = MAX_DETAIL_BYTES.saturating_sub(facts);
    let left_out = add_violations(&mut details, room, rejection.violations(), path);
    let count = rejection.count();
    let mut message = first.message.clone();
    if count > 1 {
        message.push_str(&format!(" (and {} more)", count - 1));
    }
    if left_out > 0 {
        // The last one may stand for many.
        let left_out = count - (rejection.violations().len() - left_out);
        message.push_str(&format!(" ({left_out} faults do not fit into the details)"));
        metadata.insert(FAULTS.to_owned(), count.to_string());
    }
    details.set_error_info(first.reason.name(), DOMAIN, metadata);
    tonic::Status::with_error_details(code(first.reason.code()), message, details)
}

/// A status that came from elsewhere, as its service gave it.
pub fn from_failure(failure: fleet::CommandFailure) -> tonic::Status {
    let fleet::CommandFailure {
        code,
        message,
        details,
        faults: _,
    } = failure;
    tonic::Status::with_details(tonic::Code::from_i32(code), message, details.into())
}

/// A status as it goes elsewhere, with the faults that it tells.
pub fn to_failure(status: &tonic::Status) -> fleet::CommandFailure {
    let fault = |fault: Fault| {
        let Fault {
            reason,
            subject,
            explanation,
            remedy,
        } = fault;
        fleet::Fault {
            reason,
            field: subject,
            message: explanation,
            remedy,
            ..fleet::Fault::default()
        }
    };
    fleet::CommandFailure {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: status.details().to_vec(),
        faults: to_refusal(status).faults.into_iter().map(fault).collect(),
    }
}

/// Unreadable fields as a status; everything that can be judged is judged by the core instead.
pub fn from_malformed(faults: &[Malformed]) -> tonic::Status {
    let violation = |fault: &Malformed| {
        let message = format!("{} {}", fault.path, fault.problem);
        Violation::new(Reason::InvalidArgument, message, fault.remedy.clone()).at(&fault.path)
    };
    match Rejection::check(faults.iter().map(violation).collect()) {
        Ok(()) => tonic::Status::invalid_argument("the request cannot be read"),
        Err(rejection) => from_rejection(&rejection),
    }
}

/// Says of a status, within this process, whether rules were asked before it was given. They note
/// in the audit log what they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Asked {
    /// They were, or it is only a preview.
    #[error("the rules were asked")]
    Yes,
    /// They were not: the call could not be handed to them.
    #[error("no rule was asked")]
    No,
}

/// Says of a status, within this process, that a message could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error("the message cannot be decoded")]
struct Undecodable;

/// The same status with that mark, unless it has one.
#[must_use]
pub fn marked(mut status: tonic::Status, asked: Asked) -> tonic::Status {
    if mark(&status).is_none() {
        status.set_source(Arc::new(asked));
    }
    status
}

fn mark(status: &tonic::Status) -> Option<Asked> {
    std::error::Error::source(status)?.downcast_ref().copied()
}

/// The status of a decoder, with its cause in it for who serves the method.
pub(crate) fn undecodable(mut status: tonic::Status) -> tonic::Status {
    status.set_source(Arc::new(Undecodable));
    status
}

/// What a client is told whose message could not be decoded, instead of the decoder's own words;
/// `None` for any other status.
pub fn of_undecodable(status: &tonic::Status) -> Option<tonic::Status> {
    let cause = std::error::Error::source(status)?;
    cause
        .is::<Undecodable>()
        .then(|| message_unreadable(status.message()))
}

/// The refusal of a message that is not one of its method.
pub fn message_unreadable(why: &str) -> tonic::Status {
    from_rejection(&Rejection::one(Violation::new(
        AccessReason::MessageUnreadable,
        format!("the message is not one of this method: {why}"),
        "speak the contract of this version; reflection describes it",
    )))
}

/// The faults of a refusal that no rule was asked about, at least one: the call could not be read,
/// was too large, or was not for this process. `None` for those that the audit log has.
pub fn unheard(status: &tonic::Status) -> Option<Vec<fleet::Fault>> {
    let Refusal {
        mut reason,
        message,
        faults: _,
        count: _,
    } = to_refusal(status);
    let of_access = |known: &AccessReason| known.name() == reason;
    let unheard = match mark(status) {
        Some(Asked::Yes) => false,
        Some(Asked::No) => true,
        // Without a reason it is not ours: something broke. The client that left is no refusal.
        None if reason.is_empty() => status.code() != tonic::Code::Cancelled,
        None => AccessReason::ALL.iter().any(of_access),
    };
    if reason.is_empty() {
        code_name(status.code()).clone_into(&mut reason);
    }
    let mut faults = to_failure(status).faults;
    if faults.is_empty() {
        // Another site's words may have none.
        faults.push(fleet::Fault {
            reason,
            message,
            ..fleet::Fault::default()
        });
    }
    unheard.then_some(faults)
}

/// The name of a code as a reason, for statuses that give none.
pub fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Adds faults until the details are full; the number of those left out.
fn add_violations<R: ReasonSet>(
    details: &mut ErrorDetails,
    mut room: usize,
    all: &[Violation<R>],
    path: impl Fn(&str) -> String,
) -> usize {
    for (index, violation) in all.iter().enumerate() {
        let text = format!("{}{REMEDY}{}", violation.message, violation.remedy);
        let subject = subject(violation);
        let field = path(&violation.field);
        let names = violation.reason.name().len() + subject.len() + field.len();
        // A fault of a field may stand in two lists.
        let lists = 1 + usize::from(!field.is_empty());
        let size = lists * (text.len() + ENTRY_BYTES) + names;
        if size > room && index > 0 {
            return all.len() - index;
        }
        room = room.saturating_sub(size);
        if violation.reason.name() == Reason::InvalidArgument.name() {
            details.add_bad_request_violation(field, text);
        } else {
            if !field.is_empty() {
                details.add_bad_request_violation(field, text.clone());
            }
            details.add_precondition_failure_violation(violation.reason.name(), subject, text);
        }
    }
    0
}

fn subject<R: ReasonSet>(violation: &Violation<R>) -> String {
    let named = |object: &Object| format!("{}:{}", object.kind, object.name);
    violation
        .objects
        .iter()
        .map(named)
        .collect::<Vec<_>>()
        .join(",")
}

/// Reads a refusal from a status; works for a status of any server.
pub fn to_refusal(status: &tonic::Status) -> Refusal {
    let details = status.get_error_details();
    let (reason, said) = match details.error_info() {
        Some(info) => (info.reason.clone(), info.metadata.get(FAULTS)),
        None => (String::new(), None),
    };
    let said: Option<usize> = said.and_then(|count| count.parse().ok());
    let mut faults = Vec::new();
    if let Some(failure) = details.precondition_failure() {
        for violation in &failure.violations {
            let fault = fault(
                &violation.r#type,
                &violation.subject,
                &violation.description,
            );
            faults.push(fault);
        }
    }
    if let Some(request) = details.bad_request() {
        for violation in &request.field_violations {
            let reason = Reason::InvalidArgument.name();
            let found = fault(reason, &violation.field, &violation.description);
            match faults
                .iter_mut()
                .find(|known| known.explanation == found.explanation)
            {
                Some(known) if known.subject.is_empty() => known.subject = found.subject,
                Some(_) => {}
                None => faults.push(found),
            }
        }
    }
    let count = said.unwrap_or_default().max(faults.len());
    Refusal {
        reason,
        message: status.message().to_owned(),
        faults,
        count,
    }
}

fn fault(reason: &str, subject: &str, description: &str) -> Fault {
    let (explanation, remedy) = description.rsplit_once(REMEDY).unwrap_or((description, ""));
    Fault {
        reason: reason.to_owned(),
        subject: subject.to_owned(),
        explanation: explanation.to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// The class of a code that a refusal can have; `None` for those of the transport.
pub fn class(code: tonic::Code) -> Option<Code> {
    match code {
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Some(Code::InvalidArgument),
        tonic::Code::NotFound => Some(Code::NotFound),
        tonic::Code::AlreadyExists => Some(Code::AlreadyExists),
        tonic::Code::FailedPrecondition => Some(Code::FailedPrecondition),
        tonic::Code::PermissionDenied => Some(Code::PermissionDenied),
        tonic::Code::Unauthenticated => Some(Code::Unauthenticated),
        tonic::Code::ResourceExhausted => Some(Code::ResourceExhausted),
        tonic::Code::Aborted => Some(Code::Aborted),
        tonic::Code::Unavailable => Some(Code::Unavailable),
        tonic::Code::Ok
        | tonic::Code::Cancelled
        | tonic::Code::Unknown
        | tonic::Code::DeadlineExceeded
        | tonic::Code::Unimplemented
        | tonic::Code::Internal
        | tonic::Code::DataLoss => None,
    }
}

/// The one mapping of classes.
fn code(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Aborted => tonic::Code::Aborted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::Unimplemented => tonic::Code::Unimplemented,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(reason: Reason, text: &str) -> Violation {
        Violation::new(reason, text, "do this").object("pool", "p")
    }

    #[test]
    fn every_fault_and_remedy_comes_back() {
        let rejection = Rejection::check(vec![
            violation(Reason::AddressOverlap, "a meets b").fact("with", "b"),
            violation(Reason::InvalidArgument, "bad").at("ranges[0]"),
        ])
        .expect_err("two faults");
        let status = from_rejection(&rejection);
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        let info = status.get_details_error_info().expect("one ErrorInfo");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("ADDRESS_OVERLAP", DOMAIN)
        );
        assert_eq!(info.metadata["with"], "b");

        let refusal = to_refusal(&status);
        assert_eq!(
            (refusal.reason.as_str(), refusal.count),
            ("ADDRESS_OVERLAP", 2)
        );
        let faults: Vec<_> = refusal
            .faults
            .iter()
            .map(|f| (f.reason.as_str(), f.subject.as_str(), f.remedy.as_str()))
            .collect();
        let expected = [
            ("ADDRESS_OVERLAP", "pool:p", "do this"),
            ("INVALID_ARGUMENT", "ranges[0]", "do this"),
        ];
        assert_eq!(faults, expected);
    }

    #[test]
    fn the_audit_log_is_told_of_what_no_rule_was_asked() {
        let of_a_rule = || from_rejection(&Rejection::one(violation(Reason::NameTaken, "taken")));
        let too_large = Violation::new(AccessReason::MessageTooLarge, "too large", "send less");
        let undecoded = || tonic::Status::internal("failed to decode");
        let reasons = |status: &tonic::Status| {
            let faults = unheard(status)?;
            Some(
                faults
                    .into_iter()
                    .map(|fault| fault.reason)
                    .collect::<Vec<_>>(),
            )
        };
        let some = |reason: &str| Some(vec![reason.to_owned()]);
        for (status, expected) in [
            (of_a_rule(), None),
            (marked(of_a_rule(), Asked::No), some("NAME_TAKEN")),
            (
                from_rejection(&Rejection::one(too_large)),
                some("MESSAGE_TOO_LARGE"),
            ),
            (undecoded(), some("INTERNAL")),
            (marked(undecoded(), Asked::Yes), None),
            (
                marked(marked(of_a_rule(), Asked::No), Asked::Yes),
                some("NAME_TAKEN"),
            ),
            (tonic::Status::cancelled("the client left"), None),
        ] {
            assert_eq!(reasons(&status), expected, "{status:?}");
        }
    }

    #[test]
    fn a_thousand_faults_fit_into_a_trailer_and_say_what_is_left_out() {
        let many = (0..1000).map(|n| violation(Reason::AddressOverlap, &format!("fault {n}")));
        let status = from_rejection(&Rejection::check(many.collect()).expect_err("faults"));
        assert!(
            status.details().len() < 12 * 1024,
            "{}",
            status.details().len()
        );
        let Refusal { faults, count, .. } = to_refusal(&status);
        let (told, left_out) = (faults.len(), 1000 - faults.len());
        assert_eq!(count, 1000, "{told} of them told");
        assert_eq!(
            status.message(),
            format!("fault 0 (and 999 more) ({left_out} faults do not fit into the details)")
        );
    }
}
