//! Who calls, and whether the role allows it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::access::AccessReason;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use fleet::Fault;
use identity::{ConnectInfo, Identity, Role};
use site::{Rejection, Violation};
use tonic::Status;
use tonic::transport::server::UdsConnectInfo;

use crate::{CountBy, Deed, KnownOperators, SUBCLOUD_METADATA, Witness, roles};

/// Who calls the operators' interface, for logs and for roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Through the unix socket, whose mode lets only root and the daemon's user in.
    Local {
        /// The user id, when the system tells.
        uid: Option<u32>,
    },
    /// Through TLS with an operator's certificate.
    Operator {
        /// The name in the certificate.
        name: String,
        /// The role on record.
        role: Role,
    },
    /// Through the link, from the controller that owns the site; it has checked the role.
    Controller {
        /// Who asked the controller.
        actor: String,
    },
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid: Some(uid) } => write!(formatter, "local/uid-{uid}"),
            Self::Local { uid: None } => formatter.write_str("local"),
            Self::Operator { name, role } => write!(formatter, "operator/{role}/{name}"),
            Self::Controller { actor } => write!(formatter, "controller/{actor}"),
        }
    }
}

impl Caller {
    /// What the caller may do at most.
    pub fn role(&self) -> Role {
        match self {
            Self::Local { .. } | Self::Controller { .. } => Role::Admin,
            Self::Operator { role, .. } => *role,
        }
    }

    /// The caller that the access check found for a request.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let known = request.extensions().get::<Self>();
        known.cloned().unwrap_or(Self::Local { uid: None })
    }
}

/// Why the access check turns calls away.
pub(crate) const REFUSALS: &[AccessReason] = &[
    AccessReason::NotAnOperator,
    AccessReason::OperatorRevoked,
    AccessReason::RoleTooLow,
];

/// What the access check needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    /// Whose certificates count.
    pub(crate) operators: Arc<KnownOperators>,
    /// Who is told of calls that are not allowed, and of changes that cannot be read.
    pub(crate) witness: Option<Arc<dyn Witness>>,
    /// The user of this process.
    pub(crate) own_uid: u32,
    /// The calls that were turned away.
    pub(crate) refused: CountBy<AccessReason>,
}

/// Stands in front of every operators' service: finds the caller, and turns away whom the role
/// does not allow.
pub(crate) async fn guard(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let caller = match gate.caller(request.extensions()) {
        Ok(caller) => caller,
        Err(violation) => return gate.turned_away(*violation),
    };
    let needed = roles::needed(path);
    let subcloud = request.headers().get(SUBCLOUD_METADATA);
    let subcloud = subcloud.and_then(|named| Some(named.to_str().ok()?.to_owned()));
    if caller.role() < needed {
        let violation = role_too_low(&caller, path, needed);
        if let Some((path, _)) = roles::entry(path) {
            let faults = vec![Fault::from(&violation)];
            let noting = gate.clone();
            // It is noted also when the client hangs up meanwhile.
            let noted = tokio::spawn(async move {
                let dry_run = only_asks(path, request).await;
                noting.note(caller, (path, subcloud), dry_run, faults).await;
            });
            if let Err(ended) = noted.await {
                tracing::warn!(%ended, "an audit entry may be missing");
            }
        }
        return gate.turned_away(violation);
    }
    let called = roles::entry(path).filter(|_| needed > Role::Reader);
    request.extensions_mut().insert(caller.clone());
    let Some((path, _)) = called else {
        return answered(request, next).await;
    };
    // A change is judged, made and noted also when the client hangs up meanwhile.
    let change = tokio::spawn(async move {
        let answer = answered(request, next).await;
        // What was refused before any rule was asked: nobody else notes it.
        let refusal = answer.extensions().get::<Status>();
        if let Some(faults) = refusal.and_then(api::status::unheard) {
            gate.note(caller, (path, subcloud), false, faults).await;
        }
        answer
    });
    match change.await {
        Ok(answer) => answer,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Status::unavailable("the process is stopping").into_http(),
        },
    }
}

/// The most of a request that is looked at although it is not allowed: more than any change has
/// but one with a table of addresses or a long bootstrap file.
const MOST_LOOKED_AT: usize = 64 * 1024;

/// How long such a request may take to arrive; nobody waits for it but its client.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);

/// What precedes the message in a request: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Whether a request asks only what would happen. One that is too long, or comes too late, is
/// taken for a real one.
async fn only_asks(path: &str, request: Request) -> bool {
    if !api::preview::can_only_ask(path) {
        return false;
    }
    let body = axum::body::to_bytes(request.into_body(), MOST_LOOKED_AT);
    match tokio::time::timeout(ARRIVES_WITHIN, body).await {
        Ok(Ok(body)) => match body.split_at_checked(PREFIX) {
            Some(([0, length @ ..], message)) => {
                let whole =
                    u32::try_from(message.len()).is_ok_and(|it| it.to_be_bytes() == *length);
                whole && api::preview::only_asks(path, message)
            }
            _ => false,
        },
        Ok(Err(_)) | Err(_) => false,
    }
}

/// The answer of the service. A message that could not be decoded is refused as everything is,
/// with a reason and a remedy.
async fn answered(request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    let refusal = answer.extensions().get::<Status>();
    match refusal.and_then(api::status::of_undecodable) {
        Some(refusal) => refusal.into_http(),
        None => answer,
    }
}

impl Gate {
    /// Finds the caller of a request.
    ///
    /// # Errors
    /// `NOT_AN_OPERATOR` without an operator's certificate or as a user without rights,
    /// `OPERATOR_REVOKED` with a certificate that does not count.
    fn caller(
        &self,
        extensions: &http::Extensions,
    ) -> Result<Caller, Box<Violation<AccessReason>>> {
        if let Some(local) = extensions.get::<UdsConnectInfo>() {
            let uid = local.peer_cred.as_ref().map(tokio::net::unix::UCred::uid);
            return match uid {
                Some(uid) if uid == 0 || uid == self.own_uid => {
                    Ok(Caller::Local { uid: Some(uid) })
                }
                _ => Err(Box::new(not_an_operator(
                    "the socket serves root and the user of this process only",
                    "call as one of them, or over TCP with an operator's certificate",
                ))),
            };
        }
        let info = extensions.get::<ConnectInfo>();
        let certificate = info.and_then(|info| info.certificate.as_deref());
        match certificate.map(|certificate| (&certificate.identity, certificate.spki)) {
            Some((Identity::Operator { name, .. }, key)) => Ok(Caller::Operator {
                role: self.operators.role_of(name.as_str(), key)?,
                name: name.to_string(),
            }),
            _ => Err(Box::new(not_an_operator(
                "the connection has no operator's certificate",
                "connect with a certificate that `tandem dcmanager operator add` or init made",
            ))),
        }
    }

    fn turned_away(&self, violation: Violation<AccessReason>) -> Response {
        self.refused.add(violation.reason);
        api::status::from_rejection(&Rejection::one(violation)).into_http()
    }

    /// Notes a call that was not even looked at.
    async fn note(
        &self,
        caller: Caller,
        (path, subcloud): (&'static str, Option<String>),
        dry_run: bool,
        faults: Vec<Fault>,
    ) {
        if let Some(witness) = &self.witness {
            let deed = Deed {
                caller,
                path,
                subcloud,
                unheard: true,
                dry_run,
                faults,
            };
            witness.note(deed).await;
        }
    }
}

fn role_too_low(caller: &Caller, path: &str, needed: Role) -> Violation<AccessReason> {
    let role = caller.role();
    Violation::new(
        AccessReason::RoleTooLow,
        format!("{caller} has the role {role}, and {path} needs {needed}"),
        format!("ask an admin for a certificate of the role {needed}"),
    )
}

fn not_an_operator(message: &str, remedy: &str) -> Violation<AccessReason> {
    Violation::new(AccessReason::NotAnOperator, message, remedy)
}
