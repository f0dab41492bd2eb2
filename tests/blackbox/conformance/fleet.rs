//! Holds what the fleet's rules say of a subcloud's bootstrap values against what was recorded.

use std::net::IpAddr;

use fleet::admission::{ControllerView, Occasion, admit};
use fleet::{
    Candidate, Enrollment, Fleet, Footprint, LinkNetwork, LinkPool, Management, Pending,
    ReasonSet as _, SecretHash, Subcloud, SubcloudId, Token, TokenId,
};
use ipnet::IpNet;
use serde_json::Value;
use site::bootstrap::parse_link;
use site::{NetworkKind, Range, SoftwareVersion, Timestamp};
use uuid::Uuid;

use super::recorded::{entries, text};
use super::verdict::Verdict;

/// Room for any recording.
const LIMIT: usize = 1_000_000;

/// Judges recorded bootstrap values anew, first the file and then the fleet, and compares.
pub(super) fn of(line: &Value) -> Verdict {
    let (expected, why) = (text(line, "expected"), text(line, "why"));
    if expected == "any" {
        let why = if why.is_empty() {
            "nothing to compare"
        } else {
            why
        };
        return Verdict::LeftOut(why.to_owned());
    }
    let Some(mut fleet) = fleet_of(line) else {
        return Verdict::Disagreed("the recorded fleet cannot be read".into());
    };
    // A subcloud that is known already was installed anew with these values: its own record does
    // not count.
    let own = fleet.by_name(&name_of(&line["payload"])).map(|own| own.id);
    own.and_then(|own| fleet.forget(own));
    let ours = judge(&fleet, &line["payload"]);
    match (expected, ours.is_empty()) {
        ("accept", true) => Verdict::Agreed,
        ("accept", false) => {
            Verdict::Disagreed(format!("recorded accepted, ours refuses: {ours:?}"))
        }
        ("reject", true) if text(line, "rule") == "N3" && has_blank_at_comma(&line["payload"]) => {
            Verdict::Deliberate("blanks around the comma are trimmed (O)".into())
        }
        ("reject", true) => Verdict::Disagreed(format!("expected a refusal {why}, ours accepts")),
        ("reject", false) => refused(line, &ours),
        (other, _) => Verdict::Disagreed(format!("unknown expectation {other:?}")),
    }
}

/// Every reason of the refusal; none when the subcloud is admitted. A file with faults is not
/// held against the fleet, as `subcloud add` does not.
fn judge(fleet: &Fleet, payload: &Value) -> Vec<String> {
    let name = name_of(payload);
    match parse_link("recorded", yaml(payload).as_bytes()) {
        Err(faults) => {
            let faults = faults.faults().iter();
            faults.map(|fault| fault.reason.name().to_owned()).collect()
        }
        Ok(link) => {
            let candidate = Candidate::of_file(&name, &link);
            match admit(fleet, &candidate, Occasion::Declaration { name: &name }) {
                Ok(_) => Vec::new(),
                Err(rejection) => {
                    let violations = rejection.violations().iter();
                    violations.map(|it| it.reason.name().to_owned()).collect()
                }
            }
        }
    }
}

fn refused(line: &Value, ours: &[String]) -> Verdict {
    let (rule, why) = (text(line, "rule"), text(line, "why"));
    let among = |reasons: &[&str]| ours.iter().any(|reason| reasons.contains(&reason.as_str()));
    if text(line, "outcome") == "accept" {
        // They let it through and ours does not: the rule of ours that is named must refuse.
        let reasons: Vec<_> = OURS.iter().filter(|(id, _)| names(why, id)).collect();
        return if reasons.iter().any(|(_, reasons)| among(reasons)) {
            Verdict::Deliberate(why.to_owned())
        } else if ours.iter().any(|reason| reason == "HOST_BITS_SET") {
            // Their file has a fault that ends the matter here before the fleet is asked.
            Verdict::Deliberate(format!("HOST_BITS_SET (I4) before {why}"))
        } else {
            Verdict::Disagreed(format!("expected a refusal by {why}, ours: {ours:?}"))
        };
    }
    match THEIRS.iter().find(|(id, _)| *id == rule) {
        Some((_, reasons)) if among(reasons) => Verdict::Agreed,
        Some(_) => Verdict::Disagreed(format!("recorded {rule}, ours refuses: {ours:?}")),
        None if rule.is_empty() => Verdict::Agreed,
        None => Verdict::Disagreed(format!("the rule {rule} is not known here")),
    }
}

/// Whether a text has an id as a word of its own.
fn names(text: &str, id: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word == id)
}

/// Our reasons for a rule of the recordings.
const THEIRS: [(&str, &[&str]); 21] = [
    ("N1", &["TOO_MANY_VALUES"]),
    ("N2", &["SAME_FAMILY_TWICE"]),
    (
        "N3",
        &[
            "ADDRESS_UNPARSABLE",
            "SUBNET_UNPARSABLE",
            "YAML_NESTED_VALUE",
            "HOST_BITS_SET",
        ],
    ),
    ("N4", &["COUNT_DIFFERS"]),
    ("N5", &["FAMILY_ORDER_DIFFERS", "IPV4_MAPPED"]),
    ("N6", &["ADDRESS_OUTSIDE_SUBNET", "ADDRESS_RESERVED"]),
    ("N7", &["ADDRESS_RESERVED"]),
    ("N8", &["PREFIX_TOO_SHORT"]),
    ("N9", &["SUBNET_TOO_SMALL"]),
    ("N10", &["RANGE_REVERSED", "RANGE_TOO_SMALL"]),
    ("N11", &["ADDRESS_OVERLAP"]),
    ("N13", &["GATEWAY_IN_RANGE"]),
    ("N14", &["NETWORK_INCOMPLETE", "VALUE_MISSING"]),
    (
        "N15",
        &["GATEWAY_IN_RANGE", "VALUE_MISSING", "NETWORK_INCOMPLETE"],
    ),
    ("N17", &["VALUE_MISSING", "NETWORK_INCOMPLETE"]),
    ("N18", &["CONTROLLER_GATEWAY_INVALID", "IPV4_MAPPED"]),
    (
        "N19",
        &["PRIMARY_FAMILY_MISMATCH", "CONTROLLER_HAS_NO_LINK_POOL"],
    ),
    ("N20", &["CONTROLLER_GATEWAY_INVALID"]),
    ("N21", &["CONTROLLER_GATEWAY_INVALID"]),
    // Their check of the oam subnet: its size, then the subnets of others.
    ("N22", &["ADDRESS_OVERLAP", "SUBNET_TOO_SMALL"]),
    (
        "N34",
        &["INVALID_NAME", "SUBCLOUD_NAME_TAKEN", "REGION_NAME_TAKEN"],
    ),
];

/// The reasons of our own rules by which a refusal of ours is explained.
const OURS: [(&str, &[&str]); 5] = [
    ("F4", &["PRIMARY_FAMILY_MISMATCH"]),
    ("F6", &["ADDRESS_OVERLAP"]),
    (
        "F10",
        &[
            "CONTROLLER_GATEWAY_INVALID",
            "TOO_MANY_VALUES",
            "SAME_FAMILY_TWICE",
            "ADDRESS_TWICE",
        ],
    ),
    ("I2", &["PRIMARY_FAMILY_MISMATCH"]),
    // Of a gateway that is the controller's network address F10 says it.
    (
        "I4",
        &[
            "ADDRESS_RESERVED",
            "IPV4_MAPPED",
            "ADDRESS_OUTSIDE_SUBNET",
            "CONTROLLER_GATEWAY_INVALID",
        ],
    ),
];

/// The controller with its management pools, and the subclouds that it has.
fn fleet_of(line: &Value) -> Option<Fleet> {
    let pools = entries(&line["system_controller"]["management_pools"]);
    let pools: Vec<LinkPool> = pools.map(controller_pool).collect::<Option<_>>()?;
    let controller = ControllerView {
        name: "recorded controller".to_owned(),
        region_name: "recorded controller".to_owned(),
        link: link_of(pools),
        oam_subnets: Vec::new(),
    };
    let mut fleet = Fleet::new(controller, LIMIT);
    for (number, known) in entries(&line["existing"]).enumerate() {
        let number = u128::try_from(number).ok()? + 1;
        fleet.put(std::sync::Arc::new(subcloud(number, known)?));
    }
    Some(fleet)
}

fn link_of(pools: Vec<LinkPool>) -> Option<LinkNetwork> {
    let mut pools = pools.into_iter();
    Some(LinkNetwork {
        kind: NetworkKind::Mgmt,
        primary: pools.next()?,
        secondary: pools.next(),
    })
}

fn controller_pool(pool: &Value) -> Option<LinkPool> {
    let prefix = u8::try_from(pool["prefix"].as_u64()?).ok()?;
    let ranges = entries(&pool["ranges"]).map(|ends| range(ends[0].as_str()?, ends[1].as_str()?));
    Some(LinkPool {
        name: "management".to_owned(),
        subnet: IpNet::new(text(pool, "network").parse().ok()?, prefix).ok()?,
        ranges: ranges.collect::<Option<_>>()?,
        floating: None,
    })
}

/// A subcloud that was added before; its primary values were recorded.
fn subcloud(number: u128, known: &Value) -> Option<Subcloud> {
    let name = text(known, "name").to_owned();
    let pool = LinkPool {
        name: "management".to_owned(),
        subnet: text(known, "subnet").parse().ok()?,
        ranges: vec![range(text(known, "start"), text(known, "end"))?],
        floating: None,
    };
    let declared = Footprint {
        region_name: name.clone(),
        software_version: SoftwareVersion { year: 24, month: 9 },
        link: link_of(vec![pool]),
        oam_subnets: Vec::new(),
        dual_stack: Vec::new(),
        systemcontroller_gateways: Vec::new(),
        name: name.clone(),
    };
    let token = Token {
        id: TokenId(Uuid::from_u128(number)),
        secret: SecretHash([0; 32]),
        issued_at: Timestamp(0),
        expires_at: Timestamp(u64::MAX),
    };
    Some(Subcloud {
        id: SubcloudId(Uuid::from_u128(number)),
        name,
        description: String::new(),
        location: String::new(),
        group: fleet::GroupId::DEFAULT,
        management: Management::Unmanaged,
        enrollment: Enrollment::Pending(Pending {
            token,
            declared: Some(Box::new(declared)),
        }),
        observed: None,
        refused: None,
        geo: fleet::Geo::default(),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    })
}

fn range(first: &str, last: &str) -> Option<Range> {
    let ends: (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
    Range::new(ends.0, ends.1)
}

/// The name that is asked for; a number is what YAML makes of its digits.
fn name_of(payload: &Value) -> String {
    match &payload["name"] {
        Value::String(name) => name.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The values as a file. JSON is YAML; `install_values` and the password of the board are for
/// the installer of the existing system and not part of a bootstrap file.
fn yaml(payload: &Value) -> String {
    let known = payload.as_object().into_iter().flatten();
    known
        .filter(|(name, _)| {
            !["install_values", "bmc_password", "group_id"].contains(&name.as_str())
        })
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

fn has_blank_at_comma(payload: &Value) -> bool {
    let mut values = payload.as_object().into_iter().flatten();
    values.any(|(_, value)| {
        let text = value.as_str().unwrap_or_default();
        text.contains(',') && text.split(',').any(|part| part.trim() != part)
    })
}
