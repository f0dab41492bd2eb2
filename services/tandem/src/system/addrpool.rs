//! `system addrpool-…`.

use api::site_v1::{
    AddressPool, AddressRange, CreateAddressPoolRequest, CreateAddressPoolResponse,
    DeleteAddressPoolRequest, DeleteAddressPoolResponse, GetAddressPoolRequest,
    ListAddressPoolsRequest, Order, UpdateAddressPoolRequest, UpdateAddressPoolResponse,
};
use clap::{Args, Subcommand};
use prost_types::FieldMask;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::system::pairs::is_clearing;
use crate::wording;

/// Address pools.
#[derive(Debug, Subcommand)]
pub(crate) enum AddressPoolCommand {
    /// List the address pools, attached or not
    #[command(
        name = "addrpool-list",
        after_help = "Example:\n  tandem system addrpool-list -c name -c network -c prefix"
    )]
    List,
    /// Show an address pool
    #[command(
        name = "addrpool-show",
        after_help = "Example:\n  tandem system addrpool-show oam-ipv4"
    )]
    Show {
        /// Uuid or name of the pool
        #[arg(value_name = "POOL")]
        address_pool: String,
    },
    /// Add an address pool
    #[command(
        name = "addrpool-add",
        after_help = "Example:\n  tandem system addrpool-add oam-ipv4 10.20.5.0 24 --dry-run\n  \
                      tandem system addrpool-add oam-ipv4 10.20.5.0 24 --gateway-address 10.20.5.1"
    )]
    Add {
        /// Name, unique on the site: 1 to 128 characters
        name: String,
        /// Network address of the subnet, without host bits
        network: String,
        /// Prefix length in bits: 8 to 30 for IPv4, 8 to 126 for IPv6
        prefix: u32,
        #[command(flatten)]
        fields: Fields,
    },
    /// Modify an address pool; only what is given changes
    #[command(
        name = "addrpool-modify",
        after_help = "Example:\n  tandem system addrpool-modify oam-ipv4 --gateway-address \
                      10.20.5.1 --dry-run\n  tandem system addrpool-modify oam-ipv4 \
                      --gateway-address none"
    )]
    Modify {
        /// Uuid or name of the pool
        #[arg(value_name = "POOL")]
        target: String,
        #[command(flatten)]
        subnet: Subnet,
        #[command(flatten)]
        fields: Fields,
    },
    /// Delete an address pool
    #[command(
        name = "addrpool-delete",
        after_help = "Example:\n  tandem system addrpool-delete oam-ipv4 --dry-run"
    )]
    Delete {
        /// Uuid or name of the pool
        #[arg(value_name = "POOL")]
        address_pool: String,
    },
}

/// What names a pool and its subnet.
#[derive(Debug, Args)]
pub(crate) struct Subnet {
    /// New name: 1 to 128 characters
    #[arg(long)]
    name: Option<String>,
    /// New network address of the subnet; its family stays
    #[arg(long, value_name = "ADDR")]
    network: Option<String>,
    /// New prefix length in bits: 8 to 30 for IPv4, 8 to 126 for IPv6
    #[arg(long, value_name = "BITS")]
    prefix: Option<u32>,
}

/// The optional properties of a pool. `none`, `null`, `undefined` and the like clear an address.
#[derive(Debug, Args)]
pub(crate) struct Fields {
    /// Inclusive ranges, FIRST-LAST with commas between them [default: the whole subnet]
    #[arg(long, value_name = "A-B,C-D", value_parser = ranges)]
    ranges: Option<Ranges>,
    /// Order of allocation: random or sequential [default: random]
    #[arg(long, value_parser = order)]
    order: Option<Order>,
    /// Address that follows the active controller; `none` clears it
    #[arg(long, value_name = "ADDR", value_parser = address)]
    floating_address: Option<String>,
    /// Address of controller-0; `none` clears it
    #[arg(long, value_name = "ADDR", value_parser = address)]
    controller0_address: Option<String>,
    /// Address of controller-1; `none` clears it
    #[arg(long, value_name = "ADDR", value_parser = address)]
    controller1_address: Option<String>,
    /// Address of the router; `none` clears it
    #[arg(long, value_name = "ADDR", value_parser = address)]
    gateway_address: Option<String>,
}

impl Subnet {
    fn is_empty(&self) -> bool {
        let Self {
            name,
            network,
            prefix,
        } = self;
        name.is_none() && network.is_none() && prefix.is_none()
    }
}

impl Fields {
    fn is_empty(&self) -> bool {
        let Self {
            ranges,
            order,
            floating_address,
            controller0_address,
            controller1_address,
            gateway_address,
        } = self;
        let addresses = [
            floating_address,
            controller0_address,
            controller1_address,
            gateway_address,
        ];
        ranges.is_none() && order.is_none() && addresses.iter().all(|field| field.is_none())
    }
}

/// The ranges of one option; a type of its own because clap takes a bare `Vec` for a repeated
/// option.
#[derive(Debug, Clone)]
pub(crate) struct Ranges(Vec<AddressRange>);

const COLUMNS: [Column; 10] = [
    Column::new("uuid"),
    Column::new("name"),
    Column::new("network"),
    Column::new("prefix"),
    Column::new("order"),
    Column::new("ranges"),
    Column::new("floating_address"),
    Column::new("controller0_address"),
    Column::new("controller1_address"),
    Column::new("gateway_address"),
];

impl AddressPoolCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::List | Self::Show { .. } => Shape::reads(&COLUMNS),
            Self::Add { .. } | Self::Modify { .. } => Shape::changes(&COLUMNS),
            Self::Delete { .. } => Shape::changes(&[]),
        }
    }

    /// Finds a modification of nothing.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Modify { subnet, fields, .. } if subnet.is_empty() && fields.is_empty() => {
                Err(Failure::usage(
                    "addrpool-modify has nothing to modify",
                    "give at least one of --name, --network, --prefix, --ranges, --order, \
                     --floating-address, --controller0-address, --controller1-address and \
                     --gateway-address",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::List => list(session).await,
            Self::Show { address_pool } => {
                let request = GetAddressPoolRequest { address_pool };
                let answer = call(session.networks().get_address_pool(request)).await?;
                Ok(Answer::new(record(answer.address_pool)?))
            }
            Self::Add {
                name,
                network,
                prefix,
                fields,
            } => {
                let subnet = Subnet {
                    name: Some(name),
                    network: Some(network),
                    prefix: Some(prefix),
                };
                let request = CreateAddressPoolRequest {
                    address_pool: Some(Edit::of(subnet, fields).pool),
                    validate_only: session.dry_run(),
                    request_id: session.request_id(),
                };
                let CreateAddressPoolResponse {
                    address_pool,
                    effects,
                } = call(session.networks().create_address_pool(request)).await?;
                Answer::of_change(session, effects, || record(address_pool))
            }
            Self::Modify {
                target,
                subnet,
                fields,
            } => modify(session, target, Edit::of(subnet, fields)).await,
            Self::Delete { address_pool } => {
                let note = format!("Deleted address pool {address_pool}");
                let request = DeleteAddressPoolRequest {
                    address_pool,
                    etag: String::new(),
                    validate_only: session.dry_run(),
                    request_id: session.request_id(),
                };
                let DeleteAddressPoolResponse { effects } =
                    call(session.networks().delete_address_pool(request)).await?;
                Ok(Answer::of_deletion(session, effects, note))
            }
        }
    }
}

async fn modify(session: &Session, target: String, edit: Edit) -> Result<Answer, Failure> {
    let request = UpdateAddressPoolRequest {
        target,
        address_pool: Some(edit.pool),
        update_mask: Some(FieldMask { paths: edit.paths }),
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let UpdateAddressPoolResponse {
        address_pool,
        effects,
    } = call(session.networks().update_address_pool(request)).await?;
    Answer::of_change(session, effects, || record(address_pool))
}

async fn list(session: &Session) -> Result<Answer, Failure> {
    let mut client = session.networks();
    let pools = every_page(async |page_token| {
        let request = ListAddressPoolsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = call(client.list_address_pools(request)).await?;
        page.read().map_err(|error| {
            Failure::bad_answer(format!("the daemon's answer has no address pool: {error}"))
        })
    });
    Ok(Answer::new(Body::list(
        &COLUMNS,
        pools.await?.into_iter().map(row),
    )))
}

/// New values, and the mask that says which of them count.
struct Edit {
    pool: AddressPool,
    paths: Vec<String>,
}

impl Edit {
    fn of(subnet: Subnet, fields: Fields) -> Self {
        let Subnet {
            name,
            network,
            prefix,
        } = subnet;
        let Fields {
            ranges,
            order,
            floating_address,
            controller0_address,
            controller1_address,
            gateway_address,
        } = fields;
        let given = [
            ("name", name.is_some()),
            ("network", network.is_some()),
            ("prefix", prefix.is_some()),
            ("order", order.is_some()),
            ("ranges", ranges.is_some()),
            ("floating_address", floating_address.is_some()),
            ("controller0_address", controller0_address.is_some()),
            ("controller1_address", controller1_address.is_some()),
            ("gateway_address", gateway_address.is_some()),
        ];
        let paths = given.iter().filter(|(_, given)| *given);
        let paths = paths.map(|(path, _)| (*path).to_owned()).collect();
        let pool = AddressPool {
            name: name.unwrap_or_default(),
            network: network.unwrap_or_default(),
            prefix: prefix.unwrap_or_default(),
            order: order.unwrap_or_default().into(),
            ranges: ranges.map(|Ranges(ranges)| ranges).unwrap_or_default(),
            floating_address: floating_address.unwrap_or_default(),
            controller0_address: controller0_address.unwrap_or_default(),
            controller1_address: controller1_address.unwrap_or_default(),
            gateway_address: gateway_address.unwrap_or_default(),
            ..AddressPool::default()
        };
        Self { pool, paths }
    }
}

fn record(pool: Option<AddressPool>) -> Result<Body, Failure> {
    Ok(Body::record(&COLUMNS, row(promised(pool, "address pool")?)))
}

fn row(pool: AddressPool) -> [Cell; 10] {
    let AddressPool {
        uuid,
        name,
        network,
        prefix,
        order,
        ranges,
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
        allocations: _,
        remembered: _,
        family: _,
        network_name: _,
        etag: _,
    } = pool;
    let range = |range: &AddressRange| format!("{}-{}", range.first, range.last);
    [
        Cell::text(uuid),
        Cell::text(name),
        Cell::text(network),
        Cell::number(prefix),
        wording::order(order),
        Cell::quoted(ranges.iter().map(range).collect()),
        Cell::text(floating_address),
        Cell::text(controller0_address),
        Cell::text(controller1_address),
        Cell::text(gateway_address),
    ]
}

/// Cuts the text at its commas and hyphens; what the pieces mean is for the daemon to judge.
fn ranges(text: &str) -> Result<Ranges, String> {
    let range = |piece: &str| match piece.split_once('-') {
        Some((first, last)) if !last.contains('-') => {
            let (first, last) = (first.trim().to_owned(), last.trim().to_owned());
            Ok(AddressRange { first, last })
        }
        _ => Err(format!(
            "`{}` is not FIRST-LAST, such as 10.20.5.1-10.20.5.254",
            piece.trim()
        )),
    };
    text.split(',')
        .map(range)
        .collect::<Result<_, _>>()
        .map(Ranges)
}

fn order(text: &str) -> Result<Order, String> {
    match text.to_ascii_lowercase().as_str() {
        "" => Ok(Order::Unspecified),
        "random" => Ok(Order::Random),
        "sequential" => Ok(Order::Sequential),
        _ => Err("the orders are random and sequential".to_owned()),
    }
}

/// An address as it was written, or nothing when it shall be cleared.
#[expect(clippy::unnecessary_wraps, reason = "clap wants a result of a parser")]
fn address(text: &str) -> Result<String, String> {
    Ok(if is_clearing(text) {
        String::new()
    } else {
        text.to_owned()
    })
}
