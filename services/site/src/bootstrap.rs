//! Bootstrap files: the YAML with which a site is installed, and with which a subcloud is
//! announced to its system controller.
//!
//! [`parse`] answers either what the file declares or every fault of it at once, each with its
//! place, its reason and what to write instead. Nothing is defaulted in silence:
//! [`Declared::assumed`] lists each default that was taken, [`Declared::warnings`] what nothing
//! reads. [`Declared::install`] makes the site.
//!
//! Variables carry the names that operators know; two values stand as `PRIMARY,SECONDARY`.

mod declared;
mod document;
mod fault;
mod findings;
mod install;
mod lines;
mod networks;
mod reading;
mod render;
mod rules;
mod source;
mod values;
mod variables;

pub use declared::{Declared, DeclaredLink, DeclaredNetwork, DeclaredPool};
pub use fault::{Fault, FaultReason, Faults, Label, Warning};
pub use findings::{Assumed, MAX_FAULTS};
pub use lines::{Line, Placed, lines};
pub use render::{render, render_warnings};
pub use source::MAX_BYTES;

use findings::Findings;
use reading::Scope;
use source::Source;

/// Reads the file of a whole site. `file_name` is used in messages only.
///
/// # Errors
/// Every fault of the file.
pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Declared, Faults> {
    let source = Source::new(bytes).map_err(|fault| findings::unreadable(file_name, *fault))?;
    let mut findings = Findings::new(source);
    let reading = reading::Reading::new(Scope::WholeSite, &mut findings);
    let declared = reading.whole(&mut findings);
    finish(file_name, declared, findings, |declared, findings| {
        declared.link.warnings = findings.warnings;
        declared.link.assumed = findings.assumed;
    })
}

/// Reads the values with which a subcloud is added to its system controller: the file of the
/// whole site, or only the link, oam and gateway variables of it. What is there is judged in
/// full; absent variables of other networks are no faults, and their defaults meet nothing.
///
/// # Errors
/// Every fault of the file.
pub fn parse_link(file_name: &str, bytes: &[u8]) -> Result<DeclaredLink, Faults> {
    let source = Source::new(bytes).map_err(|fault| findings::unreadable(file_name, *fault))?;
    let mut findings = Findings::new(source);
    let reading = reading::Reading::new(Scope::LinkOnly, &mut findings);
    let declared = reading.link(&mut findings);
    finish(file_name, declared, findings, |link, findings| {
        link.warnings = findings.warnings;
        link.assumed = findings.assumed;
    })
}

/// What was declared, when nothing was found.
fn finish<'a, T>(
    file_name: &str,
    declared: Option<T>,
    mut findings: Findings<'a>,
    complete: impl FnOnce(&mut T, Findings<'a>),
) -> Result<T, Faults> {
    match declared {
        Some(mut declared) if findings.faults.is_empty() => {
            complete(&mut declared, findings);
            Ok(declared)
        }
        _ => {
            findings.never_empty();
            Err(findings.into_faults(file_name))
        }
    }
}
