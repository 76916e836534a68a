//! One call from its first header to its last trailer.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::HeaderMap;
use metrics::{Gauge, Histogram};
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::telemetry::metrics::{RPC_ACTIVE, RPC_DURATION, series};
use crate::telemetry::stages::Record;

/// The statuses of gRPC, by number (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
pub(in crate::telemetry) const STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const CANCELLED: usize = 1;
const UNKNOWN: usize = 2;

/// A method's name and the series it records into, made at the first call that needs them.
pub(super) struct Method {
    name: String,
    active: OnceLock<Gauge>,
    durations: [OnceLock<Histogram>; STATUSES.len()],
}

impl Method {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), active: OnceLock::new(), durations: Default::default() }
    }

    fn active(&self) -> &Gauge {
        self.active.get_or_init(|| series(&RPC_ACTIVE, &[&self.name]))
    }

    fn duration(&self, status: usize) -> &Histogram {
        self.durations[status].get_or_init(|| {
            let name = STATUSES[status];
            series(&RPC_DURATION, &[&self.name, name, if is_server_error(name) { name } else { "" }])
        })
    }

    fn is_traced(&self) -> bool {
        !self.name.starts_with("grpc.")
    }
}

/// A call under way. What it has to say it says when it is dropped.
pub(super) struct Call {
    method: Arc<Method>,
    parent: Context,
    span: Span,
    record: Record,
    started: Instant,
    status: Option<usize>,
}

impl Call {
    /// Starts the clock and the span, as a child of the caller's.
    pub(super) fn start(method: Arc<Method>, parent: Context) -> Self {
        method.active().increment(1.0);
        let span = if method.is_traced() { span(&method.name, &parent) } else { Span::none() };
        Self { method, parent, span, record: Record::start(), started: Instant::now(), status: None }
    }

    /// Runs a part of the call inside its span. Without an OTLP endpoint there are no spans, but logs still carry the
    /// caller's trace id, and an unsampled trace is known as such.
    pub(super) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _parent = self.parent.has_active_span().then(|| self.parent.clone().attach());
        self.record.scope(|| self.span.in_scope(work))
    }

    /// Takes the status from headers or trailers, if it is there.
    pub(super) fn read_status(&mut self, headers: &HeaderMap) {
        if let Some(value) = headers.get("grpc-status") {
            let code = value.to_str().ok().and_then(|code| code.parse().ok());
            self.status = Some(code.filter(|code| *code < STATUSES.len()).unwrap_or(UNKNOWN));
        }
    }

    /// Adds the time of each stage to the metadata that end the call.
    pub(super) fn write_timing(&self, headers: &mut HeaderMap) {
        if let Some(timing) = self.record.server_timing() {
            headers.insert("server-timing", timing);
        }
    }

    /// Ends a call that broke off without a status.
    pub(super) fn fail(&mut self) {
        self.status.get_or_insert(UNKNOWN);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let status = self.status.unwrap_or(CANCELLED);
        self.method.active().decrement(1.0);
        let duration = self.started.elapsed();
        self.span.in_scope(|| self.method.duration(status).record(duration));
        let name = STATUSES[status];
        self.span.record("rpc.status_code", name);
        if is_server_error(name) {
            self.span.record("error.type", name).record("otel.status_code", "ERROR");
        }
    }
}

fn span(method: &str, parent: &Context) -> Span {
    let span = tracing::info_span!(
        target: "amalfa::rpc",
        "rpc",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.status_code = Empty,
        "error.type" = Empty,
    );
    if parent.has_active_span() {
        // Fails only where nothing is traced.
        let _ = span.set_parent(parent.clone());
    }
    span
}

/// The statuses that are the server's fault, by the conventions for gRPC; the others are the caller's, or no error at all.
fn is_server_error(status: &str) -> bool {
    matches!(status, "UNKNOWN" | "DEADLINE_EXCEEDED" | "UNIMPLEMENTED" | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS")
}
