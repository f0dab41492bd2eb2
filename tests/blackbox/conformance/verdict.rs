//! Holds what the model decides against what was recorded.

use std::collections::BTreeSet;

use serde_json::Value;
use site::{
    Change, Code, Effect, KubernetesStep, NetworkEffect, NetworkKind, Plan, PoolChange, PoolParts,
    ReasonSet as _, Rejection, Site, Stack, Timestamp, plan,
};

use super::recorded::{Sequence, entries, pool_parts, text};
use super::request::{self, Request};

/// What came of one request.
pub(super) enum Verdict {
    /// Ours decides, changes and does what was recorded.
    Agreed,
    /// Ours differs by a rule of ours, which is named.
    Deliberate(String),
    /// There is nothing to hold it against, for this reason.
    LeftOut(String),
    /// Ours differs without a reason.
    Disagreed(String),
}

/// Decides a recorded request anew and compares.
pub(super) fn of(sequence: &Sequence, line: &Value) -> Verdict {
    let expected = text(line, "expected");
    if expected == "any" {
        let why = text(line, "why");
        let why = if why.is_empty() {
            "nothing to compare"
        } else {
            why
        };
        return Verdict::LeftOut(why.to_owned());
    }
    let site = sequence
        .parts()
        .and_then(|parts| Site::from_parts(parts).ok());
    let Some(site) = site else {
        return Verdict::LeftOut("a state before it that our types cannot hold".into());
    };
    let ours = match request::of(line) {
        Request::Read => return Verdict::LeftOut("reads only".into()),
        Request::RefusedAtEdge(why) => Err(Refused::AtEdge(why)),
        Request::Change(change) => decide(&site, *change),
    };
    match (expected, ours) {
        ("accept", Ok(plan)) => accepted(sequence, line, &site, &plan),
        ("reject", Err(refused)) => rejected(line, &refused),
        ("accept", Err(Refused::ByRule(rejection))) if is_mapped(&rejection) => {
            Verdict::Deliberate("IPv4-mapped addresses are refused with advice (O)".into())
        }
        ("accept", Err(refused)) => {
            Verdict::Disagreed(format!("recorded accepted, ours refuses: {refused}"))
        }
        ("reject", Ok(_)) => {
            let cause = text(line, "cause");
            Verdict::Disagreed(format!("expected a refusal {cause}, ours accepts"))
        }
        (other, _) => Verdict::Disagreed(format!("unknown expectation {other:?}")),
    }
}

fn decide(site: &Site, change: Change) -> Result<Plan, Refused> {
    plan(site, change, Timestamp(0)).map_err(Refused::ByRule)
}

enum Refused {
    AtEdge(&'static str),
    ByRule(Rejection),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtEdge(why) => write!(f, "at the edge, {why}"),
            Self::ByRule(rejection) => rejection.fmt(f),
        }
    }
}

/// Whether everything wrong is that addresses are IPv4 written as IPv6.
fn is_mapped(rejection: &Rejection) -> bool {
    let fault = |violation: &site::Violation| violation.metadata.get("addressFault").cloned();
    rejection
        .violations()
        .iter()
        .all(|it| fault(it).as_deref() == Some("IPV4_MAPPED"))
}

fn rejected(line: &Value, refused: &Refused) -> Verdict {
    let recorded_refused = line["status"].as_u64().is_none_or(|status| status >= 300);
    let why = text(line, "why");
    if !recorded_refused {
        // They let it through and ours does not: the rule named must be the one that refuses.
        let rule = why.split(' ').next().unwrap_or_default();
        return match names(refused, rule) {
            Some(_) => Verdict::Deliberate(why.to_owned()),
            None => Verdict::Disagreed(format!("expected {why:?}, ours refuses: {refused}")),
        };
    }
    let cause = text(line, "cause");
    if cause.is_empty() || cause == "INVALID" {
        return Verdict::Agreed;
    }
    match names(refused, cause) {
        Some(0) => Verdict::Agreed,
        Some(_) => Verdict::Deliberate(format!("{cause} is reported after another reason")),
        None => Verdict::Disagreed(format!("recorded {cause}, ours refuses: {refused}")),
    }
}

/// The place of a reason among those of a refusal.
fn names(refused: &Refused, cause: &str) -> Option<usize> {
    let Refused::ByRule(rejection) = refused else {
        return None;
    };
    rejection
        .violations()
        .iter()
        .position(|violation| match cause {
            "NOT_FOUND" => violation.reason.code() == Code::NotFound,
            _ => violation.reason.name() == cause,
        })
}

fn accepted(sequence: &Sequence, line: &Value, before: &Site, plan: &Plan) -> Verdict {
    let (networks, free_pools) = sequence.after(line);
    let recorded = recorded_state(networks, free_pools);
    let ours = our_state(plan.next());
    if recorded != ours {
        let lost: Vec<_> = recorded.difference(&ours).collect();
        let new: Vec<_> = ours.difference(&recorded).collect();
        return Verdict::Disagreed(format!("recorded {lost:?}, ours {new:?}"));
    }
    let recorded: BTreeSet<String> = entries(&line["rpc"]).filter_map(recorded_work).collect();
    let ours = our_work(plan);
    if recorded == ours {
        return Verdict::Agreed;
    }
    if !sequence.installed() && ours.is_empty() {
        return Verdict::Deliberate("section 5: no run-time effects before installation".into());
    }
    let deletes_pool = text(line, "method") == "DELETE" && text(line, "resource") == "addrpools";
    if deletes_pool && recorded.is_empty() && ours.iter().eq(["storage"]) {
        let rule = "section 3: deleting a secondary has the effects of removing it";
        return Verdict::Deliberate(rule.into());
    }
    if !plan.changes_site() && ours.is_empty() {
        return Verdict::Deliberate("what changes nothing has no effects (O)".into());
    }
    let kept_single = recorded
        .iter()
        .all(|work| work.ends_with("converted to single"))
        && before.kubernetes() == site::Kubernetes::ConvertingToDual
        && ours.is_empty();
    if kept_single {
        return Verdict::Deliberate("I8: Kubernetes was never dual, nothing to convert".into());
    }
    Verdict::Disagreed(format!("recorded effects {recorded:?}, ours {ours:?}"))
}

/// One text per network and per pool: everything that is compared.
fn recorded_state(networks: &Value, free_pools: &Value) -> BTreeSet<String> {
    let mut state = BTreeSet::new();
    for network in entries(networks) {
        let pools: Vec<_> = entries(&network["pools"])
            .map(|pool| text(pool, "name"))
            .collect();
        let (kind, family) = (text(network, "type"), text(network, "primary_family"));
        state.insert(format!(
            "{kind} {} {family} {pools:?}",
            network["dynamic"] == true
        ));
        state.extend(entries(&network["pools"]).filter_map(recorded_pool));
    }
    state.extend(entries(free_pools).filter_map(recorded_pool));
    state
}

fn recorded_pool(pool: &Value) -> Option<String> {
    pool_parts(pool).map(|parts| shown(&parts))
}

fn our_state(site: &Site) -> BTreeSet<String> {
    let mut state: BTreeSet<String> = site.pools().map(|pool| shown(&pool.to_parts())).collect();
    for network in site.networks() {
        let pools = network
            .pools()
            .iter()
            .filter_map(|(_, end)| site.pool(end.pool));
        let pools: Vec<_> = pools.map(|pool| pool.name()).collect();
        let family = network.primary_family();
        state.insert(format!(
            "{} {} {family} {pools:?}",
            network.kind(),
            network.dynamic()
        ));
    }
    state
}

fn shown(pool: &PoolParts) -> String {
    let PoolParts {
        name,
        subnet,
        order,
        ranges,
        addresses,
        ..
    } = pool;
    format!("{name} {subnet} {order} {ranges:?} {addresses:?}")
}

/// A recorded run-time action in the words of [`our_work`]; `None` for what is not ours.
fn recorded_work(rpc: &Value) -> Option<String> {
    let arguments = &rpc["args"];
    let disable = arguments["disable"] == true;
    let family = arguments["family"].as_u64().unwrap_or_default();
    let to = if disable { "single" } else { "dual" };
    let host = text(arguments, "host").trim_start_matches("@host:");
    match text(rpc, "rpc") {
        "update_oam_config" => Some("oam".into()),
        "set_mgmt_network_reconfig_flag" | "update_mgmt_config" => Some("mgmt at unlock".into()),
        "update_mgmt_secondary_pool_config" => Some(format!("mgmt IPv{family} to {to}")),
        "update_admin_config" => Some(format!(
            "admin {host} {}",
            if disable { "gone" } else { "there" }
        )),
        "update_storage_net_config" => Some("storage".into()),
        "update_kubernetes_dual_stack_config" => {
            Some(format!("Kubernetes IPv{family} converted to {to}"))
        }
        _ => None,
    }
}

/// What our effects do at run time, per network; allocations, alarms and the like were not
/// recorded.
fn our_work(plan: &Plan) -> BTreeSet<String> {
    let mut work = BTreeSet::new();
    for effect in plan.effects() {
        match effect {
            Effect::ConfigureNetwork(on)
            | Effect::UnconfigureNetwork(on)
            | Effect::ApplyAtUnlock(on)
            | Effect::LockUnlockRequired(on) => network_work(plan, on, &mut work),
            Effect::ConvertKubernetes {
                step: KubernetesStep::RestartControlPlane,
                to,
                family,
                ..
            } => {
                work.insert(format!("Kubernetes {family} converted to {to}"));
            }
            _ => {}
        }
    }
    work
}

fn network_work(plan: &Plan, on: &NetworkEffect, work: &mut BTreeSet<String>) {
    match on.network {
        NetworkKind::Mgmt if plan.next().is_simplex() => {
            work.insert("mgmt at unlock".into());
        }
        NetworkKind::Mgmt => {
            let to = if on.change == PoolChange::Removed {
                Stack::Single
            } else {
                Stack::Dual
            };
            work.insert(format!("mgmt {} to {to}", on.family));
        }
        NetworkKind::Admin => {
            let there = plan.next().network(NetworkKind::Admin).is_some();
            let to = if there { "there" } else { "gone" };
            work.extend(on.hosts.iter().map(|host| format!("admin {host} {to}")));
        }
        other => {
            work.insert(other.to_string());
        }
    }
}
