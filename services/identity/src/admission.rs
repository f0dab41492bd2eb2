//! How many connections a listener holds, from where, and how to close them from outside.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::certificate::PeerCertificate;

/// A view of a listener's connections that outlives the acceptor: counters, and closing.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Shared>);

impl Connections {
    /// None yet, of a listener that may hold `most`, and `most_per_source` from one address.
    #[must_use]
    pub fn new(most: usize, most_per_source: usize) -> Self {
        Self(Arc::new(Shared {
            most,
            most_per_source,
            tallies: Tallies::default(),
            open: Mutex::default(),
        }))
    }

    /// Closes every connection whose certificate `revoked` selects, and tells how many.
    ///
    /// Their reads and writes fail from this moment on. A handshake that finishes at this very
    /// moment is not seen, so record the revocation first and check it on each request.
    /// This is a scan: revocations are rare, and an index would weigh on every connection.
    pub fn close_where(&self, revoked: impl Fn(&PeerCertificate) -> bool) -> usize {
        let open = self.0.open();
        let chosen = open
            .named
            .values()
            .filter(|named| revoked(&named.certificate));
        chosen.map(|named| named.close.cancel()).count()
    }

    /// The counters as they are now. They never go back, except `open`.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let tallies = &self.0.tallies;
        let read = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
        Counts {
            open: self.0.open().total,
            established: read(&tallies.established),
            resumed: read(&tallies.resumed),
            handshake_failed: read(&tallies.handshake_failed),
            handshake_timeout: read(&tallies.handshake_timeout),
            too_many_connections: read(&tallies.too_many_connections),
            too_many_from_source: read(&tallies.too_many_from_source),
            accept_failed: read(&tallies.accept_failed),
        }
    }

    pub(crate) fn tallies(&self) -> &Tallies {
        &self.0.tallies
    }

    /// Takes a place for a connection from `source`, or counts the refusal.
    ///
    /// # Errors
    /// The listener is full, or the source has as many as it may: close the connection.
    pub fn admit(&self, source: IpAddr) -> Result<Slot, Refusal> {
        let mut open = self.0.open();
        if open.total >= self.0.most {
            Tallies::add(&self.0.tallies.too_many_connections);
            return Err(Refusal::TooManyConnections);
        }
        let from_source = open.per_source.get(&source).copied().unwrap_or(0);
        if from_source >= self.0.most_per_source {
            Tallies::add(&self.0.tallies.too_many_from_source);
            return Err(Refusal::TooManyFromSource);
        }
        open.per_source.insert(source, from_source + 1);
        open.total += 1;
        open.next_id += 1;
        Ok(Slot {
            shared: Arc::clone(&self.0),
            source,
            id: open.next_id,
        })
    }
}

/// What a listener has seen since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that hold a place now, those still shaking hands included.
    pub open: usize,
    /// Handshakes that succeeded.
    pub established: u64,
    /// Those of them that resumed a session.
    pub resumed: u64,
    /// Handshakes that failed: no TLS, no trust, no valid certificate, or the connection broke.
    pub handshake_failed: u64,
    /// Handshakes that took too long.
    pub handshake_timeout: u64,
    /// Connections refused because the listener was full.
    pub too_many_connections: u64,
    /// Connections refused because their source had enough of them.
    pub too_many_from_source: u64,
    /// Times that the operating system could not hand over a connection, such as for want of
    /// file descriptors.
    pub accept_failed: u64,
}

/// Those of several listeners together.
impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            open,
            established,
            resumed,
            handshake_failed,
            handshake_timeout,
            too_many_connections,
            too_many_from_source,
            accept_failed,
        } = other;
        self.open += open;
        self.established += established;
        self.resumed += resumed;
        self.handshake_failed += handshake_failed;
        self.handshake_timeout += handshake_timeout;
        self.too_many_connections += too_many_connections;
        self.too_many_from_source += too_many_from_source;
        self.accept_failed += accept_failed;
    }
}

/// The counters behind [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) established: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) handshake_failed: AtomicU64,
    pub(crate) handshake_timeout: AtomicU64,
    too_many_connections: AtomicU64,
    too_many_from_source: AtomicU64,
    pub(crate) accept_failed: AtomicU64,
}

impl Tallies {
    pub(crate) fn add(tally: &AtomicU64) {
        tally.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a connection got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// All places are taken.
    #[error("the listener has as many connections as it may")]
    TooManyConnections,
    /// Those for one address are.
    #[error("its source address has as many connections as it may")]
    TooManyFromSource,
}

/// The place of one connection; dropping it frees the place.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    source: IpAddr,
    id: u64,
}

impl Slot {
    /// Lets [`Connections::close_where`] find this connection.
    pub(crate) fn name(&self, certificate: Arc<PeerCertificate>, close: CancellationToken) {
        let named = Named { certificate, close };
        self.shared.open().named.insert(self.id, named);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.shared.open();
        open.named.remove(&self.id);
        open.total -= 1;
        // Sources without connections leave the map, or it would grow with every address seen.
        if let Entry::Occupied(mut entry) = open.per_source.entry(self.source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[derive(Debug)]
struct Shared {
    most: usize,
    most_per_source: usize,
    tallies: Tallies,
    open: Mutex<Open>,
}

impl Shared {
    /// Nothing panics while the lock is held, and counts stay right even if something did.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    per_source: HashMap<IpAddr, usize>,
    named: HashMap<u64, Named>,
    next_id: u64,
}

#[derive(Debug)]
struct Named {
    certificate: Arc<PeerCertificate>,
    close: CancellationToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_total_and_per_source_and_freed_on_drop() {
        let connections = Connections::new(3, 2);
        let a: IpAddr = "192.0.2.1".parse().expect("an address");
        let b: IpAddr = "2001:db8::1".parse().expect("an address");

        let first = connections.admit(a).expect("room");
        let _second = connections.admit(a).expect("room");
        assert_eq!(
            connections.admit(a).expect_err("the source is full"),
            Refusal::TooManyFromSource
        );
        let third = connections.admit(b).expect("another source has room");
        assert_eq!(
            connections.admit(b).expect_err("the listener is full"),
            Refusal::TooManyConnections
        );
        drop(first);
        let _fourth = connections.admit(a).expect("a place was freed");

        drop(third);
        let counts = connections.counts();
        assert_eq!(counts.open, 2);
        assert_eq!(counts.too_many_from_source, 1);
        assert_eq!(counts.too_many_connections, 1);
        assert_eq!(connections.0.open().per_source.len(), 1);
    }

    #[test]
    fn a_full_source_leaves_no_trace_in_the_map() {
        let connections = Connections::new(1, 0);
        let source: IpAddr = "192.0.2.1".parse().expect("an address");
        connections.admit(source).expect_err("none is allowed");
        assert!(connections.0.open().per_source.is_empty());
    }
}
