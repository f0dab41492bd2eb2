//! Whose client certificates the link listener accepts: those of the controller's own authority
//! and of its peers' authorities, which come and go while it runs.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError as TlsCertificateError, DigitallySignedStruct, DistinguishedName,
    RootCertStore, SignatureScheme,
};
use uuid::Uuid;

use crate::certificate::{CaCertificate, CertificateError, PeerCertificate, spiffe_id};
use crate::key::SpkiSha256;
use crate::spiffe::IdentityError;
use crate::tls::{TlsConfigError, provider};

/// The authorities that are trusted at this moment. Each speaks for its own trust domain only:
/// a certificate is verified against the authority of the trust domain that it names, so that no
/// peer can sign a name of another site.
#[derive(Debug)]
pub struct Trust {
    /// The trust domain of the own authority.
    own: Uuid,
    /// The controller's own authority comes first and stays.
    authorities: RwLock<Arc<Vec<Authority>>>,
}

#[derive(Debug, Clone)]
struct Authority {
    certificate: CaCertificate,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    fn new(certificate: CaCertificate) -> Result<Self, TlsConfigError> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        Ok(Self {
            certificate,
            verifier: verifier.build()?,
        })
    }
}

impl Trust {
    /// Trusts the controller's own authority alone.
    ///
    /// # Errors
    /// When the authority cannot verify clients.
    pub fn new(own: CaCertificate) -> Result<Arc<Self>, TlsConfigError> {
        Ok(Arc::new(Self {
            own: own.trust_domain(),
            authorities: RwLock::new(Arc::new(vec![Authority::new(own)?])),
        }))
    }

    /// Trusts these authorities beside the own one, from the next handshake on. Of two that
    /// speak for one trust domain the first counts, and the own one before all. What is open
    /// stays open: see [`crate::Connections::close_where`].
    ///
    /// # Errors
    /// The first authority that cannot verify clients; nothing has changed then.
    pub fn replace(
        &self,
        others: impl IntoIterator<Item = CaCertificate>,
    ) -> Result<(), TlsConfigError> {
        let mut authorities = self.now().iter().take(1).cloned().collect::<Vec<_>>();
        for other in others {
            authorities.push(Authority::new(other)?);
        }
        let current = self.authorities.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Arc::new(authorities);
        Ok(())
    }

    /// Whether anybody speaks for a trust domain at this moment.
    #[must_use]
    pub fn knows(&self, trust_domain: Uuid) -> bool {
        self.of(trust_domain).is_some()
    }

    /// Tells who is at the other end of a finished handshake, and the key of the authority that
    /// signed; `None` when no certificate was shown.
    ///
    /// A resumed session brings the chain of the first handshake without verifying it again, and
    /// since then an authority may have gone or been replaced: dates are checked here for every
    /// connection, and the signature unless the own authority, which stays, gave it.
    ///
    /// # Errors
    /// When the leaf names nobody of a trusted domain, is not signed by that domain's authority,
    /// or `now` is outside its validity.
    pub fn authenticate(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        now: SystemTime,
    ) -> Result<Option<(PeerCertificate, SpkiSha256)>, CertificateError> {
        let Some(leaf) = chain.and_then(<[_]>::first) else {
            return Ok(None);
        };
        let authority = self.of_leaf(leaf)?;
        let certificate = PeerCertificate::read(leaf, authority.certificate.trust_domain())?;
        certificate.check_validity(now)?;
        if certificate.trust_domain != self.own {
            let since = now.duration_since(SystemTime::UNIX_EPOCH);
            let moment = UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO));
            let verified = authority.verifier.verify_client_cert(leaf, &[], moment);
            verified.map_err(|error| CertificateError::Malformed(error.to_string()))?;
        }
        Ok(Some((certificate, authority.certificate.spki_sha256())))
    }

    fn now(&self) -> Arc<Vec<Authority>> {
        let current = self.authorities.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, trust_domain: Uuid) -> Option<Authority> {
        let all = self.now();
        let speaks = |known: &&Authority| known.certificate.trust_domain() == trust_domain;
        all.iter().find(speaks).cloned()
    }

    /// The authority of the trust domain that a certificate names.
    fn of_leaf(&self, leaf: &CertificateDer<'_>) -> Result<Authority, CertificateError> {
        let found = spiffe_id(leaf)?.trust_domain;
        let expected = self.own;
        let unknown = IdentityError::OtherTrustDomain { expected, found };
        self.of(found)
            .ok_or_else(|| CertificateError::from(unknown))
    }
}

impl ClientCertVerifier for Trust {
    fn client_auth_mandatory(&self) -> bool {
        // An agent without a certificate can only enroll, a controller only present a token.
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Clients have one certificate; a hint would not change which one they show.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let authority = self
            .of_leaf(end_entity)
            .map_err(|_| rustls::Error::from(TlsCertificateError::UnknownIssuer))?;
        let verifier = authority.verifier;
        verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Unreachable while TLS 1.3 is the only version, and refused should that ever change.
        Err(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
