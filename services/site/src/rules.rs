//! The rules of every operation (section 3 of the site rules), one file per family of
//! operations. A rule looks at the site, refuses with all that it finds wrong, or answers a
//! draft of the next site; hosts, alarms and effects follow from the difference.

mod attach;
mod controller;
mod dns;
mod hosts;
mod networks;
mod oam;
mod pool_input;
mod pools;
mod refusal;

pub(crate) use attach::{assign_pool, remove_pool};
pub use controller::needs_no_route;
pub(crate) use controller::set_controller_networks;
pub(crate) use dns::modify_dns;
pub(crate) use hosts::{lock_host, report_applied, unlock_host};
pub(crate) use networks::{NewNetwork, add_network, delete_network};
pub(crate) use oam::modify_oam;
pub(crate) use pools::{add_pool, delete_pool, modify_pool};
