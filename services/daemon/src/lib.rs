//! What the system controller and the subcloud agent share: the state directory, the site kept
//! in it, the operators' listeners, and the life of a process.
//!
//! No rule lives here. [`SiteKeeper`] is the one place where a site has a lock: it plans with
//! the pure core, makes the result durable, and only then lets anybody see it.

mod access;
mod bounded;
mod clock;
mod counts;
mod deadline;
mod exit;
mod grpc;
mod history;
mod http2;
mod install;
mod keeper;
mod known_operators;
mod life;
mod logs;
mod metadata;
mod network;
mod operators;
mod pieces;
mod remote;
mod requests;
pub mod roles;
mod state_dir;
mod transport;
mod witness;

pub use access::Caller;
pub use bounded::{Bounded, Oversize};
pub use clock::{Moment, follow, now};
pub use counts::CountBy;
pub use exit::{Exit, Failure, VERSION, defect, fatal, usage};
pub use http2::{Misconduct, converse};
pub use install::{install, read_bootstrap};
pub use keeper::{Call, Neighbours, SiteKeeper};
pub use known_operators::{KnownOperator, KnownOperators};
pub use life::{Life, SystemEntropy, random_uuid, ready};
pub use logs::{LogOptions, Logs};
pub use metadata::metadata_fits;
pub use network::{Network, PlayedNetwork, PlayedStream};
pub use operators::{
    Desk, MAX_OPERATOR_MESSAGE_BYTES, OperatorListeners, OperatorOptions, OperatorTraffic, Tls,
    bind_tcp, cannot_accept,
};
pub use pieces::Pieces;
pub use remote::{OwnSite, RemoteAnswer, RemoteCall, SUBCLOUD_METADATA, Subclouds};
pub use requests::{SecretAnswers, fingerprint};

pub use state_dir::{
    StateDirError, create_state_dir, open_store, read_site, read_site_of, site_write,
};
pub use transport::TransportError;
pub use witness::{Deed, Noted, Witness};
