//! Records of groups, and of what the fleet answered to requests that may come again.

use std::sync::Arc;

use fleet::{
    Answer, AnsweredCall, Availability, GroupId, PeerReceipt, PeerSubject, Presence, Receipt,
    RequestKey, SubcloudGroup, UpdateApply,
};
use site::Timestamp;

use super::fleet_change::update_to_wire;
use super::{
    Malformed, association_from_record, association_to_record, availability_to_wire, bytes32,
    parse_uuid, peer_from_record, peer_group_from_record, peer_group_to_record, peer_to_record,
    subcloud_from_record, subcloud_to_record,
};
use crate::fleet_v1::{Availability as WireAvailability, UpdateApplyType};
use crate::store_v1 as wire;
use wire::fleet_answer_record::Answer as Kept;

/// The record of a group.
pub fn group_to_record(group: &SubcloudGroup) -> wire::SubcloudGroupRecord {
    let SubcloudGroup {
        id,
        name,
        description,
        update,
        max_parallel,
        created_at,
        updated_at,
    } = group;
    wire::SubcloudGroupRecord {
        uuid: id.to_string(),
        name: name.clone(),
        description: description.clone(),
        update_apply_type: update_to_wire(*update).into(),
        max_parallel: *max_parallel,
        created_at_milliseconds: created_at.0,
        updated_at_milliseconds: updated_at.0,
    }
}

/// Reads the record of a group.
///
/// # Errors
/// The first field that cannot be read.
pub fn group_from_record(record: wire::SubcloudGroupRecord) -> Result<SubcloudGroup, Malformed> {
    let wire::SubcloudGroupRecord {
        uuid,
        name,
        description,
        update_apply_type,
        max_parallel,
        created_at_milliseconds,
        updated_at_milliseconds,
    } = record;
    let uuid = parse_uuid(&uuid).map_err(|problem| Malformed::new("uuid", problem))?;
    Ok(SubcloudGroup {
        id: GroupId(uuid),
        name,
        description,
        update: match UpdateApplyType::try_from(update_apply_type) {
            Ok(UpdateApplyType::Parallel) => UpdateApply::Parallel,
            Ok(UpdateApplyType::Serial) => UpdateApply::Serial,
            Ok(UpdateApplyType::Unspecified) | Err(_) => {
                return Err(Malformed::new("update_apply_type", "is unknown"));
            }
        },
        max_parallel,
        created_at: Timestamp(created_at_milliseconds),
        updated_at: Timestamp(updated_at_milliseconds),
    })
}

/// The record of an answer. Of the link only what an answer shows is kept.
pub fn answered_to_record(answered: &AnsweredCall) -> wire::FleetAnswerRecord {
    let AnsweredCall {
        key: RequestKey { id, fingerprint },
        at,
        answer,
    } = answered;
    let kept = match answer {
        Answer::Subcloud(receipt) => Some(Kept::Subcloud(receipt_to_record(receipt))),
        Answer::Group(group) => Some(Kept::Group(group_to_record(group))),
        Answer::Peer(receipt) => subject_to_record(&receipt.subject),
        // Entries of the audit log have no request id, and the answer to a call about an operator
        // goes with a certificate: neither is kept here.
        Answer::Operator(_) | Answer::Noted => None,
    };
    wire::FleetAnswerRecord {
        request_id: id.clone(),
        fingerprint: fingerprint.to_vec(),
        at_milliseconds: at.0,
        answer: kept,
    }
}

/// Reads the record of an answer.
///
/// # Errors
/// The first field that cannot be read.
pub fn answered_from_record(record: wire::FleetAnswerRecord) -> Result<AnsweredCall, Malformed> {
    let wire::FleetAnswerRecord {
        request_id,
        fingerprint,
        at_milliseconds,
        answer,
    } = record;
    let answer = match answer {
        Some(Kept::Subcloud(receipt)) => Answer::Subcloud(receipt_from_record(receipt)?),
        Some(Kept::Group(group)) => Answer::Group(Arc::new(group_from_record(group)?)),
        Some(Kept::SystemPeer(peer)) => shown(PeerSubject::Peer(peer_from_record(peer)?.into())),
        Some(Kept::PeerGroup(group)) => {
            shown(PeerSubject::Group(peer_group_from_record(group)?.into()))
        }
        Some(Kept::Association(known)) => shown(PeerSubject::Association(
            association_from_record(known)?.into(),
        )),
        Some(Kept::SharedSubcloud(subcloud)) => shown(PeerSubject::Subcloud(
            subcloud_from_record(subcloud)?.into(),
        )),
        None => return Err(Malformed::new("answer", "is missing")),
    };
    Ok(AnsweredCall {
        key: RequestKey {
            id: request_id,
            fingerprint: bytes32("fingerprint", &fingerprint)?,
        },
        at: Timestamp(at_milliseconds),
        answer,
    })
}

/// The record that a call about peers was about. A card is the answer to a token, which has no
/// request id.
fn subject_to_record(subject: &PeerSubject) -> Option<Kept> {
    Some(match subject {
        PeerSubject::Peer(peer) => Kept::SystemPeer(peer_to_record(peer)),
        PeerSubject::Group(group) => Kept::PeerGroup(peer_group_to_record(group)),
        PeerSubject::Association(known) => Kept::Association(association_to_record(known)),
        PeerSubject::Subcloud(subcloud) => Kept::SharedSubcloud(subcloud_to_record(subcloud)),
        PeerSubject::Card(_) => return None,
    })
}

fn shown(subject: PeerSubject) -> Answer {
    let warnings = Vec::new();
    Answer::Peer(Box::new(PeerReceipt { subject, warnings }))
}

fn receipt_to_record(receipt: &Receipt) -> wire::SubcloudAnswer {
    let Receipt {
        subcloud,
        presence,
        group,
        warnings: _,
        replayed: _,
    } = receipt;
    wire::SubcloudAnswer {
        record: Some(subcloud_to_record(subcloud)),
        availability: availability_to_wire(presence.availability).into(),
        last_seen_milliseconds: presence.last_seen.map_or(0, |at| at.0),
        group: group.clone(),
    }
}

fn receipt_from_record(record: wire::SubcloudAnswer) -> Result<Receipt, Malformed> {
    let wire::SubcloudAnswer {
        record,
        availability,
        last_seen_milliseconds,
        group,
    } = record;
    let availability = match WireAvailability::try_from(availability) {
        Ok(WireAvailability::Online) => Availability::Online,
        Ok(WireAvailability::Offline) => Availability::Offline,
        Ok(
            WireAvailability::Unknown | WireAvailability::Unspecified | WireAvailability::Secondary,
        )
        | Err(_) => Availability::Unknown,
    };
    let last_seen = Some(Timestamp(last_seen_milliseconds)).filter(|at| at.0 != 0);
    let record = record.ok_or_else(|| Malformed::new("record", "is missing"))?;
    Ok(Receipt {
        subcloud: Arc::new(subcloud_from_record(record)?),
        presence: Presence::seen(availability, last_seen),
        group,
        warnings: Vec::new(),
        replayed: false,
    })
}
