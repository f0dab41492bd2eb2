//! The pure model of one site: address families, pools, networks, the rules that bind them,
//! and what a change to them does.
//!
//! The one way to change a [`Site`] is [`plan`]: it either refuses with a [`Rejection`] that
//! lists every fault, or answers a [`Plan`] that holds the site as it will be and the exact
//! [`Effect`]s. A preview and a real call use the same plan, so they cannot differ.
//!
//! Invariants I1-I10 of the site rules hold for every `Site` that can be built here.
//! This crate knows no I/O, clock or randomness: ids and time are arguments.

mod address;
mod advice;
mod allocation;
pub mod bootstrap;
mod change;
mod digest;
mod effect;
mod etag;
mod family;
mod host;
mod invariants;
mod lookup;
mod names;
mod network;
mod parts;
mod plan;
mod pool;
mod rejection;
mod rules;
mod settle;
mod shape;
mod site;
mod version;
mod view;

pub use address::{AddressError, parse_address};
pub use advice::{Word, advice_at};
pub use change::{
    AttachmentRef, Change, ControllerNetwork, OamEdit, PoolEdit, PoolInput, RangeInput,
};
pub use digest::Digest;
pub use effect::{
    AllocationEffect, ClearingStep, Effect, EndpointEffect, KubernetesStep, NetworkEffect, Pods,
    PoolChange, RouteEffect,
};
pub use etag::check_etag;
pub use family::{Family, Stack};
pub use host::{Administrative, Alarm, ConfigurationId, Host, Personality, Severity};
pub use invariants::{MAX_ALARMS, MAX_DNS_SERVERS, MAX_HOSTS, MAX_POOLS};
pub use network::{Attachment, AttachmentId, Network, NetworkId, NetworkKind, Pools, Rank};
pub use parts::{NetworkParts, PoolParts, SiteParts};
pub use plan::{Plan, Subject, plan};
pub use pool::{AddressRole, Addresses, Order, Pool, PoolId, Range};
pub use rejection::{
    Code, MAX_FACT_BYTES, MAX_TEXT_BYTES, MAX_VIOLATIONS, Object, Reason, ReasonSet, Rejection,
    Violation, shortened,
};
pub use rules::needs_no_route;
pub use shape::{MAX_NAME_LENGTH, MAX_RANGES, fleet_name_problem};
pub use site::{
    DistributedCloudRole, Generation, Kubernetes, Site, SiteIdentity, SoftwareVersion, SystemMode,
    SystemType, Timestamp,
};
pub use version::NotAVersion;
