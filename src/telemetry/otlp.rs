//! Spans to an OTLP endpoint, by the standard `OTEL_*` variables or the configuration; without either, no tracing at all.
//!
//! Only this crate's own spans are exported: those of h2, hyper and tonic would include the exporter's own, which would
//! beget more, so that an idle process filled the queue by itself.

use std::fmt;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider, SpanData};
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::{Config, metrics};
use crate::error::{Error, Result};

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

/// Where spans go, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    endpoint: String,
    protocol: OtlpProtocol,
    /// Whether the endpoint stands in a variable that the exporter reads itself.
    from_environment: bool,
}

impl Target {
    /// Returns where this process is to send its spans; `None` where no endpoint is set.
    pub(super) fn of(config: &Config) -> Result<Option<Self>> {
        Self::find(config, |name| std::env::var(name).ok())
    }

    /// Makes the tracer provider. Queue, batch and delay are bounded by the SDK's `OTEL_BSP_*` (2048 spans, 512, 5 s); the
    /// sampler is `OTEL_TRACES_SAMPLER` (the parent's decision, else always). Must be called inside a tokio runtime that
    /// outlives the provider.
    pub(super) fn provider(&self) -> Result<SdkTracerProvider> {
        let exporter = Counting(self.exporter().map_err(|error| self.refused(&error))?);
        Ok(SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(exporter).build())
    }

    /// Finds the endpoint: a standard variable first, then the configuration.
    fn find(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let environment = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let from_environment = environment.is_some();
        let endpoint = environment.or_else(|| config.otlp_endpoint.clone().filter(|value| !value.is_empty()));
        let Some(endpoint) = endpoint.filter(|_| !off) else { return Ok(None) };
        let named = set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"));
        let protocol = match named.as_deref() {
            Some(name) => parse_protocol(name)?,
            None => config.otlp_protocol.unwrap_or_else(|| usual_protocol(&endpoint)),
        };
        let target = Self { endpoint, protocol, from_environment };
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
                if self.from_environment { builder.build() } else { builder.with_endpoint(self.traces_url()).build() }
            }
        }
    }

    /// Returns the URL for traces: the configured one is a base, as that of `OTEL_EXPORTER_OTLP_ENDPOINT` is.
    fn traces_url(&self) -> String {
        format!("{}/v1/traces", self.endpoint.trim_end_matches('/'))
    }

    fn refused(&self, reason: &dyn fmt::Display) -> Error {
        Error::setup(
            format!("cannot export traces to {self}: {reason}"),
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

/// Counts what the endpoint took and what it did not.
#[derive(Debug)]
struct Counting<E>(E);

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let result = self.0.export(batch).await;
        metrics::export_spans(if result.is_ok() { "exported" } else { "failed" }, count);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

#[cfg(test)]
mod tests;
