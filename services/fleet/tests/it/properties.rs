//! Random inputs, in any order, with nonsense among them: no machine panics, and what is durable
//! stays consistent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Calm, add, at, controller, enroll, fault, key, site, token};
use fleet::{
    Agent, AgentInput, AgentMessage, AgentRecord, CertificateRequest, Code, ConnectionId,
    ControllerId, ControllerMessage, ControllerNetworks, Endpoint, Enroller, EnrollerInput, Epoch,
    FleetChange, Goodbye, GoodbyeReason, GrantedCertificate, Hello, Input, InstanceId, IssueToken,
    LinkId, NetworksAnswer, NetworksDigest, Operate, Output, Refusal, Report, RequestId,
    RequestKey, SubcloudEdit, SubcloudId, Ticket, Welcome, Write,
};
use proptest::prelude::*;
use site::Site;
use uuid::Uuid;

fn sites() -> &'static [Site] {
    static SITES: std::sync::OnceLock<Vec<Site>> = std::sync::OnceLock::new();
    SITES.get_or_init(|| {
        let layouts = ["4", "46", "6"].iter();
        layouts
            .flat_map(|layout| (1..4).map(|number| site(&format!("s{number}"), number, layout)))
            .collect()
    })
}

fn small() -> impl Strategy<Value = u8> {
    1..4_u8
}

fn a_site() -> impl Strategy<Value = Site> {
    prop::sample::select(sites())
}

fn agent_message() -> impl Strategy<Value = AgentMessage> {
    (0..6, a_site(), small()).prop_map(|(kind, site, number)| {
        match kind {
            0 => AgentMessage::Heartbeat,
            2 => AgentMessage::CertificateRequest(CertificateRequest {
                key: key(number),
                csr: Vec::new(),
            }),
            // Of the networks that the controller may have, or of others.
            3 => AgentMessage::NetworksAnswer(NetworksAnswer {
                digest: ControllerNetworks::of(&site).digest(),
                faults: Vec::new(),
            }),
            4 => AgentMessage::NetworksAnswer(NetworksAnswer {
                digest: ControllerNetworks::of(&site).digest(),
                faults: vec![fault()],
            }),
            1 => AgentMessage::Report(Report::of(&site)),
            _ => AgentMessage::Hello(Hello {
                renewals: u64::from(number) - 1,
                instance: InstanceId(number.into()),
                connection: number.into(),
                ..crate::common::hello(&site)
            }),
        }
    })
}

/// `None` stands for "the oldest write is durable".
fn controller_input() -> impl Strategy<Value = Option<Input>> {
    let link = (0..4_u64).prop_map(LinkId);
    prop_oneof![
        3 => Just(None),
        2 => (small(), any::<bool>()).prop_map(|(number, validate_only)| {
            let mut call = add(number, &format!("s{number}"));
            call.validate_only = validate_only;
            Some(Input::AddSubcloud(call))
        }),
        1 => (small(), small()).prop_map(|(number, fresh)| Some(Input::IssueToken(IssueToken {
            request: RequestId(1),
            actor: fleet::Actor::Operator("uid=0".to_owned()),
            subcloud: format!("s{number}"),
            token: token(fresh + 100),
            reenroll: fresh == 2,
            validate_only: false,
        }))),
        3 => (small(), 0..5, any::<bool>()).prop_map(|(number, kind, yes)| {
            let subcloud = format!("s{number}");
            let etag = String::new();
            Some(Input::Operate(Operate {
                request: RequestId(1),
                actor: fleet::Actor::Operator("uid=0".to_owned()),
                change: match kind {
                    0 => FleetChange::Manage { subcloud, force: yes },
                    1 => FleetChange::Unmanage { subcloud },
                    2 => FleetChange::Update {
                        subcloud,
                        etag,
                        edit: SubcloudEdit {
                            location: Some("x".repeat(usize::from(number))),
                            ..SubcloudEdit::default()
                        },
                    },
                    _ => FleetChange::Delete { subcloud, etag },
                },
                key: (kind == 4).then(|| RequestKey {
                    id: "once".to_owned(),
                    fingerprint: [number; 32],
                }),
                validate_only: false,
            }))
        }),
        4 => (small(), small(), a_site()).prop_map(|(number, keyed, site)| {
            let mut call = enroll(number, &site);
            call.key = key(keyed);
            Some(Input::Enroll(call))
        }),
        3 => (link.clone(), small(), small()).prop_map(|(link, number, keyed)| {
            Some(Input::LinkOpened {
                link,
                subcloud: SubcloudId(Uuid::from_u128(u128::from(number))),
                key: key(keyed),
                signed: None,
                source: [10, number, 0, 2].into(),
            })
        }),
        6 => (link.clone(), agent_message())
            .prop_map(|(link, message)| Some(Input::LinkMessage { link, message })),
        1 => link.prop_map(|link| Some(Input::LinkClosed { link })),
        1 => Just(Some(Input::Timer)),
        1 => (0..9_u64).prop_map(|ticket| Some(Input::Committed { ticket: Ticket(ticket) })),
    ]
}

fn controller_message() -> impl Strategy<Value = ControllerMessage> {
    (0..7, a_site(), 0..4_u64, any::<bool>()).prop_map(|(kind, site, number, yes)| {
        let (generation, digest) = (site.generation(), site.digest());
        match kind {
            0 => ControllerMessage::Welcome(Welcome {
                controller: ControllerId(Uuid::from_u128(u128::from(number / 2))),
                epoch: Epoch(number),
                heartbeat_interval: Duration::from_secs(number),
                report_needed: yes,
                answer_at_once: yes,
                controllers: vec![Endpoint("10.0.0.1:1".parse().unwrap()); usize::from(yes)],
                alternates: Default::default(),
            }),
            1 => ControllerMessage::ReportAccepted { generation, digest },
            2 => ControllerMessage::ReportRefused {
                generation,
                digest,
                faults: Vec::new(),
            },
            3 => ControllerMessage::Networks {
                epoch: Epoch(number),
                networks: ControllerNetworks::of(&site),
                report_within: Duration::from_secs(number),
            },
            4 if yes => ControllerMessage::ReportWanted,
            4 => ControllerMessage::Heartbeat,
            5 => ControllerMessage::Certificate(GrantedCertificate {
                certificate: Vec::new(),
                validity: Duration::from_secs(number),
            }),
            _ => ControllerMessage::Goodbye(Goodbye {
                reason: GoodbyeReason::ALL[usize::try_from(number).unwrap()],
                controllers: Vec::new(),
                owners: Vec::new(),
            }),
        }
    })
}

fn agent_input() -> impl Strategy<Value = AgentInput> {
    let connection = (0..4_u64).prop_map(ConnectionId);
    prop_oneof![
        1 => a_site().prop_map(|site| AgentInput::SiteChanged(Arc::new(site))),
        1 => (any::<[u8; 32]>(), a_site()).prop_map(|(bytes, site)| AgentInput::NetworksApplied {
            networks: NetworksDigest(bytes),
            made: Some(site.generation()),
        }),
        1 => any::<[u8; 32]>().prop_map(|bytes| AgentInput::NetworksRefused {
            networks: NetworksDigest(bytes),
            faults: Vec::new(),
        }),
        3 => connection.clone().prop_map(AgentInput::Connected),
        1 => connection.clone().prop_map(AgentInput::Disconnected),
        5 => (connection, controller_message())
            .prop_map(|(connection, message)| AgentInput::Message(connection, message)),
        3 => Just(AgentInput::Timer),
        2 => (0..5_u64).prop_map(|ticket| AgentInput::Persisted(Ticket(ticket))),
        1 => (0..5_u64).prop_map(|ticket| AgentInput::CertificateUnusable(Ticket(ticket))),
        2 => small().prop_map(|number| AgentInput::KeyMade(CertificateRequest {
            key: key(number),
            csr: Vec::new(),
        })),
    ]
}

/// Numbers the links as the driver does, which gives no number twice.
#[derive(Default)]
struct Links {
    last: u64,
    known: BTreeMap<LinkId, LinkId>,
}

impl Links {
    fn number(&mut self, input: &mut Input) {
        match input {
            Input::LinkOpened { link, .. } => {
                self.last += 1;
                self.known.insert(*link, LinkId(self.last));
                *link = LinkId(self.last);
            }
            Input::LinkMessage { link, .. } | Input::LinkClosed { link } => {
                *link = self.known.get(link).copied().unwrap_or(LinkId(0));
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_controller_survives_anything_and_writes_in_order(
        steps in prop::collection::vec((controller_input(), 0..20_u64), 0..80),
    ) {
        let mut machine = controller("4");
        let mut waiting = std::collections::VecDeque::new();
        let mut now = 0;
        let mut redeemed = BTreeMap::new();
        let mut links = Links::default();
        let mut keys = BTreeMap::new();
        for (input, wait) in steps {
            now += wait;
            let mut input = match input {
                Some(input) => input,
                None => match waiting.pop_front() {
                    Some(ticket) => Input::Committed { ticket },
                    None => continue,
                },
            };
            links.number(&mut input);
            if let Input::Enroll(call) = &input {
                keys.insert(call.request, call.key);
            }
            for output in machine.on(at(now), &mut Calm, input) {
                match output {
                    Output::Commit { ticket, writes } => {
                        prop_assert!(waiting.back().is_none_or(|last| *last < ticket));
                        waiting.push_back(ticket);
                        for write in writes {
                            if let Write::ForgetSubcloud(record) = &write {
                                // Whoever has its name and token afterwards is another one.
                                redeemed.retain(|token, _| record.tokens().all(|id| id != *token));
                            }
                            if let Write::Subcloud(record) = write
                                && let Some(enrolled) = record.enrolled()
                                && enrolled.renewal.count == 0
                            {
                                let token = enrolled.spent.id;
                                let first = redeemed.entry(token).or_insert(enrolled.key);
                                prop_assert_eq!(*first, enrolled.key, "one key for each token");
                            }
                        }
                    }
                    Output::SetTimer { at: when } => prop_assert!(when >= at(0)),
                    _ => {}
                }
            }
            prop_assert!(machine.links() <= machine.fleet().len(), "one link for each subcloud");
            let live = |record: &&fleet::SharedSubcloud| {
                machine.presence(record.id).link.is_some()
            };
            let live = machine.fleet().subclouds().filter(live).count();
            prop_assert_eq!(live, machine.links(), "no link outlives its subcloud");
        }
        let families: BTreeSet<_> = machine
            .fleet()
            .subclouds()
            .filter(|record| record.enrolled().is_some())
            .map(|record| record.link_family())
            .collect();
        prop_assert!(families.iter().all(|family| *family == Some(site::Family::Ipv4)));
    }

    #[test]
    fn the_agent_survives_anything_and_its_term_only_grows(
        steps in prop::collection::vec((agent_input(), 0..20_u64), 0..80),
    ) {
        let record = AgentRecord {
            subcloud: SubcloudId(Uuid::nil()),
            owner: ControllerId(Uuid::nil()),
            epoch: Epoch(1),
            controllers: vec![Endpoint("10.0.0.1:1".parse().unwrap())],
            authority: None,
            alternates: Default::default(),
            networks: None,
        };
        let (mut agent, _) = {
            let site = Arc::new(sites()[0].clone());
            // Its certificate is due for renewal.
            let mut old = crate::common::credential(0);
            old.validity = Duration::from_secs(1);
            Agent::start(at(0), record, old, InstanceId(1), site)
        };
        let (mut now, mut held) = (0, (Epoch(1), ControllerId(Uuid::nil())));
        for (input, wait) in steps {
            now += wait;
            agent.on(at(now), &mut Calm, input);
            let (epoch, owner) = (agent.record().epoch, agent.record().owner);
            prop_assert!(epoch > held.0 || (epoch, owner) == held, "one owner for each term");
            held = (epoch, owner);
        }
    }

    #[test]
    fn the_enroller_survives_anything(
        steps in prop::collection::vec((0..6, 0..20_u64, any::<bool>()), 0..40),
    ) {
        let (mut machine, _) = Enroller::start(at(0), None, Duration::from_secs(30));
        let mut now = 0;
        for (kind, wait, passes) in steps {
            now += wait;
            let code = if passes { Code::Unavailable } else { Code::PermissionDenied };
            let input = match kind {
                0 => EnrollerInput::KeyKept(key(1)),
                1 => EnrollerInput::Unreachable,
                2 => EnrollerInput::Refused(Refusal { code, faults: Vec::new() }),
                3 => EnrollerInput::Kept,
                4 => EnrollerInput::Accepted(AgentRecord {
                    subcloud: SubcloudId(Uuid::nil()),
                    owner: ControllerId(Uuid::nil()),
                    epoch: Epoch(1),
                    controllers: Vec::new(),
                    authority: None,
                    alternates: Default::default(),
                    networks: None,
                }),
                _ => EnrollerInput::Timer,
            };
            prop_assert!(machine.on(at(now), &mut Calm, input).len() <= 1);
        }
    }
}
