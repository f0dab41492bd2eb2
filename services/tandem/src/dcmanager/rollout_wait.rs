//! Waiting for a rollout: a bar on a terminal, plain lines otherwise.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use api::fleet_v1::watch_rollout_response::Event;
use api::fleet_v1::{
    Rollout, RolloutChange, RolloutState, RolloutTally, WatchRolloutRequest, WatchRolloutResponse,
};
use indicatif::{ProgressBar, ProgressStyle};
use tonic::Streaming;

use crate::failure::Failure;
use crate::session::{Session, call, promised};

/// How often a stream that broke is opened again before giving up: half a minute, which outlasts
/// the restart of a controller.
const RETRIES: u32 = 30;

/// The pause before each try.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows a rollout until it does nothing more by itself: finished, paused, or aborted and all
/// that had begun has ended.
///
/// # Errors
/// There is no such rollout, or the controller stays away.
pub(super) async fn until_quiet(session: &Session, number: u64) -> Result<Rollout, Failure> {
    let mut shown = Shown::new(number);
    let mut failed = 0;
    loop {
        let broken = match open(session, number).await {
            Ok(mut events) => loop {
                match events.message().await {
                    Ok(Some(event)) => {
                        failed = 0;
                        let rollout = rollout_of(event)?;
                        shown.tell(&rollout);
                        if is_quiet(&rollout) {
                            shown.end();
                            return Ok(rollout);
                        }
                    }
                    Ok(None) => break Failure::bad_answer("the stream of a rollout ended"),
                    Err(status) => break Failure::from(status),
                }
            },
            Err(failure) if failure.is_not_found() => return Err(failure),
            Err(failure) => failure,
        };
        failed += 1;
        if failed > RETRIES {
            shown.end();
            return Err(broken);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn open(session: &Session, number: u64) -> Result<Streaming<WatchRolloutResponse>, Failure> {
    let request = WatchRolloutRequest { number };
    call(session.endless_rollouts().watch_rollout(request)).await
}

fn rollout_of(event: WatchRolloutResponse) -> Result<Rollout, Failure> {
    let rollout = match event.event {
        Some(Event::Resync(rollout)) => Some(rollout),
        Some(Event::Change(RolloutChange { rollout, member: _ })) => rollout,
        None => None,
    };
    promised(rollout, "rollout")
}

fn is_quiet(rollout: &Rollout) -> bool {
    let RolloutTally {
        pending, in_flight, ..
    } = rollout.tally.unwrap_or_default();
    match RolloutState::try_from(rollout.state) {
        Ok(RolloutState::Finished) => true,
        Ok(RolloutState::Paused) => in_flight == 0,
        Ok(RolloutState::Aborted) => pending + in_flight == 0,
        Ok(RolloutState::Running | RolloutState::Unspecified) | Err(_) => false,
    }
}

/// What the operator sees meanwhile, on standard error.
struct Shown {
    number: u64,
    bar: Option<ProgressBar>,
    last: Option<RolloutTally>,
}

impl Shown {
    fn new(number: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(format!("rollout {number}"));
            bar
        });
        Self {
            number,
            bar,
            last: None,
        }
    }

    fn tell(&mut self, rollout: &Rollout) {
        let tally = rollout.tally.unwrap_or_default();
        if self.last == Some(tally) {
            return;
        }
        self.last = Some(tally);
        let RolloutTally {
            pending,
            in_flight,
            done,
            refused,
            failed,
            skipped,
        } = tally;
        let ended = done + refused + failed + skipped;
        let total = ended + pending + in_flight;
        let words = format!("{done} done, {refused} refused, {failed} failed, {skipped} skipped");
        match &self.bar {
            Some(bar) => {
                bar.set_length(u64::from(total));
                bar.set_position(u64::from(ended));
                bar.set_message(words);
            }
            None => {
                let line = format!("rollout {}: {ended} of {total}: {words}\n", self.number);
                // A line that nobody can read changes nothing about the rollout.
                drop(std::io::stderr().write_all(line.as_bytes()));
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}
