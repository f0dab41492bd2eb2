//! The records of rollouts on the controller's disk.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    Action, AuditEntry, Member, Outcome, Rollout, RolloutId, RolloutRecords, RolloutWrite,
    SubcloudId,
};

/// What is durable.
#[derive(Default)]
pub(crate) struct Kept {
    pub(super) rollouts: BTreeMap<RolloutId, Rollout>,
    pub(super) members: BTreeMap<(RolloutId, SubcloudId), Member>,
    /// How often the audit log says that something was done.
    audited: BTreeMap<(&'static str, String), usize>,
}

impl Kept {
    pub(super) fn apply(&mut self, write: RolloutWrite) {
        match write {
            RolloutWrite::Rollout(record) => {
                self.rollouts.insert(record.id, *record);
            }
            RolloutWrite::Member(rollout, member) => {
                self.members.insert((rollout, member.subcloud), *member);
            }
            RolloutWrite::ForgetMember(rollout, subcloud) => {
                self.members.remove(&(rollout, subcloud));
            }
        }
    }

    /// An entry of the audit log has reached the disk.
    pub(crate) fn audits(&mut self, entry: &AuditEntry) {
        if entry.outcome == Outcome::Done {
            let key = (entry.action.name(), entry.name.clone());
            *self.audited.entry(key).or_default() += 1;
        }
    }

    /// How often the audit log says that this was done to a rollout.
    pub(super) fn audited(&self, action: Action, rollout: RolloutId) -> usize {
        let key = (action.name(), format!("rollout {rollout}"));
        self.audited.get(&key).copied().unwrap_or_default()
    }

    /// What a process starts from: all rollouts, the members of the open ones, and those of a
    /// rollout whose making a crash cut short (it would have the next number).
    pub(super) fn records(&self, missed: BTreeSet<(RolloutId, SubcloudId)>) -> RolloutRecords {
        let next = self
            .rollouts
            .keys()
            .next_back()
            .map_or(1, |last| last.0 + 1);
        let read = |id: &RolloutId| {
            let record = self.rollouts.get(id);
            record.map_or(id.0 == next, Rollout::is_open)
        };
        let members = self.members.iter().filter(|((id, _), _)| read(id));
        RolloutRecords {
            rollouts: self.rollouts.values().cloned().collect(),
            members: members
                .map(|((id, _), member)| (*id, member.clone()))
                .collect(),
            missed,
        }
    }

    pub(super) fn members_of(&self, rollout: RolloutId) -> impl Iterator<Item = &Member> {
        let of = self
            .members
            .iter()
            .filter(move |((id, _), _)| *id == rollout);
        of.map(|(_, member)| member)
    }
}
