//! The site of a daemon: planned under a lock, made durable outside it, visible afterwards.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use api::mutation::Mutation;
use fleet::{Fault, Reason, Rejection, SiteMethod};
use prost::Message;
use site::{Alarm, Change, Generation, Plan, Site, check_etag, plan};
use store::{Action, Expected, Revision, Store, Ticket, Write};
use tokio::sync::watch;

use crate::history::{History, Process, SiteEvent, Watching};
use crate::requests::{Answered, RequestLog, fingerprint};
use crate::state_dir::{request_key, request_write, requests_of, site_write};
use crate::{Caller, Deed, Failure, Noted, Witness, fatal, now};

/// How many answers are dated anew in one write, and about how many bytes: a write has limits.
const DATED_AT_ONCE: usize = 128;
const DATED_BYTES: usize = store::MAX_BATCH_BYTES / 4;

/// Keeps one site. Readers see only what is durable.
#[derive(Debug)]
pub struct SiteKeeper {
    store: Arc<Store>,
    planned: Mutex<Planned>,
    history: Mutex<History>,
    witness: OnceLock<Arc<dyn Witness>>,
    neighbours: Option<Arc<dyn Neighbours>>,
}

/// Those with whom the networks of a site must get along: the fleet of a system controller. A
/// subcloud has none that it knows of.
///
/// The lock of the site is held around these calls, so an implementation must never wait for the
/// keeper.
pub trait Neighbours: std::fmt::Debug + Send + Sync {
    /// Judges the site as it would be.
    ///
    /// # Errors
    /// Whom the change would break.
    fn judge(&self, next: &Site) -> Result<(), Rejection>;

    /// Judges the site as it will be and, when there is nothing against it, notes the deed, calls
    /// `enqueue` and judges everything against the new site from then on, without a moment
    /// between. The entry is on disk no later than the change.
    ///
    /// # Errors
    /// Whom the change would break; `enqueue` is not called then.
    fn accept(
        &self,
        next: &Site,
        deed: Option<Deed>,
        enqueue: &mut dyn FnMut(),
    ) -> Result<Noted, Rejection>;

    /// Alarms that are listed with those of the site.
    fn alarms(&self) -> Vec<Alarm>;
}

/// What the next change is planned against; it may be ahead of the disk.
#[derive(Debug)]
struct Planned {
    site: Arc<Site>,
    revision: Revision,
    requests: RequestLog,
}

/// A change that somebody asks for.
#[derive(Debug)]
pub struct Call<'a, R> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The full name of the method, to tell requests apart.
    pub method: &'static str,
    /// The request as it came.
    pub request: &'a R,
    /// What it asks for.
    pub change: Change,
}

impl SiteKeeper {
    /// Keeps the site that was read from `store` at `revision`.
    ///
    /// # Errors
    /// When the answers to earlier requests cannot be read.
    pub fn new(store: Arc<Store>, site: Site, revision: Revision) -> Result<Self, Failure> {
        let requests = requests_of(&store)?;
        let site = Arc::new(site);
        let planned = Mutex::new(Planned {
            site: Arc::clone(&site),
            revision,
            requests,
        });
        Ok(Self {
            store,
            planned,
            history: Mutex::new(History::new(site, Process::started(now()))),
            neighbours: None,
            witness: OnceLock::new(),
        })
    }

    /// Has every call noted from now on; the first witness stays.
    pub fn set_witness(&self, witness: Arc<dyn Witness>) {
        self.witness.get_or_init(|| witness);
    }

    /// Notes what came of a call; it is on disk when this ends.
    pub(crate) fn note(
        &self,
        caller: &Caller,
        method: &str,
        faults: Vec<Fault>,
    ) -> impl Future<Output = ()> + use<> {
        let noted = self.witness.get().zip(deed(caller, method, faults));
        let noted = noted.map(|(witness, deed)| witness.note(deed));
        async move {
            if let Some(noted) = noted {
                noted.await;
            }
        }
    }

    /// Lets others judge every change too.
    #[must_use]
    pub fn among(mut self, neighbours: Arc<dyn Neighbours>) -> Self {
        self.neighbours = Some(neighbours);
        self
    }

    /// The raised alarms, oldest first: those of the site as it is on disk, and of its neighbours.
    pub fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = self.site().alarms().to_vec();
        alarms.extend(self.neighbours.iter().flat_map(|others| others.alarms()));
        alarms.sort_by_key(|alarm| (alarm.raised_at, alarm.uuid));
        alarms
    }

    /// The site as it is on disk.
    pub fn site(&self) -> Arc<Site> {
        self.history().site()
    }

    /// Tells every durable change; intermediate ones may be skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<Site>> {
        self.history().changes()
    }

    /// Changes the site, or tells what the change would do. The answer is made from the plan,
    /// so a preview and the real call agree.
    ///
    /// # Errors
    /// The refusal; nothing has changed then.
    pub async fn change<R: Mutation, M: Message + Default>(
        self: &Arc<Self>,
        call: Call<'_, R>,
        respond: impl FnOnce(&Plan) -> M,
    ) -> Result<M, tonic::Status> {
        let (caller, method) = (call.caller, call.method);
        let preview = call.request.validate_only();
        let outcome = self.decide(call, respond);
        match &outcome {
            Ok(_) => tracing::info!(%caller, method, "site change accepted"),
            Err(refusal) => tracing::info!(%caller, method, %refusal, "site change refused"),
        }
        match &outcome {
            Err(refusal) if !preview => {
                self.note(caller, method, Fault::all_of(refusal)).await;
            }
            Ok(Decided::Previewed(_)) if !preview => self.note(caller, method, Vec::new()).await,
            _ => {}
        }
        match outcome.map_err(|refusal| api::status::from_rejection_at(&refusal, R::path))? {
            Decided::Answered { bytes, after } => {
                self.until_durable(after).await;
                M::decode(bytes.as_slice())
                    .map_err(|error| fatal("a kept answer cannot be read", &error))
            }
            Decided::Previewed(answer) => Ok(answer),
            Decided::Enqueued {
                answer,
                noted,
                write,
            } => {
                self.finish(write).await;
                noted.await;
                Ok(answer)
            }
        }
    }

    /// The clock of this process has leapt: what was answered is as old as it was, and the next
    /// process must not take it for older, or it would carry out a repeated request again.
    pub async fn date_answers_anew(&self) {
        let tickets: Vec<_> = {
            let mut planned = self.lock();
            let dated = planned.requests.date_anew(Instant::now(), now());
            let (mut batches, mut bytes): (Vec<Vec<Write>>, _) = (Vec::new(), 0);
            for (id, answered) in &dated {
                bytes += answered.answer.len();
                let write = request_write(id, answered);
                match batches.last_mut() {
                    Some(batch) if batch.len() < DATED_AT_ONCE && bytes < DATED_BYTES => {
                        batch.push(write);
                    }
                    _ => {
                        batches.push(vec![write]);
                        bytes = answered.answer.len();
                    }
                }
            }
            let batches = batches.into_iter();
            batches
                .map(|batch| self.store.enqueue_when_room(batch))
                .collect()
        };
        for ticket in tickets {
            match ticket {
                Ok(ticket) => {
                    if let Err(error) = ticket.durable().await {
                        fatal("the dates of answers could not be made durable", &error);
                    }
                }
                Err(error) => fatal(
                    "the dates of answers could not be handed to the disk",
                    &error,
                ),
            }
        }
    }

    /// Begins to watch after a revision.
    pub(crate) fn watch_from(&self, revision: u64) -> Watching {
        self.history().watch_from(revision)
    }

    /// A change that the daemon itself makes, such as keeping the controller's networks; the
    /// generation that it made, or none when it changed nothing.
    ///
    /// # Errors
    /// The refusal; nothing has changed then.
    pub async fn change_own(
        self: &Arc<Self>,
        change: Change,
    ) -> Result<Option<Generation>, Rejection> {
        let (write, made) = {
            let mut planned = self.lock();
            let plan = plan(&planned.site, change, now()).map_err(site_fault)?;
            if !plan.changes_site() {
                return Ok(None);
            }
            let made = plan.next().generation();
            (self.accept(&mut planned, plan, None, None)?.0, made)
        };
        self.finish(write).await;
        Ok(Some(made))
    }

    /// Everything that happens under the lock: no await, no disk.
    fn decide<R: Mutation, M: Message>(
        &self,
        call: Call<'_, R>,
        respond: impl FnOnce(&Plan) -> M,
    ) -> Result<Decided<M>, Rejection> {
        let Call {
            caller,
            method,
            request,
            change,
        } = call;
        let id = request.request_id();
        let fingerprint = fingerprint(method, request);
        let mut planned = self.lock();
        // Within the lock, so that no answer with a date of before is kept after the clock was set
        // and answers were dated anew.
        let at = now();
        if let Some(known) = planned
            .requests
            .find(id, fingerprint, Instant::now())
            .map_err(site_fault)?
        {
            let (bytes, after) = (known.to_vec(), planned.site.generation());
            return Ok(Decided::Answered { bytes, after });
        }
        check_etag(&planned.site, &change, request.etag()).map_err(site_fault)?;
        let plan = plan(&planned.site, change, at).map_err(site_fault)?;
        let answer = respond(&plan);
        if request.validate_only() || (!plan.changes_site() && id.is_empty()) {
            if let Some(others) = &self.neighbours {
                others.judge(plan.next())?;
            }
            return Ok(Decided::Previewed(answer));
        }
        let bytes = answer.encode_to_vec();
        let answered = Answered {
            fingerprint,
            answer: bytes,
            at,
        };
        let kept = (!id.is_empty()).then(|| (id.to_owned(), answered));
        let deed = deed(caller, method, Vec::new());
        let (write, noted) = self.accept(&mut planned, plan, kept, deed)?;
        Ok(Decided::Enqueued {
            answer,
            noted,
            write,
        })
    }

    /// Hands the new site to the disk, unless the neighbours have something against it.
    fn accept(
        &self,
        planned: &mut Planned,
        plan: Plan,
        kept: Option<(String, Answered)>,
        deed: Option<Deed>,
    ) -> Result<(Writing, Noted), Rejection> {
        let Some(others) = &self.neighbours else {
            return Ok((self.enqueue(planned, plan, kept), Box::pin(async {})));
        };
        let next = plan.next().clone();
        let mut given = Some((plan, kept));
        let mut write = None;
        let noted = others.accept(&next, deed, &mut || {
            if let Some((plan, kept)) = given.take() {
                write = Some(self.enqueue(planned, plan, kept));
            }
        })?;
        match write {
            Some(write) => Ok((write, noted)),
            None => unreachable!("what is accepted is enqueued"),
        }
    }

    /// Hands the new site to the disk and plans against it from now on.
    fn enqueue(
        &self,
        planned: &mut Planned,
        plan: Plan,
        kept: Option<(String, Answered)>,
    ) -> Writing {
        let mut batch = vec![site_write(plan.next(), Expected::At(planned.revision))];
        if let Some((id, answered)) = kept {
            batch.push(request_write(&id, &answered));
            for old in planned.requests.keep_new(id, answered) {
                let key = request_key(&old);
                batch.push(Write {
                    key,
                    expected: Expected::Any,
                    action: Action::Delete,
                });
            }
        }
        match self.store.enqueue_when_room(batch) {
            Ok(ticket) => {
                planned.revision = ticket.revision();
                let changed = plan.changes_site();
                let (site, effects) = plan.into_parts();
                planned.site = Arc::new(site);
                let event = SiteEvent {
                    site: Arc::clone(&planned.site),
                    effects,
                };
                Writing {
                    ticket,
                    event: changed.then_some(event),
                }
            }
            Err(error) => fatal("a change could not be handed to the disk", &error),
        }
    }

    /// Waits for the disk, then lets everybody see the site. A task of its own does it: a client
    /// that hangs up must not leave a hole in the history.
    async fn finish(self: &Arc<Self>, write: Writing) {
        let keeper = Arc::clone(self);
        let finished = tokio::spawn(async move {
            if let Err(error) = write.ticket.durable().await {
                fatal("a change could not be made durable", &error);
            }
            if let Some(event) = write.event {
                keeper.history().publish(event);
            }
        });
        if let Err(error) = finished.await {
            fatal("a change was not made durable", &error);
        }
    }

    /// Waits until the site is on disk as of a generation.
    async fn until_durable(&self, generation: Generation) {
        let mut changes = self.watch();
        let reached = changes
            .wait_for(|site| site.generation() >= generation)
            .await;
        if let Err(error) = reached {
            fatal("the history of the site has ended", &error);
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Planned> {
        // A panic while planning leaves the state as it was: it is replaced as a whole.
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a witness is told of a call.
fn deed(caller: &Caller, method: &str, faults: Vec<Fault>) -> Option<Deed> {
    let ends_so = |known: &&SiteMethod| known.path().rsplit('/').next() == Some(method);
    let known = SiteMethod::ALL.iter().find(ends_so)?;
    Some(Deed {
        caller: caller.clone(),
        path: known.path(),
        subcloud: None,
        unheard: false,
        dry_run: false,
        faults,
    })
}

/// A refusal of the one site's rules among those of the fleet.
fn site_fault(rejection: site::Rejection) -> Rejection {
    rejection.map(Reason::Site)
}

enum Decided<M> {
    Answered {
        bytes: Vec<u8>,
        after: Generation,
    },
    Previewed(M),
    Enqueued {
        answer: M,
        noted: Noted,
        write: Writing,
    },
}

/// A change on its way to the disk, and what watchers are told when it is there.
struct Writing {
    ticket: Ticket,
    event: Option<SiteEvent>,
}
