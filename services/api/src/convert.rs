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
            remedy: Cow::Borrowed("give what the contract says of the field"),
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

/// A field that only answers have.
fn given_by_server(path: &str) -> Malformed {
    Malformed::new(path, "is given by the server").remedy("leave it out")
}

/// A part of a request that must be there.
fn missing(path: &str) -> Vec<Malformed> {
    vec![Malformed::new(path, "is missing").remedy(format!("give {path}"))]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fleet_v1, site_v1};

    #[track_caller]
    fn check<T: std::fmt::Debug>(outcome: Result<T, Vec<Malformed>>, expected: &[(&str, &str)]) {
        let faults = outcome.expect_err("something is wrong");
        let told: Vec<_> = faults
            .iter()
            .map(|fault| (&*fault.path, &*fault.remedy))
            .collect();
        assert_eq!(told, expected);
    }

    fn mask(path: &str) -> Option<prost_types::FieldMask> {
        Some(prost_types::FieldMask {
            paths: vec![path.to_owned()],
        })
    }

    #[test]
    fn the_remedy_says_what_the_field_can_be() {
        check(
            update_subcloud(fleet_v1::UpdateSubcloudRequest {
                subcloud: Some(fleet_v1::Subcloud::default()),
                update_mask: mask("name"),
                ..Default::default()
            }),
            &[(
                "update_mask.paths[0]",
                "the fields that can are description, location and group",
            )],
        );
        check(
            update_peer(fleet_v1::UpdateSystemPeerRequest {
                system_peer: Some(fleet_v1::SystemPeer {
                    failure_policy: 9,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            &[(
                "system_peer.failure_policy",
                "give one of FAILURE_POLICY_ALARM, FAILURE_POLICY_REHOME",
            )],
        );
        let pool = site_v1::AddressPool {
            uuid: "x".to_owned(),
            ..Default::default()
        };
        check(
            create_pool(
                site_v1::CreateAddressPoolRequest {
                    address_pool: Some(pool),
                    ..Default::default()
                },
                uuid::Uuid::nil(),
            ),
            &[("address_pool.uuid", "leave it out")],
        );
        check(
            set_gateways(fleet_v1::SetSubcloudGatewaysRequest {
                gateway_addresses: vec!["x".to_owned()],
                ..Default::default()
            }),
            &[(
                "gateway_addresses[0]",
                "give an IPv4 or IPv6 address, such as 192.168.204.1 or fd01::1",
            )],
        );
        check(
            crate::page::page_size_of(-1),
            &[("page_size", "give 0 for 100, or 1 to 1000")],
        );
        check(
            time_range(5, 5).map_err(|fault| vec![fault]),
            &[("until_milliseconds", "give 0 for no bound, or more than 5")],
        );
    }
}
