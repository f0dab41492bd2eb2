//! `dcmanager system-peer …`.

use std::path::PathBuf;

use api::fleet_v1::{
    AddSystemPeerRequest, DeleteSystemPeerRequest, FailurePolicy, GetSystemPeerRequest,
    IssuePeeringTokenRequest, IssuePeeringTokenResponse, ListSystemPeersRequest,
    PeerAdministrativeState, SystemPeer, UpdateSystemPeerRequest,
};
use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::declaration::Declaration;
use super::management::mask;
use super::subcloud::violations;
use super::subcloud_peer_group;
use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::wording;

/// System peers.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemPeerCommand {
    /// Add a peer: first at one site, which issues a token; then with that token at the other
    #[command(
        after_help = "Without a token, this site issues one, or a new one for a peer that has not \
                      come yet. With the\ntoken of the other site, the two sites judge each other \
                      and become peers.\n\nExamples:\n  tandem dcmanager system-peer add east \
                      --heartbeat-failure-policy rehome\n  tandem dcmanager system-peer add west \
                      --token-file token"
    )]
    Add(Box<Add>),
    /// List the peers
    #[command(after_help = "Example:\n  tandem dcmanager system-peer list")]
    List,
    /// Show a peer
    #[command(after_help = "Example:\n  tandem dcmanager system-peer show east -f yaml")]
    Show {
        /// Name or uuid of the peer
        #[arg(value_name = "NAME")]
        peer: String,
    },
    /// Change how this site deals with a peer
    #[command(after_help = "Example:\n  \
                      tandem dcmanager system-peer update east --administrative-state disabled")]
    Update {
        /// Name or uuid of the peer
        #[arg(value_name = "NAME")]
        peer: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Forget a peer that shares no group; its links end at once
    #[command(after_help = "Example:\n  tandem dcmanager system-peer delete east")]
    Delete {
        /// Name or uuid of the peer
        #[arg(value_name = "NAME")]
        peer: String,
    },
    /// List the groups that are shared with a peer
    #[command(
        after_help = "Example:\n  tandem dcmanager system-peer list-subcloud-peer-groups east"
    )]
    ListSubcloudPeerGroups {
        /// Name or uuid of the peer
        #[arg(value_name = "NAME")]
        peer: String,
    },
}

/// What `add` is given.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Name of the peer at this site: 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a
    /// letter or digit
    name: String,
    /// The token that the other site issued
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with that token, which keeps it out of the list of processes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
    /// How long an issued token is valid, in seconds: 1 to 604800
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600,
        conflicts_with_all = ["token", "token_file"],
        value_parser = clap::value_parser!(u32).range(1..=604_800)
    )]
    token_ttl: u32,
    #[command(flatten)]
    settings: Settings,
}

impl Add {
    fn redeems(&self) -> bool {
        self.token.is_some() || self.token_file.is_some()
    }
}

/// How a site deals with a peer.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Whether this site takes part in the peering [default of a new peer: enabled]
    #[arg(long, value_enum, ignore_case = true, value_name = "STATE")]
    administrative_state: Option<AdministrativeName>,
    /// How often this site says that it is alive, in seconds: 1 to 600 [default of a new peer: 5]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=600)
    )]
    heartbeat_interval: Option<u32>,
    /// After so many intervals without a word the peer is lost: 1 to 100 [default of a new
    /// peer: 3]
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    heartbeat_failure_threshold: Option<u32>,
    /// What happens to subclouds of the peer when it is lost [default of a new peer: alarm]
    #[arg(long, value_enum, ignore_case = true, value_name = "POLICY")]
    heartbeat_failure_policy: Option<PolicyName>,
}

/// An administrative state on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdministrativeName {
    /// This site takes part
    Enabled,
    /// No link is kept and nothing is synchronised
    Disabled,
}

/// A failure policy on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// An alarm is raised, and an operator decides
    Alarm,
    /// Subclouds that lost their owner are taken over here
    Rehome,
}

/// The largest file with a token: a token has a few hundred characters.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

const LIST_COLUMNS: [Column; 9] = [
    Column::new("id"),
    Column::new("name"),
    Column::new("site"),
    Column::new("family"),
    Column::new("peering"),
    Column::new("administrative"),
    Column::new("availability"),
    Column::titled("failure_policy", "failure policy"),
    Column::titled("last_seen", "last seen"),
];

const SHOW_COLUMNS: [Column; 20] = [
    LIST_COLUMNS[0],
    LIST_COLUMNS[1],
    LIST_COLUMNS[2],
    LIST_COLUMNS[3],
    LIST_COLUMNS[4],
    LIST_COLUMNS[5],
    LIST_COLUMNS[6],
    LIST_COLUMNS[7],
    LIST_COLUMNS[8],
    Column::titled("heartbeat_interval", "heartbeat interval"),
    Column::titled("failure_threshold", "failure threshold"),
    Column::new("synchronising"),
    Column::titled("controller_id", "controller id"),
    Column::titled("software_version", "software version"),
    Column::new("endpoints"),
    Column::new("suspended"),
    Column::titled("token_expires_at", "token expires at"),
    Column::titled("established_at", "established at"),
    Column::titled("updated_at", "updated at"),
    Column::new("etag"),
];

const TOKEN_COLUMNS: [Column; 5] = [
    LIST_COLUMNS[0],
    LIST_COLUMNS[1],
    LIST_COLUMNS[4],
    Column::new("token"),
    Column::titled("token_expires_at", "token expires at"),
];

impl SystemPeerCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Add(add) if !add.redeems() => Shape::creates(&TOKEN_COLUMNS),
            Self::Add(_) | Self::Update { .. } | Self::Delete { .. } => {
                Shape::creates(&SHOW_COLUMNS)
            }
            Self::List => Shape::reads(&LIST_COLUMNS),
            Self::Show { .. } => Shape::reads(&SHOW_COLUMNS),
            Self::ListSubcloudPeerGroups { .. } => Shape::reads(&subcloud_peer_group::LIST_COLUMNS),
        }
    }

    /// Reads the file with the token of `add`; the controller judges it.
    pub(crate) fn declaration(&self) -> Result<Declaration, Failure> {
        match self {
            Self::Add(add) => match &add.token_file {
                Some(path) => Declaration::unread("--token-file", path, MAX_TOKEN_BYTES),
                None => Ok(Declaration::default()),
            },
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
            Self::Add(add) if add.redeems() => join(session, *add, declaration.bytes).await,
            Self::Add(add) => issue(session, *add).await,
            Self::List => list(session).await,
            Self::Show { peer } => show(session, peer).await,
            Self::Update { peer, settings } => update(session, peer, settings).await,
            Self::Delete { peer } => delete(session, peer).await,
            Self::ListSubcloudPeerGroups { peer } => subcloud_peer_group::list(session, peer).await,
        }
    }
}

async fn issue(session: &Session, add: Add) -> Result<Answer, Failure> {
    let request = IssuePeeringTokenRequest {
        system_peer: Some(values(add.name, &add.settings)),
        token_ttl_seconds: add.token_ttl,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let IssuePeeringTokenResponse { system_peer, token } =
        call(session.peers().issue_peering_token(request)).await?;
    let peer = promised(system_peer, "system peer")?;
    let [id, name, _, _, peering, ..] = row(&peer);
    let expires = wording::time(peer.token_expires_at_milliseconds);
    let cells = [id, name, peering, Cell::text(&token), expires];
    let answer = Answer::new(Body::record(&TOKEN_COLUMNS, cells));
    if session.dry_run() {
        let note = format!(
            "dry run: {} would get a token; nothing was changed",
            peer.name
        );
        return Ok(answer.note(note));
    }
    let until = wording::time_text(peer.token_expires_at_milliseconds);
    Ok(answer
        .note(format!(
            "The token is shown only now, works once, and expires at {until}."
        ))
        .note("Run this at the other site, with the name that this site shall have there:")
        .note(format!(
            "  tandem dcmanager system-peer add NAME --token {token}"
        )))
}

async fn join(session: &Session, add: Add, file: Vec<u8>) -> Result<Answer, Failure> {
    let token = match add.token {
        Some(token) => token,
        None => String::from_utf8_lossy(&file).trim().to_owned(),
    };
    let request = AddSystemPeerRequest {
        system_peer: Some(values(add.name, &add.settings)),
        token,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().add_system_peer(request)).await?;
    let peer = promised(answer.system_peer, "system peer")?;
    let note = if session.dry_run() {
        format!(
            "dry run: both sites would accept {}; nothing was changed",
            peer.name
        )
    } else {
        format!("site {} is system peer {} now", peer.site_name, peer.name)
    };
    Ok(record(&peer).note(note))
}

async fn list(session: &Session) -> Result<Answer, Failure> {
    let mut client = session.peers();
    let peers = every_page(async |page_token| {
        let request = ListSystemPeersRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = call(client.list_system_peers(request)).await?;
        Ok((page.system_peers, page.next_page_token))
    })
    .await?;
    Ok(Answer::new(Body::list(
        &LIST_COLUMNS,
        peers.iter().map(row),
    )))
}

async fn show(session: &Session, system_peer: String) -> Result<Answer, Failure> {
    let request = GetSystemPeerRequest { system_peer };
    let answer = call(session.peers().get_system_peer(request)).await?;
    Ok(record(&promised(answer.system_peer, "system peer")?))
}

async fn update(session: &Session, target: String, settings: Settings) -> Result<Answer, Failure> {
    let named = [
        (
            "administrative_state",
            settings.administrative_state.is_some(),
        ),
        (
            "heartbeat_interval_seconds",
            settings.heartbeat_interval.is_some(),
        ),
        (
            "failure_threshold",
            settings.heartbeat_failure_threshold.is_some(),
        ),
        (
            "failure_policy",
            settings.heartbeat_failure_policy.is_some(),
        ),
    ];
    let request = UpdateSystemPeerRequest {
        target,
        system_peer: Some(values(String::new(), &settings)),
        update_mask: Some(mask(&named)),
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().update_system_peer(request)).await?;
    Ok(record(&promised(answer.system_peer, "system peer")?).of_edit(session))
}

async fn delete(session: &Session, system_peer: String) -> Result<Answer, Failure> {
    let request = DeleteSystemPeerRequest {
        system_peer,
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().delete_system_peer(request)).await?;
    let gone = promised(answer.system_peer, "system peer")?;
    let note = format!(
        "{} is deleted; nothing of it is trusted here any more",
        gone.name
    );
    Ok(record(&gone).of_removal(session, &gone.name, note))
}

fn values(name: String, settings: &Settings) -> SystemPeer {
    let state = match settings.administrative_state {
        None => PeerAdministrativeState::Unspecified,
        Some(AdministrativeName::Enabled) => PeerAdministrativeState::Enabled,
        Some(AdministrativeName::Disabled) => PeerAdministrativeState::Disabled,
    };
    let policy = match settings.heartbeat_failure_policy {
        None => FailurePolicy::Unspecified,
        Some(PolicyName::Alarm) => FailurePolicy::Alarm,
        Some(PolicyName::Rehome) => FailurePolicy::Rehome,
    };
    SystemPeer {
        name,
        administrative_state: state.into(),
        heartbeat_interval_seconds: settings.heartbeat_interval.unwrap_or_default(),
        failure_threshold: settings.heartbeat_failure_threshold.unwrap_or_default(),
        failure_policy: policy.into(),
        ..SystemPeer::default()
    }
}

fn record(peer: &SystemPeer) -> Answer {
    let [
        id,
        name,
        site,
        family,
        peering,
        administrative,
        availability,
        policy,
        last_seen,
    ] = row(peer);
    Answer::new(Body::record(
        &SHOW_COLUMNS,
        [
            id,
            name,
            site,
            family,
            peering,
            administrative,
            availability,
            policy,
            last_seen,
            Cell::text(format!("{} s", peer.heartbeat_interval_seconds)),
            Cell::number(u64::from(peer.failure_threshold)),
            Cell::flag(peer.synchronising),
            Cell::text(&peer.controller_uuid),
            Cell::text(&peer.software_version),
            Cell::joined(peer.endpoints.clone()),
            violations(&peer.suspended),
            wording::time(peer.token_expires_at_milliseconds),
            wording::time(peer.established_at_milliseconds),
            wording::time(peer.updated_at_milliseconds),
            Cell::text(&peer.etag),
        ],
    ))
}

fn row(peer: &SystemPeer) -> [Cell; 9] {
    [
        Cell::text(&peer.uuid),
        Cell::text(&peer.name),
        Cell::text(&peer.site_name),
        wording::family(peer.primary_family),
        wording::peering(peer.peering_state),
        wording::peer_administrative(peer.administrative_state),
        wording::peer_availability(peer.availability),
        wording::failure_policy(peer.failure_policy),
        wording::time(peer.last_seen_milliseconds),
    ]
}
