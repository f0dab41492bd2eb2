//! The records of peers, of the groups that are shared with them, and of who shares what.

use std::time::Duration;

use fleet::{
    Administrative, Association, Established, FailurePolicy, Migration, PeerGroup, PeerGroupId,
    PeerId, PeerSettings, Peering, SecretHash, SpentToken, SystemPeer, TokenId,
};
use site::Timestamp;

use super::records::{token_from_record, token_to_record};
use super::{
    Malformed, bytes32, card_from_wire, card_to_wire, fault_from_wire, fault_to_wire, group_id,
    header_from_wire, header_to_wire, leader_from_wire, leader_to_wire, optional_digest,
    parse_uuid, subcloud_id,
};
use crate::store_v1 as wire;
use wire::system_peer_record::Peering as Kept;

/// The record of a peer.
pub fn peer_to_record(peer: &SystemPeer) -> wire::SystemPeerRecord {
    let SystemPeer {
        id,
        name,
        settings:
            PeerSettings {
                administrative,
                heartbeat_interval,
                failure_threshold,
                failure_policy,
            },
        peering,
        created_at,
        updated_at,
    } = peer;
    wire::SystemPeerRecord {
        uuid: id.to_string(),
        name: name.clone(),
        disabled: *administrative == Administrative::Disabled,
        heartbeat_interval_milliseconds: u64::try_from(heartbeat_interval.as_millis())
            .unwrap_or(u64::MAX),
        failure_threshold: *failure_threshold,
        rehome: *failure_policy == FailurePolicy::Rehome,
        peering: Some(match peering {
            Peering::Pending(token) => Kept::Pending(token_to_record(token)),
            Peering::Established(known) => Kept::Established(established_to_record(known)),
        }),
        created_at_milliseconds: created_at.0,
        updated_at_milliseconds: updated_at.0,
    }
}

/// Reads the record of a peer.
///
/// # Errors
/// The first field that cannot be read.
pub fn peer_from_record(record: wire::SystemPeerRecord) -> Result<SystemPeer, Malformed> {
    let wire::SystemPeerRecord {
        uuid,
        name,
        disabled,
        heartbeat_interval_milliseconds,
        failure_threshold,
        rehome,
        peering,
        created_at_milliseconds,
        updated_at_milliseconds,
    } = record;
    let (administrative, failure_policy) = (
        if disabled {
            Administrative::Disabled
        } else {
            Administrative::Enabled
        },
        if rehome {
            FailurePolicy::Rehome
        } else {
            FailurePolicy::Alarm
        },
    );
    Ok(SystemPeer {
        id: peer_id("uuid", &uuid)?,
        name,
        settings: PeerSettings {
            administrative,
            heartbeat_interval: Duration::from_millis(heartbeat_interval_milliseconds),
            failure_threshold,
            failure_policy,
        },
        peering: match peering {
            Some(Kept::Pending(token)) => Peering::Pending(token_from_record(token)?),
            Some(Kept::Established(known)) => {
                Peering::Established(Box::new(established_from_record(known)?))
            }
            None => return Err(Malformed::new("peering", "is missing")),
        },
        created_at: Timestamp(created_at_milliseconds),
        updated_at: Timestamp(updated_at_milliseconds),
    })
}

fn established_to_record(known: &Established) -> wire::EstablishedPeering {
    let Established {
        card,
        spent,
        since,
        suspended,
    } = known;
    let token = spent.as_ref().map(|spent| spent.id.to_string());
    let secret = spent.as_ref().map(|spent| spent.secret.0.to_vec());
    wire::EstablishedPeering {
        card: Some(card_to_wire(card)),
        token: token.unwrap_or_default(),
        secret_sha256: secret.unwrap_or_default(),
        since_milliseconds: since.0,
        suspended: suspended.iter().map(fault_to_wire).collect(),
    }
}

fn established_from_record(record: wire::EstablishedPeering) -> Result<Established, Malformed> {
    let wire::EstablishedPeering {
        card,
        token,
        secret_sha256,
        since_milliseconds,
        suspended,
    } = record;
    let spent = match token.as_str() {
        "" => None,
        token => Some(SpentToken {
            id: TokenId(parse_uuid(token).map_err(|problem| Malformed::new("token", problem))?),
            secret: SecretHash(bytes32("secret_sha256", &secret_sha256)?),
        }),
    };
    Ok(Established {
        card: card_from_wire(card.unwrap_or_default())?,
        spent,
        since: Timestamp(since_milliseconds),
        suspended: suspended.iter().map(fault_from_wire).collect(),
    })
}

/// The record of a peer group.
pub fn peer_group_to_record(group: &PeerGroup) -> wire::PeerGroupRecord {
    let PeerGroup {
        id,
        header,
        leader,
        priority,
        migration,
        created_at,
        updated_at,
    } = group;
    let migration = migration.as_ref().map(|migration| {
        let Migration {
            started_at,
            targets,
            finished_at,
            missing,
        } = migration;
        wire::MigrationRecord {
            started_at_milliseconds: started_at.0,
            targets: targets.iter().map(ToString::to_string).collect(),
            finished_at_milliseconds: finished_at.map_or(0, |at| at.0),
            missing: missing.iter().map(ToString::to_string).collect(),
        }
    });
    wire::PeerGroupRecord {
        uuid: id.to_string(),
        header: Some(header_to_wire(header)),
        leader: Some(leader_to_wire(leader)),
        priority: *priority,
        migration,
        created_at_milliseconds: created_at.0,
        updated_at_milliseconds: updated_at.0,
    }
}

/// Reads the record of a peer group.
///
/// # Errors
/// The first field that cannot be read.
pub fn peer_group_from_record(record: wire::PeerGroupRecord) -> Result<PeerGroup, Malformed> {
    let wire::PeerGroupRecord {
        uuid,
        header,
        leader,
        priority,
        migration,
        created_at_milliseconds,
        updated_at_milliseconds,
    } = record;
    Ok(PeerGroup {
        id: group_id("uuid", &uuid)?,
        header: header_from_wire(header.unwrap_or_default())?,
        leader: leader_from_wire(leader.unwrap_or_default())?,
        priority,
        migration: migration.map(migration_from_record).transpose()?,
        created_at: Timestamp(created_at_milliseconds),
        updated_at: Timestamp(updated_at_milliseconds),
    })
}

fn migration_from_record(record: wire::MigrationRecord) -> Result<Migration, Malformed> {
    let wire::MigrationRecord {
        started_at_milliseconds,
        targets,
        finished_at_milliseconds,
        missing,
    } = record;
    let targets = targets.iter().map(|text| subcloud_id("targets", text));
    let missing = missing.iter().map(|text| subcloud_id("missing", text));
    Ok(Migration {
        started_at: Timestamp(started_at_milliseconds),
        targets: targets.collect::<Result<_, _>>()?,
        finished_at: Some(Timestamp(finished_at_milliseconds)).filter(|at| at.0 != 0),
        missing: missing.collect::<Result<_, _>>()?,
    })
}

/// The record of an association.
pub fn association_to_record(association: &Association) -> wire::PeerGroupAssociationRecord {
    let Association {
        group,
        peer,
        peer_priority,
        told,
        generation,
        ended,
        withdrawn,
        faults,
        updated_at,
    } = association;
    wire::PeerGroupAssociationRecord {
        group: group.to_string(),
        peer: peer.to_string(),
        peer_priority: *peer_priority,
        told_sha256: told.map(|told| told.0.to_vec()).unwrap_or_default(),
        ended: *ended,
        violations: faults.iter().map(fault_to_wire).collect(),
        updated_at_milliseconds: updated_at.0,
        generation: *generation,
        withdrawn: *withdrawn,
    }
}

/// Reads the record of an association.
///
/// # Errors
/// The first field that cannot be read.
pub fn association_from_record(
    record: wire::PeerGroupAssociationRecord,
) -> Result<Association, Malformed> {
    let wire::PeerGroupAssociationRecord {
        group,
        peer,
        peer_priority,
        told_sha256,
        ended,
        violations,
        updated_at_milliseconds,
        generation,
        withdrawn,
    } = record;
    let group: PeerGroupId = group_id("group", &group)?;
    Ok(Association {
        group,
        peer: peer_id("peer", &peer)?,
        peer_priority,
        told: optional_digest("told_sha256", &told_sha256)?,
        generation,
        ended,
        withdrawn,
        faults: violations.iter().map(fault_from_wire).collect(),
        updated_at: Timestamp(updated_at_milliseconds),
    })
}

fn peer_id(path: &str, text: &str) -> Result<PeerId, Malformed> {
    let id = parse_uuid(text).map_err(|problem| Malformed::new(path, problem))?;
    Ok(PeerId(id))
}
