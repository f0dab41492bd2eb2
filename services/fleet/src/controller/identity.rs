//! Whose link it is: which keys are taken, their renewal, and what a copied identity leads to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use site::{Family, Timestamp};

use crate::entropy::since;
use crate::{
    CertificateRequest, Cloned, Enrolled, Enrollment, Event, EventKind, Fault, Fingerprint,
    Goodbye, GoodbyeReason, Hello, LinkId, Reason, SharedSubcloud, Subcloud, SubcloudId, Violation,
};

use super::peers::reachable;
use super::{Batch, Controller, Deferred, Output, Proof, SourceCheck};

/// How long after a key lost its worth a link with it may still be on its way: a
/// handshake takes up to 5 s, and a connection whose process died is given up by keepalive after
/// 40 s. Later, an old key is in the hands of somebody else.
pub const STALE_KEY: Duration = Duration::from_secs(60);

/// How far an agent may be ahead in the renewals of its certificate after a restore. Nobody gets
/// there honestly, and counts that are told cannot run out.
const MAX_RENEWALS_STEP: u64 = 1 << 32;

/// What to do with a link that was opened.
pub(super) enum Opening {
    /// It may say Hello.
    Welcome,
    /// It ends.
    Refuse(GoodbyeReason),
    /// It ends as a revoked one does, and operators are told: this site signed its certificate and
    /// has no enrolled subcloud to it.
    Unknown,
    /// It shows that two hold the identity.
    Cloned(SharedSubcloud, String),
}

impl Controller {
    /// Judges a link by the key of its certificate, or else by the peer that vouches for it, and
    /// by where it comes from.
    pub(super) fn judge_opening(
        &self,
        now: Timestamp,
        subcloud: SubcloudId,
        proof: Proof,
        source: IpAddr,
    ) -> Opening {
        let record = self.fleet.subcloud(subcloud);
        let known = record.and_then(|record| Some((record, record.enrolled()?)));
        let Some((record, enrolled)) = known else {
            return match proof.signed {
                Some(signed) if signed.by != self.config.authority.key => {
                    Opening::Refuse(GoodbyeReason::Revoked)
                }
                _ => Opening::Unknown,
            };
        };
        if enrolled.cloned.is_some() {
            return Opening::Refuse(GoodbyeReason::IdentityCloned);
        }
        if !holds(enrolled, proof.key)
            && !self.vouched(record, enrolled, proof)
            && !self.newer(enrolled, proof)
        {
            return superseded(now, record, enrolled, proof.key);
        }
        let family = self.fleet.controller().link.as_ref();
        let family = family.map(|link| link.family());
        let over = Family::of(source.to_canonical());
        if self.config.source_check == SourceCheck::Strict && family != Some(over) {
            return Opening::Refuse(GoodbyeReason::WrongFamily);
        }
        Opening::Welcome
    }

    /// Whether a peer vouches for a key that is not known here: it may have renewed the certificate
    /// since it was heard last. Not for one that this site has seen renewed, nor for what was signed
    /// before the site enrolled anew: an operator's word has put an end to that.
    fn vouched(&self, record: &Subcloud, enrolled: &Enrolled, proof: Proof) -> bool {
        const SECOND: u64 = 1000;
        let renewed = record.owned_here() && enrolled.renewal.superseded_at(proof.key).is_some();
        proof.signed.is_some_and(|signed| {
            !renewed
                && signed.at.0.saturating_add(SECOND) > enrolled.enrolled_at.0
                && self.signed_by_peer(record, signed.by)
        })
    }

    /// Whether this site signed a certificate for a key that is not known here, and later than any
    /// that it knows of. A key is durable before it is signed, so the record is older than the
    /// certificate: it was restored from a backup. Whatever was signed before the newest grant that
    /// the record knows of, or before the site enrolled anew, stays worth nothing; in the same
    /// second there is no telling.
    fn newer(&self, enrolled: &Enrolled, proof: Proof) -> bool {
        let newest = enrolled.renewal.granted_at.max(enrolled.enrolled_at);
        enrolled.renewal.superseded_at(proof.key).is_none()
            && proof
                .signed
                .is_some_and(|signed| signed.by == self.config.authority.key && signed.at > newest)
    }

    /// Judges Hello against the key of its link, and puts a new key in the place of the old one
    /// when this is its first use. Whether the link goes on.
    pub(super) fn identify(
        &mut self,
        now: Timestamp,
        link: LinkId,
        hello: &Hello,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some((id, proof)) = self
            .links
            .get(&link)
            .map(|state| (state.subcloud, state.proof))
        else {
            return false;
        };
        let key = proof.key;
        let record = self.fleet.subcloud(id).map(Arc::clone);
        let enrolled = record.as_ref().and_then(|record| record.enrolled());
        let (Some(record), Some(enrolled)) = (&record, enrolled) else {
            self.close(now, link, Goodbye::because(GoodbyeReason::Revoked), out);
            return false;
        };
        if !reachable(hello.renewals, enrolled.renewal.count)
            || !reachable(hello.epoch.0, enrolled.epoch.0)
        {
            let goodbye = Goodbye::because(GoodbyeReason::ProtocolViolation);
            self.close(now, link, goodbye, out);
            return false;
        }
        if !holds(enrolled, key) {
            // A peer may have renewed the certificate since it was heard last.
            if self.vouched(record, enrolled, proof) {
                return true;
            }
            if let Some(signed) = proof.signed.filter(|_| self.newer(enrolled, proof)) {
                return self.catch_up(now, link, record, (key, signed.at, hello.renewals), out);
            }
            self.close(now, link, Goodbye::because(GoodbyeReason::Revoked), out);
            return false;
        }
        if !record.owned_here() {
            // Its owner counts the renewals.
            return true;
        }
        let first_use = enrolled.key != key;
        let expected = enrolled.renewal.count.saturating_add(u64::from(first_use));
        if hello.renewals > expected {
            let goodbye = Goodbye::because(GoodbyeReason::ProtocolViolation);
            self.close(now, link, goodbye, out);
            return false;
        }
        if hello.renewals < expected {
            let sign = format!(
                "its agent says that its certificate was renewed {} times, and it was {expected}",
                hello.renewals
            );
            self.shut_out(now, record, Some(link), &sign, out);
            return false;
        }
        if first_use {
            self.take_up(now, record, enrolled, key, out);
        }
        true
    }

    /// Whether a link with this key would be the first use of one that the record knows as the
    /// next, or not at all.
    pub(super) fn first_use(&self, id: SubcloudId, proof: Proof) -> bool {
        let record = self.fleet.subcloud(id).and_then(|record| record.enrolled());
        record.is_some_and(|enrolled| {
            enrolled.renewal.next == Some(proof.key)
                || (!holds(enrolled, proof.key) && self.newer(enrolled, proof))
        })
    }

    /// The record is older than the certificate: it learns from it. The keys that it knew are worth
    /// nothing from now on, and whoever comes with them has a copy. Whether the link goes on.
    fn catch_up(
        &mut self,
        now: Timestamp,
        link: LinkId,
        record: &SharedSubcloud,
        (key, signed_at, renewals): (Fingerprint, Timestamp, u64),
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(enrolled) = record.enrolled() else {
            return false;
        };
        // It may be lower: the site may have enrolled anew since the backup.
        if renewals.saturating_sub(enrolled.renewal.count) > MAX_RENEWALS_STEP {
            let goodbye = Goodbye::because(GoodbyeReason::ProtocolViolation);
            self.close(now, link, goodbye, out);
            return false;
        }
        let mut enrolled = enrolled.clone();
        let renewal = &mut enrolled.renewal;
        let next = renewal.next.take();
        for lost in [Some(enrolled.key), next].into_iter().flatten() {
            renewal.supersede(now, lost);
        }
        renewal.count = renewals;
        renewal.granted(signed_at);
        enrolled.key = key;
        let mut batch = Batch::default();
        self.put(&mut batch, changed(now, record, enrolled));
        let kind = EventKind::CertificateNewer;
        self.log_event(&mut batch, now, Some(record.id), &record.name, kind);
        self.commit(batch, out);
        true
    }

    /// The new key was used: from now on it is the only one.
    fn take_up(
        &mut self,
        now: Timestamp,
        record: &SharedSubcloud,
        enrolled: &Enrolled,
        key: Fingerprint,
        out: &mut Vec<Output>,
    ) {
        let mut enrolled = enrolled.clone();
        enrolled.renewal.supersede(now, enrolled.key);
        enrolled.renewal.count = enrolled.renewal.count.saturating_add(1);
        enrolled.renewal.next = None;
        enrolled.key = key;
        let mut batch = Batch::default();
        self.put(&mut batch, changed(now, record, enrolled));
        batch.then.push(Deferred::Output(Output::Event(Event {
            position: self.last_event,
            at: now,
            subcloud: Some(record.id),
            name: record.name.clone(),
            kind: EventKind::CertificateRenewed,
        })));
        self.commit(batch, out);
    }

    /// An agent asks for a certificate for a fresh key. The key is durable before it is signed;
    /// the same key is signed again, for the answer may have been lost. One link may ask for one
    /// key, which bounds the writes that an agent can cause.
    pub(super) fn certificate_requested(
        &mut self,
        now: Timestamp,
        link: LinkId,
        request: CertificateRequest,
        out: &mut Vec<Output>,
    ) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let (id, key) = (state.subcloud, request.key);
        if state.granted.is_some_and(|granted| granted != key) {
            self.close(
                now,
                link,
                Goodbye::because(GoodbyeReason::ProtocolViolation),
                out,
            );
            return;
        }
        if self.commits.is_full() {
            self.park(link, |parked| parked.request = Some(request));
            return;
        }
        let record = self.fleet.subcloud(id).map(Arc::clone);
        let enrolled = record.as_ref().and_then(|record| record.enrolled());
        let (Some(record), Some(enrolled)) = (&record, enrolled) else {
            return;
        };
        if enrolled.key == key || enrolled.renewal.superseded_at(key).is_some() {
            self.close(
                now,
                link,
                Goodbye::because(GoodbyeReason::ProtocolViolation),
                out,
            );
            return;
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.granted = Some(key);
        }
        let answer = Deferred::Output(Output::SendCertificate {
            link,
            subcloud: id,
            request,
        });
        if enrolled.renewal.next == Some(key) {
            self.after_record(id, answer, out);
            return;
        }
        let mut enrolled = enrolled.clone();
        // A holder that has the certificate of a key never asks for another one in its place. If
        // the key that falls out here is used all the same, somebody else asked.
        if let Some(lost) = enrolled.renewal.next.replace(key) {
            enrolled.renewal.supersede(now, lost);
        }
        enrolled.renewal.granted(self.dating(now));
        let mut batch = Batch::default();
        self.put(&mut batch, changed(now, record, enrolled));
        batch.then.push(answer);
        self.commit(batch, out);
    }

    /// An agent said something after its Welcome: its process is alive.
    pub(super) fn answered(&mut self, now: Timestamp, link: LinkId, out: &mut Vec<Output>) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some((instance, seen)) = state.unanswered.take() else {
            return;
        };
        let id = state.subcloud;
        let two = self.sightings.answered(id, instance, seen.number);
        if !two && !seen.behind {
            return;
        }
        if let Some(record) = self.fleet.subcloud(id).map(Arc::clone) {
            let sign = "two processes with its certificate are alive at the same time";
            self.shut_out(now, &record, Some(link), sign, out);
        }
    }

    /// Two hold the identity, and nobody can tell which is the right one: both are cut, and the
    /// record says so until an operator lets the site enroll anew. This is the one place from
    /// which operators are told.
    pub(super) fn shut_out(
        &mut self,
        now: Timestamp,
        record: &SharedSubcloud,
        link: Option<LinkId>,
        sign: &str,
        out: &mut Vec<Output>,
    ) {
        let Some(enrolled) = record.enrolled() else {
            return;
        };
        let fault = Fault::from(&identity_cloned(&record.name, sign));
        let mut enrolled = enrolled.clone();
        enrolled.cloned = Some(Box::new(Cloned {
            at: now,
            fault: fault.clone(),
        }));
        let mut batch = Batch::default();
        self.put(&mut batch, changed(now, record, enrolled));
        let kind = EventKind::IdentityCloned {
            faults: vec![fault],
        };
        self.log_event(&mut batch, now, Some(record.id), &record.name, kind);
        let mut ended = vec![];
        ended.extend(self.presence(record.id).link);
        ended.extend(link.filter(|link| !ended.contains(link)));
        for link in ended {
            self.link_closed(now, link, out);
            batch.then.push(Deferred::Output(Output::CloseLink {
                link,
                goodbye: Goodbye::because(GoodbyeReason::IdentityCloned),
            }));
        }
        self.sightings.forget(record.id);
        self.commit(batch, out);
    }
}

/// Whether a link with this key may be the subcloud's.
fn holds(enrolled: &Enrolled, key: Fingerprint) -> bool {
    enrolled.key == key || enrolled.renewal.next == Some(key)
}

/// A key that is not, or no longer, the subcloud's.
fn superseded(
    now: Timestamp,
    record: &SharedSubcloud,
    enrolled: &Enrolled,
    key: Fingerprint,
) -> Opening {
    let Some(at) = enrolled.renewal.superseded_at(key) else {
        return Opening::Refuse(GoodbyeReason::Revoked);
    };
    if since(now, at) <= STALE_KEY {
        return Opening::Refuse(GoodbyeReason::Superseded);
    }
    let sign = "a certificate was used that had been renewed before".to_owned();
    Opening::Cloned(Arc::clone(record), sign)
}

fn changed(now: Timestamp, record: &Subcloud, enrolled: Enrolled) -> Subcloud {
    Subcloud {
        enrollment: Enrollment::Enrolled(enrolled),
        updated_at: now,
        ..record.clone()
    }
}

/// Two hold the identity of a subcloud.
fn identity_cloned(name: &str, sign: &str) -> Violation {
    Violation::new(
        Reason::IdentityCloned,
        format!("the identity of subcloud {name} was copied: {sign}"),
        "find out where its state directory was copied to, or restored from, and end that agent; \
         then let the right site enroll anew: `tandem dcmanager subcloud token NAME --reenroll`",
    )
    .object("subcloud", name)
}
