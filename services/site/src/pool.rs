//! Address pools: a subnet, its ranges, its named addresses and who holds what.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

use crate::address::successor;
use crate::allocation::Taken;
use crate::{Family, PoolParts};

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
    /// The keys of `holders`, for the search of free addresses.
    pub(crate) taken: Taken,
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

    /// The name of the holder of an address of this role, without its network.
    pub(crate) fn owner(self) -> &'static str {
        match self {
            Self::Floating => "controller",
            Self::Controller0 => "controller-0",
            Self::Controller1 => "controller-1",
            Self::Gateway => "gateway",
        }
    }

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
    /// Sets or clears the address of a role.
    pub fn set(&mut self, role: AddressRole, address: Option<IpAddr>) {
        match role {
            AddressRole::Floating => self.floating = address,
            AddressRole::Controller0 => self.controller0 = address,
            AddressRole::Controller1 => self.controller1 = address,
            AddressRole::Gateway => self.gateway = address,
        }
    }

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

    /// Allocated addresses and the name of what holds each, such as `worker-0-mgmt`. The four
    /// named addresses are not among them: [`Pool::addresses`].
    pub fn holders(&self) -> &BTreeMap<IpAddr, String> {
        &self.holders
    }
}

impl Pool {
    /// Who held which address when the pool was last detached (I10).
    pub fn remembered(&self) -> &BTreeMap<String, IpAddr> {
        &self.remembered
    }

    /// The lowest address of the ranges that nobody holds and that has no role; `None` when
    /// the ranges are exhausted. Takes logarithmic time.
    pub fn lowest_free(&self) -> Option<IpAddr> {
        self.lowest_free_but(|_| false)
    }

    /// [`Pool::lowest_free`], leaving out addresses that are held elsewhere.
    pub(crate) fn lowest_free_but(&self, elsewhere: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        for range in &self.ranges {
            let mut candidate = Some(range.first);
            while let Some(from) = candidate.filter(|address| *address <= range.last) {
                let free = self.taken.first_free(from);
                if free == Some(from) && self.role_of(from).is_none() && !elsewhere(from) {
                    return free;
                }
                candidate = if free == Some(from) {
                    successor(from)
                } else {
                    free
                };
            }
        }
        None
    }

    /// The role of a named address.
    pub fn role_of(&self, address: IpAddr) -> Option<AddressRole> {
        self.addresses
            .iter()
            .find_map(|(role, named)| (named == address).then_some(role))
    }

    /// Whether one of the ranges has this address.
    pub fn in_ranges(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// Builds a pool of fields that were checked.
    pub(crate) fn of_checked(parts: PoolParts) -> Self {
        let ranges = parts.ranges.into_iter();
        Self {
            taken: Taken::of(parts.holders.keys()),
            id: parts.id,
            name: parts.name,
            subnet: parts.subnet,
            order: parts.order,
            ranges: ranges.map(|(first, last)| Range { first, last }).collect(),
            addresses: parts.addresses,
            holders: parts.holders,
            remembered: parts.remembered,
        }
    }

    pub(crate) fn hold(&mut self, address: IpAddr, holder: String) {
        self.taken.insert(address);
        self.holders.insert(address, holder);
    }

    /// Takes every address back and remembers who had it (I10).
    pub(crate) fn release_all(&mut self) {
        self.taken = Taken::default();
        for (address, holder) in std::mem::take(&mut self.holders) {
            self.remembered.insert(holder, address);
        }
    }
}
