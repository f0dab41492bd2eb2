//! A recorded request as a change of ours. The existing interface is JSON over HTTP: what its
//! shape alone makes impossible in ours (a prefix that is a text, a method that does not exist)
//! is a refusal at the edge, before any rule.

use serde_json::Value;
use site::{AttachmentId, AttachmentRef, Change, OamEdit, PoolEdit, PoolId, PoolInput, RangeInput};
use uuid::Uuid;

use super::recorded::{attachment_id, entries, id, text};

/// How a request reaches the model.
pub(super) enum Request {
    /// As a change.
    Change(Box<Change>),
    /// Not at all: ours cannot express it.
    RefusedAtEdge(&'static str),
    /// It only reads.
    Read,
}

use Request::RefusedAtEdge;

impl Request {
    fn change(change: Change) -> Self {
        Self::Change(Box::new(change))
    }
}

/// The words that clear an address.
const CLEARING: [&str; 6] = [
    "none",
    "null",
    "nothing",
    "empty",
    "undefined",
    "unspecified",
];

/// Reads the request of a line.
pub(super) fn of(line: &Value) -> Request {
    let (body, target) = (&line["body"], text(line, "target"));
    match (text(line, "method"), text(line, "resource")) {
        ("GET", _) => Request::Read,
        ("POST", "addrpools") => add_pool(body, text(line, "seq"), &line["step"]),
        ("PATCH", "addrpools") => modify_pool(target, body),
        ("DELETE", "addrpools") => Request::change(Change::DeletePool {
            pool: reference(target),
        }),
        ("POST", "networks") => add_network(body),
        ("DELETE", "networks") => Request::change(Change::DeleteNetwork {
            network: reference(target),
        }),
        ("POST", "network_addresspools") => assign(body),
        ("DELETE", "network_addresspools") => Request::change(Change::RemovePool {
            attachment: AttachmentRef::Id(association(target)),
        }),
        ("PATCH", "iextoam") if target == "@network:oam" => modify_oam(body),
        ("PATCH", "idns") => modify_dns(body),
        _ => RefusedAtEdge("there is no such method"),
    }
}

/// A reference as text: recorded references become uuids, anything else stays.
fn reference(text: &str) -> String {
    if text.starts_with('@') {
        id(text).to_string()
    } else {
        text.to_owned()
    }
}

/// `@netpool:NETWORK/POOL` is the association of `@network:NETWORK` and `@pool:POOL`.
fn association(text: &str) -> String {
    let ends = text
        .strip_prefix("@netpool:")
        .and_then(|ends| ends.split_once('/'));
    match ends {
        Some((network, pool)) => {
            attachment_id(&format!("@network:{network}"), &format!("@pool:{pool}")).to_string()
        }
        None => reference(text),
    }
}

fn add_pool(body: &Value, seq: &str, step: &Value) -> Request {
    const FIELDS: [&str; 9] = [
        "name",
        "network",
        "prefix",
        "order",
        "ranges",
        "floating_address",
        "controller0_address",
        "controller1_address",
        "gateway_address",
    ];
    let mut fields = body.as_object().into_iter().flatten();
    if fields.any(|(name, _)| !FIELDS.contains(&name.as_str())) {
        return RefusedAtEdge("unknown field");
    }
    let prefix = match &body["prefix"] {
        Value::Null => Some(0),
        // Numbers may be written as text in their JSON, as in that of protobuf.
        Value::String(text) => text.parse().ok(),
        prefix => prefix
            .as_u64()
            .and_then(|prefix| u32::try_from(prefix).ok()),
    };
    let (Some(prefix), Some(ranges)) = (prefix, ranges(&body["ranges"])) else {
        return RefusedAtEdge("a field of another type");
    };
    Request::change(Change::AddPool {
        id: PoolId(id(&format!("new pool of {seq} {step}"))),
        pool: PoolInput {
            name: text(body, "name").to_owned(),
            network: text(body, "network").to_owned(),
            prefix,
            order: text(body, "order").to_owned(),
            ranges,
            floating_address: text(body, "floating_address").to_owned(),
            controller0_address: text(body, "controller0_address").to_owned(),
            controller1_address: text(body, "controller1_address").to_owned(),
            gateway_address: text(body, "gateway_address").to_owned(),
        },
    })
}

fn ranges(value: &Value) -> Option<Vec<RangeInput>> {
    if value.is_null() {
        return Some(Vec::new());
    }
    let range = |range: &Value| match range.as_array()?.as_slice() {
        [first, last] => Some(RangeInput {
            first: first.as_str()?.to_owned(),
            last: last.as_str()?.to_owned(),
        }),
        _ => None,
    };
    value.as_array()?.iter().map(range).collect()
}

/// The replacements of a JSON patch: field and new value.
fn replacements(body: &Value) -> Option<Vec<(&str, &Value)>> {
    let one = |operation| {
        let field = text(operation, "path").strip_prefix('/')?;
        (text(operation, "op") == "replace").then(|| (field, &operation["value"]))
    };
    entries(body).map(one).collect()
}

fn modify_pool(target: &str, body: &Value) -> Request {
    let Some(replacements) = replacements(body) else {
        return RefusedAtEdge("a patch that is no replacement");
    };
    let mut edit = PoolEdit::default();
    for (field, value) in replacements {
        if field == "ranges" {
            match ranges(value) {
                Some(ranges) => edit.ranges = Some(ranges),
                None => return RefusedAtEdge("ranges of another type"),
            }
            continue;
        }
        let Some(value) = value.as_str() else {
            return RefusedAtEdge("a value that is no text");
        };
        let address = || {
            let clears = CLEARING.contains(&value.to_lowercase().as_str());
            Some(if clears {
                String::new()
            } else {
                value.to_owned()
            })
        };
        match field {
            "name" => edit.name = Some(value.to_owned()),
            "network" => edit.network = Some(value.to_owned()),
            "order" => edit.order = Some(value.to_owned()),
            "prefix" => match value.parse() {
                Ok(prefix) => edit.prefix = Some(prefix),
                Err(_) => return RefusedAtEdge("a prefix that is no number"),
            },
            "floating_address" => edit.floating_address = address(),
            "controller0_address" => edit.controller0_address = address(),
            "controller1_address" => edit.controller1_address = address(),
            "gateway_address" => edit.gateway_address = address(),
            _ => return RefusedAtEdge("unknown field"),
        }
    }
    Request::change(Change::ModifyPool {
        pool: reference(target),
        edit,
    })
}

fn add_network(body: &Value) -> Request {
    let kind = text(body, "type");
    let pool = text(body, "pool_uuid");
    Request::change(Change::AddNetwork {
        uuid: id(&format!("@network:{kind}")),
        attachment: AttachmentId(attachment_id(&format!("@network:{kind}"), pool)),
        name: text(body, "name").to_owned(),
        kind: kind.to_owned(),
        dynamic: body["dynamic"] == true,
        pool: reference(pool),
    })
}

fn assign(body: &Value) -> Request {
    let (network, pool) = (text(body, "network_uuid"), text(body, "address_pool_uuid"));
    let is_reference = |text: &str| text.starts_with('@') || Uuid::try_parse(text).is_ok();
    if !is_reference(network) || !is_reference(pool) {
        return RefusedAtEdge("a reference that is no uuid");
    }
    Request::change(Change::AssignPool {
        id: AttachmentId(id(&format!("new association of {network} and {pool}"))),
        network: reference(network),
        pool: reference(pool),
    })
}

fn modify_oam(body: &Value) -> Request {
    let Some(replacements) = replacements(body) else {
        return RefusedAtEdge("a patch that is no replacement");
    };
    let mut edit = OamEdit::default();
    for (field, value) in replacements {
        let Some(value) = value.as_str().map(str::to_owned) else {
            return RefusedAtEdge("a value that is no text");
        };
        match field {
            "oam_subnet" => edit.oam_subnet = Some(value),
            "oam_gateway_ip" => edit.oam_gateway_ip = Some(value),
            "oam_floating_ip" => edit.oam_floating_ip = Some(value),
            "oam_c0_ip" => edit.oam_c0_ip = Some(value),
            "oam_c1_ip" => edit.oam_c1_ip = Some(value),
            "oam_ip" => edit.oam_ip = Some(value),
            _ => return RefusedAtEdge("unknown field"),
        }
    }
    Request::change(Change::ModifyOam { edit })
}

fn modify_dns(body: &Value) -> Request {
    let Some(replacements) = replacements(body) else {
        return RefusedAtEdge("a patch that is no replacement");
    };
    let servers = replacements
        .iter()
        .rev()
        .find(|(field, _)| *field == "nameservers");
    match servers.and_then(|(_, value)| value.as_str()) {
        Some(list) => {
            let servers = list.split(',').filter(|server| !server.is_empty());
            let servers = servers.map(str::to_owned).collect();
            Request::change(Change::ModifyDns { servers })
        }
        None => RefusedAtEdge("unknown field"),
    }
}
