//! The records of subclouds to the domain and back.

use fleet::{
    Cloned, Conflict, Enrolled, Enrollment, Epoch, Fingerprint, Footprint, Geo, GroupId,
    LinkNetwork, LinkPool, Management, Observed, PeerGroupId, Pending, Refused, Renewal,
    SecretHash, SpentToken, Subcloud, SubcloudId, Superseded, Token, TokenId,
};
use ipnet::IpNet;
use site::{Digest, Generation, NetworkKind, Timestamp};

use super::{
    Malformed, alarm_counts_from_wire, alarm_counts_to_wire, bytes32, controller_from_text,
    fault_from_wire, fault_to_wire, parse_address, parse_cidr, parse_optional, parse_range,
    parse_uuid, parse_version, range_to_wire,
};
use crate::fleet_v1::ManagementState;
use crate::store_v1 as wire;
use wire::subcloud_record::Enrollment as Kept;

/// The record of a subcloud.
pub fn subcloud_to_record(subcloud: &Subcloud) -> wire::SubcloudRecord {
    let Subcloud {
        id,
        name,
        management,
        enrollment,
        observed,
        refused,
        geo,
        created_at,
        updated_at,
        description,
        location,
        group,
    } = subcloud;
    let enrollment = match enrollment {
        Enrollment::Pending(pending) => Kept::Pending(pending_to_record(pending)),
        Enrollment::Enrolled(enrolled) => Kept::Enrolled(enrolled_to_record(enrolled)),
    };
    wire::SubcloudRecord {
        uuid: id.to_string(),
        name: name.clone(),
        management: match management {
            Management::Unmanaged => ManagementState::Unmanaged,
            Management::Managed => ManagementState::Managed,
        } as i32,
        enrollment: Some(enrollment),
        observed: observed.as_ref().map(observed_to_record),
        refused: refused.as_ref().map(refused_to_record),
        created_at_milliseconds: created_at.0,
        updated_at_milliseconds: updated_at.0,
        geo: Some(geo_to_record(geo)),
        description: description.clone(),
        location: location.clone(),
        group: group.to_string(),
    }
}

/// Reads the record of a subcloud.
///
/// # Errors
/// The first field that cannot be read.
pub fn subcloud_from_record(record: wire::SubcloudRecord) -> Result<Subcloud, Malformed> {
    let wire::SubcloudRecord {
        uuid,
        name,
        management,
        enrollment,
        observed,
        refused,
        created_at_milliseconds,
        updated_at_milliseconds,
        geo,
        description,
        location,
        group,
    } = record;
    let group = match group.as_str() {
        "" => GroupId::DEFAULT,
        text => GroupId(at("group", parse_uuid(text))?),
    };
    let management = match ManagementState::try_from(management) {
        Ok(ManagementState::Unmanaged) => Management::Unmanaged,
        Ok(ManagementState::Managed) => Management::Managed,
        Ok(ManagementState::Unspecified) | Err(_) => {
            return Err(Malformed::new("management", "is unknown"));
        }
    };
    let enrollment = match enrollment {
        Some(Kept::Pending(pending)) => Enrollment::Pending(pending_from_record(pending)?),
        Some(Kept::Enrolled(enrolled)) => {
            let changed_at = Timestamp(updated_at_milliseconds);
            Enrollment::Enrolled(enrolled_from_record(enrolled, changed_at)?)
        }
        None => return Err(Malformed::new("enrollment", "is missing")),
    };
    Ok(Subcloud {
        id: SubcloudId(at("uuid", parse_uuid(&uuid))?),
        name,
        management,
        enrollment,
        observed: observed.map(observed_from_record).transpose()?,
        refused: refused.map(refused_from_record).transpose()?,
        geo: match geo {
            Some(geo) => geo_from_record(geo)?,
            // Before there were peers, whoever had enrolled obeyed this controller.
            None => Geo {
                confirmed: true,
                ..Geo::default()
            },
        },
        created_at: Timestamp(created_at_milliseconds),
        updated_at: Timestamp(updated_at_milliseconds),
        description,
        location,
        group,
    })
}

fn geo_to_record(geo: &Geo) -> wire::SubcloudGeo {
    let Geo {
        owner,
        confirmed,
        group,
        former_group,
        gateways,
        footprint,
        edits,
        lineage,
        conflict,
    } = geo;
    let lineage = lineage.iter().map(|(epoch, edits)| wire::TermEdits {
        epoch: epoch.0,
        edits: *edits,
    });
    wire::SubcloudGeo {
        owner: owner.map(|owner| owner.to_string()).unwrap_or_default(),
        confirmed: *confirmed,
        group: group.map(|group| group.to_string()).unwrap_or_default(),
        former_group: former_group
            .map(|group| group.to_string())
            .unwrap_or_default(),
        gateway_addresses: gateways.iter().flatten().map(ToString::to_string).collect(),
        gateways_set: gateways.is_some(),
        footprint: footprint.as_deref().map(footprint_to_record),
        edits: *edits,
        lineage: lineage.collect(),
        conflict: conflict.as_deref().map(conflict_to_record),
    }
}

fn geo_from_record(record: wire::SubcloudGeo) -> Result<Geo, Malformed> {
    let wire::SubcloudGeo {
        owner,
        confirmed,
        group,
        gateway_addresses,
        gateways_set,
        footprint,
        edits,
        lineage,
        conflict,
        former_group,
    } = record;
    let given = |text: &String| !text.is_empty();
    let owner = Some(owner)
        .filter(given)
        .map(|owner| controller_from_text(&owner));
    let group = Some(group)
        .filter(given)
        .map(|group| at("group", parse_uuid(&group)));
    let former_group = Some(former_group)
        .filter(given)
        .map(|group| at("former_group", parse_uuid(&group)));
    let gateways = gateway_addresses.iter();
    let gateways = gateways.map(|text| at("gateway_addresses", parse_address(text)));
    let gateways = gateways.collect::<Result<Vec<_>, _>>()?;
    let set = gateways_set || !gateways.is_empty();
    let lineage = lineage.into_iter();
    Ok(Geo {
        owner: owner.transpose()?,
        confirmed,
        group: group.transpose()?.map(PeerGroupId),
        former_group: former_group.transpose()?.map(PeerGroupId),
        gateways: set.then_some(gateways),
        footprint: footprint
            .map(footprint_from_record)
            .transpose()?
            .map(Box::new),
        edits,
        lineage: lineage
            .map(|wire::TermEdits { epoch, edits }| (Epoch(epoch), edits))
            .collect(),
        conflict: conflict
            .map(conflict_from_record)
            .transpose()?
            .map(Box::new),
    })
}

fn conflict_to_record(conflict: &Conflict) -> wire::SubcloudConflict {
    let Conflict {
        owner,
        at: met,
        lost,
    } = conflict;
    let lost = lost.iter().map(|(field, value)| wire::LostEdit {
        field: field.clone(),
        value: value.clone(),
    });
    wire::SubcloudConflict {
        owner: owner.to_string(),
        at_milliseconds: met.0,
        lost: lost.collect(),
    }
}

fn conflict_from_record(record: wire::SubcloudConflict) -> Result<Conflict, Malformed> {
    let wire::SubcloudConflict {
        owner,
        at_milliseconds,
        lost,
    } = record;
    let lost = lost.into_iter();
    Ok(Conflict {
        owner: controller_from_text(&owner)?,
        at: Timestamp(at_milliseconds),
        lost: lost
            .map(|wire::LostEdit { field, value }| (field, value))
            .collect(),
    })
}

fn pending_to_record(pending: &Pending) -> wire::PendingEnrollment {
    let Pending {
        token:
            Token {
                id,
                secret,
                issued_at,
                expires_at,
            },
        declared,
    } = pending;
    wire::PendingEnrollment {
        token: id.to_string(),
        secret_sha256: secret.0.to_vec(),
        issued_at_milliseconds: issued_at.0,
        expires_at_milliseconds: expires_at.0,
        declared: declared.as_deref().map(footprint_to_record),
    }
}

fn pending_from_record(record: wire::PendingEnrollment) -> Result<Pending, Malformed> {
    let wire::PendingEnrollment {
        token,
        secret_sha256,
        issued_at_milliseconds,
        expires_at_milliseconds,
        declared,
    } = record;
    Ok(Pending {
        token: Token {
            id: TokenId(at("token", parse_uuid(&token))?),
            secret: SecretHash(bytes32("secret_sha256", &secret_sha256)?),
            issued_at: Timestamp(issued_at_milliseconds),
            expires_at: Timestamp(expires_at_milliseconds),
        },
        declared: declared
            .map(footprint_from_record)
            .transpose()?
            .map(Box::new),
    })
}

pub(super) fn token_to_record(token: &Token) -> wire::OpenToken {
    let Token {
        id,
        secret,
        issued_at,
        expires_at,
    } = token;
    wire::OpenToken {
        token: id.to_string(),
        secret_sha256: secret.0.to_vec(),
        issued_at_milliseconds: issued_at.0,
        expires_at_milliseconds: expires_at.0,
    }
}

pub(super) fn token_from_record(record: wire::OpenToken) -> Result<Token, Malformed> {
    let wire::OpenToken {
        token,
        secret_sha256,
        issued_at_milliseconds,
        expires_at_milliseconds,
    } = record;
    Ok(Token {
        id: TokenId(at("token", parse_uuid(&token))?),
        secret: SecretHash(bytes32("secret_sha256", &secret_sha256)?),
        issued_at: Timestamp(issued_at_milliseconds),
        expires_at: Timestamp(expires_at_milliseconds),
    })
}

fn enrolled_to_record(enrolled: &Enrolled) -> wire::CompletedEnrollment {
    let Enrolled {
        key,
        site,
        spent,
        epoch,
        enrolled_at,
        differences,
        reenroll,
        renewal,
        cloned,
    } = enrolled;
    wire::CompletedEnrollment {
        key_sha256: key.0.to_vec(),
        site: site.to_string(),
        token: spent.id.to_string(),
        secret_sha256: spent.secret.0.to_vec(),
        epoch: epoch.0,
        enrolled_at_milliseconds: enrolled_at.0,
        differences: differences.iter().map(fault_to_wire).collect(),
        reenroll: reenroll.as_ref().map(token_to_record),
        renewal: Some(renewal_to_record(renewal)),
        cloned: cloned
            .as_deref()
            .map(|Cloned { at, fault }| wire::ClonedIdentity {
                at_milliseconds: at.0,
                violation: Some(fault_to_wire(fault)),
            }),
    }
}

fn enrolled_from_record(
    record: wire::CompletedEnrollment,
    changed_at: Timestamp,
) -> Result<Enrolled, Malformed> {
    let wire::CompletedEnrollment {
        key_sha256,
        site,
        token,
        secret_sha256,
        epoch,
        enrolled_at_milliseconds,
        differences,
        reenroll,
        renewal,
        cloned,
    } = record;
    let cloned = cloned.map(|cloned| {
        let wire::ClonedIdentity {
            at_milliseconds,
            violation,
        } = cloned;
        Box::new(Cloned {
            at: Timestamp(at_milliseconds),
            fault: fault_from_wire(&violation.unwrap_or_default()),
        })
    });
    Ok(Enrolled {
        key: Fingerprint(bytes32("key_sha256", &key_sha256)?),
        site: at("site", parse_uuid(&site))?,
        spent: SpentToken {
            id: TokenId(at("token", parse_uuid(&token))?),
            secret: SecretHash(bytes32("secret_sha256", &secret_sha256)?),
        },
        epoch: Epoch(epoch),
        enrolled_at: Timestamp(enrolled_at_milliseconds),
        differences: differences.iter().map(fault_from_wire).collect(),
        reenroll: reenroll.map(token_from_record).transpose()?,
        renewal: renewal_from_record(renewal.unwrap_or_default(), changed_at)?,
        cloned,
    })
}

fn renewal_to_record(renewal: &Renewal) -> wire::KeyRenewal {
    let Renewal {
        count,
        next,
        superseded,
        granted_at,
    } = renewal;
    let superseded = superseded.iter().map(|Superseded { key, at }| {
        let key_sha256 = key.0.to_vec();
        wire::SupersededKey {
            key_sha256,
            at_milliseconds: at.0,
        }
    });
    wire::KeyRenewal {
        count: *count,
        next_sha256: next.map(|key| key.0.to_vec()).unwrap_or_default(),
        superseded: superseded.collect(),
        granted_at_milliseconds: granted_at.0,
    }
}

/// Earlier versions did not keep when a key was granted. Each grant changed the record, so it was
/// not after the last change.
fn renewal_from_record(
    record: wire::KeyRenewal,
    changed_at: Timestamp,
) -> Result<Renewal, Malformed> {
    let wire::KeyRenewal {
        count,
        next_sha256,
        superseded,
        granted_at_milliseconds,
    } = record;
    let key = |bytes: &[u8]| bytes32("renewal", bytes).map(Fingerprint);
    let next = Some(next_sha256).filter(|bytes| !bytes.is_empty());
    let superseded = superseded.into_iter().map(|superseded| {
        let wire::SupersededKey {
            key_sha256,
            at_milliseconds,
        } = superseded;
        Ok(Superseded {
            key: key(&key_sha256)?,
            at: Timestamp(at_milliseconds),
        })
    });
    Ok(Renewal {
        count,
        next: next.as_deref().map(key).transpose()?,
        superseded: superseded.collect::<Result<_, Malformed>>()?,
        granted_at: match granted_at_milliseconds {
            0 => changed_at,
            known => Timestamp(known),
        },
    })
}

fn observed_to_record(observed: &Observed) -> wire::ObservedReport {
    let Observed {
        generation,
        digest,
        received_at,
        alarms,
        footprint,
    } = observed;
    wire::ObservedReport {
        generation: generation.0,
        digest: digest.0.to_vec(),
        received_at_milliseconds: received_at.0,
        footprint: Some(footprint_to_record(footprint)),
        alarms: alarms.map(alarm_counts_to_wire),
    }
}

fn observed_from_record(record: wire::ObservedReport) -> Result<Observed, Malformed> {
    let wire::ObservedReport {
        generation,
        digest,
        received_at_milliseconds,
        footprint,
        alarms,
    } = record;
    Ok(Observed {
        generation: Generation(generation),
        digest: Digest(bytes32("digest", &digest)?),
        received_at: Timestamp(received_at_milliseconds),
        alarms: alarms.map(alarm_counts_from_wire),
        footprint: footprint_from_record(footprint.unwrap_or_default())?,
    })
}

fn refused_to_record(refused: &Refused) -> wire::RefusedReport {
    let Refused {
        generation,
        digest,
        received_at,
        since,
        faults,
    } = refused;
    wire::RefusedReport {
        generation: generation.0,
        digest: digest.0.to_vec(),
        received_at_milliseconds: received_at.0,
        violations: faults.iter().map(fault_to_wire).collect(),
        since_milliseconds: since.0,
    }
}

fn refused_from_record(record: wire::RefusedReport) -> Result<Refused, Malformed> {
    let wire::RefusedReport {
        generation,
        digest,
        received_at_milliseconds,
        violations,
        since_milliseconds,
    } = record;
    let since = match since_milliseconds {
        0 => received_at_milliseconds,
        since => since,
    };
    Ok(Refused {
        generation: Generation(generation),
        digest: Digest(bytes32("digest", &digest)?),
        received_at: Timestamp(received_at_milliseconds),
        since: Timestamp(since),
        faults: violations.iter().map(fault_from_wire).collect(),
    })
}

fn footprint_to_record(footprint: &Footprint) -> wire::Footprint {
    let Footprint {
        name,
        region_name,
        software_version,
        link,
        oam_subnets,
        dual_stack,
        systemcontroller_gateways,
    } = footprint;
    let pools = link.iter().flat_map(LinkNetwork::pools);
    wire::Footprint {
        name: name.clone(),
        region_name: region_name.clone(),
        software_version: software_version.to_string(),
        link_network: link
            .as_ref()
            .map(|link| link.kind.name().to_owned())
            .unwrap_or_default(),
        link_pools: pools.map(pool_to_record).collect(),
        oam_subnets: oam_subnets.iter().map(IpNet::to_string).collect(),
        dual_stack_networks: dual_stack
            .iter()
            .map(|kind| kind.name().to_owned())
            .collect(),
        systemcontroller_gateway_addresses: systemcontroller_gateways
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

fn footprint_from_record(record: wire::Footprint) -> Result<Footprint, Malformed> {
    let wire::Footprint {
        name,
        region_name,
        software_version,
        link_network,
        link_pools,
        oam_subnets,
        dual_stack_networks,
        systemcontroller_gateway_addresses,
    } = record;
    let kind = |name: &str| {
        NetworkKind::from_name(name).ok_or_else(|| format!("`{name}` is no network type"))
    };
    let mut pools = link_pools.into_iter().map(pool_from_record);
    let link = match pools.next() {
        None => None,
        Some(primary) => Some(LinkNetwork {
            kind: at("link_network", kind(&link_network))?,
            primary: primary?,
            secondary: pools.next().transpose()?,
        }),
    };
    let gateways = systemcontroller_gateway_addresses
        .iter()
        .map(|text| parse_address(text));
    Ok(Footprint {
        name,
        region_name,
        software_version: at("software_version", parse_version(&software_version))?,
        link,
        oam_subnets: at(
            "oam_subnets",
            oam_subnets.iter().map(|t| parse_cidr(t)).collect(),
        )?,
        dual_stack: at(
            "dual_stack_networks",
            dual_stack_networks.iter().map(|name| kind(name)).collect(),
        )?,
        systemcontroller_gateways: at("systemcontroller_gateway_addresses", gateways.collect())?,
    })
}

fn pool_to_record(pool: &LinkPool) -> wire::FootprintPool {
    let LinkPool {
        name,
        subnet,
        ranges,
        floating,
    } = pool;
    wire::FootprintPool {
        name: name.clone(),
        subnet: subnet.to_string(),
        ranges: ranges
            .iter()
            .map(|r| range_to_wire(&(r.first(), r.last())))
            .collect(),
        floating_address: floating
            .map(|address| address.to_string())
            .unwrap_or_default(),
    }
}

fn pool_from_record(record: wire::FootprintPool) -> Result<LinkPool, Malformed> {
    let wire::FootprintPool {
        name,
        subnet,
        ranges,
        floating_address,
    } = record;
    Ok(LinkPool {
        name,
        subnet: at("subnet", parse_cidr(&subnet))?,
        ranges: at("ranges", ranges.iter().map(parse_range).collect())?,
        floating: at("floating_address", parse_optional(&floating_address))?,
    })
}

pub(super) fn at<T>(path: &str, value: Result<T, String>) -> Result<T, Malformed> {
    value.map_err(|problem| Malformed::new(path, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_the_newest_grant_takes_its_last_change_for_it() {
        let changed_at = Timestamp(7);
        for (kept, expected) in [(0, 7), (5, 5)] {
            let record = wire::KeyRenewal {
                granted_at_milliseconds: kept,
                ..Default::default()
            };
            let renewal = renewal_from_record(record, changed_at).expect("a record");
            assert_eq!(renewal.granted_at, Timestamp(expected));
            assert_eq!(
                renewal_to_record(&renewal).granted_at_milliseconds,
                expected
            );
        }
    }
}
