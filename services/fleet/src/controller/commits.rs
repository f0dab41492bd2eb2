//! What waits for the disk.

use std::collections::VecDeque;

use crate::{LinkId, Ticket, Welcome};

use super::{MAX_COMMIT_BYTES, MAX_COMMITS, Output, Write};

/// Something that may only come out once writes are durable.
#[derive(Debug)]
pub(super) enum Deferred {
    /// An answer, an acknowledgement, an event.
    Output(Output),
    /// Welcome, and after it whatever the agent lacks by then.
    Greet {
        /// The link.
        link: LinkId,
        /// The welcome, which may acknowledge a report by not asking for it.
        welcome: Welcome,
    },
}

/// The writes that were asked for and are not known to be durable, oldest first, each with what
/// it holds back.
#[derive(Debug, Default)]
pub(super) struct Commits {
    last: u64,
    waiting: VecDeque<(Ticket, Vec<Deferred>)>,
    /// How much each of them weighs, and all together.
    weights: VecDeque<usize>,
    weight: usize,
}

impl Commits {
    /// How many writes wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether so much waits that nothing else should be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_COMMITS || self.weight >= MAX_COMMIT_BYTES
    }

    /// Asks for a write that holds back `deferred`.
    pub(super) fn submit(
        &mut self,
        writes: Vec<Write>,
        deferred: Vec<Deferred>,
    ) -> (Ticket, Output) {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.waiting.push_back((ticket, deferred));
        let weight = writes.iter().map(Write::weight).sum();
        self.weights.push_back(weight);
        self.weight += weight;
        (ticket, Output::Commit { ticket, writes })
    }

    /// Holds `deferred` back until everything asked for so far is durable; gives it back when
    /// that is so already.
    pub(super) fn after_all(&mut self, deferred: Deferred) -> Option<Deferred> {
        match self.waiting.back_mut() {
            Some((_, held)) => {
                held.push(deferred);
                None
            }
            None => Some(deferred),
        }
    }

    /// Holds `deferred` back until one write is durable; gives it back when it is already.
    pub(super) fn after(&mut self, ticket: Ticket, deferred: Deferred) -> Option<Deferred> {
        match self
            .waiting
            .binary_search_by_key(&ticket, |(waiting, _)| *waiting)
        {
            Ok(index) => {
                self.waiting[index].1.push(deferred);
                None
            }
            Err(_) => Some(deferred),
        }
    }

    /// A write is durable, and with it all before it. What they held back, in order.
    pub(super) fn committed(&mut self, ticket: Ticket) -> Vec<Deferred> {
        let mut free = Vec::new();
        while self
            .waiting
            .front()
            .is_some_and(|(oldest, _)| *oldest <= ticket)
        {
            self.weight -= self.weights.pop_front().unwrap_or_default();
            free.extend(
                self.waiting
                    .pop_front()
                    .into_iter()
                    .flat_map(|(_, held)| held),
            );
        }
        free
    }
}
