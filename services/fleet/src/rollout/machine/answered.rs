//! What the outcome of a command says about the step of a rollout that asked for it.

use super::Answered;
use crate::{CommandFailure, CommandOutcome, Fault, Reason, ReasonSet};

/// Refusals of a site that pass: the step is asked for again.
const TRANSIENT: [Reason; 4] = [
    Reason::TooManyCommands,
    Reason::CommandDeadline,
    Reason::CommandOutcomeUnknown,
    Reason::ControllerBusy,
];

/// gRPC: cancelled, deadline exceeded, aborted, unavailable.
const PASSES: [i32; 4] = [1, 4, 10, 14];

/// gRPC: invalid argument, not found, already exists, permission denied, resource exhausted, failed
/// precondition, out of range, unauthenticated. A rule refused, and nothing was changed.
const REFUSES: [i32; 8] = [3, 5, 6, 7, 8, 9, 11, 16];

impl From<CommandOutcome> for Answered {
    /// A refusal by a rule, a failure, or nothing that is known, so that it is asked again.
    fn from(outcome: CommandOutcome) -> Self {
        match outcome {
            CommandOutcome::Done(_) => Self::Done,
            CommandOutcome::Refused(rejection)
                if rejection.first().reason == Reason::CommandTooLarge =>
            {
                Self::Failed(Fault::all_of(&rejection))
            }
            // One of the ends did not take it, or does not know: it is asked again when it can be.
            CommandOutcome::Refused(_) => Self::Unreachable,
            CommandOutcome::Failed(failure) => Self::of_failure(failure),
        }
    }
}

impl Answered {
    fn of_failure(failure: CommandFailure) -> Self {
        let passes = |fault: &Fault| TRANSIENT.iter().any(|known| known.name() == fault.reason);
        let mut faults = failure.faults;
        if PASSES.contains(&failure.code) || faults.iter().any(passes) {
            return Self::Unreachable;
        }
        if faults.is_empty() {
            faults.push(Fault {
                message: failure.message,
                ..Fault::default()
            });
        }
        if REFUSES.contains(&failure.code) {
            Self::Refused(faults)
        } else {
            Self::Failed(faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_rule_refused_counts_as_refused() {
        let failed = |code, reason: &str| {
            let fault = Fault {
                reason: reason.to_owned(),
                ..Fault::default()
            };
            Answered::from(CommandOutcome::Failed(CommandFailure {
                code,
                faults: vec![fault],
                ..CommandFailure::default()
            }))
        };
        let refused = failed(9, "ADDRESS_OVERLAP");
        assert!(matches!(refused, Answered::Refused(_)), "{refused:?}");
        let limit = failed(8, "TOO_MANY_POOLS");
        assert!(matches!(limit, Answered::Refused(_)), "{limit:?}");
        assert_eq!(failed(8, "TOO_MANY_COMMANDS"), Answered::Unreachable);
        assert_eq!(failed(14, ""), Answered::Unreachable);
        let broken = failed(13, "");
        assert!(matches!(broken, Answered::Failed(_)), "{broken:?}");
    }
}
