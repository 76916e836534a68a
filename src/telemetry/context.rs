//! The trace that the running code belongs to: taken from a request, looked at before a span is made.

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;

/// Takes W3C `traceparent` and `tracestate` from a request's headers (gRPC metadata are headers); an empty context where
/// there is none or it is malformed.
pub(super) fn extract(headers: &HeaderMap) -> Context {
    if !headers.contains_key("traceparent") {
        return Context::new();
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

/// Makes a span, unless the trace that is under way was sampled out: then its attributes need not be put together.
pub(super) fn span(make: impl FnOnce() -> Span) -> Span {
    match current() {
        Some(parent) if !parent.is_sampled() => Span::none(),
        _ => make(),
    }
}

/// Makes a span only as part of a sampled trace, never the root of one.
pub(super) fn span_inside(make: impl FnOnce() -> Span) -> Span {
    match current() {
        Some(parent) if parent.is_sampled() => make(),
        _ => Span::none(),
    }
}

/// Returns the span that is under way here, if any.
pub(super) fn current() -> Option<SpanContext> {
    let context = Context::current();
    context.has_active_span().then(|| context.span().span_context().clone()).filter(SpanContext::is_valid)
}

/// Returns the span that is under way here if this process exports it; a caller's is the caller's to export.
pub(super) fn sampled_here() -> Option<SpanContext> {
    current().filter(|span| span.is_sampled() && !span.is_remote())
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_traceparent_is_no_parent() {
        for value in ["", "00", "00-0-0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), value.parse().unwrap())]);
            assert!(!extract(&headers).span().span_context().is_valid(), "{value:?}");
        }
    }
}
