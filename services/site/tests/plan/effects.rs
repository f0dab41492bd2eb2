//! Section 5 as text: what a change says that it will do. The cases and their effects are in
//! `tests/plan/effects.txt`: after `==` the site in words and the requests, all but the last
//! of which were made before; then one effect per line.

use crate::commands::run;
use crate::fixture::Fixture;

const GOLDEN: &str = include_str!("effects.txt");

#[test]
fn effects_are_as_written() {
    let mut cases = 0;
    for case in GOLDEN.split("== ").skip(1) {
        check(case);
        cases += 1;
    }
    assert!(cases >= 30, "the table of section 5 has {cases} cases");
}

fn check(case: &str) {
    let (heading, want) = case.split_once('\n').expect("a heading");
    let mut parts = heading.split(" > ");
    let mut site = Fixture::of_words(parts.next().expect("a site")).site();
    let lines: Vec<&str> = parts.collect();
    let plan = run(&mut site, &lines).unwrap_or_else(|why| panic!("{heading}: {why}"));
    let effects = plan.effects().iter();
    let got: String = effects
        .map(|effect| format!("{}: {effect}\n", effect.kind()))
        .collect();
    assert!(
        got.trim() == want.trim(),
        "== {heading}\n--- expected\n{want}--- got\n{got}"
    );
}
