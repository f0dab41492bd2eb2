//! What was answered to which request: the same request gets the same answer for a day, so that
//! an operator may repeat a call whose answer was lost. Answers are as durable as what they tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use site::Timestamp;

use crate::entropy::since;
use crate::{Reason, Rejection, Violation};

use super::{Answer, AnsweredCall, RequestKey};

/// How long an answer is kept.
pub const ANSWER_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The most answers that are kept: one a second for a day and some more. Past it the oldest go.
const MOST_KEPT: usize = 100_000;

/// The longest request id.
const LONGEST_ID: usize = 128;

/// The answers, by the id of the request.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_id: BTreeMap<String, AnsweredCall>,
    by_time: BTreeSet<(Timestamp, String)>,
}

impl Answers {
    /// Those on disk. What is too old goes with the next answer that is kept.
    pub(super) fn recovered(all: Vec<AnsweredCall>) -> Self {
        let mut answers = Self::default();
        for answered in all {
            let id = answered.key.id.clone();
            answers.by_time.insert((answered.at, id.clone()));
            answers.by_id.insert(id, answered);
        }
        answers
    }

    /// What the same request was answered; `None` for a new one.
    ///
    /// # Errors
    /// An id that is too long, or that another request had.
    pub(super) fn find(
        &self,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Option<&Answer>, Rejection> {
        let invalid = |message: String, remedy: &str| {
            let violation = Violation::new(Reason::InvalidArgument, message, remedy);
            Rejection::one(violation.at("request_id"))
        };
        if key.id.len() > LONGEST_ID {
            return Err(invalid(
                format!("request_id has {} characters", key.id.len()),
                "use at most 128 characters",
            ));
        }
        match self.by_id.get(&key.id) {
            Some(known) if since(now, known.at) > ANSWER_KEPT => Ok(None),
            Some(known) if known.key.fingerprint == key.fingerprint => Ok(Some(&known.answer)),
            Some(_) => Err(invalid(
                format!("request id `{}` was used for another request", key.id),
                "take a new id for a new request",
            )),
            None => Ok(None),
        }
    }

    /// Keeps an answer; the ids of those that are forgotten for it.
    pub(super) fn keep(&mut self, answered: AnsweredCall) -> Vec<String> {
        let now = answered.at;
        let id = answered.key.id.clone();
        if let Some(old) = self.by_id.insert(id.clone(), answered) {
            self.by_time.remove(&(old.at, id.clone()));
        }
        self.by_time.insert((now, id));
        let mut forgotten = Vec::new();
        while let Some((at, _)) = self.by_time.first() {
            if since(now, *at) <= ANSWER_KEPT && self.by_id.len() <= MOST_KEPT {
                break;
            }
            if let Some((_, id)) = self.by_time.pop_first() {
                self.by_id.remove(&id);
                forgotten.push(id);
            }
        }
        forgotten
    }
}
