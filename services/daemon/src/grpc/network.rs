//! `tandem.site.v1.NetworkService`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::convert::{self, Malformed, attachment_to_wire, network_to_wire, pool_to_wire};
use api::mutation::reference_path;
use api::page::page;
use api::pages::encoded;
use api::site_v1 as wire;
use api::site_v1::network_service_server::NetworkService;
use prost::bytes::Bytes;
use site::{AttachmentRef, Change, Plan, Pool, Site, Subject};
use tonic::{Request, Response, Status};

use super::{effects, malformed, refused};
use crate::{SiteKeeper, random_uuid};

/// Networks, pools and their associations of one site.
#[derive(Debug)]
pub(crate) struct Networks(pub(crate) Arc<SiteKeeper>, pub(crate) EncodedPools);

/// Pages of the site that was listed last: sites are read much more often than they change.
#[derive(Debug, Default)]
pub(crate) struct EncodedPools(Mutex<Option<(Arc<Site>, Pages)>>);

/// The encoded pools of one site.
#[derive(Debug)]
struct Pages {
    /// In the order of their names.
    pools: Vec<(String, Bytes)>,
    /// Those that were asked for, by size and token.
    pages: BTreeMap<(i32, String), wire::ListAddressPoolsResponse>,
}

/// The most pages that are kept: those of one client that walks through a large site.
const KEPT_PAGES: usize = 16;

/// The longest token of a page that is kept; tokens are names of pools.
const MAX_TOKEN_BYTES: usize = 255;

impl EncodedPools {
    /// One page of the pools of a site.
    ///
    /// # Errors
    /// A page size that cannot be.
    fn page(
        &self,
        site: Arc<Site>,
        size: i32,
        token: String,
    ) -> Result<wire::ListAddressPoolsResponse, Vec<Malformed>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some((known, pages)) if Arc::ptr_eq(known, &site) => pages.page(size, token),
            _ => {
                let pages = Pages::of(&site);
                last.insert((site, pages)).1.page(size, token)
            }
        }
    }
}

impl Pages {
    fn of(site: &Site) -> Self {
        let mut pools: Vec<_> = site.pools().collect();
        pools.sort_by_key(|pool| pool.name());
        let encode = |pool: &Pool| {
            let message = pool_to_wire(site, pool);
            (pool.name().to_owned(), encoded(&message))
        };
        Self {
            pools: pools.into_iter().map(encode).collect(),
            pages: BTreeMap::new(),
        }
    }

    fn page(
        &mut self,
        size: i32,
        token: String,
    ) -> Result<wire::ListAddressPoolsResponse, Vec<Malformed>> {
        let asked = (size, token);
        if let Some(known) = self.pages.get(&asked) {
            return Ok(known.clone());
        }
        let (pools, next) = page(self.pools.iter().cloned(), size, &asked.1)?;
        let made = wire::ListAddressPoolsResponse::of_encoded(pools, next);
        if asked.1.len() <= MAX_TOKEN_BYTES {
            if self.pages.len() >= KEPT_PAGES {
                self.pages.clear();
            }
            self.pages.insert(asked, made.clone());
        }
        Ok(made)
    }
}

#[tonic::async_trait]
impl NetworkService for Networks {
    async fn list_networks(
        &self,
        request: Request<wire::ListNetworksRequest>,
    ) -> Result<Response<wire::ListNetworksResponse>, Status> {
        let wire::ListNetworksRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let site = self.0.site();
        let all = site
            .networks()
            .map(|n| (format!("{:010}", n.id().0), network_to_wire(&site, n)));
        let (networks, next_page_token) = page(all, page_size, &page_token).map_err(malformed)?;
        Ok(Response::new(wire::ListNetworksResponse {
            networks,
            next_page_token,
        }))
    }

    async fn get_network(
        &self,
        request: Request<wire::GetNetworkRequest>,
    ) -> Result<Response<wire::GetNetworkResponse>, Status> {
        let site = self.0.site();
        let network = site
            .require_network(&request.get_ref().network)
            .map_err(refused)?;
        let network = Some(network_to_wire(&site, network));
        Ok(Response::new(wire::GetNetworkResponse { network }))
    }

    async fn create_network(
        &self,
        request: Request<wire::CreateNetworkRequest>,
    ) -> Result<Response<wire::CreateNetworkResponse>, Status> {
        let ids = (random_uuid(), random_uuid());
        let change = |request| Ok(convert::create_network(request, ids));
        let respond = |plan: &Plan| wire::CreateNetworkResponse {
            network: network_of(plan),
            effects: effects(plan),
        };
        self.0.call("CreateNetwork", request, change, respond).await
    }

    async fn delete_network(
        &self,
        request: Request<wire::DeleteNetworkRequest>,
    ) -> Result<Response<wire::DeleteNetworkResponse>, Status> {
        let change = |request| Ok(convert::delete_network(request));
        let respond = |plan: &Plan| wire::DeleteNetworkResponse {
            effects: effects(plan),
        };
        self.0.call("DeleteNetwork", request, change, respond).await
    }

    async fn list_address_pools(
        &self,
        request: Request<wire::ListAddressPoolsRequest>,
    ) -> Result<Response<wire::ListAddressPoolsResponse>, Status> {
        let wire::ListAddressPoolsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let page = self.1.page(self.0.site(), page_size, page_token);
        page.map(Response::new).map_err(malformed)
    }

    async fn get_address_pool(
        &self,
        request: Request<wire::GetAddressPoolRequest>,
    ) -> Result<Response<wire::GetAddressPoolResponse>, Status> {
        let site = self.0.site();
        let pool = site
            .require_pool(&request.get_ref().address_pool)
            .map_err(refused)?;
        let address_pool = Some(pool_to_wire(&site, pool));
        Ok(Response::new(wire::GetAddressPoolResponse { address_pool }))
    }

    async fn create_address_pool(
        &self,
        request: Request<wire::CreateAddressPoolRequest>,
    ) -> Result<Response<wire::CreateAddressPoolResponse>, Status> {
        let change = |request| convert::create_pool(request, random_uuid());
        let respond = |plan: &Plan| wire::CreateAddressPoolResponse {
            address_pool: pool_of(plan),
            effects: effects(plan),
        };
        self.0
            .call("CreateAddressPool", request, change, respond)
            .await
    }

    async fn update_address_pool(
        &self,
        request: Request<wire::UpdateAddressPoolRequest>,
    ) -> Result<Response<wire::UpdateAddressPoolResponse>, Status> {
        let respond = |plan: &Plan| wire::UpdateAddressPoolResponse {
            address_pool: pool_of(plan),
            effects: effects(plan),
        };
        self.0
            .call("UpdateAddressPool", request, convert::update_pool, respond)
            .await
    }

    async fn delete_address_pool(
        &self,
        request: Request<wire::DeleteAddressPoolRequest>,
    ) -> Result<Response<wire::DeleteAddressPoolResponse>, Status> {
        let change = |request: wire::DeleteAddressPoolRequest| {
            Ok(Change::DeletePool {
                pool: request.address_pool,
            })
        };
        let respond = |plan: &Plan| wire::DeleteAddressPoolResponse {
            effects: effects(plan),
        };
        self.0
            .call("DeleteAddressPool", request, change, respond)
            .await
    }

    async fn list_network_address_pools(
        &self,
        request: Request<wire::ListNetworkAddressPoolsRequest>,
    ) -> Result<Response<wire::ListNetworkAddressPoolsResponse>, Status> {
        let wire::ListNetworkAddressPoolsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let site = self.0.site();
        let all = site.attachments().map(|(network, rank, end)| {
            let key = format!("{:010}/{rank}", network.id().0);
            (key, attachment_to_wire(&site, network, rank, end))
        });
        let (network_address_pools, next_page_token) =
            page(all, page_size, &page_token).map_err(malformed)?;
        let answer = wire::ListNetworkAddressPoolsResponse {
            network_address_pools,
            next_page_token,
        };
        Ok(Response::new(answer))
    }

    async fn get_network_address_pool(
        &self,
        request: Request<wire::GetNetworkAddressPoolRequest>,
    ) -> Result<Response<wire::GetNetworkAddressPoolResponse>, Status> {
        let wire::GetNetworkAddressPoolRequest {
            uuid,
            network,
            address_pool,
        } = request.into_inner();
        let named = convert::attachment_ref(uuid, network, address_pool).map_err(malformed)?;
        let site = self.0.site();
        let network_address_pool = Some(named_attachment(&site, &named)?);
        Ok(Response::new(wire::GetNetworkAddressPoolResponse {
            network_address_pool,
        }))
    }

    async fn assign_address_pool(
        &self,
        request: Request<wire::AssignAddressPoolRequest>,
    ) -> Result<Response<wire::AssignAddressPoolResponse>, Status> {
        let change = |request| Ok(convert::assign_pool(request, random_uuid()));
        let respond = |plan: &Plan| wire::AssignAddressPoolResponse {
            network_address_pool: attachment_of(plan, plan.next()),
            effects: effects(plan),
        };
        self.0
            .call("AssignAddressPool", request, change, respond)
            .await
    }

    async fn remove_address_pool(
        &self,
        request: Request<wire::RemoveAddressPoolRequest>,
    ) -> Result<Response<wire::RemoveAddressPoolResponse>, Status> {
        let before = self.0.site();
        let respond = |plan: &Plan| wire::RemoveAddressPoolResponse {
            network_address_pool: attachment_of(plan, &before),
            effects: effects(plan),
        };
        self.0
            .call("RemoveAddressPool", request, convert::remove_pool, respond)
            .await
    }
}

/// The association that a reference names.
fn named_attachment(
    site: &Site,
    named: &AttachmentRef,
) -> Result<wire::NetworkAddressPool, Status> {
    let found = site.require_attachment(named);
    let (network, rank, end) =
        found.map_err(|refusal| api::status::from_rejection_at(&refusal, reference_path))?;
    Ok(attachment_to_wire(site, network, rank, end))
}

/// The pool that a plan is about, as it will be.
fn pool_of(plan: &Plan) -> Option<wire::AddressPool> {
    let Subject::Pool(id) = plan.subject() else {
        return None;
    };
    plan.next()
        .pool(*id)
        .map(|pool| pool_to_wire(plan.next(), pool))
}

/// The network that a plan is about, as it will be.
fn network_of(plan: &Plan) -> Option<wire::Network> {
    let Subject::Network(id) = plan.subject() else {
        return None;
    };
    let network = plan.next().networks().find(|network| network.id() == *id)?;
    Some(network_to_wire(plan.next(), network))
}

/// The association that a plan is about, as `site` has it.
fn attachment_of(plan: &Plan, site: &Site) -> Option<wire::NetworkAddressPool> {
    let Subject::Attachment(id) = plan.subject() else {
        return None;
    };
    let (network, rank, end) = site.attachment(*id)?;
    Some(attachment_to_wire(site, network, rank, end))
}
