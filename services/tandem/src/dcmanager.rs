//! `tandem dcmanager …`: the commands of the fleet, a file for each family of them.

mod alarm;
mod audit;
mod declaration;
mod errors;
mod event;
mod fleet_event;
mod management;
mod migration_wait;
mod network_rollout;
mod operator;
mod peer_group_association;
mod rollout_wait;
mod subcloud;
mod subcloud_group;
mod subcloud_peer_group;
mod system_peer;

use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::program::Shape;
use crate::session::Session;

pub(crate) use declaration::Declaration;
pub(crate) use fleet_event::text as fleet_change_text;

use crate::system::Watch;

/// The commands of the fleet, and the one that does not end by itself.
#[derive(Debug, Subcommand)]
pub(crate) enum DcmanagerArea {
    #[command(flatten)]
    Question(Dcmanager),
    /// Show every change of the fleet as it happens, until interrupted
    #[command(
        after_help = "One line for each change: REVISION  KIND  TEXT; the whole fleet is a line \
                      of the kind RESYNC\nand one for each subcloud. With --format json, one \
                      object a line.\n\nExample:\n  tandem dcmanager watch --format json"
    )]
    Watch(Watch),
}

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
    /// Who asked for what, with which outcome
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager audit list --since 1h"
    )]
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Operators: make, list and revoke those who call over TCP
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager operator list"
    )]
    Operator {
        #[command(subcommand)]
        command: operator::OperatorCommand,
    },
    /// System peers: other system controllers that take over when this one is lost
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager system-peer list"
    )]
    SystemPeer {
        #[command(subcommand)]
        command: system_peer::SystemPeerCommand,
    },
    /// Groups of subclouds that move together between system peers
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager subcloud-peer-group list"
    )]
    SubcloudPeerGroup {
        #[command(subcommand)]
        command: subcloud_peer_group::SubcloudPeerGroupCommand,
    },
    /// Which group is shared with which system peer
    #[command(
        subcommand_value_name = "COMMAND",
        after_help = "Example:\n  tandem dcmanager peer-group-association list"
    )]
    PeerGroupAssociation {
        #[command(subcommand)]
        command: peer_group_association::AssociationCommand,
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
            Self::Audit { command } => command.shape(),
            Self::Operator { command } => command.shape(),
            Self::SystemPeer { command } => command.shape(),
            Self::SubcloudPeerGroup { command } => command.shape(),
            Self::PeerGroupAssociation { command } => command.shape(),
        }
    }

    /// Reads and judges the file that the command names, if it does.
    ///
    /// # Errors
    /// A file that cannot be read, and every fault of one that can.
    pub(crate) fn declaration(&self, colour: bool) -> Result<Declaration, Failure> {
        match self {
            Self::Subcloud { command } => command.declaration(colour),
            Self::NetworkRollout { command } => command.declaration(),
            Self::SystemPeer { command } => command.declaration(),
            Self::SubcloudGroup { .. }
            | Self::Alarm { .. }
            | Self::Event { .. }
            | Self::Audit { .. }
            | Self::Operator { .. }
            | Self::SubcloudPeerGroup { .. }
            | Self::PeerGroupAssociation { .. } => Ok(Declaration::default()),
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
            Self::Audit { command } => command.run(session).await,
            Self::Operator { command } => command.run(session).await,
            Self::SystemPeer { command } => command.run(session, declaration).await,
            Self::SubcloudPeerGroup { command } => command.run(session).await,
            Self::PeerGroupAssociation { command } => command.run(session).await,
        }
    }
}
