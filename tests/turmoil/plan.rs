//! What is to go wrong in a world, and what operators are to do meanwhile: drawn from its seed.

use std::time::Duration;

use rand::Rng as _;

use crate::faults::Happening;
use crate::world::{Node, World};

/// How far wall clocks are set while links shall stay. An agent leaves its link for more than 60 s.
const LONGEST_STEP: Duration = Duration::from_secs(55);

impl World {
    /// Draws the blows and the operators' calls of this world. All faults end in time.
    pub(crate) fn plan(&mut self) {
        let (begin, end) = (self.now(), self.faults_until);
        let length = end - begin;
        // One of the controllers is lost for so long that its subclouds go to the other.
        if self.rng.random_bool(0.6) {
            let node = Node::Controller(self.rng.random_range(0..2));
            let lost = self.failover * 2;
            let length = lost.mul_f64(self.rng.random_range(0.8..1.5));
            let crash = self.rng.random_bool(0.5);
            let at = self.moment(begin, end.saturating_sub(length).max(begin));
            self.at(
                at,
                if crash {
                    Happening::Crash { node, length }
                } else {
                    Happening::Lose { node, length }
                },
            );
        }
        for _ in 0..self.rng.random_range(2..10) {
            let at = self.moment(begin, end);
            let longest = (end - at).min(length / 2);
            let blow = self.draw_blow(longest);
            self.at(at, blow);
        }
        for text in 0..self.rng.random_range(1..10) {
            let at = self.moment(begin, end);
            let operation = self.draw_operation(text);
            self.at(at, operation);
        }
        for agent in 0..self.agents.len() {
            if self.late(agent) {
                let at = self.moment(begin, begin + length / 2);
                self.at(at, Happening::Enroll { agent });
            }
        }
    }

    fn moment(&mut self, from: Duration, to: Duration) -> Duration {
        if to <= from {
            return from;
        }
        from + (to - from).mul_f64(self.rng.random_range(0.0..1.0))
    }

    /// Controllers matter more than their number says.
    fn any_node(&mut self) -> Node {
        if self.rng.random_bool(0.6) {
            Node::Controller(self.rng.random_range(0..2))
        } else {
            Node::Agent(self.rng.random_range(0..self.agents.len()))
        }
    }

    /// Two different ones, at least one of which is a controller: others never speak.
    fn pair(&mut self) -> (Node, Node) {
        let one = self.rng.random_range(0..2);
        let other = match self.any_node() {
            Node::Controller(_) => Node::Controller(1 - one),
            agent => agent,
        };
        let one = Node::Controller(one);
        if self.rng.random_bool(0.5) {
            (one, other)
        } else {
            (other, one)
        }
    }

    fn draw_blow(&mut self, longest: Duration) -> Happening {
        let length = longest.mul_f64(self.rng.random_range(0.02..1.0));
        let (one, other) = self.pair();
        match self.rng.random_range(0..22) {
            0..4 => Happening::Cut {
                one,
                other,
                both: self.rng.random_bool(0.7),
                length,
            },
            4..6 => Happening::Cut {
                one: Node::Controller(0),
                other: Node::Controller(1),
                both: true,
                length,
            },
            6..9 => Happening::Lose {
                node: self.any_node(),
                length,
            },
            9..12 => Happening::Hold {
                from: one,
                to: other,
                length,
            },
            12..14 => Happening::Slow {
                one,
                other,
                latency: Duration::from_millis(self.rng.random_range(100..3_000)),
                length,
            },
            14..16 => Happening::Clocks {
                ahead: LONGEST_STEP.mul_f64(self.rng.random_range(0.0..1.0)),
            },
            _ => Happening::Crash {
                node: self.any_node(),
                length,
            },
        }
    }

    fn draw_operation(&mut self, text: u8) -> Happening {
        let agent = self.rng.random_range(0..self.agents.len());
        match self.rng.random_range(0..10) {
            0..4 => Happening::Migrate {
                controller: self.rng.random_range(0..2),
            },
            4..6 => Happening::Describe {
                agent,
                text: self.rng.random(),
            },
            _ => Happening::Change { agent, text },
        }
    }
}
