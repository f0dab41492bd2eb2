//! What the programs cost at rest and at their start: the memory of both daemons once nothing
//! moves any more, and the time from the start to the end of a short `tandem` command.
//!
//! The programs are the optimised ones, in processes of their own, with real state directories
//! and real links on the loopback address. The aims: an agent below 10 MiB, a command below 20 ms.

mod figures;
#[path = "../blackbox/support/mod.rs"]
#[expect(dead_code, reason = "benches use a part of what the tests use")]
mod support;

use std::collections::VecDeque;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use figures::Quantiles;
use support::bootstrap::{Bootstrap, Stack};
use support::cloud::{Controller, Subcloud};
use support::process::Program;
use support::{PATIENCE, pause, scratch};

/// Subclouds that are online while memory is read.
const SUBCLOUDS: u8 = 20;
/// Starts of each command.
const STARTS: usize = 50;
/// The most that an idle agent shall hold, in KiB.
const AGENT_AIM: u64 = 10 * 1024;
/// The longest that a command shall take, as a median.
const COMMAND_AIM: Duration = Duration::from_millis(20);
/// Memory is at rest when this many readings in a row are the same; with the pause between
/// them they span several heartbeats.
const READINGS: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

fn main() {
    let dir = scratch();
    let mut controller = Controller::start(
        &dir.path().join("controller"),
        Bootstrap::controller(Stack::V6),
    );
    println!("memory at rest, KiB        resident  anonymous  file-backed  threads");
    let alone = at_rest(controller.daemon().id());
    alone.print("controller, 0 links");
    commands(&controller);

    let names = (1..=SUBCLOUDS).map(|index| (index, format!("subcloud-{index}")));
    let mut subclouds: Vec<Subcloud> = names
        .map(|(index, name)| {
            let site = Bootstrap::subcloud(&name, index, Stack::V6);
            Subcloud::join(&dir.path().join(&name), site, &controller)
        })
        .collect();
    let full = at_rest(controller.daemon().id());
    full.print(&format!("controller, {SUBCLOUDS} links"));
    let each = full.anonymous.saturating_sub(alone.anonymous) / u64::from(SUBCLOUDS);
    println!("  each subcloud adds {each} KiB of anonymous memory");

    let mut agents: Vec<Memory> = subclouds
        .iter_mut()
        .map(|subcloud| at_rest(subcloud.daemon().id()))
        .collect();
    agents.sort_by_key(|agent| agent.resident);
    let (least, most) = (agents[0], agents[agents.len() - 1]);
    agents[agents.len() / 2].print(&format!("agent, median of {SUBCLOUDS}"));
    println!("  from {} to {} KiB", least.resident, most.resident);
    let verdict = figures::verdict(most.resident < AGENT_AIM);
    println!("  aim: below {AGENT_AIM} KiB each: {verdict}");
}

/// What the kernel says that a process has in memory, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    resident: u64,
    anonymous: u64,
    /// Pages of the program itself, which the kernel can drop and share.
    file: u64,
    threads: u64,
}

impl Memory {
    fn read(process: u32) -> Self {
        let path = format!("/proc/{process}/status");
        let status = fs::read_to_string(&path).expect("a process that runs");
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
            number.unwrap_or_else(|| panic!("no {name} in {path}"))
        };
        Self {
            resident: field("VmRSS:"),
            anonymous: field("RssAnon:"),
            file: field("RssFile:"),
            threads: field("Threads:"),
        }
    }

    fn print(&self, name: &str) {
        let Self {
            resident,
            anonymous,
            file,
            threads,
        } = self;
        println!("{name:<26}{resident:>9}{anonymous:>11}{file:>13}{threads:>9}");
    }
}

/// The memory of a process once it no longer changes.
fn at_rest(process: u32) -> Memory {
    let deadline = Instant::now() + PATIENCE;
    let mut readings = VecDeque::with_capacity(READINGS + 1);
    loop {
        let now = Memory::read(process);
        readings.push_back(now);
        if readings.len() > READINGS {
            readings.pop_front();
        }
        if readings.len() == READINGS && readings.iter().all(|reading| *reading == now) {
            return now;
        }
        assert!(
            Instant::now() < deadline,
            "memory still moves: {readings:?}"
        );
        pause(PAUSE);
    }
}

/// Times short commands, each in turn, so that a busy moment of the machine meets all of them.
fn commands(controller: &Controller) {
    let socket = controller.state_dir().join("operator.sock");
    let endpoint = format!("unix:{}", socket.display());
    let tandem = |arguments: &[&str]| {
        let mut command = Program::Tandem.command();
        command.args(arguments).env("TANDEM_ENDPOINT", &endpoint);
        command
    };
    let mut measured = [
        ("/bin/true", Command::new("/bin/true"), Vec::new()),
        ("tandem --version", tandem(&["--version"]), Vec::new()),
        (
            "tandem system network-list",
            tandem(&["system", "network-list"]),
            Vec::new(),
        ),
    ];
    for (_, command, _) in &mut measured {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
    }
    for _ in 0..STARTS {
        for (name, command, times) in &mut measured {
            let start = Instant::now();
            let status = command.status().expect("a program that starts");
            times.push(start.elapsed());
            assert!(status.success(), "{name} ended with {status}");
        }
    }
    println!("from start to end, {STARTS} times   median        p90");
    let last = measured.map(|(name, _, times)| {
        let quantiles = Quantiles::of(times);
        println!(
            "{name:<28}{:>10.2?}{:>11.2?}",
            quantiles.median, quantiles.p90
        );
        quantiles.median
    });
    let verdict = figures::verdict(last[2] < COMMAND_AIM);
    println!("  aim: a median below {COMMAND_AIM:?}: {verdict}");
}
