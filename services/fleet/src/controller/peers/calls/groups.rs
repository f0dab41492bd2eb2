//! Calls about groups, their members, who shares them, and their moves.

use std::collections::{BTreeMap, BTreeSet};

use site::Timestamp;

use crate::{
    Association, ControllerId, Fault, GroupHeader, Leader, MAX_GROUPS, MAX_PRIORITY, Migration,
    PeerGroup, PeerGroupId, REHOMING_BOUNDS, Reason, Rejection, SharedSubcloud, Subcloud,
    Violation, subcloud_not_found,
};

use super::super::super::Controller;
use super::super::super::operate::{check_etag, nothing_named};
use super::super::super::operator::invalid_name;
use super::{
    Change, Judged, delete_associations, group_exists, in_use, limit, no_link_pool, take_out,
};

/// How many subclouds may join or leave a group at once: their names stay far below the limit of
/// a message.
const MAX_MEMBER_CHANGES: usize = 1000;

impl Controller {
    pub(super) fn judge_add_peer_group(
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
                places: BTreeMap::new(),
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

    pub(super) fn judge_update_peer_group(
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
        let own = self.config.id;
        if let Some(priority) = priority {
            let taken = self.place_taken(&changed, Some(own), priority);
            Rejection::check(
                taken
                    .map(|taken| taken.at("priority"))
                    .into_iter()
                    .collect(),
            )?;
            changed.header.places.insert(own, priority);
            changed.priority = priority;
        }
        if let Some(most) = max_subcloud_rehoming {
            changed.header.max_subcloud_rehoming = most;
        }
        changed.header.revision = changed.header.revision.saturating_add(1);
        changed.header.editor = own;
        if changed.leader.controller == self.config.id {
            changed.leader.priority = changed.priority;
        }
        changed.updated_at = now;
        Ok(Change::Group(changed))
    }

    pub(super) fn judge_delete_peer_group(&self, group: &str, etag: &str) -> Judged {
        let group = self.group_named(group)?;
        let name = &group.header.name;
        check_etag(("subcloud peer group", name), etag, &group.etag())?;
        let mut violations = Vec::new();
        let with = |shared: &Association| match self.peers.peers.get(&shared.peer) {
            Some(peer) => (name.clone(), peer.name.clone()),
            None => (name.clone(), shared.peer.0.to_string()),
        };
        let shared: Vec<_> = self.peers.associations_of(group.id).map(with).collect();
        if !shared.is_empty() {
            violations.push(in_use(
                format!("subcloud peer group {name} is shared with peers"),
                &delete_associations(&shared),
            ));
        }
        let members = self.group_members(group.id);
        let members: Vec<_> = members.map(|record| record.name.as_str()).collect();
        if !members.is_empty() {
            violations.push(in_use(
                format!("subcloud peer group {name} has {} members", members.len()),
                &take_out(name, &members),
            ));
        }
        Rejection::check(violations)?;
        Ok(Change::ForgetGroup(group.clone()))
    }

    pub(super) fn judge_members(
        &self,
        now: Timestamp,
        group: &str,
        add: &[String],
        remove: &[String],
    ) -> Judged {
        // Judging each of too many would make the refusal as long as the request.
        let wrong = wrong_count(add.len() + remove.len());
        let counted = wrong.map_or(Ok(()), |wrong| Err(Rejection::one(wrong)));
        let group = self.group_named(group);
        // Who fits depends on the group, who is there does not.
        let named = counted.and_then(|()| match group {
            Ok(_) => Ok(()),
            Err(_) => self.all_known(add.iter().chain(remove)),
        });
        let (group, ()) = Rejection::both(group, named)?;
        let mut violations = Vec::new();
        let mut changed: Vec<Subcloud> = Vec::new();
        let mut named = BTreeMap::new();
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
            match named.insert(record.id, joins) {
                Some(before) if before != joins => {
                    violations.push(joins_and_leaves(&record.name));
                    continue;
                }
                Some(_) => continue,
                None => {}
            }
            let mut record = Subcloud::clone(record);
            if joins {
                record.geo.group = Some(group.id);
            } else {
                record.geo.leave_group();
            }
            record.updated_at = now;
            changed.push(record);
        }
        Rejection::check(violations)?;
        Ok(Change::Members(group.clone(), changed))
    }

    fn all_known<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<(), Rejection> {
        let unknown = names.filter(|name| self.fleet.find(name).is_none());
        Rejection::check(unknown.map(|name| subcloud_not_found(name)).collect())
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
        violations.extend(if joins {
            self.owned_elsewhere(record)
        } else {
            self.shared_by_owner(record)
        });
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
    pub(in super::super::super) fn check_owned(&self, record: &Subcloud) -> Result<(), Rejection> {
        Rejection::check(self.owned_elsewhere(record).into_iter().collect())
    }

    /// A refusal of a change that only the owner's operators make.
    pub(in super::super::super) fn owned_elsewhere(&self, record: &Subcloud) -> Option<Violation> {
        let owner = record.geo.owner?;
        let peer = self.peers.peer_of(owner);
        let site = peer.map_or_else(|| owner.to_string(), |peer| peer.name.clone());
        let group = record.geo.group.and_then(|id| self.peers.groups.get(&id));
        let remedy = match group {
            Some(group) => format!(
                "ask there, or take it over: `tandem dcmanager subcloud-peer-group migrate {}` \
                 moves its group from {site}",
                group.header.name
            ),
            None => format!("ask an operator of {site}"),
        };
        Some(
            Violation::new(
                Reason::SubcloudOwnedElsewhere,
                format!("subcloud {} obeys system controller {site}", record.name),
                remedy,
            )
            .object("subcloud", record.name.clone())
            .fact("owner", owner),
        )
    }

    /// A refusal to part with the copy of a subcloud whose owner shares its group: it would tell
    /// the copy again. Once their association has ended, at either site, the copy is this site's
    /// own business; else a lost owner would hold name, region and addresses for ever.
    pub(in super::super::super) fn shared_by_owner(&self, record: &Subcloud) -> Option<Violation> {
        let group = self.peers.groups.get(&record.geo.group?)?;
        let peer = self.peers.peer_of(record.geo.owner?)?;
        let shared = self.peers.associations.get(&(group.id, peer.id))?;
        if shared.ended {
            return None;
        }
        let mut violation = self.owned_elsewhere(record)?;
        violation.remedy = format!(
            "{}; if {peer} is lost for good, first `tandem dcmanager peer-group-association \
             delete {} {peer}`",
            violation.remedy,
            group.header.name,
            peer = peer.name
        );
        Some(violation)
    }

    pub(super) fn judge_gateways(
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
        changed.geo.gateways = Some(gateways.to_vec());
        changed.updated_at = now;
        Ok(Change::Subcloud(Box::new(changed)))
    }

    pub(super) fn judge_associate(
        &self,
        now: Timestamp,
        group: &str,
        peer: &str,
        peer_priority: u32,
    ) -> Judged {
        let (group, peer) = Rejection::both(self.group_named(group), self.peer_named(peer))?;
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
        let taken = self.place_taken(group, peer.controller(), peer_priority);
        violations.extend(taken.map(|taken| taken.at("peer_priority")));
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
            generation: self.next_generation(now, (group.id, peer.id)),
            ended: false,
            withdrawn: false,
            faults: Vec::new(),
            updated_at: now,
        }))
    }

    /// Gives a peer another place; its site takes it when it hears of the edit.
    pub(super) fn judge_update_association(
        &self,
        now: Timestamp,
        (group, peer): (&str, &str),
        peer_priority: u32,
        etag: &str,
    ) -> Judged {
        let mut known = self.association_named(group, peer)?.clone();
        check_etag(("peer group association", group), etag, &known.etag())?;
        let mut changed = self.group_named(group)?.clone();
        let mut violations = invalid_place(Some(peer_priority), None);
        for violation in &mut violations {
            violation.field = "peer_priority".to_owned();
        }
        let controller = self.peer_named(peer)?.controller();
        if let Some(controller) = controller {
            let taken = self.place_taken(&changed, Some(controller), peer_priority);
            violations.extend(taken.map(|taken| taken.at("peer_priority")));
            changed.header.places.insert(controller, peer_priority);
        }
        Rejection::check(violations)?;
        changed.header.revision = changed.header.revision.saturating_add(1);
        changed.header.editor = self.config.id;
        changed.updated_at = now;
        known.peer_priority = peer_priority;
        known.updated_at = now;
        Ok(Change::UpdateAssociation(changed, known))
    }

    /// A place in a group that another site than `mover` has; one that has not presented its token
    /// has none yet.
    fn place_taken(
        &self,
        group: &PeerGroup,
        mover: Option<ControllerId>,
        place: u32,
    ) -> Option<Violation> {
        let own = (self.config.id, group.priority, "this site");
        let peers = self.peers.associations_of(group.id).filter_map(|known| {
            let peer = self.peers.peers.get(&known.peer)?;
            Some((peer.controller()?, known.peer_priority, peer.name.as_str()))
        });
        let (_, _, name) = std::iter::once(own)
            .chain(peers)
            .find(|(controller, taken, _)| Some(*controller) != mover && *taken == place)?;
        Some(
            Violation::new(
                Reason::InvalidArgument,
                format!("priority {place} is that of {name} in the group"),
                "give each site a priority of its own; 0 is the primary site",
            )
            .object("subcloud peer group", group.header.name.clone()),
        )
    }

    /// All members move here, or none: a member that is not ready refuses the whole.
    pub(super) fn judge_migrate(&self, now: Timestamp, group: &str) -> Judged {
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
}

/// A place, or a bound on members on their way, that no group has.
pub(in super::super) fn invalid_place(
    priority: Option<u32>,
    rehoming: Option<u32>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    if priority.is_some_and(|priority| priority > MAX_PRIORITY) {
        violations.push(
            Violation::new(
                Reason::InvalidArgument,
                format!("the priority is not from 0 to {MAX_PRIORITY}"),
                format!("choose 0 to {MAX_PRIORITY}; 0 is the primary site"),
            )
            .at("priority"),
        );
    }
    if rehoming.is_some_and(|rehoming| !REHOMING_BOUNDS.contains(&rehoming)) {
        violations.push(
            Violation::new(
                Reason::InvalidArgument,
                "max-subcloud-rehoming is not from 1 to 1000",
                "choose 1 to 1000",
            )
            .at("max_subcloud_rehoming"),
        );
    }
    violations
}

/// Nobody, or more members than one call may change.
fn wrong_count(count: usize) -> Option<Violation> {
    let fault = match count {
        1..=MAX_MEMBER_CHANGES => return None,
        0 => "no subcloud is named".to_owned(),
        _ => format!("{count} subclouds are named"),
    };
    let remedy = format!("name 1 to {MAX_MEMBER_CHANGES} subclouds to join or leave");
    Some(Violation::new(Reason::InvalidArgument, fault, remedy).at("add"))
}

fn joins_and_leaves(name: &str) -> Violation {
    Violation::new(
        Reason::InvalidArgument,
        format!("subcloud {name} is named to join the group and to leave it"),
        "name it once",
    )
    .object("subcloud", name.to_owned())
    .at("remove")
}
