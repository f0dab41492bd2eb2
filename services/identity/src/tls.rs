//! What both ends of a TLS connection share.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::server::VerifierBuilderError;

use crate::certificate::CertificateError;

/// The longest that a TLS handshake may take, on either side. A handshake needs two round trips
/// and a millisecond of work: whoever needs 5 s is stalled or hostile.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// gRPC is HTTP/2; offering it by ALPN lets a misdirected client fail in the handshake.
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";

/// The only protocol version.
pub(crate) static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The only cryptography provider. It is passed explicitly everywhere, because a process-wide
/// default would depend on which other crates are linked.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Why a TLS configuration cannot be built from its parts.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// A certificate that was given.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A private key that was given.
    #[error("the private key cannot be read: {0}")]
    PrivateKey(String),
    /// Key and certificate do not belong together, or rustls refuses them.
    #[error("the certificate and its private key cannot be used for TLS")]
    Rustls(#[from] rustls::Error),
    /// The CA cannot be used to verify clients.
    #[error("the CA cannot be used to verify client certificates")]
    Verifier(#[from] VerifierBuilderError),
}
