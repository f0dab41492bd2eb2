//! Where the controller keeps what, and the fleet's writes as the store's.

use std::error::Error;

use api::convert::{
    Malformed, alarm_from_record, alarm_to_record, answered_from_record, answered_to_record,
    association_from_record, association_to_record, audit_to_record, event_from_record,
    event_to_record, group_from_record, group_to_record, parts_from_wire, parts_to_wire,
    peer_from_record, peer_group_from_record, peer_group_to_record, peer_to_record,
    subcloud_from_record, subcloud_to_record,
};
use api::store_v1::{
    AuthorityRecord, EventRecord, FleetAlarmRecord, FleetAnswerRecord, PeerGroupAssociationRecord,
    PeerGroupRecord, SubcloudGroupRecord, SubcloudRecord, SubcloudSiteRecord, SystemPeerRecord,
};
use daemon::{Exit, Failure};
use fleet::{Event, GroupId, PeerGroupId, PeerId, Position, Records, SubcloudId, Write};
use identity::{Ca, CaParts};
use prost::Message;
use site::Site;
use store::{Action, Expected, Key, Store};
use uuid::Uuid;

const AUTHORITY: &str = "authority";
const SUBCLOUDS: &str = "subcloud/";
const SITES: &str = "subcloud-site/";
const GROUPS: &str = "subcloud-group/";
const PEERS: &str = "system-peer/";
const PEER_GROUPS: &str = "peer-group/";
const ASSOCIATIONS: &str = "peer-group-association/";
const ANSWERS: &str = "fleet-answer/";
const ALARMS: &str = "alarm/";
const EVENTS: &str = "event/";
const AUDIT: &str = "audit/";

/// Entries of a log that are read at a time: some 300 KiB.
const LOG_PAGE: usize = 1000;

/// Where the certificate authority is.
pub(crate) fn authority_key() -> Key {
    key(AUTHORITY.to_owned())
}

/// Reads the certificate authority.
pub(crate) fn read_authority(store: &Store) -> Result<Ca, Failure> {
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "the certificate authority", error);
    let record = store
        .get(&authority_key())
        .map_err(|error| failed(&error))?;
    let record = record.ok_or_else(|| {
        Failure::new(
            Exit::Io,
            "the state directory has no certificate authority; run `init`",
        )
    })?;
    let AuthorityRecord {
        private_key,
        certificate,
    } = AuthorityRecord::decode(record.value.as_slice()).map_err(|error| failed(&error))?;
    let parts = CaParts {
        certificate_der: certificate,
        key_pkcs8_der: private_key,
    };
    Ca::from_parts(&parts).map_err(|error| failed(&error))
}

/// Reads what the fleet's machine starts from.
pub(crate) fn read_fleet(store: &Store) -> Result<Records, Failure> {
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "a record of the fleet", error);
    let newest = |prefix: &str| -> Result<Position, Failure> {
        let first = store
            .page(prefix, None, 1)
            .map_err(|error| failed(&error))?;
        Ok(first
            .first()
            .and_then(|record| position_of(prefix, &record.key))
            .unwrap_or_default())
    };
    Ok(Records {
        subclouds: read_all::<SubcloudRecord, _>(store, SUBCLOUDS, subcloud_from_record)?,
        groups: read_all::<SubcloudGroupRecord, _>(store, GROUPS, group_from_record)?,
        answers: read_all::<FleetAnswerRecord, _>(store, ANSWERS, answered_from_record)?,
        alarms: read_all::<FleetAlarmRecord, _>(store, ALARMS, alarm_from_record)?,
        peers: read_all::<SystemPeerRecord, _>(store, PEERS, peer_from_record)?,
        peer_groups: read_all::<PeerGroupRecord, _>(store, PEER_GROUPS, peer_group_from_record)?,
        associations: read_all::<PeerGroupAssociationRecord, _>(
            store,
            ASSOCIATIONS,
            association_from_record,
        )?,
        last_event: newest(EVENTS)?,
        last_audit: newest(AUDIT)?,
    })
}

/// Every record of one kind.
fn read_all<M: Message + Default, T>(
    store: &Store,
    prefix: &str,
    read: fn(M) -> Result<T, Malformed>,
) -> Result<Vec<T>, Failure> {
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "a record of the fleet", error);
    let mut all = Vec::new();
    for record in store.scan(prefix).map_err(|error| failed(&error))? {
        let message = M::decode(record.value.as_slice()).map_err(|error| failed(&error))?;
        all.push(read(message).map_err(|error| failed(&error))?);
    }
    Ok(all)
}

/// The accepted site of a subcloud; `None` when it has not reported one.
pub(crate) fn read_subcloud_site(store: &Store, id: SubcloudId) -> Result<Option<Site>, Failure> {
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "a subcloud's site", error);
    let record = store.get(&site_key(id)).map_err(|error| failed(&error))?;
    let Some(record) = record else {
        return Ok(None);
    };
    let message =
        SubcloudSiteRecord::decode(record.value.as_slice()).map_err(|error| failed(&error))?;
    let parts = parts_from_wire(&message.site.unwrap_or_default()).map_err(|faults| {
        let faults = faults
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        Failure::new(
            Exit::Io,
            format!("a subcloud's site cannot be read: {faults}"),
        )
    })?;
    Site::from_parts(parts)
        .map(Some)
        .map_err(|error| failed(&error))
}

/// Events older than `before` that are `wanted`, newest first, at most `limit`.
pub(crate) fn read_events(
    store: &Store,
    before: Option<Position>,
    limit: usize,
    wanted: impl Fn(&Event) -> bool,
) -> Result<Vec<Event>, Failure> {
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "the event log", error);
    let mut after = before.map(|position| log_key(EVENTS, position));
    let mut found = Vec::new();
    loop {
        let records = store
            .page(EVENTS, after.as_ref(), LOG_PAGE)
            .map_err(|error| failed(&error))?;
        let Some(last) = records.last() else {
            return Ok(found);
        };
        after = Some(last.key.clone());
        for record in &records {
            let position = position_of(EVENTS, &record.key).unwrap_or_default();
            let message =
                EventRecord::decode(record.value.as_slice()).map_err(|error| failed(&error))?;
            let event = event_from_record(position, message).map_err(|error| failed(&error))?;
            if wanted(&event) {
                found.push(event);
            }
            if found.len() == limit {
                return Ok(found);
            }
        }
    }
}

/// A write of the fleet's machine as one of the store. The machine is the only writer of these
/// records and knows what is there.
pub(crate) fn store_write(write: &Write) -> store::Write {
    let put = |key: Key, message: Vec<u8>| (key, Action::Put(message));
    let (key, action) = match write {
        Write::Subcloud(subcloud) => put(
            subcloud_key(subcloud.id),
            subcloud_to_record(subcloud).encode_to_vec(),
        ),
        Write::Site { subcloud, site } => {
            let record = SubcloudSiteRecord {
                site: Some(parts_to_wire(site)),
            };
            put(site_key(*subcloud), record.encode_to_vec())
        }
        Write::ForgetSubcloud(subcloud) => (subcloud_key(subcloud.id), Action::Delete),
        Write::ForgetSite(id) => (site_key(*id), Action::Delete),
        Write::Group(group) => put(group_key(group.id), group_to_record(group).encode_to_vec()),
        Write::ForgetGroup(id) => (group_key(*id), Action::Delete),
        Write::AnsweredCall(answered) => put(
            answer_key(&answered.key.id),
            answered_to_record(answered).encode_to_vec(),
        ),
        Write::ForgetAnswer(id) => (answer_key(id), Action::Delete),
        Write::Alarm(alarm) => put(
            alarm_key(alarm.uuid()),
            alarm_to_record(alarm).encode_to_vec(),
        ),
        Write::ForgetAlarm(uuid) => (alarm_key(*uuid), Action::Delete),
        Write::Event(event) => put(
            log_key(EVENTS, event.position),
            event_to_record(event).encode_to_vec(),
        ),
        Write::Audit(entry) => put(
            log_key(AUDIT, entry.position),
            audit_to_record(entry).encode_to_vec(),
        ),
        Write::Peer(peer) => put(peer_key(peer.id), peer_to_record(peer).encode_to_vec()),
        Write::ForgetPeer(id) => (peer_key(*id), Action::Delete),
        Write::PeerGroup(group) => put(
            peer_group_key(group.id),
            peer_group_to_record(group).encode_to_vec(),
        ),
        Write::ForgetPeerGroup(id) => (peer_group_key(*id), Action::Delete),
        Write::Association(association) => put(
            association_key(association.group, association.peer),
            association_to_record(association).encode_to_vec(),
        ),
        Write::ForgetAssociation(group, peer) => (association_key(*group, *peer), Action::Delete),
        Write::ForgetEvent(position) => (log_key(EVENTS, *position), Action::Delete),
        Write::ForgetAudit(position) => (log_key(AUDIT, *position), Action::Delete),
    };
    store::Write {
        key,
        expected: Expected::Any,
        action,
    }
}

fn subcloud_key(id: SubcloudId) -> Key {
    key(format!("{SUBCLOUDS}{id}"))
}

fn group_key(id: GroupId) -> Key {
    key(format!("{GROUPS}{id}"))
}

fn peer_key(id: PeerId) -> Key {
    key(format!("{PEERS}{id}"))
}

fn peer_group_key(id: PeerGroupId) -> Key {
    key(format!("{PEER_GROUPS}{id}"))
}

fn association_key(group: PeerGroupId, peer: PeerId) -> Key {
    key(format!("{ASSOCIATIONS}{group}/{peer}"))
}

/// The key of an answer. Ids of requests are free text, keys are not: hence the hash.
fn answer_key(request_id: &str) -> Key {
    let hash = ring::digest::digest(&ring::digest::SHA256, request_id.as_bytes());
    let hex = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    key(hex.fold(ANSWERS.to_owned(), |text, byte| text + &byte))
}

fn alarm_key(occurrence: Uuid) -> Key {
    key(format!("{ALARMS}{occurrence}"))
}

fn site_key(id: SubcloudId) -> Key {
    key(format!("{SITES}{id}"))
}

/// The place in a log, counted down so that the newest entry has the lowest key.
fn log_key(prefix: &str, position: Position) -> Key {
    key(format!("{prefix}{:020}", u64::MAX - position.0))
}

fn position_of(prefix: &str, key: &Key) -> Option<Position> {
    let counted_down: u64 = key.as_str().strip_prefix(prefix)?.parse().ok()?;
    Some(Position(u64::MAX - counted_down))
}

/// A key from a text that is valid by construction.
fn key(text: String) -> Key {
    Key::new(&text).unwrap_or_else(|error| unreachable!("the key {text} is fixed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_entries_come_first_and_give_their_place_back() {
        let keys: Vec<Key> = [3, 2, 1].map(|n| log_key(EVENTS, Position(n))).into();
        assert!(keys.is_sorted_by(|a, b| a.as_str() < b.as_str()));
        let places: Vec<_> = keys.iter().map(|key| position_of(EVENTS, key)).collect();
        assert_eq!(places, [3, 2, 1].map(|n| Some(Position(n))));
    }
}
