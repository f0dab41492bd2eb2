//! What must hold, judged from outside: by the durable records and by what was said aloud.

use std::collections::{BTreeMap, BTreeSet};

use fleet::admission::ControllerView;
use fleet::{
    AgentMessage, AlarmKey, AlarmKind, Answer, Availability, ControllerMessage, Fingerprint,
    LinkId, MISSED_HEARTBEATS, NetworksDigest, RESTART_GRACE, Reason, Rejection, RequestId,
    Subcloud, SubcloudId, TokenId,
};
use ipnet::IpNet;
use site::{Digest, Timestamp};

use crate::agents::{AgentNode, Process};
use crate::calls::CallKind;
use crate::world::{Millis, World};

/// Within this time, in milliseconds, the controller knows that a site has its networks: the link
/// over which it was to hear so is dead after three heartbeats, and the next Hello says it too.
const NETWORKS_KNOWN: Millis = 120_000;

/// What was promised so far.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Subclouds whose `add` was answered.
    added: BTreeSet<SubcloudId>,
    /// The key that each token was answered for, and the subcloud.
    redeemed: BTreeMap<TokenId, (Fingerprint, SubcloudId)>,
    /// Every digest that was ever durable for a subcloud, so that a late acknowledgement of an
    /// older report is no lie.
    durable: BTreeMap<SubcloudId, BTreeSet<Digest>>,
    /// The newest digest whose durability was told to its agent.
    acknowledged: BTreeMap<SubcloudId, Digest>,
    /// The keys that were welcomed, in the order of their first use.
    welcomed: BTreeMap<SubcloudId, Vec<Fingerprint>>,
    /// What Hello named on a link.
    hellos: BTreeMap<LinkId, Digest>,
    /// Tokens with which another key may take the place of an enrolled one.
    hands: BTreeSet<TokenId>,
    /// Subclouds whose deletion was answered, and those that somebody asked to delete.
    deleted: BTreeSet<SubcloudId>,
    deleting: BTreeSet<SubcloudId>,
    /// What operators said of a subcloud, as it was answered last.
    edited: BTreeMap<SubcloudId, Edited>,
    /// When the present life of the controller last heard from a subcloud, by its own clock.
    heard: BTreeMap<SubcloudId, Timestamp>,
    /// When a subcloud came online last, by the clock of the controller's present life.
    came_online: BTreeMap<SubcloudId, Timestamp>,
    /// The call with which each host asked to enroll last, as they reached the controller.
    asked: BTreeMap<usize, RequestId>,
    /// The call of each host that was refused last for addresses that another had, while it was
    /// not enrolled.
    turned_away: BTreeMap<usize, RequestId>,
}

/// What operators edit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edited {
    text: u64,
}

impl Oracle {
    pub(crate) fn may_change_hands(&mut self, token: TokenId) {
        self.hands.insert(token);
    }

    /// Somebody asks to delete a subcloud: from now on it may be gone.
    pub(crate) fn may_go(&mut self, id: SubcloudId) {
        self.deleting.insert(id);
    }

    /// It was answered that a subcloud is gone.
    pub(crate) fn is_gone(&mut self, id: SubcloudId) {
        self.deleted.insert(id);
    }

    /// It was answered what is said of a subcloud.
    pub(crate) fn is_said(&mut self, id: SubcloudId, text: u64) {
        self.edited.insert(id, Edited { text });
    }

    /// A host's call to enroll reaches the controller.
    pub(crate) fn asks(&mut self, agent: usize, request: RequestId) {
        self.asked.insert(agent, request);
    }

    pub(crate) fn controller_started(&mut self) {
        self.heard.clear();
        self.came_online.clear();
        self.hellos.clear();
    }
}

impl World {
    /// The durable records: nothing promised is missing, nothing forbidden is there.
    pub(crate) fn check_records(&mut self) {
        let records = &self.controller.disk.durable.subclouds;
        let mut faults = Vec::new();
        for id in &self.oracle.added {
            if !records.contains_key(id) && !self.oracle.deleting.contains(id) {
                faults.push(format!("subcloud {id} was answered as added and is gone"));
            }
        }
        for (token, (key, id)) in &self.oracle.redeemed {
            let enrolled = records.get(id).and_then(|record| record.enrolled());
            match enrolled {
                Some(enrolled)
                    if (enrolled.key == *key || enrolled.renewal.count > 0)
                        && enrolled.spent.id == *token => {}
                // An operator let it change hands.
                Some(enrolled) if self.oracle.hands.contains(&enrolled.spent.id) => {}
                None if self.oracle.deleting.contains(id) => {}
                _ => faults.push(format!("the answered enrollment of subcloud {id} is gone")),
            }
        }
        for id in &self.oracle.deleted {
            if records.contains_key(id) {
                faults.push(format!(
                    "subcloud {id} was answered as deleted and is there"
                ));
            }
        }
        for (id, edited) in &self.oracle.edited {
            // Texts are said in the order of their numbers, so a later one may be there already.
            let said = records.get(id).map(|record| record.description.parse());
            let kept = said.is_some_and(|said| said.is_ok_and(|said: u64| said >= edited.text));
            if !kept && !self.oracle.deleting.contains(id) {
                faults.push(format!("what was said of subcloud {id} is gone"));
            }
        }
        let family = self.controller.site.link_family();
        let mut names = BTreeSet::new();
        let mut tokens = BTreeSet::new();
        for record in records.values() {
            let fresh = record.tokens().all(|token| tokens.insert(token));
            if !names.insert(&record.name) || !fresh {
                faults.push(format!("{} shares its name or token", record.name));
            }
            if record.enrolled().is_some() && record.link_family() != family {
                faults.push(format!(
                    "{} has the wrong family and is enrolled",
                    record.name
                ));
            }
            if let Some(observed) = &record.observed {
                self.oracle
                    .durable
                    .entry(record.id)
                    .or_default()
                    .insert(observed.digest);
                let site = self.controller.disk.durable.sites.get(&record.id);
                if site.map(|site| site.generation) != Some(observed.generation) {
                    faults.push(format!("{} and its site record differ", record.name));
                }
            }
        }
        faults.extend(overlaps(records.values()));
        let oam = ControllerView::of(&self.controller.site).oam_subnets;
        let met = records.values().filter(|record| on_link_of(record, &oam));
        faults.extend(
            met.map(|record| format!("{} has its link on the controller's oam", record.name)),
        );
        for fault in faults {
            self.fail(fault);
        }
    }

    /// The live links: one for each subcloud, all enrolled, all of one family.
    pub(crate) fn check_links(&mut self) {
        let Some(machine) = &self.controller.machine else {
            return;
        };
        let family = self.controller.site.link_family();
        let mut faults = Vec::new();
        let mut live = 0;
        for record in machine.fleet().subclouds() {
            let Some(link) = machine.presence(record.id).link else {
                continue;
            };
            live += 1;
            let source = self
                .wires
                .get(&link)
                .map(|wire| site::Family::of(wire.source));
            // What counts is the durable record: memory is what is being judged.
            let durable = self.controller.disk.durable.subclouds.get(&record.id);
            let held = durable.filter(|durable| durable.enrolled().is_some());
            if held.and_then(Subcloud::link_family) != family || source != family {
                faults.push(format!("{} has a live link it must not have", record.name));
            }
        }
        for id in &self.oracle.deleted {
            if machine.presence(*id).availability != Availability::Unknown {
                faults.push(format!("subcloud {id} was deleted and is back"));
            }
        }
        if live != machine.links() {
            faults.push(format!(
                "{} links are open for {live} subclouds",
                machine.links()
            ));
        }
        for fault in faults {
            self.fail(fault);
        }
    }

    /// An answer promises that what it says is durable.
    pub(crate) fn check_answer(&mut self, request: RequestId, outcome: &Result<Answer, Rejection>) {
        let Some(call) = self.calls.get(&request) else {
            return;
        };
        if let (CallKind::Enroll { .. }, Err(rejection)) = (&call.kind, outcome) {
            return self.enrollment_refused(call.agent, request, rejection);
        }
        let Ok(Answer::Subcloud(receipt)) = outcome else {
            return;
        };
        let id = receipt.subcloud.id;
        match &call.kind {
            CallKind::Add { .. } | CallKind::IssueToken { .. } => {
                self.oracle.added.insert(id);
            }
            CallKind::Enroll { token, key, .. } => {
                let redeemed = self.oracle.redeemed.entry(token.id).or_insert((*key, id));
                if *redeemed != (*key, id) {
                    let token = token.id;
                    self.fail(format!("token {token} was redeemed by two keys"));
                }
            }
        }
        self.check_records();
    }

    /// An enrollment is refused. Its audit entry has just reached the disk, so what is there is
    /// what it was judged by.
    fn enrollment_refused(&mut self, agent: usize, request: RequestId, rejection: &Rejection) {
        let mut faults = rejection.violations().iter();
        if !faults.any(|fault| fault.reason == Reason::AddressOverlap) {
            return;
        }
        let node = &self.agents[agent];
        if self.in_the_way(node) && !self.is_enrolled(node) {
            self.oracle.turned_away.insert(agent, request);
        } else {
            self.oracle.turned_away.remove(&agent);
        }
    }

    pub(crate) fn check_hello(&mut self, link: LinkId, message: &AgentMessage) {
        if let AgentMessage::Hello(hello) = message {
            self.oracle.hellos.insert(link, hello.digest);
        }
    }

    /// A certificate is signed for a key that is durable.
    pub(crate) fn check_certificate(&mut self, id: SubcloudId, key: Fingerprint) {
        let record = self.controller.disk.durable.subclouds.get(&id);
        let known = record.and_then(Subcloud::enrolled).is_some_and(|enrolled| {
            let renewal = &enrolled.renewal;
            enrolled.key == key || renewal.next == Some(key) || renewal.superseded_at(key).is_some()
        });
        if !known {
            self.fail(format!(
                "a certificate of subcloud {id} was signed for a key that is not durable"
            ));
        }
    }

    /// Only an identity that really was copied is shut out.
    pub(crate) fn check_cloned(&mut self, id: Option<SubcloudId>) {
        let has = |node: &AgentNode| node.record.as_ref().map(|record| record.subcloud) == id;
        let copied = |node: &AgentNode| has(node) && self.has_copy(node);
        if !self.agents.iter().any(copied) {
            self.fail(format!(
                "subcloud {id:?} was shut out, and nobody copied it"
            ));
        }
    }

    /// No key comes back after another one took its place, and nobody who is shut out is welcomed.
    fn check_welcome(&mut self, id: SubcloudId, key: Fingerprint) {
        let welcomed = self.oracle.welcomed.entry(id).or_default();
        if welcomed.last() != Some(&key) {
            if welcomed.contains(&key) {
                self.fail(format!("subcloud {id} was welcomed with an old key"));
                return;
            }
            welcomed.push(key);
        }
        let record = self.controller.disk.durable.subclouds.get(&id);
        let shut_out = record.and_then(Subcloud::cloned).is_some();
        let held = record.and_then(|record| record.enrolled());
        let held = held.map(|enrolled| enrolled.key);
        if shut_out {
            self.fail(format!("subcloud {id} is shut out and was welcomed"));
        }
        if held != Some(key) {
            self.fail(format!(
                "subcloud {id} was welcomed with a key that is not its own"
            ));
        }
        if self.oracle.deleted.contains(&id) {
            self.fail(format!("subcloud {id} was deleted and is welcomed"));
        }
    }

    /// An acknowledgement promises that the report is durable; so does not asking for one.
    pub(crate) fn check_message(&mut self, link: LinkId, message: &ControllerMessage) {
        if let (ControllerMessage::Welcome(_), Some(wire)) = (message, self.wires.get(&link)) {
            self.check_welcome(wire.subcloud, wire.key);
        }
        let promised = match message {
            ControllerMessage::ReportAccepted { digest, .. } => Some(*digest),
            ControllerMessage::Welcome(welcome) if !welcome.report_needed => {
                self.oracle.hellos.get(&link).copied()
            }
            _ => None,
        };
        let (Some(digest), Some(wire)) = (promised, self.wires.get(&link)) else {
            return;
        };
        let id = wire.subcloud;
        self.oracle.acknowledged.insert(id, digest);
        let durable = self.oracle.durable.get(&id);
        if !durable.is_some_and(|digests| digests.contains(&digest)) {
            self.fail(format!(
                "a report of subcloud {id} was acknowledged and is not durable"
            ));
        }
    }

    /// The controller hears from a subcloud, if this is its one live link and not an old one.
    pub(crate) fn heard_over(&mut self, link: LinkId, id: SubcloudId) {
        let machine = self.controller.machine.as_ref();
        if machine.is_some_and(|machine| machine.presence(id).link == Some(link)) {
            let now = self.controller_clock();
            self.oracle.heard.insert(id, now);
        }
    }

    /// The link of a subcloud ends, from when on it is quiet: unless it was offline already, with a
    /// link that never said anything.
    pub(crate) fn lost_over(&mut self, link: LinkId, id: SubcloudId) {
        if self.sees_online(id) {
            self.heard_over(link, id);
        }
    }

    /// A subcloud is back, which was offline until then.
    pub(crate) fn came_online(&mut self, id: Option<SubcloudId>, at: Timestamp) {
        self.oracle.came_online.extend(id.map(|id| (id, at)));
    }

    /// Nobody is called offline who was heard from, nor before a restart's grace is over.
    pub(crate) fn check_offline(&mut self, id: Option<SubcloudId>) {
        let Some(id) = id else {
            return;
        };
        let interval = fleet::HEARTBEAT_INTERVAL * MISSED_HEARTBEATS;
        let (since, grace) = match self.oracle.heard.get(&id) {
            Some(heard) => (*heard, interval),
            None => (self.controller.started, RESTART_GRACE),
        };
        let now = self.controller_clock();
        let quiet = u128::from(now.0.saturating_sub(since.0));
        if quiet < grace.as_millis() {
            self.fail(format!(
                "subcloud {id} was called offline after only {quiet} ms"
            ));
        }
    }

    /// An alarm has a cause: nobody is missed who is not managed or was heard from, and only
    /// who reported something wrong is in quarantine.
    pub(crate) fn check_alarm(
        &mut self,
        alarm: AlarmKind,
        entity: &str,
        id: Option<SubcloudId>,
        at: Timestamp,
    ) {
        let durable = id.and_then(|id| self.controller.disk.durable.subclouds.get(&id));
        let awaited = id.is_some_and(|id| match entity.ends_with(".controller-networks") {
            true => !self.has_long_had_networks(id),
            false => self.is_awaited(id, at),
        });
        let cause = durable.is_some_and(|record| match alarm {
            AlarmKind::Offline => record.managed(),
            AlarmKind::Quarantined => record.quarantined(),
            AlarmKind::OutOfSync => record.managed() && (record.quarantined() || awaited),
            AlarmKind::IdentityCloned => record.cloned().is_some(),
            AlarmKind::MassOutage => false,
        });
        if !cause {
            self.fail(format!("alarm {} of {id:?} has no cause", alarm.id()));
        }
        // It is told when it is on disk, and the subcloud may be back by then; that it was offline
        // before was judged when that was told.
        let heard = id.and_then(|id| self.oracle.heard.get(&id).copied());
        let online = id.and_then(|id| self.oracle.came_online.get(&id).copied());
        let back = heard.is_some_and(|heard| heard > at) || online >= Some(at);
        if alarm == AlarmKind::Offline && !back {
            self.check_offline(id);
        }
    }

    /// A change of the controller's own networks is refused exactly when somebody would suffer.
    pub(crate) fn check_own_site(&mut self, next: &ControllerView, refused: bool) {
        let records = self
            .controller
            .machine
            .iter()
            .flat_map(|it| it.fleet().subclouds());
        let suffers = records
            .filter(|record| on_link_of(record, &next.oam_subnets))
            .map(|record| record.name.clone())
            .next();
        if suffers.is_some() != refused {
            self.fail(format!(
                "the controller's change, refused: {refused}, breaks {suffers:?}"
            ));
        }
    }

    /// Subclouds whose alarms are not what they should be by now.
    fn wrong_alarms(&self) -> Vec<String> {
        let Some(machine) = &self.controller.machine else {
            return Vec::new();
        };
        let disk = &self.controller.disk.durable;
        let raised: BTreeSet<&AlarmKey> = disk.alarms.values().map(|alarm| &alarm.key).collect();
        let mut wrong = Vec::new();
        for record in disk.subclouds.values() {
            let away = machine.presence(record.id).availability == Availability::Offline;
            let expected = [
                (AlarmKind::Offline, record.managed() && away),
                (AlarmKind::Quarantined, record.quarantined()),
                (
                    AlarmKind::OutOfSync,
                    record.managed() && record.quarantined(),
                ),
                (AlarmKind::IdentityCloned, record.cloned().is_some()),
            ];
            for (kind, expected) in expected {
                if raised.contains(&AlarmKey::of(record.id, kind)) != expected {
                    wrong.push(format!("alarm {} of {} is wrong", kind.id(), record.name));
                }
            }
            let mut of_rollouts = raised.iter().filter(|key| key.is_of_rollout());
            let pending = of_rollouts.any(|key| key.subcloud == Some(record.id));
            if pending && !self.is_awaited(record.id, Timestamp(u64::MAX)) {
                wrong.push(format!("a change of {} is missed by nobody", record.name));
            }
            let of_subcloud = raised.iter().filter(|key| key.subcloud == Some(record.id));
            let mut rollouts = of_subcloud.filter_map(|key| key.rollout());
            if rollouts.any(|rollout| self.waits_behind_pause(rollout, record.id)) {
                let name = &record.name;
                wrong.push(format!("{name} is missed and only waits for its turn"));
            }
            let networks = raised.contains(&AlarmKey::networks_pending(record.id));
            let stands = self.stands_with_networks(record.id, machine.networks().digest());
            let expected = stands.map(|has| record.managed() && !has);
            if expected.is_some_and(|expected| expected != networks) {
                let name = &record.name;
                wrong.push(format!(
                    "the alarm of {name} about the controller's networks is wrong"
                ));
            }
        }
        wrong
    }

    /// The one host of a subcloud.
    fn only_host(&self, id: SubcloudId) -> Option<&AgentNode> {
        let obeys = |node: &&AgentNode| {
            let record = node.record.as_ref();
            record.is_some_and(|record| record.subcloud == id)
        };
        let mut hosts = self.agents.iter().filter(obeys);
        hosts.next().filter(|_| hosts.next().is_none())
    }

    /// Whether the controller must know by now that a subcloud has its networks: whoever answers
    /// late has them by the time that its alarm is on disk.
    fn has_long_had_networks(&self, id: SubcloudId) -> bool {
        let machine = self.controller.machine.as_ref();
        let present = machine.map(|machine| machine.networks().digest());
        self.only_host(id).is_some_and(|host| {
            let has = host.record.as_ref().and_then(|record| record.networks);
            let long = self.now > host.networks_since + NETWORKS_KNOWN;
            host.networks_refused.is_none() && present.is_some() && has == present && long
        })
    }

    /// Whether the one host of a subcloud has the controller's networks, or refuses them.
    fn stands_with_networks(&self, id: SubcloudId, present: NetworksDigest) -> Option<bool> {
        let host = self.only_host(id)?;
        let has = host.record.as_ref().and_then(|record| record.networks) == Some(present);
        let refuses = host.networks_refused == Some(present);
        (self.sees_online(id) && has != refuses).then_some(has)
    }

    /// What is not yet as it must be once nothing goes wrong any more.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let problem = |node: &AgentNode| {
            let why = self.problem_of(node)?;
            Some(format!("agent {}: {why}", node.index))
        };
        let mut problems: Vec<String> = self.agents.iter().filter_map(problem).collect();
        problems.extend(self.wrong_alarms());
        problems.extend(self.unfinished_rollouts());
        problems
    }

    fn problem_of(&self, node: &AgentNode) -> Option<&'static str> {
        if node.refused.is_some() && node.anew && !self.refused_rightly(node) {
            return Some("is refused for now");
        }
        if node.refused.is_some() {
            return None;
        }
        let Process::Serving(machine) = &node.process else {
            return Some("is not serving");
        };
        let id = machine.record().subcloud;
        let record = self.controller.disk.durable.subclouds.get(&id);
        if self.has_copy(node) {
            // Of one that was deleted meanwhile nobody is taken in any more.
            let noticed = record.is_none_or(|record| record.cloned().is_some())
                || self.agents.iter().any(|other| self.shut_out(other, id));
            return (!noticed).then_some("has a copy that nobody noticed");
        }
        let observed = record.and_then(|record| record.observed.as_ref());
        let known = self
            .controller
            .machine
            .as_ref()
            .map(|machine| machine.networks().digest());
        if record.is_some_and(Subcloud::quarantined) && self.taken(node) {
            // Its addresses went to somebody else while it was away from them, and only an
            // operator can say whose they are.
            None
        } else if !machine.in_sync() {
            Some("is not in sync")
        } else if !self.sees_online(id) {
            Some("is not seen online")
        } else if observed.map(|observed| observed.digest) != Some(node.memory.digest()) {
            Some("is not known in its latest state")
        } else if record.is_some_and(Subcloud::quarantined) {
            Some("is quarantined")
        } else if node.record.as_ref().and_then(|record| record.networks) != known {
            Some("does not know the controller's networks")
        } else {
            None
        }
    }

    /// Whether a holder of an identity has a key that nobody remembers: it comes in no more, and
    /// that it is a copy cannot be seen.
    fn shut_out(&self, node: &AgentNode, id: SubcloudId) -> bool {
        let held = self.controller.disk.durable.subclouds.get(&id);
        let held = held.and_then(|record| record.enrolled());
        let same = node
            .record
            .as_ref()
            .is_some_and(|known| known.subcloud == id);
        let (Some(enrolled), Some(credential), true) = (held, &node.credential, same) else {
            return false;
        };
        let (key, renewal) = (credential.key, &enrolled.renewal);
        let known = enrolled.key == key || renewal.next == Some(key);
        !known && renewal.superseded_at(key).is_none()
    }

    /// Whether a site is out, or in, for a reason that lasts.
    fn refused_rightly(&self, node: &AgentNode) -> bool {
        let refused = node.refused.as_deref().unwrap_or_default();
        let has = |reason: &str| refused.iter().any(|known| known == reason);
        if node.layout.primary_is_v6() != self.layout.primary_is_v6() {
            return has("PRIMARY_FAMILY_MISMATCH");
        }
        let twins = self
            .agents
            .iter()
            .filter(|other| other.index != node.index && other.addresses == node.addresses);
        let rivals = twins.filter(|twin| twin.refused.is_none()).count();
        let taken = rivals > 0 || self.in_the_way(node) || self.let_in_late(node);
        refused.is_empty() || (has("ADDRESS_OVERLAP") && taken)
    }

    /// Whether a host was refused rightly, and a call of it that came later was accepted: of a call
    /// that is doubled or given up, one can come when what was in the way of the other is gone.
    /// The host has its refusal and asks no more, so it does not know that it is in.
    fn let_in_late(&self, node: &AgentNode) -> bool {
        let refused = self.oracle.turned_away.get(&node.index);
        let came_later = refused.is_some() && self.oracle.asked.get(&node.index) != refused;
        came_later && !node.anew && self.is_enrolled(node)
    }

    /// Whether the fleet knows the site of a host, or one that was there before it.
    fn is_enrolled(&self, node: &AgentNode) -> bool {
        let mut records = self.controller.disk.durable.subclouds.values();
        records.any(|record| record.name == node.name() && record.enrolled().is_some())
    }

    /// Whether another subcloud, or the controller, has or had the addresses of a site.
    fn in_the_way(&self, node: &AgentNode) -> bool {
        let link = node.original.link_pool().map(|pool| pool.subnet());
        let by_controller = link.is_some_and(|link| self.controller.oam.contains(&link));
        by_controller || self.taken(node)
    }

    /// Whether the addresses of a site are another's by the records: what a subcloud was taken in
    /// with stays its own until a later report of it is accepted, or it is deleted.
    fn taken(&self, node: &AgentNode) -> bool {
        let Some(link) = node.original.link_pool().map(|pool| pool.subnet()) else {
            return false;
        };
        let mut records = self.controller.disk.durable.subclouds.values();
        records.any(|record| record.name != node.name() && on_link_of(record, &[link]))
    }

    /// At the end, exactly those are in who belong in.
    pub(crate) fn judge_end(&mut self) {
        self.check_records();
        let mut faults = Vec::new();
        for node in &self.agents {
            let refused = node.refused.as_deref().unwrap_or_default();
            let refused_rightly = self.refused_rightly(node);
            if !refused_rightly {
                faults.push(format!("agent {} ended as {refused:?}", node.index));
            }
            // Of a host that was installed anew the fleet still knows the site before it.
            let known = node.anew || self.let_in_late(node);
            if !refused.is_empty() && self.is_enrolled(node) && !known {
                faults.push(format!("agent {} was refused and is enrolled", node.index));
            }
        }
        faults.extend(self.errands_at_end());
        faults.extend(self.rollouts_at_end());
        for fault in faults {
            self.fail(fault);
        }
    }
}

/// Whether a subcloud holds a link subnet that meets one of these.
fn on_link_of(record: &Subcloud, subnets: &[IpNet]) -> bool {
    let link = record.footprint().and_then(|known| known.link.as_ref());
    let mut pools = link.into_iter().flat_map(|link| link.pools());
    pools.any(|pool| {
        let meets = |other: &IpNet| pool.subnet.contains(other) || other.contains(&pool.subnet);
        subnets.iter().any(meets)
    })
}

/// Compares every pair, as slowly as can be.
fn overlaps<'a>(records: impl Iterator<Item = &'a Subcloud>) -> Vec<String> {
    let held: Vec<(&str, &site::Range)> = records
        .filter_map(|record| Some((record.name.as_str(), record.footprint()?.link.as_ref()?)))
        .flat_map(|(name, link)| link.pools().map(move |pool| (name, pool)))
        .flat_map(|(name, pool)| pool.ranges.iter().map(move |range| (name, range)))
        .collect();
    let mut faults = Vec::new();
    for (index, (name, range)) in held.iter().enumerate() {
        for (other, theirs) in &held[index + 1..] {
            if name != other && range.overlaps(theirs) {
                faults.push(format!("{name} and {other} overlap on {range}"));
            }
        }
    }
    faults
}
