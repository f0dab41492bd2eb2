//! The bootstrap file of a site that is declared to its controller.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use site::bootstrap;

use crate::failure::Failure;

/// A bootstrap file without faults; the default is none at all.
#[derive(Debug, Default)]
pub(crate) struct Declaration {
    /// The bytes of the file, as they are sent.
    pub(crate) bytes: Vec<u8>,
    /// Warnings about it and the defaults that it leaves open, ready to be shown.
    pub(crate) remarks: String,
}

impl Declaration {
    /// Reads a file of at most `limit` bytes that only the daemon judges; `flag` names it.
    ///
    /// # Errors
    /// A file that cannot be read or is larger.
    pub(crate) fn unread(flag: &str, path: &Path, limit: u64) -> Result<Self, Failure> {
        let name = path.display();
        let bytes = bounded(path, limit).map_err(|fault| {
            let explanation = format!("{flag} {name}: {fault}");
            Failure::no_input(explanation, "give a file that you may read")
        })?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
            return Ok(Self {
                bytes,
                remarks: String::new(),
            });
        }
        Err(Failure::bad_input(
            format!("{flag} {name}: the file is larger than {limit} bytes"),
            "give a smaller file, or make several rollouts of it",
        ))
    }

    /// Reads and judges the file, so that a typing error costs no round trip and is shown in
    /// its place. The controller judges it again.
    ///
    /// # Errors
    /// A file that cannot be read or is larger than 1 MiB, and every fault of one that can.
    pub(crate) fn read(path: &Path, colour: bool) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let limit = u64::try_from(bootstrap::MAX_BYTES).unwrap_or(u64::MAX);
        let bytes = bounded(path, limit).map_err(|fault| {
            let explanation = format!("--bootstrap-values {name}: {fault}");
            Failure::no_input(
                explanation,
                "give a bootstrap file (YAML) that you may read",
            )
        })?;
        if bytes.len() > bootstrap::MAX_BYTES {
            return Err(Failure::bad_input(
                format!("--bootstrap-values {name}: the file is larger than 1 MiB"),
                "give the bootstrap file of the subcloud: it has a few kilobytes",
            ));
        }
        match bootstrap::parse_link(&name, &bytes) {
            Ok(link) => {
                let mut remarks =
                    bootstrap::render_warnings(&name, &bytes, link.warnings(), colour);
                for bootstrap::Assumed { variable, value } in link.assumed() {
                    remarks += &format!("assumed: {variable}: {value}\n");
                }
                Ok(Self { bytes, remarks })
            }
            Err(faults) => Err(Failure::bad_excerpt(bootstrap::render(
                &name, &bytes, &faults, colour,
            ))),
        }
    }
}

/// The file, or a little more than the limit of it.
fn bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
