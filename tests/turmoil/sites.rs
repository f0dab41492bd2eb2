//! The sites that take part, made from bootstrap files as real ones are.

use site::{Family, Site};
use uuid::Uuid;

/// How the families of a site's networks are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) primary: Family,
    /// It has the other family too, as secondary.
    pub(crate) dual: bool,
}

impl Layout {
    /// Joins the values of both families as a bootstrap file has them.
    fn value(self, v4: &str, v6: &str) -> String {
        let (first, second) = match self.primary {
            Family::Ipv4 => (v4, v6),
            Family::Ipv6 => (v6, v4),
        };
        if self.dual {
            format!("{first},{second}")
        } else {
            first.to_owned()
        }
    }
}

/// A controller; `number` sets its addresses apart from those of every other site.
pub(crate) fn controller(name: &str, number: u8, layout: Layout) -> Site {
    installed(name, number, layout, "systemcontroller")
}

/// A subcloud.
pub(crate) fn subcloud(name: &str, number: u8, layout: Layout) -> Site {
    installed(name, number, layout, "subcloud")
}

fn installed(name: &str, number: u8, layout: Layout, role: &str) -> Site {
    let file = bootstrap_file(name, number, layout, role);
    let declared = match site::bootstrap::parse("simulated.yaml", file.as_bytes()) {
        Ok(declared) => declared,
        Err(faults) => panic!(
            "{}",
            site::bootstrap::render("simulated.yaml", file.as_bytes(), &faults, false)
        ),
    };
    let mut last = 0_u128;
    let mut ids = || {
        last += 1;
        Uuid::from_u128((u128::from(number) << 32) + last)
    };
    let site = declared.install(&mut ids);
    site.expect("a faultless file installs")
}

fn bootstrap_file(name: &str, set: u8, layout: Layout, role: &str) -> String {
    let subnet =
        |variable: &str, v4: &str, v6: &str| format!("{variable}: {}\n", layout.value(v4, v6));
    [
        format!("name: {name}\nsystem_mode: simplex\ndistributed_cloud_role: {role}\n"),
        "software_version: \"24.09\"\n".to_owned(),
        subnet(
            "management_subnet",
            &format!("10.{set}.0.0/24"),
            &format!("fd01:{set}::/64"),
        ),
        subnet(
            "management_start_address",
            &format!("10.{set}.0.2"),
            &format!("fd01:{set}::2"),
        ),
        subnet(
            "management_end_address",
            &format!("10.{set}.0.100"),
            &format!("fd01:{set}::100"),
        ),
        subnet(
            "external_oam_subnet",
            &format!("10.{set}.1.0/24"),
            &format!("fd02:{set}::/64"),
        ),
        subnet(
            "external_oam_gateway_address",
            &format!("10.{set}.1.1"),
            &format!("fd02:{set}::1"),
        ),
        subnet(
            "external_oam_floating_address",
            &format!("10.{set}.1.3"),
            &format!("fd02:{set}::3"),
        ),
        subnet("cluster_host_subnet", "192.168.206.0/24", "fd03::/64"),
        subnet("cluster_pod_subnet", "172.16.0.0/16", "fd04::/64"),
        subnet("cluster_service_subnet", "10.224.0.0/12", "fd05::/112"),
    ]
    .concat()
}
