//! Who is told of every call that changes something, or was not allowed to.

use std::fmt;
use std::pin::Pin;

use fleet::Fault;

use crate::Caller;

/// A call that was decided.
#[derive(Debug, Clone)]
pub struct Deed {
    /// Who asked.
    pub caller: Caller,
    /// The path of the method.
    pub path: &'static str,
    /// The subcloud that the metadata of the call names, by name or id: the call was for its site.
    pub subcloud: Option<String>,
    /// Whether no rule was asked: the role of the caller does not allow the call, or it cannot
    /// be read.
    pub unheard: bool,
    /// Whether it only asked what would happen; known of calls that the role does not allow.
    pub dry_run: bool,
    /// Why it was refused; empty when it was done.
    pub faults: Vec<Fault>,
}

/// Ends when the entry is on disk.
pub type Noted = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Keeps the audit log of a controller.
pub trait Witness: fmt::Debug + Send + Sync + 'static {
    /// Notes a deed. What is written by this process after the call returns is on disk only when
    /// the entry is, so that a change never gets there without its entry.
    fn note(&self, deed: Deed) -> Noted;
}
