//! `system watch`: what happens to the site, a line each, until interrupted.

use std::io::{self, Write};
use std::time::Duration;

use api::site_v1::watch_site_response::Event;
use api::site_v1::{SiteChange, WatchSiteRequest, WatchSiteResponse};
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::{Code, Status, Streaming};

use crate::failure::Failure;
use crate::output::{Format, printable};
use crate::session::Session;

/// Attempts to come back to a daemon that is gone: with the pauses between them some 6 s, more
/// than a restart takes.
const ATTEMPTS: u32 = 6;

/// The pause before the first attempt to come back; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The site as it changes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tandem system watch --from-revision 12")]
pub(crate) struct WatchCommand {
    /// The last revision that was seen: later ones follow, or the whole site (RESYNC) when they
    /// are no longer known; 0 begins with the whole site
    #[arg(long, value_name = "N", default_value_t = 0)]
    from_revision: u64,
}

impl WatchCommand {
    /// Writes events until interrupted, and comes back after the daemon was away.
    ///
    /// # Errors
    /// A daemon that stays away or refuses, and an output that cannot be written.
    pub(crate) async fn run(
        self,
        session: &Session,
        format: Format,
        output: &mut dyn Write,
        remarks: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut interrupted = Interrupted::new()?;
        let mut seen = self.from_revision;
        let mut attempt = 0;
        loop {
            let lost = tokio::select! {
                () = interrupted.wait() => return Ok(()),
                ended = follow(session, &mut seen, &mut attempt, format, output) => ended?,
            };
            let Some(status) = lost else { return Ok(()) };
            if attempt == ATTEMPTS {
                return Err(status.into());
            }
            let said = printable(status.message());
            drop(writeln!(
                remarks,
                "note: the stream ended ({said}); resuming after {seen}"
            ));
            tokio::select! {
                () = interrupted.wait() => return Ok(()),
                () = tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(attempt)) => attempt += 1,
            }
        }
    }
}

/// Writes the events of one stream: `None` when nobody reads them any more, else why it ended.
async fn follow(
    session: &Session,
    seen: &mut u64,
    attempt: &mut u32,
    format: Format,
    output: &mut dyn Write,
) -> Result<Option<Status>, Failure> {
    let request = WatchSiteRequest {
        from_revision: *seen,
    };
    let mut stream: Streaming<WatchSiteResponse> =
        match session.watching().watch_site(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if passes(&status) => return Ok(Some(status)),
            Err(status) => return Err(status.into()),
        };
    loop {
        let event = match stream.message().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Some(Status::unavailable("the daemon ended it"))),
            Err(status) if passes(&status) => return Ok(Some(status)),
            Err(status) => return Err(status.into()),
        };
        (*seen, *attempt) = (event.revision, 0);
        match output
            .write_all(line(&event, format).as_bytes())
            .and_then(|()| output.flush())
        {
            Ok(()) => {}
            Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
            Err(fault) => return Err(Failure::output(&fault)),
        }
    }
}

/// Whether it is worth coming back: the daemon is away, or the stream broke or was too fast.
fn passes(status: &Status) -> bool {
    let passing = [
        Code::Unavailable,
        Code::ResourceExhausted,
        Code::Unknown,
        Code::Cancelled,
    ];
    passing.contains(&status.code())
}

/// An event: `REVISION KIND text`, a line for each effect, or one JSON object.
fn line(response: &WatchSiteResponse, format: Format) -> String {
    let WatchSiteResponse { revision, event } = response;
    let events: Vec<(&str, String)> = match event {
        Some(Event::Resync(site)) => {
            let (networks, pools) = (site.networks.len(), site.address_pools.len());
            let name = &site.name;
            vec![(
                "RESYNC",
                format!("site {name} has {networks} networks and {pools} pools"),
            )]
        }
        Some(Event::Change(SiteChange { effects, site: _ })) if effects.is_empty() => {
            vec![(
                "CHANGED",
                "the site changed, without effects beyond it".to_owned(),
            )]
        }
        Some(Event::Change(SiteChange { effects, site: _ })) => effects
            .iter()
            .map(|effect| (effect.kind.as_str(), effect.description.clone()))
            .collect(),
        None => vec![("UNKNOWN", "an event of a newer daemon".to_owned())],
    };
    if format == Format::Json {
        let events: Vec<_> = events
            .into_iter()
            .map(|(kind, text)| json!({ "kind": kind, "description": text }))
            .collect();
        return format!("{}\n", json!({ "revision": revision, "events": events }));
    }
    let show = |(kind, text): (&str, String)| {
        format!("{revision}  {}  {}\n", printable(kind), printable(&text))
    };
    events.into_iter().map(show).collect()
}

/// Ctrl-C and SIGTERM.
struct Interrupted(Signal, Signal);

impl Interrupted {
    fn new() -> Result<Self, Failure> {
        let failed =
            |fault: io::Error| Failure::unreachable(format!("no signals: {fault}"), "try again");
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        Ok(Self(
            interrupt,
            signal(SignalKind::terminate()).map_err(failed)?,
        ))
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}
