//! What the controller's machine is told, and what it asks for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use site::{Site, SiteParts, Timestamp};
use uuid::Uuid;

use super::operators::{AddOperator, NoteDeed, RevokeOperator};
use crate::admission::ControllerView;
use crate::{
    Action, Actor, AgentMessage, Association, AuditEntry, Candidate, CertificateRequest,
    CommandOutcome, ControllerMessage, Event, Fault, Fingerprint, FleetAlarm, Goodbye, GroupId,
    LinkId, Operator, Outcome, PeerGroup, PeerGroupId, PeerId, PeerInput, PeerOutput, PeerReceipt,
    Position, Presence, Rejection, Report, RequestId, RolloutId, SecretHash, SharedAlarm,
    SharedGroup, SharedSubcloud, SiteMethod, SubcloudGroup, SubcloudId, SystemPeer, Ticket,
    TokenId, UpdateApply, Violation,
};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// `subcloud add`.
    AddSubcloud(AddSubcloud),
    /// `subcloud token`.
    IssueToken(IssueToken),
    /// An operator changes a subcloud or a group.
    Operate(Operate),
    /// A site without an identity asks for one.
    Enroll(Enroll),
    /// Such a request that could not be read.
    EnrollUnread(EnrollUnread),
    /// A call of a subcloud's site.
    RunCommand(RunCommand),
    /// A call that another machine has judged: it is in the audit log as all others are.
    Audited(Audited),
    /// Every subcloud that a rollout waits for, each with the first rollout that does: what was
    /// said before is forgotten. Said once before [`Self::Awaited`].
    AllAwaited(BTreeMap<SubcloudId, RolloutId>),
    /// Which rollout waits for a subcloud has changed.
    Awaited {
        /// The subcloud.
        subcloud: SubcloudId,
        /// The first rollout that waits for it; `None` when none does.
        rollout: Option<RolloutId>,
    },
    /// `operator add`.
    AddOperator(AddOperator),
    /// `operator revoke`.
    RevokeOperator(RevokeOperator),
    /// Something for the audit log that was decided elsewhere.
    NoteDeed(NoteDeed),
    /// An agent opened a stream and proved its identity by a certificate.
    LinkOpened {
        /// A number that no earlier link of this process had.
        link: LinkId,
        /// The subcloud that the certificate names.
        subcloud: SubcloudId,
        /// The key of the certificate.
        key: Fingerprint,
        /// Who signed the certificate; `None` when the driver accepts none but this site's own.
        signed: Option<Signed>,
        /// Where the connection comes from.
        source: IpAddr,
    },
    /// A message came over a link.
    LinkMessage {
        /// Which link.
        link: LinkId,
        /// What it says.
        message: AgentMessage,
    },
    /// A piece of a message came over a link, and there is more to come: said at most once in
    /// [`HEARD_EVERY`](crate::HEARD_EVERY).
    LinkHeard {
        /// Which link.
        link: LinkId,
    },
    /// A link is gone, whoever ended it.
    LinkClosed {
        /// Which link.
        link: LinkId,
    },
    /// A change of the controller's own site is accepted ([`Controller::would_break`] had
    /// nothing against it) and will be durable before anything that is decided from now on.
    ///
    /// [`Controller::would_break`]: crate::Controller::would_break
    ControllerSiteAccepted(Arc<ControllerView>),
    /// The controller's own site changed, and the change is durable: agents are told.
    ControllerSiteChanged(Arc<Site>),
    /// The moment of the last [`Output::SetTimer`] has come.
    Timer,
    /// A write is durable. Writes become durable in the order of their tickets.
    Committed {
        /// Which write.
        ticket: Ticket,
    },
    /// Something happened between peers.
    Peer(PeerInput),
    /// The process is about to end: links are told to come back.
    ShuttingDown,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make these writes durable, all or none, and say [`Input::Committed`]. If that fails, end
    /// the process. Of several writes of one record the last counts.
    Commit {
        /// What to call this write.
        ticket: Ticket,
        /// What to write.
        writes: Vec<Write>,
    },
    /// Answer a call.
    Answer {
        /// Which call.
        request: RequestId,
        /// What to answer.
        outcome: Result<Answer, Rejection>,
    },
    /// Answer a call of a subcloud's site.
    CommandAnswer {
        /// Which call.
        request: RequestId,
        /// What to answer.
        outcome: CommandOutcome,
    },
    /// Send a message; nothing, if the link is gone.
    Send {
        /// Over which link.
        link: LinkId,
        /// What to say.
        message: ControllerMessage,
    },
    /// Sign a certificate for a key and send it: the key is durable. Nothing, if the link is gone.
    SendCertificate {
        /// Over which link.
        link: LinkId,
        /// Whom it shall name.
        subcloud: SubcloudId,
        /// The key, and the proof that the agent has it.
        request: CertificateRequest,
    },
    /// Say goodbye and end a link. No [`Input::LinkClosed`] is needed but one does no harm.
    CloseLink {
        /// Which link.
        link: LinkId,
        /// The last words.
        goodbye: Goodbye,
    },
    /// Say [`Input::Timer`] at this moment; it replaces the moment set before.
    SetTimer {
        /// When.
        at: Timestamp,
    },
    /// Tell watchers.
    Event(Event),
    /// Count that a certificate which this site signed names a subcloud that has no record, or has
    /// not enrolled in it, and tell operators: nobody else can know that it is there.
    UnknownSubcloud {
        /// Which.
        subcloud: SubcloudId,
        /// Where it is.
        source: IpAddr,
        /// How many more were not told since the last one; `None` when this one is not to be told
        /// either, for there were too many.
        others: Option<u64>,
    },
    /// Do something for peers.
    Peer(PeerOutput),
}

/// One record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Put the record of a subcloud in the place of the one of the same id.
    Subcloud(SharedSubcloud),
    /// Put the whole accepted site of a subcloud. It is only read to be shown: the machine keeps
    /// the footprint alone, so that the memory of a fleet stays small.
    Site {
        /// Whose.
        subcloud: SubcloudId,
        /// What was reported.
        site: Arc<SiteParts>,
    },
    /// Put an operator in the place of the one of the same name.
    Operator(Operator),
    /// Put the record of a peer in the place of the one of the same id.
    Peer(Box<SystemPeer>),
    /// Forget a peer.
    ForgetPeer(PeerId),
    /// Put the record of a peer group in the place of the one of the same id.
    PeerGroup(Box<PeerGroup>),
    /// Forget a peer group.
    ForgetPeerGroup(PeerGroupId),
    /// Put the record of an association in the place of that of the same group and peer.
    Association(Box<Association>),
    /// Forget an association.
    ForgetAssociation(PeerGroupId, PeerId),
    /// Forget a subcloud; this is what it was.
    ForgetSubcloud(SharedSubcloud),
    /// Forget the accepted site of a subcloud.
    ForgetSite(SubcloudId),
    /// Put a group in the place of the one of the same id.
    Group(SharedGroup),
    /// Forget a group.
    ForgetGroup(GroupId),
    /// Keep what was answered to a request that may come again.
    AnsweredCall(Box<AnsweredCall>),
    /// Forget what was answered to the request of this id.
    ForgetAnswer(String),
    /// Put a raised alarm in the place of the same occurrence.
    Alarm(SharedAlarm),
    /// Forget the alarm with the uuid of this occurrence.
    ForgetAlarm(Uuid),
    /// Append to the event log.
    Event(Event),
    /// Forget the event at this place.
    ForgetEvent(Position),
    /// Append to the audit log.
    Audit(AuditEntry),
    /// Forget the audit entry at this place.
    ForgetAudit(Position),
}

impl Write {
    /// About how many bytes it takes on disk, rather more: what waits for the disk is bounded by
    /// it.
    pub fn weight(&self) -> usize {
        /// More than any record that holds no list from outside.
        const RECORD: usize = 4096;
        RECORD
            + match self {
                Self::Site { site, .. } => site.weight(),
                Self::Subcloud(record) => {
                    let refused = record.refused.iter().flat_map(|refused| &refused.faults);
                    let known = record.enrolled().map(|known| &known.differences);
                    refused
                        .chain(known.into_iter().flatten())
                        .map(Fault::weight)
                        .sum()
                }
                Self::Event(event) => event.kind.faults().iter().map(Fault::weight).sum(),
                Self::Audit(entry) => entry.outcome.faults().iter().map(Fault::weight).sum(),
                _ => 0,
            }
    }
}

/// Who signed a certificate, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The key of the authority.
    pub by: Fingerprint,
    /// When, in whole seconds.
    pub at: Timestamp,
}

/// An Enroll of which some fields could not be read. It is answered when that is in the logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollUnread {
    /// The number of the request.
    pub request: RequestId,
    /// How the site calls itself; may be empty.
    pub name: String,
    /// Where it comes from.
    pub source: IpAddr,
    /// What could not be read; not empty.
    pub faults: Vec<Fault>,
}

/// What is on disk when a process starts.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// Every subcloud.
    pub subclouds: Vec<SharedSubcloud>,
    /// Every operator.
    pub operators: Vec<Operator>,
    /// Every peer.
    pub peers: Vec<SystemPeer>,
    /// Every peer group.
    pub peer_groups: Vec<PeerGroup>,
    /// Every association.
    pub associations: Vec<Association>,
    /// Every group that was added or changed.
    pub groups: Vec<SubcloudGroup>,
    /// What was answered to requests that may come again.
    pub answers: Vec<AnsweredCall>,
    /// Every raised alarm.
    pub alarms: Vec<FleetAlarm>,
    /// The place of the newest event; zero when there is none.
    pub last_event: Position,
    /// The place of the newest audit entry; zero when there is none.
    pub last_audit: Position,
}

/// `subcloud add`.
#[derive(Debug, Clone)]
pub struct AddSubcloud {
    /// Names the call in the answer.
    pub request: RequestId,
    /// Who asks.
    pub actor: Actor,
    /// A fresh id.
    pub id: SubcloudId,
    /// The name that the site will have.
    pub name: String,
    /// A fresh token.
    pub token: NewToken,
    /// What the site will be, when the operator gave its bootstrap file.
    pub declared: Option<Box<Candidate>>,
    /// What the operator says about it, and its group; nothing said is empty, no group is the
    /// default one.
    pub edit: SubcloudEdit,
    /// Judge only; change nothing.
    pub validate_only: bool,
}

/// `subcloud token`.
#[derive(Debug, Clone)]
pub struct IssueToken {
    /// Names the call in the answer.
    pub request: RequestId,
    /// Who asks.
    pub actor: Actor,
    /// Name or uuid of the subcloud.
    pub subcloud: String,
    /// A fresh token.
    pub token: NewToken,
    /// It is for another key to take the place of the one that has enrolled.
    pub reenroll: bool,
    /// Judge only; change nothing.
    pub validate_only: bool,
}

/// An operator changes a subcloud or a group.
#[derive(Debug, Clone)]
pub struct Operate {
    /// Names the call in the answer.
    pub request: RequestId,
    /// Who asks.
    pub actor: Actor,
    /// What for.
    pub change: FleetChange,
    /// By which the same request is known when it comes again.
    pub key: Option<RequestKey>,
    /// Judge only; change nothing.
    pub validate_only: bool,
}

/// A change that an operator asks for. Subclouds and groups go by name or uuid. An etag that is
/// not empty must be that of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetChange {
    /// `subcloud manage`.
    Manage {
        /// Which subcloud.
        subcloud: String,
        /// Also when it is not online.
        force: bool,
    },
    /// `subcloud unmanage`.
    Unmanage {
        /// Which subcloud.
        subcloud: String,
    },
    /// `subcloud update`.
    Update {
        /// Which subcloud.
        subcloud: String,
        /// Of the record that was read.
        etag: String,
        /// What to change.
        edit: SubcloudEdit,
    },
    /// `subcloud delete`.
    Delete {
        /// Which subcloud.
        subcloud: String,
        /// Of the record that was read.
        etag: String,
    },
    /// `subcloud-group add`.
    AddGroup {
        /// A fresh id.
        id: GroupId,
        /// Everything about it; what is not said has its default.
        group: GroupEdit,
    },
    /// `subcloud-group update`.
    UpdateGroup {
        /// Which group.
        group: String,
        /// Of the record that was read.
        etag: String,
        /// What to change.
        edit: GroupEdit,
    },
    /// `subcloud-group delete`: its members are in the Default group from then on.
    DeleteGroup {
        /// Which group.
        group: String,
        /// Of the record that was read.
        etag: String,
    },
}

/// New values of a subcloud; `None` leaves one as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubcloudEdit {
    /// What operators say about it.
    pub description: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// Its group, by name or uuid.
    pub group: Option<String>,
}

/// New values of a group; `None` leaves one as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupEdit {
    /// Its name.
    pub name: Option<String>,
    /// What operators say about it.
    pub description: Option<String>,
    /// How a change goes through it.
    pub update: Option<UpdateApply>,
    /// How many of its subclouds are worked on at a time.
    pub max_parallel: Option<u32>,
}

/// By which a request is known when it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// What the client calls it.
    pub id: String,
    /// Tells it from another request of the same id.
    pub fingerprint: [u8; 32],
}

/// What was answered to a request that may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredCall {
    /// The request.
    pub key: RequestKey,
    /// When.
    pub at: Timestamp,
    /// What.
    pub answer: Answer,
}

/// A token that the service has drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewToken {
    /// Its public id.
    pub id: TokenId,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// How long it is good for.
    pub ttl: Duration,
}

/// A site without an identity asks for one.
#[derive(Debug, Clone)]
pub struct Enroll {
    /// Names the call in the answer.
    pub request: RequestId,
    /// The id of the presented token.
    pub token: TokenId,
    /// The hash of the presented secret.
    pub secret: SecretHash,
    /// The key of the certificate request, whose signature was checked.
    pub key: Fingerprint,
    /// What the site is.
    pub report: Report,
    /// Where the connection comes from.
    pub source: IpAddr,
    /// Judge only; spend nothing.
    pub validate_only: bool,
}

/// A call that another machine has judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// Who asked.
    pub actor: Actor,
    /// What was asked for.
    pub action: Action,
    /// What it was about, in words.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// A call of a subcloud's site.
#[derive(Debug, Clone)]
pub struct RunCommand {
    /// Names the call in the answer.
    pub request: RequestId,
    /// Who asks.
    pub actor: Actor,
    /// Name or uuid of the subcloud.
    pub subcloud: String,
    /// What is called.
    pub method: SiteMethod,
    /// The encoded request; a change has a request id in it, so that it can be asked for again.
    pub body: Arc<[u8]>,
    /// That request id; empty when nothing changes.
    pub request_id: String,
    /// Whether it changes something: a method that does, and no preview of it.
    pub changes: bool,
    /// The site as the call would make it, where that can be told from what it reported last
    /// ([`crate::foreseen`]): it must be one that the fleet accepts.
    pub foreseen: Option<Arc<SiteParts>>,
    /// When the answer is of no use any more.
    pub deadline: Timestamp,
}

/// What a call is answered: one kind for each kind of call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a call about one subcloud.
    Subcloud(Receipt),
    /// To a call about an operator: as it is now, or would be.
    Operator(Operator),
    /// The entry is in the audit log.
    Noted,
    /// To a call about peers, peer groups or associations.
    Peer(Box<PeerReceipt>),
    /// To a call about a group: the group as it is now, or as it was when it is deleted.
    Group(SharedGroup),
}

impl From<Receipt> for Answer {
    fn from(receipt: Receipt) -> Self {
        Self::Subcloud(receipt)
    }
}

impl TryFrom<Answer> for Receipt {
    type Error = Answer;

    /// # Errors
    /// The answer itself, when it is one to another kind of call.
    fn try_from(answer: Answer) -> Result<Self, Answer> {
        match answer {
            Answer::Subcloud(receipt) => Ok(receipt),
            other => Err(other),
        }
    }
}

impl TryFrom<Answer> for PeerReceipt {
    type Error = Answer;

    /// # Errors
    /// The answer itself, when it is one to another kind of call.
    fn try_from(answer: Answer) -> Result<Self, Answer> {
        match answer {
            Answer::Peer(receipt) => Ok(*receipt),
            other => Err(other),
        }
    }
}

impl TryFrom<Answer> for Operator {
    type Error = Answer;

    /// # Errors
    /// The answer itself, when it is one to another kind of call.
    fn try_from(answer: Answer) -> Result<Self, Answer> {
        match answer {
            Answer::Operator(operator) => Ok(operator),
            other => Err(other),
        }
    }
}

impl TryFrom<Answer> for () {
    type Error = Answer;

    /// # Errors
    /// The answer itself, when it is one to another kind of call.
    fn try_from(answer: Answer) -> Result<Self, Answer> {
        match answer {
            Answer::Noted => Ok(()),
            other => Err(other),
        }
    }
}

impl TryFrom<Answer> for SharedGroup {
    type Error = Answer;

    /// # Errors
    /// The answer itself, when it is one to another kind of call.
    fn try_from(answer: Answer) -> Result<Self, Answer> {
        match answer {
            Answer::Group(group) => Ok(group),
            other => Err(other),
        }
    }
}

/// What a call about a subcloud came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The record as it is now; with `validate_only`, as it would be; as it was, when it is
    /// deleted.
    pub subcloud: SharedSubcloud,
    /// What was known of its link at that moment.
    pub presence: Presence,
    /// The name of its group.
    pub group: String,
    /// What is allowed but worth knowing.
    pub warnings: Vec<Violation>,
    /// The call had succeeded before and its answer was lost; nothing changed now.
    pub replayed: bool,
}
