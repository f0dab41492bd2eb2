//! Which processes of an agent have been seen, to tell a copy of an identity from its holder.
//!
//! A process *proves* that it is alive by answering a Welcome: it was alive after that Welcome was
//! sent. Hello alone proves nothing, for it may have waited in the network while its process died.
//! An agent's state directory admits one process at a time, so the lives of two processes of one
//! holder never overlap. If X was known when Y proved to be alive, and Y was known when X proved to
//! be alive, then both lives overlap, and there are two holders. No reconnection, restart, delay or
//! address translation can look like that, since none makes a dead process answer.

use std::collections::BTreeMap;

use crate::{InstanceId, SubcloudId};

/// How many processes of a subcloud are remembered, those that were heard of last: two show a
/// copy, and the others are room for more copies that take turns.
const MAX_INSTANCES: usize = 4;

/// What is known of every subcloud's processes since this controller started.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// Counts every Hello; the order of things is by this number.
    last: u64,
    of: BTreeMap<SubcloudId, Vec<Sighting>>,
}

/// One process.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    instance: InstanceId,
    /// The number of its first Hello: since then it is known.
    known: u64,
    /// The number of the newest Hello whose Welcome it answered; 0 for none.
    proved: u64,
    /// The highest number of its connections.
    connection: u64,
}

/// What a Hello says about processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The number of the Hello.
    pub(super) number: u64,
    /// Another process is known too, or this connection is not the process's newest: an answer
    /// would tell more.
    pub(super) doubtful: bool,
    /// The process was known by a connection at least as new. Who answers on this one all the
    /// same is a copy of the process itself, such as a virtual machine that was duplicated.
    pub(super) behind: bool,
}

impl Sightings {
    /// A process said Hello.
    pub(super) fn hello(&mut self, id: SubcloudId, instance: InstanceId, connection: u64) -> Seen {
        self.last += 1;
        let number = self.last;
        let seen = self.of.entry(id).or_insert_with(|| Vec::with_capacity(1));
        let mut own = Sighting {
            instance,
            known: number,
            proved: 0,
            connection: 0,
        };
        if let Some(place) = seen.iter().position(|known| known.instance == instance) {
            own = seen.remove(place);
        } else if seen.len() >= MAX_INSTANCES {
            seen.remove(0);
        }
        let behind = connection != 0 && connection <= own.connection;
        own.connection = own.connection.max(connection);
        seen.push(own);
        Seen {
            number,
            doubtful: behind || seen.len() > 1,
            behind,
        }
    }

    /// A process answered the Welcome to its Hello of this number. Whether there are two holders.
    pub(super) fn answered(&mut self, id: SubcloudId, instance: InstanceId, number: u64) -> bool {
        let Some(seen) = self.of.get_mut(&id) else {
            return false;
        };
        let Some(own) = seen.iter_mut().find(|known| known.instance == instance) else {
            return false;
        };
        own.proved = own.proved.max(number);
        let own = *own;
        seen.iter().any(|other| {
            other.instance != instance && other.proved >= own.known && own.proved >= other.known
        })
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self, id: SubcloudId) {
        self.of.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays Hellos (`a`, `b`, …) and answers to the latest of them (`A`, `B`, …).
    fn cloned(story: &str) -> bool {
        let mut sightings = Sightings::default();
        let id = SubcloudId(uuid::Uuid::nil());
        let mut numbers = BTreeMap::new();
        story.bytes().any(|step| {
            let instance = InstanceId(step.to_ascii_lowercase().into());
            if step.is_ascii_lowercase() {
                let seen = sightings.hello(id, instance, 0);
                numbers.insert(instance, seen.number);
                return false;
            }
            sightings.answered(id, instance, numbers[&instance])
        })
    }

    #[test]
    fn only_lives_that_overlap_show_two_holders() {
        // One process reconnects; several follow each other; a Hello of a dead one comes late.
        for honest in [
            "aAaAaA",
            "aAbBcCdDeEfF",
            "aAbBab",
            "aAbBaabBbB",
            "abBaB",
            "bBaB",
        ] {
            assert!(!cloned(honest), "{honest}");
        }
        for copied in ["aAbBaA", "abBaA", "aAbBcCaA", "bBaAbB", "aAbbBaaA"] {
            assert!(cloned(copied), "{copied}");
        }
    }

    #[test]
    fn a_connection_that_is_not_the_newest_is_behind() {
        let mut sightings = Sightings::default();
        let id = SubcloudId(uuid::Uuid::nil());
        let mut behind = |connection| {
            let seen = sightings.hello(id, InstanceId(1), connection);
            seen.behind
        };
        assert_eq!(
            [1, 2, 2, 1, 3, 0].map(&mut behind),
            [false, false, true, true, false, false]
        );
    }
}
