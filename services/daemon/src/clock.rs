//! The clock of the process: it never leaps by itself and never goes back.
//!
//! Every timer of the machines is a moment of this clock. If it were the wall clock, a step forward
//! would make healthy links look dead, and a step back would stop all timers until that time has
//! come again. So it begins at the wall clock, goes on with the monotonic one, and follows the wall
//! clock by going at most 5% faster or slower. Only the agent, which can begin anew, lets it leap
//! ([`follow`]). Certificates are judged by the wall clock itself.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use site::Timestamp;

/// In so many nanoseconds the clock may gain or lose one: 5%.
const PACE: i128 = 20;

/// A wall clock that is farther away is reported. Nanoseconds.
const WORTH_A_WARNING: i128 = 10_000_000_000;

/// When [`follow`] does not wait until the clocks meet. Nanoseconds.
const TOO_FAR: i128 = 60_000_000_000;

/// Clocks that are not farther apart have met: the resolution of a [`Timestamp`]. Nanoseconds.
const MET: i128 = 1_000_000;

const NANOSECONDS_A_MILLISECOND: i128 = 1_000_000;

/// Both clocks of the system must be read within this time: a thread may be stopped in between.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A moment of the process's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// What the clock shows.
    pub at: Timestamp,
    /// How often it has leapt since the process started. Moments before and after a leap must not
    /// be compared.
    pub leaps: u64,
}

/// The time: that of the wall clock, unless that was set while the process ran.
pub fn now() -> Timestamp {
    of_process(Clock::read).at
}

/// As [`now`], but a clock that is more than 60 s away from the wall clock leaps there at once.
///
/// Only for a process that begins all its timers anew when [`Moment::leaps`] has grown.
pub fn follow() -> Moment {
    of_process(Clock::follow)
}

/// Reads the one clock of this process.
fn of_process(read: impl FnOnce(&mut Clock, Reading) -> (i128, Option<News>)) -> Moment {
    static PROCESS: OnceLock<(Instant, Mutex<Clock>)> = OnceLock::new();
    let (begun, clock) = PROCESS.get_or_init(|| {
        let begun = Instant::now();
        (begun, Mutex::new(Clock::new(Reading::since(begun))))
    });
    let (shown, news, leaps) = {
        let mut clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
        // Within the lock, so that what is shown never goes back, whoever asks.
        let (shown, news) = read(&mut clock, Reading::since(*begun));
        (shown, news, clock.leaps)
    };
    if let Some(news) = news {
        news.log();
    }
    let milliseconds = shown.max(0) / NANOSECONDS_A_MILLISECOND;
    Moment {
        at: Timestamp(u64::try_from(milliseconds).unwrap_or(u64::MAX)),
        leaps,
    }
}

/// What the system's clocks show at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Nanoseconds since some moment, which stays the same.
    monotonic: i128,
    /// Nanoseconds since 1970, or 0 before that.
    wall: i128,
}

impl Reading {
    fn since(begun: Instant) -> Self {
        loop {
            let before = Instant::now();
            let wall = SystemTime::now();
            let after = Instant::now();
            if after.saturating_duration_since(before) < AT_ONCE {
                return Self {
                    // Simulated hosts share a process, and one may be behind another.
                    monotonic: nanoseconds(after.saturating_duration_since(begun))
                        - nanoseconds(begun.saturating_duration_since(after)),
                    wall: nanoseconds(wall.duration_since(UNIX_EPOCH).unwrap_or_default()),
                };
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

/// A clock that is made of two: of the monotonic one, whose pace it has, and of the wall clock,
/// whose time it takes on.
#[derive(Debug)]
struct Clock {
    /// How far it is ahead of the monotonic clock. Nanoseconds.
    offset: i128,
    /// How far the wall clock was ahead of it after the last reading. Nanoseconds.
    gap: i128,
    /// Until which moment of the monotonic clock it has used its right to gain or lose: a multiple
    /// of [`PACE`] after the first, so that no nanosecond of it is lost to frequent readings.
    spent: i128,
    /// The wall clock was reported to be far away, and has not been met since.
    apart: bool,
    leaps: u64,
}

/// What an operator should know of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// The wall clock was found to be so many nanoseconds ahead, or behind when negative.
    Apart(i128),
    /// The clock has met the wall clock again.
    Met,
    /// The clock was set forward by so many nanoseconds, or back when negative.
    Leapt(i128),
}

impl Clock {
    fn new(first: Reading) -> Self {
        Self {
            offset: first.wall - first.monotonic,
            gap: 0,
            spent: first.monotonic,
            apart: false,
            leaps: 0,
        }
    }

    /// What it shows, in nanoseconds since 1970.
    fn read(&mut self, reading: Reading) -> (i128, Option<News>) {
        let gap = self.gap_at(reading);
        let stepped = (gap - self.gap).abs() > WORTH_A_WARNING;
        let most = (reading.monotonic - self.spent).max(0) / PACE;
        self.spent += most * PACE;
        let gained = gap.clamp(-most, most);
        self.offset += gained;
        self.gap = gap - gained;
        let far = self.gap.abs() > WORTH_A_WARNING;
        let news = if far && (stepped || !self.apart) {
            self.apart = true;
            Some(News::Apart(self.gap))
        } else if self.apart && self.gap.abs() <= MET {
            self.apart = false;
            Some(News::Met)
        } else {
            None
        };
        (reading.monotonic + self.offset, news)
    }

    /// The same, but a clock that is too far away is set to the wall clock.
    fn follow(&mut self, reading: Reading) -> (i128, Option<News>) {
        let gap = self.gap_at(reading);
        if gap.abs() <= TOO_FAR {
            return self.read(reading);
        }
        self.offset += gap;
        self.gap = 0;
        self.spent = self.spent.max(reading.monotonic);
        self.apart = false;
        self.leaps += 1;
        (reading.wall, Some(News::Leapt(gap)))
    }

    /// How far the wall clock is ahead.
    fn gap_at(&self, reading: Reading) -> i128 {
        reading.wall - reading.monotonic - self.offset
    }
}

impl News {
    fn log(self) {
        match self {
            Self::Apart(gap) => tracing::warn!(
                "the wall clock is {} this process's clock, so one of them was wrong; timers are \
                 not affected, and the times of records follow it at 5% until they meet, or until \
                 a restart",
                apart(gap)
            ),
            Self::Met => tracing::info!("this process's clock and the wall clock have met again"),
            Self::Leapt(gap) => tracing::warn!(
                "the wall clock is {} this process's clock, which is set to it at once",
                apart(gap)
            ),
        }
    }
}

/// A gap in words.
fn apart(gap: i128) -> String {
    let tenths = gap.abs() / 100_000_000;
    let side = if gap < 0 { "behind" } else { "ahead of" };
    format!("{}.{} s {side}", tenths / 10, tenths % 10)
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
