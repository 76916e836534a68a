//! Logs on standard error: for people on a terminal, JSON otherwise, each line with the trace that it belongs to.

use std::fmt;
use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use super::context;
use crate::error::{Error, Result};

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Makes the layer that writes logs. `RUST_LOG`, where set, stands above the configured filter.
///
/// Spans do not pass: they are for traces, and without an OTLP endpoint they cost nothing at all.
pub(super) fn layer<S>(format: LogFormat, filter: &str) -> Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let pretty = format == LogFormat::Pretty || (format == LogFormat::Auto && terminal);
    let lines = if pretty {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none();
        lines.compact().with_target(false).with_ansi(colours).boxed()
    } else {
        lines.event_format(Json).boxed()
    };
    let events = lines.with_filter(filter_fn(|metadata| metadata.is_event()));
    Ok(events.with_filter(env_filter(filter)?).boxed())
}

fn env_filter(configured: &str) -> Result<EnvFilter> {
    let (field, directives) = match std::env::var("RUST_LOG") {
        Ok(set) if !set.is_empty() => ("RUST_LOG", set),
        _ => ("telemetry.log_filter", configured.to_owned()),
    };
    EnvFilter::try_new(&directives).map_err(|error| {
        Error::invalid(field, format!("{directives:?} is no filter ({error}); try `info` or `info,amalfa=debug`"))
    })
}

/// One JSON object a line: time, level, target, message, the event's fields, and the trace it belongs to.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writeln!(writer, "{}", Value::Object(line(event)))
    }
}

fn line(event: &Event<'_>) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("timestamp".into(), format!("{:.6}", jiff::Timestamp::now()).into());
    line.insert("level".into(), event.metadata().level().as_str().into());
    line.insert("target".into(), event.metadata().target().into());
    if let Some(span) = context::current() {
        line.insert("trace_id".into(), span.trace_id().to_string().into());
        line.insert("span_id".into(), span.span_id().to_string().into());
    }
    event.record(&mut Fields(&mut line));
    line
}

/// Writes an event's fields beside the line's own; one of the same name gets an underscore.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        let mut name = field.name().to_owned();
        while self.0.contains_key(&name) {
            name.push('_');
        }
        self.0.insert(name, value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(log: impl FnOnce()) -> Value {
        let memory = Memory::default();
        let writer = memory.clone();
        let lines = tracing_subscriber::fmt::layer().event_format(Json).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), log);
        let bytes = memory.0.lock().unwrap().clone();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_line_has_its_fields_flat_and_keeps_its_own_names() {
        let line = written(|| tracing::warn!(chunks = 3, level = "mine", share = 0.5, "two\nlines"));
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["level_"], "mine");
        assert_eq!(line["message"], "two\nlines");
        assert_eq!((&line["chunks"], &line["share"]), (&3.into(), &0.5.into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(line.get("trace_id").is_none());
    }

    #[test]
    fn a_line_names_the_trace_it_belongs_to() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let parent = SpanContext::new(
            TraceId::from_hex(trace).unwrap(),
            SpanId::from_hex(span).unwrap(),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        let _attached = opentelemetry::Context::new().with_remote_span_context(parent).attach();
        let line = written(|| tracing::info!("inside"));
        assert_eq!((&line["trace_id"], &line["span_id"]), (&trace.into(), &span.into()));
    }

    #[test]
    fn a_bad_filter_is_refused_with_an_example() {
        let error = env_filter("amalfa=loud").unwrap_err();
        assert!(error.to_string().contains("try `info`"), "{error}");
    }
}
