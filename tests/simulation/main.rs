//! The deterministic simulation: the real machines of controller and agents under a faulty
//! network, faulty disks and crashes at any step, thousands of seeded worlds in each run.
//!
//! `cargo test --release --test simulation -- --seeds N [--first-seed K] [--trace]`
//!
//! After every step the safety properties are judged from outside (`oracle`): a token is redeemed
//! by one key at most; nothing that was answered or acknowledged is missing from the disk, also
//! after a crash; every live link is of the controller's family; no two sites overlap; nobody is
//! called offline without cause; no key is taken after it was renewed; nobody is taken for a copy
//! who is none, and every copy is noticed. Once faults stop, everything must come right. A failing seed
//! prints itself and its story and is replayed exactly by `--first-seed K --seeds 1 --trace`.

mod agents;
mod calls;
mod controller;
mod faults;
mod network;
mod options;
mod oracle;
mod sabotage;
mod sites;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use options::{NAME, Options};
use sabotage::Sabotage;
use world::World;

/// Within so many seeds every sabotage must be caught.
const SABOTAGE_SEEDS: u64 = 1000;

/// How many seeds are played twice, to see that a replay is exact.
const REPLAYED_SEEDS: u64 = 20;

/// How many failing seeds are told in full; more would bury the first.
const MAX_STORIES: usize = 3;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(64);
        }
    };
    if options.list {
        println!("{NAME}: test\n\n1 test, 0 benchmarks");
        return ExitCode::SUCCESS;
    }
    if options.nothing {
        println!("0 passed, 0 failed");
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let mut failed = self_checks(&options);
    let checks = failed.checks;
    let run = play_all(&options);
    failed.failed += run.failed;
    println!(
        "{} worlds, {} steps, {} faults in {:.1} s",
        options.seeds,
        run.steps,
        run.faults,
        started.elapsed().as_secs_f64()
    );
    println!(
        "{} passed, {} failed",
        options.seeds + checks - failed.failed,
        failed.failed
    );
    if failed.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Counts of the checks of the simulation itself.
struct SelfChecks {
    checks: u64,
    failed: u64,
}

/// What the runs of all seeds came to.
#[derive(Default)]
struct Tally {
    steps: u64,
    faults: u64,
    failed: u64,
}

/// Each deliberately broken variant is caught, and replays are exact. Replaying one seed needs
/// neither.
fn self_checks(options: &Options) -> SelfChecks {
    let mut result = SelfChecks {
        checks: 0,
        failed: 0,
    };
    if options.trace {
        return result;
    }
    for sabotage in Sabotage::ALL {
        result.checks += 1;
        match (0..SABOTAGE_SEEDS).find_map(|seed| {
            World::play(seed, Some(sabotage), false)
                .failure
                .map(|failure| (seed, failure))
        }) {
            Some((seed, failure)) => {
                println!("sabotage {sabotage:?} is caught by seed {seed}: {failure}");
            }
            None => {
                result.failed += 1;
                println!("sabotage {sabotage:?} is NOT caught within {SABOTAGE_SEEDS} seeds");
            }
        }
    }
    result.checks += 1;
    let differs = |seed: &u64| {
        let first = World::play(*seed, None, false).trace.fingerprint();
        first != World::play(*seed, None, false).trace.fingerprint()
    };
    if let Some(seed) = (0..REPLAYED_SEEDS).find(differs) {
        result.failed += 1;
        println!("seed {seed} does not replay exactly");
    }
    result
}

/// Plays every seed, on as many threads as there are processors.
fn play_all(options: &Options) -> Tally {
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    let stories = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Tally::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= options.seeds {
                        break;
                    }
                    let seed = options.first_seed.wrapping_add(number);
                    if let Some(story) = play_one(seed, options.trace, &mut own) {
                        locked(&stories).push((seed, story));
                    }
                }
                let mut all = locked(&tally);
                all.steps += own.steps;
                all.faults += own.faults;
                all.failed += own.failed;
            });
        }
    });
    let mut stories = stories.into_inner().unwrap_or_default();
    stories.sort();
    for (seed, story) in stories.iter().take(MAX_STORIES) {
        println!("seed {seed} FAILED: {story}");
        println!(
            "replay: cargo test --release --test {NAME} -- --first-seed {seed} --seeds 1 --trace"
        );
    }
    tally.into_inner().unwrap_or_default()
}

fn play_one(seed: u64, trace: bool, tally: &mut Tally) -> Option<String> {
    let played = catch_unwind(AssertUnwindSafe(|| World::play(seed, None, trace)));
    let failure = match played {
        Ok(ending) => {
            tally.steps += ending.trace.steps();
            tally.faults += ending.faults;
            if trace {
                print!("{}", ending.trace);
            }
            ending.failure
        }
        Err(_) => Some("a machine panicked (its message is above)".to_owned()),
    };
    tally.failed += u64::from(failure.is_some());
    failure
}

/// A poisoned lock only means that another thread failed loudly already.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
