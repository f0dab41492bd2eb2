//! Random sequences of requests: the invariants hold after every accepted one, as a checker
//! finds that shares nothing with the rules; a refused one changes nothing.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use site::{DistributedCloudRole, Family, Generation, NetworkKind, Site, SystemMode, plan};

use crate::commands::{NOW, change};
use crate::fixture::{Fixture, pool_name, subnet};

/// How many requests one sequence has.
const STEPS: usize = 40;

/// 10,000 requests, or a million with `TANDEM_TEST_SCALE=full`.
fn sequences() -> u32 {
    match std::env::var("TANDEM_TEST_SCALE").as_deref() {
        Ok("full") => 25_000,
        _ => 250,
    }
}

fn runner() -> TestRunner {
    runner_of(sequences())
}

fn runner_of(cases: u32) -> TestRunner {
    let file = FileFailurePersistence::Direct("tests/plan/properties.regressions");
    TestRunner::new(Config {
        cases,
        failure_persistence: Some(Box::new(file)),
        ..Config::default()
    })
}

fn kinds() -> impl Strategy<Value = NetworkKind> {
    select(NetworkKind::ALL.to_vec())
}

fn families() -> impl Strategy<Value = Family> {
    select(vec![Family::Ipv4, Family::Ipv6])
}

prop_compose! {
    fn fixtures()(
        mode in select(vec![SystemMode::Simplex, SystemMode::Duplex]),
        role in select(vec![DistributedCloudRole::None, DistributedCloudRole::Subcloud]),
        workers in 0usize..3,
        primary in families(),
        dual in prop::bool::weighted(0.4),
        spare in any::<bool>(),
        complete in prop::bool::weighted(0.85),
        locked in any::<bool>(),
        more in prop::collection::btree_set(kinds(), 0..3),
    ) -> Fixture {
        let mut networks = Fixture::default().networks;
        let new = |kind: &NetworkKind| !Fixture::default().networks.contains(kind);
        networks.extend(more.into_iter().filter(new));
        Fixture {
            mode,
            role,
            workers,
            primary,
            dual: if dual { networks[1..].to_vec() } else { Vec::new() },
            networks,
            spare,
            complete,
            locked,
            ..Fixture::default()
        }
    }
}

/// The names of pools that sequences speak about: those of the fixture and a few new ones.
fn pools() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (kinds(), families()).prop_map(|(kind, family)| pool_name(kind, family)),
        2 => (0..4).prop_map(|n| format!("new-{n}")),
        1 => Just("nope".to_owned()),
    ]
}

/// An address of a network's subnet, mostly low so that requests collide.
fn addresses() -> impl Strategy<Value = String> {
    (kinds(), families(), 0u32..14).prop_map(|(kind, family, n)| {
        let (network, _) = subnet(kind, family);
        match family {
            Family::Ipv4 => format!("{}{n}", network.strip_suffix('0').unwrap_or(&network)),
            Family::Ipv6 => format!("{}{n:x}", network.trim_end_matches('0')),
        }
    })
}

fn add_pools() -> impl Strategy<Value = String> {
    let named = prop::collection::vec(
        (select(vec!["floating", "c0", "c1", "gateway"]), 1u32..9),
        0..4,
    );
    (0..4, kinds(), families(), named, 0u32..3).prop_map(|(n, kind, family, named, short)| {
        let (network, prefix) = subnet(kind, family);
        let base = match family {
            Family::Ipv4 => network.strip_suffix('0').unwrap_or(&network).to_owned(),
            Family::Ipv6 => network.trim_end_matches('0').to_owned(),
        };
        let named: String = named
            .iter()
            .map(|(role, n)| format!(" {role}={base}{n}"))
            .collect();
        let ranges = match short {
            0 => format!(" ranges={base}1-{base}5,{base}7-{base}9"),
            _ => String::new(),
        };
        format!("pool-add new-{n} {network}/{prefix}{named}{ranges}")
    })
}

fn requests() -> impl Strategy<Value = String> {
    let hosts = || select(vec!["controller-0", "controller-1", "worker-0"]);
    let roles = select(vec!["floating", "c0", "c1", "gateway"]);
    prop_oneof![
        4 => add_pools(),
        1 => (pools(), roles.clone())
            .prop_map(|(pool, role)| format!("pool-modify {pool} {role}=")),
        3 => (pools(), roles, addresses())
            .prop_map(|(pool, role, address)| format!("pool-modify {pool} {role}={address}")),
        1 => (pools(), addresses()).prop_map(|(pool, network)| {
            format!("pool-modify {pool} network={network} ranges= floating= c0= c1= gateway=")
        }),
        1 => (pools(), pools()).prop_map(|(pool, name)| format!("pool-modify {pool} name={name}")),
        2 => pools().prop_map(|pool| format!("pool-delete {pool}")),
        2 => (kinds(), pools())
            .prop_map(|(kind, pool)| format!("network-add {kind} {kind} dynamic {pool}")),
        1 => kinds().prop_map(|kind| format!("network-delete {kind}")),
        8 => (kinds(), pools()).prop_map(|(kind, pool)| format!("assign {kind} {pool}")),
        8 => (kinds(), families())
            .prop_map(|(kind, family)| format!("assign {kind} {}", pool_name(kind, family))),
        6 => (kinds(), families())
            .prop_map(|(kind, family)| format!("remove {kind} {}", pool_name(kind, family))),
        1 => (addresses(), addresses()).prop_map(|(one, two)| format!("dns-modify {one},{two}")),
        1 => addresses().prop_map(|address| format!("oam-modify oam_floating_ip={address}")),
        2 => hosts().prop_map(|host| format!("lock {host}")),
        3 => hosts().prop_map(|host| format!("unlock {host}")),
        2 => (hosts(), 0u32..STEPS_U32).prop_map(|(host, n)| format!("report {host} {n}")),
        1 => (0u32..3, 3u32..6).prop_map(|(link, oam)| {
            format!("controller 192.168.{link}.0/24 192.168.{oam}.0/24")
        }),
    ]
}

const STEPS_U32: u32 = 40;

/// One request: what must hold whatever it is. Answers whether it changed the site.
fn step(site: &mut Site, line: &str, number: u128) -> Result<bool, TestCaseError> {
    let before = site.clone();
    let preview = plan(site, change(line, number), NOW);
    let real = plan(site, change(line, number), NOW);
    prop_assert_eq!(&preview, &real, "preview and call differ: {}", line);
    prop_assert_eq!(&*site, &before);
    let planned = match real {
        Ok(planned) => planned,
        Err(rejection) => {
            let violations = rejection.violations();
            prop_assert!(!violations.is_empty(), "{}", line);
            for violation in violations {
                prop_assert!(!violation.message.is_empty(), "{}", line);
                prop_assert!(!violation.remedy.is_empty(), "{}", line);
            }
            return Ok(false);
        }
    };
    let changed = planned.changes_site();
    let raised = u64::from(changed);
    prop_assert_eq!(
        planned.next().generation(),
        Generation(before.generation().0 + raised)
    );
    for effect in planned.effects() {
        prop_assert!(!effect.to_string().is_empty() && !effect.kind().is_empty());
    }
    planned.apply(site);
    let again = Site::from_parts(site.to_parts());
    let again = again.map_err(|why| TestCaseError::fail(format!("after {line}: {why}")))?;
    prop_assert_eq!(&again, &*site, "after {}", line);
    prop_assert_eq!(again.digest(), site.digest());
    Ok(changed)
}

#[test]
fn invariants_hold_after_every_accepted_change() {
    let sequence = prop::collection::vec(requests(), STEPS);
    let changes = Cell::new(0);
    let result = runner().run(&(fixtures(), sequence), |(fixture, lines)| {
        let mut site = fixture.site();
        for (number, line) in (1u128..).zip(&lines) {
            let changed = step(&mut site, line, 10_000_000 + number * 100)?;
            changes.set(changes.get() + u32::from(changed));
        }
        Ok(())
    });
    result.unwrap_or_else(|why| panic!("{why}"));
    // Requests that are all refused would prove nothing.
    assert!(
        changes.get() > sequences() * 4,
        "only {} changes",
        changes.get()
    );
}

/// What `Site::from_parts` bounds, no plan passes: a site that is refused where it is read would
/// stand still after its next restart.
#[test]
fn no_accepted_change_leads_past_a_bound() {
    let growing = prop_oneof![
        3 => add_pools(),
        3 => (0u32..3, 3u32..6).prop_map(|(link, oam)| {
            format!("controller 192.168.{link}.0/24 192.168.{oam}.0/24")
        }),
        1 => (100u32..110).prop_map(|n| format!("pool-delete filler-{n}")),
        3 => requests(),
    ];
    let sequence = prop::collection::vec(growing, 12);
    let shapes = (fixtures(), 0usize..4, sequence);
    let result = runner_of(sequences() / 5).run(&shapes, |(fixture, room, lines)| {
        let mut site = Fixture {
            room: Some(room),
            role: DistributedCloudRole::Subcloud,
            ..fixture
        }
        .site();
        for (number, line) in (1u128..).zip(&lines) {
            step(&mut site, line, 10_000_000 + number * 100)?;
        }
        Ok(())
    });
    result.unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn assigning_again_gives_everyone_the_same_address() {
    let shapes = (fixtures(), 0usize..12, kinds());
    let result = runner().run(&shapes, |(fixture, workers, kind)| {
        let fixture = Fixture {
            workers,
            dual: Vec::new(),
            spare: true,
            locked: true,
            ..fixture
        };
        let mut site = fixture.site();
        let name = pool_name(kind, fixture.primary.other());
        let (assign, remove) = (
            format!("assign {kind} {name}"),
            format!("remove {kind} {name}"),
        );
        let oam = format!(
            "assign oam {}",
            pool_name(NetworkKind::Oam, fixture.primary.other())
        );
        if kind == NetworkKind::ClusterPod {
            plan(&site, change(&oam, 6_000_000), NOW)
                .expect("oam gets a secondary")
                .apply(&mut site);
        }
        let mut held = Vec::new();
        for (number, line) in (1u128..).zip([&assign, &remove, &assign]) {
            let Ok(planned) = plan(&site, change(line, 7_000_000 + number), NOW) else {
                // pxeboot, or a network that this site does not have.
                return Ok(());
            };
            planned.apply(&mut site);
            if let Some(pool) = site.find_pool(&name).filter(|_| line == &assign) {
                held.push((*pool.addresses(), pool.holders().clone()));
            }
        }
        prop_assert_eq!(held.len(), 2);
        prop_assert_eq!(&held[0], &held[1]);
        Ok(())
    });
    result.unwrap_or_else(|why| panic!("{why}"));
}
