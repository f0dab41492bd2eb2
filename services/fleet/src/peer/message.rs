//! What two controllers say to each other over their link. Both ends speak the same language.
//!
//! ```text
//! link up ─ Hello ─► judged ─ Verdict ─► both right: Offers ─► Pull ─► Batch … ─► Synced
//! ```

use crate::ControllerId;
use crate::{
    CardDigest, Epoch, Fault, GroupHeader, Leader, PeerCard, PeerGroupId, Subcloud, SubcloudId,
    SyncDigest,
};

/// How many members one batch carries. With 1 KiB for a record it is some 64 KiB: it neither
/// fills a stream's window nor waits long for a disk.
pub const MAX_SYNC_BATCH: usize = 64;

/// How many members one handover names; a migration asks for no more at a moment.
pub const MAX_HANDOVER: usize = 1000;

/// From a controller to its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// Who speaks: the first message of a link, and again whenever the speaker's site changes.
    Hello(Box<PeerCard>),
    /// What the speaker thinks of the other's card: no faults mean that they may be peers.
    Verdict {
        /// The card that was judged.
        card: CardDigest,
        /// Every rule that the two sites break, from the speaker's view.
        faults: Vec<Fault>,
    },
    /// Still here; to be answered at once.
    Heartbeat,
    /// The answer to a heartbeat.
    HeartbeatAnswer,
    /// What the speaker has of each group that it shares with the other, one digest for each. An
    /// unchanged group costs no more than this.
    Offers {
        /// These are all groups that are shared, as the first offers of a link are.
        complete: bool,
        /// At most [`crate::MAX_GROUPS`].
        offers: Vec<Offer>,
        /// What operators of the speaker ended, as far as the other may not know of it. At most
        /// [`crate::MAX_GROUPS`].
        withdrawn: Vec<Withdrawn>,
    },
    /// The speaker wants to know what an offer stands for.
    Pull(Pull),
    /// A piece of an offered group.
    Batch(Box<Batch>),
    /// The speaker has, durably, what an offer stood for.
    Synced {
        /// The group.
        group: PeerGroupId,
        /// What was offered.
        digest: SyncDigest,
        /// What could not be taken in; it is kept as it was.
        faults: Vec<Fault>,
        /// Members of which the reader knows a later term: what the speaker of the offer is to
        /// believe instead. At most [`MAX_SYNC_BATCH`]; the rest follows when it has.
        corrections: Vec<Correction>,
    },
    /// The speaker takes these members over; their owner sends their agents to it.
    Handover {
        /// The group.
        group: PeerGroupId,
        /// At most [`MAX_HANDOVER`].
        members: Vec<SubcloudId>,
    },
    /// The speaker ends the link.
    Goodbye(PeerGoodbye),
}

/// What a controller has of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The group.
    pub group: PeerGroupId,
    /// Names everything that would be told.
    pub digest: SyncDigest,
    /// What the other acknowledged last; to a reader that still has it, only changes are told.
    pub base: Option<SyncDigest>,
    /// The place that the speaker gives the other site in the group.
    pub your_priority: u32,
    /// [`crate::Association::generation`] at the speaker.
    pub generation: u64,
}

/// A group that the speaker no longer shares with the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawn {
    /// The group.
    pub group: PeerGroupId,
    /// Associations up to this generation have ended.
    pub generation: u64,
}

/// Asks for the next piece of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// The group.
    pub group: PeerGroupId,
    /// The offer.
    pub digest: SyncDigest,
    /// Only what changed since the offer's base.
    pub changes: bool,
    /// Members up to this one are known already.
    pub after: Option<SubcloudId>,
}

/// A piece of a group: the header, and members in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The group.
    pub group: PeerGroupId,
    /// The offer that this belongs to.
    pub digest: SyncDigest,
    /// The answered pull was for changes only.
    pub changes: bool,
    /// The answered pull's `after`.
    pub after: Option<SubcloudId>,
    /// What all sites share.
    pub header: GroupHeader,
    /// Who leads, as far as the speaker knows.
    pub leader: Leader,
    /// The speaker's place in the group.
    pub priority: u32,
    /// At most [`MAX_SYNC_BATCH`].
    pub items: Vec<SyncItem>,
    /// Nothing follows.
    pub last: bool,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncItem {
    /// The speaker owns it: this is the record that counts. Its parts that are the site's own
    /// (gateways, reports, conflicts) are left out, and [`crate::Geo::owner`] names the speaker.
    Owned(Box<Subcloud>),
    /// Another controller owns it, as far as the speaker knows; a receiver that knows of a
    /// higher term keeps to it.
    Elsewhere {
        /// Which subcloud.
        subcloud: SubcloudId,
        /// Who owns it.
        owner: ControllerId,
        /// In which term.
        epoch: Epoch,
        /// The agent has obeyed that owner in that term.
        confirmed: bool,
    },
    /// It is no longer a member; only told among changes, and only by its owner.
    Left(SubcloudId),
}

/// A later term than the one that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correction {
    /// Which subcloud.
    pub subcloud: SubcloudId,
    /// Who owns it.
    pub owner: ControllerId,
    /// In which term.
    pub epoch: Epoch,
    /// The agent has obeyed that owner in that term.
    pub confirmed: bool,
    /// The subcloud is still a member, as the owner's site has it.
    pub member: bool,
}

/// Why a link between peers ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerGoodbye {
    /// The speaker stops or restarts.
    ShuttingDown,
    /// A newer link has taken over.
    Superseded,
    /// The peering is disabled at the speaker's site.
    Disabled,
    /// The speaker does not know the other: the peering was deleted there.
    Unknown,
    /// The connection does not come over the primary family.
    WrongFamily,
    /// Nothing was heard for too long.
    Silence,
    /// A message was out of turn, too large, or could not be understood.
    ProtocolViolation,
}

impl PeerGoodbye {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::ShuttingDown,
        Self::Superseded,
        Self::Disabled,
        Self::Unknown,
        Self::WrongFamily,
        Self::Silence,
        Self::ProtocolViolation,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Superseded => "SUPERSEDED",
            Self::Disabled => "DISABLED",
            Self::Unknown => "UNKNOWN",
            Self::WrongFamily => "WRONG_FAMILY",
            Self::Silence => "SILENCE",
            Self::ProtocolViolation => "PROTOCOL_VIOLATION",
        }
    }
}
