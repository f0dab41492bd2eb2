//! The same answer in every format.

use serde_json::Value;
use tandem_cli::Exit;

use crate::run::{check, run, run_words};

#[test]
fn every_format_of_a_list_and_of_an_object() {
    let formats = ["table", "json", "yaml", "csv", "value"];
    let mut lines = Vec::new();
    for format in formats {
        lines.push(format!("tandem system addrpool-list -f {format}"));
        lines.push(format!("tandem system addrpool-show oam-ipv4 -f {format}"));
    }
    check(
        "formats",
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn columns_come_in_the_order_of_the_request_in_every_format() {
    check(
        "columns",
        &[
            "tandem system network-list -c primary_pool_family -c name",
            "tandem system network-list -c name -c id -f json",
            "tandem -c name system network-list -f csv",
            "tandem system network-list -f value -c Name --column dynamic",
            "tandem system network-show oam -f value -c pool_uuid",
        ],
    );
}

#[test]
fn keys_are_the_columns_and_values_have_their_types() {
    let outcome = run("system network-list --format json");
    let networks: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let first = networks[0].as_object().expect("an object");
    let keys: Vec<&str> = first.keys().map(String::as_str).collect();
    let expected = [
        "id",
        "uuid",
        "name",
        "type",
        "dynamic",
        "pool_uuid",
        "primary_pool_family",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        (&first["id"], &first["dynamic"]),
        (&Value::from(1), &Value::from(true))
    );
    assert_eq!(networks.as_array().map(Vec::len), Some(3), "every page");
}

#[test]
fn global_options_stand_anywhere_and_win_over_the_environment() {
    let daemon = crate::run::DAEMON.endpoint();
    let nowhere = [("TANDEM_ENDPOINT", "unix:/nowhere")];
    let orders: [&[&str]; 3] = [
        &[
            "tandem",
            "--endpoint",
            &daemon,
            "-f",
            "value",
            "system",
            "dns-show",
        ],
        &[
            "tandem",
            "system",
            "--endpoint",
            &daemon,
            "dns-show",
            "-f",
            "value",
        ],
        &[
            "system",
            "dns-show",
            "--format=value",
            "--endpoint",
            &daemon,
        ],
    ];
    for words in orders {
        let outcome = run_words(&nowhere, words);
        assert_eq!(outcome.exit, Exit::Success, "{words:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "fd00::53,10.20.5.53\n");
    }
}
