//! The command line. `cargo test` gives every test target the flags of the standard harness, so
//! those are understood and, where they mean nothing here, ignored.

/// What to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) seeds: u64,
    pub(crate) first_seed: u64,
    pub(crate) trace: bool,
    pub(crate) world: Option<Kind>,
    pub(crate) list: bool,
    /// A filter names other tests.
    pub(crate) nothing: bool,
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

/// Flags of the standard harness that are followed by a value.
const WITH_VALUE: [&str; 6] = [
    "--test-threads",
    "--skip",
    "--format",
    "--color",
    "--logfile",
    "-Z",
];

impl Options {
    /// The worlds to play each seed in.
    pub(crate) fn worlds(&self) -> Vec<Kind> {
        match self.world {
            Some(kind) => vec![kind],
            None => Kind::ALL.to_vec(),
        }
    }

    /// Reads the arguments after the program's name.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seeds: DEFAULT_SEEDS,
            first_seed: 0,
            trace: false,
            world: None,
            list: false,
            nothing: false,
        };
        let mut filters = Vec::new();
        while let Some(argument) = arguments.next() {
            let (flag, attached) = match argument.split_once('=') {
                Some((flag, value)) if flag.starts_with('-') => (flag, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            let mut value = || attached.clone().or_else(|| arguments.next());
            match flag {
                "--seeds" => options.seeds = number(flag, value())?,
                "--first-seed" => options.first_seed = number(flag, value())?,
                "--world" => options.world = Some(kind(value())?),
                "--trace" => options.trace = true,
                "--list" => options.list = true,
                "--ignored" => options.nothing = true,
                "--skip" => {
                    options.nothing |= value().is_some_and(|skipped| NAME.contains(&skipped));
                }
                _ if WITH_VALUE.contains(&flag) => {
                    value();
                }
                _ if flag.starts_with('-') => {}
                filter => filters.push(filter.to_owned()),
            }
        }
        let wanted = |filter: &String| NAME.contains(filter.as_str());
        options.nothing |= !filters.is_empty() && !filters.iter().any(wanted);
        Ok(options)
    }
}

fn kind(value: Option<String>) -> Result<Kind, String> {
    let named = |kind: &Kind| Some(kind.name()) == value.as_deref();
    Kind::ALL
        .into_iter()
        .find(named)
        .ok_or_else(|| format!("--world is link or geo, not {value:?}"))
}

fn number(flag: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{flag} needs a number"))?;
    value
        .parse()
        .map_err(|_| format!("{flag} needs a number, not {value:?}"))
}
