//! Files, tokens and clients that are wrong: a clear error each, nothing written, and the
//! processes go on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::cloud::{Added, Controller, Place, Subcloud};
use crate::support::process::{Output, Program, Running, run};
use crate::support::{PATIENCE, repository, scratch};

/// `init` with a bootstrap file, into a directory that must not appear when it fails.
fn init(program: Program, file: &Path, state: &Path) -> Output {
    let mut command = program.command();
    command
        .arg("init")
        .arg("--bootstrap")
        .arg(file)
        .arg("--state-dir")
        .arg(state);
    run(command)
}

#[test]
fn bootstrap_files_that_are_none() {
    let dir = scratch();
    let good = Bootstrap::controller(Stack::V6).yaml();
    let utf16: Vec<u8> = "\u{feff}"
        .encode_utf16()
        .chain(good.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let huge = good.clone() + &"# padding\n".repeat(200_000);
    let files: [(&str, Vec<u8>, &str); 5] = [
        ("empty", Vec::new(), "empty"),
        (
            "binary",
            (0..=255).cycle().take(4096).collect(),
            "control character",
        ),
        ("huge", huge.into_bytes(), "at most 1048576"),
        ("utf16", utf16, "UTF-16"),
        ("list", b"- just\n- a list\n".to_vec(), "error["),
    ];
    let state = dir.path().join("state");
    for (name, bytes, text) in files {
        let file = dir.path().join(name);
        fs::write(&file, bytes).expect("a file");
        for program in [Program::Controller, Program::Agent] {
            let output = init(program, &file, &state).expect(65);
            assert!(
                output.stderr.contains(text),
                "{name}: {text} is not in {}",
                output.stderr
            );
            assert!(
                output.stderr.contains("help: "),
                "{name}: no remedy in {}",
                output.stderr
            );
            assert!(!state.exists(), "{name} left state");
        }
    }
    for unreadable in [dir.path(), &dir.path().join("absent")] {
        init(Program::Controller, unreadable, &state)
            .expect(66)
            .says("cannot read")
            .says("help: ");
    }
    assert!(!state.exists());
}

#[test]
fn every_fault_of_a_file_in_one_run() {
    let dir = scratch();
    let state = dir.path().join("state");
    let guide = repository("deploy/examples/guide-block.yaml");
    init(Program::Controller, &guide, &state)
        .expect(65)
        .says("error[ADDRESS_OVERLAP]")
        .says("guide-block.yaml:11:36")
        .says("1 | pxeboot_subnet: 198.51.100.0/24")
        .says("                 ---------------")
        .says("                                    ^^^^^^^^^^^^^^^");
    let faulty = repository("deploy/examples/faulty.yaml");
    let output = init(Program::Controller, &faulty, &state).expect(65);
    let lines: Vec<&str> = output.stderr.lines().collect();
    let found: Vec<(&str, &str)> = lines
        .windows(2)
        .filter_map(|pair| {
            let (reason, _) = pair[0].strip_prefix("error[")?.split_once(']')?;
            let (_, place) = pair[1].split_once("faulty.yaml:")?;
            Some((reason, place))
        })
        .collect();
    assert_eq!(found, FAULTY, "{}", output.stderr);
    // The carets stand under the text that is at fault.
    let text = fs::read_to_string(&faulty).expect("the file");
    for (_, place) in FAULTY {
        let (line, column) = place.split_once(':').expect("a line and a column");
        let (line, column): (usize, usize) = (line.parse().unwrap(), column.parse().unwrap());
        let written = text.lines().nth(line - 1).expect("the line");
        let shown = lines
            .iter()
            .position(|shown| shown.ends_with(&format!("| {written}")));
        assert!(shown.is_some(), "{written} is not shown");
        let caret = format!("|{}^", " ".repeat(column));
        assert!(
            lines.iter().any(|shown| shown.contains(&caret)),
            "no caret in column {column}"
        );
    }
    assert!(!state.exists());
}

/// Every fault of `deploy/examples/faulty.yaml` with its line and column, in the order of the file.
const FAULTY: [(&str, &str); 16] = [
    ("VALUE_UNKNOWN", "4:14"),
    ("DUAL_STACK_UNSUPPORTED_BY_VERSION", "6:19"),
    ("PXEBOOT_IPV4_ONLY", "7:17"),
    ("COUNT_DIFFERS", "9:27"),
    ("FAMILY_ORDER_DIFFERS", "10:25"),
    ("PRIMARY_FAMILY_MISMATCH", "12:22"),
    ("ADDRESS_OVERLAP", "12:22"),
    ("ADDRESS_UNPARSABLE", "13:31"),
    ("ADDRESS_OUTSIDE_SUBNET", "14:32"),
    ("PREFIX_TOO_SHORT", "15:22"),
    ("OAM_FAMILY_REQUIRED", "16:21"),
    ("CLUSTER_STACK_DIFFERS", "16:21"),
    ("SUBNET_TOO_SMALL", "17:39"),
    ("CONTROLLER_GATEWAY_INVALID", "18:35"),
    ("DNS_FAMILY_NOT_ON_OAM", "19:14"),
    ("YAML_DUPLICATE_KEY", "20:1"),
];

#[test]
fn an_unknown_variable_is_warned_of_with_its_nearest_name() {
    let dir = scratch();
    let file = dir.path().join("bootstrap.yaml");
    let site = Bootstrap::controller(Stack::V6).with("dns_server", "fd00::53");
    fs::write(&file, site.yaml()).expect("a file");
    let state = dir.path().join("state");
    init(Program::Controller, &file, &state)
        .expect(0)
        .says("dns_server: fd00::53")
        .says("dns_servers");
    assert!(state.join("state.redb").exists());
    init(Program::Controller, &file, &state)
        .expect(65)
        .says("never overwrites");
}

#[test]
fn tokens_that_are_wrong() {
    let dir = scratch();
    let controller = Controller::start(
        &dir.path().join("controller"),
        Bootstrap::controller(Stack::V6),
    );
    let site = |name: &str, index| Bootstrap::subcloud(name, index, Stack::V6);
    let install =
        |home: &str, site| Subcloud::install(&dir.path().join(home), site, Place::Loopback);
    let west = install("west", site("west", 1));
    let added = controller.add("west");
    let other = controller.add("other");

    let with = |token: String| Added {
        token,
        ..added.clone()
    };
    // In the id, the secret, the authority, the addresses and the checksum.
    let length = added.token.len();
    for at in [4, 20, 40, 80, length - 12, length - 1] {
        let (head, tail) = added.token.split_at(at);
        let other = if tail.starts_with('A') { 'B' } else { 'A' };
        let mistyped = format!("{head}{other}{}", &tail[1..]);
        west.enroll(&with(mistyped), &[]).expect(64).says("typing");
    }
    west.enroll(&with(added.token.replacen("td1_", "tb1_", 1)), &[])
        .expect(64);
    west.enroll(&with("td1_".to_owned()), &[]).expect(64);
    west.enroll(&with(String::new()), &[]).expect(64);
    west.enroll(&with(other.token), &[])
        .expect(2)
        .says("ENROLL_TOKEN_INVALID");
    assert!(controller.events("west", "ENROLLED").is_empty());

    west.enroll(&added, &["--dry-run"]).expect(0);
    west.enroll(&added, &[]).expect(0);
    west.enroll(&added, &[]).expect(0);
    // The same site installed anew has another key.
    let again = install("again", site("west", 1));
    again
        .enroll(&added, &[])
        .expect(2)
        .says("ENROLL_TOKEN_INVALID");
    assert_eq!(controller.events("west", "ENROLLED").len(), 1);
}

#[test]
fn clients_that_are_wrong_do_no_harm() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let mut west = Subcloud::join(
        &dir.path().join("west"),
        Bootstrap::subcloud("west", 1, Stack::V6),
        &controller,
    );
    let process = controller.daemon().id();
    let (state, link) = (
        controller.state_dir(),
        controller.daemon().ready.link.clone(),
    );

    let hello = json!({"hello": {"softwareVersion": "24.09"}}).to_string();
    on_the_link(&state, &link, None, "LinkService/Exchange", &hello)
        .says("\"code\": 16")
        .says("only agents with a subcloud's certificate");
    on_the_link(
        &state,
        &link,
        Some("operator-admin"),
        "LinkService/Exchange",
        &hello,
    )
    .says("\"code\": 16")
    .says("only agents with a subcloud's certificate");
    let ten_mebibytes = json!({"token": "x".repeat(10 * 1024 * 1024)}).to_string();
    on_the_link(
        &state,
        &link,
        None,
        "EnrollmentService/Enroll",
        &ten_mebibytes,
    )
    .says("is too large: at most 1048576 are taken")
    .says("google.rpc.ErrorInfo");
    let long = json!({"name": "x".repeat(10 * 1024 * 1024)});
    let refused = controller.grpcurl("tandem.fleet.v1.SubcloudService/AddSubcloud", &long);
    let refused = refused.expect_err("too large");
    assert_eq!(refused.reason, "MESSAGE_TOO_LARGE", "{refused:?}");
    assert_eq!(refused.metadata["limit"], "2097152", "{refused:?}");

    let without = controller.tls(None);
    let list = "tandem.site.v1.NetworkService/ListNetworks";
    crate::support::grpcurl::grpcurl(&without, list, &json!({})).expect_err("no certificate");
    let operator = controller.tls(Some("operator-admin"));
    crate::support::grpcurl::grpcurl(&operator, list, &json!({})).expect("the first operator");
    let services = crate::support::grpcurl::services(&operator).expect("reflection");
    assert!(services.contains(&"tandem.fleet.v1.SubcloudService".to_owned()));

    // Other protocols, garbage, and connections that never say anything.
    let (mut silent, mut spoken) = (Vec::new(), Vec::new());
    for address in [&link, &controller.daemon().ready.operators[0].clone()] {
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0x16, 3, 1, 0xff, 0xff],
            &[0; 4096],
        ] {
            let mut stream = TcpStream::connect(address).expect("a connection");
            drop(stream.write_all(garbage));
            spoken.push(stream);
        }
        silent.extend((0..20).map(|_| TcpStream::connect(address).expect("a connection")));
    }
    for mut stream in spoken {
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let ended = stream.read_to_end(&mut Vec::new());
        // Closed, if need be with a reset; not left open until the limit.
        let open = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!open, "a connection with garbage stays open");
    }
    controller.wait_for("west", "availability", "online");
    assert_eq!(controller.daemon().id(), process);
    assert!(controller.daemon().is_running());
    assert!(west.daemon().is_running());
    drop(silent);
    west.stop();
    controller.stop();
}

/// Calls a method of the link listener, which has no reflection; it must be refused.
fn on_the_link(
    state: &Path,
    address: &str,
    operator: Option<&str>,
    method: &str,
    request: &str,
) -> Output {
    let mut command = Command::new("grpcurl");
    command.args(["-max-time", "20", "-format-error", "-d", "@"]);
    command.arg("-import-path").arg(repository("proto"));
    for file in ["link_service", "enrollment_service"] {
        command.args(["-proto", &format!("tandem/fleet/v1/{file}.proto")]);
    }
    command.arg("-cacert").arg(state.join("ca.crt"));
    if let Some(name) = operator {
        command.arg("-cert").arg(state.join(format!("{name}.crt")));
        command.arg("-key").arg(state.join(format!("{name}.key")));
    }
    command
        .arg(address)
        .arg(format!("tandem.fleet.v1.{method}"));
    let output = Running::start(command, request).output();
    assert_ne!(output.code, Some(0), "{output:?}");
    output
}

#[test]
fn a_state_directory_that_is_damaged_or_taken() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("controller"), site);
    let mut second = controller.serve_command();
    second
        .args(["--operator-socket"])
        .arg(dir.path().join("other.sock"));
    run(second).expect(74).says("process");
    controller.stop();

    let file = controller.state_dir().join("state.redb");
    let sound = fs::read(&file).expect("the state");
    let mut flipped = sound.clone();
    for byte in flipped.iter_mut().skip(64).step_by(512) {
        *byte ^= 0x5a;
    }
    for damaged in [
        Vec::new(),
        sound[..sound.len() / 2].to_vec(),
        flipped,
        b"no store".to_vec(),
    ] {
        fs::write(&file, &damaged).expect("written");
        run(controller.serve_command())
            .expect(74)
            .says("state.redb");
        assert_eq!(
            fs::read(&file).expect("the state"),
            damaged,
            "it is not overwritten"
        );
    }
    fs::write(&file, &sound).expect("written");
    controller.serve();
    controller.stop();
}
