//! The controller's commands: who may give them, how many at once, and where answers go.

use std::collections::BTreeSet;

use crate::{
    AgentMessage, Command, CommandId, CommandOutcome, CommandResult, ConnectionId,
    MAX_COMMAND_BYTES, MAX_COMMANDS_PER_LINK, Reason, Rejection, Violation,
};

use super::link::Link;
use super::{Agent, AgentOutput};

/// The commands that the site works on, whichever connection brought them.
#[derive(Debug, Default)]
pub(super) struct Commands {
    running: BTreeSet<(ConnectionId, CommandId)>,
    stale: u64,
}

impl Commands {
    /// Whether the site works on a command that this connection brought.
    pub(super) fn busy(&self, over: Option<ConnectionId>) -> bool {
        self.running
            .iter()
            .any(|(connection, _)| Some(*connection) == over)
    }
}

impl Agent {
    /// A command came over the present connection.
    pub(super) fn command(
        &mut self,
        connection: ConnectionId,
        command: Command,
        out: &mut Vec<AgentOutput>,
    ) {
        match &mut self.link {
            Link::Live { .. } => self.take_up(connection, command, out),
            // The term in which it comes is not written down yet, so nothing is done in it.
            Link::Adopting { commands, .. } => {
                if commands.iter().any(|waiting| waiting.id == command.id) {
                    return;
                }
                if commands.len() < MAX_COMMANDS_PER_LINK {
                    commands.push(command);
                } else {
                    let refusal = too_many();
                    self.refuse_command(connection, command.id, refusal, out);
                }
            }
            Link::NoAddress
            | Link::Waiting(_)
            | Link::Settling { .. }
            | Link::Connecting { .. }
            | Link::Greeting { .. } => {}
        }
    }

    /// Does a command, unless it comes from the past or is one too many. One that comes again while
    /// the site works on it is no other one: it is answered once, with what comes of it.
    pub(super) fn take_up(
        &mut self,
        connection: ConnectionId,
        command: Command,
        out: &mut Vec<AgentOutput>,
    ) {
        if self.commands.running.contains(&(connection, command.id)) {
            return;
        }
        if command.epoch < self.record.epoch {
            self.commands.stale += 1;
            out.push(AgentOutput::StaleCommand {
                given: command.epoch,
                obeyed: self.record.epoch,
                total: self.commands.stale,
            });
            let refusal = self.stale(&command);
            self.refuse_command(connection, command.id, refusal, out);
        } else if command.epoch > self.record.epoch {
            let refusal = ahead(&command);
            self.refuse_command(connection, command.id, refusal, out);
        } else if self.commands.running.len() >= MAX_COMMANDS_PER_LINK {
            self.refuse_command(connection, command.id, too_many(), out);
        } else {
            self.commands.running.insert((connection, command.id));
            out.push(AgentOutput::Execute {
                connection,
                command,
            });
        }
    }

    /// The site has answered a command. An answer whose connection is gone goes nowhere: who
    /// asked asks again, and the site gives it again.
    pub(super) fn command_done(
        &mut self,
        connection: ConnectionId,
        id: CommandId,
        outcome: CommandOutcome,
        out: &mut Vec<AgentOutput>,
    ) {
        self.commands.running.remove(&(connection, id));
        if !self.link.is_live() || self.link.connection() != Some(connection) {
            return;
        }
        let size = outcome.size();
        let outcome = if size > MAX_COMMAND_BYTES {
            CommandOutcome::Refused(Rejection::one(too_large(size)))
        } else {
            outcome
        };
        out.push(AgentOutput::Send {
            connection,
            message: AgentMessage::CommandResult(CommandResult { id, outcome }),
        });
    }

    /// How many commands of older terms were refused.
    pub fn stale_commands(&self) -> u64 {
        self.commands.stale
    }

    /// How many commands the site works on.
    pub fn commands_running(&self) -> usize {
        self.commands.running.len()
    }

    fn refuse_command(
        &mut self,
        connection: ConnectionId,
        id: CommandId,
        refusal: Violation,
        out: &mut Vec<AgentOutput>,
    ) {
        let outcome = CommandOutcome::Refused(Rejection::one(refusal));
        out.push(AgentOutput::Send {
            connection,
            message: AgentMessage::CommandResult(CommandResult { id, outcome }),
        });
    }

    fn stale(&self, command: &Command) -> Violation {
        Violation::new(
            Reason::StaleEpoch,
            format!(
                "the command was given in term {}, and the site obeys controller {} in term {}",
                command.epoch.0, self.record.owner, self.record.epoch.0
            ),
            "ask the controller that owns the subcloud now; nothing was changed",
        )
        .fact("epoch", command.epoch.0)
        .fact("obeyedEpoch", self.record.epoch.0)
        .fact("owner", self.record.owner)
    }
}

fn ahead(command: &Command) -> Violation {
    Violation::new(
        Reason::LinkProtocolViolation,
        format!(
            "the command was given in term {}, which no welcome has told",
            command.epoch.0
        ),
        "ask again when the link is up anew; nothing was changed",
    )
}

fn too_many() -> Violation {
    Violation::new(
        Reason::TooManyCommands,
        format!("the site works on {MAX_COMMANDS_PER_LINK} commands and takes no more for now"),
        "ask again when those are answered; nothing was changed",
    )
    .fact("limit", MAX_COMMANDS_PER_LINK)
}

fn too_large(bytes: usize) -> Violation {
    Violation::new(
        Reason::CommandTooLarge,
        format!("the answer has {bytes} bytes, and the link takes 1 MiB"),
        "ask for less, such as a smaller page_size; a change that was asked for was made",
    )
    .fact("limit", MAX_COMMAND_BYTES)
}
