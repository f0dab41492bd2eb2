//! Networks and their pools.

use std::fmt;

use uuid::Uuid;

use crate::{Family, PoolId, Stack};

/// A network of the site, one per [`NetworkKind`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub(crate) id: NetworkId,
    pub(crate) uuid: Uuid,
    pub(crate) name: String,
    pub(crate) kind: NetworkKind,
    pub(crate) dynamic: bool,
    pub(crate) pools: Pools,
}

/// The pools of a network. Two pools of one family cannot be built (I1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pools {
    /// Only the primary pool.
    Single(Attachment),
    /// Both families.
    Dual {
        /// The network's first pool; never removed.
        primary: Attachment,
        /// The pool of the other family.
        secondary: Attachment,
    },
}

/// One NetworkAddressPool: the association of a network and a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// The association's own id.
    pub id: AttachmentId,
    /// The pool.
    pub pool: PoolId,
    /// The pool's family, kept here so that rules need no look-up.
    pub family: Family,
}

/// The id of a network: a small number, as operators know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub u32);

/// The id of a network-to-pool association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId(pub Uuid);

/// The type of a network. A site has at most one network of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkKind {
    /// Boots hosts; exactly one pool, IPv4 (I3).
    Pxeboot,
    /// Management; `management` is another name of it on input.
    Mgmt,
    /// Operations, administration and maintenance: the public side.
    Oam,
    /// Between a subcloud and its system controller, when it is not management.
    Admin,
    /// Kubernetes nodes.
    ClusterHost,
    /// Kubernetes pods.
    ClusterPod,
    /// Kubernetes services.
    ClusterService,
    /// Service multicast groups.
    Multicast,
    /// Storage.
    Storage,
    /// Bare-metal provisioning.
    Ironic,
    /// On a subcloud: the link network of its system controller.
    SystemController,
    /// On a subcloud: the oam network of its system controller.
    SystemControllerOam,
}

impl NetworkKind {
    /// Every kind, in the order in which they are listed to operators.
    pub const ALL: [Self; 12] = [
        Self::Pxeboot,
        Self::Mgmt,
        Self::Oam,
        Self::Admin,
        Self::ClusterHost,
        Self::ClusterPod,
        Self::ClusterService,
        Self::Multicast,
        Self::Storage,
        Self::Ironic,
        Self::SystemController,
        Self::SystemControllerOam,
    ];

    /// The name that operators type, such as `cluster-host`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pxeboot => "pxeboot",
            Self::Mgmt => "mgmt",
            Self::Oam => "oam",
            Self::Admin => "admin",
            Self::ClusterHost => "cluster-host",
            Self::ClusterPod => "cluster-pod",
            Self::ClusterService => "cluster-service",
            Self::Multicast => "multicast",
            Self::Storage => "storage",
            Self::Ironic => "ironic",
            Self::SystemController => "system-controller",
            Self::SystemControllerOam => "system-controller-oam",
        }
    }

    /// Reads a name; `management` means [`NetworkKind::Mgmt`].
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "management" {
            return Some(Self::Mgmt);
        }
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether this is one of the three networks that make Kubernetes dual-stack (I8).
    pub fn is_cluster(self) -> bool {
        matches!(
            self,
            Self::ClusterHost | Self::ClusterPod | Self::ClusterService
        )
    }
}

impl fmt::Display for NetworkKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The rank of a pool on its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// The network's first pool.
    Primary,
    /// The pool of the other family.
    Secondary,
}

impl fmt::Display for Rank {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

impl Pools {
    /// The primary association.
    pub fn primary(&self) -> Attachment {
        match *self {
            Self::Single(primary) | Self::Dual { primary, .. } => primary,
        }
    }

    /// The secondary association, if the network is dual-stack.
    pub fn secondary(&self) -> Option<Attachment> {
        match *self {
            Self::Single(_) => None,
            Self::Dual { secondary, .. } => Some(secondary),
        }
    }

    /// Both associations with their rank, primary first.
    pub fn iter(&self) -> impl Iterator<Item = (Rank, Attachment)> {
        std::iter::once((Rank::Primary, self.primary())).chain(
            self.secondary()
                .map(|attachment| (Rank::Secondary, attachment)),
        )
    }

    /// Whether one of the pools has this family.
    pub fn has(&self, family: Family) -> bool {
        self.iter()
            .any(|(_, attachment)| attachment.family == family)
    }

    /// Single- or dual-stack.
    pub fn stack(&self) -> Stack {
        match self {
            Self::Single(_) => Stack::Single,
            Self::Dual { .. } => Stack::Dual,
        }
    }
}

impl Network {
    /// The number of the network.
    pub fn id(&self) -> NetworkId {
        self.id
    }

    /// The uuid of the network.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The unique name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type.
    pub fn kind(&self) -> NetworkKind {
        self.kind
    }

    /// Whether hosts get their addresses from the pools by themselves.
    pub fn dynamic(&self) -> bool {
        self.dynamic
    }

    /// The pools.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// The family of the primary pool; it never changes (I1).
    pub fn primary_family(&self) -> Family {
        self.pools.primary().family
    }
}
