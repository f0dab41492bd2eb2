//! What every mutation has in common.

use crate::{fleet_v1, site_v1};

/// A request that changes something.
pub trait Mutation: prost::Message + Default + 'static {
    /// Only tell what would happen.
    fn validate_only(&self) -> bool;
    /// The client's name of the request; empty when it gave none.
    fn request_id(&self) -> &str;
    /// The version of the object that the client read; empty skips the check.
    fn etag(&self) -> &str {
        ""
    }
}

macro_rules! mutations {
    ($($message:ty $(, $etag:ident)?;)*) => {$(
        impl Mutation for $message {
            fn validate_only(&self) -> bool {
                self.validate_only
            }

            fn request_id(&self) -> &str {
                &self.request_id
            }
            $(
            fn etag(&self) -> &str {
                &self.$etag
            })?
        }
    )*};
}

mutations! {
    site_v1::CreateNetworkRequest;
    site_v1::DeleteNetworkRequest;
    site_v1::CreateAddressPoolRequest;
    site_v1::UpdateAddressPoolRequest, etag;
    site_v1::DeleteAddressPoolRequest, etag;
    site_v1::AssignAddressPoolRequest;
    site_v1::RemoveAddressPoolRequest;
    site_v1::LockHostRequest;
    site_v1::UnlockHostRequest;
    site_v1::ReportHostRequest;
    site_v1::UpdateDnsRequest;
    site_v1::UpdateOamRequest;
    fleet_v1::AddSubcloudRequest;
    fleet_v1::IssueSubcloudTokenRequest;
}
