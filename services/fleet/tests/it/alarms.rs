//! The fleet's alarms: each cause has its alarm in the end, no alarm is without a cause, and
//! however links behave the number of alarms and of writes is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::common::{Calm, START, config, key, site};
use fleet::{
    AgentMessage, AlarmKey, AlarmKind, Availability, Controller, ControllerMessage, Enrolled,
    Enrollment, Epoch, EventKind, FLAP_MEMORY, FleetAlarm, HEARTBEAT_INTERVAL, Hello, Input,
    LinkId, MASS_OUTAGE, MISSED_HEARTBEATS, Management, NetworksDigest, Observed, Output,
    PENDING_HEARTBEATS, RESTART_GRACE, Records, Report, RolloutId, SETTLED_HEARTBEATS, SecretHash,
    SpentToken, Subcloud, SubcloudId, TokenId, Write,
};
use proptest::prelude::*;
use site::{Digest, Generation, Severity, Site, Timestamp};
use uuid::Uuid;

/// A controller with its disk, its clock and its timer.
pub(crate) struct World {
    pub(crate) machine: Controller,
    pub(crate) now: Timestamp,
    timer: Option<Timestamp>,
    alarms: BTreeMap<Uuid, FleetAlarm>,
    subclouds: BTreeMap<SubcloudId, Subcloud>,
    /// Names and numbers of alarms, in the order in which they were raised (+) and cleared (-).
    pub(crate) told: Vec<String>,
    /// What is said to agents about the controller's networks: to which, and how long they have
    /// to report.
    pub(crate) networks_told: Vec<(LinkId, Duration)>,
    largest_batch: usize,
    commits: usize,
    last_link: u64,
}

fn id(number: u128) -> SubcloudId {
    SubcloudId(Uuid::from_u128(number))
}

/// The state that every agent has.
fn first() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| site("s1", 1, "4"))
}

/// A managed subcloud that enrolled and reported.
fn enrolled(number: u128, like: &Site) -> Subcloud {
    let mut parts = like.to_parts();
    parts.identity.name = format!("s{number}");
    let mut footprint = fleet::Footprint::of(&parts);
    footprint.region_name = format!("r{number}");
    if number > 1 {
        // Only their links matter, and there are more of them than addresses.
        footprint.link = None;
        footprint.oam_subnets = Vec::new();
    }
    Subcloud {
        id: id(number),
        name: format!("s{number}"),
        description: String::new(),
        location: String::new(),
        group: fleet::GroupId::DEFAULT,
        management: Management::Managed,
        enrollment: Enrollment::Enrolled(Enrolled {
            key: key(1),
            site: parts.identity.uuid,
            spent: SpentToken {
                id: TokenId(Uuid::from_u128(1_000_000 + number)),
                secret: SecretHash([1; 32]),
            },
            epoch: Epoch(1),
            enrolled_at: START,
            differences: Vec::new(),
            reenroll: None,
            renewal: fleet::Renewal::default(),
            cloned: None,
        }),
        observed: Some(Observed {
            generation: Generation(1),
            digest: like.digest(),
            received_at: START,
            alarms: None,
            footprint,
        }),
        refused: None,
        geo: fleet::Geo::default(),
        created_at: START,
        updated_at: START,
    }
}

impl World {
    /// A controller with this many subclouds, none of which has come yet.
    pub(crate) fn with(count: u128) -> Self {
        let like = site("s1", 1, "4");
        let subclouds = (1..=count).map(|number| (id(number), enrolled(number, &like)));
        Self::recovered(subclouds.collect(), BTreeMap::new(), START)
    }

    fn recovered(
        subclouds: BTreeMap<SubcloudId, Subcloud>,
        alarms: BTreeMap<Uuid, FleetAlarm>,
        now: Timestamp,
    ) -> Self {
        let site = site("controller", 200, "4");
        let records = Records {
            subclouds: subclouds.values().cloned().map(Arc::new).collect(),
            alarms: alarms.values().cloned().collect(),
            ..Records::default()
        };
        let config = config(&site, 100_000);
        let (machine, outputs) = Controller::recover(now, config, &site, records);
        let mut world = Self {
            machine,
            now,
            timer: None,
            alarms,
            subclouds,
            told: Vec::new(),
            networks_told: Vec::new(),
            largest_batch: 0,
            commits: 0,
            last_link: 0,
        };
        world.carry_out(outputs);
        world
    }

    /// The process ends and another one begins.
    pub(crate) fn restart(self) -> Self {
        Self::recovered(self.subclouds, self.alarms, self.now)
    }

    pub(crate) fn tell(&mut self, input: Input) {
        let outputs = self.machine.on(self.now, &mut Calm, input);
        self.carry_out(outputs);
    }

    /// The disk is done at once.
    pub(crate) fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut waiting: std::collections::VecDeque<Output> = outputs.into();
        while let Some(output) = waiting.pop_front() {
            match output {
                Output::Commit { ticket, writes } => {
                    self.commits += 1;
                    self.largest_batch = self.largest_batch.max(writes.len());
                    self.write(writes);
                    let committed = Input::Committed { ticket };
                    waiting.extend(self.machine.on(self.now, &mut Calm, committed));
                }
                Output::SetTimer { at } => self.timer = Some(at),
                Output::Send {
                    link,
                    message: ControllerMessage::Networks { report_within, .. },
                } => self.networks_told.push((link, report_within)),
                Output::Event(event) => {
                    let told = match event.kind {
                        EventKind::AlarmRaised { alarm, .. } => format!("+{}", alarm.id()),
                        EventKind::AlarmCleared { alarm, .. } => format!("-{}", alarm.id()),
                        EventKind::Quarantined | EventKind::Released => {
                            event.kind.name().to_owned()
                        }
                        _ => continue,
                    };
                    self.told.push(told);
                }
                _ => {}
            }
        }
    }

    fn write(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Subcloud(subcloud) => {
                    self.subclouds.insert(subcloud.id, (*subcloud).clone());
                }
                Write::Alarm(alarm) => {
                    self.alarms.insert(alarm.uuid(), (*alarm).clone());
                }
                Write::ForgetAlarm(uuid) => {
                    self.alarms.remove(&uuid).expect("it is on disk");
                }
                _ => {}
            }
        }
    }

    /// Time passes, and every timer rings.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = Timestamp(self.now.0 + u64::try_from(time.as_millis()).unwrap());
        while let Some(at) = self.timer.filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.timer = None;
            self.tell(Input::Timer);
        }
        self.now = until;
    }

    /// An agent comes up.
    pub(crate) fn up(&mut self, number: u128) -> LinkId {
        let present = self.machine.networks().digest();
        self.up_with(number, Some(present))
    }

    /// An agent comes up whose site has these networks of the controller.
    pub(crate) fn up_with(&mut self, number: u128, networks: Option<NetworksDigest>) -> LinkId {
        self.last_link += 1;
        let link = LinkId(self.last_link);
        self.tell(Input::LinkOpened {
            link,
            subcloud: id(number),
            key: key(1),
            signed: None,
            source: [10, 1, 0, 2].into(),
        });
        self.say(
            link,
            AgentMessage::Hello(Hello {
                networks,
                connection: link.0,
                ..crate::common::hello(first())
            }),
        );
        link
    }

    pub(crate) fn say(&mut self, link: LinkId, message: AgentMessage) {
        self.tell(Input::LinkMessage { link, message });
    }

    pub(crate) fn down(&mut self, link: LinkId) {
        self.tell(Input::LinkClosed { link });
    }

    /// Agents are there and say so for a while.
    pub(crate) fn beat(&mut self, links: &[LinkId], times: u32) {
        for _ in 0..times {
            self.pass(HEARTBEAT_INTERVAL);
            for link in links {
                self.say(*link, AgentMessage::Heartbeat);
            }
        }
    }

    fn raised(&self, kind: AlarmKind) -> usize {
        let raised = self.machine.alarms();
        raised.filter(|alarm| alarm.key.kind == kind).count()
    }

    fn count(&self, told: &str) -> usize {
        self.told.iter().filter(|other| *other == told).count()
    }

    /// What is raised is what has a cause, and it is on disk.
    fn check_settled(&self) {
        let keys: BTreeSet<_> = self.machine.alarms().map(|alarm| &alarm.key).collect();
        for record in self.machine.fleet().subclouds() {
            let raised = |kind| keys.contains(&AlarmKey::of(record.id, kind));
            let managed = record.management == Management::Managed;
            let away = self.machine.presence(record.id).availability == Availability::Offline;
            assert_eq!(
                raised(AlarmKind::Offline),
                managed && away,
                "{}",
                record.name
            );
            let quarantined = record.refused.is_some();
            assert_eq!(
                raised(AlarmKind::Quarantined),
                quarantined,
                "{}",
                record.name
            );
            assert_eq!(
                raised(AlarmKind::OutOfSync),
                managed && quarantined,
                "{}",
                record.name
            );
        }
        let shown: BTreeMap<Uuid, FleetAlarm> = self
            .machine
            .alarms()
            .map(|alarm| (alarm.uuid(), (**alarm).clone()))
            .collect();
        assert_eq!(shown, self.alarms);
    }
}

const GRACE: Duration = HEARTBEAT_INTERVAL.saturating_mul(MISSED_HEARTBEATS);

#[test]
fn an_offline_managed_subcloud_has_an_alarm_until_it_has_been_back_for_a_while() {
    let mut world = World::with(1);
    let link = world.up(1);
    world.beat(&[link], 3);
    world.down(link);
    world.pass(GRACE - Duration::from_millis(1));
    assert_eq!(world.told, [""; 0], "the grace is not over");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.told, ["+280.001"]);
    world.check_settled();
    let alarm = world.machine.alarms().next().unwrap().shown();
    assert_eq!(
        (alarm.id.as_str(), alarm.severity),
        ("280.001", Severity::Critical)
    );
    assert_eq!(alarm.entity, "subcloud=s1");
    assert_eq!(alarm.raised_at, world.now);
    assert!(alarm.reason.contains("s1 is offline") && !alarm.repair.is_empty());

    let link = world.up(1);
    world.beat(&[link], SETTLED_HEARTBEATS - 1);
    assert_eq!(world.told, ["+280.001"], "it may be a short visit");
    world.beat(&[link], 1);
    assert_eq!(world.told, ["+280.001", "-280.001"]);
    world.check_settled();
}

#[test]
fn a_change_that_a_rollout_waits_for_too_long_has_an_alarm() {
    let mut world = World::with(1);
    let link = world.up(1);
    let wait = |rollout: Option<u64>| Input::Awaited {
        subcloud: id(1),
        rollout: rollout.map(RolloutId),
    };
    world.tell(Input::AllAwaited(BTreeMap::new()));
    world.tell(wait(Some(3)));
    world.beat(&[link], PENDING_HEARTBEATS - 1);
    world.tell(wait(None));
    world.beat(&[link], 2);
    assert_eq!(world.told, [""; 0], "it came into effect in time");

    world.tell(wait(Some(3)));
    world.beat(&[link], PENDING_HEARTBEATS - 1);
    assert_eq!(world.told, [""; 0]);
    world.beat(&[link], 1);
    assert_eq!(world.told, ["+280.002"]);
    let alarm = world.machine.alarms().next().unwrap().shown();
    assert_eq!(alarm.severity, Severity::Major);
    assert_eq!(alarm.entity, "subcloud=s1.rollout=3");

    // A new process knows nothing of rollouts until they tell.
    let mut world = world.restart();
    let link = world.up(1);
    world.beat(&[link], 1);
    assert_eq!(world.alarms.len(), 1);
    world.tell(Input::AllAwaited([(id(1), RolloutId(3))].into()));
    world.beat(&[link], 1);
    assert_eq!(world.told, [""; 0], "neither raised again nor cleared");
    // Another rollout has waited for less long.
    world.tell(wait(Some(4)));
    assert_eq!(world.told, ["-280.002"]);
    world.beat(&[link], PENDING_HEARTBEATS);
    assert_eq!(world.told, ["-280.002", "+280.002"]);

    let mut world = world.restart();
    world.tell(Input::AllAwaited(BTreeMap::new()));
    assert_eq!(world.told, ["-280.002"], "it ended while nobody looked");
    assert!(world.alarms.is_empty());
}

#[test]
fn only_managed_subclouds_are_missed() {
    let mut world = World::with(1);
    world.subclouds.get_mut(&id(1)).unwrap().management = Management::Unmanaged;
    let mut world = world.restart();
    world.pass(RESTART_GRACE);
    assert_eq!(world.told, [""; 0]);
    world.check_settled();
}

#[test]
fn a_restart_keeps_the_moment_and_raises_nothing_for_those_that_come_back() {
    let mut world = World::with(2);
    let (gone, stays) = (world.up(1), world.up(2));
    world.down(gone);
    world.beat(&[stays], MISSED_HEARTBEATS);
    assert_eq!(world.told, ["+280.001"]);
    let before = world.alarms.clone();

    let mut world = world.restart();
    assert_eq!(world.told, [""; 0], "what is raised is not raised again");
    assert_eq!(world.alarms, before, "and keeps its moment");
    let stays = world.up(2);
    world.beat(&[stays], 9);
    assert_eq!(world.told, [""; 0]);
    world.check_settled();
    let back = world.up(1);
    world.beat(&[stays, back], SETTLED_HEARTBEATS);
    assert_eq!(world.told, ["-280.001"]);
}

#[test]
fn many_at_once_have_one_alarm_beside_theirs_and_bounded_work() {
    const MANY: u128 = 10_000;
    let mut world = World::with(MANY);
    let links: Vec<LinkId> = (1..=MANY).map(|number| world.up(number)).collect();
    world.commits = 0;
    for link in links {
        world.down(link);
    }
    world.pass(GRACE);
    assert_eq!(world.raised(AlarmKind::Offline), 10_000);
    assert_eq!(world.raised(AlarmKind::MassOutage), 1);
    assert_eq!(world.count("+280.103"), 1);
    assert!(
        world.largest_batch <= 512,
        "{} writes at once",
        world.largest_batch
    );
    assert!(world.commits <= 100, "{} commits", world.commits);
    world.check_settled();

    let mut world = world.restart();
    world.pass(RESTART_GRACE * 2);
    assert_eq!(
        world.told, [""; 0],
        "a restart in the middle tells nothing twice"
    );

    let back = MANY - u128::try_from(MASS_OUTAGE).unwrap() - 1;
    let mut links: Vec<LinkId> = (1..=back).map(|number| world.up(number)).collect();
    world.beat(&links, SETTLED_HEARTBEATS);
    assert_eq!(world.raised(AlarmKind::Offline), MASS_OUTAGE + 1);
    assert_eq!(world.raised(AlarmKind::MassOutage), 1);
    links.push(world.up(MANY));
    world.beat(&links, SETTLED_HEARTBEATS);
    assert_eq!(world.raised(AlarmKind::MassOutage), 0);
    world.check_settled();
}

#[test]
fn a_few_at_once_or_many_one_after_the_other_are_no_mass_outage() {
    let mut world = World::with(60);
    let links: Vec<LinkId> = (1..=60).map(|number| world.up(number)).collect();
    let mut links = links.into_iter();
    for link in links.by_ref().take(MASS_OUTAGE) {
        world.down(link);
    }
    world.pass(GRACE * 2);
    let mut world = world.restart();
    for number in 21..=60 {
        world.up(number);
        world.pass(Duration::from_millis(600));
    }
    world.pass(GRACE * 4);
    assert_eq!(world.raised(AlarmKind::Offline), 60);
    assert_eq!(world.count("+280.103"), 0);
}

#[test]
fn a_link_that_flaps_at_the_heartbeat_interval_raises_nothing() {
    let mut world = World::with(1);
    for _ in 0..1000 {
        let link = world.up(1);
        world.pass(HEARTBEAT_INTERVAL);
        world.down(link);
        world.pass(HEARTBEAT_INTERVAL);
    }
    assert_eq!(world.told, [""; 0]);
}

#[test]
fn a_quarantined_subcloud_has_its_alarms_until_its_report_is_right_again() {
    let mut world = World::with(1);
    let link = world.up(1);
    let report = |site: &Site, digest: Digest| {
        let mut parts = site.to_parts();
        parts.identity = crate::common::site("s1", 1, "4").identity().clone();
        AgentMessage::Report(Report {
            digest,
            site: std::sync::Arc::new(parts),
        })
    };
    let wrong = site("s1", 3, "6");
    world.say(link, report(&wrong, Digest([7; 32])));
    assert_eq!(world.told, ["QUARANTINED", "+280.101", "+280.002"]);
    world.check_settled();
    let alarms: Vec<_> = world.machine.alarms().map(|alarm| alarm.shown()).collect();
    assert!(
        alarms[1].reason.contains("PRIMARY_FAMILY_MISMATCH"),
        "{alarms:?}"
    );
    assert!(
        alarms[1].repair.contains("install the site with IPv4"),
        "{alarms:?}"
    );
    world.say(link, report(&wrong, Digest([8; 32])));
    assert_eq!(
        world.told.len(),
        3,
        "the next refused report is the same quarantine"
    );

    let right = site("s1", 1, "4");
    world.told.clear();
    world.say(link, report(&right, right.digest()));
    assert_eq!(world.told, ["RELEASED", "-280.101", "-280.002"]);
    world.check_settled();
}

/// What happens to one of three links.
#[derive(Debug, Clone, Copy)]
enum Step {
    Up(u128),
    Down(u128),
    Pass(u64),
    Restart,
    Manage(u128, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u128).prop_map(Step::Up),
        4 => (1..4_u128).prop_map(Step::Down),
        6 => (1..120_u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => (1..4_u128, any::<bool>()).prop_map(|(number, yes)| Step::Manage(number, yes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, an alarm is only raised for a managed subcloud that is offline, and once
    /// nothing happens any more exactly those have one.
    #[test]
    fn no_alarm_without_cause_and_no_cause_without_alarm(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::with(3);
        let mut links: BTreeMap<u128, LinkId> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Up(number) => {
                    let link = world.up(number);
                    links.insert(number, link);
                }
                Step::Down(number) => {
                    if let Some(link) = links.remove(&number) {
                        world.down(link);
                    }
                }
                Step::Pass(seconds) => {
                    for _ in 0..seconds {
                        world.pass(Duration::from_secs(1));
                        for link in links.values() {
                            world.say(*link, AgentMessage::Heartbeat);
                        }
                    }
                }
                Step::Restart => {
                    links.clear();
                    world = world.restart();
                }
                Step::Manage(number, managed) => {
                    links.clear();
                    let record = world.subclouds.get_mut(&id(number)).unwrap();
                    record.management = match managed {
                        true => Management::Managed,
                        false => Management::Unmanaged,
                    };
                    world = world.restart();
                }
            }
            for alarm in world.machine.alarms() {
                let record = alarm.key.subcloud.and_then(|id| world.machine.fleet().subcloud(id));
                prop_assert!(record.is_some_and(|record| record.managed()), "{alarm:?}");
            }
        }
        // An hour is longer than any return takes to be believed.
        for _ in 0..360 {
            world.pass(HEARTBEAT_INTERVAL);
            for link in links.values() {
                world.say(*link, AgentMessage::Heartbeat);
            }
        }
        world.check_settled();
    }

    /// A link that comes and goes, at whatever pace, raises a bounded number of alarms.
    #[test]
    fn flapping_raises_a_bounded_number(up in 1..600_u64, down in 1..600_u64) {
        let mut world = World::with(1);
        let end = Timestamp(world.now.0 + u64::try_from(FLAP_MEMORY.as_millis()).unwrap());
        while world.now < end {
            let link = world.up(1);
            for _ in 0..up.div_ceil(5) {
                world.pass(Duration::from_secs(5));
                world.say(link, AgentMessage::Heartbeat);
            }
            world.down(link);
            world.pass(Duration::from_secs(down));
        }
        // Doubling from 40 s to 640 s, and then once for each 640 s.
        prop_assert!(world.count("+280.001") <= 9, "{} alarms", world.count("+280.001"));
    }
}
