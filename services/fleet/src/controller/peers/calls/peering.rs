//! Calls about peers, and the token that the other site presents.

use site::Timestamp;

use crate::entropy::{after, since};
use crate::{
    AcceptPeering, Action, Actor, Established, MAX_PEERS, NewToken, PEER_HEARTBEAT_BOUNDS,
    PEER_THRESHOLD_BOUNDS, PeerCard, PeerEdit, PeerId, PeerOutput, PeerReceipt, PeerSettings,
    PeerSubject, Peering, REPLAY_WINDOW, Reason, Rejection, SpentToken, SystemPeer, Token,
    Violation, judge_peer,
};

use super::super::super::operate::{check_etag, nothing_named};
use super::super::super::operator::{invalid_name, invalid_ttl};
use super::super::super::{Answer, Batch, Controller, Deed, Output};
use super::{Change, Judged, delete_associations, in_use, limit, no_link_pool, outcome_of};

impl Controller {
    pub(super) fn judge_issue(
        &self,
        now: Timestamp,
        id: PeerId,
        name: &str,
        token: &NewToken,
        settings: PeerSettings,
    ) -> Judged {
        let mut violations = invalid_settings(&settings);
        violations.extend(invalid_name(name));
        violations.extend(invalid_ttl(token));
        // A pending peer gets a new token; the old one is void.
        let pending = self
            .find_peer(name)
            .filter(|peer| peer.established().is_none());
        if pending.is_none() {
            violations.extend(self.peer_name_taken(name));
            violations.extend(self.room_for_peer());
        }
        if self.link_family_missing() {
            violations.push(no_link_pool());
        }
        Rejection::check(violations)?;
        let peering = Peering::Pending(Token {
            id: token.id,
            secret: token.secret,
            issued_at: now,
            expires_at: after(now, token.ttl),
        });
        Ok(Change::Peer(SystemPeer {
            id: pending.map_or(id, |peer| peer.id),
            name: name.to_owned(),
            settings,
            peering,
            created_at: pending.map_or(now, |peer| peer.created_at),
            updated_at: now,
        }))
    }

    pub(super) fn judge_add_peer(
        &self,
        now: Timestamp,
        id: PeerId,
        name: &str,
        settings: PeerSettings,
        card: &PeerCard,
    ) -> Judged {
        let mut violations = invalid_settings(&settings);
        violations.extend(invalid_name(name));
        violations.extend(judge_peer(&self.peers.card, &self.fleet, card));
        violations.extend(self.site_known(card, None));
        let pending = self
            .find_peer(name)
            .filter(|peer| peer.established().is_none());
        if pending.is_none() {
            violations.extend(self.peer_name_taken(name));
            violations.extend(self.room_for_peer());
        }
        Rejection::check(violations)?;
        let peering = Peering::Established(Box::new(Established {
            card: card.clone(),
            spent: None,
            since: now,
            suspended: Vec::new(),
        }));
        Ok(Change::Peer(SystemPeer {
            id: pending.map_or(id, |peer| peer.id),
            name: name.to_owned(),
            settings,
            peering,
            created_at: pending.map_or(now, |peer| peer.created_at),
            updated_at: now,
        }))
    }

    /// The other site presents a token.
    pub(in super::super) fn accept_peering(
        &mut self,
        now: Timestamp,
        call: AcceptPeering,
        out: &mut Vec<Output>,
    ) {
        let judged = match self.busy() {
            Some(busy) => Err((Rejection::one(busy), String::new())),
            None => self.judge_accept(now, &call),
        };
        let mut batch = Batch::default();
        let (outcome, detail) = match judged {
            Ok(Some(peer)) if !call.validate_only => {
                let id = peer.id;
                self.put_peer(&mut batch, peer);
                self.await_peer(now, id);
                out.push(Output::Peer(PeerOutput::TrustChanged));
                (Ok(()), String::new())
            }
            Ok(_) => (Ok(()), String::new()),
            Err((rejection, detail)) => (Err(rejection), detail),
        };
        let outcome = outcome.map(|()| PeerReceipt {
            subject: PeerSubject::Card(Box::new(self.peers.card.clone())),
            warnings: Vec::new(),
        });
        let detail = match &outcome {
            _ if call.validate_only => None,
            Ok(_) => Some(detail),
            Err(_) => self.strangers.entry(now, detail),
        };
        if let Some(detail) = detail {
            let deed = Deed {
                actor: Actor::Stranger(call.source),
                action: Action::AcceptPeering,
                subcloud: None,
                name: &call.card.name,
                outcome: outcome_of(&outcome, detail),
            };
            self.log_audit(&mut batch, now, deed);
        }
        let answer = Output::Answer {
            request: call.request,
            outcome: outcome.map(|receipt| Answer::Peer(Box::new(receipt))),
        };
        self.conclude_call(batch, answer, out);
    }

    /// The peer as it shall be; `None` when the same site spent the token before and asks for the
    /// lost answer.
    fn judge_accept(
        &self,
        now: Timestamp,
        call: &AcceptPeering,
    ) -> Result<Option<SystemPeer>, (Rejection, String)> {
        let invalid = |detail: &str| (Rejection::one(token_invalid()), detail.to_owned());
        let presented = |peer: &&SystemPeer| match &peer.peering {
            Peering::Pending(token) => token.id == call.token,
            Peering::Established(known) => known.spent.is_some_and(|spent| spent.id == call.token),
        };
        let peer = self.peers.peers.values().find(presented);
        let peer = peer.ok_or_else(|| invalid("no such token"))?;
        match &peer.peering {
            Peering::Established(known) => {
                let spent = known.spent.filter(|spent| spent.secret == call.secret);
                spent.ok_or_else(|| invalid("the secret is wrong"))?;
                let same = known.card.controller == call.card.controller
                    && known.card.authority.key == call.card.authority.key;
                if !same {
                    return Err(invalid("the token was spent by another site"));
                }
                if since(now, known.since) > REPLAY_WINDOW {
                    return Err(invalid("the token was spent too long ago to answer again"));
                }
                Ok(None)
            }
            Peering::Pending(token) if token.secret != call.secret => {
                Err(invalid("the secret is wrong"))
            }
            Peering::Pending(token) if now >= token.expires_at => Err(invalid("the token expired")),
            Peering::Pending(token) => {
                let mut violations = judge_peer(&self.peers.card, &self.fleet, &call.card);
                violations.extend(self.site_known(&call.card, Some(peer.id)));
                Rejection::check(violations).map_err(|rejection| (rejection, String::new()))?;
                Ok(Some(SystemPeer {
                    peering: Peering::Established(Box::new(Established {
                        card: PeerCard::clone(&call.card),
                        spent: Some(SpentToken {
                            id: token.id,
                            secret: token.secret,
                        }),
                        since: now,
                        suspended: Vec::new(),
                    })),
                    updated_at: now,
                    ..peer.clone()
                }))
            }
        }
    }

    pub(super) fn judge_update_peer(
        &self,
        now: Timestamp,
        peer: &str,
        edit: PeerEdit,
        etag: &str,
    ) -> Judged {
        let mut changed = self.peer_named(peer)?.clone();
        check_etag(("system peer", &changed.name), etag, &changed.etag())?;
        let settings = edit.over(changed.settings);
        let nothing = nothing_named(edit == PeerEdit::default());
        Rejection::check(
            nothing
                .into_iter()
                .chain(invalid_settings(&settings))
                .collect(),
        )?;
        changed.settings = settings;
        changed.updated_at = now;
        Ok(Change::Peer(changed))
    }

    pub(super) fn judge_delete_peer(&self, peer: &str, etag: &str) -> Judged {
        let peer = self.peer_named(peer)?;
        check_etag(("system peer", &peer.name), etag, &peer.etag())?;
        let shared: Vec<&str> = self
            .groups_with(peer.id)
            .iter()
            .filter_map(|group| self.peers.groups.get(group))
            .map(|group| group.header.name.as_str())
            .collect();
        if !shared.is_empty() {
            let with = |group: &&str| ((*group).to_owned(), peer.name.clone());
            let associations: Vec<_> = shared.iter().map(with).collect();
            return Err(Rejection::one(in_use(
                format!("system peer {} shares {}", peer.name, shared.join(", ")),
                &delete_associations(&associations),
            )));
        }
        Ok(Change::ForgetPeer(peer.clone()))
    }

    fn peer_name_taken(&self, name: &str) -> Option<Violation> {
        self.find_peer(name).map(|_| {
            Violation::new(
                Reason::PeerExists,
                format!("there is a system peer {name} already"),
                "choose another name, or delete that peer first",
            )
            .at("name")
            .object("system peer", name)
        })
    }

    /// The site that a card is of is a peer already, under whatever name.
    fn site_known(&self, card: &PeerCard, own: Option<PeerId>) -> Option<Violation> {
        let same = |peer: &&SystemPeer| {
            let known = peer.established();
            Some(peer.id) != own
                && known.is_some_and(|known| {
                    known.card.controller == card.controller
                        || known.card.authority.key == card.authority.key
                })
        };
        let known = self.peers.peers.values().find(same)?;
        Some(
            Violation::new(
                Reason::PeerExists,
                format!("site {} is system peer {} already", card.name, known.name),
                "use that peer, or delete it at both sites first",
            )
            .object("system peer", known.name.clone()),
        )
    }

    fn room_for_peer(&self) -> Option<Violation> {
        (self.peers.peers.len() >= MAX_PEERS).then(|| limit("system peers", MAX_PEERS))
    }

    fn link_family_missing(&self) -> bool {
        self.peers.card.link_family().is_none()
    }
}

fn invalid_settings(settings: &PeerSettings) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !PEER_HEARTBEAT_BOUNDS.contains(&settings.heartbeat_interval) {
        violations.push(
            Violation::new(
                Reason::InvalidArgument,
                "the heartbeat interval is not from 1 s to 600 s",
                "choose 1 to 600 seconds",
            )
            .at("heartbeat_interval_seconds"),
        );
    }
    if !PEER_THRESHOLD_BOUNDS.contains(&settings.failure_threshold) {
        violations.push(
            Violation::new(
                Reason::InvalidArgument,
                "the failure threshold is not from 1 to 100",
                "choose 1 to 100",
            )
            .at("failure_threshold"),
        );
    }
    violations
}

fn token_invalid() -> Violation {
    Violation::new(
        Reason::PeerTokenInvalid,
        "the peering token is not valid",
        "ask the operator of the other site for a new one: `tandem dcmanager system-peer add NAME`",
    )
}
