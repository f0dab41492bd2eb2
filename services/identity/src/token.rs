//! Tokens: what an operator carries from the controller to a new subcloud, or to another
//! controller that shall be its peer.
//!
//! Text: `td1_` for a subcloud, `tp1_` for a peer, and base64url without padding of
//!
//! | bytes | meaning |
//! |---|---|
//! | 16 | id of the token |
//! | 32 | secret |
//! | 32 | SHA-256 of the CA's public key |
//! | 1 | number of the controller's link addresses, 1 to 4 |
//! | 7 or 19 each | 4 or 6, the address, the port, both big-endian |
//! | 4 | checksum: the first bytes of SHA-256 of everything before |
//!
//! The checksum protects from typing errors only; what protects the fleet is the secret.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::key::{SpkiSha256, sha256};

const PREFIX: &str = "td1_";
/// How a token for a peer begins; nothing else tells the two apart.
const PEERING_PREFIX: &str = "tp1_";
/// Id, secret, pin and the number of addresses.
const HEAD_BYTES: usize = 16 + 32 + 32 + 1;
const CHECKSUM_BYTES: usize = 4;
/// Separates this hash from any other use of SHA-256 over 32 secret bytes.
const SECRET_DOMAIN: &[u8] = b"tandem enrollment token secret v1\0";

/// A single-use permission to enroll one subcloud, with all that its agent needs to find and
/// recognise the controller. Holds a secret: `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollmentToken {
    id: Uuid,
    secret: Secret,
    ca: SpkiSha256,
    controller: Vec<SocketAddr>,
}

impl EnrollmentToken {
    /// The most link addresses: two families, and both ends of a move from one subnet to another.
    pub const MAX_ADDRESSES: usize = 4;

    /// Makes a token with a new random secret.
    ///
    /// `controller` holds the link addresses in order of preference, 1 to
    /// [`Self::MAX_ADDRESSES`].
    ///
    /// # Errors
    /// When `rng` fails, or with the first address that no agent could dial.
    pub fn issue(
        id: Uuid,
        ca: SpkiSha256,
        controller: Vec<SocketAddr>,
        rng: &dyn SecureRandom,
    ) -> Result<Self, TokenIssueError> {
        let mut secret = [0; 32];
        rng.fill(&mut secret)
            .map_err(|_| TokenIssueError::Randomness)?;
        Self::with_secret(id, Secret(secret), ca, controller)
    }

    /// Makes a token with a given secret.
    ///
    /// # Errors
    /// As [`Self::issue`], except for the randomness.
    pub fn with_secret(
        id: Uuid,
        secret: Secret,
        ca: SpkiSha256,
        controller: Vec<SocketAddr>,
    ) -> Result<Self, TokenIssueError> {
        if controller.is_empty() || controller.len() > Self::MAX_ADDRESSES {
            return Err(TokenIssueError::Count {
                found: controller.len(),
            });
        }
        if let Some(&address) = controller.iter().find(|address| !dialable(**address)) {
            return Err(TokenIssueError::Address { address });
        }
        Ok(Self {
            id,
            secret,
            ca,
            controller,
        })
    }

    /// Reads what an operator pasted; surrounding white space does not matter.
    ///
    /// # Errors
    /// Tells a typing error from a text that is no token at all; see [`TokenError`]. Whether the
    /// token is known, unused and unexpired is for the controller to say.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        Self::read(text, PREFIX)
    }

    fn read(text: &str, prefix: &'static str) -> Result<Self, TokenError> {
        let text = text.trim();
        let body = strip_prefix(text, prefix)?;
        if let Some((position, found)) = text
            .chars()
            .enumerate()
            .skip(prefix.len())
            .find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
        {
            return Err(TokenError::BadCharacter {
                position: position + 1,
                found,
            });
        }
        match URL_SAFE_NO_PAD.decode(body) {
            Ok(bytes) if checksum_holds(prefix, &bytes) => Self::decode(&bytes),
            // The length tells a token that was cut off, or pasted twice, from a wrong letter.
            _ => Err(wrong_length(body).unwrap_or(TokenError::Checksum)),
        }
    }

    /// The text to hand to the agent. Secret: show it once, never log it.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.write(PREFIX)
    }

    fn write(&self, prefix: &'static str) -> String {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + 4 * 19 + CHECKSUM_BYTES);
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&self.secret.0);
        bytes.extend_from_slice(self.ca.as_bytes());
        // At most MAX_ADDRESSES, by construction: the count is one byte.
        bytes.extend(self.controller.len().to_be_bytes().last());
        for address in &self.controller {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        let checksum = checksum(prefix, &bytes);
        bytes.extend_from_slice(&checksum);
        format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The id under which the controller keeps the hash of the secret.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The secret, to be verified against the [`SecretHash`] in the controller's record.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The fingerprint of the CA that the controller must show.
    #[must_use]
    pub fn ca(&self) -> SpkiSha256 {
        self.ca
    }

    /// The controller's link addresses in order of preference, 1 to [`Self::MAX_ADDRESSES`].
    #[must_use]
    pub fn controller(&self) -> &[SocketAddr] {
        &self.controller
    }

    /// Reads bytes whose checksum is right: what is wrong with them now was written so.
    fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let mut rest = Reader(
            bytes
                .get(..bytes.len() - CHECKSUM_BYTES)
                .unwrap_or_default(),
        );
        let token = rest.token().ok_or(TokenError::Malformed)?;
        if rest.0.is_empty() {
            Ok(token)
        } else {
            Err(TokenError::Malformed)
        }
    }
}

impl fmt::Debug for EnrollmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollmentToken")
            .field("id", &self.id)
            .field("secret", &self.secret)
            .field("ca", &self.ca)
            .field("controller", &self.controller)
            .finish()
    }
}

/// A single-use permission to become the peer of a controller, with all that the other
/// controller needs to find and recognise it. Holds a secret: `Debug` hides it, and there is no
/// `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeeringToken(EnrollmentToken);

impl PeeringToken {
    /// Makes a token with a new random secret; as [`EnrollmentToken::issue`].
    ///
    /// # Errors
    /// When `rng` fails, or with the first address that no controller could dial.
    pub fn issue(
        id: Uuid,
        ca: SpkiSha256,
        controller: Vec<SocketAddr>,
        rng: &dyn SecureRandom,
    ) -> Result<Self, TokenIssueError> {
        EnrollmentToken::issue(id, ca, controller, rng).map(Self)
    }

    /// Reads what an operator pasted; surrounding white space does not matter.
    ///
    /// # Errors
    /// As [`EnrollmentToken::parse`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        EnrollmentToken::read(text, PEERING_PREFIX).map(Self)
    }

    /// The text to hand to the other controller. Secret: show it once, never log it.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.0.write(PEERING_PREFIX)
    }

    /// The id under which the controller keeps the hash of the secret.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.0.id()
    }

    /// The secret, of which the controller keeps the hash.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        self.0.secret()
    }

    /// The fingerprint of the CA that the controller must show.
    #[must_use]
    pub fn ca(&self) -> SpkiSha256 {
        self.0.ca()
    }

    /// The controller's link addresses in order of preference, 1 to
    /// [`EnrollmentToken::MAX_ADDRESSES`].
    #[must_use]
    pub fn controller(&self) -> &[SocketAddr] {
        self.0.controller()
    }
}

/// The 256-bit secret of a token. `Debug` hides it; comparing takes constant time.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes secret bytes from elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The form that the controller keeps.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(sha256(&[SECRET_DOMAIN, &self.0]))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// What a controller keeps of a token's secret. A plain hash suffices: nobody can guess 256
/// random bits, so there is nothing for a slow hash to slow down.
#[derive(Clone)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Takes a hash from a record.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes for the record.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `secret` is the one that was hashed; takes the same time either way.
    #[must_use]
    pub fn verify(&self, secret: &Secret) -> bool {
        self.0.ct_eq(&secret.hash().0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(redacted)")
    }
}

/// Why a text is not a token. No message repeats the text: it may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin like a token.
    #[error("an enrollment token begins with \"td1_\", this text does not")]
    Prefix,
    /// It does not begin like a token for a peer.
    #[error(
        "a peering token begins with \"tp1_\", this text does not: the other controller issues \
         one with `tandem dcmanager system-peer add NAME`"
    )]
    PeeringPrefix,
    /// A token of another version of this software.
    #[error(
        "the token has format {version}, this software reads td1 for subclouds and tp1 for \
         peers: issue it with a controller of the same version, or update this one"
    )]
    UnsupportedVersion {
        /// Such as `td2`.
        version: String,
    },
    /// A character that no token contains.
    #[error("the token has {found:?} at position {position}, which no token contains")]
    BadCharacter {
        /// Counted in characters from 1, without leading white space.
        position: usize,
        /// The character.
        found: char,
    },
    /// The end is missing.
    #[error("the token is cut off: it has {found} characters instead of {expected}; copy it whole")]
    TooShort {
        /// The length that its beginning promises, in characters.
        expected: usize,
        /// Its length in characters.
        found: usize,
    },
    /// Something follows it.
    #[error("the token has {found} characters instead of {expected}; copy nothing else with it")]
    TooLong {
        /// The length that its beginning promises, in characters.
        expected: usize,
        /// Its length in characters.
        found: usize,
    },
    /// Some character is another one than the controller wrote.
    #[error("the token has a typing error (its checksum is wrong); copy it again")]
    Checksum,
    /// The checksum is right, yet the content makes no sense.
    #[error("the token was not issued by a controller: its content makes no sense")]
    Malformed,
}

/// Why a token cannot be issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenIssueError {
    /// No randomness.
    #[error("the operating system gives no randomness for a token")]
    Randomness,
    /// No address, or too many.
    #[error("a token carries 1 to 4 link addresses of the controller, not {found}")]
    Count {
        /// How many were given.
        found: usize,
    },
    /// An address that cannot be dialled from another host.
    #[error(
        "{address} cannot stand in a token: it needs an address and a port that another host can \
         dial, without a zone, and IPv4 in its own form"
    )]
    Address {
        /// The first such address.
        address: SocketAddr,
    },
}

fn strip_prefix<'a>(text: &'a str, prefix: &'static str) -> Result<&'a str, TokenError> {
    if let Some(body) = text.strip_prefix(prefix) {
        return Ok(body);
    }
    let kind = prefix.trim_end_matches("1_");
    match text.split_once('_') {
        Some((version, _)) if is_version(version, kind) => Err(TokenError::UnsupportedVersion {
            version: version.to_owned(),
        }),
        _ if prefix == PEERING_PREFIX => Err(TokenError::PeeringPrefix),
        _ => Err(TokenError::Prefix),
    }
}

/// `td` or `tp`, and a number of up to three digits.
fn is_version(text: &str, kind: &str) -> bool {
    text.strip_prefix(kind).is_some_and(|number| {
        (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn checksum(prefix: &str, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = sha256(&[prefix.as_bytes(), bytes]);
    [a, b, c, d]
}

fn checksum_holds(prefix: &str, bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk()
        .is_some_and(|(content, found)| checksum(prefix, content) == *found)
}

/// Compares the length of a damaged token with what its beginning promises; `None` when the
/// length is right, or the beginning itself is damaged beyond telling.
fn wrong_length(body: &str) -> Option<TokenError> {
    let found = PREFIX.len() + body.len();
    // Four characters hold three bytes; an incomplete end does not matter here.
    let whole = body.get(..body.len() / 4 * 4)?;
    let bytes = URL_SAFE_NO_PAD.decode(whole).ok()?;
    let expected = text_chars(&bytes)?;
    match found {
        _ if found < expected => Some(TokenError::TooShort { expected, found }),
        _ if found > expected => Some(TokenError::TooLong { expected, found }),
        _ => None,
    }
}

/// The length of the whole text that begins like `bytes`, in characters; the shortest possible
/// one as far as `bytes` does not tell.
fn text_chars(bytes: &[u8]) -> Option<usize> {
    let count = usize::from(bytes.get(HEAD_BYTES - 1).copied().unwrap_or(1));
    if !(1..=EnrollmentToken::MAX_ADDRESSES).contains(&count) {
        return None;
    }
    let mut end = HEAD_BYTES;
    for _ in 0..count {
        end += match bytes.get(end) {
            Some(4) | None => 7,
            Some(6) => 19,
            Some(_) => return None,
        };
    }
    Some(PREFIX.len() + ((end + CHECKSUM_BYTES) * 4).div_ceil(3))
}

/// Whether an agent on another host could connect to this address, and it survives a round trip.
fn dialable(address: SocketAddr) -> bool {
    let plain = match address {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(v6) => {
            v6.scope_id() == 0 && v6.flowinfo() == 0 && v6.ip().to_ipv4_mapped().is_none()
        }
    };
    plain && address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

/// Takes fixed-size pieces from the front; `None` when the bytes end early.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (piece, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*piece)
    }

    fn token(&mut self) -> Option<EnrollmentToken> {
        let id = Uuid::from_bytes(self.take()?);
        let secret = Secret(self.take()?);
        let ca = SpkiSha256::from_bytes(self.take()?);
        let [count] = self.take()?;
        let controller = (0..count)
            .map(|_| self.address())
            .collect::<Option<Vec<_>>>()?;
        EnrollmentToken::with_secret(id, secret, ca, controller).ok()
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = match self.take()? {
            [4] => IpAddr::from(self.take::<4>()?),
            [6] => IpAddr::from(self.take::<16>()?),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(self.take()?)))
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
