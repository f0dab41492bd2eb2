//! `dcmanager network-rollout …`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use api::fleet_v1::{
    AbortRolloutRequest, CreateRolloutRequest, GetRolloutRequest, ListRolloutMembersRequest,
    ListRolloutsRequest, PauseRolloutRequest, ResumeRolloutRequest, Rollout, RolloutAction,
    RolloutGroupBound, RolloutMember, RolloutMemberState, RolloutSelector, RolloutState,
    RolloutTally, Violation,
};
use api::site_v1::{Effect, Family, Rank, Stack};
use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::declaration::Declaration;
use super::rollout_wait;
use super::subcloud::{FamilyName, StackName};
use crate::answer::Answer;
use crate::failure::Failure;
use crate::output::{Body, Cell, Column};
use crate::program::Shape;
use crate::session::{PAGE_SIZE, Session, call, every_page, promised};
use crate::wording;

/// Rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Change the pools of a network on many subclouds
    #[command(after_help = "Example:\n  \
                      tandem dcmanager network-rollout create --select all --network admin \\\n    \
                      --template deploy/examples/rollout-admin-ipv6.yaml --dry-run")]
    Create(Box<Create>),
    /// List the rollouts that are open or whose results are kept
    #[command(after_help = "Example:\n  tandem dcmanager network-rollout list")]
    List,
    /// Show a rollout, or the results of its subclouds
    #[command(after_help = "Example:\n  \
                      tandem dcmanager network-rollout show 3 --subclouds --state refused,failed")]
    Show {
        /// Number of the rollout
        #[arg(value_name = "NUMBER")]
        number: u64,
        /// List its subclouds with their results
        #[arg(long)]
        subclouds: bool,
        /// Only those in these states, with commas between
        #[arg(
            long = "state",
            value_name = "STATE,…",
            value_enum,
            value_delimiter = ',',
            ignore_case = true,
            requires = "subclouds"
        )]
        states: Vec<MemberStateName>,
    },
    /// Begin no further subcloud for now; those that have begun come to their end
    #[command(after_help = "Example:\n  tandem dcmanager network-rollout pause 3")]
    Pause {
        /// Number of the rollout
        #[arg(value_name = "NUMBER")]
        number: u64,
    },
    /// Go on, also when failures had paused the rollout
    #[command(after_help = "Example:\n  tandem dcmanager network-rollout resume 3 --wait")]
    Resume {
        /// Number of the rollout
        #[arg(value_name = "NUMBER")]
        number: u64,
        /// Wait until it is finished, paused or aborted; exit status 1 unless it is finished and
        /// none was refused or failed
        #[arg(long)]
        wait: bool,
    },
    /// Begin no further subcloud for good; those that have begun come to their end
    #[command(after_help = "Example:\n  tandem dcmanager network-rollout abort 3")]
    Abort {
        /// Number of the rollout
        #[arg(value_name = "NUMBER")]
        number: u64,
    },
}

/// What `create` is given.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Which subclouds: names or uuids with commas between, or `all`; leave it out with a table
    #[arg(long, value_name = "all|NAME,…", value_delimiter = ',')]
    select: Vec<String>,
    /// Only subclouds of this group, by name or uuid; without `--select` all of it
    #[arg(
        long,
        value_name = "NAME|UUID",
        default_value = "",
        hide_default_value = true
    )]
    group: String,
    /// Only subclouds of this primary family
    #[arg(long, value_enum, ignore_case = true)]
    family: Option<FamilyName>,
    /// Only subclouds of this stack
    #[arg(long, value_enum, ignore_case = true)]
    stack: Option<StackName>,
    /// Type of the network, such as admin or oam
    #[arg(long, value_name = "TYPE")]
    network: String,
    /// What happens to its pools
    #[arg(long, value_enum, default_value_t = ActionName::Add)]
    action: ActionName,
    /// With `--action remove`: delete the pools too
    #[arg(long)]
    delete_pools: bool,
    /// With `--action modify`: which pool
    #[arg(long, value_enum, default_value_t = RankName::Secondary)]
    rank: RankName,
    /// Template of the pools (YAML): names, subnets and addresses with {index}, {name}, {subnet+N}
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "table")]
    template: Option<PathBuf>,
    /// Table of the pools (CSV): a row for each subcloud; its rows are the selection
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    table: Option<PathBuf>,
    /// How many subclouds are worked on at once, 1 to 100; of each subcloud group no more than its
    /// update apply type and max parallel subclouds allow
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    max_parallel: u32,
    /// Pause when so many were refused or failed; 0 never
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_failures: u32,
    /// Wait until it is finished, paused or aborted; exit status 1 unless it is finished and none
    /// was refused or failed
    #[arg(long)]
    wait: bool,
}

/// An action on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ActionName {
    /// A new pool becomes the secondary one
    Add,
    /// The secondary pool is removed
    Remove,
    /// A pool gets other fields
    Modify,
}

/// A rank on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RankName {
    /// The network's first pool
    Primary,
    /// The pool of the other family
    Secondary,
}

/// How far a subcloud has come, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum MemberStateName {
    /// Not begun; it may wait to be ready
    Pending,
    /// Begun
    InFlight,
    /// The change is in effect
    Done,
    /// Refused; nothing was changed
    Refused,
    /// It went wrong half-way
    Failed,
    /// Left out: not enrolled, deleted, or the rollout was aborted
    Skipped,
}

impl From<MemberStateName> for RolloutMemberState {
    fn from(name: MemberStateName) -> Self {
        match name {
            MemberStateName::Pending => Self::Pending,
            MemberStateName::InFlight => Self::InFlight,
            MemberStateName::Done => Self::Done,
            MemberStateName::Refused => Self::Refused,
            MemberStateName::Failed => Self::Failed,
            MemberStateName::Skipped => Self::Skipped,
        }
    }
}

const COLUMNS: [Column; 11] = [
    Column::new("number"),
    Column::new("network"),
    Column::new("action"),
    Column::new("selection"),
    Column::new("state"),
    Column::new("pending"),
    Column::titled("in_flight", "in flight"),
    Column::new("done"),
    Column::new("refused"),
    Column::new("failed"),
    Column::new("skipped"),
];

const SHOW_COLUMNS: [Column; 17] = [
    COLUMNS[0],
    COLUMNS[1],
    COLUMNS[2],
    COLUMNS[3],
    COLUMNS[4],
    COLUMNS[5],
    COLUMNS[6],
    COLUMNS[7],
    COLUMNS[8],
    COLUMNS[9],
    COLUMNS[10],
    Column::titled("max_parallel", "max parallel"),
    Column::titled("max_failures", "max failures"),
    Column::titled("paused_because", "paused because"),
    Column::new("actor"),
    Column::titled("created_at", "created at"),
    Column::titled("updated_at", "updated at"),
];

const MEMBER_COLUMNS: [Column; 9] = [
    Column::new("subcloud"),
    Column::new("index"),
    Column::new("subnet"),
    Column::new("state"),
    Column::titled("waits_for", "waits for"),
    Column::new("changed"),
    Column::new("reason"),
    Column::new("message").prose(),
    Column::new("remedy").prose(),
];

/// A row for each effect, fault or warning of each subcloud.
const PREVIEW_COLUMNS: [Column; 6] = [
    Column::new("subcloud"),
    Column::new("outcome"),
    Column::new("subnet"),
    Column::new("kind"),
    Column::new("description").prose(),
    Column::new("remedy").prose(),
];

impl RolloutCommand {
    /// What is known of the command before it runs.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Create(_) => Shape::previews(&SHOW_COLUMNS, &PREVIEW_COLUMNS),
            Self::List => Shape::reads(&COLUMNS),
            Self::Show {
                subclouds: false, ..
            } => Shape::reads(&SHOW_COLUMNS),
            Self::Show {
                subclouds: true, ..
            } => Shape::reads(&MEMBER_COLUMNS),
            Self::Pause { .. } | Self::Resume { .. } | Self::Abort { .. } => {
                Shape::creates(&SHOW_COLUMNS)
            }
        }
    }

    /// Reads the file of `create`; the controller judges it.
    pub(crate) fn declaration(&self) -> Result<Declaration, Failure> {
        match self {
            Self::Create(create) => match (&create.template, &create.table) {
                (Some(path), _) => Declaration::unread("--template", path, MAX_FILE_BYTES),
                (None, Some(path)) => Declaration::unread("--table", path, MAX_FILE_BYTES),
                (None, None) => Ok(Declaration::default()),
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
        let validate_only = session.dry_run();
        match self {
            Self::Create(wanted) => create(session, *wanted, declaration.bytes).await,
            Self::List => list(session).await,
            Self::Show {
                number,
                subclouds: false,
                states: _,
            } => show(session, number).await,
            Self::Show {
                number,
                subclouds: true,
                states,
            } => members(session, number, states).await,
            Self::Pause { number } => {
                let request = PauseRolloutRequest {
                    number,
                    validate_only,
                    request_id: session.request_id(),
                };
                let answer = call(session.rollouts().pause_rollout(request)).await?;
                told(session, answer.rollout)
            }
            Self::Resume { number, wait } => {
                let request = ResumeRolloutRequest {
                    number,
                    validate_only,
                    request_id: session.request_id(),
                };
                let answer = call(session.rollouts().resume_rollout(request)).await?;
                if wait && !validate_only {
                    return waited(session, number).await;
                }
                told(session, answer.rollout)
            }
            Self::Abort { number } => {
                let request = AbortRolloutRequest {
                    number,
                    validate_only,
                    request_id: session.request_id(),
                };
                let answer = call(session.rollouts().abort_rollout(request)).await?;
                told(session, answer.rollout)
            }
        }
    }
}

/// The largest template or table: that of a table, which the controller takes.
const MAX_FILE_BYTES: u64 = 1536 * 1024;

async fn create(session: &Session, wanted: Create, file: Vec<u8>) -> Result<Answer, Failure> {
    let wait = wanted.wait;
    let request = wanted.request(file);
    if session.dry_run() {
        return preview(session, request).await;
    }
    let request = CreateRolloutRequest {
        request_id: session.request_id(),
        ..request
    };
    let made = call(session.rollouts().create_rollout(request)).await?;
    let rollout = promised(made.rollout, "rollout")?;
    let number = rollout.number;
    let answer = if wait {
        waited(session, number).await?
    } else {
        Answer::new(record(&rollout)).note(format!(
            "rollout {number} has begun: `tandem dcmanager network-rollout show {number}` follows \
             it"
        ))
    };
    Ok(bounded(answer, &made.group_bounds))
}

/// Tells which groups slow a rollout down.
fn bounded(answer: Answer, bounds: &[RolloutGroupBound]) -> Answer {
    bounds.iter().fold(answer, |answer, bound| {
        let RolloutGroupBound {
            subcloud_group,
            at_once,
            subclouds,
        } = bound;
        answer.note(format!(
            "of the {subclouds} subclouds of group {subcloud_group} at most {at_once} are worked \
             on at a time: `tandem dcmanager subcloud-group update {subcloud_group}` changes that"
        ))
    })
}

impl Create {
    fn request(self, file: Vec<u8>) -> CreateRolloutRequest {
        let all = self.select == ["all"];
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
        let selector = RolloutSelector {
            all,
            subclouds: if all { Vec::new() } else { self.select },
            family: family.into(),
            stack: stack.into(),
            group: self.group,
        };
        let (template, table) = if self.table.is_some() {
            (Vec::new(), file)
        } else {
            (file, Vec::new())
        };
        CreateRolloutRequest {
            network: self.network,
            action: match self.action {
                ActionName::Add => RolloutAction::Add,
                ActionName::Remove => RolloutAction::Remove,
                ActionName::Modify => RolloutAction::Modify,
            }
            .into(),
            delete_pools: self.delete_pools,
            rank: match self.rank {
                RankName::Primary => Rank::Primary,
                RankName::Secondary => Rank::Secondary,
            }
            .into(),
            selector: Some(selector),
            template,
            table,
            max_parallel: self.max_parallel,
            max_failures: self.max_failures,
            validate_only: false,
            request_id: String::new(),
            page_size: 0,
            page_token: String::new(),
        }
    }
}

async fn preview(session: &Session, request: CreateRolloutRequest) -> Result<Answer, Failure> {
    let mut client = session.rollouts();
    let mut tally = RolloutTally::default();
    let mut bounds = Vec::new();
    let members = every_page(async |page_token| {
        let request = CreateRolloutRequest {
            validate_only: true,
            page_size: PAGE_SIZE,
            page_token,
            ..request.clone()
        };
        let answer = call(client.create_rollout(request)).await?;
        tally = answer
            .rollout
            .and_then(|rollout| rollout.tally)
            .unwrap_or_default();
        bounds = answer.group_bounds;
        Ok((answer.members, answer.next_page_token))
    })
    .await?;
    let rows = members.iter().flat_map(preview_rows);
    let answer = bounded(Answer::new(Body::list(&PREVIEW_COLUMNS, rows)), &bounds);
    Ok(answer.note(format!(
        "dry run: {} would be changed, {} need no change, {} are refused, {} are skipped; nothing \
         was changed",
        tally.pending, tally.done, tally.refused, tally.skipped
    )))
}

fn preview_rows(member: &RolloutMember) -> Vec<[Cell; 6]> {
    let outcome = match RolloutMemberState::try_from(member.state) {
        Ok(RolloutMemberState::Pending) => "change",
        Ok(RolloutMemberState::Done) => "none",
        Ok(RolloutMemberState::Refused) => "refused",
        _ => "skipped",
    };
    let row = |kind: &str, description: &str, remedy: &str| {
        [
            Cell::text(&member.subcloud),
            Cell::text(outcome),
            Cell::text(&member.subnet),
            Cell::text(kind),
            Cell::text(description),
            Cell::text(site::advice_at(remedy, &member.subcloud)),
        ]
    };
    let faults = member.violations.iter();
    let mut rows: Vec<_> = faults
        .map(|fault| row(&fault.reason, &fault.message, &fault.remedy))
        .collect();
    if !member.waits_for.is_empty() && member.violations.is_empty() && outcome == "change" {
        let text = format!("the subcloud is {}: it waits", waits(&member.waits_for));
        rows.push(row("WAITS", &text, ""));
    }
    let warnings = member.warnings.iter();
    rows.extend(warnings.map(|warning| row(&warning.reason, &warning.message, &warning.remedy)));
    let effects = member.effects.iter();
    rows.extend(effects.map(
        |Effect {
             kind, description, ..
         }| row(kind, description, ""),
    ));
    if rows.is_empty() {
        rows.push(row("", "it is so already", ""));
    }
    rows
}

fn waits(standing: &str) -> String {
    standing.to_ascii_lowercase().replace('_', " ")
}

async fn list(session: &Session) -> Result<Answer, Failure> {
    let mut client = session.rollouts();
    let rollouts = every_page(async |page_token| {
        let request = ListRolloutsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = call(client.list_rollouts(request)).await?;
        Ok((page.rollouts, page.next_page_token))
    })
    .await?;
    Ok(Answer::new(Body::list(&COLUMNS, rollouts.iter().map(row))))
}

async fn show(session: &Session, number: u64) -> Result<Answer, Failure> {
    let request = GetRolloutRequest { number };
    let answer = call(session.rollouts().get_rollout(request)).await?;
    Ok(Answer::new(record(&promised(answer.rollout, "rollout")?)))
}

/// The subclouds in some states, or in any. The controller narrows by one: it is asked for each.
async fn members(
    session: &Session,
    number: u64,
    states: Vec<MemberStateName>,
) -> Result<Answer, Failure> {
    let states: BTreeSet<_> = states.into_iter().collect();
    let mut wanted: Vec<_> = states.into_iter().map(RolloutMemberState::from).collect();
    if wanted.is_empty() {
        wanted.push(RolloutMemberState::Unspecified);
    }
    let mut members = BTreeMap::new();
    for state in wanted {
        // One that moves between two of the states meanwhile is shown as it was last.
        for member in members_in(session, number, state).await? {
            members.insert((member.index, member.uuid.clone()), member);
        }
    }
    let rows = members.values().map(member_row);
    Ok(Answer::new(Body::list(&MEMBER_COLUMNS, rows)))
}

async fn members_in(
    session: &Session,
    number: u64,
    state: RolloutMemberState,
) -> Result<Vec<RolloutMember>, Failure> {
    let mut client = session.rollouts();
    every_page(async |page_token| {
        let request = ListRolloutMembersRequest {
            number,
            page_size: PAGE_SIZE,
            page_token,
            state: state.into(),
        };
        let page = call(client.list_rollout_members(request)).await?;
        Ok((page.members, page.next_page_token))
    })
    .await
}

async fn waited(session: &Session, number: u64) -> Result<Answer, Failure> {
    let rollout = rollout_wait::until_quiet(session, number).await?;
    let mut answer = Answer::new(record(&rollout));
    let tally = rollout.tally.unwrap_or_default();
    let unsuccessful = tally.refused + tally.failed;
    if unsuccessful > 0 {
        answer = answer.unsuccessful().warning(format!(
            "{unsuccessful} subclouds were refused or failed: see `tandem dcmanager \
             network-rollout show {number} --subclouds --state refused,failed`"
        ));
    }
    Ok(match RolloutState::try_from(rollout.state) {
        Ok(RolloutState::Finished) => answer,
        Ok(RolloutState::Paused) => answer.unsuccessful().warning(format!(
            "it is paused: `tandem dcmanager network-rollout resume {number} --wait` goes on"
        )),
        _ => answer.unsuccessful().warning("it was aborted"),
    })
}

fn told(session: &Session, rollout: Option<Rollout>) -> Result<Answer, Failure> {
    let rollout = promised(rollout, "rollout")?;
    let answer = Answer::new(record(&rollout));
    Ok(match session.dry_run() {
        true => answer.note(format!(
            "dry run: rollout {} would be so; nothing was changed",
            rollout.number
        )),
        false => answer,
    })
}

fn row(rollout: &Rollout) -> [Cell; 11] {
    let tally = rollout.tally.unwrap_or_default();
    let action = wording::rollout_action(rollout.action);
    [
        Cell::number(rollout.number),
        Cell::text(&rollout.network),
        action,
        Cell::text(&rollout.selection),
        wording::rollout_state(rollout.state),
        Cell::number(tally.pending),
        Cell::number(tally.in_flight),
        Cell::number(tally.done),
        Cell::number(tally.refused),
        Cell::number(tally.failed),
        Cell::number(tally.skipped),
    ]
}

fn record(rollout: &Rollout) -> Body {
    let [
        number,
        network,
        action,
        selection,
        state,
        pending,
        flight,
        done,
        refused,
        failed,
        skipped,
    ] = row(rollout);
    let because = rollout.paused_because.as_ref();
    Body::record(
        &SHOW_COLUMNS,
        [
            number,
            network,
            action,
            selection,
            state,
            pending,
            flight,
            done,
            refused,
            failed,
            skipped,
            Cell::number(rollout.max_parallel),
            Cell::number(rollout.max_failures),
            Cell::text(
                because
                    .map(|fault| fault.message.as_str())
                    .unwrap_or_default(),
            ),
            Cell::text(&rollout.actor),
            wording::time(rollout.created_at_milliseconds),
            wording::time(rollout.updated_at_milliseconds),
        ],
    )
}

fn member_row(member: &RolloutMember) -> [Cell; 9] {
    let joined = |of: fn(&Violation) -> &str| {
        let texts: Vec<&str> = member.violations.iter().map(of).collect();
        texts.join("; ")
    };
    let remedies = joined(|fault| &fault.remedy);
    [
        Cell::text(&member.subcloud),
        Cell::number(member.index),
        Cell::text(&member.subnet),
        wording::rollout_member_state(member.state),
        Cell::text(waits(&member.waits_for)),
        Cell::flag(member.changed),
        Cell::text(joined(|fault| &fault.reason)),
        Cell::text(joined(|fault| &fault.message)),
        Cell::text(site::advice_at(&remedies, &member.subcloud)),
    ]
}
