//! The clock and the chance of simulated machines.
//!
//! The programs ask the C library for both, so that is where a simulated thread gets others: its
//! wall clock begins at [`EPOCH`] and goes with the simulated time of the host that asks, until it is
//! set, and its random bytes come from the seed. Every other thread gets those of the system. `ring` draws keys
//! and secrets past this, from the kernel itself.

#![expect(
    unsafe_code,
    reason = "two functions of the C library are replaced for simulated threads"
)]

use std::cell::Cell;
use std::time::Duration;

use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, time_t, timespec};

/// The first moment of every simulation: seconds since 1970.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_900_000_000);

/// What the monotonic clock shows at that moment.
const UPTIME: Duration = Duration::from_secs(1_000);

thread_local! {
    static PLAYED: Cell<Option<Played>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Played {
    /// The monotonic clock outside of every host.
    outside: Duration,
    /// The same at the beginning, as a host's own clock counts from it.
    begun: std::time::Instant,
    /// What wall clocks would have shown at the beginning, by what they show now.
    epoch: Duration,
    /// The state of the generator of random bytes.
    random: u64,
}

/// Makes this thread a simulated one, at the beginning of its time.
pub(crate) fn play(seed: u64) {
    // The clock stands still from here on: whatever is asked first sees the beginning.
    let begun = std::time::Instant::now();
    let played = |begun| Played {
        outside: UPTIME,
        begun,
        epoch: EPOCH,
        random: seed,
    };
    PLAYED.set(Some(played(begun)));
    PLAYED.set(Some(played(std::time::Instant::now())));
}

/// Sets the clock outside of every host. A host that starts now counts on from it.
pub(crate) fn set_elapsed(elapsed: Duration) {
    if let Some(played) = PLAYED.get() {
        let outside = UPTIME + elapsed;
        PLAYED.set(Some(Played { outside, ..played }));
    }
}

/// Sets the wall clocks of all hosts so that they show this at the beginning of the simulation, had
/// they always gone as they go now.
pub(crate) fn set_epoch(epoch: Duration) {
    if let Some(played) = PLAYED.get() {
        PLAYED.set(Some(Played { epoch, ..played }));
    }
}

impl Played {
    /// The monotonic clock of whoever asks: of the host that runs at the moment, or else outside.
    fn uptime(&self) -> Duration {
        if tokio::runtime::Handle::try_current().is_err() {
            return self.outside;
        }
        let now = tokio::time::Instant::now().into_std();
        UPTIME + now.saturating_duration_since(self.begun)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Replaces the C library's.
///
/// # Safety
/// As `clock_gettime(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let shown = PLAYED.get().and_then(|played| match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
            Some(played.epoch + played.uptime().saturating_sub(UPTIME))
        }
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME => {
            Some(played.uptime())
        }
        _ => None,
    });
    let Some(shown) = shown else {
        // SAFETY: the arguments are those of the same call.
        let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return if result == 0 { 0 } else { -1 };
    };
    let shown = timespec {
        tv_sec: time_t::try_from(shown.as_secs()).unwrap_or(time_t::MAX),
        tv_nsec: c_long::from(shown.subsec_nanos()),
    };
    // SAFETY: the caller hands in a place for the time.
    unsafe { time.write(shown) };
    0
}

/// Replaces the C library's.
///
/// # Safety
/// As `getrandom(2)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    let Some(mut played) = PLAYED.get() else {
        // SAFETY: the arguments are those of the same call.
        let result = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return ssize_t::try_from(result).unwrap_or(-1);
    };
    for index in 0..length {
        let [byte, ..] = played.next().to_ne_bytes();
        // SAFETY: the caller hands in `length` bytes.
        unsafe { buffer.cast::<u8>().add(index).write(byte) };
    }
    PLAYED.set(Some(played));
    ssize_t::try_from(length).unwrap_or(ssize_t::MAX)
}
