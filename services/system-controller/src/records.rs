//! Where the controller keeps what, and the fleet's writes as the store's.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use api::convert::{
    Malformed, alarm_from_record, alarm_to_record, answered_from_record, answered_to_record,
    association_from_record, association_to_record, audit_to_record, event_to_record,
    group_from_record, group_to_record, operator_from_record, operator_to_record, parts_from_wire,
    parts_to_wire, peer_from_record, peer_group_from_record, peer_group_to_record, peer_to_record,
    subcloud_from_record, subcloud_to_record,
};
use api::store_v1::{
    AuthorityRecord, FleetAlarmRecord, FleetAnswerRecord, OperatorRecord,
    PeerGroupAssociationRecord, PeerGroupRecord, StartRecord, SubcloudGroupRecord, SubcloudRecord,
    SubcloudSiteRecord, SystemPeerRecord,
};
use daemon::{Exit, Failure};
use fleet::{GroupId, Operator, PeerGroupId, PeerId, Position, Records, SubcloudId, Write};
use identity::{Ca, CaParts};
use prost::Message;
use site::{Site, Timestamp};
use store::{Action, Expected, Key, Store};
use uuid::Uuid;

const AUTHORITY: &str = "authority";
const SUBCLOUDS: &str = "subcloud/";
const SITES: &str = "subcloud-site/";
const OPERATORS: &str = "operator/";
const START: &str = "start";
pub(crate) const EVENTS: &str = "event/";
pub(crate) const AUDIT: &str = "audit/";
const GROUPS: &str = "subcloud-group/";
const PEERS: &str = "system-peer/";
const PEER_GROUPS: &str = "peer-group/";
const ASSOCIATIONS: &str = "peer-group-association/";
const ANSWERS: &str = "fleet-answer/";
const ALARMS: &str = "alarm/";

/// Entries of a log that are read at a time: some 300 KiB.
pub(crate) const LOG_PAGE: usize = 1000;

/// Where the certificate authority is.
fn authority_key() -> Key {
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

/// The write that keeps a new authority.
pub(crate) fn authority_write(authority: &Ca) -> store::Write {
    let CaParts {
        certificate_der,
        key_pkcs8_der,
    } = authority.to_parts();
    let record = AuthorityRecord {
        private_key: key_pkcs8_der,
        certificate: certificate_der,
    };
    store::Write {
        key: authority_key(),
        expected: Expected::Absent,
        action: Action::Put(record.encode_to_vec()),
    }
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
    let subclouds = read_all::<SubcloudRecord, _>(store, SUBCLOUDS, subcloud_from_record)?;
    Ok(Records {
        subclouds: subclouds.into_iter().map(Arc::new).collect(),
        groups: read_all::<SubcloudGroupRecord, _>(store, GROUPS, group_from_record)?,
        answers: read_all::<FleetAnswerRecord, _>(store, ANSWERS, answered_from_record)?,
        alarms: read_all::<FleetAlarmRecord, _>(store, ALARMS, alarm_from_record)?,
        operators: read_operators(store)?,
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

/// Numbers this start of the controller; the number is durable when this ends, and greater than
/// that of every start before, also of those that a restored backup does not know.
pub(crate) async fn count_start(store: &Store) -> Result<u64, Failure> {
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "the number of starts", error);
    let known = store
        .get(&key(START.to_owned()))
        .map_err(|error| failed(&error))?;
    let known = known.map(|record| StartRecord::decode(record.value.as_slice()));
    let known = known.transpose().map_err(|error| failed(&error))?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_1970.unwrap_or_default().as_secs();
    let count = start_number(known.unwrap_or_default().count, seconds);
    let write = store::Write {
        key: key(START.to_owned()),
        expected: Expected::Any,
        action: Action::Put(StartRecord { count }.encode_to_vec()),
    };
    store
        .commit(vec![write])
        .await
        .map_err(|error| failed(&error))?;
    Ok(count)
}

/// The second of a start numbers it. A number that was counted up would come again after a restore,
/// and watchers would take the changes of one process for those of another. Two starts in a second,
/// or a clock that was set back, are counted up all the same.
fn start_number(known: u64, seconds: u64) -> u64 {
    seconds.max(known + 1)
}

/// Reads every operator, by name.
pub(crate) fn read_operators(store: &Store) -> Result<Vec<Operator>, Failure> {
    let failed = |error: &dyn Error| Failure::because(Exit::Io, "an operator's record", error);
    let records = store.scan(OPERATORS).map_err(|error| failed(&error))?;
    let read = |record: &store::Record| {
        let message =
            OperatorRecord::decode(record.value.as_slice()).map_err(|error| failed(&error))?;
        operator_from_record(message).map_err(|error| failed(&error))
    };
    records.iter().map(read).collect()
}

/// When an entry of a log was written: both kinds of records begin with it. One that cannot be
/// read is as old as can be.
pub(crate) fn at_of(record: &[u8]) -> Timestamp {
    let read = LogTime::decode(record);
    Timestamp(read.map_or(0, |read| read.at_milliseconds))
}

/// What records of both logs have in common.
#[derive(Clone, PartialEq, Eq, Message)]
struct LogTime {
    #[prost(uint64, tag = "1")]
    at_milliseconds: u64,
}

/// The writes of one commit of the fleet's machine as those of the store, which takes one for each
/// record: of several writes of a record the last is what the machine means.
pub(crate) fn store_writes(writes: &[Write]) -> Vec<store::Write> {
    let mut later = HashSet::new();
    let last = writes.iter().rev().map(store_write);
    let mut batch: Vec<store::Write> = last
        .filter(|write| later.insert(write.key.clone()))
        .collect();
    batch.reverse();
    batch
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
        Write::Operator(operator) => put(
            key(format!("{OPERATORS}{}", operator.name)),
            operator_to_record(operator).encode_to_vec(),
        ),
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
pub(crate) fn log_key(prefix: &str, position: Position) -> Key {
    key(format!("{prefix}{:020}", u64::MAX - position.0))
}

pub(crate) fn position_of(prefix: &str, key: &Key) -> Option<Position> {
    let counted_down: u64 = key.as_str().strip_prefix(prefix)?.parse().ok()?;
    Some(Position(u64::MAX - counted_down))
}

/// A key from a text that is valid by construction.
pub(crate) fn key(text: String) -> Key {
    Key::new(&text).unwrap_or_else(|error| unreachable!("the key {text} is fixed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_backup_repeats_no_number_of_a_start() {
        let backup = start_number(7, 1_800_000_000);
        let lost = [1_800_000_010, 1_800_000_010, 1_800_000_005];
        let lost = lost.iter().fold(vec![backup], |mut numbers, seconds| {
            numbers.push(start_number(numbers[numbers.len() - 1], *seconds));
            numbers
        });
        assert!(lost.is_sorted_by(|a, b| a < b), "{lost:?}");
        assert!(start_number(backup, 1_800_000_020) > lost[lost.len() - 1]);
    }

    #[test]
    fn newer_entries_come_first_and_give_their_place_back() {
        let keys: Vec<Key> = [3, 2, 1].map(|n| log_key(EVENTS, Position(n))).into();
        assert!(keys.is_sorted_by(|a, b| a.as_str() < b.as_str()));
        let places: Vec<_> = keys.iter().map(|key| position_of(EVENTS, key)).collect();
        assert_eq!(places, [3, 2, 1].map(|n| Some(Position(n))));
    }
}
