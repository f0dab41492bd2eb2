//! The services of one site.

use api::site_v1::network_service_server::NetworkService;
use api::site_v1::site_service_server::SiteService;
use api::site_v1::*;
use site::Reason;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use super::watch::{Events, events_after};
use super::{Asked, answers, ok, page};

/// One site.
#[derive(Clone)]
pub(super) struct Site(pub(super) Asked, pub(super) CancellationToken);

impl Site {
    /// Its whole state.
    fn whole(&self) -> api::site_v1::Site {
        api::site_v1::Site {
            uuid: "ffffffff-0000-4000-8000-000000000001".to_owned(),
            name: "controller".to_owned(),
            region_name: "RegionOne".to_owned(),
            system_type: SystemType::AllInOne.into(),
            system_mode: SystemMode::Duplex.into(),
            distributed_cloud_role: DistributedCloudRole::SystemController.into(),
            software_version: "24.09".to_owned(),
            initial_config_complete: true,
            generation: 7,
            networks: answers::networks(),
            address_pools: answers::pools(),
            hosts: answers::hosts(),
            dns_servers: vec!["2001:4860:4860::8888".to_owned(), "8.8.8.8".to_owned()],
            systemcontroller_gateway_addresses: Vec::new(),
            kubernetes: KubernetesState::ConvertingToDual.into(),
            alarms: answers::alarms(),
            primary_family: Family::Ipv6.into(),
            stack: Stack::Single.into(),
            link_address: "fd01::3".to_owned(),
        }
    }
}

/// The answer to a method.
type Answer<Message> = Result<Response<Message>, Status>;

/// An object that a dry run does not make.
fn unless<Object>(validate_only: bool, object: Object) -> Option<Object> {
    (!validate_only).then_some(object)
}

fn pool(name: &str) -> Result<AddressPool, Status> {
    let is_it = |pool: &AddressPool| pool.name == name || pool.uuid == name;
    let found = answers::pools().into_iter().find(is_it);
    found.ok_or_else(|| answers::not_found(Reason::PoolNotFound, "pool", name))
}

fn network(name: &str) -> Result<Network, Status> {
    let is_it = |network: &Network| network.name == name || network.uuid == name;
    let found = answers::networks().into_iter().find(is_it);
    found.ok_or_else(|| answers::not_found(Reason::NetworkNotFound, "network", name))
}

fn association(uuid: &str, network: &str, pool: &str) -> Result<NetworkAddressPool, Status> {
    let is_it = |found: &NetworkAddressPool| {
        found.uuid == uuid || (found.network_name == network && found.address_pool_name == pool)
    };
    let found = answers::associations().into_iter().find(is_it);
    found.ok_or_else(|| {
        let reason = Reason::NetworkAddressPoolNotFound;
        answers::not_found(reason, "association", &format!("{uuid}{network} {pool}"))
    })
}

#[async_trait]
impl NetworkService for Site {
    async fn list_networks(
        &self,
        request: Request<ListNetworksRequest>,
    ) -> Answer<ListNetworksResponse> {
        let token = self.0.note(request).page_token;
        let (networks, next_page_token) = page(answers::networks(), &token);
        ok(ListNetworksResponse {
            networks,
            next_page_token,
        })
    }

    async fn get_network(&self, request: Request<GetNetworkRequest>) -> Answer<GetNetworkResponse> {
        let network = network(&self.0.note(request).network)?;
        ok(GetNetworkResponse {
            network: Some(network),
        })
    }

    async fn create_network(
        &self,
        request: Request<CreateNetworkRequest>,
    ) -> Answer<CreateNetworkResponse> {
        let CreateNetworkRequest {
            name,
            r#type,
            dynamic,
            address_pool,
            validate_only,
            ..
        } = self.0.note(request);
        let mut made = network("mgmt")?;
        (made.name, made.r#type, made.dynamic) = (name, r#type, dynamic);
        made.primary_pool_uuid = pool(&address_pool)?.uuid;
        let effects = answers::effects();
        ok(CreateNetworkResponse {
            network: unless(validate_only, made),
            effects,
        })
    }

    async fn delete_network(
        &self,
        request: Request<DeleteNetworkRequest>,
    ) -> Answer<DeleteNetworkResponse> {
        network(&self.0.note(request).network)?;
        ok(DeleteNetworkResponse {
            effects: answers::effects(),
        })
    }

    async fn list_address_pools(
        &self,
        request: Request<ListAddressPoolsRequest>,
    ) -> Answer<ListAddressPoolsResponse> {
        let token = self.0.note(request).page_token;
        let (address_pools, next_page_token) = page(answers::pools(), &token);
        ok(ListAddressPoolsResponse::of(address_pools, next_page_token))
    }

    async fn get_address_pool(
        &self,
        request: Request<GetAddressPoolRequest>,
    ) -> Answer<GetAddressPoolResponse> {
        let address_pool = Some(pool(&self.0.note(request).address_pool)?);
        ok(GetAddressPoolResponse { address_pool })
    }

    async fn create_address_pool(
        &self,
        request: Request<CreateAddressPoolRequest>,
    ) -> Answer<CreateAddressPoolResponse> {
        let CreateAddressPoolRequest {
            address_pool,
            validate_only,
            ..
        } = self.0.note(request);
        let address_pool = address_pool.unwrap_or_default();
        if address_pool.name == "faulty" {
            return Err(answers::three_faults());
        }
        if address_pool.name == "late" {
            return Err(answers::too_late());
        }
        if let Some(count) = address_pool.name.strip_prefix("faults-") {
            return Err(answers::many_faults(count.parse().expect("a number")));
        }
        let address_pool = unless(validate_only, address_pool);
        ok(CreateAddressPoolResponse {
            address_pool,
            effects: Vec::new(),
        })
    }

    async fn update_address_pool(
        &self,
        request: Request<UpdateAddressPoolRequest>,
    ) -> Answer<UpdateAddressPoolResponse> {
        let UpdateAddressPoolRequest {
            target,
            validate_only,
            ..
        } = self.0.note(request);
        let address_pool = unless(validate_only, pool(&target)?);
        ok(UpdateAddressPoolResponse {
            address_pool,
            effects: answers::effects(),
        })
    }

    async fn delete_address_pool(
        &self,
        request: Request<DeleteAddressPoolRequest>,
    ) -> Answer<DeleteAddressPoolResponse> {
        pool(&self.0.note(request).address_pool)?;
        ok(DeleteAddressPoolResponse {
            effects: Vec::new(),
        })
    }

    async fn list_network_address_pools(
        &self,
        request: Request<ListNetworkAddressPoolsRequest>,
    ) -> Answer<ListNetworkAddressPoolsResponse> {
        let token = self.0.note(request).page_token;
        let (network_address_pools, next_page_token) = page(answers::associations(), &token);
        ok(ListNetworkAddressPoolsResponse {
            network_address_pools,
            next_page_token,
        })
    }

    async fn get_network_address_pool(
        &self,
        request: Request<GetNetworkAddressPoolRequest>,
    ) -> Answer<GetNetworkAddressPoolResponse> {
        let GetNetworkAddressPoolRequest {
            uuid,
            network,
            address_pool,
        } = self.0.note(request);
        let network_address_pool = Some(association(&uuid, &network, &address_pool)?);
        ok(GetNetworkAddressPoolResponse {
            network_address_pool,
        })
    }

    async fn assign_address_pool(
        &self,
        request: Request<AssignAddressPoolRequest>,
    ) -> Answer<AssignAddressPoolResponse> {
        let AssignAddressPoolRequest {
            network,
            address_pool,
            validate_only,
            ..
        } = self.0.note(request);
        let made = association("", &network, &address_pool)?;
        let network_address_pool = unless(validate_only, made);
        ok(AssignAddressPoolResponse {
            network_address_pool,
            effects: answers::effects(),
        })
    }

    async fn remove_address_pool(
        &self,
        request: Request<RemoveAddressPoolRequest>,
    ) -> Answer<RemoveAddressPoolResponse> {
        let RemoveAddressPoolRequest {
            uuid,
            network,
            address_pool,
            validate_only,
            ..
        } = self.0.note(request);
        let removed = association(&uuid, &network, &address_pool)?;
        let network_address_pool = unless(validate_only, removed);
        ok(RemoveAddressPoolResponse {
            network_address_pool,
            effects: answers::effects(),
        })
    }
}

#[async_trait]
impl SiteService for Site {
    type WatchSiteStream = Events;

    async fn watch_site(&self, request: Request<WatchSiteRequest>) -> Answer<Events> {
        let WatchSiteRequest { from_revision } = self.0.note_endless(request);
        ok(events_after(from_revision, self.whole(), self.1.clone()))
    }

    async fn report_host(&self, request: Request<ReportHostRequest>) -> Answer<ReportHostResponse> {
        let ReportHostRequest {
            hostname,
            applied_configuration,
            validate_only,
            request_id: _,
        } = self.0.note(request);
        let host = answers::hosts()
            .into_iter()
            .find(|host| host.hostname == hostname);
        let host = host.ok_or_else(|| answers::not_found(Reason::HostNotFound, "host", &hostname));
        let host = Host {
            applied_configuration,
            ..host?
        };
        ok(ReportHostResponse {
            host: unless(validate_only, host),
            effects: Vec::new(),
        })
    }

    async fn get_site(&self, request: Request<GetSiteRequest>) -> Answer<GetSiteResponse> {
        let GetSiteRequest {} = self.0.note(request);
        ok(GetSiteResponse {
            site: Some(self.whole()),
        })
    }

    async fn list_hosts(&self, request: Request<ListHostsRequest>) -> Answer<ListHostsResponse> {
        let ListHostsRequest {} = self.0.note(request);
        ok(ListHostsResponse {
            hosts: answers::hosts(),
        })
    }

    async fn lock_host(&self, request: Request<LockHostRequest>) -> Answer<LockHostResponse> {
        let LockHostRequest {
            hostname,
            validate_only,
            ..
        } = self.0.note(request);
        let host = answers::hosts()
            .into_iter()
            .find(|host| host.hostname == hostname);
        let host = host.ok_or_else(|| answers::not_found(Reason::HostNotFound, "host", &hostname));
        ok(LockHostResponse {
            host: unless(validate_only, host?),
            effects: answers::effects(),
        })
    }

    async fn unlock_host(&self, request: Request<UnlockHostRequest>) -> Answer<UnlockHostResponse> {
        self.0.note(request);
        // What the contract promises is missing: a defect of a daemon.
        ok(UnlockHostResponse {
            host: None,
            effects: Vec::new(),
        })
    }

    async fn list_alarms(&self, request: Request<ListAlarmsRequest>) -> Answer<ListAlarmsResponse> {
        self.0.note(request);
        ok(ListAlarmsResponse {
            alarms: answers::alarms(),
            next_page_token: String::new(),
        })
    }

    async fn get_dns(&self, request: Request<GetDnsRequest>) -> Answer<GetDnsResponse> {
        let GetDnsRequest {} = self.0.note(request);
        ok(GetDnsResponse {
            servers: vec!["fd00::53".to_owned(), "10.20.5.53".to_owned()],
        })
    }

    async fn update_dns(&self, request: Request<UpdateDnsRequest>) -> Answer<UpdateDnsResponse> {
        let servers = self.0.note(request).servers;
        ok(UpdateDnsResponse {
            servers,
            effects: Vec::new(),
        })
    }

    async fn get_oam(&self, request: Request<GetOamRequest>) -> Answer<GetOamResponse> {
        let GetOamRequest {} = self.0.note(request);
        ok(GetOamResponse {
            oam: Some(answers::oam()),
        })
    }

    async fn update_oam(&self, request: Request<UpdateOamRequest>) -> Answer<UpdateOamResponse> {
        let UpdateOamRequest { validate_only, .. } = self.0.note(request);
        let oam = unless(validate_only, answers::oam());
        ok(UpdateOamResponse {
            oam,
            effects: answers::effects(),
        })
    }

    async fn get_kubernetes(
        &self,
        request: Request<GetKubernetesRequest>,
    ) -> Answer<GetKubernetesResponse> {
        let GetKubernetesRequest {} = self.0.note(request);
        ok(GetKubernetesResponse {
            state: KubernetesState::ConvertingToDual.into(),
            networks_missing_for_dual_stack: vec![
                "cluster-host".to_owned(),
                "cluster-pod".to_owned(),
            ],
        })
    }
}
