//! What the simulations have of a command line in common. `cargo test` gives every test target the
//! flags of the standard harness, so those are understood and, where they mean nothing here,
//! ignored.

/// What every simulation can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Common {
    pub(crate) seeds: u64,
    pub(crate) first_seed: u64,
    pub(crate) trace: bool,
    pub(crate) list: bool,
    /// A filter names other tests.
    pub(crate) nothing: bool,
}

/// Flags of the standard harness that are followed by a value.
const WITH_VALUE: [&str; 6] = [
    "--test-threads",
    "--skip",
    "--format",
    "--color",
    "--logfile",
    "-Z",
];

/// Reads the arguments after the program's name, for a target of this name. `own` is asked first
/// about each flag: whether it is one of the target's own; it may take the flag's value.
pub(crate) fn parse(
    name: &str,
    seeds: u64,
    mut arguments: impl Iterator<Item = String>,
    mut own: impl FnMut(&str, &mut dyn FnMut() -> Option<String>) -> Result<bool, String>,
) -> Result<Common, String> {
    let mut common = Common {
        seeds,
        first_seed: 0,
        trace: false,
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
        if own(flag, &mut value)? {
            continue;
        }
        match flag {
            "--seeds" => common.seeds = number(flag, value())?,
            "--first-seed" => common.first_seed = number(flag, value())?,
            "--trace" => common.trace = true,
            "--list" => common.list = true,
            "--ignored" => common.nothing = true,
            "--skip" => {
                common.nothing |= value().is_some_and(|skipped| name.contains(&skipped));
            }
            _ if WITH_VALUE.contains(&flag) => {
                value();
            }
            _ if flag.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let wanted = |filter: &String| name.contains(filter.as_str());
    common.nothing |= !filters.is_empty() && !filters.iter().any(wanted);
    Ok(common)
}

fn number(flag: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{flag} needs a number"))?;
    value
        .parse()
        .map_err(|_| format!("{flag} needs a number, not {value:?}"))
}
