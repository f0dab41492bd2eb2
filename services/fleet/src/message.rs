//! What agents and controllers say to each other over a link. The `api` crate turns these into
//! protobuf; cutting big messages, reports and commands, into pieces is the wire's business.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use site::{Digest, Generation, NetworkKind, Pool, Range, Site, SiteParts, SoftwareVersion};

use crate::{
    Command, CommandResult, ControllerId, Endpoint, Epoch, Fault, Fingerprint, InstanceId,
    KnownController, LinkNetwork, NetworksDigest,
};

/// From an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentMessage {
    /// The first message of a link.
    Hello(Hello),
    /// The whole state of the site.
    Report(Report),
    /// Still here.
    Heartbeat,
    /// What a command came to.
    CommandResult(CommandResult),
    /// The certificate is at half of its life: another one is asked for.
    CertificateRequest(CertificateRequest),
    /// What became of the controller's networks.
    NetworksAnswer(NetworksAnswer),
}

/// From a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControllerMessage {
    /// The answer to Hello.
    Welcome(Welcome),
    /// The report with this digest is durable.
    ReportAccepted {
        /// The generation of the site.
        generation: Generation,
        /// The digest of the report.
        digest: Digest,
    },
    /// The report breaks the rules; what was accepted before stays.
    ReportRefused {
        /// The generation of the site.
        generation: Generation,
        /// The digest of the report.
        digest: Digest,
        /// Every rule that it breaks.
        faults: Vec<Fault>,
    },
    /// The controller's own networks, which the site keeps as its system-controller networks.
    Networks {
        /// The term in which they are told.
        epoch: Epoch,
        /// What they are.
        networks: ControllerNetworks,
        /// Within what time the agent reports its site with them, at a moment of the second half
        /// that it draws: a fleet that is told at once would report at once, and before all have
        /// answered. At most [`MAX_REPORT_SPREAD`].
        report_within: Duration,
    },
    /// Where the agent may turn when it has lost its owner changed.
    Alternates {
        /// The term in which they are told.
        epoch: Epoch,
        /// What they are.
        alternates: Alternates,
    },
    /// A refused report may be right by now: report again.
    ReportWanted,
    /// The answer to a heartbeat.
    Heartbeat,
    /// Something for the site to do.
    Command(Command),
    /// The certificate that was asked for. Its key is durable at the controller.
    Certificate(GrantedCertificate),
    /// The controller ends the link.
    Goodbye(Goodbye),
}

/// Who an agent is and what it has. Its identity is that of its certificate and is not said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What the agent runs.
    pub software_version: SoftwareVersion,
    /// What it can do beyond the first version of the protocol, by name.
    pub features: BTreeSet<String>,
    /// Whom it obeys.
    pub owner: ControllerId,
    /// In which term.
    pub epoch: Epoch,
    /// For how long its owner has not been heard, when that is longer than the failover time and
    /// the owner was tried since; only ever said to other controllers.
    pub owner_lost: Option<Duration>,
    /// The generation of its site.
    pub generation: Generation,
    /// The digest of its site.
    pub digest: Digest,
    /// The controller's networks that it has applied.
    pub networks: Option<NetworksDigest>,
    /// How often the certificate of this connection has been renewed; 0 for the one that the
    /// enrollment gave.
    pub renewals: u64,
    /// The process that speaks.
    pub instance: InstanceId,
    /// The number of this connection among those of the process, the first being 1; 0 when the
    /// agent does not count.
    pub connection: u64,
}

/// A fresh key, and the proof that the agent has its private half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The key. On the controller's side it is read from the request whose signature was
    /// checked, never from what the agent says.
    pub key: Fingerprint,
    /// The certificate signing request (PKCS#10, DER); only the identity crate can read it.
    pub csr: Vec<u8>,
}

/// A renewed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedCertificate {
    /// The certificate (DER); only the identity crate can read it.
    pub certificate: Vec<u8>,
    /// How long it is valid from now on: a duration, for the clocks of two sites differ.
    pub validity: Duration,
}

/// What became of the controller's networks at a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworksAnswer {
    /// The networks that were told.
    pub digest: NetworksDigest,
    /// Why the site does not take them; empty when they are part of it, durably.
    pub faults: Vec<Fault>,
}

/// The longest time within which the reports of a change of the controller's networks come.
pub const MAX_REPORT_SPREAD: Duration = Duration::from_secs(60);

/// The whole state of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Names this state; the agent computes it.
    pub digest: Digest,
    /// The site, unchecked.
    pub site: Arc<SiteParts>,
}

impl Report {
    /// Of a site as it is.
    pub fn of(site: &Site) -> Self {
        Self {
            digest: site.digest(),
            site: Arc::new(site.to_parts()),
        }
    }
}

/// What an agent is to do from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Who speaks.
    pub controller: ControllerId,
    /// In which term.
    pub epoch: Epoch,
    /// How often the agent sends a heartbeat; from 1 s to 10 min.
    pub heartbeat_interval: Duration,
    /// Whether the controller lacks the state that Hello named.
    pub report_needed: bool,
    /// Whether the first heartbeat shall come at once: the controller has heard of two processes
    /// of this subcloud and wants to know which of them are alive.
    pub answer_at_once: bool,
    /// Where to find this controller, the preferred endpoint first; never empty.
    pub controllers: Vec<Endpoint>,
    /// Where the agent may turn when it has lost this one.
    pub alternates: Alternates,
}

/// Where an agent may turn when it has lost its owner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alternates {
    /// Other controllers, in order of preference; empty when the subcloud is in no group that is
    /// shared. At most [`MAX_ALTERNATES`].
    pub controllers: Vec<KnownController>,
    /// For how long the owner must be lost before another one is tried ([`FAILOVER_BOUNDS`]).
    pub failover: Duration,
}

/// How many other controllers an agent keeps: each may name a few endpoints.
pub const MAX_ALTERNATES: usize = 64;

/// The default failover time: three missed heartbeats of 10 s, one attempt to connect that times
/// out (10 s), and some seconds.
pub const FAILOVER: Duration = Duration::from_secs(45);

/// The bounds of the failover time: below, a controller that restarts would lose its subclouds;
/// above, nobody would call it failover.
pub const FAILOVER_BOUNDS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(24 * 60 * 60);

/// Why a link ends, and where to go instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    /// Why.
    pub reason: GoodbyeReason,
    /// Where to go instead; empty means the same controllers as before.
    pub controllers: Vec<Endpoint>,
    /// Who is or will be the owner, with [`GoodbyeReason::NotOwner`] and
    /// [`GoodbyeReason::Moved`]; may be empty with the first, when that is not known.
    pub owners: Vec<KnownController>,
}

/// Why a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GoodbyeReason {
    /// The controller stops or restarts; come back.
    ShuttingDown,
    /// A newer link of the same subcloud has taken over.
    Superseded,
    /// The certificate is not, or no longer, that of an enrolled subcloud.
    Revoked,
    /// The connection does not come over the primary family.
    WrongFamily,
    /// No Hello came in time.
    HelloTimeout,
    /// Nothing was heard for three heartbeats.
    HeartbeatsMissed,
    /// A message was out of turn or could not be understood.
    ProtocolViolation,
    /// This controller does not own the subcloud.
    NotOwner,
    /// This controller owns the subcloud and hands it over to another one.
    Moved,
    /// Somebody else has this identity too; both are shut out until an operator decides.
    IdentityCloned,
}

/// The controller's networks as its subclouds keep them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ControllerNetworks {
    /// The pools of its link network, primary first: `system-controller` at the subcloud.
    pub link: Vec<ControllerPool>,
    /// The pools of its oam network, primary first: `system-controller-oam` at the subcloud.
    pub oam: Vec<ControllerPool>,
}

/// A pool of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerPool {
    /// The subnet.
    pub subnet: IpNet,
    /// The ranges, sorted and disjoint.
    pub ranges: Vec<Range>,
    /// The floating address.
    pub floating: Option<IpAddr>,
    /// The gateway.
    pub gateway: Option<IpAddr>,
}

impl ControllerMessage {
    /// Whether rollouts have to look at the subcloud again once this is said: commands can go out
    /// after a welcome, and an accepted report tells more of its site.
    pub fn stirs(&self) -> bool {
        matches!(self, Self::Welcome(_) | Self::ReportAccepted { .. })
    }
}

impl GoodbyeReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::ShuttingDown,
        Self::Superseded,
        Self::Revoked,
        Self::WrongFamily,
        Self::HelloTimeout,
        Self::HeartbeatsMissed,
        Self::ProtocolViolation,
        Self::NotOwner,
        Self::Moved,
        Self::IdentityCloned,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Superseded => "SUPERSEDED",
            Self::Revoked => "REVOKED",
            Self::WrongFamily => "WRONG_FAMILY",
            Self::HelloTimeout => "HELLO_TIMEOUT",
            Self::HeartbeatsMissed => "HEARTBEATS_MISSED",
            Self::ProtocolViolation => "PROTOCOL_VIOLATION",
            Self::NotOwner => "NOT_OWNER",
            Self::Moved => "MOVED",
            Self::IdentityCloned => "IDENTITY_CLONED",
        }
    }
}

impl Goodbye {
    /// Ends a link without naming another controller.
    pub fn because(reason: GoodbyeReason) -> Self {
        Self {
            reason,
            controllers: Vec::new(),
            owners: Vec::new(),
        }
    }

    /// Ends a link and names who is or will be the owner.
    pub fn towards(reason: GoodbyeReason, owners: Vec<KnownController>) -> Self {
        Self {
            owners,
            ..Self::because(reason)
        }
    }
}

impl ControllerNetworks {
    /// What a controller tells of its own site.
    pub fn of(site: &Site) -> Self {
        let pools = |network: Option<&site::Network>| -> Vec<ControllerPool> {
            network
                .into_iter()
                .flat_map(|network| network.pools().iter())
                .filter_map(|(_, attachment)| site.pool(attachment.pool))
                .map(ControllerPool::of)
                .collect()
        };
        Self {
            link: pools(site.link_network()),
            oam: pools(site.network(NetworkKind::Oam)),
        }
    }

    /// Whether a site has what it keeps of these: the primary subnets, that of the link only where
    /// it needs a route to it. `link` is the site's own link network.
    pub fn kept_by(&self, site: &SiteParts, link: Option<&LinkNetwork>) -> bool {
        let primary = |pools: &[ControllerPool]| pools.first().map(|pool| pool.subnet);
        let on_link =
            |told: &IpNet| link.is_some_and(|own| site::needs_no_route(own.primary.subnet, *told));
        [
            (
                NetworkKind::SystemController,
                primary(&self.link).filter(|told| !on_link(told)),
            ),
            (NetworkKind::SystemControllerOam, primary(&self.oam)),
        ]
        .into_iter()
        .all(|(kind, wanted)| site.primary_subnet(kind) == wanted)
    }

    /// Names exactly these networks. Every value is hashed with its length or in fixed width, so
    /// that two different networks cannot hash alike.
    pub fn digest(&self) -> NetworksDigest {
        let mut hash = Sha256::new();
        for pools in [&self.link, &self.oam] {
            count(&mut hash, pools.len());
            for pool in pools {
                let ControllerPool {
                    subnet,
                    ranges,
                    floating,
                    gateway,
                } = pool;
                address(&mut hash, Some(subnet.network()));
                hash.update([subnet.prefix_len()]);
                count(&mut hash, ranges.len());
                for range in ranges {
                    address(&mut hash, Some(range.first()));
                    address(&mut hash, Some(range.last()));
                }
                address(&mut hash, *floating);
                address(&mut hash, *gateway);
            }
        }
        NetworksDigest(hash.finalize().into())
    }
}

impl ControllerPool {
    fn of(pool: &Pool) -> Self {
        Self {
            subnet: pool.subnet(),
            ranges: pool.ranges().to_vec(),
            floating: pool.addresses().floating,
            gateway: pool.addresses().gateway,
        }
    }
}

fn count(hash: &mut Sha256, length: usize) {
    hash.update(u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
}

fn address(hash: &mut Sha256, address: Option<IpAddr>) {
    match address {
        None => hash.update([0]),
        Some(IpAddr::V4(address)) => {
            hash.update([4]);
            hash.update(address.octets());
        }
        Some(IpAddr::V6(address)) => {
            hash.update([6]);
            hash.update(address.octets());
        }
    }
}
