//! Operators' calls, and the token that the other site presents.

use std::collections::BTreeSet;
use std::sync::Arc;

use site::Timestamp;

use crate::entropy::{after, since};
use crate::{
    AcceptPeering, Action, Actor, Association, Established, Fault, GroupHeader, Leader, MAX_GROUPS,
    MAX_PEERS, MAX_PRIORITY, Migration, NewToken, Outcome, PEER_HEARTBEAT_BOUNDS,
    PEER_THRESHOLD_BOUNDS, PeerAction, PeerCall, PeerCard, PeerEdit, PeerGoodbye, PeerGroup,
    PeerGroupId, PeerId, PeerOutput, PeerReceipt, PeerSettings, PeerSubject, Peering,
    REHOMING_BOUNDS, REPLAY_WINDOW, Reason, Rejection, SharedSubcloud, SpentToken, Subcloud,
    SystemPeer, Token, Violation, judge_peer, subcloud_not_found,
};

use super::super::operate::{check_etag, nothing_named};
use super::super::operator::invalid_name;
use super::super::{
    Answer, Batch, Controller, Deed, Deferred, Output, TOKEN_TTL_MAX, TOKEN_TTL_MIN,
};

/// What an accepted call changes.
enum Change {
    Peer(SystemPeer),
    ForgetPeer(SystemPeer),
    Group(PeerGroup),
    ForgetGroup(PeerGroup),
    Members(PeerGroup, Vec<Subcloud>),
    Associate(Association),
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
            validate_only,
        } = call;
        let judged = match self.busy().filter(|_| !validate_only) {
            Some(busy) => Err(Rejection::one(busy)),
            None => self.judge_call(now, &action, &etag),
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

    fn judge_issue(
        &self,
        now: Timestamp,
        id: PeerId,
        name: &str,
        token: &NewToken,
        settings: PeerSettings,
    ) -> Judged {
        let mut violations = invalid_settings(&settings);
        violations.extend(invalid_name(name));
        violations.extend(invalid_ttl(token));
        // A pending peer gets a new token; the old one is void.
        let pending = self
            .find_peer(name)
            .filter(|peer| peer.established().is_none());
        if pending.is_none() {
            violations.extend(self.peer_name_taken(name));
            violations.extend(self.room_for_peer());
        }
        if self.link_family_missing() {
            violations.push(no_link_pool());
        }
        Rejection::check(violations)?;
        let peering = Peering::Pending(Token {
            id: token.id,
            secret: token.secret,
            issued_at: now,
            expires_at: after(now, token.ttl),
        });
        Ok(Change::Peer(SystemPeer {
            id: pending.map_or(id, |peer| peer.id),
            name: name.to_owned(),
            settings,
            peering,
            created_at: pending.map_or(now, |peer| peer.created_at),
            updated_at: now,
        }))
    }

    fn judge_add_peer(
        &self,
        now: Timestamp,
        id: PeerId,
        name: &str,
        settings: PeerSettings,
        card: &PeerCard,
    ) -> Judged {
        let mut violations = invalid_settings(&settings);
        violations.extend(invalid_name(name));
        violations.extend(judge_peer(&self.peers.card, &self.fleet, card));
        violations.extend(self.site_known(card, None));
        let pending = self
            .find_peer(name)
            .filter(|peer| peer.established().is_none());
        if pending.is_none() {
            violations.extend(self.peer_name_taken(name));
            violations.extend(self.room_for_peer());
        }
        Rejection::check(violations)?;
        let peering = Peering::Established(Box::new(Established {
            card: card.clone(),
            spent: None,
            since: now,
            suspended: Vec::new(),
        }));
        Ok(Change::Peer(SystemPeer {
            id: pending.map_or(id, |peer| peer.id),
            name: name.to_owned(),
            settings,
            peering,
            created_at: pending.map_or(now, |peer| peer.created_at),
            updated_at: now,
        }))
    }

    /// The other site presents a token.
    pub(super) fn accept_peering(
        &mut self,
        now: Timestamp,
        call: AcceptPeering,
        out: &mut Vec<Output>,
    ) {
        let judged = match self.busy() {
            Some(busy) => Err((Rejection::one(busy), String::new())),
            None => self.judge_accept(now, &call),
        };
        let mut batch = Batch::default();
        let (outcome, detail) = match judged {
            Ok(Some(peer)) if !call.validate_only => {
                let id = peer.id;
                self.put_peer(&mut batch, peer);
                self.await_peer(now, id);
                out.push(Output::Peer(PeerOutput::TrustChanged));
                (Ok(()), String::new())
            }
            Ok(_) => (Ok(()), String::new()),
            Err((rejection, detail)) => (Err(rejection), detail),
        };
        let outcome = outcome.map(|()| PeerReceipt {
            subject: PeerSubject::Card(Box::new(self.peers.card.clone())),
            warnings: Vec::new(),
        });
        if !call.validate_only {
            let deed = Deed {
                actor: Actor::Stranger(call.source),
                action: Action::AcceptPeering,
                subcloud: None,
                name: &call.card.name,
                outcome: outcome_of(&outcome, detail),
            };
            self.log_audit(&mut batch, now, deed);
        }
        let answer = Output::Answer {
            request: call.request,
            outcome: outcome.map(|receipt| Answer::Peer(Box::new(receipt))),
        };
        self.conclude_call(batch, answer, out);
    }

    /// The peer as it shall be; `None` when the same site spent the token before and asks for the
    /// lost answer.
    fn judge_accept(
        &self,
        now: Timestamp,
        call: &AcceptPeering,
    ) -> Result<Option<SystemPeer>, (Rejection, String)> {
        let invalid = |detail: &str| (Rejection::one(token_invalid()), detail.to_owned());
        let presented = |peer: &&SystemPeer| match &peer.peering {
            Peering::Pending(token) => token.id == call.token,
            Peering::Established(known) => known.spent.is_some_and(|spent| spent.id == call.token),
        };
        let peer = self.peers.peers.values().find(presented);
        let peer = peer.ok_or_else(|| invalid("no such token"))?;
        match &peer.peering {
            Peering::Established(known) => {
                let spent = known.spent.filter(|spent| spent.secret == call.secret);
                spent.ok_or_else(|| invalid("the secret is wrong"))?;
                let same = known.card.controller == call.card.controller
                    && known.card.authority.key == call.card.authority.key;
                if !same {
                    return Err(invalid("the token was spent by another site"));
                }
                if since(now, known.since) > REPLAY_WINDOW {
                    return Err(invalid("the token was spent too long ago to answer again"));
                }
                Ok(None)
            }
            Peering::Pending(token) if token.secret != call.secret => {
                Err(invalid("the secret is wrong"))
            }
            Peering::Pending(token) if now >= token.expires_at => Err(invalid("the token expired")),
            Peering::Pending(token) => {
                let mut violations = judge_peer(&self.peers.card, &self.fleet, &call.card);
                violations.extend(self.site_known(&call.card, Some(peer.id)));
                Rejection::check(violations).map_err(|rejection| (rejection, String::new()))?;
                Ok(Some(SystemPeer {
                    peering: Peering::Established(Box::new(Established {
                        card: PeerCard::clone(&call.card),
                        spent: Some(SpentToken {
                            id: token.id,
                            secret: token.secret,
                        }),
                        since: now,
                        suspended: Vec::new(),
                    })),
                    updated_at: now,
                    ..peer.clone()
                }))
            }
        }
    }

    fn judge_update_peer(&self, now: Timestamp, peer: &str, edit: PeerEdit, etag: &str) -> Judged {
        let mut changed = self.peer_named(peer)?.clone();
        check_etag(("system peer", &changed.name), etag, &changed.etag())?;
        let settings = edit.over(changed.settings);
        let nothing = nothing_named(edit == PeerEdit::default());
        Rejection::check(
            nothing
                .into_iter()
                .chain(invalid_settings(&settings))
                .collect(),
        )?;
        changed.settings = settings;
        changed.updated_at = now;
        Ok(Change::Peer(changed))
    }

    fn judge_delete_peer(&self, peer: &str, etag: &str) -> Judged {
        let peer = self.peer_named(peer)?;
        check_etag(("system peer", &peer.name), etag, &peer.etag())?;
        let shared: Vec<&str> = self
            .groups_with(peer.id)
            .iter()
            .filter_map(|group| self.peers.groups.get(group))
            .map(|group| group.header.name.as_str())
            .collect();
        if !shared.is_empty() {
            return Err(Rejection::one(in_use(
                format!("system peer {} shares {}", peer.name, shared.join(", ")),
                "delete its associations first: `tandem dcmanager peer-group-association delete`",
            )));
        }
        Ok(Change::ForgetPeer(peer.clone()))
    }

    fn judge_add_peer_group(
        &self,
        now: Timestamp,
        id: PeerGroupId,
        name: &str,
        priority: u32,
        max_subcloud_rehoming: u32,
    ) -> Judged {
        let mut violations = invalid_place(Some(priority), Some(max_subcloud_rehoming));
        violations.extend(invalid_name(name));
        if self.find_group(name).is_some() {
            violations.push(group_exists(name));
        }
        if self.peers.groups.len() >= MAX_GROUPS {
            violations.push(limit("peer groups", MAX_GROUPS));
        }
        Rejection::check(violations)?;
        Ok(Change::Group(PeerGroup {
            id,
            header: GroupHeader {
                name: name.to_owned(),
                max_subcloud_rehoming,
                revision: 1,
                editor: self.config.id,
            },
            leader: Leader {
                controller: self.config.id,
                name: self.peers.card.name.clone(),
                priority,
                term: 1,
            },
            priority,
            migration: None,
            created_at: now,
            updated_at: now,
        }))
    }

    fn judge_update_peer_group(
        &self,
        now: Timestamp,
        group: &str,
        (priority, max_subcloud_rehoming): (Option<u32>, Option<u32>),
        etag: &str,
    ) -> Judged {
        let mut changed = self.group_named(group)?.clone();
        let kind = "subcloud peer group";
        check_etag((kind, &changed.header.name), etag, &changed.etag())?;
        let nothing = nothing_named(priority.is_none() && max_subcloud_rehoming.is_none());
        let invalid = invalid_place(priority, max_subcloud_rehoming);
        Rejection::check(nothing.into_iter().chain(invalid).collect())?;
        if let Some(most) = max_subcloud_rehoming {
            changed.header.max_subcloud_rehoming = most;
            changed.header.revision += 1;
            changed.header.editor = self.config.id;
        }
        changed.priority = priority.unwrap_or(changed.priority);
        if changed.leader.controller == self.config.id {
            changed.leader.priority = changed.priority;
        }
        changed.updated_at = now;
        Ok(Change::Group(changed))
    }

    fn judge_delete_peer_group(&self, group: &str, etag: &str) -> Judged {
        let group = self.group_named(group)?;
        let name = &group.header.name;
        check_etag(("subcloud peer group", name), etag, &group.etag())?;
        let mut violations = Vec::new();
        if self.peers.associations_of(group.id).next().is_some() {
            violations.push(in_use(
                format!("subcloud peer group {name} is shared with peers"),
                "delete its associations first: `tandem dcmanager peer-group-association delete`",
            ));
        }
        let members = self.group_members(group.id).count();
        if members > 0 {
            violations.push(in_use(
                format!("subcloud peer group {name} has {members} members"),
                "take its members out first: `tandem dcmanager subcloud update --peer-group none`",
            ));
        }
        Rejection::check(violations)?;
        Ok(Change::ForgetGroup(group.clone()))
    }

    fn judge_members(
        &self,
        now: Timestamp,
        group: &str,
        add: &[String],
        remove: &[String],
    ) -> Judged {
        let group = self.group_named(group)?;
        let mut violations = Vec::new();
        let mut changed: Vec<Subcloud> = Vec::new();
        let mut named = BTreeSet::new();
        let all = add.iter().map(|name| (name, true));
        for (name, joins) in all.chain(remove.iter().map(|name| (name, false))) {
            let record = match self.subcloud_named(name) {
                Ok(record) => record,
                Err(rejection) => {
                    violations.extend(rejection.violations().iter().cloned());
                    continue;
                }
            };
            violations.extend(self.unfit_member(record, group, joins));
            if !named.insert(record.id) {
                continue;
            }
            let mut record = Subcloud::clone(record);
            record.geo.group = joins.then_some(group.id);
            record.updated_at = now;
            changed.push(record);
        }
        Rejection::check(violations)?;
        Ok(Change::Members(group.clone(), changed))
    }

    fn unfit_member(&self, record: &Subcloud, group: &PeerGroup, joins: bool) -> Vec<Violation> {
        let mut violations = Vec::new();
        let name = &record.name;
        if record.enrolled().is_none() {
            violations.push(
                Violation::new(
                    Reason::SubcloudNotEnrolled,
                    format!("subcloud {name} has not enrolled yet, so nothing of it can be shared"),
                    "enroll its site first",
                )
                .object("subcloud", name.clone()),
            );
        }
        violations.extend(self.owned_elsewhere(record));
        if let Some(other) = record.geo.group.filter(|other| *other != group.id) {
            let other = self.peers.groups.get(&other);
            let other = other.map_or("another", |other| &other.header.name);
            violations.push(
                Violation::new(
                    Reason::SubcloudInOtherGroup,
                    format!("subcloud {name} is a member of subcloud peer group {other}"),
                    "take it out of that group first",
                )
                .object("subcloud", name.clone())
                .object("subcloud peer group", other),
            );
        } else if record.geo.group.is_none() && !joins {
            violations.push(
                Violation::new(
                    Reason::InvalidArgument,
                    format!("subcloud {name} is no member of {}", group.header.name),
                    "name members of the group only",
                )
                .at("remove")
                .object("subcloud", name.clone()),
            );
        }
        violations
    }

    /// Refuses a change that only the owner's operators make.
    pub(in super::super) fn check_owned(&self, record: &Subcloud) -> Result<(), Rejection> {
        Rejection::check(self.owned_elsewhere(record).into_iter().collect())
    }

    /// A refusal of a change that only the owner's operators make.
    pub(in super::super) fn owned_elsewhere(&self, record: &Subcloud) -> Option<Violation> {
        let owner = record.geo.owner?;
        let peer = self.peers.peer_of(owner);
        let site = peer.map_or_else(|| owner.to_string(), |peer| peer.name.clone());
        Some(
            Violation::new(
                Reason::SubcloudOwnedElsewhere,
                format!("subcloud {} obeys system controller {site}", record.name),
                format!(
                    "ask there, or take it over: `tandem dcmanager subcloud-peer-group migrate` \
                     moves its group from {site}"
                ),
            )
            .object("subcloud", record.name.clone())
            .fact("owner", owner),
        )
    }

    fn judge_gateways(
        &self,
        now: Timestamp,
        subcloud: &str,
        gateways: &[std::net::IpAddr],
    ) -> Judged {
        let record = self.subcloud_named(subcloud)?;
        let fleet = self.fleet();
        let Some(link) = &fleet.controller().link else {
            return Err(Rejection::one(no_link_pool()));
        };
        let violations = crate::admission::gateways_fit(&record.name, gateways, link);
        Rejection::check(violations)?;
        let mut changed = Subcloud::clone(record);
        changed.geo.gateways = gateways.to_vec();
        changed.updated_at = now;
        Ok(Change::Subcloud(Box::new(changed)))
    }

    fn judge_associate(
        &self,
        now: Timestamp,
        group: &str,
        peer: &str,
        peer_priority: u32,
    ) -> Judged {
        let group = self.group_named(group)?;
        let peer = self.peer_named(peer)?;
        let mut violations = invalid_place(Some(peer_priority), None);
        if peer.established().is_none() {
            violations.push(
                Violation::new(
                    Reason::PeerNotEstablished,
                    format!("system peer {} has not presented its token yet", peer.name),
                    "add this site on the other one with the token first",
                )
                .object("system peer", peer.name.clone()),
            );
        }
        if peer_priority == group.priority {
            violations.push(
                Violation::new(
                    Reason::InvalidArgument,
                    format!("priority {peer_priority} is that of this site in the group"),
                    "give each site a priority of its own; 0 is the primary site",
                )
                .at("peer_priority"),
            );
        }
        if self.peers.associations.contains_key(&(group.id, peer.id)) {
            violations.push(
                Violation::new(
                    Reason::AssociationExists,
                    format!(
                        "subcloud peer group {} is shared with {} already",
                        group.header.name, peer.name
                    ),
                    "update or delete that association",
                )
                .object("subcloud peer group", group.header.name.clone())
                .object("system peer", peer.name.clone()),
            );
        }
        Rejection::check(violations)?;
        Ok(Change::Associate(Association {
            group: group.id,
            peer: peer.id,
            peer_priority,
            told: None,
            ended: false,
            faults: Vec::new(),
            updated_at: now,
        }))
    }

    /// All members move here, or none: a member that is not ready refuses the whole.
    fn judge_migrate(&self, now: Timestamp, group: &str) -> Judged {
        let group = self.group_named(group)?;
        let name = &group.header.name;
        if let Some(running) = group.migration.as_ref().filter(|known| known.running()) {
            return Err(Rejection::one(
                Violation::new(
                    Reason::MigrationRunning,
                    format!(
                        "a migration of subcloud peer group {name} with {} members runs since {} \
                         ms",
                        running.targets.len(),
                        running.started_at.0
                    ),
                    format!("wait for it: `tandem dcmanager subcloud-peer-group status {name}`"),
                )
                .object("subcloud peer group", name.clone())
                .fact("startedAtMilliseconds", running.started_at.0),
            ));
        }
        let away = |member: &&SharedSubcloud| !member.owned_here();
        let members: Vec<&SharedSubcloud> = self.group_members(group.id).filter(away).collect();
        let untaken = self.untaken(group.id);
        if members.is_empty() && untaken.is_empty() {
            return Err(Rejection::one(
                Violation::new(
                    Reason::NothingToMigrate,
                    format!("every member of subcloud peer group {name} obeys this site"),
                    "run it at the site that shall take the members over",
                )
                .object("subcloud peer group", name.clone()),
            ));
        }
        let not_ready = members.iter().filter_map(|m| self.not_ready(m));
        Rejection::check(not_ready.chain(untaken).collect())?;
        let mut changed = group.clone();
        changed.migration = Some(Migration {
            started_at: now,
            targets: members.iter().map(|member| member.id).collect(),
            finished_at: None,
            missing: BTreeSet::new(),
        });
        changed.updated_at = now;
        Ok(Change::Migrate(changed))
    }

    fn not_ready(&self, member: &Subcloud) -> Option<Violation> {
        let name = &member.name;
        let family = self.peers.card.link_family();
        let why = if member.enrolled().is_none() {
            "has not enrolled".to_owned()
        } else if member.footprint().is_none() {
            "has told nothing of its networks to its owner yet".to_owned()
        } else if member.link_family() != family {
            "has another primary family than this site".to_owned()
        } else if let Some(fault) = self.fault_of(member) {
            format!("could not be taken in here: {}", fault.message)
        } else {
            return None;
        };
        Some(
            Violation::new(
                Reason::MemberNotReady,
                format!("subcloud {name} {why}"),
                "correct that first; nothing has moved",
            )
            .object("subcloud", name.clone()),
        )
    }

    /// Members that their owner told of and that have no record here, because it could not be
    /// taken in.
    fn untaken(&self, group: PeerGroupId) -> Vec<Violation> {
        let members: BTreeSet<&str> = self
            .group_members(group)
            .map(|member| member.name.as_str())
            .collect();
        let unknown = |fault: &&Fault| {
            let mut objects = fault.objects.iter();
            let known = |(kind, name): &(String, String)| {
                kind == "subcloud" && members.contains(name.as_str())
            };
            fault.reason != "EPOCH_STALE" && !objects.any(known)
        };
        let associations = self.peers.associations_of(group);
        let faults = associations.flat_map(|association| &association.faults);
        let violation = |fault: &Fault| {
            Violation::new(
                Reason::MemberNotReady,
                format!("a member could not be taken in here: {}", fault.message),
                "correct that first; nothing has moved",
            )
        };
        faults.filter(unknown).map(violation).collect()
    }

    /// What kept the newest word of a member's owner from being taken in.
    fn fault_of(&self, member: &Subcloud) -> Option<&Fault> {
        let about = |fault: &&Fault| {
            let object = ("subcloud".to_owned(), member.name.clone());
            fault.reason != "EPOCH_STALE" && fault.objects.contains(&object)
        };
        self.peers
            .associations_of(member.geo.group?)
            .flat_map(|association| &association.faults)
            .find(about)
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
                    self.read_anew(group.id, None, batch);
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
            Change::Dissociate(association) => {
                let key = (association.group, association.peer);
                self.forget_association(batch, key);
                if let Some(link) = self.ready_link(key.1) {
                    // What is left of the list tells the peer what is no longer shared.
                    self.offer_all(link, key.1, out);
                }
            }
            Change::Sync(association) => {
                let key = (association.group, association.peer);
                self.peers.speaking.remove(&key);
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
        let group = self.group_named(group)?;
        let peer = self.peer_named(peer)?;
        let known = self.peers.associations.get(&(group.id, peer.id));
        known.ok_or_else(|| Rejection::one(association_not_found(group, peer)))
    }

    fn peer_name_taken(&self, name: &str) -> Option<Violation> {
        self.find_peer(name).map(|_| {
            Violation::new(
                Reason::PeerExists,
                format!("there is a system peer {name} already"),
                "choose another name, or delete that peer first",
            )
            .at("name")
            .object("system peer", name)
        })
    }

    /// The site that a card is of is a peer already, under whatever name.
    fn site_known(&self, card: &PeerCard, own: Option<PeerId>) -> Option<Violation> {
        let same = |peer: &&SystemPeer| {
            let known = peer.established();
            Some(peer.id) != own
                && known.is_some_and(|known| {
                    known.card.controller == card.controller
                        || known.card.authority.key == card.authority.key
                })
        };
        let known = self.peers.peers.values().find(same)?;
        Some(
            Violation::new(
                Reason::PeerExists,
                format!("site {} is system peer {} already", card.name, known.name),
                "use that peer, or delete it at both sites first",
            )
            .object("system peer", known.name.clone()),
        )
    }

    fn room_for_peer(&self) -> Option<Violation> {
        (self.peers.peers.len() >= MAX_PEERS).then(|| limit("system peers", MAX_PEERS))
    }

    fn link_family_missing(&self) -> bool {
        self.peers.card.link_family().is_none()
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
        PeerAction::Dissociate { group, peer } => (Action::Dissociate, format!("{group} {peer}")),
        PeerAction::SyncAssociation { group, peer } => {
            (Action::SyncAssociation, format!("{group} {peer}"))
        }
        PeerAction::Migrate { group } => (Action::Migrate, group.clone()),
        PeerAction::DismissConflict { subcloud } => (Action::DismissConflict, subcloud.clone()),
    }
}

fn invalid_settings(settings: &PeerSettings) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !PEER_HEARTBEAT_BOUNDS.contains(&settings.heartbeat_interval) {
        violations.push(
            Violation::new(
                Reason::InvalidArgument,
                "the heartbeat interval is not from 1 s to 600 s",
                "choose an interval within these bounds",
            )
            .at("heartbeat_interval_seconds"),
        );
    }
    if !PEER_THRESHOLD_BOUNDS.contains(&settings.failure_threshold) {
        violations.push(
            Violation::new(
                Reason::InvalidArgument,
                "the failure threshold is not from 1 to 100",
                "choose a threshold within these bounds",
            )
            .at("failure_threshold"),
        );
    }
    violations
}

fn invalid_place(priority: Option<u32>, rehoming: Option<u32>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if priority.is_some_and(|priority| priority > MAX_PRIORITY) {
        violations.push(
            Violation::new(
                Reason::InvalidArgument,
                format!("the priority is not from 0 to {MAX_PRIORITY}"),
                "choose a priority within these bounds; 0 is the primary site",
            )
            .at("priority"),
        );
    }
    if rehoming.is_some_and(|rehoming| !REHOMING_BOUNDS.contains(&rehoming)) {
        violations.push(
            Violation::new(
                Reason::InvalidArgument,
                "max-subcloud-rehoming is not from 1 to 1000",
                "choose a number within these bounds",
            )
            .at("max_subcloud_rehoming"),
        );
    }
    violations
}

fn invalid_ttl(token: &NewToken) -> Option<Violation> {
    let fits = (TOKEN_TTL_MIN..=TOKEN_TTL_MAX).contains(&token.ttl);
    (!fits).then(|| {
        Violation::new(
            Reason::InvalidArgument,
            format!(
                "a token cannot live for {} s, only from {} s to {} s",
                token.ttl.as_secs(),
                TOKEN_TTL_MIN.as_secs(),
                TOKEN_TTL_MAX.as_secs(),
            ),
            "choose a time to live within these bounds",
        )
        .at("token_ttl_seconds")
    })
}

fn token_invalid() -> Violation {
    Violation::new(
        Reason::PeerTokenInvalid,
        "the peering token is not valid",
        "ask the operator of the other site for a new one: `tandem dcmanager system-peer add NAME`",
    )
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
