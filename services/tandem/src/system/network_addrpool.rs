//! `system network-addrpool-…`: which pool belongs to which network.

use api::site_v1::{
    AssignAddressPoolRequest, AssignAddressPoolResponse, GetNetworkAddressPoolRequest,
    ListNetworkAddressPoolsRequest, NetworkAddressPool, RemoveAddressPoolRequest,
    RemoveAddressPoolResponse,
};
use clap::{Args, Subcommand};

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::wording;

/// Associations of networks and address pools.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkAddressPoolCommand {
    /// List the associations of networks and address pools
    #[command(
        name = "network-addrpool-list",
        after_help = "Example:\n  tandem system network-addrpool-list | awk '$6 == \"oam-ipv4\" \
                      { print $2 }'"
    )]
    List,
    /// Show an association
    #[command(
        name = "network-addrpool-show",
        after_help = "Example:\n  tandem system network-addrpool-show oam oam-ipv4"
    )]
    Show(Association),
    /// Make a pool the secondary pool of a network: the network becomes dual-stack
    #[command(
        name = "network-addrpool-assign",
        after_help = "Example:\n  tandem system network-addrpool-assign oam oam-ipv4 --dry-run"
    )]
    Assign {
        /// Uuid, name, number or type of the network
        network: String,
        /// Uuid or name of the pool
        #[arg(value_name = "POOL")]
        address_pool: String,
    },
    /// Take the secondary pool off a network: the network becomes single-stack
    #[command(
        name = "network-addrpool-remove",
        after_help = "Example:\n  tandem system network-addrpool-remove oam oam-ipv4 --dry-run"
    )]
    Remove(Association),
}

/// An association, by its uuid or by the names of its two ends.
#[derive(Debug, Args)]
pub(crate) struct Association {
    /// Uuid of the association; or, before a POOL, uuid, name, number or type of the network
    #[arg(value_name = "UUID|NETWORK")]
    first: String,
    /// Uuid or name of the pool
    #[arg(value_name = "POOL")]
    second: Option<String>,
}

const LIST_COLUMNS: [Column; 5] = [
    Column::new("uuid"),
    Column::new("network_name"),
    Column::new("addrpool_name"),
    Column::new("rank"),
    Column::new("family"),
];

const SHOW_COLUMNS: [Column; 3] = [
    Column::new("uuid"),
    Column::new("network_name"),
    Column::new("pool_name"),
];

impl NetworkAddressPoolCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::List => Shape::reads(&LIST_COLUMNS),
            Self::Show { .. } => Shape::reads(&SHOW_COLUMNS),
            Self::Assign { .. } | Self::Remove { .. } => Shape::changes(&SHOW_COLUMNS),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::List => list(session).await,
            Self::Show(association) => {
                let (uuid, network, address_pool) = association.ends();
                let request = GetNetworkAddressPoolRequest {
                    uuid,
                    network,
                    address_pool,
                };
                let answer = call(session.networks().get_network_address_pool(request)).await?;
                Ok(Answer::new(record(answer.network_address_pool)?))
            }
            Self::Assign {
                network,
                address_pool,
            } => {
                let request = AssignAddressPoolRequest {
                    network,
                    address_pool,
                    validate_only: session.dry_run(),
                    request_id: session.request_id(),
                };
                let AssignAddressPoolResponse {
                    network_address_pool,
                    effects,
                } = call(session.networks().assign_address_pool(request)).await?;
                Answer::of_change(session, effects, || record(network_address_pool))
            }
            Self::Remove(association) => {
                let (uuid, network, address_pool) = association.ends();
                let request = RemoveAddressPoolRequest {
                    uuid,
                    network,
                    address_pool,
                    validate_only: session.dry_run(),
                    request_id: session.request_id(),
                };
                let RemoveAddressPoolResponse {
                    network_address_pool,
                    effects,
                } = call(session.networks().remove_address_pool(request)).await?;
                Answer::of_change(session, effects, || record(network_address_pool))
            }
        }
    }
}

impl Association {
    /// Uuid, network and pool, as requests name them.
    fn ends(self) -> (String, String, String) {
        match self.second {
            Some(address_pool) => (String::new(), self.first, address_pool),
            None => (self.first, String::new(), String::new()),
        }
    }
}

async fn list(session: &Session) -> Result<Answer, Failure> {
    let mut client = session.networks();
    let associations = every_page(async |page_token| {
        let request = ListNetworkAddressPoolsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = call(client.list_network_address_pools(request)).await?;
        Ok((page.network_address_pools, page.next_page_token))
    });
    let rows = associations.await?.into_iter().map(|association| {
        let NetworkAddressPool {
            uuid,
            network_name,
            network_uuid: _,
            address_pool_name,
            address_pool_uuid: _,
            rank,
            family,
        } = association;
        [
            Cell::text(uuid),
            Cell::text(network_name),
            Cell::text(address_pool_name),
            wording::rank(rank),
            wording::family(family),
        ]
    });
    Ok(Answer::new(Body::list(&LIST_COLUMNS, rows)))
}

fn record(association: Option<NetworkAddressPool>) -> Result<Body, Failure> {
    let association = promised(association, "association")?;
    let cells = [
        association.uuid,
        association.network_name,
        association.address_pool_name,
    ];
    Ok(Body::record(&SHOW_COLUMNS, cells.map(Cell::text)))
}
