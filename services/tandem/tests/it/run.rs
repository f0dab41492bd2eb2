//! Runs the program within the test, and compares what it says with golden files.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs};

use tandem_cli::{Environment, Exit};

use crate::daemon::Daemon;

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The daemon of all tests that only read or that look at no request.
pub(crate) static DAEMON: LazyLock<Daemon> = LazyLock::new(Daemon::start);

/// Runs a line whose words are separated by blanks, against the common daemon.
pub(crate) fn run(line: &str) -> Outcome {
    run_at(&DAEMON.endpoint(), line)
}

/// Runs a line against the daemon at `endpoint`.
pub(crate) fn run_at(endpoint: &str, line: &str) -> Outcome {
    let words: Vec<&str> = line.split_whitespace().collect();
    run_words(&[("TANDEM_ENDPOINT", endpoint)], &words)
}

/// Runs these words with these variables.
pub(crate) fn run_words(variables: &[(&str, &str)], words: &[&str]) -> Outcome {
    run_in(&Environment::of_variables(variables.iter().copied()), words)
}

/// Runs these words in this environment.
pub(crate) fn run_in(environment: &Environment, words: &[&str]) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let words = words.iter().map(OsString::from);
    let exit = tandem_cli::run(words, environment, &mut stdout, &mut stderr);
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Outcome {
        exit,
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

/// Runs lines and compares all that they say with a golden file; `UPDATE_GOLDENS=1` writes it.
pub(crate) fn check(golden: &str, lines: &[&str]) {
    let transcript: String = lines
        .iter()
        .map(|line| transcript(line, &run(line)))
        .collect();
    check_text(golden, &transcript);
}

/// Compares a text with a golden file; `UPDATE_GOLDENS=1` writes it.
pub(crate) fn check_text(golden: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/golden")
        .join(golden)
        .with_extension("txt");
    if env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, text).expect("the golden file can be written");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{} differs (UPDATE_GOLDENS=1 rewrites it); now it is:\n{text}",
        path.display()
    );
}

fn transcript(line: &str, outcome: &Outcome) -> String {
    let Outcome {
        exit,
        stdout,
        stderr,
    } = outcome;
    let mut text = format!("$ {line}\n{stdout}");
    if !stderr.is_empty() {
        text += &format!("--- stderr\n{stderr}");
    }
    text + &format!("--- exit status {}\n\n", exit.status())
}
