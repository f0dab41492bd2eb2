//! Answers whose entries are encoded already: the same bytes for clients, and nothing to convert
//! for a server that has been asked before.

use prost::Message as _;
use prost::bytes::Bytes;

use crate::site_v1::AddressPool;

/// A page of address pools: `tandem.site.v1.ListAddressPoolsResponse` with every pool encoded. On
/// the wire a repeated message is repeated bytes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListAddressPoolsResponse {
    /// The pools, each an encoded [`AddressPool`].
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub address_pools: Vec<Bytes>,
    /// Token of the next page; empty on the last.
    #[prost(string, tag = "2")]
    pub next_page_token: String,
}

impl ListAddressPoolsResponse {
    /// A page of these pools.
    pub fn of(pools: &[AddressPool], next_page_token: String) -> Self {
        Self {
            address_pools: pools.iter().map(encoded).collect(),
            next_page_token,
        }
    }

    /// The pools.
    ///
    /// # Errors
    /// When the bytes of one are no pool.
    pub fn pools(&self) -> Result<Vec<AddressPool>, prost::DecodeError> {
        let read = |bytes: &Bytes| AddressPool::decode(bytes.clone());
        self.address_pools.iter().map(read).collect()
    }
}

/// The bytes of a pool within a page.
pub fn encoded(pool: &AddressPool) -> Bytes {
    pool.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message as the contract has it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Contract {
        #[prost(message, repeated, tag = "1")]
        address_pools: Vec<AddressPool>,
        #[prost(string, tag = "2")]
        next_page_token: String,
    }

    #[test]
    fn clients_see_the_contract() {
        let pool = |name: &str| AddressPool {
            name: name.to_owned(),
            prefix: 64,
            ..AddressPool::default()
        };
        let address_pools = vec![pool("a"), AddressPool::default(), pool("b")];
        let page = ListAddressPoolsResponse::of(&address_pools, "b".to_owned());
        let seen = Contract::decode(page.encode_to_vec().as_slice()).expect("a page");
        assert_eq!(seen.address_pools, address_pools);
        assert_eq!(seen.next_page_token, "b");
        let back = ListAddressPoolsResponse::decode(seen.encode_to_vec().as_slice());
        assert_eq!(back.expect("a page").pools().expect("pools"), address_pools);
    }
}
