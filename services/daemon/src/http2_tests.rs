use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_util::sync::CancellationToken;

use super::*;

/// The beginning of HTTP/2, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// `POST / http` for the authority `a`, compressed.
const HEADERS: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];

/// Answers `peer`, and says how the connection ended.
async fn ended_of(stream: DuplexStream, stop: CancellationToken) -> Option<Misconduct> {
    let answer = |_| async { Ok(http::Response::new(Body::default())) };
    converse(stream, None, answer, stop).await
}

/// What comes of a peer that says this, reads all that it hears, and never goes by itself.
async fn after(said: Vec<u8>) -> Option<Misconduct> {
    let (mut peer, stream) = duplex(64 * 1024);
    let served = tokio::spawn(ended_of(stream, CancellationToken::new()));
    // The other side may stop reading before the end.
    drop(peer.write_all(&said).await);
    let mut heard = Vec::new();
    drop(peer.read_to_end(&mut heard).await);
    served.await.expect("no panic")
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let [_, length @ ..] = length.to_be_bytes();
    let kind = [kind, flags];
    [&length[..], &kind, &stream.to_be_bytes(), payload].concat()
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_http2_are_an_error_of_the_protocol() {
    let ended = after(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()).await;
    assert_eq!(ended, Some(Misconduct::ProtocolError));
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_reset_as_fast_as_they_are_opened_are_a_flood() {
    let mut said = PREFACE.to_vec();
    for number in 0..200 {
        let stream = 2 * number + 1;
        said.extend(frame(0x1, 0x4, stream, HEADERS));
        said.extend(frame(0x3, 0, stream, &8_u32.to_be_bytes()));
    }
    assert_eq!(after(said).await, Some(Misconduct::Flood));
}

#[tokio::test(start_paused = true)]
async fn headers_without_an_end_are_a_flood() {
    let mut said = [PREFACE, &frame(0x1, 0, 1, HEADERS)].concat();
    for _ in 0..100 {
        said.extend(frame(0x9, 0, 1, &[0x10, 1, b'x', 0]));
    }
    assert_eq!(after(said).await, Some(Misconduct::Flood));
}

#[tokio::test(start_paused = true)]
async fn who_answers_no_ping_gives_no_sign_of_life() {
    let began = tokio::time::Instant::now();
    assert_eq!(
        after(PREFACE.to_vec()).await,
        Some(Misconduct::NoSignOfLife)
    );
    assert!(began.elapsed() >= Duration::from_secs(40), "{began:?}");
}

#[tokio::test(start_paused = true)]
async fn who_just_goes_did_nothing_wrong() {
    for said in [&b""[..], PREFACE] {
        let (mut peer, stream) = duplex(64 * 1024);
        let served = tokio::spawn(ended_of(stream, CancellationToken::new()));
        peer.write_all(said).await.expect("sent");
        drop(peer);
        assert_eq!(served.await.expect("no panic"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_an_idle_connection_in_order() {
    let (mut peer, stream) = duplex(64 * 1024);
    let stop = CancellationToken::new();
    let served = tokio::spawn(ended_of(stream, stop.clone()));
    peer.write_all(PREFACE).await.expect("sent");
    let mut first = [0; 1];
    peer.read_exact(&mut first).await.expect("settings");
    stop.cancel();
    // The pings of a stop: a peer that answers them ends it at once, another one when it goes.
    drop(peer);
    assert_eq!(served.await.expect("no panic"), None);
}
