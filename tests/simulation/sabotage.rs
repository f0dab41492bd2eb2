//! Deliberately broken variants, made by tampering with what goes into and comes out of the real
//! machines. The simulation must catch each: that shows that it can catch something.

use fleet::{AgentMessage, Controller, ControllerMessage, Enrollment, Input, Output};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Answers and acknowledgements go out before the disk is done.
    AnswerBeforeDurable,
    /// A spent token is taken from any key.
    TokenNotSpent,
    /// The controller welcomes as if it had every report.
    ReportNeverNeeded,
    /// A key that was renewed is taken as if it were the present one.
    OldKeyTaken,
    /// An agent takes a command of an older term for one of its own.
    StaleObeyed,
    /// A site forgets which requests it has carried out.
    RequestForgotten,
    /// A rollout sends a command before the disk has that the step begins.
    StepBeforeDurable,
}

impl Sabotage {
    pub(crate) const ALL: [Self; 7] = [
        Self::AnswerBeforeDurable,
        Self::TokenNotSpent,
        Self::ReportNeverNeeded,
        Self::OldKeyTaken,
        Self::StaleObeyed,
        Self::RequestForgotten,
        Self::StepBeforeDurable,
    ];

    /// Tampers with what the controller is told.
    pub(crate) fn input(self, machine: Option<&Controller>, mut input: Input) -> Input {
        if let (Self::TokenNotSpent, Input::Enroll(call)) = (self, &mut input)
            && let Some(record) = machine.and_then(|machine| machine.fleet().by_token(call.token))
            && let Enrollment::Enrolled(enrolled) = &record.enrollment
        {
            call.key = enrolled.key;
        }
        if let (Self::OldKeyTaken, Input::LinkOpened { subcloud, key, .. }) = (self, &mut input)
            && let Some(record) = machine.and_then(|machine| machine.fleet().subcloud(*subcloud))
            && let Some(enrolled) = record.enrolled()
            && enrolled.renewal.superseded_at(*key).is_some()
        {
            *key = enrolled.key;
        }
        if let (Self::OldKeyTaken, Input::LinkMessage { link, message }) = (self, &mut input)
            && let AgentMessage::Hello(hello) = message
            && let Some(machine) = machine
        {
            let mut records = machine.fleet().subclouds();
            let spoken = records.find(|record| machine.presence(record.id).link == Some(*link));
            let enrolled = spoken.and_then(|record| record.enrolled());
            let count = enrolled.map_or(0, |enrolled| enrolled.renewal.count);
            hello.renewals = hello.renewals.max(count);
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
