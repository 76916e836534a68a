//! Spans on their way to the endpoint. Each is counted once: exported, failed, or dropped because too many waited.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, Span, SpanData,
    SpanExporter as ExportSpans, SpanProcessor,
};

use super::RESOURCE;
use crate::telemetry::metrics;

/// Spans that may wait when `OTEL_BSP_MAX_QUEUE_SIZE` does not say: the standard's number.
const WAITING_MAX: usize = 2_048;

/// Spans that wait or are being sent. The SDK's queue never holds more, so that it never drops one uncounted.
type Waiting = Arc<AtomicUsize>;

/// The SDK's batch processor behind a limit that counts.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: BatchSpanProcessor,
    waiting: Waiting,
    waiting_max: usize,
}

impl Bounded {
    /// Makes the processor; batch and delay are the standard's `OTEL_BSP_*`.
    pub(super) fn new(exporter: SpanExporter) -> Self {
        let set = std::env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok().and_then(|text| text.parse().ok());
        let waiting_max = set.filter(|count| *count > 0).unwrap_or(WAITING_MAX);
        let waiting = Waiting::default();
        let config = BatchConfigBuilder::default().with_max_queue_size(waiting_max).build();
        let exporter = Counting { exporter, waiting: waiting.clone() };
        Self { inner: BatchSpanProcessor::builder(exporter).with_batch_config(config).build(), waiting, waiting_max }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        let one_more = |count| (count < self.waiting_max).then_some(count + 1);
        match self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(before) => {
                metrics::export_waiting(before + 1);
                self.inner.on_end(span);
            }
            Err(_) => metrics::export_spans("dropped", 1),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what the endpoint took and what it did not.
#[derive(Debug)]
struct Counting {
    exporter: SpanExporter,
    waiting: Waiting,
}

impl ExportSpans for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (count, begun) = (batch.len(), Instant::now());
        let result = self.exporter.export(batch).await;
        let before = self.waiting.fetch_sub(count, Ordering::Relaxed);
        metrics::export_waiting(before.saturating_sub(count));
        metrics::export_spans(if result.is_ok() { "exported" } else { "failed" }, count as u64);
        metrics::export_duration("traces", begun.elapsed());
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends one span past sampler and queue, and returns whether the endpoint took it. Blocking; inside a tokio runtime's
/// context, on a thread that is none of its own.
pub(super) fn send_one(mut exporter: SpanExporter) -> OTelSdkResult {
    exporter.set_resource(&RESOURCE);
    let ids = RandomIdGenerator::default();
    let span_context =
        SpanContext::new(ids.new_trace_id(), ids.new_span_id(), TraceFlags::SAMPLED, false, TraceState::default());
    let now = SystemTime::now();
    let span = SpanData {
        span_context,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "telemetry self-test".into(),
        start_time: now,
        end_time: now,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("amalfa").with_version(env!("CARGO_PKG_VERSION")).build(),
    };
    futures::executor::block_on(exporter.export(vec![span]))
}
