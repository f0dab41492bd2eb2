//! The site of a daemon: planned under a lock, made durable outside it, visible afterwards.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use api::mutation::Mutation;
use fleet::{Fault, SiteMethod};
use prost::Message;
use site::{Change, Generation, Plan, Rejection, Site, check_etag, plan};
use store::{Action, Expected, Revision, Store, Ticket, Write};
use tokio::sync::watch;

use crate::history::{History, SiteEvent, Watching};
use crate::requests::{Answered, RequestLog, fingerprint};
use crate::state_dir::{request_key, request_write, requests_of, site_write};
use crate::{Caller, Deed, Failure, Noted, Witness, fatal, now};

/// Keeps one site. Readers see only what is durable.
#[derive(Debug)]
pub struct SiteKeeper {
    store: Arc<Store>,
    planned: Mutex<Planned>,
    history: Mutex<History>,
    witness: OnceLock<Arc<dyn Witness>>,
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
            history: Mutex::new(History::new(site)),
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
        let ends_so = |known: &&SiteMethod| known.path().rsplit('/').next() == Some(method);
        let known = SiteMethod::ALL.iter().find(ends_so);
        let noted = self.witness.get().zip(known).map(|(witness, known)| {
            witness.note(Deed {
                caller: caller.clone(),
                path: known.path(),
                forbidden: false,
                faults,
            })
        });
        async move {
            if let Some(noted) = noted {
                noted.await;
            }
        }
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

    /// Begins to watch after a revision.
    pub(crate) fn watch_from(&self, revision: u64) -> Watching {
        self.history().watch_from(revision)
    }

    /// A change that the daemon itself makes, such as keeping the controller's networks.
    ///
    /// # Errors
    /// The refusal; nothing has changed then.
    pub async fn change_own(self: &Arc<Self>, change: Change) -> Result<(), Rejection> {
        let write = {
            let mut planned = self.lock();
            let plan = plan(&planned.site, change, now())?;
            if !plan.changes_site() {
                return Ok(());
            }
            self.enqueue(&mut planned, plan, None)
        };
        self.finish(write).await;
        Ok(())
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
        let at = now();
        let id = request.request_id();
        let fingerprint = fingerprint(method, request);
        let mut planned = self.lock();
        if let Some(known) = planned.requests.find(id, fingerprint, at)? {
            let (bytes, after) = (known.to_vec(), planned.site.generation());
            return Ok(Decided::Answered { bytes, after });
        }
        check_etag(&planned.site, &change, request.etag())?;
        let plan = plan(&planned.site, change, at)?;
        let answer = respond(&plan);
        if request.validate_only() || (!plan.changes_site() && id.is_empty()) {
            return Ok(Decided::Previewed(answer));
        }
        let bytes = answer.encode_to_vec();
        let answered = Answered {
            fingerprint,
            answer: bytes,
            at,
        };
        let kept = (!id.is_empty()).then(|| (id.to_owned(), answered));
        // Before the change: what is written first is on disk first.
        let noted = Box::pin(self.note(caller, method, Vec::new()));
        let write = self.enqueue(&mut planned, plan, kept);
        Ok(Decided::Enqueued {
            answer,
            noted,
            write,
        })
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
            for old in planned.requests.keep(id, answered) {
                let key = request_key(&old);
                batch.push(Write {
                    key,
                    expected: Expected::Any,
                    action: Action::Delete,
                });
            }
        }
        match self.store.enqueue(batch) {
            Ok(ticket) => {
                planned.revision = ticket.revision();
                let changed = plan.changes_site();
                let effects = plan.effects().to_vec();
                planned.site = Arc::new(plan.into_site());
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
