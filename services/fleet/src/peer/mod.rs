//! Geo-redundancy: peers of one family, groups that they share, and ownership that only an
//! agent's durable word can give.
//!
//! The records, messages and calls are here; the rules that move them are part of the
//! [`crate::Controller`] machine (`controller/peers`), because a change of owner is a change of a
//! subcloud's record and must be durable in one step with it.
//!
//! # Who owns a subcloud
//!
//! The agent keeps `(owner, epoch)` durably and obeys a controller only after it has written that
//! controller's higher term down. A controller takes over by writing its own record with the term
//! plus one *before* it welcomes. Two controllers may write the same term; the agent welcomes one
//! of them back and the other learns from the agent's next Hello, or from its peer, that it was
//! not chosen. So no partition, crash or clock gives a subcloud two owners that it obeys.
//!
//! * Hello with a higher term, or with the same term and a peer as owner: the record is demoted
//!   ([`Geo::owner`]), nothing is deleted, the agent is sent away with
//!   [`crate::GoodbyeReason::NotOwner`] and [`crate::KnownController`]s to go to.
//! * Hello at a controller that is not the owner: it takes over if a migration of the group runs
//!   here, or if the agent has lost its owner and the failure policy towards that owner is
//!   [`FailurePolicy::Rehome`]. Otherwise NOT_OWNER.
//! * A controller that is owner but whose peer takes over by hand ([`PeerMessage::Handover`])
//!   sends the agent there with [`crate::GoodbyeReason::Moved`]; it stays owner until it hears of
//!   the higher term.
//!
//! # What the driver does
//!
//! Besides what [`crate`] says of every output:
//! * [`crate::Output::Peer`] with [`PeerOutput::Dial`]: open `PeerLinkService.Exchange` from the
//!   site's link address to the first endpoint that answers, with the controller's own
//!   certificate, accepting only a server certificate `spiffe://<controller>/controller` that
//!   the named authority signed; number the link and say [`PeerInput::Opened`], then feed
//!   messages and the end. When no endpoint answers say [`PeerInput::DialFailed`].
//! * A stream that another controller opens is announced by the same [`PeerInput::Opened`]: the
//!   machine judges identity and family and closes it when it is unwelcome.
//! * [`PeerOutput::Send`]: one stream, in order. A queue of 256 messages is enough: the machine
//!   has at most one batch in flight for each group and direction, and [`MAX_GROUPS`] bounds the
//!   groups. A peer that does not take them is as good as gone: end the stream.
//! * [`PeerOutput::Close`]: send [`PeerMessage::Goodbye`], end the stream.
//! * [`PeerOutput::TrustChanged`]: give the TLS acceptor the authorities of
//!   [`crate::Controller::trusted_authorities`]: a client certificate of an agent or controller
//!   is accepted when one of them signed it and its trust domain is that authority's site. An
//!   agent's `LinkOpened` names the key of the authority that signed.
//! * [`PeerOutput::Alarm`]: keep, show and publish it; the machine tells the whole set again
//!   after a restart, so alarms need not be durable.
//! * [`crate::Write::Peer`], [`crate::Write::PeerGroup`], [`crate::Write::Association`] and their
//!   `Forget…`: records of their own, by id, read back into [`crate::Records`].
//! * `system-peer add NAME` (no token): draw a token, say [`PeerAction::IssuePeering`], show
//!   `tp1_` + id, secret, the SPKI pin of this site's authority, and its link addresses.
//! * `system-peer add NAME --token`: read the token; ask [`judge_token_addresses`]; call
//!   `PeerLinkService.AcceptPeering` at those addresses with TLS that pins the authority of the token,
//!   presenting id, secret and [`crate::Controller::card`]; the other site's driver says
//!   [`PeerInput::Accept`] and answers with [`PeerSubject::Card`] or the refusal. Then say
//!   [`PeerAction::AddPeer`] with that card; both judge alike. If the process ends in between,
//!   the same site may present the same token again ([`crate::REPLAY_WINDOW`]).
//! * A change of the controller's own site: before it is applied, ask
//!   [`crate::Controller::peers_broken_by`] and refuse with its violations; after it is durable
//!   [`crate::Input::ControllerSiteChanged`] makes the machine tell its peers.
//!
//! For the agent's driver: [`crate::AgentOutput::Connect`] names the controller and the
//! authority to pin; both are `None` only for a record of an earlier version, which knows one
//! authority, that of its certificate.

mod call;
mod card;
mod message;
mod record;
mod sync;

pub use call::{
    AcceptPeering, PeerAction, PeerAlarm, PeerCall, PeerInput, PeerOutput, PeerReceipt,
    PeerSeverity, PeerSubject,
};
pub use card::{Authority, MAX_ENDPOINTS, PeerCard, judge_peer, judge_token_addresses};
pub use message::{
    Batch, Correction, MAX_HANDOVER, MAX_SYNC_BATCH, Offer, PeerGoodbye, PeerMessage, Pull,
    SyncItem, Withdrawn,
};
pub use record::{
    Administrative, Association, AssociationState, Conflict, Established, FailurePolicy, Geo,
    GroupHeader, Leader, MAX_GROUPS, MAX_LINEAGE, MAX_PEERS, MAX_PRIORITY, MAX_SUBCLOUD_REHOMING,
    Migration, PEER_FAILURE_THRESHOLD, PEER_HEARTBEAT, PEER_HEARTBEAT_BOUNDS,
    PEER_THRESHOLD_BOUNDS, PeerEdit, PeerGroup, PeerGroupId, PeerId, PeerSettings, Peering,
    REHOMING_BOUNDS, SystemPeer,
};
pub(crate) use sync::{group_digest, item_digest, shared};
