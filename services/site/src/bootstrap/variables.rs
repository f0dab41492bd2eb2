//! The variables of a bootstrap file: their names, which network they describe, and the
//! documented defaults.

use crate::NetworkKind;

/// Variables that do not belong to a network.
pub(super) const GENERAL: [&str; 9] = [
    "name",
    "region_name",
    "system_mode",
    "system_type",
    "distributed_cloud_role",
    "software_version",
    "dns_servers",
    "systemcontroller_gateway_address",
    // The installer's way to the site. Nothing here depends on it, but it has to be an address.
    "bootstrap-address",
];

/// One network of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: NetworkKind,
    /// What the names of its variables begin with.
    pub(super) prefix: &'static str,
    /// What the names of its pools begin with, as operators know them.
    pub(super) pool: &'static str,
    /// Whether hosts get addresses by themselves unless the file says otherwise.
    pub(super) dynamic: bool,
    /// The documented default subnets, IPv4 and IPv6.
    pub(super) defaults: (Option<&'static str>, Option<&'static str>),
}

/// Every network, in the order of the network ids that an installation gives out.
pub(super) const SECTIONS: [Section; 8] = [
    Section {
        kind: NetworkKind::Mgmt,
        prefix: "management",
        pool: "management",
        dynamic: true,
        defaults: (Some("192.168.204.0/24"), None),
    },
    Section {
        kind: NetworkKind::Pxeboot,
        prefix: "pxeboot",
        pool: "pxeboot",
        dynamic: true,
        defaults: (Some("169.254.202.0/24"), None),
    },
    Section {
        kind: NetworkKind::Oam,
        prefix: "external_oam",
        pool: "oam",
        dynamic: false,
        defaults: (None, None),
    },
    Section {
        kind: NetworkKind::Multicast,
        prefix: "management_multicast",
        pool: "multicast",
        dynamic: false,
        defaults: (Some("239.1.1.0/28"), Some("ff08::1:1:0/124")),
    },
    Section {
        kind: NetworkKind::ClusterHost,
        prefix: "cluster_host",
        pool: "cluster-host",
        dynamic: true,
        defaults: (Some("192.168.206.0/24"), None),
    },
    Section {
        kind: NetworkKind::ClusterPod,
        prefix: "cluster_pod",
        pool: "cluster-pod",
        dynamic: false,
        defaults: (Some("172.16.0.0/16"), None),
    },
    Section {
        kind: NetworkKind::ClusterService,
        prefix: "cluster_service",
        pool: "cluster-service",
        dynamic: false,
        defaults: (Some("10.96.0.0/12"), None),
    },
    Section {
        kind: NetworkKind::Admin,
        prefix: "admin",
        pool: "admin",
        dynamic: false,
        defaults: (None, None),
    },
];

/// What is said about a network, as the end of a variable's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Start,
    End,
    Floating,
    Gateway,
    Node0,
    Node1,
}

impl Field {
    /// Every field that holds addresses.
    pub(super) const ALL: [Self; 6] = [
        Self::Start,
        Self::End,
        Self::Floating,
        Self::Gateway,
        Self::Node0,
        Self::Node1,
    ];

    fn suffix(self) -> &'static str {
        match self {
            Self::Start => "start_address",
            Self::End => "end_address",
            Self::Floating => "floating_address",
            Self::Gateway => "gateway_address",
            Self::Node0 => "node_0_address",
            Self::Node1 => "node_1_address",
        }
    }
}

impl Section {
    /// The variable of the subnets.
    pub(super) fn subnet(&self) -> String {
        format!("{}_subnet", self.prefix)
    }

    /// The variable of a field.
    pub(super) fn variable(&self, field: Field) -> String {
        format!("{}_{}", self.prefix, field.suffix())
    }

    /// The variable that says whether hosts get addresses by themselves.
    pub(super) fn dynamic_variable(&self) -> String {
        format!("{}_dynamic_address_allocation", self.prefix)
    }

    /// The fields that this network has: only oam names its nodes.
    pub(super) fn fields(&self) -> impl Iterator<Item = Field> + use<> {
        let nodes = self.kind == NetworkKind::Oam;
        Field::ALL
            .into_iter()
            .filter(move |field| nodes || !matches!(field, Field::Node0 | Field::Node1))
    }

    /// Whether every controller has an address of its own here besides the floating one.
    pub(super) fn gives_controllers_addresses(&self) -> bool {
        matches!(
            self.kind,
            NetworkKind::Mgmt
                | NetworkKind::Pxeboot
                | NetworkKind::ClusterHost
                | NetworkKind::Admin
        )
    }
}

/// The section of a kind of network; `None` for kinds that no bootstrap file describes.
pub(super) fn section(kind: NetworkKind) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.kind == kind)
}

/// Every known name.
pub(super) fn names() -> impl Iterator<Item = String> {
    let networks = SECTIONS.iter().flat_map(|section| {
        [section.subnet(), section.dynamic_variable()]
            .into_iter()
            .chain(section.fields().map(|field| section.variable(field)))
    });
    GENERAL.into_iter().map(str::to_owned).chain(networks)
}

/// The known name that a typing error most likely meant: at most a third of it differs.
pub(super) fn nearest(name: &str) -> Option<String> {
    let longest = names().map(|known| known.len()).max().unwrap_or_default();
    // Comparing takes time in proportion to both lengths.
    if name.len() > 2 * longest {
        return None;
    }
    names()
        .map(|known| (strsim::damerau_levenshtein(name, &known), known))
        .filter(|(distance, known)| distance * 3 <= known.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
