//! The controller's certificate authority.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use uuid::Uuid;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use crate::certificate::{CaCertificate, CertificateError, PeerCertificate, Serial, to_pem};
use crate::key::{KeyError, LeafKey, SpkiSha256};
use crate::spiffe::{Identity, OperatorName, Role, SpiffeId, trust_domain_uri};

/// Validity of a subcloud's certificate; it is renewed at half of it.
pub const SUBCLOUD_VALIDITY: Duration = Duration::from_hours(24);
/// Validity of the controller's own certificate; it renews itself long before.
pub const CONTROLLER_VALIDITY: Duration = Duration::from_hours(90 * 24);
/// Validity of an operator's certificate: people renew by hand, so once a year.
pub const OPERATOR_VALIDITY: Duration = Duration::from_hours(365 * 24);

/// Validity of the CA: 20 years, longer than a site lives between reinstallations. Replacing it
/// means enrolling every subcloud again, because tokens and agents pin its key.
const CA_VALIDITY: Duration = Duration::from_hours(20 * 365 * 24);
/// Certificates begin this much before they are issued, so that a peer whose clock is a little
/// behind accepts a new one at once.
pub(crate) const BACKDATED: Duration = Duration::from_mins(5);
/// A CSR with a P-256 key has about 250 bytes; anything much longer is not ours.
const CSR_MAX_BYTES: usize = 16 * 1024;
/// `id-ecPublicKey` and `prime256v1`, in dotted form.
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const PRIME256V1: &str = "1.2.840.10045.3.1.7";

/// The certificate authority of one system controller: it names everyone in its trust domain.
pub struct Ca {
    certificate: CaCertificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a new authority with a new P-256 key.
    ///
    /// `trust_domain` is the uuid of the controller's site.
    ///
    /// # Errors
    /// When the operating system has no randomness, or `now` is centuries away.
    pub fn generate(trust_domain: Uuid, now: SystemTime) -> Result<Self, CaError> {
        let key = LeafKey::generate()?;
        let mut params = params(
            &format!("Tandem CA {}", trust_domain.hyphenated()),
            &trust_domain_uri(trust_domain),
            now,
            CA_VALIDITY,
        )?;
        // It signs end entities only: no further authority can hang below it.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(key.key_pair()).map_err(CaError::Issue)?;
        Self::from_parts(&CaParts {
            certificate_der: certificate.der().to_vec(),
            key_pkcs8_der: key.to_pkcs8_der(),
        })
    }

    /// Reads what [`Self::to_parts`] gave to the store.
    ///
    /// # Errors
    /// When either part cannot be read, or the key is not that of the certificate.
    pub fn from_parts(parts: &CaParts) -> Result<Self, CaError> {
        let certificate = CaCertificate::from_der(&parts.certificate_der)?;
        let key = LeafKey::from_pkcs8_der(&parts.key_pkcs8_der)?;
        if key.spki_sha256() != certificate.spki_sha256() {
            return Err(CaError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(certificate.der(), key.into_key_pair())
            .map_err(CaError::Issue)?;
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// Everything that the store must keep to have this authority again. Holds its private key.
    #[must_use]
    pub fn to_parts(&self) -> CaParts {
        CaParts {
            certificate_der: self.certificate.der().to_vec(),
            key_pkcs8_der: self.issuer.key().serialize_der(),
        }
    }

    /// The CA's own certificate, without its key.
    #[must_use]
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// The CA's own certificate as PEM, for `ca.crt`.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.certificate.to_pem()
    }

    /// The fingerprint that tokens pin.
    #[must_use]
    pub fn spki_sha256(&self) -> SpkiSha256 {
        self.certificate.spki_sha256()
    }

    /// The trust domain of every certificate that it issues.
    #[must_use]
    pub fn trust_domain(&self) -> Uuid {
        self.certificate.trust_domain()
    }

    /// Issues the controller's certificate, for both directions (it also dials peers).
    ///
    /// `addresses` become IP SANs, so that tools which check the address (grpcurl with `-cacert`)
    /// work on every listener; agents and the command line check the name instead.
    ///
    /// # Errors
    /// [`CaError::Validity`] for a validity of zero or beyond the year 9999.
    pub fn issue_controller(
        &self,
        key: &LeafKey,
        addresses: &[IpAddr],
        now: SystemTime,
        validity: Duration,
    ) -> Result<IssuedCertificate, CaError> {
        let purposes = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let mut params = self.leaf(&Identity::Controller, purposes, now, validity)?;
        let addresses = addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        self.sign(params, key.key_pair())
    }

    /// Issues a subcloud's certificate for the key of a certificate signing request.
    ///
    /// The request proves possession of its key by its signature; whatever else it asks for
    /// (names, extensions) is ignored, since only the controller knows who is asking.
    ///
    /// # Errors
    /// [`CaError::Csr`] when it cannot be read, is not signed by its own key, or the key is not
    /// on P-256; [`CaError::Validity`] as for the controller.
    pub fn issue_subcloud(
        &self,
        csr_der: &[u8],
        subcloud: Uuid,
        now: SystemTime,
        validity: Duration,
    ) -> Result<IssuedCertificate, CaError> {
        let key = proven_key(csr_der)?;
        let purposes = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let params = self.leaf(&Identity::Subcloud(subcloud), purposes, now, validity)?;
        self.sign(params, &key)
    }

    /// Issues an operator's certificate.
    ///
    /// # Errors
    /// [`CaError::Validity`] as for the controller.
    pub fn issue_operator(
        &self,
        key: &LeafKey,
        name: OperatorName,
        role: Role,
        now: SystemTime,
        validity: Duration,
    ) -> Result<IssuedCertificate, CaError> {
        let purposes = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let params = self.leaf(&Identity::Operator { name, role }, purposes, now, validity)?;
        self.sign(params, key.key_pair())
    }

    /// Issues an operator's certificate for the key of a certificate signing request, of which
    /// nothing else is taken.
    ///
    /// # Errors
    /// [`CaError::Csr`] as for subclouds; [`CaError::Validity`] as for the controller.
    pub fn issue_operator_for(
        &self,
        csr_der: &[u8],
        name: OperatorName,
        role: Role,
        now: SystemTime,
        validity: Duration,
    ) -> Result<IssuedCertificate, CaError> {
        let key = proven_key(csr_der)?;
        let purposes = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let params = self.leaf(&Identity::Operator { name, role }, purposes, now, validity)?;
        self.sign(params, &key)
    }

    fn leaf(
        &self,
        identity: &Identity,
        purposes: Vec<ExtendedKeyUsagePurpose>,
        now: SystemTime,
        validity: Duration,
    ) -> Result<CertificateParams, CaError> {
        // At most 64 characters, the limit of X.509: a uuid or a validated name.
        let common_name = match identity {
            Identity::Controller => "controller".to_owned(),
            Identity::Subcloud(uuid) => uuid.hyphenated().to_string(),
            Identity::Operator { name, .. } => name.to_string(),
        };
        let uri = SpiffeId {
            trust_domain: self.trust_domain(),
            identity: identity.clone(),
        };
        let mut params = params(&common_name, &uri.to_string(), now, validity)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes;
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn sign(
        &self,
        params: CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<IssuedCertificate, CaError> {
        let certificate = params
            .signed_by(key, &self.issuer)
            .map_err(CaError::Issue)?;
        // Read back what was written: the record can then never differ from the certificate.
        let details = PeerCertificate::read(certificate.der(), self.trust_domain())?;
        Ok(IssuedCertificate {
            der: certificate.into(),
            details,
        })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({:?})", self.certificate)
    }
}

/// The durable form of a [`Ca`]. `Debug` hides the private key.
#[derive(Clone)]
pub struct CaParts {
    /// The CA's certificate in DER.
    pub certificate_der: Vec<u8>,
    /// The CA's private key as PKCS#8 DER. Secret.
    pub key_pkcs8_der: Vec<u8>,
}

impl fmt::Debug for CaParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaParts(redacted)")
    }
}

/// A certificate that the CA has just issued, and what its record needs.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// The certificate in DER.
    pub der: CertificateDer<'static>,
    /// What it says: identity, serial, validity, fingerprint of the key.
    pub details: PeerCertificate,
}

impl IssuedCertificate {
    /// The certificate as a PEM block.
    #[must_use]
    pub fn to_pem(&self) -> String {
        to_pem(&self.der)
    }
}

/// Why the authority cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The private key.
    #[error("the private key of the CA cannot be made or read")]
    Key(#[from] KeyError),
    /// A certificate, the CA's own or a new one.
    #[error("a certificate of the CA cannot be used")]
    Certificate(#[from] CertificateError),
    /// The two parts belong to different authorities.
    #[error("the private key of the CA is not the key of its certificate")]
    KeyMismatch,
    /// The request of a subcloud.
    #[error("the certificate signing request {0}")]
    Csr(&'static str),
    /// The dates cannot be written.
    #[error(
        "a certificate cannot be valid for {} s from now on: it would be empty, or reach outside \
         the years 1970 to 9999",
        validity.as_secs()
    )]
    Validity {
        /// How long it was to be valid.
        validity: Duration,
    },
    /// No randomness for a serial number.
    #[error("the operating system gives no randomness for a serial number")]
    Randomness,
    /// Encoding or signing failed.
    #[error("the certificate cannot be issued")]
    Issue(#[source] rcgen::Error),
}

/// The fingerprint of the key that a certificate signing request (PKCS#10, DER) proves to have,
/// so that a decision about the key can come before a signature for it.
///
/// # Errors
/// [`CaError::Csr`], as [`Ca::issue_subcloud`].
pub fn csr_spki_sha256(csr_der: &[u8]) -> Result<SpkiSha256, CaError> {
    proven_key(csr_der).map(|key| SpkiSha256::of(&key.subject_public_key_info()))
}

/// The public key of a request that is signed with the matching private key.
fn proven_key(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, CaError> {
    if csr_der.len() > CSR_MAX_BYTES {
        return Err(CaError::Csr("is longer than 16 KiB"));
    }
    let Ok(([], csr)) = X509CertificationRequest::from_der(csr_der) else {
        return Err(CaError::Csr("is not a PKCS#10 request in DER"));
    };
    let public = &csr.certification_request_info.subject_pki;
    let curve = public.algorithm.parameters.as_ref();
    let curve = curve.and_then(|parameters| parameters.as_oid().ok());
    if public.algorithm.algorithm.to_id_string() != EC_PUBLIC_KEY
        || curve.is_none_or(|curve| curve.to_id_string() != PRIME256V1)
    {
        return Err(CaError::Csr("has a key that is not on the curve P-256"));
    }
    csr.verify_signature()
        .map_err(|_| CaError::Csr("is not signed with the private key that belongs to it"))?;
    SubjectPublicKeyInfo::from_der(public.raw).map_err(CaError::Issue)
}

fn params(
    common_name: &str,
    uri: &str,
    now: SystemTime,
    validity: Duration,
) -> Result<CertificateParams, CaError> {
    let (not_before, not_after) = dates(now, validity)?;
    let mut params = CertificateParams::default();
    params.not_before = not_before;
    params.not_after = not_after;
    params.serial_number = Some(SerialNumber::from_slice(random_serial()?.as_bytes()));
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let uri = Ia5String::try_from(uri).map_err(CaError::Issue)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}

fn dates(now: SystemTime, validity: Duration) -> Result<(OffsetDateTime, OffsetDateTime), CaError> {
    let refused = || CaError::Validity { validity };
    let moment = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        OffsetDateTime::from_unix_timestamp(i64::try_from(since.as_secs()).ok()?).ok()
    };
    if validity < Duration::from_secs(1) {
        return Err(refused());
    }
    let begin = now.checked_sub(BACKDATED).and_then(moment);
    let end = now.checked_add(validity).and_then(moment);
    begin.zip(end).ok_or_else(refused)
}

fn random_serial() -> Result<Serial, CaError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CaError::Randomness)?;
    Ok(Serial::from_random(bytes))
}
