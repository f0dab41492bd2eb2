//! host-lock, host-unlock, and what hosts report.
//!
//! On a simplex site this process speaks for the one controller: an unlock starts it with its
//! target configuration, which then counts as applied. On a site of several hosts an unlock
//! only ends the need of a reboot; what a host has applied is what it reports, so nothing
//! pretends to have been applied, and its alarm stays until the report.

use crate::lookup;
use crate::plan::{Draft, Subject};
use crate::shape::invalid;
use crate::{Administrative, ConfigurationId, Effect, Reason, Rejection, Site, Violation, Word};

pub(crate) fn lock_host(site: &Site, hostname: String) -> Result<Draft, Rejection> {
    let host = lookup::host(site, &hostname)?;
    if host.administrative == Administrative::Locked {
        let fault = Violation::new(
            Reason::HostLocked,
            format!("{hostname} is locked already"),
            format!(
                "`system host-unlock {}` brings it back into service",
                Word(&hostname)
            ),
        );
        return Err(Rejection::one(
            fault.at("hostname").object("host", hostname),
        ));
    }
    let mut next = site.clone();
    if let Some(host) = next.host_mut(&hostname) {
        host.administrative = Administrative::Locked;
    }
    Ok(Draft::of(next, Subject::Host(hostname)))
}

pub(crate) fn unlock_host(site: &Site, hostname: String) -> Result<Draft, Rejection> {
    let host = lookup::host(site, &hostname)?;
    if host.administrative == Administrative::Unlocked {
        let fault = Violation::new(
            Reason::HostUnlocked,
            format!("{hostname} is unlocked already"),
            format!(
                "`system host-lock {}` takes it out of service",
                Word(&hostname)
            ),
        );
        return Err(Rejection::one(
            fault.at("hostname").object("host", hostname),
        ));
    }
    let mut next = site.clone();
    let simplex = site.is_simplex();
    if let Some(host) = next.host_mut(&hostname) {
        host.administrative = Administrative::Unlocked;
        host.reboot_required = false;
        if simplex {
            host.applied = host.target;
        }
    }
    Ok(Draft::of(next, Subject::Host(hostname)))
}

/// A host says what it has applied. Reports carry state and may come late or twice: what is
/// known already changes nothing. While a reboot is pending no report counts, because a
/// configuration applied at run time lacks the part that needs the reboot; the answer says so.
pub(crate) fn report_applied(
    site: &Site,
    hostname: String,
    configuration: ConfigurationId,
) -> Result<Draft, Rejection> {
    let host = lookup::host(site, &hostname)?;
    if configuration > host.target {
        let message = format!(
            "{hostname} reports configuration {}, but {} is the last that was asked for",
            configuration.0, host.target.0
        );
        let remedy = "report what the host was given by this site";
        let fault = invalid("configuration", message, remedy).object("host", hostname);
        return Err(Rejection::one(fault));
    }
    let mut draft = Draft::of(site.clone(), Subject::Host(hostname.clone()));
    if configuration <= host.applied {
        return Ok(draft);
    }
    if host.reboot_required {
        draft.notes.push(Effect::ReportWaits {
            host: hostname,
            configuration,
        });
        return Ok(draft);
    }
    if let Some(host) = draft.next.host_mut(&hostname) {
        host.applied = configuration;
    }
    Ok(draft)
}
