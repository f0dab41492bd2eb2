//! Keys and certificates for the renewal: what the agent's machine does not know of them.

use std::time::SystemTime;

use daemon::fatal;
use fleet::{CertificateRequest, ControllerId, Credential, SubcloudId};
use identity::{CaCertificate, Identity, LeafKey, PeerCertificate};
use store::Write;
use uuid::Uuid;

use crate::credentials::Credentials;
use crate::records::{certificate_write, fingerprint, key_writes};

/// Makes keys, and checks the certificates that come for them.
#[derive(Debug)]
pub(crate) struct Renewer {
    authority: CaCertificate,
    /// The token of the enrollment, which stays with the key.
    token: Uuid,
    subcloud: SubcloudId,
    /// The key that a certificate was asked for; in memory until the certificate is there.
    made: Option<LeafKey>,
}

/// A certificate that can be used.
#[derive(Debug)]
pub(crate) struct Renewed {
    /// For the connections from now on. It has no session tickets of the old certificate.
    pub(crate) tls: Credentials,
    /// Its last moment.
    pub(crate) expires: SystemTime,
    /// What to make durable first, in one step.
    pub(crate) writes: Vec<Write>,
}

impl Renewer {
    pub(crate) fn new(authority: CaCertificate, token: Uuid, subcloud: SubcloudId) -> Self {
        Self {
            authority,
            token,
            subcloud,
            made: None,
        }
    }

    /// Makes a key and the request for its certificate. A system without randomness cannot go on.
    pub(crate) fn make_key(&mut self) -> CertificateRequest {
        let made = LeafKey::generate().and_then(|key| Ok((key.csr_der()?.to_vec(), key)));
        let (csr, key) = made.unwrap_or_else(|error| fatal("no key for a new certificate", &error));
        let request = CertificateRequest {
            key: fingerprint(&key),
            csr,
        };
        self.made = Some(key);
        request
    }

    /// Checks a certificate for the key that was made last.
    ///
    /// # Errors
    /// Why it cannot be used; the key is forgotten then.
    pub(crate) fn renewed(
        &mut self,
        credential: &Credential,
        certificate: Vec<u8>,
        owner: ControllerId,
    ) -> Result<Renewed, String> {
        let key = self.made.take().ok_or("no key was made for it")?;
        let told = PeerCertificate::read_any(&certificate).map_err(|error| error.to_string())?;
        // The owner signs, which need not be the controller where the site enrolled.
        if told.trust_domain != owner.0 {
            return Err(format!("it is one of controller {}", told.trust_domain));
        }
        if told.identity != Identity::Subcloud(self.subcloud.0) {
            return Err(format!("it names {}", told.identity));
        }
        // Not its dates: whether it is valid yet, or still, is for the controller's clock to say.
        let der = certificate.clone().into();
        let authority = self.authority.der();
        let mut writes = vec![certificate_write(credential, &certificate, authority)];
        writes.extend(key_writes(&key, self.token));
        let tls = Credentials::new(&self.authority, der, key).map_err(|error| error.to_string())?;
        Ok(Renewed {
            tls,
            expires: told.not_after,
            writes,
        })
    }
}
