//! The rules of the fleet, as its callers see them.

mod admission;
mod alarms;
mod command;
mod common;
mod index;
mod life;
mod link;
mod networks;
mod own_site;
mod peers;
mod properties;
mod reach;
mod renewal;
mod restore;
mod rollout;
mod strangers;
