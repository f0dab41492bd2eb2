//! What admission costs in a large fleet, beside a linear scan of the same sites.

use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fleet::admission::{ControllerView, Occasion, admit};
use fleet::{
    Candidate, Enrollment, Fleet, Footprint, LinkNetwork, LinkPool, Management, Pending,
    SecretHash, Subcloud, SubcloudId, Token, TokenId,
};
use ipnet::IpNet;
use site::{NetworkKind, Range, Timestamp};
use uuid::Uuid;

/// The subnet of a site, of either family; sites have their own.
fn pool(v6: bool, number: u32) -> LinkPool {
    let (base, length) = if v6 {
        let bits = (0xfd01_u128 << 112) | (u128::from(number) << 64);
        (IpAddr::V6(Ipv6Addr::from(bits)), 64)
    } else {
        (IpAddr::V4((0x0a00_0000 | (number << 6)).into()), 26)
    };
    let subnet = IpNet::new(base, length).expect("a length");
    let next = |by: u32| match base {
        IpAddr::V4(base) => IpAddr::V4((base.to_bits() + by).into()),
        IpAddr::V6(base) => IpAddr::V6((base.to_bits() + u128::from(by)).into()),
    };
    LinkPool {
        name: "management".to_owned(),
        subnet,
        ranges: Range::new(next(2), next(40)).into_iter().collect(),
        floating: Some(next(2)),
    }
}

fn footprint(number: u32) -> Footprint {
    Footprint {
        name: format!("subcloud-{number}"),
        region_name: format!("region-{number}"),
        software_version: "24.09".parse().expect("a version"),
        link: Some(LinkNetwork {
            kind: NetworkKind::Mgmt,
            primary: pool(true, number),
            secondary: Some(pool(false, number)),
        }),
        oam_subnets: vec!["2001:db8::/64".parse().expect("a subnet")],
        dual_stack: vec![NetworkKind::Mgmt],
        systemcontroller_gateways: Vec::new(),
    }
}

fn fleet_of(count: u32) -> Fleet {
    let Footprint {
        name,
        region_name,
        link,
        ..
    } = footprint(200_000);
    let controller = ControllerView {
        name,
        region_name,
        link,
        oam_subnets: vec!["2001:db8:1::/64".parse().expect("a subnet")],
    };
    let mut fleet = Fleet::new(controller, 1_000_000);
    for number in 0..count {
        fleet.put(Arc::new(Subcloud {
            id: SubcloudId(Uuid::from_u128(u128::from(number))),
            name: format!("subcloud-{number}"),
            description: String::new(),
            location: String::new(),
            group: fleet::GroupId::DEFAULT,
            management: Management::Unmanaged,
            enrollment: Enrollment::Pending(Pending {
                token: Token {
                    id: TokenId(Uuid::from_u128(u128::from(number))),
                    secret: SecretHash([0; 32]),
                    issued_at: Timestamp(0),
                    expires_at: Timestamp(0),
                },
                declared: Some(Box::new(footprint(number))),
            }),
            observed: None,
            refused: None,
            geo: fleet::Geo::default(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }));
    }
    fleet
}

/// The plainest way: compare with every site.
fn scan(fleet: &Fleet, candidate: &Footprint) -> bool {
    fleet
        .subclouds()
        .filter_map(|subcloud| subcloud.footprint())
        .any(|other| collide(candidate, other) || oam_meets_link(other, candidate))
}

fn pools(footprint: &Footprint) -> impl Iterator<Item = &LinkPool> {
    footprint.link.iter().flat_map(LinkNetwork::pools)
}

fn collide(one: &Footprint, other: &Footprint) -> bool {
    let ranges = |footprint| pools(footprint).flat_map(|pool| &pool.ranges);
    ranges(one).any(|range| ranges(other).any(|theirs| theirs.overlaps(range)))
        || oam_meets_link(one, other)
}

fn oam_meets_link(one: &Footprint, other: &Footprint) -> bool {
    let meet = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
    one.oam_subnets
        .iter()
        .any(|oam| pools(other).any(|pool| meet(oam, &pool.subnet)))
}

fn admission(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admission");
    for count in [1_000, 100_000] {
        let fleet = fleet_of(count);
        let newcomer = Candidate::declared(footprint(150_000));
        let name = newcomer.footprint.name.clone();
        group.bench_function(BenchmarkId::new("admit", count), |bencher| {
            bencher.iter(|| {
                let occasion = Occasion::Declaration { name: &name };
                black_box(admit(&fleet, black_box(&newcomer), occasion)).is_ok()
            });
        });
        group.bench_function(BenchmarkId::new("linear scan", count), |bencher| {
            bencher.iter(|| scan(&fleet, black_box(&newcomer.footprint)));
        });
    }
    group.finish();
}

criterion_group!(benches, admission);
criterion_main!(benches);
