//! `system site-show`.

use api::site_v1::{GetSiteRequest, Site};
use clap::Subcommand;

use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{Session, call, promised};
use crate::wording;

/// The site as a whole.
#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Show the site: role, primary family, stack, link address
    #[command(
        name = "site-show",
        after_help = "Example:\n  tandem system site-show -f yaml"
    )]
    Show,
}

const COLUMNS: [Column; 19] = [
    Column::new("uuid"),
    Column::new("name"),
    Column::new("region_name"),
    Column::new("system_type"),
    Column::new("system_mode"),
    Column::new("distributed_cloud_role"),
    Column::new("software_version"),
    Column::new("initial_config_complete"),
    Column::new("generation"),
    Column::new("primary_family"),
    Column::new("stack"),
    Column::new("link_address"),
    Column::new("kubernetes"),
    Column::new("nameservers"),
    Column::new("systemcontroller_gateway_addresses"),
    Column::new("networks"),
    Column::new("address_pools"),
    Column::new("hosts"),
    Column::new("alarms"),
];

impl SiteCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Show => Shape::reads(&COLUMNS),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Show => {
                let answer = call(session.site().get_site(GetSiteRequest {})).await?;
                let site = promised(answer.site, "site")?;
                Ok(Answer::new(body(site)))
            }
        }
    }
}

/// A site as `site-show` shows it.
pub(super) fn body(site: Site) -> Body {
    Body::record(&COLUMNS, cells(site))
}

/// Networks, pools, hosts and alarms by name only: each has a list of its own.
fn cells(site: Site) -> [Cell; 19] {
    let Site {
        uuid,
        name,
        region_name,
        system_type,
        system_mode,
        distributed_cloud_role,
        software_version,
        initial_config_complete,
        generation,
        networks,
        address_pools,
        hosts,
        dns_servers,
        systemcontroller_gateway_addresses,
        kubernetes,
        alarms,
        primary_family,
        stack,
        link_address,
    } = site;
    let mut pools: Vec<String> = address_pools.into_iter().map(|pool| pool.name).collect();
    pools.sort();
    // One id is raised on several hosts.
    let alarms: Vec<String> = alarms
        .into_iter()
        .map(|alarm| format!("{} {}", alarm.id, alarm.entity))
        .collect();
    [
        Cell::text(uuid),
        Cell::text(name),
        Cell::text(region_name),
        wording::system_type(system_type),
        wording::system_mode(system_mode),
        wording::role(distributed_cloud_role),
        Cell::text(software_version),
        Cell::flag(initial_config_complete),
        Cell::number(generation),
        wording::family(primary_family),
        wording::stack(stack),
        Cell::text(link_address),
        wording::kubernetes(kubernetes),
        Cell::joined(dns_servers),
        Cell::joined(systemcontroller_gateway_addresses),
        Cell::joined(networks.into_iter().map(|network| network.name).collect()),
        Cell::joined(pools),
        Cell::joined(hosts.into_iter().map(|host| host.hostname).collect()),
        Cell::joined(alarms),
    ]
}
