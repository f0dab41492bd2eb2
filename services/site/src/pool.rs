//! Address pools: a subnet, its ranges, its named addresses and who holds what.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

use crate::Family;

/// An address pool. Every address lies in the subnet and has its family (I4); ranges are sorted
/// and do not overlap; no address is held twice (I10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub(crate) id: PoolId,
    pub(crate) name: String,
    pub(crate) subnet: IpNet,
    pub(crate) order: Order,
    pub(crate) ranges: Vec<Range>,
    pub(crate) addresses: Addresses,
    pub(crate) holders: BTreeMap<IpAddr, String>,
    pub(crate) remembered: BTreeMap<String, IpAddr>,
}

/// The id of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub Uuid);

/// The order in which addresses were asked to be given out. The lowest free address is always
/// taken; the value is kept because operators see and set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Order {
    /// `random`, the default.
    #[default]
    Random,
    /// `sequential`.
    Sequential,
}

impl fmt::Display for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Random => "random",
            Self::Sequential => "sequential",
        })
    }
}

/// An inclusive range of addresses of one family, `first <= last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
}

/// The role of a named address of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressRole {
    /// The address that follows the active controller.
    Floating,
    /// The first controller.
    Controller0,
    /// The second controller; only on duplex sites.
    Controller1,
    /// The router towards other subnets.
    Gateway,
}

impl AddressRole {
    /// All roles, in the order of the listings.
    pub const ALL: [Self; 4] = [
        Self::Floating,
        Self::Controller0,
        Self::Controller1,
        Self::Gateway,
    ];

    /// The name of the field, such as `floating_address`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Floating => "floating_address",
            Self::Controller0 => "controller0_address",
            Self::Controller1 => "controller1_address",
            Self::Gateway => "gateway_address",
        }
    }
}

/// The four named addresses of a pool; those that are set differ from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// The address that follows the active controller.
    pub floating: Option<IpAddr>,
    /// The first controller.
    pub controller0: Option<IpAddr>,
    /// The second controller.
    pub controller1: Option<IpAddr>,
    /// The router.
    pub gateway: Option<IpAddr>,
}

impl Addresses {
    /// The address of a role.
    pub fn get(&self, role: AddressRole) -> Option<IpAddr> {
        match role {
            AddressRole::Floating => self.floating,
            AddressRole::Controller0 => self.controller0,
            AddressRole::Controller1 => self.controller1,
            AddressRole::Gateway => self.gateway,
        }
    }

    /// The addresses that are set, with their roles.
    pub fn iter(&self) -> impl Iterator<Item = (AddressRole, IpAddr)> + '_ {
        AddressRole::ALL
            .into_iter()
            .filter_map(|role| Some((role, self.get(role)?)))
    }
}

impl Range {
    /// A range, or `None` when the families differ or the order is reversed.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address, inclusive.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether two ranges share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4()
            && self.first <= other.last
            && other.first <= self.last
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

impl Pool {
    /// The id.
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// The unique name, 1 to 128 characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The family, that of the subnet.
    pub fn family(&self) -> Family {
        Family::of_subnet(self.subnet)
    }

    /// The subnet, without host bits.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The order that was asked for.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The ranges, sorted, without overlap.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The named addresses.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Allocated addresses and the name of what holds each, such as `controller-0-mgmt`.
    pub fn holders(&self) -> &BTreeMap<IpAddr, String> {
        &self.holders
    }
}

impl Pool {
    /// Who held which address when the pool was last detached (I10).
    pub fn remembered(&self) -> &BTreeMap<String, IpAddr> {
        &self.remembered
    }
}
