//! The life of a process: signals, tasks, network and random ids.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{Exit, Failure, Network, defect};

/// How long the tasks may take to stop before the process ends all the same, in seconds. A client
/// that does not hear the goodbye takes all of it, and the whole stop has 5 s.
const STOP_SECONDS: u64 = 4;

/// How long the last tasks may take when the others took all of that.
const LAST: Duration = Duration::from_millis(250);

/// Owns every task of the process and ends them in order.
#[derive(Debug, Clone, Default)]
pub struct Life {
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Cancelled when those have ended, or had their time.
    quiet: CancellationToken,
    last: TaskTracker,
    network: Network,
}

impl Life {
    /// Starts listening for SIGTERM and SIGINT: the first stops the process in order, a second
    /// one at once.
    ///
    /// # Errors
    /// When the signals cannot be received.
    pub fn start() -> Result<Self, Failure> {
        let life = Self::default();
        let cannot = |error: std::io::Error| {
            Failure::because(Exit::Software, "cannot receive signals", &error)
        };
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let stop = life.stop.clone();
        // Not tracked: it must outlive every other task to hear the second signal.
        tokio::spawn(async move {
            for first in [true, false] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if !first {
                    std::process::exit(i32::from(Exit::Software.status()));
                }
                tracing::info!("stopping");
                stop.cancel();
            }
        });
        Ok(life)
    }

    /// A life on another network than the system's: that of a simulated host.
    pub fn on(network: Network) -> Self {
        Self {
            network,
            ..Self::default()
        }
    }

    /// The network that connections go out to.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Cancelled when the process shall end.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Asks the process to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Runs a task that ends when [`Life::stopping`] is cancelled. One that panics ends the process:
    /// without it the process would look well and be deaf to what the task was there for.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(or_end(task));
    }

    /// The same for a task that serves one connection: one that panics ends that connection only,
    /// so that nobody at the other end can end the process.
    pub fn spawn_connection<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// Cancelled when every other task has ended: nobody needs the last ones any more.
    pub fn quiet(&self) -> CancellationToken {
        self.quiet.clone()
    }

    /// Runs a task that others need until they end, such as one that waits for the disk. It ends
    /// when [`Life::quiet`] is cancelled.
    pub fn spawn_last<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.last.spawn(or_end(task));
    }

    /// Waits for the stop and then for every task, the last ones last, at most 4 s.
    pub async fn until_stopped(&self) {
        self.stop.cancelled().await;
        let end = Instant::now() + Duration::from_secs(STOP_SECONDS);
        self.tasks.close();
        if timeout_at(end, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "tasks did not end in time");
        }
        self.quiet.cancel();
        self.last.close();
        // What is under way has this long at least.
        let end = end.max(Instant::now() + LAST);
        if timeout_at(end, self.last.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.last.len(),
                "the last tasks did not end in time"
            );
        }
    }
}

/// A task that ends the process when it panics.
async fn or_end(task: impl Future<Output = ()>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        defect("a task panicked");
    }
}

/// Says on stdout, and to systemd if it asked, that everything listens.
pub fn ready(line: &str) {
    // Where nobody can be told, everything listens all the same.
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        tracing::warn!(%error, line, "stdout does not take the line");
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "systemd was not told that this process is ready");
    }
}

/// The operating system's randomness, for the jitter of the fleet's machines.
#[derive(Debug)]
pub struct SystemEntropy;

impl fleet::Entropy for SystemEntropy {
    fn next_u64(&mut self) -> u64 {
        rand::random()
    }
}

/// A random uuid (version 4).
pub fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Set in the process in which a task panics.
    const PANICS: &str = "TANDEM_TEST_TASK_PANICS";

    #[test]
    fn a_task_that_panics_ends_the_process() {
        if std::env::var_os(PANICS).is_some() {
            let runtime = tokio::runtime::Runtime::new().expect("threads");
            return runtime.block_on(async {
                let life = Life::default();
                life.spawn(async { panic!("a defect") });
                // Nobody asks for the end.
                life.until_stopped().await;
            });
        }
        let mut again = Command::new(std::env::current_exe().expect("this test"));
        again.args([
            "--exact",
            "life::tests::a_task_that_panics_ends_the_process",
        ]);
        let ended = again.env(PANICS, "").output().expect("it runs");
        assert_eq!(ended.status.code(), Some(70), "{ended:?}");
    }
}
