//! `tandem.fleet.v1.PeerLinkService`: what other controllers call on the link address.

use std::pin::Pin;
use std::sync::Arc;

use api::convert::{Malformed, card_from_wire, card_to_wire};
use api::fleet_v1 as wire;
use api::fleet_v1::peer_link_service_server::PeerLinkService;
use daemon::Life;
use fleet::{
    AcceptPeering, ControllerId, Fingerprint, Input, PeerCard, PeerInput, PeerReceipt, PeerSubject,
    Reason, Rejection, SecretHash, TokenId, Violation,
};
use futures_util::{Stream, StreamExt as _};
use identity::{CaCertificate, ConnectInfo, Identity, PeeringToken};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::enrollment::source;
use super::{malformed, refused};
use crate::hub::Hub;

/// The streams of peers, and tokens that other sites present.
#[derive(Debug)]
pub(crate) struct PeerLinks {
    pub(crate) hub: Arc<Hub>,
    pub(crate) life: Life,
}

#[tonic::async_trait]
impl PeerLinkService for PeerLinks {
    type ExchangeStream =
        Pin<Box<dyn Stream<Item = Result<wire::PeerLinkServiceExchangeResponse, Status>> + Send>>;

    async fn accept_peering(
        &self,
        request: Request<wire::AcceptPeeringRequest>,
    ) -> Result<Response<wire::AcceptPeeringResponse>, Status> {
        let source = source(&request)?;
        let wire::AcceptPeeringRequest {
            token,
            card,
            validate_only,
        } = request.into_inner();
        let card = card_from_wire(card.unwrap_or_default()).and_then(|card| {
            sound(&card)?;
            Ok(card)
        });
        let card = Box::new(card.map_err(|fault| malformed(vec![fault]))?);
        let (token, secret) = presented(&token);
        let receipt = self.hub.ask::<PeerReceipt>(|request| {
            Input::Peer(PeerInput::Accept(AcceptPeering {
                request,
                token,
                secret,
                card,
                source,
                validate_only,
            }))
        });
        match receipt.await.map_err(refused)?.subject {
            PeerSubject::Card(card) => Ok(Response::new(wire::AcceptPeeringResponse {
                card: Some(card_to_wire(&card)),
            })),
            other => {
                tracing::error!(?other, "the machine answered a token with another record");
                Err(Status::internal("the controller misunderstood itself"))
            }
        }
    }

    async fn exchange(
        &self,
        request: Request<Streaming<wire::PeerLinkServiceExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (controller, authority) = caller(&request)?;
        let source = source(&request)?;
        let (messages, pieces) = Hub::peer_queue();
        let open = self
            .hub
            .open_peer_link(controller, authority, source, messages);
        let incoming = request.into_inner();
        let incoming = incoming.map(|piece| piece.map(|piece| (piece.data, piece.last)));
        let hub = Arc::clone(&self.hub);
        self.life
            .spawn_connection(async move { hub.read_peer(open, incoming).await });
        let outgoing =
            pieces.map(|(data, last)| Ok(wire::PeerLinkServiceExchangeResponse { data, last }));
        Ok(Response::new(Box::pin(outgoing)))
    }
}

/// Whether the certificate in a card is that of an authority, of this key and this site.
///
/// # Errors
/// The field that is not sound.
pub(crate) fn sound(card: &PeerCard) -> Result<(), Malformed> {
    let path = "card.authority_certificate";
    let authority = CaCertificate::from_der(&card.authority.certificate)
        .map_err(|error| Malformed::new(path, error.to_string()))?;
    if authority.spki_sha256().as_bytes() != &card.authority.key.0 {
        return Err(Malformed::new(path, "has another key than the card says"));
    }
    if authority.trust_domain() != card.controller.0 {
        return Err(Malformed::new(path, "is that of another controller"));
    }
    Ok(())
}

/// The token's id and the hash of its secret. A text that is no token is one that nobody issued.
fn presented(text: &str) -> (TokenId, SecretHash) {
    match PeeringToken::parse(text) {
        Ok(token) => (
            TokenId(token.id()),
            SecretHash(*token.secret().hash().as_bytes()),
        ),
        Err(error) => {
            tracing::debug!(%error, "a peering token cannot be read");
            (TokenId(Uuid::nil()), SecretHash([0; 32]))
        }
    }
}

/// Which controller opened the stream: what the certificate says, and who signed it.
fn caller<T>(request: &Request<T>) -> Result<(ControllerId, Fingerprint), Status> {
    let info = request.extensions().get::<ConnectInfo>();
    let known = info.and_then(|info| Some((info.certificate.as_deref()?, info.authority?)));
    match known {
        Some((certificate, authority)) if certificate.identity == Identity::Controller => Ok((
            ControllerId(certificate.trust_domain),
            Fingerprint(*authority.as_bytes()),
        )),
        _ => Err(refused(Rejection::one(Violation::new(
            Reason::ClientCertificateRequired,
            "peers are served only with the certificate of a system controller that is a peer",
            "peer the two sites first: `tandem dcmanager system-peer add`",
        )))),
    }
}
