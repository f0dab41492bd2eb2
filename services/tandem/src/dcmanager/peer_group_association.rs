//! `dcmanager peer-group-association …`.

use api::fleet_v1::{
    AddPeerGroupAssociationRequest, DeletePeerGroupAssociationRequest,
    GetPeerGroupAssociationRequest, ListPeerGroupAssociationsRequest, PeerGroupAssociation,
    SyncPeerGroupAssociationRequest, UpdatePeerGroupAssociationRequest,
};
use clap::{Args, Subcommand};

use super::subcloud::violations;
use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::wording;

/// Who shares what.
#[derive(Debug, Subcommand)]
pub(crate) enum AssociationCommand {
    /// Share a group with a peer
    #[command(
        after_help = "Example:\n  tandem dcmanager peer-group-association add north east \
                      --peer-group-priority 1"
    )]
    Add {
        #[command(flatten)]
        pair: Pair,
        /// The peer's place in the group, 0 to 1000; 0 is the primary site
        #[arg(
            long,
            value_name = "NUMBER",
            value_parser = clap::value_parser!(u32).range(0..=1000)
        )]
        peer_group_priority: u32,
    },
    /// List who shares what
    #[command(after_help = "Example:\n  tandem dcmanager peer-group-association list")]
    List,
    /// Show one association
    #[command(after_help = "Example:\n  tandem dcmanager peer-group-association show north east")]
    Show(Pair),
    /// Give a peer another place in a group
    #[command(
        after_help = "Example:\n  tandem dcmanager peer-group-association update north east \\\n    \
                      --peer-group-priority 2"
    )]
    Update {
        #[command(flatten)]
        pair: Pair,
        /// The peer's place in the group, 0 to 1000; 0 is the primary site
        #[arg(
            long,
            value_name = "NUMBER",
            value_parser = clap::value_parser!(u32).range(0..=1000)
        )]
        peer_group_priority: u32,
    },
    /// Share a group with a peer no longer
    #[command(after_help = "Example:\n  tandem dcmanager peer-group-association delete north east")]
    Delete(Pair),
    /// Offer a group to a peer at once, however little changed
    #[command(after_help = "Example:\n  tandem dcmanager peer-group-association sync north east")]
    Sync(Pair),
}

/// A group and a peer.
#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// Name or uuid of the subcloud peer group
    #[arg(value_name = "GROUP")]
    group: String,
    /// Name or uuid of the system peer
    #[arg(value_name = "PEER")]
    peer: String,
}

const LIST_COLUMNS: [Column; 5] = [
    Column::titled("peer_group", "peer group"),
    Column::titled("system_peer", "system peer"),
    Column::titled("peer_priority", "peer priority"),
    Column::new("state"),
    Column::new("message").prose(),
];

const SHOW_COLUMNS: [Column; 10] = [
    LIST_COLUMNS[0],
    LIST_COLUMNS[1],
    LIST_COLUMNS[2],
    LIST_COLUMNS[3],
    LIST_COLUMNS[4],
    Column::titled("peer_group_id", "peer group id"),
    Column::titled("system_peer_id", "system peer id"),
    Column::new("faults"),
    Column::titled("updated_at", "updated at"),
    Column::new("etag"),
];

impl AssociationCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Add { .. } | Self::Update { .. } | Self::Delete(_) | Self::Sync(_) => {
                Shape::creates(&SHOW_COLUMNS)
            }
            Self::List => Shape::reads(&LIST_COLUMNS),
            Self::Show(_) => Shape::reads(&SHOW_COLUMNS),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Add {
                pair,
                peer_group_priority,
            } => add(session, pair, peer_group_priority).await,
            Self::Update {
                pair,
                peer_group_priority,
            } => update(session, pair, peer_group_priority).await,
            Self::List => list(session).await,
            Self::Show(pair) => show(session, pair).await,
            Self::Delete(pair) => delete(session, pair).await,
            Self::Sync(pair) => sync(session, pair).await,
        }
    }
}

async fn add(session: &Session, pair: Pair, peer_priority: u32) -> Result<Answer, Failure> {
    let request = AddPeerGroupAssociationRequest {
        subcloud_peer_group: pair.group,
        system_peer: pair.peer,
        peer_priority,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().add_peer_group_association(request)).await?;
    changed(session, answer.association)
}

async fn list(session: &Session) -> Result<Answer, Failure> {
    let mut client = session.peers();
    let associations = every_page(async |page_token| {
        let request = ListPeerGroupAssociationsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = call(client.list_peer_group_associations(request)).await?;
        Ok((page.associations, page.next_page_token))
    })
    .await?;
    Ok(Answer::new(Body::list(
        &LIST_COLUMNS,
        associations.iter().map(row),
    )))
}

async fn show(session: &Session, pair: Pair) -> Result<Answer, Failure> {
    let request = GetPeerGroupAssociationRequest {
        subcloud_peer_group: pair.group,
        system_peer: pair.peer,
    };
    let answer = call(session.peers().get_peer_group_association(request)).await?;
    Ok(record(&promised(answer.association, "association")?))
}

async fn update(session: &Session, pair: Pair, peer_priority: u32) -> Result<Answer, Failure> {
    let request = UpdatePeerGroupAssociationRequest {
        subcloud_peer_group: pair.group,
        system_peer: pair.peer,
        peer_priority,
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().update_peer_group_association(request)).await?;
    changed(session, answer.association)
}

async fn delete(session: &Session, pair: Pair) -> Result<Answer, Failure> {
    let request = DeletePeerGroupAssociationRequest {
        subcloud_peer_group: pair.group,
        system_peer: pair.peer,
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().delete_peer_group_association(request)).await?;
    let gone = promised(answer.association, "association")?;
    let (group, peer) = (&gone.subcloud_peer_group, &gone.system_peer);
    if session.dry_run() {
        let note =
            format!("dry run: {group} would no longer be shared with {peer}; nothing was changed");
        return Ok(record(&gone).note(note));
    }
    let note = format!("{group} is no longer shared with {peer}");
    Ok(Answer::new(Body::Nothing).note(note))
}

async fn sync(session: &Session, pair: Pair) -> Result<Answer, Failure> {
    let request = SyncPeerGroupAssociationRequest {
        subcloud_peer_group: pair.group,
        system_peer: pair.peer,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().sync_peer_group_association(request)).await?;
    changed(session, answer.association)
}

fn changed(session: &Session, known: Option<PeerGroupAssociation>) -> Result<Answer, Failure> {
    Ok(record(&promised(known, "association")?).of_edit(session))
}

fn record(known: &PeerGroupAssociation) -> Answer {
    let [group, peer, priority, state, message] = row(known);
    Answer::new(Body::record(
        &SHOW_COLUMNS,
        [
            group,
            peer,
            priority,
            state,
            message,
            Cell::text(&known.subcloud_peer_group_uuid),
            Cell::text(&known.system_peer_uuid),
            violations(&known.faults),
            wording::time(known.updated_at_milliseconds),
            Cell::text(&known.etag),
        ],
    ))
}

fn row(known: &PeerGroupAssociation) -> [Cell; 5] {
    [
        Cell::text(&known.subcloud_peer_group),
        Cell::text(&known.system_peer),
        Cell::number(u64::from(known.peer_priority)),
        wording::association(known.state),
        Cell::text(&known.message),
    ]
}
