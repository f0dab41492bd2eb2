//! Reading certificates: whom they name, until when, with which key.

use std::fmt;
use std::time::SystemTime;

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::ca::BACKDATED;
use crate::key::{SpkiSha256, hex};
use crate::spiffe::{Identity, IdentityError, SpiffeId, parse_trust_domain_uri};

/// What a leaf certificate says about its holder.
///
/// Reading does not verify a signature: values of peers come from a TLS handshake, which did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// In which trust domain: the uuid of the controller's site.
    pub trust_domain: Uuid,
    /// Whom it names there.
    pub identity: Identity,
    /// Its number, for the revocation list and the audit log.
    pub serial: Serial,
    /// The first moment of its validity.
    pub not_before: SystemTime,
    /// The last moment of its validity.
    pub not_after: SystemTime,
    /// The fingerprint of its public key.
    pub spki: SpkiSha256,
}

impl PeerCertificate {
    /// When it was signed, in whole seconds, by the clock of who signed it: leaf certificates begin
    /// five minutes before that, for clocks that are behind.
    #[must_use]
    pub fn issued(&self) -> SystemTime {
        self.not_before + BACKDATED
    }

    /// Reads a leaf certificate of this trust domain.
    ///
    /// # Errors
    /// When it is no certificate, names nobody or several, or names another trust domain.
    pub fn read(der: &[u8], trust_domain: Uuid) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let identity = Identity::parse(only_uri(&certificate)?, trust_domain)?;
        Ok(Self {
            trust_domain,
            identity,
            serial: Serial::read(&certificate)?,
            not_before: certificate.validity().not_before.to_datetime().into(),
            not_after: certificate.validity().not_after.to_datetime().into(),
            spki: SpkiSha256::of(certificate.public_key().raw),
        })
    }

    /// Reads a leaf certificate of whichever trust domain it names.
    ///
    /// # Errors
    /// When it is no certificate, or names nobody or several.
    pub fn read_any(der: &[u8]) -> Result<Self, CertificateError> {
        Self::read(der, spiffe_id(der)?.trust_domain)
    }

    /// Checks that `now` lies within the validity, both ends included.
    ///
    /// # Errors
    /// [`CertificateError::Expired`] or [`CertificateError::NotYetValid`].
    pub fn check_validity(&self, now: SystemTime) -> Result<(), CertificateError> {
        if now < self.not_before {
            Err(CertificateError::NotYetValid {
                identity: self.identity.clone(),
                not_before: self.not_before,
            })
        } else if now > self.not_after {
            Err(CertificateError::Expired {
                identity: self.identity.clone(),
                not_after: self.not_after,
            })
        } else {
            Ok(())
        }
    }
}

/// A CA certificate that was checked to be one: self-signed, and naming its trust domain.
///
/// Whether it is the *right* CA is the caller's knowledge: it comes from the controller's own
/// store, from a file of the operator, or from a handshake that a token's pin vouched for.
#[derive(Clone, PartialEq, Eq)]
pub struct CaCertificate {
    der: CertificateDer<'static>,
    trust_domain: Uuid,
    spki: SpkiSha256,
}

impl CaCertificate {
    /// Reads a CA certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError::NotAnAuthority`] when it cannot issue or did not sign itself;
    /// [`CertificateError::Identity`] when it does not name a trust domain.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        if !certificate.is_ca() {
            return Err(CertificateError::NotAnAuthority {
                why: "it is not marked as one",
            });
        }
        if certificate.verify_signature(None).is_err() {
            return Err(CertificateError::NotAnAuthority {
                why: "it is not signed with its own key",
            });
        }
        Ok(Self {
            trust_domain: parse_trust_domain_uri(only_uri(&certificate)?)?,
            spki: SpkiSha256::of(certificate.public_key().raw),
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// Reads a PEM file with one CA certificate.
    ///
    /// # Errors
    /// Those of [`Self::from_der`], and [`CertificateError::Malformed`] unless the text has
    /// exactly one `CERTIFICATE` block.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        match certificates_of_pem(pem)?.as_slice() {
            [only] => Self::from_der(only),
            several => Err(CertificateError::Malformed(format!(
                "expected one certificate in the CA file, found {}",
                several.len()
            ))),
        }
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate as a PEM block, for `ca.crt`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        to_pem(&self.der)
    }

    /// The trust domain: the uuid of the controller's site.
    #[must_use]
    pub fn trust_domain(&self) -> Uuid {
        self.trust_domain
    }

    /// The fingerprint of the CA's public key, which tokens pin.
    #[must_use]
    pub fn spki_sha256(&self) -> SpkiSha256 {
        self.spki
    }
}

impl fmt::Debug for CaCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaCertificate")
            .field("trust_domain", &self.trust_domain)
            .field("spki", &self.spki)
            .finish_non_exhaustive()
    }
}

/// The number of a certificate: 16 bytes, random, never reused.
///
/// The CA sets the two highest bits to 01, so that the DER integer is positive and always
/// exactly 16 bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Takes a number from a record.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, the highest first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Shapes random bytes into a number that the CA may use.
    pub(crate) fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[0] = bytes[0] & 0b0011_1111 | 0b0100_0000;
        Self(bytes)
    }

    fn read(certificate: &X509Certificate<'_>) -> Result<Self, CertificateError> {
        let raw = certificate.raw_serial();
        raw.try_into().map(Self).map_err(|_| {
            CertificateError::Malformed(format!(
                "its serial number has {} bytes, a controller issues 16",
                raw.len()
            ))
        })
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// It names nobody of this trust domain.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It is over.
    #[error("the certificate of {identity} expired at {}", rfc3339(*.not_after))]
    Expired {
        /// Whom it named.
        identity: Identity,
        /// Its last moment.
        not_after: SystemTime,
    },
    /// It has not begun.
    #[error(
        "the certificate of {identity} is valid only from {} on: compare the clocks of both sites",
        rfc3339(*.not_before)
    )]
    NotYetValid {
        /// Whom it names.
        identity: Identity,
        /// Its first moment.
        not_before: SystemTime,
    },
    /// It was to be the CA's.
    #[error("the certificate is not that of a controller's CA: {why}")]
    NotAnAuthority {
        /// The missing property.
        why: &'static str,
    },
}

/// All certificates of a PEM text, at least one.
pub(crate) fn certificates_of_pem(
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|fault| CertificateError::Malformed(fault.to_string()))?;
    if certificates.is_empty() {
        return Err(CertificateError::Malformed(
            "the text has no PEM block CERTIFICATE".to_owned(),
        ));
    }
    Ok(certificates)
}

/// A certificate in DER as a PEM block.
#[must_use]
pub fn certificate_pem(der: &[u8]) -> String {
    to_pem(der)
}

/// A certificate as a PEM block.
pub(crate) fn to_pem(der: &[u8]) -> String {
    let style = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der), style)
}

/// The full name in a leaf certificate, whatever its trust domain.
pub(crate) fn spiffe_id(der: &[u8]) -> Result<SpiffeId, CertificateError> {
    Ok(only_uri(&parse(der)?)?.parse()?)
}

/// The fingerprint of a certificate's public key; `None` when it is no certificate.
pub(crate) fn spki_of(der: &[u8]) -> Option<SpkiSha256> {
    parse(der)
        .ok()
        .map(|certificate| SpkiSha256::of(certificate.public_key().raw))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(CertificateError::Malformed(format!(
            "{} bytes follow it",
            rest.len()
        ))),
        Err(fault) => Err(CertificateError::Malformed(fault.to_string())),
    }
}

/// The one URI among the subject alternative names. Other kinds of names beside it are no
/// identity: the controller's certificate also has its addresses, for tools that check them.
fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, CertificateError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|fault| CertificateError::Malformed(fault.to_string()))?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [] => Err(IdentityError::NoUri.into()),
        [only] => Ok(only),
        several => Err(IdentityError::SeveralUris {
            count: several.len(),
        }
        .into()),
    }
}

fn rfc3339(moment: SystemTime) -> String {
    // Certificates cannot name a year that this format cannot show.
    OffsetDateTime::from(moment)
        .format(&Rfc3339)
        .unwrap_or_else(|_| format!("{moment:?}"))
}
