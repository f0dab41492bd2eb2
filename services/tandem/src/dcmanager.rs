//! `tandem dcmanager …`: the commands of the fleet, a file for each family of them.

mod alarm;
mod declaration;
mod errors;
mod event;
mod management;
mod network_rollout;
mod rollout_wait;
mod subcloud;
mod subcloud_group;

use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::program::Shape;
use crate::session::Session;

pub(crate) use declaration::Declaration;

/// The commands of the fleet.
#[derive(Debug, Subcommand)]
pub(crate) enum Dcmanager {
    /// Subclouds: add, list, manage, update, delete; their tokens and refusals
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager subcloud list"
    )]
    Subcloud {
        #[command(subcommand)]
        command: subcloud::SubcloudCommand,
    },
    /// Groups of subclouds, which changes reach together
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager subcloud-group list"
    )]
    SubcloudGroup {
        #[command(subcommand)]
        command: subcloud_group::SubcloudGroupCommand,
    },
    /// Alarms of the subclouds
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager alarm summary"
    )]
    Alarm {
        #[command(subcommand)]
        command: alarm::AlarmCommand,
    },
    /// Rollouts: one change of a network's pools on many subclouds
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager network-rollout list"
    )]
    NetworkRollout {
        #[command(subcommand)]
        command: network_rollout::RolloutCommand,
    },
    /// What happened in the fleet
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager event list"
    )]
    Event {
        #[command(subcommand)]
        command: event::EventCommand,
    },
}

impl Dcmanager {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Subcloud { command } => command.shape(),
            Self::SubcloudGroup { command } => command.shape(),
            Self::Alarm { command } => command.shape(),
            Self::NetworkRollout { command } => command.shape(),
            Self::Event { command } => command.shape(),
        }
    }

    /// Reads and judges the file that the command names, if it does.
    ///
    /// # Errors
    /// A file that cannot be read, and every fault of one that can.
    pub(crate) fn declaration(&self, colour: bool) -> Result<Declaration, Failure> {
        match self {
            Self::Subcloud { command } => command.declaration(colour),
            Self::SubcloudGroup { .. } | Self::Alarm { .. } | Self::Event { .. } => {
                Ok(Declaration::default())
            }
            Self::NetworkRollout { command } => command.declaration(),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(
        self,
        session: &Session,
        declaration: Declaration,
    ) -> Result<Answer, Failure> {
        match self {
            Self::Subcloud { command } => command.run(session, declaration).await,
            Self::SubcloudGroup { command } => command.run(session).await,
            Self::Alarm { command } => command.run(session).await,
            Self::NetworkRollout { command } => command.run(session, declaration).await,
            Self::Event { command } => command.run(session).await,
        }
    }
}
