//! `system network-…`.

use api::site_v1::{
    CreateNetworkRequest, CreateNetworkResponse, DeleteNetworkRequest, DeleteNetworkResponse,
    GetNetworkRequest, ListNetworksRequest, Network,
};
use clap::{ArgAction, Subcommand};

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::wording;

/// Networks.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// List the networks with the family of their primary pools
    #[command(
        name = "network-list",
        after_help = "Example:\n  tandem system network-list -c name -c primary_pool_family"
    )]
    List,
    /// Show a network
    #[command(
        name = "network-show",
        after_help = "Example:\n  tandem system network-show oam"
    )]
    Show {
        /// Uuid, name, number or type of the network
        network: String,
    },
    /// Add a network with its primary pool
    #[command(
        name = "network-add",
        after_help = "Example:\n  tandem system network-add admin admin true admin-ipv6"
    )]
    Add {
        /// Name, unique on the site
        name: String,
        /// Type: pxeboot, mgmt, oam, admin, cluster-host, cluster-pod, cluster-service,
        /// multicast, storage, ironic, system-controller or system-controller-oam
        #[arg(value_name = "TYPE")]
        network_type: String,
        /// Whether hosts get addresses by themselves: true or false
        #[arg(value_parser = truth, action = ArgAction::Set)]
        dynamic: bool,
        /// Uuid or name of the primary pool; its family can never be changed
        pool_uuid: String,
    },
    /// Delete a network; its pools stay, detached
    #[command(
        name = "network-delete",
        after_help = "Example:\n  tandem system network-delete admin --dry-run"
    )]
    Delete {
        /// Uuid, name, number or type of the network
        network: String,
    },
}

const COLUMNS: [Column; 7] = [
    Column::new("id"),
    Column::new("uuid"),
    Column::new("name"),
    Column::new("type"),
    Column::new("dynamic"),
    Column::new("pool_uuid"),
    Column::new("primary_pool_family"),
];

impl NetworkCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::List | Self::Show { .. } => Shape::reads(&COLUMNS),
            Self::Add { .. } => Shape::changes(&COLUMNS),
            Self::Delete { .. } => Shape::changes(&[]),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::List => list(session).await,
            Self::Show { network } => {
                let request = GetNetworkRequest { network };
                let answer = call(session.networks().get_network(request)).await?;
                Ok(Answer::new(record(answer.network)?))
            }
            Self::Add {
                name,
                network_type,
                dynamic,
                pool_uuid,
            } => {
                let request = CreateNetworkRequest {
                    name,
                    r#type: network_type,
                    dynamic,
                    address_pool: pool_uuid,
                    validate_only: session.dry_run(),
                    request_id: session.request_id(),
                };
                let CreateNetworkResponse { network, effects } =
                    call(session.networks().create_network(request)).await?;
                Answer::of_change(session, effects, || record(network))
            }
            Self::Delete { network } => {
                let note = format!("Deleted network {network}");
                let request = DeleteNetworkRequest {
                    network,
                    validate_only: session.dry_run(),
                    request_id: session.request_id(),
                };
                let DeleteNetworkResponse { effects } =
                    call(session.networks().delete_network(request)).await?;
                Ok(Answer::of_deletion(session, effects, note))
            }
        }
    }
}

async fn list(session: &Session) -> Result<Answer, Failure> {
    let mut client = session.networks();
    let networks = every_page(async |page_token| {
        let request = ListNetworksRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = call(client.list_networks(request)).await?;
        Ok((page.networks, page.next_page_token))
    });
    Ok(Answer::new(Body::list(
        &COLUMNS,
        networks.await?.into_iter().map(row),
    )))
}

fn record(network: Option<Network>) -> Result<Body, Failure> {
    Ok(Body::record(&COLUMNS, row(promised(network, "network")?)))
}

fn row(network: Network) -> [Cell; 7] {
    let Network {
        id,
        uuid,
        name,
        r#type,
        dynamic,
        address_pools: _,
        primary_family,
        stack: _,
        primary_pool_uuid,
    } = network;
    [
        Cell::number(id),
        Cell::text(uuid),
        Cell::text(name),
        Cell::text(r#type),
        Cell::flag(dynamic),
        Cell::text(primary_pool_uuid),
        wording::family(primary_family),
    ]
}

/// The spellings of a truth value that the field's tools take.
fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}
