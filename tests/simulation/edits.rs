//! Operators who change and delete subclouds while everything goes wrong, and who install hosts
//! anew: a deleted subcloud never comes back, and what was said of one stays.

use std::collections::BTreeMap;

use fleet::{
    Actor, Answer, FleetChange, Input, Operate, ReasonSet, Rejection, RequestId, SubcloudEdit,
    SubcloudId,
};
use rand::Rng;

use crate::world::{Happening, OperatorStep, World};

/// How often an operator tries to delete a subcloud that others manage again.
const MAX_TRIES: u32 = 10;

/// What operators do to subclouds that are there.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// The calls that wait for the present life of the controller.
    waiting: BTreeMap<RequestId, (usize, Edit)>,
    /// The next text; each is said once, in this order.
    text: u64,
    /// How often a deletion was tried.
    tries: BTreeMap<usize, u32>,
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    Describe {
        text: u64,
    },
    Manage,
    Unmanage,
    /// It is unmanaged, deleted, installed anew, and added again.
    Delete {
        id: Option<SubcloudId>,
    },
}

impl World {
    /// Draws what operators will do. Whoever has a copy is left to those who look for copies.
    pub(crate) fn plan_edits(&mut self) {
        for _ in 0..self.rng.random_range(0..8) {
            let agent = self.rng.random_range(0..self.agents.len());
            let at = self.rng.random_range(10_000..self.faults_until);
            let happening = match self.rng.random_range(0..8) {
                0..3 => Happening::Edit {
                    agent,
                    edit: Edit::Describe { text: 0 },
                },
                3 => Happening::Edit {
                    agent,
                    edit: Edit::Manage,
                },
                4 => Happening::Edit {
                    agent,
                    edit: Edit::Unmanage,
                },
                5 => Happening::Reinstalled { agent },
                _ => Happening::Edit {
                    agent,
                    edit: Edit::Delete { id: None },
                },
            };
            self.at(at, happening);
        }
    }

    pub(crate) fn edit(&mut self, agent: usize, edit: Edit) {
        if self.controller.machine.is_none() {
            return self.edit_again(agent, edit);
        }
        match edit {
            Edit::Describe { .. } => {
                self.edits.text += 1;
                let text = self.edits.text;
                let edit = SubcloudEdit {
                    description: Some(text.to_string()),
                    ..SubcloudEdit::default()
                };
                let change = FleetChange::Update {
                    subcloud: self.agents[agent].name().to_owned(),
                    etag: String::new(),
                    edit,
                };
                self.operate(agent, Edit::Describe { text }, change);
            }
            Edit::Manage => {
                let (subcloud, force) = (self.agents[agent].name().to_owned(), true);
                self.operate(agent, edit, FleetChange::Manage { subcloud, force });
            }
            Edit::Unmanage => {
                let subcloud = self.agents[agent].name().to_owned();
                self.operate(agent, edit, FleetChange::Unmanage { subcloud });
            }
            Edit::Delete { .. } => self.delete(agent),
        }
    }

    fn delete(&mut self, agent: usize) {
        let node = &self.agents[agent];
        if self.has_copy(node) || node.refused.is_some() {
            return;
        }
        let subcloud = node.name().to_owned();
        let machine = self.controller.machine.as_ref();
        let known = machine.and_then(|machine| machine.fleet().find(&subcloud));
        let Some(id) = known.map(|record| record.id) else {
            return;
        };
        let unmanage = FleetChange::Unmanage {
            subcloud: subcloud.clone(),
        };
        self.operate(agent, Edit::Unmanage, unmanage);
        self.oracle.may_go(id);
        let change = FleetChange::Delete {
            subcloud,
            etag: String::new(),
        };
        self.operate(agent, Edit::Delete { id: Some(id) }, change);
    }

    fn operate(&mut self, agent: usize, edit: Edit, change: FleetChange) {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.note(70, || format!("operator: {change:?}"));
        self.edits.waiting.insert(request, (agent, edit));
        let call = Operate {
            request,
            actor: Actor::Operator("uid=0".to_owned()),
            change,
            key: None,
            validate_only: false,
        };
        self.tell_controller(Input::Operate(call));
    }

    /// Whether the answer was one to an edit; what it says must be so.
    pub(crate) fn edit_answered(
        &mut self,
        request: RequestId,
        outcome: &Result<Answer, Rejection>,
    ) -> bool {
        let Some((agent, edit)) = self.edits.waiting.remove(&request) else {
            return false;
        };
        match (edit, outcome) {
            (Edit::Describe { text }, Ok(Answer::Subcloud(receipt))) => {
                self.oracle.is_said(receipt.subcloud.id, text);
            }
            (Edit::Delete { id: Some(id) }, Ok(_)) => {
                self.oracle.is_gone(id);
                self.gone(agent);
            }
            (Edit::Delete { .. }, Err(rejection)) => {
                let reason = rejection.first().reason.name();
                self.note(71, || format!("subcloud of agent {agent} stays: {reason}"));
                if reason == "SUBCLOUD_MANAGED" {
                    self.edit_again(agent, edit);
                }
            }
            _ => {}
        }
        self.check_records();
        true
    }

    /// The subcloud is gone: its host is installed anew, and it is added again.
    fn gone(&mut self, agent: usize) {
        let node = &mut self.agents[agent];
        if node.refused.is_some() && !node.anew {
            return;
        }
        node.refused = None;
        self.reinstall(agent);
        let step = OperatorStep::Add;
        self.after(1000, Happening::Operator { agent, step });
    }

    /// The controller crashed: its callers know nothing.
    pub(crate) fn edits_broken(&mut self) {
        for (agent, edit) in std::mem::take(&mut self.edits.waiting).into_values() {
            self.find_out(agent, edit);
        }
    }

    /// No answer came: is the subcloud deleted?
    fn find_out(&mut self, agent: usize, edit: Edit) {
        let Edit::Delete { id: Some(id) } = edit else {
            return;
        };
        if self.controller.disk.durable.subclouds.contains_key(&id) {
            self.edit_again(agent, edit);
        } else {
            self.oracle.is_gone(id);
            self.gone(agent);
        }
    }

    fn edit_again(&mut self, agent: usize, edit: Edit) {
        let tries = self.edits.tries.entry(agent).or_default();
        *tries += 1;
        if *tries < MAX_TRIES {
            let wait = self.rng.random_range(500..8_000);
            self.after(wait, Happening::Edit { agent, edit });
        }
    }
}
