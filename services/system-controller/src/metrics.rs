//! What the console tells a monitoring system: aggregates, never a label for a subcloud, since a
//! fleet of ten thousand would make ten thousand series of each.

mod collected;

use std::time::Duration;

use daemon::{Misconduct, Oversize};
use fleet::{CommandOutcome, NetworksAnswer};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub(crate) use collected::Collected;
use collected::Process;

/// Seconds of a commit: an idle disk takes one or two milliseconds, a stalled one seconds.
const COMMIT_SECONDS: [f64; 11] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// One label, whose values are few and known.
type Label = [(&'static str, &'static str); 1];

/// Counters that the drivers of the fleet keep.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Heartbeats of agents.
    pub(crate) heartbeats: Counter,
    /// Messages on the link listener that were too large.
    pub(crate) oversize: Oversize,
    /// Requests on the link listener whose metadata was too large.
    pub(crate) oversize_metadata: Oversize,
    /// Links of agents that no record knows.
    pub(crate) unknown_subclouds: Counter,
    reports: Family<Label, Counter>,
    networks: Family<Label, Counter>,
    enrollments: Family<Label, Counter>,
    goodbyes: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    commands: Family<Label, Counter>,
    commits: Histogram,
}

/// Why a connection to the link listener was ended after its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkRefusal {
    /// What its peer did to HTTP/2.
    Misconduct(Misconduct),
    /// No request came.
    NoRequest,
    /// It has no certificate, and does not end.
    StayedTooLong,
    /// A message of an agent that cannot be read.
    UnreadableMessage,
}

impl LinkRefusal {
    /// The value of the label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Misconduct(misconduct) => misconduct.name(),
            Self::NoRequest => "no_request",
            Self::StayedTooLong => "stayed_too_long",
            Self::UnreadableMessage => "unreadable_message",
        }
    }
}

/// What came of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportOutcome {
    /// It is durable, or was before.
    Accepted,
    /// It breaks the rules.
    Refused,
}

impl Metrics {
    /// Counters at zero.
    pub(crate) fn new() -> Self {
        Self {
            heartbeats: Counter::default(),
            oversize: Oversize::default(),
            oversize_metadata: Oversize::default(),
            unknown_subclouds: Counter::default(),
            reports: Family::default(),
            networks: Family::default(),
            enrollments: Family::default(),
            goodbyes: Family::default(),
            refusals: Family::default(),
            commands: Family::default(),
            commits: Histogram::new(COMMIT_SECONDS),
        }
    }

    /// A report was answered.
    pub(crate) fn reported(&self, outcome: ReportOutcome) {
        let outcome = match outcome {
            ReportOutcome::Accepted => "accepted",
            ReportOutcome::Refused => "refused",
        };
        self.reports.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// An agent said what became of the controller's networks at its site.
    pub(crate) fn networks_answered(&self, answer: &NetworksAnswer) {
        let outcome = match answer.faults.is_empty() {
            true => "kept",
            false => "refused",
        };
        self.networks.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Somebody tried to enroll: `accepted`, `replayed`, or the reason of the refusal.
    pub(crate) fn enrolled(&self, outcome: &'static str) {
        self.enrollments
            .get_or_create(&[("outcome", outcome)])
            .inc();
    }

    /// The controller ended a link.
    pub(crate) fn said_goodbye(&self, reason: &'static str) {
        self.goodbyes.get_or_create(&[("reason", reason)]).inc();
    }

    /// A command to a subcloud came to its end.
    pub(crate) fn commanded(&self, outcome: &CommandOutcome) {
        let outcome = match outcome {
            CommandOutcome::Done(_) => "done",
            CommandOutcome::Failed(_) => "failed",
            CommandOutcome::Refused(_) => "refused",
        };
        self.commands.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A connection was ended for what its peer did.
    pub(crate) fn refused(&self, refusal: LinkRefusal) {
        let label = [("cause", refusal.name())];
        self.refusals.get_or_create(&label).inc();
    }

    /// A write is durable; `took` is from its decision on.
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// Everything that the console tells.
    pub(crate) fn registry(&self, collected: Collected) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let own = registry.sub_registry_with_prefix("tandem");
        own.register_collector(Box::new(collected));
        self.register(own);
        registry
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "link_heartbeats",
            "Heartbeats of agents",
            self.heartbeats.clone(),
        );
        registry.register(
            "reports",
            "Reports of subclouds by outcome",
            self.reports.clone(),
        );
        registry.register(
            "controller_networks_answers",
            "What subclouds said of the controller's networks: kept or refused",
            self.networks.clone(),
        );
        registry.register(
            "enrollments",
            "Attempts to enroll by outcome: accepted, replayed, or the reason of the refusal",
            self.enrollments.clone(),
        );
        registry.register(
            "link_goodbyes",
            "Links that the controller ended, by reason",
            self.goodbyes.clone(),
        );
        registry.register(
            "link_unknown_subclouds",
            "Links of agents whose certificate this controller signed for a subcloud that is not \
             enrolled here: deleted, or added after the backup that was restored",
            self.unknown_subclouds.clone(),
        );
        registry.register(
            "link_refusals",
            "Connections to the link listener that were ended for what the peer did, by cause",
            self.refusals.clone(),
        );
        registry.register(
            "commands",
            "Commands to subclouds by outcome: done, failed there, or refused at either end",
            self.commands.clone(),
        );
        registry.register(
            "commit_seconds",
            "Seconds from the decision on a change of the fleet until it is durable",
            self.commits.clone(),
        );
    }
}
