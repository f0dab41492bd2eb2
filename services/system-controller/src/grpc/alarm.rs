//! `tandem.fleet.v1.AlarmService`.

use std::sync::Arc;

use api::convert::alarm_summary_to_wire;
use api::fleet_v1 as wire;
use api::fleet_v1::alarm_service_server::AlarmService;
use api::page::page;
use tonic::{Request, Response, Status};

use super::malformed;
use crate::hub::Hub;

/// Alarms of the subclouds, for operators.
#[derive(Debug, Clone)]
pub(crate) struct Alarms(pub(crate) Arc<Hub>);

#[tonic::async_trait]
impl AlarmService for Alarms {
    async fn list_alarm_summaries(
        &self,
        request: Request<wire::ListAlarmSummariesRequest>,
    ) -> Result<Response<wire::ListAlarmSummariesResponse>, Status> {
        let wire::ListAlarmSummariesRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let summaries = self.0.alarm_summaries();
        let keyed = summaries
            .iter()
            .map(|summary| (summary.subcloud.clone(), alarm_summary_to_wire(summary)));
        let (summaries, next_page_token) =
            page(keyed, page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListAlarmSummariesResponse {
            summaries,
            next_page_token,
        }))
    }
}
