//! What an accepted change does beyond the stored state (section 5 of the site rules).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{ConfigurationId, Family, NetworkKind, Stack};

/// One consequence of a change. A preview and the real call have the same list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Hosts configure a pool of a network at run time, without a lock.
    ConfigureNetwork(NetworkEffect),
    /// Hosts take a pool of a network away at run time, without a lock.
    UnconfigureNetwork(NetworkEffect),
    /// The locked hosts apply the pool of the network when they are unlocked.
    ApplyAtUnlock(NetworkEffect),
    /// Each of the hosts needs a lock and an unlock to apply the pool of the network.
    LockUnlockRequired(NetworkEffect),
    /// Only the records change: nothing happens on hosts.
    Recorded(NetworkEffect),
    /// A cluster network is recorded; Kubernetes stays as it is until the others follow.
    KubernetesWaits {
        /// The pool that came or went.
        change: NetworkEffect,
        /// The stack that Kubernetes keeps meanwhile.
        keeps: Stack,
        /// The cluster networks that must follow before Kubernetes is converted.
        waiting_for: Vec<NetworkKind>,
    },
    /// One step of the conversion of Kubernetes; the steps come in order.
    ConvertKubernetes {
        /// What is done.
        step: KubernetesStep,
        /// The stack that Kubernetes gets.
        to: Stack,
        /// The family that comes or goes.
        family: Family,
        /// The hosts on which it is done.
        hosts: Vec<String>,
    },
    /// What the conversion means for the addresses of pods.
    PodAddressing {
        /// Which pods.
        pods: Pods,
        /// The stack that Kubernetes gets.
        to: Stack,
        /// The family that comes or goes.
        family: Family,
    },
    /// Alarm 250.001 is raised on a host.
    RaiseAlarm {
        /// The host.
        host: String,
        /// What has to happen to the host until it is cleared, in order.
        until: Vec<ClearingStep>,
    },
    /// Alarm 250.001 is cleared on a host.
    ClearAlarm {
        /// The host.
        host: String,
    },
    /// A host is locked.
    LockHost {
        /// The host.
        host: String,
    },
    /// A host is unlocked and starts with its target configuration.
    UnlockHost {
        /// The host.
        host: String,
        /// What it starts with.
        configuration: ConfigurationId,
    },
    /// A host reported what it applied at run time, but it still has to be locked and
    /// unlocked: the report does not count.
    ReportWaits {
        /// The host.
        host: String,
        /// What it reported.
        configuration: ConfigurationId,
    },
    /// A route to the system controller is added.
    AddRoute(RouteEffect),
    /// A route to the system controller is removed.
    RemoveRoute(RouteEffect),
    /// Every public endpoint answers on the secondary oam address, on the same port.
    OpenPublicEndpoints(EndpointEffect),
    /// The public endpoints no longer answer on the secondary oam address.
    ClosePublicEndpoints(EndpointEffect),
    /// The resolver of the controllers uses these servers.
    ConfigureResolver {
        /// The servers, in order; empty when there are none any more.
        servers: Vec<IpAddr>,
        /// The controllers.
        hosts: Vec<String>,
    },
    /// An address of a pool is given to a holder.
    AllocateAddress(AllocationEffect),
    /// An address of a pool is taken back from its holder.
    ReleaseAddress(AllocationEffect),
    /// A pool took an address from a pool that no network uses.
    MoveAddress {
        /// The address.
        address: IpAddr,
        /// The name of the pool that lost it.
        from_pool: String,
        /// The name of the pool that has it now.
        to_pool: String,
    },
}

/// A pool of a network and the hosts concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkEffect {
    /// The type of the network.
    pub network: NetworkKind,
    /// What happens to the pool.
    pub change: PoolChange,
    /// The name of the pool.
    pub pool: String,
    /// The family of the pool.
    pub family: Family,
    /// The hosts concerned, by name; empty when there are none.
    pub hosts: Vec<String>,
    /// The named addresses of the pool, floating first.
    pub addresses: Vec<IpAddr>,
}

/// What happens to a pool of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolChange {
    /// The network got it.
    Assigned,
    /// The network lost it.
    Removed,
    /// Its fields changed.
    Modified,
}

/// A route of the site's hosts towards the system controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEffect {
    /// The primary subnet of the system controller's link network.
    pub destination: IpNet,
    /// The gateway of the admin network, else of mgmt.
    pub gateway: IpAddr,
    /// The network through which it goes.
    pub network: NetworkKind,
    /// The controllers.
    pub hosts: Vec<String>,
}

/// The secondary address of the public endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointEffect {
    /// The floating address of the secondary oam pool.
    pub address: IpAddr,
    /// The controllers on which HAProxy maps the requests.
    pub hosts: Vec<String>,
}

/// An address of a pool and its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationEffect {
    /// The address.
    pub address: IpAddr,
    /// Who holds it, such as `controller-0-mgmt`.
    pub holder: String,
    /// The name of the pool.
    pub pool: String,
    /// The network that the pool serves, or served when the address is taken back.
    pub network: NetworkKind,
}

/// The steps of a conversion of Kubernetes, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KubernetesStep {
    /// The addresses of the cluster-host network on the hosts.
    Network,
    /// The subnets in kubeadm's configuration.
    Kubeadm,
    /// The node addresses of the kubelets.
    KubeletNodeAddresses,
    /// The address pools of Calico.
    Calico,
    /// kube-apiserver and kube-controller-manager restart.
    RestartControlPlane,
}

impl KubernetesStep {
    /// Every step, in order.
    pub const ALL: [Self; 5] = [
        Self::Network,
        Self::Kubeadm,
        Self::KubeletNodeAddresses,
        Self::Calico,
        Self::RestartControlPlane,
    ];
}

/// Pods, by when they were created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pods {
    /// Created after the conversion.
    New,
    /// Created before the conversion.
    Existing,
}

/// What happens to a host before its alarm 250.001 is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearingStep {
    /// It is locked.
    Lock,
    /// It is unlocked; a simplex host has then applied what it was given.
    Unlock,
    /// It is reported to have applied what it was given.
    Report,
}

impl ClearingStep {
    /// What the host is then.
    fn words(self) -> &'static str {
        match self {
            Self::Lock => "locked",
            Self::Unlock => "unlocked",
            Self::Report => "reported to have applied the change",
        }
    }
}

impl Effect {
    /// The stable UPPER_SNAKE name of the kind; never changes.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ConfigureNetwork(_) => "CONFIGURE_NETWORK",
            Self::UnconfigureNetwork(_) => "UNCONFIGURE_NETWORK",
            Self::ApplyAtUnlock(_) => "APPLY_AT_UNLOCK",
            Self::LockUnlockRequired(_) => "LOCK_UNLOCK_REQUIRED",
            Self::Recorded(_) => "RECORDED",
            Self::KubernetesWaits { .. } => "KUBERNETES_WAITS",
            Self::ConvertKubernetes { step, .. } => match step {
                KubernetesStep::Network => "KUBERNETES_NETWORK",
                KubernetesStep::Kubeadm => "KUBERNETES_KUBEADM",
                KubernetesStep::KubeletNodeAddresses => "KUBERNETES_KUBELET_NODE_ADDRESSES",
                KubernetesStep::Calico => "KUBERNETES_CALICO",
                KubernetesStep::RestartControlPlane => "KUBERNETES_RESTART_CONTROL_PLANE",
            },
            Self::PodAddressing { pods, .. } => match pods {
                Pods::New => "NEW_PODS",
                Pods::Existing => "EXISTING_PODS",
            },
            Self::RaiseAlarm { .. } => "RAISE_ALARM",
            Self::ClearAlarm { .. } => "CLEAR_ALARM",
            Self::LockHost { .. } => "LOCK_HOST",
            Self::UnlockHost { .. } => "UNLOCK_HOST",
            Self::ReportWaits { .. } => "REPORT_WAITS",
            Self::AddRoute(_) => "ADD_ROUTE",
            Self::RemoveRoute(_) => "REMOVE_ROUTE",
            Self::OpenPublicEndpoints(_) => "OPEN_PUBLIC_ENDPOINTS",
            Self::ClosePublicEndpoints(_) => "CLOSE_PUBLIC_ENDPOINTS",
            Self::ConfigureResolver { .. } => "CONFIGURE_RESOLVER",
            Self::AllocateAddress(_) => "ALLOCATE_ADDRESS",
            Self::ReleaseAddress(_) => "RELEASE_ADDRESS",
            Self::MoveAddress { .. } => "MOVE_ADDRESS",
        }
    }

    /// The network concerned, if it is about one.
    pub fn network(&self) -> Option<NetworkKind> {
        match self {
            Self::AddRoute(route) | Self::RemoveRoute(route) => Some(route.network),
            Self::OpenPublicEndpoints(_) | Self::ClosePublicEndpoints(_) => Some(NetworkKind::Oam),
            Self::AllocateAddress(taken) | Self::ReleaseAddress(taken) => Some(taken.network),
            _ => self.on_network().map(|effect| effect.network),
        }
    }

    /// The address family concerned, if it is about one.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::ConvertKubernetes { family, .. } | Self::PodAddressing { family, .. } => {
                Some(*family)
            }
            Self::AddRoute(route) | Self::RemoveRoute(route) => Some(Family::of(route.gateway)),
            Self::OpenPublicEndpoints(end) | Self::ClosePublicEndpoints(end) => {
                Some(Family::of(end.address))
            }
            Self::AllocateAddress(taken) | Self::ReleaseAddress(taken) => {
                Some(Family::of(taken.address))
            }
            Self::MoveAddress { address, .. } => Some(Family::of(*address)),
            _ => self.on_network().map(|effect| effect.family),
        }
    }

    /// The hosts concerned, by name.
    pub fn hosts(&self) -> &[String] {
        match self {
            Self::ConvertKubernetes { hosts, .. } | Self::ConfigureResolver { hosts, .. } => hosts,
            Self::AddRoute(route) | Self::RemoveRoute(route) => &route.hosts,
            Self::OpenPublicEndpoints(end) | Self::ClosePublicEndpoints(end) => &end.hosts,
            Self::RaiseAlarm { host, .. }
            | Self::ClearAlarm { host }
            | Self::LockHost { host }
            | Self::UnlockHost { host, .. }
            | Self::ReportWaits { host, .. } => std::slice::from_ref(host),
            _ => self.on_network().map_or(&[], |effect| &effect.hosts),
        }
    }

    /// The addresses concerned.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::AddRoute(route) | Self::RemoveRoute(route) => vec![route.gateway],
            Self::OpenPublicEndpoints(end) | Self::ClosePublicEndpoints(end) => vec![end.address],
            Self::AllocateAddress(taken) | Self::ReleaseAddress(taken) => vec![taken.address],
            Self::MoveAddress { address, .. } => vec![*address],
            Self::ConfigureResolver { servers, .. } => servers.clone(),
            _ => self
                .on_network()
                .map_or_else(Vec::new, |effect| effect.addresses.clone()),
        }
    }

    /// The name of the pool concerned, if it is about one.
    pub fn pool(&self) -> Option<&str> {
        match self {
            Self::AllocateAddress(taken) | Self::ReleaseAddress(taken) => Some(&taken.pool),
            Self::MoveAddress { to_pool, .. } => Some(to_pool),
            _ => self.on_network().map(|effect| effect.pool.as_str()),
        }
    }

    fn on_network(&self) -> Option<&NetworkEffect> {
        match self {
            Self::ConfigureNetwork(effect)
            | Self::UnconfigureNetwork(effect)
            | Self::ApplyAtUnlock(effect)
            | Self::LockUnlockRequired(effect)
            | Self::Recorded(effect)
            | Self::KubernetesWaits { change: effect, .. } => Some(effect),
            _ => None,
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(on) = self.on_network() {
            return self.fmt_network(f, on);
        }
        match self {
            Self::ConvertKubernetes {
                step,
                to,
                family,
                hosts,
            } => kubernetes(f, *step, *to, *family, &listed(hosts)),
            Self::PodAddressing { pods, to, family } => pod_addressing(f, *pods, *to, *family),
            Self::AddRoute(route) => write!(f, "{route} is added on {}", listed(&route.hosts)),
            Self::RemoveRoute(route) => write!(f, "{route} is removed on {}", listed(&route.hosts)),
            Self::OpenPublicEndpoints(end) => {
                let hosts = listed(&end.hosts);
                write!(f, "every public endpoint answers on {} ", end.address)?;
                write!(f, "on the same port (HAProxy on {hosts})")
            }
            Self::ClosePublicEndpoints(end) => {
                write!(f, "public endpoints no longer answer on {} ", end.address)?;
                write!(f, "(HAProxy on {})", listed(&end.hosts))
            }
            Self::ConfigureResolver { servers, hosts } => resolver(f, servers, hosts),
            Self::AllocateAddress(taken) => {
                write!(
                    f,
                    "{} of pool {} goes to {}",
                    taken.address, taken.pool, taken.holder
                )
            }
            Self::ReleaseAddress(taken) => {
                write!(
                    f,
                    "{} of pool {} leaves {}",
                    taken.address, taken.pool, taken.holder
                )
            }
            Self::MoveAddress {
                address,
                from_pool,
                to_pool,
            } => {
                write!(
                    f,
                    "{address} moves from the unattached pool {from_pool} to {to_pool}"
                )
            }
            _ => self.fmt_host(f),
        }
    }
}

impl Effect {
    fn fmt_network(&self, f: &mut fmt::Formatter<'_>, on: &NetworkEffect) -> fmt::Result {
        let NetworkEffect {
            network,
            change,
            pool,
            family,
            hosts,
            ..
        } = on;
        let hosts = listed(hosts);
        let what = match change {
            PoolChange::Assigned => format!("assigning {family} pool {pool} to network {network}"),
            PoolChange::Removed => format!("removing {family} pool {pool} from network {network}"),
            PoolChange::Modified => format!("modifying {family} pool {pool} of network {network}"),
        };
        match self {
            Self::ConfigureNetwork(_) => {
                write!(f, "{family} pool {pool} of network {network} ")?;
                write!(f, "is configured at run time on {hosts}")
            }
            Self::UnconfigureNetwork(_) => {
                write!(f, "{family} pool {pool} of network {network} ")?;
                write!(f, "is taken away at run time on {hosts}")
            }
            Self::ApplyAtUnlock(_) => write!(f, "{what} takes effect when {hosts} is unlocked"),
            Self::LockUnlockRequired(_) => {
                write!(f, "{what} needs a lock and an unlock of {hosts}")
            }
            Self::KubernetesWaits {
                keeps, waiting_for, ..
            } => {
                let others: Vec<_> = waiting_for.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "{what} is recorded; Kubernetes stays {keeps}-stack until "
                )?;
                write!(f, "{} follow", listed(&others))
            }
            _ => write!(f, "{what} is recorded; nothing changes on hosts"),
        }
    }

    fn fmt_host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = listed(self.hosts());
        match self {
            Self::RaiseAlarm { until, .. } => {
                write!(f, "alarm 250.001 is raised on {host} until it is ")?;
                for (index, step) in until.iter().enumerate() {
                    match index {
                        0 => {}
                        _ if index + 1 == until.len() => f.write_str(" and ")?,
                        _ => f.write_str(", ")?,
                    }
                    f.write_str(step.words())?;
                }
                Ok(())
            }
            Self::ClearAlarm { .. } => write!(f, "alarm 250.001 is cleared on {host}"),
            Self::UnlockHost { configuration, .. } => {
                write!(
                    f,
                    "{host} is unlocked and starts with configuration {}",
                    configuration.0
                )
            }
            Self::ReportWaits { configuration, .. } => {
                write!(f, "{host} reported configuration {}, ", configuration.0)?;
                write!(f, "which counts after a lock and an unlock")
            }
            _ => write!(f, "{host} is locked"),
        }
    }
}

impl fmt::Display for RouteEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route to the system controller {} ", self.destination)?;
        write!(f, "through the {} gateway {}", self.network, self.gateway)
    }
}

fn kubernetes(
    f: &mut fmt::Formatter<'_>,
    step: KubernetesStep,
    to: Stack,
    family: Family,
    hosts: &str,
) -> fmt::Result {
    let (gets, with) = match to {
        Stack::Dual => ("get", "with"),
        Stack::Single => ("lose", "without"),
    };
    match step {
        KubernetesStep::Network => write!(
            f,
            "hosts {gets} the {family} addresses of cluster-host at run time on {hosts}"
        ),
        KubernetesStep::Kubeadm => {
            write!(
                f,
                "kubeadm is configured {to}-stack, {with} {family}, on {hosts}"
            )
        }
        KubernetesStep::KubeletNodeAddresses => {
            write!(f, "kubelets {gets} their {family} node address on {hosts}")
        }
        KubernetesStep::Calico => {
            write!(
                f,
                "Calico is configured {to}-stack, {with} {family}, on {hosts}"
            )
        }
        KubernetesStep::RestartControlPlane => {
            write!(
                f,
                "kube-apiserver and kube-controller-manager restart on {hosts}"
            )
        }
    }
}

fn pod_addressing(
    f: &mut fmt::Formatter<'_>,
    pods: Pods,
    to: Stack,
    family: Family,
) -> fmt::Result {
    match (pods, to) {
        (Pods::New, Stack::Dual) => write!(f, "new pods get both addresses"),
        (Pods::New, Stack::Single) => write!(f, "new pods get no {family} address"),
        (Pods::Existing, Stack::Dual) => {
            write!(
                f,
                "existing pods get an {family} address only when they are restarted"
            )
        }
        (Pods::Existing, Stack::Single) => {
            write!(
                f,
                "existing pods keep their {family} address until they are restarted"
            )
        }
    }
}

fn resolver(f: &mut fmt::Formatter<'_>, servers: &[IpAddr], hosts: &[String]) -> fmt::Result {
    let servers = servers.iter().map(ToString::to_string).collect::<Vec<_>>();
    if servers.is_empty() {
        write!(
            f,
            "the resolver of {} has no servers any more",
            listed(hosts)
        )
    } else {
        write!(
            f,
            "the resolver of {} uses {}",
            listed(hosts),
            servers.join(", then ")
        )
    }
}

/// `a`, `a and b`, `a, b and c`, or `no host`.
pub(crate) fn listed(names: &[String]) -> String {
    match names {
        [] => "no host".into(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}
