//! What the daemon knows: a duplex site whose oam is dual-stack, and a small fleet.

use api::fleet_v1::{
    AlarmCounts, AlarmStatus, AlarmSummary, AssociationState, Availability, Conflict,
    EnrollmentState, FailurePolicy, FleetEvent, LostValue, ManagementState, MigrationState,
    PeerAvailability, PeerGroupAssociation, PeeringState, Subcloud, SubcloudGroup,
    SubcloudPeerGroup, SubcloudPeerGroupMember, SyncState, SystemPeer, UpdateApplyType, Violation,
};
use api::site_v1::{
    AddressPool, AddressRange, AdministrativeState, Alarm, Effect, Family, Host, Network,
    NetworkAddressPool, Oam, Order, Personality, Rank, Severity, Stack,
};
use api::status::from_rejection;
use site::{Code, Reason, ReasonSet, Rejection};
use tonic::Status;

use super::peers::established;

/// 2026-01-01T00:00:00Z.
pub(super) const NEW_YEAR: u64 = 1_767_225_600_000;

pub(super) fn pools() -> Vec<AddressPool> {
    let oam_ipv6 = AddressPool {
        gateway_address: "fd00::1".to_owned(),
        controller0_address: "fd00::4".to_owned(),
        controller1_address: "fd00::5".to_owned(),
        ..pool(
            1,
            "oam-ipv6",
            "fd00::",
            64,
            &[("fd00::1", "fd00::ffff:ffff:ffff:ffff")],
        )
    };
    let oam_ipv4 = AddressPool {
        order: Order::Sequential.into(),
        ..pool(
            2,
            "oam-ipv4",
            "10.20.5.0",
            24,
            &[("10.20.5.1", "10.20.5.99"), ("10.20.5.150", "10.20.5.254")],
        )
    };
    let mgmt = pool(
        3,
        "management-ipv6",
        "fd01::",
        64,
        &[("fd01::2", "fd01::ffff")],
    );
    let pods = AddressPool {
        floating_address: String::new(),
        ..pool(
            4,
            "cluster-pod-ipv6",
            "aefd:206::",
            64,
            &[("aefd:206::1", "aefd:206::ffff")],
        )
    };
    vec![pods, mgmt, oam_ipv4, oam_ipv6]
}

fn pool(n: u8, name: &str, network: &str, prefix: u32, ranges: &[(&str, &str)]) -> AddressPool {
    let range = |(first, last): &(&str, &str)| AddressRange {
        first: (*first).to_owned(),
        last: (*last).to_owned(),
    };
    let family = if network.contains(':') {
        Family::Ipv6
    } else {
        Family::Ipv4
    };
    let floating = if network.contains(':') {
        format!("{network}3")
    } else {
        "10.20.5.3".to_owned()
    };
    AddressPool {
        uuid: uuid('a', n),
        name: name.to_owned(),
        network: network.to_owned(),
        prefix,
        ranges: ranges.iter().map(range).collect(),
        floating_address: floating,
        family: family.into(),
        ..AddressPool::default()
    }
}

pub(super) fn networks() -> Vec<Network> {
    vec![
        network(1, "mgmt", true, &[(3, "management-ipv6")]),
        network(2, "oam", false, &[(1, "oam-ipv6"), (2, "oam-ipv4")]),
        network(3, "cluster-pod", false, &[(4, "cluster-pod-ipv6")]),
    ]
}

fn network(id: u8, name: &str, dynamic: bool, pools: &[(u8, &str)]) -> Network {
    let dual = pools.len() == 2;
    let association = |(index, (n, pool)): (usize, &(u8, &str))| {
        let (rank, family) = if index == 0 {
            (Rank::Primary, Family::Ipv6)
        } else {
            (Rank::Secondary, Family::Ipv4)
        };
        NetworkAddressPool {
            uuid: uuid('c', *n),
            network_name: name.to_owned(),
            network_uuid: uuid('b', id),
            address_pool_name: (*pool).to_owned(),
            address_pool_uuid: uuid('a', *n),
            rank: rank.into(),
            family: family.into(),
        }
    };
    Network {
        id: id.into(),
        uuid: uuid('b', id),
        name: name.to_owned(),
        r#type: name.to_owned(),
        dynamic,
        address_pools: pools.iter().enumerate().map(association).collect(),
        primary_family: Family::Ipv6.into(),
        stack: if dual { Stack::Dual } else { Stack::Single }.into(),
        primary_pool_uuid: uuid('a', pools[0].0),
    }
}

pub(super) fn associations() -> Vec<NetworkAddressPool> {
    networks()
        .into_iter()
        .flat_map(|network| network.address_pools)
        .collect()
}

pub(super) fn hosts() -> Vec<Host> {
    let host = |hostname: &str, applied, administrative: AdministrativeState| Host {
        hostname: hostname.to_owned(),
        personality: Personality::Controller.into(),
        administrative: administrative.into(),
        target_configuration: 7,
        applied_configuration: applied,
        reboot_required: applied != 7,
    };
    vec![
        host("controller-0", 7, AdministrativeState::Unlocked),
        host("controller-1", 6, AdministrativeState::Locked),
    ]
}

pub(super) fn alarms() -> Vec<Alarm> {
    vec![Alarm {
        uuid: uuid('d', 1),
        id: "250.001".to_owned(),
        severity: Severity::Major.into(),
        entity: "host=controller-1".to_owned(),
        reason: "Configuration out-of-date".to_owned(),
        raised_at_milliseconds: NEW_YEAR,
        repair: "Unlock the host: `system host-unlock controller-1`".to_owned(),
    }]
}

pub(super) fn oam() -> Oam {
    Oam {
        oam_subnet: "fd00::/64".to_owned(),
        oam_gateway_ip: "fd00::1".to_owned(),
        oam_floating_ip: "fd00::3".to_owned(),
        oam_c0_ip: "fd00::4".to_owned(),
        oam_c1_ip: "fd00::5".to_owned(),
        oam_ip: String::new(),
        oam_start_ip: "fd00::1".to_owned(),
        oam_end_ip: "fd00::ffff:ffff:ffff:ffff".to_owned(),
    }
}

pub(super) fn effects() -> Vec<Effect> {
    vec![
        Effect {
            kind: "ADDRESS_ADDED".to_owned(),
            description: "oam gets 10.20.5.3".to_owned(),
            network: "oam".to_owned(),
            family: Family::Ipv4.into(),
            hosts: vec!["controller-0".to_owned(), "controller-1".to_owned()],
            addresses: vec!["10.20.5.3".to_owned()],
        },
        Effect {
            kind: "ALARM_RAISED".to_owned(),
            description: "250.001 on controller-0 until it is locked and unlocked".to_owned(),
            network: String::new(),
            family: Family::Unspecified.into(),
            hosts: vec!["controller-0".to_owned()],
            addresses: Vec::new(),
        },
    ]
}

pub(super) fn subclouds() -> Vec<Subcloud> {
    let pending = Subcloud {
        uuid: uuid('e', 1),
        name: "pending".to_owned(),
        management: ManagementState::Unmanaged.into(),
        enrollment: EnrollmentState::Pending.into(),
        availability: Availability::Unknown.into(),
        sync: SyncState::Unknown.into(),
        created_at_milliseconds: NEW_YEAR,
        token_expires_at_milliseconds: NEW_YEAR + 3_600_000,
        ..Subcloud::default()
    };
    let subcloud = |n: u8, name: &str, family: Family, stack: Stack| Subcloud {
        uuid: uuid('e', n),
        name: name.to_owned(),
        region_name: format!("region-{n}"),
        management: ManagementState::Managed.into(),
        enrollment: EnrollmentState::Enrolled.into(),
        availability: Availability::Online.into(),
        sync: SyncState::InSync.into(),
        primary_family: family.into(),
        stack: stack.into(),
        software_version: "24.09".to_owned(),
        last_seen_milliseconds: NEW_YEAR + 5_000,
        link_address: "fd01::3".to_owned(),
        generation: 4,
        created_at_milliseconds: NEW_YEAR,
        enrolled_at_milliseconds: NEW_YEAR + 1_000,
        ..Subcloud::default()
    };
    let out_of_date = Subcloud {
        sync: SyncState::OutOfSync.into(),
        refused: vec![violation()],
        quarantined_since_milliseconds: NEW_YEAR + 4_000,
        ..subcloud(3, "subcloud-2", Family::Ipv6, Stack::Single)
    };
    vec![
        pending,
        subcloud(2, "subcloud-1", Family::Ipv6, Stack::Dual),
        out_of_date,
    ]
}

pub(super) fn groups() -> Vec<SubcloudGroup> {
    let group = |n: u8, name: &str, update: UpdateApplyType| SubcloudGroup {
        uuid: uuid('f', n),
        name: name.to_owned(),
        description: format!("{name} sites"),
        update_apply_type: update.into(),
        max_parallel_subclouds: 2 * u32::from(n),
        created_at_milliseconds: NEW_YEAR,
        updated_at_milliseconds: NEW_YEAR + 1_000,
        etag: format!("{n:016}"),
    };
    vec![
        group(1, "Default", UpdateApplyType::Parallel),
        group(2, "north", UpdateApplyType::Serial),
    ]
}

pub(super) fn peers() -> Vec<SystemPeer> {
    let suspended = SystemPeer {
        peering_state: PeeringState::Suspended.into(),
        failure_policy: FailurePolicy::Alarm.into(),
        synchronising: false,
        suspended: vec![violation()],
        ..established("north", 2)
    };
    let pending = SystemPeer {
        uuid: uuid('c', 3),
        name: "south".to_owned(),
        peering_state: PeeringState::Pending.into(),
        availability: PeerAvailability::Unknown.into(),
        token_expires_at_milliseconds: NEW_YEAR + 3_600_000,
        heartbeat_interval_seconds: 5,
        failure_threshold: 3,
        administrative_state: suspended.administrative_state,
        failure_policy: FailurePolicy::Alarm.into(),
        ..SystemPeer::default()
    };
    vec![established("east", 1), suspended, pending]
}

pub(super) fn peer_groups() -> Vec<SubcloudPeerGroup> {
    let group = |n: u8, name: &str, leader: &str, migration: MigrationState| SubcloudPeerGroup {
        uuid: uuid('e', n),
        name: name.to_owned(),
        priority: 0,
        max_subcloud_rehoming: 10,
        leader_uuid: uuid('d', n),
        leader_name: leader.to_owned(),
        leader_priority: u32::from(leader != "here"),
        led_here: leader == "here",
        members: 3,
        owned: if leader == "here" { 3 } else { 0 },
        migration_state: migration.into(),
        created_at_milliseconds: NEW_YEAR,
        updated_at_milliseconds: NEW_YEAR + 1_000,
        etag: format!("{n:016}"),
    };
    vec![
        group(1, "own", "here", MigrationState::None),
        group(2, "shared", "site-east", MigrationState::Running),
    ]
}

pub(super) fn peer_group_members() -> Vec<SubcloudPeerGroupMember> {
    let member = |n: u8, owner: &str, availability: Availability| SubcloudPeerGroupMember {
        subcloud_uuid: uuid('a', n),
        name: format!("subcloud-{n}"),
        owner_uuid: uuid('d', n),
        owner: owner.to_owned(),
        owned_here: owner == "here",
        epoch: u64::from(n),
        confirmed: true,
        availability: availability.into(),
        conflict: None,
    };
    let lost = LostValue {
        field: "location".to_owned(),
        value: "Hall 7".to_owned(),
    };
    let conflict = Conflict {
        owner_uuid: uuid('d', 1),
        at_milliseconds: NEW_YEAR,
        lost: vec![lost],
    };
    vec![
        member(1, "here", Availability::Online),
        member(2, "east", Availability::Secondary),
        SubcloudPeerGroupMember {
            conflict: Some(conflict),
            ..member(3, "east", Availability::Secondary)
        },
    ]
}

pub(super) fn peer_group_associations() -> Vec<PeerGroupAssociation> {
    let known = |n: u8, peer: &str, state: AssociationState, message: &str| PeerGroupAssociation {
        subcloud_peer_group: "shared".to_owned(),
        subcloud_peer_group_uuid: uuid('e', 2),
        system_peer: peer.to_owned(),
        system_peer_uuid: uuid('c', n),
        peer_priority: u32::from(n),
        state: state.into(),
        message: message.to_owned(),
        faults: Vec::new(),
        updated_at_milliseconds: NEW_YEAR,
        etag: format!("{n:016}"),
    };
    let failed = PeerGroupAssociation {
        faults: vec![violation()],
        ..known(
            2,
            "north",
            AssociationState::Failed,
            "system peer north is suspended",
        )
    };
    vec![known(1, "east", AssociationState::InSync, ""), failed]
}

pub(super) fn alarm_summaries() -> Vec<AlarmSummary> {
    let counts = |critical, major| AlarmCounts {
        critical,
        major,
        ..AlarmCounts::default()
    };
    let summary = |name: &str, counts: Option<AlarmCounts>, status: AlarmStatus| AlarmSummary {
        subcloud: name.to_owned(),
        counts,
        status: status.into(),
    };
    vec![
        summary("pending", None, AlarmStatus::Disabled),
        summary("subcloud-1", Some(counts(0, 0)), AlarmStatus::Ok),
        summary("subcloud-2", Some(counts(1, 12)), AlarmStatus::Critical),
    ]
}

pub(super) fn events() -> Vec<FleetEvent> {
    let event = |sequence, kind: &str, subcloud: &str, violations: Vec<Violation>| FleetEvent {
        sequence,
        at_milliseconds: NEW_YEAR + sequence * 1_000,
        kind: kind.to_owned(),
        subcloud: subcloud.to_owned(),
        message: format!("{kind} of {subcloud}"),
        violations,
    };
    vec![
        event(4, "REPORT_REFUSED", "subcloud-2", vec![violation()]),
        event(
            3,
            "ENROLLMENT_REFUSED",
            "stranger",
            vec![violation(), violation()],
        ),
        event(2, "ENROLLED", "subcloud-2", Vec::new()),
        event(1, "ADDED", "subcloud-2", Vec::new()),
    ]
}

fn violation() -> Violation {
    Violation {
        reason: "PRIMARY_FAMILY_MISMATCH".to_owned(),
        message: "the primary family is IPv4 and the controller's is IPv6".to_owned(),
        remedy: "reinstall the subcloud with IPv6 first".to_owned(),
        ..Violation::default()
    }
}

/// A refusal with one fault.
pub(super) fn not_found(reason: Reason, kind: &'static str, name: &str) -> Status {
    from_rejection(&Rejection::one(
        site::Violation::new(
            reason,
            format!("there is no {kind} `{name}`"),
            format!("list the {kind}s and use one of their names"),
        )
        .object(kind, name),
    ))
}

/// A refusal with three faults.
pub(super) fn three_faults() -> Status {
    let faults = vec![
        site::Violation::new(
            Reason::AddressOverlap,
            "oam-ipv4 10.20.5.0/24 overlaps mgmt-ipv4 10.20.0.0/16",
            "choose a subnet that no attached pool has",
        )
        .object("pool", "oam-ipv4")
        .object("pool", "mgmt-ipv4"),
        site::Violation::new(
            Reason::NetworkHasTwoPools,
            "oam has oam-ipv6 and other",
            "remove it first: `system network-addrpool-remove oam other`",
        )
        .object("network", "oam"),
        site::Violation::new(
            Reason::InvalidArgument,
            "the range ends before it begins",
            "write the lower address first",
        )
        .at("ranges[0]"),
    ];
    let rejection = Rejection::check(faults).expect_err("three faults");
    from_rejection(&rejection)
}

/// What a controller says of a subcloud that did not answer in time.
#[derive(Debug, Clone, Copy)]
struct TooLate;

impl ReasonSet for TooLate {
    fn name(self) -> &'static str {
        "COMMAND_DEADLINE_EXCEEDED"
    }

    fn code(self) -> Code {
        Code::DeadlineExceeded
    }
}

/// The refusal of a change that may or may not have been made.
pub(super) fn too_late() -> Status {
    from_rejection(&Rejection::one(
        site::Violation::new(
            TooLate,
            "subcloud subcloud-1 did not answer CreateAddressPool before the deadline",
            "ask again with request_id `r-1` (`tandem` has --request-id r-1)",
        )
        .object("subcloud", "subcloud-1"),
    ))
}

/// A refusal with `count` faults.
pub(super) fn many_faults(count: usize) -> Status {
    let fault = |n| {
        let message = format!("there is no subcloud `nope-{n}`");
        site::Violation::new(Reason::InvalidArgument, message, "use a name of the list")
            .at(format!("select[{n}]"))
    };
    let rejection = Rejection::check((1..=count).map(fault).collect()).expect_err("faults");
    from_rejection(&rejection)
}

/// A uuid that tells what it is of.
pub(super) fn uuid(kind: char, n: u8) -> String {
    format!("{}-0000-4000-8000-{n:012}", kind.to_string().repeat(8))
}
