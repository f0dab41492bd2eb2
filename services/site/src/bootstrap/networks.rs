//! One network of the file: its subnets, and the addresses in them.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::declared::{DeclaredNetwork, DeclaredPool};
use super::fault::FaultReason;
use super::findings::Findings;
use super::install::MULTICAST_SERVICES;
use super::values::{Placed, Reader, Slot, Values};
use super::variables::{Field, Section};
use crate::address::{default_range, successor};
use crate::{AddressRole, Addresses, Family, NetworkKind, Range as AddressRange, SystemMode};

/// What the file says about one network.
pub(super) struct Written {
    pub(super) section: &'static Section,
    pub(super) subnets: Slot<Values<IpNet>>,
    fields: Vec<(Field, Slot<Values<IpAddr>>)>,
    pub(super) dynamic: Slot<Placed<bool>>,
}

/// The subnets of a network, from the file or by default.
pub(super) struct Subnets {
    pub(super) section: &'static Section,
    pub(super) items: Vec<Subnet>,
    /// Whether their number and order mean something.
    pub(super) sound: bool,
    /// The whole value; `None` for a default.
    pub(super) span: Option<Range<usize>>,
}

/// One subnet; a default one has no place in the file.
#[derive(Clone)]
pub(super) struct Subnet {
    pub(super) value: IpNet,
    pub(super) span: Option<Range<usize>>,
}

impl Subnet {
    pub(super) fn family(&self) -> Family {
        Family::of_subnet(self.value)
    }
}

impl Written {
    /// Takes the variables of a network.
    pub(super) fn read(section: &'static Section, reader: &mut Reader<'_, '_>) -> Self {
        let booleans = [
            ("true", true),
            ("false", false),
            ("yes", true),
            ("no", false),
        ];
        Self {
            section,
            subnets: reader.subnets(&section.subnet()),
            fields: section
                .fields()
                .map(|field| (field, reader.addresses(&section.variable(field))))
                .collect(),
            dynamic: reader.choice(&section.dynamic_variable(), &booleans),
        }
    }

    pub(super) fn field(&self, field: Field) -> &Slot<Values<IpAddr>> {
        let found = self.fields.iter().find(|(name, _)| *name == field);
        found.map_or(&Slot::Absent, |(_, slot)| slot)
    }

    /// The fields that the file has, right or wrong.
    pub(super) fn mentioned(&self) -> impl Iterator<Item = Field> {
        self.fields
            .iter()
            .filter(|(_, slot)| !slot.is_absent())
            .map(|(field, _)| *field)
    }

    /// The place of the first variable of this network that can be shown.
    pub(super) fn place(&self) -> Option<Range<usize>> {
        let subnets = self.subnets.given().map(|values| values.span.clone());
        let fields = self.fields.iter().filter_map(|(_, slot)| slot.given());
        subnets.or_else(|| fields.map(|values| values.span.clone()).next())
    }

    /// Checks the addresses against the subnets. `None` when a fault leaves a pool without a
    /// range or a mandatory address.
    pub(super) fn declare(
        &self,
        subnets: &Subnets,
        mode: SystemMode,
        findings: &mut Findings<'_>,
    ) -> Option<DeclaredNetwork> {
        let before = findings.faults.len();
        let usable = self.matching_fields(subnets, findings);
        let mut pools = Vec::new();
        for (index, subnet) in subnets.items.iter().enumerate() {
            let mut pool = PoolReading {
                section: self.section,
                subnet,
                fields: usable
                    .iter()
                    .filter_map(|values| {
                        let (field, values) = values;
                        Some((*field, values.items.get(index)?.clone()))
                    })
                    .collect(),
                mode,
                findings,
            };
            pools.extend(pool.declare());
        }
        let whole = findings.faults.len() == before && pools.len() == subnets.items.len();
        let missing = self
            .fields
            .iter()
            .any(|(_, slot)| matches!(slot, Slot::Faulty));
        if !whole || missing || !subnets.sound {
            return None;
        }
        let mut pools = pools.into_iter();
        Some(DeclaredNetwork {
            kind: self.section.kind,
            dynamic: self
                .dynamic
                .given()
                .map_or(self.section.dynamic, |placed| placed.value),
            primary: pools.next()?,
            secondary: pools.next(),
        })
    }

    /// The fields whose addresses pair with the subnets one by one (N4, N5).
    fn matching_fields<'s>(
        &'s self,
        subnets: &Subnets,
        findings: &mut Findings<'_>,
    ) -> Vec<(Field, &'s Values<IpAddr>)> {
        let mut usable = Vec::new();
        for (field, slot) in &self.fields {
            let Some(values) = slot.given().filter(|values| values.sound && subnets.sound) else {
                continue;
            };
            let families = |family: &dyn Fn(usize) -> Option<Family>| {
                (0..2)
                    .map_while(family)
                    .map(|f| f.to_string())
                    .collect::<Vec<_>>()
                    .join(",")
            };
            let wanted = families(&|index| subnets.items.get(index).map(Subnet::family));
            let written =
                families(&|index| values.items.get(index).map(|item| Family::of(item.value)));
            if wanted == written {
                usable.push((*field, values));
                continue;
            }
            let variable = self.section.subnet();
            let origin = match &subnets.span {
                Some(_) => "",
                None => " by default",
            };
            let (count, needed) = (values.items.len(), subnets.items.len());
            let (reason, difference) = if count == needed {
                let difference = format!("is {written}, but {variable} is {wanted}{origin}");
                (FaultReason::FamilyOrderDiffers, difference)
            } else {
                let count = counted(count);
                let difference = format!("has {count}, but {variable} has {needed}{origin}");
                (FaultReason::CountDiffers, difference)
            };
            let mut places = vec![(values.span.clone(), written.as_str())];
            if let Some(span) = &subnets.span {
                places.push((span.clone(), wanted.as_str()));
            }
            findings.fault(
                reason,
                &values.variable,
                format!("{} {difference}", values.variable),
                "give one address per subnet, in the order of the subnets",
                &places,
            );
        }
        usable
    }
}

/// The addresses of one pool while they are checked.
struct PoolReading<'p, 'f, 'a> {
    section: &'static Section,
    subnet: &'p Subnet,
    fields: Vec<(Field, Placed<IpAddr>)>,
    mode: SystemMode,
    findings: &'f mut Findings<'a>,
}

impl PoolReading<'_, '_, '_> {
    fn declare(&mut self) -> Option<DeclaredPool> {
        let before = self.findings.faults.len();
        self.refuse_foreign();
        let range = self.range()?;
        self.refuse_outside(range);
        self.refuse_equal();
        self.refuse_gateway(range);
        if self.findings.faults.len() > before {
            return None;
        }
        let addresses = self.allocate(range)?;
        Some(DeclaredPool {
            subnet: self.subnet.value,
            range,
            addresses,
        })
    }

    fn get(&self, field: Field) -> Option<&Placed<IpAddr>> {
        self.fields
            .iter()
            .find(|(name, _)| *name == field)
            .map(|(_, item)| item)
    }

    fn tell(
        &mut self,
        reason: FaultReason,
        field: Field,
        message: String,
        remedy: &str,
        places: &[(Range<usize>, &str)],
    ) {
        let variable = self.section.variable(field);
        self.findings
            .fault(reason, &variable, message, remedy, places);
    }

    /// I4: in the subnet, and neither its network address nor its IPv4 broadcast (N6, N7).
    fn refuse_foreign(&mut self) {
        let subnet = self.subnet.value;
        for (field, item) in self.fields.clone() {
            let address = item.value;
            let variable = self.section.variable(field);
            let broadcast = address.is_ipv4() && address == subnet.broadcast();
            let (reason, what) = if !subnet.contains(&address) {
                (FaultReason::AddressOutsideSubnet, "is outside the subnet")
            } else if address == subnet.network() {
                (FaultReason::AddressReserved, "is the network address of")
            } else if broadcast {
                (FaultReason::AddressReserved, "is the broadcast address of")
            } else {
                continue;
            };
            let mut places = vec![(item.span, what)];
            if let Some(span) = &self.subnet.span {
                places.push((span.clone(), "the subnet"));
            }
            let message = format!("{variable}: {address} {what} {subnet}");
            self.tell(
                reason,
                field,
                message,
                "write a host address of the subnet",
                &places,
            );
        }
    }

    /// From the start to the end address; the documented defaults are the first host and the
    /// last address but one (N10).
    fn range(&mut self) -> Option<AddressRange> {
        let default = default_range(self.subnet.value)?;
        let start = self.get(Field::Start).cloned();
        let end = self.get(Field::End).cloned();
        let first = start.as_ref().map_or(default.first(), |item| item.value);
        let last = end.as_ref().map_or(default.last(), |item| item.value);
        // A start that was moved to the very last IPv6 address is a range of its own.
        let last = if end.is_none() { last.max(first) } else { last };
        let range = AddressRange::new(first, last);
        if range.is_none() {
            let mut places = Vec::new();
            places.extend(end.map(|item| (item.span, "ends here")));
            places.extend(start.map(|item| (item.span, "starts here")));
            let message = format!(
                "{}: the range {first}-{last} is reversed",
                self.section.prefix
            );
            let remedy = "write the lowest address as start and the highest as end";
            self.tell(
                FaultReason::RangeReversed,
                Field::End,
                message,
                remedy,
                &places,
            );
        }
        range
    }

    /// The addresses that move or belong to a controller lie in the written range. Without
    /// one, the last IPv6 address of the subnet is fine as well.
    fn refuse_outside(&mut self, range: AddressRange) {
        let written: Vec<_> = [Field::Start, Field::End]
            .into_iter()
            .filter_map(|field| Some((self.get(field)?.span.clone(), "the range")))
            .collect();
        if written.is_empty() {
            return;
        }
        for field in [Field::Floating, Field::Node0, Field::Node1] {
            let Some(item) = self.get(field).cloned() else {
                continue;
            };
            if range.contains(item.value) || !self.subnet.value.contains(&item.value) {
                continue;
            }
            let variable = self.section.variable(field);
            let message = format!("{variable}: {} is outside the range {range}", item.value);
            let mut places = vec![(item.span, "outside the range")];
            places.extend(written.iter().cloned());
            let remedy = "write an address of the range, or widen the range";
            self.tell(
                FaultReason::AddressOutsideRange,
                field,
                message,
                remedy,
                &places,
            );
        }
    }

    /// I4: the named addresses differ from each other.
    fn refuse_equal(&mut self) {
        let named = [Field::Floating, Field::Node0, Field::Node1, Field::Gateway];
        for (index, later) in named.into_iter().enumerate() {
            for earlier in named.into_iter().take(index) {
                let (Some(first), Some(second)) = (self.get(earlier), self.get(later)) else {
                    continue;
                };
                if first.value != second.value {
                    continue;
                }
                let places = [
                    (second.span.clone(), "the same address"),
                    (first.span.clone(), "taken here"),
                ];
                let message = format!(
                    "{} and {} are both {}",
                    self.section.variable(later),
                    self.section.variable(earlier),
                    first.value
                );
                let remedy = "give each its own address";
                self.tell(FaultReason::AddressTwice, later, message, remedy, &places);
            }
        }
    }

    /// On a network that can link sites, the range is for hosts: the router is not in it (N13).
    /// Judged only where both ends are written; a default range spans the whole subnet, and
    /// there the gateway is simply not given out.
    fn refuse_gateway(&mut self, range: AddressRange) {
        if !matches!(self.section.kind, NetworkKind::Mgmt | NetworkKind::Admin) {
            return;
        }
        let (Some(gateway), Some(start), Some(end)) = (
            self.get(Field::Gateway),
            self.get(Field::Start),
            self.get(Field::End),
        ) else {
            return;
        };
        if !range.contains(gateway.value) {
            return;
        }
        let places = [
            (gateway.span.clone(), "inside the range"),
            (start.span.clone(), "the range starts here"),
            (end.span.clone(), "and ends here"),
        ];
        let variable = self.section.variable(Field::Gateway);
        let message = format!("{variable}: {} lies in the range {range}", gateway.value);
        let remedy = "move the gateway out of the range, or let the range start after it";
        self.tell(
            FaultReason::GatewayInRange,
            Field::Gateway,
            message,
            remedy,
            &places,
        );
    }

    /// The named addresses of the pool: the lowest free ones where the file has none.
    fn allocate(&mut self, range: AddressRange) -> Option<Addresses> {
        let value = |field| self.get(field).map(|item| item.value);
        let mut addresses = Addresses {
            floating: value(Field::Floating),
            controller0: None,
            controller1: None,
            gateway: value(Field::Gateway),
        };
        if self.section.kind == NetworkKind::Oam {
            return self.oam_nodes(addresses);
        }
        let mut wanted = Vec::new();
        if self.section.gives_controllers_addresses() {
            wanted.push(AddressRole::Floating);
            if self.mode != SystemMode::Simplex {
                wanted.extend([AddressRole::Controller0, AddressRole::Controller1]);
            }
        }
        let mut taken: Vec<_> = addresses.iter().map(|(_, address)| address).collect();
        for role in wanted {
            if addresses.get(role).is_some() {
                continue;
            }
            let Some(free) = lowest_free(range, &taken) else {
                self.tell_exhausted(range, "the floating address and those of the controllers");
                return None;
            };
            taken.push(free);
            match role {
                AddressRole::Floating => addresses.floating = Some(free),
                AddressRole::Controller0 => addresses.controller0 = Some(free),
                AddressRole::Controller1 => addresses.controller1 = Some(free),
                AddressRole::Gateway => addresses.gateway = Some(free),
            }
        }
        if self.section.kind == NetworkKind::Multicast {
            for _ in MULTICAST_SERVICES {
                let Some(free) = lowest_free(range, &taken) else {
                    self.tell_exhausted(range, "the four service addresses");
                    return None;
                };
                taken.push(free);
            }
        }
        Some(addresses)
    }

    fn tell_exhausted(&mut self, range: AddressRange, what: &str) {
        let places: Vec<_> = [(Field::End, "the range ends"), (Field::Start, "and starts")]
            .into_iter()
            .filter_map(|(field, label)| Some((self.get(field)?.span.clone(), label)))
            .collect();
        // A default range is exhausted only in a subnet that is too small, which is told.
        if places.is_empty() {
            return;
        }
        let message = format!(
            "{}: the range {range} has no room for {what}",
            self.section.prefix
        );
        let remedy = "widen the range";
        self.tell(
            FaultReason::RangeTooSmall,
            Field::End,
            message,
            remedy,
            &places,
        );
    }

    /// The nodes of oam: floating + 1 and + 2 unless written. Simplex has the floating address
    /// only.
    fn oam_nodes(&mut self, mut addresses: Addresses) -> Option<Addresses> {
        let floating = addresses.floating?;
        if self.mode == SystemMode::Simplex {
            return Some(addresses);
        }
        let next = successor(floating);
        let defaults = [
            (Field::Node0, next),
            (Field::Node1, next.and_then(successor)),
        ];
        for (field, default) in defaults {
            let written = self.get(field).map(|item| item.value);
            let named = [addresses.controller0, addresses.gateway];
            let other = self.get(Field::Node1).map(|item| item.value);
            let fits = default.filter(|address| {
                let last = self.get(Field::End).map(|item| item.value);
                usable(self.subnet.value, *address)
                    && !named.contains(&Some(*address))
                    && (field == Field::Node1 || other != Some(*address))
                    && last.is_none_or(|last| *address <= last)
            });
            let Some(address) = written.or(fits) else {
                let variable = self.section.variable(field);
                let places: Vec<_> = self
                    .get(Field::Floating)
                    .map(|item| (item.span.clone(), "its default follows this address"))
                    .into_iter()
                    .collect();
                let message = format!("{variable} is missing, and its default is not free");
                let reason = FaultReason::Site(crate::Reason::AddressRequired);
                self.tell(
                    reason,
                    field,
                    message,
                    "write the address of the node",
                    &places,
                );
                return None;
            };
            match field {
                Field::Node0 => addresses.controller0 = Some(address),
                _ => addresses.controller1 = Some(address),
            }
        }
        Some(addresses)
    }
}

fn counted(count: usize) -> String {
    if count == 1 {
        "1 value".into()
    } else {
        format!("{count} values")
    }
}

/// Whether a host of the subnet can have this address.
fn usable(subnet: IpNet, address: IpAddr) -> bool {
    crate::address::unusable(subnet, address).is_none()
}

/// The lowest address of the range that is not taken. Only few are, so the search is short.
fn lowest_free(range: AddressRange, taken: &[IpAddr]) -> Option<IpAddr> {
    let mut candidate = range.first();
    while taken.contains(&candidate) {
        candidate = successor(candidate)?;
    }
    range.contains(candidate).then_some(candidate)
}
