//! The driver's part for peers: dialling, links, trust, and the two ends of a peering token.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::convert::{PeerMessages, card_from_wire, card_to_wire, peer_message_pieces};
use api::fleet_v1 as wire;
use api::fleet_v1::peer_link_service_client::PeerLinkServiceClient;
use api::mutation::Mutation;
use daemon::{Life, Network, TransportError, now, random_uuid};
use fleet::{
    Actor, Authority, ControllerId, Endpoint, Fingerprint, Input, MAX_PEERS, NewToken, PeerAction,
    PeerAlarm, PeerCall, PeerCard, PeerId, PeerInput, PeerLinkId, PeerMessage, PeerOutput,
    PeerReceipt, PeerSettings, PeerSeverity, Reason, Rejection, RequestKey, SecretHash, TokenId,
    Violation, judge_token_addresses,
};
use futures_util::{Stream, StreamExt as _};
use identity::{
    CaCertificate, PeeringToken, ServingCertificate, SpkiSha256, Trust, enroll_client_config,
    peer_client_config,
};
use ring::rand::SystemRandom;
use rustls::ClientConfig;
use site::{Alarm, Severity};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use super::{Driven, Hub, LAST_WORDS, request_key};
use crate::grpc::{broken, malformed, sound};
use crate::link_listener::MAX_MESSAGE_BYTES;

/// Messages that may wait for one peer: the machine has at most one batch in flight for each
/// group and direction, and no more groups than this.
const PEER_QUEUE: usize = 256;

/// Dials that may wait to be begun: the machine asks again when one is lost.
const DIAL_QUEUE: usize = 2 * MAX_PEERS;

/// How long the other site may take to judge a token: a few writes to its disk.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(10);

/// What it takes to talk to other controllers.
#[derive(Debug)]
pub(crate) struct Wire {
    /// What peers and agents pin.
    pub(crate) authority: SpkiSha256,
    /// The controller's own certificate.
    pub(crate) certificate: Arc<ServingCertificate>,
    /// Whom the link listener trusts.
    pub(crate) trust: Arc<Trust>,
    /// Where this controller is found, and where it leaves from.
    pub(crate) link: SocketAddr,
    /// What connections to peers go out to.
    pub(crate) network: Network,
}

impl Wire {
    /// The address that connections to peers leave from.
    fn source(&self) -> Option<IpAddr> {
        Some(self.link.ip()).filter(|address| !address.is_unspecified())
    }

    /// Opens a connection to another controller.
    async fn connect(
        &self,
        to: SocketAddr,
        tls: &Arc<ClientConfig>,
    ) -> Result<Channel, TransportError> {
        let tls = Arc::clone(tls);
        self.network.connect(to, self.source(), tls).await
    }
}

/// Where the dials go that the machine asks for.
pub(super) type Dials = mpsc::Sender<Dial>;

/// The queue of dials.
pub(super) fn dials() -> (Dials, mpsc::Receiver<Dial>) {
    mpsc::channel(DIAL_QUEUE)
}

/// A peer to dial.
#[derive(Debug)]
pub(super) struct Dial {
    peer: PeerId,
    controller: ControllerId,
    endpoints: Vec<Endpoint>,
    authority: Fingerprint,
    given_up: CancellationToken,
}

/// The open links to peers, and the dials under way.
#[derive(Debug, Default)]
pub(super) struct PeerLinks {
    links: HashMap<PeerLinkId, PeerSender>,
    dials: HashMap<PeerId, CancellationToken>,
    /// By number and entity; the machine tells them all again after a restart.
    alarms: BTreeMap<(&'static str, String), Alarm>,
    last: u64,
}

/// This end of one link's outgoing stream.
#[derive(Debug)]
struct PeerSender {
    messages: mpsc::Sender<PeerMessage>,
    close: CancellationToken,
}

/// A link to a peer as whoever moves its bytes holds it.
#[derive(Debug)]
pub(crate) struct OpenPeerLink {
    /// Names the link.
    pub(crate) id: PeerLinkId,
    /// Cancelled when this controller ends the link.
    pub(crate) close: CancellationToken,
}

/// Why two sites did not become peers.
#[derive(Debug)]
pub(crate) enum Unpeered {
    /// This site refuses, before its rules were asked for the change itself.
    Refused(Rejection),
    /// The rules refuse the change.
    Judged(Rejection),
    /// The other site refuses, in its own words, or something is broken.
    Failed(Status),
}

impl From<Rejection> for Unpeered {
    fn from(refusal: Rejection) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Status> for Unpeered {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

impl Hub {
    /// Asks the machine for a change about peers; the same request gets the same answer.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn peer_change<R: Mutation>(
        &self,
        actor: Actor,
        method: &'static str,
        asked: &R,
        action: PeerAction,
    ) -> Result<PeerReceipt, Rejection> {
        let (etag, key) = (asked.etag().to_owned(), request_key(method, asked));
        self.peer_ask(actor, action, (etag, key), asked.validate_only())
            .await
    }

    /// Asks the machine for something about peers that is not answered twice alike.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn peer_call(
        &self,
        actor: Actor,
        action: PeerAction,
        validate_only: bool,
    ) -> Result<PeerReceipt, Rejection> {
        self.peer_ask(actor, action, (String::new(), None), validate_only)
            .await
    }

    async fn peer_ask(
        &self,
        actor: Actor,
        action: PeerAction,
        (etag, key): (String, Option<RequestKey>),
        validate_only: bool,
    ) -> Result<PeerReceipt, Rejection> {
        self.ask(|request| {
            Input::Peer(PeerInput::Call(PeerCall {
                request,
                actor,
                action,
                etag,
                key,
                validate_only,
            }))
        })
        .await
    }

    /// `system-peer add NAME`: draws a token. Its text is shown once; a preview draws one too,
    /// but nobody knows it.
    ///
    /// # Errors
    /// The refusal, or that there is no randomness.
    pub(crate) async fn issue_peering(
        &self,
        actor: Actor,
        name: String,
        settings: PeerSettings,
        ttl: Duration,
        validate_only: bool,
    ) -> Result<(String, PeerReceipt), Unpeered> {
        let drawn = PeeringToken::issue(
            random_uuid(),
            self.wire.authority,
            vec![self.wire.link],
            &SystemRandom::new(),
        );
        let token = drawn.map_err(|error| broken("cannot draw a token", &error))?;
        let action = PeerAction::IssuePeering {
            id: PeerId(random_uuid()),
            name,
            token: NewToken {
                id: TokenId(token.id()),
                secret: SecretHash(*token.secret().hash().as_bytes()),
                ttl,
            },
            settings,
        };
        let receipt = self.peer_call(actor, action, validate_only).await;
        Ok((token.reveal(), receipt.map_err(Unpeered::Judged)?))
    }

    /// `system-peer add NAME --token`: presents the token to the site that issued it and keeps
    /// that site as a peer. Both sites judge first, so that a token is spent only when both
    /// agree.
    ///
    /// # Errors
    /// The refusal of either site, or that the other one does not answer.
    pub(crate) async fn join_peer(
        &self,
        actor: Actor,
        name: String,
        settings: PeerSettings,
        token: &str,
        validate_only: bool,
    ) -> Result<PeerReceipt, Unpeered> {
        let token = PeeringToken::parse(token).map_err(|error| not_a_token(&error))?;
        let own = self.lock().machine.card().clone();
        let addresses: Vec<IpAddr> = token.controller().iter().map(SocketAddr::ip).collect();
        if let Some(violation) = judge_token_addresses(&own, &addresses) {
            return Err(Rejection::one(violation).into());
        }
        let id = PeerId(random_uuid());
        let add = |card: PeerCard| PeerAction::AddPeer {
            id,
            name: name.clone(),
            settings,
            card: Box::new(card),
        };
        let card = self.present(&token, &own, true).await?;
        let call = |card, preview| self.peer_call(actor.clone(), add(card), preview);
        let judged = call(card, true).await?;
        if validate_only {
            return Ok(judged);
        }
        let card = self.present(&token, &own, false).await?;
        call(card, false).await.map_err(Unpeered::Judged)
    }

    /// Presents a token at the addresses in it, in turn, until one answers.
    async fn present(
        &self,
        token: &PeeringToken,
        own: &PeerCard,
        validate_only: bool,
    ) -> Result<PeerCard, Unpeered> {
        let tls = enroll_client_config(token.ca())
            .map_err(|error| broken("cannot configure TLS", &error))?;
        let mut why = Vec::new();
        for address in token.controller() {
            let channel = match self.wire.connect(*address, &tls).await {
                Ok(channel) => channel,
                Err(error) => {
                    why.push(causes(&error));
                    continue;
                }
            };
            let mut request = tonic::Request::new(wire::AcceptPeeringRequest {
                token: token.reveal(),
                card: Some(card_to_wire(own)),
                validate_only,
            });
            request.set_timeout(ACCEPT_DEADLINE);
            let answer = PeerLinkServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .accept_peering(request)
                .await;
            match answer {
                Ok(answer) => return Ok(read_card(answer.into_inner().card, token.ca())?),
                // A refusal of the other site, with its reasons.
                Err(status) if !api::status::to_refusal(&status).reason.is_empty() => {
                    return Err(status.into());
                }
                Err(status) => why.push(format!("{address}: {}", status.message())),
            }
        }
        Err(unreachable(&why.join("; ")).into())
    }

    /// Announces a link to a peer, dialled by either side; whoever holds it then moves its
    /// messages with [`Hub::read_peer`].
    pub(crate) fn open_peer_link(
        &self,
        controller: ControllerId,
        authority: Fingerprint,
        source: IpAddr,
        messages: mpsc::Sender<PeerMessage>,
    ) -> OpenPeerLink {
        let mut driven = self.lock();
        driven.peers.last += 1;
        let id = PeerLinkId(driven.peers.last);
        let close = CancellationToken::new();
        let sender = PeerSender {
            messages,
            close: close.clone(),
        };
        driven.peers.links.insert(id, sender);
        let opened = PeerInput::Opened {
            link: id,
            controller,
            authority,
            source,
        };
        self.feed_locked(&mut driven, Input::Peer(opened));
        OpenPeerLink { id, close }
    }

    /// The queue of what is said to a peer, and its stream of pieces.
    pub(crate) fn peer_queue() -> (
        mpsc::Sender<PeerMessage>,
        impl Stream<Item = (Vec<u8>, bool)> + Send + 'static,
    ) {
        let (sender, messages) = mpsc::channel(PEER_QUEUE);
        let pieces = ReceiverStream::new(messages)
            .flat_map(|message| futures_util::stream::iter(peer_message_pieces(&message)));
        (sender, pieces)
    }

    /// Hands a peer's messages to the machine until either side ends the link.
    pub(crate) async fn read_peer(
        &self,
        OpenPeerLink { id: link, close }: OpenPeerLink,
        mut incoming: impl Stream<Item = Result<(Vec<u8>, bool), Status>> + Unpin,
    ) {
        let mut messages = PeerMessages::default();
        let fault = loop {
            let piece = tokio::select! {
                () = close.cancelled() => break None,
                piece = incoming.next() => piece,
            };
            let message = match piece {
                Some(Ok((data, last))) => messages
                    .take(&data, last)
                    .map_err(|fault| fault.to_string()),
                None => break None,
                Some(Err(status)) => Err(status.message().to_owned()),
            };
            match message {
                Ok(Some(message)) => match fault_of(&message) {
                    None => self.feed(Input::Peer(PeerInput::Message { link, message })),
                    Some(fault) => break Some(fault),
                },
                Ok(None) => {}
                Err(fault) => break Some(fault),
            }
        };
        if let Some(fault) = fault {
            tracing::warn!(?link, fault, "a link to a peer ends");
        }
        let mut driven = self.lock();
        driven.peers.links.remove(&link);
        self.feed_locked(&mut driven, Input::Peer(PeerInput::Closed { link }));
    }

    /// The raised alarms about peers and their groups: at most one for each.
    pub(crate) fn peer_alarms(&self) -> Vec<Alarm> {
        self.lock().peers.alarms.values().cloned().collect()
    }

    pub(super) fn carry_out_for_peers(&self, driven: &mut Driven, output: PeerOutput) {
        match output {
            PeerOutput::Dial {
                peer,
                controller,
                endpoints,
                authority,
            } => {
                let given_up = CancellationToken::new();
                let dial = Dial {
                    peer,
                    controller,
                    endpoints,
                    authority,
                    given_up: given_up.clone(),
                };
                if let Some(old) = driven.peers.dials.insert(peer, given_up) {
                    old.cancel();
                }
                if self.dials.try_send(dial).is_err() {
                    tracing::warn!(%peer, "too many dials wait; this one is left out");
                }
            }
            PeerOutput::Send { link, message } => say(driven, link, message),
            PeerOutput::Close { link, goodbye } => {
                say(driven, link, PeerMessage::Goodbye(goodbye));
                // What is queued is sent, then the stream ends.
                if let Some(sender) = driven.peers.links.remove(&link) {
                    sender.close.cancel();
                }
            }
            PeerOutput::TrustChanged => self.trust_peers(driven),
            PeerOutput::Alarm(alarm) => show(&mut driven.peers.alarms, alarm),
        }
    }

    /// Gives the link listener the authorities that the machine trusts, and ends connections of
    /// those that it no longer does.
    pub(super) fn trust_peers(&self, driven: &Driven) {
        let others = driven.machine.trusted_authorities().into_iter();
        let others = others.filter(|known| &known.key.0 != self.wire.authority.as_bytes());
        let usable: Vec<CaCertificate> = others.filter_map(read_authority).collect();
        if let Err(error) = self.wire.trust.replace(usable) {
            tracing::error!(%error, "an authority of a peer cannot be used");
            return;
        }
        let (trust, connections) = (Arc::clone(&self.wire.trust), self.connections.clone());
        tokio::spawn(async move {
            // Goodbyes go out first.
            tokio::time::sleep(LAST_WORDS).await;
            connections.close_where(|certificate| !trust.knows(certificate.trust_domain));
        });
    }

    /// Begins the dials that the machine asks for.
    pub(super) async fn dial_peers(
        self: Arc<Self>,
        mut dialling: mpsc::Receiver<Dial>,
        life: Life,
    ) {
        let stop = life.stopping();
        loop {
            let dial = tokio::select! {
                () = stop.cancelled() => return,
                dial = dialling.recv() => dial,
            };
            let Some(dial) = dial else {
                return;
            };
            life.spawn(Arc::clone(&self).dial(dial, stop.clone()));
        }
    }

    /// Tries each endpoint of a peer, and keeps the link to the first that answers.
    async fn dial(self: Arc<Self>, dial: Dial, stop: CancellationToken) {
        let given_up = dial.given_up.clone();
        let opened = tokio::select! {
            () = given_up.cancelled() => return,
            () = stop.cancelled() => return,
            opened = self.open_one(&dial) => opened,
        };
        let Some((source, messages, incoming)) = opened else {
            let failed = PeerInput::DialFailed { peer: dial.peer };
            return self.feed(Input::Peer(failed));
        };
        let open = self.open_peer_link(dial.controller, dial.authority, source, messages);
        let closing = open.close.clone();
        let incoming = incoming.map(|piece| piece.map(|piece| (piece.data, piece.last)));
        let mut incoming = Box::pin(incoming);
        self.read_peer(open, &mut incoming).await;
        if closing.is_cancelled() {
            // The goodbye leaves before the connection is dropped with this stream.
            let ended = async { while incoming.next().await.is_some() {} };
            drop(tokio::time::timeout(LAST_WORDS, ended).await);
        }
    }

    async fn open_one(
        &self,
        dial: &Dial,
    ) -> Option<(
        IpAddr,
        mpsc::Sender<PeerMessage>,
        tonic::Streaming<wire::PeerLinkServiceExchangeResponse>,
    )> {
        let pin = SpkiSha256::from_bytes(dial.authority.0);
        let own = Arc::clone(&self.wire.certificate);
        let tls = match peer_client_config(pin, dial.controller.0, own) {
            Ok(tls) => tls,
            Err(error) => {
                tracing::error!(%error, "cannot configure TLS towards a peer");
                return None;
            }
        };
        for endpoint in &dial.endpoints {
            let channel = match self.wire.connect(endpoint.0, &tls).await {
                Ok(channel) => channel,
                Err(error) => {
                    tracing::warn!(peer = %dial.peer, "no link: {}", causes(&error));
                    continue;
                }
            };
            let (messages, pieces) = Self::peer_queue();
            let pieces =
                pieces.map(|(data, last)| wire::PeerLinkServiceExchangeRequest { data, last });
            let answer = PeerLinkServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .exchange(pieces)
                .await;
            match answer {
                Ok(answer) => return Some((endpoint.0.ip(), messages, answer.into_inner())),
                Err(status) => tracing::warn!(peer = %dial.peer, %status, "no link"),
            }
        }
        None
    }
}

/// Queues a message for a peer. One that does not take its messages is as good as gone.
fn say(driven: &mut Driven, link: PeerLinkId, message: PeerMessage) {
    let Some(sender) = driven.peers.links.get(&link) else {
        return;
    };
    if sender.messages.try_send(message).is_err() {
        tracing::warn!(?link, "a peer does not take its messages; ending the link");
        sender.close.cancel();
    }
}

/// Raises, changes or clears an alarm among those that are shown. One that changes keeps its
/// uuid and the moment when it was raised.
fn show(alarms: &mut BTreeMap<(&'static str, String), Alarm>, alarm: PeerAlarm) {
    let PeerAlarm {
        id,
        entity,
        severity,
        text,
    } = alarm;
    let key = (id, entity.clone());
    let Some(severity) = severity else {
        tracing::info!(id, entity, "alarm cleared: {text}");
        alarms.remove(&key);
        return;
    };
    tracing::warn!(id, entity, ?severity, "alarm: {text}");
    let severity = match severity {
        PeerSeverity::Major => Severity::Major,
        PeerSeverity::Critical => Severity::Critical,
    };
    let raised = alarms.get(&key).map(|old| (old.uuid, old.raised_at));
    let (uuid, raised_at) = raised.unwrap_or_else(|| (random_uuid(), now()));
    let repair = match id {
        "280.005" => "when that site is well again, migrate the group back at this one",
        "280.006" => {
            "clear what is in the way at the site that cannot take it in, such as the copy of a \
             subcloud that the other site has deleted; it is tried again within five minutes, or \
             at once by `tandem dcmanager peer-group-association sync` at the other site"
        }
        _ => "see whether the other site runs, is reachable and still fits this one",
    };
    let shown = Alarm {
        uuid,
        id: id.to_owned(),
        severity,
        entity,
        reason: text,
        raised_at,
        repair: repair.to_owned(),
    };
    alarms.insert(key, shown);
}

/// What a message says that only certificates can tell.
fn fault_of(message: &PeerMessage) -> Option<String> {
    match message {
        PeerMessage::Hello(card) => sound(card).err().map(|fault| fault.to_string()),
        _ => None,
    }
}

fn read_authority(authority: &Authority) -> Option<CaCertificate> {
    match CaCertificate::from_der(&authority.certificate) {
        Ok(certificate) => Some(certificate),
        Err(error) => {
            tracing::error!(%error, "the authority of a peer cannot be read");
            None
        }
    }
}

/// The card of a site that took a token.
fn read_card(card: Option<wire::PeerCard>, pin: SpkiSha256) -> Result<PeerCard, Status> {
    let card = card_from_wire(card.unwrap_or_default()).and_then(|card| {
        sound(&card)?;
        Ok(card)
    });
    let card = card.map_err(|fault| malformed(vec![fault]))?;
    if &card.authority.key.0 != pin.as_bytes() {
        let fault = "is not that of the token";
        return Err(malformed(vec![api::convert::Malformed::new(
            "card.authority_sha256",
            fault,
        )]));
    }
    Ok(card)
}

fn not_a_token(error: &identity::TokenError) -> Rejection {
    Rejection::one(
        Violation::new(
            Reason::PeerTokenInvalid,
            error.to_string(),
            "use the token that `tandem dcmanager system-peer add NAME` printed at the other site",
        )
        .at("token"),
    )
}

fn unreachable(why: &str) -> Rejection {
    Rejection::one(Violation::new(
        Reason::PeerUnreachable,
        format!("the site that issued the token does not answer: {why}"),
        "see whether its system-controller runs and its link address can be reached from this \
         site's; the token is still good unless the peer is shown as established there",
    ))
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
