//! The controller's side of the fleet: a machine that owns the records and all links.
//!
//! Memory runs ahead of the disk, but nothing that anybody is told does: every answer,
//! acknowledgement and durable event is held until the write that it speaks of, and every write
//! before it, is on disk. A commit that fails ends the process, so nothing is ever rolled back.

mod alarms;
mod answers;
mod command;
mod commits;
mod enroll;
mod groups;
mod identity;
mod input;
mod link;
mod networks;
mod operate;
mod operator;
mod operators;
mod peers;
mod pending;
mod presence;
mod quarantine;
mod reach;
mod sightings;
mod strangers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use site::{Site, Timestamp};

use crate::admission::{ControllerView, would_break};
use crate::{
    Action, Actor, AuditEntry, Authority, ControllerId, ControllerMessage, ControllerNetworks,
    Endpoint, Entropy, Event, EventKind, Fingerprint, Fleet, Goodbye, GoodbyeReason, LinkId,
    Management, Operator, Outcome, Position, Reason, Rejection, SharedSubcloud, Standing,
    SubcloudId, Violation,
};

use alarms::AlarmBook;
pub use alarms::{FLAP_MEMORY, MASS_OUTAGE, SETTLED_HEARTBEATS};
pub use answers::ANSWER_KEPT;
use answers::Answers;
use command::Commands;
pub use command::command_outcome_unknown;
use commits::{Commits, Deferred};
pub use groups::subcloud_group_not_found;
pub use identity::STALE_KEY;
pub use input::{
    AddSubcloud, Answer, AnsweredCall, Audited, Enroll, EnrollUnread, FleetChange, GroupEdit,
    Input, IssueToken, NewToken, Operate, Output, Receipt, Records, RequestKey, RunCommand, Signed,
    SubcloudEdit, Write,
};
pub use link::HELLO_TIMEOUT;
use link::Link;
use networks::OwnNetworks;
pub use networks::REPORT_SPACING;
pub use operator::{TOKEN_TTL_MAX, TOKEN_TTL_MIN, subcloud_not_found};
pub use operators::{AddOperator, NoteDeed, RevokeOperator};
use peers::Peers;
pub use peers::{
    AssociationView, GroupView, HANDOVER_PATIENCE, MIGRATION_PATIENCE, PeerAvailability, PeerView,
    SYNC_DELAY, association_not_found, peer_group_not_found, system_peer_not_found,
};
pub use pending::PENDING_HEARTBEATS;
use pending::Pending;
pub use presence::{Availability, HEARD_EVERY, MISSED_HEARTBEATS, Presence, RESTART_GRACE};
use presence::{Wake, Wakeups};
use quarantine::Quarantine;
pub use reach::Reach;
use sightings::Sightings;
use strangers::Strangers;
pub use strangers::{STRANGER_BURST, STRANGER_EVERY};

/// How many writes may wait for the disk. Enrollments and operators' calls beyond it are told to
/// come back; reports beyond it wait, one for each link. A disk that does 1,600 batches a second
/// clears it in a fraction of one heartbeat.
pub const MAX_COMMITS: usize = 1024;

/// The same in bytes of records, by [`Write::weight`]: below what the store takes, and a bound of
/// memory when large sites report at once.
pub const MAX_COMMIT_BYTES: usize = 24 * 1024 * 1024;

/// What a controller is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Its id: the uuid of its site.
    pub id: ControllerId,
    /// Where agents find controllers, the preferred one first.
    pub controllers: Vec<Endpoint>,
    /// Whether rule F8 is asked, and links must come over the primary family.
    pub source_check: SourceCheck,
    /// How often agents send a heartbeat.
    pub heartbeat_interval: Duration,
    /// How many subclouds there may be (F9).
    pub fleet_limit: usize,
    /// How many events the log keeps.
    pub event_log_limit: u64,
    /// How many entries the audit log keeps.
    pub audit_log_limit: u64,
    /// Who signs this site's certificates; peers are told.
    pub authority: Authority,
    /// For how long agents wait for this controller before they turn to another one, where they
    /// are told of one ([`crate::FAILOVER_BOUNDS`]).
    pub failover: Duration,
}

/// Whether connections must come from the link primary pool (F8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceCheck {
    /// They must.
    Strict,
    /// Addresses are translated on the way, so they tell nothing.
    Off,
}

/// The default heartbeat interval.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// The machine. It starts from what is on disk ([`Controller::recover`]) and lives on
/// [`Controller::on`].
#[derive(Debug)]
pub struct Controller {
    config: ControllerConfig,
    fleet: Fleet,
    own: OwnNetworks,
    links: BTreeMap<LinkId, Link>,
    presence: BTreeMap<SubcloudId, Presence>,
    operators: BTreeMap<String, Operator>,
    sightings: Sightings,
    strangers: Strangers,
    /// The room for tellings of subclouds that no record knows.
    unknown: Strangers,
    /// What the clock shows by which certificates are dated, where that is not the clock of the
    /// inputs.
    dates: Option<Timestamp>,
    /// Links with a message that waits for room in the commits, in the order in which they came.
    parked: VecDeque<LinkId>,
    wakeups: Wakeups,
    commands: Commands,
    commits: Commits,
    peers: Peers,
    answers: Answers,
    alarms: AlarmBook,
    pending: Pending,
    quarantine: Quarantine,
    last_event: Position,
    last_audit: Position,
}

impl Controller {
    /// Starts from what is durable: nothing else survives a process. Availability is unknown
    /// until agents have had [`RESTART_GRACE`] to come back.
    pub fn recover(
        now: Timestamp,
        config: ControllerConfig,
        site: &Site,
        mut records: Records,
    ) -> (Self, Vec<Output>) {
        let subclouds = std::mem::take(&mut records.subclouds);
        let groups = std::mem::take(&mut records.groups);
        let answers = std::mem::take(&mut records.answers);
        let alarms = std::mem::take(&mut records.alarms);
        let operators = std::mem::take(&mut records.operators);
        let mut fleet = Fleet::new(ControllerView::of(site), config.fleet_limit);
        fleet.extend(subclouds);
        for group in groups {
            fleet.put_group(Arc::new(group));
        }
        let mut machine = Self {
            peers: Peers::new(Self::card_of(&config, site)),
            config,
            fleet,
            own: OwnNetworks::of(site),
            links: BTreeMap::new(),
            presence: BTreeMap::new(),
            operators: operators
                .into_iter()
                .map(|known| (known.name.clone(), known))
                .collect(),
            sightings: Sightings::default(),
            strangers: Strangers::new(now),
            unknown: Strangers::new(now),
            dates: None,
            parked: VecDeque::new(),
            wakeups: Wakeups::default(),
            commands: Commands::default(),
            commits: Commits::default(),
            last_event: records.last_event,
            last_audit: records.last_audit,
            answers: Answers::recovered(answers),
            alarms: AlarmBook::default(),
            pending: Pending::default(),
            quarantine: Quarantine::default(),
        };
        let enrolled: Vec<SubcloudId> = machine
            .fleet
            .subclouds()
            .filter(|subcloud| subcloud.enrolled().is_some() && subcloud.owned_here())
            .map(|subcloud| subcloud.id)
            .collect();
        for id in enrolled {
            machine.await_first_link(now, id, RESTART_GRACE);
        }
        machine.recover_peers(now, &mut records);
        machine.recover_alarms(alarms);
        let mut out = Vec::new();
        machine.settle_fleet_alarms(now, &mut out);
        out.extend(machine.wakeups.arm());
        (machine, out)
    }

    /// One step. The outputs are to be carried out in their order.
    pub fn on(&mut self, now: Timestamp, entropy: &mut dyn Entropy, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::AddSubcloud(call) => self.add_subcloud(now, call, &mut out),
            Input::IssueToken(call) => self.issue_token(now, call, &mut out),
            Input::Operate(call) => self.operate(now, call, &mut out),
            Input::Enroll(call) => self.enroll(now, call, &mut out),
            Input::EnrollUnread(call) => self.enroll_unread(now, call, &mut out),
            Input::AddOperator(call) => self.add_operator(now, call, &mut out),
            Input::RevokeOperator(call) => self.revoke_operator(now, call, &mut out),
            Input::NoteDeed(call) => self.note_deed(now, call, &mut out),
            Input::RunCommand(call) => self.run_command(now, call, &mut out),
            Input::Audited(call) => self.audited(now, call, &mut out),
            Input::AllAwaited(all) => self.all_awaited(now, all),
            Input::Awaited { subcloud, rollout } => self.awaited(now, subcloud, rollout),
            Input::LinkOpened {
                link,
                subcloud,
                key,
                signed,
                source,
            } => {
                let proof = Proof { key, signed };
                self.link_opened(now, link, subcloud, proof, source, &mut out);
            }
            Input::LinkMessage { link, message } => {
                self.link_message(now, entropy, link, message, &mut out);
            }
            Input::LinkHeard { link } => self.link_heard(now, link, &mut out),
            Input::LinkClosed { link } => self.link_closed(now, link, &mut out),
            Input::ControllerSiteAccepted(view) => self.site_accepted(&view),
            Input::ControllerSiteChanged(site) => {
                self.site_changed(now, &site, &mut out);
                self.peers_hear_of_site(now, &site, &mut out);
            }
            Input::Timer => self.timer(now, entropy, &mut out),
            Input::Peer(input) => self.peer_input(now, entropy, input, &mut out),
            Input::Committed { ticket } => {
                for deferred in self.commits.committed(ticket) {
                    self.release(deferred, &mut out);
                }
                self.unpark(now, entropy, &mut out);
            }
            Input::ShuttingDown => self.say_goodbye(now, &mut out),
        }
        self.settle_peers(now, entropy, &mut out);
        self.ask_again(&mut out);
        self.settle_fleet_alarms(now, &mut out);
        out.extend(self.wakeups.arm());
        out
    }

    /// Tells what the clock shows by which certificates are dated, for the inputs that follow. A
    /// driver whose two clocks may differ says so before each input.
    pub fn dates_by(&mut self, clock: Timestamp) {
        self.dates = Some(clock);
    }

    /// How a certificate is dated that is signed now.
    fn dating(&self, now: Timestamp) -> Timestamp {
        self.dates.unwrap_or(now)
    }

    /// Keeps a call that another machine has judged.
    fn audited(&mut self, now: Timestamp, call: Audited, out: &mut Vec<Output>) {
        let mut batch = Batch::default();
        let deed = Deed {
            actor: call.actor,
            action: call.action,
            subcloud: None,
            name: &call.name,
            outcome: call.outcome,
        };
        self.log_audit(&mut batch, now, deed);
        self.commit(batch, out);
    }

    /// The records. Memory runs ahead of the disk: what is read here may not be durable yet.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What is known of a subcloud's link.
    pub fn presence(&self, id: SubcloudId) -> Presence {
        self.presence.get(&id).copied().unwrap_or_default()
    }

    /// What the controller was told at its start.
    pub fn config(&self) -> &ControllerConfig {
        &self.config
    }

    /// The controller's own networks as its subclouds shall know them.
    pub fn networks(&self) -> &ControllerNetworks {
        &self.own.networks
    }

    /// Whether commands can go out to a subcloud now.
    pub fn standing(&self, id: SubcloudId) -> Standing {
        let Some(record) = self.fleet.subcloud(id) else {
            return Standing::Gone;
        };
        if record.enrolled().is_none() {
            return Standing::NotEnrolled;
        }
        // What obeys another controller is as good as unmanaged here.
        if record.management == Management::Unmanaged || !record.owned_here() {
            return Standing::Unmanaged;
        }
        if record.quarantined() {
            return Standing::Quarantined;
        }
        let link = self
            .presence(id)
            .link
            .and_then(|link| self.links.get(&link));
        match link {
            Some(link) if link.greeted && link.reported => Standing::Ready,
            Some(_) => Standing::Behind,
            None => Standing::Offline,
        }
    }

    /// How many links are open.
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// How many writes wait for the disk.
    pub fn commits_waiting(&self) -> usize {
        self.commits.len()
    }

    /// Whether a change of the controller's own site would break subclouds.
    ///
    /// # Errors
    /// `WOULD_BREAK_SUBCLOUDS`, a violation for each subcloud and rule.
    pub fn would_break(&self, next: &ControllerView) -> Result<(), Rejection> {
        would_break(&self.fleet, next)
    }

    /// Judges everything against a change of the controller's own site from now on.
    fn site_accepted(&mut self, view: &ControllerView) {
        if self.fleet.controller() == view {
            return;
        }
        self.fleet.set_controller(view.clone());
        self.own_site_moved();
    }

    /// Asks every agent to come back to the next process.
    fn say_goodbye(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        self.parked.clear();
        for link in std::mem::take(&mut self.links).into_keys() {
            self.commands_lost(now, link, out);
            out.push(Output::CloseLink {
                link,
                goodbye: Goodbye::because(GoodbyeReason::ShuttingDown),
            });
        }
        self.part_from_peers(now, out);
    }

    /// Asks for a write; what is deferred comes out when it, and all before it, is durable.
    fn commit(&mut self, mut batch: Batch, out: &mut Vec<Output>) {
        let mut deferred: Vec<Deferred> = batch
            .events
            .drain(..)
            .map(|event| Deferred::Output(Output::Event(event)))
            .collect();
        deferred.append(&mut batch.then);
        if batch.writes.is_empty() {
            // Nothing to make durable; what follows still waits for what was written before.
            for deferred in deferred {
                self.after_all(deferred, out);
            }
            return;
        }
        let (ticket, output) = self.commits.submit(batch.writes, deferred);
        out.push(output);
        for id in batch.subclouds {
            self.presence.entry(id).or_default().written = Some(ticket);
        }
    }

    fn release(&mut self, deferred: Deferred, out: &mut Vec<Output>) {
        match deferred {
            Deferred::Output(output) => out.push(output),
            Deferred::Greet { link, welcome } => {
                let Some(state) = self.links.get_mut(&link) else {
                    return;
                };
                state.greeted = true;
                state.alternates = welcome.alternates.clone();
                let subcloud = state.subcloud;
                self.arrived(subcloud);
                self.alternates_due(subcloud);
                out.push(Output::Send {
                    link,
                    message: ControllerMessage::Welcome(welcome),
                });
                // It has time to answer since Hello; agents come one after another as it is.
                let since = self.presence(subcloud).last_seen.unwrap_or_default();
                self.tell_networks(since, link, Duration::ZERO, out);
            }
        }
    }

    /// Emits something as soon as every write asked for so far is durable: it may rest on any.
    fn after_all(&mut self, deferred: Deferred, out: &mut Vec<Output>) {
        if let Some(now) = self.commits.after_all(deferred) {
            self.release(now, out);
        }
    }

    /// Emits something as soon as the newest write of one record is durable.
    fn after_record(&mut self, id: SubcloudId, deferred: Deferred, out: &mut Vec<Output>) {
        let written = self.presence.get(&id).and_then(|presence| presence.written);
        let now = match written {
            Some(ticket) => self.commits.after(ticket, deferred),
            None => Some(deferred),
        };
        if let Some(now) = now {
            self.release(now, out);
        }
    }

    /// A refusal when too much waits for the disk.
    fn busy(&self) -> Option<Violation> {
        self.commits.is_full().then(|| {
            let waiting = self.commits.len();
            Violation::new(
                Reason::ControllerBusy,
                format!("{waiting} changes wait for the controller's disk"),
                "try again in a few seconds; if it lasts, look at the disk of the controller",
            )
            .fact("limit", MAX_COMMITS)
        })
    }

    fn put(&mut self, batch: &mut Batch, subcloud: impl Into<SharedSubcloud>) -> SharedSubcloud {
        let mut shared = subcloud.into();
        self.count_edit(Arc::make_mut(&mut shared));
        let old = self.fleet.subcloud(shared.id).map(Arc::clone);
        batch.subclouds.push(shared.id);
        batch.writes.push(Write::Subcloud(Arc::clone(&shared)));
        self.fleet.put(Arc::clone(&shared));
        self.shared_changed(old.as_deref(), Some(&shared));
        self.followed(batch, old.as_ref(), Some(&shared));
        shared
    }

    /// What a call about a subcloud is answered.
    fn receipt(&self, subcloud: SharedSubcloud, warnings: Vec<Violation>) -> Receipt {
        Receipt {
            presence: self.presence(subcloud.id),
            group: self.fleet.group_of(&subcloud).name.clone(),
            subcloud,
            warnings,
            replayed: false,
        }
    }

    fn log_event(
        &mut self,
        batch: &mut Batch,
        now: Timestamp,
        subcloud: Option<SubcloudId>,
        name: &str,
        kind: EventKind,
    ) {
        self.last_event.0 += 1;
        let event = Event {
            position: self.last_event,
            at: now,
            subcloud,
            name: shortened(name),
            kind,
        };
        batch.writes.push(Write::Event(event.clone()));
        if let Some(old) = beyond_limit(self.last_event, self.config.event_log_limit) {
            batch.writes.push(Write::ForgetEvent(old));
        }
        batch.events.push(event);
    }

    fn log_audit(&mut self, batch: &mut Batch, now: Timestamp, deed: Deed<'_>) {
        self.last_audit.0 += 1;
        batch.writes.push(Write::Audit(AuditEntry {
            position: self.last_audit,
            at: now,
            actor: deed.actor,
            action: deed.action,
            subcloud: deed.subcloud,
            name: shortened(deed.name),
            outcome: deed.outcome.kept(),
        }));
        if let Some(old) = beyond_limit(self.last_audit, self.config.audit_log_limit) {
            batch.writes.push(Write::ForgetAudit(old));
        }
    }
}

/// One atomic write in the making, and what it sets free.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    events: Vec<Event>,
    then: Vec<Deferred>,
    /// The records of subclouds among the writes.
    subclouds: Vec<SubcloudId>,
}

/// What an agent proved on its connection.
#[derive(Debug, Clone, Copy)]
struct Proof {
    /// The key of its certificate.
    key: Fingerprint,
    /// Who signed it.
    signed: Option<Signed>,
}

/// What an audit entry tells.
struct Deed<'a> {
    actor: Actor,
    action: Action,
    subcloud: Option<SubcloudId>,
    name: &'a str,
    outcome: Outcome,
}

/// The entry that falls out of a log when one is added at `newest`.
fn beyond_limit(newest: Position, limit: u64) -> Option<Position> {
    newest
        .0
        .checked_sub(limit)
        .filter(|old| *old > 0)
        .map(Position)
}

/// The most characters of a name that a log keeps: strangers choose what they call themselves.
const MAX_LOGGED_NAME: usize = 128;

fn shortened(name: &str) -> String {
    if name.chars().count() <= MAX_LOGGED_NAME {
        return name.to_owned();
    }
    let kept: String = name.chars().take(MAX_LOGGED_NAME).collect();
    format!("{kept}…")
}
