//! Operators' verbs on subclouds that are there: manage, unmanage, update, delete.

use std::sync::Arc;

use site::Timestamp;

use crate::{
    Action, EventKind, Goodbye, GoodbyeReason, GroupId, Management, Reason, Rejection,
    SharedSubcloud, Subcloud, SubcloudId, Violation,
};

use super::groups::subcloud_group_not_found;
use super::operator::{Accepted, Call, Carry, subcloud_not_found};
use super::{
    Availability, Batch, Controller, Deferred, FleetChange, Operate, Output, SubcloudEdit, Write,
};

/// The most characters of a description or a location.
const MAX_TEXT: usize = 255;

impl Controller {
    pub(super) fn operate(&mut self, now: Timestamp, call: Operate, out: &mut Vec<Output>) {
        let request = call.request;
        let judged = match self.answered_before(now, call.key.as_ref(), call.validate_only) {
            Ok(Some(answer)) => {
                let outcome = Ok(answer);
                self.after_all(Deferred::Output(Output::Answer { request, outcome }), out);
                return;
            }
            Ok(None) => self.judge_change(now, &call.change),
            Err(rejection) => Err(rejection),
        };
        let (action, name) = call.change.named();
        let call = Call {
            request,
            actor: call.actor,
            action,
            name,
            key: call.key,
            validate_only: call.validate_only,
        };
        self.conclude(now, call, judged, out);
    }

    fn judge_change(&self, now: Timestamp, change: &FleetChange) -> Result<Accepted, Rejection> {
        match change {
            FleetChange::Manage { subcloud, force } => self.judge_manage(now, subcloud, *force),
            FleetChange::Unmanage { subcloud } => self.judge_unmanage(now, subcloud),
            FleetChange::Update {
                subcloud,
                etag,
                edit,
            } => self.judge_update(now, subcloud, etag, edit),
            FleetChange::Delete { subcloud, etag } => self.judge_delete(subcloud, etag),
            FleetChange::AddGroup { id, group } => self.judge_add_group(now, *id, group),
            FleetChange::UpdateGroup { group, etag, edit } => {
                self.judge_update_group(now, group, etag, edit)
            }
            FleetChange::DeleteGroup { group, etag } => self.judge_delete_group(group, etag),
        }
    }

    fn judge_manage(
        &self,
        now: Timestamp,
        reference: &str,
        force: bool,
    ) -> Result<Accepted, Rejection> {
        let record = self.found(reference)?;
        let mut violations = Vec::new();
        violations.extend(self.owned_elsewhere(record));
        if record.management == Management::Managed {
            violations.push(about(
                record,
                Reason::SubcloudManaged,
                "is managed already",
                "nothing is to be done".to_owned(),
            ));
        }
        let online = self.presence(record.id).availability == Availability::Online;
        if record.enrolled().is_none() {
            violations.push(about(
                record,
                Reason::SubcloudNotEnrolled,
                "has not enrolled, so there is nothing that could be managed",
                format!(
                    "enroll its site; `tandem dcmanager subcloud token {}` gives a token",
                    record.name
                ),
            ));
        } else if !online && !force {
            violations.push(about(
                record,
                Reason::SubcloudNotOnline,
                "is not online",
                format!(
                    "see to its link, or `tandem dcmanager subcloud manage {} --force`",
                    record.name
                ),
            ));
        }
        Rejection::check(violations)?;
        let changed = Subcloud {
            management: Management::Managed,
            updated_at: now,
            ..Subcloud::clone(record)
        };
        Ok(self.accepted(changed, Vec::new(), EventKind::Managed))
    }

    fn judge_unmanage(&self, now: Timestamp, reference: &str) -> Result<Accepted, Rejection> {
        let record = self.found(reference)?;
        self.check_owned(record)?;
        if record.management == Management::Unmanaged {
            return Err(Rejection::one(about(
                record,
                Reason::SubcloudUnmanaged,
                "is not managed",
                "nothing is to be done".to_owned(),
            )));
        }
        let changed = Subcloud {
            management: Management::Unmanaged,
            updated_at: now,
            ..Subcloud::clone(record)
        };
        Ok(self.accepted(changed, Vec::new(), EventKind::Unmanaged))
    }

    fn judge_update(
        &self,
        now: Timestamp,
        reference: &str,
        etag: &str,
        edit: &SubcloudEdit,
    ) -> Result<Accepted, Rejection> {
        let found = self.found(reference);
        let mut unknown = Vec::new();
        if found.is_err() {
            self.group_of_edit(edit, &mut unknown);
        }
        let (record, ()) = Rejection::both(found, Rejection::check(unknown))?;
        check_etag(("subcloud", &record.name), etag, &record.etag())?;
        let SubcloudEdit {
            description,
            location,
            group: _,
        } = edit;
        let mut violations = Vec::new();
        // The group that a subcloud is in is each site's own business.
        if description.is_some() || location.is_some() {
            violations.extend(self.owned_elsewhere(record));
        }
        violations.extend(nothing_named(edit == &SubcloudEdit::default()));
        violations.extend(edit.invalid_texts());
        let mut changed = Subcloud::clone(record);
        if let Some(group) = self.group_of_edit(edit, &mut violations) {
            changed.group = group;
        }
        Rejection::check(violations)?;
        if let Some(description) = description {
            changed.description.clone_from(description);
        }
        if let Some(location) = location {
            changed.location.clone_from(location);
        }
        changed.updated_at = now;
        Ok(self.accepted(changed, Vec::new(), EventKind::Updated))
    }

    /// The group that is named, if one is; one that there is not is a violation.
    pub(super) fn group_of_edit(
        &self,
        edit: &SubcloudEdit,
        violations: &mut Vec<Violation>,
    ) -> Option<GroupId> {
        let group = edit.group.as_deref()?;
        let found = self.fleet.find_group(group).map(|found| found.id);
        if found.is_none() {
            violations.push(subcloud_group_not_found(group).at("group"));
        }
        found
    }

    fn judge_delete(&self, reference: &str, etag: &str) -> Result<Accepted, Rejection> {
        let record = self.found(reference)?;
        check_etag(("subcloud", &record.name), etag, &record.etag())?;
        Rejection::check(self.shared_by_owner(record).into_iter().collect())?;
        if record.management == Management::Managed && record.owned_here() {
            return Err(Rejection::one(about(
                record,
                Reason::SubcloudManaged,
                "is managed, and only unmanaged subclouds are deleted",
                format!(
                    "if it is really to go: `tandem dcmanager subcloud unmanage {}` first",
                    record.name
                ),
            )));
        }
        Ok(Accepted {
            carry: Carry::Delete(Arc::clone(record)),
            answer: self.receipt(Arc::clone(record), Vec::new()).into(),
            event: EventKind::Deleted,
            subcloud: Some(record.id),
            name: record.name.clone(),
        })
    }

    /// Takes a subcloud out: its name, region and addresses are free, and no key of it is ever
    /// taken again, for its id is in no record.
    pub(super) fn delete(
        &mut self,
        now: Timestamp,
        batch: &mut Batch,
        subcloud: &SharedSubcloud,
        out: &mut Vec<Output>,
    ) {
        let id = subcloud.id;
        batch
            .writes
            .push(Write::ForgetSubcloud(Arc::clone(subcloud)));
        batch.writes.push(Write::ForgetSite(id));
        self.cut_off(now, batch, id, out);
        self.fleet.forget(id);
        self.shared_changed(Some(subcloud.as_ref()), None);
        self.followed(batch, Some(subcloud), None);
        self.presence.remove(&id);
        self.sightings.forget(id);
    }

    /// Ends the live link of a key that is revoked: nothing that comes over it counts any more.
    /// The agent is told once the revocation is durable, lest it be taken back by a crash.
    pub(super) fn cut_off(
        &mut self,
        now: Timestamp,
        batch: &mut Batch,
        id: SubcloudId,
        out: &mut Vec<Output>,
    ) {
        if let Some(link) = self.presence(id).link {
            self.link_closed(now, link, out);
            let goodbye = Goodbye::because(GoodbyeReason::Revoked);
            let close = Output::CloseLink { link, goodbye };
            batch.then.push(Deferred::Output(close));
        }
    }

    /// Finds a subcloud by name or uuid.
    pub(super) fn found(&self, reference: &str) -> Result<&SharedSubcloud, Rejection> {
        let unknown = || Rejection::one(subcloud_not_found(reference));
        self.fleet.find(reference).ok_or_else(unknown)
    }
}

impl FleetChange {
    /// What it is, and what it is about.
    fn named(&self) -> (Action, &str) {
        match self {
            Self::Manage { subcloud, .. } => (Action::ManageSubcloud, subcloud),
            Self::Unmanage { subcloud } => (Action::UnmanageSubcloud, subcloud),
            Self::Update { subcloud, .. } => (Action::UpdateSubcloud, subcloud),
            Self::Delete { subcloud, .. } => (Action::DeleteSubcloud, subcloud),
            Self::AddGroup { group, .. } => {
                (Action::AddGroup, group.name.as_deref().unwrap_or_default())
            }
            Self::UpdateGroup { group, .. } => (Action::UpdateGroup, group),
            Self::DeleteGroup { group, .. } => (Action::DeleteGroup, group),
        }
    }
}

/// A refusal for what a subcloud is.
fn about(record: &Subcloud, reason: Reason, is: &str, remedy: String) -> Violation {
    let name = &record.name;
    Violation::new(reason, format!("subcloud {name} {is}"), remedy).object("subcloud", name.clone())
}

/// An update that names no field.
pub(super) fn nothing_named(nothing: bool) -> Option<Violation> {
    let violation = || {
        Violation::new(
            Reason::InvalidArgument,
            "the update names nothing to change",
            "give at least one new value, or name the fields in update_mask",
        )
        .at("update_mask")
    };
    nothing.then(violation)
}

impl SubcloudEdit {
    /// What is wrong with its texts.
    pub(super) fn invalid_texts(&self) -> impl Iterator<Item = Violation> {
        let description = invalid_text("description", self.description.as_deref());
        let location = invalid_text("location", self.location.as_deref());
        description.into_iter().chain(location)
    }
}

/// A text that is too long for a list, or would break its lines.
pub(super) fn invalid_text(field: &'static str, text: Option<&str>) -> Option<Violation> {
    let text = text?;
    let fault = if text.chars().count() > MAX_TEXT {
        "is longer than 255 characters"
    } else if text.chars().any(char::is_control) {
        "has a line break or another control character"
    } else {
        return None;
    };
    Some(
        Violation::new(
            Reason::InvalidArgument,
            format!("{field} {fault}"),
            "write one line of at most 255 characters",
        )
        .at(field),
    )
}

/// Refuses a change of a record that is no longer what the caller read. An empty etag skips it.
pub(super) fn check_etag(
    (kind, name): (&'static str, &str),
    read: &str,
    now: &str,
) -> Result<(), Rejection> {
    if read.is_empty() || read == now {
        return Ok(());
    }
    Err(Rejection::one(
        Violation::new(
            site::Reason::EtagMismatch.into(),
            format!("{kind} {name} changed after it was read"),
            format!("read it again (its etag is {now} now) and repeat the change"),
        )
        .object(kind, name)
        .fact("etag", now),
    ))
}
