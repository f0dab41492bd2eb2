//! Names of records.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest key, in bytes. The longest in use, `subcloud/` or `audit/` with an id, has about 50;
/// the limit leaves room for one more level of ids and keeps the index in memory small.
pub const MAX_KEY_BYTES: usize = 255;

/// The name of a record, such as `site` or `subcloud/7b0c…`: segments of ASCII letters, digits,
/// `.`, `_`, `-` and `:`, separated by single slashes, at most [`MAX_KEY_BYTES`] long.
///
/// Keys are ordered by their bytes, so numbers in them need leading zeros to sort.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// Checks `text` and makes a key of it.
    ///
    /// # Errors
    ///
    /// [`KeyError`] with everything that is wrong with `text`.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let faults = faults(text);
        if faults.is_empty() {
            Ok(Self(text.into()))
        } else {
            Err(KeyError {
                text: text.chars().take(MAX_KEY_BYTES).collect(),
                faults,
            })
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that is not a key, with every reason why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a key of the store: {}", list(faults))]
pub struct KeyError {
    /// The refused text, its first [`MAX_KEY_BYTES`] characters.
    pub text: String,
    /// What is wrong with it; at least one.
    pub faults: Vec<KeyFault>,
}

/// One thing that is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// Longer than [`MAX_KEY_BYTES`].
    #[error("it has {bytes} bytes, at most {MAX_KEY_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Nothing before, between or after slashes.
    #[error("segment {number} is empty")]
    EmptySegment {
        /// Which segment, counted from 1.
        number: usize,
    },
    /// `.` or `..`, which would not be a name if keys became paths one day.
    #[error("segment {number} is \".\" or \"..\"")]
    DotSegment {
        /// Which segment, counted from 1.
        number: usize,
    },
    /// A character that keys do not have.
    #[error("{character:?} at byte {at} is not a letter, a digit or one of ._-:/")]
    BadCharacter {
        /// The character.
        character: char,
        /// Its offset in bytes.
        at: usize,
    },
}

fn faults(text: &str) -> Vec<KeyFault> {
    if text.len() > MAX_KEY_BYTES {
        // A text of any length may come here; what else is wrong with it does not matter.
        return vec![KeyFault::TooLong { bytes: text.len() }];
    }
    let segments = text
        .split('/')
        .enumerate()
        .filter_map(|(index, segment)| match segment {
            "" => Some(KeyFault::EmptySegment { number: index + 1 }),
            "." | ".." => Some(KeyFault::DotSegment { number: index + 1 }),
            _ => None,
        });
    let characters = text
        .char_indices()
        .filter(|(_, character)| !allowed(*character))
        .map(|(at, character)| KeyFault::BadCharacter { character, at });
    segments.chain(characters).collect()
}

fn allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | ':' | '/')
}

fn list(faults: &[KeyFault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::new(&text)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}
