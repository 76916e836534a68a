//! What leaves the process: spans in an OTLP receiver that the test starts, and the series of the same calls.
//!
//! The telemetry of a process is one, so these tests share it and the receiver; each looks for its own trace.
#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, which helpers of an integration test are not

use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex};

use amalfa::error::{Error, Result};
use amalfa::telemetry::{self, Config, Guard, OtlpProtocol, Stage, TextFormat, Timeline, rpc, sql};
use axum::body::Body;
use http::{Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, status::StatusCode};
use tower::{Layer, ServiceExt, service_fn};

const METHOD: &str = "amalfa.v1.SearchService/Search";
const CALLER_SPAN: &str = "00f067aa0ba902b7";

/// A collector: keeps what it is sent.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<ResourceSpans>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.lock().unwrap().extend(request.into_inner().resource_spans);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    fn spans(&self) -> Vec<Span> {
        let received = self.0.lock().unwrap();
        received.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    fn trace(&self, id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| hex(&span.trace_id) == id).collect()
    }
}

struct Process {
    receiver: Receiver,
    guard: Guard,
}

/// The process under test. The collector has a runtime of its own, which outlives each test's.
static PROCESS: LazyLock<Process> = LazyLock::new(|| {
    let receiver = Receiver::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let service = TraceServiceServer::new(receiver.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let connections = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(connections).await.unwrap();
        });
    });
    let config = Config {
        otlp_endpoint: Some(format!("http://{address}")),
        otlp_protocol: Some(OtlpProtocol::Grpc),
        log_filter: "warn".into(),
        ..Config::default()
    };
    Process { receiver, guard: telemetry::init(&config).unwrap() }
});

struct DatabaseError;

impl sql::StatusCode for DatabaseError {
    fn status_code(&self) -> Option<i32> {
        Some(5)
    }
}

/// Calls a method as a caller whose trace has this id and these flags; `work` is what the server does.
async fn call(method: &str, trace: &str, flags: &str, work: impl AsyncFn() -> Result<()> + Clone + 'static) {
    let service = service_fn(move |_: Request<()>| {
        let work = work.clone();
        async move {
            let status = if work().await.is_ok() { "0" } else { "14" };
            Ok::<_, Infallible>(Response::builder().header("grpc-status", status).body(Body::empty()).unwrap())
        }
    });
    let traceparent = format!("00-{trace}-{CALLER_SPAN}-{flags}");
    let request = Request::builder().uri(format!("/{method}")).header("traceparent", traceparent).body(()).unwrap();
    rpc::layer(&[METHOD, "grpc.health.v1.Health/Check"]).layer(service).oneshot(request).await.unwrap();
}

async fn search() -> Result<()> {
    let mut timeline = Timeline::start();
    timeline.timed(Stage::Embed, async { Ok(()) }).await?;
    let hydrate = async {
        sql::statement("SELECT chunks", "SELECT text FROM chunks WHERE id = ?1", || Ok::<_, DatabaseError>(()))
            .map_err(|_| Error::bug("unreachable"))
    };
    timeline.timed(Stage::Hydrate, hydrate).await
}

async fn failing_search() -> Result<()> {
    let locked = async {
        sql::statement("UPDATE documents", "UPDATE documents SET title = ?1", || Err::<(), _>(DatabaseError))
            .map_err(|_| Error::Unavailable { message: "the database is locked".into(), source: None })
    };
    Timeline::start().timed(Stage::Commit, locked).await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name:?} among {spans:#?}"))
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    match attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}

#[tokio::test]
async fn a_call_is_a_tree_below_the_callers_span() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let process = &*PROCESS;
    call(METHOD, trace, "01", search).await;
    assert!(process.guard.flush());

    let spans = process.receiver.trace(trace);
    let [call, embed, hydrate, statement] =
        [METHOD, "embed", "hydrate", "SELECT chunks"].map(|name| named(&spans, name));
    assert_eq!(spans.len(), 4, "{spans:#?}");
    assert_eq!(hex(&call.parent_span_id), CALLER_SPAN);
    assert_eq!((&embed.parent_span_id, &hydrate.parent_span_id), (&call.span_id, &call.span_id));
    assert_eq!(statement.parent_span_id, hydrate.span_id);
    assert_eq!((call.kind(), statement.kind()), (SpanKind::Server, SpanKind::Client));
    for (span, key, value) in [
        (call, "rpc.system.name", "grpc"),
        (call, "rpc.method", METHOD),
        (call, "rpc.status_code", "OK"),
        (statement, "db.system.name", "sqlite"),
        (statement, "db.query.summary", "SELECT chunks"),
        (statement, "db.query.text", "SELECT text FROM chunks WHERE id = ?1"),
    ] {
        assert_eq!(attribute(&span.attributes, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(attribute(&call.attributes, "error.type"), None);
}

#[tokio::test]
async fn a_failure_shows_on_every_span_it_went_through() {
    let trace = "11111111111111111111111111111111";
    let process = &*PROCESS;
    call(METHOD, trace, "01", failing_search).await;
    assert!(process.guard.flush());

    let spans = process.receiver.trace(trace);
    for (name, error) in [(METHOD, "UNAVAILABLE"), ("commit", "unavailable"), ("UPDATE documents", "SQLITE_BUSY")] {
        let span = named(&spans, name);
        assert_eq!(attribute(&span.attributes, "error.type").as_deref(), Some(error));
        assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error, "{name}");
    }
    let statement = named(&spans, "UPDATE documents");
    assert_eq!(attribute(&statement.attributes, "db.response.status_code").as_deref(), Some("5"));
}

/// The trace ids of all exemplars of a scrape.
fn exemplars(text: &str) -> Vec<String> {
    let ids = text.split("# {trace_id=\"").skip(1);
    ids.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_exemplar_is_of_a_trace_that_was_exported() {
    let trace = "77777777777777777777777777777777";
    let process = &*PROCESS;
    call(METHOD, trace, "01", search).await;
    call(METHOD, "88888888888888888888888888888888", "00", search).await;
    let text = process.guard.metrics().render_as(TextFormat::OpenMetrics);
    let ids = exemplars(&text);
    assert!(ids.iter().any(|id| id == trace), "{text}");
    // Calls of other tests may be under way: their spans come when they end.
    let missing = |id: &&String| process.receiver.trace(id).is_empty();
    for _ in 0..100 {
        assert!(process.guard.flush());
        if !ids.iter().any(|id| missing(&id)) {
            break;
        }
    }
    assert_eq!(ids.iter().filter(missing).collect::<Vec<_>>(), Vec::<&String>::new());
    let plain = process.guard.metrics().render();
    assert_eq!(exemplars(&plain), Vec::<String>::new(), "the plain format has none");
}

#[tokio::test]
async fn an_exemplar_is_of_the_span_that_was_measured() {
    let trace = "99999999999999999999999999999999";
    let process = &*PROCESS;
    // No other test reranks, so the sample is the only one.
    let rerank = async || Timeline::start().timed(Stage::Rerank, async { Ok(()) }).await;
    call(METHOD, trace, "01", rerank).await;
    let text = process.guard.metrics().render_as(TextFormat::OpenMetrics);
    let exemplar = text.lines().find(|line| line.contains("stage=\"rerank\"") && line.contains(trace)).unwrap();
    assert!(process.guard.flush());
    let spans = process.receiver.trace(trace);
    let span = hex(&named(&spans, "rerank").span_id);
    assert!(exemplar.contains(&format!("span_id=\"{span}\"")), "{exemplar}");
}

/// The reference parser of OpenMetrics, which refuses what the specification forbids, with a look at the exemplars.
const STRICT_PARSER: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
exemplars = [s.exemplar for f in families for s in f.samples if s.exemplar]
assert exemplars and all(len(e.labels['trace_id']) == 32 and len(e.labels['span_id']) == 16 for e in exemplars)
assert any(f.type == 'counter' and not f.name.endswith('_total') for f in families)
assert any(f.unit == 'seconds' for f in families)
";

#[tokio::test]
async fn a_strict_parser_of_openmetrics_is_content() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let python = |script: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", script]).stdin(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let is_there = python("import prometheus_client.openmetrics.parser").output();
    if !is_there.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: prometheus_client is not installed (python3 -m pip install prometheus-client)");
        return;
    }
    let process = &*PROCESS;
    call(METHOD, "abababababababababababababababab", "01", search).await;
    let text = process.guard.metrics().render_as(TextFormat::OpenMetrics);
    let mut parser = python(STRICT_PARSER).spawn().unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let parsed = parser.wait_with_output().unwrap();
    assert!(parsed.status.success(), "{}\n{text}", String::from_utf8_lossy(&parsed.stderr));
}

#[tokio::test]
async fn what_the_caller_did_not_sample_is_not_exported_but_measured() {
    let trace = "22222222222222222222222222222222";
    let process = &*PROCESS;
    call(METHOD, trace, "00", search).await;
    assert!(process.guard.flush());
    assert_eq!(process.receiver.trace(trace), []);
    let series = format!("rpc_server_call_duration_seconds_count{{rpc_system_name=\"grpc\",rpc_method=\"{METHOD}\"");
    assert!(process.guard.metrics().render().contains(&series));
}

#[tokio::test]
async fn health_checks_are_not_traced() {
    let trace = "33333333333333333333333333333333";
    call("grpc.health.v1.Health/Check", trace, "01", async || Ok(())).await;
    assert!(PROCESS.guard.flush());
    assert_eq!(PROCESS.receiver.trace(trace), []);
}

#[tokio::test]
async fn a_real_server_counts_the_statuses_that_its_client_sees() {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let mut server = tonic::transport::Server::builder().layer(rpc::layer(&["grpc.health.v1.Health/Check"]));
    tokio::spawn(server.add_service(health).serve_with_incoming(connections));

    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let mut check = async |service: &str| {
        client.check(tonic_health::pb::HealthCheckRequest { service: service.into() }).await.map(drop)
    };
    check("").await.unwrap(); // its status comes in trailers
    assert_eq!(check("nobody").await.unwrap_err().code(), tonic::Code::NotFound); // and this one's in headers
    let metrics = PROCESS.guard.metrics().render();
    for status in ["OK", "NOT_FOUND"] {
        let series = format!("rpc_method=\"grpc.health.v1.Health/Check\",rpc_status_code=\"{status}\"}}");
        assert!(metrics.contains(&series), "{status}");
    }
}

#[tokio::test]
async fn exporting_begets_no_spans() {
    let process = &*PROCESS;
    call(METHOD, "44444444444444444444444444444444", "01", search).await;
    for _ in 0..3 {
        assert!(process.guard.flush());
    }
    let known = [METHOD, "embed", "hydrate", "rerank", "commit", "SELECT chunks", "UPDATE documents"];
    let mut names: Vec<_> = process.receiver.spans().into_iter().map(|span| span.name).collect();
    names.retain(|name| !known.contains(&name.as_str()));
    assert!(names.is_empty(), "{} spans of others, such as {:?}", names.len(), names.first());
}

#[tokio::test]
async fn spans_say_who_sent_them_and_by_which_conventions() {
    let process = &*PROCESS;
    call(METHOD, "55555555555555555555555555555555", "01", search).await;
    assert!(process.guard.flush());
    let received = process.receiver.0.lock().unwrap();
    let resource = received[0].resource.as_ref().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("amalfa"));
    assert_eq!(received[0].scope_spans[0].schema_url, "https://opentelemetry.io/schemas/1.45.0");
}

#[tokio::test]
async fn a_second_start_is_another_hold_on_the_first() {
    let process = &*PROCESS;
    let second = telemetry::init(&Config { otlp_endpoint: None, ..Config::default() }).unwrap();
    let trace = "66666666666666666666666666666666";
    call(METHOD, trace, "01", search).await;
    drop(second); // flushes
    assert_eq!(process.receiver.trace(trace).len(), 4);
    assert!(process.guard.metrics().render().contains("amalfa_telemetry_export_spans_total{outcome=\"exported\"}"));
}
