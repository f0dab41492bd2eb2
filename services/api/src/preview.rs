//! Whether a request that nobody carries out, and nobody decodes, asked only what would happen.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::FileDescriptorSet;

/// The number of `validate_only` in the request of each method that has it, by the path of the
/// method.
static FLAGS: LazyLock<BTreeMap<String, u32>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap_or_default();
    let mut flags = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            let named =
                |field: &&prost_types::FieldDescriptorProto| field.name() == "validate_only";
            let number = message.field.iter().find(named);
            if let Some(number) = number.and_then(|field| u32::try_from(field.number()).ok()) {
                flags.insert(format!(".{}.{}", file.package(), message.name()), number);
            }
        }
    }
    let services = set.file.iter().flat_map(|file| {
        let methods = |service: &prost_types::ServiceDescriptorProto| {
            let path = format!("/{}.{}", file.package(), service.name());
            let method = move |method: &prost_types::MethodDescriptorProto| {
                (
                    format!("{path}/{}", method.name()),
                    method.input_type().to_owned(),
                )
            };
            service.method.iter().map(method).collect::<Vec<_>>()
        };
        file.service.iter().flat_map(methods)
    });
    let of_method = |(path, input): (String, String)| Some((path, *flags.get(&input)?));
    services.filter_map(of_method).collect()
});

/// Whether there is a request of a method that only asks.
pub fn can_only_ask(path: &str) -> bool {
    FLAGS.contains_key(path)
}

/// Whether an encoded request of a method has `validate_only` set. What cannot be read says no.
pub fn only_asks(path: &str, request: &[u8]) -> bool {
    FLAGS.get(path).is_some_and(|number| flag(*number, request))
}

/// The flag of a number in an encoded message; the last one counts, as for every decoder.
fn flag(number: u32, mut message: &[u8]) -> bool {
    let mut set = false;
    while !message.is_empty() {
        let Ok((tag, wire_type)) = decode_key(&mut message) else {
            return false;
        };
        if tag == number && wire_type == WireType::Varint {
            match decode_varint(&mut message) {
                Ok(value) => set = value != 0,
                Err(_) => return false,
            }
        } else if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
            return false;
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_v1::{AddSubcloudRequest, ListSubcloudsRequest};
    use crate::site_v1::{AddressPool, CreateAddressPoolRequest};

    #[test]
    fn a_request_tells_whether_it_only_asks() {
        let (add, create) = (
            "/tandem.fleet.v1.SubcloudService/AddSubcloud",
            "/tandem.site.v1.NetworkService/CreateAddressPool",
        );
        for validate_only in [false, true] {
            let request = AddSubcloudRequest {
                name: "west".to_owned(),
                bootstrap_values: vec![8; 300],
                validate_only,
                ..AddSubcloudRequest::default()
            };
            assert_eq!(only_asks(add, &request.encode_to_vec()), validate_only);
            let request = CreateAddressPoolRequest {
                address_pool: Some(AddressPool::default()),
                validate_only,
                request_id: "x".to_owned(),
            };
            assert_eq!(only_asks(create, &request.encode_to_vec()), validate_only);
        }
        let lists = "/tandem.fleet.v1.SubcloudService/ListSubclouds";
        let list = ListSubcloudsRequest::default().encode_to_vec();
        assert!(!only_asks(lists, &list));
        assert_eq!([add, create, lists].map(can_only_ask), [true, true, false]);
        for unreadable in [&[0xff; 11][..], &[0x0a, 0x09]] {
            assert!(!only_asks(add, unreadable));
        }
    }
}
