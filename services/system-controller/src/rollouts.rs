//! Drives the machine of rollouts: as [`crate::hub`] does for the fleet's, and beside it.
//!
//! The machine is asked under a lock of its own, inside which the hub's lock may be taken to
//! look at the fleet; the hub never takes them the other way round, it only leaves word of the
//! subclouds of which something changed.

mod records;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::convert::command_of;
use daemon::{Failure, Life, defect, fatal, now};
use fleet::{
    Actor, Answered, COMMAND_TIMEOUT, ControllerId, Fault, Input, Member, Rejection, RequestId,
    Rollout, RolloutCensus, RolloutId, RolloutInput, RolloutOutput, RolloutReceipt, Rollouts,
    RunCommand, Standing, Step, SubcloudId, Ticket,
};
use site::{Change, Timestamp};
use store::Store;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::hub::Hub;
use crate::records::read_subcloud_site;
use records::{forget, read_all, store_write};
pub(crate) use records::{read_members, read_rollout, read_rollouts};

/// Changes that may wait for a slow watcher before it is cut off: two for each subcloud of a
/// rollout at its widest.
const WATCH_QUEUE: usize = 1024;

/// The driver.
#[derive(Debug)]
pub(crate) struct Runner {
    hub: Arc<Hub>,
    life: Life,
    driven: Mutex<Driven>,
    /// What the store has taken, in order, as that of the fleet: the store makes whoever hands it
    /// more wait for room.
    commits: mpsc::UnboundedSender<(Ticket, store::Ticket)>,
    timer: watch::Sender<Option<Timestamp>>,
    changes: broadcast::Sender<Arc<Changed>>,
}

/// A durable change of a rollout.
#[derive(Debug)]
pub(crate) struct Changed {
    /// The rollout after it.
    pub(crate) rollout: Rollout,
    /// The member that changed, when it was one.
    pub(crate) member: Option<Member>,
}

#[derive(Debug)]
struct Driven {
    machine: Rollouts,
    answers: HashMap<RequestId, oneshot::Sender<Result<RolloutReceipt, Rejection>>>,
    last_request: u64,
}

impl Runner {
    /// Starts the machine from what is on disk, and the tasks that drive it.
    pub(crate) fn start(
        life: &Life,
        hub: &Arc<Hub>,
        controller: ControllerId,
    ) -> Result<Arc<Self>, Failure> {
        let missed = hub.look(|machine| machine.missed_changes());
        let records = read_all(hub.store(), missed)?;
        let (machine, outputs) = Rollouts::recover(now(), controller, records);
        let (commits, committing) = mpsc::unbounded_channel();
        let runner = Arc::new(Self {
            hub: Arc::clone(hub),
            life: life.clone(),
            driven: Mutex::new(Driven {
                machine,
                answers: HashMap::new(),
                last_request: 0,
            }),
            commits,
            timer: watch::Sender::new(None),
            changes: broadcast::Sender::new(WATCH_QUEUE),
        });
        {
            let mut driven = runner.lock();
            runner.tell_awaited(&driven, None);
            runner.carry_out(&mut driven, outputs);
        }
        life.spawn_last(Arc::clone(&runner).commit_in_order(committing));
        life.spawn(Arc::clone(&runner).keep_time());
        life.spawn(Arc::clone(&runner).hear());
        Ok(runner)
    }

    /// Asks the machine for something and waits for the answer.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        question: impl FnOnce(RequestId) -> RolloutInput,
    ) -> Result<RolloutReceipt, Rejection> {
        let answer = {
            let mut driven = self.lock();
            driven.last_request += 1;
            let request = RequestId(driven.last_request);
            let (sender, answer) = oneshot::channel();
            driven.answers.insert(request, sender);
            self.feed_locked(&mut driven, question(request));
            answer
        };
        answer
            .await
            .unwrap_or_else(|_| Err(Rejection::one(crate::hub::stopping())))
    }

    /// The answer to a request that made a rollout before.
    ///
    /// # Errors
    /// When the id was used for another request, or is too long.
    pub(crate) fn known(&self, request_id: &str, fingerprint: [u8; 32]) -> Result<bool, Rejection> {
        let driven = self.lock();
        driven
            .machine
            .known(request_id, fingerprint)
            .map(|known| known.is_some())
    }

    /// Whether commands reach a subcloud.
    pub(crate) fn standing(&self, subcloud: SubcloudId) -> Standing {
        self.hub.look(|machine| machine.standing(subcloud))
    }

    /// The changes to come, of every rollout.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Arc<Changed>> {
        self.changes.subscribe()
    }

    /// The hub beside it.
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// How many rollouts are open, and how far they have come.
    pub(crate) fn census(&self) -> RolloutCensus {
        self.lock().machine.census()
    }

    fn feed(self: &Arc<Self>, input: RolloutInput) {
        self.feed_locked(&mut self.lock(), input);
    }

    fn feed_locked(self: &Arc<Self>, driven: &mut Driven, input: RolloutInput) {
        let machine = &mut driven.machine;
        let outputs = self.hub.look(|fleet| machine.on(now(), fleet, input));
        self.carry_out(driven, outputs);
    }

    fn carry_out(self: &Arc<Self>, driven: &mut Driven, outputs: Vec<RolloutOutput>) {
        for output in outputs {
            match output {
                RolloutOutput::Commit { ticket, writes } => {
                    self.commit(ticket, writes.iter().map(store_write).collect());
                }
                RolloutOutput::Audit(call) => self.hub.feed(Input::Audited(call)),
                RolloutOutput::Answer { request, outcome } => {
                    if let Some(waiting) = driven.answers.remove(&request)
                        && waiting.send(outcome).is_err()
                    {
                        tracing::debug!(?request, "nobody waits for the answer any more");
                    }
                }
                RolloutOutput::ReadSite { rollout, subcloud } => {
                    self.life
                        .spawn(Arc::clone(self).read_site(rollout, subcloud));
                }
                RolloutOutput::Command {
                    rollout,
                    subcloud,
                    step,
                    request_id,
                    change,
                } => {
                    let sent = Sent {
                        rollout,
                        subcloud,
                        step,
                    };
                    self.life
                        .spawn(Arc::clone(self).command(sent, request_id, change));
                }
                RolloutOutput::Forget(rollout) => {
                    let runner = Arc::clone(self);
                    self.life
                        .spawn(async move { forget(runner.hub.store(), rollout).await });
                }
                RolloutOutput::SetTimer { at } => {
                    self.timer.send_replace(Some(at));
                }
                RolloutOutput::Changed(rollout, member) => {
                    self.tell_awaited(driven, member.as_ref().map(|member| member.subcloud));
                    let state = rollout.state.name();
                    tracing::debug!(rollout = rollout.id.0, state, "a rollout changed");
                    let changed = Changed {
                        rollout: *rollout,
                        member,
                    };
                    if self.changes.send(Arc::new(changed)).is_err() {
                        tracing::trace!("nobody watches rollouts");
                    }
                }
                RolloutOutput::Awaits(subclouds) => {
                    for subcloud in subclouds {
                        self.tell_awaited(driven, Some(subcloud));
                    }
                }
            }
        }
    }

    /// Tells the fleet's machine which rollout waits for one subcloud, or for each.
    fn tell_awaited(&self, driven: &Driven, subcloud: Option<SubcloudId>) {
        self.hub.feed(match subcloud {
            Some(subcloud) => Input::Awaited {
                subcloud,
                rollout: driven.machine.awaits(subcloud),
            },
            None => Input::AllAwaited(driven.machine.awaited()),
        });
    }

    /// Hands writes to the disk. The order of the calls is the order of the tickets.
    fn commit(&self, ticket: Ticket, batch: Vec<store::Write>) {
        let durable = match self.hub.store().enqueue_when_room(batch) {
            Ok(durable) => durable,
            Err(error) => fatal("a rollout could not be handed to the disk", &error),
        };
        if self.commits.send((ticket, durable)).is_err() {
            // Only when the process ends: the disk has it, and nobody is left to be told.
            tracing::debug!(?ticket, "nobody waits for the disk any more");
        }
    }

    async fn commit_in_order(
        self: Arc<Self>,
        mut committing: mpsc::UnboundedReceiver<(Ticket, store::Ticket)>,
    ) {
        let quiet = self.life.quiet();
        loop {
            let next = tokio::select! {
                biased;
                next = committing.recv() => next,
                () = quiet.cancelled() => None,
            };
            let Some((ticket, durable)) = next else {
                return;
            };
            if let Err(error) = durable.durable().await {
                fatal("a rollout could not be made durable", &error);
            }
            self.feed(RolloutInput::Committed { ticket });
        }
    }

    /// Wakes the machine at the moment that it asked for last.
    async fn keep_time(self: Arc<Self>) {
        let stop = self.life.stopping();
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
                () = stop.cancelled() => return,
                changed = timer.changed() => if changed.is_err() { return },
                () = until_due => {
                    self.timer.send_if_modified(|set| {
                        if *set == due { *set = None; }
                        false
                    });
                    self.feed(RolloutInput::Timer);
                }
            }
        }
    }

    /// Tells the machine of which subclouds something changed.
    async fn hear(self: Arc<Self>) {
        let stop = self.life.stopping();
        loop {
            let stirred = tokio::select! {
                () = stop.cancelled() => return,
                stirred = self.hub.stirred() => stirred,
            };
            let mut driven = self.lock();
            for subcloud in stirred {
                self.feed_locked(&mut driven, RolloutInput::Stirred(subcloud));
            }
        }
    }

    /// Reads the last accepted report off the executor's threads: it may come from the disk.
    async fn read_site(self: Arc<Self>, rollout: RolloutId, subcloud: SubcloudId) {
        let hub = Arc::clone(&self.hub);
        let read = tokio::task::spawn_blocking(move || read_subcloud_site(hub.store(), subcloud));
        let site = match read.await {
            Ok(Ok(site)) => site.map(Arc::new),
            Ok(Err(error)) => {
                tracing::error!(%error, %subcloud, "a rollout cannot read the subcloud's site");
                None
            }
            Err(error) => {
                tracing::error!(%error, %subcloud, "the reading of a site ended");
                None
            }
        };
        self.feed(RolloutInput::SiteRead {
            rollout,
            subcloud,
            site,
        });
    }

    async fn command(self: Arc<Self>, sent: Sent, request_id: String, change: Change) {
        let Sent {
            rollout,
            subcloud,
            step,
        } = sent;
        let answer = match command_of(change, request_id.clone()) {
            Some((method, body)) => {
                let milliseconds = u64::try_from(COMMAND_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
                let deadline = Timestamp(now().0.saturating_add(milliseconds));
                let run = |request| RunCommand {
                    request,
                    actor: Actor::Operator(format!("rollout {rollout}")),
                    subcloud: subcloud.to_string(),
                    method,
                    body: body.into(),
                    request_id,
                    changes: true,
                    foreseen: None,
                    deadline,
                };
                Answered::from(self.hub.command(run).await)
            }
            None => Answered::Failed(vec![Fault::default()]),
        };
        tracing::debug!(rollout = rollout.0, %subcloud, step = step.name(), ?answer, "answered");
        self.feed(RolloutInput::Answered {
            rollout,
            subcloud,
            step,
            answer,
        });
    }

    /// Nobody goes on with a machine of which a step broke off, as with that of the fleet.
    fn lock(&self) -> MutexGuard<'_, Driven> {
        let driven = self.driven.lock();
        driven.unwrap_or_else(|_| defect("a step of the rollouts' machine broke off"))
    }
}

/// Which command was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    rollout: RolloutId,
    subcloud: SubcloudId,
    step: Step,
}

/// How long until a moment; not at all when it has passed.
fn until(at: Timestamp) -> Duration {
    Duration::from_millis(at.0.saturating_sub(now().0))
}

/// The store, for handlers that only read.
impl Runner {
    pub(crate) fn store(&self) -> &Store {
        self.hub.store()
    }
}
