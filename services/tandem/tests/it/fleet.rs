//! `dcmanager …`.

use std::fs;

use serde_json::Value;
use tandem_cli::Exit;

use crate::daemon::Daemon;
use crate::run::{check, run, run_at};

#[test]
fn subclouds_and_events() {
    check(
        "fleet",
        &[
            "tandem dcmanager subcloud list",
            "tandem dcmanager subcloud list --family ipv6 -c name -c last_seen",
            "tandem dcmanager subcloud list --detail -f csv",
            "tandem dcmanager subcloud show subcloud-1",
            "tandem dcmanager subcloud show subcloud-2 -c quarantined_since -c refused",
            "tandem dcmanager subcloud errors subcloud-2",
            "tandem dcmanager subcloud errors stranger",
            "tandem dcmanager subcloud errors subcloud-1",
            "tandem dcmanager subcloud errors nobody",
            "tandem dcmanager subcloud add subcloud-9",
            "tandem dcmanager subcloud add subcloud-9 --dry-run -f json",
            "tandem dcmanager subcloud token pending -f yaml",
            "tandem dcmanager subcloud token pending --dry-run",
            "tandem dcmanager subcloud token subcloud-1 --reenroll -c token",
            "tandem dcmanager subcloud manage subcloud-1 -c name -c management",
            "tandem dcmanager subcloud unmanage subcloud-1 --dry-run -c management",
            "tandem dcmanager subcloud manage subcloud-1 -c pools -c addresses -f json",
            "tandem dcmanager subcloud update subcloud-1 --location Hall-7 -c pools -f value",
            "tandem dcmanager subcloud delete subcloud-1 --dry-run -c pools -f value",
            "tandem dcmanager subcloud update subcloud-1 --location Hall-7 -f yaml -c location",
            "tandem dcmanager subcloud delete subcloud-1 --dry-run -c name",
            "tandem dcmanager subcloud delete subcloud-1",
            "tandem dcmanager subcloud-group add north --description x",
            "tandem dcmanager subcloud-group add --name west --dry-run -f json",
            "tandem dcmanager subcloud-group list",
            "tandem dcmanager subcloud-group show nowhere",
            "tandem dcmanager subcloud-group update north --update_apply_type serial -c name",
            "tandem dcmanager subcloud-group delete north",
            "tandem dcmanager subcloud-group list-subclouds north -c name",
            "tandem dcmanager alarm summary",
            "tandem dcmanager alarm summary -f json",
            "tandem dcmanager event list",
            "tandem dcmanager event list --kind added -f value",
            "tandem dcmanager event list --subcloud nobody",
            "tandem dcmanager audit list",
            "tandem dcmanager operator list",
            "tandem dcmanager operator revoke alice",
            "tandem dcmanager operator revoke alice --dry-run -f value",
        ],
    );
}

#[test]
fn peers_and_what_is_shared_with_them() {
    check(
        "peers",
        &[
            "tandem dcmanager system-peer list",
            "tandem dcmanager system-peer show east",
            "tandem dcmanager system-peer show north -c peering -c suspended",
            "tandem dcmanager system-peer show nobody",
            "tandem dcmanager system-peer add south",
            "tandem dcmanager system-peer add south --dry-run -f json",
            "tandem dcmanager system-peer add east --token tp1_c2VjcmV0 -c name -c peering",
            "tandem dcmanager system-peer add east --token tp1_c2VjcmV0 --dry-run -c name",
            "tandem dcmanager system-peer update east --administrative-state disabled -c name",
            "tandem dcmanager system-peer delete east --dry-run -c name",
            "tandem dcmanager system-peer delete east",
            "tandem dcmanager system-peer list-subcloud-peer-groups east -c name",
            "tandem dcmanager subcloud-peer-group list",
            "tandem dcmanager subcloud-peer-group show shared",
            "tandem dcmanager subcloud-peer-group add fresh --group-priority 1 -c name",
            "tandem dcmanager subcloud-peer-group update shared --max-subcloud-rehoming 5 -c name",
            "tandem dcmanager subcloud-peer-group delete shared",
            "tandem dcmanager subcloud-peer-group list-subclouds shared",
            "tandem dcmanager subcloud-peer-group list-subclouds shared -f json",
            "tandem dcmanager subcloud-peer-group add-subclouds shared subcloud-1 -c members",
            "tandem dcmanager subcloud-peer-group migrate shared --dry-run",
            "tandem dcmanager subcloud-peer-group migrate shared",
            "tandem dcmanager subcloud-peer-group migrate shared --wait",
            "tandem dcmanager subcloud-peer-group status shared -f yaml",
            "tandem dcmanager subcloud-peer-group dismiss-conflict subcloud-1 -c name",
            "tandem dcmanager subcloud update subcloud-1 --peer-group shared -c name",
            "tandem dcmanager subcloud update subcloud-1 --peer-group none -c name",
            "tandem dcmanager peer-group-association list",
            "tandem dcmanager peer-group-association show shared north",
            "tandem dcmanager peer-group-association show shared nobody",
            "tandem dcmanager peer-group-association add shared east --peer-group-priority 1",
            "tandem dcmanager peer-group-association update shared east --peer-group-priority 2 -f csv",
            "tandem dcmanager peer-group-association sync shared east --dry-run -c state",
            "tandem dcmanager peer-group-association delete shared east",
        ],
    );
}

#[test]
fn waiting_ends_with_what_came_of_it() {
    check(
        "waited",
        &[
            "tandem dcmanager network-rollout resume 1 --wait -c state -c done",
            "tandem dcmanager network-rollout resume 2 --wait -c state -c refused",
            "tandem dcmanager network-rollout resume 3 --wait -c state -c failed",
            "tandem dcmanager network-rollout resume 4 --wait -c state -c pending",
            "tandem dcmanager network-rollout resume 5 --wait -c state -c skipped",
            "tandem dcmanager network-rollout create --select all --network oam --wait -c number",
            "tandem dcmanager network-rollout create --select all --network oam -c number",
            "tandem dcmanager subcloud-peer-group migrate own --wait -c migration -c remaining",
        ],
    );
}

#[test]
fn a_script_reads_token_and_controller() {
    let outcome = run("dcmanager subcloud add subcloud-9 --format json");
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.stderr);
    let answer: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(answer["token"], "td1_c2VjcmV0");
    assert_eq!(answer["controller"], "https://[fd01::2]:8441");
    assert_eq!(answer["name"], "subcloud-9");
    assert_eq!(answer["warnings"][0]["reason"], "SUBNET_SHARED");
}

#[test]
fn filters_and_lifetimes_are_sent() {
    let daemon = Daemon::start();
    let requests = [
        (
            "dcmanager subcloud list --family IPv4 --stack dual --availability offline",
            "family: Ipv4, stack: Dual, availability: Offline",
        ),
        (
            "dcmanager subcloud add a",
            "bootstrap_values: [], token_ttl_seconds: 3600",
        ),
        (
            "dcmanager subcloud add a --group north --location Hall-7",
            r#"description: "", location: "Hall-7", group: "north""#,
        ),
        (
            "dcmanager subcloud token pending --token-ttl 1",
            "token_ttl_seconds: 1",
        ),
        (
            "dcmanager event list --since 1970-01-01T00:00:01Z --until 1970-01-01T00:00:02Z",
            "since_milliseconds: 1000, until_milliseconds: 2000",
        ),
        (
            "dcmanager audit list --since 1970-01-01T00:00:01Z --actor local/uid-0 --action ENROLL",
            "since_milliseconds: 1000, until_milliseconds: 0, subcloud: \"\", action: \"ENROLL\", \
             actor: \"local/uid-0\"",
        ),
        (
            "dcmanager subcloud token subcloud-1 --reenroll",
            "reenroll: true",
        ),
        (
            "dcmanager subcloud list --group north --management managed --sync out-of-sync",
            r#"group: "north", management: Managed, sync: OutOfSync"#,
        ),
        (
            "dcmanager subcloud manage subcloud-1 --force",
            r#"subcloud: "subcloud-1", force: true"#,
        ),
        (
            "dcmanager subcloud update subcloud-1 --description= --group north",
            r#"update_mask: Some(FieldMask { paths: ["description", "group"] })"#,
        ),
        (
            "dcmanager system-peer add e --heartbeat-failure-policy rehome --heartbeat-interval 1",
            "heartbeat_interval_seconds: 1, failure_threshold: 0, failure_policy: Rehome",
        ),
        (
            "dcmanager system-peer update east --heartbeat-failure-policy alarm",
            r#"update_mask: Some(FieldMask { paths: ["failure_policy"] })"#,
        ),
        (
            "dcmanager subcloud-peer-group update shared --group-priority 0",
            r#"update_mask: Some(FieldMask { paths: ["priority"] })"#,
        ),
        (
            "dcmanager subcloud update subcloud-1 --systemcontroller-gateway-address fd01::1",
            r#"gateway_addresses: ["fd01::1"]"#,
        ),
        (
            "dcmanager subcloud list --availability secondary",
            "availability: Secondary",
        ),
        (
            "dcmanager subcloud-group update north --max-parallel-subclouds 9",
            r#"update_mask: Some(FieldMask { paths: ["max_parallel_subclouds"] })"#,
        ),
    ];
    for (line, part) in requests {
        let outcome = run_at(&daemon.endpoint(), line);
        assert_eq!(outcome.exit, Exit::Success, "{line}: {}", outcome.stderr);
        let requests = daemon.requests();
        let asked = requests.iter().any(|request| request.contains(part));
        assert!(asked, "{line}: {part} is not in {requests:?}");
        daemon.forget();
    }
    let outcome = run_at(
        &daemon.endpoint(),
        "dcmanager subcloud add a --token-ttl 604801",
    );
    assert_eq!(outcome.exit, Exit::Usage);
}

const SUBCLOUD: &str = "\
name: subcloud-9
system_mode: simplex
distributed_cloud_role: subcloud
management_subnet: fd09::/64
cluster_host_subnet: aefd:109::/64
cluster_pod_subnet: aefd:209::/64
cluster_service_subnet: aefd:309::/112
external_oam_subnet: fd99::/64
external_oam_gateway_address: fd99::1
external_oam_floating_address: fd99::3
colour: blue
";

#[test]
fn a_bootstrap_file_is_judged_here_and_sent_as_it_is() {
    let daemon = Daemon::start();
    let path = daemon.folder().join("subcloud-9.yaml");
    fs::write(&path, SUBCLOUD).expect("written");
    let line = format!(
        "dcmanager subcloud add subcloud-9 --bootstrap-values {}",
        path.display()
    );
    let outcome = run_at(&daemon.endpoint(), &line);
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.stderr);
    let bytes = format!("bootstrap_values: {:?}", SUBCLOUD.as_bytes());
    assert!(
        daemon.last_request().contains(&bytes),
        "{}",
        daemon.last_request()
    );
    for said in ["colour", "assumed: software_version"] {
        assert!(outcome.stderr.contains(said), "{said}: {}", outcome.stderr);
    }
}

#[test]
fn files_with_faults_end_65_and_files_that_are_not_there_66() {
    let daemon = Daemon::start();
    let huge = "# so long\n".repeat(110_000);
    let faulty = SUBCLOUD
        .replace("fd09::/64", "fd09::1/64")
        .replace("fd99::3", "10.0.0.3");
    let files = [
        (Some(faulty.as_str()), Exit::BadInput, "management_subnet"),
        (Some(faulty.as_str()), Exit::BadInput, "^^^"),
        (
            Some(faulty.as_str()),
            Exit::BadInput,
            "external_oam_floating_address",
        ),
        (Some(""), Exit::BadInput, "error"),
        (Some("\u{0}\u{1}"), Exit::BadInput, "error"),
        (Some(huge.as_str()), Exit::BadInput, "larger than 1 MiB"),
        (None, Exit::NoInput, "No such file"),
    ];
    for (index, (content, exit, said)) in files.into_iter().enumerate() {
        let path = daemon.folder().join(format!("{index}.yaml"));
        if let Some(content) = content {
            fs::write(&path, content).expect("written");
        }
        let line = format!(
            "dcmanager subcloud add a --bootstrap-values {}",
            path.display()
        );
        let outcome = run_at(&daemon.endpoint(), &line);
        assert_eq!(outcome.exit, exit, "{index}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(said),
            "{index}: {said}: {}",
            outcome.stderr
        );
    }
    assert_eq!(daemon.last_request(), "", "nothing is sent");
}

/// The key is made here and never sent; both files are for their owner alone.
#[test]
fn an_operator_gets_a_key_of_this_side() {
    let daemon = Daemon::start();
    let file = |name: &str| daemon.folder().join(name).display().to_string();
    let (key, cert) = (file("a.key"), file("a.crt"));
    let line = |name: &str, more: &str| {
        format!(
            "dcmanager operator add {name} --role reader --key-file {key} --cert-file {cert} {more}"
        )
    };
    let outcome = run_at(&daemon.endpoint(), &line("alice", "--dry-run"));
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.stderr);
    assert!(!fs::exists(&key).expect("known"), "a dry run makes no key");
    let outcome = run_at(&daemon.endpoint(), &line("taken", ""));
    assert_eq!(outcome.exit, Exit::Refused, "{}", outcome.stderr);
    assert!(
        !fs::exists(&key).expect("known"),
        "a refused key is of no use"
    );

    let outcome = run_at(&daemon.endpoint(), &line("alice", ""));
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.stderr);
    let pem = |path: &str| fs::read_to_string(path).expect("a file");
    assert!(pem(&key).starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(pem(&cert).starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(outcome.stdout.contains(&key), "{}", outcome.stdout);
    let before = (pem(&key), daemon.last_request());
    let outcome = run_at(&daemon.endpoint(), &line("alice", ""));
    assert_eq!(outcome.exit, Exit::BadInput, "{}", outcome.stderr);
    assert_eq!(
        (pem(&key), daemon.last_request()),
        before,
        "nothing is overwritten or sent"
    );
}

#[test]
fn a_change_is_asked_for_again_under_its_id() {
    let daemon = Daemon::start();
    for line in [
        "tandem system addrpool-delete oam-ipv4 --request-id r-1",
        "tandem --request-id r-1 system dns-modify nameservers=fd00::53 --dry-run",
        "tandem dcmanager subcloud unmanage subcloud-1 --request-id r-1",
        "tandem dcmanager network-rollout create --select all --network oam --request-id r-1",
        "tandem dcmanager subcloud-group add north --request-id r-1",
    ] {
        let outcome = run_at(&daemon.endpoint(), line);
        assert_eq!(outcome.exit, Exit::Success, "{line}: {}", outcome.stderr);
        let asked = daemon.requests();
        let with_id = |request: &String| request.contains("request_id: \"r-1\"");
        assert_eq!(
            asked.iter().filter(|request| with_id(request)).count(),
            1,
            "{line}"
        );
        daemon.forget();
    }
    for line in [
        "tandem system addrpool-list --request-id r-1",
        "tandem dcmanager watch --request-id r-1",
        "tandem system addrpool-delete oam-ipv4 --request-id=",
    ] {
        let outcome = run_at(&daemon.endpoint(), line);
        assert_eq!(outcome.exit, Exit::Usage, "{line}: {}", outcome.stderr);
    }
    assert_eq!(daemon.requests(), [""; 0]);
}
