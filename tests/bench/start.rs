//! What a controller costs that starts with a full state directory: the time until it serves, and
//! the memory that it has then, beside those of a controller without subclouds.
//!
//! `cargo bench --bench start -- --subclouds N --entries M`. The subclouds are added and enrolled
//! by calls, and the logs of events and of the audit are filled by calls that change something, so
//! that what is on disk is what a real controller wrote. The last line is one JSON object.

#[path = "fleet/process.rs"]
#[expect(dead_code, reason = "the CPU of a start does not matter")]
mod process;
#[path = "../blackbox/support/mod.rs"]
#[expect(dead_code, reason = "benches use a part of what the tests use")]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::fleet_v1::{Subcloud, UpdateSubcloudRequest};
use clap::Parser as _;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use process::{resident, resident_at_rest};
use support::bootstrap::{Bootstrap, Stack};
use support::client::operators;
use support::cloud::{Controller, Place};
use support::{crowd, scratch};

/// How often each start is measured.
const STARTS: usize = 5;
/// Calls at a time, as many as two connections take.
const CALLS_AT_A_TIME: usize = 32;

#[derive(Debug, clap::Parser)]
struct Arguments {
    /// Subclouds that have enrolled
    #[arg(long, default_value_t = 10_000)]
    subclouds: u16,
    /// Entries of each of the two logs, which keep 100,000
    #[arg(long, default_value_t = 100_000)]
    entries: u32,
    /// Keep what was made, to look at it
    #[arg(long)]
    keep: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a start costs.
#[derive(Debug)]
struct Start {
    milliseconds: f64,
    ready_mib: f64,
    rest_mib: f64,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let mut dir = scratch();
    dir.disable_cleanup(arguments.keep);
    let install = |name: &str| {
        let site = Bootstrap::controller(Stack::V4);
        Controller::install(&dir.path().join(name), site, Place::Loopback)
    };
    let mut empty = install("empty");
    let empty = measure(&mut empty).await;
    let mut full = install("full");
    full.serve();
    fill(&full.state_dir(), &arguments).await;
    full.stop();
    let store = std::fs::metadata(full.state_dir().join("state.redb"));
    let mib = |bytes: u64| (bytes >> 20).to_string();
    let size = store.map_or_else(|_| "?".to_owned(), |known| mib(known.len()));
    println!("{}: state.redb has {size} MiB", full.state_dir().display());
    let full = measure(&mut full).await;
    for (name, start) in [("empty", &empty), ("full", &full)] {
        println!(
            "{name}: ready after {:.0} ms with {:.1} MiB, {:.1} MiB at rest",
            start.milliseconds, start.ready_mib, start.rest_mib
        );
    }
    let each = (full.rest_mib - empty.rest_mib) * 1024.0 / f64::from(arguments.subclouds);
    println!(
        "{}",
        json!({
            "subclouds": arguments.subclouds,
            "entries": arguments.entries,
            "start_ms": full.milliseconds.round(),
            "empty_start_ms": empty.milliseconds.round(),
            "rss_mib": full.rest_mib.round(),
            "rss_kib_each": (each * 10.0).round() / 10.0,
        })
    );
}

/// The median start.
async fn measure(controller: &mut Controller) -> Start {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let since = Instant::now();
        controller.serve();
        let milliseconds = since.elapsed().as_secs_f64() * 1e3;
        let process = controller.daemon().id();
        let ready_mib = resident(process) / 1024.0;
        let rest_mib = resident_at_rest(process).await / 1024.0;
        starts.push(Start {
            milliseconds,
            ready_mib,
            rest_mib,
        });
        controller.stop();
    }
    starts.sort_by(|one, other| one.milliseconds.total_cmp(&other.milliseconds));
    starts.swap_remove(STARTS / 2)
}

async fn fill(state: &Path, arguments: &Arguments) {
    let socket = state.join("operator.sock");
    let channels = [operators(&socket).await, operators(&socket).await];
    let since = Instant::now();
    let tokens = crowd::added(&channels, arguments.subclouds).await;
    let members = crowd::install(tokens).await;
    let members = crowd::enroll(members).await;
    println!(
        "{} subclouds enrolled after {:.0} s",
        members.len(),
        since.elapsed().as_secs_f64()
    );
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    drop(members);
    // Each update is an entry of either log.
    update(&channels, &names, arguments.entries).await;
    println!(
        "the logs are filled after {:.0} s",
        since.elapsed().as_secs_f64()
    );
}

/// Changes the description of one subcloud after the other, so many times.
async fn update(channels: &[Channel], names: &[String], times: u32) {
    let room = Arc::new(Semaphore::new(CALLS_AT_A_TIME));
    let mut updating = JoinSet::new();
    let named = names.iter().cycle().zip(channels.iter().cycle());
    for (number, (name, channel)) in (0..times).zip(named) {
        let place = Arc::clone(&room).acquire_owned().await.expect("open");
        let request = UpdateSubcloudRequest {
            target: name.clone(),
            subcloud: Some(Subcloud {
                description: format!("the {number}th description of a subcloud"),
                ..Subcloud::default()
            }),
            ..UpdateSubcloudRequest::default()
        };
        let mut client = SubcloudServiceClient::new(channel.clone());
        updating.spawn(async move {
            client.update_subcloud(request).await.expect("updated");
            drop(place);
        });
        while updating.try_join_next().is_some() {}
    }
    updating.join_all().await;
}
