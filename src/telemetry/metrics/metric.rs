//! What a row of the table is made of.

/// A metric: the whole contract about it.
#[derive(Debug)]
pub struct Metric {
    /// The name on `/metrics`, unit last.
    pub name: &'static str,
    /// The name over OTLP, dotted.
    pub otel_name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The unit in UCUM (`s`, `By`, `1` for a share of a whole), empty for plain numbers.
    pub unit: &'static str,
    /// Whether dashboards may build on it.
    pub stability: Stability,
    /// The labels, in the order in which they are recorded.
    pub labels: &'static [Label],
    /// One sentence for the person who reads the dashboard.
    pub help: &'static str,
}

/// What a metric counts with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distributes samples over buckets.
    Histogram(Buckets),
}

/// Upper bounds of a histogram's buckets: at least one, ascending, finite. There is no other way to make a histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Buckets(&'static [f64]);

/// Whether a metric's name, labels and meaning stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// Changes only with a major version.
    Stable,
    /// May change with any version.
    Development,
}

/// A label of a metric.
#[derive(Debug)]
pub struct Label {
    /// Its name over OTLP; on `/metrics` dots are underscores.
    pub attribute: &'static str,
    /// What it can be.
    pub values: Values,
}

/// What a label can be. Nothing that a caller sends is ever a label's value.
#[derive(Debug)]
pub enum Values {
    /// The same on every series.
    Fixed(&'static str),
    /// One of these; anything else is folded into `_OTHER` and counted. A value may be left out.
    Closed(&'static [&'static str]),
    /// A word written in the code, such as the summary of a SQL statement or a method of the API. A metric that has had
    /// more series than it may is folded into `_OTHER` too.
    InCode,
}

/// What stands for a value outside its closed set.
pub(in crate::telemetry) const OTHER: &str = "_OTHER";

impl Metric {
    /// Returns the values of the closed labels, in order.
    pub(super) fn closed_values(&self) -> impl Iterator<Item = &'static str> {
        self.labels
            .iter()
            .flat_map(|label| match label.values {
                Values::Closed(values) => values,
                Values::Fixed(_) | Values::InCode => &[],
            })
            .copied()
    }
}

impl Kind {
    /// Returns its name in both text formats.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Buckets {
    /// Makes buckets; in a constant, as every row of the table is, wrong ones do not compile.
    ///
    /// ```compile_fail
    /// const NONE: amalfa::telemetry::metrics::Buckets = amalfa::telemetry::metrics::Buckets::new(&[]);
    /// println!("{NONE:?}");
    /// ```
    pub const fn new(bounds: &'static [f64]) -> Self {
        assert!(!bounds.is_empty(), "a histogram without buckets says nothing");
        let mut at = 0;
        while at < bounds.len() {
            assert!(bounds[at].is_finite(), "the bucket above all is there without being named");
            assert!(at == 0 || bounds[at - 1] < bounds[at], "bounds ascend");
            at += 1;
        }
        Self(bounds)
    }

    /// Returns the bounds; above the last is one more bucket.
    pub fn bounds(self) -> &'static [f64] {
        self.0
    }
}

impl Stability {
    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Development => "development",
        }
    }
}

impl Label {
    pub(super) const fn closed(attribute: &'static str, values: &'static [&'static str]) -> Self {
        Self { attribute, values: Values::Closed(values) }
    }

    pub(super) const fn fixed(attribute: &'static str, value: &'static str) -> Self {
        Self { attribute, values: Values::Fixed(value) }
    }

    pub(super) const fn in_code(attribute: &'static str) -> Self {
        Self { attribute, values: Values::InCode }
    }

    /// Returns its name on `/metrics`.
    pub fn key(&self) -> String {
        self.attribute.replace('.', "_")
    }
}
