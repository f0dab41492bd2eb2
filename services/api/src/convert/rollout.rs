//! Rollouts: requests, answers, records, and the commands that they send.

use fleet::{
    Desired, Fault, Foreseen, Member, MemberState, PoolAction, Rollout, RolloutId, RolloutRequest,
    RolloutState, Selector, SiteMethod, Standing, Step, SubcloudId, Tally,
};
use prost::Message as _;
use site::{
    AttachmentRef, Change, Family, NetworkKind, PoolEdit, PoolId, PoolInput, RangeInput, Rank,
    Stack, Timestamp,
};

use super::{Malformed, bytes32, effect_to_wire, fault_from_wire, fault_to_wire, parse_uuid};
use crate::store_v1 as record;
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
    let action = action_from_wire(action, delete_pools, rank).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let wire::RolloutSelector {
        all,
        subclouds,
        family,
        stack,
    } = selector.unwrap_or_default();
    let family = match site_v1::Family::try_from(family) {
        Ok(site_v1::Family::Unspecified) => None,
        Ok(site_v1::Family::Ipv4) => Some(Family::Ipv4),
        Ok(site_v1::Family::Ipv6) => Some(Family::Ipv6),
        Err(_) => {
            faults.push(Malformed::new("selector.family", "is unknown"));
            None
        }
    };
    let stack = match site_v1::Stack::try_from(stack) {
        Ok(site_v1::Stack::Unspecified) => None,
        Ok(site_v1::Stack::Single) => Some(Stack::Single),
        Ok(site_v1::Stack::Dual) => Some(Stack::Dual),
        Err(_) => {
            faults.push(Malformed::new("selector.stack", "is unknown"));
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
            family,
            stack,
        },
        template,
        table,
        max_parallel,
        max_failures,
    })
}

fn action_from_wire(action: i32, delete: bool, rank: i32) -> Result<Option<PoolAction>, Malformed> {
    let rank = match site_v1::Rank::try_from(rank) {
        Ok(site_v1::Rank::Unspecified | site_v1::Rank::Secondary) => Rank::Secondary,
        Ok(site_v1::Rank::Primary) => Rank::Primary,
        Err(_) => return Err(Malformed::new("rank", "is unknown")),
    };
    match wire::RolloutAction::try_from(action) {
        Ok(wire::RolloutAction::Unspecified) => Ok(None),
        Ok(wire::RolloutAction::Add) => Ok(Some(PoolAction::Add)),
        Ok(wire::RolloutAction::Remove) => Ok(Some(PoolAction::Remove { delete })),
        Ok(wire::RolloutAction::Modify) => Ok(Some(PoolAction::Modify { rank })),
        Err(_) => Err(Malformed::new("action", "is unknown")),
    }
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

/// The record of a rollout.
pub fn rollout_to_record(rollout: &Rollout) -> record::RolloutRecord {
    record::RolloutRecord {
        rollout: Some(rollout_to_wire(rollout)),
        forgiven: rollout.forgiven,
        request_id: rollout.request_id.clone(),
        fingerprint: rollout.fingerprint.to_vec(),
    }
}

/// Reads the record of a rollout.
///
/// # Errors
/// The first field that cannot be read.
pub fn rollout_from_record(message: record::RolloutRecord) -> Result<Rollout, Malformed> {
    let record::RolloutRecord {
        rollout,
        forgiven,
        request_id,
        fingerprint,
    } = message;
    let wire::Rollout {
        number,
        network,
        action,
        delete_pools,
        rank,
        selection,
        max_parallel,
        max_failures,
        state,
        paused_because,
        tally,
        actor,
        created_at_milliseconds,
        updated_at_milliseconds,
        revision,
    } = rollout.ok_or_else(|| Malformed::new("rollout", "is missing"))?;
    let unknown = |field: &str| Malformed::new(field, "is unknown");
    let wire::RolloutTally {
        pending,
        in_flight,
        done,
        refused,
        failed,
        skipped,
    } = tally.unwrap_or_default();
    Ok(Rollout {
        id: RolloutId(number),
        network: NetworkKind::from_name(&network).ok_or_else(|| unknown("network"))?,
        action: action_from_wire(action, delete_pools, rank)?.ok_or_else(|| unknown("action"))?,
        selection,
        max_parallel,
        max_failures: (max_failures > 0).then_some(max_failures),
        state: match wire::RolloutState::try_from(state) {
            Ok(wire::RolloutState::Running) => RolloutState::Running,
            Ok(wire::RolloutState::Paused) => RolloutState::Paused,
            Ok(wire::RolloutState::Aborted) => RolloutState::Aborted,
            Ok(wire::RolloutState::Finished) => RolloutState::Finished,
            Ok(wire::RolloutState::Unspecified) | Err(_) => return Err(unknown("state")),
        },
        paused_because: paused_because.as_ref().map(fault_from_wire),
        forgiven,
        tally: Tally {
            pending,
            in_flight,
            done,
            refused,
            failed,
            skipped,
        },
        actor,
        request_id,
        fingerprint: bytes32("fingerprint", &fingerprint)?,
        created_at: Timestamp(created_at_milliseconds),
        updated_at: Timestamp(updated_at_milliseconds),
        revision,
    })
}

/// The record of a member.
pub fn member_to_record(member: &Member) -> record::RolloutMemberRecord {
    use record::rollout_member_record::Desired as Kept;
    let desired = member.desired.as_ref().map(|desired| match desired {
        Desired::Secondary(pool) => Kept::Secondary(fields_to_record(&input_as_edit(pool))),
        Desired::NoSecondary { pool, delete } => Kept::NoSecondary(record::PoolRemoval {
            pool: pool.map(|pool| pool.0.to_string()).unwrap_or_default(),
            delete: *delete,
        }),
        Desired::Fields { pool, edit } => Kept::Modified(record::PoolModification {
            pool: pool.0.to_string(),
            fields: Some(fields_to_record(edit)),
        }),
    });
    record::RolloutMemberRecord {
        member: Some(member_to_wire(member, None)),
        desired,
    }
}

/// Reads the record of a member.
///
/// # Errors
/// The first field that cannot be read.
pub fn member_from_record(message: record::RolloutMemberRecord) -> Result<Member, Malformed> {
    use record::rollout_member_record::Desired as Kept;
    let record::RolloutMemberRecord { member, desired } = message;
    let wire::RolloutMember {
        uuid,
        subcloud,
        index,
        state,
        step,
        changed,
        violations,
        waits_for: _,
        subnet: _,
        updated_at_milliseconds,
        steps: _,
        effects: _,
        warnings: _,
    } = member.ok_or_else(|| Malformed::new("member", "is missing"))?;
    let id = |field: &str, text: &str| {
        parse_uuid(text).map_err(|problem| Malformed::new(field, problem))
    };
    let desired = match desired {
        None => None,
        Some(Kept::Secondary(fields)) => Some(Desired::Secondary(Box::new(edit_as_input(
            fields_from_record(fields),
        )))),
        Some(Kept::NoSecondary(record::PoolRemoval { pool, delete })) => {
            let pool = match pool.as_str() {
                "" => None,
                text => Some(PoolId(id("no_secondary.pool", text)?)),
            };
            Some(Desired::NoSecondary { pool, delete })
        }
        Some(Kept::Modified(record::PoolModification { pool, fields })) => Some(Desired::Fields {
            pool: PoolId(id("modified.pool", &pool)?),
            edit: Box::new(fields_from_record(fields.unwrap_or_default())),
        }),
    };
    Ok(Member {
        subcloud: SubcloudId(id("member.uuid", &uuid)?),
        name: subcloud,
        index,
        desired,
        state: member_state_from_wire(state, &step)?,
        changed,
        faults: violations.iter().map(fault_from_wire).collect(),
        updated_at: Timestamp(updated_at_milliseconds),
    })
}

fn member_state_from_wire(state: i32, step: &str) -> Result<MemberState, Malformed> {
    match wire::RolloutMemberState::try_from(state) {
        Ok(wire::RolloutMemberState::Pending) => Ok(MemberState::Pending),
        Ok(wire::RolloutMemberState::InFlight) => {
            let known = Step::ALL.into_iter().find(|known| known.name() == step);
            let known = known.ok_or_else(|| Malformed::new("member.step", "is unknown"))?;
            Ok(MemberState::InFlight(known))
        }
        Ok(wire::RolloutMemberState::Done) => Ok(MemberState::Done),
        Ok(wire::RolloutMemberState::Refused) => Ok(MemberState::Refused),
        Ok(wire::RolloutMemberState::Failed) => Ok(MemberState::Failed),
        Ok(wire::RolloutMemberState::Skipped) => Ok(MemberState::Skipped),
        Ok(wire::RolloutMemberState::Unspecified) | Err(_) => {
            Err(Malformed::new("member.state", "is unknown"))
        }
    }
}

fn fields_to_record(edit: &PoolEdit) -> record::PoolFields {
    let PoolEdit {
        name,
        network,
        prefix,
        order,
        ranges,
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
    } = edit.clone();
    record::PoolFields {
        name,
        network,
        prefix,
        order,
        ranges: ranges.map(|ranges| record::PoolRanges {
            ranges: ranges.into_iter().map(range_to_wire).collect(),
        }),
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
    }
}

fn fields_from_record(fields: record::PoolFields) -> PoolEdit {
    let record::PoolFields {
        name,
        network,
        prefix,
        order,
        ranges,
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
    } = fields;
    let range = |site_v1::AddressRange { first, last }| RangeInput { first, last };
    PoolEdit {
        name,
        network,
        prefix,
        order,
        ranges: ranges.map(|known| known.ranges.into_iter().map(range).collect()),
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
    }
}

fn range_to_wire(range: RangeInput) -> site_v1::AddressRange {
    let RangeInput { first, last } = range;
    site_v1::AddressRange { first, last }
}

fn input_as_edit(pool: &PoolInput) -> PoolEdit {
    let PoolInput {
        name,
        network,
        prefix,
        order,
        ranges,
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
    } = pool.clone();
    PoolEdit {
        name: Some(name),
        network: Some(network),
        prefix: Some(prefix),
        order: Some(order),
        ranges: Some(ranges),
        floating_address: Some(floating_address),
        controller0_address: Some(controller0_address),
        controller1_address: Some(controller1_address),
        gateway_address: Some(gateway_address),
    }
}

fn edit_as_input(edit: PoolEdit) -> PoolInput {
    PoolInput {
        name: edit.name.unwrap_or_default(),
        network: edit.network.unwrap_or_default(),
        prefix: edit.prefix.unwrap_or_default(),
        order: edit.order.unwrap_or_default(),
        ranges: edit.ranges.unwrap_or_default(),
        floating_address: edit.floating_address.unwrap_or_default(),
        controller0_address: edit.controller0_address.unwrap_or_default(),
        controller1_address: edit.controller1_address.unwrap_or_default(),
        gateway_address: edit.gateway_address.unwrap_or_default(),
    }
}

/// The command that asks a site for a change; `None` for changes that no rollout makes.
pub fn command_of(change: Change, request_id: String) -> Option<(SiteMethod, Vec<u8>)> {
    match change {
        Change::AddPool { id: _, pool } => {
            let request = site_v1::CreateAddressPoolRequest {
                address_pool: Some(pool_to_wire(input_as_edit(&pool))),
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::CreateAddressPool, request.encode_to_vec()))
        }
        Change::AssignPool {
            id: _,
            network,
            pool,
        } => {
            let request = site_v1::AssignAddressPoolRequest {
                network,
                address_pool: pool,
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::AssignAddressPool, request.encode_to_vec()))
        }
        Change::RemovePool {
            attachment: AttachmentRef::Ends { network, pool },
        } => {
            let request = site_v1::RemoveAddressPoolRequest {
                uuid: String::new(),
                network,
                address_pool: pool,
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::RemoveAddressPool, request.encode_to_vec()))
        }
        Change::DeletePool { pool } => {
            let request = site_v1::DeleteAddressPoolRequest {
                address_pool: pool,
                etag: String::new(),
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::DeleteAddressPool, request.encode_to_vec()))
        }
        Change::ModifyPool { pool, edit } => {
            let request = site_v1::UpdateAddressPoolRequest {
                target: pool,
                update_mask: Some(prost_types::FieldMask {
                    paths: named(&edit),
                }),
                address_pool: Some(pool_to_wire(edit)),
                etag: String::new(),
                validate_only: false,
                request_id,
            };
            Some((SiteMethod::UpdateAddressPool, request.encode_to_vec()))
        }
        _ => None,
    }
}

fn named(edit: &PoolEdit) -> Vec<String> {
    let fields = [
        ("name", edit.name.is_some()),
        ("network", edit.network.is_some()),
        ("prefix", edit.prefix.is_some()),
        ("order", edit.order.is_some()),
        ("ranges", edit.ranges.is_some()),
        ("floating_address", edit.floating_address.is_some()),
        ("controller0_address", edit.controller0_address.is_some()),
        ("controller1_address", edit.controller1_address.is_some()),
        ("gateway_address", edit.gateway_address.is_some()),
    ];
    let set = fields.into_iter().filter(|(_, set)| *set);
    set.map(|(name, _)| name.to_owned()).collect()
}

/// The order was judged by the site's rules before: it is one that they know.
fn pool_to_wire(edit: PoolEdit) -> site_v1::AddressPool {
    let pool = edit_as_input(edit);
    site_v1::AddressPool {
        name: pool.name,
        network: pool.network,
        prefix: pool.prefix,
        order: match pool.order.as_str() {
            "random" => site_v1::Order::Random,
            "sequential" => site_v1::Order::Sequential,
            _ => site_v1::Order::Unspecified,
        } as i32,
        ranges: pool.ranges.into_iter().map(range_to_wire).collect(),
        floating_address: pool.floating_address,
        controller0_address: pool.controller0_address,
        controller1_address: pool.controller1_address,
        gateway_address: pool.gateway_address,
        ..site_v1::AddressPool::default()
    }
}

/// What came of a command, as the machine of rollouts sees it: a refusal by a rule, a failure,
/// or nothing that is known, so that it is asked again.
pub fn answered(outcome: fleet::CommandOutcome) -> fleet::Answered {
    use fleet::{Answered, CommandOutcome};
    match outcome {
        CommandOutcome::Done(_) => Answered::Done,
        // One of the ends did not take it, or does not know: it is asked again when it can be.
        CommandOutcome::Refused(rejection)
            if rejection.first().reason == fleet::Reason::CommandTooLarge =>
        {
            Answered::Failed(Fault::all_of(&rejection))
        }
        CommandOutcome::Refused(_) => Answered::Unreachable,
        CommandOutcome::Failed(failure) => {
            let transient = [
                fleet::Reason::TooManyCommands,
                fleet::Reason::CommandDeadline,
                fleet::Reason::CommandOutcomeUnknown,
                fleet::Reason::ControllerBusy,
            ];
            let passes = |fault: &Fault| {
                transient
                    .iter()
                    .any(|known| site::ReasonSet::name(*known) == fault.reason)
            };
            let faults = match failure.faults.is_empty() {
                false => failure.faults,
                true => vec![Fault {
                    message: failure.message,
                    ..Fault::default()
                }],
            };
            match tonic::Code::from_i32(failure.code) {
                _ if faults.iter().any(passes) => Answered::Unreachable,
                tonic::Code::Unavailable
                | tonic::Code::DeadlineExceeded
                | tonic::Code::Cancelled
                | tonic::Code::Aborted => Answered::Unreachable,
                code if crate::status::class(code).is_some() => Answered::Refused(faults),
                _ => Answered::Failed(faults),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn member(desired: Option<Desired>, state: MemberState) -> Member {
        Member {
            subcloud: SubcloudId(Uuid::from_u128(7)),
            name: "west".to_owned(),
            index: 3,
            desired,
            state,
            changed: true,
            faults: vec![Fault {
                reason: "NAME_TAKEN".to_owned(),
                ..Fault::default()
            }],
            updated_at: Timestamp(5),
        }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let pool = PoolId(Uuid::from_u128(9));
        let edit = PoolEdit {
            name: Some("p".to_owned()),
            prefix: Some(64),
            ranges: Some(vec![RangeInput {
                first: "fd01::2".to_owned(),
                last: "fd01::9".to_owned(),
            }]),
            gateway_address: Some(String::new()),
            ..PoolEdit::default()
        };
        let all = [
            None,
            Some(Desired::Secondary(Box::new(edit_as_input(edit.clone())))),
            Some(Desired::NoSecondary {
                pool: None,
                delete: true,
            }),
            Some(Desired::NoSecondary {
                pool: Some(pool),
                delete: false,
            }),
            Some(Desired::Fields {
                pool,
                edit: Box::new(edit),
            }),
        ];
        let states = Step::ALL.map(MemberState::InFlight).into_iter().chain([
            MemberState::Pending,
            MemberState::Done,
            MemberState::Refused,
            MemberState::Failed,
            MemberState::Skipped,
        ]);
        for state in states {
            for desired in &all {
                let kept = member(desired.clone(), state);
                assert_eq!(member_from_record(member_to_record(&kept)), Ok(kept));
            }
        }
        for state in RolloutState::ALL {
            let kept = Rollout {
                id: RolloutId(4),
                network: NetworkKind::Admin,
                action: PoolAction::Modify {
                    rank: Rank::Primary,
                },
                selection: "all".to_owned(),
                max_parallel: 10,
                max_failures: Some(2),
                state,
                paused_because: Some(Fault::default()),
                forgiven: 1,
                tally: Tally {
                    pending: 1,
                    in_flight: 2,
                    done: 3,
                    refused: 4,
                    failed: 5,
                    skipped: 6,
                },
                actor: "uid=0".to_owned(),
                request_id: "r".to_owned(),
                fingerprint: [3; 32],
                created_at: Timestamp(1),
                updated_at: Timestamp(2),
                revision: 12,
            };
            assert_eq!(rollout_from_record(rollout_to_record(&kept)), Ok(kept));
        }
    }

    #[test]
    fn a_command_asks_for_the_change_that_it_is_made_of() {
        let edit = PoolEdit {
            name: Some("p".to_owned()),
            order: Some("sequential".to_owned()),
            gateway_address: Some(String::new()),
            ..PoolEdit::default()
        };
        let change = Change::ModifyPool {
            pool: "x".to_owned(),
            edit,
        };
        let (method, bytes) = command_of(change.clone(), "id".to_owned()).expect("a command");
        assert_eq!(method, SiteMethod::UpdateAddressPool);
        let request = site_v1::UpdateAddressPoolRequest::decode(bytes.as_slice()).expect("sound");
        assert_eq!(request.request_id, "id");
        assert_eq!(super::super::update_pool(request), Ok(change));

        let pool = PoolInput {
            name: "p".to_owned(),
            network: "fd01::".to_owned(),
            prefix: 64,
            order: "random".to_owned(),
            ..PoolInput::default()
        };
        let change = Change::AddPool {
            id: PoolId(Uuid::from_u128(1)),
            pool,
        };
        let (method, bytes) = command_of(change.clone(), "id".to_owned()).expect("a command");
        assert_eq!(method, SiteMethod::CreateAddressPool);
        let request = site_v1::CreateAddressPoolRequest::decode(bytes.as_slice()).expect("sound");
        assert_eq!(
            super::super::create_pool(request, Uuid::from_u128(1)),
            Ok(change)
        );
        let lock = Change::LockHost {
            hostname: "h".to_owned(),
        };
        assert_eq!(command_of(lock, "id".to_owned()), None);
    }

    #[test]
    fn only_what_a_rule_refused_counts_as_refused() {
        use fleet::{Answered, CommandFailure, CommandOutcome};
        let failed = |code: tonic::Code, reason: &str| {
            answered(CommandOutcome::Failed(CommandFailure {
                code: code as i32,
                faults: vec![Fault {
                    reason: reason.to_owned(),
                    ..Fault::default()
                }],
                ..CommandFailure::default()
            }))
        };
        let refused = failed(tonic::Code::FailedPrecondition, "ADDRESS_OVERLAP");
        assert!(matches!(refused, Answered::Refused(_)), "{refused:?}");
        let limit = failed(tonic::Code::ResourceExhausted, "TOO_MANY_POOLS");
        assert!(matches!(limit, Answered::Refused(_)), "{limit:?}");
        let busy = failed(tonic::Code::ResourceExhausted, "TOO_MANY_COMMANDS");
        assert_eq!(busy, Answered::Unreachable);
        assert_eq!(failed(tonic::Code::Unavailable, ""), Answered::Unreachable);
        let broken = failed(tonic::Code::Internal, "");
        assert!(matches!(broken, Answered::Failed(_)), "{broken:?}");
    }
}
