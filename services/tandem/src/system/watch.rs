//! `system watch` and `dcmanager watch`: follow a site or a fleet until they are interrupted.
//!
//! A stream that breaks is resumed after the last revision that was shown, so that a restart of
//! the daemon costs the reader nothing: the daemon tells what was missed, or a resync.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;

use api::fleet_v1::{WatchFleetRequest, WatchFleetResponse};
use api::site_v1::{WatchSiteRequest, WatchSiteResponse};
use clap::Args;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tonic::Streaming;

use super::site_event;
use crate::dcmanager::fleet_change_text;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Format;
use crate::session::{Target, call};
use crate::streams::Streams;

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The site of the daemon.
    Site,
    /// The fleet of a controller.
    Fleet,
}

/// What `watch` is given.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Watch {
    /// The last revision that is known already: later changes are shown, or the whole state when
    /// they are no longer kept. 0 begins with the whole state
    #[arg(long, value_name = "N", default_value_t = 0)]
    from_revision: u64,
    /// Tries to resume a broken stream before giving up, 0 to 100
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(0..=100)
    )]
    retries: u32,
}

/// The pause before the first try; each one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause: eight tries outlast the restart of a machine's daemon, about half a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A stream that stood as long as this was sound, even when the site did not change.
const SOUND: Duration = Duration::from_secs(10);

impl Watch {
    /// How the events are written.
    ///
    /// # Errors
    /// A format that has no form for events that come one by one.
    pub(crate) fn check(format: Format) -> Result<(), Failure> {
        match format {
            Format::Table | Format::Json => Ok(()),
            Format::Yaml | Format::Csv | Format::Value => Err(Failure::usage(
                "events that come one by one are written as lines or as JSON only",
                "leave --format out, or give --format json: one object a line",
            )),
        }
    }

    /// Shows events until SIGINT or SIGTERM, or until nobody reads them: `stdout` tells that
    /// between events too, so that `| grep -m 1 …` ends with the event that it waits for.
    ///
    /// # Errors
    /// The daemon cannot be reached at the start or for too long afterwards, refuses, or breaks
    /// the contract.
    pub(crate) async fn run(
        self,
        followed: Followed,
        target: &Target,
        format: Format,
        stdout: Option<OwnedFd>,
        streams: &mut Streams<'_>,
    ) -> Result<Exit, Failure> {
        let unheard = |fault| {
            let explanation = format!("the process cannot listen for signals: {fault}");
            Failure::unreachable(explanation, "raise the limit of open files (`ulimit -n`)")
        };
        let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
        let following = pin!(self.follow(followed, target, format, streams));
        tokio::select! {
            _ = interrupt.recv() => Ok(Exit::Success),
            _ = terminate.recv() => Ok(Exit::Success),
            () = unread(stdout) => Ok(Exit::Success),
            ended = following => ended,
        }
    }

    async fn follow(
        self,
        followed: Followed,
        target: &Target,
        format: Format,
        streams: &mut Streams<'_>,
    ) -> Result<Exit, Failure> {
        let mut resumption = Resumption {
            followed,
            target,
            last: self.from_revision,
            retries: self.retries,
            failed: 0,
        };
        let mut events = resumption.open().await?;
        loop {
            let opened = Instant::now();
            let broken = loop {
                match events.next().await {
                    Ok(event) => {
                        let revision = event.revision();
                        let exit = streams.answer(&event.text(format)?);
                        if exit != Exit::Success || streams.is_unread() {
                            return Ok(exit);
                        }
                        resumption.last = revision.unwrap_or(resumption.last);
                        resumption.failed = 0;
                    }
                    Err(broken) => break broken,
                }
            };
            if opened.elapsed() >= SOUND {
                resumption.failed = 0;
            }
            events = resumption.resume(broken, streams).await?;
        }
    }
}

/// Waits until the other end of a pipe is closed; for ever when this is no pipe.
async fn unread(output: Option<OwnedFd>) {
    // Unchecked, because the check would make the output of this process non-blocking.
    let pipe = output.and_then(|output| pipe::Sender::from_owned_fd_unchecked(output).ok());
    if let Some(pipe) = pipe
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// A stream of events.
enum Events {
    Site(Streaming<WatchSiteResponse>),
    Fleet(Streaming<WatchFleetResponse>),
}

/// An event.
enum Event {
    Site(Box<WatchSiteResponse>),
    Fleet(Box<WatchFleetResponse>),
}

impl Events {
    /// The next event; a stream never ends well.
    async fn next(&mut self) -> Result<Event, Failure> {
        let event = match self {
            Self::Site(events) => {
                let event = events.message().await;
                event.map(|event| event.map(Box::new).map(Event::Site))
            }
            Self::Fleet(events) => {
                let event = events.message().await;
                event.map(|event| event.map(Box::new).map(Event::Fleet))
            }
        };
        match event {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(Failure::stream_ended()),
            Err(status) => Err(Failure::of_stream(status)),
        }
    }
}

impl Event {
    /// Where to come back to; none when this is no such place.
    fn revision(&self) -> Option<u64> {
        match self {
            Self::Site(event) => Some(event.revision),
            Self::Fleet(event) => (event.revision != 0).then_some(event.revision),
        }
    }

    fn text(self, format: Format) -> Result<String, Failure> {
        match self {
            Self::Site(event) => site_event::text(*event, format),
            Self::Fleet(event) => fleet_change_text(*event, format),
        }
    }
}

/// What is needed to go on after a break.
struct Resumption<'run> {
    followed: Followed,
    target: &'run Target,
    /// The last revision that was shown.
    last: u64,
    /// Tries in a row that are allowed.
    retries: u32,
    /// Tries in a row that got nothing.
    failed: u32,
}

impl Resumption<'_> {
    /// A stream on a connection of its own: the old one may be what broke.
    async fn open(&self) -> Result<Events, Failure> {
        let session = self.target.session(false).await?;
        let from_revision = self.last;
        match self.followed {
            Followed::Site => {
                let request = WatchSiteRequest { from_revision };
                let mut client = session.endless_site();
                call(client.watch_site(request)).await.map(Events::Site)
            }
            Followed::Fleet => {
                let request = WatchFleetRequest { from_revision };
                let mut client = session.endless_subclouds();
                call(client.watch_fleet(request)).await.map(Events::Fleet)
            }
        }
    }

    /// Tries again with longer and longer pauses, and says so.
    async fn resume(
        &mut self,
        mut broken: Failure,
        streams: &mut Streams<'_>,
    ) -> Result<Events, Failure> {
        while broken.may_pass() {
            if self.failed >= self.retries {
                return Err(broken.given_up(self.failed, self.last));
            }
            let pause = pause(self.failed);
            self.failed += 1;
            streams.warning(&format!(
                "{}; try {} of {} to resume after revision {} in {pause:?}",
                broken.brief(),
                self.failed,
                self.retries,
                self.last,
            ));
            tokio::time::sleep(pause).await;
            match self.open().await {
                Ok(events) => {
                    streams.note(&format!("resumed after revision {}", self.last));
                    return Ok(events);
                }
                Err(failure) => broken = failure,
            }
        }
        Err(broken)
    }
}

/// The pause after `failed` tries in a row.
fn pause(failed: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failed);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pipe_is_unread_once_its_reader_is_gone_and_a_file_never_is() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut gone = pin!(unread(Some(writer.into())));
        let moment = Duration::from_millis(20);
        let early = tokio::time::timeout(moment, &mut gone).await;
        assert!(early.is_err(), "somebody reads");
        drop(reader);
        gone.await;
        let file = tempfile::tempfile().expect("a file");
        let never = tokio::time::timeout(moment, unread(Some(file.into()))).await;
        assert!(never.is_err(), "a file takes everything");
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<u128> = (0..8).map(|failed| pause(failed).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
