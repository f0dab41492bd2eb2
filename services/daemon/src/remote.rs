//! Calls that are meant for a subcloud's site: the metadata `tandem-subcloud` in front of the site
//! services, and the site services without a network behind them.
//!
//! A request is passed on as bytes and its answer as it comes, so neither a new field nor the
//! detail of a refusal is lost on the way.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::access::AccessReason;
use api::status::Asked;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use fleet::SiteMethod;
use http::HeaderMap;
use http::uri::PathAndQuery;
use prost::bytes::{Buf as _, BufMut as _};
use site::{Rejection, Violation};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::UnaryService;
use tonic::service::Routes;

use crate::operators::site_routes;
use crate::{Caller, Life, MAX_OPERATOR_MESSAGE_BYTES, SiteKeeper};

/// The metadata that names a subcloud.
pub const SUBCLOUD_METADATA: &str = "tandem-subcloud";

/// Why the metadata is not taken, in the words of every refusal.
const LEAVE_OUT: &str = "leave the metadata tandem-subcloud out of this call";

/// The services of every site begin with it.
const SITE_PACKAGE: &str = "/tandem.site.v1.";

/// Reflection describes what is served here, which for a site's services is what a subcloud
/// serves too. Tools send it the metadata of the call that they prepare.
const REFLECTION: &str = "/grpc.reflection.";

/// A call of a subcloud's site.
#[derive(Debug)]
pub struct RemoteCall {
    /// Who calls; the role allows the method.
    pub caller: Caller,
    /// Name or uuid of the subcloud.
    pub subcloud: String,
    /// What is called.
    pub method: SiteMethod,
    /// The encoded request.
    pub request: Vec<u8>,
    /// How long the caller waits; `None` when it did not say.
    pub within: Option<Duration>,
}

/// The answer to come: an encoded message, or the status of a failure.
pub type RemoteAnswer = Pin<Box<dyn Future<Output = Result<Vec<u8>, Status>> + Send>>;

/// Passes calls on to subclouds.
pub trait Subclouds: fmt::Debug + Send + Sync + 'static {
    /// Calls a subcloud's site.
    fn call(&self, call: RemoteCall) -> RemoteAnswer;
}

/// The way to subclouds; an agent has none.
pub(crate) type Way = Option<Arc<dyn Subclouds>>;

/// Stands between the access check and the services: a call whose metadata names a subcloud goes
/// there, every other one goes on.
pub(crate) async fn pass_on(State(way): State<Way>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let Some(named) = named(request.headers()) else {
        return next.run(request).await;
    };
    if path.starts_with(REFLECTION) {
        return next.run(request).await;
    }
    let passing = named.and_then(|subcloud| {
        let (method, subclouds) = (method(path)?, way.ok_or_else(not_a_controller)?);
        Ok(Passing {
            subclouds,
            subcloud,
            method,
            within: within(request.headers()),
        })
    });
    match passing {
        Ok(passing) => {
            let mut grpc =
                tonic::server::Grpc::new(Raw).max_decoding_message_size(MAX_OPERATOR_MESSAGE_BYTES);
            let answer = grpc.unary(passing, request).await;
            answer.map(axum::body::Body::new)
        }
        Err(refusal) => refusal.into_http(),
    }
}

/// The subcloud that the metadata names, if there is any.
fn named(headers: &HeaderMap) -> Option<Result<String, Status>> {
    let mut values = headers.get_all(SUBCLOUD_METADATA).iter();
    let first = values.next()?;
    let name = first.to_str().unwrap_or_default().trim();
    if name.is_empty() || values.next().is_some() {
        return Some(Err(refused(
            AccessReason::SubcloudMetadataInvalid,
            "the metadata tandem-subcloud must be the name or the uuid of one subcloud",
            "give it once, such as `tandem-subcloud: subcloud-1`",
        )));
    }
    Some(Ok(name.to_owned()))
}

/// What is called at the subcloud.
fn method(path: &str) -> Result<SiteMethod, Status> {
    if !path.starts_with(SITE_PACKAGE) {
        return Err(refused(
            AccessReason::SubcloudMetadataMisplaced,
            format!("{path} is not of a site, so no subcloud can answer it"),
            LEAVE_OUT,
        ));
    }
    SiteMethod::from_path(path).ok_or_else(|| {
        refused(
            AccessReason::MethodNotRemote,
            format!("{path} cannot be called at a subcloud through its controller"),
            "call it at the subcloud's own agent; to follow a subcloud from here, ask \
             SubcloudService/ListFleetEvents",
        )
    })
}

fn not_a_controller() -> Status {
    refused(
        AccessReason::NotAController,
        "this is the agent of one site, which has no subclouds",
        LEAVE_OUT,
    )
}

fn refused(reason: AccessReason, message: impl Into<String>, remedy: &str) -> Status {
    api::status::from_rejection(&Rejection::one(Violation::new(reason, message, remedy)))
}

/// How long the caller waits, as gRPC writes it: digits and a unit. What is malformed counts as
/// not said, as everywhere in gRPC.
fn within(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 60 * 60),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// One call on its way.
#[derive(Debug)]
struct Passing {
    subclouds: Arc<dyn Subclouds>,
    subcloud: String,
    method: SiteMethod,
    within: Option<Duration>,
}

impl UnaryService<Vec<u8>> for Passing {
    type Response = Vec<u8>;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Vec<u8>>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Vec<u8>>) -> Self::Future {
        let caller = Caller::of(&request);
        let answer = self.subclouds.call(RemoteCall {
            caller,
            subcloud: self.subcloud.clone(),
            method: self.method,
            request: request.into_inner(),
            within: self.within,
        });
        Box::pin(async {
            let answer = answer.await.map(tonic::Response::new);
            answer.map_err(|refusal| api::status::marked(refusal, Asked::Yes))
        })
    }
}

/// The services of the daemon's own site, called within the process: the same code as behind the
/// socket, so the same answers.
#[derive(Debug, Clone)]
pub struct OwnSite(Routes);

impl OwnSite {
    /// The services of a site.
    pub fn new(keeper: &Arc<SiteKeeper>, life: &Life) -> Self {
        Self(site_routes(keeper, life).routes())
    }

    /// Calls a method.
    ///
    /// # Errors
    /// The status that the service gives.
    pub async fn call(
        &self,
        caller: Caller,
        method: SiteMethod,
        request: Vec<u8>,
    ) -> Result<Vec<u8>, Status> {
        // The answer is in memory already: what may be sent on is decided where it is sent.
        let mut grpc =
            tonic::client::Grpc::new(self.0.clone()).max_decoding_message_size(usize::MAX);
        if let Err(never) = grpc.ready().await {
            match never {}
        }
        let mut request = tonic::Request::new(request);
        request.extensions_mut().insert(caller);
        let path = PathAndQuery::from_static(method.path());
        let answer = grpc.unary(request, path, Raw).await?;
        Ok(answer.into_inner())
    }
}

/// Messages as bytes.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_deadline_is_read_as_grpc_writes_it() {
        let check = |text: &str, expected: Option<Duration>| {
            let value = HeaderValue::from_str(text).expect("a header");
            let headers = HeaderMap::from_iter([(
                http::header::HeaderName::from_static("grpc-timeout"),
                value,
            )]);
            assert_eq!(within(&headers), expected, "{text}");
        };
        check("2S", Some(Duration::from_secs(2)));
        check("1500m", Some(Duration::from_millis(1500)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        check("7u", Some(Duration::from_micros(7)));
        check("7n", Some(Duration::from_nanos(7)));
        check("1M", Some(Duration::from_secs(60)));
        check("", None);
        check("S", None);
        check("5", None);
        check("123456789S", None);
        check("+1S", None);
        check("1x", None);
    }
}
