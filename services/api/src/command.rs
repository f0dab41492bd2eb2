//! What the controller must know of a request that it passes on to a subcloud: whether it
//! changes something, and by which id it can be asked for again.

use fleet::SiteMethod;
use prost::DecodeError;

use crate::mutation::Mutation;
use crate::site_v1;

/// A request that is ready to be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The request as it came, and at its end the id when it had none.
    pub request: Vec<u8>,
    /// The id of a change; empty when nothing changes.
    pub request_id: String,
    /// Whether it changes something: a method that does, and no preview of it.
    pub changes: bool,
}

/// Looks into a request and gives a change that has no id a fresh one, so that it can be asked
/// for again when its answer is lost. A question that cannot be read is passed on as it is: the
/// site says what is wrong with it.
///
/// # Errors
/// A change that cannot be read.
pub fn prepare(
    method: SiteMethod,
    request: Vec<u8>,
    fresh_id: &str,
) -> Result<Prepared, DecodeError> {
    let change = match method {
        SiteMethod::CreateNetwork => change::<site_v1::CreateNetworkRequest>,
        SiteMethod::DeleteNetwork => change::<site_v1::DeleteNetworkRequest>,
        SiteMethod::CreateAddressPool => change::<site_v1::CreateAddressPoolRequest>,
        SiteMethod::UpdateAddressPool => change::<site_v1::UpdateAddressPoolRequest>,
        SiteMethod::DeleteAddressPool => change::<site_v1::DeleteAddressPoolRequest>,
        SiteMethod::AssignAddressPool => change::<site_v1::AssignAddressPoolRequest>,
        SiteMethod::RemoveAddressPool => change::<site_v1::RemoveAddressPoolRequest>,
        SiteMethod::LockHost => change::<site_v1::LockHostRequest>,
        SiteMethod::UnlockHost => change::<site_v1::UnlockHostRequest>,
        SiteMethod::ReportHost => change::<site_v1::ReportHostRequest>,
        SiteMethod::UpdateDns => change::<site_v1::UpdateDnsRequest>,
        SiteMethod::UpdateOam => change::<site_v1::UpdateOamRequest>,
        SiteMethod::ListNetworks
        | SiteMethod::GetNetwork
        | SiteMethod::ListAddressPools
        | SiteMethod::GetAddressPool
        | SiteMethod::ListNetworkAddressPools
        | SiteMethod::GetNetworkAddressPool
        | SiteMethod::GetSite
        | SiteMethod::ListHosts
        | SiteMethod::ListAlarms
        | SiteMethod::GetDns
        | SiteMethod::GetOam
        | SiteMethod::GetKubernetes => unchanged,
    };
    change(request, fresh_id)
}

fn unchanged(request: Vec<u8>, _: &str) -> Result<Prepared, DecodeError> {
    Ok(Prepared {
        request,
        request_id: String::new(),
        changes: false,
    })
}

fn change<R: Mutation>(mut request: Vec<u8>, fresh_id: &str) -> Result<Prepared, DecodeError> {
    let read = R::decode(request.as_slice())?;
    if read.validate_only() {
        return unchanged(request, fresh_id);
    }
    let mut request_id = read.request_id().to_owned();
    if request_id.is_empty() {
        fresh_id.clone_into(&mut request_id);
        // Encoded messages that follow each other are one: fields that this version does not
        // know stay as they are.
        request.extend(R::named(request_id.clone()).encode_to_vec());
    }
    Ok(Prepared {
        request,
        request_id,
        changes: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use std::collections::BTreeSet;

    #[test]
    fn every_method_of_a_site_with_one_answer_is_known_and_no_other() {
        let set = prost_types::FileDescriptorSet::decode(crate::DESCRIPTORS).expect("descriptors");
        let files = set.file.iter();
        let files = files.filter(|file| file.package() == "tandem.site.v1");
        let mut described = BTreeSet::new();
        for file in files {
            for service in &file.service {
                for method in &service.method {
                    if method.server_streaming() || method.client_streaming() {
                        continue;
                    }
                    let request = file_message(&set, method.input_type());
                    let changes = request.iter().any(|field| field == "validate_only");
                    let path = format!("/tandem.site.v1.{}/{}", service.name(), method.name());
                    described.insert((path, changes));
                }
            }
        }
        let known = SiteMethod::ALL.iter();
        let known: BTreeSet<_> = known
            .map(|method| (method.path().to_owned(), method.changes()))
            .collect();
        assert_eq!(known, described);
    }

    fn file_message(set: &prost_types::FileDescriptorSet, name: &str) -> Vec<String> {
        let short = name.rsplit('.').next().expect("a name");
        let files = set.file.iter();
        let files = files.filter(|file| file.package() == "tandem.site.v1");
        let mut messages = files.flat_map(|file| &file.message_type);
        let found = messages.find(|message| message.name() == short);
        let fields = &found.expect("a message").field;
        fields.iter().map(|field| field.name().to_owned()).collect()
    }

    #[test]
    fn a_change_can_be_asked_for_again() {
        let request = site_v1::UpdateDnsRequest {
            servers: vec!["10.0.0.1".to_owned()],
            ..Default::default()
        };
        // A field of a later version.
        let mut bytes = request.encode_to_vec();
        bytes.extend([0xa2, 0x06, 0x01, 0x07]);
        let prepared = prepare(SiteMethod::UpdateDns, bytes.clone(), "fresh").expect("sound");
        assert_eq!(
            (prepared.request_id.as_str(), prepared.changes),
            ("fresh", true)
        );
        assert!(prepared.request.starts_with(&bytes));
        let read = site_v1::UpdateDnsRequest::decode(prepared.request.as_slice()).expect("sound");
        assert_eq!(
            (read.servers, read.request_id),
            (request.servers, "fresh".to_owned())
        );

        let check = |method, message: site_v1::UpdateDnsRequest, id: &str, changes| {
            let bytes = message.encode_to_vec();
            let prepared = prepare(method, bytes.clone(), "fresh").expect("sound");
            assert_eq!(prepared.request, bytes);
            assert_eq!(
                (prepared.request_id.as_str(), prepared.changes),
                (id, changes)
            );
        };
        let own = site_v1::UpdateDnsRequest::named("own".to_owned());
        check(SiteMethod::UpdateDns, own.clone(), "own", true);
        check(SiteMethod::GetDns, own, "", false);
        let preview = site_v1::UpdateDnsRequest {
            validate_only: true,
            ..Default::default()
        };
        check(SiteMethod::UpdateDns, preview, "", false);
        prepare(SiteMethod::UpdateDns, vec![0xff], "fresh").expect_err("a broken change");
        let broken = prepare(SiteMethod::GetDns, vec![0xff], "fresh").expect("only a question");
        assert_eq!(broken.request, [0xff]);
    }
}
