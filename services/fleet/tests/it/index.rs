//! The address index against the plainest model: comparing everything with everything.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use fleet::index::AddressIndex;
use fleet::{Footprint, LinkNetwork, LinkPool, SubcloudId};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use site::{NetworkKind, Range};
use uuid::Uuid;

/// A small world, so that collisions are common: 256 addresses of each family.
fn address(v6: bool, low: u8) -> IpAddr {
    if v6 {
        IpAddr::V6(u128::from(low).into())
    } else {
        IpAddr::V4(Ipv4Addr::from(u32::from(low)))
    }
}

fn subnet() -> impl Strategy<Value = IpNet> {
    (any::<bool>(), any::<u8>(), 0..=8_u8).prop_map(|(v6, low, wide)| match address(v6, low) {
        IpAddr::V4(address) => {
            IpNet::V4(Ipv4Net::new(address, 32 - wide).expect("a length").trunc())
        }
        IpAddr::V6(address) => {
            IpNet::V6(Ipv6Net::new(address, 128 - wide).expect("a length").trunc())
        }
    })
}

fn footprint() -> impl Strategy<Value = Footprint> {
    let pools = prop::collection::vec(subnet(), 1..=2);
    (pools, prop::collection::vec(subnet(), 0..=2)).prop_map(|(pools, oam_subnets)| {
        // One range each, the whole subnet: the fleet below keeps only disjoint ones.
        let mut pools = pools.into_iter().map(|subnet| LinkPool {
            name: String::new(),
            subnet,
            ranges: Range::new(subnet.network(), subnet.broadcast())
                .into_iter()
                .collect(),
            floating: None,
        });
        let primary = pools.next().expect("at least one");
        Footprint {
            name: String::new(),
            region_name: String::new(),
            software_version: "24.09".parse().expect("a version"),
            link: Some(LinkNetwork {
                kind: NetworkKind::Mgmt,
                primary,
                secondary: pools.next(),
            }),
            oam_subnets,
            dual_stack: Vec::new(),
            systemcontroller_gateways: Vec::new(),
        }
    })
}

fn pools(footprint: &Footprint) -> impl Iterator<Item = &LinkPool> {
    footprint.link.iter().flat_map(LinkNetwork::pools)
}

fn ranges(footprint: &Footprint) -> impl Iterator<Item = &Range> {
    pools(footprint).flat_map(|pool| &pool.ranges)
}

fn meet(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn overlap(one: &Footprint, other: &Footprint) -> bool {
    ranges(one).any(|range| ranges(other).any(|theirs| range.overlaps(theirs)))
}

fn id(number: usize) -> SubcloudId {
    SubcloudId(Uuid::from_u128(u128::try_from(number).expect("small")))
}

type Held = Vec<(SubcloudId, Footprint)>;

fn owners(held: &Held, meets: impl Fn(&Footprint) -> bool) -> BTreeSet<SubcloudId> {
    held.iter()
        .filter(|(_, footprint)| meets(footprint))
        .map(|(id, _)| *id)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_comparing_everything(
        sites in prop::collection::vec((footprint(), any::<bool>()), 0..12),
        asked in footprint(),
    ) {
        let mut index = AddressIndex::default();
        let mut held: Held = Vec::new();
        for (number, (footprint, leaves)) in sites.into_iter().enumerate() {
            let own: Vec<&Range> = ranges(&footprint).collect();
            let crossed = own.len() == 2 && own[0].overlaps(own[1]);
            if crossed || held.iter().any(|(_, other)| overlap(other, &footprint)) {
                continue;
            }
            index.insert(id(number), &footprint);
            held.push((id(number), footprint));
            if leaves {
                let (leaver, footprint) = held.remove(0);
                index.remove(leaver, &footprint);
            }
        }
        for pool in pools(&asked) {
            for range in &pool.ranges {
                let found: BTreeSet<_> = index.overlapping(range).collect();
                let clashes =
                    |other: &Footprint| ranges(other).any(|theirs| theirs.overlaps(range));
                prop_assert_eq!(found, owners(&held, clashes));
            }
            let found: BTreeSet<_> = index.link_subnets_meeting(pool.subnet).collect();
            let subnet = &pool.subnet;
            let by_link =
                |other: &Footprint| pools(other).any(|their| meet(&their.subnet, subnet));
            prop_assert_eq!(found, owners(&held, by_link));
            let found: BTreeSet<_> = index.oam_subnets_meeting(pool.subnet).collect();
            let by_oam =
                |other: &Footprint| other.oam_subnets.iter().any(|oam| meet(oam, &pool.subnet));
            prop_assert_eq!(found, owners(&held, by_oam));
        }
        // What came and went leaves nothing behind.
        for (leaver, footprint) in &held {
            index.remove(*leaver, footprint);
        }
        prop_assert_eq!(format!("{index:?}"), format!("{:?}", AddressIndex::default()));
    }
}
