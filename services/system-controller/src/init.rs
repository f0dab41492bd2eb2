//! `system-controller init`.

use std::path::Path;
use std::time::SystemTime;

use daemon::{Exit, Failure};
use fleet::{Fingerprint, Operator, OperatorRole};
use identity::{Ca, LeafKey, OPERATOR_VALIDITY, OperatorName, Role, write_private};
use site::DistributedCloudRole;

use crate::grpc::timestamp;
use crate::records::{authority_write, store_write};

/// The name of the first operator.
const FIRST_OPERATOR: &str = "operator-admin";

/// Installs the site of a bootstrap file, with a certificate authority and the certificate of a
/// first operator.
pub(crate) fn run(bootstrap: &Path, state_dir: &Path) -> Result<(), Failure> {
    let site = daemon::read_bootstrap(bootstrap, DistributedCloudRole::SystemController)?;
    let now = SystemTime::now();
    let failed = |error: &dyn std::error::Error| {
        Failure::because(Exit::Io, "cannot make the certificate authority", error)
    };
    daemon::install(state_dir, &site, |staging| {
        let authority = Ca::generate(site.identity().uuid, now).map_err(|error| failed(&error))?;
        let operator = write_operator(&authority, staging, now)?;
        Ok(vec![
            authority_write(&authority),
            store_write(&fleet::Write::Operator(operator)),
        ])
    })?;
    println!(
        "installed {} in {}: operators over TCP use ca.crt and {FIRST_OPERATOR}.crt with \
         {FIRST_OPERATOR}.key",
        site.identity().name,
        state_dir.display()
    );
    Ok(())
}

/// Writes `ca.crt` and the first operator's certificate and key, all with mode 0600.
fn write_operator(authority: &Ca, dir: &Path, now: SystemTime) -> Result<Operator, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::because(
            Exit::Io,
            "cannot make the first operator's certificate",
            error,
        )
    };
    let key = LeafKey::generate().map_err(|error| failed(&error))?;
    let name: OperatorName = FIRST_OPERATOR.parse().map_err(|error| failed(&error))?;
    let certificate = authority
        .issue_operator(&key, name, Role::Admin, now, OPERATOR_VALIDITY)
        .map_err(|error| failed(&error))?;
    let files = [
        ("ca.crt".to_owned(), authority.certificate_pem()),
        (format!("{FIRST_OPERATOR}.crt"), certificate.to_pem()),
        (format!("{FIRST_OPERATOR}.key"), key.to_pkcs8_pem()),
    ];
    for (name, content) in files {
        write_private(&dir.join(name), content.as_bytes()).map_err(|error| failed(&error))?;
    }
    Ok(Operator {
        name: FIRST_OPERATOR.to_owned(),
        role: OperatorRole::Admin,
        key: Fingerprint(*certificate.details.spki.as_bytes()),
        created_at: timestamp(now),
        expires_at: timestamp(certificate.details.not_after),
        revoked_at: None,
    })
}
