//! The records of an agent to the domain and back.

use fleet::{AgentRecord, Credential, Epoch, Fingerprint, SubcloudId};

use super::records::at;
use super::{
    Malformed, alternates_from_wire, alternates_to_wire, bytes32, controller_from_text, endpoints,
    milliseconds, networks_digest, parse_uuid, urls,
};
use crate::store_v1 as wire;

/// The record of an agent.
pub fn agent_to_record(record: &AgentRecord) -> wire::AgentRecord {
    let AgentRecord {
        subcloud,
        owner,
        epoch,
        controllers,
        authority,
        alternates,
        networks,
    } = record;
    wire::AgentRecord {
        subcloud: subcloud.to_string(),
        owner: owner.to_string(),
        epoch: epoch.0,
        controllers: urls(controllers),
        controller_networks_digest: networks.map(|digest| digest.0.to_vec()).unwrap_or_default(),
        authority_sha256: authority.map(|key| key.0.to_vec()).unwrap_or_default(),
        alternates: Some(alternates_to_wire(alternates)),
    }
}

/// Reads the record of an agent.
///
/// # Errors
/// The first field that cannot be read.
pub fn agent_from_record(record: wire::AgentRecord) -> Result<AgentRecord, Malformed> {
    let wire::AgentRecord {
        subcloud,
        owner,
        epoch,
        controllers,
        controller_networks_digest,
        authority_sha256,
        alternates,
    } = record;
    let authority = match authority_sha256.as_slice() {
        [] => None,
        key => Some(Fingerprint(bytes32("authority_sha256", key)?)),
    };
    Ok(AgentRecord {
        subcloud: SubcloudId(at("subcloud", parse_uuid(&subcloud))?),
        owner: controller_from_text(&owner)?,
        epoch: Epoch(epoch),
        controllers: endpoints(&controllers)?,
        authority,
        alternates: alternates_from_wire(alternates.unwrap_or_default())?,
        networks: networks_digest(&controller_networks_digest)?,
    })
}

/// The record of an agent's certificate.
pub fn certificate_to_record(
    credential: &Credential,
    certificate: &[u8],
    authority: &[u8],
) -> wire::AgentCertificateRecord {
    let Credential {
        // Read back from the key itself.
        key: _,
        renewals,
        received_at,
        validity,
    } = credential;
    wire::AgentCertificateRecord {
        certificate: certificate.to_vec(),
        authority: authority.to_vec(),
        renewals: *renewals,
        received_at_milliseconds: received_at.0,
        validity_milliseconds: milliseconds(*validity),
    }
}
