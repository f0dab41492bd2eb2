//! dns-modify.

use crate::invariants::MAX_DNS_SERVERS;
use crate::plan::{Draft, Subject};
use crate::shape::{invalid, read_address};
use crate::{Family, NetworkKind, Reason, Rejection, Site, Violation};

/// Replaces the DNS servers; the order of families is free, an empty list is allowed.
pub(crate) fn modify_dns(site: &Site, servers: &[String]) -> Result<Draft, Rejection> {
    let mut faults = Vec::new();
    if servers.len() > MAX_DNS_SERVERS {
        let message = format!("{} DNS servers, more than {MAX_DNS_SERVERS}", servers.len());
        let remedy = format!("give at most {MAX_DNS_SERVERS}");
        return Err(Rejection::one(invalid("servers", message, remedy)));
    }
    let mut addresses = Vec::new();
    for (index, text) in servers.iter().enumerate() {
        let field = format!("servers[{index}]");
        let Some(address) = read_address(&field, text, &mut faults) else {
            continue;
        };
        if address.is_unspecified() || address.is_multicast() {
            let message = format!("{address} cannot be the address of a server");
            faults.push(invalid(field, message, "give the address of a DNS server"));
        } else if addresses.contains(&address) {
            faults.push(invalid(
                field,
                format!("{address} is given twice"),
                "give it once",
            ));
        } else {
            addresses.push(address);
        }
    }
    Rejection::check(faults)?;
    let off_oam = addresses
        .iter()
        .enumerate()
        .filter(|(_, server)| !site.has_family(NetworkKind::Oam, Family::of(**server)));
    let faults = off_oam.map(|(index, server)| {
        let family = Family::of(*server);
        Violation::new(
            Reason::DnsFamilyNotOnOam,
            format!("DNS server {server} is {family}, and oam has no {family}"),
            format!("give a server of oam's family, or assign an {family} pool to oam first"),
        )
        .at(format!("servers[{index}]"))
        .object("dns-server", server.to_string())
        .fact("family", family)
    });
    Rejection::check(faults.collect())?;
    let mut next = site.clone();
    next.dns_servers = addresses;
    Ok(Draft::of(next, Subject::Dns))
}
