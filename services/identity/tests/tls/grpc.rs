//! tonic over the acceptor and over `connect`, as both services wire them.

use std::sync::Arc;
use std::time::SystemTime;

use hyper_util::rt::TokioIo;
use identity::{
    Acceptor, ClientCertificates, ConnectInfo, Limits, connect, link_client_config, server_config,
};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::service::InterceptorLayer;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use crate::support::{Controller, LOOPBACKS, SUBCLOUD, bind, within_deadline};

/// Refuses whoever has no certificate, and answers the others with their own name.
fn name_the_caller(request: Request<()>) -> Result<Request<()>, Status> {
    let info = request.extensions().get::<ConnectInfo>();
    let certificate = info.and_then(|info| info.certificate.as_ref());
    match certificate {
        Some(certificate) => Err(Status::already_exists(certificate.identity.to_string())),
        None => Err(Status::unauthenticated("no certificate")),
    }
}

async fn channel(config: Arc<ClientConfig>, address: std::net::SocketAddr) -> Channel {
    let connector = service_fn(move |_| {
        let config = Arc::clone(&config);
        async move {
            let socket = TcpStream::connect(address).await?;
            let stream = connect(config, address.ip(), socket)
                .await
                .map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://controller")
        .connect_with_connector(connector)
        .await
        .expect("a channel")
}

#[tokio::test]
async fn handlers_see_who_calls() {
    let controller = Controller::new(1);
    let ca = controller.ca.certificate();
    let socket = bind(LOOPBACKS[1]).await;
    let address = socket.local_addr().expect("bound");
    let serving = Arc::clone(&controller.serving);
    let config =
        server_config(&controller.ca, serving, ClientCertificates::Optional).expect("valid");
    let cancel = CancellationToken::new();
    let limits = Limits::default();
    let acceptor = Acceptor::new(socket, config, ca.trust_domain(), limits, cancel.clone());
    let (_reporter, health) = tonic_health::server::health_reporter();
    let served = tokio::spawn(
        Server::builder()
            .layer(InterceptorLayer::new(name_the_caller))
            .add_service(health)
            .serve_with_incoming(acceptor.into_stream()),
    );

    let (certificate, key) = controller.subcloud(SystemTime::now());
    let link = link_client_config(ca, certificate, &key).expect("a configuration");
    let enroll = identity::enroll_client_config(ca.spki_sha256()).expect("a configuration");
    for (config, code, message) in [
        (
            link,
            tonic::Code::AlreadyExists,
            format!("subcloud/{SUBCLOUD}"),
        ),
        (
            enroll,
            tonic::Code::Unauthenticated,
            "no certificate".to_owned(),
        ),
    ] {
        let mut client = HealthClient::new(channel(config, address).await);
        let call = client.check(HealthCheckRequest::default());
        let status = within_deadline(call)
            .await
            .expect_err("the interceptor answers");
        assert_eq!((status.code(), status.message()), (code, &*message));
    }

    cancel.cancel();
    let ended = within_deadline(served).await.expect("no panic");
    ended.expect("the server ends with its stream");
}
