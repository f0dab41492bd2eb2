//! Who is there: availability by heartbeats, and the timers that it needs.

use std::collections::BTreeSet;
use std::time::Duration;

use site::Timestamp;

use crate::entropy::after;
use crate::{
    CommandId, Entropy, Event, EventKind, Goodbye, GoodbyeReason, LinkId, PeerGroupId, PeerId,
    SubcloudId, Ticket,
};

use super::{Controller, Output};

/// After this many heartbeats without one a subcloud counts as offline.
pub const MISSED_HEARTBEATS: u32 = 3;

/// How often a driver says, at most, that a message comes in pieces: half of the shortest heartbeat
/// interval, so that the sender of a long message is not taken for dead.
pub const HEARD_EVERY: Duration = Duration::from_millis(250);

/// How long agents have after a restart of the controller before they can count as offline: the
/// longest back-off of an agent (30 s), one attempt to connect (10 s), and room for a whole fleet
/// that comes back at once.
pub const RESTART_GRACE: Duration = Duration::from_secs(90);

/// Whether a subcloud's agent is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Availability {
    /// Not known yet: it has never connected, or this process is too young to say.
    #[default]
    Unknown,
    /// It has said Hello and is heard from.
    Online,
    /// It has not been heard from for too long.
    Offline,
}

/// What is known of a subcloud's link. It is true only of the running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence {
    /// Whether it is there.
    pub availability: Availability,
    /// When its last message came; `None` if none has come in this process.
    pub last_seen: Option<Timestamp>,
    /// Its one live link.
    pub link: Option<LinkId>,
    /// When it came online last, if it is.
    pub(super) online_since: Timestamp,
    /// The newest write of its record.
    pub(super) written: Option<Ticket>,
    /// Since when it has been quiet: its last message, or the end of its link.
    quiet_since: Timestamp,
    /// The wake-up that is set for it: one is enough, however many messages come.
    watched: Option<Timestamp>,
}

/// Something to look at when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wake {
    /// Has this link said Hello?
    Link(LinkId),
    /// Has this subcloud been heard from?
    Subcloud(SubcloudId),
    /// Has this command been answered?
    Command(CommandId),
    /// Is this peer there?
    Peer(PeerId),
    /// What changed of this group is to be offered.
    Offer(PeerGroupId),
    /// A piece of this group is to be asked for again.
    Pull(PeerGroupId, PeerId),
    /// Members of this group are on their way.
    Move(PeerGroupId),
    /// Has this subcloud been back for long enough?
    Alarms(SubcloudId),
    /// Who has not said what became of the controller's networks?
    Networks,
}

/// The moments to wake up at.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    due: BTreeSet<(Timestamp, Wake)>,
    armed: Option<Timestamp>,
}

impl Wakeups {
    pub(super) fn at(&mut self, at: Timestamp, wake: Wake) {
        self.due.insert((at, wake));
    }

    /// Asks for a timer when the one that is set comes too late.
    pub(super) fn arm(&mut self) -> Option<Output> {
        let (at, _) = *self.due.first()?;
        if self.armed.is_some_and(|armed| armed <= at) {
            return None;
        }
        self.armed = Some(at);
        Some(Output::SetTimer { at })
    }

    pub(super) fn cancel(&mut self, at: Timestamp, wake: Wake) {
        self.due.remove(&(at, wake));
    }

    fn fired(&mut self) {
        self.armed = None;
    }

    fn next_due(&mut self, now: Timestamp) -> Option<Wake> {
        let (at, _) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first().map(|(_, wake)| wake)
    }
}

impl Presence {
    /// What was known once of a link, without the link.
    pub fn seen(availability: Availability, last_seen: Option<Timestamp>) -> Self {
        Self {
            availability,
            last_seen,
            ..Self::default()
        }
    }
}

impl Controller {
    /// Looks at everything whose time has come.
    pub(super) fn timer(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        out: &mut Vec<Output>,
    ) {
        self.wakeups.fired();
        while let Some(wake) = self.wakeups.next_due(now) {
            match wake {
                Wake::Link(link) => self.hello_due(now, link, out),
                Wake::Subcloud(id) => self.heartbeat_due(now, id, out),
                Wake::Command(id) => self.command_due(now, id, out),
                Wake::Alarms(id) => self.mark(id),
                Wake::Networks => self.networks_due(now),
                wake => self.peer_wake(now, entropy, wake, out),
            }
        }
    }

    /// The subcloud was heard from over its live link.
    pub(super) fn heard(&mut self, now: Timestamp, id: SubcloudId) {
        let presence = self.presence.entry(id).or_default();
        presence.last_seen = Some(now);
        presence.quiet_since = now;
    }

    /// The subcloud said Hello.
    pub(super) fn online(&mut self, now: Timestamp, id: SubcloudId, out: &mut Vec<Output>) {
        self.heard(now, id);
        self.watch(now, id);
        self.set_availability(now, id, Availability::Online, out);
    }

    /// The subcloud's link ended. Only the grace that follows makes it offline.
    pub(super) fn unlinked(&mut self, now: Timestamp, id: SubcloudId) {
        let presence = self.presence.entry(id).or_default();
        presence.link = None;
        presence.quiet_since = presence.quiet_since.max(now);
    }

    /// Gives a subcloud that has no link yet some time to come.
    pub(super) fn await_first_link(&mut self, now: Timestamp, id: SubcloudId, grace: Duration) {
        let ahead = grace.saturating_sub(self.grace());
        self.presence.entry(id).or_default().quiet_since = after(now, ahead);
        self.watch(now, id);
    }

    /// How long a subcloud may be quiet.
    pub(super) fn grace(&self) -> Duration {
        self.config.heartbeat_interval * MISSED_HEARTBEATS
    }

    /// Sees to it that somebody looks when the grace is over. A wake-up that comes before that
    /// moves itself; one that is set for later, while a first link was awaited, is brought forward.
    fn watch(&mut self, now: Timestamp, id: SubcloudId) {
        let grace = self.grace();
        let presence = self.presence.entry(id).or_default();
        let due = after(presence.quiet_since.max(now), grace);
        match presence.watched {
            Some(set) if set <= due => return,
            Some(set) => self.wakeups.cancel(set, Wake::Subcloud(id)),
            None => {}
        }
        presence.watched = Some(due);
        self.wakeups.at(due, Wake::Subcloud(id));
    }

    /// The subcloud is another controller's business from now on: it is neither there nor away.
    pub(super) fn unwatch(&mut self, id: SubcloudId) {
        let Some(presence) = self.presence.get_mut(&id) else {
            return;
        };
        presence.availability = Availability::Unknown;
        if let Some(set) = presence.watched.take() {
            self.wakeups.cancel(set, Wake::Subcloud(id));
        }
    }

    fn heartbeat_due(&mut self, now: Timestamp, id: SubcloudId, out: &mut Vec<Output>) {
        let grace = self.grace();
        let Some(presence) = self.presence.get_mut(&id) else {
            return;
        };
        let due = after(presence.quiet_since, grace);
        if due > now {
            presence.watched = Some(due);
            self.wakeups.at(due, Wake::Subcloud(id));
            return;
        }
        presence.watched = None;
        if let Some(link) = presence.link {
            // A stream that says nothing is dead, whatever its transport believes.
            self.close(
                now,
                link,
                Goodbye::because(GoodbyeReason::HeartbeatsMissed),
                out,
            );
        }
        self.set_availability(now, id, Availability::Offline, out);
    }

    fn set_availability(
        &mut self,
        now: Timestamp,
        id: SubcloudId,
        availability: Availability,
        out: &mut Vec<Output>,
    ) {
        let presence = self.presence.entry(id).or_default();
        if presence.availability == availability {
            return;
        }
        presence.availability = availability;
        if availability == Availability::Online {
            presence.online_since = now;
        }
        self.mark(id);
        let kind = match availability {
            Availability::Online => EventKind::Online,
            Availability::Offline => EventKind::Offline,
            Availability::Unknown => return,
        };
        out.push(Output::Event(Event {
            position: self.last_event,
            at: now,
            subcloud: Some(id),
            name: self.fleet.name_of(id).to_owned(),
            kind,
        }));
    }
}
