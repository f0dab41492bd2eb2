//! What a reading collects: faults, warnings, and what was assumed.

use std::ops::Range;

use super::fault::{Fault, FaultReason, Faults, Warning};
use super::source::Source;
use crate::Reason;

/// How many faults, and how many warnings, one file can have. Beyond it no operator reads on;
/// the last fault or warning then says that the list is cut.
pub const MAX_FAULTS: usize = 500;

/// A default that was taken because the file does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assumed {
    /// The variable that is not in the file.
    pub variable: String,
    /// The value that it has now, as it could be written in the file.
    pub value: String,
}

/// Collects while the file is read.
pub(super) struct Findings<'a> {
    pub(super) source: Source<'a>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Warning>,
    pub(super) assumed: Vec<Assumed>,
    cut: usize,
}

impl From<Reason> for FaultReason {
    fn from(reason: Reason) -> Self {
        Self::Site(reason)
    }
}

impl<'a> Findings<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        Self {
            source,
            faults: Vec::new(),
            warnings: Vec::new(),
            assumed: Vec::new(),
            cut: 0,
        }
    }

    /// Adds a fault. The first of `places` is the text at fault; without any, the fault is put
    /// after the last text of the file, where the missing line could be written.
    pub(super) fn fault(
        &mut self,
        reason: impl Into<FaultReason>,
        variable: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
        places: &[(Range<usize>, &str)],
    ) {
        if self.faults.len() >= MAX_FAULTS {
            self.cut += 1;
            return;
        }
        let mut labels: Vec<_> = places
            .iter()
            .map(|(span, message)| self.source.label(span, *message))
            .collect();
        let reason = reason.into();
        if labels.is_empty() {
            let missing = reason == FaultReason::ValueMissing && !variable.is_empty();
            let message = if missing {
                format!("{variable} is missing")
            } else {
                String::new()
            };
            labels.push(self.source.label(&self.source.end(), message));
        }
        self.faults.push(Fault {
            reason,
            variable: variable.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
            labels,
        });
    }

    /// Whether there is room for a warning.
    pub(super) fn listens(&self) -> bool {
        self.warnings.len() < MAX_FAULTS
    }

    /// Adds the warning about a variable that nothing reads.
    pub(super) fn unknown(&mut self, name: &str, nearest: Option<&str>, span: &Range<usize>) {
        if !self.listens() {
            return;
        }
        let remedy = match nearest {
            Some(nearest) => format!("write {nearest} if that is meant; else remove the line"),
            None => "remove the line, or keep it for other tools".to_owned(),
        };
        let (message, rest) = if self.warnings.len() + 1 == MAX_FAULTS {
            (
                format!("nothing reads {name}, nor what else is unknown after it"),
                "not listed on",
            )
        } else {
            (
                format!("nothing reads the variable {name}"),
                "unknown variable",
            )
        };
        self.warnings.push(Warning {
            variable: name.to_owned(),
            nearest: nearest.map(str::to_owned),
            message,
            remedy,
            label: self.source.label(span, rest),
        });
    }

    /// Notes a default.
    pub(super) fn assume(&mut self, variable: impl Into<String>, value: impl ToString) {
        self.assumed.push(Assumed {
            variable: variable.into(),
            value: value.to_string(),
        });
    }

    /// Makes sure that a refusal has a fault to show, whatever led to it.
    pub(super) fn never_empty(&mut self) {
        if self.faults.is_empty() {
            let message = "the file does not describe a whole site";
            let remedy = "compare it with the files in deploy/examples";
            self.fault(FaultReason::ValueMissing, "", message, remedy, &[]);
        }
    }

    /// Everything that was collected, faults in the order of the file.
    pub(super) fn into_faults(mut self, file_name: &str) -> Faults {
        self.faults
            .sort_by_key(|fault| fault.place().map(|place| place.span.start));
        if self.cut > 0 {
            let message = format!("{} more faults are not listed", self.cut);
            let label = self.source.label(&self.source.end(), "");
            self.faults.push(Fault {
                reason: FaultReason::TooManyFaults,
                variable: String::new(),
                message,
                remedy: "correct the listed ones first".into(),
                labels: vec![label],
            });
        }
        Faults {
            file_name: file_name.to_owned(),
            faults: self.faults,
            warnings: self.warnings,
        }
    }
}

/// The only fault of a file that is no text.
pub(super) fn unreadable(file_name: &str, fault: Fault) -> Faults {
    Faults {
        file_name: file_name.to_owned(),
        faults: vec![fault],
        warnings: Vec::new(),
    }
}
