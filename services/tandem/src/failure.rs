//! Why a run did not succeed, and how standard error says it.

use std::error::Error as _;
use std::fmt::Write as _;

use api::access::AccessReason;
use api::status::{Fault, Refusal};
use site::{MAX_VIOLATIONS, ReasonSet as _};
use tonic::{Code, Status};

use crate::exit::Exit;
use crate::output::printable;

/// A run that did not succeed: at least one fault, each with its remedy.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the run ends.
    pub(crate) exit: Exit,
    /// The class of the daemon's refusal; none when the fault is on this side.
    code: Option<Code>,
    /// What sums up several faults; empty when there is one.
    summary: String,
    faults: Vec<Fault>,
    /// How many faults there are; the daemon may have told only the first of them.
    count: usize,
    /// Lines that are ready to be shown and say everything; empty when there are `faults`.
    excerpt: String,
}

impl Failure {
    /// A wrong command line.
    pub(crate) fn usage(explanation: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::local(Exit::Usage, "USAGE", explanation, remedy)
    }

    /// A file that cannot be read.
    pub(crate) fn no_input(explanation: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::local(Exit::NoInput, "INPUT_UNREADABLE", explanation, remedy)
    }

    /// A file that cannot be written.
    pub(crate) fn unwritable(explanation: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::local(Exit::Output, "OUTPUT_UNWRITABLE", explanation, remedy)
    }

    /// A file whose content has a fault.
    pub(crate) fn bad_input(explanation: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::local(Exit::BadInput, "INPUT_INVALID", explanation, remedy)
    }

    /// A file whose faults are rendered already, each with its reason and remedy.
    pub(crate) fn bad_excerpt(excerpt: String) -> Self {
        Self {
            exit: Exit::BadInput,
            code: None,
            summary: String::new(),
            faults: Vec::new(),
            count: 0,
            excerpt,
        }
    }

    /// No connection to the daemon.
    pub(crate) fn unreachable(explanation: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::local(Exit::Unavailable, "UNREACHABLE", explanation, remedy)
    }

    /// No answer within the deadline.
    pub(crate) fn deadline(seconds: u64) -> Self {
        let explanation = format!("the daemon did not answer within {seconds} s");
        let remedy = "the outcome is not known: look at the present state with a list or show \
                      command before you repeat the change; if the daemon stays silent, read \
                      its log";
        Self::local(Exit::Unavailable, "DEADLINE_EXCEEDED", explanation, remedy)
    }

    /// A stream of events that the daemon ended.
    pub(crate) fn stream_ended() -> Self {
        Self::unreachable("the daemon ended the stream of events", STREAM_REMEDY)
    }

    /// A stream of events that broke, or that the daemon refused to go on with.
    pub(crate) fn of_stream(status: Status) -> Self {
        if let Some(cause) = broken_connection(&status) {
            let explanation = format!("the stream of events broke: {}", cause.text);
            return Self::unreachable(explanation, STREAM_REMEDY);
        }
        match status.code() {
            Code::Cancelled | Code::DeadlineExceeded => Self::stream_ended(),
            _ => status.into(),
        }
    }

    /// An answer that lacks what the contract promises.
    pub(crate) fn bad_answer(explanation: impl Into<String>) -> Self {
        let remedy = "compare the versions of the command line (`tandem --version`) and the daemon";
        Self::local(Exit::BadAnswer, "ANSWER_INVALID", explanation, remedy)
    }

    fn local(
        exit: Exit,
        reason: &str,
        explanation: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let fault = Fault {
            reason: reason.to_owned(),
            subject: String::new(),
            explanation: explanation.into(),
            remedy: remedy.into(),
        };
        Self {
            exit,
            code: None,
            summary: String::new(),
            faults: vec![fault],
            count: 1,
            excerpt: String::new(),
        }
    }

    /// Whether the daemon said that a named object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == Some(Code::NotFound)
    }

    /// Whether the same request may succeed soon without anybody doing anything about it.
    pub(crate) fn may_pass(&self) -> bool {
        let too_slow = AccessReason::WatcherTooSlow.name();
        self.exit == Exit::Unavailable || self.faults.iter().any(|fault| fault.reason == too_slow)
    }

    /// The end of a watch after `tries` that failed in a row.
    pub(crate) fn given_up(mut self, tries: u32, revision: u64) -> Self {
        self.exit = Exit::Unavailable;
        if let Some(fault) = self.faults.last_mut() {
            match tries {
                0 => {}
                1 => fault.explanation.push_str(" (gave up after one try)"),
                _ => fault.explanation += &format!(" (gave up after {tries} tries)"),
            }
            let resume = format!("watch again with --from-revision {revision}");
            fault.remedy = match fault.remedy.as_str() {
                "" => resume,
                remedy => format!("{remedy}; then {resume}"),
            };
        }
        self
    }

    /// The same, where the site of a subcloud was meant: what it advises acts on that site.
    #[must_use]
    pub(crate) fn at_subcloud(mut self, subcloud: &str) -> Self {
        for Fault { remedy, .. } in &mut self.faults {
            *remedy = site::advice_at(remedy, subcloud);
        }
        self
    }

    /// The reason and the explanation in one line.
    pub(crate) fn brief(&self) -> String {
        let said = |fault: &Fault| format!("{}: {}", fault.reason, fault.explanation);
        let faults: Vec<String> = self.faults.iter().map(said).collect();
        faults.join("; ")
    }

    /// How many faults there are, and how many of them are told.
    fn counted(&self) -> String {
        let Self { count, faults, .. } = self;
        // Where so many are wrong, the daemon stops looking.
        let least = if *count > MAX_VIOLATIONS {
            "at least "
        } else {
            ""
        };
        match faults.len() {
            told if told < *count => {
                format!("{least}{count} faults, the first {told} of them told")
            }
            _ => format!("{count} faults"),
        }
    }

    /// What standard error shows, with a line end.
    pub(crate) fn render(&self, colour: bool) -> String {
        let error = paint("error:", RED, colour);
        let remedy = paint("remedy:", BOLD, colour);
        let mut text = self.excerpt.clone();
        let several = self.count > 1;
        if several {
            let first = self.faults.first().map(|fault| fault.explanation.as_str());
            let summary = match first {
                // It says the first fault, which follows.
                Some(first) if self.summary.starts_with(first) => "",
                _ => &format!(": {}", printable(&self.summary)),
            };
            let faults = self.counted();
            line(&mut text, format_args!("{error} {faults}{summary}"));
        }
        for (index, fault) in self.faults.iter().enumerate() {
            let mark = if several {
                format!("  {}.", index + 1)
            } else {
                error.clone()
            };
            let Fault {
                reason,
                subject,
                explanation,
                remedy: advice,
            } = fault;
            let explanation = printable(explanation);
            if subject.is_empty() {
                line(
                    &mut text,
                    format_args!("{mark} {}: {explanation}", printable(reason)),
                );
            } else {
                let (reason, subject) = (printable(reason), printable(subject));
                line(
                    &mut text,
                    format_args!("{mark} {reason} ({subject}): {explanation}"),
                );
            }
            if !advice.is_empty() {
                let margin = if several { "     " } else { "  " };
                line(
                    &mut text,
                    format_args!("{margin}{remedy} {}", printable(advice)),
                );
            }
        }
        text
    }
}

/// What a daemon answered instead of a result.
impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let says_nothing = api::status::to_refusal(&status).reason.is_empty();
        if says_nothing && matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) {
            return Self::deadline(crate::session::CALL_DEADLINE.as_secs());
        }
        if let Some(cause) = broken_connection(&status) {
            return Self::unreachable(
                format!("the connection to the daemon broke: {}", cause.text),
                cause.remedy,
            );
        }
        let exit = match status.code() {
            Code::Unavailable | Code::DeadlineExceeded => Exit::Unavailable,
            _ => Exit::Refused,
        };
        let Refusal {
            reason,
            message,
            mut faults,
            count,
        } = api::status::to_refusal(&status);
        if faults.is_empty() {
            let known = !reason.is_empty();
            let reason = if known {
                reason
            } else {
                api::status::code_name(status.code()).to_owned()
            };
            faults.push(Fault {
                reason,
                subject: String::new(),
                explanation: message.clone(),
                remedy: general_remedy(status.code()).to_owned(),
            });
        }
        Self {
            exit,
            code: Some(status.code()),
            summary: message,
            count: count.max(faults.len()),
            faults,
            excerpt: String::new(),
        }
    }
}

/// What helps when events stop coming.
const STREAM_REMEDY: &str = "see whether the daemon runs, and read its log";

/// Bold red.
const RED: &str = "1;31";
/// Bold yellow.
pub(crate) const YELLOW: &str = "1;33";
/// Bold.
pub(crate) const BOLD: &str = "1";

/// `text` in a colour, where colours are wanted.
pub(crate) fn paint(text: &str, style: &str, colour: bool) -> String {
    if colour {
        format!("\u{1b}[{style}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// Adds a line; writing to a string cannot fail.
fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(content);
    debug_assert!(written.is_ok(), "a string takes every text");
    text.push('\n');
}

/// Why a connection failed.
struct Broken {
    text: String,
    remedy: &'static str,
}

/// The cause, when the status was made on this side because the connection failed.
fn broken_connection(status: &Status) -> Option<Broken> {
    let mut cause = status.source()?;
    let mut refused_by_tls = is_tls_alert(cause);
    while let Some(deeper) = cause.source() {
        cause = deeper;
        refused_by_tls |= is_tls_alert(cause);
    }
    let remedy = if refused_by_tls {
        "the daemon refused the operator's certificate: give one (--cert, --key) that its own CA \
         issued, that has not expired and that is not revoked"
    } else {
        "the outcome of a change is not known: look at the present state before you repeat it; \
         see whether the daemon runs and is a Tandem daemon"
    };
    Some(Broken {
        text: cause.to_string(),
        remedy,
    })
}

/// Whether the server refused what this side showed of itself.
fn is_tls_alert(cause: &(dyn std::error::Error + 'static)) -> bool {
    let fault = cause.downcast_ref::<std::io::Error>();
    fault.is_some_and(|fault| fault.kind() == crate::witness::ALERT)
}

/// What helps when the server does not say; empty when nothing general does.
fn general_remedy(code: Code) -> &'static str {
    match code {
        Code::Unimplemented => {
            "this daemon does not serve the command: `dcmanager` needs the endpoint of a system \
             controller, and both sides need the same version"
        }
        Code::Unauthenticated => {
            "give an operator's certificate with --cert and --key (TANDEM_CERT, TANDEM_KEY)"
        }
        Code::PermissionDenied => "use a certificate with a role that allows this",
        Code::Unavailable => "try again; if it stays so, read the daemon's log",
        Code::Internal | Code::Unknown | Code::DataLoss => "read the daemon's log",
        Code::NotFound => "look at the names with the matching list command",
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange => "",
    }
}
