//! The client side of TLS: agents that enroll, agents on their link, and the command line.
//!
//! All three verify the controller's *name* in its certificate, under a CA that they know, and
//! never its address: a controller is reached through floating addresses, gateways and NAT.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError as TlsCertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct,
    OtherError, PeerIncompatible, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use crate::certificate::{
    CaCertificate, CertificateError, certificates_of_pem, spiffe_id, spki_of,
};
use crate::key::{LeafKey, SpkiSha256};
use crate::server::ServingCertificate;
use crate::spiffe::{Identity, IdentityError};
use crate::tls::{ALPN_HTTP2, HANDSHAKE_TIMEOUT, TlsConfigError, VERSIONS, provider};

/// A client's end of a TLS connection.
pub type TlsStream<Io> = tokio_rustls::client::TlsStream<Io>;

/// Sessions that a client keeps to resume. rustls counts eight tickets per server, so this is
/// eight servers: more than the controllers that an agent ever knows.
const RESUMABLE_SESSIONS: usize = 64;

/// For an agent that has only a token: no client certificate; the server must be the controller
/// under the CA whose public key has the hash `pin`, in whatever trust domain that CA names.
///
/// After the handshake [`pinned_ca`] gives the CA's certificate.
///
/// # Errors
/// Only when rustls refuses its own provider.
pub fn enroll_client_config(pin: SpkiSha256) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let mut config = builder(Trust::Pin(pin))?.with_no_client_auth();
    // It connects once or twice; there is nothing to resume.
    config.resumption = Resumption::disabled();
    Ok(finish(config))
}

/// For an enrolled agent: mutual TLS under the CA that it pinned when it enrolled.
///
/// Keep one configuration as long as the certificate: it holds the session tickets, and a
/// resumed handshake costs the controller 40% less. A renewed certificate needs a new one.
///
/// # Errors
/// When the key does not belong to the certificate.
pub fn link_client_config(
    ca: &CaCertificate,
    certificate: CertificateDer<'static>,
    key: &LeafKey,
) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let mut config = builder(Trust::Ca(ca.clone()))?
        .with_client_auth_cert(vec![certificate], key.to_private_key_der())?;
    config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
    Ok(finish(config))
}

/// For an agent that turns to a controller of which only the key of its authority and its trust
/// domain are known, such as a peer of the one where it enrolled. The certificate is that of its
/// own authority, which the other end must trust.
///
/// Keep one configuration for each controller as long as the certificate; see
/// [`link_client_config`].
///
/// # Errors
/// When the key does not belong to the certificate.
pub fn pinned_client_config(
    pin: SpkiSha256,
    trust_domain: Uuid,
    certificate: CertificateDer<'static>,
    key: &LeafKey,
) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let mut config = builder(Trust::PinOf(pin, trust_domain))?
        .with_client_auth_cert(vec![certificate], key.to_private_key_der())?;
    config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
    Ok(finish(config))
}

/// For a controller that dials a peer: as [`pinned_client_config`], with the certificate that its
/// own listeners present at that moment.
///
/// # Errors
/// Only when rustls refuses its own provider.
pub fn peer_client_config(
    pin: SpkiSha256,
    trust_domain: Uuid,
    own: Arc<ServingCertificate>,
) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let mut config = builder(Trust::PinOf(pin, trust_domain))?.with_client_cert_resolver(own);
    // One connection for each pair of sites, kept for days.
    config.resumption = Resumption::disabled();
    Ok(finish(config))
}

/// For the command line: `ca.crt`, and an operator's certificate with its key if there is one.
/// All are PEM texts.
///
/// # Errors
/// Says which of the texts cannot be read, or that key and certificate do not match.
pub fn operator_client_config(
    ca_pem: &str,
    operator: Option<(&str, &str)>,
) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let builder = builder(Trust::Ca(CaCertificate::from_pem(ca_pem)?))?;
    let config = match operator {
        None => builder.with_no_client_auth(),
        Some((certificate_pem, key_pem)) => {
            let chain = certificates_of_pem(certificate_pem)?;
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
                .map_err(|fault| TlsConfigError::PrivateKey(fault.to_string()))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    Ok(finish(config))
}

/// Shakes hands over a connection that is already open, within [`HANDSHAKE_TIMEOUT`].
///
/// `server` only labels the tickets; it is not verified. A controller that demands a client
/// certificate says so after this has returned, on the first read: that is how TLS 1.3 works.
///
/// # Errors
/// Keeps apart a controller that must not be trusted, one that does not answer, and a network
/// that fails.
pub async fn connect<Io>(
    config: Arc<ClientConfig>,
    server: IpAddr,
    io: Io,
) -> Result<TlsStream<Io>, ConnectError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::IpAddress(server.into());
    let handshake = TlsConnector::from(config).connect(name, io);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(ConnectError::from_io(error)),
        Err(_) => Err(ConnectError::Timeout),
    }
}

/// The CA behind a connection that was made with [`enroll_client_config`]: what the agent pins
/// from now on, with its trust domain.
///
/// # Errors
/// As the handshake itself; it cannot fail after one that succeeded with the same pin.
pub fn pinned_ca<Io>(
    stream: &TlsStream<Io>,
    pin: SpkiSha256,
) -> Result<CaCertificate, ServerRejection> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    ca_under_pin(chain.get(1..).unwrap_or_default(), pin)
}

/// Why a connection to the controller did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server is not the controller that is wanted.
    #[error("the server cannot be trusted")]
    Rejected(#[source] ServerRejection),
    /// No end of the handshake within [`HANDSHAKE_TIMEOUT`].
    #[error("the server did not finish the TLS handshake within 5 s")]
    Timeout,
    /// The server refused, or does not speak TLS 1.3 with HTTP/2.
    #[error("the TLS handshake failed")]
    Tls(#[source] rustls::Error),
    /// The connection broke.
    #[error("the connection broke during the TLS handshake")]
    Io(#[source] io::Error),
}

impl ConnectError {
    /// tokio-rustls hides the cause twice: an `rustls::Error` within an `io::Error`, and our own
    /// verdict within that.
    fn from_io(error: io::Error) -> Self {
        let Some(tls) = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>())
        else {
            return Self::Io(error);
        };
        if let rustls::Error::InvalidCertificate(TlsCertificateError::Other(OtherError(cause))) =
            tls
            && let Some(rejection) = cause.downcast_ref::<ServerRejection>()
        {
            return Self::Rejected(rejection.clone());
        }
        Self::Tls(tls.clone())
    }
}

/// Why a server is not the controller that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerRejection {
    /// None of the certificates that it sent has the pinned key.
    #[error(
        "its CA is not the one that is pinned (public key {pin}): the token is another \
         controller's, or something else answers at this address"
    )]
    WrongPin {
        /// The hash in the token.
        pin: SpkiSha256,
    },
    /// Its certificate is not signed by the CA.
    #[error("its certificate is not signed by the expected CA (public key {ca})")]
    UntrustedIssuer {
        /// The fingerprint of the expected CA.
        ca: SpkiSha256,
    },
    /// Its certificate is over.
    #[error("its certificate has expired: compare the clocks of both sites")]
    Expired,
    /// Its certificate has not begun.
    #[error("its certificate is not valid yet: compare the clocks of both sites")]
    NotYetValid,
    /// Its certificate is not for servers.
    #[error("its certificate is not meant for servers")]
    NotForServers,
    /// Its certificate names somebody else.
    #[error("its certificate names {found}, not the controller")]
    NotTheController {
        /// Whom it names.
        found: Identity,
    },
    /// Its certificate, or that of its CA, is unusable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// How much of the controller is known beforehand.
#[derive(Debug)]
enum Trust {
    /// The hash of its CA's public key, from a token.
    Pin(SpkiSha256),
    /// The hash of its CA's public key, and the trust domain that the CA must name.
    PinOf(SpkiSha256, Uuid),
    /// Its CA, and so its trust domain.
    Ca(CaCertificate),
}

/// Verifies that a server is the controller.
#[derive(Debug)]
struct ControllerVerifier {
    trust: Trust,
}

impl ControllerVerifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), ServerRejection> {
        let found;
        let ca = match &self.trust {
            Trust::Ca(ca) => ca,
            Trust::Pin(pin) | Trust::PinOf(pin, _) => {
                found = ca_under_pin(others, *pin)?;
                &found
            }
        };
        verify_chain(leaf, ca, now).map_err(|error| chain_rejection(&error, ca))?;
        // An authority names nobody outside its own trust domain.
        verify_name(leaf, ca.trust_domain())?;
        match self.trust {
            Trust::PinOf(_, domain) => verify_name(leaf, domain),
            Trust::Pin(_) | Trust::Ca(_) => Ok(()),
        }
    }
}

impl ServerCertVerifier for ControllerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(|rejection| {
                let cause: Arc<dyn StdError + Send + Sync> = Arc::new(rejection);
                TlsCertificateError::Other(OtherError(cause)).into()
            })
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Unreachable while TLS 1.3 is the only version, and refused should that ever change.
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // Every controller's key is on P-256.
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// The certificate among `others` whose public key has the hash `pin`.
fn ca_under_pin(
    others: &[CertificateDer<'_>],
    pin: SpkiSha256,
) -> Result<CaCertificate, ServerRejection> {
    let pinned = others.iter().find(|der| spki_of(der) == Some(pin));
    let der = pinned.ok_or(ServerRejection::WrongPin { pin })?;
    Ok(CaCertificate::from_der(der)?)
}

/// Signature, validity and purpose, but not the name.
fn verify_chain(
    leaf: &CertificateDer<'_>,
    ca: &CaCertificate,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let algorithms = provider().signature_verification_algorithms.all;
    // No intermediates: the CA signs its leaves directly.
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], now, algorithms)
}

fn verify_name(leaf: &CertificateDer<'_>, trust_domain: Uuid) -> Result<(), ServerRejection> {
    let id = spiffe_id(leaf)?;
    if id.trust_domain != trust_domain {
        let other = IdentityError::OtherTrustDomain {
            expected: trust_domain,
            found: id.trust_domain,
        };
        return Err(CertificateError::from(other).into());
    }
    match id.identity {
        Identity::Controller => Ok(()),
        found => Err(ServerRejection::NotTheController { found }),
    }
}

fn chain_rejection(error: &rustls::Error, ca: &CaCertificate) -> ServerRejection {
    use TlsCertificateError as Fault;
    let ca = ca.spki_sha256();
    match error {
        rustls::Error::InvalidCertificate(fault) => match fault {
            Fault::Expired | Fault::ExpiredContext { .. } => ServerRejection::Expired,
            Fault::NotValidYet | Fault::NotValidYetContext { .. } => ServerRejection::NotYetValid,
            Fault::UnknownIssuer | Fault::BadSignature => ServerRejection::UntrustedIssuer { ca },
            Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => {
                ServerRejection::NotForServers
            }
            other => CertificateError::Malformed(other.to_string()).into(),
        },
        other => CertificateError::Malformed(other.to_string()).into(),
    }
}

fn builder(
    trust: Trust,
) -> Result<ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsConfigError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ControllerVerifier { trust })))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Arc::new(config)
}
