//! A controller within another process: its fleet, its link listener and its operators' services,
//! without command line, files and sockets. A simulation plays a few of them with their agents;
//! what they say to each other is said by the same code.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use daemon::{Exit, Failure, Life};
use fleet::{Controller, Records};
use identity::{Ca, Listener};
use site::Site;
use store::{Expected, Revision, Store};
use tonic::service::{Routes, RoutesBuilder};

use crate::certificate::Certificate;
use crate::hub::Hub;
use crate::operator_services::OperatorServices;
use crate::records;
use crate::serve::serve_link;
use crate::settings::{Settings, Times};

/// An installed controller, kept in memory.
#[derive(Debug)]
pub struct InProcess {
    store: Arc<Store>,
}

impl InProcess {
    /// Installs a site with a certificate authority, as `system-controller init` does.
    ///
    /// # Errors
    /// When there is no randomness, or a defect.
    pub async fn install(site: &Site) -> Result<Self, Failure> {
        let failed = |error: &dyn std::error::Error| {
            Failure::because(Exit::Software, "cannot install a controller", error)
        };
        let authority = Ca::generate(site.identity().uuid, SystemTime::now());
        let authority = authority.map_err(|error| failed(&error))?;
        let store = Arc::new(Store::volatile());
        let site = daemon::site_write(site, Expected::Absent);
        let batch = vec![site, records::authority_write(&authority)];
        store.commit(batch).await.map_err(|error| failed(&error))?;
        Ok(Self { store })
    }

    /// The revision of what is durable: it grows with every write.
    pub fn revision(&self) -> Revision {
        self.store.revision()
    }

    /// The durable records of the fleet, whether it is served or not.
    ///
    /// # Errors
    /// When they cannot be read back, which is a defect.
    pub fn records(&self) -> Result<Records, Failure> {
        records::read_fleet(&self.store)
    }

    /// A copy of the disk as it is now, as if it forgot whatever is written from now on.
    ///
    /// # Errors
    /// None while it is kept in memory.
    pub fn copied(&self) -> Result<Self, Failure> {
        let no_copy = || Failure::new(Exit::Software, "only memory can be copied");
        let store = Arc::new(self.store.copied().ok_or_else(no_copy)?);
        Ok(Self { store })
    }

    /// Serves agents and peers on `link`, which they find at `address`, until `life` stops. What
    /// it starts from is what is durable.
    ///
    /// # Errors
    /// When its records cannot be read back, which is a defect.
    pub async fn serve<L: Listener>(
        &self,
        life: &Life,
        (link, address): (L, SocketAddr),
        times: Times,
    ) -> Result<Serving, Failure> {
        let (site, _) = daemon::read_site(&self.store)?;
        let settings = Settings::usual(&site, times)?;
        let authority = Arc::new(records::read_authority(&self.store)?);
        let certificate = Certificate::issue(Arc::clone(&authority), vec![address.ip()])?;
        let link = (link, address);
        let side = serve_link(life, &self.store, (&site, &settings), link, &certificate).await?;
        life.spawn(certificate.renew(life.clone()));
        let mut operators = RoutesBuilder::default();
        OperatorServices::of(life, &side.hub, &authority, address).add_to(&mut operators);
        Ok(Serving {
            hub: side.hub,
            operators: operators.routes().prepare(),
        })
    }
}

/// A controller that serves.
#[derive(Debug, Clone)]
pub struct Serving {
    hub: Arc<Hub>,
    operators: Routes,
}

impl Serving {
    /// What operators may call, as one who may do everything.
    pub fn operators(&self) -> Routes {
        self.operators.clone()
    }

    /// Lets somebody look at the machine.
    pub fn look<T>(&self, at: impl FnOnce(&Controller) -> T) -> T {
        self.hub.look(at)
    }
}
