//! The command line.

use crate::harness::{self, Common};

/// What to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) common: Common,
    /// Only this process, and only the first seed: what the others are started for.
    pub(crate) play: bool,
    /// What is broken on purpose in that seed.
    pub(crate) sabotage: Option<Sabotage>,
}

/// What can be broken on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// The disk of a controller that crashes forgets what was acknowledged.
    ForgetfulController,
    /// The disk of a controller that crashes forgets the newest report of a site.
    LostReport,
    /// The disk of an agent that crashes forgets whom it obeys.
    ForgetfulAgent,
    /// Sites that were cut off are never connected again.
    NeverHealed,
}

impl Sabotage {
    pub(crate) const ALL: [Self; 4] = [
        Self::ForgetfulController,
        Self::LostReport,
        Self::ForgetfulAgent,
        Self::NeverHealed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ForgetfulController => "forgetful-controller",
            Self::LostReport => "lost-report",
            Self::ForgetfulAgent => "forgetful-agent",
            Self::NeverHealed => "never-healed",
        }
    }
}

/// How many seeds are played when none are asked for.
pub(crate) const DEFAULT_SEEDS: u64 = 50;

/// The name under which filters know this target.
pub(crate) const NAME: &str = "drivers";

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut play, mut broken) = (false, None);
        let common = harness::parse(NAME, DEFAULT_SEEDS, arguments, |flag, value| {
            match flag {
                "--play" => play = true,
                "--sabotage" => broken = Some(sabotage(value())?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Self {
            common,
            play,
            sabotage: broken,
        })
    }
}

fn sabotage(value: Option<String>) -> Result<Sabotage, String> {
    let named = |known: &Sabotage| Some(known.name()) == value.as_deref();
    let known = Sabotage::ALL.into_iter().find(named);
    known.ok_or_else(|| format!("--sabotage does not know {value:?}"))
}
