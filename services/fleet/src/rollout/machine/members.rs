//! One member after the other: read its state, send what is left, keep what came of it.

use std::collections::{BTreeMap, VecDeque};

use site::{Generation, Site, Timestamp};

use super::super::{Member, MemberState, RolloutId, RolloutState, Step};
use super::{
    Answered, BACKSTOP, Batch, Deferred, FleetView, RolloutOutput, Rollouts, Run, Standing,
    Touched, Turn, Work,
};
use crate::admission::admit_report;
use crate::entropy::after;
use crate::{Fault, GroupId, Reason, SharedGroup, SubcloudId, Violation};

impl Rollouts {
    /// Something about a subcloud changed: it may be ready now. One that is not stays passed over.
    pub(super) fn stirred(&mut self, view: &impl FleetView, subcloud: SubcloudId) {
        if !view.standing(subcloud).is_settled() {
            return;
        }
        for run in self.rollouts.values_mut().filter(|run| run.is_open()) {
            match run.work.get_mut(&subcloud) {
                Some(Work::Reading { stirred }) => *stirred = true,
                _ => run.queue(subcloud),
            }
        }
    }

    /// A rollout lets go of a subcloud: others may want it.
    fn let_go(&mut self, id: RolloutId, subcloud: SubcloudId) {
        for (other, run) in &mut self.rollouts {
            if *other == id {
                run.work.remove(&subcloud);
            } else if run.is_open() {
                run.queue(subcloud);
            }
        }
    }

    /// Subclouds on which a rollout works, and those of which the report that tells what a
    /// command did has not come: another rollout would plan on what is no longer so.
    fn is_taken(&self, now: Timestamp, view: &impl FleetView, subcloud: SubcloudId) -> bool {
        let generation = generation_of(view, subcloud);
        let awaited = |touched: &Touched| touched.until > now && touched.generation == generation;
        self.touched.get(&subcloud).is_some_and(awaited)
            || self
                .rollouts
                .values()
                .any(|run| run.work.contains_key(&subcloud))
    }

    /// How many subclouds of each group are worked on, by all rollouts.
    fn busy(&self, view: &impl FleetView) -> Busy {
        let works = self.rollouts.values().flat_map(|run| run.work.keys());
        let mut busy = Busy::default();
        for group in works.filter_map(|subcloud| group_of(view, *subcloud)) {
            busy.begins(group);
        }
        busy
    }

    /// Takes up members as long as there is room, in the rollout and in their group. One that is not ready is passed over: it leaves
    /// the queue, and the fleet may miss its change; when it is ready, being stirred, or the
    /// backstop, brings it back.
    pub(super) fn advance(
        &mut self,
        now: Timestamp,
        view: &impl FleetView,
        id: RolloutId,
        out: &mut Vec<RolloutOutput>,
    ) {
        let idle = |run: &Run| run.queue.is_empty() || !run.has_room();
        if self.rollouts.get(&id).is_none_or(idle) {
            return;
        }
        let mut busy = self.busy(view);
        loop {
            let Some(run) = self.rollouts.get(&id).filter(|run| run.has_room()) else {
                return;
            };
            // The members of a group that was deleted are in another one.
            let has_room = |id| view.fleet().group(id).is_none_or(|it| busy.has_room(it));
            let next = run.queue.first(has_room);
            let begins = run.record.state == RolloutState::Running;
            let Some(place) = next.filter(|(turn, ..)| begins || *turn == Turn::Begun) else {
                return;
            };
            let subcloud = place.2;
            let standing = view.standing(subcloud);
            let taken = self.is_taken(now, view, subcloud);
            let Some(run) = self.rollouts.get_mut(&id) else {
                return;
            };
            let group = group_of(view, subcloud);
            if let Some(group) = group
                && !busy.has_room(group)
            {
                run.queue.hold(place, group.id);
                continue;
            }
            run.queue.remove(place);
            match standing {
                Standing::Gone => self.deleted(now, id, subcloud, out),
                Standing::Ready if !taken => {
                    let stirred = false;
                    run.work.insert(subcloud, Work::Reading { stirred });
                    group.into_iter().for_each(|group| busy.begins(group));
                    out.push(RolloutOutput::ReadSite {
                        rollout: id,
                        subcloud,
                    });
                }
                Standing::Ready
                | Standing::NotEnrolled
                | Standing::Unmanaged
                | Standing::Quarantined
                | Standing::Offline
                | Standing::Behind => {}
            }
        }
    }

    /// The subcloud was deleted meanwhile: what it did with a command is not known any more.
    fn deleted(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        subcloud: SubcloudId,
        out: &mut Vec<RolloutOutput>,
    ) {
        let Some(member) = self.member(id, subcloud) else {
            return;
        };
        let state = match member.state {
            MemberState::InFlight(_) => MemberState::Failed,
            _ => MemberState::Skipped,
        };
        let name = member.name.clone();
        let message = format!("subcloud {name} was deleted after the rollout was made");
        let fault = Violation::new(
            Reason::SubcloudNotFound,
            message,
            "nothing, if it was meant",
        )
        .object("subcloud", name);
        self.ended(now, id, subcloud, state, vec![Fault::from(&fault)], out);
    }

    /// The newest report is there: tells what is left to do on this subcloud.
    pub(super) fn site_read(
        &mut self,
        now: Timestamp,
        view: &impl FleetView,
        id: RolloutId,
        subcloud: SubcloudId,
        site: Option<&Site>,
        out: &mut Vec<RolloutOutput>,
    ) {
        let Some(run) = self.rollouts.get_mut(&id) else {
            return;
        };
        let Some(&Work::Reading { stirred }) = run.work.get(&subcloud) else {
            return;
        };
        let generation = generation_of(view, subcloud);
        let Some(member) = run.members.get_mut(&subcloud) else {
            return;
        };
        let begins = run.record.state == RolloutState::Running;
        if member.state == MemberState::Pending && !begins {
            // It was paused or aborted while the report was read.
            run.work.remove(&subcloud);
            run.queue(subcloud);
            return self.let_go(id, subcloud);
        }
        // A report counts for the fleet before it is on disk, and what was read may be older: then
        // it is looked at again when that report is durable, or at once if it is by now.
        let site = site.filter(|site| Some(site.generation()) == generation);
        let (Some(site), Some(desired)) = (site, &member.desired) else {
            run.work.remove(&subcloud);
            if stirred {
                run.queue(subcloud);
            }
            return self.let_go(id, subcloud);
        };
        let steps = desired.steps(run.record.network, site);
        let begun = match member.state {
            MemberState::InFlight(begun) => Some(begun),
            _ => None,
        };
        if let Some(begun) = begun {
            // A step that has begun and is not left was done, whoever heard of it.
            member.changed |= steps.0.iter().all(|(left, _)| *left != begun);
        }
        // One that is left may have been done all the same, and undone by somebody since.
        let open = begun.filter(|_| !member.changed);
        let judged = match view.fleet().subcloud(subcloud) {
            Some(record) => steps
                .foresee(site, now)
                .map_err(|rejection| rejection.map(Reason::Site))
                .and_then(|ahead| match steps.0.is_empty() {
                    true => Ok(()),
                    false => admit_report(view.fleet(), record, &ahead.site.to_parts()).map(|_| ()),
                }),
            None => return self.deleted(now, id, subcloud, out),
        };
        match judged {
            Ok(()) => {
                if !steps.0.is_empty() {
                    let until = after(now, BACKSTOP);
                    self.touched.insert(subcloud, Touched { generation, until });
                }
                self.go_on(now, id, subcloud, steps.0.into(), out);
            }
            Err(rejection) => {
                let faults = Fault::all_of(&rejection);
                match open {
                    Some(step) => self.left_open(now, id, subcloud, (step, faults), out),
                    None => self.refused(now, id, subcloud, faults, out),
                }
            }
        }
    }

    /// Sends the next step, as soon as it is durable that it begins; without one it is done.
    fn go_on(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        subcloud: SubcloudId,
        steps: VecDeque<(Step, site::Change)>,
        out: &mut Vec<RolloutOutput>,
    ) {
        let Some((next, _)) = steps.front() else {
            return self.ended(now, id, subcloud, MemberState::Done, Vec::new(), out);
        };
        let state = MemberState::InFlight(*next);
        let Some(run) = self.rollouts.get_mut(&id) else {
            return;
        };
        run.work.insert(subcloud, Work::Steps(steps));
        if run
            .members
            .get(&subcloud)
            .is_some_and(|member| member.state == state)
        {
            // That it begins is durable: it is asked again.
            return self.send(id, subcloud, out);
        }
        let Some(member) = run.set(now, subcloud, state) else {
            return;
        };
        let batch = Batch {
            members: vec![member.clone()],
            then: vec![Deferred::Command(id, subcloud)],
        };
        self.commit(now, id, batch, out);
    }

    pub(super) fn send(
        &mut self,
        rollout: RolloutId,
        subcloud: SubcloudId,
        out: &mut Vec<RolloutOutput>,
    ) {
        let run = self.rollouts.get(&rollout);
        let Some(Work::Steps(steps)) = run.and_then(|run| run.work.get(&subcloud)) else {
            return;
        };
        let Some((step, change)) = steps.front() else {
            return;
        };
        out.push(RolloutOutput::Command {
            rollout,
            subcloud,
            step: *step,
            request_id: step.request_id(self.controller, rollout, subcloud),
            change: change.clone(),
        });
    }

    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        subcloud: SubcloudId,
        step: Step,
        answer: Answered,
        out: &mut Vec<RolloutOutput>,
    ) {
        let Some(run) = self.rollouts.get_mut(&id) else {
            return;
        };
        let asked = |work: &mut Work| match work {
            Work::Steps(steps) if steps.front().is_some_and(|(first, _)| *first == step) => {
                Some(std::mem::take(steps))
            }
            _ => None,
        };
        let Some(mut steps) = run.work.get_mut(&subcloud).and_then(asked) else {
            return;
        };
        match answer {
            Answered::Done => {
                steps.pop_front();
                if let Some(member) = run.members.get_mut(&subcloud) {
                    member.changed = true;
                }
                self.go_on(now, id, subcloud, steps, out);
            }
            Answered::Refused(faults) => self.refused(now, id, subcloud, faults, out),
            Answered::Failed(faults) => {
                self.ended(now, id, subcloud, MemberState::Failed, faults, out);
            }
            Answered::Unreachable => self.let_go(id, subcloud),
        }
    }

    /// Nothing was changed by what was refused; but a step before it may have been done.
    fn refused(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        subcloud: SubcloudId,
        mut faults: Vec<Fault>,
        out: &mut Vec<RolloutOutput>,
    ) {
        let Some(member) = self.member(id, subcloud) else {
            return;
        };
        if !member.changed {
            return self.ended(now, id, subcloud, MemberState::Refused, faults, out);
        }
        let name = &member.name;
        let message = format!("subcloud {name} was changed in part: a later step was refused");
        faults.push(incomplete(name, message));
        self.ended(now, id, subcloud, MemberState::Failed, faults, out);
    }

    /// What is left was refused before the step that had begun could be asked for again: nobody
    /// heard whether it was done, so it cannot be said that nothing was changed.
    fn left_open(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        subcloud: SubcloudId,
        (step, mut faults): (Step, Vec<Fault>),
        out: &mut Vec<RolloutOutput>,
    ) {
        let Some(member) = self.member(id, subcloud) else {
            return;
        };
        let name = &member.name;
        let message = format!(
            "subcloud {name} may have been changed in part: {} had begun, and its answer was lost",
            step.name()
        );
        faults.push(incomplete(name, message));
        self.ended(now, id, subcloud, MemberState::Failed, faults, out);
    }

    fn member(&self, id: RolloutId, subcloud: SubcloudId) -> Option<&Member> {
        self.rollouts.get(&id)?.members.get(&subcloud)
    }

    /// Keeps a result and sees whether the rollout ends or pauses with it.
    fn ended(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        subcloud: SubcloudId,
        state: MemberState,
        faults: Vec<Fault>,
        out: &mut Vec<RolloutOutput>,
    ) {
        let Some(run) = self.rollouts.get_mut(&id) else {
            return;
        };
        let Some(member) = run.set(now, subcloud, state) else {
            return;
        };
        member.faults = faults;
        let member = member.clone();
        run.settle();
        let batch = Batch {
            members: vec![member],
            then: Vec::new(),
        };
        self.let_go(id, subcloud);
        self.commit(now, id, batch, out);
        self.forget_closed(id, out);
    }
}

/// A subcloud is not, or may not be, as it was before.
fn incomplete(name: &str, message: String) -> Fault {
    let remedy = format!(
        "look at it with `tandem system addrpool-list --subcloud {}`",
        site::Word(name)
    );
    let violation = Violation::new(Reason::RolloutIncomplete, message, remedy);
    Fault::from(&violation.object("subcloud", name))
}

/// How many subclouds of each group are worked on.
#[derive(Default)]
struct Busy(BTreeMap<GroupId, u32>);

impl Busy {
    fn has_room(&self, group: &SharedGroup) -> bool {
        self.0.get(&group.id).copied().unwrap_or_default() < group.at_once()
    }

    fn begins(&mut self, group: &SharedGroup) {
        *self.0.entry(group.id).or_default() += 1;
    }
}

/// The group that a subcloud is in now.
fn group_of(view: &impl FleetView, subcloud: SubcloudId) -> Option<&SharedGroup> {
    let fleet = view.fleet();
    Some(fleet.group_of(fleet.subcloud(subcloud)?))
}

/// The generation of the newest accepted report.
fn generation_of(view: &impl FleetView, subcloud: SubcloudId) -> Option<Generation> {
    let observed = view.fleet().subcloud(subcloud)?.observed.as_ref()?;
    Some(observed.generation)
}

impl Run {
    fn has_room(&self) -> bool {
        u32::try_from(self.work.len()).is_ok_and(|busy| busy < self.record.max_parallel)
    }

    /// Finishes a rollout without open members; pauses one with too many failures.
    pub(super) fn settle(&mut self) {
        let record = &mut self.record;
        let running = record.state == RolloutState::Running;
        if record.tally.open() == 0 {
            if record.state != RolloutState::Aborted {
                record.state = RolloutState::Finished;
                record.paused_because = None;
            }
            return;
        }
        let unsuccessful = record.tally.unsuccessful().saturating_sub(record.forgiven);
        let too_many = record.max_failures.is_some_and(|most| unsuccessful >= most);
        if running && too_many {
            let message = format!("{unsuccessful} subclouds were refused or failed");
            let remedy = "look at their faults, then resume or abort the rollout";
            let fault = Violation::new(Reason::RolloutPaused, message, remedy)
                .fact("unsuccessful", unsuccessful);
            record.state = RolloutState::Paused;
            record.paused_because = Some(Fault::from(&fault));
        }
    }
}
