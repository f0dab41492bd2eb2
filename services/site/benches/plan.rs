//! What one change costs, and what it costs to find a free address in a full pool.
//!
//! The targets: one change on a site of 12 networks and 24 pools in less than 20 us; the lowest
//! free address among 100,000 allocated ones in logarithmic time, held against a linear scan.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use site::{NetworkKind, Pool, Site, plan};

#[path = "../tests/plan/commands.rs"]
#[expect(dead_code, reason = "benches use a part of what the tests use")]
mod commands;
#[path = "../tests/plan/fixture.rs"]
#[expect(dead_code, reason = "benches use a part of what the tests use")]
mod fixture;

/// How many addresses the full pool has allocated.
const ALLOCATED: u128 = 100_000;

/// A site with every network and two pools for each.
fn large_site() -> Site {
    let fixture = fixture::Fixture {
        networks: NetworkKind::ALL.to_vec(),
        dual: NetworkKind::ALL[1..NetworkKind::ALL.len() - 2].to_vec(),
        ..fixture::standard()
    };
    let mut site = fixture.site();
    let spare = commands::run(&mut site, &["pool-add spare 10.77.0.0/24"]);
    spare.expect("a spare pool").apply(&mut site);
    assert_eq!((site.networks().count(), site.pools().count()), (12, 24));
    site
}

fn changes(criterion: &mut Criterion) {
    let site = large_site();
    let assign = "assign system-controller system-controller-ipv6";
    let mut group = criterion.benchmark_group("plan");
    for line in [
        assign,
        "remove admin admin-ipv6",
        "pool-modify oam-ipv4 floating=10.2.0.50",
        "pool-add p fd77::/64 floating=fd77::2",
        "assign oam oam-ipv6",
    ] {
        group.bench_function(line, |bencher| {
            bencher.iter(|| plan(black_box(&site), commands::change(line, 9), commands::NOW));
        });
    }
    group.finish();
}

/// A multicast pool with 100,000 holders and a gap in the last place.
fn full_pool() -> Pool {
    let fixture = fixture::Fixture {
        networks: vec![NetworkKind::Mgmt, NetworkKind::Multicast],
        primary: site::Family::Ipv6,
        ..fixture::Fixture::default()
    };
    let mut parts = fixture.site().to_parts();
    let pool = parts
        .pools
        .iter_mut()
        .find(|pool| pool.name == "multicast-ipv6");
    let pool = pool.expect("a pool of the fixture");
    pool.subnet = "ff08::/64".parse().expect("a subnet");
    let first = u128::from_be_bytes([0xff, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let address = |number: u128| IpAddr::V6(Ipv6Addr::from_bits(first + number));
    pool.ranges = vec![(address(0), address(2 * ALLOCATED))];
    let holders = (0..ALLOCATED).map(|number| (address(number), format!("holder-{number}")));
    pool.holders = holders.collect::<BTreeMap<_, _>>();
    let id = pool.id;
    let site = Site::from_parts(parts).expect("a sound site");
    site.pool(id).expect("the pool").clone()
}

/// What a plain search does: every address from the start of the ranges on.
fn linear(pool: &Pool) -> Option<IpAddr> {
    let next = |address: &IpAddr| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            let next = address.to_bits().checked_add(1)?;
            Some(IpAddr::V6(Ipv6Addr::from_bits(next)))
        }
    };
    let all = |range: &site::Range| {
        let last = range.last();
        std::iter::successors(Some(range.first()), next).take_while(move |at| *at <= last)
    };
    let mut candidates = pool.ranges().iter().flat_map(all);
    candidates.find(|at| !pool.holders().contains_key(at) && pool.role_of(*at).is_none())
}

fn lowest_free(criterion: &mut Criterion) {
    let pool = full_pool();
    assert_eq!(pool.lowest_free(), linear(&pool));
    let mut group = criterion.benchmark_group("lowest free of 100,000");
    group.bench_function("intervals", |bencher| {
        bencher.iter(|| black_box(&pool).lowest_free())
    });
    group.bench_function("linear scan", |bencher| {
        bencher.iter(|| linear(black_box(&pool)))
    });
    group.finish();
}

criterion_group!(benches, changes, lowest_free);
criterion_main!(benches);
