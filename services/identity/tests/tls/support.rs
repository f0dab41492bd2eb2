//! A controller's listener and its clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::{
    Acceptor, CONTROLLER_VALIDITY, Ca, ClientCertificates, ConnectError, ConnectInfo, Connections,
    IssuedCertificate, LeafKey, Limits, Listener, OPERATOR_VALIDITY, PeerCertificate, Role,
    SUBCLOUD_VALIDITY, ServingCertificate, SpkiSha256, TlsStream, Trust, connect, server_config,
};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, SerialNumber};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Nothing here should take longer, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const LOOPBACKS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

pub(crate) const SUBCLOUD: Uuid = Uuid::from_bytes([5; 16]);

/// A controller with its authority.
pub(crate) struct Controller {
    pub(crate) ca: Ca,
    pub(crate) key: LeafKey,
    pub(crate) serving: Arc<ServingCertificate>,
}

impl Controller {
    pub(crate) fn new(trust_domain: u8) -> Self {
        let now = SystemTime::now();
        let ca = Ca::generate(Uuid::from_bytes([trust_domain; 16]), now).expect("a CA");
        let key = LeafKey::generate().expect("a key");
        let certificate = ca
            .issue_controller(&key, &LOOPBACKS, now, CONTROLLER_VALIDITY)
            .expect("a certificate");
        let serving =
            ServingCertificate::new(ca.certificate(), &certificate, &key).expect("a matching key");
        Self { ca, key, serving }
    }

    /// Presents this certificate, which must belong to the controller's key, from now on.
    pub(crate) fn present(&self, certificate: &IssuedCertificate) {
        self.serving
            .replace(self.ca.certificate(), certificate, &self.key)
            .expect("a matching key");
    }

    pub(crate) fn subcloud(&self, now: SystemTime) -> (CertificateDer<'static>, LeafKey) {
        let key = LeafKey::generate().expect("a key");
        let csr = key.csr_der().expect("a request");
        let issued = self
            .ca
            .issue_subcloud(&csr, SUBCLOUD, now, SUBCLOUD_VALIDITY)
            .expect("a certificate");
        (issued.der, key)
    }

    /// Certificate and key of an administrator, as PEM.
    pub(crate) fn operator(&self) -> (String, String) {
        let key = LeafKey::generate().expect("a key");
        let name = "alice".parse().expect("a name");
        let now = SystemTime::now();
        let issued = self
            .ca
            .issue_operator(&key, name, Role::Admin, now, OPERATOR_VALIDITY)
            .expect("a certificate");
        (issued.to_pem(), key.to_pkcs8_pem())
    }

    /// A certificate for the controller's key that this software would never issue.
    pub(crate) fn odd(&self, uris: &[&str], purpose: ExtendedKeyUsagePurpose) -> IssuedCertificate {
        let parts = self.ca.to_parts();
        let ca_key = KeyPair::try_from(parts.key_pkcs8_der.as_slice()).expect("the CA's key");
        let issuer = Issuer::from_ca_cert_der(&parts.certificate_der.into(), ca_key)
            .expect("the CA's certificate");
        let key = KeyPair::try_from(self.key.to_pkcs8_der().as_slice()).expect("the own key");
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&[0x41; 16]));
        params.extended_key_usages = vec![purpose];
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI(Ia5String::try_from(*uri).expect("ASCII")))
            .collect();
        let der = params.signed_by(&key, &issuer).expect("signed").into();
        let certificate = self
            .ca
            .issue_controller(&self.key, &[], SystemTime::now(), CONTROLLER_VALIDITY)
            .expect("a certificate");
        IssuedCertificate {
            der,
            details: certificate.details,
        }
    }

    pub(crate) async fn listen(&self, clients: ClientCertificates, at: IpAddr) -> Server {
        let socket = bind(at).await;
        let address = socket.local_addr().expect("bound");
        self.serve(clients, socket, address, Limits::default())
    }

    /// An echo server behind an acceptor.
    pub(crate) fn serve(
        &self,
        clients: ClientCertificates,
        listener: impl Listener,
        address: SocketAddr,
        limits: Limits,
    ) -> Server {
        let config =
            server_config(&self.ca, Arc::clone(&self.serving), clients).expect("a configuration");
        let cancel = CancellationToken::new();
        let trust_domain = self.ca.trust_domain();
        let acceptor = Acceptor::new(listener, config, trust_domain, limits, cancel.clone());
        Self::echoing(acceptor, address, cancel)
    }

    /// As [`Self::listen`], with a configuration that trusts other authorities too.
    pub(crate) async fn trusting(
        &self,
        config: Arc<ServerConfig>,
        trust: &Arc<Trust>,
        at: IpAddr,
    ) -> Server {
        let socket = bind(at).await;
        let address = socket.local_addr().expect("bound");
        let (trust, limits) = (Arc::clone(trust), Limits::default());
        let cancel = CancellationToken::new();
        let acceptor = Acceptor::trusting(socket, config, trust, limits, cancel.clone());
        Self::echoing(acceptor, address, cancel)
    }

    fn echoing<L: Listener>(
        mut acceptor: Acceptor<L>,
        address: SocketAddr,
        cancel: CancellationToken,
    ) -> Server {
        let connections = acceptor.connections();
        let (seen, infos) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(mut connection) = acceptor.accept().await {
                seen.send(connection.info().clone()).ok();
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(read @ 1..) = connection.read(&mut buffer).await {
                        if connection.write_all(&buffer[..read]).await.is_err()
                            || connection.flush().await.is_err()
                        {
                            break;
                        }
                    }
                });
            }
        });
        Server {
            address,
            connections,
            infos,
            _stop: cancel.drop_guard(),
        }
    }
}

/// A running listener; it stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Connections,
    infos: mpsc::UnboundedReceiver<ConnectInfo>,
    _stop: DropGuard,
}

impl Server {
    /// Shakes hands and exchanges one message.
    pub(crate) async fn exchange(&mut self, config: &Arc<ClientConfig>) -> Outcome {
        let mut stream = match self.dial(config).await {
            Ok(stream) => stream,
            Err(error) => return Outcome::RefusedByClient(error),
        };
        if within_deadline(echo(&mut stream)).await.is_err() {
            return Outcome::RefusedByServer;
        }
        let info = self.infos.try_recv().expect("an echo needs a connection");
        assert_eq!(info.local, self.address);
        assert_eq!(info.peer, stream.get_ref().0.local_addr().expect("open"));
        let kind = stream.get_ref().1.handshake_kind().expect("finished");
        Outcome::Served {
            certificate: info.certificate,
            authority: info.authority,
            kind,
            stream: Box::new(stream),
        }
    }

    pub(crate) async fn dial(
        &self,
        config: &Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let socket = TcpStream::connect(self.address).await.expect("listening");
        within_deadline(connect(Arc::clone(config), self.address.ip(), socket)).await
    }

    /// Waits until the counters fulfil a condition.
    pub(crate) async fn until(&self, met: impl Fn(identity::Counts) -> bool) {
        within_deadline(async {
            while !met(self.connections.counts()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Served {
        certificate: Option<Arc<PeerCertificate>>,
        authority: Option<SpkiSha256>,
        kind: HandshakeKind,
        stream: Box<TlsStream<TcpStream>>,
    },
    RefusedByClient(ConnectError),
    RefusedByServer,
}

impl Outcome {
    pub(crate) fn served(self) -> (Option<Arc<PeerCertificate>>, HandshakeKind) {
        match self {
            Self::Served {
                certificate, kind, ..
            } => (certificate, kind),
            refused => panic!("{refused:?}"),
        }
    }

    /// `served NAME`, `served nobody`, or who refused and why.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Served { certificate, .. } => match certificate {
                Some(certificate) => format!("served {}", certificate.identity),
                None => "served nobody".to_owned(),
            },
            Self::RefusedByClient(ConnectError::Rejected(rejection)) => rejection.to_string(),
            Self::RefusedByClient(other) => format!("{other:?}"),
            Self::RefusedByServer => "refused by the server".to_owned(),
        }
    }
}

pub(crate) async fn bind(at: IpAddr) -> TcpListener {
    TcpListener::bind((at, 0)).await.expect("a free port")
}

pub(crate) async fn echo(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

pub(crate) async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("within the deadline")
}
