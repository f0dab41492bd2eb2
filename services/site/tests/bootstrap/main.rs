//! Bootstrap files: what each sentence of the rules refuses and where, what the existing
//! systems answered to the same values, the examples, and properties of every input.

mod cases;
mod examples;
mod properties;
mod records;

use std::path::{Path, PathBuf};
use std::{env, fs};

use site::ReasonSet as _;
use site::bootstrap::Faults;

/// A path in this repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Compares with a file; with `UPDATE_GOLDENS=1` in the environment, writes it instead.
fn check_golden(path: &Path, actual: &str) {
    if env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(path, actual).unwrap();
        return;
    }
    let golden = fs::read_to_string(path).unwrap();
    assert_eq!(
        actual,
        golden,
        "{}: UPDATE_GOLDENS=1 rewrites it",
        path.display()
    );
}

/// The reasons of all faults.
fn reasons(faults: &Faults) -> Vec<&'static str> {
    faults
        .faults()
        .iter()
        .map(|fault| fault.reason.name())
        .collect()
}
