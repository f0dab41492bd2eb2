//! System peers, peer groups and associations, as operators see and change them.

use std::net::IpAddr;
use std::time::Duration;

use fleet::{
    Administrative, Association, AssociationState, AssociationView, Availability, Conflict,
    ControllerId, Established, FailurePolicy, GroupView, MAX_SUBCLOUD_REHOMING, Migration,
    PEER_FAILURE_THRESHOLD, PEER_HEARTBEAT, PeerAction, PeerAvailability, PeerCard, PeerEdit,
    PeerGroup, PeerGroupId, PeerSettings, PeerView, Peering, Subcloud, SystemPeer,
};

use super::fleet_change::{each_named, unsaid_value};
use super::{
    Malformed, availability_to_wire, family_to_wire, fault_to_wire, given_by_server, missing,
    parse_address, value_of,
};
use crate::fleet_v1 as wire;

/// How many members of a migration that have not come are named.
const MAX_REMAINING: usize = 100;

/// A peer as operators see it.
pub fn system_peer_to_wire(view: &PeerView<'_>) -> wire::SystemPeer {
    let PeerView {
        peer,
        availability,
        last_seen,
        synchronising,
    } = view;
    let SystemPeer {
        id,
        name,
        settings,
        peering,
        created_at,
        updated_at,
    } = peer;
    let PeerSettings {
        administrative,
        heartbeat_interval,
        failure_threshold,
        failure_policy,
    } = settings;
    let shown = wire::SystemPeer {
        uuid: id.to_string(),
        name: name.clone(),
        administrative_state: administrative_to_wire(*administrative).into(),
        heartbeat_interval_seconds: u32::try_from(heartbeat_interval.as_secs()).unwrap_or(u32::MAX),
        failure_threshold: *failure_threshold,
        failure_policy: policy_to_wire(*failure_policy).into(),
        availability: peer_availability_to_wire(*availability).into(),
        synchronising: *synchronising,
        last_seen_milliseconds: last_seen.map_or(0, |at| at.0),
        created_at_milliseconds: created_at.0,
        updated_at_milliseconds: updated_at.0,
        etag: peer.etag(),
        ..wire::SystemPeer::default()
    };
    match peering {
        Peering::Pending(token) => wire::SystemPeer {
            peering_state: wire::PeeringState::Pending.into(),
            token_expires_at_milliseconds: token.expires_at.0,
            ..shown
        },
        Peering::Established(known) => established_to_wire(shown, known),
    }
}

fn established_to_wire(shown: wire::SystemPeer, known: &Established) -> wire::SystemPeer {
    let Established {
        card,
        spent: _,
        since,
        suspended,
    } = known;
    let PeerCard {
        controller,
        name,
        software_version,
        endpoints,
        networks: _,
        authority,
    } = card;
    let state = if suspended.is_empty() {
        wire::PeeringState::Established
    } else {
        wire::PeeringState::Suspended
    };
    wire::SystemPeer {
        peering_state: state.into(),
        controller_uuid: controller.to_string(),
        site_name: name.clone(),
        software_version: software_version.to_string(),
        primary_family: card
            .link_family()
            .map_or(0, |family| family_to_wire(family).into()),
        endpoints: endpoints.iter().map(ToString::to_string).collect(),
        authority_sha256: authority.key.to_string(),
        suspended: suspended.iter().map(fault_to_wire).collect(),
        established_at_milliseconds: since.0,
        ..shown
    }
}

/// A peer as a preview shows it: nothing that the real call would draw anew.
pub fn previewed_peer(peer: wire::SystemPeer) -> wire::SystemPeer {
    wire::SystemPeer {
        uuid: String::new(),
        token_expires_at_milliseconds: 0,
        ..peer
    }
}

/// A new peer: its name and settings; what is not said has its default.
///
/// # Errors
/// An absent peer, or all of: a uuid, and values that are unknown.
pub fn new_peer(peer: Option<wire::SystemPeer>) -> Result<(String, PeerSettings), Vec<Malformed>> {
    let peer = peer.ok_or_else(|| missing("system_peer"))?;
    let mut faults = Vec::new();
    if !peer.uuid.is_empty() {
        faults.push(given_by_server("system_peer.uuid"));
    }
    let (administrative, policy) = said_of_peer(&peer, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let settings = PeerSettings {
        administrative: administrative.unwrap_or(Administrative::Enabled),
        heartbeat_interval: Some(peer.heartbeat_interval_seconds)
            .filter(|seconds| *seconds != 0)
            .map_or(PEER_HEARTBEAT, seconds),
        failure_threshold: Some(peer.failure_threshold)
            .filter(|threshold| *threshold != 0)
            .unwrap_or(PEER_FAILURE_THRESHOLD),
        failure_policy: policy.unwrap_or(FailurePolicy::Alarm),
    };
    Ok((peer.name, settings))
}

/// The two enumerations of a peer, as far as they are said; what is unknown is a fault.
fn said_of_peer(
    peer: &wire::SystemPeer,
    faults: &mut Vec<Malformed>,
) -> (Option<Administrative>, Option<FailurePolicy>) {
    let administrative = administrative_from_wire(peer.administrative_state);
    let policy = policy_from_wire(peer.failure_policy);
    (
        administrative.unwrap_or_else(|fault| {
            faults.push(fault);
            None
        }),
        policy.unwrap_or_else(|fault| {
            faults.push(fault);
            None
        }),
    )
}

/// `UpdateSystemPeer`: the fields that the mask names, or without a mask those that are set.
///
/// # Errors
/// An absent peer, every path of the mask that cannot be changed, and values that are unknown.
pub fn update_peer(request: wire::UpdateSystemPeerRequest) -> Result<PeerAction, Vec<Malformed>> {
    let wire::UpdateSystemPeerRequest {
        target,
        system_peer,
        update_mask,
        etag: _,
        validate_only: _,
        request_id: _,
    } = request;
    let values = system_peer.ok_or_else(|| missing("system_peer"))?;
    let mut faults = Vec::new();
    let (administrative, policy) = said_of_peer(&values, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let given = [
        ("administrative_state", administrative.is_some()),
        (
            "heartbeat_interval_seconds",
            values.heartbeat_interval_seconds != 0,
        ),
        ("failure_threshold", values.failure_threshold != 0),
        ("failure_policy", policy.is_some()),
    ];
    let mut edit = PeerEdit::default();
    let mut unsaid = Vec::new();
    let fields = given.map(|(field, _)| field).join(", ");
    each_named(update_mask, filled(&given), &fields, |path| {
        match path {
            "administrative_state" => edit.administrative = administrative,
            "heartbeat_interval_seconds" => {
                edit.heartbeat_interval = Some(seconds(values.heartbeat_interval_seconds));
            }
            "failure_threshold" => edit.failure_threshold = Some(values.failure_threshold),
            "failure_policy" => edit.failure_policy = policy,
            _ => return false,
        }
        let enumeration = matches!(path, "administrative_state" | "failure_policy");
        if enumeration && given.contains(&(path, false)) {
            unsaid.push(unsaid_value(format!("system_peer.{path}")));
        }
        true
    })?;
    if !unsaid.is_empty() {
        return Err(unsaid);
    }
    Ok(PeerAction::UpdatePeer { peer: target, edit })
}

/// `AddSubcloudPeerGroup`.
///
/// # Errors
/// An absent group and a uuid.
pub fn add_peer_group(
    request: wire::AddSubcloudPeerGroupRequest,
    id: PeerGroupId,
) -> Result<PeerAction, Vec<Malformed>> {
    let wire::AddSubcloudPeerGroupRequest {
        subcloud_peer_group,
        validate_only: _,
        request_id: _,
    } = request;
    let group = subcloud_peer_group.ok_or_else(|| missing("subcloud_peer_group"))?;
    if !group.uuid.is_empty() {
        return Err(vec![given_by_server("subcloud_peer_group.uuid")]);
    }
    Ok(PeerAction::AddGroup {
        id,
        name: group.name,
        priority: group.priority,
        max_subcloud_rehoming: Some(group.max_subcloud_rehoming)
            .filter(|number| *number != 0)
            .unwrap_or(MAX_SUBCLOUD_REHOMING),
    })
}

/// `UpdateSubcloudPeerGroup`: the fields that the mask names, or without a mask those that are
/// not 0.
///
/// # Errors
/// An absent group, and every path of the mask that cannot be changed.
pub fn update_peer_group(
    request: wire::UpdateSubcloudPeerGroupRequest,
) -> Result<PeerAction, Vec<Malformed>> {
    let wire::UpdateSubcloudPeerGroupRequest {
        target,
        subcloud_peer_group,
        update_mask,
        etag: _,
        validate_only: _,
        request_id: _,
    } = request;
    let values = subcloud_peer_group.ok_or_else(|| missing("subcloud_peer_group"))?;
    let given = [
        ("priority", values.priority != 0),
        ("max_subcloud_rehoming", values.max_subcloud_rehoming != 0),
    ];
    let (mut priority, mut max_subcloud_rehoming) = (None, None);
    let fields = given.map(|(field, _)| field).join(", ");
    each_named(update_mask, filled(&given), &fields, |path| {
        match path {
            "priority" => priority = Some(values.priority),
            "max_subcloud_rehoming" => max_subcloud_rehoming = Some(values.max_subcloud_rehoming),
            _ => return false,
        }
        true
    })?;
    Ok(PeerAction::UpdateGroup {
        group: target,
        priority,
        max_subcloud_rehoming,
    })
}

/// `UpdateSubcloudPeerGroupMembers`.
pub fn update_members(request: wire::UpdateSubcloudPeerGroupMembersRequest) -> PeerAction {
    let wire::UpdateSubcloudPeerGroupMembersRequest {
        subcloud_peer_group,
        add,
        remove,
        validate_only: _,
        request_id: _,
    } = request;
    PeerAction::SetMembers {
        group: subcloud_peer_group,
        add,
        remove,
    }
}

/// `SetSubcloudGateways`.
///
/// # Errors
/// Every text that is no address.
pub fn set_gateways(
    request: wire::SetSubcloudGatewaysRequest,
) -> Result<PeerAction, Vec<Malformed>> {
    let wire::SetSubcloudGatewaysRequest {
        subcloud,
        gateway_addresses,
        validate_only: _,
        request_id: _,
    } = request;
    let mut faults = Vec::new();
    let mut gateways: Vec<IpAddr> = Vec::new();
    for (index, text) in gateway_addresses.iter().enumerate() {
        match parse_address(text) {
            Ok(address) => gateways.push(address),
            Err(problem) => {
                let path = format!("gateway_addresses[{index}]");
                let valid = "give an IPv4 or IPv6 address, such as 192.168.204.1 or fd01::1";
                faults.push(Malformed::new(path, problem).remedy(valid));
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(PeerAction::SetGateways { subcloud, gateways })
}

/// A group as operators of the controller `own` see it.
pub fn peer_group_to_wire(view: &GroupView<'_>, own: ControllerId) -> wire::SubcloudPeerGroup {
    let GroupView {
        group,
        members,
        owned,
        remaining: _,
        on_their_way: _,
    } = view;
    let PeerGroup {
        id,
        header,
        leader,
        priority,
        migration,
        created_at,
        updated_at,
    } = group;
    let fleet::GroupHeader {
        name,
        max_subcloud_rehoming,
        places: _,
        revision: _,
        editor: _,
    } = header;
    let fleet::Leader {
        controller,
        name: leader_name,
        priority: leader_priority,
        term: _,
    } = leader;
    wire::SubcloudPeerGroup {
        uuid: id.to_string(),
        name: name.clone(),
        priority: *priority,
        max_subcloud_rehoming: *max_subcloud_rehoming,
        leader_uuid: controller.to_string(),
        leader_name: leader_name.clone(),
        leader_priority: *leader_priority,
        led_here: *controller == own,
        members: whole(*members),
        owned: whole(*owned),
        migration_state: migration_state(migration.as_ref()).into(),
        created_at_milliseconds: created_at.0,
        updated_at_milliseconds: updated_at.0,
        etag: group.etag(),
    }
}

/// How far the running or the last migration of a group has come; `names` are those of the
/// members that obey another site still.
pub fn migration_to_wire(view: &GroupView<'_>, names: Vec<String>) -> wire::Migration {
    let state = migration_state(view.group.migration.as_ref());
    let Some(migration) = &view.group.migration else {
        return wire::Migration {
            state: state.into(),
            ..wire::Migration::default()
        };
    };
    let Migration {
        started_at,
        targets,
        finished_at,
        missing,
    } = migration;
    let (waiting, on_their_way) = if migration.running() {
        (view.remaining.len(), view.on_their_way)
    } else {
        (missing.len(), 0)
    };
    let mut remaining = names;
    remaining.sort_unstable();
    remaining.truncate(MAX_REMAINING);
    wire::Migration {
        state: state.into(),
        started_at_milliseconds: started_at.0,
        finished_at_milliseconds: finished_at.map_or(0, |at| at.0),
        total: whole(targets.len()),
        arrived: whole(targets.len().saturating_sub(waiting + on_their_way)),
        on_their_way: whole(on_their_way),
        waiting: whole(waiting),
        remaining,
    }
}

/// A member of a group; `owner` is who it obeys, and the name of that site here.
pub fn peer_member_to_wire(
    subcloud: &Subcloud,
    availability: Availability,
    owner: (ControllerId, String),
) -> wire::SubcloudPeerGroupMember {
    wire::SubcloudPeerGroupMember {
        subcloud_uuid: subcloud.id.to_string(),
        name: subcloud.name.clone(),
        owner_uuid: owner.0.to_string(),
        owner: owner.1,
        owned_here: subcloud.owned_here(),
        epoch: subcloud.enrolled().map_or(0, |known| known.epoch.0),
        confirmed: subcloud.geo.confirmed,
        availability: member_availability(subcloud, availability).into(),
        conflict: subcloud.geo.conflict.as_deref().map(conflict_to_wire),
    }
}

/// Whether the link of a subcloud is up here; that of one which obeys another controller is not
/// to be expected.
pub(super) fn member_availability(
    subcloud: &Subcloud,
    availability: Availability,
) -> wire::Availability {
    if subcloud.owned_here() {
        availability_to_wire(availability)
    } else {
        wire::Availability::Secondary
    }
}

fn conflict_to_wire(conflict: &Conflict) -> wire::Conflict {
    let Conflict { owner, at, lost } = conflict;
    let lost = lost.iter().map(|(field, value)| wire::LostValue {
        field: field.clone(),
        value: value.clone(),
    });
    wire::Conflict {
        owner_uuid: owner.to_string(),
        at_milliseconds: at.0,
        lost: lost.collect(),
    }
}

/// An association as operators see it, with the names of the group and of the peer.
pub fn association_to_wire(
    view: &AssociationView<'_>,
    group_name: String,
    peer_name: String,
) -> wire::PeerGroupAssociation {
    let AssociationView {
        association,
        state,
        message,
    } = view;
    let Association {
        group,
        peer,
        peer_priority,
        told: _,
        generation: _,
        ended: _,
        withdrawn: _,
        faults,
        updated_at,
    } = association;
    let state = match state {
        AssociationState::InSync => wire::AssociationState::InSync,
        AssociationState::Syncing => wire::AssociationState::Syncing,
        AssociationState::OutOfSync => wire::AssociationState::OutOfSync,
        AssociationState::Failed => wire::AssociationState::Failed,
        AssociationState::Unknown => wire::AssociationState::Unknown,
    };
    wire::PeerGroupAssociation {
        subcloud_peer_group: group_name,
        subcloud_peer_group_uuid: group.to_string(),
        system_peer: peer_name,
        system_peer_uuid: peer.to_string(),
        peer_priority: *peer_priority,
        state: state.into(),
        message: message.clone(),
        faults: faults.iter().map(fault_to_wire).collect(),
        updated_at_milliseconds: updated_at.0,
        etag: association.etag(),
    }
}

fn migration_state(migration: Option<&Migration>) -> wire::MigrationState {
    match migration {
        None => wire::MigrationState::None,
        Some(migration) if migration.running() => wire::MigrationState::Running,
        Some(migration) if migration.missing.is_empty() => wire::MigrationState::Complete,
        Some(_) => wire::MigrationState::Incomplete,
    }
}

fn administrative_to_wire(state: Administrative) -> wire::PeerAdministrativeState {
    match state {
        Administrative::Enabled => wire::PeerAdministrativeState::Enabled,
        Administrative::Disabled => wire::PeerAdministrativeState::Disabled,
    }
}

fn administrative_from_wire(number: i32) -> Result<Option<Administrative>, Malformed> {
    let name = wire::PeerAdministrativeState::as_str_name;
    Ok(
        match value_of("system_peer.administrative_state", number, name)? {
            wire::PeerAdministrativeState::Unspecified => None,
            wire::PeerAdministrativeState::Enabled => Some(Administrative::Enabled),
            wire::PeerAdministrativeState::Disabled => Some(Administrative::Disabled),
        },
    )
}

fn policy_to_wire(policy: FailurePolicy) -> wire::FailurePolicy {
    match policy {
        FailurePolicy::Alarm => wire::FailurePolicy::Alarm,
        FailurePolicy::Rehome => wire::FailurePolicy::Rehome,
    }
}

fn policy_from_wire(number: i32) -> Result<Option<FailurePolicy>, Malformed> {
    let name = wire::FailurePolicy::as_str_name;
    Ok(
        match value_of("system_peer.failure_policy", number, name)? {
            wire::FailurePolicy::Unspecified => None,
            wire::FailurePolicy::Alarm => Some(FailurePolicy::Alarm),
            wire::FailurePolicy::Rehome => Some(FailurePolicy::Rehome),
        },
    )
}

fn peer_availability_to_wire(availability: PeerAvailability) -> wire::PeerAvailability {
    match availability {
        PeerAvailability::Unknown => wire::PeerAvailability::Unknown,
        PeerAvailability::Available => wire::PeerAvailability::Available,
        PeerAvailability::Unavailable => wire::PeerAvailability::Unavailable,
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

fn whole(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The names of the fields that are set.
fn filled(given: &[(&str, bool)]) -> Vec<String> {
    let filled = given.iter().filter(|(_, filled)| *filled);
    filled.map(|(field, _)| (*field).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(values: wire::SystemPeer, paths: &[&str]) -> Result<PeerEdit, Vec<Malformed>> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let request = wire::UpdateSystemPeerRequest {
            target: "east".to_owned(),
            system_peer: Some(values),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        update_peer(request).map(|action| match action {
            PeerAction::UpdatePeer { edit, .. } => edit,
            other => panic!("an update, not {other:?}"),
        })
    }

    #[test]
    fn only_what_is_named_changes_and_what_is_named_must_be_said() {
        let values = wire::SystemPeer {
            failure_policy: wire::FailurePolicy::Rehome.into(),
            failure_threshold: 7,
            ..Default::default()
        };
        let rehome = Some(FailurePolicy::Rehome);
        let check = |paths: &[&str], expected: PeerEdit| {
            assert_eq!(update(values.clone(), paths), Ok(expected), "{paths:?}");
        };
        let both = PeerEdit {
            failure_policy: rehome,
            failure_threshold: Some(7),
            ..PeerEdit::default()
        };
        check(&[], both);
        check(
            &["failure_policy"],
            PeerEdit {
                failure_policy: rehome,
                ..PeerEdit::default()
            },
        );
        // The rules of the core refuse it; nothing is defaulted here.
        check(
            &["heartbeat_interval_seconds"],
            PeerEdit {
                heartbeat_interval: Some(Duration::ZERO),
                ..PeerEdit::default()
            },
        );
        for (path, at) in [
            ("administrative_state", "system_peer.administrative_state"),
            ("name", "update_mask.paths[0]"),
        ] {
            let faults = update(values.clone(), &[path]).expect_err("must be refused");
            assert_eq!(faults[0].path, at);
        }
    }

    #[test]
    fn what_a_new_peer_does_not_say_has_its_default() {
        let named = wire::SystemPeer {
            name: "east".to_owned(),
            ..Default::default()
        };
        let made = new_peer(Some(named.clone())).expect("a peer");
        assert_eq!(made, ("east".to_owned(), PeerSettings::default()));
        let wrong = wire::SystemPeer {
            uuid: "x".to_owned(),
            administrative_state: 8,
            failure_policy: 9,
            ..named
        };
        let faults = new_peer(Some(wrong)).expect_err("must be refused");
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        let enumerations = ["administrative_state", "failure_policy"];
        let all = ["uuid"].into_iter().chain(enumerations);
        assert_eq!(
            paths,
            all.map(|field| format!("system_peer.{field}"))
                .collect::<Vec<_>>()
        );
    }
}
