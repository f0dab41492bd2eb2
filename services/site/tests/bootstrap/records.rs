//! `records.tsv`: recorded answers of the existing distributed-cloud manager to the values with
//! which a subcloud is added, as far as the file alone decides. It stops at its first fault;
//! ours must have that one among all.

use std::fs;

use site::bootstrap::parse_link;

use crate::{reasons, repository};

const RECORDS: &str = "services/site/tests/bootstrap/records.tsv";

/// Blanks around the comma are trimmed here; the existing manager refuses them.
const TRIMMED: [&str; 3] = ["H-N3-45", "H-N3-46", "H-N3-47"];

const V4: [(&str, &str); 11] = [
    ("name", "new-site"),
    ("system_mode", "duplex"),
    ("bootstrap-address", "10.10.10.12"),
    ("management_subnet", "192.168.101.0/24"),
    ("management_start_address", "192.168.101.2"),
    ("management_end_address", "192.168.101.50"),
    ("management_gateway_address", "192.168.101.1"),
    ("external_oam_subnet", "10.10.10.0/24"),
    ("external_oam_gateway_address", "10.10.10.1"),
    ("external_oam_floating_address", "10.10.10.12"),
    ("systemcontroller_gateway_address", "192.168.204.101"),
];

const V6: [&str; 11] = [
    "new-site",
    "duplex",
    "10.10.10.12",
    "fd01:101::/64",
    "fd01:101::2",
    "fd01:101::50",
    "fd01:101::1",
    "fd04:10::/64",
    "fd04:10::1",
    "fd04:10::12",
    "fd01:204::101",
];

/// The value of a variable in a base file.
fn value(base: &str, index: usize) -> String {
    let ((name, v4), v6) = (V4[index], V6[index]);
    let single = v4 == v6 || name == "systemcontroller_gateway_address";
    match base {
        "v4" => v4.into(),
        "v6" => v6.into(),
        "d46" if single => v4.into(),
        "d46" => format!("{v4},{v6}"),
        "d64" if single => v6.into(),
        "d64" => format!("{v6},{v4}"),
        _ => panic!("no base {base}"),
    }
}

fn file(base: &str, edits: &[&str]) -> String {
    let mut lines = Vec::new();
    for (index, (name, _)) in V4.iter().enumerate() {
        let edited = edits.iter().any(|edit| {
            let edit = edit.strip_prefix('-').unwrap_or(edit);
            edit == *name || edit.starts_with(&format!("{name}="))
        });
        if !edited {
            lines.push(format!("{name}: \"{}\"\n", value(base, index)));
        }
    }
    for edit in edits {
        if let Some((name, value)) = edit.split_once('=') {
            lines.push(format!("{name}: {value}\n"));
        }
    }
    lines.concat()
}

/// Our reasons for a rule of the records.
fn reasons_of(rule: &str) -> &'static [&'static str] {
    match rule {
        "N1" => &["TOO_MANY_VALUES"],
        "N2" => &["SAME_FAMILY_TWICE"],
        "N3" => &["ADDRESS_UNPARSABLE", "SUBNET_UNPARSABLE"],
        "N4" => &["COUNT_DIFFERS"],
        "N5" => &["FAMILY_ORDER_DIFFERS", "IPV4_MAPPED"],
        "N6" => &["ADDRESS_OUTSIDE_SUBNET", "ADDRESS_RESERVED"],
        "N7" => &["ADDRESS_RESERVED"],
        "N8" => &["PREFIX_TOO_SHORT"],
        "N9" => &["SUBNET_TOO_SMALL"],
        "N10" => &["RANGE_REVERSED", "RANGE_TOO_SMALL"],
        "N13" => &["GATEWAY_IN_RANGE"],
        "N14" => &["NETWORK_INCOMPLETE", "VALUE_MISSING"],
        "N18" => &["CONTROLLER_GATEWAY_INVALID", "IPV4_MAPPED"],
        "I2" => &["PRIMARY_FAMILY_MISMATCH"],
        "I4" => &["IPV4_MAPPED"],
        _ => panic!("no rule {rule}"),
    }
}

#[test]
fn the_recorded_answers() {
    let records = fs::read_to_string(repository(RECORDS)).unwrap();
    let mut differing = Vec::new();
    let mut count = 0;
    for line in records.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split('\t').collect();
        let [id, expected, rule, base, edits @ ..] = fields.as_slice() else {
            panic!("no record: {line}")
        };
        count += 1;
        let text = file(base, edits);
        let found = parse_link("record", text.as_bytes()).err();
        let refused = found.as_ref().map(reasons).unwrap_or_default();
        let agrees = match *expected {
            "accept" => found.is_none(),
            "reject" if TRIMMED.contains(id) => found.is_none(),
            "reject" => refused
                .iter()
                .any(|reason| reasons_of(rule).contains(reason)),
            other => panic!("no outcome {other}"),
        };
        if !agrees {
            differing.push(format!(
                "{id}: {expected} by {rule}, ours {refused:?}\n{text}"
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert_eq!(count, 204, "records are missing");
}
