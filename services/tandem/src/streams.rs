//! Standard output and standard error of a run.

use std::io::{self, Write};

use crate::exit::Exit;
use crate::failure::{YELLOW, paint};
use crate::output::printable;

/// Where a run writes.
pub(crate) struct Streams<'run> {
    stdout: &'run mut dyn Write,
    stderr: &'run mut dyn Write,
    colour_on_stderr: bool,
    unread: bool,
}

impl<'run> Streams<'run> {
    /// The streams of a run; `colour_on_stderr` is for warnings.
    pub(crate) fn new(
        stdout: &'run mut dyn Write,
        stderr: &'run mut dyn Write,
        colour_on_stderr: bool,
    ) -> Self {
        Self {
            stdout,
            stderr,
            colour_on_stderr,
            unread: false,
        }
    }

    /// Writes the answer, or a part of it. A reader that has seen enough, as `head` does, is no
    /// failure.
    pub(crate) fn answer(&mut self, text: &str) -> Exit {
        let written = self.stdout.write_all(text.as_bytes());
        match written.and_then(|()| self.stdout.flush()) {
            Ok(()) => Exit::Success,
            Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => {
                self.unread = true;
                Exit::Success
            }
            Err(_) => Exit::Output,
        }
    }

    /// Whether the reader of standard output has gone away.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread
    }

    /// Writes lines to standard error. One that nobody can read changes nothing about the
    /// answer, and when writing fails there is no place left to say so.
    pub(crate) fn remark(&mut self, lines: &str) {
        let written = self.stderr.write_all(lines.as_bytes());
        drop(written.and_then(|()| self.stderr.flush()));
    }

    /// Writes one line of warning to standard error.
    pub(crate) fn warning(&mut self, text: &str) {
        let mark = paint("warning:", YELLOW, self.colour_on_stderr);
        self.remark(&format!("{mark} {}\n", printable(text)));
    }

    /// Writes one line to standard error.
    pub(crate) fn note(&mut self, text: &str) {
        self.remark(&format!("{}\n", printable(text)));
    }
}
