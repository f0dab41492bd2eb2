//! The fleet: every record, with the indexes that make a look-up independent of their number.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::admission::ControllerView;
use crate::index::AddressIndex;
use crate::{GroupId, SharedGroup, SharedSubcloud, Subcloud, SubcloudGroup, SubcloudId, TokenId};

/// How many subclouds a fleet has room for by default (F9). Ten times the largest fleet that the
/// benchmarks run; at some 2 KiB of memory for a record the limit costs 200 MB.
pub const DEFAULT_FLEET_LIMIT: usize = 100_000;

/// All subclouds of one controller, and the controller's own place among them.
///
/// Names, region names and tokens are unique among the records; the address ranges of any two
/// records do not overlap. [`Fleet::put`] keeps the indexes true; that what is put has been
/// admitted is the business of [`crate::Controller`].
#[derive(Debug, Clone)]
pub struct Fleet {
    controller: ControllerView,
    limit: usize,
    subclouds: BTreeMap<SubcloudId, SharedSubcloud>,
    by_name: BTreeMap<String, SubcloudId>,
    by_region: BTreeMap<String, SubcloudId>,
    by_token: BTreeMap<TokenId, SubcloudId>,
    addresses: AddressIndex,
    default_group: SharedGroup,
    /// Every other group.
    groups: BTreeMap<GroupId, SharedGroup>,
}

impl Fleet {
    /// A fleet without subclouds.
    pub fn new(controller: ControllerView, limit: usize) -> Self {
        Self {
            controller,
            limit,
            subclouds: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_region: BTreeMap::new(),
            by_token: BTreeMap::new(),
            addresses: AddressIndex::default(),
            default_group: Arc::new(SubcloudGroup::default_group()),
            groups: BTreeMap::new(),
        }
    }

    /// The groups, the Default group first.
    pub fn groups(&self) -> impl Iterator<Item = &SharedGroup> {
        std::iter::once(&self.default_group).chain(self.groups.values())
    }

    /// Finds a group by name or by uuid. There are few of them.
    pub fn find_group(&self, reference: &str) -> Option<&SharedGroup> {
        let is_it = |group: &&SharedGroup| {
            group.name == reference
                || uuid::Uuid::try_parse(reference).is_ok_and(|id| group.id.0 == id)
        };
        self.groups().find(is_it)
    }

    /// One group.
    pub fn group(&self, id: GroupId) -> Option<&SharedGroup> {
        match id {
            GroupId::DEFAULT => Some(&self.default_group),
            id => self.groups.get(&id),
        }
    }

    /// The group that a subcloud is in.
    pub fn group_of(&self, subcloud: &Subcloud) -> &SharedGroup {
        self.groups
            .get(&subcloud.group)
            .unwrap_or(&self.default_group)
    }

    /// Puts a group in the place of the one of the same id.
    pub fn put_group(&mut self, group: SharedGroup) {
        if group.id == GroupId::DEFAULT {
            self.default_group = group;
        } else {
            self.groups.insert(group.id, group);
        }
    }

    /// Takes a group out; its members are in the Default group from then on.
    pub fn forget_group(&mut self, id: GroupId) {
        self.groups.remove(&id);
    }

    /// The subclouds, by id.
    pub fn subclouds(&self) -> impl ExactSizeIterator<Item = &SharedSubcloud> {
        self.subclouds.values()
    }

    /// How many subclouds there are, pending ones included.
    pub fn len(&self) -> usize {
        self.subclouds.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.subclouds.is_empty()
    }

    /// One subcloud.
    pub fn subcloud(&self, id: SubcloudId) -> Option<&SharedSubcloud> {
        self.subclouds.get(&id)
    }

    /// The subcloud of a name.
    pub fn by_name(&self, name: &str) -> Option<&SharedSubcloud> {
        self.subcloud(*self.by_name.get(name)?)
    }

    /// The subcloud that holds a region name.
    pub fn by_region(&self, region: &str) -> Option<&SharedSubcloud> {
        self.subcloud(*self.by_region.get(region)?)
    }

    /// The subcloud that a token was issued for, spent or not.
    pub fn by_token(&self, token: TokenId) -> Option<&SharedSubcloud> {
        self.subcloud(*self.by_token.get(&token)?)
    }

    /// Finds a subcloud by name or by uuid.
    pub fn find(&self, reference: &str) -> Option<&SharedSubcloud> {
        self.by_name(reference).or_else(|| {
            let id = uuid::Uuid::try_parse(reference).ok()?;
            self.subcloud(SubcloudId(id))
        })
    }

    /// How many subclouds the fleet has room for (F9).
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The controller's own addresses.
    pub fn controller(&self) -> &ControllerView {
        &self.controller
    }

    /// Takes over a change of the controller's own site.
    pub fn set_controller(&mut self, controller: ControllerView) {
        self.controller = controller;
    }

    /// Puts a record in the place of the one of the same id.
    pub fn put(&mut self, subcloud: SharedSubcloud) {
        let id = subcloud.id;
        self.forget(id);
        self.by_name.insert(subcloud.name.clone(), id);
        self.by_token
            .extend(subcloud.tokens().map(|token| (token, id)));
        if let Some(footprint) = subcloud.footprint() {
            self.by_region.insert(footprint.region_name.clone(), id);
            self.addresses.insert(id, footprint);
        }
        self.subclouds.insert(id, subcloud);
    }

    /// Takes a record out.
    pub fn forget(&mut self, id: SubcloudId) -> Option<SharedSubcloud> {
        let old = self.subclouds.remove(&id)?;
        self.by_name.remove(&old.name);
        for token in old.tokens() {
            self.by_token.remove(&token);
        }
        if let Some(footprint) = old.footprint() {
            self.by_region.remove(&footprint.region_name);
            self.addresses.remove(id, footprint);
        }
        Some(old)
    }

    pub(crate) fn addresses(&self) -> &AddressIndex {
        &self.addresses
    }

    /// The name of a record, for messages.
    pub(crate) fn name_of(&self, id: SubcloudId) -> &str {
        self.subclouds
            .get(&id)
            .map_or("", |subcloud| &subcloud.name)
    }
}

impl Extend<SharedSubcloud> for Fleet {
    fn extend<T: IntoIterator<Item = SharedSubcloud>>(&mut self, subclouds: T) {
        for subcloud in subclouds {
            self.put(subcloud);
        }
    }
}
