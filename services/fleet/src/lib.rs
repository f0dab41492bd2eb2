//! The pure model of the fleet: admission, enrollment, and both ends of the link as machines.
//!
//! # Flow
//!
//! A *machine* is told what happened and answers what to do: `on(now, entropy, input)` returns
//! outputs, to be carried out in their order. [`Controller`] owns every record ([`Fleet`]) and
//! every link of one system controller. [`Agent`] is the other end of one link. [`Enroller`]
//! takes a site from a token to an identity. The services are thin drivers around them: they
//! move bytes, files and time. The simulation plays the same machines under faults.
//!
//! ```text
//! operator: subcloud add ─ AddSubcloud ─► Controller ─ Commit ─► store ─ Committed ─► Answer
//! site:     Enroller ─ Enroll ──────────► Controller ─ Commit ─► …      (identity signs) Answer
//! agent:    Connect ─ LinkOpened, Hello ► Controller ─ Welcome, Networks ────────────► Agent
//! agent:    CertificateRequest ─────────► Controller ─ Commit ─► … (identity signs) ─► Agent
//!           Report ─────────────────────► admit ─ Commit ─► … ─ ReportAccepted ──────► Agent
//! ```
//!
//! A driver of [`Controller`] does, for each output:
//! * [`Output::Commit`]: encode the writes, enqueue them in the order of the tickets, and say
//!   [`Input::Committed`] when they are durable; on failure end the process.
//! * [`Output::Answer`]: complete the waiting call. For an accepted Enroll it signs a certificate
//!   for the key that was asked for; asking again with the same key signs again.
//! * [`Output::CommandAnswer`]: complete the waiting call of a subcloud's site.
//! * [`Output::SendCertificate`]: sign for the key, and send it over the stream of that link.
//! * [`Output::Send`], [`Output::CloseLink`]: over the stream of that [`LinkId`].
//! * [`Output::SetTimer`]: one timer, replaced by the next.
//! * [`Output::Event`]: publish to watchers.
//!
//! # Invariants
//!
//! * Two admitted sites never hold the same link address, and all have the controller's link
//!   family (F4, F6): every change of a record passes [`admission::admit`] first.
//! * A token is spent at most once, by one key.
//! * A renewed key is durable at the controller before it is signed, and at the agent before it is
//!   used; the old one stays valid until then and never after. Two holders of one identity are
//!   both shut out, and nobody is who merely restarted, reconnected or was delayed. So a
//!   certificate that is newer than its record shows that the record was restored from a backup.
//! * Nothing is answered, acknowledged or published before it is durable.
//! * "Unknown" is a value of its own: no report is no empty site ([`Subcloud::observed`]), and
//!   an agent that has not come back yet is not offline ([`Availability`]).
//! * No command of an older term takes effect, and each is done at most once on its link.
//! * Every queue has a bound: [`MAX_COMMITS`] and [`MAX_COMMIT_BYTES`], one report in flight for each link, one link for
//!   each subcloud, [`MAX_COMMANDS_PER_LINK`] and [`MAX_COMMANDS`].
//!
//! # What this crate must not do
//!
//! No I/O, no clock, no randomness, no threads: time and chance are arguments. It knows no
//! protobuf and no certificates, only the fingerprints of keys.

pub mod admission;
mod agent;
mod alarm;
mod backoff;
mod command;
mod controller;
mod enroller;
mod entropy;
mod event;
mod fleet;
mod footprint;
pub mod group;
mod ids;
pub mod index;
mod message;
mod operators;
pub mod peer;
mod reason;
mod rollout;
mod subcloud;

pub use agent::{
    Agent, AgentInput, AgentOutput, AgentRecord, CONNECT_TIMEOUT, Cause, Credential, LinkStatus,
    REFUSED_RETRY, STABLE_AFTER, WELCOME_TIMEOUT,
};
pub use alarm::{
    AlarmCounts, AlarmKey, AlarmKind, AlarmStatus, AlarmSummary, FleetAlarm, SharedAlarm,
};
pub use backoff::{Backoff, LONG_BACKOFF, LONGEST_BACKOFF};
pub use command::{
    COMMAND_TIMEOUT, Command, CommandFailure, CommandOutcome, CommandResult, MAX_COMMAND_BYTES,
    MAX_COMMANDS, MAX_COMMANDS_BYTES, MAX_COMMANDS_PER_LINK, SiteMethod, foreseen,
};
pub use controller::{
    ANSWER_KEPT, AddOperator, AddSubcloud, Answer, AnsweredCall, AssociationView, Audited,
    Availability, Controller, ControllerConfig, Enroll, EnrollUnread, FLAP_MEMORY, FleetChange,
    GroupEdit, GroupView, HANDOVER_PATIENCE, HEARD_EVERY, HEARTBEAT_INTERVAL, HELLO_TIMEOUT, Input,
    IssueToken, MASS_OUTAGE, MAX_COMMIT_BYTES, MAX_COMMITS, MIGRATION_PATIENCE, MISSED_HEARTBEATS,
    NewToken, NoteDeed, Operate, Output, PENDING_HEARTBEATS, PeerAvailability, PeerView, Presence,
    REPORT_SPACING, RESTART_GRACE, Reach, Receipt, Records, RequestKey, RevokeOperator, RunCommand,
    SETTLED_HEARTBEATS, STALE_KEY, STRANGER_BURST, STRANGER_EVERY, SYNC_DELAY, Signed, SourceCheck,
    SubcloudEdit, TOKEN_TTL_MAX, TOKEN_TTL_MIN, Write, association_not_found,
    command_outcome_unknown, peer_group_not_found, subcloud_group_not_found, subcloud_not_found,
    system_peer_not_found,
};
pub use enroller::{Enroller, EnrollerInput, EnrollerOutput, Exit, Refusal};
pub use entropy::Entropy;
pub use event::{Action, Actor, AuditEntry, Event, EventKind, LOG_LIMIT, Outcome};
pub use fleet::{DEFAULT_FLEET_LIMIT, Fleet};
pub use footprint::{Candidate, Footprint, LinkNetwork, LinkPool};
pub use group::{SharedGroup, SubcloudGroup, UpdateApply};
pub use ids::{
    CardDigest, CommandId, ConnectionId, ControllerId, Endpoint, Epoch, Fingerprint, GroupId,
    InstanceId, KnownController, LinkId, NetworksDigest, PeerLinkId, Position, RequestId,
    SecretHash, SubcloudId, SyncDigest, Ticket, TokenId,
};
pub use message::{
    AgentMessage, Alternates, CertificateRequest, ControllerMessage, ControllerNetworks,
    ControllerPool, FAILOVER, FAILOVER_BOUNDS, Goodbye, GoodbyeReason, GrantedCertificate, Hello,
    MAX_ALTERNATES, MAX_REPORT_SPREAD, NetworksAnswer, Report, Welcome,
};
pub use operators::{MAX_OPERATORS, Operator, OperatorRole};
pub use peer::{
    AcceptPeering, Administrative, Association, AssociationState, Authority, Batch, Conflict,
    Correction, Established, FailurePolicy, Geo, GroupHeader, Leader, MAX_ENDPOINTS, MAX_GROUPS,
    MAX_HANDOVER, MAX_LINEAGE, MAX_PEERS, MAX_PRIORITY, MAX_SUBCLOUD_REHOMING, MAX_SYNC_BATCH,
    Migration, Offer, PEER_FAILURE_THRESHOLD, PEER_HEARTBEAT, PEER_HEARTBEAT_BOUNDS,
    PEER_THRESHOLD_BOUNDS, PeerAction, PeerAlarm, PeerCall, PeerCard, PeerEdit, PeerGoodbye,
    PeerGroup, PeerGroupId, PeerId, PeerInput, PeerMessage, PeerOutput, PeerReceipt, PeerSettings,
    PeerSeverity, PeerSubject, Peering, Pull, REHOMING_BOUNDS, SyncItem, SystemPeer, Withdrawn,
    judge_peer, judge_token_addresses,
};
pub use reason::{Code, Fault, MAX_KEPT_FAULTS, Object, Reason, ReasonSet, Rejection, Violation};
pub use rollout::{
    Addresses, Answered, BACKSTOP, Control, CreateRollout, Desired, FleetView, Foreseen,
    GroupBound, MAX_KEPT_ROLLOUTS, MAX_MEMBERS, MAX_OPEN_ROLLOUTS, MAX_PARALLEL, MAX_TABLE_BYTES,
    MAX_TEMPLATE_BYTES, Member, MemberState, Order, PoolAction, Rollout, RolloutCensus, RolloutId,
    RolloutInput, RolloutOutput, RolloutReceipt, RolloutRecords, RolloutRequest, RolloutState,
    RolloutWrite, Rollouts, Selector, Standing, Step, Steps, Table, Tally, Template, Verb,
    group_bounds, preview, rollout_not_found,
};
pub use subcloud::{
    Cloned, Enrolled, Enrollment, MAX_SUPERSEDED, Management, Observed, Pending, REPLAY_WINDOW,
    Refused, Renewal, SharedSubcloud, SpentToken, Subcloud, Superseded, Sync, Token,
};
