//! What a controller keeps of its peers, of the groups that it shares with them, and of the
//! ownership of each subcloud.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use site::Timestamp;
use uuid::Uuid;

use crate::group::etag;
use crate::{
    ControllerId, Epoch, Fault, Footprint, PeerCard, SpentToken, SubcloudId, SyncDigest, Token,
};

/// The id of a system peer at this controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub Uuid);

/// The id of a subcloud peer group; the same at every site that has the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerGroupId(pub Uuid);

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for PeerGroupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The default heartbeat interval between peers.
pub const PEER_HEARTBEAT: Duration = Duration::from_secs(5);

/// The bounds of the heartbeat interval between peers: below, two sites only talk about talking;
/// above, a lost site is noticed after half an hour.
pub const PEER_HEARTBEAT_BOUNDS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(600);

/// After so many missed heartbeats a peer counts as lost, by default.
pub const PEER_FAILURE_THRESHOLD: u32 = 3;

/// The bounds of the failure threshold.
pub const PEER_THRESHOLD_BOUNDS: std::ops::RangeInclusive<u32> = 1..=100;

/// How many members of a group may be on their way at one moment, by default.
pub const MAX_SUBCLOUD_REHOMING: u32 = 10;

/// The bounds of that number: what one disk and one network take at once.
pub const REHOMING_BOUNDS: std::ops::RangeInclusive<u32> = 1..=1000;

/// The greatest priority number; 0 is the primary site.
pub const MAX_PRIORITY: u32 = 1000;

/// How many system peers there may be. Each costs a link and a heartbeat.
pub const MAX_PEERS: usize = 32;

/// How many subcloud peer groups there may be: all their digests fit into one small message.
pub const MAX_GROUPS: usize = 256;

/// Another system controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemPeer {
    /// Its id here.
    pub id: PeerId,
    /// Its unique name here.
    pub name: String,
    /// What operators choose.
    pub settings: PeerSettings,
    /// How far the peering has come.
    pub peering: Peering,
    /// When it was added.
    pub created_at: Timestamp,
    /// When the record last changed.
    pub updated_at: Timestamp,
}

/// What operators choose for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerSettings {
    /// Whether this site takes part in the peering at all.
    pub administrative: Administrative,
    /// How often this site says that it is alive, and expects an answer
    /// ([`PEER_HEARTBEAT_BOUNDS`]).
    pub heartbeat_interval: Duration,
    /// After so many intervals without a word the peer is lost ([`PEER_THRESHOLD_BOUNDS`]).
    pub failure_threshold: u32,
    /// What happens to the peer's members then.
    pub failure_policy: FailurePolicy,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            administrative: Administrative::Enabled,
            heartbeat_interval: PEER_HEARTBEAT,
            failure_threshold: PEER_FAILURE_THRESHOLD,
            failure_policy: FailurePolicy::Alarm,
        }
    }
}

/// New settings of a peer; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerEdit {
    /// See [`PeerSettings::administrative`].
    pub administrative: Option<Administrative>,
    /// See [`PeerSettings::heartbeat_interval`].
    pub heartbeat_interval: Option<Duration>,
    /// See [`PeerSettings::failure_threshold`].
    pub failure_threshold: Option<u32>,
    /// See [`PeerSettings::failure_policy`].
    pub failure_policy: Option<FailurePolicy>,
}

impl PeerEdit {
    /// The settings after the edit.
    pub fn over(self, old: PeerSettings) -> PeerSettings {
        let Self {
            administrative,
            heartbeat_interval,
            failure_threshold,
            failure_policy,
        } = self;
        PeerSettings {
            administrative: administrative.unwrap_or(old.administrative),
            heartbeat_interval: heartbeat_interval.unwrap_or(old.heartbeat_interval),
            failure_threshold: failure_threshold.unwrap_or(old.failure_threshold),
            failure_policy: failure_policy.unwrap_or(old.failure_policy),
        }
    }
}

/// Whether a site takes part in a peering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Administrative {
    /// It does.
    Enabled,
    /// No link is kept and nothing is synchronised, whoever asks.
    Disabled,
}

/// What a lost peer means to its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailurePolicy {
    /// An alarm; an operator decides.
    Alarm,
    /// An agent that has lost its owner for the failover time is taken over here.
    Rehome,
}

/// How far a peering has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peering {
    /// A token was issued here; the other site has not come yet.
    Pending(Token),
    /// Both sites know each other.
    Established(Box<Established>),
}

/// A peer that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// The newest that it said of itself.
    pub card: PeerCard,
    /// The token that it spent here, so that a lost answer can be asked for again; `None` at the
    /// site that presented a token.
    pub spent: Option<SpentToken>,
    /// Since when.
    pub since: Timestamp,
    /// Why nothing is synchronised: the rules that the two sites break at present.
    pub suspended: Vec<Fault>,
}

impl SystemPeer {
    /// What is known of it once the peering is established.
    pub fn established(&self) -> Option<&Established> {
        match &self.peering {
            Peering::Established(established) => Some(established),
            Peering::Pending(_) => None,
        }
    }

    /// Which controller it is.
    pub fn controller(&self) -> Option<ControllerId> {
        self.established().map(|known| known.card.controller)
    }

    /// Whether operators let it take part.
    pub fn enabled(&self) -> bool {
        self.settings.administrative == Administrative::Enabled
    }

    /// Names the state of what operators can change.
    pub fn etag(&self) -> String {
        let PeerSettings {
            administrative,
            heartbeat_interval,
            failure_threshold,
            failure_policy,
        } = self.settings;
        let administrative = match administrative {
            Administrative::Enabled => "enabled",
            Administrative::Disabled => "disabled",
        };
        let policy = match failure_policy {
            FailurePolicy::Alarm => "alarm",
            FailurePolicy::Rehome => "rehome",
        };
        let (id, threshold) = (self.id.to_string(), failure_threshold.to_string());
        let interval = heartbeat_interval.as_millis().to_string();
        let fields = [
            &id,
            &self.name,
            administrative,
            &interval,
            &threshold,
            policy,
        ];
        etag(&fields)
    }

    /// Whether the two sites break a rule between them.
    pub fn suspended(&self) -> bool {
        self.established()
            .is_some_and(|known| !known.suspended.is_empty())
    }
}

/// Subclouds that move together between sites. Members are found by [`Geo::group`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerGroup {
    /// Its id, the same at every site.
    pub id: PeerGroupId,
    /// What every site shares.
    pub header: GroupHeader,
    /// Who leads it.
    pub leader: Leader,
    /// This site's place; 0 is the primary site.
    pub priority: u32,
    /// The move that runs here or ran last.
    pub migration: Option<Migration>,
    /// When it came into being here.
    pub created_at: Timestamp,
    /// When the record last changed.
    pub updated_at: Timestamp,
}

impl PeerGroup {
    /// Names the state of what operators can change here.
    pub fn etag(&self) -> String {
        let (id, priority) = (self.id.to_string(), self.priority.to_string());
        let most = self.header.max_subcloud_rehoming.to_string();
        etag(&[&id, &self.header.name, &priority, &most])
    }
}

/// The part of a group that is the same everywhere; the newest edit wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHeader {
    /// Its unique name.
    pub name: String,
    /// How many members may be on their way at one moment ([`REHOMING_BOUNDS`]).
    pub max_subcloud_rehoming: u32,
    /// The places that operators gave to sites since they share the group; a site that is not
    /// named has the place that it was given then. At most one for each peer, and one's own.
    pub places: BTreeMap<ControllerId, u32>,
    /// Counts the edits.
    pub revision: u64,
    /// Which site edited last; it decides between two edits of one revision.
    pub editor: ControllerId,
}

/// Who leads a group. It changes only when at least one member did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Which controller.
    pub controller: ControllerId,
    /// The name of its site.
    pub name: String,
    /// The priority of that site.
    pub priority: u32,
    /// Counts the changes; the greater one is true, and at one term the greater id.
    pub term: u64,
}

/// A move of members to this site, by hand. It is durable, so that it goes on after a crash;
/// what is done is seen by who owns what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// When it began.
    pub started_at: Timestamp,
    /// The members that had to move.
    pub targets: BTreeSet<SubcloudId>,
    /// When it ended; `None` while it runs.
    pub finished_at: Option<Timestamp>,
    /// Those that had not come when it ended.
    pub missing: BTreeSet<SubcloudId>,
}

impl Migration {
    /// Whether it goes on.
    pub fn running(&self) -> bool {
        self.finished_at.is_none()
    }
}

/// A group that is shared with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// The group.
    pub group: PeerGroupId,
    /// The peer.
    pub peer: PeerId,
    /// The peer's place in the group.
    pub peer_priority: u32,
    /// What the peer has told of the group and is durable here.
    pub told: Option<SyncDigest>,
    /// Which association of the two sites this is: one that an operator makes has a higher number
    /// than those before it, so an older one that its other site still holds is known as such.
    pub generation: u64,
    /// The peer no longer shares the group.
    pub ended: bool,
    /// An operator deleted it here. The record stays, without being shown, so that the peer's
    /// older copy does not share the group again.
    pub withdrawn: bool,
    /// What the peer told and could not be taken in here.
    pub faults: Vec<Fault>,
    /// When the record last changed.
    pub updated_at: Timestamp,
}

impl Association {
    /// Names the state of what operators can change.
    pub fn etag(&self) -> String {
        let (group, peer) = (self.group.to_string(), self.peer.to_string());
        etag(&[&group, &peer, &self.peer_priority.to_string()])
    }
}

/// The state of an association, as operators know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssociationState {
    /// Both sites have what the other told last.
    InSync,
    /// Something is on its way.
    Syncing,
    /// The peer lacks something and cannot be reached.
    OutOfSync,
    /// Something cannot be taken in, here or there.
    Failed,
    /// Nothing is known since this process started, or synchronisation is switched off.
    Unknown,
}

impl AssociationState {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::InSync => "in-sync",
            Self::Syncing => "syncing",
            Self::OutOfSync => "out-of-sync",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// What geo-redundancy keeps in the record of a subcloud.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Geo {
    /// The other controller that the subcloud obeys; `None` when it obeys this one. In which
    /// term is [`crate::Enrolled::epoch`].
    pub owner: Option<ControllerId>,
    /// The agent has obeyed that owner in that term. Of two controllers that took over in the
    /// same term it tells which one the agent chose.
    pub confirmed: bool,
    /// The group that it belongs to.
    pub group: Option<PeerGroupId>,
    /// The group that it left last: a peer that shared it may have taken it over before it heard
    /// of that.
    pub former_group: Option<PeerGroupId>,
    /// This site's gateways towards the subcloud, when an operator has set them; perhaps to none.
    /// They are never synchronised: each site has its own.
    pub gateways: Option<Vec<IpAddr>>,
    /// What the owner told of its networks; it counts as long as there is no report.
    pub footprint: Option<Box<Footprint>>,
    /// How many edits of operators the owner of the present term has made.
    pub edits: u64,
    /// How many edits of each earlier term the next owner knew, newest last; bounded by
    /// [`MAX_LINEAGE`].
    pub lineage: Vec<(Epoch, u64)>,
    /// What was edited here and lost to the owner's record.
    pub conflict: Option<Box<Conflict>>,
}

impl Geo {
    /// It leaves its group.
    pub(crate) fn leave_group(&mut self) {
        self.former_group = self.group.take().or(self.former_group);
    }
}

/// How many terms a record remembers the edits of. A site that was away for longer than so many
/// changes of owner has its lost edits overwritten without a word.
pub const MAX_LINEAGE: usize = 8;

/// Something that was edited here while another site owned the subcloud, or that the owner told
/// and could not be taken in. It stays until an operator has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns the subcloud and so was right.
    pub owner: ControllerId,
    /// When the two met.
    pub at: Timestamp,
    /// What the record said here, as `field: value`; what was lost first comes first.
    pub lost: Vec<(String, String)>,
}
