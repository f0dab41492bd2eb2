//! Refusals: a stable reason, the objects by name, and the remedy.

use std::collections::BTreeMap;
use std::fmt;

/// A refused request. It holds every fault that was found, the first failing rule first; the
/// first one gives the code and the reason that callers branch on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection<R = Reason> {
    violations: Vec<Violation<R>>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation<R = Reason> {
    /// The stable reason.
    pub reason: R,
    /// The path of the offending request field, such as `ranges[1].first`; empty when the
    /// fault is about state and not about one field.
    pub field: String,
    /// What is wrong, naming the objects.
    pub message: String,
    /// What the operator can do.
    pub remedy: String,
    /// The objects involved.
    pub objects: Vec<Object>,
    /// Machine-readable facts; keys are lowerCamel.
    pub metadata: BTreeMap<&'static str, String>,
}

/// The most faults that a refusal lists. Of more, the last one says how many there are: an input of
/// a mebibyte can have millions, and nobody mends that many before asking again.
pub const MAX_VIOLATIONS: usize = 256;

/// The longest text of a violation, in bytes. Texts repeat what a request says, and a request may
/// say a mebibyte; a status travels in headers, of which clients commonly take 16 KiB in all.
pub const MAX_TEXT_BYTES: usize = 640;

/// The longest fact, in bytes: enough for a list of some names.
pub const MAX_FACT_BYTES: usize = 512;

/// The fact of a violation that stands for others: how many they are.
const UNLISTED: &str = "unlistedFaults";

/// The longest path of a field, in bytes.
const MAX_FIELD_BYTES: usize = 256;

/// The longest name of an object, in bytes: twice that of every object that there can be.
const MAX_NAME_BYTES: usize = 256;

/// A text that is not longer than this many bytes: the middle of a longer one is left out, for
/// what is wrong stands at the end of a sentence.
pub fn shortened(text: String, most: usize) -> String {
    const GAP: &str = " … ";
    if text.len() <= most {
        return text;
    }
    let half = most.saturating_sub(GAP.len()) / 2;
    let (head, tail) = (
        text.floor_char_boundary(half),
        text.ceil_char_boundary(text.len() - half),
    );
    format!("{}{GAP}{}", &text[..head], &text[tail..])
}

/// An object named by a violation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// The kind, such as `pool`, `network`, `host`, `subcloud`.
    pub kind: &'static str,
    /// Its name, or its uuid where it has none.
    pub name: String,
}

/// The class of a refusal, as gRPC knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The request is wrong whatever the state is.
    InvalidArgument,
    /// A named object does not exist.
    NotFound,
    /// The object exists already.
    AlreadyExists,
    /// The state does not allow it now.
    FailedPrecondition,
    /// The caller must not do this.
    PermissionDenied,
    /// The caller is not who it should be.
    Unauthenticated,
    /// A limit is reached.
    ResourceExhausted,
    /// The object changed meanwhile.
    Aborted,
    /// Not now; try again.
    Unavailable,
    /// The caller's deadline came first.
    DeadlineExceeded,
    /// Nothing here does that.
    Unimplemented,
}

/// A set of stable reasons.
pub trait ReasonSet: Copy + fmt::Debug {
    /// The UPPER_SNAKE name; never changes.
    fn name(self) -> &'static str;
    /// The class.
    fn code(self) -> Code;
}

/// These faults, or the first of them and how many more there are.
fn listed<R: ReasonSet>(mut violations: Vec<Violation<R>>) -> Vec<Violation<R>> {
    if let Some(beyond) = violations.get(MAX_VIOLATIONS - 1..)
        && beyond.len() > 1
    {
        let rest = Violation::in_place_of(beyond[0].reason, beyond.len());
        violations.truncate(MAX_VIOLATIONS - 1);
        violations.push(rest);
    }
    violations
}

impl<R: ReasonSet> Rejection<R> {
    /// A refusal with one fault.
    pub fn one(violation: Violation<R>) -> Self {
        Self {
            violations: vec![violation],
        }
    }

    /// A refusal with these faults, at least one.
    pub(crate) fn of(violations: Vec<Violation<R>>) -> Self {
        debug_assert!(!violations.is_empty(), "a refusal has a reason");
        let violations = listed(violations);
        Self { violations }
    }

    /// A refusal with all faults, [`MAX_VIOLATIONS`] at most, or `Ok` when there is none.
    ///
    /// # Errors
    /// The rejection, when `violations` is not empty.
    pub fn check(violations: Vec<Violation<R>>) -> Result<(), Self> {
        if violations.is_empty() {
            Ok(())
        } else {
            Err(Self::of(violations))
        }
    }

    /// Every fault; never empty.
    pub fn violations(&self) -> &[Violation<R>] {
        &self.violations
    }

    /// How many faults there are, with those that are not listed; beyond [`MAX_VIOLATIONS`] there
    /// may be more, for looking for them ends there.
    pub fn count(&self) -> usize {
        let faults = |violation: &Violation<R>| match violation.metadata.get(UNLISTED) {
            Some(unlisted) => unlisted.parse().unwrap_or(1),
            None => 1,
        };
        self.violations.iter().map(faults).sum()
    }

    /// The fault that decides code and reason.
    pub fn first(&self) -> &Violation<R> {
        &self.violations[0]
    }

    /// Both of two things that were looked up.
    ///
    /// # Errors
    /// Why the one is refused, and then why the other is.
    pub fn both<A, B>(one: Result<A, Self>, other: Result<B, Self>) -> Result<(A, B), Self> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (Err(mut one), Err(other)) => {
                one.violations.extend(other.violations);
                Err(Self::of(one.violations))
            }
            (Err(refusal), Ok(_)) | (Ok(_), Err(refusal)) => Err(refusal),
        }
    }

    /// The same refusal with the fields of another request.
    pub(crate) fn rename(mut self, name: impl Fn(&str) -> &str) -> Self {
        for violation in &mut self.violations {
            violation.field = name(&violation.field).to_owned();
        }
        self
    }

    /// The same refusal in a wider set of reasons.
    pub fn map<S: ReasonSet>(self, widen: impl Fn(R) -> S) -> Rejection<S> {
        let violations = self
            .violations
            .into_iter()
            .map(|violation| Violation {
                reason: widen(violation.reason),
                field: violation.field,
                message: violation.message,
                remedy: violation.remedy,
                objects: violation.objects,
                metadata: violation.metadata,
            })
            .collect();
        Rejection { violations }
    }
}

impl<R: ReasonSet> Violation<R> {
    /// A fault of the state. The middle of texts longer than 640 bytes is left out.
    pub fn new(reason: R, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason,
            field: String::new(),
            message: shortened(message.into(), MAX_TEXT_BYTES),
            remedy: shortened(remedy.into(), MAX_TEXT_BYTES),
            objects: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Stands for faults that are not listed, of which this is the first reason.
    fn in_place_of(first: R, count: usize) -> Self {
        let message = format!("at least {count} more faults are not listed");
        Self::new(first, message, "mend those that are listed, and ask again").fact(UNLISTED, count)
    }

    /// Points at a field of the request.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = shortened(field.into(), MAX_FIELD_BYTES);
        self
    }

    /// Names an object that is involved.
    #[must_use]
    pub fn object(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.objects.push(Object {
            kind,
            name: shortened(name.into(), MAX_NAME_BYTES),
        });
        self
    }

    /// Adds a machine-readable fact; `key` is lowerCamel.
    #[must_use]
    pub fn fact(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        let value = shortened(value.to_string(), MAX_FACT_BYTES);
        self.metadata.insert(key, value);
        self
    }
}

/// The most faults of a refusal that one line of a log tells.
const MAX_SAID: usize = 8;

impl<R: ReasonSet> fmt::Display for Rejection<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.violations.iter().take(MAX_SAID).enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            write!(
                formatter,
                "{}: {}",
                violation.reason.name(),
                violation.message
            )?;
        }
        match self.violations.len().checked_sub(MAX_SAID) {
            None | Some(0) => Ok(()),
            Some(more) => write!(formatter, "; and {more} more"),
        }
    }
}

impl<R: ReasonSet> std::error::Error for Rejection<R> {}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $code:ident;)*) => {
        /// Why a change of a site was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }

        impl ReasonSet for Reason {
            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }
        }
    };
}

reasons! {
    /// A field of the request is malformed or out of bounds.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument;
    /// No such network type.
    NetworkTypeUnsupported = "NETWORK_TYPE_UNSUPPORTED", InvalidArgument;
    /// No such pool.
    PoolNotFound = "POOL_NOT_FOUND", NotFound;
    /// No such network.
    NetworkNotFound = "NETWORK_NOT_FOUND", NotFound;
    /// No such network-to-pool association.
    NetworkAddressPoolNotFound = "NETWORK_ADDRPOOL_NOT_FOUND", NotFound;
    /// No such host.
    HostNotFound = "HOST_NOT_FOUND", NotFound;
    /// The site has a network of this type.
    NetworkTypeExists = "NETWORK_TYPE_EXISTS", AlreadyExists;
    /// The name is taken.
    NameTaken = "NAME_TAKEN", AlreadyExists;
    /// Attached pools would overlap (I6).
    AddressOverlap = "ADDRESS_OVERLAP", FailedPrecondition;
    /// A primary pool of another family than the site's (I2).
    PrimaryFamilyMismatch = "PRIMARY_FAMILY_MISMATCH", FailedPrecondition;
    /// pxeboot has one pool, IPv4 (I3).
    PxebootIpv4Only = "PXEBOOT_IPV4_ONLY", FailedPrecondition;
    /// The pool belongs to another network (I5).
    PoolInUse = "POOL_IN_USE", FailedPrecondition;
    /// cluster-pod has a family only if oam has it (I7).
    OamFamilyRequired = "OAM_FAMILY_REQUIRED", FailedPrecondition;
    /// Only a new installation can change this network.
    NetworkRequiresReinstall = "NETWORK_REQUIRES_REINSTALL", FailedPrecondition;
    /// The host must be locked first.
    HostUnlocked = "HOST_UNLOCKED", FailedPrecondition;
    /// The host must be unlocked first.
    HostLocked = "HOST_LOCKED", FailedPrecondition;
    /// An attached pool holds the address.
    AddressInUse = "ADDRESS_IN_USE", FailedPrecondition;
    /// The pool cannot be changed at run time.
    PoolReadOnly = "POOL_READ_ONLY", FailedPrecondition;
    /// The family of a pool never changes (I1).
    FamilyImmutable = "FAMILY_IMMUTABLE", FailedPrecondition;
    /// A new range leaves out an allocated address.
    RangeExcludesAllocated = "RANGE_EXCLUDES_ALLOCATED", FailedPrecondition;
    /// The network needs this named address.
    AddressRequired = "ADDRESS_REQUIRED", FailedPrecondition;
    /// A primary pool is never removed (I1).
    PoolIsPrimary = "POOL_IS_PRIMARY", FailedPrecondition;
    /// The network is dual-stack already (I1).
    NetworkHasTwoPools = "NETWORK_HAS_TWO_POOLS", FailedPrecondition;
    /// The network has a pool of this family (I1).
    FamilyAlreadyPresent = "FAMILY_ALREADY_PRESENT", FailedPrecondition;
    /// Dual-stack needs software 24.09 (I9).
    DualStackUnsupportedByVersion = "DUAL_STACK_UNSUPPORTED_BY_VERSION", FailedPrecondition;
    /// A mandatory address cannot be allocated.
    PoolExhausted = "POOL_EXHAUSTED", FailedPrecondition;
    /// cluster-pod still needs this family of oam (I7).
    ClusterPodNeedsOamFamily = "CLUSTER_POD_NEEDS_OAM_FAMILY", FailedPrecondition;
    /// A DNS server still needs this family of oam.
    DnsNeedsOamFamily = "DNS_NEEDS_OAM_FAMILY", FailedPrecondition;
    /// oam lacks the family of this DNS server.
    DnsFamilyNotOnOam = "DNS_FAMILY_NOT_ON_OAM", FailedPrecondition;
    /// Only a subcloud keeps networks of its system controller.
    NotASubcloud = "NOT_A_SUBCLOUD", FailedPrecondition;
    /// The site has as many pools as it may have.
    TooManyPools = "TOO_MANY_POOLS", ResourceExhausted;
    /// The object changed since it was read.
    EtagMismatch = "ETAG_MISMATCH", Aborted;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_faults_the_last_one_listed_counts_the_rest() {
        for count in [MAX_VIOLATIONS, MAX_VIOLATIONS + 1, 10 * MAX_VIOLATIONS] {
            let faults = (0..count).map(|n| {
                let message = format!("fault {n}");
                Violation::new(Reason::InvalidArgument, message, "mend it")
            });
            let rejection = Rejection::check(faults.collect()).expect_err("it has faults");
            let listed = rejection.violations();
            assert_eq!(listed.len(), MAX_VIOLATIONS);
            assert_eq!(rejection.count(), count);
            let rest = count - (MAX_VIOLATIONS - 1);
            let last = match count {
                MAX_VIOLATIONS => format!("fault {}", count - 1),
                _ => format!("at least {rest} more faults are not listed"),
            };
            assert_eq!(listed.last().map(|fault| &fault.message), Some(&last));
        }
    }

    #[test]
    fn a_text_of_a_mebibyte_is_not_repeated() {
        for text in ["x", "é", "😀"] {
            let long = text.repeat(1024 * 1024);
            let fault =
                Violation::new(Reason::PoolNotFound, format!("there is no {long}!"), "look")
                    .at(long.clone())
                    .object("pool", long.clone())
                    .fact("pool", &long);
            assert!(fault.field.len() <= MAX_FIELD_BYTES);
            assert!(
                fault.message.len() <= MAX_TEXT_BYTES,
                "{}",
                fault.message.len()
            );
            assert!(fault.message.starts_with("there is no ") && fault.message.ends_with('!'));
            assert!(fault.objects[0].name.len() <= MAX_NAME_BYTES);
            assert!(fault.metadata["pool"].len() <= MAX_FACT_BYTES);
        }
        let short = "x".repeat(MAX_TEXT_BYTES);
        assert_eq!(shortened(short.clone(), MAX_TEXT_BYTES), short);
    }
}
