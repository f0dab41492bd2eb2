//! What shall be on one subcloud, and the steps that are left until it is.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use site::{
    AddressRole, AttachmentId, AttachmentRef, Change, Effect, NetworkKind, Order, Pool, PoolEdit,
    PoolId, PoolInput, RangeInput, Site, Timestamp, parse_address,
};
use uuid::Uuid;

use super::RolloutId;
use crate::{ControllerId, SubcloudId};

/// The desired state of one subcloud. It is a state and no command: whoever looks at the site
/// can tell whether it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// The network has this pool as its secondary one.
    Secondary(Box<PoolInput>),
    /// The network has no secondary pool; what was it goes by this uuid.
    NoSecondary {
        /// The uuid of the pool; `None` when there was none.
        pool: Option<PoolId>,
        /// Whether the pool is deleted too.
        delete: bool,
    },
    /// The pool of this uuid has these fields.
    Fields {
        /// The uuid of the pool.
        pool: PoolId,
        /// The fields.
        edit: Box<PoolEdit>,
    },
}

/// One command of a rollout to a subcloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// `addrpool-add`.
    AddPool,
    /// `network-addrpool-assign`.
    AssignPool,
    /// `network-addrpool-remove`.
    RemovePool,
    /// `addrpool-delete`.
    DeletePool,
    /// `addrpool-modify`.
    ModifyPool,
}

/// The steps that are left, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(pub Vec<(Step, Change)>);

/// A site after the steps, and what they do on the way.
pub(super) struct Foreseeable {
    pub(super) site: Site,
    pub(super) effects: Vec<Effect>,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 5] = [
        Self::AddPool,
        Self::AssignPool,
        Self::RemovePool,
        Self::DeletePool,
        Self::ModifyPool,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AddPool => "ADD_POOL",
            Self::AssignPool => "ASSIGN_POOL",
            Self::RemovePool => "REMOVE_POOL",
            Self::DeletePool => "DELETE_POOL",
            Self::ModifyPool => "MODIFY_POOL",
        }
    }

    /// The request id of the step's command: the same each time that it is sent, and never that
    /// of another rollout, subcloud or controller.
    pub(super) fn request_id(
        self,
        controller: ControllerId,
        rollout: RolloutId,
        subcloud: SubcloudId,
    ) -> String {
        format!("rollout/{controller}/{rollout}/{subcloud}/{}", self.name())
    }
}

impl Desired {
    /// What is left to do on a site; nothing when the desired state is in effect.
    pub fn steps(&self, network: NetworkKind, site: &Site) -> Steps {
        let steps = match self {
            Self::Secondary(pool) => add(network, pool, site),
            Self::NoSecondary { pool, delete } => remove(network, *pool, *delete, site),
            Self::Fields { pool, edit } => modify(*pool, edit, site),
        };
        Steps(steps)
    }
}

impl Steps {
    /// Plans every step on the site that the one before leaves.
    ///
    /// # Errors
    /// The refusal of the first step that is refused.
    pub(super) fn foresee(
        &self,
        site: &Site,
        now: Timestamp,
    ) -> Result<Foreseeable, site::Rejection> {
        let mut ahead = Foreseeable {
            site: site.clone(),
            effects: Vec::new(),
        };
        for (_, change) in &self.0 {
            let plan = site::plan(&ahead.site, change.clone(), now)?;
            ahead.effects.extend_from_slice(plan.effects());
            ahead.site = plan.into_site();
        }
        Ok(ahead)
    }
}

fn add(network: NetworkKind, wanted: &PoolInput, site: &Site) -> Vec<(Step, Change)> {
    let assign = Change::AssignPool {
        id: AttachmentId(drawn("association", &wanted.name, site)),
        network: network.name().to_owned(),
        pool: wanted.name.clone(),
    };
    let present = site
        .find_pool(&wanted.name)
        .filter(|pool| has(pool, &fields(wanted)));
    match present {
        Some(pool) if is_secondary(network, pool.id(), site) => Vec::new(),
        Some(pool) if site.network_of(pool.id()).is_none() => vec![(Step::AssignPool, assign)],
        _ => {
            let add = Change::AddPool {
                id: PoolId(drawn("pool", &wanted.name, site)),
                pool: wanted.clone(),
            };
            vec![(Step::AddPool, add), (Step::AssignPool, assign)]
        }
    }
}

fn remove(
    network: NetworkKind,
    pool: Option<PoolId>,
    delete: bool,
    site: &Site,
) -> Vec<(Step, Change)> {
    let Some(pool) = pool.and_then(|id| site.pool(id)) else {
        return Vec::new();
    };
    let reference = pool.id().0.to_string();
    let mut steps = Vec::new();
    if is_secondary(network, pool.id(), site) {
        let attachment = AttachmentRef::Ends {
            network: network.name().to_owned(),
            pool: reference.clone(),
        };
        steps.push((Step::RemovePool, Change::RemovePool { attachment }));
    } else if site.network_of(pool.id()).is_some() {
        // Somebody gave it to another network meanwhile: it is no longer what shall go.
        return Vec::new();
    }
    if delete {
        steps.push((Step::DeletePool, Change::DeletePool { pool: reference }));
    }
    steps
}

fn modify(pool: PoolId, edit: &PoolEdit, site: &Site) -> Vec<(Step, Change)> {
    if site.pool(pool).is_some_and(|pool| has(pool, edit)) {
        return Vec::new();
    }
    let change = Change::ModifyPool {
        pool: pool.0.to_string(),
        edit: edit.clone(),
    };
    vec![(Step::ModifyPool, change)]
}

fn is_secondary(network: NetworkKind, pool: PoolId, site: &Site) -> bool {
    site.network(network)
        .and_then(|network| network.pools().secondary())
        .is_some_and(|secondary| secondary.pool == pool)
}

/// What a new pool asks for; what it leaves open is open.
fn fields(wanted: &PoolInput) -> PoolEdit {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let PoolInput {
        name,
        network,
        prefix,
        order,
        ranges,
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
    } = wanted;
    PoolEdit {
        name: Some(name.clone()),
        network: Some(network.clone()),
        prefix: Some(*prefix),
        order: given(order),
        ranges: (!ranges.is_empty()).then(|| ranges.clone()),
        floating_address: given(floating_address),
        controller0_address: given(controller0_address),
        controller1_address: given(controller1_address),
        gateway_address: given(gateway_address),
    }
}

/// A new pool of these fields.
pub(super) fn new_pool(edit: PoolEdit) -> PoolInput {
    let PoolEdit {
        name,
        network,
        prefix,
        order,
        ranges,
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
    } = edit;
    PoolInput {
        name: name.unwrap_or_default(),
        network: network.unwrap_or_default(),
        prefix: prefix.unwrap_or_default(),
        order: order.unwrap_or_default(),
        ranges: ranges.unwrap_or_default(),
        floating_address: floating_address.unwrap_or_default(),
        controller0_address: controller0_address.unwrap_or_default(),
        controller1_address: controller1_address.unwrap_or_default(),
        gateway_address: gateway_address.unwrap_or_default(),
    }
}

/// Whether a pool has every field that an edit names. A text that cannot be read is no value of
/// any pool: the site's rules then say what is wrong with it.
fn has(pool: &Pool, edit: &PoolEdit) -> bool {
    let PoolEdit {
        name,
        network,
        prefix,
        order,
        ranges,
        floating_address,
        controller0_address,
        controller1_address,
        gateway_address,
    } = edit;
    let is = |role: AddressRole, text: &Option<String>| match text.as_deref() {
        None => true,
        Some("") => pool.addresses().get(role).is_none(),
        Some(text) => parse_address(text).is_ok_and(|a| pool.addresses().get(role) == Some(a)),
    };
    let subnet = pool.subnet();
    name.as_ref().is_none_or(|name| name == pool.name())
        && network
            .as_ref()
            .is_none_or(|text| parse_address(text) == Ok(subnet.network()))
        && prefix.is_none_or(|prefix| prefix == u32::from(subnet.prefix_len()))
        && order.as_ref().is_none_or(|order| has_order(pool, order))
        && ranges
            .as_ref()
            .is_none_or(|ranges| has_ranges(pool, ranges))
        && is(AddressRole::Floating, floating_address)
        && is(AddressRole::Controller0, controller0_address)
        && is(AddressRole::Controller1, controller1_address)
        && is(AddressRole::Gateway, gateway_address)
}

fn has_order(pool: &Pool, order: &str) -> bool {
    match order {
        "" | "random" => pool.order() == Order::Random,
        "sequential" => pool.order() == Order::Sequential,
        _ => false,
    }
}

/// Whether these are the ranges of a pool, in whatever order. No range means the default ones,
/// which a reader of the pool cannot tell from given ones: then the command decides, and the
/// agent answers a change of nothing without a change.
fn has_ranges(pool: &Pool, ranges: &[RangeInput]) -> bool {
    let read = |range: &RangeInput| {
        let (first, last) = (parse_address(&range.first), parse_address(&range.last));
        Some((first.ok()?, last.ok()?))
    };
    let Some(mut wanted) = ranges
        .iter()
        .map(read)
        .collect::<Option<Vec<(IpAddr, IpAddr)>>>()
    else {
        return false;
    };
    wanted.sort_unstable();
    let present = pool
        .ranges()
        .iter()
        .map(|range| (range.first(), range.last()));
    present.eq(wanted)
}

/// An id for a preview. The agent draws those of the real objects.
fn drawn(what: &str, name: &str, site: &Site) -> Uuid {
    let hash = Sha256::new()
        .chain_update(site.identity().uuid.as_bytes())
        .chain_update(what)
        .chain_update([0])
        .chain_update(name)
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    Uuid::from_bytes(bytes)
}
