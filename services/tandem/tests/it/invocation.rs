//! The names that the program goes by, and outputs that break.

use std::ffi::OsString;
use std::io::{self, Write};

use tandem_cli::{Environment, Exit};

use crate::run::{DAEMON, Outcome, run, run_in};

#[test]
fn a_symlink_decides_the_area() {
    let long = run("tandem system network-list").stdout;
    for line in [
        "system network-list",
        "/usr/bin/system network-list",
        "./system network-list",
    ] {
        assert_eq!(run(line).stdout, long, "{line}");
    }
    let long = run("/opt/tandem dcmanager subcloud list").stdout;
    assert!(long.contains("subcloud-1"));
    assert_eq!(run("/usr/bin/dcmanager subcloud list").stdout, long);
}

#[test]
fn help_under_another_name_speaks_of_that_name() {
    let help = run("system addrpool-show --help").stdout;
    assert!(help.contains("Usage: system addrpool-show"), "{help}");
}

/// An output that fails in one way.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is() {
    for (kind, expected) in [
        (io::ErrorKind::BrokenPipe, Exit::Success),
        (io::ErrorKind::StorageFull, Exit::Output),
    ] {
        let environment = Environment::of_variables([("TANDEM_ENDPOINT", DAEMON.endpoint())]);
        let words = ["system", "network-list"].map(OsString::from);
        let exit = tandem_cli::run(words, &environment, &mut Broken(kind), &mut Vec::new());
        assert_eq!(exit, expected, "{kind}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let on_terminals = |variables: &[(&str, &str)], line: &str| {
        let endpoint = DAEMON.endpoint();
        let variables = variables.iter().copied();
        let variables = variables.chain([("TANDEM_ENDPOINT", endpoint.as_str())]);
        let environment = Environment::of_variables(variables).on_terminals();
        run_in(&environment, &line.split_whitespace().collect::<Vec<_>>())
    };
    let coloured = |outcome: &Outcome| {
        (
            outcome.stdout.contains('\u{1b}'),
            outcome.stderr.contains('\u{1b}'),
        )
    };
    for (line, expected) in [
        ("system addrpool-show nobody", (false, true)),
        ("system oam-show", (false, true)),
        ("system --help", (true, false)),
        ("system nonsense", (false, true)),
        ("system network-list", (false, false)),
    ] {
        assert_eq!(coloured(&on_terminals(&[], line)), expected, "{line}");
        let without = on_terminals(&[("NO_COLOR", "1")], line);
        assert_eq!(coloured(&without), (false, false), "{line} with NO_COLOR");
        assert_eq!(coloured(&run(line)), (false, false), "{line} in a pipe");
    }
}
