//! Logs to stderr, as text or as JSON, and spans to an OTLP receiver when one is named.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::{Exit, Failure};

/// How long the receiver may take for one batch of spans; a slow one costs spans, never calls.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the last spans may take at the end, within the time that a stop may take in all.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// What the export itself rests on. Its spans would be exported too, and so on for ever.
const UNTRACED: [&str; 6] = [
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "opentelemetry",
];

/// What is logged how.
#[derive(Debug, Clone, Default, Args)]
pub struct LogOptions {
    /// How logs are written to stderr
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        env = "TANDEM_LOG_FORMAT"
    )]
    log_format: LogFormat,

    /// Export spans to this OTLP receiver (gRPC), such as http://127.0.0.1:4317
    #[arg(long, value_name = "URL", env = "TANDEM_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
}

/// A format of logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object on each line, with the fields of the spans around it.
    Json,
}

/// Started logs. Their end exports the last spans.
#[derive(Debug, Default)]
#[must_use = "the last spans are exported by `Logs::end`"]
pub struct Logs {
    spans: Option<SdkTracerProvider>,
}

/// What is logged: `TANDEM_LOG`, or from `info` on when it is not set.
fn filter() -> Result<EnvFilter, Failure> {
    let wanted = match std::env::var("TANDEM_LOG") {
        Ok(wanted) if !wanted.is_empty() => wanted,
        Ok(_) | Err(std::env::VarError::NotPresent) => "info".to_owned(),
        Err(error) => return Err(Failure::because(Exit::Usage, "TANDEM_LOG", &error)),
    };
    EnvFilter::builder().parse(&wanted).map_err(|error| {
        let context = format!("TANDEM_LOG is `{wanted}`, give one such as `info,fleet=debug`");
        Failure::because(Exit::Usage, &context, &error)
    })
}

impl LogOptions {
    /// Starts logs and spans of this service. `TANDEM_LOG` holds a filter such as
    /// `info,fleet=debug`. With an OTLP receiver it must be called within the runtime.
    ///
    /// # Errors
    /// Exit 64 when the URL of the receiver is none, or the filter cannot be read.
    pub fn start(&self, service: &'static str) -> Result<Logs, Failure> {
        let filter = filter()?;
        let endpoint = self.otlp_endpoint.as_deref();
        let spans = endpoint.map(|url| provider(service, url)).transpose()?;
        let export = spans.as_ref().map(|provider| {
            let own = filter_fn(|metadata| {
                let target = metadata.target().split("::").next().unwrap_or_default();
                !UNTRACED.contains(&target)
            });
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(service))
                .with_filter(own.and(LevelFilter::DEBUG))
        });
        let started = tracing_subscriber::registry()
            .with(filter)
            .with(lines(self.log_format))
            .with(export)
            .try_init();
        if started.is_err() {
            tracing::debug!("logs were started before");
        }
        Ok(Logs { spans })
    }
}

impl Logs {
    /// Exports what is left. Another thread waits for it, since the export needs this runtime.
    pub async fn end(self) {
        let Some(spans) = self.spans else {
            return;
        };
        let ended =
            tokio::task::spawn_blocking(move || spans.shutdown_with_timeout(LAST_SPANS)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!(?ended, "the last spans may not have been exported");
        }
    }
}

/// Writes logs to stderr.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    }
}

fn provider(service: &'static str, url: &str) -> Result<SdkTracerProvider, Failure> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(url)
        .with_timeout(EXPORT_TIMEOUT)
        .build();
    let exporter = exporter.map_err(|error| {
        let message = format!("--otlp-endpoint {url}: {error}; give a URL, http://ADDR:PORT");
        Failure::new(Exit::Usage, message)
    })?;
    let resource = Resource::builder().with_service_name(service).build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build())
}
