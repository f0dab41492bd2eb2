//! Operators' calls: each is judged first, by `peering` or `groups`, and then made.

mod groups;
mod peering;

use std::sync::Arc;

use site::Timestamp;

use crate::{
    Action, Association, Fault, Outcome, PeerAction, PeerCall, PeerGoodbye, PeerGroup, PeerId,
    PeerOutput, PeerReceipt, PeerSubject, Reason, Rejection, SharedSubcloud, Subcloud, SystemPeer,
    Violation, subcloud_not_found,
};

use super::super::operate::check_etag;
use super::super::{Answer, Batch, Controller, Deed, Deferred, Output};
pub(super) use groups::invalid_place;

/// What an accepted call changes.
enum Change {
    Peer(SystemPeer),
    ForgetPeer(SystemPeer),
    Group(PeerGroup),
    ForgetGroup(PeerGroup),
    Members(PeerGroup, Vec<Subcloud>),
    Associate(Association),
    UpdateAssociation(PeerGroup, Association),
    Dissociate(Association),
    Sync(Association),
    Subcloud(Box<Subcloud>),
    Migrate(PeerGroup),
}

type Judged = Result<Change, Rejection>;
impl Controller {
    pub(super) fn peer_call(&mut self, now: Timestamp, call: PeerCall, out: &mut Vec<Output>) {
        let PeerCall {
            request,
            actor,
            action,
            etag,
            key,
            validate_only,
        } = call;
        if let Some(busy) = self.busy().filter(|_| !validate_only) {
            // Without an entry in the audit log: that is one more write.
            let outcome = Err(Rejection::one(busy));
            return self.after_all(Deferred::Output(Output::Answer { request, outcome }), out);
        }
        let judged = match self.answered_before(now, key.as_ref(), validate_only) {
            Ok(Some(answer)) => {
                let outcome = Ok(answer);
                self.after_all(Deferred::Output(Output::Answer { request, outcome }), out);
                return;
            }
            Ok(None) => self.judge_call(now, &action, &etag),
            Err(rejection) => Err(rejection),
        };
        let mut batch = Batch::default();
        let outcome = judged.map(|change| {
            let subject = subject(&change);
            if !validate_only {
                self.make(now, change, &mut batch, out);
            }
            PeerReceipt {
                subject,
                warnings: Vec::new(),
            }
        });
        if !validate_only {
            let (action, name) = deed_of(&action);
            let deed = Deed {
                actor,
                action,
                subcloud: None,
                name: &name,
                outcome: outcome_of(&outcome, String::new()),
            };
            self.log_audit(&mut batch, now, deed);
        }
        let outcome = outcome.map(|receipt| Answer::Peer(Box::new(receipt)));
        if let (Ok(answer), false) = (&outcome, validate_only) {
            self.keep_answer(now, &mut batch, key, answer);
        }
        self.conclude_call(batch, Output::Answer { request, outcome }, out);
    }

    fn conclude_call(&mut self, mut batch: Batch, answer: Output, out: &mut Vec<Output>) {
        if batch.writes.is_empty() {
            self.after_all(Deferred::Output(answer), out);
        } else {
            batch.then.push(Deferred::Output(answer));
            self.commit(batch, out);
        }
    }

    fn judge_call(&self, now: Timestamp, action: &PeerAction, etag: &str) -> Judged {
        match action {
            PeerAction::IssuePeering {
                id,
                name,
                token,
                settings,
            } => self.judge_issue(now, *id, name, token, *settings),
            PeerAction::AddPeer {
                id,
                name,
                settings,
                card,
            } => self.judge_add_peer(now, *id, name, *settings, card),
            PeerAction::UpdatePeer { peer, edit } => self.judge_update_peer(now, peer, *edit, etag),
            PeerAction::DeletePeer { peer } => self.judge_delete_peer(peer, etag),
            PeerAction::AddGroup {
                id,
                name,
                priority,
                max_subcloud_rehoming,
            } => self.judge_add_peer_group(now, *id, name, *priority, *max_subcloud_rehoming),
            PeerAction::UpdateGroup {
                group,
                priority,
                max_subcloud_rehoming,
            } => {
                let place = (*priority, *max_subcloud_rehoming);
                self.judge_update_peer_group(now, group, place, etag)
            }
            PeerAction::DeleteGroup { group } => self.judge_delete_peer_group(group, etag),
            PeerAction::SetMembers { group, add, remove } => {
                self.judge_members(now, group, add, remove)
            }
            PeerAction::SetGateways { subcloud, gateways } => {
                self.judge_gateways(now, subcloud, gateways)
            }
            PeerAction::Associate {
                group,
                peer,
                peer_priority,
            } => self.judge_associate(now, group, peer, *peer_priority),
            PeerAction::UpdateAssociation {
                group,
                peer,
                peer_priority,
            } => self.judge_update_association(now, (group, peer), *peer_priority, etag),
            PeerAction::Dissociate { group, peer } => {
                let known = self.association_named(group, peer)?;
                check_etag(("peer group association", group), etag, &known.etag())?;
                Ok(Change::Dissociate(known.clone()))
            }
            PeerAction::SyncAssociation { group, peer } => {
                Ok(Change::Sync(self.association_named(group, peer)?.clone()))
            }
            PeerAction::Migrate { group } => self.judge_migrate(now, group),
            PeerAction::DismissConflict { subcloud } => {
                let mut changed = Subcloud::clone(self.subcloud_named(subcloud)?);
                changed.geo.conflict = None;
                changed.updated_at = now;
                Ok(Change::Subcloud(Box::new(changed)))
            }
        }
    }

    fn make(&mut self, now: Timestamp, change: Change, batch: &mut Batch, out: &mut Vec<Output>) {
        match change {
            Change::Peer(peer) => self.make_peer(now, peer, batch, out),
            Change::ForgetPeer(peer) => self.make_no_peer(now, &peer, batch, out),
            Change::Group(group) => self.put_group(batch, group),
            Change::ForgetGroup(group) => {
                batch
                    .writes
                    .push(super::super::Write::ForgetPeerGroup(group.id));
                self.peers.groups.remove(&group.id);
                self.peers.told.remove(&group.id);
                self.peers.moving.remove(&group.id);
                self.peers.due.alarms = true;
            }
            Change::Members(group, members) => {
                if members.iter().any(|member| member.geo.group.is_none()) {
                    self.read_anew(now, group.id, None, batch);
                }
                for member in members {
                    self.put(batch, member);
                }
            }
            Change::Associate(association) => {
                let group = association.group;
                self.put_association(batch, association);
                self.group_touched(group);
            }
            Change::UpdateAssociation(group, association) => {
                self.put_association(batch, association);
                self.put_group(batch, group);
            }
            Change::Dissociate(association) => {
                let peer = association.peer;
                self.withdraw(now, batch, association);
                if let Some(link) = self.ready_link(peer) {
                    // It tells the peer what is no longer shared.
                    self.offer_all(link, peer, out);
                }
            }
            Change::Sync(association) => {
                let key = (association.group, association.peer);
                self.forget_said(key);
                self.group_touched(key.0);
            }
            Change::Subcloud(subcloud) => {
                self.put(batch, *subcloud);
            }
            Change::Migrate(group) => {
                let id = group.id;
                self.put_group(batch, group);
                self.begin_move(now, id);
            }
        }
    }

    fn make_peer(
        &mut self,
        now: Timestamp,
        peer: SystemPeer,
        batch: &mut Batch,
        out: &mut Vec<Output>,
    ) {
        let id = peer.id;
        let enabled = peer.enabled();
        let before = self.peers.peers.get(&id);
        let known = before.and_then(|peer| peer.established()).is_some();
        let was_enabled = before.is_some_and(SystemPeer::enabled);
        let established = peer.established().is_some();
        self.put_peer(batch, peer);
        if established && (!known || enabled != was_enabled) {
            out.push(Output::Peer(PeerOutput::TrustChanged));
            self.end_contact(now, id, PeerGoodbye::Disabled, out);
            if enabled {
                self.await_peer(now, id);
            }
        }
    }

    fn make_no_peer(
        &mut self,
        now: Timestamp,
        peer: &SystemPeer,
        batch: &mut Batch,
        out: &mut Vec<Output>,
    ) {
        batch.writes.push(super::super::Write::ForgetPeer(peer.id));
        self.forget_all_withdrawn(batch, peer.id);
        self.end_contact(now, peer.id, PeerGoodbye::Unknown, out);
        self.peers.peers.remove(&peer.id);
        self.peers.due.alarms = true;
        out.push(Output::Peer(PeerOutput::TrustChanged));
    }

    fn end_contact(
        &mut self,
        now: Timestamp,
        id: PeerId,
        goodbye: PeerGoodbye,
        out: &mut Vec<Output>,
    ) {
        if let Some(link) = self
            .peers
            .contacts
            .get(&id)
            .and_then(|contact| contact.link)
        {
            self.close_peer(now, link, goodbye, out);
        }
        self.forget_contact(id);
    }

    fn peer_named(&self, reference: &str) -> Result<&SystemPeer, Rejection> {
        let unknown = || Rejection::one(system_peer_not_found(reference));
        self.find_peer(reference).ok_or_else(unknown)
    }

    fn group_named(&self, reference: &str) -> Result<&PeerGroup, Rejection> {
        let unknown = || Rejection::one(peer_group_not_found(reference));
        self.find_group(reference).ok_or_else(unknown)
    }

    fn subcloud_named(&self, reference: &str) -> Result<&SharedSubcloud, Rejection> {
        let unknown = || Rejection::one(subcloud_not_found(reference));
        self.fleet.find(reference).ok_or_else(unknown)
    }

    fn association_named(&self, group: &str, peer: &str) -> Result<&Association, Rejection> {
        let (group, peer) = Rejection::both(self.group_named(group), self.peer_named(peer))?;
        let known = self.peers.associations.get(&(group.id, peer.id));
        known.ok_or_else(|| Rejection::one(association_not_found(group, peer)))
    }
}

/// No system peer of this name or uuid.
pub fn system_peer_not_found(reference: &str) -> Violation {
    Violation::new(
        Reason::PeerNotFound,
        format!("there is no system peer {reference:?}"),
        "`tandem dcmanager system-peer list` shows the system peers",
    )
    .object("system peer", reference)
}

/// No subcloud peer group of this name or uuid.
pub fn peer_group_not_found(reference: &str) -> Violation {
    Violation::new(
        Reason::PeerGroupNotFound,
        format!("there is no subcloud peer group {reference:?}"),
        "`tandem dcmanager subcloud-peer-group list` shows the groups",
    )
    .object("subcloud peer group", reference)
}

/// The group is not shared with the peer.
pub fn association_not_found(group: &PeerGroup, peer: &SystemPeer) -> Violation {
    Violation::new(
        Reason::AssociationNotFound,
        format!(
            "subcloud peer group {} is not shared with system peer {}",
            group.header.name, peer.name
        ),
        "`tandem dcmanager peer-group-association list` shows the associations",
    )
    .object("subcloud peer group", group.header.name.clone())
    .object("system peer", peer.name.clone())
}

fn subject(change: &Change) -> PeerSubject {
    match change {
        Change::Peer(peer) | Change::ForgetPeer(peer) => PeerSubject::Peer(Box::new(peer.clone())),
        Change::Group(group)
        | Change::ForgetGroup(group)
        | Change::Members(group, _)
        | Change::Migrate(group) => PeerSubject::Group(Box::new(group.clone())),
        Change::Associate(association)
        | Change::UpdateAssociation(_, association)
        | Change::Dissociate(association)
        | Change::Sync(association) => PeerSubject::Association(Box::new(association.clone())),
        Change::Subcloud(subcloud) => PeerSubject::Subcloud(Arc::new(Subcloud::clone(subcloud))),
    }
}

fn outcome_of<T>(outcome: &Result<T, Rejection>, detail: String) -> Outcome {
    match outcome {
        Ok(_) => Outcome::Done,
        Err(rejection) => Outcome::Refused {
            faults: Fault::all_of(rejection),
            detail,
        },
    }
}

fn deed_of(action: &PeerAction) -> (Action, String) {
    match action {
        PeerAction::IssuePeering { name, .. } => (Action::IssuePeering, name.clone()),
        PeerAction::AddPeer { name, .. } => (Action::AddPeer, name.clone()),
        PeerAction::UpdatePeer { peer, .. } => (Action::UpdatePeer, peer.clone()),
        PeerAction::DeletePeer { peer } => (Action::DeletePeer, peer.clone()),
        PeerAction::AddGroup { name, .. } => (Action::AddPeerGroup, name.clone()),
        PeerAction::UpdateGroup { group, .. } | PeerAction::SetMembers { group, .. } => {
            (Action::UpdatePeerGroup, group.clone())
        }
        PeerAction::DeleteGroup { group } => (Action::DeletePeerGroup, group.clone()),
        PeerAction::SetGateways { subcloud, .. } => (Action::SetGateways, subcloud.clone()),
        PeerAction::Associate { group, peer, .. } => (Action::Associate, format!("{group} {peer}")),
        PeerAction::UpdateAssociation { group, peer, .. } => {
            (Action::UpdateAssociation, format!("{group} {peer}"))
        }
        PeerAction::Dissociate { group, peer } => (Action::Dissociate, format!("{group} {peer}")),
        PeerAction::SyncAssociation { group, peer } => {
            (Action::SyncAssociation, format!("{group} {peer}"))
        }
        PeerAction::Migrate { group } => (Action::Migrate, group.clone()),
        PeerAction::DismissConflict { subcloud } => (Action::DismissConflict, subcloud.clone()),
    }
}

fn no_link_pool() -> Violation {
    Violation::new(
        Reason::ControllerHasNoLinkPool,
        "this site has no pool on admin nor on mgmt, so no peer can reach it",
        "give the controller's mgmt network a pool",
    )
}

fn in_use(message: String, remedy: &str) -> Violation {
    Violation::new(Reason::PeerInUse, message, remedy)
}

/// How many objects a remedy names: with the longest names it is not cut.
const NAMED: usize = 3;

/// What to do about associations, of a group and a peer each.
fn delete_associations(associations: &[(String, String)]) -> String {
    let command = |(group, peer): &(String, String)| {
        format!("`tandem dcmanager peer-group-association delete {group} {peer}`")
    };
    let commands: Vec<_> = associations.iter().take(NAMED).map(command).collect();
    let more = others(associations.len());
    format!(
        "delete its associations first: {}{more}",
        commands.join(", ")
    )
}

/// What to do about the members of a group.
fn take_out(group: &str, members: &[&str]) -> String {
    let first = members[..members.len().min(NAMED)].join(" ");
    let more = others(members.len());
    format!(
        "take its members out first: `tandem dcmanager subcloud-peer-group remove-subclouds \
         {group} {first}`{more}"
    )
}

/// That there are more than a remedy names.
fn others(count: usize) -> String {
    match count.checked_sub(NAMED) {
        None | Some(0) => String::new(),
        Some(others) => format!(", and the {others} others too"),
    }
}

pub(super) fn group_exists(name: &str) -> Violation {
    Violation::new(
        Reason::PeerGroupExists,
        format!("there is a subcloud peer group {name} already"),
        "choose another name, or delete that group first",
    )
    .at("name")
    .object("subcloud peer group", name)
}

pub(super) fn limit(what: &str, most: usize) -> Violation {
    Violation::new(
        Reason::PeerLimit,
        format!("there are {most} {what}, and no more can be"),
        "delete one that is no longer needed",
    )
    .fact("limit", most)
}
