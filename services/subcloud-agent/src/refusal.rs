//! Refusals as people read them.

use fleet::{Fault, Refusal};
use site::ReasonSet;

/// Every fault with its reason, explanation and remedy.
pub(crate) fn text(faults: &[Fault]) -> String {
    let mut text = String::from("refused\n");
    for fault in faults {
        text.push_str(&format!("  {}\n    {}\n", fault.reason, fault.message));
        if !fault.remedy.is_empty() {
            text.push_str(&format!("    remedy: {}\n", fault.remedy));
        }
    }
    text
}

/// A refusal of the core.
pub(crate) fn of_rejection(rejection: &fleet::Rejection) -> Refusal {
    Refusal {
        code: rejection.first().reason.code(),
        faults: Fault::all_of(rejection),
    }
}

/// A refusal as the controller sent it; `None` when the status is about the connection.
pub(crate) fn of_status(status: &tonic::Status) -> Option<Refusal> {
    let code = api::status::class(status.code())?;
    let refusal = api::status::to_refusal(status);
    if refusal.reason.is_empty() && code == site::Code::Unavailable {
        return None;
    }
    let mut faults: Vec<Fault> = refusal.faults.into_iter().map(fault).collect();
    if faults.is_empty() {
        let reason = if refusal.reason.is_empty() {
            status.code().to_string()
        } else {
            refusal.reason
        };
        faults.push(Fault {
            reason,
            message: refusal.message,
            ..Fault::default()
        });
    }
    Some(Refusal { code, faults })
}

fn fault(fault: api::status::Fault) -> Fault {
    let api::status::Fault {
        reason,
        subject,
        explanation,
        remedy,
    } = fault;
    Fault {
        reason,
        field: subject,
        message: explanation,
        remedy,
        ..Fault::default()
    }
}
