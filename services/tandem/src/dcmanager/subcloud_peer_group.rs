//! `dcmanager subcloud-peer-group …`.

use api::fleet_v1::{
    AddSubcloudPeerGroupRequest, DeleteSubcloudPeerGroupRequest, DismissConflictRequest,
    GetMigrationRequest, GetSubcloudPeerGroupRequest, ListSubcloudPeerGroupMembersRequest,
    ListSubcloudPeerGroupsRequest, MigrateSubcloudPeerGroupRequest, Migration, MigrationState,
    SubcloudPeerGroup, SubcloudPeerGroupMember, UpdateSubcloudPeerGroupMembersRequest,
    UpdateSubcloudPeerGroupRequest,
};
use clap::{Args, Subcommand};
use serde_json::json;

use super::management::{self, mask};
use super::migration_wait;
use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::wording;

/// Subcloud peer groups.
#[derive(Debug, Subcommand)]
pub(crate) enum SubcloudPeerGroupCommand {
    /// Add a group; this site leads it
    #[command(
        after_help = "Example:\n  tandem dcmanager subcloud-peer-group add north --group-priority 0"
    )]
    Add {
        /// Name: 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// List the groups
    #[command(after_help = "Example:\n  tandem dcmanager subcloud-peer-group list")]
    List,
    /// Show a group
    #[command(after_help = "Example:\n  tandem dcmanager subcloud-peer-group show north")]
    Show {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
    },
    /// Change this site's place in a group, or how many members move at a time
    #[command(
        after_help = "Example:\n  tandem dcmanager subcloud-peer-group update north \
                      --max-subcloud-rehoming 50"
    )]
    Update {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
        #[command(flatten)]
        place: Place,
    },
    /// Delete a group without members that is shared with nobody
    #[command(after_help = "Example:\n  tandem dcmanager subcloud-peer-group delete north")]
    Delete {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
    },
    /// List the members of a group with their owners
    #[command(after_help = "Example:\n  tandem dcmanager subcloud-peer-group list-subclouds north")]
    ListSubclouds {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
    },
    /// Let subclouds that obey this site join a group: all of them, or none
    #[command(
        after_help = "Example:\n  tandem dcmanager subcloud-peer-group add-subclouds north \
                      subcloud-1 subcloud-2"
    )]
    AddSubclouds(Members),
    /// Let subclouds that obey this site leave a group: all of them, or none
    #[command(after_help = "Example:\n  \
                      tandem dcmanager subcloud-peer-group remove-subclouds north subcloud-1")]
    RemoveSubclouds(Members),
    /// Take all members of a group over to this site, whether their owners are alive or not
    #[command(
        after_help = "Refused as a whole when a member is not ready. A dry run lists the members \
                      that would move.\n\nExample:\n  tandem dcmanager subcloud-peer-group migrate \
                      north --wait"
    )]
    Migrate {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
        /// Show how far it has come until it ends; exit status 1 when not all members have come
        #[arg(long)]
        wait: bool,
    },
    /// Show how far the running or the last migration to this site has come
    #[command(after_help = "Example:\n  tandem dcmanager subcloud-peer-group status north")]
    Status {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
    },
    /// Put away what was edited here and lost to the record of the owner
    #[command(after_help = "Example:\n  \
                      tandem dcmanager subcloud-peer-group dismiss-conflict subcloud-1")]
    DismissConflict {
        /// Name or uuid of the subcloud
        #[arg(value_name = "SUBCLOUD")]
        subcloud: String,
    },
}

/// This site's place in a group, and its pace.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// This site's place, 0 to 1000; 0 is the primary site [default of a new group: 0]
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(0..=1000)
    )]
    group_priority: Option<u32>,
    /// How many members may be on their way at a time, 1 to 1000 [default of a new group: 10]
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    max_subcloud_rehoming: Option<u32>,
}

/// Some subclouds and a group.
#[derive(Debug, Args)]
pub(crate) struct Members {
    /// Name or uuid of the group
    #[arg(value_name = "NAME")]
    group: String,
    /// Names or uuids of the subclouds
    #[arg(value_name = "SUBCLOUD", required = true)]
    subclouds: Vec<String>,
}

pub(super) const LIST_COLUMNS: [Column; 8] = [
    Column::new("id"),
    Column::new("name"),
    Column::new("priority"),
    Column::new("leader"),
    Column::titled("leader_priority", "leader priority"),
    Column::new("members"),
    Column::titled("owned_here", "owned here"),
    Column::new("migration"),
];

const SHOW_COLUMNS: [Column; 13] = [
    LIST_COLUMNS[0],
    LIST_COLUMNS[1],
    LIST_COLUMNS[2],
    LIST_COLUMNS[3],
    LIST_COLUMNS[4],
    LIST_COLUMNS[5],
    LIST_COLUMNS[6],
    LIST_COLUMNS[7],
    Column::titled("max_subcloud_rehoming", "max subcloud rehoming"),
    Column::titled("led_here", "led here"),
    Column::titled("created_at", "created at"),
    Column::titled("updated_at", "updated at"),
    Column::new("etag"),
];

const MEMBER_COLUMNS: [Column; 7] = [
    Column::new("id"),
    Column::new("name"),
    Column::new("owner"),
    Column::titled("owned_here", "owned here"),
    Column::new("epoch"),
    Column::new("availability"),
    Column::new("conflict"),
];

const STATUS_COLUMNS: [Column; 10] = [
    Column::new("name"),
    Column::new("migration"),
    Column::new("total"),
    Column::new("arrived"),
    Column::titled("on_their_way", "on their way"),
    Column::new("waiting"),
    Column::new("remaining"),
    Column::new("leader"),
    Column::titled("started_at", "started at"),
    Column::titled("finished_at", "finished at"),
];

impl SubcloudPeerGroupCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Add { .. }
            | Self::Update { .. }
            | Self::Delete { .. }
            | Self::AddSubclouds(_)
            | Self::RemoveSubclouds(_) => Shape::creates(&SHOW_COLUMNS),
            Self::List => Shape::reads(&LIST_COLUMNS),
            Self::Show { .. } => Shape::reads(&SHOW_COLUMNS),
            Self::ListSubclouds { .. } => Shape::reads(&MEMBER_COLUMNS),
            Self::Migrate { .. } => Shape::previews(&STATUS_COLUMNS, &MEMBER_COLUMNS),
            Self::Status { .. } => Shape::reads(&STATUS_COLUMNS),
            Self::DismissConflict { .. } => management::CHANGED,
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Add { name, place } => add(session, name, &place).await,
            Self::List => list(session, String::new()).await,
            Self::Show { group } => show(session, group).await,
            Self::Update { group, place } => update(session, group, &place).await,
            Self::Delete { group } => delete(session, group).await,
            Self::ListSubclouds { group } => {
                let all = members(session, group).await?;
                let rows = all.iter().map(member_row);
                Ok(Answer::new(Body::list(&MEMBER_COLUMNS, rows)))
            }
            Self::AddSubclouds(Members { group, subclouds }) => {
                set_members(session, group, subclouds, Vec::new()).await
            }
            Self::RemoveSubclouds(Members { group, subclouds }) => {
                set_members(session, group, Vec::new(), subclouds).await
            }
            Self::Migrate { group, wait } => migrate(session, group, wait).await,
            Self::Status { group } => status(session, group).await,
            Self::DismissConflict { subcloud } => dismiss(session, subcloud).await,
        }
    }
}

async fn add(session: &Session, name: String, place: &Place) -> Result<Answer, Failure> {
    let request = AddSubcloudPeerGroupRequest {
        subcloud_peer_group: Some(values(name, place)),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().add_subcloud_peer_group(request)).await?;
    changed(session, answer.subcloud_peer_group)
}

/// Lists the groups: those that are shared with a peer, or all without one.
pub(super) async fn list(session: &Session, system_peer: String) -> Result<Answer, Failure> {
    let mut client = session.peers();
    let groups = every_page(async |page_token| {
        let request = ListSubcloudPeerGroupsRequest {
            page_size: PAGE_SIZE,
            page_token,
            system_peer: system_peer.clone(),
        };
        let page = call(client.list_subcloud_peer_groups(request)).await?;
        Ok((page.subcloud_peer_groups, page.next_page_token))
    })
    .await?;
    Ok(Answer::new(Body::list(
        &LIST_COLUMNS,
        groups.iter().map(row),
    )))
}

async fn show(session: &Session, subcloud_peer_group: String) -> Result<Answer, Failure> {
    let request = GetSubcloudPeerGroupRequest {
        subcloud_peer_group,
    };
    let answer = call(session.peers().get_subcloud_peer_group(request)).await?;
    Ok(record(&promised(answer.subcloud_peer_group, GROUP)?))
}

async fn update(session: &Session, target: String, place: &Place) -> Result<Answer, Failure> {
    let named = [
        ("priority", place.group_priority.is_some()),
        (
            "max_subcloud_rehoming",
            place.max_subcloud_rehoming.is_some(),
        ),
    ];
    let request = UpdateSubcloudPeerGroupRequest {
        target,
        subcloud_peer_group: Some(values(String::new(), place)),
        update_mask: Some(mask(&named)),
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().update_subcloud_peer_group(request)).await?;
    changed(session, answer.subcloud_peer_group)
}

async fn delete(session: &Session, subcloud_peer_group: String) -> Result<Answer, Failure> {
    let request = DeleteSubcloudPeerGroupRequest {
        subcloud_peer_group,
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().delete_subcloud_peer_group(request)).await?;
    let gone = promised(answer.subcloud_peer_group, GROUP)?;
    let note = format!("{} is deleted", gone.name);
    Ok(record(&gone).of_removal(session, &gone.name, note))
}

/// Lets subclouds join and leave a group.
pub(super) async fn set_members(
    session: &Session,
    subcloud_peer_group: String,
    add: Vec<String>,
    remove: Vec<String>,
) -> Result<Answer, Failure> {
    let request = UpdateSubcloudPeerGroupMembersRequest {
        subcloud_peer_group,
        add,
        remove,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().update_subcloud_peer_group_members(request)).await?;
    changed(session, answer.subcloud_peer_group)
}

async fn members(
    session: &Session,
    group: String,
) -> Result<Vec<SubcloudPeerGroupMember>, Failure> {
    let mut client = session.peers();
    every_page(async |page_token| {
        let request = ListSubcloudPeerGroupMembersRequest {
            subcloud_peer_group: group.clone(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = call(client.list_subcloud_peer_group_members(request)).await?;
        Ok((page.members, page.next_page_token))
    })
    .await
}

async fn migrate(session: &Session, group: String, wait: bool) -> Result<Answer, Failure> {
    let request = MigrateSubcloudPeerGroupRequest {
        subcloud_peer_group: group.clone(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().migrate_subcloud_peer_group(request)).await?;
    let shown = promised(answer.subcloud_peer_group, GROUP)?;
    let migration = promised(answer.migration, "migration")?;
    if session.dry_run() {
        let mut away = members(session, group).await?;
        away.retain(|member| !member.owned_here);
        let note = format!(
            "dry run: {} members would move here; nothing was changed",
            migration.total
        );
        let body = Body::list(&MEMBER_COLUMNS, away.iter().map(member_row));
        return Ok(Answer::new(body).note(note));
    }
    if wait {
        let (shown, migration) = migration_wait::until_ended(session, shown.uuid).await?;
        let complete = migration.state == MigrationState::Complete as i32;
        let answer = standing(&shown, migration);
        return Ok(if complete {
            answer
        } else {
            answer
                .unsuccessful()
                .warning("it ended, and not all members have come")
        });
    }
    let note = format!(
        "{} members are on their way: `tandem dcmanager subcloud-peer-group status {}` follows \
         them",
        migration.total, shown.name
    );
    Ok(standing(&shown, migration).note(note))
}

async fn status(session: &Session, group: String) -> Result<Answer, Failure> {
    let (shown, migration) = progress(session, group).await?;
    Ok(standing(&shown, migration))
}

/// How far the running or the last migration of a group has come.
pub(super) async fn progress(
    session: &Session,
    subcloud_peer_group: String,
) -> Result<(SubcloudPeerGroup, Migration), Failure> {
    let request = GetMigrationRequest {
        subcloud_peer_group,
    };
    let answer = call(session.peers().get_migration(request)).await?;
    Ok((
        promised(answer.subcloud_peer_group, GROUP)?,
        promised(answer.migration, "migration")?,
    ))
}

async fn dismiss(session: &Session, subcloud: String) -> Result<Answer, Failure> {
    let request = DismissConflictRequest {
        subcloud,
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.peers().dismiss_conflict(request)).await?;
    management::changed(session, answer.subcloud).await
}

/// What the answers are promised to have.
const GROUP: &str = "subcloud peer group";

fn values(name: String, place: &Place) -> SubcloudPeerGroup {
    SubcloudPeerGroup {
        name,
        priority: place.group_priority.unwrap_or_default(),
        max_subcloud_rehoming: place.max_subcloud_rehoming.unwrap_or_default(),
        ..SubcloudPeerGroup::default()
    }
}

fn changed(session: &Session, group: Option<SubcloudPeerGroup>) -> Result<Answer, Failure> {
    Ok(record(&promised(group, GROUP)?).of_edit(session))
}

fn standing(group: &SubcloudPeerGroup, migration: Migration) -> Answer {
    Answer::new(Body::record(
        &STATUS_COLUMNS,
        [
            Cell::text(&group.name),
            wording::migration(migration.state),
            Cell::number(u64::from(migration.total)),
            Cell::number(u64::from(migration.arrived)),
            Cell::number(u64::from(migration.on_their_way)),
            Cell::number(u64::from(migration.waiting)),
            Cell::joined(migration.remaining),
            Cell::text(&group.leader_name),
            wording::time(migration.started_at_milliseconds),
            wording::time(migration.finished_at_milliseconds),
        ],
    ))
}

fn record(group: &SubcloudPeerGroup) -> Answer {
    let [
        id,
        name,
        priority,
        leader,
        leader_priority,
        members,
        owned,
        migration,
    ] = row(group);
    Answer::new(Body::record(
        &SHOW_COLUMNS,
        [
            id,
            name,
            priority,
            leader,
            leader_priority,
            members,
            owned,
            migration,
            Cell::number(u64::from(group.max_subcloud_rehoming)),
            Cell::flag(group.led_here),
            wording::time(group.created_at_milliseconds),
            wording::time(group.updated_at_milliseconds),
            Cell::text(&group.etag),
        ],
    ))
}

fn row(group: &SubcloudPeerGroup) -> [Cell; 8] {
    [
        Cell::text(&group.uuid),
        Cell::text(&group.name),
        Cell::number(u64::from(group.priority)),
        Cell::text(&group.leader_name),
        Cell::number(u64::from(group.leader_priority)),
        Cell::number(u64::from(group.members)),
        Cell::number(u64::from(group.owned)),
        wording::migration(group.migration_state),
    ]
}

fn member_row(member: &SubcloudPeerGroupMember) -> [Cell; 7] {
    let conflict = member.conflict.iter().flat_map(|conflict| &conflict.lost);
    let lost: Vec<_> = conflict.collect();
    let text: Vec<String> = lost
        .iter()
        .map(|lost| format!("{}: {}", lost.field, lost.value))
        .collect();
    let objects = lost
        .iter()
        .map(|lost| json!({"field": lost.field, "value": lost.value}))
        .collect();
    [
        Cell::text(&member.subcloud_uuid),
        Cell::text(&member.name),
        Cell::text(&member.owner),
        Cell::flag(member.owned_here),
        Cell::number(member.epoch),
        wording::availability(member.availability),
        Cell::objects(objects, text.join("; ")),
    ]
}
