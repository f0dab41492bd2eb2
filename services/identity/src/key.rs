//! Private keys of agents, controllers and operators, and the fingerprint of public ones.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A P-256 private key of an end entity: an agent, the controller or an operator.
///
/// `Debug` shows the fingerprint of the public key only.
pub struct LeafKey(KeyPair);

impl LeafKey {
    /// Draws a new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the operating system has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(KeyError::Generate)
    }

    /// Reads what [`Self::to_pkcs8_der`] wrote.
    ///
    /// # Errors
    /// [`KeyError::NotP256`] for anything but a PKCS#8 P-256 private key.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(der),
            &PKCS_ECDSA_P256_SHA256,
        )
        .map(Self)
        .map_err(KeyError::NotP256)
    }

    /// Reads what [`Self::to_pkcs8_pem`] wrote.
    ///
    /// # Errors
    /// [`KeyError::Pem`] when there is no `PRIVATE KEY` block, [`KeyError::NotP256`] when the
    /// block holds another kind of key.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|fault| KeyError::Pem(fault.to_string()))?;
        Self::from_pkcs8_der(der.secret_pkcs8_der())
    }

    /// The private key as PKCS#8 DER. Secret: store it where only the service can read it.
    #[must_use]
    pub fn to_pkcs8_der(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// The private key as a PEM `PRIVATE KEY` block. Secret: see [`crate::write_private`].
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A certificate signing request that proves possession of the key and asks for nothing:
    /// the CA decides name, purpose and validity.
    ///
    /// # Errors
    /// [`KeyError::Sign`] when signing fails.
    pub fn csr_der(&self) -> Result<CertificateSigningRequestDer<'static>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .serialize_request(&self.0)
            .map(Into::into)
            .map_err(KeyError::Sign)
    }

    /// The fingerprint of the public key.
    #[must_use]
    pub fn spki_sha256(&self) -> SpkiSha256 {
        SpkiSha256::of(&rcgen::PublicKeyData::subject_public_key_info(&self.0))
    }

    /// The key as rustls takes it.
    pub(crate) fn to_private_key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.to_pkcs8_der()).into()
    }

    pub(crate) fn key_pair(&self) -> &KeyPair {
        &self.0
    }

    pub(crate) fn into_key_pair(self) -> KeyPair {
        self.0
    }
}

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeafKey(public {})", self.spki_sha256())
    }
}

/// Why a private key cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No randomness.
    #[error("the operating system gives no randomness for a private key")]
    Generate(#[source] rcgen::Error),
    /// Not PEM, or no `PRIVATE KEY` in it.
    #[error("no PEM block PRIVATE KEY: {0}")]
    Pem(String),
    /// Another kind of key.
    #[error("not a PKCS#8 private key on the curve P-256")]
    NotP256(#[source] rcgen::Error),
    /// The signature could not be made.
    #[error("cannot sign with the private key")]
    Sign(#[source] rcgen::Error),
}

/// SHA-256 of a public key's `SubjectPublicKeyInfo` in DER: the fingerprint that tokens pin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpkiSha256([u8; 32]);

impl SpkiSha256 {
    /// Takes a fingerprint from a record or a token.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Hashes a `SubjectPublicKeyInfo`.
    pub(crate) fn of(spki_der: &[u8]) -> Self {
        Self(sha256(&[spki_der]))
    }
}

impl fmt::Display for SpkiSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for SpkiSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpkiSha256({self})")
    }
}

/// SHA-256 over the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Writes bytes as lowercase hexadecimal digits.
pub(crate) fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_both_encodings() {
        let key = LeafKey::generate().expect("randomness");
        let der = LeafKey::from_pkcs8_der(&key.to_pkcs8_der()).expect("own DER");
        let pem = LeafKey::from_pkcs8_pem(&key.to_pkcs8_pem()).expect("own PEM");
        assert_eq!(der.spki_sha256(), key.spki_sha256());
        assert_eq!(pem.spki_sha256(), key.spki_sha256());
    }

    #[test]
    fn another_curve_is_refused() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("randomness");
        let error = LeafKey::from_pkcs8_pem(&other.serialize_pem()).expect_err("Ed25519");
        assert!(matches!(error, KeyError::NotP256(_)), "{error}");
        let error = LeafKey::from_pkcs8_pem("no key").expect_err("no PEM");
        assert!(matches!(error, KeyError::Pem(_)), "{error}");
    }

    #[test]
    fn debug_hides_the_private_key() {
        let key = LeafKey::generate().expect("randomness");
        assert_eq!(
            format!("{key:?}"),
            format!("LeafKey(public {})", key.spki_sha256())
        );
    }
}
