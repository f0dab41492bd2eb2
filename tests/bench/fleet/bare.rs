//! The reference: what gRPC itself costs. tonic's `Server` with its default buffers, mutual TLS,
//! one bidirectional stream for each client, in a process of its own with the same allocator.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use api::fleet_v1::exchange_request::Message;
use api::fleet_v1::{ExchangeRequest, Heartbeat};
use futures_util::{Stream, StreamExt as _};
use hyper_util::rt::TokioIo;
use identity::{
    CONTROLLER_VALIDITY, Ca, CaParts, ClientCertificates, LeafKey, SUBCLOUD_VALIDITY,
    ServingCertificate, link_client_config, server_config,
};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use uuid::Uuid;

/// The one method.
const PATH: &str = "/bare.Echo/Exchange";
/// How the bench starts itself as the server.
pub(crate) const FLAG: &str = "--bare-server";

type Codec = ProstCodec<ExchangeRequest, ExchangeRequest>;

/// Serves until the process is killed; the first line says where.
pub(crate) fn serve(authority: &str) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let authority = Authority::read(authority);
        let key = LeafKey::generate().expect("a key");
        let issued =
            authority
                .0
                .issue_controller(&key, &[], SystemTime::now(), CONTROLLER_VALIDITY);
        let serving = ServingCertificate::new(
            authority.0.certificate(),
            &issued.expect("a certificate"),
            &key,
        );
        let config = server_config(
            &authority.0,
            serving.expect("they match"),
            ClientCertificates::Required,
        );
        let tls = TlsAcceptor::from(config.expect("TLS"));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        Server::builder()
            .add_service(Echo)
            .serve_with_incoming(handshakes(listener, tls))
            .await
            .map_err(io::Error::other)
    })
}

/// Handshakes side by side.
fn handshakes(listener: TcpListener, tls: TlsAcceptor) -> impl Stream<Item = io::Result<Secured>> {
    let (sender, secured) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, sender) = (tls.clone(), sender.clone());
            tokio::spawn(async move {
                drop(socket.set_nodelay(true));
                if let Ok(stream) = tls.accept(socket).await {
                    drop(sender.send(Ok(Secured(stream))).await);
                }
            });
        }
    });
    ReceiverStream::new(secured)
}

/// A TLS connection as tonic takes it.
struct Secured(TlsStream<TcpStream>);

impl Connected for Secured {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Echoes small messages, and acknowledges large ones with a small one.
#[derive(Debug, Clone, Copy)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "bare.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(Grpc::new(Codec::default()).streaming(Self, request).await) })
    }
}

impl StreamingService<ExchangeRequest> for Echo {
    type Response = ExchangeRequest;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<ExchangeRequest, Status>> + Send>>;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<ExchangeRequest>>) -> Self::Future {
        let echoed = request.into_inner().map(|message| {
            message.map(|message| match message.message {
                Some(Message::ReportChunk(_)) => heartbeat(),
                _ => message,
            })
        });
        Box::pin(std::future::ready(Ok(Response::new(
            Box::pin(echoed) as Self::ResponseStream
        ))))
    }
}

/// The smallest message.
pub(crate) fn heartbeat() -> ExchangeRequest {
    ExchangeRequest {
        message: Some(Message::Heartbeat(Heartbeat {})),
    }
}

/// Who signs both ends.
pub(crate) struct Authority(Ca);

impl Authority {
    pub(crate) fn new() -> Self {
        Self(Ca::generate(Uuid::from_u128(7), SystemTime::now()).expect("an authority"))
    }

    /// As an argument of the server's command line.
    fn text(&self) -> String {
        let CaParts {
            certificate_der,
            key_pkcs8_der,
        } = self.0.to_parts();
        [certificate_der, key_pkcs8_der]
            .map(|der| {
                der.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            })
            .join(",")
    }

    fn read(text: &str) -> Self {
        let (certificate, key) = text.split_once(',').expect("two parts");
        let bytes = |text: &str| -> Vec<u8> {
            let pairs = text.as_bytes().chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair).expect("hexadecimal");
                u8::from_str_radix(pair, 16).expect("hexadecimal")
            });
            pairs.collect()
        };
        let parts = CaParts {
            certificate_der: bytes(certificate),
            key_pkcs8_der: bytes(key),
        };
        Self(Ca::from_parts(&parts).expect("an authority"))
    }

    /// A client with a certificate of its own and no ticket yet.
    fn client(&self) -> Arc<ClientConfig> {
        let key = LeafKey::generate().expect("a key");
        let csr = key.csr_der().expect("a request");
        let id = Uuid::from_u128(rand::random());
        let issued = self
            .0
            .issue_subcloud(&csr, id, SystemTime::now(), SUBCLOUD_VALIDITY);
        let certificate = issued.expect("a certificate").der;
        link_client_config(self.0.certificate(), certificate, &key).expect("TLS")
    }

    /// As many clients as that.
    pub(crate) fn clients(&self, count: u16) -> Vec<Arc<ClientConfig>> {
        (0..count).map(|_| self.client()).collect()
    }
}

/// The server's process; killed when dropped.
pub(crate) struct Bare {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Bare {
    pub(crate) fn start(authority: &Authority) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .arg(FLAG)
            .arg(authority.text())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().parse().expect("an address");
        Self { child, address }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One client's stream.
pub(crate) struct Stream1 {
    outgoing: mpsc::Sender<ExchangeRequest>,
    incoming: Streaming<ExchangeRequest>,
}

impl Stream1 {
    /// Connects, with a full handshake the first time, and exchanges one message.
    pub(crate) async fn open(server: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let tcp = TcpStream::connect(server).await.expect("a connection");
        tcp.set_nodelay(true).expect("a socket");
        let stream = identity::connect(config, server.ip(), tcp).await;
        let mut once = Some(TokioIo::new(stream.expect("a handshake")));
        let connector = tower::service_fn(move |_| {
            let stream = once.take();
            async { stream.ok_or_else(|| io::Error::other("the connection has ended")) }
        });
        let channel = Endpoint::from_static("http://bare")
            .connect_with_connector(connector)
            .await
            .expect("HTTP/2");
        let (outgoing, messages) = mpsc::channel(1);
        let mut client = Client::new(channel);
        client.ready().await.expect("a connection");
        let request = Request::new(ReceiverStream::new(messages));
        let path = PathAndQuery::from_static(PATH);
        let answer = client.streaming(request, path, Codec::default()).await;
        let mut stream = Self {
            outgoing,
            incoming: answer.expect("a stream").into_inner(),
        };
        stream.exchange(heartbeat()).await;
        stream
    }

    /// Sends a message and waits for the answer.
    pub(crate) async fn exchange(&mut self, message: ExchangeRequest) {
        self.outgoing.send(message).await.expect("an open stream");
        let answer = self.incoming.message().await.expect("an answer");
        answer.expect("an open stream");
    }
}
