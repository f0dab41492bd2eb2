//! Deliberately broken variants, made by tampering with what goes into and comes out of the real
//! machines. The simulation must catch each: that shows that it can catch something.

use fleet::{Controller, ControllerMessage, Enrollment, Input, Output};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Answers and acknowledgements go out before the disk is done.
    AnswerBeforeDurable,
    /// A spent token is taken from any key.
    TokenNotSpent,
    /// The controller welcomes as if it had every report.
    ReportNeverNeeded,
}

impl Sabotage {
    pub(crate) const ALL: [Self; 3] = [
        Self::AnswerBeforeDurable,
        Self::TokenNotSpent,
        Self::ReportNeverNeeded,
    ];

    /// Tampers with what the controller is told.
    pub(crate) fn input(self, machine: Option<&Controller>, mut input: Input) -> Input {
        if let (Self::TokenNotSpent, Input::Enroll(call)) = (self, &mut input)
            && let Some(record) = machine.and_then(|machine| machine.fleet().by_token(call.token))
            && let Enrollment::Enrolled(enrolled) = &record.enrollment
        {
            call.key = enrolled.key;
        }
        input
    }

    /// Tampers with what the controller asks for.
    pub(crate) fn output(self, mut output: Output) -> Output {
        if let (Self::ReportNeverNeeded, Output::Send { message, .. }) = (self, &mut output)
            && let ControllerMessage::Welcome(welcome) = message
        {
            welcome.report_needed = false;
        }
        output
    }
}
