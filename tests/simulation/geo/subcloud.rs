//! The agents' hosts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fleet::{
    Agent, AgentInput, AgentOutput, AgentRecord, Alternates, CommandOutcome, ConnectionId,
    Credential, Epoch, Fingerprint, InstanceId, NetworksDigest, SubcloudId, Ticket,
};
use rand::Rng;
use rand::rngs::SmallRng;
use site::{Site, Timestamp};
use uuid::Uuid;

use crate::clock::Clock;
use crate::sites::{self, Layout};
use crate::world::Millis;

use super::site::SiteNode;
use super::wires::{Payload, TO_ACCEPTOR};
use super::{Chance, Geo, GeoSabotage, Happening, Node};

/// How long a certificate lives: longer than any world.
const LASTING: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A subcloud's host.
pub(super) struct SubcloudNode {
    pub(super) index: usize,
    /// The site where it enrolled.
    pub(super) home: usize,
    pub(super) site: Site,
    pub(super) key: Fingerprint,
    pub(super) machine: Option<Agent>,
    pub(super) life: u64,
    pub(super) clock: Clock,
    /// What is on disk.
    pub(super) record: Option<AgentRecord>,
    pub(super) alarm_clock: Option<Timestamp>,
    /// The wire of the newest connection.
    pub(super) wire: Option<u64>,
    /// When it heard its owner last over a live link, by its own clock.
    pub(super) heard_owner: Timestamp,
    setting: u64,
    waiting: VecDeque<Landing>,
    busy_until: Millis,
}

/// A write on its way.
enum Landing {
    Record(Ticket, AgentRecord),
    Networks(NetworksDigest),
}

impl SubcloudNode {
    /// Some to four subclouds, most of them of the first site and all of its family.
    pub(super) fn draw(rng: &mut SmallRng, sites: &[SiteNode]) -> Vec<Self> {
        let count = rng.random_range(1..=4);
        (0..count)
            .map(|index| {
                let layout = sites::same_family(sites[0].layout, rng.random_bool(0.5));
                let other = rng.random_range(0..sites.len());
                let fits = sites[other].family() == sites[0].family();
                let home = if fits && rng.random_bool(0.3) {
                    other
                } else {
                    0
                };
                let ahead = rng.random_range(0..5_000);
                Self::new(index, home, layout, ahead)
            })
            .collect()
    }

    fn new(index: usize, home: usize, layout: Layout, ahead: Millis) -> Self {
        let mark = u8::try_from(100 + index).unwrap_or(u8::MAX);
        Self {
            index,
            home,
            site: sites::subcloud(index, index, layout),
            key: Fingerprint([mark; 32]),
            machine: None,
            life: 0,
            clock: Clock::new(ahead),
            record: None,
            alarm_clock: None,
            wire: None,
            heard_owner: Timestamp(0),
            setting: 0,
            waiting: VecDeque::new(),
            busy_until: 0,
        }
    }

    pub(super) fn id(&self) -> SubcloudId {
        SubcloudId(Uuid::from_u128(0x5000 + self.index as u128))
    }

    pub(super) fn name(&self) -> String {
        self.site.identity().name.clone()
    }
}

impl Geo {
    pub(super) fn start_subcloud(&mut self, index: usize) {
        let home = self.subclouds[index].home;
        let (owner, endpoint) = (self.sites[home].id(), self.sites[home].endpoint(home));
        let node = &mut self.subclouds[index];
        if node.machine.is_some() {
            return;
        }
        let subcloud = node.id();
        let record = node.record.get_or_insert_with(|| AgentRecord {
            subcloud,
            owner,
            epoch: Epoch(1),
            controllers: vec![endpoint],
            authority: None,
            alternates: Alternates::default(),
            networks: None,
        });
        node.life += 1;
        let now = node.clock.at(self.now);
        let credential = Credential {
            key: node.key,
            renewals: 0,
            received_at: now,
            validity: LASTING,
        };
        let instance = InstanceId(self.rng.random());
        let site = Arc::new(node.site.clone());
        let (machine, outputs) = Agent::start(now, record.clone(), credential, instance, site);
        node.machine = Some(machine);
        node.heard_owner = now;
        self.note(120, || format!("subcloud {index} starts"));
        self.subcloud_outputs(index, outputs);
    }

    pub(super) fn crash_subcloud(&mut self, index: usize) {
        if self.subclouds[index].machine.take().is_none() {
            return;
        }
        self.note(121, || format!("subcloud {index} CRASHES"));
        let waiting = std::mem::take(&mut self.subclouds[index].waiting);
        let reached = self.rng.random_range(0..=waiting.len());
        for landing in waiting.into_iter().take(reached) {
            self.land(index, landing);
        }
        let node = &mut self.subclouds[index];
        node.life += 1;
        node.busy_until = self.now;
        node.alarm_clock = None;
        self.cut_all_of(Node::Subcloud(index));
    }

    pub(super) fn tell_subcloud(&mut self, index: usize, mut input: AgentInput) {
        let node = &mut self.subclouds[index];
        let now = node.clock.at(self.now);
        let Some(machine) = &mut node.machine else {
            return;
        };
        if self.sabotage == Some(GeoSabotage::EpochNotChecked)
            && let AgentInput::Message(_, fleet::ControllerMessage::Welcome(welcome)) = &mut input
            && welcome.controller != machine.record().owner
        {
            let next = Epoch(machine.record().epoch.0 + 1);
            welcome.epoch = welcome.epoch.max(next);
        }
        let newest = node.wire.and_then(|wire| self.wires.get(&wire));
        let newest = newest.and_then(|wire| wire.connection);
        let heard = machine.is_online()
            && matches!(input, AgentInput::Message(from, _) if Some(from) == newest);
        let outputs = machine.on(now, &mut Chance(&mut self.rng), input);
        if heard || machine.is_online() && outputs.iter().any(comes_online) {
            node.heard_owner = now;
        }
        self.subcloud_outputs(index, outputs);
    }

    pub(super) fn subcloud_timer(&mut self, index: usize, life: u64, setting: u64) {
        let node = &mut self.subclouds[index];
        if (life, setting) == (node.life, node.setting) {
            node.alarm_clock = None;
            self.tell_subcloud(index, AgentInput::Timer);
        }
    }

    pub(super) fn wind_subcloud(&mut self, index: usize) {
        let node = &mut self.subclouds[index];
        let Some(at) = node.alarm_clock else {
            return;
        };
        node.setting += 1;
        let (life, setting) = (node.life, node.setting);
        let due = node.clock.when(at);
        let node = Node::Subcloud(index);
        self.at(
            due,
            Happening::Timer {
                node,
                life,
                setting,
            },
        );
    }

    pub(super) fn subcloud_disk(&mut self, index: usize, life: u64) {
        if life != self.subclouds[index].life {
            return;
        }
        let Some(landing) = self.subclouds[index].waiting.pop_front() else {
            return;
        };
        let input = self.land(index, landing);
        if self.sabotage != Some(GeoSabotage::NoSync) {
            self.tell_subcloud(index, input);
        }
    }

    fn land(&mut self, index: usize, landing: Landing) -> AgentInput {
        match landing {
            Landing::Record(ticket, record) => {
                self.check_owner(index, &record);
                self.subclouds[index].record = Some(record);
                AgentInput::Persisted(ticket)
            }
            Landing::Networks(networks) => has_networks(networks),
        }
    }

    fn subcloud_writes(&mut self, index: usize, landing: Landing) {
        let full = self.rates.full_disk;
        if self.faulty(full) {
            // A record that cannot be written ends the process.
            self.note(123, || format!("the disk of subcloud {index} is full"));
            self.crash_subcloud(index);
            let wait = self.rng.random_range(100..20_000);
            return self.after(wait, Happening::Up(Node::Subcloud(index)));
        }
        let delay = self.disk_delay();
        let early = match &landing {
            Landing::Record(ticket, _) => AgentInput::Persisted(*ticket),
            Landing::Networks(networks) => has_networks(*networks),
        };
        let node = &mut self.subclouds[index];
        node.busy_until = node.busy_until.max(self.now) + delay;
        node.waiting.push_back(landing);
        let (at, life) = (node.busy_until, node.life);
        let node = Node::Subcloud(index);
        self.at(at, Happening::Disk { node, life });
        if self.sabotage == Some(GeoSabotage::NoSync) {
            self.tell_subcloud(index, early);
        }
    }

    fn subcloud_outputs(&mut self, index: usize, outputs: Vec<AgentOutput>) {
        let life = self.subclouds[index].life;
        for output in outputs {
            // The process may have ended with an output before this one.
            if self.subclouds[index].life != life {
                return;
            }
            match output {
                AgentOutput::Connect {
                    connection,
                    controller,
                    identity,
                    authority,
                    ..
                } => self.connect(index, connection, controller, identity, authority),
                AgentOutput::Send {
                    connection,
                    message,
                } => {
                    if let fleet::AgentMessage::Hello(hello) = &message {
                        self.check_lost(index, hello);
                    }
                    if let Some(wire) = self.wire_of(index, connection) {
                        self.send(wire, TO_ACCEPTOR, Payload::Agent(message));
                    }
                }
                AgentOutput::Close(connection) => {
                    if let Some(wire) = self.wire_of(index, connection) {
                        self.send(wire, TO_ACCEPTOR, Payload::End);
                    }
                }
                AgentOutput::Persist { ticket, record } => {
                    self.subcloud_writes(index, Landing::Record(ticket, record));
                }
                AgentOutput::ApplyNetworks(networks) => {
                    self.check_obeyed(index, "networks", None);
                    self.subcloud_writes(index, Landing::Networks(networks.digest()));
                }
                AgentOutput::Execute {
                    connection,
                    command,
                } => {
                    self.check_obeyed(index, "a command", Some(command.epoch));
                    self.obeyed += 1;
                    let input = AgentInput::CommandDone {
                        connection,
                        id: command.id,
                        outcome: CommandOutcome::Done(Vec::new()),
                    };
                    self.tell_subcloud(index, input);
                }
                AgentOutput::SetTimer { at } => {
                    self.subclouds[index].alarm_clock = Some(at);
                    self.wind_subcloud(index);
                }
                AgentOutput::Status(status) => {
                    self.note(122, || format!("subcloud {index} is {status:?}"));
                }
                // The certificates of this world outlive it.
                AgentOutput::MakeKey
                | AgentOutput::KeepCertificate { .. }
                | AgentOutput::StaleCommand { .. }
                | AgentOutput::ReportRefused { .. } => {}
            }
        }
    }

    /// The wire of a connection of the present life.
    fn wire_of(&self, index: usize, connection: ConnectionId) -> Option<u64> {
        let newest = self.subclouds[index].wire?;
        let wire = self.wires.get(&newest)?;
        (wire.connection == Some(connection)).then_some(newest)
    }
}

/// Whether a link that had not been welcomed is from now on.
fn comes_online(output: &AgentOutput) -> bool {
    matches!(
        output,
        AgentOutput::Status(fleet::LinkStatus::Online { .. })
    )
}

/// The sites of this world do not change; what they are told they have.
fn has_networks(networks: NetworksDigest) -> AgentInput {
    let made = None;
    AgentInput::NetworksApplied { networks, made }
}
