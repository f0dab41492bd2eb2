//! What watchers are told: every durable change of the site, in order.
//!
//! The generation of a site is not enough to resume by: a site that is restored from a backup has
//! an old one, and comes to the same numbers again by other changes. So a revision says in which
//! process it was told, and one of another process is answered by a resync.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use site::{Effect, Site, Timestamp};
use tokio::sync::{broadcast, watch};

/// Changes that a watcher may resume over: a reconnect after a short break, on a busy site.
const KEPT: usize = 256;

/// Changes that may wait for a slow watcher before it is cut off.
const WAITING: usize = 64;

/// A revision is the second in which its process started, then the generation of the site in so
/// many bits: processes are told apart unless the clock gives two of them one second, and a site
/// that changes a thousand times a second has numbers for weeks.
const GENERATION_BITS: u32 = 32;

/// The process that tells revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    started: u64,
}

impl Process {
    /// One that started at a moment.
    pub(crate) fn started(at: Timestamp) -> Self {
        let started = (at.0 / 1000) & u64::from(u32::MAX);
        Self { started }
    }

    /// How this process calls a state of the site.
    pub(crate) fn revision(self, site: &Site) -> u64 {
        (self.started << GENERATION_BITS) | site.generation().0
    }

    /// The generation of a revision of this process.
    fn generation(self, revision: u64) -> Option<u64> {
        let ours = revision >> GENERATION_BITS == self.started;
        ours.then_some(revision & u64::from(u32::MAX))
    }
}

/// One durable change.
#[derive(Debug)]
pub(crate) struct SiteEvent {
    /// The site after the change.
    pub(crate) site: Arc<Site>,
    /// What the change did.
    pub(crate) effects: Vec<Effect>,
}

/// The latest changes, and those who wait for the next one.
#[derive(Debug)]
pub(crate) struct History {
    process: Process,
    current: watch::Sender<Arc<Site>>,
    events: broadcast::Sender<Arc<SiteEvent>>,
    kept: VecDeque<Arc<SiteEvent>>,
    early: BTreeMap<u64, Arc<SiteEvent>>,
}

/// What a watcher gets first, and where the rest comes from.
#[derive(Debug)]
pub(crate) struct Watching {
    /// Who tells it.
    pub(crate) process: Process,
    /// The whole site, when the changes since the asked revision are not known.
    pub(crate) resync: Option<Arc<Site>>,
    /// The changes since the asked revision.
    pub(crate) missed: Vec<Arc<SiteEvent>>,
    /// The changes to come.
    pub(crate) next: broadcast::Receiver<Arc<SiteEvent>>,
}

impl SiteEvent {
    fn generation(&self) -> u64 {
        self.site.generation().0
    }
}

impl History {
    /// Begins with the site as it is on disk.
    pub(crate) fn new(site: Arc<Site>, process: Process) -> Self {
        Self {
            process,
            current: watch::Sender::new(site),
            events: broadcast::Sender::new(WAITING),
            kept: VecDeque::new(),
            early: BTreeMap::new(),
        }
    }

    /// The site as it is on disk.
    pub(crate) fn site(&self) -> Arc<Site> {
        Arc::clone(&self.current.borrow())
    }

    /// Tells every durable change; intermediate ones may be skipped.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Site>> {
        self.current.subscribe()
    }

    /// A change is durable. Its predecessors are too, but who waits for them may come later, so
    /// an early one is held back until its turn.
    pub(crate) fn publish(&mut self, event: SiteEvent) {
        self.early.insert(event.generation(), Arc::new(event));
        while let Some(event) = self.early.remove(&self.site().generation().next().0) {
            self.current.send_replace(Arc::clone(&event.site));
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(Arc::clone(&event));
            if self.events.send(event).is_err() {
                tracing::trace!("nobody watches the site");
            }
        }
    }

    /// Begins to watch after a revision; 0 asks for a resync.
    pub(crate) fn watch_from(&self, revision: u64) -> Watching {
        let next = self.events.subscribe();
        let current = self.site();
        let newest = current.generation().0;
        let oldest = self
            .kept
            .front()
            .map_or(newest, |first| first.generation() - 1);
        let seen = self.process.generation(revision);
        let seen = seen.filter(|seen| revision != 0 && (oldest..=newest).contains(seen));
        let later = |event: &&Arc<SiteEvent>| seen.is_some_and(|seen| event.generation() > seen);
        Watching {
            process: self.process,
            resync: seen.is_none().then_some(current),
            missed: self.kept.iter().filter(later).cloned().collect(),
            next,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use site::{Administrative, Change, Site, bootstrap, plan};

    use super::*;

    /// The site of an example.
    pub(crate) fn site() -> Site {
        let file = include_bytes!("../../../deploy/examples/subcloud-v6-dual.yaml");
        let declared = bootstrap::parse("example", file).expect("a sound file");
        let mut number = 0;
        let mut ids = || {
            number += 1;
            uuid::Uuid::from_u128(number)
        };
        declared.install(&mut ids).expect("a sound site")
    }

    fn history(started: u64, site: Site) -> History {
        History::new(Arc::new(site), Process::started(Timestamp(started)))
    }

    /// Changes the site so many times.
    fn change(history: &mut History, times: usize) {
        for _ in 0..times {
            let before = history.site();
            let host = before.hosts().next().expect("a host");
            let hostname = host.hostname.clone();
            let change = match host.administrative {
                Administrative::Locked => Change::UnlockHost { hostname },
                Administrative::Unlocked => Change::LockHost { hostname },
            };
            let plan = plan(&before, change, Timestamp(0)).expect("a sound change");
            let site = Arc::new(plan.into_site());
            let effects = Vec::new();
            history.publish(SiteEvent { site, effects });
        }
    }

    /// How many changes are told after a revision; none when it begins with a resync.
    fn told(history: &History, revision: u64) -> Option<usize> {
        let Watching { resync, missed, .. } = history.watch_from(revision);
        resync.is_none().then_some(missed.len())
    }

    #[test]
    fn a_watcher_resumes_within_a_process_only() {
        let mut history = history(7_000, site());
        let revision = |history: &History| history.process.revision(&history.site());
        let first = revision(&history);
        change(&mut history, 4);
        let last = revision(&history);
        assert_eq!(told(&history, 0), None);
        assert_eq!(told(&history, first), Some(4));
        assert_eq!(told(&history, last), Some(0));
        assert_eq!(told(&history, last + 1), None, "a revision to come");
        assert_eq!(told(&history, first - 1), None, "before the first");
        assert_eq!(
            told(&history, history.site().generation().0),
            None,
            "no process"
        );

        // The site is restored, and comes to the same generation by other changes.
        let mut restored = self::history(9_000, site());
        change(&mut restored, 4);
        assert_eq!(restored.site().generation(), history.site().generation());
        assert_eq!(told(&restored, last), None);
        assert!(revision(&restored) > last);
    }
}
