//! Which certificates of operators count: those of the records, not every one that the authority
//! ever signed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, RwLock};

use api::access::AccessReason;
use identity::{Connections, Identity, PeerCertificate, Role, SpkiSha256};
use site::Violation;

/// The operators of a controller, and the listeners that they come through.
#[derive(Debug, Default)]
pub struct KnownOperators {
    known: RwLock<BTreeMap<String, KnownOperator>>,
    listeners: Mutex<Vec<Connections>>,
}

/// What counts of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownOperator {
    /// The role; that of the certificate is only what it was issued for.
    pub role: Role,
    /// The key of the one certificate that counts.
    pub key: SpkiSha256,
    /// Whether the operator may still do anything.
    pub revoked: bool,
}

impl KnownOperators {
    /// Puts an operator in the place of the one of the same name, and ends every connection that
    /// rests on what no longer holds.
    pub fn put(&self, name: &str, operator: KnownOperator) {
        let (key, revoked) = (operator.key, operator.revoked);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), operator);
        drop(known);
        let outdated = |certificate: &PeerCertificate| {
            let Identity::Operator { name: theirs, .. } = &certificate.identity else {
                return false;
            };
            theirs.as_str() == name && (revoked || certificate.spki != key)
        };
        let ended = self.close_where(outdated);
        if ended > 0 {
            tracing::info!(
                operator = name,
                ended,
                "connections ended with their certificate"
            );
        }
    }

    /// Ends the connections whose certificates fit; how many there were.
    pub fn close_where(&self, ended: impl Fn(&PeerCertificate) -> bool) -> usize {
        let listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.iter().map(|it| it.close_where(&ended)).sum()
    }

    /// Lets [`KnownOperators::put`] end the connections of a listener.
    pub(crate) fn add_listener(&self, connections: Connections) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.push(connections);
    }

    /// The role of the holder of a certificate.
    ///
    /// # Errors
    /// `OPERATOR_REVOKED` when the certificate does not count, or no longer.
    pub(crate) fn role_of(
        &self,
        name: &str,
        key: SpkiSha256,
    ) -> Result<Role, Box<Violation<AccessReason>>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.get(name) {
            Some(known) if known.key == key && !known.revoked => Ok(known.role),
            _ => Err(Box::new(Violation::new(
                AccessReason::OperatorRevoked,
                format!("the certificate of operator {name} is not, or no longer, in force"),
                format!(
                    "ask an admin for a new one: `tandem dcmanager operator add {name} --role ROLE`"
                ),
            ))),
        }
    }
}
