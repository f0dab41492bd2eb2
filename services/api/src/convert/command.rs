//! Commands and their answers, and the pieces in which they travel.

use std::time::Duration;

use fleet::{
    Command, CommandFailure, CommandId, CommandOutcome, CommandResult, Epoch, MAX_COMMAND_BYTES,
    SiteMethod,
};
use prost::Message as _;

use super::Malformed;
use super::link::CHUNK_BYTES;
use crate::fleet_v1 as wire;
use crate::status::{from_rejection, to_failure};
use wire::command_result::Outcome;
use wire::exchange_request::Message as FromAgent;
use wire::exchange_response::Message as FromController;

/// What surrounds a request or an answer of at most [`MAX_COMMAND_BYTES`]: numbers, the path of
/// the method, who asks, or the message and the details of a status.
const ENVELOPE_BYTES: usize = 4 * 1024;

/// The pieces of one message, as far as they have come.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    begun: bool,
}

impl Gathered {
    /// Whether more pieces must come.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Takes the next piece; all bytes with the last one.
    ///
    /// # Errors
    /// When there are too many bytes.
    pub(super) fn take(
        &mut self,
        path: &str,
        data: &[u8],
        last: bool,
    ) -> Result<Option<Vec<u8>>, Malformed> {
        if self.bytes.len() + data.len() > MAX_COMMAND_BYTES + ENVELOPE_BYTES {
            return Err(Malformed::new(path, "makes the command exceed 1 MiB"));
        }
        self.bytes.extend_from_slice(data);
        self.begun = !last;
        Ok(last.then(|| std::mem::take(&mut self.bytes)))
    }
}

/// A command as the pieces that go over the wire.
pub(crate) fn command_pieces(command: &Command) -> Vec<wire::ExchangeResponse> {
    let Command {
        id,
        epoch,
        method,
        request,
        within,
        actor,
    } = command;
    let message = wire::Command {
        id: id.0,
        epoch: epoch.0,
        method: method.path().to_owned(),
        request: request.to_vec(),
        timeout_milliseconds: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        actor: actor.clone(),
    };
    let piece = |(data, last)| wire::ExchangeResponse {
        message: Some(FromController::CommandChunk(wire::CommandChunk {
            data,
            last,
        })),
    };
    pieces(&message.encode_to_vec()).map(piece).collect()
}

/// A command.
///
/// # Errors
/// What cannot be understood; the link must end then.
pub(crate) fn command_from_wire(bytes: &[u8]) -> Result<Command, Malformed> {
    let message = wire::Command::decode(bytes)
        .map_err(|error| Malformed::new("command", error.to_string()))?;
    let wire::Command {
        id,
        epoch,
        method,
        request,
        timeout_milliseconds,
        actor,
    } = message;
    let method = SiteMethod::from_path(&method)
        .ok_or_else(|| Malformed::new("command.method", "is none of a site"))?;
    Ok(Command {
        id: CommandId(id),
        epoch: Epoch(epoch),
        method,
        request: request.into(),
        within: Duration::from_millis(timeout_milliseconds),
        actor,
    })
}

/// What a command came to, as the pieces that go over the wire.
pub(crate) fn result_pieces(result: &CommandResult) -> Vec<wire::ExchangeRequest> {
    let CommandResult { id, outcome } = result;
    let outcome = match outcome {
        CommandOutcome::Done(answer) => Outcome::Answer(answer.clone()),
        CommandOutcome::Failed(failure) => Outcome::Failure(failure_to_wire(failure.clone())),
        CommandOutcome::Refused(rejection) => {
            Outcome::Failure(failure_to_wire(to_failure(&from_rejection(rejection))))
        }
    };
    let message = wire::CommandResult {
        id: id.0,
        outcome: Some(outcome),
    };
    let piece = |(data, last)| wire::ExchangeRequest {
        message: Some(FromAgent::CommandResultChunk(wire::CommandResultChunk {
            data,
            last,
        })),
    };
    pieces(&message.encode_to_vec()).map(piece).collect()
}

/// What a command came to.
///
/// # Errors
/// What cannot be understood; the link must end then.
pub(crate) fn result_from_wire(bytes: &[u8]) -> Result<CommandResult, Malformed> {
    let message = wire::CommandResult::decode(bytes)
        .map_err(|error| Malformed::new("command_result", error.to_string()))?;
    let wire::CommandResult { id, outcome } = message;
    let outcome = match outcome {
        Some(Outcome::Answer(answer)) => CommandOutcome::Done(answer),
        Some(Outcome::Failure(failure)) => CommandOutcome::Failed(failure_from_wire(failure)?),
        None => return Err(Malformed::new("command_result.outcome", "is missing")),
    };
    Ok(CommandResult {
        id: CommandId(id),
        outcome,
    })
}

fn failure_to_wire(failure: CommandFailure) -> wire::CommandFailure {
    let CommandFailure {
        code,
        message,
        details,
        faults: _,
    } = failure;
    wire::CommandFailure {
        code,
        message,
        details,
    }
}

/// The faults are read from the details here, once, so that the core needs no protobuf.
fn failure_from_wire(failure: wire::CommandFailure) -> Result<CommandFailure, Malformed> {
    let wire::CommandFailure {
        code,
        message,
        details,
    } = failure;
    if !(1..=16).contains(&code) {
        let problem = format!("{code} is the code of no failure");
        return Err(Malformed::new("command_failure.code", problem));
    }
    let code = tonic::Code::from_i32(code);
    let status = tonic::Status::with_details(code, message, details.into());
    Ok(to_failure(&status))
}

/// The bytes in order, each piece with whether it is the last.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = (Vec<u8>, bool)> {
    let count = bytes.len().div_ceil(CHUNK_BYTES).max(1);
    let whole = bytes.chunks(CHUNK_BYTES).map(<[u8]>::to_vec);
    let whole = whole.chain(bytes.is_empty().then(Vec::new));
    whole
        .enumerate()
        .map(move |(index, data)| (data, index + 1 == count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{AgentMessages, ControllerMessages, agent_message_to_wire};
    use fleet::{AgentMessage, ControllerMessage, Reason, Rejection, Violation};

    fn there(message: &CommandResult) -> CommandResult {
        let mut messages = AgentMessages::new(|_| Err("no request is sent".to_owned()));
        let pieces = agent_message_to_wire(&AgentMessage::CommandResult(message.clone()));
        let mut whole = None;
        for piece in pieces {
            assert!(whole.is_none(), "complete before the last piece");
            assert!(piece.encoded_len() <= CHUNK_BYTES + 16);
            whole = messages.take(piece).expect("a piece");
        }
        match whole {
            Some(AgentMessage::CommandResult(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn commands_of_any_size_arrive_in_small_pieces() {
        for size in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, MAX_COMMAND_BYTES] {
            let command = Command {
                id: CommandId(7),
                epoch: Epoch(3),
                method: SiteMethod::UpdateDns,
                request: vec![1; size].into(),
                within: Duration::from_millis(1500),
                actor: "local/uid-0".to_owned(),
            };
            let mut messages = ControllerMessages::default();
            let mut whole = None;
            for piece in command_pieces(&command) {
                assert!(piece.encoded_len() <= CHUNK_BYTES + 16);
                whole = messages.take(piece).expect("a piece");
            }
            assert_eq!(whole, Some(ControllerMessage::Command(command)));
            let outcome = CommandOutcome::Done(vec![2; size]);
            let id = CommandId(7);
            let result = CommandResult { id, outcome };
            assert_eq!(there(&result), result);
        }
    }

    #[test]
    fn a_refusal_arrives_byte_for_byte_and_with_its_faults() {
        let violation = Violation::new(Reason::StaleEpoch, "too old", "ask the owner");
        let violation = violation.object("subcloud", "s").fact("epoch", 3);
        let rejection = Rejection::one(violation);
        let status = from_rejection(&rejection);
        let result = CommandResult {
            id: CommandId(1),
            outcome: CommandOutcome::Refused(rejection),
        };
        let CommandOutcome::Failed(failure) = there(&result).outcome else {
            panic!("a failure");
        };
        assert_eq!(failure.faults[0].reason, "STALE_EPOCH");
        let arrived = crate::status::from_failure(failure);
        assert_eq!(
            (arrived.code(), arrived.message(), arrived.details()),
            (status.code(), status.message(), status.details())
        );
    }

    #[test]
    fn too_many_pieces_or_foreign_ones_end_the_link() {
        let mut gathered = Gathered::default();
        let half = vec![0; MAX_COMMAND_BYTES / 2 + ENVELOPE_BYTES];
        gathered.take("x", &half, false).expect("half");
        gathered.take("x", &half, true).expect_err("too much");
        let mut messages = AgentMessages::new(|_| Err("no request is sent".to_owned()));
        let chunk = wire::CommandResultChunk {
            data: vec![1],
            last: false,
        };
        let say = |message| wire::ExchangeRequest {
            message: Some(message),
        };
        let begun = messages.take(say(FromAgent::CommandResultChunk(chunk)));
        assert_eq!(begun, Ok(None));
        messages
            .take(say(FromAgent::Heartbeat(wire::Heartbeat {})))
            .expect_err("between");
    }
}
