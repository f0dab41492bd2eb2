//! The core does no I/O and knows no clock and no randomness: nothing that does is among its
//! dependencies.

use std::process::Command;

use crate::support::process::run;

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
