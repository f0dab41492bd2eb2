//! Who holds which addresses, asked in a time that does not grow with the fleet (F6).
//!
//! Ranges of admitted sites are disjoint, so the range that begins last before an address is the
//! only one below it that can reach it: one step in an ordered map. Subnets are aligned, so two
//! of them either nest or are disjoint: what lies inside a subnet is one stretch of an ordered
//! map, and what encloses it is one look-up for each shorter prefix length that is in use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use site::Range;

use crate::{Footprint, SubcloudId};

/// The addresses of every subcloud.
#[derive(Debug, Clone, Default)]
pub struct AddressIndex {
    ranges: BTreeMap<(Point, SubcloudId), Point>,
    link_subnets: Subnets,
    oam_subnets: Subnets,
}

/// An address as a number, IPv4 before IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    v6: bool,
    bits: u128,
}

/// A multiset of subnets.
#[derive(Debug, Clone, Default)]
struct Subnets {
    /// By network address, then by prefix length: an enclosing subnet comes before what it
    /// encloses.
    owners: BTreeMap<(Point, u8), BTreeSet<SubcloudId>>,
    /// How many distinct subnets of each family and prefix length there are.
    lengths: BTreeMap<(bool, u8), usize>,
}

impl AddressIndex {
    /// Adds what a site holds.
    pub fn insert(&mut self, owner: SubcloudId, footprint: &Footprint) {
        for pool in footprint.link.iter().flat_map(|link| link.pools()) {
            self.link_subnets.insert(owner, pool.subnet);
            for range in &pool.ranges {
                let first = Point::of(range.first());
                self.ranges.insert((first, owner), Point::of(range.last()));
            }
        }
        for subnet in &footprint.oam_subnets {
            self.oam_subnets.insert(owner, *subnet);
        }
    }

    /// Takes away what [`AddressIndex::insert`] added for the same site.
    pub fn remove(&mut self, owner: SubcloudId, footprint: &Footprint) {
        for pool in footprint.link.iter().flat_map(|link| link.pools()) {
            self.link_subnets.remove(owner, pool.subnet);
            for range in &pool.ranges {
                self.ranges.remove(&(Point::of(range.first()), owner));
            }
        }
        for subnet in &footprint.oam_subnets {
            self.oam_subnets.remove(owner, *subnet);
        }
    }

    /// Who holds addresses of a range, the highest first. What begins at or before its end is
    /// walked downwards; the first range that ends before it tells that all others do too.
    pub fn overlapping(&self, range: &Range) -> impl Iterator<Item = SubcloudId> {
        let (first, last) = (Point::of(range.first()), Point::of(range.last()));
        self.ranges
            .range(..=(last, HIGHEST))
            .rev()
            .take_while(move |(_, end)| **end >= first)
            .map(|((_, owner), _)| *owner)
    }

    /// Whose link subnets meet a subnet, in either direction.
    pub fn link_subnets_meeting(&self, subnet: IpNet) -> impl Iterator<Item = SubcloudId> {
        self.link_subnets.meeting(subnet)
    }

    /// Whose oam subnets meet a subnet, in either direction.
    pub fn oam_subnets_meeting(&self, subnet: IpNet) -> impl Iterator<Item = SubcloudId> {
        self.oam_subnets.meeting(subnet)
    }
}

const HIGHEST: SubcloudId = SubcloudId(uuid::Uuid::max());

impl Subnets {
    fn insert(&mut self, owner: SubcloudId, subnet: IpNet) {
        let key = key(subnet);
        let owners = self.owners.entry(key).or_default();
        if owners.is_empty() {
            *self.lengths.entry((key.0.v6, key.1)).or_default() += 1;
        }
        owners.insert(owner);
    }

    fn remove(&mut self, owner: SubcloudId, subnet: IpNet) {
        let key = key(subnet);
        let Some(owners) = self.owners.get_mut(&key) else {
            return;
        };
        owners.remove(&owner);
        if !owners.is_empty() {
            return;
        }
        self.owners.remove(&key);
        if let Some(count) = self.lengths.get_mut(&(key.0.v6, key.1)) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&(key.0.v6, key.1));
            }
        }
    }

    /// The owners of every subnet that encloses, equals or lies inside `subnet`. An owner comes
    /// once for each of its subnets that do.
    fn meeting(&self, subnet: IpNet) -> impl Iterator<Item = SubcloudId> {
        let (start, length) = key(subnet);
        let end = Point::of(subnet.broadcast());
        let enclosing = self
            .lengths
            .range((start.v6, 0)..(start.v6, length))
            .filter_map(move |((_, shorter), _)| {
                let enclosing = IpNet::new(subnet.network(), *shorter).ok()?;
                self.owners.get(&key(enclosing))
            });
        let inside = self
            .owners
            .range((start, length)..=(end, u8::MAX))
            .map(|(_, owners)| owners);
        enclosing.chain(inside).flatten().copied()
    }
}

impl Point {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self {
                v6: false,
                bits: u128::from(address.to_bits()),
            },
            IpAddr::V6(address) => Self {
                v6: true,
                bits: address.to_bits(),
            },
        }
    }
}

fn key(subnet: IpNet) -> (Point, u8) {
    (Point::of(subnet.network()), subnet.prefix_len())
}
