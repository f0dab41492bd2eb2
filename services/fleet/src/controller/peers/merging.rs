//! What becomes of a record when its owner's comes in, and why one is not taken in.

use site::Timestamp;

use crate::{Conflict, ControllerId, Epoch, MAX_LINEAGE, Reason, Subcloud, Violation};

use super::book::edited;
use super::claims::Belief;

/// What operators edited here and the new owner did not know when it took over.
pub(super) fn conflict(
    local: &Subcloud,
    told: &Subcloud,
    owner: ControllerId,
    at: Timestamp,
) -> Option<Box<Conflict>> {
    let own = local
        .owned_here()
        .then_some((local.enrolled()?.epoch, local.geo.edits));
    let told_of = |term: Epoch| {
        let known = told.geo.lineage.iter().find(|(known, _)| *known == term);
        known.map_or(0, |(_, edits)| *edits)
    };
    // Terms that the owner no longer remembers are not held against it.
    let oldest = match told.geo.lineage.first() {
        Some((oldest, _)) if told.geo.lineage.len() == MAX_LINEAGE => *oldest,
        _ => Epoch::default(),
    };
    let terms = local.geo.lineage.iter().copied().chain(own);
    let mut terms = terms.filter(|(term, _)| *term >= oldest);
    let unseen = terms.any(|(term, edits)| edits > told_of(term));
    let theirs = edited(told);
    let lost: Vec<(String, String)> = edited(local)
        .into_iter()
        .filter(|field| !theirs.contains(field))
        .collect();
    (unseen && !lost.is_empty()).then(|| Box::new(Conflict { owner, at, lost }))
}

/// A conflict stays until an operator has seen it, also when another one follows.
pub(super) fn both(
    earlier: Option<&Conflict>,
    later: Option<Box<Conflict>>,
) -> Option<Box<Conflict>> {
    let Some(earlier) = earlier else {
        return later;
    };
    let Some(mut conflict) = later else {
        return Some(Box::new(earlier.clone()));
    };
    let unseen = earlier.lost.iter();
    let unseen = unseen.filter(|field| !conflict.lost.contains(field));
    let mut lost: Vec<(String, String)> = unseen.cloned().collect();
    lost.append(&mut conflict.lost);
    // Operators that look at none of them are told of the newest.
    let surplus = lost.len().saturating_sub(MAX_LOST_FIELDS);
    conflict.lost = lost.split_off(surplus);
    Some(conflict)
}

/// How many lost fields a record keeps for operators that have not looked yet.
const MAX_LOST_FIELDS: usize = 32;

pub(super) fn stale(local: &Subcloud, claimed: Epoch, believed: &Belief) -> Violation {
    let remedy = if claimed < believed.epoch {
        "nothing: the claim ends when its site hears of the newer term"
    } else {
        "nothing while it is a member at the site that its agent obeys, which tells the other; \
         else take it out of the group at the other"
    };
    Violation::new(
        Reason::EpochStale,
        format!(
            "subcloud {} is claimed in term {}, but obeys controller {} in term {}",
            local.name, claimed.0, believed.owner, believed.epoch.0
        ),
        remedy,
    )
    .object("subcloud", local.name.clone())
    .fact("claimedEpoch", claimed.0)
    .fact("epoch", believed.epoch.0)
    .fact("owner", believed.owner)
}

pub(super) fn not_shared(told: &Subcloud) -> Violation {
    Violation::new(
        Reason::SubcloudInOtherGroup,
        format!(
            "subcloud {} was not shared in this group, or its term cannot be",
            told.name
        ),
        "take it out of the group at the site that claims it",
    )
    .object("subcloud", told.name.clone())
}

pub(super) fn unreadable(told: &Subcloud) -> Violation {
    Violation::new(
        Reason::InvalidArgument,
        format!(
            "the record of subcloud {} is not that of an enrolled member of its speaker",
            told.name
        ),
        "update the software of the other site",
    )
    .object("subcloud", told.name.clone())
}

pub(super) fn unreachable(kind: &'static str, name: &str) -> Violation {
    Violation::new(
        Reason::InvalidArgument,
        format!("{kind} {name} is told with a count that no site reaches"),
        "update the software of the other site, or share it no longer",
    )
    .object(kind, name)
}
