//! What is said when a daemon refuses, is not there, or is something else.

use std::os::unix::net::UnixListener;
use std::thread;

use tandem_cli::Exit;

use crate::run::{check, run, run_at, run_words};

#[test]
fn every_fault_is_shown_with_its_remedy() {
    check(
        "refusals",
        &[
            "tandem system addrpool-add faulty 10.20.5.0 24",
            "tandem system addrpool-show nobody",
            "tandem system network-addrpool-assign oam nobody -f json",
            "tandem dcmanager subcloud show nobody",
            "tandem system host-unlock controller-1",
            "tandem system addrpool-add late 10.20.5.0 24 --subcloud subcloud-1",
        ],
    );
}

#[test]
fn what_a_subcloud_advises_acts_on_the_subcloud() {
    check(
        "subcloud-advice",
        &[
            "tandem system addrpool-add faulty 10.20.5.0 24 --subcloud subcloud-1",
            "tandem system alarm-list --subcloud subcloud-1 -c proposed_repair -f value",
            "tandem system alarm-list -c proposed_repair -f value",
            "tandem dcmanager network-rollout create --network oam --select all --dry-run -f json \
             -c remedy",
            "tandem dcmanager network-rollout show 2 --subclouds -f value -c remedy",
        ],
    );
}

#[test]
fn of_more_faults_than_a_status_holds_the_number_is_said() {
    for (count, said) in [(200, "200 faults"), (300, "at least 300 faults")] {
        let line = format!("tandem system addrpool-add faults-{count} 10.20.5.0 24");
        let outcome = run(&line);
        assert_eq!(outcome.exit, Exit::Refused);
        let remedies = outcome.stderr.matches("     remedy: ").count();
        let first = format!("error: {said}, the first {remedies} of them told\n  1. INVALID_");
        assert!(outcome.stderr.starts_with(&first), "{}", outcome.stderr);
        let last = format!("  {remedies}. INVALID_ARGUMENT (select[{remedies}]): there is no ");
        assert!(outcome.stderr.contains(&last), "{}", outcome.stderr);
    }
}

#[test]
fn a_daemon_that_is_not_there_is_said_so_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.sock");
    let stale = folder.path().join("stale.sock");
    drop(UnixListener::bind(&stale).expect("a socket"));
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "").expect("written");
    let cases = [
        (format!("unix:{}", missing.display()), "TANDEM_ENDPOINT"),
        (format!("unix:{}", stale.display()), "start it again"),
        (format!("unix:{}", plain.display()), "remedy:"),
    ];
    for (endpoint, said) in cases {
        let outcome = run_at(&endpoint, "tandem system network-list");
        assert_eq!(
            outcome.exit,
            Exit::Unavailable,
            "{endpoint}: {}",
            outcome.stderr
        );
        assert!(
            outcome.stderr.starts_with("error: UNREACHABLE: "),
            "{}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains(&endpoint), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(said), "{said}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn without_an_endpoint_the_installed_socket_is_asked() {
    let outcome = run_words(&[], &["tandem", "system", "network-list"]);
    // A machine of a developer may well run a daemon there.
    if outcome.exit == Exit::Unavailable {
        assert!(
            outcome.stderr.contains("unix:/run/tandem/operator.sock"),
            "{}",
            outcome.stderr
        );
    } else {
        assert_eq!(outcome.exit, Exit::Success, "{}", outcome.stderr);
    }
}

#[test]
fn something_else_behind_the_socket_is_no_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let other = thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().expect("a client");
        stream
            .write_all(b"220 mail.example ESMTP\r\n")
            .expect("written");
        stream.shutdown(std::net::Shutdown::Write).expect("closed");
        let read = std::io::copy(&mut stream, &mut std::io::sink());
        read.expect("the client goes away");
    });
    let outcome = run_at(
        &format!("unix:{}", path.display()),
        "tandem system network-list",
    );
    assert_eq!(outcome.exit, Exit::Unavailable, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("remedy:"), "{}", outcome.stderr);
    other.join().expect("it ends");
}
