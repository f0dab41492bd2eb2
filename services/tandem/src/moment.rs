//! Ranges of time on the command line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A range of time.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Period {
    /// Only from this moment on: RFC 3339 such as 2026-01-31T08:00:00Z, or how long ago, such as
    /// 30s, 15m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Only before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
}

impl Period {
    /// Milliseconds since the Unix epoch; 0 for no bound.
    pub(crate) fn since(self) -> u64 {
        self.since.unwrap_or(0)
    }

    /// Milliseconds since the Unix epoch; 0 for no bound.
    pub(crate) fn until(self) -> u64 {
        self.until.unwrap_or(0)
    }
}

/// Reads a moment as milliseconds since the Unix epoch.
fn moment(text: &str) -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    moment_at(text, now.unwrap_or(Duration::ZERO))
}

fn moment_at(text: &str, now: Duration) -> Result<u64, String> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Some(ago) = ago(text) {
        return Ok(milliseconds(now.saturating_sub(ago)).max(1));
    }
    let read = OffsetDateTime::parse(text, &Rfc3339).ok();
    let nanoseconds = read.map(|at| at.unix_timestamp_nanos() / 1_000_000);
    nanoseconds
        .and_then(|at| u64::try_from(at).ok())
        .filter(|at| *at > 0)
        .ok_or_else(|| {
            "write it like 2026-01-31T08:00:00Z, or how long ago, like 30s, 15m, 2h or 7d"
                .to_owned()
        })
}

/// A number and a unit.
fn ago(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_or_ago() {
        let now = Duration::from_secs(1_000_000);
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(moment_at(text, now).ok(), want, "{text}");
        };
        check("30s", Some(999_970_000));
        check("15m", Some(999_100_000));
        check("2h", Some(992_800_000));
        check("7d", Some(395_200_000));
        check("100000d", Some(1));
        check("1970-01-01T00:00:10Z", Some(10_000));
        check("1970-01-01T01:00:10.5+01:00", Some(10_500));
        for text in [
            "",
            "h",
            "-5m",
            "5 m",
            "5w",
            "yesterday",
            "2026-01-31",
            "18446744073709551615d",
        ] {
            check(text, None);
        }
    }
}
