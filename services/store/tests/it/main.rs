//! The store through its public interface.

mod conformance;
mod damage;
mod directory;
mod failing_disk;
mod group_commit;
mod keys;
mod model;

use std::error::Error;

use store::{Action, Expected, Key, Revision, Write};

/// What a test returns: any error fails it.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A write of `value` under `key`.
fn put(key: &str, expected: Expected, value: &[u8]) -> Write {
    Write {
        key: named(key),
        expected,
        action: Action::Put(value.to_vec()),
    }
}

/// A removal of `key`.
fn delete(key: &str, expected: Expected) -> Write {
    Write {
        key: named(key),
        expected,
        action: Action::Delete,
    }
}

/// A key that a test spelled right.
fn named(key: &str) -> Key {
    key.parse().expect("a valid key")
}

/// A record that was last written at `revision`.
fn at(revision: u64) -> Expected {
    Expected::At(Revision::new(revision))
}
