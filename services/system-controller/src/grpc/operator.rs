//! `tandem.fleet.v1.OperatorService`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::convert::{
    Malformed, action_from_wire, audit_to_wire, operator_role_from_wire, operator_to_wire,
    time_range,
};
use api::fleet_v1 as wire;
use api::fleet_v1::operator_service_server::OperatorService;
use api::page::page;
use api::store_v1::AuditRecord;
use daemon::{Caller, SecretAnswers, now};
use fleet::{Actor, AddOperator, Fingerprint, Input, Operator, OperatorRole, RevokeOperator};
use identity::{Ca, OPERATOR_VALIDITY, OperatorName, Role, csr_spki_sha256};
use site::Timestamp;
use tonic::{Request, Response, Status};

use super::{SIGNING_REQUEST, broken, malformed, refused, unheard};
use crate::hub::Hub;
use crate::log_pages::{LogPage, Looking, search_log};
use crate::records::{AUDIT, read_operators};

/// Operators, and what they did.
#[derive(Debug, Clone)]
pub(crate) struct Operators {
    pub(crate) hub: Arc<Hub>,
    pub(crate) authority: Arc<Ca>,
    pub(crate) answers: Arc<SecretAnswers>,
}

#[tonic::async_trait]
impl OperatorService for Operators {
    async fn add_operator(
        &self,
        request: Request<wire::AddOperatorRequest>,
    ) -> Result<Response<wire::AddOperatorResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let work = self.clone().add(actor, request.clone());
        let answer = self.answers.once("AddOperator", request, work).await;
        answer.map(Response::new)
    }

    async fn list_operators(
        &self,
        request: Request<wire::ListOperatorsRequest>,
    ) -> Result<Response<wire::ListOperatorsResponse>, Status> {
        let wire::ListOperatorsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let known = read_operators(self.hub.store())
            .map_err(|error| broken("cannot read the operators", &error))?;
        let all = known
            .iter()
            .map(|it| (it.name.clone(), operator_to_wire(it)));
        let (operators, next_page_token) = page(all, page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListOperatorsResponse {
            operators,
            next_page_token,
        }))
    }

    async fn revoke_operator(
        &self,
        request: Request<wire::RevokeOperatorRequest>,
    ) -> Result<Response<wire::RevokeOperatorResponse>, Status> {
        let (actor, request) = (actor(&request), request.into_inner());
        let work = self.clone().revoke(actor, request.clone());
        let answer = self.answers.once("RevokeOperator", request, work).await;
        answer.map(Response::new)
    }

    async fn list_audit_entries(
        &self,
        request: Request<wire::ListAuditEntriesRequest>,
    ) -> Result<Response<wire::ListAuditEntriesResponse>, Status> {
        let wire::ListAuditEntriesRequest {
            page_size,
            page_token,
            since_milliseconds: since,
            until_milliseconds: until,
            subcloud,
            action,
            actor,
        } = request.into_inner();
        time_range(since, until).map_err(|fault| malformed(vec![fault]))?;
        let action = action_from_wire(&action).map_err(|fault| malformed(vec![fault]))?;
        let about = |asked: &str, known: &str| asked.is_empty() || asked == known;
        let looking = Looking::at(AUDIT, (page_size, &page_token), (since, until));
        let looking = looking.map_err(malformed)?;
        let wanted = move |position, record: AuditRecord| {
            let wanted = about(&action, &record.action)
                && about(&actor, &record.actor)
                && (about(&subcloud, &record.subcloud) || subcloud == record.name);
            Ok(wanted.then(|| audit_to_wire(position, record)))
        };
        let found = search_log(self.hub.store(), looking, wanted).await;
        let LogPage { entries, next } =
            found.map_err(|error| broken("cannot read the audit log", &error))?;
        Ok(Response::new(wire::ListAuditEntriesResponse {
            entries,
            next_page_token: next,
        }))
    }
}

impl Operators {
    async fn add(
        self,
        actor: Actor,
        request: wire::AddOperatorRequest,
    ) -> Result<wire::AddOperatorResponse, Status> {
        let wire::AddOperatorRequest {
            name,
            role,
            certificate_signing_request: csr,
            validate_only,
            request_id: _,
        } = request;
        let wanted = read(&name, role, &csr).map_err(unheard(validate_only));
        let (name, role, key) = wanted?;
        let issued_at = SystemTime::now();
        let operator = Operator {
            name: name.to_string(),
            role,
            key,
            created_at: now(),
            expires_at: timestamp(issued_at + OPERATOR_VALIDITY),
            revoked_at: None,
        };
        let asked = self.hub.ask(|request| {
            Input::AddOperator(AddOperator {
                request,
                actor,
                operator,
                validate_only,
            })
        });
        let operator: Operator = asked.await.map_err(refused)?;
        let mut answer = wire::AddOperatorResponse {
            operator: Some(operator_to_wire(&operator)),
            certificate: Vec::new(),
            authority_certificate: self.authority.certificate().der().to_vec(),
        };
        if !validate_only {
            let role = certified(role);
            let issued =
                self.authority
                    .issue_operator_for(&csr, name, role, issued_at, OPERATOR_VALIDITY);
            let issued = issued.map_err(|error| broken("cannot sign a certificate", &error));
            // The operator is made, and noted.
            let issued = issued.map_err(unheard(true))?;
            answer.certificate = issued.der.to_vec();
        }
        Ok(answer)
    }

    async fn revoke(
        self,
        actor: Actor,
        request: wire::RevokeOperatorRequest,
    ) -> Result<wire::RevokeOperatorResponse, Status> {
        let wire::RevokeOperatorRequest {
            name,
            validate_only,
            request_id: _,
        } = request;
        let asked = self.hub.ask(|request| {
            Input::RevokeOperator(RevokeOperator {
                request,
                actor,
                name,
                validate_only,
            })
        });
        let operator: Operator = asked.await.map_err(refused)?;
        let operator = Some(operator_to_wire(&operator));
        Ok(wire::RevokeOperatorResponse { operator })
    }
}

/// Reads what an operator shall be; every fault at once.
fn read(
    name: &str,
    role: i32,
    csr: &[u8],
) -> Result<(OperatorName, OperatorRole, Fingerprint), Status> {
    let name = name
        .parse::<OperatorName>()
        .map_err(|error| Malformed::new("name", format!("cannot be taken: {error}")))
        .map_err(|fault| {
            fault.remedy("give 1 to 64 letters, digits, '-', '_' or '.', such as alice")
        });
    let role = operator_role_from_wire(role);
    let key = csr_spki_sha256(csr)
        .map_err(|error| Malformed::new("certificate_signing_request", error.to_string()))
        .map_err(|fault| fault.remedy(SIGNING_REQUEST));
    match (name, role, key) {
        (Ok(name), Ok(role), Ok(key)) => Ok((name, role, Fingerprint(*key.as_bytes()))),
        (name, role, key) => {
            let faults = [name.err(), role.err(), key.err()];
            Err(malformed(faults.into_iter().flatten().collect()))
        }
    }
}

/// The role as certificates have it.
pub(crate) fn certified(role: OperatorRole) -> Role {
    match role {
        OperatorRole::Reader => Role::Reader,
        OperatorRole::Configurator => Role::Configurator,
        OperatorRole::Admin => Role::Admin,
    }
}

/// A moment as records have it.
pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn actor<T>(request: &Request<T>) -> Actor {
    Actor::Operator(Caller::of(request).to_string())
}
