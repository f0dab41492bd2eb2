//! What a run takes from its surroundings.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};

/// The variables and terminals of a run, as values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    stdout_is_of_process: bool,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            stdout_is_of_process: true,
        }
    }

    /// An environment without terminals that has only these variables.
    pub fn of_variables<Name, Value>(variables: impl IntoIterator<Item = (Name, Value)>) -> Self
    where
        Name: Into<OsString>,
        Value: Into<OsString>,
    {
        let variables = variables.into_iter();
        Self {
            variables: variables
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            ..Self::default()
        }
    }

    /// The same environment with terminals as both outputs.
    #[must_use]
    pub fn on_terminals(self) -> Self {
        Self {
            stdout_is_terminal: true,
            stderr_is_terminal: true,
            ..self
        }
    }

    /// Another handle of the standard output of this process, to see whether it is still read;
    /// none when the output is not that of the process, or when there is none.
    pub(crate) fn stdout(&self) -> Option<OwnedFd> {
        let stdout = io::stdout();
        let handle = || stdout.as_fd().try_clone_to_owned().ok();
        self.stdout_is_of_process.then(handle).flatten()
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value)
    }

    /// Whether standard output is a terminal that wants colours.
    pub(crate) fn colour_on_stdout(&self) -> bool {
        self.stdout_is_terminal && self.wants_colour()
    }

    /// Whether standard error is a terminal that wants colours.
    pub(crate) fn colour_on_stderr(&self) -> bool {
        self.stderr_is_terminal && self.wants_colour()
    }

    /// <https://no-color.org>: any value but the empty one switches colours off.
    fn wants_colour(&self) -> bool {
        self.variable("NO_COLOR").is_none()
    }
}
