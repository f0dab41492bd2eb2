//! The controller's own networks: told to every agent, answered by it, missed where they are not
//! in effect, and reported one site after another.

use std::sync::Arc;
use std::time::Duration;

use fleet::{
    Agent, AgentInput, AgentMessage, AgentOutput, ConnectionId, ControllerMessage,
    ControllerNetworks, Entropy, Epoch, Fault, FleetChange, HEARTBEAT_INTERVAL, Input, LinkId,
    MAX_REPORT_SPREAD, NetworksAnswer, NetworksDigest, Operate, PENDING_HEARTBEATS, REPORT_SPACING,
    RequestId, SubcloudEdit,
};
use site::{
    Addresses, AttachmentId, Change, ControllerNetwork, DistributedCloudRole, PoolId, Site,
    Timestamp,
};
use uuid::Uuid;

use crate::alarms::World;
use crate::common::{at, fault, site};
use crate::link::{greeting, kinds, welcome};

/// Draws the largest number there is.
struct Late;

impl Entropy for Late {
    fn next_u64(&mut self) -> u64 {
        u64::MAX - 1
    }
}

/// The controller has the networks of another number from now on.
fn move_to(world: &mut World, number: u8) -> NetworksDigest {
    let moved = Arc::new(site("controller", number, "4"));
    world.tell(Input::ControllerSiteChanged(moved));
    world.machine.networks().digest()
}

fn answer(world: &mut World, link: LinkId, digest: NetworksDigest, refused: bool) {
    let faults = if refused { vec![fault()] } else { Vec::new() };
    let answer = NetworksAnswer { digest, faults };
    world.say(link, AgentMessage::NetworksAnswer(answer));
}

/// A managed subcloud that refuses the present networks, over this link; what it had before, and
/// what it refuses.
fn refusing() -> (World, LinkId, [NetworksDigest; 2]) {
    let mut world = World::with(1);
    let link = world.up(1);
    let had = world.machine.networks().digest();
    let digest = move_to(&mut world, 201);
    answer(&mut world, link, digest, true);
    assert_eq!(world.told, ["+280.002"]);
    (world, link, [had, digest])
}

fn operate(change: FleetChange) -> Input {
    Input::Operate(Operate {
        request: RequestId(1),
        actor: fleet::Actor::Operator("uid=0".to_owned()),
        change,
        key: None,
        validate_only: false,
    })
}

#[test]
fn who_takes_them_over_is_not_missed_and_reports_come_one_after_another() {
    let mut world = World::with(5);
    let links: Vec<LinkId> = (1..=5).map(|number| world.up(number)).collect();
    assert_eq!(world.networks_told, [], "Hello named the present ones");
    let digest = move_to(&mut world, 201);
    let told = links.iter().map(|link| (*link, 10 * REPORT_SPACING));
    assert_eq!(world.networks_told, told.collect::<Vec<_>>());
    for link in &links {
        answer(&mut world, *link, digest, false);
    }
    world.beat(&links, 2 * PENDING_HEARTBEATS);
    assert_eq!(world.told, [""; 0]);
}

#[test]
fn who_does_not_answer_is_missed_until_it_does() {
    let mut world = World::with(2);
    let links = [world.up(1), world.up(2)];
    let digest = move_to(&mut world, 201);
    answer(&mut world, links[0], digest, false);
    world.beat(&links, PENDING_HEARTBEATS - 1);
    assert_eq!(world.told, [""; 0]);
    world.beat(&links, 1);
    assert_eq!(world.told, ["+280.002"]);
    let alarm = world.machine.alarms().next().expect("raised").shown();
    assert_eq!(alarm.entity, "subcloud=s2.controller-networks");
    assert!(alarm.reason.contains("has not answered") && !alarm.repair.is_empty());
    answer(&mut world, links[1], digest, false);
    assert_eq!(world.told, ["+280.002", "-280.002"]);
}

#[test]
fn who_refuses_is_missed_at_once_with_the_reason_over_restarts_until_it_has_them() {
    let (mut world, link, [had, earlier]) = refusing();
    let alarm = world.machine.alarms().next().expect("raised").shown();
    assert!(
        alarm.reason.contains("s1: POOL_OVERLAP: taken"),
        "{}",
        alarm.reason
    );
    assert_eq!(alarm.repair, "move it");

    // An answer to what is no longer told changes nothing.
    let digest = move_to(&mut world, 202);
    answer(&mut world, link, earlier, false);
    assert_eq!(world.told, ["+280.002"]);
    answer(&mut world, link, digest, true);
    world.down(link);
    // It comes back with what it had, is told again, and refuses again.
    let link = world.up_with(1, Some(had));
    answer(&mut world, link, digest, true);
    assert_eq!(world.told, ["+280.002"]);
    world.down(link);
    let mut world = world.restart();
    assert_eq!(world.told, [""; 0], "nothing is known of it yet");
    assert_eq!(world.machine.alarms().len(), 1);
    world.up(1);
    assert_eq!(world.told, ["-280.002"], "Hello named the present ones");
}

#[test]
fn a_site_that_has_changed_since_it_refused_is_told_again() {
    let (mut world, link, [_, digest]) = refusing();
    world.networks_told.clear();
    let mut parts = site("s1", 1, "4").to_parts();
    parts.generation.0 += 1;
    parts.dns_servers = vec!["10.9.9.9".parse().expect("an address")];
    let changed = site::Site::from_parts(parts).expect("sound");
    world.say(link, AgentMessage::Report(fleet::Report::of(&changed)));
    assert_eq!(world.networks_told, [(link, Duration::ZERO)]);
    answer(&mut world, link, digest, false);
    assert_eq!(world.told, ["+280.002", "-280.002"]);
}

/// The site `s1` after so many changes: a subcloud with the controller's link and oam subnets as it
/// was told them, where they are given.
fn keeping(changes: u64, link: Option<&str>, oam: Option<&str>) -> Site {
    let mut parts = site("s1", 1, "4").to_parts();
    parts.identity.role = DistributedCloudRole::Subcloud;
    let mut site = Site::from_parts(parts).expect("sound");
    let told = |subnet: &str, number| ControllerNetwork {
        subnet: subnet.parse().expect("a subnet"),
        network: Uuid::from_u128(number),
        attachment: AttachmentId(Uuid::from_u128(number + 1)),
        pool: PoolId(Uuid::from_u128(number + 2)),
    };
    let change = Change::SetControllerNetworks {
        link: told(link.unwrap_or("10.222.0.0/24"), 7000),
        oam: oam.map(|subnet| told(subnet, 8000)),
    };
    let set = site::plan(&site, change, at(0)).expect("they fit");
    set.apply(&mut site);
    if link.is_none() {
        let network = "system-controller".to_owned();
        let deleted = site::plan(&site, Change::DeleteNetwork { network }, at(0));
        deleted.expect("allowed").apply(&mut site);
    }
    let mut parts = site.to_parts();
    parts.generation.0 = changes;
    parts.dns_servers = vec![format!("10.9.9.{changes}").parse().expect("an address")];
    Site::from_parts(parts).expect("sound")
}

/// The same on the link subnet of the controller, with addresses of its own.
fn beside_the_controller(site: &Site) -> Site {
    let mut parts = site.to_parts();
    let own = site.link_pool().expect("it has one").id();
    let pool = parts.pools.iter_mut().find(|pool| pool.id == own);
    let pool = pool.expect("the link pool");
    let floating = "10.200.0.150".parse().expect("an address");
    pool.subnet = "10.200.0.0/24".parse().expect("a subnet");
    pool.ranges = vec![(floating, "10.200.0.200".parse().expect("an address"))];
    pool.addresses = Addresses {
        floating: Some(floating),
        ..Addresses::default()
    };
    pool.holders.clear();
    Site::from_parts(parts).expect("sound")
}

#[test]
fn a_site_that_no_longer_has_them_is_told_again_once_for_each_report() {
    let (link, oam) = (Some("10.200.0.0/24"), Some("10.200.1.0/24"));
    let other = Some("10.222.0.0/24");
    let cases = [
        (keeping(1, link, oam), false),
        (keeping(1, None, oam), true),
        (keeping(1, link, None), true),
        (keeping(1, other, oam), true),
        (keeping(1, link, other), true),
        (beside_the_controller(&keeping(1, None, oam)), false),
        (beside_the_controller(&keeping(1, None, None)), true),
    ];
    for (case, (reported, lost)) in cases.into_iter().enumerate() {
        let mut world = World::with(1);
        let link = world.up(1);
        let digest = world.machine.networks().digest();
        let again = [(link, Duration::ZERO)];
        world.say(link, AgentMessage::Report(fleet::Report::of(&reported)));
        let told = if lost { &again[..] } else { &[] };
        assert_eq!(world.networks_told, told, "case {case}");
        if !lost {
            continue;
        }
        // What it says of them before it has answered asks for nothing more.
        let mut parts = reported.to_parts();
        parts.generation.0 += 1;
        parts.dns_servers.clear();
        let changed = Site::from_parts(parts).expect("sound");
        world.say(link, AgentMessage::Report(fleet::Report::of(&changed)));
        assert_eq!(world.networks_told, again);
        answer(&mut world, link, digest, false);
        assert_eq!(world.networks_told, again, "an answer is believed");
        world.say(link, AgentMessage::Report(fleet::Report::of(&changed)));
        assert_eq!(world.networks_told, again, "nothing new");
        world.say(link, AgentMessage::Report(fleet::Report::of(&reported)));
        assert_eq!(world.networks_told, [again[0], again[0]]);
        world.beat(&[link], PENDING_HEARTBEATS + 1);
        assert_eq!(world.told, ["+280.002"], "it never answered");
    }
}

#[test]
fn who_comes_back_with_earlier_ones_is_missed_all_the_time() {
    let (mut world, link, [had, digest]) = refusing();
    world.down(link);
    world.pass(HEARTBEAT_INTERVAL * 4);
    assert_eq!(world.told, ["+280.002", "+280.001"]);
    // Its record is on its way to the disk when it says Hello, so it is welcomed later.
    let change = FleetChange::Update {
        subcloud: "s1".to_owned(),
        etag: String::new(),
        edit: SubcloudEdit {
            description: Some("moved".to_owned()),
            ..SubcloudEdit::default()
        },
    };
    let written = world.machine.on(world.now, &mut Late, operate(change));
    let link = world.up_with(1, Some(had));
    world.networks_told.clear();
    world.carry_out(written);
    assert_eq!(world.networks_told, [(link, Duration::ZERO)]);
    answer(&mut world, link, digest, true);
    assert_eq!(world.told, ["+280.002", "+280.001"]);
}

#[test]
fn what_an_agent_says_is_cut() {
    let mut world = World::with(1);
    let link = world.up(1);
    let digest = move_to(&mut world, 201);
    let long = "x".repeat(100_000);
    let fault = Fault {
        reason: long.clone(),
        message: long.clone(),
        remedy: long,
        ..Fault::default()
    };
    let faults = vec![fault; 3];
    world.say(
        link,
        AgentMessage::NetworksAnswer(NetworksAnswer { digest, faults }),
    );
    let alarm = world.machine.alarms().next().expect("raised").shown();
    assert!(alarm.reason.len() < 1000 && alarm.repair.len() < 1000);
    assert!(alarm.reason.ends_with("(and 2 more)"), "{}", alarm.reason);
}

#[test]
fn nobody_misses_them_at_an_unmanaged_subcloud() {
    let (mut world, _, _) = refusing();
    world.tell(operate(FleetChange::Unmanage {
        subcloud: "s1".to_owned(),
    }));
    assert_eq!(world.told, ["+280.002", "-280.002"]);
}

fn networks() -> ControllerNetworks {
    ControllerNetworks::of(&site("controller", 200, "4"))
}

fn told_message(report_within: Duration) -> ControllerMessage {
    ControllerMessage::Networks {
        epoch: Epoch(5),
        networks: networks(),
        report_within,
    }
}

/// A live agent whose state the controller has, and what it does when it is told networks.
fn told(within: Duration) -> (Agent, ConnectionId, Vec<AgentOutput>) {
    let (mut agent, connection) = greeting();
    let hear = |agent: &mut Agent, at, message| {
        agent.on(at, &mut Late, AgentInput::Message(connection, message))
    };
    hear(&mut agent, at(0), welcome(7, 5));
    let accepted = ControllerMessage::ReportAccepted {
        generation: site("s", 1, "4").generation(),
        digest: site("s", 1, "4").digest(),
    };
    hear(&mut agent, at(0), accepted);
    let outputs = hear(&mut agent, at(1), told_message(within));
    (agent, connection, outputs)
}

/// The site so many changes later.
fn changed(changes: u64) -> Arc<Site> {
    let mut parts = site("s", 1, "4").to_parts();
    parts.generation.0 += changes;
    let server = format!("10.9.9.{changes}");
    parts.dns_servers = vec![server.parse().expect("an address")];
    Arc::new(Site::from_parts(parts).expect("sound"))
}

/// The site has the networks since this change of it.
fn applied(site: &Site) -> AgentInput {
    AgentInput::NetworksApplied {
        networks: networks().digest(),
        made: Some(site.generation()),
    }
}

/// The moment at which an agent wants to be woken.
fn timer(outputs: &[AgentOutput]) -> Option<Timestamp> {
    outputs.iter().rev().find_map(|output| match output {
        AgentOutput::SetTimer { at } => Some(*at),
        _ => None,
    })
}

#[test]
fn an_agent_answers_at_once_and_reports_when_it_is_its_turn() {
    let (mut agent, _, outputs) = told(Duration::from_secs(5));
    assert_eq!(kinds(&outputs), ["networks"]);
    let outputs = agent.on(at(1), &mut Late, applied(&changed(1)));
    assert_eq!(kinds(&outputs), ["answer", "persist"]);
    let turn = timer(&outputs).expect("a timer");
    let half = Timestamp(at(1).0 + 2500);
    assert!(half < turn && turn <= at(6), "{turn:?}");
    let outputs = agent.on(at(1), &mut Late, AgentInput::SiteChanged(changed(1)));
    assert_eq!(kinds(&outputs), [""; 0]);
    let early = agent.on(Timestamp(turn.0 - 1), &mut Late, AgentInput::Timer);
    assert_eq!(kinds(&early), [""; 0]);
    let outputs = agent.on(turn, &mut Late, AgentInput::Timer);
    assert_eq!(kinds(&outputs), ["report"]);
}

/// The link may break before the report of it has come to anything.
#[test]
fn an_agent_whose_site_has_lost_them_says_hello_without_them() {
    let (link, oam) = (Some("10.200.0.0/24"), Some("10.200.1.0/24"));
    let kept = Arc::new(keeping(1, link, oam));
    let moved = keeping(2, link, oam).to_parts();
    for (next, lost) in [
        (keeping(2, link, oam), false),
        (keeping(2, None, oam), true),
        (keeping(2, link, None), true),
        (keeping(2, Some("10.222.0.0/24"), oam), true),
        // One that comes to, or leaves, the controller's link subnet keeps something else.
        (on_another_link(moved), true),
    ] {
        let (mut agent, _, _) = told(Duration::ZERO);
        agent.on(at(1), &mut Late, applied(&kept));
        agent.on(at(1), &mut Late, AgentInput::SiteChanged(Arc::clone(&kept)));
        assert_eq!(agent.record().networks, Some(networks().digest()));
        let outputs = agent.on(at(2), &mut Late, AgentInput::SiteChanged(Arc::new(next)));
        assert_eq!(kinds(&outputs).contains(&"persist"), lost);
        assert_eq!(agent.record().networks.is_none(), lost);
        // It is told again.
        agent.on(at(3), &mut Late, applied(&keeping(3, link, oam)));
        assert_eq!(agent.record().networks, Some(networks().digest()));
    }
}

fn on_another_link(mut parts: site::SiteParts) -> Site {
    let pool = parts
        .pools
        .iter_mut()
        .find(|pool| pool.name == "management-ipv4");
    pool.expect("the link pool").subnet = "10.1.0.0/25".parse().expect("a subnet");
    Site::from_parts(parts).expect("sound")
}

#[test]
fn another_change_of_the_site_does_not_wait_for_the_turn() {
    // It comes after the networks; before them; and with them, of which the first is not told.
    for (made, seen) in [(1, vec![1, 2]), (2, vec![1]), (2, vec![2])] {
        let (mut agent, _, _) = told(Duration::from_secs(5));
        agent.on(at(1), &mut Late, applied(&changed(made)));
        let mut reports = 0;
        for changes in seen {
            let input = AgentInput::SiteChanged(changed(changes));
            let outputs = agent.on(at(2), &mut Late, input);
            reports += kinds(&outputs).iter().filter(|it| **it == "report").count();
        }
        assert_eq!(reports, 1, "the change that made them is {made}");
    }
}

/// An agent whose timer rings, at a controller that answers heartbeats.
struct Clocked {
    agent: Agent,
    connection: ConnectionId,
    now: Timestamp,
    due: Option<Timestamp>,
    wakes: usize,
    reports: usize,
}

impl Clocked {
    fn tell(&mut self, input: AgentInput) {
        let outputs = self.agent.on(self.now, &mut Late, input);
        self.due = timer(&outputs).or(self.due);
        for kind in kinds(&outputs) {
            match kind {
                "report" => self.reports += 1,
                "heartbeat" => self.hear(ControllerMessage::Heartbeat),
                _ => {}
            }
        }
    }

    fn hear(&mut self, message: ControllerMessage) {
        self.tell(AgentInput::Message(self.connection, message));
    }

    /// Time passes, and the timer rings.
    fn until(&mut self, end: Timestamp) {
        while let Some(due) = self.due.filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.due = None;
            self.wakes += 1;
            assert!(self.wakes < 200, "it is woken all the time");
            self.tell(AgentInput::Timer);
        }
        self.now = end;
    }
}

#[test]
fn nothing_wakes_an_agent_again_and_again_before_its_turn() {
    let (agent, connection, outputs) = told(MAX_REPORT_SPREAD);
    let mut world = Clocked {
        agent,
        connection,
        now: at(1),
        due: timer(&outputs).or(Some(at(10))),
        wakes: 0,
        reports: 0,
    };
    // Another change was refused, and would be tried again before the turn of the networks.
    world.tell(AgentInput::SiteChanged(changed(1)));
    world.hear(ControllerMessage::ReportRefused {
        generation: changed(1).generation(),
        digest: changed(1).digest(),
        faults: vec![fault()],
    });
    world.until(at(290));
    assert_eq!(world.reports, 1);
    world.hear(told_message(MAX_REPORT_SPREAD));
    world.tell(applied(&changed(2)));
    world.tell(AgentInput::SiteChanged(changed(2)));
    world.until(at(315));
    assert_eq!(world.reports, 1, "what was refused is no longer the site");
    world.until(at(351));
    assert_eq!(world.reports, 2, "its turn has come");
}

#[test]
fn a_site_that_they_do_not_fit_says_so() {
    let (mut agent, _, _) = told(Duration::from_secs(5));
    let refused = AgentInput::NetworksRefused {
        networks: networks().digest(),
        faults: vec![fault()],
    };
    let outputs = agent.on(at(2), &mut Late, refused);
    assert_eq!(kinds(&outputs), ["answer"]);
    assert_eq!(agent.record().networks, None, "it has what it had");
}

#[test]
fn what_no_controller_tells_ends_the_link() {
    let (_, _, outputs) = told(MAX_REPORT_SPREAD + Duration::from_millis(1));
    assert_eq!(kinds(&outputs), ["close"]);
    let (mut agent, connection, outputs) = told(MAX_REPORT_SPREAD);
    assert_eq!(kinds(&outputs), ["networks"]);
    let nothing = ControllerMessage::Networks {
        epoch: Epoch(5),
        networks: ControllerNetworks::default(),
        report_within: Duration::ZERO,
    };
    let outputs = agent.on(at(2), &mut Late, AgentInput::Message(connection, nothing));
    assert_eq!(
        kinds(&outputs),
        ["close"],
        "a controller without a link network"
    );
}
