//! Answers by request id: the same id gets the same answer for 24 hours, so that a client may
//! repeat a call whose answer was lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::mutation::Mutation;
use api::status::Asked;
use prost::Message;
use sha2::{Digest as _, Sha256};
use site::{Reason, Rejection, Timestamp, Violation};
use tonic::Status;

use crate::now;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The most answers that are kept. A client that makes one change a second for a day stays
/// below; past it the oldest go first, and the log says so.
const MOST_KEPT: usize = 100_000;

/// A date that differs by so many milliseconds is not worth a write.
const SAME_DATE: u64 = 1000;

/// The longest request id.
const LONGEST_ID: usize = 128;

/// Answers that are kept in memory only, because they hold a secret: after a restart of the
/// process a repeated request is a new one.
#[derive(Debug, Default)]
pub struct SecretAnswers {
    log: Mutex<RequestLog>,
    turns: Mutex<HashMap<String, Turns>>,
}

/// Those who work under one request id, or wait for that.
#[derive(Debug, Default)]
struct Turns {
    /// How many.
    count: usize,
    /// Held by the one whose turn it is.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// One of those who work under a request id, or wait for that.
struct InTurn<'a> {
    answers: &'a SecretAnswers,
    id: &'a str,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl SecretAnswers {
    /// Does `work`, unless a request of this id was answered before: then that is the answer.
    /// Requests of one id come one after the other, so that a repeated one waits for the first,
    /// and for no other; the work goes on, and its answer is kept, when the client has hung up.
    ///
    /// # Errors
    /// Those of `work`, and a request id that is too long or was used for another request.
    pub async fn once<R: Mutation, M: Message + Default + 'static>(
        self: &Arc<Self>,
        method: &'static str,
        request: R,
        work: impl Future<Output = Result<M, Status>> + Send + 'static,
    ) -> Result<M, Status> {
        if request.request_id().is_empty() || request.validate_only() {
            return work.await;
        }
        let answers = Arc::clone(self);
        let done = tokio::spawn(async move {
            let (id, fingerprint) = (request.request_id(), fingerprint(method, &request));
            let in_turn = answers.in_turn(id);
            let _held = in_turn.turn.lock().await;
            let known = answers.known(id, fingerprint).map_err(|refusal| {
                // The work is not begun, so that nobody else notes it.
                api::status::marked(api::status::from_rejection(&refusal), Asked::No)
            });
            if let Some(known) = known? {
                let known = M::decode(known.as_slice());
                return known.map_err(|error| Status::internal(error.to_string()));
            }
            let answer = work.await?;
            let answered = Answered {
                fingerprint,
                answer: answer.encode_to_vec(),
                at: now(),
            };
            answers.log().keep_new(id.to_owned(), answered);
            Ok(answer)
        });
        done.await
            .map_err(|error| Status::internal(error.to_string()))?
    }

    fn known(&self, id: &str, fingerprint: [u8; 32]) -> Result<Option<Vec<u8>>, Rejection> {
        let log = self.log();
        let known = log.find(id, fingerprint, Instant::now())?;
        Ok(known.map(<[u8]>::to_vec))
    }

    fn in_turn<'a>(&'a self, id: &'a str) -> InTurn<'a> {
        let mut all = self.turns();
        let turns = all.entry(id.to_owned()).or_default();
        turns.count += 1;
        InTurn {
            answers: self,
            id,
            turn: Arc::clone(&turns.turn),
        }
    }

    fn log(&self) -> MutexGuard<'_, RequestLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<String, Turns>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InTurn<'_> {
    /// The last of an id leaves nothing behind.
    fn drop(&mut self) {
        let mut all = self.answers.turns();
        if let Some(turns) = all.get_mut(self.id) {
            turns.count -= 1;
            if turns.count == 0 {
                all.remove(self.id);
            }
        }
    }
}

/// Tells requests apart: the method and the whole request.
pub fn fingerprint(method: &str, request: &impl Message) -> [u8; 32] {
    let hash = Sha256::new().chain_update(method).chain_update([0]);
    hash.chain_update(request.encode_to_vec()).finalize().into()
}

/// What was answered to which request. Ages are told by the monotonic clock: that of the process
/// leaps at an agent when the wall clock is set, and an answer of a moment ago would be forgotten.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    answers: HashMap<String, Kept>,
    by_time: BTreeMap<(Instant, String), ()>,
}

/// An answer and its last moment.
#[derive(Debug)]
struct Kept {
    answered: Answered,
    until: Instant,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    /// SHA-256 of the request without its id.
    pub(crate) fingerprint: [u8; 32],
    /// The encoded answer.
    pub(crate) answer: Vec<u8>,
    /// When it was given.
    pub(crate) at: Timestamp,
}

impl RequestLog {
    /// The answer that this id got before; `None` when it is new or empty.
    ///
    /// # Errors
    /// When the id is too long, or was used for another request.
    pub(crate) fn find(
        &self,
        id: &str,
        fingerprint: [u8; 32],
        now: Instant,
    ) -> Result<Option<&[u8]>, Rejection> {
        if id.len() > LONGEST_ID {
            let message = format!("request_id has {} characters", id.len());
            let remedy = format!("use at most {LONGEST_ID} characters");
            let violation = Violation::new(Reason::InvalidArgument, message, remedy);
            return Err(Rejection::one(violation.at("request_id")));
        }
        match self.answers.get(id) {
            Some(known) if known.until < now => Ok(None),
            Some(Kept { answered, .. }) if answered.fingerprint == fingerprint => {
                Ok(Some(&answered.answer))
            }
            Some(_) => {
                let message = format!("request id `{id}` was used for another request");
                let remedy = "take a new id for a new request";
                let violation = Violation::new(Reason::InvalidArgument, message, remedy);
                Err(Rejection::one(violation.at("request_id")))
            }
            None => Ok(None),
        }
    }

    /// Keeps an answer of an earlier process for the rest of its day, which the wall clock tells.
    pub(crate) fn keep(&mut self, id: String, answered: Answered) {
        let age = Duration::from_millis(now().0.saturating_sub(answered.at.0));
        let until = Instant::now() + KEPT.saturating_sub(age);
        self.insert(id, Kept { answered, until });
    }

    /// Keeps an answer of now and forgets those that are too old; the ids of the latter, so that
    /// their records can go too.
    pub(crate) fn keep_new(&mut self, id: String, answered: Answered) -> Vec<String> {
        self.keep_at(Instant::now(), id, answered)
    }

    /// Dates the answers by what the wall clock shows now and by their ages, because it was set; the
    /// next process would take them for as much too old, or too young. Those whose date changes.
    pub(crate) fn date_anew(&mut self, now: Instant, shown: Timestamp) -> Vec<(String, Answered)> {
        let mut dated = Vec::new();
        for (id, Kept { answered, until }) in &mut self.answers {
            let Some(left) = until.checked_duration_since(now) else {
                continue;
            };
            let age = u64::try_from(KEPT.saturating_sub(left).as_millis()).unwrap_or(u64::MAX);
            let at = Timestamp(shown.0.saturating_sub(age));
            if at.0.abs_diff(answered.at.0) > SAME_DATE {
                answered.at = at;
                dated.push((id.clone(), answered.clone()));
            }
        }
        dated
    }

    fn insert(&mut self, id: String, kept: Kept) {
        self.by_time.insert((kept.until, id.clone()), ());
        self.answers.insert(id, kept);
    }

    fn keep_at(&mut self, now: Instant, id: String, answered: Answered) -> Vec<String> {
        let until = now + KEPT;
        self.insert(id, Kept { answered, until });
        let mut forgotten = Vec::new();
        while let Some(((until, _), ())) = self.by_time.first_key_value() {
            let old = *until < now;
            if !old && self.answers.len() <= MOST_KEPT {
                break;
            }
            if !old {
                tracing::warn!("more than {MOST_KEPT} request ids in a day; forgetting the oldest");
            }
            if let Some(((until, id), ())) = self.by_time.pop_first()
                && self
                    .answers
                    .get(&id)
                    .is_some_and(|known| known.until == until)
            {
                self.answers.remove(&id);
                forgotten.push(id);
            }
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use api::fleet_v1::{PauseRolloutRequest, PauseRolloutResponse, Rollout};
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// A call under an id. It tells that its work has begun, and ends with the number that it is
    /// given.
    fn call(
        answers: &Arc<SecretAnswers>,
        id: &str,
        begun: &mpsc::UnboundedSender<String>,
    ) -> (oneshot::Sender<u64>, tokio::task::JoinHandle<u64>) {
        let request = PauseRolloutRequest {
            request_id: id.to_owned(),
            ..PauseRolloutRequest::default()
        };
        let (number, given) = oneshot::channel();
        let (answers, begun, id) = (Arc::clone(answers), begun.clone(), id.to_owned());
        let work = async move {
            begun.send(id).expect("the test listens");
            let number = given.await.expect("a number");
            let rollout = Some(Rollout {
                number,
                ..Rollout::default()
            });
            Ok(PauseRolloutResponse { rollout })
        };
        let answered = tokio::spawn(async move {
            let answer = answers.once("PauseRollout", request, work).await;
            answer
                .expect("an answer")
                .rollout
                .expect("a rollout")
                .number
        });
        (number, answered)
    }

    #[tokio::test]
    async fn a_call_that_hangs_holds_up_only_those_of_its_own_id() {
        let answers = Arc::new(SecretAnswers::default());
        let (begun, mut begins) = mpsc::unbounded_channel();
        let (first, first_answer) = call(&answers, "a", &begun);
        assert_eq!(begins.recv().await.as_deref(), Some("a"));
        let (_unused, again) = call(&answers, "a", &begun);
        let (other, other_answer) = call(&answers, "b", &begun);
        assert_eq!(begins.recv().await.as_deref(), Some("b"));
        other.send(2).expect("it waits");
        assert_eq!(other_answer.await.expect("it ends"), 2);
        // The repeated one does nothing, and gets the answer of the first.
        first.send(1).expect("it waits");
        assert_eq!(first_answer.await.expect("it ends"), 1);
        assert_eq!(again.await.expect("it ends"), 1);
        assert!(begins.try_recv().is_err());
        assert!(answers.turns().is_empty());
    }

    fn answered(byte: u8) -> Answered {
        Answered {
            fingerprint: [byte; 32],
            answer: vec![byte],
            at: Timestamp(1),
        }
    }

    #[test]
    fn an_answer_is_found_for_a_day_and_only_for_its_request() {
        let mut log = RequestLog::default();
        let (start, moment) = (Instant::now(), Duration::from_millis(1));
        // What the clock of the process showed does not matter: it may have leapt since.
        let none = log.keep_at(start, "a".into(), answered(1));
        assert_eq!(none, Vec::<String>::new());
        let day = start + KEPT;
        assert_eq!(log.find("a", [1; 32], day), Ok(Some(&[1][..])));
        assert_eq!(log.find("a", [1; 32], day + moment), Ok(None));
        assert_eq!(log.find("b", [1; 32], day), Ok(None));
        let other = log.find("a", [2; 32], day).expect_err("another request");
        assert_eq!(other.first().field, "request_id");
        log.find(&"x".repeat(129), [1; 32], day)
            .expect_err("too long");
        let forgotten = log.keep_at(day + moment, "b".into(), answered(2));
        assert_eq!(forgotten, ["a"]);
    }

    #[test]
    fn an_answer_of_an_earlier_process_is_kept_for_the_rest_of_its_day() {
        let mut log = RequestLog::default();
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let before = |hours: u64| Answered {
            at: Timestamp(now().0 - hours * 3_600_000),
            ..answered(1)
        };
        log.keep("old".into(), before(23));
        log.keep("older".into(), before(25));
        log.keep(
            "ahead".into(),
            Answered {
                at: Timestamp(now().0 + 99_000_000),
                ..answered(1)
            },
        );
        let after = |hours_passed| Instant::now() + hours(hours_passed);
        assert_eq!(log.find("old", [1; 32], after(0)), Ok(Some(&[1][..])));
        assert_eq!(log.find("old", [1; 32], after(2)), Ok(None));
        assert_eq!(log.find("ahead", [1; 32], after(23)), Ok(Some(&[1][..])));
        assert_eq!(log.find("ahead", [1; 32], after(25)), Ok(None));
        // The record of one that has expired goes with the next one that is kept.
        assert_eq!(log.find("older", [1; 32], after(1)), Ok(None));
        let forgotten = log.keep_new("new".into(), answered(1));
        assert_eq!(forgotten, ["older"]);
    }

    #[test]
    fn answers_keep_their_age_when_the_clock_is_set_and_the_process_starts_anew() {
        let (start, day) = (Instant::now(), 86_400_000);
        let hour = start + Duration::from_secs(3600);
        // The clock was at 1970, and an hour later it is set.
        let mut log = RequestLog::default();
        log.keep_at(start, "a".into(), answered(1));
        log.keep_at(hour, "b".into(), answered(2));
        let set = Timestamp(20_000 * day);
        let mut dated = log.date_anew(hour, set);
        dated.sort_by(|one, other| one.0.cmp(&other.0));
        let dates: Vec<(&str, u64)> = dated
            .iter()
            .map(|(id, it)| (id.as_str(), it.at.0))
            .collect();
        assert_eq!(dates, [("a", set.0 - 3_600_000), ("b", set.0)]);
        assert_eq!(
            log.date_anew(hour, Timestamp(set.0 + 999)),
            [],
            "it was not set"
        );
        // Nothing of it matters once it is too old.
        let late = hour + KEPT + Duration::from_millis(1);
        assert_eq!(log.date_anew(late, Timestamp(1)), []);
    }
}
