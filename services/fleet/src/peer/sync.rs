//! What is told of a member, and the digests that name it.
//!
//! A digest is computed by the speaker alone; a reader keeps it as a name. So two software
//! versions need not agree on how, and the worst that a change of the computation costs is one
//! synchronisation in full.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use crate::{
    ControllerId, Enrolled, Enrollment, Footprint, Geo, GroupHeader, GroupId, Leader, LinkNetwork,
    LinkPool, SpentToken, Subcloud, SubcloudId, SyncDigest, SyncItem,
};

/// The record of a member as its owner tells it: without reports, whose networks alone are told,
/// and without what is the site's own.
pub(crate) fn shared(record: &Subcloud, owner: ControllerId) -> Subcloud {
    let footprint = record.footprint().map(|known| {
        Box::new(Footprint {
            // The other site's own gateways, not these, lead from it to the subcloud.
            systemcontroller_gateways: Vec::new(),
            ..known.clone()
        })
    });
    let mut enrollment = record.enrollment.clone();
    if let Enrollment::Enrolled(enrolled) = &mut enrollment {
        // An open token is of the site that issued it, and so are the differences from what was
        // declared there.
        enrolled.reenroll = None;
        enrolled.differences.clear();
        // So is when it last allowed a certificate.
        enrolled.renewal.granted_at = site::Timestamp::default();
    }
    Subcloud {
        enrollment,
        group: GroupId::DEFAULT,
        observed: None,
        refused: None,
        geo: Geo {
            owner: Some(owner),
            confirmed: record.geo.confirmed,
            group: record.geo.group,
            former_group: None,
            gateways: None,
            footprint,
            edits: record.geo.edits,
            lineage: record.geo.lineage.clone(),
            conflict: None,
        },
        ..record.clone()
    }
}

/// Names what is told of one member.
pub(crate) fn item_digest(item: &SyncItem) -> [u8; 32] {
    let mut words = Words::default();
    match item {
        SyncItem::Owned(record) => {
            words.number(1);
            subcloud(&mut words, record);
        }
        SyncItem::Elsewhere {
            subcloud,
            owner,
            epoch,
            confirmed,
        } => {
            words.number(2);
            words.number(u64::from(*confirmed));
            words.bytes(subcloud.0.as_bytes());
            words.bytes(owner.0.as_bytes());
            words.number(epoch.0);
        }
        SyncItem::Left(subcloud) => {
            words.number(3);
            words.bytes(subcloud.0.as_bytes());
        }
    }
    words.0.finalize().into()
}

/// Names everything that is told of a group.
pub(crate) fn group_digest(
    header: &GroupHeader,
    leader: &Leader,
    priority: u32,
    items: &BTreeMap<SubcloudId, [u8; 32]>,
) -> SyncDigest {
    let GroupHeader {
        name,
        max_subcloud_rehoming,
        places,
        revision,
        editor,
    } = header;
    let mut words = Words::default();
    words.text(name);
    words.number(u64::from(*max_subcloud_rehoming));
    words.number(u64::try_from(places.len()).unwrap_or(u64::MAX));
    for (controller, place) in places {
        words.bytes(controller.0.as_bytes());
        words.number(u64::from(*place));
    }
    words.number(*revision);
    words.bytes(editor.0.as_bytes());
    let Leader {
        controller,
        name,
        priority: leading,
        term,
    } = leader;
    words.bytes(controller.0.as_bytes());
    words.text(name);
    words.number(u64::from(*leading));
    words.number(*term);
    words.number(u64::from(priority));
    for (id, digest) in items {
        words.bytes(id.0.as_bytes());
        words.bytes(digest);
    }
    SyncDigest(words.0.finalize().into())
}

/// A hash over words, each with its length, so that no two lists of words hash alike.
#[derive(Default)]
struct Words(Sha256);

impl Words {
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.0.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn shown(&mut self, value: impl std::fmt::Display) {
        self.text(&value.to_string());
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.bytes(&address.octets()),
            IpAddr::V6(address) => self.bytes(&address.octets()),
        }
    }
}

fn subcloud(words: &mut Words, record: &Subcloud) {
    words.bytes(record.id.0.as_bytes());
    words.text(&record.name);
    words.text(&record.description);
    words.text(&record.location);
    words.number(match record.management {
        crate::Management::Unmanaged => 0,
        crate::Management::Managed => 1,
    });
    if let Enrollment::Enrolled(enrolled) = &record.enrollment {
        let Enrolled {
            key,
            site,
            spent: SpentToken { id, secret },
            epoch,
            enrolled_at,
            // These are not told.
            differences: _,
            reenroll: _,
            renewal,
            cloned,
        } = enrolled;
        words.bytes(&key.0);
        words.bytes(site.as_bytes());
        words.bytes(id.0.as_bytes());
        words.bytes(&secret.0);
        words.number(epoch.0);
        words.number(enrolled_at.0);
        words.number(renewal.count);
        words.number(cloned.as_ref().map_or(0, |cloned| cloned.at.0));
    }
    words.number(record.created_at.0);
    let geo = &record.geo;
    if let Some(owner) = &geo.owner {
        words.bytes(owner.0.as_bytes());
    }
    words.number(u64::from(geo.confirmed));
    if let Some(group) = &geo.group {
        words.bytes(group.0.as_bytes());
    }
    words.number(geo.edits);
    for (epoch, edits) in &geo.lineage {
        words.number(epoch.0);
        words.number(*edits);
    }
    if let Some(known) = &geo.footprint {
        footprint(words, known);
    }
}

fn footprint(words: &mut Words, footprint: &Footprint) {
    let Footprint {
        name,
        region_name,
        software_version,
        link,
        oam_subnets,
        dual_stack,
        systemcontroller_gateways,
    } = footprint;
    words.text(name);
    words.text(region_name);
    words.shown(software_version);
    if let Some(LinkNetwork {
        kind,
        primary,
        secondary,
    }) = link
    {
        words.text(kind.name());
        for LinkPool {
            name,
            subnet,
            ranges,
            floating,
        } in std::iter::once(primary).chain(secondary)
        {
            words.text(name);
            words.shown(subnet);
            for range in ranges {
                words.address(range.first());
                words.address(range.last());
            }
            if let Some(address) = floating {
                words.address(*address);
            }
        }
    }
    for subnet in oam_subnets {
        words.shown(subnet);
    }
    for kind in dual_stack {
        words.text(kind.name());
    }
    for gateway in systemcontroller_gateways {
        words.address(*gateway);
    }
}
