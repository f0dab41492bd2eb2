//! Wire and records to domain, and back.

use std::borrow::Cow;

mod agent_records;
mod change;
mod command;
mod fleet;
mod fleet_answers;
mod fleet_change;
mod history_records;
mod host;
mod link;
mod operators;
mod peer;
mod peer_link;
mod peer_records;
mod records;
mod rollout;
mod rollout_commands;
mod rollout_records;
mod site;

pub use self::agent_records::*;
pub use self::change::*;
pub(crate) use self::command::*;
pub use self::fleet::*;
pub use self::fleet_answers::*;
pub use self::fleet_change::*;
pub use self::history_records::*;
pub use self::host::*;
pub use self::link::*;
pub use self::operators::*;
pub use self::peer::*;
pub use self::peer_link::*;
pub use self::peer_records::*;
pub use self::records::*;
pub use self::rollout::*;
pub use self::rollout_commands::*;
pub use self::rollout_records::*;
pub use self::site::*;

/// A message or record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Malformed {
    /// Path of the field, such as `networks[2].uuid`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// What it can be instead.
    pub remedy: Cow<'static, str>,
}

impl Malformed {
    /// A field that cannot be read.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
            remedy: Cow::Borrowed("correct the field"),
        }
    }

    /// The same, with what the field can be instead.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// The same as a fault of a request, as logs keep it.
    pub fn fault(&self) -> ::fleet::Fault {
        ::fleet::Fault {
            reason: ::site::ReasonSet::name(::site::Reason::InvalidArgument).to_owned(),
            field: self.path.clone(),
            message: format!("{} {}", self.path, self.problem),
            remedy: self.remedy.to_string(),
            ..::fleet::Fault::default()
        }
    }
}

/// A value of an enumeration of the contract.
///
/// # Errors
/// A number that is none of its values.
fn value_of<E>(path: &str, number: i32, name: fn(&E) -> &'static str) -> Result<E, Malformed>
where
    E: TryFrom<i32>,
{
    // No enumeration of the contract has more values.
    const MOST: i32 = 100;
    E::try_from(number).map_err(|_| {
        let all = (1..MOST).filter_map(|number| E::try_from(number).ok());
        let all: Vec<_> = all.map(|value| name(&value)).collect();
        Malformed::new(path, format!("is {number}, which is unknown"))
            .remedy(format!("give one of {}", all.join(", ")))
    })
}

/// Enough of a text to recognise it in a message.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain("…".chars()).collect()
}
