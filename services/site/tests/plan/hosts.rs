//! Target and applied configurations, reboots and alarm 250.001 over the life of a host.

use site::{Administrative, NetworkKind, Site};

use crate::commands::run;
use crate::fixture::{Fixture, simplex, standard};

/// Every host as `name target/applied`, with ` reboot` and ` alarm` where they apply.
fn hosts(site: &Site) -> String {
    let alarm = |name: &str| {
        let entity = format!("host={name}");
        site.alarms()
            .iter()
            .any(|alarm| alarm.id == "250.001" && alarm.entity == entity)
    };
    let hosts = site.hosts().map(|host| {
        let name = &host.hostname;
        let reboot = if host.reboot_required { " reboot" } else { "" };
        let locked = host.administrative == Administrative::Locked;
        let locked = if locked { " locked" } else { "" };
        let alarm = if alarm(name) { " alarm" } else { "" };
        format!(
            "{name} {}/{}{locked}{reboot}{alarm}",
            host.target.0, host.applied.0
        )
    });
    hosts.collect::<Vec<_>>().join(", ")
}

/// Applies each line and compares the hosts after it.
fn check(fixture: &Fixture, steps: &[(&str, &str)]) {
    let mut site = fixture.site();
    for (line, want) in steps {
        let plan = run(&mut site, &[line]).unwrap_or_else(|why| panic!("{line}: {why}"));
        plan.apply(&mut site);
        assert_eq!(hosts(&site), *want, "after {line}");
    }
}

#[test]
fn a_pending_reboot_survives_later_changes_at_run_time() {
    check(
        &simplex(),
        &[
            ("assign oam oam-ipv6", "controller-0 1/1"),
            ("lock controller-0", "controller-0 1/1 locked"),
            (
                "assign mgmt mgmt-ipv6",
                "controller-0 3/1 locked reboot alarm",
            ),
            (
                "assign admin admin-ipv6",
                "controller-0 4/1 locked reboot alarm",
            ),
            ("unlock controller-0", "controller-0 4/4"),
        ],
    );
}

#[test]
fn several_hosts_count_as_applied_what_they_report() {
    check(
        &Fixture::default(),
        &[
            (
                "assign oam oam-ipv6",
                "controller-0 1/0 reboot alarm, controller-1 1/0 reboot alarm",
            ),
            // Applied at run time, but the reboot is still due.
            (
                "assign admin admin-ipv6",
                "controller-0 2/0 reboot alarm, controller-1 2/0 reboot alarm",
            ),
            (
                "report controller-0 2",
                "controller-0 2/0 reboot alarm, controller-1 2/0 reboot alarm",
            ),
            (
                "lock controller-0",
                "controller-0 2/0 locked reboot alarm, controller-1 2/0 reboot alarm",
            ),
            (
                "unlock controller-0",
                "controller-0 2/0 alarm, controller-1 2/0 reboot alarm",
            ),
            (
                "report controller-0 1",
                "controller-0 2/1 alarm, controller-1 2/0 reboot alarm",
            ),
            (
                "report controller-0 2",
                "controller-0 2/2, controller-1 2/0 reboot alarm",
            ),
            (
                "report controller-0 1",
                "controller-0 2/2, controller-1 2/0 reboot alarm",
            ),
        ],
    );
}

#[test]
fn at_run_time_the_alarm_lasts_until_the_report() {
    check(
        &Fixture::default(),
        &[
            (
                "assign admin admin-ipv6",
                "controller-0 1/0 alarm, controller-1 1/0 alarm",
            ),
            (
                "report controller-1 1",
                "controller-0 1/0 alarm, controller-1 1/1",
            ),
            (
                "report controller-0 1",
                "controller-0 1/1, controller-1 1/1",
            ),
        ],
    );
}

#[test]
fn oam_leaves_workers_alone_and_mgmt_does_not() {
    let workers = "controller-0 1/0 reboot alarm, controller-1 1/0 reboot alarm, worker-0 0/0";
    check(&standard(), &[("assign oam oam-ipv6", workers)]);
    let all =
        "controller-0 1/0 reboot alarm, controller-1 1/0 reboot alarm, worker-0 1/0 reboot alarm";
    check(&standard(), &[("assign mgmt mgmt-ipv6", all)]);
}

#[test]
fn what_is_missing_for_dual_stack() {
    let mut site = Fixture::default().site();
    let mut missing = vec![
        NetworkKind::Oam,
        NetworkKind::ClusterHost,
        NetworkKind::ClusterPod,
        NetworkKind::ClusterService,
    ];
    assert_eq!(site.missing_for_dual_stack(), missing);
    for name in ["oam", "cluster-host", "cluster-pod", "cluster-service"] {
        let line = format!("assign {name} {name}-ipv6");
        run(&mut site, &[&line]).expect("accepted").apply(&mut site);
        missing.remove(0);
        assert_eq!(site.missing_for_dual_stack(), missing);
    }
}
