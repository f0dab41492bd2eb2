//! `dcmanager subcloud-group …`.

use api::fleet_v1::{
    AddSubcloudGroupRequest, DeleteSubcloudGroupRequest, GetSubcloudGroupRequest,
    ListSubcloudGroupsRequest, SubcloudGroup, UpdateApplyType, UpdateSubcloudGroupRequest,
};
use clap::{Args, Subcommand, ValueEnum};

use super::management::mask;
use super::subcloud::{self, Filter};
use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::wording;

/// Subcloud groups.
#[derive(Debug, Subcommand)]
pub(crate) enum SubcloudGroupCommand {
    /// Add a group
    #[command(after_help = "Example:\n  \
                      tandem dcmanager subcloud-group add north --max-parallel-subclouds 10")]
    Add {
        /// Name: 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit
        #[arg(required_unless_present = "named")]
        name: Option<String>,
        /// The name, as an option
        #[arg(long = "name", value_name = "NAME", conflicts_with = "name")]
        named: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// List the groups
    #[command(after_help = "Example:\n  tandem dcmanager subcloud-group list")]
    List,
    /// Show a group
    #[command(after_help = "Example:\n  tandem dcmanager subcloud-group show Default")]
    Show {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
    },
    /// Change a group; the Default group keeps its name
    #[command(after_help = "Example:\n  \
                      tandem dcmanager subcloud-group update north --update-apply-type serial")]
    Update {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
        #[command(flatten)]
        edit: Edit,
    },
    /// Delete a group; its subclouds are in the Default group from then on
    #[command(after_help = "Example:\n  tandem dcmanager subcloud-group delete north")]
    Delete {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
    },
    /// List the subclouds of a group
    #[command(after_help = "Example:\n  tandem dcmanager subcloud-group list-subclouds Default")]
    ListSubclouds {
        /// Name or uuid of the group
        #[arg(value_name = "NAME")]
        group: String,
        /// Show regions, enrollment, pools and addresses too
        #[arg(short, long)]
        detail: bool,
    },
}

/// How a change goes through a group, and what is said about it.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// What to say about it, at most 255 characters
    #[arg(long)]
    description: Option<String>,
    /// Whether rollouts go through the group in parallel or one subcloud after the other
    #[arg(long, alias = "update_apply_type", value_enum, ignore_case = true)]
    update_apply_type: Option<ApplyTypeName>,
    /// How many of its subclouds all rollouts together work on at a time, when in parallel: 1 to
    /// 500; each rollout has a `--max-parallel` of its own beside that
    #[arg(
        long,
        alias = "max_parallel_subclouds",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    max_parallel_subclouds: Option<u32>,
}

/// New values of a group.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Another name
    #[arg(long = "name", value_name = "NEW")]
    renamed: Option<String>,
    #[command(flatten)]
    how: How,
}

/// A way to apply updates on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApplyTypeName {
    /// Several subclouds at a time
    Parallel,
    /// One subcloud after the other
    Serial,
}

const LIST_COLUMNS: [Column; 5] = [
    Column::new("id"),
    Column::new("name"),
    Column::new("description").prose(),
    Column::titled("update_apply_type", "update apply type"),
    Column::titled("max_parallel_subclouds", "max parallel subclouds"),
];

const SHOW_COLUMNS: [Column; 8] = [
    LIST_COLUMNS[0],
    LIST_COLUMNS[1],
    LIST_COLUMNS[2],
    LIST_COLUMNS[3],
    LIST_COLUMNS[4],
    Column::titled("created_at", "created at"),
    Column::titled("updated_at", "updated at"),
    Column::new("etag"),
];

impl SubcloudGroupCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Add { .. } | Self::Update { .. } | Self::Delete { .. } => {
                Shape::creates(&SHOW_COLUMNS)
            }
            Self::List => Shape::reads(&LIST_COLUMNS),
            Self::Show { .. } => Shape::reads(&SHOW_COLUMNS),
            Self::ListSubclouds { detail, .. } => Shape::reads(subcloud::list_columns(*detail)),
        }
    }

    /// Sends the command and reads the answer.
    pub(crate) async fn run(self, session: &Session) -> Result<Answer, Failure> {
        match self {
            Self::Add { name, named, how } => {
                add(session, name.or(named).unwrap_or_default(), how).await
            }
            Self::List => list(session).await,
            Self::Show { group } => show(session, group).await,
            Self::Update { group, edit } => update(session, group, edit).await,
            Self::Delete { group } => delete(session, group).await,
            Self::ListSubclouds { group, detail } => {
                subcloud::list(session, detail, &Filter::of_group(group)).await
            }
        }
    }
}

async fn add(session: &Session, name: String, how: How) -> Result<Answer, Failure> {
    let request = AddSubcloudGroupRequest {
        subcloud_group: Some(values(name, how)),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.groups().add_subcloud_group(request)).await?;
    changed(session, answer.subcloud_group)
}

async fn list(session: &Session) -> Result<Answer, Failure> {
    let mut client = session.groups();
    let groups = every_page(async |page_token| {
        let request = ListSubcloudGroupsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = call(client.list_subcloud_groups(request)).await?;
        Ok((page.subcloud_groups, page.next_page_token))
    })
    .await?;
    Ok(Answer::new(Body::list(
        &LIST_COLUMNS,
        groups.iter().map(row),
    )))
}

async fn show(session: &Session, subcloud_group: String) -> Result<Answer, Failure> {
    let request = GetSubcloudGroupRequest { subcloud_group };
    let answer = call(session.groups().get_subcloud_group(request)).await?;
    Ok(record(&promised(answer.subcloud_group, "subcloud group")?))
}

async fn update(session: &Session, target: String, edit: Edit) -> Result<Answer, Failure> {
    let Edit { renamed, how } = edit;
    let named = [
        ("name", renamed.is_some()),
        ("description", how.description.is_some()),
        ("update_apply_type", how.update_apply_type.is_some()),
        (
            "max_parallel_subclouds",
            how.max_parallel_subclouds.is_some(),
        ),
    ];
    let request = UpdateSubcloudGroupRequest {
        target,
        update_mask: Some(mask(&named)),
        subcloud_group: Some(values(renamed.unwrap_or_default(), how)),
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.groups().update_subcloud_group(request)).await?;
    changed(session, answer.subcloud_group)
}

async fn delete(session: &Session, subcloud_group: String) -> Result<Answer, Failure> {
    let request = DeleteSubcloudGroupRequest {
        subcloud_group,
        etag: String::new(),
        validate_only: session.dry_run(),
        request_id: session.request_id(),
    };
    let answer = call(session.groups().delete_subcloud_group(request)).await?;
    let gone = promised(answer.subcloud_group, "subcloud group")?;
    let note = format!(
        "{} is deleted; its subclouds are in the Default group",
        gone.name
    );
    Ok(record(&gone).of_removal(session, &gone.name, note))
}

fn values(name: String, how: How) -> SubcloudGroup {
    let update = match how.update_apply_type {
        None => UpdateApplyType::Unspecified,
        Some(ApplyTypeName::Parallel) => UpdateApplyType::Parallel,
        Some(ApplyTypeName::Serial) => UpdateApplyType::Serial,
    };
    SubcloudGroup {
        name,
        description: how.description.unwrap_or_default(),
        update_apply_type: update.into(),
        max_parallel_subclouds: how.max_parallel_subclouds.unwrap_or_default(),
        ..SubcloudGroup::default()
    }
}

fn changed(session: &Session, group: Option<SubcloudGroup>) -> Result<Answer, Failure> {
    Ok(record(&promised(group, "subcloud group")?).of_edit(session))
}

fn record(group: &SubcloudGroup) -> Answer {
    let [id, name, description, update, parallel] = row(group);
    Answer::new(Body::record(
        &SHOW_COLUMNS,
        [
            id,
            name,
            description,
            update,
            parallel,
            wording::time(group.created_at_milliseconds),
            wording::time(group.updated_at_milliseconds),
            Cell::text(&group.etag),
        ],
    ))
}

fn row(group: &SubcloudGroup) -> [Cell; 5] {
    [
        Cell::text(&group.uuid),
        Cell::text(&group.name),
        Cell::text(&group.description),
        wording::update_apply_type(group.update_apply_type),
        Cell::number(u64::from(group.max_parallel_subclouds)),
    ]
}
