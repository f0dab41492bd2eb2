//! Rollouts on the wire: requests and answers.

use fleet::{
    Desired, Foreseen, GroupBound, Member, MemberState, PoolAction, Rollout, RolloutRequest,
    RolloutState, Selector, Standing, Tally,
};
use site::{Family, Rank, Stack};

use super::{Malformed, effect_to_wire, fault_to_wire, value_of};
use crate::page::asked;
use crate::{fleet_v1 as wire, site_v1};

/// A request to make a rollout, unread but for its numbers.
///
/// # Errors
/// Every enumeration of a later version.
pub fn rollout_request(
    request: wire::CreateRolloutRequest,
) -> Result<RolloutRequest, Vec<Malformed>> {
    let wire::CreateRolloutRequest {
        network,
        action,
        delete_pools,
        rank,
        selector,
        template,
        table,
        max_parallel,
        max_failures,
        validate_only: _,
        request_id: _,
        page_size: _,
        page_token: _,
    } = request;
    let mut faults = Vec::new();
    let action = pool_action_from_wire(action, delete_pools, rank).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let wire::RolloutSelector {
        all,
        subclouds,
        family,
        stack,
        group,
    } = selector.unwrap_or_default();
    let family = match value_of("selector.family", family, site_v1::Family::as_str_name) {
        Ok(site_v1::Family::Unspecified) => None,
        Ok(site_v1::Family::Ipv4) => Some(Family::Ipv4),
        Ok(site_v1::Family::Ipv6) => Some(Family::Ipv6),
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    let stack = match value_of("selector.stack", stack, site_v1::Stack::as_str_name) {
        Ok(site_v1::Stack::Unspecified) => None,
        Ok(site_v1::Stack::Single) => Some(Stack::Single),
        Ok(site_v1::Stack::Dual) => Some(Stack::Dual),
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(RolloutRequest {
        network,
        action,
        selector: Selector {
            all,
            names: subclouds,
            group: (!group.is_empty()).then_some(group),
            family,
            stack,
        },
        template,
        table,
        max_parallel,
        max_failures,
    })
}

/// Of a list of the subclouds of a rollout: the state that it is narrowed to, 0 for none.
///
/// # Errors
/// All of: a page that cannot be asked for, a state that is unknown.
pub fn members_wanted(request: &wire::ListRolloutMembersRequest) -> Result<i32, Vec<Malformed>> {
    let wire::ListRolloutMembersRequest {
        number: _,
        page_size,
        page_token,
        state,
    } = request;
    let mut faults = asked(*page_size, page_token).err().unwrap_or_default();
    let wanted = value_of("state", *state, wire::RolloutMemberState::as_str_name);
    faults.extend(wanted.err());
    if faults.is_empty() {
        Ok(*state)
    } else {
        Err(faults)
    }
}

pub(super) fn pool_action_from_wire(
    action: i32,
    delete: bool,
    rank: i32,
) -> Result<Option<PoolAction>, Malformed> {
    let rank = match value_of("rank", rank, site_v1::Rank::as_str_name)? {
        site_v1::Rank::Unspecified | site_v1::Rank::Secondary => Rank::Secondary,
        site_v1::Rank::Primary => Rank::Primary,
    };
    let action = value_of("action", action, wire::RolloutAction::as_str_name)?;
    Ok(match action {
        wire::RolloutAction::Unspecified => None,
        wire::RolloutAction::Add => Some(PoolAction::Add),
        wire::RolloutAction::Remove => Some(PoolAction::Remove { delete }),
        wire::RolloutAction::Modify => Some(PoolAction::Modify { rank }),
    })
}

/// A rollout as operators see it.
pub fn rollout_to_wire(rollout: &Rollout) -> wire::Rollout {
    let Rollout {
        id,
        network,
        action,
        selection,
        max_parallel,
        max_failures,
        state,
        paused_because,
        forgiven: _,
        tally,
        actor,
        request_id: _,
        fingerprint: _,
        created_at,
        updated_at,
        revision,
    } = rollout;
    let (action, delete_pools, rank) = match action {
        PoolAction::Add => (wire::RolloutAction::Add, false, site_v1::Rank::Unspecified),
        PoolAction::Remove { delete } => (
            wire::RolloutAction::Remove,
            *delete,
            site_v1::Rank::Unspecified,
        ),
        PoolAction::Modify { rank } => {
            let rank = match rank {
                Rank::Primary => site_v1::Rank::Primary,
                Rank::Secondary => site_v1::Rank::Secondary,
            };
            (wire::RolloutAction::Modify, false, rank)
        }
    };
    wire::Rollout {
        number: id.0,
        network: network.name().to_owned(),
        action: action as i32,
        delete_pools,
        rank: rank as i32,
        selection: selection.clone(),
        max_parallel: *max_parallel,
        max_failures: max_failures.unwrap_or_default(),
        state: match state {
            RolloutState::Running => wire::RolloutState::Running,
            RolloutState::Paused => wire::RolloutState::Paused,
            RolloutState::Aborted => wire::RolloutState::Aborted,
            RolloutState::Finished => wire::RolloutState::Finished,
        } as i32,
        paused_because: paused_because.as_ref().map(fault_to_wire),
        tally: Some(tally_to_wire(tally)),
        actor: actor.clone(),
        created_at_milliseconds: created_at.0,
        updated_at_milliseconds: updated_at.0,
        revision: *revision,
    }
}

fn tally_to_wire(tally: &Tally) -> wire::RolloutTally {
    let Tally {
        pending,
        in_flight,
        done,
        refused,
        failed,
        skipped,
    } = *tally;
    wire::RolloutTally {
        pending,
        in_flight,
        done,
        refused,
        failed,
        skipped,
    }
}

/// A member as operators see it; `standing` tells what an open one waits for.
pub fn member_to_wire(member: &Member, standing: Option<Standing>) -> wire::RolloutMember {
    let Member {
        subcloud,
        name,
        index,
        desired,
        state,
        changed,
        faults,
        updated_at,
    } = member;
    let waits = standing.filter(|standing| !state.is_final() && *standing != Standing::Ready);
    wire::RolloutMember {
        uuid: subcloud.to_string(),
        subcloud: name.clone(),
        index: *index,
        state: member_state_to_wire(*state) as i32,
        step: match state {
            MemberState::InFlight(step) => step.name().to_owned(),
            _ => String::new(),
        },
        changed: *changed,
        violations: faults.iter().map(fault_to_wire).collect(),
        waits_for: waits.map(Standing::name).unwrap_or_default().to_owned(),
        subnet: desired.as_ref().and_then(subnet).unwrap_or_default(),
        updated_at_milliseconds: updated_at.0,
        steps: Vec::new(),
        effects: Vec::new(),
        warnings: Vec::new(),
    }
}

fn member_state_to_wire(state: MemberState) -> wire::RolloutMemberState {
    match state {
        MemberState::Pending => wire::RolloutMemberState::Pending,
        MemberState::InFlight(_) => wire::RolloutMemberState::InFlight,
        MemberState::Done => wire::RolloutMemberState::Done,
        MemberState::Refused => wire::RolloutMemberState::Refused,
        MemberState::Failed => wire::RolloutMemberState::Failed,
        MemberState::Skipped => wire::RolloutMemberState::Skipped,
    }
}

fn subnet(desired: &Desired) -> Option<String> {
    match desired {
        Desired::Secondary(pool) => Some(format!("{}/{}", pool.network, pool.prefix)),
        Desired::NoSecondary { .. } => None,
        Desired::Fields { edit, .. } => {
            let (network, prefix) = (edit.network.as_ref()?, edit.prefix?);
            Some(format!("{network}/{prefix}"))
        }
    }
}

/// A group that slows a rollout down as operators see it.
pub fn group_bound_to_wire(bound: &GroupBound) -> wire::RolloutGroupBound {
    let GroupBound { group, members } = bound;
    wire::RolloutGroupBound {
        subcloud_group: group.name.clone(),
        at_once: group.at_once(),
        subclouds: *members,
    }
}

/// A member of a preview as operators see it.
pub fn foreseen_to_wire(foreseen: &Foreseen, standing: Option<Standing>) -> wire::RolloutMember {
    let Foreseen {
        member,
        steps,
        effects,
        warnings,
    } = foreseen;
    wire::RolloutMember {
        steps: steps.iter().map(|step| step.name().to_owned()).collect(),
        effects: effects.iter().map(effect_to_wire).collect(),
        warnings: warnings.iter().map(fault_to_wire).collect(),
        ..member_to_wire(member, standing)
    }
}
