//! `path=value` arguments, as `oam-modify` and `dns-modify` take them, and clearing words.

use crate::failure::Failure;
use crate::nearest::nearest;

/// Words that clear a value.
const CLEARING: [&str; 6] = [
    "none",
    "null",
    "undefined",
    "unspecified",
    "nothing",
    "empty",
];

/// Whether the text asks to clear a value.
pub(crate) fn is_clearing(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || CLEARING.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// Reads `path=value` arguments whose paths are among `known`.
///
/// # Errors
/// The first argument that is no pair, names an unknown path, or names one twice.
pub(crate) fn pairs(
    arguments: &[String],
    known: &[&'static str],
) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut pairs: Vec<(&'static str, String)> = Vec::new();
    for argument in arguments {
        let Some((path, value)) = argument.split_once('=') else {
            let remedy = format!("write one of them as {}=VALUE", known.join("=VALUE, "));
            return Err(Failure::usage(
                format!("`{argument}` is not path=value"),
                remedy,
            ));
        };
        let path = path.trim_start_matches('/');
        let Some(found) = known.iter().find(|name| **name == path) else {
            let hint = match nearest(path, known.iter().copied()) {
                Some(name) => format!(" (did you mean `{name}`?)"),
                None => String::new(),
            };
            let remedy = format!("the paths are {}", known.join(", "));
            return Err(Failure::usage(
                format!("there is no path `{path}`{hint}"),
                remedy,
            ));
        };
        if pairs.iter().any(|(name, _)| name == found) {
            return Err(Failure::usage(
                format!("`{path}` is given twice"),
                "give it once",
            ));
        }
        pairs.push((found, value.trim().to_owned()));
    }
    Ok(pairs)
}
