//! The command line. `cargo test` gives every test target the flags of the standard harness, so
//! those are understood and, where they mean nothing here, ignored.

/// What to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) seeds: u64,
    pub(crate) first_seed: u64,
    pub(crate) trace: bool,
    /// Only this process, and only the first seed: what the others are started for.
    pub(crate) play: bool,
    /// What is broken on purpose in that seed.
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) list: bool,
    /// A filter names other tests.
    pub(crate) nothing: bool,
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
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seeds: DEFAULT_SEEDS,
            first_seed: 0,
            trace: false,
            play: false,
            sabotage: None,
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
                "--trace" => options.trace = true,
                "--play" => options.play = true,
                "--sabotage" => options.sabotage = Some(sabotage(value())?),
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

fn sabotage(value: Option<String>) -> Result<Sabotage, String> {
    let named = |known: &Sabotage| Some(known.name()) == value.as_deref();
    let known = Sabotage::ALL.into_iter().find(named);
    known.ok_or_else(|| format!("--sabotage does not know {value:?}"))
}

fn number(flag: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{flag} needs a number"))?;
    value
        .parse()
        .map_err(|_| format!("{flag} needs a number, not {value:?}"))
}
