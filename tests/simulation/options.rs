//! The command line.

use crate::harness::{self, Common};

/// What to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) common: Common,
    pub(crate) world: Option<Kind>,
}

/// A kind of world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One controller and its subclouds.
    Link,
    /// Several controllers that are peers.
    Geo,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Link, Self::Geo];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Geo => "geo",
        }
    }
}

/// How many seeds are played of each kind of world when none are asked for: some ninety seconds
/// of two processors.
pub(crate) const DEFAULT_SEEDS: u64 = 10_000;

/// The name under which filters know this target.
pub(crate) const NAME: &str = "simulation";

impl Options {
    /// The worlds to play each seed in.
    pub(crate) fn worlds(&self) -> Vec<Kind> {
        match self.world {
            Some(kind) => vec![kind],
            None => Kind::ALL.to_vec(),
        }
    }

    /// Reads the arguments after the program's name.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut world = None;
        let common = harness::parse(NAME, DEFAULT_SEEDS, arguments, |flag, value| {
            if flag != "--world" {
                return Ok(false);
            }
            world = Some(kind(value())?);
            Ok(true)
        })?;
        Ok(Self { common, world })
    }
}

fn kind(value: Option<String>) -> Result<Kind, String> {
    let named = |kind: &Kind| Some(kind.name()) == value.as_deref();
    Kind::ALL
        .into_iter()
        .find(named)
        .ok_or_else(|| format!("--world is link or geo, not {value:?}"))
}
