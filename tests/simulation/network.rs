//! The network: connections that keep their order until they stall or break.

use fleet::{AgentInput, AgentMessage, ConnectionId, Input, LinkId};
use rand::Rng;

use crate::world::{Happening, Millis, TO_AGENT, TO_CONTROLLER, ToAgent, Wire, World};

impl World {
    /// How long one message takes.
    pub(crate) fn latency(&mut self) -> Millis {
        let slow = self.rates.slow_network;
        if self.faulty(slow) {
            self.rng.random_range(100..5_000)
        } else {
            self.rng.random_range(1..40)
        }
    }

    /// How long one write takes.
    pub(crate) fn disk_delay(&mut self) -> Millis {
        let slow = self.rates.slow_disk;
        if self.faulty(slow) {
            self.rng.random_range(100..8_000)
        } else {
            self.rng.random_range(0..10)
        }
    }

    /// An agent opens a connection.
    pub(crate) fn connect(&mut self, agent: usize, connection: ConnectionId) {
        let node = &self.agents[agent];
        let (Some(record), Some(credential), Some(source)) =
            (&node.record, &node.credential, node.memory.link_address())
        else {
            return;
        };
        let link = LinkId(self.wires.keys().next_back().map_or(1, |last| last.0 + 1));
        let wire = Wire {
            agent,
            life: node.life,
            controller_life: None,
            connection,
            subcloud: record.subcloud,
            key: credential.key,
            source,
            last_arrival: [self.now; 2],
            stalled: [node.partitioned(self.now); 2],
            dead: false,
        };
        self.wires.insert(link, wire);
        self.send(link, TO_CONTROLLER, |link| Happening::LinkArrives { link });
    }

    /// Puts something on a wire. The same thing may arrive twice, for no transport is trusted to
    /// be perfect.
    pub(crate) fn send(
        &mut self,
        link: LinkId,
        direction: usize,
        arrival: impl Fn(LinkId) -> Happening,
    ) {
        let latency = self.latency();
        let duplicate = self.rates.duplicate;
        let copies = 1 + u64::from(direction == TO_AGENT && self.faulty(duplicate));
        let Some(wire) = self.wires.get_mut(&link) else {
            return;
        };
        if wire.dead || wire.stalled[direction] {
            return;
        }
        let at = wire.last_arrival[direction].max(self.now + latency);
        wire.last_arrival[direction] = at;
        for _ in 0..copies {
            self.at(at, arrival(link));
        }
    }

    pub(crate) fn link_arrives(&mut self, link: LinkId) {
        let up = self.controller.machine.is_some();
        let life = self.controller.life;
        let Some(wire) = self.wires.get_mut(&link) else {
            return;
        };
        if wire.dead || wire.stalled[TO_CONTROLLER] {
            return;
        }
        if !up {
            // A closed port answers; a host that is down does not.
            self.cut(link, false, 0.7);
            return;
        }
        wire.controller_life = Some(life);
        let input = Input::LinkOpened {
            link,
            subcloud: wire.subcloud,
            key: wire.key,
            signed: None,
            source: wire.source,
        };
        self.send(link, TO_AGENT, |link| Happening::ToAgent {
            link,
            message: ToAgent::Up,
        });
        self.tell_controller(input);
    }

    pub(crate) fn reach_controller(&mut self, link: LinkId, message: Option<AgentMessage>) {
        let Some(wire) = self.wires.get_mut(&link) else {
            return;
        };
        if wire.dead
            || wire.stalled[TO_CONTROLLER]
            || wire.controller_life != Some(self.controller.life)
        {
            return;
        }
        let (subcloud, agent) = (wire.subcloud, wire.agent);
        match message {
            Some(message) => {
                self.note(10, || format!("agent {agent} says {}", spoken(&message)));
                self.heard_over(link, subcloud);
                self.check_hello(link, &message);
                self.tell_controller(Input::LinkMessage { link, message });
            }
            None => {
                self.lost_over(link, subcloud);
                self.tell_controller(Input::LinkClosed { link });
            }
        }
    }

    pub(crate) fn reach_agent(&mut self, link: LinkId, message: ToAgent) {
        let Some(wire) = self.wires.get(&link) else {
            return;
        };
        if wire.dead || wire.stalled[TO_AGENT] {
            return;
        }
        let (agent, life, connection) = (wire.agent, wire.life, wire.connection);
        let input = match message {
            ToAgent::Up => AgentInput::Connected(connection),
            ToAgent::Message(message) => {
                self.note(11, || format!("agent {agent} hears {}", heard(&message)));
                AgentInput::Message(connection, message)
            }
            ToAgent::End => AgentInput::Disconnected(connection),
        };
        self.tell_agent(agent, life, input);
    }

    pub(crate) fn agent_loses(&mut self, link: LinkId) {
        if let Some(wire) = self.wires.get(&link) {
            let (agent, life) = (wire.agent, wire.life);
            let input = AgentInput::Disconnected(wire.connection);
            self.tell_agent(agent, life, input);
        }
    }

    pub(crate) fn controller_loses(&mut self, link: LinkId) {
        let life = self.controller.life;
        if let Some(wire) = self.wires.get(&link)
            && wire.controller_life == Some(life)
        {
            let subcloud = wire.subcloud;
            self.lost_over(link, subcloud);
            self.tell_controller(Input::LinkClosed { link });
        }
    }

    /// Breaks a connection for good. Each side notices with a probability, or never.
    pub(crate) fn cut(&mut self, link: LinkId, by_agent: bool, noticed: f64) {
        let Some(wire) = self.wires.get_mut(&link) else {
            return;
        };
        if wire.dead {
            return;
        }
        wire.dead = true;
        let agent = wire.agent;
        self.note(12, || {
            format!("connection {} of agent {agent} breaks", link.0)
        });
        let waits: [Millis; 2] = [
            self.rng.random_range(1..1000),
            self.rng.random_range(1..1000),
        ];
        if !by_agent && self.rng.random_bool(noticed) {
            self.after(waits[0], Happening::AgentLoses { link });
        }
        if self.rng.random_bool(noticed) {
            self.after(waits[1], Happening::ControllerLoses { link });
        }
    }

    /// The wires of an agent that still carry something.
    pub(crate) fn wires_of(&self, agent: usize) -> Vec<LinkId> {
        let alive = |(_, wire): &(&LinkId, &Wire)| wire.agent == agent && !wire.dead;
        self.wires
            .iter()
            .filter(alive)
            .map(|(link, _)| *link)
            .collect()
    }
}

fn spoken(message: &AgentMessage) -> String {
    match message {
        AgentMessage::Hello(hello) => format!("Hello, generation {}", hello.generation.0),
        AgentMessage::Report(report) => format!("Report, generation {}", report.site.generation.0),
        AgentMessage::Heartbeat => "Heartbeat".to_owned(),
        AgentMessage::CommandResult(result) => format!("CommandResult {}", result.id.0),
        AgentMessage::CertificateRequest(_) => "CertificateRequest".to_owned(),
        AgentMessage::NetworksAnswer(answer) => {
            format!("NetworksAnswer, {} faults", answer.faults.len())
        }
    }
}

fn heard(message: &fleet::ControllerMessage) -> String {
    use fleet::ControllerMessage as Message;
    match message {
        Message::Welcome(welcome) => {
            format!("Welcome, report needed: {}", welcome.report_needed)
        }
        Message::ReportAccepted { generation, .. } => {
            format!("ReportAccepted, generation {}", generation.0)
        }
        Message::ReportRefused { faults, .. } => {
            let reasons: Vec<&str> = faults.iter().map(|fault| fault.reason.as_str()).collect();
            format!("ReportRefused, {}", reasons.join(" "))
        }
        Message::Networks { .. } => "Networks".to_owned(),
        Message::Alternates { .. } => "Alternates".to_owned(),
        Message::ReportWanted => "ReportWanted".to_owned(),
        Message::Heartbeat => "Heartbeat".to_owned(),
        Message::Command(command) => format!("Command {}", command.id.0),
        Message::Certificate(_) => "Certificate".to_owned(),
        Message::Goodbye(goodbye) => format!("Goodbye, {}", goodbye.reason.name()),
    }
}
