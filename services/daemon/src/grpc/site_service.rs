//! `tandem.site.v1.SiteService`.

use std::sync::Arc;

use api::convert::{
    self, alarm_to_wire, host_to_wire, kubernetes_to_wire, oam_to_wire, site_to_wire,
};
use api::page::page;
use api::site_v1 as wire;
use api::site_v1::site_service_server::SiteService;
use site::{Change, ConfigurationId, Plan, Subject};
use tonic::{Request, Response, Status};

use super::watch::{self, SiteEvents};
use super::{effects, malformed};
use crate::{Life, SiteKeeper};

/// The site as a whole.
#[derive(Debug)]
pub(crate) struct Sites(pub(crate) Arc<SiteKeeper>, pub(crate) Life);

#[tonic::async_trait]
impl SiteService for Sites {
    type WatchSiteStream = SiteEvents;

    async fn watch_site(
        &self,
        request: Request<wire::WatchSiteRequest>,
    ) -> Result<Response<Self::WatchSiteStream>, Status> {
        let watching = self.0.watch_from(request.get_ref().from_revision);
        Ok(Response::new(watch::events(watching, self.1.stopping())))
    }

    async fn get_site(
        &self,
        _: Request<wire::GetSiteRequest>,
    ) -> Result<Response<wire::GetSiteResponse>, Status> {
        let site = Some(site_to_wire(&self.0.site()));
        Ok(Response::new(wire::GetSiteResponse { site }))
    }

    async fn list_hosts(
        &self,
        _: Request<wire::ListHostsRequest>,
    ) -> Result<Response<wire::ListHostsResponse>, Status> {
        let hosts = self.0.site().hosts().map(host_to_wire).collect();
        Ok(Response::new(wire::ListHostsResponse { hosts }))
    }

    async fn lock_host(
        &self,
        request: Request<wire::LockHostRequest>,
    ) -> Result<Response<wire::LockHostResponse>, Status> {
        let change = |request: wire::LockHostRequest| {
            Ok(Change::LockHost {
                hostname: request.hostname,
            })
        };
        let respond = |plan: &Plan| wire::LockHostResponse {
            host: host_of(plan),
            effects: effects(plan),
        };
        self.0.call("LockHost", request, change, respond).await
    }

    async fn unlock_host(
        &self,
        request: Request<wire::UnlockHostRequest>,
    ) -> Result<Response<wire::UnlockHostResponse>, Status> {
        let change = |request: wire::UnlockHostRequest| {
            Ok(Change::UnlockHost {
                hostname: request.hostname,
            })
        };
        let respond = |plan: &Plan| wire::UnlockHostResponse {
            host: host_of(plan),
            effects: effects(plan),
        };
        self.0.call("UnlockHost", request, change, respond).await
    }

    async fn report_host(
        &self,
        request: Request<wire::ReportHostRequest>,
    ) -> Result<Response<wire::ReportHostResponse>, Status> {
        let change = |request: wire::ReportHostRequest| {
            let configuration = ConfigurationId(request.applied_configuration);
            Ok(Change::ReportApplied {
                hostname: request.hostname,
                configuration,
            })
        };
        let respond = |plan: &Plan| wire::ReportHostResponse {
            host: host_of(plan),
            effects: effects(plan),
        };
        self.0.call("ReportHost", request, change, respond).await
    }

    async fn list_alarms(
        &self,
        request: Request<wire::ListAlarmsRequest>,
    ) -> Result<Response<wire::ListAlarmsResponse>, Status> {
        let wire::ListAlarmsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let alarms = self.0.alarms();
        let keyed = alarms.iter().map(|alarm| {
            let key = format!("{:020}-{}", alarm.raised_at.0, alarm.uuid);
            (key, alarm_to_wire(alarm))
        });
        let (alarms, next_page_token) = page(keyed, page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListAlarmsResponse {
            alarms,
            next_page_token,
        }))
    }

    async fn get_dns(
        &self,
        _: Request<wire::GetDnsRequest>,
    ) -> Result<Response<wire::GetDnsResponse>, Status> {
        let servers = self
            .0
            .site()
            .dns_servers()
            .iter()
            .map(ToString::to_string)
            .collect();
        Ok(Response::new(wire::GetDnsResponse { servers }))
    }

    async fn update_dns(
        &self,
        request: Request<wire::UpdateDnsRequest>,
    ) -> Result<Response<wire::UpdateDnsResponse>, Status> {
        let change = |request: wire::UpdateDnsRequest| {
            Ok(Change::ModifyDns {
                servers: request.servers,
            })
        };
        let respond = |plan: &Plan| wire::UpdateDnsResponse {
            servers: plan
                .next()
                .dns_servers()
                .iter()
                .map(ToString::to_string)
                .collect(),
            effects: effects(plan),
        };
        self.0.call("UpdateDns", request, change, respond).await
    }

    async fn get_oam(
        &self,
        _: Request<wire::GetOamRequest>,
    ) -> Result<Response<wire::GetOamResponse>, Status> {
        let oam = Some(oam_to_wire(&self.0.site()));
        Ok(Response::new(wire::GetOamResponse { oam }))
    }

    async fn update_oam(
        &self,
        request: Request<wire::UpdateOamRequest>,
    ) -> Result<Response<wire::UpdateOamResponse>, Status> {
        let respond = |plan: &Plan| wire::UpdateOamResponse {
            oam: Some(oam_to_wire(plan.next())),
            effects: effects(plan),
        };
        self.0
            .call("UpdateOam", request, convert::update_oam, respond)
            .await
    }

    async fn get_kubernetes(
        &self,
        _: Request<wire::GetKubernetesRequest>,
    ) -> Result<Response<wire::GetKubernetesResponse>, Status> {
        let site = self.0.site();
        let missing = site.missing_for_dual_stack();
        Ok(Response::new(wire::GetKubernetesResponse {
            state: kubernetes_to_wire(site.kubernetes()) as i32,
            networks_missing_for_dual_stack: missing.iter().map(ToString::to_string).collect(),
        }))
    }
}

/// The host that a plan is about, as it will be.
fn host_of(plan: &Plan) -> Option<wire::Host> {
    let Subject::Host(hostname) = plan.subject() else {
        return None;
    };
    plan.next().host(hostname).map(host_to_wire)
}
