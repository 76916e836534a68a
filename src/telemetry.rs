//! Metrics, traces and logs: what the service says about itself.
//!
//! Only this module knows OpenTelemetry, metric recorders and jemalloc. The rest of the crate calls a handful of functions
//! that cannot be misnamed: [`Timeline::timed`], [`sql::statement`] and the typed functions of [`metrics`].

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime};
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
pub use metrics::TextFormat;
pub use otlp::OtlpProtocol;
pub use stages::{Breakdown, Stage, StageTime, Timeline};

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
    /// Seconds between two pushes of the metrics to the OTLP endpoint; 0 for none. `OTEL_METRIC_EXPORT_INTERVAL`
    /// (milliseconds) stands above it.
    pub otlp_metrics_interval_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log_filter: "info".into(),
            otlp_endpoint: None,
            otlp_protocol: None,
            otlp_metrics_interval_s: 60,
        }
    }
}

/// How long the end of the process may wait for a collector.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// What runs behind the telemetry of this process, from the first [`init`] to its end.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

struct Running {
    exports: Exports,
    /// One thread for export: a busy service does not starve it, nor it the service.
    _runtime: Runtime,
}

/// What goes out over OTLP.
#[derive(Clone)]
struct Exports {
    traces: Option<Arc<otlp::Target>>,
    runtime: Handle,
    provider: Option<SdkTracerProvider>,
    pusher: Option<Arc<otlp::Pusher>>,
}

/// A hold on the telemetry of this process. When one is dropped, spans that still wait and the metrics are exported, within
/// 3 seconds.
#[must_use = "spans that wait for export are lost unless it is kept until the end"]
pub struct Guard {
    exports: Exports,
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
    let exports = match &*running {
        Some(running) => running.exports.clone(),
        None => running.insert(start(config)?).exports.clone(),
    };
    Ok(Guard { exports })
}

impl Guard {
    /// Returns a handle that reads the metrics.
    pub fn metrics(&self) -> Metrics {
        Metrics(())
    }

    /// Sends one span to the OTLP endpoint and says in one line of the log whether it was taken; does not wait for it.
    pub fn self_test(&self) {
        let Exports { traces, runtime, .. } = self.exports.clone();
        let Some(target) = traces else {
            return tracing::info!("no OTLP endpoint is set: nothing is traced, metrics are on /metrics");
        };
        let test = move || {
            let _entered = runtime.enter();
            target.self_test();
        };
        if let Err(error) = std::thread::Builder::new().name("telemetry-test".into()).spawn(test) {
            tracing::warn!(%error, "cannot start the self-test of the telemetry");
        }
    }

    /// Exports the spans that wait and the metrics, and returns whether they went out in time. Blocking.
    pub fn flush(&self) -> bool {
        let (Exports { provider, pusher, .. }, started) = (self.exports.clone(), Instant::now());
        let spans = provider.is_none_or(|provider| flush(provider, FLUSH_TIMEOUT));
        let left = FLUSH_TIMEOUT.saturating_sub(started.elapsed());
        let metrics = pusher.is_none_or(|pusher| within(left, move || pusher.flush()));
        spans && metrics
    }
}

/// Reads the metrics of this process; a [`Guard`] gives it, so the recorder runs.
#[derive(Debug, Clone, Copy)]
pub struct Metrics(());

impl Metrics {
    /// Returns all series in Prometheus' text format. Takes up to a millisecond, blocking.
    pub fn render(self) -> String {
        self.render_as(TextFormat::Prometheus)
    }

    /// Returns all series in this format. Takes up to a millisecond, blocking.
    pub fn render_as(self, format: TextFormat) -> String {
        metrics::render(format)
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
    let exports = {
        let _entered = runtime.enter();
        let traces = otlp::Target::of(otlp::Signal::Traces, config)?.map(Arc::new);
        let provider = traces.as_ref().map(|target| target.provider()).transpose()?;
        Exports { traces, runtime: runtime.handle().clone(), provider, pusher: pushing_to(config)? }
    };
    let traces = exports.provider.as_ref().map(otlp::layer);
    tracing_subscriber::registry()
        .with(traces)
        .with(logs)
        .try_init()
        .map_err(|error| Error::internal("another subscriber took the logs of this process", error))?;
    metrics::start();
    Ok(Running { exports, _runtime: runtime })
}

/// Starts the pushes of the metrics, where they are wanted.
fn pushing_to(config: &Config) -> Result<Option<Arc<otlp::Pusher>>> {
    let milliseconds = std::env::var("OTEL_METRIC_EXPORT_INTERVAL").ok().and_then(|text| text.parse().ok());
    let configured = Duration::from_secs(config.otlp_metrics_interval_s.into());
    let interval = milliseconds.map_or(configured, Duration::from_millis);
    let Some(target) = otlp::Target::of(otlp::Signal::Metrics, config)?.filter(|_| !interval.is_zero()) else {
        return Ok(None);
    };
    let pusher = Arc::new(otlp::Pusher::new(&target)?);
    tokio::spawn(pusher.clone().run(interval));
    Ok(Some(pusher))
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

/// Flushes on a thread of its own: with a dead collector the SDK waits longer than the end of a process should.
fn flush(provider: SdkTracerProvider, timeout: Duration) -> bool {
    within(timeout, move || provider.force_flush().is_ok())
}

/// Runs work on a thread of its own and returns what it does, or false when it has not ended in time.
fn within(timeout: Duration, work: impl FnOnce() -> bool + Send + 'static) -> bool {
    let (done, ended) = sync_channel(1);
    let spawned = std::thread::Builder::new().name("telemetry-flush".into()).spawn(move || {
        let _ = done.send(work());
    });
    spawned.is_ok() && ended.recv_timeout(timeout).unwrap_or(false)
}
