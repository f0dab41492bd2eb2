//! Bootstrap files of sites with disjoint addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Which families a site has, the primary first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stack {
    V4,
    V6,
    V4First,
    V6First,
}

impl Stack {
    /// Every kind of site.
    pub(crate) const ALL: [Self; 4] = [Self::V4, Self::V6, Self::V4First, Self::V6First];

    /// The families, primary first.
    pub(crate) fn families(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::V4First => &[Family::V4, Family::V6],
            Self::V6First => &[Family::V6, Family::V4],
        }
    }

    /// The family that counts between sites.
    pub(crate) fn primary(self) -> Family {
        self.families()[0]
    }

    /// A name that can be part of a subcloud's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
            Self::V4First => "v4-first",
            Self::V6First => "v6-first",
        }
    }
}

/// The networks of a site that get their own subnets; the number is part of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    /// Between the sites: the controller's mgmt, a subcloud's admin.
    Link = 1,
    Mgmt = 2,
    Oam = 3,
    ClusterHost = 4,
    Pod = 5,
    Service = 6,
}

/// A bootstrap file, variable by variable.
#[derive(Debug, Clone)]
pub(crate) struct Bootstrap {
    pub(crate) name: String,
    pub(crate) stack: Stack,
    index: u8,
    variables: Vec<(String, String)>,
}

impl Bootstrap {
    /// A system controller on one server; its link is the management network.
    pub(crate) fn controller(stack: Stack) -> Self {
        let mut site = Self::site("controller", "systemcontroller", 0, stack);
        site.describe("management", Net::Link);
        site.finish()
    }

    /// A controller like [`Self::controller`] of another name, whose addresses are disjoint from
    /// those of sites with another `index`, 1 to 127.
    pub(crate) fn controller_of(name: &str, index: u8, stack: Stack) -> Self {
        assert!((1..128).contains(&index), "an index of a site: {index}");
        let mut site = Self::site(name, "systemcontroller", index, stack);
        site.describe("management", Net::Link);
        site.finish()
    }

    /// A subcloud on one server; its link is the admin network. Sites with different `index`, 1
    /// to 127, have disjoint addresses.
    pub(crate) fn subcloud(name: &str, index: u8, stack: Stack) -> Self {
        assert!((1..128).contains(&index), "an index of a subcloud: {index}");
        let mut site = Self::site(name, "subcloud", index, stack);
        site.describe("admin", Net::Link);
        site.describe("management", Net::Mgmt);
        site.finish()
    }

    /// One of thousands of subclouds, numbered from 0 to 9,999: its link network is its own, and
    /// its other networks, which nothing outside sees, are the same in all.
    pub(crate) fn one_of_many(number: u16) -> Self {
        assert!(number < 10_000, "a number of a subcloud: {number}");
        let [high, low] = number.to_be_bytes();
        let at = |host: u8| Ipv4Addr::new(10, high, low, host).to_string();
        Self::subcloud(&format!("many-{number:04}"), 127, Stack::V4)
            .with("admin_subnet", &format!("{}/24", at(0)))
            .with("admin_gateway_address", &at(1))
            .with("admin_start_address", &at(2))
            .with("admin_end_address", &at(200))
    }

    fn site(name: &str, role: &str, index: u8, stack: Stack) -> Self {
        let empty = Self {
            name: name.to_owned(),
            stack,
            index,
            variables: Vec::new(),
        };
        empty
            .with("name", name)
            .with("system_mode", "simplex")
            .with("distributed_cloud_role", role)
            .with("software_version", "24.09")
    }

    fn finish(self) -> Self {
        let oam = |host| self.values(|family| self.address(Net::Oam, family, host).to_string());
        let (gateway, floating) = (oam(1), oam(3));
        let subnet = |net| self.values(|family| self.subnet(net, family));
        let (oam, host) = (subnet(Net::Oam), subnet(Net::ClusterHost));
        let (pod, service) = (subnet(Net::Pod), subnet(Net::Service));
        self.with("external_oam_subnet", &oam)
            .with("external_oam_gateway_address", &gateway)
            .with("external_oam_floating_address", &floating)
            .with("cluster_host_subnet", &host)
            .with("cluster_pod_subnet", &pod)
            .with("cluster_service_subnet", &service)
    }

    /// Sets a variable, or replaces its value.
    pub(crate) fn with(mut self, variable: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != variable);
        self.variables.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// The text of the file.
    pub(crate) fn yaml(&self) -> String {
        let lines = self.variables.iter();
        lines
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect()
    }

    /// The floating addresses of the link network with their prefix lengths, primary first.
    pub(crate) fn link_addresses(&self) -> Vec<String> {
        self.addresses(Net::Link, 2)
    }

    /// The floating addresses of oam with their prefix lengths, primary first.
    pub(crate) fn oam_addresses(&self) -> Vec<String> {
        self.addresses(Net::Oam, 3)
    }

    fn addresses(&self, net: Net, host: u8) -> Vec<String> {
        let families = self.stack.families().iter();
        families
            .map(|family| {
                format!(
                    "{}/{}",
                    self.address(net, *family, host),
                    length(net, *family)
                )
            })
            .collect()
    }

    /// The floating address of the link network in a family, whether the site has it or not.
    pub(crate) fn link_address(&self, family: Family) -> IpAddr {
        self.address(Net::Link, family, 2)
    }

    /// An address of a network.
    pub(crate) fn address(&self, net: Net, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::from(self.v4_network(net) | u32::from(host)).into(),
            Family::V6 => Ipv6Addr::from(self.v6_network(net) | u128::from(host)).into(),
        }
    }

    /// The subnet of a network in a family.
    pub(crate) fn subnet(&self, net: Net, family: Family) -> String {
        format!("{}/{}", self.address(net, family, 0), length(net, family))
    }

    fn v4_network(&self, net: Net) -> u32 {
        let octets = match net {
            // Of their own in every site, and the same in all: nothing outside sees them.
            Net::Pod => [172, 16, 0, 0],
            Net::Service => [10, 96, 0, 0],
            _ => [10, 128 + self.index, net as u8, 0],
        };
        u32::from_be_bytes(octets)
    }

    fn v6_network(&self, net: Net) -> u128 {
        let groups = [
            0xfd10,
            u16::from(self.index),
            u16::from(net as u8),
            0,
            0,
            0,
            0,
            0,
        ];
        Ipv6Addr::from(groups).to_bits()
    }

    /// Sets the variables of a network that has a router.
    fn describe(&mut self, prefix: &str, net: Net) {
        let hosts = [
            ("gateway_address", 1),
            ("start_address", 2),
            ("end_address", 200),
        ];
        let subnet = self.values(|family| self.subnet(net, family));
        self.variables.push((format!("{prefix}_subnet"), subnet));
        for (variable, host) in hosts {
            let value = self.values(|family| self.address(net, family, host).to_string());
            self.variables.push((format!("{prefix}_{variable}"), value));
        }
    }

    /// A value for each family, primary first.
    fn values(&self, value: impl Fn(Family) -> String) -> String {
        let families = self.stack.families().iter();
        families
            .map(|family| value(*family))
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// The prefix length of a network.
fn length(net: Net, family: Family) -> u8 {
    match (net, family) {
        (Net::Pod, Family::V4) => 16,
        (Net::Service, Family::V4) => 12,
        (_, Family::V4) => 24,
        (Net::Service, Family::V6) => 112,
        (_, Family::V6) => 64,
    }
}
