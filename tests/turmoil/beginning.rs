//! How a world begins, before anything goes wrong: everybody enrolls and peers over the wire.

use std::rc::Rc;
use std::time::Duration;

use rand::Rng as _;

use crate::operator::Operator;
use crate::world::World;

/// How long the beginning may take.
const SETUP: Duration = Duration::from_secs(120);

impl World {
    /// Has an operator call something and waits for the answer.
    fn ask<T: 'static, F>(
        &mut self,
        controller: usize,
        what: &str,
        call: impl FnOnce(Operator) -> F + 'static,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, tonic::Status>> + 'static,
    {
        self.note(&format!("{what} at controller {controller}"));
        let answer = self.controllers[controller].call(call);
        let come = Rc::clone(&answer);
        self.until(what, SETUP, move |_| come.borrow().is_some());
        match answer.take() {
            Some(Ok(answer)) => Some(answer),
            Some(Err(status)) => {
                self.fail(format!("{what}: {}", status.message()));
                None
            }
            None => None,
        }
    }

    /// Enrolls the subclouds, makes the sites peers, and a group that they share, before anything
    /// goes wrong.
    pub(crate) fn set_up(&mut self) {
        self.until("controllers that serve", SETUP, |world| {
            let mut all = world.controllers.iter();
            all.all(|host| host.serving().is_some())
        });
        let token = self.ask(0, "a peering token", |operator| async move {
            operator.issue_peering("site-1".to_owned()).await
        });
        let Some(token) = token else { return };
        self.ask(1, "a peering", |operator| async move {
            operator.join_peer("site-0".to_owned(), token).await
        });
        for agent in 0..self.agents.len() {
            let name = self.agents[agent].host.name.clone();
            self.tokens[agent] = self.ask(0, "a token", |operator| async move {
                operator.add_subcloud(name).await
            });
            if let Some(token) = self.tokens[agent].clone().filter(|_| !self.late(agent)) {
                self.agents[agent].enroll(token);
            }
        }
        let token = self.ask(0, "a token for the stranger", |operator| async move {
            operator.add_subcloud("stranger".to_owned()).await
        });
        let Some(token) = token else { return };
        self.stranger.enroll(token);
        self.until("subclouds that are online", SETUP, |world| {
            let mut all = (0..world.agents.len()).filter(|agent| !world.late(*agent));
            all.all(|agent| world.agents[agent].state().online)
        });
        self.until("the stranger's refusal", SETUP, |world| {
            world.stranger.refusal().is_some()
        });
        let refusal = self.stranger.refusal().unwrap_or_default();
        if !refusal.contains("PRIMARY_FAMILY_MISMATCH") {
            self.fail(format!("the stranger was refused otherwise: {refusal}"));
        }
        self.share();
    }

    fn share(&mut self) {
        let enrolled = (0..self.agents.len()).filter(|agent| !self.late(*agent));
        let names = enrolled.map(|agent| self.agents[agent].host.name.clone());
        let mut members: Vec<String> = names.collect();
        for name in members.clone() {
            self.ask(0, "management", |operator| async move {
                operator.manage(name).await
            });
        }
        // In some worlds one stays out of the group.
        if self.rng.random_bool(0.3) {
            members.pop();
        }
        let most = self.rng.random_range(1..4);
        self.ask(0, "a shared group", move |operator| async move {
            operator.share(members, most, "site-1".to_owned()).await
        });
        self.until("peace", SETUP, |world| world.unfinished().is_empty());
        self.note("all is well");
    }
}
