//! What a faultless file declares.

use std::net::IpAddr;

use ipnet::IpNet;

use super::fault::Warning;
use super::findings::Assumed;
use crate::{
    Addresses, DistributedCloudRole, NetworkKind, Range, SoftwareVersion, SystemMode, SystemType,
};

/// A whole site as its file declares it: every rule of the file and between its networks holds.
/// [`Declared::install`] makes a site of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub(super) name: String,
    pub(super) region_name: String,
    pub(super) system_type: SystemType,
    pub(super) system_mode: SystemMode,
    pub(super) role: DistributedCloudRole,
    pub(super) dns_servers: Vec<IpAddr>,
    pub(super) link: DeclaredLink,
}

/// The part of a file that other sites have to do with: the link and oam networks and the
/// gateway. Whatever else the file has is right as well; what it lacks was not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredLink {
    pub(super) name: Option<String>,
    pub(super) region_name: Option<String>,
    pub(super) system_mode: Option<SystemMode>,
    pub(super) software_version: SoftwareVersion,
    pub(super) networks: Vec<DeclaredNetwork>,
    pub(super) link: DeclaredNetwork,
    pub(super) oam: DeclaredNetwork,
    pub(super) gateways: Vec<IpAddr>,
    pub(super) warnings: Vec<Warning>,
    pub(super) assumed: Vec<Assumed>,
}

/// A network with its one or two pools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredNetwork {
    /// The type.
    pub kind: NetworkKind,
    /// Whether hosts get addresses by themselves.
    pub dynamic: bool,
    /// The first pool.
    pub primary: DeclaredPool,
    /// The pool of the other family.
    pub secondary: Option<DeclaredPool>,
}

/// A pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclaredPool {
    /// The subnet, without host bits.
    pub subnet: IpNet,
    /// From the start to the end address, both inclusive.
    pub range: Range,
    /// The named addresses, written or by default.
    pub addresses: Addresses,
}

impl DeclaredNetwork {
    /// The pools, primary first.
    pub fn pools(&self) -> impl Iterator<Item = &DeclaredPool> {
        std::iter::once(&self.primary).chain(&self.secondary)
    }
}

impl Declared {
    /// The name of the site.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The region name; the name unless the file says otherwise.
    pub fn region_name(&self) -> &str {
        &self.region_name
    }

    /// The role in a distributed cloud.
    pub fn role(&self) -> DistributedCloudRole {
        self.role
    }

    /// Simplex or duplex.
    pub fn system_mode(&self) -> SystemMode {
        self.system_mode
    }

    /// What other sites have to do with.
    pub fn link(&self) -> &DeclaredLink {
        &self.link
    }

    /// What the file has that nothing reads.
    pub fn warnings(&self) -> &[Warning] {
        &self.link.warnings
    }

    /// Every default that was taken.
    pub fn assumed(&self) -> &[Assumed] {
        &self.link.assumed
    }
}

impl DeclaredLink {
    /// The name, if the file has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The region name, if the file has one.
    pub fn region_name(&self) -> Option<&str> {
        self.region_name.as_deref()
    }

    /// Simplex or duplex, if the file says so; sizes were judged as of a duplex site otherwise.
    pub fn system_mode(&self) -> Option<SystemMode> {
        self.system_mode
    }

    /// The software version; 24.09 unless the file says otherwise.
    pub fn software_version(&self) -> SoftwareVersion {
        self.software_version
    }

    /// The network towards other sites: admin if the file has it, else management.
    pub fn link_network(&self) -> &DeclaredNetwork {
        &self.link
    }

    /// The public network.
    pub fn oam(&self) -> &DeclaredNetwork {
        &self.oam
    }

    /// Every network that the file describes or that has a default.
    pub fn networks(&self) -> &[DeclaredNetwork] {
        &self.networks
    }

    /// The system controller's gateways towards this site, that of the link family first; empty
    /// when the file has none.
    pub fn systemcontroller_gateways(&self) -> &[IpAddr] {
        &self.gateways
    }

    /// What the file has that nothing reads.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Every default that was taken.
    pub fn assumed(&self) -> &[Assumed] {
        &self.assumed
    }
}
