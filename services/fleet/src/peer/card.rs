//! What two sites tell each other of themselves, and whether they may be peers.

use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use site::{Family, Range, SoftwareVersion};

use crate::admission::{DUAL_STACK_SINCE, MAX_NAMED};
use crate::{
    CardDigest, ControllerId, ControllerNetworks, ControllerPool, Endpoint, Fingerprint, Fleet,
    Reason, Violation,
};

/// The authority of a site: it signs the certificates of its controller and of the subclouds
/// that enrolled there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The fingerprint of its public key, which is what others pin.
    pub key: Fingerprint,
    /// Its certificate, DER; opaque to the rules. At most 8 KiB.
    pub certificate: Arc<[u8]>,
}

/// What a site tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCard {
    /// The uuid of the site, which is the trust domain of its certificates.
    pub controller: ControllerId,
    /// The name of the site.
    pub name: String,
    /// What it runs.
    pub software_version: SoftwareVersion,
    /// Where it listens for agents and peers, the preferred one first.
    pub endpoints: Vec<Endpoint>,
    /// Its networks; between sites only the primary link pool is used.
    pub networks: ControllerNetworks,
    /// Who signs its certificates.
    pub authority: Authority,
}

/// The most endpoints that a card may name: more is no site's.
pub const MAX_ENDPOINTS: usize = 8;

impl PeerCard {
    /// The family of everything between this site and others.
    pub fn link_family(&self) -> Option<Family> {
        let primary = self.networks.link.first()?;
        Some(Family::of_subnet(primary.subnet))
    }

    /// Names exactly this card.
    pub fn digest(&self) -> CardDigest {
        let Self {
            controller,
            name,
            software_version,
            endpoints,
            networks,
            authority,
        } = self;
        let mut hash = Sha256::new();
        hash.update(controller.0.as_bytes());
        for text in [name.clone(), software_version.to_string()] {
            hash.update(length(text.len()));
            hash.update(text.as_bytes());
        }
        hash.update(length(endpoints.len()));
        for endpoint in endpoints {
            let text = endpoint.to_string();
            hash.update(length(text.len()));
            hash.update(text.as_bytes());
        }
        hash.update(networks.digest().0);
        hash.update(authority.key.0);
        hash.update(length(authority.certificate.len()));
        hash.update(&authority.certificate);
        CardDigest(hash.finalize().into())
    }
}

fn length(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes()
}

/// Whether two sites may be peers, from the view of `own`: PEER_IS_SELF,
/// PRIMARY_FAMILY_MISMATCH, DUAL_STACK_UNSUPPORTED_BY_VERSION, and ADDRESS_OVERLAP between the
/// link ranges of the two sites and between the peer's and those of `fleet`, all that fail at
/// once. The other site asks the same from its own view.
pub fn judge_peer(own: &PeerCard, fleet: &Fleet, peer: &PeerCard) -> Vec<Violation> {
    let mut violations = Vec::new();
    violations.extend(is_self(own, peer));
    violations.extend(family(own, peer));
    violations.extend(dual_stack_too_early(peer));
    violations.extend(malformed(peer));
    if own.controller != peer.controller {
        violations.extend(overlaps_site(own, peer));
        violations.extend(overlaps_fleet(fleet, peer));
    }
    violations
}

/// Asks the family rule with nothing but what a peering token tells: the link addresses of the
/// site that issued it. A site of the other family cannot even reach it; this way its operator
/// learns the reason and not a timeout.
pub fn judge_token_addresses(own: &PeerCard, addresses: &[IpAddr]) -> Option<Violation> {
    let theirs = Family::of(addresses.first()?.to_canonical());
    let ours = own.link_family()?;
    (ours != theirs).then(|| mismatch(&own.name, ours, "the site that issued the token", theirs))
}

fn is_self(own: &PeerCard, peer: &PeerCard) -> Option<Violation> {
    let same = own.controller == peer.controller || own.authority.key == peer.authority.key;
    same.then(|| {
        Violation::new(
            Reason::PeerIsSelf,
            format!("site {} cannot be its own peer", own.name),
            "use a token that the other system controller issued",
        )
        .object("controller", own.name.clone())
        .fact("controllerId", own.controller)
    })
}

fn family(own: &PeerCard, peer: &PeerCard) -> Option<Violation> {
    match (own.link_family(), peer.link_family()) {
        (Some(ours), Some(theirs)) if ours == theirs => None,
        (Some(ours), Some(theirs)) => {
            let violation = mismatch(&own.name, ours, &format!("site {}", peer.name), theirs);
            let second = peer.networks.link.iter().skip(1);
            let has = second
                .map(|pool| Family::of_subnet(pool.subnet))
                .any(|f| f == ours);
            Some(
                violation
                    .object("controller", peer.name.clone())
                    .fact("peerHasOwnFamilyAsSecondary", has),
            )
        }
        (ours, _) => {
            let name = if ours.is_none() {
                &own.name
            } else {
                &peer.name
            };
            Some(
                Violation::new(
                    Reason::NoPrimaryPool,
                    format!("site {name} has no pool on admin nor on mgmt"),
                    "give the mgmt network of that site a primary pool",
                )
                .object("controller", name.clone()),
            )
        }
    }
}

fn mismatch(own: &str, ours: Family, peer: &str, theirs: Family) -> Violation {
    Violation::new(
        Reason::PrimaryFamilyMismatch,
        format!(
            "the primary link pool of {peer} is {theirs}, that of site {own} is {ours}; \
             only primaries count"
        ),
        format!("only sites with {ours} as the primary family can be peers of this one"),
    )
    .fact("controllerFamily", ours)
    .fact("peerFamily", theirs)
}

/// F7 for a peer: software that is too old for two families would misread its own networks.
fn dual_stack_too_early(peer: &PeerCard) -> Option<Violation> {
    let version = peer.software_version;
    if peer.networks.link.len() < 2 || version >= DUAL_STACK_SINCE {
        return None;
    }
    Some(
        Violation::new(
            Reason::DualStackUnsupportedByVersion,
            format!(
                "site {} is dual-stack and runs {version}, but dual-stack is supported from \
                 {DUAL_STACK_SINCE} on",
                peer.name
            ),
            format!("update that site to {DUAL_STACK_SINCE} or later"),
        )
        .object("controller", peer.name.clone())
        .fact("softwareVersion", version),
    )
}

fn malformed(peer: &PeerCard) -> Option<Violation> {
    let fault = if peer.endpoints.is_empty() {
        "names no endpoint"
    } else if peer.endpoints.len() > MAX_ENDPOINTS {
        "names more than 8 endpoints"
    } else if peer.authority.certificate.len() > 8 * 1024 {
        "has a certificate of more than 8 KiB"
    } else if peer.name.is_empty() || peer.name.len() > 255 {
        "has no name of 1 to 255 bytes"
    } else {
        return None;
    };
    Some(
        Violation::new(
            Reason::InvalidArgument,
            format!("the other site {fault}"),
            "update the software of the other site",
        )
        .at("card"),
    )
}

fn overlaps_site(own: &PeerCard, peer: &PeerCard) -> Option<Violation> {
    let ours = own.networks.link.iter();
    let (ours, theirs) = ours
        .flat_map(|pool| pool.ranges.iter())
        .flat_map(|ours| link_ranges(peer).map(move |theirs| (ours, theirs)))
        .find(|(ours, theirs)| ours.overlaps(theirs))?;
    Some(
        overlap(peer, theirs, &format!("{ours} of site {}", own.name))
            .object("controller", own.name.clone())
            .fact("ownRange", ours),
    )
}

fn overlaps_fleet(fleet: &Fleet, peer: &PeerCard) -> Option<Violation> {
    let index = fleet.addresses();
    let mut first = None;
    let mut names = std::collections::BTreeSet::new();
    for range in link_ranges(peer) {
        for owner in index.overlapping(range) {
            first.get_or_insert(range);
            names.insert(fleet.name_of(owner));
            if names.len() > MAX_NAMED {
                break;
            }
        }
    }
    let shown: Vec<&str> = names.iter().copied().take(MAX_NAMED).collect();
    let more = if names.len() > MAX_NAMED {
        " and more"
    } else {
        ""
    };
    let listed = format!("the link ranges of subcloud {}{more}", shown.join(", "));
    let mut violation = overlap(peer, first?, &listed).fact("overlapsWith", shown.join(","));
    for name in shown {
        violation = violation.object("subcloud", name);
    }
    Some(violation)
}

fn link_ranges(card: &PeerCard) -> impl Iterator<Item = &Range> {
    card.networks
        .link
        .iter()
        .flat_map(|pool: &ControllerPool| &pool.ranges)
}

fn overlap(peer: &PeerCard, range: &Range, with: &str) -> Violation {
    Violation::new(
        Reason::AddressOverlap,
        format!(
            "the link range {range} of site {} overlaps {with}",
            peer.name
        ),
        "give the sites of a distributed cloud addresses that no other site has",
    )
    .object("controller", peer.name.clone())
    .fact("peerRange", range)
}
