//! What a fleet costs its controller: N agents, of the agent's own code, in this process, against
//! a real controller in another one, and the least that gRPC can do (`fleet/bare.rs`) in a third.
//!
//! `cargo bench --bench fleet -- --agents N --seconds S`. The last line is one JSON object; a
//! figure that could not be measured is null. The two servers run one after the other, with the
//! same number of clients. Needs 2 N file descriptors at most in any process.

#[path = "fleet/bare.rs"]
mod bare;
#[path = "fleet/etcd.rs"]
mod etcd;
#[path = "fleet/process.rs"]
mod process;
#[path = "../blackbox/support/mod.rs"]
#[expect(dead_code, reason = "benches use a part of what the tests use")]
mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::fleet_v1::exchange_request::Message;
use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::fleet_v1::{ExchangeRequest, ReportChunk, WatchFleetRequest};
use clap::Parser as _;
use prost::Message as _;
use rand::Rng as _;
use serde_json::{Value, json};
use site::Change;
use subcloud_agent::LinkState;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use bare::{Authority, Bare, Stream1, heartbeat};
use process::{cpu, resident, resident_at_rest};
use support::bootstrap::{Bootstrap, Stack};
use support::client::operators;
use support::cloud::{Controller, Place};
use support::console::Metrics;
use support::crowd::{self, Crowd};
use support::{scale, scratch};

/// The controller's allocator, so that the bare server has the same.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Nothing here takes longer, whatever the machine does beside it.
const PATIENCE: Duration = Duration::from_secs(300);
/// An interval of heartbeats in which no step of the bench has one.
const SILENT: Duration = Duration::from_secs(600);
/// How often the bench looks whether the controller has heard of enough agents. A look costs it
/// milliseconds: it counts its file descriptors and its subclouds.
const LOOK: Duration = Duration::from_millis(50);
/// Connections that the bare clients make at a time, as many as agents enroll at a time.
const CONNECTS_AT_A_TIME: usize = 32;

#[derive(Debug, clap::Parser)]
struct Arguments {
    /// Agents, at most 9,900 with 20,000 file descriptors
    #[arg(long, default_value_t = 1000)]
    agents: u16,
    /// Seconds for each measurement that has no end of its own
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Internal: serve the bare echo
    #[arg(long = "bare-server", hide = true)]
    bare_server: Option<String>,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(authority) = &arguments.bare_server {
        bare::serve(authority).expect("the bare server");
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let figures = runtime.block_on(measure(&arguments));
    // The links end with the process; waiting for ten thousand goodbyes would tell nothing.
    runtime.shutdown_background();
    println!("{figures}");
}

async fn measure(arguments: &Arguments) -> Value {
    assert_eq!(scale(), 1, "a bench has its size from its arguments");
    let time = Duration::from_secs(arguments.seconds);
    let n = arguments.agents;
    let dir = scratch();
    let report = report_bytes();
    println!(
        "{n} agents, {} s; a report has {report} bytes",
        arguments.seconds
    );
    let bare = measure_bare(n, time, report).await;
    bare.print("bare gRPC");
    let etcd = etcd::measure(dir.path(), report, time.min(Duration::from_secs(5))).await;
    match etcd {
        Some(puts) => println!(
            "etcd: {:.0} puts/s one by one, {:.0}/s with 32 at a time",
            puts.sequential, puts.concurrent
        ),
        None => println!("etcd is not installed: apt-get install etcd-server"),
    }
    let fleet = measure_fleet(dir.path(), n, time).await;
    fleet.costs.print("controller");
    println!(
        "controller: {:.0} subclouds added/s, {:.0} enrolled/s; reconnected after {:.2} s \
         ({} of {n} resumed, {} reports); {:.1} us CPU of each agent to take networks over, \
         reported and durable: p50 {:.0} ms, p99 {:.0} ms; {:.0} changes a second to a watcher: p50 {:.1} ms, p99 {:.1} ms",
        fleet.adds,
        fleet.enrollments,
        fleet.reconnect_seconds,
        fleet.resumed,
        fleet.reports_after_restart,
        fleet.taken_over_cpu_us,
        fleet.reported[0],
        fleet.reported[1],
        f64::from(n) / interval(n).as_secs_f64(),
        fleet.watched[0],
        fleet.watched[1],
    );
    let ratio = |value: f64, reference: f64| json!((value / reference * 100.0).round() / 100.0);
    json!({
        "agents": n,
        "rss_ratio": ratio(fleet.costs.idle_kib, bare.idle_kib),
        "rss_after_report_ratio": ratio(fleet.costs.after_report_kib, bare.after_report_kib),
        "reconnect_ratio": ratio(fleet.costs.connect_cpu_ms, bare.connect_cpu_ms),
        "heartbeat_cpu_ratio": ratio(fleet.costs.message_cpu_us, bare.message_cpu_us),
        "commits_vs_etcd": etcd.map(|puts| ratio(fleet.adds, puts.concurrent)),
        "enroll_vs_connect": ratio(fleet.enrollments, bare.connects_per_second),
        "fanout_p99_ms": json!(fleet.costs.all_at_once[1].round()),
        "watch_p99_ms": json!(fleet.watched[1].round()),
    })
}

/// What a server takes for each client.
#[derive(Debug, Clone, Copy, Default)]
struct Costs {
    idle_kib: f64,
    after_report_kib: f64,
    connect_cpu_ms: f64,
    connects_per_second: f64,
    message_cpu_us: f64,
    /// All clients at the same moment: when half and 99 of 100 have their answer, in milliseconds,
    /// and the CPU of the server for each.
    all_at_once: [f64; 2],
    all_at_once_cpu_us: f64,
}

impl Costs {
    fn print(&self, name: &str) {
        println!(
            "{name}: {:.1} KiB idle, {:.1} KiB after a report; {:.3} ms CPU for each connect \
             ({:.0}/s), {:.1} us CPU for each heartbeat; all at once: p50 {:.0} ms, p99 {:.0} ms, \
             {:.1} us CPU for each",
            self.idle_kib,
            self.after_report_kib,
            self.connect_cpu_ms,
            self.connects_per_second,
            self.message_cpu_us,
            self.all_at_once[0],
            self.all_at_once[1],
            self.all_at_once_cpu_us,
        );
    }
}

/// How large the report of one of the crowd is.
fn report_bytes() -> usize {
    let file = Bootstrap::one_of_many(0);
    let declared = site::bootstrap::parse("bench", file.yaml().as_bytes()).expect("a sound file");
    let mut ids = || uuid::Uuid::from_u128(rand::random());
    let site = declared.install(&mut ids).expect("a sound site");
    api::convert::site_fields_to_wire(&site).encoded_len()
}

/// How far heartbeats are apart: a thousand a second from everybody, within what agents take.
fn interval(n: u16) -> Duration {
    Duration::from_millis(u64::from(n).clamp(1_000, 10_000))
}

/// The line of a controller's settings.
fn heartbeats(interval: Duration) -> String {
    let milliseconds = interval.as_millis();
    format!("heartbeat_interval_milliseconds = {milliseconds}\n")
}

async fn measure_bare(n: u16, time: Duration, report: usize) -> Costs {
    let authority = Authority::new();
    let server = Bare::start(&authority);
    let clients = authority.clients(n);
    let empty = resident(server.id());
    let (before, start) = (cpu(server.id()), Instant::now());
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTS_AT_A_TIME));
    let mut connecting = JoinSet::new();
    for client in clients {
        let (room, address) = (Arc::clone(&room), server.address);
        connecting.spawn(async move {
            let _place = room.acquire_owned().await.expect("open");
            Stream1::open(address, client).await
        });
    }
    let mut streams = connecting.join_all().await;
    let took = start.elapsed().as_secs_f64();
    let mut costs = Costs {
        connect_cpu_ms: (cpu(server.id()) - before) * 1e3 / f64::from(n),
        connects_per_second: f64::from(n) / took,
        ..Costs::default()
    };
    costs.idle_kib = (resident_at_rest(server.id()).await - empty) / f64::from(n);

    let (before, mut sent) = (cpu(server.id()), 0_u32);
    let end = Instant::now() + time;
    let mut beating = JoinSet::new();
    for mut stream in streams {
        beating.spawn(async move {
            let mut beats = 0_u32;
            // Spread over the interval, as agents are.
            let spread = rand::rng().random_range(Duration::ZERO..interval(n));
            let mut next = tokio::time::Instant::now() + spread;
            while next.into_std() < end {
                tokio::time::sleep_until(next).await;
                stream.exchange(heartbeat()).await;
                beats += 1;
                next += interval(n);
            }
            tokio::time::sleep_until(end.into()).await;
            (stream, beats)
        });
    }
    streams = Vec::new();
    for (stream, beats) in beating.join_all().await {
        streams.push(stream);
        sent += beats;
    }
    costs.message_cpu_us = (cpu(server.id()) - before) * 1e6 / f64::from(sent);

    let (before, start) = (cpu(server.id()), Instant::now());
    let mut asking = JoinSet::new();
    for mut stream in streams {
        asking.spawn(async move {
            stream.exchange(heartbeat()).await;
            (stream, start.elapsed())
        });
    }
    let (streams, times): (Vec<_>, Vec<_>) = asking.join_all().await.into_iter().unzip();
    costs.all_at_once = shares(times);
    costs.all_at_once_cpu_us = (cpu(server.id()) - before) * 1e6 / f64::from(n);

    let mut reporting = JoinSet::new();
    for mut stream in streams {
        reporting.spawn(async move {
            let chunk = ReportChunk {
                data: vec![7; report],
                ..ReportChunk::default()
            };
            let message = Some(Message::ReportChunk(chunk));
            stream.exchange(ExchangeRequest { message }).await;
            stream
        });
    }
    let streams = reporting.join_all().await;
    costs.after_report_kib = (resident_at_rest(server.id()).await - empty) / f64::from(n);
    drop(streams);
    costs
}

/// What the controller did.
#[derive(Debug, Default)]
struct Fleet {
    costs: Costs,
    adds: f64,
    enrollments: f64,
    reconnect_seconds: f64,
    resumed: f64,
    reports_after_restart: f64,
    /// The CPU of the agents for each until as many have taken the networks over.
    taken_over_cpu_us: f64,
    /// The median and the 99th percentile, in milliseconds.
    reported: [f64; 2],
    watched: [f64; 2],
}

async fn measure_fleet(dir: &std::path::Path, n: u16, time: Duration) -> Fleet {
    let site = Bootstrap::controller(Stack::V4);
    let mut controller = Controller::install(&dir.join("controller"), site, Place::Loopback);
    // The bare clients are silent while they connect.
    controller.replace_settings(&heartbeats(SILENT));
    controller.serve();
    let empty = resident(controller.daemon().id());
    let mut fleet = Fleet::default();

    let socket = controller.state_dir().join("operator.sock");
    // Two connections, for one takes 16 calls at a time, and etcd gets 32.
    let channels = [operators(&socket).await, operators(&socket).await];
    let start = Instant::now();
    let tokens = crowd::added(&channels, n).await;
    fleet.adds = f64::from(n) / start.elapsed().as_secs_f64();
    let members = crowd::install(tokens).await;
    let [channel, _] = channels;
    let start = Instant::now();
    let members = crowd::enroll(members).await;
    fleet.enrollments = f64::from(n) / start.elapsed().as_secs_f64();
    let crowd = Crowd::serve(members);
    // The first report carries the controller's networks.
    crowd.in_sync(PATIENCE).await;

    controller.kill();
    noticed(&crowd).await;
    controller.serve();
    let process = controller.daemon().id();
    let start = Instant::now();
    crowd.in_sync(PATIENCE).await;
    fleet.reconnect_seconds = start.elapsed().as_secs_f64();
    fleet.costs.connect_cpu_ms = cpu(process) * 1e3 / f64::from(n);
    fleet.costs.connects_per_second = f64::from(n) / fleet.reconnect_seconds;
    fleet.resumed = counter(
        &mut controller,
        r#"tandem_resumed_handshakes_total{listener="link"}"#,
    );
    let reports = r#"tandem_reports_total{outcome="accepted"}"#;
    fleet.reports_after_restart = counter(&mut controller, reports);

    controller.kill();
    noticed(&crowd).await;
    controller.replace_settings(&heartbeats(interval(n)));
    controller.serve();
    let process = controller.daemon().id();
    crowd.in_sync(PATIENCE).await;
    fleet.costs.idle_kib = (resident_at_rest(process).await - empty) / f64::from(n);

    let beats = "tandem_link_heartbeats_total";
    let (before, from) = (counter(&mut controller, beats), cpu(process));
    tokio::time::sleep(time).await;
    let spent = cpu(process) - from;
    let heard = counter(&mut controller, beats) - before;
    fleet.costs.message_cpu_us = spent * 1e6 / heard.max(1.0);

    let watched = report_all(&crowd, channel, interval(n)).await;
    fleet.watched = shares(watched);
    fleet.costs.after_report_kib = (resident_at_rest(process).await - empty) / f64::from(n);
    let (kept, [spent, agents], reported) = fan_out(&crowd, &mut controller).await;
    fleet.costs.all_at_once = kept.map(|time| time.as_secs_f64() * 1e3);
    fleet.costs.all_at_once_cpu_us = spent * 1e6 / f64::from(n);
    fleet.taken_over_cpu_us = agents * 1e6 / f64::from(n);
    fleet.reported = shares(reported);
    fleet
}

/// The median and the 99th percentile, in milliseconds.
fn shares(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort_unstable();
    [50, 99].map(|share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3)
}

/// Waits until everybody has noticed that the controller is gone.
async fn noticed(crowd: &Crowd) {
    for state in &crowd.states {
        let mut state = state.clone();
        let gone = tokio::time::timeout(PATIENCE, state.wait_for(|state| !state.online));
        let gone = gone.await.expect("in time").map(|state| state.online);
        assert_eq!(gone.ok(), Some(false), "an agent that lives");
    }
}

/// Everybody changes something within `time` and reports the whole site; how long each change took
/// to a watcher of the fleet.
async fn report_all(crowd: &Crowd, operators: Channel, time: Duration) -> Vec<Duration> {
    let watched = Watched::start(operators).await;
    let mut reporting = JoinSet::new();
    for (member, state) in crowd.members.iter().zip(&crowd.states) {
        let (keeper, mut state) = (Arc::clone(member.agent.keeper()), state.clone());
        let name = member.name.clone();
        reporting.spawn(async move {
            let spread = rand::rng().random_range(Duration::ZERO..time);
            tokio::time::sleep(spread).await;
            let servers = vec!["10.96.0.53".to_owned()];
            let change = Change::ModifyDns { servers };
            let start = Instant::now();
            keeper.change_own(change).await.expect("a sound change");
            let generation = keeper.site().generation();
            let reached = state.wait_for(|state| state.acknowledged >= Some(generation));
            reached.await.expect("an agent that lives");
            ((name, generation.0), start)
        });
    }
    let changes = reporting.join_all().await;
    watched.since(changes).await
}

/// A subcloud by name, and a generation of its site.
type Known = (String, u64);

/// When a watcher of the fleet learned of each generation of each site.
struct Watched(mpsc::UnboundedReceiver<(Known, Instant)>);

impl Watched {
    async fn start(operators: Channel) -> Self {
        let mut client = SubcloudServiceClient::new(operators);
        let stream = client.watch_fleet(WatchFleetRequest::default()).await;
        let mut stream = stream.expect("a stream").into_inner();
        let (sender, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                let Some(subcloud) = message.subcloud else {
                    continue;
                };
                let known = (subcloud.name, subcloud.generation);
                if sender.send((known, Instant::now())).is_err() {
                    break;
                }
            }
        });
        Self(seen)
    }

    /// How long each change took, once all have come.
    async fn since(mut self, changes: Vec<(Known, Instant)>) -> Vec<Duration> {
        let mut begun: HashMap<Known, Instant> = changes.into_iter().collect();
        let mut times = Vec::new();
        while !begun.is_empty() {
            let next = tokio::time::timeout(PATIENCE, self.0.recv()).await;
            let (known, seen) = next.expect("in time").expect("a watcher that lives");
            // The first time that it is told; later ones are other news of the same site.
            if let Some(start) = begun.remove(&known) {
                times.push(seen.duration_since(start));
            }
        }
        times
    }
}

/// The controller's oam network moves: how long after the start of the operator's command the
/// controller has heard from half of the agents, and from 99 of 100, that they have it durably; the
/// seconds of CPU that it and the agents took until then; and when each agent has seen its report acknowledged,
/// for which agents take turns.
async fn fan_out(
    crowd: &Crowd,
    controller: &mut Controller,
) -> ([Duration; 2], [f64; 2], Vec<Duration>) {
    let kept = r#"tandem_controller_networks_answers_total{outcome="kept"}"#;
    let before = counter(controller, kept);
    let processes = [controller.daemon().id(), std::process::id()];
    let (before_cpu, start) = (processes.map(cpu), Instant::now());
    let mut waiting = JoinSet::new();
    let (sender, mut answered) = mpsc::unbounded_channel();
    for state in &crowd.states {
        let (mut state, sender) = (state.clone(), sender.clone());
        let before = *state.borrow();
        waiting.spawn(async move {
            let wait = async {
                until(&mut state, |state| state.networks != before.networks).await;
                sender.send(()).expect("somebody counts");
                until(&mut state, |state| state.acknowledged > before.acknowledged).await;
            };
            tokio::time::timeout(PATIENCE, wait).await.expect("in time");
            start.elapsed()
        });
    }
    let moved = [
        "system",
        "addrpool-modify",
        "oam-ipv4",
        "--network",
        "10.250.0.0",
        "--prefix",
        "24",
        "--ranges",
        "10.250.0.1-10.250.0.200",
        "--floating-address",
        "10.250.0.3",
        "--gateway-address",
        "10.250.0.1",
    ];
    tokio::task::block_in_place(|| controller.tandem(&moved).expect(0));
    // The controller is not asked before as many have answered: asking costs it time.
    let mut heard = [Duration::ZERO; 2];
    let (mut sent, all) = (0, crowd.states.len());
    for (share, heard) in [50, 99].into_iter().zip(&mut heard) {
        let many = (all - 1) * share / 100 + 1;
        while sent < many {
            answered.recv().await.expect("agents that live");
            sent += 1;
        }
        while counter(controller, kept) - before < many as f64 {
            assert!(start.elapsed() < PATIENCE, "agents have answered");
            tokio::time::sleep(LOOK).await;
        }
        *heard = start.elapsed();
    }
    let after = processes.map(cpu);
    let spent = [after[0] - before_cpu[0], after[1] - before_cpu[1]];
    (heard, spent, waiting.join_all().await)
}

/// Waits for something of an agent.
async fn until(state: &mut watch::Receiver<LinkState>, what: impl FnMut(&LinkState) -> bool) {
    let seen = state.wait_for(what).await;
    drop(seen.expect("an agent that lives"));
}

/// A series of the console.
fn counter(controller: &mut Controller, series: &str) -> f64 {
    tokio::task::block_in_place(|| Metrics::of(controller).get(series))
}
