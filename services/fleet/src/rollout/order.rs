//! What an operator asks for: which subclouds, which change, how fast.

use std::collections::BTreeSet;

use site::{Family, NetworkKind, Rank, Stack, Timestamp};

use super::{Rollout, RolloutId, RolloutState, Table, Tally, Template};
use crate::{
    Fleet, Reason, Rejection, SharedSubcloud, Violation, subcloud_group_not_found,
    subcloud_not_found,
};

/// The most subclouds of one rollout. With some 1 KiB of memory for each they are 10 MB, and
/// their preview takes a second or two; a larger fleet is changed in several rollouts.
pub const MAX_MEMBERS: usize = 10_000;

/// The most subclouds that a rollout works on at once. Each has at most one write that waits for
/// the disk, so that all open rollouts together keep nobody else from it.
pub const MAX_PARALLEL: u32 = 100;

/// A request as it came, unread.
#[derive(Debug, Clone, Default)]
pub struct RolloutRequest {
    /// The type of the network.
    pub network: String,
    /// What happens to it; `None` when the request does not say.
    pub action: Option<PoolAction>,
    /// Which subclouds.
    pub selector: Selector,
    /// The template file; empty when there is none.
    pub template: Vec<u8>,
    /// The table file; empty when there is none.
    pub table: Vec<u8>,
    /// How many subclouds are worked on at once.
    pub max_parallel: u32,
    /// After how many refusals and failures it pauses; 0 never.
    pub max_failures: u32,
}

/// A request that makes sense by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The network.
    pub network: NetworkKind,
    /// What happens to it.
    pub action: PoolAction,
    /// Which subclouds.
    pub selector: Selector,
    /// The fields of the pools; `None` when pools are removed.
    pub addresses: Option<Addresses>,
    /// How many subclouds are worked on at once; 1 to [`MAX_PARALLEL`].
    pub max_parallel: u32,
    /// After how many refusals and failures it pauses.
    pub max_failures: Option<u32>,
}

/// What happens to the pools of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolAction {
    /// A new pool becomes the secondary one.
    Add,
    /// The secondary pool is removed, and deleted if asked for.
    Remove {
        /// Whether the pool is deleted too.
        delete: bool,
    },
    /// A pool gets other fields.
    Modify {
        /// Which of the network's pools.
        rank: Rank,
    },
}

/// Where the fields of the pools come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// A template.
    Template(Template),
    /// A table.
    Table(Table),
}

/// Which subclouds. The conditions narrow what is named, or else all; with a table its rows are
/// the selection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// All of them.
    pub all: bool,
    /// Names or uuids.
    pub names: Vec<String>,
    /// Only those of this subcloud group, by name or uuid.
    pub group: Option<String>,
    /// Only those of this primary family.
    pub family: Option<Family>,
    /// Only those of this stack.
    pub stack: Option<Stack>,
}

impl PoolAction {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Remove { .. } => "REMOVE",
            Self::Modify { .. } => "MODIFY",
        }
    }
}

impl Order {
    /// Judges a request.
    ///
    /// # Errors
    /// Every fault of the request and of its file.
    pub fn read(request: RolloutRequest) -> Result<Self, Rejection> {
        let mut faults = Vec::new();
        let network = NetworkKind::from_name(&request.network);
        if network.is_none() {
            faults.push(no_network(&request.network));
        }
        if request.action.is_none() {
            let message = "the request does not say what shall happen to the pools";
            faults.push(invalid("action", message, "add, remove or modify"));
        }
        let addresses = addresses(&request, &mut faults);
        selector_faults(&request, &mut faults);
        if !(1..=MAX_PARALLEL).contains(&request.max_parallel) {
            let message = format!("max_parallel is {}", request.max_parallel);
            faults.push(invalid(
                "max_parallel",
                message,
                format!("give 1 to {MAX_PARALLEL}"),
            ));
        }
        Rejection::check(faults)?;
        // Both are there, or there was a fault.
        let (Some(network), Some(action)) = (network, request.action) else {
            return Err(Rejection::one(no_network(&request.network)));
        };
        Ok(Self {
            network,
            action,
            selector: request.selector,
            addresses,
            max_parallel: request.max_parallel,
            max_failures: (request.max_failures > 0).then_some(request.max_failures),
        })
    }

    /// The rollout that it asks for, as if it were made now: without number, members and maker.
    pub fn would_be(&self, now: Timestamp) -> Rollout {
        let words = self.selector.words();
        Rollout {
            id: RolloutId::default(),
            network: self.network,
            action: self.action,
            selection: if words.is_empty() {
                "table".to_owned()
            } else {
                words
            },
            max_parallel: self.max_parallel,
            max_failures: self.max_failures,
            state: RolloutState::Running,
            paused_because: None,
            forgiven: 0,
            tally: Tally::default(),
            actor: String::new(),
            request_id: String::new(),
            fingerprint: [0; 32],
            created_at: now,
            updated_at: now,
            revision: 0,
        }
    }

    /// The subclouds that are meant, by name (those of a table in its order).
    ///
    /// # Errors
    /// Every name that is no subcloud's, a selection of nobody, and one of too many.
    pub(super) fn subclouds<'f>(
        &self,
        fleet: &'f Fleet,
    ) -> Result<Vec<&'f SharedSubcloud>, Rejection> {
        let (selected, field) = match &self.addresses {
            Some(Addresses::Table(table)) => (self.of_table(table, fleet)?, "table"),
            _ => (self.selector.of(fleet)?, "selector"),
        };
        if selected.is_empty() {
            let message = "the selection has no subcloud";
            let remedy = "`tandem dcmanager subcloud list` shows the subclouds and their families";
            return Err(Rejection::one(invalid(field, message, remedy)));
        }
        if selected.len() > MAX_MEMBERS {
            let message = format!("the selection has {} subclouds", selected.len());
            let remedy = format!("make several rollouts of at most {MAX_MEMBERS}");
            return Err(Rejection::one(invalid(field, message, remedy)));
        }
        Ok(selected)
    }

    fn of_table<'f>(
        &self,
        table: &Table,
        fleet: &'f Fleet,
    ) -> Result<Vec<&'f SharedSubcloud>, Rejection> {
        let mut faults = Vec::new();
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for row in table.rows() {
            match fleet.find(&row.subcloud) {
                Some(subcloud) if seen.insert(subcloud.id) => found.push(subcloud),
                Some(subcloud) => {
                    let message = format!("line {}: {} has two lines", row.line, subcloud.name);
                    faults.push(invalid("table", message, "keep one of the two lines"));
                }
                None => {
                    let fault = subcloud_not_found(&row.subcloud).at("table");
                    faults.push(fault.fact("line", row.line));
                }
            }
        }
        Rejection::check(faults)?;
        Ok(found)
    }
}

impl Selector {
    /// In words, as the rollout keeps it.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if self.all {
            words.push("all".to_owned());
        }
        if !self.names.is_empty() {
            words.push(self.names.join(","));
        }
        words.extend(self.group.iter().map(|group| format!("group={group}")));
        words.extend(self.family.map(|family| format!("family={family}")));
        words.extend(self.stack.map(|stack| format!("stack={stack}")));
        words.join(" ")
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn of<'f>(&self, fleet: &'f Fleet) -> Result<Vec<&'f SharedSubcloud>, Rejection> {
        let faults = self
            .names
            .iter()
            .enumerate()
            .filter(|(_, name)| fleet.find(name).is_none());
        let fault = |(index, name): (usize, &String)| {
            subcloud_not_found(name).at(format!("selector.names[{index}]"))
        };
        let mut faults: Vec<Violation> = faults.map(fault).collect();
        let group = self.group.as_deref().and_then(|name| {
            let group = fleet.find_group(name).map(|group| group.id);
            if group.is_none() {
                faults.push(subcloud_group_not_found(name).at("selector.group"));
            }
            group
        });
        Rejection::check(faults)?;
        let named: BTreeSet<_> = self
            .names
            .iter()
            .filter_map(|name| fleet.find(name))
            .map(|subcloud| subcloud.id)
            .collect();
        let mut found: Vec<_> = fleet
            .subclouds()
            .filter(|subcloud| named.is_empty() || named.contains(&subcloud.id))
            .filter(|subcloud| group.is_none_or(|group| fleet.group_of(subcloud).id == group))
            .filter(|subcloud| self.family.is_none() || subcloud.link_family() == self.family)
            .filter(|subcloud| self.stack.is_none() || subcloud.stack() == self.stack)
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }
}

fn addresses(request: &RolloutRequest, faults: &mut Vec<Violation>) -> Option<Addresses> {
    let needs = !matches!(request.action, Some(PoolAction::Remove { .. }) | None);
    let is_new = request.action == Some(PoolAction::Add);
    match (request.template.is_empty(), request.table.is_empty()) {
        (false, false) => {
            let message = "both a template and a table are given";
            faults.push(invalid("table", message, "give one of them"));
            None
        }
        (true, true) => {
            if needs {
                let message = "the addresses of the pools are not given";
                let remedy = "give a template or a table; deploy/examples has one of each";
                faults.push(invalid("template", message, remedy));
            }
            None
        }
        (false, true) => match Template::read(&request.template) {
            Ok(template) => {
                if !needs {
                    let message = "a removal needs no template";
                    faults.push(invalid("template", message, "leave it out"));
                }
                if is_new {
                    faults.extend(template.complete().err().unwrap_or_default());
                }
                Some(Addresses::Template(template))
            }
            Err(found) => {
                faults.extend(found);
                None
            }
        },
        (true, false) => match Table::read(&request.table) {
            Ok(table) => {
                if is_new {
                    faults.extend(table.complete().err().unwrap_or_default());
                }
                Some(Addresses::Table(table))
            }
            Err(found) => {
                faults.extend(found);
                None
            }
        },
    }
}

fn selector_faults(request: &RolloutRequest, faults: &mut Vec<Violation>) {
    let selector = &request.selector;
    if !request.table.is_empty() && !selector.is_empty() {
        let message = "the rows of the table are the selection already";
        faults.push(invalid("selector", message, "leave the selection out"));
    } else if request.table.is_empty() && selector.is_empty() {
        let message = "no subcloud is selected";
        faults.push(invalid(
            "selector",
            message,
            "name subclouds, or select all of them",
        ));
    }
    if selector.all && !selector.names.is_empty() {
        let message = "all subclouds are selected and some are named";
        faults.push(invalid("selector.names", message, "do one of the two"));
    }
    if selector.names.len() > MAX_MEMBERS {
        let message = format!("{} names are given", selector.names.len());
        let remedy = format!("give at most {MAX_MEMBERS}");
        faults.push(invalid("selector.names", message, remedy));
    }
}

fn no_network(name: &str) -> Violation {
    let kinds = NetworkKind::ALL.map(NetworkKind::name).join(", ");
    let shown: String = name.chars().take(64).collect();
    invalid(
        "network",
        format!("there is no network type {shown:?}"),
        format!("give one of {kinds}"),
    )
}

fn invalid(
    field: &'static str,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Violation {
    Violation::new(Reason::InvalidArgument, message, remedy).at(field)
}
