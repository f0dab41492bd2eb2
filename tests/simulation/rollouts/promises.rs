//! What must hold of rollouts, judged from outside: by what is on the disks of controller and
//! sites, and by what the machine says aloud.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    Action, Desired, Member, MemberState, Rollout, RolloutId, RolloutInput, RolloutState,
    RolloutWrite, Standing, SubcloudGroup, SubcloudId,
};

use site::Timestamp;

use crate::agents::AgentNode;
use crate::world::{Millis, World};

use super::sites::has_secondary;
use super::{RolloutsNode, Sent};

/// One subcloud of one rollout.
type Place = (RolloutId, SubcloudId);

/// What was promised so far.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// The members whose report is being read, and those that were sent a command.
    reading: BTreeSet<Place>,
    commanded: BTreeSet<Place>,
    /// The members that had not begun when an abortion became durable.
    shut: BTreeSet<Place>,
    /// How often a durable rollout was made, paused, resumed or aborted.
    changes: BTreeMap<(RolloutId, &'static str), usize>,
    /// The members that had their pool when the process was told last of their sites.
    proven: BTreeSet<Place>,
    /// When each member had its result durably, by the controller's clock.
    ended: BTreeMap<Place, Timestamp>,
    /// When each member was done durably, of those whose site was there then.
    done: BTreeMap<Place, Millis>,
}

impl Promises {
    /// The machine hears what it waited for.
    pub(super) fn hears(&mut self, input: &RolloutInput) {
        match input {
            RolloutInput::SiteRead {
                rollout, subcloud, ..
            } => {
                self.reading.remove(&(*rollout, *subcloud));
            }
            RolloutInput::Answered {
                rollout, subcloud, ..
            } => {
                self.commanded.remove(&(*rollout, *subcloud));
            }
            _ => {}
        }
    }

    /// The process ended, and nobody waits for anything.
    pub(super) fn process_ended(&mut self) {
        self.reading.clear();
        self.commanded.clear();
        self.proven.clear();
    }

    /// A durable rollout was changed by an operator, for so many times now.
    fn counted(&mut self, rollout: RolloutId, action: Action) -> usize {
        let count = self.changes.entry((rollout, action.name())).or_default();
        *count += 1;
        *count
    }
}

impl RolloutsNode {
    /// The members that are worked on. The abortion of a rollout lets go of those that were only
    /// read.
    fn busy_places(&self) -> impl Iterator<Item = Place> {
        let aborted = |rollout: RolloutId| {
            let machine = self.machine.as_ref();
            let record = machine.and_then(|machine| machine.rollout(rollout));
            record.is_some_and(|record| record.state == RolloutState::Aborted)
        };
        let reading = self.promises.reading.iter();
        let reading = reading.filter(move |(rollout, _)| !aborted(*rollout));
        reading.chain(&self.promises.commanded).copied()
    }

    /// How many members of a rollout are worked on.
    fn busy(&self, rollout: RolloutId) -> usize {
        self.busy_places().filter(|(of, _)| *of == rollout).count()
    }
}

impl World {
    /// How many subclouds of a group are worked on, by all rollouts.
    fn busy_of_group(&self, group: &SubcloudGroup) -> usize {
        let machine = self.controller.machine.as_ref();
        let of_group = |subcloud: &SubcloudId| {
            let fleet = machine.map(fleet::Controller::fleet);
            let record = fleet.and_then(|fleet| Some((fleet, fleet.subcloud(*subcloud)?)));
            record.is_some_and(|(fleet, record)| fleet.group_of(record).id == group.id)
        };
        let busy = self.rollouts.busy_places();
        let busy: BTreeSet<_> = busy.map(|(_, subcloud)| subcloud).collect();
        busy.into_iter().filter(|id| of_group(id)).count()
    }

    /// A group of which more subclouds are worked on than may be.
    fn crowded_group(&self) -> Option<String> {
        let machine = self.controller.machine.as_ref()?;
        machine.fleet().groups().find_map(|group| {
            let (busy, most) = (self.busy_of_group(group), group.at_once());
            let crowded = u32::try_from(busy).is_ok_and(|busy| busy > most);
            let name = &group.name;
            crowded.then(|| format!("rollouts work on {busy} members of group {name} at once"))
        })
    }

    /// Never more members are worked on than may be.
    fn check_busy(&mut self, rollout: RolloutId) {
        let busy = self.rollouts.busy(rollout);
        let machine = self.rollouts.machine.as_ref();
        let record = machine.and_then(|machine| machine.rollout(rollout));
        let most = record.map_or(0, |record| record.max_parallel);
        if u32::try_from(busy).is_ok_and(|busy| busy > most) {
            self.fail(format!("rollout {rollout} works on {busy} members at once"));
        }
        if let Some(fault) = self.crowded_group() {
            self.fail(fault);
        }
    }

    /// A report is read: its member is worked on from now on.
    pub(super) fn check_reading(&mut self, rollout: RolloutId, subcloud: SubcloudId) {
        self.rollouts.promises.reading.insert((rollout, subcloud));
        self.check_busy(rollout);
    }

    /// A command goes out: that its step begins is durable, no abortion forbids it, and nobody
    /// else works on the subcloud.
    pub(super) fn check_step(&mut self, sent: &Sent) {
        let place = (sent.rollout, sent.subcloud);
        let (rollout, step) = (sent.rollout, sent.step.name());
        let kept = &self.controller.disk.durable.rollouts;
        let state = kept.members.get(&place).map(|member| member.state);
        let mut faults = Vec::new();
        if state != Some(MemberState::InFlight(sent.step)) {
            faults.push(format!(
                "{step} of rollout {rollout} goes out and its member is durably {state:?}"
            ));
        }
        let promises = &mut self.rollouts.promises;
        if promises.shut.contains(&place) {
            faults.push(format!(
                "{step} of rollout {rollout} goes out after the abortion"
            ));
        }
        let mut others = promises.commanded.iter();
        if others.any(|(_, subcloud)| *subcloud == sent.subcloud) {
            faults.push(format!(
                "{step} of rollout {rollout} goes to a busy subcloud"
            ));
        }
        promises.commanded.insert(place);
        for fault in faults {
            self.fail(fault);
        }
        self.check_busy(rollout);
    }

    /// What watchers are told is durable.
    pub(super) fn check_told(&mut self, record: &Rollout, member: Option<&Member>) {
        self.check_receipt(record);
        let kept = &self.controller.disk.durable.rollouts;
        let place = member.map(|member| (record.id, member.subcloud));
        if place.is_some_and(|place| !kept.members.contains_key(&place)) {
            let id = record.id;
            self.fail(format!(
                "a member of rollout {id} was told and is not durable"
            ));
        }
    }

    /// What anybody is told of a rollout is durable.
    pub(super) fn check_receipt(&mut self, record: &Rollout) {
        let kept = self
            .controller
            .disk
            .durable
            .rollouts
            .rollouts
            .get(&record.id);
        if kept.is_none_or(|kept| kept.revision < record.revision) {
            let id = record.id;
            self.fail(format!("rollout {id} was told as it is not on disk"));
        }
    }

    /// Writes of the machine have reached the disk.
    pub(crate) fn rollouts_land(&mut self, mut writes: Vec<RolloutWrite>) {
        // They land together; what a member's result means is known with its rollout.
        writes.sort_by_key(|write| !matches!(write, RolloutWrite::Rollout(_)));
        for write in writes {
            match &write {
                RolloutWrite::Rollout(record) => self.check_record(record),
                RolloutWrite::Member(rollout, member) => self.check_member(*rollout, member),
                RolloutWrite::ForgetMember(rollout, subcloud) => {
                    let records = &self.controller.disk.durable.rollouts.rollouts;
                    if records.contains_key(rollout) {
                        self.fail(format!(
                            "subcloud {subcloud} of rollout {rollout} is forgotten"
                        ));
                    }
                }
            }
            self.controller.disk.durable.rollouts.apply(write);
        }
    }

    /// A rollout changes by an operator's word only, which the audit log has by then, and its end
    /// is one for ever.
    fn check_record(&mut self, record: &Rollout) {
        let (id, state) = (record.id, record.state);
        let kept = &self.controller.disk.durable.rollouts;
        let same = |known: &&Rollout| known.request_id == record.request_id;
        let mut faults = Vec::new();
        if let Some(known) = kept.rollouts.values().filter(same).find(|it| it.id != id) {
            let known = known.id;
            faults.push(format!("one request made rollouts {known} and {id}"));
        }
        let before = kept.rollouts.get(&id);
        let was = before.map(|before| before.state);
        let action = match (was, state) {
            (None, _) => Some(Action::CreateRollout),
            (Some(RolloutState::Running), RolloutState::Paused) => {
                let by_itself = record.paused_because.is_some();
                (!by_itself).then_some(Action::PauseRollout)
            }
            (Some(RolloutState::Paused), RolloutState::Running) => Some(Action::ResumeRollout),
            (Some(RolloutState::Running | RolloutState::Paused), RolloutState::Aborted) => {
                Some(Action::AbortRollout)
            }
            (Some(RolloutState::Aborted | RolloutState::Finished), _) if was != Some(state) => {
                faults.push(format!("rollout {id} was {was:?} and is {state:?}"));
                None
            }
            _ => None,
        };
        if action == Some(Action::AbortRollout) {
            let fresh = kept
                .members_of(id)
                .filter(|it| it.state == MemberState::Pending);
            let fresh = fresh.map(|member| (id, member.subcloud));
            self.rollouts.promises.shut.extend(fresh);
        }
        if let Some(action) = action {
            let count = self.rollouts.promises.counted(id, action);
            if kept.audited(action, id) < count {
                let name = action.name();
                faults.push(format!("{name} of rollout {id} is on disk and not audited"));
            }
        }
        for fault in faults {
            self.fail(fault);
        }
    }

    /// A member only goes on, not at all after an abortion, and its result is true of its site.
    fn check_member(&mut self, rollout: RolloutId, member: &Member) {
        let place = (rollout, member.subcloud);
        let (name, state) = (&member.name, member.state);
        let kept = &self.controller.disk.durable.rollouts;
        let was = kept.members.get(&place).map(|known| known.state);
        let mut faults = Vec::new();
        let back = match was {
            Some(MemberState::InFlight(_)) => state == MemberState::Pending,
            Some(was) => was.is_final() && was != state,
            None => matches!(state, MemberState::InFlight(_)),
        };
        if back {
            faults.push(format!(
                "{name} of rollout {rollout} was {was:?} and is {state:?}"
            ));
        }
        let begins = matches!(state, MemberState::InFlight(_));
        if begins && self.rollouts.promises.shut.contains(&place) {
            faults.push(format!(
                "{name} of rollout {rollout} begins after the abortion"
            ));
        }
        faults.extend(self.untrue_refusal(rollout, member));
        faults.extend(self.untrue_change(rollout, member));
        let there = self.has_pool(rollout, member);
        let ends = state.is_final() && was != Some(state);
        // A host may have been installed anew since the process was told that the pool is there.
        let proven = self.rollouts.promises.proven.contains(&place);
        let proven = proven || (was.is_none() && self.had_pool(member));
        if ends && state == MemberState::Done && !there && !proven {
            faults.push(format!(
                "{name} of rollout {rollout} is done and has no pool"
            ));
        }
        let (now, shown) = (self.now, self.controller_clock());
        if ends {
            self.rollouts.promises.ended.insert(place, shown);
        }
        if ends && there {
            self.rollouts.promises.done.insert(place, now);
        }
        for fault in faults {
            self.fail(fault);
        }
    }

    /// Whether a durable site of a member has the pool that it shall have.
    fn has_pool(&self, rollout: RolloutId, member: &Member) -> bool {
        let record = self.controller.disk.durable.rollouts.rollouts.get(&rollout);
        let (Some(pool), Some(record)) = (pool_of(member), record) else {
            return false;
        };
        let mut hosts = self.hosts_of(&member.name);
        hosts.any(|node| has_secondary(&node.site, record.network, pool))
    }

    /// Whether a host of a member had its pool until it was installed anew, and is not in again:
    /// the controller has not heard yet that it is another one.
    fn had_pool(&self, member: &Member) -> bool {
        let is_in = |node: &AgentNode| {
            let record = node.record.as_ref();
            record.is_some_and(|record| record.subcloud == member.subcloud)
        };
        let mut hosts = self.hosts_of(&member.name).filter(|node| !is_in(node));
        pool_of(member).is_some_and(|pool| hosts.any(|node| node.obeyed.had(pool)))
    }

    /// The process is told of a member's site, by an answer or a report.
    pub(super) fn site_told(&mut self, rollout: RolloutId, subcloud: SubcloudId) {
        let place = (rollout, subcloud);
        let member = self.controller.disk.durable.rollouts.members.get(&place);
        let proves = |member| self.has_pool(rollout, member) || self.had_pool(member);
        let proven = member.is_some_and(proves);
        let promises = &mut self.rollouts.promises;
        if proven {
            promises.proven.insert(place);
        } else {
            promises.proven.remove(&place);
        }
    }

    /// Whether a rollout wants to change a subcloud and has not, or had not at a moment.
    pub(crate) fn is_awaited(&self, subcloud: SubcloudId, at: Timestamp) -> bool {
        let kept = &self.controller.disk.durable.rollouts;
        kept.members.iter().any(|(place, member)| {
            let open = kept.rollouts.get(&place.0).is_some_and(Rollout::is_open);
            let wanted = open && !member.state.is_final();
            let ended = self.rollouts.promises.ended.get(place);
            place.1 == subcloud && (wanted || ended.is_some_and(|ended| *ended >= at))
        })
    }

    /// Whether a subcloud is ready and waits for its turn behind a pause, with nothing under way.
    pub(crate) fn waits_behind_pause(&self, rollout: RolloutId, subcloud: SubcloudId) -> bool {
        let kept = &self.controller.disk.durable.rollouts;
        let state = |rollout| {
            let member = kept.members.get(&(rollout, subcloud));
            member.map(|member| member.state)
        };
        let mut others = kept.rollouts.keys().copied();
        let busy = others.any(|id| matches!(state(id), Some(MemberState::InFlight(_))));
        let record = kept.rollouts.get(&rollout);
        let machine = self.controller.machine.as_ref();
        record.is_some_and(|record| record.state == RolloutState::Paused)
            && state(rollout) == Some(MemberState::Pending)
            && machine.is_some_and(|it| it.standing(subcloud) == Standing::Ready)
            && !busy
    }

    /// A member that was refused or left out was not changed. Of copies each does what it is told
    /// until both are shut out.
    fn untrue_refusal(&self, rollout: RolloutId, member: &Member) -> Option<String> {
        let unchanged = matches!(member.state, MemberState::Refused | MemberState::Skipped);
        let mut hosts = self.hosts_of(&member.name).filter(|it| !self.has_copy(it));
        let changed = hosts.any(|node| node.obeyed.changed_by(rollout, member.subcloud));
        (unchanged && changed).then(|| {
            let (name, state) = (&member.name, member.state.name());
            format!("{name} of rollout {rollout} is {state} and was changed by it")
        })
    }

    /// A member that is told as changed was changed.
    fn untrue_change(&self, rollout: RolloutId, member: &Member) -> Option<String> {
        let mut hosts = self.hosts_of(&member.name);
        let changed = hosts.any(|node| node.obeyed.ever_changed_by(rollout, member.subcloud));
        (member.changed && !changed).then(|| {
            let name = &member.name;
            format!("{name} of rollout {rollout} is told as changed by it and was not")
        })
    }

    /// At the end every result is still true of the sites that were not installed anew since.
    pub(crate) fn rollouts_at_end(&self) -> Vec<String> {
        let kept = &self.controller.disk.durable.rollouts;
        let mut faults = Vec::new();
        for ((rollout, subcloud), member) in &kept.members {
            faults.extend(self.untrue_refusal(*rollout, member));
            let done = self.rollouts.promises.done.get(&(*rollout, *subcloud));
            let anew = self
                .hosts_of(&member.name)
                .map(|node| node.obeyed.anew_at)
                .max();
            let same = done.copied() > anew;
            if member.state == MemberState::Done && same && !self.has_pool(*rollout, member) {
                let name = &member.name;
                faults.push(format!(
                    "{name} of rollout {rollout} is done and lost its pool"
                ));
            }
        }
        faults
    }
}

/// The name of the pool that a member shall have.
fn pool_of(member: &Member) -> Option<&str> {
    match &member.desired {
        Some(Desired::Secondary(pool)) => Some(&pool.name),
        _ => None,
    }
}
