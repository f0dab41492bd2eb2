//! network-add and network-delete.

use std::sync::Arc;

use uuid::Uuid;

use crate::lookup;
use crate::plan::{Draft, Subject};
use crate::rules::{attach, refusal};
use crate::shape::{invalid, new_name_fault};
use crate::{
    Attachment, AttachmentId, Family, Network, NetworkId, NetworkKind, Pool, Pools, Reason,
    Rejection, Site, Violation, Word,
};

/// The fields of network-add.
pub(crate) struct NewNetwork {
    pub(crate) uuid: Uuid,
    pub(crate) attachment: AttachmentId,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) dynamic: bool,
    pub(crate) pool: String,
}

pub(crate) fn add_network(site: &Site, request: NewNetwork) -> Result<Draft, Rejection> {
    let kind = NetworkKind::from_name(&request.kind);
    // An empty name means that of the type.
    let name = match (request.name.as_str(), kind) {
        ("", Some(kind)) => kind.name().to_owned(),
        _ => request.name.clone(),
    };
    let read = kind.ok_or_else(|| Rejection::one(no_such_type(&request.kind)));
    let pool = match request.pool.as_str() {
        "" => Err(Rejection::one(no_pool())),
        named => lookup::pool(site, "pool", named),
    };
    let mut taken = name_faults(&name);
    taken.extend(existing(site, &request, kind, &name));
    let named = Rejection::both(read, pool);
    let ((kind, pool), ()) = Rejection::both(named, Rejection::check(taken))?;
    Rejection::check(addition_faults(site, kind, &name, pool))?;
    let primary = Attachment {
        id: request.attachment,
        pool: pool.id,
        family: pool.family(),
    };
    let network = Network {
        id: free_id(&[site]),
        uuid: request.uuid,
        name,
        kind,
        dynamic: request.dynamic,
        pools: Pools::Single(primary),
    };
    let mut next = site.clone();
    next.networks.insert(network.id, Arc::new(network.clone()));
    attach::fill(&mut next, &network, pool.id)?;
    Ok(Draft::of(next, Subject::Network(network.id)))
}

fn no_such_type(text: &str) -> Violation {
    let names = NetworkKind::ALL.map(NetworkKind::name).join(", ");
    let shown: String = text.chars().take(64).collect();
    let message = format!("there is no network type {shown:?}");
    let remedy = format!("use one of {names}");
    let fault = Violation::new(Reason::NetworkTypeUnsupported, message, remedy);
    fault.at("type").fact("validTypes", names)
}

fn no_pool() -> Violation {
    let remedy = "name the primary pool of the network";
    invalid("pool", "no pool is given", remedy)
}

/// What is wrong with a name whatever the site is.
fn name_faults(name: &str) -> Vec<Violation> {
    let mut faults = Vec::new();
    if !name.is_empty() {
        faults.extend(new_name_fault("name", name));
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("name {name:?} reads as a number, by which networks are known");
            faults.push(invalid("name", message, "give a name with a letter in it"));
        }
    }
    faults
}

/// What there is already.
fn existing(
    site: &Site,
    request: &NewNetwork,
    kind: Option<NetworkKind>,
    name: &str,
) -> Vec<Violation> {
    let mut faults = Vec::new();
    if let Some(other) = kind.and_then(|kind| site.network(kind)) {
        let message = format!("network {} is of type {} already", other.name, other.kind);
        let remedy = format!(
            "use it, or delete it first: `system network-delete {}`",
            Word(&other.name)
        );
        let fault = Violation::new(Reason::NetworkTypeExists, message, remedy);
        faults.push(fault.at("type").object("network", &other.name));
    }
    if site.networks().any(|other| other.name == name) {
        faults.push(refusal::name_taken("name", "network", name));
    }
    if site.networks().any(|other| other.uuid == request.uuid) {
        faults.push(refusal::name_taken(
            "uuid",
            "network",
            &request.uuid.to_string(),
        ));
    }
    if site.attachment(request.attachment).is_some() {
        let id = request.attachment.0.to_string();
        faults.push(refusal::name_taken("attachment", "association", &id));
    }
    faults
}

fn addition_faults(site: &Site, kind: NetworkKind, name: &str, pool: &Pool) -> Vec<Violation> {
    let mut faults = refusal::overlaps(site, &pool.name, pool.id, pool.subnet, Some(kind));
    let family = pool.family();
    let wanted = site
        .primary_family()
        .filter(|_| kind != NetworkKind::Pxeboot);
    if let Some(wanted) = wanted.filter(|wanted| *wanted != family) {
        faults.push(refusal::primary_family_mismatch(&pool.name, family, wanted));
    }
    if kind == NetworkKind::Pxeboot && family != Family::Ipv4 {
        faults.push(refusal::pxeboot_ipv4_only(pool));
    }
    if let Some((other, _)) = site.network_of(pool.id) {
        faults.push(refusal::pool_in_use(other, pool));
    }
    if kind == NetworkKind::ClusterPod && !site.has_family(NetworkKind::Oam, family) {
        faults.push(refusal::oam_family_required_by(name, pool));
    }
    faults
}

/// The lowest number that no network of these sites has.
pub(crate) fn free_id(sites: &[&Site]) -> NetworkId {
    let mut id = NetworkId(1);
    while sites.iter().any(|site| site.networks.contains_key(&id)) {
        id.0 += 1;
    }
    id
}

pub(crate) fn delete_network(site: &Site, reference: &str) -> Result<Draft, Rejection> {
    let network = lookup::network(site, "network", reference)?;
    Rejection::check(deletion_faults(site, network))?;
    let id = network.id;
    let mut next = site.clone();
    next.networks.remove(&id);
    for (_, end) in network.pools.iter() {
        if let Some(pool) = next.pool_mut(end.pool) {
            pool.release_all();
        }
    }
    Ok(Draft::of(next, Subject::Network(id)))
}

fn deletion_faults(site: &Site, network: &Network) -> Vec<Violation> {
    let mut faults = Vec::new();
    let reinstall = match network.kind {
        NetworkKind::Mgmt => !site.is_simplex(),
        NetworkKind::Oam | NetworkKind::Pxeboot | NetworkKind::Storage => true,
        kind => kind.is_cluster(),
    };
    if reinstall && site.initial_config_complete {
        faults.push(refusal::requires_reinstall(network, "be deleted"));
    } else if network.kind == NetworkKind::Mgmt
        && let Some(host) = site.unlocked_simplex_controller()
    {
        faults.push(refusal::host_unlocked(host, "deleting mgmt"));
    }
    if network.kind == NetworkKind::Oam {
        for (_, end) in network.pools.iter() {
            faults.extend(refusal::oam_family_needed(site, end.family));
        }
    }
    faults
}
