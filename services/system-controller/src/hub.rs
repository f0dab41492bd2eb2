//! Drives the fleet's machine: feeds it what happens and carries out what it asks for.
//!
//! The machine decides under one lock, which is never held across an await or the disk. What it
//! asks to be written is handed to the store in the order of its tickets; one task waits for the
//! disk and says so. Readers see only what is durable.

mod durable;
mod neighbours;
mod peer;
mod raised;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use api::mutation::Mutation;
use daemon::{Failure, KnownOperator, KnownOperators, Life, SystemEntropy, defect, fatal, now};
use fleet::{
    Actor, AgentMessage, Answer, CommandOutcome, Controller, ControllerConfig, ControllerMessage,
    EventKind, Fingerprint, FleetChange, GoodbyeReason, Input, LinkId, Operate, Operator, Output,
    Reason, Rejection, RequestId, RequestKey, RunCommand, SharedSubcloud, Signed, SubcloudId,
    Ticket, Violation, Write,
};
use identity::{Connections, Identity, SpkiSha256};
use site::{Change, Site, SiteParts, Timestamp};
use store::Store;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::durable::Durable;
pub(crate) use self::durable::{Shared, Shown};
use self::peer::{Dials, PeerLinks};
pub(crate) use self::peer::{Unpeered, Wire};
use crate::fleet_history::{FleetHistory, Next, What};
use crate::grpc::{certified, timestamp};
use crate::issuer::Issuer;
use crate::metrics::{Metrics, ReportOutcome};
use crate::records::{read_fleet, read_subcloud_site, store_writes};

/// Messages that may wait for one link. The controller says little: a welcome, its networks, an
/// acknowledgement for each of at most one report in flight, and a few commands.
const LINK_QUEUE: usize = 32;

/// How long an agent may take to read the goodbye before its connection is closed under it:
/// within a second of a revocation nothing of it is left.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The driver.
#[derive(Debug)]
pub(crate) struct Hub {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    connections: Connections,
    wire: Wire,
    dials: Dials,
    driven: Mutex<Driven>,
    durable: RwLock<Durable>,
    issuer: Arc<Issuer>,
    /// What the store has taken, in order: as much as the machine itself counts as under way. The
    /// store makes whoever hands it more wait for room, so only what is durable can pile up here,
    /// until the next turn of the task that reads it.
    commits: mpsc::UnboundedSender<Committing>,
    timer: watch::Sender<Option<Timestamp>>,
    /// Subclouds of which something changed, until rollouts have heard of it; at most the fleet.
    stirred: Mutex<BTreeSet<SubcloudId>>,
    stirs: Notify,
    operators: Arc<KnownOperators>,
    history: Mutex<FleetHistory>,
}

#[derive(Debug)]
struct Driven {
    machine: Controller,
    answers: HashMap<RequestId, oneshot::Sender<Result<Answer, Rejection>>>,
    commands: HashMap<RequestId, oneshot::Sender<CommandOutcome>>,
    links: HashMap<LinkId, LinkSender>,
    peers: PeerLinks,
    last_request: u64,
    last_link: u64,
    /// It was told that the records are older than a certificate.
    restored: bool,
}

/// The controller's end of one link's outgoing stream.
#[derive(Debug)]
struct LinkSender {
    /// Boxed: a queue keeps room for 32 entries, and most links are idle.
    messages: mpsc::Sender<Box<ControllerMessage>>,
    close: CancellationToken,
    caller: LinkCaller,
}

/// Who opened a link, and over what.
#[derive(Debug, Clone)]
pub(crate) struct LinkCaller {
    /// The subcloud that the certificate names.
    pub(crate) subcloud: SubcloudId,
    /// The key of the certificate.
    pub(crate) key: Fingerprint,
    /// Where the connection comes from.
    pub(crate) source: IpAddr,
    /// Who signed the certificate.
    pub(crate) signed: Option<Signed>,
    /// Closes the connection.
    pub(crate) connection: CancellationToken,
}

/// A write on its way to the disk.
#[derive(Debug)]
struct Committing {
    ticket: Ticket,
    durable: store::Ticket,
    /// What readers see once it is there.
    shown: Vec<Write>,
    since: Instant,
}

/// A call that the machine has been asked and that waits for its answer.
#[derive(Debug)]
pub(crate) struct Begun(oneshot::Receiver<Result<Answer, Rejection>>);

impl Begun {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn wait<A: TryFrom<Answer>>(self) -> Result<A, Rejection> {
        let Self(answer) = self;
        let answer = answer
            .await
            .unwrap_or_else(|_| Err(Rejection::one(stopping())))?;
        A::try_from(answer).map_err(|_| Rejection::one(misunderstood()))
    }
}

/// A link as its handler holds it.
#[derive(Debug)]
pub(crate) struct OpenLink {
    /// Names the link.
    pub(crate) id: LinkId,
    /// What to send to the agent.
    pub(crate) messages: mpsc::Receiver<Box<ControllerMessage>>,
    /// Cancelled when the controller ends the link.
    pub(crate) close: CancellationToken,
}

impl Hub {
    /// Starts the machine from what is on disk, and the tasks that drive it.
    pub(crate) fn start(
        life: &Life,
        store: Arc<Store>,
        config: ControllerConfig,
        issuer: Arc<Issuer>,
        site: &Site,
        (metrics, connections, history): (Arc<Metrics>, Connections, FleetHistory),
        wire: Wire,
    ) -> Result<Arc<Self>, Failure> {
        let records = read_fleet(&store)?;
        let durable = Durable::of(&records);
        let operators = Arc::new(KnownOperators::default());
        for operator in &records.operators {
            operators.put(&operator.name, known_operator(operator));
        }
        let (machine, outputs) = Controller::recover(now(), config, site, records);
        let (commits, committing) = mpsc::unbounded_channel();
        let driven = Driven {
            machine,
            answers: HashMap::new(),
            commands: HashMap::new(),
            links: HashMap::new(),
            peers: PeerLinks::default(),
            last_request: 0,
            last_link: 0,
            restored: false,
        };
        let (dials, dialling) = peer::dials();
        let hub = Arc::new(Self {
            store,
            metrics,
            connections,
            wire,
            dials,
            driven: Mutex::new(driven),
            durable: RwLock::new(durable),
            issuer,
            commits,
            timer: watch::Sender::new(None),
            stirred: Mutex::default(),
            stirs: Notify::new(),
            operators,
            history: Mutex::new(history),
        });
        hub.trust_peers(&hub.lock());
        hub.carry_out(&mut hub.lock(), outputs);
        life.spawn(Arc::clone(&hub).dial_peers(dialling, life.clone()));
        life.spawn_last(Arc::clone(&hub).commit_in_order(committing, life.quiet()));
        life.spawn(Arc::clone(&hub).keep_time(life.stopping()));
        Ok(hub)
    }

    /// Asks the machine for something and waits for the answer.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn ask<A: TryFrom<Answer>>(
        &self,
        question: impl FnOnce(RequestId) -> Input,
    ) -> Result<A, Rejection> {
        self.begin(question).wait().await
    }

    /// Asks the machine for something. What it has to write for that is before everything that
    /// is handed to the disk after this.
    fn begin(&self, question: impl FnOnce(RequestId) -> Input) -> Begun {
        self.begin_locked(&mut self.lock(), question)
    }

    fn begin_locked(
        &self,
        driven: &mut Driven,
        question: impl FnOnce(RequestId) -> Input,
    ) -> Begun {
        driven.last_request += 1;
        let request = RequestId(driven.last_request);
        let (sender, answer) = oneshot::channel();
        driven.answers.insert(request, sender);
        self.feed_locked(driven, question(request));
        Begun(answer)
    }

    /// Some of the changes after a revision.
    pub(crate) fn changes_after(&self, revision: u64) -> Next {
        self.history().after(revision)
    }

    /// Tells the revision of every change.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.history().revisions()
    }

    /// Whose certificates count.
    pub(crate) fn operators(&self) -> &Arc<KnownOperators> {
        &self.operators
    }

    /// Has a command carried out at a subcloud and waits for what comes of it: at the latest when
    /// its deadline has passed.
    pub(crate) async fn command(
        &self,
        command: impl FnOnce(RequestId) -> RunCommand,
    ) -> CommandOutcome {
        let (answer, stopped) = {
            let mut driven = self.lock();
            driven.last_request += 1;
            let request = RequestId(driven.last_request);
            let (sender, answer) = oneshot::channel();
            driven.commands.insert(request, sender);
            let command = command(request);
            let stopped = stopped_before(&command);
            self.feed_locked(&mut driven, Input::RunCommand(command));
            (answer, stopped)
        };
        answer
            .await
            .unwrap_or_else(|_| CommandOutcome::Refused(Rejection::one(stopped)))
    }

    /// A subcloud's site as a change would make it, as far as its last accepted report tells.
    pub(crate) fn foresee(&self, subcloud: &str, change: Change) -> Option<Arc<SiteParts>> {
        let id = self.lock().machine.fleet().find(subcloud)?.id;
        let read = read_subcloud_site(&self.store, id);
        let site = read
            .inspect_err(|error| tracing::error!(%error, "a subcloud's site cannot be read"))
            .ok()??;
        fleet::foreseen(&site, change, now()).map(Arc::new)
    }

    /// Asks the machine for an operator's change; the same request gets the same answer.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn operate<R: Mutation, A: TryFrom<Answer>>(
        &self,
        actor: Actor,
        method: &'static str,
        asked: &R,
        change: FleetChange,
    ) -> Result<A, Rejection> {
        let key = request_key(method, asked);
        let validate_only = asked.validate_only();
        self.ask(|request| {
            Input::Operate(Operate {
                request,
                actor,
                change,
                key,
                validate_only,
            })
        })
        .await
    }

    /// Tells the machine what happened.
    pub(crate) fn feed(&self, input: Input) {
        self.feed_locked(&mut self.lock(), input);
    }

    /// Announces a link; the handler then feeds its messages and its end.
    pub(crate) fn open_link(&self, caller: LinkCaller) -> OpenLink {
        let LinkCaller {
            subcloud,
            key,
            source,
            signed,
            connection: _,
        } = caller;
        let mut driven = self.lock();
        driven.last_link += 1;
        let id = LinkId(driven.last_link);
        let (sender, messages) = mpsc::channel(LINK_QUEUE);
        let close = CancellationToken::new();
        let link = LinkSender {
            messages: sender,
            close: close.clone(),
            caller,
        };
        driven.links.insert(id, link);
        self.feed_locked(
            &mut driven,
            Input::LinkOpened {
                link: id,
                subcloud,
                key,
                signed,
                source,
            },
        );
        OpenLink {
            id,
            messages,
            close,
        }
    }

    /// A message came over a link.
    pub(crate) fn link_message(&self, link: LinkId, message: AgentMessage) {
        match &message {
            AgentMessage::Heartbeat => {
                self.metrics.heartbeats.inc();
            }
            AgentMessage::NetworksAnswer(answer) => self.metrics.networks_answered(answer),
            _ => {}
        }
        self.feed(Input::LinkMessage { link, message });
    }

    /// A link is gone.
    pub(crate) fn close_link(&self, link: LinkId) {
        let mut driven = self.lock();
        driven.links.remove(&link);
        self.feed_locked(&mut driven, Input::LinkClosed { link });
    }

    /// How many links are open, and how many writes wait for the disk.
    pub(crate) fn load(&self) -> (usize, usize) {
        let driven = self.lock();
        (driven.machine.links(), driven.machine.commits_waiting())
    }

    /// Where happenings are counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Lets somebody look at the machine. Nothing may be awaited meanwhile.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Controller) -> T) -> T {
        at(&self.lock().machine)
    }

    /// Waits until something changed about subclouds, and tells which.
    pub(crate) async fn stirred(&self) -> BTreeSet<SubcloudId> {
        loop {
            let heard = self.stirs.notified();
            let stirred = std::mem::take(&mut *self.stirring());
            if !stirred.is_empty() {
                return stirred;
            }
            heard.await;
        }
    }

    /// Leaves word that something about a subcloud changed.
    fn stir(&self, subcloud: SubcloudId) {
        self.stirring().insert(subcloud);
        self.stirs.notify_one();
    }

    fn stirring(&self) -> MutexGuard<'_, BTreeSet<SubcloudId>> {
        self.stirred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store, for what is only shown.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn feed_locked(&self, driven: &mut Driven, input: Input) {
        driven.machine.dates_by(timestamp(SystemTime::now()));
        let outputs = driven.machine.on(now(), &mut SystemEntropy, input);
        self.carry_out(driven, outputs);
    }

    fn carry_out(&self, driven: &mut Driven, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Commit { ticket, writes } => self.commit(ticket, &writes),
                Output::Answer { request, outcome } => {
                    if let Some(waiting) = driven.answers.remove(&request)
                        && waiting.send(outcome).is_err()
                    {
                        tracing::debug!(?request, "nobody waits for the answer any more");
                    }
                }
                Output::CommandAnswer { request, outcome } => {
                    self.metrics.commanded(&outcome);
                    if let Some(waiting) = driven.commands.remove(&request)
                        && waiting.send(outcome).is_err()
                    {
                        tracing::debug!(?request, "nobody waits for the answer any more");
                    }
                }
                // A signature takes some 100 µs, and a fleet of 10,000 asks once in 4 s.
                Output::SendCertificate {
                    link,
                    subcloud,
                    request,
                } => match self.issuer.renew(&request, subcloud) {
                    Ok(granted) => send(driven, link, ControllerMessage::Certificate(granted)),
                    Err(error) => {
                        tracing::error!(%subcloud, %error, "a certificate cannot be renewed");
                    }
                },
                Output::Send { link, message } => {
                    self.count(&message);
                    if let Some(sender) = driven.links.get(&link).filter(|_| message.stirs()) {
                        self.stir(sender.caller.subcloud);
                    }
                    send(driven, link, message);
                }
                Output::CloseLink { link, goodbye } => {
                    let reason = goodbye.reason;
                    self.metrics.said_goodbye(reason.name());
                    send(driven, link, ControllerMessage::Goodbye(goodbye));
                    // The handler sends what is queued, then ends the stream.
                    if let Some(sender) = driven.links.remove(&link) {
                        sender.close.cancel();
                        self.close_connections(sender.caller, reason);
                    }
                }
                Output::SetTimer { at } => {
                    self.timer.send_replace(Some(at));
                }
                Output::Peer(output) => self.carry_out_for_peers(driven, output),
                Output::UnknownSubcloud {
                    subcloud,
                    source,
                    others,
                } => {
                    self.metrics.unknown_subclouds.inc();
                    if let Some(others) = others {
                        tracing::warn!(
                            %subcloud,
                            %source,
                            others_not_logged = others,
                            "an agent has a certificate of this controller for a subcloud that is \
                             not enrolled here: it was deleted, or added after the backup that \
                             this controller was restored from; the log of its agent tells its \
                             name"
                        );
                    }
                }
                Output::Event(event) => {
                    if let Some(subcloud) = event.subcloud {
                        self.stir(subcloud);
                    }
                    tracing::info!(
                        subcloud = event.name,
                        kind = event.kind.name(),
                        "fleet event"
                    );
                    if matches!(event.kind, EventKind::CertificateNewer) && !driven.restored {
                        driven.restored = true;
                        tracing::warn!(
                            subcloud = event.name,
                            "this controller's state is older than the certificate of a subcloud: \
                             it was restored from a backup; every subcloud that is found to be \
                             ahead has the event CERTIFICATE_NEWER"
                        );
                    }
                    self.history().publish(What::Event(event));
                }
            }
        }
    }

    /// Closes the connection of a link that was ended, for agents that do not do it themselves;
    /// after a revocation every other connection with the same key as well.
    fn close_connections(&self, caller: LinkCaller, reason: GoodbyeReason) {
        // A process that stops closes all its connections itself, in order.
        if reason == GoodbyeReason::ShuttingDown {
            return;
        }
        let connections = self.connections.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LAST_WORDS).await;
            caller.connection.cancel();
            if reason == GoodbyeReason::Revoked {
                connections.close_where(|certificate| {
                    certificate.identity == Identity::Subcloud(caller.subcloud.0)
                        && certificate.spki.as_bytes() == &caller.key.0
                });
            }
        });
    }

    fn count(&self, message: &ControllerMessage) {
        match message {
            ControllerMessage::ReportAccepted { .. } => {
                self.metrics.reported(ReportOutcome::Accepted);
            }
            ControllerMessage::ReportRefused { .. } => {
                self.metrics.reported(ReportOutcome::Refused);
            }
            _ => {}
        }
    }

    /// Hands writes to the disk. The order of the calls is the order of the tickets.
    fn commit(&self, ticket: Ticket, writes: &[Write]) {
        let durable = match self.store.enqueue_when_room(store_writes(writes)) {
            Ok(durable) => durable,
            Err(error) => fatal(
                "a change of the fleet could not be handed to the disk",
                &error,
            ),
        };
        let shown = |write: &&Write| {
            matches!(
                write,
                Write::Subcloud(_)
                    | Write::ForgetSubcloud(_)
                    | Write::Group(_)
                    | Write::ForgetGroup(_)
                    | Write::Alarm(_)
                    | Write::ForgetAlarm(_)
                    | Write::Operator(_)
                    | Write::Peer(_)
                    | Write::ForgetPeer(_)
                    | Write::PeerGroup(_)
                    | Write::ForgetPeerGroup(_)
                    | Write::Association(_)
                    | Write::ForgetAssociation(..)
            )
        };
        let committing = Committing {
            ticket,
            durable,
            shown: writes.iter().filter(shown).cloned().collect(),
            since: Instant::now(),
        };
        if self.commits.send(committing).is_err() {
            // Only when the process ends: the disk has it, and nobody is left to be told.
            tracing::debug!(?ticket, "nobody waits for the disk any more");
        }
    }

    async fn commit_in_order(
        self: Arc<Self>,
        mut committing: mpsc::UnboundedReceiver<Committing>,
        quiet: CancellationToken,
    ) {
        loop {
            let next = tokio::select! {
                biased;
                next = committing.recv() => next,
                () = quiet.cancelled() => None,
            };
            let Some(Committing {
                ticket,
                durable,
                shown,
                since,
            }) = next
            else {
                return;
            };
            if let Err(error) = durable.durable().await {
                fatal("a change of the fleet could not be made durable", &error);
            }
            self.metrics.committed(since.elapsed());
            let mut changed = Vec::new();
            for write in &shown {
                match write {
                    Write::Subcloud(subcloud) => changed.push(Arc::clone(subcloud)),
                    Write::Operator(operator) => {
                        self.operators.put(&operator.name, known_operator(operator));
                    }
                    _ => {}
                }
            }
            if !shown.is_empty() {
                let mut durable = self.durable.write().unwrap_or_else(PoisonError::into_inner);
                for write in shown {
                    durable.apply(write);
                }
            }
            self.committed(ticket, &changed);
        }
    }

    /// Tells the machine that a write is durable, and watchers of the records that changed
    /// without an event.
    fn committed(&self, ticket: Ticket, changed: &[SharedSubcloud]) {
        let mut driven = self.lock();
        let before = self.history().revision();
        self.feed_locked(&mut driven, Input::Committed { ticket });
        let mut history = self.history();
        for record in changed {
            if !history.told(record.id, before) {
                history.publish(What::Record(record.id, record.name.as_str().into()));
            }
        }
    }

    fn history(&self) -> MutexGuard<'_, FleetHistory> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the machine at the moment that it asked for last.
    async fn keep_time(self: Arc<Self>, stop: CancellationToken) {
        let mut timer = self.timer.subscribe();
        loop {
            let due = *timer.borrow_and_update();
            let until_due = async {
                match due {
                    Some(at) => tokio::time::sleep(until(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return self.feed(Input::ShuttingDown),
                changed = timer.changed() => if changed.is_err() { return },
                () = until_due => {
                    self.timer.send_if_modified(|set| {
                        if *set == due { *set = None; }
                        false
                    });
                    self.feed(Input::Timer);
                }
            }
        }
    }

    /// Nobody goes on with a machine of which a step broke off: what that step had to write may never
    /// have been handed to the disk, and the next write that is durable would stand for it.
    fn lock(&self) -> MutexGuard<'_, Driven> {
        let driven = self.driven.lock();
        driven.unwrap_or_else(|_| defect("a step of the fleet's machine broke off"))
    }
}

/// Queues a message for a link. An agent that does not read its few messages is cut off: it
/// comes back and is told again.
fn send(driven: &mut Driven, link: LinkId, message: ControllerMessage) {
    let Some(sender) = driven.links.get(&link) else {
        return;
    };
    // A heartbeat says that this site is there, and so does what waits for the network already.
    let waits = sender.messages.capacity() < sender.messages.max_capacity();
    if waits && matches!(message, ControllerMessage::Heartbeat) {
        return;
    }
    // One that is closed has ended by itself, and says so next.
    if let Err(mpsc::error::TrySendError::Full(_)) = sender.messages.try_send(Box::new(message)) {
        tracing::warn!(
            ?link,
            "an agent does not take its messages; ending its connection"
        );
        // Whoever does not read does not take the end of the stream either.
        sender.close.cancel();
        sender.caller.connection.cancel();
    }
}

/// By which a request is known when it comes again; `None` when the client gave it no id.
fn request_key<R: Mutation>(method: &str, asked: &R) -> Option<RequestKey> {
    let id = asked.request_id();
    (!id.is_empty()).then(|| RequestKey {
        id: id.to_owned(),
        fingerprint: daemon::fingerprint(method, asked),
    })
}

/// What counts of an operator at the listeners.
fn known_operator(operator: &Operator) -> KnownOperator {
    KnownOperator {
        role: certified(operator.role),
        key: SpkiSha256::from_bytes(operator.key.0),
        revoked: operator.revoked_at.is_some(),
    }
}

/// How long until a moment; not at all when it has passed.
fn until(at: Timestamp) -> Duration {
    Duration::from_millis(at.0.saturating_sub(now().0))
}

/// The machine answered another kind of question than it was asked: a defect.
fn misunderstood() -> Violation {
    tracing::error!("the fleet's machine answered another kind of question");
    Violation::new(
        Reason::ControllerBusy,
        "the controller does not understand its own answer",
        "look at the state that the call was about, and report a defect",
    )
}

/// What is told of a command when the controller stops before the answer.
fn stopped_before(command: &RunCommand) -> Violation {
    let RunCommand {
        subcloud,
        method,
        request_id,
        ..
    } = command;
    if command.changes {
        fleet::command_outcome_unknown(subcloud, *method, request_id)
    } else {
        stopping()
    }
}

/// What is told when the controller stops before the answer.
pub(crate) fn stopping() -> Violation {
    Violation::new(
        Reason::ControllerBusy,
        "the controller stops",
        "try again when it is back; nothing was changed unless the call had succeeded",
    )
}
