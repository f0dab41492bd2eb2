use proptest::prelude::*;

use super::*;

const SECOND: i128 = 1_000_000_000;
const MILLISECOND: i128 = 1_000_000;
const HOUR: i128 = 3_600 * SECOND;

/// Some moment after 1970.
const BEGUN: i128 = 1_900_000_000 * SECOND;

/// The two clocks of a system, and the one that is made of them.
struct Played {
    monotonic: i128,
    wall: i128,
    clock: Clock,
}

impl Played {
    fn new() -> Self {
        let (monotonic, wall) = (-5 * SECOND, BEGUN);
        Self {
            monotonic,
            wall,
            clock: Clock::new(Reading { monotonic, wall }),
        }
    }

    fn pass(&mut self, nanoseconds: i128) {
        self.monotonic += nanoseconds;
        self.wall += nanoseconds;
    }

    fn reading(&self) -> Reading {
        Reading {
            monotonic: self.monotonic,
            wall: self.wall,
        }
    }

    fn read(&mut self) -> (i128, Option<News>) {
        self.clock.read(self.reading())
    }

    fn shown(&mut self) -> i128 {
        self.read().0
    }

    fn follow(&mut self) -> (i128, Option<News>) {
        self.clock.follow(self.reading())
    }

    /// Reads it every so many nanoseconds; what was told meanwhile.
    fn read_for(&mut self, long: i128, every: i128) -> Vec<News> {
        let mut told = Vec::new();
        for _ in 0..long / every {
            self.pass(every);
            told.extend(self.read().1);
        }
        told
    }
}

/// What may happen to a clock.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Time passes, and the wall clock goes wrong by so many nanoseconds in each million.
    Pass { nanoseconds: i128, drift: i128 },
    /// Somebody sets the wall clock forward, or back.
    Set(i128),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![
        Just(0),
        1..100_i128,
        100..10 * MILLISECOND,
        MILLISECOND..60 * SECOND,
        SECOND..10 * HOUR,
    ];
    let pass =
        (length, -500..500_i128).prop_map(|(nanoseconds, drift)| Step::Pass { nanoseconds, drift });
    let set = prop_oneof![
        -SECOND..SECOND,
        -HOUR..HOUR,
        // A clock that stood at 1970, and one that was far ahead.
        -BEGUN..BEGUN,
    ];
    let step = prop_oneof![4 => pass, 1 => set.prop_map(Step::Set)];
    prop::collection::vec(step, 1..200)
}

/// Plays steps, and looks at the clock after each: the monotonic clock's moment, and what is shown.
fn play(played: &mut Played, steps: &[Step]) -> Vec<(i128, i128)> {
    let mut seen = vec![(played.monotonic, played.shown())];
    for step in steps {
        match *step {
            Step::Pass { nanoseconds, drift } => {
                played.pass(nanoseconds);
                played.wall += nanoseconds * drift / 1_000_000;
            }
            Step::Set(by) => played.wall += by,
        }
        // A wall clock before 1970 reads as 0.
        played.wall = played.wall.max(0);
        seen.push((played.monotonic, played.shown()));
    }
    seen
}

proptest! {
    #[test]
    fn it_keeps_the_pace_of_the_monotonic_clock_whatever_the_wall_clock_does(steps in steps()) {
        let seen = play(&mut Played::new(), &steps);
        for (index, (monotonic, shown)) in seen.iter().enumerate() {
            for (later, shown_later) in &seen[index..] {
                let (passed, went) = (later - monotonic, shown_later - shown);
                prop_assert!(went >= 0, "it went back by {} ns", -went);
                // A nanosecond cannot be split.
                prop_assert!((went - passed).abs() * PACE < passed + PACE, "{passed} {went}");
            }
        }
    }

    #[test]
    fn it_meets_the_wall_clock_however_it_is_read(
        steps in steps(),
        every in prop_oneof![1..50_i128, MILLISECOND..SECOND, SECOND..HOUR],
        odd in 0..PACE,
    ) {
        let mut played = Played::new();
        play(&mut played, &steps);
        // What is left of the gap after any number of readings must be what the pace demands.
        let (gap, begun) = (played.clock.gap, played.monotonic);
        for _ in 0..1_000 {
            played.pass(every + odd);
            played.read();
        }
        let most = (played.monotonic - begun) / PACE;
        let left = played.clock.gap.abs();
        prop_assert!(left <= (gap.abs() - most).max(0), "{gap} {most} {left}");
        // It stays there once it has met it.
        played.pass((left + 1) * PACE);
        prop_assert_eq!(played.shown(), played.wall);
        played.pass(every);
        prop_assert_eq!(played.shown(), played.wall);
    }

    #[test]
    fn a_leap_takes_it_to_the_wall_clock_and_nothing_less_does(
        steps in steps(),
        by in -2 * HOUR..2 * HOUR,
    ) {
        let mut played = Played::new();
        play(&mut played, &steps);
        // First they meet.
        let left = played.clock.gap.abs();
        played.pass((left + 1) * PACE);
        let before = played.shown();
        prop_assert_eq!(before, played.wall);
        played.wall += by;
        let (shown, _) = played.follow();
        if by.abs() > TOO_FAR {
            prop_assert_eq!((shown, played.clock.leaps), (played.wall, 1));
        } else {
            prop_assert!((shown - before).abs() <= 1, "{shown} {before}");
            prop_assert_eq!(played.clock.leaps, 0);
        }
    }
}

#[test]
fn it_shows_the_wall_clock_when_nobody_sets_that() {
    let mut played = Played::new();
    assert_eq!(played.shown(), BEGUN);
    played.pass(7 * HOUR + 1);
    assert_eq!(played.shown(), BEGUN + 7 * HOUR + 1);
    assert_eq!(played.read_for(HOUR, SECOND), []);
}

#[test]
fn a_step_forward_is_made_up_for_in_twenty_times_its_length() {
    let mut played = Played::new();
    played.wall += 60 * SECOND;
    assert_eq!(
        played.read(),
        (BEGUN, Some(News::Apart(60 * SECOND))),
        "a step is no time that has passed"
    );
    assert_eq!(played.read_for(1_199 * SECOND, MILLISECOND), []);
    assert_eq!(played.wall - played.shown(), 50 * MILLISECOND);
    assert_eq!(played.read_for(SECOND, MILLISECOND), [News::Met]);
    assert_eq!(played.shown(), played.wall);
}

#[test]
fn a_step_back_slows_it_down_and_does_not_stop_it() {
    let mut played = Played::new();
    played.wall -= HOUR;
    assert_eq!(played.read(), (BEGUN, Some(News::Apart(-HOUR))));
    assert_eq!(played.read_for(60 * SECOND, SECOND), []);
    assert_eq!(played.shown(), BEGUN + 57 * SECOND);
}

#[test]
fn each_step_is_told_once() {
    let mut played = Played::new();
    played.wall += 9 * SECOND;
    assert_eq!(played.read_for(SECOND, MILLISECOND), [], "not worth it");
    played.wall += 9 * SECOND;
    let told = played.read_for(SECOND, MILLISECOND);
    assert_eq!(told.len(), 1, "{told:?}");
    played.wall += SECOND;
    assert_eq!(played.read_for(SECOND, MILLISECOND), []);
    played.wall -= HOUR;
    let told = played.read_for(100 * SECOND, SECOND);
    assert!(
        matches!(told[..], [News::Apart(gap)] if gap < -3_000 * SECOND),
        "{told:?}"
    );
    // A step that comes back to where it began, nearly.
    played.wall = played.shown() + SECOND;
    assert_eq!(played.read_for(60 * SECOND, SECOND), [News::Met]);
}

#[test]
fn following_leaps_only_when_it_is_too_far() {
    let mut played = Played::new();
    played.wall += 60 * SECOND;
    let (shown, news) = played.follow();
    assert_eq!((shown, news), (BEGUN, Some(News::Apart(60 * SECOND))));
    played.wall += SECOND;
    let gap = 61 * SECOND;
    assert_eq!(played.follow(), (played.wall, Some(News::Leapt(gap))));
    assert_eq!(played.clock.leaps, 1);
    played.wall -= HOUR;
    assert_eq!(played.follow(), (played.wall, Some(News::Leapt(-HOUR))));
    assert_eq!(played.clock.leaps, 2);
    assert_eq!(played.read_for(HOUR, SECOND), []);
    assert_eq!(played.shown(), played.wall);
}

#[test]
fn hosts_whose_clocks_differ_by_the_same_may_share_it() {
    let mut played = Played::new();
    played.pass(100 * SECOND);
    assert_eq!(played.shown(), played.wall);
    played.pass(-30 * SECOND);
    assert_eq!(played.read(), (played.wall, None));
}

#[test]
fn the_process_has_one() {
    let first = follow();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = u64::try_from(wall.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    let second = now();
    assert!(first.at <= second, "{first:?} {second:?}");
    assert!(wall.abs_diff(first.at.0) < 60_000, "{first:?} {wall}");
}

#[test]
fn gaps_are_told_in_tenths_of_seconds() {
    assert_eq!(apart(61_290 * MILLISECOND), "61.2 s ahead of");
    assert_eq!(apart(-HOUR), "3600.0 s behind");
}
