//! An agent within another process: everything that `subcloud-agent` is but its command line, its
//! files and its socket. Load programs and tests run thousands of them; what they say to a
//! controller is said by the same code.

use std::net::IpAddr;
use std::sync::Arc;

use daemon::{Exit, Failure, Life, Network, SiteKeeper};
use fleet::AgentRecord;
use identity::{EnrollmentToken, enroll_client_config};
use site::Site;
use store::{Expected, Revision, Store};
use tokio::sync::watch;

use crate::enroll::Enrollment;
use crate::link::{self, Leave, LinkState};
use crate::records;

/// A site with its agent, kept in memory.
#[derive(Debug)]
pub struct InProcess {
    store: Arc<Store>,
    keeper: Arc<SiteKeeper>,
    from: Option<IpAddr>,
}

impl InProcess {
    /// Installs a site. Connections leave from `from`; `None` leaves it to the system.
    ///
    /// # Errors
    /// When the site cannot be read back, which is a defect.
    pub async fn install(site: &Site, from: Option<IpAddr>) -> Result<Self, Failure> {
        let store = Arc::new(Store::volatile());
        let batch = vec![daemon::site_write(site, Expected::Absent)];
        let committed = store.commit(batch).await;
        committed.map_err(|error| Failure::because(Exit::Software, "a site", &error))?;
        Self::of(store, from)
    }

    fn of(store: Arc<Store>, from: Option<IpAddr>) -> Result<Self, Failure> {
        let (site, revision) = daemon::read_site(&store)?;
        let keeper = SiteKeeper::new(Arc::clone(&store), site, revision)?;
        Ok(Self {
            store,
            keeper: Arc::new(keeper),
            from,
        })
    }

    /// The same site as its next process finds it: nothing is left but what is durable.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub fn again(&self) -> Result<Self, Failure> {
        Self::of(Arc::clone(&self.store), self.from)
    }

    /// Whom the agent obeys, durably; nobody before it has enrolled.
    ///
    /// # Errors
    /// When the record cannot be read back, which is a defect.
    pub fn record(&self) -> Result<Option<AgentRecord>, Failure> {
        records::read_record(&self.store)
    }

    /// The revision of what is durable: it grows with every write.
    pub fn revision(&self) -> Revision {
        self.store.revision()
    }

    /// A copy of the disk as it is now, as if it forgot whatever is written from now on.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub fn copied(&self) -> Result<Self, Failure> {
        let no_copy = || Failure::new(Exit::Software, "only memory can be copied");
        let store = self.store.copied().ok_or_else(no_copy)?;
        Self::of(Arc::new(store), self.from)
    }

    /// The site, to be changed and watched.
    pub fn keeper(&self) -> &Arc<SiteKeeper> {
        &self.keeper
    }

    /// Redeems a token at the controller that it names, as `subcloud-agent enroll` does.
    ///
    /// # Errors
    /// The refusal, or that the controller cannot be reached.
    pub async fn enroll(&self, token: &str) -> Result<(), Failure> {
        self.enroll_over(&Network::System, token).await
    }

    /// The same over another network.
    ///
    /// # Errors
    /// As [`Self::enroll`].
    pub async fn enroll_over(&self, network: &Network, token: &str) -> Result<(), Failure> {
        let token = EnrollmentToken::parse(token)
            .map_err(|error| Failure::because(Exit::Usage, "this is no token", &error))?;
        let tls = enroll_client_config(token.ca())
            .map_err(|error| Failure::because(Exit::Software, "cannot configure TLS", &error))?;
        let enrollment = Enrollment {
            store: Arc::clone(&self.store),
            site: self.keeper.site(),
            controllers: token.controller().to_vec(),
            token,
            from: self.from,
            tls,
            network: network.clone(),
        };
        enrollment.redeem().await.map(drop)
    }

    /// Keeps the link, as `subcloud-agent serve` does, until `life` stops, over its network.
    ///
    /// # Errors
    /// When it has not enrolled.
    pub fn serve(&self, life: &Life) -> Result<watch::Receiver<LinkState>, Failure> {
        let enrolled = records::read_enrolled(&self.store)?
            .ok_or_else(|| Failure::new(Exit::Software, "this site has not enrolled"))?;
        let leave = Leave {
            from: self.from,
            fixed: true,
        };
        let (store, keeper) = (Arc::clone(&self.store), Arc::clone(&self.keeper));
        link::start(life, store, keeper, enrolled, leave)
    }
}
