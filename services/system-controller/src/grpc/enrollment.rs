//! `tandem.fleet.v1.EnrollmentService`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use api::convert::{Malformed, fault_to_wire, report_from_wire, urls};
use api::fleet_v1 as wire;
use api::fleet_v1::enrollment_service_server::EnrollmentService;
use fleet::{
    ControllerConfig, Enroll, EnrollUnread, Fault, Input, ReasonSet as _, Receipt, Rejection,
    RequestId, SecretHash, TokenId,
};
use identity::{ConnectInfo, EnrollmentToken};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{SIGNING_REQUEST, broken, malformed, refused};
use crate::hub::Hub;
use crate::issuer::{Issuer, proven_key};

/// Redeems tokens.
#[derive(Debug)]
pub(crate) struct Enrollments {
    pub(crate) hub: Arc<Hub>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) config: ControllerConfig,
}

#[tonic::async_trait]
impl EnrollmentService for Enrollments {
    async fn enroll(
        &self,
        request: Request<wire::EnrollRequest>,
    ) -> Result<Response<wire::EnrollResponse>, Status> {
        let source = source(&request)?;
        let request = request.into_inner();
        let (csr, validate_only) = (
            request.certificate_signing_request.clone(),
            request.validate_only,
        );
        let name = request.site.as_ref().map(|site| site.name.clone());
        let asked = match question(request) {
            Ok(asked) => self.hub.ask::<Receipt>(|id| asked(id, source)).await,
            Err(unreadable) if validate_only => return Err(malformed(unreadable)),
            Err(unreadable) => {
                self.note_unread(source, name.unwrap_or_default(), &unreadable)
                    .await;
                return Err(malformed(unreadable));
            }
        };
        if !validate_only {
            self.hub.metrics().enrolled(outcome(&asked));
        }
        self.answer(&asked.map_err(refused)?, &csr, validate_only)
            .map(Response::new)
    }
}

impl Enrollments {
    /// A request that cannot be read is counted and logged like any other that is refused.
    async fn note_unread(&self, source: IpAddr, name: String, unreadable: &[Malformed]) {
        let unread = site::Reason::InvalidArgument.name();
        self.hub.metrics().enrolled(unread);
        let faults = unreadable.iter().map(Malformed::fault).collect();
        let noted = self.hub.ask::<()>(|request| {
            Input::EnrollUnread(EnrollUnread {
                request,
                name,
                source,
                faults,
            })
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "an audit entry may be missing");
        }
    }

    /// Signs a certificate for an accepted key and tells the agent whom it obeys.
    fn answer(
        &self,
        receipt: &Receipt,
        csr: &[u8],
        validate_only: bool,
    ) -> Result<wire::EnrollResponse, Status> {
        let warnings = receipt
            .warnings
            .iter()
            .map(|warning| fault_to_wire(&Fault::from(warning)));
        let mut answer = wire::EnrollResponse {
            subcloud_uuid: receipt.subcloud.id.to_string(),
            authority_certificate: self.issuer.authority.certificate().der().to_vec(),
            controller_uuid: self.config.id.to_string(),
            epoch: receipt
                .subcloud
                .enrolled()
                .map_or(0, |enrolled| enrolled.epoch.0),
            controllers: urls(&self.config.controllers),
            warnings: warnings.collect(),
            ..Default::default()
        };
        if !validate_only {
            let issued = self.issuer.issue(csr, receipt.subcloud.id);
            let issued = issued.map_err(|error| broken("cannot sign a certificate", &error))?;
            let end = issued
                .details
                .not_after
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            answer.not_after_milliseconds = u64::try_from(end.as_millis()).unwrap_or(u64::MAX);
            let validity = self.issuer.validity.as_millis();
            answer.validity_milliseconds = u64::try_from(validity).unwrap_or(u64::MAX);
            answer.certificate = issued.der.to_vec();
        }
        Ok(answer)
    }
}

/// What came of an attempt, for the counter of attempts.
fn outcome(asked: &Result<Receipt, Rejection>) -> &'static str {
    match asked {
        Ok(receipt) if receipt.replayed => "replayed",
        Ok(_) => "accepted",
        Err(rejection) => rejection.first().reason.name(),
    }
}

/// What the machine is asked, once it is known where the request comes from.
fn question(
    request: wire::EnrollRequest,
) -> Result<impl FnOnce(RequestId, IpAddr) -> Input, Vec<Malformed>> {
    let wire::EnrollRequest {
        token,
        certificate_signing_request,
        site,
        digest,
        validate_only,
    } = request;
    let (token, secret) = redeemed(&token);
    let key = proven_key(&certificate_signing_request)
        .map_err(|problem| Malformed::new("certificate_signing_request", problem))
        .map_err(|fault| fault.remedy(SIGNING_REQUEST));
    let report = match site {
        Some(site) => report_from_wire(&site, &digest),
        None => {
            let valid = "give the whole site, as its own GetSite does";
            Err(vec![Malformed::new("site", "is missing").remedy(valid)])
        }
    };
    let (key, report) = match (key, report) {
        (Ok(key), Ok(report)) => (key, report),
        (key, report) => {
            let faults = key.err().into_iter();
            return Err(faults.chain(report.err().unwrap_or_default()).collect());
        }
    };
    Ok(move |request, source| {
        Input::Enroll(Enroll {
            request,
            token,
            secret,
            key,
            report,
            source,
            validate_only,
        })
    })
}

/// The token's id and the hash of its secret. A text that is no token is one that nobody issued:
/// outwardly, a wrong token is a wrong token.
fn redeemed(text: &str) -> (TokenId, SecretHash) {
    match EnrollmentToken::parse(text) {
        Ok(token) => (
            TokenId(token.id()),
            SecretHash(*token.secret().hash().as_bytes()),
        ),
        Err(error) => {
            tracing::debug!(%error, "an enrollment token cannot be read");
            (TokenId(Uuid::nil()), SecretHash([0; 32]))
        }
    }
}

/// Where a connection comes from.
pub(super) fn source<T>(request: &Request<T>) -> Result<std::net::IpAddr, Status> {
    let info = request.extensions().get::<ConnectInfo>();
    let info = info.ok_or_else(|| Status::internal("the connection has no address"))?;
    Ok(info.peer.ip())
}
