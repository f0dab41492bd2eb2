//! The agent's side of enrollment and link, message by message: for what no agent would say.

use std::net::SocketAddr;

use api::convert::site_fields_to_wire;
use api::fleet_v1::enrollment_service_client::EnrollmentServiceClient;
use api::fleet_v1::exchange_request::Message;
use api::fleet_v1::link_service_client::LinkServiceClient;
use api::fleet_v1::{
    EnrollRequest, EnrollResponse, ExchangeRequest, ExchangeResponse, Hello, ReportChunk,
};
use api::site_v1::Site;
use hyper_util::rt::TokioIo;
use identity::{CaCertificate, EnrollmentToken, LeafKey, TlsStream};
use prost::Message as _;
use site::bootstrap;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::bootstrap::Bootstrap;
use super::cloud::Added;

/// A site and a key, with which a test says to a controller whatever it likes.
#[derive(Debug)]
pub(crate) struct ByHand {
    pub(crate) key: LeafKey,
    /// What it calls its site.
    pub(crate) site: Site,
    /// What it calls the digest of its site.
    pub(crate) digest: Vec<u8>,
}

impl ByHand {
    /// The site of a bootstrap file, not altered yet, and a fresh key.
    pub(crate) fn of(file: &Bootstrap) -> Self {
        let declared = bootstrap::parse("by hand", file.yaml().as_bytes()).expect("a sound file");
        let mut ids = || Uuid::from_u128(rand::random());
        let site = declared.install(&mut ids).expect("a sound site");
        Self {
            key: LeafKey::generate().expect("a key"),
            site: site_fields_to_wire(&site),
            digest: site.digest().0.to_vec(),
        }
    }

    /// The site with something altered.
    pub(crate) fn with(mut self, alter: impl FnOnce(&mut Site)) -> Self {
        alter(&mut self.site);
        self
    }

    /// Redeems a token, or asks whether it would be.
    pub(crate) async fn enroll(
        &self,
        added: &Added,
        validate_only: bool,
    ) -> Result<EnrollResponse, Status> {
        let mut client = EnrollmentServiceClient::new(unknown(added).await);
        let request = EnrollRequest {
            token: added.token.clone(),
            certificate_signing_request: self.key.csr_der().expect("a request").to_vec(),
            site: Some(self.site.clone()),
            digest: self.digest.clone(),
            validate_only,
        };
        client
            .enroll(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Opens the link with the certificate of an enrollment.
    pub(crate) async fn link(&self, added: &Added, enrolled: &EnrollResponse) -> ByHandLink {
        let authority = CaCertificate::from_der(&enrolled.authority_certificate);
        let authority = authority.expect("the authority");
        let certificate = enrolled.certificate.clone().into();
        let tls = identity::link_client_config(&authority, certificate, &self.key);
        let (address, tcp) = connect(added).await;
        let stream = identity::connect(tls.expect("TLS"), address.ip(), tcp).await;
        open(channel(stream.expect("a handshake")).await)
            .await
            .expect("a link")
    }
}

/// Opens the link without a certificate.
pub(crate) async fn link_of_nobody(added: &Added) -> Result<ByHandLink, Status> {
    open(unknown(added).await).await
}

/// An open link.
#[derive(Debug)]
pub(crate) struct ByHandLink {
    outgoing: mpsc::Sender<ExchangeRequest>,
    incoming: Streaming<ExchangeResponse>,
}

impl ByHandLink {
    /// Says something.
    pub(crate) async fn say(&self, message: Message) {
        let message = ExchangeRequest {
            message: Some(message),
        };
        self.outgoing.send(message).await.expect("an open link");
    }

    /// The next message; none when the controller ended the link without a word.
    pub(crate) async fn hear(
        &mut self,
    ) -> Result<Option<api::fleet_v1::exchange_response::Message>, Status> {
        let heard = self.incoming.message().await?;
        Ok(heard.and_then(|heard| heard.message))
    }
}

/// The first words of a fresh process of an agent that knows nothing of its controller's networks.
pub(crate) fn hello(digest: &[u8]) -> Message {
    hello_of(rand::random(), digest)
}

/// The same of a certain process.
pub(crate) fn hello_of(instance: u64, digest: &[u8]) -> Message {
    Message::Hello(Hello {
        software_version: "24.09".to_owned(),
        owner: Uuid::nil().to_string(),
        epoch: 1,
        generation: 1,
        digest: digest.to_vec(),
        instance,
        ..Hello::default()
    })
}

/// A report in one piece.
pub(crate) fn report(by: &ByHand) -> Message {
    Message::ReportChunk(ReportChunk {
        generation: by.site.generation,
        digest: by.digest.clone(),
        data: by.site.encode_to_vec(),
        last: true,
    })
}

async fn open(channel: Channel) -> Result<ByHandLink, Status> {
    let (outgoing, messages) = mpsc::channel(4);
    let mut client = LinkServiceClient::new(channel);
    let answer = client.exchange(ReceiverStream::new(messages)).await?;
    Ok(ByHandLink {
        outgoing,
        incoming: answer.into_inner(),
    })
}

/// A connection without a client certificate to the controller of a token.
async fn unknown(added: &Added) -> Channel {
    let token = EnrollmentToken::parse(&added.token).expect("a token");
    let tls = identity::enroll_client_config(token.ca()).expect("TLS");
    let (address, tcp) = connect(added).await;
    let stream = identity::connect(tls, address.ip(), tcp).await;
    channel(stream.expect("a handshake")).await
}

async fn connect(added: &Added) -> (SocketAddr, TcpStream) {
    let address = added.controller.strip_prefix("https://").expect("a URL");
    let address = address.parse().expect("an address");
    (
        address,
        TcpStream::connect(address).await.expect("a connection"),
    )
}

/// A client's end of a connection.
pub(crate) async fn channel(stream: TlsStream<TcpStream>) -> Channel {
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = once.take();
        async { stream.ok_or_else(|| std::io::Error::other("the connection has ended")) }
    });
    let endpoint = Endpoint::from_static("http://controller");
    endpoint
        .connect_with_connector(connector)
        .await
        .expect("HTTP/2")
}
