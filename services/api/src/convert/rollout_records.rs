//! The records of rollouts to the domain and back.

use fleet::{
    Desired, Member, MemberState, Rollout, RolloutId, RolloutState, Step, SubcloudId, Tally,
};
use site::{NetworkKind, PoolEdit, PoolId, PoolInput, RangeInput, Timestamp};

use super::rollout::{member_to_wire, pool_action_from_wire, rollout_to_wire};
use super::{Malformed, bytes32, fault_from_wire, parse_uuid};
use crate::store_v1 as record;
use crate::{fleet_v1 as wire, site_v1};

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
        action: pool_action_from_wire(action, delete_pools, rank)?
            .ok_or_else(|| unknown("action"))?,
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
            ranges: ranges.into_iter().map(range_input_to_wire).collect(),
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

pub(super) fn range_input_to_wire(range: RangeInput) -> site_v1::AddressRange {
    let RangeInput { first, last } = range;
    site_v1::AddressRange { first, last }
}

pub(super) fn input_as_edit(pool: &PoolInput) -> PoolEdit {
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

pub(super) fn edit_as_input(edit: PoolEdit) -> PoolInput {
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

#[cfg(test)]
mod tests {
    use fleet::{Fault, PoolAction};
    use site::Rank;
    use uuid::Uuid;

    use super::*;

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
}
