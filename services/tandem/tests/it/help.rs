//! Help, version, completions.

use clap::Command;
use tandem_cli::Exit;

use crate::run::{check_text, run, run_words};

/// Every command of `tandem` with the words that name it.
fn commands() -> Vec<(String, Command)> {
    fn collect(name: &str, command: &Command, all: &mut Vec<(String, Command)>) {
        all.push((name.to_owned(), command.clone()));
        for inner in command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
        {
            collect(&format!("{name} {}", inner.get_name()), inner, all);
        }
    }
    let mut all = Vec::new();
    collect("tandem", &tandem_cli::command(), &mut all);
    all
}

#[test]
fn every_command_has_help_with_an_example_that_parses() {
    let all = commands();
    assert!(all.len() > 30, "{}", all.len());
    for (name, command) in all {
        let outcome = run(&format!("{name} --help"));
        assert_eq!(outcome.exit, Exit::Success, "{name}");
        assert_eq!(outcome.stderr, "", "{name}");
        assert!(
            outcome.stdout.contains("Example"),
            "{name} shows no example"
        );
        assert!(
            command.get_about().is_some(),
            "{name} does not say what it does"
        );
        let undocumented: Vec<_> = command
            .get_arguments()
            .filter(|argument| argument.get_help().is_none())
            .map(|argument| argument.get_id().to_string())
            .collect();
        assert!(undocumented.is_empty(), "{name}: {undocumented:?}");
        for example in examples(&outcome.stdout) {
            let words = example.split_whitespace().map(str::to_owned);
            let parsed = tandem_cli::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{example}: {:?}", parsed.err());
        }
    }
}

/// The command lines below "Example", up to the first redirection or pipe.
fn examples(help: &str) -> Vec<String> {
    let tail = help.rsplit_once("Example").map_or("", |(_, tail)| tail);
    let joined = tail.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| line.starts_with("  tandem "));
    let command = |line: &str| line.split(['|', '>']).next().unwrap_or_default().to_owned();
    lines.map(command).collect()
}

#[test]
fn help_texts() {
    for area in ["tandem", "tandem system", "tandem dcmanager"] {
        check_text(
            &format!("help-{}", area.replace(' ', "-")),
            &run(&format!("{area} -h")).stdout,
        );
    }
    let of = |words: &str| {
        commands()
            .iter()
            .filter(|(name, _)| name.starts_with(words))
            .map(|(name, _)| {
                format!(
                    "$ {name} --help\n{}\n",
                    run(&format!("{name} --help")).stdout
                )
            })
            .collect::<String>()
    };
    check_text("help-system-commands", &of("tandem system "));
    check_text("help-dcmanager-commands", &of("tandem dcmanager "));
}

#[test]
fn versions_name_the_program_and_a_commit() {
    for name in ["tandem", "system", "dcmanager"] {
        let outcome = run(&format!("{name} --version"));
        assert_eq!(outcome.exit, Exit::Success);
        let start = format!("{name} {} (", env!("CARGO_PKG_VERSION"));
        assert!(outcome.stdout.starts_with(&start), "{}", outcome.stdout);
    }
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = run_words(&[], &["tandem", "completions", shell]);
        assert_eq!(outcome.exit, Exit::Success, "{}", outcome.stderr);
        for word in ["network-addrpool-assign", "subcloud", "dry-run"] {
            assert!(outcome.stdout.contains(word), "{shell}: {word}");
        }
    }
}
