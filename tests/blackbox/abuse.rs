//! Strangers that flood, stall and guess while a crowd of agents is live: no agent loses its link,
//! and every kind of bad peer is refused and counted, also among those with a certificate.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use api::fleet_v1::enrollment_service_client::EnrollmentServiceClient;
use api::fleet_v1::exchange_request::Message as Say;
use api::fleet_v1::subcloud_service_client::SubcloudServiceClient;
use api::fleet_v1::{AddSubcloudRequest, EnrollRequest, Heartbeat};
use identity::{EnrollmentToken, TlsStream};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Request;
use tonic::transport::Channel;

use crate::support::bootstrap::{Bootstrap, Stack};
use crate::support::by_hand::{ByHand, channel};
use crate::support::client::operators;
use crate::support::cloud::{Added, Controller, Place};
use crate::support::console::Metrics;
use crate::support::crowd::{self, Crowd};
use crate::support::grpcurl::{Target, grpcurl};
use crate::support::{PATIENCE, scale, scratch, wait_until};

/// Slow enough that a busy machine makes nobody miss three of them.
const SETTINGS: &str = "heartbeat_interval_milliseconds = 2000\n";

/// The beginning of HTTP/2, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `POST / http` for the authority `a`, compressed.
const HEADERS: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];

/// Another protocol.
const NO_HTTP2: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// Bytes of metadata above the limit of 16 KiB, and below what HTTP/2 itself refuses.
const LONG_METADATA: usize = 20_000;

/// The operator that init makes.
const ADMIN: &str = "operator-admin";

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
    attacked.flood(4, &rapid_reset()).await;
    attacked.flood(5, &continuation_flood()).await;
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
        channel(self.tls(from).await).await
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
        say(&mut stream, NO_HTTP2).await;
        self.counted(r#"tandem_link_refusals_total{cause="protocol_error"}"#, 1.0);
    }

    async fn flood(&mut self, from: u8, frames: &[u8]) {
        let series = r#"tandem_link_refusals_total{cause="flood"}"#;
        let before = self.count(series);
        let mut stream = self.tls(from).await;
        say(&mut stream, frames).await;
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

        let request = with_long_metadata(EnrollRequest::default());
        let status = client.enroll(request).await.expect_err("too large");
        let refusal = api::status::to_refusal(&status);
        assert_eq!(refusal.reason, "METADATA_TOO_LARGE");
        self.counted(r#"tandem_oversize_metadata_total{listener="link"}"#, 1.0);
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

/// An operator's certificate opens the door, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_misbehaves_is_cut_off_and_counted() {
    let dir = scratch();
    let site = Bootstrap::controller(Stack::V6);
    let mut controller = Controller::start(&dir.path().join("c"), site);
    let process = controller.daemon().id();
    let series = |cause: &str| format!(r#"tandem_operator_refusals_total{{cause="{cause}"}}"#);
    let metrics = Metrics::of(&mut controller);
    for cause in ["flood", "protocol_error", "no_sign_of_life"] {
        assert!(metrics.has(&series(cause)), "{}", metrics.text);
    }

    let target = controller.tls(Some(ADMIN));
    let many = [
        ("flood", rapid_reset()),
        ("flood", continuation_flood()),
        ("protocol_error", NO_HTTP2.to_vec()),
    ];
    for (cause, said) in many {
        let before = Metrics::of(&mut controller).get(&series(cause));
        let mut stream = operator_tls(&target).await;
        say(&mut stream, &said).await;
        wait_until("it is counted", PATIENCE, || {
            Metrics::of(&mut controller).get(&series(cause)) > before
        });
    }
    // One that just goes did nothing wrong.
    let before = Metrics::of(&mut controller);
    drop(operator_tls(&target).await);
    let open = r#"tandem_connections{listener="operators"}"#;
    wait_until("all are gone", PATIENCE, || {
        Metrics::of(&mut controller).get(open) == 0.0
    });
    let metrics = Metrics::of(&mut controller);
    for cause in ["flood", "protocol_error", "no_sign_of_life"] {
        assert_eq!(metrics.get(&series(cause)), before.get(&series(cause)));
    }

    // Too much metadata is refused as everything is, and a change is in the audit log.
    let oversize = r#"tandem_oversize_metadata_total{listener="operators"}"#;
    assert!(metrics.has(oversize), "{}", metrics.text);
    let add = "tandem.fleet.v1.SubcloudService/AddSubcloud";
    let channel = channel(operator_tls(&target).await).await;
    let mut request = with_long_metadata(AddSubcloudRequest::default());
    request.get_mut().name = "west".to_owned();
    let mut client = SubcloudServiceClient::new(channel);
    let status = client.add_subcloud(request).await.expect_err("too large");
    let refusal = api::status::to_refusal(&status);
    assert_eq!(refusal.reason, "METADATA_TOO_LARGE", "{status:?}");
    assert_eq!(Metrics::of(&mut controller).get(oversize), 1.0);
    let listed = controller.grpcurl(
        "tandem.fleet.v1.OperatorService/ListAuditEntries",
        &json!({}),
    );
    let newest = listed.expect("a list")["entries"][0].clone();
    assert_eq!(
        newest["violations"][0]["reason"], "METADATA_TOO_LARGE",
        "{newest}"
    );
    assert!(controller.show("west").is_none());
    grpcurl(&target, add, &json!({"name": "west"})).expect("served as before");
    assert_eq!(controller.daemon().id(), process);
}

/// A TLS connection with an operator's certificate.
async fn operator_tls(target: &Target) -> TlsStream<TcpStream> {
    let Target::Tls {
        address,
        authority,
        operator: Some((certificate, key)),
    } = target
    else {
        panic!("a target with a certificate");
    };
    let read = |path| std::fs::read_to_string(path).expect("a file");
    let (certificate, key) = (read(certificate), read(key));
    let config = identity::operator_client_config(&read(authority), Some((&certificate, &key)));
    let address: SocketAddr = address.parse().expect("an address");
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let stream = identity::connect(config.expect("TLS"), address.ip(), tcp).await;
    stream.expect("a handshake")
}

fn with_long_metadata<R>(message: R) -> Request<R> {
    let mut request = Request::new(message);
    let long = "x".repeat(LONG_METADATA).parse().expect("ASCII");
    request.metadata_mut().insert("x-long", long);
    request
}

/// Streams that are reset as soon as they are opened.
fn rapid_reset() -> Vec<u8> {
    let mut flood = PREFACE.to_vec();
    for number in 0..FRAMES {
        let stream = 2 * number + 1;
        flood.extend(frame(0x1, 0x4, stream, HEADERS));
        flood.extend(frame(0x3, 0, stream, &8_u32.to_be_bytes()));
    }
    flood
}

/// Headers that never end.
fn continuation_flood() -> Vec<u8> {
    let mut flood = PREFACE.to_vec();
    flood.extend(frame(0x1, 0, 1, HEADERS));
    // A header of its own in each: `x` with an empty value, not kept.
    for _ in 0..FRAMES {
        flood.extend(frame(0x9, 0, 1, &[0x10, 1, b'x', 0]));
    }
    flood
}

/// Says something for which the controller must end the connection, maybe before all is said.
async fn say(stream: &mut TlsStream<TcpStream>, said: &[u8]) {
    drop(stream.write_all(said).await);
    drop(stream.flush().await);
    ended(stream).await;
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
