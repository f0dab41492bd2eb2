//! How everything must be when nothing goes wrong.

use fleet::{AssociationState, Availability};

use crate::world::World;

impl World {
    /// What is not yet as it must be once nothing goes wrong any more.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let mut left = Vec::new();
        for index in 0..self.agents.len() {
            // It may not have been given its token yet.
            if self.late(index) && self.now() < self.faults_until {
                continue;
            }
            let problem = self.problem_of(index);
            left.extend(problem.map(|why| format!("subcloud {index}: {why}")));
        }
        for index in 0..self.controllers.len() {
            let problem = self.controller_problem(index);
            left.extend(problem.map(|why| format!("controller {index}: {why}")));
        }
        left
    }

    fn problem_of(&self, index: usize) -> Option<String> {
        let host = &self.agents[index];
        let state = host.state();
        let Some(disk) = host.disk() else {
            return Some("is not running".to_owned());
        };
        let Some(record) = self.oracle.agent(index) else {
            let why = host.refusal().unwrap_or_default();
            return Some(format!("has not enrolled: {why}"));
        };
        if !state.online {
            return Some("is offline".to_owned());
        }
        if state.acknowledged != Some(disk.keeper().site().generation()) {
            return Some("is not in sync".to_owned());
        }
        let Some(owner) = self.owner_of(index) else {
            return Some("obeys nobody that is known".to_owned());
        };
        let Some(serving) = self.controllers[owner].serving() else {
            return Some("obeys a site that is down".to_owned());
        };
        let seen = serving.look(|machine| {
            let held = machine.fleet().subcloud(record.subcloud)?;
            let epoch = held.enrolled()?.epoch;
            if !held.owned_here() || epoch != record.epoch || !held.geo.confirmed {
                return None;
            }
            (machine.presence(record.subcloud).availability == Availability::Online)
                .then(|| held.clone())
        });
        let Some(held) = seen else {
            return Some(format!(
                "is not seen online by controller {owner}, its owner"
            ));
        };
        let other = 1 - owner;
        let alternates = record.alternates.controllers.len();
        if alternates != usize::from(held.geo.group.is_some()) {
            return Some(format!("knows {alternates} other controllers to turn to"));
        }
        held.geo.group?;
        let copy = self.oracle.records(other);
        let copy = copy.and_then(|known| known.subclouds.iter().find(|r| r.id == held.id));
        let right = copy.is_some_and(|copy| {
            copy.geo.owner == Some(record.owner)
                && copy.geo.group == held.geo.group
                && copy.description == held.description
                && copy.management == held.management
                && copy.enrolled().map(|known| known.epoch) == Some(record.epoch)
        });
        (!right).then(|| format!("is not known as a member by controller {other}"))
    }

    fn controller_problem(&self, index: usize) -> Option<String> {
        let Some(serving) = self.controllers[index].serving() else {
            return Some("is not running".to_owned());
        };
        serving.look(|machine| {
            for peer in machine.system_peers() {
                if !machine.peer_view(peer).synchronising {
                    return Some(format!("{} is not synchronised with", peer.name));
                }
            }
            if machine.system_peers().len() == 0 || machine.associations().len() == 0 {
                return Some("shares nothing".to_owned());
            }
            for association in machine.associations() {
                let view = machine.association_view(association);
                if view.state != AssociationState::InSync {
                    let (state, message) = (view.state, &view.message);
                    return Some(format!("an association is {state:?}: {message}"));
                }
            }
            let runs = |migration: &fleet::Migration| migration.running();
            let mut groups = machine.peer_groups();
            groups
                .any(|group| group.migration.as_ref().is_some_and(runs))
                .then(|| "a migration runs".to_owned())
        })
    }
}
