//! What is counted elsewhere and only read when somebody asks.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::Weak;

use api::access::AccessReason;
use daemon::{CountBy, Misconduct, Oversize};
use fleet::{Availability, Management, PeerAlarm, PeerSeverity, RolloutCensus, Sync, Tally};
use identity::{Connections, Counts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use site::{ReasonSet as _, Severity};

use crate::hub::Hub;
use crate::rollouts::Runner;

/// Labels with their values.
type Labels = Vec<(&'static str, &'static str)>;

/// The fleet, and the listeners with what their clients did.
#[derive(Debug)]
pub(crate) struct Collected {
    /// The fleet. It ends before the console does.
    pub(crate) hub: Weak<Hub>,
    /// Its rollouts. They end before the console does.
    pub(crate) rollouts: Weak<Runner>,
    /// The name of a listener with its connections; listeners of one name are counted together.
    pub(crate) connections: Vec<(&'static str, Connections)>,
    /// The name of a listener with its messages that were too large.
    pub(crate) oversize: Vec<(&'static str, Oversize)>,
    /// The name of a listener with its requests whose metadata was too large.
    pub(crate) oversize_metadata: Vec<(&'static str, Oversize)>,
    /// Connections of operators that were ended for what the peer did.
    pub(crate) misconduct: CountBy<Misconduct>,
    /// Calls of operators, or of whoever is none, that were turned away.
    pub(crate) refused: CountBy<AccessReason>,
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(hub) = self.hub.upgrade() {
            encode_fleet(&mut encoder, &hub)?;
            encode_alarms(&mut encoder, &hub)?;
        }
        if let Some(rollouts) = self.rollouts.upgrade() {
            encode_rollouts(&mut encoder, &rollouts.census())?;
        }
        self.encode_connections(&mut encoder)?;
        counters(
            &mut encoder,
            "oversize_messages",
            "Messages that were refused because they were too large",
            of_listeners(&self.oversize),
        )?;
        counters(
            &mut encoder,
            "oversize_metadata",
            "Requests that were refused because their metadata was too large",
            of_listeners(&self.oversize_metadata),
        )?;
        let misconduct = self.misconduct.counts();
        counters(
            &mut encoder,
            "operator_refusals",
            "Connections to the operators' listeners that were ended for what the peer did, by cause",
            misconduct.map(|(cause, count)| (vec![("cause", cause.name())], count)),
        )?;
        let refused = self.refused.counts();
        counters(
            &mut encoder,
            "calls_refused",
            "Calls of the operators' interface that were turned away for who called, by reason",
            refused.map(|(reason, count)| (vec![("reason", reason.name())], count)),
        )
    }
}

fn of_listeners(counts: &[(&'static str, Oversize)]) -> impl Iterator<Item = (Labels, u64)> {
    let counts = counts.iter();
    counts.map(|(listener, count)| (vec![("listener", *listener)], count.count()))
}

impl Collected {
    fn encode_connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let listeners = self.connections.iter();
        let counts = together(listeners.map(|(name, connections)| (*name, connections.counts())));
        let each = |value: fn(&Counts) -> u64| {
            counts
                .iter()
                .map(move |(listener, counts)| (vec![("listener", *listener)], value(counts)))
        };
        gauges(
            encoder,
            "connections",
            "Connections that are open, those that still shake hands included",
            each(|counts| whole(counts.open)),
        )?;
        counters(
            encoder,
            "handshakes",
            "Handshakes that succeeded",
            each(|counts| counts.established),
        )?;
        counters(
            encoder,
            "resumed_handshakes",
            "Handshakes that resumed a session",
            each(|counts| counts.resumed),
        )?;
        let refused = counts.iter().flat_map(|(listener, counts)| {
            let Counts {
                open: _,
                established: _,
                resumed: _,
                handshake_failed,
                handshake_timeout,
                too_many_connections,
                too_many_from_source,
                accept_failed,
            } = *counts;
            [
                ("handshake_failed", handshake_failed),
                ("handshake_timeout", handshake_timeout),
                ("too_many_connections", too_many_connections),
                ("too_many_from_source", too_many_from_source),
                ("accept_failed", accept_failed),
            ]
            .map(|(cause, count)| (vec![("listener", *listener), ("cause", cause)], count))
        });
        counters(
            encoder,
            "connection_refusals",
            "Connections that came to nothing, by cause",
            refused,
        )
    }
}

/// The counts of each name. A series must not come twice, and the operators of a dual-stack site
/// have a listener for each family.
fn together(each: impl Iterator<Item = (&'static str, Counts)>) -> BTreeMap<&'static str, Counts> {
    let mut all: BTreeMap<&'static str, Counts> = BTreeMap::new();
    for (name, counts) in each {
        *all.entry(name).or_default() += counts;
    }
    all
}

fn encode_fleet(encoder: &mut DescriptorEncoder<'_>, hub: &Hub) -> fmt::Result {
    let mut subclouds: BTreeMap<Labels, u64> = BTreeMap::new();
    for shown in hub.subclouds() {
        let (subcloud, presence) = (shown.subcloud, shown.presence);
        let labels = vec![
            ("availability", availability(presence.availability)),
            ("management", management(subcloud.management)),
            ("sync", sync(subcloud.sync())),
        ];
        *subclouds.entry(labels).or_default() += 1;
    }
    gauges(
        encoder,
        "subclouds",
        "Subclouds by availability, management state and whether their newest report holds",
        subclouds,
    )?;
    let (links, waiting) = hub.load();
    gauges(
        encoder,
        "links",
        "Links of agents that are open",
        [(Labels::new(), whole(links))],
    )?;
    gauges(
        encoder,
        "commits_waiting",
        "Changes of the fleet that are not durable yet",
        [(Labels::new(), whole(waiting))],
    )?;
    counters(
        encoder,
        "store_transactions",
        "Transactions of the store since the start; each makes all that waited durable",
        [(Labels::new(), hub.store().transactions())],
    )
}

/// Those about subclouds are counted as they are raised; those about peers are few.
fn encode_alarms(encoder: &mut DescriptorEncoder<'_>, hub: &Hub) -> fmt::Result {
    let severity = |severity| match severity {
        PeerSeverity::Major => Severity::Major,
        PeerSeverity::Critical => Severity::Critical,
    };
    let peers = PeerAlarm::KINDS.map(|(id, worst)| ((id, severity(worst)), 0));
    let fleet = hub.alarms_by_kind();
    let fleet = fleet.map(|(kind, count)| ((kind.id(), kind.severity()), count));
    let mut alarms: BTreeMap<(&str, Severity), u64> = peers.into_iter().chain(fleet).collect();
    for alarm in hub.peer_alarms() {
        let known = alarms.iter_mut();
        let same =
            known.filter(|((id, severity), _)| *id == alarm.id && *severity == alarm.severity);
        same.for_each(|(_, count)| *count += 1);
    }
    let labelled = alarms.into_iter().map(|((id, severity), count)| {
        let labels = vec![("id", id), ("severity", severity.name())];
        (labels, count)
    });
    gauges(
        encoder,
        "alarms",
        "Alarms about subclouds and peers that are raised here, by id and severity",
        labelled,
    )
}

fn encode_rollouts(encoder: &mut DescriptorEncoder<'_>, census: &RolloutCensus) -> fmt::Result {
    let RolloutCensus {
        running,
        paused,
        aborted,
        members,
    } = *census;
    let by_state = |(state, count): (&'static str, u32)| (vec![("state", state)], u64::from(count));
    let rollouts = [
        ("running", running),
        ("paused", paused),
        ("aborted", aborted),
    ];
    gauges(
        encoder,
        "open_rollouts",
        "Rollouts that have not ended, by state",
        rollouts.map(by_state),
    )?;
    let Tally {
        pending,
        in_flight,
        done,
        refused,
        failed,
        skipped,
    } = members;
    let members = [
        ("pending", pending),
        ("in-flight", in_flight),
        ("done", done),
        ("refused", refused),
        ("failed", failed),
        ("skipped", skipped),
    ];
    gauges(
        encoder,
        "open_rollout_members",
        "Subclouds of rollouts that have not ended, by what became of them",
        members.map(by_state),
    )
}

/// The memory, the time and the files of this process, under the names that everybody uses.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let memory = encoder.encode_descriptor(
            "process_resident_memory_bytes",
            "Memory that is resident",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(resident_bytes().unwrap_or_default()).encode(memory)?;
        let files = encoder.encode_descriptor(
            "process_open_fds",
            "File descriptors that are open",
            None,
            MetricType::Gauge,
        )?;
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        ConstGauge::new(whole(open)).encode(files)?;
        let time = encoder.encode_descriptor(
            "process_cpu_seconds",
            "Seconds of CPU in user and system mode",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(cpu_seconds().unwrap_or_default()).encode(time)
    }
}

/// The second number of `statm` counts resident pages.
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * whole(rustix::param::page_size()))
}

/// After the name of the program, which may hold spaces, the 12th and 13th numbers of `stat` are
/// the ticks in user and in system mode.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, numbers) = stat.rsplit_once(')')?;
    let ticks = numbers.split_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.map_while(|ticks| ticks.parse::<u32>().ok()).sum();
    let each = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(f64::from(ticks) / f64::from(each))
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn availability(value: Availability) -> &'static str {
    match value {
        Availability::Unknown => "unknown",
        Availability::Online => "online",
        Availability::Offline => "offline",
    }
}

fn management(value: Management) -> &'static str {
    match value {
        Management::Unmanaged => "unmanaged",
        Management::Managed => "managed",
    }
}

fn sync(value: Sync) -> &'static str {
    match value {
        Sync::Unknown => "unknown",
        Sync::InSync => "in-sync",
        Sync::OutOfSync => "out-of-sync",
    }
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_one_name_are_one_series() {
        let counts = |open, established| Counts {
            open,
            established,
            ..Counts::default()
        };
        let each = [
            ("operators", counts(1, 4)),
            ("link", counts(7, 9)),
            ("operators", counts(2, 5)),
        ];
        let all = together(each.into_iter());
        assert_eq!(
            all.into_iter().collect::<Vec<_>>(),
            [("link", counts(7, 9)), ("operators", counts(3, 9))]
        );
    }
}
