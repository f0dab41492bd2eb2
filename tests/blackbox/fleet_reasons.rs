//! Every reason of the fleet's rules, provoked by an operator, a site that enrolls or an agent on
//! its link, and read from the details of the refusal.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;

use api::fleet_v1::exchange_request::Message as Say;
use api::fleet_v1::exchange_response::Message as Heard;
use api::fleet_v1::operator_service_client::OperatorServiceClient;
use api::fleet_v1::subcloud_group_service_client::SubcloudGroupServiceClient;
use api::fleet_v1::{
    AddOperatorRequest, AddSubcloudGroupRequest, Heartbeat, ReportChunk, SubcloudGroup, Violation,
};
use base64::Engine as _;
use fleet::{Reason, ReasonSet as _};
use identity::LeafKey;
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::peers::OF_PEERS;
use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::by_hand::{ByHand, hello, hello_of, link_of_nobody, report};
use crate::support::client::operators;
use crate::support::cloud::{Added, Controller, Place};
use crate::support::grpcurl::{GrpcError, Violation as Precondition};
use crate::support::process::{Daemon, Program};
use crate::support::{PATIENCE, scratch, wait_until};

const SUBCLOUDS: &str = "tandem.fleet.v1.SubcloudService";

/// Where a reason of commands to subclouds is provoked.
const COMMANDS: &str = "is provoked through the site services, in `remote`";

/// Where a reason of rollouts is provoked.
const ROLLOUTS: &str = "is provoked through the service of rollouts, in `rollout`";

/// Reasons that no message to the fleet's services provokes.
const NOT_BY_MESSAGE: [(Reason, &str); 15] = [
    (Reason::RolloutNotFound, ROLLOUTS),
    (Reason::RolloutClosed, ROLLOUTS),
    (Reason::RolloutPaused, ROLLOUTS),
    (
        Reason::RolloutIncomplete,
        "needs an operator who changes a site between two steps; played in fleet's tests",
    ),
    (Reason::TooManyRollouts, ROLLOUTS),
    (
        Reason::ControllerBusy,
        "a thousand writes wait only for a disk that stalls",
    ),
    (Reason::SubcloudQuarantined, COMMANDS),
    (Reason::SubcloudOffline, COMMANDS),
    (Reason::TooManyCommands, COMMANDS),
    (Reason::CommandTooLarge, COMMANDS),
    (Reason::CommandDeadline, COMMANDS),
    (Reason::CommandOutcomeUnknown, COMMANDS),
    (
        Reason::StaleEpoch,
        "needs two controllers that both believe to own a site; played in the simulation",
    ),
    (
        Reason::EpochStale,
        "needs a peer that speaks of a term that is over: one restored from a backup does, in `geo`",
    ),
    (
        Reason::CertificateRevoked,
        "needs a certificate that the controller never granted: tested in `strangers`",
    ),
];

/// gRPC codes by number.
const INVALID: i64 = 3;
const NOT_FOUND: i64 = 5;
const EXISTS: i64 = 6;
const FORBIDDEN: i64 = 7;
const EXHAUSTED: i64 = 8;
const PRECONDITION: i64 = 9;
const UNKNOWN_CALLER: i64 = 16;

/// A controller that is asked, and the reasons that it has given.
struct Asked<'a> {
    controller: Controller,
    seen: &'a RefCell<BTreeSet<String>>,
}

/// What a refusal must say: the code, the reason, the field or object that is named, and words.
struct Want<'a> {
    code: i64,
    reason: Reason,
    named: &'a str,
    words: &'a str,
}

fn want<'a>(code: i64, reason: Reason, named: &'a str, words: &'a str) -> Want<'a> {
    Want {
        code,
        reason,
        named,
        words,
    }
}

impl Asked<'_> {
    /// Asks as an operator.
    fn ask(&self, method: &str, request: &Value) -> Result<Value, Box<GrpcError>> {
        self.controller
            .grpcurl(&format!("{SUBCLOUDS}/{method}"), request)
    }

    /// Asks as an operator; must be refused.
    #[track_caller]
    fn refused(&self, method: &str, request: &Value, want: &Want<'_>) {
        let before = self.subclouds();
        let error = self.ask(method, request).expect_err("must be refused");
        self.check(&error, want);
        assert_eq!(
            self.subclouds(),
            before,
            "{method} {request} changed the fleet"
        );
    }

    /// Adds a subcloud that the file declares; must be refused.
    #[track_caller]
    fn undeclared(&self, name: &str, file: &Bootstrap, want: &Want<'_>) {
        self.refused("AddSubcloud", &declaration(name, file), want);
    }

    /// A call of an agent that was refused.
    #[track_caller]
    fn turned_away<T>(&self, answer: Result<T, Status>, want: &Want<'_>) {
        self.check(&read(&answer.err().expect("must be refused")), want);
    }

    #[track_caller]
    fn check(&self, error: &GrpcError, want: &Want<'_>) {
        let got = (error.code, error.reason.as_str(), error.domain.as_str());
        assert_eq!(
            got,
            (Some(want.code), want.reason.name(), "tandem"),
            "{error:?}"
        );
        let reason = want.reason.name();
        let rules = error.violations.iter().map(|rule| {
            (
                rule.kind.as_str(),
                rule.subject.as_str(),
                rule.description.as_str(),
            )
        });
        let fields = error.fields.iter();
        let fields =
            fields.map(|(field, text)| (want.reason.name(), field.as_str(), text.as_str()));
        let mut meant = rules.chain(fields).filter(|(kind, named, text)| {
            *kind == reason && named.contains(want.named) && text.contains(want.words)
        });
        let (_, _, text) = meant
            .next()
            .unwrap_or_else(|| panic!("no {reason} in {error:?}"));
        let (_, remedy) = text.split_once(" Remedy: ").expect("a remedy");
        assert!(!remedy.is_empty(), "{error:?}");
        self.saw(reason);
    }

    /// A warning, or a fault of a report.
    #[track_caller]
    fn told(&self, all: &[Violation], reason: Reason, words: &str) {
        let mut meant = all.iter().filter(|told| told.reason == reason.name());
        let told = meant
            .next()
            .unwrap_or_else(|| panic!("no {reason:?} in {all:?}"));
        assert!(
            told.message.contains(words) && !told.remedy.is_empty(),
            "{told:?}"
        );
        self.saw(reason.name());
    }

    fn saw(&self, reason: &str) {
        self.seen.borrow_mut().insert(reason.to_owned());
    }

    #[track_caller]
    fn subclouds(&self) -> Value {
        self.ask("ListSubclouds", &json!({}))
            .expect("the subclouds")
    }
}

#[tokio::test]
async fn every_reason_of_the_fleet_is_given() {
    let dir = scratch();
    let seen = RefCell::new(BTreeSet::new());
    let install = |name: &str| {
        let site = Bootstrap::controller(Stack::V6);
        Controller::install(&dir.path().join(name), site, Place::Loopback)
    };
    let start = |mut controller: Controller| {
        controller.serve();
        Asked {
            controller,
            seen: &seen,
        }
    };

    let site = start(install("controller"));
    requests(&site);
    people(&site).await;
    declarations(&site);
    reports(&site).await;
    links(&site).await;
    // So that nothing but the calls changes what is compared.
    site.controller.wait_for("down", "availability", "offline");
    verbs(&site);
    groups(&site).await;
    copies(&site).await;
    own_networks(&site);
    drop(site);
    without_link_network(&start(install("unlinked")));

    let small = install("small");
    let settings = small.state_dir().with_file_name("settings.toml");
    fs::write(settings, "fleet_limit = 1\n").expect("settings");
    full(&start(small));

    strict(&seen, install("strict")).await;

    let seen = seen.into_inner();
    for reason in Reason::ALL {
        let exempt =
            NOT_BY_MESSAGE.iter().any(|(known, _)| known == reason) || OF_PEERS.contains(reason);
        assert_ne!(seen.contains(reason.name()), exempt, "{}", reason.name());
    }
}

/// What is wrong with an operator's request itself.
fn requests(site: &Asked<'_>) {
    let name = json!({"name": "-west"});
    let wanted = want(INVALID, Reason::InvalidName, "name", "-west");
    site.refused("AddSubcloud", &name, &wanted);
    let short = json!({"name": "west", "tokenTtlSeconds": 604_801});
    let wanted = want(
        INVALID,
        Reason::InvalidArgument,
        "token_ttl_seconds",
        "604801 s",
    );
    site.refused("AddSubcloud", &short, &wanted);
    let kind = json!({"kind": "ENROLED"});
    let wanted = want(INVALID, Reason::InvalidArgument, "kind", "ENROLLED");
    site.refused("ListFleetEvents", &kind, &wanted);
    let wanted = want(NOT_FOUND, Reason::SubcloudNotFound, "nope", "nope");
    site.refused("GetSubcloud", &json!({"subcloud": "nope"}), &wanted);
    site.refused("IssueSubcloudToken", &json!({"subcloud": "nope"}), &wanted);
}

/// Who may operate the controller over TCP.
async fn people(site: &Asked<'_>) {
    const SERVICE: &str = "tandem.fleet.v1.OperatorService";
    let csr = LeafKey::generate()
        .expect("a key")
        .csr_der()
        .expect("a request");
    let text = base64::engine::general_purpose::STANDARD.encode(&csr);
    let new = |name: &str| json!({"name": name, "role": "OPERATOR_ROLE_READER", "certificateSigningRequest": text});
    let refused = |method: &str, request: &Value, wanted: &Want<'_>| {
        let answer = site
            .controller
            .grpcurl(&format!("{SERVICE}/{method}"), request);
        site.check(&answer.expect_err("must be refused"), wanted);
    };
    let wanted = want(NOT_FOUND, Reason::OperatorNotFound, "nobody", "nobody");
    refused("RevokeOperator", &json!({"name": "nobody"}), &wanted);
    let wanted = want(
        EXISTS,
        Reason::OperatorNameTaken,
        "operator-admin",
        "operator-admin",
    );
    refused("AddOperator", &new("operator-admin"), &wanted);
    for (request, field) in [
        (
            json!({"name": "-", "role": 1, "certificateSigningRequest": text}),
            "name",
        ),
        (
            json!({"name": "a", "certificateSigningRequest": text}),
            "role",
        ),
        (
            json!({"name": "a", "role": 1}),
            "certificate_signing_request",
        ),
    ] {
        let wanted = want(INVALID, Reason::InvalidArgument, field, field);
        refused("AddOperator", &request, &wanted);
    }
    let socket = site.controller.state_dir().join("operator.sock");
    let mut client = OperatorServiceClient::new(operators(&socket).await);
    for number in 1..fleet::MAX_OPERATORS {
        let request = AddOperatorRequest {
            name: format!("operator-{number}"),
            role: 1,
            certificate_signing_request: csr.to_vec(),
            ..Default::default()
        };
        client.add_operator(request).await.expect("room");
    }
    let wanted = want(EXHAUSTED, Reason::TooManyOperators, "", "256 operators");
    refused("AddOperator", &new("one-more"), &wanted);
}

/// Sites that an operator declares, F3 to F10; and what is allowed but told.
fn declarations(site: &Asked<'_>) {
    let west = |stack| Bootstrap::subcloud("west", 1, stack);
    let wanted = want(
        PRECONDITION,
        Reason::PrimaryFamilyMismatch,
        "west",
        "IPv4, but",
    );
    site.undeclared("west", &west(Stack::V4), &wanted);
    let wanted = Want {
        words: "only the secondary one",
        ..wanted
    };
    site.undeclared("west", &west(Stack::V4First), &wanted);
    let wanted = want(PRECONDITION, Reason::SiteNameMismatch, "east", "west");
    site.undeclared("east", &west(Stack::V6), &wanted);
    let region = west(Stack::V6).with("region_name", "controller");
    let wanted = want(
        EXISTS,
        Reason::RegionNameTaken,
        "controller:controller",
        "controller",
    );
    site.undeclared("west", &region, &wanted);
    let wanted = want(
        PRECONDITION,
        Reason::AddressOverlap,
        "controller",
        "fd10:0:1::",
    );
    site.undeclared("west", &beside_controller("::2", "::c8"), &wanted);
    let gateway = "systemcontroller_gateway_address";
    let inside = west(Stack::V6).with(gateway, "fd10:0:1::10");
    let wanted = want(
        PRECONDITION,
        Reason::ControllerGatewayInvalid,
        gateway,
        "fd10:0:1::10",
    );
    site.undeclared("west", &inside, &wanted);

    let mut shared = declaration("west", &beside_controller("::1000", "::1fff"));
    shared["validateOnly"] = json!(true);
    let answer = site.ask("AddSubcloud", &shared).expect("allowed");
    let warning = &answer["warnings"][0];
    assert_eq!(warning["reason"], Reason::SharedSubnet.name(), "{answer}");
    let told = warning["message"].as_str().unwrap_or_default();
    assert!(
        told.contains("fd10:0:1::/64") && told.contains("controller"),
        "{warning}"
    );
    site.saw(Reason::SharedSubnet.name());

    site.controller.add("taken");
    let wanted = want(EXISTS, Reason::SubcloudNameTaken, "subcloud:taken", "taken");
    site.refused("AddSubcloud", &json!({"name": "taken"}), &wanted);
}

/// Sites that enroll.
async fn reports(site: &Asked<'_>) {
    let file = Bootstrap::subcloud("north", 3, Stack::V6First);
    let added = site.controller.add("north");
    let other = site.controller.add("south");

    let answer = ByHand::of(&file).enroll(&other, false).await;
    let words = "not valid for this site";
    let wanted = want(UNKNOWN_CALLER, Reason::EnrollTokenInvalid, "", words);
    site.turned_away(answer, &wanted);

    let mut unreadable = ByHand::of(&file).with(|site| {
        site.uuid = "nobody".to_owned();
        site.software_version = "new".to_owned();
        site.address_pools[0].uuid = "none".to_owned();
    });
    unreadable.digest.pop();
    let answer = unreadable.enroll(&added, false).await;
    let error = read(&answer.expect_err("must be refused"));
    let named: Vec<_> = error
        .fields
        .iter()
        .map(|(field, _)| field.as_str())
        .collect();
    let all = [
        "site.uuid",
        "site.software_version",
        "site.address_pools[0]",
        "digest",
    ];
    assert_eq!(named, all, "{error:?}");

    let twins = ByHand::of(&file).with(|site| {
        let name = site.address_pools[0].name.clone();
        site.address_pools[1].name = name;
    });
    let wanted = want(
        INVALID,
        Reason::SiteInvalid,
        "pool",
        "the site is not valid",
    );
    site.turned_away(twins.enroll(&added, false).await, &wanted);

    let outdated = ByHand::of(&file).with(|site| site.software_version = "22.12".to_owned());
    let reason = Reason::DualStackUnsupportedByVersion;
    let wanted = want(PRECONDITION, reason, "north", "22.12");
    site.turned_away(outdated.enroll(&added, false).await, &wanted);

    let unlinked = ByHand::of(&file).with(|site| {
        site.networks
            .retain(|network| !["mgmt", "admin"].contains(&network.r#type.as_str()));
    });
    let wanted = want(PRECONDITION, Reason::NoPrimaryPool, "north", "admin");
    site.turned_away(unlinked.enroll(&added, false).await, &wanted);

    // Declared in another way than it is: taken as it is, and told.
    let declared = Bootstrap::subcloud("up", 4, Stack::V6);
    let answer = site
        .ask("AddSubcloud", &declaration("up", &declared))
        .expect("declared");
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let added = Added {
        id: String::new(),
        token: text("token"),
        controller: text("controller"),
    };
    let moved = ByHand::of(&declared.with("region_name", "elsewhere"));
    let enrolled = moved.enroll(&added, false).await.expect("enrolled");
    site.told(
        &enrolled.warnings,
        Reason::SiteDiffersFromDeclared,
        "elsewhere",
    );
    let wanted = want(
        PRECONDITION,
        Reason::SubcloudAlreadyEnrolled,
        "subcloud:up",
        "up",
    );
    site.refused("IssueSubcloudToken", &json!({"subcloud": "up"}), &wanted);
}

/// Agents on their links.
async fn links(site: &Asked<'_>) {
    let file = Bootstrap::subcloud("down", 5, Stack::V6);
    let added = site.controller.add("down");
    let words = "subcloud's certificate";
    let wanted = want(UNKNOWN_CALLER, Reason::ClientCertificateRequired, "", words);
    site.turned_away(link_of_nobody(&added).await, &wanted);

    let agent = ByHand::of(&file);
    let enrolled = agent.enroll(&added, false).await.expect("enrolled");
    let mut link = agent.link(&added, &enrolled).await;
    link.say(hello(&agent.digest)).await;
    let another = ByHand::of(&file);
    link.say(report(&another)).await;
    let refused = loop {
        match link.hear().await.expect("a message").expect("not the end") {
            Heard::ReportRefused(refused) => break refused,
            Heard::Goodbye(goodbye) => panic!("{goodbye:?}"),
            _ => {}
        }
    };
    assert_eq!(refused.digest, another.digest);
    site.told(&refused.violations, Reason::SiteReplaced, "down");

    let unreadable = ReportChunk {
        generation: 2,
        digest: vec![7; 32],
        data: vec![0xff; 64],
        last: true,
    };
    let large = ReportChunk {
        data: vec![0; 10 * 1024 * 1024],
        ..unreadable.clone()
    };
    for (chunk, words) in [(large, "too large"), (unreadable, "report_chunk.data")] {
        let mut link = agent.link(&added, &enrolled).await;
        link.say(hello(&agent.digest)).await;
        link.say(Say::ReportChunk(chunk)).await;
        let end = loop {
            match link.hear().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the link ended without a word"),
                Err(status) => break status,
            }
        };
        let wanted = want(INVALID, Reason::LinkProtocolViolation, "", words);
        site.turned_away::<()>(Err(end), &wanted);
    }
}

/// Operators' verbs: `up` has enrolled and never came online, `south` has not enrolled.
fn verbs(site: &Asked<'_>) {
    let refused = |method: &str, request: &Value, reason: Reason, words: &str| {
        let wanted = want(PRECONDITION, reason, "subcloud:", words);
        site.refused(method, request, &wanted);
    };
    let (up, south) = (json!({"subcloud": "up"}), json!({"subcloud": "south"}));
    let forced = json!({"subcloud": "up", "force": true});
    let reason = Reason::SubcloudNotOnline;
    refused("ManageSubcloud", &up, reason, "up is not online");
    let reason = Reason::SubcloudNotEnrolled;
    refused("ManageSubcloud", &south, reason, "south");
    let anew = json!({"subcloud": "south", "reenroll": true});
    refused("IssueSubcloudToken", &anew, reason, "never enrolled");
    let reason = Reason::SubcloudUnmanaged;
    refused("UnmanageSubcloud", &up, reason, "up is not managed");
    site.ask("ManageSubcloud", &forced).expect("managed");
    let reason = Reason::SubcloudManaged;
    refused("ManageSubcloud", &forced, reason, "managed already");
    refused("DeleteSubcloud", &up, reason, "only unmanaged");
    site.ask("UnmanageSubcloud", &up).expect("unmanaged");
    for method in ["ManageSubcloud", "UnmanageSubcloud", "DeleteSubcloud"] {
        let wanted = want(NOT_FOUND, Reason::SubcloudNotFound, "nope", "nope");
        site.refused(method, &json!({"subcloud": "nope"}), &wanted);
    }
    let nothing = json!({"target": "up", "subcloud": {}});
    let wanted = want(INVALID, Reason::InvalidArgument, "update_mask", "nothing");
    site.refused("UpdateSubcloud", &nothing, &wanted);
    let reason = Reason::SubcloudGroupNotFound;
    let nowhere = json!({"target": "up", "subcloud": {"group": "nowhere"}});
    let wanted = want(NOT_FOUND, reason, "group:nowhere", "nowhere");
    site.refused("UpdateSubcloud", &nowhere, &wanted);
}

/// Groups of subclouds.
async fn groups(site: &Asked<'_>) {
    let named = |name: &str| json!({"subcloudGroup": {"name": name}});
    let refused = |method: &str, request: &Value, wanted: &Want<'_>| {
        let method = format!("tandem.fleet.v1.SubcloudGroupService/{method}");
        let error = site.controller.grpcurl(&method, request);
        site.check(&error.expect_err("must be refused"), wanted);
    };
    let reason = Reason::SubcloudGroupNameTaken;
    let wanted = want(EXISTS, reason, "Default", "Default already");
    refused("AddSubcloudGroup", &named("Default"), &wanted);
    let reason = Reason::DefaultGroupFixed;
    let wanted = want(PRECONDITION, reason, "Default", "cannot be deleted");
    let default = json!({"subcloudGroup": "Default"});
    refused("DeleteSubcloudGroup", &default, &wanted);
    let renamed = json!({"target": "Default", "subcloudGroup": {"name": "all"}});
    let wanted = want(PRECONDITION, reason, "Default", "keeps its name");
    refused("UpdateSubcloudGroup", &renamed, &wanted);
    let reason = Reason::SubcloudGroupNotFound;
    let wanted = want(NOT_FOUND, reason, "nowhere", "nowhere");
    let nowhere = json!({"subcloudGroup": "nowhere"});
    refused("GetSubcloudGroup", &nowhere, &wanted);

    let socket = site.controller.state_dir().join("operator.sock");
    let mut client = SubcloudGroupServiceClient::new(operators(&socket).await);
    for number in 1..fleet::group::MAX_GROUPS {
        let subcloud_group = Some(SubcloudGroup {
            name: format!("group-{number}"),
            ..SubcloudGroup::default()
        });
        let request = AddSubcloudGroupRequest {
            subcloud_group,
            ..AddSubcloudGroupRequest::default()
        };
        client.add_subcloud_group(request).await.expect("added");
    }
    let reason = Reason::SubcloudGroupsFull;
    let wanted = want(EXHAUSTED, reason, "", "200 subcloud groups");
    refused("AddSubcloudGroup", &named("one-more"), &wanted);
}

/// Two processes with one identity that take turns: both are shut out.
async fn copies(site: &Asked<'_>) {
    let added = site.controller.add("copied");
    let agent = ByHand::of(&Bootstrap::subcloud("copied", 6, Stack::V6));
    let enrolled = agent.enroll(&added, false).await.expect("enrolled");
    let mut ends = Vec::new();
    for instance in [1, 2, 1] {
        let mut link = agent.link(&added, &enrolled).await;
        link.say(hello_of(instance, &agent.digest)).await;
        ends.push(loop {
            match link.hear().await {
                Ok(Some(Heard::Welcome(_))) => link.say(Say::Heartbeat(Heartbeat {})).await,
                Ok(Some(Heard::Heartbeat(_))) => break None,
                Ok(Some(_)) => {}
                Ok(None) => panic!("the link ended without a word"),
                Err(status) => break Some(status),
            }
        });
    }
    let wanted = want(UNKNOWN_CALLER, Reason::IdentityCloned, "", "two agents");
    let last = ends.pop().flatten().expect("the last is cut");
    assert!(ends.iter().all(Option::is_none), "{ends:?}");
    site.turned_away::<()>(Err(last), &wanted);
}

/// A change of the controller's own networks that its subclouds would not survive.
fn own_networks(site: &Asked<'_>) {
    let call = |method: &str, request: Value| {
        let method = format!("tandem.site.v1.{method}");
        site.controller.grpcurl(&method, &request)
    };
    let locked = call("SiteService/LockHost", json!({"hostname": "controller-0"}));
    locked.expect("locked");
    let error = call("NetworkService/DeleteNetwork", json!({"network": "mgmt"}));
    let reason = Reason::WouldBreakSubclouds;
    let wanted = want(PRECONDITION, reason, "subcloud:down", "no pool on admin");
    site.check(&error.expect_err("must be refused"), &wanted);
}

/// A controller whose own network towards subclouds is gone.
fn without_link_network(site: &Asked<'_>) {
    let call = |method: &str, request: Value| {
        let answer = site
            .controller
            .grpcurl(&format!("tandem.site.v1.{method}"), &request);
        answer.unwrap_or_else(|error| panic!("{method}: {error:?}"))
    };
    call("SiteService/LockHost", json!({"hostname": "controller-0"}));
    call("NetworkService/DeleteNetwork", json!({"network": "mgmt"}));
    let late = Bootstrap::subcloud("late", 9, Stack::V6);
    let mut asked = declaration("late", &late);
    asked["validateOnly"] = json!(true);
    wait_until("the fleet follows the controller's site", PATIENCE, || {
        site.ask("AddSubcloud", &asked).is_err()
    });
    let reason = Reason::ControllerHasNoLinkPool;
    let wanted = want(
        PRECONDITION,
        reason,
        "network:mgmt",
        "no subcloud can reach",
    );
    site.undeclared("late", &late, &wanted);
}

/// A fleet that has room for one.
fn full(site: &Asked<'_>) {
    site.controller.add("west");
    let wanted = want(EXHAUSTED, Reason::FleetFull, "", "its limit is 1");
    site.refused("AddSubcloud", &json!({"name": "east"}), &wanted);
}

/// A controller that looks at where connections come from.
async fn strict(seen: &RefCell<BTreeSet<String>>, installed: Controller) {
    let state = installed.state_dir();
    let mut command = Program::Controller.command();
    command.arg("serve").arg("--state-dir").arg(&state);
    for flag in ["--operator-listen", "--link-listen", "--console-listen"] {
        command.args([flag, "[::1]:0"]);
    }
    let _daemon = Daemon::start(command, &state.with_file_name("log"));
    let asked = Asked {
        controller: installed,
        seen,
    };
    let added = asked.controller.add("west");
    let west = ByHand::of(&Bootstrap::subcloud("west", 1, Stack::V6));
    let wanted = want(
        FORBIDDEN,
        Reason::SourceNotInPrimaryPool,
        "west",
        "from ::1",
    );
    asked.turned_away(west.enroll(&added, false).await, &wanted);
}

/// `AddSubcloud` with the file that declares the site.
fn declaration(name: &str, file: &Bootstrap) -> Value {
    let values = base64::engine::general_purpose::STANDARD.encode(file.yaml());
    json!({"name": name, "bootstrapValues": values})
}

/// A subcloud whose link shares the controller's subnet.
fn beside_controller(first: &str, last: &str) -> Bootstrap {
    let own = |host: &str| format!("fd10:0:1{host}");
    Bootstrap::subcloud("west", 1, Stack::V6)
        .with("admin_subnet", "fd10:0:1::/64")
        .with("admin_gateway_address", "fd10:0:1::1")
        .with("admin_start_address", &own(first))
        .with("admin_end_address", &own(last))
}

/// The details of a status as grpcurl shows them.
fn read(status: &Status) -> GrpcError {
    let details = status.get_error_details();
    let mut error = GrpcError {
        code: Some(i32::from(status.code()).into()),
        message: status.message().to_owned(),
        ..GrpcError::default()
    };
    if let Some(info) = details.error_info() {
        error.reason.clone_from(&info.reason);
        error.domain.clone_from(&info.domain);
        error.metadata = info.metadata.clone().into_iter().collect();
    }
    for rule in details
        .precondition_failure()
        .into_iter()
        .flat_map(|rules| &rules.violations)
    {
        error.violations.push(Precondition {
            kind: rule.r#type.clone(),
            subject: rule.subject.clone(),
            description: rule.description.clone(),
        });
    }
    for field in details
        .bad_request()
        .into_iter()
        .flat_map(|fields| &fields.field_violations)
    {
        error
            .fields
            .push((field.field.clone(), field.description.clone()));
    }
    error
}
