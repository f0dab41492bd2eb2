//! Rollouts: what is foreseen, and that every subcloud is changed exactly once, whatever breaks.

mod world;

use crate::common::{at, reasons};
use fleet::{
    Action, Answered, BACKSTOP, Fault, MAX_KEPT_ROLLOUTS, MAX_OPEN_ROLLOUTS, MemberState, Order,
    PoolAction, RolloutCensus, RolloutId, RolloutInput, RolloutRequest, RolloutState, Selector,
    Standing, Step, UpdateApply, Verb, group_bounds, preview,
};
use proptest::prelude::*;
use site::{NetworkKind, PoolEdit, Rank};
use world::{Act, World, order, request};

#[test]
fn faults_of_a_request_come_at_once() {
    let bad = RolloutRequest {
        network: "lan".to_owned(),
        action: Some(PoolAction::Add),
        selector: Selector::default(),
        template: b"order: {index}\n".to_vec(),
        table: Vec::new(),
        max_parallel: 0,
        max_failures: 0,
    };
    let rejection = Order::read(bad).unwrap_err();
    let fields: Vec<_> = rejection
        .violations()
        .iter()
        .map(|v| v.field.as_str())
        .collect();
    assert_eq!(fields, ["network", "template", "selector", "max_parallel"]);
    let fields = |request: RolloutRequest| -> Vec<String> {
        let rejection = Order::read(request).unwrap_err();
        rejection
            .violations()
            .iter()
            .map(|v| v.field.clone())
            .collect()
    };
    let both = RolloutRequest {
        table: b"subcloud\nx\n".to_vec(),
        ..request(3)
    };
    assert_eq!(fields(both), ["table", "selector"]);
    let nothing = RolloutRequest {
        template: Vec::new(),
        ..request(3)
    };
    assert_eq!(fields(nothing), ["template"]);
    let remove = RolloutRequest {
        action: Some(PoolAction::Remove { delete: false }),
        ..request(3)
    };
    assert_eq!(fields(remove), ["template"]);
}

#[test]
fn a_preview_tells_effects_and_refusals_by_subcloud() {
    let world = World::new(3);
    let seen = world.preview(&order());
    let of = |name: &str| {
        seen.iter()
            .find(|f| f.member.name == name)
            .expect("a member")
    };
    assert_eq!(of("s1").member.state, MemberState::Pending);
    assert_eq!(of("s1").steps, [Step::AddPool, Step::AssignPool]);
    let kinds: Vec<_> = of("s1")
        .effects
        .iter()
        .map(|effect| effect.kind())
        .collect();
    assert!(kinds.contains(&"CONFIGURE_NETWORK"), "{kinds:?}");
    assert_eq!(of("pending").member.state, MemberState::Skipped);
    assert_eq!(
        of("pending").member.faults[0].reason,
        "SUBCLOUD_NOT_ENROLLED"
    );
    // Index and name order agree: pending comes first and has index 0.
    assert_eq!(of("s1").member.index, 1);
}

/// The preview of a fleet in which everything happens, as text; `UPDATE_GOLDENS=1` writes it.
#[test]
fn the_text_of_a_preview() {
    let world = World::new(3);
    let rows = "subcloud,name,subnet,floating_address\ns3,admin6,fd00:9::/64,fd00:9::2\n\
                s1,admin6,fd00:9::/64,fd00:9::2\ns2,admin6,fd02:2::/64,\npending,x,fd00:8::/64,\n";
    let order = Order::read(RolloutRequest {
        table: rows.into(),
        template: Vec::new(),
        selector: Selector::default(),
        ..request(2)
    });
    let mut text = String::new();
    for seen in world.preview(&order.unwrap()) {
        let steps: Vec<_> = seen.steps.iter().map(|step| step.name()).collect();
        let member = &seen.member;
        text += &format!(
            "{} {} {}\n",
            member.name,
            member.state.name(),
            steps.join(" ")
        );
        let faults = member
            .faults
            .iter()
            .map(|f| format!("{}: {}", f.reason, f.message));
        let effects = seen.effects.iter().map(|e| format!("{}: {e}", e.kind()));
        for line in faults.chain(effects) {
            text += &format!("  {line}\n");
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/rollout/preview.txt");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(path, &text).expect("the golden file can be written");
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap_or_default());
}

#[test]
fn members_that_would_overlap_each_other_are_found() {
    let world = World::new(2);
    let text = "name: admin6\nsubnet: fd00:10::/64\nfloating_address: \"{subnet+2}\"\n";
    let order = Order::read(RolloutRequest {
        template: text.into(),
        ..request(2)
    })
    .unwrap();
    let seen = world.preview(&order);
    let states: Vec<_> = seen.iter().map(|f| f.member.state).collect();
    assert_eq!(
        states,
        [
            MemberState::Skipped,
            MemberState::Pending,
            MemberState::Refused
        ]
    );
    assert_eq!(seen[2].member.faults[0].reason, "ADDRESS_OVERLAP");
    assert!(
        seen[2].member.faults[0].message.contains("s1"),
        "{:?}",
        seen[2].member.faults
    );
}

#[test]
fn selections_are_judged() {
    let world = World::new(2);
    let select = |selector: Selector| {
        let order = Order {
            selector,
            ..order()
        };
        let found = preview(world.view.fleet_ref(), &order, at(0), |id| {
            world.reported(id)
        });
        (reasons(&found), found.map(|f| f.len()).unwrap_or_default())
    };
    let named = |names: &[&str]| Selector {
        names: names.iter().map(|&n| n.to_owned()).collect(),
        ..Selector::default()
    };
    assert_eq!(select(named(&["s2", "s1", "s2"])), (vec![], 2));
    assert_eq!(
        select(named(&["s2", "x", "y"])),
        (vec!["SUBCLOUD_NOT_FOUND", "SUBCLOUD_NOT_FOUND"], 0)
    );
    let v6 = Selector {
        all: true,
        family: Some(site::Family::Ipv6),
        ..Selector::default()
    };
    assert_eq!(select(v6), (vec!["INVALID_ARGUMENT"], 0));
    let v4 = Selector {
        all: true,
        family: Some(site::Family::Ipv4),
        ..Selector::default()
    };
    assert_eq!(select(v4).1, 2);
    let group = |name: &str| Selector {
        group: Some(name.to_owned()),
        ..Selector::default()
    };
    assert_eq!(select(group("Default")), (vec![], 3));
    let nobody = Selector {
        names: vec!["x".to_owned()],
        ..group("nowhere")
    };
    assert_eq!(
        select(nobody),
        (vec!["SUBCLOUD_NOT_FOUND", "SUBCLOUD_GROUP_NOT_FOUND"], 0)
    );
}

#[test]
fn a_rollout_changes_every_subcloud_and_keeps_the_results() {
    let mut world = World::new(5);
    let id = world.create(order()).unwrap();
    world.run(200);
    let rollout = world.record(id);
    assert_eq!(rollout.state, RolloutState::Finished);
    assert_eq!((rollout.tally.done, rollout.tally.skipped), (5, 1));
    world.check();
    assert!(
        world
            .stored_members(id)
            .iter()
            .filter(|m| m.changed)
            .count()
            == 5
    );
    // Again: everything is in effect.
    let again = world.create(order()).unwrap();
    assert_eq!(world.record(again).state, RolloutState::Finished);
    assert!(
        world
            .stored_members(again)
            .iter()
            .all(|member| !member.changed)
    );
}

#[test]
fn never_more_than_max_parallel_at_once() {
    let mut world = World::new(6);
    world
        .create(Order {
            max_parallel: 2,
            ..order()
        })
        .unwrap();
    assert_eq!(world.busy(), 2);
    world.run(200);
    assert_eq!(world.most_busy, 2);
}

#[test]
fn each_group_bounds_how_many_of_it_are_worked_on() {
    let mut world = World::new(7);
    world.group(1, UpdateApply::Serial, 5, &["s1", "s2", "s3"]);
    let order = Order {
        max_parallel: 4,
        ..order()
    };
    let bounds = |world: &mut World| -> Vec<_> {
        let members = world.preview(&order);
        let members = members.iter().map(|seen| &seen.member);
        let bounds = group_bounds(world.view.fleet_ref(), order.max_parallel, members);
        let bound = |bound: &fleet::GroupBound| {
            let group = &bound.group;
            (group.name.clone(), group.at_once(), bound.members)
        };
        bounds.iter().map(bound).collect()
    };
    // Nobody has put its subclouds into the Default group for that.
    assert_eq!(bounds(&mut world), [("group-1".to_owned(), 1, 3)]);
    world.default_group(2);
    let of_default = ("Default".to_owned(), 2, 4);
    assert_eq!(
        bounds(&mut world),
        [of_default, ("group-1".to_owned(), 1, 3)]
    );

    let id = world.create(order).unwrap();
    assert_eq!(world.busy_names(), ["s1", "s4", "s5"]);
    assert_eq!(world.awaited(), ["s1", "s4", "s5"], "no others are missed");
    // Nothing has become of them before a group allows more: that is for the next ones.
    world.group(1, UpdateApply::Parallel, 3, &[]);
    world.stir("s7");
    assert_eq!(world.busy_names(), ["s1", "s2", "s4", "s5"]);
    world.group(1, UpdateApply::Serial, 3, &[]);
    while world.step() {
        let names = world.busy_names();
        let serial = names.iter().filter(|name| name.as_str() < "s4").count();
        let most = if names.contains(&"s3".to_owned()) {
            1
        } else {
            2
        };
        assert!(serial <= most && names.len() - serial <= 2, "{names:?}");
    }
    assert_eq!(world.record(id).state, RolloutState::Finished);
    world.check();
}

#[test]
fn all_rollouts_together_keep_to_the_bound_of_a_group() {
    let mut world = World::new(2);
    world.group(1, UpdateApply::Serial, 2, &["s1", "s2"]);
    let one = world.create(order_for("s1")).unwrap();
    let two = world.create(order_for("s2")).unwrap();
    assert_eq!(world.busy_names(), ["s1"]);
    // One that begins and goes away holds up nobody, and keeps to the bound when it is back.
    while !world.has_command(Step::AddPool) {
        world.step();
    }
    world.act(Act::LoseAnswer(0), one);
    assert_eq!(world.busy_names(), ["s2"]);
    world.run(100);
    assert_eq!(world.most_busy, 1);
    for id in [one, two] {
        assert_eq!(world.record(id).state, RolloutState::Finished);
    }
}

#[test]
fn one_that_comes_into_another_group_waits_for_that_one_only() {
    let mut world = World::new(3);
    world.group(1, UpdateApply::Serial, 1, &["s1", "s2", "s3"]);
    world.create(order()).unwrap();
    assert_eq!(world.busy_names(), ["s1"]);
    world.group(2, UpdateApply::Serial, 1, &["s2"]);
    world.feed(RolloutInput::Timer);
    assert_eq!(world.busy_names(), ["s1", "s2"]);
    // Those of a group that is deleted are in the Default group, of which two may be.
    world.delete_group(1);
    world.stir("s3");
    assert_eq!(world.busy_names(), ["s1", "s2", "s3"]);
}

#[test]
fn pool_removal_and_modification_follow_their_pools() {
    let mut world = World::new(2);
    world.create(order()).unwrap();
    world.run(100);
    let modify = Order::read(RolloutRequest {
        action: Some(PoolAction::Modify {
            rank: Rank::Secondary,
        }),
        template: b"gateway_address: \"{subnet+1}\"\nname: renamed\n".to_vec(),
        ..request(2)
    });
    let refused = world.create(modify.unwrap()).unwrap();
    // {subnet} has no meaning without a subnet line: refused by subcloud, nothing happens.
    assert_eq!(world.record(refused).tally.refused, 2);
    let modify = Order::read(RolloutRequest {
        action: Some(PoolAction::Modify {
            rank: Rank::Secondary,
        }),
        template: b"name: renamed\norder: sequential\n".to_vec(),
        ..request(2)
    });
    let modified = world.create(modify.unwrap()).unwrap();
    world.run(100);
    assert_eq!(world.record(modified).tally.done, 2);
    assert!(world.site("s1").find_pool("renamed").is_some());
    let remove = Order::read(RolloutRequest {
        action: Some(PoolAction::Remove { delete: true }),
        template: Vec::new(),
        ..request(2)
    });
    let removed = world.create(remove.unwrap()).unwrap();
    world.run(100);
    assert_eq!(world.record(removed).tally.done, 2);
    assert!(world.site("s1").find_pool("renamed").is_none());
    let admin = world.site("s1");
    let admin = admin.network(NetworkKind::Admin).unwrap();
    assert!(admin.pools().secondary().is_none());
    world.check();
}

#[test]
fn one_that_is_not_ready_waits_and_holds_up_nobody() {
    let mut world = World::new(3);
    world.standing("s1", Standing::Offline);
    world.standing("s2", Standing::Unmanaged);
    let id = world
        .create(Order {
            max_parallel: 1,
            ..order()
        })
        .unwrap();
    world.run(100);
    assert_eq!(world.record(id).tally.done, 1);
    assert_eq!(world.record(id).state, RolloutState::Running);
    world.standing("s1", Standing::Ready);
    world.stir("s1");
    world.run(100);
    assert_eq!(world.record(id).tally.done, 2);
    // Nobody tells of s2: the backstop finds it.
    world.standing("s2", Standing::Ready);
    world.now += BACKSTOP.as_secs();
    world.feed(RolloutInput::Timer);
    world.run(100);
    assert_eq!(world.record(id).state, RolloutState::Finished);
    world.check();
}

#[test]
fn the_fleet_misses_nobody_whose_turn_has_not_come() {
    let mut world = World::new(6);
    let id = world
        .create(Order {
            max_parallel: 2,
            ..order()
        })
        .unwrap();
    assert_eq!(world.awaited(), ["s1", "s2"]);
    loop {
        // Beside those that are worked on, those whose results are on their way to the disk.
        assert!(world.awaited().len() <= 2 * 2, "{:?}", world.awaited());
        if !world.step() {
            break;
        }
    }
    assert_eq!(world.record(id).tally.done, 6);
    assert_eq!(world.awaited(), [""; 0]);
}

#[test]
fn one_that_was_passed_over_is_missed_until_it_waits_for_its_turn_again() {
    let mut world = World::new(4);
    for name in ["s2", "s4"] {
        world.standing(name, Standing::Offline);
    }
    let id = world
        .create(Order {
            max_parallel: 1,
            ..order()
        })
        .unwrap();
    // s1 is worked on, and nobody has looked at the others.
    assert_eq!(world.awaited(), ["s1"]);
    world.control(id, Verb::Pause).unwrap();
    world.run(50);
    assert_eq!(world.awaited(), [""; 0], "a pause is no cause for alarm");
    world.control(id, Verb::Resume).unwrap();
    let passed_over = ["s2", "s4"];
    world.run(50);
    assert_eq!(world.record(id).tally.done, 2);
    assert_eq!(world.awaited(), passed_over);
    // Not even the backstop makes them wait anew.
    world.now += BACKSTOP.as_secs();
    world.feed(RolloutInput::Timer);
    world.stir("s2");
    assert_eq!(world.awaited(), passed_over);
    // An alarm tells of them; the next process misses them from its start.
    world.miss_awaited();
    world.restart();
    assert_eq!(world.awaited(), passed_over);
    world.stir("s2");
    assert_eq!(world.awaited(), passed_over);
    // Behind a pause one that is ready waits for its turn.
    world.control(id, Verb::Pause).unwrap();
    world.standing("s2", Standing::Ready);
    world.stir("s2");
    assert_eq!(world.awaited(), ["s4"]);
    world.control(id, Verb::Abort).unwrap();
    assert_eq!(world.awaited(), [""; 0]);
}

#[test]
fn a_refusal_stops_only_a_rollout_that_says_so() {
    for (max_failures, state, done) in [
        (None, RolloutState::Finished, 3),
        (Some(1), RolloutState::Paused, 0),
    ] {
        let mut world = World::new(4);
        let order = Order {
            max_failures,
            max_parallel: 1,
            ..order()
        };
        world.spoil("s1");
        let id = world.create(order).unwrap();
        world.run(100);
        let record = world.record(id);
        assert_eq!(
            (record.state, record.tally.done),
            (state, done),
            "{record:?}"
        );
        assert_eq!(record.tally.refused, 1);
        if max_failures.is_some() {
            assert_eq!(record.paused_because.unwrap().reason, "ROLLOUT_PAUSED");
            world.control(id, Verb::Resume).unwrap();
            world.run(100);
            assert_eq!(world.record(id).state, RolloutState::Finished);
            assert_eq!(world.record(id).tally.done, 3);
        }
        world.check();
    }
}

#[test]
fn a_step_refused_after_another_is_told_as_half_done() {
    let mut world = World::new(1);
    let id = world.create(order()).unwrap();
    // The disk, the report, the disk, the first command and its answer, the disk.
    while !world.has_command(Step::AssignPool) {
        world.step();
    }
    world.answer_with(Answered::Refused(vec![Fault {
        reason: "NETWORK_HAS_TWO_POOLS".to_owned(),
        ..Fault::default()
    }]));
    world.run(20);
    let members = world.stored_members(id);
    let member = members.iter().find(|m| m.name == "s1").unwrap();
    assert_eq!(member.state, MemberState::Failed);
    let reasons: Vec<_> = member.faults.iter().map(|f| f.reason.as_str()).collect();
    assert_eq!(reasons, ["NETWORK_HAS_TWO_POOLS", "ROLLOUT_INCOMPLETE"]);
}

#[test]
fn a_step_whose_answer_was_lost_is_no_proof_that_nothing_was_changed() {
    let mut world = World::new(1);
    let id = world.create(order()).unwrap();
    while !world.has_command(Step::AddPool) {
        world.step();
    }
    world.act(Act::LoseAnswer(0), id);
    // The pool is there, and no longer as the rollout made it.
    world.modify(
        "s1",
        "s1-admin6",
        PoolEdit {
            floating_address: Some(String::new()),
            ..PoolEdit::default()
        },
    );
    world.act(Act::Report(0), id);
    world.run(20);
    let members = world.stored_members(id);
    let member = members.iter().find(|m| m.name == "s1").unwrap();
    assert_eq!(member.state, MemberState::Failed);
    let last = member.faults.last().map(|fault| fault.reason.as_str());
    assert_eq!(last, Some("ROLLOUT_INCOMPLETE"));
}

#[test]
fn closed_rollouts_obey_nobody_and_a_preview_of_a_word_changes_nothing() {
    let mut world = World::new(1);
    let id = world.create(order()).unwrap();
    let preview = world.feed_control(id, Verb::Abort, true).unwrap();
    assert_eq!(preview.rollout.state, RolloutState::Aborted);
    assert_eq!(world.record(id).state, RolloutState::Running);
    world.run(50);
    assert_eq!(world.record(id).state, RolloutState::Finished);
    for verb in [Verb::Pause, Verb::Resume, Verb::Abort] {
        assert_eq!(reasons(&world.control(id, verb)), ["ROLLOUT_CLOSED"]);
    }
    let unknown = world.control(RolloutId(77), Verb::Pause);
    assert_eq!(reasons(&unknown), ["ROLLOUT_NOT_FOUND"]);
    let expected = [
        (Action::CreateRollout, "rollout 1", true),
        (Action::PauseRollout, "rollout 1", false),
        (Action::ResumeRollout, "rollout 1", false),
        (Action::AbortRollout, "rollout 1", false),
        (Action::PauseRollout, "rollout 77", false),
    ];
    let expected = expected.map(|(action, name, done)| (action, name.to_owned(), done));
    assert_eq!(world.audited, expected);
}

#[test]
fn nothing_is_planned_on_an_older_report_than_the_fleet_has() {
    let reading = || {
        let mut world = World::new(1);
        let id = world.create(order()).unwrap();
        while world.busy() == 0 {
            assert!(world.commit());
        }
        let edit = PoolEdit {
            gateway_address: Some(String::new()),
            ..PoolEdit::default()
        };
        world.modify("s1", "admin-ipv4", edit);
        (world, id)
    };
    // The newest report counts, but the disk has the one before.
    let (mut world, id) = reading();
    world.report_early("s1");
    assert!(world.read(0));
    assert_eq!(world.busy(), 0, "nobody works on it");
    assert!(!world.read(0), "nor asks for it again before it is there");
    world.act(Act::Report(0), id);
    world.run(20);
    assert!(world.changed("s1"));

    // It comes to the disk after the reading, and before that ends.
    let (mut world, _) = reading();
    world.read_just_before_a_report();
    assert!(world.read(0), "it is read again");
    world.run(20);
    assert!(world.changed("s1"));
}

#[test]
fn the_same_request_makes_one_rollout() {
    let mut world = World::new(1);
    let one = world.create_named(order(), "r-1", [1; 32]).unwrap();
    let again = world.create_named(order(), "r-1", [1; 32]).unwrap();
    assert_eq!((one.rollout.id, again.replayed), (again.rollout.id, true));
    let other = world.create_named(order(), "r-1", [2; 32]);
    assert_eq!(reasons(&other), ["INVALID_ARGUMENT"]);
    let noted = |name: &str, done| (Action::CreateRollout, name.to_owned(), done);
    let expected = [noted("rollout 1", true), noted("network admin", false)];
    assert_eq!(world.audited, expected);
}

#[test]
fn open_rollouts_are_limited_and_old_results_are_forgotten() {
    let mut world = World::new(1);
    world.standing("s1", Standing::Offline);
    for _ in 0..MAX_OPEN_ROLLOUTS {
        world.create(order()).unwrap();
    }
    assert_eq!(reasons(&world.create(order())), ["TOO_MANY_ROLLOUTS"]);
    // One after the other has the subcloud, each when the report on what the first did is due.
    world.standing("s1", Standing::Ready);
    for _ in 0..MAX_OPEN_ROLLOUTS {
        world.now += BACKSTOP.as_secs();
        world.feed(RolloutInput::Timer);
        world.run(1000);
        assert!(world.busy() <= 1);
    }
    world.check();
    for _ in 0..MAX_KEPT_ROLLOUTS {
        world.create(order()).unwrap();
    }
    let first = u64::try_from(MAX_OPEN_ROLLOUTS).unwrap() + 1;
    let kept: Vec<_> = world.stored_rollouts();
    assert_eq!(kept.first(), Some(&RolloutId(first)));
    assert_eq!(kept.len(), MAX_KEPT_ROLLOUTS);
}

/// A rollout for one subcloud, whose pool no other has.
fn order_for(name: &str) -> Order {
    let request = request(3);
    let template = String::from_utf8(request.template).unwrap();
    let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let template = template.replace("fd00:10:", &format!("fd00:{digits}:"));
    let selector = Selector {
        names: vec![name.to_owned()],
        ..Selector::default()
    };
    let request = RolloutRequest {
        template: template.into_bytes(),
        selector,
        ..request
    };
    Order::read(request).unwrap()
}

#[test]
fn the_results_of_a_rollout_that_took_long_are_kept_when_it_ends() {
    for aborted in [true, false] {
        let mut world = World::new(2);
        world.standing("s1", Standing::Unmanaged);
        let slow = world.create(order_for("s1")).unwrap();
        world.create(order_for("s2")).unwrap();
        world.run(50);
        // From now on s2 is as it shall be.
        for _ in 0..MAX_KEPT_ROLLOUTS {
            world.create(order_for("s2")).unwrap();
        }
        // The clock of the controller is set back: it does not tell who closed first.
        world.now = 0;
        if aborted {
            let receipt = world.control(slow, Verb::Abort).unwrap();
            assert_eq!(receipt.rollout.tally.skipped, 1);
        } else {
            world.standing("s1", Standing::Ready);
            world.stir("s1");
            world.run(50);
        }
        let end = if aborted {
            (RolloutState::Aborted, MemberState::Skipped)
        } else {
            (RolloutState::Finished, MemberState::Done)
        };
        let member = &world.stored_members(slow)[0];
        assert_eq!((world.record(slow).state, member.state), end);
        // Of the others those are forgotten that ended first, and so it goes on after a restart.
        let kept = |oldest: u64| {
            let newest = oldest + u64::try_from(MAX_KEPT_ROLLOUTS).unwrap() - 1;
            let others = (oldest + 1..=newest).map(RolloutId);
            std::iter::once(slow).chain(others).collect::<Vec<_>>()
        };
        assert_eq!(world.stored_rollouts(), kept(3));
        world.act(Act::Crash, slow);
        world.create(order_for("s2")).unwrap();
        assert_eq!(world.stored_rollouts(), kept(4));
    }
}

#[test]
fn open_rollouts_are_counted_with_all_their_members() {
    let mut world = World::new(3);
    for name in ["s1", "s2", "s3"] {
        world.standing(name, Standing::Offline);
    }
    let first = world.create(order()).unwrap();
    let second = world.create(order()).unwrap();
    world.control(second, Verb::Pause).unwrap();
    let both = world.census();
    assert_eq!((both.running, both.paused, both.aborted), (1, 1, 0));
    assert_eq!((both.members.pending, both.members.skipped), (6, 2));
    // Nobody has begun: it ends at once.
    world.control(second, Verb::Abort).unwrap();
    let one = world.census();
    assert_eq!((one.running, one.paused, one.aborted), (1, 0, 0));
    assert_eq!(one.members, world.record(first).tally);

    for name in ["s1", "s2", "s3"] {
        world.standing(name, Standing::Ready);
        world.stir(name);
    }
    while world.census().members.in_flight == 0 {
        assert!(world.step(), "it begins");
    }
    world.control(first, Verb::Abort).unwrap();
    let aborted = world.census();
    assert_eq!(
        (aborted.running, aborted.aborted, aborted.members.pending),
        (0, 1, 0)
    );
    world.run(200);
    assert_eq!(world.census(), RolloutCensus::default());
}

#[test]
fn a_subcloud_that_is_deleted_is_skipped() {
    let mut world = World::new(2);
    world.standing("s2", Standing::Gone);
    let id = world.create(order()).unwrap();
    world.run(100);
    let members = world.stored_members(id);
    let member = members.iter().find(|m| m.name == "s2").unwrap();
    assert_eq!(member.state, MemberState::Skipped);
    assert_eq!(member.faults[0].reason, "SUBCLOUD_NOT_FOUND");
}

#[test]
fn the_template_of_the_tests_is_what_the_site_gets() {
    let mut world = World::new(1);
    world.create(order()).unwrap();
    world.run(50);
    let s1 = world.site("s1");
    let pool = s1.find_pool("s1-admin6").unwrap();
    assert_eq!(pool.subnet().to_string(), "fd00:10:0:1::/64");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Crashes, lost commands, lost answers, late reports, subclouds that come and go, and
    /// operators who pause, resume and abort: no step is done twice, no result is lost, and
    /// nothing begins after an abortion.
    #[test]
    fn every_subcloud_is_changed_exactly_once(
        acts in proptest::collection::vec(any::<u16>(), 0..250),
        parallel in 1_u32..4,
    ) {
        let mut world = World::new(4);
        let id = world.create(Order { max_parallel: parallel, ..order() }).unwrap();
        for number in acts {
            world.act(Act::of(number), id);
            world.check();
        }
        world.recover_all(id);
        world.run(600);
        world.check();
        let record = world.record(id);
        prop_assert_eq!(record.tally.open(), 0);
        if record.state == RolloutState::Finished {
            prop_assert_eq!(record.tally.done, 4);
        } else {
            prop_assert_eq!(record.state, RolloutState::Aborted);
        }
        for member in world.stored_members(id) {
            let changed = world.changed(&member.name);
            match member.state {
                MemberState::Done => prop_assert!(changed, "{} is done", member.name),
                MemberState::Skipped => prop_assert!(!changed, "{} is skipped", member.name),
                state => prop_assert!(false, "{} is {:?}", member.name, state),
            }
        }
    }
}
