//! Whom to turn to: the owner, and only when that is lost, another controller.
//!
//! While the owner can be reached the agent never moves: another controller is tried only when
//! the owner has not been heard for the failover time *and* an attempt to reach it has failed
//! since, so a clock that jumps costs one attempt and moves nobody. Between the others the owner
//! is tried again and again.

use std::time::Duration;

use site::Timestamp;

use crate::entropy::{after, since, up_to};
use crate::{Alternates, ControllerId, Endpoint, Entropy, Fingerprint, KnownController};

use super::AgentRecord;

/// How often an agent follows the word of its owner to another controller before it returns.
const REDIRECT_ATTEMPTS: u32 = 3;

/// Agents that lost their owner at one moment come to the next one spread over this time.
const FAILOVER_SPREAD: Duration = Duration::from_secs(1);

/// A controller to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) controller: ControllerId,
    /// The authority to pin; `None` stands for that of the agent's own certificate.
    pub(super) authority: Option<Fingerprint>,
    pub(super) role: Role,
}

/// Why a controller is turned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is the owner.
    Owner,
    /// The owner said so.
    Redirect,
    /// The owner is lost.
    Alternate,
}

/// The search for a controller.
#[derive(Debug)]
pub(super) struct Hunt {
    /// When the owner was heard last; the start of the process, before it was.
    heard: Timestamp,
    /// Attempts at the owner that failed since.
    failures: u32,
    /// Counts attempts at the owner's endpoints.
    owner_turn: usize,
    /// Counts attempts at the others.
    alternate_turn: usize,
    /// The next attempt is at another controller, if the owner is lost by then.
    alternate_next: bool,
    redirect: Option<(KnownController, u32)>,
}

impl Hunt {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            heard: now,
            failures: 0,
            owner_turn: 0,
            alternate_turn: 0,
            alternate_next: false,
            redirect: None,
        }
    }

    /// The owner was heard.
    pub(super) fn heard(&mut self, now: Timestamp) {
        self.heard = now;
        self.failures = 0;
        self.alternate_turn = 0;
        self.alternate_next = false;
        self.redirect = None;
    }

    /// The next controller to turn to; `None` when no owner is known.
    pub(super) fn target(&self, now: Timestamp, record: &AgentRecord) -> Option<Target> {
        if let Some((known, _)) = self.redirect {
            return Some(Target::of(known, Role::Redirect));
        }
        let others = &record.alternates.controllers;
        if self.alternate_next && !others.is_empty() && self.lost(now, &record.alternates) {
            let known = others[self.alternate_turn % others.len()];
            return Some(Target::of(known, Role::Alternate));
        }
        let own = &record.controllers;
        Some(Target {
            endpoint: *own.get(self.owner_turn % own.len().max(1))?,
            controller: record.owner,
            authority: record.authority,
            role: Role::Owner,
        })
    }

    /// For how long the owner has been lost, when it is.
    pub(super) fn owner_lost(&self, now: Timestamp, alternates: &Alternates) -> Option<Duration> {
        self.lost(now, alternates).then(|| since(now, self.heard))
    }

    fn lost(&self, now: Timestamp, alternates: &Alternates) -> bool {
        self.failures > 0 && since(now, self.heard) >= alternates.failover
    }

    /// When an attempt at the owner has to make way for one at another controller.
    pub(super) fn makes_way_at(&self, role: Role, alternates: &Alternates) -> Option<Timestamp> {
        let due = role == Role::Owner
            && self.failures > 0
            && self.alternate_turn == 0
            && !alternates.controllers.is_empty();
        due.then(|| after(self.heard, alternates.failover))
    }

    /// An attempt failed, or a link ended: who is next?
    pub(super) fn failed(&mut self, role: Role, alternates: &Alternates) {
        match role {
            Role::Owner => {
                self.failures = self.failures.saturating_add(1);
                self.owner_turn = self.owner_turn.wrapping_add(1);
                self.alternate_next = true;
            }
            Role::Redirect => {
                self.redirect = self
                    .redirect
                    .and_then(|(known, left)| Some((known, left.checked_sub(1)?)))
                    .filter(|(_, left)| *left > 0);
            }
            Role::Alternate => {
                self.alternate_turn = self.alternate_turn.wrapping_add(1);
                let count = alternates.controllers.len().max(1);
                self.alternate_next = !self.alternate_turn.is_multiple_of(count);
            }
        }
    }

    /// The next attempt, `usual` from now, comes sooner when the failover time is over sooner.
    pub(super) fn next_attempt(
        &self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        usual: Duration,
        alternates: &Alternates,
    ) -> Timestamp {
        let usual = after(now, usual);
        if self.redirect.is_some() {
            return usual.min(after(now, up_to(entropy, FAILOVER_SPREAD)));
        }
        match self.makes_way_at(Role::Owner, alternates) {
            Some(due) if self.alternate_next => {
                usual.min(after(due.max(now), up_to(entropy, FAILOVER_SPREAD)))
            }
            _ => usual,
        }
    }

    /// The owner sends the agent elsewhere.
    pub(super) fn redirected(&mut self, owner: ControllerId, owners: &[KnownController]) {
        let elsewhere = owners.iter().find(|known| known.controller != owner);
        self.redirect = elsewhere.map(|known| (*known, REDIRECT_ATTEMPTS));
    }

    /// Another controller says who the owner is. Only whom the owner itself has named is
    /// believed to be one.
    pub(super) fn hinted(&mut self, owners: &[KnownController], alternates: &Alternates) {
        let place = owners.iter().find_map(|known| {
            let same = |other: &KnownController| other.controller == known.controller;
            alternates.controllers.iter().position(same)
        });
        if let Some(place) = place {
            self.alternate_turn = place;
            self.alternate_next = true;
        }
    }
}

impl Target {
    fn of(known: KnownController, role: Role) -> Self {
        Self {
            endpoint: known.endpoint,
            controller: known.controller,
            authority: Some(known.authority),
            role,
        }
    }
}
