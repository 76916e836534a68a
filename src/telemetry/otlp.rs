//! Spans and metrics to an OTLP endpoint, by the standard `OTEL_*` variables or the configuration; without either, no tracing
//! at all, and metrics on `/metrics` only.
//!
//! Only this crate's own spans are exported: those of h2, hyper and tonic would include the exporter's own, which would
//! beget more, so that an idle process filled the queue by itself.

use std::fmt;
use std::sync::LazyLock;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::Config;
use crate::error::{Error, Result};
pub(super) use push::Pusher;

mod payload;
mod push;
mod spans;

/// Who sends; the same for spans and metrics, or they could not be brought together.
static RESOURCE: LazyLock<Resource> = LazyLock::new(resource);

/// What the names of attributes mean.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.45.0";

/// How spans travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtlpProtocol {
    /// gRPC, usually on port 4317.
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf over HTTP, usually on port 4318.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// Makes the layer that turns this crate's spans into the provider's. Log events stay in the logs, which name the trace.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let scope =
        InstrumentationScope::builder("amalfa").with_version(env!("CARGO_PKG_VERSION")).with_schema_url(SCHEMA).build();
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(scope))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_filter(filter_fn(exported))
}

/// Whether a span is exported: our own, and not one for debugging. Those of the exporter's own calls would feed back.
fn exported(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("amalfa") && *metadata.level() <= tracing::Level::INFO
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    /// Returns its word in URLs; in variables it stands in capitals.
    fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

/// Where a signal goes, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    signal: Signal,
    endpoint: String,
    protocol: OtlpProtocol,
    /// Whether the endpoint stands in a variable that the exporter of spans reads itself.
    from_environment: bool,
    /// Whether the endpoint is of this signal only: then it is a whole URL, else a base.
    is_whole: bool,
}

impl Target {
    /// Returns where this process is to send a signal; `None` where no endpoint is set.
    pub(super) fn of(signal: Signal, config: &Config) -> Result<Option<Self>> {
        Self::find(signal, config, |name| std::env::var(name).ok())
    }

    /// Makes the tracer provider. Queue, batch and delay are bounded by the SDK's `OTEL_BSP_*` (2048 spans, 512, 5 s); the
    /// sampler is `OTEL_TRACES_SAMPLER` (the parent's decision, else always). Must be called inside a tokio runtime that
    /// outlives the provider.
    pub(super) fn provider(&self) -> Result<SdkTracerProvider> {
        let exporter = self.exporter().map_err(|error| self.refused(&error))?;
        let processor = spans::Bounded::new(exporter);
        Ok(SdkTracerProvider::builder().with_resource(RESOURCE.clone()).with_span_processor(processor).build())
    }

    /// Sends one span and says in one line of the log whether the endpoint took it. Blocking, at most for the exporter's
    /// timeout; inside a tokio runtime's context, on a thread that is none of its own.
    pub(super) fn self_test(&self) -> bool {
        let sent = self.exporter().map_err(|error| error.to_string());
        match sent.and_then(|exporter| spans::send_one(exporter).map_err(|error| error.to_string())) {
            Ok(()) => tracing::info!(endpoint = %self, "the OTLP endpoint took a span; exporting traces"),
            Err(reason) => {
                tracing::warn!(endpoint = %self, reason, "the OTLP endpoint took no span; trying on, see the metrics");
                return false;
            }
        }
        true
    }

    /// Finds the endpoint: a standard variable first, then the configuration.
    fn find(signal: Signal, config: &Config, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let word = signal.as_str().to_uppercase();
        let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set(&format!("OTEL_{word}_EXPORTER")).is_some_and(|value| value == "none");
        let own = set(&format!("OTEL_EXPORTER_OTLP_{word}_ENDPOINT"));
        let is_whole = own.is_some();
        let environment = own.or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let from_environment = environment.is_some();
        let endpoint = environment.or_else(|| config.otlp_endpoint.clone().filter(|value| !value.is_empty()));
        let Some(endpoint) = endpoint.filter(|_| !off) else { return Ok(None) };
        let named = set(&format!("OTEL_EXPORTER_OTLP_{word}_PROTOCOL")).or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"));
        let protocol = match named.as_deref() {
            Some(name) => parse_protocol(name)?,
            None => config.otlp_protocol.unwrap_or_else(|| usual_protocol(&endpoint)),
        };
        let target = Self { signal, endpoint, protocol, from_environment, is_whole };
        if target.endpoint.starts_with("https:") {
            Err(target.refused(&"this build has no TLS"))
        } else {
            Ok(Some(target))
        }
    }

    fn exporter(&self) -> Result<SpanExporter, ExporterBuildError> {
        match self.protocol {
            OtlpProtocol::Grpc => {
                let builder = SpanExporter::builder().with_tonic();
                if self.from_environment { builder.build() } else { builder.with_endpoint(&self.endpoint).build() }
            }
            OtlpProtocol::HttpProtobuf => {
                let builder = SpanExporter::builder().with_http();
                if self.from_environment { builder.build() } else { builder.with_endpoint(self.url()).build() }
            }
        }
    }

    /// Returns the address to call: over HTTP a base gets the signal's path.
    fn url(&self) -> String {
        match self.protocol {
            OtlpProtocol::HttpProtobuf if !self.is_whole => {
                format!("{}/v1/{}", self.endpoint.trim_end_matches('/'), self.signal.as_str())
            }
            OtlpProtocol::Grpc | OtlpProtocol::HttpProtobuf => self.endpoint.clone(),
        }
    }

    fn refused(&self, reason: &dyn fmt::Display) -> Error {
        Error::setup(
            format!("cannot export {} to {self}: {reason}", self.signal.as_str()),
            "give the http:// address of an OpenTelemetry Collector on this host or network, such as http://localhost:4317",
        )
    }
}

/// Shows the address without the password that may stand in it.
impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.endpoint.split_once("://").unwrap_or(("", &self.endpoint));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        match self.protocol {
            OtlpProtocol::Grpc => write!(formatter, "{scheme}://{host} (gRPC)"),
            OtlpProtocol::HttpProtobuf => write!(formatter, "{scheme}://{host} (HTTP)"),
        }
    }
}

fn parse_protocol(name: &str) -> Result<OtlpProtocol> {
    match name {
        "grpc" => Ok(OtlpProtocol::Grpc),
        "http/protobuf" => Ok(OtlpProtocol::HttpProtobuf),
        _ => Err(Error::setup(
            format!("OTLP protocol {name:?} is not spoken here"),
            "set OTEL_EXPORTER_OTLP_PROTOCOL to grpc or http/protobuf",
        )),
    }
}

/// The standard default is HTTP, but whoever names port 4317 means gRPC and would otherwise see nothing arrive.
fn usual_protocol(endpoint: &str) -> OtlpProtocol {
    if endpoint.trim_end_matches('/').ends_with(":4317") { OtlpProtocol::Grpc } else { OtlpProtocol::HttpProtobuf }
}

/// Says who sends: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` stand above what is known here.
fn resource() -> Resource {
    let environment = EnvResourceDetector::new().detect();
    let mut builder = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            KeyValue::new("service.name", "amalfa"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", RandomIdGenerator::default().new_trace_id().to_string()),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ])
        .with_attributes(environment.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())));
    if let Some(name) = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        builder = builder.with_service_name(name);
    }
    builder.build()
}

#[cfg(test)]
mod tests;
