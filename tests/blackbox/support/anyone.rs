//! Calls of any method over TLS with any certificate, for what must be refused: requests are
//! empty, and answers are not read.

use std::net::SocketAddr;

use hyper_util::rt::TokioIo;
use identity::{CaCertificate, LeafKey};
use tokio::net::TcpStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// A connection of the holder of a certificate.
pub(crate) async fn connect(
    address: &str,
    authority: &CaCertificate,
    certificate: Vec<u8>,
    key: &LeafKey,
) -> Channel {
    let tls = identity::link_client_config(authority, certificate.into(), key).expect("TLS");
    let address: SocketAddr = address.parse().expect("an address");
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let stream = identity::connect(tls, address.ip(), tcp).await;
    let mut once = Some(TokioIo::new(stream.expect("a handshake")));
    let connector = tower::service_fn(move |_| {
        let stream = once.take();
        async { stream.ok_or_else(|| std::io::Error::other("the connection has ended")) }
    });
    let endpoint = Endpoint::from_static("http://controller");
    let channel = endpoint.connect_with_connector(connector).await;
    channel.expect("HTTP/2")
}

/// Calls a path such as `/tandem.fleet.v1.SubcloudService/ListSubclouds` with an empty request.
pub(crate) async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(path).expect("a path");
    let codec = ProstCodec::<(), ()>::default();
    let answer = client.unary(Request::new(()), path, codec).await;
    answer.map(tonic::Response::into_inner)
}
