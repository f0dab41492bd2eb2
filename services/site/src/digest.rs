//! The digest of a site: equal exactly when the network state is equal.

use sha2::{Digest as _, Sha256};

use crate::{Host, Network, Pool, Site};

/// The SHA-256 of a site's network state; the same in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Site {
    /// The digest of everything that is part of the network state. Left out are what only
    /// counts or dates changes: the generation, the numbers of configurations (whether one is
    /// pending is in), ids and times of alarms.
    pub fn digest(&self) -> Digest {
        let mut canon = Canon(Sha256::new());
        canon.text("tandem site 1");
        self.encode_identity(&mut canon);
        canon.all(self.networks(), |canon, network| network.encode(canon));
        canon.all(self.pools(), |canon, pool| pool.encode(canon));
        canon.all(self.hosts(), |canon, host| host.encode(canon));
        canon.all(self.dns_servers.iter(), |canon, server| {
            canon.text(&server.to_string())
        });
        canon.all(self.systemcontroller_gateways.iter(), |canon, gateway| {
            canon.text(&gateway.to_string());
        });
        canon.text(self.kubernetes.name());
        let mut alarms: Vec<_> = self.alarms.iter().collect();
        alarms.sort_by_key(|alarm| (&alarm.id, &alarm.entity));
        canon.all(alarms.into_iter(), |canon, alarm| {
            for text in [&alarm.id, &alarm.entity, &alarm.reason, &alarm.repair] {
                canon.text(text);
            }
            canon.text(alarm.severity.name());
        });
        Digest(canon.0.finalize().into())
    }

    fn encode_identity(&self, canon: &mut Canon) {
        let identity = self.identity();
        canon.bytes(identity.uuid.as_bytes());
        canon.text(&identity.name);
        canon.text(&identity.region_name);
        canon.text(identity.system_type.name());
        canon.text(identity.system_mode.name());
        canon.text(identity.role.name());
        canon.text(&identity.software_version.to_string());
        canon.flag(self.initial_config_complete);
    }
}

/// Length-prefixed fields in a fixed order, so that no two states have one encoding.
struct Canon(Sha256);

impl Canon {
    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.0.update([u8::from(flag)]);
    }

    fn count(&mut self, count: usize) {
        // usize is at most 64 bits wide on every platform that Rust has.
        self.0
            .update(u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes());
    }

    fn all<T>(&mut self, items: impl Iterator<Item = T>, each: impl Fn(&mut Self, T)) {
        let items: Vec<T> = items.collect();
        self.count(items.len());
        for item in items {
            each(self, item);
        }
    }
}

impl Network {
    fn encode(&self, canon: &mut Canon) {
        canon.text(&self.id.0.to_string());
        canon.bytes(self.uuid.as_bytes());
        canon.text(&self.name);
        canon.text(self.kind.name());
        canon.flag(self.dynamic);
        canon.all(self.pools.iter(), |canon, (_, end)| {
            canon.bytes(end.id.0.as_bytes());
            canon.bytes(end.pool.0.as_bytes());
        });
    }
}

impl Pool {
    fn encode(&self, canon: &mut Canon) {
        canon.bytes(self.id.0.as_bytes());
        canon.text(&self.name);
        canon.text(&self.subnet.to_string());
        canon.text(&self.order.to_string());
        canon.all(self.ranges.iter(), |canon, range| {
            canon.text(&range.to_string())
        });
        canon.all(self.addresses.iter(), |canon, (role, address)| {
            canon.text(role.field());
            canon.text(&address.to_string());
        });
        canon.all(self.holders.iter(), |canon, (address, holder)| {
            canon.text(&address.to_string());
            canon.text(holder);
        });
        canon.all(self.remembered.iter(), |canon, (holder, address)| {
            canon.text(holder);
            canon.text(&address.to_string());
        });
    }
}

impl Host {
    fn encode(&self, canon: &mut Canon) {
        canon.text(&self.hostname);
        canon.text(self.personality.name());
        canon.text(self.administrative.name());
        canon.flag(self.out_of_date());
        canon.flag(self.reboot_required);
    }
}
