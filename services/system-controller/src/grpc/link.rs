//! `tandem.fleet.v1.LinkService`.

use std::pin::Pin;
use std::sync::Arc;

use api::convert::{AgentMessages, controller_message_to_wire};
use api::fleet_v1 as wire;
use api::fleet_v1::link_service_server::LinkService;
use daemon::Life;
use fleet::{
    AgentMessage, ControllerMessage, Fingerprint, Goodbye, GoodbyeReason, LinkId, Reason,
    Rejection, SubcloudId, Violation,
};
use futures_util::{Stream, StreamExt as _};
use identity::{ConnectInfo, Identity};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::refused;
use crate::hub::{Hub, LinkCaller, OpenLink};
use crate::issuer::proven_key;
use crate::metrics::LinkRefusal;

/// The agents' streams.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) hub: Arc<Hub>,
    pub(crate) life: Life,
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
        let span = tracing::info_span!(
            "link",
            subcloud = %caller.subcloud,
            epoch = tracing::field::Empty,
        );
        let OpenLink {
            id,
            messages,
            close,
        } = self.hub.open_link(caller);
        let (last_word, ended) = oneshot::channel();
        let incoming = request.into_inner();
        let reader = read(Arc::clone(&self.hub), id, incoming, close, last_word);
        self.life.spawn(reader.instrument(span));
        let outgoing = ReceiverStream::new(messages).flat_map(|message: ControllerMessage| {
            let pieces = controller_message_to_wire(&message).into_iter().map(Ok);
            futures_util::stream::iter(pieces.chain(shut_out(&message).map(Err)))
        });
        // After everything that the machine said: why this side cannot read on, if it cannot.
        let end = futures_util::stream::once(ended)
            .filter_map(|end| std::future::ready(end.ok().map(Err)));
        Ok(Response::new(Box::pin(outgoing.chain(end))))
    }
}

/// Hands an agent's messages to the machine until either side ends the link. The last word is
/// for the agent: a message of it that cannot be read.
async fn read(
    hub: Arc<Hub>,
    link: LinkId,
    mut incoming: Streaming<wire::ExchangeRequest>,
    close: CancellationToken,
    last_word: oneshot::Sender<Status>,
) {
    let mut messages = AgentMessages::new(proven_key);
    let fault = loop {
        let piece = tokio::select! {
            () = close.cancelled() => break None,
            piece = incoming.message() => piece,
        };
        let message = match piece {
            Ok(Some(piece)) => messages.take(piece).map_err(|fault| {
                hub.metrics().refused(LinkRefusal::UnreadableMessage);
                fault.to_string()
            }),
            Ok(None) => break None,
            // A message that is too large, or the connection: then nobody hears the last word.
            Err(status) => Err(status.message().to_owned()),
        };
        match message {
            Ok(Some(message)) => take(&hub, link, message),
            Ok(None) => {}
            Err(fault) => break Some(fault),
        }
    };
    // Said before the link ends: the stream of answers ends with it.
    if let Some(fault) = fault {
        tracing::warn!(?link, fault, "a link cannot be read on and ends");
        if last_word.send(unreadable(&fault)).is_err() {
            tracing::debug!(?link, "the agent is gone");
        }
    }
    hub.close_link(link);
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

/// Hands one message to the machine; what follows from it is logged with its generation and term.
fn take(hub: &Hub, link: LinkId, message: AgentMessage) {
    let span = match &message {
        AgentMessage::Hello(hello) => {
            let current = tracing::Span::current();
            current.record("epoch", hello.epoch.0);
            tracing::info_span!(
                "hello",
                generation = hello.generation.0,
                epoch = hello.epoch.0
            )
        }
        AgentMessage::Report(report) => {
            let generation = report.site.generation.0;
            tracing::info_span!("report", generation)
        }
        AgentMessage::Heartbeat
        | AgentMessage::CommandResult(_)
        | AgentMessage::CertificateRequest(_) => {
            return hub.link_message(link, message);
        }
    };
    span.in_scope(|| {
        tracing::debug!("the agent said it");
        hub.link_message(link, message);
    });
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
    match known.map(|(info, certificate)| (info, &certificate.identity, certificate.spki)) {
        Some((info, Identity::Subcloud(uuid), key)) => Ok(LinkCaller {
            subcloud: SubcloudId(*uuid),
            key: Fingerprint(*key.as_bytes()),
            source: info.peer.ip(),
            authority: info.authority.map(|key| Fingerprint(*key.as_bytes())),
            connection: info.close.clone(),
        }),
        _ => Err(refused(Rejection::one(Violation::new(
            Reason::ClientCertificateRequired,
            "the link serves only agents with a subcloud's certificate of this controller",
            "enroll first: `subcloud-agent enroll --token …`",
        )))),
    }
}
