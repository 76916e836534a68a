//! The table of metrics for people and programs: `amalfa metrics`, `docs/metrics.md`.

use std::fmt::Write;

use serde_json::{Value, json};

use super::metric::{Kind, Label, Metric, Values};
use super::table::ALL;

const HEADER: &str = "# Metrics

Every metric of the service, as `amalfa metrics --markdown` prints it; a test holds this file against the code.

On `/metrics` they carry the first name, over OTLP the second, with the same values. Prometheus' text format and, where the
scraper asks for it, OpenMetrics are spoken. *Stable* ones change only with a major version. A value that its label's set
lacks is folded into `_OTHER` and counted in `amalfa_telemetry_label_overflows_total`; nothing that a caller sends becomes a
label.

";

/// Returns the catalogue as JSON: an array of metrics in the order of the table.
pub fn json() -> Value {
    let label = |label: &Label| {
        let (kind, values) = match label.values {
            Values::Fixed(value) => ("fixed", json!([value])),
            Values::Closed(values) => ("closed", json!(values)),
            Values::InCode => ("in_code", Value::Null),
        };
        json!({"key": label.key(), "attribute": label.attribute, "set": kind, "values": values})
    };
    let metric = |metric: &&Metric| {
        let buckets = match metric.kind {
            Kind::Histogram(buckets) => json!(buckets.bounds()),
            Kind::Counter | Kind::Gauge => Value::Null,
        };
        json!({
            "name": metric.name,
            "otel_name": metric.otel_name,
            "kind": metric.kind.as_str(),
            "unit": metric.unit,
            "stability": metric.stability.as_str(),
            "labels": metric.labels.iter().map(label).collect::<Vec<_>>(),
            "buckets": buckets,
            "help": metric.help,
        })
    };
    ALL.iter().map(metric).collect()
}

/// Returns the catalogue as Markdown: what `docs/metrics.md` holds.
pub fn markdown() -> String {
    let mut text = HEADER.to_owned();
    text.push_str("| metric | over OTLP | kind | unit | labels | stability | what it says |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    ALL.iter().for_each(|metric| row(&mut text, metric));
    text.push_str("\n## Values of labels\n\n| label | values | of |\n|---|---|---|\n");
    labels(&mut text);
    text.push_str("\n## Buckets\n\n| upper bounds | of |\n|---|---|\n");
    buckets(&mut text);
    text
}

fn row(text: &mut String, metric: &Metric) {
    let Metric { name, otel_name, kind, unit, stability, labels, help } = metric;
    let labels = labels.iter().map(|label| format!("`{}`", label.key())).collect::<Vec<_>>().join(" ");
    let (kind, stability) = (kind.as_str(), stability.as_str());
    // Writing into a string does not fail, here and below.
    let _ = writeln!(text, "| `{name}` | `{otel_name}` | {kind} | {unit} | {labels} | {stability} | {help} |");
}

/// Writes a row for each label with each of its sets.
fn labels(text: &mut String) {
    let described = |label: &Label| {
        let values = match label.values {
            Values::Fixed(value) => format!("always `{value}`"),
            Values::Closed(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" "),
            Values::InCode => "a word of the code".to_owned(),
        };
        format!("`{}` | {values}", label.key())
    };
    let pairs = ALL.iter().flat_map(|metric| metric.labels.iter().map(|label| (described(label), metric.name)));
    grouped(text, pairs);
}

fn buckets(text: &mut String) {
    let pairs = ALL.iter().filter_map(|metric| match metric.kind {
        Kind::Histogram(buckets) => {
            let bounds = buckets.bounds().iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
            Some((bounds, metric.name))
        }
        Kind::Counter | Kind::Gauge => None,
    });
    grouped(text, pairs);
}

/// Writes a row for each first text with all that come with it, in the order of their first coming.
fn grouped(text: &mut String, pairs: impl Iterator<Item = (String, &'static str)>) {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (key, name) in pairs {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, names)) => names.push(format!("`{name}`")),
            None => groups.push((key, vec![format!("`{name}`")])),
        }
    }
    for (key, names) in groups {
        let _ = writeln!(text, "| {key} | {} |", names.join(" "));
    }
}
