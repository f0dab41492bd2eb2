//! The controller's process: the real machine, its disk, and its crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use fleet::admission::ControllerView;
use fleet::{
    Availability, Controller, ControllerConfig, ControllerId, Endpoint, EventKind, FleetAlarm,
    HEARTBEAT_INTERVAL, Input, Management, Output, Position, Records, RolloutInput, RolloutWrite,
    SourceCheck, Subcloud, SubcloudId, Ticket, Write,
};
use ipnet::IpNet;
use rand::Rng;
use site::{Site, SiteParts, Timestamp};
use uuid::Uuid;

use crate::calls::Answer;
use crate::clock::Clock;
use crate::faults::Fault;
use crate::rollouts::Kept;
use crate::sabotage::Sabotage;
use crate::sites::{self, Layout};
use crate::world::{Chance, Happening, Millis, TO_AGENT, ToAgent, World};

/// The controller's host.
pub(crate) struct ControllerNode {
    pub(crate) machine: Option<Controller>,
    pub(crate) life: u64,
    /// When the present life began, by its own clock.
    pub(crate) started: Timestamp,
    pub(crate) site: Site,
    pub(crate) disk: Disk,
    /// Every oam subnet that it ever moved to.
    pub(crate) oam: BTreeSet<IpNet>,
    setting: u64,
    clock: Clock,
    /// The moment that the present process waits for.
    alarm_clock: Option<Timestamp>,
}

/// A disk: what is durable, and what is on its way there.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) durable: Durable,
    waiting: VecDeque<Written>,
    busy_until: Millis,
}

/// What was handed to the disk, by the fleet's machine or by that of rollouts beside it.
pub(crate) enum Written {
    Fleet(Ticket, Vec<Write>),
    Rollouts(Ticket, Vec<RolloutWrite>),
}

/// The records.
#[derive(Default)]
pub(crate) struct Durable {
    pub(crate) subclouds: BTreeMap<SubcloudId, Subcloud>,
    pub(crate) sites: BTreeMap<SubcloudId, Arc<SiteParts>>,
    answers: BTreeMap<String, fleet::AnsweredCall>,
    pub(crate) alarms: BTreeMap<Uuid, FleetAlarm>,
    events: Position,
    audit: Position,
    pub(crate) rollouts: Kept,
}

impl ControllerNode {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            machine: None,
            life: 0,
            started: Timestamp(0),
            site: sites::controller(layout).clone(),
            disk: Disk::default(),
            oam: BTreeSet::new(),
            setting: 0,
            clock: Clock::new(0),
            alarm_clock: None,
        }
    }

    pub(crate) fn id(&self) -> ControllerId {
        ControllerId(self.site.identity().uuid)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let address = self
            .site
            .link_address()
            .expect("a controller has a link address");
        Endpoint(SocketAddr::new(address, 8441))
    }

    /// When its clock will show a moment.
    pub(crate) fn clock_shows(&self, at: Timestamp) -> Millis {
        self.clock.when(at)
    }

    fn config(&self) -> ControllerConfig {
        ControllerConfig {
            id: self.id(),
            controllers: vec![self.endpoint()],
            source_check: SourceCheck::Strict,
            heartbeat_interval: HEARTBEAT_INTERVAL,
            fleet_limit: 100,
            event_log_limit: fleet::LOG_LIMIT,
            audit_log_limit: fleet::LOG_LIMIT,
            authority: fleet::Authority {
                key: fleet::Fingerprint([200; 32]),
                certificate: vec![200].into(),
            },
            failover: fleet::FAILOVER,
        }
    }
}

/// Who waited for a write.
enum Landed {
    Fleet(Ticket),
    Rollouts(Ticket),
}

impl Durable {
    fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Subcloud(subcloud) => {
                    self.subclouds
                        .insert(subcloud.id, Subcloud::clone(&subcloud));
                }
                Write::Site { subcloud, site } => {
                    self.sites.insert(subcloud, site);
                }
                // No peers live in this world; `geo` has those that have some.
                Write::Peer(_)
                | Write::ForgetPeer(_)
                | Write::PeerGroup(_)
                | Write::ForgetPeerGroup(_)
                | Write::Association(_)
                | Write::ForgetAssociation(..) => {}
                Write::ForgetSubcloud(subcloud) => {
                    self.subclouds.remove(&subcloud.id);
                }
                Write::ForgetSite(id) => {
                    self.sites.remove(&id);
                }
                Write::AnsweredCall(answered) => {
                    self.answers.insert(answered.key.id.clone(), *answered);
                }
                Write::ForgetAnswer(id) => {
                    self.answers.remove(&id);
                }
                // No operator of this world has groups.
                Write::Group(_) | Write::ForgetGroup(_) => {}
                Write::Alarm(alarm) => {
                    self.alarms.insert(alarm.uuid(), FleetAlarm::clone(&alarm));
                }
                Write::ForgetAlarm(uuid) => {
                    self.alarms.remove(&uuid);
                }
                Write::Event(event) => self.events = event.position,
                Write::Operator(_) => {}
                Write::Audit(entry) => {
                    self.audit = entry.position;
                    self.rollouts.audits(&entry);
                }
                Write::ForgetEvent(_) | Write::ForgetAudit(_) => {}
            }
        }
    }
}

impl World {
    /// Starts the controller from what is durable.
    pub(crate) fn start_controller(&mut self) {
        if self.controller.machine.is_some() {
            return;
        }
        self.controller.life += 1;
        self.controller.started = self.controller_clock();
        let now = self.controller_clock();
        self.manage_some();
        let durable = &self.controller.disk.durable;
        let records = Records {
            operators: Vec::new(),
            subclouds: durable.subclouds.values().cloned().map(Arc::new).collect(),
            groups: Vec::new(),
            answers: durable.answers.values().cloned().collect(),
            alarms: durable.alarms.values().cloned().collect(),
            last_event: durable.events,
            last_audit: durable.audit,
            ..Records::default()
        };
        self.note(1, || "controller starts".to_owned());
        let node = &mut self.controller;
        let (machine, outputs) = Controller::recover(now, node.config(), &node.site, records);
        node.machine = Some(machine);
        self.oracle.controller_started();
        self.controller_outputs(outputs);
        self.check_records();
        self.start_rollouts();
    }

    /// Ends the controller's process as a power cut does: a part of what waited for the disk may
    /// have reached it all the same, in order.
    pub(crate) fn crash_controller(&mut self) {
        if self.controller.machine.take().is_none() {
            return;
        }
        self.note(2, || "controller CRASHES".to_owned());
        self.controller.life += 1;
        self.controller.alarm_clock = None;
        let waiting = std::mem::take(&mut self.controller.disk.waiting);
        let reached = self.rng.random_range(0..=waiting.len());
        for written in waiting.into_iter().take(reached) {
            self.land(written);
        }
        self.controller.disk.busy_until = self.now;
        self.rollouts_crashed();
        self.commands_broken();
        self.edits_broken();
        let links: Vec<_> = self.wires.keys().copied().collect();
        for link in links {
            self.cut(link, false, 0.7);
        }
    }

    pub(crate) fn tell_controller(&mut self, input: Input) {
        let input = match self.sabotage {
            Some(sabotage) => sabotage.input(self.controller.machine.as_ref(), input),
            None => input,
        };
        let now = self.controller_clock();
        let Some(machine) = &mut self.controller.machine else {
            return;
        };
        let outputs = machine.on(now, &mut Chance(&mut self.rng), input);
        self.controller_outputs(outputs);
    }

    pub(crate) fn controller_timer(&mut self, life: u64, setting: u64) {
        if (life, setting) == (self.controller.life, self.controller.setting) {
            self.controller.alarm_clock = None;
            self.tell_controller(Input::Timer);
        }
    }

    /// The disk is done with the oldest write.
    pub(crate) fn controller_disk(&mut self, life: u64) {
        if life != self.controller.life {
            return;
        }
        let Some(written) = self.controller.disk.waiting.pop_front() else {
            return;
        };
        match self.land(written) {
            Landed::Fleet(ticket) => {
                self.note(3, || format!("controller's disk has {ticket:?}"));
                self.check_records();
                if self.sabotage != Some(Sabotage::AnswerBeforeDurable) {
                    self.tell_controller(Input::Committed { ticket });
                }
            }
            Landed::Rollouts(ticket) => {
                self.note(8, || format!("rollouts' disk has {ticket:?}"));
                self.tell_rollouts(RolloutInput::Committed { ticket });
            }
        }
    }

    fn land(&mut self, written: Written) -> Landed {
        match written {
            Written::Fleet(ticket, writes) => {
                self.controller.disk.durable.apply(writes);
                Landed::Fleet(ticket)
            }
            Written::Rollouts(ticket, writes) => {
                self.rollouts_land(writes);
                Landed::Rollouts(ticket)
            }
        }
    }

    /// Changes the controller's own site, as far as that is allowed: an operator makes oam smaller,
    /// moves it to where a subcloud has its link, or moves it back.
    pub(crate) fn change_controller(&mut self) {
        let site = &self.controller.site;
        let agent = self.rng.random_range(0..self.agents.len());
        let other = &self.agents[agent].original;
        let changed = match self.rng.random_range(0..3) {
            0 => Some(sites::with_shorter_oam(site)),
            1 => sites::with_oam_on(site, other),
            _ => Some(sites::restored(site, sites::controller(self.layout))),
        };
        if let Some(changed) = changed {
            self.move_controller(changed);
        }
    }

    /// The site is as it was at first, as soon as the disk has a moment.
    pub(crate) fn restore_controller(&mut self) {
        let own = sites::controller(self.layout);
        if self.controller.site.to_parts().pools == own.to_parts().pools {
            return;
        }
        if self.controller.machine.is_none() || !self.controller.disk.waiting.is_empty() {
            let again = Happening::Fault(Fault::ControllerSiteRestored);
            return self.after(50, again);
        }
        self.move_controller(sites::restored(&self.controller.site, own));
    }

    fn move_controller(&mut self, changed: Site) {
        let Some(machine) = &self.controller.machine else {
            return;
        };
        if !self.controller.disk.waiting.is_empty() {
            // What it was judged against must be on disk before it, and this disk has no queue
            // for sites.
            return;
        }
        let view = ControllerView::of(&changed);
        let refused = machine.would_break(&view).is_err();
        self.note(4, || match refused {
            true => "controller's oam network may not change".to_owned(),
            false => "controller's oam network changes".to_owned(),
        });
        self.check_own_site(&view, refused);
        if refused {
            return;
        }
        self.controller.site = changed.clone();
        self.controller.oam.extend(view.oam_subnets.iter().copied());
        self.tell_controller(Input::ControllerSiteAccepted(Arc::new(view)));
        self.tell_controller(Input::ControllerSiteChanged(Arc::new(changed)));
        self.check_records();
    }

    /// Operators manage about half of the subclouds that have enrolled.
    fn manage_some(&mut self) {
        for record in self.controller.disk.durable.subclouds.values_mut() {
            let chosen = record.name.bytes().last().is_some_and(|last| last % 2 == 0);
            if chosen && record.enrolled().is_some() {
                record.management = Management::Managed;
            }
        }
    }

    fn controller_outputs(&mut self, outputs: Vec<Output>) {
        let life = self.controller.life;
        for output in outputs {
            // The process may have ended with an output before this one.
            if self.controller.life != life {
                return;
            }
            let output = match self.sabotage {
                Some(sabotage) => sabotage.output(output),
                None => output,
            };
            self.controller_output(output);
        }
        self.check_links();
    }

    fn controller_output(&mut self, output: Output) {
        match output {
            Output::Commit { ticket, writes } => self.controller_writes(ticket, writes),
            Output::Answer { request, outcome } => {
                if self.edit_answered(request, &outcome) {
                    return;
                }
                self.check_answer(request, &outcome);
                let answer = Answer::of(outcome);
                let wait = self.latency();
                self.after(
                    wait,
                    Happening::AnswerArrives {
                        request,
                        answer: Box::new(answer),
                    },
                );
            }
            Output::CommandAnswer { request, outcome } => {
                if !self.rollout_command_answered(request, &outcome) {
                    self.command_answered(request, &outcome);
                }
            }
            Output::Send { link, message } => {
                self.stir_over(link, &message);
                self.check_message(link, &message);
                self.send(link, TO_AGENT, |link| Happening::ToAgent {
                    link,
                    message: ToAgent::Message(message.clone()),
                });
            }
            Output::SendCertificate {
                link,
                subcloud,
                request,
            } => {
                self.check_certificate(subcloud, request.key);
                let granted = fleet::GrantedCertificate {
                    certificate: Vec::new(),
                    validity: self.validity,
                };
                let message = fleet::ControllerMessage::Certificate(granted);
                self.send(link, TO_AGENT, |link| Happening::ToAgent {
                    link,
                    message: ToAgent::Message(message.clone()),
                });
            }
            Output::CloseLink { link, goodbye } => {
                let words = fleet::ControllerMessage::Goodbye(goodbye);
                for message in [ToAgent::Message(words), ToAgent::End] {
                    self.send(link, TO_AGENT, |link| Happening::ToAgent {
                        link,
                        message: message.clone(),
                    });
                }
            }
            Output::SetTimer { at } => self.set_controller_timer(at),
            Output::Peer(_) | Output::UnknownSubcloud { .. } => {}
            Output::Event(event) => {
                if let Some(subcloud) = event.subcloud {
                    self.stir(subcloud);
                }
                if event.kind == EventKind::Offline {
                    self.check_offline(event.subcloud);
                }
                if event.kind == EventKind::Online {
                    self.came_online(event.subcloud, event.at);
                }
                if matches!(event.kind, EventKind::IdentityCloned { .. }) {
                    self.check_cloned(event.subcloud);
                }
                if let EventKind::AlarmRaised { alarm, entity, .. } = &event.kind {
                    self.check_alarm(*alarm, entity, event.subcloud, event.at);
                }
                self.note(5, || format!("event {} {}", event.kind.name(), event.name));
            }
        }
    }

    fn controller_writes(&mut self, ticket: Ticket, writes: Vec<Write>) {
        let enqueued = self.controller_enqueues(Written::Fleet(ticket, writes));
        if enqueued && self.sabotage == Some(Sabotage::AnswerBeforeDurable) {
            self.tell_controller(Input::Committed { ticket });
        }
    }

    /// Hands a write to the disk. Whether the process lives on.
    pub(crate) fn controller_enqueues(&mut self, written: Written) -> bool {
        let full = self.rates.full_disk;
        if self.faulty(full) {
            // A commit that fails ends the process.
            self.note(7, || "the controller's disk is full".to_owned());
            self.crash_controller();
            let wait = self.rng.random_range(100..20_000);
            self.after(wait, Happening::ControllerUp);
            return false;
        }
        let delay = self.disk_delay();
        self.note(6, || match &written {
            Written::Fleet(ticket, _) => format!("controller writes {ticket:?}"),
            Written::Rollouts(ticket, _) => format!("rollouts write {ticket:?}"),
        });
        let disk = &mut self.controller.disk;
        disk.busy_until = disk.busy_until.max(self.now) + delay;
        disk.waiting.push_back(written);
        let (at, life) = (disk.busy_until, self.controller.life);
        self.at(at, Happening::ControllerDisk { life });
        true
    }

    pub(crate) fn controller_clock(&self) -> Timestamp {
        self.controller.clock.at(self.now)
    }

    /// The controller's clock runs fast, or jumps.
    pub(crate) fn change_controller_clock(&mut self, ahead: Millis, rate: u64) {
        self.controller.clock.change(self.now, ahead, rate);
        if let Some(at) = self.controller.alarm_clock {
            self.set_controller_timer(at);
        }
        self.rearm_rollouts();
    }

    fn set_controller_timer(&mut self, at: Timestamp) {
        let node = &mut self.controller;
        node.setting += 1;
        node.alarm_clock = Some(at);
        let (life, setting) = (node.life, node.setting);
        let due = node.clock.when(at);
        self.at(due, Happening::ControllerTimer { life, setting });
    }

    /// Whether the controller sees a subcloud as online.
    pub(crate) fn sees_online(&self, id: SubcloudId) -> bool {
        let machine = self.controller.machine.as_ref();
        machine.is_some_and(|machine| machine.presence(id).availability == Availability::Online)
    }
}
