//! Strangers that flood, stall and guess while a crowd of agents is live: no agent loses its link,
//! and every kind of bad peer is refused and counted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use api::fleet_v1::enrollment_service_client::EnrollmentServiceClient;
use api::fleet_v1::exchange_request::Message as Say;
use api::fleet_v1::{EnrollRequest, Heartbeat};
use hyper_util::rt::TokioIo;
use identity::{EnrollmentToken, TlsStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tonic::transport::{Channel, Endpoint};

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::by_hand::ByHand;
use crate::support::client::operators;
use crate::support::cloud::{Added, Controller, Place};
use crate::support::console::Metrics;
use crate::support::crowd::{self, Crowd};
use crate::support::{PATIENCE, scale, scratch, wait_until};

/// Slow enough that a busy machine makes nobody miss three of them.
const SETTINGS: &str = "heartbeat_interval_milliseconds = 2000\n";

/// The beginning of HTTP/2, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `POST / http` for the authority `a`, compressed.
const HEADERS: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];

/// How many frames a flood has at most; it is refused long before.
const FRAMES: u32 = 5_000;

/// A controller that is attacked.
struct Attacked {
    controller: Controller,
    added: Added,
    address: SocketAddr,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_agent_is_lost_to_strangers_and_every_kind_of_them_is_counted() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V4);
    let mut controller = Controller::install(&dir.path().join("c"), site, Place::Loopback);
    controller.replace_settings(SETTINGS);
    controller.serve();
    let process = controller.daemon().id();
    let channel = operators(&controller.state_dir().join("operator.sock")).await;
    let count = u16::try_from(50 * scale()).expect("a small number");
    let members = crowd::enroll(crowd::installed(&channel, count).await).await;
    let crowd = Crowd::serve(members);
    crowd.in_sync(PATIENCE * 4).await;
    let losses = crowd.watch();

    let added = controller.add("target");
    let address = added.controller.strip_prefix("https://").expect("a URL");
    let mut attacked = Attacked {
        address: address.parse().expect("an address"),
        controller,
        added,
    };
    attacked.half_open().await;
    attacked.slow_bytes().await;
    attacked.no_tls_and_no_http2().await;
    attacked.rapid_reset().await;
    attacked.continuation_flood().await;
    attacked.oversize().await;
    attacked.bad_tokens().await;
    attacked.out_of_turn().await;

    assert_eq!(losses.names(), Vec::<String>::new());
    let mut controller = attacked.controller;
    let metrics = Metrics::of(&mut controller);
    let online = r#"tandem_subclouds{availability="online",management="unmanaged",sync="in-sync"}"#;
    assert!(metrics.get(online) >= f64::from(count), "{}", metrics.text);
    assert!(controller.events("", "OFFLINE").is_empty());
    assert_eq!(controller.daemon().id(), process);
    assert!(controller.daemon().is_running());
}

impl Attacked {
    /// Waits until a series is at least this.
    #[track_caller]
    fn counted(&mut self, series: &str, least: f64) {
        let mut last = None;
        let controller = &mut self.controller;
        wait_until(&format!("{series} is at least {least}"), PATIENCE, || {
            let metrics = Metrics::of(controller);
            let value = metrics.get(series);
            last = Some(value);
            value >= least
        });
    }

    fn count(&mut self, series: &str) -> f64 {
        Metrics::of(&mut self.controller).get(series)
    }

    /// A TCP connection from another loopback address for each kind of attack.
    async fn tcp(&self, from: u8) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let from = IpAddr::V4(Ipv4Addr::new(127, 66, 0, from));
        socket.bind(SocketAddr::new(from, 0))?;
        socket.connect(self.address).await
    }

    /// A TLS connection without a certificate.
    async fn tls(&self, from: u8) -> TlsStream<TcpStream> {
        let token = EnrollmentToken::parse(&self.added.token).expect("a token");
        let config = identity::enroll_client_config(token.ca()).expect("TLS");
        let tcp = self.tcp(from).await.expect("a connection");
        let stream = identity::connect(config, self.address.ip(), tcp).await;
        stream.expect("a handshake")
    }

    async fn channel(&self, from: u8) -> Channel {
        let mut once = Some(TokioIo::new(self.tls(from).await));
        let connector = tower::service_fn(move |_| {
            let stream = once.take();
            async { stream.ok_or_else(|| std::io::Error::other("the connection has ended")) }
        });
        let endpoint = Endpoint::from_static("http://controller");
        endpoint
            .connect_with_connector(connector)
            .await
            .expect("HTTP/2")
    }

    /// Handshakes that are begun and left: a source has few places, and those for 5 s only.
    async fn half_open(&mut self) {
        let mut open = Vec::new();
        for _ in 0..100 * scale() {
            open.push(self.tcp(1).await.expect("a connection"));
        }
        let many =
            r#"tandem_connection_refusals_total{listener="link",cause="too_many_from_source"}"#;
        self.counted(many, 60.0);
        let slow = r#"tandem_connection_refusals_total{listener="link",cause="handshake_timeout"}"#;
        self.counted(slow, 20.0);
        for mut stream in open {
            let mut rest = Vec::new();
            let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
            // Closed or reset, but not kept.
            drop(closed.expect("closed in time"));
        }
    }

    /// HTTP/2 byte by byte.
    async fn slow_bytes(&mut self) {
        let mut stream = self.tls(2).await;
        let drip = async {
            for byte in PREFACE.iter().cycle().take(600) {
                let sent = stream.write_all(&[*byte]).await;
                if sent.is_err() || stream.flush().await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, drip).await;
        ended.expect("the connection was ended");
        self.counted(r#"tandem_link_refusals_total{cause="no_request"}"#, 1.0);
    }

    async fn no_tls_and_no_http2(&mut self) {
        let failed =
            r#"tandem_connection_refusals_total{listener="link",cause="handshake_failed"}"#;
        let before = self.count(failed);
        let mut plain = self.tcp(3).await.expect("a connection");
        plain.write_all(&[b'x'; 4096]).await.expect("sent");
        self.counted(failed, before + 1.0);

        let mut stream = self.tls(3).await;
        stream
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .expect("sent");
        stream.flush().await.expect("sent");
        ended(&mut stream).await;
        self.counted(r#"tandem_link_refusals_total{cause="protocol_error"}"#, 1.0);
    }

    /// Streams that are reset as soon as they are opened.
    async fn rapid_reset(&mut self) {
        let mut flood = PREFACE.to_vec();
        for number in 0..FRAMES {
            let stream = 2 * number + 1;
            flood.extend(frame(0x1, 0x4, stream, HEADERS));
            flood.extend(frame(0x3, 0, stream, &8_u32.to_be_bytes()));
        }
        self.flood(4, &flood).await;
    }

    /// Headers that never end.
    async fn continuation_flood(&mut self) {
        let mut flood = PREFACE.to_vec();
        flood.extend(frame(0x1, 0, 1, HEADERS));
        // A header of its own in each: `x` with an empty value, not kept.
        for _ in 0..FRAMES {
            flood.extend(frame(0x9, 0, 1, &[0x10, 1, b'x', 0]));
        }
        self.flood(5, &flood).await;
    }

    async fn flood(&mut self, from: u8, frames: &[u8]) {
        let series = r#"tandem_link_refusals_total{cause="flood"}"#;
        let before = self.count(series);
        let mut stream = self.tls(from).await;
        // The controller may stop reading before the end.
        drop(stream.write_all(frames).await);
        drop(stream.flush().await);
        ended(&mut stream).await;
        self.counted(series, before + 1.0);
    }

    async fn oversize(&mut self) {
        let mut client = EnrollmentServiceClient::new(self.channel(6).await);
        let request = EnrollRequest {
            token: "x".repeat(2 << 20),
            ..EnrollRequest::default()
        };
        let status = client.enroll(request).await.expect_err("too large");
        assert_eq!(api::status::to_refusal(&status).reason, "MESSAGE_TOO_LARGE");
        self.counted(r#"tandem_oversize_messages_total{listener="link"}"#, 1.0);
    }

    /// Tokens that nobody issued, over several connections at once.
    async fn bad_tokens(&mut self) {
        const CONNECTIONS: u8 = 8;
        let each = 125 * scale();
        let by_hand = ByHand::of(&Bootstrap::subcloud("guess", 9, Stack::V4));
        let request = EnrollRequest {
            token: "td1_guess".to_owned(),
            certificate_signing_request: by_hand.key.csr_der().expect("a request").to_vec(),
            site: Some(by_hand.site.clone()),
            digest: by_hand.digest.clone(),
            validate_only: false,
        };
        let guess = |from: u8| {
            let (stranger, request) = (&*self, &request);
            async move {
                let (mut refused, mut connections) = (0, 0);
                while refused < each {
                    connections += 1;
                    assert!(connections <= each, "a connection serves no call");
                    let channel = stranger.channel(from).await;
                    let mut client = EnrollmentServiceClient::new(channel);
                    while refused < each {
                        let status = client.enroll(request.clone()).await;
                        let refusal = api::status::to_refusal(&status.expect_err("a bad token"));
                        if refusal.reason.is_empty() {
                            // The time that a stranger may stay is over.
                            break;
                        }
                        assert_eq!(refusal.reason, "ENROLL_TOKEN_INVALID");
                        refused += 1;
                    }
                }
            }
        };
        futures_util::future::join_all((0..CONNECTIONS).map(|number| guess(10 + number))).await;
        let series = r#"tandem_enrollments_total{outcome="ENROLL_TOKEN_INVALID"}"#;
        let all = u32::from(CONNECTIONS) * u32::try_from(each).expect("a small number");
        self.counted(series, f64::from(all));
    }

    /// An agent that breaks the protocol, and keeps its connection after the goodbye.
    async fn out_of_turn(&mut self) {
        let by_hand = ByHand::of(&Bootstrap::subcloud("target", 8, Stack::V4));
        let enrolled = by_hand.enroll(&self.added, false).await.expect("enrolled");
        let open = r#"tandem_connections{listener="link"}"#;
        let link = by_hand.link(&self.added, &enrolled).await;
        let with = self.count(open);
        link.say(Say::Heartbeat(Heartbeat {})).await;
        self.counted(
            r#"tandem_link_goodbyes_total{reason="PROTOCOL_VIOLATION"}"#,
            1.0,
        );
        // The client still holds it, and it is closed under it.
        let controller = &mut self.controller;
        wait_until("the connection is closed", PATIENCE, || {
            Metrics::of(controller).get(open) < with
        });
    }
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a small frame")
        .to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head, &stream.to_be_bytes()[..], payload].concat()
}

/// Waits until the controller has ended a connection.
async fn ended(stream: &mut TlsStream<TcpStream>) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    drop(read.expect("ended in time"));
}
