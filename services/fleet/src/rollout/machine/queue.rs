//! The order in which the members of a rollout are looked at.

use std::collections::{BTreeMap, BTreeSet};

use crate::{GroupId, SubcloudId};

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// It has begun: its end is owed.
    Begun,
    /// It has not.
    Fresh,
}

/// The place of a member: those that have begun come first, then the order is that of the indexes.
pub(super) type Place = (Turn, u64, SubcloudId);

/// The members without a result that are to be looked at. One that has not begun and is not here
/// has had its turn: it is worked on, or it was passed over because it was not ready.
#[derive(Debug, Default)]
pub(super) struct Queue {
    places: BTreeSet<Place>,
    /// Those of [`Self::places`] that may be next, as far as is known.
    free: BTreeSet<Place>,
    /// The others, by the group that had no room for them.
    held: BTreeMap<GroupId, BTreeSet<Place>>,
    /// Those that have not begun and came here, or had their turn, since this was taken last.
    moved: BTreeSet<SubcloudId>,
}

impl Queue {
    /// Lets a member of a rollout that starts here wait for its turn.
    pub(super) fn adopt(&mut self, place: Place) {
        self.places.insert(place);
        self.free.insert(place);
    }

    /// Lets a member wait for its turn again.
    pub(super) fn insert(&mut self, place: Place) {
        if self.places.insert(place) {
            self.free.insert(place);
            self.mark(place);
        }
    }

    /// The first member that no group without room holds.
    pub(super) fn first(&self, has_room: impl Fn(GroupId) -> bool) -> Option<Place> {
        let held = self.held.iter().filter(|(group, _)| has_room(**group));
        let held = held.filter_map(|(_, places)| places.first());
        held.chain(self.free.first()).min().copied()
    }

    /// A member waits until its group has room.
    pub(super) fn hold(&mut self, place: Place, group: GroupId) {
        if self.places.contains(&place) {
            self.let_loose(place);
            self.held.entry(group).or_default().insert(place);
        }
    }

    /// Members may be in other groups than those that hold them.
    pub(super) fn regroup(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.free.extend(held.into_values().flatten());
    }

    fn let_loose(&mut self, place: Place) {
        self.free.remove(&place);
        self.held.retain(|_, places| {
            places.remove(&place);
            !places.is_empty()
        });
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The turn of a member has come.
    pub(super) fn remove(&mut self, place: Place) {
        if self.places.remove(&place) {
            self.let_loose(place);
            self.mark(place);
        }
    }

    /// Whether a member waits for its turn.
    pub(super) fn contains(&self, place: Place) -> bool {
        self.places.contains(&place)
    }

    /// Nobody who has not begun has a turn any more.
    pub(super) fn shut(&mut self) {
        self.places.retain(|(turn, ..)| *turn == Turn::Begun);
        self.held.clear();
        self.free.clone_from(&self.places);
    }

    /// Nobody has a turn any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Those that came or had their turn since this was asked last.
    pub(super) fn take_moved(&mut self) -> BTreeSet<SubcloudId> {
        std::mem::take(&mut self.moved)
    }

    fn mark(&mut self, (turn, _, id): Place) {
        if turn == Turn::Fresh {
            self.moved.insert(id);
        }
    }
}
