//! Spans reach an OTLP receiver over gRPC.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser as _;
use daemon::LogOptions;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

#[derive(Debug, clap::Parser)]
struct Arguments {
    #[command(flatten)]
    logs: LogOptions,
}

/// Keeps what it is sent.
#[derive(Debug, Clone, Default)]
struct Receiver(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn spans_reach_the_receiver_before_the_process_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let receiver = Receiver::default();
    let service = TraceServiceServer::new(receiver.clone());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let url = format!("http://{address}");
    let arguments = Arguments::parse_from(["test", "--otlp-endpoint", &url]);
    let logs = arguments.logs.start("system-controller").expect("a URL");

    tracing::info_span!("report", subcloud = "west", generation = 7_u64).in_scope(|| {
        tracing::info!("accepted");
    });
    tokio::time::timeout(Duration::from_secs(10), logs.end())
        .await
        .expect("an end in time");

    let kept = receiver.0.lock().unwrap_or_else(PoisonError::into_inner);
    let told = format!("{kept:?}");
    for part in [
        "system-controller",
        "report",
        "subcloud",
        "west",
        "generation",
        "accepted",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
}

#[test]
fn what_is_no_url_is_a_usage_error() {
    let arguments = Arguments::parse_from(["test", "--otlp-endpoint", "not a url"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let started = runtime.block_on(async { arguments.logs.start("system-controller").map(drop) });
    let failure = started.expect_err("no URL").to_string();
    assert!(failure.contains("--otlp-endpoint not a url"), "{failure}");
}
