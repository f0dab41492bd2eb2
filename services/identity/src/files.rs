//! Writing files that hold secrets.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Writes a file that only its owner can read (mode 0600), completely or not at all.
///
/// The content goes to a temporary file in the same folder, is forced to the disk and then
/// renamed over `path`, so that neither a crash nor a full disk leaves half a key. A file that is
/// already there is replaced; its mode does not survive.
///
/// # Errors
/// Names the path and the step that failed; the old file, if any, is then still whole.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    let fault = |step| {
        move |source| WriteError {
            step,
            path: path.to_owned(),
            source,
        }
    };
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(fault("create")(source));
        }
    };
    // `tempfile` creates with mode 0600 and O_EXCL and removes the file when dropped early.
    let mut file = tempfile::Builder::new()
        .prefix(".tandem-")
        .tempfile_in(folder)
        .map_err(fault("create"))?;
    file.write_all(content).map_err(fault("write"))?;
    file.as_file().sync_all().map_err(fault("sync"))?;
    file.persist(path)
        .map_err(|refused| fault("rename")(refused.error))?;
    // The rename itself lives in the folder.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(fault("sync the folder of"))
}

/// A private file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct WriteError {
    /// What was being done: create, write, sync or rename.
    pub step: &'static str,
    /// The file that was to be written.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_private_and_replaces_a_public_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("operator-admin.key");
        fs::write(&path, "old").expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("own file");

        write_private(&path, b"new").expect("writable");

        assert_eq!(fs::read(&path).expect("readable"), b"new");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(names, 1, "no temporary file is left");
    }

    #[test]
    fn a_failure_names_step_and_path_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = write_private(&folder.path().join("no/such"), b"x").expect_err("no folder");
        assert_eq!(error.step, "create");
        assert!(error.to_string().ends_with("no/such"), "{error}");

        let occupied = folder.path().join("occupied");
        fs::create_dir(&occupied).expect("writable");
        let error = write_private(&occupied, b"x").expect_err("a folder is in the way");
        assert_eq!(error.step, "rename");
        let names = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(names, 1, "no temporary file is left");
    }
}
