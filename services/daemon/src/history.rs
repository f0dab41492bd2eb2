//! What watchers are told: every durable change of the site, in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use site::{Effect, Site};
use tokio::sync::{broadcast, watch};

/// Changes that a watcher may resume over: a reconnect after a short break, on a busy site.
const KEPT: usize = 256;

/// Changes that may wait for a slow watcher before it is cut off.
const WAITING: usize = 64;

/// One durable change.
#[derive(Debug)]
pub(crate) struct SiteEvent {
    /// The site after the change; its generation is the revision of the event.
    pub(crate) site: Arc<Site>,
    /// What the change did.
    pub(crate) effects: Vec<Effect>,
}

/// The latest changes, and those who wait for the next one.
#[derive(Debug)]
pub(crate) struct History {
    current: watch::Sender<Arc<Site>>,
    events: broadcast::Sender<Arc<SiteEvent>>,
    kept: VecDeque<Arc<SiteEvent>>,
    early: BTreeMap<u64, Arc<SiteEvent>>,
}

/// What a watcher gets first, and where the rest comes from.
#[derive(Debug)]
pub(crate) struct Watching {
    /// The whole site, when the changes since the asked revision are not known.
    pub(crate) resync: Option<Arc<Site>>,
    /// The changes since the asked revision.
    pub(crate) missed: Vec<Arc<SiteEvent>>,
    /// The changes to come.
    pub(crate) next: broadcast::Receiver<Arc<SiteEvent>>,
}

impl SiteEvent {
    fn revision(&self) -> u64 {
        self.site.generation().0
    }
}

impl History {
    /// Begins with the site as it is on disk.
    pub(crate) fn new(site: Arc<Site>) -> Self {
        Self {
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
        self.early.insert(event.revision(), Arc::new(event));
        while let Some(event) = self.early.remove(&(self.site().generation().0 + 1)) {
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
        let oldest = self
            .kept
            .front()
            .map_or(current.generation().0, |first| first.revision() - 1);
        if revision == 0 || revision < oldest || revision > current.generation().0 {
            return Watching {
                resync: Some(current),
                missed: Vec::new(),
                next,
            };
        }
        let missed = self.kept.iter().filter(|event| event.revision() > revision);
        Watching {
            resync: None,
            missed: missed.cloned().collect(),
            next,
        }
    }
}
