//! Processes: commands that end by themselves, and daemons that are ended.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, wait_for};

/// No command takes longer; `enroll` itself gives up after 20 s.
const LONGEST: Duration = Duration::from_secs(120);

/// How many lines of a log are shown when a test fails.
const TAIL: usize = 30;

/// A program of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Controller,
    Agent,
    Tandem,
}

impl Program {
    /// Every program.
    pub(crate) const ALL: [Self; 3] = [Self::Controller, Self::Agent, Self::Tandem];

    /// Where cargo built it.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Controller => env!("CARGO_BIN_EXE_system-controller"),
            Self::Agent => env!("CARGO_BIN_EXE_subcloud-agent"),
            Self::Tandem => env!("CARGO_BIN_EXE_tandem"),
        }
    }

    /// A command that runs it on this machine.
    pub(crate) fn command(self) -> Command {
        Command::new(self.path())
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Panics with everything it said unless it ended with this status.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{stdout}\nstderr:\n{stderr}"
        );
        self
    }

    /// Panics unless stderr has this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "no `{text}` in stderr:\n{}",
            self.stderr
        );
        self
    }

    /// The answer of `--format json`.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in stdout:\n{}", self.stdout))
    }
}

/// A command that runs beside the test; ended when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a command with this text on its standard input.
    pub(crate) fn start(mut command: Command, input: &str) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        let mut stdin = child.stdin.take().expect("a piped standard input");
        // A program that does not read its input may be gone already.
        drop(stdin.write_all(input.as_bytes()));
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        let ended = self.child.try_wait();
        ended.expect("the state of a child").is_none()
    }

    /// Ends it at once, as a failing machine does.
    pub(crate) fn kill(mut self) -> Output {
        drop(self.child.kill());
        self.end()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn output(mut self) -> Output {
        wait_for("the command ends", LONGEST, || {
            (!self.is_running()).then_some(())
        });
        self.end()
    }

    fn end(&mut self) -> Output {
        let status = self.child.wait().expect("the status of a child");
        let text = |reader: Option<JoinHandle<String>>| {
            let read = reader.map(JoinHandle::join).transpose();
            read.ok().flatten().unwrap_or_default()
        };
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        Output {
            code: status.code(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: Command) -> Output {
    Running::start(command, "").output()
}

/// A process that says `ready` and serves until it is ended; killed when dropped, after a panic
/// too, and then the end of its log is shown.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    name: String,
    log: PathBuf,
    pub(crate) ready: Ready,
}

impl Daemon {
    /// Starts a daemon and waits until it is ready; its stderr is added to `log`.
    #[track_caller]
    pub(crate) fn start(command: Command, log: &Path) -> Self {
        Self::try_start(command, log)
            .unwrap_or_else(|output| panic!("not ready, but ended: {output:?}"))
    }

    /// As [`Daemon::start`]; how it ended when it ends before it is ready.
    #[track_caller]
    pub(crate) fn try_start(mut command: Command, log: &Path) -> Result<Self, Output> {
        let name = format!("{command:?}");
        let opened = File::options().create(true).append(true).open(log);
        let stderr = opened.expect("a log file");
        let before = stderr.metadata().expect("the size of a log").len();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let child = spawn(&mut command);
        let mut daemon = Self {
            child,
            name,
            log: log.to_owned(),
            ready: Ready::default(),
        };
        match daemon.first_line() {
            Some(line) => {
                daemon.ready = Ready::parse(&line);
                Ok(daemon)
            }
            None => {
                let code = daemon.wait().code();
                let all = daemon.log_text();
                let from = usize::try_from(before).expect("a small log");
                let stderr = all.get(from..).unwrap_or_default().to_owned();
                Err(Output {
                    code,
                    stdout: String::new(),
                    stderr,
                })
            }
        }
    }

    /// The first line of its stdout; `None` when it ends without one.
    #[track_caller]
    fn first_line(&mut self) -> Option<String> {
        let stdout = self.child.stdout.take().expect("a piped standard output");
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        match receive.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("not ready after {PATIENCE:?}"),
        }
    }

    /// Everything it logged, in earlier lives too when they had the same log.
    pub(crate) fn log_text(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still serves.
    pub(crate) fn is_running(&mut self) -> bool {
        let ended = self.child.try_wait();
        ended.expect("the state of a child").is_none()
    }

    /// `kill -9`: the process gets no chance to write anything more.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a process that can be killed");
        self.wait();
    }

    /// Waits until it ends by itself; its status.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Option<i32> {
        let ended = || self.child.try_wait().expect("the state of a child");
        wait_for("the daemon ends", PATIENCE, ended).code()
    }

    /// SIGTERM: it ends within 5 s, with status 0.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        let since = Instant::now();
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let told = kill_process(id.expect("a process id"), Signal::TERM);
        told.expect("a process that can be told to end");
        let status = wait_for("the daemon ends", PATIENCE, || {
            self.child.try_wait().expect("the state of a child")
        });
        let time = since.elapsed();
        assert!(status.success(), "ended with {status}");
        assert!(time < Duration::from_secs(5), "took {time:?} to end");
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the status of a child")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let text = self.log_text();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!(
                "---- the log of {} ends with:\n{}",
                self.name,
                tail.join("\n")
            );
        }
    }
}

/// What the `ready` line tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The operators' unix socket.
    pub(crate) socket: PathBuf,
    /// `ADDR:PORT` of the operators' TCP listeners.
    pub(crate) operators: Vec<String>,
    /// A controller: `ADDR:PORT` of its link. An agent: the URL that it goes to; may be empty.
    pub(crate) link: String,
    /// `ADDR:PORT` of the consoles.
    pub(crate) consoles: Vec<String>,
}

impl Ready {
    #[track_caller]
    fn parse(line: &str) -> Self {
        let words = line
            .strip_prefix("ready ")
            .unwrap_or_else(|| panic!("no ready line: {line}"));
        let mut ready = Self::default();
        for word in words.split(' ') {
            let (key, value) = word.split_once('=').expect("KEY=VALUE");
            let values = value.split(',').filter(|value| !value.is_empty());
            match key {
                "operator" => {
                    for endpoint in values {
                        match (
                            endpoint.strip_prefix("unix:"),
                            endpoint.strip_prefix("https://"),
                        ) {
                            (Some(path), _) => ready.socket = path.into(),
                            (_, Some(address)) => ready.operators.push(address.to_owned()),
                            _ => panic!("an endpoint of another kind: {endpoint}"),
                        }
                    }
                }
                "link" => ready.link = value.to_owned(),
                "console" => ready.consoles = values.map(str::to_owned).collect(),
                _ => panic!("the ready line has an unknown word: {word}"),
            }
        }
        ready
    }
}

/// Starts a process that `tests/run` can tell from others, should it ever be left behind.
fn spawn(command: &mut Command) -> Child {
    command.env("TANDEM_LAB_MEMBER", std::env::temp_dir().join("blackbox"));
    command.env_remove("TANDEM_ENDPOINT");
    let spawned = command.spawn();
    spawned.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
