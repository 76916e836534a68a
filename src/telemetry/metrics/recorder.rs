//! The recorder behind the table: made on first use, so that a handle can never be made before it.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{KeyName, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::table::{ALL, Kind, Metric};
use crate::telemetry::memory;

static RECORDER: LazyLock<PrometheusRecorder> = LazyLock::new(build);
static PROCESS: LazyLock<metrics_process::Collector> = LazyLock::new(metrics_process::Collector::default);

/// Reading the process and the heap takes 0.1 ms; scrapes closer together than this see the same figures.
const COLLECT_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the recorder of this process.
pub(super) fn recorder() -> &'static PrometheusRecorder {
    &RECORDER
}

/// Writes every help text, and the series that are there from the start.
pub(in crate::telemetry) fn describe() {
    ALL.iter().for_each(|metric| describe_one(metric));
    super::build_info();
    super::counters_at_zero();
}

/// Returns all series in Prometheus' text format, the process and the heap freshly read. Blocking.
pub(in crate::telemetry) fn render() -> String {
    collect();
    RECORDER.handle().render()
}

/// Moves samples into their buckets; without it they pile up between scrapes.
pub(in crate::telemetry) fn upkeep() {
    RECORDER.handle().run_upkeep();
}

fn build() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for metric in ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = match builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets) {
                Ok(builder) => builder,
                Err(_) => unreachable!("{} has no buckets", metric.name), // a test holds that every histogram has some
            };
        }
    }
    builder.build_recorder()
}

fn describe_one(metric: &Metric) {
    let (name, help) = (KeyName::from(metric.name), metric.help.into());
    let unit = match metric.unit {
        "s" => Some(Unit::Seconds),
        "By" => Some(Unit::Bytes),
        _ => None,
    };
    match metric.kind {
        Kind::Counter => RECORDER.describe_counter(name, unit, help),
        Kind::Gauge => RECORDER.describe_gauge(name, unit, help),
        Kind::Histogram(_) => RECORDER.describe_histogram(name, unit, help),
    }
}

fn collect() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_some_and(|last| last.elapsed() < COLLECT_INTERVAL) {
        return;
    }
    *last = Some(Instant::now());
    metrics::with_local_recorder(recorder(), || PROCESS.collect());
    if let Some(heap) = memory::heap() {
        super::heap([heap.allocated, heap.active, heap.resident, heap.retained, heap.metadata]);
    }
}
