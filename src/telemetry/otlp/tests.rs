//! What reaches a collector, and what does not.

use super::*;
use crate::telemetry::flush;
use crate::telemetry::metrics;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use std::time::{Duration, Instant};
use tracing_subscriber::layer::SubscriberExt;

fn find(variables: &[(&str, &str)], config: &Config) -> Result<Option<Target>> {
    Target::find(Signal::Traces, config, |name| {
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

fn configured(endpoint: &str) -> Config {
    Config { otlp_endpoint: Some(endpoint.into()), ..Config::default() }
}

#[test]
fn without_an_endpoint_nothing_is_traced() {
    assert_eq!(find(&[], &Config::default()).unwrap(), None);
    assert_eq!(find(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], &configured("")).unwrap(), None);
}

#[test]
fn the_standard_variables_stand_above_the_configuration() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:2"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let config = Config { otlp_protocol: Some(OtlpProtocol::HttpProtobuf), ..configured("http://configured:3") };
    let target = find(&variables, &config).unwrap().unwrap();
    assert_eq!((target.endpoint.as_str(), target.protocol), ("http://traces:2", OtlpProtocol::Grpc));
    let target = find(&[], &config).unwrap().unwrap();
    assert_eq!((target.endpoint.as_str(), target.protocol), ("http://configured:3", OtlpProtocol::HttpProtobuf));
    assert_eq!(target.url(), "http://configured:3/v1/traces");
}

#[test]
fn metrics_go_where_their_own_variables_say() {
    let find = |variables: &[(&str, &str)]| {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Target::find(Signal::Metrics, &configured("http://configured:4318/"), variable).unwrap()
    };
    assert_eq!(find(&[]).unwrap().url(), "http://configured:4318/v1/metrics");
    let own = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://metrics:1/otlp");
    assert_eq!(find(&[own]).unwrap().url(), "http://metrics:1/otlp");
    assert_eq!(find(&[("OTEL_METRICS_EXPORTER", "none"), own]), None);
}

#[test]
fn tracing_can_be_switched_off_by_the_standard_variables() {
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        assert_eq!(find(&[off], &configured("http://localhost:4317")).unwrap(), None);
    }
}

#[test]
fn port_4317_means_grpc_unless_said_otherwise() {
    let protocol = |endpoint| find(&[], &configured(endpoint)).unwrap().unwrap().protocol;
    assert_eq!(protocol("http://localhost:4317/"), OtlpProtocol::Grpc);
    assert_eq!(protocol("http://localhost:4318"), OtlpProtocol::HttpProtobuf);
}

#[test]
fn what_cannot_be_spoken_is_refused_with_advice() {
    let https = find(&[], &configured("https://me:secret@collector:4317"));
    assert!(!https.as_ref().unwrap_err().to_string().contains("secret"), "{https:?}");
    for refused in [https, find(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")], &configured("http://collector:4318"))]
    {
        assert!(matches!(refused, Err(Error::Setup { .. })), "{refused:?}");
    }
}

#[test]
fn the_resource_says_who_sends() {
    let resource = resource();
    let value = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    assert_eq!(value("service.name").as_deref(), Some("amalfa"));
    assert_eq!(value("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(value("service.instance.id").unwrap().len(), 32);
    assert_eq!(value("telemetry.sdk.language").as_deref(), Some("rust"));
}

/// Makes one span with the provider that this endpoint gives.
fn span_to(config: &Config) -> SdkTracerProvider {
    let provider = find(&[], config).unwrap().unwrap().provider().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer(&provider));
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!(target: "amalfa::test", "one").in_scope(|| ());
        tracing::info_span!(target: "hyper::test", "another's").in_scope(|| ());
    });
    provider
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_travel_over_http_too() {
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let receive = axum::routing::post(move |body: axum::body::Bytes| {
        let sent = sender.send(ExportTraceServiceRequest::decode(body).unwrap());
        async move { sent.unwrap() }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, axum::Router::new().route("/v1/traces", receive)).into_future());

    let provider = span_to(&configured(&format!("http://{address}")));
    assert!(tokio::task::spawn_blocking(move || flush(provider, Duration::from_secs(5))).await.unwrap());
    let request = received.recv().await.unwrap();
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    let names: Vec<_> = scopes.flat_map(|scope| scope.spans.iter().map(|span| span.name.as_str())).collect();
    assert_eq!(names, ["one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_travel_over_http_too() {
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let receive = axum::routing::post(move |body: axum::body::Bytes| {
        let sent = sender.send(ExportMetricsServiceRequest::decode(body).unwrap());
        async move { sent.unwrap() }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = configured(&format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(axum::serve(listener, axum::Router::new().route("/v1/metrics", receive)).into_future());

    metrics::start();
    let target = Target::find(Signal::Metrics, &config, |_| None).unwrap().unwrap();
    let pusher = Pusher::new(&target).unwrap();
    assert!(tokio::task::spawn_blocking(move || pusher.flush()).await.unwrap());
    let request = received.recv().await.unwrap();
    let names: Vec<_> =
        request.resource_metrics[0].scope_metrics[0].metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert!(names.contains(&"amalfa.ingest.documents") && names.contains(&"process.memory.usage"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_without_metrics_is_no_failure_and_a_dead_one_is() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let traces_only = configured(&format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(axum::serve(listener, axum::Router::new()).into_future());
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (config, flushed) in [(traces_only, true), (configured(&format!("http://{dead}")), false)] {
        let target = Target::find(Signal::Metrics, &config, |_| None).unwrap().unwrap();
        let pusher = Pusher::new(&target).unwrap();
        assert_eq!(tokio::task::spawn_blocking(move || pusher.flush()).await.unwrap(), flushed);
    }
    let text = metrics::prometheus_text();
    for outcome in ["unwanted", "failed"] {
        let none = format!("amalfa_telemetry_export_points_total{{outcome=\"{outcome}\"}} 0");
        assert!(!text.contains(&none), "{none}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_self_test_says_whether_a_span_was_taken() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let takes = configured(&format!("http://{}", listener.local_addr().unwrap()));
    let receive = axum::routing::post(|body: axum::body::Bytes| async move {
        assert!(ExportTraceServiceRequest::decode(body).is_ok());
    });
    tokio::spawn(axum::serve(listener, axum::Router::new().route("/v1/traces", receive)).into_future());
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = configured(&format!("http://{dead}"));
    let dead_grpc = Config { otlp_protocol: Some(OtlpProtocol::Grpc), ..dead.clone() };
    for (config, taken) in [(takes, true), (dead, false), (dead_grpc, false)] {
        let target = find(&[], &config).unwrap().unwrap();
        let runtime = tokio::runtime::Handle::current();
        let test = std::thread::spawn(move || {
            let _entered = runtime.enter();
            target.self_test()
        });
        assert_eq!(tokio::task::spawn_blocking(|| test.join().unwrap()).await.unwrap(), taken);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_collector_does_not_hold_up_the_end() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap(); // takes connections and never answers
    let config = Config {
        otlp_protocol: Some(OtlpProtocol::Grpc),
        ..configured(&format!("http://{}", silent.local_addr().unwrap()))
    };
    let provider = span_to(&config);
    let started = Instant::now();
    let flushed = tokio::task::spawn_blocking(move || flush(provider, Duration::from_millis(50))).await.unwrap();
    assert!(!flushed);
    assert!(started.elapsed() < Duration::from_secs(2));
}
