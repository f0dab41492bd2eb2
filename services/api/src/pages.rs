//! Answers that are encoded already: the same bytes for clients, and nothing to convert for a
//! server that has been asked before.

use prost::DecodeError;
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, skip_field};

use crate::site_v1::AddressPool;

/// A page of address pools, encoded: `tandem.site.v1.ListAddressPoolsResponse`. Copies share its
/// bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListAddressPoolsResponse(Bytes);

/// The message as the contract has it.
#[derive(Clone, PartialEq, prost::Message)]
struct Contract {
    #[prost(message, repeated, tag = "1")]
    address_pools: Vec<AddressPool>,
    #[prost(string, tag = "2")]
    next_page_token: String,
}

/// The same on the wire, where a message within a message is bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct OfEncoded {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    address_pools: Vec<Bytes>,
    #[prost(string, tag = "2")]
    next_page_token: String,
}

impl ListAddressPoolsResponse {
    /// A page of these pools.
    pub fn of(address_pools: Vec<AddressPool>, next_page_token: String) -> Self {
        let page = Contract {
            address_pools,
            next_page_token,
        };
        Self(page.encode_to_vec().into())
    }

    /// A page of pools that are [`encoded`].
    pub fn of_encoded(address_pools: Vec<Bytes>, next_page_token: String) -> Self {
        let page = OfEncoded {
            address_pools,
            next_page_token,
        };
        Self(page.encode_to_vec().into())
    }

    /// The pools, and the token of the next page, which is empty on the last.
    ///
    /// # Errors
    /// When the bytes are no page.
    pub fn read(&self) -> Result<(Vec<AddressPool>, String), DecodeError> {
        let page = Contract::decode(self.0.clone())?;
        Ok((page.address_pools, page.next_page_token))
    }
}

/// Fields are kept as they come, to be read together by [`ListAddressPoolsResponse::read`].
impl Message for ListAddressPoolsResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if wire_type != WireType::LengthDelimited {
            // The page has no such field: it is of a later contract.
            return skip_field(wire_type, tag, buf, ctx);
        }
        let mut field = Bytes::new();
        prost::encoding::bytes::merge(wire_type, &mut field, buf, ctx)?;
        let all = std::mem::take(&mut self.0).try_into_mut();
        let mut all = all.unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
        encode_key(tag, wire_type, &mut all);
        encode_varint(u64::try_from(field.len()).unwrap_or(u64::MAX), &mut all);
        all.extend_from_slice(&field);
        self.0 = all.freeze();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// The bytes of a pool within a page.
pub fn encoded(pool: &AddressPool) -> Bytes {
    pool.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_see_the_contract() {
        let pool = |name: &str| AddressPool {
            name: name.to_owned(),
            prefix: 64,
            ..AddressPool::default()
        };
        let pools = vec![pool("a"), AddressPool::default(), pool("b")];
        let page = ListAddressPoolsResponse::of(pools.clone(), "b".to_owned());
        let each = pools.iter().map(encoded).collect();
        assert_eq!(
            page,
            ListAddressPoolsResponse::of_encoded(each, "b".to_owned())
        );
        let seen = Contract::decode(page.encode_to_vec().as_slice()).expect("a page");
        assert_eq!(seen.address_pools, pools);
        assert_eq!(seen.next_page_token, "b");
        let back = ListAddressPoolsResponse::decode(seen.encode_to_vec().as_slice());
        assert_eq!(
            back.expect("a page").read().expect("pools"),
            (pools, "b".to_owned())
        );
    }

    #[test]
    fn fields_of_a_later_contract_are_no_fault() {
        let mut later = ListAddressPoolsResponse::of(Vec::new(), "b".to_owned()).encode_to_vec();
        // Field 9, a number.
        later.extend([0x48, 0x07]);
        let page = ListAddressPoolsResponse::decode(later.as_slice()).expect("a page");
        assert_eq!(page.read().expect("pools"), (Vec::new(), "b".to_owned()));
    }
}
