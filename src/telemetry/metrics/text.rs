//! The registry as text: Prometheus' own format, or OpenMetrics, which has units and exemplars.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use super::cell::{Exemplar, Samples, Value};
use super::metric::{Kind, Metric};
use super::registry::{Snapshot, snapshot};
pub use format::TextFormat;

mod format;

/// Returns all series, in the order of the table. Takes up to a millisecond, blocking.
///
/// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>, OpenMetrics 1.0.
pub(in crate::telemetry) fn render(format: TextFormat) -> String {
    let mut writer = Writer { format, text: String::with_capacity(64 << 10) };
    snapshot().iter().for_each(|snapshot| writer.family(snapshot));
    if format == TextFormat::OpenMetrics {
        writer.line(format_args!("# EOF"));
    }
    writer.text
}

struct Writer {
    format: TextFormat,
    text: String,
}

impl Writer {
    fn family(&mut self, snapshot: &Snapshot) {
        self.head(snapshot.metric);
        let name = snapshot.metric.name;
        for (values, value) in &snapshot.series {
            let labels = labels(snapshot.metric, values);
            match value {
                Value::Counter(count) => self.line(format_args!("{name}{} {count}", braced(&labels))),
                Value::Gauge(value) => self.line(format_args!("{name}{} {value}", braced(&labels))),
                Value::Histogram(samples) => self.histogram(snapshot.metric, &labels, samples),
            }
        }
    }

    /// Writes what is known of a metric. OpenMetrics names a counter without `_total`, which its samples have.
    fn head(&mut self, metric: &Metric) {
        let kind = metric.kind.as_str();
        if self.format == TextFormat::Prometheus {
            let (name, help) = (metric.name, metric.help.replace('\\', "\\\\"));
            self.line(format_args!("# HELP {name} {help}"));
            return self.line(format_args!("# TYPE {name} {kind}"));
        }
        let name = metric.name.trim_end_matches("_total");
        self.line(format_args!("# TYPE {name} {kind}"));
        if let Some(unit) = unit(metric) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {}", escaped(metric.help)));
    }

    fn histogram(&mut self, metric: &Metric, labels: &str, samples: &Samples) {
        let Kind::Histogram(buckets) = metric.kind else { return };
        let name = metric.name;
        let separator = if labels.is_empty() { "" } else { "," };
        let bounds = buckets.bounds().iter().map(|bound| number(*bound)).chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (at, (bound, count)) in bounds.zip(&samples.counts).enumerate() {
            below += count;
            let exemplar = self.exemplar(samples.exemplars.get(at));
            self.line(format_args!("{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {below}{exemplar}"));
        }
        self.line(format_args!("{name}_sum{} {}", braced(labels), samples.sum));
        self.line(format_args!("{name}_count{} {}", braced(labels), samples.count()));
    }

    fn exemplar(&self, exemplar: Option<&Option<Exemplar>>) -> String {
        let Some(Some(Exemplar { trace, span, value, time })) = exemplar else { return String::new() };
        if self.format == TextFormat::Prometheus {
            return String::new();
        }
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        format!(" # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value} {seconds:.3}")
    }

    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "{arguments}");
    }
}

/// Returns the unit as it stands at the end of the name.
fn unit(metric: &Metric) -> Option<&'static str> {
    match metric.unit {
        "s" => Some("seconds"),
        "By" => Some("bytes"),
        "1" => Some("ratio"),
        _ => None,
    }
}

/// Returns `key="value"` for every label that is there, between commas.
fn labels(metric: &Metric, values: &[String]) -> String {
    let given = metric.labels.iter().zip(values).filter(|(_, value)| !value.is_empty());
    given.map(|(label, value)| format!("{}=\"{}\"", label.key(), escaped(value))).collect::<Vec<_>>().join(",")
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Returns a bound in the canonical form of OpenMetrics (`1.0`, `1e-05`), in both formats, so that a series keeps its name
/// whichever is scraped.
///
/// Source: OpenMetrics 1.0, «Considerations: Canonical Numbers».
fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-4 {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once("e-").unwrap_or((&text, "0"));
        return format!("{mantissa}e-{exponent:0>2}");
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_canonical() {
        let texts = [0.0, 1.0, 0.25, 30.0, 0.0001, 0.00001, 0.000025].map(number);
        assert_eq!(texts, ["0.0", "1.0", "0.25", "30.0", "0.0001", "1e-05", "2.5e-05"]);
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
