//! Requests to change a site, as text: parsing them is part of the rules, so that every fault
//! of a request is reported at once.

use ipnet::IpNet;
use uuid::Uuid;

use crate::{AttachmentId, ConfigurationId, PoolId};

/// A requested change. References are a uuid, a name or (networks) a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `addrpool-add`.
    AddPool {
        /// The id of the new pool.
        id: PoolId,
        /// Its fields.
        pool: PoolInput,
    },
    /// `addrpool-modify`.
    ModifyPool {
        /// Uuid or name.
        pool: String,
        /// What changes.
        edit: PoolEdit,
    },
    /// `addrpool-delete`.
    DeletePool {
        /// Uuid or name.
        pool: String,
    },
    /// `network-add`.
    AddNetwork {
        /// The uuid of the new network.
        uuid: Uuid,
        /// The id of its first association.
        attachment: AttachmentId,
        /// The unique name; empty means the name of the type.
        name: String,
        /// The name of the type.
        kind: String,
        /// Whether hosts get addresses from the pools by themselves.
        dynamic: bool,
        /// Uuid or name of the primary pool.
        pool: String,
    },
    /// `network-delete`.
    DeleteNetwork {
        /// Uuid, name or id.
        network: String,
    },
    /// `network-addrpool-assign`.
    AssignPool {
        /// The id of the new association.
        id: AttachmentId,
        /// Uuid, name, id or type name of the network.
        network: String,
        /// Uuid or name of the pool.
        pool: String,
    },
    /// `network-addrpool-remove`.
    RemovePool {
        /// Which association.
        attachment: AttachmentRef,
    },
    /// `oam-modify`: the primary pool of oam. `None` leaves a field as it is.
    ModifyOam {
        /// What changes.
        edit: OamEdit,
    },
    /// `dns-modify`: replaces the whole list.
    ModifyDns {
        /// At most three IP literals.
        servers: Vec<String>,
    },
    /// `host-lock`.
    LockHost {
        /// The hostname.
        hostname: String,
    },
    /// `host-unlock`: the host applies its target configuration.
    UnlockHost {
        /// The hostname.
        hostname: String,
    },
    /// A host reports what it has applied.
    ReportApplied {
        /// The hostname.
        hostname: String,
        /// What it applied.
        configuration: ConfigurationId,
    },
    /// On a subcloud: what the system controller says about its own networks. They are kept as
    /// the networks `system-controller` and `system-controller-oam`.
    SetControllerNetworks {
        /// The link network.
        link: ControllerNetwork,
        /// The oam network; `None` when the system controller has none.
        oam: Option<ControllerNetwork>,
    },
}

/// A network of the system controller, with ids for the case that it is new here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerNetwork {
    /// Its primary subnet: all communication uses primary pools.
    pub subnet: IpNet,
    /// The uuid of a new network.
    pub network: Uuid,
    /// The id of a new association.
    pub attachment: AttachmentId,
    /// The id of a new pool.
    pub pool: PoolId,
}

/// The fields of a new pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolInput {
    /// Unique, 1 to 128 characters.
    pub name: String,
    /// The network address, such as `fd01::`.
    pub network: String,
    /// The prefix length.
    pub prefix: u32,
    /// `random`, `sequential`, or empty for the default.
    pub order: String,
    /// Empty means the whole subnet.
    pub ranges: Vec<RangeInput>,
    /// Empty means none.
    pub floating_address: String,
    /// Empty means none.
    pub controller0_address: String,
    /// Empty means none.
    pub controller1_address: String,
    /// Empty means none.
    pub gateway_address: String,
}

/// A range as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeInput {
    /// The lowest address.
    pub first: String,
    /// The highest address, inclusive.
    pub last: String,
}

/// What changes on a pool: `None` leaves a field as it is, an empty address clears it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolEdit {
    /// A new name.
    pub name: Option<String>,
    /// A new network address.
    pub network: Option<String>,
    /// A new prefix length.
    pub prefix: Option<u32>,
    /// A new order.
    pub order: Option<String>,
    /// New ranges.
    pub ranges: Option<Vec<RangeInput>>,
    /// A new floating address.
    pub floating_address: Option<String>,
    /// A new address of controller-0.
    pub controller0_address: Option<String>,
    /// A new address of controller-1.
    pub controller1_address: Option<String>,
    /// A new gateway.
    pub gateway_address: Option<String>,
}

/// The deprecated view of the primary pool of oam.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OamEdit {
    /// The subnet with its prefix length.
    pub oam_subnet: Option<String>,
    /// The gateway.
    pub oam_gateway_ip: Option<String>,
    /// The floating address (duplex).
    pub oam_floating_ip: Option<String>,
    /// Controller-0 (duplex).
    pub oam_c0_ip: Option<String>,
    /// Controller-1 (duplex).
    pub oam_c1_ip: Option<String>,
    /// The floating address (simplex).
    pub oam_ip: Option<String>,
}

/// Names an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachmentRef {
    /// By its uuid.
    Id(String),
    /// By the names, uuids (or, for the network, the number or type) of its two ends.
    Ends {
        /// The network.
        network: String,
        /// The pool.
        pool: String,
    },
}
