//! Wall clocks that are set by so much that agents must begin anew.
//!
//! All hosts share a process here and so one clock that leaps with the first agent. That a
//! controller's clock never leaps is why controllers are down meanwhile.

use std::time::Duration;

use rand::Rng as _;

use crate::system;
use crate::world::{Node, World};

/// How far clocks are set from how they began. Certificates are valid 300 s before they are made, and
/// may have been made under clocks that were 55 s ahead.
const STEP: Duration = Duration::from_secs(240);

/// Within this time an agent looks at the clock, and goes by it.
const NOTICED: Duration = Duration::from_secs(40);

/// How long agents may take to come back. A moment of before the step is farther away.
const BACK: Duration = Duration::from_secs(120);

impl World {
    /// Both controllers go; while agents wait for them, all wall clocks are set forward, or back;
    /// then the controllers are there again. Agents must be, too, though the moments that they
    /// waited for have gone by or are far away.
    pub(crate) fn set_clocks(&mut self) {
        for index in 0..self.controllers.len() {
            self.crash(Node::Controller(index));
        }
        let ahead = self.rng.random_bool(0.5);
        let waiting = self.now() + Duration::from_millis(self.rng.random_range(0..20_000));
        self.until("waiting", Duration::MAX, move |world| {
            world.now() >= waiting
        });
        let epoch = if ahead {
            system::EPOCH + STEP
        } else {
            system::EPOCH - STEP
        };
        self.note(if ahead {
            "clocks are set forward"
        } else {
            "clocks are set back"
        });
        system::set_epoch(epoch);
        let limit = self.now() + NOTICED;
        self.until("an agent that goes by the clock", limit, move |world| {
            let right = epoch + world.now();
            let shown = Duration::from_millis(daemon::now().0);
            right.abs_diff(shown) < Duration::from_secs(1)
        });
        for index in 0..self.controllers.len() {
            self.up(Node::Controller(index));
        }
        self.set_cuts();
        self.come_right(BACK);
    }
}
