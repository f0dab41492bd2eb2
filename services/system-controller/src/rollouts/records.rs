//! Where rollouts and their members are kept.

use std::collections::BTreeSet;
use std::error::Error;

use api::convert::{
    Malformed, member_from_record, member_to_record, rollout_from_record, rollout_to_record,
};
use api::store_v1::{RolloutMemberRecord, RolloutRecord};
use daemon::{Exit, Failure, fatal};
use fleet::{Member, Rollout, RolloutId, RolloutRecords, RolloutWrite, SubcloudId};
use prost::Message;
use store::{Action, Expected, Key, Record, Store, Write};

use crate::records::key;

const ROLLOUTS: &str = "rollout/";
const MEMBERS: &str = "rollout-member/";

/// Members that are forgotten in one write.
const FORGOTTEN_AT_ONCE: usize = 2000;

/// What the machine starts from: every rollout, the members of the open ones, and those of a
/// rollout whose making a crash cut short (it would have the next number). The fleet tells the
/// changes that it misses.
pub(super) fn read_all(
    store: &Store,
    missed: BTreeSet<(RolloutId, SubcloudId)>,
) -> Result<RolloutRecords, Failure> {
    let rollouts = read_rollouts(store)?;
    let next = rollouts
        .iter()
        .map(|known| known.id.0)
        .max()
        .unwrap_or_default()
        + 1;
    let open = rollouts
        .iter()
        .filter(|known| known.is_open())
        .map(|known| known.id);
    let mut members = Vec::new();
    for id in open.chain([RolloutId(next)]) {
        let of_rollout = read_members(store, id)?;
        members.extend(of_rollout.into_iter().map(|member| (id, member)));
    }
    Ok(RolloutRecords {
        rollouts,
        members,
        missed,
    })
}

/// Every rollout, by number.
pub(crate) fn read_rollouts(store: &Store) -> Result<Vec<Rollout>, Failure> {
    let records = store.scan(ROLLOUTS).map_err(|error| failed(&error))?;
    records.iter().map(rollout_of).collect()
}

/// One rollout.
pub(crate) fn read_rollout(store: &Store, id: RolloutId) -> Result<Option<Rollout>, Failure> {
    let record = store
        .get(&rollout_key(id))
        .map_err(|error| failed(&error))?;
    record.as_ref().map(rollout_of).transpose()
}

/// The members of a rollout, by uuid.
pub(crate) fn read_members(store: &Store, id: RolloutId) -> Result<Vec<Member>, Failure> {
    let records = store
        .scan(&member_prefix(id))
        .map_err(|error| failed(&error))?;
    let member = |record: &Record| {
        let message = RolloutMemberRecord::decode(record.value.as_slice());
        let message = message.map_err(|error| failed(&error))?;
        member_from_record(message).map_err(|error: Malformed| failed(&error))
    };
    records.iter().map(member).collect()
}

fn rollout_of(record: &Record) -> Result<Rollout, Failure> {
    let message = RolloutRecord::decode(record.value.as_slice()).map_err(|error| failed(&error))?;
    rollout_from_record(message).map_err(|error| failed(&error))
}

fn failed(error: &dyn Error) -> Failure {
    Failure::because(Exit::Io, "the record of a rollout", error)
}

/// Forgets a closed rollout: its record last, so that a crash between leaves it to be forgotten
/// again.
pub(super) async fn forget(store: &Store, id: RolloutId) {
    loop {
        let page = store.page(&member_prefix(id), None, FORGOTTEN_AT_ONCE);
        let keys: Vec<Key> = match page {
            Ok(records) => records.into_iter().map(|record| record.key).collect(),
            Err(error) => return tracing::error!(%error, rollout = id.0, "cannot be forgotten"),
        };
        let last = keys.is_empty();
        let keys = if last { vec![rollout_key(id)] } else { keys };
        let batch = keys
            .into_iter()
            .map(|key| write(key, Action::Delete))
            .collect();
        let forgotten = match store.enqueue_when_room(batch) {
            Ok(forgotten) => forgotten.durable().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            fatal("an old rollout could not be forgotten", &error);
        }
        if last {
            return;
        }
    }
}

/// A write of the machine as one of the store.
pub(super) fn store_write(wanted: &RolloutWrite) -> Write {
    match wanted {
        RolloutWrite::Rollout(rollout) => {
            let record = rollout_to_record(rollout).encode_to_vec();
            write(rollout_key(rollout.id), Action::Put(record))
        }
        RolloutWrite::Member(rollout, member) => {
            let record = member_to_record(member).encode_to_vec();
            write(member_key(*rollout, member.subcloud), Action::Put(record))
        }
        RolloutWrite::ForgetMember(rollout, subcloud) => {
            write(member_key(*rollout, *subcloud), Action::Delete)
        }
    }
}

fn write(key: Key, action: Action) -> Write {
    Write {
        key,
        expected: Expected::Any,
        action,
    }
}

/// Numbers have twenty digits in keys, so that their order is that of the numbers.
fn rollout_key(id: RolloutId) -> Key {
    key(format!("{ROLLOUTS}{:020}", id.0))
}

fn member_prefix(id: RolloutId) -> String {
    format!("{MEMBERS}{:020}/", id.0)
}

fn member_key(id: RolloutId, subcloud: SubcloudId) -> Key {
    key(format!("{}{subcloud}", member_prefix(id)))
}
