//! The least that gRPC can do: messages as bytes, nothing encoded and nothing decoded.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use prost::bytes::{Buf as _, BufMut as _, Bytes};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

/// Lists the pools of a site.
const PATH: &str = "/tandem.site.v1.NetworkService/ListAddressPools";

/// The limit of one answer, above that of common clients.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Asks for the pools of a site.
pub(crate) async fn ask(channel: &Channel, request: &Bytes) -> Result<Bytes, Status> {
    let mut client = Client::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(PATH);
    let answer = client.unary(Request::new(request.clone()), path, Raw).await;
    answer.map(Response::into_inner)
}

/// Answers every question on a unix socket with the same bytes.
pub(crate) async fn serve(socket: &Path, answer: Bytes) -> std::io::Result<JoinHandle<()>> {
    let listener = UnixListenerStream::new(UnixListener::bind(socket)?);
    let serving = Server::builder()
        .add_service(Bare(answer))
        .serve_with_incoming(listener);
    Ok(tokio::spawn(async move {
        serving.await.expect("a server that lasts");
    }))
}

/// The handler.
#[derive(Debug, Clone)]
struct Bare(Bytes);

impl NamedService for Bare {
    const NAME: &'static str = "tandem.site.v1.NetworkService";
}

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.clone();
        Box::pin(async move { Ok(Grpc::new(Raw).unary(answer, request).await) })
    }
}

impl UnaryService<Bytes> for Bare {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}

/// Bytes in, bytes out.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
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
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(item.len());
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
