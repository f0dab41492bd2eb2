//! What the agent shows to controllers: its certificate, in a configuration for each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet::{ControllerId, Fingerprint, MAX_ALTERNATES};
use identity::{CaCertificate, LeafKey, SpkiSha256, TlsConfigError};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

/// The agent's certificate, ready to be shown to any controller that it may turn to. One
/// configuration for each, because each keeps the session tickets of one controller.
#[derive(Debug)]
pub(crate) struct Credentials {
    key: LeafKey,
    certificate: CertificateDer<'static>,
    /// The controller where the site enrolled, and its authority.
    own: (ControllerId, Fingerprint),
    enrolled: Arc<ClientConfig>,
    others: BTreeMap<(ControllerId, Fingerprint), Arc<ClientConfig>>,
}

impl Credentials {
    pub(crate) fn new(
        authority: &CaCertificate,
        certificate: CertificateDer<'static>,
        key: LeafKey,
    ) -> Result<Self, TlsConfigError> {
        let enrolled = identity::link_client_config(authority, certificate.clone(), &key)?;
        let signed = Fingerprint(*authority.spki_sha256().as_bytes());
        Ok(Self {
            key,
            certificate,
            own: (ControllerId(authority.trust_domain()), signed),
            enrolled,
            others: BTreeMap::new(),
        })
    }

    /// Towards one controller under one authority; `None` is that of the enrollment.
    pub(crate) fn towards(
        &mut self,
        controller: ControllerId,
        authority: Option<Fingerprint>,
    ) -> Result<Arc<ClientConfig>, TlsConfigError> {
        let Some(authority) = authority.filter(|key| (controller, *key) != self.own) else {
            return Ok(Arc::clone(&self.enrolled));
        };
        if let Some(known) = self.others.get(&(controller, authority)) {
            return Ok(Arc::clone(known));
        }
        let pin = SpkiSha256::from_bytes(authority.0);
        let certificate = self.certificate.clone();
        let made = identity::pinned_client_config(pin, controller.0, certificate, &self.key)?;
        // Those of controllers that are long gone are forgotten, with their tickets.
        if self.others.len() > MAX_ALTERNATES {
            self.others.clear();
        }
        self.others
            .insert((controller, authority), Arc::clone(&made));
        Ok(made)
    }
}
