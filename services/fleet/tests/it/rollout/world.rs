//! A controller's rollouts with their disk, and subclouds at the other end of an unreliable wire.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fleet::{
    Action, Answered, Audited, Control, ControllerId, CreateRollout, Fault, Fleet, FleetView,
    Foreseen, GroupId, Input, Member, MemberState, Order, Outcome, PoolAction, Rejection,
    RequestId, Rollout, RolloutCensus, RolloutId, RolloutInput, RolloutOutput, RolloutReceipt,
    RolloutRecords, RolloutRequest, RolloutState, RolloutWrite, Rollouts, Selector, Standing, Step,
    SubcloudGroup, SubcloudId, UpdateApply, Verb, preview,
};
use site::{Change, NetworkKind, PoolEdit, Site};
use uuid::Uuid;

use crate::common::{add, answer, at, controller, enroll, installed, settle};

/// The template that the tests use.
pub(crate) const TEMPLATE: &str = "name: \"{name}-admin6\"\nsubnet_within: fd00:10::/48\n\
                                   subnet_length: 64\nfloating_address: \"{subnet+2}\"\n";

const CONTROLLER: ControllerId = ControllerId(Uuid::from_u128(200));

/// Adds a secondary admin pool to all.
pub(crate) fn request(max_parallel: u32) -> RolloutRequest {
    RolloutRequest {
        network: "admin".to_owned(),
        action: Some(PoolAction::Add),
        selector: Selector {
            all: true,
            ..Selector::default()
        },
        template: TEMPLATE.as_bytes().to_vec(),
        table: Vec::new(),
        max_parallel,
        max_failures: 0,
    }
}

pub(crate) fn order() -> Order {
    Order::read(request(3)).expect("a sound order")
}

/// What the machine looks at.
pub(crate) struct View {
    fleet: Fleet,
    standings: BTreeMap<SubcloudId, Standing>,
}

impl View {
    pub(crate) fn fleet_ref(&self) -> &Fleet {
        &self.fleet
    }
}

impl FleetView for View {
    fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    fn standing(&self, subcloud: SubcloudId) -> Standing {
        self.standings
            .get(&subcloud)
            .copied()
            .unwrap_or(Standing::Ready)
    }
}

/// A subcloud: its site, what it reported last, and the requests that it has done.
struct Agent {
    site: Site,
    reported: Site,
    done: BTreeSet<String>,
    steps: Vec<Step>,
}

/// A command on its way.
#[derive(Clone)]
struct Command {
    rollout: RolloutId,
    subcloud: SubcloudId,
    step: Step,
    request_id: String,
    change: Change,
}

/// Something that may happen at any time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    Commit,
    Read(usize),
    Deliver(usize),
    LoseCommand(usize),
    LoseAnswer(usize),
    Report(usize),
    Crash,
    Timer,
    Toggle(usize),
    Stir(usize),
    Tell(Verb),
}

impl Act {
    pub(crate) fn of(number: u16) -> Self {
        let which = usize::from(number / 64);
        match number % 64 {
            0..=13 => Self::Commit,
            14..=27 => Self::Read(which),
            28..=37 => Self::Deliver(which),
            38..=40 => Self::LoseCommand(which),
            41..=43 => Self::LoseAnswer(which),
            44..=48 => Self::Report(which),
            49..=51 => Self::Crash,
            52 => Self::Timer,
            53..=55 => Self::Toggle(which),
            56..=59 => Self::Stir(which),
            60 => Self::Tell(Verb::Pause),
            61 | 62 => Self::Tell(Verb::Resume),
            _ if which % 8 == 0 => Self::Tell(Verb::Abort),
            _ => Self::Commit,
        }
    }
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) view: View,
    pub(crate) most_busy: usize,
    machine: Rollouts,
    agents: BTreeMap<SubcloudId, Agent>,
    stored: BTreeMap<RolloutId, Rollout>,
    stored_members: BTreeMap<(RolloutId, SubcloudId), Member>,
    disk: VecDeque<(fleet::Ticket, Vec<RolloutWrite>)>,
    reads: Vec<(RolloutId, SubcloudId)>,
    commands: Vec<Command>,
    answers: BTreeMap<RequestId, Result<RolloutReceipt, Rejection>>,
    requests: u64,
    /// What the audit log has: what was asked, about what, and whether it was done.
    pub(crate) audited: Vec<(Action, String, bool)>,
    /// Members of which a durable abortion says that they have not begun.
    shut: BTreeSet<(RolloutId, SubcloudId)>,
    /// What the fleet was told that rollouts wait for.
    awaited: BTreeMap<SubcloudId, RolloutId>,
    /// The changes of which an alarm tells.
    missed: BTreeSet<(RolloutId, SubcloudId)>,
}

impl World {
    /// Subclouds s1.. with an IPv4 admin network, and one called `pending` that has not enrolled.
    pub(crate) fn new(subclouds: u8) -> Self {
        let mut machine = controller("4");
        let mut agents = BTreeMap::new();
        for n in 1..=subclouds {
            let name = format!("s{n}");
            let admin = format!(
                "admin_subnet: 10.{n}.2.0/24\nadmin_start_address: 10.{n}.2.2\n\
                 admin_end_address: 10.{n}.2.50\nadmin_gateway_address: 10.{n}.2.1\n"
            );
            let site = installed(&name, n, "4", "24.09", &admin);
            answer(settle(
                &mut machine,
                at(0),
                Input::AddSubcloud(add(n, &name)),
            ))
            .unwrap();
            answer(settle(&mut machine, at(0), Input::Enroll(enroll(n, &site)))).unwrap();
            let agent = Agent {
                reported: site.clone(),
                site,
                done: BTreeSet::new(),
                steps: Vec::new(),
            };
            agents.insert(id(n), agent);
        }
        answer(settle(
            &mut machine,
            at(0),
            Input::AddSubcloud(add(99, "pending")),
        ))
        .unwrap();
        let (rollouts, _) =
            Rollouts::recover(crate::common::START, CONTROLLER, RolloutRecords::default());
        Self {
            now: 1,
            view: View {
                fleet: machine.fleet().clone(),
                standings: BTreeMap::new(),
            },
            most_busy: 0,
            machine: rollouts,
            agents,
            stored: BTreeMap::new(),
            stored_members: BTreeMap::new(),
            disk: VecDeque::new(),
            reads: Vec::new(),
            commands: Vec::new(),
            answers: BTreeMap::new(),
            requests: 0,
            audited: Vec::new(),
            shut: BTreeSet::new(),
            awaited: BTreeMap::new(),
            missed: BTreeSet::new(),
        }
    }

    pub(crate) fn reported(&self, id: SubcloudId) -> Option<Site> {
        self.agents.get(&id).map(|agent| agent.reported.clone())
    }

    pub(crate) fn preview(&self, order: &Order) -> Vec<Foreseen> {
        preview(&self.view.fleet, order, at(self.now), |id| {
            self.reported(id)
        })
        .unwrap()
    }

    pub(crate) fn create(&mut self, order: Order) -> Result<RolloutId, Rejection> {
        let receipt = self.create_named(order, "", [0; 32])?;
        Ok(receipt.rollout.id)
    }

    pub(crate) fn create_named(
        &mut self,
        order: Order,
        request_id: &str,
        fingerprint: [u8; 32],
    ) -> Result<RolloutReceipt, Rejection> {
        let members = self
            .preview(&order)
            .into_iter()
            .map(|seen| seen.member)
            .collect();
        self.requests += 1;
        let request = RequestId(self.requests);
        self.feed(RolloutInput::Create(Box::new(CreateRollout {
            request,
            actor: "uid=0".to_owned(),
            request_id: request_id.to_owned(),
            fingerprint,
            order,
            members,
        })));
        self.answered(request)
    }

    pub(crate) fn control(
        &mut self,
        id: RolloutId,
        verb: Verb,
    ) -> Result<RolloutReceipt, Rejection> {
        self.feed_control(id, verb, false)
    }

    pub(crate) fn feed_control(
        &mut self,
        rollout: RolloutId,
        verb: Verb,
        validate_only: bool,
    ) -> Result<RolloutReceipt, Rejection> {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.feed(RolloutInput::Control(Control {
            request,
            actor: "uid=0".to_owned(),
            rollout,
            verb,
            validate_only,
        }));
        self.answered(request)
    }

    /// Lets the disk work until the call is answered.
    fn answered(&mut self, request: RequestId) -> Result<RolloutReceipt, Rejection> {
        while !self.answers.contains_key(&request) {
            assert!(self.commit(), "an answer waits for nothing");
        }
        self.answers.remove(&request).unwrap()
    }

    pub(crate) fn feed(&mut self, input: RolloutInput) {
        let outputs = self.machine.on(at(self.now), &self.view, input);
        self.carry_out(outputs);
        self.most_busy = self.most_busy.max(self.busy());
    }

    fn carry_out(&mut self, outputs: Vec<RolloutOutput>) {
        for output in outputs {
            match output {
                RolloutOutput::Audit(Audited {
                    action,
                    name,
                    outcome,
                    ..
                }) => {
                    self.audited.push((action, name, outcome == Outcome::Done));
                }
                RolloutOutput::Commit { ticket, writes } => {
                    for write in &writes {
                        if let RolloutWrite::Rollout(record) = write {
                            let name = format!("rollout {}", record.id);
                            let entry = (Action::CreateRollout, name, true);
                            assert!(self.audited.contains(&entry), "noted before it is written");
                        }
                    }
                    self.disk.push_back((ticket, writes));
                }
                RolloutOutput::Answer { request, outcome } => {
                    self.answers.insert(request, outcome);
                }
                RolloutOutput::ReadSite { rollout, subcloud } => {
                    self.reads.push((rollout, subcloud));
                }
                RolloutOutput::Command {
                    rollout,
                    subcloud,
                    step,
                    request_id,
                    change,
                } => {
                    let known = &self.stored_members[&(rollout, subcloud)];
                    assert_eq!(
                        known.state,
                        MemberState::InFlight(step),
                        "durable before it is sent"
                    );
                    assert!(
                        !self.shut.contains(&(rollout, subcloud)),
                        "begun after the abortion"
                    );
                    self.commands.push(Command {
                        rollout,
                        subcloud,
                        step,
                        request_id,
                        change,
                    });
                }
                RolloutOutput::Forget(rollout) => {
                    self.stored_members.retain(|(of, _), _| *of != rollout);
                    self.stored.remove(&rollout);
                }
                RolloutOutput::Changed(record, member) => {
                    let stored = &self.stored[&record.id];
                    assert!(
                        stored.revision >= record.revision,
                        "durable before it is told"
                    );
                    let known =
                        |m: &Member| self.stored_members.contains_key(&(record.id, m.subcloud));
                    assert!(member.as_ref().is_none_or(known));
                    match member {
                        Some(member) => self.hear_of(member.subcloud),
                        None => self.awaited = self.machine.awaited(),
                    }
                }
                RolloutOutput::Awaits(subclouds) => {
                    for subcloud in subclouds {
                        self.hear_of(subcloud);
                    }
                }
                RolloutOutput::SetTimer { .. } => {}
            }
        }
    }

    /// The fleet is told which rollout waits for a subcloud.
    fn hear_of(&mut self, subcloud: SubcloudId) {
        match self.machine.awaits(subcloud) {
            Some(rollout) => self.awaited.insert(subcloud, rollout),
            None => self.awaited.remove(&subcloud),
        };
    }

    /// The subclouds that are missed when it stays like this, by name.
    pub(crate) fn awaited(&self) -> Vec<String> {
        let name = |id| self.view.fleet.subcloud(id).unwrap().name.clone();
        self.awaited.keys().map(|id| name(*id)).collect()
    }

    /// It stays like this for long: alarms tell what rollouts wait for.
    pub(crate) fn miss_awaited(&mut self) {
        let missed = self.awaited.iter();
        self.missed = missed.map(|(id, rollout)| (*rollout, *id)).collect();
    }

    /// The process ends, and another one starts from what is on disk, where nobody is there yet.
    pub(crate) fn restart(&mut self) {
        for id in self.agents.keys() {
            self.view.standings.insert(*id, Standing::Offline);
        }
        self.start();
    }

    pub(crate) fn commit(&mut self) -> bool {
        let Some((ticket, writes)) = self.disk.pop_front() else {
            return false;
        };
        for write in writes {
            match write {
                RolloutWrite::Rollout(record) => {
                    if record.state == RolloutState::Aborted {
                        let members = self.stored_members.iter();
                        let fresh = members.filter(|((of, _), member)| {
                            *of == record.id && member.state == MemberState::Pending
                        });
                        self.shut.extend(fresh.map(|(key, _)| *key));
                    }
                    self.stored.insert(record.id, *record);
                }
                RolloutWrite::Member(rollout, member) => {
                    let key = (rollout, member.subcloud);
                    let before = self.stored_members.insert(key, (*member).clone());
                    let lost =
                        before.is_some_and(|b| b.state.is_final() && b.state != member.state);
                    assert!(!lost, "a result was lost: {member:?}");
                }
                RolloutWrite::ForgetMember(rollout, subcloud) => {
                    self.stored_members.remove(&(rollout, subcloud));
                }
            }
        }
        self.feed(RolloutInput::Committed { ticket });
        true
    }

    pub(crate) fn read(&mut self, which: usize) -> bool {
        if self.reads.is_empty() {
            return false;
        }
        let (rollout, subcloud) = self.reads.swap_remove(which % self.reads.len());
        let site = self.reported(subcloud).map(Arc::new);
        self.feed(RolloutInput::SiteRead {
            rollout,
            subcloud,
            site,
        });
        true
    }

    /// A command reaches its subcloud; the answer comes back unless it is lost.
    fn deliver(&mut self, which: usize, answer_lost: bool) -> bool {
        if self.commands.is_empty() {
            return false;
        }
        let command = self.commands.swap_remove(which % self.commands.len());
        let agent = self.agents.get_mut(&command.subcloud).unwrap();
        let answer = agent.obey(&command, at(self.now));
        let answer = if answer_lost {
            Answered::Unreachable
        } else {
            answer
        };
        self.say(&command, answer);
        true
    }

    fn say(&mut self, command: &Command, answer: Answered) {
        self.feed(RolloutInput::Answered {
            rollout: command.rollout,
            subcloud: command.subcloud,
            step: command.step,
            answer,
        });
    }

    /// Answers the oldest command without its subcloud.
    pub(crate) fn answer_with(&mut self, answer: Answered) {
        let command = self.commands.remove(0);
        self.say(&command, answer);
    }

    pub(crate) fn has_command(&self, step: Step) -> bool {
        self.commands.iter().any(|command| command.step == step)
    }

    /// Subclouds that are being worked on: asked for their report, or sent a command.
    pub(crate) fn busy(&self) -> usize {
        self.working().len()
    }

    /// Their names.
    pub(crate) fn busy_names(&self) -> Vec<String> {
        let name = |id| self.view.fleet.subcloud(id).unwrap().name.clone();
        self.working().into_iter().map(name).collect()
    }

    fn working(&self) -> BTreeSet<SubcloudId> {
        let reads = self.reads.iter().map(|(_, subcloud)| *subcloud);
        let commands = self.commands.iter().map(|command| command.subcloud);
        reads.chain(commands).collect()
    }

    fn crash(&mut self) {
        self.start();
        self.feed(RolloutInput::Timer);
    }

    fn start(&mut self) {
        self.disk.clear();
        self.reads.clear();
        self.commands.clear();
        self.answers.clear();
        let records = RolloutRecords {
            rollouts: self.stored.values().cloned().collect(),
            members: self
                .stored_members
                .iter()
                .map(|((of, _), m)| (*of, m.clone()))
                .collect(),
            missed: self.missed.clone(),
        };
        let (machine, outputs) = Rollouts::recover(at(self.now), CONTROLLER, records);
        self.machine = machine;
        self.awaited = self.machine.awaited();
        self.carry_out(outputs);
    }

    pub(crate) fn act(&mut self, act: Act, rollout: RolloutId) {
        let number = |which: usize| id(1 + u8::try_from(which % self.agents.len()).unwrap());
        match act {
            Act::Commit => {
                self.commit();
            }
            Act::Read(which) => {
                self.read(which);
            }
            Act::Deliver(which) => {
                self.deliver(which, false);
            }
            Act::LoseAnswer(which) => {
                self.deliver(which, true);
            }
            Act::LoseCommand(which) if !self.commands.is_empty() => {
                let command = self.commands.swap_remove(which % self.commands.len());
                self.say(&command, Answered::Unreachable);
            }
            Act::LoseCommand(_) => {}
            Act::Report(which) => self.report(number(which)),
            Act::Crash => self.crash(),
            Act::Timer => self.feed(RolloutInput::Timer),
            Act::Toggle(which) => {
                let subcloud = number(which);
                let next = match self.view.standing(subcloud) {
                    Standing::Ready => Standing::Offline,
                    _ => Standing::Ready,
                };
                self.view.standings.insert(subcloud, next);
            }
            Act::Stir(which) => {
                let subcloud = number(which);
                self.feed(RolloutInput::Stirred(subcloud));
            }
            Act::Tell(verb) => {
                self.requests += 1;
                let request = RequestId(self.requests);
                self.feed(RolloutInput::Control(Control {
                    request,
                    actor: "uid=0".to_owned(),
                    rollout,
                    verb,
                    validate_only: false,
                }));
            }
        }
    }

    /// All is well again: everybody is there and has reported, and the operator resumes.
    pub(crate) fn recover_all(&mut self, rollout: RolloutId) {
        self.view.standings.clear();
        while self.commit() {}
        self.report_all();
        self.now += 60;
        self.act(Act::Tell(Verb::Resume), rollout);
        self.feed(RolloutInput::Timer);
    }

    fn report_all(&mut self) {
        let ids: Vec<_> = self.agents.keys().copied().collect();
        for id in ids {
            self.report(id);
        }
    }

    /// The report of a subcloud is accepted; the machine is told when it is new.
    fn report(&mut self, id: SubcloudId) {
        let agent = self.agents.get_mut(&id).unwrap();
        if agent.reported == agent.site {
            return;
        }
        agent.reported = agent.site.clone();
        self.accept(id);
        self.feed(RolloutInput::Stirred(id));
    }

    /// The report of a subcloud counts for the fleet, and is not on disk yet.
    pub(crate) fn report_early(&mut self, name: &str) {
        self.accept(self.view.fleet.by_name(name).unwrap().id);
    }

    /// The one site that is asked for is read, and its report is durable before that is told.
    pub(crate) fn read_just_before_a_report(&mut self) {
        let (rollout, subcloud) = self.reads.pop().unwrap();
        let site = self.reported(subcloud).map(Arc::new);
        self.report(subcloud);
        self.feed(RolloutInput::SiteRead {
            rollout,
            subcloud,
            site,
        });
    }

    fn accept(&mut self, id: SubcloudId) {
        let agent = &self.agents[&id];
        let mut record = fleet::Subcloud::clone(self.view.fleet.subcloud(id).unwrap());
        let observed = record.observed.as_mut().unwrap();
        observed.generation = agent.site.generation();
        observed.footprint = fleet::Footprint::of(&agent.site.to_parts());
        self.view.fleet.put(Arc::new(record));
    }

    /// One thing that is due.
    pub(crate) fn step(&mut self) -> bool {
        self.commit() || self.read(0) || self.deliver(0, false)
    }

    /// Lets everything happen that is due, reports at once.
    pub(crate) fn census(&self) -> RolloutCensus {
        self.machine.census()
    }

    pub(crate) fn run(&mut self, most: usize) {
        for _ in 0..most {
            let idle = !self.step();
            self.report_all();
            if idle && !self.step() {
                assert_eq!(self.awaited, self.machine.awaited(), "the fleet knows");
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// No subcloud did a step twice.
    pub(crate) fn check(&self) {
        for (id, agent) in &self.agents {
            let mut per_step: BTreeMap<Step, usize> = BTreeMap::new();
            for step in &agent.steps {
                *per_step.entry(*step).or_default() += 1;
            }
            let twice = per_step.values().any(|count| *count > 1);
            assert!(!twice, "{id} did a step twice: {:?}", agent.steps);
        }
    }

    pub(crate) fn changed(&self, name: &str) -> bool {
        self.agent(name).is_some_and(|agent| {
            let admin = agent.site.network(NetworkKind::Admin).unwrap();
            admin.pools().secondary().is_some()
        })
    }

    pub(crate) fn site(&self, name: &str) -> Site {
        self.agent(name).unwrap().site.clone()
    }

    /// Takes away, without a report, what the rollout wants: the subcloud will refuse.
    pub(crate) fn spoil(&mut self, name: &str) {
        let of = self.view.fleet.by_name(name).unwrap().id;
        let agent = self.agents.get_mut(&of).unwrap();
        agent.done.insert("refuses".to_owned());
    }

    /// The subcloud's own operator modifies a pool; no report tells of it yet.
    pub(crate) fn modify(&mut self, name: &str, pool: &str, edit: PoolEdit) {
        let of = self.view.fleet.by_name(name).unwrap().id;
        let agent = self.agents.get_mut(&of).unwrap();
        let pool = pool.to_owned();
        let plan = site::plan(&agent.site, Change::ModifyPool { pool, edit }, at(self.now));
        plan.unwrap().apply(&mut agent.site);
    }

    /// These subclouds are in a group of a number from now on.
    pub(crate) fn group(
        &mut self,
        number: u8,
        update: UpdateApply,
        max_parallel: u32,
        names: &[&str],
    ) {
        let group = GroupId(Uuid::from_u128(1000 + u128::from(number)));
        self.view.fleet.put_group(Arc::new(SubcloudGroup {
            id: group,
            name: format!("group-{number}"),
            update,
            max_parallel,
            ..SubcloudGroup::default_group()
        }));
        for name in names {
            let mut record = fleet::Subcloud::clone(self.view.fleet.by_name(name).unwrap());
            record.group = group;
            self.view.fleet.put(Arc::new(record));
        }
    }

    /// Somebody changes how many of the Default group are worked on.
    pub(crate) fn default_group(&mut self, max_parallel: u32) {
        self.view.fleet.put_group(Arc::new(SubcloudGroup {
            max_parallel,
            updated_at: crate::common::at(1),
            ..SubcloudGroup::default_group()
        }));
    }

    pub(crate) fn delete_group(&mut self, number: u8) {
        let group = GroupId(Uuid::from_u128(1000 + u128::from(number)));
        self.view.fleet.forget_group(group);
    }

    pub(crate) fn standing(&mut self, name: &str, standing: Standing) {
        let of = self.view.fleet.by_name(name).unwrap().id;
        self.view.standings.insert(of, standing);
    }

    pub(crate) fn stir(&mut self, name: &str) {
        let of = self.view.fleet.by_name(name).unwrap().id;
        self.feed(RolloutInput::Stirred(of));
    }

    pub(crate) fn record(&self, id: RolloutId) -> Rollout {
        self.stored[&id].clone()
    }

    pub(crate) fn stored_members(&self, id: RolloutId) -> Vec<Member> {
        let members = self.stored_members.iter().filter(|((of, _), _)| *of == id);
        members.map(|(_, member)| member.clone()).collect()
    }

    pub(crate) fn stored_rollouts(&self) -> Vec<RolloutId> {
        self.stored.keys().copied().collect()
    }

    fn agent(&self, name: &str) -> Option<&Agent> {
        let of = self.view.fleet.by_name(name)?.id;
        self.agents.get(&of)
    }
}

impl Agent {
    fn obey(&mut self, command: &Command, now: site::Timestamp) -> Answered {
        if self.done.contains(&command.request_id) {
            return Answered::Done;
        }
        if self.done.contains("refuses") {
            return Answered::Refused(vec![Fault::default()]);
        }
        match site::plan(&self.site, command.change.clone(), now) {
            Ok(plan) => {
                plan.apply(&mut self.site);
                self.steps.push(command.step);
                self.done.insert(command.request_id.clone());
                Answered::Done
            }
            Err(rejection) => {
                panic!("refused: {rejection}");
            }
        }
    }
}

fn id(number: u8) -> SubcloudId {
    SubcloudId(Uuid::from_u128(u128::from(number)))
}
