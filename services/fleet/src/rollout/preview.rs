//! What a rollout would do, subcloud by subcloud, before anything happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use site::{Effect, Rank, Site, Timestamp};

use super::desired::new_pool;
use super::{Addresses, Desired, Member, MemberState, Order, PoolAction, Step};
use crate::admission::admit_report;
use crate::{
    Fault, Fleet, Reason, Rejection, SharedGroup, SharedSubcloud, Subcloud, SubcloudId, Violation,
};

/// What would happen on one subcloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// The member as the rollout would begin with it: pending, or with its result already.
    pub member: Member,
    /// The commands that it would get.
    pub steps: Vec<Step>,
    /// What they would do, in order.
    pub effects: Vec<Effect>,
    /// What is allowed but worth knowing, such as a shared subnet.
    pub warnings: Vec<Fault>,
}

/// A group that slows a rollout down: it lets fewer of its subclouds be worked on at a time than
/// the rollout would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBound {
    /// The group.
    pub group: SharedGroup,
    /// How many subclouds of it the rollout is to change.
    pub members: u32,
}

/// The groups that slow a rollout with these members down, as they are now, the Default group
/// first.
pub fn group_bounds<'a>(
    fleet: &Fleet,
    max_parallel: u32,
    members: impl Iterator<Item = &'a Member>,
) -> Vec<GroupBound> {
    let mut counts = BTreeMap::new();
    let open = members.filter(|member| !member.state.is_final());
    for subcloud in open.filter_map(|member| fleet.subcloud(member.subcloud)) {
        *counts.entry(fleet.group_of(subcloud).id).or_default() += 1;
    }
    let bound = |group: &SharedGroup| GroupBound {
        group: Arc::clone(group),
        members: counts.get(&group.id).copied().unwrap_or_default(),
    };
    let slows = |bound: &GroupBound| bound.group.at_once() < max_parallel.min(bound.members);
    fleet.groups().map(bound).filter(slows).collect()
}

/// Plans the rollout on the last accepted report of each subcloud (`sites` reads it) and asks
/// the fleet's rules of every site as it would be. The members are judged in order, each with
/// what those before it would hold: two members that would overlap are found here.
///
/// # Errors
/// When the selection names no subcloud, an unknown one, or too many. That a single subcloud is
/// refused is no error: its member says so.
pub fn preview(
    fleet: &Fleet,
    order: &Order,
    now: Timestamp,
    mut sites: impl FnMut(SubcloudId) -> Option<Site>,
) -> Result<Vec<Foreseen>, Rejection> {
    let subclouds = order.subclouds(fleet)?;
    let pools = Pools::of(order);
    let mut ahead = fleet.clone();
    let mut all = Vec::with_capacity(subclouds.len());
    for (index, subcloud) in (pools.first_index..).zip(subclouds) {
        let site = subcloud.enrolled().and_then(|_| sites(subcloud.id));
        let judged = judge(order, &pools, index, subcloud, site, &mut ahead, now);
        all.push(judged.foreseen(index, subcloud, now));
    }
    Ok(all)
}

/// The fields of the pools, by subcloud.
struct Pools<'o> {
    order: &'o Order,
    first_index: u64,
    rows: BTreeMap<&'o str, &'o site::PoolEdit>,
}

impl<'o> Pools<'o> {
    fn of(order: &'o Order) -> Self {
        let mut pools = Self {
            order,
            first_index: 0,
            rows: BTreeMap::new(),
        };
        match &order.addresses {
            Some(Addresses::Template(template)) => pools.first_index = template.first_index(),
            Some(Addresses::Table(table)) => {
                let rows = table.rows().iter();
                pools.rows = rows.map(|row| (row.subcloud.as_str(), &row.pool)).collect();
            }
            None => {}
        }
        pools
    }

    fn of_subcloud(
        &self,
        index: u64,
        subcloud: &Subcloud,
    ) -> Result<site::PoolEdit, Vec<Violation>> {
        match &self.order.addresses {
            Some(Addresses::Template(template)) => template.expand(index, &subcloud.name),
            Some(Addresses::Table(_)) => {
                let by_id = || self.rows.get(subcloud.id.to_string().as_str());
                let row = self.rows.get(subcloud.name.as_str()).or_else(by_id);
                Ok(row.map(|row| (*row).clone()).unwrap_or_default())
            }
            None => Ok(site::PoolEdit::default()),
        }
    }
}

/// What was found out about one subcloud.
#[derive(Default)]
struct Judged {
    desired: Option<Desired>,
    steps: Vec<Step>,
    effects: Vec<Effect>,
    warnings: Vec<Fault>,
    ended: Option<(MemberState, Vec<Fault>)>,
}

impl Judged {
    fn refused(mut self, violations: &[Violation]) -> Self {
        let faults = violations.iter().map(Fault::from).collect();
        self.ended = Some((MemberState::Refused, faults));
        self
    }

    fn foreseen(self, index: u64, subcloud: &Subcloud, now: Timestamp) -> Foreseen {
        let (state, faults) = self.ended.unwrap_or((MemberState::Pending, Vec::new()));
        Foreseen {
            member: Member {
                subcloud: subcloud.id,
                name: subcloud.name.clone(),
                index,
                desired: self.desired,
                state,
                changed: false,
                faults,
                updated_at: now,
            },
            steps: self.steps,
            effects: self.effects,
            warnings: self.warnings,
        }
    }
}

fn judge(
    order: &Order,
    pools: &Pools<'_>,
    index: u64,
    subcloud: &SharedSubcloud,
    site: Option<Site>,
    ahead: &mut Fleet,
    now: Timestamp,
) -> Judged {
    let mut judged = Judged::default();
    if subcloud.enrolled().is_none() {
        let fault = Fault::from(&not_enrolled(subcloud));
        judged.ended = Some((MemberState::Skipped, vec![fault]));
        return judged;
    }
    let Some(site) = site else {
        return judged.refused(&[not_reported(subcloud)]);
    };
    let desired = match desired(order, pools, index, subcloud, &site) {
        Ok(desired) => desired,
        Err(violations) => return judged.refused(&violations),
    };
    let steps = desired.steps(order.network, &site);
    judged.desired = Some(desired);
    judged.steps = steps.0.iter().map(|(step, _)| *step).collect();
    if steps.0.is_empty() {
        judged.ended = Some((MemberState::Done, Vec::new()));
        return judged;
    }
    let foreseeable = match steps.foresee(&site, now) {
        Ok(foreseeable) => foreseeable,
        Err(rejection) => return judged.refused(rejection.map(Reason::Site).violations()),
    };
    match admit_report(ahead, subcloud, &foreseeable.site.to_parts()) {
        Ok((candidate, warnings)) => {
            let mut would_be = Subcloud::clone(subcloud);
            if let Some(observed) = &mut would_be.observed {
                observed.footprint = candidate.footprint;
            }
            ahead.put(Arc::new(would_be));
            judged.effects = foreseeable.effects;
            judged.warnings = warnings.iter().map(Fault::from).collect();
            judged
        }
        Err(rejection) => judged.refused(rejection.violations()),
    }
}

fn desired(
    order: &Order,
    pools: &Pools<'_>,
    index: u64,
    subcloud: &Subcloud,
    site: &Site,
) -> Result<Desired, Vec<Violation>> {
    let Some(network) = site.network(order.network) else {
        return Err(vec![no_network(order, subcloud)]);
    };
    match order.action {
        PoolAction::Add => {
            let pool = new_pool(pools.of_subcloud(index, subcloud)?);
            Ok(Desired::Secondary(Box::new(pool)))
        }
        PoolAction::Remove { delete } => Ok(Desired::NoSecondary {
            pool: network.pools().secondary().map(|secondary| secondary.pool),
            delete,
        }),
        PoolAction::Modify { rank } => {
            let edit = Box::new(pools.of_subcloud(index, subcloud)?);
            let attached = match rank {
                Rank::Primary => Some(network.pools().primary()),
                Rank::Secondary => network.pools().secondary(),
            };
            match attached {
                Some(attached) => Ok(Desired::Fields {
                    pool: attached.pool,
                    edit,
                }),
                None => Err(vec![no_secondary(order, subcloud)]),
            }
        }
    }
}

fn no_network(order: &Order, subcloud: &Subcloud) -> Violation {
    let message = format!(
        "subcloud {} has no network {}",
        subcloud.name, order.network
    );
    let remedy = "leave the subcloud out, or add the network first";
    Violation::new(Reason::Site(site::Reason::NetworkNotFound), message, remedy)
        .object("subcloud", subcloud.name.clone())
        .object("network", order.network.name())
}

fn no_secondary(order: &Order, subcloud: &Subcloud) -> Violation {
    let message = format!(
        "network {} of {} has no secondary pool",
        order.network, subcloud.name
    );
    let remedy = "add one with a rollout of its own, or modify the primary pool";
    Violation::new(Reason::Site(site::Reason::PoolNotFound), message, remedy)
        .object("subcloud", subcloud.name.clone())
        .object("network", order.network.name())
}

fn not_enrolled(subcloud: &Subcloud) -> Violation {
    Violation::new(
        Reason::SubcloudNotEnrolled,
        format!(
            "subcloud {} has not enrolled, so nothing can be sent to it",
            subcloud.name
        ),
        "enroll its site, then make a rollout for it",
    )
    .object("subcloud", subcloud.name.clone())
}

/// An enrolled subcloud whose site is not in the store yet: its enrollment is being written.
fn not_reported(subcloud: &Subcloud) -> Violation {
    Violation::new(
        Reason::SubcloudNotEnrolled,
        format!("the site of subcloud {} is not known yet", subcloud.name),
        "ask again in a few seconds",
    )
    .object("subcloud", subcloud.name.clone())
}
