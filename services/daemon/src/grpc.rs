//! The site services, the same on controller and agent: convert, call, convert.

mod network;
mod site_service;
mod watch;

pub(crate) use network::{EncodedPools, Networks};
pub(crate) use site_service::Sites;

use std::sync::Arc;

use api::convert::Malformed;
use api::mutation::Mutation;
use api::site_v1 as wire;
use site::{Change, Plan, Rejection};
use tonic::{Request, Response, Status};

use crate::{Call, Caller, SiteKeeper};

impl SiteKeeper {
    /// Serves a mutation: reads the request, changes the site, answers from the plan.
    async fn call<R: Mutation + Clone, M: prost::Message + Default>(
        self: &Arc<Self>,
        method: &'static str,
        request: Request<R>,
        change: impl FnOnce(R) -> Result<Change, Vec<Malformed>>,
        respond: impl FnOnce(&Plan) -> M,
    ) -> Result<Response<M>, Status> {
        let caller = &Caller::of(&request);
        let request = &request.into_inner();
        let change = match change(request.clone()) {
            Ok(change) => change,
            Err(faults) => {
                if !request.validate_only() {
                    let unreadable = faults.iter().map(Malformed::fault).collect();
                    self.note(caller, method, unreadable).await;
                }
                return Err(malformed(faults));
            }
        };
        let call = Call {
            caller,
            method,
            request,
            change,
        };
        self.change(call, respond).await.map(Response::new)
    }
}

/// The effects of a plan as messages.
fn effects(plan: &Plan) -> Vec<wire::Effect> {
    plan.effects()
        .iter()
        .map(api::convert::effect_to_wire)
        .collect()
}

/// A refusal of the core as a status.
fn refused(rejection: Rejection) -> Status {
    api::status::from_rejection(&rejection)
}

/// Unreadable fields as a status.
fn malformed(faults: Vec<Malformed>) -> Status {
    api::status::from_malformed(&faults)
}
