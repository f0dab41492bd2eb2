//! `subcloud-agent init`.

use std::path::Path;

use daemon::Failure;
use site::DistributedCloudRole;

/// Installs the site of a bootstrap file. It has no identity until it enrolls.
pub(crate) fn run(bootstrap: &Path, state_dir: &Path) -> Result<(), Failure> {
    let site = daemon::read_bootstrap(bootstrap, DistributedCloudRole::Subcloud)?;
    daemon::install(state_dir, &site, |_| Ok(Vec::new()))?;
    println!(
        "installed {} in {}: next, `subcloud-agent enroll` with the token that \
         `tandem dcmanager subcloud add {}` prints",
        site.identity().name,
        state_dir.display(),
        site.identity().name
    );
    Ok(())
}
