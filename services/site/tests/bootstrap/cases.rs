//! `cases.txt`: blocks of a base file, edits of it, and after `=>` every fault and warning with
//! the places and the texts that are underlined, the text at fault first.

use std::fmt::Write as _;
use std::fs;

use site::ReasonSet as _;
use site::bootstrap::{Label, Warning, parse, parse_link};

use crate::{check_golden, repository};

const CASES: &str = "services/site/tests/bootstrap/cases.txt";

/// The files that the cases edit.
const BASES: [(&str, &str); 4] = [
    (
        "v4",
        "name: site-a\n\
         system_mode: duplex\n\
         management_subnet: 10.1.0.0/24\n\
         external_oam_subnet: 10.2.0.0/24\n\
         external_oam_gateway_address: 10.2.0.1\n\
         external_oam_floating_address: 10.2.0.2\n",
    ),
    (
        "dual",
        "name: site-a\n\
         system_mode: duplex\n\
         management_subnet: fd01::/64,10.1.0.0/24\n\
         external_oam_subnet: fd00::/64,10.2.0.0/24\n\
         external_oam_gateway_address: fd00::1,10.2.0.1\n\
         external_oam_floating_address: fd00::2,10.2.0.2\n\
         cluster_host_subnet: fd04::/64,10.4.0.0/24\n\
         cluster_pod_subnet: fd05::/64,172.16.0.0/16\n\
         cluster_service_subnet: fd06::/112,10.96.0.0/12\n",
    ),
    ("empty", ""),
    (
        "link",
        "management_subnet: 10.1.0.0/24\n\
         external_oam_subnet: 10.2.0.0/24\n\
         external_oam_gateway_address: 10.2.0.1\n\
         external_oam_floating_address: 10.2.0.2\n",
    ),
];

/// Applies edits: `NAME: VALUE` in place of the line with that name or else at the end, `-NAME`
/// removes a line, `+TEXT` adds one; `\t` is a tab.
fn edit(base: &str, edits: &[&str]) -> String {
    let mut lines: Vec<String> = base.lines().map(str::to_owned).collect();
    for edit in edits {
        let edit = edit.replace("\\t", "\t");
        let named = |name: &str| format!("{name}:");
        if let Some(name) = edit.strip_prefix('-') {
            let before = lines.len();
            lines.retain(|line| !line.starts_with(&named(name)));
            assert!(lines.len() < before, "{name} is not in the base");
        } else if let Some(text) = edit.strip_prefix('+') {
            lines.push(text.to_owned());
        } else {
            let (name, _) = edit.split_once(':').unwrap();
            match lines.iter_mut().find(|line| line.starts_with(&named(name))) {
                Some(line) => *line = edit,
                None => lines.push(edit),
            }
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn place(label: &Label) -> String {
    format!(
        "{}:{} `{}`",
        label.line,
        label.column,
        label.text.replace('\n', "⏎")
    )
}

fn answer(base: &str, text: &str) -> String {
    let (faults, warnings) = match base {
        "link" => match parse_link("case", text.as_bytes()) {
            Ok(link) => (None, link.warnings().to_vec()),
            Err(faults) => (Some(faults.clone()), faults.warnings().to_vec()),
        },
        _ => match parse("case", text.as_bytes()) {
            Ok(declared) => (None, declared.warnings().to_vec()),
            Err(faults) => (Some(faults.clone()), faults.warnings().to_vec()),
        },
    };
    let mut output = String::new();
    for fault in faults.iter().flat_map(|faults| faults.faults()) {
        let places: Vec<_> = fault.labels.iter().map(place).collect();
        writeln!(output, "=> {} {}", fault.reason.name(), places.join(", ")).unwrap();
    }
    for Warning { nearest, label, .. } in &warnings {
        let nearest = nearest.as_deref().unwrap_or("nothing");
        writeln!(output, "=> warning {}, near {nearest}", place(label)).unwrap();
    }
    if output.is_empty() {
        output.push_str("=> ok\n");
    }
    output
}

#[test]
fn each_sentence_of_the_rules() {
    let path = repository(CASES);
    let golden = fs::read_to_string(&path).unwrap();
    let mut actual = String::new();
    for block in golden.split_inclusive("\n\n") {
        let lines: Vec<_> = block
            .lines()
            .filter(|line| !line.starts_with("=>"))
            .collect();
        let written = lines
            .iter()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let written: Vec<_> = written.copied().collect();
        let Some((name, edits)) = written.split_first() else {
            actual.push_str(block);
            continue;
        };
        let base = BASES.iter().find(|(base, _)| base == name);
        let (name, base) = base.unwrap_or_else(|| panic!("no base {name}"));
        for line in lines.iter().filter(|line| !line.is_empty()) {
            writeln!(actual, "{line}").unwrap();
        }
        actual.push_str(&answer(name, &edit(base, edits)));
        if block.ends_with("\n\n") {
            actual.push('\n');
        }
    }
    check_golden(&path, &actual);
}

/// Files that are no text, which `cases.txt` could not hold.
#[test]
fn bytes_that_are_no_text() {
    let utf16: Vec<u8> = "name: a\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let marked: Vec<u8> = [0xff, 0xfe].into_iter().chain(utf16.clone()).collect();
    let big_endian: Vec<u8> = "name: a\n"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let huge = vec![b'#'; site::bootstrap::MAX_BYTES + 1];
    let rows: [(&[u8], &str, usize, usize); 11] = [
        (b"", "FILE_EMPTY", 1, 1),
        (b" \n\n", "FILE_EMPTY", 1, 1),
        (b"# only a comment\n", "FILE_EMPTY", 1, 1),
        (b"---\n", "FILE_EMPTY", 1, 1),
        (&huge, "FILE_TOO_LARGE", 1, 1),
        (&utf16, "FILE_UTF16", 1, 1),
        (&marked, "FILE_UTF16", 1, 1),
        (&big_endian, "FILE_UTF16", 1, 1),
        (b"name: a\nna\0me", "FILE_BINARY", 2, 3),
        (b"\x7fELF\x02", "FILE_BINARY", 1, 1),
        (b"name: a\nregion_name: caf\xe9\n", "FILE_NOT_UTF8", 2, 17),
    ];
    for (bytes, reason, line, column) in rows {
        let faults = parse("case", bytes).unwrap_err();
        let [fault] = faults.faults() else {
            panic!("{faults}")
        };
        let place = fault.place().unwrap();
        assert_eq!(
            (fault.reason.name(), place.line, place.column),
            (reason, line, column)
        );
        assert!(!fault.remedy.is_empty());
        let rendered = site::bootstrap::render("case", bytes, &faults, false);
        assert!(rendered.contains(reason), "{rendered}");
    }
}

/// A byte order mark of UTF-8 is no part of the first name; columns do not count it.
#[test]
fn a_utf8_mark_is_allowed() {
    let text = format!("\u{feff}{}", BASES[0].1);
    assert!(parse("case", text.as_bytes()).is_ok());
}

/// However much is wrong, the answer is bounded and says that it is cut.
#[test]
fn the_answer_is_bounded() {
    let many: String = (0..2_000).map(|_| "name: a\n").collect();
    let faults = parse("case", many.as_bytes()).unwrap_err();
    assert_eq!(faults.faults().len(), site::bootstrap::MAX_FAULTS + 1);
    let last = faults.faults().last().unwrap();
    assert_eq!(last.reason.name(), "TOO_MANY_FAULTS");
    let unknown: String = (0..2_000).map(|index| format!("x{index}: a\n")).collect();
    let faults = parse("case", unknown.as_bytes()).unwrap_err();
    assert_eq!(faults.warnings().len(), site::bootstrap::MAX_FAULTS);
}
