//! Changes of a site: every rule with its reason, the effects as text, and the invariants under
//! random sequences of requests.

mod commands;
mod controller;
mod effects;
mod etag;
mod fixture;
mod hosts;
mod parts;
mod properties;
mod refusals;
