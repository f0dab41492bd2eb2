//! Derived views of a site and its pools: what listings and records show.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::{Attachment, Network, Pool, PoolId, PoolParts, Rank, Site};

impl Site {
    /// The network that a pool belongs to, and its rank there (I5: at most one).
    pub fn network_of(&self, pool: PoolId) -> Option<(&Network, Rank)> {
        self.networks().find_map(|network| {
            let (rank, _) = network.pools().iter().find(|(_, end)| end.pool == pool)?;
            Some((network, rank))
        })
    }

    /// Every association, by network number, primary first.
    pub fn attachments(&self) -> impl Iterator<Item = (&Network, Rank, Attachment)> {
        self.networks().flat_map(|network| {
            network
                .pools()
                .iter()
                .map(move |(rank, attachment)| (network, rank, attachment))
        })
    }
}

impl Pool {
    /// The fields of the pool.
    pub fn to_parts(&self) -> PoolParts {
        PoolParts {
            id: self.id(),
            name: self.name().to_owned(),
            subnet: self.subnet(),
            order: self.order(),
            ranges: self
                .ranges()
                .iter()
                .map(|range| (range.first(), range.last()))
                .collect(),
            addresses: *self.addresses(),
            holders: self.holders().clone(),
            remembered: self.remembered().clone(),
        }
    }

    /// A short text that changes with every change of the fields that operators set, so that
    /// an update can say which version of the pool it was made for.
    pub fn etag(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}", (self.name(), self.subnet(), self.order())));
        hash.update(format!("{:?}", (self.ranges(), self.addresses())));
        let mut text = String::with_capacity(16);
        for byte in &hash.finalize()[..8] {
            // Writing to a String cannot fail.
            let _written = write!(text, "{byte:02x}");
        }
        text
    }
}
