//! What it costs to list 1,000 pools of a real controller, beside a bare handler on a unix socket
//! of the same kind that answers the very bytes that the controller answered.
//!
//! Both are asked in turn by the same client, which does not decode: that cost would be the same
//! on both sides and hide the difference. The aim: at most 1.5 times the bare handler.

mod figures;
mod raw;
#[path = "../blackbox/support/mod.rs"]
#[expect(dead_code, reason = "benches use a part of what the tests use")]
mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::site_v1 as wire;
use api::site_v1::network_service_client::NetworkServiceClient;
use figures::Quantiles;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use prost::bytes::Bytes;
use support::bootstrap::{Bootstrap, Stack};
use support::cloud::Controller;
use support::scratch;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Pools of one answer; the largest page.
const POOLS: u16 = 1000;
/// Questions to each side, after those that warm it up.
const QUESTIONS: usize = 300;
const WARM_UP: usize = 30;
/// The most that the controller shall take of the bare handler's time.
const AIM: f64 = 1.5;

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let dir = scratch();
    let home = dir.path().join("controller");
    let controller = Controller::start(&home, Bootstrap::controller(Stack::V6));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let operators = controller.state_dir().join("operator.sock");
    let real = runtime.block_on(connect(&operators))?;
    runtime.block_on(fill(&real))?;
    let request = wire::ListAddressPoolsRequest {
        page_size: i32::from(POOLS),
        page_token: String::new(),
    };
    let request = Bytes::from(request.encode_to_vec());
    let answer = runtime.block_on(raw::ask(&real, &request))?;
    let (pools, _) = wire::ListAddressPoolsResponse::decode(answer.clone())?.read()?;
    assert_eq!(pools.len(), usize::from(POOLS));

    // Threads of its own, as many as those of the controller.
    let server = tokio::runtime::Runtime::new()?;
    let socket = dir.path().join("bare.sock");
    let serving = server.block_on(raw::serve(&socket, answer.clone()))?;
    let bare = runtime.block_on(connect(&socket))?;
    assert_eq!(runtime.block_on(raw::ask(&bare, &request))?, answer);

    let (controller_times, bare_times) = runtime.block_on(compare(&real, &bare, &request))?;
    serving.abort();
    report(
        answer.len(),
        Quantiles::of(controller_times),
        Quantiles::of(bare_times),
    );
    Ok(())
}

fn report(bytes: usize, controller: Quantiles, bare: Quantiles) {
    println!("{POOLS} pools, {bytes} bytes       median        p90");
    for (name, times) in [("bare handler", bare), ("controller", controller)] {
        println!("{name:<24}{:>11.1?}{:>11.1?}", times.median, times.p90);
    }
    let ratio = controller.median.as_secs_f64() / bare.median.as_secs_f64();
    let verdict = figures::verdict(ratio <= AIM);
    println!("  {ratio:.2} times the bare handler; aim: at most {AIM}: {verdict}");
}

/// Asks both in turn, so that a busy moment of the machine meets both.
async fn compare(
    real: &Channel,
    bare: &Channel,
    request: &Bytes,
) -> Result<(Vec<Duration>, Vec<Duration>), Fault> {
    let mut times = (Vec::new(), Vec::new());
    for question in 0..WARM_UP + QUESTIONS {
        for (channel, times) in [(real, &mut times.0), (bare, &mut times.1)] {
            let start = Instant::now();
            raw::ask(channel, request).await?;
            if question >= WARM_UP {
                times.push(start.elapsed());
            }
        }
    }
    Ok(times)
}

async fn connect(socket: &Path) -> Result<Channel, Fault> {
    let path: PathBuf = socket.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is never used: the connector knows where to go.
    let endpoint = Endpoint::from_static("http://operator.invalid");
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// Adds pools until the site has enough for a page.
async fn fill(controller: &Channel) -> Result<(), Fault> {
    let mut client = NetworkServiceClient::new(controller.clone());
    for number in 0..POOLS {
        let pool = wire::AddressPool {
            name: format!("spare-{number:04}"),
            network: format!("fd77:{number:x}::"),
            prefix: 64,
            floating_address: format!("fd77:{number:x}::2"),
            gateway_address: format!("fd77:{number:x}::1"),
            ..Default::default()
        };
        let request = wire::CreateAddressPoolRequest {
            address_pool: Some(pool),
            ..Default::default()
        };
        client.create_address_pool(request).await?;
    }
    Ok(())
}
