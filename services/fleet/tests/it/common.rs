//! Sites, records and callers that the tests share.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fleet::{
    Actor, AddSubcloud, Answer, AnsweredCall, Controller, ControllerConfig, ControllerId,
    Credential, Endpoint, Enroll, Entropy, Epoch, Fault, Fingerprint, HEARTBEAT_INTERVAL, Hello,
    Input, InstanceId, NewToken, Output, Receipt, Records, Rejection, Report, RequestId,
    SecretHash, SourceCheck, SubcloudEdit, SubcloudId, TokenId, Write,
};
use site::{Site, Timestamp};
use uuid::Uuid;

/// The moment at which tests begin.
pub(crate) const START: Timestamp = Timestamp(1_750_000_000_000);

/// A later moment.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp(START.0 + seconds * 1000)
}

/// No jitter: every draw is zero.
pub(crate) struct Calm;

impl Entropy for Calm {
    fn next_u64(&mut self) -> u64 {
        0
    }
}

/// Something that a site has against what it is told.
pub(crate) fn fault() -> Fault {
    Fault {
        reason: "POOL_OVERLAP".to_owned(),
        message: "taken".to_owned(),
        remedy: "move it".to_owned(),
        ..Fault::default()
    }
}

/// A site of `layout` (`4`, `6`, `46`, `64`) with the addresses of `number`.
pub(crate) fn site(name: &str, number: u8, layout: &str) -> Site {
    installed(name, number, layout, "24.09", "")
}

/// The same with a version and more lines of its bootstrap file.
pub(crate) fn installed(name: &str, number: u8, layout: &str, version: &str, more: &str) -> Site {
    let both = |v4: String, v6: String| -> String {
        let values = layout.chars().map(|family| {
            if family == '4' {
                v4.clone()
            } else {
                v6.clone()
            }
        });
        values.collect::<Vec<_>>().join(",")
    };
    let n = number;
    let file = [
        format!("name: {name}\nregion_name: region-{name}\nsystem_mode: simplex\n"),
        format!("software_version: \"{version}\"\n"),
        format!(
            "management_subnet: {}\n",
            both(format!("10.{n}.0.0/24"), format!("fd01:{n}::/64"))
        ),
        format!(
            "management_start_address: {}\n",
            both(format!("10.{n}.0.2"), format!("fd01:{n}::2"))
        ),
        format!(
            "management_end_address: {}\n",
            both(format!("10.{n}.0.100"), format!("fd01:{n}::100"))
        ),
        format!(
            "external_oam_subnet: {}\n",
            both(format!("10.{n}.1.0/24"), format!("fd02:{n}::/64"))
        ),
        format!(
            "external_oam_gateway_address: {}\n",
            both(format!("10.{n}.1.1"), format!("fd02:{n}::1"))
        ),
        format!(
            "external_oam_floating_address: {}\n",
            both(format!("10.{n}.1.3"), format!("fd02:{n}::3"))
        ),
        format!(
            "cluster_host_subnet: {}\n",
            both("192.168.206.0/24".to_owned(), "fd03::/64".to_owned())
        ),
        format!(
            "cluster_pod_subnet: {}\n",
            both("172.16.0.0/16".to_owned(), "fd04::/64".to_owned())
        ),
        format!(
            "cluster_service_subnet: {}\n",
            both("10.224.0.0/12".to_owned(), "fd05::/112".to_owned())
        ),
        more.to_owned(),
    ]
    .concat();
    installed_from(number, &file)
}

/// The site of a bootstrap file; its ids follow from the number.
pub(crate) fn installed_from(number: u8, file: &str) -> Site {
    let declared = site::bootstrap::parse("test.yaml", file.as_bytes()).unwrap_or_else(|faults| {
        panic!(
            "{}",
            site::bootstrap::render("test.yaml", file.as_bytes(), &faults, false)
        )
    });
    let mut last = u128::from(number) << 64;
    declared
        .install(&mut || {
            last += 1;
            Uuid::from_u128(last)
        })
        .expect("a faultless file installs")
}

/// A controller of a layout, with the addresses of number 200.
pub(crate) fn controller(layout: &str) -> Controller {
    recovered(layout, Records::default(), 100)
}

/// A controller that starts from records.
pub(crate) fn recovered(layout: &str, records: Records, fleet_limit: usize) -> Controller {
    let site = site("controller", 200, layout);
    Controller::recover(START, config(&site, fleet_limit), &site, records).0
}

pub(crate) fn config(site: &Site, fleet_limit: usize) -> ControllerConfig {
    let address = site.link_address().expect("it has one");
    ControllerConfig {
        id: ControllerId(site.identity().uuid),
        controllers: vec![Endpoint(SocketAddr::new(address, 8441))],
        source_check: SourceCheck::Strict,
        heartbeat_interval: HEARTBEAT_INTERVAL,
        fleet_limit,
        event_log_limit: fleet::LOG_LIMIT,
        audit_log_limit: fleet::LOG_LIMIT,
        authority: fleet::Authority {
            key: Fingerprint([200; 32]),
            certificate: vec![200].into(),
        },
        failover: fleet::FAILOVER,
    }
}

/// `subcloud add` with the token of the same number.
pub(crate) fn add(number: u8, name: &str) -> AddSubcloud {
    AddSubcloud {
        request: RequestId(u64::from(number)),
        actor: Actor::Operator("uid=0".to_owned()),
        id: SubcloudId(Uuid::from_u128(u128::from(number))),
        name: name.to_owned(),
        token: token(number),
        declared: None,
        edit: SubcloudEdit::default(),
        validate_only: false,
    }
}

pub(crate) fn token(number: u8) -> NewToken {
    NewToken {
        id: TokenId(Uuid::from_u128(1000 + u128::from(number))),
        secret: SecretHash([number; 32]),
        ttl: Duration::from_secs(3600),
    }
}

/// Enroll with the token and the key of a number, from the site's own link address.
pub(crate) fn enroll(number: u8, site: &Site) -> Enroll {
    Enroll {
        request: RequestId(500 + u64::from(number)),
        token: token(number).id,
        secret: token(number).secret,
        key: key(number),
        report: Report::of(site),
        source: site.link_address().unwrap_or(IpAddr::from([127, 0, 0, 1])),
        validate_only: false,
    }
}

/// What the agent of a site says first when it has just enrolled.
pub(crate) fn hello(site: &Site) -> Hello {
    Hello {
        software_version: site.identity().software_version,
        features: Default::default(),
        owner: ControllerId(Uuid::nil()),
        epoch: Epoch(1),
        owner_lost: None,
        generation: site.generation(),
        digest: site.digest(),
        networks: None,
        renewals: 0,
        instance: InstanceId(1),
        connection: 0,
    }
}

pub(crate) fn key(number: u8) -> Fingerprint {
    Fingerprint([number; 32])
}

/// The identity of the enrollment with the key of a number, which lives a day.
pub(crate) fn credential(number: u8) -> Credential {
    Credential {
        key: key(number),
        renewals: 0,
        received_at: START,
        validity: Duration::from_secs(24 * 60 * 60),
    }
}

/// Tells the machine something and lets the disk be done at once. All outputs, in order.
pub(crate) fn settle(machine: &mut Controller, now: Timestamp, input: Input) -> Vec<Output> {
    let mut done = Vec::new();
    let mut waiting: std::collections::VecDeque<Output> = machine.on(now, &mut Calm, input).into();
    while let Some(output) = waiting.pop_front() {
        if let Output::Commit { ticket, .. } = &output {
            let input = Input::Committed { ticket: *ticket };
            waiting.extend(machine.on(now, &mut Calm, input));
        }
        done.push(output);
    }
    done
}

/// The one answer among outputs.
pub(crate) fn answer(outputs: Vec<Output>) -> Result<Receipt, Rejection> {
    let mut answers = outputs.into_iter().filter_map(|output| match output {
        Output::Answer { outcome, .. } => Some(outcome.map(about_subcloud)),
        _ => None,
    });
    let first = answers.next().expect("there is an answer");
    assert!(answers.next().is_none(), "there is one answer");
    first
}

fn about_subcloud(answer: Answer) -> Receipt {
    Receipt::try_from(answer).expect("an answer about a subcloud")
}

/// What is to be on disk for requests that come again.
pub(crate) fn answers_kept(outputs: &[Output]) -> Vec<AnsweredCall> {
    let writes = outputs.iter().filter_map(|output| match output {
        Output::Commit { writes, .. } => Some(writes),
        _ => None,
    });
    let kept = writes.flatten().filter_map(|write| match write {
        Write::AnsweredCall(answered) => Some((**answered).clone()),
        _ => None,
    });
    kept.collect()
}

/// The reasons of a refusal, in order; empty when there is none.
pub(crate) fn reasons<T>(outcome: &Result<T, Rejection>) -> Vec<&'static str> {
    use site::ReasonSet as _;
    match outcome {
        Ok(_) => Vec::new(),
        Err(rejection) => rejection
            .violations()
            .iter()
            .map(|violation| violation.reason.name())
            .collect(),
    }
}
