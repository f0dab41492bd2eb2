//! `kill -9` between any two steps of an enrollment: it ends enrolled once, and nothing that was
//! acknowledged is missing.

use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Added, Controller, Place, Subcloud};
use crate::support::{PATIENCE, pause, scale, scratch, wait_for, wait_until};

/// Seeded points of one run.
const POINTS: u64 = 30;

/// Points that one controller lives through before a fresh one takes over.
const PER_CONTROLLER: u64 = 10;

/// Where a seed kills.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// This many milliseconds after `subcloud add` began.
    DuringAdd(u64),
    /// Right after `subcloud add` was answered.
    AfterAdd,
    /// This many milliseconds after `enroll` began.
    DuringEnroll(u64),
    /// Right after `enroll` succeeded.
    AfterEnroll,
    /// Right after the first report was acknowledged.
    AfterReport,
    /// The agent's `enroll` itself, this many milliseconds after it began.
    TheAgent(u64),
}

impl Point {
    fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let milliseconds = random.random_range(0..80);
        match random.random_range(0..12) {
            // An addition is quicker than an enrollment.
            0 | 1 => Self::DuringAdd(milliseconds / 3),
            2 => Self::AfterAdd,
            3..=7 => Self::DuringEnroll(milliseconds),
            8 => Self::AfterEnroll,
            9 => Self::AfterReport,
            _ => Self::TheAgent(milliseconds),
        }
    }
}

#[test]
fn an_enrollment_survives_kill_9_at_any_point() {
    let dir = scratch();
    for first in (0..POINTS * scale()).step_by(usize::try_from(PER_CONTROLLER).expect("small")) {
        let home = dir.path().join(format!("controller-{first}"));
        let mut controller = Controller::start(&home, Bootstrap::controller(Stack::V6));
        for seed in first..first + PER_CONTROLLER {
            let point = Point::of(seed);
            eprintln!("seed {seed}: {point:?}");
            let index = u8::try_from(seed - first + 1).expect("small");
            let name = format!("seed-{seed}");
            enroll_through(
                &dir.path().join(&name),
                &mut controller,
                &name,
                index,
                point,
            );
        }
        // Everything is still there at the end, each once.
        for seed in first..first + PER_CONTROLLER {
            assert_eq!(
                controller.events(&format!("seed-{seed}"), "ENROLLED").len(),
                1
            );
        }
    }
}

fn enroll_through(home: &Path, controller: &mut Controller, name: &str, index: u8, point: Point) {
    let added = match point {
        Point::DuringAdd(milliseconds) => add_through(controller, name, milliseconds),
        _ => controller.add(name),
    };
    let site = Bootstrap::subcloud(name, index, Stack::V6);
    let mut subcloud = Subcloud::install(home, site, Place::Loopback);
    match point {
        Point::DuringAdd(_) => {}
        Point::AfterAdd => restart(controller),
        Point::DuringEnroll(milliseconds) => {
            let running = subcloud.start_enroll(&added, &[]);
            pause(Duration::from_millis(milliseconds));
            restart(controller);
            let output = running.output();
            assert!(matches!(output.code, Some(0 | 75)), "{output:?}");
        }
        Point::AfterEnroll => {
            subcloud.enroll(&added, &[]).expect(0);
            restart(controller);
        }
        Point::AfterReport => {
            subcloud.enroll(&added, &[]).expect(0);
            subcloud.serve();
            // The site that enrolled is known; the first report comes with the networks of the
            // controller that it keeps.
            wait_until("a report is accepted", PATIENCE, || {
                controller.events(name, "REPORT_ACCEPTED").len() == 1
            });
            restart(controller);
            assert_eq!(controller.events(name, "REPORT_ACCEPTED").len(), 1);
            controller.wait_for(name, "availability", "online");
            subcloud.kill();
        }
        Point::TheAgent(milliseconds) => {
            let running = subcloud.start_enroll(&added, &[]);
            pause(Duration::from_millis(milliseconds));
            running.kill();
        }
    }
    ends_enrolled_once(controller, &mut subcloud, &added);
}

/// Adds a subcloud while the controller dies: what was answered is there afterwards; without an
/// answer it is there or not, but nothing in between, and the operator can go on.
fn add_through(controller: &mut Controller, name: &str, milliseconds: u64) -> Added {
    let running = controller.start_add(name);
    pause(Duration::from_millis(milliseconds));
    restart(controller);
    let output = running.output();
    let known = controller.show(name);
    if output.code == Some(0) {
        let added = Added::of(output);
        let known = known.expect("what was answered is kept");
        assert_eq!(known["id"], added.id.as_str());
        return added;
    }
    // Not reached, or lost on the way.
    output.expect(69);
    match known {
        Some(known) => {
            assert_eq!(known["enrollment"], "pending");
            controller.token(name)
        }
        None => controller.add(name),
    }
}

/// `kill -9`, and the same controller again on the same ports.
fn restart(controller: &mut Controller) {
    controller.kill();
    controller.serve();
}

/// What was acknowledged is there; the agent tries again, and ends enrolled once.
fn ends_enrolled_once(controller: &Controller, subcloud: &mut Subcloud, added: &Added) {
    let name = subcloud.name().to_owned();
    let known = controller.show(&name).expect("what was answered is kept");
    assert_eq!(known["id"], added.id.as_str());
    wait_for("enroll succeeds", PATIENCE, || {
        let output = subcloud.enroll(added, &[]);
        match output.code {
            Some(0) => Some(()),
            Some(75) => None,
            _ => panic!("{output:?}"),
        }
    });
    assert_eq!(controller.events(&name, "ENROLLED").len(), 1);
    subcloud.serve();
    controller.wait_for(&name, "availability", "online");
    controller.wait_for(&name, "sync", "in-sync");
    let known = controller.show(&name).expect("enrolled");
    assert_eq!(known["id"], added.id.as_str());
    subcloud.kill();
}
