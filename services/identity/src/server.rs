//! The server side of TLS: configuration, and the identity of whoever connected.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SignatureScheme};
use uuid::Uuid;

use crate::ca::{Ca, IssuedCertificate};
use crate::certificate::{CaCertificate, CertificateError, PeerCertificate};
use crate::key::LeafKey;
use crate::ticket::Tickets;
use crate::tls::{ALPN_HTTP2, TlsConfigError, VERSIONS, provider};
use crate::trust::Trust;

/// Whether a client must show a certificate in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// None is needed, but one that is shown must be the CA's: the link listener, where an agent
    /// without a certificate can only enroll.
    Optional,
    /// Without one the handshake fails: the operator listener on TCP.
    Required,
}

/// The TLS configuration of a listener.
///
/// * TLS 1.3, ALPN `h2`, client certificates verified against `ca`.
/// * Resumption is stateless: one ticket per handshake, sealed with keys that are derived from
///   the CA's, so that a ticket is good after a restart too. It lives 12 h, less than the shortest
///   certificate ([`crate::SUBCLOUD_VALIDITY`]), and whoever resumes is judged again by
///   [`authenticate`].
/// * A session of one listener cannot be resumed at another with other demands on clients.
///
/// # Errors
/// When the CA cannot verify clients.
pub fn server_config(
    ca: &Ca,
    certificate: Arc<ServingCertificate>,
    clients: ClientCertificates,
) -> Result<Arc<ServerConfig>, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().der().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = match clients {
        ClientCertificates::Optional => verifier.allow_unauthenticated(),
        ClientCertificates::Required => verifier,
    };
    config_with(ca, clients, verifier.build()?, certificate)
}

/// The TLS configuration of the link listener: as [`server_config`] with
/// [`ClientCertificates::Optional`], but a certificate that is shown may be that of any authority
/// that `trust` has at that moment.
///
/// # Errors
/// When rustls refuses its own provider.
pub fn link_server_config(
    ca: &Ca,
    trust: &Arc<Trust>,
    certificate: Arc<ServingCertificate>,
) -> Result<Arc<ServerConfig>, TlsConfigError> {
    let verifier: Arc<Trust> = Arc::clone(trust);
    config_with(ca, ClientCertificates::Optional, verifier, certificate)
}

fn config_with(
    ca: &Ca,
    clients: ClientCertificates,
    verifier: Arc<dyn ClientCertVerifier>,
    certificate: Arc<ServingCertificate>,
) -> Result<Arc<ServerConfig>, TlsConfigError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(Tickets::new(&ca.to_parts().key_pkcs8_der, clients));
    // The client keeps tickets across reconnects and gets a fresh one each time: a second one
    // would only cost bytes.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The controller's certificate and key as listeners present them.
///
/// Listeners share one value, and [`Self::replace`] renews it for all of them without closing a
/// connection or forgetting a ticket.
pub struct ServingCertificate(RwLock<Arc<CertifiedKey>>);

impl ServingCertificate {
    /// Takes the certificate that `ca` issued for `key`. The CA's own certificate is presented
    /// too, since an agent that enrolls knows only the hash of its key.
    ///
    /// # Errors
    /// When the key does not belong to the certificate.
    pub fn new(
        ca: &CaCertificate,
        certificate: &IssuedCertificate,
        key: &LeafKey,
    ) -> Result<Arc<Self>, TlsConfigError> {
        let certified = certified_key(ca, certificate, key)?;
        Ok(Arc::new(Self(RwLock::new(certified))))
    }

    /// Presents another certificate from the next handshake on.
    ///
    /// # Errors
    /// When the key does not belong to the certificate; the old one then stays.
    pub fn replace(
        &self,
        ca: &CaCertificate,
        certificate: &IssuedCertificate,
        key: &LeafKey,
    ) -> Result<(), TlsConfigError> {
        let certified = certified_key(ca, certificate, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

/// A controller dials its peers with the certificate that its listeners present.
impl ResolvesClientCert for ServingCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServingCertificate")
    }
}

/// Tells who is at the other end of a finished handshake; `None` when no certificate was shown.
///
/// A resumed session brings the chain of the first handshake without verifying it again, so the
/// dates are checked here, for every connection. Revocation is the caller's to check, by the
/// serial or the identity.
///
/// # Errors
/// When the leaf names nobody of `trust_domain`, or `now` is outside its validity.
pub fn authenticate(
    chain: Option<&[CertificateDer<'_>]>,
    trust_domain: Uuid,
    now: SystemTime,
) -> Result<Option<PeerCertificate>, CertificateError> {
    let Some(leaf) = chain.and_then(<[_]>::first) else {
        return Ok(None);
    };
    let certificate = PeerCertificate::read(leaf, trust_domain)?;
    certificate.check_validity(now)?;
    Ok(Some(certificate))
}

fn certified_key(
    ca: &CaCertificate,
    certificate: &IssuedCertificate,
    key: &LeafKey,
) -> Result<Arc<CertifiedKey>, TlsConfigError> {
    let chain = vec![certificate.der.clone(), ca.der().clone()];
    let certified = CertifiedKey::from_der(chain, key.to_private_key_der(), &provider())?;
    Ok(Arc::new(certified))
}
