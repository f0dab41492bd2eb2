//! The one way to change a site.

use std::sync::Arc;

use crate::rules;
use crate::settle::settle;
use crate::{
    AttachmentId, Change, Effect, Host, Network, NetworkId, Pool, PoolId, Rejection, Site,
    Timestamp,
};

/// An accepted change: the site as it will be and what happens beyond it. A preview shows the
/// plan, the real call applies the same plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    next: Site,
    effects: Vec<Effect>,
    subject: Subject,
    changed: bool,
}

/// The object that a change creates, changes or deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A pool.
    Pool(PoolId),
    /// A network.
    Network(NetworkId),
    /// The association of a network and a pool.
    Attachment(AttachmentId),
    /// A host, by name.
    Host(String),
    /// The DNS servers.
    Dns,
    /// The networks of the system controller.
    ControllerNetworks,
}

/// Decides about a change: refuses it with every fault, or answers what it does. Nothing is
/// changed yet. `now` is when alarms are raised.
///
/// # Errors
/// Every fault of the request, else every rule that does not allow it now, the first of them in
/// the order of the site rules.
pub fn plan(site: &Site, change: Change, now: Timestamp) -> Result<Plan, Rejection> {
    let mut draft = match change {
        Change::AddPool { id, pool } => rules::add_pool(site, id, &pool),
        Change::ModifyPool { pool, edit } => rules::modify_pool(site, &pool, &edit),
        Change::DeletePool { pool } => rules::delete_pool(site, &pool),
        Change::AddNetwork {
            uuid,
            attachment,
            name,
            kind,
            dynamic,
            pool,
        } => {
            let request = rules::NewNetwork {
                uuid,
                attachment,
                name,
                kind,
                dynamic,
                pool,
            };
            rules::add_network(site, request)
        }
        Change::DeleteNetwork { network } => rules::delete_network(site, &network),
        Change::AssignPool { id, network, pool } => rules::assign_pool(site, id, &network, &pool),
        Change::RemovePool { attachment } => rules::remove_pool(site, &attachment),
        Change::ModifyOam { edit } => rules::modify_oam(site, &edit),
        Change::ModifyDns { servers } => rules::modify_dns(site, &servers),
        Change::LockHost { hostname } => rules::lock_host(site, hostname),
        Change::UnlockHost { hostname } => rules::unlock_host(site, hostname),
        Change::ReportApplied {
            hostname,
            configuration,
        } => rules::report_applied(site, hostname, configuration),
        Change::SetControllerNetworks { link, oam } => {
            rules::set_controller_networks(site, link, oam)
        }
    }?;
    if draft.next == *site {
        return Ok(Plan {
            next: draft.next,
            effects: draft.notes,
            subject: draft.subject,
            changed: false,
        });
    }
    draft.next.generation = site.generation.next();
    let mut effects = draft.notes;
    effects.extend(settle(site, &mut draft.next, now));
    Ok(Plan {
        next: draft.next,
        effects,
        subject: draft.subject,
        changed: true,
    })
}

/// What a rule answers: the site with the objects changed, not yet its hosts and alarms.
pub(crate) struct Draft {
    pub(crate) next: Site,
    pub(crate) subject: Subject,
    pub(crate) notes: Vec<Effect>,
}

impl Draft {
    pub(crate) fn of(next: Site, subject: Subject) -> Self {
        Self {
            next,
            subject,
            notes: Vec::new(),
        }
    }
}

impl Plan {
    /// The site as it will be.
    pub fn next(&self) -> &Site {
        &self.next
    }

    /// What happens, in order.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// The object that is created, changed or deleted.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether anything changes; if not, the generation stays as well.
    pub fn changes_site(&self) -> bool {
        self.changed
    }

    /// Replaces the site by the one of the plan.
    pub fn apply(self, site: &mut Site) {
        *site = self.next;
    }

    /// The site as it will be.
    pub fn into_site(self) -> Site {
        self.next
    }

    /// The site as it will be, and what happens, in order.
    pub fn into_parts(self) -> (Site, Vec<Effect>) {
        (self.next, self.effects)
    }
}

impl Site {
    /// A pool of a draft, copied when it is shared with the site before.
    pub(crate) fn pool_mut(&mut self, id: PoolId) -> Option<&mut Pool> {
        self.pools.get_mut(&id).map(Arc::make_mut)
    }

    /// A network of a draft, copied when it is shared with the site before.
    pub(crate) fn network_mut(&mut self, id: NetworkId) -> Option<&mut Network> {
        self.networks.get_mut(&id).map(Arc::make_mut)
    }

    /// A host of a draft. All hosts are copied when they are shared with the site before.
    pub(crate) fn host_mut(&mut self, hostname: &str) -> Option<&mut Host> {
        Arc::make_mut(&mut self.hosts).get_mut(hostname)
    }
}
