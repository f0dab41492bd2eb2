//! Quarantine: what a refused report means, and how a subcloud comes back by itself.
//!
//! Its own next report ends it. When it was another site's addresses or names that were in the
//! way, the fault may go without the subcloud doing anything: then its agent is asked to report
//! again. One of those in the way is enough to watch, for the report can only be accepted when
//! none is left; all that the refusal named are watched.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ControllerMessage, EventKind, LinkId, Rejection, SharedSubcloud, SubcloudId};

use super::{Batch, Controller, Deferred, Output};

/// Who waits for whom.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    /// Those whose last report over their live link was refused.
    held: BTreeMap<SubcloudId, BTreeSet<SubcloudId>>,
    /// The other way round: whom a change of a subcloud may set free.
    behind: BTreeMap<SubcloudId, BTreeSet<SubcloudId>>,
    /// Those that are to be asked again at the end of this step.
    again: BTreeSet<SubcloudId>,
}

impl Quarantine {
    fn hold(&mut self, id: SubcloudId, holders: BTreeSet<SubcloudId>) {
        self.release(id);
        for holder in &holders {
            self.behind.entry(*holder).or_default().insert(id);
        }
        self.held.insert(id, holders);
    }

    fn release(&mut self, id: SubcloudId) {
        self.again.remove(&id);
        for holder in self.held.remove(&id).unwrap_or_default() {
            if let Some(waiting) = self.behind.get_mut(&holder) {
                waiting.remove(&id);
                if waiting.is_empty() {
                    self.behind.remove(&holder);
                }
            }
        }
    }

    fn moved(&mut self, holder: SubcloudId) {
        let waiting = self.behind.get(&holder).into_iter().flatten();
        self.again.extend(waiting.copied());
    }
}

impl Controller {
    /// A record takes the place of another, or goes: tells of a quarantine that begins or ends,
    /// and asks those again that it was in the way of.
    pub(super) fn followed<'a>(
        &mut self,
        batch: &mut Batch,
        old: Option<&'a SharedSubcloud>,
        new: Option<&'a SharedSubcloud>,
    ) {
        let Some(id) = old.or(new).map(|record| record.id) else {
            return;
        };
        self.mark(id);
        let held = |record: Option<&'a SharedSubcloud>| record.and_then(|known| known.footprint());
        if old.is_some() && held(old) != held(new) {
            self.quarantine.moved(id);
        }
        let before = old.is_some_and(|record| record.quarantined());
        match new {
            None => self.quarantine.release(id),
            Some(record) if before && !record.quarantined() => {
                self.quarantine.release(id);
                let (now, name) = (record.updated_at, record.name.clone());
                self.log_event(batch, now, Some(id), &name, EventKind::Released);
            }
            Some(record) if !before && record.quarantined() => {
                let (now, name) = (record.updated_at, record.name.clone());
                self.log_event(batch, now, Some(id), &name, EventKind::Quarantined);
            }
            Some(_) => {}
        }
    }

    /// Watches whom a refused report collided with.
    pub(super) fn hold(&mut self, id: SubcloudId, rejection: &Rejection) {
        let objects = rejection
            .violations()
            .iter()
            .flat_map(|fault| &fault.objects);
        let named = objects.filter(|object| object.kind == "subcloud");
        let found = named.filter_map(|object| self.fleet.by_name(&object.name));
        let holders = found.map(|holder| holder.id).filter(|holder| *holder != id);
        let holders = holders.collect();
        self.quarantine.hold(id, holders);
    }

    /// The controller's own site changed: it may have been in anybody's way.
    pub(super) fn own_site_moved(&mut self) {
        let held: Vec<SubcloudId> = self.quarantine.held.keys().copied().collect();
        self.quarantine.again.extend(held);
    }

    /// The report came that an agent was asked for.
    pub(super) fn reported(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(&link) {
            state.asked = false;
        }
    }

    /// Asks agents to report again whose report may be right by now; one question at a time for
    /// each link, for the report is judged by what holds when it comes. A question behind a refusal
    /// that still waits for the disk waits as well: an agent that has its report on its way heeds
    /// none, and would keep to the refusal afterwards.
    pub(super) fn ask_again(&mut self, out: &mut Vec<Output>) {
        while let Some(id) = self.quarantine.again.pop_first() {
            let Some(link) = self.presence(id).link else {
                continue;
            };
            let Some(state) = self.links.get_mut(&link) else {
                continue;
            };
            if !state.greeted || std::mem::replace(&mut state.asked, true) {
                continue;
            }
            let message = ControllerMessage::ReportWanted;
            self.after_record(id, Deferred::Output(Output::Send { link, message }), out);
        }
    }
}
