//! One event of a site as text.

use api::site_v1::watch_site_response::Event;
use api::site_v1::{Effect, Site, SiteChange, WatchSiteResponse};
use serde_json::{Value, json};

use super::show;
use crate::answer;
use crate::failure::Failure;
use crate::output::{Format, printable};
use crate::session::promised;

/// Whole lines: one object for JSON, otherwise one line for a resync and for each effect.
///
/// # Errors
/// An event that lacks what the contract promises.
pub(crate) fn text(event: WatchSiteResponse, format: Format) -> Result<String, Failure> {
    let WatchSiteResponse { revision, event } = event;
    let event = promised(event, "event that this version knows")?;
    if format == Format::Json {
        return Ok(format!("{}\n", object(revision, event)?));
    }
    let line = |kind: &str, text: &str| {
        format!(
            "{revision:>4}  {:<20}  {}\n",
            printable(kind),
            printable(text)
        )
    };
    Ok(match event {
        Event::Resync(site) => line("RESYNC", &summary(&site)),
        Event::Change(SiteChange { effects, .. }) if effects.is_empty() => {
            line("CHANGED", "without effects")
        }
        Event::Change(SiteChange { effects, .. }) => effects
            .iter()
            .map(
                |Effect {
                     kind, description, ..
                 }| line(kind, description),
            )
            .collect(),
    })
}

/// The event with the keys of `site-show` and of a dry run. Revisions are texts, as in the JSON of
/// protobuf: many programs read numbers of this size inexactly.
fn object(revision: u64, event: Event) -> Result<Value, Failure> {
    Ok(match event {
        Event::Resync(site) => json!({
            "revision": revision.to_string(),
            "event": "resync",
            "site": show::body(site).machine(),
        }),
        Event::Change(SiteChange { effects, site }) => json!({
            "revision": revision.to_string(),
            "event": "change",
            "effects": answer::effects(effects).machine(),
            "site": show::body(promised(site, "site after the change")?).machine(),
        }),
    })
}

fn summary(site: &Site) -> String {
    let count = |number: usize, one: &str, many: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    };
    let parts = [
        format!("site {}", site.name),
        count(site.networks.len(), "network", "networks"),
        count(site.address_pools.len(), "address pool", "address pools"),
        count(site.hosts.len(), "host", "hosts"),
        count(site.alarms.len(), "alarm", "alarms"),
    ];
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn an_event_that_only_a_newer_daemon_knows_is_said_so() {
        let event = WatchSiteResponse {
            revision: 7,
            event: None,
        };
        let failure = text(event, Format::Table).expect_err("no event");
        assert_eq!(failure.exit, Exit::BadAnswer);
        assert!(failure.render(false).contains("tandem --version"));
    }

    #[test]
    fn a_name_cannot_break_a_line() {
        let site = Site {
            name: "a\nb\u{1b}[2J".to_owned(),
            ..Site::default()
        };
        let event = WatchSiteResponse {
            revision: 12_345,
            event: Some(Event::Resync(site)),
        };
        let text = text(event, Format::Table).expect("an event");
        assert_eq!(
            text,
            "12345  RESYNC                site a\\nb\\u{1b}[2J, 0 networks, 0 address pools, \
             0 hosts, 0 alarms\n"
        );
    }
}
