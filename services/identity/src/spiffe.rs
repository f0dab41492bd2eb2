//! The names that certificates carry: `spiffe://<trust-domain>/<path>`.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

const SCHEME: &str = "spiffe://";

/// Who a certificate speaks for, within one trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The system controller itself: path `/controller`.
    Controller,
    /// One subcloud, by its uuid: path `/subcloud/<uuid>`.
    Subcloud(Uuid),
    /// A person or a program that operates the fleet: path `/operator/<role>/<name>`.
    Operator {
        /// The name that the audit log shows.
        name: OperatorName,
        /// What the operator may do.
        role: Role,
    },
}

impl Identity {
    /// Reads a URI SAN and insists on the trust domain.
    ///
    /// # Errors
    /// Says which part of the URI is wrong; [`IdentityError::OtherTrustDomain`] when only the
    /// domain differs.
    pub fn parse(uri: &str, trust_domain: Uuid) -> Result<Self, IdentityError> {
        let id: SpiffeId = uri.parse()?;
        if id.trust_domain == trust_domain {
            Ok(id.identity)
        } else {
            Err(IdentityError::OtherTrustDomain {
                expected: trust_domain,
                found: id.trust_domain,
            })
        }
    }
}

/// The path without its leading slash, as the audit log shows it: `operator/admin/alice`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => f.write_str("controller"),
            Self::Subcloud(uuid) => write!(f, "subcloud/{}", uuid.hyphenated()),
            Self::Operator { name, role } => write!(f, "operator/{role}/{name}"),
        }
    }
}

/// An identity together with its trust domain: the whole URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    /// The uuid of the controller's site.
    pub trust_domain: Uuid,
    /// Who it names there.
    pub identity: Identity,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            trust_domain_uri(self.trust_domain),
            self.identity
        )
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    /// Accepts exactly what `Display` writes: one spelling per identity, so that comparing
    /// values and comparing text can never disagree.
    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let (domain, path) = split(uri)?;
        let path = path.ok_or_else(|| IdentityError::UnknownPath {
            path: String::new(),
        })?;
        Ok(Self {
            trust_domain: trust_domain(domain)?,
            identity: identity(path)?,
        })
    }
}

/// What an operator may do; a later role includes the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads everything, changes nothing.
    Reader,
    /// Changes sites, subclouds, groups and rollouts.
    Configurator,
    /// Also issues tokens, operators and peers.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Configurator, Self::Admin];

    /// The word in the URI and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Configurator => "configurator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| IdentityError::UnknownRole {
                found: text.to_owned(),
            })
    }
}

/// An operator's name: 1 to 64 of `a-z A-Z 0-9 . _ -`, the first a letter or a digit.
///
/// 64 is the longest common name that X.509 allows; the alphabet is that of a SPIFFE path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorName(String);

impl OperatorName {
    /// The longest name, in characters.
    pub const MAX_CHARS: usize = 64;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OperatorName {
    type Err = OperatorNameError;

    fn from_str(text: &str) -> Result<Self, OperatorNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(found) = text.chars().find(|&c| !allowed(c)) {
            return Err(OperatorNameError::Character { found });
        }
        // Only ASCII is left, so bytes are characters.
        match text.as_bytes().first() {
            None => Err(OperatorNameError::Empty),
            Some(first) if !first.is_ascii_alphanumeric() => Err(OperatorNameError::Start {
                found: char::from(*first),
            }),
            Some(_) if text.len() > Self::MAX_CHARS => {
                Err(OperatorNameError::TooLong { chars: text.len() })
            }
            Some(_) => Ok(Self(text.to_owned())),
        }
    }
}

/// Why a text is not an operator's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorNameError {
    /// Nothing was given.
    #[error("an operator's name cannot be empty")]
    Empty,
    /// A character outside the alphabet.
    #[error("an operator's name cannot contain {found:?}: use letters, digits, '.', '_' and '-'")]
    Character {
        /// The first such character.
        found: char,
    },
    /// It starts with punctuation.
    #[error("an operator's name starts with a letter or a digit, not with {found:?}")]
    Start {
        /// The first character.
        found: char,
    },
    /// Longer than [`OperatorName::MAX_CHARS`].
    #[error("an operator's name has at most 64 characters, this one has {chars}")]
    TooLong {
        /// Its length in characters.
        chars: usize,
    },
}

/// What is wrong with the name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate has no URI SAN.
    #[error("the certificate names nobody: it has no URI among its subject alternative names")]
    NoUri,
    /// The certificate has more than one URI SAN.
    #[error("the certificate has {count} URIs among its subject alternative names, not one")]
    SeveralUris {
        /// How many.
        count: usize,
    },
    /// The URI is of another scheme.
    #[error("{uri:?} does not start with spiffe://")]
    NotSpiffe {
        /// The URI.
        uri: String,
    },
    /// The trust domain is not a uuid in its usual spelling.
    #[error("the trust domain {found:?} is not a hyphenated, lowercase uuid")]
    BadTrustDomain {
        /// The text in its place.
        found: String,
    },
    /// A well-formed name of another controller's domain.
    #[error("the certificate belongs to trust domain {found}, not to {expected}")]
    OtherTrustDomain {
        /// The domain of this controller.
        expected: Uuid,
        /// The domain in the certificate.
        found: Uuid,
    },
    /// The path is neither of a controller, a subcloud nor an operator.
    #[error("{path:?} names neither a controller, a subcloud nor an operator")]
    UnknownPath {
        /// The path without its leading slash.
        path: String,
    },
    /// The subcloud is not a uuid in its usual spelling.
    #[error("the subcloud {found:?} is not a hyphenated, lowercase uuid")]
    BadSubcloud {
        /// The text in its place.
        found: String,
    },
    /// The role does not exist.
    #[error("the role {found:?} is none of reader, configurator, admin")]
    UnknownRole {
        /// The text in its place.
        found: String,
    },
    /// The operator's name is malformed.
    #[error(transparent)]
    OperatorName(#[from] OperatorNameError),
}

/// The URI of a whole trust domain, which its CA certificate carries.
pub(crate) fn trust_domain_uri(trust_domain: Uuid) -> String {
    format!("{SCHEME}{}", trust_domain.hyphenated())
}

/// Reads the URI of a trust domain: no path may follow.
pub(crate) fn parse_trust_domain_uri(uri: &str) -> Result<Uuid, IdentityError> {
    match split(uri)? {
        (domain, None) => trust_domain(domain),
        (_, Some(path)) => Err(IdentityError::UnknownPath {
            path: path.to_owned(),
        }),
    }
}

fn split(uri: &str) -> Result<(&str, Option<&str>), IdentityError> {
    let rest = uri
        .strip_prefix(SCHEME)
        .ok_or_else(|| IdentityError::NotSpiffe {
            uri: uri.to_owned(),
        })?;
    Ok(match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    })
}

fn trust_domain(text: &str) -> Result<Uuid, IdentityError> {
    canonical_uuid(text).ok_or_else(|| IdentityError::BadTrustDomain {
        found: text.to_owned(),
    })
}

fn identity(path: &str) -> Result<Identity, IdentityError> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["controller"] => Ok(Identity::Controller),
        ["subcloud", uuid] => {
            canonical_uuid(uuid)
                .map(Identity::Subcloud)
                .ok_or_else(|| IdentityError::BadSubcloud {
                    found: (*uuid).to_owned(),
                })
        }
        ["operator", role, name] => Ok(Identity::Operator {
            role: role.parse()?,
            name: name.parse()?,
        }),
        _ => Err(IdentityError::UnknownPath {
            path: path.to_owned(),
        }),
    }
}

/// The parser of `uuid` also takes braces, capitals and no hyphens; one spelling is enough.
fn canonical_uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text)
        .ok()
        .filter(|uuid| uuid.hyphenated().to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TD: &str = "6f1c6a8e-0d53-4f0b-9a4e-0d5f3b1f7a11";
    const OTHER: &str = "11111111-2222-3333-4444-555555555555";

    fn uuid(text: &str) -> Uuid {
        Uuid::try_parse(text).expect("a constant of this test")
    }

    /// `expected` is the audit form of the identity, or a part of the message that refuses it.
    fn check(uri: &str, expected: Result<&str, &str>) {
        match (Identity::parse(uri, uuid(TD)), expected) {
            (Ok(identity), Ok(form)) => {
                assert_eq!(identity.to_string(), form);
                let whole = SpiffeId {
                    trust_domain: uuid(TD),
                    identity,
                };
                assert_eq!(whole.to_string(), uri, "one spelling per identity");
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{uri}: {error}");
            }
            (found, _) => panic!("{uri}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn identities_have_one_spelling() {
        check(&format!("spiffe://{TD}/controller"), Ok("controller"));
        check(
            &format!("spiffe://{TD}/subcloud/{OTHER}"),
            Ok(&format!("subcloud/{OTHER}")),
        );
        for role in ["reader", "configurator", "admin"] {
            check(
                &format!("spiffe://{TD}/operator/{role}/alice.b-c_9"),
                Ok(&format!("operator/{role}/alice.b-c_9")),
            );
        }
    }

    #[test]
    fn anything_else_says_what_is_wrong() {
        let upper = TD.to_uppercase();
        let long = "x".repeat(65);
        for (uri, part) in [
            (format!("https://{TD}/controller"), "spiffe://"),
            (format!("SPIFFE://{TD}/controller"), "spiffe://"),
            (format!("spiffe://{upper}/controller"), "lowercase uuid"),
            ("spiffe://example.org/controller".into(), "lowercase uuid"),
            (format!("spiffe://{{{TD}}}/controller"), "lowercase uuid"),
            (format!("spiffe://{OTHER}/controller"), "trust domain"),
            (format!("spiffe://{TD}"), "neither"),
            (format!("spiffe://{TD}/"), "neither"),
            (format!("spiffe://{TD}/controller/"), "neither"),
            (format!("spiffe://{TD}/controller?x"), "neither"),
            (format!("spiffe://{TD}//controller"), "neither"),
            (format!("spiffe://{TD}/subcloud"), "neither"),
            (format!("spiffe://{TD}/subcloud/"), "the subcloud"),
            (format!("spiffe://{TD}/subcloud/{upper}"), "the subcloud"),
            (format!("spiffe://{TD}/subcloud/{OTHER}/x"), "neither"),
            (format!("spiffe://{TD}/operator/root/alice"), "the role"),
            (format!("spiffe://{TD}/operator/Admin/alice"), "the role"),
            (format!("spiffe://{TD}/operator/admin/"), "empty"),
            (format!("spiffe://{TD}/operator/admin/.a"), "starts with"),
            (format!("spiffe://{TD}/operator/admin/a b"), "contain ' '"),
            (format!("spiffe://{TD}/operator/admin/é"), "contain 'é'"),
            (format!("spiffe://{TD}/operator/admin/{long}"), "has 65"),
        ] {
            check(&uri, Err(part));
        }
    }

    #[test]
    fn roles_include_the_earlier_ones() {
        assert!(Role::Reader < Role::Configurator && Role::Configurator < Role::Admin);
    }
}
