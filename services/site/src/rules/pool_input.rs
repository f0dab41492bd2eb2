//! Reads the fields of a pool from a request.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::default_range;
use crate::shape::{
    address_faults, faults_without_subnet, make_subnet, new_name_fault, outside_ranges,
    range_faults, read_address, read_order, read_ranges,
};
use crate::{AddressRole, Addresses, Order, Pool, PoolEdit, PoolInput, RangeInput, Violation};

/// The fields of a pool as they shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) subnet: IpNet,
    pub(crate) order: Order,
    pub(crate) ranges: Vec<(IpAddr, IpAddr)>,
    pub(crate) addresses: Addresses,
}

/// An edit that was read but not yet held against the pool.
pub(crate) struct ReadEdit {
    pub(crate) network: Option<IpAddr>,
    pub(crate) name: Option<String>,
    pub(crate) prefix: Option<u32>,
    order: Option<Order>,
    pub(crate) ranges: Option<Vec<(IpAddr, IpAddr)>>,
    /// Every named address that the edit mentions; `None` clears it.
    pub(crate) addresses: Vec<(AddressRole, Option<IpAddr>)>,
}

impl Wanted {
    /// Reads a new pool.
    pub(crate) fn of_input(input: &PoolInput) -> Result<Self, Vec<Violation>> {
        let mut faults = Vec::new();
        faults.extend(new_name_fault("name", &input.name));
        let network = read_address("network", &input.network, &mut faults);
        let subnet = network.and_then(|network| make_subnet(network, input.prefix, &mut faults));
        let order = read_order("order", &input.order, &mut faults);
        let mut ranges = read_ranges(&input.ranges, &mut faults);
        let mut addresses = Addresses::default();
        let texts = [
            (AddressRole::Floating, &input.floating_address),
            (AddressRole::Controller0, &input.controller0_address),
            (AddressRole::Controller1, &input.controller1_address),
            (AddressRole::Gateway, &input.gateway_address),
        ];
        for (role, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            addresses.set(role, read_address(role.field(), text, &mut faults));
        }
        let Some(subnet) = subnet else {
            faults.extend(faults_without_subnet(network, &ranges, &addresses));
            return Err(faults);
        };
        faults.extend(range_faults("", subnet, &ranges));
        faults.extend(address_faults("", subnet, &addresses));
        if !ranges.is_empty() {
            faults.extend(outside_ranges(subnet, &ranges, addresses.iter()));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        if ranges.is_empty() {
            ranges.extend(default_range(subnet).map(|range| (range.first, range.last)));
        }
        ranges.sort_unstable();
        Ok(Self {
            name: input.name.clone(),
            subnet,
            order,
            ranges,
            addresses,
        })
    }

    /// The pool as it is.
    pub(crate) fn of_pool(pool: &Pool) -> Self {
        Self {
            name: pool.name.clone(),
            subnet: pool.subnet,
            order: pool.order,
            ranges: pool
                .ranges
                .iter()
                .map(|range| (range.first, range.last))
                .collect(),
            addresses: pool.addresses,
        }
    }

    /// The faults of the whole. Addresses must lie in the ranges when either is `given`: one
    /// that was accepted outside them, the last of an IPv6 subnet, may stay.
    pub(crate) fn shape_faults(&self, given: impl Fn(AddressRole) -> bool) -> Vec<Violation> {
        let mut faults = range_faults("", self.subnet, &self.ranges);
        faults.extend(address_faults("", self.subnet, &self.addresses));
        let given = self.addresses.iter().filter(|(role, _)| given(*role));
        faults.extend(outside_ranges(self.subnet, &self.ranges, given));
        faults
    }
}

impl ReadEdit {
    /// Reads an edit: everything about it that is wrong whatever the pool is.
    pub(crate) fn of(edit: &PoolEdit) -> Result<Self, Vec<Violation>> {
        let mut faults = Vec::new();
        let name = edit.name.as_ref();
        faults.extend(name.and_then(|name| new_name_fault("name", name)));
        let network = edit.network.as_ref();
        let network = network.and_then(|text| read_address("network", text, &mut faults));
        let order = edit.order.as_ref();
        let order = order.map(|text| read_order("order", text, &mut faults));
        let ranges = edit.ranges.as_ref();
        let ranges = ranges.map(|ranges: &Vec<RangeInput>| read_ranges(ranges, &mut faults));
        let mut addresses = Vec::new();
        let texts = [
            (AddressRole::Floating, &edit.floating_address),
            (AddressRole::Controller0, &edit.controller0_address),
            (AddressRole::Controller1, &edit.controller1_address),
            (AddressRole::Gateway, &edit.gateway_address),
        ];
        for (role, text) in texts {
            match text.as_deref() {
                None => {}
                Some("") => addresses.push((role, None)),
                Some(text) => {
                    addresses.push((role, read_address(role.field(), text, &mut faults)));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let name = edit.name.clone();
        Ok(Self {
            network,
            name,
            prefix: edit.prefix,
            order,
            ranges,
            addresses,
        })
    }

    /// The pool with the edit applied. Ranges given as an empty list become the whole subnet;
    /// ranges that are not given stay, also when the subnet moves: then they must fit.
    pub(crate) fn onto(self, pool: &Pool) -> Result<Wanted, Vec<Violation>> {
        let mut wanted = Wanted::of_pool(pool);
        if let Some(name) = self.name {
            wanted.name = name;
        }
        if let Some(order) = self.order {
            wanted.order = order;
        }
        if let Some(ranges) = self.ranges {
            wanted.ranges = ranges;
        }
        for (role, address) in self.addresses {
            wanted.addresses.set(role, address);
        }
        if self.network.is_some() || self.prefix.is_some() {
            let mut faults = Vec::new();
            let network = self.network.unwrap_or(pool.subnet.addr());
            let prefix = self.prefix.unwrap_or(u32::from(pool.subnet.prefix_len()));
            match make_subnet(network, prefix, &mut faults) {
                Some(subnet) => wanted.subnet = subnet,
                None => {
                    let Wanted {
                        ranges, addresses, ..
                    } = &wanted;
                    faults.extend(faults_without_subnet(Some(network), ranges, addresses));
                    return Err(faults);
                }
            }
        }
        if wanted.ranges.is_empty() {
            let whole = default_range(wanted.subnet);
            wanted
                .ranges
                .extend(whole.map(|range| (range.first, range.last)));
        }
        Ok(wanted)
    }
}
