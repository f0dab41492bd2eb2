//! The controllers' hosts: the real machine, its disk, its clock and its crashes.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fleet::admission::ControllerView;
use fleet::{
    AcceptPeering, Actor, AddSubcloud, Answer, Association, Authority, Controller,
    ControllerConfig, ControllerId, Endpoint, Enroll, FailurePolicy, Fingerprint, FleetAlarm,
    FleetChange, Input, Management, NewToken, Operate, Output, PeerAction, PeerCall, PeerGroup,
    PeerGroupId, PeerId, PeerInput, PeerMessage, PeerOutput, PeerSettings, PeerSubject, Position,
    Records, Rejection, Report, RequestId, SecretHash, SourceCheck, Subcloud, SubcloudEdit,
    SubcloudId, SystemPeer, Ticket, TokenId, Write,
};
use rand::Rng;
use rand::rngs::SmallRng;
use site::{Family, Site, Timestamp};
use uuid::Uuid;

use crate::clock::Clock;
use crate::sites::{self, Layout};
use crate::world::Millis;

use super::wires::{Payload, TO_ACCEPTOR, TO_DIALLER};
use super::{Chance, Geo, GeoSabotage, Happening, Node};

/// The name of the group that the sites share.
pub(super) const GROUP: &str = "group";

/// A controller's host.
pub(super) struct SiteNode {
    pub(super) layout: Layout,
    pub(super) site: Site,
    pub(super) machine: Option<Controller>,
    pub(super) life: u64,
    pub(super) clock: Clock,
    pub(super) durable: Durable,
    /// The moment that the machine waits for.
    pub(super) alarm_clock: Option<Timestamp>,
    setting: u64,
    waiting: VecDeque<(Ticket, Vec<Write>)>,
    busy_until: Millis,
    authority: Authority,
    failover: Duration,
}

/// What is on disk.
#[derive(Default)]
pub(super) struct Durable {
    pub(super) subclouds: BTreeMap<SubcloudId, Subcloud>,
    pub(super) peers: BTreeMap<PeerId, SystemPeer>,
    pub(super) groups: BTreeMap<PeerGroupId, PeerGroup>,
    pub(super) associations: BTreeMap<(PeerGroupId, PeerId), Association>,
    pub(super) alarms: BTreeMap<Uuid, FleetAlarm>,
    events: Position,
    audit: Position,
}

impl SiteNode {
    /// Two or three sites, most often of one family.
    pub(super) fn draw(rng: &mut SmallRng, layout: Layout) -> Vec<Self> {
        let count = rng.random_range(2..=3);
        let failover = Duration::from_secs(rng.random_range(5..60));
        (0..count)
            .map(|index| {
                let layout = match index {
                    0 => layout,
                    _ if rng.random_bool(0.05) => sites::other_family(layout),
                    _ => sites::same_family(layout, rng.random_bool(0.5)),
                };
                let ahead = rng.random_range(0..5_000);
                Self::new(index, layout, ahead, failover)
            })
            .collect()
    }

    fn new(index: usize, layout: Layout, ahead: Millis, failover: Duration) -> Self {
        let site = sites::peer(index, layout).clone();
        let mark = u8::try_from(index + 1).unwrap_or(u8::MAX);
        Self {
            layout,
            site,
            machine: None,
            life: 0,
            clock: Clock::new(ahead),
            durable: Durable::default(),
            alarm_clock: None,
            setting: 0,
            waiting: VecDeque::new(),
            busy_until: 0,
            authority: Authority {
                key: Fingerprint([mark; 32]),
                certificate: vec![mark].into(),
            },
            failover,
        }
    }

    pub(super) fn id(&self) -> ControllerId {
        ControllerId(self.site.identity().uuid)
    }

    pub(super) fn key(&self) -> Fingerprint {
        self.authority.key
    }

    pub(super) fn endpoint(&self, index: usize) -> Endpoint {
        let site = sites::peer(index, self.layout);
        let address = site.link_address().expect("a site has a link address");
        Endpoint(SocketAddr::new(address, 8441))
    }

    pub(super) fn family(&self) -> Option<Family> {
        self.site.link_family()
    }

    fn config(&self, index: usize) -> ControllerConfig {
        ControllerConfig {
            id: self.id(),
            controllers: vec![self.endpoint(index)],
            source_check: SourceCheck::Strict,
            heartbeat_interval: fleet::HEARTBEAT_INTERVAL,
            fleet_limit: 100,
            authority: self.authority.clone(),
            failover: self.failover,
            event_log_limit: fleet::LOG_LIMIT,
            audit_log_limit: fleet::LOG_LIMIT,
        }
    }
}

impl Durable {
    pub(super) fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Subcloud(subcloud) => {
                    let subcloud = Subcloud::clone(&subcloud);
                    self.subclouds.insert(subcloud.id, subcloud);
                }
                Write::Peer(peer) => drop(self.peers.insert(peer.id, *peer)),
                Write::ForgetPeer(peer) => drop(self.peers.remove(&peer)),
                Write::PeerGroup(group) => drop(self.groups.insert(group.id, *group)),
                Write::ForgetPeerGroup(group) => drop(self.groups.remove(&group)),
                Write::Association(known) => {
                    self.associations.insert((known.group, known.peer), *known);
                }
                Write::ForgetAssociation(group, peer) => {
                    self.associations.remove(&(group, peer));
                }
                Write::Event(event) => self.events = event.position,
                Write::Audit(entry) => self.audit = entry.position,
                Write::ForgetSubcloud(subcloud) => drop(self.subclouds.remove(&subcloud.id)),
                Write::Alarm(alarm) => {
                    self.alarms.insert(alarm.uuid(), FleetAlarm::clone(&alarm));
                }
                Write::ForgetAlarm(uuid) => drop(self.alarms.remove(&uuid)),
                // Nobody reads these in this world, or makes them.
                Write::Site { .. }
                | Write::ForgetSite(_)
                | Write::Group(_)
                | Write::ForgetGroup(_)
                | Write::AnsweredCall(_)
                | Write::ForgetAnswer(_)
                | Write::ForgetEvent(_)
                | Write::ForgetAudit(_)
                | Write::Operator(_) => {}
            }
        }
    }

    fn records(&self) -> Records {
        Records {
            subclouds: self.subclouds.values().cloned().map(Arc::new).collect(),
            peers: self.peers.values().cloned().collect(),
            peer_groups: self.groups.values().cloned().collect(),
            associations: self.associations.values().cloned().collect(),
            alarms: self.alarms.values().cloned().collect(),
            last_event: self.events,
            last_audit: self.audit,
            ..Records::default()
        }
    }
}

impl Geo {
    /// Enrolls the subclouds, makes the sites peers, and a group that they share, before anything
    /// goes wrong.
    pub(super) fn set_up(&mut self) {
        let mut machines: Vec<Controller> = Vec::new();
        for (index, node) in self.sites.iter().enumerate() {
            let config = node.config(index);
            let records = Records::default();
            machines.push(Controller::recover(node.clock.at(0), config, &node.site, records).0);
        }
        self.enroll_all(&mut machines);
        for left in 0..machines.len() {
            for right in left + 1..machines.len() {
                self.peer_up(&mut machines, left, right);
            }
        }
        self.share_group(&mut machines);
        for node in &mut self.sites {
            for subcloud in node.durable.subclouds.values_mut() {
                subcloud.management = Management::Managed;
            }
        }
        for index in 0..self.sites.len() {
            self.remember_owners(index);
        }
    }

    fn enroll_all(&mut self, machines: &mut [Controller]) {
        for index in 0..self.subclouds.len() {
            let (home, add, enroll) = {
                let node = &self.subclouds[index];
                let token = NewToken {
                    id: TokenId(Uuid::from_u128(0x7000 + index as u128)),
                    secret: SecretHash([7; 32]),
                    ttl: Duration::from_secs(3600),
                };
                let add = AddSubcloud {
                    request: RequestId(1),
                    actor: Actor::Operator("uid=0".to_owned()),
                    id: node.id(),
                    name: node.name(),
                    token,
                    declared: None,
                    edit: SubcloudEdit::default(),
                    validate_only: false,
                };
                let enroll = Enroll {
                    request: RequestId(2),
                    token: token.id,
                    secret: token.secret,
                    key: node.key,
                    report: Report::of(&node.site),
                    source: node.site.link_address().expect("a site has an address"),
                    validate_only: false,
                };
                (node.home, add, enroll)
            };
            let machine = &mut machines[home];
            settle(&mut self.sites[home], machine, Input::AddSubcloud(add)).expect("added");
            let enrolled = settle(&mut self.sites[home], machine, Input::Enroll(enroll));
            if let Err(rejection) = enrolled {
                self.fail(format!("subcloud {index} was refused: {rejection}"));
            }
        }
    }

    /// `system-peer add` on both sites. Sites of different families are refused.
    fn peer_up(&mut self, machines: &mut [Controller], left: usize, right: usize) {
        let token = NewToken {
            id: TokenId(Uuid::from_u128((left * 16 + right) as u128 + 0x9000)),
            secret: SecretHash([9; 32]),
            ttl: Duration::from_secs(3600),
        };
        let issue = PeerAction::IssuePeering {
            id: PeerId(Uuid::from_u128(0x100 + left as u128)),
            name: format!("site-{left}"),
            token,
            settings: self.settings(),
        };
        settle(&mut self.sites[right], &mut machines[right], call(issue)).expect("a token");
        let accept = AcceptPeering {
            request: RequestId(3),
            token: token.id,
            secret: token.secret,
            card: Box::new(machines[left].card().clone()),
            source: self.sites[left].site.link_address().expect("an address"),
            validate_only: false,
        };
        let accept = Input::Peer(PeerInput::Accept(accept));
        let answer = settle(&mut self.sites[right], &mut machines[right], accept);
        let equal = self.sites[left].family() == self.sites[right].family();
        match answer {
            Ok(Answer::Peer(receipt)) => {
                let PeerSubject::Card(card) = receipt.subject else {
                    return self.fail("a peering was answered without a card".to_owned());
                };
                if !equal {
                    return self.fail("peers of two families were accepted".to_owned());
                }
                let add = PeerAction::AddPeer {
                    id: PeerId(Uuid::from_u128(0x100 + right as u128)),
                    name: format!("site-{right}"),
                    settings: self.settings(),
                    card,
                };
                settle(&mut self.sites[left], &mut machines[left], call(add)).expect("a peer");
            }
            Ok(Answer::Subcloud(_) | _) => self.fail("a peering was answered otherwise".to_owned()),
            Err(rejection) => {
                let reason = fleet::ReasonSet::name(rejection.first().reason);
                if equal || reason != "PRIMARY_FAMILY_MISMATCH" {
                    self.fail(format!("a peering was refused: {rejection}"));
                }
                let delete = PeerAction::DeletePeer {
                    peer: format!("site-{left}"),
                };
                settle(&mut self.sites[right], &mut machines[right], call(delete)).expect("gone");
            }
        }
    }

    fn settings(&mut self) -> PeerSettings {
        PeerSettings {
            failure_policy: if self.rng.random_bool(0.7) {
                FailurePolicy::Rehome
            } else {
                FailurePolicy::Alarm
            },
            ..PeerSettings::default()
        }
    }

    fn share_group(&mut self, machines: &mut [Controller]) {
        let members = self.subclouds.iter().filter(|node| node.home == 0);
        let members: Vec<String> = members.map(super::subcloud::SubcloudNode::name).collect();
        let add = PeerAction::AddGroup {
            id: PeerGroupId(Uuid::from_u128(0xaaaa)),
            name: GROUP.to_owned(),
            priority: 0,
            max_subcloud_rehoming: self.rng.random_range(1..4),
        };
        settle(&mut self.sites[0], &mut machines[0], call(add)).expect("a group");
        // In some worlds nobody enrolled, and a call that names nobody is refused.
        if !members.is_empty() {
            let join = PeerAction::SetMembers {
                group: GROUP.to_owned(),
                add: members,
                remove: Vec::new(),
            };
            settle(&mut self.sites[0], &mut machines[0], call(join)).expect("members");
        }
        for other in 1..machines.len() {
            let share = PeerAction::Associate {
                group: GROUP.to_owned(),
                peer: format!("site-{other}"),
                peer_priority: u32::try_from(other).unwrap_or(1),
            };
            // A site of the other family is no peer.
            let shared = settle(&mut self.sites[0], &mut machines[0], call(share));
            let equal = self.sites[0].family() == self.sites[other].family();
            if shared.is_ok() != equal {
                self.fail(format!("the group is shared with site {other} wrongly"));
            }
        }
    }

    /// Starts a controller from what is durable.
    pub(super) fn start_site(&mut self, index: usize) {
        let node = &mut self.sites[index];
        if node.machine.is_some() {
            return;
        }
        node.life += 1;
        let (now, config) = (node.clock.at(self.now), node.config(index));
        let records = node.durable.records();
        let (machine, outputs) = Controller::recover(now, config, &node.site, records);
        node.machine = Some(machine);
        self.note(101, || format!("site {index} starts"));
        let started = self.sites[index].clock.at(self.now);
        self.oracle.site_started(index, started);
        self.site_outputs(index, outputs);
    }

    /// Ends a controller's process as a power cut does: a part of what waited for the disk may
    /// have reached it all the same, in order.
    pub(super) fn crash_site(&mut self, index: usize) {
        if self.sites[index].machine.take().is_none() {
            return;
        }
        self.note(102, || format!("site {index} CRASHES"));
        let waiting = std::mem::take(&mut self.sites[index].waiting);
        let reached = self.rng.random_range(0..=waiting.len());
        for (_, writes) in waiting.into_iter().take(reached) {
            self.sites[index].durable.apply(writes);
            self.check_deleted(index);
            self.remember_owners(index);
            self.remember_texts(index);
        }
        let node = &mut self.sites[index];
        node.life += 1;
        node.busy_until = self.now;
        node.alarm_clock = None;
        self.forget_wishes(index);
        self.check_kept(index);
        self.cut_all_of(Node::Site(index));
    }

    pub(super) fn tell_site(&mut self, index: usize, mut input: Input) {
        if let Some(sabotage) = self.sabotage {
            self.tamper(sabotage, index, &mut input);
        }
        let node = &mut self.sites[index];
        let now = node.clock.at(self.now);
        let Some(machine) = &mut node.machine else {
            return;
        };
        let outputs = machine.on(now, &mut Chance(&mut self.rng), input);
        self.site_outputs(index, outputs);
    }

    /// Breaks a rule of a controller.
    fn tamper(&self, sabotage: GeoSabotage, index: usize, input: &mut Input) {
        let Some(machine) = &self.sites[index].machine else {
            return;
        };
        match (sabotage, input) {
            (
                GeoSabotage::EpochNotChecked,
                Input::LinkMessage {
                    link,
                    message: fleet::AgentMessage::Hello(hello),
                },
            ) => {
                let subcloud = self.wires.get(&link.0).and_then(|wire| wire.subcloud());
                let known = subcloud.map(|subcloud| self.subclouds[subcloud].id());
                let record = known.and_then(|id| machine.fleet().subcloud(id));
                if let Some(enrolled) = record.and_then(|record| record.enrolled()) {
                    hello.owner = machine.config().id;
                    hello.epoch = enrolled.epoch;
                }
            }
            (
                GeoSabotage::FamilyNotCheckedAgain,
                Input::Peer(PeerInput::Message { message, .. }),
            ) => match message {
                PeerMessage::Hello(card) => {
                    let same = |peer: &&SystemPeer| peer.controller() == Some(card.controller);
                    let known = machine.system_peers().find(same);
                    if let Some(known) = known.and_then(|peer| peer.established()) {
                        card.networks.clone_from(&known.card.networks);
                    }
                }
                PeerMessage::Verdict { card, faults } => {
                    *card = machine.card().digest();
                    faults.clear();
                }
                _ => {}
            },
            _ => {}
        }
    }

    pub(super) fn site_timer(&mut self, index: usize, life: u64, setting: u64) {
        let node = &mut self.sites[index];
        if (life, setting) == (node.life, node.setting) {
            node.alarm_clock = None;
            self.tell_site(index, Input::Timer);
        }
    }

    /// Sets the timer anew, also after the clock changed.
    pub(super) fn wind_site(&mut self, index: usize) {
        let node = &mut self.sites[index];
        let Some(at) = node.alarm_clock else {
            return;
        };
        node.setting += 1;
        let (life, setting) = (node.life, node.setting);
        let due = node.clock.when(at);
        let node = Node::Site(index);
        self.at(
            due,
            Happening::Timer {
                node,
                life,
                setting,
            },
        );
    }

    pub(super) fn site_disk(&mut self, index: usize, life: u64) {
        if life != self.sites[index].life {
            return;
        }
        let Some((ticket, writes)) = self.sites[index].waiting.pop_front() else {
            return;
        };
        self.sites[index].durable.apply(writes);
        self.check_deleted(index);
        self.note(103, || format!("site {index} has {ticket:?} on disk"));
        self.remember_owners(index);
        if self.sabotage != Some(GeoSabotage::NoSync) {
            self.tell_site(index, Input::Committed { ticket });
        }
    }

    fn site_writes(&mut self, index: usize, ticket: Ticket, writes: Vec<Write>) {
        let full = self.rates.full_disk;
        if self.faulty(full) {
            // A commit that fails ends the process.
            self.note(104, || format!("the disk of site {index} is full"));
            self.crash_site(index);
            let wait = self.rng.random_range(100..20_000);
            return self.after(wait, Happening::Up(Node::Site(index)));
        }
        let delay = self.disk_delay();
        let node = &mut self.sites[index];
        node.busy_until = node.busy_until.max(self.now) + delay;
        node.waiting.push_back((ticket, writes));
        let (at, life) = (node.busy_until, node.life);
        let node = Node::Site(index);
        self.at(at, Happening::Disk { node, life });
        if self.sabotage == Some(GeoSabotage::NoSync) {
            self.tell_site(index, Input::Committed { ticket });
        }
    }

    fn site_outputs(&mut self, index: usize, outputs: Vec<Output>) {
        let life = self.sites[index].life;
        for output in outputs {
            // The process may have ended with an output before this one.
            if self.sites[index].life != life {
                return;
            }
            self.site_output(index, output);
        }
        self.check_site(index);
    }

    fn site_output(&mut self, index: usize, output: Output) {
        match output {
            Output::Commit { ticket, writes } => self.site_writes(index, ticket, writes),
            Output::Answer { request, outcome } => self.check_answer(index, request, &outcome),
            Output::Send { link, message } => {
                self.check_welcome(index, link.0, &message);
                self.send(link.0, TO_DIALLER, Payload::Controller(message));
            }
            Output::CloseLink { link, goodbye } => {
                self.note(105, || {
                    let (reason, link) = (goodbye.reason.name(), link.0);
                    format!("site {index} ends link {link}: {reason}")
                });
                let words = fleet::ControllerMessage::Goodbye(goodbye);
                self.send(link.0, TO_DIALLER, Payload::Controller(words));
                self.send(link.0, TO_DIALLER, Payload::End);
            }
            Output::SetTimer { at } => {
                self.sites[index].alarm_clock = Some(at);
                self.wind_site(index);
            }
            Output::Event(event) => {
                self.note(106, || {
                    format!("site {index}: {} {}", event.kind.name(), event.name)
                });
                self.check_event(index, &event);
            }
            Output::Peer(output) => self.site_peer_output(index, output),
            // The certificates of this world outlive it, so nobody asks for another.
            Output::CommandAnswer { .. }
            | Output::SendCertificate { .. }
            | Output::UnknownSubcloud { .. } => {}
        }
    }

    fn site_peer_output(&mut self, index: usize, output: PeerOutput) {
        match output {
            PeerOutput::Dial {
                peer,
                controller,
                authority,
                ..
            } => self.dial(index, peer, controller, authority),
            PeerOutput::Send { link, message } => {
                self.check_said(index, &message);
                let towards = self.towards(link.0, Node::Site(index));
                self.send(link.0, towards, Payload::Peer(message));
            }
            PeerOutput::Close { link, goodbye } => {
                self.note(107, || {
                    format!("site {index} ends peer link {}: {}", link.0, goodbye.name())
                });
                let towards = self.towards(link.0, Node::Site(index));
                if let Some(wire) = self.wires.get_mut(&link.0) {
                    wire.over[1 - towards] = true;
                }
                let words = PeerMessage::Goodbye(goodbye);
                self.send(link.0, towards, Payload::Peer(words));
                self.send(link.0, towards, Payload::End);
            }
            PeerOutput::TrustChanged => {}
            PeerOutput::Alarm(alarm) => {
                self.note(108, || {
                    format!(
                        "site {index}: alarm {} {:?} {}",
                        alarm.id, alarm.severity, alarm.text
                    )
                });
                self.check_alarm(index, &alarm);
            }
        }
    }

    fn towards(&self, wire: u64, from: Node) -> usize {
        let dialled = self.wires.get(&wire).map(|wire| wire.ends[0]);
        if dialled == Some(from) {
            TO_ACCEPTOR
        } else {
            TO_DIALLER
        }
    }
}

/// One step of a machine whose disk takes no time.
fn settle(
    node: &mut SiteNode,
    machine: &mut Controller,
    input: Input,
) -> Result<Answer, Rejection> {
    let mut chance = <SmallRng as rand::SeedableRng>::seed_from_u64(1);
    let mut waiting = VecDeque::from([input]);
    let mut answer = None;
    while let Some(input) = waiting.pop_front() {
        for output in machine.on(node.clock.at(0), &mut Chance(&mut chance), input) {
            match output {
                Output::Commit { ticket, writes } => {
                    node.durable.apply(writes);
                    waiting.push_back(Input::Committed { ticket });
                }
                Output::Answer { outcome, .. } => answer = Some(outcome),
                _ => {}
            }
        }
    }
    answer.expect("every call is answered")
}

/// An operator's call whose answer nobody waits for.
fn call(action: PeerAction) -> Input {
    Input::Peer(PeerInput::Call(PeerCall {
        request: RequestId(0),
        actor: Actor::Operator("uid=0".to_owned()),
        action,
        etag: String::new(),
        key: None,
        validate_only: false,
    }))
}

impl Geo {
    /// An operator's call.
    pub(super) fn ask(&mut self, index: usize, action: PeerAction) {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.note(109, || format!("operator at site {index}: {action:?}"));
        let at = self.sites[index].clock.at(self.now);
        self.asked_peer(index, request, &action, at);
        let call = PeerCall {
            request,
            actor: Actor::Operator("uid=0".to_owned()),
            action,
            etag: String::new(),
            key: None,
            validate_only: false,
        };
        self.tell_site(index, Input::Peer(PeerInput::Call(call)));
    }

    /// An operator's call about a subcloud.
    pub(super) fn change_fleet(&mut self, index: usize, change: FleetChange) {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.note(110, || format!("operator at site {index}: {change:?}"));
        let at = self.sites[index].clock.at(self.now);
        self.oracle.promises.asked_fleet(request, at);
        self.oracle.promises.said(index, &change);
        let call = Operate {
            request,
            actor: Actor::Operator("uid=0".to_owned()),
            change,
            key: None,
            validate_only: false,
        };
        self.tell_site(index, Input::Operate(call));
    }

    /// The controller's own site changes: first it is judged against, then it is durable.
    pub(super) fn change_site(&mut self, index: usize, site: Site) {
        self.oracle.site_has(index, site.link_family());
        let view = ControllerView::of(&site);
        self.tell_site(index, Input::ControllerSiteAccepted(Arc::new(view)));
        self.sites[index].site = site.clone();
        self.tell_site(index, Input::ControllerSiteChanged(Arc::new(site)));
    }
}
