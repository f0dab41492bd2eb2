//! `system …`: tables, requests, previews.

use tandem_cli::Exit;

use crate::daemon::Daemon;
use crate::run::{check, run, run_at};

#[test]
fn networks() {
    check(
        "networks",
        &[
            "tandem system network-list",
            "tandem system network-show oam",
            "tandem system network-add admin admin True management-ipv6",
            "tandem system network-add admin admin true management-ipv6 --dry-run",
            "tandem system network-delete oam",
            "tandem system network-delete oam --dry-run",
        ],
    );
}

#[test]
fn address_pools() {
    check(
        "address-pools",
        &[
            "tandem system addrpool-list",
            "tandem system addrpool-show oam-ipv4",
            "tandem system addrpool-add new 10.9.0.0 24 --gateway-address 10.9.0.1 \
             --ranges 10.9.0.1-10.9.0.9,10.9.0.20-10.9.0.30",
            "tandem system addrpool-add new 10.9.0.0 24 --dry-run",
            "tandem system addrpool-modify oam-ipv4 --gateway-address none",
            "tandem system addrpool-delete oam-ipv4",
        ],
    );
}

#[test]
fn associations() {
    check(
        "associations",
        &[
            "tandem system network-addrpool-list",
            "tandem system network-addrpool-show oam oam-ipv4",
            "tandem system network-addrpool-assign oam oam-ipv4",
            "tandem system network-addrpool-assign oam oam-ipv4 --dry-run --format json",
            "tandem system network-addrpool-remove cccccccc-0000-4000-8000-000000000002",
        ],
    );
}

#[test]
fn the_rest_of_a_site() {
    check(
        "site",
        &[
            "tandem system site-show",
            "tandem system host-list",
            "tandem system host-lock controller-1",
            "tandem system host-report controller-1",
            "tandem system alarm-list",
            "tandem system dns-show",
            "tandem system dns-modify nameservers=fd00::53,10.20.5.53",
            "tandem system kubernetes-show",
            "tandem system oam-show",
            "tandem system oam-modify oam_gateway_ip=fd00::1 --dry-run",
        ],
    );
}

/// The guide's way to find an association: `awk '$6 == "oam-ipv4" { print $2 }'`.
#[test]
fn the_awk_line_of_the_guide_finds_the_uuid() {
    let table = run("system network-addrpool-list").stdout;
    let field = |line: &str, n: usize| line.split_whitespace().nth(n - 1).map(str::to_owned);
    let of_oam = |line: &&str| field(line, 6).as_deref() == Some("oam-ipv4");
    let found: Vec<_> = table
        .lines()
        .filter(of_oam)
        .map(|line| field(line, 2))
        .collect();
    let uuid = "cccccccc-0000-4000-8000-000000000002";
    assert_eq!(found, [Some(uuid.to_owned())], "{table}");
}

/// The request that a line makes, as the daemon got it.
fn check_request(line: &str, parts: &[&str]) {
    let daemon = Daemon::start();
    let outcome = run_at(&daemon.endpoint(), line);
    let request = daemon.last_request();
    assert_eq!(outcome.exit, Exit::Success, "{line}: {}", outcome.stderr);
    for part in parts {
        assert!(request.contains(part), "{line}: {part} is not in {request}");
    }
}

#[test]
fn a_mask_names_exactly_what_is_given_and_clears_what_is_none() {
    check_request(
        "system addrpool-modify --floating-address NONE oam-ipv4 --gateway-address 10.20.5.1",
        &[
            r#"target: "oam-ipv4""#,
            r#"paths: ["floating_address", "gateway_address"]"#,
            r#"floating_address: """#,
            r#"gateway_address: "10.20.5.1""#,
        ],
    );
    for word in [
        "none",
        "null",
        "undefined",
        "unspecified",
        "nothing",
        "empty",
    ] {
        let line = format!("system addrpool-modify oam-ipv4 --controller0-address {word}");
        let paths = r#"paths: ["controller0_address"]"#;
        check_request(&line, &[paths, r#"controller0_address: """#]);
    }
}

#[test]
fn the_lines_of_the_guide_become_these_requests() {
    check_request(
        "system addrpool-add oam-ipv4 171.168.204.0 24 --order random \
         --ranges 171.168.204.1-171.168.204.254 --floating-address 171.168.204.1 \
         --controller0-address 171.168.204.2 --controller1-address 171.168.204.3",
        &[
            r#"name: "oam-ipv4", network: "171.168.204.0", prefix: 24, order: Random"#,
            r#"first: "171.168.204.1", last: "171.168.204.254""#,
            r#"floating_address: "171.168.204.1""#,
            r#"controller0_address: "171.168.204.2""#,
            r#"controller1_address: "171.168.204.3""#,
            r#"gateway_address: """#,
        ],
    );
    check_request(
        "system network-addrpool-assign oam oam-ipv4",
        &[r#"network: "oam", address_pool: "oam-ipv4", validate_only: false"#],
    );
    check_request(
        "system network-addrpool-remove oam oam-ipv4 --dry-run",
        &[r#"uuid: "", network: "oam", address_pool: "oam-ipv4", validate_only: true"#],
    );
    check_request(
        "system dns-modify nameservers=fd00::53,10.20.5.53",
        &[r#"servers: ["fd00::53", "10.20.5.53"], validate_only: false"#],
    );
    check_request("system dns-modify nameservers=", &["servers: []"]);
    check_request(
        "system oam-modify oam_c0_ip=fd00::4 oam_c1_ip=fd00::5",
        &[
            r#"oam_gateway_ip: """#,
            r#"oam_c0_ip: "fd00::4", oam_c1_ip: "fd00::5""#,
        ],
    );
}

#[test]
fn wrong_lines_end_64_before_anything_is_sent() {
    let daemon = Daemon::start();
    for (line, said) in [
        ("system addrpool-modify oam-ipv4", "nothing to modify"),
        ("system addrpool-add a 10.0.0.0 twentyfour", "invalid digit"),
        (
            "system addrpool-add a 10.0.0.0 24 --ranges 10.0.0.1",
            "is not FIRST-LAST",
        ),
        (
            "system addrpool-add a 10.0.0.0 24 --ranges 1-2-3",
            "is not FIRST-LAST",
        ),
        (
            "system addrpool-add a 10.0.0.0 24 --order upwards",
            "random and sequential",
        ),
        ("system network-add a admin maybe pool", "true or false"),
        ("system network-addrpool-remove", "required"),
        ("system network-lst", "network-list"),
        (
            "system dns-modify nameserver=1.1.1.1",
            "did you mean `nameservers`",
        ),
        ("system dns-modify 1.1.1.1", "is not path=value"),
        (
            "system oam-modify oam_gateway=fd00::1",
            "did you mean `oam_gateway_ip`",
        ),
        (
            "system oam-modify oam_ip=fd00::1 oam_ip=fd00::2",
            "given twice",
        ),
        ("system oam-modify oam_gateway_ip=none", "cannot clear"),
        (
            "system network-list --dry-run",
            "--dry-run has no meaning here",
        ),
        ("system network-list -c nme", "did you mean `name`"),
        (
            "system network-add a admin true p --dry-run -c uuid",
            "there is no column `uuid`",
        ),
        ("system network-delete oam -c uuid", "shows no columns"),
        ("system", "Usage"),
        ("tandem", "Usage"),
        ("tandem system network-list --format xml", "possible values"),
        (
            "tandem --endpoint http://[fd00::3]:8440 system site-show",
            "only served over TLS",
        ),
        (
            "tandem --endpoint https://[fd00::3]:8440 system site-show",
            "--ca FILE",
        ),
    ] {
        let outcome = run_at(&daemon.endpoint(), line);
        assert_eq!(outcome.exit, Exit::Usage, "{line}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(said), "{line}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{line}");
        assert_eq!(daemon.last_request(), "", "{line}");
    }
}
