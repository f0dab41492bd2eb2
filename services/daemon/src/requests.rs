//! Answers by request id: the same id gets the same answer for 24 hours, so that a client may
//! repeat a call whose answer was lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::mutation::Mutation;
use api::status::Asked;
use prost::Message;
use sha2::{Digest as _, Sha256};
use site::{Reason, Rejection, Timestamp, Violation};
use tonic::Status;

use crate::now;

/// How long an answer is kept, in milliseconds.
const KEPT_MILLISECONDS: u64 = 24 * 60 * 60 * 1000;

/// The most answers that are kept. A client that makes one change a second for a day stays
/// below; past it the oldest go first, and the log says so.
const MOST_KEPT: usize = 100_000;

/// The longest request id.
const LONGEST_ID: usize = 128;

/// Answers that are kept in memory only, because they hold a secret: after a restart of the
/// process a repeated request is a new one.
#[derive(Debug, Default)]
pub struct SecretAnswers(tokio::sync::Mutex<RequestLog>);

impl SecretAnswers {
    /// Does `work`, unless a request of this id was answered before: then that is the answer.
    /// Requests with an id come one after the other, so that a repeated one waits for the first;
    /// the work goes on, and its answer is kept, when the client has hung up.
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
            let mut log = answers.0.lock().await;
            let known = log.find(id, fingerprint, now());
            let known = known.map_err(|refusal| {
                // The work is not begun, so that nobody else notes it.
                api::status::marked(api::status::from_rejection(&refusal), Asked::No)
            });
            if let Some(known) = known? {
                return M::decode(known).map_err(|error| Status::internal(error.to_string()));
            }
            let answer = work.await?;
            let answered = Answered {
                fingerprint,
                answer: answer.encode_to_vec(),
                at: now(),
            };
            log.keep(id.to_owned(), answered);
            Ok(answer)
        });
        done.await
            .map_err(|error| Status::internal(error.to_string()))?
    }
}

/// Tells requests apart: the method and the whole request.
pub fn fingerprint(method: &str, request: &impl Message) -> [u8; 32] {
    let hash = Sha256::new().chain_update(method).chain_update([0]);
    hash.chain_update(request.encode_to_vec()).finalize().into()
}

/// What was answered to which request.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    answers: HashMap<String, Answered>,
    by_time: BTreeMap<(Timestamp, String), ()>,
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
        now: Timestamp,
    ) -> Result<Option<&[u8]>, Rejection> {
        if id.len() > LONGEST_ID {
            let message = format!("request_id has {} characters", id.len());
            let remedy = format!("use at most {LONGEST_ID} characters");
            let violation = Violation::new(Reason::InvalidArgument, message, remedy);
            return Err(Rejection::one(violation.at("request_id")));
        }
        match self.answers.get(id) {
            Some(known) if known.at.0.saturating_add(KEPT_MILLISECONDS) < now.0 => Ok(None),
            Some(known) if known.fingerprint == fingerprint => Ok(Some(&known.answer)),
            Some(_) => {
                let message = format!("request id `{id}` was used for another request");
                let remedy = "take a new id for a new request";
                let violation = Violation::new(Reason::InvalidArgument, message, remedy);
                Err(Rejection::one(violation.at("request_id")))
            }
            None => Ok(None),
        }
    }

    /// Keeps an answer and forgets those that are too old; the ids of the latter, so that their
    /// records can go too.
    pub(crate) fn keep(&mut self, id: String, answered: Answered) -> Vec<String> {
        let now = answered.at;
        self.by_time.insert((now, id.clone()), ());
        self.answers.insert(id, answered);
        let mut forgotten = Vec::new();
        while let Some(((at, _), ())) = self.by_time.first_key_value() {
            let old = at.0.saturating_add(KEPT_MILLISECONDS) < now.0;
            if !old && self.answers.len() <= MOST_KEPT {
                break;
            }
            if !old {
                tracing::warn!("more than {MOST_KEPT} request ids in a day; forgetting the oldest");
            }
            if let Some(((at, id), ())) = self.by_time.pop_first()
                && self.answers.get(&id).is_some_and(|known| known.at == at)
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
    use super::*;

    fn answered(at: u64, byte: u8) -> Answered {
        Answered {
            fingerprint: [byte; 32],
            answer: vec![byte],
            at: Timestamp(at),
        }
    }

    #[test]
    fn an_answer_is_found_for_a_day_and_only_for_its_request() {
        let mut log = RequestLog::default();
        assert_eq!(log.keep("a".into(), answered(1, 1)), Vec::<String>::new());
        let day = Timestamp(1 + KEPT_MILLISECONDS);
        assert_eq!(log.find("a", [1; 32], day), Ok(Some(&[1][..])));
        assert_eq!(log.find("a", [1; 32], Timestamp(day.0 + 1)), Ok(None));
        assert_eq!(log.find("b", [1; 32], day), Ok(None));
        let other = log.find("a", [2; 32], day).expect_err("another request");
        assert_eq!(other.first().field, "request_id");
        log.find(&"x".repeat(129), [1; 32], day)
            .expect_err("too long");
        assert_eq!(
            log.keep("b".into(), answered(day.0 + 1, 2)),
            vec!["a".to_owned()]
        );
    }
}
