//! Random batches against a map, with closing and opening in between.

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::{Action, CommitError, Expected, Record, Revision, Store, Write};

use crate::named;

type Model = BTreeMap<String, (Revision, Vec<u8>)>;

#[derive(Debug, Clone)]
enum Step {
    /// Enqueues these batches, and waits for all of them at the end.
    Commit(Vec<Vec<Change>>),
    Reopen,
}

/// A key, what its writer believes, and its new value, or none to delete it.
type Change = (u8, Guess, Option<Vec<u8>>);

/// What a writer believes: often right, for wrong ones end nothing but themselves.
#[derive(Debug, Clone)]
enum Guess {
    Right,
    Any,
    Absent,
    At(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let guess = prop_oneof![
        6 => Just(Guess::Right),
        2 => Just(Guess::Any),
        1 => Just(Guess::Absent),
        1 => (0..20u64).prop_map(Guess::At),
    ];
    let value = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..3000));
    let batch = prop::collection::vec((0..12u8, guess, value), 0..5);
    prop_oneof![
        5 => prop::collection::vec(batch, 1..5).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn store_is_a_map(steps in prop::collection::vec(step(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let dir = tempfile::tempdir()?;
        let mut store = Store::create(dir.path())?;
        let mut model = Model::new();
        let mut last = Revision::ZERO;
        for step in steps {
            match step {
                Step::Commit(batches) => {
                    let mut tickets = Vec::new();
                    for batch in batches {
                        let batch = writes(&model, batch);
                        let expected = apply(&mut model, &mut last, &batch);
                        let enqueued = store.enqueue(batch);
                        let reason = enqueued.as_ref().err().map(CommitError::reason);
                        prop_assert_eq!(reason, expected);
                        tickets.extend(enqueued.ok());
                    }
                    for ticket in tickets {
                        let revision = ticket.revision();
                        prop_assert_eq!(runtime.block_on(ticket.durable())?, revision);
                    }
                }
                Step::Reopen => {
                    store.close()?;
                    store = Store::open(dir.path())?;
                }
            }
            prop_assert_eq!(store.revision(), last);
            prop_assert_eq!(store.scan("")?, records(&model));
            for (key, (_, value)) in &model {
                let found = store.get(&named(key))?.map(|record| record.value);
                prop_assert_eq!(found.as_ref(), Some(value));
            }
        }
    }
}

fn writes(model: &Model, batch: Vec<Change>) -> Vec<Write> {
    let write = |(key, guess, value): Change| {
        let key = format!("key/{key:02}");
        let expected = match guess {
            Guess::Right => model
                .get(&key)
                .map_or(Expected::Absent, |(revision, _)| Expected::At(*revision)),
            Guess::Any => Expected::Any,
            Guess::Absent => Expected::Absent,
            Guess::At(revision) => Expected::At(Revision::new(revision)),
        };
        let action = value.map_or(Action::Delete, Action::Put);
        Write {
            key: named(&key),
            expected,
            action,
        }
    };
    batch.into_iter().map(write).collect()
}

/// What the store has to do with `batch`, told again in the simplest way.
fn apply(model: &mut Model, last: &mut Revision, batch: &[Write]) -> Option<&'static str> {
    if batch.is_empty() {
        return Some("STORE_EMPTY_BATCH");
    }
    let mut keys: Vec<_> = batch.iter().map(|write| &write.key).collect();
    keys.sort();
    keys.dedup();
    if keys.len() < batch.len() {
        return Some("STORE_DUPLICATE_KEY");
    }
    for write in batch {
        let found = model.get(write.key.as_str()).map(|(revision, _)| *revision);
        let fits = match write.expected {
            Expected::Absent => found.is_none(),
            Expected::At(revision) => found == Some(revision),
            Expected::Any => true,
        };
        if !fits {
            return Some("STORE_CONFLICT");
        }
    }
    *last = Revision::new(last.get() + 1);
    for write in batch {
        match &write.action {
            Action::Put(value) => model.insert(write.key.to_string(), (*last, value.clone())),
            Action::Delete => model.remove(write.key.as_str()),
        };
    }
    None
}

fn records(model: &Model) -> Vec<Record> {
    let record = |(key, (revision, value)): (&String, &(Revision, Vec<u8>))| Record {
        key: named(key),
        revision: *revision,
        value: value.clone(),
    };
    model.iter().map(record).collect()
}
