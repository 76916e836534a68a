//! Every series of this process. `/metrics` and OTLP are two readings of it, so they cannot disagree.
//!
//! It is a recorder of the `metrics` facade that knows the table: what is not in there has nowhere to be recorded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::cell::{Cell, Value};
use super::metric::{Metric, OTHER, Values};
use super::table::ALL;
use crate::telemetry::memory;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);
static PROCESS: LazyLock<metrics_process::Collector> = LazyLock::new(metrics_process::Collector::default);

/// Series that one metric may have: some times what the methods, statuses and statements of this service can make.
const SERIES_PER_METRIC_MAX: usize = 1_000;
/// Reading the process and the heap takes 0.1 ms; scrapes closer together than this see the same figures.
const COLLECT_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the registry of this process.
pub(super) fn registry() -> &'static Registry {
    &REGISTRY
}

/// Returns every metric that has series, in the order of the table, the process and the heap freshly read. Blocking.
pub(in crate::telemetry) fn snapshot() -> Vec<Snapshot> {
    collect();
    let taken = REGISTRY.snapshot();
    // Counted as it was before this line, which adds no series.
    super::series_count(taken.iter().map(|metric| metric.series.len()).sum());
    taken
}

/// A metric at one moment.
pub(in crate::telemetry) struct Snapshot {
    pub metric: &'static Metric,
    /// Its series: the labels' values in the order of the table, empty where left out, and what it counted.
    pub series: Vec<Sample>,
}

/// One series.
pub(in crate::telemetry) type Sample = (Vec<String>, Value);

pub(super) struct Registry {
    rows: HashMap<&'static str, &'static Metric>,
    series: HashMap<&'static str, RwLock<BTreeMap<Vec<String>, Cell>>>,
}

impl Registry {
    fn new() -> Self {
        let rows = ALL.iter().map(|metric| (metric.name, *metric)).collect();
        Self { rows, series: ALL.iter().map(|metric| (metric.name, RwLock::default())).collect() }
    }

    fn snapshot(&self) -> Vec<Snapshot> {
        let of = |metric: &&'static Metric| {
            let series = self.series[metric.name].read().unwrap_or_else(PoisonError::into_inner);
            let series = series.iter().map(|(values, cell)| (values.clone(), cell.value())).collect();
            Snapshot { metric, series }
        };
        ALL.iter().map(of).filter(|snapshot| !snapshot.series.is_empty()).collect()
    }

    /// Returns the cell of a series, new or known; `None` for a name outside the table.
    fn cell(&self, key: &Key) -> Option<Cell> {
        let metric = self.rows.get(key.name())?;
        let mut series = self.series[metric.name].write().unwrap_or_else(PoisonError::into_inner);
        let mut values = values(metric, key);
        let folded = series.len() >= SERIES_PER_METRIC_MAX && !series.contains_key(&values);
        if folded {
            fold(metric, &mut values);
        }
        let cell = series.entry(values).or_insert_with(|| Cell::new(metric)).clone();
        drop(series);
        if folded {
            super::label_overflow(metric.name);
        }
        Some(cell)
    }
}

/// Returns the values of the table's labels; a label that is not in the table is not kept.
fn values(metric: &Metric, key: &Key) -> Vec<String> {
    let value = |name: String| key.labels().find(|label| label.key() == name).map(|label| label.value().to_owned());
    metric.labels.iter().map(|label| value(label.key()).unwrap_or_default()).collect()
}

fn fold(metric: &Metric, values: &mut [String]) {
    for (label, value) in metric.labels.iter().zip(values) {
        if matches!(label.values, Values::InCode) {
            *value = OTHER.to_owned();
        }
    }
}

impl Recorder for Registry {
    // Units and help stand in the table.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.cell(key) {
            Some(Cell::Counter(count)) => Counter::from_arc(count),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.cell(key) {
            Some(Cell::Gauge(value)) => Gauge::from_arc(value),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.cell(key) {
            Some(Cell::Histogram(distribution)) => Histogram::from_arc(distribution),
            _ => Histogram::noop(),
        }
    }
}

fn collect() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_some_and(|last| last.elapsed() < COLLECT_INTERVAL) {
        return;
    }
    *last = Some(Instant::now());
    metrics::with_local_recorder(registry(), || PROCESS.collect());
    if let Some(heap) = memory::heap() {
        super::heap([heap.allocated, heap.active, heap.resident, heap.retained, heap.metadata]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::Label;

    fn key(name: &'static str, labels: Vec<Label>) -> Key {
        Key::from_parts(name, labels)
    }

    #[test]
    fn what_is_not_in_the_table_is_not_recorded() {
        let registry = Registry::new();
        assert!(registry.cell(&key("made_up_total", vec![])).is_none());
        assert!(registry.cell(&key("amalfa_store_documents", vec![Label::new("user", "x")])).is_some());
        let snapshot = registry.snapshot();
        assert_eq!((snapshot.len(), snapshot[0].series[0].0.len()), (1, 0));
    }

    #[test]
    fn a_metric_with_too_many_series_is_folded_and_counted() {
        let registry = Registry::new();
        for number in 0..SERIES_PER_METRIC_MAX + 50 {
            let labels = vec![Label::new("db_query_summary", format!("SELECT {number}"))];
            assert!(registry.cell(&key("db_client_operation_duration_seconds", labels)).is_some());
        }
        let snapshot = registry.snapshot();
        assert_eq!(snapshot[0].series.len(), SERIES_PER_METRIC_MAX + 1);
        let counted = super::super::prometheus_text();
        let series = "amalfa_telemetry_label_overflows_total{metric=\"db_client_operation_duration_seconds\"} ";
        let count = counted.lines().find_map(|line| line.strip_prefix(series)).unwrap();
        assert!(count.parse::<u64>().unwrap() >= 50, "{count}");
    }
}
