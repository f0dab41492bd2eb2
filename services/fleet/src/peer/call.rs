//! What the controller's machine is told of peers, and what it asks for.

use std::net::IpAddr;

use crate::{
    Actor, Association, Endpoint, Fingerprint, PeerCard, PeerEdit, PeerGoodbye, PeerGroup,
    PeerGroupId, PeerId, PeerLinkId, PeerMessage, PeerSettings, RequestId, SecretHash,
    SharedSubcloud, SystemPeer, TokenId, Violation,
};
use crate::{ControllerId, NewToken, RequestKey};

/// Something that happened between peers; see [`crate::peer`] for what the driver does.
#[derive(Debug, Clone)]
pub enum PeerInput {
    /// An operator's call.
    Call(PeerCall),
    /// The other site presents a token, over TLS that pins this site's authority.
    Accept(AcceptPeering),
    /// A link came up, dialled by either side, and the other end proved its identity by a
    /// certificate of a controller.
    Opened {
        /// A number that no earlier link of this process had.
        link: PeerLinkId,
        /// The trust domain of the certificate.
        controller: ControllerId,
        /// The key of the authority that signed the certificate.
        authority: Fingerprint,
        /// The other end's address.
        source: IpAddr,
    },
    /// The link that [`PeerOutput::Dial`] asked for did not come up.
    DialFailed {
        /// To whom.
        peer: PeerId,
    },
    /// A message came over a link.
    Message {
        /// Which link.
        link: PeerLinkId,
        /// What it says.
        message: PeerMessage,
    },
    /// A link is gone, whoever ended it.
    Closed {
        /// Which link.
        link: PeerLinkId,
    },
}

/// Something to do for peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerOutput {
    /// Open a link to a peer from this site's link address with mutual TLS, pinning the
    /// authority, and say [`PeerInput::Opened`] or [`PeerInput::DialFailed`]. A dial that is
    /// not done when the next one to the same peer is asked for is given up.
    Dial {
        /// To whom.
        peer: PeerId,
        /// Which controller must answer: its certificate's trust domain.
        controller: ControllerId,
        /// Where it listens; to be tried in turn.
        endpoints: Vec<Endpoint>,
        /// Which authority must have signed its certificate.
        authority: Fingerprint,
    },
    /// Send a message; nothing, if the link is gone.
    Send {
        /// Over which link.
        link: PeerLinkId,
        /// What to say.
        message: PeerMessage,
    },
    /// Say goodbye and end a link.
    Close {
        /// Which link.
        link: PeerLinkId,
        /// The last words.
        goodbye: PeerGoodbye,
    },
    /// The authorities whose certificates are accepted changed: those of
    /// [`crate::Controller::trusted_authorities`] from now on. Live connections of an authority
    /// that is no longer among them end.
    TrustChanged,
    /// An alarm was raised, changed or cleared: [`crate::Controller::peer_alarms`] has them all.
    Alarm(PeerAlarm),
}

/// An operator's call about peers, groups and associations.
#[derive(Debug, Clone)]
pub struct PeerCall {
    /// Names the call in the answer.
    pub request: RequestId,
    /// Who asks.
    pub actor: Actor,
    /// What is asked for.
    pub action: PeerAction,
    /// What the caller read of the record that is updated or deleted; empty skips the check.
    pub etag: String,
    /// By which the same request is known when it comes again.
    pub key: Option<RequestKey>,
    /// Judge only; change nothing.
    pub validate_only: bool,
}

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAction {
    /// `system-peer add NAME`: makes a pending peer and issues its token.
    IssuePeering {
        /// A fresh id.
        id: PeerId,
        /// How the peer is called here.
        name: String,
        /// A fresh token.
        token: NewToken,
        /// What the operator chooses.
        settings: PeerSettings,
    },
    /// `system-peer add NAME --token`: the driver has presented the token to the other site,
    /// which answered with its card. A pending peer of that name is completed by it.
    AddPeer {
        /// A fresh id.
        id: PeerId,
        /// How the peer is called here.
        name: String,
        /// What the operator chooses.
        settings: PeerSettings,
        /// What the other site answered.
        card: Box<PeerCard>,
    },
    /// `system-peer update`.
    UpdatePeer {
        /// Name or uuid.
        peer: String,
        /// What it shall be.
        edit: PeerEdit,
    },
    /// `system-peer delete`; refused while a group is shared with it.
    DeletePeer {
        /// Name or uuid.
        peer: String,
    },
    /// `subcloud-peer-group add`.
    AddGroup {
        /// A fresh id.
        id: PeerGroupId,
        /// The unique name.
        name: String,
        /// This site's place.
        priority: u32,
        /// How many members may be on their way at one moment.
        max_subcloud_rehoming: u32,
    },
    /// `subcloud-peer-group update`; `None` leaves as it is.
    UpdateGroup {
        /// Name or uuid.
        group: String,
        /// This site's place.
        priority: Option<u32>,
        /// How many members may be on their way at one moment.
        max_subcloud_rehoming: Option<u32>,
    },
    /// `subcloud-peer-group delete`; refused while it is shared or has members.
    DeleteGroup {
        /// Name or uuid.
        group: String,
    },
    /// `subcloud update NAME --peer-group`: members come and go at the site that owns them.
    SetMembers {
        /// Name or uuid.
        group: String,
        /// Names or uuids of subclouds that join.
        add: Vec<String>,
        /// Names or uuids of subclouds that leave.
        remove: Vec<String>,
    },
    /// This site's gateways towards a subcloud (F10).
    SetGateways {
        /// Name or uuid.
        subcloud: String,
        /// The gateway of the link family, and at most one of the other family after it.
        gateways: Vec<IpAddr>,
    },
    /// `peer-group-association add`: shares a group with a peer.
    Associate {
        /// Name or uuid of the group.
        group: String,
        /// Name or uuid of the peer.
        peer: String,
        /// The peer's place in the group.
        peer_priority: u32,
    },
    /// `peer-group-association update`: gives the peer another place in the group.
    UpdateAssociation {
        /// Name or uuid of the group.
        group: String,
        /// Name or uuid of the peer.
        peer: String,
        /// The peer's place in the group.
        peer_priority: u32,
    },
    /// `peer-group-association delete`.
    Dissociate {
        /// Name or uuid of the group.
        group: String,
        /// Name or uuid of the peer.
        peer: String,
    },
    /// `peer-group-association sync`: offers the group at once, however little changed.
    SyncAssociation {
        /// Name or uuid of the group.
        group: String,
        /// Name or uuid of the peer.
        peer: String,
    },
    /// `subcloud-peer-group migrate`: this site takes all members over.
    Migrate {
        /// Name or uuid.
        group: String,
    },
    /// An operator has seen the conflict of a subcloud.
    DismissConflict {
        /// Name or uuid.
        subcloud: String,
    },
}

/// The other site presents a token.
#[derive(Debug, Clone)]
pub struct AcceptPeering {
    /// Names the call in the answer.
    pub request: RequestId,
    /// The id of the presented token.
    pub token: TokenId,
    /// The hash of the presented secret.
    pub secret: SecretHash,
    /// What the other site tells of itself. The driver has checked that the certificate in it is
    /// one of an authority and has that key.
    pub card: Box<PeerCard>,
    /// Where the connection comes from.
    pub source: IpAddr,
    /// Judge only; spend nothing.
    pub validate_only: bool,
}

/// What a call came to; with `validate_only`, what it would have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReceipt {
    /// The record that the call was about.
    pub subject: PeerSubject,
    /// What is allowed but worth knowing.
    pub warnings: Vec<Violation>,
}

/// A record that a call was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerSubject {
    /// A peer.
    Peer(Box<SystemPeer>),
    /// This site's card: the answer to a presented token.
    Card(Box<PeerCard>),
    /// A group.
    Group(Box<PeerGroup>),
    /// An association.
    Association(Box<Association>),
    /// A subcloud.
    Subcloud(SharedSubcloud),
}

/// An alarm about peers or groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAlarm {
    /// Its id, such as `280.004`.
    pub id: &'static str,
    /// What it is about: `system_peer=NAME` or `subcloud_peer_group=NAME`.
    pub entity: String,
    /// How bad it is; `None` when it was cleared.
    pub severity: Option<PeerSeverity>,
    /// What is wrong, in words.
    pub text: String,
}

/// How bad an alarm about peers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerSeverity {
    /// Something is not as it should be.
    Major,
    /// Subclouds are affected.
    Critical,
}
