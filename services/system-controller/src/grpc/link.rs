//! `tandem.fleet.v1.LinkService`.

use std::pin::Pin;
use std::sync::Arc;

use api::convert::{AgentMessages, controller_message_to_wire};
use api::fleet_v1 as wire;
use api::fleet_v1::link_service_server::LinkService;
use daemon::Life;
use fleet::{ControllerMessage, Fingerprint, LinkId, Reason, Rejection, SubcloudId, Violation};
use futures_util::Stream;
use identity::{ConnectInfo, Identity};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::enrollment::source;
use super::refused;
use crate::hub::{Hub, OpenLink};

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
        self.life
            .spawn(read(Arc::clone(&self.hub), id, request.into_inner(), close));
        let outgoing = ReceiverStream::new(messages);
        let outgoing =
            outgoing.map(|message: ControllerMessage| Ok(controller_message_to_wire(&message)));
        Ok(Response::new(Box::pin(outgoing)))
    }
}

/// Hands an agent's messages to the machine until either side ends the link.
async fn read(
    hub: Arc<Hub>,
    link: LinkId,
    mut incoming: Streaming<wire::ExchangeRequest>,
    close: CancellationToken,
) {
    let mut messages = AgentMessages::default();
    loop {
        let piece = tokio::select! {
            () = close.cancelled() => break,
            piece = incoming.message() => piece,
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(status) => {
                tracing::debug!(?link, %status, "a link broke");
                break;
            }
        };
        match messages.take(piece) {
            Ok(Some(message)) => hub.link_message(link, message),
            Ok(None) => {}
            Err(fault) => {
                tracing::warn!(?link, %fault, "a link's message cannot be read; ending the link");
                break;
            }
        }
    }
    hub.close_link(link);
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
