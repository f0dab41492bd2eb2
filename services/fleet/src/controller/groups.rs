//! Operators' verbs on subcloud groups.

use std::sync::Arc;

use site::Timestamp;

use crate::group::{DEFAULT_PARALLEL, MAX_GROUPS, MAX_PARALLEL};
use crate::{
    EventKind, GroupId, Reason, Rejection, SharedGroup, SubcloudGroup, UpdateApply, Violation,
};

use super::operate::{check_etag, invalid_text, nothing_named};
use super::operator::{Accepted, Carry, id_taken, invalid_name};
use super::{Controller, GroupEdit};

impl Controller {
    pub(super) fn judge_add_group(
        &self,
        now: Timestamp,
        id: GroupId,
        edit: &GroupEdit,
    ) -> Result<Accepted, Rejection> {
        let fresh = SubcloudGroup {
            id,
            name: String::new(),
            description: String::new(),
            update: UpdateApply::Parallel,
            max_parallel: DEFAULT_PARALLEL,
            created_at: now,
            updated_at: now,
        };
        let named = GroupEdit {
            name: Some(edit.name.clone().unwrap_or_default()),
            ..edit.clone()
        };
        let mut violations = self.invalid_edit(id, &named);
        let groups = || self.fleet.groups();
        if groups().any(|known| known.id == id) {
            violations.push(id_taken("id", id));
        }
        if groups().count() >= MAX_GROUPS {
            violations.push(groups_full());
        }
        Rejection::check(violations)?;
        Ok(put(edited(fresh, &named), EventKind::GroupAdded))
    }

    pub(super) fn judge_update_group(
        &self,
        now: Timestamp,
        reference: &str,
        etag: &str,
        edit: &GroupEdit,
    ) -> Result<Accepted, Rejection> {
        let known = self.found_group(reference)?;
        check_etag(("subcloud group", &known.name), etag, &known.etag())?;
        let mut violations = Vec::new();
        violations.extend(nothing_named(*edit == GroupEdit::default()));
        violations.extend(self.invalid_edit(known.id, edit));
        let renamed = edit.name.as_ref().is_some_and(|name| *name != known.name);
        if known.id == GroupId::DEFAULT && renamed {
            violations.push(default_fixed("keeps its name"));
        }
        Rejection::check(violations)?;
        let mut changed = SubcloudGroup::clone(known);
        changed.updated_at = now;
        Ok(put(edited(changed, edit), EventKind::GroupUpdated))
    }

    pub(super) fn judge_delete_group(
        &self,
        reference: &str,
        etag: &str,
    ) -> Result<Accepted, Rejection> {
        let known = self.found_group(reference)?;
        check_etag(("subcloud group", &known.name), etag, &known.etag())?;
        if known.id == GroupId::DEFAULT {
            return Err(Rejection::one(default_fixed("cannot be deleted")));
        }
        Ok(Accepted {
            carry: Carry::ForgetGroup(known.id),
            answer: super::Answer::Group(Arc::clone(known)),
            event: EventKind::GroupDeleted,
            subcloud: None,
            name: known.name.clone(),
        })
    }

    /// Finds a group by name or uuid.
    pub(super) fn found_group(&self, reference: &str) -> Result<&SharedGroup, Rejection> {
        let unknown = || Rejection::one(subcloud_group_not_found(reference));
        self.fleet.find_group(reference).ok_or_else(unknown)
    }

    fn invalid_edit(&self, id: GroupId, edit: &GroupEdit) -> Vec<Violation> {
        let GroupEdit {
            name,
            description,
            update: _,
            max_parallel,
        } = edit;
        let mut violations = Vec::new();
        if let Some(name) = name {
            violations.extend(invalid_name(name));
            let taken = |known: &&SharedGroup| known.name == *name && known.id != id;
            if self.fleet.groups().any(|known| taken(&known)) {
                violations.push(
                    Violation::new(
                        Reason::SubcloudGroupNameTaken,
                        format!("there is a subcloud group {name} already"),
                        "choose another name",
                    )
                    .object("subcloud group", name.clone()),
                );
            }
        }
        violations.extend(invalid_text("description", description.as_deref()));
        if let Some(number) = max_parallel
            && !(1..=MAX_PARALLEL).contains(number)
        {
            violations.push(
                Violation::new(
                    Reason::InvalidArgument,
                    format!("{number} subclouds cannot be worked on at a time"),
                    format!("choose 1 to {MAX_PARALLEL}"),
                )
                .at("max_parallel"),
            );
        }
        violations
    }
}

fn put(group: SubcloudGroup, event: EventKind) -> Accepted {
    let group = Arc::new(group);
    Accepted {
        carry: Carry::PutGroup(Arc::clone(&group)),
        name: group.name.clone(),
        answer: super::Answer::Group(group),
        event,
        subcloud: None,
    }
}

fn edited(mut group: SubcloudGroup, edit: &GroupEdit) -> SubcloudGroup {
    let GroupEdit {
        name,
        description,
        update,
        max_parallel,
    } = edit;
    if let Some(name) = name {
        group.name.clone_from(name);
    }
    if let Some(description) = description {
        group.description.clone_from(description);
    }
    group.update = update.unwrap_or(group.update);
    group.max_parallel = max_parallel.unwrap_or(group.max_parallel);
    group
}

fn groups_full() -> Violation {
    Violation::new(
        Reason::SubcloudGroupsFull,
        format!("there are {MAX_GROUPS} subcloud groups, and no more are allowed"),
        "delete one that is no longer needed: `tandem dcmanager subcloud-group delete NAME`",
    )
    .fact("limit", MAX_GROUPS)
}

fn default_fixed(what: &str) -> Violation {
    Violation::new(
        Reason::DefaultGroupFixed,
        format!("the Default group {what}: subclouds of no other group are in it"),
        "add a group of your own: `tandem dcmanager subcloud-group add NAME`",
    )
    .object("subcloud group", crate::group::DEFAULT_GROUP)
}

/// No group goes by this name or uuid.
pub fn subcloud_group_not_found(reference: &str) -> Violation {
    Violation::new(
        Reason::SubcloudGroupNotFound,
        format!("there is no subcloud group {reference:?}"),
        "`tandem dcmanager subcloud-group list` shows the groups",
    )
    .object("subcloud group", reference)
}
