//! The pure model of one site: address families, pools, networks, the rules that bind them,
//! and what a change to them does.
//!
//! The one way to change a [`Site`] is [`plan`]: it either refuses with a [`Rejection`] that
//! lists every fault, or answers a [`Plan`] that holds the site as it will be and the exact
//! [`Effect`]s. A preview and a real call use the same plan, so they cannot differ.
//!
//! Invariants I1-I10 of the site rules hold for every `Site` that can be built here.
//! This crate knows no I/O, clock or randomness: ids and time are arguments.

mod change;
mod family;
mod host;
mod network;
mod parts;
mod pool;
mod rejection;
mod site;
mod version;
mod view;

pub use change::{AttachmentRef, Change, OamEdit, PoolEdit, PoolInput, RangeInput};
pub use family::{Family, Stack};
pub use host::{Administrative, Alarm, ConfigurationId, Host, Personality, Severity};
pub use network::{Attachment, AttachmentId, Network, NetworkId, NetworkKind, Pools, Rank};
pub use parts::{NetworkParts, PoolParts, SiteParts};
pub use pool::{AddressRole, Addresses, Order, Pool, PoolId, Range};
pub use rejection::{Code, Object, Reason, ReasonSet, Rejection, Violation};
pub use site::{
    DistributedCloudRole, Generation, Kubernetes, Site, SiteIdentity, SoftwareVersion, SystemMode,
    SystemType, Timestamp,
};
pub use version::NotAVersion;
