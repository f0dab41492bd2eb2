//! Pages of a list in a stable order.

use crate::convert::Malformed;

/// Entries of a page when the request does not say.
pub const DEFAULT_PAGE_SIZE: usize = 100;

/// The most entries of a page: with pools of a hundred allocations a page stays near 4 MiB,
/// the limit of common clients.
pub const MAX_PAGE_SIZE: usize = 1000;

/// Cuts one page out of `entries`, which come in the order of their keys. `token` is empty or
/// that of the page before. Returns the entries and the next token, which is empty on the last
/// page.
///
/// # Errors
/// Those of [`asked`].
pub fn page<T>(
    entries: impl Iterator<Item = (String, T)>,
    page_size: i32,
    token: &str,
) -> Result<(Vec<T>, String), Vec<Malformed>> {
    let (size, after) = asked(page_size, token)?;
    let mut rest = entries.skip_while(|(key, _)| !after.is_empty() && key.as_str() <= after);
    let mut last = String::new();
    let mut taken = Vec::new();
    for (key, entry) in rest.by_ref().take(size) {
        last = key;
        taken.push(entry);
    }
    let next = if rest.next().is_some() {
        token_of(&last)
    } else {
        String::new()
    };
    Ok((taken, next))
}

/// The number of entries that a request asks for, and the key after which they begin; an empty
/// one for the first page.
///
/// # Errors
/// All of: a size that [`page_size_of`] refuses, a token that no page gave.
pub fn asked(page_size: i32, token: &str) -> Result<(usize, &str), Vec<Malformed>> {
    match (page_size_of(page_size), key_of(token)) {
        (Ok(size), Some(key)) => Ok((size, key)),
        (size, key) => {
            let mut faults = size.err().unwrap_or_default();
            faults.extend(key.is_none().then(no_token));
            Err(faults)
        }
    }
}

/// The fault of a token that no page gave.
pub fn no_token() -> Malformed {
    Malformed::new("page_token", "is not the `next_page_token` of a page")
        .remedy("give that of the page before, or none for the first page")
}

/// The token of the page that follows the entry of a key. A key may be any name, so that only the
/// checksum in front of it tells it from a text that somebody made up.
fn token_of(key: &str) -> String {
    format!("{:08x}-{key}", checksum(key))
}

fn key_of(token: &str) -> Option<&str> {
    if token.is_empty() {
        return Some("");
    }
    let (_, key) = token.split_once('-')?;
    (token_of(key) == token).then_some(key)
}

/// FNV-1a, which does for texts that nobody forges: a forged token gets what any page has.
fn checksum(key: &str) -> u32 {
    let step = |sum: u32, byte: u8| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    key.bytes().fold(0x811c_9dc5, step)
}

/// The number of entries that a request asks for.
///
/// # Errors
/// A page size that is negative or above [`MAX_PAGE_SIZE`].
pub fn page_size_of(page_size: i32) -> Result<usize, Vec<Malformed>> {
    match usize::try_from(page_size) {
        Ok(0) => Ok(DEFAULT_PAGE_SIZE),
        Ok(size) if size <= MAX_PAGE_SIZE => Ok(size),
        _ => {
            let problem = format!("is {page_size}; it must be 0 to {MAX_PAGE_SIZE}");
            let valid = format!("give 0 for {DEFAULT_PAGE_SIZE}, or 1 to {MAX_PAGE_SIZE}");
            Err(vec![Malformed::new("page_size", problem).remedy(valid)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> impl Iterator<Item = (String, u32)> {
        (0..250).map(|n| (format!("{n:03}"), n))
    }

    #[test]
    fn pages_cover_everything_once() {
        for size in [0, 1, 7, 100, 249, 250, 251, 1000] {
            let mut seen = Vec::new();
            let mut token = String::new();
            loop {
                let (part, next) = page(entries(), size, &token).expect("a page");
                seen.extend(part);
                if next.is_empty() {
                    break;
                }
                token = next;
            }
            assert_eq!(seen, (0..250).collect::<Vec<_>>(), "page size {size}");
        }
    }

    #[test]
    fn a_bad_size_is_refused_and_not_clamped() {
        for size in [-1, 1001, i32::MAX, i32::MIN] {
            assert_eq!(
                page(entries(), size, "").expect_err("refused")[0].path,
                "page_size"
            );
        }
    }

    #[test]
    fn a_token_that_no_page_gave_is_refused() {
        let (_, token) = page(entries(), 7, "").expect("a page");
        let changed = token.replace('6', "7");
        let faults = |size, token: &str| {
            let faults = page(entries(), size, token).expect_err(token);
            faults
                .into_iter()
                .map(|fault| fault.path)
                .collect::<Vec<_>>()
        };
        for garbage in ["006", "x", "-", "00000000-006", "⚠", &token[1..], &changed] {
            assert_eq!(faults(0, garbage), ["page_token"]);
            assert_eq!(faults(-1, garbage), ["page_size", "page_token"]);
        }
        // An entry that has gone since is none of the client's business.
        let rest = entries().filter(|(key, _)| key != "006");
        assert_eq!(page(rest, 1, &token).expect("a page").0, [7]);
    }
}
