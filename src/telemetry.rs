//! Metrics, traces and logs: what the service says about itself.
//!
//! Only this module knows OpenTelemetry, metric recorders and jemalloc. The rest of the crate calls a handful of functions
//! that cannot be misnamed: [`Timeline::timed`], [`sql::statement`] and the typed functions of [`metrics`].

use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};

mod context;
mod logs;
pub mod memory;
pub mod metrics;
mod otlp;
pub mod rpc;
pub mod sql;
mod stages;

pub use logs::LogFormat;
pub use otlp::OtlpProtocol;
pub use stages::{Stage, StageTime, Timeline};

/// What is logged, and where traces go. Metrics are always kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How a log line looks: `auto` (pretty on a terminal, JSON otherwise), `pretty`, `json`.
    pub log_format: LogFormat,
    /// What is logged: `info`, `info,amalfa=debug`, …; `RUST_LOG` stands above it.
    pub log_filter: String,
    /// The base address of an OTLP endpoint (`http://localhost:4317`); the standard `OTEL_*` variables stand above it.
    /// Without either, nothing is traced.
    pub otlp_endpoint: Option<String>,
    /// `grpc` or `http/protobuf`; when empty, gRPC on port 4317 and HTTP on any other.
    pub otlp_protocol: Option<OtlpProtocol>,
}

impl Default for Config {
    fn default() -> Self {
        Self { log_format: LogFormat::Auto, log_filter: "info".into(), otlp_endpoint: None, otlp_protocol: None }
    }
}

/// How often samples are moved into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How long the end of the process may wait for a collector.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// What runs behind the telemetry of this process, from the first [`init`] to its end.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

struct Running {
    provider: Option<SdkTracerProvider>,
    /// One thread for upkeep and export: a busy service does not starve it, nor it the service.
    _runtime: Runtime,
}

/// A hold on the telemetry of this process. When one is dropped, spans that still wait are exported, within 3 seconds.
#[derive(Debug)]
#[must_use = "spans that wait for export are lost unless it is kept until the end"]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

/// Starts logging, metrics and, when an OTLP endpoint is set, tracing.
///
/// A process has one telemetry: later calls return another hold on the first, and their configuration is not looked at.
///
/// # Errors
///
/// When the filter cannot be read, or spans cannot be sent to the endpoint by the protocol.
pub fn init(config: &Config) -> Result<Guard> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let provider = match &*running {
        Some(running) => running.provider.clone(),
        None => running.insert(start(config)?).provider.clone(),
    };
    Ok(Guard { provider })
}

impl Guard {
    /// Returns a handle that reads the metrics.
    pub fn metrics(&self) -> Metrics {
        Metrics(())
    }

    /// Exports the spans that wait and returns whether they went out in time. Blocking.
    pub fn flush(&self) -> bool {
        self.provider.as_ref().is_none_or(|provider| flush(provider.clone(), FLUSH_TIMEOUT))
    }
}

/// Reads the metrics of this process; a [`Guard`] gives it, so the recorder runs.
#[derive(Debug, Clone, Copy)]
pub struct Metrics(());

impl Metrics {
    /// The type of what [`render`](Self::render) returns.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Returns all series in Prometheus' text format. Takes up to a millisecond, blocking.
    pub fn render(self) -> String {
        metrics::render()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.flush();
    }
}

fn start(config: &Config) -> Result<Running> {
    let logs = logs::layer(config.log_format, &config.log_filter)?;
    let runtime = runtime()?;
    let target = otlp::Target::of(config)?;
    let provider = {
        let _entered = runtime.enter();
        target.as_ref().map(otlp::Target::provider).transpose()?
    };
    let traces = provider.as_ref().map(otlp::layer);
    tracing_subscriber::registry()
        .with(traces)
        .with(logs)
        .try_init()
        .map_err(|error| Error::internal("another subscriber took the logs of this process", error))?;
    if let Some(target) = target {
        tracing::info!("exporting traces to {target}");
    }
    metrics::describe();
    runtime.spawn(upkeep());
    Ok(Running { provider, _runtime: runtime })
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .thread_name("telemetry")
        .enable_all()
        .build()
        .map_err(|error| Error::internal("cannot start the thread of the telemetry", error))
}

async fn upkeep() {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        metrics::upkeep();
    }
}

/// Flushes on a thread of its own: with a dead collector the SDK waits longer than the end of a process should.
fn flush(provider: SdkTracerProvider, timeout: Duration) -> bool {
    let (done, flushed) = sync_channel(1);
    let spawned = std::thread::Builder::new().name("telemetry-flush".into()).spawn(move || {
        let _ = done.send(provider.force_flush().is_ok());
    });
    spawned.is_ok() && flushed.recv_timeout(timeout).unwrap_or(false)
}
