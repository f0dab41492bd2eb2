//! `tandem system …`: the commands of one site, a file for each family of them.

mod addrpool;
mod alarm;
mod dns;
mod host;
mod kubernetes;
mod network;
mod network_addrpool;
mod oam;
mod pairs;
mod show;
mod site_event;
mod watch;

use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::program::Shape;
use crate::session::Session;

pub(crate) use watch::{Followed, Watch};

/// The commands of one site, and the one that does not end by itself.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemArea {
    #[command(flatten)]
    Question(System),
    /// Show every change of the site as it happens, until interrupted
    #[command(
        after_help = "One line for each effect: REVISION  KIND  TEXT; the whole site is a line \
                      of the kind RESYNC.\nWith --format json, one object a line.\n\n\
                      Example:\n  tandem system watch --format json"
    )]
    Watch(Watch),
}

/// The commands of one site that have one answer.
#[derive(Debug, Subcommand)]
pub(crate) enum System {
    #[command(flatten)]
    Site(show::SiteCommand),
    #[command(flatten)]
    Network(network::NetworkCommand),
    #[command(flatten)]
    AddressPool(addrpool::AddressPoolCommand),
    #[command(flatten)]
    NetworkAddressPool(network_addrpool::NetworkAddressPoolCommand),
    #[command(flatten)]
    Oam(oam::OamCommand),
    #[command(flatten)]
    Dns(dns::DnsCommand),
    #[command(flatten)]
    Host(host::HostCommand),
    #[command(flatten)]
    Alarm(alarm::AlarmCommand),
    #[command(flatten)]
    Kubernetes(kubernetes::KubernetesCommand),
}

impl System {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Site(command) => command.shape(),
            Self::Network(command) => command.shape(),
            Self::AddressPool(command) => command.shape(),
            Self::NetworkAddressPool(command) => command.shape(),
            Self::Oam(command) => command.shape(),
            Self::Dns(command) => command.shape(),
            Self::Host(command) => command.shape(),
            Self::Alarm(command) => command.shape(),
            Self::Kubernetes(command) => command.shape(),
        }
    }

    /// Finds what is wrong with the arguments together, before anything is sent.
    ///
    /// # Errors
    /// A wrong command line.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self {
            Self::AddressPool(command) => command.check(),
            Self::Oam(command) => command.check(),
            Self::Dns(command) => command.check(),
            Self::Site(_)
            | Self::Network(_)
            | Self::NetworkAddressPool(_)
            | Self::Host(_)
            | Self::Alarm(_)
            | Self::Kubernetes(_) => Ok(()),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Site(command) => command.run(session).await,
            Self::Network(command) => command.run(session).await,
            Self::AddressPool(command) => command.run(session).await,
            Self::NetworkAddressPool(command) => command.run(session).await,
            Self::Oam(command) => command.run(session).await,
            Self::Dns(command) => command.run(session).await,
            Self::Host(command) => command.run(session).await,
            Self::Alarm(command) => command.run(session).await,
            Self::Kubernetes(command) => command.run(session).await,
        }
    }
}
