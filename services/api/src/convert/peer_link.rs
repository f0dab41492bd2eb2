//! What two controllers say to each other, and the pieces of it.

use fleet::{
    Authority, Batch, CardDigest, ControllerId, Correction, Epoch, Fingerprint, GroupHeader,
    Leader, MAX_PEERS, Offer, PeerCard, PeerGoodbye, PeerGroupId, PeerMessage, Pull, SubcloudId,
    SyncDigest, SyncItem, Withdrawn,
};
use prost::Message as _;

use super::{
    Malformed, bytes32, controller_from_text, endpoints, fault_to_wire, faults_from_wire,
    networks_from_wire, networks_to_wire, parse_uuid, parse_version, subcloud_from_record,
    subcloud_to_record, urls,
};
use crate::fleet_v1 as wire;
use crate::store_v1::SubcloudRecord;
use wire::peer_link_member::State;
use wire::peer_link_message::Message;

/// The size of the pieces of a message: far below the limit of a gRPC message, and no more than
/// the flow-control window of a stream.
const PIECE_BYTES: usize = 64 * 1024;

/// The largest message: a batch of 64 members, each with the ranges of a site of the largest
/// report (some 100 KiB).
pub const MAX_PEER_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// The longest name of a site, a leader or a group that is read, in bytes: twice that of any that
/// there can be. What a peer says is kept, so that all of it has bounds.
const MAX_NAME_BYTES: usize = 256;

/// The largest certificate of an authority that is read: a hundred times the usual one.
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;

/// The largest record of a member that is read: some hundred times the usual one.
const MAX_MEMBER_BYTES: usize = 256 * 1024;

/// One message as the pieces that go over the wire, each with whether it is the last.
pub fn peer_message_pieces(message: &PeerMessage) -> Vec<(Vec<u8>, bool)> {
    let encoded = wire::PeerLinkMessage {
        message: Some(message_to_wire(message)),
    }
    .encode_to_vec();
    let count = encoded.len().div_ceil(PIECE_BYTES);
    let pieces = encoded.chunks(PIECE_BYTES).enumerate();
    pieces
        .map(|(index, data)| (data.to_vec(), index + 1 == count))
        .collect()
}

/// Puts the messages of one link together again.
#[derive(Debug, Default)]
pub struct PeerMessages {
    bytes: Vec<u8>,
}

impl PeerMessages {
    /// Takes the next piece; a message when it is complete.
    ///
    /// # Errors
    /// What cannot be understood; the link must end then.
    pub fn take(&mut self, data: &[u8], last: bool) -> Result<Option<PeerMessage>, Malformed> {
        if self.bytes.len() + data.len() > MAX_PEER_MESSAGE_BYTES {
            return Err(Malformed::new("data", "makes the message exceed 8 MiB"));
        }
        self.bytes.extend_from_slice(data);
        if !last {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.bytes);
        let message = wire::PeerLinkMessage::decode(bytes.as_slice())
            .map_err(|error| Malformed::new("data", error.to_string()))?;
        let message = message
            .message
            .ok_or_else(|| Malformed::new("message", "is missing"))?;
        message_from_wire(message).map(Some)
    }
}

fn message_to_wire(message: &PeerMessage) -> Message {
    match message {
        PeerMessage::Hello(card) => Message::Hello(card_to_wire(card)),
        PeerMessage::Verdict { card, faults } => Message::Verdict(wire::PeerLinkVerdict {
            card_sha256: card.0.to_vec(),
            violations: faults.iter().map(fault_to_wire).collect(),
        }),
        PeerMessage::Heartbeat => Message::Heartbeat(wire::Heartbeat {}),
        PeerMessage::HeartbeatAnswer => Message::HeartbeatAnswer(wire::Heartbeat {}),
        PeerMessage::Offers {
            complete,
            offers,
            withdrawn,
        } => Message::Offers(wire::PeerLinkOffers {
            complete: *complete,
            offers: offers.iter().map(offer_to_wire).collect(),
            withdrawn: withdrawn.iter().map(withdrawn_to_wire).collect(),
        }),
        PeerMessage::Pull(pull) => Message::Pull(pull_to_wire(pull)),
        PeerMessage::Batch(batch) => Message::Batch(batch_to_wire(batch)),
        PeerMessage::Synced {
            group,
            digest,
            faults,
            corrections,
        } => Message::Synced(wire::PeerLinkSynced {
            group: group.to_string(),
            digest: digest.0.to_vec(),
            violations: faults.iter().map(fault_to_wire).collect(),
            corrections: corrections.iter().map(correction_to_wire).collect(),
        }),
        PeerMessage::Handover { group, members } => Message::Handover(wire::PeerLinkHandover {
            group: group.to_string(),
            members: members.iter().map(ToString::to_string).collect(),
        }),
        PeerMessage::Goodbye(goodbye) => Message::Goodbye(wire::PeerLinkGoodbye {
            reason: goodbye.name().to_owned(),
        }),
    }
}

fn message_from_wire(message: Message) -> Result<PeerMessage, Malformed> {
    Ok(match message {
        Message::Hello(card) => PeerMessage::Hello(Box::new(card_from_wire(card)?)),
        Message::Verdict(wire::PeerLinkVerdict {
            card_sha256,
            violations,
        }) => PeerMessage::Verdict {
            card: CardDigest(bytes32("verdict.card_sha256", &card_sha256)?),
            faults: faults_from_wire(&violations),
        },
        Message::Heartbeat(wire::Heartbeat {}) => PeerMessage::Heartbeat,
        Message::HeartbeatAnswer(wire::Heartbeat {}) => PeerMessage::HeartbeatAnswer,
        Message::Offers(wire::PeerLinkOffers {
            complete,
            offers,
            withdrawn,
        }) => PeerMessage::Offers {
            complete,
            offers: offers
                .into_iter()
                .map(offer_from_wire)
                .collect::<Result<_, _>>()?,
            withdrawn: withdrawn
                .into_iter()
                .map(withdrawn_from_wire)
                .collect::<Result<_, _>>()?,
        },
        Message::Pull(pull) => PeerMessage::Pull(pull_from_wire(pull)?),
        Message::Batch(batch) => PeerMessage::Batch(Box::new(batch_from_wire(batch)?)),
        Message::Synced(wire::PeerLinkSynced {
            group,
            digest,
            violations,
            corrections,
        }) => PeerMessage::Synced {
            group: group_id("synced.group", &group)?,
            digest: sync_digest("synced.digest", &digest)?,
            faults: faults_from_wire(&violations),
            corrections: corrections
                .into_iter()
                .map(correction_from_wire)
                .collect::<Result<_, _>>()?,
        },
        Message::Handover(wire::PeerLinkHandover { group, members }) => {
            let members = members.iter().map(|text| subcloud_id("members", text));
            PeerMessage::Handover {
                group: group_id("handover.group", &group)?,
                members: members.collect::<Result<_, _>>()?,
            }
        }
        Message::Goodbye(wire::PeerLinkGoodbye { reason }) => {
            let all = PeerGoodbye::ALL.into_iter();
            let known = all.clone().find(|known| known.name() == reason);
            let unknown = || Malformed::new("goodbye.reason", "is unknown");
            PeerMessage::Goodbye(known.ok_or_else(unknown)?)
        }
    })
}

/// What a site tells of itself.
pub fn card_to_wire(card: &PeerCard) -> wire::PeerCard {
    let PeerCard {
        controller,
        name,
        software_version,
        endpoints,
        networks,
        authority: Authority { key, certificate },
    } = card;
    wire::PeerCard {
        controller: controller.to_string(),
        name: name.clone(),
        software_version: software_version.to_string(),
        endpoints: urls(endpoints),
        networks: Some(networks_to_wire(networks)),
        authority_certificate: certificate.to_vec(),
        authority_sha256: key.0.to_vec(),
    }
}

/// What a site tells of itself. Whether the certificate is that of an authority with this key is
/// for the reader to see.
///
/// # Errors
/// The first field that cannot be read.
pub fn card_from_wire(card: wire::PeerCard) -> Result<PeerCard, Malformed> {
    let wire::PeerCard {
        controller,
        name,
        software_version,
        endpoints: listening,
        networks,
        authority_certificate,
        authority_sha256,
    } = card;
    let certificate = authority_certificate.len();
    if certificate > MAX_CERTIFICATE_BYTES {
        let problem = format!("has {certificate} bytes, at most {MAX_CERTIFICATE_BYTES} are read");
        return Err(Malformed::new("card.authority_certificate", problem));
    }
    Ok(PeerCard {
        controller: controller_from_text(&controller)?,
        name: short("card.name", name)?,
        software_version: parse_version(&software_version)
            .map_err(|problem| Malformed::new("card.software_version", problem))?,
        endpoints: endpoints(&listening)?,
        networks: networks_from_wire(&networks.unwrap_or_default())?,
        authority: Authority {
            key: Fingerprint(bytes32("card.authority_sha256", &authority_sha256)?),
            certificate: authority_certificate.into(),
        },
    })
}

fn offer_to_wire(offer: &Offer) -> wire::PeerLinkOffer {
    let Offer {
        group,
        digest,
        base,
        your_priority,
        generation,
    } = offer;
    wire::PeerLinkOffer {
        group: group.to_string(),
        digest: digest.0.to_vec(),
        base: base.map(|base| base.0.to_vec()).unwrap_or_default(),
        your_priority: *your_priority,
        generation: *generation,
    }
}

fn offer_from_wire(offer: wire::PeerLinkOffer) -> Result<Offer, Malformed> {
    let wire::PeerLinkOffer {
        group,
        digest,
        base,
        your_priority,
        generation,
    } = offer;
    Ok(Offer {
        group: group_id("offer.group", &group)?,
        digest: sync_digest("offer.digest", &digest)?,
        base: optional_digest("offer.base", &base)?,
        your_priority,
        generation,
    })
}

fn withdrawn_to_wire(withdrawn: &Withdrawn) -> wire::PeerLinkWithdrawn {
    let Withdrawn { group, generation } = withdrawn;
    wire::PeerLinkWithdrawn {
        group: group.to_string(),
        generation: *generation,
    }
}

fn withdrawn_from_wire(withdrawn: wire::PeerLinkWithdrawn) -> Result<Withdrawn, Malformed> {
    let wire::PeerLinkWithdrawn { group, generation } = withdrawn;
    Ok(Withdrawn {
        group: group_id("withdrawn.group", &group)?,
        generation,
    })
}

fn pull_to_wire(pull: &Pull) -> wire::PeerLinkPull {
    let Pull {
        group,
        digest,
        changes,
        after,
    } = pull;
    wire::PeerLinkPull {
        group: group.to_string(),
        digest: digest.0.to_vec(),
        changes: *changes,
        after: after.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn pull_from_wire(pull: wire::PeerLinkPull) -> Result<Pull, Malformed> {
    let wire::PeerLinkPull {
        group,
        digest,
        changes,
        after,
    } = pull;
    Ok(Pull {
        group: group_id("pull.group", &group)?,
        digest: sync_digest("pull.digest", &digest)?,
        changes,
        after: optional_subcloud("pull.after", &after)?,
    })
}

fn batch_to_wire(batch: &Batch) -> wire::PeerLinkBatch {
    let Batch {
        group,
        digest,
        changes,
        after,
        header,
        leader,
        priority,
        items,
        last,
    } = batch;
    wire::PeerLinkBatch {
        group: group.to_string(),
        digest: digest.0.to_vec(),
        changes: *changes,
        after: after.map(|id| id.to_string()).unwrap_or_default(),
        header: Some(header_to_wire(header)),
        leader: Some(leader_to_wire(leader)),
        priority: *priority,
        members: items.iter().map(member_to_wire).collect(),
        last: *last,
    }
}

fn batch_from_wire(batch: wire::PeerLinkBatch) -> Result<Batch, Malformed> {
    let wire::PeerLinkBatch {
        group,
        digest,
        changes,
        after,
        header,
        leader,
        priority,
        members,
        last,
    } = batch;
    let members = members.into_iter().map(member_from_wire);
    Ok(Batch {
        group: group_id("batch.group", &group)?,
        digest: sync_digest("batch.digest", &digest)?,
        changes,
        after: optional_subcloud("batch.after", &after)?,
        header: header_from_wire(header.unwrap_or_default())?,
        leader: leader_from_wire(leader.unwrap_or_default())?,
        priority,
        items: members.collect::<Result<_, _>>()?,
        last,
    })
}

pub(crate) fn header_to_wire(header: &GroupHeader) -> wire::PeerGroupHeader {
    let GroupHeader {
        name,
        max_subcloud_rehoming,
        places,
        revision,
        editor,
    } = header;
    let place = |(controller, priority): (&ControllerId, &u32)| wire::PeerGroupPlace {
        controller: controller.to_string(),
        priority: *priority,
    };
    wire::PeerGroupHeader {
        name: name.clone(),
        max_subcloud_rehoming: *max_subcloud_rehoming,
        places: places.iter().map(place).collect(),
        revision: *revision,
        editor: editor.to_string(),
    }
}

pub(crate) fn header_from_wire(header: wire::PeerGroupHeader) -> Result<GroupHeader, Malformed> {
    let wire::PeerGroupHeader {
        name,
        max_subcloud_rehoming,
        places,
        revision,
        editor,
    } = header;
    if places.len() > MAX_PEERS + 1 {
        let problem = format!(
            "has {} entries; a group has at most {MAX_PEERS} peers",
            places.len()
        );
        return Err(Malformed::new("header.places", problem));
    }
    let place = |place: wire::PeerGroupPlace| {
        let wire::PeerGroupPlace {
            controller,
            priority,
        } = place;
        Ok((controller_from_text(&controller)?, priority))
    };
    Ok(GroupHeader {
        name: short("header.name", name)?,
        max_subcloud_rehoming,
        places: places.into_iter().map(place).collect::<Result<_, _>>()?,
        revision,
        editor: controller_from_text(&editor)?,
    })
}

pub(crate) fn leader_to_wire(leader: &Leader) -> wire::PeerGroupLeader {
    let Leader {
        controller,
        name,
        priority,
        term,
    } = leader;
    wire::PeerGroupLeader {
        controller: controller.to_string(),
        name: name.clone(),
        priority: *priority,
        term: *term,
    }
}

pub(crate) fn leader_from_wire(leader: wire::PeerGroupLeader) -> Result<Leader, Malformed> {
    let wire::PeerGroupLeader {
        controller,
        name,
        priority,
        term,
    } = leader;
    Ok(Leader {
        controller: controller_from_text(&controller)?,
        name: short("leader.name", name)?,
        priority,
        term,
    })
}

fn correction_to_wire(correction: &Correction) -> wire::PeerLinkCorrection {
    let Correction {
        subcloud,
        owner,
        epoch,
        confirmed,
        member,
    } = correction;
    wire::PeerLinkCorrection {
        subcloud: subcloud.to_string(),
        owner: owner.to_string(),
        epoch: epoch.0,
        confirmed: *confirmed,
        member: *member,
    }
}

fn correction_from_wire(message: wire::PeerLinkCorrection) -> Result<Correction, Malformed> {
    let wire::PeerLinkCorrection {
        subcloud,
        owner,
        epoch,
        confirmed,
        member,
    } = message;
    Ok(Correction {
        subcloud: subcloud_id("correction.subcloud", &subcloud)?,
        owner: controller_from_text(&owner)?,
        epoch: Epoch(epoch),
        confirmed,
        member,
    })
}

fn member_to_wire(item: &SyncItem) -> wire::PeerLinkMember {
    let state = match item {
        SyncItem::Owned(record) => State::OwnedRecord(subcloud_to_record(record).encode_to_vec()),
        SyncItem::Elsewhere {
            subcloud,
            owner,
            epoch,
            confirmed,
        } => State::Elsewhere(wire::PeerLinkElsewhere {
            subcloud: subcloud.to_string(),
            owner: owner.to_string(),
            epoch: epoch.0,
            confirmed: *confirmed,
        }),
        SyncItem::Left(subcloud) => State::Left(subcloud.to_string()),
    };
    wire::PeerLinkMember { state: Some(state) }
}

fn member_from_wire(member: wire::PeerLinkMember) -> Result<SyncItem, Malformed> {
    match member.state {
        None => Err(Malformed::new("member.state", "is missing")),
        Some(State::OwnedRecord(bytes)) if bytes.len() > MAX_MEMBER_BYTES => {
            let problem = format!(
                "has {} bytes, at most {MAX_MEMBER_BYTES} are read",
                bytes.len()
            );
            Err(Malformed::new("member.owned_record", problem))
        }
        Some(State::OwnedRecord(bytes)) => {
            let record = SubcloudRecord::decode(bytes.as_slice())
                .map_err(|error| Malformed::new("member.owned_record", error.to_string()))?;
            let record = subcloud_from_record(record)?;
            Ok(SyncItem::Owned(Box::new(record)))
        }
        Some(State::Elsewhere(elsewhere)) => {
            let wire::PeerLinkElsewhere {
                subcloud,
                owner,
                epoch,
                confirmed,
            } = elsewhere;
            Ok(SyncItem::Elsewhere {
                subcloud: subcloud_id("elsewhere.subcloud", &subcloud)?,
                owner: controller_from_text(&owner)?,
                epoch: Epoch(epoch),
                confirmed,
            })
        }
        Some(State::Left(subcloud)) => Ok(SyncItem::Left(subcloud_id("member.left", &subcloud)?)),
    }
}

/// A name that is not longer than any name may be.
fn short(path: &str, name: String) -> Result<String, Malformed> {
    match name.len() {
        ..=MAX_NAME_BYTES => Ok(name),
        bytes => {
            let problem = format!("has {bytes} bytes, at most {MAX_NAME_BYTES} are read");
            Err(Malformed::new(path, problem))
        }
    }
}

pub(crate) fn group_id(path: &str, text: &str) -> Result<PeerGroupId, Malformed> {
    uuid(path, text).map(PeerGroupId)
}

pub(crate) fn subcloud_id(path: &str, text: &str) -> Result<SubcloudId, Malformed> {
    uuid(path, text).map(SubcloudId)
}

fn uuid(path: &str, text: &str) -> Result<uuid::Uuid, Malformed> {
    parse_uuid(text).map_err(|problem| Malformed::new(path, problem))
}

fn optional_subcloud(path: &str, text: &str) -> Result<Option<SubcloudId>, Malformed> {
    (!text.is_empty())
        .then(|| subcloud_id(path, text))
        .transpose()
}

pub(crate) fn optional_digest(path: &str, bytes: &[u8]) -> Result<Option<SyncDigest>, Malformed> {
    (!bytes.is_empty())
        .then(|| sync_digest(path, bytes))
        .transpose()
}

fn sync_digest(path: &str, bytes: &[u8]) -> Result<SyncDigest, Malformed> {
    bytes32(path, bytes).map(SyncDigest)
}
