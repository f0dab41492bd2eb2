//! Certificates for subclouds: signed for keys that the fleet's machine has made durable.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fleet::{CertificateRequest, Fingerprint, GrantedCertificate, SubcloudId};
use identity::{Ca, CaError, IssuedCertificate, csr_spki_sha256};

/// The authority, and how long what it signs is valid.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) authority: Arc<Ca>,
    pub(crate) validity: Duration,
}

impl Issuer {
    /// Signs a certificate that names a subcloud, for the key of a request.
    ///
    /// # Errors
    /// As [`Ca::issue_subcloud`].
    pub(crate) fn issue(
        &self,
        csr: &[u8],
        subcloud: SubcloudId,
    ) -> Result<IssuedCertificate, CaError> {
        let now = SystemTime::now();
        self.authority
            .issue_subcloud(csr, subcloud.0, now, self.validity)
    }

    /// The same as the answer to an agent that asks over its link.
    ///
    /// # Errors
    /// As [`Ca::issue_subcloud`].
    pub(crate) fn renew(
        &self,
        request: &CertificateRequest,
        subcloud: SubcloudId,
    ) -> Result<GrantedCertificate, CaError> {
        let issued = self.issue(&request.csr, subcloud)?;
        Ok(GrantedCertificate {
            certificate: issued.der.to_vec(),
            validity: self.validity,
        })
    }
}

/// The key that a certificate signing request proves to have.
///
/// # Errors
/// What is wrong with the request.
pub(crate) fn proven_key(csr: &[u8]) -> Result<Fingerprint, String> {
    match csr_spki_sha256(csr) {
        Ok(key) => Ok(Fingerprint(*key.as_bytes())),
        Err(error) => Err(error.to_string()),
    }
}
