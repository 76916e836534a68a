//! A metric's series, each looked up once: recording is a map look-up and an atomic, not a registration.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, Label, Metadata, Recorder};

use super::metric::{Kind, Metric, OTHER, Values};
use super::registry::registry;

/// The series of one metric by the values of its open labels (those that are not [`Values::Fixed`]), in the table's order.
pub(in crate::telemetry) struct Family<H: 'static, const LABELS: usize> {
    metric: &'static Metric,
    series: RwLock<BTreeMap<[&'static str; LABELS], H>>,
}

impl<const LABELS: usize> Family<Counter, LABELS> {
    /// Makes the family of a counter. A row of another kind, or with another number of labels, does not compile.
    pub(in crate::telemetry) const fn counter(metric: &'static Metric) -> Self {
        assert!(matches!(metric.kind, Kind::Counter));
        Self::new(metric)
    }
}

impl<const LABELS: usize> Family<Gauge, LABELS> {
    /// Makes the family of a gauge.
    pub(in crate::telemetry) const fn gauge(metric: &'static Metric) -> Self {
        assert!(matches!(metric.kind, Kind::Gauge));
        Self::new(metric)
    }
}

impl<const LABELS: usize> Family<Histogram, LABELS> {
    /// Makes the family of a histogram.
    pub(in crate::telemetry) const fn histogram(metric: &'static Metric) -> Self {
        assert!(matches!(metric.kind, Kind::Histogram(_)));
        Self::new(metric)
    }
}

impl<H: Series, const LABELS: usize> Family<H, LABELS> {
    /// Returns the series of these values; an empty value leaves its label out.
    pub(in crate::telemetry) fn with(&self, values: [&'static str; LABELS]) -> H {
        if let Some(found) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(&values) {
            return found.clone();
        }
        let made = series::<H>(self.metric, &values);
        self.series.write().unwrap_or_else(PoisonError::into_inner).insert(values, made.clone());
        made
    }

    /// Returns the row of the table.
    pub(in crate::telemetry) fn metric(&self) -> &'static Metric {
        self.metric
    }
}

impl<H, const LABELS: usize> Family<H, LABELS> {
    const fn new(metric: &'static Metric) -> Self {
        assert!(open_labels(metric) == LABELS);
        Self { metric, series: RwLock::new(BTreeMap::new()) }
    }
}

const fn open_labels(metric: &Metric) -> usize {
    let (mut open, mut at) = (0, 0);
    while at < metric.labels.len() {
        if !matches!(metric.labels[at].values, Values::Fixed(_)) {
            open += 1;
        }
        at += 1;
    }
    open
}

/// A handle that records into one series.
pub(in crate::telemetry) trait Series: Clone {
    /// Asks the recorder for it.
    fn register(key: &Key) -> Self;
}

const METADATA: Metadata<'static> = Metadata::new("amalfa", metrics::Level::INFO, None);

impl Series for Counter {
    fn register(key: &Key) -> Self {
        registry().register_counter(key, &METADATA)
    }
}

impl Series for Gauge {
    fn register(key: &Key) -> Self {
        registry().register_gauge(key, &METADATA)
    }
}

impl Series for Histogram {
    fn register(key: &Key) -> Self {
        registry().register_histogram(key, &METADATA)
    }
}

/// Returns the series of a metric for these values of its open labels: for callers that keep the handle themselves.
pub(in crate::telemetry) fn series<H: Series>(metric: &'static Metric, values: &[&str]) -> H {
    let mut values = values.iter();
    let labels = metric.labels.iter().filter_map(|label| {
        let value = match label.values {
            Values::Fixed(value) => value,
            Values::InCode => values.next()?,
            Values::Closed(known) => {
                let value = values.next()?;
                if value.is_empty() || known.contains(value) { value } else { folded(metric) }
            }
        };
        (!value.is_empty()).then(|| Label::new(label.key(), value.to_owned()))
    });
    H::register(&Key::from_parts(metric.name, labels.collect::<Vec<_>>()))
}

/// Counts a value that its set lacks, which is a mistake in the code, and returns what stands for it.
fn folded(metric: &'static Metric) -> &'static str {
    super::label_overflow(metric.name);
    OTHER
}
