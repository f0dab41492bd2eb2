//! The second tier of the simulation: the services' real drivers on a simulated network.
//!
//! Each world has two controllers and their subclouds: the hub with its links and peers, the link
//! listener, TLS 1.3, gRPC and the agents' drivers are those of the daemons, over TCP that is
//! played with turmoil. Disks are kept in memory and outlive processes. Two controllers peer over
//! the wire, share a group whose policy is to rehome, and three to six agents enroll over the wire;
//! then hosts crash, lose each other, one way or both, hear each other late, wall clocks are set, and
//! operators migrate the group and change sites. A site of the other family tries to get in all the while.
//!
//! Judged from outside (`oracle`): a subcloud has one owner in each term, by its own disk, who has
//! that on its own disk; terms only grow; nothing that was acknowledged is missing from the owner's
//! disk; every live link is of one family; the stranger stays out. Once faults stop, all agents are
//! online at their owners and in sync, and the controllers agree.
//!
//! Time and chance come from the seed, as far as the programs ask the C library for them (`system`).
//! Each seed is played in a process of its own. A failing seed prints itself, the end of its story
//! and the line that plays it again.

mod beginning;
mod clocks;
mod faults;
#[path = "../simulation/harness.rs"]
mod harness;
mod hosts;
mod network;
mod operator;
mod options;
mod oracle;
mod peace;
mod plan;
mod processes;
mod sites;
mod system;
mod trace;
mod world;

use std::process::ExitCode;

use options::{NAME, Options};
use world::World;

/// The stack of a simulated thread: that of a main thread.
const STACK_BYTES: usize = 8 * 1024 * 1024;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(64);
        }
    };
    if options.common.list {
        println!("{NAME}: test\n\n1 test, 0 benchmarks");
        return ExitCode::SUCCESS;
    }
    if options.common.nothing {
        println!("0 passed, 0 failed");
        return ExitCode::SUCCESS;
    }
    if options.play {
        return play(&options);
    }
    processes::play_all(&options)
}

/// Plays the first seed in this process.
fn play(options: &Options) -> ExitCode {
    if options.common.trace {
        tell_logs();
    }
    // A thread of its own: nothing has asked for chance on it before, such as the logs have.
    let (seed, trace) = (options.common.first_seed, options.common.trace);
    let sabotage = options.sabotage;
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let played = thread.spawn(move || World::play(seed, sabotage, trace));
    let Some(ending) = played.ok().and_then(|played| played.join().ok()) else {
        println!("FAILED a panic (its message is above)");
        return ExitCode::FAILURE;
    };
    let fingerprint = ending.trace.fingerprint();
    let (faults, moves, elapsed) = (ending.faults, ending.moves, ending.elapsed.as_secs());
    let code = match ending.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            print!("{}", ending.trace);
            println!("FAILED {failure}");
            ExitCode::FAILURE
        }
    };
    println!("played {faults} {moves} {elapsed} {fingerprint}");
    code
}

/// Shows what the programs log between what happens to them.
fn tell_logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TANDEM_LOG");
    let filter = filter.unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new(
            "warn,daemon=info,system_controller=info,subcloud_agent=info",
        )
    });
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .without_time()
        .with_writer(std::io::stdout);
    logs.init();
}
