//! Section 3: every operation with every reason in its order, from `refusals.txt`; every reason
//! of a change occurs there.

use std::collections::BTreeSet;

use site::{PoolId, PoolInput, RangeInput, Reason, ReasonSet as _, plan};

use crate::commands::{NOW, outcome, run};
use crate::fixture::{Fixture, id};

const TABLE: &str = include_str!("refusals.txt");

#[test]
fn every_operation_refuses_as_written() {
    for line in TABLE.lines().filter(|line| line.contains(" > ")) {
        let (request, want) = line.rsplit_once(" = ").expect("an outcome");
        let mut parts = request.split(" > ");
        let mut site = Fixture::of_words(parts.next().expect("a site")).site();
        let result = run(&mut site, &parts.collect::<Vec<_>>());
        assert_eq!(outcome(&result), want, "{request}");
        for violation in violations(&result) {
            assert!(!violation.message.is_empty(), "{request}");
            assert!(!violation.remedy.is_empty(), "{request}");
        }
    }
}

fn violations(result: &Result<site::Plan, site::Rejection>) -> &[site::Violation] {
    result
        .as_ref()
        .err()
        .map_or(&[], |rejection| rejection.violations())
}

#[test]
fn every_reason_is_in_the_table() {
    // What only others refuse with: a stale version of an object.
    let elsewhere = [Reason::EtagMismatch];
    let words: BTreeSet<&str> = TABLE.split([' ', ',', '@', '\n']).collect();
    for reason in Reason::ALL
        .iter()
        .filter(|reason| !elsewhere.contains(reason))
    {
        assert!(
            words.contains(reason.name()),
            "{} is not tried",
            reason.name()
        );
    }
}

/// What can be said of ranges and addresses is said also when their subnet is wrong.
#[test]
fn a_wrong_subnet_hides_no_other_fault() {
    let site = Fixture::default().site();
    let range = |first: &str, last: &str| RangeInput {
        first: first.into(),
        last: last.into(),
    };
    let pool = PoolInput {
        name: "p".into(),
        network: "fd77::".into(),
        prefix: 129,
        ranges: vec![range("fd77::9", "fd77::1"), range("10.0.0.1", "10.0.0.9")],
        floating_address: "fd77::2".into(),
        gateway_address: "fd77::2".into(),
        ..PoolInput::default()
    };
    let change = site::Change::AddPool {
        id: PoolId(id(7)),
        pool,
    };
    let result = plan(&site, change, NOW);
    let fields: Vec<_> = violations(&result)
        .iter()
        .map(|it| it.field.as_str())
        .collect();
    let all = [
        "prefix",
        "ranges[0]",
        "ranges[1].first",
        "ranges[1].last",
        "gateway_address",
    ];
    assert_eq!(fields, all);
    let change = site::Change::ModifyPool {
        pool: "oam-ipv4".into(),
        edit: site::PoolEdit {
            prefix: Some(33),
            ranges: Some(vec![range("10.10.10.9", "10.10.10.1")]),
            ..site::PoolEdit::default()
        },
    };
    let result = plan(&site, change, NOW);
    let fields: Vec<_> = violations(&result)
        .iter()
        .map(|it| it.field.as_str())
        .collect();
    assert_eq!(fields, ["prefix", "ranges[0]"]);
}

#[test]
fn a_pool_has_at_most_256_ranges() {
    let site = Fixture::default().site();
    let range = |n: u16| RangeInput {
        first: format!("10.{}.{}.1", n / 256, n % 256),
        last: format!("10.{}.{}.2", n / 256, n % 256),
    };
    for (count, want) in [(256, "ok"), (257, "INVALID_ARGUMENT@ranges")] {
        let pool = PoolInput {
            name: "p".into(),
            network: "10.0.0.0".into(),
            prefix: 8,
            ranges: (0..count).map(range).collect(),
            ..PoolInput::default()
        };
        let change = site::Change::AddPool {
            id: PoolId(id(7)),
            pool,
        };
        assert_eq!(outcome(&plan(&site, change, NOW)), want);
    }
}
