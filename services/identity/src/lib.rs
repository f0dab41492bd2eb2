//! Who may speak to whom: the controller's certificate authority, enrollment tokens, the
//! certificates and TLS settings of every link, and the acceptor in front of both services.
//!
//! Invariants
//! * An identity comes from the single URI SAN of a certificate that the pinned CA signed, never
//!   from a common name, an address or a message body.
//! * TLS 1.3 with P-256 certificates only. The cryptography provider is passed to every
//!   configuration; nothing reads or installs a process-wide default.
//! * A resumed session is judged like a new one: [`authenticate`] reads identity and validity of
//!   the certificate again for each connection, and callers check revocation beside it.
//! * Secrets (private keys, token secrets) never show in `Debug`, and token secrets are kept
//!   only as hashes.
//! * Time is an argument wherever a certificate gets or shows its dates. Only the TLS handshake
//!   itself and the acceptor read the clock.
//!
//! This crate must not decide what an identity is allowed to do, must not keep records (the
//! services store what it hands them) and must not know the wire format.

mod acceptor;
mod admission;
mod ca;
mod certificate;
mod client;
mod connection;
mod files;
mod key;
mod server;
mod socket;
mod spiffe;
mod ticket;
mod tls;
mod token;
mod trust;

pub use acceptor::{Acceptor, Limits};
pub use admission::{Connections, Counts, Refusal, Slot};
pub use ca::{CONTROLLER_VALIDITY, SUBCLOUD_VALIDITY};
pub use ca::{Ca, CaError, CaParts, IssuedCertificate, OPERATOR_VALIDITY, csr_spki_sha256};
pub use certificate::{CaCertificate, CertificateError, PeerCertificate, Serial, certificate_pem};
pub use client::{ConnectError, ServerRejection, TlsStream, connect, pinned_ca};
pub use client::{
    enroll_client_config, link_client_config, operator_client_config, peer_client_config,
    pinned_client_config,
};
pub use connection::{ConnectInfo, Connection};
pub use files::{WriteError, write_private};
pub use key::{KeyError, LeafKey, SpkiSha256};
pub use server::{ClientCertificates, ServingCertificate, authenticate};
pub use server::{link_server_config, server_config};
pub use socket::{Listener, Socket};
pub use spiffe::{Identity, IdentityError, OperatorName, OperatorNameError, Role, SpiffeId};
pub use tls::{HANDSHAKE_TIMEOUT, TlsConfigError};
pub use token::{EnrollmentToken, PeeringToken, Secret, SecretHash, TokenError, TokenIssueError};
pub use trust::Trust;
