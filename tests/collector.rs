//! A collector that takes connections and never answers: what that costs the callers, and what is said about it.
//!
//! Telemetry is one per process, so this stands alone.

#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::convert::Infallible;
use std::time::{Duration, Instant};

use amalfa::telemetry::{self, Config, Metrics, OtlpProtocol, Stage, Timeline, rpc};
use axum::body::Body;
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};

const METHOD: &str = "amalfa.v1.SearchService/Search";
/// Calls of two spans each: many times what may wait.
const CALLS: usize = 8_000;
/// Calls that are compared: those before the queue is full with as many at the end.
const COMPARED: usize = 500;

async fn call() -> Duration {
    let service = service_fn(|_: Request<()>| async {
        Timeline::start().timed(Stage::Embed, async { Ok(()) }).await.unwrap();
        Ok::<_, Infallible>(Response::builder().header("grpc-status", "0").body(Body::empty()).unwrap())
    });
    let request = Request::builder().uri(format!("/{METHOD}")).body(()).unwrap();
    let measured = rpc::layer(&[METHOD]).layer(service);
    let started = Instant::now();
    measured.oneshot(request).await.unwrap();
    started.elapsed()
}

fn value(metrics: Metrics, series: &str) -> u64 {
    let text = metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in {text}")).parse().unwrap()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
async fn a_silent_collector_costs_the_callers_nothing_and_every_span_is_accounted_for() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config {
        otlp_endpoint: Some(format!("http://{}", silent.local_addr().unwrap())),
        otlp_protocol: Some(OtlpProtocol::Grpc),
        log_filter: "off".into(),
        ..Config::default()
    };
    let guard = telemetry::init(&config).unwrap();
    let mut times = Vec::new();
    for _ in 0..CALLS {
        times.push(call().await);
    }
    let metrics = guard.metrics();
    let spans = |outcome| value(metrics, &format!("amalfa_telemetry_export_spans_total{{outcome=\"{outcome}\"}}"));
    let waiting = value(metrics, "amalfa_telemetry_export_waiting_spans");
    let (exported, failed, dropped) = (spans("exported"), spans("failed"), spans("dropped"));
    assert_eq!(exported, 0);
    assert!(waiting <= 2_048 && dropped > 0, "{waiting} wait, {dropped} were dropped");
    assert_eq!(failed + dropped + waiting, 2 * CALLS as u64);

    let (before, after) = (median(&times[..COMPARED]), median(&times[CALLS - COMPARED..]));
    assert!(after <= before * 2 + Duration::from_micros(100), "{before:?} with room in the queue, {after:?} without");
    assert!(*times.iter().max().unwrap() < Duration::from_secs(1), "a call waited for the collector");
}
