//! Operators who make rollouts and have words with them, and ask again when they hear nothing.

use std::collections::BTreeMap;

use fleet::{
    Control, CreateRollout, Management, Order, PoolAction, Rejection, RequestId, Rollout,
    RolloutId, RolloutInput, RolloutReceipt, RolloutRequest, RolloutState, Selector, Standing,
    Tally, Verb, preview,
};
use rand::Rng;
use site::NetworkKind;

use crate::sites::ROLLED_OUT;
use crate::world::{Happening, Millis, PATIENCE, World};

use super::{Due, Inner};

/// How often operators look, once faults have stopped, whether all are managed.
const CARE: Millis = 20_000;

/// What operators do.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    all: Vec<Wanted>,
    /// The calls that wait for the present life of the controller.
    calls: BTreeMap<RequestId, Call>,
}

/// A rollout that an operator wants.
#[derive(Debug)]
struct Wanted {
    network: NetworkKind,
    max_parallel: u32,
    max_failures: u32,
    /// Its number, once that was answered.
    made: Option<RolloutId>,
    /// The operator asks once more although the rollout is there.
    asks_again: bool,
}

/// A call.
#[derive(Debug)]
enum Call {
    Create(usize),
    Control,
}

impl World {
    /// Draws what operators will do.
    pub(crate) fn plan_rollouts(&mut self) {
        if !self.rollouts.plays {
            return;
        }
        let until = self.faults_until;
        let agents = self.agents.len();
        let mut happenings = Vec::new();
        let chance = &mut self.rollouts.chance;
        let count = chance.random_range(1..=4);
        for planned in 0..count {
            let network = match chance.random_range(0..8) {
                0..5 => NetworkKind::Oam,
                5..7 => NetworkKind::Mgmt,
                // The sites of this world have no such network: each member is refused.
                _ => NetworkKind::Admin,
            };
            self.rollouts.planned.all.push(Wanted {
                network,
                max_parallel: chance.random_range(1..=3),
                max_failures: chance.random_range(0..=2),
                made: None,
                asks_again: chance.random_bool(0.2),
            });
            let at = chance.random_range(15_000..until);
            happenings.push((at, Due::Create { planned }));
        }
        for _ in 0..chance.random_range(0..3) {
            let agent = chance.random_range(0..agents);
            let at = chance.random_range(15_000..until);
            happenings.push((at, Due::Meddled { agent }));
        }
        happenings.push((until + CARE, Due::Care));
        for (at, due) in happenings {
            self.at(at, Happening::Rollouts(due));
        }
    }

    /// An operator makes a rollout: the members are what the preview finds at this moment.
    pub(super) fn create_rollout(&mut self, planned: usize) {
        let Some(fleet) = self.controller.machine.as_ref().map(|it| it.fleet()) else {
            return self.create_again(planned);
        };
        let order = match Order::read(self.request_of(planned)) {
            Ok(order) => order,
            Err(rejection) => return self.fail(format!("a sound order is refused: {rejection}")),
        };
        let now = self.controller_clock();
        let Ok(foreseen) = preview(fleet, &order, now, |id| self.accepted_site(id)) else {
            // There is no subcloud yet.
            return self.create_again(planned);
        };
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.rollouts
            .planned
            .calls
            .insert(request, Call::Create(planned));
        let call = CreateRollout {
            request,
            actor: "uid=0".to_owned(),
            request_id: format!("wanted-{planned}"),
            fingerprint: [u8::try_from(planned).unwrap_or(u8::MAX); 32],
            order,
            members: foreseen.into_iter().map(|seen| seen.member).collect(),
        };
        self.note(80, || {
            format!("operator: create rollout, {} members", call.members.len())
        });
        self.soon(Inner::Told(RolloutInput::Create(Box::new(call))));
        if self.rollouts.chance.random_bool(0.7) {
            self.manage_all();
        }
    }

    /// All templates share their addresses, so that rollouts get into each other's way.
    fn request_of(&self, planned: usize) -> RolloutRequest {
        let wanted = &self.rollouts.planned.all[planned];
        let (within, length) = if self.layout.primary_is_v6() {
            ("10.200.0.0/16", 24)
        } else {
            ("fd00:10::/48", 64)
        };
        let template = format!(
            "name: \"{ROLLED_OUT}{planned}-{{name}}\"\nsubnet_within: {within}\n\
             subnet_length: {length}\nfloating_address: \"{{subnet+2}}\"\n"
        );
        RolloutRequest {
            network: wanted.network.name().to_owned(),
            action: Some(PoolAction::Add),
            selector: Selector {
                all: true,
                ..Selector::default()
            },
            template: template.into_bytes(),
            table: Vec::new(),
            max_parallel: wanted.max_parallel,
            max_failures: wanted.max_failures,
        }
    }

    fn create_again(&mut self, planned: usize) {
        let wait = self.rollouts.chance.random_range(500..8_000);
        self.after(wait, Happening::Rollouts(Due::Create { planned }));
    }

    pub(super) fn control_rollout(&mut self, rollout: RolloutId, verb: Verb) {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        if self.rollouts.machine.is_none() {
            return;
        }
        self.note(81, || format!("operator: {verb:?} rollout {rollout}"));
        self.rollouts.planned.calls.insert(request, Call::Control);
        self.tell_rollouts(RolloutInput::Control(Control {
            request,
            actor: "uid=0".to_owned(),
            rollout,
            verb,
            validate_only: false,
        }));
    }

    /// What an operator is told is on disk, and the same request makes one rollout.
    pub(super) fn rollout_call_answered(
        &mut self,
        request: RequestId,
        outcome: Result<RolloutReceipt, Rejection>,
    ) {
        let Some(call) = self.rollouts.planned.calls.remove(&request) else {
            return self.fail(format!(
                "{request:?} was answered and asks nothing of rollouts"
            ));
        };
        let RolloutReceipt { rollout, replayed } = match outcome {
            Ok(receipt) => receipt,
            Err(rejection) => {
                self.note(87, || format!("{call:?} is refused: {rejection}"));
                return match call {
                    Call::Create(_) => self.fail(format!("a rollout is refused: {rejection}")),
                    Call::Control => {}
                };
            }
        };
        self.check_receipt(&rollout);
        let Call::Create(planned) = call else {
            return;
        };
        let wanted = &mut self.rollouts.planned.all[planned];
        let known = *wanted.made.get_or_insert(rollout.id);
        let asks_again = std::mem::take(&mut wanted.asks_again);
        if known != rollout.id {
            let id = rollout.id;
            return self.fail(format!("one request made rollouts {known} and {id}"));
        }
        self.note(88, || format!("rollout {known} is made, again: {replayed}"));
        if !replayed {
            self.plan_words(known);
        }
        if asks_again {
            self.create_again(planned);
        }
    }

    /// Draws what an operator will tell a rollout, mostly soon.
    fn plan_words(&mut self, rollout: RolloutId) {
        for _ in 0..self.rollouts.chance.random_range(0..4) {
            let chance = &mut self.rollouts.chance;
            let verb = match chance.random_range(0..8) {
                0..3 => Verb::Pause,
                3..7 => Verb::Resume,
                _ => Verb::Abort,
            };
            let most = if chance.random_bool(0.5) {
                500
            } else {
                100_000
            };
            let wait = chance.random_range(0..most);
            self.after(wait, Happening::Rollouts(Due::Control { rollout, verb }));
        }
    }

    /// The controller crashed: its callers know nothing.
    pub(super) fn rollout_calls_broken(&mut self) {
        for call in std::mem::take(&mut self.rollouts.planned.calls).into_values() {
            if let Call::Create(planned) = call {
                self.create_again(planned);
            }
        }
    }

    /// Operators manage whoever is not, so that nobody waits for that.
    pub(super) fn care_for_rollouts(&mut self) {
        self.manage_all();
        if self.now < self.faults_until + PATIENCE {
            self.after(CARE, Happening::Rollouts(Due::Care));
        }
    }

    fn manage_all(&mut self) {
        for agent in 0..self.agents.len() {
            let machine = self.controller.machine.as_ref();
            let record = machine.and_then(|it| it.fleet().find(self.agents[agent].name()));
            let unmanaged = record.is_some_and(|record| {
                record.enrolled().is_some() && record.management == Management::Unmanaged
            });
            if unmanaged {
                self.manage(agent);
            }
        }
    }

    /// What is not yet as it must be once nothing goes wrong any more.
    pub(crate) fn unfinished_rollouts(&self) -> Vec<String> {
        let mut problems = Vec::new();
        // Of a fleet in which nobody is, because all were refused, there is nothing to roll out to.
        let somebody = !self.controller.disk.durable.subclouds.is_empty();
        for (number, wanted) in self.rollouts.planned.all.iter().enumerate() {
            if somebody && wanted.made.is_none() {
                problems.push(format!("rollout wanted-{number} is not made"));
            }
        }
        for record in self.controller.disk.durable.rollouts.rollouts.values() {
            problems.extend(self.unfinished_rollout(record));
        }
        problems
    }

    fn unfinished_rollout(&self, record: &Rollout) -> Vec<String> {
        let kept = &self.controller.disk.durable.rollouts;
        let id = record.id;
        let mut problems = Vec::new();
        let mut waits = false;
        for member in kept.members_of(id).filter(|it| !it.state.is_final()) {
            let pending = member.state == fleet::MemberState::Pending;
            let lasting = self.is_away(member);
            waits |= lasting || pending;
            let held_back = pending && record.state == RolloutState::Paused;
            if !lasting && !held_back {
                let (name, state) = (&member.name, member.state.name());
                problems.push(format!("{name} of rollout {id} is {state}"));
            }
        }
        if record.state == RolloutState::Running && !waits && problems.is_empty() {
            problems.push(format!("rollout {id} has all results and is not finished"));
        }
        if Tally::of(kept.members_of(id)) != record.tally {
            problems.push(format!("rollout {id} counts its members wrongly"));
        }
        problems
    }

    /// Whether a member waits for a subcloud that does not come back by itself: who should is
    /// judged by its link.
    fn is_away(&self, member: &fleet::Member) -> bool {
        let machine = self.controller.machine.as_ref();
        let standing = machine.map(|machine| machine.standing(member.subcloud));
        let copied = self.hosts_of(&member.name).any(|node| self.has_copy(node));
        match standing {
            Some(Standing::Offline | Standing::Quarantined) | None => true,
            Some(Standing::Behind) => copied,
            Some(_) => false,
        }
    }
}
