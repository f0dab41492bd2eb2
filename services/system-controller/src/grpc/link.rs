//! `tandem.fleet.v1.LinkService`.

use std::pin::Pin;
use std::sync::Arc;

use api::convert::{AgentMessages, controller_message_to_wire};
use api::fleet_v1 as wire;
use api::fleet_v1::link_service_server::LinkService;
use daemon::Pieces;
use fleet::{
    AgentMessage, ControllerMessage, Fingerprint, Goodbye, GoodbyeReason, Input, LinkId, Reason,
    Rejection, Signed, SubcloudId, Violation,
};
use futures_util::Stream;
use identity::{ConnectInfo, Identity};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::operator::timestamp;
use super::refused;
use crate::hub::{Hub, LinkCaller, OpenLink};
use crate::issuer::proven_key;
use crate::metrics::LinkRefusal;

/// The agents' streams.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) hub: Arc<Hub>,
}

#[tonic::async_trait]
impl LinkService for Links {
    type ExchangeStream =
        Pin<Box<dyn Stream<Item = Result<wire::ExchangeResponse, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<wire::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let caller = caller(&request)?;
        let talk = Conversation::new(&self.hub, caller, request.into_inner());
        let talk = Box::new(talk);
        Ok(Response::new(Box::pin(futures_util::stream::unfold(
            talk,
            async |mut talk| Some((talk.next().await?, talk)),
        ))))
    }
}

/// Both directions of one link. One task does both: what an agent says is handed to the machine
/// where the answer is awaited, so that a heartbeat wakes nobody else.
struct Conversation {
    hub: Arc<Hub>,
    link: LinkId,
    incoming: Streaming<wire::ExchangeRequest>,
    parts: AgentMessages,
    pieces_heard: Pieces,
    messages: mpsc::Receiver<Box<ControllerMessage>>,
    close: CancellationToken,
    /// Whose link it is, and the term of which its agent spoke in Hello; for logs.
    subcloud: SubcloudId,
    epoch: u64,
    /// What the last message to the agent comes to.
    pieces: std::vec::IntoIter<wire::ExchangeResponse>,
    /// How the call ends once everything is said.
    last_word: Option<Status>,
    /// The agent had its turn.
    heard: bool,
    /// Nothing is read any more, and the machine knows that the link has ended.
    ended: bool,
}

impl Conversation {
    fn new(hub: &Arc<Hub>, caller: LinkCaller, incoming: Streaming<wire::ExchangeRequest>) -> Self {
        let subcloud = caller.subcloud;
        let OpenLink {
            id,
            messages,
            close,
        } = hub.open_link(caller);
        Self {
            hub: Arc::clone(hub),
            link: id,
            incoming,
            parts: AgentMessages::new(proven_key),
            pieces_heard: Pieces::default(),
            messages,
            close,
            subcloud,
            epoch: 0,
            pieces: Vec::new().into_iter(),
            last_word: None,
            heard: false,
            ended: false,
        }
    }

    /// The next piece for the agent. Dropping the future loses nothing.
    async fn next(&mut self) -> Option<Result<wire::ExchangeResponse, Status>> {
        loop {
            // The directions take turns: a slow link that is told something long is heard all the
            // same, and who says much is told what there is to say.
            if std::mem::take(&mut self.heard) {
                if let Some(piece) = self.pieces.next() {
                    return Some(Ok(piece));
                }
                if let Ok(message) = self.messages.try_recv() {
                    self.say(&message);
                    continue;
                }
            }
            let more = self.pieces.len() > 0;
            tokio::select! {
                biased;
                () = self.close.cancelled(), if !self.ended => self.end(),
                piece = self.incoming.message(), if !self.ended => self.hear(piece),
                () = std::future::ready(()), if more => return self.pieces.next().map(Ok),
                message = self.messages.recv() => match message {
                    Some(message) => self.say(&message),
                    // Everything is said.
                    None => return self.last_word.take().map(Err),
                },
            }
        }
    }

    fn say(&mut self, message: &ControllerMessage) {
        self.pieces = controller_message_to_wire(message).into_iter();
        if let Some(status) = shut_out(message) {
            self.last_word = Some(status);
        }
    }

    /// Hands what came to the machine. The last word is for the agent: a message of it that cannot
    /// be read.
    fn hear(&mut self, piece: Result<Option<wire::ExchangeRequest>, Status>) {
        self.heard = true;
        let message = match piece {
            Ok(Some(piece)) => self.parts.take(piece).map_err(|fault| {
                self.hub.metrics().refused(LinkRefusal::UnreadableMessage);
                fault.to_string()
            }),
            Ok(None) => return self.end(),
            // A message that is too large, or the connection: then nobody hears the last word.
            Err(status) => Err(status.message().to_owned()),
        };
        match message {
            Ok(Some(message)) => {
                self.pieces_heard.whole();
                self.take(message);
            }
            Ok(None) if self.pieces_heard.piece() => {
                let link = self.link;
                self.hub.feed(Input::LinkHeard { link });
            }
            Ok(None) => {}
            Err(fault) => {
                let link = self.link;
                tracing::warn!(?link, fault, "a link cannot be read on and ends");
                self.last_word = Some(unreadable(&fault));
                self.end();
            }
        }
    }

    /// Hands one message to the machine. What follows from it is logged with the subcloud, the term
    /// and the generation; a span for each message and not for each link, which lasts for months.
    fn take(&mut self, message: AgentMessage) {
        if let AgentMessage::Hello(hello) = &message {
            self.epoch = hello.epoch.0;
        }
        if matches!(message, AgentMessage::Heartbeat) {
            return self.hub.link_message(self.link, message);
        }
        let link = tracing::info_span!("link", subcloud = %self.subcloud, epoch = self.epoch);
        let _link = link.enter();
        let of_message = match &message {
            AgentMessage::Hello(hello) => tracing::info_span!(
                "hello",
                generation = hello.generation.0,
                epoch = hello.epoch.0
            ),
            AgentMessage::Report(report) => {
                tracing::info_span!("report", generation = report.site.generation.0)
            }
            AgentMessage::Heartbeat
            | AgentMessage::CommandResult(_)
            | AgentMessage::CertificateRequest(_)
            | AgentMessage::NetworksAnswer(_) => tracing::Span::none(),
        };
        let _of_message = of_message.enter();
        tracing::debug!("the agent said it");
        self.hub.link_message(self.link, message);
    }

    /// Reads no more, and lets the machine say the rest.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.hub.close_link(self.link);
        }
    }
}

impl Drop for Conversation {
    /// The connection is gone, or the call.
    fn drop(&mut self) {
        self.end();
    }
}

/// How the call ends after a goodbye that only an operator's word can undo, so that any client of
/// gRPC is told why.
fn shut_out(message: &ControllerMessage) -> Option<Status> {
    let ControllerMessage::Goodbye(Goodbye { reason, .. }) = message else {
        return None;
    };
    let violation = match reason {
        GoodbyeReason::Revoked => Violation::new(
            Reason::CertificateRevoked,
            "the certificate is not, or no longer, that of an enrolled subcloud",
            "ask the operator of the system controller for a new token, and enroll again",
        ),
        GoodbyeReason::IdentityCloned => Violation::new(
            Reason::IdentityCloned,
            "this identity is used by two agents, and neither is taken for the subcloud",
            "end the agent that has a copy of the other's state directory; then ask the operator \
             of the system controller to let the right site enroll anew",
        ),
        _ => return None,
    };
    Some(refused(Rejection::one(violation)))
}

/// What an agent is told whose message cannot be read.
fn unreadable(fault: &str) -> Status {
    refused(Rejection::one(Violation::new(
        Reason::LinkProtocolViolation,
        format!("a message of the link cannot be read: {fault}"),
        "run an agent of the controller's version",
    )))
}

/// Who opened the stream: what the certificate says, never what a message says.
fn caller<T>(request: &Request<T>) -> Result<LinkCaller, Status> {
    let info = request.extensions().get::<ConnectInfo>();
    let known = info.and_then(|info| Some((info, info.certificate.as_deref()?)));
    match known.map(|(info, certificate)| (info, certificate, &certificate.identity)) {
        Some((info, certificate, Identity::Subcloud(uuid))) => Ok(LinkCaller {
            subcloud: SubcloudId(*uuid),
            key: Fingerprint(*certificate.spki.as_bytes()),
            source: info.peer.ip(),
            signed: info.authority.map(|authority| Signed {
                by: Fingerprint(*authority.as_bytes()),
                at: timestamp(certificate.issued()),
            }),
            connection: info.close.clone(),
        }),
        _ => Err(refused(Rejection::one(Violation::new(
            Reason::ClientCertificateRequired,
            "the link serves only agents with a subcloud's certificate of this controller",
            "enroll first: `subcloud-agent enroll --token …`",
        )))),
    }
}
