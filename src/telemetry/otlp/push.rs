//! Metrics to an OTLP endpoint, one push at a time: what an endpoint does not take is not kept, for the next push has it too.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client as HttpClient, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use super::payload::{self, Span};
use super::{OtlpProtocol, RESOURCE, Target};
use crate::error::Result;
use crate::telemetry::metrics::{self, snapshot};

/// Pushes the registry to an endpoint.
pub(in crate::telemetry) struct Pusher {
    client: Client,
    timeout: Duration,
    started: SystemTime,
    runtime: Handle,
    /// How the latest push went, as an [`Outcome`]: a change is logged, a state is not.
    latest: AtomicU8,
    /// Held during a push: the end of the process must not overtake the clock's.
    turn: tokio::sync::Mutex<()>,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Outcome {
    /// The endpoint took it.
    Exported = 1,
    /// It did not, or not in time.
    Failed = 2,
    /// It takes traces and nothing else: not an error of anybody.
    Unwanted = 3,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::Failed => "failed",
            Self::Unwanted => "unwanted",
        }
    }
}

enum Client {
    Grpc { client: MetricsServiceClient<Channel>, headers: HeaderMap },
    Http { client: HttpClient<HttpConnector, Full<Bytes>>, url: String, headers: HeaderMap },
}

impl Pusher {
    /// Makes ready; nothing is sent or connected yet. Must be called inside a tokio runtime that outlives it.
    pub(in crate::telemetry) fn new(target: &Target) -> Result<Self> {
        let headers = headers(&variable("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"));
        let timeout = variable("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT").parse();
        Ok(Self {
            client: Client::new(target, headers)?,
            timeout: Duration::from_millis(timeout.unwrap_or(10_000)),
            started: SystemTime::now(),
            runtime: Handle::current(),
            latest: AtomicU8::new(Outcome::Exported as u8),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Pushes at every interval for ever; a push that takes longer makes the next one late, not more of them.
    pub(in crate::telemetry) async fn run(self: Arc<Self>, interval: Duration) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.push().await;
        }
    }

    /// Pushes now and returns whether nothing is lost. Blocking, at most for the exporter's timeout.
    pub(in crate::telemetry) fn flush(&self) -> bool {
        self.runtime.block_on(self.push())
    }

    async fn push(&self) -> bool {
        let _turn = self.turn.lock().await;
        let snapshot = snapshot();
        let points = snapshot.iter().map(|metric| metric.series.len() as u64).sum();
        let request = payload::request(&snapshot, &RESOURCE, Span::until_now(self.started));
        let begun = std::time::Instant::now();
        let sent = tokio::time::timeout(self.timeout, self.client.send(request)).await;
        let (outcome, reason) = match sent {
            Ok(Ok(outcome)) => (outcome, String::new()),
            Ok(Err(reason)) => (Outcome::Failed, reason),
            Err(_) => (Outcome::Failed, "no answer in time".to_owned()),
        };
        metrics::export_points(outcome.as_str(), points, begun.elapsed());
        self.tell(outcome, &reason);
        outcome != Outcome::Failed
    }

    fn tell(&self, outcome: Outcome, reason: &str) {
        if self.latest.swap(outcome as u8, Ordering::Relaxed) == outcome as u8 {
            return;
        }
        match outcome {
            Outcome::Exported => tracing::info!("the OTLP endpoint takes metrics again"),
            Outcome::Unwanted => tracing::info!("the OTLP endpoint takes no metrics; they are on /metrics"),
            Outcome::Failed => tracing::warn!(reason, "the OTLP endpoint does not take metrics; trying on"),
        }
    }
}

impl Client {
    fn new(target: &Target, headers: HeaderMap) -> Result<Self> {
        match target.protocol {
            OtlpProtocol::Grpc => {
                let endpoint = Endpoint::from_shared(target.url()).map_err(|error| target.refused(&error))?;
                Ok(Self::Grpc { client: MetricsServiceClient::new(endpoint.connect_lazy()), headers })
            }
            OtlpProtocol::HttpProtobuf => {
                let client = HttpClient::builder(TokioExecutor::new()).build(HttpConnector::new());
                Ok(Self::Http { client, url: target.url(), headers })
            }
        }
    }

    /// Sends a request; an error is in words for the log.
    async fn send(&self, request: ExportMetricsServiceRequest) -> Result<Outcome, String> {
        match self {
            Self::Grpc { client, headers } => {
                let mut message = tonic::Request::new(request);
                *message.metadata_mut() = MetadataMap::from_headers(headers.clone());
                match client.clone().export(message).await {
                    Ok(_) => Ok(Outcome::Exported),
                    Err(status) if status.code() == tonic::Code::Unimplemented => Ok(Outcome::Unwanted),
                    Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
                }
            }
            Self::Http { client, url, headers } => {
                let mut message = Request::post(url)
                    .header(header::CONTENT_TYPE, "application/x-protobuf")
                    .body(Full::new(Bytes::from(request.encode_to_vec())))
                    .map_err(|error| error.to_string())?;
                message.headers_mut().extend(headers.clone());
                let answer = client.request(message).await.map_err(|error| error.to_string())?;
                match answer.status() {
                    status if status.is_success() => Ok(Outcome::Exported),
                    http::StatusCode::NOT_FOUND => Ok(Outcome::Unwanted),
                    status => Err(status.to_string()),
                }
            }
        }
    }
}

fn variable(first: &str, second: &str) -> String {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    set(first).or_else(|| set(second)).unwrap_or_default()
}

/// Reads `key=value,…` with values percent-encoded; what is not a header is left out.
///
/// Source: OpenTelemetry specification, «OTLP Exporter: Specifying headers via environment variables».
fn headers(text: &str) -> HeaderMap {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((HeaderName::from_str(key.trim()).ok()?, HeaderValue::from_str(&value).ok()?))
    };
    text.split(',').filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_specification_says() {
        let headers = headers("authorization=Basic%20abc, x-scope = a=b,nonsense,");
        assert_eq!(
            (headers.len(), &headers["authorization"], &headers["x-scope"]),
            (2, &"Basic abc".parse().unwrap(), &"a=b".parse().unwrap())
        );
    }
}
