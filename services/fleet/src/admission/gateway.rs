//! F10: the controller's gateways towards a subcloud, as an operator has set them or as its
//! bootstrap file names them.

use std::net::IpAddr;

use site::Family;

use crate::{LinkNetwork, Reason, Violation};

/// At most one gateway of each family makes two.
const MAX_GATEWAYS: usize = 2;

/// F10 for the gateways towards the subcloud of a name: each lies in the controller's link subnet
/// of its family, outside all ranges, and the first has the link family. Not asked when none is
/// given.
pub(crate) fn fit(name: &str, gateways: &[IpAddr], controller: &LinkNetwork) -> Vec<Violation> {
    let mut violations = Vec::new();
    if gateways.len() > MAX_GATEWAYS {
        violations.push(invalid(
            name,
            format!(
                "{} gateways of the system controller are given, at most two can be",
                gateways.len()
            ),
            "give one gateway of the link family and at most one of the other family",
        ));
    }
    for (index, gateway) in gateways.iter().take(MAX_GATEWAYS).enumerate() {
        let expected = if index == 0 {
            controller.family()
        } else {
            controller.family().other()
        };
        violations.extend(
            fault(name, controller, *gateway, expected).map(|violation| {
                violation
                    .at("systemcontroller_gateway_address")
                    .fact("gateway", gateway)
            }),
        );
    }
    violations
}

/// Those of the gateways that all of these link networks could have.
pub(super) fn fitting(name: &str, gateways: &[IpAddr], networks: &[&LinkNetwork]) -> Vec<IpAddr> {
    let mut kept = Vec::new();
    for gateway in gateways {
        kept.push(*gateway);
        if networks
            .iter()
            .any(|link| !fit(name, &kept, link).is_empty())
        {
            kept.pop();
        }
    }
    kept
}

fn fault(
    name: &str,
    controller: &LinkNetwork,
    gateway: IpAddr,
    expected: Family,
) -> Option<Violation> {
    if Family::of(gateway) != expected {
        return Some(invalid(
            name,
            format!("the gateway {gateway} is not {expected}"),
            format!(
                "name the {} gateway first and at most one of the other family after it",
                controller.family()
            ),
        ));
    }
    let Some(pool) = controller.pool_of(expected) else {
        return Some(invalid(
            name,
            format!(
                "the system controller's {} network has no {expected} pool, so the gateway \
                     {gateway} cannot be on it",
                controller.kind
            ),
            format!("leave out the {expected} gateway"),
        ));
    };
    if !usable(pool.subnet, gateway) {
        return Some(
            invalid(
                name,
                format!(
                    "the gateway {gateway} is no address of a host in {}, the system \
                         controller's link subnet",
                    pool.subnet
                ),
                format!("name a router's address in {}", pool.subnet),
            )
            .fact("subnet", pool.subnet),
        );
    }
    let range = pool.ranges.iter().find(|range| range.contains(gateway))?;
    Some(
        invalid(
            name,
            format!(
                "the gateway {gateway} lies in {range}, a range of the system controller's \
                     pool {}",
                pool.name
            ),
            format!(
                "name a router's address in {} outside of the pool's ranges",
                pool.subnet
            ),
        )
        .fact("subnet", pool.subnet)
        .fact("range", range),
    )
}

/// I4: neither the network address nor the IPv4 broadcast.
fn usable(subnet: ipnet::IpNet, address: IpAddr) -> bool {
    subnet.contains(&address)
        && address != subnet.network()
        && !(address.is_ipv4() && address == subnet.broadcast())
}

fn invalid(name: &str, message: impl Into<String>, remedy: impl Into<String>) -> Violation {
    Violation::new(Reason::ControllerGatewayInvalid, message, remedy)
        .object("subcloud", name)
        .fact("rule", "F10")
}
