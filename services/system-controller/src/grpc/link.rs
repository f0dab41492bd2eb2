//! `tandem.fleet.v1.LinkService`.

use std::pin::Pin;
use std::sync::Arc;

use api::convert::{AgentMessages, controller_message_to_wire};
use api::fleet_v1 as wire;
use api::fleet_v1::link_service_server::LinkService;
use daemon::Life;
use fleet::{
    ControllerMessage, Fingerprint, Goodbye, GoodbyeReason, LinkId, Reason, Rejection, SubcloudId,
    Violation,
};
use futures_util::{Stream, StreamExt as _};
use identity::{ConnectInfo, Identity};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::enrollment::source;
use super::refused;
use crate::hub::{Hub, OpenLink};
use crate::issuer::proven_key;

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
        let (subcloud, key) = subcloud(&request)?;
        let source = source(&request)?;
        let OpenLink {
            id,
            messages,
            close,
        } = self.hub.open_link(subcloud, key, source);
        let (last_word, ended) = oneshot::channel();
        let incoming = request.into_inner();
        let reader = read(Arc::clone(&self.hub), id, incoming, close, last_word);
        self.life.spawn(reader);
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
            Ok(Some(piece)) => messages.take(piece).map_err(|fault| fault.to_string()),
            Ok(None) => break None,
            // A message that is too large, or the connection: then nobody hears the last word.
            Err(status) => Err(status.message().to_owned()),
        };
        match message {
            Ok(Some(message)) => hub.link_message(link, message),
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

/// What an agent is told whose message cannot be read.
fn unreadable(fault: &str) -> Status {
    refused(Rejection::one(Violation::new(
        Reason::LinkProtocolViolation,
        format!("a message of the link cannot be read: {fault}"),
        "run an agent of the controller's version",
    )))
}

/// Who opened the stream: what the certificate says, never what a message says.
fn subcloud<T>(request: &Request<T>) -> Result<(SubcloudId, Fingerprint), Status> {
    let info = request.extensions().get::<ConnectInfo>();
    let certificate = info.and_then(|info| info.certificate.as_deref());
    match certificate.map(|certificate| (&certificate.identity, certificate.spki)) {
        Some((Identity::Subcloud(uuid), key)) => {
            Ok((SubcloudId(*uuid), Fingerprint(*key.as_bytes())))
        }
        _ => Err(refused(Rejection::one(Violation::new(
            Reason::ClientCertificateRequired,
            "the link serves only agents with a subcloud's certificate of this controller",
            "enroll first: `subcloud-agent enroll --token …`",
        )))),
    }
}
