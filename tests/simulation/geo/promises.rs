//! What was answered to operators must stay: it is on the disk when the answer goes out, it is
//! there after every crash, and what one site says of a subcloud is not lost to another unseen.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    Answer, FleetChange, PeerAction, PeerGroupId, PeerId, PeerReceipt, PeerSubject, Rejection,
    RequestId, Subcloud, SubcloudId,
};
use site::Timestamp;

use super::Geo;
use super::site::Durable;

/// What operators were promised so far.
#[derive(Debug, Default)]
pub(super) struct Promises {
    asked: BTreeMap<RequestId, Asked>,
    /// Since when, by the site's clock, a record of a site is at least what was answered.
    kept: BTreeMap<(usize, Kept), Timestamp>,
    /// The generation of the association that a site's operator deleted last: nothing up to it
    /// may take its place.
    deleted: BTreeMap<(usize, Kept), u64>,
    /// How often a site's operator asked to delete an association that is not yet gone.
    unwanted: BTreeMap<(usize, Kept), u32>,
    /// The newest text that a site acknowledged for a subcloud.
    told: BTreeMap<(usize, SubcloudId), u64>,
    /// When, in what order, operators said a text at a site.
    said: BTreeMap<(usize, u64), usize>,
    /// The texts of subclouds that were ever on a site's disk.
    seen: BTreeSet<(usize, SubcloudId, u64)>,
}

/// A call on its way.
#[derive(Debug, Clone)]
struct Asked {
    at: Timestamp,
    /// The subclouds, by name, whose records it changes beside the one that is answered.
    members: Vec<String>,
    /// What it deletes, and where.
    deletes: Option<(usize, Kept)>,
}

/// A record that an answer spoke of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    Peer(PeerId),
    Group(PeerGroupId),
    Association(PeerGroupId, PeerId),
    Subcloud(SubcloudId),
}

impl Kept {
    /// When the record on disk last changed; `None` when it is not there.
    fn changed(self, disk: &Durable) -> Option<Timestamp> {
        match self {
            Self::Peer(id) => disk.peers.get(&id).map(|known| known.updated_at),
            Self::Group(id) => disk.groups.get(&id).map(|known| known.updated_at),
            Self::Association(group, peer) => {
                let known = disk.associations.get(&(group, peer));
                let known = known.filter(|known| !known.withdrawn);
                known.map(|known| known.updated_at)
            }
            Self::Subcloud(id) => disk.subclouds.get(&id).map(|known| known.updated_at),
        }
    }
}

impl Promises {
    /// An operator says something of a subcloud at a site.
    pub(super) fn said(&mut self, site: usize, change: &FleetChange) {
        let FleetChange::Update { edit, .. } = change else {
            return;
        };
        let text = edit
            .description
            .as_deref()
            .and_then(|text| text.parse().ok());
        if let Some(text) = text {
            self.said.insert((site, text), self.said.len());
        }
    }

    /// Whether a site has on disk what an operator said there later: a crash may have kept it
    /// without an answer.
    fn said_later(&self, site: usize, id: SubcloudId, text: u64) -> bool {
        let when = |text: u64| self.said.get(&(site, text));
        let of_it = (site, id, u64::MIN)..=(site, id, u64::MAX);
        let mut seen = self.seen.range(of_it);
        seen.any(|(_, _, other)| when(*other) > when(text))
    }

    fn asked(
        &mut self,
        request: RequestId,
        action: &PeerAction,
        deletes: Option<(usize, Kept)>,
        at: Timestamp,
    ) {
        let members = match action {
            PeerAction::SetMembers { add, remove, .. } => {
                add.iter().chain(remove).cloned().collect()
            }
            _ => Vec::new(),
        };
        let asked = Asked {
            at,
            members,
            deletes,
        };
        self.asked.insert(request, asked);
    }

    pub(super) fn asked_fleet(&mut self, request: RequestId, at: Timestamp) {
        let asked = Asked {
            at,
            members: Vec::new(),
            deletes: None,
        };
        self.asked.insert(request, asked);
    }
}

impl Promises {
    /// An association is gone by an operator's word; all up to its generation stay so.
    fn delete(&mut self, what: (usize, Kept), generation: u64) {
        self.kept.remove(&what);
        let known = self.deleted.entry(what).or_default();
        *known = generation.max(*known);
    }
}

impl Geo {
    /// An operator asks something about peers or the group.
    pub(super) fn asked_peer(
        &mut self,
        index: usize,
        request: RequestId,
        action: &PeerAction,
        at: Timestamp,
    ) {
        let deletes = match action {
            PeerAction::Dissociate { group, peer } => {
                let machine = self.sites[index].machine.as_ref();
                machine.and_then(|machine| {
                    let mut groups = machine.peer_groups();
                    let group = groups.find(|known| known.header.name == *group)?;
                    let peer = machine.find_peer(peer)?;
                    Some((index, Kept::Association(group.id, peer.id)))
                })
            }
            _ => None,
        };
        let promises = &mut self.oracle.promises;
        if let Some(what) = deletes {
            *promises.unwanted.entry(what).or_default() += 1;
        }
        promises.asked(request, action, deletes, at);
    }

    /// Looks at what a write did to associations: each that was deleted stays so, and only one of a
    /// later generation takes its place; none is deleted unasked.
    pub(super) fn check_deleted(&mut self, index: usize) {
        let mut faults = Vec::new();
        let promises = &mut self.oracle.promises;
        for ((group, peer), known) in &self.sites[index].durable.associations {
            let what = (index, Kept::Association(*group, *peer));
            let before = promises.deleted.get(&what).copied();
            if before == Some(known.generation) && known.withdrawn {
                continue;
            }
            if before.is_some_and(|before| known.generation <= before) {
                faults.push(format!(
                    "site {index} shares the group with {peer} in generation {}, which is deleted",
                    known.generation
                ));
            }
            if known.withdrawn {
                match promises.unwanted.get_mut(&what) {
                    Some(asked) if *asked > 0 => *asked -= 1,
                    _ => faults.push(format!("site {index} leaves {peer} unasked")),
                }
                promises.delete(what, known.generation);
            }
        }
        for (site, gone) in promises.deleted.keys() {
            let Kept::Association(group, peer) = *gone else {
                continue;
            };
            let disk = &self.sites[*site].durable.associations;
            if *site == index && !disk.contains_key(&(group, peer)) {
                faults.push(format!("site {index} forgets that it left {peer}"));
            }
        }
        for fault in faults {
            self.fail(fault);
        }
    }

    /// A process ended: what it was asked to delete, and is not gone, is not deleted any more.
    pub(super) fn forget_wishes(&mut self, index: usize) {
        let unwanted = &mut self.oracle.promises.unwanted;
        unwanted.retain(|(site, _), _| *site != index);
    }

    /// An answer promises that what it says is on disk.
    pub(super) fn check_answer(
        &mut self,
        index: usize,
        request: RequestId,
        outcome: &Result<Answer, Rejection>,
    ) {
        let asked = self.oracle.promises.asked.remove(&request);
        let answer = match outcome {
            Ok(answer) => answer,
            Err(rejection) => {
                return self.note(150, || format!("site {index} refuses: {rejection}"));
            }
        };
        let Some(asked) = asked else {
            return;
        };
        match answer {
            Answer::Peer(receipt) => self.answered_peer(index, &asked, receipt),
            Answer::Subcloud(receipt) => self.answered_subcloud(index, &receipt.subcloud),
            Answer::Operator(_) | Answer::Noted | Answer::Group(_) => {}
        }
        self.check_kept(index);
    }

    fn answered_peer(&mut self, index: usize, asked: &Asked, receipt: &PeerReceipt) {
        let (kept, at) = match &receipt.subject {
            PeerSubject::Peer(peer) => (Kept::Peer(peer.id), peer.updated_at),
            PeerSubject::Group(group) => {
                let disk = &self.sites[index].durable.groups;
                let held = disk.get(&group.id);
                let newest = |held: &&fleet::PeerGroup| {
                    let move_of = |group: &fleet::PeerGroup| {
                        group.migration.as_ref().map(|known| known.started_at)
                    };
                    held.header.revision >= group.header.revision && move_of(held) >= move_of(group)
                };
                if held.filter(newest).is_none() {
                    self.fail(format!("site {index} answered what is not on disk"));
                }
                (Kept::Group(group.id), group.updated_at)
            }
            PeerSubject::Association(known) => {
                (Kept::Association(known.group, known.peer), known.updated_at)
            }
            PeerSubject::Subcloud(known) => (Kept::Subcloud(known.id), known.updated_at),
            PeerSubject::Card(_) => return,
        };
        if let PeerSubject::Association(known) = &receipt.subject {
            let deleted = self.oracle.promises.deleted.get(&(index, kept));
            let gone = deleted >= Some(&known.generation);
            if asked.deletes.is_some() && !gone {
                self.fail(format!(
                    "site {index} answers a deletion that is not on disk"
                ));
            }
            if asked.deletes.is_some() || gone {
                return;
            }
        }
        self.keep(index, kept, at);
        for name in &asked.members {
            let mut known = self.subclouds.iter();
            if let Some(node) = known.find(|node| node.name() == *name) {
                let id = node.id();
                self.keep(index, Kept::Subcloud(id), asked.at);
            }
        }
    }

    fn answered_subcloud(&mut self, index: usize, record: &Subcloud) {
        self.keep(index, Kept::Subcloud(record.id), record.updated_at);
        if let Some(text) = text_of(record) {
            self.oracle.promises.told.insert((index, record.id), text);
        }
    }

    fn keep(&mut self, index: usize, what: Kept, at: Timestamp) {
        let kept = &mut self.oracle.promises.kept;
        let known = kept.entry((index, what)).or_insert(at);
        *known = at.max(*known);
    }

    /// Nothing that was answered is missing from a site's disk.
    pub(super) fn check_kept(&mut self, index: usize) {
        let disk = &self.sites[index].durable;
        let kept = self.oracle.promises.kept.iter();
        let mut ours = kept.filter(|((site, _), _)| *site == index);
        let lost = ours.find(|((_, kept), at)| kept.changed(disk) < Some(**at));
        if let Some(((_, kept), at)) = lost {
            let why = format!(
                "site {index} lost what it answered about {kept:?} at {}",
                at.0
            );
            self.fail(why);
        }
    }

    /// Notes what a site's disk says of subclouds.
    pub(super) fn remember_texts(&mut self, index: usize) {
        for record in self.sites[index].durable.subclouds.values() {
            if let Some(text) = text_of(record) {
                self.oracle.promises.seen.insert((index, record.id, text));
            }
        }
    }

    /// What a site's operator said last of a subcloud is what its owner says, or another site took
    /// it in before it said something else, or the site shows it as a conflict. A site that does
    /// not share the group with the owner keeps what it has.
    pub(super) fn lost_texts(&self) -> Vec<String> {
        let mut lost = Vec::new();
        for ((site, id), text) in &self.oracle.promises.told {
            let owner = self.sites.iter().filter_map(|node| node.machine.as_ref());
            let mut owner = owner.filter_map(|machine| machine.fleet().subcloud(*id));
            let owned = owner.find(|record| record.owned_here());
            let said = owned.and_then(|record| text_of(record));
            let seen = |other: usize| {
                let seen = &self.oracle.promises.seen;
                other != *site && seen.contains(&(other, *id, *text))
            };
            let machine = self.sites[*site].machine.as_ref();
            let here = machine.and_then(|machine| machine.fleet().subcloud(*id));
            let kept = here.and_then(|record| text_of(record)) == Some(*text);
            let conflict = here.and_then(|record| record.geo.conflict.as_deref());
            let shown = conflict.is_some_and(|conflict| {
                let field = ("description".to_owned(), text.to_string());
                conflict.lost.contains(&field)
            });
            let taken_in = (0..self.sites.len()).any(seen);
            let replaced = self.oracle.promises.said_later(*site, *id, *text);
            if said != Some(*text) && !kept && !shown && !taken_in && !replaced {
                lost.push(format!(
                    "site {site} lost text {text} of {id} without a word"
                ));
            }
        }
        lost
    }
}

/// What operators said of a subcloud; each text is a number.
fn text_of(record: &Subcloud) -> Option<u64> {
    record.description.parse().ok()
}
