//! `init`: from a bootstrap file to a state directory.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use site::bootstrap::{self, Declared};
use site::{DistributedCloudRole, Site};
use store::{Expected, Store, Write};

use crate::{Exit, Failure, create_state_dir, random_uuid, site_write};

/// Reads a bootstrap file. Its warnings, and the defaults that it leaves to take, go to stderr.
///
/// # Errors
/// Exit 65 with every fault of the file, each with its line and a caret under the text; 66 when
/// it cannot be read.
pub fn read_bootstrap(path: &Path, role: DistributedCloudRole) -> Result<Site, Failure> {
    let name = path.display().to_string();
    let bytes = read_bounded(path)?;
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let declared = bootstrap::parse(&name, &bytes).map_err(|faults| {
        Failure::new(
            Exit::DataError,
            bootstrap::render(&name, &bytes, &faults, color),
        )
    })?;
    require_role(&name, &declared, role)?;
    eprint!(
        "{}",
        bootstrap::render_warnings(&name, &bytes, declared.warnings(), color)
    );
    for assumed in declared.assumed() {
        eprintln!("assumed: {}: {}", assumed.variable, assumed.value);
    }
    declared.install(&mut random_uuid).map_err(|rejection| {
        Failure::because(
            Exit::DataError,
            "the site that the file declares is refused",
            &rejection,
        )
    })
}

/// Makes the state directory of a site. `fill` adds files and further records.
///
/// # Errors
/// When the directory has state, or a file cannot be written; nothing is left behind then.
pub fn install(
    dir: &Path,
    site: &Site,
    fill: impl FnOnce(&Path) -> Result<Vec<Write>, Failure>,
) -> Result<(), Failure> {
    create_state_dir(dir, |staging| {
        let failed = |error: &dyn std::error::Error| {
            Failure::because(Exit::Io, "cannot write the state", error)
        };
        let store = Store::create(staging).map_err(|error| failed(&error))?;
        let mut batch = fill(staging)?;
        batch.push(site_write(site, Expected::Absent));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        runtime
            .block_on(store.commit(batch))
            .map_err(|error| failed(&error))?;
        store.close().map_err(|error| failed(&error))
    })
}

/// Reads at most one byte more than a bootstrap file may have, whatever the path is.
fn read_bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        let message = format!(
            "cannot read {}: {error}\nhelp: name with --bootstrap a bootstrap file (YAML) that \
             this user may read",
            path.display()
        );
        Failure::new(Exit::NoInput, message)
    };
    let limit = u64::try_from(bootstrap::MAX_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// A controller is installed from a controller's file, a subcloud from a subcloud's.
fn require_role(
    name: &str,
    declared: &Declared,
    needed: DistributedCloudRole,
) -> Result<(), Failure> {
    if declared.role() == needed {
        return Ok(());
    }
    let (program, variable) = match needed {
        DistributedCloudRole::SystemController => ("system-controller", "systemcontroller"),
        DistributedCloudRole::Subcloud => ("subcloud-agent", "subcloud"),
        DistributedCloudRole::None => ("this program", "none"),
    };
    let message = format!(
        "{name}: {program} installs a site with `distributed_cloud_role: {variable}`, and this \
         file declares another role; correct the variable, or use the other program"
    );
    Err(Failure::new(Exit::DataError, message))
}
