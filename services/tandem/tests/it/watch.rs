//! `system watch`: events as they come, streams that break, the ways in which it ends.

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::{PoisonError, RwLock, mpsc};
use std::thread;

use rustix::process::{Signal, getpid, kill_process};
use tandem_cli::{Environment, Exit};

use crate::daemon::{Daemon, QUIET};
use crate::run::{check, run, run_at};

/// A signal reaches every watch of this process: the test that sends one has it to itself.
static SIGNALS: RwLock<()> = RwLock::new(());

#[test]
fn events_and_streams_that_break() {
    let _calm = SIGNALS.read().unwrap_or_else(PoisonError::into_inner);
    check(
        "watch",
        &[
            "tandem system watch --retries 1",
            "tandem system watch --retries 0 --format json",
            "tandem system watch --from-revision 41",
            "system watch --from-revision 51",
            "tandem dcmanager watch --retries 1",
            "dcmanager watch --retries 0 --format json",
        ],
    );
}

#[test]
fn options_without_a_meaning_for_a_stream_are_refused_before_anything_is_sent() {
    let daemon = Daemon::start();
    for option in [
        "--format yaml",
        "--format csv",
        "--format value",
        "--column kind",
        "--dry-run",
        "--retries 101",
        "--from-revision -1",
    ] {
        let outcome = run_at(&daemon.endpoint(), &format!("system watch {option}"));
        assert_eq!(outcome.exit, Exit::Usage, "{option}: {}", outcome.stderr);
        assert_eq!(daemon.last_request(), "", "{option}");
    }
}

#[test]
fn a_daemon_that_is_not_there_at_the_start_is_said_so_at_once() {
    let outcome = run("system watch --endpoint unix:/nowhere/operator.sock");
    assert_eq!(outcome.exit, Exit::Unavailable);
    let start = "error: UNREACHABLE: no daemon answers at unix:/nowhere/operator.sock";
    assert!(outcome.stderr.starts_with(start), "{}", outcome.stderr);
}

/// A watch of a quiet site, whose standard output is `stdout`: its exit and standard error.
fn watch_quiet(endpoint: &str, stdout: &mut dyn Write) -> (Exit, String) {
    let environment = Environment::of_variables([("TANDEM_ENDPOINT", endpoint)]);
    let revision = QUIET.to_string();
    let words = ["system", "watch", "--from-revision", &revision].map(OsString::from);
    let mut stderr = Vec::new();
    let exit = tandem_cli::run(words, &environment, stdout, &mut stderr);
    (exit, String::from_utf8(stderr).expect("UTF-8"))
}

/// A reader that goes away after a number of lines, and what it does with each.
struct Reader<Take> {
    lines_left: usize,
    take: Take,
}

impl<Take: FnMut(&str)> Write for Reader<Take> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.lines_left.checked_sub(1) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        self.lines_left = left;
        (self.take)(std::str::from_utf8(bytes).expect("UTF-8"));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_watch_outlives_its_daemon_and_ends_with_its_reader() {
    let _calm = SIGNALS.read().unwrap_or_else(PoisonError::into_inner);
    let daemon = Daemon::start();
    let endpoint = daemon.endpoint();
    let (sent, received) = mpsc::channel();
    let watching = thread::spawn(move || {
        let take = |line: &str| sent.send(line.to_owned()).expect("the test reads");
        let mut reader = Reader {
            lines_left: 2,
            take,
        };
        watch_quiet(&endpoint, &mut reader)
    });
    let next = || received.recv().expect("a line");
    assert_eq!(next(), "  61  CHANGED               without effects\n");
    let daemon = daemon.restart();
    assert_eq!(next(), "  62  CHANGED               without effects\n");
    assert_eq!(
        daemon.last_request(),
        "WatchSiteRequest { from_revision: 61 }"
    );
    let daemon = daemon.restart();
    let (exit, stderr) = watching.join().expect("no panic");
    assert_eq!(exit, Exit::Success, "{stderr}");
    assert!(stderr.contains("resumed after revision 61\n"), "{stderr}");
    assert!(stderr.contains("resumed after revision 62\n"), "{stderr}");
    drop(daemon);
}

#[test]
fn a_signal_ends_a_watch_quietly() {
    let _alone = SIGNALS.write().unwrap_or_else(PoisonError::into_inner);
    let daemon = Daemon::start();
    for signal in [Signal::TERM, Signal::INT] {
        let take = |_: &str| kill_process(getpid(), signal).expect("a signal to this process");
        let mut reader = Reader {
            lines_left: 1,
            take,
        };
        let ended = watch_quiet(&daemon.endpoint(), &mut reader);
        assert_eq!(ended, (Exit::Success, String::new()));
    }
}
