//! The contract about metrics, held against the document, a live server, and what a collector gets.
//!
//! Telemetry is one per process, so one test loads it and no other of this file does.

#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};

use amalfa::api::proto::index_service_client::IndexServiceClient;
use amalfa::api::proto::search_service_client::SearchServiceClient;
use amalfa::api::proto::{Document, RerankMode, SearchRequest, UpsertRequest, search_request::Query};
use amalfa::app::App;
use amalfa::config::Config;
use amalfa::model::Model;
use amalfa::telemetry::OtlpProtocol;
use amalfa::telemetry::metrics::{self, Kind, Metric, Values};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{self as otlp, ResourceMetrics, metric::Data, number_data_point};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// What a search, an upsert and a scrape move: each of these is above zero after them.
const MOVED: &[&str] = &[
    "rpc_server_call_duration_seconds",
    "amalfa_stage_duration_seconds",
    "db_client_operation_duration_seconds",
    "db_client_connections",
    "db_client_connection_max",
    "db_client_connection_wait_time_seconds",
    "db_client_connection_use_time_seconds",
    "amalfa_ingest_documents_total",
    "amalfa_ingest_chunks_total",
    "amalfa_model_tokens_total",
    "amalfa_model_call_duration_seconds",
    "amalfa_queue_wait_seconds",
    "amalfa_rerank_passages_total",
    "amalfa_rerank_coverage_ratio",
    "amalfa_engine_vectors",
    "amalfa_engine_bytes",
    "amalfa_engine_scanned_vectors_total",
    "amalfa_build_info",
    "amalfa_telemetry_series",
    "amalfa_jemalloc_allocated_bytes",
    "process_resident_memory_bytes",
    "process_open_fds",
];

/// A collector: keeps the latest metrics.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ResourceMetrics>>>);

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        *self.0.lock().unwrap() = request.into_inner().resource_metrics;
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(MetricsServiceServer::new(self.clone()))
            .add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        address
    }

    /// Returns what each series holds, as a scrape would tell it.
    fn sums(&self) -> Sums {
        let received = self.0.lock().unwrap();
        let scopes = received.iter().flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).flat_map(points).collect()
    }
}

/// A name and labels.
type Series = (String, BTreeMap<String, String>);
/// Each series' value, or its sum and its count.
type Sums = BTreeMap<Series, f64>;

fn points(metric: &otlp::Metric) -> Vec<(Series, f64)> {
    let row = metrics::ALL.iter().find(|row| row.otel_name == metric.name).unwrap();
    let numbers = |points: &[otlp::NumberDataPoint]| {
        let value = |point: &otlp::NumberDataPoint| match point.value.unwrap() {
            number_data_point::Value::AsInt(count) => count as f64,
            number_data_point::Value::AsDouble(value) => value,
        };
        points.iter().map(|point| ((row.name.to_owned(), labels(&point.attributes)), value(point))).collect()
    };
    match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => numbers(&sum.data_points),
        Data::Gauge(gauge) => numbers(&gauge.data_points),
        Data::Histogram(histogram) => {
            histogram.data_points.iter().flat_map(|point| histogram_sums(row, point)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn histogram_sums(row: &Metric, point: &otlp::HistogramDataPoint) -> Vec<(Series, f64)> {
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
    let of = |suffix: &str, value: f64| ((format!("{}_{suffix}", row.name), labels(&point.attributes)), value);
    vec![of("sum", point.sum.unwrap()), of("count", point.count as f64)]
}

fn labels(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.clone().unwrap().value.unwrap() {
        any_value::Value::StringValue(text) => text,
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.replace('.', "_"), text(attribute))).collect()
}

/// A running server and a connection to it.
struct Server {
    channel: Channel,
    admin: SocketAddr,
    telemetry: amalfa::telemetry::Config,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<amalfa::error::Result<()>>,
    _folder: tempfile::TempDir,
}

async fn server(collector: SocketAddr) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let mut config = Config::default();
    (config.grpc.address, config.admin.address) = (any, any);
    config.store.path = folder.path().join("amalfa.db");
    config.telemetry.otlp_endpoint = Some(format!("http://{collector}"));
    config.telemetry.otlp_protocol = Some(OtlpProtocol::Grpc);
    let telemetry = config.telemetry.clone();
    let kept = telemetry.clone();
    let metrics = tokio::task::spawn_blocking(move || amalfa::telemetry::init(&telemetry).unwrap().metrics());
    let app = App::with_model(config, Model::arithmetic(64), metrics.await.unwrap()).await.unwrap();
    let (grpc, admin, stop) = (app.grpc_address(), app.admin_address(), CancellationToken::new());
    let running = tokio::spawn(app.run(stop.clone()));
    let channel = Channel::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
    Server { channel, admin, telemetry: kept, stop, running, _folder: folder }
}

impl Server {
    /// Upserts, searches, reranks, and asks for what is not there.
    async fn load(&self) {
        let document =
            Document { id: "a".into(), text: "a boat on the water of the harbour".into(), ..Document::default() };
        let request = UpsertRequest { document: Some(document) };
        let mut index = IndexServiceClient::new(self.channel.clone());
        let mut answers = index.upsert(tokio_stream::iter([request])).await.unwrap().into_inner();
        while answers.message().await.unwrap().is_some() {}
        let mut search = SearchServiceClient::new(self.channel.clone());
        search.search(query("a boat", RerankMode::LateInteraction)).await.unwrap();
        assert!(search.search(query("", RerankMode::None)).await.is_err());
    }

    /// Stops, exports, and returns what a scrape tells then of all that stands still.
    async fn end(self) -> Sums {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        let export = move || {
            let guard = amalfa::telemetry::init(&self.telemetry).unwrap();
            assert!(guard.flush(), "the collector did not take what was exported");
            guard.metrics().render()
        };
        let text = tokio::task::spawn_blocking(export).await.unwrap();
        let moving = ["process_", "amalfa_jemalloc_", "amalfa_telemetry_"];
        let still =
            samples(&text).into_iter().filter(|sample| !moving.iter().any(|name| sample.name.starts_with(name)));
        let still = still.filter(|sample| !sample.name.ends_with("_bucket"));
        still.map(|sample| ((sample.name, sample.labels), sample.value)).collect()
    }

    async fn scrape(&self) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.admin).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

fn query(text: &str, rerank: RerankMode) -> SearchRequest {
    SearchRequest { query: Some(Query::Text(text.into())), rerank_mode: rerank.into(), ..SearchRequest::default() }
}

/// A line of a scrape.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let pairs = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once("=\"").unwrap();
        (key.to_owned(), value.trim_end_matches('"').to_owned())
    };
    Sample { name: name.to_owned(), labels: pairs.map(pair).collect(), value: value.parse().unwrap() }
}

/// Returns the row that a sample belongs to.
fn row(sample: &Sample) -> &'static Metric {
    let is_its = |metric: &&&Metric| match metric.kind {
        Kind::Counter | Kind::Gauge => sample.name == metric.name,
        Kind::Histogram(_) => {
            sample.name.strip_prefix(metric.name).is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
        }
    };
    metrics::ALL.iter().find(is_its).unwrap_or_else(|| panic!("{} is not in the table", sample.name))
}

/// Checks a sample's labels against its row.
fn check_labels(sample: &Sample, metric: &Metric) {
    for (key, value) in &sample.labels {
        if key == "le" && sample.name.ends_with("_bucket") {
            continue;
        }
        let label = metric.labels.iter().find(|label| label.key() == *key);
        match label.unwrap_or_else(|| panic!("{key} of {sample:?} is not in the table")).values {
            Values::Fixed(fixed) => assert_eq!(value, fixed, "{sample:?}"),
            Values::Closed(known) => assert!(known.contains(&value.as_str()) || value == "_OTHER", "{sample:?}"),
            Values::InCode => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_server_shows_what_the_table_has_and_tells_a_collector_the_same() {
    let collector = Collector::default();
    let server = server(collector.start().await).await;
    server.load().await;
    server.scrape().await;
    let samples = samples(&server.scrape().await);
    for sample in &samples {
        check_labels(sample, row(sample));
    }
    for name in MOVED {
        let moved = samples.iter().any(|sample| row(sample).name == *name && sample.value > 0.0);
        assert!(moved, "{name} did not move");
    }
    let folded = samples.iter().filter(|sample| sample.name == "amalfa_telemetry_label_overflows_total");
    assert!(folded.clone().all(|sample| sample.value == 0.0), "{:?}", folded.collect::<Vec<_>>());
    let scraped = server.end().await;
    let pushed = collector.sums();
    assert!(scraped.len() > 100, "{scraped:?}");
    for (series, value) in scraped {
        assert_eq!(pushed.get(&series), Some(&value), "{series:?}");
    }
}

fn amalfa(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_amalfa")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_document_is_what_the_command_prints() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let printed = amalfa(&["metrics", "--markdown"]);
    assert!(document == printed, "run: amalfa metrics --markdown > docs/metrics.md");
}

#[test]
fn programs_can_read_the_table() {
    let metrics: serde_json::Value = serde_json::from_str(&amalfa(&["metrics", "--json"])).unwrap();
    let metrics = metrics.as_array().unwrap();
    assert_eq!(metrics.len(), metrics::ALL.len());
    let stages = metrics.iter().find(|metric| metric["name"] == "amalfa_stage_duration_seconds").unwrap();
    assert_eq!(stages["otel_name"], "amalfa.stage.duration");
    assert!(stages["buckets"].as_array().unwrap().len() > 5);
    assert!(stages["labels"][0]["values"].as_array().unwrap().contains(&"embed".into()));
}
