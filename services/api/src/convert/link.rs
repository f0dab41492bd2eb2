//! The messages of the link, and the pieces of reports and commands.

use std::sync::Arc;
use std::time::Duration;

use fleet::{
    AgentMessage, Alternates, CertificateRequest, ControllerId, ControllerMessage, Endpoint, Epoch,
    Fingerprint, Goodbye, GoodbyeReason, GrantedCertificate, Hello, InstanceId, KnownController,
    NetworksAnswer, NetworksDigest, Report, Welcome,
};
use prost::Message as _;
use site::{Digest, Generation};

use super::{
    Gathered, Malformed, command_from_wire, command_pieces, endpoint_from_url, fault_from_wire,
    fault_to_wire, faults_from_wire, networks_from_wire, networks_to_wire, parse_uuid,
    parse_version, parts_from_wire, parts_to_wire, result_from_wire, result_pieces,
};
use crate::fleet_v1 as wire;
use wire::exchange_request::Message as FromAgent;
use wire::exchange_response::Message as FromController;

/// The size of the pieces of a command or of its answer: few connections carry one.
pub(super) const CHUNK_BYTES: usize = 4 * 1024;

/// The size of the pieces of a report. Each fits into the buffer that a link has anyway
/// ([`crate::codec::READ_BUFFER_BYTES`]), so that a fleet which reports at once leaves the
/// controller with no larger ones.
const REPORT_CHUNK_BYTES: usize = 832;

/// The largest report: 1 MiB, some 10,000 allocated addresses.
pub const MAX_REPORT_BYTES: usize = 1024 * 1024;

/// One message of an agent as the pieces that go over the wire.
pub fn agent_message_to_wire(message: &AgentMessage) -> Vec<wire::ExchangeRequest> {
    let one = |message| {
        vec![wire::ExchangeRequest {
            message: Some(message),
        }]
    };
    match message {
        AgentMessage::Hello(hello) => one(FromAgent::Hello(hello_to_wire(hello))),
        AgentMessage::Heartbeat => one(FromAgent::Heartbeat(wire::Heartbeat {})),
        AgentMessage::Report(report) => chunks(report),
        AgentMessage::CommandResult(result) => result_pieces(result),
        AgentMessage::CertificateRequest(CertificateRequest { key: _, csr }) => {
            one(FromAgent::CertificateRequest(wire::CertificateRequest {
                certificate_signing_request: csr.clone(),
            }))
        }
        AgentMessage::NetworksAnswer(NetworksAnswer { digest, faults }) => one(
            FromAgent::ControllerNetworksAnswer(wire::ControllerNetworksAnswer {
                digest: digest.0.to_vec(),
                violations: faults.iter().map(fault_to_wire).collect(),
            }),
        ),
    }
}

/// Whether a controller takes a report: whether its pieces come to no more than
/// [`MAX_REPORT_BYTES`].
pub fn report_fits(report: &Report) -> bool {
    // The weight is never less, and is told without building the message.
    report.site.weight() <= MAX_REPORT_BYTES
        || parts_to_wire(&report.site).encoded_len() <= MAX_REPORT_BYTES
}

fn chunks(report: &Report) -> Vec<wire::ExchangeRequest> {
    let Report { digest, site } = report;
    let encoded = parts_to_wire(site).encode_to_vec();
    let count = encoded.len().div_ceil(REPORT_CHUNK_BYTES);
    let pieces = encoded
        .chunks(REPORT_CHUNK_BYTES)
        .enumerate()
        .map(|(index, data)| {
            let chunk = wire::ReportChunk {
                generation: site.generation.0,
                digest: digest.0.to_vec(),
                data: data.to_vec(),
                last: index + 1 == count,
            };
            wire::ExchangeRequest {
                message: Some(FromAgent::ReportChunk(chunk)),
            }
        });
    pieces.collect()
}

/// The key that a certificate signing request proves to have, or why it does not.
pub type ProvenKey = fn(&[u8]) -> Result<Fingerprint, String>;

/// Puts the messages of one link together again.
#[derive(Debug)]
pub struct AgentMessages {
    partial: Option<(Vec<u8>, Vec<u8>)>,
    result: Gathered,
    proven_key: ProvenKey,
}

impl AgentMessages {
    /// For a link that begins; `proven_key` checks the requests for certificates.
    pub fn new(proven_key: ProvenKey) -> Self {
        Self {
            partial: None,
            result: Gathered::default(),
            proven_key,
        }
    }

    /// Takes the next piece; a message when it is complete.
    ///
    /// # Errors
    /// What cannot be understood; the link must end then.
    pub fn take(
        &mut self,
        piece: wire::ExchangeRequest,
    ) -> Result<Option<AgentMessage>, Malformed> {
        let message = piece
            .message
            .ok_or_else(|| Malformed::new("message", "is missing"))?;
        if self.partial.is_some() && !matches!(message, FromAgent::ReportChunk(_)) {
            return Err(Malformed::new(
                "message",
                "came between the pieces of a report",
            ));
        }
        if self.result.is_begun() && !matches!(message, FromAgent::CommandResultChunk(_)) {
            return Err(Malformed::new(
                "message",
                "came between the pieces of a command's answer",
            ));
        }
        match message {
            FromAgent::Hello(hello) => hello_from_wire(hello).map(|h| Some(AgentMessage::Hello(h))),
            FromAgent::Heartbeat(wire::Heartbeat {}) => Ok(Some(AgentMessage::Heartbeat)),
            FromAgent::ReportChunk(chunk) => self.chunk(chunk),
            FromAgent::CommandResultChunk(wire::CommandResultChunk { data, last }) => {
                let whole = self.result.take("command_result_chunk.data", &data, last)?;
                let result = whole.map(|whole| result_from_wire(&whole)).transpose()?;
                Ok(result.map(AgentMessage::CommandResult))
            }
            FromAgent::CertificateRequest(request) => self.certificate_request(request).map(Some),
            FromAgent::ControllerNetworksAnswer(answer) => networks_answer(&answer).map(Some),
        }
    }

    fn certificate_request(
        &self,
        request: wire::CertificateRequest,
    ) -> Result<AgentMessage, Malformed> {
        let wire::CertificateRequest {
            certificate_signing_request: csr,
        } = request;
        let key = (self.proven_key)(&csr).map_err(|problem| {
            Malformed::new("certificate_request.certificate_signing_request", problem)
        })?;
        Ok(AgentMessage::CertificateRequest(CertificateRequest {
            key,
            csr,
        }))
    }

    fn chunk(&mut self, chunk: wire::ReportChunk) -> Result<Option<AgentMessage>, Malformed> {
        let wire::ReportChunk {
            generation: _,
            digest,
            data,
            last,
        } = chunk;
        let (first_digest, mut bytes) = self
            .partial
            .take()
            .unwrap_or_else(|| (digest.clone(), Vec::new()));
        if first_digest != digest {
            return Err(Malformed::new(
                "report_chunk.digest",
                "changed within one report",
            ));
        }
        if bytes.len() + data.len() > MAX_REPORT_BYTES {
            return Err(Malformed::new(
                "report_chunk.data",
                "makes the report exceed 1 MiB",
            ));
        }
        bytes.extend_from_slice(&data);
        if !last {
            self.partial = Some((digest, bytes));
            return Ok(None);
        }
        let site = crate::site_v1::Site::decode(bytes.as_slice())
            .map_err(|error| Malformed::new("report_chunk.data", error.to_string()))?;
        let report = report_from_wire(&site, &digest).map_err(in_one)?;
        Ok(Some(AgentMessage::Report(report)))
    }
}

fn networks_answer(answer: &wire::ControllerNetworksAnswer) -> Result<AgentMessage, Malformed> {
    let wire::ControllerNetworksAnswer { digest, violations } = answer;
    Ok(AgentMessage::NetworksAnswer(NetworksAnswer {
        digest: NetworksDigest(bytes32("controller_networks_answer.digest", digest)?),
        faults: faults_from_wire(violations),
    }))
}

/// A whole report, unchecked.
///
/// # Errors
/// Every field that cannot be read at all, those of the site behind `site.`.
pub fn report_from_wire(
    site: &crate::site_v1::Site,
    digest: &[u8],
) -> Result<Report, Vec<Malformed>> {
    let within_site =
        |fault: Malformed| Malformed::new(format!("site.{}", fault.path), fault.problem);
    match (parts_from_wire(site), bytes32("digest", digest)) {
        (Ok(parts), Ok(digest)) => Ok(Report {
            digest: Digest(digest),
            site: Arc::new(parts),
        }),
        (parts, digest) => {
            let faults = parts.err().unwrap_or_default().into_iter().map(within_site);
            Err(faults.chain(digest.err()).collect())
        }
    }
}

/// What is wrong with a report, for an end of a link that takes one fault. The first few fields
/// tell enough of a peer that writes another language.
fn in_one(faults: Vec<Malformed>) -> Malformed {
    const SHOWN: usize = 8;
    let all = faults.iter().take(SHOWN).map(ToString::to_string);
    Malformed::new("report_chunk.data", all.collect::<Vec<_>>().join("; "))
}

fn hello_to_wire(hello: &Hello) -> wire::Hello {
    let Hello {
        software_version,
        features,
        owner,
        epoch,
        owner_lost,
        generation,
        digest,
        networks,
        renewals,
        instance,
        connection,
    } = hello;
    wire::Hello {
        software_version: software_version.to_string(),
        features: features.iter().cloned().collect(),
        owner: owner.to_string(),
        epoch: epoch.0,
        generation: generation.0,
        digest: digest.0.to_vec(),
        controller_networks_digest: networks.map(|digest| digest.0.to_vec()).unwrap_or_default(),
        owner_lost_milliseconds: owner_lost.map(milliseconds).unwrap_or_default(),
        renewals: *renewals,
        instance: instance.0,
        connection: *connection,
    }
}

fn hello_from_wire(message: wire::Hello) -> Result<Hello, Malformed> {
    let wire::Hello {
        software_version,
        features,
        owner,
        epoch,
        generation,
        digest,
        controller_networks_digest,
        owner_lost_milliseconds,
        renewals,
        instance,
        connection,
    } = message;
    Ok(Hello {
        software_version: parse_version(&software_version)
            .map_err(|problem| Malformed::new("hello.software_version", problem))?,
        features: features.into_iter().collect(),
        owner: controller_from_text(&owner)?,
        epoch: Epoch(epoch),
        owner_lost: (owner_lost_milliseconds > 0)
            .then(|| Duration::from_millis(owner_lost_milliseconds)),
        generation: Generation(generation),
        digest: Digest(bytes32("hello.digest", &digest)?),
        networks: networks_digest(&controller_networks_digest)?,
        renewals,
        instance: InstanceId(instance),
        connection,
    })
}

/// One message of a controller as the pieces that go over the wire.
pub fn controller_message_to_wire(message: &ControllerMessage) -> Vec<wire::ExchangeResponse> {
    let message = match message {
        ControllerMessage::Command(command) => return command_pieces(command),
        ControllerMessage::Welcome(welcome) => FromController::Welcome(welcome_to_wire(welcome)),
        ControllerMessage::ReportAccepted { generation, digest } => {
            FromController::Acknowledgement(wire::Acknowledgement {
                generation: generation.0,
                digest: digest.0.to_vec(),
            })
        }
        ControllerMessage::ReportRefused {
            generation,
            digest,
            faults,
        } => FromController::ReportRefused(wire::ReportRefused {
            generation: generation.0,
            digest: digest.0.to_vec(),
            violations: faults.iter().map(fault_to_wire).collect(),
        }),
        ControllerMessage::Networks {
            epoch,
            networks,
            report_within,
        } => FromController::ControllerNetworks(wire::ControllerNetworksUpdate {
            epoch: epoch.0,
            networks: Some(networks_to_wire(networks)),
            report_within_milliseconds: u32::try_from(report_within.as_millis())
                .unwrap_or(u32::MAX),
        }),
        ControllerMessage::ReportWanted => FromController::ReportWanted(wire::ReportWanted {}),
        ControllerMessage::Heartbeat => FromController::Heartbeat(wire::Heartbeat {}),
        ControllerMessage::Certificate(GrantedCertificate {
            certificate,
            validity,
        }) => FromController::Certificate(wire::Certificate {
            certificate: certificate.clone(),
            validity_milliseconds: milliseconds(*validity),
        }),
        ControllerMessage::Goodbye(goodbye) => FromController::Goodbye(wire::Goodbye {
            reason: goodbye.reason.name().to_owned(),
            controllers: urls(&goodbye.controllers),
            owners: goodbye.owners.iter().map(known_to_wire).collect(),
        }),
        ControllerMessage::Alternates { epoch, alternates } => {
            FromController::Alternates(wire::AlternatesUpdate {
                epoch: epoch.0,
                alternates: Some(alternates_to_wire(alternates)),
            })
        }
    };
    vec![wire::ExchangeResponse {
        message: Some(message),
    }]
}

/// Puts the messages of one link together again, at the agent's end.
#[derive(Debug, Default)]
pub struct ControllerMessages {
    command: Gathered,
}

impl ControllerMessages {
    /// Takes the next piece; a message when it is complete.
    ///
    /// # Errors
    /// What cannot be understood; the link must end then.
    pub fn take(
        &mut self,
        piece: wire::ExchangeResponse,
    ) -> Result<Option<ControllerMessage>, Malformed> {
        let message = piece
            .message
            .ok_or_else(|| Malformed::new("message", "is missing"))?;
        match message {
            FromController::CommandChunk(wire::CommandChunk { data, last }) => {
                let whole = self.command.take("command_chunk.data", &data, last)?;
                let command = whole.map(|whole| command_from_wire(&whole)).transpose()?;
                Ok(command.map(ControllerMessage::Command))
            }
            _ if self.command.is_begun() => Err(Malformed::new(
                "message",
                "came between the pieces of a command",
            )),
            whole => controller_message_from_wire(whole).map(Some),
        }
    }
}

/// A message of a controller that comes in one piece.
fn controller_message_from_wire(message: FromController) -> Result<ControllerMessage, Malformed> {
    match message {
        FromController::CommandChunk(_) => {
            Err(Malformed::new("command_chunk", "is no whole message"))
        }
        FromController::Welcome(welcome) => {
            welcome_from_wire(welcome).map(ControllerMessage::Welcome)
        }
        FromController::Acknowledgement(wire::Acknowledgement { generation, digest }) => {
            Ok(ControllerMessage::ReportAccepted {
                generation: Generation(generation),
                digest: Digest(bytes32("acknowledgement.digest", &digest)?),
            })
        }
        FromController::ReportRefused(refused) => {
            let wire::ReportRefused {
                generation,
                digest,
                violations,
            } = refused;
            Ok(ControllerMessage::ReportRefused {
                generation: Generation(generation),
                digest: Digest(bytes32("report_refused.digest", &digest)?),
                faults: violations.iter().map(fault_from_wire).collect(),
            })
        }
        FromController::ControllerNetworks(update) => {
            let wire::ControllerNetworksUpdate {
                epoch,
                networks,
                report_within_milliseconds,
            } = update;
            let networks = networks_from_wire(&networks.unwrap_or_default())?;
            Ok(ControllerMessage::Networks {
                epoch: Epoch(epoch),
                networks,
                report_within: Duration::from_millis(report_within_milliseconds.into()),
            })
        }
        FromController::ReportWanted(wire::ReportWanted {}) => Ok(ControllerMessage::ReportWanted),
        FromController::Heartbeat(wire::Heartbeat {}) => Ok(ControllerMessage::Heartbeat),
        FromController::Certificate(wire::Certificate {
            certificate,
            validity_milliseconds,
        }) => Ok(ControllerMessage::Certificate(GrantedCertificate {
            certificate,
            validity: Duration::from_millis(validity_milliseconds),
        })),
        FromController::Goodbye(wire::Goodbye {
            reason,
            controllers,
            owners,
        }) => {
            let known = GoodbyeReason::ALL
                .into_iter()
                .find(|known| known.name() == reason);
            let reason = known.ok_or_else(|| Malformed::new("goodbye.reason", "is unknown"))?;
            Ok(ControllerMessage::Goodbye(Goodbye {
                reason,
                controllers: endpoints(&controllers)?,
                owners: owners
                    .into_iter()
                    .map(known_from_wire)
                    .collect::<Result<_, _>>()?,
            }))
        }
        FromController::Alternates(wire::AlternatesUpdate { epoch, alternates }) => {
            Ok(ControllerMessage::Alternates {
                epoch: Epoch(epoch),
                alternates: alternates_from_wire(alternates.unwrap_or_default())?,
            })
        }
    }
}

fn welcome_to_wire(welcome: &Welcome) -> wire::Welcome {
    let Welcome {
        controller,
        epoch,
        heartbeat_interval,
        report_needed,
        answer_at_once,
        controllers,
        alternates,
    } = welcome;
    wire::Welcome {
        controller: controller.to_string(),
        epoch: epoch.0,
        heartbeat_interval_milliseconds: u32::try_from(heartbeat_interval.as_millis())
            .unwrap_or(u32::MAX),
        report_needed: *report_needed,
        answer_at_once: *answer_at_once,
        controllers: urls(controllers),
        alternates: Some(alternates_to_wire(alternates)),
    }
}

fn welcome_from_wire(message: wire::Welcome) -> Result<Welcome, Malformed> {
    let wire::Welcome {
        controller,
        epoch,
        heartbeat_interval_milliseconds,
        report_needed,
        controllers,
        alternates,
        answer_at_once,
    } = message;
    Ok(Welcome {
        controller: controller_from_text(&controller)?,
        epoch: Epoch(epoch),
        heartbeat_interval: Duration::from_millis(heartbeat_interval_milliseconds.into()),
        report_needed,
        answer_at_once,
        controllers: endpoints(&controllers)?,
        alternates: alternates_from_wire(alternates.unwrap_or_default())?,
    })
}

pub(crate) fn alternates_to_wire(alternates: &Alternates) -> wire::Alternates {
    let Alternates {
        controllers,
        failover,
    } = alternates;
    wire::Alternates {
        controllers: controllers.iter().map(known_to_wire).collect(),
        failover_milliseconds: milliseconds(*failover),
    }
}

pub(crate) fn alternates_from_wire(message: wire::Alternates) -> Result<Alternates, Malformed> {
    let wire::Alternates {
        controllers,
        failover_milliseconds,
    } = message;
    let controllers = controllers.into_iter().map(known_from_wire);
    Ok(Alternates {
        controllers: controllers.collect::<Result<_, _>>()?,
        failover: Duration::from_millis(failover_milliseconds),
    })
}

fn known_to_wire(known: &KnownController) -> wire::KnownController {
    let KnownController {
        controller,
        endpoint,
        authority,
    } = known;
    wire::KnownController {
        controller: controller.to_string(),
        endpoint: endpoint.to_string(),
        authority_sha256: authority.0.to_vec(),
    }
}

fn known_from_wire(message: wire::KnownController) -> Result<KnownController, Malformed> {
    let wire::KnownController {
        controller,
        endpoint,
        authority_sha256,
    } = message;
    Ok(KnownController {
        controller: controller_from_text(&controller)?,
        endpoint: endpoint_from_url(&endpoint)
            .map_err(|problem| Malformed::new("endpoint", problem))?,
        authority: Fingerprint(bytes32("authority_sha256", &authority_sha256)?),
    })
}

/// A duration as whole milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The URLs of controllers.
pub fn urls(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(ToString::to_string).collect()
}

/// The controllers of a list of URLs.
///
/// # Errors
/// The first that cannot be read.
pub fn endpoints(urls: &[String]) -> Result<Vec<Endpoint>, Malformed> {
    let read = urls.iter().map(|url| endpoint_from_url(url));
    read.collect::<Result<_, _>>()
        .map_err(|problem| Malformed::new("controllers", problem))
}

/// The id of a controller.
///
/// # Errors
/// When the text is no uuid.
pub fn controller_from_text(text: &str) -> Result<ControllerId, Malformed> {
    let id = parse_uuid(text).map_err(|problem| Malformed::new("controller", problem))?;
    Ok(ControllerId(id))
}

pub(crate) fn networks_digest(bytes: &[u8]) -> Result<Option<NetworksDigest>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes32("controller_networks_digest", bytes).map(|digest| Some(NetworksDigest(digest)))
}

pub(crate) fn bytes32(path: &str, bytes: &[u8]) -> Result<[u8; 32], Malformed> {
    bytes
        .try_into()
        .map_err(|_| Malformed::new(path, format!("has {} bytes instead of 32", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::READ_BUFFER_BYTES;
    use site::{SiteParts, bootstrap};
    use std::net::IpAddr;

    /// gRPC puts a flag and the length before each message.
    const PREFIX_BYTES: usize = 5;

    /// The site of an example.
    fn example() -> SiteParts {
        let file = include_bytes!("../../../../deploy/examples/subcloud-v6-dual.yaml");
        let declared = bootstrap::parse("example", file).expect("a sound file");
        let mut number = 0;
        let mut ids = || {
            number += 1;
            uuid::Uuid::from_u128(number)
        };
        let site = declared.install(&mut ids).expect("a sound site");
        site.to_parts()
    }

    #[test]
    fn a_site_weighs_no_less_than_its_message() {
        let mut parts = example();
        let bytes = parts_to_wire(&parts).encoded_len();
        assert!(
            (bytes..4 * bytes).contains(&parts.weight()),
            "{}",
            parts.weight()
        );
        // The longest texts and the largest numbers, as many as there can be.
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe";
        let address: IpAddr = longest.parse().expect("an address");
        let text = "é".repeat(64);
        let pool = &mut parts.pools[0];
        pool.name.clone_from(&text);
        pool.ranges = vec![(address, address); 256];
        let named = [
            &mut pool.addresses.floating,
            &mut pool.addresses.controller0,
            &mut pool.addresses.controller1,
            &mut pool.addresses.gateway,
        ];
        named.into_iter().for_each(|named| *named = Some(address));
        pool.holders = [(address, text.clone())].into();
        pool.remembered = [(text.clone(), address)].into();
        parts.pools = vec![parts.pools[0].clone(); 1024];
        parts.generation = Generation(u64::MAX);
        parts.hosts = vec![parts.hosts[0].clone(); 1024];
        parts.dns_servers = vec![address; 64];
        let alarm = site::Alarm {
            uuid: uuid::Uuid::max(),
            id: text.clone(),
            severity: site::Severity::Critical,
            entity: text.clone(),
            reason: text.clone(),
            raised_at: site::Timestamp(u64::MAX),
            repair: text,
        };
        parts.alarms = vec![alarm; 4096];
        let bytes = parts_to_wire(&parts).encoded_len();
        assert!(parts.weight() >= bytes, "{} of {bytes}", parts.weight());
    }

    #[test]
    fn a_report_arrives_in_pieces_that_fit_into_the_buffer_of_a_link() {
        let mut parts = example();
        parts.generation = Generation(u64::MAX / 2);
        let digest = Digest([255; 32]);
        let report = AgentMessage::Report(Report {
            digest,
            site: Arc::new(parts),
        });
        let mut messages = AgentMessages::new(|_| Err("no request is sent".to_owned()));
        let mut whole = None;
        let pieces = agent_message_to_wire(&report);
        assert!(pieces.len() > 2, "{} pieces", pieces.len());
        for piece in pieces {
            assert!(whole.is_none(), "complete before the last piece");
            assert!(piece.encoded_len() + PREFIX_BYTES <= READ_BUFFER_BYTES);
            whole = messages.take(piece).expect("a piece");
        }
        assert_eq!(whole, Some(report));
    }
}
