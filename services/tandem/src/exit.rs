//! Exit statuses, after `sysexits.h` where it has a word for it.

use std::process::ExitCode;

/// How a run ended. The numbers are part of the interface of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The request was accepted.
    Success,
    /// The request was refused, or what was waited for did not come out as it was asked for; the
    /// reasons are on standard error.
    Refused,
    /// The command line is wrong; nothing was sent.
    Usage,
    /// A file that was given has a fault; nothing was sent.
    BadInput,
    /// A file that was given cannot be read; nothing was sent.
    NoInput,
    /// The daemon cannot be reached, or did not answer in time.
    Unavailable,
    /// The daemon's answer breaks the contract.
    BadAnswer,
    /// Writing the output failed.
    Output,
}

impl Exit {
    /// The number that the shell sees.
    pub fn status(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Refused => 1,
            Self::Usage => 64,
            Self::BadInput => 65,
            Self::NoInput => 66,
            Self::Unavailable => 69,
            Self::BadAnswer => 70,
            Self::Output => 74,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}
