//! References of requests: a uuid, a name, a number or a type, and who holds an address.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::{
    Administrative, Attachment, AttachmentId, AttachmentRef, Family, Host, Network, NetworkId,
    NetworkKind, Personality, Pool, PoolId, Rank, Reason, Rejection, Site, SystemMode, Violation,
};

impl Site {
    /// The pool of a uuid or a name.
    pub fn find_pool(&self, reference: &str) -> Option<&Pool> {
        let by_id = Uuid::try_parse(reference)
            .ok()
            .and_then(|id| self.pool(PoolId(id)));
        by_id.or_else(|| self.pools().find(|pool| pool.name == reference))
    }

    /// The network of a uuid, a number, a name or a type, in this order.
    pub fn find_network(&self, reference: &str) -> Option<&Network> {
        let uuid = Uuid::try_parse(reference).ok();
        let by_uuid = uuid.and_then(|uuid| self.networks().find(|found| found.uuid == uuid));
        let number = reference.parse().ok().map(NetworkId);
        by_uuid
            .or_else(|| {
                number
                    .and_then(|id| self.networks.get(&id))
                    .map(Arc::as_ref)
            })
            .or_else(|| self.networks().find(|network| network.name == reference))
            .or_else(|| NetworkKind::from_name(reference).and_then(|kind| self.network(kind)))
    }

    /// The pool of a uuid or a name.
    ///
    /// # Errors
    /// `POOL_NOT_FOUND`.
    pub fn require_pool(&self, reference: &str) -> Result<&Pool, Rejection> {
        pool(self, "address_pool", reference)
    }

    /// The network of a uuid, a number, a name or a type.
    ///
    /// # Errors
    /// `NETWORK_NOT_FOUND`.
    pub fn require_network(&self, reference: &str) -> Result<&Network, Rejection> {
        network(self, "network", reference)
    }

    /// The association that a reference names.
    ///
    /// # Errors
    /// `NETWORK_ADDRPOOL_NOT_FOUND`, or that one of its ends does not exist.
    pub fn require_attachment(
        &self,
        reference: &AttachmentRef,
    ) -> Result<(&Network, Rank, Attachment), Rejection> {
        attachment(self, reference)
    }

    /// The association of an id.
    pub fn attachment(&self, id: AttachmentId) -> Option<(&Network, Rank, Attachment)> {
        self.attachments().find(|(_, _, end)| end.id == id)
    }

    /// One host.
    pub fn host(&self, hostname: &str) -> Option<&Host> {
        self.hosts.get(hostname)
    }

    /// Whether the site has one controller.
    pub fn is_simplex(&self) -> bool {
        self.identity.system_mode == SystemMode::Simplex
    }

    /// The names of the controllers.
    pub(crate) fn controllers(&self) -> Vec<String> {
        let controllers = self
            .hosts()
            .filter(|host| host.personality == Personality::Controller);
        controllers.map(|host| host.hostname.clone()).collect()
    }

    /// The names of all hosts.
    pub(crate) fn hostnames(&self) -> Vec<String> {
        self.hosts().map(|host| host.hostname.clone()).collect()
    }

    /// The controller of a simplex site that has ended its installation, when it is unlocked.
    pub(crate) fn unlocked_simplex_controller(&self) -> Option<&Host> {
        let post = self.is_simplex() && self.initial_config_complete;
        self.hosts().find(|host| {
            post && host.personality == Personality::Controller
                && host.administrative == Administrative::Unlocked
        })
    }

    /// The pools that networks use.
    pub(crate) fn attached_pools(&self) -> impl Iterator<Item = (&Network, Rank, &Pool)> {
        self.attachments()
            .filter_map(|(network, rank, end)| Some((network, rank, self.pool(end.pool)?)))
    }

    /// Whether a network has a pool of this family.
    pub(crate) fn has_family(&self, kind: NetworkKind, family: Family) -> bool {
        self.network(kind)
            .is_some_and(|network| network.pools.has(family))
    }

    /// Who holds an address in an attached pool: the network, the pool and the holder.
    pub(crate) fn holder_of(&self, address: IpAddr) -> Option<(&Network, &Pool, String)> {
        self.attached_pools().find_map(|(network, _, pool)| {
            let holder = match pool.role_of(address) {
                Some(role) => format!("{}-{}", role.owner(), network.kind),
                None => pool.holders.get(&address)?.clone(),
            };
            Some((network, pool, holder))
        })
    }
}

pub(crate) fn pool<'a>(site: &'a Site, field: &str, text: &str) -> Result<&'a Pool, Rejection> {
    let missing = || {
        Violation::new(
            Reason::PoolNotFound,
            format!("there is no pool {text:?}"),
            "`system addrpool-list` shows the pools",
        )
        .at(field)
        .object("pool", text)
    };
    site.find_pool(text)
        .ok_or_else(|| Rejection::one(missing()))
}

pub(crate) fn network<'a>(
    site: &'a Site,
    field: &str,
    text: &str,
) -> Result<&'a Network, Rejection> {
    let missing = || {
        Violation::new(
            Reason::NetworkNotFound,
            format!("there is no network {text:?}"),
            "`system network-list` shows the networks",
        )
        .at(field)
        .object("network", text)
    };
    site.find_network(text)
        .ok_or_else(|| Rejection::one(missing()))
}

pub(crate) fn host<'a>(site: &'a Site, hostname: &str) -> Result<&'a Host, Rejection> {
    let missing = || {
        Violation::new(
            Reason::HostNotFound,
            format!("there is no host {hostname:?}"),
            "`system host-list` shows the hosts",
        )
        .at("hostname")
        .object("host", hostname)
    };
    site.host(hostname).ok_or_else(|| Rejection::one(missing()))
}

/// A network and a pool that a request names; both are reported when both are missing.
pub(crate) fn ends<'a>(
    site: &'a Site,
    net: &str,
    text: &str,
) -> Result<(&'a Network, &'a Pool), Rejection> {
    Rejection::both(network(site, "network", net), pool(site, "pool", text))
}

/// The association that a request names.
pub(crate) fn attachment<'a>(
    site: &'a Site,
    reference: &AttachmentRef,
) -> Result<(&'a Network, Rank, Attachment), Rejection> {
    let missing = |field: &str, what: String| {
        let remedy = "`system network-addrpool-list` shows the associations";
        let fault = Violation::new(Reason::NetworkAddressPoolNotFound, what, remedy);
        Rejection::one(fault.at(field))
    };
    match reference {
        AttachmentRef::Id(text) => {
            let id = Uuid::try_parse(text).ok().map(AttachmentId);
            id.and_then(|id| site.attachment(id)).ok_or_else(|| {
                missing(
                    "attachment",
                    format!("there is no network-to-pool association {text:?}"),
                )
            })
        }
        AttachmentRef::Ends {
            network: net,
            pool: text,
        } => {
            let (net, pool) = ends(site, net, text)?;
            let mut ends = net.pools.iter();
            ends.find(|(_, end)| end.pool == pool.id)
                .map(|(rank, end)| (net, rank, end))
                .ok_or_else(|| {
                    let what = format!("network {} does not use pool {}", net.name, pool.name);
                    missing("pool", what)
                })
        }
    }
}
