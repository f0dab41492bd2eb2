//! Pages of a list in a stable order.

use crate::convert::Malformed;

/// Entries of a page when the request does not say.
pub const DEFAULT_PAGE_SIZE: usize = 100;

/// The most entries of a page: with pools of a hundred allocations a page stays near 4 MiB,
/// the limit of common clients.
pub const MAX_PAGE_SIZE: usize = 1000;

/// Cuts one page out of `entries`, which come in the order of their keys. `token` is empty or
/// the key of the last entry of the page before. Returns the entries and the next token, which
/// is empty on the last page.
///
/// # Errors
/// A page size that is negative or above [`MAX_PAGE_SIZE`].
pub fn page<T>(
    entries: impl Iterator<Item = (String, T)>,
    page_size: i32,
    token: &str,
) -> Result<(Vec<T>, String), Vec<Malformed>> {
    let size = page_size_of(page_size)?;
    let mut rest = entries.skip_while(|(key, _)| !token.is_empty() && key.as_str() <= token);
    let mut last = String::new();
    let mut taken = Vec::new();
    for (key, entry) in rest.by_ref().take(size) {
        last = key;
        taken.push(entry);
    }
    let next = if rest.next().is_some() {
        last
    } else {
        String::new()
    };
    Ok((taken, next))
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
            Err(vec![Malformed::new("page_size", problem)])
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
}
