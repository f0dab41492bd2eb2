//! `dcmanager subcloud …`.

use std::path::PathBuf;

use api::fleet_v1::{
    AddSubcloudRequest, AddSubcloudResponse, Availability, GetSubcloudRequest,
    IssueSubcloudTokenRequest, IssueSubcloudTokenResponse, ListSubcloudsRequest, ManagementState,
    Subcloud, SyncState, Violation,
};
use api::site_v1::{Family, Site, Stack};
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::declaration::Declaration;
use super::errors;
use super::management::{self, Edit};
use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::wording;

/// Subclouds.
#[derive(Debug, Subcommand)]
pub(crate) enum SubcloudCommand {
    /// Add a subcloud: make its record and a single-use enrollment token
    #[command(after_help = "Examples:\n  \
                      tandem dcmanager subcloud add west-1 --bootstrap-values west-1.yaml\n  \
                      tandem dcmanager subcloud add west-2 --group west --location Hall-7")]
    Add {
        /// Name: 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit
        name: String,
        /// Bootstrap file (YAML, at most 1 MiB) of the site: it is admitted or refused before
        /// anything is installed
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        bootstrap_values: Option<PathBuf>,
        #[command(flatten)]
        said: Said,
        #[command(flatten)]
        token: TokenOptions,
    },
    /// Issue a new enrollment token; the old one is void. With --reenroll, for a subcloud that
    /// was installed anew or whose certificate expired
    #[command(
        after_help = "Examples:\n  tandem dcmanager subcloud token subcloud-1\n  \
                            tandem dcmanager subcloud token subcloud-1 --reenroll"
    )]
    Token {
        /// Name or uuid of the subcloud
        #[arg(value_name = "NAME")]
        subcloud: String,
        /// It has enrolled already: whoever redeems the token takes its place, and the present
        /// certificate is revoked then
        #[arg(long)]
        reenroll: bool,
        #[command(flatten)]
        token: TokenOptions,
    },
    /// List the subclouds
    #[command(after_help = "Example:\n  tandem dcmanager subcloud list --family ipv6 --stack dual")]
    List {
        /// Show regions, enrollment, pools and addresses too
        #[arg(short, long)]
        detail: bool,
        #[command(flatten)]
        filter: Filter,
    },
    /// Show a subcloud with its networks
    #[command(after_help = "Example:\n  tandem dcmanager subcloud show subcloud-1 -f yaml")]
    Show {
        /// Name or uuid of the subcloud
        #[arg(value_name = "NAME")]
        subcloud: String,
    },
    /// Accept operators' commands for a subcloud that is online
    #[command(after_help = "Example:\n  tandem dcmanager subcloud manage subcloud-1")]
    Manage {
        /// Name or uuid of the subcloud
        #[arg(value_name = "NAME")]
        subcloud: String,
        /// Also when it is not online
        #[arg(long)]
        force: bool,
    },
    /// Accept no operators' commands for a subcloud any more
    #[command(after_help = "Example:\n  tandem dcmanager subcloud unmanage subcloud-1")]
    Unmanage {
        /// Name or uuid of the subcloud
        #[arg(value_name = "NAME")]
        subcloud: String,
    },
    /// Change what is said about a subcloud, and its groups
    #[command(
        after_help = "Examples:\n  tandem dcmanager subcloud update subcloud-1 --location Hall-7 \
                      --group north\n  tandem dcmanager subcloud update subcloud-1 --peer-group \
                      shared"
    )]
    Update {
        /// Name or uuid of the subcloud
        #[arg(value_name = "NAME")]
        subcloud: String,
        #[command(flatten)]
        edit: Edit,
    },
    /// Delete an unmanaged subcloud: its certificate is revoked for ever, its link ends at once
    #[command(after_help = "Example:\n  tandem dcmanager subcloud delete subcloud-1")]
    Delete {
        /// Name or uuid of the subcloud
        #[arg(value_name = "NAME")]
        subcloud: String,
    },
    /// List why a subcloud was refused, newest first, with the remedies
    #[command(after_help = "Example:\n  tandem dcmanager subcloud errors subcloud-1")]
    Errors {
        /// Name or uuid of the subcloud
        #[arg(value_name = "NAME")]
        subcloud: String,
    },
}

/// What is said about a new subcloud.
#[derive(Debug, Args)]
pub(crate) struct Said {
    /// What to say about it, at most 255 characters
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Where it is, at most 255 characters
    #[arg(long, default_value = "", hide_default_value = true)]
    location: String,
    /// Name or uuid of the group to put it into; the default group otherwise
    #[arg(long, default_value = "", hide_default_value = true)]
    group: String,
}

/// Options of a new token.
#[derive(Debug, Args)]
pub(crate) struct TokenOptions {
    /// How long the token is valid, in seconds: 1 to 604800
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600,
        value_parser = clap::value_parser!(u32).range(1..=604_800)
    )]
    token_ttl: u32,
}

/// Which subclouds are listed.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Only subclouds of this primary family
    #[arg(long, value_enum, ignore_case = true)]
    family: Option<FamilyName>,
    /// Only subclouds of this stack
    #[arg(long, value_enum, ignore_case = true)]
    stack: Option<StackName>,
    /// Only subclouds of this availability
    #[arg(long, value_enum, ignore_case = true)]
    availability: Option<AvailabilityName>,
    /// Only subclouds of the group of this name or uuid
    #[arg(long)]
    group: Option<String>,
    /// Only subclouds of this management state
    #[arg(long, value_enum, ignore_case = true)]
    management: Option<ManagementName>,
    /// Only subclouds of this sync state
    #[arg(long, value_enum, ignore_case = true)]
    sync: Option<SyncName>,
}

/// A management state on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ManagementName {
    /// Commands are refused
    Unmanaged,
    /// Commands are accepted
    Managed,
}

/// A sync state on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SyncName {
    /// Nothing was reported yet
    Unknown,
    /// The latest report is accepted
    InSync,
    /// The latest report was refused
    OutOfSync,
}

/// A family on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FamilyName {
    /// IPv4 pools are primary
    Ipv4,
    /// IPv6 pools are primary
    Ipv6,
}

/// A stack on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StackName {
    /// One family
    Single,
    /// Both families
    Dual,
}

/// An availability on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AvailabilityName {
    /// Never heard of since the controller started
    Unknown,
    /// The link is up
    Online,
    /// Three heartbeats are missing
    Offline,
    /// It obeys another system controller, and its link is there
    Secondary,
}

const LIST_COLUMNS: [Column; 9] = [
    Column::new("id"),
    Column::new("name"),
    Column::new("management"),
    Column::new("availability"),
    Column::new("sync"),
    Column::new("family"),
    Column::new("stack"),
    Column::titled("software_version", "software version"),
    Column::titled("last_seen", "last seen"),
];

const DETAIL_COLUMNS: [Column; 15] = [
    LIST_COLUMNS[0],
    LIST_COLUMNS[1],
    LIST_COLUMNS[2],
    LIST_COLUMNS[3],
    LIST_COLUMNS[4],
    LIST_COLUMNS[5],
    LIST_COLUMNS[6],
    LIST_COLUMNS[7],
    LIST_COLUMNS[8],
    Column::titled("region_name", "region name"),
    Column::new("enrollment"),
    Column::titled("link_address", "link address"),
    Column::new("pools"),
    Column::new("addresses"),
    Column::new("group"),
];

pub(super) const SHOW_COLUMNS: [Column; 25] = [
    DETAIL_COLUMNS[0],
    DETAIL_COLUMNS[1],
    DETAIL_COLUMNS[2],
    DETAIL_COLUMNS[3],
    DETAIL_COLUMNS[4],
    DETAIL_COLUMNS[5],
    DETAIL_COLUMNS[6],
    DETAIL_COLUMNS[7],
    DETAIL_COLUMNS[8],
    DETAIL_COLUMNS[9],
    DETAIL_COLUMNS[10],
    DETAIL_COLUMNS[11],
    DETAIL_COLUMNS[12],
    DETAIL_COLUMNS[13],
    DETAIL_COLUMNS[14],
    Column::titled(
        "systemcontroller_gateway_addresses",
        "systemcontroller gateway addresses",
    ),
    Column::new("generation"),
    Column::titled("created_at", "created at"),
    Column::titled("enrolled_at", "enrolled at"),
    Column::titled("token_expires_at", "token expires at"),
    Column::titled("quarantined_since", "quarantined since"),
    Column::new("refused"),
    Column::new("description").prose(),
    Column::new("location").prose(),
    Column::new("etag"),
];

const TOKEN_COLUMNS: [Column; 8] = [
    Column::new("id"),
    Column::new("name"),
    Column::new("family"),
    Column::new("stack"),
    Column::new("token"),
    Column::new("controller"),
    Column::titled("token_expires_at", "token expires at"),
    Column::new("warnings"),
];

/// Subclouds that are read at once for the details of a list: under the limit of streams of a
/// connection (16).
const READ_AT_ONCE: usize = 8;

impl SubcloudCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Add { .. } | Self::Token { .. } => Shape::creates(&TOKEN_COLUMNS),
            Self::List { detail, .. } => Shape::reads(list_columns(*detail)),
            Self::Show { .. } => Shape::reads(&SHOW_COLUMNS),
            Self::Manage { .. }
            | Self::Unmanage { .. }
            | Self::Update { .. }
            | Self::Delete { .. } => Shape::creates(&SHOW_COLUMNS),
            Self::Errors { .. } => Shape::reads(&errors::COLUMNS),
        }
    }

    /// Reads and judges the bootstrap file of `add`.
    pub(crate) fn declaration(&self, colour: bool) -> Result<Declaration, Failure> {
        match self {
            Self::Add {
                bootstrap_values: Some(path),
                ..
            } => Declaration::read(path, colour),
            _ => Ok(Declaration::default()),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(
        self,
        session: &Session,
        declaration: Declaration,
    ) -> Result<Answer, Failure> {
        match self {
            Self::Add {
                name,
                bootstrap_values: _,
                said,
                token,
            } => add(session, name, declaration, said, token).await,
            Self::Token {
                subcloud,
                reenroll,
                token,
            } => issue_token(session, subcloud, reenroll, token).await,
            Self::Manage { subcloud, force } => management::manage(session, subcloud, force).await,
            Self::Unmanage { subcloud } => management::unmanage(session, subcloud).await,
            Self::Update { subcloud, edit } => management::update(session, subcloud, edit).await,
            Self::Delete { subcloud } => management::delete(session, subcloud).await,
            Self::List { detail, filter } => list(session, detail, &filter).await,
            Self::Show { subcloud } => show(session, subcloud).await,
            Self::Errors { subcloud } => errors::list(session, subcloud).await,
        }
    }
}

async fn add(
    session: &Session,
    name: String,
    declaration: Declaration,
    said: Said,
    options: TokenOptions,
) -> Result<Answer, Failure> {
    let Declaration { bytes, remarks } = declaration;
    let request = AddSubcloudRequest {
        name,
        bootstrap_values: bytes,
        token_ttl_seconds: options.token_ttl,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
        description: said.description,
        location: said.location,
        group: said.group,
    };
    let AddSubcloudResponse {
        subcloud,
        token,
        controller,
        warnings,
    } = call(session.subclouds().add_subcloud(request)).await?;
    let issued = Issued {
        subcloud: promised(subcloud, "subcloud")?,
        token,
        controller,
        warnings,
    };
    if session.dry_run() {
        let note = format!(
            "dry run: {} would be accepted; nothing was changed",
            issued.subcloud.name
        );
        return Ok(issued.answer().excerpt(remarks).note(note));
    }
    Ok(issued.announced().excerpt(remarks))
}

async fn issue_token(
    session: &Session,
    subcloud: String,
    reenroll: bool,
    options: TokenOptions,
) -> Result<Answer, Failure> {
    let request = IssueSubcloudTokenRequest {
        subcloud,
        reenroll,
        token_ttl_seconds: options.token_ttl,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let IssueSubcloudTokenResponse {
        subcloud,
        token,
        controller,
    } = call(session.subclouds().issue_subcloud_token(request)).await?;
    let subcloud = promised(subcloud, "subcloud")?;
    let name = subcloud.name.clone();
    let issued = Issued {
        subcloud,
        token,
        controller,
        warnings: Vec::new(),
    };
    if session.dry_run() {
        let note = format!("dry run: {name} would get a new token; nothing was changed");
        return Ok(issued.answer().note(note));
    }
    Ok(issued.announced())
}

/// A token with what it is for.
struct Issued {
    subcloud: Subcloud,
    token: String,
    controller: String,
    warnings: Vec<Violation>,
}

impl Issued {
    /// With what to do with the token.
    fn announced(self) -> Answer {
        let until = wording::time_text(self.subcloud.token_expires_at_milliseconds);
        let command = format!(
            "  subcloud-agent enroll --state-dir /var/lib/tandem --token {} --controller '{}'",
            self.token, self.controller
        );
        self.answer()
            .note(format!(
                "The token is shown only now, works once, and expires at {until}."
            ))
            .note("Run this on the subcloud, with its own state directory:")
            .note(command)
    }

    fn answer(self) -> Answer {
        let Self {
            subcloud,
            token,
            controller,
            warnings,
        } = self;
        let mut answer = Answer::new(Body::record(
            &TOKEN_COLUMNS,
            [
                Cell::text(subcloud.uuid),
                Cell::text(&subcloud.name),
                wording::family(subcloud.primary_family),
                wording::stack(subcloud.stack),
                Cell::text(&token),
                Cell::text(&controller),
                wording::time(subcloud.token_expires_at_milliseconds),
                violations(&warnings),
            ],
        ));
        for Violation {
            reason,
            message,
            remedy,
            ..
        } in warnings
        {
            answer = answer.warning(match remedy.as_str() {
                "" => format!("{reason}: {message}"),
                _ => format!("{reason}: {message}; remedy: {remedy}"),
            });
        }
        answer
    }
}

/// The columns of a list of subclouds.
pub(super) fn list_columns(detail: bool) -> &'static [Column] {
    if detail {
        &DETAIL_COLUMNS
    } else {
        &LIST_COLUMNS
    }
}

/// Lists subclouds, with their pools and addresses if wanted.
pub(super) async fn list(
    session: &Session,
    detail: bool,
    filter: &Filter,
) -> Result<Answer, Failure> {
    let mut client = session.subclouds();
    let subclouds = every_page(async |page_token| {
        let request = filter.request(page_token);
        let page = call(client.list_subclouds(request)).await?;
        Ok((page.subclouds, page.next_page_token))
    })
    .await?;
    if !detail {
        let rows = subclouds.iter().map(row);
        return Ok(Answer::new(Body::list(&LIST_COLUMNS, rows)));
    }
    let rows: Vec<_> = stream::iter(subclouds)
        .map(|subcloud| with_site(session, subcloud))
        .buffered(READ_AT_ONCE)
        .map_ok(|subcloud| detailed_row(&subcloud))
        .try_collect()
        .await?;
    Ok(Answer::new(Body::list(&DETAIL_COLUMNS, rows)))
}

impl Filter {
    /// Only the subclouds of a group.
    pub(super) fn of_group(group: String) -> Self {
        Self {
            group: Some(group),
            ..Self::default()
        }
    }

    fn request(&self, page_token: String) -> ListSubcloudsRequest {
        let family = match self.family {
            None => Family::Unspecified,
            Some(FamilyName::Ipv4) => Family::Ipv4,
            Some(FamilyName::Ipv6) => Family::Ipv6,
        };
        let stack = match self.stack {
            None => Stack::Unspecified,
            Some(StackName::Single) => Stack::Single,
            Some(StackName::Dual) => Stack::Dual,
        };
        let availability = match self.availability {
            None => Availability::Unspecified,
            Some(AvailabilityName::Unknown) => Availability::Unknown,
            Some(AvailabilityName::Online) => Availability::Online,
            Some(AvailabilityName::Offline) => Availability::Offline,
            Some(AvailabilityName::Secondary) => Availability::Secondary,
        };
        let management = match self.management {
            None => ManagementState::Unspecified,
            Some(ManagementName::Unmanaged) => ManagementState::Unmanaged,
            Some(ManagementName::Managed) => ManagementState::Managed,
        };
        let sync = match self.sync {
            None => SyncState::Unspecified,
            Some(SyncName::Unknown) => SyncState::Unknown,
            Some(SyncName::InSync) => SyncState::InSync,
            Some(SyncName::OutOfSync) => SyncState::OutOfSync,
        };
        ListSubcloudsRequest {
            page_size: PAGE_SIZE,
            page_token,
            family: family.into(),
            stack: stack.into(),
            availability: availability.into(),
            group: self.group.clone().unwrap_or_default(),
            management: management.into(),
            sync: sync.into(),
        }
    }
}

/// The subcloud with its site; as the list had it when it is deleted meanwhile.
async fn with_site(session: &Session, subcloud: Subcloud) -> Result<Subcloud, Failure> {
    match get(session, subcloud.uuid.clone()).await {
        Ok(found) => Ok(found),
        Err(failure) if failure.is_not_found() => Ok(subcloud),
        Err(failure) => Err(failure),
    }
}

/// One subcloud with its site.
pub(super) async fn get(session: &Session, subcloud: String) -> Result<Subcloud, Failure> {
    let answer = call(
        session
            .subclouds()
            .get_subcloud(GetSubcloudRequest { subcloud }),
    )
    .await?;
    promised(answer.subcloud, "subcloud")
}

async fn show(session: &Session, name: String) -> Result<Answer, Failure> {
    Ok(record(&get(session, name).await?))
}

/// Everything about one subcloud.
pub(super) fn record(subcloud: &Subcloud) -> Answer {
    let [
        id,
        name,
        management,
        availability,
        sync,
        family,
        stack,
        version,
        seen,
        rest @ ..,
    ] = detailed_row(subcloud);
    let [region, enrollment, link_address, pools, addresses, group] = rest;
    let answer = Answer::new(Body::record(
        &SHOW_COLUMNS,
        [
            id,
            name,
            management,
            availability,
            sync,
            family,
            stack,
            version,
            seen,
            region,
            enrollment,
            link_address,
            pools,
            addresses,
            group,
            Cell::joined(subcloud.gateway_addresses.clone()),
            Cell::number(subcloud.generation),
            wording::time(subcloud.created_at_milliseconds),
            wording::time(subcloud.enrolled_at_milliseconds),
            wording::time(subcloud.token_expires_at_milliseconds),
            wording::time(subcloud.quarantined_since_milliseconds),
            violations(&subcloud.refused),
            Cell::text(&subcloud.description),
            Cell::text(&subcloud.location),
            Cell::text(&subcloud.etag),
        ],
    ));
    if subcloud.refused.is_empty() {
        return answer;
    }
    answer.warning(format!(
        "{0} is in quarantine, for its latest report was refused: see `dcmanager subcloud errors \
         {0}`",
        subcloud.name
    ))
}

/// A subcloud as JSON writes it in a list.
pub(super) fn machine(subcloud: &Subcloud) -> serde_json::Value {
    Body::record(&LIST_COLUMNS, row(subcloud)).machine()
}

/// Availability, management and sync, as words.
pub(super) fn states(subcloud: &Subcloud) -> String {
    let cells = [
        wording::availability(subcloud.availability),
        wording::management(subcloud.management),
        wording::sync(subcloud.sync),
    ];
    cells.map(|cell| cell.plain()).join(", ")
}

fn row(subcloud: &Subcloud) -> [Cell; 9] {
    [
        Cell::text(&subcloud.uuid),
        Cell::text(&subcloud.name),
        wording::management(subcloud.management),
        wording::availability(subcloud.availability),
        wording::sync(subcloud.sync),
        wording::family(subcloud.primary_family),
        wording::stack(subcloud.stack),
        Cell::text(&subcloud.software_version),
        wording::time(subcloud.last_seen_milliseconds),
    ]
}

fn detailed_row(subcloud: &Subcloud) -> [Cell; 15] {
    let [
        id,
        name,
        management,
        availability,
        sync,
        family,
        stack,
        version,
        seen,
    ] = row(subcloud);
    let (pools, addresses) = subcloud.site.as_ref().map(pools).unwrap_or_default();
    [
        id,
        name,
        management,
        availability,
        sync,
        family,
        stack,
        version,
        seen,
        Cell::text(&subcloud.region_name),
        wording::enrollment(subcloud.enrollment),
        Cell::text(&subcloud.link_address),
        Cell::joined(pools),
        Cell::joined(addresses),
        Cell::text(&subcloud.group),
    ]
}

/// The attached pools of a site as `network=subnet`, primary first, and their floating
/// addresses as `network=address`.
fn pools(site: &Site) -> (Vec<String>, Vec<String>) {
    let mut subnets = Vec::new();
    let mut addresses = Vec::new();
    for network in &site.networks {
        for association in &network.address_pools {
            let uuid = &association.address_pool_uuid;
            let Some(pool) = site.address_pools.iter().find(|pool| pool.uuid == *uuid) else {
                continue;
            };
            subnets.push(format!("{}={}/{}", network.name, pool.network, pool.prefix));
            if !pool.floating_address.is_empty() {
                addresses.push(format!("{}={}", network.name, pool.floating_address));
            }
        }
    }
    (subnets, addresses)
}

/// Violations as objects for machines, and as their reasons for readers.
pub(super) fn violations(violations: &[Violation]) -> Cell {
    let reasons: Vec<&str> = violations
        .iter()
        .map(|fault| fault.reason.as_str())
        .collect();
    let text = if reasons.is_empty() {
        "None".to_owned()
    } else {
        reasons.join(",")
    };
    let object = |fault: &Violation| {
        json!({
            "reason": fault.reason,
            "message": fault.message,
            "remedy": fault.remedy,
            "field": fault.field,
        })
    };
    Cell::objects(violations.iter().map(object).collect(), text)
}
