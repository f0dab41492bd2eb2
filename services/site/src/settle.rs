//! What follows from the difference of two sites: addresses that moved, effects on hosts,
//! Kubernetes, routes and endpoints, and the hosts' configurations and alarms. A rule changes
//! objects; this is the one place that knows section 5.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ptr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::effect::{AllocationEffect, EndpointEffect, NetworkEffect, RouteEffect};
use crate::host::OUT_OF_DATE;
use crate::{
    Administrative, Alarm, ClearingStep, ConfigurationId, DistributedCloudRole, Effect, Host,
    Kubernetes, KubernetesStep, Network, NetworkKind, Pods, Pool, PoolChange, Severity, Site,
    Stack, Timestamp, Word,
};

/// Brings Kubernetes, hosts and alarms of the next site up to date and answers every effect.
/// The next site has its generation already: it names the configuration that hosts shall have.
pub(crate) fn settle(before: &Site, next: &mut Site, now: Timestamp) -> Vec<Effect> {
    next.kubernetes = kubernetes_after(before.kubernetes, next);
    let mut effects = moved_addresses(before, next);
    effects.extend(allocations(before, next));
    let mut work = Work::default();
    for kind in NetworkKind::ALL {
        work.network(before, next, kind);
    }
    if next.initial_config_complete {
        work.kubernetes(before, next);
        work.routes(before, next);
        work.endpoints(before, next);
        work.resolver(before, next);
    }
    effects.append(&mut work.effects);
    effects.extend(administrative(before, next));
    for (host, reboot) in work.hosts {
        retarget(next, &host, reboot);
    }
    effects.extend(alarms(next, now));
    effects
}

/// The state machine of I8.
fn kubernetes_after(before: Kubernetes, next: &Site) -> Kubernetes {
    let missing = next.missing_cluster_networks().len();
    let was_dual = effective(before) == Stack::Dual;
    match (missing, was_dual) {
        (0, _) => Kubernetes::DualStack,
        (3, _) => Kubernetes::SingleStack,
        (_, true) => Kubernetes::ConvertingToSingle,
        (_, false) => Kubernetes::ConvertingToDual,
    }
}

/// What Kubernetes runs with in a state.
fn effective(kubernetes: Kubernetes) -> Stack {
    match kubernetes {
        Kubernetes::SingleStack | Kubernetes::ConvertingToDual => Stack::Single,
        Kubernetes::DualStack | Kubernetes::ConvertingToSingle => Stack::Dual,
    }
}

/// Kubernetes is converted when the third cluster network becomes dual, and when a dual-stack
/// Kubernetes has lost the last of them.
fn conversion(before: Kubernetes, next: Kubernetes) -> Option<Stack> {
    match (before, next) {
        (before, next) if before == next => None,
        (_, Kubernetes::DualStack) => Some(Stack::Dual),
        (before, Kubernetes::SingleStack) if effective(before) == Stack::Dual => {
            Some(Stack::Single)
        }
        _ => None,
    }
}

impl Site {
    /// The networks that still need a secondary pool before Kubernetes is dual-stack; empty
    /// when it is. oam comes first because cluster-pod needs its family (I7).
    pub fn missing_for_dual_stack(&self) -> Vec<NetworkKind> {
        let single = |kind: &NetworkKind| {
            self.network(*kind)
                .is_none_or(|network| network.pools.stack() == Stack::Single)
        };
        let oam = std::iter::once(NetworkKind::Oam).filter(single);
        oam.chain(self.missing_cluster_networks()).collect()
    }

    /// The cluster networks without a secondary pool.
    fn missing_cluster_networks(&self) -> Vec<NetworkKind> {
        let cluster = NetworkKind::ALL
            .into_iter()
            .filter(|kind| kind.is_cluster());
        let single = cluster.filter(|kind| {
            self.network(*kind)
                .is_none_or(|network| network.pools.stack() == Stack::Single)
        });
        single.collect()
    }

    /// On a subcloud, the route to its system controller: to the primary subnet of the link
    /// network there, through the admin gateway, else that of mgmt. `None` when one end is
    /// missing.
    pub fn controller_route(&self) -> Option<RouteEffect> {
        if self.identity.role != DistributedCloudRole::Subcloud {
            return None;
        }
        let primary = |kind| {
            let network = self.network(kind)?;
            self.pool(network.pools.primary().pool)
        };
        let destination = primary(NetworkKind::SystemController)?.subnet;
        let mut links = [NetworkKind::Admin, NetworkKind::Mgmt].into_iter();
        let (network, gateway) =
            links.find_map(|kind| Some((kind, primary(kind)?.addresses.gateway?)))?;
        Some(RouteEffect {
            destination,
            gateway,
            network,
            hosts: self.controllers(),
        })
    }

    /// The secondary address on which every public endpoint answers too, if oam has one.
    pub fn secondary_endpoint(&self) -> Option<IpAddr> {
        let secondary = self.network(NetworkKind::Oam)?.pools.secondary()?;
        self.pool(secondary.pool)?.addresses.floating
    }
}

/// Addresses that a pool took from one that no network uses.
fn moved_addresses(before: &Site, next: &Site) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (loser, _) in changed_pools(before, next) {
        let Some(after) = next.pool(loser.id) else {
            continue;
        };
        for (_, address) in loser.addresses.iter() {
            let winner = next.pools().find(|pool| {
                pool.id != loser.id
                    && (pool.role_of(address).is_some() || pool.holders.contains_key(&address))
            });
            if let Some(winner) = winner
                && after.role_of(address).is_none()
            {
                effects.push(Effect::MoveAddress {
                    address,
                    from_pool: after.name.clone(),
                    to_pool: winner.name.clone(),
                });
            }
        }
    }
    effects
}

/// The pools of the site before that are not the very same now, with what became of them.
fn changed_pools<'a>(
    before: &'a Site,
    next: &'a Site,
) -> impl Iterator<Item = (&'a Pool, Option<&'a Pool>)> {
    before
        .pools
        .iter()
        .filter_map(|(id, old)| match next.pools.get(id) {
            Some(new) if Arc::ptr_eq(old, new) => None,
            new => Some((old.as_ref(), new.map(Arc::as_ref))),
        })
}

/// The networks of one site that are not the very same in the other.
fn changed_networks<'a>(one: &'a Site, other: &'a Site) -> impl Iterator<Item = &'a Network> {
    one.networks.iter().filter_map(|(id, network)| {
        let same = other.networks.get(id);
        let same = same.is_some_and(|same| Arc::ptr_eq(same, network));
        (!same).then_some(network.as_ref())
    })
}

/// Addresses taken back and given out, per pool in this order.
fn allocations(before: &Site, next: &Site) -> Vec<Effect> {
    let mut effects = Vec::new();
    let added = next
        .pools
        .iter()
        .filter(|(id, _)| !before.pools.contains_key(id));
    let mut touched: Vec<_> = changed_pools(before, next).map(|(old, _)| old.id).collect();
    touched.extend(added.map(|(id, _)| *id));
    for (one, other) in [(before, next), (next, before)] {
        let ends = changed_networks(one, other).flat_map(|network| network.pools.iter());
        touched.extend(ends.map(|(_, end)| end.pool));
    }
    touched.sort_unstable();
    touched.dedup();
    for id in touched {
        let (old, new) = (held(before, id), held(next, id));
        let name = next
            .pool(id)
            .or_else(|| before.pool(id))
            .map_or("", |pool| pool.name());
        let effect = |network, address: &IpAddr, holder: &String| AllocationEffect {
            address: *address,
            holder: holder.clone(),
            pool: name.to_owned(),
            network,
        };
        if let Some((network, _)) = before.network_of(id) {
            let gone = old
                .iter()
                .filter(|(at, holder)| new.get(*at) != Some(holder));
            effects.extend(gone.map(|(address, holder)| {
                Effect::ReleaseAddress(effect(network.kind, address, holder))
            }));
        }
        if let Some((network, _)) = next.network_of(id) {
            let come = new
                .iter()
                .filter(|(at, holder)| old.get(*at) != Some(holder));
            effects.extend(come.map(|(address, holder)| {
                Effect::AllocateAddress(effect(network.kind, address, holder))
            }));
        }
    }
    effects
}

/// Everything that is held in a pool, named addresses included; a pool that no network uses
/// holds nothing.
fn held(site: &Site, id: crate::PoolId) -> BTreeMap<IpAddr, String> {
    let (Some((network, _)), Some(pool)) = (site.network_of(id), site.pool(id)) else {
        return BTreeMap::new();
    };
    let named = pool.addresses.iter();
    let mut held: BTreeMap<IpAddr, String> = named
        .map(|(role, address)| (address, format!("{}-{}", role.owner(), network.kind)))
        .collect();
    held.extend(
        pool.holders
            .iter()
            .map(|(address, holder)| (*address, holder.clone())),
    );
    held
}

/// The effects so far and the hosts that get a new target: whether they need a reboot.
#[derive(Default)]
struct Work {
    effects: Vec<Effect>,
    hosts: BTreeMap<String, bool>,
}

impl Work {
    fn on_hosts(&mut self, hosts: &[String], reboot: bool) {
        for host in hosts {
            *self.hosts.entry(host.clone()).or_default() |= reboot;
        }
    }

    /// The table of section 5, one network.
    fn network(&mut self, before: &Site, next: &Site, kind: NetworkKind) {
        match (before.network(kind), next.network(kind)) {
            (None, None) => {}
            (None, Some(added)) => self.added(next, added),
            (Some(old), None) => self.deleted(before, next, old),
            (Some(old), Some(new)) => {
                for (_, end) in old.pools.iter() {
                    let pool = before.pool(end.pool);
                    match (
                        pool,
                        new.pools.iter().any(|(_, kept)| kept.pool == end.pool),
                    ) {
                        (Some(pool), false) => {
                            self.event((before, next), kind, pool, PoolChange::Removed)
                        }
                        (Some(pool), true) => self.modified((before, next), kind, pool),
                        (None, _) => {}
                    }
                }
                for (_, end) in new.pools.iter() {
                    let known = old.pools.iter().any(|(_, kept)| kept.pool == end.pool);
                    if let Some(pool) = next.pool(end.pool).filter(|_| !known) {
                        self.event((before, next), kind, pool, PoolChange::Assigned);
                    }
                }
            }
        }
    }

    fn modified(&mut self, (before, next): (&Site, &Site), kind: NetworkKind, old: &Pool) {
        if let Some(new) = next
            .pool(old.id)
            .filter(|new| !ptr::eq(*new, old) && *new != old)
        {
            self.event((before, next), kind, new, PoolChange::Modified);
        }
    }

    /// A new network is recorded: hosts get it when their interfaces are told to use it.
    fn added(&mut self, next: &Site, network: &Network) {
        for (_, end) in network.pools.iter() {
            if let Some(pool) = next.pool(end.pool) {
                self.effects.push(Effect::Recorded(on(
                    network.kind,
                    pool,
                    PoolChange::Assigned,
                    Vec::new(),
                )));
            }
        }
    }

    /// The admin network is taken away at run time, every other deletion is recorded.
    fn deleted(&mut self, before: &Site, next: &Site, network: &Network) {
        let hosts = next.controllers();
        let live = next.initial_config_complete && !hosts.is_empty();
        for (_, end) in network.pools.iter() {
            let Some(pool) = before.pool(end.pool) else {
                continue;
            };
            if network.kind == NetworkKind::Admin && live {
                self.on_hosts(&hosts, false);
                let effect = on(network.kind, pool, PoolChange::Removed, hosts.clone());
                self.effects.push(Effect::UnconfigureNetwork(effect));
            } else {
                self.effects.push(Effect::Recorded(on(
                    network.kind,
                    pool,
                    PoolChange::Removed,
                    Vec::new(),
                )));
            }
        }
    }

    fn event(
        &mut self,
        (before, next): (&Site, &Site),
        kind: NetworkKind,
        pool: &Pool,
        change: PoolChange,
    ) {
        let effect = |hosts| on(kind, pool, change, hosts);
        if !next.initial_config_complete {
            self.effects.push(Effect::Recorded(effect(Vec::new())));
            return;
        }
        let simplex = next.is_simplex();
        let (hosts, at_run_time) = match kind {
            NetworkKind::Oam => (next.controllers(), simplex),
            NetworkKind::Mgmt => (next.hostnames(), false),
            NetworkKind::Admin => (next.controllers(), true),
            NetworkKind::Storage => (next.hostnames(), true),
            _ => (Vec::new(), true),
        };
        if kind.is_cluster() && change != PoolChange::Modified {
            self.cluster(before, next, effect(Vec::new()));
            return;
        }
        if hosts.is_empty() {
            self.effects.push(Effect::Recorded(effect(hosts)));
            return;
        }
        self.on_hosts(&hosts, !at_run_time);
        self.effects.push(match (at_run_time, change) {
            (true, PoolChange::Removed) => Effect::UnconfigureNetwork(effect(hosts)),
            (true, PoolChange::Assigned | PoolChange::Modified) => {
                Effect::ConfigureNetwork(effect(hosts))
            }
            (false, _) if simplex => Effect::ApplyAtUnlock(effect(hosts)),
            (false, _) => Effect::LockUnlockRequired(effect(hosts)),
        });
    }

    /// A cluster network: Kubernetes waits for the others, unless this was the last of them.
    /// What is converted then is said by the steps of the conversion.
    fn cluster(&mut self, before: &Site, next: &Site, change: NetworkEffect) {
        let keeps = effective(next.kubernetes);
        let missing = next.missing_cluster_networks();
        let waiting_for = match next.kubernetes {
            Kubernetes::SingleStack | Kubernetes::DualStack => {
                if conversion(before.kubernetes, next.kubernetes).is_none() {
                    self.effects.push(Effect::Recorded(change));
                }
                return;
            }
            Kubernetes::ConvertingToDual => missing,
            Kubernetes::ConvertingToSingle => {
                let cluster = NetworkKind::ALL
                    .into_iter()
                    .filter(|kind| kind.is_cluster());
                cluster.filter(|kind| !missing.contains(kind)).collect()
            }
        };
        self.effects.push(Effect::KubernetesWaits {
            change,
            keeps,
            waiting_for,
        });
    }

    fn kubernetes(&mut self, before: &Site, next: &Site) {
        let Some(to) = conversion(before.kubernetes, next.kubernetes) else {
            return;
        };
        let Some(primary) = next.primary_family().or_else(|| before.primary_family()) else {
            return;
        };
        let family = primary.other();
        let (all, controllers) = (next.hostnames(), next.controllers());
        self.on_hosts(&all, false);
        for step in KubernetesStep::ALL {
            let hosts = match step {
                KubernetesStep::Kubeadm | KubernetesStep::RestartControlPlane => &controllers,
                KubernetesStep::Network
                | KubernetesStep::KubeletNodeAddresses
                | KubernetesStep::Calico => &all,
            };
            let hosts = hosts.clone();
            self.effects.push(Effect::ConvertKubernetes {
                step,
                to,
                family,
                hosts,
            });
        }
        for pods in [Pods::New, Pods::Existing] {
            self.effects
                .push(Effect::PodAddressing { pods, to, family });
        }
    }

    fn routes(&mut self, before: &Site, next: &Site) {
        let (old, new) = (before.controller_route(), next.controller_route());
        if old == new {
            return;
        }
        self.on_hosts(&next.controllers(), false);
        self.effects.extend(old.map(Effect::RemoveRoute));
        self.effects.extend(new.map(Effect::AddRoute));
    }

    fn endpoints(&mut self, before: &Site, next: &Site) {
        let (old, new) = (before.secondary_endpoint(), next.secondary_endpoint());
        let end = |address| EndpointEffect {
            address,
            hosts: next.controllers(),
        };
        if old != new {
            self.effects
                .extend(old.map(|address| Effect::ClosePublicEndpoints(end(address))));
            self.effects
                .extend(new.map(|address| Effect::OpenPublicEndpoints(end(address))));
        }
    }

    fn resolver(&mut self, before: &Site, next: &Site) {
        if before.dns_servers != next.dns_servers {
            let hosts = next.controllers();
            self.on_hosts(&hosts, false);
            let servers = next.dns_servers.clone();
            self.effects
                .push(Effect::ConfigureResolver { servers, hosts });
        }
    }
}

fn on(network: NetworkKind, pool: &Pool, change: PoolChange, hosts: Vec<String>) -> NetworkEffect {
    NetworkEffect {
        network,
        change,
        pool: pool.name.clone(),
        family: pool.family(),
        hosts,
        addresses: pool.addresses.iter().map(|(_, address)| address).collect(),
    }
}

fn administrative(before: &Site, next: &Site) -> Vec<Effect> {
    let changed = next.hosts().filter(|host| {
        before
            .host(&host.hostname)
            .is_some_and(|old| old.administrative != host.administrative)
    });
    let effects = changed.map(|host| match host.administrative {
        Administrative::Locked => Effect::LockHost {
            host: host.hostname.clone(),
        },
        Administrative::Unlocked => Effect::UnlockHost {
            host: host.hostname.clone(),
            configuration: host.target,
        },
    });
    effects.collect()
}

/// Gives a host a new target. On a simplex site what needs no reboot is applied at once, unless
/// an earlier change still waits for one: a later run-time change does not clear that.
fn retarget(next: &mut Site, hostname: &str, reboot: bool) {
    let target = ConfigurationId(next.generation.0);
    let simplex = next.is_simplex();
    if let Some(host) = next.host_mut(hostname) {
        host.target = target;
        host.reboot_required |= reboot;
        if simplex && !host.reboot_required {
            host.applied = target;
        }
    }
}

/// Raises alarm 250.001 where the target differs from what is applied, clears it where not.
fn alarms(next: &mut Site, now: Timestamp) -> Vec<Effect> {
    let mut effects = Vec::new();
    let hosts = Arc::clone(&next.hosts);
    for host in hosts.values() {
        let entity = host.entity();
        let own = |alarm: &Alarm| alarm.id == OUT_OF_DATE && alarm.entity == entity;
        let raised = next.alarms.iter().position(own);
        match (host.out_of_date(), raised) {
            (true, None) => {
                let until = clearing_steps(next, host);
                let alarm = out_of_date(next, host, entity, now);
                Arc::make_mut(&mut next.alarms).push(alarm);
                effects.push(Effect::RaiseAlarm {
                    host: host.hostname.clone(),
                    until,
                });
            }
            (true, Some(index)) => {
                let repair = repair(host);
                if next.alarms[index].repair != repair {
                    Arc::make_mut(&mut next.alarms)[index].repair = repair;
                }
            }
            (false, Some(_)) => {
                Arc::make_mut(&mut next.alarms).retain(|alarm| !own(alarm));
                effects.push(Effect::ClearAlarm {
                    host: host.hostname.clone(),
                });
            }
            (false, None) => {}
        }
    }
    effects
}

/// What clears the alarm of a host. A simplex host that is unlocked starts with its target, and
/// nobody else reports it; of any other an unlock ends only the need of a reboot.
fn clearing_steps(site: &Site, host: &Host) -> Vec<ClearingStep> {
    let (reboot, simplex) = (host.reboot_required, site.is_simplex());
    let steps = [
        (
            ClearingStep::Lock,
            reboot && host.administrative == Administrative::Unlocked,
        ),
        (ClearingStep::Unlock, reboot),
        (ClearingStep::Report, !(reboot && simplex)),
    ];
    let needed = steps.into_iter().filter(|(_, needed)| *needed);
    needed.map(|(step, _)| step).collect()
}

fn out_of_date(site: &Site, host: &Host, entity: String, now: Timestamp) -> Alarm {
    let mut hash = Sha256::new();
    hash.update(site.identity.uuid.as_bytes());
    hash.update(site.generation.0.to_be_bytes());
    hash.update(entity.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    Alarm {
        uuid: uuid::Builder::from_custom_bytes(id).into_uuid(),
        id: OUT_OF_DATE.to_owned(),
        severity: Severity::Major,
        entity,
        reason: format!("{} Configuration out-of-date", host.hostname),
        raised_at: now,
        repair: repair(host),
    }
}

fn repair(host: &Host) -> String {
    let name = &host.hostname;
    let word = Word(name);
    match (host.reboot_required, host.administrative) {
        (true, Administrative::Unlocked) => format!(
            "Lock and unlock the host: `system host-lock {word}`, then `system host-unlock {word}`"
        ),
        (true, Administrative::Locked) => format!("Unlock the host: `system host-unlock {word}`"),
        (false, _) => format!(
            "Wait until {name} has applied its configuration: whoever applies it there says so \
             with `system host-report {word}`"
        ),
    }
}
