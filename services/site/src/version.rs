//! Software versions.

use std::fmt;
use std::str::FromStr;

use crate::SoftwareVersion;

impl SoftwareVersion {
    /// The first version that knows dual-stack (I9).
    pub const DUAL_STACK: Self = Self { year: 24, month: 9 };
}

/// A text that is not a version `YY.MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a version like 24.09")]
pub struct NotAVersion;

impl FromStr for SoftwareVersion {
    type Err = NotAVersion;

    /// Reads exactly two digits, a dot, and two digits of a month.
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let (year, month) = text.split_once('.').ok_or(NotAVersion)?;
        let two = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if !two(year) || !two(month) {
            return Err(NotAVersion);
        }
        let month = month.parse().map_err(|_| NotAVersion)?;
        if !(1..=12).contains(&month) {
            return Err(NotAVersion);
        }
        Ok(Self {
            year: year.parse().map_err(|_| NotAVersion)?,
            month,
        })
    }
}

impl fmt::Display for SoftwareVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}.{:02}", self.year, self.month)
    }
}
