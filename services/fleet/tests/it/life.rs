//! The life of a subcloud after its enrollment: operators' verbs, groups, and the way back.

use crate::common::{
    Calm, add, answer, answers_kept, at, controller, enroll, key, reasons, settle, site, token,
};
use fleet::{
    Actor, AddSubcloud, AgentMessage, Answer, Candidate, Controller, Enroll, Event, Fingerprint,
    FleetChange, Footprint, GoodbyeReason, GroupEdit, GroupId, Input, IssueToken, LinkId,
    Management, Operate, Output, Receipt, Records, Rejection, RequestId, RequestKey, SubcloudEdit,
    SubcloudId, UpdateApply, Write,
};
use site::Site;
use uuid::Uuid;

const LINK: LinkId = LinkId(1);

fn id(number: u8) -> SubcloudId {
    SubcloudId(Uuid::from_u128(u128::from(number)))
}

/// A controller with site 1 enrolled as `s`, and online when asked for.
fn enrolled(online: bool) -> (Controller, Site) {
    let site = site("s", 1, "4");
    let mut machine = controller("4");
    answer(settle(&mut machine, at(0), Input::AddSubcloud(add(1, "s")))).unwrap();
    answer(settle(&mut machine, at(0), Input::Enroll(enroll(1, &site)))).unwrap();
    if online {
        let outputs = join(&mut machine, 1, LINK, key(1), &site);
        assert_eq!(goodbyes(&outputs), []);
    }
    (machine, site)
}

/// Opens a link and says Hello.
fn join(
    machine: &mut Controller,
    seconds: u64,
    link: LinkId,
    key: Fingerprint,
    site: &Site,
) -> Vec<Output> {
    let open = Input::LinkOpened {
        link,
        subcloud: id(1),
        key,
        signed: None,
        source: site.link_address().unwrap(),
    };
    let hello = Input::LinkMessage {
        link,
        message: AgentMessage::Hello(crate::common::hello(site)),
    };
    let mut outputs = settle(machine, at(seconds), open);
    outputs.extend(settle(machine, at(seconds), hello));
    outputs
}

fn goodbyes(outputs: &[Output]) -> Vec<(LinkId, GoodbyeReason)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::CloseLink { link, goodbye } => Some((*link, goodbye.reason)),
            _ => None,
        })
        .collect()
}

fn welcomes(outputs: &[Output]) -> usize {
    let welcome = |output: &&Output| {
        matches!(
            output,
            Output::Send {
                message: fleet::ControllerMessage::Welcome(_),
                ..
            }
        )
    };
    outputs.iter().filter(welcome).count()
}

fn events(outputs: &[Output]) -> Vec<&'static str> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Event(Event { kind, .. }) => Some(kind.name()),
            _ => None,
        })
        .collect()
}

fn operate(change: FleetChange) -> Operate {
    Operate {
        request: RequestId(77),
        actor: Actor::Operator("uid=0".to_owned()),
        change,
        key: None,
        validate_only: false,
    }
}

fn asked(machine: &mut Controller, seconds: u64, call: Operate) -> Vec<Output> {
    settle(machine, at(seconds), Input::Operate(call))
}

fn told(outputs: Vec<Output>) -> Result<Answer, Rejection> {
    let mut answers = outputs.into_iter().filter_map(|output| match output {
        Output::Answer { outcome, .. } => Some(outcome),
        _ => None,
    });
    let first = answers.next().expect("an answer");
    assert!(answers.next().is_none(), "one answer");
    first
}

fn does(machine: &mut Controller, change: FleetChange) -> Result<Answer, Rejection> {
    told(asked(machine, 5, operate(change)))
}

fn manage(force: bool) -> FleetChange {
    FleetChange::Manage {
        subcloud: "s".to_owned(),
        force,
    }
}

fn unmanage() -> FleetChange {
    FleetChange::Unmanage {
        subcloud: "s".to_owned(),
    }
}

fn delete() -> FleetChange {
    FleetChange::Delete {
        subcloud: "s".to_owned(),
        etag: String::new(),
    }
}

fn update(edit: SubcloudEdit) -> FleetChange {
    FleetChange::Update {
        subcloud: "s".to_owned(),
        etag: String::new(),
        edit,
    }
}

fn reenroll(number: u8, flag: bool) -> Input {
    Input::IssueToken(IssueToken {
        request: RequestId(78),
        actor: Actor::Operator("uid=0".to_owned()),
        subcloud: "s".to_owned(),
        token: token(number),
        reenroll: flag,
        validate_only: false,
    })
}

#[test]
fn only_what_is_online_is_managed_unless_forced() {
    let (mut machine, _) = enrolled(false);
    let refused = does(&mut machine, manage(false));
    assert_eq!(reasons(&refused), ["SUBCLOUD_NOT_ONLINE"]);
    assert_eq!(
        reasons(&does(&mut machine, unmanage())),
        ["SUBCLOUD_UNMANAGED"]
    );
    does(&mut machine, manage(true)).unwrap();
    assert_eq!(
        machine.fleet().subcloud(id(1)).unwrap().management,
        Management::Managed
    );
    let twice = does(&mut machine, manage(false));
    assert_eq!(
        reasons(&twice),
        ["SUBCLOUD_MANAGED", "SUBCLOUD_NOT_ONLINE"],
        "all faults at once"
    );
    does(&mut machine, unmanage()).unwrap();

    let (mut machine, _) = enrolled(true);
    let mut preview = operate(manage(false));
    preview.validate_only = true;
    let outputs = asked(&mut machine, 2, preview);
    assert!(
        matches!(outputs[..], [Output::Answer { .. }]),
        "{outputs:?}"
    );
    let outputs = asked(&mut machine, 2, operate(manage(false)));
    assert_eq!(events(&outputs), ["MANAGED"]);

    answer(settle(&mut machine, at(3), Input::AddSubcloud(add(2, "p")))).unwrap();
    let pending = FleetChange::Manage {
        subcloud: "p".to_owned(),
        force: true,
    };
    assert_eq!(
        reasons(&does(&mut machine, pending)),
        ["SUBCLOUD_NOT_ENROLLED"],
        "there is nothing to force"
    );
}

#[test]
fn what_is_deleted_is_cut_off_once_it_is_durable_and_never_comes_back() {
    let (mut machine, site) = enrolled(true);
    does(&mut machine, manage(false)).unwrap();
    assert_eq!(reasons(&does(&mut machine, delete())), ["SUBCLOUD_MANAGED"]);
    does(&mut machine, unmanage()).unwrap();

    let outputs = machine.on(at(6), &mut Calm, Input::Operate(operate(delete())));
    let [Output::Commit { ticket, writes }] = &outputs[..] else {
        panic!("nothing but a write yet: {outputs:?}");
    };
    assert!(
        writes
            .iter()
            .any(|write| matches!(write, Write::ForgetSubcloud(_)))
    );
    assert!(writes.contains(&Write::ForgetSite(id(1))));
    // The agent comes back before the disk is done: not even the refusal goes out early.
    let open = Input::LinkOpened {
        link: LinkId(2),
        subcloud: id(1),
        key: key(1),
        signed: None,
        source: site.link_address().unwrap(),
    };
    assert_eq!(machine.on(at(6), &mut Calm, open), []);
    assert_eq!(machine.links(), 0);
    let freed = machine.on(at(6), &mut Calm, Input::Committed { ticket: *ticket });
    assert_eq!(events(&freed), ["DELETED"]);
    assert_eq!(
        goodbyes(&freed),
        [
            (LINK, GoodbyeReason::Revoked),
            (LinkId(2), GoodbyeReason::Revoked)
        ]
    );
    told(freed).unwrap();

    // Name, region and addresses are free; under the same name it is another subcloud.
    let declared = Candidate::declared(Footprint::of(&site.to_parts()));
    let again = AddSubcloud {
        declared: Some(Box::new(declared)),
        ..add(2, "s")
    };
    answer(settle(&mut machine, at(7), Input::AddSubcloud(again))).unwrap();
    answer(settle(&mut machine, at(7), Input::Enroll(enroll(2, &site)))).unwrap();
    let outputs = join(&mut machine, 8, LinkId(3), key(1), &site);
    assert_eq!(welcomes(&outputs), 0);
    assert_eq!(goodbyes(&outputs), [(LinkId(3), GoodbyeReason::Revoked)]);
    // Its spent token is gone with it.
    let replay = answer(settle(&mut machine, at(9), Input::Enroll(enroll(1, &site))));
    assert_eq!(reasons(&replay), ["ENROLL_TOKEN_INVALID"]);
    assert_eq!(
        settle(&mut machine, at(200), Input::Timer).len(),
        1,
        "s is offline"
    );
}

#[test]
fn the_same_request_gets_the_same_answer_for_a_day_also_after_a_restart() {
    let (mut machine, _) = enrolled(true);
    let known = |fingerprint: u8| Operate {
        key: Some(RequestKey {
            id: "once".to_owned(),
            fingerprint: [fingerprint; 32],
        }),
        ..operate(delete())
    };
    let outputs = asked(&mut machine, 5, known(1));
    let kept = answers_kept(&outputs);
    let first = told(outputs).unwrap();
    let outputs = asked(&mut machine, 6, known(1));
    assert_eq!(outputs.len(), 1, "nothing is written");
    assert_eq!(told(outputs).unwrap(), first);
    let other = told(asked(&mut machine, 6, known(2)));
    assert_eq!(reasons(&other), ["INVALID_ARGUMENT"]);

    let records = Records {
        answers: kept,
        ..Records::default()
    };
    let mut restarted = crate::common::recovered("4", records, 100);
    let day = 24 * 60 * 60;
    assert_eq!(
        told(asked(&mut restarted, 5 + day, known(1))).unwrap(),
        first
    );
    let late = told(asked(&mut restarted, 6 + day, known(1)));
    assert_eq!(reasons(&late), ["SUBCLOUD_NOT_FOUND"]);
}

#[test]
fn a_site_that_was_installed_anew_takes_its_place_by_an_operators_word() {
    let (mut machine, _) = enrolled(true);
    let refused = answer(settle(&mut machine, at(5), reenroll(2, false)));
    assert_eq!(reasons(&refused), ["SUBCLOUD_ALREADY_ENROLLED"]);
    let remedy = refused.unwrap_err().first().remedy.clone();
    assert!(remedy.contains("subcloud token s --reenroll"), "{remedy}");
    does(&mut machine, manage(false)).unwrap();
    let issued = answer(settle(&mut machine, at(5), reenroll(2, true))).unwrap();
    assert!(issued.subcloud.open_token().is_some());
    assert_eq!(machine.links(), 1, "until it is redeemed nothing changes");

    // The key that is there already cannot be its own successor.
    let anew = crate::common::installed("s", 1, "4", "24.09", "");
    let mut parts = anew.to_parts();
    parts.identity.uuid = Uuid::from_u128(0xabc);
    let anew = Site::from_parts(parts).unwrap();
    let redeem = |key: Fingerprint| {
        Input::Enroll(Enroll {
            key,
            ..enroll(2, &anew)
        })
    };
    let own = answer(settle(&mut machine, at(6), redeem(key(1))));
    assert_eq!(reasons(&own), ["ENROLL_TOKEN_INVALID"]);
    let outputs = settle(&mut machine, at(6), redeem(key(2)));
    assert_eq!(events(&outputs), ["REENROLLED"]);
    assert_eq!(goodbyes(&outputs), [(LINK, GoodbyeReason::Revoked)]);
    let taken: Receipt = answer(outputs).unwrap();
    let now = taken.subcloud.enrolled().unwrap();
    assert_eq!((now.key, now.site), (key(2), Uuid::from_u128(0xabc)));
    assert_eq!(taken.subcloud.id, id(1));
    assert_eq!(taken.subcloud.management, Management::Managed);
    assert!(taken.subcloud.open_token().is_none(), "it works once");

    // A lost answer can be asked for again, by this key only.
    assert!(
        answer(settle(&mut machine, at(7), redeem(key(2))))
            .unwrap()
            .replayed
    );
    let third = answer(settle(&mut machine, at(7), redeem(key(3))));
    assert_eq!(reasons(&third), ["ENROLL_TOKEN_INVALID"]);
    let outputs = join(&mut machine, 8, LinkId(2), key(1), &anew);
    assert_eq!(goodbyes(&outputs), [(LinkId(2), GoodbyeReason::Revoked)]);
    assert_eq!(
        welcomes(&join(&mut machine, 8, LinkId(3), key(2), &anew)),
        1
    );
}

#[test]
fn a_site_that_enrolls_anew_is_judged_against_all_others() {
    let (mut machine, _) = enrolled(false);
    answer(settle(&mut machine, at(1), Input::AddSubcloud(add(3, "t")))).unwrap();
    let other = Input::Enroll(enroll(3, &site("t", 3, "4")));
    answer(settle(&mut machine, at(1), other)).unwrap();
    answer(settle(&mut machine, at(2), reenroll(2, true))).unwrap();
    for (number, layout, reason) in [
        (3, "4", "ADDRESS_OVERLAP"),
        (1, "6", "PRIMARY_FAMILY_MISMATCH"),
    ] {
        let moved = Input::Enroll(enroll(2, &site("s", number, layout)));
        let refused = answer(settle(&mut machine, at(3), moved));
        assert_eq!(reasons(&refused).first(), Some(&reason));
    }
    // A refusal spends nothing; new addresses of its own are as good as the old ones.
    let moved = Input::Enroll(enroll(2, &site("s", 4, "46")));
    answer(settle(&mut machine, at(4), moved)).unwrap();
    let never = settle(&mut machine, at(5), Input::AddSubcloud(add(5, "u")));
    answer(never).unwrap();
    let early = Input::IssueToken(IssueToken {
        request: RequestId(1),
        actor: Actor::Operator("uid=0".to_owned()),
        subcloud: "u".to_owned(),
        token: token(6),
        reenroll: true,
        validate_only: false,
    });
    let refused = answer(settle(&mut machine, at(5), early));
    assert_eq!(reasons(&refused), ["SUBCLOUD_NOT_ENROLLED"]);
}

#[test]
fn a_name_that_is_taken_is_the_only_fault_of_the_same_site() {
    let (mut machine, site) = enrolled(false);
    let declared = Candidate::declared(Footprint::of(&site.to_parts()));
    let again = AddSubcloud {
        declared: Some(Box::new(declared)),
        ..add(2, "s")
    };
    let refused = answer(settle(&mut machine, at(1), Input::AddSubcloud(again)));
    assert_eq!(reasons(&refused), ["SUBCLOUD_NAME_TAKEN"]);
    let remedy = refused.unwrap_err().first().remedy.clone();
    assert!(remedy.contains("subcloud delete s"), "{remedy}");
}

#[test]
fn an_update_changes_what_it_names_for_the_version_that_was_read() {
    let (mut machine, _) = enrolled(false);
    let before = machine.fleet().subcloud(id(1)).unwrap().etag();
    let edit = SubcloudEdit {
        location: Some("hall 7".to_owned()),
        ..SubcloudEdit::default()
    };
    does(&mut machine, update(edit.clone())).unwrap();
    let record = machine.fleet().subcloud(id(1)).unwrap();
    assert_eq!(
        (record.location.as_str(), record.description.as_str()),
        ("hall 7", "")
    );
    assert_ne!(record.etag(), before);
    for change in [
        FleetChange::Update {
            subcloud: "s".to_owned(),
            etag: before.clone(),
            edit,
        },
        FleetChange::Delete {
            subcloud: "s".to_owned(),
            etag: before,
        },
    ] {
        assert_eq!(reasons(&does(&mut machine, change)), ["ETAG_MISMATCH"]);
    }
    let nothing = does(&mut machine, update(SubcloudEdit::default()));
    assert_eq!(reasons(&nothing), ["INVALID_ARGUMENT"]);
    let nobody = FleetChange::Update {
        subcloud: "nobody".to_owned(),
        etag: String::new(),
        edit: SubcloudEdit {
            group: Some("nowhere".to_owned()),
            ..SubcloudEdit::default()
        },
    };
    assert_eq!(
        reasons(&does(&mut machine, nobody)),
        ["SUBCLOUD_NOT_FOUND", "SUBCLOUD_GROUP_NOT_FOUND"]
    );
    let all_wrong = update(SubcloudEdit {
        description: Some("x".repeat(256)),
        location: Some("two\nlines".to_owned()),
        group: Some("nowhere".to_owned()),
    });
    assert_eq!(
        reasons(&does(&mut machine, all_wrong)),
        [
            "INVALID_ARGUMENT",
            "INVALID_ARGUMENT",
            "SUBCLOUD_GROUP_NOT_FOUND"
        ]
    );
}

fn add_group(number: u128, edit: GroupEdit) -> FleetChange {
    FleetChange::AddGroup {
        id: GroupId(Uuid::from_u128(number)),
        group: edit,
    }
}

fn named(name: &str) -> GroupEdit {
    GroupEdit {
        name: Some(name.to_owned()),
        ..GroupEdit::default()
    }
}

fn update_group(group: &str, edit: GroupEdit) -> FleetChange {
    FleetChange::UpdateGroup {
        group: group.to_owned(),
        etag: String::new(),
        edit,
    }
}

fn delete_group(group: &str) -> FleetChange {
    FleetChange::DeleteGroup {
        group: group.to_owned(),
        etag: String::new(),
    }
}

#[test]
fn the_members_of_a_deleted_group_are_in_the_default_group() {
    let (mut machine, _) = enrolled(false);
    let group_of = |machine: &Controller| {
        let record = machine.fleet().subcloud(id(1)).unwrap();
        machine.fleet().group_of(record).name.clone()
    };
    assert_eq!(group_of(&machine), "Default");
    does(&mut machine, add_group(10, named("north"))).unwrap();
    let moved = update(SubcloudEdit {
        group: Some("north".to_owned()),
        ..SubcloudEdit::default()
    });
    does(&mut machine, moved).unwrap();
    assert_eq!(group_of(&machine), "north");
    let edit = GroupEdit {
        update: Some(UpdateApply::Serial),
        max_parallel: Some(7),
        ..named("south")
    };
    does(&mut machine, update_group("north", edit)).unwrap();
    assert_eq!(group_of(&machine), "south");
    let found = machine.fleet().find_group("south").unwrap();
    assert_eq!((found.update, found.max_parallel), (UpdateApply::Serial, 7));
    does(&mut machine, delete_group("south")).unwrap();
    assert_eq!(group_of(&machine), "Default");
}

#[test]
fn groups_have_bounds_and_the_default_group_stays() {
    let (mut machine, _) = enrolled(false);
    does(&mut machine, add_group(10, named("north"))).unwrap();
    let parallel = |number| GroupEdit {
        max_parallel: Some(number),
        ..GroupEdit::default()
    };
    for (change, reason) in [
        (add_group(11, named("north")), "SUBCLOUD_GROUP_NAME_TAKEN"),
        (add_group(11, named("Default")), "SUBCLOUD_GROUP_NAME_TAKEN"),
        (add_group(11, named("no rth")), "INVALID_NAME"),
        (add_group(11, GroupEdit::default()), "INVALID_NAME"),
        (update_group("north", parallel(0)), "INVALID_ARGUMENT"),
        (update_group("north", parallel(501)), "INVALID_ARGUMENT"),
        (
            update_group("north", GroupEdit::default()),
            "INVALID_ARGUMENT",
        ),
        (update_group("Default", named("all")), "DEFAULT_GROUP_FIXED"),
        (delete_group("Default"), "DEFAULT_GROUP_FIXED"),
        (delete_group("nowhere"), "SUBCLOUD_GROUP_NOT_FOUND"),
    ] {
        let refused = does(&mut machine, change.clone());
        assert_eq!(reasons(&refused), [reason], "{change:?}");
    }
    does(&mut machine, update_group("Default", parallel(9))).unwrap();
    assert_eq!(
        machine.fleet().find_group("Default").unwrap().max_parallel,
        9
    );
    let mut number = 100;
    let full = loop {
        number += 1;
        let added = does(
            &mut machine,
            add_group(number, named(&format!("g{number}"))),
        );
        if added.is_err() {
            break added;
        }
    };
    assert_eq!(reasons(&full), ["SUBCLOUD_GROUPS_FULL"]);
    assert_eq!(machine.fleet().groups().count(), fleet::group::MAX_GROUPS);
}

#[test]
fn a_subcloud_is_added_with_what_is_said_of_it() {
    let mut machine = controller("4");
    let said = |description: &str, group: &str| {
        let edit = SubcloudEdit {
            description: Some(description.to_owned()),
            location: Some("hall 7".to_owned()),
            group: Some(group.to_owned()),
        };
        Input::AddSubcloud(AddSubcloud {
            edit,
            ..add(1, "s")
        })
    };
    let refused = answer(settle(&mut machine, at(1), said("a\nb", "north")));
    assert_eq!(
        reasons(&refused),
        ["INVALID_ARGUMENT", "SUBCLOUD_GROUP_NOT_FOUND"]
    );
    assert_eq!(machine.fleet().subclouds().count(), 0);

    answer(settle(&mut machine, at(2), said("a b", "Default"))).unwrap();
    let record = machine.fleet().subclouds().next().unwrap();
    let told = (record.description.as_str(), record.location.as_str());
    assert_eq!((told, record.group), (("a b", "hall 7"), GroupId::DEFAULT));
}

#[test]
fn a_refused_call_is_logged_under_the_subcloud_that_it_was_about() {
    let (mut machine, _) = enrolled(true);
    does(&mut machine, manage(false)).unwrap();
    for reference in ["s".to_owned(), id(1).0.to_string()] {
        let change = FleetChange::Delete {
            subcloud: reference,
            etag: String::new(),
        };
        let outputs = asked(&mut machine, 6, operate(change));
        let entries = outputs.iter().filter_map(|output| match output {
            Output::Commit { writes, .. } => Some(writes),
            _ => None,
        });
        let entries: Vec<_> = entries
            .flatten()
            .filter_map(|write| match write {
                Write::Audit(entry) => Some((entry.subcloud, &*entry.name)),
                _ => None,
            })
            .collect();
        assert_eq!(entries, [(Some(id(1)), "s")]);
        assert_eq!(crate::common::reasons(&told(outputs)), ["SUBCLOUD_MANAGED"]);
    }
}
