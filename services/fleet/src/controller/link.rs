//! The controller's side of the links: Hello, reports, heartbeats.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use site::{Digest, SiteParts, Timestamp};

use crate::admission::admit_report;
use crate::agent::HEARTBEAT_BOUNDS;
use crate::entropy::{after, since, up_to};
use crate::{
    AgentMessage, AlarmCounts, Alternates, Candidate, CertificateRequest, ControllerMessage,
    Entropy, EventKind, Fault, Fingerprint, Goodbye, GoodbyeReason, Hello, InstanceId, LinkId,
    Observed, Reason, Refused, Rejection, Report, SharedSubcloud, Subcloud, SubcloudId, Violation,
    Welcome,
};

use super::identity::Opening;
use super::networks::Networks;
use super::peers::Claimed;
use super::sightings::Seen;
use super::{Batch, Controller, Deferred, Output, Proof, Wake, Write};

/// How long a fresh link may stay silent: an agent says Hello with its first bytes.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The told heartbeat interval is up to a tenth shorter than the configured one, so that a fleet
/// that came back at once does not beat in step for ever.
const HEARTBEAT_SPREAD: u32 = 10;

/// A live stream. A subcloud has at most one.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) subcloud: SubcloudId,
    /// What Hello named; `None` before it.
    hello: Option<Digest>,
    /// Welcome waits for the disk, or has been sent.
    welcoming: bool,
    /// Welcome has been sent.
    pub(super) greeted: bool,
    /// The present state of the site is the accepted one, as far as the agent has told.
    pub(super) reported: bool,
    /// How far its site is with the controller's networks.
    pub(super) networks: Networks,
    /// The other controllers that the agent was told of.
    pub(super) alternates: Alternates,
    /// What its certificate proved.
    pub(super) proof: Proof,
    /// Who said Hello, until the Welcome is answered.
    pub(super) unanswered: Option<(InstanceId, Seen)>,
    /// The key that it asked a certificate for.
    pub(super) granted: Option<Fingerprint>,
    /// What waits until fewer writes wait.
    parked: Option<Box<Parked>>,
    /// The agent was asked to report again and has not yet.
    pub(super) asked: bool,
}

/// Messages that cause a write and came while too many writes waited; the newest of each kind.
#[derive(Debug, Default)]
pub(super) struct Parked {
    hello: Option<Hello>,
    report: Option<Report>,
    pub(super) request: Option<CertificateRequest>,
}

impl Controller {
    pub(super) fn link_opened(
        &mut self,
        now: Timestamp,
        link: LinkId,
        subcloud: SubcloudId,
        proof: Proof,
        source: IpAddr,
        out: &mut Vec<Output>,
    ) {
        match self.judge_opening(now, subcloud, proof, source) {
            Opening::Welcome => {}
            Opening::Unknown => {
                let others = self.unknown.place(now);
                let told = Output::UnknownSubcloud {
                    subcloud,
                    source,
                    others,
                };
                self.after_all(Deferred::Output(told), out);
                let goodbye = Goodbye::because(GoodbyeReason::Revoked);
                self.after_all(Deferred::Output(Output::CloseLink { link, goodbye }), out);
                return;
            }
            Opening::Refuse(reason) => {
                // It rests on records that may still be on their way to the disk.
                let goodbye = Goodbye::because(reason);
                self.after_all(Deferred::Output(Output::CloseLink { link, goodbye }), out);
                return;
            }
            Opening::Cloned(record, sign) => {
                self.shut_out(now, &record, Some(link), &sign, out);
                return;
            }
        }
        if let Some(old) = self.presence(subcloud).link {
            self.close(now, old, Goodbye::because(GoodbyeReason::Superseded), out);
        }
        let state = Link {
            subcloud,
            proof,
            hello: None,
            welcoming: false,
            greeted: false,
            reported: false,
            networks: Networks::default(),
            alternates: Alternates::default(),
            unanswered: None,
            granted: None,
            parked: None,
            asked: false,
        };
        self.links.insert(link, state);
        self.presence.entry(subcloud).or_default().link = Some(link);
        self.wakeups.at(after(now, HELLO_TIMEOUT), Wake::Link(link));
    }

    pub(super) fn link_message(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        link: LinkId,
        message: AgentMessage,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let (subcloud, greeted, said_hello) =
            (state.subcloud, state.greeted, state.hello.is_some());
        if greeted && state.unanswered.is_some() {
            self.answered(now, link, out);
            if !self.links.contains_key(&link) {
                return;
            }
        }
        match message {
            AgentMessage::Hello(_) if said_hello => {
                let goodbye = Goodbye::because(GoodbyeReason::ProtocolViolation);
                self.close(now, link, goodbye, out);
            }
            AgentMessage::Hello(hello) => self.hello(now, entropy, link, hello, out),
            AgentMessage::Heartbeat if greeted => {
                self.heard(now, subcloud);
                self.confirm(now, subcloud, out);
                out.push(Output::Send {
                    link,
                    message: ControllerMessage::Heartbeat,
                });
            }
            AgentMessage::Report(report) if greeted => {
                self.heard(now, subcloud);
                self.confirm(now, subcloud, out);
                self.report(now, link, report, out);
            }
            AgentMessage::CommandResult(result) if greeted => {
                self.heard(now, subcloud);
                self.command_result(now, link, result, out);
            }
            AgentMessage::CertificateRequest(request) if greeted => {
                self.heard(now, subcloud);
                self.certificate_requested(now, link, request, out);
            }
            AgentMessage::NetworksAnswer(answer) if greeted => {
                self.heard(now, subcloud);
                self.networks_answered(link, answer);
            }
            AgentMessage::Heartbeat
            | AgentMessage::Report(_)
            | AgentMessage::CommandResult(_)
            | AgentMessage::CertificateRequest(_)
            | AgentMessage::NetworksAnswer(_) => {
                let goodbye = Goodbye::because(GoodbyeReason::ProtocolViolation);
                self.close(now, link, goodbye, out);
            }
        }
    }

    /// A message comes in pieces, and the agent's heartbeats wait behind it: the pieces count as
    /// they would, and are answered as they are, so that a long message over a slow line ends the
    /// link at neither end. Twice in an interval is often enough.
    pub(super) fn link_heard(&mut self, now: Timestamp, link: LinkId, out: &mut Vec<Output>) {
        let Some(state) = self.links.get(&link).filter(|state| state.greeted) else {
            return;
        };
        let id = state.subcloud;
        let last_seen = self.presence(id).last_seen;
        let pause = self.config.heartbeat_interval / 2;
        if last_seen.is_some_and(|seen| since(now, seen) < pause) {
            return;
        }
        self.heard(now, id);
        out.push(Output::Send {
            link,
            message: ControllerMessage::Heartbeat,
        });
    }

    pub(super) fn link_closed(&mut self, now: Timestamp, link: LinkId, out: &mut Vec<Output>) {
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        self.parked.retain(|parked| *parked != link);
        self.unqueue(link);
        if self.presence(state.subcloud).link == Some(link) {
            self.unlinked(now, state.subcloud);
        }
        self.commands_lost(now, link, out);
    }

    pub(super) fn close(
        &mut self,
        now: Timestamp,
        link: LinkId,
        goodbye: Goodbye,
        out: &mut Vec<Output>,
    ) {
        self.link_closed(now, link, out);
        out.push(Output::CloseLink { link, goodbye });
    }

    pub(super) fn hello_due(&mut self, now: Timestamp, link: LinkId, out: &mut Vec<Output>) {
        if self
            .links
            .get(&link)
            .is_some_and(|state| state.hello.is_none())
        {
            self.close(
                now,
                link,
                Goodbye::because(GoodbyeReason::HelloTimeout),
                out,
            );
        }
    }

    /// Lets a message of a link wait for room in the commits.
    pub(super) fn park(&mut self, link: LinkId, keep: impl FnOnce(&mut Parked)) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if state.parked.is_none() {
            self.parked.push_back(link);
        }
        keep(state.parked.get_or_insert_default());
    }

    /// Takes up what had to wait, as far as there is room.
    pub(super) fn unpark(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        out: &mut Vec<Output>,
    ) {
        while !self.commits.is_full() {
            let Some(link) = self.parked.pop_front() else {
                return;
            };
            let parked = self
                .links
                .get_mut(&link)
                .and_then(|state| state.parked.take());
            let Parked {
                hello,
                report,
                request,
            } = parked.map(|parked| *parked).unwrap_or_default();
            if let Some(hello) = hello {
                self.hello(now, entropy, link, hello, out);
            }
            if let Some(report) = report {
                self.report(now, link, report, out);
            }
            if let Some(request) = request {
                self.certificate_requested(now, link, request, out);
            }
        }
    }

    pub(super) fn hello(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        link: LinkId,
        hello: Hello,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        // The first use of a key is written down.
        let (id, proof) = (state.subcloud, state.proof);
        if self.commits.is_full() && self.first_use(id, proof) {
            self.park(link, |parked| parked.hello = Some(hello));
            return;
        }
        if !self.identify(now, link, &hello, out) {
            return;
        }
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let seen = match state.unanswered {
            // It had to wait for its turn.
            Some((_, seen)) => seen,
            None => self.sightings.hello(id, hello.instance, hello.connection),
        };
        state.unanswered = Some((hello.instance, seen));
        state.hello = Some(hello.digest);
        state.networks = Networks::of_hello(hello.networks);
        match self.claimed(now, link, id, &hello, out) {
            Claimed::Welcome => {}
            Claimed::Queued => return,
            Claimed::Elsewhere(goodbye) => return self.close(now, link, goodbye, out),
        }
        self.online(now, id, out);
        let record = self.fleet.subcloud(id);
        let known = record
            .filter(|record| !record.quarantined())
            .and_then(|record| record.observed.as_ref())
            .is_some_and(|observed| observed.digest == hello.digest);
        let interval = self.config.heartbeat_interval;
        let welcome = Welcome {
            controller: self.config.id,
            epoch: record.map(|known| known.epoch()).unwrap_or_default(),
            // Never below what agents accept, also when that is what was configured.
            heartbeat_interval: (interval - up_to(entropy, interval / HEARTBEAT_SPREAD))
                .max(*HEARTBEAT_BOUNDS.start()),
            report_needed: !known,
            answer_at_once: seen.doubtful,
            controllers: self.config.controllers.clone(),
            alternates: record
                .map(|known| self.alternates_of(known))
                .unwrap_or_default(),
        };
        if let Some(state) = self.links.get_mut(&link) {
            state.reported = known;
            state.welcoming = true;
        }
        // Not asking for a report acknowledges it, so the welcome waits for the disk as well.
        self.after_record(id, Deferred::Greet { link, welcome }, out);
    }

    /// Whether a link's agent was welcomed.
    pub(super) fn link_greeted(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|state| state.greeted)
    }

    /// Whether a link's agent was welcomed, or will be as soon as the disk is done.
    pub(super) fn link_welcoming(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|state| state.welcoming)
    }

    /// The key of the certificate at the other end of a link.
    pub(super) fn link_key(&self, link: LinkId) -> Option<Fingerprint> {
        self.links.get(&link).map(|state| state.proof.key)
    }

    /// Whether a welcomed agent has been told something else; from now on it has been told this.
    pub(super) fn alternates_are_news(&mut self, link: LinkId, alternates: &Alternates) -> bool {
        let Some(state) = self.links.get_mut(&link).filter(|state| state.greeted) else {
            return false;
        };
        let news = state.alternates != *alternates;
        state.alternates.clone_from(alternates);
        news
    }

    fn report(&mut self, now: Timestamp, link: LinkId, report: Report, out: &mut Vec<Output>) {
        if self.commits.is_full() {
            self.park(link, |parked| parked.report = Some(report));
            return;
        }
        let Some(id) = self.links.get(&link).map(|state| state.subcloud) else {
            return;
        };
        let Some(record) = self.fleet.subcloud(id).map(Arc::clone) else {
            return;
        };
        self.reported(link);
        match self.assess(&record, &report) {
            Ok(candidate) => self.accept(now, link, &record, report, candidate, out),
            Err(rejection) => self.refuse(now, link, &record, &report, &rejection, out),
        }
    }

    /// Judges a report by F2-F7. A state that is accepted already is not judged again: its
    /// addresses are the site's own.
    fn assess(&self, record: &Subcloud, report: &Report) -> Result<Option<Candidate>, Rejection> {
        let known = |observed: &Observed| observed.digest == report.digest;
        if record.observed.as_ref().is_some_and(known) {
            return Ok(None);
        }
        same_site(record, &report.site)?;
        let (candidate, _) = admit_report(&self.fleet, record, &report.site)?;
        Ok(Some(candidate))
    }

    fn accept(
        &mut self,
        now: Timestamp,
        link: LinkId,
        record: &SharedSubcloud,
        report: Report,
        candidate: Option<Candidate>,
        out: &mut Vec<Output>,
    ) {
        if let Some(state) = self.links.get_mut(&link) {
            state.reported = true;
        }
        let generation = report.site.generation;
        let acknowledgement = Deferred::Output(Output::Send {
            link,
            message: ControllerMessage::ReportAccepted {
                generation,
                digest: report.digest,
            },
        });
        if candidate.is_none() && !record.quarantined() {
            self.after_record(record.id, acknowledgement, out);
            return;
        }
        let lost = candidate.as_ref().is_some_and(|candidate| {
            let link = candidate.footprint.link.as_ref();
            !self.own.networks.kept_by(&report.site, link)
        });
        let mut batch = Batch::default();
        let mut changed = Subcloud::clone(record);
        changed.refused = None;
        changed.updated_at = now;
        if let Some(candidate) = candidate {
            changed.observed = Some(Observed {
                generation,
                digest: report.digest,
                received_at: now,
                alarms: Some(alarms_of(&report.site)),
                footprint: candidate.footprint,
            });
            batch.writes.push(Write::Site {
                subcloud: record.id,
                site: report.site,
            });
        }
        self.put(&mut batch, changed);
        let kind = EventKind::ReportAccepted { generation };
        self.log_event(&mut batch, now, Some(record.id), &record.name, kind);
        batch.then.push(acknowledgement);
        self.commit(batch, out);
        self.tell_networks_again(now, link, lost, out);
    }

    fn refuse(
        &mut self,
        now: Timestamp,
        link: LinkId,
        record: &SharedSubcloud,
        report: &Report,
        rejection: &Rejection,
        out: &mut Vec<Output>,
    ) {
        let generation = report.site.generation;
        let faults = Fault::all_of(rejection);
        self.hold(record.id, rejection);
        let refusal = Deferred::Output(Output::Send {
            link,
            message: ControllerMessage::ReportRefused {
                generation,
                digest: report.digest,
                faults: faults.clone(),
            },
        });
        let again = |refused: &Refused| refused.digest == report.digest && refused.faults == faults;
        if record.refused.as_ref().is_some_and(again) {
            self.after_record(record.id, refusal, out);
            return;
        }
        let mut batch = Batch::default();
        let mut changed = Subcloud::clone(record);
        changed.refused = Some(Refused {
            generation,
            digest: report.digest,
            received_at: now,
            since: record.refused.as_ref().map_or(now, |refused| refused.since),
            faults: faults.clone(),
        });
        changed.updated_at = now;
        self.put(&mut batch, changed);
        let kind = EventKind::ReportRefused { generation, faults };
        self.log_event(&mut batch, now, Some(record.id), &record.name, kind);
        batch.then.push(refusal);
        self.commit(batch, out);
    }
}

/// A site that was installed anew has another uuid: it is no longer the one that enrolled.
fn same_site(record: &Subcloud, site: &SiteParts) -> Result<(), Rejection> {
    let reported = site.identity.uuid;
    match record.enrolled() {
        Some(enrolled) if enrolled.site != reported => Err(Rejection::one(
            Violation::new(
                Reason::SiteReplaced,
                format!(
                    "subcloud {} enrolled with site {}, but reports as site {reported}",
                    record.name, enrolled.site
                ),
                format!(
                    "`tandem dcmanager subcloud token {} --reenroll` gives a token with which the \
                     new site can enroll in its place",
                    record.name
                ),
            )
            .object("subcloud", record.name.clone())
            .fact("enrolledSite", enrolled.site)
            .fact("reportedSite", reported),
        )),
        _ => Ok(()),
    }
}

/// How many alarms a site has of each severity.
pub(super) fn alarms_of(site: &SiteParts) -> AlarmCounts {
    AlarmCounts::of(site.alarms.iter().map(|alarm| alarm.severity))
}
