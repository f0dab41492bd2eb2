//! The network between sites and subclouds: streams that keep their order until they stall or
//! break, and directions that carry nothing for a while.

use fleet::{
    AgentInput, AgentMessage, ConnectionId, ControllerId, ControllerMessage, Fingerprint, Input,
    LinkId, PeerId, PeerInput, PeerLinkId, PeerMessage,
};
use rand::Rng;

use crate::world::Millis;

use super::{Geo, Happening, Node};

/// The end that dialled.
pub(super) const TO_DIALLER: usize = 0;
/// The end that was dialled.
pub(super) const TO_ACCEPTOR: usize = 1;

/// What reaches an end of a wire.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    /// A connection, at the one that was dialled.
    Open,
    /// It is up, at the one that dialled.
    Up,
    Agent(AgentMessage),
    Controller(ControllerMessage),
    Peer(PeerMessage),
    /// The stream ended, or broke.
    End,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) ends: [Node; 2],
    /// The lives of the processes at its ends; the acceptor's once it has accepted.
    lives: [u64; 2],
    /// An agent's name for it.
    pub(super) connection: Option<ConnectionId>,
    /// A site's name for whom it dials.
    peer: Option<PeerId>,
    last_arrival: [Millis; 2],
    /// What is lost in a direction is never sent again.
    stalled: [bool; 2],
    dead: bool,
    /// The site that dialled another one knows that it is open; a transport says so once.
    up: bool,
    /// An end has closed it, or was told that the other one has.
    pub(super) over: [bool; 2],
    /// The families of the last cards that really reached each end.
    pub(super) told: [Option<site::Family>; 2],
}

impl Wire {
    /// Whether it was accepted by a life of a site's process.
    pub(super) fn carries_life_of(&self, site: Node, life: u64) -> bool {
        self.ends[1] == site && self.lives[1] == life
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// The subcloud whose link it is.
    pub(super) fn subcloud(&self) -> Option<usize> {
        match self.ends[0] {
            Node::Subcloud(index) => Some(index),
            Node::Site(_) => None,
        }
    }
}

impl Geo {
    /// An agent dials a controller.
    pub(super) fn connect(
        &mut self,
        index: usize,
        connection: ConnectionId,
        controller: fleet::Endpoint,
        identity: ControllerId,
        authority: Option<Fingerprint>,
    ) {
        let place = |(site, node): &(usize, &super::SiteNode)| node.endpoint(*site) == controller;
        let found = self.sites.iter().enumerate().find(place);
        let home = self.sites[self.subclouds[index].home].key();
        let expected = authority.unwrap_or(home);
        let from = Node::Subcloud(index);
        // A certificate of another controller or authority is not taken.
        let right = found.filter(|(_, node)| node.id() == identity && node.key() == expected);
        let Some((site, _)) = right else {
            return self.fail(format!(
                "subcloud {index} turned to a controller that is none"
            ));
        };
        let life = self.subclouds[index].life;
        let wire = self.wire(from, Node::Site(site), life);
        if let Some(known) = self.wires.get_mut(&wire) {
            known.connection = Some(connection);
        }
        self.subclouds[index].wire = Some(wire);
        self.send(wire, TO_ACCEPTOR, Payload::Open);
    }

    /// A controller dials a peer.
    pub(super) fn dial(
        &mut self,
        index: usize,
        peer: PeerId,
        controller: ControllerId,
        authority: Fingerprint,
    ) {
        let right = |node: &super::SiteNode| node.id() == controller && node.key() == authority;
        let Some(other) = self.sites.iter().position(right) else {
            return self.fail(format!("site {index} dialled a peer that is none"));
        };
        let life = self.sites[index].life;
        let wire = self.wire(Node::Site(index), Node::Site(other), life);
        if let Some(known) = self.wires.get_mut(&wire) {
            known.peer = Some(peer);
        }
        self.send(wire, TO_ACCEPTOR, Payload::Open);
    }

    fn wire(&mut self, from: Node, to: Node, life: u64) -> u64 {
        self.last_wire += 1;
        let wire = Wire {
            ends: [from, to],
            lives: [life, 0],
            connection: None,
            peer: None,
            last_arrival: [self.now; 2],
            stalled: [false; 2],
            dead: false,
            over: [false; 2],
            up: false,
            told: [None; 2],
        };
        self.wires.insert(self.last_wire, wire);
        self.last_wire
    }

    /// Whether anything goes from one host to another at present.
    fn carries(&self, from: Node, to: Node) -> bool {
        let until = self.cuts.get(&(from, to));
        until.is_none_or(|until| *until <= self.now)
    }

    fn latency(&mut self) -> Millis {
        let slow = self.rates.slow_network;
        if self.faulty(slow) {
            self.rng.random_range(100..5_000)
        } else {
            self.rng.random_range(1..40)
        }
    }

    /// Puts something on a wire, towards one of its ends.
    pub(super) fn send(&mut self, wire: u64, end: usize, payload: Payload) {
        let latency = self.latency();
        let twice = self.rates.duplicate;
        let copies = 1 + u64::from(!matches!(payload, Payload::Open) && self.faulty(twice));
        let Some(known) = self.wires.get(&wire) else {
            return;
        };
        if known.dead || known.stalled[end] {
            return;
        }
        let lost = !self.carries(known.ends[1 - end], known.ends[end]);
        let Some(known) = self.wires.get_mut(&wire) else {
            return;
        };
        if lost {
            known.stalled[end] = true;
            return;
        }
        let at = known.last_arrival[end].max(self.now + latency);
        known.last_arrival[end] = at;
        for _ in 0..copies {
            let payload = Box::new(payload.clone());
            self.at(at, Happening::Arrives { wire, end, payload });
        }
    }

    pub(super) fn arrive(&mut self, wire: u64, end: usize, payload: Payload) {
        let Some(known) = self.wires.get(&wire) else {
            return;
        };
        let (ends, life) = (known.ends, known.lives[end]);
        if known.dead && !matches!(payload, Payload::End) {
            return;
        }
        if known.stalled[end] || !self.carries(ends[1 - end], ends[end]) {
            if let Some(known) = self.wires.get_mut(&wire) {
                known.stalled[end] = true;
            }
            return;
        }
        if matches!(payload, Payload::Open) {
            return self.accept(wire, ends);
        }
        let present = match ends[end] {
            Node::Site(index) => self.sites[index].life,
            Node::Subcloud(index) => self.subclouds[index].life,
        };
        if life != present {
            return;
        }
        match ends[end] {
            Node::Subcloud(index) => self.reach_agent(index, wire, payload),
            Node::Site(index) if known.peer.is_some() || matches!(ends[0], Node::Site(_)) => {
                self.reach_peer(index, wire, end, payload);
            }
            Node::Site(index) => self.reach_controller(index, wire, payload),
        }
    }

    fn accept(&mut self, wire: u64, ends: [Node; 2]) {
        let Node::Site(index) = ends[1] else {
            return;
        };
        if self.sites[index].machine.is_none() {
            // A closed port answers; a host that is down does not.
            return self.cut(wire, [0.7, 0.0]);
        }
        let life = self.sites[index].life;
        if let Some(known) = self.wires.get_mut(&wire) {
            known.lives[1] = life;
        }
        self.send(wire, TO_DIALLER, Payload::Up);
        let input = match ends[0] {
            Node::Subcloud(subcloud) => {
                let node = &self.subclouds[subcloud];
                Input::LinkOpened {
                    link: LinkId(wire),
                    subcloud: node.id(),
                    key: node.key,
                    signed: Some(fleet::Signed {
                        by: self.sites[node.home].key(),
                        at: site::Timestamp(self.now),
                    }),
                    source: node.site.link_address().expect("a site has an address"),
                }
            }
            Node::Site(other) => self.opened(wire, other),
        };
        self.tell_site(index, input);
    }

    fn opened(&self, wire: u64, other: usize) -> Input {
        let node = &self.sites[other];
        Input::Peer(PeerInput::Opened {
            link: PeerLinkId(wire),
            controller: node.id(),
            authority: node.key(),
            source: node.endpoint(other).0.ip(),
        })
    }

    fn reach_agent(&mut self, index: usize, wire: u64, payload: Payload) {
        let Some(connection) = self.wires.get(&wire).and_then(|wire| wire.connection) else {
            return;
        };
        let input = match payload {
            Payload::Up => AgentInput::Connected(connection),
            Payload::Controller(message) => {
                self.note(140, || {
                    format!("subcloud {index} hears {}", heard(&message))
                });
                AgentInput::Message(connection, message)
            }
            Payload::End => AgentInput::Disconnected(connection),
            Payload::Open | Payload::Agent(_) | Payload::Peer(_) => return,
        };
        self.tell_subcloud(index, input);
    }

    fn reach_controller(&mut self, index: usize, wire: u64, payload: Payload) {
        let link = LinkId(wire);
        let input = match payload {
            Payload::Agent(message) => {
                self.heard_subcloud(index, wire);
                if let AgentMessage::Hello(hello) = &message {
                    let subcloud = self.wires.get(&wire).and_then(Wire::subcloud);
                    if let (Some(subcloud), Some(_)) = (subcloud, hello.owner_lost) {
                        let id = self.subclouds[subcloud].id();
                        self.oracle.heard_of_loss(index, id);
                    }
                    self.note(141, || {
                        let (owner, epoch) = (hello.owner, hello.epoch.0);
                        format!(
                            "site {index} hears Hello {wire} {owner} {epoch} {:?}",
                            hello.owner_lost
                        )
                    });
                }
                Input::LinkMessage { link, message }
            }
            Payload::End => Input::LinkClosed { link },
            Payload::Open | Payload::Up | Payload::Controller(_) | Payload::Peer(_) => return,
        };
        self.tell_site(index, input);
    }

    fn reach_peer(&mut self, index: usize, wire: u64, end: usize, payload: Payload) {
        let link = PeerLinkId(wire);
        let Some(known) = self.wires.get_mut(&wire) else {
            return;
        };
        let other = match known.ends[1 - end] {
            Node::Site(other) => other,
            Node::Subcloud(_) => return,
        };
        let dialled = known.peer.filter(|_| end == TO_DIALLER);
        let input = match payload {
            Payload::Up if std::mem::replace(&mut known.up, true) => return,
            Payload::Up => self.opened(wire, other),
            Payload::Peer(message) => {
                if let PeerMessage::Hello(card) = &message {
                    known.told[end] = card.link_family();
                }
                let news = !known.over[end];
                known.over[end] |= matches!(message, PeerMessage::Goodbye(_));
                if news {
                    let at = self.sites[index].clock.at(self.now);
                    self.oracle.heard_peer(index, other, at);
                }
                self.note(142, || {
                    format!("site {index} hears from {other}: {}", said(&message))
                });
                Input::Peer(PeerInput::Message { link, message })
            }
            Payload::End if known.lives[1] == 0 => match dialled {
                Some(peer) => Input::Peer(PeerInput::DialFailed { peer }),
                None => return,
            },
            Payload::End => Input::Peer(PeerInput::Closed { link }),
            Payload::Open | Payload::Agent(_) | Payload::Controller(_) => return,
        };
        self.tell_site(index, input);
    }

    /// Breaks a stream for good. Each end notices with a probability, or never.
    pub(super) fn cut(&mut self, wire: u64, noticed: [f64; 2]) {
        let Some(known) = self.wires.get_mut(&wire) else {
            return;
        };
        if known.dead {
            return;
        }
        known.dead = true;
        for (end, probability) in noticed.into_iter().enumerate() {
            let wait = self.rng.random_range(1..1000);
            if self.rng.random_bool(probability) {
                let payload = Box::new(Payload::End);
                self.after(wait, Happening::Arrives { wire, end, payload });
            }
        }
    }

    /// Breaks every stream of a host whose process ended.
    pub(super) fn cut_all_of(&mut self, node: Node) {
        for wire in self.live_wires(|wire| wire.ends.contains(&node)) {
            self.cut(wire, [0.7, 0.7]);
        }
    }

    pub(super) fn live_wires(&self, wanted: impl Fn(&Wire) -> bool) -> Vec<u64> {
        let alive = self
            .wires
            .iter()
            .filter(|(_, wire)| !wire.dead && wanted(wire));
        alive.map(|(id, _)| *id).collect()
    }

    /// Wires that carry nothing any more are forgotten, or long worlds become slow.
    pub(super) fn forget_dead_wires(&mut self) {
        self.wires.retain(|_, wire| !wire.dead);
    }

    pub(super) fn stall(&mut self, wire: u64, end: usize) {
        if let Some(known) = self.wires.get_mut(&wire) {
            known.stalled[end] = true;
        }
    }
}

fn heard(message: &ControllerMessage) -> String {
    match message {
        ControllerMessage::Welcome(welcome) => {
            format!(
                "Welcome of {} in term {}",
                welcome.controller, welcome.epoch.0
            )
        }
        ControllerMessage::Goodbye(goodbye) => {
            format!(
                "Goodbye {} {:?}",
                goodbye.reason.name(),
                goodbye.owners.len()
            )
        }
        ControllerMessage::Alternates { alternates, .. } => {
            format!("{} alternates", alternates.controllers.len())
        }
        ControllerMessage::ReportAccepted { .. } => "ReportAccepted".to_owned(),
        ControllerMessage::ReportRefused { faults, .. } => format!("ReportRefused {faults:?}"),
        ControllerMessage::Networks { .. } => "Networks".to_owned(),
        ControllerMessage::Heartbeat => "Heartbeat".to_owned(),
        ControllerMessage::Command(_) => "Command".to_owned(),
        ControllerMessage::ReportWanted => "ReportWanted".to_owned(),
        ControllerMessage::Certificate(_) => "Certificate".to_owned(),
    }
}

fn said(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Hello(_) => "Hello".to_owned(),
        PeerMessage::Verdict { faults, .. } => format!("Verdict, {} faults", faults.len()),
        PeerMessage::Heartbeat | PeerMessage::HeartbeatAnswer => "Heartbeat".to_owned(),
        PeerMessage::Offers {
            complete, offers, ..
        } => {
            format!("{} offers, complete: {complete}", offers.len())
        }
        PeerMessage::Pull(pull) => format!("Pull {:?} changes: {}", pull.digest, pull.changes),
        PeerMessage::Batch(batch) => format!("Batch of {} last: {}", batch.items.len(), batch.last),
        PeerMessage::Synced { digest, faults, .. } => format!("Synced {digest:?} {faults:?}"),
        PeerMessage::Handover { members, .. } => format!("Handover of {}", members.len()),
        PeerMessage::Goodbye(goodbye) => format!("Goodbye {}", goodbye.name()),
    }
}
