//! The whole service over gRPC, as a process of its own: what clients see of the engine, and what it costs the server.
//!
//! Queries are vectors, so that the model does not matter (the test double stands in for it); hits carry no texts.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use amalfa::api::proto::search_request::Query;
use amalfa::api::proto::search_service_client::SearchServiceClient;
use amalfa::api::proto::{self, SearchRequest};
use amalfa::app::App;
use amalfa::config::Config;
use amalfa::domain::{Chunk, Document, DocumentId, Vector};
use amalfa::model::Model;
use amalfa::store::{PreparedDocument, Store, Write as Step};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::measure::{LIMIT, percentile};
use crate::peers::Failure;
use crate::vectors::{Vectors, recall};

/// What clients saw.
#[derive(Debug, Serialize)]
pub struct Grpc {
    /// A health check, which does nothing: what the way there and back takes.
    pub empty_call_p50_ms: f64,
    pub client_1_p50_ms: f64,
    pub client_1_p99_ms: f64,
    pub client_1_per_s: f64,
    pub clients_8_per_s: f64,
    pub clients_8_p99_ms: f64,
    /// User and system time of the server's process, with 8 clients.
    pub server_cpu_ms_per_query: f64,
    pub recall_at_10: f64,
}

impl Grpc {
    pub fn write(&self, page: &mut String) {
        let _ = writeln!(
            page,
            "- Over gRPC, vector queries, hits without texts, server and clients on the same cores: 1 client p50 {:.2} ms \
             (of a call that does nothing: {:.2} ms), p99 {:.2} ms, {:.0} queries/s; 8 clients {:.0} queries/s, p99 \
             {:.2} ms, {:.2} ms of server CPU a query; recall@10 {:.4}.\n",
            self.client_1_p50_ms,
            self.empty_call_p50_ms,
            self.client_1_p99_ms,
            self.client_1_per_s,
            self.clients_8_per_s,
            self.clients_8_p99_ms,
            self.server_cpu_ms_per_query,
            self.recall_at_10,
        );
    }
}

/// Runs the server on a database until standard input ends; prints its address.
pub fn serve(database: &Path, dimension: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let metrics = amalfa::telemetry::init(&Config::default().telemetry)?;
    runtime.block_on(async {
        let app = App::with_model(config(database), Model::arithmetic(dimension), metrics.metrics()).await?;
        println!("{}", app.grpc_address());
        std::io::stdout().flush()?;
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            stop.cancel();
        });
        Ok(app.run(shutdown).await?)
    })
}

/// Returns settings for this database, with free ports.
pub fn config(database: &Path) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config::default();
    config.grpc.address = any;
    config.admin.address = any;
    config.store.path = database.into();
    config
}

/// Measures the service over this database: one client and eight in turns.
pub fn measure(database: &Path, dimension: usize, queries: &Vectors, truth: &[Vec<u64>]) -> Result<Grpc, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let server = Server::start(database, dimension)?;
    let requests: Arc<Vec<SearchRequest>> = Arc::new(queries.rows().map(request).collect());
    let found = runtime.block_on(ids(&server.address, &requests))?;
    let (mut one, mut eight) = (Vec::new(), Vec::new());
    for round in 0..5 {
        one.push(runtime.block_on(load(&server, &requests, 1))?);
        eight.push(runtime.block_on(load(&server, &requests, 8))?);
        eprintln!("grpc round {} of 5", round + 1);
    }
    let median = |of: &dyn Fn(&Loaded) -> f64, rounds: &[Loaded]| {
        percentile(&mut rounds.iter().map(of).collect::<Vec<_>>(), 0.5)
    };
    Ok(Grpc {
        empty_call_p50_ms: runtime.block_on(empty_calls(&server.address))?,
        client_1_p50_ms: median(&|l| l.p50_ms, &one),
        client_1_p99_ms: median(&|l| l.p99_ms, &one),
        client_1_per_s: median(&|l| l.per_s, &one),
        clients_8_per_s: median(&|l| l.per_s, &eight),
        clients_8_p99_ms: median(&|l| l.p99_ms, &eight),
        server_cpu_ms_per_query: median(&|l| l.cpu_ms_per_query, &eight),
        recall_at_10: recall(&found, truth),
    })
}

/// Writes each vector as a document of one short passage.
pub fn fill(database: &Path, vectors: &Vectors) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(write(database, vectors))
}

async fn write(database: &Path, vectors: &Vectors) -> Result<(), Failure> {
    let store = Store::open(&config(database).store)?;
    store.set_model_identity(Model::arithmetic(vectors.dimension).identity().clone()).await?;
    let text = "the quick brown fox jumps over the lazy dog ".repeat(3);
    for (batch, rows) in vectors.values.chunks(5_000 * vectors.dimension).enumerate() {
        let rows = (batch * 5_000..).zip(rows.chunks_exact(vectors.dimension));
        let steps = rows.map(|(at, row)| step(at, row, &text)).collect::<Result<_, Failure>>()?;
        store.write(steps).await?;
    }
    Ok(store.close()?)
}

fn step(at: usize, row: &[f32], text: &str) -> Result<Step, Failure> {
    let chunk = Chunk {
        ordinal: 0,
        heading_path: Vec::new(),
        text: text.into(),
        overlap: 0,
        tokens: 30,
        vector: Vector::normalise("vector", row.to_vec())?,
        token_codes: None,
    };
    let document = Document {
        id: DocumentId::parse("id", at.to_string())?,
        source: at.to_string(),
        title: String::new(),
        text: String::new(),
        date: None,
        kind: None,
        domain: None,
        metadata: serde_json::Map::new(),
    };
    let prepared =
        PreparedDocument { document, content_hash: at.to_string(), chunks: vec![chunk], references: Vec::new() };
    Ok(Step::Put(Box::new(prepared)))
}

fn request(query: &[f32]) -> SearchRequest {
    SearchRequest {
        query: Some(Query::Vector(proto::Vector { values: query.to_vec() })),
        limit: Some(LIMIT as u32),
        include_snippet: Some(false),
        ..SearchRequest::default()
    }
}

/// A server process; it ends when dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(database: &Path, dimension: usize) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--dimension", &dimension.to_string(), "--serve"])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut address)?;
        Ok(Self { process, address: format!("http://{}", address.trim()) })
    }

    /// Returns the milliseconds of processor time used so far.
    fn cpu_ms(&self) -> Result<f64, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        // User and system time, in the hundredths of a second that Linux counts in.
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) * 10.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

struct Loaded {
    p50_ms: f64,
    p99_ms: f64,
    per_s: f64,
    cpu_ms_per_query: f64,
}

/// Searches from `clients` connections without a pause for two seconds.
async fn load(server: &Server, requests: &Arc<Vec<SearchRequest>>, clients: usize) -> Result<Loaded, Failure> {
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(SearchServiceClient::connect(server.address.clone()).await?);
    }
    let cpu_before = server.cpu_ms()?;
    let started = Instant::now();
    let tasks: Vec<_> =
        (0..).zip(connected).map(|(at, c)| tokio::spawn(client(c, at * 61, Arc::clone(requests)))).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let queries = times.len() as f64;
    Ok(Loaded {
        cpu_ms_per_query: (server.cpu_ms()? - cpu_before) / queries,
        per_s: queries / elapsed,
        p50_ms: percentile(&mut times, 0.5),
        p99_ms: percentile(&mut times, 0.99),
    })
}

async fn client(
    mut client: SearchServiceClient<Channel>,
    from: usize,
    requests: Arc<Vec<SearchRequest>>,
) -> Result<Vec<f64>, Failure> {
    let (started, mut times) = (Instant::now(), Vec::new());
    for request in requests.iter().cycle().skip(from) {
        if started.elapsed() > Duration::from_secs(2) {
            break;
        }
        let began = Instant::now();
        client.search(request.clone()).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

async fn empty_calls(address: &str) -> Result<f64, Failure> {
    let client = amalfa::api::Client::connect(address).await?;
    let mut times = Vec::new();
    for _ in 0..500 {
        let began = Instant::now();
        client.serving().await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(percentile(&mut times, 0.5))
}

async fn ids(address: &str, requests: &[SearchRequest]) -> Result<Vec<Vec<u64>>, Failure> {
    let mut client = SearchServiceClient::connect(address.to_owned()).await?;
    let mut found = Vec::new();
    for request in requests {
        let hits = client.search(request.clone()).await?.into_inner().hits;
        found.push(hits.iter().map(|hit| Ok(hit.id.parse()?)).collect::<Result<_, Failure>>()?);
    }
    Ok(found)
}
