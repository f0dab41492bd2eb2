//! Who calls, and whether the role allows it.

use std::fmt;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use identity::{ConnectInfo, Identity, Role};
use tonic::transport::server::UdsConnectInfo;

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
        /// The role in the certificate.
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

/// Stands in front of every operators' service: finds the caller, and turns away whom the role
/// does not allow.
pub(crate) async fn guard(mut request: Request, next: Next) -> Response {
    match check(request.uri().path(), request.extensions()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_http(),
    }
}

/// Finds the caller of a request.
///
/// # Errors
/// `UNAUTHENTICATED` without an operator's certificate, `PERMISSION_DENIED` when the role does
/// not allow the method.
fn check(path: &str, extensions: &http::Extensions) -> Result<Caller, tonic::Status> {
    let caller = caller(extensions)?;
    let needed = needed_role(path);
    if caller.role() >= needed {
        return Ok(caller);
    }
    let violation = site::Violation::new(
        api::access::AccessReason::RoleTooLow,
        format!(
            "{caller} has the role {}, and {path} needs {needed}",
            caller.role()
        ),
        format!("ask an admin for a certificate of the role {needed}"),
    );
    Err(api::status::from_rejection(&site::Rejection::one(
        violation,
    )))
}

fn caller(extensions: &http::Extensions) -> Result<Caller, tonic::Status> {
    if let Some(local) = extensions.get::<UdsConnectInfo>() {
        let uid = local.peer_cred.as_ref().map(tokio::net::unix::UCred::uid);
        return Ok(Caller::Local { uid });
    }
    let certificate = extensions
        .get::<ConnectInfo>()
        .and_then(|info| info.certificate.as_ref());
    match certificate.map(|certificate| &certificate.identity) {
        Some(Identity::Operator { name, role }) => Ok(Caller::Operator {
            name: name.to_string(),
            role: *role,
        }),
        _ => {
            let violation = site::Violation::new(
                api::access::AccessReason::NotAnOperator,
                "the connection has no operator's certificate",
                "connect with a certificate that `tandem dcmanager operator add` or init made",
            );
            Err(api::status::from_rejection(&site::Rejection::one(
                violation,
            )))
        }
    }
}

/// The role that a method needs. Methods are named after what they do; one that is not named
/// like a question changes something.
fn needed_role(path: &str) -> Role {
    let method = path.rsplit('/').next().unwrap_or_default();
    let open = ["/grpc.health.v1.", "/grpc.reflection."];
    let asks = ["Get", "List", "Watch"];
    if open.iter().any(|prefix| path.starts_with(prefix))
        || asks.iter().any(|prefix| method.starts_with(prefix))
    {
        Role::Reader
    } else {
        Role::Configurator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_change_something_need_more_than_a_reader() {
        let check = |path: &str, role: Role| assert_eq!(needed_role(path), role, "{path}");
        check("/tandem.site.v1.NetworkService/ListNetworks", Role::Reader);
        check(
            "/tandem.site.v1.NetworkService/CreateNetwork",
            Role::Configurator,
        );
        check(
            "/tandem.fleet.v1.SubcloudService/AddSubcloud",
            Role::Configurator,
        );
        check(
            "/tandem.fleet.v1.SubcloudService/Unheard",
            Role::Configurator,
        );
        check("/grpc.health.v1.Health/Check", Role::Reader);
        check(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            Role::Reader,
        );
    }
}
