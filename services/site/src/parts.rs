//! A site taken apart: plain fields for records and reports.
//!
//! Everything that comes from outside (a record, a report, a bootstrap file) becomes a [`Site`]
//! only through [`Site::from_parts`], which checks every invariant.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

use crate::{
    Addresses, Alarm, AttachmentId, Generation, Host, Kubernetes, NetworkId, NetworkKind, Order,
    PoolId, SiteIdentity,
};

/// The fields of a site, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteParts {
    /// What the site is.
    pub identity: SiteIdentity,
    /// The number of accepted changes.
    pub generation: Generation,
    /// Whether installation has ended.
    pub initial_config_complete: bool,
    /// The networks.
    pub networks: Vec<NetworkParts>,
    /// The pools, attached or not.
    pub pools: Vec<PoolParts>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The DNS servers, in order.
    pub dns_servers: Vec<IpAddr>,
    /// On a subcloud: the system controller's gateways towards it, link family first.
    pub systemcontroller_gateways: Vec<IpAddr>,
    /// The stack of Kubernetes.
    pub kubernetes: Kubernetes,
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
}

/// The fields of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkParts {
    /// The number.
    pub id: NetworkId,
    /// The uuid.
    pub uuid: Uuid,
    /// The unique name.
    pub name: String,
    /// The type.
    pub kind: NetworkKind,
    /// Whether hosts get addresses by themselves.
    pub dynamic: bool,
    /// Associations, primary first.
    pub pools: Vec<(AttachmentId, PoolId)>,
}

/// The fields of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolParts {
    /// The id.
    pub id: PoolId,
    /// The unique name.
    pub name: String,
    /// The subnet.
    pub subnet: IpNet,
    /// The order asked for.
    pub order: Order,
    /// First and last address of each range.
    pub ranges: Vec<(IpAddr, IpAddr)>,
    /// The named addresses.
    pub addresses: Addresses,
    /// Allocated addresses and their holders.
    pub holders: BTreeMap<IpAddr, String>,
    /// Who held which address when the pool was last detached, so that attaching it again
    /// gives each holder the address that it had (I10).
    pub remembered: BTreeMap<String, IpAddr>,
}
