//! Telling the controller the state of the site: the latest wins, one at a time.

use std::sync::Arc;
use std::time::Duration;

use site::{Digest, Generation, Timestamp};

use crate::entropy::after;
use crate::{AgentMessage, Fault, Report};

use super::{Agent, AgentOutput};

/// How long until a refused state is reported again. What it collided with may be gone by then;
/// sooner would only cost.
pub const REFUSED_RETRY: Duration = Duration::from_secs(5 * 60);

/// What the controller knows over the present link.
#[derive(Debug, Default)]
pub(super) struct Reporting {
    /// The state that Hello named.
    hello: Option<Digest>,
    /// The state that is durable at the controller.
    pub(super) acknowledged: Option<Digest>,
    /// The state that was sent and not yet answered.
    in_flight: Option<Digest>,
    /// The state that was refused last, and when to try it again.
    refused: Option<(Digest, Timestamp)>,
    /// A generation that only the controller's networks made, and when it is this site's turn to
    /// report it: all sites came to theirs at once.
    pub(super) held: Option<(Generation, Timestamp)>,
    /// The generation that the controller's networks made last.
    pub(super) made: Option<Generation>,
    /// Within what time the sites report what the last networks of the controller made of them.
    pub(super) spread: Duration,
}

impl Reporting {
    /// A link begins: nothing is known.
    pub(super) fn begin(&mut self, hello: Digest) {
        *self = Self {
            hello: Some(hello),
            ..Self::default()
        };
    }

    /// The controller has, or lacks, the state that Hello named.
    pub(super) fn welcomed(&mut self, report_needed: bool) {
        self.acknowledged = if report_needed { None } else { self.hello };
    }

    /// When a refused state, or one that was held, is due.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        let refused = self.refused.map(|(_, at)| at);
        let held = self.held.map(|(_, at)| at);
        let due = refused.into_iter().chain(held).min();
        due.filter(|_| self.in_flight.is_none())
    }
}

impl Agent {
    /// Reports the present state, unless the controller has it, is judging one, or refused it.
    pub(super) fn report(&mut self, now: Timestamp, out: &mut Vec<AgentOutput>) {
        let (true, Some(connection)) = (self.link.is_live(), self.link.connection()) else {
            return;
        };
        // What is over waits no more, so that nobody is woken for it again.
        let reporting = &mut self.reporting;
        reporting.held = reporting.held.filter(|(_, at)| now < *at);
        reporting.refused = reporting.refused.filter(|(_, at)| now < *at);
        if reporting.in_flight.is_some() || self.is_held() {
            return;
        }
        let digest = self.digest();
        let refused = self.reporting.refused.map(|(known, _)| known);
        if [self.reporting.acknowledged, refused].contains(&Some(digest)) {
            return;
        }
        self.reporting.in_flight = Some(digest);
        self.reporting.refused = None;
        self.reporting.held = None;
        out.push(AgentOutput::Send {
            connection,
            message: AgentMessage::Report(Report {
                digest,
                site: Arc::new(self.site.to_parts()),
            }),
        });
    }

    /// Whether the present state waits for this site's turn.
    pub(super) fn is_held(&self) -> bool {
        let generation = self.site.generation();
        self.reporting
            .held
            .is_some_and(|(made, _)| made == generation)
    }

    pub(super) fn report_accepted(
        &mut self,
        now: Timestamp,
        digest: Digest,
        out: &mut Vec<AgentOutput>,
    ) {
        if self.reporting.in_flight != Some(digest) {
            return;
        }
        self.reporting.in_flight = None;
        self.reporting.acknowledged = Some(digest);
        self.reporting.refused = None;
        self.report(now, out);
    }

    /// What a refused state collided with has changed. A report that is on its way is judged by
    /// the new state of things.
    pub(super) fn report_wanted(&mut self, now: Timestamp, out: &mut Vec<AgentOutput>) {
        self.reporting.acknowledged = None;
        self.reporting.refused = None;
        self.report(now, out);
    }

    pub(super) fn report_refused(
        &mut self,
        now: Timestamp,
        generation: Generation,
        digest: Digest,
        faults: Vec<Fault>,
        out: &mut Vec<AgentOutput>,
    ) {
        if self.reporting.in_flight != Some(digest) {
            return;
        }
        self.reporting.in_flight = None;
        // The controller holds the site in quarantine now: even a state that it had accepted
        // before has to be reported again to come back.
        self.reporting.acknowledged = None;
        self.reporting.refused = Some((digest, after(now, REFUSED_RETRY)));
        out.push(AgentOutput::ReportRefused { generation, faults });
        self.report(now, out);
    }

    /// Nobody would take the state that was to be sent: it is held as one that was refused, while
    /// the link goes on.
    pub(super) fn report_too_large(&mut self, now: Timestamp, digest: Digest) {
        if self.reporting.in_flight == Some(digest) {
            self.reporting.in_flight = None;
            self.reporting.refused = Some((digest, after(now, REFUSED_RETRY)));
        }
    }
}
