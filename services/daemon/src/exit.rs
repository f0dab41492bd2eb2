//! How a daemon ends when it cannot do its work.

use std::error::Error;
use std::process::ExitCode;

/// Exit statuses, those of `sysexits.h` where one fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 2: the other side refused; the reasons are on stderr.
    Refused,
    /// 64: the command line or the configuration is wrong.
    Usage,
    /// 65: an input file is wrong.
    DataError,
    /// 66: an input file is not there, or may not be read.
    NoInput,
    /// 69: something that is needed is not there, such as an address to listen on.
    Unavailable,
    /// 70: a defect.
    Software,
    /// 74: the disk failed, or what is on it cannot be used.
    Io,
    /// 75: not now; try again later.
    TryAgain,
}

impl Exit {
    /// The number.
    pub fn status(self) -> u8 {
        match self {
            Self::Refused => 2,
            Self::Usage => 64,
            Self::DataError => 65,
            Self::NoInput => 66,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::Io => 74,
            Self::TryAgain => 75,
        }
    }
}

/// Why a daemon ends: an exit status and a text for stderr.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with a message that says what is wrong and what to do.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// A failure with the whole chain of causes of an error.
    pub fn because(exit: Exit, context: &str, error: &dyn Error) -> Self {
        Self::new(exit, format!("{context}: {}", chain(error)))
    }

    /// Prints the message on stderr and gives the status.
    pub fn report(&self) -> ExitCode {
        eprintln!("{}", self.message.trim_end());
        ExitCode::from(self.exit.status())
    }
}

/// Ends the process after a failed write: memory would be ahead of the disk, and a supervisor
/// that starts it again finds exactly what was acknowledged.
pub fn fatal(context: &str, error: &dyn Error) -> ! {
    tracing::error!(
        error = chain(error),
        "{context}; ending so that a restart finds what is durable"
    );
    std::process::exit(i32::from(Exit::Io.status()))
}

/// Ends the process after a defect: what it has in memory may be half changed. What is durable is
/// whole, and a supervisor that starts it again goes on from there.
pub fn defect(context: &str) -> ! {
    tracing::error!("{context}: a defect; ending so that a restart finds what is durable");
    std::process::exit(i32::from(Exit::Software.status()))
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// The version and the commit, as `--version` shows them.
pub const VERSION: &str = api::VERSION;

/// Prints what clap has to say: help and version on stdout, anything else on stderr.
pub fn usage(error: &clap::Error) -> ExitCode {
    if let Err(failed) = error.print() {
        eprintln!("{failed}");
    }
    if error.use_stderr() {
        ExitCode::from(Exit::Usage.status())
    } else {
        ExitCode::SUCCESS
    }
}
