//! What holds for every input.

use std::fs;

use proptest::prelude::*;
use site::bootstrap::{Faults, Label, parse, parse_link, render, render_warnings};

use crate::examples::install;
use crate::repository;

const EXAMPLES: [&str; 7] = [
    "controller.yaml",
    "guide-block.yaml",
    "subcloud-v6.yaml",
    "subcloud-v6-dual.yaml",
    "subcloud-v4.yaml",
    "subcloud-v4-dual.yaml",
    "faulty.yaml",
];

/// What a slip of the hand puts into a file.
const INSERTIONS: [&str; 24] = [
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "#",
    "&a ",
    "*a",
    "!t ",
    "|",
    ">",
    "- ",
    "\t",
    "\n",
    "\r\n",
    " ",
    "---\n",
    "é",
    "::ffff:1.2.3.4",
    "/0",
    "255",
];

/// Spans lie in the text and say what stands there.
fn check_labels<'a>(text: &[u8], labels: impl Iterator<Item = &'a Label>) {
    for label in labels {
        assert!(label.span.start <= label.span.end && label.span.end <= text.len());
        let Ok(text) = std::str::from_utf8(text) else {
            continue;
        };
        let Some(place) = text.get(label.span.clone()) else {
            panic!("inside a character")
        };
        assert!(place.starts_with(&label.text));
        let line = text[..label.span.start].matches('\n').count() + 1;
        assert_eq!(label.line, line);
    }
}

fn check_faults(text: &[u8], faults: &Faults) {
    assert!(!faults.faults().is_empty());
    for fault in faults.faults() {
        assert!(fault.place().is_some() && !fault.message.is_empty() && !fault.remedy.is_empty());
        check_labels(text, fault.labels.iter());
    }
    check_labels(text, faults.warnings().iter().map(|warning| &warning.label));
    assert!(!render("file", text, faults, true).is_empty());
}

/// Whatever the input, there is an answer; what is declared can be installed, and installing
/// checks every invariant.
fn check(text: &[u8]) {
    match parse("file", text) {
        Ok(declared) => {
            let site = install(&declared);
            assert_eq!(site::Site::from_parts(site.to_parts()).as_ref(), Ok(&site));
            check_labels(
                text,
                declared.warnings().iter().map(|warning| &warning.label),
            );
            render_warnings("file", text, declared.warnings(), false);
        }
        Err(faults) => check_faults(text, &faults),
    }
    if let Err(faults) = parse_link("file", text) {
        check_faults(text, &faults);
    }
}

fn example() -> impl Strategy<Value = String> {
    let read = |file| fs::read_to_string(repository("deploy/examples").join(file)).unwrap();
    proptest::sample::select(EXAMPLES.map(read).to_vec())
}

/// A value as a file might have it: mostly right by itself, rarely for its variable.
fn value() -> impl Strategy<Value = String> {
    let subnet = (0u8..4, 0u8..4, 8u8..31).prop_map(|(a, b, p)| format!("10.{a}.{b}.0/{p}"));
    let subnet6 = (0u16..4, 40u8..128).prop_map(|(a, p)| format!("fd0{a}::/{p}"));
    let address = (0u8..4, 0u8..4, 0u8..9).prop_map(|(a, b, c)| format!("10.{a}.{b}.{c}"));
    let address6 = (0u16..4, 0u16..9).prop_map(|(a, b)| format!("fd0{a}::{b}"));
    let one = prop_oneof![subnet, subnet6, address, address6];
    proptest::collection::vec(one, 1..3).prop_map(|values| values.join(","))
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn any_text(text in "[ -~\n\t:,#&*!|>'\"\\[\\]{}é-]{0,200}") {
        check(text.as_bytes());
    }

    /// Slips of the hand, anywhere in a file.
    #[test]
    fn mutated_examples(
        text in example(),
        slips in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 0usize..4, 0..INSERTIONS.len()),
            1..6,
        ),
    ) {
        let mut bytes = text.into_bytes();
        for (at, removed, insertion) in slips {
            let start = at.index(bytes.len() + 1);
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, INSERTIONS[insertion].bytes());
        }
        check(&bytes);
    }

    /// Whole lines gone, and values that other lines contradict.
    #[test]
    fn other_values(
        text in example(),
        gone in proptest::collection::vec(any::<proptest::sample::Index>(), 0..3),
        changed in proptest::collection::vec((any::<proptest::sample::Index>(), value()), 0..3),
        mode in proptest::sample::select(vec!["simplex", "duplex", "duplex-direct"]),
    ) {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for line in &mut lines {
            if line.starts_with("system_mode:") {
                *line = format!("system_mode: {mode}");
            }
        }
        for at in gone {
            lines.remove(at.index(lines.len()));
        }
        for (at, value) in changed {
            let index = at.index(lines.len());
            if let Some((name, _)) = lines[index].clone().split_once(':') {
                lines[index] = format!("{name}: {value}");
            }
        }
        check(lines.join("\n").as_bytes());
    }
}

/// Nesting has no limit, and neither nesting nor repetition takes time out of proportion.
#[test]
fn hostile_shapes() {
    const BYTES: usize = 96 * 1024;
    for shape in [
        "[", "{a: ", "- ", "? ", "\"", "'", "a: ", "&a ", "!t ", "\t", "a\n", "a:\n", "{", "|\n",
    ] {
        let text = shape.repeat(BYTES / shape.len());
        check(text.as_bytes());
    }
}
