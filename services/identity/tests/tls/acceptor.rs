//! The acceptor under clients that stall, lie and crowd.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::{
    Acceptor, ClientCertificates, Identity, Limits, Listener, link_client_config, server_config,
};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Controller, LOOPBACKS, SUBCLOUD, Server, bind, echo, within_deadline};

async fn listen(controller: &Controller, limits: Limits) -> Server {
    let socket = bind(LOOPBACKS[1]).await;
    let address = socket.local_addr().expect("bound");
    controller.serve(ClientCertificates::Optional, socket, address, limits)
}

fn link(controller: &Controller) -> Arc<ClientConfig> {
    let (certificate, key) = controller.subcloud(SystemTime::now());
    link_client_config(controller.ca.certificate(), certificate, &key).expect("a configuration")
}

/// A connection that the server closes without a word.
async fn is_closed(mut socket: TcpStream) {
    let mut rest = Vec::new();
    let read = within_deadline(socket.read_to_end(&mut rest)).await;
    assert!(read.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn stalled_handshakes_time_out_while_others_are_served() {
    let controller = Controller::new(1);
    let limits = Limits {
        handshake_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let mut server = listen(&controller, limits).await;
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let socket = TcpStream::connect(server.address).await.expect("listening");
        stalled.push(socket);
    }
    // The beginning of a ClientHello, and then silence.
    stalled[0].write_all(&[22, 3, 1]).await.expect("open");

    server.exchange(&link(&controller)).await.served();

    server.until(|counts| counts.handshake_timeout == 5).await;
    for socket in stalled {
        is_closed(socket).await;
    }
    server.exchange(&link(&controller)).await.served();
}

#[tokio::test]
async fn half_open_handshakes_are_bounded_and_the_rest_waits() {
    let controller = Controller::new(1);
    let limits = Limits {
        half_open: 1,
        handshake_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let mut server = listen(&controller, limits).await;
    let _stalled = TcpStream::connect(server.address).await.expect("listening");
    server.until(|counts| counts.open == 1).await;
    // Served only once the stalled one has timed out.
    server.exchange(&link(&controller)).await.served();
    assert_eq!(server.connections.counts().handshake_timeout, 1);
}

#[tokio::test]
async fn garbage_ends_one_connection_and_nothing_else() {
    let controller = Controller::new(1);
    let mut server = listen(&controller, Limits::default()).await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 64],
        &[22, 3, 1, 0, 1, 0],
    ] {
        let mut socket = TcpStream::connect(server.address).await.expect("listening");
        socket.write_all(garbage).await.expect("open");
    }
    drop(TcpStream::connect(server.address).await.expect("listening"));
    server.until(|counts| counts.handshake_failed == 4).await;
    server.exchange(&link(&controller)).await.served();
}

#[tokio::test]
async fn a_crowd_is_refused_and_places_are_freed() {
    let controller = Controller::new(1);
    for (limits, per_source) in [
        (
            Limits {
                connections: 2,
                ..Limits::default()
            },
            false,
        ),
        (
            Limits {
                per_source: 2,
                ..Limits::default()
            },
            true,
        ),
    ] {
        let server = listen(&controller, limits).await;
        let config = link(&controller);
        let mut first = server.dial(&config).await.expect("room");
        let mut second = server.dial(&config).await.expect("room");
        echo(&mut first).await.expect("served");
        echo(&mut second).await.expect("served");

        is_closed(TcpStream::connect(server.address).await.expect("listening")).await;
        let counts = server.connections.counts();
        let refused = (counts.too_many_from_source, counts.too_many_connections);
        assert_eq!(refused, if per_source { (1, 0) } else { (0, 1) });
        echo(&mut first)
            .await
            .expect("the others are not disturbed");

        drop(second);
        server.until(|counts| counts.open == 1).await;
        let mut third = server.dial(&config).await.expect("room again");
        echo(&mut third).await.expect("served");
        drop((first, third));
        server.until(|counts| counts.open == 0).await;
    }
}

#[tokio::test]
async fn a_revoked_identity_loses_its_connections_at_once() {
    let controller = Controller::new(1);
    let server = listen(&controller, Limits::default()).await;
    let mut revoked = server.dial(&link(&controller)).await.expect("room");
    let mut also_revoked = server.dial(&link(&controller)).await.expect("room");
    let anonymous = identity::enroll_client_config(controller.ca.spki_sha256());
    let mut anonymous = server.dial(&anonymous.expect("valid")).await.expect("room");
    for stream in [&mut revoked, &mut also_revoked, &mut anonymous] {
        echo(stream).await.expect("served");
    }

    let of = |wanted: Identity| {
        server
            .connections
            .close_where(move |certificate| certificate.identity == wanted)
    };
    assert_eq!(of(Identity::Subcloud(Uuid::nil())), 0);
    assert_eq!(of(Identity::Subcloud(SUBCLOUD)), 2);

    // The server waits in a read: closing wakes it.
    server.until(|counts| counts.open == 1).await;
    within_deadline(revoked.read_u8())
        .await
        .expect_err("closed");
    within_deadline(also_revoked.read_u8())
        .await
        .expect_err("closed");
    echo(&mut anonymous).await.expect("others stay");
}

#[tokio::test]
async fn closing_fails_reads_and_writes_and_frees_the_place_on_drop() {
    let controller = Controller::new(1);
    let socket = bind(LOOPBACKS[0]).await;
    let address = socket.local_addr().expect("bound");
    let (mut acceptor, _cancel) = acceptor(&controller, socket);
    let connections = acceptor.connections();
    let client = async {
        let socket = TcpStream::connect(address).await.expect("listening");
        identity::connect(link(&controller), address.ip(), socket)
            .await
            .expect("trusted")
    };
    let (accepted, _client) =
        within_deadline(async { tokio::join!(acceptor.accept(), client) }).await;
    let mut connection = accepted.expect("a connection");
    connection.write_all(b"x").await.expect("open");

    connection.info().close.cancel();

    let read = connection.read_u8().await.expect_err("closed");
    let write = connection.write_all(b"x").await.expect_err("closed");
    let flush = connection.flush().await.expect_err("closed");
    for error in [read, write, flush] {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
    assert_eq!(connections.counts().open, 1);
    drop(connection);
    assert_eq!(connections.counts().open, 0);
}

/// Fails some times before it accepts, as a process out of file descriptors does.
struct Exhausted {
    failures: Vec<io::Error>,
    inner: TcpListener,
}

impl Listener for Exhausted {
    type Socket = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.failures.pop() {
            Some(error) => Err(error),
            None => self.inner.accept().await,
        }
    }
}

#[tokio::test]
async fn accept_errors_are_survived() {
    const EMFILE: i32 = 24;
    let controller = Controller::new(1);
    let inner = bind(LOOPBACKS[0]).await;
    let address = inner.local_addr().expect("bound");
    let listener = Exhausted {
        failures: vec![
            io::Error::from_raw_os_error(EMFILE),
            io::ErrorKind::ConnectionAborted.into(),
            io::Error::from_raw_os_error(EMFILE),
        ],
        inner,
    };
    let optional = ClientCertificates::Optional;
    let mut server = controller.serve(optional, listener, address, Limits::default());
    server.exchange(&link(&controller)).await.served();
    assert_eq!(server.connections.counts().accept_failed, 3);
}

fn acceptor(controller: &Controller, socket: TcpListener) -> (Acceptor, CancellationToken) {
    let serving = Arc::clone(&controller.serving);
    let ca = controller.ca.certificate();
    let config =
        server_config(&controller.ca, serving, ClientCertificates::Optional).expect("valid");
    let cancel = CancellationToken::new();
    let trust_domain = ca.trust_domain();
    let limits = Limits::default();
    (
        Acceptor::new(socket, config, trust_domain, limits, cancel.clone()),
        cancel,
    )
}

#[tokio::test]
async fn cancelling_ends_the_stream_and_the_handshakes_under_way() {
    let controller = Controller::new(1);
    let socket = bind(LOOPBACKS[0]).await;
    let address = socket.local_addr().expect("bound");
    let (mut acceptor, cancel) = acceptor(&controller, socket);
    let connections = acceptor.connections();
    let stalled = TcpStream::connect(address).await.expect("listening");
    let stop = async {
        while connections.counts().open == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cancel.cancel();
    };
    let (ended, ()) = within_deadline(async { tokio::join!(acceptor.accept(), stop) }).await;
    assert!(ended.is_none());
    is_closed(stalled).await;
    drop(acceptor);
    TcpStream::connect(address)
        .await
        .expect_err("nobody listens");
}
