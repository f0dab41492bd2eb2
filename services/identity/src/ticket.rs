//! Session tickets that outlive the process: after a restart of the controller a whole fleet
//! comes back, and a resumed handshake costs 40% less than a full one.
//!
//! The keys are derived from the key of the CA, for each kind of listener and each six hours, so
//! that there is nothing to store and nothing to rotate by hand. Whoever has the CA's key could
//! name anybody anyway; what was said over past connections stays secret, because a resumed
//! handshake agrees on fresh keys too (rustls offers no other way).

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::server::ProducesTickets;

use crate::server::ClientCertificates;

/// How long a ticket is good for, in seconds: 12 h, less than the shortest certificate
/// ([`crate::SUBCLOUD_VALIDITY`]).
const LIFETIME_SECONDS: u32 = 12 * 60 * 60;

/// How long one key seals, in seconds. Random nonces are safe for 2^32 tickets of one key, which
/// is 200,000 handshakes a second for six hours.
const WINDOW_SECONDS: u64 = 6 * 60 * 60;

/// A ticket begins with the second in which it was issued, which also names its key.
const ISSUED_BYTES: usize = 8;

/// Seals and opens the tickets of one kind of listener.
pub(crate) struct Tickets {
    secret: Prk,
    purpose: &'static [u8],
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// Derives from the private key of the CA. A ticket of a listener that may do without client
    /// certificates is worth nothing at one that demands them.
    pub(crate) fn new(ca_key: &[u8], clients: ClientCertificates) -> Self {
        Self {
            secret: Salt::new(HKDF_SHA256, b"tandem session tickets").extract(ca_key),
            purpose: match clients {
                ClientCertificates::Optional => b"optional",
                ClientCertificates::Required => b"required",
            },
        }
    }

    fn key(&self, issued: u64) -> Option<LessSafeKey> {
        let window = (issued / WINDOW_SECONDS).to_be_bytes();
        let info = [self.purpose, &window];
        let derived = self.secret.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(derived)))
    }

    fn seal(&self, now: u64, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let issued = now.to_be_bytes();
        let mut sealed = plain.to_vec();
        self.key(now)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(issued),
                &mut sealed,
            )
            .ok()?;
        Some([&issued[..], &nonce, &sealed].concat())
    }

    fn unseal(&self, now: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        let (issued, rest) = ticket.split_first_chunk::<ISSUED_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let at = u64::from_be_bytes(*issued);
        // A ticket of the future is as good as an old one: clocks of one host do not run back
        // by more than the ticket could have left.
        if now.abs_diff(at) > u64::from(LIFETIME_SECONDS) {
            return None;
        }
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .key(at)?
            .open_in_place(nonce, Aad::from(*issued), &mut plain)
            .ok()?
            .len();
        plain.truncate(opened);
        Some(plain)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(now(), plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.unseal(now(), ticket)
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_ticket_is_opened_by_the_same_authority_and_kind_within_its_time() {
        use ClientCertificates::{Optional, Required};
        let sealed = Tickets::new(b"one", Optional).seal(NOW, b"session");
        let ticket = sealed.expect("a ticket");
        let lifetime = u64::from(LIFETIME_SECONDS);
        for (ca, clients, now, opens) in [
            (b"one", Optional, NOW, true),
            (b"one", Optional, NOW + lifetime, true),
            (b"one", Optional, NOW + lifetime + 1, false),
            (b"one", Optional, NOW - lifetime - 1, false),
            (b"one", Required, NOW, false),
            (b"two", Optional, NOW, false),
        ] {
            let opened = Tickets::new(ca, clients).unseal(now, &ticket);
            assert_eq!(opened.as_deref(), opens.then_some(&b"session"[..]), "{now}");
        }
    }

    #[test]
    fn no_altered_ticket_is_opened() {
        let tickets = Tickets::new(b"one", ClientCertificates::Optional);
        let ticket = tickets.seal(NOW, b"session").expect("a ticket");
        for length in 0..ticket.len() {
            assert_eq!(tickets.unseal(NOW, &ticket[..length]), None, "{length}");
        }
        for place in 0..ticket.len() {
            let mut altered = ticket.clone();
            altered[place] ^= 1;
            assert_eq!(tickets.unseal(NOW, &altered), None, "{place}");
        }
    }
}
