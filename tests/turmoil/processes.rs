//! A process for each seed: one that ends itself ends nobody else, and nothing of one run is seen
//! by the next.

use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::options::{NAME, Options, Sabotage};

/// How many failing seeds are told in full; more would bury the first.
const MAX_STORIES: usize = 3;

/// Within so many seeds every sabotage must be caught.
const SABOTAGE_SEEDS: u64 = 20;

/// How many seeds are played twice, to see that a replay is exact.
const REPLAYED_SEEDS: u64 = 2;

/// What came of one run.
struct Played {
    failure: Option<String>,
    faults: u64,
    moves: u64,
    seconds: u64,
    fingerprint: String,
}

/// What the runs of all seeds came to.
#[derive(Default)]
struct Tally {
    faults: u64,
    moves: u64,
    seconds: u64,
    failed: Vec<(u64, String)>,
    /// The fingerprints of the first seeds.
    played: Vec<(u64, String)>,
}

/// Plays every seed, and what else must hold of the simulation itself.
pub(crate) fn play_all(options: &Options) -> ExitCode {
    let started = Instant::now();
    if options.common.trace {
        return tell_all(options);
    }
    let tally = play_seeds(options);
    let mut failed = count(tally.failed.len());
    for (seed, story) in tally.failed.iter().take(MAX_STORIES) {
        println!("seed {seed} FAILED:\n{story}");
        println!(
            "replay: cargo test --workspace --test {NAME} -- --first-seed {seed} --seeds 1 --trace"
        );
    }
    let mut checks = 0;
    for sabotage in Sabotage::ALL {
        checks += 1;
        failed += u64::from(!is_caught(sabotage));
    }
    for (seed, fingerprint) in &tally.played {
        checks += 1;
        // Aloud, as somebody would replay it.
        let mut aloud = command(*seed, None);
        aloud.arg("--trace");
        if run(aloud).fingerprint != *fingerprint {
            failed += 1;
            println!("seed {seed} does not replay exactly");
        }
    }
    println!(
        "{} worlds, {} simulated seconds, {} blows and calls, {} changes of owner in {:.1} s",
        options.common.seeds,
        tally.seconds,
        tally.faults,
        tally.moves,
        started.elapsed().as_secs_f64()
    );
    println!(
        "{} passed, {failed} failed",
        options.common.seeds + checks - failed
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays seeds one after the other, aloud.
fn tell_all(options: &Options) -> ExitCode {
    let mut failed = 0;
    for number in 0..options.common.seeds {
        let seed = options.common.first_seed.wrapping_add(number);
        println!("seed {seed}");
        let mut command = command(seed, options.sabotage);
        let ended = command.arg("--trace").status();
        failed += u64::from(!ended.is_ok_and(|status| status.success()));
    }
    println!("{} passed, {failed} failed", options.common.seeds - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays every seed, in as many processes as there are processors.
fn play_seeds(options: &Options) -> Tally {
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= options.common.seeds {
                        break;
                    }
                    let seed = options.common.first_seed.wrapping_add(number);
                    let played = play(seed, options.sabotage);
                    let mut all = tally
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    all.faults += played.faults;
                    all.moves += played.moves;
                    all.seconds += played.seconds;
                    if number < REPLAYED_SEEDS && played.failure.is_none() {
                        all.played.push((seed, played.fingerprint));
                    }
                    all.failed.extend(played.failure.map(|story| (seed, story)));
                }
            });
        }
    });
    let mut tally = tally.into_inner().unwrap_or_default();
    tally.failed.sort();
    tally
}

/// Looks for the first seed that catches a sabotage.
fn is_caught(sabotage: Sabotage) -> bool {
    let name = sabotage.name();
    for seed in 0..SABOTAGE_SEEDS {
        if let Some(story) = play(seed, Some(sabotage)).failure {
            let failure = story.lines().find(|line| line.starts_with("FAILED"));
            let failure = failure.unwrap_or(&story);
            println!("sabotage {name} is caught by seed {seed}: {failure}");
            return true;
        }
    }
    println!("sabotage {name} is NOT caught within {SABOTAGE_SEEDS} seeds");
    false
}

fn command(seed: u64, sabotage: Option<Sabotage>) -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--play", "--first-seed", &seed.to_string()]);
    if let Some(sabotage) = sabotage {
        command.args(["--sabotage", sabotage.name()]);
    }
    command
}

fn play(seed: u64, sabotage: Option<Sabotage>) -> Played {
    run(command(seed, sabotage))
}

fn run(mut command: Command) -> Played {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) => read(&output),
        Err(error) => Played {
            failure: Some(format!("its process does not start: {error}")),
            faults: 0,
            moves: 0,
            seconds: 0,
            fingerprint: String::new(),
        },
    }
}

/// What a process says of its run; one that says nothing ended itself, and is told of in full.
fn read(output: &Output) -> Played {
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    let mut words = last.split_whitespace();
    let whole = words.next() == Some("played");
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let (faults, moves, seconds) = (number(), number(), number());
    let fingerprint = words.next().unwrap_or_default().to_owned();
    let failure = if whole && output.status.success() {
        None
    } else {
        let errors = String::from_utf8_lossy(&output.stderr);
        let ended = if whole {
            String::new()
        } else {
            format!("FAILED its process ended with {}\n", output.status)
        };
        Some(format!("{said}{errors}{ended}"))
    };
    Played {
        failure,
        faults,
        moves,
        seconds,
        fingerprint,
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
