//! Waiting for a migration: a bar on a terminal, plain lines otherwise.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use api::fleet_v1::{Migration, MigrationState, SubcloudPeerGroup};
use indicatif::{ProgressBar, ProgressStyle};

use super::subcloud_peer_group::progress;
use crate::failure::Failure;
use crate::session::Session;

/// How often the controller is asked: members take a second or so each.
const INTERVAL: Duration = Duration::from_millis(500);

/// How often an answer may fail to come before giving up: half a minute, which outlasts the
/// restart of a controller.
const RETRIES: u32 = 60;

/// Follows the migration of a group, by its uuid, until it ends.
///
/// # Errors
/// There is no such group, or the controller stays away.
pub(super) async fn until_ended(
    session: &Session,
    group: String,
) -> Result<(SubcloudPeerGroup, Migration), Failure> {
    let mut shown = Shown::new();
    let mut failed = 0;
    loop {
        match progress(session, group.clone()).await {
            Ok((group, migration)) => {
                failed = 0;
                shown.tell(&group, &migration);
                if migration.state != MigrationState::Running as i32 {
                    shown.end();
                    return Ok((group, migration));
                }
            }
            Err(failure) if failure.is_not_found() || failed >= RETRIES => {
                shown.end();
                return Err(failure);
            }
            Err(_) => failed += 1,
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What the operator sees meanwhile, on standard error.
struct Shown {
    bar: Option<ProgressBar>,
    last: Option<[u32; 4]>,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, last: None }
    }

    fn tell(&mut self, group: &SubcloudPeerGroup, migration: &Migration) {
        let Migration {
            total,
            arrived,
            on_their_way,
            waiting,
            ..
        } = *migration;
        let counts = [total, arrived, on_their_way, waiting];
        if self.last == Some(counts) {
            return;
        }
        self.last = Some(counts);
        let words = format!("{on_their_way} on their way, {waiting} waiting");
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(group.name.clone());
                bar.set_length(u64::from(total));
                bar.set_position(u64::from(arrived));
                bar.set_message(words);
            }
            None => {
                let name = &group.name;
                let line = format!("{name}: {arrived} of {total} arrived: {words}\n");
                // A line that nobody can read changes nothing about the migration.
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
