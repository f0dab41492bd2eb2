//! Replays recorded decisions of the existing systems against the model: every request on its
//! own, from the state recorded before it, and every subcloud that was added. See `tests/conformance/README.md`.
//!
//! The folder named by `TANDEM_CONFORMANCE` is read as well: every `*.jsonl` and `*.jsonl.gz`
//! directly in it.

mod fleet;
mod recorded;
mod request;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;

use recorded::Sequence;
use verdict::Verdict;

/// What came of one file.
#[derive(Default)]
struct Tally {
    agreed: usize,
    /// By the rule that makes ours differ on purpose.
    deliberate: BTreeMap<String, usize>,
    disagreed: Vec<String>,
    /// By why a request was not compared.
    left_out: BTreeMap<String, usize>,
}

#[test]
fn recorded_decisions_are_ours() {
    let mut disagreed = 0;
    for file in files() {
        let text = read(&file);
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let tally = match kind(&text) {
            Some(Kind::Site) => replay(&text),
            Some(Kind::Fleet) => replay_fleet(&text),
            None => {
                println!("conformance {name}: skipped");
                continue;
            }
        };
        let deliberate: usize = tally.deliberate.values().sum();
        println!(
            "conformance {name}: agreed {}, deliberate {deliberate}, disagreed {}",
            tally.agreed,
            tally.disagreed.len()
        );
        for (rule, count) in &tally.deliberate {
            println!("  deliberate {count}: {rule}");
        }
        for (why, count) in &tally.left_out {
            println!("  not compared {count}: {why}");
        }
        for line in &tally.disagreed {
            println!("  DISAGREED {line}");
        }
        disagreed += tally.disagreed.len();
    }
    assert_eq!(
        disagreed, 0,
        "recorded decisions that differ from ours without a reason"
    );
}

/// The committed recordings and those of the folder named by the environment.
fn files() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")];
    folders.extend(std::env::var_os("TANDEM_CONFORMANCE").map(PathBuf::from));
    let mut files = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
        let paths = entries.map(|entry| entry.expect("a readable folder entry").path());
        files.extend(paths.filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")
        }));
    }
    files.sort();
    assert!(!files.is_empty(), "there are recordings");
    files
}

fn read(path: &Path) -> String {
    let open = || -> std::io::Result<String> {
        if path.extension().is_none_or(|extension| extension != "gz") {
            return fs::read_to_string(path);
        }
        let mut text = String::new();
        GzDecoder::new(fs::File::open(path)?).read_to_string(&mut text)?;
        Ok(text)
    };
    open().unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// What a file has recorded.
enum Kind {
    /// Requests to one site.
    Site,
    /// Subclouds that were added to a system controller.
    Fleet,
}

/// Recordings are told by their first line, whatever the name of the file.
fn kind(text: &str) -> Option<Kind> {
    let first: Value = serde_json::from_str(text.lines().next()?).ok()?;
    let has = |keys: &[&str]| keys.iter().all(|key| first.get(key).is_some());
    if has(&["method", "seq"]) {
        Some(Kind::Site)
    } else if has(&["system_controller", "existing", "payload", "expected"]) {
        Some(Kind::Fleet)
    } else {
        None
    }
}

fn replay_fleet(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        tally.count(fleet::of(&line), || {
            format!("{} ({})", line["id"], line["desc"])
        });
    }
    tally
}

impl Tally {
    fn count(&mut self, verdict: Verdict, what: impl FnOnce() -> String) {
        match verdict {
            Verdict::Agreed => self.agreed += 1,
            Verdict::Deliberate(rule) => *self.deliberate.entry(rule).or_default() += 1,
            Verdict::LeftOut(why) => *self.left_out.entry(why).or_default() += 1,
            Verdict::Disagreed(how) => self.disagreed.push(format!("{}: {how}", what())),
        }
    }
}

fn replay(text: &str) -> Tally {
    let mut tally = Tally::default();
    let mut sequence: Option<Sequence> = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        if line["method"] == "INIT" {
            sequence = Some(Sequence::start(&line));
            continue;
        }
        let sequence = sequence.as_mut().expect("a sequence starts with INIT");
        tally.count(verdict::of(sequence, &line), || {
            format!("{} step {}", line["seq"], line["step"])
        });
        sequence.advance(&line);
    }
    tally
}
