//! The gRPC contract in Rust: generated messages, and the only place where they meet the
//! domain.
//!
//! * [`site_v1`], [`fleet_v1`], [`store_v1`]: generated from `proto/`.
//! * [`convert`]: wire and records to domain and back. Messages are taken apart in full, so a
//!   new field breaks the build until somebody has thought about it.
//! * [`status`]: the only mapping of a refusal to a gRPC status, and back for clients.
//!
//! No rule lives here: what is refused is decided by the pure crates.

pub mod access;
pub mod codec;
pub mod command;
pub mod convert;
pub mod mutation;
pub mod page;
pub mod pages;
pub mod preview;
pub mod status;

pub use generated::fleet::v1 as fleet_v1;
pub use generated::site::v1 as site_v1;
pub use generated::store::v1 as store_v1;

/// The commit that this was built from, or `unknown` outside a checkout.
pub const COMMIT: &str = env!("TANDEM_COMMIT");

/// The version and the commit, as `--version` shows them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TANDEM_COMMIT"), ")");

/// Every file descriptor, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The tree of modules that generated code expects: one per package segment.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated; the docs are in proto/"
)]
mod generated {
    pub mod site {
        pub mod v1 {
            tonic::include_proto!("tandem.site.v1");
            pub use crate::pages::ListAddressPoolsResponse;
        }
    }
    pub mod fleet {
        pub mod v1 {
            tonic::include_proto!("tandem.fleet.v1");
        }
    }
    pub mod store {
        pub mod v1 {
            tonic::include_proto!("tandem.store.v1");
        }
    }
}
