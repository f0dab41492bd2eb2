//! What the kernel says of a process.

use std::fs;
use std::time::{Duration, Instant};

/// Memory is at rest when it has not moved by more than a percent for this long.
const REST: Duration = Duration::from_secs(3);
/// Nobody waits longer for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Resident memory in KiB.
pub(crate) fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
    f64::from(number.expect("its memory"))
}

/// Resident memory in KiB once it no longer moves, or after a while.
pub(crate) async fn resident_at_rest(process: u32) -> f64 {
    let (deadline, mut since, mut last) = (Instant::now() + PATIENCE, Instant::now(), 0.0_f64);
    while since.elapsed() < REST && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = resident(process);
        if (now - last).abs() > last / 100.0 {
            (since, last) = (Instant::now(), now);
        }
    }
    resident(process)
}

/// Seconds of CPU so far, in user and in system mode.
pub(crate) fn cpu(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, numbers) = stat.rsplit_once(')').expect("a name");
    let ticks = numbers.split_whitespace().skip(11).take(2);
    let ticks: u32 = ticks
        .map(|ticks| ticks.parse::<u32>().expect("ticks"))
        .sum();
    let each = u32::try_from(rustix::param::clock_ticks_per_second()).expect("a rate");
    f64::from(ticks) / f64::from(each)
}
