//! Groups of subclouds: whom one change reaches together, and how many of them at a time.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use site::Timestamp;

use crate::GroupId;

/// The name of the group that always exists.
pub const DEFAULT_GROUP: &str = "Default";

/// How many groups there may be, the Default group included. A group is a unit of work for
/// operators: more than they can tell apart help nobody.
pub const MAX_GROUPS: usize = 200;

/// The most subclouds of a group that may be worked on at a time. Each rollout has a bound of its
/// own beside it ([`crate::Rollout::max_parallel`]).
pub const MAX_PARALLEL: u32 = 500;

/// How many subclouds of a new group are worked on at a time.
pub const DEFAULT_PARALLEL: u32 = 2;

/// A group of subclouds. Each subcloud is in one; membership is kept on the subcloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubcloudGroup {
    /// The id.
    pub id: GroupId,
    /// The unique name.
    pub name: String,
    /// What operators say about it; may be empty.
    pub description: String,
    /// How a change goes through the group.
    pub update: UpdateApply,
    /// How many subclouds are worked on at a time when it goes in parallel: 1 to
    /// [`MAX_PARALLEL`].
    pub max_parallel: u32,
    /// When it was added; the beginning of time for the Default group.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Groups are shared between the fleet, the writes that make them durable, and readers.
pub type SharedGroup = Arc<SubcloudGroup>;

/// How a change goes through the subclouds of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpdateApply {
    /// Several at a time.
    Parallel,
    /// One after the other.
    Serial,
}

impl SubcloudGroup {
    /// The Default group as it is until somebody changes it.
    pub fn default_group() -> Self {
        Self {
            id: GroupId::DEFAULT,
            name: DEFAULT_GROUP.to_owned(),
            description: "Subclouds that are in no other group".to_owned(),
            update: UpdateApply::Parallel,
            max_parallel: DEFAULT_PARALLEL,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    /// How many of its subclouds rollouts work on at a time, all together: 1 to [`MAX_PARALLEL`].
    /// The Default group bounds nothing until somebody changes it: nobody put its subclouds there
    /// for that.
    pub fn at_once(&self) -> u32 {
        match self.update {
            _ if self.id == GroupId::DEFAULT && self.updated_at == Timestamp(0) => MAX_PARALLEL,
            UpdateApply::Parallel => self.max_parallel,
            UpdateApply::Serial => 1,
        }
    }

    /// Names the state of what operators can change.
    pub fn etag(&self) -> String {
        let update = match self.update {
            UpdateApply::Parallel => "parallel",
            UpdateApply::Serial => "serial",
        };
        let (id, parallel) = (self.id.to_string(), self.max_parallel.to_string());
        etag(&[&id, &self.name, &self.description, update, &parallel])
    }
}

/// A short name of the state of some fields.
pub(crate) fn etag(fields: &[&str]) -> String {
    let mut hash = Sha256::new();
    for field in fields {
        hash.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(field);
    }
    let bytes = hash.finalize();
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
