//! What the controller keeps of one subcloud.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use site::{Digest, Family, Generation, Stack, Timestamp};
use uuid::Uuid;

use crate::group::etag;
use crate::{
    AlarmCounts, Epoch, Fault, Fingerprint, Footprint, Geo, GroupId, SecretHash, SubcloudId,
    TokenId,
};

/// How long after its redemption a token still answers the *same key* with success. It bounds
/// how late a lost answer can be asked for again: a day, the life of the certificate that the
/// answer carried. After it only the operator's word brings a site back.
pub const REPLAY_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// The record of a subcloud. Availability and last seen are not in it: they are true only of the
/// running process ([`crate::Presence`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subcloud {
    /// The id, made by `subcloud add`.
    pub id: SubcloudId,
    /// The unique name.
    pub name: String,
    /// What operators say about it; may be empty.
    pub description: String,
    /// Where it is, in operators' words; may be empty.
    pub location: String,
    /// The group that it is in. A group that is no longer there means the Default group, so that
    /// deleting a group writes one record and not one for each member.
    pub group: GroupId,
    /// Whether operators' commands may go out to it.
    pub management: Management,
    /// How far its enrollment has come.
    pub enrollment: Enrollment,
    /// The newest accepted report; `None` means unknown, not empty.
    pub observed: Option<Observed>,
    /// The newest report when it was refused; cleared by an accepted one.
    pub refused: Option<Refused>,
    /// Who owns it, and its place among the sites that share it.
    pub geo: Geo,
    /// When `subcloud add` was accepted.
    pub created_at: Timestamp,
    /// When the record last changed.
    pub updated_at: Timestamp,
}

/// The management state, as operators know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Management {
    /// Known and watched, but left alone.
    Unmanaged,
    /// Commands are accepted.
    Managed,
}

/// How far a subcloud has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all records are of the large kind, for nearly all of their lives"
)]
pub enum Enrollment {
    /// Added; no site has come yet.
    Pending(Pending),
    /// A site holds a certificate for it.
    Enrolled(Enrolled),
}

/// A subcloud that no site has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The one valid token.
    pub token: Token,
    /// What the operator says the site will be; its addresses are taken from now on.
    pub declared: Option<Box<Footprint>>,
}

/// An unspent token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its public id.
    pub id: TokenId,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// From then on it is worth nothing.
    pub expires_at: Timestamp,
}

/// A subcloud with an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The key of its present certificate.
    pub key: Fingerprint,
    /// The uuid of the site that enrolled.
    pub site: Uuid,
    /// The token that it spent, so that a lost answer can be asked for again.
    pub spent: SpentToken,
    /// The term of its owner, which is this controller unless [`Geo::owner`] names another.
    pub epoch: Epoch,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// Where the site differed from its declaration.
    pub differences: Vec<Fault>,
    /// An operator's word that another key may take its place: until that happens, the present
    /// key stays the valid one.
    pub reenroll: Option<Token>,
    /// How its certificate was renewed since.
    pub renewal: Renewal,
    /// Why nobody is taken for this subcloud any more, until it enrolls anew.
    pub cloned: Option<Box<Cloned>>,
}

/// The keys before and after the present one.
///
/// A renewed key is valid beside the present one from its grant to its first use over a link;
/// then it takes its place. So a lost answer locks nobody out, and no key comes back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renewal {
    /// How many renewed keys have taken the place of the one before.
    pub count: u64,
    /// The key that was granted and not used yet.
    pub next: Option<Fingerprint>,
    /// Keys that had a certificate and are worth nothing now, the newest last, at most
    /// [`MAX_SUPERSEDED`].
    pub superseded: Vec<Superseded>,
    /// When this site last let a certificate be signed for a new key, or the first of them, by the
    /// clock that dates certificates. It never goes back, also when that clock does or the site
    /// enrolls anew. Peers are not told: each site knows it of its own certificates.
    pub granted_at: Timestamp,
}

/// A key that is worth nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superseded {
    /// The key.
    pub key: Fingerprint,
    /// Since when.
    pub at: Timestamp,
}

/// How many worthless keys are remembered, to tell a copy from a stranger. A certificate lives
/// as long as two renewals, so at most two of them are of use still; the rest is room for grants
/// that an agent lost in crashes and asked for again.
pub const MAX_SUPERSEDED: usize = 8;

/// The sign that two hold one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloned {
    /// When it was seen.
    pub at: Timestamp,
    /// What was seen, and what to do.
    pub fault: Fault,
}

/// A token that has done its one duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpentToken {
    /// Its public id.
    pub id: TokenId,
    /// The hash of its secret.
    pub secret: SecretHash,
}

/// The newest report that was accepted. The whole site is a record of its own in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The generation of the site.
    pub generation: Generation,
    /// The digest that the agent gave; it names the report and is not computed again, so that
    /// two software versions need not agree on how.
    pub digest: Digest,
    /// When it came.
    pub received_at: Timestamp,
    /// How many alarms the site had; `None` where an older version did not keep it.
    pub alarms: Option<AlarmCounts>,
    /// What the rules need of it.
    pub footprint: Footprint,
}

/// A report that broke the rules; what was accepted before stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The generation of the site.
    pub generation: Generation,
    /// Its digest.
    pub digest: Digest,
    /// When it came.
    pub received_at: Timestamp,
    /// When the quarantine began: reports have been refused without a break since then.
    pub since: Timestamp,
    /// Every rule that it broke.
    pub faults: Vec<Fault>,
}

/// Whether what the controller knows is what the site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sync {
    /// No report yet.
    Unknown,
    /// The newest report is accepted.
    InSync,
    /// The newest report was refused.
    OutOfSync,
}

impl Subcloud {
    /// What the fleet holds against other sites: the accepted report, or else the declaration.
    pub fn footprint(&self) -> Option<&Footprint> {
        match (&self.observed, &self.enrollment) {
            (Some(observed), _) => Some(&observed.footprint),
            (None, Enrollment::Pending(pending)) => pending.declared.as_deref(),
            (None, Enrollment::Enrolled(_)) => self.geo.footprint.as_deref(),
        }
    }

    /// The controller's gateways towards it (F10): those that an operator has set, or else those
    /// that its site or its declaration names.
    pub fn gateways(&self) -> &[IpAddr] {
        let named = || {
            self.footprint()
                .map(|known| &known.systemcontroller_gateways)
        };
        let gateways = self.geo.gateways.as_ref().or_else(named);
        gateways.map_or(&[], Vec::as_slice)
    }

    /// The identity of an enrolled subcloud.
    pub fn enrolled(&self) -> Option<&Enrolled> {
        match &self.enrollment {
            Enrollment::Enrolled(enrolled) => Some(enrolled),
            Enrollment::Pending(_) => None,
        }
    }

    /// The term of its ownership; 0 while it is not enrolled.
    pub fn epoch(&self) -> Epoch {
        self.enrolled()
            .map_or(Epoch::default(), |enrolled| enrolled.epoch)
    }

    /// Whether it obeys this controller, as far as is known here.
    pub fn owned_here(&self) -> bool {
        self.geo.owner.is_none()
    }

    /// The ids of the tokens that are or were valid for it: the open one, and the spent one.
    pub fn tokens(&self) -> impl Iterator<Item = TokenId> {
        let spent = self.enrolled().map(|enrolled| enrolled.spent.id);
        spent
            .into_iter()
            .chain(self.open_token().map(|token| token.id))
    }

    /// Why its identity is shut out, if it is.
    pub fn cloned(&self) -> Option<&Cloned> {
        self.enrolled()?.cloned.as_deref()
    }

    /// The token that can be redeemed now, if there is one.
    pub fn open_token(&self) -> Option<&Token> {
        match &self.enrollment {
            Enrollment::Pending(pending) => Some(&pending.token),
            Enrollment::Enrolled(enrolled) => enrolled.reenroll.as_ref(),
        }
    }

    /// Names the state of what operators can change. Reports do not alter it.
    pub fn etag(&self) -> String {
        let management = match self.management {
            Management::Managed => "managed",
            Management::Unmanaged => "unmanaged",
        };
        let (id, group) = (self.id.to_string(), self.group.to_string());
        let fields = [&id, &self.description, &self.location, &group, management];
        etag(&fields)
    }

    /// The link family, when a report or a declaration tells it.
    pub fn link_family(&self) -> Option<Family> {
        self.footprint()?.link_family()
    }

    /// Single- or dual-stack, when a report or a declaration tells it.
    pub fn stack(&self) -> Option<Stack> {
        self.footprint()?.stack()
    }

    /// Whether what the controller knows is what the site is.
    pub fn sync(&self) -> Sync {
        match (&self.refused, &self.observed) {
            (Some(_), _) => Sync::OutOfSync,
            (None, Some(_)) => Sync::InSync,
            (None, None) => Sync::Unknown,
        }
    }

    /// Whether operators' commands are accepted for it.
    pub fn managed(&self) -> bool {
        self.management == Management::Managed
    }

    /// Whether its newest report broke the rules: no command may go out.
    pub fn quarantined(&self) -> bool {
        self.refused.is_some()
    }
}

impl Renewal {
    /// When a key lost its worth, if it is remembered.
    pub fn superseded_at(&self, key: Fingerprint) -> Option<Timestamp> {
        let mut known = self.superseded.iter();
        known.find(|known| known.key == key).map(|known| known.at)
    }

    /// Remembers that a certificate may be dated so late.
    pub(crate) fn granted(&mut self, at: Timestamp) {
        self.granted_at = self.granted_at.max(at);
    }

    /// Remembers a key that is worth nothing from now on.
    pub(crate) fn supersede(&mut self, now: Timestamp, key: Fingerprint) {
        if self.superseded.len() >= MAX_SUPERSEDED {
            self.superseded.remove(0);
        }
        self.superseded.push(Superseded { key, at: now });
    }
}

/// Records are shared between the fleet, the writes that make them durable, and readers.
pub type SharedSubcloud = Arc<Subcloud>;
