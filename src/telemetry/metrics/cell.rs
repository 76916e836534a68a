//! Where samples are kept: atomics, so that recording never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use metrics::HistogramFn;
use opentelemetry::trace::{SpanId, TraceId};

use super::metric::{Kind, Metric};
use crate::telemetry::context;

/// The value of one series.
#[derive(Clone)]
pub(super) enum Cell {
    Counter(Arc<AtomicU64>),
    /// The bits of an `f64`.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Distribution>),
}

/// What a series was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::telemetry) enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Samples),
}

/// What a histogram was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::telemetry) struct Samples {
    /// Samples per bucket, the one above all bounds last; not cumulative.
    pub counts: Vec<u64>,
    pub sum: f64,
    /// The latest traced sample of each bucket, in the order of `counts`; none at all where no time is measured.
    pub exemplars: Vec<Option<Exemplar>>,
}

/// A sample that has a trace.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::telemetry) struct Exemplar {
    pub trace: TraceId,
    pub span: SpanId,
    pub value: f64,
    pub time: SystemTime,
}

impl Samples {
    /// Returns how many samples there are: always the sum of the buckets.
    pub(in crate::telemetry) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Cell {
    pub(super) fn new(metric: &Metric) -> Self {
        match metric.kind {
            Kind::Counter => Self::Counter(Arc::default()),
            Kind::Gauge => Self::Gauge(Arc::default()),
            Kind::Histogram(buckets) => {
                Self::Histogram(Arc::new(Distribution::new(buckets.bounds(), metric.unit == "s")))
            }
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Self::Counter(count) => Value::Counter(count.load(Ordering::Relaxed)),
            Self::Gauge(bits) => Value::Gauge(f64::from_bits(bits.load(Ordering::Relaxed))),
            Self::Histogram(distribution) => Value::Histogram(distribution.samples()),
        }
    }
}

/// The samples of one histogram series.
#[derive(Debug)]
pub(super) struct Distribution {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
    exemplars: Box<[Mutex<Option<Exemplar>>]>,
}

impl Distribution {
    fn new(bounds: &'static [f64], is_traced: bool) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        let traced = if is_traced { bounds.len() + 1 } else { 0 };
        Self { bounds, counts, sum: AtomicU64::new(0), exemplars: (0..traced).map(|_| Mutex::default()).collect() }
    }

    fn samples(&self) -> Samples {
        let exemplar = |slot: &Mutex<Option<Exemplar>>| slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Samples {
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: f64::from_bits(self.sum.load(Ordering::Relaxed)),
            exemplars: self.exemplars.iter().map(exemplar).collect(),
        }
    }

    /// Keeps a sample of a trace that is exported. Whoever finds the place taken goes on: one of the two is as good.
    fn keep(&self, bucket: usize, value: f64) {
        let Some(slot) = self.exemplars.get(bucket) else { return };
        let Some(span) = context::sampled_here() else { return };
        if let Ok(mut slot) = slot.try_lock() {
            *slot = Some(Exemplar { trace: span.trace_id(), span: span.span_id(), value, time: SystemTime::now() });
        }
    }
}

impl HistogramFn for Distribution {
    fn record(&self, value: f64) {
        if !value.is_finite() {
            return; // one of them would spoil the sum for ever
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // Never fails: the closure always has a next value.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.keep(bucket, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_on_a_bound_belongs_to_the_bucket_below_it() {
        let distribution = Distribution::new(&[1.0, 2.0], false);
        [0.5, 1.0, 1.5, 2.0, 9.0, f64::NAN].iter().for_each(|value| distribution.record(*value));
        let samples = distribution.samples();
        assert_eq!((samples.counts.as_slice(), samples.count(), samples.sum), (&[2, 2, 1][..], 5, 14.0));
    }

    #[test]
    fn threads_lose_no_sample() {
        let distribution = Distribution::new(&[1.0], true);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| distribution.record(2.0)));
            }
        });
        let samples = distribution.samples();
        assert_eq!((samples.counts.as_slice(), samples.sum), (&[0, 40_000][..], 80_000.0));
        assert_eq!(samples.exemplars, [None, None], "nothing was traced");
    }
}
