//! The controller's own certificate: issued at each start, replaced while the process runs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daemon::{Exit, Failure, Life, Tls};
use identity::{
    CONTROLLER_VALIDITY, Ca, ClientCertificates, LeafKey, ServingCertificate, Trust,
    link_server_config, server_config,
};
use rustls::ServerConfig;

/// How often it is seen whether the certificate is due. A clock that was put right keeps agents
/// away for no longer than that.
const LOOK: Duration = Duration::from_secs(30);

/// The controller's own certificate, for every listener.
pub(crate) struct Certificate {
    authority: Arc<Ca>,
    addresses: Vec<IpAddr>,
    serving: Arc<ServingCertificate>,
    issued_at: SystemTime,
}

impl Certificate {
    /// Issues it to this process.
    pub(crate) fn issue(authority: Arc<Ca>, addresses: Vec<IpAddr>) -> Result<Self, Failure> {
        let failed = |error: &dyn std::error::Error| {
            Failure::because(
                Exit::Software,
                "cannot issue the controller's certificate",
                error,
            )
        };
        let key = LeafKey::generate().map_err(|error| failed(&error))?;
        let issued_at = SystemTime::now();
        let issued = authority
            .issue_controller(&key, &addresses, issued_at, CONTROLLER_VALIDITY)
            .map_err(|error| failed(&error))?;
        let serving = ServingCertificate::new(authority.certificate(), &issued, &key)
            .map_err(|error| failed(&error))?;
        Ok(Self {
            authority,
            addresses,
            serving,
            issued_at,
        })
    }

    /// Who issues the certificates of the fleet.
    pub(crate) fn authority(&self) -> &Arc<Ca> {
        &self.authority
    }

    /// What every listener shows.
    pub(crate) fn serving(&self) -> &Arc<ServingCertificate> {
        &self.serving
    }

    /// The configuration of a listener.
    pub(crate) fn tls(&self, clients: ClientCertificates) -> Result<Tls, Failure> {
        let serving = Arc::clone(&self.serving);
        let config = server_config(&self.authority, serving, clients)
            .map_err(|error| Failure::because(Exit::Software, "cannot configure TLS", &error))?;
        Ok(Tls {
            config,
            trust_domain: self.authority.trust_domain(),
        })
    }

    /// The configuration of the link listener, and whom it trusts beside the own authority.
    pub(crate) fn link_tls(&self) -> Result<(Arc<Trust>, Arc<ServerConfig>), Failure> {
        let failed = |error: &dyn std::error::Error| {
            Failure::because(Exit::Software, "cannot configure TLS", error)
        };
        let own = self.authority.certificate().clone();
        let trust = Trust::new(own).map_err(|error| failed(&error))?;
        let config = link_server_config(&self.authority, &trust, Arc::clone(&self.serving))
            .map_err(|error| failed(&error))?;
        Ok((trust, config))
    }

    /// Replaces the certificate when it is due, for as long as the process runs.
    pub(crate) fn renew(mut self, life: Life) -> impl Future<Output = ()> + Send + 'static {
        let stop = life.stopping();
        async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
                let now = SystemTime::now();
                if !renewal_is_due(self.issued_at, now) {
                    continue;
                }
                match self.replace(now) {
                    Ok(()) => tracing::info!("the controller's certificate is renewed"),
                    Err(failure) => tracing::error!(%failure, "will try again"),
                }
            }
        }
    }

    fn replace(&mut self, now: SystemTime) -> Result<(), Failure> {
        let failed = |error: &dyn std::error::Error| {
            Failure::because(
                Exit::Software,
                "cannot renew the controller's certificate",
                error,
            )
        };
        let key = LeafKey::generate().map_err(|error| failed(&error))?;
        let issued =
            self.authority
                .issue_controller(&key, &self.addresses, now, CONTROLLER_VALIDITY);
        let issued = issued.map_err(|error| failed(&error))?;
        self.serving
            .replace(self.authority.certificate(), &issued, &key)
            .map_err(|error| failed(&error))?;
        self.issued_at = now;
        Ok(())
    }
}

/// At half of its life; and when the clock was set to before it was issued, for then nobody whose
/// clock is right trusts it yet.
fn renewal_is_due(issued_at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(issued_at)
        .map_or(true, |age| age >= CONTROLLER_VALIDITY / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_half_its_life_and_when_the_clock_was_ahead() {
        let issued = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let second = Duration::from_secs(1);
        assert!(!renewal_is_due(issued, issued));
        assert!(!renewal_is_due(
            issued,
            issued + CONTROLLER_VALIDITY / 2 - second
        ));
        assert!(renewal_is_due(issued, issued + CONTROLLER_VALIDITY / 2));
        assert!(renewal_is_due(issued, issued + CONTROLLER_VALIDITY * 9));
        assert!(renewal_is_due(issued, issued - second));
    }
}
