//! Requests as one line of text each, so that tests are tables.

use site::{
    AttachmentId, AttachmentRef, Change, ConfigurationId, ControllerNetwork, OamEdit, Plan,
    PoolEdit, PoolId, PoolInput, RangeInput, ReasonSet as _, Rejection, Site, Timestamp, plan,
};

use crate::fixture::id;

/// When every change happens.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Reads a line; ids are derived from `number`.
pub(crate) fn change(line: &str, number: u128) -> Change {
    let words: Vec<&str> = line.split_whitespace().collect();
    let word = |index: usize| words.get(index).copied().unwrap_or_default().to_owned();
    let options = &words[words.len().min(2)..];
    match words[0] {
        "pool-add" => Change::AddPool {
            id: PoolId(id(number)),
            pool: input(word(1), &word(2), options),
        },
        "pool-modify" => Change::ModifyPool {
            pool: word(1),
            edit: edit(options),
        },
        "pool-delete" => Change::DeletePool { pool: word(1) },
        "network-add" => Change::AddNetwork {
            uuid: id(number),
            attachment: AttachmentId(id(number + 1)),
            name: word(1),
            kind: word(2),
            dynamic: word(3) == "dynamic",
            pool: word(4),
        },
        "network-delete" => Change::DeleteNetwork { network: word(1) },
        "assign" => Change::AssignPool {
            id: AttachmentId(id(number)),
            network: word(1),
            pool: word(2),
        },
        "remove" => Change::RemovePool {
            attachment: AttachmentRef::Ends {
                network: word(1),
                pool: word(2),
            },
        },
        "oam-modify" => Change::ModifyOam {
            edit: oam_edit(&words[1..]),
        },
        "dns-modify" => {
            let list = word(1);
            let servers = list.split(',').filter(|server| !server.is_empty());
            Change::ModifyDns {
                servers: servers.map(str::to_owned).collect(),
            }
        }
        "lock" => Change::LockHost { hostname: word(1) },
        "unlock" => Change::UnlockHost { hostname: word(1) },
        "report" => Change::ReportApplied {
            hostname: word(1),
            configuration: ConfigurationId(word(2).parse().expect("a number")),
        },
        "controller" => Change::SetControllerNetworks {
            link: controller(&word(1), number),
            oam: words.get(2).map(|subnet| controller(subnet, number + 10)),
        },
        other => panic!("unknown command {other}"),
    }
}

fn controller(subnet: &str, number: u128) -> ControllerNetwork {
    ControllerNetwork {
        subnet: subnet.parse().expect("a subnet"),
        network: id(number),
        attachment: AttachmentId(id(number + 1)),
        pool: PoolId(id(number + 2)),
    }
}

fn option(options: &[&str], name: &str) -> Option<String> {
    let mut found = options.iter().filter_map(|option| option.split_once('='));
    found
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

fn ranges(options: &[&str]) -> Option<Vec<RangeInput>> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').expect("a range");
        RangeInput {
            first: first.into(),
            last: last.into(),
        }
    };
    let list = option(options, "ranges")?;
    Some(
        list.split(',')
            .filter(|text| !text.is_empty())
            .map(range)
            .collect(),
    )
}

fn input(name: String, subnet: &str, options: &[&str]) -> PoolInput {
    let (network, prefix) = subnet.split_once('/').unwrap_or((subnet, "24"));
    let option = |name| option(options, name).unwrap_or_default();
    PoolInput {
        name: if name == "''" { String::new() } else { name },
        network: network.into(),
        prefix: prefix.parse().expect("a number"),
        order: option("order"),
        ranges: ranges(options).unwrap_or_default(),
        floating_address: option("floating"),
        controller0_address: option("c0"),
        controller1_address: option("c1"),
        gateway_address: option("gateway"),
    }
}

fn edit(options: &[&str]) -> PoolEdit {
    PoolEdit {
        name: option(options, "name"),
        network: option(options, "network"),
        prefix: option(options, "prefix").map(|prefix| prefix.parse().expect("a number")),
        order: option(options, "order"),
        ranges: ranges(options),
        floating_address: option(options, "floating"),
        controller0_address: option(options, "c0"),
        controller1_address: option(options, "c1"),
        gateway_address: option(options, "gateway"),
    }
}

fn oam_edit(options: &[&str]) -> OamEdit {
    OamEdit {
        oam_subnet: option(options, "oam_subnet"),
        oam_gateway_ip: option(options, "oam_gateway_ip"),
        oam_floating_ip: option(options, "oam_floating_ip"),
        oam_c0_ip: option(options, "oam_c0_ip"),
        oam_c1_ip: option(options, "oam_c1_ip"),
        oam_ip: option(options, "oam_ip"),
    }
}

/// Applies all lines but the last, which must be accepted, and answers the plan of the last.
pub(crate) fn run(site: &mut Site, lines: &[&str]) -> Result<Plan, Rejection> {
    let (last, first) = lines.split_last().expect("a command");
    for line in first {
        let planned = plan_line(site, line);
        planned
            .unwrap_or_else(|why| panic!("{line}: {why}"))
            .apply(site);
    }
    plan_line(site, last)
}

/// Plans a line; new objects get ids that follow from the generation.
fn plan_line(site: &Site, line: &str) -> Result<Plan, Rejection> {
    let number = 5_000_000 + u128::from(site.generation().0) * 1000;
    plan(site, change(line, number), NOW)
}

/// `ok`, or every reason with its field: `INVALID_ARGUMENT@prefix, NAME_TAKEN@name`.
pub(crate) fn outcome(result: &Result<Plan, Rejection>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(rejection) => {
            let reasons =
                rejection
                    .violations()
                    .iter()
                    .map(|violation| match violation.field.as_str() {
                        "" => violation.reason.name().to_owned(),
                        field => format!("{}@{field}", violation.reason.name()),
                    });
            reasons.collect::<Vec<_>>().join(", ")
        }
    }
}
