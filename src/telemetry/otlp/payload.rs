//! The registry as OTLP: the same values as on `/metrics`, under their dotted names, with their exemplars.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, exemplar, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;

use super::SCHEMA;
use crate::telemetry::metrics::{Kind, Metric as Row, Sample, Samples, Snapshot, Value};

/// From when counters count to when they were read, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy)]
pub(super) struct Span {
    started: u64,
    read: u64,
}

impl Span {
    pub(super) fn until_now(started: SystemTime) -> Self {
        Self { started: nanoseconds(started), read: nanoseconds(SystemTime::now()) }
    }
}

/// Returns the request that exports a reading of the registry. Counters count from the start of the process, so a push
/// that was lost is made good by the next.
pub(super) fn request(
    snapshot: &[Snapshot],
    resource: &opentelemetry_sdk::Resource,
    span: Span,
) -> ExportMetricsServiceRequest {
    let scope =
        InstrumentationScope { name: "amalfa".into(), version: env!("CARGO_PKG_VERSION").into(), ..Default::default() };
    let metrics = snapshot.iter().map(|snapshot| metric(snapshot, span)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, schema_url: SCHEMA.into() }];
    let attributes = ResourceAttributesWithSchema::from(resource).attributes.0;
    let resource = Some(Resource { attributes, ..Default::default() });
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..Default::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn metric(snapshot: &Snapshot, span: Span) -> Metric {
    let row = snapshot.metric;
    let (name, unit, description) = (row.otel_name.into(), row.unit.into(), row.help.into());
    Metric { name, unit, description, data: Some(data(snapshot, span)), ..Default::default() }
}

fn data(snapshot: &Snapshot, span: Span) -> Data {
    let (row, series) = (snapshot.metric, &snapshot.series);
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let numbers = || series.iter().filter_map(|sample| number(row, sample, span)).collect();
    match row.kind {
        Kind::Counter => Data::Sum(Sum { data_points: numbers(), aggregation_temporality, is_monotonic: true }),
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram(_) => {
            let data_points = series.iter().filter_map(|sample| distribution(row, sample, span)).collect();
            Data::Histogram(Histogram { data_points, aggregation_temporality })
        }
    }
}

fn number(row: &Row, (labels, value): &Sample, span: Span) -> Option<NumberDataPoint> {
    let value = match value {
        Value::Counter(count) => number_data_point::Value::AsInt(i64::try_from(*count).unwrap_or(i64::MAX)),
        Value::Gauge(value) => number_data_point::Value::AsDouble(*value),
        Value::Histogram(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(row, labels),
        start_time_unix_nano: span.started,
        time_unix_nano: span.read,
        value: Some(value),
        ..Default::default()
    })
}

fn distribution(row: &Row, (labels, value): &Sample, span: Span) -> Option<HistogramDataPoint> {
    let (Kind::Histogram(buckets), Value::Histogram(samples)) = (row.kind, value) else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(row, labels),
        start_time_unix_nano: span.started,
        time_unix_nano: span.read,
        count: samples.count(),
        sum: Some(samples.sum),
        bucket_counts: samples.counts.clone(),
        explicit_bounds: buckets.bounds().to_vec(),
        exemplars: exemplars(samples),
        ..Default::default()
    })
}

fn exemplars(samples: &Samples) -> Vec<Exemplar> {
    let exemplars = samples.exemplars.iter().flatten().map(|sample| Exemplar {
        time_unix_nano: nanoseconds(sample.time),
        trace_id: sample.trace.to_bytes().to_vec(),
        span_id: sample.span.to_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(sample.value)),
        ..Default::default()
    });
    exemplars.collect()
}

fn attributes(row: &Row, values: &[String]) -> Vec<KeyValue> {
    let given = row.labels.iter().zip(values).filter(|(_, value)| !value.is_empty());
    let text = |value: &str| AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    given
        .map(|(label, value)| KeyValue { key: label.attribute.into(), value: Some(text(value)), ..Default::default() })
        .collect()
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
