//! The controller's own networks, which the site keeps beside its own.

use std::time::Duration;

use ipnet::IpNet;
use site::{Generation, Network, NetworkKind, Pool, Site, Timestamp};

use crate::entropy::{after, up_to};
use crate::{
    AgentMessage, ControllerNetworks, Entropy, Epoch, Fault, MAX_REPORT_SPREAD, NetworksAnswer,
    NetworksDigest,
};

use super::link::Link;
use super::{Agent, AgentOutput, Cause};

impl Agent {
    /// The controller tells its networks. They are taken over once its term is durable.
    pub(super) fn networks_told(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        epoch: Epoch,
        (told, report_within): (ControllerNetworks, Duration),
        out: &mut Vec<AgentOutput>,
    ) {
        if epoch < self.record.epoch || !self.link.is_welcomed() {
            return;
        }
        // No controller is without a link network.
        if report_within > MAX_REPORT_SPREAD || told.link.is_empty() {
            self.give_up(now, entropy, Cause::ProtocolViolation, out);
            return;
        }
        self.reporting.spread = report_within;
        match &mut self.link {
            Link::Adopting { networks, .. } => *networks = Some(told),
            _ => out.push(AgentOutput::ApplyNetworks(told)),
        }
    }

    /// The site has them: the controller hears so at once, and later of the whole site, for every
    /// other site has changed at the same moment. What else has changed does not wait for that.
    pub(super) fn networks_applied(
        &mut self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        networks: NetworksDigest,
        made: Option<Generation>,
        out: &mut Vec<AgentOutput>,
    ) {
        self.answer_networks(networks, Vec::new(), out);
        let next = self.site.generation().next();
        self.reporting.made = made.or(self.reporting.made);
        if made == Some(next) {
            let half = self.reporting.spread / 2;
            self.reporting.held = Some((next, after(now, half + up_to(entropy, half))));
        }
        if self.record.networks != Some(networks) {
            self.record.networks = Some(networks);
            self.persist(out);
        }
    }

    /// Another hand than the controller's has changed what the site keeps of its networks: from now
    /// on Hello names none, so that they are told again even if the link breaks before they are.
    pub(super) fn networks_lost(&mut self, next: &Site, out: &mut Vec<AgentOutput>) {
        let same = keeps(&self.site) == keeps(next);
        let own = self.reporting.made == Some(next.generation());
        if !same && !own && self.record.networks.take().is_some() {
            self.persist(out);
        }
    }

    /// Says what became of the controller's networks, if it is there to hear. If it is not, Hello
    /// names the ones that the site has, and it tells the present ones again.
    pub(super) fn answer_networks(
        &self,
        digest: NetworksDigest,
        faults: Vec<Fault>,
        out: &mut Vec<AgentOutput>,
    ) {
        let live = self.link.connection().filter(|_| self.link.is_live());
        let Some(connection) = live else {
            return;
        };
        out.push(AgentOutput::Send {
            connection,
            message: AgentMessage::NetworksAnswer(NetworksAnswer { digest, faults }),
        });
    }
}

/// What decides whether a site has what it keeps of the controller's networks.
fn keeps(site: &Site) -> [Option<IpNet>; 3] {
    let primary = |network: &Network| site.pool(network.pools().primary().pool).map(Pool::subnet);
    let kinds = [
        NetworkKind::SystemController,
        NetworkKind::SystemControllerOam,
    ];
    let [link, oam] = kinds.map(|kind| site.network(kind).and_then(primary));
    [link, oam, site.link_pool().map(Pool::subnet)]
}
