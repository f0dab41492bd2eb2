//! The core does no I/O and knows no clock and no randomness: nothing that does is among its
//! dependencies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::process::run;
use crate::support::repository;

/// What the core must not pull in, and why.
const BANNED: [(&str, &str); 16] = [
    ("tokio", "a runtime"),
    ("mio", "I/O"),
    ("async-std", "a runtime"),
    ("smol", "a runtime"),
    ("hyper", "a network protocol"),
    ("tonic", "a network protocol"),
    ("socket2", "sockets"),
    ("rustix", "system calls"),
    ("nix", "system calls"),
    ("redb", "a disk"),
    ("rustls", "a network protocol"),
    ("rand", "randomness"),
    ("getrandom", "randomness"),
    ("fastrand", "randomness"),
    ("time", "a clock"),
    ("chrono", "a clock"),
];

/// The same of the standard library, which is no dependency, by the words that its use needs.
const BANNED_STD: [(&str, &str); 9] = [
    ("SystemTime", "a clock"),
    ("Instant", "a clock"),
    ("std::fs", "a disk"),
    ("std::env", "the environment"),
    ("std::process", "processes"),
    ("std::thread", "threads"),
    ("std::io", "I/O"),
    ("TcpStream", "the network"),
    ("RandomState", "randomness"),
];

#[test]
fn the_core_uses_nothing_of_the_standard_library_that_acts() {
    for package in ["site", "fleet"] {
        let mut files = Vec::new();
        collect(&repository(&format!("services/{package}/src")), &mut files);
        assert!(files.len() > 10, "the files of {package}: {files:?}");
        for file in files {
            let text = fs::read_to_string(&file).expect("a source file");
            for (number, line) in (1..).zip(text.lines()) {
                // Names in comments do nothing.
                let code = line.split("//").next().unwrap_or_default();
                for (name, what) in BANNED_STD {
                    let place = format!("{}:{number}", file.display());
                    assert!(
                        !words(code).any(|word| word == name),
                        "{place}: {name} is {what}"
                    );
                }
            }
        }
    }
}

/// The paths of a line of code: the first two parts of each, and every part.
fn words(code: &str) -> impl Iterator<Item = &str> {
    let separates = |letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':');
    code.split(separates).flat_map(|path| {
        let third = path.match_indices("::").nth(1);
        let two = third.map_or(path, |(index, _)| &path[..index]);
        path.split("::").chain([two])
    })
}

/// Every source file below a folder.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn the_core_is_pure() {
    for package in ["site", "fleet"] {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.args([
            "tree",
            "--locked",
            "--offline",
            "-e",
            "normal",
            "--prefix",
            "none",
        ]);
        command.args(["-p", package, "--format", "{lib}"]);
        let tree = run(command).expect(0).stdout;
        assert!(tree.contains("ipnet"), "the tree is read: {tree}");
        for (name, what) in BANNED {
            let found = tree
                .lines()
                .any(|line| line.trim() == name.replace('-', "_"));
            assert!(!found, "{package} depends on {name}: {what}");
        }
    }
}
