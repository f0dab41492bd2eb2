//! Where the agent keeps its identity.

use std::error::Error;
use std::time::Duration;

use api::convert::{agent_from_record, agent_to_record, certificate_to_record};
use api::store_v1 as wire;
use daemon::{Exit, Failure};
use fleet::{AgentRecord, Credential, Fingerprint};
use identity::{CaCertificate, LeafKey};
use prost::Message;
use rustls::pki_types::CertificateDer;
use site::Timestamp;
use store::{Action, Expected, Key, Store, Write};
use uuid::Uuid;

const KEY: &str = "agent/key";
const ATTEMPT: &str = "agent/attempt";
const CERTIFICATE: &str = "agent/certificate";
const RECORD: &str = "agent/record";

/// A key and the token that it was made for. The same token is always tried with the same key.
#[derive(Debug)]
pub(crate) struct KeptKey {
    pub(crate) key: LeafKey,
    pub(crate) token: Uuid,
}

/// What makes this site a subcloud.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) key: LeafKey,
    pub(crate) token: Uuid,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) credential: Credential,
    pub(crate) authority: CaCertificate,
    pub(crate) record: AgentRecord,
}

/// The key of an attempt to enroll that is not over. It is no part of the identity: a site that
/// enrolls anew keeps what it has until the controller has accepted the new key.
pub(crate) fn read_attempt(store: &Store) -> Result<Option<KeptKey>, Failure> {
    read_key(store, ATTEMPT)
}

fn read_key(store: &Store, name: &str) -> Result<Option<KeptKey>, Failure> {
    let Some(message) = read::<wire::AgentKeyRecord>(store, name)? else {
        return Ok(None);
    };
    let wire::AgentKeyRecord { private_key, token } = message;
    let key = LeafKey::from_pkcs8_der(&private_key).map_err(|error| failed(&error))?;
    let token = Uuid::try_parse(&token).map_err(|error| failed(&error))?;
    Ok(Some(KeptKey { key, token }))
}

/// The identity, if this site has enrolled.
pub(crate) fn read_enrolled(store: &Store) -> Result<Option<Enrolled>, Failure> {
    let Some(message) = read::<wire::AgentCertificateRecord>(store, CERTIFICATE)? else {
        return Ok(None);
    };
    let wire::AgentCertificateRecord {
        certificate,
        authority,
        renewals,
        received_at_milliseconds,
        validity_milliseconds,
    } = message;
    let missing = || Failure::new(Exit::Io, "the agent's records are not complete");
    let KeptKey { key, token } = read_key(store, KEY)?.ok_or_else(missing)?;
    let record = read_record(store)?.ok_or_else(missing)?;
    let authority = CaCertificate::from_der(&authority).map_err(|error| failed(&error))?;
    let credential = Credential {
        key: fingerprint(&key),
        renewals,
        received_at: Timestamp(received_at_milliseconds),
        validity: Duration::from_millis(validity_milliseconds),
    };
    Ok(Some(Enrolled {
        key,
        token,
        credential,
        certificate: certificate.into(),
        authority,
        record,
    }))
}

/// Whom the agent obeys, if this site has enrolled.
pub(crate) fn read_record(store: &Store) -> Result<Option<AgentRecord>, Failure> {
    let record = read::<wire::AgentRecord>(store, RECORD)?.map(agent_from_record);
    record.transpose().map_err(|error| failed(&error))
}

/// The write that keeps a key before it is first used.
pub(crate) fn attempt_write(kept: &KeptKey) -> Write {
    write(ATTEMPT, &key_record(&kept.key, kept.token))
}

/// The writes that make an accepted key the site's own, and end the attempt.
pub(crate) fn key_writes(key: &LeafKey, token: Uuid) -> [Write; 2] {
    let over = Write {
        key: self::key(ATTEMPT),
        expected: Expected::Any,
        action: Action::Delete,
    };
    [write(KEY, &key_record(key, token)), over]
}

fn key_record(key: &LeafKey, token: Uuid) -> wire::AgentKeyRecord {
    wire::AgentKeyRecord {
        private_key: key.to_pkcs8_der(),
        token: token.to_string(),
    }
}

/// The write that keeps a certificate with the authority that signed it.
pub(crate) fn certificate_write(
    credential: &Credential,
    certificate: &[u8],
    authority: &[u8],
) -> Write {
    let message = certificate_to_record(credential, certificate, authority);
    write(CERTIFICATE, &message)
}

/// Names a key.
pub(crate) fn fingerprint(key: &LeafKey) -> Fingerprint {
    Fingerprint(*key.spki_sha256().as_bytes())
}

/// The write that keeps whom the agent obeys.
pub(crate) fn record_write(record: &AgentRecord) -> Write {
    write(RECORD, &agent_to_record(record))
}

fn read<M: Message + Default>(store: &Store, name: &str) -> Result<Option<M>, Failure> {
    let record = store.get(&key(name)).map_err(|error| failed(&error))?;
    let decoded = record.map(|record| M::decode(record.value.as_slice()));
    decoded.transpose().map_err(|error| failed(&error))
}

fn write(name: &str, message: &impl Message) -> Write {
    let action = Action::Put(message.encode_to_vec());
    Write {
        key: key(name),
        expected: Expected::Any,
        action,
    }
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap_or_else(|error| unreachable!("the key {name} is fixed: {error}"))
}

fn failed(error: &dyn Error) -> Failure {
    Failure::because(Exit::Io, "the agent's identity cannot be read", error)
}
