//! The sites of subclouds, called over their links.

use std::sync::Arc;
use std::time::Duration;

use api::command::Prepared;
use api::convert::change_of_addresses;
use api::status::Asked;
use daemon::{RemoteAnswer, RemoteCall, Subclouds, now, random_uuid};
use fleet::{Actor, COMMAND_TIMEOUT, CommandOutcome, RunCommand};
use site::Timestamp;
use tonic::Status;

use super::refused;
use crate::hub::Hub;

/// How much earlier than its caller's deadline a command ends, so that what is known of it still
/// reaches the caller: a quarter of a second, or a tenth of a short deadline.
const ANSWER_MARGIN: Duration = Duration::from_millis(250);

/// The way to the sites of subclouds.
#[derive(Debug)]
pub(crate) struct SitesOfSubclouds(pub(crate) Arc<Hub>);

impl Subclouds for SitesOfSubclouds {
    fn call(&self, call: RemoteCall) -> RemoteAnswer {
        let hub = Arc::clone(&self.0);
        Box::pin(async move {
            let RemoteCall {
                caller,
                subcloud,
                method,
                request,
                within,
            } = call;
            let Prepared {
                request: body,
                request_id,
                changes,
            } = api::command::prepare(method, request, &random_uuid().to_string())
                .map_err(|fault| undecodable(&fault))?;
            let ids = (random_uuid(), random_uuid());
            let change = change_of_addresses(method, &body, ids);
            let foreseen = change.and_then(|change| hub.foresee(&subcloud, change));
            let outcome = hub.command(|request| RunCommand {
                request,
                actor: Actor::Operator(caller.to_string()),
                subcloud,
                method,
                body: body.into(),
                request_id,
                changes,
                foreseen,
                deadline: deadline(now(), within),
            });
            match outcome.await {
                CommandOutcome::Done(answer) => Ok(answer),
                CommandOutcome::Failed(failure) => Err(api::status::from_failure(failure)),
                CommandOutcome::Refused(rejection) => Err(refused(rejection)),
            }
        })
    }
}

/// A change that cannot be read goes nowhere, and no rule notes it.
fn undecodable(fault: &prost::DecodeError) -> Status {
    let refusal = api::status::message_unreadable(&fault.to_string());
    api::status::marked(refusal, Asked::No)
}

/// When the answer is of no use any more.
fn deadline(now: Timestamp, within: Option<Duration>) -> Timestamp {
    let within = within.map_or(COMMAND_TIMEOUT, |within| {
        within - ANSWER_MARGIN.min(within / 10)
    });
    let milliseconds = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    Timestamp(now.0.saturating_add(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_a_little_before_its_caller_gives_up() {
        let check = |within: Option<u64>, expected: u64| {
            let within = within.map(Duration::from_millis);
            assert_eq!(
                deadline(Timestamp(1000), within),
                Timestamp(1000 + expected)
            );
        };
        check(None, 30_000);
        check(Some(10_000), 9_750);
        check(Some(1000), 900);
        check(Some(0), 0);
    }
}
