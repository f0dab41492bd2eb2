//! What the tests share: real processes in temporary directories, the clients that operators use,
//! and waiting on a condition.
//!
//! Most tests need one machine only: [`cloud`] makes a controller and subclouds on the loopback
//! address. Those about addresses and routes put the same processes into the network namespaces
//! of [`lab`].

pub(crate) mod anyone;
pub(crate) mod bootstrap;
pub(crate) mod by_hand;
pub(crate) mod client;
pub(crate) mod cloud;
pub(crate) mod console;
pub(crate) mod crowd;
pub(crate) mod grpcurl;
pub(crate) mod lab;
pub(crate) mod process;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take that normally takes a fraction of a second; the machine may be
/// busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until there is an answer, and panics when there is none in time.
#[track_caller]
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "after {limit:?} still not: {what}"
        );
        pause(PAUSE);
    }
}

/// Waits until a condition holds, and panics when it does not in time.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}

/// Lets at least this time pass, for what must *not* happen meanwhile.
pub(crate) fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(rest) = until.checked_duration_since(Instant::now()) {
        // May return early; the loop sees to it.
        std::thread::park_timeout(rest);
    }
}

/// A temporary directory whose path is short enough for unix sockets in it.
pub(crate) fn scratch() -> TempDir {
    let made = tempfile::Builder::new().prefix("bb-").tempdir();
    made.expect("a temporary directory")
}

/// A path of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// How much is played: 1 normally, 10 with `TANDEM_TEST_SCALE=full`.
pub(crate) fn scale() -> u64 {
    match std::env::var("TANDEM_TEST_SCALE").as_deref() {
        Ok("full") => 10,
        _ => 1,
    }
}
