//! Durable puts into Debian's etcd, on the same disk and in the same run.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// Puts at a time in the concurrent measurement; as many as enrollments at a time.
const AT_A_TIME: u32 = 32;
/// Where it listens; its own default ports may be taken.
const CLIENT: &str = "http://127.0.0.1:23790";
const PEER: &str = "http://127.0.0.1:23800";

/// The request of `etcdserverpb.KV/Put`, as far as it is needed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Its answer, of which nothing is needed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct PutResponse {}

/// Puts per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Puts {
    pub(crate) sequential: f64,
    pub(crate) concurrent: f64,
}

/// Measures for `time` each; `None` when etcd is not installed.
pub(crate) async fn measure(dir: &Path, value: usize, time: Duration) -> Option<Puts> {
    let mut etcd = Etcd::start(dir)?;
    let channel = etcd.connect().await?;
    let mut sequential = 0_u32;
    let start = Instant::now();
    while start.elapsed() < time {
        put(&channel, sequential, value).await;
        sequential += 1;
    }
    let sequential = f64::from(sequential) / start.elapsed().as_secs_f64();

    let start = Instant::now();
    let mut putting = JoinSet::new();
    for putter in 0..AT_A_TIME {
        let channel = channel.clone();
        putting.spawn(async move {
            let mut done = 0_u32;
            while start.elapsed() < time {
                put(&channel, 1_000_000 * (putter + 1) + done, value).await;
                done += 1;
            }
            done
        });
    }
    let done: u32 = putting.join_all().await.into_iter().sum();
    Some(Puts {
        sequential,
        concurrent: f64::from(done) / start.elapsed().as_secs_f64(),
    })
}

async fn put(channel: &Channel, key: u32, value: usize) {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("etcd");
    let request = PutRequest {
        key: format!("subcloud/{key:012}").into_bytes(),
        value: vec![7; value],
    };
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let codec: ProstCodec<PutRequest, PutResponse> = ProstCodec::default();
    let answer = client.unary(Request::new(request), path, codec).await;
    answer.expect("a put");
}

/// The process; killed when dropped.
struct Etcd(Child);

impl Etcd {
    fn start(dir: &Path) -> Option<Self> {
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(dir.join("etcd"))
            .args([
                "--listen-client-urls",
                CLIENT,
                "--advertise-client-urls",
                CLIENT,
            ])
            .args([
                "--listen-peer-urls",
                PEER,
                "--initial-advertise-peer-urls",
                PEER,
            ])
            .args([
                "--initial-cluster",
                &format!("default={PEER}"),
                "--log-level",
                "error",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().ok().map(Self)
    }

    /// Waits until it takes a put.
    async fn connect(&mut self) -> Option<Channel> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && matches!(self.0.try_wait(), Ok(None)) {
            if let Ok(channel) = Endpoint::from_static(CLIENT).connect().await {
                return Some(channel);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
