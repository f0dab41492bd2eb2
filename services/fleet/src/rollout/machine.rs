//! The machine that carries rollouts out.

mod answered;
mod census;
mod input;
mod members;
mod operator;
mod queue;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use site::{Change, Generation, Timestamp};

use super::{Member, MemberState, Rollout, RolloutId, Step, Tally};
use crate::entropy::after;
use crate::{Controller, ControllerId, Fleet, RequestId, SubcloudId, Ticket};

pub use census::RolloutCensus;
pub use input::{
    Answered, Control, CreateRollout, RolloutInput, RolloutOutput, RolloutReceipt, RolloutRecords,
    RolloutWrite, Verb,
};
pub use operator::rollout_not_found;
use queue::{Place, Queue, Turn};

/// The most rollouts that are not closed. Operators think in a few; it bounds the members in
/// memory (100 MB with [`super::MAX_MEMBERS`] each).
pub const MAX_OPEN_ROLLOUTS: usize = 16;

/// The most closed rollouts whose results are kept; those that closed first are forgotten first.
pub const MAX_KEPT_ROLLOUTS: usize = 100;

/// How often members that wait are looked at although nothing was heard of them. It only bounds
/// how long a change that nobody told the machine of goes unnoticed.
pub const BACKSTOP: Duration = Duration::from_secs(30);

/// Member records of one write: with some 500 bytes each a write stays near 1 MB.
const WRITES_AT_ONCE: usize = 2000;

/// What the machine looks at but does not own.
pub trait FleetView {
    /// The records.
    fn fleet(&self) -> &Fleet;
    /// Whether commands can go out to a subcloud now.
    fn standing(&self, subcloud: SubcloudId) -> Standing;
}

/// Whether commands can go out to a subcloud now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// There is no such subcloud any more.
    Gone,
    /// It has not enrolled.
    NotEnrolled,
    /// It is unmanaged.
    Unmanaged,
    /// Its newest report was refused.
    Quarantined,
    /// Its link is not up.
    Offline,
    /// Its link is up, but its present state has not been reported yet.
    Behind,
    /// Commands reach it, and its present state is known.
    Ready,
}

impl Standing {
    /// Whether a rollout that looks at it now gets on: it can be changed, or it never can.
    fn is_settled(self) -> bool {
        matches!(self, Self::Ready | Self::Gone)
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "GONE",
            Self::NotEnrolled => "NOT_ENROLLED",
            Self::Unmanaged => "UNMANAGED",
            Self::Quarantined => "QUARANTINED",
            Self::Offline => "OFFLINE",
            Self::Behind => "BEHIND",
            Self::Ready => "READY",
        }
    }
}

impl FleetView for Controller {
    fn fleet(&self) -> &Fleet {
        Controller::fleet(self)
    }

    fn standing(&self, subcloud: SubcloudId) -> Standing {
        Controller::standing(self, subcloud)
    }
}

/// All rollouts of one controller. It starts from what is on disk ([`Rollouts::recover`]) and
/// lives on [`Rollouts::on`].
#[derive(Debug)]
pub struct Rollouts {
    controller: ControllerId,
    rollouts: BTreeMap<RolloutId, Run>,
    last: RolloutId,
    revision: u64,
    commits: Commits,
    armed: Option<Timestamp>,
    /// Subclouds that were sent commands lately.
    touched: BTreeMap<SubcloudId, Touched>,
}

/// A subcloud that was sent commands: its next report tells what they did.
#[derive(Debug, Clone, Copy)]
struct Touched {
    /// The generation that it had before.
    generation: Option<Generation>,
    /// After this moment no report is awaited: the commands may have changed nothing.
    until: Timestamp,
}

/// A rollout in memory. The members of a closed one are only in the store.
#[derive(Debug)]
struct Run {
    record: Rollout,
    members: BTreeMap<SubcloudId, Member>,
    queue: Queue,
    /// The members that are being worked on.
    work: BTreeMap<SubcloudId, Work>,
}

/// What is being done on a member.
#[derive(Debug)]
enum Work {
    /// Its newest report is being read; whether something about it changed since.
    Reading { stirred: bool },
    /// Its steps, the first of which is being made durable or was sent.
    Steps(VecDeque<(Step, Change)>),
}

/// Writes that are not known to be durable, each with what it holds back.
#[derive(Debug, Default)]
struct Commits {
    last: u64,
    waiting: VecDeque<(Ticket, Vec<Deferred>)>,
}

/// Something that may only come out once a write is durable.
#[derive(Debug)]
enum Deferred {
    Output(Box<RolloutOutput>),
    /// The command of the first step of a member.
    Command(RolloutId, SubcloudId),
}

/// One write in the making.
#[derive(Default)]
struct Batch {
    members: Vec<Member>,
    then: Vec<Deferred>,
}

impl Rollouts {
    /// Starts from what is durable: members that had begun are taken up first, and only what
    /// their newest report says decides what is left to do. Those that an alarm misses have had
    /// their turn.
    pub fn recover(
        now: Timestamp,
        controller: ControllerId,
        records: RolloutRecords,
    ) -> (Self, Vec<RolloutOutput>) {
        let RolloutRecords {
            rollouts,
            members,
            missed,
        } = records;
        let mut machine = Self {
            controller,
            last: rollouts
                .iter()
                .map(|record| record.id)
                .max()
                .unwrap_or_default(),
            revision: rollouts
                .iter()
                .map(|record| record.revision)
                .max()
                .unwrap_or_default(),
            rollouts: BTreeMap::new(),
            commits: Commits::default(),
            armed: None,
            touched: BTreeMap::new(),
        };
        for record in rollouts {
            machine
                .rollouts
                .insert(record.id, Run::of(record, Vec::new()));
        }
        let mut orphans = Vec::new();
        for (rollout, member) in members {
            match machine.rollouts.get_mut(&rollout) {
                Some(run) if run.is_open() => {
                    let waits = !missed.contains(&(rollout, member.subcloud));
                    run.adopt(member, waits);
                }
                Some(_) => {}
                None => orphans.push((rollout, member.subcloud)),
            }
        }
        let mut out = Vec::new();
        machine.forget_members(orphans, &mut out);
        let open = machine.open();
        for id in &open {
            machine.recount(now, *id, &mut out);
        }
        for id in open {
            machine.end_if_aborted(now, id, &mut out);
        }
        machine.arm(now, &mut out);
        (machine, out)
    }

    /// One step. The outputs are to be carried out in their order.
    pub fn on(
        &mut self,
        now: Timestamp,
        view: &impl FleetView,
        input: RolloutInput,
    ) -> Vec<RolloutOutput> {
        let mut out = Vec::new();
        match input {
            RolloutInput::Create(call) => self.create(now, *call, &mut out),
            RolloutInput::Control(call) => self.control(now, call, &mut out),
            RolloutInput::SiteRead {
                rollout,
                subcloud,
                site,
            } => self.site_read(now, view, rollout, subcloud, site.as_deref(), &mut out),
            RolloutInput::Answered {
                rollout,
                subcloud,
                step,
                answer,
            } => self.answered(now, rollout, subcloud, step, answer, &mut out),
            RolloutInput::Stirred(subcloud) => self.stirred(view, subcloud),
            RolloutInput::Timer => {
                self.armed = None;
                self.touched.retain(|_, touched| touched.until > now);
            }
            RolloutInput::Committed { ticket } => {
                for deferred in self.commits.committed(ticket) {
                    self.release(deferred, &mut out);
                }
            }
        }
        for id in self.open() {
            if self.armed.is_none() {
                self.rollouts.entry(id).and_modify(|run| {
                    run.queue.regroup();
                    run.queue_settled(view);
                });
            }
            self.advance(now, view, id, &mut out);
        }
        let runs = self.rollouts.values_mut();
        let moved: BTreeSet<_> = runs.flat_map(|run| run.queue.take_moved()).collect();
        if !moved.is_empty() {
            out.push(RolloutOutput::Awaits(moved));
        }
        self.arm(now, &mut out);
        out
    }

    /// One rollout; memory runs ahead of the disk.
    pub fn rollout(&self, id: RolloutId) -> Option<&Rollout> {
        self.rollouts.get(&id).map(|run| &run.record)
    }

    /// The members of a rollout that is not closed; memory runs ahead of the disk.
    pub fn members(&self, id: RolloutId) -> impl Iterator<Item = &Member> {
        self.rollouts
            .get(&id)
            .into_iter()
            .flat_map(|run| run.members.values())
    }

    /// The first rollout that waits for this subcloud, for alarm 280.002: it has begun there, or
    /// its turn came and it was not ready. That it waits for its turn, behind others or behind a
    /// pause, is no cause for alarm.
    pub fn awaits(&self, subcloud: SubcloudId) -> Option<RolloutId> {
        let waits = |run: &Run| {
            let member = run.members.get(&subcloud);
            run.is_open() && member.is_some_and(|member| run.waits_for(member))
        };
        self.rollouts
            .iter()
            .find(|(_, run)| waits(run))
            .map(|(id, _)| *id)
    }

    /// All subclouds that rollouts wait for, each with the first that does.
    pub fn awaited(&self) -> BTreeMap<SubcloudId, RolloutId> {
        let open = self.rollouts.iter().filter(|(_, run)| run.is_open());
        let mut all = BTreeMap::new();
        for (id, run) in open {
            let waiting = run
                .members
                .iter()
                .filter(|(_, member)| run.waits_for(member));
            for (subcloud, _) in waiting {
                all.entry(*subcloud).or_insert(*id);
            }
        }
        all
    }

    /// Corrects a count that a crash between two writes of one abortion left behind.
    fn recount(&mut self, now: Timestamp, id: RolloutId, out: &mut Vec<RolloutOutput>) {
        let Some(run) = self.rollouts.get_mut(&id) else {
            return;
        };
        let before = run.record.tally;
        run.tally();
        if run.record.tally != before {
            self.commit(now, id, Batch::default(), out);
        }
    }

    fn open(&self) -> Vec<RolloutId> {
        let open = self.rollouts.iter().filter(|(_, run)| run.is_open());
        open.map(|(id, _)| *id).collect()
    }

    /// Sets the backstop, as long as anybody waits.
    fn arm(&mut self, now: Timestamp, out: &mut Vec<RolloutOutput>) {
        if self.armed.is_none() && self.rollouts.values().any(Run::is_open) {
            let at = after(now, BACKSTOP);
            self.armed = Some(at);
            out.push(RolloutOutput::SetTimer { at });
        }
    }

    /// Makes members and the record of their rollout durable, the record with the last of them.
    fn commit(
        &mut self,
        now: Timestamp,
        id: RolloutId,
        batch: Batch,
        out: &mut Vec<RolloutOutput>,
    ) {
        let Batch { members, mut then } = batch;
        self.revision += 1;
        let Some(run) = self.rollouts.get_mut(&id) else {
            return;
        };
        run.record.updated_at = now;
        run.record.revision = self.revision;
        let record = run.record.clone();
        let told = members.last().filter(|_| members.len() == 1).cloned();
        let changed = RolloutOutput::Changed(Box::new(record.clone()), told);
        then.insert(0, Deferred::Output(Box::new(changed)));
        let mut writes: Vec<_> = members
            .into_iter()
            .map(|member| RolloutWrite::Member(id, Box::new(member)))
            .collect();
        while writes.len() > WRITES_AT_ONCE {
            let rest = writes.split_off(WRITES_AT_ONCE);
            out.push(self.commits.submit(writes, Vec::new()));
            writes = rest;
        }
        writes.push(RolloutWrite::Rollout(Box::new(record)));
        out.push(self.commits.submit(writes, then));
    }

    /// Forgets members; their rollout has no record.
    fn forget_members(
        &mut self,
        members: Vec<(RolloutId, SubcloudId)>,
        out: &mut Vec<RolloutOutput>,
    ) {
        for chunk in members.chunks(WRITES_AT_ONCE) {
            let forget = |&(rollout, subcloud): &_| RolloutWrite::ForgetMember(rollout, subcloud);
            let writes = chunk.iter().map(forget).collect();
            out.push(self.commits.submit(writes, Vec::new()));
        }
    }

    fn release(&mut self, deferred: Deferred, out: &mut Vec<RolloutOutput>) {
        match deferred {
            Deferred::Output(output) => out.push(*output),
            Deferred::Command(rollout, subcloud) => self.send(rollout, subcloud, out),
        }
    }

    /// Emits an answer as soon as every write asked for so far is durable: it may rest on any.
    fn answer(
        &mut self,
        request: RequestId,
        outcome: Result<RolloutReceipt, crate::Rejection>,
        out: &mut Vec<RolloutOutput>,
    ) {
        let answer = RolloutOutput::Answer { request, outcome };
        match self.commits.waiting.back_mut() {
            Some((_, held)) => held.push(Deferred::Output(Box::new(answer))),
            None => out.push(answer),
        }
    }
}

impl Commits {
    fn submit(&mut self, writes: Vec<RolloutWrite>, then: Vec<Deferred>) -> RolloutOutput {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.waiting.push_back((ticket, then));
        RolloutOutput::Commit { ticket, writes }
    }

    /// A write is durable, and with it all before it. What they held back, in order.
    fn committed(&mut self, ticket: Ticket) -> Vec<Deferred> {
        let mut free = Vec::new();
        while self
            .waiting
            .front()
            .is_some_and(|(oldest, _)| *oldest <= ticket)
        {
            free.extend(
                self.waiting
                    .pop_front()
                    .into_iter()
                    .flat_map(|(_, held)| held),
            );
        }
        free
    }
}

impl Run {
    fn of(record: Rollout, members: Vec<Member>) -> Self {
        let mut run = Self {
            record,
            members: BTreeMap::new(),
            queue: Queue::default(),
            work: BTreeMap::new(),
        };
        for member in members {
            run.adopt(member, true);
        }
        run
    }

    /// Takes a member over; one that does not wait for its turn has had it.
    fn adopt(&mut self, member: Member, waits: bool) {
        let place = place(&member).filter(|(turn, ..)| waits || *turn == Turn::Begun);
        if let Some(place) = place {
            self.queue.adopt(place);
        }
        self.members.insert(member.subcloud, member);
    }

    fn is_open(&self) -> bool {
        self.record.is_open()
    }

    /// Puts a member where it will be looked at.
    fn queue(&mut self, id: SubcloudId) {
        let place = self.members.get(&id).and_then(place);
        if let Some(place) = place
            && !self.work.contains_key(&id)
        {
            self.queue.insert(place);
        }
    }

    /// Puts the members where they will be looked at that have had their turn and would get on.
    fn queue_settled(&mut self, view: &impl FleetView) {
        let passed_over = |member: &&Member| {
            let place = place(member);
            place.is_some_and(|place| !self.queue.contains(place))
                && !self.work.contains_key(&member.subcloud)
        };
        let ids: Vec<_> = self
            .members
            .values()
            .filter(passed_over)
            .map(|member| member.subcloud)
            .filter(|id| view.standing(*id).is_settled())
            .collect();
        for id in ids {
            self.queue(id);
        }
    }

    /// Whether a member has begun, or was passed over, and has no result.
    fn waits_for(&self, member: &Member) -> bool {
        match place(member) {
            Some((Turn::Begun, ..)) => true,
            Some(place) => !self.queue.contains(place),
            None => false,
        }
    }

    /// Gives a member another state and counts it.
    fn set(&mut self, now: Timestamp, id: SubcloudId, state: MemberState) -> Option<&mut Member> {
        let member = self.members.get_mut(&id)?;
        self.record.tally.moved(member.state, state);
        member.state = state;
        member.updated_at = now;
        Some(member)
    }

    fn tally(&mut self) {
        self.record.tally = Tally::of(self.members.values());
    }
}

/// Where a member is looked at; nowhere when it has its result.
fn place(member: &Member) -> Option<Place> {
    let turn = match member.state {
        MemberState::InFlight(_) => Turn::Begun,
        MemberState::Pending => Turn::Fresh,
        _ => return None,
    };
    Some((turn, member.index, member.subcloud))
}
